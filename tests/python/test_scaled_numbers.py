"""Numbers of a frame: their scales, and indicators of missing ones."""

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from scipy import stats
from sklearn.preprocessing import QuantileTransformer


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    wage = np.exp(2 * rng.normal(size=300))
    age = rng.integers(18, 80, 300).astype(float)
    age[::10] = np.nan
    return pd.DataFrame({"wage": wage, "age": age, "y": rng.integers(0, 2, 300)})


def made(frame, **how):
    inputs = pt.Inputs.from_frame(frame, exclude=["y"], indicators=True, **how)
    return inputs, inputs.columns.transform(frame, "`x`")[0]


def test_standard_numbers_and_where_they_are_missing(frame):
    inputs, x = made(frame)
    assert inputs.numeric == 3
    assert x.shape == (300, 3)
    known = frame["age"].notna().to_numpy()
    np.testing.assert_array_equal(x[:, 2], ~known)
    np.testing.assert_allclose(x[known, 1], stats.zscore(frame["age"][known]), rtol=1e-5, atol=1e-6)
    assert (x[~known, 1] == 0).all()
    assert "whether missing: `age`" in repr(inputs)
    for plain in (pt.Inputs.from_frame(frame.dropna(), exclude=["y"], indicators=True), pt.Inputs.from_frame(frame)):
        assert "whether missing" not in repr(plain)
    assert pt.Inputs.from_frame(frame, exclude=["y"]).numeric == 2, "unless they are asked for"


def test_a_number_that_is_missing_later_alone_is_the_mean(frame):
    inputs, _ = made(frame.dropna())
    assert inputs.numeric == 2
    assert inputs.columns.transform(frame.iloc[:1], "`x`")[0][0, 1] == 0


def test_robust_numbers_care_little_for_few_large_ones(frame):
    _, x = made(frame, numbers="robust")
    wage = frame["wage"].to_numpy()
    low, middle, high = np.quantile(wage, [0.25, 0.5, 0.75])
    expected = (wage - middle) / ((high - low) / (stats.norm.ppf(0.75) - stats.norm.ppf(0.25)))
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-5)


def test_quantiles_are_normal_and_those_of_scikit_learn(frame):
    inputs, x = made(frame, numbers="quantile")
    assert np.abs(np.sort(x[:, 0]) - stats.norm.ppf((np.arange(300) + 0.5) / 300)).max() < 0.15
    theirs = QuantileTransformer(n_quantiles=257, output_distribution="normal").fit_transform(frame[["wage"]])[:, 0]
    inside = np.abs(theirs) < 2
    np.testing.assert_allclose(x[inside, 0], theirs[inside], atol=0.05)
    # Beyond what was seen it is level.
    further = frame.assign(wage=1e9)
    assert (inputs.columns.transform(further, "`x`")[0][:, 0] == x[:, 0].max()).all()
    assert (x[frame["age"].isna(), 1] == 0).all()
    with pytest.raises(ValueError, match="column `wage` should hold finite numbers"):
        inputs.columns.transform(frame.assign(wage=np.inf), "`x`")


@pytest.mark.parametrize("numbers", ["standard", "robust", "quantile"])
def test_models_keep_them(frame, numbers, tmp_path):
    inputs = pt.Inputs.from_frame(frame, exclude=["y"], numbers=numbers, indicators=True)
    model = pt.MultiTaskModel(inputs, tasks=[pt.Task("y", classes=2)], encoder=pt.encoder.MLP([8]))
    pt.Trainer(model, lr=0.01).fit(frame, epochs=2, progress=False)
    model.save(tmp_path / "m.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(frame)["y"], model.predict(frame)["y"])
    assert loaded.inputs.columns == model.inputs.columns


def test_descriptions_of_earlier_versions_open():
    described = {"numeric": [["age", 3.0, 2.0, []], ["day", 3.0, 2.0, [1.0], "days"]], "categorical": []}
    columns = pt.Inputs.from_frame(pd.DataFrame({"age": [1.0, 2.0]})).columns.restore(described)
    assert [(number.unit, number.edges, number.curve, number.indicator) for number in columns.numbers] == [
        ("", (), (), False),
        ("days", (1.0,), (), False),
    ]
    assert columns.describe()["numeric"] == described["numeric"]


def test_an_unknown_scale_is_named(frame):
    with pytest.raises(ValueError, match=r"`numbers`: unknown scale 'quantil'; did you mean `quantile`\? there are"):
        pt.Inputs.from_frame(frame, numbers="quantil")
