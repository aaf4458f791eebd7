"""The `encoder` components; written by `python -m polytask._stubs`."""

from collections.abc import Sequence

from .components.component import Component
from .components.own_module import OfEncoder

class MLP(Component):
    """Multi-layer perceptron: layers of linear, normalisation, activation, dropout.

    Weights and biases start uniform in plus or minus `1/sqrt(inputs)`, as `torch.nn.Linear` does.
    With `residual=True` a layer whose input has its own width adds that input to its result.
    """

    hidden: int | Sequence[int]
    activation: str | None
    dropout: float
    norm: str | None
    residual: bool
    def __init__(
        self,
        hidden: int | Sequence[int] = [128],
        activation: str | None = "relu",
        dropout: float = 0.0,
        norm: str | None = None,
        residual: bool = False,
    ) -> None: ...

class Window(Component):
    """Each position together with its neighbours within the row, through layers of linear and activation (the window approach
    of Collobert et al., JMLR 2011). Tasks of positions read what comes out, tasks of rows pool it.

    The first layer sees `2 * radius + 1` positions, zeros beyond the ends of a row.
    """

    hidden: int | Sequence[int]
    radius: int
    activation: str | None
    dropout: float
    pool: str
    def __init__(
        self,
        hidden: int | Sequence[int] = [128],
        radius: int = 1,
        activation: str | None = "relu",
        dropout: float = 0.0,
        pool: str = "mean",
    ) -> None: ...

class Convolution1d(Component):
    """Layers of convolution over the positions of each row (Waibel, Hanazawa, Hinton, Shikano & Lang, IEEE Transactions on
    Acoustics, Speech, and Signal Processing 1989; of texts Collobert et al., JMLR 2011, and Kim, EMNLP 2014). Tasks of
    positions read what comes out, tasks of rows pool it.

    A layer is `activation(bias + sum over k of W_k x_(i + dilation * (k - (width - 1) / 2)))`, with zeros beyond the ends of
    a row, so that each row keeps its positions: what `torch.nn.Conv1d` computes with `padding=dilation * (width - 1) // 2`. A
    layer is a stage, which schemes may share, mix or branch after; each lets a position see `dilation * (width - 1) / 2` more on
    both sides. Its weight is `[hidden, width * inputs]`, the inputs of the leftmost place first. Weights and biases start
    uniform in plus or minus `1/sqrt(width * inputs)`, as PyTorch's do.
    """

    hidden: int | Sequence[int]
    width: int
    dilation: int | Sequence[int]
    activation: str | None
    dropout: float
    residual: bool
    pool: str
    def __init__(
        self,
        hidden: int | Sequence[int] = [128],
        width: int = 3,
        dilation: int | Sequence[int] = [1],
        activation: str | None = "relu",
        dropout: float = 0.0,
        residual: bool = False,
        pool: str = "mean",
    ) -> None: ...

class TabM(Component):
    """TabM (Gorishniy, Kotelnikov & Babenko, TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling, ICLR
    2025): an ensemble of MLPs that share most of their weights, which makes tables the better for many weak members.

    All members see all rows. The loss that is trained on is the mean over members, each with its own last layer of the
    heads; what is predicted, measured and evaluated is the mean of their predictions (of probabilities, rates, or means
    and variances). `"full"` is the paper's TabM: each layer is `act(s * (W (r * x)) + b)` with `r`, `s` and `b` of each
    member's own (Wen, Tran & Ba, BatchEnsemble, ICLR 2020); `"mini"` keeps the first `r` alone, `"packed"` shares nothing.
    It takes tables; positions within rows it does not. A loss or a head of your own sees a row for each member.
    """

    hidden: int | Sequence[int]
    members: int
    variant: str
    first: str
    activation: str | None
    dropout: float
    def __init__(
        self,
        hidden: int | Sequence[int] = [256, 256, 256],
        members: int = 32,
        variant: str = "full",
        first: str = "signs",
        activation: str | None = "relu",
        dropout: float = 0.1,
    ) -> None: ...

class Residual(Component):
    """A residual network for tables (Gorishniy, Rubachev, Khrulkov & Babenko, Revisiting Deep Learning Models for Tabular Data,
    NeurIPS 2021): a linear layer to the width of all blocks, then blocks
    `x + drop(linear(drop(activation(linear(norm(x))))))`, and at the end `activation(norm(x))`.

    What one block makes is added to what the others made, so that deep ones learn like shallow ones. Each block is a stage
    that schemes may share or branch at.
    """

    width: int
    blocks: int
    hidden: int
    dropout: float
    residual_dropout: float
    norm: str | None
    activation: str | None
    def __init__(
        self,
        width: int = 192,
        blocks: int = 2,
        hidden: int = 256,
        dropout: float = 0.2,
        residual_dropout: float = 0.0,
        norm: str | None = "batch",
        activation: str | None = "relu",
    ) -> None: ...

class Cross(Component):
    """DCN-V2 (Wang, Shivanna, Cheng, Jain, Lin, Hong & Chi, DCN V2: Improved Deep & Cross Network and Practical Lessons for
    Web-scale Learning to Rank Systems, WWW 2021): cross layers, which multiply features with each other, and deep ones.

    With the features `x_0`, embeddings among them, a cross layer is `x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`, number by
    number: `layers` of them reach products of `layers + 1` features. With `rank`, `W_l = U_l V_l` has that many rows
    between, which takes `2 width rank` parameters instead of `width^2`. Deep layers are those of `pt.encoder.MLP`,
    over the last cross layer, or beside it as far as the representation, which is then both of them; with `hidden=[]`
    there are cross layers alone. The paper's mixture of low-rank experts is not here.

    All cross layers, which read `x_0`, are one stage that schemes may share or branch after, each deep layer over them
    is another; with `"parallel"` all is one stage. Weights and biases start uniform in plus or minus `1/sqrt(inputs)`.
    """

    hidden: int | Sequence[int]
    layers: int
    rank: int | None
    structure: str
    activation: str | None
    dropout: float
    def __init__(
        self,
        hidden: int | Sequence[int] = [128],
        layers: int = 2,
        rank: int | None = None,
        structure: str = "stacked",
        activation: str | None = "relu",
        dropout: float = 0.0,
    ) -> None: ...

class Recurrent(Component):
    """Recurrent layers over the positions of each row, forward and backward: LSTM (Hochreiter & Schmidhuber, Neural
    Computation 1997) with forget gates, GRU (Cho et al., EMNLP 2014), bidirectional (Schuster & Paliwal, IEEE
    Transactions on Signal Processing 1997). Tasks of positions read what comes out, tasks of rows pool it.

    The equations are those of `torch.nn.LSTM` and `torch.nn.GRU`: gates in the order `i`, `f`, `g`, `o`, or `r`, `z`,
    `n` with `n = tanh(W_in x + b_in + r * (W_hn h + b_hn))`. A layer is a stage, which schemes may share, mix or branch
    after; a bidirectional one has `2 * hidden` numbers a position, those of the forward direction first, each of which
    has seen all positions of its row. `h` and `c` are 0 before a row's first position. Weights start uniform in plus or
    minus `1/sqrt(hidden)`, biases at 0; an LSTM has one bias a gate, which is as much as PyTorch's two.
    """

    hidden: int | Sequence[int]
    cell: str
    bidirectional: bool
    dropout: float
    pool: str
    def __init__(
        self,
        hidden: int | Sequence[int] = [128],
        cell: str = "lstm",
        bidirectional: bool = True,
        dropout: float = 0.0,
        pool: str = "mean",
    ) -> None: ...

class Transformer(Component):
    """A transformer over the positions of each row (Vaswani et al., Attention Is All You Need, NeurIPS 2017), with normalisation
    before each part (Xiong et al., On Layer Normalization in the Transformer Architecture, ICML 2020). Tasks of positions
    read what comes out, tasks of rows pool it.

    The input goes through a linear layer to `width` numbers a position. A block is `x = x + drop(W_o attend(W_i norm(x)))`,
    where each position attends to all of its own row in each head, by `softmax(q k / sqrt(width / heads))`, and then `x = x +
    drop(W_2 drop(gelu(W_1 norm(x))))`; behind the last one is a normalisation. A block is a stage, which schemes may share,
    mix or branch after. Rows are not padded, and no weights of attention are kept: memory grows with the positions of a batch,
    time with the squares of rows' lengths.

    Without `positions` the order of a row's positions changes nothing. `"rotary"` turns pairs of numbers of queries and keys
    by the place times `10000^(-2i/d)` (Su et al., RoFormer, 2021), so that weights depend on distances; a pair is a number of
    a head's first half and that of its second. `"learned"` adds the row of a table, which starts normal with a deviation of
    0.02. Layers start as `torch.nn.Linear` does.
    """

    layers: int
    width: int
    heads: int
    feedforward: int
    dropout: float
    positions: str | None
    max_length: int | None
    pool: str
    def __init__(
        self,
        layers: int = 2,
        width: int = 128,
        heads: int = 4,
        feedforward: int = 4,
        dropout: float = 0.1,
        positions: str | None = "rotary",
        max_length: int | None = None,
        pool: str = "mean",
    ) -> None: ...

Torch = OfEncoder
