"""Scripts as people who copy, pickle and store a model type them, written before it was known what is accepted; see
docs/habits.md."""

import copy
import pickle

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import polytask as pt
import torch
from sklearn.preprocessing import StandardScaler


def arrays(rows=400, seed=0):
    """Six features, a binary target and one of three classes."""
    x = np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int), np.digitize(x[:, 1], [-0.5, 0.5])


def trained(epochs=3, seed=0):
    """A model and its trainer after some epochs."""
    model = pt.MultiTaskModel(
        6,
        tasks=[pt.Task("a", loss="binary_cross_entropy"), pt.Task("b", classes=["low", "middle", "high"])],
        encoder=pt.encoder.MLP([16], dropout=0.1),
        seed=seed,
    )
    x, a, b = arrays()
    trainer = pt.Trainer(model, lr=0.01, seed=seed)
    trainer.fit((x, a, np.array(["low", "middle", "high"])[b]), epochs=epochs)
    return model, trainer


def data():
    """What `trained` learned from."""
    x, a, b = arrays()
    return x, a, np.array(["low", "middle", "high"])[b]


def same(one, other):
    """Whether two models predict the same."""
    x = arrays()[0]
    return all(np.array_equal(one.predict(x)[task], other.predict(x)[task]) for task in ("a", "b"))


def test_deepcopy_of_a_model():
    """A deep copy predicts the same and is another model: training it leaves the first as it was."""
    model, _ = trained()
    before = model.predict(arrays()[0])["a"]
    other = copy.deepcopy(model)
    assert same(model, other)
    pt.Trainer(other, lr=0.1).fit(data(), epochs=2)
    assert np.array_equal(model.predict(arrays()[0])["a"], before)
    assert not same(model, other)


def test_pickle_of_a_model():
    """`pickle.dumps` and `loads`."""
    model, _ = trained()
    other = pickle.loads(pickle.dumps(model))
    assert same(model, other)
    assert other.classes(other.predict(arrays()[0]))["b"][0] in ("low", "middle", "high")


def test_joblib(tmp_path):
    """A scaler and the model in one file, as for scikit-learn."""
    model, _ = trained()
    scaler = StandardScaler().fit(arrays()[0])
    joblib.dump({"scaler": scaler, "model": model}, tmp_path / "pipeline.joblib")
    loaded = joblib.load(tmp_path / "pipeline.joblib")
    assert same(model, loaded["model"])
    assert np.allclose(loaded["scaler"].mean_, scaler.mean_)


def test_joblib_workers():
    """`Parallel` sends the model to other processes."""
    model, _ = trained()
    x = arrays()[0]
    parts = joblib.Parallel(n_jobs=2)(joblib.delayed(model.predict)(part) for part in (x[:200], x[200:]))
    assert np.allclose(np.concatenate([part["a"] for part in parts]), model.predict(x)["a"], atol=1e-6)


def test_cloudpickle():
    """As Spark and Ray send a model, inside a closure."""
    model, _ = trained()
    x = arrays()[0]

    def score(rows):
        return model.predict(rows)["a"]

    assert np.array_equal(pickle.loads(cloudpickle.dumps(score))(x), score(x))


def test_torch_save_of_a_model(tmp_path):
    """`torch.save(model)`, and `torch.load` with the flag that whole objects need."""
    model, _ = trained()
    torch.save(model, tmp_path / "model.pt")
    assert same(model, torch.load(tmp_path / "model.pt", weights_only=False))


def test_torch_save_of_a_state_dict(tmp_path):
    """`torch.save(model.state_dict())`, `load_state_dict(torch.load())`: what every PyTorch tutorial does."""
    model, _ = trained()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other, _ = trained(epochs=1, seed=1)
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert same(model, other)


def test_state_dict_in_an_npz(tmp_path):
    """`np.savez(**state)` and back."""
    model, _ = trained()
    np.savez(tmp_path / "weights.npz", **model.state_dict())
    other, _ = trained(epochs=1, seed=1)
    other.load_state_dict(np.load(tmp_path / "weights.npz"))
    assert same(model, other)


def test_the_best_weights_kept_by_hand():
    """A copy of the state of a good epoch is put back after a worse one."""
    model, trainer = trained()
    best = copy.deepcopy(model.state_dict())
    good = model.predict(arrays()[0])["a"]
    trainer.fit(data(), epochs=2)
    model.load_state_dict(best)
    assert np.array_equal(model.predict(arrays()[0])["a"], good)


def test_an_average_of_two_models():
    """The mean of two states is a state: as for averaged weights, or an exponential mean."""
    (one, _), (two, _) = trained(), trained(seed=1)
    first, second = one.state_dict(), two.state_dict()
    one.load_state_dict({path: (first[path] + second[path]) / 2 for path in first})
    assert np.isfinite(one.predict(arrays()[0])["b"]).all()
    assert np.allclose(one.state_dict()["heads.a.bias"], (first["heads.a.bias"] + second["heads.a.bias"]) / 2)


def test_deepcopy_of_a_trainer():
    """A snapshot of a run in the middle: both go on to the same numbers."""
    model, trainer = trained()
    snapshot = copy.deepcopy(trainer)
    trainer.fit(data(), epochs=2)
    snapshot.fit(data(), epochs=2)
    assert snapshot.epochs == trainer.epochs == 5
    assert same(model, snapshot.model)


def test_pickle_of_a_trainer():
    """A trainer goes through a pickle and goes on."""
    model, trainer = trained()
    other = pickle.loads(pickle.dumps(trainer))
    trainer.fit(data(), epochs=1)
    other.fit(data(), epochs=1)
    assert same(model, other.model)


def test_pickle_of_history_and_results():
    """What experiments are stored as."""
    _, trainer = trained()
    history = trainer.fit(data(), epochs=2)
    results = trainer.evaluate(data())
    assert list(pickle.loads(pickle.dumps(history))["loss"]) == list(history["loss"])
    assert pickle.loads(pickle.dumps(results))["a"]["loss"] == results["a"]["loss"]
    assert copy.deepcopy(history).columns == history.columns


def test_deepcopy_and_pickle_of_parts():
    """Inputs, tasks and components are configuration that is copied and sent around."""
    frame = pd.DataFrame({"age": [20, 30, 40], "city": ["Rome", "Oslo", "Lima"]})
    inputs = pt.Inputs.from_frame(frame)
    for part in (
        inputs,
        pt.Task("a", classes=["no", "yes"]),
        pt.encoder.MLP([16]),
        pt.optim.AdamW(lr=0.01),
        pt.Bag(9, 3),
    ):
        assert repr(copy.deepcopy(part)) == repr(part)
        assert repr(pickle.loads(pickle.dumps(part))) == repr(part)


def test_pickle_of_a_model_of_frames():
    """What was learned from the frame goes along, and what is frozen stays frozen."""
    frame = pd.DataFrame({"age": range(20, 60), "city": ["Rome", "Oslo"] * 20, "y": [0, 1] * 20})
    model = pt.MultiTaskModel(
        pt.Inputs.from_frame(frame[["age", "city"]]), tasks=[pt.Task("y", loss="binary_cross_entropy")], encoder="mlp"
    )
    pt.Trainer(model).fit(frame, epochs=2)
    model.freeze("encoder")
    other = pickle.loads(pickle.dumps(model))
    assert np.array_equal(other.predict(frame)["y"], model.predict(frame)["y"])
    assert other.frozen == model.frozen


def test_shallow_copy_of_a_model():
    """`copy.copy`, as scikit-learn users type it, predicts the same."""
    model, _ = trained()
    assert same(copy.copy(model), model)


def test_deepcopy_with_a_loss_of_mine():
    """A task's loss is a lambda: the copy has it too, and trains."""
    x, _, _ = arrays()
    loss = lambda outputs, targets: (outputs.reshape(-1) - targets.reshape(-1)).abs()  # noqa: E731
    model = pt.MultiTaskModel(6, tasks=[pt.Task("y", loss=loss)], encoder=pt.encoder.MLP([16]))
    pt.Trainer(model, lr=0.01).fit((x, x[:, 0]), epochs=2)
    other = copy.deepcopy(model)
    assert np.array_equal(other.predict(x)["y"], model.predict(x)["y"])
    history = pt.Trainer(other, lr=0.01).fit((x, x[:, 0]), epochs=5)
    assert history["loss"][-1] < history["loss"][0]
