//! All loops of our own at every level of the processor, with one thread and with two: the same up to rounding, and the
//! same bits again at the same level and number of threads.

mod rows;

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use polytask::input::{Embed, Inputs};
use polytask::label::{Labels, Targets};
use polytask::loss::{Batch, Loops};
use polytask::machine::half::{Halves, add_rounded_products, round, unround};
use polytask::machine::level::Level;
use polytask::machine::product::Mode;
use polytask::machine::random::Stream;
use polytask::machine::real::Real;
use polytask::machine::{gram, level, parallel};
use polytask::model::{Description, Model, Own, assemble};
use polytask::network::builder::{Builder, Limit};
use polytask::network::node::Number;
use polytask::network::nodes::recur::Cell;
use polytask::network::pass::{Pass, Purpose, Step, Store};
use polytask::network::plan::Plan;
use polytask::network::{InputKind, Network};
use polytask::optim::matrices::Works;
use polytask::parameters::flat::Params;
use polytask::parameters::path::Path;
use polytask::parameters::touched::SparseGradient;
use polytask::parameters::{Init, Segment};
use polytask::regularizer::{self, Penalty, Piece, Places, Regularizer};
use polytask::solver::{cone, conflict_averse, dot, eigen, fair, hull};
use polytask::task::Task;
use polytask::trainer::Trainer;
use polytask::trainer::epoch::Run;
use polytask::trainer::settings::Settings;
use polytask::weighting::standalone::{Known, Matrix, Standalone};
use polytask::{encoder, head, loss, optim, sharing, weighting};
use rows::{Target, data};
use serde_json::{Value, json};

/// Numbers that belong together, by name.
type Pieces = Vec<(String, Vec<f64>)>;

/// The level and the number of threads are the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs at every level with one thread and with two. Within a piece no number may be further from that of the least level
/// on one thread than `bound` times the largest; where the bound is 0 all bits are the same.
fn compare(what: impl Display, bound: f64, body: impl Fn() -> Pieces) {
    compare_on([1, 2], what, bound, body);
}

/// The same with other numbers of threads.
fn compare_on<const N: usize>(threads: [i32; N], what: impl Display, bound: f64, body: impl Fn() -> Pieces) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (before, most) = (level::level(), Level::of_processor());
    let mut first: Option<Pieces> = None;
    for at in Level::ALL.into_iter().filter(|&at| at <= most) {
        for threads in threads {
            level::switch(at);
            tch::set_num_threads(threads);
            let (got, again) = (body(), body());
            let first = first.get_or_insert_with(|| got.clone());
            assert_eq!(first.len(), got.len(), "{what}");
            for (((name, want), (same, got)), (_, again)) in first.iter().zip(&got).zip(&again) {
                let what = format!("{what}: {name} at level {} with {threads} threads", at.name());
                assert_eq!((name, want.len()), (same, got.len()), "{what}");
                let bits = |numbers: &[f64]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(got) == bits(again), "{what}: other bits in a second run");
                let largest = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
                assert!(want.iter().all(|x| x.is_finite()) && largest > 0.0, "{what}: nothing to compare");
                let error = got.iter().zip(want).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
                assert!(
                    error <= bound * largest && got.iter().all(|x| x.is_finite()),
                    "{what}: {error:e} of {largest:e}"
                );
            }
        }
    }
    level::switch(before);
    tch::set_num_threads(1);
}

fn piece<T: Real>(name: impl Display, numbers: &[T]) -> (String, Vec<f64>) {
    (name.to_string(), numbers.iter().map(|x| x.wide()).collect())
}

fn normal<T: Real>(seed: u64, count: usize) -> Vec<T> {
    let stream = Stream::new(seed, &[]);
    (0..count).map(|i| T::of(stream.normal(i as u64))).collect()
}

/// Value, weight and gradient of a loss on so many rows, some of them without a label.
fn judged<T: Real>(loss: &dyn Loops<T>, labels: Labels, width: usize, rows: usize) -> Pieces {
    let outputs = normal::<T>(5, rows * width);
    let mut gradient = vec![T::ZERO; outputs.len()];
    let weights: Vec<T> = (0..rows).map(|row| T::of(0.5 + (row % 3) as f64)).collect();
    let classes: Vec<i32> = (0..rows as i32).map(|row| row * 31 % (labels.width() as i32 + 1) - 1).collect();
    let number = |i: usize| if i % 7 == 3 { f64::NAN } else { (i * 31 % 2) as f64 };
    let values: Vec<T> = (0..rows * labels.width()).map(|i| T::of(number(i))).collect();
    let targets = match labels.columns() {
        None => Targets::Classes(&classes),
        Some(_) => Targets::Values(&values),
    };
    let weights = Some(weights.as_slice());
    let batch = Batch {
        rows,
        width,
        outputs: &outputs,
        gradient: Some(&mut gradient),
        stride: width,
        targets,
        weights,
        scale: T::of(0.5),
    };
    let sum = loss.evaluate(batch);
    vec![
        ("value".into(), vec![sum]),
        ("weight".into(), vec![loss.weight(targets, weights)]),
        piece("gradient", &gradient),
    ]
}

#[test]
fn losses() {
    for info in loss::infos() {
        let loss = loss::build(&json!(info.name)).unwrap();
        for (classes, outputs) in
            [(Some(2), 1), (Some(5), 1), (Some(40), 1), (Some(300), 1), (None, 1), (None, 3), (None, 30)]
        {
            let Ok(labels) = loss.labels(classes, outputs) else { continue };
            let width = loss.width(classes, outputs);
            for rows in [1, 61, 700] {
                let what = format!("{} of {rows} rows by {width}", info.name);
                // One row may be without a label; then there is nothing to compare.
                let rows = if rows == 1 { 3 } else { rows };
                compare(&what, 2e-6, || judged::<f32>(&*loss, labels, width, rows));
                compare(&what, 1e-14, || judged::<f64>(&*loss, labels, width, rows));
            }
        }
    }
}

#[test]
fn optimizers() {
    const SIZE: usize = 3011;
    const WIDTH: usize = 19;
    const ROWS: usize = 40;
    for info in optim::infos() {
        let optimizer = optim::build(&json!({"name": info.name})).unwrap();
        compare(&info.name, 1e-5, || {
            let segments = [
                Segment { range: 0..1000, lr: 0.01, weight_decay: 0.1 },
                Segment { range: 1000..SIZE, lr: 0.1, weight_decay: 0.0 },
            ];
            let mut buffers: Vec<_> =
                (0..optimizer.slots().len()).map(|slot| vec![optimizer.initial(slot); SIZE]).collect();
            let mut parameters = normal::<f32>(1, SIZE);
            for step in 1..=10 {
                let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
                optimizer.update(step, 0.5, &segments, &mut parameters, &normal::<f32>(1 + step, SIZE), &mut state);
            }
            let mut pieces: Pieces = vec![piece("parameters", &parameters)];
            pieces.extend(buffers.iter().enumerate().map(|(slot, buffer)| piece(format!("slot {slot}"), buffer)));
            pieces
        });
        compare(format!("{} on rows", info.name), 1e-5, || {
            let segment = Segment { range: 0..ROWS * WIDTH, lr: 0.1, weight_decay: 0.05 };
            let slot = |slot| vec![optimizer.initial(slot); ROWS * optimizer.row_state(slot, WIDTH)];
            let mut buffers: Vec<_> = (0..optimizer.slots().len()).map(slot).collect();
            let mut table = normal::<f32>(1, ROWS * WIDTH);
            for step in 1..=10 {
                let gradient = SparseGradient::new(WIDTH);
                let mut touched = gradient.open();
                touched.begin(1, ROWS, false);
                for code in (0..ROWS as u64).filter(|code| (code + step) % 3 > 0) {
                    touched.row(code as u32).copy_from_slice(&normal::<f32>(100 * step + code, WIDTH));
                }
                let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
                optimizer.update_rows(step, 0.5, &segment, &mut table, &touched, &mut state);
            }
            vec![piece("table", &table)]
        });
        let Some(rule) = optimizer.of_matrices() else { continue };
        compare(format!("{} on matrices", info.name), 1e-4, || {
            let shape = [3, 23, 41];
            let size = shape.iter().product();
            let segment = [Segment { range: 0..size, lr: 0.1, weight_decay: 0.05 }];
            let mut works = Works::new(&[shape]).unwrap();
            let mut buffers: Vec<_> = optimizer.slots().iter().map(|_| vec![0.0; size]).collect();
            let mut matrices = normal::<f32>(1, size);
            for step in 1..=10 {
                let mut state: Vec<&mut [f32]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
                let gradients = normal::<f32>(1 + step, size);
                works.update(rule, 0.5, &segment, &mut matrices, &gradients, &mut state).unwrap();
            }
            vec![piece("matrices", &matrices), piece("momentum", &buffers[0])]
        });
    }
}

#[test]
fn regularizers() {
    let (tasks, shape) = (5, [9, 37]);
    let size = shape[0] * shape[1];
    let part = |task: usize| Piece {
        path: Path::new(&format!("heads.t{task}.weight")),
        start: task * size,
        shape: shape.to_vec(),
        decays: true,
        task: Some(task),
        reads: Some((0, 0)),
    };
    let places = Places::of((0..tasks).map(part).collect(), &["t0", "t1", "t2", "t3", "t4"]);
    for info in regularizer::infos() {
        let description = match info.name.as_str() {
            "orthogonality" => json!({"name": info.name, "shared": "heads.t0", "private": "heads.t1"}),
            name => json!({"name": name}),
        };
        // Those that compare tasks take roots of eigenvalues of a matrix of nearly low rank.
        compare(&info.name, 1e-5, || penalised::<f32>(&description, &places, tasks * size));
        compare(&info.name, 1e-9, || penalised::<f64>(&description, &places, tasks * size));
    }
}

/// Values and gradients of a regularizer in two steps on so many parameters.
fn penalised<T: Real>(description: &Value, places: &Places, count: usize) -> Pieces
where
    dyn Regularizer: Penalty<T>,
{
    let mut regularizer = regularizer::build(description).unwrap();
    let chosen = regularizer.choose(places).unwrap();
    let step = |step| {
        let mut gradient = vec![T::ZERO; count];
        let value = regularizer.add(&chosen, &normal::<T>(step, count), Some(&mut gradient));
        [("value".into(), vec![value]), piece("gradient", &gradient)]
    };
    (0..2).flat_map(step).collect()
}

const INPUTS: usize = 32;
const WIDTH: usize = 64;
const ROWS: usize = 72;
/// So many that with a lane a task the loops of linear layers are long enough for threads.
const MANY: usize = 1408;

const TASKS: usize = 3;

/// Of tasks of several kinds, or of one kind where the scheme is for that.
fn built(encoder: &Value, scheme: &Value, head: &str) -> Network {
    built_with(None, encoder, scheme, head)
}

/// The same with numbers embedded.
fn built_with(embed: Option<Embed>, encoder: &Value, scheme: &Value, head: &str) -> Network {
    let inputs = Inputs { numeric: INPUTS, embed, ..Inputs::default() };
    let (encoder, scheme) = (encoder::build(encoder).unwrap(), sharing::build(scheme).unwrap());
    let head = head::build(&json!(head)).unwrap();
    let assembled = |described: [Value; TASKS]| {
        let tasks: Vec<_> = described.iter().map(|task| Task::read(task, None).unwrap()).collect();
        assemble(&inputs, &[], &tasks, &*encoder, &*scheme, &*head, Limit::default())
    };
    let binary = |name| json!({"name": name, "loss": "binary_cross_entropy"});
    let wide = json!({"name": "t2", "loss": "mean_squared", "outputs": 3});
    assembled([json!({"name": "t0", "loss": "mean_squared"}), binary("t1"), wide])
        .or_else(|_| assembled([binary("t0"), binary("t1"), binary("t2")]))
        .unwrap()
}

/// Outputs and gradients of both backwards on so many rows, by name.
fn differentiated<T: Number>(net: &Network, rows: usize, purpose: Purpose) -> Pieces {
    let mut params = Params::<T>::new(&net.params, &net.state, 3).unwrap();
    let mut moved = params.values.all().unwrap().into_owned();
    let noise = normal::<T>(9, moved.len());
    moved.iter_mut().zip(noise).for_each(|(p, n)| *p += T::of(0.05) * n);
    params.values.put(0, &moved).unwrap();
    // SAFETY: no slice of the parameters is held while the plan runs.
    let mut plan = unsafe { Plan::new(net, &params, net.extents(rows, |_, _| 0).unwrap(), purpose) }.unwrap();
    let step = Step { seed: 1, number: 1, training: true, accumulate: false, weights: &[], share: 1.0 };
    for (k, input) in net.inputs.iter().enumerate() {
        if matches!(input.kind, InputKind::Real(_)) {
            let count = plan.count(input.axis) * net.width_of(k);
            plan.real(k).put(0, &normal::<T>(3, count)).unwrap();
        }
    }
    plan.forward(&step).unwrap();
    let mut pieces = Vec::new();
    for pass in [Pass::Summed, Pass::PerTask] {
        plan.clear(pass).unwrap();
        for task in 0..net.tasks() {
            let output = plan.raw(task).unwrap();
            let slope = Stream::new(5, &[task as u64]);
            let slopes: Vec<_> = (0..output.len()).map(|k| T::of(slope.normal(k as u64))).collect();
            plan.set_gradient(task, pass, &slopes).unwrap();
            pieces.push(piece(format!("output {task}"), &output));
        }
        plan.backward(&step, pass).unwrap();
        if pass == Pass::Summed {
            for entry in net.entries.iter().filter(|entry| entry.param.is_some()) {
                let gradient = params.gradients.numbers(entry.range.clone()).unwrap();
                // A bias before a batch norm has no gradient but rounding.
                if gradient.iter().any(|x| x.wide().abs() > 1e-2) {
                    pieces.push(piece(format!("gradient of {}", entry.name), &gradient));
                }
            }
        }
    }
    pieces.push(("Gramian".into(), plan.slabs().map(|slabs| slabs.gramian().unwrap()).unwrap_or_default()));
    pieces.retain(|(_, numbers)| numbers.iter().any(|x| *x != 0.0));
    pieces
}

fn encoders() -> [Value; 2] {
    let hidden = [WIDTH, WIDTH];
    [
        json!({"name": "mlp", "hidden": hidden, "activation": "tanh", "norm": "layer", "dropout": 0.1, "residual": true}),
        json!({"name": "mlp", "hidden": hidden, "activation": "gelu", "norm": "batch"}),
    ]
}

#[test]
fn networks() {
    for info in sharing::infos() {
        let scheme = match info.name.as_str() {
            "branched" => json!({"name": "branched", "branches": [[["t0", "t1", "t2"]], [["t0", "t2"], ["t1"]]]}),
            name => json!(name),
        };
        for (encoder, head) in encoders().iter().zip(["linear", "tower"]) {
            let net = built(encoder, &scheme, head);
            let what = format!("{scheme} with {head} heads");
            compare_on([1], format!("{what}, single"), 2e-4, || differentiated::<f32>(&net, ROWS, Purpose::BOTH));
            compare_on([1], format!("{what}, double"), 1e-11, || differentiated::<f64>(&net, ROWS, Purpose::BOTH));
        }
    }
}

#[test]
fn embedded_numbers() {
    let bins = 7;
    let lines = |linear| Embed::Piecewise { width: if linear { 12 } else { 5 }, bins, linear, activation: true };
    let waves = |lite| Embed::Periodic { width: 6, frequencies: 19, scale: 0.3, lite, activation: true, raw: false };
    for (embed, encoder) in
        [lines(true), lines(false), waves(true), waves(false)].into_iter().zip(encoders().iter().cycle())
    {
        let mut net = built_with(Some(embed), encoder, &json!("hard"), "linear");
        let piecewise = matches!(embed, Embed::Piecewise { .. });
        for edges in net.state.chunks_exact_mut(bins + 1).take(if piecewise { INPUTS } else { 0 }) {
            edges.iter_mut().enumerate().for_each(|(i, edge)| *edge = 0.4 * i as f64 - 1.3);
        }
        compare(format!("{embed:?}, single"), 2e-4, || differentiated::<f32>(&net, MANY, Purpose::BOTH));
        compare_on([1], format!("{embed:?}, double"), 1e-11, || differentiated::<f64>(&net, ROWS, Purpose::BOTH));
    }
}

#[test]
fn recurrences() {
    for cell in [Cell::Lstm, Cell::Gru] {
        let mut b = Builder::new(INPUTS, &[]);
        let frames = b.grid("frames", 1, 6);
        let x = b.real_input("frames", frames, 5);
        let y = b.recurrent(&["a".to_owned()], x, 21, cell, true).unwrap();
        let heads = b.heads(&["0", "1"].map(str::to_owned), y, &[1, 2]);
        b.output(heads, 0, 0..1);
        b.output(heads, 0, 1..3);
        let net = b.finish().unwrap();
        compare(format!("{cell:?}, single"), 2e-4, || differentiated::<f32>(&net, ROWS, Purpose::BOTH));
        compare_on([1], format!("{cell:?}, double"), 1e-11, || differentiated::<f64>(&net, ROWS, Purpose::BOTH));
    }
}

/// Among nodes linear layers alone have loops for threads: those of one product a layer, and of one for several layers.
#[test]
fn linear_layers_on_many_rows() {
    const { assert!(MANY * TASKS * WIDTH >= parallel::WORTH) };
    for (scheme, encoder) in ["hard", "mmoe"].into_iter().zip(encoders()) {
        let net = built(&encoder, &json!(scheme), "linear");
        compare(format!("{scheme} on many rows"), 2e-4, || differentiated::<f32>(&net, MANY, Purpose::BOTH));
    }
}

#[test]
fn gradients_in_bfloat16() {
    for encoder in encoders() {
        let net = built(&encoder, &json!("hard"), "linear");
        let halves = |rows| differentiated::<f32>(&net, rows, Purpose::PerTask(Store::Halves));
        compare(&encoder, 4e-3, || halves(MANY));
        // Not only alike: near what is not rounded.
        let gramian = |pieces: Pieces| pieces.into_iter().find(|(name, _)| name == "Gramian").expect("a Gramian").1;
        let (got, want) = (gramian(halves(ROWS)), gramian(differentiated::<f32>(&net, ROWS, Purpose::BOTH)));
        let largest = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 0.02 * largest), "{encoder}: {got:?} {want:?}");
    }
}

#[test]
fn rounded_numbers() {
    // The last is long enough for threads; the columns beyond a vector of 32 are summed by other loops than the rest.
    for (tasks, width) in [(1, 5), (3, 33), (5, 4500), (9, 2071), (7, 40_003)] {
        let numbers = normal::<f32>(7, tasks * width);
        let exact = |slab: &[u16]| {
            let mut back = vec![0.0_f64; slab.len()];
            unround(slab, &mut back, Mode::Write);
            let row = |task: usize| &back[task * width..][..width];
            (0..tasks * tasks).map(|at| dot(row(at / tasks), row(at % tasks))).collect::<Vec<_>>()
        };
        compare(format!("{tasks} tasks of {width}"), 1e-6, || {
            let mut slab = Halves::zeros(numbers.len()).unwrap();
            round(&numbers, slab.slice_mut());
            let (mut gramian, want) = (vec![0.0; tasks * tasks], exact(slab.slice()));
            add_rounded_products(slab.slice(), tasks, &mut Vec::new(), &mut gramian);
            for (at, (got, want)) in gramian.iter().zip(&want).enumerate() {
                let lengths = gramian[at / tasks * (tasks + 1)].sqrt() * gramian[at % tasks * (tasks + 1)].sqrt();
                assert!((got - want).abs() <= 5e-7 * lengths, "{tasks} tasks of {width}: {got} {want}");
            }
            vec![piece("products", &gramian)]
        });
        compare(format!("{tasks} tasks of {width}, the numbers"), 0.0, || {
            let mut slab = vec![0; numbers.len()];
            round(&numbers, &mut slab);
            let mut back = numbers.clone();
            unround(&slab, &mut back, Mode::Add);
            vec![piece("rounded and added", &back)]
        });
    }
}

#[test]
fn products_of_gradients() {
    for (tasks, width) in [(1, 3), (4, 511), (9, 2100)] {
        fn pieces<T: Real>(tasks: usize, width: usize) -> Pieces {
            let slab = normal::<T>(11, tasks * width);
            let (mut gramian, mut sum) = (vec![0.0; tasks * tasks], vec![T::ZERO; width]);
            gram::add_products(&slab, tasks, &mut gramian);
            gram::combine(&slab, &normal::<f64>(12, tasks), &mut sum);
            vec![("products".into(), gramian), piece("combination", &sum)]
        }
        compare("single", 1e-6, || pieces::<f32>(tasks, width));
        compare("double", 1e-15 * 8.0, || pieces::<f64>(tasks, width));
    }
}

/// What starts a parameter depends on its seed and place alone: neither on the level nor on threads.
#[test]
fn parameters_start_with_the_same_bits() {
    let starts = [Init::Uniform(0.5), Init::Coarse(0.5), Init::Normal(0.5), Init::Constant(0.5)];
    let net = built(&json!({"name": "mlp", "hidden": [9000]}), &json!("hard"), "linear");
    let large =
        net.params.iter().position(|param| param.range.len() >= parallel::WORTH).expect("a parameter for two threads");
    let given = Init::Given(normal::<f64>(13, net.params[large].range.len()));
    for init in starts.into_iter().chain([given]) {
        let mut net = built(&json!({"name": "mlp", "hidden": [9000]}), &json!("hard"), "linear");
        net.params[large].init = init;
        compare("a parameter's start", 0.0, || {
            let params = Params::<f32>::new(&net.params, &net.state, 17).unwrap();
            let numbers = params.values.numbers(net.params[large].range.clone()).unwrap();
            assert!(numbers.iter().all(|x| *x != 0.0), "all of it is drawn");
            vec![piece("numbers", &numbers)]
        });
    }
}

#[test]
fn solvers() {
    for n in [2, 5, 8, 21, 64] {
        let rows = normal::<f64>(n as u64, n * 3 * n);
        let row = |i: usize| &rows[i * 3 * n..][..3 * n];
        let gramian: Vec<f64> = (0..n * n).map(|at| dot(row(at / n), row(at % n))).collect();
        compare(format!("{n} tasks"), 1e-9, || {
            let ones = vec![1.0; n];
            vec![
                piece("hull", &hull::min_norm(&gramian, n, 0.0)),
                piece("cone", &cone::project(&gramian, &ones, 0.0)),
                piece("cone, each", &cone::project_each(&gramian, &ones, 0.0)),
                piece("ball", &conflict_averse::weights(&gramian, n, 0.5, 0.0)),
                piece("fair", &fair::fixed_point(&gramian, &ones, 1.0, 0.0).weights),
                piece("fair 2", &fair::fixed_point(&gramian, &ones, 2.0, 0.0).weights),
                piece("eigenvalues", &eigen::Eigen::of(&gramian, n).values),
            ]
        });
    }
}

#[test]
fn weightings() {
    let (tasks, width) = (6, 3001);
    let mut walked = 0;
    for info in weighting::infos() {
        if let Err(error) = Standalone::new(&json!(info.name)) {
            assert!(error.to_string().contains("in a Trainer only"), "{}: {error}", info.name);
            continue;
        }
        walked += 1;
        compare(&info.name, 1e-5, || {
            let mut weighting = Standalone::new(&json!(info.name)).unwrap();
            let mut pieces = Vec::new();
            for call in 0..3 {
                let jacobian = Matrix { shape: [tasks, width], values: normal::<f64>(20 + call, tasks * width) };
                let losses = Some((0..tasks).map(|task| 1.0 + 0.3 * task as f64 + 0.1 * call as f64).collect());
                let known = Known { losses, jacobian: Some(jacobian), seed: 4, ..Known::default() };
                let decision = weighting.weigh(known).unwrap();
                pieces.extend(decision.weights.map(|weights| (format!("weights {call}"), weights)));
                pieces.extend(decision.direction.map(|direction| (format!("direction {call}"), direction)));
            }
            pieces
        });
    }
    assert!(walked > 30, "{walked}");
}

#[test]
fn training() {
    let described = json!({
        "inputs": {"numeric": 6},
        "tasks": [{"name": "a", "loss": "cross_entropy", "classes": 3}, {"name": "b", "loss": "mean_squared"}],
        "encoder": encoders()[0], "head": "tower",
    });
    let settings = json!({
        "optimizer": {"name": "adamw", "weight_decay": 0.1, "lr": 1e-3}, "clip_norm": 0.5, "accumulate": 2,
        "regularizers": ["l2", "l1"], "weighting": "upgrad",
    });
    let rows = 600;
    let x = normal::<f32>(31, rows * 6);
    let targets = vec![
        Target::Classes((0..rows).map(|row| (row % 4) as i64 - 1).collect()),
        Target::Values((0..rows).map(|row| if row % 5 == 0 { f32::NAN } else { x[row * 6] }).collect(), 1),
    ];
    let data = data(rows, x, targets);
    compare("a run", 1e-3, || {
        let mut model = Description::of(&described, Own::default()).and_then(Model::new).unwrap();
        let mut trainer = Trainer::new(&model, Settings::of(&settings).unwrap()).unwrap();
        let how = Run { batch_size: 40, shuffle: true, keep_outputs: false, drop_last: false, group_by_length: false };
        trainer.run(&mut model, &data, how, None, &mut |_, _, _| Ok(())).unwrap();
        let entries = model.entries().len();
        (0..entries).map(|i| piece(&model.entries()[i].name, &model.entry(i).unwrap())).collect()
    });
}
