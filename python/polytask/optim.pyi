"""The `optim` components; written by `python -m polytask._stubs`."""

from collections.abc import Mapping, Sequence

from .components.component import Component

class SGD(Component):
    """Stochastic gradient descent with momentum (Sutskever et al., On the Importance of Initialization and Momentum
    in Deep Learning, ICML 2013, in PyTorch's form).

    `g += weight_decay w`, `b = momentum b + (1 - dampening) g` (`b = g` in the first step), `w -= lr b`, or with
    Nesterov's momentum `w -= lr (g + momentum b)`. The numbers are those of `torch.optim.SGD`; biases and norms
    do not decay. Of a sparse table a step touches the rows of its batch alone: the momenta of all other rows stay as
    they are, and those rows do not move.
    """

    lr: float | Mapping[str, float]
    momentum: float
    dampening: float
    weight_decay: float | Mapping[str, float]
    nesterov: bool
    def __init__(
        self,
        lr: float | Mapping[str, float] = 0.001,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float | Mapping[str, float] = 0.0,
        nesterov: bool = False,
    ) -> None: ...

class Adam(Component):
    """Adam (Kingma and Ba, Adam: A Method for Stochastic Optimization, ICLR 2015).

    `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    `w -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`; weight decay adds `weight_decay w` to `g`. The
    numbers are those of `torch.optim.Adam`; biases and norms do not decay.

    Of a sparse table a step touches the rows of its batch alone, as `torch.optim.SparseAdam` does: the moments of all
    other rows stay as they are instead of fading, those rows do not move, and `weight_decay` pulls at a row only when
    it is touched; `t` counts all steps. A table touched as a whole in every step learns as under dense Adam.
    `SparseAdam` differs in `eps`, which it adds before `v` is corrected, and knows no decay.
    """

    lr: float | Mapping[str, float]
    betas: Sequence[float]
    eps: float
    weight_decay: float | Mapping[str, float]
    def __init__(
        self,
        lr: float | Mapping[str, float] = 0.001,
        betas: Sequence[float] = [0.9, 0.999],
        eps: float = 1e-08,
        weight_decay: float | Mapping[str, float] = 0.0,
    ) -> None: ...

class AdamW(Component):
    """Adam with weight decay beside the gradient (Loshchilov and Hutter, Decoupled Weight Decay Regularization,
    ICLR 2019): `w -= lr weight_decay w` before Adam's step. The numbers are those of `torch.optim.AdamW`; biases
    and norms do not decay. Sparse tables learn as under `pt.optim.Adam`, and a row shrinks only when it is touched.
    """

    lr: float | Mapping[str, float]
    betas: Sequence[float]
    eps: float
    weight_decay: float | Mapping[str, float]
    def __init__(
        self,
        lr: float | Mapping[str, float] = 0.001,
        betas: Sequence[float] = [0.9, 0.999],
        eps: float = 1e-08,
        weight_decay: float | Mapping[str, float] = 0.01,
    ) -> None: ...

class RMSprop(Component):
    """RMSprop (Hinton, Neural Networks for Machine Learning, lecture 6, 2012; centered: Graves, Generating Sequences
    with Recurrent Neural Networks, 2013).

    `g += weight_decay w`, `s = alpha s + (1 - alpha) g^2`, `d = g / (sqrt(s) + eps)`; centered, `s` is replaced by
    `s - a^2` with `a` the running mean of `g`; `b = momentum b + d`, `w -= lr b`. The numbers are those of
    `torch.optim.RMSprop`; biases and norms do not decay.

    Of a sparse table a step touches the rows of its batch alone: the means and momenta of all other rows stay as they
    are, and those rows do not move.
    """

    lr: float | Mapping[str, float]
    alpha: float
    eps: float
    weight_decay: float | Mapping[str, float]
    momentum: float
    centered: bool
    def __init__(
        self,
        lr: float | Mapping[str, float] = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-08,
        weight_decay: float | Mapping[str, float] = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None: ...

class Adagrad(Component):
    """Adagrad (Duchi, Hazan and Singer, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization,
    JMLR 2011).

    `g += weight_decay w`, `s += g^2`, `w -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)`. The numbers are those
    of `torch.optim.Adagrad`; biases and norms do not decay.

    A row of a sparse table has one sum, to which it adds the mean of its `g^2`: row-wise Adagrad, as DLRM (Naumov et
    al., 2019) and FBGEMM have it, which takes a `width`-th of the memory. A step touches the rows of its batch alone.
    """

    lr: float | Mapping[str, float]
    lr_decay: float
    weight_decay: float | Mapping[str, float]
    initial_accumulator_value: float
    eps: float
    def __init__(
        self,
        lr: float | Mapping[str, float] = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float | Mapping[str, float] = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None: ...

class Muon(Component):
    """Muon (Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, Muon: An optimizer for hidden layers in neural networks,
    2024): momentum whose singular values are all brought to about 1, for weight matrices of hidden layers.

    `M = momentum M + (1 - momentum) G`, `X = (1 - momentum) G + momentum M` (or `M` without `nesterov`), divided by its
    length, then `ns_steps` times `X = a X + (b A + c A^2) X` with `A = X X^T`, `a = 3.4445`, `b = -4.7750`,
    `c = 2.0315`, and `W = (1 - lr weight_decay) W - lr ratio X`. All else learns as under `pt.optim.AdamW`.

    A weight matrix of a hidden layer is each `[rows, columns]` of a layer within encoder, experts, gates and heads; of
    networks, experts, towers or members side by side each its own. Not among them, as in the authors' code, are
    embeddings, biases, norms, mixes and scales, and of heads the last layer (of a head of your own all layers). Of an encoder
    of your own it is every parameter of two dimensions, no kernels of convolutions; `exclude` names what is none.

    The steps are those of `torch.optim.Muon` and `torch.optim.AdamW` side by side, but that the iteration, which torch and
    the authors compute in bfloat16, is in single precision here. Defaults are the authors' for matrices, whose `lr`
    torch has at 1e-3 and `weight_decay` at 0.1, and `pt.optim.AdamW`'s for all else. Keys of `lr` name matrices, those
    of `adamw_lr` other parameters.
    """

    lr: float | Mapping[str, float]
    momentum: float
    nesterov: bool
    ns_steps: int
    weight_decay: float | Mapping[str, float]
    adjust_lr_fn: str
    adamw_lr: float | Mapping[str, float]
    adamw_betas: Sequence[float]
    adamw_eps: float
    exclude: Sequence[str]
    def __init__(
        self,
        lr: float | Mapping[str, float] = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        weight_decay: float | Mapping[str, float] = 0.0,
        adjust_lr_fn: str = "original",
        adamw_lr: float | Mapping[str, float] = 0.001,
        adamw_betas: Sequence[float] = [0.9, 0.999],
        adamw_eps: float = 1e-08,
        exclude: Sequence[str] = [],
    ) -> None: ...
