"""Walks the registry: every component is a class with signature, docstring, checks; stubs are not stale."""

import inspect
import pickle
from copy import deepcopy
from pathlib import Path

import numpy as np
import polytask as pt
import pytest
from conftest import Data, make_model
from polytask import _docs, _stubs, registry

FIT = {"epochs": 2, "batch_size": 40, "progress": False}
ALL = [pytest.param(info, id=f"{info['family']}.{info['name']}") for info in registry.REGISTRY]


def class_of(info):
    return getattr(getattr(pt, info["family"]), info["class"])


def test_each_name_is_there_once():
    names = [(info["family"], info["name"]) for info in registry.REGISTRY]
    classes = [(info["family"], info["class"]) for info in registry.REGISTRY]
    assert len(set(names)) == len(set(classes)) == len(names)


@pytest.mark.parametrize("info", ALL)
def test_a_class_with_signature_defaults_and_docstring(info):
    cls = class_of(info)
    made = cls()
    parameters = inspect.signature(cls).parameters
    assert list(parameters) == [each["name"] for each in info["parameters"]]
    for each in info["parameters"]:
        assert getattr(made, each["name"]) == each["default"]
        assert each["name"] in cls.__doc__
        assert each["doc"]
    assert cls.__doc__.startswith(info["doc"])
    assert len(info["doc"]) > 20
    assert repr(made) == f"{info['class']}()"
    assert made == cls()
    assert hash(made) == hash(cls())
    assert cls.__module__ == f"polytask.{info['family']}"
    assert cls.__name__ in getattr(pt, info["family"]).__all__
    assert deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("info", ALL)
def test_arguments_are_checked_when_it_is_made(info):
    cls = class_of(info)
    with pytest.raises(TypeError, match=f"{info['class']}: unknown argument `nonsense`"):
        cls(nonsense=1)
    with pytest.raises(TypeError, match="takes at most"):
        cls(*range(20))
    for each in info["parameters"]:
        word = [] if each["words"].startswith("a string") else ["no such word"]
        for wrong in ({"a": {}}, object(), *word, float("nan"), -1e308, [[]]):
            with pytest.raises((TypeError, ValueError), match=f"`{each['name']}`"):
                cls(**{each["name"]: wrong})
    with pytest.raises(AttributeError, match="not changed after it is made"):
        cls().nonsense = 1


def test_arguments_by_position_and_from_numpy():
    made = pt.encoder.MLP([256, 128], dropout=np.float64(0.5))
    assert made.hidden == [256, 128]
    assert made.dropout == 0.5
    assert made != pt.encoder.MLP([256, 128])
    assert pt.encoder.MLP(np.array([256, 128]), dropout=0.5) == made
    assert repr(made) == "MLP(hidden=[256, 128], dropout=0.5)"
    with pytest.raises(TypeError, match="`hidden` is given twice"):
        pt.encoder.MLP([1], hidden=[1])


def loss_task(name, targets):
    if name in ("cross_entropy", "ordinal"):
        return pt.Task("t", classes=2, loss=name), targets["income"]
    if name in ("binary_cross_entropy", "focal"):
        return pt.Task("t", loss=name, outputs=3), targets["topics"]
    return pt.Task("t", loss=name), np.abs(targets["age"])


@pytest.mark.parametrize("info", ALL)
def test_its_name_as_a_string_is_the_same_as_the_object(info):
    data = Data()

    def trained(chosen):
        family = info["family"]
        if info["name"] in ("tree", "biaffine"):
            inputs = pt.Inputs(positions={"steps": pt.Inputs(numeric=1)})
            task = pt.Task("t", per="pair", classes=["next"], tree=info["name"] == "tree", **{family: chosen})
            model = pt.MultiTaskModel(inputs, tasks=[task], encoder="window")
            x = {"steps": data.x[:, :, np.newaxis]}
            history = pt.Trainer(model).fit((x, [[(0, 1, "next"), (2, 3, "next")]] * len(data.x)), **FIT)
        elif family == "loss":
            of_positions = info["name"] in ("crf", "ranking")
            task, y = loss_task("cross_entropy" if info["name"] == "crf" else info["name"], data.targets)
            x = {"steps": data.x[:, :, np.newaxis]} if of_positions else data.x
            inputs = pt.Inputs(positions={"steps": pt.Inputs(numeric=1)}) if of_positions else 8
            y = np.repeat(y[:, np.newaxis], 8, 1) if of_positions else y
            per = "steps" if of_positions else None
            task = pt.Task("t", loss=chosen, classes=task.classes, outputs=task.outputs, per=per)
            encoder = pt.encoder.Window() if of_positions else None
            model = pt.MultiTaskModel(inputs, tasks=[task], encoder=encoder)
            history = pt.Trainer(model).fit((x, y), **FIT)
        elif family == "sharing":
            # Some schemes are for funnels, whose steps have one binary label each.
            tasks = [pt.Task(name, loss="binary_cross_entropy") for name in ("income", "topic")]
            model = pt.MultiTaskModel(8, tasks=tasks, sharing=chosen)
            history = pt.Trainer(model).fit((data.x, data.income, data.topics[:, 0]), **FIT)
        elif family in ("encoder", "head"):
            # Some encoders are over positions within rows.
            of_positions = info["name"] in ("window", "convolution1d", "recurrent", "transformer")
            inputs = pt.Inputs(positions={"frames": pt.Inputs(numeric=4)}) if of_positions else 8
            x = {"frames": data.x.reshape(-1, 2, 4)} if of_positions else data.x
            model = pt.MultiTaskModel(inputs, tasks=make_model().tasks, **{family: chosen})
            history = pt.Trainer(model).fit((x, data.targets), **FIT)
        else:
            # Towers and the tasks' experts have layers of equal shape, which regularizers compare.
            model = make_model(sharing="cgc", head="tower")
            argument = {"optim": "optimizer", "regularizer": "regularizers"}.get(family, family)
            history = pt.Trainer(model, **{argument: chosen}).fit(data.whole, validation=0.25, **FIT)
        assert np.isfinite(history["loss"]).all()
        return model.state_dict()

    by_name, by_object = trained(info["name"]), trained(class_of(info)())
    assert all(np.array_equal(by_name[name], array) for name, array in by_object.items())


def test_unknown_names_and_other_families_are_refused():
    with pytest.raises(ValueError, match=r'unknown optim "adamm"; did you mean `adam`. there are `sgd`, `adam`'):
        pt.Trainer(make_model(), "adamm")
    with pytest.raises(TypeError, match=r"`schedule` should be one of pt.schedule; got Adam.* of pt.optim"):
        pt.Trainer(make_model(), schedule=pt.optim.Adam())
    with pytest.raises(TypeError, match=r"`encoder` should be one of pt.encoder or its name .*got 3"):
        pt.MultiTaskModel(8, tasks=[pt.Task("a")], encoder=3)
    with pytest.raises(ValueError, match=r"task `a`: .*mean_sqared"):
        pt.Task("a", loss="mean_sqared")


def test_lr_belongs_to_an_optimizer_given_by_name():
    assert pt.Trainer(make_model(), "sgd", lr=0.5)._core.settings["optimizer"]["lr"] == 0.5
    with pytest.raises(TypeError, match=r"`lr` should be given to the optimizer: pt.optim.SGD\(lr=0.5\)"):
        pt.Trainer(make_model(), pt.optim.SGD(), lr=0.5)
    trainer = pt.Trainer(make_model(), pt.optim.AdamW(lr={"encoder": 1e-12, "heads": 1e-2}))
    before = trainer.model.state_dict()
    trainer.fit(Data().whole, **FIT)
    after = trainer.model.state_dict()
    np.testing.assert_allclose(after["encoder.0.weight"], before["encoder.0.weight"], atol=1e-9)
    assert np.abs(after["heads.age.weight"] - before["heads.age.weight"]).max() > 1e-2


def test_class_imbalance_is_balanced_in_memory_and_by_loaders(data):
    rare = (data.x[:, 0] > 1.2).astype(int)
    y = np.where(np.arange(160) < 150, rare, -1)

    def state(form, loss, **task):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("rare", loss=loss, **task)])
        pt.Trainer(model).fit(form, epochs=1, batch_size=160, shuffle=False, progress=False)
        return model.state_dict()["heads.rare.bias"]

    known = y[y >= 0]
    each = [len(known) / (2 * (known == k).sum()) for k in (0, 1)]
    by_hand = state((data.x, y), pt.loss.CrossEntropy(class_weights=each), classes=2)
    for form in ((data.x, y), [(data.x, y)]):
        balanced = state(form, pt.loss.CrossEntropy(class_weights="balanced"), classes=2)
        np.testing.assert_allclose(balanced, by_hand, rtol=1e-5)
    by_hand = state((data.x, y), pt.loss.BinaryCrossEntropy(pos_weight=(known == 0).sum() / (known == 1).sum()))
    for form in ((data.x, y), [(data.x, y)]):
        balanced = state(form, pt.loss.BinaryCrossEntropy(pos_weight="balanced"))
        np.testing.assert_allclose(balanced, by_hand, rtol=1e-5)


def test_a_balanced_label_with_one_side_only_is_learned_all_the_same(data):
    y = np.column_stack([np.zeros(160), np.ones(160), np.full(160, np.nan)])
    for loss in (pt.loss.Focal(alpha="balanced"), pt.loss.BinaryCrossEntropy(pos_weight="balanced")):
        model = pt.MultiTaskModel(8, tasks=[pt.Task("tags", loss=loss, outputs=3)])
        history = pt.Trainer(model, lr=0.05).fit((data.x, y), **FIT)
        assert 0 < history["tags/loss"][-1] < 0.5 * history["tags/loss"][0], loss
        no, yes, _ = model.predict(data.x)["tags"].mean(0)
        assert (no < 0.2, yes > 0.8) == (True, True), loss


def test_stubs_are_not_stale():
    folder = Path(pt.__file__).parent
    for name, text in _stubs.render().items():
        assert (folder / name).read_text(encoding="utf-8") == text, "run python -m polytask._stubs"


def test_the_page_of_all_components_is_not_stale():
    page = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
    assert page.read_text(encoding="utf-8") == _docs.render(), "run make methods"
    for info in registry.REGISTRY:
        assert f"### {info['class']}\n" in _docs.render()
