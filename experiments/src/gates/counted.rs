//! Gate 2, the part that is counted: what the hot path asks of the allocator in steady state.
//!
//! Question: does any operation of the hot path obtain memory, or give any back, once it is warm, on one thread and
//! on two at once?
//! Method: the global allocator counts for each thread by itself. Each thread overwrites or reads a run of its own,
//! first some operations uncounted and then those that count; with two threads both are under way at once. An
//! operation's figure is the larger of what was obtained and what was given back, over the operations of all threads:
//! memory that only goes is no steady state either. The operations are counted in `PARTS` parts, each after a warm-up
//! of its own, and the median part counts. A part in which a thread waited for its processor is left out: a thread that
//! is stopped inside an operation holds back what the others retire, and they need memory meanwhile; without any
//! other part the figure is invalid. The hot path as a whole is all of [`PATH`] together, the facade's
//! get among them. Afterwards the store is compared with what the threads wrote, as after a timed slice.
//! Command: `experiments gates --only 2`.

#![forbid(unsafe_code)]

use crate::allocations::{self, Counts};
use crate::engines::{Engine, EngineError, Layer, Operation};
use crate::gates::Context;
use crate::gates::bed::{Bed, CountedRun, Task};
use crate::gates::campaign::DISTURBED;
use crate::gates::hot_path::too_few;
use crate::gates::sheet::Figure;
use crate::gates::table::K100;
use crate::harness::stats::Estimate;
use crate::workload::verify::Invalid;

/// The hot path: the operation, and how the measures about it are called.
pub const PATH: [(Operation, Option<&str>); 9] = [
    (Operation::FacadePut, Some("put")),
    (Operation::DeletePut, Some("delete_put")),
    (Operation::GetInto, Some("get_into")),
    (Operation::EngineGet, Some("get_with")),
    (Operation::Snapshot, Some("snapshot")),
    (Operation::CheckTwoPuts, Some("transaction")),
    (Operation::GetPut, Some("transaction_1r1w")),
    (Operation::TwoGetsTwoPuts, Some("transaction_2r2w")),
    // A value of any kind is returned, so that it has no line of its own; a number needs no memory.
    (Operation::FacadeGet, None),
];

/// Parts in which the operations are counted.
pub const PARTS: u64 = 10;

/// Operations of warm-up before a part, in parts: what a thread keeps at hand grows with what it once needed.
pub const WARM_UP: u64 = 5;

/// Share of its time that a thread waits for its processor at most, if its part is to count. A wait of some hundred
/// microseconds already holds back a thousand versions.
const LONGEST_WAIT: f64 = 0.0005;

/// Thread counts with lines about allocations.
const THREADS: [usize; 2] = [1, 2];

/// Why nothing is known about allocations.
pub const NOT_COUNTING: &str = "this program was built without the counting allocator";

/// Returns the name of a measure.
fn measure_name(what: &str, threads: usize) -> String {
    match threads {
        1 => format!("allocations_{what}_100k"),
        _ => format!("allocations_{what}_{threads}t_100k"),
    }
}

/// Counts the allocations of the hot path. Needs no clock, so that a debug build does it too.
///
/// # Errors
///
/// Returns what the engine refused while it was opened or loaded.
pub fn measure<S: Engine>(context: &mut Context) -> Result<(), EngineError> {
    for threads in THREADS {
        let names: Vec<String> = PATH
            .iter()
            .filter_map(|(_, what)| *what)
            .chain(["hot_path"])
            .map(|what| measure_name(what, threads))
            .collect();
        if !names.iter().any(|name| context.sheet.wants(name)) {
            continue;
        }
        let obstacle = if !allocations::is_counting() {
            Some(NOT_COUNTING.to_owned())
        } else if threads > context.processors {
            Some(too_few(threads, context.processors))
        } else {
            None
        };
        match obstacle {
            Some(reason) => names
                .iter()
                .for_each(|name| context.sheet.record(name, Figure::not_measurable(reason.clone()))),
            None => count_path::<S>(context, threads)?,
        }
    }
    Ok(())
}

fn count_path<S: Engine>(context: &mut Context, threads: usize) -> Result<(), EngineError> {
    let effort = context.options.effort;
    let operations = effort.counted_operations;
    context
        .options
        .progress
        .say(&format!("allocations, {threads} at once: counting"));
    let layers = [Layer::Engine, Layer::Facade];
    let keys = effort.keys_for(K100);
    let bed = Bed::<S>::new(keys, threads, &layers, effort, &context.clock, context.options.seed)?;
    let each = operations * threads as u64;
    let mut whole = Ok(Counts::default());
    for (operation, what) in PATH {
        let task = Task::alone(S::NAME, operation).threads(threads);
        let counts = if S::supports(operation) {
            median_part(operations, |part| bed.count_allocations(task, WARM_UP * part, part))
                .map_err(|reason| format!("{operation}: {reason}"))
        } else {
            Err(format!("{} has no {operation}", S::NAME))
        };
        if let Some(what) = what {
            context
                .sheet
                .record(&measure_name(what, threads), figure(counts.clone(), each / PARTS));
        }
        whole = whole.and_then(|sum| counts.map(|counts| sum.plus(counts)));
    }
    let all = each * PATH.len() as u64;
    context
        .sheet
        .record(&measure_name("hot_path", threads), figure(whole, all / PARTS));
    Ok(())
}

/// Counts all parts of so many operations, and returns the counts of the median one of those in which no thread waited. If threads
/// waited in all parts that asked for anything, the best part counts if it asks that often that no wait explains it.
pub fn median_part(
    operations: u64,
    count: impl Fn(u64) -> Result<CountedRun<Counts>, Invalid>,
) -> Result<Counts, String> {
    let calls = |counts: &Counts| counts.allocations.max(counts.deallocations);
    let part = operations / PARTS;
    let mut steady: Vec<Counts> = Vec::new();
    let mut waited: Vec<Counts> = Vec::new();
    for _ in 0..PARTS {
        let run = count(part).map_err(|reason| reason.to_string())?;
        let counts = run.reports.into_iter().fold(Counts::default(), Counts::plus);
        // A part in which nothing was asked for shows what it is to show, whoever waited.
        if run.processor_share >= 1.0 - LONGEST_WAIT || calls(&counts) == 0 {
            steady.push(counts);
        } else {
            waited.push(counts);
        }
    }
    if !steady.is_empty() {
        // A stop that the system knows nothing of, such as that of a virtual processor, is in few parts.
        steady.sort_by_key(calls);
        return Ok(steady[steady.len() / 2]);
    }
    match waited.into_iter().min_by_key(calls) {
        Some(best) if 2 * calls(&best) >= part => Ok(best),
        _ => Err(format!(
            "{DISTURBED}: a thread waited for its processor in each of {PARTS} parts"
        )),
    }
}

/// Returns the figure of what `operations` operations asked of the allocator.
pub fn figure(counts: Result<Counts, String>, operations: u64) -> Figure {
    match counts {
        Ok(counts) => {
            let calls = counts.allocations.max(counts.deallocations);
            let note = format!(
                "{} allocations and {} frees in {operations} operations",
                counts.allocations, counts.deallocations
            );
            Figure::measured(Estimate::exact(calls as f64 / operations as f64, 1)).noting(note)
        }
        Err(reason) => Figure::invalid(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::table::{ENTRIES, Entry};

    // Goal: no line about allocations is forgotten, and none is made up.
    #[test]
    fn every_line_about_allocations_is_counted() {
        let mut counted: Vec<String> = THREADS
            .iter()
            .flat_map(|threads| {
                let what = PATH.iter().filter_map(|(_, what)| *what).chain(["hot_path"]);
                what.map(|what| measure_name(what, *threads)).collect::<Vec<_>>()
            })
            .collect();
        let mut lines: Vec<&str> = ENTRIES
            .iter()
            .map(Entry::measure)
            .filter(|measure| measure.starts_with("allocations_"))
            .collect();
        counted.sort_unstable();
        lines.sort_unstable();
        assert_eq!(counted, lines);
    }

    // Goal: a thread that was stopped excuses what the others then ask for, and nothing else. Method: parts made up.
    #[test]
    fn waiting_excuses_single_parts_and_no_habit() {
        let judged = |parts: &[(f64, u64)]| {
            let next = std::cell::Cell::new(0);
            let count = |_| {
                let (processor_share, allocations) = parts[next.replace(next.get() + 1) % parts.len()];
                let counts = Counts {
                    allocations,
                    ..Counts::default()
                };
                let reports = vec![counts];
                Ok(CountedRun {
                    reports,
                    processor_share,
                })
            };
            median_part(1_000, count).map(|counts| counts.allocations)
        };
        assert_eq!(judged(&[(1.0, 0)]), Ok(0));
        assert_eq!(judged(&[(0.9, 70), (1.0, 0)]), Ok(0));
        assert_eq!(
            judged(&[(1.0, 3), (0.9, 70), (1.0, 0)]),
            Ok(3),
            "the median of those that count"
        );
        assert_eq!(judged(&[(0.2, 0)]), Ok(0));
        assert!(judged(&[(0.9, 1)]).is_err());
        assert_eq!(
            judged(&[(0.9, 99), (0.9, 100)]),
            Ok(99),
            "once per operation, whatever happens"
        );
    }

    // Goal: neither half of the count can hide behind the other.
    #[test]
    fn what_is_only_freed_counts_as_well() {
        let value = |allocations, deallocations| {
            let counts = Counts {
                allocations,
                deallocations,
                ..Counts::default()
            };
            figure(Ok(counts), 1_000).result.map(|estimate| estimate.median)
        };
        assert_eq!(value(0, 0), Ok(0.0));
        assert_eq!(value(1, 0), Ok(0.001));
        assert_eq!(value(0, 1), Ok(0.001));
        assert_eq!(value(500, 2_000), Ok(2.0));
        assert!(figure(Err("lost update".to_owned()), 1).result.is_err());
    }
}
