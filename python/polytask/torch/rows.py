"""The tasks' gradients at what they share, as rows, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

#: Products that are summed in single precision; sums of these are in double.
SUMMED = 1024


class Block(NamedTuple):
    """Rows `[tasks, numbers]` at some of the tensors, one after the other."""

    rows: torch.Tensor
    places: list[int]


class Rows:
    """Gradients `[tasks, numbers]` at some tensors; zeros at first.

    Attributes:
        tensors: the tensors.
        tasks: how many rows there are.
        reached: places of the tensors that any gradient reached.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], tasks: int) -> None:
        self.tensors = list(tensors)
        self.tasks = tasks
        self.reached: set[int] = set()
        self._blocks: list[Block] = []

    def put(self, task: int, gradients: Sequence[torch.Tensor | None]) -> None:
        """A task's gradients, one a tensor; None is zero."""
        self.reached.update(place for place, gradient in enumerate(gradients) if gradient is not None)
        for rows, places in self._open():
            pieces = []
            for place in places:
                gradient = gradients[place]
                count = self.tensors[place].numel()
                if gradient is None:
                    pieces.append(rows.new_zeros(count))
                else:
                    pieces.append((gradient.to_dense() if gradient.is_sparse else gradient).reshape(count))
            if all(piece.dtype == rows.dtype for piece in pieces):
                torch.cat(pieces, out=rows[task])
            else:
                rows[task] = torch.cat([piece.to(rows.dtype) for piece in pieces])

    def put_all(self, tasks: Sequence[int], gradients: Sequence[torch.Tensor | None]) -> None:
        """The gradients of some tasks, `[tasks, ...]` one a tensor; None is zero."""
        self.reached.update(place for place, gradient in enumerate(gradients) if gradient is not None)
        for place, (tensor, gradient) in enumerate(zip(self.tensors, gradients, strict=True)):
            if gradient is None:
                rows = torch.zeros(self.tasks, tensor.numel(), device=tensor.device, dtype=wide(tensor))
            else:
                rows = gradient.reshape(len(tasks), tensor.numel()).to(wide(tensor))
                if len(tasks) < self.tasks:
                    rows = rows.new_zeros(self.tasks, tensor.numel()).index_copy_(
                        0, torch.tensor(tasks, device=tensor.device), rows
                    )
            self._blocks.append(Block(rows, [place]))

    def _open(self) -> list[Block]:
        """Blocks for rows that come one by one: one a device and type."""
        if not self._blocks:
            alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
            for place, tensor in enumerate(self.tensors):
                alike.setdefault((tensor.device, wide(tensor)), []).append(place)
            for (device, dtype), places in alike.items():
                count = sum(self.tensors[place].numel() for place in places)
                rows = torch.zeros(self.tasks, count, device=device, dtype=dtype)
                self._blocks.append(Block(rows, places))
        return self._blocks

    def add(self, other: Rows) -> None:
        """Adds those of another batch, at the same tensors."""
        self.reached |= other.reached
        for block, more in zip(self._by_tensor(), other._by_tensor(), strict=True):
            block.rows.add_(more.rows)

    def summed(self, add: Callable[[torch.Tensor], torch.Tensor]) -> Rows:
        """What `add` makes of them: at the same tensors, in one block a device and type whatever way they came."""
        new = Rows(self.tensors, self.tasks)
        each = {block.places[0]: block.rows for block in self._by_tensor()}
        for rows, places in new._open():
            torch.cat([each[place] for place in places], 1, out=rows)
            add(rows)
        return new

    def _by_tensor(self) -> list[Block]:
        """A block a tensor, over the same memory."""
        each: list[Block] = []
        for rows, places in self._open():
            pieces = torch.split(rows, [self.tensors[place].numel() for place in places], 1)
            each.extend(Block(piece, [place]) for piece, place in zip(pieces, places, strict=True))
        return sorted(each, key=lambda block: block.places[0])

    @property
    def dtype(self) -> torch.dtype:
        """The least exact type of their numbers."""
        return min((block.rows.dtype for block in self._open()), key=lambda dtype: dtype.itemsize)

    def gramian(self) -> np.ndarray:
        """Their products with each other, `[tasks, tasks]` of float64, on the processor."""
        each = [_products(block.rows) for block in self._open()]
        return np.asarray(sum(products.cpu().numpy() for products in each))

    def matrix(self) -> np.ndarray:
        """All of them on the processor, `[tasks, numbers]`, block by block."""
        return torch.cat([block.rows.cpu() for block in self._open()], 1).numpy()

    def combined(self, weights: torch.Tensor) -> list[torch.Tensor]:
        """Their sum with weights `[tasks]`, one a tensor."""
        blocks = self._open()
        along = {(rows.device, rows.dtype) for rows, _ in blocks}
        alike = {(device, dtype): weights.to(device, dtype) for device, dtype in along}
        return self._pieces(alike[rows.device, rows.dtype] @ rows for rows, _ in blocks)

    def directed(self, direction: torch.Tensor) -> list[torch.Tensor]:
        """A direction of the length of `matrix`'s rows, one a tensor."""
        blocks = self._open()
        pieces = torch.split(direction, [rows.shape[1] for rows, _ in blocks])
        return self._pieces(piece.to(rows.device) for piece, (rows, _) in zip(pieces, blocks, strict=True))

    def _pieces(self, of_blocks: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        pieces: list[torch.Tensor | None] = [None] * len(self.tensors)
        for (_, places), flat in zip(self._open(), of_blocks, strict=True):
            split = torch.split(flat, [self.tensors[place].numel() for place in places])
            for place, piece in zip(places, split, strict=True):
                pieces[place] = _like(piece, self.tensors[place])
        return [piece for piece in pieces if piece is not None]


def wide(tensor: torch.Tensor) -> torch.dtype:
    """The type in which gradients of a parameter are added up."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _products(rows: torch.Tensor) -> torch.Tensor:
    tasks, count = rows.shape
    if count <= SUMMED:
        return (rows @ rows.T).to(torch.float64)
    whole = count // SUMMED
    blocks = rows[:, : whole * SUMMED].view(tasks, whole, SUMMED).transpose(0, 1)
    products = torch.bmm(blocks, blocks.transpose(1, 2)).sum(0, dtype=torch.float64)
    rest = rows[:, whole * SUMMED :]
    return products + (rest @ rest.T).to(torch.float64)


def _like(piece: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A gradient of a tensor, in its type and where its numbers lie otherwise than row by row, in its order."""
    shaped = piece.view(tensor.shape)
    if tensor.is_contiguous():
        return shaped.to(tensor.dtype)
    return torch.empty_like(tensor).copy_(shaped)
