"""Callbacks that hand what a run measures to other tools; `make test-integrations` has the tools themselves."""

import copy
import csv
import pickle
import sys
import types

import numpy as np
import pandas as pd
import polytask as pt
import pytest
from conftest import make_model, same_bits

FIT = {"batch_size": 32, "progress": False}


def lines(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def rows(history):
    """As a file of them is read."""
    return [{name: str(value) for name, value in row.items()} for row in history]


def test_a_file_has_the_history_line_by_line(data, tmp_path):
    path = tmp_path / "logs" / "a.csv"
    trainer = pt.Trainer(make_model(), callbacks=[pt.callbacks.CSV(path)])
    history = trainer.fit(data.whole, validation=data.whole, epochs=3, **FIT)
    assert lines(path) == rows(history)
    read = pd.read_csv(path)
    assert read["validation/age/r2"].tolist() == pytest.approx(history["validation/age/r2"], rel=1e-12)
    assert list(path.parent.iterdir()) == [path]


def test_a_file_goes_on_with_the_run(data, tmp_path):
    path = tmp_path / "a.csv"
    trainer = pt.Trainer(make_model(), callbacks=[pt.callbacks.CSV(path)])
    trainer.fit(data.whole, epochs=2, **FIT)
    history = trainer.fit(data.whole, validation=data.whole, epochs=1, **FIT)
    first, _, last = lines(path)
    assert (first["validation/loss"], last["validation/loss"]) == ("", str(history["validation/loss"][-1]))
    assert [line["epoch"] for line in lines(path)] == ["1", "2", "3"]
    trainer.fit((data.x, {**data.targets, "age": np.full(160, np.nan)}), epochs=1, **FIT)
    assert lines(path)[-1]["age/loss"] == "nan"
    again = pt.Trainer(make_model(), callbacks=[pt.callbacks.CSV(path)])
    assert lines(path)[0]["epoch"] == "1"
    assert [line["loss"] for line in lines(path)] != []
    history = again.fit(data.whole, epochs=1, **FIT)
    assert [line["loss"] for line in lines(path)] == [str(history["loss"][0])]


class Break(pt.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == self.epoch:
            raise SystemExit


def test_a_file_has_each_epoch_once_after_a_resume(data, tmp_path):
    path, folder = tmp_path / "a.csv", tmp_path / "run"

    def run(*more):
        callbacks = [pt.callbacks.CSV(path), *more, pt.Checkpoint(folder, every=2)]
        return pt.Trainer(make_model(), callbacks=callbacks).fit(data.whole, epochs=6, resume=folder, **FIT)

    with pytest.raises(SystemExit):
        run(Break(4))
    assert [line["epoch"] for line in lines(path)] == ["1", "2", "3", "4"]
    with open(path, "a") as file:
        file.write("5,0.2")  # a line that was cut off
    history = run()
    assert lines(path) == rows(history)
    assert len(history) == 6


def test_a_file_of_something_else_stays_as_it_is(data, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2\n")
    model = make_model()
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"data.csv: this file is no log of a run, since it has no column `epoch`"):
        pt.Trainer(model, callbacks=[pt.callbacks.CSV(path)]).fit(data.whole, epochs=1, **FIT)
    with pytest.raises(OSError, match=str(tmp_path)):
        pt.Trainer(model, callbacks=[pt.callbacks.CSV(tmp_path)]).fit(data.whole, epochs=1, **FIT)
    assert path.read_text() == "a,b\n1,2\n"
    assert same_bits(model.state_dict(), before)
    for wrong in (3, "", b"a"):
        with pytest.raises(TypeError, match="`path` should be the path of a file; got"):
            pt.callbacks.CSV(wrong)


class Trial:
    """A trial that is to be pruned once what is reported rises over a limit."""

    def __init__(self, limit=float("inf"), direction="MINIMIZE"):
        self.reported, self.limit = [], limit
        self.study = types.SimpleNamespace(direction=types.SimpleNamespace(name=direction))

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return len(self.reported) >= self.limit


class TrialPruned(Exception):  # noqa: N818
    """As Optuna calls it."""


class Run:
    """A run of Weights & Biases."""

    def __init__(self, module, options):
        self.module, self.options = module, options
        self.id = options.get("id", f"run-{len(module.runs)}")
        self.logged, self.steps, self.finished = [], [], False
        module.runs.append(self)

    def log(self, values):
        self.logged.append(values)

    def define_metric(self, name, step_metric):
        self.steps.append((name, step_metric))

    def finish(self):
        self.finished = True
        self.module.run = None


@pytest.fixture
def tools(monkeypatch):
    """Stand-ins for libraries that need not be installed."""
    wandb = types.ModuleType("wandb")
    wandb.runs, wandb.run = [], None

    def init(**options):
        wandb.run = Run(wandb, options)
        return wandb.run

    wandb.init = init

    mlflow = types.ModuleType("mlflow")
    mlflow.started, mlflow.logged, mlflow.active = [], [], None

    def start_run(**options):
        info = types.SimpleNamespace(run_id=options.get("run_id", f"id-{len(mlflow.started)}"))
        run = types.SimpleNamespace(info=info)
        mlflow.started.append(options)
        mlflow.active = run
        return run

    def end_run():
        mlflow.active = None

    mlflow.start_run, mlflow.end_run, mlflow.active_run = start_run, end_run, lambda: mlflow.active
    mlflow.log_metrics = lambda values, step: mlflow.logged.append((mlflow.active.info.run_id, step, values))

    board = types.ModuleType("torch.utils.tensorboard")
    board.writers = []

    class SummaryWriter:
        def __init__(self, logdir, purge_step):
            self.logdir, self.purge_step, self.scalars, self.closed = logdir, purge_step, [], False
            board.writers.append(self)

        def add_scalar(self, name, value, step):
            self.scalars.append((step, name, value))

        def flush(self):
            self.flushed = len(self.scalars)

        def close(self):
            self.closed = True

    board.SummaryWriter = SummaryWriter
    optuna = types.ModuleType("optuna")
    optuna.TrialPruned = TrialPruned
    for module in (wandb, mlflow, board, optuna):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return types.SimpleNamespace(wandb=wandb, mlflow=mlflow, board=board, optuna=optuna)


def resumed(data, folder, make):
    """A run that breaks off after its third epoch, of which a checkpoint after the second knows, and goes on."""
    fit = {"epochs": 4, "resume": folder, **FIT}

    def trainer(*more):
        return pt.Trainer(make_model(), callbacks=[make(), *more, pt.Checkpoint(folder, every=2)])

    with pytest.raises(SystemExit):
        trainer(Break(3)).fit(data.whole, **fit)
    return trainer().fit(data.whole, **fit)


def test_curves_of_tensorboard(data, tools, tmp_path):
    history = resumed(data, tmp_path, lambda: pt.callbacks.TensorBoard(tmp_path / "tb"))
    first, second = tools.board.writers
    assert (first.logdir, first.purge_step, second.purge_step) == (str(tmp_path / "tb"), 1, 3)
    assert first.flushed == len(first.scalars)
    assert first.closed
    assert second.closed
    want = [(row["epoch"], name, value) for row in history[2:] for name, value in row.items() if name != "epoch"]
    assert second.scalars == want
    assert {step for step, _, _ in first.scalars} == {1, 2, 3}


def test_a_run_of_weights_and_biases(data, tools, tmp_path):
    history = resumed(data, tmp_path, lambda: pt.callbacks.WandB(project="census"))
    first, second = tools.wandb.runs
    assert first.options == {"project": "census"}
    assert second.options == {"project": "census", "id": "run-0", "resume": "allow"}
    assert second.logged == history.rows[2:]
    assert second.steps == [("*", "epoch")]
    assert (first.finished, second.finished) == (True, True)


def test_a_run_of_ones_own_stays_open(data, tools):
    mine = tools.wandb.init(project="mine")
    theirs = tools.mlflow.start_run()
    callbacks = [pt.callbacks.WandB(project="census"), pt.callbacks.MLflow()]
    history = pt.Trainer(make_model(), callbacks=callbacks).fit(data.whole, epochs=1, **FIT)
    assert mine.logged == history.rows
    assert not mine.finished
    assert mine.steps == []
    assert tools.mlflow.active is theirs
    assert len(tools.wandb.runs) == len(tools.mlflow.started) == 1


def test_a_run_of_mlflow(data, tools, tmp_path):
    history = resumed(data, tmp_path, lambda: pt.callbacks.MLflow(run_name="first"))
    assert tools.mlflow.started == [{"run_name": "first"}, {"run_name": "first", "run_id": "id-0"}]
    assert tools.mlflow.active is None
    assert {run for run, _, _ in tools.mlflow.logged} == {"id-0"}
    assert [step for _, step, _ in tools.mlflow.logged] == [1, 2, 3, 3, 4]
    for (_, step, values), row in zip(tools.mlflow.logged[3:], history[2:], strict=True):
        assert {"epoch": step, **values} == row


def test_names_that_mlflow_does_not_take(tools):
    model = pt.MultiTaskModel(2, tasks=[pt.Task("a+b: 100%")])
    x = np.ones((4, 2))
    pt.Trainer(model, callbacks=[pt.callbacks.MLflow()]).fit((x, x[:, 0]), epochs=1, progress=False)
    assert "a_b_ 100_/loss" in tools.mlflow.logged[0][2]


def test_a_trial_is_told_and_pruned(data, tools):
    trial = Trial(limit=2)
    model = make_model()
    trainer = pt.Trainer(model, callbacks=[pt.callbacks.OptunaPruning(trial, "income/auroc")])
    with pytest.raises(TrialPruned, match=r"pruned after epoch 2: `validation/income/auroc` was 0\.\d+"):
        trainer.fit(data.whole, validation=data.whole, epochs=5, **FIT)
    assert trial.reported == list(zip([1, 2], trainer.history["validation/income/auroc"], strict=True))
    trainer.callbacks.clear()
    assert len(trainer.fit(data.whole, epochs=1, **FIT)) == 3


def test_a_study_that_asks_for_the_other_direction_is_noticed(data, tools, caplog):
    for monitor, direction, said in [
        ("income/auroc", "MINIMIZE", "`income/auroc` is better the higher, and the study is to minimize what"),
        ("loss", "MAXIMIZE", "`loss` is better the lower, and the study is to maximize"),
        ("loss", "MINIMIZE", ""),
        ("income/auroc", "MAXIMIZE", ""),
    ]:
        caplog.clear()
        callback = pt.callbacks.OptunaPruning(Trial(direction=direction), monitor)
        pt.Trainer(make_model(), callbacks=[callback]).fit(data.whole, epochs=1, **FIT)
        assert said in caplog.text
        assert bool(said) == bool(caplog.text)


def test_what_a_trial_and_its_monitor_should_be(data, tools):
    with pytest.raises(TypeError, match=r"`trial` should be an optuna.Trial, as objectives are given; got str"):
        pt.callbacks.OptunaPruning("loss")
    with pytest.raises(TypeError, match="`monitor` should be the name of a column of the history; got 3"):
        pt.callbacks.OptunaPruning(Trial(), 3)
    callback = pt.callbacks.OptunaPruning(Trial(), "val_loss")
    with pytest.raises(ValueError, match="no column 'val_loss'; did you mean `loss`"):
        pt.Trainer(make_model(), callbacks=[callback]).fit(data.whole, epochs=1, **FIT)


MAKE = {
    "tensorboard": ("torch.utils.tensorboard", lambda: pt.callbacks.TensorBoard("logs")),
    "wandb": ("wandb", lambda: pt.callbacks.WandB(project="census")),
    "mlflow": ("mlflow", lambda: pt.callbacks.MLflow(run_name="first")),
    "optuna": ("optuna", lambda: pt.callbacks.OptunaPruning(Trial())),
}


@pytest.mark.parametrize("extra", MAKE)
def test_a_tool_that_is_not_installed_is_named_before_the_first_step(data, extra, monkeypatch):
    module, make = MAKE[extra]
    monkeypatch.setitem(sys.modules, module, None)
    model = make_model()
    before = model.state_dict()
    with pytest.raises(ImportError, match=rf"pt\.callbacks\.\w+ needs {extra}: pip install 'polytask\[{extra}\]'"):
        pt.Trainer(model, callbacks=[make()]).fit(data.whole, epochs=1, **FIT)
    assert same_bits(model.state_dict(), before)


def test_the_project_has_the_extras_that_errors_name():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert [extra for extra in MAKE if f'\n{extra} = ["{extra}>=' not in text] == []


def test_they_are_copied_and_pickled_with_their_trainer(data, tools, tmp_path):
    callbacks = [make() for _, make in list(MAKE.values())[:3]] + [pt.callbacks.CSV(tmp_path / "a.csv")]
    trainer = pt.Trainer(make_model(), callbacks=callbacks)
    trainer.fit(data.whole, epochs=1, **FIT)
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        assert list(map(repr, other.callbacks)) == list(map(repr, callbacks))
        other.fit(data.whole, epochs=1, **FIT)
    assert [line["epoch"] for line in lines(tmp_path / "a.csv")] == ["1", "2"]
    assert repr(callbacks) == (
        f"[TensorBoard('logs'), WandB(project='census'), MLflow(run_name='first'), CSV({str(tmp_path / 'a.csv')!r})]"
    )
