"""A wheel, built and installed into a second, clean environment, trains there."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import polytask as pt
import pytest

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import numpy as np, polytask as pt
x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
model = pt.MultiTaskModel(input_size=4, hidden_size=8, output_sizes=[2, 2])
history = pt.Trainer(model, lr=0.01).fit((x, x[:, 0] > 0, x[:, 1] > 0), epochs=20, progress=False)
assert history["loss"][-1] < 0.8 * history["loss"][0], history["loss"]
print(pt.__file__)
"""


def run(*command: object, **more: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | more
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    prefix = Path(sys.prefix)
    more = {"VIRTUAL_ENV": str(prefix), "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}", "LIBTORCH_USE_PYTORCH": "1"}
    run(prefix / "bin" / "maturin", "build", "--release", "--quiet", "--out", folder, **more)
    (built,) = folder.glob("*.whl")
    return built


def test_it_trains_in_a_clean_environment(wheel, tmp_path):
    venv.create(tmp_path / "clean", with_pip=False)
    python = tmp_path / "clean" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # torch and the rest are gigabytes: lent by this environment, whose own polytask a plain path does not show.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    found = run(python, "-c", TRAIN, OMP_NUM_THREADS="1").strip()
    assert Path(found).is_relative_to(tmp_path / "clean")


def test_the_extension_is_small_and_carries_no_path_of_this_machine(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        archive.extract(name, tmp_path)
        assert not any("datasets/data" in name or name.endswith(".csv") for name in archive.namelist())
    assert wheel.stat().st_size < 5 << 20
    dynamic = run("readelf", "-d", tmp_path / name)
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    needed = {line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "NEEDED" in line}
    assert {"libtorch_cpu.so", "libc10.so"} <= needed
    system = ("libc.so", "libm.so", "libgcc_s.so", "libstdc++.so", "ld-linux", "libdl.so", "libpthread.so", "librt.so")
    assert all(each.startswith(system) for each in needed - {"libtorch_cpu.so", "libc10.so"}), needed


def test_the_torch_of_pyproject_is_the_torch_of_the_build():
    project = (ROOT / "pyproject.toml").read_text()
    major, minor = map(int, pt._core.torch_version.split(".")[:2])
    assert f'dependencies = ["torch>={major}.{minor},<{major}.{minor + 1}",' in project
    assert f"TORCH := torch=={pt._core.torch_version}\n" in (ROOT / "Makefile").read_text()
