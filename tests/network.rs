//! Every node, in all three backwards, against libtorch's autograd in `f64`.

use polytask::network::builder::Builder;
use polytask::network::gradient::{Pass, Store};
use polytask::network::half as halves;
use polytask::network::nodes::activation::Curve;
use polytask::network::nodes::embedding::{Bag, Combine, Feature};
use polytask::network::nodes::island::Module;
use polytask::network::nodes::mixture::Experts;
use polytask::network::nodes::stitch::{Mix, Rule};
use polytask::network::params::Params;
use polytask::network::plan::{Plan, Purpose, Step};
use polytask::network::random::Stream;
use polytask::network::touched::SparseGradient;
use polytask::network::{Entry, Init, NOTHING, Network, Reach, ValueId};
use std::sync::Arc;
use tch::{Kind, Tensor};

const TOLERANCE: f64 = 1e-9;

/// Tensors of every parameter, by name, and the inputs: what a reference forward needs.
struct Reference {
    params: Vec<(String, Tensor)>,
    numeric: Tensor,
    codes: Tensor,
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
    seeds: Vec<Vec<f64>>,
}

fn random(stream: Stream, len: usize) -> Vec<f64> {
    (0..len).map(|i| stream.normal(i as u64)).collect()
}

impl Case {
    fn new(net: Network, rows: usize, seed: u64) -> Self {
        let stream = |k| Stream::new(seed, &[99, k]);
        let mut params = Params::<f64>::new(&net, seed).unwrap();
        for entry in net.entries.iter().filter(|e| e.param.is_some()) {
            // Norms start as the identity and biases small: move everything so that nothing is hidden by a zero.
            let noise = random(stream(entry.range.start as u64 + 1000), entry.range.len());
            params.values.slice_mut()[entry.range.clone()].iter_mut().zip(noise).for_each(|(p, n)| *p += 0.3 * n);
        }
        let plan = Plan::new(&net, &params, rows, Purpose::BOTH).unwrap();
        let numeric = random(stream(1), rows * net.numeric);
        let columns = net.categorical.len();
        let code = |i: usize| (stream(2).bits(i as u64) % net.categorical[i % columns] as u64) as u32;
        let codes = (0..rows * columns).map(code).collect();
        let seeds = net.outputs.iter().enumerate().map(|(t, output)| {
            let width = output.columns.len();
            let mut seed = random(stream(3 + t as u64), rows * width);
            // Rows without a label.
            (0..rows).filter(|r| (r + t) % 3 == 0).for_each(|r| seed[r * width..(r + 1) * width].fill(0.0));
            seed
        });
        let seeds = seeds.collect();
        Self { net, rows, params, plan, codes, numeric, seeds }
    }

    fn step(&self, training: bool) -> Step<'static> {
        let codes = self.codes.clone().leak();
        Step { codes, seed: 5, number: 3, training, accumulate: false, weights: &[] }
    }

    fn run(&mut self, pass: Pass, training: bool) -> Vec<Vec<f64>> {
        let step = self.step(training);
        self.run_step(pass, &step)
    }

    fn run_step(&mut self, pass: Pass, step: &Step<'_>) -> Vec<Vec<f64>> {
        self.plan.numeric().copy_from_slice(&self.numeric);
        self.plan.forward(step).unwrap();
        self.plan.clear(pass);
        let mut outputs = Vec::new();
        for (task, seed) in self.seeds.iter().enumerate() {
            let (values, gradients, window) = self.plan.output_and_gradient(task, pass);
            let mut output = Vec::new();
            for r in 0..self.rows {
                let at = r * window.stride;
                output.extend_from_slice(&values[at..at + window.width]);
                gradients[at..at + window.width].copy_from_slice(&seed[r * window.width..(r + 1) * window.width]);
            }
            outputs.push(output);
        }
        self.plan.backward(step, pass).unwrap();
        outputs
    }

    fn reference(&self) -> Reference {
        let tensor = |data: &[f64], shape: &[usize]| {
            Tensor::from_slice(data).reshape(shape.iter().map(|&n| n as i64).collect::<Vec<_>>())
        };
        let values = self.params.values.slice();
        let named = self.net.entries.iter().filter(|e| e.param.is_some());
        let params =
            named.map(|e| (e.name.clone(), tensor(&values[e.range.clone()], &e.shape).set_requires_grad(true)));
        let codes: Vec<_> = self.codes.iter().map(|&c| i64::from(c)).collect();
        let columns = self.net.categorical.len() as i64;
        Reference {
            params: params.collect(),
            numeric: tensor(&self.numeric, &[self.rows, self.net.numeric]),
            codes: Tensor::from_slice(&codes).reshape([self.rows as i64, columns]),
        }
    }

    /// Outputs, the summed gradient, the Jacobian and the Gramian against autograd through `forward`.
    fn check(&mut self, training: bool, forward: impl Fn(&Reference) -> Vec<Tensor>) {
        let reference = self.reference();
        let outputs = forward(&reference);
        let leaves: Vec<_> = reference.params.iter().map(|(_, p)| p.shallow_clone()).collect();
        let rows: Vec<Vec<Vec<f64>>> = outputs
            .iter()
            .zip(&self.seeds)
            .map(|(output, seed)| {
                let along = (output * Tensor::from_slice(seed).reshape(output.size())).sum(Kind::Double);
                // Parameters of other tasks do not take part; a zero keeps them in the graph.
                let along = leaves.iter().fold(along, |sum, leaf| sum + leaf.sum(Kind::Double) * 0.0);
                let gradients = Tensor::run_backward(&[along], &leaves, true, false);
                gradients.iter().map(|g| Vec::<f64>::try_from(g.reshape([-1])).unwrap()).collect()
            })
            .collect();
        let state = self.params.state.slice().to_vec();
        let got = self.run(Pass::Summed, training);
        for (got, want) in got.iter().zip(&outputs) {
            close(got, &Vec::<f64>::try_from(want.reshape([-1])).unwrap(), "outputs");
        }
        self.check_summed(&rows, "summed");
        self.check_weighed(&rows, &state, training);
        self.params.state.slice_mut().copy_from_slice(&state);
        self.params.gradients.slice_mut().fill(f64::NAN);
        self.run(Pass::PerTask, training);
        self.check_per_task(&rows);
        let whole = self.plan.slabs().unwrap().gramian();
        self.params.state.slice_mut().copy_from_slice(&state);
        let small = Plan::new(&self.net, &self.params, self.rows, Purpose::PerTask(Store::Within(0))).unwrap();
        let large = std::mem::replace(&mut self.plan, small);
        self.run(Pass::PerTask, training);
        let slabs = self.plan.slabs().unwrap();
        close(&slabs.gramian(), &whole, "Gramian beyond the budget");
        assert!(self.net.shared().iter().all(|&p| slabs.row(p, 0).is_none()));
        if halves::supported() {
            self.params.state.slice_mut().copy_from_slice(&state);
            let halved = Plan::new(&self.net, &self.params, self.rows, Purpose::PerTask(Store::Halves)).unwrap();
            self.plan = halved;
            self.run(Pass::PerTask, training);
            let (halved, tasks) = (self.plan.slabs().unwrap().gramian(), rows.len());
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
            None => self.params.gradients.slice()[entry.range.clone()].to_vec(),
        }
    }

    fn check_summed(&self, rows: &[Vec<Vec<f64>>], what: &str) {
        for (i, entry) in self.net.entries.iter().filter(|e| e.param.is_some()).enumerate() {
            let sum: Vec<_> = (0..entry.range.len()).map(|k| rows.iter().map(|row| row[i][k]).sum()).collect();
            close(&self.gradient(entry), &sum, &format!("{what} {}", entry.name));
        }
    }

    /// The summed pass with a weight a task: shared parameters get the weighted sum, a task's own what they got before.
    fn check_weighed(&mut self, rows: &[Vec<Vec<f64>>], state: &[f64], training: bool) {
        self.params.state.slice_mut().copy_from_slice(state);
        let weights: Vec<_> = (0..rows.len()).map(|task| 0.25 * task as f64 - 0.5).collect();
        let step = Step { weights: &weights, ..self.step(training) };
        self.run_step(Pass::Summed, &step);
        for (i, entry) in self.net.entries.iter().filter(|e| e.param.is_some()).enumerate() {
            let shared = self.net.params[entry.param.unwrap()].reach == Reach::All;
            let weight = |task: usize| if shared { weights[task] } else { 1.0 };
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
            if let Some(table) = &self.params.tables[param] {
                rows.iter().enumerate().for_each(|(t, row)| close(&whole(table, t, entry), &row[i], &entry.name));
                continue;
            }
            if self.net.params[param].reach != Reach::All {
                let sum: Vec<_> = (0..entry.range.len()).map(|k| rows.iter().map(|row| row[i][k]).sum()).collect();
                close(&self.gradient(entry), &sum, &format!("own {}", entry.name));
                continue;
            }
            let first = self.net.params[param].range.start;
            for (task, row) in rows.iter().enumerate() {
                let whole = slabs.row(param, task).unwrap();
                close(
                    &whole[entry.range.start - first..entry.range.end - first],
                    &row[i],
                    &format!("task {task} {}", entry.name),
                );
                for (other, second) in rows.iter().enumerate() {
                    gramian[task * tasks + other] += row[i].iter().zip(&second[i]).map(|(a, b)| a * b).sum::<f64>();
                }
            }
        }
        close(&slabs.gramian(), &gramian, "Gramian");
    }
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

fn curve(x: &Tensor, curve: Curve) -> Tensor {
    match curve {
        Curve::Relu => x.relu(),
        Curve::LeakyRelu => x.leaky_relu(),
        Curve::Elu => x.elu(),
        Curve::Gelu => x.gelu("none"),
        Curve::Silu => x.silu(),
        Curve::Tanh => x.tanh(),
        Curve::Sigmoid => x.sigmoid(),
    }
}

const CURVES: [Curve; 7] =
    [Curve::Relu, Curve::LeakyRelu, Curve::Elu, Curve::Gelu, Curve::Silu, Curve::Tanh, Curve::Sigmoid];

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
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Curve::Tanh));
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
        let m = b.linear(&paths(&["b"]), n, hidden, Some(Curve::Silu));
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
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
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
        close(case.params.state.slice(), &running, "running statistics");
    }
}

#[test]
fn dropout_uses_one_mask_for_all_lanes() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Sigmoid));
        let d = b.dropout(h, 0.4);
        let h2 = b.linear(&paths(&["b"]), d, hidden, None);
        add_heads(&mut b, h2, tasks);
        let mut case = Case::new(b.finish().unwrap(), rows, seed);
        case.run(Pass::Summed, true);
        let ratio: Vec<_> = case.plan.value(d).iter().zip(case.plan.value(h)).map(|(d, h)| d / h).collect();
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
    let zeros = case.plan.value(d).iter().filter(|&&x| x == 0.0).count() as f64 / 100_000.0;
    assert!((zeros - 0.3).abs() < 0.01, "{zeros}");
}

#[test]
fn towers_of_one_size_run_as_groups() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed + 1);
        let tasks = tasks + 1;
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
        let of = |k: usize| (0..tasks).map(|t| format!("t{t}.{k}")).collect::<Vec<_>>();
        let t = b.fan_out(&of(0), h, 4, Some(Curve::Gelu), Reach::Own);
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
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
        let e = b.fan_out(&paths(&["e0", "e1", "e2"]), h, 4, Some(Curve::Tanh), Reach::All);
        let e = b.batch_norm(&paths(&["n0", "n1", "n2"]), e);
        let e = b.linear(&paths(&["f0", "f1", "f2"]), e, 5, Some(Curve::Silu));
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
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
        let s = b.select(h, 0, 0..1, Reach::One(0));
        let x = b.concat(&[h, s]).unwrap();
        let t = b.narrow("t0", x, 2, None, Reach::One(0));
        b.output(t, 0, 0..2);
        let d = b.narrow("t1", h, 3, Some(Curve::Elu), Reach::One(1));
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
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
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
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
        let e = b.fan_out(&numbered("e", common), h, width, Some(Curve::Silu), Reach::All);
        let o = b.fan_out(&numbered("o", tasks * own), h, width, Some(Curve::Tanh), Reach::Own);
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
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
        let o = b.fan_out(&numbered("o", tasks), h, 4, Some(Curve::Gelu), Reach::All);
        let g = b.fan_out(&paths(&["g"]), h, tasks, None, Reach::All);
        let g = b.softmax(g);
        let shared = b.mixture(g, &[Experts { value: o, common: true }], Reach::All).unwrap();
        let e = b.fan_out(&numbered("e", 2), shared, 3, Some(Curve::Tanh), Reach::All);
        let each = b.each(o, 2, Reach::Own);
        let p = b.linear(&numbered("p", 2 * tasks), each, 3, Some(Curve::Silu));
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
        ) -> Mix<'a> {
            Mix { inputs, across, parts, start, rule: Rule::Plain }
        }
        let x0 = b.fan_out(&numbered("a", tasks), b.numeric(), width, Some(Curve::Tanh), Reach::All);
        let y0 = b.stitch(&numbered("s", tasks), mix(&[x0], true, parts, &start), Reach::All).unwrap();
        let x1 = b.linear(&numbered("b", tasks), y0, width, Some(Curve::Silu));
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

#[test]
fn sampled_stitches_choose_one_in_evaluation() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let rule = Rule::Sampled { temperature: 2.0, decay: 0.5, lowest: 0.5 };
        let x = b.fan_out(&numbered("a", 3), b.numeric(), hidden, Some(Curve::Tanh), Reach::All);
        let mix = Mix { inputs: &[x], across: true, parts: 1, start: &|_, _| 0.0, rule };
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
        let e = b.fan_out(&numbered("e", 3), b.numeric(), hidden, Some(Curve::Gelu), Reach::All);
        let tied = b.tied("tied", e, 4, Some(Curve::Silu));
        let lone = b.linear(&paths(&["a"]), b.numeric(), 4, Some(Curve::Tanh));
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
                let own = if t % 2 == 0 { tied(t % 3) } else { lone.shallow_clone() };
                r.linear(&(own + r.linear(&joined, &format!("j{t}"))), &format!("heads.{t}"))
            };
            (0..tasks).map(task).collect()
        });
    }
}

/// The sum or mean of the rows of a bag's codes; columns of nothing do not count.
fn bag(table: &Tensor, codes: &Tensor, combine: Combine) -> Tensor {
    let there = codes.ne(i64::from(NOTHING));
    let rows = table.index_select(0, &(codes * &there).reshape([-1]));
    let rows = rows.reshape([codes.size()[0], codes.size()[1], -1]) * there.unsqueeze(2);
    let sum = rows.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
    match combine {
        Combine::Sum => sum,
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
        let h = b.linear(&paths(&["a"]), x, hidden, Some(Curve::Tanh));
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

#[test]
fn islands_run_under_autograd() {
    for seed in 0..10 {
        let (rows, inputs, hidden, tasks) = sizes(seed);
        let mut b = Builder::new(inputs, &[]);
        let h = b.linear(&paths(&["a"]), b.numeric(), hidden, Some(Curve::Tanh));
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

#[test]
fn micro_batches_add_up() {
    let mut b = Builder::new(4, &[3, 9]);
    let x = b.features(&[Feature::plain(2), Feature { sparse: true, ..Feature::plain(2) }]);
    let h = b.linear(&paths(&["a"]), x, 6, Some(Curve::Tanh));
    add_heads(&mut b, h, 2);
    let mut case = Case::new(b.finish().unwrap(), 9, 4);
    case.run(Pass::Summed, true);
    let once: Vec<_> = case.net.entries.iter().map(|entry| case.gradient(entry)).collect();
    let step = Step { accumulate: true, ..case.step(true) };
    case.plan.clear(Pass::Summed);
    for (task, seed) in case.seeds.iter().enumerate() {
        let (_, gradients, window) = case.plan.output_and_gradient(task, Pass::Summed);
        for (r, seed) in seed.chunks_exact(window.width).enumerate() {
            gradients[r * window.stride..r * window.stride + window.width].copy_from_slice(seed);
        }
    }
    case.plan.backward(&step, Pass::Summed).unwrap();
    for (entry, once) in case.net.entries.iter().zip(once) {
        let twice: Vec<_> = once.iter().map(|g| 2.0 * g).collect();
        close(&case.gradient(entry), &twice, "two equal micro-batches");
    }
}
