//! **Question.** Do version chains stay short while one snapshot is held for ever and every key is overwritten many
//! times?
//!
//! **Hypothesis.** Yes: between two neighbouring versions that no open snapshot separates one can go, so a snapshot
//! costs a version per key and not one per overwrite. What a thread has not looked at lately is a constant on top.
//!
//! **Method.** For each combination: load a store, open a snapshot, and let the writers overwrite every key 100 times
//! in a random order, all keys equally often. A thread that does nothing else looks at the store every few milliseconds:
//! versions in chains, versions and bytes that wait for the collector, the bytes that the process holds by its counting
//! allocator, and its resident memory. Then the snapshot must still show every key's first value, and once it is closed
//! and the garbage collected, one version per key must be left.
//!
//! The claim is a bound on the whole store at every look: 2 versions per key for each open snapshot, and 1 per key. One
//! would do for each snapshot; the other is room for what the threads' views of the open snapshots do not show yet.
//! There is one run per side and thread count, and no rounds: a bound is broken once or not at all.
//!
//! **Threats to validity.**
//! - A sum over all chains says nothing about the longest one.
//! - The counters are read one after the other while writers run, so that a look is blurred by some microseconds.
//! - Resident memory and live bytes are those of the process: earlier sides' freed memory may still be resident.
//! - One snapshot is the easy case of many.
//!
//! **Command.** `cargo run --release -p experiments -- question long-reader`
#![forbid(unsafe_code)]

use unlatched::internals::OpenSnapshot;

use super::Options;
use super::answer::Answer;
use super::bed::Ground;
use super::combinations::{self, Combination, Visitor};
use super::targets::{Fault, Kind, Outcome, Target};
use super::timeline::{Scene, Timeline, plot, series};
use crate::engines::EngineError;
use crate::gates::sheet::Figure;
use crate::harness::environment::Environment;
use crate::harness::stats::{Direction, Estimate};
use crate::report::markdown::Section;
use crate::report::units;
use crate::workload::verify::loaded_value;

/// Versions per key that each open snapshot may cost.
const PER_SNAPSHOT: u64 = 2;

/// Versions per key without any snapshot.
const PER_KEY: u64 = 1;

/// The one stage of this question.
const HELD: &str = "snapshot held";

/// What one side came to.
#[derive(Debug)]
struct Watched {
    timeline: Timeline,
    /// Whether the snapshot showed every first value to the end.
    repeats: bool,
    /// Versions left when it was closed and the garbage collected.
    left: u64,
}

/// The sides that can be chosen.
#[must_use]
pub fn sides() -> Vec<&'static str> {
    combinations::NAMES.to_vec()
}

/// Measures.
///
/// # Errors
///
/// None today; a side that goes wrong is a fault.
pub fn answer(options: &Options) -> Result<Answer, EngineError> {
    let environment = Environment::capture(None);
    let mut tour = Tour {
        options,
        watched: Vec::new(),
        faults: Vec::new(),
    };
    let Ok(()) = combinations::tour(&mut tour);
    let Tour { watched, faults, .. } = tour;
    let mut outcomes: Vec<Outcome> = watched.iter().flat_map(claims).collect();
    outcomes.extend(not_measured(options));
    let timelines: Vec<Timeline> = watched.iter().map(|side| side.timeline.clone()).collect();
    let mut files = vec![("long-reader-timeline.csv".to_owned(), series(&timelines))];
    for keys in &options.keys {
        let title = format!(
            "Versions per key under one snapshot held for ever, {} keys",
            units::keys(*keys as u64)
        );
        let per_key = |look: &super::timeline::Look| look.live_versions as f64 / *keys as f64;
        let picture = plot(&timelines, *keys, &title, "versions per key", per_key);
        files.push((format!("long-reader-versions-{keys}.svg"), picture));
    }
    Ok(Answer {
        outcomes,
        faults,
        samples: Vec::new(),
        medians: Vec::new(),
        ratios: Vec::new(),
        sections: vec![section(&watched)],
        files,
        environment,
        remarks: vec!["Every look is in long-reader-timeline.csv.".to_owned()],
    })
}

struct Tour<'a> {
    options: &'a Options,
    watched: Vec<Watched>,
    faults: Vec<Fault>,
}

impl Visitor for Tour<'_> {
    type Error = std::convert::Infallible;

    fn visit<C: Combination>(&mut self) -> Result<(), Self::Error> {
        if !self.options.wants(C::NAME) {
            return Ok(());
        }
        let runs = self.options.keys.len() * self.options.measured_threads().len();
        let bar = self.options.progress.stage(&format!("long-reader, {}", C::NAME), runs);
        for keys in &self.options.keys {
            let ground = Ground::new(*keys, self.options.seed);
            for threads in self.options.measured_threads() {
                bar.step(&format!("{keys} keys, {threads} writers"));
                match watch::<C>(self.options, &ground, threads) {
                    Ok(watched) => self.watched.push(watched),
                    Err(reason) => self.faults.push(Fault {
                        engine: C::NAME.to_owned(),
                        reason: format!("{keys} keys, {threads} writers: {reason}"),
                        ours: true,
                    }),
                }
            }
        }
        bar.finish();
        Ok(())
    }
}

fn watch<C: Combination>(options: &Options, ground: &Ground, threads: usize) -> Result<Watched, String> {
    let scene = Scene::<C>::new(ground, threads);
    let snapshot = scene.store.snapshot();
    let each = options.effort.overwrites * ground.len() as u64 / threads as u64;
    let played = scene.play(Some(each), options.seed, |director| {
        director.look_until_done(HELD, options.effort.look_every);
    });
    let repeats = shows_first_values(&scene, &snapshot);
    scene.store.close(&snapshot);
    scene.store.collect_garbage();
    Ok(Watched {
        timeline: played?,
        repeats,
        left: scene.store.stats().live_versions,
    })
}

fn shows_first_values<C: Combination>(scene: &Scene<C>, snapshot: &OpenSnapshot) -> bool {
    scene.keys.iter().enumerate().all(|(number, key)| {
        let first = loaded_value(number).to_le_bytes();
        scene.store.get_at(key, snapshot, |bytes| bytes == first) == Some(true)
    })
}

fn claim(side: &str, keys: usize, threads: usize, what: &str, name: String, threshold: f64) -> Target {
    Target {
        id: format!("{what}_{side}_{threads}t_{keys}").replace(['-', '+'], "_"),
        kind: Kind::Claim,
        name: format!("{side}, {threads} writer(s): {name}"),
        keys,
        threads,
        unit: "versions/key",
        direction: Direction::AtMost,
        threshold,
    }
}

fn bound(open_snapshots: u64) -> f64 {
    (PER_SNAPSHOT * open_snapshots + PER_KEY) as f64
}

fn claims(watched: &Watched) -> Vec<Outcome> {
    let timeline = &watched.timeline;
    let (side, keys, threads) = (timeline.side, timeline.keys, timeline.threads);
    let target = |what, name: &str, threshold| claim(side, keys, threads, what, name.to_owned(), threshold);
    let looks = timeline.looks.len();
    let repeats = Target {
        unit: "",
        direction: Direction::Holds,
        ..target("repeats", "the snapshot shows every first value to the end", 1.0)
    };
    vec![
        target("bounded", "versions while a snapshot is held", bound(1)).judge(most_per_key(timeline)),
        repeats.judge(Figure::statement(watched.repeats, "")),
        target("collected", "versions left when it is closed", PER_KEY as f64).judge(Figure::measured(
            Estimate::exact(watched.left as f64 / keys as f64, looks),
        )),
    ]
}

/// The most versions per key at any look at which the snapshot was open; each look counts as it was.
fn most_per_key(timeline: &Timeline) -> Figure {
    if timeline.looks.iter().any(|look| look.open_snapshots != 1) {
        return Figure::invalid("the snapshot was not open at every look, or not alone");
    }
    match timeline.most(HELD, |look| look.live_versions) {
        Some(most) => {
            let estimate = Estimate::exact(most as f64 / timeline.keys as f64, timeline.looks.len());
            let overwrites = timeline.looks.last().map_or(0, |look| look.overwrites);
            Figure::measured(estimate).noting(format!("over {overwrites} overwrites"))
        }
        None => Figure::invalid("nobody looked"),
    }
}

/// Claims about thread counts that this machine, or this call, leaves out.
fn not_measured(options: &Options) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for side in combinations::NAMES.iter().filter(|side| options.wants(side)) {
        for keys in &options.keys {
            for threads in &options.threads {
                if let Some(reason) = options.unmeasured(*threads) {
                    let name = "versions while a snapshot is held".to_owned();
                    let target = claim(side, *keys, *threads, "bounded", name, bound(1));
                    outcomes.push(target.judge(Figure::not_measurable(reason)));
                }
            }
        }
    }
    outcomes
}

fn section(watched: &[Watched]) -> Section {
    let mebibytes = |bytes: Option<u64>| {
        bytes.map_or_else(
            || "-".to_owned(),
            |bytes| units::digits(bytes as f64 / f64::from(1 << 20)),
        )
    };
    let row = |side: &Watched| {
        let timeline = &side.timeline;
        let per_key = |versions: u64| units::digits(versions as f64 / timeline.keys as f64);
        let most = |of: fn(&super::timeline::Look) -> u64| timeline.most(HELD, of);
        vec![
            timeline.side.to_owned(),
            units::keys(timeline.keys as u64),
            timeline.threads.to_string(),
            timeline
                .rate(HELD)
                .map_or_else(|| "-".to_owned(), |rate| units::value(rate, "ops/s")),
            most(|look| look.live_versions).map_or_else(|| "-".to_owned(), per_key),
            per_key(side.left),
            most(|look| look.pending_versions).map_or_else(|| "-".to_owned(), |most| most.to_string()),
            mebibytes(most(|look| look.pending_bytes)),
            mebibytes(timeline.looks.first().and_then(|look| look.live_bytes)),
            mebibytes(most(|look| look.live_bytes.unwrap_or(0))),
            mebibytes(most(|look| look.resident_bytes.unwrap_or(0))),
        ]
    };
    Section {
        title: "A snapshot held for ever".to_owned(),
        text: "Versions per key are of the whole store. Memory is in MiB, and the process's, not one side's."
            .to_owned(),
        header: [
            "side",
            "keys",
            "writers",
            "overwrites",
            "most versions per key",
            "when closed",
            "most pending versions",
            "most pending",
            "held at first",
            "most held",
            "most resident",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: watched.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::look;
    use super::*;
    use crate::harness::stats::Verdict;

    fn watched(most: u64, repeats: bool, left: u64) -> Watched {
        Watched {
            timeline: Timeline {
                side: "a+b",
                keys: 100,
                threads: 1,
                looks: vec![
                    look(0.0, HELD, 100, 0),
                    look(1.0, HELD, most, 0),
                    look(2.0, HELD, 150, 0),
                ],
            },
            repeats,
            left,
        }
    }

    fn verdicts(watched: &Watched) -> Vec<Verdict> {
        claims(watched).iter().map(|claim| claim.verdict).collect()
    }

    // Goal: each claim fails by itself. Method: timelines that break one of them, at a single look.
    #[test]
    fn claims_fail_when_they_are_broken() {
        use Verdict::{Fail, Invalid, Pass};
        assert_eq!(verdicts(&watched(300, true, 100)), [Pass, Pass, Pass]);
        assert_eq!(verdicts(&watched(301, true, 100)), [Fail, Pass, Pass]);
        assert_eq!(verdicts(&watched(200, false, 100)), [Pass, Fail, Pass]);
        assert_eq!(verdicts(&watched(200, true, 101)), [Pass, Pass, Fail]);
        let mut closed = watched(200, true, 100);
        closed.timeline.looks[1].open_snapshots = 0;
        assert_eq!(verdicts(&closed), [Invalid, Pass, Pass]);
    }
}
