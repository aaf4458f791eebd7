//! Every sharing scheme, with an encoder that is an island: the same as with one of nodes, in both backwards.

use std::sync::Arc;

use polytask::component::Described;
use polytask::encoder::{self, Encoder};
use polytask::error::Result;
use polytask::input::Inputs;
use polytask::machine::random::Stream;
use polytask::model::assemble;
use polytask::network::builder::{Builder, Limit};
use polytask::network::nodes::island::Module;
use polytask::network::pass::{Pass, Purpose, Step};
use polytask::network::plan::Plan;
use polytask::network::{Network, ValueId};
use polytask::parameters::flat::Params;
use polytask::parameters::{Init, Reach};
use polytask::task::Task;
use polytask::{head, sharing};
use serde_json::{Value, json};
use tch::Tensor;

const ROWS: usize = 11;
const INPUTS: usize = 5;
const WIDTH: usize = 4;

/// `tanh(x W^T + b)` under autograd.
#[derive(Debug)]
struct Layer {
    inner: usize,
}

impl Module for Layer {
    fn width(&self) -> usize {
        WIDTH
    }

    fn parameters(&self) -> Vec<(String, Vec<usize>, Init)> {
        let init = Init::Uniform(0.5);
        vec![("weight".into(), vec![WIDTH, self.inner], init.clone()), ("bias".into(), vec![WIDTH], init)]
    }

    fn forward(&self, inputs: &[Tensor], parameters: &[Tensor], _: bool) -> Result<Tensor> {
        Ok(inputs[0].f_linear(&parameters[0], Some(&parameters[1]))?.f_tanh()?)
    }
}

/// Two such layers.
#[derive(Debug)]
struct Islands;

impl Described for Islands {
    fn describe(&self) -> Value {
        json!({"name": "islands"})
    }
}

impl Encoder for Islands {
    fn stages(&self) -> usize {
        2
    }

    fn stage(&self, net: &mut Builder, stage: usize, paths: &[String], x: ValueId) -> Result<ValueId> {
        let paths: Vec<_> = paths.iter().map(|path| format!("{path}.{stage}")).collect();
        let module: Arc<dyn Module> = Arc::new(Layer { inner: net.value(x).width });
        net.island(&paths, &[x], &module)
    }
}

fn tasks(count: usize) -> Vec<Task> {
    let task = |j: usize| {
        Task::read(&json!({"name": format!("t{j}"), "loss": {"name": "binary_cross_entropy"}}), None).unwrap()
    };
    (0..count).map(task).collect()
}

fn built(encoder: &dyn Encoder, scheme: &Value, head: &str, count: usize) -> Network {
    let inputs = Inputs { numeric: INPUTS, categorical: Vec::new(), ..Inputs::default() };
    let (scheme, head) = (sharing::build(scheme).unwrap(), head::build(&json!(head)).unwrap());
    assemble(&inputs, &[], &tasks(count), encoder, scheme.as_ref(), head.as_ref(), Limit::default()).unwrap()
}

/// Parameters by name: each its own random numbers, whatever the order.
fn fill(net: &Network, params: &mut Params<f64>) {
    for entry in net.entries.iter().filter(|entry| entry.param.is_some()) {
        let seed = entry.name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let numbers: Vec<_> = (0..entry.range.len()).map(|i| 0.6 * Stream::new(seed, &[]).normal(i as u64)).collect();
        params.values.put(entry.range.start, &numbers).unwrap();
    }
}

/// Outputs, and gradients by name: of the sum, and of each task where all reach a parameter.
fn run(net: &Network) -> (Vec<f64>, Vec<(String, Vec<f64>)>) {
    let mut params = Params::<f64>::new(&net.params, &net.state, 0).unwrap();
    fill(net, &mut params);
    // SAFETY: no slice of the parameters is held while the plan runs.
    let mut plan = unsafe { Plan::new(net, &params, ROWS, Purpose::BOTH) }.unwrap();
    let step = Step { seed: 1, number: 1, training: false, accumulate: false, weights: &[], share: 1.0 };
    let count = plan.real(0).layout().len();
    let numbers: Vec<_> = (0..count).map(|i| Stream::new(3, &[]).normal(i as u64)).collect();
    plan.real(0).put(0, &numbers).unwrap();
    plan.forward(&step).unwrap();
    let (mut outputs, mut gradients) = (Vec::new(), Vec::new());
    for pass in [Pass::Summed, Pass::PerTask] {
        plan.clear(pass).unwrap();
        for task in 0..net.tasks() {
            let raw = plan.raw(task).unwrap();
            assert_eq!(raw.len(), ROWS, "outputs are of one column");
            let slopes: Vec<_> = (0..ROWS).map(|row| Stream::new(5, &[task as u64]).normal(row as u64)).collect();
            outputs.extend(raw);
            plan.set_gradient(task, pass, &slopes).unwrap();
        }
        plan.backward(&step, pass).unwrap();
        for entry in net.entries.iter().filter(|entry| entry.param.is_some()) {
            let param = entry.param.unwrap();
            let whole = &net.params[param];
            if pass == Pass::PerTask && whole.reach == Reach::All {
                for task in 0..net.tasks() {
                    let row = plan.slabs().unwrap().row(param, task).unwrap().unwrap();
                    let own = entry.range.start - whole.range.start..entry.range.end - whole.range.start;
                    gradients.push((format!("{task}: {}", entry.name), row[own].to_vec()));
                }
            } else {
                let own = params.gradients.numbers(entry.range.clone()).unwrap().into_owned();
                gradients.push((format!("{pass:?}: {}", entry.name), own));
            }
        }
    }
    gradients.sort_by(|a, b| a.0.cmp(&b.0));
    (outputs, gradients)
}

fn close(one: &[f64], other: &[f64], what: &str) {
    assert_eq!(one.len(), other.len(), "{what}");
    for (a, b) in one.iter().zip(other) {
        assert!((a - b).abs() < 1e-9 * (1.0 + a.abs()), "{what}: {a} and {b}");
    }
}

#[test]
fn an_island_is_an_encoder_like_any_other() {
    let mlp = encoder::build(&json!({"name": "mlp", "hidden": [WIDTH, WIDTH], "activation": "tanh"})).unwrap();
    for info in sharing::infos() {
        for (count, head) in [(1, "linear"), (3, "linear"), (3, "tower")] {
            let what = format!("{} of {count} tasks with {head} heads", info.name);
            let scheme = match info.name.as_str() {
                "branched" if count == 3 => {
                    json!({"name": "branched", "branches": [[["t0", "t1", "t2"]], [["t0", "t2"], ["t1"]]]})
                }
                name => json!(name),
            };
            let (outputs, gradients) = run(&built(mlp.as_ref(), &scheme, head, count));
            let (again, others) = run(&built(&Islands, &scheme, head, count));
            close(&outputs, &again, &what);
            assert!(gradients.iter().any(|(_, g)| g.iter().any(|x| x.abs() > 1e-3)), "{what}");
            assert_eq!(gradients.len(), others.len(), "{what}");
            for ((name, one), (same, other)) in gradients.iter().zip(&others) {
                assert_eq!(name, same, "{what}");
                close(one, other, &format!("{what}: {name}"));
            }
        }
    }
}

/// The paths of equal parameters in networks of one start.
#[test]
fn soft_sharing_starts_alike() {
    let mlp = encoder::build(&json!({"name": "mlp", "hidden": [WIDTH, WIDTH]})).unwrap();
    for encoder in [mlp.as_ref(), &Islands] {
        let net = built(encoder, &json!("soft"), "linear", 3);
        let params = Params::<f64>::new(&net.params, &net.state, 4).unwrap();
        let of = |name: &str| {
            let entry = net.entries.iter().find(|entry| *entry.name == *name).unwrap();
            params.values.numbers(entry.range.clone()).unwrap().into_owned()
        };
        for layer in ["0.weight", "0.bias", "1.weight", "1.bias"] {
            assert_eq!(of(&format!("encoders.t0.{layer}")), of(&format!("encoders.t2.{layer}")));
        }
        assert_ne!(of("encoders.t0.0.weight")[..WIDTH], of("encoders.t0.1.weight")[..WIDTH]);
        assert_ne!(of("heads.t0.weight"), of("heads.t1.weight"));
    }
}
