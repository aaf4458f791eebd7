"""Processes that make a step together, each on rows of its own: what they have is added up before it is decided on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from .rows import Rows, wide


class Processes:
    """Those of a module of `DistributedDataParallel`.

    All call the same in the same order, with the same parameters; so everything is by the module's order of parameters,
    and sums are the same to the bit in all of them.

    Arguments:
        module: the module, which has all that learns.

    Raises:
        TypeError: another module.
    """

    def __init__(self, module: Any) -> None:
        if not isinstance(module, DistributedDataParallel):
            raise TypeError("`ddp` should be the torch.nn.parallel.DistributedDataParallel that has all parameters; "
                            f"got {type(module).__name__}")  # fmt: skip
        self._group = module.process_group
        self.parameters: list[torch.Tensor] = [p for p in module.parameters() if p.requires_grad]
        self._places = {id(parameter): place for place, parameter in enumerate(self.parameters)}

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        distributed.all_reduce(tensor, group=self._group)
        return tensor

    def joined(
        self, values: np.ndarray, counts: np.ndarray, shared: Sequence[torch.Tensor]
    ) -> tuple[np.ndarray, np.ndarray, list[torch.Tensor]]:
        """The losses of all rows, NaN where no process has a label; what part of each this process's is; and the
        parameters that are shared in any process.

        Arguments:
            values: losses `[tasks]`, means over rows, NaN without a label.
            counts: how many rows each is of.
            shared: the parameters that several losses reach here.

        Raises:
            ValueError: a shared parameter that the module has not.
        """
        mask = np.zeros(len(self.parameters))
        for leaf in shared:
            if id(leaf) not in self._places:
                raise ValueError("`ddp` should have all parameters that the losses share; one is not among them")
            mask[self._places[id(leaf)]] = 1
        there = np.where(np.isnan(values), 0.0, counts)
        sums = np.where(there > 0, values, 0.0) * there
        device = self.parameters[0].device
        given = torch.from_numpy(np.concatenate([sums, there, mask])).to(device)
        found = self._sum(given).cpu().numpy()
        tasks = len(values)
        total = found[tasks : 2 * tasks]
        with np.errstate(invalid="ignore", divide="ignore"):
            losses = np.where(total > 0, found[:tasks] / total, np.nan)
            parts = np.where(total > 0, there / total, 0.0)
        any_shared = [p for p, count in zip(self.parameters, found[2 * tasks :], strict=True) if count > 0]
        return losses, parts, any_shared

    def rows(self, rows: Rows) -> Rows:
        """The sum over processes of rows at the same tensors."""
        found = rows.summed(self._sum)
        reached = torch.tensor([float(place in rows.reached) for place in range(len(rows.tensors))])
        counts = self._sum(reached.to(self.parameters[0].device)).tolist()
        found.reached = {place for place, count in enumerate(counts) if count > 0}
        return found

    def gradients(
        self, found: Mapping[int, torch.Tensor], but: Sequence[torch.Tensor]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The sum over processes of gradients, by their parameter's `id`; of all parameters but these, those that any
        process has.
        """
        left = {id(leaf) for leaf in but}
        each = [parameter for parameter in self.parameters if id(parameter) not in left]
        if not each:
            return []
        # Of a type that follows from the parameters alone, so that it is the same in all processes.
        flat = torch.cat([
            found[id(p)].to_dense().reshape(-1).to(wide(p)) if id(p) in found
            else torch.zeros(p.numel(), device=p.device, dtype=wide(p)) for p in each
        ])  # fmt: skip
        reached = self._sum(torch.tensor([float(id(p) in found) for p in each], device=flat.device)).tolist()
        pieces = torch.split(self._sum(flat), [p.numel() for p in each])
        triples = zip(each, pieces, reached, strict=True)
        return [(p, piece.view(p.shape).to(p.dtype)) for p, piece, count in triples if count > 0]
