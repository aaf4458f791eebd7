"""The `sharing` components; written by `python -m polytask._stubs`."""

from collections.abc import Sequence

from .components.component import Component

class Hard(Component):
    """Hard parameter sharing (Caruana, ICML 1993; Machine Learning 28, 1997): one encoder, one head per task
    (`head=pt.head.Tower(...)` for small networks of their own).
    """

    def __init__(self) -> None: ...

class Soft(Component):
    """Soft parameter sharing (Duong et al., ACL 2015; Yang & Hospedales, ICLR workshop 2017): each task has an encoder of its
    own, and a regularizer ties their parameters: `pt.regularizer.TaskRelation` learns which tasks are alike,
    `pt.regularizer.Pairwise` pulls all together, none at all gives single-task networks side by side.

    The encoders start from the same weights, so that distances between them mean something from the first step on.
    """

    def __init__(self) -> None: ...

class CrossStitch(Component):
    """Cross-stitch networks (Misra, Shrivastava, Gupta & Hebert, CVPR 2016): an encoder a task, and after each of its layers
    a learned mix of the tasks' features, `x_t <- sum_s a[t, s] x_s`.

    The mixes start near the identity, with rows that sum to 1, so that features keep their scale.
    """

    start: float
    def __init__(
        self,
        start: float = 0.9,
    ) -> None: ...

class Sluice(Component):
    """Sluice networks (Ruder, Bingel, Augenstein & Sogaard, AAAI 2019): an encoder a task; each layer's features are split
    into subspaces, all of which are mixed across tasks (`a`), and what a head reads is a learned mix of its task's
    layers (`b`); a task with `at` reads that layer alone.

    The paper keeps subspaces apart with `sum ||G_1^T G_2||^2`: that is `pt.regularizer.Orthogonality`. Layers must have
    one width to be mixed. Mixes start near the identity, those of layers near the last one.
    """

    subspaces: int
    start: float
    def __init__(
        self,
        subspaces: int = 2,
        start: float = 0.9,
    ) -> None: ...

class NDDR(Component):
    """NDDR (Gao, Ma, Zhao, Liu & Yuille, CVPR 2019): an encoder a task; after each layer the features of all tasks side by
    side are brought back to a task's width by a linear map of its own (a 1x1 convolution in the paper), batch norm and an
    activation.

    The maps start near the identity on the task's own features.
    """

    start: float
    norm: bool
    activation: str | None
    def __init__(
        self,
        start: float = 0.9,
        norm: bool = True,
        activation: str | None = "relu",
    ) -> None: ...

class MMoE(Component):
    """Multi-gate mixture of experts (Ma, Zhao, Yi, Chen, Hong & Chi, KDD 2018): `f_t(x) = sum_e softmax(W_t x + b_t)_e f_e(x)`,
    where the experts `f_e` are encoders that all tasks share and each task has a gate of its own.

    Gates look at what the encoder pools from its input, where that is an image or a sound. The paper's gates have no bias.
    """

    experts: int
    def __init__(
        self,
        experts: int = 8,
    ) -> None: ...

class OMoE(Component):
    """One-gate mixture of experts (Ma et al., KDD 2018, section 4.1, after Jacobs et al., Neural Computation 1991):
    `f(x) = sum_e softmax(W x + b)_e f_e(x)` for all tasks alike.
    """

    experts: int
    def __init__(
        self,
        experts: int = 8,
    ) -> None: ...

class CGC(Component):
    """Customized gate control (Tang, Liu, Zhao & Gong, RecSys 2020): experts that all tasks share beside experts of each task;
    a task's gate, `softmax(W_t x + b_t)`, weighs its own (first) and the shared ones. One level of `pt.sharing.PLE`.
    """

    shared_experts: int
    task_experts: int
    def __init__(
        self,
        shared_experts: int = 2,
        task_experts: int = 2,
    ) -> None: ...

class PLE(Component):
    """Progressive layered extraction (Tang, Liu, Zhao & Gong, RecSys 2020): levels of customized gate control. On each level
    but the last a shared gate also mixes all experts, of every task and the shared ones, into what the next level's
    shared experts read; a task's experts read what the task's gate mixed.

    The encoder's layers are divided between the levels, so that experts of one level are one or more of its layers. A
    module of your own, which is one layer, is each expert of each level, if it gives as many numbers as it takes.
    """

    shared_experts: int
    task_experts: int
    levels: int | None
    def __init__(
        self,
        shared_experts: int = 2,
        task_experts: int = 2,
        levels: int | None = None,
    ) -> None: ...

class DSelectK(Component):
    """DSelect-k (Hazimeh, Zhao, Chowdhery, Sathiamoorthy, Chen, Mazumder, Hong & Chi, NeurIPS 2021): a mixture of experts in
    which each task's gate selects at most `k`: `sum_s softmax(a)_s r(z_s)`, where `r` turns bits `S(z)`, smooth steps
    between 0 and 1, into a weight for each expert's binary number.

    Gates depend on the features. An entropy term in the objective, `entropy * mean over rows of sum_s H(r(z_s))`, drives
    selectors to single experts; `history` has it as `term/entropy`.
    Where `experts` is no power of 2, another term, `mean over rows of sum_s (1 / t_s - 1)` with `t_s` the sum of `r(z_s)`,
    keeps selectors from numbers of no expert, as in the authors' code: `term/spare_codes`.
    """

    experts: int
    k: int
    gamma: float
    entropy: float
    def __init__(
        self,
        experts: int = 8,
        k: int = 2,
        gamma: float = 1.0,
        entropy: float = 0.001,
    ) -> None: ...

class LTB(Component):
    """Learning to branch (Guo, Lee & Ulbricht, ICML 2020): layers of blocks, of which each block, and each task in the end,
    chooses its parent in the layer before: while training a sample of `softmax((w + Gumbel noise) / temperature)`, the
    likeliest in evaluation.

    The blocks of the first layer all read the features. The temperature falls by a factor a batch; the paper does not say
    how fast.
    """

    branches: int | None
    temperature: float
    decay: float
    lowest: float
    def __init__(
        self,
        branches: int | None = None,
        temperature: float = 5.0,
        decay: float = 0.999,
        lowest: float = 0.2,
    ) -> None: ...

class Branched(Component):
    """Tasks share prefixes of the network, as given: `branches` says for each layer of the encoder which tasks go together
    (compare Vandenhende et al., Branched Multi-Task Networks, BMVC 2020).

    `[[["a", "b", "c"]], [["a", "b"], ["c"]]]`: all share the first layer, `a` and `b` the second. Tasks that have parted
    stay apart. Layers beyond the list go on as its last entry; without any entry all tasks share everything. Groups
    alone, `[["a", "b"], ["c"]]`, part in the first layer: that is what `pt.relatedness(...).groups()` gives.
    """

    branches: Sequence[Sequence[str]] | Sequence[Sequence[Sequence[str]]]
    def __init__(
        self,
        branches: Sequence[Sequence[str]] | Sequence[Sequence[Sequence[str]]] = [],
    ) -> None: ...

class ESMM(Component):
    """Entire-space multi-task model (Ma, Zhao, Huang, Wang, Hu, Zhu & Gai, SIGIR 2018): tasks are the steps of a funnel, in
    order (click, conversion, ...), each with labels over the entire space of rows. Each has an encoder on the shared
    features and a head that gives the probability of its step *given the one before*; a task's prediction is the
    product of these as far as its step, `p(conversion) = p(click) p(conversion | click)`.

    Computed with logits, `logit(sigmoid(a) sigmoid(b)) = a + b - ln(1 + e^a + e^b)`, without loss of digits.
    """

    def __init__(self) -> None: ...

class AITM(Component):
    """Adaptive information transfer multi-task (Xi, Chen, Yan, Zhang, Zhu, Zhuang & Chen, KDD 2021): tasks are the steps of a
    funnel, in order. Each has an encoder `q_t`; what step `t - 1` knows is transferred, `p = g(z_{t-1})`, and attention
    chooses between both: `z_t = sum_u w_u h3(u)` over `u` in `{p, q_t}`, `w = softmax(<h1(u), h2(u)> / sqrt(width))`.

    A term in the objective, `calibration * mean of max(p_t - p_{t-1}, 0)`, keeps a step from being likelier than the one
    before; `history` has it as `term/calibration`.
    """

    calibration: float
    def __init__(
        self,
        calibration: float = 0.6,
    ) -> None: ...
