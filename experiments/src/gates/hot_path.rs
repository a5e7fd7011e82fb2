//! Gate 2: what happens on every operation, and how often it goes wrong.
//!
//! Question: what do a snapshot and a get cost, and how long is the tail?
//! Method: means come from the one-thread campaigns of [`super::layers`]; what the hot path allocates is
//! [`super::counted`]'s, but for snapshots of the large store, which are counted where it is loaded. Tails are the
//! 99th and 99.9th percentile over the mean of operations timed one by one, closed-loop; the clock's own cost is
//! inside each figure and stated beside it.
//! Command: `experiments gates --only 2`.

#![forbid(unsafe_code)]

use crate::allocations;
use crate::engines::{Engine, Operation};
use crate::gates::bed::{Bed, Task};
use crate::gates::campaign::{Campaign, Metric, figure};
use crate::gates::layers::{BASELINES, HASH_MAP, SKIPLIST, Size};
use crate::gates::sheet::Figure;
use crate::gates::{Context, counted};

/// The tails: how the name begins, operation, metric.
const TAILS: [(&str, Operation, Metric); 4] = [
    ("put_tail_p99", Operation::FacadePut, Metric::TailP99),
    ("put_tail_p999", Operation::FacadePut, Metric::TailP999),
    ("get_tail_p99", Operation::FacadeGet, Metric::TailP99),
    ("get_tail_p999", Operation::FacadeGet, Metric::TailP999),
];

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
    for (measure, threads) in [("snapshot_allocations_1m", 1), ("snapshot_allocations_2t_1m", 2)] {
        let task = Task::alone(S::NAME, Operation::Snapshot).threads(threads);
        let figure = if !allocations::is_counting() {
            Figure::not_measurable(counted::NOT_COUNTING)
        } else if threads > context.processors {
            Figure::not_measurable(too_few(threads, context.processors))
        } else {
            let counts = counted::median_part(operations, |part| {
                bed.count_allocations(task, counted::WARM_UP * part, part)
            });
            counted::figure(counts, operations * threads as u64 / counted::PARTS)
        };
        context.sheet.record(measure, figure);
    }
}

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
    if size != Size::One {
        tails::<S>(context, campaign, size);
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

fn tails<S: Engine>(context: &mut Context, campaign: &Campaign, size: Size) {
    let suffix = size.suffix();
    let cost = context.clock.cost_ns();
    for (measure, operation, metric) in TAILS {
        let task = Task::alone(S::NAME, operation).timed_each();
        let mut figure = campaign.figure(task, metric);
        for engine in BASELINES {
            let task = Task::alone(engine, operation).timed_each();
            figure = figure.beside(engine, campaign.estimate(task, metric).ok());
        }
        let note = format!("asking the clock costs {cost:.1} ns, included in every time");
        context
            .sheet
            .record(&format!("{measure}_{suffix}"), figure.noting(note));
    }
    for engine in std::iter::once(S::NAME).chain(BASELINES) {
        for (operation, name) in [
            (Operation::FacadePut, "kvstore-put"),
            (Operation::FacadeGet, "kvstore-get"),
        ] {
            if let Some(latency) = campaign.latency(Task::alone(engine, operation).timed_each()) {
                context
                    .histograms
                    .push((format!("{name}-{suffix}-{engine}.hgrm"), latency));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::unlatched::Unlatched;
    use crate::gates::bed::Sample;
    use crate::gates::{Effort, Options};
    use crate::harness::stats::Verdict;
    use crate::workload::drive::latency_histogram;

    /// The verdicts of all lines about tails, if of 10,000 operations of 100 ns so many took 10 us, on both sizes.
    fn verdicts(slow: u64) -> Vec<(&'static str, Verdict)> {
        let mut latency = latency_histogram();
        latency.record_n(100, 10_000 - slow).expect("in range");
        latency.record_n(10_000, slow).expect("in range");
        let sample = Sample {
            rate: 1.0,
            mean_ns: 1.0,
            latency: Some(latency),
            operations: 1,
            aborts: 0,
            pinned: true,
            defect: None,
        };
        let tasks = tail_tasks(Unlatched::NAME);
        let campaign = Campaign::of(tasks.into_iter().map(|task| (task, vec![sample.clone(); 9])));
        let mut context = Context::new(Options::new(Effort::TINY));
        for size in [Size::Hundred, Size::Million] {
            tails::<Unlatched>(&mut context, &campaign, size);
        }
        let lines = context.sheet.outcomes();
        let tails = lines.iter().filter(|line| line.entry.id.contains("_tail_"));
        tails.map(|line| (line.entry.id, line.verdict)).collect()
    }

    // Goal: every line about a tail can fail, on either size, and the two percentiles are told apart. Method: made-up
    // times: none slow, one in 500, which only the 99.9th percentile sees, and one in 50.
    #[test]
    fn slow_operations_show_in_their_percentile() {
        let lines = verdicts(0);
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|(_, verdict)| *verdict == Verdict::Pass), "{lines:?}");
        for (id, verdict) in verdicts(20) {
            let expected = if id.contains("p999") {
                Verdict::Fail
            } else {
                Verdict::Pass
            };
            assert_eq!(verdict, expected, "{id}");
        }
        // The mean is 298 ns, so that the percentiles are 33 times the mean.
        let lines = verdicts(200);
        assert!(lines.iter().all(|(_, verdict)| *verdict == Verdict::Fail), "{lines:?}");
    }
}
