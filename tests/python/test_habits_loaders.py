"""Scripts as people with torch datasets and loaders type them, written before it was known what is accepted; see
docs/habits.md."""

from typing import NamedTuple

import numpy as np
import polytask as pt
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

# A loader that brings no generator draws from the global one.
pytestmark = pytest.mark.usefixtures("own_seed")


def tensors(rows=512, seed=0):
    """Eight features, a class, a number."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 8, generator=generator)
    return x, (x[:, 0] + x[:, 1] > 0).long(), 2 * x[:, 2] - x[:, 3]


def two_tasks():
    """A class of two and a number, on eight features."""
    return pt.MultiTaskModel(8, tasks=[pt.Task("a", classes=2), pt.Task("b")], encoder=pt.encoder.MLP([16]))


class Records(Dataset):
    """Rows as dicts, as many datasets give them."""

    def __init__(self, rows=512):
        self.x, self.a, self.b = tensors(rows)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "a": self.a[i], "b": self.b[i]}


class Pairs(Records):
    """Rows as features and a dict of targets, plain Python numbers."""

    def __getitem__(self, i):
        return self.x[i].numpy(), {"a": int(self.a[i]), "b": float(self.b[i])}


def test_tensor_dataset_in_a_loader():
    """The ordinary case: `TensorDataset(x, y1, y2)`, shuffled, with a smaller last batch."""
    data = TensorDataset(*tensors(500))
    trainer = pt.Trainer(two_tasks(), lr=0.01)
    history = trainer.fit(DataLoader(data, batch_size=64, shuffle=True), epochs=20)
    assert len(history) == 20
    scores = trainer.evaluate(DataLoader(data, batch_size=256))
    assert scores["a"]["accuracy"] > 0.9
    assert scores["b"]["r2"] > 0.9


def test_dict_batches():
    """A dataset gives `{"x": ..., "a": ..., "b": ...}`, and the default collate keeps the dict."""
    trainer = pt.Trainer(two_tasks(), lr=0.01)
    trainer.fit(DataLoader(Records(), batch_size=32, shuffle=True), epochs=10)
    assert trainer.evaluate(DataLoader(Records(), batch_size=256))["a"]["accuracy"] > 0.85


def test_features_and_a_dict_of_python_numbers():
    """`x, {"a": int, "b": float}`: the numbers become int64 and float64 tensors."""
    trainer = pt.Trainer(two_tasks(), lr=0.01)
    trainer.fit(DataLoader(Pairs(), batch_size=32, shuffle=True), epochs=10)
    assert trainer.evaluate(Pairs())["b"]["r2"] > 0.8


def test_a_loader_for_each_task():
    """Every task has its own data: `{"a": loader, "b": loader}`."""
    x1, a, _ = tensors(512, seed=1)
    x2, _, b = tensors(256, seed=2)
    loaders = {
        "a": DataLoader(TensorDataset(x1, a), batch_size=32, shuffle=True),
        "b": DataLoader(TensorDataset(x2, b), batch_size=32, shuffle=True),
    }
    model = two_tasks()
    pt.Trainer(model, lr=0.01).fit(loaders, epochs=15)
    x, a, b = tensors()
    predicted = model.predict(x)
    assert (predicted["a"].argmax(axis=1) == a.numpy()).mean() > 0.85
    assert np.corrcoef(predicted["b"], b.numpy())[0, 1] > 0.9


def test_an_own_collate_function():
    """`collate_fn` makes a pair of a stacked tensor and a dict."""

    def collate(rows):
        x, targets = zip(*rows, strict=True)
        return torch.tensor(np.stack(x)), {name: torch.tensor([t[name] for t in targets]) for name in ("a", "b")}

    trainer = pt.Trainer(two_tasks(), lr=0.01)
    trainer.fit(DataLoader(Pairs(), batch_size=32, shuffle=True, collate_fn=collate), epochs=10)
    assert trainer.evaluate(Pairs())["a"]["accuracy"] > 0.85


def test_collate_to_numpy():
    """`collate_fn` gives NumPy arrays, so that no tensors are made in the workers."""

    def collate(rows):
        x, a, b = zip(*rows, strict=True)
        return np.stack([t.numpy() for t in x]), np.array(a), np.array(b)

    trainer = pt.Trainer(two_tasks(), lr=0.01)
    trainer.fit(DataLoader(TensorDataset(*tensors()), batch_size=32, collate_fn=collate), epochs=10)
    assert trainer.evaluate(tensors())["a"]["accuracy"] > 0.85


def test_an_iterable_dataset():
    """A stream that knows no length."""

    class Stream(IterableDataset):
        def __iter__(self):
            x, a, b = tensors()
            yield from zip(x, a, b, strict=True)

    trainer = pt.Trainer(two_tasks(), lr=0.01)
    history = trainer.fit(DataLoader(Stream(), batch_size=32), epochs=10)
    assert history["a/accuracy"][-1] > 0.85


def test_a_generator_of_batches():
    """A function with `yield`, called again by me for each epoch."""

    def batches():
        x, a, b = tensors()
        for i in range(0, len(x), 32):
            yield x[i : i + 32], a[i : i + 32], b[i : i + 32]

    trainer = pt.Trainer(two_tasks(), lr=0.01)
    for _ in range(10):
        trainer.fit(batches(), epochs=1)
    assert trainer.epochs == 10
    assert trainer.evaluate(batches())["a"]["accuracy"] > 0.85


def test_random_split():
    """Two subsets, given as datasets, not loaders."""
    train, valid = random_split(TensorDataset(*tensors()), [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    history = pt.Trainer(two_tasks(), lr=0.01).fit(train, validation=valid, epochs=15, batch_size=32)
    assert history["validation/a/accuracy"][-1] > 0.85


def test_a_weighted_sampler():
    """A rare class is drawn as often as the other."""
    x, a, b = tensors(1024)
    keep = (a == 0) | (torch.arange(1024) % 10 == 0)
    x, a, b = x[keep], a[keep], b[keep]
    share = torch.bincount(a).float()
    sampler = WeightedRandomSampler((1 / share)[a], len(a), generator=torch.Generator().manual_seed(0))
    model = two_tasks()
    pt.Trainer(model, lr=0.01).fit(DataLoader(TensorDataset(x, a, b), batch_size=32, sampler=sampler), epochs=15)
    assert (model.predict(x)["a"].argmax(axis=1) == 1)[a.numpy() == 1].mean() > 0.85


def test_workers_and_double_precision():
    """`num_workers=2`, and features that NumPy made double."""
    x, a, b = tensors(256)
    data = TensorDataset(torch.from_numpy(x.numpy().astype(np.float64)), a, b.double())
    trainer = pt.Trainer(two_tasks(), lr=0.02)
    trainer.fit(DataLoader(data, batch_size=32, shuffle=True, num_workers=2, persistent_workers=True), epochs=8)
    assert trainer.evaluate((x, a, b))["a"]["accuracy"] > 0.85


def test_a_loop_of_my_own():
    """`for batch in loader: trainer.step(batch)`, and the loss goes down."""
    loader = DataLoader(TensorDataset(*tensors()), batch_size=32, shuffle=True)
    trainer = pt.Trainer(two_tasks(), lr=0.01)
    losses = [trainer.step(batch)["loss"] for _ in range(10) for batch in loader]
    assert np.mean(losses[-16:]) < 0.5 * np.mean(losses[:16])


def test_binary_labels_of_shape_n_by_one():
    """Float labels `[n, 1]`, as `BCEWithLogitsLoss` wants them from the same network."""
    x, a, _ = tensors()
    data = TensorDataset(x, a.float().unsqueeze(1))
    model = pt.MultiTaskModel(8, tasks=[pt.Task("a", loss="binary_cross_entropy")], encoder=pt.encoder.MLP([16]))
    pt.Trainer(model, lr=0.01).fit(DataLoader(data, batch_size=32), epochs=10)
    assert roc_auc_score(a, model.predict(x)["a"]) > 0.9


def test_last_batch_of_one_row_under_batch_norm():
    """513 rows in batches of 32 leave one row, and the encoder normalises batches."""
    data = TensorDataset(*tensors(513))
    model = pt.MultiTaskModel(
        8, tasks=[pt.Task("a", classes=2), pt.Task("b")], encoder=pt.encoder.MLP([16], norm="batch")
    )
    trainer = pt.Trainer(model, lr=0.01)
    trainer.fit(DataLoader(data, batch_size=32, shuffle=True, drop_last=True), epochs=10)
    trainer.fit(data, epochs=1)
    assert trainer.evaluate(data)["a"]["accuracy"] > 0.85


def test_named_tuples_as_batches():
    """A dataset gives a `NamedTuple`, and the default collate keeps it."""

    class Row(NamedTuple):
        x: torch.Tensor
        a: torch.Tensor
        b: torch.Tensor

    class Rows(Records):
        def __getitem__(self, i):
            return Row(self.x[i], self.a[i], self.b[i])

    trainer = pt.Trainer(two_tasks(), lr=0.01)
    trainer.fit(DataLoader(Rows(), batch_size=32, shuffle=True), epochs=10)
    assert trainer.evaluate(Rows())["a"]["accuracy"] > 0.85


def test_two_datasets_in_one():
    """`ConcatDataset`, and the score is that of the same rows as tensors."""
    first, second = TensorDataset(*tensors(200, seed=1)), TensorDataset(*tensors(300, seed=2))
    trainer = pt.Trainer(two_tasks(), lr=0.01)
    trainer.fit(ConcatDataset([first, second]), epochs=10)
    whole = tuple(torch.cat(pair) for pair in zip(first.tensors, second.tensors, strict=True))
    by_rows, by_tensors = trainer.evaluate(ConcatDataset([first, second])), trainer.evaluate(whole)
    assert np.isclose(by_rows["a"]["accuracy"], by_tensors["a"]["accuracy"])


def test_predict_takes_what_evaluate_takes():
    """`predict` on a loader of features alone, in the order of the rows."""
    x, a, b = tensors(300)
    model = two_tasks()
    pt.Trainer(model, lr=0.01).fit((x, a, b), epochs=3)
    predicted = model.predict(DataLoader(TensorDataset(x), batch_size=64))
    assert np.allclose(predicted["b"], model.predict(x)["b"], atol=1e-6)


def test_predict_on_a_tensor_of_a_graph():
    """Features come out of another network and require a gradient; a half-precision tensor too."""
    x, a, b = tensors()
    model = two_tasks()
    pt.Trainer(model, lr=0.01).fit((x, a, b), epochs=3)
    embedded = torch.nn.Identity()(x.clone().requires_grad_())
    assert np.array_equal(model.predict(embedded)["b"], model.predict(x)["b"])
    assert np.allclose(model.predict(x.bfloat16())["b"], model.predict(x)["b"], atol=0.2)
