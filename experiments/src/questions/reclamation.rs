//! **Question.** What does each collector cost an overwriting put, and what does a thread that stalls while it is
//! pinned hold back?
//!
//! **Hypothesis.** Collectors differ by a few percent of a put, since a put's time is spent on the search; and they
//! differ in kind under a stall: with epochs one stalled thread holds back everything that is retired while it stalls,
//! and what it held back goes again soon after it has left.
//!
//! **Method.** (a) All combinations overwrite random keys by one thread and by two, in turn and round by round, as in
//! [`index`](super::index). (b) For each combination writers overwrite without a pause through three stages: before;
//! as long again, while a thread stands still inside the closure that it gave to a get, so that it stays pinned; and
//! after it has gone on, for as many overwrites as were made while it stood still. A thread that does nothing else looks
//! at the store every few milliseconds.
//!
//! The claim is that garbage drains: at some look after the stall no more than a tenth is pending of what was at the
//! worst, by the writers' own doing and within as many overwrites as piled it up. Where the stall held back less than ten times what is pending anyway, nothing can
//! be told. How much a stall holds back is shown and not judged: no collector here promises a bound.
//!
//! **Threats to validity.**
//! - What is pending is what the collector says; bytes beside it are the allocator's count for the whole process.
//! - A stall of some seconds is short for a machine and long for a put; garbage grows with its length.
//! - After the stall the writers go on. An idle store would keep its garbage until somebody writes or sweeps.
//! - The index retires nodes to a collector of the library's own kind, which is not counted here; overwriting retires
//!   none.
//!
//! **Command.** `cargo run --release -p experiments -- question reclamation`
#![forbid(unsafe_code)]

use std::sync::{Arc, mpsc};

use super::answer::Answer;
use super::bed::{AnyBed, Bed, Ground};
use super::combinations::{self, Combination, Visitor};
use super::comparison::{Samples, faults, median_tables, medians, ratio_tables, ratios, rows};
use super::contenders::Operation;
use super::contenders::combined::Combined;
use super::targets::{Fault, Kind, Outcome, Target};
use super::timeline::{Director, Look, Scene, Timeline, plot, series};
use super::{Effort, Options, Task};
use crate::engines::EngineError;
use crate::gates::bed::Sample;
use crate::gates::sheet::Figure;
use crate::harness::environment::Environment;
use crate::harness::rounds::Side;
use crate::harness::stats::{Direction, Estimate};
use crate::report::markdown::Section;
use crate::report::units;

/// The stages, in their order.
const BEFORE: &str = "before";
const STALLED: &str = "stalled";
const AFTER: &str = "after";

/// Share of the worst garbage that may still be pending after the stall.
const DRAINED_SHARE: f64 = 0.1;

/// How many times the usual garbage a stall must hold back, so that draining can be told from the usual.
const TELLING: u64 = 10;

/// How many times the length of the other stages the last one may take to make its overwrites; a machine that is so busy
/// that they do not suffice decides nothing.
const PATIENCE: u32 = 20;

/// The key that the stalled thread reads.
const STALL_KEY: usize = 0;

/// The sides that can be chosen.
#[must_use]
pub fn sides() -> Vec<&'static str> {
    combinations::NAMES.to_vec()
}

/// Measures.
///
/// # Errors
///
/// Returns what a side refused while it was opened or loaded.
pub fn answer(options: &Options) -> Result<Answer, EngineError> {
    let mut environment = Environment::capture(None);
    let mut samples = Samples::new(options.seed);
    for keys in &options.keys {
        throughput(*keys, options, &mut samples)?;
    }
    let (all, pinned) = samples.pinned();
    environment.pinning = Some(format!(
        "{pinned} of {all} slices had every thread on its own processor"
    ));
    let mut tour = Stalls {
        options,
        timelines: Vec::new(),
        faults: faults(&samples, &[]),
    };
    let Ok(()) = combinations::tour(&mut tour);
    let Stalls { timelines, faults, .. } = tour;
    let mut outcomes: Vec<Outcome> = timelines.iter().map(drains).collect();
    outcomes.extend(not_measured(options));
    let shown: Vec<&'static str> = sides().into_iter().filter(|side| options.wants(side)).collect();
    let mut sections = median_tables(&samples, &shown);
    let base = shown.first().copied().unwrap_or_default();
    sections.extend(ratio_tables(&samples, &shown, base));
    sections.push(stall_section(&timelines));
    Ok(Answer {
        outcomes,
        faults,
        samples: rows(&samples),
        medians: medians(&samples),
        ratios: ratios(&samples, base),
        sections,
        files: files(options, &timelines),
        environment,
        remarks: vec!["Every look is in reclamation-timeline.csv.".to_owned()],
    })
}

fn files(options: &Options, timelines: &[Timeline]) -> Vec<(String, String)> {
    let mut files = vec![("reclamation-timeline.csv".to_owned(), series(timelines))];
    for keys in &options.keys {
        let of = units::keys(*keys as u64);
        let title = format!("Garbage while a pinned thread stalls, {of} keys");
        let picture = plot(timelines, *keys, &title, "pending versions", |look| {
            look.pending_versions as f64
        });
        files.push((format!("reclamation-pending-{keys}.svg"), picture));
        let title = format!("Memory held by the process while a pinned thread stalls, {of} keys");
        let held = |look: &Look| look.live_bytes.or(look.resident_bytes).unwrap_or(0) as f64 / f64::from(1 << 20);
        files.push((
            format!("reclamation-held-{keys}.svg"),
            plot(timelines, *keys, &title, "MiB", held),
        ));
    }
    files
}

/// Runs part (a) for one store size.
fn throughput(keys: usize, options: &Options, samples: &mut Samples) -> Result<(), EngineError> {
    struct Beds<'a> {
        options: &'a Options,
        ground: Arc<Ground>,
        beds: Vec<Box<dyn AnyBed>>,
    }
    impl Visitor for Beds<'_> {
        type Error = EngineError;

        fn visit<C: Combination>(&mut self) -> Result<(), EngineError> {
            if self.options.wants(C::NAME) {
                let bed = Bed::<Combined<C>>::new(&self.ground, self.options.effort)?;
                self.beds.push(Box::new(bed));
            }
            Ok(())
        }
    }
    let mut tour = Beds {
        options,
        ground: Arc::new(Ground::new(keys, options.seed)),
        beds: Vec::new(),
    };
    combinations::tour(&mut tour)?;
    let mut turns: Vec<(Task, Side<'_, Sample>)> = Vec::new();
    for threads in options.measured_threads() {
        for bed in &tour.beds {
            let task = Task {
                keys,
                operation: Operation::Overwrite,
                threads,
                engine: bed.name(),
            };
            turns.push((task, Side::new(task.to_string(), move |round| bed.slice(task, round))));
        }
    }
    let title = format!("reclamation, {} keys", units::keys(keys as u64));
    samples.run(&title, options.effort.rounds, turns, &options.progress);
    Ok(())
}

/// Part (b), one combination after the other.
struct Stalls<'a> {
    options: &'a Options,
    timelines: Vec<Timeline>,
    faults: Vec<Fault>,
}

impl Visitor for Stalls<'_> {
    type Error = std::convert::Infallible;

    fn visit<C: Combination>(&mut self) -> Result<(), Self::Error> {
        if !self.options.wants(C::NAME) {
            return Ok(());
        }
        let runs = self.options.keys.len() * self.options.measured_threads().len();
        let bar = self.options.progress.stage(&format!("stall, {}", C::NAME), runs);
        for keys in &self.options.keys {
            let ground = Ground::new(*keys, self.options.seed);
            for threads in self.options.measured_threads() {
                bar.step(&format!("{keys} keys, {threads} writers"));
                let scene = Scene::<C>::new(&ground, threads);
                let effort = self.options.effort;
                match scene.play(None, self.options.seed, |director| stall(director, effort)) {
                    Ok(timeline) => self.timelines.push(timeline),
                    Err(reason) => self.faults.push(Fault {
                        engine: C::NAME.to_owned(),
                        reason: format!("stall, {keys} keys, {threads} writers: {reason}"),
                        ours: true,
                    }),
                }
            }
        }
        bar.finish();
        Ok(())
    }
}

/// Lets a thread stand still while it is pinned, for one stage of three.
fn stall<C: Combination>(director: &mut Director<'_, C>, effort: Effort) {
    let scene = director.scene;
    let mut written = 0;
    director.look_for(BEFORE, effort.stage, effort.look_every);
    std::thread::scope(|scope| {
        let (release, released) = mpsc::channel::<()>();
        let (arrive, arrived) = mpsc::channel();
        scope.spawn(move || {
            let found = scene.store.get_with(&scene.keys[STALL_KEY], |_| {
                // Nobody listens only if the director has ended; nothing is ever sent, so this waits for its end.
                let _gone = arrive.send(());
                let _ended = released.recv();
            });
            debug_assert!(found.is_some(), "the key was loaded");
        });
        // An error means that the thread has ended without pinning; then there is no stall, and the figures show it.
        let _ended = arrived.recv();
        let from = director.written();
        director.look_for(STALLED, effort.stage, effort.look_every);
        written = director.written() - from;
        drop(release);
    });
    let _enough = director.look_over(AFTER, written, PATIENCE * effort.stage, effort.look_every);
}

fn target(side: &str, keys: usize, threads: usize) -> Target {
    Target {
        id: format!("drains_{side}_{threads}t_{keys}").replace(['-', '+'], "_"),
        kind: Kind::Claim,
        name: format!("{side}, {threads} writer(s): least pending after a stall, as a share of the most"),
        keys,
        threads,
        unit: "share",
        direction: Direction::AtMost,
        threshold: DRAINED_SHARE,
    }
}

/// Judges whether what the stall held back was freed after it.
fn drains(timeline: &Timeline) -> Outcome {
    target(timeline.side, timeline.keys, timeline.threads).judge(drained_share(timeline))
}

fn drained_share(timeline: &Timeline) -> Figure {
    let pending = |look: &Look| look.pending_versions;
    let least = timeline.stage(AFTER).map(pending).min();
    let (Some(usual), Some(worst), Some(least)) =
        (timeline.most(BEFORE, pending), timeline.most(STALLED, pending), least)
    else {
        return Figure::invalid("a stage was not looked at");
    };
    if worst < usual.max(1) * TELLING {
        return Figure::not_measurable(format!(
            "the stall held back {worst} versions, and {usual} were pending before it: too few to tell"
        ));
    }
    // The writers may retire more before the stall's end is felt; the most of both stages is what has to drain.
    let most = worst.max(timeline.most(AFTER, pending).unwrap_or(worst));
    let share = least as f64 / most as f64;
    if share > DRAINED_SHARE && timeline.written(AFTER) < timeline.written(STALLED) {
        return Figure::invalid("the machine was too disturbed for as many overwrites as there were during the stall");
    }
    let looks = timeline.looks.len();
    Figure::measured(Estimate::exact(share, looks)).noting(format!(
        "{usual} pending at most before, {most} at the worst, {least} at the least after"
    ))
}

/// Claims about thread counts that this machine, or this call, leaves out.
fn not_measured(options: &Options) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for side in combinations::NAMES.iter().filter(|side| options.wants(side)) {
        for keys in &options.keys {
            for threads in &options.threads {
                if let Some(reason) = options.unmeasured(*threads) {
                    outcomes.push(target(side, *keys, *threads).judge(Figure::not_measurable(reason)));
                }
            }
        }
    }
    outcomes
}

fn stall_section(timelines: &[Timeline]) -> Section {
    let row = |timeline: &Timeline| {
        let most = |stage, of: fn(&Look) -> u64| timeline.most(stage, of).unwrap_or(0);
        let rate = |stage| {
            timeline
                .rate(stage)
                .map_or_else(|| "-".to_owned(), |rate| units::value(rate, "ops/s"))
        };
        let held = most(STALLED, |look| look.pending_versions) as f64 / timeline.written(STALLED).max(1) as f64;
        vec![
            timeline.side.to_owned(),
            units::keys(timeline.keys as u64),
            timeline.threads.to_string(),
            rate(BEFORE),
            rate(STALLED),
            rate(AFTER),
            most(BEFORE, |look| look.pending_versions).to_string(),
            most(STALLED, |look| look.pending_versions).to_string(),
            units::digits(most(STALLED, |look| look.pending_bytes) as f64 / f64::from(1 << 20)),
            format!("{held:.2}"),
            timeline
                .looks
                .last()
                .map_or_else(String::new, |look| look.pending_versions.to_string()),
        ]
    };
    Section {
        title: "A thread that stalls while pinned".to_owned(),
        text: "Overwrites per second by stage, the most versions that were pending, and how many of those there were \
               for each overwrite during the stall."
            .to_owned(),
        header: [
            "side",
            "keys",
            "writers",
            "before",
            "stalled",
            "after",
            "pending before",
            "pending while stalled",
            "in MiB",
            "held per overwrite",
            "pending at the end",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: timelines.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::look;
    use super::*;
    use crate::harness::stats::Verdict;

    fn verdict(before: u64, stalled: u64, after: &[u64]) -> (Verdict, Option<f64>) {
        let mut looks = vec![look(0.0, BEFORE, 1, before), look(1.0, STALLED, 1, stalled)];
        looks.push(look(2.0, STALLED, 1, stalled));
        looks.extend(
            after
                .iter()
                .zip(2..)
                .map(|(pending, second)| look(f64::from(second), AFTER, 1, *pending)),
        );
        let outcome = drains(&Timeline {
            side: "a+b",
            keys: 1,
            threads: 1,
            looks,
        });
        (outcome.verdict, outcome.measured)
    }

    // Goal: the claim fails where garbage stays, and says nothing where a stall cannot be told. Method: timelines.
    #[test]
    fn garbage_must_drain_and_a_stall_must_show() {
        assert_eq!(verdict(10, 1_000, &[900, 100, 300]), (Verdict::Pass, Some(0.1)));
        assert_eq!(verdict(10, 1_000, &[900, 110]), (Verdict::Fail, Some(0.11)));
        assert_eq!(verdict(10, 1_000, &[2_000, 200]), (Verdict::Pass, Some(0.1)));
        assert_eq!(verdict(101, 1_000, &[0]).0, Verdict::NotMeasurable);
        assert_eq!(verdict(0, 9, &[0]).0, Verdict::NotMeasurable);
        assert_eq!(verdict(10, 1_000, &[]).0, Verdict::Invalid);
        assert_eq!(
            verdict(10, 1_000, &[500]).0,
            Verdict::Invalid,
            "too few overwrites after it"
        );
        assert_eq!(verdict(10, 1_000, &[50]).0, Verdict::Pass, "few overwrites were enough");
    }
}
