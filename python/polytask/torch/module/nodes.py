"""Translations of the core's nodes, one function a kind: each does what the node's formula says, group by group."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import members, pairs, positions
from .activations import ACTIVATIONS
from .layers import BatchNorm, Choice, Marginals, Pick, PiecewiseLinear, Rows
from .values import Building, Group, Node, Translation, Value


def _above(name: str) -> str:
    """The path of a layer, from that of a parameter of its."""
    return name.rpartition(".")[0]


def _linear(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    activation = ACTIVATIONS[node.attributes["activation"]]
    layers = []
    weights = at.pieces(node, 0)
    biases = at.pieces(node, 1) if node.attributes["bias"] else [None] * len(weights)
    for weight, bias in zip(weights, biases, strict=True):
        outer, inner = weight["shape"]
        layer = nn.Linear(inner, outer, bias=bias is not None, device="meta")
        layer.weight = at.source(weight["name"])
        if bias is not None:
            layer.bias = at.source(bias["name"])
        layers.append((outer, at.layer(_above(weight["name"]), layer)))
    if node.attributes["tied"]:
        ((width, layer_of_all),) = layers
        return Value.of([activation(layer_of_all(group)) for group in x.wholes], width)
    each = node.attributes["layers"]
    if len(layers) > each * len(x.groups):
        # Heads of several widths over one value: a part each of one group.
        return Value([Group([(width, activation(layer(x.groups[0].whole))) for width, layer in layers])])
    results = [activation(layer(x.groups[i // each].whole)) for i, (_, layer) in enumerate(layers)]
    return Value.of(results, layers[0][0])


def _activation(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    return Value.of([ACTIVATIONS[node.attributes["activation"]](group) for group in x.wholes], x.width)


def _softmax(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    return Value.of([group.softmax(1) for group in x.wholes], x.width)


def _dropout(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    layer = at.layer(f"dropout.{node.index}", nn.Dropout(node.attributes["rate"]))
    return Value.of([layer(group) for group in x.wholes], x.width)


def _layer_norm(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    groups = []
    for group, scale, shift in zip(x.wholes, at.pieces(node, 0), at.pieces(node, 1), strict=True):
        layer = nn.LayerNorm(x.width, node.attributes["eps"], device="meta")
        layer.weight = at.source(scale["name"])
        layer.bias = at.source(shift["name"])
        groups.append(at.layer(_above(scale["name"]), layer)(group))
    return Value.of(groups, x.width)


def _batch_norm(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    groups = []
    for g, (group, scale, shift) in enumerate(zip(x.wholes, at.pieces(node, 0), at.pieces(node, 1), strict=True)):
        kept = [at.statistics(node.attributes[each] + g * x.width) for each in ("mean", "variance")]
        tensors = [at.source(scale["name"]), at.source(shift["name"])]
        statistics = [at.source(each["name"]) for each in kept]
        frozen = any(each["frozen"] for each in kept)
        layer = BatchNorm(tensors, statistics, node.attributes["eps"], node.attributes["momentum"], frozen)
        groups.append(at.layer(_above(scale["name"]), layer)(group))
    return Value.of(groups, x.width)


def _embedding(node: Node, at: Building) -> Value:
    (numeric,) = at.inputs(node)
    codes = at.codes(node)
    parts = list(numeric.groups[0].parts)
    for k, feature in enumerate(node.attributes["features"]):
        first = feature["first"]
        (entry,) = at.pieces(node, k)
        categories, width = entry["shape"]
        layer = nn.Embedding(categories, width, device="meta")
        layer.weight = at.source(entry["name"])
        look_up = at.layer(_above(entry["name"]), layer)
        if feature["combine"] is None:
            parts.append((width, look_up(codes[:, first])))
        else:
            of_bag = codes[:, first : first + feature["columns"]]
            there = of_bag >= 0
            mask = there.unsqueeze(2)
            total = (look_up(of_bag.clamp(min=0)) * mask).sum(1)
            if feature["combine"] == "mean":
                total = total / mask.sum(1).clamp(min=1)
            parts.append((width, total))
    return Value.of([Group(parts).whole], sum(width for width, _ in parts))


def _char_cnn(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    (table,), (weight,), (bias,) = (at.pieces(node, k) for k in range(3))
    start, stop = node.attributes["columns"]
    codes = at.codes(node)[:, start:stop]
    there = codes >= 0
    characters, embedding = table["shape"]
    layer = nn.Embedding(characters, embedding, device="meta")
    layer.weight = at.source(table["name"])
    embedded = at.layer(_above(table["name"]), layer)(codes.clamp(min=0)).masked_fill(~there.unsqueeze(2), 0)
    width, filters, _ = weight["shape"]
    kernel = at.parameter(weight).permute(1, 2, 0)
    each = functional.conv1d(embedded.transpose(1, 2), kernel, at.parameter(bias), padding=width // 2)
    largest = each.masked_fill(~there.unsqueeze(1), -torch.inf).amax(2)
    largest = largest.masked_fill(~there.any(1, keepdim=True), 0)
    bent = ACTIVATIONS[node.attributes["activation"]](largest)
    return Value.of([torch.cat([x.groups[0].whole, bent], 1)], x.width + filters)


def _piecewise(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    ((weight,), *others) = (at.pieces(node, k) for k in range(len(node.params)))
    tensors = [at.source(each["name"]) for each in (weight, *(of for (of,) in others))]
    edges = at.source(at.statistics(node.attributes["edges"])["name"])
    layer = at.layer(_above(weight["name"]), PiecewiseLinear(tensors, edges, node.attributes["relu"]))
    features, _, width = weight["shape"]
    return Value.of([layer(x.groups[0].whole)], features * width)


def _periodic(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    (frequencies,) = at.pieces(node, 0)
    features, count = frequencies["shape"]
    angles = 2 * math.pi * (x.groups[0].whole.unsqueeze(2) * at.parameter(frequencies))
    waves = torch.cat([angles.cos(), angles.sin()], 2)
    return Value.of([waves[:, f] for f in range(features)], 2 * count)


def _concat(node: Node, at: Building) -> Value:
    inputs = at.inputs(node)
    joined = [torch.cat(list(groups), 1) for groups in zip(*(x.wholes for x in inputs), strict=True)]
    return Value.of(joined, sum(x.width for x in inputs))


def _add(node: Node, at: Building) -> Value:
    inputs = at.inputs(node)
    sums = [sum(groups[1:], groups[0]) for groups in zip(*(x.wholes for x in inputs), strict=True)]
    return Value.of(sums, inputs[0].width)


def _product(node: Node, at: Building) -> Value:
    a, b, *more = at.inputs(node)
    products = [x * y for x, y in zip(a.wholes, b.wholes, strict=True)]
    for c in more:
        products = [product + z for product, z in zip(products, c.wholes, strict=True)]
    return Value.of(products, a.width)


def _select(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    start, stop = node.attributes["columns"]
    return Value.of([x.groups[node.attributes["group"]].columns(start, stop)], stop - start)


def _gather(node: Node, at: Building) -> Value:
    inputs = at.inputs(node)
    return Value([inputs[k].groups[group] for k, group in node.attributes["picks"]])


def _join(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    return Value.of([torch.cat(x.wholes, 1)], x.width * len(x.groups))


def _mixture(node: Node, at: Building) -> Value:
    gates, *sources = at.inputs(node)
    mixed = []
    for g, gate in enumerate(gates.wholes):
        first = 0
        parts = []
        for experts, common in zip(sources, node.attributes["common"], strict=True):
            count = len(experts.groups) if common else len(experts.groups) // len(gates.groups)
            own = experts if common else Value(experts.groups[g * count : (g + 1) * count])
            weights = gate[:, first : first + count] if len(sources) > 1 else gate
            parts.append((weights.unsqueeze(1) @ own.stacked(1)).squeeze(1))
            first += count
        mixed.append(sum(parts[1:], parts[0]))
    return Value.of(mixed, sources[0].width)


def _stitch(node: Node, at: Building) -> Value:
    inputs = at.inputs(node)
    parts = node.attributes["parts"]
    pieces = at.pieces(node, 0)
    mixes = [at.parameter(piece) for piece in pieces]
    if node.attributes["sampled"]:
        temperature, decay, lowest = node.attributes["sampled"]
        choice = at.layer(f"choice.{node.index}", Choice(temperature, decay, lowest, at.device))
        chosen = choice(torch.stack(mixes))
        mixes = [chosen[i] for i in range(len(mixes))]
    if node.attributes["across"]:
        # `[groups * parts, rows, width of a part]`
        sources = inputs[0].stacked(0)
        if parts > 1:
            sources = torch.unflatten(sources, 2, (parts, -1)).transpose(1, 2).flatten(0, 1)
        mixed = [torch.tensordot(mix, sources, 1) for mix in mixes]
        results = [each.transpose(0, 1).flatten(1) for each in mixed] if parts > 1 else mixed
        return Value.of(results, inputs[0].width)
    results = []
    for g, mix in enumerate(mixes):
        sources = torch.stack([x.groups[g].whole for x in inputs], 2)
        if parts == 1:
            results.append(sources @ mix)
        else:
            of_parts = torch.unflatten(sources, 1, (parts, -1))
            results.append((of_parts @ mix.unsqueeze(-1)).squeeze(-1).flatten(1))
    return Value.of(results, inputs[0].width)


def _dot(node: Node, at: Building) -> Value:
    a, b = at.inputs(node)
    scale = node.attributes["scale"]
    return Value.of([(x * y).sum(1, keepdim=True) * scale for x, y in zip(a.wholes, b.wholes, strict=True)], 1)


def _funnel(node: Node, at: Building) -> Value:
    """`a + b - ln(1 + e^a + e^b)`"""
    a, b = at.inputs(node)

    def both(x: Tensor, y: Tensor) -> Tensor:
        any_of = torch.stack([torch.zeros_like(x), x, y])
        return x + y - any_of.logsumexp(0)

    return Value.of([both(x, y) for x, y in zip(a.wholes, b.wholes, strict=True)], 1)


def _calibrate(node: Node, at: Building) -> Value:
    b, a = at.inputs(node)
    if at.wants_terms:
        for later, earlier in zip(b.wholes, a.wholes, strict=True):
            excess = torch.relu(later.sigmoid() - earlier.sigmoid())
            at.term(node.terms[0], _mean(node, at, excess.sum(1)) * node.attributes["strength"])
    return b


def _selectors(node: Node, at: Building) -> Value:
    z, w = at.inputs(node)
    given = node.attributes
    gates = []
    for bits, weights in zip(z.wholes, w.wholes, strict=True):
        t = (bits / given["gamma"]).clamp(-0.5, 0.5)
        t = torch.unflatten(t, 1, (given["selectors"], given["bits"]))
        # From each end by itself, so that small weights keep their digits.
        steps = torch.stack([_smooth(0.5 - t), _smooth(0.5 + t)], -1)
        chosen = steps[:, :, 0]
        for bit in range(1, given["bits"]):
            chosen = (steps[:, :, bit].unsqueeze(-1) * chosen.unsqueeze(-2)).flatten(-2)
        if given["spare"]:
            chosen = chosen[..., : given["experts"]]
        gates.append((weights.softmax(1).unsqueeze(1) @ chosen).squeeze(1))
        if at.wants_terms:
            _selectors_terms(node, at, chosen)
    return Value.of(gates, given["experts"])


def _smooth(v: Tensor) -> Tensor:
    return v.square() * (3 - 2 * v)


def _selectors_terms(node: Node, at: Building, chosen: Tensor) -> None:
    given = node.attributes
    if given["entropy"] > 0:
        entropy = -(chosen * (chosen + given["epsilon"]).log()).sum((1, 2))
        at.term("entropy", _mean(node, at, entropy) * given["entropy"])
    if given["spare"]:
        reached = chosen.sum(2)
        held = reached.clamp(min=given["few"])
        # Below `few` along the tangent.
        slope = -held.detach().square().reciprocal()
        at.term("spare_codes", _mean(node, at, (held.reciprocal() - 1 + slope * (reached - held)).sum(1)))


def _mean(node: Node, at: Building, of_rows: Tensor) -> Tensor:
    """The mean over rows, or over positions, of which there may be none."""
    axis = at.axis(node.output)
    return of_rows.mean() if axis == 0 else of_rows.sum() / at.lengths(axis).sum().clamp(min=1)


def _chain(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    if node.attributes["given"]:
        # What a loss judges, by labels that a module is not given: nobody reads it.
        return x
    pieces = at.pieces(node, 0)
    layer = at.layer(_above(pieces[0]["name"]), Marginals([at.source(each["name"]) for each in pieces]))
    return Value.of([layer(x.wholes[0], at.lengths(at.axis(node.output)))], x.width)


def _list(node: Node, at: Building) -> Value:
    # What a loss judges, by labels that a module is not given: nobody reads it.
    (x,) = at.inputs(node)
    return x


def _module(node: Node, at: Building) -> Value:
    (x,) = at.inputs(node)
    own = at.own[node.attributes["path"]]
    layer = _picking(at.layer(node.attributes["path"], own.module), own, node, at)
    given = x.groups[0].whole if at.alone(node) else x.groups[0].whole.clone()
    axis = at.axis(node.output)
    if axis == 0 and own.given is not None:
        inputs = at.layer(f"inputs.{node.index}", own.given.split)(given)
        if own.given.names is None:
            return Value.of([layer(*(inputs[k] for k in range(len(own.given.split))))], own.width)
        named: dict[str, Any] = {name: inputs[k] for k, name in enumerate(own.given.names)}
        return Value.of([layer(named) if own.given.together else layer(**named)], own.width)
    if axis == 0:
        return Value.of([layer(given)], own.width)
    rows = at.layer(f"rows.{node.index}", Rows())
    return Value.of([positions.by_rows(rows, layer, given, at.lengths(axis), own.masked)], own.width)


def _picking(layer: Callable[..., Any], own: Any, node: Node, at: Building) -> Callable[..., Any]:
    """A module, and of its outputs the one that is meant."""
    if own.output is None:
        return layer
    pick = at.layer(f"outputs.{node.index}", Pick(own.output, node.attributes["path"]))

    def picking(*args: Any, **kwargs: Any) -> Any:
        return pick(layer(*args, **kwargs))

    return picking


#: By the names of nodes in the core.
TRANSLATIONS: dict[str, Translation] = {
    "Linear": _linear,
    "Activation": _activation,
    "Softmax": _softmax,
    "Dropout": _dropout,
    "LayerNorm": _layer_norm,
    "BatchNorm": _batch_norm,
    "Embedding": _embedding,
    "CharCNN": _char_cnn,
    "Piecewise": _piecewise,
    "Periodic": _periodic,
    "Concat": _concat,
    "Add": _add,
    "Product": _product,
    "Select": _select,
    "Gather": _gather,
    "Join": _join,
    "Mixture": _mixture,
    "Stitch": _stitch,
    "Dot": _dot,
    "Funnel": _funnel,
    "Calibrate": _calibrate,
    "Selectors": _selectors,
    "Chain": _chain,
    "List": _list,
    "Module": _module,
    "Spread": positions.spread,
    "Pool": positions.pool,
    "Neighbour": positions.neighbour,
    "Recurrence": positions.recurrence,
    "Pairwise": pairs.pairwise_scores,
    "Attach": pairs.attach,
    "Attention": positions.attention,
    "Placed": positions.placed,
    "Adapter": members.adapter,
    "MemberLinear": members.linear,
}
