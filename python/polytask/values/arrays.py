"""NumPy arrays, torch tensors and anything that can become one, without a copy where that is possible."""

from typing import Any, NoReturn

import numpy as np
import torch

from . import frames

#: Types that the core reads as they are.
_READ = {np.dtype(name) for name in ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}


def to_numpy(value: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The array, and where it is masked (`None`: nowhere); numbers come as the core reads them.

    Raises:
        TypeError: no array, or no numbers in it.
        ValueError: rows of different lengths.
    """
    array, mask = unwrap(value, name)
    return numeric(array, name), mask


def numeric(array: np.ndarray, name: str) -> np.ndarray:
    """An array of numbers as the core reads it.

    Raises:
        TypeError: no numbers in it.
    """
    if array.dtype.kind in "OSUTMmcV" and not _is_brain_float(array):
        refuse(array, name)
    return readable(array)


def single(value: Any, name: str) -> np.ndarray:
    """The array in single precision; what is too large for it becomes infinite."""
    with np.errstate(over="ignore"):
        return to_numpy(value, name)[0].astype(np.float32, copy=False)


def unwrap(value: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The array of any type, and its mask."""
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value) if np.ma.getmask(value) is not np.ma.nomask else None
        return np.asarray(value.data), mask
    if isinstance(value, torch.Tensor):
        return _tensor(value, name), None
    if frames.is_series(value):
        return frames.values(value), None
    return _array(value, name), None


def readable(array: np.ndarray) -> np.ndarray:
    """The array itself if the core reads its type, else a copy of the nearest one."""
    if array.dtype in _READ and array.dtype.isnative:
        return array
    if array.dtype.kind in "iu":
        return array.astype(array.dtype.newbyteorder("="))
    return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)


def refuse(array: np.ndarray, name: str) -> NoReturn:
    """Says which value of an array of the wrong type came first."""
    if array.dtype.kind == "O":
        place, value = first_wrong(array)
        raise TypeError(f"{name} should hold numbers; got dtype object, with {value!r} at {place}")
    raise TypeError(f"{name} should hold numbers; got dtype {array.dtype}{_example(array)}")


def first_wrong(array: np.ndarray) -> tuple[str, Any]:
    """The first value of an object array that is no number, or the first of all."""
    if array.size == 0:
        return "no row", None
    number = (bool, int, float, np.number, np.bool_)
    wrong = (index for index, value in np.ndenumerate(array) if not isinstance(value, number))
    index = next(wrong, (0,) * array.ndim)
    return place(index), array[index]


def place(index: tuple[int, ...]) -> str:
    """Where an element stands, in words."""
    names = ["row", "column", "depth"]
    return ", ".join(f"{names[min(axis, 2)]} {i}" for axis, i in enumerate(index)) or "its only element"


def _example(array: np.ndarray) -> str:
    if array.size == 0 or array.dtype.kind == "V":
        return ""
    return f", for instance {array.reshape(-1)[0]!r}"


def _is_brain_float(array: np.ndarray) -> bool:
    return array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _tensor(tensor: torch.Tensor, name: str) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise TypeError(f"{name} should be a dense tensor; got {tensor.layout} on {tensor.device}")
    if tensor.is_complex():
        raise TypeError(f"{name} should hold numbers that are real; got {tensor.dtype}")
    tensor = tensor.detach().cpu().resolve_neg()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.numpy()


def _array(value: Any, name: str) -> np.ndarray:
    if value is None or isinstance(value, str | bytes | dict | set | frozenset) or callable(value):
        raise TypeError(f"{name} should be an array of numbers; got {_kind(value)}")
    try:
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
        # Beside strings NumPy makes one of whatever else is in a list, NaN included.
        return np.array(value, dtype=object) if isinstance(value, list | tuple) and array.dtype.kind == "U" else array
    except (ValueError, TypeError, RuntimeError, BufferError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = _differ(value) or f" ({reason})"
        raise ValueError(f"{name} should be an array of numbers; got {_kind(value)}{reason}") from None


def shape(value: Any) -> list[int] | None:
    """The shape that it has as an array; none of what is uneven."""
    try:
        return list(np.shape(value))
    except ValueError:
        return None


def _differ(value: Any) -> str:
    """Which rows of a list have shapes that differ, in words; nothing where none have."""
    shapes = [shape(row) for row in value] if isinstance(value, list | tuple) else []
    if None in shapes:
        return f" with rows of lists of different lengths, such as row {shapes.index(None)}"
    other = next((at for at, each in enumerate(shapes) if each != shapes[0]), None)
    if other is None:
        return ""
    return f" with rows of different shapes, {shapes[0]} at row 0 and {shapes[other]} at row {other}"


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__
