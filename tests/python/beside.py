"""Installs a wheel next to the torch of this Python: `python tests/python/beside.py FOLDER WHEEL`.

It comes into an environment of its own that lends the packages of this one, so that torch is not downloaded again, and
pip finds it as it finds any other.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

TORCH = "import torch, pathlib; print(torch.__version__, pathlib.Path(torch.__file__).parent)"


def install(wheel: Path, folder: Path, *options: str) -> Path:
    """The Python of a new environment in which pip has installed that wheel, and left torch as it was."""
    venv.create(folder, clear=True, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "lent.pth").write_text(str(lent(folder.with_name(f"{folder.name}-lent"))))
    before = run(python, "-c", TORCH)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *options, wheel)
    after = run(python, "-c", TORCH)
    if after != before:
        raise SystemExit(f"pip should leave torch {before.strip()} as it is; now it is {after.strip()}")
    return python


def lent(folder: Path) -> Path:
    """A folder that shows the packages of this Python, but for a polytask that may be among them.

    It lies outside of the environment that reads it, so that pip removes nothing here.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # This Python may itself be one that was lent packages.
    sites = [Path(path) for path in sys.path if path.endswith(("site-packages", "-lent"))]
    for entry in (entry for site in reversed(sites) for entry in site.iterdir()):
        if not entry.name.startswith("polytask"):
            link = folder / entry.name
            link.unlink(missing_ok=True)
            link.symlink_to(entry.resolve())
    return folder


def run(*command: object, **more: str) -> str:
    """What a command prints, in an environment that is not this one's."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | more
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    python = install(Path(sys.argv[2]).resolve(), Path(sys.argv[1]).resolve())
    loaded = run(python, "-c", "import torch, polytask; print(torch.__version__, polytask._core.__file__)")
    print(f"torch, as it was, and the extension: {loaded.strip()}")
