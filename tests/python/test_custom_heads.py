"""Heads that are PyTorch modules, and several encoders by a function: the same steps as with the core's own."""

import copy
import itertools
import pickle
import re
import traceback
from collections import OrderedDict

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import Data, make_tasks, same_bits
from test_backends import AWAY, near
from test_custom_module import FIT, Backbone, Failing, compare_steps, resumed, seeded
from test_weighting_walk import FUNNELS, names
from torch import nn
from torch.nn import functional

STEPS = 20


def tower(features, outputs, hidden=8):
    """As `pt.head.Tower` has it, with its names."""
    with seeded(features + 10 * outputs):
        parts = [("0", nn.Linear(features, hidden)), ("relu", nn.ReLU()), ("1", nn.Linear(hidden, outputs))]
    return nn.Sequential(OrderedDict(parts))


def making(make):
    """A function that makes another one each time, and leaves torch's generator as it was."""
    seeds = itertools.count()

    def made():
        with seeded(next(seeds)):
            return make()

    return made


def expert():
    """As `pt.encoder.MLP([8])` has it, with its names."""
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU())


def linear(features, outputs):
    with seeded(2):
        return nn.Linear(features, outputs)


class Branch(nn.Module):
    """Of a user's own: batch norm, dropout, a buffer that counts, a parameter that does not learn."""

    def __init__(self, features, outputs):
        super().__init__()
        with seeded(7):
            self.norm = nn.BatchNorm1d(features)
            self.layer = nn.Linear(features, outputs)
        self.scale = nn.Parameter(torch.full((), 2.0), requires_grad=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.layer(functional.dropout(torch.tanh(self.norm(x)), 0.2, self.training)) * self.scale


def tasks_of(sharing, **heads):
    """Those that `conflicting` has labels of."""
    if sharing in FUNNELS:
        kinds = {name: {"loss": "binary_cross_entropy"} for name in ("up", "down", "side", "flags")}
    else:
        kinds = {"up": {}, "down": {"weight": 0.5}, "side": {"classes": 2}}
        kinds["flags"] = {"loss": "binary_cross_entropy", "outputs": 2}
    # No metrics: an AUROC jumps where two scores change places by a rounding.
    return [pt.Task(name, head=heads.get(name), metrics=[], **kind) for name, kind in kinds.items()]


def scheme(sharing):
    """For an encoder of one stage."""
    if sharing == "branched":
        return pt.sharing.Branched([[["up", "down"], ["side"], ["flags"]]])
    if sharing == "ltb":  # several branches are drawn, by the number of a node
        return pt.sharing.LTB(branches=1)
    return sharing


def pairs(sharing, what):
    """Makes trainers of models with modules and of ones with the core's own parts, whose names are the same."""

    def pair(where, weighting, lr, **more):
        core = pt.encoder.MLP([8]), {}
        foreign = {
            "heads": (pt.encoder.MLP([8]), {"up": tower(8, 1), "flags": tower}),
            "encoders": (making(expert), {}),
        }
        made = []
        for encoder, heads in (foreign[what], core):
            heads = {name: heads.get(name, pt.head.Tower(8)) for name in ("up", "down", "side", "flags")}
            tasks = tasks_of(sharing, **heads)
            model = pt.MultiTaskModel(6, tasks=tasks, encoder=encoder, sharing=scheme(sharing), seed=2)
            model._core.to(where)
            settings = {"weighting": weighting, "observe": ("weights", "gradients"), "seed": 4, **more}
            made.append(pt.Trainer(model, pt.optim.SGD(lr=lr), **settings))
        return made

    return pair


def compare(where, weighting, sharing, what, **more):
    compare_steps(where, weighting, pairs(sharing, what), lambda state: state, sharing, **more)


@pytest.mark.parametrize("where", ["loops", *AWAY])
@pytest.mark.parametrize("weighting", names("weighting"))
def test_every_weighting_makes_the_steps_it_makes_with_the_cores_own_heads(weighting, where):
    compare(where, weighting, "hard", "heads")


@pytest.mark.parametrize(
    ("weighting", "more"),
    [
        (pt.weighting.UPGrad(at="representation"), {}),
        (pt.weighting.MGDA(normalize="l2"), {"clip_norm": 0.5}),
        ("dwa", {"accumulate": 2}),
        ("equal", {"regularizers": [pt.regularizer.L2(0.1), pt.regularizer.L1(0.1)]}),
    ],
)
def test_modes_clipping_and_regularizers_work_on_heads(weighting, more):
    compare("loops", weighting, "hard", "heads", **more)


@pytest.mark.parametrize("what", ["heads", "encoders"])
@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
@pytest.mark.parametrize("sharing", names("sharing"))
def test_every_scheme_makes_the_steps_it_makes_with_the_cores_own_parts(sharing, weighting, what):
    compare("loops", weighting, sharing, what)


@pytest.mark.parametrize("where", AWAY)
@pytest.mark.parametrize("sharing", ["mmoe", "soft", "esmm"])
def test_schemes_by_formulas(sharing, where):
    compare(where, "upgrad", sharing, "encoders")
    compare(where, "upgrad", sharing, "heads")


@pytest.mark.parametrize("regularizer", [pt.regularizer.TaskRelation(0.1), pt.regularizer.Pairwise(0.1)])
def test_regularizers_that_compare_tasks_see_encoders_of_a_function(regularizer):
    compare("loops", "equal", "soft", "encoders", regularizers=[regularizer])


@pytest.mark.parametrize("where", ["loops", *AWAY])
@pytest.mark.parametrize("own_encoder", [False, True])
def test_the_same_losses_and_parameters_as_a_loop_of_plain_pytorch(data, own_encoder, where):
    """One task's head is a module with batch norm, one's is made by a function, one's is the model's."""
    with seeded(3):
        module = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        norm = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 2))
        age, topics = nn.Linear(16, 1), nn.Linear(16, 3)
    tasks = make_tasks()
    tasks[0] = pt.Task("income", classes=2, head=norm)
    tasks[2] = pt.Task("topics", loss="binary_cross_entropy", outputs=3, head=linear)
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=module if own_encoder else pt.encoder.MLP([16]))
    model._core.to(where)
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.1, momentum=0.9))
    plain = nn.ModuleDict({"encoder": copy.deepcopy(module), "heads": nn.ModuleDict()})
    plain["heads"].update({"income": copy.deepcopy(norm), "age": age, "topics": topics})
    plain.load_state_dict({name: torch.from_numpy(x) for name, x in model.state_dict().items()})
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    ours, others = [], []
    for step in range(STEPS):
        rows = slice(32 * (step % 5), 32 * (step % 5 + 1))
        x, income, age, topics = (torch.from_numpy(a[rows]) for a in (data.x, data.income, data.age, data.topics))
        ours.append(trainer.step((data.x[rows], data.income[rows], data.age[rows], data.topics[rows]))["loss"])
        h = plain["encoder"](x)
        heads = plain["heads"]
        loss = functional.cross_entropy(heads["income"](h), income)
        loss = loss + 0.5 * functional.mse_loss(heads["age"](h)[:, 0], age)
        loss = loss + functional.binary_cross_entropy_with_logits(heads["topics"](h), topics)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        others.append(float(loss.detach()))
    np.testing.assert_allclose(ours, others, rtol=1e-5)
    state = model.state_dict()
    assert state.keys() == plain.state_dict().keys()
    for name, want in plain.state_dict().items():
        near(state[name], want.numpy(), name)
    # The module that was given has learned.
    assert norm[0].num_batches_tracked == STEPS


def own_parts(sharing="hard", seed=0):
    """A model all of whose parts are modules."""
    tasks = [pt.Task("income", classes=2, head=Branch), pt.Task("age", head=Branch(6, 1)), pt.Task("topics", outputs=3)]
    return pt.MultiTaskModel(8, tasks=tasks, encoder=lambda: Backbone(8, 6), sharing=sharing, head=linear, seed=seed)


@pytest.mark.parametrize("sharing", ["hard", "mmoe", "soft"])
@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
def test_a_run_resumes_at_any_batch_with_the_same_bits(data, tmp_path, sharing, weighting):
    state = resumed(lambda: own_parts(sharing), data, tmp_path, 7, weighting)
    assert [state[f"heads.{name}.calls"] for name in ("income", "age")] == [12, 12]
    assert all(count == 12 for name, count in state.items() if name.endswith(".calls"))


def test_paths_frozen_parameters_and_repr():
    model = own_parts("soft")
    paths = {name for name in model.state_dict() if name.startswith("heads.age")}
    assert paths == {f"heads.age.{name}" for name in Branch(6, 1).state_dict()}
    scales = [f"encoders.{name}.scale" for name in ("income", "age", "topics")]
    assert sorted(model.frozen) == sorted([*scales, "heads.age.scale", "heads.income.scale"])
    shown = repr(model)
    assert "encoder=Backbone(...)" in shown
    assert "Task('age', head=Branch(...))" in shown
    assert "head=linear" in shown
    assert repr(pt.Task("a", head=pt.head.Tower([5, 4]))) == "Task('a', head=Tower(hidden=[5, 4]))"


def test_encoders_that_a_scheme_starts_alike_do_so_and_others_do_not():
    def fresh():
        return nn.Sequential(nn.Linear(8, 4))

    def weights(sharing, stem):
        model = pt.MultiTaskModel(8, tasks=make_tasks(), encoder=making(fresh), sharing=sharing)
        return [x for name, x in model.state_dict().items() if name.startswith(stem) and name.endswith("0.weight")]

    alike, apart = weights("soft", "encoders."), weights(pt.sharing.MMoE(experts=3), "experts.")
    assert len(alike) == len(apart) == 3
    assert all((x == alike[0]).all() for x in alike)
    assert not any((x == apart[0]).all() for x in apart[1:])


def test_frozen_heads_stay_and_their_batch_norms_normalise_with_what_they_have(data):
    model = own_parts()
    trainer = pt.Trainer(model, "sgd", lr=0.1)
    trainer.fit(data.whole, **FIT)
    model.freeze("heads.age")
    before = model.state_dict()
    trainer.fit(data.whole, **FIT)
    after = model.state_dict()
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert {name for name in before if name.startswith("heads.age.")} <= still
    assert not any(name.startswith("heads.income.norm") for name in still)
    model.unfreeze("heads.age")
    trainer.fit(data.whole, **FIT)
    assert not np.array_equal(model.state_dict()["heads.age.norm.running_mean"], before["heads.age.norm.running_mean"])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("weighting", ["equal", "upgrad"])
def test_an_exception_in_a_head_reaches_the_user_and_the_run_goes_on(data, tmp_path, weighting, backward):
    class Breaking(Failing):
        def forward(self, x):
            return super().forward(x)[:, :1]

    def new(at):
        tasks = [pt.Task("income", classes=2), pt.Task("age", head=Breaking(at, backward))]
        return pt.Trainer(pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([8])), weighting=weighting)

    rows = (data.x, data.income, data.age)
    want = new(0)
    want.fit(rows, **FIT)
    trainer = new(8)
    with pytest.raises(LookupError, match="not today") as raised:
        trainer.fit(rows, callbacks=[pt.Checkpoint(tmp_path, every_steps=1)], **FIT)
    assert "break_off" in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    trainer.fit(rows, resume=tmp_path, **FIT)
    assert same_bits(trainer.model.state_dict(), want.model.state_dict())


@pytest.mark.parametrize("frozen", [False, True])
def test_a_head_that_writes_on_its_features_writes_on_its_own_copy(data, frozen):
    """Also where nothing before it learns, and no gradient asks for a copy."""

    def new(inplace):
        with seeded(0):
            head = nn.Sequential(nn.ReLU(inplace=inplace), nn.Linear(8, 1))
        encoder = pt.encoder.MLP([8], activation="tanh")
        model = pt.MultiTaskModel(8, tasks=[pt.Task("a", head=head), pt.Task("b")], encoder=encoder)
        if frozen:
            model.freeze("encoder")
        pt.Trainer(model, "sgd", lr=0.1).fit((data.x, data.age, data.age), **FIT)
        return model.state_dict(), model.predict(data.x)

    for got, want in zip(new(True), new(False), strict=True):
        assert same_bits(got, want)


def test_files_pickles_and_copies(data, tmp_path):
    model = own_parts("mmoe")
    pt.Trainer(model).fit(data.whole, **FIT)
    want, state = model.predict(data.x), model.state_dict()
    path = tmp_path / "model.safetensors"
    model.save(path)
    heads = {"income": Branch, "age": Branch(6, 1), "topics": linear(6, 3)}
    loaded = pt.MultiTaskModel.load(path, encoder=lambda: Backbone(8, 6), heads=heads)
    copied = copy.deepcopy(model)
    for twin in (loaded, copied):
        assert same_bits(twin.state_dict(), state)
        assert same_bits(twin.predict(data.x), want)
        assert twin.frozen == model.frozen
        pt.Trainer(twin).fit(data.whole, **FIT)
    assert same_bits(copied.state_dict(), loaded.state_dict())
    assert repr(copied) == repr(model)
    assert same_bits(model.state_dict(), state)
    tasks = [pt.Task("age", head=Branch(128, 1)), pt.Task("b", head="tower"), pt.Task("c")]
    plain = pt.MultiTaskModel(8, tasks=tasks, head=Branch)
    again = pickle.loads(pickle.dumps(plain))
    assert repr(again) == repr(plain)
    assert same_bits(again.predict(data.x), plain.predict(data.x))


def test_a_file_opens_without_its_heads_and_says_what_it_needs(data, tmp_path):
    path = tmp_path / "model.safetensors"
    tasks = [pt.Task("income", classes=2, head=Branch), pt.Task("age", head="tower"), pt.Task("new")]
    model = pt.MultiTaskModel(8, tasks=tasks)
    model.save(path)
    loaded = pt.MultiTaskModel.load(path)
    assert "Task('income', classes=2, head=Branch(...))" in repr(loaded)
    assert "Task('age', head=Tower())" in repr(loaded)
    assert same_bits(loaded.state_dict(), model.state_dict())
    loaded.save(path)
    message = "this model's head of task `income` was Python code, which a file cannot hold: pass it to `load` again, "
    with pytest.raises(ValueError, match=re.escape(message + '`heads={"income": module}`')):
        loaded.predict(data.x)
    with pytest.raises(ValueError, match="task `income` has a Python head, which no file keeps: load the model with"):
        pt.MultiTaskModel(8, tasks=loaded.tasks)
    for heads in (Branch, {"income": Branch}):
        again = pt.MultiTaskModel.load(path, heads=heads)
        assert same_bits(again.predict(data.x), model.predict(data.x))
    others = {
        "task `income`: `head`: the model was made with a module `Branch` of other parameters: `scale` is [] there and "
        "missing here": linear,
        "should take features [rows, 128]": Branch(7, 2),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            pt.MultiTaskModel.load(path, heads={"income": other})
    message = "`heads`: no head of your own has task 'age'; those that have one are `income`"
    with pytest.raises(ValueError, match=message):
        pt.MultiTaskModel.load(path, heads={"age": Branch})


def test_tasks_are_added_and_removed(data):
    model = own_parts("soft")
    pt.Trainer(model).fit(data.whole, **FIT)
    state = model.state_dict()
    more = model.add_task(pt.Task("new", head=Branch)).add_task(pt.Task("other"))
    assert same_bits({n: x for n, x in more.state_dict().items() if n in state}, state)
    assert {n for n in more.state_dict() if n.startswith("heads.new.")} == {
        f"heads.new.{n}" for n in Branch(6, 1).state_dict()
    }
    assert "heads.new.scale" in more.frozen
    with seeded(7):
        fresh = nn.Linear(6, 1)  # as Branch begins
    np.testing.assert_array_equal(more.state_dict()["heads.new.layer.bias"], fresh.bias.detach().numpy())
    kept = more.predict(data.x)
    assert same_bits({n: kept[n] for n in ("income", "age", "topics")}, model.predict(data.x))
    fewer = more.remove_task("age").remove_task("income")
    assert same_bits(fewer.predict(data.x), {n: kept[n] for n in ("topics", "new", "other")})
    pt.Trainer(fewer).fit((data.x, {"topics": data.topics, "new": data.age, "other": data.age}), **FIT)
    assert same_bits(model.state_dict(), state)


def test_a_head_may_ask_for_predictions_of_the_model_in_training(data):
    found = []

    class Asking(Branch):
        def forward(self, x):
            if self.training:
                found.append((model.state_dict(), model.predict(data.x)))
            return super().forward(x)

    tasks = [pt.Task("income", classes=2, head=Branch), pt.Task("age", head=Asking)]
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=Backbone)
    pt.Trainer(model, lr=0.01, seed=3).fit((data.x, data.income, data.age), **{**FIT, "epochs": 1})
    asked = model.state_dict()
    assert len(found) == 5
    for state, predicted in found:
        model.load_state_dict(state)
        assert same_bits(model.predict(data.x), predicted)
    quiet = [pt.Task("income", classes=2, head=Branch), pt.Task("age", head=Branch)]
    model = pt.MultiTaskModel(8, tasks=quiet, encoder=Backbone)
    pt.Trainer(model, lr=0.01, seed=3).fit((data.x, data.income, data.age), **{**FIT, "epochs": 1})
    assert same_bits(model.state_dict(), asked)


class Narrowing(nn.Module):
    """Gives fewer columns from a number of rows on."""

    def __init__(self):
        super().__init__()
        self.layer = linear(16, 2)

    def forward(self, x):
        return self.layer(x)[:, : 1 if len(x) > 2 else 2]


WRONG = [
    (nn.Linear(15, 2), ValueError,
     r"task `a`: `head`: the module `Linear` should take features \[rows, 16\]; on zeros of"),
    (nn.Linear(16, 3), ValueError,
     r"task `a`: `head`: the module `Linear` should give a float32 tensor \[rows, 2\]; for zeros of \[2, 16\] it gave "
     r"float32 \[2, 3\]"),
    (lambda a: linear(a, 2), TypeError,
     "task `a`: `head`: a function should make a module of the numbers of features and outputs, or of nothing; got"),
    (lambda: 3, TypeError, "task `a`: `head`: a function should make a torch.nn.Module; it made 3"),
    ("towr", ValueError, 'task `a`: unknown head "towr"; did you mean `tower`'),
    (7, TypeError, "task `a`: `head` should be one of pt.head or its name"),
    (pt.encoder.MLP(), TypeError, "task `a`: `head` should be one of pt.head; got MLP"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "error", "message"), WRONG)
def test_what_cannot_be_a_head_is_said_at_once(head, error, message):
    with pytest.raises(error, match=message):
        pt.MultiTaskModel(8, tasks=[pt.Task("a", classes=2, head=head), pt.Task("b")], encoder=pt.encoder.MLP([16]))


def test_what_is_wrong_later_is_said_then(data):
    tasks = [pt.Task("income", classes=2, head=Narrowing()), pt.Task("age")]
    model = pt.MultiTaskModel(8, tasks=tasks, encoder=pt.encoder.MLP([16]))
    message = r"`head`: the module `Narrowing` should give a float32 tensor \[32, 2\]; it gave float32 \[32, 1\]"
    with pytest.raises(ValueError, match=message):
        pt.Trainer(model).fit((data.x, data.income, data.age), **FIT)


def test_one_module_is_one_head_and_one_layout_that_of_all_encoders():
    message = "`head`: a module is the head of one task, and the model has `income`, `age`, `topics`: give a function"
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.MultiTaskModel(8, tasks=make_tasks(), head=linear(128, 1))
    model = pt.MultiTaskModel(8, tasks=[pt.Task("a"), pt.Task("b", head="tower")], head=Branch(128, 1))
    assert "heads.a.norm.weight" in model.state_dict()
    assert "heads.b.1.weight" in model.state_dict()
    widths = iter(range(4, 20))
    message = "`encoder`: the function made a module of other parameters: `weight` is [4, 8] there and [5, 8] here"
    with pytest.raises(ValueError, match=re.escape(message)):
        pt.MultiTaskModel(8, tasks=make_tasks(), encoder=lambda: linear(8, next(widths)), sharing="mmoe")


def test_a_second_task_works_on_a_copy_of_its_own(data):
    head = Branch(128, 1)
    model = pt.MultiTaskModel(8, tasks=[pt.Task("a", head=head), pt.Task("b", head=head)])
    pt.Trainer(model, "sgd", lr=0.01).fit((data.x, data.age, -data.age), **FIT)
    state = model.state_dict()
    assert not np.array_equal(state["heads.a.layer.weight"], state["heads.b.layer.weight"])
    assert np.array_equal(head.layer.weight.detach(), state["heads.a.layer.weight"])


@pytest.fixture
def data():
    return Data()
