"""Loads the compiled core next to the torch it was built against."""

from importlib import import_module, metadata
from types import ModuleType

import torch


def core() -> ModuleType:
    """The extension module; torch is imported first, so that the process has one libtorch.

    Raises:
        ImportError: another torch is installed; says in one line which one is needed.
    """
    try:
        module = import_module(f"{__package__}._core")
    except ImportError as error:
        raise ImportError(f"{_sentence(_requirement())} ({str(error).splitlines()[0]})") from None
    if _series(module.torch_version) != _series(torch.__version__):
        raise ImportError(_sentence(f"torch {'.'.join(_series(module.torch_version))}"))
    return module


def _sentence(needed: str) -> str:
    return f"polytask needs {needed}, found torch {torch.__version__}"


def _series(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def _requirement() -> str:
    try:
        requirements = metadata.requires("polytask") or []
    except metadata.PackageNotFoundError:
        requirements = []
    return next((line for line in requirements if line.startswith(("torch>", "torch="))), "its torch")
