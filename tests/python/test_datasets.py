"""Tasks made by a formula: shapes, seeds, and the relation they promise."""

import numpy as np
import pytest
from polytask.datasets import correlated_tasks, grouped_tasks


def test_correlated_tasks_have_rows_and_two_labels():
    x, labels = correlated_tasks(50, 0.5, inputs=7)
    assert x.shape == (50, 7)
    assert {task: y.shape for task, y in labels.items()} == {"a": (50,), "b": (50,)}


def test_labels_correlate_the_more_the_directions_do():
    def found(correlation):
        _, labels = correlated_tasks(20_000, correlation, seed=3)
        return np.corrcoef(labels["a"], labels["b"])[0, 1]

    correlations = [found(p) for p in (0.0, 0.5, 0.9, 1.0)]
    assert correlations == sorted(correlations)
    assert abs(correlations[0]) < 0.05
    assert correlations[-1] > 0.95


def test_without_sines_the_labels_are_linear_with_the_given_cosine():
    x, labels = correlated_tasks(200, 0.6, inputs=10, terms=0, scale=2.0, noise=0.0, seed=1)
    directions = [np.linalg.lstsq(x, labels[task], rcond=None)[0] for task in ("a", "b")]
    assert np.allclose(np.stack(directions) @ np.stack(directions).T, 4 * np.array([[1, 0.6], [0.6, 1]]))


def test_grouped_tasks_are_named_by_their_groups():
    x, labels = grouped_tasks(30, 3, 2, inputs=5)
    assert x.shape == (30, 5)
    assert list(labels) == ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert all(y.shape == (30,) for y in labels.values())


def test_labels_correlate_within_groups_more_than_between_them():
    _, labels = grouped_tasks(5000, 2, 4, inputs=50, noise=0.1)
    correlation = np.corrcoef(list(labels.values()))
    group = np.arange(8) // 4
    same = group[:, None] == group
    assert correlation[same].min() > 0.8
    assert np.abs(correlation[~same]).max() < 0.5


def test_without_deviation_a_group_is_one_task():
    _, labels = grouped_tasks(100, 1, 3, deviation=0.0, noise=0.0)
    assert np.allclose(labels["a1"], labels["a2"])
    assert np.allclose(labels["a1"], labels["a3"])


@pytest.mark.parametrize(
    "make", [lambda seed: correlated_tasks(40, 0.3, seed=seed), lambda seed: grouped_tasks(40, seed=seed)]
)
def test_a_seed_gives_the_same_rows_again_and_another_seed_others(make):
    (x, labels), (again, same), (other, _) = make(1), make(1), make(2)
    assert np.array_equal(x, again)
    assert all(np.array_equal(labels[task], same[task]) for task in labels)
    assert not np.array_equal(x, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: correlated_tasks(10, 1.5), r"`correlation` should lie in -1..1; got 1.5"),
        (lambda: correlated_tasks(0, 0.5), r"`rows` should be at least 1; got 0"),
        (lambda: correlated_tasks(10, 0.5, inputs=1), r"`inputs` should be at least 2; got 1"),
        (lambda: correlated_tasks(10, 0.5, noise=-1.0), r"`noise` should be at least 0; got -1.0"),
        (lambda: grouped_tasks(10, 27), r"`groups` should be at most 26; got 27"),
        (lambda: grouped_tasks(10, 0), r"`groups` should be at least 1; got 0"),
        (lambda: grouped_tasks(10, deviation=-0.1), r"`deviation` should be at least 0; got -0.1"),
    ],
)
def test_arguments_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
