"""Modules of one's own that take arrays of any shape and type, several and by name, and what else happens to them."""

import copy
import io
import logging

import numpy as np
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch import nn
from torch.nn import functional

ROWS = 48
TASKS = [("kind", 3), ("size", None)]


@pytest.fixture(autouse=True)
def _own_draws():
    with torch.random.fork_rng(devices=[]):
        yield


def tasks():
    return [pt.Task(name, classes=classes) for name, classes in TASKS]


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    x = {
        "image": rng.normal(size=(ROWS, 2, 4, 4)).astype(np.float32),
        "ids": rng.integers(0, 9, (ROWS, 5)),
        "hidden": rng.random((ROWS, 5)) < 0.3,
        "age": rng.normal(size=ROWS).astype(np.float32),
    }
    return x, rng.integers(0, 3, ROWS), rng.normal(size=ROWS).astype(np.float32)


SHAPES = {"image": (2, 4, 4), "ids": 5, "hidden": (5,), "age": ()}


class Mixed(nn.Module):
    """Takes four arrays by name, of three types."""

    def __init__(self, as_dict=False):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 6))
        self.words = nn.Embedding(9, 6)
        self.as_dict = as_dict

    def forward(self, hidden, ids, image, age):
        assert ids.dtype == torch.int64
        words = (self.words(ids) * ~hidden.unsqueeze(2)).mean(1)
        return torch.tanh(self.image(image) + words + age[:, None])


class AsDict(Mixed):
    def forward(self, batch):
        return super().forward(**batch)


def trained(encoder, data, inputs, steps=10, **settings):
    model = pt.MultiTaskModel(inputs, tasks=tasks(), encoder=encoder, seed=1)
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.05, momentum=0.9), **settings)
    x, kind, size = data
    losses = []
    for step in range(steps):
        rows = slice(12 * (step % 4), 12 * (step % 4 + 1))
        part = {name: array[rows] for name, array in x.items()} if isinstance(x, dict) else x[rows]
        losses.append(trainer.step((part, kind[rows], size[rows]))["loss"])
    return model, losses


def module_of(kind, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind()


@pytest.mark.parametrize("kind", [Mixed, AsDict])
def test_arrays_of_three_types_by_name_as_in_a_loop_of_plain_pytorch(kind):
    module = module_of(kind)
    plain, x = copy.deepcopy(module), arrays()[0]
    model = pt.MultiTaskModel(SHAPES, tasks=tasks(), encoder=module, seed=1)
    heads = {"kind": nn.Linear(6, 3), "size": nn.Linear(6, 1)}
    for name, head in heads.items():
        head.load_state_dict({part: torch.tensor(model.state_dict()[f"heads.{name}.{part}"]) for part in
                              ("weight", "bias")})  # fmt: skip
    optimizer = torch.optim.SGD([*plain.parameters(), *(p for h in heads.values() for p in h.parameters())], 0.05, 0.9)
    trainer = pt.Trainer(model, pt.optim.SGD(lr=0.05, momentum=0.9))
    _, kinds, sizes = arrays()
    for step in range(20):
        rows = slice(12 * (step % 4), 12 * (step % 4 + 1))
        part = {name: array[rows] for name, array in x.items()}
        ours = trainer.step((part, kinds[rows], sizes[rows]))["loss"]
        given = {name: torch.from_numpy(array) for name, array in part.items()}
        h = plain(given) if kind is AsDict else plain(**given)
        loss = functional.cross_entropy(heads["kind"](h), torch.from_numpy(kinds[rows]))
        loss = loss + functional.mse_loss(heads["size"](h)[:, 0], torch.from_numpy(sizes[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(float(loss.detach()), rel=1e-5)
    for name, want in plain.named_parameters():
        np.testing.assert_allclose(dict(module.named_parameters())[name].detach(), want.detach(), rtol=1e-4, atol=1e-5)


def test_arrays_come_by_name_in_any_order_or_in_the_order_of_the_shapes():
    data = arrays()
    model, _ = trained(module_of(Mixed), data, SHAPES)
    x = data[0]
    want = model.predict(x)["kind"]
    assert np.array_equal(model.predict({name: x[name] for name in reversed(list(x))})["kind"], want)
    assert np.array_equal(model.predict(tuple(x.values()))["kind"], want)
    assert np.array_equal(model.predict({name: torch.from_numpy(array) for name, array in x.items()})["kind"], want)
    loader = torch.utils.data.DataLoader(
        [({name: array[i] for name, array in x.items()}, data[1][i], data[2][i]) for i in range(ROWS)], batch_size=16
    )
    assert np.array_equal(model.predict(loader)["kind"], want)


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(32, 4)

    def forward(self, x):
        return torch.relu(self.inner(x.view(len(x), -1)))


@pytest.mark.parametrize("form", ["uint8", "float16", "strided", "float64"])
def test_one_array_of_any_type_and_layout_is_read_where_it_is(form):
    x, *labels = arrays()
    image = (x["image"] * 40 + 100).clip(0, 255).astype(np.uint8)
    given = {
        "uint8": image,
        "float16": image.astype(np.float16),
        "strided": np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "float64": image.astype(float),
    }[form]
    model, losses = trained(module_of(Flat), (given, *labels), (2, 4, 4))
    _, want = trained(module_of(Flat), (image.astype(np.float32), *labels), (2, 4, 4))
    assert losses == want
    assert model.predict(given)["kind"].shape == (ROWS, 3)


def test_a_number_of_features_may_be_codes():
    ids = arrays()[0]["ids"]
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten())
    model, _ = trained(module, (ids, *arrays()[1:]), 5)
    assert model.predict(ids)["kind"].shape == (ROWS, 3)
    with pytest.raises(
        ValueError, match=r"`x` of x should hold whole numbers from -16777216 to 16777216; got 8.5 at row 0, column 0"
    ):
        model.predict(ids + 0.5)
    with pytest.raises(ValueError, match=r"should hold whole numbers from -16777216 to 16777216; got 16777217"):
        model.predict(ids + (1 << 24) + 1 - ids)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x, mask):
        return self.attention(x, x, x, key_padding_mask=mask)[0].mean(1)


class Chosen(Attending):
    def forward(self, x, mask):
        return functional.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None]).mean(1) @ torch.ones(4, 4)


class Scaled(Attending):
    def forward(self, x, mask):
        return self.attention.out_proj((x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


def fit_on(model):
    return lambda x: pt.Trainer(model).fit((x, {"size": np.ones(ROWS)}), epochs=1, progress=False)


@pytest.mark.parametrize("kind", [Attending, Chosen])
def test_truths_are_not_taken_for_floats_of_which_a_module_makes_something_else(kind):
    rng = np.random.default_rng(0)
    x = {"x": rng.normal(size=(ROWS, 3, 4)).astype(np.float32), "mask": np.arange(3) < rng.integers(1, 3, (ROWS, 1))}
    module = module_of(kind).eval()
    model = pt.MultiTaskModel({"x": (3, 4), "mask": 3}, tasks=tasks(), encoder=module)
    added = {**x, "mask": x["mask"].astype(np.float32)}
    said = "holds {}, and the module makes something else of truths than of floats: say which it is given, "
    said += r'pt.Inputs\(arrays=."mask": \(\(3,\), "bool"\).\) or "float32"'
    for each in (model, copy.deepcopy(model)):
        for use in (each.predict, each.tensors, fit_on(each)):
            with pytest.raises(TypeError, match=said.format("bool")):
                use(x)
            with pytest.raises(TypeError, match=said.format("int64")):
                use({**x, "mask": x["mask"].astype(np.int64)})
        assert each.predict(added)["size"].shape == (ROWS,)
    model = pt.MultiTaskModel({"x": (3, 4), "mask": (3, "bool")}, tasks=tasks(), encoder=module)
    features = module(*map(torch.from_numpy, x.values())).detach().numpy()
    state = model.state_dict()
    want = features @ state["heads.size.weight"][0] + state["heads.size.bias"]
    np.testing.assert_allclose(model.predict(x)["size"], want, atol=1e-5)


def test_truths_are_floats_where_a_module_makes_the_same_of_both():
    x = {"x": np.ones((ROWS, 3, 4)), "mask": np.arange(3) < np.arange(1, ROWS + 1)[:, None]}
    model = pt.MultiTaskModel({"x": (3, 4), "mask": 3}, tasks=tasks(), encoder=module_of(Scaled))
    assert same_bits(model.predict(x), model.predict({**x, "mask": x["mask"].astype(float)}))


def test_schemes_of_several_encoders_take_arrays():
    data = arrays()
    for sharing in ["mmoe", "soft"]:
        model = pt.MultiTaskModel(SHAPES, tasks=tasks(), encoder=Mixed, sharing=sharing)
        before = pt.Trainer(model).evaluate(data).loss
        pt.Trainer(model, lr=0.01, weighting="upgrad").fit(data, epochs=5, batch_size=12, progress=False)
        assert pt.Trainer(model).evaluate(data).loss < before


def test_built_in_encoders_take_arrays_flat():
    x, *labels = arrays()
    inputs = pt.Inputs(numeric=1, arrays={"image": (2, 4, 4)})
    given = {"numeric": x["age"], "image": x["image"]}
    flat = np.column_stack([x["age"], x["image"].reshape(ROWS, -1)])
    _, ours = trained("mlp", (given, *labels), inputs)
    _, want = trained("mlp", (flat, *labels), 33)
    assert ours == want


def test_features_and_embeddings_stand_before_arrays():
    x, *labels = arrays()

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2 + 3 + 32, 4)

        def forward(self, features, image):
            assert features.shape[1] == 5
            return torch.relu(self.inner(torch.cat([features, image.flatten(1)], 1)))

    inputs = pt.Inputs(numeric=2, categorical=[9], embedding=3, arrays={"image": (2, 4, 4)})
    given = {"numeric": x["image"][:, 0, 0, :2], "categorical": x["ids"][:, :1], "image": x["image"]}
    model, _ = trained(module_of(Beside), (given, *labels), inputs, weighting="upgrad")
    before = pt.MultiTaskModel(inputs, tasks=tasks(), encoder=module_of(Beside), seed=1).state_dict()
    assert not np.array_equal(model.state_dict()["embedding.0.weight"], before["embedding.0.weight"])


def test_files_copies_and_pickles_keep_shapes_and_types(tmp_path):
    data = arrays()
    model, _ = trained(module_of(Mixed), data, SHAPES)
    model.save(tmp_path / "model.safetensors")
    fresh = module_of(Mixed)
    loaded = pt.MultiTaskModel.load(tmp_path / "model.safetensors", encoder=fresh)
    for twin in (loaded, copy.deepcopy(model)):
        assert same_bits(twin.predict(data[0]), model.predict(data[0]))
        assert repr(twin.inputs) == repr(model.inputs)
    # The module that was passed has the numbers of the file at once.
    assert torch.equal(fresh.words.weight, model._modules.encoder.first.module.words.weight)
    pt.Trainer(loaded, lr=0.1).fit(data, epochs=1, progress=False)
    assert not same_bits(loaded.predict(data[0]), model.predict(data[0]))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": (2, 0)}, r"`arrays\['image'\]` should be a whole number of at least 1; got 0"),
        (
            {"image": "wide"},
            r"`arrays\['image'\]` should be the shape of a row's entry, such as \(3, 32, 32\); got 'wide'",
        ),
        ({"numeric": 3}, "`arrays` should have names other than `numeric` and `categorical`"),
        ((2, 4.5), r"`inputs\[1\]` should be the shape of a row's entry"),
    ],
)
def test_shapes_that_are_none(inputs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pt.MultiTaskModel(inputs, tasks=tasks(), encoder=Mixed())


def test_arrays_that_do_not_fit():
    x, *labels = arrays()
    model, _ = trained(module_of(Mixed), (x, *labels), SHAPES, steps=1)
    lacking = {name: array for name, array in x.items() if name != "ids"}
    with pytest.raises(ValueError, match="`x` of ids is missing"):
        model.predict(lacking)
    with pytest.raises(ValueError, match=r"`x` of image should have shape \[48, 2, 4, 4\]; got \[48, 2, 4, 3\]"):
        model.predict({**x, "image": x["image"][..., :3]})
    with pytest.raises(ValueError, match="`x` should have the keys `image`, `ids`, `hidden` and `age`; got 'picture'"):
        model.predict({**x, "picture": x["image"]})
    with pytest.raises(ValueError, match="should hold finite numbers; got NaN at row 0, index"):
        model.predict({**x, "image": np.full_like(x["image"], np.nan)})
    with pytest.raises(TypeError, match="`x` should be a dict with the keys"):
        model.predict(x["image"])


def test_a_module_that_takes_none_of_it_says_what_it_was_given():
    with pytest.raises(ValueError, match=r"should take `image` \[rows, 2, 4, 4\], `ids` \[rows, 5\]"):
        pt.MultiTaskModel(SHAPES, tasks=tasks(), encoder=nn.Linear(3, 2))


# The module that was passed is the model's.


def halves(seed=0):
    return module_of(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()), seed)


def table(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(ROWS, 3)).astype(np.float32), rng.integers(0, 3, ROWS), rng.normal(size=ROWS)


def epoch(model, lr=0.1):
    pt.Trainer(model, pt.optim.SGD(lr=lr)).fit(table(), epochs=1, batch_size=12, progress=False)


def weights(module):
    return {name: x.detach().numpy().copy() for name, x in module.state_dict().items()}


def test_the_module_that_was_passed_learns_and_what_is_put_into_it_counts():
    module = halves()
    model = pt.MultiTaskModel(3, tasks=tasks(), encoder=module)
    before = weights(module)
    epoch(model)
    assert not np.array_equal(module[0].weight.detach(), before["0.weight"])
    assert np.array_equal(model.state_dict()["encoder.0.weight"], module[0].weight.detach())
    with torch.no_grad():
        module[0].weight.zero_()
    assert not model.state_dict()["encoder.0.weight"].any()
    # Another model's file has the size of what it holds, not of all parameters.
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    assert len(file.getvalue()) < 6000


@pytest.mark.parametrize("how", ["to", "half", "assign", "new"])
def test_numbers_that_left_the_models_memory_are_taken_back(how, caplog):
    module, other = halves(), halves(1)
    model = pt.MultiTaskModel(3, tasks=tasks(), encoder=module)
    epoch(model)
    change = {
        "to": lambda: module.to(torch.float64),
        "half": lambda: module.half(),
        "assign": lambda: module.load_state_dict(other.state_dict(), assign=True),
        "new": lambda: setattr(module[0], "weight", nn.Parameter(torch.ones(4, 3))),
    }[how]
    change()
    want = weights(module)["0.weight"].astype(np.float32)
    with caplog.at_level(logging.WARNING, "polytask"):
        model.predict(table()[0])
    assert "their numbers are taken back into it" in caplog.text
    assert np.array_equal(model.state_dict()["encoder.0.weight"], want)
    assert module[0].weight.dtype == torch.float32
    epoch(model)
    assert np.array_equal(model.state_dict()["encoder.0.weight"], module[0].weight.detach())
    assert not np.array_equal(module[0].weight.detach(), want)


def test_a_parameter_of_another_shape_is_refused():
    module = halves()
    model = pt.MultiTaskModel(3, tasks=tasks(), encoder=module)
    epoch(model)
    module[0].weight = nn.Parameter(torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"parameter `0.weight` should keep the shape \[4, 3\]; it was given \[4, 2\]"):
        model.predict(table()[0])


def test_two_models_of_one_module_have_numbers_of_their_own():
    module = halves()
    one, other = (pt.MultiTaskModel(3, tasks=tasks(), encoder=module, seed=0) for _ in range(2))
    alone = pt.MultiTaskModel(3, tasks=tasks(), encoder=halves(), seed=0)
    epoch(one)
    epoch(other, lr=0.3)
    assert np.array_equal(module[0].weight.detach(), other.state_dict()["encoder.0.weight"])
    epoch(one)
    for _ in range(2):
        epoch(alone)
    assert same_bits(one.predict(table()[0]), alone.predict(table()[0]))
    assert not same_bits(one.predict(table()[0]), other.predict(table()[0]))


def test_a_step_goes_on_after_another_model_ran_its_module():
    module = halves()
    judge = pt.MultiTaskModel(3, tasks=tasks(), encoder=module, seed=5)
    epoch(judge, lr=0.5)

    def asking(ask):
        def loss(raw, labels):
            if ask:
                judge.predict(table()[0])
            return functional.mse_loss(raw, labels)

        return loss

    found = []
    for ask in (True, False):
        used = module if ask else halves()
        used.load_state_dict(halves(3).state_dict())
        model = pt.MultiTaskModel(3, tasks=[pt.Task("y", loss=asking(ask))], encoder=used, seed=0)
        x, _, y = table()
        pt.Trainer(model, pt.optim.SGD(lr=0.1)).fit((x, y), epochs=1, batch_size=12, progress=False, shuffle=False)
        found.append(model.state_dict())
    assert same_bits(*found)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(torch.relu(self.one(x)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(3, 4, batch_first=True)

    def forward(self, x):
        return self.cell(x[:, None])[1][-1]


@pytest.mark.parametrize("kind", [Tied, Recurrent])
def test_what_is_tied_or_kept_twice_stays_so_when_numbers_are_taken_back(kind):
    module = module_of(kind)
    model = pt.MultiTaskModel(3, tasks=tasks(), encoder=module)
    epoch(model)
    module.load_state_dict(module_of(kind, 1).state_dict(), assign=True)
    alone = pt.MultiTaskModel(3, tasks=tasks(), encoder=module_of(kind, 1))
    theirs = {f"encoder.{name}": x for name, x in weights(alone._modules.encoder.first.module).items()}
    alone.load_state_dict({**model.state_dict(), **theirs}, strict=False)
    for each in (model, alone):
        epoch(each)
    if kind is Tied:
        assert module.other.weight is module.one.weight
        assert np.array_equal(model.state_dict()["encoder.one.weight"], module.other.weight.detach())
    assert same_bits(model.predict(table()[0]), alone.predict(table()[0]))


def test_a_graph_of_before_a_step_is_stale():
    module = halves()
    model = pt.MultiTaskModel(3, tasks=tasks(), encoder=module)
    epoch(model)
    module.eval()
    y = torch.relu(module[0](torch.ones(2, 3).requires_grad_()))
    epoch(model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_weights_that_are_loaded_before_the_first_run_count():
    module = halves()
    model = pt.MultiTaskModel(3, tasks=tasks(), encoder=module, seed=0)
    module.load_state_dict(halves(1).state_dict())
    want = pt.MultiTaskModel(3, tasks=tasks(), encoder=halves(1), seed=0)
    assert same_bits(model.predict(table()[0]), want.predict(table()[0]))
    # The model's own are newer where nobody touched the module.
    model.load_state_dict(pt.MultiTaskModel(3, tasks=tasks(), encoder=halves(2), seed=0).state_dict())
    assert np.array_equal(module[0].weight.detach(), halves(2)[0].weight.detach())


def test_parts_of_one_model_that_share_parameters_are_apart():
    module = halves()
    heads = {"a": nn.Linear(4, 1), "b": nn.Sequential(module[1], nn.Linear(4, 1))}
    model = pt.MultiTaskModel(3, tasks=[pt.Task(name, head=head) for name, head in heads.items()], encoder=module)
    assert model._modules.encoder.first.module is module
    other = pt.MultiTaskModel(4, tasks=[pt.Task("y")], encoder=nn.Sequential(module[1], module[2]), seed=0)
    x = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    before = other.predict(x)["y"]
    epoch_of(model)
    # Of two models with a part in common each keeps its numbers.
    assert np.array_equal(other.predict(x)["y"], before)
    assert not np.array_equal(model.state_dict()["encoder.1.weight"], other.state_dict()["encoder.0.weight"])


def epoch_of(model):
    x, _, y = table()
    pt.Trainer(model, pt.optim.SGD(lr=0.1)).fit((x, y, -y), epochs=1, batch_size=12, progress=False)


@pytest.mark.parametrize("kind", [Mixed, AsDict])
def test_it_is_part_of_what_to_torch_gives(kind):
    data = arrays()
    model, _ = trained(module_of(kind), data, SHAPES)
    want = model.predict(data[0])
    module = model.to_torch()
    given = model.tensors(data[0])
    assert {name: x.dtype for name, x in given.items()} == {
        "image": torch.float32, "ids": torch.int64, "hidden": torch.bool, "age": torch.float32,
    }  # fmt: skip
    for name, got in module(**given).items():
        np.testing.assert_allclose(got.detach(), want[name], atol=1e-6)
    again = pt.MultiTaskModel.from_torch(module)
    assert same_bits(again.predict(data[0]), want)
    with pytest.raises(ValueError, match=r"`x\['ids'\]` should be \[rows, 5\] of int64; got \[48, 5\] of float32"):
        model({**given, "ids": given["ids"].float()})


def test_what_a_loader_collates_is_arrays_and_targets():
    x, kind, size = arrays()
    rows = [({name: array[i] for name, array in x.items()}, {"kind": kind[i], "size": size[i]}) for i in range(ROWS)]
    for data in (torch.utils.data.DataLoader(rows, batch_size=12), [[x, {"kind": kind, "size": size}]]):
        model = pt.MultiTaskModel(SHAPES, tasks=tasks(), encoder=module_of(Mixed), seed=1)
        pt.Trainer(model, pt.optim.SGD(lr=0.05)).fit(data, epochs=1, progress=False)
        want = pt.MultiTaskModel(SHAPES, tasks=tasks(), encoder=module_of(Mixed), seed=1)
        size_of_batch = 12 if isinstance(data, torch.utils.data.DataLoader) else ROWS
        trainer = pt.Trainer(want, pt.optim.SGD(lr=0.05))
        trainer.fit((x, kind, size), epochs=1, batch_size=size_of_batch, shuffle=False, progress=False)
        assert same_bits(model.predict(x), want.predict(x))


@pytest.mark.parametrize("named", [True, False])
def test_one_row_without_an_axis_of_rows_is_told_to_have_one(named):
    image = arrays()[0]["image"]
    model = pt.MultiTaskModel({"image": (2, 4, 4)} if named else (2, 4, 4), tasks=tasks(), encoder=module_of(Flat))
    with pytest.raises(ValueError, match=r"\[rows, 2, 4, 4\]; got \[2, 4, 4\]: one row is an array of rows too, `x\["):
        model.predict({"image": image[0]} if named else image[0])
    one = {"image": image[0][None]} if named else image[0][None]
    assert model.predict(one)["kind"].shape == (1, 3)


def test_one_row_of_several_arrays_is_told_to_have_an_axis_of_rows_before_rows_are_counted():
    x = arrays()[0]
    model = pt.MultiTaskModel(SHAPES, tasks=tasks(), encoder=module_of(Mixed))
    model.predict(x)
    with pytest.raises(ValueError, match=r"\[rows, 2, 4, 4\]; got \[2, 4, 4\]: .*, `x\[\"image\"\]\[None\]`"):
        model.predict({name: array[0] for name, array in x.items()})
    said = (
        r'^`x\["age"\]` should have shape \[rows\]; got one number: one row is an array of rows too, `\[x\["age"\]\]`$'
    )
    for age in (x["age"][0], 3.0, torch.tensor(3.0)):
        with pytest.raises(ValueError, match=said):
            model.predict({**{name: array[:1] for name, array in x.items()}, "age": age})
    one = model.predict({**{name: array[:1] for name, array in x.items()}, "age": [x["age"][0]]})
    assert same_bits(one, model.predict({name: array[:1] for name, array in x.items()}))
