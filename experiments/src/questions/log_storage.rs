//! **Question.** The log's segments are mapped files: a word of the file is a word of memory. The other way is to keep them
//! in memory and write them when they are synced. What does each cost a strict commit and a buffered put, beside the bare
//! device; and what do threads gain that share a sync?
//!
//! **Hypothesis.** A strict commit is a sync and little else, so both ways stay near the bare write; a mapping pays faults
//! when a page is written for the first time after a sync, and a copy costs less than a fault for small commits. Buffered
//! puts hardly meet the difference. Commits per sync grow with the threads that wait, and so does the rate.
//!
//! **Method.** Sides: `mapped` and `positioned` are the engine over each storage; the floors write as many bytes as one
//! commit adds to the log (learned by counting) at advancing places of prewritten blocks, each thread for itself, without
//! any group. For each length of segments the sides are open together and take turns, round by round; keys are
//! uniform, values carry a number that no other operation puts, and after each slice every key must hold what was put last.
//! Commits per sync come from a storage that counts its syncs, its time per sync is the device's as the engine meets
//! it. One side of each stage rests and looks how busy others are.
//!
//! | setting | strict | buffered |
//! |---|---|---|
//! | threads | 1, 2, 4, 16 | 1, 2, as far as there are processors |
//! | value | 8 B to 4 kB, by one thread and by the most | 8 B to 4 kB, by one thread |
//! | segment | 1, 16 and 64 MiB, by one thread and by the most | the same, by one thread |
//!
//! **Threats to validity.**
//! - Beside other load a sync measures the scheduler: then there are no figures.
//! - One device of one virtual machine; another one may make either way the better.
//! - The floor's file is not rolled and has no second file beside it being made; the engine's log has.
//! - Strict databases count their syncs, which costs a lock and two readings of the clock for each.
//! - Checkpoints run as they do by default, and so may fall into a buffered slice.
//! - On a file system in memory a sync is none, and there is nothing to compare.
//!
//! **Command.** `cargo run --release -p experiments -- question log-storage --dir DIR`
#![forbid(unsafe_code)]

mod measure;
mod tables;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use unlatched::Durability;

use self::measure::stage;
use self::tables::{groups_as_csv, section};
use super::answer::{Answer, Measured};
use super::comparison::{Described, faults, medians, ratios, rows};
use super::targets::{Kind, Outcome, Target};
use super::{Effort, Options};
use crate::disk::bare::Way;
use crate::disk::counted::Syncs;
use crate::disk::medium::Medium;
use crate::engines::EngineError;
use crate::gates::bed::Manner;
use crate::gates::campaign::{Campaign, Metric, figure};
use crate::gates::quiet;
use crate::gates::sheet::Figure;
use crate::harness::environment::Environment;
use crate::harness::rounds::Round;
use crate::harness::stats::{Direction, Estimate};
use crate::harness::threads::Plan;

/// The engine over each storage.
const MAPPED: &str = "mapped";
const POSITIONED: &str = "positioned";

/// The side that rests.
const OTHERS: &str = "other-load";

/// Lengths of values in bytes; the first is that of all other settings.
const VALUES: [usize; 4] = [8, 100, 1_000, 4_000];

/// Lengths of segments in bytes; the first is that of all other settings.
const SEGMENTS: [usize; 3] = [16 << 20, 1 << 20, 64 << 20];

/// Threads of buffered puts, at most.
const BUFFERED_THREADS: usize = 2;

/// Threads of the aim about group commit.
const GROUP: usize = 16;

/// What a strict commit may cost over the bare device, and what a group of threads is to reach over one.
const STRICT_OVER_BARE: f64 = 1.15;
const GROUP_OVER_ONE: f64 = 8.0;

/// What the default may lose to the other way.
const DEFAULT_STRICT: f64 = 1.05;
const DEFAULT_BUFFERED: f64 = 0.95;

/// When a put is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Strict,
    Buffered,
}

/// What is done in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    mode: Mode,
    segment_bytes: usize,
    value_bytes: usize,
    threads: usize,
}

/// One side at one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Task {
    setting: Setting,
    keys: usize,
    side: &'static str,
}

/// What a strict slice did with the device.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    commits: u64,
    syncs: Syncs,
}

/// Of every strict slice, in the order of the rounds.
type Groups = Mutex<BTreeMap<Task, Vec<Group>>>;

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Buffered => "buffered",
        }
    }

    fn durability(self) -> Durability {
        match self {
            Self::Strict => Durability::Strict,
            Self::Buffered => Durability::BUFFERED,
        }
    }
}

impl Setting {
    const fn strict(threads: usize) -> Self {
        Self {
            mode: Mode::Strict,
            segment_bytes: SEGMENTS[0],
            value_bytes: VALUES[0],
            threads,
        }
    }

    const fn buffered(threads: usize) -> Self {
        Self {
            mode: Mode::Buffered,
            ..Self::strict(threads)
        }
    }
}

impl Task {
    fn manner(&self) -> Manner {
        match (self.setting.mode, self.setting.threads) {
            (Mode::Buffered, _) => Manner::HAS_HELPERS,
            (Mode::Strict, 1) => Manner::WAITS_ALONE,
            (Mode::Strict, _) => Manner::WAITS,
        }
    }

    fn plan(&self, effort: Effort, round: Round) -> Plan {
        let slice = match self.setting.mode {
            Mode::Strict => effort.waiting_slice,
            Mode::Buffered => effort.slice,
        };
        let plan = Plan::timed(slice).warm_up(effort.warm_up).rotation(round.index);
        self.manner().plan(plan)
    }

    fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.setting.threads).unwrap_or(NonZeroUsize::MIN)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}t", self.side, self.operation(), self.setting.threads)
    }
}

impl Described for Task {
    fn engine(&self) -> &'static str {
        self.side
    }

    fn operation(&self) -> String {
        let Setting {
            mode,
            segment_bytes,
            value_bytes,
            ..
        } = self.setting;
        format!("{} put, {value_bytes} B, {} MiB", mode.name(), segment_bytes >> 20)
    }

    fn keys(&self) -> usize {
        self.keys
    }

    fn threads(&self) -> usize {
        self.setting.threads
    }

    fn of(self, side: &'static str) -> Self {
        Self { side, ..self }
    }
}

/// The sides that can be chosen.
#[must_use]
pub fn sides() -> Vec<&'static str> {
    [MAPPED, POSITIONED]
        .into_iter()
        .chain(Way::ALL.map(Way::name))
        .collect()
}

/// Every setting, once.
fn settings(options: &Options) -> Vec<Setting> {
    let most = options.threads.last().copied().unwrap_or(1);
    let few = [1, most];
    let mut settings: Vec<Setting> = options
        .threads
        .iter()
        .map(|threads| Setting::strict(*threads))
        .collect();
    for threads in few {
        let usual = Setting::strict(threads);
        settings.extend(VALUES.map(|value_bytes| Setting { value_bytes, ..usual }));
        settings.extend(SEGMENTS.map(|segment_bytes| Setting { segment_bytes, ..usual }));
    }
    let buffered = |threads: &&usize| **threads <= options.processors.min(BUFFERED_THREADS);
    settings.extend(
        options
            .threads
            .iter()
            .filter(buffered)
            .map(|threads| Setting::buffered(*threads)),
    );
    let usual = Setting::buffered(1);
    settings.extend(VALUES.map(|value_bytes| Setting { value_bytes, ..usual }));
    settings.extend(SEGMENTS.map(|segment_bytes| Setting { segment_bytes, ..usual }));
    settings.sort_unstable();
    settings.dedup();
    settings
}

/// Measures.
///
/// # Errors
///
/// Returns what a side refused while it was opened or loaded.
pub fn answer(options: &Options) -> Result<Answer, EngineError> {
    let mut environment = Environment::capture(None);
    let medium = Medium::of(&options.directory());
    environment.disk.clone_from(&medium);
    let in_memory = medium.is_some_and(|medium| medium.in_memory);
    let mut samples = Campaign::new(options.seed);
    let groups = Groups::default();
    if !in_memory {
        for keys in &options.keys {
            for segment_bytes in SEGMENTS {
                stage(*keys, segment_bytes, options, &mut samples, &groups)?;
            }
        }
    }
    let (all, pinned) = samples.pinned();
    environment.pinning = Some(format!(
        "{pinned} of {all} slices had every thread on its own processor; threads that wait for a device are not bound"
    ));
    let groups = groups.into_inner().unwrap_or_else(PoisonError::into_inner);
    let floors = Way::ALL.map(Way::name);
    let theirs: Vec<&str> = floors.into_iter().chain([OTHERS]).collect();
    let outcomes = options
        .keys
        .iter()
        .flat_map(|keys| outcomes(*keys, in_memory, options, &samples));
    Ok(Answer {
        outcomes: outcomes.collect(),
        faults: faults(&samples, &theirs),
        samples: rows(&samples),
        medians: quiet_medians(&samples),
        ratios: ratios(&samples, MAPPED),
        sections: [Mode::Strict, Mode::Buffered]
            .map(|mode| section(mode, options, &samples, &groups))
            .to_vec(),
        files: vec![("log-storage-groups.csv".to_owned(), groups_as_csv(&groups))],
        environment,
        remarks: remarks(options, &samples),
    })
}

fn rests(keys: usize, segment_bytes: usize) -> Task {
    Task {
        setting: Setting {
            segment_bytes,
            ..Setting::strict(1)
        },
        keys,
        side: OTHERS,
    }
}

/// An estimate, unless others were too busy for it.
fn quietly(
    samples: &Campaign<Task>,
    task: Task,
    estimate: impl FnOnce() -> Result<Estimate, String>,
) -> Result<Estimate, String> {
    quiet::check(samples, rests(task.keys, task.setting.segment_bytes))?;
    estimate()
}

/// The median of every side but the one that rests, or why it has none.
fn quiet_medians(samples: &Campaign<Task>) -> Vec<Measured> {
    let of_side = |(task, median): (&Task, Measured)| {
        let quiet = quiet::check(samples, rests(task.keys, task.setting.segment_bytes));
        match quiet {
            Ok(()) => median,
            Err(reason) => Measured {
                ops_per_second: None,
                ci95: None,
                reason,
                ..median
            },
        }
    };
    let all = samples.tasks().zip(medians(samples));
    all.filter(|(task, _)| task.side != OTHERS).map(of_side).collect()
}

fn outcomes(keys: usize, in_memory: bool, options: &Options, samples: &Campaign<Task>) -> Vec<Outcome> {
    let at = |setting, side| Task { setting, keys, side };
    let bare = Way::WriteAndSync.name();
    let (strict, buffered) = (Setting::strict, Setting::buffered);
    let mut lines = Vec::new();
    for side in [MAPPED, POSITIONED] {
        lines.push((
            format!("strict_{side}_to_bare_1t"),
            format!("strict put, {side}, over a bare write and sync"),
            (at(strict(1), side), at(strict(1), bare), Metric::Mean),
            (Direction::AtMost, STRICT_OVER_BARE),
        ));
        lines.push((
            format!("strict_{side}_scaling_{GROUP}t"),
            format!("strict puts, {side}, {GROUP} threads over one"),
            (at(strict(GROUP), side), at(strict(1), side), Metric::Rate),
            (Direction::AtLeast, GROUP_OVER_ONE),
        ));
    }
    lines.push((
        "strict_mapped_to_positioned_1t".to_owned(),
        "strict put, mapped (the default) over positioned".to_owned(),
        (at(strict(1), MAPPED), at(strict(1), POSITIONED), Metric::Mean),
        (Direction::AtMost, DEFAULT_STRICT),
    ));
    lines.push((
        "buffered_mapped_to_positioned_1t".to_owned(),
        "buffered puts, mapped (the default) over positioned".to_owned(),
        (at(buffered(1), MAPPED), at(buffered(1), POSITIONED), Metric::Rate),
        (Direction::AtLeast, DEFAULT_BUFFERED),
    ));
    let judged =
        |(id, name, (above, below, metric), (direction, threshold)): (String, String, (Task, Task, Metric), _)| {
            let target = Target {
                id: format!("{id}_{keys}"),
                kind: Kind::Aim,
                name,
                keys,
                threads: above.setting.threads,
                unit: "ratio",
                direction,
                threshold,
            };
            target.judge(compared(above, below, metric, in_memory, options, samples))
        };
    lines.into_iter().map(judged).collect()
}

/// A ratio of two sides as a figure, or why there is none.
fn compared(
    above: Task,
    below: Task,
    metric: Metric,
    in_memory: bool,
    options: &Options,
    samples: &Campaign<Task>,
) -> Figure {
    if in_memory {
        let reason = "the directory is on a file system in memory, where a sync is none; choose a disk with --dir";
        return Figure::not_measurable(reason);
    }
    for task in [above, below] {
        if !options.threads.contains(&task.setting.threads) {
            return Figure::not_measurable(format!("{} threads were left out by --threads", task.setting.threads));
        }
        if !samples.tasks().any(|known| *known == task) {
            return Figure::not_measurable(format!("{} was not run", task.side));
        }
    }
    figure(quietly(samples, above, || samples.ratio(above, below, metric)))
}

fn remarks(options: &Options, samples: &Campaign<Task>) -> Vec<String> {
    let medium = Medium::of(&options.directory());
    let medium = medium.map_or_else(|| "an unknown device".to_owned(), |medium| medium.to_string());
    let mut remarks = vec![format!("Databases were on {medium}.")];
    for keys in &options.keys {
        for segment_bytes in SEGMENTS {
            let task = rests(*keys, segment_bytes);
            if samples.tasks().any(|known| *known == task) {
                let note = quiet::note(samples, task);
                remarks.push(format!("With segments of {} MiB: {note}.", segment_bytes >> 20));
            }
        }
    }
    remarks.push("Commits and syncs of every strict slice are in log-storage-groups.csv.".to_owned());
    remarks
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::tables::group_of;
    use super::*;
    use crate::gates::bed::Sample;
    use crate::report::csv;
    use crate::report::progress::Progress;

    fn options(threads: &[usize], processors: usize) -> Options {
        Options {
            effort: Effort::TINY,
            keys: vec![100],
            threads: threads.to_vec(),
            only: Vec::new(),
            dir: None,
            seed: 1,
            processors,
            progress: Progress::Silent,
        }
    }

    #[test]
    fn settings_are_there_once_and_threads_that_wait_need_no_processor() {
        let all = settings(&options(&[1, 2, 4, 16], 2));
        let mut distinct = all.clone();
        distinct.dedup();
        assert_eq!(all, distinct);
        let strict = |setting: &&Setting| setting.mode == Mode::Strict;
        assert_eq!(all.iter().filter(strict).map(|setting| setting.threads).max(), Some(16));
        let buffered = all.iter().filter(|setting| setting.mode == Mode::Buffered);
        assert_eq!(buffered.map(|setting| setting.threads).max(), Some(2));
        for segment_bytes in SEGMENTS {
            assert!(all.iter().any(|setting| setting.segment_bytes == segment_bytes));
        }
        let alone = settings(&options(&[1, 16], 1));
        assert!(
            alone
                .iter()
                .all(|setting| setting.mode == Mode::Strict || setting.threads == 1)
        );
    }

    fn timed(mean_ns: f64) -> Sample {
        Sample {
            rate: 1e9 / mean_ns,
            mean_ns,
            ..quiet::sample(0.0)
        }
    }

    // Goal: an aim is drawn from the sides that it names, in the right direction, and not beside other load. Method:
    // made-up rounds.
    #[test]
    fn aims_are_judged_by_the_sides_that_they_name() {
        let at = |setting, side| Task {
            setting,
            keys: 100,
            side,
        };
        let options = options(&[1, 16], 2);
        let judged = |others: f64| -> BTreeMap<String, (Option<f64>, &'static str)> {
            let sides = [
                (at(Setting::strict(1), MAPPED), 220.0),
                (at(Setting::strict(1), POSITIONED), 200.0),
                (at(Setting::strict(1), Way::WriteAndSync.name()), 200.0),
                (at(Setting::strict(16), MAPPED), 27.5),
                (at(Setting::strict(16), POSITIONED), 100.0),
                (at(Setting::buffered(1), MAPPED), 1.0),
                (at(Setting::buffered(1), POSITIONED), 2.0),
            ];
            let sides = sides.map(|(task, mean)| (task, vec![timed(mean); 8]));
            let others = (rests(100, SEGMENTS[0]), vec![quiet::sample(others); 8]);
            let samples = Campaign::of(sides.into_iter().chain([others]));
            let outcomes = outcomes(100, false, &options, &samples);
            let short = |outcome: &Outcome| (outcome.target.id.clone(), (outcome.measured, outcome.word()));
            outcomes.iter().map(short).collect()
        };
        let quiet = judged(0.0);
        assert_eq!(quiet["strict_mapped_to_bare_1t_100"], (Some(1.1), "met"));
        assert_eq!(quiet["strict_positioned_to_bare_1t_100"], (Some(1.0), "met"));
        assert_eq!(quiet["strict_mapped_to_positioned_1t_100"], (Some(1.1), "missed"));
        assert_eq!(quiet["strict_mapped_scaling_16t_100"], (Some(8.0), "met"));
        assert_eq!(quiet["strict_positioned_scaling_16t_100"], (Some(2.0), "missed"));
        assert_eq!(quiet["buffered_mapped_to_positioned_1t_100"], (Some(2.0), "met"));
        let busy = judged(0.5);
        assert!(
            busy.values()
                .all(|(measured, word)| measured.is_none() && *word == "INVALID")
        );
    }

    #[test]
    fn commits_per_sync_are_those_of_all_rounds() {
        let task = rests(1, SEGMENTS[0]);
        let group = |commits, count| Group {
            commits,
            syncs: Syncs {
                count,
                time: Duration::from_micros(100 * count),
                ..Syncs::default()
            },
        };
        let groups = BTreeMap::from([(task, vec![group(30, 3), group(10, 1)])]);
        assert_eq!(group_of(&groups, &task), Some((10.0, Duration::from_micros(100))));
        let none = BTreeMap::from([(task, vec![group(0, 0)])]);
        assert_eq!(group_of(&none, &task), None);
        let lines = csv::parse(&groups_as_csv(&groups)).expect("it is CSV");
        assert_eq!((lines.len(), lines[1][6].as_str()), (3, "30"));
    }
}
