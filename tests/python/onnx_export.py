"""What `to_torch` gives goes through ONNX: `make test-onnx`, which installs what that needs."""

import onnxruntime
import polytask as pt
import pytest
import torch
from test_to_torch import SHARINGS, apart, every_loss, features, flat, inputs, make, sentences, tagger

# The exporter warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")
FOLLOWS = 1e-5


def session(model, given, path):
    """The model's module as a program of ONNX for any number of rows, which knows its inputs and tasks by name."""
    program = torch.onnx.export(
        model.to_torch(),
        kwargs=given,
        dynamo=True,
        dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC} for name in given},
        output_names=[task.name for task in model.tasks],
        verbose=False,
    )
    program.save(path)
    return onnxruntime.InferenceSession(path)


def predicted(program, given):
    names = [output.name for output in program.get_outputs()]
    return dict(zip(names, program.run(None, {name: x.numpy() for name, x in given.items()}), strict=True))


@pytest.mark.parametrize("sharing", SHARINGS)
def test_every_scheme(sharing, tmp_path):
    model = make(SHARINGS[sharing])
    program = session(model, model.tensors(features()), tmp_path / "model.onnx")
    for rows in (7, 100):
        x = features(rows, seed=rows)
        assert apart(predicted(program, model.tensors(x)), model.predict(x)) < FOLLOWS


def test_every_loss(tmp_path):
    model = make(tasks=every_loss())
    x = features()
    program = session(model, model.tensors(x), tmp_path / "model.onnx")
    assert apart(predicted(program, model.tensors(x)), model.predict(x)) < FOLLOWS


@pytest.mark.parametrize("scale", ["standardize", "quantile", "log1p"])
def test_units_of_targets(scale, tmp_path):
    model = pt.MultiTaskModel(inputs(), tasks=[pt.Task("a", scale=scale), pt.Task("b")], seed=1)
    x = features()
    y = x["numeric"][:, 0] ** 2
    pt.Trainer(model).fit((x, y, y), epochs=1, progress=False)
    program = session(model, model.tensors(x), tmp_path / "model.onnx")
    assert apart(predicted(program, model.tensors(x)), model.predict(x)) < FOLLOWS


@pytest.mark.parametrize("pool", ["mean", "sum", "max", "attention"])
def test_positions(pool, tmp_path):
    model = tagger(pt.encoder.Window([8, 8], radius=2, pool=pool))
    program = session(model, model.tensors(sentences(12)), tmp_path / "model.onnx")
    x = sentences(5, seed=1)
    assert apart(predicted(program, model.tensors(x)), flat(model.predict(x))) < FOLLOWS
