"""Every sharing scheme against a plain PyTorch transcription of its paper, in double precision."""

import re
import sys
from pathlib import Path

import numpy as np
import polytask as pt
import pytest
import torch
import torch.nn.functional as F
from polytask import registry

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches"))
import torch_sharing

pytestmark = pytest.mark.usefixtures("own_seed")

TOLERANCE = 1e-6
#: Large against the parameters, so that what a step took off them is known to all digits.
LR = 64.0

#: Arguments of each scheme; `LAYERS` and `TASKS` are as many as the encoder and the model have.
SETTINGS = {
    "Hard": [{}],
    "Soft": [{}],
    "CrossStitch": [{"start": 0.7}],
    "Sluice": [{"subspaces": 2}, {"subspaces": 1, "start": 0.6}],
    "NDDR": [{}, {"norm": False, "activation": "tanh"}],
    "MMoE": [{"experts": 3}],
    "OMoE": [{"experts": 4}],
    "CGC": [{"shared_experts": 2, "task_experts": 1}, {"shared_experts": 1, "task_experts": 3}],
    "PLE": [{"shared_experts": 1, "task_experts": 2}, {"levels": 1}],
    "DSelectK": [{"experts": 4, "k": 2, "gamma": 2.0}, {"experts": 5, "k": 3, "gamma": 1.5}],
    "LTB": [{}, {"branches": 3}],
    "Branched": [{}, {"branches": "prefix"}, {"branches": "apart"}],
    "ESMM": [{}],
    "AITM": [{}],
}
FUNNELS = ("ESMM", "AITM")
SCHEMES = [info["class"] for info in registry.REGISTRY if info["family"] == "sharing"]


def variants():
    """Each scheme with each of its settings."""
    return [
        pytest.param(scheme, settings, id=f"{scheme}-{number}" if number else scheme)
        for scheme in SCHEMES
        for number, settings in enumerate(SETTINGS[scheme])
    ]


def branches(kind, tasks, layers):
    """A tree over the tasks: a common prefix, then a pair and the others, then all apart; or all apart at once."""
    if kind == "apart":
        return [[[task] for task in tasks]][:layers]
    parted = [tasks[:2], tasks[2:]] if len(tasks) > 2 else [[task] for task in tasks]
    return [[tasks], parted, [[task] for task in tasks]][:layers]


class Case:
    """A model, its transcription with the same parameters, and rows."""

    def __init__(
        self,
        scheme,
        settings,
        *,
        rows=40,
        tasks=3,
        layers=2,
        hidden=None,
        tower=(),
        mixed=True,
        missing=True,
        tables=(),
        **encoder,
    ):
        self.rows = rows
        names = [chr(ord("a") + k) for k in range(tasks)]
        settings = dict(settings)
        if "branches" in settings and scheme == "Branched":
            settings["branches"] = branches(settings["branches"], names, layers)
        hidden = hidden or ([8] * layers if scheme == "Sluice" or encoder.get("residual") else [8, 6, 10][:layers])
        encoder = {"activation": "tanh", **encoder}
        self.kinds = (
            ["event"] * tasks
            if scheme in FUNNELS
            else [("value", "class", "labels")[k % 3 * mixed] for k in range(tasks)]
        )
        self.weights = [(1.0, 0.5, 2.0)[k % 3] for k in range(tasks)]
        self.names = names
        described = [self.task(*each) for each in zip(names, self.kinds, self.weights, strict=True)]
        inputs = pt.Inputs(5, [size for size, _ in tables], [width for _, width in tables] or None)
        head = pt.head.Tower(list(tower), activation="tanh") if tower else "linear"
        self.model = pt.MultiTaskModel(
            inputs,
            tasks=described,
            encoder=pt.encoder.MLP(hidden, **encoder),
            sharing=getattr(pt.sharing, scheme)(**settings),
            head=head,
            seed=3,
        )
        self.network = torch_sharing.build(
            scheme,
            tasks=dict(zip(names, self.model._core.widths, strict=True)),
            numeric=5,
            encoder=torch_sharing.MLP(hidden, **encoder),
            tower=tower,
            tower_activation="tanh",
            tables=tables,
            **settings,
        ).double()
        self.rng = np.random.default_rng([tasks, layers])
        self.move()
        self.x = {"numeric": self.rng.normal(size=(rows, 5)).astype(np.float32)}
        if tables:
            self.x["categorical"] = np.stack([self.rng.integers(0, size, rows) for size, _ in tables], axis=1)
        gaps = [k % 4 * missing for k in range(tasks)]
        self.y = {name: self.labels(*each) for name, *each in zip(names, self.kinds, gaps, strict=True)}

    @staticmethod
    def task(name, kind, weight):
        more = {
            "value": {},
            "class": {"classes": 3},
            "labels": {"loss": "binary_cross_entropy", "outputs": 2},
            "event": {"loss": "binary_cross_entropy"},
        }[kind]
        return pt.Task(name, weight=weight, **more)

    def labels(self, kind, missing):
        """Labels of one task, with gaps in every so manieth row."""
        if kind == "class":
            y = self.rng.integers(0, 3, self.rows)
        elif kind == "value":
            y = self.rng.normal(size=self.rows).astype(np.float32)
        else:
            y = self.rng.integers(0, 2, (self.rows, 2) if kind == "labels" else self.rows).astype(np.float32)
        if missing:
            y[missing :: missing + 2] = -1 if kind == "class" else np.nan
        return y

    def move(self):
        """Moves all parameters, so that nothing is hidden by a start; both sides take them over."""
        state = self.model.state_dict()
        for name, value in state.items():
            noise = self.rng.normal(size=value.shape).astype(np.float32)
            noise *= min(1, (8 / value.shape[-1]) ** 0.5)
            state[name] = value * np.exp(0.2 * noise) if name.endswith("running_var") else value + 0.3 * noise
        self.model.load_state_dict(state)
        self.follow()

    def follow(self):
        """The transcription takes over the model's parameters, by the same names."""
        state = {name: torch.from_numpy(value).double() for name, value in self.model.state_dict().items()}
        self.network.load_state_dict(state, strict=True)

    @property
    def data(self):
        return self.x, self.y

    def forward(self, training=False):
        """The transcription's raw outputs, and what its paper adds to the objective."""
        self.network.train(training)
        codes = torch.from_numpy(self.x["categorical"]) if "categorical" in self.x else None
        found = self.network(torch.from_numpy(self.x["numeric"]).double(), codes)
        outputs, term = found if isinstance(found, tuple) else (found, torch.zeros(()))
        return outputs, term

    def losses(self, outputs):
        """Each task's part of the objective."""
        return [
            weight * self.loss(kind, out, torch.from_numpy(self.y[name]))
            for name, kind, weight, out in zip(self.names, self.kinds, self.weights, outputs, strict=True)
        ]

    @staticmethod
    def loss(kind, out, y):
        if kind == "class":
            return F.cross_entropy(out, y, ignore_index=-1)
        y = y.double().reshape(out.shape)
        known = ~y.isnan()
        if kind == "value":
            return ((out - y)[known] ** 2).mean()
        return F.binary_cross_entropy_with_logits(out[known], y[known])

    def gradient(self, loss, names=None):
        """By name."""
        of = {name: p for name, p in self.network.named_parameters() if names is None or name in names}
        if not of:
            return {}
        found = torch.autograd.grad(loss, list(of.values()), retain_graph=True, allow_unused=True)
        return {
            name: (torch.zeros_like(p) if g is None else g).detach().numpy()
            for (name, p), g in zip(of.items(), found, strict=True)
        }

    def jacobian(self, names):
        """A row a task over these parameters."""
        rows = [self.gradient(loss, names) for loss in self.losses(self.forward()[0])]
        return np.stack([flat(row, names) for row in rows])

    def check(self):
        """Outputs, the objective's gradient, the Jacobian."""
        outputs, _ = self.forward()
        predicted = self.model.predict(self.x, raw=True)
        for name, want in zip(self.names, outputs, strict=True):
            same(predicted[name].reshape(want.shape), want.detach().numpy(), f"outputs of {name}")
        rows = self.model.reader.read(self.data).core()
        same_all(self.model._core.gradients(rows, "sum"), self.gradient(sum(self.losses(outputs))))
        names, matrix = self.model._core.gradients(rows, "jacobian")
        same(matrix, self.jacobian(names), "the Jacobian")

    def step(self, trainer):
        """The objective, what a step took off the parameters over the rate, and the statistics after it.

        The parameters go back to where they were.
        """
        before = self.model.state_dict()
        objective = trainer.step(self.data)["loss"]
        after, names = self.model.state_dict(), [name for name, _ in self.network.named_parameters()]
        self.model.load_state_dict(before)
        taken = {name: (before[name].astype(float) - after[name]) / LR for name in names}
        return objective, taken, {name: value for name, value in after.items() if name not in taken}


def flat(gradients, names):
    """These parameters' gradients in one row."""
    return np.concatenate([np.zeros(0), *(gradients[name].ravel() for name in names)])


def same(got, want, what, tolerance=TOLERANCE):
    assert np.shape(got) == np.shape(want), what
    largest = np.abs(want).max(initial=1.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * largest, err_msg=what)


def same_all(got, want, tolerance=TOLERANCE):
    assert got.keys() == want.keys()
    for name, value in want.items():
        same(got[name], value, name, tolerance)


def test_every_scheme_is_transcribed():
    assert set(SCHEMES) == set(torch_sharing.SCHEMES) == set(SETTINGS)


SIZES = {
    "2 tasks, 1 layer": {"tasks": 2, "layers": 1, "missing": False},
    "2 tasks, 3 layers, relu": {"tasks": 2, "layers": 3, "mixed": False, "activation": "relu"},
    "3 tasks, 2 layers, towers, embeddings": {"tower": (7, 4), "tables": ((6, 3), (4, 2))},
    "5 tasks, 2 layers, towers, one width": {"tasks": 5, "tower": (7,), "mixed": False},
    "5 tasks, 3 layers": {"tasks": 5, "layers": 3},
    "8 tasks": {"tasks": 8},
    "1 task": {"tasks": 1, "tower": (7,)},
    "1 task, 1 layer": {"tasks": 1, "layers": 1},
    "layer norm, residual, dropout": {"norm": "layer", "residual": True, "dropout": 0.3, "layers": 3},
    "700 rows, wide": {"rows": 700, "hidden": [64, 64]},
    "no layers": {"layers": 0},
    "1 task, no layers, tower": {"tasks": 1, "layers": 0, "tower": (4,)},
    "batch norm": {"norm": "batch", "activation": "silu"},
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("scheme", "settings"), variants())
def test_outputs_and_gradients_are_those_of_the_paper(scheme, settings, size):
    Case(scheme, settings, **size).check()


class Stream:
    """The core's counter-based random numbers: SplitMix64 over a path of numbers."""

    MASK = 2**64 - 1

    def __init__(self, seed, *path):
        self.key = self.mixed(seed)
        for part in path:
            self.key = self.mixed(self.key ^ self.mixed(part))

    @classmethod
    def mixed(cls, x):
        x = x + 0x9E3779B97F4A7C15 & cls.MASK
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & cls.MASK
        x = (x ^ x >> 27) * 0x94D049BB133111EB & cls.MASK
        return x ^ x >> 31

    def uniform(self, index):
        return (self.mixed(self.key + index * 0xD1342543DE82EF95 & self.MASK) >> 11) / 2.0**53


@pytest.fixture
def sampled(monkeypatch):
    """Gives the transcription the core's Gumbel noise of one step: what each choice is sampled with, in order."""

    def prepare(case, step, seed):
        if not isinstance(case.network, torch_sharing.LTB):
            return
        stages = [list(each) for each in case.network.branching.values() if isinstance(each, torch.nn.ModuleList)]
        stages.append([case.network.branching[task] for task in case.names])

        def noise():
            layers = case.model._core.summary()["layers"]
            nodes = [node for node, layer in enumerate(layers) if layer["kind"] == "Stitch"]
            for node, choices in zip(nodes, stages, strict=True):
                stream = Stream(seed, 3, step, node)
                for i, choice in enumerate(choices):
                    count = len(choice.weight)
                    uniform = [stream.uniform(i * count + j) for j in range(count)]
                    yield -torch.log(-torch.log(torch.tensor(uniform, dtype=torch.float64)))

        drawn = noise()
        monkeypatch.setattr(F, "gumbel_softmax", lambda w, tau, dim: torch.softmax((w + next(drawn)) / tau, dim))

    return prepare


@pytest.mark.parametrize(("scheme", "settings"), variants())
def test_a_training_step_follows_the_objective_with_its_terms(scheme, settings, sampled):
    if scheme == "LTB":
        settings = {**settings, "temperature": 2.0, "decay": 0.5, "lowest": 0.75}
    case = Case(scheme, settings)
    trainer = pt.Trainer(case.model, pt.optim.SGD(lr=LR), seed=11)
    for number in range(3):
        case.move()
        sampled(case, number, 11)
        outputs, term = case.forward(training=True)
        assert term > 0 or scheme not in ("DSelectK", "AITM")
        objective = sum(case.losses(outputs)) + term
        report, got, statistics = case.step(trainer)
        same_all(got, case.gradient(objective))
        np.testing.assert_allclose(report, objective.item(), rtol=1e-5)
        same_all(
            statistics, {name: value.numpy() for name, value in case.network.state_dict().items() if "running" in name}
        )


# Batches of NDDR have statistics of their own, those of LTB samples.
@pytest.mark.parametrize(("scheme", "settings"), [each for each in variants() if each.values[0] not in ("NDDR", "LTB")])
def test_micro_batches_add_up_with_their_terms(scheme, settings):
    case = Case(scheme, settings)
    trainer = pt.Trainer(case.model, pt.optim.SGD(lr=LR), accumulate=2)
    outputs, term = case.forward(training=True)
    before = case.model.state_dict()
    for part in (slice(0, 12), slice(12, None)):
        trainer.step(({"numeric": case.x["numeric"][part]}, {name: y[part] for name, y in case.y.items()}))
    after = case.model.state_dict()
    got = {name: (before[name].astype(float) - after[name]) / LR for name in before}
    same_all(got, case.gradient(sum(case.losses(outputs)) + term))


@pytest.mark.parametrize("size", [{}, {"tasks": 2, "layers": 1, "tower": (7,)}, {"tasks": 5, "mixed": False}], ids=str)
@pytest.mark.parametrize(("scheme", "settings"), variants())
def test_gradient_methods_weigh_what_is_shared_and_nothing_else(scheme, settings, size, sampled):
    if scheme == "AITM":
        # Its term reaches what tasks share, as a part of their gradients.
        settings = {"calibration": 0.0}
    case = Case(scheme, settings, **size)
    trainer = pt.Trainer(case.model, pt.optim.SGD(lr=LR), weighting=pt.weighting.UPGrad(refresh=2))
    names, _ = case.model._core.gradients(case.model.reader.read(case.data).core(), "jacobian")
    for number in range(2):
        case.move()
        sampled(case, number, 0)
        outputs, term = case.forward(training=True)
        rows = [case.gradient(loss) for loss in case.losses(outputs)]
        added = case.gradient(term) if term.requires_grad else dict.fromkeys(rows[0], 0.0)
        if number == 0:
            # In the second step the weights are kept, and what they weigh is one backward instead of one a task.
            jacobian = np.stack([flat(row, names) for row in rows])
            weights = pt.weighting.UPGrad().weights(jacobian @ jacobian.T)
        want = {
            name: added[name]
            + sum((w if name in names else 1.0) * row[name] for w, row in zip(weights, rows, strict=True))
            for name in rows[0]
        }
        _, got, _ = case.step(trainer)
        same_all(got, want, 5e-6)
        unshared = set(want) - set(names)
        tasks_of = {name: sum(np.abs(row[name]).max(initial=0) > 0 for row in rows) for name in unshared}
        assert all(count <= 1 for count in tasks_of.values()), tasks_of


#: Modules whose outputs together are the last that all tasks reach.
REPRESENTATION = {
    "Hard": r"encoder\.1",
    "CrossStitch": r"encoders\..\.1",
    "NDDR": r"encoders\..\.1",
    "LTB": r"blocks\..\.1",
    "MMoE": r"experts\..\.1",
    "CGC": r"shared_experts\..\.1",
}


@pytest.mark.parametrize("scheme", REPRESENTATION)
def test_gradients_at_the_representation_are_combined_where_it_is(scheme, sampled):
    case = Case(scheme, {})
    trainer = pt.Trainer(case.model, pt.optim.SGD(lr=LR), weighting=pt.weighting.UPGrad(at="representation"))
    names, _ = case.model._core.gradients(case.model.reader.read(case.data).core(), "jacobian")
    outs = []
    for name, module in case.network.named_modules():
        if re.fullmatch(REPRESENTATION[scheme], name):
            module.register_forward_hook(lambda _module, _inputs, out: outs.append(out))
    sampled(case, 0, 0)
    losses = case.losses(case.forward(training=True)[0])
    together = [torch.autograd.grad(loss, outs, retain_graph=True, allow_unused=True) for loss in losses]
    jacobian = np.stack([torch.cat([g.ravel() for g in row]).numpy() for row in together])
    direction = torch.from_numpy(pt.weighting.UPGrad().aggregate(jacobian))
    along = torch.cat([out.ravel() for out in outs]) @ direction
    want = {**case.gradient(sum(losses)), **case.gradient(along, names)}
    same_all(case.step(trainer)[1], want, 5e-6)


def learnable(scheme, rows=256):
    """Rows whose tasks can be learned: steps of a funnel, or numbers."""
    x = np.random.default_rng(5).normal(size=(rows, 6)).astype(np.float32)
    if scheme in FUNNELS:
        click = x[:, 0] + x[:, 1] > 0
        return x, {"a": click, "b": click & (x[:, 2] > 0), "c": click & (x[:, 2] > 0) & (x[:, 3] > -0.5)}
    return x, {"a": np.tanh(2 * x[:, 0]), "b": x[:, 0] + 0.5 * x[:, 1] ** 2, "c": x[:, 2] - x[:, 3]}


def model_of(scheme, tasks="abc", seed=0, settings=None, **encoder):
    loss = "binary_cross_entropy" if scheme in FUNNELS else "mean_squared"
    return pt.MultiTaskModel(
        6,
        tasks=[pt.Task(name, loss=loss) for name in tasks],
        encoder=pt.encoder.MLP([16, 16], **encoder),
        sharing=getattr(pt.sharing, scheme)(**(settings or {})),
        seed=seed,
    )


ENCODERS = {"plain": {}, "layer norm, dropout, residual": {"norm": "layer", "dropout": 0.1, "residual": True}}


@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_learns(scheme, encoder, weighting):
    x, y = learnable(scheme)
    trainer = pt.Trainer(model_of(scheme, **encoder), pt.optim.Adam(lr=1e-2), weighting=weighting)
    history = trainer.fit((x, y), epochs=15, batch_size=32, progress=False, train_metrics=False)
    for task in "abc":
        losses = history[f"{task}/loss"]
        assert losses[-1] < 0.6 * losses[0], (task, losses)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_saved_model_predicts_the_same(scheme, tmp_path):
    x, y = learnable(scheme)
    branched = {"branches": [[["a", "b", "c"]], [["a", "c"], ["b"]]]}
    model = model_of(scheme, settings=branched if scheme == "Branched" else {})
    pt.Trainer(model, lr=1e-2).fit((x, y), epochs=2, progress=False)
    model.save(tmp_path / "model.safetensors")
    again = pt.MultiTaskModel.load(tmp_path / "model.safetensors")
    before, after = model.predict(x, raw=True), again.predict(x, raw=True)
    assert all(np.array_equal(before[task], after[task]) for task in "abc")


def test_branches_of_ltb_do_not_change_from_one_prediction_to_the_next():
    x, y = learnable("LTB")
    model = model_of("LTB")
    pt.Trainer(model, lr=1e-2).fit((x, y), epochs=2, progress=False)
    first = model.predict(x)
    assert all(np.array_equal(first[task], model.predict(x)[task]) for task in "abc")


def branched(*layers):
    return lambda: model_of("Branched", settings={"branches": [[list(branch) for branch in each] for each in layers]})


def other(sharing, hidden=(8, 6)):
    tasks = [pt.Task("click", loss="binary_cross_entropy"), pt.Task("age")]
    return lambda: pt.MultiTaskModel(6, tasks=tasks, encoder=pt.encoder.MLP(list(hidden)), sharing=sharing)


BAD = {
    "an unknown task": (branched(["abz"]), 'names no task "z"; the tasks are `a`, `b`, `c`'),
    "a task left out": (branched(["abc"], ["ab"]), "once in every layer; layer 1 is"),
    "a task twice": (branched(["ab", "bc"]), "once in every layer; layer 0 is"),
    "a layer without tasks": (lambda: pt.sharing.Branched(branches=[[["a"]], [[]]]), "layer 1 names none"),
    "tasks that meet again": (branched(["a", "bc"], ["ab", "c"]), "stay apart, but meet again in layer 1"),
    "more branchings than layers": (branched(["abc"], ["abc"], ["ab", "c"]), "has 3 layers, but the encoder only 2"),
    "layers of different widths": (other("sluice"), r"need one width; they have \[8, 6\]"),
    "subspaces that do not divide": (lambda: model_of("Sluice", settings={"subspaces": 3}), "3 equal parts"),
    "more levels than layers": (lambda: model_of("PLE", settings={"levels": 3}), r"PLE\(levels=3\).*it has 2"),
    "no level": (lambda: model_of("PLE", settings={"levels": 0}), "argument `levels` should be at least 1; got 0"),
    "numbers in ESMM": (other("esmm"), "ESMM needs tasks with one binary label each.*task `age`"),
    "numbers in AITM": (other("aitm"), "AITM needs tasks with one binary label each.*task `age`"),
    "too many selections": (lambda: pt.sharing.DSelectK(k=9, experts=8), "`k` should be at most `experts`, 8; got 9"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_cannot_work_is_refused(case):
    make, message = case
    with pytest.raises(ValueError, match=message):
        make()


def test_names_of_tasks_that_make_one_name_of_two_parameters_are_refused():
    tasks = [pt.Task(name) for name in ("a", "b", "a+b")]
    sharing = pt.sharing.Branched([[["a", "b"], ["a+b"]]])
    with pytest.raises(ValueError, match=r"two parameters would be called `encoders.a\+b.0.bias`"):
        pt.MultiTaskModel(3, tasks=tasks, encoder=pt.encoder.MLP([4]), sharing=sharing)
