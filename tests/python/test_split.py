"""Parts of data: the right rows in the same form, by labels, groups or time, and the same words in `fit`."""

import datetime
from collections import Counter, namedtuple

import numpy as np
import pandas as pd
import polars as pl
import polytask as pt
import pytest
import torch
from conftest import same_bits
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

ROWS = 400
RNG = np.random.default_rng(0)
#: The first feature is the row's number, by which parts are recognised.
X = np.column_stack([np.arange(ROWS), RNG.normal(size=ROWS)]).astype("f4")
KIND = RNG.choice([0, 1, 2], ROWS, p=[0.7, 0.25, 0.05])
SIZE = RNG.normal(size=ROWS).astype("f4")
FRAME = pd.DataFrame({"row": X[:, 0], "x": X[:, 1], "kind": KIND, "size": SIZE})
Named = namedtuple("Named", "x kind size")


class Items(Dataset):
    def __init__(self, keys):
        self.keys = keys

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        return {"x": X[i], "kind": KIND[i], "size": SIZE[i]} if self.keys else (X[i], KIND[i], SIZE[i])


def tensors():
    return TensorDataset(*map(torch.from_numpy, (X, KIND, SIZE)))


FORMS = {
    "tuple": lambda: (X, KIND, SIZE),
    "targets by name": lambda: (X, {"kind": KIND, "size": SIZE}),
    "nested": lambda: (X, (KIND, SIZE)),
    "named tuple": lambda: Named(X, KIND, SIZE),
    "lists": lambda: (X.tolist(), KIND.tolist(), SIZE.tolist()),
    "tensors": lambda: tuple(map(torch.from_numpy, (X, KIND, SIZE))),
    "series": lambda: (X, pd.Series(KIND, index=RNG.permutation(ROWS)), pl.Series(SIZE)),
    "batch": lambda: {"x": X, "kind": KIND, "size": SIZE},
    "batch of groups": lambda: {"features": X, "labels": {"kind": KIND, "size": SIZE}},
    "pandas": lambda: FRAME.set_index(RNG.permutation(ROWS)),
    "polars": lambda: pl.from_pandas(FRAME),
    "tensor data set": tensors,
    "data set": lambda: Items(False),
    "data set of dicts": lambda: Items(True),
    "loader": lambda: DataLoader(tensors(), batch_size=32),
}
#: Forms whose targets have a name without a model.
WITH_NAMES = {"targets by name", "named tuple", "batch", "batch of groups", "pandas", "polars", "data set of dicts"}


def numbers(part):
    """Which rows a part has; its targets are checked to be theirs."""
    if isinstance(part, DataLoader):
        part = part.dataset
    if isinstance(part, TensorDataset):
        part = part.tensors
    if isinstance(part, Dataset):
        items = [part[i] for i in range(len(part))]
        part = {k: np.array([item[k] for item in items]) for k in items[0]} if isinstance(items[0], dict) else tuple(
            np.array(column) for column in zip(*items, strict=True)
        )  # fmt: skip
    if isinstance(part, pd.DataFrame | pl.DataFrame):
        x, kind, size = part["row"].to_numpy(), part["kind"], part["size"]
    elif isinstance(part, dict):
        x, labels = np.asarray(part.get("x", part.get("features")))[:, 0], part.get("labels", part)
        kind, size = labels["kind"], labels["size"]
    else:
        x, *rest = part
        (kind, size) = rest if len(rest) == 2 else rest[0].values() if isinstance(rest[0], dict) else rest[0]
        x = np.asarray(x)[:, 0]
    found = np.asarray(x).astype(int)
    assert np.array_equal(np.asarray(kind), KIND[found])
    assert np.allclose(np.asarray(size), SIZE[found])
    return found


@pytest.mark.parametrize("form", FORMS)
def test_two_parts_of_all_rows_in_the_same_form(form):
    data = FORMS[form]()
    train, held = pt.data.split(data, 0.2)
    wanted = Subset if isinstance(data, Items) else type(data)
    assert isinstance(train, wanted)
    assert isinstance(held, wanted)
    one, two = numbers(train), numbers(held)
    assert len(two) == ROWS // 5
    assert sorted([*one, *two]) == list(range(ROWS))
    assert (np.diff(one) > 0).all()
    assert (np.diff(two) > 0).all()
    assert np.array_equal(numbers(pt.data.split(data, 0.2)[1]), two)
    assert not np.array_equal(numbers(pt.data.split(data, 0.2, seed=1)[1]), two)
    assert np.array_equal(numbers(pt.data.split((X, KIND, SIZE), 0.2)[1]), two)


def shares(held, labels):
    """How far the number of each label among the rows held out is from its share."""
    whole, part = Counter(labels.tolist()), Counter(labels[held].tolist())
    return {label: part[label] - count * len(held) / len(labels) for label, count in whole.items()}


@pytest.mark.parametrize("form", FORMS)
def test_stratified_parts_have_the_shares_of_labels(form):
    """A random part is off by several rows of the largest class; a stratified one by less than one."""
    assert max(map(abs, shares(numbers(pt.data.split((X, KIND, SIZE), 0.2, seed=3)[1]), KIND).values())) > 2
    data = FORMS[form]()
    if form not in WITH_NAMES:
        with pytest.raises(ValueError, match="`stratify`: the data have nothing called 'kind'"):
            pt.data.split(data, 0.2, stratify="kind")
    held = numbers(pt.data.split(data, 0.2, stratify="kind" if form in WITH_NAMES else KIND, seed=3)[1])
    assert abs(len(held) - ROWS / 5) <= 2
    assert max(map(abs, shares(held, KIND).values())) <= 1


def test_several_rare_labels_at_once():
    """Each of twelve labels, some with five positives of 1,000, has its share."""
    rng = np.random.default_rng(1)
    labels = (rng.random((1000, 12)) < np.array([0.5, 0.3, 0.1] + [0.02] * 4 + [0.005] * 5)).astype(int)
    labels[:5, -1] = 1
    x = np.arange(1000.0)[:, None]
    held = pt.data.split((x, labels), 0.2, stratify=labels)[1][0][:, 0].astype(int)
    for column in labels.T:
        assert abs(column[held].sum() - 0.2 * column.sum()) <= 1.5
    one, two = labels[:, 0], labels[:, 3]
    held = pt.data.split({"x": x, "a": one, "b": two}, 0.2, stratify=["a", "b"])[1]["x"][:, 0].astype(int)
    assert np.array_equal(held, pt.data.split((x, one), 0.2, stratify=[one, two])[1][0][:, 0].astype(int))
    assert np.array_equal(held, pt.data.split((x, {"a": one, "b": two}), 0.2, stratify=True)[1][0][:, 0].astype(int))
    assert all(abs(column[held].sum() - 0.2 * column.sum()) <= 1 for column in (one, two))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b", None, float("nan")], dtype=object)[RNG.integers(0, 4, ROWS)],
        np.ma.masked_array(KIND, RNG.random(ROWS) < 0.2),
        np.where(RNG.random(ROWS) < 0.2, np.nan, KIND),
        pd.Series(KIND).astype("category"),
        pl.Series(np.array(["a", "b"])[(KIND > 0).astype(int)]),
        KIND > 0,
    ],
    ids=["objects", "masked", "NaN", "categories", "strings", "bool"],
)
def test_labels_of_all_types_and_missing_ones_have_their_share(labels):
    held = pt.data.split((X, SIZE), 0.25, stratify=labels)[1]
    rows = held[0][:, 0].astype(int)
    plain = labels.filled(-1) if isinstance(labels, np.ma.MaskedArray) else np.asarray(labels)
    assert (
        max(map(abs, shares(rows, np.array(["nan" if value is None else str(value) for value in plain])).values())) <= 1
    )


def test_numbers_are_cut_at_their_deciles():
    held = pt.data.split((X, SIZE), 0.2, stratify=SIZE)[1][1]
    counts = np.bincount(np.searchsorted(np.quantile(SIZE, np.linspace(0, 1, 11)[1:-1]), held, side="right"))
    assert counts.tolist() == [8] * 10


USERS = RNG.integers(0, 60, ROWS)
GROUPS = {
    "numbers": USERS,
    "strings": np.array([f"user {u}" for u in USERS]),
    "objects": np.array([f"user {u}" for u in USERS], dtype=object),
    "pandas": pd.Series([f"user {u}" for u in USERS]),
    "polars": pl.Series([f"user {u}" for u in USERS]),
}


@pytest.mark.parametrize("groups", GROUPS)
def test_groups_stay_on_one_side(groups):
    held = numbers(pt.data.split((X, KIND, SIZE), 0.25, groups=GROUPS[groups])[1])
    rest = np.setdiff1d(np.arange(ROWS), held)
    assert not set(USERS[held]) & set(USERS[rest])
    assert abs(len(held) - ROWS / 4) <= max(Counter(USERS.tolist()).values()) / 2
    for frame in (FRAME.assign(user=GROUPS[groups]), pl.from_pandas(FRAME).with_columns(user=pl.Series(USERS))):
        both = pt.data.split(frame, 0.25, groups="user", stratify="kind")
        assert not set(both[0]["user"]) & set(both[1]["user"])
        found = numbers(both[1])
        assert abs(len(found) - ROWS / 4) <= 12
        assert max(map(abs, shares(found, KIND).values())) <= 8


DAYS = RNG.integers(0, 50, ROWS)
FIRST = datetime.datetime(2024, 1, 1)
TIMES = {
    "numbers": DAYS,
    "floats": DAYS / 7,
    "datetime64": np.datetime64("2024-01-01") + DAYS,
    "dates": np.array([FIRST.date() + datetime.timedelta(int(day)) for day in DAYS], dtype=object),
    "texts": np.array([(FIRST + datetime.timedelta(int(day))).isoformat() for day in DAYS]),
    "pandas": pd.Series(pd.Timestamp(FIRST) + pd.to_timedelta(DAYS, unit="D")),
    "polars": pl.Series([FIRST + datetime.timedelta(int(day)) for day in DAYS]),
}


@pytest.mark.parametrize("times", TIMES)
def test_the_latest_rows_are_held_out_whole_moments(times):
    held = numbers(pt.data.split((X, KIND, SIZE), 0.2, time=TIMES[times])[1])
    assert DAYS[held].min() > np.delete(DAYS, held).max()
    assert abs(len(held) - ROWS / 5) <= max(Counter(DAYS.tolist()).values()) / 2
    frame = FRAME.assign(when=np.asarray(TIMES[times]))
    assert np.array_equal(numbers(pt.data.split(frame, 0.2, time="when")[1]), held)


def model():
    tasks = [pt.Task("kind", classes=3), pt.Task("size")]
    return pt.MultiTaskModel(2, tasks=tasks, encoder=pt.encoder.MLP([4]))


@pytest.mark.parametrize(
    ("sizes", "fraction", "held"),
    [([80, 20], 0.2, 20), ([20, 80], 0.2, 20), ([60, 40], 0.1, 40), ([1, 1], 0.9, 1), ([50, 30, 20], 0.2, 20),
     ([400, 300, 150, 100, 50], 0.2, 200), ([63, 32, 5], 0.25, 32),
     ([1000, *[10] * 40], 0.1, 140), ([7] * 30, 0.2, 42), ([90, 5, 5], 0.95, 95)],
)  # fmt: skip
def test_groups_are_held_out_as_near_to_the_fraction_as_they_allow(sizes, fraction, held):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    x = np.arange(len(groups))[:, None]
    for seed in range(10):
        parts = pt.data.split((x, x[:, 0]), fraction, groups=groups, seed=seed)
        assert abs(len(parts[1][1]) - fraction * len(groups)) <= abs(held - fraction * len(groups))
        assert not set(groups[parts[0][1]]) & set(groups[parts[1][1]])


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%m/%d/%Y", "%d.%m.%y"])
def test_dates_that_sort_otherwise_than_they_follow_are_refused(form):
    days = pd.Series(pd.date_range("2023-01-01", periods=ROWS))
    for times in (days.dt.strftime(form).to_numpy(), days.dt.strftime(form).astype("U").to_numpy().astype("U10")):
        with pytest.raises(ValueError, match=r"`time` has strings such as '.*', which do not sort as dates follow"):
            pt.data.split((X, KIND), 0.2, time=times)
    with pytest.raises(ValueError, match="at least two different moments"):
        pt.data.split((X[:0], KIND[:0]), 0.2, time=np.empty(0, "U10"))
    for iso in ("%Y-%m-%d", "%Y/%m/%d", "%Y-%m-%dT%H:%M", "%Y%m%d"):
        assert pt.data.split((X, KIND), 0.25, time=days.dt.strftime(iso).to_numpy())[1][0][0, 0] == 300


@pytest.mark.parametrize("how", [{}, {"stratify": "kind"}, {"stratify": True}, {"groups": USERS}, {"time": DAYS}])
@pytest.mark.parametrize("form", ["tuple", "targets by name", "nested", "batch", "pandas", "tensor data set"])
def test_fit_takes_the_same_words(form, how):
    """`fit(validation=Split(...))` trains and looks at what `split` gives; tasks have names there in every form."""
    data = FORMS[form]()
    if form == "pandas":
        data = data[["row", "x", "kind", "size"]]
    arrays = {"kind": KIND, True: [KIND, SIZE]}
    apart = {name: arrays.get(value, value) if isinstance(value, str | bool) else value for name, value in how.items()}
    train, held = pt.data.split(data, 0.2, **apart, seed=7)
    runs = []
    for first, validation in [(data, pt.data.Split(0.2, **how, seed=7)), (train, held)]:
        trainer = pt.Trainer(model(), "sgd", lr=1e-7)
        history = trainer.fit(first, validation=validation, epochs=2, progress=False, shuffle=False)
        runs.append((trainer.model.state_dict(), history["validation/loss"]))
    assert same_bits(runs[0][0], runs[1][0])
    assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-6)


def test_fit_splits_by_the_trainers_seed():
    def held(seed):
        trainer = pt.Trainer(model(), lr=1e-9, seed=seed)
        return trainer.fit((X, KIND, SIZE), validation=0.2, epochs=1, progress=False)["validation/loss"]

    assert held(0) == held(0)
    assert held(0) != held(1)


def named(form):
    if form == "frame":
        return pd.DataFrame({"user": USERS, "kind": KIND, "size": SIZE})
    if form == "labels":
        return X, {"user": USERS, "kind": KIND, "size": SIZE}
    if form == "keys":
        return {"x": X, "user": USERS, "kind": KIND, "size": SIZE}
    if form == "keys within":
        return {"x": X, "y": {"user": USERS, "kind": KIND, "size": SIZE}}
    return WithUsers(True)


class WithUsers(Items):
    def __getitem__(self, i):
        return {**super().__getitem__(i), "user": USERS[i]}


@pytest.mark.parametrize("form", ["frame", "labels", "keys", "keys within", "data set"])
def test_a_name_that_there_is_not_is_answered_with_those_that_there_are(form):
    for argument in ("stratify", "groups", "time"):
        says = f"^`{argument}`: the data have nothing called 'usre'; did you mean `user`\\? they have "
        with pytest.raises(ValueError, match=says) as error:
            pt.data.split(named(form), 0.2, **{argument: "usre"})
        said = str(error.value)
        assert {"`user`", "`kind`", "`size`"} <= set(said.partition("they have ")[2].split(", "))


def test_a_split_at_random_reads_no_row_of_data_sets():
    read = []

    class Counted(Items):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    for data in (Counted(True), {"kind": Counted(True), "size": Counted(False)}):
        pt.data.split(data, 0.2)
    assert not read


def test_each_of_several_data_sets_is_split():
    sets = {"kind": (X, KIND), "size": (X[:100], SIZE[:100])}
    for data in (sets, pt.data.Mix(sets, "round_robin")):
        train, held = pt.data.split(data, 0.2, stratify="kind")
        train, held = (getattr(part, "sets", part) for part in (train, held))
        assert {name: len(part[0]) for name, part in held.items()} == {"kind": 80, "size": 20}
        assert {name: len(part[0]) for name, part in train.items()} == {"kind": 320, "size": 80}
        assert max(map(abs, shares(held["kind"][0][:, 0].astype(int), KIND).values())) <= 1
    for sampling, more in [("temperature", {"temperature": 5.0}), ({"kind": 1.0, "size": 3.0}, {"length": 7})]:
        mix = pt.data.Mix(sets, sampling, **more)
        for part in pt.data.split(mix, 0.2):
            kept = (part.sampling, part.temperature, part.length, part.named)
            assert kept == (mix.sampling, mix.temperature, mix.length, mix.named)
    with pytest.raises(ValueError, match=r"`stratify`: no data set has 'knd'; did you mean `kind`\? they have `kind`,"):
        pt.data.split(sets, 0.2, stratify="knd")
    with pytest.raises(TypeError, match="should be names where there are several data sets"):
        pt.data.split(sets, 0.2, groups=USERS)


def test_a_loaders_settings_are_kept_and_its_validation_is_not_shuffled():
    own = torch.Generator().manual_seed(0)
    loader = DataLoader(tensors(), batch_size=32, shuffle=True, drop_last=True, generator=own)
    train, held = pt.data.split(loader, 0.2)
    assert [len(batch[0]) for batch in train] == [32] * 10
    assert [len(batch[0]) for batch in held] == [32, 32, 16]
    assert (torch.diff(torch.cat([batch[0][:, 0] for batch in held])) > 0).all()


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda d: pt.data.split(d, 0), ValueError, "`fraction` should be a number between 0 and 1; got 0"),
        (lambda d: pt.data.split(d, 1.0), ValueError, "`fraction` should be a number between 0 and 1; got 1.0"),
        (lambda d: pt.data.split(d, "a"), TypeError, "`fraction` should be a number between 0 and 1; got 'a'"),
        (lambda d: pt.data.split(d, 1e-4), ValueError, "leaves 0 of 400 rows for validation"),
        (lambda d: pt.data.split(d, 0.2, stratify=KIND[:-1]), ValueError, "`stratify` should have 400 rows; got 399"),
        (lambda d: pt.data.split(d, 0.2, stratify=False), ValueError, "`stratify` should be names"),
        (lambda d: pt.data.split(d, 0.2, stratify=True), ValueError, "these data do not name"),
        (lambda d: pt.data.split(d, 0.2, groups="user"), ValueError, "`groups`: the data have nothing called 'user'"),
        (lambda d: pt.data.split(d, 0.2, groups=np.zeros(ROWS)), ValueError, "leaves 0 of 400 rows"),
        (lambda d: pt.data.split(d, 0.2, groups=X), ValueError, r"`groups` should be one name or an array \[rows\]"),
        (lambda d: pt.data.split(d, 0.2, time=np.zeros(ROWS)), ValueError, "at least two different moments; got one"),
        (lambda d: pt.data.split(d, 0.2, time=np.full(ROWS, np.nan)), ValueError, "missing at row 0"),
        (lambda d: pt.data.split(d, 0.2, time=DAYS, groups=USERS), ValueError, "no choice to `groups`"),
        (lambda d: pt.data.split([d, d], 0.2), ValueError, "batches cannot be split by a fraction"),
        (lambda d: pt.data.split(Endless(), 0.2), ValueError, "an iterable data set has no numbered rows"),
        (lambda d: pt.data.split(3, 0.2), TypeError, "`data` should be rows, a frame, .*; got int"),
        (
            lambda d: pt.data.split((X, KIND[:-1]), 0.2),
            ValueError,
            "should have 400 rows in every part; got one of 399",
        ),
    ],
)
def test_what_cannot_be_split_says_why(call, error, says):
    with pytest.raises(error, match=says):
        call((X, KIND, SIZE))


def test_the_fraction_by_the_name_of_another_library():
    with pytest.raises(TypeError, match="unknown argument `test_size`; here it is called `fraction`"):
        pt.data.split(np.zeros((10, 2)), test_size=0.2)


def test_strings_of_dates_with_zones_follow_as_moments_do():
    """An hour before midnight in New York is after noon in Tokyo of the day that is written there as the next one."""
    hours = ("23:30:00-05:00", "12:00:00+09:00", "08:00:00Z")
    when = [f"2024-01-{day:02}T{hour}" for day in range(1, 9) for hour in hours]
    frame = pd.DataFrame({"when": when, "n": range(len(when))})
    moments = frame.assign(when=pd.to_datetime(frame.when, utc=True))
    parts = pt.data.split(frame, 0.25, time="when")
    first, last = pt.data.split(moments, 0.25, time="when")
    assert [part.n.tolist() for part in parts] == [first.n.tolist(), last.n.tolist()]
    assert first.when.max() < last.when.min()


def test_a_single_group_is_named():
    frame = pd.DataFrame({"g": ["a"] * 40, "n": range(40)})
    with pytest.raises(ValueError, match="leaves 0 of 40 rows for validation: rows of one group stay together"):
        pt.data.split(frame, 0.25, groups="g")
