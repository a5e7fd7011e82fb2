//! Gate 2: what happens on every operation, and how often it goes wrong.
//!
//! Question: does the hot path allocate, what do a snapshot and a get cost, and how long is the tail?
//! Method: allocations are counted by the global allocator, per thread, over many operations after as many of warm-up,
//! for the facade's overwriting put, its get, its transaction of one check and two puts, the engine's get into the
//! caller's buffer (the facade has none), and a snapshot. The hot path as a whole is the first four together.
//! Means come from the one-thread campaigns of [`super::layers`]. Tails are the 99th and 99.9th percentile over the
//! mean of operations timed one by one, closed-loop; the clock's own cost is inside each figure and stated beside it.
//! Command: `experiments gates --only 2`.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::sync::Arc;

use unlatched::{Database, KVStore, Value};

use crate::allocations;
use crate::engines::{Engine, EngineError, Operation};
use crate::gates::Context;
use crate::gates::bed::{Bed, Task};
use crate::gates::campaign::{Campaign, Metric, figure};
use crate::gates::layers::{BASELINES, HASH_MAP, SKIPLIST, Size};
use crate::gates::sheet::Figure;
use crate::gates::table::K100;
use crate::harness::stats::Estimate;
use crate::workload::random::Random;
use crate::workload::{KeySet, Stream, run_id};

/// Lines about allocations in the hot path: the measure, and how it reads in a remark.
const COUNTED: [&str; 3] = [
    "allocations_put_100k",
    "allocations_get_into_100k",
    "allocations_transaction_100k",
];

/// The line about the hot path as a whole.
const WHOLE: &str = "allocations_hot_path_100k";

const NOT_COUNTING: &str = "this program was built without the counting allocator";

/// The tails: name, operation, metric.
const TAILS: [(&str, Operation, Metric); 4] = [
    ("put_tail_p99_100k", Operation::FacadePut, Metric::TailP99),
    ("put_tail_p999_100k", Operation::FacadePut, Metric::TailP999),
    ("get_tail_p99_100k", Operation::FacadeGet, Metric::TailP99),
    ("get_tail_p999_100k", Operation::FacadeGet, Metric::TailP999),
];

/// Counts the allocations of the hot path. Needs no clock, so that a debug build does it too.
///
/// # Errors
///
/// Returns what the engine refused.
pub fn allocations(context: &mut Context) -> Result<(), EngineError> {
    if !context.sheet.wants_any(&COUNTED) && !context.sheet.wants(WHOLE) {
        return Ok(());
    }
    if !allocations::is_counting() {
        for measure in COUNTED.iter().chain([&WHOLE]) {
            context.sheet.record(measure, Figure::not_measurable(NOT_COUNTING));
        }
        return Ok(());
    }
    context.options.progress.say("allocations: counting");
    let operations = context.options.effort.counted_operations;
    let path = HotPath::new(context)?;
    let counts = [
        path.put(operations)?,
        path.get_into(operations)?,
        path.transaction(operations)?,
    ];
    let rate = |count: u64| count as f64 / operations as f64;
    for (measure, count) in COUNTED.iter().zip(counts) {
        let note = format!("{count} in {operations} operations");
        context
            .sheet
            .record(measure, Figure::measured(Estimate::exact(rate(count), 1)).noting(note));
    }
    let gets = path.get(operations)?;
    let whole: u64 = counts.iter().sum::<u64>() + gets;
    let kinds = counts.len() + 1;
    let note = format!(
        "{whole} in {operations} puts, as many gets, gets into a buffer and transactions; {gets} of them in the facade's gets"
    );
    context.sheet.record(
        WHOLE,
        Figure::measured(Estimate::exact(rate(whole) / kinds as f64, 1)).noting(note),
    );
    Ok(())
}

/// A loaded store, and a thread's keys and order on it.
struct HotPath {
    database: Arc<Database>,
    facade: KVStore,
    keys: KeySet,
    stream: Stream,
    run: unlatched::RunId,
}

impl HotPath {
    fn new(context: &Context) -> Result<Self, EngineError> {
        let seed = context.options.seed;
        let keys = KeySet::new(context.options.effort.keys_for(K100), seed);
        let database = Arc::new(Database::in_memory()?);
        let facade = KVStore::new(Arc::clone(&database));
        let run = run_id(seed, 0);
        for key in 0..keys.len() {
            facade.put(run, keys.text(key), Value::I64(0))?;
            database.put(run, keys.bytes(key), [0; 8])?;
        }
        let stream = Stream::uniform(keys.len(), &mut Random::new(seed));
        Ok(Self {
            database,
            facade,
            keys,
            stream,
            run,
        })
    }

    /// Runs `operation` on the next keys, first uncounted and then counted; returns the allocations.
    fn count(
        &self,
        operations: u64,
        mut operation: impl FnMut(usize, usize) -> Result<(), unlatched::Error>,
    ) -> Result<u64, EngineError> {
        let mut stream = self.stream.clone();
        let mut repeat = || -> Result<(), unlatched::Error> {
            (0..operations).try_for_each(|_| {
                let key = stream.advance();
                operation(key, (key + 1) % self.keys.len())
            })
        };
        repeat()?;
        let (done, counts) = allocations::counted(repeat);
        done?;
        Ok(counts.allocations)
    }

    fn put(&self, operations: u64) -> Result<u64, EngineError> {
        let mut number = 0;
        self.count(operations, |key, _| {
            number += 1;
            self.facade.put(self.run, self.keys.text(key), Value::I64(number))
        })
    }

    fn get(&self, operations: u64) -> Result<u64, EngineError> {
        self.count(operations, |key, _| {
            self.facade.get(self.run, self.keys.text(key)).map(drop)
        })
    }

    fn get_into(&self, operations: u64) -> Result<u64, EngineError> {
        let mut buffer = Vec::with_capacity(64);
        self.count(operations, |key, _| {
            self.database
                .get_into(self.run, self.keys.bytes(key), &mut buffer)
                .map(|_| ())
        })
    }

    /// One check and two puts, through the facade.
    fn transaction(&self, operations: u64) -> Result<u64, EngineError> {
        self.count(operations, |first, second| {
            self.facade.transaction(self.run, |transaction| {
                if transaction.exists(self.keys.text(first))? {
                    transaction.put(self.keys.text(first), Value::I64(first as i64))?;
                }
                transaction.put(self.keys.text(second), Value::I64(second as i64))
            })
        })
    }
}

/// Sides that time each operation.
#[must_use]
pub fn tail_tasks(engine: &'static str) -> Vec<Task> {
    [Operation::FacadePut, Operation::FacadeGet]
        .map(|operation| Task::alone(engine, operation).timed_each())
        .to_vec()
}

/// Sides that take and release snapshots, by one thread and by two.
#[must_use]
pub fn snapshot_tasks(engine: &'static str) -> Vec<Task> {
    let alone = Task::alone(engine, Operation::Snapshot);
    vec![alone, alone.threads(2)]
}

/// Counts the allocations of snapshots on the store of 1 M keys, by one thread and by two.
pub fn snapshot_allocations<S: Engine>(context: &mut Context, bed: &Bed<S>) {
    let operations = context.options.effort.counted_operations;
    for (measure, threads) in [
        ("snapshot_allocations_1m", NonZeroUsize::MIN),
        ("snapshot_allocations_2t_1m", TWO),
    ] {
        let task = Task::alone(S::NAME, Operation::Snapshot).threads(threads.get());
        let figure = if allocations::is_counting() {
            match bed.count_allocations(task, operations) {
                Ok(counts) => {
                    let total = operations * threads.get() as u64;
                    let note = format!("{counts} in {total} snapshots");
                    Figure::measured(Estimate::exact(counts as f64 / total as f64, 1)).noting(note)
                }
                Err(reason) => Figure::invalid(reason.to_string()),
            }
        } else {
            Figure::not_measurable(NOT_COUNTING)
        };
        context.sheet.record(measure, figure);
    }
}

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

/// Fills in means, rates against the skiplist, snapshots and tails.
pub fn fill<S: Engine>(context: &mut Context, campaign: &Campaign, size: Size) {
    let suffix = size.suffix();
    let get = Task::alone(S::NAME, Operation::FacadeGet);
    let mut mean = campaign.figure(get, Metric::Mean);
    for engine in BASELINES {
        mean = mean.beside(
            engine,
            campaign
                .estimate(Task::alone(engine, Operation::FacadeGet), Metric::Mean)
                .ok(),
        );
    }
    for floor in [SKIPLIST, HASH_MAP] {
        mean = mean.beside(
            floor,
            campaign
                .estimate(Task::alone(floor, Operation::StorageGet), Metric::Mean)
                .ok(),
        );
    }
    context.sheet.record(&format!("get_mean_{suffix}"), mean);

    if size != Size::One {
        context
            .sheet
            .record(&format!("get_to_skiplist_{suffix}"), to_skiplist::<S>(campaign));
    }
    if size == Size::Hundred {
        tails::<S>(context, campaign);
    }
    if size == Size::Million {
        snapshots::<S>(context, campaign);
    }
}

/// The rate of a get over that of a raw skiplist lookup, for every engine.
fn to_skiplist<S: Engine>(campaign: &Campaign) -> Figure {
    let lookup = Task::alone(SKIPLIST, Operation::StorageGet);
    let ratio = |engine| campaign.ratio(Task::alone(engine, Operation::FacadeGet), lookup, Metric::Rate);
    BASELINES.into_iter().fold(figure(ratio(S::NAME)), |figure, engine| {
        figure.beside(engine, ratio(engine).ok())
    })
}

fn snapshots<S: Engine>(context: &mut Context, campaign: &Campaign) {
    let alone = Task::alone(S::NAME, Operation::Snapshot);
    for (measure, threads) in [("snapshot_mean_1m", 1), ("snapshot_mean_2t_1m", 2)] {
        let figure = if threads > context.processors {
            Figure::not_measurable(too_few(threads, context.processors))
        } else {
            let mut figure = campaign.figure(alone.threads(threads), Metric::Mean);
            for engine in BASELINES {
                let task = Task::alone(engine, Operation::Snapshot).threads(threads);
                figure = figure.beside(engine, campaign.estimate(task, Metric::Mean).ok());
            }
            figure
        };
        context.sheet.record(measure, figure);
    }
}

/// The reason of a line that asks for more threads than there are processors.
#[must_use]
pub fn too_few(threads: usize, processors: usize) -> String {
    format!("asks for {threads} threads; this machine has {processors} processors")
}

fn tails<S: Engine>(context: &mut Context, campaign: &Campaign) {
    let cost = context.clock.cost_ns();
    for (measure, operation, metric) in TAILS {
        let task = Task::alone(S::NAME, operation).timed_each();
        let mut figure = campaign.figure(task, metric);
        for engine in BASELINES {
            let task = Task::alone(engine, operation).timed_each();
            figure = figure.beside(engine, campaign.estimate(task, metric).ok());
        }
        let note = format!("asking the clock costs {cost:.1} ns, included in every time");
        context.sheet.record(measure, figure.noting(note));
    }
    for engine in std::iter::once(S::NAME).chain(BASELINES) {
        for (operation, name) in [
            (Operation::FacadePut, "kvstore-put"),
            (Operation::FacadeGet, "kvstore-get"),
        ] {
            if let Some(latency) = campaign.latency(Task::alone(engine, operation).timed_each()) {
                context.histograms.push((format!("{name}-100k-{engine}.hgrm"), latency));
            }
        }
    }
}
