"""The model: what goes in, what is shared, what comes out."""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from torch.fx import GraphModule

from .. import _core
from .. import metrics as _metrics
from ..arguments.keywords import checked
from ..arguments.messages import listed, none_of
from ..arguments.numbers import seeded, whole
from ..arguments.paths import file_path
from ..components.component import Component
from ..components.own_module import Given, OwnModule, is_module, is_own, shown_output, shown_part
from ..components.registry import describe, make
from ..data import Names, Reader, Rows, bins
from ..data.inputs import Inputs
from ..data.rows import Parts
from ..data.scale import Scale
from ..data.task import Task
from ..embedding import Piecewise
from ..metrics import Metric
from ..process import devices, interrupts
from ..results.inspection import Inspection
from ..results.relation import Relation
from ..results.results import Results
from ..results.shown import Shown
from ..results.summary import Summary
from ..values import arrays, ragged
from . import (
    calibrating,
    custom_loss,
    deciding,
    labelled,
    predictions,
    scoring,
    showing,
    span_paths,
    taken,
    transfer,
    trees,
)
from .held_out import HeldOut
from .labelled import Labelled
from .numbers import Parameters, State
from .own_modules import Modules, Source, encoder_source

if TYPE_CHECKING:
    from ..torch.module import MultiTaskModule
    from .as_torch import Shared

_log = logging.getLogger("polytask")
_NOT_SAID = object()
#: The attributes that `_take` gives a model.
_PARTS = frozenset(
    ("_plain", "_modules", "_shared", "inputs", "kinds", "metrics", "reader", "tasks", "_temperatures", "_thresholds")
)
#: What of `_learned` belongs to the parameters as they are.
_OF_PARAMETERS = ("temperatures", "thresholds")
Part = TypeVar("Part")
Core: TypeAlias = _core.Model


class Mismatch(NamedTuple):
    """What `load_state_dict(strict=False)` or `start_from` could not match: paths missing there, paths not used."""

    missing: list[str]
    unexpected: list[str]


class MultiTaskModel(HeldOut):
    """A network with one head a task.

    The short form, `MultiTaskModel(input_size=10, hidden_size=20, output_sizes=[2, 3, 4])` or
    `MultiTaskModel(10, 20, [2, 3, 4])`, is an MLP shared by classification tasks called `task1`, `task2`, ...; the full
    form names everything.

    Arguments:
        inputs: `pt.Inputs`, or the number of numeric features. For an encoder of your own also the shape of what it
            takes a row, `(3, 32, 32)`, shapes in order, `[(20, 5), ()]`, or by name, `{"image": (3, 32, 32), "table":
            5}`; see `pt.Inputs(arrays=)`. They may be left out where an encoder of your own takes rows of features and
            one of its layers says how many, and where there is an `example`.
        tasks: the tasks, each a `pt.Task`.
        encoder: one of `pt.encoder`, its name, or a `torch.nn.Module` (or `pt.encoder.Torch`, where more must be said
            of one) from features `[rows, features]` (numbers, then embeddings) to a representation `[rows, any width]`,
            or of whatever `inputs` says: several by the names that its forward has, else in one dict. Its parameters
            and buffers are the model's under the names they have in its state dict: optimizers, weightings,
            regularizers, freezing and checkpoints treat them as any other, and the module that was passed learns.
            Another model may have it too: each has its own numbers, and the module those of the one that ran last. What
            is loaded into it between runs counts, statistics included; its mode does not. Parameters that require no
            gradient, from the start or from some time on, are frozen; `freeze` keeps statistics too. Its inputs are
            memory of the model's, which the next step fills again: what it keeps of them it should clone. What it draws
            at random while training follows from the trainer's seed. Schemes of several encoders want a function that
            makes one each time, `encoder=lambda: Net()`. Positions within rows are given as `[rows, longest,
            features]`, zeros after a row's last one and rows without any left out, and a forward that needs a second
            argument is given whether there is a position, `[rows, longest]`; it gives `[rows, longest, any width]`, of
            which the rest is not looked at.
        example: in place of `inputs`: features of some rows as arrays, one `[rows, ...]`, several in order or by name,
            of which shapes and types are looked at. Names of targets are left out, so that a batch of a loader that
            has all by name will do.
        sharing: one of `pt.sharing`, or its name.
        head: of the tasks that have no other, see `pt.Task`: one of `pt.head`, its name, or a function that makes a
            module of the numbers of features and outputs (`head=nn.Linear`), or of nothing.
        seed: of the initial weights; None takes what `torch.manual_seed` was last called with, and draws nothing, so
            that models which are made after one such call start alike.
        max_parameters: how many numbers the parameters may have, 2**33 unless said otherwise; more are refused before
            memory is taken for them.
        input_size, hidden_size, output_sizes, activation: the short form; `activation=None` is linear.
    """

    @checked
    def __init__(
        self,
        inputs: Inputs | int | Sequence[Any] | Mapping[str, Any] | None = None,
        hidden_size: int | Sequence[int] | None = None,
        output_sizes: Sequence[int] | None = None,
        *,
        tasks: Sequence[Task] | None = None,
        encoder: Component | Given | str | None = None,
        example: Any = None,
        sharing: Component | str = "hard",
        head: Component | Given | str = "linear",
        seed: int | None = 0,
        max_parameters: int | None = None,
        input_size: int | None = None,
        activation: Any = _NOT_SAID,
    ) -> None:
        if tasks is not None and inputs is None and hidden_size is None and output_sizes is None:
            inputs, input_size = input_size, None
        short: dict[str, Any] = {"input_size": input_size, "hidden_size": hidden_size, "output_sizes": output_sizes}
        if any(value is not None for value in short.values()) or activation is not _NOT_SAID:
            if _are_tasks(hidden_size):
                raise TypeError("tasks are given by name, `tasks=[...]`; by position the second is `hidden_size`")
            if input_size is None and not isinstance(inputs, Inputs):
                # The first argument of either form.
                short["input_size"] = inputs
                inputs = None
            _refuse_mixture({"inputs": inputs, "tasks": tasks, "encoder": encoder, "example": example}, short)
            inputs = short["input_size"]
            tasks = _short_tasks(output_sizes)
            encoder = _short_encoder(hidden_size, "relu" if activation is _NOT_SAID else activation)
        checked = _read_tasks(tasks)
        described = taken.inputs_of(inputs, example, encoder, checked).without(checked)
        checked = described.placed(checked)
        own = encoder_source(encoder, described) if is_own(encoder) else None
        if own:
            described = described.taken_as(own.first.calling.dtypes, own.first.unsure)
        modules = Modules(own, _usual_head(head, checked) if is_own(head) else None)
        chosen = "mlp" if encoder is None else encoder
        description = {
            "inputs": described.describe(),
            "tasks": [task.describe() for task in checked],
            "encoder": own.first.describe() if own else describe("encoder", chosen, "encoder"),
            "sharing": describe("sharing", sharing, "sharing"),
            "head": describe("head", "linear" if is_own(head) else head, "head"),
            "seed": seeded(seed),
        }
        description["heads"] = modules.take_heads(description, checked)
        most = None if max_parameters is None else whole(max_parameters, "`max_parameters`")
        core = _core.Model(description, [custom_loss.wrap(task) for task in checked], modules.at, most)
        modules.place(core)
        self._take(core, described, checked, modules)

    def _take(self, core: Core, inputs: Inputs, tasks: Sequence[Task], modules: Modules) -> None:
        self._plain = core
        self._modules = modules
        self._shared: Shared | None = None
        # What is learned of data is a model's own: inputs and tasks may serve several models.
        self.inputs = _twin(inputs)
        self.tasks = tuple(_twin(task) for task in tasks)
        self.kinds = core.kinds
        pairs = zip(self.tasks, self.kinds, strict=True)
        self.metrics: list[list[Metric]] = [
            _metrics.for_kind(task.metrics, kind, task.name, task.of_whole_rows) for task, kind in pairs
        ]
        predictions.check_metrics(self.tasks, self.kinds, self.metrics)
        self.reader = Reader(self.inputs, self.tasks, self.kinds)
        #: What held-out rows said after training, by task.
        self._temperatures: dict[str, float] = {}
        self._thresholds: dict[str, float | list[float]] = {}
        embed = self.inputs.embed
        if isinstance(embed, Piecewise) and embed.edges is not None:
            core.load_state({bins.PATH: bins.padded(embed.edges, embed.most)}, False)
        for name, (codes, vectors, freeze) in self.inputs.starting().items():
            transfer.start_embedding(core, name, codes, vectors, freeze)

    @checked
    def predict(self, x: Any, *, raw: bool = False, batch_size: int = 4096) -> dict[str, np.ndarray]:
        """Predictions for features in any form, a NumPy array a task; one row may be a dict or a pandas series.

        Probabilities for classification: `[rows, classes]`, `[rows]` for one binary label, `[rows, labels]` for
        several; values for regression: `[rows]` or `[rows, outputs]`, in the units of the targets whatever the task's
        scale; a loss that predicts a distribution gives its parameters on the last axis. Probabilities are those of
        `calibrate` where there was one. `raw=True` gives the network's outputs: logits, or values in that scale. A task
        of positions has an array of arrays, `[rows]` of what it would have for the positions of the row.

        Several threads may predict with one model at the same time; while it trains they are refused.

        Raises:
            ValueError, TypeError: features that do not fit the model's inputs; says what was expected and what came.
        """
        size = whole(batch_size, "`batch_size`")
        parts = self._each(x, lambda rows: (self._predicted(rows, bool(raw), size), rows.fields))
        each = [outputs for outputs, _ in parts]
        whole_outputs = [np.concatenate(part) if len(parts) > 1 else part[0] for part in zip(*each, strict=True)]
        found = {
            task.name: predictions.shaped(task, outputs)
            for task, outputs in zip(self.tasks, whole_outputs, strict=True)
        }
        for task in self.tasks:
            if task.per is not None:
                lengths = [part.lengths for _, fields in parts for part in predictions.of(task.per, fields)]
                of_rows = predictions.by_pairs if task.pairs else predictions.by_rows
                found[task.name] = of_rows(found[task.name], np.concatenate(lengths))
        return found

    def _predicted(self, rows: Rows, raw: bool, size: int) -> list[np.ndarray]:
        """What is predicted for rows, or raw outputs, `[rows, width]` of each task; of positions end to end."""
        if raw or self._temperatures:
            outputs = self._core.predict(rows.core(), True, size)
            return outputs if raw else [self._linked(j, each) for j, each in enumerate(outputs)]
        outputs = self._core.predict(rows.core(), False, size)
        return [predictions.linked(task, each) for task, each in zip(self.tasks, outputs, strict=True)]

    def _linked(self, j: int, raw: np.ndarray) -> np.ndarray:
        """What a task predicts with raw outputs, in the units of its targets."""
        task = self.tasks[j]
        tempered = predictions.tempered(raw, self._temperatures.get(task.name))
        return predictions.linked(task, self._core.link(j, tempered))

    @checked
    def evaluate(self, data: Any, *, batch_size: int = 4096, weights: Any = None) -> Results:
        """Losses and metrics on data in any form that `pt.Trainer.fit` takes: task -> metric -> value, shown as a
        table. Losses are those of raw outputs, metrics those of predictions, which `calibrate` changes;
        `results["loss"]` is the losses' sum by the tasks' weights, to which `pt.Trainer.evaluate` adds its
        regularizers.

        Arguments:
            data: that.
            batch_size: rows at a time.
            weights: of rows, as for `fit`. They weigh losses; metrics leave rows of weight 0 out and count all others
                alike.

        Raises:
            ValueError, TypeError: what is wrong, what was expected and what came.
        """
        return self._evaluated(data, batch_size, weights)

    def _evaluated(self, data: Any, batch_size: Any, weights: Any, trainer: _core.Trainer | None = None) -> Results:
        """The same, by a trainer with its regularizers and threads."""
        size = whole(batch_size, "`batch_size`")
        with interrupts.held():
            rows = self.reader.read(data, "data", weights=weights, batch_size=size)
            scoring.check(self, rows)
            return scoring.evaluate(self, rows, size, trainer)

    def _learns_logarithms(self, task: str) -> bool:
        """Whether it is the logarithms of a task's numbers that the network learns."""
        return any(each.name == task and each.scale == "log1p" for each in self.tasks)

    def _labelled(self, data: Any, weights: Any, batch_size: int, raw: bool = False) -> dict[str, Labelled]:
        """What is predicted for data in any form, or raw outputs, beside their labels."""
        size = whole(batch_size, "`batch_size`")
        read = self.reader.read(data, "data", weights=weights, batch_size=size)
        parts = []
        for rows in [read] if isinstance(read, Rows) else read:
            for doubt in scoring.doubts(self, rows):
                _log.warning("%s", doubt)
            parts.append((rows, self._predicted(rows, raw, size)))
            interrupts.look()
        return labelled.gathered(parts, self.tasks, self.kinds)

    def _each(self, x: Any, call: Callable[[Rows], Part]) -> list[Part]:
        """What the core says of each batch of features in any form."""
        parts = []
        # note: here nobody else's code may run, and a handler costs half as much as a row's prediction.
        with nullcontext() if isinstance(x, np.ndarray) and not self._modules else interrupts.held():
            for rows in x if isinstance(x, Parts) else self.reader.feature_batches(x):
                parts.append(call(rows))
                interrupts.look()
        if not parts:
            raise ValueError("`x` has no batch")
        return parts

    def classes(
        self, predicted: Mapping[str, Any], *, threshold: float | Mapping[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Decisions from what `predict` gave, for the classification tasks among them.

        The likeliest class (as its label, where the task has labels), or 0 and 1; for a task of spans a list of triples
        a row, `[(start, end, kind), ...]`, of those tags that are spans the ones whose probabilities have the largest
        product (Fariselli, Martelli and Casadio, BMC Bioinformatics 2005); for a task of pairs a list of triples a row,
        `[(i, j, kind), ...]`, of those pairs that are likelier in a relation of one kind than in none, or of the
        likeliest tree; with two sides `threshold` is the
        probability from which it is the second, for all tasks or `{task: threshold}`, of several labels also
        `{task: [one a label]}`, as `thresholds` gives them. Where none is said it is the one that `thresholds` kept, or
        0.5.

        Raises:
            ValueError: an unknown task, a threshold outside 0..1, or predictions that are no probabilities.
        """
        tasks = {task.name: (task, kind) for task, kind in zip(self.tasks, self.kinds, strict=True)}
        if not isinstance(predicted, Mapping):
            raise TypeError(f"`predicted` should be what `predict` gave; got {type(predicted).__name__}")
        named = [*predicted, *(threshold if isinstance(threshold, Mapping) else ())]
        unknown = [name for name in named if name not in tasks]
        if unknown:
            raise ValueError(f"unknown task {none_of(unknown[0], tasks, 'the model has')}")
        decisions = [name for name in predicted if tasks[name][1] != "values"]
        at = {name: self._thresholds.get(name, 0.5) for name in decisions}
        if threshold is not None:
            at |= threshold if isinstance(threshold, Mapping) else dict.fromkeys(decisions, threshold)
        return {name: self._decided(*tasks[name], predicted[name], at[name]) for name in decisions}

    @checked
    def show(
        self, x: Any, predicted: Mapping[str, Any] | None = None, *, tasks: Sequence[str] | str | None = None
    ) -> Shown:
        """A picture of rows of text with what is predicted for them: spans in colours, tags below the tokens, relations
        as arcs, in a tree from heads to what is attached to them, and what is said of rows as a whole in words.

        Arguments:
            x: features in any form that `predict` takes.
            predicted: what `predict` gave for them, which is otherwise predicted now.
            tasks: those that are shown, by default all.

        Raises:
            ValueError: a model without positions, an unknown task, or predictions of other rows.
        """
        chosen = showing.chosen(self.tasks, tasks)
        parts = x if isinstance(x, Parts) else Parts(self._each(x, lambda rows: rows))
        rows = showing.tokens(parts, self.inputs)
        found = self.predict(parts) if predicted is None else predicted
        kept = {task.name: found[task.name] for task in chosen if task.name in found}
        showing.check(rows, chosen, kept)
        return Shown(showing.marked(rows, chosen, kept, self.classes(kept)))

    @staticmethod
    def _decided(task: Task, kind: str, p: Any, threshold: Any) -> np.ndarray:
        called = f"`predicted` of task `{task.name}`"
        if task.per is None:
            return predictions.decided(task, kind, arrays.to_numpy(p, called)[0], threshold)
        if task.pairs is not None:
            flat, lengths = predictions.of_pairs(p, task, called)
            return predictions.each_a_row(task.pairs.triples(trees.relations(flat, lengths, task.pairs)))
        rows = ragged.read(p, called)
        flat = rows.values[rows.offsets[0] : rows.offsets[-1]]
        decided = predictions.decided(task, kind, flat, threshold)
        if task.spans is None:
            return predictions.by_rows(decided, rows.lengths)
        offsets = rows.offsets - rows.offsets[0]
        return predictions.each_a_row(task.spans.triples(span_paths.likeliest(flat, offsets, task.spans), offsets))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and statistics by path: `encoder.0.weight` `[out, in]`, `heads.task1.bias`, ...

        They are NumPy arrays, which the module of `to_torch` loads too. What `torch.save` or `pickle` wrote of the dict
        has tensors, which `torch.load` reads as it is and `load_state_dict` takes; what `np.savez(path, **state)` wrote
        `np.load` reads.
        """
        return State(self._core.state())

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Mismatch:
        """Takes over parameters: NumPy arrays or torch tensors by path. Everything is checked before anything changes.

        Raises:
            ValueError: with `strict`, a path too many or too few; a wrong shape; a number that is not finite.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"`state` should be a dict of arrays; got {type(state).__name__}")
        wrong = next((name for name in state if not isinstance(name, str)), None)
        if wrong is not None:
            raise TypeError(f"`state` should have strings as keys; got {wrong!r}")
        read = {name: arrays.single(value, f"`state[{name!r}]`") for name, value in state.items()}
        found = Mismatch(*self._core.load_state(read, bool(strict)))
        self._retrained()
        return found

    def to(self, device: Any) -> "MultiTaskModel":
        """Brings the model to a device, "cpu" or "cuda" or a `torch.device`, and gives it back.

        There it trains, predicts and is looked into; its numbers stay what they are, but a device adds up in an order
        of its own. On a card every component is computed by its formula, in libtorch's operations. Sparse tables, and
        weightings that look at whole gradients or beside a step, work on the processor alone. Files hold no device: a
        model that is loaded is on the processor.

        Raises:
            ValueError: a device that there is none of, or a model with sparse tables.
        """
        self._core.to(devices.name(device))
        if self._shared is not None:
            with torch.inference_mode(False):
                self._shared.follow(self._core)
        return self

    @property
    def _core(self) -> Core:
        """The model in the core, which has what the caller has put in modules of the caller's own since."""
        self._follow_modules()
        return self._plain

    def _follow_modules(self) -> None:
        """Has the core what the caller has put in modules of the caller's own, and which of their parameters learn."""
        if self._modules:
            self._modules.give(self._plain)
        if self._shared is not None:
            self._shared.give(self._plain)

    @property
    def _foreign(self) -> bool:
        """Whether training it runs code of the caller's own."""
        return bool(self._modules) or any(task.custom for task in self.tasks)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self._plain.device)

    def parameters(self) -> dict[str, np.ndarray]:
        """Live views of the parameters by path: writing to them changes the model.

        A dict of NumPy arrays, but that iterating over it gives the same parameters as tensors of torch, for who trains
        with `model(x)` in a loop of the caller's own: `torch.optim.Adam(model.parameters())`. They are those of
        `named_parameters`. Paths are its `keys()`.

        Raises:
            ValueError: the model is not on the processor, where NumPy could look at it; `named_parameters` gives the
                tensors wherever it is.
        """
        return Parameters(self._core.parameters(), self._tensors)

    def _tensors(self) -> list[torch.nn.Parameter]:
        """The parameters as tensors of torch, in the order of their paths."""
        from . import as_torch

        shared = self._shared = self._shared or as_torch.Shared()
        with torch.inference_mode(False):
            shared.follow(self._core)
        return [shared.tensors[path] for path, _, kind in self._plain.names() if kind == "parameter"]

    def __call__(
        self, x: Any, *, raw: bool = True, terms: bool = False, training: bool | None = None
    ) -> dict[str, torch.Tensor] | tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """What the network makes of tensors, with a graph: the model as a part of a PyTorch program.

        Outputs are differentiable with regard to `x` and to the model's parameters, which as tensors of torch are
        `model.to_torch(share=True).parameters()`: gradients arrive there, and what an optimizer of torch does to them
        the model has at once.

        Arguments:
            x: features as the core takes them, `[rows, features]`, where they are of one kind; else a dict of what
                `tensors` gives.
            raw: raw outputs, which losses of torch take; else predictions, see `to_torch`.
            terms: gives `(outputs, terms)`, see `to_torch`.
            training: dropout, sampled branches and batch statistics as in training; by default as `train` and `eval`
                said last, at first as in evaluation.

        Raises:
            TypeError, ValueError: features of another form, or what `to_torch` raises.
        """
        from . import as_torch

        shared = self._shared = self._shared or as_torch.Shared()
        scales = [task.scaling for task in self.tasks]
        state = self._core.device, self._core.frozen, scales, self._modules.settings, self.temperatures
        way = bool(raw), bool(terms), self.training if training is None else bool(training)
        module = shared.kept((way, state), lambda: self._as_torch(shared, *way[:2]).train(way[2]))
        found: dict[str, torch.Tensor] = module(**as_torch.given(x, shared.wanted(self._core)))
        return found

    #: What `model(x)` does, as of a module of torch: `fit` and `predict` know themselves.
    training = False

    def train(self, mode: bool = True) -> "MultiTaskModel":
        """Lets `model(x)` have dropout, sampled branches and batch statistics as in training; gives the model."""
        self.training = bool(mode)
        return self

    def eval(self) -> "MultiTaskModel":
        """Lets `model(x)` compute as in evaluation, which it does at first; gives the model."""
        return self.train(False)

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The parameters by path, as tensors of torch over the model's own memory: for optimizers of torch, with
        `model(x)` in a loop of the caller's own. They are the same ones each time, and `to_torch(share=True)` has them.
        """
        return self.to_torch(share=True, raw=True).named_parameters()

    @checked
    def to_torch(self, *, share: bool = False, raw: bool = False, terms: bool = False) -> GraphModule:
        """The model as a module of torch, in evaluation mode: a `torch.fx.GraphModule` of torch's own layers and
        operations, which goes on without the core (`torch.compile`, `torch.export`, ONNX).

        Its forward takes features as the core takes them, by these names if the model has them: `numeric`
        `[rows, features]` of float32, `categorical` `[rows, columns]` of int64 (-1 for no code of a bag), and of
        positions called `tokens`, `tokens_numeric` and `tokens_categorical` end to end and `tokens_lengths` `[rows]`;
        `model.tensors(x)` makes them of features in any form. It gives a dict of a tensor a task, shaped as `predict`
        shapes them, but for positions, which stay end to end, `[positions, ...]`.

        Its state dict has the paths of `model.state_dict()`, so that each loads into the other. After `module.train()`
        dropout, sampled branches and batch statistics are those of training, but draw from torch's generators. What is
        frozen requires no gradient. Sparse tables have dense gradients there.

        Arguments:
            share: parameters and statistics are the model's memory instead of copies: what either side does to them the
                other one has. All modules of one model share the same `nn.Parameter` objects, which follow the model
                to other devices. A graph of autograd that was made before a training step of ours does not notice it.
                A module that is itself brought to another device or type has copies from then on, `copy.deepcopy` too.
                Scales of targets are to be known, unless it is `raw`.
            raw: raw outputs, which losses of torch take, instead of predictions.
            terms: gives `(outputs, terms)`, where `terms` has by name what the network adds to the objective while it
                trains (the entropy of DSelect-k's gates, AITM's calibration), each a mean over rows. Many networks have
                none.

        Raises:
            ValueError: a part of the network that has no counterpart in torch, by name; with `share` a scale of
                targets that is yet to be learned.
        """
        from . import as_torch

        shared = None
        if share:
            unknown = next((task for task in self.tasks if task.scale is not None and task.scaling is None), None)
            if unknown is not None and not raw:
                raise ValueError(f"task `{unknown.name}` has scale={unknown.scale!r}, which the first `fit` learns, "
                                 "and a module that shares the model's memory would go on without it: make it after "
                                 "that, or with raw=True")  # fmt: skip
            shared = self._shared = self._shared or as_torch.Shared()
        return self._as_torch(shared, bool(raw), bool(terms))

    def _as_torch(self, shared: "Shared | None", raw: bool, terms: bool) -> "MultiTaskModule":
        from . import as_torch

        return as_torch.made(self._core, self._modules, self.tasks, self._notes(), shared=shared, raw=raw, terms=terms)

    @classmethod
    def from_torch(
        cls, module: torch.nn.Module, losses: Mapping[str, Callable[..., Any]] | None = None
    ) -> "MultiTaskModel":
        """The model that a module was made of by `to_torch`, with the module's parameters and statistics; `losses`
        gives tasks their Python losses back.

        Copies and pickles of such modules will do, on any device; what `torch.export` or ONNX made of them says of no
        model. The model is on the processor, and shares nothing with the module.

        Raises:
            TypeError, ValueError: another module, or one that has lost parameters.
        """
        from . import as_torch

        read = partial(_core.Model, as_torch.described(module))
        model = cls.__new__(cls)
        model._open(read, losses or {}, None, *as_torch.modules_of(module, read()))
        model._core.load_state(as_torch.numbers(module, model._core), True)
        return model

    @checked
    def tensors(self, x: Any) -> dict[str, torch.Tensor]:
        """Features in any form as the tensors, by name, that what `to_torch` gives takes: `module(**model.tensors(x))`.

        Raises:
            TypeError, ValueError: features that do not fit the model's inputs.
        """
        from . import as_torch

        rows = list(self.reader.feature_batches(x))
        for part in rows:
            self._core.check(part.core(), False)
        return as_torch.tensors(rows, as_torch.wanted(self._core), self.device)

    def inspect(self, x: Any, *, batch_size: int = 4096) -> Inspection:
        """A look inside, for features in any form: gates row by row, how much each task uses each expert, experts that
        no task uses, how features of tasks are mixed, and their relation. Its parts can be drawn.

        Raises:
            ValueError, TypeError: features that do not fit the model's inputs.
        """
        size = whole(batch_size, "`batch_size`")
        parts = self._each(x, lambda rows: self._core.inspect(rows.core(), size))
        found = self._core.relation()
        return Inspection.of(parts, None if found is None else Relation(*found))

    def summary(self) -> Summary:
        """The layers, whom they serve and their parameters, and how many single-task networks would need."""
        scales = {task.name: str(task.scaling or task.scale) for task in self.tasks if task.scale is not None}
        texts = {name: text.said() for name, text in self.inputs.text.items()}
        return Summary(**self._core.summary(), scales=scales, texts=texts)

    def freeze(self, *below: str) -> None:
        """Keeps everything below these paths as it is, from the next step on: `freeze("encoder", "heads.income")`;
        everything there is without an argument.

        Frozen parameters have no gradient, are no shared parameters to weightings, and neither the optimizer (weight
        decay and momentum included) nor a regularizer moves them; the steps cost less by what need not be computed.
        Frozen batch norms normalise with the statistics they have, in training too. Dropout goes on. Models keep what
        is frozen in their files; a checkpoint that is restored brings its own back.

        Raises:
            ValueError: a path that nothing is below; names what paths begin with.
        """
        self._core.freeze(transfer.paths(below), True)

    def unfreeze(self, *below: str) -> None:
        """Lets everything below these paths learn again; everything there is without an argument.

        Raises:
            ValueError: a path that nothing is below; names what paths begin with.
        """
        self._core.freeze(transfer.paths(below), False)

    @property
    def frozen(self) -> list[str]:
        """Paths of the frozen parameters and statistics."""
        return self._core.frozen

    def add_task(self, task: Task) -> "MultiTaskModel":
        """A new model with one more task; this one stays as it is.

        What has the same name and shape in both is copied, what is frozen too; the rest starts fresh, which the log
        says. The other tasks predict as before, but for schemes that mix layers of all tasks by weights whose number
        depends on that of the tasks ("cross_stitch", "sluice", "nddr", "ltb", "ple" of several levels): these weights
        start fresh, which is warned of. Freeze the trunk, and only the new head learns.

        Raises:
            ValueError: a name that another task has, a target among the features, a sharing scheme that cannot take it.
        """
        return self._with([*self.tasks, *self.inputs.placed(_read_tasks([task]))], f"add_task({task.name!r})")

    def remove_task(self, name: str) -> "MultiTaskModel":
        """A new model without one of the tasks; this one stays as it is. Copied is what `add_task` copies, and the same
        weights start fresh.

        Raises:
            ValueError: an unknown task, or the last one.
        """
        return self._with(transfer.without(self.tasks, name), f"remove_task({name!r})")

    def _fresh(self, tasks: Sequence[Task], **changes: Any) -> "MultiTaskModel":
        """A model of the same parts for these tasks that has learned nothing but how to read data.

        `embed` is how numbers are embedded, if in another way, and `bins` whether their bins are read.
        """
        model = type(self).__new__(type(self))
        inputs = self.inputs.embedded(changes.pop("embed")) if "embed" in changes else self.inputs
        inputs = inputs if changes.pop("bins", True) else inputs.unbinned()
        if inputs is not self.inputs:
            changes["inputs"] = inputs.describe()
        names = [*self.inputs.names, *self.reader.names.known.get("x", ())]
        modules = self._modules.another({task.name for task in self.tasks} - {task.name for task in tasks})
        model._take(transfer.rebuilt(self._core, names, tasks, modules, **changes), inputs, tasks, modules)
        model._relearn({name: said for name, said in self._learned().items() if name not in _OF_PARAMETERS})
        if inputs.embed == self.inputs.embed:
            model._put_edges(self._edges())
        model._core.to(self._core.device)
        return model

    def _started(self, seeds: Sequence[int]) -> "list[MultiTaskModel]":
        """The same model from other starts: what of it is not as it was made, or is frozen, stays as it is."""
        start = self._start()
        models = [self._fresh(self.tasks, seed=seed) for seed in seeds]
        for model in models:
            start.give(model._core)
        return models

    def _start(self) -> transfer.Start:
        """What of the model others of its kind begin with."""
        return transfer.Start(self._core, self._fresh(self.tasks)._core)

    def _with(self, tasks: list[Task], call: str) -> "MultiTaskModel":
        model = self._fresh(tasks)
        fresh = transfer.copy(self._core, model._core)
        if fresh:
            _log.info("%s: %s start fresh, the rest is copied", call, listed(fresh))
            had = {name for name, *_ in self._core.names()}
            if mixed := [name for name in fresh if name in had]:
                _log.warning("%s: %s depend on how many tasks there are and start fresh, so that the tasks which were "
                             "there predict otherwise until they are trained again", call, listed(mixed))  # fmt: skip
            return model
        # Nothing of what is left has changed.
        names = [task.name for task in tasks]
        model._temperatures = {name: said for name, said in self._temperatures.items() if name in names}
        model._thresholds = {name: said for name, said in self._thresholds.items() if name in names}
        return model

    def start_from(self, other: "MultiTaskModel | str | PathLike[str]", *below: str) -> Mismatch:
        """Takes over everything below these paths that has the same name and shape in another model, or in the file of
        one: `start_from("pretrained.safetensors", "encoder")`; everything without a path. Gives what found no match.

        Raises:
            ValueError: a path that nothing is below, or nothing that matches; then nothing has changed.
            OSError: the file cannot be read.
        """
        if isinstance(other, MultiTaskModel):
            source = other._core
            learned = other._learned()
        elif isinstance(other, str | PathLike):
            source, description = predictions.opened(file_path(other, "`other`"))
            learned = (description.get("face") or {}).get("learned") or {}
        else:
            raise TypeError(f"`other` should be a pt.MultiTaskModel or the path of one; got {type(other).__name__}")
        scales = learned.get("scales") or {}
        paths = transfer.paths(below)
        found = Mismatch(*transfer.take_over(source, self._core, paths))
        self._retrained()
        taken = set(self._core.below(paths)) - set(found.missing)
        for task in self.tasks:
            # A head that was taken over predicts in the scale that it was trained in.
            head = self._core.below([f"heads.{task.name}"])
            if task.scale is not None and task.name in scales and taken.issuperset(head):
                scale = Scale(**scales[task.name])
                if self._shared is not None and scale != task.scaling:
                    _log.warning("task `%s`: what `to_torch(share=True)` gave before goes on predicting in the scale "
                                 "that it was made with; make it anew", task.name)  # fmt: skip
                task.scaling = scale
        return found

    def relation(self) -> Relation:
        """How the tasks are related, as the last training with a regularizer that learns it found; it is saved.

        Raises:
            ValueError: nothing was learned.
        """
        found = self._core.relation()
        if found is None:
            raise ValueError(
                "the model has learned no relation of its tasks: train it with "
                "pt.Trainer(model, regularizers=[pt.regularizer.TaskRelation()])"
            )
        return Relation(*found)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes parameters and description as one safetensors file, which is complete or not there.

        Raises:
            OSError: what the operating system says.
        """
        path = file_path(path)
        dropped = [m.name for metrics in self.metrics for m in metrics if not m.named]
        if dropped:
            _log.warning("metrics that are Python callables are not saved: %s", listed(dropped))
        self._core.set_notes(self._notes())
        self._core.save(path)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        losses: Mapping[str, Callable[..., Any]] | None = None,
        encoder: Given | None = None,
        heads: Mapping[str, Given] | Given | None = None,
    ) -> "MultiTaskModel":
        """The model of a file that `save` wrote; `losses` gives tasks their Python losses back, `encoder` the module,
        or the function, that it was made with, and `heads` those of tasks, `{task: module}` or one function. Numbers
        are those of the file. Without them it opens too, and says what it needs.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no model, or not a complete one.
        """
        path = file_path(path)
        if Path(path).is_dir():
            raise IsADirectoryError(f"{path} is a folder: pt.Ensemble.load opens those of ensembles")
        model = cls.__new__(cls)
        try:
            model._open(partial(_core.Model.load, path), losses or {}, None, encoder, heads)
        except (LookupError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path}: damaged description ({error!r})") from None
        return model

    def _open(
        self,
        read: Callable[..., Core],
        losses: Mapping[str, Callable[..., Any]],
        metrics: Mapping[str, Sequence[Any]] | None = None,
        encoder: Given | None = None,
        heads: Mapping[str, Given] | Given | None = None,
        usual: Given | None = None,
    ) -> None:
        """Becomes the model that `read` reads; with losses, lists of metrics by task and modules of the caller's."""
        core = read()
        description = core.description
        notes = description.get("face") or {}
        inputs = Inputs.restore(description["inputs"], notes.get("inputs"), notes.get("embed"))
        modules = Modules.again(description, encoder, heads, usual)
        single = modules.heads_of(description)
        tasks = predictions.restored(description["tasks"], notes.get("tasks"), losses, metrics or {}, single)
        wrapped = [custom_loss.wrap(task) for task in tasks]
        if any(wrapped) or modules:
            core = read(wrapped, modules.at)
            modules.stand(core)
        self._take(core, inputs, tasks, modules)
        self._relearn(notes.get("learned") or {})

    def __getstate__(self) -> dict[str, Any]:
        """What `save` writes, the Python losses and metrics that no file keeps, and attributes of the caller's."""
        self._core.set_notes(self._notes())
        foreign = [task for task in self.tasks if any(not metric.named for metric in task.metrics or ())]
        return {
            "file": self._core.to_bytes(),
            "device": self._core.device,
            "losses": {task.name: task.loss for task in self.tasks if task.custom},
            "metrics": {task.name: [metric.given for metric in task.metrics or ()] for task in foreign},
            "encoder": None if self._modules.encoder is None else self._modules.encoder.whole,
            "heads": {name: source.whole for name, source in self._modules.of_tasks.items()},
            "head": self._modules.usual,
            "own": {name: value for name, value in vars(self).items() if name not in _PARTS},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        read = partial(_core.Model.from_bytes, state["file"])
        modules = (state.get(part) for part in ("encoder", "heads", "head"))
        self._open(read, state["losses"], state["metrics"], *modules)
        vars(self).update(state["own"])
        try:
            self.to(state.get("device", "cpu"))
        except ValueError as error:
            _log.warning("the model stays on the processor: %s", error)

    def __copy__(self) -> "MultiTaskModel":
        # A shallow copy would share the parameters: training one would change the other.
        return copy.deepcopy(self)

    def _notes(self) -> dict[str, Any]:
        tasks = [task.notes() for task in self.tasks]
        embed = {} if self.inputs.embed is None else {"embed": self.inputs.embed.notes()}
        return {"inputs": self.inputs.learned(), "tasks": tasks, "learned": self._learned(), **embed}

    def _learned(self) -> dict[str, Any]:
        """What training data said beside parameters, as JSON has it."""
        scales = {task.name: task.scaling.describe() for task in self.tasks if task.scaling is not None}
        unsure = [name for name, array in self.inputs.arrays.items() if array.unsure]
        more = {"scales": scales, "unsure": unsure, "temperatures": self._temperatures, "thresholds": self._thresholds}
        return {"names": self.reader.names.describe(), **{name: found for name, found in more.items() if found}}

    def _relearn(self, learned: Mapping[str, Any]) -> None:
        """What `_learned` gave; nothing of it in files of earlier versions."""
        self.reader.names = Names(learned.get("names"))
        unsure = learned.get("unsure") or ()
        arrays = self.inputs.arrays.items()
        self.inputs.arrays = {name: array._replace(unsure=name in unsure) for name, array in arrays}
        scales = learned.get("scales") or {}
        for task in self.tasks:
            task.scaling = Scale(**scales[task.name]) if task.name in scales else None
        self._temperatures = calibrating.read(learned.get("temperatures") or {}, self.tasks, self.kinds)
        self._thresholds = deciding.read(learned.get("thresholds") or {}, self.tasks, self.kinds)

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        """Forgets what was learned within if it ends in an exception."""
        before = self._learned()
        edges = self._edges()
        try:
            yield
        except BaseException:
            self._relearn(before)
            self._put_edges(edges)
            raise

    def _edges(self) -> np.ndarray | None:
        """Edges of bins `[features, bins + 1]`, 0 as long as they are not known; none where numbers have no bins."""
        return self._core.state(bins.PATH)[bins.PATH] if isinstance(self.inputs.embed, Piecewise) else None

    def _put_edges(self, edges: np.ndarray | None) -> None:
        if edges is not None and not np.array_equal(edges, self._core.state(bins.PATH)[bins.PATH]):
            self._core.load_state({bins.PATH: edges}, False)

    def _learn_edges(self, data: Any) -> None:
        """Learns edges of bins from training rows, unless they are known."""
        edges = self._edges()
        if edges is not None and not edges.any():
            embed = self.inputs.embed
            self._put_edges(bins.learned(embed, data, self.tasks, self.kinds))  # type: ignore[arg-type]

    def _need_edges(self) -> None:
        """Refuses what would train without edges of bins.

        Raises:
            ValueError: they are not known.
        """
        edges = self._edges()
        if edges is not None and not edges.any():
            raise ValueError("edges of bins are not known, which `fit` learns from its training rows; call it first, "
                             "or give edges, pt.embedding.Piecewise(bins=[...])")  # fmt: skip

    def __repr__(self) -> str:
        description = self._plain.description
        parts = {family: repr(make(family, description[family])) for family in ("encoder", "sharing", "head")}
        if description["encoder"]["name"] == "custom":
            parts["encoder"] = _shown(description["encoder"], self._modules.encoder)
        if self._modules.usual is not None:
            parts["head"] = shown_part(self._modules.usual)
        shown = "".join(f"    {family}={part},\n" for family, part in parts.items())
        tasks = "".join(f"        {task!r},\n" for task in self.tasks)
        return f"MultiTaskModel(\n    {self.inputs!r},\n    tasks=[\n{tasks}    ],\n{shown})"


def _shown(encoder: Mapping[str, Any], source: Source | None) -> str:
    """What an encoder of the caller's own is called, from its description if it is lost."""
    if source is not None and isinstance(source.given, OwnModule):
        return repr(source.given.of(source.first.module))
    called = f"{encoder['class']}(...)"
    output = shown_output(encoder.get("output"))
    return f"Torch({called}{output})" if output else called


def _twin(part: Part) -> Part:
    """Another one that shares all it has, which `copy.copy` would make anew."""
    twin = object.__new__(type(part))
    vars(twin).update(vars(part))
    return twin


def _refuse_mixture(full: dict[str, Any], short: dict[str, Any]) -> None:
    mixed = [name for name, value in full.items() if value is not None]
    if mixed:
        raise TypeError(f"`{mixed[0]}` belongs to the full form; leave out {listed(short)} and `activation`")
    lacking = [name for name, value in short.items() if value is None]
    if lacking:
        raise TypeError(f"the short form needs {listed(short)}; `{lacking[0]}` is missing")


def _are_tasks(given: Any) -> bool:
    return isinstance(given, Task) or (isinstance(given, list | tuple) and any(isinstance(x, Task) for x in given))


def _short_tasks(sizes: Any) -> list[Task]:
    if isinstance(sizes, str | bytes | Mapping) or not hasattr(sizes, "__iter__"):
        raise TypeError(f"`output_sizes` should be a list of numbers of classes; got {sizes!r}")
    return [Task(f"task{i}", classes=whole(size, "`output_sizes`", 2)) for i, size in enumerate(sizes, 1)]


def _short_encoder(hidden: Any, activation: Any) -> Component | None:
    sizes = [hidden] if not hasattr(hidden, "__iter__") or isinstance(hidden, str) else list(hidden)
    sizes = [whole(size, "`hidden_size`") for size in sizes]
    return make("encoder", {"name": "mlp", "hidden": sizes, "activation": activation})


def _usual_head(head: Given, tasks: Sequence[Task]) -> Given:
    """What makes the head of each task that has no other."""
    others = [task.name for task in tasks if task.head is None]
    if is_module(head) and len(others) > 1:
        raise ValueError(f"`head`: a module is the head of one task, and the model has {listed(others)}: give a "
                         "function that makes one each time, `head=nn.Linear`, or each task its own, "
                         "`pt.Task(head=module)`")  # fmt: skip
    return head


def _read_tasks(tasks: Any) -> list[Task]:
    if isinstance(tasks, Task):
        tasks = [tasks]
    if isinstance(tasks, str | bytes | Mapping) or not hasattr(tasks, "__iter__"):
        raise TypeError(f"`tasks` should be a list of pt.Task; got {tasks!r}")
    found: list[Any] = list(tasks)
    wrong = [task for task in found if not isinstance(task, Task)]
    if wrong:
        raise TypeError(f"`tasks` should be a list of pt.Task; got {wrong[0]!r}")
    return found
