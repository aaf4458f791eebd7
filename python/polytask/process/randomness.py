"""Everybody else's random generators, kept with a checkpoint where other people's code draws from them."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def capture(loader: torch.Generator | None) -> dict[str, Any]:
    """The state of torch's, NumPy's and Python's global generators, and of a loader's own."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "torch": _hex(torch.get_rng_state()),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": [version, list(internal), gauss],
        "loader": None if loader is None else _hex(loader.get_state()),
    }


def restore(state: dict[str, Any], loader: torch.Generator | None) -> None:
    """Puts all of them back."""
    torch.set_rng_state(_bytes(state["torch"]))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if loader is not None and state["loader"] is not None:
        loader.set_state(_bytes(state["loader"]))


#: Whose turn it is to draw: a process has one generator a device.
_turn = threading.RLock()


@contextmanager
def drawing(seed: int, device: torch.device) -> Iterator[None]:
    """What is drawn from torch's generators within follows from the seed; then they go on from where they were."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    with _turn:
        before = [generator.get_state() for generator in generators]
        for generator in generators:
            generator.manual_seed(seed)
        try:
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)


def _hex(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _bytes(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
