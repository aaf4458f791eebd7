//! What happens at one time, in all rows that still have a position: the gates, and the way back through them.

use crate::machine::real::{LANES, Real};
use crate::vectorised;

/// Some columns of a value: those of a row begin at `row * stride + first`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    pub stride: usize,
    pub first: usize,
    pub count: usize,
}

impl Columns {
    #[inline(always)]
    fn of<T>(self, numbers: &[T], row: usize) -> &[T] {
        &numbers[row * self.stride + self.first..][..self.count]
    }

    #[inline(always)]
    fn of_mut<T>(self, numbers: &mut [T], row: usize) -> &mut [T] {
        &mut numbers[row * self.stride + self.first..][..self.count]
    }
}

/// Numbers of a row that are worked on at once, zeros behind the last.
#[inline(always)]
fn load<T: Real>(from: &[T], at: usize, count: usize) -> [T; LANES] {
    let mut block = [T::ZERO; LANES];
    block[..count].copy_from_slice(&from[at..at + count]);
    block
}

#[inline(always)]
fn store<T: Real>(to: &mut [T], at: usize, count: usize, block: [T; LANES]) {
    to[at..at + count].copy_from_slice(&block[..count]);
}

/// Calls `$block(column, count)` for blocks of columns, the last of which may be smaller: by name, so that whole ones are
/// compiled for a size that is known.
macro_rules! by_blocks {
    ($width:expr, |$at:ident, $count:ident| $block:expr) => {{
        let whole = $width / LANES * LANES;
        for block in 0..$width / LANES {
            let $at = block * LANES;
            let $count = LANES;
            $block
        }
        if whole < $width {
            let $at = whole;
            let $count = $width - whole;
            $block
        }
    }};
}

/// What the forward of one time reads: the input's part, and where its rows are.
#[derive(Clone, Copy)]
pub(super) struct Given<'a, T> {
    pub x: &'a [T],
    pub of_x: Columns,
    pub positions: &'a [u32],
    /// Of a GRU.
    pub bias: &'a [T],
}

/// What it works on, a row after the other, and what it fills of the output.
pub(super) struct Worked<'a, T> {
    /// `W h`, which become the gates, `[rows, gates * width]`.
    pub gates: &'a mut [T],
    /// What else the backward wants to know.
    pub kept: &'a mut [T],
    /// `c` of an LSTM, `[rows, width]`.
    pub state: &'a mut [T],
    /// `h`, `[rows, width]`.
    pub hidden: &'a mut [T],
    pub y: &'a mut [T],
    pub of_y: Columns,
}

vectorised! {
/// One time of an LSTM.
pub(super) fn lstm<T: Real>(given: Given<'_, T>, worked: Worked<'_, T>) {
    let Given { x, of_x, positions, .. } = given;
    let Worked { gates, kept, state, hidden, y, of_y } = worked;
    let width = of_y.count;
    for (row, &position) in positions.iter().enumerate() {
        let x = of_x.of(x, position as usize);
        let y = of_y.of_mut(y, position as usize);
        let gates = &mut gates[row * 4 * width..][..4 * width];
        let kept = &mut kept[row * 2 * width..][..2 * width];
        let state = &mut state[row * width..][..width];
        let hidden = &mut hidden[row * width..][..width];
        by_blocks!(width, |j, n| lstm_block(x, gates, kept, state, [hidden, y], width, j, n));
    }
}
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn lstm_block<T: Real>(
    x: &[T],
    gates: &mut [T],
    kept: &mut [T],
    state: &mut [T],
    [hidden, y]: [&mut [T]; 2],
    width: usize,
    j: usize,
    n: usize,
) {
    let mut i = load(gates, j, n);
    let mut f = load(gates, width + j, n);
    let mut g = load(gates, 2 * width + j, n);
    let mut o = load(gates, 3 * width + j, n);
    let of_x = [load(x, j, n), load(x, width + j, n), load(x, 2 * width + j, n), load(x, 3 * width + j, n)];
    let before = load(state, j, n);
    let mut c = before;
    let mut bent = before;
    let mut h = before;
    for k in 0..LANES {
        i[k] = (i[k] + of_x[0][k]).sigmoid();
    }
    for k in 0..LANES {
        f[k] = (f[k] + of_x[1][k]).sigmoid();
    }
    for k in 0..LANES {
        g[k] = (g[k] + of_x[2][k]).tanh();
    }
    for k in 0..LANES {
        o[k] = (o[k] + of_x[3][k]).sigmoid();
    }
    for k in 0..LANES {
        c[k] = f[k] * before[k] + i[k] * g[k];
        bent[k] = c[k].tanh();
        h[k] = o[k] * bent[k];
    }
    store(gates, j, n, i);
    store(gates, width + j, n, f);
    store(gates, 2 * width + j, n, g);
    store(gates, 3 * width + j, n, o);
    store(kept, j, n, before);
    store(kept, width + j, n, bent);
    store(state, j, n, c);
    store(hidden, j, n, h);
    store(y, j, n, h);
}

vectorised! {
/// One time of a GRU.
pub(super) fn gru<T: Real>(given: Given<'_, T>, worked: Worked<'_, T>) {
    let Given { x, of_x, positions, bias } = given;
    let Worked { gates, kept, hidden, y, of_y, .. } = worked;
    let width = of_y.count;
    for (row, &position) in positions.iter().enumerate() {
        let x = of_x.of(x, position as usize);
        let y = of_y.of_mut(y, position as usize);
        let gates = &mut gates[row * 3 * width..][..3 * width];
        let kept = &mut kept[row * width..][..width];
        let hidden = &mut hidden[row * width..][..width];
        by_blocks!(width, |j, n| gru_block([x, bias], gates, kept, [hidden, y], width, j, n));
    }
}
}

#[inline(always)]
fn gru_block<T: Real>(
    [x, bias]: [&[T]; 2],
    gates: &mut [T],
    kept: &mut [T],
    [hidden, y]: [&mut [T]; 2],
    width: usize,
    j: usize,
    n: usize,
) {
    let mut r = load(gates, j, n);
    let mut z = load(gates, width + j, n);
    let mut own = load(gates, 2 * width + j, n);
    let of_x = [load(x, j, n), load(x, width + j, n), load(x, 2 * width + j, n)];
    let bias = load(bias, j, n);
    let mut new = own;
    let mut h = load(hidden, j, n);
    for k in 0..LANES {
        r[k] = (r[k] + of_x[0][k]).sigmoid();
    }
    for k in 0..LANES {
        z[k] = (z[k] + of_x[1][k]).sigmoid();
    }
    for k in 0..LANES {
        own[k] += bias[k];
        new[k] = (of_x[2][k] + r[k] * own[k]).tanh();
    }
    for k in 0..LANES {
        h[k] = new[k] + z[k] * (h[k] - new[k]);
    }
    store(gates, j, n, r);
    store(gates, width + j, n, z);
    store(gates, 2 * width + j, n, new);
    store(kept, j, n, own);
    store(hidden, j, n, h);
    store(y, j, n, h);
}

/// What the backward of one time reads, of all lanes.
#[derive(Clone, Copy)]
pub(super) struct Arriving<'a, T> {
    pub lanes: usize,
    pub dy: &'a [T],
    pub of_y: Columns,
    pub positions: &'a [u32],
    pub gates: &'a [T],
    pub kept: &'a [T],
    /// `h` of before.
    pub before: &'a [T],
}

/// What it fills: lanes of a row beside each other.
pub(super) struct Leaving<'a, T> {
    /// The gradient at `h`, which comes back from the next time, `[rows, lanes, width]`.
    pub hidden: &'a mut [T],
    /// Likewise at `c`.
    pub state: &'a mut [T],
    /// At `W h`, `[rows, lanes, gates * width]`.
    pub inner: &'a mut [T],
    /// At the input, if that is wanted, and whether it is added.
    pub dx: Option<(&'a mut [T], Columns, bool)>,
}

vectorised! {
/// The way back through one time of an LSTM.
pub(super) fn lstm_back<T: Real>(arriving: Arriving<'_, T>, leaving: Leaving<'_, T>) {
    let Arriving { lanes, dy, of_y, positions, gates, kept, .. } = arriving;
    let Leaving { hidden, state, inner, mut dx } = leaving;
    let width = of_y.count;
    for (row, &position) in positions.iter().enumerate() {
        let gates = &gates[row * 4 * width..][..4 * width];
        let kept = &kept[row * 2 * width..][..2 * width];
        for lane in 0..lanes {
            let at = row * lanes + lane;
            let dy = of_y.of(dy, position as usize * lanes + lane);
            let hidden = &hidden[at * width..][..width];
            let state = &mut state[at * width..][..width];
            let inner = &mut inner[at * 4 * width..][..4 * width];
            by_blocks!(width, |j, n| lstm_back_block([dy, hidden, gates, kept], state, inner, width, j, n));
            if let Some((dx, of_x, add)) = &mut dx {
                hand_on(of_x.of_mut(dx, position as usize * lanes + lane), inner, *add);
            }
        }
    }
}
}

#[inline(always)]
fn lstm_back_block<T: Real>(
    [dy, hidden, gates, kept]: [&[T]; 4],
    state: &mut [T],
    inner: &mut [T],
    width: usize,
    j: usize,
    n: usize,
) {
    let (i, f) = (load(gates, j, n), load(gates, width + j, n));
    let (g, o) = (load(gates, 2 * width + j, n), load(gates, 3 * width + j, n));
    let (before, bent) = (load(kept, j, n), load(kept, width + j, n));
    let mut dh = load(dy, j, n);
    let carried = load(hidden, j, n);
    let mut dc = load(state, j, n);
    let [mut di, mut df, mut dg, mut dout] = [[T::ZERO; LANES]; 4];
    for k in 0..LANES {
        dh[k] += carried[k];
        dout[k] = dh[k] * bent[k] * (o[k] * (T::ONE - o[k]));
        dc[k] += dh[k] * o[k] * (T::ONE - bent[k] * bent[k]);
        di[k] = dc[k] * g[k] * (i[k] * (T::ONE - i[k]));
        df[k] = dc[k] * before[k] * (f[k] * (T::ONE - f[k]));
        dg[k] = dc[k] * i[k] * (T::ONE - g[k] * g[k]);
        dc[k] = dc[k] * f[k];
    }
    store(inner, j, n, di);
    store(inner, width + j, n, df);
    store(inner, 2 * width + j, n, dg);
    store(inner, 3 * width + j, n, dout);
    store(state, j, n, dc);
}

vectorised! {
/// The way back through one time of a GRU; what comes back to `h` past `W` is left in the place of what came.
pub(super) fn gru_back<T: Real>(arriving: Arriving<'_, T>, leaving: Leaving<'_, T>) {
    let Arriving { lanes, dy, of_y, positions, gates, kept, before } = arriving;
    let Leaving { hidden, inner, mut dx, .. } = leaving;
    let width = of_y.count;
    for (row, &position) in positions.iter().enumerate() {
        let gates = &gates[row * 3 * width..][..3 * width];
        let own = &kept[row * width..][..width];
        let before = &before[row * width..][..width];
        for lane in 0..lanes {
            let at = row * lanes + lane;
            let of_position = position as usize * lanes + lane;
            let dy = of_y.of(dy, of_position);
            let hidden = &mut hidden[at * width..][..width];
            let inner = &mut inner[at * 3 * width..][..3 * width];
            // Only what reaches `n` differs between the input and `W h`, of which `r` lets a part through.
            match &mut dx {
                Some((dx, of_x, add)) => {
                    let dx = of_x.of_mut(dx, of_position);
                    by_blocks!(width, |j, n| {
                        let of_new = gru_back_block([dy, gates, own, before], hidden, inner, width, j, n);
                        put(dx, 2 * width + j, n, of_new, *add);
                    });
                    hand_on(&mut dx[..2 * width], &inner[..2 * width], *add);
                }
                None => by_blocks!(width, |j, n| {
                    let _ = gru_back_block([dy, gates, own, before], hidden, inner, width, j, n);
                }),
            }
        }
    }
}
}

#[inline(always)]
fn gru_back_block<T: Real>(
    [dy, gates, own, before]: [&[T]; 4],
    hidden: &mut [T],
    inner: &mut [T],
    width: usize,
    j: usize,
    n: usize,
) -> [T; LANES] {
    let (r, z, new) = (load(gates, j, n), load(gates, width + j, n), load(gates, 2 * width + j, n));
    let (own, before) = (load(own, j, n), load(before, j, n));
    let mut dh = load(dy, j, n);
    let mut carried = load(hidden, j, n);
    let [mut dr, mut dz, mut dn, mut down] = [[T::ZERO; LANES]; 4];
    for k in 0..LANES {
        dh[k] += carried[k];
        dn[k] = dh[k] * (T::ONE - z[k]) * (T::ONE - new[k] * new[k]);
        dz[k] = dh[k] * (before[k] - new[k]) * (z[k] * (T::ONE - z[k]));
        dr[k] = dn[k] * own[k] * (r[k] * (T::ONE - r[k]));
        down[k] = dn[k] * r[k];
        carried[k] = dh[k] * z[k];
    }
    store(inner, j, n, dr);
    store(inner, width + j, n, dz);
    store(inner, 2 * width + j, n, down);
    store(hidden, j, n, carried);
    dn
}

#[inline(always)]
fn put<T: Real>(to: &mut [T], at: usize, count: usize, mut block: [T; LANES], add: bool) {
    if add {
        let there = load(to, at, count);
        for k in 0..LANES {
            block[k] += there[k];
        }
    }
    store(to, at, count, block);
}

#[inline(always)]
fn hand_on<T: Real>(to: &mut [T], from: &[T], add: bool) {
    if !add {
        return to.copy_from_slice(from);
    }
    for (to, &from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

vectorised! {
/// Sums of the last columns of rows, a lane each: `[rows, lanes, wide]` to `[lanes, columns]`, which is replaced or added to.
pub(super) fn sums<T: Real>(rows: &[T], lanes: usize, wide: usize, to: &mut [T], add: bool) {
    if !add {
        to.fill(T::ZERO);
    }
    let columns = to.len() / lanes;
    for row in rows.chunks_exact(lanes * wide) {
        for (row, to) in row.chunks_exact(wide).zip(to.chunks_exact_mut(columns)) {
            for (to, &from) in to.iter_mut().zip(&row[wide - columns..]) {
                *to += from;
            }
        }
    }
}
}
