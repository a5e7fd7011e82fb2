//! From the samples of a comparison to its part of an answer: a row per sample, medians, ratios, aborts, faults.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Display;

use super::answer::{Measured, Ratio, Row};
use super::contenders::Operation;
use super::targets::Fault;
use super::{Options, Task};
use crate::gates::bed::Defect;
use crate::gates::campaign::{Campaign, Metric};
use crate::gates::sheet::Figure;
use crate::report::markdown::Section;
use crate::report::units;

/// The samples of a question's comparisons.
pub type Samples = Campaign<Task>;

/// What tells the sides of a comparison apart, as results say it.
pub trait Described: Copy + Ord + Display {
    /// The side.
    fn engine(&self) -> &'static str;

    /// What it does, with every setting that has no column of its own.
    fn operation(&self) -> String;

    /// Keys in the store.
    fn keys(&self) -> usize;

    /// Threads.
    fn threads(&self) -> usize;

    /// The same of another side.
    #[must_use]
    fn of(self, engine: &'static str) -> Self;

    /// Whether attempts can be aborted.
    fn can_abort(&self) -> bool {
        false
    }
}

impl Described for Task {
    fn engine(&self) -> &'static str {
        self.engine
    }

    fn operation(&self) -> String {
        self.operation.name().to_owned()
    }

    fn keys(&self) -> usize {
        self.keys
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn of(self, engine: &'static str) -> Self {
        Self { engine, ..self }
    }

    fn can_abort(&self) -> bool {
        matches!(self.operation, Operation::ReadWrite | Operation::Contended)
    }
}

/// Every sample, side by side and round by round.
#[must_use]
pub fn rows<T: Described>(samples: &Campaign<T>) -> Vec<Row> {
    let of_side = |task: &T| {
        let task = *task;
        samples.samples(task).iter().enumerate().map(move |(round, sample)| {
            let defect = match &sample.defect {
                None => String::new(),
                Some(Defect::Wrong(reason)) => format!("wrong: {reason}"),
                Some(Defect::Starved(reason)) => format!("starved: {reason}"),
                Some(Defect::Disturbed(reason)) => format!("disturbed: {reason}"),
            };
            Row {
                engine: task.engine().to_owned(),
                operation: task.operation(),
                keys: task.keys(),
                threads: task.threads(),
                round,
                ops_per_second: sample.rate.is_finite().then_some(sample.rate),
                operations: sample.operations,
                aborts: sample.aborts,
                pinned: sample.pinned,
                defect,
            }
        })
    };
    samples.tasks().flat_map(of_side).collect()
}

/// The median of every side, or why it has none.
#[must_use]
pub fn medians<T: Described>(samples: &Campaign<T>) -> Vec<Measured> {
    let of_side = |task: &T| {
        let estimate = samples.estimate(*task, Metric::Rate);
        Measured {
            engine: task.engine().to_owned(),
            operation: task.operation(),
            keys: task.keys(),
            threads: task.threads(),
            ops_per_second: estimate.as_ref().ok().map(|estimate| estimate.median),
            ci95: estimate.as_ref().ok().map(|estimate| [estimate.low, estimate.high]),
            aborts_per_operation: aborts(samples, *task),
            reason: estimate.err().unwrap_or_default(),
        }
    };
    samples.tasks().map(of_side).collect()
}

/// Aborts per commit of all rounds together; `None` for what is no transaction.
fn aborts<T: Described>(samples: &Campaign<T>, task: T) -> Option<f64> {
    if !task.can_abort() {
        return None;
    }
    let sides = samples.samples(task);
    let committed: u64 = sides.iter().map(|sample| sample.operations).sum();
    let aborted: u64 = sides.iter().map(|sample| sample.aborts).sum();
    (committed > 0).then(|| aborted as f64 / committed as f64)
}

/// The rate of `base` over that of every other side, formed within each round.
#[must_use]
pub fn ratios<T: Described>(samples: &Campaign<T>, base: &'static str) -> Vec<Ratio> {
    let of_side = |task: &T| {
        let ours = task.of(base);
        if task.engine() == base || !samples.tasks().any(|known| *known == ours) {
            return None;
        }
        let estimate = samples.ratio(ours, *task, Metric::Rate);
        Some(Ratio {
            engine: base.to_owned(),
            over: task.engine().to_owned(),
            operation: task.operation(),
            keys: task.keys(),
            threads: task.threads(),
            ratio: estimate.as_ref().ok().map(|estimate| estimate.median),
            ci95: estimate.as_ref().ok().map(|estimate| [estimate.low, estimate.high]),
            reason: estimate.err().unwrap_or_default(),
        })
    };
    samples.tasks().filter_map(of_side).collect()
}

/// Every side that did something wrong, with the first thing it did; `theirs` are the sides that are not this engine.
#[must_use]
pub fn faults<T: Described>(samples: &Campaign<T>, theirs: &[&str]) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for task in samples.tasks() {
        let wrong = samples.samples(*task).iter().find_map(|sample| match &sample.defect {
            Some(Defect::Wrong(reason)) => Some(reason),
            _ => None,
        });
        if let Some(reason) = wrong {
            faults.push(Fault {
                engine: task.engine().to_owned(),
                reason: format!("{task} on {} keys: {reason}", task.keys()),
                ours: !theirs.contains(&task.engine()),
            });
        }
    }
    faults
}

/// A ratio of two tasks as a figure, or why there is none.
#[must_use]
pub fn ratio_figure(samples: &Samples, options: &Options, above: Task, below: Task) -> Figure {
    for task in [above, below] {
        if let Some(reason) = options.unmeasured(task.threads) {
            return Figure::not_measurable(reason);
        }
        if !samples.tasks().any(|known| *known == task) {
            return Figure::not_measurable(format!("{} was not run", task.engine));
        }
    }
    samples.ratio_figure(above, below, Metric::Rate)
}

/// A table per store size that has anything to show: a side a row, an operation by so many threads a column. `cell` gives the text.
#[must_use]
pub fn tables(
    samples: &Samples,
    sides: &[&'static str],
    title: &str,
    text: &str,
    cell: impl Fn(Task) -> Option<String>,
) -> Vec<Section> {
    let sizes: BTreeSet<usize> = samples.tasks().map(|task| task.keys).collect();
    sizes
        .into_iter()
        .map(|keys| {
            let columns: BTreeSet<(Operation, usize)> = samples
                .tasks()
                .filter(|task| task.keys == keys)
                .map(|task| (task.operation, task.threads))
                .filter(|column| sides.iter().any(|side| cell(at(keys, *column, side)).is_some()))
                .collect();
            let rows = sides.iter().filter_map(|side| {
                let cells: Vec<Option<String>> = columns.iter().map(|column| cell(at(keys, *column, side))).collect();
                cells.iter().any(Option::is_some).then(|| {
                    let cells = cells.into_iter().map(Option::unwrap_or_default);
                    std::iter::once((*side).to_owned()).chain(cells).collect()
                })
            });
            let heads = columns
                .iter()
                .map(|(operation, threads)| format!("{operation} {threads}t"));
            Section {
                title: format!("{title}, {} keys", units::keys(keys as u64)),
                text: text.to_owned(),
                rows: rows.collect(),
                header: std::iter::once("side".to_owned()).chain(heads).collect(),
            }
        })
        .filter(|section| !section.rows.is_empty())
        .collect()
}

fn at(keys: usize, (operation, threads): (Operation, usize), engine: &'static str) -> Task {
    Task {
        keys,
        operation,
        threads,
        engine,
    }
}

/// The medians in millions of operations per second.
#[must_use]
pub fn median_tables(samples: &Samples, sides: &[&'static str]) -> Vec<Section> {
    let text = "Millions of operations per second, all threads together; the median of the rounds.";
    tables(samples, sides, "Medians", text, |task| {
        samples.tasks().any(|known| *known == task).then(|| {
            let estimate = samples.estimate(task, Metric::Rate);
            estimate.map_or_else(|_| "invalid".to_owned(), |estimate| millions(estimate.median))
        })
    })
}

/// Formats a rate in millions per second, with three digits that count.
fn millions(rate: f64) -> String {
    let millions = rate / 1e6;
    if millions < 0.1 {
        format!("{millions:.4}")
    } else {
        units::digits(millions)
    }
}

/// How many times faster `base` is than each other side.
#[must_use]
pub fn ratio_tables(samples: &Samples, sides: &[&'static str], base: &'static str) -> Vec<Section> {
    let text = format!(
        "How many times the rate of each side `{base}` reaches: the median of the ratios of single rounds, and its \
         95 % interval."
    );
    tables(samples, sides, &format!("`{base}` over each side"), &text, |task| {
        let ours = Task { engine: base, ..task };
        let known = |task: Task| samples.tasks().any(|known| *known == task);
        (task.engine != base && known(task) && known(ours)).then(|| match samples.ratio(ours, task, Metric::Rate) {
            Ok(ratio) => format!(
                "{}x [{}, {}]",
                units::digits(ratio.median),
                units::digits(ratio.low),
                units::digits(ratio.high)
            ),
            Err(_) => "invalid".to_owned(),
        })
    })
}

/// Aborts per commit of every side with transactions.
#[must_use]
pub fn abort_tables(samples: &Samples, sides: &[&'static str]) -> Vec<Section> {
    let text = "Aborted attempts per committed transaction, all rounds together; each was tried until it committed.";
    tables(samples, sides, "Aborts", text, |task| {
        aborts(samples, task).map(|aborts| format!("{aborts:.3}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::bed::Sample;
    use crate::harness::rounds::{Round, Side};
    use crate::harness::stats::Verdict;
    use crate::report::progress::Progress;

    const ROUNDS: usize = 7;

    fn task(engine: &'static str, operation: Operation) -> Task {
        at(100, (operation, 1), engine)
    }

    /// Samples of made-up rates; `defect` is that of the second round.
    fn samples(sides: &[(Task, f64, Option<Defect>)]) -> Samples {
        let mut samples = Samples::new(1);
        let turns = sides.iter().map(|(task, rate, defect)| {
            let measure = move |round: Round| Sample {
                rate: *rate,
                mean_ns: 1e9 / rate,
                latency: None,
                operations: 10,
                aborts: 5,
                pinned: true,
                defect: (round.index == 1).then(|| defect.clone()).flatten(),
            };
            (*task, Side::new(task.to_string(), measure))
        });
        samples.run("made up", ROUNDS, turns.collect(), &Progress::Silent);
        samples
    }

    // Goal: only what a side did itself accuses it. Method: one defect of each kind, in one round of seven.
    #[test]
    fn wrong_sides_are_accused_and_starved_or_disturbed_ones_are_not() {
        let reason = || "why".to_owned();
        let samples = samples(&[
            (task("a", Operation::Get), 2e6, Some(Defect::Wrong(reason()))),
            (task("b", Operation::Get), 1e6, Some(Defect::Starved(reason()))),
            (task("c", Operation::Get), 1e6, Some(Defect::Disturbed(reason()))),
        ]);
        let accused = faults(&samples, &["b"]);
        assert_eq!(accused.len(), 1);
        assert_eq!((accused[0].engine.as_str(), accused[0].ours), ("a", true));
        let has_median: Vec<bool> = medians(&samples)
            .iter()
            .map(|side| side.ops_per_second.is_some())
            .collect();
        assert_eq!(has_median, [false, false, true]);
        assert_eq!(rows(&samples).len(), 3 * ROUNDS);
        assert_eq!(rows(&samples)[1].defect, "wrong: why");
    }

    #[test]
    fn ratios_are_the_base_over_each_other_side() {
        let samples = samples(&[
            (task("a", Operation::Contended), 6e6, None),
            (task("b", Operation::Contended), 2e6, None),
        ]);
        let ratios = ratios(&samples, "a");
        assert_eq!(ratios.len(), 1);
        assert_eq!((ratios[0].over.as_str(), ratios[0].ratio), ("b", Some(3.0)));
        assert_eq!(aborts(&samples, task("a", Operation::Contended)), Some(0.5));
        assert!(
            ratio_tables(&samples, &["a", "b"], "c").is_empty(),
            "a table without a row is none"
        );
    }

    #[test]
    fn side_or_thread_count_that_was_left_out_is_not_measurable() {
        let samples = samples(&[(task("a", Operation::Get), 1e6, None)]);
        let options = Options {
            effort: crate::questions::Effort::TINY,
            keys: vec![100],
            threads: vec![1, 64],
            only: Vec::new(),
            dir: None,
            seed: 1,
            processors: 2,
            progress: Progress::Silent,
        };
        let verdict = |above, below| {
            ratio_figure(&samples, &options, above, below)
                .result
                .err()
                .map(|why| why.verdict)
        };
        let ours = task("a", Operation::Get);
        assert_eq!(verdict(ours, task("b", Operation::Get)), Some(Verdict::NotMeasurable));
        for threads in [2, 64] {
            let many = Task { threads, ..ours };
            assert_eq!(verdict(many, many), Some(Verdict::NotMeasurable), "{threads} threads");
        }
        assert_eq!(verdict(ours, ours), None);
    }
}
