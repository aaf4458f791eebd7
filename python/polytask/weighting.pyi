"""The `weighting` components; written by `python -m polytask._stubs`."""

from collections.abc import Mapping, Sequence
from typing import Any

from .components.standalone import Weighting

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
    (it is at its minimum), and in `L` the logarithm of the smallest normal number; a negative loss has no logarithm
    and is refused.
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

    The authors' code sums rather than averages. As there, an eigenvalue counts as zero below `T` times the precision of a
    32-bit float (1.2e-7) of the largest, or below `4 sqrt(T)` times the rounding of the Gramian if that is more, and
    never above half of the largest: with `"min"` one that is noise would shrink the direction to nothing.
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
    nearest to `g_0`. Before rescaling it is never longer than `(1 + c) |g_0|`: where rounding of the Gramian hides
    whether gradients oppose each other, their squared lengths count a little more.
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

    The Gramian suffices: `U^+ 1 = U^T (U U^T)^+ 1`. Opposed gradients cancel, and leave 0 if there is nothing else:
    eigenvalues that are no more than `4 sqrt(T)` times the rounding of the Gramian count as 0, and so does `U^+ 1` if
    no more than that share of `1` is left.

    Nothing bounds the direction: near-dependent gradients can make it many times longer than all of them together, and
    a run warns once where it is more than 10 times that.

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
    with `<g_j, d> >= 0` for all tasks. As long as a mean of gradients for the default
    preference, and never longer than the mean of their lengths.

    `min v^T G v` over `v >= p`, solved exactly by an active set; where rounding of the Gramian hides whether
    gradients oppose each other, their squared lengths count a little more. The 2017 paper projects one task's gradient and adds
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
    opposed gradients, squared lengths count `1 + 1e-12` times, and once more `T` or `4 T` times the rounding of the
    Gramian where that hides it, and twice what the cosines' least eigenvalue is below 0 where that is not enough. A task
    without gradient has weight 0.
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
    their own scaled loss. As equal projections on independent gradients do not depend on their lengths, at the shared
    parameters the scales then change only how long the direction is; where gradients depend on each other, the
    pseudo-inverse of IMTL-G sees the scaled ones.

    The paper and LibMTL train `s` with the model's optimizer; here it has an Adam of its own. A loss that stays at 0
    or below has no best scale: its weight grows until `s` reaches 30. As for IMTL-G nothing bounds the direction, and a
    run warns once where it is more than 10 times as long as all gradients together.
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

    The weights are `v / sum(v)` with `v = G^+ |g|`, for the Gramian `G` and the lengths `|g|` of the gradients; the
    paper's formula, which inverts a matrix of differences, is the same where it exists. Weights may be negative, and
    so may the projections that all tasks share, as in the paper. Gradients that depend on each other may have no
    direction with equal projections; as in Quinton & Rey (arXiv 2406.16232, 2024), the pseudo-inverse then gives a
    multiple of the shortest direction with the least `sum_j (<d, g_j> - |g_j|)^2`. Where `v` sums to 0, the weights
    are equal: for example for gradients with a mean of 0, whose direction is 0, and for two opposed ones of the same
    length. A task without gradient has weight 0.

    Nothing bounds the direction: near-dependent gradients can make it many times longer than all of them together, and
    a run warns once where it is more than 10 times that.
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
    mean of gradients, and never longer than the shortest.

    Solved exactly, by an active set on the Gramian; where rounding of that hides whether gradients oppose each other, their
    squared lengths count a little more. The paper and published codes take Frank-Wolfe steps, and after
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
    weights are then bounded and their gradients cancel. Where the Gramian's rounding hides that, they count once more
    `T` or `4 T` times that rounding, and twice what the cosines' least eigenvalue is below 0 where that is not enough;
    the direction is then no longer than `sqrt(7/6 T |G|)`. A task without gradient has weight 0. The authors' option to
    update weights every few steps is common to all gradient methods here.
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
    worse, to first order. As long as a mean of gradients for the default preference, and never longer
    than the mean of their lengths.

    Each projection is `min v^T G v` over `v >= e_j`, solved exactly by an active set; where rounding of the Gramian hides
    whether gradients oppose each other, their squared lengths count a little more. TorchJD always adds 1e-4 of the
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

class CRMOGM(Weighting):
    """CR-MOGM (Zhou, Zhang, Jiang, Zhong, Gu and Zhu, On the Convergence of Stochastic Multi-Objective Gradient
    Manipulation and Beyond, NeurIPS 2022).

    Weights computed from noisy gradients are biased; averages over time are less so:
    `w_j = alpha w_j + (1 - alpha) v_j`, where `v` are the weights of the weighting inside. An average starts at the
    first weight of its task, so it has the scale of the weighting inside from the first step on (the paper starts at
    equal weights that add up to 1, as MGDA's do). Factors on task-only parameters pass unchanged.

    The paper lets `alpha` grow towards 1 as the learning rate falls; here it is constant. The weighting inside must
    decide by weights, not by a direction. Where it looks, how often and at what scale may be said of either.
    """

    alpha: float
    inner: Any
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        alpha: float = 0.9,
        inner: Any = {"name": "mgda"},
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class DBMTL(Weighting):
    """DB-MTL (Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Tsang and Kwok, Dual-Balancing for Multi-Task Learning, arXiv
    2308.12029, 2023).

    Losses are replaced by their logarithms, so gradients become `g_j / L_j`, those of a task's own parameters too. In
    the shared ones each is averaged over time, `m_j = b m_j + (1 - b) g_j / L_j` with `b = beta / k^sigma` at the
    task's batch number `k`, from `m_j = 0`; the direction is `sum_j (max_i |m_i| / |m_j|) m_j`, sums of rows as long
    as the longest. It keeps `[tasks, shared parameters]` numbers.

    Losses must be positive. A loss of exactly 0 counts as solved: it adds no gradient. The published code adds 1e-8 to
    losses and norms, which matters for small ones; nothing is added here.
    """

    beta: float
    sigma: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        beta: float = 0.9,
        sigma: float = 0.0,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class ExcessMTL(Weighting):
    """ExcessMTL (He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi and Zhao, Robust Multi-Task Learning with Excess Risks, ICML
    2024).

    How far a task is from its optimum is estimated to second order, with the curvature of Adagrad:
    `e_j = sum_p g_jp^2 / sqrt(S_jp)`, where `S_j` sums the squares of the task's gradients so far. The loss weights
    grow with it, `w_j = w_j exp(step e_j / e_j(0))`, rescaled to their sum, the number of tasks; they apply to all
    parameters, a task's own ones too. `e_j(0)` is a task's first estimate. As long as the sum of the gradients. It
    keeps `[tasks, shared parameters]` numbers.

    The paper's weights add up to 1 and its code's, as here, to the number of tasks. The code adds 1e-7 below the root,
    which makes small gradients count less; nothing is added here. The paper takes `e_j(0)` from three epochs of
    warm-up, its code from the first batch.
    """

    step: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        step: float = 0.01,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class GradDrop(Weighting):
    """GradDrop (Chen, Ngiam, Huang, Luong, Kretzschmar, Chai and Anguelov, Just Pick a Sign: Optimizing Deep Multitask
    Models with Gradient Sign Dropout, NeurIPS 2020).

    At each coordinate let `p` be the sum of the positive gradients and `n` that of the absolute values of the negative
    ones. With probability `p / (p + n)`, the paper's positive sign purity, the direction is `p - leak n`, else
    `leak p - n`; drawn from the seed, the step and the coordinate. As long as the sum of the gradients where they
    agree.

    The paper drops gradients at a layer's activations, each row of the batch, with the sign of the activation taken
    in; here it drops them where the weighting is told to look. The paper has a leak for each task; one does here.
    """

    leak: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        leak: float = 0.0,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class GradNorm(Weighting):
    """GradNorm (Chen, Badrinarayanan, Lee and Rabinovich, GradNorm: Gradient Normalization for Adaptive Loss Balancing
    in Deep Multitask Networks, ICML 2018).

    Loss weights `w`, at first 1, apply to all parameters, a task's own ones too. With the norms `n_j = |g_j|`, the
    mean `m` of `w_j n_j` and the training rates `r_j = (L_j / L_j(0)) / mean_k (L_k / L_k(0))`, each step moves `w`
    down the gradient of `sum_j |w_j n_j - m r_j^alpha|`, where `m r_j^alpha` is held fixed, and rescales `w` to its
    sum, the number of tasks. `L_j(0)` is the loss of the first batch with labels of the task. As long as the sum of
    the gradients.

    The paper looks at the last shared layer only; `at="representation"` comes closest to that. Its weights are learned
    with the model's optimizer; here with Adam, its gradient divided by `mean_j n_j` so that the scale of the losses
    does not matter. Weights stop at 0. LibMTL learns the logits of a softmax instead.
    """

    alpha: float
    lr: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        alpha: float = 1.5,
        lr: float = 0.025,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class GradVac(Weighting):
    """GradVac (Wang, Tsvetkov, Firat and Cao, Gradient Vaccine: Investigating and Improving Multi-task Optimization in
    Massively Multilingual Models, ICLR 2021).

    Each task's gradient `p_i`, at first `g_i`, visits the others in random order. Where its cosine `c` with `g_j` is
    below the target `t_ij`, it becomes `p_i + g_j |p_i| (t sqrt(1 - c^2) - c sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2))`,
    whose cosine is the target; then `t_ij += beta (c - t_ij)`. Targets start at 0, where this is PCGrad. The
    direction is `sum_i p_i`, as long as the sum of the gradients. All of it follows from the Gramian.

    Targets move at every visit, as in the paper and in TorchJD; LibMTL moves them only after a correction, so there
    they can only fall. The paper has a target for each layer too; here one covers what the Gramian covers. Targets
    above 0.999 count as 0.999 (the paper has no bound, and the correction is infinite at 1). Nothing bounds the
    direction: corrections towards high targets add up from visit to visit, and a run warns once where it is more than
    10 times as long as all gradients together.
    """

    beta: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        beta: float = 0.5,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class Krum(Weighting):
    """Krum and Multi-Krum (Blanchard, El Mhamdi, Guerraoui and Stainer, Machine Learning with Adversaries: Byzantine
    Tolerant Gradient Descent, NeurIPS 2017).

    A gradient's score is the sum of its squared distances to its `T - byzantine - 2` nearest neighbours, at least one.
    The direction is the mean of the `selected` gradients of the lowest scores. Distances follow from the Gramian.

    Made for many workers with the same task; among different tasks it follows those that resemble each other. TorchJD
    adds up distances, not their squares as the paper does, and refuses fewer than `byzantine + 3` gradients.
    """

    byzantine: int
    selected: int
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        byzantine: int = 1,
        selected: int = 1,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class MoCo(Weighting):
    """MoCo (Fernando, Shen, Liu, Chaudhury, Murugesan and Chen, Mitigating Gradient Bias in Multi-objective Learning: A
    Provably Convergent Approach, ICLR 2023).

    Gradients are averaged over time, `y_j += b_k (g_j - y_j)` from 0 with `b_k = beta / k^beta_sigma` at the task's
    batch number `k`. The task weights `l`, at first equal, go down the gradient of the norm of their combination,
    `l = project(l - c_k (Y Y^T + rho I) l)` on the simplex with `c_k = gamma / k^gamma_sigma` at step `k`. The
    direction is `sum_j l_j y_j`, as long as the mean of the gradients. It keeps `[tasks, shared parameters]` numbers.

    The paper projects; the authors' later code, and LibMTL and TorchJD after it, take a softmax of the same instead,
    which never lets a weight reach 0. That code also rescales each gradient to the length of its loss; use the option
    `normalize` for that.
    """

    beta: float
    beta_sigma: float
    gamma: float
    gamma_sigma: float
    rho: float
    relative: bool
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        beta: float = 0.5,
        beta_sigma: float = 0.5,
        gamma: float = 0.1,
        gamma_sigma: float = 0.5,
        rho: float = 0.0,
        relative: bool = True,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class MoDo(Weighting):
    """MoDo (Chen, Fernando, Ying and Chen, Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization
    and Conflict-Avoidance, NeurIPS 2023).

    The task weights `l`, at first equal, go down the gradient of the norm of their combination, estimated without bias
    from two independent parts of the batch: `l = project(l - gamma (J_1 J_2^T + rho I) l)` on the simplex. The
    direction is `sum_j l_j g_j`, as long as the mean of the gradients. A task without labels in a part is not seen
    there.

    The paper steps with a third sample. With 2 parts all of the batch decides the step, the two parts again included,
    so weights and gradients are not independent; with 3 the third part alone decides it, as in the paper. TorchJD
    takes a softmax instead of the projection; LibMTL's step size is 0.001.
    """

    gamma: float
    rho: float
    parts: int
    relative: bool
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        gamma: float = 0.1,
        rho: float = 0.1,
        parts: int = 2,
        relative: bool = True,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class PCD(Weighting):
    """PCD (Varam and AlHajri, Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
    Multi-Objective Optimization, TMLR 2026).

    The direction nearest to the primary task's gradient that gives each other task at least the fraction `tau` of the
    progress its own gradient would: `d = argmin |d - h_1|^2` with `h_j . d >= tau |h_j|^2`, then rescaled to the length
    of the primary gradient, which sets the scale. Here `h_j = g_j / sqrt(v_j)`, and `v_j` is an average over time of
    `|g_j|^2` with decay `beta`, corrected for its start at 0; so the losses' scales do not matter. The program is
    solved exactly, from the Gramian.

    Constraints that cannot hold together (of opposed gradients, for example), or leave no more of the direction than the
    rounding of the Gramian, are all dropped for that step, as the first are in the paper. In a batch without labels of the primary task, or where its gradient is 0, the shared parameters stand still.
    The authors' code adds 1e-8 to `v`, which matters for small gradients; nothing is added here.
    """

    primary: str | None
    tau: float
    beta: float
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        primary: str | None = None,
        tau: float = 0.02,
        beta: float = 0.999,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class PCGrad(Weighting):
    """PCGrad (Yu, Kumar, Gupta, Levine, Hausman and Finn, Gradient Surgery for Multi-Task Learning, NeurIPS 2020).

    Each task's gradient `p_i`, at first `g_i`, visits the others in random order; where `p_i . g_j < 0` it loses that
    part, `p_i -= (p_i . g_j / |g_j|^2) g_j`. The direction is `sum_i p_i`, as long as the sum of the gradients.

    The projected gradients are mixtures of the tasks' gradients, so weights computed from the Gramian say it all.
    With two tasks the direction conflicts with neither; with more it may, as a later projection can undo an earlier
    one. The order is drawn from the seed and the step.
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

class SDMGrad(Weighting):
    """SDMGrad (Xiao, Ban and Ji, Direction-oriented Multi-objective Learning: Simple and Provable Stochastic Algorithms,
    NeurIPS 2023).

    The task weights `w` minimise `|g_w + lambda g_0|^2`, where `g_0` is the mean gradient, over the simplex: from
    those of the last step, some iterations of `v = momentum v + A (w + lambda / T)`, `w = project(w - lr v)`. Two
    independent parts of the batch give `A = J_1 J_2^T` without bias, divided by the square of
    `mean_j sqrt(max(A_jj, 0))`. The direction is `(g_w + lambda g_0) / (1 + lambda)`, as long as the mean of the
    gradients.

    The paper steps with a third sample. With 2 parts all of the batch decides the step, the two parts again included;
    with 3 the third part alone decides it. LibMTL has 5 as `lr`. Published codes add 1e-8 to the divisor of `A`;
    nothing is added here, and where it is 0 the weights stay.
    """

    lr: float
    momentum: float
    iterations: int
    strength: float
    parts: int
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        lr: float = 10.0,
        momentum: float = 0.5,
        iterations: int = 20,
        strength: float = 0.3,
        parts: int = 2,
        at: str = "shared",
        refresh: int = 1,
        normalize: str = "none",
        scale: str = "paper",
        per: str = "all",
        gramian_precision: str = "float32",
    ) -> None: ...

class TrimmedMean(Weighting):
    """Coordinate-wise trimmed mean (Yin, Chen, Ramchandran and Bartlett, Byzantine-Robust Distributed Learning: Towards
    Optimal Statistical Rates, ICML 2018).

    At each coordinate the largest and the smallest gradients are left out, and the direction is the mean of the rest.
    No task, however wrong, moves a coordinate beyond what other tasks' gradients are there.

    The paper leaves out a fraction of the gradients; here it is a number, as fractions of few tasks are often none.
    One or two gradients always stay.
    """

    trim: int
    at: str
    refresh: int
    normalize: str
    scale: str
    per: str
    gramian_precision: str
    def __init__(
        self,
        trim: int = 1,
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
