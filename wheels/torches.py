"""Wheels with an extension for each torch; what pip calls to build one for the torch at hand (PEP 517)."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "join",
    "manifests",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
    "requirement",
]

ROOT = Path(__file__).resolve().parents[1]

#: A minor version of torch: `(2, 13)`. An extension fits one.
Minor = tuple[int, int]


def manifests() -> dict[Minor, Path]:
    """The manifest for each torch, as each names its own."""
    found = {}
    for path in (ROOT / "Cargo.toml", *sorted(ROOT.glob("torch-*/Cargo.toml"))):
        named = re.search(r'^torch = "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
        if named is None:
            raise SystemExit(f"{path} should name its torch")
        found[minor(named[1])] = path
    return found


def minor(version: str) -> Minor:
    """The minor version of a torch."""
    first, second = version.split(".")[:2]
    return int(first), int(second)


def requirement(minors: Iterable[Minor]) -> str:
    """What asks for these minor versions of torch and no other, as PEP 440 says it."""
    first, *_ = [*between, last] = sorted(minors)
    holes = [f"!={last[0]}.{each}.*" for each in range(first[1], last[1]) if (last[0], each) not in between]
    if first[0] != last[0]:
        raise SystemExit(f"torch {first[0]} and {last[0]} cannot be asked for in one range")
    return ",".join([f"torch>={_dotted(first)}", *holes, f"<{last[0]}.{last[1] + 1}"])


def build_wheel(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """A wheel with an extension for the torch at hand."""
    at_hand = _at_hand()
    # The metadata that were prepared are those of this wheel: maturin's are as good, and `_write` asks for this torch.
    name = maturin.build_wheel(wheel_directory, _for(at_hand, config_settings))
    wheel = Path(wheel_directory) / name
    _write({_named(file, at_hand): content for file, content in _read(wheel).items()}, wheel)
    return name


def build_editable(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """A wheel that points here, where an extension for the torch at hand lies afterwards, by its plain name."""
    return maturin.build_editable(wheel_directory, _for(_at_hand(), config_settings))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """The metadata of that wheel."""
    at_hand = _at_hand()
    name = maturin.prepare_metadata_for_build_wheel(metadata_directory, _for(at_hand, config_settings))
    file = Path(metadata_directory) / name / "METADATA"
    file.write_bytes(_asking(file.read_bytes(), [at_hand]))
    return name


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: Mapping[str, Any] | None = None
) -> str:
    """The metadata of an editable installation."""
    return maturin.prepare_metadata_for_build_editable(metadata_directory, _for(_at_hand(), config_settings))


def join(wheels: Iterable[Path], folder: Path) -> Path:
    """One wheel of several that hold the same package and an extension each."""
    wheels = list(wheels)
    names = sorted({wheel.name for wheel in wheels})
    if len(names) != 1:
        raise SystemExit(f"wheels to join should have one name; got {names}")
    files: dict[str, bytes] = {}
    for wheel in wheels:
        for name, content in _read(wheel).items():
            if files.setdefault(name, content) != content and not name.endswith(("/METADATA", "/RECORD")):
                raise SystemExit(f"{wheel} should hold the same package as the others; {name} differs")
    folder.mkdir(parents=True, exist_ok=True)
    joined = folder / names[0]
    _write(files, joined)
    return joined


def _at_hand() -> Minor:
    """The torch of the Python that runs this; cargo and what it builds are told to take the same."""
    known = manifests()
    supported = " or ".join(_dotted(each) for each in sorted(known))
    try:
        found = metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise SystemExit(
            f"building Polytask needs torch {supported} in the environment, and `--no-build-isolation`; found none"
        ) from None
    if minor(found) not in known:
        raise SystemExit(f"building Polytask needs torch {supported} in the environment; found torch {found}")
    os.environ["LIBTORCH_USE_PYTORCH"] = "1"
    os.environ["PYO3_PYTHON"] = sys.executable
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if sys.prefix != sys.base_prefix:
        os.environ["VIRTUAL_ENV"] = sys.prefix
    return minor(found)


def _for(at_hand: Minor, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of a build by the manifest of that torch."""
    arguments = [*maturin.get_maturin_pep517_args(settings), "--manifest-path", str(manifests()[at_hand])]
    return {**(settings or {}), "maturin.build-args": arguments}


def _named(file: str, at_hand: Minor) -> str:
    """The name of a file that differs between the wheels of different torches."""
    torch = f"torch{at_hand[0]}{at_hand[1]}"
    file = re.sub(r"^polytask/_core\.(.+\.so)$", rf"polytask/_core_{torch}.\1", file)
    return re.sub(r"/sboms/polytask\.", f"/sboms/polytask-{torch}.", file)


def _read(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(files: Mapping[str, bytes], wheel: Path) -> None:
    """A wheel of files, which asks for the torches that it has extensions for."""
    minors = [(int(found[1]), int(found[2])) for name in files if (found := re.search(r"_core_torch(\d)(\d+)\.", name))]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:

        def put(name: str, content: bytes) -> str:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            return f"{name},sha256={digest},{len(content)}\n"

        lines = []
        record = next(name for name in files if name.endswith(".dist-info/RECORD"))
        for name, content in files.items():
            if name != record:
                lines.append(put(name, _asking(content, minors) if name.endswith(".dist-info/METADATA") else content))
        put(record, "".join([*lines, f"{record},,\n"]).encode())


def _asking(text: bytes, minors: Iterable[Minor]) -> bytes:
    """Metadata that ask for these torches."""
    asked = f"Requires-Dist: {requirement(minors)}".encode()
    changed, count = re.subn(rb"^Requires-Dist: torch[^\w-].*$", asked, text, flags=re.MULTILINE)
    if count != 1:
        raise SystemExit("the metadata should ask for torch once")
    return changed


def _dotted(each: Minor) -> str:
    return f"{each[0]}.{each[1]}"


if __name__ == "__main__":
    print(join(map(Path, sys.argv[2:]), Path(sys.argv[1])))
