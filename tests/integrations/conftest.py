"""A small data set and a small model, beside libraries that may leave their marks on the process."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polytask as pt
import pytest


class Data:
    """Rows whose targets can be learned: income from a sign, age from a sum."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(160, 8)).astype(np.float32)
        income = (self.x[:, 0] + self.x[:, 1] > 0).astype(np.int64)
        self.whole = self.x, {"income": income, "age": self.x[:, :3].sum(axis=1)}


@pytest.fixture
def data() -> Data:
    return Data()


@pytest.fixture
def model() -> pt.MultiTaskModel:
    tasks = [pt.Task("income", classes=2, metrics=["auroc"]), pt.Task("age")]
    return pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16]), seed=0)
