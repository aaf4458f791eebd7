"""Looks at a network while it trains: at some batches of training rows, from time to time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ... import _core
from ...data import Rows
from ...training.callback import Callback
from ..study import Network, Study

#: What a look is given: the network, and a batch.
Look = Callable[[Network, _core.Data], None]


class Probe(Callback):
    """Looks after each `every_steps` batches, at the next of a fixed round of batches."""

    beside_others = True

    def __init__(self, look: Look, network: Network, batches: Iterator[Rows], every_steps: int) -> None:
        self.every_steps = every_steps
        self._look = look
        self._network = network
        self._batches = batches

    def on_steps(self, trainer: Any) -> None:
        self._look(self._network, next(self._batches).core())

    def __repr__(self) -> str:
        return "Probe()"


def train(study: Study, seeds: int, every: int | None, progress: bool, look: Look) -> list[Network]:
    """Trains a network of all tasks from each seed, under such looks; `every` batches, or ten times an epoch."""
    networks = [study.network(seed=seed) for seed in range(seeds)]

    def probes(network: Network) -> list[Callback]:
        return [probe(study, network, every, look)]

    return [network for _, network in study.run(networks, progress=progress, callbacks=probes)]


def probe(study: Study, network: Network, every: int | None, look: Look) -> Probe:
    """Looks at one network; `every` batches, or ten times an epoch."""
    per_epoch = -(-len(study.train) // study.batch_size)
    steps = max(1, per_epoch // 10) if every is None else every
    return Probe(look, network, _batches(study, network), steps)


def _batches(study: Study, network: Network) -> Iterator[Rows]:
    """Batches of training rows at random, without end."""
    draws = np.random.default_rng([study.trainer.seed, network.seed])
    size = min(study.batch_size, len(study.train))
    while True:
        yield study.train.take(np.sort(draws.choice(len(study.train), size, replace=False)))
