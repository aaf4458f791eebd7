"""Loaders of torchdata go on where they were, between epochs and within one, when a run was killed and is resumed."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polytask as pt
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset, WeightedRandomSampler, get_worker_info
from torchdata.nodes import Batcher, IterableWrapper, Loader, Mapper, Prefetcher
from torchdata.stateful_dataloader import StatefulDataLoader

SIZE, BATCHES, EPOCHS = 16, 10, 4
RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(SIZE * BATCHES, 8)).astype(np.float32))
ROWS = TensorDataset(X, (X[:, 0] + X[:, 1] > 0).long(), X[:, :3].sum(dim=1))


class Lines(IterableDataset):
    """Rows one by one, each process its own, which know which comes next."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        own = range(first, len(ROWS), step)
        while self.at < len(own):
            self.at += 1
            yield ROWS[own[self.at - 1]]
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Noise(IterableDataset):
    """The same with noise that each process draws, and without a word of where it is: rows are skipped."""

    def __iter__(self):
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, len(ROWS), step):
            x, *targets = ROWS[i]
            yield x + 0.1 * torch.randn(8), *targets


def sampled(workers):
    sampler = WeightedRandomSampler(torch.linspace(1, 2, len(ROWS)), len(ROWS))
    return StatefulDataLoader(ROWS, SIZE, sampler=sampler, num_workers=workers)


def kept(workers):
    """Processes that stay from epoch to epoch, of a data set that draws nothing in them."""
    stay = workers > 0
    return StatefulDataLoader(ROWS, SIZE, shuffle=True, num_workers=workers, persistent_workers=stay)


def nodes(workers):
    rows = Mapper(IterableWrapper(range(len(ROWS))), ROWS.__getitem__)
    batches = Mapper(Batcher(rows, SIZE), torch.utils.data.default_collate)
    return Loader(Prefetcher(batches, 2) if workers else batches)


LOADERS = {
    "shuffled": lambda workers: StatefulDataLoader(ROWS, SIZE, shuffle=True, num_workers=workers),
    "every third": lambda workers: StatefulDataLoader(
        ROWS, SIZE, shuffle=True, num_workers=workers, snapshot_every_n_steps=3
    ),
    "sampled": sampled,
    "kept": kept,
    "lines": lambda workers: StatefulDataLoader(Lines(), SIZE, num_workers=workers),
    "noise": lambda workers: StatefulDataLoader(Noise(), SIZE, num_workers=workers),
    "mix": lambda workers: pt.data.Mix(
        [LOADERS["lines"](workers), LOADERS["shuffled"](workers)], "round_robin", length=BATCHES
    ),
    "nodes": nodes,
}


class Slowly(pt.Callback):
    """Leaves time to be killed."""

    every_steps = 1

    def on_steps(self, trainer):
        time.sleep(0.05)


def run(folder, name, workers, *callbacks):
    """A run, or the rest of it, as JSON: the history, and the parameters' bits."""
    tasks = [pt.Task("income", classes=2, metrics=["auroc", "f1"]), pt.Task("age", metrics=["mae", "spearman"])]
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16], dropout=0.2), seed=0)
    trainer = pt.Trainer(model, callbacks=[pt.Checkpoint(folder, every_steps=1), *callbacks])
    history = trainer.fit(LOADERS[name](workers), epochs=EPOCHS, progress=False, resume=folder)
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in history]
    state = {key: array.tobytes().hex() for key, array in model.state_dict().items()}
    return json.dumps({"history": rows, "state": state}, sort_keys=True)


def last(folder):
    """Batches before the last checkpoint."""
    return max((int(path.stem[-12:]) for path in folder.glob("checkpoint-*.safetensors")), default=0)


def killed(folder, name, workers):
    """The run in a process of its own, killed when it is in its second epoch or a later one; gives where."""
    child = subprocess.Popen([sys.executable, "-W", "ignore", __file__, folder, name, str(workers)])
    try:
        ends = time.monotonic() + 120
        while last(folder) <= BATCHES + 2:
            assert child.poll() is None, "it ended before it was killed"
            assert time.monotonic() < ends, "it takes too long"
            time.sleep(0.01)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
    return last(folder)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", LOADERS)
def test_a_run_killed_within_an_epoch_ends_with_the_same_bits(tmp_path, name, workers):
    torch.manual_seed(0)
    want = run(tmp_path / "whole", name, workers)
    folder = tmp_path / "killed"
    after = killed(folder, name, workers)
    assert after % BATCHES, "the kill met the end of an epoch"
    torch.manual_seed(99)
    assert run(folder, name, workers) == want


class Break(pt.Callback):
    last = True

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 3:
            raise SystemExit


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", LOADERS)
def test_a_run_resumed_after_an_epoch_has_the_same_bits(tmp_path, name, workers):
    torch.manual_seed(0)
    want = run(tmp_path / "whole", name, workers)
    torch.manual_seed(0)
    with pytest.raises(SystemExit):
        run(tmp_path / "a", name, workers, Break())
    assert last(tmp_path / "a") == 3 * BATCHES
    torch.manual_seed(99)
    assert run(tmp_path / "a", name, workers) == want


if __name__ == "__main__":
    from pathlib import Path

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Slowly())
