"""Memory that the core lends: tensors over it, without a copy."""

from typing import Any

import numpy as np
import torch


def tensor(memory: Any) -> torch.Tensor:
    """A tensor over memory of the core, which is kept as long as the tensor; writing to it writes there."""
    if hasattr(memory, "__cuda_array_interface__"):
        return torch.as_tensor(memory)
    return torch.from_numpy(np.asarray(memory))


def sent(tensor: torch.Tensor) -> tuple[torch.Tensor, int, torch.Size, tuple[int, ...]]:
    """A float32 tensor as the core receives it: with its address, sizes and strides."""
    return tensor, tensor.data_ptr(), tensor.shape, tensor.stride()
