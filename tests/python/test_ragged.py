"""Rows of different lengths, in every form that people have them in."""

import subprocess
import sys
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from polytask import _core
from polytask.values import frames, ragged
from polytask.values.ragged import Ragged

ROWS = [[3, 1, 4], [], [1, 5], [9]]
FLAT = [3, 1, 4, 1, 5, 9]
ENDS = [0, 3, 3, 5, 6]


def read(value, **how):
    return ragged.read(value, "`x`", **how)


def said(value, **how):
    """What is said of rows that should be numbers."""
    with pytest.raises((TypeError, ValueError)) as error:
        ragged.numbers(value, "`x`", **how)
    return str(error.value)


def unpacked(rows):
    """Rows as lists, None where a value is missing or the whole row is."""
    found = []
    for row, (start, end) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
        values = rows.values[start:end].tolist()
        hidden = [False] * len(values) if rows.mask is None else rows.mask[start:end].tolist()
        absent = rows.absent is not None and rows.absent[row]
        assert not (absent and values)
        found.append(None if absent else [None if h is True else v for v, h in zip(values, hidden, strict=True)])
    return found


def nested(parts, layout):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls them a prototype
        return torch.nested.nested_tensor(parts, layout=layout)


def forms():
    """The same rows in every form that is installed, by name."""
    arrays = [np.array(row, np.int64) for row in ROWS]
    tensors = [torch.tensor(row, dtype=torch.int64) for row in ROWS]
    objects = np.empty(4, object)
    objects[:] = arrays
    padded = np.full((4, 5), -7)
    for row, values in enumerate(ROWS):
        padded[row, : len(values)] = values
    found = {
        "lists": (ROWS, {}),
        "tuples": (tuple(map(tuple, ROWS)), {}),
        "arrays": (arrays, {}),
        "tensors": (tensors, {}),
        "lists, arrays and tensors": ([ROWS[0], arrays[1], tensors[2], (9,)], {}),
        "an object array": (objects, {}),
        "a nested tensor": (nested(tensors, torch.strided), {}),
        "a jagged tensor": (nested(tensors, torch.jagged), {}),
        "padded, with lengths": (padded, {"lengths": [3, 0, 2, 1]}),
        "padded, with a mask": (torch.tensor(padded), {"mask": torch.tensor(padded != -7).long()}),
        "padded on both sides": (np.roll(padded, 2, 1), {"mask": np.roll(padded, 2, 1) != -7}),
        "ragged": (Ragged(np.array([8, *FLAT, 8]), np.array(ENDS) + 1), {}),
    }
    for library, add in (("pandas", of_pandas), ("polars", of_polars), ("pyarrow", of_arrow)):
        if library_is_there(library):
            found |= {name: (value, {}) for name, value in add().items()}
    return found


def library_is_there(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def of_pandas():
    import pandas as pd

    found = {"a pandas column of lists": pd.Series(ROWS, index=[7, 3, 3, 0])}
    found["a pandas column of arrays"] = pd.DataFrame({"a": [np.array(row, np.int64) for row in ROWS]})["a"]
    if library_is_there("pyarrow"):
        import pyarrow as pa

        dtype = pd.ArrowDtype(pa.list_(pa.int64()))
        found["a pandas column of Arrow's lists"] = pd.Series(ROWS, dtype=dtype)
        found["a part of one"] = pd.Series([[7], *ROWS, [8, 8]], dtype=dtype)[1:-1]
    return found


def of_polars():
    import polars as pl

    series = pl.Series("a", ROWS, dtype=pl.List(pl.Int64))
    whole = pl.concat([pl.Series("a", [[7, 7]]), series, pl.Series("a", [[8]])])
    return {"a polars column": series, "a part of a polars column": whole[1:-1]}


def of_arrow():
    import pyarrow as pa

    def column(kind, rows=ROWS):
        return pa.array(rows, kind(pa.int64()))

    more = [[7, 7], *ROWS, [8]]
    return {
        "Arrow's lists": column(pa.list_),
        "Arrow's large lists": column(pa.large_list),
        "Arrow's list views": column(pa.list_view),
        "Arrow's large list views": column(pa.large_list_view),
        "a slice of Arrow's lists": column(pa.list_, more)[1:-1],
        "a slice of Arrow's list views": column(pa.list_view, more)[1:-1],
        "chunks of Arrow's lists": pa.chunked_array([column(pa.list_, more)[1:3], column(pa.list_, more)[3:-1]]),
        "one chunk of Arrow's lists": pa.chunked_array([column(pa.list_)]),
        "views in another order": pa.ListViewArray.from_arrays([5, 0, 3, 1], [3, 0, 2, 1], [0, 9, 0, 1, 5, 3, 1, 4]),
    }


@pytest.mark.parametrize("form", forms())
def test_every_form_gives_the_same_rows(form):
    value, how = forms()[form]
    rows = read(value, **how)
    assert unpacked(rows) == ROWS
    assert rows.offsets.dtype in (np.int32, np.int64)
    assert (len(rows), rows.lengths.tolist()) == (4, [3, 0, 2, 1])
    found = ragged.numbers(value, "`x`", **how)
    assert (unpacked(found), found.mask, found.absent) == (ROWS, None, None)
    assert unpacked(rows.take(np.array([3, 0, 0, 1]))) == [ROWS[3], ROWS[0], ROWS[0], ROWS[1]]
    assert unpacked(rows.part(1, 3)) == ROWS[1:3]
    assert unpacked(rows.part(2, 9).take(np.array([1, 0]))) == [ROWS[3], ROWS[2]]
    data = _core.Data(4, fields=[("x", (found.values, found.offsets))])
    values, starts = data.entries("x", [2, 1, 0])
    assert (values.tolist(), starts.tolist()) == ([1, 5, 3, 1, 4], [0, 2, 2, 5])


def test_no_values_are_copied_that_lie_end_to_end():
    pa = pytest.importorskip("pyarrow")
    column = pa.array([[7, 7], *ROWS, [8]])
    memory = np.asarray(column.values)
    assert np.shares_memory(read(column[1:-1]).values, memory)
    assert np.shares_memory(read(column[1:-1]).part(1, 3).values, memory)
    tensor = torch.arange(6.0)
    jagged = torch.nested.nested_tensor_from_jagged(tensor, torch.tensor(ENDS))
    assert np.shares_memory(read(jagged).values, tensor.numpy())
    array = np.zeros((4, 3, 2))
    assert np.shares_memory(read(array).values, array)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "float16", "float32", "float64", "bool"])
def test_types_are_kept(dtype):
    arrays = [np.array([0, 1], dtype), np.array([1], dtype)]
    pairs = [row.tolist() for row in arrays]
    values = [
        arrays,
        [np.empty(0, dtype), *arrays, []],  # an empty list has no type
        [torch.tensor(row) for row in arrays],
        nested([torch.tensor(row) for row in arrays], torch.jagged),
        np.array([[0, 1], [1, 0]], dtype),
    ]
    if library_is_there("pyarrow"):
        import pyarrow as pa

        values.append(pa.array(pairs, pa.list_(pa.from_numpy_dtype(dtype))))
        values.append(pa.array([*pairs, None, [None]], pa.list_(pa.from_numpy_dtype(dtype))))
    if library_is_there("polars") and dtype != "float16":
        import polars as pl

        values.append(pl.Series(arrays))
        inner = values[-1].dtype.inner
        values.append(pl.Series([*pairs, None, [None]], dtype=pl.List(inner)))
    for value in values:
        found = ragged.numbers(value, "`x`", missing=True)
        assert found.values.dtype == dtype
        assert found.values.reshape(-1)[:3].tolist() == [0, 1, 1]


def test_positions_may_be_vectors():
    rows = [[[1.0, 2.0], [3.0, 4.0]], [], [[5.0, 6.0]]]
    tensors = [torch.tensor(row).reshape(-1, 2) for row in rows]
    values = [rows, tensors, nested(tensors, torch.jagged), nested(tensors, torch.strided)]
    if library_is_there("pyarrow"):
        import pyarrow as pa

        inner = (pa.list_(pa.float32(), 2), pa.list_(pa.float32()), pa.large_list(pa.float32()))
        values += [pa.array([[[0.0, 0.0]], *rows], pa.list_(kind))[1:] for kind in inner]
    if library_is_there("polars"):
        import polars as pl

        values += [pl.Series(rows, dtype=pl.List(kind)) for kind in (pl.List(pl.Float32), pl.Array(pl.Float32, 2))]
    for value in values:
        found = read(value)
        assert unpacked(found) == rows
        assert found.values.shape[1:] == (2,)
    images = read(np.zeros((2, 3, 8, 8), np.uint8))
    assert (images.values.shape, images.offsets.tolist()) == ((6, 8, 8), [0, 3, 6])


def test_equal_lists_of_a_fixed_size_are_rows():
    pa = pytest.importorskip("pyarrow")
    column = pa.array([[1, 2], None, [3, 4], [5, None]], pa.list_(pa.int16(), 2))
    assert unpacked(read(column)) == [[1, 2], None, [3, 4], [5, None]]
    assert unpacked(read(column[2:])) == [[3, 4], [5, None]]
    pl = pytest.importorskip("polars")
    assert unpacked(read(pl.Series([[1, 2], None], dtype=pl.Array(pl.Int8, 2)))) == [[1, 2], None]


def test_missing_rows_are_empty_and_missing_values_are_told():
    rows = [[1, None], None, [], [2]]
    values = [rows, [np.array([1, None], object), None, [], torch.tensor([2])]]
    if library_is_there("pyarrow"):
        import pyarrow as pa

        values += [pa.array(rows, kind(pa.int64())) for kind in (pa.list_, pa.large_list, pa.list_view)]
        # What lies under a missing list may be anything.
        hidden = pa.array([False, True, False, False])
        values.append(pa.ListArray.from_arrays([0, 2, 4, 4, 5], pa.array([1, None, 9, 9, 2]), mask=hidden))
    if library_is_there("polars"):
        import polars as pl

        values.append(pl.Series(rows))
    if library_is_there("pandas"):
        import pandas as pd

        values += [pd.Series(rows), pd.Series([[1, pd.NA], pd.NA, [], [2]])]
    for value in values:
        found = ragged.numbers(value, "`x`", missing=True)
        assert unpacked(found) == rows
        assert said(value) == "`x` should have a number at each position; it is missing at row 0, position 1"
        # A row of labels that is missing is as long as the row that it labels.
        labels = found.stretched(np.array([2, 3, 0, 1]))
        assert (unpacked(labels), labels.absent) == ([[1, None], [None] * 3, [], [2]], None)
        assert unpacked(found.part(1, 4).stretched(np.array([1, 0, 1]))) == [[None], [], [2]]
    assert unpacked(read(np.ma.masked_equal([[1, 2], [3, 4]], 3))) == [[1, 2], [None, 4]]
    assert unpacked(read([np.ma.masked_equal([1, 2], 2), np.array([3])])) == [[1, None], [3]]


def test_words_are_kept():
    words = [["a", "b"], [], ["c"]]
    values = [words, [np.array(row) for row in words]]
    if library_is_there("pyarrow"):
        import pyarrow as pa

        values += [pa.array(words), pa.array(words, pa.list_(pa.dictionary(pa.int8(), pa.string())))]
    if library_is_there("polars"):
        import polars as pl

        values.append(pl.Series(words))
    for value in values:
        found = read(value)
        assert unpacked(found) == words
        assert found.values.dtype.kind in "OU"
        assert said(value) == "`x` should hold numbers; got 'a' at row 0, position 0"
    assert unpacked(read([["nan", None], [1, "x"]])) == [["nan", None], [1, "x"]]
    assert ragged.numbers([["1", 2.5], [None]], "`x`", missing=True).values[:2].tolist() == [1.0, 2.5]


def test_none_at_all():
    for value in ([], [[]], [None], [np.empty((0, 3))], np.empty((0, 4)), np.empty((3, 0)), np.empty(0, object)):
        found = ragged.numbers(value, "`x`")
        assert (found.offsets[-1], len(found.values), len(found)) == (0, 0, len(value))
    assert read([np.empty((0, 3))]).values.shape == (0, 3)
    if library_is_there("pyarrow"):
        import pyarrow as pa

        for column in (pa.array([], pa.list_(pa.int8())), pa.array([None, []], pa.list_(pa.int8()))):
            assert read(column).values.dtype == np.int8


def test_any_sequence_of_rows_will_do():
    class Column(Sequence):
        def __len__(self):
            return len(ROWS)

        def __getitem__(self, index):
            return ROWS[index]

    assert unpacked(read(Column())) == ROWS


def test_what_has_no_positions_is_named():
    assert said([np.array(3), [1]]) == "`x`: row 0 should be a list or an array of positions; got array(3)"
    assert said("abc") == "`x` should be an array of numbers; got str"
    assert said([[1], 3]) == "`x`: row 1 should be a list or an array of positions; got 3"
    assert said([[1], "abc"]) == "`x`: row 1 should be a list or an array of positions; got 'abc'"
    assert said(np.arange(3)) == "`x` should have positions in each row, a list a row; got an array of shape [3]"
    assert said([np.zeros((2, 3)), [], np.zeros((1, 2))]) == (
        "`x` should have positions of one shape; got [3] in row 0, and [2] in row 2"
    )
    shapes = "`x`: row 1 should have positions of one shape; got [2] at position 0, and [1] at position 1"
    assert said([[[1, 2]], [[3, 4], [5]]]) == shapes
    assert said([[1, 2], [object()]]).startswith("`x` should hold numbers; got <object object at ")
    assert said([[1, 2], [object()]]).endswith("at row 1, position 0")
    uneven = "`x` should have equally many numbers at each position; got"
    if library_is_there("pyarrow"):
        import pyarrow as pa

        kind = "`x` should have a list of positions in each row; got Arrow's type int64"
        assert said(pa.array([1, 2])) == kind
        column = pa.array([[], [[1, 2], [3, 4]], [[5], [6, 7]]])
        assert said(column) == f"{uneven} 2 at row 1, position 0, and 1 at row 2, position 0"
        missing = "`x` should have numbers at each position; got none at row 1, position 1"
        assert said(pa.array([[[1]], [[1], None]])) == missing
        deep = pa.array([[[[1]]], [[[1]], [[2, 3]]]])
        assert said(deep) == f"{uneven} 1 at row 0, position 0, position 0, and 2 at row 1, position 1, position 0"
    if library_is_there("polars"):
        import polars as pl

        column = pl.Series([[], [[1, 2], [3, 4]], [[5], [6, 7]]])
        assert said(column) == f"{uneven} 2 at row 1, position 0, and 1 at row 2, position 0"
    if library_is_there("pandas"):
        import pandas as pd

        assert said(pd.Series([1.0, 2.0])) == "`x`: row 0 should be a list or an array of positions; got 1.0"
    turned = nested([torch.zeros(2, 3), torch.zeros(1, 3)], torch.jagged).transpose(1, 2)
    assert said(turned).startswith("`x` should have its positions in the second dimension; got a nested tensor of [2,")


def test_wrong_padding_is_named():
    array = np.arange(8).reshape(2, 4)
    assert said(array, lengths=[1, 5]) == "the lengths of `x` should be whole numbers up to 4; got 5 at row 1"
    assert said(array, lengths=[0.5, 1]) == "the lengths of `x` should be whole numbers up to 4; got 0.5 at row 0"
    assert said(array, lengths=[np.nan, 1]).endswith("got nan at row 0")
    assert said(array, lengths=[1]) == "the lengths of `x` should have shape [2]; got [1]"
    assert said(array, mask=[[1, 0]]) == "the mask of `x` should have shape [2, 4]; got [1, 2]"
    mask = [[1, 0, 0, 1], [1, 2, 0, 0]]
    assert said(array, mask=mask) == "the mask of `x` should hold 0 and 1; got 2 at row 1, position 1"
    assert said(array, mask=mask, lengths=[1, 1]) == "`x` should have either `lengths` or a `mask`; got both"
    assert said(np.arange(3), lengths=[1, 1, 1]) == "`x` should have shape [rows, positions, ...]; got [3]"


def test_views_with_holes_are_laid_end_to_end():
    jagged = torch.nested.narrow(
        torch.arange(12).reshape(3, 4), 1, torch.tensor([0, 1, 0]), torch.tensor([2, 3, 0]), layout=torch.jagged
    )
    assert unpacked(read(jagged)) == [[0, 1], [5, 6, 7], []]


def test_random_rows_come_through_every_form():
    pa = pytest.importorskip("pyarrow")
    pl = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    for _ in range(30):
        count = int(rng.integers(0, 12))
        rows = [rng.integers(0, 99, rng.integers(0, 5) * rng.integers(0, 2)).tolist() for _ in range(count)]
        if count > 2:
            rows[int(rng.integers(count))] = None
        start, stop = sorted(rng.integers(0, count + 1, 2).tolist())
        picked = rng.integers(0, count, 5) if count else np.empty(0, int)
        for value in (rows, pa.array(rows, pa.list_(pa.int64())), pl.Series(rows, dtype=pl.List(pl.Int64))):
            assert unpacked(read(value)) == rows
            assert unpacked(read(value[start:stop])) == rows[start:stop]
            assert unpacked(read(value).part(start, stop)) == rows[start:stop]
            assert unpacked(read(value).take(picked)) == [rows[row] for row in picked]


def test_a_column_of_a_frame_is_read_as_the_frame_holds_it():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"tokens": ROWS, "other": [1, 2, 3, 4]})
    assert unpacked(read(frames.stored(frame, "tokens", "the frame"))) == ROWS
    with pytest.raises(ValueError, match=r"the frame has no column `tokns`; did you mean `tokens`\?"):
        frames.stored(frame, "tokns", "the frame")


def test_no_library_is_imported_for_it():
    code = (
        "import sys; from polytask.values import ragged; ragged.read([[1], []], 'x'); "
        "print(sorted({'pandas', 'polars', 'pyarrow'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_the_core_borrows_values_and_offsets():
    values = np.arange(12, dtype=np.float16).reshape(6, 2)[::-1]
    offsets = np.array([[1, 9], [1, 9], [4, 9], [5, 9]], np.int32)[:, 0]
    pixels = np.arange(24, dtype=np.uint8).reshape(3, 2, 2, 2).transpose(0, 3, 1, 2)
    data = _core.Data(3, fields=[("frames", (values, offsets)), ("pixels", pixels)])
    found, starts = data.entries("frames", [2, 0, 1])
    assert (found.tolist(), starts.tolist()) == (values[[4, 1, 2, 3]].tolist(), [0, 1, 1, 4])
    found, starts = data.entries("pixels", [1])
    assert (found.tolist(), starts.tolist()) == (pixels[1:2].tolist(), [0, 1])
    values[:] = 7
    assert data.entries("frames", [2])[0].tolist() == [[7.0, 7.0]]
    with pytest.raises(KeyError, match="words"):
        data.entries("words", [0])
    with pytest.raises(IndexError, match="rows should be below 3"):
        data.entries("frames", [3])


def test_the_core_refuses_offsets_that_lead_nowhere():
    def refused(offsets, values=FLAT[:5]):
        with pytest.raises((TypeError, ValueError)) as error:
            _core.Data(2, fields=[("x", (np.asarray(values), offsets))])
        return str(error.value)

    where = "the offsets of `x` should"
    assert refused(np.array([0, 3, 2])) == f"{where} not go down; got 2 after 3 at 2"
    assert refused(np.array([0, 3, 6])) == f"{where} lie within its 5 positions; got 6 at 2"
    assert refused(np.array([0.0, 3.0])) == f"{where} be int32 or int64 of shape [rows + 1]; got float64 of shape [2]"
    assert refused(np.array(["a"])) == "the offsets of `x` should hold numbers; got dtype <U1"
    assert refused(np.array([0, 1]), 1.0) == "`x` should have rows; got shape []"
    with pytest.raises(ValueError, match="the offsets of the tags should not go down"):
        _core.Data(2, targets=[(np.zeros(5), np.array([3, 2, 1]))], names=["", "", "the tags"])
