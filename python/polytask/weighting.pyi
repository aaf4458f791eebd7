"""The `weighting` components; written by `python -m polytask._stubs`."""

from collections.abc import Mapping, Sequence

from .standalone import Weighting

class Equal(Weighting):
    """The sum of the tasks' losses, each times its task's own `weight`: `L = sum_j lambda_j L_j`."""

    def __init__(self) -> None: ...

class Mean(Weighting):
    """The mean of the tasks' losses, each times its task's own `weight`: `L = sum_j lambda_j L_j / T`, where `T` counts
    the tasks that have labels in the batch.

    `Equal` is the sum, `T` times as long: under plain gradient descent the two want different learning rates.
    """

    def __init__(self) -> None: ...

class Static(Weighting):
    """The weights given: `L = sum_j w_j lambda_j L_j`, where `lambda_j` is the task's own `weight`."""

    task_weights: Sequence[float] | Mapping[str, float]
    def __init__(
        self,
        task_weights: Sequence[float] | Mapping[str, float] = {},
    ) -> None: ...

class ScaleInvariant(Weighting):
    """Scale-invariant sum (the baseline of Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022):
    `L = sum_j log L_j`, which is the weights `1 / L_j`.

    A task's unit, and its own `weight`, cancel. The gradient is as long as the relative changes of the losses, so
    neither sum nor mean; under plain gradient descent it grows as losses shrink. A loss of exactly 0 has weight 0
    (it is at its minimum); a negative loss has no logarithm and is refused.
    """

    def __init__(self) -> None: ...

class Uncertainty(Weighting):
    """Uncertainty weighting (Kendall et al., Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
    and Semantics, CVPR 2018).

    `L = sum_j a_j exp(-s_j) L_j + s_j / 2`, where the log-variances `s_j` are learned, and `a_j` is 1/2 for a
    regression, whose loss should be squared, and 1 otherwise; the weights are `a_j exp(-s_j)`. The scale is the
    method's own: where `s_j` has settled, a task's term is 1/2 whatever its loss.

    The paper trains `s` with the model's optimizer; here it has an Adam of its own. Published codes mostly use one
    `a` for all tasks; LibMTL has 1/2 for all and starts at -0.5. A negative loss is taken as it is, but a loss that
    stays negative has no best `s`: its weight grows until `s` reaches -30.
    """

    lr: float
    start: float
    def __init__(
        self,
        lr: float = 0.001,
        start: float = 0.0,
    ) -> None: ...

class DWA(Weighting):
    """Dynamic weight average (Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019).

    `w = T softmax(r / temperature)` with `r_j = L_j(e - 1) / L_j(e - 2)`, the means of a task's losses over the
    batches of the last two epochs; `T` counts the tasks that have labels in the batch. A task without two epochs
    has `r = 1`, so in the first two epochs weights are 1. They sum to `T`: as long as the sum.

    A task's last two epochs are those in which it had labels. The ratio of an epoch to one with a mean of 0 is
    taken as 1; a negative mean, which no ratio makes sense of, is refused.
    """

    temperature: float
    def __init__(
        self,
        temperature: float = 2.0,
    ) -> None: ...

class RLW(Weighting):
    """Random loss weighting (Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task
    Learning, TMLR 2022): new random weights in every batch, which sum to 1: as long as the mean.

    Numbers from a normal or uniform distribution go through a softmax over the tasks that have labels in the batch;
    Dirichlet weights are as drawn. Bernoulli weights choose tasks with chance 1/2, at least one, or exactly one; a
    chosen task weighs 1 in the authors' code and 1 over their number here, as the paper's weights sum to 1. LibMTL
    sends Dirichlet weights through a softmax, which nearly evens them.
    """

    distribution: str
    def __init__(
        self,
        distribution: str = "normal",
    ) -> None: ...

class GLS(Weighting):
    """Geometric loss strategy (Chennupati et al., MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss
    Strategy for Multi-Task Learning, CVPR Workshops 2019): `L = (prod_j L_j)^(1/T)`, which is the weights
    `L / (T L_j)`, `T` being the tasks that have labels in the batch.

    Neither sum nor mean: the gradient is the mean of the relative gradients, times `L`. Published codes multiply
    the losses, which over- or underflows with many tasks; here the mean is that of logarithms. A loss of exactly 0,
    which would stop all tasks, has weight 0 and does not count; a negative loss is refused.
    """

    def __init__(self) -> None: ...

class IMTLL(Weighting):
    """IMTL-L, the loss balance of impartial multi-task learning (Liu et al., Towards Impartial Multi-task Learning,
    ICLR 2021): `L = sum_j exp(s_j) L_j - s_j` with learned `s_j` that start at 0; the weights are `exp(s_j)`.

    The scale is the method's own: where `s_j` has settled, every scaled loss is 1. The paper trains `s` with the
    model's optimizer; here it has an Adam of its own, or with `exact` each batch its minimum `exp(s_j) = 1 / L_j`,
    the weights of `ScaleInvariant`. Losses of 0 and less have no best scale: with Adam, a loss that stays there
    grows its weight until `s` reaches 30; with `exact`, 0 has weight 0 and a negative loss is refused.
    """

    lr: float
    exact: bool
    def __init__(
        self,
        lr: float = 0.001,
        exact: bool = False,
    ) -> None: ...

class STCH(Weighting):
    """Smooth Tchebycheff scalarization (Lin et al., Smooth Tchebycheff Scalarization for Multi-Objective Optimization,
    ICML 2024), as its multi-task experiments use it.

    `L = T mu log sum_j exp(y_j / mu)` with `y_j = log(L_j / nadir_j)`, which is the weights `T p_j / L_j` with
    `p = softmax(y / mu)`. The smaller `mu`, the more only the worst task counts; `T` counts the tasks that have
    labels in the batch. During the warm-up `L = sum_j log L_j`, and `nadir_j` becomes the mean of the task's losses
    over it. Neither sum nor mean: relative changes of losses, as in `ScaleInvariant`.

    The authors' code averages the losses of one further epoch of logarithms, after the warm-up; here the warm-up
    itself is averaged. A task without labels in the warm-up takes its first loss for its nadir. TorchJD's STCH is
    another formula, without logarithms. A loss of exactly 0 has weight 0; a negative one is refused.
    """

    mu: float
    warm_up: int
    def __init__(
        self,
        mu: float = 1.0,
        warm_up: int = 4,
    ) -> None: ...

class FAMO(Weighting):
    """Fast adaptive multitask optimization (Liu et al., FAMO: Fast Adaptive Multitask Optimization, NeurIPS 2023).

    The weights are `c z_j / (L_j - b_j)` with `z = softmax(xi)` and `c` such that they sum to 1: as long as the
    mean. After the step the losses of the same batch, one forward pass more, say how much each logarithm fell,
    `d_j = log(L_j - b_j) - log(L'_j - b_j)`, and Adam moves `xi` along `d^T dz/dxi + decay xi`, so that the task
    that fell least weighs more.

    Tasks that have no labels in the batch keep their `xi`; `z` is over the others. The authors' code adds 1e-8 to
    losses; here a loss exactly at its bound has weight 0, and no `d` is more than eight digits. A loss below its
    bound is refused: give `bounds` for losses that can be negative.
    """

    lr: float
    decay: float
    bounds: Sequence[float] | Mapping[str, float]
    def __init__(
        self,
        lr: float = 0.025,
        decay: float = 0.001,
        bounds: Sequence[float] | Mapping[str, float] = {},
    ) -> None: ...

class COSMOS(Weighting):
    """The scalarization of COSMOS (Ruchte & Grabocka, Scalable Pareto Front Approximation for Deep Multi-Objective
    Learning, ICDM 2021): `L = sum_j r_j L_j - similarity cos(r, L)`, where the preference `r` sums to 1 over all
    tasks; the weights are `r_j - similarity (r_j / (|r| |L|) - cos L_j / |L|^2)`.

    Without the second term as long as the mean; with it the scale is the method's own, and a weight can be
    negative. The tasks that have no labels in a batch are left out of the angle; where all losses are 0 there is
    none. The paper draws a preference for each batch and shows it to the network; here it is given.
    """

    preference: Sequence[float] | Mapping[str, float]
    similarity: float
    def __init__(
        self,
        preference: Sequence[float] | Mapping[str, float] = {},
        similarity: float = 1.0,
    ) -> None: ...

class PBI(Weighting):
    """Penalty boundary intersection (Zhang & Li, MOEA/D: A Multiobjective Evolutionary Algorithm Based on
    Decomposition, IEEE Transactions on Evolutionary Computation 2007): `L = d1 + theta d2` with `d1` the length of
    `L - ideal` along the preference and `d2` its distance from it.

    With the unit vector `u` of the preference the weights are `u_j + theta (L - ideal - d1 u)_j / d2`, without the
    second term on the preference itself, where `d2` has no derivative. The scale is the method's own, and a weight
    can be negative. Tasks that have no labels in a batch are left out of both distances.
    """

    preference: Sequence[float] | Mapping[str, float]
    theta: float
    ideal: Sequence[float] | Mapping[str, float]
    def __init__(
        self,
        preference: Sequence[float] | Mapping[str, float] = {},
        theta: float = 5.0,
        ideal: Sequence[float] | Mapping[str, float] = {},
    ) -> None: ...

class GO4Align(Weighting):
    """GO4Align (Shen et al., GO4Align: Group Optimization for Multi-Task Alignment, NeurIPS 2024).

    A task's indicator is `v_j = p_j sum_k L_k / L_j`, where `p = softmax(-step H)` and `H_j` sums the task's losses
    so far, this one included. The indicators are clustered into `groups` by k-means, and a task's weight is the mean
    of its group. Tasks that are alike have weights of about 1: as long as the sum.

    The authors' code clusters with randomly started k-means; numbers on a line have an exact clustering, which is
    used here, and with as many groups as tasks each keeps its own. `p` depends on the unit of the losses, as in the
    paper. Tasks that have no labels in the batch are left out and keep their `H`. A loss of exactly 0 is left out of
    the indicators and has weight 0; a negative one is refused.
    """

    groups: int
    step: float
    def __init__(
        self,
        groups: int = 2,
        step: float = 0.0001,
    ) -> None: ...

class LDC(Weighting):
    """LDC-MTL (Xiao et al., LDC-MTL: Balancing Multi-Task Learning through Scalable Loss Discrepancy Control,
    arXiv 2502.08585, 2025), the single-level form that it trains with one backward pass.

    `L = sum_j sigma_j l_j + penalty sum_j |tau_j l_j - tau_(j+1) l_(j+1)|` over neighbours in the order of the
    tasks, with learned `sigma = softmax(w)`, `tau` 1 or `sigma`, and `l_j` the loss over the size of the task's
    first one. The model and `w` descend the same `L`, and the weights are its derivatives by the losses, which a
    large penalty can make negative. As long as the mean, of relative losses.

    The paper's `sigma` is a small network on the features, trained by the model's optimizer (or, for QM9 in the
    authors' code, plain numbers); here it is a number a task with an Adam of its own. Dividing by first losses is in
    the paper's second version, not in its third. Losses of 0 and less are taken as they are.
    """

    penalty: float
    weighted: bool
    relative: bool
    lr: float
    def __init__(
        self,
        penalty: float = 0.1,
        weighted: bool = False,
        relative: bool = True,
        lr: float = 0.001,
    ) -> None: ...

class AlignedMTL(Weighting):
    """Aligned-MTL (Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023): the mean of
    the rows of the matrix nearest to `J` whose singular values are all `s`. With `G = V diag(l) V^T` over the
    eigenvalues that are not zero, `w = s V diag(l)^(-1/2) V^T 1/T`. As long as a mean of gradients, or shorter.

    The authors' code sums rather than averages. As there, an eigenvalue counts as zero below `T` times the
    precision of a 32-bit float (1.2e-7) of the largest: with `"min"` one that is noise would shrink the direction to
    nothing.
    """

    scale_mode: str
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        scale_mode: str = "min",
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class CAGrad(Weighting):
    """CAGrad, conflict-averse gradient descent (Liu, Liu, Jin, Stone & Liu, NeurIPS 2021): `max_d min_j <g_j, d>` over
    `|d - g_0| <= c |g_0|` with the mean gradient `g_0`. About as long as a mean of gradients.

    Solved exactly, by an active set; published codes hand the dual to SciPy's SLSQP, with 1e-8 added to norms, and
    TorchJD answers 0 for small gradients. The paper does not rescale; the authors' code and LibMTL divide by
    `1 + c^2`, the default here. At points where no direction helps all tasks, `d` is not unique; then it is the one
    nearest to `g_0`.
    """

    c: float
    rescale: int
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        c: float = 0.5,
        rescale: int = 1,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class ConFIG(Weighting):
    """ConFIG, conflict-free inverse gradients (Liu, Chu & Thuerey, ConFIG: Towards Conflict-free Training of Physics
    Informed Neural Networks, ICLR 2025, arXiv 2408.11104): with unit rows `U`, the unit vector `u` along `U^+ 1`,
    which has the same cosine with all gradients, and `d = (sum_j <g_j, u>) u`. As long as the sum of the gradients
    where tasks agree.

    The Gramian suffices: `U^+ 1 = U^T (U U^T)^+ 1`. Opposed gradients cancel, and leave 0 if there is nothing else.
    The paper's M-ConFIG, which keeps a momentum of each task's gradient and backpropagates one task a step, is not
    here: evidence shows the gradients of all tasks, so it would save nothing.
    """

    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class DualProj(Weighting):
    """Projection on the dual cone (Lopez-Paz & Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017;
    for several tasks as in Quinton & Rey, arXiv 2406.16232, 2024): the direction nearest to `g = sum_j p_j g_j`
    with `<g_j, d> >= 0` for all tasks. As long as a mean of gradients for the default preference.

    `min v^T G v` over `v >= p`, solved exactly by an active set. The 2017 paper projects one task's gradient and adds
    a margin of 0.5 to `v`; there is none here.
    """

    preference: Sequence[float] | None
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        preference: Sequence[float] | None = None,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class FairGrad(Weighting):
    """FairGrad (Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024): weights with
    `G w = w^(-1/alpha)`, element by element, the direction whose decreases `<g_j, d>` are alpha-fair. `alpha` of 1 is
    proportional fairness (Nash-MTL's direction), 2 minimum potential delay; towards infinity it is max-min fairness,
    where all losses fall alike.

    Its length is its own: it grows with the gradients to the power `(1 - alpha) / (1 + alpha)`, so is `sqrt(T)` for
    an `alpha` of 1 and larger for smaller gradients above that. The authors' code cuts it to length 1; clip
    gradients for that. They solve by least squares; here the convex potential
    `1/2 w^T G w - sum_j w_j^(1 - 1/alpha) / (1 - 1/alpha)` is minimised exactly. Where no weights exist, as between
    opposed gradients, squared lengths count `1 + 1e-12` times. A task without gradient has weight 0.
    """

    alpha: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        alpha: float = 1.0,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class IMTL(Weighting):
    """IMTL, impartial multi-task learning (Liu et al., Towards Impartial Multi-task Learning, ICLR 2021): losses
    `exp(s_j) L_j - s_j` with learned `s_j` that start at 0 (IMTL-L), whose gradients at the shared parameters are
    combined to a direction with equal projections (IMTL-G, weights that sum to 1). Task-only parameters follow
    their own scaled loss. As IMTL-G does not ask for the lengths of gradients, at the shared parameters the scales
    change only how long the direction is.

    The paper and LibMTL train `s` with the model's optimizer; here it has an Adam of its own. A loss that stays at 0
    or below has no best scale: its weight grows until `s` reaches 30.
    """

    lr: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        lr: float = 0.001,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class IMTLG(Weighting):
    """IMTL-G, the gradient balance of impartial multi-task learning (Liu et al., Towards Impartial Multi-task Learning,
    ICLR 2021): weights that sum to 1 and give a direction with the same `<d, g_j / |g_j|>` for all tasks. As long as
    a mean of gradients.

    With unit rows `U`, `d` is a multiple of `U^T (U U^T)^+ 1`; the paper's formula, which inverts a matrix of
    differences, is the same where it exists. Weights may be negative, and so may the projections that all tasks
    share, as in the paper. Where the projections are equal only at 0 (between opposed gradients) the direction is
    0; where no weights of sum 1 exist they are equal. A task without gradient has weight 0.
    """

    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class MGDA(Weighting):
    """MGDA, the multiple-gradient descent algorithm (Desideri, Comptes Rendus Mathematique, 2012; Sener & Koltun,
    Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018): `min |sum_j w_j g_j|` over weights `w >= 0`
    that sum to 1, the point of the convex hull of the tasks' gradients that is nearest to the origin. As long as a
    mean of gradients.

    Solved exactly, by an active set on the Gramian. The paper and published codes take Frank-Wolfe steps, and after
    100 or 250 of those are far above the minimum for tens of conflicting tasks.
    """

    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class NashMTL(Weighting):
    """Nash-MTL (Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022): weights with `G w = 1 / w`, element
    by element, so that every task gains equally from its own weighted gradient. Invariant to the scales of the
    losses.

    As in the authors' code the Gramian is first divided by its norm, so that the direction is `sqrt(T |G|)` long: it
    scales with the gradients, until `max_norm` cuts it. (With the paper's own equation the length is always
    `sqrt(T)`, and the cut direction the same once gradients are not small.) The authors iterate 20 convex programs
    with a host solver; the fixed point is the minimum of `1/2 w^T G w - sum_j log w_j`, and found exactly here by
    Newton's method. Where no weights exist, as between opposed gradients, squared lengths count `1 + 1e-12` times: the
    weights are then bounded and their gradients cancel. A task without gradient has weight 0. The authors' option
    to update weights every few steps is common to all gradient methods here.
    """

    max_norm: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        max_norm: float = 1.0,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class PIVRG(Weighting):
    """PIVRG, performance-informed variance reduction gradient aggregation (Qin et al., Revisiting Fairness in Multitask
    Learning: A Performance-Driven Approach for Variance Reduction, CVPR 2025): weights with
    `G w = (p / w)^(1/alpha)`, element by element, where `p = T softmax(score / t)` asks for more decrease for tasks that
    fall behind, and `t` is such that no `p_j` is more than `bound` times another. As its length is FairGrad's, it is
    cut to `max_norm`, as in the authors' code.

    There, a task's score is how much worse its validation metric is than after training alone, in percent, as of the
    last epoch. Here it is how much higher its mean training loss was over the last complete epoch than its
    `baseline` or, without baselines, than over its first epoch: validation metrics are not part of a step's
    evidence. Until a task has a score, it has the mean of the others.
    """

    baselines: Sequence[float] | None
    bound: float
    min_temperature: float
    alpha: float
    max_norm: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        baselines: Sequence[float] | None = None,
        bound: float = 2.0,
        min_temperature: float = 10.0,
        alpha: float = 2.0,
        max_norm: float = 1.0,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class UPGrad(Weighting):
    """UPGrad (Quinton & Rey, Jacobian Descent for Multi-Objective Optimization, arXiv 2406.16232, 2024):
    `sum_j p_j pi(g_j)`, where `pi` projects on the dual cone `{d : <g_i, d> >= 0 for all tasks i}`. No task gets
    worse, to first order. As long as a mean of gradients for the default preference.

    Each projection is `min v^T G v` over `v >= e_j`, solved exactly by an active set. TorchJD adds 1e-4 of the
    Gramian's trace to its diagonal first, and its directions then conflict where gradients nearly depend on each
    other.
    """

    preference: Sequence[float] | None
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        preference: Sequence[float] | None = None,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class MOML(Weighting):
    """Multi-objective meta learning for multi-task learning (Ye et al., Multi-Objective Meta Learning, NeurIPS 2021).

    The weights are `sigma = softmax(alpha)`: as long as the mean. Each step, `inner_steps` of plain gradient descent
    on `sum_j sigma_j L_j` lead to `theta'`; the gradients of all tasks' validation losses `V_i(theta')` by `alpha`
    are combined by the weights that make the combination shortest (MGDA), and Adam moves `alpha` against it. That
    takes `inner_steps` passes on the batch and one on validation data; beyond one inner step, further
    `2 (inner_steps - 1)` a task for products with Hessians, by differences of gradients.

    As in the authors' code, MGDA sees gradients of unit length, and its weights apply to the gradients as they are.
    Their code trains the model on training and validation rows together; here, on training rows alone.
    """

    lr: float
    inner_lr: float | None
    inner_steps: int
    def __init__(
        self,
        lr: float = 0.001,
        inner_lr: float | None = None,
        inner_steps: int = 1,
    ) -> None: ...

class FORUM(Weighting):
    """FORUM (Ye et al., A First-Order Multi-Gradient Algorithm for Multi-Objective Bi-Level Optimization, ECAI 2024).

    With `sigma = softmax(alpha)` and `f = sum_j sigma_j L_j`, the bilevel problem becomes lowering all validation
    losses `V_i` under the constraint `q = f(alpha, theta) - f(alpha, theta') <= 0`, where `inner_steps` of plain
    gradient descent lead to `theta'`. Their unit gradients `u_i` are combined by
    `min_lambda max_nu 1/2 |sum_i lambda_i u_i + nu grad q|^2 - nu rho |grad q|^2`, the best `nu` being
    `max(rho - <grad q, sum_i lambda_i u_i> / |grad q|^2, 0)`; `lambda` is averaged with rate `(epoch + 1)^(-3/4)`.
    The model descends `sum_i lambda_i u_i + nu grad f` and `alpha`, by Adam, `nu grad q`. That takes `inner_steps`
    and one pass on the batch and one on validation data; no Hessians.

    A weighting weighs training losses and lets no validation row into the model, so the unit gradients that the
    model descends are those of the tasks' training losses: the weights are `lambda_j / |grad L_j| + nu sigma_j`. (The
    paper halves each batch of training rows to have the two kinds of losses.) Of the problem for `lambda` the
    authors' code drops the 1/2, which makes its `nu` not the best one; here it is as in the paper. The scale is the
    method's own.
    """

    rho: float
    lr: float
    inner_lr: float
    inner_steps: int
    def __init__(
        self,
        rho: float = 0.1,
        lr: float = 0.001,
        inner_lr: float = 0.1,
        inner_steps: int = 5,
    ) -> None: ...

class AutoLambda(Weighting):
    """Auto-Lambda (Liu et al., Auto-Lambda: Disentangling Dynamic Task Relationships, TMLR 2022).

    Each step, Adam moves the weights `lambda` down `F(lambda) = sum_i p_i V_i(theta')`, the validation losses of the
    primary tasks after a virtual step of plain gradient descent `theta' = theta - inner_lr sum_j lambda_j g_j`. The
    derivative is `-inner_lr g_j^T sum_i p_i grad V_i(theta')`: two passes more, one on the batch and one on
    validation data. Weights start at 0.1, can become negative, and set the scale.

    The authors' code takes that derivative from differences of losses, two passes more again; here it is exact. It
    puts momentum and weight decay into the virtual step, and validates on training data in another order.
    """

    lr: float
    start: float
    primary: Sequence[float] | Mapping[str, float]
    inner_lr: float | None
    def __init__(
        self,
        lr: float = 0.0001,
        start: float = 0.1,
        primary: Sequence[float] | Mapping[str, float] = {},
        inner_lr: float | None = None,
    ) -> None: ...
