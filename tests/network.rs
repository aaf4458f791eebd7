//! Every node, in all three backwards, against libtorch's autograd in `f64`.

use polytask::component::Sizes;
use polytask::encoder::Encoder;
use polytask::encoder::convolution1d::Convolution1d;
use polytask::input::{Bag, Bend, Combine, Convolution, Embed, Inputs, NOTHING};
use polytask::machine::foreign::{Foreign, Received, Tensors, Tied};
use polytask::machine::half as halves;
use polytask::machine::random::Stream;
use polytask::machine::storage::{Backend, Storage};
use polytask::model::assemble;
use polytask::network::axis::Extents;
use polytask::network::axis::{By, Extent, Link};
use polytask::network::builder::{Builder, FormSize, Limit, Pool};
use polytask::network::nodes::activation::Activation;
use polytask::network::nodes::embedding::Feature;
use polytask::network::nodes::island::Module;
use polytask::network::nodes::mixture::Experts;
use polytask::network::nodes::recur::Cell;
use polytask::network::nodes::stitch::{MixRule, Mixing};
use polytask::network::pass::{Pass, Purpose, Step, Store};
use polytask::network::plan::Plan;
use polytask::network::{AxisId, InputKind, Network, Output, ROWS, ValueId};
use polytask::parameters::flat::Params;
use polytask::parameters::touched::SparseGradient;
use polytask::parameters::{Entry, Init, Reach};
use polytask::task::Task;
use polytask::{encoder, head, sharing};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-9;
/// Formulas alone, on the processor.
const FORMULAS: Backend = Backend::Formulas(Device::Cpu);

/// Sets all elements.
fn fill(memory: &mut Storage<f64>, number: f64) {
    let count = memory.layout().len();
    memory.put(0, &vec![number; count]).unwrap();
}

/// Tensors of every parameter, by name, and the inputs: what a reference forward needs.
struct Reference {
    params: Vec<(String, Tensor)>,
    numeric: Tensor,
    codes: Tensor,
    /// Of positions: each one's code and numbers, and how many each row has.
    tokens: Tensor,
    frames: Tensor,
    lengths: Vec<i64>,
    /// Of the positions of a grid.
    pixels: Tensor,
}

/// Rows of different lengths: two inputs of positions, a code and numbers, on the axis behind that of rows.
struct Ragged {
    lengths: Vec<usize>,
    /// Positions that a plan has room for.
    room: usize,
    tokens: Vec<u32>,
    frames: Vec<f64>,
    /// What nodes are shown of labels, a third of them missing.
    shown: Vec<(usize, Vec<i32>)>,
}

impl Reference {
    fn param(&self, name: &str) -> &Tensor {
        &self.params.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no parameter {name}")).1
    }

    fn linear(&self, x: &Tensor, path: &str) -> Tensor {
        x.linear(self.param(&format!("{path}.weight")), Some(self.param(&format!("{path}.bias"))))
    }
}

struct Case {
    net: Network,
    rows: usize,
    params: Params<f64>,
    plan: Plan<f64>,
    codes: Vec<u32>,
    numeric: Vec<f64>,
    ragged: Option<Ragged>,
    /// Numbers of the positions of a grid, if the last input is one's.
    pixels: Vec<f64>,
    seeds: Vec<Vec<f64>>,
}

fn random(stream: Stream, len: usize) -> Vec<f64> {
    (0..len).map(|i| stream.normal(i as u64)).collect()
}

impl Ragged {
    fn new(net: &Network, lengths: &[usize], spare: usize, seed: u64) -> Self {
        let count: usize = lengths.iter().sum();
        let InputKind::Codes(columns) = &net.inputs[2].kind else { panic!("tokens") };
        let token = |i: u64| (Stream::new(seed, &[98, 1]).bits(i) % columns[0] as u64) as u32;
        let labels = |&(_, input): &(usize, usize)| {
            let InputKind::Codes(columns) = &net.inputs[input].kind else { panic!("labels") };
            let bits = |i: usize| Stream::new(seed, &[98, 3, input as u64]).bits(i as u64);
            let label = |i: usize| if bits(2 * i) % 3 == 0 { -1 } else { (bits(2 * i + 1) % columns[0] as u64) as i32 };
            (input, (0..count * columns.len()).map(label).collect())
        };
        Self {
            shown: net.shown.iter().map(labels).collect(),
            lengths: lengths.to_vec(),
            room: count + spare,
            tokens: (0..count as u64).map(token).collect(),
            frames: random(Stream::new(seed, &[98, 2]), count * net.width_of(3)),
        }
    }

    /// Where each row's positions begin, and the last row's end.
    fn starts(&self) -> Vec<i32> {
        let ends = self.lengths.iter().scan(0, |end, &length| {
            *end += length as i32;
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// Fills a plan's inputs, zeros beyond the last position.
    fn load(&self, plan: &mut Plan<f64>) {
        plan.place(1, &self.starts()).unwrap();
        let tokens: Vec<_> = self.tokens.iter().map(|&token| token as i32).collect();
        plan.codes(2).clear_all().unwrap();
        plan.codes(2).put(0, &tokens).unwrap();
        fill(plan.real(3), 0.0);
        plan.real(3).put(0, &self.frames).unwrap();
        for (input, labels) in &self.shown {
            let room = plan.codes(*input).layout().len();
            plan.codes(*input).put(0, &vec![-1; room]).unwrap();
            plan.codes(*input).put(0, labels).unwrap();
        }
    }
}

impl Case {
    fn new(net: Network, rows: usize, seed: u64) -> Self {
        Self::with(net, rows, None, seed)
    }

    /// Of a network with positions, of so many in each row, and room for some more.
    fn of_positions(net: Network, lengths: &[usize], spare: usize, seed: u64) -> Self {
        let ragged = Ragged::new(&net, lengths, spare, seed);
        Self::with(net, lengths.len(), Some(ragged), seed)
    }

    fn with(net: Network, rows: usize, ragged: Option<Ragged>, seed: u64) -> Self {
        let stream = |k| Stream::new(seed, &[99, k]);
        let mut params = Params::<f64>::new(&net.params, &net.state, seed).unwrap();
        for entry in net.entries.iter().filter(|e| e.param.is_some()) {
            // Norms start as the identity and biases small: move everything so that nothing is hidden by a zero.
            let noise = random(stream(entry.range.start as u64 + 1000), entry.range.len());
            let mut values = params.values.numbers(entry.range.clone()).unwrap().into_owned();
            values.iter_mut().zip(noise).for_each(|(p, n)| *p += 0.3 * n);
            params.values.put(entry.range.start, &values).unwrap();
        }
        // SAFETY: no slice of the parameters is held while the plan runs.
        let room = extents(&net, rows, ragged.as_ref());
        // SAFETY: no slice of the parameters is held while the plan runs.
        let mut plan = unsafe { Plan::new(&net, &params, room, Purpose::BOTH) }.unwrap();
        if let Some(ragged) = &ragged {
            ragged.load(&mut plan);
        }
        let numeric = random(stream(1), rows * net.width_of(0));
        let InputKind::Codes(columns) = &net.inputs[1].kind else { panic!("a table's codes") };
        let code = |i: usize| (stream(2).bits(i as u64) % columns[i % columns.len()] as u64) as u32;
        let codes = (0..rows * columns.len()).map(code).collect();
        let seeds = net.outputs.iter().enumerate().map(|(t, output)| {
            let width = output.columns.len();
            let rows = plan.count(net.values[output.value].axis);
            let mut seed = random(stream(3 + t as u64), rows * width);
            // Rows without a label.
            (0..rows).filter(|r| (r + t) % 3 == 0).for_each(|r| seed[r * width..(r + 1) * width].fill(0.0));
            seed
        });
        let seeds = seeds.collect();
        let grid = net.inputs.last().filter(|input| ragged.is_none() && input.axis != ROWS);
        let pixels = grid.map_or(0, |input| plan.count(input.axis) * net.width_of(net.inputs.len() - 1));
        let pixels = random(stream(90), pixels);
        Self { net, rows, params, plan, codes, numeric, ragged, pixels, seeds }
    }

    fn step(&self, training: bool) -> Step<'static> {
        Step { seed: 5, number: 3, training, accumulate: false, weights: &[], share: 1.0 }
    }

    fn run(&mut self, pass: Pass, training: bool) -> Vec<Vec<f64>> {
        let step = self.step(training);
        self.run_step(pass, &step)
    }

    fn run_step(&mut self, pass: Pass, step: &Step<'_>) -> Vec<Vec<f64>> {
        self.plan.real(0).put(0, &self.numeric).unwrap();
        let codes: Vec<_> = self.codes.iter().map(|&code| code as i32).collect();
        self.plan.codes(1).put(0, &codes).unwrap();
        if let Some(ragged) = &self.ragged {
            ragged.load(&mut self.plan);
        } else if !self.pixels.is_empty() {
            self.plan.real(self.net.inputs.len() - 1).put(0, &self.pixels).unwrap();
        }
        self.plan.forward(step).unwrap();
        // What a step before left in the values' gradients must not matter, not even what is no number.
        for value in 0..self.net.values.len() {
            if let Some(gradient) = self.plan.gradient(value, pass) {
                fill(gradient, f64::NAN);
            }
        }
        self.plan.clear(pass).unwrap();
        let mut outputs = Vec::new();
        for (task, seed) in self.seeds.iter().enumerate() {
            let mut output = self.plan.raw(task).unwrap();
            let mut seed = seed.clone();
            // Beyond the last position an output may be anything, and its gradient is zero.
            let room = output.len();
            output.truncate(seed.len());
            outputs.push(output);
            seed.resize(room, 0.0);
            self.plan.set_gradient(task, pass, &seed).unwrap();
        }
        self.plan.backward(step, pass).unwrap();
        outputs
    }

    fn reference(&self) -> Reference {
        let tensor = |data: &[f64], shape: &[usize]| {
            Tensor::from_slice(data).reshape(shape.iter().map(|&n| n as i64).collect::<Vec<_>>())
        };
        let values = self.params.values.all().unwrap();
        let named = self.net.entries.iter().filter(|e| e.param.is_some());
        let params =
            named.map(|e| (e.name.to_string(), tensor(&values[e.range.clone()], &e.shape).set_requires_grad(true)));
        let codes: Vec<_> = self.codes.iter().map(|&c| i64::from(c)).collect();
        let columns = self.net.width_of(1) as i64;
        Reference {
            params: params.collect(),
            numeric: tensor(&self.numeric, &[self.rows, self.net.width_of(0)]),
            codes: Tensor::from_slice(&codes).reshape([self.rows as i64, columns]),
            tokens: Tensor::from_slice(
                &self
                    .ragged
                    .as_ref()
                    .map_or(Vec::new(), |ragged| ragged.tokens.iter().map(|&token| i64::from(token)).collect()),
            ),
            frames: match &self.ragged {
                Some(Ragged { frames, tokens, .. }) => tensor(frames, &[tokens.len(), self.net.width_of(3)]),
                None => tensor(&[], &[0]),
            },
            lengths: self
                .ragged
                .as_ref()
                .map_or(Vec::new(), |ragged| ragged.lengths.iter().map(|&length| length as i64).collect()),
            pixels: Tensor::from_slice(&self.pixels),
        }
    }

    /// Outputs, the summed gradient, the Jacobian and the Gramian against autograd through `forward`.
    fn check(&mut self, training: bool, forward: impl Fn(&Reference) -> Vec<Tensor>) {
        self.check_terms(training, |r| (forward(r), Vec::new(), Vec::new()));
    }

    /// The same with terms of the objective: `forward` gives outputs, what of the terms is in each task's gradient, and
    /// the terms in the network's order, which count while training.
    fn check_terms(&mut self, training: bool, forward: impl Fn(&Reference) -> (Vec<Tensor>, Vec<Tensor>, Vec<Tensor>)) {
        let reference = self.reference();
        let (outputs, of_tasks, terms) = forward(&reference);
        let counts = f64::from(u8::from(training));
        let terms: Vec<_> = terms.iter().map(|term| counts * term.double_value(&[])).collect();
        let leaves: Vec<_> = reference.params.iter().map(|(_, p)| p.shallow_clone()).collect();
        let rows: Vec<Vec<Vec<f64>>> = outputs
            .iter()
            .zip(&self.seeds)
            .enumerate()
            .map(|(task, (output, seed))| {
                let along = (output * Tensor::from_slice(seed).reshape(output.size())).sum(Kind::Double);
                let along = of_tasks.get(task).map_or(along.shallow_clone(), |term| along + term * counts);
                // Parameters of other tasks do not take part; a zero keeps them in the graph.
                let along = leaves.iter().fold(along, |sum, leaf| sum + leaf.sum(Kind::Double) * 0.0);
                let gradients = Tensor::run_backward(&[along], &leaves, true, false);
                gradients.iter().map(|g| Vec::<f64>::try_from(g.reshape([-1])).unwrap()).collect()
            })
            .collect();
        let outputs: Vec<_> = outputs.iter().map(|want| Vec::<f64>::try_from(want.reshape([-1])).unwrap()).collect();
        let state = self.params.state.all().unwrap().into_owned();
        let sparse = self.net.params.iter().any(|param| param.sparse);
        for backend in [FORMULAS, Backend::Loops].into_iter().filter(|backend| !(sparse && *backend == FORMULAS)) {
            self.params.bring_to(backend).unwrap();
            self.params.state.put(0, &state).unwrap();
            fill(&mut self.params.gradients, 0.0);
            self.plan = self.plan_for(Purpose::BOTH);
            self.compare(backend, training, &outputs, &terms, &rows);
        }
    }

    fn plan_for(&self, purpose: Purpose) -> Plan<f64> {
        // SAFETY: no slice of the parameters is held while the plan runs.
        unsafe { Plan::new(&self.net, &self.params, extents(&self.net, self.rows, self.ragged.as_ref()), purpose) }
            .unwrap()
    }

    /// What a plan gives against outputs, terms and each task's gradients of every parameter.
    fn compare(
        &mut self,
        backend: Backend,
        training: bool,
        outputs: &[Vec<f64>],
        terms: &[f64],
        rows: &[Vec<Vec<f64>>],
    ) {
        let state = self.params.state.all().unwrap().into_owned();
        let got = self.run(Pass::Summed, training);
        for (got, want) in got.iter().zip(outputs) {
            close(got, want, &format!("outputs by {backend:?}"));
        }
        let mut got = vec![0.0; self.net.terms().len()];
        self.plan.add_terms(&mut got).unwrap();
        close(&got, terms, &format!("terms by {backend:?}"));
        self.check_summed(rows, "summed");
        self.check_weighed(rows, &state, training);
        self.params.state.put(0, &state).unwrap();
        fill(&mut self.params.gradients, f64::NAN);
        // Twice, since new memory is zero where a later step finds the one before.
        for _ in 0..2 {
            self.params.state.put(0, &state).unwrap();
            self.run(Pass::PerTask, training);
        }
        self.check_per_task(rows);
        let whole = self.plan.slabs().unwrap().gramian().unwrap();
        self.params.state.put(0, &state).unwrap();
        let small = self.plan_for(Purpose::PerTask(Store::Within(0)));
        let large = std::mem::replace(&mut self.plan, small);
        self.run(Pass::PerTask, training);
        let slabs = self.plan.slabs().unwrap();
        close(&slabs.gramian().unwrap(), &whole, "Gramian beyond the budget");
        assert!(self.net.shared().iter().all(|&p| slabs.row(p, 0).unwrap().is_none()));
        if halves::supported() {
            self.params.state.put(0, &state).unwrap();
            self.plan = self.plan_for(Purpose::PerTask(Store::Halves));
            self.run(Pass::PerTask, training);
            let (halved, tasks) = (self.plan.slabs().unwrap().gramian().unwrap(), rows.len());
            for (k, (got, want)) in halved.iter().zip(&whole).enumerate() {
                // A task's norm is a sum of squares of many rounded numbers; products are judged by their tasks' norms.
                let scale = (whole[k / tasks * (tasks + 1)] * whole[k % tasks * (tasks + 1)]).sqrt();
                assert!((got - want).abs() <= 0.03 * scale, "bfloat16: got {got}, in double precision {want}");
            }
        }
        self.plan = large;
    }

    /// The flat gradient of an entry, or that of a sparse table as a whole.
    fn gradient(&self, entry: &Entry) -> Vec<f64> {
        match &self.params.tables[entry.param.unwrap()] {
            Some(table) => whole(table, 0, entry),
            None => self.params.gradients.numbers(entry.range.clone()).unwrap().into_owned(),
        }
    }

    fn check_summed(&self, rows: &[Vec<Vec<f64>>], what: &str) {
        for (i, entry) in self.net.entries.iter().filter(|e| e.param.is_some()).enumerate() {
            let along = |k: usize| rows.iter().map(|row| row[i][k] * learns(entry)).sum();
            let sum: Vec<f64> = (0..entry.range.len()).map(along).collect();
            close(&self.gradient(entry), &sum, &format!("{what} {}", entry.name));
        }
    }

    /// The summed pass with a weight a task: shared parameters get the weighted sum, a task's own what they got before.
    fn check_weighed(&mut self, rows: &[Vec<Vec<f64>>], state: &[f64], training: bool) {
        self.params.state.put(0, state).unwrap();
        let weights: Vec<_> = (0..rows.len()).map(|task| 0.25 * task as f64 - 0.5).collect();
        let step = Step { weights: &weights, ..self.step(training) };
        self.run_step(Pass::Summed, &step);
        for (i, entry) in self.net.entries.iter().filter(|e| e.param.is_some()).enumerate() {
            let shared = self.net.params[entry.param.unwrap()].reach == Reach::All;
            let weight = |task: usize| learns(entry) * if shared { weights[task] } else { 1.0 };
            let along = |k: usize| rows.iter().enumerate().map(|(task, row)| weight(task) * row[i][k]).sum();
            let want: Vec<f64> = (0..entry.range.len()).map(along).collect();
            close(&self.gradient(entry), &want, &format!("weighed {}", entry.name));
        }
    }

    fn check_per_task(&self, rows: &[Vec<Vec<f64>>]) {
        let slabs = self.plan.slabs().unwrap();
        let tasks = rows.len();
        let mut gramian = vec![0.0; tasks * tasks];
        for (i, entry) in self.net.entries.iter().filter(|e| e.param.is_some()).enumerate() {
            let param = entry.param.unwrap();
            if !self.net.params[param].learns {
                if !self.net.params[param].sparse {
                    let gradient = self.params.gradients.numbers(entry.range.clone()).unwrap();
                    assert!(gradient.iter().all(|g| g.is_nan()), "{} is written to", entry.name);
                    assert!(slabs.row(param, 0).unwrap().is_none());
                }
                continue;
            }
            if let Some(table) = &self.params.tables[param] {
                rows.iter().enumerate().for_each(|(t, row)| close(&whole(table, t, entry), &row[i], &entry.name));
                continue;
            }
            if self.net.params[param].reach != Reach::All {
                let along = |k: usize| rows.iter().map(|row| row[i][k] * learns(entry)).sum();
                let sum: Vec<f64> = (0..entry.range.len()).map(along).collect();
                close(&self.gradient(entry), &sum, &format!("own {}", entry.name));
                continue;
            }
            let first = self.net.params[param].range.start;
            for (task, row) in rows.iter().enumerate() {
                let whole = slabs.row(param, task).unwrap().unwrap();
                let want: Vec<_> = row[i].iter().map(|g| g * learns(entry)).collect();
                let own = &whole[entry.range.start - first..entry.range.end - first];
                close(own, &want, &format!("task {task} {}", entry.name));
                for (other, second) in rows.iter().enumerate() {
                    gramian[task * tasks + other] += want.iter().zip(&second[i]).map(|(a, b)| a * b).sum::<f64>();
                }
            }
        }
        close(&slabs.gramian().unwrap(), &gramian, "Gramian");
    }
}

/// Room for rows, and for positions if there are any: of ragged axes and of pairs as many as there are, and some more.
fn extents(net: &Network, rows: usize, ragged: Option<&Ragged>) -> Extents {
    net.axes[1..].iter().fold(rows.into(), |extents: Extents, axis| {
        let room = match (axis.extent, ragged) {
            (Extent::Grid { height, width }, _) => rows * height * width,
            (Extent::Pairs(_), Some(ragged)) => ragged.lengths.iter().map(|n| n * n).sum::<usize>() + 3,
            (_, ragged) => ragged.unwrap().room,
        };
        extents.and(room).unwrap()
    })
}

/// 1 for what learns, 0 for what is frozen.
fn learns(entry: &Entry) -> f64 {
    if entry.frozen { 0.0 } else { 1.0 }
}

/// One lane of a sparse table's gradient, with zeros for all rows that were not touched.
fn whole(table: &SparseGradient<f64>, lane: usize, entry: &Entry) -> Vec<f64> {
    let mut whole = vec![f64::NAN; entry.range.len()];
    table.open().spread(lane, &mut whole);
    whole
}

fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= TOLERANCE * scale, "{what}: got {g}, autograd says {w}");
    }
}

fn paths(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

/// Linear heads of widths 1, 2, 3 ... over `x`, fused; and their reference.
fn add_heads(b: &mut Builder, x: ValueId, tasks: usize) {
    let names: Vec<_> = (0..tasks).map(|t| format!("heads.{t}")).collect();
    let widths: Vec<_> = (1..=tasks).collect();
    let value = b.heads(&names, x, &widths);
    let mut start = 0;
    for width in widths {
        b.output(value, 0, start..start + width);
        start += width;
    }
}

fn heads(r: &Reference, x: &Tensor, tasks: usize) -> Vec<Tensor> {
    (0..tasks).map(|t| r.linear(x, &format!("heads.{t}"))).collect()
}

/// Sizes for a case: rows, inputs, hidden, tasks.
fn sizes(seed: u64) -> (usize, usize, usize, usize) {
    let pick = |k: u64, low: u64, high: u64| (low + Stream::new(seed, &[k]).bits(0) % (high - low + 1)) as usize;
    (pick(1, 1, 40), pick(2, 1, 20), pick(3, 1, 24), 1 + seed as usize % 5)
}

fn curve(x: &Tensor, curve: Activation) -> Tensor {
    match curve {
        Activation::Relu => x.relu(),
        Activation::LeakyRelu => x.leaky_relu(),
        Activation::Elu => x.elu(),
        Activation::Gelu => x.gelu("none"),
        Activation::Silu => x.silu(),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => x.sigmoid(),
    }
}

const CURVES: [Activation; 7] = [
    Activation::Relu,
    Activation::LeakyRelu,
    Activation::Elu,
    Activation::Gelu,
    Activation::Silu,
    Activation::Tanh,
    Activation::Sigmoid,
];

#[test]
fn linear_layers_with_every_activation() {
    for seed in 0..35 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let shape = CURVES[seed as usize % CURVES.len()];
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(shape));
        let h = b.linear(&paths(&["b"]), h, hidden + 1, None);
        let h = b.activation(h, shape);
        add_heads(&mut b, h, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = curve(&r.linear(&r.numeric, "a"), shape);
            heads(r, &curve(&r.linear(&h, "b"), shape), tasks)
        });
    }
}

#[test]
fn embeddings_beside_numeric_features() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs - 1, &[3, 7]);
        let x = b.features(&[Feature::plain(2), Feature::plain(5)]);
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        add_heads(&mut b, h, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let table = |k: i64| r.param(&format!("embedding.{k}.weight")).index_select(0, &r.codes.select(1, k));
            let x = Tensor::cat(&[r.numeric.shallow_clone(), table(0), table(1)], 1);
            heads(r, &r.linear(&x, "a").tanh(), tasks)
        });
    }
}

#[test]
fn layer_norm_and_residual_sums() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, None);
        let n = b.layer_norm(&paths(&["n"]), h);
        let m = b.linear(&paths(&["b"]), n, hidden, Some(Activation::Silu));
        let s = b.add(&[h, m, n]).unwrap();
        add_heads(&mut b, s, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a");
            let shape = [hidden as i64];
            let n = h.layer_norm(shape, Some(r.param("n.weight")), Some(r.param("n.bias")), 1e-5, false);
            heads(r, &(&h + r.linear(&n, "b").silu() + &n), tasks)
        });
    }
}

#[test]
fn batch_norm_in_training_and_evaluation() {
    for seed in 0..20 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let (rows, training) = (rows + 1, seed % 2 == 0);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let h = b.batch_norm(&paths(&["n"]), h);
        add_heads(&mut b, h, tasks);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        let (mean, variance) = (
            Tensor::zeros([hidden as i64], (Kind::Double, tch::Device::Cpu)),
            Tensor::ones([hidden as i64], (Kind::Double, tch::Device::Cpu)),
        );
        case.check(training, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let (w, b) = (Some(r.param("n.weight")), Some(r.param("n.bias")));
            heads(r, &h.batch_norm(w, b, Some(&mean), Some(&variance), training, 0.1, 1e-5, false), tasks)
        });
        let running = Vec::<f64>::try_from(Tensor::cat(&[mean, variance], 0)).unwrap();
        close(&case.params.state.all().unwrap(), &running, "running statistics");
    }
}

#[test]
fn dropout_uses_one_mask_for_all_lanes() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Sigmoid));
        let d = b.dropout(h, 0.4);
        let h2 = b.linear(&paths(&["b"]), d, hidden, None);
        add_heads(&mut b, h2, tasks);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        case.run(Pass::Summed, true);
        let [d, h] = [d, h].map(|value| case.plan.value(value).all().unwrap());
        let ratio: Vec<_> = d.iter().zip(h.iter()).map(|(d, h)| d / h).collect();
        assert!(ratio.iter().all(|&m| m == 0.0 || (m - 1.0 / 0.6).abs() < 1e-12));
        let mask = Tensor::from_slice(&ratio).reshape([rows as i64, hidden as i64]);
        case.check(true, |r| heads(r, &r.linear(&(r.linear(&r.numeric, "a").sigmoid() * &mask), "b"), tasks));
        case.check(false, |r| heads(r, &r.linear(&r.linear(&r.numeric, "a").sigmoid(), "b"), tasks));
    }
}

#[test]
fn dropout_keeps_the_share_it_says() {
    let mut b = Builder::new(50, &[]);
    let d = b.dropout(b.numeric(), 0.3);
    add_heads(&mut b, d, 1);
    let mut case = Case::new(b.finish().unwrap(), 2000, 1);
    case.run(Pass::Summed, true);
    let zeros = case.plan.value(d).all().unwrap().iter().filter(|&&x| x == 0.0).count() as f64 / 100_000.0;
    assert!((zeros - 0.3).abs() < 0.01, "{zeros}");
}

#[test]
fn towers_of_one_size_run_as_groups() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed + 1);
        let tasks = tasks + 1;
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let of = |k: usize| (0..tasks).map(|t| format!("t{t}.{k}")).collect::<Vec<_>>();
        let t = b.fan_out(&of(0), h, 4, Some(Activation::Gelu), Reach::Own);
        let t = b.layer_norm(&of(1), t);
        let t = b.linear(&of(2), t, 3, None);
        (0..tasks).for_each(|task| b.output(t, task, 0..3));
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let tower = |t: usize| {
                let y = r.linear(&h, &format!("t{t}.0")).gelu("none");
                let (w, b) = (r.param(&format!("t{t}.1.weight")), r.param(&format!("t{t}.1.bias")));
                r.linear(&y.layer_norm([4], Some(w), Some(b), 1e-5, false), &format!("t{t}.2"))
            };
            (0..tasks).map(tower).collect()
        });
    }
}

#[test]
fn shared_groups_concat_and_select_carry_all_lanes() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let e = b.fan_out(&paths(&["e0", "e1", "e2"]), h, 4, Some(Activation::Tanh), Reach::All);
        let e = b.batch_norm(&paths(&["n0", "n1", "n2"]), e);
        let e = b.linear(&paths(&["f0", "f1", "f2"]), e, 5, Some(Activation::Silu));
        let first = b.select(e, 0, 1..4, Reach::All);
        let last = b.select(e, 2, 0..5, Reach::All);
        let c = b.concat(&[last, h, first]).unwrap();
        add_heads(&mut b, c, tasks);
        Case::new(b.finish().unwrap(), rows + 1, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let expert = |k: usize| {
                let y = r.linear(&h, &format!("e{k}")).tanh();
                let (w, b) = (r.param(&format!("n{k}.weight")), r.param(&format!("n{k}.bias")));
                let y = y.batch_norm(Some(w), Some(b), None::<&Tensor>, None::<&Tensor>, true, 0.1, 1e-5, false);
                r.linear(&y, &format!("f{k}")).silu()
            };
            let c = Tensor::cat(&[expert(2), h.shallow_clone(), expert(0).narrow(1, 1, 3)], 1);
            heads(r, &c, tasks)
        });
    }
}

#[test]
fn separate_towers_of_different_depth() {
    for seed in 0..10 {
        let (rows, inputs, hidden, _) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let s = b.select(h, 0, 0..1, Reach::One(0));
        let x = b.concat(&[h, s]).unwrap();
        let t = b.narrow("t0", x, 2, None, Reach::One(0));
        b.output(t, 0, 0..2);
        let d = b.narrow("t1", h, 3, Some(Activation::Elu), Reach::One(1));
        let d = b.linear(&paths(&["t2"]), d, 1, None);
        b.output(d, 0, 0..1);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let x = Tensor::cat(&[&h, &h.narrow(1, 0, 1)], 1);
            vec![r.linear(&x, "t0"), r.linear(&r.linear(&h, "t1").elu(), "t2")]
        });
    }
}

/// `tanh(x A) * (x A)`.
#[derive(Debug)]
struct Gate(usize, usize);

impl Module for Gate {
    fn width(&self) -> usize {
        self.1
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>, Init)> {
        vec![("matrix".into(), vec![self.0, self.1], Init::Uniform(0.5))]
    }

    fn forward(&self, inputs: &[Tensor], parameters: &[Tensor], _: bool) -> polytask::error::Result<Tensor> {
        let z = inputs[0].f_matmul(&parameters[0])?;
        Ok(z.f_tanh()?.f_mul(&z)?)
    }
}

/// The same as code of the caller's own, which differentiates itself.
#[derive(Debug)]
struct ForeignGate(Gate);

impl Module for ForeignGate {
    fn width(&self) -> usize {
        self.0.width()
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>, Init)> {
        self.0.parameters()
    }

    fn buffers(&self) -> Vec<(String, Vec<usize>, Vec<f64>)> {
        vec![("forwards".into(), vec![2], vec![0.0, 5.0])]
    }

    fn forward(&self, _: &[Tensor], _: &[Tensor], _: bool) -> polytask::error::Result<Tensor> {
        unreachable!("it is foreign")
    }

    fn foreign(&self) -> Option<&dyn Foreign> {
        Some(self)
    }
}

impl Foreign for ForeignGate {
    fn tie(&self, tensors: Tensors) -> polytask::error::Result<Box<dyn Tied>> {
        assert_eq!((tensors.inputs.len(), tensors.parameters.len(), tensors.buffers[0].size()), (1, 1, vec![2]));
        Ok(Box::new(TiedGate { tensors, done: true }))
    }
}

/// It at work in a plan.
struct TiedGate {
    tensors: Tensors,
    /// No backward may come before the next forward.
    done: bool,
}

impl Tied for TiedGate {
    fn forward(&mut self, training: bool, _: u64) -> polytask::error::Result<()> {
        let Tensors { inputs, output, parameters, buffers, .. } = &mut self.tensors;
        let z = inputs[0].matmul(&parameters[0]);
        output.copy_(&(z.tanh() * &z));
        if training {
            let _ = buffers[0].g_add_scalar_(1.0);
        }
        self.done = false;
        Ok(())
    }

    fn backward(&mut self, along: &Tensor, last: bool) -> polytask::error::Result<Vec<Received>> {
        assert!(!std::mem::replace(&mut self.done, last));
        let Tensors { inputs, parameters, wanted, .. } = &self.tensors;
        let z = inputs[0].matmul(&parameters[0]);
        let slope: Tensor = 1.0 - z.tanh().square();
        let dz = along * (z.tanh() + &z * slope);
        let both = [dz.matmul(&parameters[0].tr()), inputs[0].tr().matmul(&dz)];
        Ok(both.into_iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(gradient, _)| gradient.into()).collect())
    }
}

fn module(inner: usize, outer: usize) -> Arc<dyn Module> {
    Arc::new(Gate(inner, outer))
}

fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}

/// Linear heads over the groups of a value, a task each; and their reference.
fn add_own_heads(b: &mut Builder, x: ValueId, tasks: usize) {
    let value = b.linear(&numbered("heads.", tasks), x, 2, None);
    (0..tasks).for_each(|task| b.output(value, task, 0..2));
}

#[test]
fn islands_of_each_group() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let each = b.each(h, tasks, Reach::Own);
        let i = b.island(&numbered("own", tasks), &[each], &module(hidden, 3)).unwrap();
        let each = b.each(h, 2, Reach::All);
        let e = b.island(&numbered("expert", 2), &[each], &module(hidden, 3)).unwrap();
        let gates = b.linear(&numbered("gates", tasks), i, 2, None);
        let m = b.mixture(gates, &[Experts { value: e, common: true }], Reach::Own).unwrap();
        add_own_heads(&mut b, m, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let island = |path: String| {
                let z = h.matmul(r.param(&format!("{path}.matrix")));
                z.tanh() * &z
            };
            let task = |t: usize| {
                let gates = r.linear(&island(format!("own{t}")), &format!("gates{t}"));
                let mixed =
                    gates.narrow(1, 0, 1) * island("expert0".into()) + gates.narrow(1, 1, 1) * island("expert1".into());
                r.linear(&mixed, &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
    }
}

#[test]
fn mixtures_of_common_and_own_experts() {
    for seed in 0..20 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let (own, common, width) = (1 + seed as usize % 3, 1 + seed as usize % 2, [3, 4, 8, 16][seed as usize % 4]);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let e = b.fan_out(&numbered("e", common), h, width, Some(Activation::Silu), Reach::All);
        let o = b.fan_out(&numbered("o", tasks * own), h, width, Some(Activation::Tanh), Reach::Own);
        let g = b.fan_out(&numbered("g", tasks), h, own + common, None, Reach::Own);
        let g = b.softmax(g);
        let experts = [Experts { value: o, common: false }, Experts { value: e, common: true }];
        let m = b.mixture(g, &experts, Reach::Own).unwrap();
        add_own_heads(&mut b, m, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let task = |t: usize| {
                let gates = r.linear(&h, &format!("g{t}")).softmax(1, Kind::Double);
                let mine = (0..own).map(|k| r.linear(&h, &format!("o{}", t * own + k)).tanh());
                let shared = (0..common).map(|k| r.linear(&h, &format!("e{k}")).silu());
                let weighed = mine.chain(shared).enumerate().map(|(j, x)| gates.narrow(1, j as i64, 1) * x);
                r.linear(&weighed.reduce(|a, b| a + b).unwrap(), &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
    }
}

/// Two levels: experts of each task that all tasks reach through a shared mixture, then experts over grouped values.
#[test]
fn layers_over_each_group_of_shared_values() {
    for seed in 0..12 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let o = b.fan_out(&numbered("o", tasks), h, 4, Some(Activation::Gelu), Reach::All);
        let g = b.fan_out(&paths(&["g"]), h, tasks, None, Reach::All);
        let g = b.softmax(g);
        let shared = b.mixture(g, &[Experts { value: o, common: true }], Reach::All).unwrap();
        let e = b.fan_out(&numbered("e", 2), shared, 3, Some(Activation::Tanh), Reach::All);
        let each = b.each(o, 2, Reach::Own);
        let p = b.linear(&numbered("p", 2 * tasks), each, 3, Some(Activation::Silu));
        let q = b.linear(&numbered("q", tasks), o, 4, None);
        let q = b.each(q, 1, Reach::Own);
        let gates = b.linear(&numbered("gates", tasks), q, 4, None);
        let experts = [Experts { value: p, common: false }, Experts { value: e, common: true }];
        let m = b.mixture(gates, &experts, Reach::Own).unwrap();
        add_own_heads(&mut b, m, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let own: Vec<_> = (0..tasks).map(|t| r.linear(&h, &format!("o{t}")).gelu("none")).collect();
            let g = r.linear(&h, "g").softmax(1, Kind::Double);
            let shared =
                own.iter().enumerate().map(|(t, o)| g.narrow(1, t as i64, 1) * o).reduce(|a, b| a + b).unwrap();
            let task = |t: usize| {
                let gates = r.linear(&r.linear(&own[t], &format!("q{t}")), &format!("gates{t}"));
                let mine = (0..2).map(|k| r.linear(&own[t], &format!("p{}", 2 * t + k)).silu());
                let common = (0..2).map(|k| r.linear(&shared, &format!("e{k}")).tanh());
                let weighed = mine.chain(common).enumerate().map(|(j, x)| gates.narrow(1, j as i64, 1) * x);
                r.linear(&weighed.reduce(|a, b| a + b).unwrap(), &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
    }
}

#[test]
fn stitches_mix_tasks_and_layers() {
    for seed in 0..20 {
        let (rows, inputs, _, tasks) = sizes(seed);
        let parts = 1 + seed as usize % 3;
        let width = parts * (1 + seed as usize % 7);
        let mut b = Builder::new(inputs, &[]);
        let start = |i: usize, j: usize| if i == j { 0.9 } else { 0.1 };
        fn mix<'a>(
            inputs: &'a [ValueId],
            across: bool,
            parts: usize,
            start: &'a dyn Fn(usize, usize) -> f64,
        ) -> Mixing<'a> {
            Mixing { inputs, across, parts, start, rule: MixRule::Plain }
        }
        let x0 = b.fan_out(&numbered("a", tasks), b.numeric(), width, Some(Activation::Tanh), Reach::All);
        let y0 = b.stitch(&numbered("s", tasks), mix(&[x0], true, parts, &start), Reach::All).unwrap();
        let x1 = b.linear(&numbered("b", tasks), y0, width, Some(Activation::Silu));
        let y1 = b.stitch(&numbered("t", tasks), mix(&[x1], true, parts, &start), Reach::Own).unwrap();
        let z = b.stitch(&numbered("l", tasks), mix(&[y0, y1, x1], false, 1, &start), Reach::Own).unwrap();
        add_own_heads(&mut b, z, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let part = (width / parts) as i64;
            let mixed = |path: &str, x: &[Tensor]| -> Vec<Tensor> {
                let of = |t: usize| {
                    let a = r.param(&format!("{path}{t}.weight")).reshape([parts as i64, (tasks * parts) as i64]);
                    let piece = |p: usize| {
                        let term = |j: usize| {
                            a.get(p as i64).get(j as i64) * x[j / parts].narrow(1, (j % parts) as i64 * part, part)
                        };
                        (0..tasks * parts).map(term).reduce(|a, b| a + b).unwrap()
                    };
                    Tensor::cat(&(0..parts).map(piece).collect::<Vec<_>>(), 1)
                };
                (0..tasks).map(of).collect()
            };
            let x0: Vec<_> = (0..tasks).map(|t| r.linear(&r.numeric, &format!("a{t}")).tanh()).collect();
            let y0 = mixed("s", &x0);
            let x1: Vec<_> = (0..tasks).map(|t| r.linear(&y0[t], &format!("b{t}")).silu()).collect();
            let y1 = mixed("t", &x1);
            let task = |t: usize| {
                let l = r.param(&format!("l{t}.weight"));
                let z = l.get(0) * &y0[t] + l.get(1) * &y1[t] + l.get(2) * &x1[t];
                r.linear(&z, &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
    }
}

/// A network over 5 numbers and three layers of 4, of tasks that read it after such layers, or at its end.
fn tapped(scheme: &Value, usual: &str, at: &[Option<usize>]) -> Network {
    let task = |(j, at): (usize, &Option<usize>)| {
        let at = at.map(|at| format!("encoder.{at}"));
        let task = json!({"name": format!("t{j}"), "loss": "mean_squared", "outputs": 1 + j % 2, "at": at});
        Task::read(&task, None).unwrap()
    };
    let tasks: Vec<_> = at.iter().enumerate().map(task).collect();
    let inputs = Inputs { numeric: 5, ..Inputs::default() };
    let layers = json!({"name": "mlp", "hidden": [4, 4, 4], "activation": "tanh", "residual": true});
    let layers = encoder::build(&layers).unwrap();
    let [scheme, head] = [scheme, &json!(usual)].map(|named| named.clone());
    let (scheme, head) = (sharing::build(&scheme).unwrap(), head::build(&head).unwrap());
    assemble(&inputs, &[], &tasks, layers.as_ref(), scheme.as_ref(), head.as_ref(), Limit::default()).unwrap()
}

/// One layer of such an encoder.
fn layer(r: &Reference, x: &Tensor, path: &str) -> Tensor {
    let y = r.linear(x, path).tanh();
    if x.size()[1] == 4 { x + y } else { y }
}

/// A task's head over features.
fn head_of(r: &Reference, usual: &str, task: usize, x: &Tensor) -> Tensor {
    match usual {
        "linear" => r.linear(x, &format!("heads.t{task}")),
        _ => r.linear(&r.linear(x, &format!("heads.t{task}.0")).relu(), &format!("heads.t{task}.1")),
    }
}

#[test]
fn tasks_read_one_encoder_after_stages_of_theirs() {
    let cases: [&[Option<usize>]; 7] = [
        &[Some(0), None],
        &[Some(0), Some(1), None],
        &[None, Some(0), None],
        &[Some(1), Some(1)],
        &[Some(0), Some(2), Some(2)],
        &[Some(1), Some(0), Some(1), Some(0)],
        &[Some(1)],
    ];
    for (seed, at) in cases.iter().enumerate() {
        for usual in ["linear", "tower"] {
            let net = tapped(&json!("hard"), usual, at);
            let deepest = at.iter().map(|at| at.unwrap_or(2)).max().unwrap();
            for entry in net.entries.iter().filter(|entry| entry.name.starts_with("encoder.")) {
                let stage: usize = entry.name.split('.').nth(1).unwrap().parse().unwrap();
                let readers: Vec<_> = (0..at.len()).filter(|&task| at[task].unwrap_or(2) >= stage).collect();
                let reach = if readers.len() == 1 && at.len() > 1 { Reach::One(readers[0]) } else { Reach::All };
                assert_eq!(net.params[entry.param.unwrap()].reach, reach, "{} of {at:?}", entry.name);
                assert!(stage <= deepest, "nobody reads {}", entry.name);
            }
            Case::new(net, 7, seed as u64).check(true, |r| {
                let mut after = vec![layer(r, &r.numeric, "encoder.0")];
                for stage in 1..=deepest {
                    after.push(layer(r, &after[stage - 1], &format!("encoder.{stage}")));
                }
                at.iter().enumerate().map(|(j, at)| head_of(r, usual, j, &after[at.unwrap_or(2)])).collect()
            });
        }
    }
}

#[test]
fn gradients_meet_where_tasks_leave_one_another() {
    for (at, meets) in [
        (&[None, None][..], true),
        (&[Some(0), None], true),
        (&[Some(0), Some(1), None], false),
        (&[Some(0), None, None], false),
        (&[Some(1), Some(1), Some(1)], true),
    ] {
        let net = tapped(&json!("hard"), "linear", at);
        assert_eq!(net.meets_at_representation(), meets, "{at:?}");
    }
}

#[test]
fn tasks_read_their_own_value_after_a_stage() {
    type Stage<'a> = &'a dyn Fn(&Reference, usize, &[Tensor]) -> Vec<Tensor>;
    let at = [Some(0), None, Some(1)];
    let each = |r: &Reference, stage: usize, x: &[Tensor]| -> Vec<Tensor> {
        x.iter().enumerate().map(|(t, x)| layer(r, x, &format!("encoders.t{t}.{stage}"))).collect()
    };
    let mixed = |r: &Reference, stage: usize, x: &[Tensor], parts: i64| -> Vec<Tensor> {
        let width = 4 / parts;
        let of = |t: usize| {
            let a = r.param(&format!("stitches.{stage}.t{t}.weight")).reshape([parts, -1]);
            let piece = |p: i64| {
                let term = |j: i64| a.get(p).get(j) * x[(j / parts) as usize].narrow(1, j % parts * width, width);
                (0..3 * parts).map(term).reduce(|a, b| a + b).unwrap()
            };
            Tensor::cat(&(0..parts).map(piece).collect::<Vec<_>>(), 1)
        };
        (0..3).map(of).collect()
    };
    let stitched = |r: &Reference, stage: usize, x: &[Tensor]| mixed(r, stage, &each(r, stage, x), 1);
    let halves = |r: &Reference, stage: usize, x: &[Tensor]| mixed(r, stage, &each(r, stage, x), 2);
    let fused = |r: &Reference, stage: usize, x: &[Tensor]| {
        let all = Tensor::cat(&each(r, stage, x), 1);
        (0..3).map(|t| r.linear(&all, &format!("fusions.{stage}.t{t}")).tanh()).collect()
    };
    let branched = |r: &Reference, stage: usize, x: &[Tensor]| {
        let path = |t: usize| match (stage, t) {
            (0, _) => "encoder.0".to_owned(),
            (_, 2) => format!("encoders.t2.{stage}"),
            _ => format!("encoders.t0+t1.{stage}"),
        };
        (0..3).map(|t| layer(r, &x[t], &path(t))).collect()
    };
    let branches = json!([[["t0", "t1", "t2"]], [["t0", "t1"], ["t2"]]]);
    let cases: [(Value, Stage<'_>); 4] = [
        (json!("cross_stitch"), &stitched),
        (json!("sluice"), &halves),
        (json!({"name": "nddr", "norm": false, "activation": "tanh"}), &fused),
        (json!({"name": "branched", "branches": branches}), &branched),
    ];
    for (seed, (scheme, stage)) in cases.iter().enumerate() {
        for usual in ["linear", "tower"] {
            let last = if scheme["name"] == "branched" { 1 } else { 2 };
            let at = if last == 1 { [Some(0), Some(1), Some(1)] } else { at };
            Case::new(tapped(scheme, usual, &at), 7, seed as u64).check(true, |r| {
                let mut after = vec![(0..3).map(|_| r.numeric.shallow_clone()).collect::<Vec<_>>()];
                for k in 0..=last {
                    after.push(stage(r, k, &after[k]));
                }
                let features = |t: usize| match at[t] {
                    None if *scheme == json!("sluice") => {
                        let weights = r.param(&format!("layers.t{t}.weight"));
                        (0..3).map(|k| weights.get(k) * &after[k as usize + 1][t]).reduce(|a, b| a + b).unwrap()
                    }
                    at => after[at.unwrap_or(2) + 1][t].shallow_clone(),
                };
                (0..3).map(|t| head_of(r, usual, t, &features(t))).collect()
            });
        }
    }
}

#[test]
fn sampled_stitches_choose_one_in_evaluation() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let rule = MixRule::Sampled { temperature: 2.0, decay: 0.5, lowest: 0.5 };
        let x = b.fan_out(&numbered("a", 3), b.numeric(), hidden, Some(Activation::Tanh), Reach::All);
        let mix = Mixing { inputs: &[x], across: true, parts: 1, start: &|_, _| 0.0, rule };
        let y = b.stitch(&numbered("s", tasks), mix, Reach::Own).unwrap();
        add_own_heads(&mut b, y, tasks);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        let features =
            |r: &Reference| -> Vec<_> { (0..3).map(|k| r.linear(&r.numeric, &format!("a{k}")).tanh()).collect() };
        // Step 3 has temperature max(2 / 8, 0.5); the noise is the stream's.
        let noise = |node: u64, i: usize| {
            let u = Stream::new(5, &[3, 3, node]).uniform(i as u64).clamp(1e-12, 1.0 - 1e-12);
            -(-u.ln()).ln()
        };
        case.check(true, |r| {
            let x = features(r);
            let task = |t: usize| {
                let noise: Vec<_> = (0..3).map(|j| noise(1, t * 3 + j)).collect();
                let a =
                    ((r.param(&format!("s{t}.weight")) + Tensor::from_slice(&noise)) / 0.5).softmax(0, Kind::Double);
                let y = (0..3).map(|j| a.get(j as i64) * &x[j]).reduce(|a, b| a + b).unwrap();
                r.linear(&y, &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
        case.check(false, |r| {
            let x = features(r);
            let task = |t: usize| {
                let best = r.param(&format!("s{t}.weight")).argmax(0, false).int64_value(&[]) as usize;
                r.linear(&x[best], &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
    }
}

#[test]
fn groups_are_picked_joined_and_share_a_layer() {
    for seed in 0..12 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let e = b.fan_out(&numbered("e", 3), b.numeric(), hidden, Some(Activation::Gelu), Reach::All);
        let tied = b.tied("tied", e, 4, Some(Activation::Silu));
        let lone = b.linear(&paths(&["a"]), b.numeric(), 4, Some(Activation::Tanh));
        let picked = b.gather(&[(tied, 2), (lone, 0), (tied, 0), (tied, 2)], Reach::All);
        let joined = b.join(picked);
        let own: Vec<_> = (0..tasks).map(|t| if t % 2 == 0 { (tied, t % 3) } else { (lone, 0) }).collect();
        let own = b.gather(&own, Reach::Own);
        let j = b.fan_out(&numbered("j", tasks), joined, 4, None, Reach::Own);
        let sum = b.add(&[own, j]).unwrap();
        add_own_heads(&mut b, sum, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let tied = |k: usize| r.linear(&r.linear(&r.numeric, &format!("e{k}")).gelu("none"), "tied").silu();
            let lone = r.linear(&r.numeric, "a").tanh();
            let joined = Tensor::cat(&[tied(2), lone.shallow_clone(), tied(0), tied(2)], 1);
            let task = |t: usize| {
                let own = if t.is_multiple_of(2) { tied(t % 3) } else { lone.shallow_clone() };
                r.linear(&(own + r.linear(&joined, &format!("j{t}"))), &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
    }
}

/// A value of two groups or more for each way in which tasks reach it: all of them, each its own, one; and its reference.
fn add_reached(b: &mut Builder, path: &str, width: usize, tasks: usize, seed: u64) -> (ValueId, usize) {
    let x = b.numeric();
    match seed % 3 {
        0 => (b.fan_out(&numbered(path, 3), x, width, None, Reach::All), 3),
        1 => (b.fan_out(&numbered(path, tasks), x, width, None, Reach::Own), tasks),
        _ => (b.narrow(&format!("{path}0"), x, width, None, Reach::One(0)), 1),
    }
}

/// Heads over a value of such groups.
fn add_reached_heads(b: &mut Builder, x: ValueId, tasks: usize, seed: u64) {
    match seed % 3 {
        0 => {
            let joined = b.join(x);
            add_heads(b, joined, tasks);
        }
        1 => add_own_heads(b, x, tasks),
        _ => {
            let head = b.linear(&paths(&["heads.0"]), x, 1, None);
            b.output(head, 0, 0..1);
            for task in 1..tasks {
                let head = b.narrow(&format!("heads.{task}"), b.numeric(), task + 1, None, Reach::One(task));
                b.output(head, 0, 0..task + 1);
            }
        }
    }
}

fn reached_heads(r: &Reference, groups: &[Tensor], tasks: usize, seed: u64) -> Vec<Tensor> {
    match seed % 3 {
        0 => heads(r, &Tensor::cat(groups, 1), tasks),
        1 => groups.iter().enumerate().map(|(t, x)| r.linear(x, &format!("heads.{t}"))).collect(),
        _ => {
            (0..tasks).map(|t| r.linear(if t == 0 { &groups[0] } else { &r.numeric }, &format!("heads.{t}"))).collect()
        }
    }
}

/// What of a term that each group adds is in each task's gradient.
fn of_tasks(groups: &[Tensor], tasks: usize, seed: u64) -> Vec<Tensor> {
    let whole = groups.iter().map(Tensor::shallow_clone).reduce(|a, b| a + b).unwrap();
    match seed % 3 {
        0 => (0..tasks).map(|_| &whole / tasks as f64).collect(),
        1 => groups.iter().map(Tensor::shallow_clone).collect(),
        _ => (0..tasks).map(|t| if t == 0 { whole.shallow_clone() } else { whole.zeros_like() }).collect(),
    }
}

#[test]
fn softmax_of_gates_in_every_reach() {
    for seed in 0..24 {
        let (rows, inputs, _, tasks) = sizes(seed);
        let width = [1, 2, 3, 5, 8, 17, 33, 64][seed as usize % 8];
        let mut b = Builder::new(inputs, &[]);
        let (x, groups) = add_reached(&mut b, "a", width, tasks, seed);
        let y = b.softmax(x);
        add_reached_heads(&mut b, y, tasks, seed);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let gate = |g: usize| r.linear(&r.numeric, &format!("a{g}")).softmax(1, Kind::Double);
            reached_heads(r, &(0..groups).map(gate).collect::<Vec<_>>(), tasks, seed)
        });
    }
}

#[test]
fn products_of_vectors_row_by_row() {
    for seed in 0..24 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let (x, groups) = add_reached(&mut b, "a", hidden, tasks, seed);
        let (z, _) = add_reached(&mut b, "b", hidden, tasks, seed);
        let y = b.dot(x, z, 0.7).unwrap();
        // A second use, so that a gradient is added to.
        let w = b.dot(y, y, 0.5).unwrap();
        let both = b.concat(&[w, x, y]).unwrap();
        add_reached_heads(&mut b, both, tasks, seed);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let group = |g: usize| {
                let (x, z) = (r.linear(&r.numeric, &format!("a{g}")), r.linear(&r.numeric, &format!("b{g}")));
                let y = 0.7 * (&x * z).sum_dim_intlist(1, true, Kind::Double);
                Tensor::cat(&[0.5 * &y * &y, x, y], 1)
            };
            reached_heads(r, &(0..groups).map(group).collect::<Vec<_>>(), tasks, seed)
        });
    }
}

#[test]
fn products_number_by_number() {
    for seed in 0..24 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let (x, groups) = add_reached(&mut b, "a", hidden, tasks, seed);
        let (z, _) = add_reached(&mut b, "b", hidden, tasks, seed);
        let y = b.multiply(x, z, None).unwrap();
        // One value in two places, and later once more, so that gradients are added to.
        let w = b.multiply(x, y, Some(x)).unwrap();
        let u = b.multiply(w, w, Some(z)).unwrap();
        let both = b.concat(&[u, x, y]).unwrap();
        add_reached_heads(&mut b, both, tasks, seed);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let group = |g: usize| {
                let (x, z) = (r.linear(&r.numeric, &format!("a{g}")), r.linear(&r.numeric, &format!("b{g}")));
                let y = &x * &z;
                let w = &x * &y + &x;
                Tensor::cat(&[&w * &w + z, x, y], 1)
            };
            reached_heads(r, &(0..groups).map(group).collect::<Vec<_>>(), tasks, seed)
        });
    }
    let mut b = Builder::new(3, &[]);
    let (x, y) = (b.numeric(), b.linear(&paths(&["a"]), 0, 2, None));
    let message = b.multiply(x, y, None).unwrap_err().to_string();
    assert_eq!(message, "only values of one width can be multiplied; got 3 and 2");
}

/// Groups that all tasks reach meet groups of single tasks.
#[test]
fn shared_groups_meet_groups_of_their_own() {
    for seed in 0..12 {
        let (rows, inputs, _, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let x = b.fan_out(&numbered("a", tasks), b.numeric(), 1, Some(Activation::Tanh), Reach::All);
        let z = b.fan_out(&numbered("b", tasks), b.numeric(), 1, None, Reach::Own);
        let joined = b.join(x);
        let seen = b.fan_out(&numbered("c", tasks), joined, 1, None, Reach::Own);
        let (dot, funnel) = (b.dot(x, z, 0.7).unwrap(), b.funnel(z, x, Reach::Own).unwrap());
        let held = b.calibrate(x, z, 0.9, Reach::Own).unwrap();
        let kept = b.calibrate(z, x, 0.4, Reach::Own).unwrap();
        let sum = b.add(&[x, z]).unwrap();
        let product = b.multiply(z, x, Some(x)).unwrap();
        let all = b.concat(&[dot, funnel, held, kept, sum, x, seen, product]).unwrap();
        add_own_heads(&mut b, all, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check_terms(true, |r| {
            let pair =
                |t: usize| (r.linear(&r.numeric, &format!("a{t}")).tanh(), r.linear(&r.numeric, &format!("b{t}")));
            let task = |t: usize| {
                let (x, z) = pair(t);
                let joined = Tensor::cat(&(0..tasks).map(|t| pair(t).0).collect::<Vec<_>>(), 1);
                let seen = r.linear(&joined, &format!("c{t}"));
                let (product, sum) = (&z * &x + &x, &x + &z);
                let all = [0.7 * &x * &z, both(&z, &x), z.shallow_clone(), x.shallow_clone(), sum, x, seen, product];
                r.linear(&Tensor::cat(&all, 1), &format!("heads.{t}"))
            };
            let term = |t: usize| {
                let (x, z) = pair(t);
                0.9 * beyond(&x, &z) + 0.4 * beyond(&z, &x)
            };
            let terms: Vec<_> = (0..tasks).map(term).collect();
            let sum = terms.iter().map(Tensor::shallow_clone).reduce(|a, b| a + b).unwrap();
            ((0..tasks).map(task).collect(), terms, vec![sum])
        });
    }
}

fn both(a: &Tensor, b: &Tensor) -> Tensor {
    let p = a.sigmoid() * b.sigmoid();
    p.log() - (&p - 1.0).neg().log()
}

fn beyond(a: &Tensor, b: &Tensor) -> Tensor {
    (b.sigmoid() - a.sigmoid()).relu().mean(Kind::Double)
}

#[test]
fn funnels_of_events_in_every_reach() {
    for seed in 0..24 {
        let (rows, inputs, _, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let (x, groups) = add_reached(&mut b, "a", 1, tasks, seed);
        let (z, _) = add_reached(&mut b, "b", 1, tasks, seed);
        let reach = b.value(x).reach;
        let y = b.funnel(x, z, reach).unwrap();
        let y = b.funnel(y, z, reach).unwrap();
        add_reached_heads(&mut b, y, tasks, seed);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let group = |g: usize| {
                let (x, z) = (r.linear(&r.numeric, &format!("a{g}")), r.linear(&r.numeric, &format!("b{g}")));
                both(&both(&x, &z), &z)
            };
            reached_heads(r, &(0..groups).map(group).collect::<Vec<_>>(), tasks, seed)
        });
    }
}

#[test]
fn funnels_neither_overflow_nor_lose_digits() {
    let mut b = Builder::new(2, &[]);
    let [x, z] = [0, 1].map(|k| b.select(0, 0, k..k + 1, Reach::One(0)));
    let y = b.funnel(x, z, Reach::One(0)).unwrap();
    let scaled = b.linear(&paths(&["a"]), y, 1, None);
    b.output(scaled, 0, 0..1);
    let net = b.finish().unwrap();
    let params = Params::<f32>::new(&net.params, &net.state, 1).unwrap();
    // SAFETY: no slice of the parameters is held while the plan runs.
    let mut plan = unsafe { Plan::new(&net, &params, 5, Purpose::Evaluate) }.unwrap();
    plan.real(0).put(0, &[1000.0, 5.0, -1000.0, 5.0, 1000.0, 1000.0, -600.0, -700.0, 0.0, 0.0]).unwrap();
    plan.forward(&Step::EVALUATION).unwrap();
    let want = [5.0, -1000.0 - (1.0 + (-5.0_f64).exp()).ln(), 1000.0 - 2.0_f64.ln(), -1300.0, -(3.0_f64.ln())];
    for (got, want) in plan.value(y).all().unwrap().iter().zip(want) {
        assert!((f64::from(*got) - want).abs() <= 1e-6 * want.abs(), "got {got}, should be {want}");
    }
}

/// Three logits in a row, as of a funnel of events; the last is not followed by any.
#[test]
fn calibrated_logits_belong_to_their_own_tasks() {
    for seed in 0..12 {
        let (rows, inputs, hidden, _) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let [x, y, z] = [0, 1, 2].map(|t| b.narrow(&format!("t{t}"), h, 1, None, Reach::One(t)));
        let y = b.calibrate(x, y, 0.8, Reach::One(1)).unwrap();
        let z = b.calibrate(y, z, 0.3, Reach::One(2)).unwrap();
        [x, y, z].into_iter().for_each(|value| b.output(value, 0, 0..1));
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        assert_eq!(case.net.terms(), ["calibration"]);
        let forward = |r: &Reference| {
            let h = r.linear(&r.numeric, "a").tanh();
            let [x, y, z] = [0, 1, 2].map(|t| r.linear(&h, &format!("t{t}")));
            let [a, b, c] = [&x, &y, &z].map(Tensor::detach);
            let parts = [0.8 * beyond(&x, &b), 0.8 * beyond(&a, &y) + 0.3 * beyond(&y, &c), 0.3 * beyond(&b, &z)];
            let whole = 0.8 * beyond(&a, &b) + 0.3 * beyond(&b, &c);
            (vec![x, y, z], parts.into(), vec![whole])
        };
        case.check_terms(true, forward);
        case.check_terms(false, forward);
    }
}

#[test]
fn calibrated_logits_in_every_reach() {
    for seed in 0..24 {
        let (rows, inputs, _, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let (x, groups) = add_reached(&mut b, "a", 1, tasks, seed);
        let (z, _) = add_reached(&mut b, "b", 1, tasks, seed);
        let reach = b.value(x).reach;
        let y = b.calibrate(x, z, 0.6, reach).unwrap();
        add_reached_heads(&mut b, y, tasks, seed);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        let forward = |r: &Reference| {
            let pair = |g: usize| ["a", "b"].map(|path| r.linear(&r.numeric, &format!("{path}{g}")));
            let terms: Vec<_> = (0..groups).map(|g| 0.6 * beyond(&pair(g)[0], &pair(g)[1])).collect();
            let whole = terms.iter().map(Tensor::shallow_clone).reduce(|a, b| a + b).unwrap();
            let logits: Vec<_> = (0..groups).map(|g| pair(g)[1].shallow_clone()).collect();
            (reached_heads(r, &logits, tasks, seed), of_tasks(&terms, tasks, seed), vec![whole])
        };
        case.check_terms(true, forward);
        case.check_terms(false, forward);
    }
}

/// The gate of DSelect-k as its authors write it, codes first: experts' weights, entropy, penalty of spare codes.
fn select(z: &Tensor, w: &Tensor, experts: i64, gamma: f64) -> [Tensor; 3] {
    let (rows, k) = (z.size()[0], w.size()[1]);
    let bits = z.size()[1] / k;
    let t = (z / gamma).clamp(-0.5, 0.5).reshape([rows, k, 1, bits]);
    let step: Tensor = 0.5 + &t * (1.5 - 2.0 * &t * &t);
    let codes: Vec<_> = (0..experts).flat_map(|j| (0..bits).map(move |b| j >> b & 1 == 1)).collect();
    let codes = Tensor::from_slice(&codes).reshape([1, 1, experts, bits]);
    let r = step.where_self(&codes, &(1.0 - &step)).prod_dim_int(3, false, Kind::Double);
    let gates = (w.softmax(1, Kind::Double).unsqueeze(2) * &r).sum_dim_intlist(1, false, Kind::Double);
    let entropy = -(&r * (&r + 1e-6).log()).sum(Kind::Double) / rows as f64;
    let total = r.sum_dim_intlist(2, false, Kind::Double);
    let held = total.clamp_min(0.1);
    let tangent = 10.0 - (&total - 0.1) * 100.0;
    let penalty = held.reciprocal().where_self(&total.gt(0.1), &tangent) - 1.0;
    [gates, entropy, penalty.sum(Kind::Double) / rows as f64]
}

#[test]
fn selectors_of_few_experts_in_every_reach() {
    for seed in 0..36 {
        let (rows, inputs, _, tasks) = sizes(seed);
        let (k, experts) = (1 + seed as usize % 3, 2 + seed as usize % 8);
        let (gamma, entropy) = ([1.0, 4.0][seed as usize % 2], [0.0, 0.3, 1e-3][seed as usize / 3 % 3]);
        let bits = experts.next_power_of_two().trailing_zeros() as usize;
        let mut b = Builder::new(inputs, &[]);
        let (z, groups) = add_reached(&mut b, "z", k * bits, tasks, seed);
        let (w, _) = add_reached(&mut b, "w", k, tasks, seed);
        let y = b.selectors(z, w, k, experts, gamma, entropy).unwrap();
        add_reached_heads(&mut b, y, tasks, seed);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        let forward = |r: &Reference| {
            let gates: Vec<_> = (0..groups)
                .map(|g| {
                    let of = |path: &str| r.linear(&r.numeric, &format!("{path}{g}"));
                    select(&of("z"), &of("w"), experts as i64, gamma)
                })
                .collect();
            let has_spare = !experts.is_power_of_two();
            let each =
                |g: &[Tensor; 3]| entropy * &g[1] + if has_spare { g[2].shallow_clone() } else { g[2].zeros_like() };
            let sum = |k: usize| gates.iter().map(|g| g[k].shallow_clone()).reduce(|a, b| a + b).unwrap();
            let mut terms = Vec::new();
            if entropy > 0.0 {
                terms.push(entropy * sum(1));
            }
            if has_spare {
                terms.push(sum(2));
            }
            let values: Vec<_> = gates.iter().map(|g| g[0].shallow_clone()).collect();
            let outputs = reached_heads(r, &values, tasks, seed);
            (outputs, of_tasks(&gates.iter().map(each).collect::<Vec<_>>(), tasks, seed), terms)
        };
        case.check_terms(true, forward);
        case.check_terms(false, forward);
    }
}

#[test]
fn saturated_selectors_choose_exactly() {
    let mut b = Builder::new(3, &[]);
    let z = b.select(0, 0, 0..2, Reach::All);
    let w = b.select(0, 0, 2..3, Reach::All);
    let y = b.selectors(z, w, 1, 3, 1.0, 0.1).unwrap();
    add_heads(&mut b, y, 1);
    let mut case = Case::new(b.finish().unwrap(), 3, 1);
    assert_eq!(case.net.terms(), ["entropy", "spare_codes"]);
    // The codes 1, 2 and 3, of which the last is no expert's.
    case.numeric.copy_from_slice(&[0.5, -0.5, 0.0, -9.0, 9.0, 1.0, 0.7, 0.6, 2.0]);
    case.run(Pass::Summed, true);
    assert_eq!(*case.plan.value(y).all().unwrap(), [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    let mut terms = [0.0; 2];
    case.plan.add_terms(&mut terms).unwrap();
    close(&terms, &[0.1 * 2.0 / 3.0 * -(1.0 + 1e-6_f64).ln(), (10.0 + 0.1 * 100.0 - 1.0) / 3.0], "terms");
}

/// Two micro-batches of different sizes, each with its share, give the terms and the gradient of both together.
#[test]
fn micro_batches_add_up_with_terms() {
    for seed in 0..6 {
        let mut b = Builder::new(4, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), 6, Some(Activation::Tanh));
        let z = b.fan_out(&numbered("z", 2), h, 6, None, [Reach::All, Reach::Own][seed as usize % 2]);
        let w = b.fan_out(&numbered("w", 2), h, 2, None, [Reach::All, Reach::Own][seed as usize % 2]);
        let g = b.selectors(z, w, 2, 5, 4.0, 0.3).unwrap();
        let g = b.each(g, 1, Reach::Own);
        let x = b.linear(&numbered("h", 2), g, 1, None);
        let [first, second] = [0, 1].map(|t| b.select(x, t, 0..1, Reach::One(t)));
        let second = b.calibrate(first, second, 2.0, Reach::One(1)).unwrap();
        b.output(first, 0, 0..1);
        b.output(second, 0, 0..1);
        let mut case = Case::new(b.finish().unwrap(), 13, seed);
        case.run(Pass::Summed, true);
        let (whole, mut terms, mut sum) = (case.params.gradients.all().unwrap().into_owned(), [0.0; 3], [0.0; 3]);
        case.plan.add_terms(&mut terms).unwrap();
        let (numeric, seeds) = (case.numeric.clone(), case.seeds.clone());
        for (range, accumulate) in [(0..4, false), (4..13, true)] {
            case.rows = range.len();
            // SAFETY: no slice of the parameters is held while the plan runs.
            case.plan = unsafe { Plan::new(&case.net, &case.params, case.rows, Purpose::BOTH) }.unwrap();
            case.numeric = numeric[range.start * 4..range.end * 4].to_vec();
            case.seeds = seeds.iter().map(|seed| seed[range.clone()].to_vec()).collect();
            let step = Step { accumulate, share: range.len() as f64 / 13.0, ..case.step(true) };
            case.run_step(Pass::Summed, &step);
            case.plan.add_terms(&mut sum).unwrap();
        }
        close(&sum, &terms, "terms of two micro-batches");
        close(&case.params.gradients.all().unwrap(), &whole, "gradient of two micro-batches");
    }
}

/// The sum or mean of the rows of a bag's codes; columns of nothing do not count.
fn bag(table: &Tensor, codes: &Tensor, combine: Combine) -> Tensor {
    let there = codes.ne(i64::from(NOTHING));
    let rows = table.index_select(0, &(codes * &there).reshape([-1]));
    let rows = rows.reshape([codes.size()[0], codes.size()[1], -1]) * there.unsqueeze(2);
    let sum = rows.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    match combine {
        Combine::Sum | Combine::Convolution(_) => sum,
        Combine::Mean => sum / there.sum_dim_intlist([1i64].as_slice(), true, Kind::Double).clamp_min(1.0),
    }
}

#[test]
fn bags_and_sparse_tables() {
    for seed in 0..16 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let combine = if seed % 2 == 0 { Combine::Mean } else { Combine::Sum };
        let several = Feature { bag: Some(Bag { length: 3, combine }), ..Feature::plain(4) };
        let features = [
            Feature { sparse: seed % 3 == 0, ..several },
            Feature { sparse: seed % 3 > 0, ..Feature::plain(2) },
            Feature::plain(33),
            Feature { width: 1, sparse: seed % 4 > 1, ..several },
        ];
        let mut b = Builder::new(inputs - 1, &[5, 5, 5, 7, 3, 2, 2, 2]);
        let x = b.features(&features);
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        add_heads(&mut b, h, tasks);
        let net = b.finish().unwrap();
        let flat: usize = net.params.iter().filter(|p| p.sparse).map(|p| p.range.len()).sum();
        assert!(net.dense() + flat <= net.size() && net.params.iter().all(|p| p.sparse == (p.range.end > net.dense())));
        let mut case = Case::new(net, rows, seed);
        let draw = Stream::new(seed, &[77]);
        for (i, code) in case.codes.iter_mut().enumerate().filter(|(i, _)| i % 8 < 3 || i % 8 > 4) {
            // The first row has no code at all.
            *code = if i < 8 || draw.uniform(i as u64) < 0.4 { NOTHING } else { *code };
        }
        case.check(true, |r| {
            let table = |k: usize| r.param(&format!("embedding.{k}.weight"));
            let one = |k: usize, column: i64| table(k).index_select(0, &r.codes.select(1, column));
            let several = |k: usize, first: i64| bag(table(k), &r.codes.narrow(1, first, 3), combine);
            let x = [r.numeric.shallow_clone(), several(0, 0), one(1, 3), one(2, 4), several(3, 5)];
            heads(r, &r.linear(&Tensor::cat(&x, 1), "a").tanh(), tasks)
        });
    }
}

/// A convolution over the codes of each row by libtorch, place by place, with the parameters of one of ours.
fn of_characters(r: &Reference, path: &str, codes: &Tensor, activation: Bend) -> Tensor {
    let weight = r.param(&format!("{path}.convolution.weight"));
    let bias = r.param(&format!("{path}.convolution.bias"));
    let radius = weight.size()[0] / 2;
    let of_row = |codes: Tensor| {
        let there = codes.ne(i64::from(NOTHING));
        let embedded = r.param(&format!("{path}.weight")).index_select(0, &(codes * &there)) * there.unsqueeze(1);
        let turned = embedded.transpose(0, 1).unsqueeze(0);
        let all = turned.conv1d(&weight.permute([1, 2, 0]), Some(bias), 1, radius, 1, 1).squeeze_dim(0);
        let places = there.nonzero().squeeze_dim(1);
        match places.size()[0] {
            0 => Tensor::zeros([bias.size()[0]], (Kind::Double, Device::Cpu)),
            _ => {
                let (largest, _) = all.index_select(1, &places).max_dim(1, false);
                if activation == Bend::Relu { largest.relu() } else { largest.tanh() }
            }
        }
    };
    Tensor::stack(&(0..codes.size()[0]).map(|row| of_row(codes.get(row))).collect::<Vec<_>>(), 0)
}

#[test]
fn characters_are_convolved_exactly() {
    for seed in 0..24 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let activation = [Bend::Relu, Bend::Tanh][seed as usize % 2];
        let filters = [1, 16, 21, 35][seed as usize % 4];
        let of = |length, width| {
            let combine = Combine::Convolution(Convolution { filters, width, activation });
            Feature { bag: Some(Bag { length, combine }), ..Feature::plain(1 + seed as usize % 6) }
        };
        // One of them before other features, one of as many places as its kernel.
        let features = [of(5, [1, 3, 5, 7][seed as usize / 2 % 4]), Feature::plain(2), of(3, 3)];
        let mut b = Builder::new(inputs - 1, &[4, 4, 4, 4, 4, 3, 6, 6, 6]);
        let x = b.features(&features);
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        add_heads(&mut b, h, tasks);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        let draw = Stream::new(seed, &[78]);
        for (i, code) in case.codes.iter_mut().enumerate().filter(|(i, _)| i % 9 != 5) {
            // Words of all lengths, the first of none; places without a code in the middle too.
            let behind = i % 9 < 5 && i % 9 > i / 9 % 6;
            *code = if i < 9 || behind || draw.uniform(i as u64) < 0.1 { NOTHING } else { *code };
        }
        case.check(true, |r| {
            let one = r.param("embedding.1.weight").index_select(0, &r.codes.select(1, 5));
            let convolved = |k: usize, first: i64, length: i64| {
                of_characters(r, &format!("embedding.{k}"), &r.codes.narrow(1, first, length), activation)
            };
            let x = [r.numeric.shallow_clone(), one, convolved(0, 0, 5), convolved(2, 6, 3)];
            heads(r, &r.linear(&Tensor::cat(&x, 1), "a").tanh(), tasks)
        });
    }
}

#[test]
fn what_is_no_number_in_a_kernel_goes_through() {
    let combine = Combine::Convolution(Convolution { filters: 17, width: 3, activation: Bend::Relu });
    let mut b = Builder::new(0, &[4, 4]);
    let x = b.features(&[Feature { bag: Some(Bag { length: 2, combine }), ..Feature::plain(3) }]);
    add_heads(&mut b, x, 1);
    let mut case = Case::new(b.finish().unwrap(), 6, 0);
    case.params.values.put(0, &[f64::NAN]).unwrap();
    case.codes = vec![0, 1, 1, 0, NOTHING, 0, 1, NOTHING, 2, 3, 3, 3];
    for backend in [FORMULAS, Backend::Loops] {
        case.params.bring_to(backend).unwrap();
        case.plan = case.plan_for(Purpose::BOTH);
        let outputs = case.run(Pass::Summed, false);
        assert_eq!(outputs[0].iter().map(|y| y.is_nan()).collect::<Vec<_>>(), [true, true, true, false, false, false]);
    }
}

/// Edges of bins `[features, bins + 1]`, that rise at random; of every third feature there are fewer, and of every fifth none.
fn edges(features: usize, bins: usize, seed: u64) -> Vec<Vec<f64>> {
    let stream = Stream::new(seed, &[55]);
    let edges = |f: usize| {
        let used = if f % 5 == 4 {
            0
        } else if f % 3 == 1 {
            bins.div_ceil(2)
        } else {
            bins
        };
        let mut at = -0.8;
        let mut edges = vec![at];
        for i in 0..bins {
            at += if i < used { 0.1 + stream.uniform((f * bins + i) as u64) } else { 0.0 };
            edges.push(at);
        }
        edges
    };
    (0..features).map(edges).collect()
}

/// What each bin has of a number.
fn encoded(x: f64, edges: &[f64]) -> Vec<f64> {
    let used = edges.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let share = |(i, pair): (usize, &[f64])| {
        if i >= used {
            return 0.0;
        }
        let share = (x - pair[0]) / (pair[1] - pair[0]);
        let share = if i > 0 { share.max(0.0) } else { share };
        if i + 1 < used { share.min(1.0) } else { share }
    };
    edges.windows(2).enumerate().map(share).collect()
}

/// What a network with piecewise-linear embeddings of `[rows, features]` says of them.
fn piecewise(r: &Reference, x: &Tensor, edges: &[Vec<f64>], linear: bool, relu: bool) -> Tensor {
    let (rows, features) = x.size2().unwrap();
    let numbers = Vec::<f64>::try_from(x.reshape([-1])).unwrap();
    let encoded: Vec<f64> =
        numbers.iter().enumerate().flat_map(|(i, &x)| encoded(x, &edges[i % features as usize])).collect();
    let encoded = Tensor::from_slice(&encoded).reshape([rows, features, -1]);
    let sums = Tensor::einsum("rfb,fbw->rfw", &[&encoded, r.param("e.weight")], None::<i64>);
    let act = |y: Tensor| if relu { y.relu() } else { y };
    let y = if linear { act(sums) + x.unsqueeze(2) * r.param("e.slope") } else { act(sums + r.param("e.bias")) };
    let y = if linear { y + r.param("e.bias") } else { y };
    y.reshape([rows, -1])
}

#[test]
fn numbers_are_embedded_piecewise() {
    for seed in 0..16 {
        let (rows, features, hidden, tasks) = sizes(seed);
        let (bins, width) = (1 + seed as usize % 7, if seed % 3 == 0 { 8 } else { 1 + seed as usize % 5 });
        let (linear, relu) = (seed % 2 == 0, seed % 4 > 1);
        let mut b = Builder::new(features, &[3]);
        let embed = Embed::Piecewise { width, bins, linear, activation: relu };
        let x = b.embedded("e", b.numeric(), embed).unwrap();
        assert_eq!(b.value(x).width, embed.width(features));
        let x = if seed % 4 == 1 { b.features_after(x, &[Feature::plain(2)]) } else { x };
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        add_heads(&mut b, h, tasks);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        let edges = edges(features, bins, seed);
        case.params.state.put(0, &edges.concat()).unwrap();
        // One number lies on an edge.
        case.numeric[0] = edges[0][bins / 2];
        case.check(true, |r| {
            let x = piecewise(r, &r.numeric, &edges, linear, relu);
            let table = || r.param("embedding.0.weight").index_select(0, &r.codes.select(1, 0));
            let x = if seed % 4 == 1 { Tensor::cat(&[x, table()], 1) } else { x };
            heads(r, &r.linear(&x, "a").tanh(), tasks)
        });
    }
}

/// What a network with periodic embeddings of `[rows, features]` says of them.
fn periodic(r: &Reference, x: &Tensor, lite: bool, relu: bool) -> Tensor {
    let features = x.size()[1];
    let angles = 2.0 * std::f64::consts::PI * x.unsqueeze(2) * r.param("e.frequencies");
    let waves = Tensor::cat(&[angles.cos(), angles.sin()], 2);
    let each = |f: i64| r.linear(&waves.select(1, f), &if lite { "e".to_owned() } else { format!("e.{f}") });
    let embedded = Tensor::cat(&(0..features).map(each).collect::<Vec<_>>(), 1);
    if relu { embedded.relu() } else { embedded }
}

#[test]
fn numbers_are_embedded_by_waves() {
    for seed in 0..12 {
        let (rows, features, hidden, tasks) = sizes(seed);
        let (lite, activation, raw) = (seed % 3 == 0, seed % 2 == 0, seed % 4 > 1);
        let mut b = Builder::new(features, &[3]);
        let embed = Embed::Periodic { width: 3, frequencies: 1 + seed as usize % 5, scale: 0.3, lite, activation, raw };
        let x = b.embedded("e", b.numeric(), embed).unwrap();
        assert_eq!(b.value(x).width, embed.width(features));
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        add_heads(&mut b, h, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let x = periodic(r, &r.numeric, lite, activation);
            let x = if raw { Tensor::cat(&[r.numeric.shallow_clone(), x], 1) } else { x };
            heads(r, &r.linear(&x, "a").tanh(), tasks)
        });
    }
}

#[test]
fn numbers_that_learn_are_embedded_too() {
    for seed in 0..4 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let embed = Embed::Periodic { width: 3, frequencies: 2, scale: 0.3, lite: false, activation: true, raw: true };
        let x = b.embedded("e", h, embed).unwrap();
        let y = b.piecewise("p", h, [1, 2], true, false).unwrap();
        let x = b.concat(&[x, y]).unwrap();
        add_heads(&mut b, x, tasks);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        case.params.state.put(0, &[-0.5, 1.5].repeat(hidden)).unwrap();
        case.check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let waves = periodic(r, &h, false, true);
            // One bin is a line.
            let share = ((&h + 0.5) / 2.0).unsqueeze(2) * r.param("p.weight").squeeze_dim(1);
            let line = share + h.unsqueeze(2) * r.param("p.slope") + r.param("p.bias");
            heads(r, &Tensor::cat(&[h.shallow_clone(), waves, line.reshape([rows as i64, -1])], 1), tasks)
        });
    }
}

#[test]
fn islands_run_under_autograd() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
        let i = b.island(&paths(&["island"]), &[h], &module(hidden, 3)).unwrap();
        let c = b.concat(&[i, h]).unwrap();
        add_heads(&mut b, c, tasks);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let z = h.matmul(r.param("island.matrix"));
            heads(r, &Tensor::cat(&[&(z.tanh() * &z), &h], 1), tasks)
        });
    }
}

/// Each row's part of a tensor of positions.
fn rows_of(x: &Tensor, lengths: &[i64]) -> Vec<Tensor> {
    x.split_with_sizes(lengths, 0)
}

/// A network over rows and positions before its heads: numbers a row, a code and numbers a position.
fn tokens(inputs: usize, frames: usize) -> (Builder, [ValueId; 2]) {
    let mut b = Builder::new(inputs, &[]);
    let axis = b.positions("tokens");
    let codes = b.code_input("tokens", axis, &[7]);
    let frames = b.real_input("frames", axis, frames);
    let x = b.embedding(&paths(&["words"]), frames, codes, &[Feature::plain(3)]);
    (b, [x, axis])
}

#[test]
fn values_move_between_rows_and_their_positions() {
    let shapes: [&[usize]; 5] = [&[3, 1, 4], &[1], &[0, 5, 0, 0, 2], &[2, 2, 2, 2], &[0, 1]];
    for (seed, lengths) in shapes.iter().cycle().take(20).enumerate() {
        let (_, inputs, hidden, tasks) = sizes(seed as u64);
        let pool = [Pool::Mean, Pool::Sum, Pool::Max, Pool::Attention][seed % 4];
        let (mut b, [x, axis]) = tokens(inputs, 1 + seed % 3);
        let r = b.linear(&paths(&["row"]), b.numeric(), 2, Some(Activation::Tanh));
        let r = b.spread(r, axis).unwrap();
        let x = b.concat(&[x, r]).unwrap();
        let w = b.window(x, 1, 1).unwrap();
        let h = b.linear(&paths(&["a"]), w, hidden, Some(Activation::Gelu));
        // The first task is of positions, the others of rows by a pool each or by one for all.
        let tagger = b.narrow("heads.0", h, 2, None, Reach::One(0));
        b.output(tagger, 0, 0..2);
        let common = (tasks > 2).then(|| b.pool("pool", h, pool, Reach::All).unwrap());
        for task in 1..tasks.max(2) {
            let own = task % 2 == 1;
            let pooled =
                if own { b.pool(&format!("pool{task}"), h, pool, Reach::One(task)).unwrap() } else { common.unwrap() };
            let head = b.narrow(&format!("heads.{task}"), pooled, task, None, Reach::One(task));
            b.output(head, 0, 0..task);
        }
        let net = b.finish().unwrap();
        Case::of_positions(net, lengths, seed % 4, seed as u64).check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let row = r.linear(&r.numeric, "row").tanh();
            let lengths = Tensor::from_slice(&r.lengths);
            let x = Tensor::cat(&[&r.frames, &words, &row.repeat_interleave_self_tensor(&lengths, 0, None)], 1);
            let width = x.size()[1];
            let windows: Vec<_> = rows_of(&x, &r.lengths)
                .iter()
                .map(|x| {
                    let none = Tensor::zeros([1, width], (Kind::Double, Device::Cpu));
                    let count = x.size()[0];
                    let padded = Tensor::cat(&[&none, x, &none], 0);
                    Tensor::cat(&[padded.narrow(0, 0, count), x.shallow_clone(), padded.narrow(0, 2, count)], 1)
                })
                .collect();
            let h = r.linear(&Tensor::cat(&windows, 0), "a").gelu("none");
            let pooled = |path: &str| {
                let pool = |h: &Tensor| match pool {
                    _ if h.size()[0] == 0 => Tensor::zeros([h.size()[1]], (Kind::Double, Device::Cpu)),
                    Pool::Mean => h.mean_dim(0, false, Kind::Double),
                    Pool::Sum => h.sum_dim_intlist(0, false, Kind::Double),
                    Pool::Max => h.amax(0, false),
                    Pool::Attention => {
                        (h * r.linear(h, path).softmax(0, Kind::Double)).sum_dim_intlist(0, false, Kind::Double)
                    }
                };
                Tensor::stack(&rows_of(&h, &r.lengths).iter().map(pool).collect::<Vec<_>>(), 0)
            };
            let head = |task: usize| match task {
                0 => r.linear(&h, "heads.0"),
                _ if task % 2 == 1 => r.linear(&pooled(&format!("pool{task}")), &format!("heads.{task}")),
                _ => r.linear(&pooled("pool"), &format!("heads.{task}")),
            };
            (0..tasks.max(2)).map(head).collect()
        });
    }
}

/// libtorch's own convolution over each row by itself, with the parameters of one of ours.
fn convolution(r: &Reference, x: &Tensor, path: &str, width: i64, dilation: i64) -> Tensor {
    let inner = x.size()[1];
    let weight = r.param(&format!("{path}.weight")).reshape([-1, width, inner]).transpose(1, 2);
    let bias = r.param(&format!("{path}.bias"));
    let of_row = |x: &Tensor| match x.size()[0] {
        0 => Tensor::zeros([0, bias.size()[0]], (Kind::Double, Device::Cpu)),
        _ => {
            let padding = dilation * (width / 2);
            let turned = x.transpose(0, 1).unsqueeze(0);
            turned.conv1d(&weight, Some(bias), 1, padding, dilation, 1).squeeze_dim(0).transpose(0, 1)
        }
    };
    Tensor::cat(&rows_of(x, &r.lengths).iter().map(of_row).collect::<Vec<_>>(), 0)
}

#[test]
fn convolutions_over_positions_are_those_of_libtorch() {
    let shapes: [&[usize]; 5] = [&[3, 1, 4], &[1, 1], &[0, 5, 0, 2, 2], &[17], &[2, 2, 2]];
    for (seed, lengths) in shapes.iter().cycle().take(20).enumerate() {
        let (_, inputs, hidden, tasks) = sizes(seed as u64);
        let (tasks, width, dilations) = (tasks.max(2), [1, 3, 5, 7][seed % 4], [[1, 2], [3, 1], [2, 4]][seed % 3]);
        let (mut b, [x, _]) = tokens(inputs, 1 + seed % 3);
        let [first, second] = dilations.map(|dilation| Convolution1d {
            hidden: Sizes(vec![hidden]),
            width,
            dilation: Sizes(vec![dilation]),
            activation: Some(Activation::Tanh),
            residual: true,
            ..Convolution1d::default()
        });
        let y = first.stage(&mut b, 0, &paths(&["a"]), x).unwrap();
        // The second keeps its width; then one for each task.
        let y = second.stage(&mut b, 0, &paths(&["b"]), y).unwrap();
        let names = numbered("c", tasks);
        let each = b.each(y, tasks, Reach::Own);
        let each = Convolution1d { hidden: Sizes(vec![3]), ..first }.stage(&mut b, 0, &names, each).unwrap();
        add_own_heads(&mut b, each, tasks);
        Case::of_positions(b.finish().unwrap(), lengths, seed % 4, seed as u64).check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let x = Tensor::cat(&[&r.frames, &words], 1);
            let layer = |x: &Tensor, path: &str, dilation: usize| {
                let y = convolution(r, x, path, width as i64, dilation as i64).tanh();
                if y.size() == x.size() { x + y } else { y }
            };
            let y = layer(&layer(&x, "a.0", dilations[0]), "b.0", dilations[1]);
            let each = names.iter().map(|name| layer(&y, &format!("{name}.0"), dilations[0]));
            each.enumerate().map(|(t, y)| r.linear(&y, &format!("heads.{t}"))).collect()
        });
    }
}

/// libtorch's own layer over each row by itself, with the parameters of one of ours.
fn recurrence(r: &Reference, x: &Tensor, path: &str, cell: Cell, bidirectional: bool) -> Tensor {
    let gates = cell.gates() as i64;
    let inner = r.param(&format!("{path}.weight"));
    let bias = r.param(&format!("{path}.bias"));
    let names = if bidirectional { &["recurrent", "reversed"][..] } else { &["recurrent"] };
    let mut parameters = Vec::new();
    let mut width = 0;
    for (direction, name) in names.iter().enumerate() {
        let weight = r.param(&format!("{path}.{name}.weight"));
        width = weight.size()[1];
        let own = |x: &Tensor| x.narrow(0, direction as i64 * gates * width, gates * width);
        let none = Tensor::zeros([gates * width], (Kind::Double, Device::Cpu));
        let of_h = match cell {
            Cell::Lstm => none,
            // The last of three gates has a bias of its own.
            Cell::Gru => {
                Tensor::cat(&[none.narrow(0, 0, 2 * width), r.param(&format!("{path}.{name}.bias")).shallow_clone()], 0)
            }
        };
        parameters.extend([own(inner), weight.shallow_clone(), own(bias), of_h]);
    }
    let parameters: Vec<_> = parameters.iter().collect();
    let h = Tensor::zeros([names.len() as i64, 1, width], (Kind::Double, Device::Cpu));
    let of_row = |x: &Tensor| match (x.size()[0], cell) {
        (0, _) => Tensor::zeros([0, names.len() as i64 * width], (Kind::Double, Device::Cpu)),
        (_, Cell::Lstm) => {
            x.unsqueeze(0).lstm(&[&h, &h], &parameters, true, 1, 0.0, true, bidirectional, true).0.squeeze_dim(0)
        }
        (_, Cell::Gru) => x.unsqueeze(0).gru(&h, &parameters, true, 1, 0.0, true, bidirectional, true).0.squeeze_dim(0),
    };
    Tensor::cat(&rows_of(x, &r.lengths).iter().map(of_row).collect::<Vec<_>>(), 0)
}

#[test]
fn recurrent_layers_are_those_of_libtorch() {
    let shapes: [&[usize]; 5] = [&[3, 1, 4], &[1, 1], &[0, 5, 0, 2, 2], &[7], &[2, 2, 2]];
    for (seed, lengths) in shapes.iter().cycle().take(30).enumerate() {
        let (_, inputs, hidden, tasks) = sizes(seed as u64);
        let (cell, both) = ([Cell::Lstm, Cell::Gru][seed % 2], seed % 4 < 2);
        let tasks = tasks.max(2);
        let (mut b, [x, _]) = tokens(inputs, 1 + seed % 3);
        // Two layers, then networks side by side that all tasks reach, or one for each.
        let first = b.recurrent(&paths(&["a"]), x, hidden, cell, both).unwrap();
        let second = b.recurrent(&paths(&["b"]), first, 1 + seed % 19, cell, !both).unwrap();
        let x = b.concat(&[first, second]).unwrap();
        let own = seed % 3 == 0;
        let names = numbered("c", if own { tasks } else { 2 });
        let each = b.each(x, names.len(), if own { Reach::Own } else { Reach::All });
        let y = b.recurrent(&names, each, 3, cell, both).unwrap();
        if own {
            add_own_heads(&mut b, y, tasks);
        } else {
            let joined = b.join(y);
            add_heads(&mut b, joined, tasks);
        }
        Case::of_positions(b.finish().unwrap(), lengths, seed % 4, seed as u64).check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let x = Tensor::cat(&[&r.frames, &words], 1);
            let first = recurrence(r, &x, "a", cell, both);
            let second = recurrence(r, &first, "b", cell, !both);
            let x = Tensor::cat(&[&first, &second], 1);
            let each: Vec<_> = names.iter().map(|name| recurrence(r, &x, name, cell, both)).collect();
            if own {
                return each.iter().enumerate().map(|(t, y)| r.linear(y, &format!("heads.{t}"))).collect();
            }
            heads(r, &Tensor::cat(&each, 1), tasks)
        });
    }
}

#[test]
fn a_recurrence_of_long_rows_has_room_for_all_of_them() {
    let (mut b, [x, _]) = tokens(1, 1);
    let y = b.recurrent(&paths(&["a"]), x, 33, Cell::Lstm, true).unwrap();
    add_heads(&mut b, y, 2);
    Case::of_positions(b.finish().unwrap(), &[40, 0, 3], 0, 1).check(false, |r| {
        let words = r.param("words.weight").index_select(0, &r.tokens);
        heads(r, &recurrence(r, &Tensor::cat(&[&r.frames, &words], 1), "a", Cell::Lstm, true), 2)
    });
    let (mut b, _) = tokens(1, 1);
    let rows = b.numeric();
    let refused = b.recurrent(&paths(&["a"]), rows, 3, Cell::Gru, true).unwrap_err().to_string();
    assert!(refused.contains("a value of rows has no positions"), "{refused}");
}

/// libtorch's own attention over each row by itself, from queries, keys and values.
fn attention(x: &Tensor, lengths: &[i64], heads: i64, rotary: bool) -> Tensor {
    let wide = x.size()[1];
    let each = wide / 3 / heads;
    let of_row = |x: &Tensor| {
        let count = x.size()[0];
        // `[3, 1, heads, positions, each]`
        let parts = x.reshape([1, count, 3, heads, each]).permute([2, 0, 3, 1, 4]);
        let turned = |x: Tensor| {
            if !rotary {
                return x;
            }
            // Numbers as complex ones, turned place by place.
            let half = each / 2;
            let turn = |i: i64| {
                let angle = |place: i64| place as f64 * 10_000f64.powf(-2.0 * i as f64 / each as f64);
                let angles = Tensor::from_slice(&(0..count).map(angle).collect::<Vec<_>>());
                let (a, b) = (x.select(3, i), x.select(3, half + i));
                [&a * angles.cos() - &b * angles.sin(), &a * angles.sin() + &b * angles.cos()]
            };
            let pairs: Vec<_> = (0..half).map(turn).collect();
            let all = (0..2).flat_map(|part| pairs.iter().map(move |pair| pair[part].shallow_clone()));
            Tensor::stack(&all.collect::<Vec<_>>(), 3)
        };
        let [q, k] = [0, 1].map(|part| turned(parts.get(part)));
        let none: Option<Tensor> = None;
        let y = Tensor::scaled_dot_product_attention(&q, &k, &parts.get(2), none, 0.0, false, None, false);
        y.squeeze_dim(0).transpose(0, 1).reshape([count, wide / 3])
    };
    let rows = rows_of(x, lengths);
    let there = rows.iter().map(|x| if x.size()[0] == 0 { x.narrow(1, 0, wide / 3) } else { of_row(x) });
    Tensor::cat(&there.collect::<Vec<_>>(), 0)
}

#[test]
fn attention_within_rows_is_that_of_libtorch() {
    // The last one is of more than the queries whose weights are there at once.
    let shapes: [&[usize]; 6] = [&[3, 1, 4], &[1, 1], &[0, 5, 0, 2, 2], &[17], &[2, 2, 2], &[0, 101, 0, 7]];
    for (seed, lengths) in shapes.iter().cycle().take(30).enumerate() {
        let (_, inputs, _, tasks) = sizes(seed as u64);
        let (tasks, rotary) = (tasks.max(2), seed % 2 == 0);
        let count = 1 + seed % 3;
        let width = count * [2, 16, 6, 18][seed % 4];
        let (mut b, [x, _]) = tokens(inputs, 1 + seed % 3);
        let inner = b.linear(&paths(&["a"]), x, 3 * width, None);
        let y = b.attend(inner, count, rotary).unwrap();
        // What was attended to is looked at too; then networks side by side that all tasks reach, or one for each.
        let kept = b.linear(&paths(&["b"]), inner, width, Some(Activation::Tanh));
        let y = b.add(&[y, kept]).unwrap();
        let y = b.placed(&paths(&["places"]), y, 101).unwrap();
        let own = seed % 3 == 0;
        let names = numbered("c", if own { tasks } else { 2 });
        let each = b.each(y, names.len(), if own { Reach::Own } else { Reach::All });
        let each = b.linear(&names, each, 12, None);
        let each = b.attend(each, 2, !rotary).unwrap();
        let each = b.placed(&numbered("own", names.len()), each, 200).unwrap();
        if own {
            add_own_heads(&mut b, each, tasks);
        } else {
            let joined = b.join(each);
            add_heads(&mut b, joined, tasks);
        }
        Case::of_positions(b.finish().unwrap(), lengths, seed % 4, seed as u64).check(true, |r| {
            let numbers: Vec<_> = r.lengths.iter().flat_map(|&length| 0..length).collect();
            let placed = |x: Tensor, path: &str| {
                x + r.param(&format!("{path}.weight")).index_select(0, &Tensor::from_slice(&numbers))
            };
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let inner = r.linear(&Tensor::cat(&[&r.frames, &words], 1), "a");
            let y = attention(&inner, &r.lengths, count as i64, rotary) + r.linear(&inner, "b").tanh();
            let y = placed(y, "places");
            let of = |(k, name): (usize, &String)| {
                placed(attention(&r.linear(&y, name), &r.lengths, 2, !rotary), &format!("own{k}"))
            };
            let each: Vec<_> = names.iter().enumerate().map(of).collect();
            if own {
                return each.iter().enumerate().map(|(t, y)| r.linear(y, &format!("heads.{t}"))).collect();
            }
            heads(r, &Tensor::cat(&each, 1), tasks)
        });
    }
}

#[test]
fn attention_that_cannot_be_is_refused() {
    let (mut b, [x, _]) = tokens(2, 3);
    let refused = |result: polytask::error::Result<ValueId>| result.unwrap_err().to_string();
    assert!(refused(b.attend(x, 4, false)).contains("should have a number of columns a head; got 6 in all"));
    assert!(refused(b.attend(x, 2, true)).contains("an even number of columns a head"));
    let rows = b.numeric();
    assert!(refused(b.attend(rows, 1, false)).contains("a value of rows has no positions"));
    let y = b.placed(&paths(&["places"]), x, 3).unwrap();
    add_heads(&mut b, y, 2);
    let mut case = Case::of_positions(b.finish().unwrap(), &[3, 1], 0, 1);
    case.run(Pass::Summed, true);
    case.ragged.as_mut().unwrap().lengths = vec![4, 0];
    case.ragged.as_ref().unwrap().load(&mut case.plan);
    let step = case.step(true);
    let refused = case.plan.forward(&step).unwrap_err().to_string();
    assert!(refused.contains("there are places for 3 positions of a row; got a row of 4"), "{refused}");
}

#[test]
fn groups_of_positions_are_pooled_by_attention() {
    for seed in 0..10 {
        let (_, inputs, hidden, tasks) = sizes(seed);
        let (mut b, [x, axis]) = tokens(inputs, 2);
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        let e = b.fan_out(&numbered("expert", 2), h, 4, Some(Activation::Tanh), Reach::All);
        let s = b.linear(&numbered("score", 2), e, 1, None);
        let p = b.attention_pool(s, e).unwrap();
        let p = b.join(p);
        let common = b.pool("mean", h, Pool::Mean, Reach::All).unwrap();
        let again = b.spread(common, axis).unwrap();
        let again = b.pool("max", again, Pool::Max, Reach::All).unwrap();
        let p = b.concat(&[p, again]).unwrap();
        add_heads(&mut b, p, tasks);
        Case::of_positions(b.finish().unwrap(), &[4, 0, 1, 3], 2, seed).check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let h = r.linear(&Tensor::cat(&[&r.frames, &words], 1), "a").tanh();
            let zeros = |width: i64| Tensor::zeros([width], (Kind::Double, Device::Cpu));
            let attended = |k: usize| {
                let e = r.linear(&h, &format!("expert{k}")).tanh();
                let s = r.linear(&e, &format!("score{k}"));
                let pairs = rows_of(&e, &r.lengths).into_iter().zip(rows_of(&s, &r.lengths));
                let pooled = pairs.map(|(e, s)| match e.size()[0] {
                    0 => zeros(4),
                    _ => (e * s.softmax(0, Kind::Double)).sum_dim_intlist(0, false, Kind::Double),
                });
                Tensor::stack(&pooled.collect::<Vec<_>>(), 0)
            };
            let means = rows_of(&h, &r.lengths).into_iter().map(|h| match h.size()[0] {
                0 => zeros(h.size()[1]),
                _ => h.mean_dim(0, false, Kind::Double),
            });
            let means = Tensor::stack(&means.collect::<Vec<_>>(), 0);
            heads(r, &Tensor::cat(&[attended(0), attended(1), means], 1), tasks)
        });
    }
}

/// Pairs of positions from both, pooled over either one's, over both and by attention of each position to all.
#[test]
fn pairs_of_positions_are_made_and_pooled() {
    let shapes: [&[usize]; 4] = [&[3, 1, 4], &[1], &[0, 2, 0, 3], &[2, 2]];
    for (seed, lengths) in shapes.iter().cycle().take(16).enumerate() {
        let (_, inputs, hidden, _) = sizes(seed as u64);
        let (mut b, [x, tokens]) = tokens(inputs, 2);
        let pairs = b.pairs(tokens).unwrap();
        let [first, second] = [By::First, By::Second].map(|by| Link { fine: pairs, coarse: tokens, by });
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        let both = [first, second].map(|link| b.spread_along(h, link).unwrap());
        let both = b.concat(&both).unwrap();
        let s = b.linear(&paths(&["pair"]), both, 3, Some(Activation::Tanh));
        let of_pairs = b.narrow("heads.0", s, 2, None, Reach::One(0));
        b.output(of_pairs, 0, 0..2);
        // Two heads of attention: scores of pairs weigh the second one's numbers.
        let scores = b.fan_out(&numbered("score", 2), s, 1, None, Reach::All);
        let values = b.fan_out(&numbered("value", 2), h, 2, None, Reach::All);
        let values = b.spread_along(values, second).unwrap();
        let attended = b.attention_pool_along(scores, values, first).unwrap();
        let attended = b.join(attended);
        let of_tokens = b.narrow("heads.1", attended, 1, None, Reach::One(1));
        b.output(of_tokens, 0, 0..1);
        let pool = [Pool::Mean, Pool::Sum, Pool::Max][seed % 3];
        let columns = b.pool_along("columns", s, second, pool, Reach::All).unwrap();
        let sums = b.pool("sums", columns, Pool::Sum, Reach::One(2)).unwrap();
        let means = b.pool("means", s, Pool::Mean, Reach::One(2)).unwrap();
        let of_rows = b.concat(&[sums, means]).unwrap();
        let of_rows = b.narrow("heads.2", of_rows, 2, None, Reach::One(2));
        b.output(of_rows, 0, 0..2);
        Case::of_positions(b.finish().unwrap(), lengths, seed % 4, seed as u64).check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let h = r.linear(&Tensor::cat(&[&r.frames, &words], 1), "a").tanh();
            let mut of_pairs = Vec::new();
            let mut of_tokens = Vec::new();
            let mut of_rows = Vec::new();
            for h in rows_of(&h, &r.lengths) {
                let (n, width) = h.size2().unwrap();
                let first = h.unsqueeze(1).expand([n, n, width], false);
                let second = h.unsqueeze(0).expand([n, n, width], false);
                let s = r.linear(&Tensor::cat(&[first, second], 2), "pair").tanh();
                of_pairs.push(r.linear(&s.reshape([n * n, 3]), "heads.0"));
                let attended = (0..2).map(|head| {
                    let weights = r.linear(&s, &format!("score{head}")).squeeze_dim(2).softmax(1, Kind::Double);
                    weights.matmul(&r.linear(&h, &format!("value{head}")))
                });
                of_tokens.push(r.linear(&Tensor::cat(&attended.collect::<Vec<_>>(), 1), "heads.1"));
                let zeros = Tensor::zeros([3], (Kind::Double, Device::Cpu));
                let columns = match pool {
                    _ if n == 0 => Tensor::zeros([0, 3], (Kind::Double, Device::Cpu)),
                    Pool::Mean => s.mean_dim(0, false, Kind::Double),
                    Pool::Sum => s.sum_dim_intlist(0, false, Kind::Double),
                    _ => s.amax(0, false),
                };
                let sums = columns.sum_dim_intlist(0, false, Kind::Double);
                let means = if n == 0 { zeros } else { s.mean_dim([0_i64, 1].as_slice(), false, Kind::Double) };
                of_rows.push(r.linear(&Tensor::cat(&[sums, means], 0), "heads.2"));
            }
            vec![Tensor::cat(&of_pairs, 0), Tensor::cat(&of_tokens, 0), Tensor::stack(&of_rows, 0)]
        });
    }
}

/// Down a grid to its blocks and up again, and a number of positions that is the same for all rows.
#[test]
fn grids_are_sampled_down_and_up() {
    for seed in 0..12 {
        let (rows, inputs, hidden, _) = sizes(seed);
        let (height, width) = [(4, 6), (1, 6), (2, 2)][seed as usize % 3];
        let (lines, columns) = [(2, 3), (1, 2), (2, 1)][seed as usize % 3];
        let pool = [Pool::Mean, Pool::Sum, Pool::Max, Pool::Attention][seed as usize % 4];
        let mut b = Builder::new(inputs, &[]);
        let grid = b.grid("pixels", height, width);
        let pixels = b.real_input("pixels", grid, 2);
        let blocks = b.blocks(grid, lines, columns).unwrap();
        let link = Link { fine: grid, coarse: blocks, by: By::Block };
        let h = b.linear(&paths(&["a"]), pixels, hidden, Some(Activation::Tanh));
        let low = b.pool_along("pool", h, link, pool, Reach::All).unwrap();
        let low = b.linear(&paths(&["b"]), low, 3, Some(Activation::Tanh));
        let again = b.spread_along(low, link).unwrap();
        let of_row = b.spread(b.numeric(), grid).unwrap();
        let high = b.concat(&[h, again, of_row]).unwrap();
        let of_pixels = b.narrow("heads.0", high, 2, None, Reach::One(0));
        b.output(of_pixels, 0, 0..2);
        let of_blocks = b.narrow("heads.1", low, 1, None, Reach::One(1));
        b.output(of_blocks, 0, 0..1);
        let of_rows = b.pool("rows", low, Pool::Max, Reach::One(2)).unwrap();
        let of_rows = b.narrow("heads.2", of_rows, 2, None, Reach::One(2));
        b.output(of_rows, 0, 0..2);
        Case::new(b.finish().unwrap(), rows, seed).check(true, |r| {
            let rows = rows as i64;
            let [height, width, lines, columns] = [height, width, lines, columns].map(|n| n as i64);
            let h = r.linear(&r.pixels.reshape([-1, 2]), "a").tanh();
            let blocked = h.reshape([rows, height / lines, lines, width / columns, columns, -1]).transpose(2, 3);
            let blocked = blocked.reshape([rows * (height / lines) * (width / columns), lines * columns, -1]);
            let low = match pool {
                Pool::Mean => blocked.mean_dim(1, false, Kind::Double),
                Pool::Sum => blocked.sum_dim_intlist(1, false, Kind::Double),
                Pool::Max => blocked.amax(1, false),
                Pool::Attention => {
                    let weights = r.linear(&blocked, "pool").softmax(1, Kind::Double);
                    (&blocked * weights).sum_dim_intlist(1, false, Kind::Double)
                }
            };
            let low = r.linear(&low, "b").tanh();
            let again = low.reshape([rows, height / lines, 1, width / columns, 1, 3]);
            let again = again.expand([rows, height / lines, lines, width / columns, columns, 3], false);
            let of_row = r.numeric.repeat_interleave_self_int(height * width, 0, None);
            let high = Tensor::cat(&[h, again.reshape([-1, 3]), of_row], 1);
            let of_rows = low.reshape([rows, -1, 3]).amax(1, false);
            vec![r.linear(&high, "heads.0"), r.linear(&low, "heads.1"), r.linear(&of_rows, "heads.2")]
        });
    }
}

/// Positions that rows, or positions themselves, name by their numbers.
#[test]
fn positions_are_picked_by_name() {
    let shapes: [&[usize]; 3] = [&[3, 0, 9], &[8], &[2, 5, 1, 7]];
    for (seed, lengths) in shapes.iter().cycle().take(9).enumerate() {
        let (_, inputs, hidden, _) = sizes(seed as u64);
        let mut b = Builder::new(inputs, &[4]);
        let axis = b.positions("tokens");
        let codes = b.code_input("tokens", axis, &[7]);
        let frames = b.real_input("frames", axis, 2);
        let h = b.linear(&paths(&["a"]), frames, hidden, Some(Activation::Tanh));
        let named = b.pick(h, codes).unwrap();
        let both = b.concat(&[h, named]).unwrap();
        let of_tokens = b.narrow("heads.0", both, 2, None, Reach::One(0));
        b.output(of_tokens, 0, 0..2);
        let of_rows = b.pick(h, 1).unwrap();
        let of_rows = b.narrow("heads.1", of_rows, 3, None, Reach::One(1));
        b.output(of_rows, 0, 0..3);
        assert!(b.pick(b.numeric(), 1).is_err() && b.pick(h, 0).is_err());
        Case::of_positions(b.finish().unwrap(), lengths, seed % 4, seed as u64).check(true, |r| {
            let h = r.linear(&r.frames, "a").tanh();
            let tokens = Vec::<i64>::try_from(&r.tokens).unwrap();
            let of_rows = Vec::<i64>::try_from(r.codes.reshape([-1])).unwrap();
            let zeros = Tensor::zeros([h.size()[1]], (Kind::Double, Device::Cpu));
            let mut picked = Vec::new();
            let mut start = 0;
            let mut of_each = Vec::new();
            for (&length, &of_row) in r.lengths.iter().zip(&of_rows) {
                let pick = |name: i64| if name < length { h.get(start + name) } else { zeros.shallow_clone() };
                of_each.push(pick(of_row));
                picked.extend((start..start + length).map(|token| pick(tokens[token as usize])));
                start += length;
            }
            let both = Tensor::cat(&[&h, &Tensor::stack(&picked, 0)], 1);
            vec![r.linear(&both, "heads.0"), r.linear(&Tensor::stack(&of_each, 0), "heads.1")]
        });
    }
}

/// Of each position the logarithms of its labels' probabilities, over all paths of a row's labels one by one that are not at odds
/// with those known before it.
fn by_all_paths(x: &Tensor, moves: [&Tensor; 3], known: Option<&[i32]>) -> Tensor {
    let (count, labels) = x.size2().unwrap();
    let [moves, start, end] = moves;
    let label = |path: i64, t: i64| path / labels.pow(t as u32) % labels;
    let paths: Vec<i64> = (0..labels.pow(count as u32)).collect();
    let score = |&path: &i64| {
        let own = (0..count).fold(start.get(label(path, 0)), |sum, t| sum + x.get(t).get(label(path, t)));
        let moved = (1..count).fold(own, |sum, t| sum + moves.get(label(path, t - 1)).get(label(path, t)));
        moved + end.get(label(path, count - 1))
    };
    let scores: Vec<_> = paths.iter().map(score).collect();
    let fits = |path: i64, t: i64| {
        let known = known.unwrap_or_default().iter().take(t as usize).enumerate();
        known.filter(|(_, known)| **known >= 0).all(|(s, &known)| i64::from(known) == label(path, s as i64))
    };
    let each = (0..count).map(|t| {
        let of_label = |k: i64| {
            let own = paths.iter().zip(&scores).filter(|&(&path, _)| label(path, t) == k && fits(path, t));
            Tensor::stack(&own.map(|(_, score)| score.shallow_clone()).collect::<Vec<_>>(), 0).logsumexp(0, false)
        };
        Tensor::stack(&(0..labels).map(of_label).collect::<Vec<_>>(), 0).log_softmax(0, Kind::Double)
    });
    Tensor::stack(&each.collect::<Vec<_>>(), 0)
}

#[test]
fn chains_add_up_over_all_paths_of_labels() {
    let shapes: [&[usize]; 5] = [&[3, 0, 4], &[1], &[5], &[0, 0], &[2, 4, 1]];
    for (seed, lengths) in shapes.iter().cycle().take(20).enumerate() {
        let labels = 2 + seed % 2;
        let (mut b, [x, _]) = tokens(2, 2);
        let h = b.linear(&paths(&["a"]), x, 3, Some(Activation::Tanh));
        let scores = b.heads(&paths(&["heads.0", "heads.1"]), h, &[labels, 1]);
        let columns = b.value(scores).columns.clone();
        let at = |task: usize| Output { value: scores, group: 0, columns: columns[task].clone() };
        let [marginals, given] = b.chain("heads.0", 0, &at(0)).unwrap();
        b.output(marginals.value, 0, marginals.columns);
        b.judged(0, given);
        b.output(scores, 0, columns[1].clone());
        assert!(b.chain("rows", 0, &Output { value: b.numeric(), group: 0, columns: 0..2 }).is_err());
        let mut case = Case::of_positions(b.finish().unwrap(), lengths, 1 + seed % 4, seed as u64);
        let known = case.ragged.as_ref().unwrap().shown[0].1.clone();
        case.check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let h = r.linear(&Tensor::cat(&[&r.frames, &words], 1), "a").tanh();
            let moves = ["moves", "start", "end"].map(|name| r.param(&format!("heads.0.chain.{name}")));
            let whole = |known: Option<&[i32]>| {
                let mut first = 0;
                let mut each = vec![Tensor::zeros([0, labels as i64], (Kind::Double, Device::Cpu))];
                for x in rows_of(&r.linear(&h, "heads.0"), &r.lengths).iter().filter(|x| x.size()[0] > 0) {
                    let last = first + x.size()[0] as usize;
                    each.push(by_all_paths(x, moves, known.map(|known| &known[first..last])));
                    first = last;
                }
                Tensor::cat(&each, 0)
            };
            // What is predicted has the gradient of what is judged.
            let [predicted, judged] = [whole(None).detach(), whole(Some(&known))];
            vec![predicted + &judged - judged.detach(), r.linear(&h, "heads.1")]
        });
    }
}

/// Scores of pairs by a biaffine form, freely, and as arcs of which each position has one.
#[test]
fn pairs_are_scored_and_positions_attached() {
    let shapes: [&[usize]; 5] = [&[3, 1, 4], &[1], &[0, 2, 0, 3], &[2, 2], &[0, 0]];
    for (seed, lengths) in shapes.iter().cycle().take(20).enumerate() {
        let (_, inputs, hidden, _) = sizes(seed as u64);
        let kinds = 1 + seed as i64 % 3;
        let (mut b, [x, _]) = tokens(inputs, 2);
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        let form = |b: &mut Builder, path: &str, task: usize, columns: i64| {
            let size = FormSize { width: 2 + seed % 3, columns: columns as usize };
            b.biaffine(path, h, size, Some(Activation::Tanh), 0.0, Reach::One(task)).unwrap()
        };
        let free = form(&mut b, "free", 0, kinds);
        b.output(free, 0, 0..kinds as usize);
        let arcs = form(&mut b, "arcs", 1, 1);
        let of_kinds = form(&mut b, "kinds", 1, kinds);
        let attached = b.attach(arcs, of_kinds).unwrap();
        b.output(attached, 0, 0..1 + kinds as usize);
        assert!(b.attach(free, of_kinds).is_err());
        let rows = FormSize { width: 2, columns: 1 };
        assert!(b.biaffine("rows", b.numeric(), rows, None, 0.0, Reach::One(0)).is_err());
        Case::of_positions(b.finish().unwrap(), lengths, 1 + seed % 4, seed as u64).check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let h = r.linear(&Tensor::cat(&[&r.frames, &words], 1), "a").tanh();
            let form = |h: &Tensor, path: &str| {
                let [first, second] = ["first", "second"].map(|side| r.linear(h, &format!("{path}.{side}")).tanh());
                let (n, width) = first.size2().unwrap();
                let of_second = r.linear(&second, &format!("{path}.form")).reshape([n, -1, width + 1]);
                let inner = Tensor::einsum("iw,jkw->ijk", &[first, of_second.narrow(2, 0, width)], None::<i64>);
                inner + of_second.select(2, width).unsqueeze(0)
            };
            let outputs = |which: &dyn Fn(&Tensor) -> Tensor, columns: i64| {
                let zeros = Tensor::zeros([0, columns], (Kind::Double, Device::Cpu));
                let there = rows_of(&h, &r.lengths).into_iter().filter(|h| h.size()[0] > 0);
                let each = there.map(|h| which(&h).reshape([-1, columns]));
                Tensor::cat(&std::iter::once(zeros).chain(each).collect::<Vec<_>>(), 0)
            };
            let attached = |h: &Tensor| {
                let p = form(h, "arcs").squeeze_dim(2).softmax(1, Kind::Double).unsqueeze(2);
                let own = &p * form(h, "kinds").softmax(2, Kind::Double);
                Tensor::cat(&[(-p + 1.0).clamp_min(1e-30), own], 2).log()
            };
            vec![outputs(&|h| form(h, "free"), kinds), outputs(&attached, 1 + kinds)]
        });
    }
}

#[test]
fn lists_are_of_positions_that_have_a_label() {
    let shapes: [&[usize]; 5] = [&[3, 0, 4], &[1], &[5], &[0, 0], &[2, 6, 1]];
    for (seed, lengths) in shapes.iter().cycle().take(20).enumerate() {
        let width = 1 + seed % 2;
        let (mut b, [x, _]) = tokens(2, 2);
        let h = b.linear(&paths(&["a"]), x, 3, Some(Activation::Tanh));
        let scores = b.heads(&paths(&["heads.0", "heads.1"]), h, &[width, 2]);
        let columns = b.value(scores).columns.clone();
        let at = |task: usize| Output { value: scores, group: 0, columns: columns[task].clone() };
        let judged = b.list("heads.0", 0, &at(0)).unwrap();
        b.output(scores, 0, columns[0].clone());
        b.judged(0, judged);
        b.output(scores, 0, columns[1].clone());
        assert!(b.list("rows", 0, &Output { value: b.numeric(), group: 0, columns: 0..2 }).is_err());
        let mut case = Case::of_positions(b.finish().unwrap(), lengths, 1 + seed % 4, seed as u64);
        let known = case.ragged.as_ref().unwrap().shown[0].1.clone();
        case.check(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let h = r.linear(&Tensor::cat(&[&r.frames, &words], 1), "a").tanh();
            let scores = r.linear(&h, "heads.0");
            let mut first = 0;
            let mut each = vec![Tensor::zeros([0, width as i64], (Kind::Double, Device::Cpu))];
            for x in rows_of(&scores, &r.lengths) {
                let last = first + x.size()[0] as usize;
                let there = Tensor::from_slice(&known[first * width..last * width]).reshape(x.size()).ge(0);
                let of_column = |c: i64| {
                    let (x, there) = (x.select(1, c), there.select(1, c));
                    let whole = x.masked_select(&there).logsumexp(0, false);
                    (&x - whole).where_self(&there, &x.zeros_like())
                };
                if last > first {
                    each.push(Tensor::stack(&(0..width as i64).map(of_column).collect::<Vec<_>>(), 1));
                }
                first = last;
            }
            // What is predicted has the gradient of what is judged.
            let judged = Tensor::cat(&each, 0);
            vec![scores.detach() + &judged - judged.detach(), r.linear(&h, "heads.1")]
        });
    }
}

#[test]
fn batch_norm_over_positions_counts_those_that_are() {
    let shapes: [&[usize]; 5] = [&[3, 0, 4], &[1], &[0, 0], &[2, 5, 1], &[1, 1]];
    for (seed, lengths) in shapes.iter().cycle().take(20).enumerate() {
        let (_, inputs, hidden, tasks) = sizes(seed as u64);
        let training = seed % 2 == 0;
        let (mut b, [x, _]) = tokens(inputs, 2);
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Activation::Tanh));
        let h = b.batch_norm(&paths(&["n"]), h);
        add_heads(&mut b, h, tasks);
        let mut case = Case::of_positions(b.finish().unwrap(), lengths, 1 + seed % 4, seed as u64);
        let kind = (Kind::Double, Device::Cpu);
        let (mean, variance) = (Tensor::zeros([hidden as i64], kind), Tensor::ones([hidden as i64], kind));
        let counts = training && lengths.iter().sum::<usize>() > 1;
        case.check(training, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let h = r.linear(&Tensor::cat(&[&r.frames, &words], 1), "a").tanh();
            let (w, b) = (Some(r.param("n.weight")), Some(r.param("n.bias")));
            heads(r, &h.batch_norm(w, b, Some(&mean), Some(&variance), counts, 0.1, 1e-5, false), tasks)
        });
        let running = Vec::<f64>::try_from(Tensor::cat(&[mean, variance], 0)).unwrap();
        close(&case.params.state.all().unwrap(), &running, "running statistics");
    }
}

#[test]
fn terms_of_positions_are_means_over_those_that_are() {
    for seed in 0..8 {
        let lengths = [&[3_usize, 0, 4][..], &[1, 2]][seed % 2];
        let (mut b, [x, _]) = tokens(2, 2);
        let z = b.linear(&paths(&["z"]), x, 6, None);
        let w = b.linear(&paths(&["w"]), x, 2, None);
        let g = b.selectors(z, w, 2, 5, 4.0, 0.3).unwrap();
        let [first, second] = [0, 1].map(|t| b.narrow(&format!("heads.{t}"), g, 1, None, Reach::One(t)));
        let second = b.calibrate(first, second, 2.0, Reach::One(1)).unwrap();
        b.output(first, 0, 0..1);
        b.output(second, 0, 0..1);
        let mut case = Case::of_positions(b.finish().unwrap(), lengths, 1 + seed % 4, seed as u64);
        case.check_terms(true, |r| {
            let words = r.param("words.weight").index_select(0, &r.tokens);
            let x = Tensor::cat(&[&r.frames, &words], 1);
            let [gates, entropy, spare] = select(&r.linear(&x, "z"), &r.linear(&x, "w"), 5, 4.0);
            let [first, second] = [0, 1].map(|t| r.linear(&gates, &format!("heads.{t}")));
            // What the gates add belongs to both tasks in equal parts, and of the excess what is each one's own.
            let each = 0.5 * (0.3 * &entropy + &spare);
            let excess = |a: &Tensor, b: &Tensor| 2.0 * beyond(a, b);
            let of_tasks = vec![&each + excess(&first, &second.detach()), &each + excess(&first.detach(), &second)];
            let terms = vec![0.3 * entropy, spare, excess(&first, &second)];
            (vec![first, second], of_tasks, terms)
        });
    }
}

/// A batch needs room for the pairs of all its positions.
#[test]
fn room_follows_from_rows_and_their_positions() {
    let (mut b, [x, axis]) = tokens(3, 2);
    let pairs = b.pairs(axis).unwrap();
    let grid = b.grid("pixels", 4, 6);
    let blocks = b.blocks(grid, 2, 3).unwrap();
    assert!(b.pairs(ROWS).is_err() && b.blocks(grid, 3, 3).is_err() && b.blocks(axis, 1, 1).is_err());
    let wrong = |b: &mut Builder, fine: AxisId, coarse: AxisId, by: By| {
        b.pool_along("p", x, Link { fine, coarse, by }, Pool::Sum, Reach::All).unwrap_err().to_string()
    };
    let name = "positions of `tokens` do not belong to those of `rows` by First";
    assert_eq!(wrong(&mut b, axis, ROWS, By::First), name);
    assert_eq!(wrong(&mut b, pairs, axis, By::First), "a value of `pairs of tokens` is wanted; got one of `tokens`");
    add_heads(&mut b, 0, 1);
    let net = b.finish().unwrap();
    let lengths = [3_usize, 0, 50];
    let sum = |asked: AxisId, of: &dyn Fn(usize) -> usize| {
        assert_eq!(asked, axis);
        lengths.into_iter().map(of).sum()
    };
    let extents = net.extents(3, sum).unwrap();
    let [tokens, of_pairs] = [axis, pairs].map(|axis| extents.each()[axis]);
    assert_eq!(
        [tokens, of_pairs],
        [64, 2560],
        "53 and 2509 in steps of a sixteenth of the next power of two, at least 16"
    );
    assert_eq!([grid, blocks].map(|axis| extents.each()[axis]), [3 * 24, 3 * 4]);
    assert!(net.extents(3, |_, of| of(1 << 20)).unwrap_err().to_string().contains("use a smaller `batch_size`"));
    let params = Params::<f64>::new(&net.params, &net.state, 1).unwrap();
    // SAFETY: no slice of the parameters is held while the plan runs.
    let mut plan = unsafe { Plan::new(&net, &params, extents, Purpose::BOTH) }.unwrap();
    plan.place(axis, &[0, 3, 3, 53]).unwrap();
    assert_eq!([ROWS, axis, pairs, grid, blocks].map(|axis| plan.count(axis)), [3, 53, 9 + 2500, 72, 12]);
    assert!(plan.place(axis, &[0, 60, 59, 61]).is_err() && plan.place(grid, &[0, 24, 48, 72]).is_err());
    assert!(
        plan.place(axis, &[0, 60, 60, 60]).unwrap_err().to_string().contains("`pairs of tokens`: there is room for")
    );
}

#[test]
fn what_mixes_axes_is_refused() {
    let refused = |build: &dyn Fn(&mut Builder, ValueId, ValueId)| {
        let (mut b, [x, axis]) = tokens(3, 2);
        build(&mut b, x, axis);
        b.finish().unwrap_err().to_string()
    };
    let mixed = refused(&|b, x, _| {
        b.concat(&[x, b.numeric()]).unwrap();
    });
    assert_eq!(mixed, "Concat of `tokens` and `rows` at once: spread or pool one of them");
    let (mut b, [x, axis]) = tokens(3, 2);
    assert!(b.spread(x, axis).is_err() && b.pool("sum", b.numeric(), Pool::Sum, Reach::All).is_err());
    assert!(b.window(b.numeric(), 1, 1).is_err());
}

#[test]
fn code_of_the_callers_own_gives_its_gradients_itself() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let foreign = |inner: usize, outer: usize| Arc::new(ForeignGate(Gate(inner, outer))) as Arc<dyn Module>;
        let mut b = Builder::new(inputs, &[]);
        let first = b.island(&paths(&["first"]), &[b.numeric()], &foreign(inputs, hidden)).unwrap();
        let h = b.linear(&paths(&["a"]), first, hidden, Some(Activation::Tanh));
        let i = b.island(&paths(&["island"]), &[h], &foreign(hidden, 3)).unwrap();
        let each = b.each(i, tasks, Reach::Own);
        let own = b.island(&numbered("own", tasks), &[each], &foreign(3, 4)).unwrap();
        add_own_heads(&mut b, own, tasks);
        let net = b.finish().unwrap();
        let names: Vec<_> =
            net.foreign().into_iter().flat_map(|node| node.entries).map(|entry| entry.name.to_string()).collect();
        assert_eq!(names[..4], ["first.matrix", "first.forwards", "island.matrix", "island.forwards"]);
        assert_eq!(names.len(), 4 + 2 * tasks);
        Case::new(net, rows, seed).check(true, |r| {
            let gate = |x: &Tensor, path: &str| {
                let z = x.matmul(r.param(&format!("{path}.matrix")));
                z.tanh() * &z
            };
            let h = r.linear(&gate(&r.numeric, "first"), "a").tanh();
            let h = gate(&h, "island");
            (0..tasks).map(|t| r.linear(&gate(&h, &format!("own{t}")), &format!("heads.{t}"))).collect()
        });
    }
}

#[test]
fn buffers_of_the_callers_own_code_move_in_training() {
    let mut b = Builder::new(3, &[]);
    let module: Arc<dyn Module> = Arc::new(ForeignGate(Gate(3, 4)));
    let h = b.island(&paths(&["m"]), &[b.numeric()], &module).unwrap();
    add_heads(&mut b, h, 2);
    let mut case = Case::new(b.finish().unwrap(), 5, 1);
    assert_eq!(case.params.state.all().unwrap(), &[0.0, 5.0][..]);
    case.run(Pass::Summed, true);
    assert_eq!(case.params.state.all().unwrap(), &[1.0, 6.0][..]);
    case.run(Pass::Summed, false);
    assert_eq!(case.params.state.all().unwrap(), &[1.0, 6.0][..]);
}

#[test]
fn micro_batches_add_up() {
    let mut b = Builder::new(4, &[3, 9]);
    let waves = Embed::Periodic { width: 2, frequencies: 3, scale: 0.3, lite: false, activation: true, raw: true };
    let numbers = b.embedded("waves", b.numeric(), waves).unwrap();
    let lines = b.piecewise("lines", b.numeric(), [3, 2], true, true).unwrap();
    let numbers = b.concat(&[numbers, lines]).unwrap();
    let x = b.features_after(numbers, &[Feature::plain(2), Feature { sparse: true, ..Feature::plain(2) }]);
    let h = b.linear(&paths(&["a"]), x, 6, Some(Activation::Tanh));
    add_heads(&mut b, h, 2);
    let mut case = Case::new(b.finish().unwrap(), 9, 4);
    case.params.state.put(0, &edges(4, 3, 4).concat()).unwrap();
    case.run(Pass::Summed, true);
    let learned =
        |case: &Case| case.net.entries.iter().filter(|entry| entry.param.is_some()).cloned().collect::<Vec<_>>();
    let once: Vec<_> = learned(&case).iter().map(|entry| case.gradient(entry)).collect();
    let step = Step { accumulate: true, ..case.step(true) };
    case.plan.clear(Pass::Summed).unwrap();
    for (task, seed) in case.seeds.iter().enumerate() {
        case.plan.set_gradient(task, Pass::Summed, seed).unwrap();
    }
    case.plan.backward(&step, Pass::Summed).unwrap();
    for (entry, once) in learned(&case).iter().zip(once) {
        let twice: Vec<_> = once.iter().map(|g| 2.0 * g).collect();
        close(&case.gradient(entry), &twice, "two equal micro-batches");
    }
}

/// The network of a builder with everything frozen whose path begins so.
fn frozen(b: Builder, below: &[&str]) -> Network {
    let mut net = b.finish().unwrap();
    net.freeze(|entry| below.iter().any(|path| entry.name.starts_with(path)));
    net
}

#[test]
fn frozen_parts_get_no_gradient_and_the_rest_its_own() {
    let parts: [&[&str]; 12] = [
        &["embedding.0"],
        &["embedding"],
        &["a."],
        &["embedding", "a.", "n."],
        &["n.weight", "c.bias"],
        &["n.", "c."],
        &["e1."],
        &["e0.", "f1.", "heads.0."],
        &["m."],
        &["heads.1.weight"],
        &["heads."],
        &["embedding", "a.", "n.", "c.", "e", "f", "m."],
    ];
    for (seed, below) in parts.iter().enumerate() {
        let (rows, tasks) = (7 + seed, 3);
        let mut b = Builder::new(4, &[5, 3]);
        let x = b.features(&[Feature::plain(3), Feature { sparse: true, ..Feature::plain(2) }]);
        let h = b.linear(&paths(&["a"]), x, 6, Some(Activation::Tanh));
        let h = b.layer_norm(&paths(&["n"]), h);
        let h = b.linear(&paths(&["c"]), h, 6, Some(Activation::Gelu));
        let e = b.fan_out(&paths(&["e0", "e1"]), h, 4, Some(Activation::Tanh), Reach::All);
        let e = b.linear(&paths(&["f0", "f1"]), e, 4, None);
        let e = b.join(e);
        let e = b.island(&paths(&["m"]), &[e], &module(8, 5)).unwrap();
        add_heads(&mut b, e, tasks);
        Case::new(frozen(b, below), rows, seed as u64).check(true, |r| {
            let table = |k: i64| r.param(&format!("embedding.{k}.weight")).index_select(0, &r.codes.select(1, k));
            let h = r.linear(&Tensor::cat(&[r.numeric.shallow_clone(), table(0), table(1)], 1), "a").tanh();
            let h = h.layer_norm([6], Some(r.param("n.weight")), Some(r.param("n.bias")), 1e-5, false);
            let h = r.linear(&h, "c").gelu("none");
            let expert = |k: usize| r.linear(&r.linear(&h, &format!("e{k}")).tanh(), &format!("f{k}"));
            let z = Tensor::cat(&[expert(0), expert(1)], 1).matmul(r.param("m.matrix"));
            heads(r, &(z.tanh() * &z), tasks)
        });
    }
}

#[test]
fn towers_and_stitches_may_be_frozen_one_by_one() {
    let parts: [&[&str]; 5] = [&["t0."], &["s.0"], &["s.", "t2."], &["t", "s."], &["t", "s.", "heads.1."]];
    for (seed, below) in parts.iter().enumerate() {
        let tasks = 3;
        let mut b = Builder::new(4, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), 6, Some(Activation::Tanh));
        let t = b.fan_out(&numbered("t", tasks), h, 5, Some(Activation::Tanh), Reach::All);
        let start = |to: usize, from: usize| 0.3 + 0.1 * (to + 2 * from) as f64;
        let mix = Mixing { inputs: &[t], across: true, parts: 1, start: &start, rule: MixRule::Plain };
        let t = b.stitch(&numbered("s.", tasks), mix, Reach::Own).unwrap();
        add_own_heads(&mut b, t, tasks);
        Case::new(frozen(b, below), 9, seed as u64).check(true, |r| {
            let h = r.linear(&r.numeric, "a").tanh();
            let towers: Vec<_> = (0..tasks).map(|k| r.linear(&h, &format!("t{k}")).tanh()).collect();
            let mixed = |to: usize| {
                let weights = r.param(&format!("s.{to}.weight"));
                let terms = towers.iter().enumerate().map(|(from, tower)| tower * weights.select(0, from as i64));
                terms.reduce(|sum, term| sum + term).unwrap()
            };
            (0..tasks).map(|task| r.linear(&mixed(task), &format!("heads.{task}"))).collect()
        });
    }
}

#[test]
fn frozen_batch_norms_keep_their_statistics() {
    let (rows, hidden) = (9, 4);
    let mut b = Builder::new(3, &[]);
    let x = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Activation::Tanh));
    let e = b.each(x, 2, Reach::All);
    let e = b.batch_norm(&paths(&["n0", "n1"]), e);
    let e = b.join(e);
    add_heads(&mut b, e, 2);
    let mut case = Case::new(frozen(b, &["n1."]), rows, 3);
    case.params.state.put(0, &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8].repeat(2)).unwrap();
    let before = case.params.state.all().unwrap().into_owned();
    let (mean, variance) = (Tensor::from_slice(&before[4..8]), Tensor::from_slice(&before[12..16]));
    case.check(true, |r| {
        let h = r.linear(&r.numeric, "a").tanh();
        let norm = |k: usize, training: bool| {
            let (w, b) = (r.param(&format!("n{k}.weight")), r.param(&format!("n{k}.bias")));
            let (mean, variance) = (mean.copy(), variance.copy());
            h.batch_norm(Some(w), Some(b), Some(&mean), Some(&variance), training, 0.1, 1e-5, false)
        };
        heads(r, &Tensor::cat(&[norm(0, true), norm(1, false)], 1), 2)
    });
    let (after, groups) = (case.params.state.all().unwrap(), [0..4, 4..8, 8..12, 12..16]);
    let moved: Vec<_> = groups.into_iter().map(|g| after[g.clone()] != before[g]).collect();
    assert_eq!(moved, [true, false, true, false]);
}

/// Counts how often it runs, and how often a gradient is asked of it.
#[derive(Debug, Default)]
struct Counting {
    forwards: AtomicUsize,
    gradients: AtomicUsize,
}

impl Module for Counting {
    fn width(&self) -> usize {
        3
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>, Init)> {
        vec![("matrix".into(), vec![4, 3], Init::Uniform(0.5))]
    }

    fn forward(&self, inputs: &[Tensor], parameters: &[Tensor], _: bool) -> polytask::error::Result<Tensor> {
        let wanted = inputs.iter().chain(parameters).any(Tensor::requires_grad);
        self.forwards.fetch_add(1, Ordering::Relaxed);
        self.gradients.fetch_add(usize::from(wanted), Ordering::Relaxed);
        Ok(inputs[0].f_matmul(&parameters[0])?)
    }
}

#[test]
fn nothing_runs_backwards_through_a_frozen_trunk() {
    let counting = Arc::new(Counting::default());
    let module: Arc<dyn Module> = counting.clone();
    let mut b = Builder::new(5, &[4]);
    let x = b.features(&[Feature::plain(2)]);
    let h = b.linear(&paths(&["encoder.0"]), x, 4, Some(Activation::Relu));
    let m = b.island(&paths(&["encoder.1"]), &[h], &module).unwrap();
    let d = b.dropout(m, 0.5);
    let old = b.narrow("heads.old", d, 2, None, Reach::One(0));
    let new = b.narrow("heads.new", d, 2, None, Reach::One(1));
    [old, new].into_iter().for_each(|value| b.output(value, 0, 0..2));
    let mut case = Case::new(frozen(b, &["embedding", "encoder", "heads.old"]), 6, 1);
    for pass in [Pass::Summed, Pass::PerTask] {
        fill(&mut case.params.gradients, f64::NAN);
        case.run(pass, true);
        let upstream = [x, h, m, d, old].map(|value| case.plan.gradient(value, pass).is_none());
        assert_eq!(upstream, [true; 5]);
        assert!(case.plan.gradient(new, pass).is_some());
        for entry in &case.net.entries {
            let learned = case.params.gradients.numbers(entry.range.clone()).unwrap().iter().all(|g| g.is_finite());
            assert_eq!(learned, entry.name.starts_with("heads.new"), "{}", entry.name);
        }
    }
    let counts = [&counting.forwards, &counting.gradients].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [2, 0]);
    case.net.freeze(|_| false);
    // SAFETY: no slice of the parameters is held while the plan runs.
    case.plan = unsafe { Plan::new(&case.net, &case.params, 6, Purpose::Train) }.unwrap();
    case.run(Pass::Summed, true);
    assert_eq!(counting.gradients.load(Ordering::Relaxed), 1);
    let gradients = case.params.gradients.all().unwrap();
    assert!(case.net.entries.iter().all(|entry| gradients[entry.range.clone()].iter().all(|g| g.is_finite())));
}
