"""Freezing, more tasks, fewer tasks, another model's encoder."""

import logging

import numpy as np
import polytask as pt
import pytest
from conftest import make_model, make_tasks, same_bits

QUIET = {"batch_size": 32, "progress": False, "train_metrics": False}


def below(state, *paths):
    return {name: values for name, values in state.items() if name.startswith(paths)}


@pytest.mark.parametrize("optimizer", [pt.optim.AdamW(lr=0.01, weight_decay=0.1), pt.optim.SGD(lr=0.01, momentum=0.9)])
def test_what_is_frozen_keeps_its_bits(data, optimizer):
    encoder = pt.encoder.MLP([16, 8], dropout=0.1, norm="batch")
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=encoder)
    trainer = pt.Trainer(model, optimizer, regularizers=["l1", "l2"], clip_norm=1.0)
    trainer.fit(data.whole, epochs=2, **QUIET)  # moments and momentum are moving
    model.freeze("encoder.0", "heads.income")
    before = model.state_dict()
    trainer.fit(data.whole, epochs=2, **QUIET)
    after = model.state_dict()
    assert same_bits(below(after, "encoder.0.", "heads.income."), below(before, "encoder.0.", "heads.income."))
    assert not any(np.array_equal(after[name], before[name]) for name in below(before, "encoder.1.", "heads.age."))
    model.unfreeze("encoder.0")
    trainer.fit(data.whole, epochs=1, **QUIET)
    assert not np.array_equal(model.state_dict()["encoder.0.weight"], before["encoder.0.weight"])
    assert np.array_equal(model.state_dict()["heads.income.weight"], before["heads.income.weight"])


def test_paths_are_whole_names_and_lists_say_what_is_frozen():
    model = make_model()
    assert model.frozen == []
    model.freeze("encoder.1", "heads.age.bias")
    assert model.frozen == ["encoder.1.weight", "encoder.1.bias", "heads.age.bias"]
    model.unfreeze("encoder")
    assert model.frozen == ["heads.age.bias"]
    model.freeze()
    assert set(model.frozen) == set(model.state_dict())
    model.unfreeze()
    assert model.frozen == []
    with pytest.raises(ValueError, match=r"`freeze`: no parameter is called \"enc\"; .* begin with `encoder`, `heads`"):
        model.freeze("heads", "enc")
    assert model.frozen == []
    with pytest.raises(TypeError, match='strings such as "encoder"; got 1'):
        model.unfreeze(1)


def test_nothing_to_train_is_said_at_once(data, model):
    model.freeze()
    trainer = pt.Trainer(model)
    with pytest.raises(ValueError, match="all parameters of the model are frozen"):
        trainer.fit(data.whole, epochs=1, **QUIET)
    model.unfreeze("heads")
    trainer.fit(data.whole, epochs=1, **QUIET)
    assert trainer.epochs == 1


def test_clipping_and_regularizers_see_only_what_learns(data):
    model = make_model()
    model.freeze("encoder")
    before = model.state_dict()
    trainer = pt.Trainer(model, pt.optim.SGD(lr=1.0), clip_norm=1e-3, regularizers=["l1"])
    trainer.step((data.x, data.targets))
    moved = [after - before[name] for name, after in model.state_dict().items()]
    assert np.sqrt(sum((each**2).sum(dtype=np.float64) for each in moved)) == pytest.approx(1e-3, rel=1e-3)
    free, penalised = (pt.Trainer(model, pt.optim.SGD(lr=0.0), regularizers=each) for each in ([], ["l1"]))
    free, penalised = (t.fit(data.whole, epochs=1, **QUIET)[-1]["loss"] for t in (free, penalised))
    heads = [values for name, values in model.state_dict().items() if name.startswith("heads") and "weight" in name]
    strength = pt.regularizer.L1().strength
    assert penalised - free == pytest.approx(strength * sum(np.abs(w).sum() for w in heads), rel=1e-3)


@pytest.mark.parametrize("regularizer", [pt.regularizer.MeanRegularized(1.0), pt.regularizer.TaskRelation(0.1)])
def test_tasks_may_be_drawn_to_a_frozen_one(data, regularizer):
    def gaps(regularizers):
        tasks = [pt.Task("old"), pt.Task("new")]
        model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([4]), sharing="soft")
        model.parameters()["encoders.new.0.weight"][:] += 2
        model.freeze("encoders.old", "heads.old")
        before = model.state_dict()
        trainer = pt.Trainer(model, pt.optim.SGD(lr=0.01), regularizers=regularizers)
        trainer.fit((data.x, {"new": data.age}), epochs=100, **QUIET)
        after = model.state_dict()
        assert same_bits(below(after, "encoders.old", "heads.old"), below(before, "encoders.old", "heads.old"))
        return [np.abs(s["encoders.new.0.weight"] - s["encoders.old.0.weight"]).mean() for s in (before, after)]

    far, near = gaps([regularizer])
    assert near < 0.6 * far
    assert near < 0.7 * gaps([])[1]


def test_frozen_batch_norms_normalise_with_what_they_know(data):
    model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=pt.encoder.MLP([16], norm="batch"))
    pt.Trainer(model).fit(data.whole, epochs=1, **QUIET)
    model.freeze("encoder")
    model.freeze("heads.income", "heads.topics")
    before, raw = model.state_dict(), model.predict(data.x, raw=True)["age"][:32]
    report = pt.Trainer(model).step((data.x[:32], {"age": data.age[:32]}))
    assert report["age/loss"] == pytest.approx(float(((raw.ravel() - data.age[:32]) ** 2).mean()), rel=1e-5)
    assert same_bits(below(model.state_dict(), "encoder"), below(before, "encoder"))


@pytest.mark.parametrize("sharing", ["hard", "soft", "mmoe", "cgc"])
def test_parts_of_any_scheme_can_be_frozen(data, sharing):
    model = make_model(sharing=sharing)
    parts = {"hard": "encoder.0", "soft": "encoders.income", "mmoe": "experts.1", "cgc": "gates.age"}
    path = next(name for name in model.state_dict() if name.startswith(parts[sharing])).rsplit(".", 1)[0]
    model.freeze(path)
    before = model.state_dict()
    for weighting in ("equal", "mgda"):
        pt.Trainer(model, weighting=weighting, lr=0.01).fit(data.whole, epochs=1, **QUIET)
    kept = [name for name, values in model.state_dict().items() if np.array_equal(values, before[name])]
    assert kept == model.frozen == [f"{path}.weight", f"{path}.bias"]


def test_gradient_methods_say_that_nothing_shared_is_left(data, model):
    model.freeze("encoder")
    for weighting in ("upgrad", pt.weighting.MGDA(at="representation")):
        with pytest.raises(ValueError, match="gradients of shared parameters; all of this model's are frozen"):
            pt.Trainer(model, weighting=weighting)
    model.unfreeze("encoder.1")
    before = model.state_dict()
    for weighting in ("upgrad", "moco", pt.weighting.MGDA(at="representation"), pt.weighting.CAGrad(per="layer")):
        pt.Trainer(model, weighting=weighting).fit(data.whole, epochs=1, **QUIET)
    after = model.state_dict()
    assert same_bits(below(after, "encoder.0."), below(before, "encoder.0."))
    assert not np.array_equal(after["encoder.1.weight"], before["encoder.1.weight"])


@pytest.mark.parametrize("weighting", ["moco", "upgrad", "gradnorm", "uncertainty"])
def test_a_running_trainer_notices_and_goes_on(data, model, weighting):
    trainer = pt.Trainer(model, weighting=weighting, observe=["weights", "gradients"])
    trainer.fit(data.whole, epochs=1, **QUIET)
    model.freeze("encoder.0")
    frozen = model.state_dict()["encoder.0.weight"]
    trainer.fit(data.whole, epochs=1, **QUIET)
    assert np.array_equal(model.state_dict()["encoder.0.weight"], frozen)
    model.unfreeze()
    trainer.fit(data.whole, epochs=1, **QUIET)
    assert not np.array_equal(model.state_dict()["encoder.0.weight"], frozen)
    assert trainer.epochs == 3


def test_models_keep_what_is_frozen_in_their_files(model, tmp_path):
    model.freeze("encoder.0", "heads.age")
    model.save(tmp_path / "m.safetensors")
    assert pt.MultiTaskModel.load(tmp_path / "m.safetensors").frozen == model.frozen


class Thaw(pt.Callback):
    """Unfreezes the encoder after two epochs."""

    def on_epoch_end(self, trainer, row):
        if trainer.epochs == 2:
            trainer.model.unfreeze("encoder")


@pytest.mark.parametrize("after", [1, 3])
def test_a_checkpoint_brings_back_what_is_frozen(data, tmp_path, after):
    def trainer():
        model = make_model()
        model.freeze("encoder")
        return pt.Trainer(model, pt.optim.AdamW(lr=0.01), callbacks=[Thaw()], clip_norm=1.0)

    want = trainer()
    want.fit(data.whole, epochs=4, **QUIET)
    first = trainer()
    first.fit(data.whole, epochs=after, **QUIET)
    first.save(tmp_path / "c.safetensors")
    second = trainer()
    second.restore(tmp_path / "c.safetensors")
    assert second.model.frozen == first.model.frozen
    assert bool(second.model.frozen) == (after == 1)
    second.fit(data.whole, epochs=4 - after, **QUIET)
    assert same_bits(second.model.state_dict(), want.model.state_dict())


@pytest.mark.parametrize("sharing", ["hard", "soft", "mmoe", "cgc"])
def test_a_task_more_leaves_the_others_as_they_were(data, sharing, caplog):
    model = make_model(sharing=sharing)
    pt.Trainer(model).fit(data.whole, epochs=1, **QUIET)
    model.freeze("heads.age")
    before = model.state_dict()
    with caplog.at_level(logging.INFO, "polytask"):
        wider = model.add_task(pt.Task("later", loss="binary_cross_entropy"))
    assert "add_task('later'): " in caplog.text
    assert "`heads.later.weight`, `heads.later.bias` start fresh, the rest is copied" in caplog.text
    assert [task.name for task in wider.tasks] == ["income", "age", "topics", "later"]
    assert wider.frozen == model.frozen
    assert same_bits({name: wider.state_dict()[name] for name in before}, before)
    assert same_bits(model.state_dict(), before)
    for name, predicted in model.predict(data.x).items():
        np.testing.assert_allclose(wider.predict(data.x)[name], predicted, rtol=1e-6, atol=1e-6)
    back = wider.remove_task("later")
    assert same_bits(back.state_dict(), before)
    for name, predicted in model.predict(data.x).items():
        np.testing.assert_array_equal(back.predict(data.x)[name], predicted)


def test_a_new_task_on_a_frozen_trunk_costs_the_others_nothing(data, model):
    pt.Trainer(model).fit(data.whole, epochs=2, **QUIET)
    wider = model.add_task(pt.Task("sign", loss="binary_cross_entropy", metrics=["auroc"]))
    wider.freeze()
    wider.unfreeze("heads.sign")
    sign = (data.x[:, 0] > 0).astype(np.float32)
    before = wider.predict(data.x)
    history = pt.Trainer(wider, lr=0.05).fit((data.x, {"sign": sign}), epochs=10, **QUIET)
    assert history[-1]["sign/loss"] < 0.95 * history[0]["sign/loss"]
    for task in model.tasks:
        np.testing.assert_array_equal(wider.predict(data.x)[task.name], before[task.name])
        np.testing.assert_allclose(before[task.name], model.predict(data.x)[task.name], rtol=1e-6, atol=1e-6)


def test_class_weights_and_python_losses_come_along(data):
    def squared(outputs, targets):
        return (outputs - targets) ** 2

    tasks = [
        pt.Task("income", classes=2, loss=pt.loss.CrossEntropy(class_weights="balanced")),
        pt.Task("age", loss=squared),
    ]
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([4]))
    labels = (np.arange(160) % 4 == 0).astype(int)
    targets = {"income": labels, "age": data.age}
    pt.Trainer(model).fit((data.x, targets), epochs=1, **QUIET)
    wider = model.add_task(pt.Task("later"))
    want, got = (pt.Trainer(each).evaluate((data.x, targets)) for each in (model, wider))
    assert got["income"]["loss"] == pytest.approx(want["income"]["loss"], rel=1e-6)
    assert got["age"]["loss"] == pytest.approx(want["age"]["loss"], rel=1e-6)
    pt.Trainer(wider).fit((data.x, {**targets, "later": data.age}), epochs=1, **QUIET)


def test_tasks_that_cannot_be_added_or_removed(model):
    with pytest.raises(ValueError, match="every task needs a name of its own"):
        model.add_task(pt.Task("age"))
    with pytest.raises(TypeError, match=r"list of pt.Task; got 'age'"):
        model.add_task("age")
    with pytest.raises(ValueError, match=r"unknown task 'ages'; did you mean `age`\? the model has"):
        model.remove_task("ages")
    with pytest.raises(ValueError, match="needs at least one task; 'age' is its last"):
        model.remove_task("income").remove_task("topics").remove_task("age")


def test_a_column_is_a_feature_or_a_target():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 2.0], "y": [1.0, 2.0, 3.0]})
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame), tasks=[pt.Task("y")])
    with pytest.raises(ValueError, match="column `b` is a feature of this model"):
        model.add_task(pt.Task("b"))
    frame["z"] = [1.0, 1.0, 0.0]
    assert model.add_task(pt.Task("z")).predict(frame).keys() == {"y", "z"}


def test_another_models_encoder_is_taken_over(data, model, tmp_path):
    pt.Trainer(model).fit(data.whole, epochs=1, **QUIET)
    model.save(tmp_path / "m.safetensors")
    for source in (model, tmp_path / "m.safetensors", str(tmp_path / "m.safetensors")):
        other = pt.MultiTaskModel(8, tasks=[pt.Task("new")], encoder=pt.encoder.MLP([16, 8]), seed=3)
        head = below(other.state_dict(), "heads")
        report = other.start_from(source, "encoder")
        assert report == ([], [])
        assert same_bits(below(other.state_dict(), "encoder"), below(model.state_dict(), "encoder"))
        assert same_bits(below(other.state_dict(), "heads"), head)


def test_what_finds_no_match_is_reported_or_refused(model):
    deeper = pt.MultiTaskModel(8, tasks=[pt.Task("age")], encoder=pt.encoder.MLP([16, 4, 2]), seed=3)
    report = deeper.start_from(model)
    assert report.missing == [
        "encoder.1.weight", "encoder.1.bias", "encoder.2.weight", "encoder.2.bias", "heads.age.weight",
    ]  # fmt: skip
    assert "heads.income.weight" in report.unexpected
    assert np.array_equal(deeper.state_dict()["encoder.0.weight"], model.state_dict()["encoder.0.weight"])
    before = deeper.state_dict()
    with pytest.raises(ValueError, match=r"nothing of the names and shapes .*: `encoder.2.weight` \[2, 4\]"):
        deeper.start_from(model, "encoder.2")
    with pytest.raises(ValueError, match=r"no parameter is called \"trunk\"; names begin with `encoder`, `heads`"):
        deeper.start_from(model, "encoder", "trunk")
    with pytest.raises(TypeError, match="or the path of one; got int"):
        deeper.start_from(3)
    with pytest.raises(FileNotFoundError):
        deeper.start_from("nowhere.safetensors")
    assert same_bits(deeper.state_dict(), before)


def test_the_summary_counts_what_is_shared_own_and_saved():
    model = make_model(head=pt.head.Tower(4))
    model.freeze("encoder.0", "heads.age")
    summary = model.summary()
    sizes = {name: values.size for name, values in model.state_dict().items()}
    own = {task.name: sum(below(sizes, f"heads.{task.name}.").values()) for task in model.tasks}
    assert summary.parameters == sum(sizes.values())
    assert summary.shared == sum(below(sizes, "encoder.").values())
    assert summary.tasks == own
    assert summary.frozen == sum(sizes[name] for name in model.frozen)
    alone = [
        pt.MultiTaskModel(8, tasks=[t], encoder=pt.encoder.MLP([16, 8]), head=pt.head.Tower(4)) for t in make_tasks()
    ]
    assert summary.single_task == sum(sum(v.size for v in m.state_dict().values()) for m in alone)
    assert summary.layers[0] == {
        "path": "encoder.0", "kind": "Linear", "shape": "rows x 16", "tasks": "all", "parameters": 144, "frozen": 144,
    }  # fmt: skip
    towers = next(layer for layer in summary.layers if layer["path"] == "heads.*.0")
    assert (towers["shape"], towers["tasks"]) == ("3 x rows x 4", "each its own")
    ratio = summary.single_task / summary.parameters
    want = f"3 single-task networks would need {summary.single_task:,} parameters ({ratio:.2f} x)"
    assert repr(summary).endswith(want)
    assert summary._repr_html_().endswith(f"{want}</p>")


def test_the_summary_of_every_scheme_adds_up():
    for sharing in ("hard", "soft", "mmoe", "omoe", "cgc", "ple", "cross_stitch"):
        model = make_model(sharing=sharing)
        summary = model.summary()
        assert summary.parameters == sum(values.size for values in model.parameters().values())
        assert summary.parameters == sum(layer["parameters"] for layer in summary.layers)
        assert summary.single_task == make_model().summary().single_task


def dotted(*names, seed=0, **more):
    """A model whose tasks' names begin with one another at a dot."""
    encoder = pt.encoder.MLP([4])
    return pt.MultiTaskModel(8, tasks=[pt.Task(name) for name in names], encoder=encoder, seed=seed, **more)


def test_a_task_is_not_below_one_whose_name_begins_its_own(data):
    model = dotted("SR", "SR.p53", head=pt.head.Tower([3]))
    model.freeze("heads.SR")
    assert {path.rsplit(".", 2)[0] for path in model.frozen} == {"heads.SR"}
    before = model.state_dict()
    targets = {"SR": data.age, "SR.p53": data.age}
    pt.Trainer(model, lr=0.01).fit((data.x, targets), epochs=1, **QUIET)
    moved = {name for name, values in model.state_dict().items() if not np.array_equal(values, before[name])}
    assert moved & set(model.frozen) == set()
    assert {name for name in moved if name.startswith("heads")} == set(below(before, "heads.SR.p53."))
    with pytest.raises(ValueError, match=r"no parameter is called \"heads.SR.p5\""):
        model.freeze("heads.SR.p5")
    model.freeze("heads.SR.p53.0")
    assert "heads.SR.p53.0.weight" in model.frozen
    assert "heads.SR.p53.1.weight" not in model.frozen


def test_a_learning_rate_of_a_task_is_not_that_of_one_whose_name_it_begins(data):
    def moved(lr):
        model = dotted("SR", "SR.p53", sharing="soft")
        before = model.state_dict()
        pt.Trainer(model, pt.optim.SGD(lr=lr)).step((data.x, data.age, data.age))
        return {name for name, values in model.state_dict().items() if not np.array_equal(values, before[name])}

    state = dotted("SR", "SR.p53", sharing="soft").state_dict()
    assert moved({"heads.SR": 0.1, "default": 0.0}) == set(below(state, "heads.SR.")) - set(below(state, "heads.SR.p"))
    assert moved({"encoders.SR.p53": 0.1, "default": 0.0}) == set(below(state, "encoders.SR.p53."))


def test_starting_from_a_task_leaves_one_whose_name_it_begins(data):
    model, other = dotted("SR", "SR.p53"), dotted("SR", "SR.p53", "new.one", seed=1)
    before, theirs = model.state_dict(), other.state_dict()
    assert model.start_from(other, "heads.SR", "encoder") == ([], [])
    after = model.state_dict()
    assert same_bits(below(after, "encoder", "heads.SR.weight"), below(theirs, "encoder", "heads.SR.weight"))
    assert same_bits(below(after, "heads.SR.p53"), below(before, "heads.SR.p53"))
    with pytest.raises(
        ValueError,
        match=r"`start_from`: no parameter is called \"head\"; did you mean `heads`. names begin with `encoder`",
    ):
        model.start_from(other, "head")
    grown = dotted("SR")
    grown.freeze("heads.SR")
    assert grown.add_task(pt.Task("SR.p53")).frozen == ["heads.SR.weight", "heads.SR.bias"]


def test_a_regularizer_on_a_task_leaves_one_whose_name_it_begins(data):
    model = dotted("SR", "SR.p53", sharing="soft")
    state = model.state_dict()
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.0), regularizers=[pt.regularizer.L1(1.0, on="heads.SR")])
    free = pt.Trainer(dotted("SR", "SR.p53", sharing="soft"), pt.optim.SGD(lr=0.0))
    batch = (data.x, data.age, data.age)
    added = trainer.step(batch)["loss"] - free.step(batch)["loss"]
    assert added == pytest.approx(np.abs(state["heads.SR.weight"]).sum(), rel=1e-4)
    # Stacks of tasks are found by whole names too.
    same = [pt.Trainer(dotted(*names, sharing="soft"), regularizers=["mean_regularized"]).step(batch)["loss"]
            for names in (("SR", "SR.p53"), ("a", "b"))]  # fmt: skip
    assert same[0] == pytest.approx(same[1], rel=1e-6)
    with pytest.raises(
        ValueError,
        match=r"no weight is called \"heads.SR.p5\"; did you mean `heads.SR.p53`. names begin with `encoders`, `heads`",
    ):
        pt.Trainer(model, regularizers=[pt.regularizer.L1(1.0, on="heads.SR.p5")])


def test_a_summary_has_one_line_for_heads_of_dotted_names():
    assert "heads.*" in repr(dotted("a.b.c", "d").summary())
    with pytest.raises(ValueError, match=r"a task needs a name without `/` and U\+001F"):
        dotted("a\x1fb")


@pytest.mark.parametrize("sharing", ["cross_stitch", "nddr", "ltb"])
def test_weights_whose_number_follows_from_the_tasks_start_fresh_and_that_is_said(data, sharing, caplog):
    model = make_model(sharing=sharing)
    wider = model.add_task(pt.Task("later"))
    assert "start fresh, so that the tasks which were there predict otherwise" in caplog.text
    assert caplog.text.count("WARNING") == 1
    caplog.clear()
    wider.remove_task("later")
    assert "remove_task('later'): " in caplog.text
