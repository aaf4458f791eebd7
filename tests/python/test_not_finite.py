"""What is not a number is not hidden: broken parameters show in predictions, and training refuses them."""

import numpy as np
import polytask as pt
import pytest

#: Schemes that choose a branch by their parameters: what is no number there is not chosen.
CHOOSING = {"ltb": "branching"}
ACTIVATIONS = ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"]
SCHEMES = [
    "hard", "soft", "branched", "ltb", "cross_stitch", "sluice", "nddr", "omoe", "mmoe", "dselect_k", "cgc", "ple",
]  # fmt: skip


def rows(n=32):
    x = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    return x, {"a": x[:, 0].copy(), "b": x[:, 1].copy()}


def model(**more):
    return pt.MultiTaskModel(5, tasks=[pt.Task("a"), pt.Task("b")], **more)


def broken(made, path):
    made.parameters()[path].reshape(-1)[0] = np.nan
    return made


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("part", ["encoder.0.weight", "encoder.0.bias", "heads.a.weight"])
def test_it_passes_activations(activation, part):
    made = broken(model(encoder=pt.encoder.MLP([8, 4], activation=activation)), part)
    assert np.isnan(made.predict(rows()[0])["a"]).any()
    with pytest.raises(ValueError, match="the loss of task `a` is NaN"):
        pt.Trainer(made).step(rows())


@pytest.mark.parametrize("sharing", SCHEMES)
def test_it_passes_schemes(sharing):
    encoder = pt.encoder.MLP([8, 8])
    paths = list(model(encoder=encoder, sharing=sharing).parameters().keys())
    for path in paths:
        if CHOOSING.get(sharing, "\0") in path:
            continue
        predicted = broken(model(encoder=encoder, sharing=sharing), path).predict(rows()[0])
        assert any(np.isnan(values).any() for values in predicted.values()), path
