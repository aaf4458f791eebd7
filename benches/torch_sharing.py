"""Every sharing scheme as an ordinary PyTorch module, written from its paper the way people write it.

Parameters have the names and shapes of `pt.MultiTaskModel.state_dict()`, so that one loads into the other. The
tests compare both; the benchmark of schemes trains both.

    network = build("MMoE", tasks={"a": 1, "b": 1}, numeric=10, encoder=MLP([16]), tower=[8], experts=8)
    outputs = network(x)                 # raw outputs, a tensor a task

`DSelectK` and `AITM` give `(outputs, term)`: their papers add a term to the objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {
    None: nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that does not count batches."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *state: object) -> None:
        # That of nn.BatchNorm1d expects the count in every state without a version.
        nn.Module._load_from_state_dict(self, *state)


class Layer(nn.Linear):
    """Linear, normalisation, activation, dropout."""

    def __init__(
        self, inputs: int, width: int, activation: str | None = "relu", norm: str | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__(inputs, width)
        self.norm = {"layer": nn.LayerNorm, "batch": BatchNorm}[norm](width) if norm else None
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.norm is not None:
            y = self.norm(y)
        y = self.activation(y)
        return y if self.dropout is None else self.dropout(y)


class Residual(Layer):
    """A layer that adds its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


@dataclass
class MLP:
    """A multi-layer perceptron: what every encoder, expert or block of a scheme is."""

    hidden: Sequence[int]
    activation: str | None = "relu"
    norm: str | None = None
    dropout: float = 0.0
    residual: bool = False

    def make(self, inputs: int, stages: range | None = None) -> nn.ModuleDict:
        """Its layers, or some of them, by number."""
        widths, layers = [inputs, *self.hidden], nn.ModuleDict()
        for stage in stages or range(len(self.hidden)):
            into, width = widths[stage : stage + 2]
            kind = Residual if self.residual and into == width else Layer
            layers[str(stage)] = kind(into, width, self.activation, self.norm, self.dropout)
        return layers


def run(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    """The layers in turn."""
    for layer in layers.values():
        x = layer(x)
    return x


@dataclass
class Design:
    """What surrounds a scheme: tasks with their numbers of outputs, features, encoder, towers."""

    tasks: dict[str, int]
    numeric: int
    encoder: MLP
    tower: Sequence[int] = ()
    tower_activation: str | None = "relu"
    tables: Sequence[tuple[int, int]] = ()
    inputs: int = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = self.numeric + sum(width for _, width in self.tables)
        self.width = self.encoder.hidden[-1] if self.encoder.hidden else self.inputs

    def network(self) -> nn.ModuleDict:
        """An encoder."""
        return self.encoder.make(self.inputs)

    def networks(self, count: int) -> nn.ModuleList:
        """So many encoders."""
        return nn.ModuleList(self.network() for _ in range(count))

    def each(self, make: object) -> nn.ModuleDict:
        """A module a task."""
        return nn.ModuleDict({task: make() for task in self.tasks})

    def head(self, outputs: int) -> nn.Module:
        """A linear layer, or a tower that ends in one."""
        widths = [self.width, *self.tower]
        last = nn.Linear(widths[-1], outputs)
        if not self.tower:
            return last
        hidden = [Layer(into, width, self.tower_activation) for into, width in zip(widths, self.tower, strict=False)]
        return nn.Sequential(*hidden, last)


class Network(nn.Module):
    """Embeddings, then what a scheme makes of the features, then a head a task."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.tasks = list(design.tasks)
        self.embedding = nn.ModuleList(nn.Embedding(*table) for table in design.tables)
        self.heads = nn.ModuleDict({task: design.head(outputs) for task, outputs in design.tasks.items()})

    def read(self, numeric: Tensor | None, codes: Tensor | None) -> Tensor:
        """Numbers and embeddings side by side."""
        parts = [] if numeric is None else [numeric]
        parts += [table(codes[:, j]) for j, table in enumerate(self.embedding)]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def represent(self, x: Tensor) -> list[Tensor]:
        """The features of each task's head."""
        raise NotImplementedError

    def forward(self, numeric: Tensor | None, codes: Tensor | None = None) -> list[Tensor]:
        features = self.represent(self.read(numeric, codes))
        return [head(z) for head, z in zip(self.heads.values(), features, strict=True)]


class Hard(Network):
    """Caruana, ICML 1993: one encoder for all tasks."""

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.encoder = design.network()

    def represent(self, x: Tensor) -> list[Tensor]:
        return [run(self.encoder, x)] * len(self.tasks)


class Soft(Network):
    """Duong et al., ACL 2015: an encoder a task, from the same start."""

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.encoders = design.each(design.network)
        for encoder in list(self.encoders.values())[1:]:
            encoder.load_state_dict(self.encoders[self.tasks[0]].state_dict())

    def represent(self, x: Tensor) -> list[Tensor]:
        return [run(encoder, x) for encoder in self.encoders.values()]


def near_identity(count: int, own: float) -> Tensor:
    """A square mix that keeps `own` of each and takes the rest from the others."""
    if count == 1:
        return torch.ones(1, 1)
    return torch.full((count, count), (1 - own) / (count - 1)).fill_diagonal_(own)


class Weights(nn.Module):
    """Learned numbers."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.clone())


class CrossStitch(Network):
    """Misra et al., CVPR 2016: a learned mix of the tasks' features after each layer."""

    def __init__(self, design: Design, start: float = 0.9) -> None:
        super().__init__(design)
        self.encoders = design.each(design.network)
        alpha = near_identity(len(self.tasks), start)
        self.stitches = nn.ModuleList(
            nn.ModuleDict({task: Weights(row) for task, row in zip(self.tasks, alpha, strict=True)})
            for _ in design.encoder.hidden
        )

    def represent(self, x: Tensor) -> list[Tensor]:
        xs = [x] * len(self.tasks)
        for stage, stitches in enumerate(self.stitches):
            layers = [encoder[str(stage)] for encoder in self.encoders.values()]
            stacked = torch.stack([layer(x) for layer, x in zip(layers, xs, strict=True)])
            xs = [torch.einsum("s,srw->rw", stitch.weight, stacked) for stitch in stitches.values()]
        return xs


class Sluice(Network):
    """Ruder et al., AAAI 2019: subspaces of each layer are mixed across tasks, then a task's layers."""

    def __init__(self, design: Design, subspaces: int = 2, start: float = 0.9) -> None:
        super().__init__(design)
        self.encoders = design.each(design.network)
        self.subspaces = subspaces
        stages, tasks = len(design.encoder.hidden), len(self.tasks)
        alpha = near_identity(tasks * subspaces, start).reshape(tasks, subspaces, -1)
        self.stitches = nn.ModuleList(
            nn.ModuleDict(
                {task: Weights(a[0] if subspaces == 1 else a) for task, a in zip(self.tasks, alpha, strict=True)}
            )
            for _ in range(stages)
        )
        self.layers = nn.ModuleDict()
        if stages > 1:
            beta = near_identity(stages, start)[-1]
            self.layers = nn.ModuleDict({task: Weights(beta) for task in self.tasks})

    def represent(self, x: Tensor) -> list[Tensor]:
        xs, layers = [x] * len(self.tasks), []
        for stage, stitches in enumerate(self.stitches):
            ys = [encoder[str(stage)](x) for encoder, x in zip(self.encoders.values(), xs, strict=True)]
            parts = torch.stack([part for y in ys for part in y.chunk(self.subspaces, dim=1)])
            xs = [self.mix(stitch.weight, parts) for stitch in stitches.values()]
            layers.append(torch.stack(xs))
        if not self.layers:
            return xs
        ofs = torch.stack(layers).unbind(dim=1)
        return [torch.einsum("l,lrw->rw", beta.weight, of) for beta, of in zip(self.layers.values(), ofs, strict=True)]

    def mix(self, alpha: Tensor, parts: Tensor) -> Tensor:
        """A task's subspaces, from all."""
        mixed = torch.einsum("ks,srw->krw", alpha.reshape(self.subspaces, -1), parts)
        return torch.cat(list(mixed), dim=1)


class NDDR(Network):
    """Gao et al., CVPR 2019: all tasks' features side by side, brought back to a task's width."""

    def __init__(self, design: Design, start: float = 0.9, norm: bool = True, activation: str | None = "relu") -> None:
        super().__init__(design)
        self.encoders = design.each(design.network)
        tasks, alpha = len(self.tasks), near_identity(len(self.tasks), start)
        self.fusions = nn.ModuleList(
            design.each(lambda width=width: Layer(tasks * width, width, activation, "batch" if norm else None))
            for width in design.encoder.hidden
        )
        with torch.no_grad():
            for width, fusions in zip(design.encoder.hidden, self.fusions, strict=True):
                for fusion, row in zip(fusions.values(), alpha, strict=True):
                    fusion.weight.copy_(torch.cat([a * torch.eye(width) for a in row], dim=1))
                    fusion.bias.zero_()

    def represent(self, x: Tensor) -> list[Tensor]:
        xs = [x] * len(self.tasks)
        for stage, fusions in enumerate(self.fusions):
            ys = [encoder[str(stage)](x) for encoder, x in zip(self.encoders.values(), xs, strict=True)]
            together = torch.cat(ys, dim=1)
            xs = [fusion(together) for fusion in fusions.values()]
        return xs


def weighed(gate: Tensor, experts: Tensor) -> Tensor:
    """Experts `[rows, experts, width]` weighed by a gate `[rows, experts]`, in the fastest of the usual ways."""
    return (gate.unsqueeze(2) * experts).sum(dim=1)


class MMoE(Network):
    """Ma et al., KDD 2018: experts that all tasks share, weighed by a gate a task."""

    def __init__(self, design: Design, experts: int = 8) -> None:
        super().__init__(design)
        self.experts = design.networks(experts)
        self.gates = design.each(lambda: nn.Linear(design.inputs, experts))

    def represent(self, x: Tensor) -> list[Tensor]:
        experts = torch.stack([run(expert, x) for expert in self.experts], dim=1)
        return [weighed(torch.softmax(gate(x), dim=1), experts) for gate in self.gates.values()]


class OMoE(Network):
    """Ma et al., KDD 2018, section 4.1: experts weighed by one gate for all tasks."""

    def __init__(self, design: Design, experts: int = 8) -> None:
        super().__init__(design)
        self.experts = design.networks(experts)
        self.gate = nn.Linear(design.inputs, experts)

    def represent(self, x: Tensor) -> list[Tensor]:
        experts = torch.stack([run(expert, x) for expert in self.experts], dim=1)
        return [weighed(torch.softmax(self.gate(x), dim=1), experts)] * len(self.tasks)


class CGC(Network):
    """Tang et al., RecSys 2020: a task's gate weighs its own experts and those that all share."""

    def __init__(self, design: Design, shared_experts: int = 2, task_experts: int = 2) -> None:
        super().__init__(design)
        self.task_experts = design.each(lambda: design.networks(task_experts))
        self.shared_experts = design.networks(shared_experts)
        self.gates = design.each(lambda: nn.Linear(design.inputs, task_experts + shared_experts))

    def represent(self, x: Tensor) -> list[Tensor]:
        shared = [run(expert, x) for expert in self.shared_experts]
        features = []
        for task in self.tasks:
            own = [run(expert, x) for expert in self.task_experts[task]]
            gate = torch.softmax(self.gates[task](x), dim=1)
            features.append(weighed(gate, torch.stack(own + shared, dim=1)))
        return features


class Level(nn.Module):
    """One level of progressive layered extraction: some of the encoder's layers."""

    def __init__(self, design: Design, stages: range, shared_experts: int, task_experts: int, last: bool) -> None:
        super().__init__()
        into = [design.inputs, *design.encoder.hidden][stages.start]

        def experts(count: int) -> nn.ModuleList:
            return nn.ModuleList(design.encoder.make(design.inputs, stages) for _ in range(count))

        self.task_experts = design.each(lambda: experts(task_experts))
        self.shared_experts = experts(shared_experts)
        self.gates = design.each(lambda: nn.Linear(into, task_experts + shared_experts))
        all_experts = len(design.tasks) * task_experts + shared_experts
        self.shared_gate = None if last else nn.Linear(into, all_experts)

    def forward(self, xs: list[Tensor], common: Tensor) -> tuple[list[Tensor], Tensor]:
        shared = [run(expert, common) for expert in self.shared_experts]
        everyone, features = [], []
        for x, experts, gate in zip(xs, self.task_experts.values(), self.gates.values(), strict=True):
            own = [run(expert, x) for expert in experts]
            everyone += own
            features.append(weighed(torch.softmax(gate(x), dim=1), torch.stack(own + shared, dim=1)))
        if self.shared_gate is None:
            return features, common
        gate = torch.softmax(self.shared_gate(common), dim=1)
        return features, weighed(gate, torch.stack(everyone + shared, dim=1))


class PLE(Network):
    """Tang et al., RecSys 2020: levels of customized gate control."""

    def __init__(
        self, design: Design, shared_experts: int = 2, task_experts: int = 2, levels: int | None = None
    ) -> None:
        super().__init__(design)
        stages = len(design.encoder.hidden)
        count = levels or max(stages, 1)
        parts = [range(level * stages // count, (level + 1) * stages // count) for level in range(count)]
        self.levels = nn.ModuleList(
            Level(design, part, shared_experts, task_experts, last=part.stop == stages) for part in parts
        )

    def represent(self, x: Tensor) -> list[Tensor]:
        xs, common = [x] * len(self.tasks), x
        for level in self.levels:
            xs, common = level(xs, common)
        return xs


class Selector(nn.Module):
    """A gate that selects at most `k` experts: bits of a binary number, through a smooth step, for each selection."""

    def __init__(self, inputs: int, experts: int, k: int, gamma: float) -> None:
        super().__init__()
        count = math.ceil(math.log2(experts))
        self.k, self.gamma = k, gamma
        self.bits = nn.Linear(inputs, k * count)
        self.mix = nn.Linear(inputs, k)
        codes = torch.tensor([[bool(code >> bit & 1) for bit in range(count)] for code in range(experts)])
        self.register_buffer("codes", codes, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gate `[rows, experts]`, and each selection by itself `[rows, k, experts]`."""
        z = self.bits(x).reshape(len(x), self.k, 1, -1)
        smooth = -2 * (z / self.gamma) ** 3 + 1.5 * z / self.gamma + 0.5
        step = torch.where(z <= -self.gamma / 2, 0.0, torch.where(z >= self.gamma / 2, 1.0, smooth))
        selected = torch.where(self.codes, step, 1 - step).prod(dim=3)
        share = torch.softmax(self.mix(x), dim=1)
        return weighed(share, selected), selected

    def spare(self, selected: Tensor) -> Tensor:
        """What keeps selections from codes of no expert: `1 / t - 1`, and its tangent below `t = 0.1`."""
        t = selected.sum(dim=2)
        return torch.where(t < 0.1, 9 - 100 * (t - 0.1), 1 / t.clamp(min=0.1) - 1).sum(dim=1).mean()


class DSelectK(Network):
    """Hazimeh et al., NeurIPS 2021: sparse gates that can be differentiated, with an entropy term."""

    def __init__(self, design: Design, experts: int = 8, k: int = 2, gamma: float = 1.0, entropy: float = 1e-3) -> None:
        super().__init__(design)
        self.entropy = entropy
        self.experts = design.networks(experts)
        self.gates = design.each(lambda: Selector(design.inputs, experts, k, gamma))

    def forward(self, numeric: Tensor | None, codes: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        x = self.read(numeric, codes)
        experts = torch.stack([run(expert, x) for expert in self.experts], dim=1)
        outputs, term = [], x.new_zeros(())
        for gate, head in zip(self.gates.values(), self.heads.values(), strict=True):
            weights, selected = gate(x)
            outputs.append(head(weighed(weights, experts)))
            entropy = -(selected * torch.log(selected + 1e-6)).sum(dim=(1, 2)).mean()
            term = term + self.entropy * entropy
            if len(self.experts) & len(self.experts) - 1:
                term = term + gate.spare(selected)
        return outputs, term


class Choice(nn.Module):
    """A parent in the layer before: a sample while training, the likeliest in evaluation."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(branches))

    def forward(self, parents: Tensor, temperature: float) -> Tensor:
        if self.training:
            chosen = F.gumbel_softmax(self.weight, tau=temperature, dim=0)
        else:
            chosen = F.one_hot(self.weight.argmax(), len(self.weight)).to(parents.dtype)
        return torch.einsum("b,brw->rw", chosen, parents)


class LTB(Network):
    """Guo et al., ICML 2020: blocks and tasks learn their parent in the layer before."""

    def __init__(
        self,
        design: Design,
        branches: int | None = None,
        temperature: float = 5.0,
        decay: float = 0.999,
        lowest: float = 0.2,
    ) -> None:
        super().__init__(design)
        count = branches or len(self.tasks)
        self.temperature, self.decay, self.lowest, self.steps = temperature, decay, lowest, 0
        self.blocks = design.networks(count)
        self.branching = nn.ModuleDict(
            {
                str(stage): nn.ModuleList(Choice(count) for _ in range(count))
                for stage in range(1, len(design.encoder.hidden))
            }
        )
        self.branching.update({task: Choice(count) for task in self.tasks})

    def represent(self, x: Tensor) -> list[Tensor]:
        heat = max(self.temperature * self.decay**self.steps, self.lowest)
        self.steps += self.training
        xs = [x] * len(self.blocks)
        parents = torch.stack(xs)
        for stage in self.blocks[0]:
            if stage != "0":
                xs = [choice(parents, heat) for choice in self.branching[stage]]
            parents = torch.stack([block[stage](x) for block, x in zip(self.blocks, xs, strict=True)])
        return [self.branching[task](parents, heat) for task in self.tasks]


class Branched(Network):
    """Tasks share prefixes of the network, as given (compare Vandenhende et al., BMVC 2020)."""

    def __init__(self, design: Design, branches: Sequence[Sequence[Sequence[str]]] = ()) -> None:
        super().__init__(design)
        self.encoders = nn.ModuleDict()
        self.plan: list[dict[str, nn.Module]] = []
        for stage in range(len(design.encoder.hidden)):
            layer = branches[min(stage, len(branches) - 1)] if branches else [self.tasks]
            self.plan.append({})
            for branch in layer:
                module = design.encoder.make(design.inputs, range(stage, stage + 1))[str(stage)]
                self.place(branch)[str(stage)] = module
                self.plan[-1].update(dict.fromkeys(branch, module))

    def place(self, branch: Sequence[str]) -> nn.ModuleDict:
        """Where the layers of a branch are kept."""
        if len(branch) == len(self.tasks):
            if not hasattr(self, "encoder"):
                self.encoder = nn.ModuleDict()
            return self.encoder
        name = "+".join(sorted(branch, key=self.tasks.index))
        if name not in self.encoders:
            self.encoders[name] = nn.ModuleDict()
        return self.encoders[name]

    def represent(self, x: Tensor) -> list[Tensor]:
        xs = dict.fromkeys(self.tasks, x)
        for modules in self.plan:
            done: dict[nn.Module, Tensor] = {}
            for task, module in modules.items():
                if module not in done:
                    done[module] = module(xs[task])
            xs = {task: done[module] for task, module in modules.items()}
        return [xs[task] for task in self.tasks]


class ESMM(Network):
    """Ma et al., SIGIR 2018: each step's probability is that of the step before times its own."""

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.encoders = design.each(design.network)

    def forward(self, numeric: Tensor | None, codes: Tensor | None = None) -> list[Tensor]:
        x = self.read(numeric, codes)
        outputs, so_far = [], 0.0
        for encoder, head in zip(self.encoders.values(), self.heads.values(), strict=True):
            so_far = so_far + F.logsigmoid(head(run(encoder, x)))
            outputs.append(so_far - torch.log(-torch.expm1(so_far)))
        return outputs


class Attention(nn.Module):
    """Attention of a step over what was transferred to it and what it knows itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, p: Tensor, q: Tensor) -> Tensor:
        u = torch.stack([p, q], dim=1)
        scores = (self.query(u) * self.key(u)).sum(dim=2) / math.sqrt(u.shape[2])
        return weighed(torch.softmax(scores, dim=1), self.value(u))


class AITM(Network):
    """Xi et al., KDD 2021: what a step knows is transferred to the next, with a calibration term."""

    def __init__(self, design: Design, calibration: float = 0.6) -> None:
        super().__init__(design)
        self.calibration = calibration
        self.encoders = design.each(design.network)
        later = self.tasks[1:]
        self.transfer = nn.ModuleDict({task: Layer(design.width, design.width) for task in later})
        self.attention = nn.ModuleDict({task: Attention(design.width) for task in later})

    def forward(self, numeric: Tensor | None, codes: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        x = self.read(numeric, codes)
        own = {task: run(encoder, x) for task, encoder in self.encoders.items()}
        z = own[self.tasks[0]]
        outputs, term = [self.heads[self.tasks[0]](z)], x.new_zeros(())
        for task in self.tasks[1:]:
            z = self.attention[task](self.transfer[task](z), own[task])
            outputs.append(self.heads[task](z))
            rise = torch.sigmoid(outputs[-1]) - torch.sigmoid(outputs[-2])
            term = term + self.calibration * torch.relu(rise).mean()
        return outputs, term


SCHEMES = {
    scheme.__name__: scheme
    for scheme in (
        Hard, Soft, CrossStitch, Sluice, NDDR, MMoE, OMoE, CGC, PLE, DSelectK, LTB, Branched, ESMM, AITM
    )
}  # fmt: skip


def build(
    scheme: str,
    *,
    tasks: dict[str, int],
    numeric: int,
    encoder: MLP,
    tower: Sequence[int] = (),
    tower_activation: str | None = "relu",
    tables: Sequence[tuple[int, int]] = (),
    **settings: object,
) -> nn.Module:
    """A network with this scheme.

    Arguments:
        scheme: one of `SCHEMES`.
        tasks: raw outputs of each task.
        numeric: numeric features.
        encoder: what encoders, experts and blocks look like.
        tower: hidden widths of the heads; none for linear ones.
        tower_activation: what follows each of those.
        tables: categories and width of each embedding.
        settings: the scheme's own, as `pt.sharing` calls them.
    """
    design = Design(tasks, numeric, encoder, tower, tower_activation, tables)
    return SCHEMES[scheme](design, **settings)
