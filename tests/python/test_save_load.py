"""Parameters in and out, and models as files."""

import json
import os

import numpy as np
import pandas as pd
import polytask as pt
import pytest
import torch
from conftest import make_model, make_tasks, same_bits


def test_a_model_comes_back_whole(data, tmp_path):
    model = pt.MultiTaskModel(
        pt.Inputs(numeric=3, categorical=[5, 2], embedding=4),
        tasks=[
            pt.Task("kind", classes=["a", "b", "c"], metrics=["f1"], weight=2.0),
            pt.Task("topics", loss=pt.loss.BinaryCrossEntropy(pos_weight=3.0), outputs=2, columns=["t0", "t1"]),
        ],
        encoder=pt.encoder.MLP([8], activation="gelu", norm="batch"),
        head=pt.head.Tower(4),
        seed=5,
    )
    x = {"numeric": data.x[:, :3], "categorical": np.c_[np.arange(160) % 5, np.arange(160) % 2]}
    targets = {"kind": np.array(list("abc"))[np.arange(160) % 3], "topics": data.topics[:, :2]}
    pt.Trainer(model).fit((x, targets), epochs=2, progress=False)
    model.save(tmp_path / "m.safetensors")
    loaded = pt.MultiTaskModel.load(str(tmp_path / "m.safetensors"))
    assert same_bits(loaded.state_dict(), model.state_dict())
    assert repr(loaded) == repr(model)
    assert loaded.tasks[1].columns == ["t0", "t1"]
    for name, predicted in model.predict(x).items():
        np.testing.assert_array_equal(loaded.predict(x)[name], predicted)
    assert pt.Trainer(loaded).evaluate((x, targets)) == pt.Trainer(model).evaluate((x, targets))
    assert loaded.classes(loaded.predict(x))["kind"][0] in ("a", "b", "c")


def test_the_file_is_safetensors_with_the_description_inside(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    raw = (tmp_path / "m.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    description = json.loads(header["__metadata__"]["description"])
    assert [task["name"] for task in description["tasks"]] == ["income", "age", "topics"]
    assert description["face"]["tasks"][0]["metrics"] == ["auroc", "accuracy"]
    assert header["model/encoder.0.weight"]["shape"] == [16, 8]


def test_what_is_python_is_said_and_can_be_given_back(data, tmp_path, caplog):
    def squared(outputs, targets):
        return (outputs - targets) ** 2

    def worst(predictions, targets):
        return (predictions - targets).abs().max()

    model = pt.MultiTaskModel(8, tasks=[pt.Task("age", loss=squared, metrics=["mae", worst])])
    pt.Trainer(model).fit((data.x, data.age), epochs=1, progress=False)
    with caplog.at_level("WARNING", "polytask"):
        model.save(tmp_path / "m.safetensors")
    assert "metrics that are Python callables are not saved: `worst`" in caplog.text
    loaded = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(data.x)["age"], model.predict(data.x)["age"])
    assert [metric.name for metric in loaded.tasks[0].metrics] == ["mae"]
    with pytest.raises(ValueError, match="task `age` has a Python loss, which no file keeps"):
        pt.Trainer(loaded).fit((data.x, data.age), epochs=1, progress=False)
    again = pt.MultiTaskModel.load(tmp_path / "m.safetensors", losses={"age": squared})
    assert pt.Trainer(again).fit((data.x, data.age), epochs=1, progress=False)["loss"]
    with pytest.raises(ValueError, match="`losses`: unknown task 'agee'"):
        pt.MultiTaskModel.load(tmp_path / "m.safetensors", losses={"agee": squared})


def test_inputs_learned_from_a_frame_are_kept(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": ["x", None, "y"], "c": [True, False, True], "y": [0.1, 0.2, 0.3]})
    model = pt.MultiTaskModel(pt.Inputs.from_frame(frame), tasks=[pt.Task("y")])
    model.save(tmp_path / "m.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(frame)["y"], model.predict(frame)["y"])
    assert loaded.inputs.names == ["a", "b", "c"]


def test_state_dicts_are_copies_and_speak_torch(model):
    state = model.state_dict()
    state["heads.age.bias"][:] = 99
    assert model.state_dict()["heads.age.bias"] != 99
    other = make_model(seed=8)
    assert other.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}) == ([], [])
    assert same_bits(other.state_dict(), state)
    assert other.load_state_dict({"heads.age.bias": [1.0], "x": [1.0]}, strict=False).unexpected == ["x"]
    assert other.state_dict()["heads.age.bias"] == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"heads.age.bias": None}, ValueError, "missing `heads.age.bias`"),
        ({"nonsense": np.zeros(1)}, ValueError, "unexpected `nonsense`"),
        ({"heads.age.bias": np.zeros(2)}, ValueError, r"should have shape \[1\]; got \[2\]"),
        ({"heads.age.bias": np.array([np.nan])}, ValueError, "should hold finite numbers; got NaN"),
        ({"heads.age.bias": np.array([1e300])}, ValueError, "should hold finite numbers; got inf"),
        ({"heads.age.bias": np.array(["a"])}, TypeError, "should hold numbers; got dtype <U1"),
        ({3: np.zeros(1)}, TypeError, "should have strings as keys; got 3"),
    ],
)
def test_a_wrong_state_leaves_the_model_as_it_is(model, change, error, message):
    before = model.state_dict()
    state = {name: array + 1 for name, array in before.items()} | change
    with pytest.raises(error, match=message):
        model.load_state_dict({name: array for name, array in state.items() if array is not None})
    assert same_bits(model.state_dict(), before)


def test_files_that_are_no_models(model, data, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:100], whole[:4], b"", b"PK\x03\x04" + bytes(200), b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a complete"):
            pt.MultiTaskModel.load(path)
    trainer = pt.Trainer(model)
    trainer.fit(data.whole, epochs=1, progress=False)
    trainer.save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="not a complete polytask model"):
        pt.MultiTaskModel.load(tmp_path / "c.safetensors")
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(OSError, match=str(missing)):
            pt.MultiTaskModel.load(missing)


def test_a_full_disk_leaves_the_old_file(model, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        model.save(tmp_path / "no" / "folder" / "m.safetensors")
    path = tmp_path / "m.safetensors"
    model.save(path)
    before = path.read_bytes()
    limit_file_size_and_save(model, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.safetensors"]


def limit_file_size_and_save(model, path):
    """A file may not grow beyond 1000 bytes: the write fails in the middle, as on a full disk."""
    import resource
    import signal

    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_tasks_are_shown_as_they_were_made():
    assert repr(make_tasks()) == (
        "[Task('income', classes=2, metrics=['auroc', 'accuracy']), Task('age', weight=0.5), "
        "Task('topics', loss=BinaryCrossEntropy(), outputs=3)]"
    )


def test_notes_of_the_wrong_kind_are_refused(model, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    for face in (
        {"tasks": ["x", {}, {}]},
        {"tasks": [[]] * 3},
        {"inputs": [1]},
        {"learned": 3},
        "x",
        {"learned": {"names": 1}},
    ):
        header = json.loads(raw[8 : 8 + size])
        description = json.loads(header["__metadata__"]["description"])
        header["__metadata__"]["description"] = json.dumps({**description, "face": face})
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
        with pytest.raises((ValueError, TypeError)):
            pt.MultiTaskModel.load(path)


def test_a_file_and_a_folder_are_opened_alike(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    models = [pt.MultiTaskModel(3, tasks=[pt.Task("a")], seed=seed) for seed in range(2)]
    models[0].save(tmp_path / "one.safetensors")
    pt.Ensemble(models).save(tmp_path / "both")
    one, both = pt.load(tmp_path / "one.safetensors"), pt.load(str(tmp_path / "both"))
    assert isinstance(one, pt.MultiTaskModel)
    assert isinstance(both, pt.Ensemble)
    assert np.array_equal(one.predict(x)["a"], models[0].predict(x)["a"])
    assert np.array_equal(both.predict(x)["a"], pt.Ensemble(models).predict(x)["a"])
    with pytest.raises(FileNotFoundError, match="none"):
        pt.load(tmp_path / "none.safetensors")
    # Files of models that somebody keeps in one folder are no ensemble.
    with pytest.raises(FileNotFoundError, match=r"has no model files of an ensemble, such as 000\.safe"):
        pt.load(tmp_path)
    with pytest.raises(TypeError, match=r"got Ensemble; an ensemble evaluates itself: ensemble\.evaluate"):
        pt.Trainer(both)


def test_members_of_an_ensemble_are_in_the_order_of_their_numbers(tmp_path):
    """Also from 1,000 on, where names have more digits."""
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    models = [pt.MultiTaskModel(3, tasks=[pt.Task("a")], seed=seed) for seed in range(2)]
    pt.Ensemble(models).save(tmp_path)
    (tmp_path / "000.safetensors").rename(tmp_path / "999.safetensors")
    (tmp_path / "001.safetensors").rename(tmp_path / "1000.safetensors")
    for found, model in zip(pt.load(tmp_path), models, strict=True):
        assert np.array_equal(found.predict(x)["a"], model.predict(x)["a"])
