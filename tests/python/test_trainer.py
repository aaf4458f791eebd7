"""The trainer: steps by hand, accumulation, repeated calls, the same bits again."""

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_model, make_tasks, same_bits, without_seconds

FIT = {"batch_size": 32, "progress": False}


@pytest.mark.usefixtures("own_seed")
def test_the_same_seed_gives_the_same_bits(data):
    def trained(seed):
        model = make_model()
        history = pt.Trainer(model, seed=seed).fit(data.whole, epochs=3, **FIT)
        return model.state_dict(), without_seconds(history)

    torch.manual_seed(0)
    first = trained(1)
    torch.manual_seed(1)
    assert same_bits(trained(1)[0], first[0])
    assert trained(1)[1] == first[1]
    assert not same_bits(trained(2)[0], first[0])


def test_fit_again_goes_on(data):
    twice, once = make_model(), make_model()
    trainer = pt.Trainer(twice)
    trainer.fit(data.whole, epochs=2, **FIT)
    history = trainer.fit(data.whole, epochs=3, **FIT)
    want = pt.Trainer(once).fit(data.whole, epochs=5, **FIT)
    assert same_bits(twice.state_dict(), once.state_dict())
    assert without_seconds(history) == without_seconds(want)
    assert trainer.epochs == 5


def test_a_step_gives_the_objective_and_each_tasks_loss(data):
    model = make_model()
    before = pt.Trainer(pt.MultiTaskModel(8, tasks=model.tasks, seed=0)).evaluate(data.whole)
    other = pt.MultiTaskModel(8, tasks=model.tasks, seed=0)
    trainer = pt.Trainer(other)
    losses = trainer.step(data.whole)
    assert list(losses) == ["loss", "income/loss", "age/loss", "topics/loss"]
    assert losses["loss"] == pytest.approx(before.loss, rel=1e-5)
    assert losses["age/loss"] == pytest.approx(before["age"]["loss"], rel=1e-5)
    assert trainer.steps == 1
    assert trainer.evaluate(data.whole).loss < before.loss


def test_accumulated_batches_are_one_step_of_them_all(data):
    model = pt.MultiTaskModel(8, tasks=make_model().tasks)
    small, large = model, pt.MultiTaskModel(8, tasks=model.tasks)
    trainer = pt.Trainer(small, accumulate=4)
    trainer.fit(data.whole, epochs=2, batch_size=10, shuffle=False, progress=False)
    pt.Trainer(large).fit(data.whole, epochs=2, batch_size=40, shuffle=False, progress=False)
    assert trainer.steps == 8
    for name, array in large.state_dict().items():
        np.testing.assert_allclose(small.state_dict()[name], array, rtol=1e-3, atol=1e-5)
    batches = [(data.x[i : i + 10], {k: y[i : i + 10] for k, y in data.targets.items()}) for i in range(0, 160, 10)]
    streamed = pt.MultiTaskModel(8, tasks=model.tasks)
    history = pt.Trainer(streamed, accumulate=4).fit(batches, epochs=2, progress=False)
    assert same_bits(streamed.state_dict(), small.state_dict())
    assert history["income/auroc"] == pytest.approx(trainer.history["income/auroc"])


def test_a_loader_that_raises_leaves_the_last_complete_step(data):
    def batches(fail):
        for start in range(0, 160, 32):
            if start == 96 and fail:
                raise OSError("the disk went away")
            yield data.x[start : start + 32], {name: y[start : start + 32] for name, y in data.targets.items()}

    broken, by_hand = make_model(), make_model()
    trainer = pt.Trainer(broken)
    with pytest.raises(OSError, match="the disk went away"):
        trainer.fit(batches(True), epochs=1, progress=False)
    other = pt.Trainer(by_hand)
    for _, batch in zip(range(3), batches(False), strict=False):
        other.step(batch)
    assert same_bits(broken.state_dict(), by_hand.state_dict())
    assert len(trainer.history) == 0
    assert trainer.fit(batches(False), epochs=1, progress=False)["epoch"] == [1]


def test_a_loader_that_changes_shape_midway_says_which_batch(data):
    batches = [data.whole, data.whole, (data.x[:, :5], data.targets)]
    trainer = pt.Trainer(make_model())
    with pytest.raises(ValueError, match=r"`data` batch 2: `x` should have shape \[160, 8\]; got \[160, 5\]"):
        trainer.fit(batches, epochs=1, progress=False)
    assert trainer.steps == 2


def test_the_data_are_free_afterwards_and_memory_stays_flat():
    import gc
    import weakref

    trainer = pt.Trainer(make_model())
    x = np.zeros((1000, 8), np.float32)
    base = weakref.ref(x)
    trainer.fit((x, Data(1000).targets), epochs=1, **FIT)
    del x
    gc.collect()
    assert base() is None


def test_it_shows_what_it_is():
    shown = repr(pt.Trainer(make_model(), "sgd", lr=0.1, schedule="cosine"))
    assert shown == "Trainer(optimizer='sgd', schedule='cosine', weighting='equal', steps=0, epochs=0)"
    assert pt.Trainer(make_model(), device=torch.device("cpu")).steps == 0


def test_epochs_are_logged(data, caplog):
    with caplog.at_level("INFO", "polytask"):
        pt.Trainer(make_model()).fit(data.whole, epochs=2, **FIT)
    assert [record.name for record in caplog.records] == ["polytask"] * 2
    assert "epoch 2: {'epoch': 2, 'loss'" in caplog.text


@pytest.mark.usefixtures("own_seed")
def test_a_seed_of_none_is_that_of_torch(data):
    def trained(seed, model_seed=None, trainer_seed=None):
        torch.manual_seed(seed)
        encoder = pt.encoder.MLP([16], dropout=0.2)
        model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=encoder, seed=model_seed)
        start = model.state_dict()
        trainer = pt.Trainer(model, seed=trainer_seed)
        trainer.fit(data.whole, epochs=1, progress=False)
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(seed))
        return start, model.state_dict()

    first, second, other = trained(3), trained(3), trained(4)
    said = trained(9, 3, 3)
    for i in range(2):
        assert same_bits(first[i], second[i])
        assert same_bits(first[i], said[i])
        assert not same_bits(first[i], other[i])
    assert same_bits(trained(3, 0)[0], trained(4, 0)[0])
    assert not same_bits(trained(3, 0)[1], trained(4, 0)[1])
    torch.manual_seed(-1)
    models = [pt.MultiTaskModel(8, tasks=make_tasks(), seed=None) for _ in range(2)]
    assert same_bits(*(model.state_dict() for model in models))


def test_no_schedule_is_a_constant_one(data):
    states = []
    for schedule in (None, "constant"):
        model = make_model()
        pt.Trainer(model, schedule=schedule).fit(data.whole, epochs=2, progress=False)
        states.append(model.state_dict())
    assert same_bits(*states)


def test_a_trainer_predicts_as_its_model(data):
    trainer = pt.Trainer(make_model())
    trainer.fit(data.whole, epochs=1, progress=False)
    for how in ({}, {"raw": True}, {"batch_size": 7}):
        want = trainer.model.predict(data.x, **how)
        for name, found in trainer.predict(data.x, **how).items():
            np.testing.assert_array_equal(found, want[name])
    with pytest.raises(TypeError, match=r"Trainer\.predict: unknown argument `batchsize`"):
        trainer.predict(data.x, batchsize=7)
