"""Runs tests and scripts beside libraries that the suite does without, each in an environment of its own."""

import argparse
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: What is installed for each library, and the natural scripts that want it.
LIBRARIES = {
    "datasets": (["datasets"], ["pytorch/30_huggingface_like"]),
    "lightning": (["lightning"], []),
    "mlflow": (["mlflow"], []),
    "optuna": (["optuna"], ["pytorch/44_optuna_pruning"]),
    "tensorboard": (["tensorboard"], ["pytorch/41_tensorboard_callback"]),
    "tokenizers": (["tokenizers"], []),
    "torchdata": (["torchdata"], []),
    "transformers": (["transformers", "accelerate"], []),
    "wandb": (["wandb", "mlflow"], ["pytorch/43_wandb_and_mlflow"]),
}


def environment(folder: Path, packages: list[str]) -> Path:
    """The interpreter of an environment that has these packages and whatever this one has."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    place = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    Path(place, "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the environments are")
    parser.add_argument("libraries", nargs="*", help=f"of {', '.join(LIBRARIES)}; default all")
    arguments = parser.parse_args()
    names = arguments.libraries or list(LIBRARIES)
    if unknown := [name for name in names if name not in LIBRARIES]:
        raise SystemExit(f"run.py: no library {unknown[0]!r}; there are {', '.join(LIBRARIES)}")
    failed = []
    for name in names:
        packages, scripts = LIBRARIES[name]
        print(f"--- {name}", flush=True)
        python = environment(arguments.folder.resolve() / name, packages)
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "python")}
        # note: what other libraries warn of is not ours to mend.
        test = [python, "-m", "pytest", "-q", "-W", "default", str(HERE / f"test_{name}.py")]
        failed += [name] if subprocess.run(test, env=settings, cwd=ROOT).returncode else []
        if scripts:
            natural = [python, str(ROOT / "tests" / "natural" / "run.py"), *scripts]
            ran = subprocess.run(natural, env=settings, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
            print(ran)
            failed += [f"{name}: {script}" for script in scripts if f"{script}.py: works" not in ran]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
