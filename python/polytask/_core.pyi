"""The compiled core: models, data and the training loop over NumPy arrays."""

# What the core and the face say to each other. Descriptions, settings and reports are dicts of what JSON has.

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "Checkpoint",
    "Data",
    "Meters",
    "Mix",
    "Model",
    "Tally",
    "Trainer",
    "Weighting",
    "__version__",
    "check",
    "components",
    "course",
    "features",
    "interrupted",
    "keep_threads",
    "level",
    "levels",
    "meant",
    "metrics",
    "partition",
    "torch_version",
]

_Array = np.ndarray[Any, Any]
#: Values of rows; or of their positions, with offsets `[rows + 1]`.
_Entries = _Array | tuple[_Array, _Array]
_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]
_Bytes = npt.NDArray[np.uint8]
#: `loss(outputs [n, width], targets, weights [n], gradient [n, width], factor)` -> sum of weighted losses, over memory.
#: Targets are int64 `[n]`, -1 where missing, or float32 `[n, outputs]`, NaN where missing; rows without label weigh 0.
_Loss = Callable[[Any, Any, Any, Any, float], float]
#: `weigh(tasks, losses [tasks], gramian [tasks, tasks] or None)` -> weights, of the tasks that have labels.
_Weigh = Callable[[Sequence[str], _Doubles, _Doubles | None], Sequence[float]]

__version__: str
torch_version: str
"""The torch this was built against."""
level: str
"""Which vectors of the processor loops use: `POLYTASK_LEVEL`, or the highest that it has."""
levels: list[str]
"""All that the processor has, the least first."""

def metrics() -> list[tuple[str, list[str], bool]]:
    """The metrics that the core counts: name, kinds of labels, whether higher is better."""

def components() -> list[dict[str, Any]]:
    """Everything every component says of itself."""

def check(family: str, description: Mapping[str, Any]) -> None:
    """Builds a component from its description and forgets it: for its errors."""

def features(inputs: Mapping[str, Any]) -> int:
    """Numbers a row of these inputs as an encoder is given them: numeric features, then embeddings."""

def meant(name: str, names: Sequence[str]) -> str:
    """The question whether one of these names was meant, as errors ask it; nothing if none is close."""

def interrupted(waits: bool) -> None:
    """Says whether a Ctrl-C waits, so that loops of the core look for it."""

def keep_threads(count: int) -> None:
    """Lets what the calling thread computes use so many threads from now on."""

def partition(gains: Sequence[Sequence[float]], most: int, largest: int, seed: int) -> tuple[list[int], float, float]:
    """Which tasks to train in one network, where `gains[i][j]` is what task `i` has of having `j` beside it: a group
    number a task, the summed gain, and a bound that no assignment exceeds.
    """

@final
class Data:
    """Rows of features, labels and row weights, borrowed and never copied."""

    def __new__(
        cls,
        rows: int,
        *,
        numeric: _Array | None = None,
        categorical: _Array | None = None,
        targets: Sequence[_Entries | None] = ...,
        fields: Sequence[tuple[str, _Entries]] = ...,
        masks: Sequence[_Array | None] = ...,
        weights: Sequence[_Array | None] = ...,
        names: Sequence[str] = ...,
    ) -> Data: ...
    def __len__(self) -> int: ...
    def entries(self, name: str, rows: Sequence[int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """The numbers of one of the `fields` in some rows, one entry after the other, and where each row's start."""

@final
class Mix:
    """Several data sets, and how many batches of each make an epoch."""

    def __new__(cls, sets: Sequence[Data], counts: Sequence[int], in_turn: bool) -> Mix: ...
    def __len__(self) -> int: ...

def course(
    rows: Sequence[int],
    counts: Sequence[int],
    in_turn: bool,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    epoch: int,
) -> list[tuple[int, npt.NDArray[np.uint32]]]:
    """The data set of each batch of an epoch, and its rows there; a data set of 0 rows is somebody else's to go through."""

@final
class Model:
    """A multi-task model."""

    def __new__(
        cls,
        description: Mapping[str, Any],
        losses: Sequence[_Loss | None] = ...,
        modules: Mapping[str, Any] | None = None,
        max_parameters: int | None = ...,
    ) -> Model: ...
    @property
    def description(self) -> dict[str, Any]:
        """The description with every default filled in."""

    @property
    def max_parameters(self) -> int:
        """How many parameters a model that is made of this one may have."""

    def set_notes(self, notes: Mapping[str, Any]) -> None:
        """Replaces Python's own notes in the description."""

    @property
    def kinds(self) -> list[str]:
        """The kind of each task's labels: `"classes"`, `"binary"` or `"values"`."""

    @property
    def widths(self) -> list[int]:
        """Raw outputs a row, for each task."""

    @property
    def predicted_widths(self) -> list[int]:
        """Predicted numbers a row, for each task."""

    @property
    def terms(self) -> list[str]:
        """Names of the terms that the network adds to the objective."""

    def network(self) -> dict[str, Any]:
        """The network as its nodes, with what they compute; and of each task its name and the link of its loss."""

    def names(self) -> list[tuple[str, list[int], str]]:
        """Path, shape and kind (`"parameter"` or `"state"`) of every entry."""

    def own_modules(self) -> list[tuple[str, str, str | None, list[str]]]:
        """Of each module of the caller's own: its path, the path of the first of those that start from the same numbers,
        the task whose head it is, and the paths of its parameters and then its buffers, in its order.
        """

    @staticmethod
    def head_sizes(description: Mapping[str, Any]) -> list[tuple[int, int, bool]]:
        """What the head of each task of a description is between: numbers a row of its features, raw outputs, and whether
        it has them of positions.
        """

    def state(self, path: str | None = None) -> dict[str, _Floats]:
        """Copies of all parameters and state, by path; or of that path alone."""

    def load_state(self, state: Mapping[str, _Array], strict: bool = True) -> tuple[list[str], list[str]]:
        """Takes over arrays by path; gives the paths that were missing and those that are unknown."""

    @property
    def device(self) -> str:
        """Where it is: "cpu", or "cuda:0" and the like."""

    def to(self, device: str) -> None:
        """Brings parameters and computation to a device of this name."""

    def parameters(self) -> dict[str, _Floats]:
        """Live, writable views of the parameters, by path; each keeps the model alive."""

    def memory(self) -> dict[str, Any]:
        """The memory of all parameters and state by path, where the model is: what is written there is in the model."""

    def summary(self) -> dict[str, Any]:
        """The layers, and who needs how many parameters."""

    def below(self, paths: Sequence[str], call: str | None = None) -> list[str]:
        """Paths of everything below these paths; for a `call`, a path that nothing is below is an error."""

    def freeze(self, below: Sequence[str], frozen: bool) -> None:
        """Freezes or unfreezes everything below these paths; everything there is, if none is given."""

    @property
    def frozen(self) -> list[str]:
        """Paths of what is frozen."""

    def check(self, data: Data, labels: bool) -> list[str]:
        """Every check of rows at the door; with `labels` there must be at least one label. Gives what would be a mistake in
        a whole data set and may be chance in some of its rows.
        """

    def predict(self, data: Data, raw: bool = False, batch_size: int = ...) -> list[_Floats]:
        """Predictions of each task, `[rows, predicted width]`; with `raw` its raw outputs."""

    def meters(self, wanted: Sequence[Mapping[str, Any]]) -> Meters:
        """Metrics to be counted: what is wanted, `[{"metrics", "keep", "scale"}, ...]`, of each task."""

    def evaluate(
        self, data: Data, batch_size: int = ..., meters: Meters | None = None, threads: int | None = None
    ) -> tuple[list[float], list[float], list[_Floats]]:
        """Sum of weighted losses, total label weight and raw outputs `[rows, width]` (no rows where nobody wants them), of
        each task.
        """

    def link(self, task: int, raw: _Floats) -> _Floats:
        """Raw outputs of one task turned into predictions."""

    def gradients(self, data: Data, kind: str) -> Any:
        """Gradients on all rows as one batch, without dropout: `"sum"`, `"jacobian"` or `"gramian"`."""

    def products(self) -> list[tuple[int, int, int, bool]]: ...
    def inspect(
        self, data: Data, batch_size: int = ...
    ) -> list[tuple[str, str, list[str], list[str], int, np.ndarray]]: ...
    def relation(self) -> tuple[list[str], _Doubles] | None:
        """Names of the tasks and their learned relation `[tasks, tasks]`, if there is one."""

    def save(self, path: str) -> None:
        """Writes the model to a safetensors file, atomically."""

    def to_bytes(self) -> bytes:
        """What `save` writes, in memory."""

    @staticmethod
    def load(path: str, losses: Sequence[_Loss | None] = ..., modules: Mapping[str, Any] | None = None) -> Model:
        """Reads a model that `save` wrote."""

    @staticmethod
    def from_bytes(
        data: bytes, losses: Sequence[_Loss | None] = ..., modules: Mapping[str, Any] | None = None
    ) -> Model:
        """Reads a model that `to_bytes` gave."""

@final
class Meters:
    """Metrics of a model's tasks, counted in each `evaluate` that is given them; `Model.meters` makes them."""

    def values(self) -> list[list[float]]:
        """The metrics of each task, in the order in which they were wanted."""

@final
class Tally:
    """One metric, counted on predictions that Python has."""

    def __new__(cls, kind: str, metric: str, width: int) -> Tally: ...
    def add(self, predicted: _Floats | _Doubles, known: _Doubles) -> None:
        """Counts contiguous predictions `[rows, width]` with labels `[rows, width]`, NaN where they are missing, or classes
        `[rows]`, -1 where they are missing.
        """

    def value(self) -> float:
        """The metric of what was counted; NaN where it is not defined."""

@final
class Trainer:
    """Trains one model."""

    def __new__(
        cls, model: Model, settings: Mapping[str, Any], weighting: _Weigh | None = None, optimizer: Any = None
    ) -> Trainer: ...
    @property
    def settings(self) -> dict[str, Any]:
        """The settings with every default filled in."""

    @property
    def constant_weights(self) -> list[float] | None:
        """The factor of each task's loss in the objective, up to one for all, if nothing changes that."""

    @property
    def accumulate(self) -> int:
        """Batches a step."""

    @property
    def weighting(self) -> str:
        """The name of the weighting, or of the function or class that is the caller's own."""

    @property
    def regularizers(self) -> list[str]:
        """The names of the regularizers."""

    @property
    def steps(self) -> int:
        """Steps of the optimizer so far."""

    @property
    def epochs(self) -> int:
        """Complete epochs so far."""

    @property
    def batches(self) -> int:
        """Batches done in the running epoch."""

    @property
    def lr(self) -> float:
        """The learning rate of the last step, of the first group."""

    @property
    def threads(self) -> int:
        """Threads of a call that begins now."""

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """Numbers of threads so far, each with the first of its steps, counted from 0."""

    @property
    def minimizes_another(self) -> bool:
        """Whether steps minimise something else than the loss."""

    @property
    def running(self) -> float:
        """The loss of the running epoch so far; NaN before its first step."""

    @property
    def watches(self) -> tuple[str, str] | None:
        """The column of the history that the schedule wants to see, and whether "min", "max" or "auto" is better."""

    @property
    def needs_validation(self) -> bool:
        """Whether the weighting learns from validation rows."""

    @property
    def compares(self) -> bool:
        """Whether the weighting compares the gradients of the tasks in a step."""

    def warning(self) -> str | None:
        """What is to be said of the steps so far, once a run."""

    def measure(self, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Counts metrics of training from here on: `[{"metrics", "keep", "scale"}, ...]`, of each task or none."""

    def validate_on(self, data: Data) -> None:
        """Rows that the weighting may learn from."""

    def plan(self, total_steps: int | None) -> None:
        """Tells schedules that need it how many steps the run will have."""

    def balance(self, data: Data) -> None:
        """Resolves `"balanced"` weights from these labels, the first time."""

    def run(
        self,
        data: Data | Mix,
        *,
        batch_size: int,
        shuffle: bool,
        keep_outputs: bool,
        stop_after: int | None = None,
        drop_last: bool = False,
        group_by_length: bool = False,
        poll: Callable[[int, int, float], object] | None = None,
    ) -> bool:
        """Goes on with the running epoch; gives whether it is through."""

    def step(self, data: Data, keep_outputs: bool = False) -> tuple[float, float, list[float]]:
        """One batch in the given order: the loss, the objective, and each task's loss."""

    def flush(self, keep_outputs: bool = False) -> None:
        """Steps on what waits for the rest of its accumulation."""

    def outputs(self, start: int = 0, stop: int = ...) -> list[_Floats]:
        """Raw outputs kept of some rows, of each task; none of a task of which nobody wants them."""

    def visited(self) -> list[npt.NDArray[np.uint32]]:
        """Rows of each data set that the epoch visits, in their order."""

    def end_epoch(self) -> dict[str, Any]:
        """Closes the epoch: its means."""

    def evaluated(self, sums: Sequence[float], weights: Sequence[float]) -> float:
        """The loss of an evaluation, from each task's sum of weighted losses and of label weights."""

    def observe(self, value: float, higher_is_better: bool) -> None:
        """Shows the schedule what it watches."""

    def save(self, path: str, extra: str, arrays: Sequence[tuple[str, _Bytes]]) -> None:
        """Writes a checkpoint with notes and arrays of the caller's, atomically."""

    def to_bytes(self, extra: str, arrays: Sequence[tuple[str, _Bytes]]) -> bytes:
        """What `save` writes, in memory."""

    def read(self, source: str | bytes) -> Checkpoint:
        """Reads a checkpoint for this trainer, in which nothing changes yet: a file's, or what `to_bytes` gave."""

    def take_over(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint that this trainer read, once."""

@final
class Checkpoint:
    """A checkpoint that a trainer has read and not yet taken over."""

    @property
    def extra(self) -> str:
        """The caller's notes."""

    @property
    def place(self) -> tuple[int, int]:
        """Epochs and steps of the optimizer when it was written."""

    def arrays(self) -> dict[str, _Bytes]:
        """The caller's arrays: bytes by name."""

@final
class Weighting:
    """A weighting on losses and gradients of the caller's, with what it has learned over its calls."""

    def __new__(cls, description: Mapping[str, Any], code: _Weigh | None = None) -> Weighting: ...
    @property
    def needs(self) -> str:
        """What it looks at: `"losses"`, `"gramian"` or `"jacobian"`."""

    @property
    def looks(self) -> bool:
        """Whether it looks at anything at all, losses included."""

    @property
    def looks_back(self) -> bool:
        """Whether it learns from the losses after the step, by `look_back`."""

    def weigh(
        self,
        losses: _Array | None = None,
        gramian: _Array | None = None,
        jacobian: _Array | None = None,
        *,
        names: Sequence[str] | None = None,
        epoch: int | None = None,
        seed: int = 0,
        rounding: float | None = None,
    ) -> tuple[_Doubles | None, _Doubles | None, _Doubles]:
        """Decides and learns: weights `[tasks]` unless only the direction says it, with a Jacobian the direction
        `[parameters]`, and factors `[tasks]` on the gradients of tasks' own parameters. A NaN among the losses is a task without a label. Each call is an epoch unless `epoch` is given.
        `rounding` says how far off cosines of a Gramian of less than double precision are.
        """

    def warning(self) -> str | None:
        """What is to be said of the calls so far, once."""

    def look_back(self, before: _Array, after: _Array) -> None:
        """Shows the losses before and after the step that was made with the last weights."""

    def reset(self) -> None:
        """Forgets all calls."""

    def state(self) -> tuple[Any, dict[str, _Floats]]:
        """What it has learned: small things, and arrays by name."""

    def restore(self, value: Any, arrays: Mapping[str, _Floats] = ...) -> None:
        """Continues from what `state` gave."""
