"""Names of devices, as torch has them."""

from typing import Any

import torch


def name(device: Any) -> str:
    """What the core calls a device: "cpu", or "cuda:0" and the like.

    Raises:
        TypeError: no name of a device.
        ValueError: a device that Polytask does not compute on.
    """
    if not isinstance(device, str | torch.device):
        raise TypeError(f'`device` should be "cpu", "cuda" or a torch.device; got {device!r}')
    try:
        read = torch.device(device)
    except RuntimeError:
        raise ValueError(f'`device` should be "cpu" or "cuda", with a number or without; got {device!r}') from None
    if read.type not in ("cpu", "cuda"):
        raise ValueError(f'`device` should be "cpu" or "cuda"; got {str(device)!r}')
    if read.type == "cpu":
        return "cpu"
    number = read.index
    if number is None:
        number = torch.cuda.current_device() if torch.cuda.is_available() else 0
    return f"cuda:{number}"
