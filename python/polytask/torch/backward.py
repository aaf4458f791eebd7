"""A weighting in a training loop of the caller's own."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..arguments.messages import listed
from ..arguments.numbers import whole
from ..components import own_weighting
from ..components.own_weighting import Code, OwnWeighting
from ..components.standalone import Weighting, cosine_rounding
from ..results.decisions import Decisions
from . import gradients
from .decided import Decided, cosines_of
from .graph import Parts, parts
from .losses import Given, Losses
from .processes import Processes
from .rows import Rows

_log = logging.getLogger("polytask")

#: The tasks' own gradients with their parameters, by the parameter's `id` and the task.
Own = dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]]

#: Calls of `backward`, so that weightings that draw at random draw anew in each.
_CALLS = itertools.count()


def backward(
    losses: Losses,
    *,
    weighting: Weighting | str | Code,
    tasks: Iterable[str] | None = None,
    shared: Iterable[torch.Tensor] | None = None,
    scaler: torch.amp.GradScaler | None = None,
    epoch: int | None = None,
    retain_graph: bool = False,
) -> None:
    """Adds to `.grad` what a weighting makes of several losses' gradients, in the place of `loss.backward()`.

    A weighting that learns from step to step keeps what it has learned: make it once, before the loop. See `Balancer`,
    which has the same arguments and remembers more.

    Arguments:
        losses: the tasks' losses: a dict by name or a list of tensors, or one tensor `[tasks]`. In a dict or list each
            is one number, or one a row that has a label, `[rows]`, which stands for their mean. None, NaN or no row is
            a task without a label in this batch. Each entry of one tensor is a task, such as a loss a row; they have
            all their parameters in common, unless it is a `torch.stack` of losses.
        weighting: a weighting, its name, or a function of your own: `weigh(losses)` or `weigh(losses, gramian)`, see
            `Balancer`. One of losses weighs all gradients, one of gradients those of shared
            parameters; a task's own parameters keep their own gradient. With `at="representation"` it looks where the
            gradients of single tasks enter what several reach, which takes one backward through that.
        tasks: the tasks' names in order. A dict of losses may then lack those without a label.
        shared: the shared parameters; by default those that several losses reach. Frozen ones do not count.
        scaler: the `torch.amp.GradScaler` that will make the step. Losses are given unscaled; the weighting sees them
            and their gradients unscaled, and `.grad` gets scaled ones.
        epoch: how many epochs are complete; each call counts as one if this is not said.
        retain_graph: whether the graph may be gone through again.

    Raises:
        ValueError, TypeError: what is wrong, what was expected and what came; no `.grad` has changed then.
    """
    one = Balancer(weighting, tasks=tasks, shared=shared, scaler=scaler, history=0)
    one._seed = next(_CALLS)
    one.backward(losses, epoch=epoch, retain_graph=retain_graph)


class Balancer:
    """A weighting in a training loop of the caller's own, with what it has learned and seen.

    A weighting that is a function, or an object with such a `weigh`, is called with tensors on the processor, of the
    tasks that have a label in this call: `losses` `[tasks]`, in their type, and `gramian` `[tasks, tasks]`, the
    products of the tasks' gradients at the shared parameters; one that takes `losses` alone needs no backward a task.
    An argument called `tasks` gets their names. It gives one weight a task in anything like an array. What an object
    says by `state_dict`, and takes by `load_state_dict`, is part of the balancer's state.

    Attributes:
        weighting: the weighting, as it was given.
        weights: the weights of the last step that was decided, a dict by the tasks' names, or a list where they have
            none; 0 without a label. None before, and where a direction is no weighted sum.
    """

    def __init__(
        self,
        weighting: Weighting | str | Code = "equal",
        *,
        tasks: Iterable[str] | None = None,
        shared: Iterable[torch.Tensor] | None = None,
        scaler: torch.amp.GradScaler | None = None,
        ddp: torch.nn.parallel.DistributedDataParallel | None = None,
        accumulate: int = 1,
        seed: int = 0,
        history: int = 1000,
    ) -> None:
        """
        Arguments:
            weighting, tasks, shared, scaler: as for `backward`.
            ddp: where processes make a step together, the module around all that learns. Forward and `backward` are
                then within its `no_sync()`: gradients are summed here, those of tasks before anything is decided, and
                `.grad` is that of all processes' rows at once, the same in each. Losses are means over rows, and count
                alike in all processes unless they come row by row. A method of gradients sends as many times the shared
                parameters as there are tasks, one of losses all parameters once. `losses` are the same tasks in all.
            accumulate: calls whose gradients are added up before the weighting sees them, as one step's; `.grad`
                changes in the last of them.
            seed: for weightings that draw random numbers.
            history: how many of the last decisions are kept, and go into the state; fewer where they would be more
                than 8 MiB.
        """
        made = own_weighting.read(weighting)
        if getattr(made, "per", "all") != "all":
            raise ValueError(f'{made!r}: `per` should be "all" here; weights that differ between layers need a Trainer')
        self._method = made
        self._needs = made._made().needs
        self.weighting: Weighting | Code = made.code if isinstance(made, OwnWeighting) else made
        self.weights: dict[str, float] | list[float] | None = None
        self._decided = Decided(whole(history, "`history`", 0))
        #: Products of the tasks' gradients in the last step that was decided, and which tasks had a label.
        self._products: tuple[np.ndarray, np.ndarray] | None = None
        self._shared = None if shared is None else _leaves(shared)
        #: What several losses reached in any call so far, by `id`: a batch may have labels of one task alone.
        self._found: dict[int, torch.Tensor] = {}
        self._scaler = scaler
        self._processes = None if ddp is None else Processes(ddp)
        self._accumulate = whole(accumulate, "`accumulate`")
        self._seed = whole(seed, "`seed`", 0)
        self._tasks = None if tasks is None else _named(tasks)
        self._names = self._tasks
        self._kept: _Kept | None = None
        #: Decisions since losses after a step were shown.
        self._unseen = 0

    @property
    def cosines(self) -> np.ndarray | None:
        """Of the tasks' gradients in the last step that was decided, `[tasks, tasks]`; NaN without a label. None for a
        weighting of losses.
        """
        return None if self._products is None else cosines_of(*self._products)

    @property
    def history(self) -> Decisions:
        """What was decided and on what, a row a decision, as of now: losses, weights, and for a weighting of gradients
        their norms, cosines and conflicts. `to_frame`, `plot` and `conflicts` say the same as a frame of pandas, as
        pictures, and as the share of conflicts a pair of tasks. It is made anew when it is asked for.
        """
        return self._decided.history(self._names)

    def backward(self, losses: Losses, *, epoch: int | None = None, retain_graph: bool = False) -> None:
        """As `polytask.torch.backward`; the number and names of losses stay the same from call to call."""
        given = Given.read(losses, self._tasks, needed=self._processes is None)
        if self._names is not None and given.names != self._names:
            got = listed(given.names or [])
            raise ValueError(f"`losses` should be those of {listed(self._names)}, as before; got {got}: with "
                             "`Balancer(tasks=[...])` a batch may lack some")  # fmt: skip
        if isinstance(self._method, OwnWeighting):
            self._method.show_as(given.together.dtype)
        device = given.together.device
        scale = 1.0 if self._scaler is None else float(self._scaler.scale(torch.ones((), device=device)))
        with gradients.without_autocast(device.type):
            if self._needs == "losses":
                self._by_losses(given, scale, epoch, retain_graph)
            else:
                self._by_gradients(given, scale, epoch, retain_graph)
        self._names = given.names

    def look_back(self, before: Any, after: Any) -> None:
        """As `Weighting.look_back`: a batch's losses before and after the step, for weightings that learn from them
        (`pt.weighting.FAMO`, which learns by nothing else).
        """
        self._method.look_back(self._in_order(before), self._in_order(after))
        self._unseen = 0

    def _in_order(self, losses: Any) -> Any:
        """Losses by name in the order of the tasks, NaN for one that lacks; others as they are."""
        if not isinstance(losses, Mapping):
            return losses
        if unknown := [name for name in losses if name not in (self._names or [])]:
            raise ValueError(f"`losses` should be those of {listed(self._names or [])}; got {unknown[0]!r}")
        each = [losses.get(name, float("nan")) for name in self._names or []]
        return [float(loss.detach()) if isinstance(loss, torch.Tensor) else float(loss) for loss in each]

    def _look_whether_seen(self) -> None:
        """Says once that a weighting that learns by looking back was not shown the step before."""
        if not self._method._made().looks_back:
            return
        self._unseen += 1
        if self._unseen == 2:
            _log.warning("%r learns from the losses after each step, and was not shown them: call "
                         "`balancer.look_back(before, after)` after `optimizer.step()`, with the losses of the same "
                         "batch", self._method)  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What the weighting has learned, and the history, without the gradients of a step that is not complete.

        It is for `torch.save`, and `torch.load(weights_only=True)` opens it: dicts, lists, numbers, strings and
        tensors. Which parameters are shared is no part of it; a first call after `load_state_dict` in which one task
        alone has a label knows that from `shared` only.
        """
        value, arrays = self._method._made().state()
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        state = {"weighting": self._method.describe(), "tasks": self._names, "state": value, "arrays": tensors}
        state["history"] = self._decided.state()
        if isinstance(self._method, OwnWeighting) and self._method.keeps_state:
            state["own"] = self._method.state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave.

        Raises:
            ValueError: it is of another weighting, or of other tasks.
        """
        if state.get("weighting") != self._method.describe():
            raise ValueError(f"`state` should be of {self._method!r}; got one of {state.get('weighting')}")
        tasks = state.get("tasks")
        if None not in (tasks, self._names) and tasks != self._names:
            raise ValueError(f"`state` should be of the tasks {listed(self._names)}; got one of {listed(tasks)}")
        arrays = {name: np.asarray(array) for name, array in state["arrays"].items()}
        self._method._made().restore(state["state"], arrays)
        if isinstance(self._method, OwnWeighting) and "own" in state:
            self._method.restore(state["own"])
        # Those of earlier versions have none.
        if "history" in state:
            self._decided.restore(state["history"])
        self._names = self._names if tasks is None else list(tasks)

    def _by_losses(self, given: Given, scale: float, epoch: int | None, keep: bool) -> None:
        if self._processes is None:
            values = given.values
            weights = self._weights_of(values, epoch, given.names)
            given.backward(weights if scale == 1.0 else weights * scale, keep)
        else:
            values, parts_here, _ = self._joined(given, [])
            weights = self._weights_of(values, epoch, given.names)
            at = given.roots()
            seeds = given.seeds(at, torch.from_numpy((weights * parts_here * scale)[given.present]))
            wanted = self._processes.parameters
            here = gradients.gradients_of([root.edge for root in at], seeds, wanted, keep)
            found = {id(leaf): x for leaf, x in zip(wanted, here, strict=True) if x is not None}
            _add(self._processes.gradients(found, []))
        self._remember(given.names, values, weights)

    def _weights_of(self, losses: np.ndarray, epoch: int | None, names: list[str] | None) -> np.ndarray:
        weights, _, _ = self._method._weigh({"losses": losses}, epoch, self._seed, names=names)
        assert weights is not None, "a weighting of losses has weights"
        return weights

    def _by_gradients(self, given: Given, scale: float, epoch: int | None, keep: bool) -> None:
        at = given.roots()
        found = parts([root.edge for root in at])
        if found.hidden and self._shared is None:
            raise ValueError("`shared`: the losses come out of one compiled graph, in which it is not seen what they "
                             "have in common: name the parameters, or compile that part by itself")  # fmt: skip
        self._found.update({id(leaf): leaf for leaf in found.shared})
        every = self._found.values() if self._shared is None else self._shared
        shared = [leaf for leaf in every if leaf.requires_grad]
        values, parts_here, shared = self._joined(given, shared)
        seeds = given.seeds(at, torch.from_numpy(parts_here[given.present] * scale))
        # One task alone parts from nobody: its gradient is looked at where parameters are shared.
        at_representation = getattr(self._method, "at", "shared") == "representation"
        if at_representation and self._processes is not None:
            raise ValueError('at="representation": it is for one process; with `ddp` gradients are at parameters')
        if at_representation and found.entries:
            sought = gradients.Sought(at, seeds, given.present, found, shared, found.own, keep)
            self._at_representation(given, sought, scale, epoch)
            return
        sought = gradients.Sought(at, seeds, given.present, found, shared, _others(found, shared), keep)
        rows = Rows(shared, len(given.values))
        owned = gradients.at_parameters(sought, rows)
        if self._processes is not None:
            rows = self._processes.rows(rows)
        kept = _Kept(values, rows, _by_leaf(sought, owned))
        if self._kept is not None:
            kept = self._kept.joined(kept)
        if kept.calls < self._accumulate:
            self._kept = kept
            return
        self._kept = None
        rows = kept.rows
        weights, pieces, factors, products = self._decide(kept.losses, rows, scale, epoch, given.names)
        for place, (leaf, piece) in enumerate(zip(rows.tensors, pieces, strict=True)):
            if weights is not None and place not in rows.reached:
                continue
            if leaf.grad is None:
                leaf.grad = piece
            else:
                leaf.grad.add_(piece)
        own = kept.weighed(factors)
        _add(own if self._processes is None else self._processes.gradients(_sums(own), rows.tensors))
        self._remember(given.names, kept.losses, weights, products)

    def _joined(self, given: Given, shared: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray, list[torch.Tensor]]:
        """Losses and shared parameters of all processes, and what part of each loss is of this one."""
        if self._processes is None:
            return given.values, np.ones(len(given.values)), shared
        values, parts_here, shared = self._processes.joined(given.values, given.counts, shared)
        if np.isnan(values).all():
            raise ValueError("`losses` should have at least one task with a label in some process; got none")
        return values, parts_here, shared

    def _at_representation(self, given: Given, sought: gradients.Sought, scale: float, epoch: int | None) -> None:
        if self._accumulate > 1:
            raise ValueError('`accumulate`: with at="representation" each call is a step; the graph before it is gone')
        if sought.parts.nested:
            raise ValueError('at="representation": the tasks part at several places, one of which lies behind another')
        several = {id(leaf) for leaf in sought.parts.shared}
        if self._shared is not None and several - {id(leaf) for leaf in sought.shared}:
            raise ValueError('`shared`: with at="representation" it is all parameters that several losses reach')
        entered = gradients.at_entries(sought)
        rows = Rows(entered.arrived[0], len(given.values))
        for task, arrived in zip(sought.tasks, entered.arrived, strict=True):
            rows.put(task, arrived)
        weights, pieces, factors, products = self._decide(given.values, rows, scale, epoch, given.names)
        torch.autograd.backward(entered.edges, pieces, retain_graph=sought.keep, inputs=sought.parts.shared)
        _add(_Kept(given.values, rows, _by_leaf(sought, entered.own)).weighed(factors))
        self._remember(given.names, given.values, weights, products)

    def _decide(
        self, losses: np.ndarray, rows: Rows, scale: float, epoch: int | None, names: list[str] | None
    ) -> tuple[np.ndarray | None, list[torch.Tensor], np.ndarray, np.ndarray | None]:
        """Weights, unless the direction is no weighted sum; what it is at the rows' tensors, times `scale`; factors on
        the tasks' own gradients; and the products of the rows, if anything is shared.
        """
        labelled = ~np.isnan(losses)
        ones = np.where(labelled, 1.0, 0.0)
        if not rows.tensors:
            # Nothing is shared, and what is a task's own keeps its gradient.
            return ones, [], ones, None
        gramian = rows.gramian() / scale**2
        if self._scaler is not None and not np.isfinite(gramian[np.ix_(labelled, labelled)]).all():
            # The scaler sees what is not finite, and leaves the step out.
            return ones, rows.combined(torch.from_numpy(ones)), ones, gramian
        given: dict[str, np.ndarray] = {"losses": losses}
        rounding = None
        if self._needs == "gramian":
            given["gramian"] = gramian
            rounding = cosine_rounding(rows.dtype, gramian)
        else:
            given["jacobian"] = rows.matrix() / scale
        weights, direction, factors = self._method._weigh(given, epoch, self._seed, rounding, names)
        self._products = gramian, labelled
        if weights is not None:
            return weights, rows.combined(torch.from_numpy(weights)), factors, gramian
        assert direction is not None, "a Jacobian gives a direction"
        return None, rows.directed(torch.from_numpy(direction * scale)), factors, gramian

    def _remember(
        self,
        names: list[str] | None,
        losses: np.ndarray,
        weights: np.ndarray | None,
        products: np.ndarray | None = None,
    ) -> None:
        self._look_whether_seen()
        self._decided.add(losses, weights, products)
        if weights is None:
            self.weights = None
        else:
            each = weights.tolist()
            self.weights = each if names is None else dict(zip(names, each, strict=True))


class _Kept:
    """Losses `[tasks]`, rows and the tasks' own gradients of the calls so far that make a step."""

    def __init__(self, losses: np.ndarray, rows: Rows, own: Own, calls: int = 1) -> None:
        self.losses = losses
        self.rows = rows
        self.own = own
        self.calls = calls

    def joined(self, other: _Kept) -> _Kept:
        """These and those of another call, in the other's memory."""
        if [id(leaf) for leaf in self.rows.tensors] != [id(leaf) for leaf in other.rows.tensors]:
            raise ValueError("`accumulate`: calls of one step should share the same parameters; name them by `shared`")
        other.rows.add(self.rows)
        own = dict(self.own)
        for key, (leaf, gradient) in other.own.items():
            own[key] = (leaf, own[key][1] + gradient if key in own else gradient)
        only = np.where(np.isnan(self.losses), other.losses, self.losses)
        losses = np.where(np.isnan(other.losses) | np.isnan(self.losses), only, self.losses + other.losses)
        return _Kept(losses, other.rows, own, self.calls + 1)

    def weighed(self, factors: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The tasks' own gradients by their factors."""
        return [(leaf, x if factors[task] == 1.0 else x * factors[task]) for (_, task), (leaf, x) in self.own.items()]


def _named(tasks: Iterable[str]) -> list[str]:
    if isinstance(tasks, str) or not isinstance(tasks, Iterable):
        raise TypeError(f"`tasks` should be a list of names; got {tasks!r}")
    names = list(tasks)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"`tasks` should be a list of names; got {wrong[0]!r} in it")
    if not names:
        raise ValueError("`tasks` should have at least one name; got none")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"`tasks` should be different names; got {twice[0]!r} twice")
    return names


def _leaves(shared: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    if isinstance(shared, torch.Tensor):
        raise TypeError("`shared` should be parameters, such as `backbone.parameters()`; got one tensor")
    leaves = list(shared)
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor):
            kind = type(leaf).__name__
            raise TypeError(f"`shared` should be parameters, such as `backbone.parameters()`; got {kind}")
        if not leaf.is_leaf:
            raise ValueError("`shared` should be parameters; got a tensor that was computed from others")
    if not leaves:
        raise ValueError("`shared` should be at least one parameter; got none: `parameters()` can be read once")
    # One place under two names is one parameter.
    return list({id(leaf): leaf for leaf in leaves}.values())


def _others(found: Parts, shared: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """What each task reaches beside the shared parameters."""
    named = {id(leaf) for leaf in shared}
    common = [leaf for leaf in found.shared if id(leaf) not in named]
    return [[*(leaf for leaf in own if id(leaf) not in named), *common] for own in found.own]


def _by_leaf(sought: gradients.Sought, owned: Sequence[gradients.Gradients]) -> Own:
    """The tasks' own gradients, by parameter and task."""
    found = {}
    for task, own, of_task in zip(sought.tasks, sought.own, owned, strict=True):
        for leaf, gradient in zip(own, of_task, strict=True):
            if gradient is not None:
                found[id(leaf), task] = (leaf, gradient)
    return found


def _sums(found: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> dict[int, torch.Tensor]:
    """Gradients by their parameter's `id`, added up."""
    sums: dict[int, torch.Tensor] = {}
    for leaf, gradient in found:
        sums[id(leaf)] = sums[id(leaf)] + gradient if id(leaf) in sums else gradient
    return sums


@torch.no_grad()
def _add(found: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Adds gradients to those that the parameters have."""
    for leaf, gradient in found:
        if leaf.grad is not None:
            leaf.grad.add_(gradient)
        elif gradient.is_sparse:
            leaf.grad = gradient.clone()
        else:
            # A copy: what autograd gives may be somebody's memory, the same for several, or stretched.
            leaf.grad = torch.empty_like(leaf).copy_(gradient)
