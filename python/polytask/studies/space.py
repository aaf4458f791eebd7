"""What a search goes through: names of settings, what each may be, and how a network is made of them."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _core, embedding
from ..arguments.messages import listed, none_of
from ..arguments.numbers import whole
from ..components.component import plain
from ..components.registry import REGISTRY, component
from ..data import scale
from ..data.task import Task
from ..training.trainer import Trainer

#: Short names of the arguments that are searched most.
SHORT = {
    "lr": "optimizer/lr",
    "weight_decay": "optimizer/weight_decay",
    "hidden": "encoder/hidden",
    "dropout": "encoder/dropout",
}
#: Parts of a training by the family of their components: of the trainer, and of the model.
_TRAINER = {"optimizer": "optim", "schedule": "schedule", "weighting": "weighting"}
_MODEL = {"encoder": "encoder", "sharing": "sharing", "head": "head"}
_FAMILIES = {**_TRAINER, **_MODEL}
_NUMBERS = ("batch_size", "accumulate", "clip_norm")
#: How numeric features are embedded, and whether the bins that they come as too are read.
_EMBED = "embed"
_BINS = "bins"
#: How many combinations of choices are told apart, so that none comes twice.
_MOST = 100_000


class Range:
    """Numbers between two, both included: by their logarithm if both are above 0 and one is at least 10 times the
    other, else evenly.

    Attributes:
        whole: whether they are whole: if both ends are, and the setting takes no others.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high
        self.whole = isinstance(low, int) and isinstance(high, int)
        self.logarithmic = low > 0 and high >= 10 * low

    def draw(self, rng: np.random.Generator) -> float:
        """One of them."""
        if self.whole and not self.logarithmic:
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        if not self.logarithmic:
            return float(rng.uniform(self.low, self.high))
        value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def describe(self) -> dict[str, Any]:
        """Both ends, as JSON."""
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Made:
    """What a network of some settings is made with.

    Attributes:
        settings: those that mean something beside the others, under the names of the space.
        tasks: the tasks, with their weights and scales.
        changes: of the model's description.
        trainer: changes of the trainer's settings.
        batch_size: rows a batch, if the space says it.
    """

    settings: dict[str, Any]
    tasks: list[Task]
    changes: dict[str, Any]
    trainer: dict[str, Any]
    batch_size: int | None


class Space:
    """Settings by name, each a list of choices or a range.

    Arguments:
        given: as for `pt.search`; None where networks differ by their seeds alone.
        trainer: what all networks have but for these settings.

    Raises:
        TypeError, ValueError: what is wrong, what was expected and what came.
    """

    def __init__(self, given: Any, trainer: Trainer) -> None:
        if given is None:
            given = {}
        elif not isinstance(given, Mapping) or not given:
            raise TypeError('`space` should be a dict of settings, such as {"lr": (1e-4, 1e-1)}; got '
                            f"{given!r}")  # fmt: skip
        self._tasks = trainer.model.tasks
        self._numeric = trainer.model.inputs.numeric
        self._binned = trainer.model.inputs.unbinned() is not trainer.model.inputs
        self._own = set(trainer._own)
        description = trainer.model._plain.description
        self._parts = {**{name: trainer._core.settings[name] for name in _TRAINER},
                       **{name: description[name] for name in _MODEL}}  # fmt: skip
        self._regularizers: list[dict[str, Any]] = trainer._core.settings["regularizers"]
        if trainer.model._modules.encoder is not None:
            self._own.add("encoder")
        for name in given:
            self._check_name(name)
        self.each = {name: _values(name, values, self._numeric) for name, values in given.items()}
        for name, values in self.each.items():
            if isinstance(values, Range) and self._is_real(name):
                values.whole = False
        for name, values in self.each.items():
            self._check_argument(name)
            self._check_scales(name, values)

    @property
    def logarithmic(self) -> list[str]:
        """The settings that are drawn by their logarithm."""
        return [name for name, values in self.each.items() if isinstance(values, Range) and values.logarithmic]

    def describe(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {name: values.describe() if isinstance(values, Range) else
                list(map(_in_full, values)) if name == _EMBED else plain(values, name)
                for name, values in self.each.items()}  # fmt: skip

    def draw(self, trials: int, seed: int) -> Iterator[dict[str, Any]]:
        """So many settings; where all are choices none twice, and fewer if there are no more.

        What is drawn for a setting follows from the seed, the trial and the setting's name: more trials begin with the
        same ones.
        """
        if self.each and all(isinstance(values, list) for values in self.each.values()):
            lists = [values for values in self.each.values() if isinstance(values, list)]
            counts = [len(values) for values in lists]
            total = math.prod(counts)
            if total <= _MOST:
                order = np.random.default_rng(seed).permutation(total)[:trials]
                for places in zip(*np.unravel_index(order, counts), strict=True):
                    yield {name: values[place] for name, values, place in zip(self.each, lists, places, strict=True)}
                return
        for trial in range(trials):
            yield {name: self._drawn(name, trial, seed) for name in self.each}

    def _drawn(self, name: str, trial: int, seed: int) -> Any:
        values = self.each[name]
        rng = np.random.default_rng([seed, trial, zlib.crc32(name.encode())])
        return values.draw(rng) if isinstance(values, Range) else values[int(rng.integers(len(values)))]

    def made(self, drawn: Mapping[str, Any]) -> Made:
        """What a network of these settings is made with; arguments that a part has not are left out.

        Raises:
            TypeError, ValueError: a value that cannot be; names the setting.
        """
        settings: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}
        for name, value in drawn.items():
            if name in _FAMILIES:
                parts[name] = component(_FAMILIES[name], value, f"space[{name!r}]").describe()
                settings[name] = value
        for name, value in drawn.items():
            part, _, argument = SHORT.get(name, name).partition("/")
            if not argument or part not in _FAMILIES:
                continue
            described = parts.get(part, self._parts[part])
            if argument in _takes(part, described["name"]):
                parts[part] = {**described, argument: plain(value, f"`space[{name!r}]`")}
                settings[name] = value
        for part, described in parts.items():
            _core.check(_FAMILIES[part], described)
        trainer: dict[str, Any] = {name: parts[name] for name in _TRAINER if name in parts}
        strengths = {name.partition("/")[2]: value for name, value in drawn.items() if name.startswith("regularizer/")}
        if strengths:
            trainer["regularizers"] = _strengthened(self._regularizers, strengths)
        for name in ("accumulate", "clip_norm"):
            if name in drawn:
                trainer[name] = plain(drawn[name], f"`space[{name!r}]`")
        settings |= {name: value for name, value in drawn.items() if SHORT.get(name, name).partition("/")[0] not in
                     _FAMILIES}  # fmt: skip
        return Made(
            {name: settings[name] for name in drawn if name in settings},
            [_changed(task, drawn) for task in self._tasks],
            {name: parts[name] for name in _MODEL if name in parts}
            | {name: drawn[name] for name in (_EMBED, _BINS) if name in drawn},
            trainer,
            whole(drawn["batch_size"], "`space['batch_size']`") if "batch_size" in drawn else None,
        )

    def _check_name(self, name: Any) -> None:
        part, _, rest = SHORT.get(name, name).partition("/") if isinstance(name, str) else ("", "", "")
        tasks = [task.name for task in self._tasks]
        if part in ("weight", "scale") and rest:
            if rest not in tasks:
                raise ValueError(f"`space`: {name!r}: unknown task {none_of(rest, tasks, 'there are')}")
            return
        if part == "regularizer" and rest:
            names = [info["name"] for info in REGISTRY if info["family"] == "regularizer"]
            if rest not in names:
                raise ValueError(f"`space`: {name!r}: unknown regularizer {none_of(rest, names, 'there are')}")
            return
        if name == _BINS and not self._binned:
            raise ValueError("`space`: 'bins' says whether bins of numbers are read, and the inputs have none: make "
                             "them by pt.Inputs.from_frame(bins=...)")  # fmt: skip
        if part not in _FAMILIES and (rest or part not in (*_NUMBERS, _EMBED, _BINS)):
            known = [
                *SHORT,
                *_FAMILIES,
                *_NUMBERS,
                _EMBED,
                _BINS,
                f"weight/{tasks[0]}",
                f"scale/{tasks[0]}",
                "regularizer/l2",
                "sharing/experts",
            ]
            raise ValueError(f"`space`: unknown setting {none_of(name, known, 'there are, among others,')}")
        if part in self._own and (rest or part == "encoder"):
            raise ValueError(f"`space`: {name!r} is of one of pt.{_FAMILIES[part]}, and this {part} is code of your "
                             "own")  # fmt: skip

    def check_monitors(self, monitors: Sequence[str]) -> None:
        """Raises:
        ValueError: networks would be compared by a loss that each has in a scale of its own.
        """
        several = [name for name, values in self.each.items()
                   if name.startswith("scale/") and isinstance(values, list) and len(set(values)) > 1]  # fmt: skip
        for monitor in monitors:
            task, _, what = monitor.removeprefix("validation/").rpartition("/")
            mixed = [name for name in several if task in ("", name.partition("/")[2])]
            if what in ("loss", "objective") and mixed:
                raise ValueError("`monitor`: losses of several scales say nothing of each other, and the space has "
                                 f"{mixed[0]!r}: name a metric, or search for an ensemble; got "
                                 f"{monitor!r}")  # fmt: skip

    def _check_scales(self, name: str, values: list[Any] | Range) -> None:
        """The scales of a task should suit its loss; networks are judged in that of the model, a linear one."""
        part, _, rest = name.partition("/")
        if part != "scale":
            return
        if not isinstance(values, list):
            raise TypeError(f"`space[{name!r}]` should be a list of choices; got a range")
        task = next(task for task in self._tasks if task.name == rest)
        for value in values:
            scale.check(value, task.loss, task.classes, f"`space[{name!r}]`")
        if task.scale not in (None, "standardize", "robust"):
            raise ValueError(f"`space`: {name!r}: networks of all scales are judged in that of the task, which should "
                             f'be None, "standardize" or "robust" then; got {task.scale!r}')  # fmt: skip

    def _is_real(self, name: str) -> bool:
        """Whether a setting takes numbers that are not whole, so that a range from 0 to 1 has more than its ends."""
        part, _, argument = SHORT.get(name, name).partition("/")
        if part not in _FAMILIES:
            return part in ("weight", "regularizer", "clip_norm")
        return any(_takes(part, each).get(argument, "").startswith("float") for each in self._names(part))

    def _names(self, part: str) -> list[str]:
        """What there may be of a part."""
        given = self.each.get(part, [self._parts[part]["name"]])
        assert isinstance(given, list), "parts are choices"
        return [each if isinstance(each, str) else each.name for each in given]

    def _check_argument(self, name: str) -> None:
        """An argument should be one of a part that there may be."""
        part, _, argument = SHORT.get(name, name).partition("/")
        if part not in _FAMILIES or not argument:
            return
        names = self._names(part)
        there = list(dict.fromkeys(known for each in names for known in _takes(part, each)))
        if argument not in there:
            raise ValueError(f"`space`: {name!r}: {part} {listed(names)} has no argument "
                             f"{none_of(argument, there, 'there are')}")  # fmt: skip


def _values(name: str, values: Any, numeric: int) -> list[Any] | Range:
    part = name in _FAMILIES or name == _EMBED
    if name == _BINS and not (isinstance(values, list) and values and all(isinstance(each, bool) for each in values)):
        raise TypeError(f"`space['bins']` should be a list of True and False; got {values!r}")
    if name == _EMBED and isinstance(values, list) and values:
        return [embedding.read(each, numeric) for each in values]
    if isinstance(values, list) and values:
        return [component(_FAMILIES[name], each, f"space[{name!r}]") for each in values] if part else values
    expected = "a list of choices" if part else "a list of choices, or a range `(low, high)` of two numbers"
    pair = values if isinstance(values, tuple) and len(values) == 2 and not part else None
    ends = [each.item() if isinstance(each, np.generic) else each for each in pair or ()]
    if not ends or any(isinstance(each, bool) or not isinstance(each, int | float) for each in ends):
        raise TypeError(f"`space[{name!r}]` should be {expected}; got {values!r}")
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise ValueError(f"`space[{name!r}]`: the range should go from a number to a higher one; got {values!r}")
    return Range(*ends)


def _in_full(each: Any) -> str:
    """An embedding with all its arguments, by which results that are kept are known."""
    if each is None:
        return repr(each)
    return f"{type(each).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(each).items())})"


def _takes(part: str, name: str) -> dict[str, str]:
    """The arguments of a component, and their types in Python."""
    family = _FAMILIES[part]
    found: Sequence[Mapping[str, Any]] = next(
        (info["parameters"] for info in REGISTRY if (info["family"], info["name"]) == (family, name)), ()
    )
    return {each["name"]: each["python"] for each in found}


def _strengthened(regularizers: Sequence[dict[str, Any]], strengths: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Regularizers with other strengths, and with those that are not among them."""
    there = [each["name"] for each in regularizers]
    found = [{**each, "strength": strengths[each["name"]]} if each["name"] in strengths else each
             for each in regularizers]  # fmt: skip
    found += [{"name": name, "strength": value} for name, value in strengths.items() if name not in there]
    for each in found:
        _core.check("regularizer", each)
    return found


def _changed(task: Task, drawn: Mapping[str, Any]) -> Task:
    """The task with another weight or scale, if they are drawn."""
    weight, scaled = f"weight/{task.name}", f"scale/{task.name}"
    if weight not in drawn and scaled not in drawn:
        return task
    other = copy.copy(task)
    other.weight = float(drawn.get(weight, task.weight))
    other.scale = drawn.get(scaled, task.scale)
    return other
