"""Whatever is thrown at the face comes back as a ValueError, TypeError or OSError, never as a crash or a panic."""

import numpy as np
import polytask as pt
import torch
from conftest import Data, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

GOOD = Data(12)
SETTINGS = settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
EXPECTED = (ValueError, TypeError, OSError)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=4),
    st.complex_numbers(),
    st.sampled_from([2**63, -(2**63) - 1, 1e308, object(), len, np.float16(1), np.int64(-1), torch.tensor(3.0)]),
)  # fmt: skip
dtypes = st.sampled_from(
    ["f4", "f8", "f2", "i1", "i4", "i8", "u1", "u8", "?", "O", "U3", "S2", "c8", "M8[s]", "m8[s]", ">f8", "<i2", "g"]
)
rows = st.sampled_from([0, 1, 11, 12, 12, 12, 12, 13])
shapes = st.one_of(
    st.tuples(rows, st.sampled_from([8, 8, 3, 1, 0])),
    st.tuples(rows),
    st.just(()),
    st.tuples(rows, st.just(8), st.just(2)),
)


def fill(dtype):
    if np.dtype(dtype).kind == "O":
        return scalars.filter(lambda value: not isinstance(value, torch.Tensor))
    return hnp.from_dtype(np.dtype(dtype))


raw_arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes, elements=fill(dtype), fill=fill(dtype)))


def view(array, how):
    """The same kind of array, in another layout or another library."""
    if how == "reversed":
        return array[::-1]
    if how == "strided" and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    if how == "fortran":
        return np.asfortranarray(array)
    if how == "read-only":
        array.setflags(write=False)
    if how == "masked":
        return np.ma.masked_array(array, mask=np.zeros(array.shape, bool))
    if how == "list":
        return array.tolist()
    if how == "tensor" and array.dtype.kind in "fiub?" and array.dtype.isnative and array.dtype != np.longdouble:
        return torch.from_numpy(array.copy())
    return array


views = st.sampled_from(["plain", "reversed", "strided", "fortran", "read-only", "masked", "list", "tensor"])
arrays = st.one_of(
    st.builds(lambda array, how: view(array, how) if array.ndim else array, raw_arrays, views),
    st.sampled_from([GOOD.x, GOOD.income, GOOD.age, GOOD.topics, GOOD.x.astype(np.float64)]),
)
anything = st.one_of(
    arrays, scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=3), scalars, max_size=2)
)
names = st.one_of(st.sampled_from(["income", "age", "topics"]), st.text(max_size=3))
features = st.one_of(
    anything, st.just(GOOD.x), st.dictionaries(st.sampled_from(["numeric", "categorical", "x"]), anything, max_size=3)
)
targets = st.one_of(st.dictionaries(names, anything, max_size=3), anything)
data = st.one_of(
    st.tuples(features, targets),
    st.tuples(features, targets, anything),
    st.tuples(features, anything, anything, anything),
    st.lists(st.tuples(features, targets), max_size=2),
    anything,
)


def tasks():
    return [pt.Task("income", classes=2), pt.Task("age"), pt.Task("topics", loss="binary_cross_entropy", outputs=3)]


MODEL = pt.MultiTaskModel(8, tasks=tasks(), encoder=pt.encoder.MLP(4))
TRAINER = pt.Trainer(MODEL, lr=1e-6)
STATE = MODEL.state_dict()


def survives(call):
    """Calls; a refusal is fine and leaves the model alone, and the model works afterwards."""
    global TRAINER
    MODEL.load_state_dict(STATE)
    # Numbers that single precision just holds make infinite moments, of which the next call should know nothing.
    TRAINER = pt.Trainer(MODEL, lr=1e-6)
    steps = TRAINER.steps
    refusal = None
    try:
        call()
    except EXPECTED as error:
        refusal = str(error)
    if refusal is not None:
        assert refusal
        assert "panick" not in refusal
        assert "Traceback" not in refusal
        assert TRAINER.steps != steps or same_bits(MODEL.state_dict(), STATE)
    assert np.isfinite(MODEL.predict(GOOD.x)["age"]).all()


@SETTINGS
@given(data, st.one_of(st.none(), anything), st.booleans())
def test_fit(data, weights, shuffle):
    survives(lambda: TRAINER.fit(data, epochs=1, batch_size=5, weights=weights, shuffle=shuffle, progress=False))


@SETTINGS
@given(data, st.one_of(st.none(), scalars, data))
def test_evaluate_step_and_validation(data, validation):
    survives(lambda: TRAINER.evaluate(data))
    survives(lambda: TRAINER.step(data))
    survives(lambda: TRAINER.fit(GOOD.whole, validation=validation, epochs=1, progress=False))


def exact(*shape):
    """Arrays of the right shape, with any numbers of any type."""
    return dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shape, elements=fill(dtype), fill=fill(dtype)))


near = {
    "x": exact(12, 8), "income": st.one_of(exact(12), hnp.arrays("i8", 12, elements=st.integers(-2, 2))),
    "age": st.one_of(exact(12), exact(12, 1)), "topics": st.one_of(exact(12, 3), hnp.arrays("f4", (12, 3))),
    "weights": st.one_of(exact(12), hnp.arrays("f4", 12, elements=st.floats(0, 4, width=32))),
}  # fmt: skip


@SETTINGS
@given(st.sampled_from(sorted(near)).flatmap(lambda name: st.tuples(st.just(name), near[name])), views, st.booleans())
def test_nearly_right(change, how, mask):
    name, array = change
    changed = (
        np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) % 2) if mask else view(array, how)
    )
    x = changed if name == "x" else GOOD.x
    targets = GOOD.targets | ({name: changed} if name in GOOD.targets else {})
    weights = changed if name == "weights" else None
    survives(lambda: TRAINER.fit((x, targets), epochs=1, batch_size=5, weights=weights, progress=False))
    survives(lambda: TRAINER.fit([(x, targets, weights)], epochs=1, progress=False))
    survives(lambda: TRAINER.evaluate((x, targets)))
    survives(lambda: MODEL.predict(x))


@SETTINGS
@given(
    st.one_of(features, data), anything, st.dictionaries(st.one_of(st.sampled_from(sorted(STATE)), scalars), anything)
)
def test_predict_classes_and_state(x, threshold, state):
    survives(lambda: MODEL.predict(x))
    survives(lambda: MODEL.classes(x, threshold=threshold))
    survives(lambda: MODEL.classes({"income": x, "topics": x}, threshold=0.5))
    survives(lambda: MODEL.load_state_dict(state, strict=False))
    survives(lambda: MODEL.load_state_dict(STATE | state))


@SETTINGS
@given(
    scalars | st.lists(scalars, max_size=3), scalars, scalars, scalars | st.lists(scalars, max_size=2), scalars, names
)
def test_what_is_made(one, two, three, four, five, name):
    survives(lambda: pt.Task(name, classes=one, loss=four, outputs=two, weight=three, metrics=four, columns=one))
    survives(lambda: pt.Task(name, classes=one))
    survives(lambda: pt.Inputs(two, one, four))
    if not isinstance(two, int) or abs(two) < 100:
        survives(lambda: pt.MultiTaskModel(two, tasks=one, encoder=three, sharing=four, head=five, seed=two))
        survives(lambda: pt.MultiTaskModel(8, tasks=tasks(), encoder=three, seed=two))
    survives(lambda: pt.Trainer(MODEL, one, lr=two, schedule=three, weighting=four, regularizers=one))
    survives(lambda: pt.Trainer(MODEL, lr=two, clip_norm=three, accumulate=two, callbacks=four, seed=five))
    survives(lambda: pt.EarlyStopping(one, patience=two, min_delta=three, mode=four))
    survives(
        lambda: TRAINER.fit(
            GOOD.whole, epochs=two if two is True else 1, batch_size=one, validation=two, progress=False
        )
    )


@SETTINGS
@given(st.binary(max_size=64), st.integers(0, 4000), st.integers(0, 255))
def test_files(tmp_path_factory, noise, place, byte):
    path = tmp_path_factory.getbasetemp() / "m.safetensors"
    MODEL.save(path)
    whole = bytearray(path.read_bytes())
    whole[place % len(whole)] = byte
    path.write_bytes(bytes(whole))
    survives(lambda: pt.MultiTaskModel.load(path))
    path.write_bytes(bytes(whole[: place % len(whole)]) + noise)
    survives(lambda: pt.MultiTaskModel.load(path))
    survives(lambda: TRAINER.restore(path))
