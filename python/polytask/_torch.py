"""Loads the compiled core that fits the installed torch."""

import re
import sys
from importlib import util
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch

NAME = f"{__package__}._core"
FOLDER = Path(__file__).parent


def core() -> ModuleType:
    """The extension module; torch is imported first, so that the process has one libtorch.

    A wheel holds an extension for each minor version of torch, `_core_torch213.abi3.so`. One of the plain name was
    built in place, and comes first.

    Raises:
        ImportError: there is no extension for the installed torch; says in one line for which ones there is.
    """
    spec = util.find_spec(NAME) or _fitting()
    if spec is None:
        raise ImportError(f"polytask needs torch {_supported()}, found torch {torch.__version__}")
    try:
        module = _loaded(spec)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ImportError(f"{spec.origin} was built for another torch than {torch.__version__} ({reason})") from None
    if _series(module.torch_version) != _series(torch.__version__):
        raise ImportError(f"{spec.origin} was built for torch {module.torch_version}, found torch {torch.__version__}")
    return module


def _fitting() -> ModuleSpec | None:
    path = FOLDER / f"_core_torch{''.join(_series(torch.__version__))}.abi3.so"
    return util.spec_from_file_location(NAME, path) if path.exists() else None


def _loaded(spec: ModuleSpec) -> ModuleType:
    assert spec.loader is not None, "it is found as a file"
    module = sys.modules[NAME] = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError:
        del sys.modules[NAME]
        raise
    return module


def _supported() -> str:
    named = (re.fullmatch(r"_core_torch(\d)(\d+)\.abi3", path.stem) for path in FOLDER.glob("_core_torch*.so"))
    series = sorted((int(found[1]), int(found[2])) for found in named if found)
    return " or ".join(f"{major}.{minor}" for major, minor in series) or "and an extension for it"


def _series(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])
