"""Sparse tables and bags: steps as in torch, row by row; rows of no batch keep their bits; frames with bags."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
import torch
from conftest import same_bits, without_seconds
from torch import nn

# Modules of torch draw their weights from its global generator.
pytestmark = pytest.mark.usefixtures("own_seed")

ROWS, STEPS = 24, 30
SIZES = (7, 40, 300)
LENGTH = 4


def make_inputs(sparse: Any = True, combine: str = "mean") -> pt.Inputs:
    """Three numbers, a plain feature, a bag and a plain feature; the last two may be sparse."""
    features = [SIZES[0], pt.Bag(SIZES[1], LENGTH, combine), SIZES[2]]
    return pt.Inputs(3, features, embedding=[2, 5, 4], sparse=[False, sparse, sparse])


def make_model(sparse: Any = True, combine: str = "mean", tasks: int = 2, **more: Any) -> pt.MultiTaskModel:
    each = [pt.Task(f"t{j}", weight=1.0 + j) for j in range(tasks)]
    encoder = pt.encoder.MLP([8], activation="tanh")
    return pt.MultiTaskModel(make_inputs(sparse, combine), tasks=each, encoder=encoder, seed=3, **more)


def batch(step: int, rows: int = ROWS) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(step)
    bags = rng.integers(0, SIZES[1], (rows, LENGTH))
    bags[rng.random(bags.shape) < 0.4] = -1
    bags[0] = -1
    codes = np.column_stack([rng.integers(0, SIZES[0], rows), bags, rng.integers(0, 60, rows)])
    x = {"numeric": rng.normal(size=(rows, 3)).astype(np.float32), "categorical": codes}
    return x, {f"t{j}": rng.normal(size=rows).astype(np.float32) for j in range(2)}


class Reference(nn.Module):
    """The same network as people write it."""

    def __init__(self, state: dict[str, np.ndarray], combine: str = "mean", sparse: bool = True) -> None:
        super().__init__()
        table = {j: torch.from_numpy(state[f"embedding.{j}.weight"]).double() for j in range(3)}
        self.plain = nn.Embedding.from_pretrained(table[0], freeze=False)
        self.bag = nn.EmbeddingBag.from_pretrained(
            torch.cat([table[1], torch.zeros(1, 5)]), freeze=False, mode=combine, sparse=sparse, padding_idx=SIZES[1]
        )
        self.large = nn.Embedding.from_pretrained(table[2], freeze=False, sparse=sparse)
        self.layer, self.heads = nn.Linear(14, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(2))
        names = {"encoder.0": self.layer, "heads.t0": self.heads[0], "heads.t1": self.heads[1]}
        for path, layer in names.items():
            layer.load_state_dict({part: torch.from_numpy(state[f"{path}.{part}"]) for part in ("weight", "bias")})
        self.double()

    def losses(self, x: dict[str, np.ndarray], ys: dict[str, np.ndarray]) -> list[torch.Tensor]:
        codes = torch.from_numpy(x["categorical"])
        bags = codes[:, 1 : 1 + LENGTH]
        parts = [self.plain(codes[:, 0]), self.bag(torch.where(bags < 0, SIZES[1], bags)), self.large(codes[:, -1])]
        h = torch.tanh(self.layer(torch.cat([torch.from_numpy(x["numeric"]).double(), *parts], 1)))
        outs = [head(h).squeeze(1) for head in self.heads]
        targets = [torch.from_numpy(y).double() for y in ys.values()]
        return [(1.0 + j) * ((out - y) ** 2).mean() for j, (out, y) in enumerate(zip(outs, targets, strict=True))]

    @property
    def tables(self) -> list[nn.Parameter]:
        return [self.bag.weight, self.large.weight]

    @property
    def rest(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if all(p is not table for table in self.tables)]

    def compare(self, model: pt.MultiTaskModel, tolerance: float = 1e-5) -> None:
        state = model.state_dict()
        ours = {
            "embedding.1.weight": self.bag.weight[:-1],
            "embedding.2.weight": self.large.weight,
            "embedding.0.weight": self.plain.weight,
            "encoder.0.weight": self.layer.weight,
            "heads.t1.weight": self.heads[1].weight,
        }
        for name, want in ours.items():
            np.testing.assert_allclose(state[name], want.detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


def untouched(steps: int) -> np.ndarray:
    """Codes of the large table that no batch has."""
    used = np.concatenate([batch(step)[0]["categorical"][:, -1] for step in range(steps)])
    return np.setdiff1d(np.arange(SIZES[2]), used)


class RowWise:
    """Rows-only rules on coalesced sparse gradients: row-wise Adagrad, and rules of torch's on the touched rows."""

    def __init__(self, tables: list[nn.Parameter], rule: Callable[..., None]) -> None:
        self.tables, self.rule, self.step_number = tables, rule, 0
        self.state: list[dict[str, torch.Tensor]] = [{} for _ in tables]

    @torch.no_grad()
    def step(self) -> None:
        self.step_number += 1
        for table, state in zip(self.tables, self.state, strict=True):
            gradient = table.grad.coalesce()  # type: ignore[union-attr]
            rows = gradient.indices()[0]
            self.rule(table, rows, gradient.values(), state, self.step_number)


def adagrad(table: torch.Tensor, rows: torch.Tensor, g: torch.Tensor, state: dict[str, torch.Tensor], _: int) -> None:
    sums = state.setdefault("sum", torch.zeros(len(table), dtype=torch.float64))
    sums[rows] += (g**2).mean(1)
    table[rows] -= 0.05 * g / (sums[rows].sqrt() + 1e-10)[:, None]


def momentum(table: torch.Tensor, rows: torch.Tensor, g: torch.Tensor, state: dict[str, torch.Tensor], _: int) -> None:
    buffer = state.setdefault("buffer", torch.zeros_like(table))
    buffer[rows] = 0.9 * buffer[rows] + g
    table[rows] -= 0.05 * buffer[rows]


def rmsprop(table: torch.Tensor, rows: torch.Tensor, g: torch.Tensor, state: dict[str, torch.Tensor], _: int) -> None:
    square = state.setdefault("square", torch.zeros_like(table))
    square[rows] = 0.99 * square[rows] + 0.01 * g**2
    table[rows] -= 0.01 * g / (square[rows].sqrt() + 1e-8)


def adamw(table: torch.Tensor, rows: torch.Tensor, g: torch.Tensor, state: dict[str, torch.Tensor], t: int) -> None:
    m, v = state.setdefault("m", torch.zeros_like(table)), state.setdefault("v", torch.zeros_like(table))
    m[rows] = 0.9 * m[rows] + 0.1 * g
    v[rows] = 0.999 * v[rows] + 0.001 * g**2
    table[rows] *= 1 - 0.01 * 0.1
    table[rows] -= 0.01 * (m[rows] / (1 - 0.9**t)) / ((v[rows] / (1 - 0.999**t)).sqrt() + 1e-8)


RULES: list[tuple[Any, Callable[[list[nn.Parameter]], Any], Callable[[list[nn.Parameter]], Any]]] = [
    (
        pt.optim.Adam(lr=0.01, eps=1e-10),
        lambda rest: torch.optim.Adam(rest, lr=0.01, eps=1e-10),
        lambda tables: torch.optim.SparseAdam(tables, lr=0.01, eps=1e-10),
    ),
    (
        pt.optim.AdamW(lr=0.01, weight_decay={"embedding.1": 0.1, "embedding.2": 0.1, "default": 0.0}),
        lambda rest: torch.optim.AdamW(rest, lr=0.01, weight_decay=0.0),
        lambda tables: RowWise(tables, adamw),
    ),
    (
        pt.optim.Adagrad(lr=0.05),
        lambda rest: torch.optim.Adagrad(rest, lr=0.05),
        lambda tables: RowWise(tables, adagrad),
    ),
    (
        pt.optim.SGD(lr=0.05),
        lambda rest: torch.optim.SGD(rest, lr=0.05),
        lambda tables: torch.optim.SGD(tables, lr=0.05),
    ),
    (
        pt.optim.SGD(lr=0.05, momentum=0.9),
        lambda rest: torch.optim.SGD(rest, lr=0.05, momentum=0.9),
        lambda tables: RowWise(tables, momentum),
    ),
    (
        pt.optim.RMSprop(lr=0.01),
        lambda rest: torch.optim.RMSprop(rest, lr=0.01),
        lambda tables: RowWise(tables, rmsprop),
    ),
]


@pytest.mark.parametrize(("ours", "dense", "rows"), RULES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_steps_are_those_of_torch_on_the_rows_of_the_batch(ours: Any, dense: Any, rows: Any, combine: str) -> None:
    model = make_model(combine=combine)
    before = model.state_dict()["embedding.2.weight"]
    reference = Reference(model.state_dict(), combine)
    optimizers = [dense(reference.rest), rows(reference.tables)]
    trainer = pt.Trainer(model, ours)
    for step in range(STEPS):
        x, ys = batch(step)
        trainer.step((x, ys))
        reference.zero_grad()
        torch.stack(reference.losses(x, ys)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
        reference.compare(model)
    still = untouched(STEPS)
    assert len(still) > 200
    np.testing.assert_array_equal(model.state_dict()["embedding.2.weight"][still], before[still])


@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("sparse", [True, False])
def test_bags_and_gradients_are_those_of_torch(combine: str, sparse: bool) -> None:
    model = make_model(sparse, combine)
    reference = Reference(model.state_dict(), combine, sparse=False)
    x, ys = batch(0)
    losses = reference.losses(x, ys)
    for (name, loss), y in zip(model.predict(x).items(), ys.values(), strict=True):
        j = int(name[1:])
        assert (1.0 + j) * np.mean((loss - y) ** 2) == pytest.approx(losses[j].item(), rel=1e-5)
    torch.stack(losses).sum().backward()
    ours = model._core.gradients(model.reader.rows((x, ys)).core(), "sum")
    for name, want in {
        "embedding.1.weight": reference.bag.weight.grad[:-1],
        "embedding.2.weight": reference.large.weight.grad,
    }.items():  # type: ignore[index]
        np.testing.assert_allclose(ours[name], want, rtol=1e-5, atol=1e-6, err_msg=name)


GRADIENT_METHODS = [
    pt.weighting.UPGrad(),
    pt.weighting.MGDA(),
    pt.weighting.PCGrad(),
    pt.weighting.IMTLG(),
    pt.weighting.UPGrad(per="layer"),
    pt.weighting.UPGrad(at="representation"),
    pt.weighting.UPGrad(refresh=2),
]


@pytest.mark.parametrize("weighting", GRADIENT_METHODS, ids=repr)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradient_methods_weigh_what_tables_learn(weighting: Any, accumulate: int) -> None:
    """With plain SGD a table moves by weights times each task's gradient of it: those by which dense layers move."""
    model = make_model()
    trainer = pt.Trainer(model, pt.optim.SGD(lr=1.0), weighting=weighting, accumulate=accumulate)
    data = [batch(step) for step in range(accumulate)]
    before = model.state_dict()
    reference = Reference(before)
    gradients = []
    for j in range(2):
        reference.zero_grad()
        (sum(reference.losses(*each)[j] for each in data) / accumulate).backward()  # type: ignore[union-attr]
        gradients.append([table.grad.to_dense() for table in reference.tables])  # type: ignore[union-attr]
    shared = list(model._core.gradients(model.reader.rows(data[0]).core(), "jacobian")[0])
    assert shared == ["embedding.0.weight", "encoder.0.weight", "encoder.0.bias"]
    for each in data:
        trainer.step(each)
    moved = {name: before[name] - after for name, after in model.state_dict().items()}
    # What moved lies in the span of the tasks' gradients, and least squares find the weights.
    for k, name in enumerate(("embedding.1.weight", "embedding.2.weight")):
        columns = np.stack([g[k].numpy()[: len(before[name])].ravel() for g in gradients], 1)
        weights, *_ = np.linalg.lstsq(columns, moved[name].ravel(), rcond=None)
        np.testing.assert_allclose(columns @ weights, moved[name].ravel(), atol=1e-5)
        if "layer" not in repr(weighting):
            bias = np.stack([bias_gradient(model, before, data, j, accumulate) for j in range(2)], 1)
            of_bias, *_ = np.linalg.lstsq(bias, moved["encoder.0.bias"], rcond=None)
            np.testing.assert_allclose(weights, of_bias, rtol=1e-3, atol=1e-4)
        assert np.abs(weights).max() > 0.05


def bias_gradient(
    model: pt.MultiTaskModel, state: dict[str, np.ndarray], data: Any, task: int, count: int
) -> np.ndarray:
    reference = Reference(state)
    (sum(reference.losses(*each)[task] for each in data) / count).backward()  # type: ignore[union-attr]
    gradient: np.ndarray = reference.layer.bias.grad.numpy()  # type: ignore[union-attr]
    return gradient


def test_weights_are_those_of_a_model_whose_table_was_left_out() -> None:
    """What a method compares does not change with a table's gradient: the Gramian is that of the dense parameters."""
    sparse, dense = make_model(), make_model(sparse=False)
    dense.load_state_dict(sparse.state_dict())
    rows = sparse.reader.rows(batch(0)).core()
    names, jacobian = dense._core.gradients(rows, "jacobian")
    at = 0
    left = []
    for name in names:
        size = dense.state_dict()[name].size
        if name not in ("embedding.1.weight", "embedding.2.weight"):
            left.append(jacobian[:, at : at + size].astype(np.float64))
        at += size
    whole = np.concatenate(left, 1)
    np.testing.assert_allclose(sparse._core.gradients(rows, "gramian"), whole @ whole.T, rtol=1e-5)


@pytest.mark.parametrize("weighting", [pt.weighting.GradDrop(), pt.weighting.SDMGrad()], ids=repr)
def test_methods_that_look_beside_the_step_or_give_directions_train_tables(weighting: Any) -> None:
    model = make_model()
    before = model.state_dict()["embedding.2.weight"]
    pt.Trainer(model, pt.optim.SGD(lr=0.1), weighting=weighting).step(batch(0))
    after = model.state_dict()["embedding.2.weight"]
    used = np.unique(batch(0)[0]["categorical"][:, -1])
    changed = np.flatnonzero((after != before).any(1))
    assert np.isfinite(after).all()
    assert set(changed) <= set(used)
    assert len(changed) > 0.8 * len(used)


@pytest.mark.parametrize("optimizer", [pt.optim.Adam(lr=0.01), pt.optim.Adagrad(lr=0.1)], ids=repr)
def test_micro_batches_add_up_to_one_batch(optimizer: Any) -> None:
    x, ys = batch(5, 32)
    one, four = make_model(), make_model()
    pt.Trainer(one, optimizer, clip_norm=0.3).step((x, ys))
    trainer = pt.Trainer(four, optimizer, accumulate=4, clip_norm=0.3)
    for first in range(0, 32, 8):
        part = slice(first, first + 8)
        trainer.step(({name: array[part] for name, array in x.items()}, {name: y[part] for name, y in ys.items()}))
    for name, value in one.state_dict().items():
        np.testing.assert_allclose(four.state_dict()[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_norm_that_is_clipped_counts_the_rows() -> None:
    model = make_model()
    reference = Reference(model.state_dict(), sparse=False)
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.1), clip_norm=0.2)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for step in range(5):
        trainer.step(batch(step))
        optimizer.zero_grad()
        torch.stack(reference.losses(*batch(step))).sum().backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.2)
        optimizer.step()
    reference.compare(model)


@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
def test_a_frozen_table_keeps_its_bits_whatever_came_before(weighting: str) -> None:
    model = make_model()
    trainer = pt.Trainer(model, "adam", weighting=weighting)
    trainer.step(batch(0))
    model.freeze("embedding.2")
    before = model.state_dict()
    for each in (trainer, pt.Trainer(model, "adam", weighting=weighting, clip_norm=1.0)):
        each.step(batch(1))
    after = model.state_dict()
    np.testing.assert_array_equal(after["embedding.2.weight"], before["embedding.2.weight"])
    assert not np.array_equal(after["embedding.1.weight"], before["embedding.1.weight"])
    assert not model._core.gradients(model.reader.rows(batch(1)).core(), "sum")["embedding.2.weight"].any()
    model.unfreeze()
    trainer.step(batch(2))
    assert not np.array_equal(model.state_dict()["embedding.2.weight"], before["embedding.2.weight"])


def test_a_new_task_keeps_the_tables() -> None:
    model = make_model()
    pt.Trainer(model).step(batch(0))
    before = model.state_dict()["embedding.2.weight"]
    larger = model.add_task(pt.Task("t2"))
    np.testing.assert_array_equal(larger.state_dict()["embedding.2.weight"], before)
    x, ys = batch(1)
    pt.Trainer(larger).step((x, {**ys, "t2": ys["t0"]}))
    assert not np.array_equal(larger.state_dict()["embedding.2.weight"], before)


def test_the_summary_counts_tables_of_the_given_widths() -> None:
    alone = make_model(tasks=1)
    size = sum(value.size for value in alone.state_dict().values())
    assert make_model().summary().single_task == 2 * size


def rows_in_memory(rows: int = 96) -> Any:
    return batch(11, rows)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    how = {"batch_size": 16, "progress": False}
    whole, later = make_model(), make_model()
    history = pt.Trainer(whole, optimizer).fit(rows_in_memory(), epochs=4, **how)
    first = pt.Trainer(make_model(), optimizer, callbacks=[pt.Checkpoint(tmp_path)])
    first.fit(rows_in_memory(), epochs=2, **how)
    trainer = pt.Trainer(later, optimizer, callbacks=[pt.Checkpoint(tmp_path)])
    resumed = trainer.fit(rows_in_memory(), epochs=4, resume=tmp_path, **how)
    assert same_bits(whole.state_dict(), later.state_dict())
    assert without_seconds(history) == without_seconds(resumed)


def test_a_model_is_saved_with_its_tables(tmp_path: Path) -> None:
    model = make_model()
    pt.Trainer(model).fit(rows_in_memory(), epochs=1, progress=False)
    model.save(tmp_path / "model.safetensors")
    back = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    assert same_bits(model.state_dict(), back.state_dict())
    assert back.inputs.sparse == [False, True, True]
    assert back.inputs.categorical == [7, pt.Bag(40, 4), 300]
    x, _ = batch(1)
    for name, value in model.predict(x).items():
        np.testing.assert_array_equal(back.predict(x)[name], value)


def test_large_tables_are_sparse_by_themselves() -> None:
    inputs = pt.Inputs(categorical=[99_999, 100_000, pt.Bag(200_000, 2)], embedding=1)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("a"), pt.Task("b")], encoder=pt.encoder.MLP([4]))
    codes = np.array([[5, 5, 5, -1], [6, 6, -1, -1]])
    names, _ = model._core.gradients(model.reader.rows((codes, {"a": [1.0, 2.0], "b": [0.0, 1.0]})).core(), "jacobian")
    assert [name for name in names if name.startswith("embedding")] == ["embedding.0.weight"]
    assert model.state_dict()["embedding.2.weight"].std() == pytest.approx(1.0, rel=0.01)


def test_streams_and_predictions_take_bags_too() -> None:
    model = make_model()
    pt.Trainer(model).fit([batch(step) for step in range(4)], epochs=2, progress=False)
    predicted = model.predict(iter([batch(step)[0] for step in range(4)]))
    assert all(np.isfinite(value).all() and len(value) == 4 * ROWS for value in predicted.values())


WRONG: list[tuple[int, int, str]] = [
    (0, 7, r"should hold codes from 0 to 6 in column 0; got 7 at row 2"),
    (0, -1, r"should hold codes from 0 to 6 in column 0; got -1 at row 2"),
    (2, 40, r"should hold codes from 0 to 39, or -1 for none, in column 2; got 40 at row 2"),
    (2, -2, r"should hold codes from 0 to 39, or -1 for none, in column 2; got -2 at row 2"),
    (5, 300, r"should hold codes from 0 to 299 in column 5; got 300 at row 2"),
]


@pytest.mark.parametrize(("column", "code", "message"), WRONG)
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_wrong_codes_are_named(column: int, code: int, message: str, dtype: Any) -> None:
    x, ys = batch(0)
    codes = x["categorical"].astype(dtype)
    model = make_model()
    assert all(np.isfinite(p).all() for p in model.predict({**x, "categorical": codes}).values())
    codes[2, column] = code
    with pytest.raises(ValueError, match=message):
        pt.Trainer(model).step(({**x, "categorical": codes}, ys))


def test_every_type_of_codes_means_the_same() -> None:
    x, _ = batch(0)
    model = make_model()
    want = model.predict(x)["t0"]
    for dtype in (np.int16, np.int32, np.float32, np.float64):
        np.testing.assert_array_equal(model.predict({**x, "categorical": x["categorical"].astype(dtype)})["t0"], want)


def test_wrong_arguments_are_named() -> None:
    x, _ = batch(0)
    with pytest.raises(ValueError, match=r"should have shape \[24, 6\]; got \[24, 5\]"):
        make_model().predict({**x, "categorical": x["categorical"][:, :5]})
    with pytest.raises(ValueError, match='`combine` should be "mean" or "sum"; got \'max\''):
        pt.Bag(5, 2, "max")
    with pytest.raises(ValueError, match="`length` should be a whole number of at least 1; got 0"):
        pt.Bag(5, 0)
    with pytest.raises(ValueError, match="`sparse` should have a bool for each of 1 features"):
        pt.Inputs(categorical=[5], sparse=[True, False])
    with pytest.raises(TypeError, match="`sparse` should be \"auto\", True, False or a list of bools; got 'yes'"):
        pt.Inputs(categorical=[5], sparse="yes")
    with pytest.raises(TypeError, match=r"`categorical` should be a list of numbers of categories or pt\.Bag"):
        pt.Inputs(categorical=pt.Bag(5, 2))  # type: ignore[arg-type]


def films(library: Any = pd) -> Any:
    genres: list[Any] = ["drama|war", "", "comedy", "drama|comedy|art", None, "war|drama"] * 4
    tags = [["a", "b"], ["b"], [], ["a"], ["c", "a"], ["b", "c"]] * 4
    year = [1990.0, 2001, 2002, 2003, 2010, 1985] * 4
    return library.DataFrame(
        {"year": year, "genres": genres, "tags": tags, "country": ["x", "y"] * 12, "liked": [0, 1] * 12}
    )


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_with_bags_train_and_predict(library: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = films(library)
    inputs = pt.Inputs.from_frame(frame, bags=["genres", "tags"], bins=3, exclude=["liked"], embedding=3)
    assert inputs.categorical[:3] == [3, pt.Bag(5, 3), pt.Bag(4, 2)]
    tasks = [pt.Task("liked", classes=2)]
    numeric, codes = inputs.transform(frame, tasks, "`frame`")
    assert numeric is not None
    assert codes is not None
    assert codes.shape == (24, 1 + 3 + 2 + 1)
    assert inputs.code_columns == 7
    # Codes from 1 in alphabetical order: art, comedy, drama, war; a, b, c.
    assert codes[0, 1:6].tolist() == [3, 4, -1, 1, 2]
    assert codes[1, 1:6].tolist() == [-1, -1, -1, 2, -1]
    assert codes[3, 1:6].tolist() == [3, 2, 1, 1, -1]
    assert codes[4, 1:4].tolist() == [-1, -1, -1]
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([8]))
    pt.Trainer(model, lr=0.05).fit(frame, epochs=40, progress=False)
    model.save(tmp_path / "films.safetensors")
    back = pt.MultiTaskModel.load(tmp_path / "films.safetensors")
    later = library.DataFrame(
        {
            "year": [1999.0, 2000.0],
            "genres": ["opera|war", "war|drama|art|comedy|opera"],
            "tags": [["z"], ["a", "b", "c"]],
            "country": ["x", "z"],
        }
    )
    with caplog.at_level(logging.WARNING, logger="polytask"):
        _, codes = back.inputs.transform(later, tasks, "`x`")
        predicted = back.predict(later)["liked"]
    assert codes is not None
    assert codes[:, 1:4].tolist() == [[0, 4, -1], [4, 3, 1]]
    assert codes[:, 4:6].tolist() == [[0, -1], [1, 2]]
    assert any("column `genres` has 1 rows with more than 3 values" in record.getMessage() for record in caplog.records)
    np.testing.assert_array_equal(predicted, model.predict(later)["liked"])
    assert predicted.shape == (2, 2)


def test_bags_of_sets_and_tuples_and_their_own_separator() -> None:
    frame = pd.DataFrame({"a": [{"x", "y"}, {"y"}, set()], "b": [(1, 2), (3,), (2, 2)], "c": ["p;q", "q", "p"]})
    inputs = pt.Inputs.from_frame(frame, bags=["a", "b", "c"], separator=";", combine="sum", min_count=1)
    assert inputs.categorical == [pt.Bag(3, 2, "sum"), pt.Bag(4, 2, "sum"), pt.Bag(3, 2, "sum")]
    _, codes = inputs.transform(frame, [], "`frame`")
    assert codes is not None
    assert codes.tolist() == [[1, 2, 1, 2, 1, 2], [2, -1, 3, -1, 2, -1], [-1, -1, 2, 2, 1, -1]]


def test_wrong_bags_are_named() -> None:
    frame = films()
    with pytest.raises(
        TypeError, match=r"column `tags` holds several values a row, as \['a', 'b'\]; name it in `bags`"
    ):
        pt.Inputs.from_frame(frame)
    with pytest.raises(ValueError, match="`bags`: the frame has no column 'genre'"):
        pt.Inputs.from_frame(frame, bags=["genre"])
    with pytest.raises(TypeError, match="`bags` should be a list of columns; got 'genres'"):
        pt.Inputs.from_frame(frame, bags="genres")
    with pytest.raises(ValueError, match="`bags`: column 'genres' is among the numeric or categorical columns too"):
        pt.Inputs.from_frame(frame, bags=["genres"], categorical=["genres"])
    with pytest.raises(TypeError, match=r"column `year` should hold lists, tuples, sets or strings; got 1990\.0"):
        pt.Inputs.from_frame(frame, bags=["year", "tags"])


def test_columns_of_targets_leave_their_settings_behind() -> None:
    frame = films()
    inputs = pt.Inputs.from_frame(
        frame,
        categorical=["country", "liked"],
        numeric=[],
        bags=["genres"],
        embedding=[1, 2, 3],
        sparse=[True, False, True],
    )
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("liked", classes=2)])
    assert model.inputs.embedding == [1, 3]
    assert model.inputs.sparse == [True, True]
