"""`polytask report`: from a table to a report, a model and a script."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..components.registry import make
from ..data.finder import Finder
from ..data.inputs import Inputs
from ..data.split import Split
from ..data.task import Task
from ..model import folders
from ..model.ensemble import Ensemble
from ..model.model import MultiTaskModel
from ..plots import svg
from ..results import page
from ..results.recommendation import ALONE, Recommendation, of_trees
from ..results.relatedness import Relatedness
from ..studies import budget, tabular, trees
from ..studies.recommend import recommend
from ..training.trainer import Trainer
from ..values import student
from . import leaks, tables

_HIDDEN = [256, 128]
_DROPOUT = 0.1
_VALIDATION = 0.2
_FEWEST = 100
#: What is said beside scores where rows have weights.
_UNWEIGHTED = "Losses are weighed by rows; metrics count all rows alike whose weight is above 0."
#: What tells a folder of a report.
_REPORT = "report.html"


def run(asked: Any) -> None:
    """Reads, splits, recommends, judges and writes."""
    began = time.perf_counter()
    _check_folder(asked.out)
    frame = tables.read(asked.data)
    tasks = _tasks(asked, frame)
    names = [task.name for task in tasks]
    beside = [name for name in (asked.groups, asked.time, asked.weights) if name is not None]
    left_out = list(dict.fromkeys([*asked.exclude, *beside]))
    columns = [name for name in frame.columns if name not in names and name not in left_out]
    if not columns:
        raise ValueError("no column is left to predict from")
    train, validation, test = _parts(asked, frame)
    free = [name for name in columns if name not in asked.categorical]
    half = tables.half_dates(frame, train, free)
    asked.categorical = [*asked.categorical, *half]
    print(f"{len(train)} rows to learn from, {len(validation)} to choose by, {len(test)} to test")
    warnings = leaks.found(train, validation, tasks, columns)
    warnings += [f"Column `{name}` holds dates, but not in all rows: it is read as categories." for name in half]
    warnings += [
        f"Column `{name}` is another whole number in each row: if it only names the rows, leave it out with --exclude."
        for name in tables.naming_rows(frame, free)
    ]
    for sentence in warnings:
        print(f"warning: {sentence}")
    drop = [name for name in left_out if name != asked.weights]
    train, validation, test = (part.drop(columns=drop) for part in (train, validation, test))
    inputs = Inputs.from_frame(
        train,
        exclude=[*names, *([asked.weights] if asked.weights else [])],
        categorical=asked.categorical or None,
        **(tabular.READ if asked.quality == "best" else {}),
    )
    print(repr(inputs))
    model = MultiTaskModel(inputs, tasks=tasks, encoder=_encoder(asked.quality), seed=asked.seed)
    found = recommend(
        Trainer(model, **_optimizer(asked.quality), seed=asked.seed),
        train,
        validation=validation,
        budget=asked.budget,
        batch_size=asked.batch_size,
        weights=asked.weights,
        trees=None,
        quality=asked.quality,
        progress=not asked.quiet,
    )
    print()
    print("\n".join(found.sentences))
    scores = found.model.evaluate(test, weights=asked.weights)
    print()
    print(scores)
    if asked.weights:
        print(_UNWEIGHTED)
    said = _beside(found.model, (train, validation, test), scores, asked.weights)
    for sentence in said:
        print(sentence)
    asked.out.mkdir(parents=True, exist_ok=True)
    file = "model" if isinstance(found.model, Ensemble) else "model.safetensors"
    (asked.out / "model.safetensors").unlink(missing_ok=True)
    folders.remove(asked.out / "model")
    found.model.save(asked.out / file)
    (asked.out / "reproduce.py").write_text(_script(asked, tasks, found, len(train)), encoding="utf-8")
    minutes = (time.perf_counter() - began) / 60
    _write(
        asked.out / _REPORT,
        _page(asked, frame, tasks, found, scores, said, warnings, (train, validation, test), minutes),
    )
    print(f"\n{asked.out}/{_REPORT}, {file}, reproduce.py; {minutes:.1f} minutes")


def _check_folder(out: Path) -> None:
    """Refuses a folder with anything but an earlier report before there is work that could be lost."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out should be a folder; {out} is a file")
    if out.is_dir() and any(out.iterdir()) and not (out / _REPORT).exists():
        raise ValueError(f"--out: {out} has files already, and no report that could be replaced; choose another folder")


def _encoder(quality: str) -> Any:
    if quality == "good":
        return make("encoder", tabular.GOOD_ENCODER)
    return make("encoder", {"name": "mlp", "hidden": _HIDDEN, "dropout": _DROPOUT})


def _optimizer(quality: str) -> dict[str, Any]:
    return {"optimizer": make("optim", tabular.GOOD_OPTIMIZER)} if quality == "good" else {}


def _beside(
    model: MultiTaskModel | Ensemble, parts: tuple[Any, Any, Any], scores: Any, weights: str | None
) -> list[str]:
    """Of each task whether boosted trees of what is installed are better on the test rows, in words."""
    names = trees.libraries("all")
    if not names:
        return []
    train, validation, test = (model.reader.rows(frame, weights=weights) for frame in parts)
    return of_trees(trees.beside(model, (train, validation, test), scores, names))


def _tasks(asked: Any, frame: Any) -> list[Task]:
    """The tasks, each of which is printed with what it was taken for."""
    if len(set(asked.tasks)) < len(asked.tasks):
        raise ValueError("--tasks: a column is named twice")
    tables.check(asked.tasks, frame, "--tasks")
    for argument in ("classes", "numbers"):
        tables.check(getattr(asked, argument), frame, f"--{argument}")
    for argument in ("exclude", "categorical"):
        tables.check(getattr(asked, argument), frame, f"--{argument}")
    for argument in ("groups", "time", "weights", "stratify"):
        if getattr(asked, argument) is not None:
            tables.check([getattr(asked, argument)], frame, f"--{argument}")
    found = []
    for name in asked.tasks:
        task, words = tables.task(frame, name, name in asked.classes, name in asked.numbers)
        print(f"task {name}: {words}")
        found.append(task)
    return found


def _parts(asked: Any, frame: Any) -> tuple[Any, Any, Any]:
    """Rows to learn from, to choose by and to test."""
    if len(frame) < _FEWEST:
        raise ValueError(f"{asked.data} has {len(frame)} rows, and at least {_FEWEST} are needed")
    if asked.time and len(rows := np.flatnonzero(frame[asked.time].isna())):
        raise ValueError(f"--time: `{asked.time}` should be known for each row; it is missing at row {rows[0]}")
    how = {"stratify": asked.stratify, "groups": asked.groups, "time": asked.time, "seed": asked.seed}
    rest, parts = np.arange(len(frame)), []
    for share in (asked.test, _VALIDATION):
        frame_of = frame.iloc[rest]
        held = Split(share, **how).rows(len(rest), Finder(frame_of), asked.tasks, asked.seed)
        parts.append(frame_of.iloc[held])
        rest = np.delete(rest, held)
    test, validation = parts
    return frame.iloc[rest], validation, test


def _page(
    asked: Any,
    frame: Any,
    tasks: list[Task],
    found: Recommendation,
    scores: Any,
    said_of_trees: list[str],
    warnings: list[str],
    parts: tuple[Any, Any, Any],
    minutes: float,
) -> str:
    names = [name for name in found.candidates if name != ALONE]
    means = np.array([100 * student.mean_and_error(found.gains(name))[0] for name in names])
    ends = np.array([[100 * end for end in student.interval(found.gains(name))] for name in names]).reshape(-1, 2)
    header, rows = found._table()
    saved = "Validation loss saved against one network each, with 95 % intervals"
    picture = [page.picture(svg.intervals(saved, names, means, ends, "%"), saved)] if names else []
    test_header, test_rows = scores._table()
    sections = [
        page.section("What to train", page.paragraphs(found.sentences)),
        page.section(
            "On test rows",
            page.paragraphs([_tested(found, len(parts[2])), *([_UNWEIGHTED] if asked.weights else [])]),
            page.table(test_header, test_rows),
            page.paragraphs(said_of_trees),
        ),
        page.section(
            "What was compared",
            *picture,
            page.table(header, rows),
        ),
    ]
    if warnings:
        sections.insert(0, page.section("Look at this first", page.paragraphs(warnings, "warning")))
    if found.relatedness is not None:
        related_header, related_rows = found.relatedness._table()
        sections.append(
            page.section(
                "How tasks are related",
                _related(found.relatedness),
                page.table(related_header, related_rows),
                page.paragraphs([found.relatedness.about]),
            )
        )
    counted = [[task.name, int(frame[task.name].notna().sum()), task.classes or "numbers"] for task in tasks]
    train, validation, test = map(len, parts)
    said = f"{train} rows to learn from, {validation} to choose by, {test} to test; {minutes:.1f} minutes."
    sections.append(page.section("The data", page.paragraphs([said]), page.table(["task", "labels", "kind"], counted)))
    return page.page(f"{asked.data.name}: {', '.join(asked.tasks)}", sections)


def _related(found: Relatedness) -> str:
    title = f"How tasks are related, by {found.method}"
    told = f"A matrix of {len(found.tasks)} tasks; the same numbers stand in the table below."
    return page.picture(svg.heat_map(title, told, found.tasks, found.matrix), title)


def _tested(found: Recommendation, rows: int) -> str:
    what = found.candidates[found.choice].what
    return f"{what[0].upper()}{what[1:]}, on {rows} rows that nothing was chosen by."


def _script(asked: Any, tasks: list[Task], found: Recommendation, rows: int) -> str:
    """A few lines that hold the same rows out, train the choice again and judge it, wherever they are run from."""
    names = [task.name for task in tasks]
    reader = tables._READERS[asked.data.suffix.lower()]
    path = _from(asked.out.resolve(), asked.data.resolve())
    left_out = [name for name in (*asked.exclude, asked.groups, asked.time, asked.weights) if name is not None]
    said = f", categorical={asked.categorical!r}" if asked.categorical else ""
    said += "".join(f", {name}={value!r}" for name, value in tabular.READ.items()) if asked.quality == "best" else ""
    lines = [
        "from pathlib import Path",
        "",
        "import pandas as pd",
        "import polytask as pt",
        "",
        "here = Path(__file__).resolve().parent",
        f"frame = pd.{reader}(here / {path!r})",
        f"rows, test = pt.data.split(frame, {asked.test!r}{_how(asked)}, seed={asked.seed})",
        f"tasks = [{', '.join(map(_described, tasks))}]",
        f"inputs = pt.Inputs.from_frame(rows, exclude={[*names, *left_out]!r}{said})",
    ]
    groups = [list(group) for group in found.groups]
    if len(groups) == 1:
        return "\n".join([*lines, *_training(asked, found, rows, 1)]) + "\n"
    within = ["some = [task for task in tasks if task.name in group]", *_training(asked, found, rows, len(groups))]
    return "\n".join([*lines, f"for group in {groups}:", *(f"    {line}" for line in within)]) + "\n"


def _from(folder: Path, file: Path) -> str:
    """The way to a file, which is its own where there is none from the folder, as between drives."""
    try:
        return os.path.relpath(file, folder)
    except ValueError:
        return str(file)


def _training(asked: Any, found: Recommendation, rows: int, groups: int) -> list[str]:
    """The lines that train a network, or an ensemble, of all tasks or of each of so many groups, judge and save it."""
    tasks, file = ("tasks", "reproduced") if groups == 1 else ("some", "reproduced-{'-'.join(group)}")
    literal = "f" if groups > 1 else ""
    weights = f", weights={asked.weights!r}" if asked.weights else ""
    sharing = f'sharing="{found.choice}"' if found.choice in ("mmoe", "soft") else 'sharing="hard"'
    more = ', regularizers=["task_relation"]' if found.choice == "soft" else ""
    validation = f"pt.data.Split({_VALIDATION}{_how(asked)})" if _how(asked) else str(_VALIDATION)
    made = f"pt.MultiTaskModel(inputs, tasks={tasks}, encoder={{}}, {sharing}, seed={asked.seed})"
    if asked.quality == "best":
        size = f", batch_size={asked.batch_size}" if asked.batch_size else ""
        seconds = round(budget.seconds(asked.budget) / 2 / groups)
        return [
            f"model = {made.format(f'pt.encoder.MLP({_HIDDEN})')}",
            f"trainer = pt.Trainer(model{more}, seed={asked.seed})",
            f'model = pt.search(trainer, rows, ensemble="greedy", validation={validation}, budget={max(seconds, 1)}'
            f"{size}{weights})",
            f"print(model.evaluate(test{weights}))",
            f'model.save(here / {literal}"{file}")',
        ]
    encoder, optimizer = f"pt.encoder.MLP({_HIDDEN}, dropout={_DROPOUT})", ""
    if asked.quality == "good":
        encoder, optimizer = f"pt.encoder.{_encoder('good')!r}", f"pt.optim.{_optimizer('good')['optimizer']!r}, "
    batch = asked.batch_size or tabular.batch_size(rows)
    return [
        f"encoder = {encoder}",
        f"model = {made.format('encoder')}",
        f'trainer = pt.Trainer(model, {optimizer}callbacks=[pt.EarlyStopping("loss")]{more}, seed={asked.seed})',
        f"trainer.fit(rows, validation={validation}, epochs=60, batch_size={batch}{weights})",
        f"print(model.evaluate(test{weights}))",
        f'model.save(here / {literal}"{file}.safetensors")',
    ]


def _how(asked: Any) -> str:
    """How rows are held out, as arguments in code."""
    said = [f"{how}={name!r}" for how in ("groups", "time", "stratify") if (name := getattr(asked, how)) is not None]
    return "".join(f", {each}" for each in said)


def _described(task: Task) -> str:
    if task.classes:
        return f"pt.Task({task.name!r}, classes={task.labels!r})"
    return f"pt.Task({task.name!r}, scale={task.scale!r})"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
