//! How many threads a run uses: a number, or as many as pay while other processes want the processor too.
//!
//! Threads of a loop wait for each other many times a step. Where one of them has no processor, all wait for it, and a step
//! takes many times as long as on one thread; so what matters is not how busy a machine is, but what steps take.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bail;
use crate::error::Result;
use crate::machine::threads::{Held, told, waited};

/// Most threads that may be asked for.
const MOST: u64 = 1024;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// As many as libtorch was told, and fewer while they do not pay.
    Auto,
    /// So many, whatever the machine does.
    Number(usize),
}

/// The number of threads of a run, and what it was before.
#[derive(Debug)]
pub(super) struct Threads {
    choice: Choice,
    /// What libtorch was told, at the last call; 0 before the first.
    told: usize,
    /// The most that "auto" takes; 0 before the first call.
    most: usize,
    /// Of the next step.
    count: usize,
    stretches: Vec<Stretch>,
    /// Steps of the optimizer when last looked at.
    steps: u64,
    watch: Watch,
    /// When the running step began.
    since: Instant,
}

/// From which step on a run used so many threads.
pub type Stretch = (u64, usize);

/// What a checkpoint keeps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    most: usize,
    count: usize,
    stretches: Vec<Stretch>,
}

impl Threads {
    /// Reads `"auto"` or a number.
    pub fn new(value: &Value) -> Result<Self> {
        let choice = match value {
            Value::Null => Choice::Auto,
            Value::String(text) if text == "auto" => Choice::Auto,
            value => match value.as_u64().filter(|count| (1..=MOST).contains(count)) {
                Some(count) => Choice::Number(count as usize),
                None => bail!("`threads` should be \"auto\" or a whole number from 1 to {MOST}; got {value}"),
            },
        };
        Ok(Self {
            choice,
            told: 0,
            most: 0,
            count: 0,
            stretches: Vec::new(),
            steps: 0,
            watch: Watch::new(),
            since: Instant::now(),
        })
    }

    /// As JSON, as it is read.
    pub fn describe(&self) -> Value {
        match self.choice {
            Choice::Auto => "auto".into(),
            Choice::Number(count) => count.into(),
        }
    }

    /// Numbers of threads so far, each with its first step.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Of a call that begins now.
    pub fn count(&mut self) -> usize {
        let told = told();
        match self.choice {
            Choice::Number(count) => self.count = count,
            Choice::Auto if told != self.told => {
                // A resumed run goes on with what held; later, libtorch was told something else.
                let resumed = self.told == 0 && self.count > 0;
                self.most = if resumed && self.most > 0 { told.min(self.most) } else { told };
                self.count = if resumed { self.count.min(self.most) } else { self.most };
                self.watch = Watch::new();
            }
            Choice::Auto => {}
        }
        self.told = told;
        self.count
    }

    /// Begins a call that makes steps.
    pub fn begin(&mut self) -> Held {
        let held = Held::new(self.count());
        self.since = Instant::now();
        held
    }

    /// Takes notice of a step that was made of so many rows, the `steps`th of the optimizer; gives the time.
    #[inline]
    pub fn stepped(&mut self, held: &mut Held, rows: usize, steps: u64) -> Instant {
        let now = Instant::now();
        // A batch without any label is no step.
        if steps != self.steps && self.stretches.last().is_none_or(|&(_, count)| count != self.count) {
            self.stretches.push((steps - 1, self.count));
        }
        self.steps = steps;
        if self.choice == Choice::Auto && self.most > 1 {
            let took = (now - self.since).as_secs_f64();
            self.count = self.watch.step(TimedStep { rows, took }, self.count, self.most, &mut waited);
            held.set(self.count);
        }
        self.since = now;
        now
    }

    /// What was done until now was no part of a step.
    pub fn paused(&mut self, until: Instant) {
        self.since = until;
    }

    /// Steps become other ones: what they took so far says nothing of them.
    pub fn forget(&mut self) {
        self.watch = Watch::new();
    }

    /// For a checkpoint.
    pub fn state(&self) -> State {
        State { most: self.most, count: self.count, stretches: self.stretches.clone() }
    }

    /// Goes on from a checkpoint that was written after so many steps.
    pub fn restore(&mut self, state: State, steps: u64) -> Result<()> {
        let possible = |count: usize| count as u64 <= MOST;
        let ordered = state.stretches.is_sorted_by(|a, b| a.0 < b.0) && state.stretches.iter().all(|of| of.0 < steps);
        if !ordered || !possible(state.most) || !possible(state.count) {
            bail!("its numbers of threads are damaged: {state:?}");
        }
        (self.most, self.count, self.stretches, self.steps) = (state.most, state.count, state.stretches, steps);
        Ok(())
    }
}

/// A step that was made.
#[derive(Debug, Clone, Copy)]
struct TimedStep {
    rows: usize,
    /// Seconds.
    took: f64,
}

/// Steps of a size whose median is what such a step takes at first; one before them warms up.
const FIRST: usize = 3;
/// Sizes that are told apart: powers of two.
const SIZES: usize = 32;
/// Seconds that are looked at together, and steps at least: one step that is slow by chance is not enough.
const WINDOW: f64 = 0.025;
const FEW: u32 = 2;
/// Times as long as usual that steps take when fewer threads are tried.
const SLOW: f64 = 2.0;
/// Share of the time that somebody waits for a processor when a machine is busy; at first, when it is not known what steps
/// take in quiet.
const WAITS: f64 = 0.1;
const WAITS_AT_FIRST: f64 = 0.25;
/// What another number of threads must bring to be kept.
const BETTER: f64 = 0.9;
/// Steps and seconds of a trial.
const TRIAL: u32 = 5;
const TRIED: f64 = 0.1;
/// Seconds of steps between trials: at first, and at most; each that fails doubles them.
const SOON: f64 = 2.0;
const LATE: f64 = 256.0;
/// Seconds of steps in which more threads should pay, or they will be tried later again.
const STAYS: f64 = 10.0;
/// Seconds until steps that are slow for another reason are looked at again.
const DEAF: f64 = 1.0;

/// Looks at what steps take, and says how many threads the next one has.
///
/// What a step takes is measured in what a step of its size took at first, a *ratio*. A number of threads is changed only where
/// steps take more than twice as long and threads of this process wait for a processor, so that work that grew changes nothing
/// on a quiet machine; and it stays changed only if steps take less with it.
#[derive(Debug)]
struct Watch {
    /// Of each size.
    units: [Unit; SIZES],
    window: Window,
    /// The ratio with the number of threads at hand, where it is known.
    usual: Option<f64>,
    /// The ratio with the most threads in quiet, where it is known.
    quiet: Option<f64>,
    /// A slow window, and what threads had waited when it ended.
    slow: Option<(Window, Option<f64>)>,
    trial: Option<Trial>,
    /// Seconds of steps so far.
    time: f64,
    /// When more threads are tried, and after how long again.
    look: f64,
    wait: f64,
    /// When fewer threads are tried again, at the earliest, and after how long again.
    deaf: f64,
    patience: f64,
    /// When more threads were last taken.
    rose: f64,
}

/// What a step of some size took at first.
#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    seen: usize,
    first: [f64; FIRST],
    /// Seconds a row, once it is known.
    seconds: f64,
}

/// Steps that are looked at together.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    steps: u32,
    took: f64,
    /// What they would have taken at first.
    expected: f64,
}

/// Another number of threads, for a few steps.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The number before, and its ratio.
    from: usize,
    ratio: f64,
    /// Steps with the number on trial; the first one, which starts threads or ends them, counts only as a loss.
    window: Window,
    first: bool,
}

impl Window {
    fn add(&mut self, took: f64, expected: f64) {
        self.steps += 1;
        self.took += took;
        self.expected += expected;
    }

    fn ratio(&self) -> f64 {
        self.took / self.expected
    }
}

impl Unit {
    /// What a step of this size would have taken at first; None while that is being measured.
    fn expects(&mut self, step: TimedStep) -> Option<f64> {
        let rows = step.rows.max(1) as f64;
        if self.seen <= FIRST {
            if self.seen > 0 {
                self.first[self.seen - 1] = step.took / rows;
            }
            self.seen += 1;
            if self.seen > FIRST {
                let mut sorted = self.first;
                sorted.sort_by(f64::total_cmp);
                self.seconds = sorted[FIRST / 2].max(f64::MIN_POSITIVE);
            }
            return None;
        }
        Some(self.seconds * rows)
    }
}

impl Watch {
    fn new() -> Self {
        Self {
            units: [Unit::default(); SIZES],
            window: Window::default(),
            usual: None,
            quiet: None,
            slow: None,
            trial: None,
            time: 0.0,
            look: SOON,
            wait: SOON,
            deaf: 0.0,
            patience: 0.0,
            rose: 0.0,
        }
    }

    /// Takes notice of a step with `count` of at most `most` threads; gives the number for the next. `waited` says what
    /// threads have waited for a processor so far.
    fn step(&mut self, step: TimedStep, count: usize, most: usize, waited: &mut dyn FnMut() -> Option<f64>) -> usize {
        self.time += step.took;
        let size = step.rows.max(1).ilog2() as usize;
        let Some(expected) = self.units[size.min(SIZES - 1)].expects(step) else { return count };
        if let Some(trial) = self.trial {
            return self.tried(trial, step.took, expected, count, most);
        }
        self.window.add(step.took, expected);
        if self.window.steps < FEW || self.window.took < WINDOW {
            return count;
        }
        let window = std::mem::take(&mut self.window);
        self.looked(window, count, most, waited)
    }

    /// At the end of a window.
    fn looked(&mut self, window: Window, count: usize, most: usize, waited: &mut dyn FnMut() -> Option<f64>) -> usize {
        let ratio = window.ratio();
        let slow = count > 1 && self.usual.is_none_or(|usual| ratio > SLOW * usual);
        if slow && self.time < self.deaf {
            self.slow = None;
            return count;
        }
        if !slow {
            self.slow = None;
            self.usual = Some(self.usual.unwrap_or(ratio));
            if count == most {
                self.quiet = Some(self.quiet.unwrap_or(ratio));
            } else if self.time >= self.look {
                return self.attempt((2 * count).min(most), count, ratio);
            }
            return count;
        }
        // Twice in turn, since anything may happen once.
        let Some((first, before)) = self.slow.take() else {
            self.slow = Some((window, waited()));
            return count;
        };
        let enough = if self.usual.is_some() { WAITS } else { WAITS_AT_FIRST };
        let busy = match (before, waited()) {
            (Some(before), Some(now)) => now - before > enough * window.took,
            // Where the system does not say, being slow must do, and nothing is known at first.
            _ => self.usual.is_some(),
        };
        if busy {
            let both = (first.took + window.took) / (first.expected + window.expected);
            return self.attempt(count / 2, count, both);
        }
        match self.usual {
            None => {
                self.usual = Some(ratio);
                self.quiet = if count == most { self.usual } else { self.quiet };
            }
            Some(_) => self.deaf = self.time + DEAF,
        }
        count
    }

    fn attempt(&mut self, count: usize, from: usize, ratio: f64) -> usize {
        self.trial = Some(Trial { from, ratio, window: Window::default(), first: true });
        count
    }

    /// A step of a trial.
    fn tried(&mut self, mut trial: Trial, took: f64, expected: f64, count: usize, most: usize) -> usize {
        let more = count > trial.from;
        let lost = took - trial.ratio * expected;
        if !std::mem::take(&mut trial.first) {
            trial.window.add(took, expected);
        }
        let Window { steps, took: all, .. } = trial.window;
        // More threads than pay cost many times what they would bring: one such step is enough.
        let hopeless = more && lost > (2.0 * trial.ratio * expected).max(0.01);
        let through = steps >= TRIAL && all >= TRIED;
        if !hopeless && !through {
            self.trial = Some(trial);
            return count;
        }
        self.trial = None;
        let ratio = trial.window.ratio();
        match !hopeless && ratio < BETTER * trial.ratio {
            true => self.stay(ratio, count, more, most),
            false => self.back(trial, count),
        }
    }

    /// Keeps the number of threads that was tried.
    fn stay(&mut self, ratio: f64, count: usize, more: bool, most: usize) -> usize {
        self.slow = None;
        self.patience = 0.0;
        self.usual = Some(ratio);
        if more {
            self.rose = self.time;
            self.look = self.time + WINDOW;
            if count == most {
                self.quiet = Some(self.quiet.map_or(ratio, |quiet| quiet.min(ratio)));
                self.usual = self.quiet;
            }
            return count;
        }
        let soon = self.rose > 0.0 && self.time - self.rose < STAYS;
        self.wait = if soon { later(self.wait) } else { SOON };
        self.look = self.time + self.wait;
        // Still slow: perhaps even fewer are better.
        match count > 1 && ratio > SLOW * self.quiet.unwrap_or(0.0) {
            true => self.attempt(count / 2, count, ratio),
            false => count,
        }
    }

    /// Goes back to the number of threads before.
    fn back(&mut self, trial: Trial, count: usize) -> usize {
        self.slow = None;
        if (2..trial.from).contains(&count) {
            // However many there are, all wait for the one that has no processor; one thread waits for none.
            return self.attempt(1, trial.from, trial.ratio);
        }
        if count > trial.from {
            self.wait = later(self.wait);
            self.look = self.time + self.wait;
        } else {
            self.patience = later(self.patience);
            self.deaf = self.time + self.patience;
        }
        trial.from
    }
}

/// Twice as long as before.
fn later(seconds: f64) -> f64 {
    (2.0 * seconds).clamp(SOON, LATE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::random::Stream;

    /// A processor of `cores`, on which `others` processes run from some time to another; all in seconds.
    struct Machine {
        cores: usize,
        busy: std::ops::Range<f64>,
        time: f64,
        waited: f64,
        noise: Stream,
        steps: u64,
    }

    impl Machine {
        fn new(cores: usize, busy: std::ops::Range<f64>) -> Self {
            Self { cores, busy, time: 0.0, waited: 0.0, noise: Stream::new(5, &[6]), steps: 0 }
        }

        /// A step that takes `work` on one thread: shared by threads in quiet; where all cores have another process, 2.2 times
        /// as long on one, and many times as long on several, which wait for each other.
        fn step(&mut self, work: f64, count: usize) -> f64 {
            assert!((1..=self.cores).contains(&count));
            self.steps += 1;
            let noise = 1.0 + 0.3 * self.noise.uniform(self.steps);
            let quiet = work / count as f64 * noise;
            let took = match (self.busy.contains(&self.time), count) {
                (false, _) => quiet,
                (true, 1) => 2.2 * quiet,
                (true, _) => 0.05 + 15.0 * quiet,
            };
            self.waited += if self.busy.contains(&self.time) { 0.5 * took } else { 0.0 };
            self.time += took;
            took
        }

        /// Numbers of threads of so many steps, and what they took.
        fn run(
            &mut self,
            watch: &mut Watch,
            steps: usize,
            mut count: usize,
            work: impl Fn(u64) -> f64,
        ) -> (Vec<usize>, f64) {
            let most = self.cores;
            let began = self.time;
            let counts = (0..steps).map(|_| {
                let rows = if self.steps % 50 == 49 { 20 } else { 256 };
                let work = work(self.steps);
                let before = count;
                let took = self.step(work * rows as f64 / 256.0, count);
                let waited = self.waited;
                count = watch.step(TimedStep { rows, took }, count, most, &mut || Some(waited));
                before
            });
            (counts.collect(), self.time - began)
        }
    }

    const QUIET: std::ops::Range<f64> = 0.0..0.0;
    const ALWAYS: std::ops::Range<f64> = 0.0..f64::INFINITY;

    /// What the steps take on one thread.
    fn on_one(busy: std::ops::Range<f64>, steps: usize, work: f64) -> f64 {
        let mut machine = Machine::new(1, busy);
        (0..steps).map(|_| machine.step(work, 1)).sum()
    }

    #[test]
    fn in_quiet_nothing_changes() {
        for work in [1e-5, 1e-3, 0.01, 0.2] {
            let (counts, _) = Machine::new(2, QUIET).run(&mut Watch::new(), 3000, 2, |_| work);
            assert!(counts.iter().all(|&count| count == 2), "{work}");
        }
    }

    #[test]
    fn slow_steps_by_chance_and_work_that_grows_change_nothing() {
        let work = |step: u64| match step {
            step if step % 97 == 96 => 0.5,
            step if step > 1500 => 0.05,
            _ => 0.01,
        };
        let (counts, _) = Machine::new(4, QUIET).run(&mut Watch::new(), 3000, 4, work);
        assert!(counts.iter().all(|&count| count == 4));
    }

    #[test]
    fn a_busy_machine_has_fewer_until_it_is_quiet() {
        let mut machine = Machine::new(2, 1.0..30.0);
        let mut watch = Watch::new();
        let (counts, _) = machine.run(&mut watch, 6000, 2, |_| 0.01);
        let first = counts.iter().position(|&count| count == 1).expect("fewer");
        // The steps of the first second, and a few that were too slow.
        assert!((140..220).contains(&first), "{first}");
        let more = counts[first..].iter().filter(|&&count| count == 2).count();
        assert!(machine.time > 30.0 && counts[5999] == 2 && more > 2000, "{more} of {} s", machine.time);
    }

    #[test]
    fn a_machine_that_is_busy_from_the_start_has_fewer_too() {
        for work in [1e-3, 0.01, 0.05] {
            let steps = (10.0 / work) as usize;
            let (counts, took) = Machine::new(2, ALWAYS).run(&mut Watch::new(), steps, 2, |_| work);
            let one = on_one(ALWAYS, steps, work);
            assert!(took < 1.25 * one, "{work}: {took} {one}");
            assert!(counts.iter().filter(|&&count| count == 2).count() < steps / 20 + 12);
        }
    }

    #[test]
    fn of_many_threads_those_are_left_that_pay() {
        let (counts, took) = Machine::new(8, ALWAYS).run(&mut Watch::new(), 3000, 8, |_| 0.01);
        assert_eq!(counts[2999], 1);
        assert!(counts.contains(&4) && took < 1.5 * on_one(ALWAYS, 3000, 0.01));
    }

    #[test]
    fn fewer_that_bring_nothing_are_given_up() {
        // Somebody waits all the time, and steps are slow, but not for want of processors for threads.
        let mut watch = Watch::new();
        let mut waited = 0.0;
        let mut count = 2;
        let mut fewer = 0;
        for step in 0..4000 {
            let took = if step < 100 { 0.005 } else { 0.02 };
            waited += if step < 100 { 0.0 } else { took };
            count = watch.step(TimedStep { rows: 8, took }, count, 2, &mut || Some(waited));
            fewer += usize::from(count == 1);
        }
        assert!(count == 2 && (1..60).contains(&fewer), "{fewer}");
    }

    #[test]
    fn a_trial_that_fails_by_chance_on_a_busy_machine_is_made_again() {
        let mut machine = Machine::new(2, ALWAYS);
        let mut watch = Watch::new();
        let mut count = 2;
        let mut fewer = 0;
        for _ in 0..1000 {
            // Somebody else's burst during the first steps on one thread.
            let burst = if count == 1 && fewer < 8 { 20.0 } else { 1.0 };
            let took = burst * machine.step(0.01, count);
            fewer += usize::from(count == 1);
            let waited = machine.waited;
            count = watch.step(TimedStep { rows: 8, took }, count, 2, &mut || Some(waited));
        }
        assert!(count == 1 && fewer > 900, "{fewer}");
    }

    #[test]
    fn where_the_system_does_not_say_who_waits_slow_steps_are_enough() {
        let mut machine = Machine::new(2, 1.0..1e9);
        let mut watch = Watch::new();
        let mut count = 2;
        for _ in 0..400 {
            let took = machine.step(0.01, count);
            count = watch.step(TimedStep { rows: 8, took }, count, 2, &mut || None);
        }
        assert_eq!(count, 1);
    }

    #[test]
    fn numbers_are_read_or_refused_in_words() {
        for (value, described) in [(Value::Null, "\"auto\""), ("auto".into(), "\"auto\""), (3.into(), "3")] {
            assert_eq!(Threads::new(&value).unwrap().describe().to_string(), described);
        }
        for wrong in [Value::from(0), (-1).into(), 1.5.into(), "many".into(), 1025.into(), true.into()] {
            let error = Threads::new(&wrong).unwrap_err().to_string();
            assert_eq!(error, format!("`threads` should be \"auto\" or a whole number from 1 to 1024; got {wrong}"));
        }
    }

    #[test]
    fn a_run_goes_on_with_the_number_that_held_and_never_more_than_libtorch_was_told() {
        std::thread::spawn(|| {
            let state = State { most: 4, count: 2, stretches: vec![(0, 4), (7, 2)] };
            let resumed = |number: i32, choice: Value| {
                // A thread asks the process for its number once, at first.
                told();
                tch::set_num_threads(number);
                let mut threads = Threads::new(&choice).unwrap();
                threads.restore(state.clone(), 9).unwrap();
                let count = threads.count();
                (count, threads.most, threads.state().stretches)
            };
            assert_eq!(resumed(8, "auto".into()), (2, 4, state.stretches.clone()));
            assert_eq!(resumed(1, "auto".into()), (1, 1, state.stretches.clone()));
            assert_eq!(resumed(8, 5.into()).0, 5);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn stretches_are_of_steps_that_were_made() {
        std::thread::spawn(|| {
            told();
            tch::set_num_threads(2);
            let mut threads = Threads::new(&"auto".into()).unwrap();
            let mut held = threads.begin();
            for (steps, count) in [(1, 2), (2, 2), (2, 1), (3, 1), (4, 2)] {
                threads.count = count;
                threads.stepped(&mut held, 8, steps);
            }
            assert_eq!(threads.stretches(), [(0, 2), (2, 1), (3, 2)]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_damaged_state_is_refused() {
        for (most, count, stretches) in
            [(4, 4, vec![(3, 1), (3, 2)]), (4, 4, vec![(0, 1), (9, 2)]), (5000, 4, vec![]), (4, 5000, vec![])]
        {
            let state = State { most, count, stretches };
            let error = Threads::new(&Value::Null).unwrap().restore(state, 9).unwrap_err();
            assert!(error.to_string().contains("numbers of threads are damaged"), "{error}");
        }
    }
}
