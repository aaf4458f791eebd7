"""State of other people's code (`state_dict`) as text and bytes, which files keep without running anything."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

#: Kinds of dtypes of NumPy that bytes say all of.
_KINDS = "biufc"
_PLAIN = (type(None), bool, int, float, str)


def pack(value: Any, called: str) -> tuple[Any, list[np.ndarray]]:
    """What JSON has of it, and the bytes of its tensors and arrays.

    Raises:
        TypeError: something else than numbers, strings, lists, tuples, dicts, tensors and arrays; says where.
    """
    arrays: list[np.ndarray] = []
    return _pack(value, called, arrays), arrays


def unpack(packed: Any, arrays: Sequence[np.ndarray]) -> Any:
    """What `pack` was given.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: it is damaged.
    """
    if isinstance(packed, _PLAIN):
        return packed
    ((kind, inside),) = packed.items()
    if kind in ("list", "tuple"):
        items = [unpack(item, arrays) for item in inside]
        return items if kind == "list" else tuple(items)
    if kind in ("dict", "counter"):
        entries = {unpack(key, arrays): unpack(item, arrays) for key, item in inside}
        return entries if kind == "dict" else Counter(entries)
    index, dtype, shape = inside
    # A copy, which is aligned and may be written to.
    memory = np.array(arrays[index], dtype=np.uint8)
    if kind == "tensor":
        # Before anything is made of that size.
        if math.prod(shape) * _dtype(dtype).itemsize != len(memory) or min(shape, default=0) < 0:
            raise ValueError(f"{len(memory)} bytes are no {dtype} of shape {shape}")
        if not len(memory):
            return torch.zeros(shape, dtype=_dtype(dtype))
        return torch.frombuffer(memory, dtype=_dtype(dtype)).reshape(shape)
    if kind == "array" and np.dtype(dtype).kind in _KINDS:
        return memory.view(np.dtype(dtype)).reshape(shape)
    raise ValueError(f"unknown kind {kind!r} or type {dtype!r}")


def _pack(value: Any, called: str, arrays: list[np.ndarray]) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized:
            raise TypeError(f"{called} should be a dense tensor; got one of {value.layout}")
        memory = value.detach().cpu().reshape(-1).contiguous().view(torch.uint8)
        arrays.append(memory.numpy().copy())
        return {"tensor": [len(arrays) - 1, str(value.dtype).removeprefix("torch."), list(value.shape)]}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _KINDS:
        arrays.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8).copy())
        return {"array": [len(arrays) - 1, value.dtype.str, list(value.shape)]}
    if isinstance(value, Counter | Mapping):
        kind = "counter" if isinstance(value, Counter) else "dict"
        items = [[_pack(k, f"{called}: key", arrays), _pack(v, f"{called}[{k!r}]", arrays)] for k, v in value.items()]
        return {kind: items}
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{called}[{place}]", arrays) for place, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    raise TypeError(f"{called} should be what a file can hold: a number, string, tensor, array, list, tuple or dict; "
                    f"got {type(value).__name__}")  # fmt: skip


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name!r} is no type of tensors")
    return dtype
