"""Ordered classes (`pt.loss.Ordinal`): their probabilities by hand, and all that judges classes."""

import copy
import pickle

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from sklearn.metrics import accuracy_score, cohen_kappa_score, mean_absolute_error
from test_resume import Interrupt

DEGREES = 5


def task(**more):
    metrics = ["accuracy", "auroc", "ordinal_mae", "quadratic_kappa", "log_loss"]
    return pt.Task("degree", classes=DEGREES, loss=pt.loss.Ordinal(), **{"metrics": metrics, **more})


def data(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    y = np.digitize(x[:, 0] + 0.5 * rng.normal(size=rows), [-1, -0.3, 0.4, 1.1])
    return x, np.where(rng.random(rows) < 0.1, -1, y)


@pytest.fixture(scope="module")
def trained():
    model = pt.MultiTaskModel(3, tasks=[task()], seed=0)
    pt.Trainer(model, lr=0.01).fit(data(), epochs=8, progress=False)
    return model


def by_hand(raw):
    """Of each row the probabilities of its classes, one after the other."""
    rows = []
    for row in raw.astype(float):
        left, each = 1.0, []
        for z in row:
            each.append(left / (1 + np.exp(z)))
            left -= each[-1]
        rows.append([*each, left])
    return np.array(rows)


def test_probabilities_and_loss_by_hand(trained):
    x, y = data(seed=1)
    raw, p = trained.predict(x, raw=True)["degree"], trained.predict(x)["degree"]
    assert raw.shape == (400, DEGREES - 1)
    np.testing.assert_allclose(p, by_hand(raw), rtol=1e-4, atol=1e-6)
    found = pt.Trainer(trained).evaluate((x, y))["degree"]
    there, decided = y >= 0, p.argmax(1)
    likely = by_hand(raw)[there, y[there]]
    assert found["loss"] == pytest.approx(-np.log(likely).mean(), rel=1e-5)
    assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["accuracy"] == pytest.approx(accuracy_score(y[there], decided[there]))
    assert found["ordinal_mae"] == pytest.approx(mean_absolute_error(y[there], decided[there]))
    assert found["quadratic_kappa"] == pytest.approx(cohen_kappa_score(y[there], decided[there], weights="quadratic"))
    assert found["accuracy"] > 0.4
    assert trained.classes({"degree": p})["degree"].tolist() == decided.tolist()


def test_a_step_is_that_of_autograd():
    x, y = data(64)
    weights = np.random.default_rng(3).random(64).astype(np.float32)
    each = [0.5, 1.0, 2.0, 1.0, 3.0]
    degree = pt.Task("degree", classes=DEGREES, loss=pt.loss.Ordinal(class_weights=each))
    model = pt.MultiTaskModel(3, tasks=[degree], encoder=pt.encoder.MLP([4], activation="tanh"), seed=0)
    state = {name: torch.tensor(p, dtype=torch.float64).requires_grad_() for name, p in model.state_dict().items()}
    h = torch.tanh(torch.tensor(x).double() @ state["encoder.0.weight"].T + state["encoder.0.bias"])
    on = (h @ state["heads.degree.weight"].T + state["heads.degree.bias"]).sigmoid().cumprod(1)
    ends = torch.nn.functional.pad(torch.nn.functional.pad(on, (1, 0), value=1.0), (0, 1))
    there = torch.tensor(y >= 0)
    p = (ends[:, :-1] - ends[:, 1:])[there].gather(1, torch.tensor(y)[there, None])[:, 0]
    count = torch.tensor(weights).double()[there] * torch.tensor(each).double()[torch.tensor(y)[there]]
    loss = -(count * p.log()).sum() / count.sum()
    gradient = torch.autograd.grad(loss, list(state.values()))
    trainer = pt.Trainer(model, pt.optim.SGD(lr=1.0))
    before = model.state_dict()
    assert trainer.step((x, {"degree": y}, weights))["degree/loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    for (name, _), wanted in zip(state.items(), gradient, strict=True):
        np.testing.assert_allclose(before[name] - model.state_dict()[name], wanted, atol=1e-5, err_msg=name)


def test_metrics_of_training_are_those_of_evaluation():
    x, y = data()
    model = pt.MultiTaskModel(3, tasks=[task()], seed=0)
    trainer = pt.Trainer(model, pt.optim.SGD(lr=1e-12))
    history = trainer.fit((x, y), epochs=1, progress=False, validation=(x, y))
    for metric in model.metrics[0]:
        column = f"degree/{metric.name}"
        assert history[column][-1] == pytest.approx(history[f"validation/{column}"][-1], rel=1e-5)


def test_the_temperature_is_the_likeliest(trained):
    x, y = data(seed=2)
    model = copy.deepcopy(trained)
    state = model.state_dict()
    model.load_state_dict(state | {name: 3 * state[name] for name in state if name.startswith("heads")})
    raw = model.predict(x, raw=True)["degree"]
    found = model.calibrate((x, y))["degree"]

    def nll(temperature):
        return -np.log(by_hand(raw / temperature)[y >= 0, y[y >= 0]]).mean()

    assert found.nll == pytest.approx((nll(1), nll(found.temperature)), rel=1e-6)
    assert found.temperature > 1.5
    assert all(nll(found.temperature * factor) > nll(found.temperature) for factor in (0.99, 1.01))
    p = model.predict(x)["degree"]
    np.testing.assert_allclose(p, by_hand(raw / found.temperature), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.to_torch()(torch.tensor(x))["degree"].detach(), p, atol=1e-6)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).predict(x)["degree"], p, rtol=1e-6)


def test_an_ensemble_has_the_mean(trained):
    x, y = data(seed=2)
    other = pt.MultiTaskModel(3, tasks=[task()], seed=1)
    ensemble = pt.Ensemble([trained, other])
    p = (trained.predict(x)["degree"] + other.predict(x)["degree"]) / 2
    np.testing.assert_allclose(ensemble.predict(x)["degree"], p, atol=1e-6)
    there = y >= 0
    found = ensemble.evaluate((x, y))["degree"]
    assert found["loss"] == pytest.approx(-np.log(p[there, y[there]]).mean(), rel=1e-5)
    assert found["ordinal_mae"] == pytest.approx(np.abs(p.argmax(1) - y)[there].mean())


def test_a_checkpoint_within_an_epoch_has_the_last_class(tmp_path):
    x, y = data()
    y[:32] = DEGREES - 1
    how = {"epochs": 2, "batch_size": 32, "progress": False, "shuffle": False}

    def made(**more):
        model = pt.MultiTaskModel(3, tasks=[task()], seed=0)
        return pt.Trainer(model, callbacks=[pt.Checkpoint(tmp_path, every_steps=1)], **more)

    with pytest.raises(SystemExit):
        made().fit((x, y), callbacks=[Interrupt(5)], **how)
    resumed = made()
    history = resumed.fit((x, y), resume=tmp_path, **how)
    whole = pt.Trainer(pt.MultiTaskModel(3, tasks=[task()], seed=0))
    wanted = whole.fit((x, y), **how)
    assert history["degree/ordinal_mae"] == wanted["degree/ordinal_mae"]
    assert same_bits(resumed.model.state_dict(), whole.model.state_dict())


def test_degrees_of_positions():
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 2)).astype(np.float32) for n in (3, 0, 2, 5)]
    y = [np.digitize(each[:, 0], [-0.5, 0.5]) for each in x]
    degree = pt.Task("degree", classes=["low", "middle", "high"], loss="ordinal", per="steps")
    model = pt.MultiTaskModel(pt.Inputs(positions={"steps": pt.Inputs(numeric=2)}), tasks=[degree])
    names = [np.array(degree.labels)[each] for each in y]
    trainer = pt.Trainer(model, lr=0.05)
    trainer.fit(({"steps": x}, {"degree": names}), epochs=60, progress=False)
    assert trainer.evaluate(({"steps": x}, {"degree": names}))["degree"]["accuracy"] > 0.8
    assert [len(row) for row in model.classes(model.predict({"steps": x}))["degree"]] == [3, 0, 2, 5]
