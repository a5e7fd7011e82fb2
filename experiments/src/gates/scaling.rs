//! Gate 3: what a second thread brings, and a fourth, eighth and sixteenth.
//!
//! Question: do threads that share no key add up, whether they put, get or run transactions, do readers of one key, and
//! what is left when they all write the same key?
//! Method: each thread has a run with as many keys as the checklist says, in one store that holds the runs of the
//! most threads in the comparison. One thread and every other count are sides of one campaign, the ceiling (threads
//! that share nothing at all) among them; a ratio is formed within each round. Gets and transactions are held to their
//! share of that ceiling (`SHARES`), which says what the engine loses apart from what the machine does. A threshold that the ceiling's interval
//! does not clear decides nothing here. For more threads than processors nothing is measured: Amdahl's law fitted to
//! the most threads measured is printed as a prediction.
//! Command: `experiments gates --only 3`.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

use crate::engines::locked::{M3, M3Cheap};
use crate::engines::sharded::Sharded;
use crate::engines::sharded_txn::ShardedTxn;
use crate::engines::{Engine, EngineError, Layer, Operation};
use crate::gates::bed::{Bed, Sample, Sharing, Task, Timing};
use crate::gates::campaign::{Campaign, Metric, figure};
use crate::gates::hot_path::too_few;
use crate::gates::layers::BASELINES;
use crate::gates::sheet::Figure;
use crate::gates::table::{K1, K100};
use crate::gates::{Context, Effort, red_flags};
use crate::harness::ceiling::ceiling;
use crate::harness::rounds::{Round, Side};
use crate::harness::stats::{Estimate, paired_ratio};
use crate::report::markdown::Section;
use crate::report::units;

/// Name of the threads that share nothing.
pub const CEILING: &str = "machine-ceiling";

/// Thread counts with lines about disjoint keys.
const DISJOINT: [usize; 4] = [2, 4, 8, 16];

/// Thread counts with lines about one key.
const ONE_KEY: [usize; 2] = [2, 4];

/// Lines about other operations than puts, with two threads: the measure, the operation, and what the threads share.
const SHARES: [(&str, Operation, Sharing); 3] = [
    ("disjoint_get_ceiling_2t_100k", Operation::FacadeGet, Sharing::Disjoint),
    (
        "disjoint_transaction_ceiling_2t_100k",
        Operation::TransactionPut,
        Sharing::Disjoint,
    ),
    ("same_key_get_ceiling_2t_100k", Operation::FacadeGet, Sharing::OneKey),
];

/// Threads of [`SHARES`].
const SHARE_THREADS: usize = 2;

/// Increments of each thread in a round that check the baselines, some of which clone their map for each.
const BASELINE_INCREMENTS: u64 = 2;

fn put(engine: &'static str, threads: usize) -> Task {
    Task::alone(engine, Operation::FacadePut).threads(threads)
}

fn ceiling_task(threads: usize) -> Task {
    Task {
        engine: CEILING,
        operation: Operation::StoragePut,
        threads,
        sharing: Sharing::Disjoint,
        timing: Timing::Together,
    }
}

/// Measures scaling and fills in the lines of gate 3 and its red flag.
///
/// # Errors
///
/// Returns what an engine refused while it was opened or loaded.
pub fn measure<S: Engine>(context: &mut Context) -> Result<(), EngineError> {
    let names: Vec<String> = DISJOINT
        .iter()
        .flat_map(|threads| ["scaling", "ceiling", "rate"].map(|kind| format!("disjoint_{kind}_{threads}t_100k")))
        .chain(ONE_KEY.iter().map(|threads| format!("same_key_{threads}t_100k")))
        .chain(SHARES.iter().map(|(measure, ..)| (*measure).to_owned()))
        .collect();
    if !names.iter().any(|name| context.sheet.wants(name)) {
        return Ok(());
    }
    let counts = thread_counts(context);
    let mut campaign = Campaign::new(context.options.seed);
    if counts.len() > 1 {
        run_campaign::<S>(context, &counts, &mut campaign)?;
        context.note_pinning(&campaign);
    }
    let most = counts.last().copied().unwrap_or(1);
    for threads in DISJOINT {
        disjoint::<S>(context, &campaign, threads, most);
    }
    for threads in ONE_KEY {
        let figure = unmeasured(context, threads).unwrap_or_else(|| one_key::<S>(&campaign, threads));
        context.sheet.record(&format!("same_key_{threads}t_100k"), figure);
    }
    shares::<S>(context, &campaign);
    red_flags::control_scaling(context, &campaign, most);
    if counts.len() > 1 {
        context.sections.push(section::<S>(&campaign, &counts));
    }
    Ok(())
}

/// Fills in the lines about other operations than puts.
fn shares<S: Engine>(context: &mut Context, campaign: &Campaign) {
    for (measure, operation, sharing) in SHARES {
        let figure = unmeasured(context, SHARE_THREADS).unwrap_or_else(|| {
            share_figure::<S>(campaign, SHARE_THREADS, |engine| Task {
                sharing,
                ..Task::alone(engine, operation)
            })
        });
        context.sheet.record(measure, figure);
    }
}

/// One thread, and every count that was asked for and that the machine has processors for.
fn thread_counts(context: &Context) -> Vec<usize> {
    let mut counts: Vec<usize> = context
        .options
        .threads
        .iter()
        .copied()
        .filter(|threads| *threads <= context.processors)
        .collect();
    counts.push(1);
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// Why a thread count has no figure, if it has none.
fn unmeasured(context: &Context, threads: usize) -> Option<Figure> {
    if threads > context.processors {
        Some(Figure::not_measurable(too_few(threads, context.processors)))
    } else if !context.options.threads.contains(&threads) {
        Some(Figure::not_measurable(format!(
            "{threads} threads were left out by --threads"
        )))
    } else {
        None
    }
}

fn run_campaign<S: Engine>(context: &Context, counts: &[usize], campaign: &mut Campaign) -> Result<(), EngineError> {
    let effort = context.options.effort;
    let keys = effort.keys_for(K100);
    let runs = counts.last().copied().unwrap_or(1);
    let (clock, seed) = (&context.clock, context.options.seed);
    let title = format!("scaling, {} keys per thread", units::keys(keys as u64));
    context.options.progress.say(&format!("{title}: loading"));
    let few = Effort {
        counted_increments: effort.counted_increments.min(BASELINE_INCREMENTS),
        ..effort
    };
    let layer = [Layer::Facade];

    let subject = Bed::<S>::new(keys, runs, &layer, effort, clock, seed)?;
    let m3 = Bed::<M3>::new(keys, runs, &layer, few, clock, seed)?;
    let cheap = Bed::<M3Cheap>::new(keys, runs, &layer, few, clock, seed)?;
    let sharded = Bed::<Sharded>::new(keys, runs, &layer, few, clock, seed)?;
    // A clone that stays in the cache: cloning a large run is so bound by memory that the busy neighbours of the
    // one-thread rounds slow it more than a second thread's waiting for the lock does.
    let control = Bed::<ShardedTxn>::new(effort.keys_for(K1), runs, &layer, few, clock, seed)?;

    let mut sides = subject.sides(&engine_tasks(S::NAME, counts, true));
    sides.extend(subject.sides(&share_tasks(S::NAME, counts)));
    sides.extend(counts.iter().map(|threads| ceiling_side(*threads, keys, effort)));
    sides.extend(m3.sides(&engine_tasks(M3::NAME, counts, true)));
    sides.extend(cheap.sides(&engine_tasks(M3Cheap::NAME, counts, true)));
    sides.extend(sharded.sides(&engine_tasks(Sharded::NAME, counts, true)));
    // A transaction of `m3` clones its map, and its gets are those of `m3-cheap`; `sharded` has no transactions.
    sides.extend(cheap.sides(&share_tasks(M3Cheap::NAME, counts)));
    sides.extend(sharded.sides(&share_tasks(Sharded::NAME, counts)));
    // On one key the control would clone its run for every one of the increments that check it.
    sides.extend(control.sides(&engine_tasks(ShardedTxn::NAME, counts, false)));
    campaign.run(&title, effort.rounds, sides, &context.options.progress);
    Ok(())
}

fn engine_tasks(engine: &'static str, counts: &[usize], on_one_key: bool) -> Vec<Task> {
    let mut tasks: Vec<Task> = counts.iter().map(|threads| put(engine, *threads)).collect();
    if on_one_key {
        let shared = counts
            .iter()
            .filter(|threads| **threads == 1 || ONE_KEY.contains(threads));
        tasks.extend(shared.map(|threads| put(engine, *threads).on_one_key()));
    }
    tasks
}

/// The sides that [`SHARES`] need, as far as there are threads for them.
fn share_tasks(engine: &'static str, counts: &[usize]) -> Vec<Task> {
    if !counts.contains(&SHARE_THREADS) {
        return Vec::new();
    }
    SHARES
        .iter()
        .flat_map(|(_, operation, sharing)| {
            let alone = Task {
                sharing: *sharing,
                ..Task::alone(engine, *operation)
            };
            [alone, alone.threads(SHARE_THREADS)]
        })
        .collect()
}

fn ceiling_side<'a>(threads: usize, keys: usize, effort: Effort) -> (Task, Side<'a, Sample>) {
    let task = ceiling_task(threads);
    let count = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    let measure = move |round: Round| Sample::of(&ceiling(&effort.plan(round, keys), count, keys, round.seed));
    (task, Side::new(format!("{CEILING} {threads}t"), measure))
}

/// Fills in scaling, rate and share of the ceiling for one thread count.
fn disjoint<S: Engine>(context: &mut Context, campaign: &Campaign, threads: usize, most: usize) {
    let names = ["scaling", "rate", "ceiling"].map(|kind| format!("disjoint_{kind}_{threads}t_100k"));
    let figures = if let Some(figure) = unmeasured(context, threads) {
        let one = campaign.estimate(put(S::NAME, 1), Metric::Rate).ok();
        let fitted = campaign
            .ratio(put(S::NAME, most), put(S::NAME, 1), Metric::Rate)
            .ok()
            .filter(|_| most > 1)
            .map(|measured| amdahl(most, measured.median, threads));
        let rate = fitted.zip(one).map(|(scaling, one)| scaling * one.median);
        [
            Figure {
                prediction: fitted,
                ..figure.clone()
            },
            Figure {
                prediction: rate,
                ..figure.clone()
            },
            figure,
        ]
    } else {
        [
            scaling_figure::<S>(campaign, threads),
            rate_figure::<S>(campaign, threads),
            share_figure::<S>(campaign, threads, |engine| put(engine, 1)),
        ]
    };
    for (name, figure) in names.iter().zip(figures) {
        // Not every count has a line of every kind.
        if crate::gates::table::ENTRIES.iter().any(|entry| entry.measure() == name) {
            context.sheet.record(name, figure);
        }
    }
}

fn scaling(campaign: &Campaign, engine: &'static str, threads: usize) -> Result<Estimate, String> {
    campaign.ratio(put(engine, threads), put(engine, 1), Metric::Rate)
}

fn scaling_figure<S: Engine>(campaign: &Campaign, threads: usize) -> Figure {
    let mut scaled = figure(scaling(campaign, S::NAME, threads));
    for engine in BASELINES {
        scaled = scaled.beside(engine, scaling(campaign, engine, threads).ok());
    }
    match campaign.ratio(ceiling_task(threads), ceiling_task(1), Metric::Rate) {
        Ok(limit) => {
            let reason = format!(
                "the machine's own ceiling is {} [{}, {}] and does not clear the threshold",
                units::value(limit.median, "ratio"),
                units::digits(limit.low),
                units::digits(limit.high)
            );
            scaled.decidable_up_to = Some((limit.low, reason));
            scaled.beside(CEILING, Some(limit))
        }
        Err(reason) => Figure::invalid(format!("the machine's own ceiling could not be measured: {reason}")),
    }
}

fn rate_figure<S: Engine>(campaign: &Campaign, threads: usize) -> Figure {
    let rate = |engine| campaign.estimate(put(engine, threads), Metric::Rate);
    BASELINES.into_iter().fold(figure(rate(S::NAME)), |figure, engine| {
        figure.beside(engine, rate(engine).ok())
    })
}

/// Scaling of what `alone` says one thread of an engine does, over the ceiling's scaling, formed within each round.
fn share_figure<S: Engine>(campaign: &Campaign, threads: usize, alone: impl Fn(&'static str) -> Task) -> Figure {
    let share = |engine| -> Result<Estimate, String> {
        let scaling = campaign.ratios(alone(engine).threads(threads), alone(engine), Metric::Rate)?;
        let ceiling = campaign.ratios(ceiling_task(threads), ceiling_task(1), Metric::Rate)?;
        paired_ratio(&scaling, &ceiling, campaign.seed()).ok_or_else(|| "no rounds were made".to_owned())
    };
    BASELINES.into_iter().fold(figure(share(S::NAME)), |figure, engine| {
        figure.beside(engine, share(engine).ok())
    })
}

fn one_key<S: Engine>(campaign: &Campaign, threads: usize) -> Figure {
    let ratio = |engine| {
        campaign.ratio(
            put(engine, threads).on_one_key(),
            put(engine, 1).on_one_key(),
            Metric::Rate,
        )
    };
    let figure = figure(ratio(S::NAME)).noting("against one thread on that key; counted increments were exact");
    BASELINES
        .into_iter()
        .fold(figure, |figure, engine| figure.beside(engine, ratio(engine).ok()))
}

/// Predicts the scaling at `threads` from that measured at `measured_threads`, by Amdahl's law.
#[must_use]
pub fn amdahl(measured_threads: usize, scaling: f64, threads: usize) -> f64 {
    let measured = measured_threads as f64;
    // What is above linear is noise or cache; the law knows no negative serial share.
    let serial = ((measured / scaling - 1.0) / (measured - 1.0)).clamp(0.0, 1.0);
    let threads = threads as f64;
    threads / serial.mul_add(threads - 1.0, 1.0)
}

/// What is done, and on what, in the rows of the table.
const ROWS: [(Operation, Sharing, &str); 5] = [
    (Operation::FacadePut, Sharing::Disjoint, "puts, disjoint"),
    (Operation::FacadePut, Sharing::OneKey, "puts, one key"),
    (Operation::FacadeGet, Sharing::Disjoint, "gets, disjoint"),
    (Operation::FacadeGet, Sharing::OneKey, "gets, one key"),
    (Operation::TransactionPut, Sharing::Disjoint, "transactions, disjoint"),
];

fn section<S: Engine>(campaign: &Campaign, counts: &[usize]) -> Section {
    let cell = |task: Task| {
        if !campaign.tasks().any(|known| *known == task) {
            return String::new();
        }
        campaign.estimate(task, Metric::Rate).map_or_else(
            |_| "invalid".to_owned(),
            |estimate| units::value(estimate.median, "ops/s"),
        )
    };
    let mut rows = Vec::new();
    for (operation, sharing, label) in ROWS {
        for engine in std::iter::once(S::NAME).chain(BASELINES) {
            let task = |threads: usize| Task {
                sharing,
                ..Task::alone(engine, operation).threads(threads)
            };
            rows.push((
                engine,
                label,
                counts.iter().map(|threads| cell(task(*threads))).collect(),
            ));
        }
    }
    let ceiling = counts.iter().map(|threads| cell(ceiling_task(*threads)));
    rows.push((CEILING, "puts, private", ceiling.collect::<Vec<String>>()));
    let rows = rows
        .into_iter()
        .filter(|(.., cells)| cells.iter().any(|cell| !cell.is_empty()))
        .map(|(engine, label, cells)| [engine.to_owned(), label.to_owned()].into_iter().chain(cells).collect())
        .collect();
    let header = ["engine".to_owned(), "what".to_owned()]
        .into_iter()
        .chain(counts.iter().map(|threads| {
            if *threads == 1 {
                "1 thread".to_owned()
            } else {
                format!("{threads} threads")
            }
        }))
        .collect();
    Section {
        title: "Operations per second by threads".to_owned(),
        text: "All threads together, through the key-value facade, a transaction being one put; 100 k keys for each \
               thread, and 1 k for `sharded-txn`."
            .to_owned(),
        header,
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::unlatched::Unlatched;
    use crate::gates::Options;
    use crate::harness::stats::Verdict;

    /// What the lines of [`SHARES`] come to when two threads do `scaling` times what one does, on a machine whose own
    /// threads do `ceiling` times what one does.
    fn verdicts(scaling: f64, ceiling: f64) -> Vec<Verdict> {
        let rounds = |rate: f64| -> Vec<Sample> {
            let sample = |round| Sample {
                rate: rate * (1.0 + 0.001 * f64::from(round)),
                mean_ns: 1.0,
                latency: None,
                operations: 1,
                aborts: 0,
                pinned: true,
                defect: None,
            };
            (0..9).map(sample).collect()
        };
        let alone = |operation, sharing| Task {
            sharing,
            ..Task::alone(Unlatched::NAME, operation)
        };
        let engine = SHARES.iter().flat_map(|(_, operation, sharing)| {
            let task = alone(*operation, *sharing);
            [(task, rounds(10.0)), (task.threads(2), rounds(10.0 * scaling))]
        });
        let machine = [(ceiling_task(1), rounds(7.0)), (ceiling_task(2), rounds(7.0 * ceiling))];
        let mut options = Options::new(Effort::TINY);
        options.threads = vec![1, 2];
        let mut context = Context::new(options);
        context.processors = 2;
        shares::<Unlatched>(&mut context, &Campaign::of(engine.chain(machine)));
        let lines = context.sheet.outcomes();
        let of_shares = |measure| SHARES.iter().any(|(name, ..)| *name == measure);
        lines
            .iter()
            .filter(|line| of_shares(line.entry.measure()))
            .map(|line| line.verdict)
            .collect()
    }

    // Goal: gets and transactions are held to the machine's ceiling and not to linear, and can fail. Method: made-up
    // rounds at, below and above that ceiling.
    #[test]
    fn shares_are_of_the_machines_own_ceiling() {
        assert_eq!(verdicts(1.95, 2.0), [Verdict::Pass; 3]);
        assert_eq!(verdicts(1.5, 1.5), [Verdict::Pass; 3]);
        assert_eq!(verdicts(1.8, 2.0), [Verdict::Fail; 3]);
        assert_eq!(verdicts(0.9, 1.5), [Verdict::Fail; 3]);
    }

    #[test]
    fn amdahl_gives_back_what_it_was_fitted_to_and_flattens() {
        assert!((amdahl(2, 1.6, 2) - 1.6).abs() < 1e-9);
        assert!((amdahl(2, 2.0, 16) - 16.0).abs() < 1e-9);
        assert!(
            (amdahl(2, 2.3, 4) - 4.0).abs() < 1e-9,
            "better than linear predicts linear"
        );
        // A quarter serial: 1 / (0.25 + 0.75 / 4).
        assert!((amdahl(2, 1.6, 4) - 1.0 / (0.25 + 0.75 / 4.0)).abs() < 1e-9);
        assert!(
            (amdahl(2, 0.5, 8) - 1.0).abs() < 1e-9,
            "slower together predicts no gain"
        );
    }
}
