//! Links against the libtorch of the Python environment and records which torch that is.

use std::path::PathBuf;
use std::process::Command;

const ASK: &str = "import torch, pathlib; \
print(torch.__version__.split('+')[0]); print(pathlib.Path(torch.__file__).parent / 'lib')";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH_USE_PYTORCH");
    println!("cargo:rerun-if-env-changed=VIRTUAL_ENV");
    let (version, folder) = torch();
    println!("cargo:rustc-env=POLYTASK_TORCH={version}");
    // Test binaries load libtorch themselves; the extension finds it in the process after `import torch`,
    // and must not carry a path of the machine that built it.
    if std::env::var_os("CARGO_FEATURE_PYTHON").is_none() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}

fn torch() -> (String, PathBuf) {
    let python = std::env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".into());
    let answer = Command::new(&python).args(["-c", ASK]).output();
    let text = match answer {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => panic!("`{python}` cannot import torch: activate the environment that holds it (see the Makefile)"),
    };
    let mut lines = text.lines();
    let version = lines.next().expect("torch prints its version").to_owned();
    let folder = PathBuf::from(lines.next().expect("torch has a lib folder"));
    (version, folder)
}
