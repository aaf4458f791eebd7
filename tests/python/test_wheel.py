"""A wheel, built and installed next to torch as pip does it, trains there; wheels of several torches become one."""

import shutil
import sys
import zipfile
from pathlib import Path

import polytask as pt
import pytest
import tomllib
import torch
from beside import install, run
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "wheels"))

import torches  # noqa: E402

TRAIN = """
import numpy as np, polytask as pt
x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
model = pt.MultiTaskModel(input_size=4, hidden_size=8, output_sizes=[2, 2])
history = pt.Trainer(model, lr=0.01).fit((x, x[:, 0] > 0, x[:, 1] > 0), epochs=20, progress=False)
assert history["loss"][-1] < 0.8 * history["loss"][0], history["loss"]
print(pt._core.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index",
        "--wheel-dir", folder, ROOT)  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def at_hand() -> torches.Minor:
    return torches.minor(torch.__version__)


def extension(minor: torches.Minor) -> str:
    return f"_core_torch{minor[0]}{minor[1]}.abi3.so"


def test_it_trains_next_to_torch_which_pip_leaves_as_it_was(wheel, tmp_path):
    python = install(wheel, tmp_path / "clean", "--no-index")
    found = Path(run(python, "-c", TRAIN, OMP_NUM_THREADS="1").strip())
    assert found.is_relative_to(tmp_path / "clean")
    assert found.name == extension(at_hand())


def test_the_extension_is_small_and_carries_no_path_of_this_machine(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [entry for entry in archive.infolist() if entry.filename.endswith(".so")]
        archive.extract(entry, tmp_path)
        assert not any("datasets/data" in name or name.endswith(".csv") for name in archive.namelist())
    assert entry.filename == f"polytask/{extension(at_hand())}"
    assert entry.compress_size < 5 << 20
    dynamic = run("readelf", "-d", tmp_path / entry.filename)
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    needed = {line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "NEEDED" in line}
    assert {"libtorch_cpu.so", "libc10.so"} <= needed
    system = ("libc.so", "libm.so", "libgcc_s.so", "libstdc++.so", "ld-linux", "libdl.so", "libpthread.so", "librt.so")
    assert all(each.startswith(system) for each in needed - {"libtorch_cpu.so", "libc10.so"}), needed


def test_a_wheel_asks_for_the_torches_that_it_has_extensions_for(wheel, tmp_path):
    other = (at_hand()[0], at_hand()[1] + 2)
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / wheel.name
    with zipfile.ZipFile(second, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace(extension(at_hand()), extension(other)), content)
    joined = torches.join([wheel, second], tmp_path / "joined")
    with zipfile.ZipFile(joined) as archive:
        extensions = [name for name in archive.namelist() if name.endswith(".so")]
    assert sorted(extensions) == sorted(f"polytask/{extension(each)}" for each in (at_hand(), other))
    assert len(set(archive.namelist())) == len(archive.namelist()) == len(files) + 1
    for path, minors in ((wheel, [at_hand()]), (joined, [other, at_hand()])):
        with zipfile.ZipFile(path) as archive:
            (metadata,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")]
        assert f"\nRequires-Dist: {torches.requirement(minors)}\n" in metadata
    # pip compares each file with the record.
    python = install(joined, tmp_path / "clean", "--no-index")
    assert Path(run(python, "-c", TRAIN, OMP_NUM_THREADS="1").strip()).name == extension(at_hand())
    checked = run(python, "-c", "from importlib import metadata; print(*metadata.files('polytask'), sep='\\n')")
    assert {f"polytask/{extension(at_hand())}", f"polytask/{extension(other)}"} <= set(checked.split())


def test_wheels_of_different_packages_do_not_become_one(tmp_path):
    for name, content in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        with zipfile.ZipFile(tmp_path / name / "polytask.whl", "w") as archive:
            archive.writestr("polytask/__init__.py", content)
    both = [tmp_path / name / "polytask.whl" for name in "ab"]
    with pytest.raises(SystemExit, match=r"should hold the same package as the others; polytask/__init__\.py differs"):
        torches.join(both, tmp_path)
    shutil.move(both[1], both[1].with_name("other.whl"))
    with pytest.raises(SystemExit, match=r"one name; got \['other\.whl', 'polytask\.whl'\]"):
        torches.join([both[0], both[1].with_name("other.whl")], tmp_path)


def test_the_requirement_is_of_these_minor_versions_and_no_other():
    asked = SpecifierSet(torches.requirement([(2, 13), (2, 11)]).removeprefix("torch"))
    taken = ["2.11.0", "2.11.1", "2.11.0+cu130", "2.13.0+cpu", "2.13.2"]
    refused = ["2.10.1", "2.11.0rc1", "2.12.0", "2.12.1+cu130", "2.14.0", "2.14.0.dev20260901", "3.0"]
    assert [version for version in taken + refused if asked.contains(version)] == taken
    assert torches.requirement([(2, 13)]) == "torch>=2.13,<2.14"
    with pytest.raises(SystemExit, match="one range"):
        torches.requirement([(2, 13), (3, 0)])


def test_the_torches_of_pyproject_are_those_of_the_manifests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [each for each in project["dependencies"] if each.startswith("torch>")] == [
        torches.requirement(torches.manifests())
    ]
    built = torches.manifests()[torches.minor(pt._core.torch_version)]
    assert f'\ntorch = "{pt._core.torch_version}"\n' in built.read_text(encoding="utf-8")


def test_manifests_of_other_torches_say_the_same():
    main, *others = torches.manifests().values()
    assert main == ROOT / "Cargo.toml"
    expected = tomllib.loads(main.read_text(encoding="utf-8"))
    expected["package"].pop("include")
    expected["test"] = [{"name": path.stem, "path": f"tests/{path.name}"} for path in sorted(ROOT.glob("tests/*.rs"))]
    expected["lib"]["path"] = "src/lib.rs"
    expected["package"]["build"] = "build.rs"
    for manifest in others:
        said = tomllib.loads(manifest.read_text(encoding="utf-8"))
        assert said["package"].pop("publish") is False
        for place in (said["package"], said["lib"], *said["test"], *said["example"]):
            for key in {"readme", "build", "path"} & place.keys():
                assert place[key].startswith("../")
                place[key] = place[key].removeprefix("../")
        for both in (said, expected):
            both["package"].pop("metadata", None)
            both["dependencies"]["tch"] = {**both["dependencies"]["tch"], "version": "its own"}
        assert said == expected

        locks = [tomllib.loads(path.with_suffix(".lock").read_text(encoding="utf-8")) for path in (main, manifest)]
        one, other = (
            {(each["name"], each["version"]) for each in lock["package"] if each["name"] not in ("tch", "torch-sys")}
            for lock in locks
        )
        assert one == other
