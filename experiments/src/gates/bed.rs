//! The test bed: an engine that is open, loaded and ready to be measured slice by slice.
//!
//! A bed holds one engine with a number of runs, each with the same number of keys. A slice works on the first
//! runs, one per thread ([`Sharing::Disjoint`]), or on the first key of the first run ([`Sharing::OneKey`]). So a run
//! with one thread and a run with many meet the same store, and each thread's share of it is the same.
//!
//! After every slice the store is compared with what its threads say they wrote, what gets returned with what the bed's
//! own ledgers say is stored, and a snapshot is taken and read after an overwrite where snapshots were timed. What is
//! found is part of the sample, and no figure can be drawn from a sample with a defect.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

use crate::allocations::{self, Counts};
use crate::engines::{Engine, EngineError, Layer, Operation, Session};
use crate::gates::Effort;
use crate::harness::clock::TickClock;
use crate::harness::rounds::{Round, Side};
use crate::harness::threads::{Neighbours, Outcome, Plan, Work, run};
use crate::workload::drive::{Drive, DriveReport, Pace, TimedDrive};
use crate::workload::random::{Random, split_mix};
use crate::workload::verify::{self, Invalid, Ledger};
use crate::workload::{KeySet, Stream, run_id};

/// A thread that did less than this share of the mean thread's work was starved.
const STARVED_SHARE: f64 = 0.05;

/// A thread that had its processor for less than this share of the window was disturbed by others.
pub(crate) const DISTURBED_SHARE: f64 = 0.5;

/// Keys of the private tables that keep idle processors busy, at most: making them takes time in every slice.
pub const NEIGHBOUR_KEYS: usize = 100_000;

/// The key of a run that everybody writes.
const SHARED_KEY: usize = 0;

/// What the threads of a slice have in common besides the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Nothing: each has a run of its own.
    Disjoint,
    /// The one key that they all write.
    OneKey,
}

/// How operations are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timing {
    /// The slice as a whole.
    Together,
    /// Each operation by itself, the next starting when the last ended.
    Each,
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// Name of the engine.
    pub engine: &'static str,
    /// What is done.
    pub operation: Operation,
    /// By how many threads.
    pub threads: usize,
    /// What they share.
    pub sharing: Sharing,
    /// How they are timed.
    pub timing: Timing,
}

impl Task {
    /// One thread doing `operation` on its own run.
    #[must_use]
    pub fn alone(engine: &'static str, operation: Operation) -> Self {
        Self {
            engine,
            operation,
            threads: 1,
            sharing: Sharing::Disjoint,
            timing: Timing::Together,
        }
    }

    /// The same with this many threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// The same on one shared key.
    #[must_use]
    pub fn on_one_key(mut self) -> Self {
        self.sharing = Sharing::OneKey;
        self
    }

    /// The same with every operation timed.
    #[must_use]
    pub fn timed_each(mut self) -> Self {
        self.timing = Timing::Each;
        self
    }

    fn name(&self) -> String {
        let shared = if self.sharing == Sharing::OneKey {
            ", one key"
        } else {
            ""
        };
        format!("{} {} {}t{shared}", self.engine, self.operation, self.threads)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.engine, self.operation)
    }
}

/// Why a sample counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// An update or a record was lost, or an operation failed.
    Wrong(String),
    /// A thread did next to nothing beside the others.
    Starved(String),
    /// The machine gave a thread too little of its processor.
    Disturbed(String),
}

/// What one slice gave.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Operations per second of all threads together.
    pub rate: f64,
    /// Mean time of an operation as a thread sees it, in nanoseconds.
    pub mean_ns: f64,
    /// Times of single operations, where they were timed.
    pub latency: Option<Histogram<u64>>,
    /// Operations within the window, of all threads together.
    pub operations: u64,
    /// Transactions that were tried again after a conflict, the warm-up's among them.
    pub aborts: u64,
    /// Whether every thread was bound to its processor.
    pub pinned: bool,
    /// Why it counts for nothing, if it does.
    pub defect: Option<Defect>,
}

impl Sample {
    /// Takes the figures of a slice, and its disturbance or starvation if there was any.
    pub fn of<R>(outcome: &Outcome<R>) -> Self {
        Self::held_to(outcome, DISTURBED_SHARE)
    }

    /// As [`of`](Self::of), disturbed if a thread had its processor for less than `least_share` of its time.
    pub fn held_to<R>(outcome: &Outcome<R>, least_share: f64) -> Self {
        let share = outcome.lowest_processor_share();
        let defect = if share < least_share {
            Some(Defect::Disturbed(format!(
                "a thread had its processor for {:.0} % of the time",
                share * 100.0
            )))
        } else {
            outcome
                .starved(STARVED_SHARE)
                .map(|thread| Defect::Starved(format!("thread {thread} starved beside the others")))
        };
        Self {
            rate: outcome.operations_per_second(),
            mean_ns: outcome.mean_ns(),
            latency: None,
            operations: outcome.operations(),
            aborts: 0,
            pinned: outcome.all_pinned(),
            defect,
        }
    }

    /// A slice that could not be taken.
    pub fn failed(reason: &impl ToString) -> Self {
        let defect = Some(Defect::Wrong(reason.to_string()));
        Self {
            rate: f64::NAN,
            mean_ns: f64::NAN,
            latency: None,
            operations: 0,
            aborts: 0,
            pinned: false,
            defect,
        }
    }

    /// Says that what the slice left, or what it read, is wrong. It outranks every other defect.
    pub fn mark_wrong(&mut self, reason: &impl ToString) {
        self.defect = Some(Defect::Wrong(reason.to_string()));
    }
}

/// How the threads of a bed meet the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manner {
    /// Whether each has its processor.
    pub pinned: bool,
    /// Whether the processors that they leave free are kept busy.
    pub busy_neighbours: bool,
    /// The smallest share of its time for which a thread may have had to wait for no processor.
    pub least_share: f64,
}

impl Manner {
    /// Each on its processor, the others busy: for what needs nothing but a processor.
    pub const COMPUTES: Self = Self {
        pinned: true,
        busy_neighbours: true,
        least_share: DISTURBED_SHARE,
    };

    /// Each on its processor, the others left to the engine's own threads.
    pub const HAS_HELPERS: Self = Self {
        busy_neighbours: false,
        ..Self::COMPUTES
    };

    /// Wherever there is a processor when a device has answered: threads that wait need none of their own.
    pub const WAITS: Self = Self {
        pinned: false,
        ..Self::HAS_HELPERS
    };

    /// One thread that waits for a device, and for nothing else: its times are those of the device only if it had a
    /// processor whenever it could use one.
    pub const WAITS_ALONE: Self = Self {
        least_share: 0.9,
        ..Self::WAITS
    };

    /// Returns a plan that keeps to it.
    #[must_use]
    pub fn plan(&self, mut plan: Plan) -> Plan {
        plan.pin = self.pinned;
        if !self.busy_neighbours {
            plan.neighbours = Neighbours::Idle;
        }
        plan
    }
}

/// An engine that is open and loaded.
pub struct Bed<E: Engine> {
    engine: E,
    name: &'static str,
    manner: fn(usize) -> Manner,
    keys: usize,
    spaces: Vec<E::Space>,
    effort: Effort,
    clock: TickClock,
    ledgers: Mutex<Ledgers>,
}

/// What is stored, by layer and by number of the run.
type Ledgers = BTreeMap<(Layer, usize), Ledger>;

impl<E: Engine> Bed<E> {
    /// Opens an engine and loads `runs` runs of `keys` keys into each of `layers`.
    ///
    /// # Errors
    ///
    /// Returns what the engine refused.
    pub fn new(
        keys: usize,
        runs: usize,
        layers: &[Layer],
        effort: Effort,
        clock: &TickClock,
        seed: u64,
    ) -> Result<Self, EngineError> {
        Self::over(E::open()?, keys, runs, layers, effort, clock, seed)
    }

    /// As [`new`](Self::new), with an engine that is open and empty.
    ///
    /// # Errors
    ///
    /// Returns what the engine refused.
    pub fn over(
        engine: E,
        keys: usize,
        runs: usize,
        layers: &[Layer],
        effort: Effort,
        clock: &TickClock,
        seed: u64,
    ) -> Result<Self, EngineError> {
        let names = Arc::new(KeySet::new(keys, seed));
        let spaces: Vec<E::Space> = (0..runs)
            .map(|thread| engine.space(run_id(seed, thread), Arc::clone(&names)))
            .collect();
        let mut ledgers = Ledgers::new();
        for (run, space) in spaces.iter().enumerate() {
            let mut session = engine.session(space)?;
            for layer in layers {
                verify::load(&mut session, *layer, keys)?;
                ledgers.insert((Self::ledger_layer(*layer), run), Ledger::loaded(keys));
            }
        }
        Ok(Self {
            engine,
            name: E::NAME,
            manner: |_| Manner::COMPUTES,
            keys,
            spaces,
            effort,
            clock: clock.clone(),
            ledgers: Mutex::new(ledgers),
        })
    }

    /// Gives the engine another name than its own, by which tasks call it.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Sets how so many threads meet the machine, unless it is [`Manner::COMPUTES`].
    #[must_use]
    pub fn manner(mut self, manner: fn(usize) -> Manner) -> Self {
        self.manner = manner;
        self
    }

    /// Turns tasks into sides of a comparison, leaving out what the engine can't do.
    pub fn sides<'a>(&'a self, tasks: &[Task]) -> Vec<(Task, Side<'a, Sample>)> {
        tasks
            .iter()
            .filter(|task| task.engine == self.name && E::supports(task.operation))
            .filter(|task| task.threads == 1 || !E::is_single_threaded())
            .map(|task| {
                let task = *task;
                (task, Side::new(task.name(), move |round| self.slice(task, round)))
            })
            .collect()
    }

    /// Measures one slice and checks what it left.
    pub fn slice(&self, task: Task, round: Round) -> Sample {
        let Some(threads) = NonZeroUsize::new(task.threads) else {
            return Sample::failed(&"no threads");
        };
        let streams: Vec<Stream> = (0..task.threads)
            .map(|thread| self.stream(task, round, thread))
            .collect();
        let plan = (self.manner)(task.threads).plan(self.effort.plan(round, self.keys));
        let drive = |thread: usize| -> Result<Drive<E::Session<'_>>, EngineError> {
            let session = self.engine.session(self.space(task, thread))?;
            let seed = side_seed(task, round, thread);
            Ok(Drive::new(session, task.operation, streams[thread].clone(), seed))
        };
        let outcome = match task.timing {
            Timing::Together => run(&plan, threads, drive),
            Timing::Each => run(&plan, threads, |thread| {
                Ok(TimedDrive::new(drive(thread)?, self.clock.clone(), Pace::Closed))
            }),
        };
        match outcome {
            Ok(outcome) => self.sample(task, round, outcome, &streams),
            Err(error) => Sample::failed(&error),
        }
    }

    /// Counts what `operations` operations of each thread ask of the allocator, after as many of warm-up; the sum
    /// over the threads.
    ///
    /// # Errors
    ///
    /// Returns what the engine refused, or what its threads wrote and it lost.
    pub fn count_allocations(&self, task: Task, warm_up: u64, operations: u64) -> Result<CountedRun<Counts>, Invalid> {
        self.drive_counted(task, warm_up + operations, |_, work| Counting {
            work,
            warm_up,
            before: allocations::current(),
        })
    }

    /// Runs `operations` operations of each thread inside of what `wrap` makes of the thread's drive, checks what
    /// they left, and returns what the wraps report beside.
    ///
    /// # Errors
    ///
    /// Returns what the engine refused, or what its threads wrote and it lost.
    pub fn drive_counted<'a, W, R>(
        &'a self,
        task: Task,
        operations: u64,
        wrap: impl Fn(usize, Drive<E::Session<'a>>) -> W + Sync,
    ) -> Result<CountedRun<R>, Invalid>
    where
        W: Work<Report = (DriveReport, R)>,
        R: Send,
    {
        let Some(threads) = NonZeroUsize::new(task.threads) else {
            return Ok(CountedRun {
                reports: Vec::new(),
                processor_share: 1.0,
            });
        };
        let round = Round { index: 0, seed: 0 };
        let streams: Vec<Stream> = (0..task.threads)
            .map(|thread| self.stream(task, round, thread))
            .collect();
        let outcome = run(&Plan::counted(operations), threads, |thread| {
            let session = self.engine.session(self.space(task, thread))?;
            let seed = side_seed(task, round, thread);
            let drive = Drive::new(session, task.operation, streams[thread].clone(), seed);
            Ok::<_, EngineError>(wrap(thread, drive))
        })?;
        let processor_share = outcome.lowest_processor_share();
        let reports = outcome.threads.into_iter().map(|thread| thread.report);
        let (mut drives, reports): (Vec<DriveReport>, Vec<R>) = reports.unzip();
        self.check(task, round, &mut drives, &streams)?;
        Ok(CountedRun {
            reports,
            processor_share,
        })
    }

    /// Returns the engine, for what it tells about itself.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    fn stream(&self, task: Task, round: Round, thread: usize) -> Stream {
        match task.sharing {
            Sharing::OneKey => Stream::constant(SHARED_KEY),
            Sharing::Disjoint => Stream::uniform(self.keys, &mut Random::new(round.seed ^ split_mix(thread as u64))),
        }
    }

    fn space(&self, task: Task, thread: usize) -> &E::Space {
        match task.sharing {
            Sharing::OneKey => &self.spaces[0],
            Sharing::Disjoint => &self.spaces[self.run_of(task, thread)],
        }
    }

    fn run_of(&self, task: Task, thread: usize) -> usize {
        match task.sharing {
            Sharing::OneKey => 0,
            Sharing::Disjoint => thread % self.spaces.len(),
        }
    }

    /// Layers that share their records share a ledger.
    fn ledger_layer(layer: Layer) -> Layer {
        if E::layers_share_records() {
            Layer::Storage
        } else {
            layer
        }
    }

    fn ledgers(&self) -> MutexGuard<'_, Ledgers> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample(&self, task: Task, round: Round, outcome: Outcome<DriveReport>, streams: &[Stream]) -> Sample {
        let mut sample = Sample::held_to(&outcome, (self.manner)(task.threads).least_share);
        let mut reports: Vec<DriveReport> = outcome.threads.into_iter().map(|thread| thread.report).collect();
        sample.latency = merged_latency(&mut reports);
        if let Err(reason) = self.check(task, round, &mut reports, streams) {
            sample.mark_wrong(&reason);
        }
        sample
    }

    /// Compares the store with what the threads did. A lost update outranks every other defect.
    fn check(&self, task: Task, round: Round, reports: &mut [DriveReport], streams: &[Stream]) -> Result<(), Invalid> {
        if task.operation.is_put() && task.sharing == Sharing::Disjoint {
            self.note(task, reports, streams);
        }
        reports.iter_mut().try_for_each(verify::sound)?;
        match task.operation {
            get if get.is_get() => self.check_gets(task, reports, streams),
            Operation::Snapshot => self.check_snapshot(task, round),
            // Nothing is a side that increments; the ledgers would have to follow it.
            Operation::Increment => Err(Invalid::Unknown {
                operation: task.operation,
            }),
            _ if task.sharing == Sharing::OneKey => self.check_one_key(task, round, reports),
            _ => self.check_disjoint(task, reports, streams),
        }
    }

    /// Notes in the ledgers what the threads wrote, whether or not the engine kept it.
    fn note(&self, task: Task, reports: &[DriveReport], streams: &[Stream]) {
        let layer = Self::ledger_layer(task.operation.layer());
        let mut ledgers = self.ledgers();
        for (thread, (report, stream)) in reports.iter().zip(streams).enumerate() {
            if let Some(ledger) = ledgers.get_mut(&(layer, self.run_of(task, thread))) {
                ledger.note(report, stream.period());
            }
        }
    }

    fn check_gets(&self, task: Task, reports: &[DriveReport], streams: &[Stream]) -> Result<(), Invalid> {
        let operation = task.operation;
        let ledgers = self.ledgers();
        for (thread, (report, stream)) in reports.iter().zip(streams).enumerate() {
            let ledger = ledgers
                .get(&(Self::ledger_layer(operation.layer()), self.run_of(task, thread)))
                .ok_or(Invalid::Unknown { operation })?;
            verify::gets(ledger, report, stream.period())?;
        }
        Ok(())
    }

    fn check_snapshot(&self, task: Task, round: Round) -> Result<(), Invalid> {
        let mut session = self.engine.session(&self.spaces[0])?;
        verify::snapshot(&mut session, SHARED_KEY, side_seed(task, round, 0))
    }

    fn check_one_key(&self, task: Task, round: Round, reports: &[DriveReport]) -> Result<(), Invalid> {
        let mut session = self.engine.session(&self.spaces[0])?;
        let last = verify::same_key(&mut session, SHARED_KEY, reports);
        drop(session);
        let counted = last.and_then(|()| self.count_increments(task, round));
        // Which thread was last is the engine's to say, so that the ledgers follow it here.
        for layer in [task.operation.layer(), Layer::Facade] {
            let found = self.engine.session(&self.spaces[0])?.read(layer, SHARED_KEY)?;
            if let (Some(value), Some(ledger)) = (found, self.ledgers().get_mut(&(Self::ledger_layer(layer), 0))) {
                ledger.set(SHARED_KEY, value);
            }
        }
        counted
    }

    fn check_disjoint(&self, task: Task, reports: &[DriveReport], streams: &[Stream]) -> Result<(), Invalid> {
        for (thread, (report, stream)) in reports.iter().zip(streams).enumerate() {
            let mut session = self.engine.session(self.space(task, thread))?;
            verify::disjoint(&mut session, report, stream.period())?;
        }
        Ok(())
    }

    /// Lets the threads count on the shared key, since blind puts may rightly overwrite one another.
    fn count_increments(&self, task: Task, round: Round) -> Result<(), Invalid> {
        if !E::supports(Operation::Increment) {
            return Ok(());
        }
        let threads = NonZeroUsize::new(task.threads).unwrap_or(NonZeroUsize::MIN);
        let before = self
            .engine
            .session(&self.spaces[0])?
            .read(Layer::Facade, SHARED_KEY)?
            .unwrap_or(0);
        let plan = Plan::counted(self.effort.counted_increments).rotation(round.index);
        let mut outcome = run(&plan, threads, |thread| -> Result<_, EngineError> {
            let session = self.engine.session(&self.spaces[0])?;
            let stream = Stream::constant(SHARED_KEY);
            Ok(Drive::new(
                session,
                Operation::Increment,
                stream,
                side_seed(task, round, thread),
            ))
        })?;
        let increments = outcome.threads.iter().map(|thread| thread.report.operations).sum();
        outcome
            .threads
            .iter_mut()
            .try_for_each(|thread| verify::sound(&mut thread.report))?;
        verify::counted(
            &mut self.engine.session(&self.spaces[0])?,
            SHARED_KEY,
            before,
            increments,
        )
    }
}

/// What a run of so many operations gave.
#[derive(Clone, Debug)]
pub struct CountedRun<R> {
    /// What each thread's wrap reported.
    pub reports: Vec<R>,
    /// The smallest share of the run in which a thread had its processor.
    pub processor_share: f64,
}

/// Counts what its thread asks of the allocator after so many operations of warm-up.
struct Counting<W> {
    work: W,
    warm_up: u64,
    before: Counts,
}

impl<W: Work> Work for Counting<W> {
    type Report = (W::Report, Counts);

    fn run(&mut self, operations: u64) {
        let warm_up = self.warm_up.min(operations);
        if warm_up > 0 {
            self.work.run(warm_up);
            self.warm_up -= warm_up;
            self.before = allocations::current();
        }
        if operations > warm_up {
            self.work.run(operations - warm_up);
        }
    }

    fn finish(self) -> Self::Report {
        let counts = allocations::current().since(self.before);
        (self.work.finish(), counts)
    }
}

/// A seed that no other thread, round or side of the same engine has, so that no two write the same value.
fn side_seed(task: Task, round: Round, thread: usize) -> u64 {
    let side = (task.operation as u64) << 32
        | (task.threads as u64) << 16
        | (task.sharing as u64) << 8
        | (task.timing as u64) << 4;
    split_mix(round.seed ^ split_mix(side)) ^ split_mix(thread as u64 + 1)
}

fn merged_latency(reports: &mut [DriveReport]) -> Option<Histogram<u64>> {
    let mut merged: Option<Histogram<u64>> = None;
    for latency in reports.iter_mut().filter_map(|report| report.latency.take()) {
        match &mut merged {
            None => merged = Some(latency),
            // Both were made with the same bounds, so that adding cannot fail.
            Some(sum) => sum.add(&latency).unwrap_or(()),
        }
    }
    merged
}

impl Effort {
    /// The plan of one slice on a store of `keys` keys per run.
    #[must_use]
    pub fn plan(&self, round: Round, keys: usize) -> Plan {
        Plan::timed(self.slice)
            .warm_up(self.warm_up)
            .rotation(round.index)
            .busy_neighbours(keys.min(NEIGHBOUR_KEYS))
    }
}
