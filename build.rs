//! Links against the libtorch of the Python environment, which should be one that the manifest is for.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

const ASK: &str = "import torch, pathlib; \
print(torch.__version__.split('+')[0]); print(pathlib.Path(torch.__file__).parent)";

fn main() {
    // Manifests in other folders share this file.
    println!("cargo:rerun-if-changed={}", file!());
    println!("cargo:rerun-if-env-changed=LIBTORCH_USE_PYTORCH");
    println!("cargo:rerun-if-env-changed=VIRTUAL_ENV");
    let (version, folder) = torch();
    println!("cargo:rerun-if-changed={}", folder.join("version.py").display());
    let manifest = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where")).join("Cargo.toml");
    let expected = expected(&manifest);
    if series(&version) != series(&expected) {
        println!(
            "cargo::error={} is for torch {}; the environment holds torch {version} (other manifests: torch-*/Cargo.toml)",
            manifest.display(),
            series(&expected),
        );
        exit(1);
    }
    println!("cargo:rustc-env=POLYTASK_TORCH={version}");
    // Test binaries load libtorch themselves; the extension finds it in the process after `import torch`,
    // and must not carry a path of the machine that built it.
    if env::var_os("CARGO_FEATURE_PYTHON").is_none() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.join("lib").display());
    }
}

/// The version and the folder of the environment's torch.
fn torch() -> (String, PathBuf) {
    let python = env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".into());
    let answer = Command::new(&python).args(["-c", ASK]).output();
    let text = match answer {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => panic!("`{python}` cannot import torch: activate the environment that holds it (see the Makefile)"),
    };
    let mut lines = text.lines();
    let version = lines.next().expect("torch prints its version").to_owned();
    let folder = PathBuf::from(lines.next().expect("torch has a folder"));
    (version, folder)
}

/// The torch that a manifest names: the one its `tch` is for.
fn expected(manifest: &Path) -> String {
    let text = fs::read_to_string(manifest).expect("cargo has read the manifest");
    let named = text.lines().find_map(|line| line.strip_prefix("torch = "));
    named.expect("the manifest names its torch").trim_matches('"').to_owned()
}

/// The minor version of a torch, `2.13` of `2.13.0`: what a `tch` is for.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}
