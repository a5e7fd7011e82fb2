//! **Question.** What do a get, a put, an insert, an ordered scan and a transaction cost here, beside the indexes and
//! engines that others publish, and do two threads help?
//!
//! **Hypothesis.** A version chain costs one dependent load more than a bare value, so an index that is made for it can
//! be several times faster than a library's skiplist with nothing in it; a put that is a whole commit stays ahead of
//! engines that wrap one in a transaction; and where two threads write, no lock around a fast tree keeps up.
//!
//! **Method.** All sides ([`contenders`](super::contenders)) hold the same 24-byte keys with 8-byte values, and run in
//! turn, A B C A B C, one slice of every operation per round; ratios are formed within a round, and a figure is the
//! median of the rounds with a 95 % bootstrap interval. All sides of a round walk the same keys in the same order.
//! Threads are pinned, and processors that they leave free are kept busy by private loops.
//!
//! | operation | what is timed |
//! |---|---|
//! | `get` | a random key, read where it lies or into the caller's buffer |
//! | `overwrite` | a random key of the thread's own; a whole commit where there is such a thing |
//! | `insert` | all keys in random order into an empty store, timed as a whole; a fresh store per round |
//! | `scan` | 100 records in order from a random key, of one moment where there is such a thing |
//! | `read-write` | one transaction that reads one random key and writes another |
//! | `contended` | one transaction that reads and increments a key of 100, all threads on the same ones, until committed |
//! | `hot-get` | one key, read by all threads |
//!
//! After each slice the store is compared with what its threads say they wrote, what gets and scans returned with what
//! is stored, and counters with the number of commits. A side that is wrong once has no figures.
//!
//! **Threats to validity.**
//! - The sides do not promise the same. Versions, snapshots, transactions, order, durability: each does what its file
//!   says, and a bare index that keeps no versions is a floor and not a rival.
//! - Values of 8 bytes flatter whoever keeps them inline. Keys are uniform: no side profits from a cache of hot ones,
//!   except on `hot-get`.
//! - surrealmx has threads of its own for garbage, which run beside one-thread slices; LMDB is built to survive a
//!   crash and here neither syncs nor touches a disk; the rest is built for memory.
//! - Two processors say little about sixteen.
//! - All run on the same allocator, which LMDB and bf-tree hardly use.
//!
//! **Command.** `cargo run --release -p experiments --features peers -- question index`; without the feature the four
//! published engines are left out, and what is compared with them is `not measurable`.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::answer::Answer;
use super::bed::{AnyBed, Bed, Ground};
use super::combinations::{self, Combination, Visitor};
use super::comparison::{
    Samples, abort_tables, faults, median_tables, medians, ratio_figure, ratio_tables, ratios, rows,
};
use super::contenders::combined::Combined;
use super::contenders::{Contender, Operation, crossbeam, hashed, locked, unlatched};
use super::targets::{Kind, Outcome, Target};
use super::{Effort, Options, Task};
use crate::engines::EngineError;
use crate::gates::bed::Sample;
use crate::gates::campaign::{Metric, figure};
use crate::gates::sheet::Figure;
use crate::harness::ceiling::ceiling;
use crate::harness::environment::Environment;
use crate::harness::rounds::{Round, Side};
use crate::harness::stats::{Direction, paired_ratio};
use crate::report::units;

/// The engine that everything is compared with.
const OURS: &str = unlatched::Unlatched::NAME;

/// Threads that share nothing.
const CEILING: &str = "machine-ceiling";

/// Sides that need the feature `peers`.
pub const PEERS: [&str; 4] = ["surrealmx", "scc", "bf-tree", "heed"];

/// What one operation is to reach against another side, by the same number of threads.
struct Line {
    operation: Operation,
    threads: usize,
    over: &'static str,
    threshold: f64,
}

const fn line(operation: Operation, threads: usize, over: &'static str, threshold: f64) -> Line {
    Line {
        operation,
        threads,
        over,
        threshold,
    }
}

/// Every target, but for the hot key's.
const TARGETS: [Line; 16] = [
    line(Operation::Get, 1, "crossbeam", 5.0),
    line(Operation::Get, 1, "surrealmx", 3.0),
    line(Operation::Get, 1, "scc", 3.0),
    line(Operation::Get, 1, "dashmap", 0.5),
    // Against the list as a whole: both ways of overwriting it are held to the same number.
    line(Operation::Overwrite, 1, "crossbeam", 4.0),
    line(Operation::Overwrite, 1, "crossbeam-insert", 4.0),
    line(Operation::Overwrite, 1, "surrealmx", 5.0),
    line(Operation::Overwrite, 1, "m3", 1.5),
    line(Operation::Overwrite, 2, "m3", 3.0),
    line(Operation::Insert, 1, "crossbeam", 1.5),
    line(Operation::Scan, 1, "crossbeam", 3.0),
    line(Operation::ReadWrite, 1, "surrealmx", 3.0),
    line(Operation::ReadWrite, 1, "heed", 1.5),
    line(Operation::ReadWrite, 2, "surrealmx", 5.0),
    line(Operation::ReadWrite, 2, "heed", 5.0),
    line(Operation::Contended, 2, "surrealmx", 3.0),
];

/// Threads that read the hot key for its target.
const HOT_THREADS: usize = 2;

/// What two threads on one key are to reach over one thread, or else as a share of the machine's ceiling.
const HOT_SCALING: f64 = 1.9;
const HOT_SHARE: f64 = 0.95;

/// How one side is opened and loaded.
struct Entrant {
    name: &'static str,
    open: Open,
}

type Open = fn(&Arc<Ground>, Effort) -> Result<Box<dyn AnyBed>, EngineError>;

fn entrant<C: Contender + 'static>() -> Entrant {
    Entrant {
        name: C::NAME,
        open: |ground, effort| Ok(Box::new(Bed::<C>::new(ground, effort)?)),
    }
}

/// Every side of this build, in the order of tables.
fn entrants() -> Vec<Entrant> {
    struct Collect(Vec<Entrant>);
    impl Visitor for Collect {
        type Error = std::convert::Infallible;

        fn visit<C: Combination>(&mut self) -> Result<(), Self::Error> {
            self.0.push(entrant::<Combined<C>>());
            Ok(())
        }
    }
    let mut all = vec![entrant::<unlatched::Unlatched>()];
    let mut combined = Collect(Vec::new());
    let Ok(()) = combinations::tour(&mut combined);
    all.append(&mut combined.0);
    all.extend([
        entrant::<crossbeam::InPlace>(),
        entrant::<crossbeam::ByInsert>(),
        entrant::<locked::M3>(),
        entrant::<locked::TreeUnderLock>(),
        entrant::<hashed::Hashed>(),
    ]);
    #[cfg(feature = "peers")]
    all.extend([
        entrant::<super::contenders::surrealmx::SurrealMx>(),
        entrant::<super::contenders::scc::Tree>(),
        entrant::<super::contenders::bf_tree::BfTreeSide>(),
        entrant::<super::contenders::heed::Lmdb>(),
    ]);
    all
}

/// The names of every side of this build.
#[must_use]
pub fn sides() -> Vec<&'static str> {
    entrants().into_iter().map(|entrant| entrant.name).collect()
}

/// Measures.
///
/// # Errors
///
/// Returns what a side refused while it was opened or loaded. What goes wrong later is a fault of that side.
pub fn answer(options: &Options) -> Result<Answer, EngineError> {
    let mut environment = Environment::capture(None);
    let mut samples = Samples::new(options.seed);
    for keys in &options.keys {
        compare(*keys, options, &mut samples)?;
    }
    let (all, pinned) = samples.pinned();
    environment.pinning = Some(format!(
        "{pinned} of {all} slices had every thread on its own processor"
    ));
    let shown: Vec<&'static str> = sides().into_iter().filter(|side| options.wants(side)).collect();
    let with_ceiling: Vec<&'static str> = shown.iter().copied().chain([CEILING]).collect();
    let mut sections = median_tables(&samples, &with_ceiling);
    sections.extend(ratio_tables(&samples, &shown, OURS));
    sections.extend(abort_tables(&samples, &shown));
    Ok(Answer {
        outcomes: outcomes(options, &samples),
        faults: faults(&samples, &theirs()),
        samples: rows(&samples),
        medians: medians(&samples),
        ratios: ratios(&samples, OURS),
        sections,
        files: Vec::new(),
        environment,
        remarks: remarks(),
    })
}

/// The sides that are neither this engine nor a part of it.
fn theirs() -> Vec<&'static str> {
    let ours = |side: &&'static str| *side == OURS || combinations::NAMES.contains(side);
    sides()
        .into_iter()
        .filter(|side| !ours(side))
        .chain([CEILING])
        .collect()
}

fn remarks() -> Vec<String> {
    let mut remarks = vec![
        "`crossbeam` overwrites by storing into the node that it finds, `crossbeam-insert` as the library's map does, \
         by a new node."
            .to_owned(),
        "A combination's name is its index, collector and clock; it is the versioned store alone, with keys encoded \
         beforehand, and has no scan outside of the database."
            .to_owned(),
    ];
    if !cfg!(feature = "peers") {
        remarks.push(format!(
            "{} were not built: add `--features peers` to compare with them.",
            PEERS.join(", ")
        ));
    }
    remarks
}

/// Loads every side with so many keys and runs all operations, interleaved.
fn compare(keys: usize, options: &Options, samples: &mut Samples) -> Result<(), EngineError> {
    let title = format!("index, {} keys", units::keys(keys as u64));
    options.progress.say(&format!("{title}: loading"));
    let ground = Arc::new(Ground::new(keys, options.seed));
    let beds = entrants()
        .into_iter()
        .filter(|entrant| options.wants(entrant.name))
        .map(|entrant| (entrant.open)(&ground, options.effort))
        .collect::<Result<Vec<_>, _>>()?;
    let mut turns: Vec<(Task, Side<'_, Sample>)> = Vec::new();
    for operation in Operation::ALL {
        for threads in options.measured_threads() {
            if operation == Operation::Contended && threads == 1 {
                continue;
            }
            for bed in &beds {
                if bed.can(operation) {
                    turns.push(turn(bed.as_ref(), operation, keys, threads));
                }
            }
            if operation == Operation::HotGet {
                turns.push(ceiling_turn(options.effort, keys, threads));
            }
        }
    }
    samples.run(&title, options.effort.rounds, turns, &options.progress);
    Ok(())
}

fn turn(bed: &dyn AnyBed, operation: Operation, keys: usize, threads: usize) -> (Task, Side<'_, Sample>) {
    let task = Task {
        keys,
        operation,
        threads,
        engine: bed.name(),
    };
    (task, Side::new(task.to_string(), move |round| bed.slice(task, round)))
}

/// Threads that overwrite a number of their own each: what the machine lets threads gain that meet nobody.
fn ceiling_turn<'a>(effort: Effort, keys: usize, threads: usize) -> (Task, Side<'a, Sample>) {
    let task = ceiling_task(keys, threads);
    let count = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    let measure = move |round: Round| Sample::of(&ceiling(&effort.plan(round, 1), count, 1, round.seed));
    (task, Side::new(task.to_string(), measure))
}

fn ceiling_task(keys: usize, threads: usize) -> Task {
    Task {
        keys,
        operation: Operation::HotGet,
        threads,
        engine: CEILING,
    }
}

fn outcomes(options: &Options, samples: &Samples) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for keys in &options.keys {
        for line in &TARGETS {
            outcomes.push(against(options, samples, *keys, line));
        }
        outcomes.push(hot_key(options, samples, *keys));
    }
    outcomes
}

fn against(options: &Options, samples: &Samples, keys: usize, line: &Line) -> Outcome {
    let task = |engine| Task {
        keys,
        operation: line.operation,
        threads: line.threads,
        engine,
    };
    let target = Target {
        id: format!("{}_to_{}_{}t_{keys}", line.operation, line.over, line.threads).replace('-', "_"),
        kind: Kind::Aim,
        name: format!("{} over {} by {}", line.operation, line.over, by(line.threads)),
        keys,
        threads: line.threads,
        unit: "ratio",
        direction: Direction::AtLeast,
        threshold: line.threshold,
    };
    let figure = if !cfg!(feature = "peers") && PEERS.contains(&line.over) {
        Figure::not_measurable(format!("{} is not built; add --features peers", line.over))
    } else {
        ratio_figure(samples, options, task(OURS), task(line.over))
    };
    target.judge(figure)
}

fn by(threads: usize) -> String {
    if threads == 1 {
        "1 thread".to_owned()
    } else {
        format!("{threads} threads")
    }
}

fn hot_key(options: &Options, samples: &Samples, keys: usize) -> Outcome {
    let task = |engine, threads| Task {
        keys,
        operation: Operation::HotGet,
        threads,
        engine,
    };
    let target = |id: &str, name: &str, threshold| Target {
        id: format!("{id}_{HOT_THREADS}t_{keys}"),
        kind: Kind::Aim,
        name: name.to_owned(),
        keys,
        threads: HOT_THREADS,
        unit: "ratio",
        direction: Direction::AtLeast,
        threshold,
    };
    let (two, one) = (task(OURS, HOT_THREADS), task(OURS, 1));
    let scaling = ratio_figure(samples, options, two, one);
    let measurable = scaling.result.is_ok();
    let outcome = target("hot_get_scaling", "hot key read by 2 threads over 1", HOT_SCALING).judge(scaling);
    if !measurable {
        return outcome;
    }
    let share = || {
        let scaling = samples.ratios(two, one, Metric::Rate)?;
        let ceiling = samples.ratios(ceiling_task(keys, HOT_THREADS), ceiling_task(keys, 1), Metric::Rate)?;
        paired_ratio(&scaling, &ceiling, samples.seed()).ok_or_else(|| "no rounds were made".to_owned())
    };
    outcome.or(target("hot_get_share", "or the share of the machine's ceiling", HOT_SHARE).judge(figure(share())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_names_a_side_that_can_do_it() {
        let known: Vec<&str> = sides().into_iter().chain(PEERS).collect();
        for line in &TARGETS {
            assert!(known.contains(&line.over), "{}", line.over);
            assert!(line.threshold > 0.0);
        }
        for (number, name) in sides().iter().enumerate() {
            assert!(!sides()[..number].contains(name), "{name} is there twice");
            assert!(!name.contains([' ', ',']), "{name} can't be given to --only");
        }
        assert_eq!(
            sides().iter().filter(|side| PEERS.contains(side)).count(),
            if cfg!(feature = "peers") { 4 } else { 0 }
        );
    }
}
