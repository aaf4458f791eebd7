"""Names that people bring from other libraries, and near misses: accepted, or answered with what ours is called."""

import numpy as np
import polytask as pt
import pytest
from conftest import make_model, same_bits


def trainer():
    return pt.Trainer(make_model())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: trainer().fit(None, sample_weight=[1]),
            r"Trainer.fit: unknown argument `sample_weight`; .* `weights`",
        ),
        (lambda: trainer().fit(None, max_steps=3), r"`max_steps`; .*epochs=10\), which a callback's trainer.stop\(\)"),
        (lambda: trainer().fit(None, verbose=0), r"`verbose`; here it is called `progress`"),
        (lambda: trainer().fit(None, max_epochs=3), r"`max_epochs`; here it is called `epochs`"),
        (lambda: trainer().fit(None, eproch=3), r"`eproch`; did you mean `epochs`\?"),
        (
            lambda: pt.Task("a", classes=2, class_weight={0: 1}),
            r'Task: .*pt.loss.CrossEntropy\(class_weights="balanced"',
        ),
        (lambda: pt.Task("a", pos_weight=3.0), r'`pos_weight`; .*pt.loss.BinaryCrossEntropy\(pos_weight="balanced"\)'),
        (lambda: pt.Task("a", sample_weight=3.0), r"`sample_weight`; .*fit\(..., weights=...\) for rows"),
        (lambda: pt.Trainer(make_model(), scheduler="cosine"), r"Trainer: .*`scheduler`; here it is called `schedule`"),
        (
            lambda: pt.Trainer(make_model(), epochs=3),
            r"`epochs`; it is said by pt.Trainer\(...\).fit\(..., epochs=10\)",
        ),
        (lambda: pt.optim.Adam(learning_rate=1.0), r"Adam: .*`learning_rate`; here it is called `lr`"),
        (lambda: pt.weighting.UPGrad(prefrence=1), r"UPGrad: .*`prefrence`; did you mean `preference`\?"),
        (lambda: pt.MultiTaskModel(8, hidden_dim=4), r"`hidden_dim`; here it is called `hidden_size`"),
        (lambda: pt.MultiTaskModel(8, nonsense=4), r"MultiTaskModel: unknown argument `nonsense`; it has `inputs`"),
    ],
)
def test_arguments_of_other_libraries(call, says):
    with pytest.raises(TypeError, match=says):
        call()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pt.Trainer(make_model(), weighting="upgrda"), r'unknown weighting "upgrda"; did you mean `upgrad`\?'),
        (lambda: pt.Task("a", metrics="auorc"), r"unknown metric 'auorc'; did you mean `auroc`\?"),
        (lambda: make_model().freeze("heds"), r"did you mean `heads`\?"),
    ],
)
def test_the_nearest_name_is_suggested(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_the_short_form_by_position_name_and_both():
    first = pt.MultiTaskModel(10, 20, [2, 3, 4]).state_dict()
    for other in [
        pt.MultiTaskModel(10, hidden_size=20, output_sizes=[2, 3, 4]),
        pt.MultiTaskModel(10, 20, output_sizes=[2, 3, 4]),
        pt.MultiTaskModel(input_size=10, hidden_size=20, output_sizes=[2, 3, 4]),
    ]:
        assert same_bits(other.state_dict(), first)
    with pytest.raises(TypeError, match=r"tasks are given by name, `tasks=\[...\]`"):
        pt.MultiTaskModel(10, [pt.Task("a")])
    # Where tasks are given it is the number of features too.
    same = pt.MultiTaskModel(input_size=10, tasks=[pt.Task("a")]).state_dict()
    assert same_bits(same, pt.MultiTaskModel(10, tasks=[pt.Task("a")]).state_dict())
    with pytest.raises(TypeError, match=r"the short form needs .*; `output_sizes` is missing"):
        pt.MultiTaskModel(10, 20)


def test_a_metric_by_name(data):
    """`{name: function}` names a callable as it is to stand in results; the model's own are refused."""
    tasks = [pt.Task("age", metrics=["mae", {"half": lambda p, t: 0.5 * (p - t).abs().mean()}])]
    model = pt.MultiTaskModel(data.x.shape[1], tasks=tasks)
    result = pt.Trainer(model).evaluate((data.x, {"age": data.age}))["age"]
    assert result["half"] == pytest.approx(result["mae"] / 2, rel=1e-5)
    for wrong, error in [({"mae": np.mean}, ValueError), ({3: np.mean}, ValueError), ({"mine": 3}, TypeError)]:
        with pytest.raises(error, match="task `age`"):
            pt.Task("age", metrics=wrong)
