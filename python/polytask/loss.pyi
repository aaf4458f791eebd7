"""The `loss` components; written by `python -m polytask._stubs`."""

from collections.abc import Mapping, Sequence
from typing import Any

from .components.by_label import Loss

class CrossEntropy(Loss):
    """Cross-entropy between softmax probabilities and one class a row.

    `L = sum_i r_i sum_k t_ik (-ln p_ik) / sum_i r_i w_(y_i)` with
    `t_ik = (1 - s) w_(y_i) [k = y_i] + s w_k / classes`: row weights `r`, class weights `w`, label smoothing `s`
    (Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016). The numbers are those
    of `torch.nn.CrossEntropyLoss`. Predictions are probabilities `[rows, classes]`.
    """

    class_weights: Sequence[float] | Mapping[Any, float] | str | None
    label_smoothing: float
    def __init__(
        self,
        class_weights: Sequence[float] | Mapping[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
    ) -> None: ...

class BinaryCrossEntropy(Loss):
    """Cross-entropy between sigmoid probabilities and labels between 0 and 1, one or several a row.

    `L = mean of -(w y ln p + (1 - y) ln(1 - p))`, `p = 1 / (1 + exp(-z))`, over the labelled cells, with `w` the
    weight of positive labels. The numbers are those of `torch.nn.BCEWithLogitsLoss`. Predictions are
    probabilities `[rows, outputs]`.
    """

    pos_weight: float | Sequence[float] | Mapping[Any, float] | str | None
    def __init__(
        self,
        pos_weight: float | Sequence[float] | Mapping[Any, float] | str | None = None,
    ) -> None: ...

class Focal(Loss):
    """Focal loss (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017).

    `L = mean of -alpha (1 - p_t)^gamma ln p_t` over the labelled rows (or cells). With `classes`, `p_t` is the
    softmax probability of the label; otherwise `p_t = y p + (1 - y)(1 - p)` with a sigmoid `p` for each output,
    and `ln p_t` the cross-entropy, as in `torchvision.ops.sigmoid_focal_loss`. Predictions are probabilities.
    """

    gamma: float
    alpha: float | Sequence[float] | Mapping[Any, float] | str | None
    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | Mapping[Any, float] | str | None = None,
    ) -> None: ...

class CRF(Loss):
    """Labels of positions as a linear-chain conditional random field (Lafferty, McCallum & Pereira, Conditional Random Fields,
    ICML 2001): the score of a row's labels `y` is `start[y_1] + sum_t x[t, y_t] + sum_t moves[y_(t-1), y_t] + end[y_n]`,
    where `x` are the task's raw scores and moves, start and end are learned, from 0 on; their probability is the softmax
    of it over all paths of labels.

    `L = sum_i -ln p(known labels of row i) / known labels`, found exactly, over all labels that are missing. What
    is predicted for a position are the probabilities of its labels over all paths (marginals), `[classes]`; metrics judge
    them. For tasks with `per`, on positions within rows.
    """

    def __init__(self) -> None: ...

class Ordinal(Loss):
    """Ordered classes (ratings, degrees of severity), counted from the least one on, by conditional probabilities (CORN:
    Shi, Cao & Raschka, Deep Neural Networks for Rank-Consistent Ordinal Regression Based on Conditional
    Probabilities, Pattern Analysis and Applications 2023; for linear models the continuation-ratio model).

    Raw outputs are `[rows, classes - 1]`, of which number `k` says whether a label that is at least `k` is more:
    `p(y > k | y >= k) = 1 / (1 + exp(-z_k))`. So `p(y > k)` is the product of the first `k + 1` of these, which never
    rises with `k`, and predictions are the probabilities of classes `[rows, classes]`.

    `L = sum_i r_i w_(y_i) (-ln p(y_i)) / sum_i r_i w_(y_i)` with row weights `r` and class weights `w`, where
    `-ln p(y) = sum_(k < y) ln(1 + exp(-z_k)) + [y < classes - 1] ln(1 + exp(z_y))`. The authors divide by the number
    of such terms instead, which differs from batch to batch.
    """

    class_weights: Sequence[float] | Mapping[Any, float] | str | None
    def __init__(
        self,
        class_weights: Sequence[float] | Mapping[Any, float] | str | None = None,
    ) -> None: ...

class Tree(Loss):
    """Positions that are attached to one position of their row each, with a kind, as the words of a sentence in a dependency
    tree (Dozat & Manning, Deep Biaffine Attention for Neural Dependency Parsing, ICLR 2017):
    `p(i, j, k) = p(j | i) p(k | i, j)`, the softmax of scores of arcs over all positions `j` of the row, `i` itself included,
    which stands for the root, and that of scores of kinds.

    `L = -mean over labelled positions i of ln p(i, j, k)`. What is predicted for a pair are the probabilities that `i`
    is not attached to `j`, and that it is, by each kind, `[1 + kinds]`. For tasks with `per="pair"` and `tree=True`.
    """

    def __init__(self) -> None: ...

class MeanSquared(Loss):
    """Squared error: `L = mean of (z - y)^2` over the labelled cells, as `torch.nn.MSELoss`."""

    def __init__(self) -> None: ...

class MeanAbsolute(Loss):
    """Absolute error: `L = mean of |z - y|` over the labelled cells, as `torch.nn.L1Loss`; slope 0 at `z = y`."""

    def __init__(self) -> None: ...

class Huber(Loss):
    """Huber's loss (Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 1964), as
    `torch.nn.HuberLoss`: with `e = z - y`, `L = mean of e^2 / 2` where `|e| < delta`, `delta (|e| - delta / 2)`
    elsewhere, over the labelled cells.
    """

    delta: float
    def __init__(
        self,
        delta: float = 1.0,
    ) -> None: ...

class Quantile(Loss):
    """Pinball loss of several quantiles at once (Koenker and Bassett, Regression Quantiles, Econometrica 1978).

    `L = mean of max(q (y - z_q), (q - 1) (y - z_q))` over the quantiles `q` and the labelled cells; slope 0 at
    `z_q = y`. Raw outputs and predictions are `[rows, outputs * quantiles]`, the quantiles of one output side by
    side.
    """

    quantiles: Sequence[float]
    def __init__(
        self,
        quantiles: Sequence[float] = [0.1, 0.5, 0.9],
    ) -> None: ...

class Poisson(Loss):
    """Negative log-likelihood of counts under a Poisson law whose log-rate is the raw output:
    `L = mean of exp(z) - y z` over the labelled cells, without the constant `ln y!`, as
    `torch.nn.PoissonNLLLoss(log_input=True)`. Beyond `z = 60` the exponential continues as its tangent.
    Labels are at least 0; predictions are rates `[rows, outputs]`.
    """

    def __init__(self) -> None: ...

class GaussianNLL(Loss):
    """Negative log-likelihood under a normal law whose mean and variance are both predicted (Nix and Weigend,
    Estimating the Mean and Variance of the Target Probability Distribution, ICNN 1994).

    `L = mean of (ln v + (y - m)^2 / v) / 2` over the labelled cells, without the constant `ln(2 pi) / 2`, as
    `torch.nn.GaussianNLLLoss`, with `v = ln(1 + exp(s)) + epsilon` (Lakshminarayanan et al., NeurIPS 2017).
    Raw outputs are `[rows, outputs * 2]`, `m` and `s` of one output side by side; predictions likewise `m` and `v`.
    """

    epsilon: float
    def __init__(
        self,
        epsilon: float = 1e-06,
    ) -> None: ...

class Ranking(Loss):
    """Learning to rank the positions of each row, such as the documents found for a query or the items shown to a user, by
    the cross-entropy of the list (ListNet with the top-one probability: Cao, Qin, Liu, Tsai & Li, Learning to Rank: From
    Pairwise Approach to Listwise Approach, ICML 2007, with shares of the relevance instead of its softmax: Bruch, Wang,
    Bendersky & Najork, An Analysis of the Softmax Cross Entropy Loss for Learning-to-Rank with Binary Relevance, ICTIR
    2019).

    `L = sum_i r_i sum_j (y_ij / sum_k y_ik) (ln sum_k exp(z_ik) - z_ij) / sum_i r_i` with row weights `r`, scores `z`
    and relevances `y`, numbers from 0 on such as 1 for a click or 0 to 4 for degrees. All sums are over positions whose
    relevance is known: one that is missing (NaN) is no part of its row's list. Rows without a position that is relevant
    say nothing about the order, and count neither above nor below. Of several outputs each has lists of its own.

    Predictions are scores, of which only the order and the differences within a row mean something; `"ndcg"`,
    `"ndcg@10"` and `"mrr"` judge them. For tasks with `per`, on positions within rows.
    """

    def __init__(self) -> None: ...
