"""Rows of positions, as many as each row has: a tagger of tokens and a classifier of sentences on one encoder."""

import copy
import pickle

import numpy as np
import pandas
import polars
import polytask as pt
import pyarrow
import pytest
import torch
from conftest import same_bits, without_seconds
from test_backends import AWAY, near
from test_weighting_walk import names
from torch.nn import functional

WORDS, TAGS = 20, 3
FIT = {"epochs": 3, "batch_size": 16, "progress": False}


class Sentences:
    """Tags from a word and the one before it, moods from the sum of words; labels are missing here and there."""

    def __init__(self, rows=60, seed=0):
        rng = np.random.default_rng(seed)
        self.tokens = [rng.integers(0, WORDS, n) for n in rng.integers(0, 7, rows)]
        before = [np.concatenate([[0], words[:-1]]).astype(int)[: len(words)] for words in self.tokens]
        self.tags = [(words + last) % TAGS for words, last in zip(self.tokens, before, strict=True)]
        for tags in self.tags:
            tags[rng.random(len(tags)) < 0.2] = -1
        self.mood = np.array([words.sum() % 2 if len(words) else -1 for words in self.tokens])
        self.mood[rng.random(rows) < 0.2] = -1

    @property
    def whole(self):
        return {"tokens": self.tokens}, {"tag": self.tags, "mood": self.mood}

    def some(self, index):
        return {"tokens": [self.tokens[i] for i in index]}, {
            "tag": [self.tags[i] for i in index],
            "mood": self.mood[index],
        }


INPUTS = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[WORDS], embedding=6)})


def make_model(encoder=None, inputs=INPUTS, **more):
    tasks = [pt.Task("tag", classes=TAGS, per="tokens"), pt.Task("mood", classes=2, weight=0.5)]
    encoder = pt.encoder.Window([12, 8], radius=1, activation="tanh") if encoder is None else encoder
    return pt.MultiTaskModel(inputs, tasks=tasks, encoder=encoder, seed=3, **more)


def judged(plain, data):
    """The losses of tags and moods as PyTorch has them."""
    x, y = data
    tags, moods = plain(x["tokens"])
    return (
        functional.cross_entropy(tags, torch.from_numpy(np.concatenate(y["tag"])), ignore_index=-1),
        functional.cross_entropy(moods, torch.from_numpy(y["mood"]), ignore_index=-1),
    )


class Plain(torch.nn.Module):
    """The same by PyTorch, sentence by sentence."""

    def __init__(self, state):
        super().__init__()
        self.state = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in state.items()}

    def linear(self, x, path):
        return functional.linear(x, self.state[f"{path}.weight"], self.state[f"{path}.bias"])

    def forward(self, sentences):
        tags, moods = [], []
        for words in sentences:
            x = self.state["embedding.tokens.0.weight"][torch.as_tensor(words, dtype=torch.long)]
            none = x.new_zeros(1, x.shape[1])
            padded = torch.cat([none, x, none])
            h = torch.cat([padded[:-2], x, padded[2:]], 1)
            h = torch.tanh(self.linear(torch.tanh(self.linear(h, "encoder.0")), "encoder.1"))
            tags.append(self.linear(h, "heads.tag"))
            moods.append(h.mean(0) if len(words) else h.new_zeros(h.shape[1]))
        return torch.cat(tags), self.linear(torch.stack(moods), "heads.mood")


def test_predictions_losses_and_gradients_are_those_of_pytorch():
    data = Sentences()
    model = make_model()
    state = model.state_dict()
    plain = Plain(state)
    predicted = model.predict(data.whole[0], raw=True)
    tags, moods = plain(data.tokens)
    near(np.concatenate(predicted["tag"]), tags.detach().numpy(), "tags")
    near(predicted["mood"], moods.detach().numpy(), "moods")
    assert [len(row) for row in predicted["tag"]] == [len(words) for words in data.tokens]
    losses = judged(plain, data.whole)
    trainer = pt.Trainer(model, pt.optim.SGD(lr=1.0))
    report = trainer.step(data.whole)
    assert [report["tag/loss"], report["mood/loss"]] == pytest.approx([float(x.detach()) for x in losses], rel=1e-5)
    (losses[0] + 0.5 * losses[1]).backward()
    for name, after in model.state_dict().items():
        near(state[name] - after, plain.state[name].grad.numpy(), name)


def test_each_tasks_gradient_is_that_of_pytorch():
    data = Sentences()
    model = make_model()
    plain = Plain(model.state_dict())
    rows = model.reader.rows(data.whole)
    found, jacobian = model._core.gradients(rows.core(), "jacobian")
    assert "embedding.tokens.0.weight" in found
    leaves = [plain.state[name] for name in found]
    for row, loss, weight in zip(jacobian, judged(plain, data.whole), (1.0, 0.5), strict=True):
        gradients = torch.autograd.grad(weight * loss, leaves, retain_graph=True)
        near(row, torch.cat([gradient.reshape(-1) for gradient in gradients]).numpy(), "gradient")
    gramian = model._core.gradients(rows.core(), "gramian")
    near(gramian, jacobian @ jacobian.T, "Gramian")


def change(data, weighting="equal", model=None, **more):
    """What a step of SGD makes of the parameters."""
    model = make_model() if model is None else model
    before = model.state_dict()
    trainer = pt.Trainer(model, pt.optim.SGD(lr=1.0), weighting=weighting, **more)
    trainer.fit(data, epochs=1, batch_size=1000, shuffle=False, progress=False)
    return np.concatenate([(after - before[name]).ravel() for name, after in model.state_dict().items()])


@pytest.mark.parametrize("weighting", ["equal", "upgrad", pt.weighting.MGDA(at="representation")])
def test_the_order_of_rows_and_room_for_more_change_nothing(weighting):
    data = Sentences()
    want = change(data.whole, weighting)
    order = np.random.default_rng(1).permutation(60)
    near(change(data.some(order), weighting), want, "order", 1e-6)
    # Rows without words and labels make more rows, and so more room for positions too.
    for more in (1, 40, 300):
        none = [np.zeros(0, int)] * more
        padded = (
            {"tokens": data.tokens + none},
            {
                "tag": data.tags + none,
                "mood": np.concatenate([data.mood, np.full(more, -1)]),
            },
        )
        near(change(padded, weighting), want, more, 1e-6)


FUNNELS = ("esmm", "aitm")


def with_scheme(sharing, where="loops"):
    """A model of that scheme, its data, and these with more room."""
    data = Sentences()
    none = [np.zeros(0, int)] * 40
    x, y = data.whole
    if sharing in FUNNELS:
        tasks = [pt.Task(name, loss="binary_cross_entropy", per="tokens") for name in ("click", "buy")]
        clicks = [np.where(tags < 0, np.nan, tags > 0) for tags in data.tags]
        y = {"click": clicks, "buy": [np.where(tags < 0, np.nan, tags > 1) for tags in data.tags]}
        encoder = pt.encoder.Window([12, 8], radius=1, activation="tanh")
        model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=encoder, sharing=sharing, seed=3)
        more = {name: [*labels, *none] for name, labels in y.items()}
    else:
        encoder = pt.encoder.Window([8, 8], radius=1, activation="tanh", pool="attention")
        branches = [[["tag", "mood"]], [["tag"], ["mood"]]]
        model = make_model(encoder, sharing=pt.sharing.Branched(branches) if sharing == "branched" else sharing)
        more = {"tag": data.tags + none, "mood": np.concatenate([data.mood, np.full(40, -1)])}
    model._core.to(where)
    return model, (x, y), ({"tokens": data.tokens + none}, more)


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("sharing", names("sharing"))
def test_every_scheme_shares_positions(sharing, away):
    model, data, more = with_scheme(sharing)
    state = model.state_dict()
    for weighting in ("equal", "upgrad"):
        for weights in (state, None):
            # The second step is from elsewhere; schemes whose loops draw do so alike.
            if weights is None:
                pt.Trainer(model, pt.optim.Adam(lr=0.02), seed=1).fit(data, epochs=2, progress=False)
                state = model.state_dict()
            want = change(data, weighting, model)
            model.load_state_dict(state)
            assert np.linalg.norm(want) > 0
            other, _, _ = with_scheme(sharing, away)
            other.load_state_dict(state)
            near(change(data, weighting, other), want, "formulas")
            # The terms of gates are means over positions, and labels beyond the last are none.
            near(change(more, weighting, model), want, "room", 1e-6)
            model.load_state_dict(state)
    inspected = model.inspect(data[0])
    count = sum(len(words) for words in data[0]["tokens"])
    assert all(gates.values.shape[1] == count for gates in inspected.gates.values())
    resumed = pickle.loads(pickle.dumps(model))
    resumed._core.to("loops")
    for name, predicted in model.predict(data[0], raw=True).items():
        assert same_bits(dict(enumerate(resumed.predict(data[0], raw=True)[name])), dict(enumerate(predicted)))


def test_experts_and_stitches_of_positions_are_those_of_pytorch():
    data = Sentences()

    def windows(state, words):
        x = state["embedding.tokens.0.weight"][torch.as_tensor(words, dtype=torch.long)]
        padded = functional.pad(x, (0, 0, 1, 1))
        return x, torch.cat([padded[:-2], x, padded[2:]], 1)

    def mmoe(state, words):
        layer = lambda x, path: functional.linear(x, state[f"{path}.weight"], state[f"{path}.bias"])  # noqa: E731
        x, h = windows(state, words)
        experts = [torch.tanh(layer(torch.tanh(layer(h, f"experts.{e}.0")), f"experts.{e}.1")) for e in range(3)]
        gates = {task: torch.softmax(layer(x, f"gates.{task}"), 1) for task in ("tag", "mood")}
        mixed = {
            task: sum(gate[:, e : e + 1] * expert for e, expert in enumerate(experts)) for task, gate in gates.items()
        }
        pooled = mixed["mood"].mean(0) if len(words) else x.new_zeros(8)
        return layer(mixed["tag"], "heads.tag"), layer(pooled, "heads.mood")

    def stitched(state, words):
        layer = lambda x, path: functional.linear(x, state[f"{path}.weight"], state[f"{path}.bias"])  # noqa: E731
        x, h = windows(state, words)
        each = {"tag": h, "mood": h}
        for stage in range(2):
            each = {task: torch.tanh(layer(h, f"encoders.{task}.{stage}")) for task, h in each.items()}
            mixes = {task: state[f"stitches.{stage}.{task}.weight"] for task in each}
            each = {
                task: sum(weight * h for weight, h in zip(mix.reshape(-1), each.values(), strict=True))
                for task, mix in mixes.items()
            }
        pooled = each["mood"].mean(0) if len(words) else x.new_zeros(8)
        return layer(each["tag"], "heads.tag"), layer(pooled, "heads.mood")

    for sharing, forward in ((pt.sharing.MMoE(experts=3), mmoe), ("cross_stitch", stitched)):
        model = make_model(sharing=sharing)
        before = model.state_dict()
        state = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in before.items()}
        tags, moods = zip(*[forward(state, words) for words in data.tokens], strict=True)
        predicted = model.predict(data.whole[0], raw=True)
        near(np.concatenate(predicted["tag"]), torch.cat(tags).detach().numpy(), "tags")
        near(predicted["mood"], torch.stack(moods).detach().numpy(), "moods")
        labels = torch.from_numpy(np.concatenate(data.tags))
        of_tags = functional.cross_entropy(torch.cat(tags), labels, ignore_index=-1)
        of_moods = functional.cross_entropy(torch.stack(moods), torch.from_numpy(data.mood), ignore_index=-1)
        (of_tags + 0.5 * of_moods).backward()
        # A step so long that the rounding of parameters hides nothing of the gradient.
        pt.Trainer(model, pt.optim.SGD(lr=64.0)).step(data.whole)
        for name, after in model.state_dict().items():
            near((before[name] - after) / 64, state[name].grad.numpy(), name)


def test_batch_norm_counts_positions():
    data = Sentences()
    model = make_model(pt.encoder.MLP([8], norm="batch", activation=None))
    state = {name: torch.from_numpy(x).clone() for name, x in model.state_dict().items()}
    pt.Trainer(model, pt.optim.SGD(lr=1.0)).step(data.whole)
    words = torch.from_numpy(np.concatenate(data.tokens))
    x = state["embedding.tokens.0.weight"][words]
    h = functional.linear(x, state["encoder.0.weight"], state["encoder.0.bias"])
    names = [name for name in state if "running" in name]
    for name, moment in zip(sorted(names), (h.mean(0), h.var(0)), strict=True):
        near(model.state_dict()[name], 0.9 * state[name].numpy() + 0.1 * moment.numpy(), name)


def trainer(where="loops", weighting="equal", lr=0.05, **more):
    model = make_model()
    model._core.to(where)
    observe = ("weights", "gradients")
    return pt.Trainer(model, pt.optim.SGD(lr=lr), weighting=weighting, observe=observe, seed=4, **more)


def one_step(trained, batch):
    data, validation = Sentences().whole, Sentences(24, seed=5).whole
    trained.fit(data, validation=validation, epochs=1, batch_size=batch, shuffle=False, progress=False)
    return {name: x for name, x in trained.history.rows[-1].items() if name not in ("epoch", "seconds")}


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize(
    ("weighting", "more"),
    [(name, {}) for name in names("weighting")]
    + [(name, {"accumulate": 3}) for name in ("equal", "upgrad", "dwa", "graddrop", "uncertainty")]
    + [(pt.weighting.UPGrad(at="representation"), {}), (pt.weighting.CAGrad(per="layer"), {"clip_norm": 0.5})]
    + [(pt.weighting.UPGrad(at="representation"), {"accumulate": 3})]
    + [(pt.weighting.GradDrop(at="representation"), more) for more in ({}, {"accumulate": 3})],
    ids=str,
)
def test_every_weighting_makes_the_same_steps_by_loops_and_by_formulas(weighting, more, away):
    pair = [trainer(where, weighting, 1.0, **more) for where in ("loops", away)]
    path = trainer("loops", weighting)
    batch = 60 // more.get("accumulate", 1)
    for k in range(4):
        state = path.model.state_dict()
        for each in pair:
            each.model.load_state_dict(state)
        want, got = (one_step(each, batch) for each in pair)
        assert got.keys() == want.keys()
        for kind in {name.split("/")[0] for name in want}:
            part = [name for name in want if name.split("/")[0] == kind]
            # A cosine is a product of rows of length 1.
            floor = [1.0] * (kind == "cosine")
            near([*floor, *(got[name] for name in part)], [*floor, *(want[name] for name in part)], (k, kind))
        moved = [
            np.concatenate([(x - state[name]).ravel() for name, x in each.model.state_dict().items()]) for each in pair
        ]
        assert np.linalg.norm(moved[0]) > 0
        near(moved[1], moved[0], (k, "gradient"))
        one_step(path, 60)


@pytest.mark.parametrize("weighting", ["equal", "upgrad", "famo"])
def test_micro_batches_split_rows_and_add_up(weighting):
    data = Sentences()
    model, other = make_model(), make_model()
    for each, batch, accumulate in ((model, 60, 1), (other, 20, 3)):
        trained = pt.Trainer(each, pt.optim.SGD(lr=1.0), weighting=weighting, accumulate=accumulate)
        trained.fit(data.whole, epochs=1, batch_size=batch, shuffle=False, progress=False)
    for name, x in model.state_dict().items():
        near(other.state_dict()[name], x, name)


def test_weights_of_rows_count_for_each_of_their_positions():
    data = Sentences()
    weights = np.linspace(0.0, 2.0, 60)
    model = make_model()
    plain = Plain(model.state_dict())
    report = pt.Trainer(model).step((*data.whole, weights))
    tags, moods = plain(data.tokens)
    each = np.repeat(weights, [len(words) for words in data.tokens])
    for logits, labels, w, name in (
        (tags, np.concatenate(data.tags), each, "tag"),
        (moods, data.mood, weights, "mood"),
    ):
        known = labels >= 0
        rows = functional.cross_entropy(logits, torch.from_numpy(labels), ignore_index=-1, reduction="none")
        want = (rows.detach().numpy() * w)[known].sum() / w[known].sum()
        assert report[f"{name}/loss"] == pytest.approx(want, rel=1e-5)


def test_what_is_learned_and_counted():
    data = Sentences(400)
    model = make_model(pt.encoder.Window([64, 32], radius=1))
    trained = pt.Trainer(model, lr=0.01)
    history = trained.fit(data.whole, epochs=20, batch_size=32, progress=False)
    assert history["tag/accuracy"][-1] > 0.99
    result = trained.evaluate(data.whole)
    classes = model.classes(model.predict(data.whole[0]))
    flat, labels = np.concatenate(list(classes["tag"])), np.concatenate(data.tags)
    assert result["tag"]["accuracy"] == pytest.approx((flat == labels)[labels >= 0].mean())
    assert result["mood"]["accuracy"] == pytest.approx((classes["mood"] == data.mood)[data.mood >= 0].mean())
    alone = model.predict({"tokens": data.tokens[7:8]})
    np.testing.assert_allclose(alone["tag"][0], model.predict(data.whole[0])["tag"][7], rtol=1e-5, atol=1e-6)


def forms(rows):
    """The same rows in every form."""
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    whole = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        padded[i, : len(row)], whole[i] = row, row
    tensors = [torch.from_numpy(row) for row in rows]
    found = {
        "lists": [row.tolist() for row in rows],
        "arrays": list(rows),
        "objects": whole,
        "tensors": tensors,
        "jagged": torch.nested.nested_tensor(tensors, layout=torch.jagged),
        "ragged": pt.values.ragged.read(list(rows), "rows"),
    }
    found["polars"] = polars.Series([row.tolist() for row in rows])
    found["pyarrow"] = pyarrow.array([row.tolist() for row in rows])
    return found


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_every_form_of_rows_is_read_alike():
    data = Sentences()
    tokens, tags = forms(data.tokens), forms(data.tags)
    ends = {}
    for form, words in tokens.items():
        model = make_model()
        trained = pt.Trainer(model, seed=1)
        history = trained.fit(({"tokens": words}, {"tag": tags[form], "mood": data.mood}), validation=0.2, **FIT)
        ends[form] = (without_seconds(history), model.state_dict())
    for form, (history, state) in ends.items():
        assert history == ends["arrays"][0], form
        assert same_bits(state, ends["arrays"][1]), form


@pytest.mark.parametrize("after", [1, 4, 7])
def test_a_run_resumes_with_the_same_bits(tmp_path, after):
    class Interrupt(pt.Callback):
        every_steps = after

        def on_steps(self, trainer):
            raise SystemExit

    def new(*callbacks):
        model = make_model(pt.encoder.Window([12, 8], dropout=0.2, pool="max"))
        return pt.Trainer(model, lr=0.01, weighting="upgrad", seed=7, callbacks=callbacks)

    data = Sentences()
    want = new()
    history = want.fit(data.whole, validation=0.2, **FIT)
    with pytest.raises(SystemExit):
        new(pt.Checkpoint(tmp_path, every_steps=1)).fit(data.whole, validation=0.2, callbacks=[Interrupt()], **FIT)
    resumed = new()
    got = resumed.fit(data.whole, validation=0.2, resume=tmp_path, **FIT)
    assert same_bits(resumed.model.state_dict(), want.model.state_dict())
    assert without_seconds(got) == without_seconds(history)


def test_a_changed_row_is_another_data_set(tmp_path):
    data = Sentences()
    pt.Trainer(make_model()).fit(data.whole, callbacks=[pt.Checkpoint(tmp_path)], **FIT)
    at = next(i for i, words in enumerate(data.tokens) if len(words) > 1)
    data.tokens[at] = data.tokens[at][:-1]
    data.tags[at] = data.tags[at][:-1]
    with pytest.raises(ValueError, match="the checkpoint was made with data fingerprint"):
        pt.Trainer(make_model()).fit(data.whole, resume=tmp_path, **{**FIT, "epochs": 5})


def test_files_copies_and_tasks_to_come(tmp_path):
    data = Sentences()
    model = make_model()
    pt.Trainer(model).fit(data.whole, **FIT)
    model.save(tmp_path / "model.safetensors")
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    for twin in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert repr(twin) == repr(model)
        assert same_bits(twin.state_dict(), model.state_dict())
        got, want = (each.predict(data.whole[0])["tag"] for each in (twin, model))
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
    wider = loaded.add_task(pt.Task("score", per="tokens"))
    scores = [words / WORDS for words in data.tokens]
    pt.Trainer(wider).fit((data.whole[0], {**data.whole[1], "score": scores}), **FIT)
    assert [len(row) for row in wider.predict(data.whole[0])["score"]] == [len(words) for words in data.tokens]
    assert wider.remove_task("tag").predict(data.whole[0]).keys() == {"mood", "score"}


def test_numbers_of_positions_and_features_of_rows_beside_them():
    """Frames with several numbers each, codes beside them, and what their row has; decisions and values a frame."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, 50)
    sound = {"numeric": [rng.normal(size=(n, 3)) for n in lengths]}
    sound["categorical"] = [rng.integers(0, 4, (n, 2)) for n in lengths]
    x = {"numeric": rng.normal(size=(50, 2)), "categorical": rng.integers(0, 5, (50, 1)), "frames": sound}
    frames = pt.Inputs(numeric=3, categorical=[4, 4], embedding=2)
    inputs = pt.Inputs(numeric=2, categorical=[5], positions={"frames": frames})
    tasks = [
        pt.Task("voiced", loss="binary_cross_entropy", per="frames"),
        pt.Task("pitch", outputs=2, per="frames"),
        pt.Task("speaker", classes=["a", "b"]),
        pt.Task("word", classes=["x", "y", "z"], per="frames"),
    ]
    y = {
        "voiced": [(part[:, 0] > 0).astype(float) for part in sound["numeric"]],
        "pitch": [part[:, :2].copy() for part in sound["numeric"]],
        "speaker": np.where(x["numeric"][:, 0] > 0, "a", "b"),
        "word": [[None if i == 2 else "xyz"[i % 3] for i in range(n)] for n in lengths],
    }
    y["voiced"][3] = None
    y["pitch"][4][0, 1] = np.nan
    model = pt.MultiTaskModel(inputs, tasks=tasks, encoder=pt.encoder.MLP([16]), head=pt.head.Tower([8]), seed=1)
    trained = pt.Trainer(model, lr=0.02)
    history = trained.fit((x, y), validation=0.2, epochs=40, batch_size=10, progress=False)
    assert history["pitch/r2"][-1] > 0.8
    assert history["voiced/auroc"][-1] > 0.9
    assert history["speaker/accuracy"][-1] > 0.9
    predicted = model.predict(x)
    assert [row.shape for row in predicted["pitch"]] == [(n, 2) for n in lengths]
    assert [row.shape for row in predicted["voiced"]] == [(n,) for n in lengths]
    assert set(np.concatenate(list(model.classes(predicted)["word"]))) <= {"x", "y", "z"}


def test_parts_of_the_data():
    data = Sentences()
    first, second = pt.data.split(data.whole, 0.25, seed=1)
    assert [len(part[0]["tokens"]) for part in (first, second)] == [45, 15]
    assert all(len(w) == len(t) for x, y in (first, second) for w, t in zip(x["tokens"], y["tag"], strict=True))
    for how in ({"stratify": "mood"}, {"groups": np.arange(60) // 3}):
        history = pt.Trainer(make_model()).fit(data.whole, validation=pt.data.Split(0.2, **how), **FIT)
        assert np.isfinite(history["validation/tag/loss"]).all()
    with pytest.raises(ValueError, match="`stratify` 'tag' should be of rows; got rows of different lengths"):
        pt.Trainer(make_model()).fit(data.whole, validation=pt.data.Split(0.2, stratify="tag"), **FIT)


def test_batches_and_several_data_sets():
    data = Sentences()
    batches = [data.some(np.arange(start, start + 20)) for start in (0, 20, 40)]
    ends = []
    for given, more in ((data.whole, {"batch_size": 20, "shuffle": False}), (batches, {})):
        model = make_model()
        history = pt.Trainer(model).fit(given, **{**FIT, **more})
        ends.append((without_seconds(history), model.state_dict()))
    assert ends[0][0] == ends[1][0]
    assert same_bits(ends[0][1], ends[1][1])
    x, y = data.whole
    sets = {"tag": (x, y["tag"]), "mood": (x, y["mood"])}
    history = pt.Trainer(make_model()).fit(sets, train_metrics=False, **FIT)
    assert np.isfinite(history["loss"]).all()
    # Metrics of training rows are left out by themselves.
    again = pt.Trainer(make_model()).fit(sets, **FIT)
    assert without_seconds(again) == without_seconds(history)


def test_losses_of_people_and_balanced_classes():
    data = Sentences()
    ends = []
    for loss in ("cross_entropy", functional.cross_entropy, pt.loss.CrossEntropy(class_weights="balanced")):
        tasks = [pt.Task("tag", classes=TAGS, per="tokens", loss=loss)]
        model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder="window", seed=1)
        pt.Trainer(model, "sgd", lr=0.1).fit((data.whole[0], {"tag": data.tags}), **FIT)
        ends.append(model.state_dict()["heads.tag.weight"])
    near(ends[1], ends[0], "one's own loss")
    assert not np.allclose(ends[2], ends[0])


def test_pools_and_frozen_tables():
    data = Sentences()
    for pool in ("mean", "sum", "max", "attention"):
        model = make_model(pt.encoder.Window([8], radius=0, pool=pool))
        model.freeze("embedding")
        before = model.state_dict()
        pt.Trainer(model, weighting="upgrad").fit(data.whole, **FIT)
        after = model.state_dict()
        assert np.array_equal(after["embedding.tokens.0.weight"], before["embedding.tokens.0.weight"])
        assert not np.array_equal(after["encoder.0.weight"], before["encoder.0.weight"])
    assert after["encoder.0.weight"].shape == (8, 6)
    assert after["heads.mood.attention.weight"].shape == (1, 8)


X = {"tokens": [[1, 2], [3]]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (({"tokens": [[1, 2], [20]]}, {"tag": [[0, 1], [2]]}), "hold codes from 0 to 19; got 20 at row 1, position 0"),
        ((X, {"tag": [[0, 1], [2, 0]]}), "`tag` should have 1 positions in row 1, as `x` of tokens/categorical; got 2"),
        ((X, {"tag": [[0, 1], [3]]}), "classes from 0 to 2, or -1 or NaN where missing; got 3 at row 1, position 0"),
        ((X, {"tag": [0, 1]}), "the targets of task `tag`"),
        ((X, {"mood": [[0, 1], [1, 1]]}), 'one label a row; got a list of 2 at row 0; .* need per="tokens"'),
        (({"words": [[1]]}, {"tag": [[0]]}), "should have the keys `tokens`; got 'words'"),
        (({"tokens": [[1, 2.5], [3]]}, {"tag": [[0, 1], [2]]}), "hold codes"),
        (({"tokens": [[1, "a"], [3]]}, {"tag": [[0, 1], [2]]}), "should hold numbers; got 'a' at row 0, position 1"),
        (({"tokens": [[1, None], [3]]}, {"tag": [[0, 1], [2]]}), "should have a number at each position; it is miss"),
        ((np.zeros((2, 3)), {"tag": [[0]]}), 'a dict with the keys `tokens`, such as {"tokens": ...}; got nd'),
    ],
)
def test_what_is_wrong_is_said(data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pt.Trainer(make_model()).fit(data, epochs=1, progress=False)


def test_labels_that_are_none_are_named_by_row_and_position():
    inputs = pt.Inputs(positions={"tokens": pt.Inputs(categorical=[WORDS])})
    tasks = [pt.Task("tag", classes=["B", "I", "O"], per="tokens"), pt.Task("n", per="tokens")]
    model = pt.MultiTaskModel(inputs, tasks=tasks)
    with pytest.raises(ValueError, match="got 'X' at row 1, position 1"):
        pt.Trainer(model).step(({"tokens": [[1], [2, 3]]}, {"tag": [["B"], ["I", "X"]]}))
    with pytest.raises(TypeError, match="with 'much' at row 1, position 0"):
        pt.Trainer(model).step(({"tokens": [[1], [2, 3]]}, {"n": [[0.5], ["much", 1.0]]}))


@pytest.mark.parametrize("missing", [None, -1, np.nan])
def test_fractions_are_no_classes(missing):
    tags = [np.array([1.0, 0.0 if missing is None else missing]), np.array([1.7, 2.0])]
    with pytest.raises(ValueError, match=r"1\.7"):
        pt.Trainer(make_model()).step(({"tokens": [[1, 2], [3, 4]]}, {"tag": tags}))
    whole = [np.array([1.0, 0.0 if missing is None else missing]), np.array([1.0, 2.0])]
    ends = []
    for labels in (whole, [[1, 0 if missing is None else -1], [1, 2]]):
        model = make_model()
        pt.Trainer(model).step(({"tokens": [[1, 2], [3, 4]]}, {"tag": labels}))
        ends.append(model.state_dict())
    assert same_bits(*ends)


@pytest.mark.parametrize("library", [polars, pandas])
def test_columns_of_frames_are_inputs_and_targets_by_name(library):
    data = Sentences()
    lists = {"tokens": data.tokens, "tag": data.tags}
    columns = {name: [row.tolist() for row in rows] for name, rows in lists.items()}
    frame = library.DataFrame({**columns, "mood": data.mood})
    want, got = make_model(), make_model()
    pt.Trainer(want).fit(data.whole, validation=0.2, **FIT)
    pt.Trainer(got).fit(frame, validation=0.2, **FIT)
    assert same_bits(got.state_dict(), want.state_dict())
    np.testing.assert_array_equal(got.predict(frame)["mood"], want.predict(data.whole[0])["mood"])
    assert pt.Trainer(got).evaluate(frame) == pt.Trainer(want).evaluate(data.whole)
    with pytest.raises(ValueError, match="has no column `tokens`"):
        got.predict(library.DataFrame({"words": columns["tokens"]}))


def test_batches_have_inputs_and_targets_by_name():
    data = Sentences()
    x, y = data.whole
    want, got = make_model(), make_model()
    pt.Trainer(want).fit(data.whole, shuffle=False, **FIT)
    parts = [data.some(np.arange(k, min(k + 16, 60))) for k in range(0, 60, 16)]
    batches = torch.utils.data.DataLoader([{**x, **y} for x, y in parts], batch_size=None, generator=torch.Generator())
    pt.Trainer(got).fit(batches, epochs=3, progress=False)
    assert same_bits(got.state_dict(), want.state_dict())
    for each in ({**x, **y}, {**x, "labels": y}, batches):
        assert same_bits(dict(enumerate(got.predict(each)["tag"])), dict(enumerate(got.predict(x)["tag"])))
    model = make_model()
    pt.Trainer(model).fit({**x, **y}, shuffle=False, **FIT)
    assert same_bits(model.state_dict(), want.state_dict())


def test_what_positions_cannot_be():
    tag = pt.Task("tag", classes=3, per="tokens")
    with pytest.raises(ValueError, match='`per` should be one of the positions of `inputs`, `tokens`; got "words"'):
        pt.MultiTaskModel(INPUTS, tasks=[pt.Task("tag", classes=3, per="words")])
    binary = {"loss": "binary_cross_entropy"}
    steps = [pt.Task("click", per="tokens", **binary), pt.Task("buy", **binary)]
    with pytest.raises(ValueError, match="Funnel of `tokens` and `rows` at once: spread or pool one of them"):
        pt.MultiTaskModel(INPUTS, tasks=steps, sharing="esmm")
    with pytest.raises(ValueError, match=r"argument `radius` should be at least 0 and below 1001; got 100000"):
        pt.encoder.Window([4], radius=100_000)
    beside = make_model(inputs=pt.Inputs(2, positions=INPUTS.positions))
    with pytest.raises(TypeError, match="the frame should be a dict with the keys `numeric` and `tokens`: which"):
        beside.predict(polars.DataFrame({"tokens": [[1, 2], [3]]}))
    with pytest.raises(ValueError, match="Window: the inputs have no positions within rows; use MLP"):
        pt.MultiTaskModel(8, tasks=[pt.Task("a")], encoder=pt.encoder.Window([4]))
    with pytest.raises(ValueError, match="task `tag`: metric `mae` does not suit its labels"):
        pt.MultiTaskModel(INPUTS, tasks=[pt.Task("tag", classes=3, per="tokens", metrics=["mae"])])
    with pytest.raises(ValueError, match="`scale` is for targets of rows"):
        pt.Task("a", per="tokens", scale="standardize")
    with pytest.raises(TypeError, match="`positions` should be a dict such as"):
        pt.Inputs(positions={"tokens": 5})
    with pytest.raises(ValueError, match="a model may have positions of one kind; got 2"):
        pt.MultiTaskModel(pt.Inputs(positions={"a": pt.Inputs(2), "b": pt.Inputs(2)}), tasks=[tag])
