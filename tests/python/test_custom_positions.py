"""Modules over positions within rows: rows of the longest one's length, and a mask for those that ask for it."""

import re

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits, without_seconds
from test_backends import AWAY, near
from test_custom_module import seeded
from test_positions import FIT, INPUTS, TAGS, Sentences, change, judged
from torch import nn
from torch.nn import functional


class Attending(nn.Module):
    """Attention within each row, which needs to know where rows end."""

    def __init__(self, features=6, width=8, dropout=0.0):
        super().__init__()
        with seeded(11):
            self.query, self.key, self.value = (nn.Linear(features, width) for _ in range(3))
        self.dropout = dropout
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x, there):
        if self.training:
            self.calls += 1
        scores = self.query(x) @ self.key(x).mT
        weights = torch.softmax(scores.masked_fill(~there[:, None, :], float("-inf")), 2)
        return functional.dropout(torch.tanh(weights @ self.value(x)), self.dropout, self.training)


class Beside(nn.Module):
    """Each position and the one before it; asks for no mask, since what comes after rows does not matter to it."""

    def __init__(self, features, outputs):
        super().__init__()
        with seeded(12):
            self.convolution = nn.Conv1d(features, outputs, 2)

    def forward(self, x):
        return self.convolution(functional.pad(x, (0, 0, 1, 0)).mT).mT


def make_model(encoder=None, head=Beside, **more):
    tasks = [pt.Task("tag", classes=TAGS, per="tokens", head=head), pt.Task("mood", classes=2, weight=0.5)]
    return pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=encoder or Attending(), seed=3, **more)


class Plain:
    """The same sentence by sentence, each by itself: no position is beside one of another row or none."""

    def __init__(self, state):
        self.state = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in state.items()}
        self.encoder, self.head = Attending().eval(), Beside(8, TAGS)

    def below(self, path):
        return {name.removeprefix(path): x for name, x in self.state.items() if name.startswith(path)}

    def __call__(self, sentences):
        tags, moods = [], []
        for words in sentences:
            x = self.state["embedding.tokens.0.weight"][torch.as_tensor(words, dtype=torch.long)]
            if len(words) == 0:
                moods.append(x.new_zeros(8))
                continue
            there = torch.ones(1, len(words), dtype=torch.bool)
            h = torch.func.functional_call(self.encoder, self.below("encoder."), (x[None], there))
            tags.append(torch.func.functional_call(self.head, self.below("heads.tag."), (h,))[0])
            moods.append(h[0].mean(0))
        mood = (self.state[f"heads.mood.{name}"] for name in ("weight", "bias"))
        return torch.cat(tags), functional.linear(torch.stack(moods), *mood)


@pytest.mark.parametrize("where", ["loops", *AWAY])
def test_predictions_losses_and_gradients_of_each_task_are_those_of_pytorch(where):
    data = Sentences()
    assert any(len(words) == 0 for words in data.tokens)
    model = make_model()
    plain = Plain(model.state_dict())
    model._core.to(where)
    predicted = model.predict(data.whole[0], raw=True)
    tags, moods = plain(data.tokens)
    near(np.concatenate(predicted["tag"]), tags.detach().numpy(), "tags")
    near(predicted["mood"], moods.detach().numpy(), "moods")
    rows = model.reader.rows(data.whole)
    found, jacobian = model._core.gradients(rows.core(), "jacobian")
    assert {"embedding.tokens.0.weight", "encoder.query.weight"} <= set(found)
    losses = judged(plain, data.whole)
    for row, loss, weight in zip(jacobian, losses, (1.0, 0.5), strict=True):
        gradients = torch.autograd.grad(weight * loss, [plain.state[name] for name in found], retain_graph=True)
        near(row, torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy(), "gradient")
    (losses[0] + 0.5 * losses[1]).backward()
    for name, gradient in model._core.gradients(rows.core(), "sum").items():
        near(gradient, plain.state[name].grad.numpy(), name)


@pytest.mark.parametrize("weighting", ["equal", "upgrad", pt.weighting.MGDA(at="representation")])
def test_the_order_of_rows_and_room_for_more_change_nothing(weighting):
    data = Sentences()
    want = change(data.whole, weighting, make_model())
    order = np.random.default_rng(1).permutation(60)
    near(change(data.some(order), weighting, make_model()), want, "order")
    none = [np.zeros(0, int)] * 40
    more = {"tag": data.tags + none, "mood": np.concatenate([data.mood, np.full(40, -1)])}
    near(change(({"tokens": data.tokens + none}, more), weighting, make_model()), want, "room")


@pytest.mark.parametrize("sharing", [pt.sharing.MMoE(experts=3), "soft", "cgc"])
def test_a_run_with_several_encoders_resumes_with_the_same_bits(tmp_path, sharing):
    class Interrupt(pt.Callback):
        every_steps = 5

        def on_steps(self, trainer):
            raise SystemExit

    def new(*callbacks):
        model = make_model(lambda: Attending(dropout=0.3), sharing=sharing)
        return pt.Trainer(model, lr=0.01, weighting="upgrad", callbacks=callbacks)

    data = Sentences().whole
    want = new()
    history = want.fit(data, **FIT)
    with pytest.raises(SystemExit):
        new(pt.Checkpoint(tmp_path, every_steps=1)).fit(data, callbacks=[Interrupt()], **FIT)
    resumed = new(pt.Checkpoint(tmp_path, every_steps=1))
    assert without_seconds(resumed.fit(data, resume=tmp_path, **FIT)) == without_seconds(history)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    counts = [x for name, x in want.model.state_dict().items() if name.endswith(".calls")]
    assert len(counts) > 1
    assert set(map(float, counts)) == {12.0}


def test_batches_without_any_position():
    data = Sentences()
    model = make_model()
    none = [np.zeros(0, int)] * 3
    state = model.state_dict()
    found = model.predict({"tokens": none}, raw=True)
    assert [len(row) for row in found["tag"]] == [0, 0, 0]
    np.testing.assert_array_equal(found["mood"], np.tile(state["heads.mood.bias"], (3, 1)))
    trainer = pt.Trainer(model, pt.optim.SGD(lr=1.0))
    trainer.step(({"tokens": none}, {"tag": none, "mood": np.array([0, 1, 1])}))
    moved = {name for name, x in model.state_dict().items() if not np.array_equal(x, state[name])}
    assert moved == {"heads.mood.bias"}
    trainer.step(data.whole)
    assert not np.array_equal(model.state_dict()["encoder.key.weight"], state["encoder.key.weight"])


def test_files_bring_it_back(tmp_path):
    data = Sentences().whole
    model = make_model()
    pt.Trainer(model).fit(data, **FIT)
    model.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors", encoder=Attending(), heads={"tag": Beside})
    for name, predicted in model.predict(data[0]).items():
        assert same_bits(dict(enumerate(loaded.predict(data[0])[name])), dict(enumerate(predicted)))


class Flat(nn.Module):
    """Gives a number a row."""

    def forward(self, x):
        return x.sum(1)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoder": nn.Linear(5, 8)},
         "`encoder`: the module `Linear` should take features [rows, longest, 6]; on zeros of [2, 3, 6] it raised"),
        ({"encoder": Flat()},
         "should give a float32 tensor [rows, longest, width]; for zeros of [2, 3, 6] it gave float32 [2, 6]"),
        ({"encoder": nn.LSTM(6, 8, batch_first=True)}, "it gave a tuple"),
        ({"head": nn.Linear(8, 2)},
         "task `tag`: `head`: the module `Linear` should give a float32 tensor [rows, longest, 3]"),
    ],
)  # fmt: skip
def test_what_a_module_over_positions_cannot_be(parts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_model(**parts)
