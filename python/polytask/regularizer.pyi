"""The `regularizer` components; written by `python -m polytask._stubs`."""

from collections.abc import Sequence

from .components.component import Component

class L1(Component):
    """`R = sum of |w|` (Tibshirani, Regression Shrinkage and Selection via the Lasso, JRSS B 1996)
    over all weights; biases and the parameters of norms are left out.
    """

    strength: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.0001,
        on: str | None = None,
    ) -> None: ...

class L2(Component):
    """`R = sum of w^2` (Hoerl and Kennard, Ridge Regression, Technometrics 1970)
    over all weights; biases and the parameters of norms are left out.
    """

    strength: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.0001,
        on: str | None = None,
    ) -> None: ...

class ElasticNet(Component):
    """`R = ratio * sum of |w| + (1 - ratio) * sum of w^2` (Zou and Hastie, Regularization and Variable Selection via the
    Elastic Net, JRSS B 2005) over all weights; biases and the parameters of norms are left out. Between `L2` at 0 and
    `L1` at 1; other libraries halve the squares.
    """

    strength: float
    ratio: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.0001,
        ratio: float = 0.5,
        on: str | None = None,
    ) -> None: ...

class GroupLasso(Component):
    """`R = sum over inputs k of |W_k|`, the length of all weights by which any task reads input `k` (the l2,1 norm:
    Yuan and Lin, Model Selection and Estimation in Regression with Grouped Variables, JRSS B 2006; over tasks:
    Argyriou, Evgeniou and Pontil, Convex Multi-Task Feature Learning, Machine Learning 2008): a feature is of use to
    several tasks or to none.

    It looks at weights `[out, in]` that all tasks have, such as heads of equal width, layer by layer, and groups them
    by the input, as Argyriou et al. do with the features as they are (they also turn them). It has no derivative
    where a whole group is 0; the gradient there is 0, as `L1`'s is. An optimizer by gradients makes groups small, not
    exactly 0.
    """

    strength: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        on: str | None = None,
    ) -> None: ...

class TraceNorm(Component):
    """`R = sum of the singular values of W`, where row `t` of `W`, `[tasks, parameters]`, is all that task `t` has of
    its own (the trace or nuclear norm: Argyriou, Evgeniou and Pontil, Convex Multi-Task Feature Learning, Machine
    Learning 2008; Pong et al., Trace Norm Regularization, SIAM Journal on Optimization 2010): the tasks' parameters lie
    in few directions.

    Smoothed, so that there is a gradient everywhere: `R = sum_k sqrt(lambda_k + smoothing)` with the eigenvalues
    `lambda_k` of `W W^T`, `[tasks, tasks]`, and the gradient `(W W^T + smoothing I)^(-1/2) W`.
    """

    strength: float
    smoothing: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        smoothing: float = 1e-06,
        on: str | None = None,
    ) -> None: ...

class TensorTraceNorm(Component):
    """`R = sum over layers, and over the three unfoldings of their tensor [out, in, tasks], of the trace norm` (Tucker's
    form in Yang and Hospedales, Trace Norm Regularised Deep Multi-Task Learning, ICLR workshop 2017): layer by layer,
    the tasks' weights lie in few directions, of tasks, of outputs and of inputs.

    Each unfolding `X` counts `sum_k sqrt(s_k^2 + smoothing)` over its singular values, with the gradient
    `(X X^T + smoothing I)^(-1/2) X`, by way of the smaller of `X X^T` and `X^T X`. The eigenvalues of that matrix are
    found in every step: for layers of some hundred units that takes longer than the rest of a step.
    """

    strength: float
    smoothing: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        smoothing: float = 1e-06,
        on: str | None = None,
    ) -> None: ...

class MeanRegularized(Component):
    """`R = sum over tasks of |w_t - mean|^2`, where `w_t` is all that task `t` has of its own and `mean` their mean
    (Evgeniou and Pontil, Regularized Multi-Task Learning, KDD 2004): each task is the common one and a small change.

    The paper also penalises the size of the parameters, which `L2` does.
    """

    strength: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        on: str | None = None,
    ) -> None: ...

class Pairwise(Component):
    """`R = sum over pairs of tasks of |w_s - w_t|^2`, where `w_t` is all that task `t` has of its own (soft sharing:
    Duong et al., Low Resource Dependency Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser, ACL
    2015, for two parsers).

    It is `MeanRegularized` times the number of tasks, and computed so. Pairs that differ: `GraphLaplacian`; pairs
    whose relation is learned: `TaskRelation`.
    """

    strength: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        on: str | None = None,
    ) -> None: ...

class GraphLaplacian(Component):
    """`R = tr(W L W^T) = sum over pairs of tasks of A_st |w_s - w_t|^2` for a given relation `A`, with its Laplacian
    `L = diag(A 1) - A` and columns `w_t` of `W`, all that task `t` has of its own (Evgeniou, Micchelli and Pontil,
    Learning Multiple Tasks with Kernel Methods, JMLR 2005).
    """

    strength: float
    relation: Sequence[Sequence[float]] | None
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        relation: Sequence[Sequence[float]] | None = None,
        on: str | None = None,
    ) -> None: ...

class TaskRelation(Component):
    """`R = tr(W Omega^-1 W^T)` with a covariance `Omega` of the tasks that is learned: of all with trace 1,
    `Omega = (W^T W)^(1/2) / tr((W^T W)^(1/2))` makes `R` least (Zhang and Yeung, A Convex Formulation for Learning Task
    Relationships in Multi-Task Learning, UAI 2010). Column `t` of `W` is all that task `t` has of its own.

    Parameters and relation take turns, as in the paper: the gradient is that at a fixed `Omega`, and every `refresh`
    steps `Omega` becomes the closed form, `(Omega + jitter I) / (1 + tasks * jitter)`, which bounds its inverse.
    It starts at `I / tasks`. Read it with `model.relation()`.

    Parameters of different networks can be compared where tasks are linear. Behind hidden layers the relation is not to be
    trusted to say which tasks are alike: `pt.relatedness(model, data, "relation")` compares functions instead.
    """

    strength: float
    refresh: int
    jitter: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        refresh: int = 10,
        jitter: float = 0.001,
        on: str | None = None,
    ) -> None: ...

class Clustered(Component):
    """Tasks that fall into `clusters` unknown groups (Jacob, Bach and Vert, Clustered Multi-Task Learning: A Convex
    Formulation, NIPS 2008). For given groups their penalty is `mean` times the squared length of the tasks' mean,
    `between` times that of the groups' means around it, `within` times that of the tasks around their group's mean, a
    task each: `tr(W Sigma^-1 W^T)`, where column `t` of `W` is all that task `t` has of its own.

    This is their convex relaxation. `R = mean * tasks * |mean of w|^2 + min tr(W P Sigma^-1 (W P)^T)`, where `P` takes
    off the mean, over all `Sigma` with eigenvalues from `1 / within` to `1 / between` and the trace that the groups
    would have. With the singular values `s_k` of `W P` the least is at eigenvalues `clip(mu s_k)`, with the `mu` that
    gives the trace, which is found exactly in each step. So value and gradient are those of the convex penalty itself:
    at its least, the gradient is that at a fixed `Sigma`. Read `Sigma` with `model.relation()`, of trace 1.
    """

    strength: float
    clusters: int
    mean: float
    between: float
    within: float
    on: str | None
    def __init__(
        self,
        strength: float = 0.001,
        clusters: int = 2,
        mean: float = 0.0,
        between: float = 0.1,
        within: float = 1.0,
        on: str | None = None,
    ) -> None: ...

class Orthogonality(Component):
    """`R = sum over pairs of |A B^T|^2` (Frobenius) for a shared weight `A` and a task's own weight `B`, `[out, in]`,
    that read the same input (after the difference loss of Bousmalis et al., Domain Separation Networks, NIPS 2016):
    what tasks have of their own should not be what is shared.

    The paper multiplies the features of a batch, `|H_shared^T H_private|^2`. Here the weights that make them are
    multiplied: the same for linear layers over inputs of unit covariance, and free of the batch. Weights under two
    names of any kind may be compared, such as two subspaces of features: every pair of them that reads the same
    input, once.
    """

    strength: float
    shared: str | None
    private: str | None
    def __init__(
        self,
        strength: float = 0.001,
        shared: str | None = None,
        private: str | None = None,
    ) -> None: ...
