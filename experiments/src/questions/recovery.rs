//! **Question.** How long does opening a database take by the length of its log, how does that compare with merely reading the
//! bytes, what memory does it need, and what does a checkpoint save?
//!
//! **Hypothesis.** Time grows in proportion to the log. Recovery reads every byte twice, checks a checksum and inserts into an
//! index, so it is several times slower than reading, and bound by the processors and not by the device. A checkpoint makes
//! it depend on the number of keys and on what was written since.
//!
//! **Method.** For each number of records a directory is made once and then opened again and again: each time its files
//! are linked into a directory of their own, so that no opening sees what the one before has left, and the time from the
//! call to the open database is taken. Afterwards the database must hold every key with the value put last.
//!
//! | side | what is opened |
//! |---|---|
//! | `log` | a log of so many puts of 8-byte values under as many 24-byte keys |
//! | `overwritten` | a log of so many puts over a tenth as many keys |
//! | `checkpoint` | the first, with a checkpoint at its end, and a hundredth as many puts after it |
//! | `read` | nothing: the bytes of `log` are read, by one thread, once |
//!
//! Each is timed with its files in the page cache, and again after the kernel was asked to drop them from it (`cold`). Memory
//! is learned in an opening that is not timed: what the process holds by its counting allocator, looked at every
//! millisecond; the most while it opens, and what is left when it is open.
//!
//! **Threats to validity.**
//! - The kernel may keep pages that it was asked to drop, and the device below may have a cache of its own.
//! - What the allocator does not know, mapped segments and the page cache, is not in the memory.
//! - One thread wrote the logs: their records lie in the order of their timestamps.
//! - All processors are used, so that other load shows at once.
//! - The new segment that every opening makes is in the time: some milliseconds.
//!
//! **Command.** `cargo run --release -p experiments -- question recovery --dir DIR`
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use unlatched::{Database, Durability, RunId};

use super::Options;
use super::answer::Answer;
use super::comparison::{Described, faults, medians, ratios, rows};
use super::targets::{Kind, Outcome, Target};
use crate::allocations;
use crate::disk::bare::read_all;
use crate::disk::directory::TemporaryDirectory;
use crate::disk::medium::Medium;
use crate::engines::EngineError;
use crate::gates::bed::Sample;
use crate::gates::campaign::{Campaign, Metric, figure};
use crate::gates::quiet;
use crate::gates::sheet::Figure;
use crate::harness::environment::Environment;
use crate::harness::rounds::{Round, Side};
use crate::harness::stats::{Direction, Estimate, paired_ratio};
use crate::report::markdown::Section;
use crate::report::units;
use crate::workload::KeySet;

/// The sides, by what is opened.
const LOG: &str = "log";
const OVERWRITTEN: &str = "overwritten";
const CHECKPOINT: &str = "checkpoint";
const READ: &str = "read";

/// All of them.
const SIDES: [&str; 4] = [LOG, OVERWRITTEN, CHECKPOINT, READ];

/// The side that rests.
const OTHERS: &str = "other-load";

/// How often each key is put where a log is overwritten, and the share of the puts that come after a checkpoint.
const OVERWRITES: usize = 10;
const AFTER_CHECKPOINT: usize = 100;

/// Bytes that are read at a time where bytes are merely read.
const PIECE_BYTES: usize = 1 << 20;

/// From one look at the memory to the next.
const LOOK: Duration = Duration::from_millis(1);

/// Records per second that opening is to reach.
const RECORDS_PER_SECOND: f64 = 1e6;

/// How much longer per record the longest log may take than the shortest.
const GROWTH: f64 = 1.5;

/// What of the time without a checkpoint one may leave.
const CHECKPOINT_SHARE: f64 = 0.5;

const RUN: RunId = RunId::from_bytes([0x4e; 16]);

/// Buffered, in bounds so wide that only the device holds a writer back.
const LOAD: Durability = Durability::Buffered {
    flush_interval: Duration::from_millis(100),
    max_pending_writes: 100_000,
};

/// A side at one length of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Task {
    records: usize,
    cold: bool,
    side: &'static str,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.side, self.operation())
    }
}

impl Described for Task {
    fn engine(&self) -> &'static str {
        self.side
    }

    fn operation(&self) -> String {
        if self.cold { "open, cold" } else { "open" }.to_owned()
    }

    fn keys(&self) -> usize {
        self.records
    }

    fn threads(&self) -> usize {
        1
    }

    fn of(self, side: &'static str) -> Self {
        Self { side, ..self }
    }
}

/// The sides that can be chosen.
#[must_use]
pub fn sides() -> Vec<&'static str> {
    SIDES.to_vec()
}

/// A directory that is opened again and again.
struct Prepared {
    directory: TemporaryDirectory,
    /// Puts in its log, as far as opening must look at them.
    records: usize,
    /// The number put last under each key, by its index.
    last: Vec<u64>,
    bytes: u64,
}

/// What one opening needed of the allocator, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    most: u64,
    left: u64,
}

/// What is known of a directory besides how long opening takes.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// Puts in its log, as far as opening must look at them.
    records: usize,
    bytes: u64,
    memory: Option<Memory>,
}

/// The facts of every side, by the number of puts.
type Scales = BTreeMap<usize, BTreeMap<&'static str, Facts>>;

/// Measures.
///
/// # Errors
///
/// Returns what the engine refused while the logs were written.
pub fn answer(options: &Options) -> Result<Answer, EngineError> {
    let mut environment = Environment::capture(None);
    environment.disk = Medium::of(&options.directory());
    let mut samples = Campaign::new(options.seed);
    let mut scales = Scales::new();
    for records in &options.keys {
        scales.insert(*records, measure(*records, options, &mut samples)?);
    }
    let medium = Medium::of(&options.directory());
    let medium = medium.map_or_else(|| "an unknown device".to_owned(), |medium| medium.to_string());
    let mut remarks = vec![format!("Databases were on {medium}.")];
    for records in &options.keys {
        let note = quiet::note(&samples, rests(*records));
        remarks.push(format!("With {} records: {note}.", units::keys(*records as u64)));
    }
    let is_side = |engine: &str| engine != OTHERS;
    let mut rows = rows(&samples);
    rows.retain(|row| is_side(&row.engine));
    let mut medians = medians(&samples);
    medians.retain(|median| is_side(&median.engine));
    Ok(Answer {
        outcomes: outcomes(options, &samples),
        faults: faults(&samples, &[READ, OTHERS]),
        samples: rows,
        medians,
        ratios: ratios(&samples, LOG),
        sections: vec![section(options, &samples, &scales)],
        files: Vec::new(),
        environment,
        remarks,
    })
}

fn rests(records: usize) -> Task {
    Task {
        records,
        cold: false,
        side: OTHERS,
    }
}

/// Makes the directories of one length, and opens them.
fn measure(
    records: usize,
    options: &Options,
    samples: &mut Campaign<Task>,
) -> Result<BTreeMap<&'static str, Facts>, EngineError> {
    let title = format!("recovery, {} records", units::keys(records as u64));
    options.progress.say(&format!("{title}: writing"));
    let parent = options.directory();
    let names = KeySet::new(records, options.seed);
    let mut prepared = BTreeMap::new();
    // The bytes that are read are those of the log.
    if options.wants(LOG) || options.wants(READ) {
        prepared.insert(LOG, Prepared::log(&parent, &names, records)?);
    }
    if options.wants(OVERWRITTEN) {
        prepared.insert(
            OVERWRITTEN,
            Prepared::log(&parent, &names, (records / OVERWRITES).max(1))?,
        );
    }
    if options.wants(CHECKPOINT) {
        prepared.insert(CHECKPOINT, Prepared::checkpoint(&parent, &names)?);
    }
    let mut facts = BTreeMap::new();
    for (side, prepared) in &prepared {
        let known = Facts {
            records: prepared.records,
            bytes: prepared.bytes,
            memory: prepared.weigh(&parent)?,
        };
        facts.insert(*side, known);
    }
    let mut turns = vec![(rests(records), quiet::side(options.effort.slice))];
    for cold in [false, true] {
        for (side, prepared) in prepared.iter().filter(|(side, _)| options.wants(side)) {
            let task = Task { records, cold, side };
            let (parent, names) = (&parent, &names);
            let measure = move |_: Round| prepared.open_once(parent, names, cold);
            turns.push((task, Side::new(task.to_string(), measure)));
        }
        if let (true, Some(log)) = (options.wants(READ), prepared.get(LOG)) {
            let task = Task {
                records,
                cold,
                side: READ,
            };
            turns.push((task, Side::new(task.to_string(), move |_: Round| log.read_once(cold))));
        }
    }
    samples.run(&title, options.effort.rounds, turns, &options.progress);
    Ok(facts)
}

impl Prepared {
    /// Writes a log of one put for each name, over the first `keys` keys in turn.
    fn log(parent: &Path, names: &KeySet, keys: usize) -> Result<Self, EngineError> {
        let directory = TemporaryDirectory::under(parent)?;
        let database = Database::builder()
            .path(directory.path())
            .durability(LOAD)
            .checkpoint_bytes(None)
            .open()?;
        let mut last = vec![0; keys];
        put_in_turn(&database, names, 1..=names.len() as u64, &mut last)?;
        database.shutdown()?;
        drop(database);
        Self::finished(directory, names.len(), last)
    }

    /// Writes the same with a checkpoint at the end, and some more puts after it.
    fn checkpoint(parent: &Path, names: &KeySet) -> Result<Self, EngineError> {
        let Self {
            directory, mut last, ..
        } = Self::log(parent, names, names.len())?;
        let database = Database::builder()
            .path(directory.path())
            .durability(LOAD)
            .checkpoint_bytes(None)
            .open()?;
        database.checkpoint()?;
        let before = names.len() as u64;
        let after = (names.len() / AFTER_CHECKPOINT).max(1);
        put_in_turn(&database, names, before + 1..=before + after as u64, &mut last)?;
        database.shutdown()?;
        drop(database);
        Self::finished(directory, after, last)
    }

    fn finished(directory: TemporaryDirectory, records: usize, last: Vec<u64>) -> Result<Self, EngineError> {
        let mut bytes = 0;
        for path in files(directory.path())? {
            File::open(&path)?.sync_all()?;
            bytes += fs::metadata(&path)?.len();
        }
        Ok(Self {
            directory,
            records,
            last,
            bytes,
        })
    }

    /// Links the files into a directory of their own.
    fn linked(&self, parent: &Path) -> Result<TemporaryDirectory, EngineError> {
        let linked = TemporaryDirectory::under(parent)?;
        for path in files(self.directory.path())? {
            if let Some(name) = path.file_name() {
                fs::hard_link(&path, linked.path().join(name))?;
            }
        }
        Ok(linked)
    }

    /// Opens the files once, and checks what is there.
    fn open_once(&self, parent: &Path, names: &KeySet, cold: bool) -> Sample {
        let opened = || -> Result<(Duration, Result<(), String>), EngineError> {
            let linked = self.linked(parent)?;
            if cold {
                drop_from_cache(linked.path())?;
            }
            let begun = Instant::now();
            let database = open(linked.path())?;
            let took = begun.elapsed();
            Ok((took, self.check(&database, names)))
        };
        match opened() {
            Ok((took, checked)) => {
                let mut sample = timed(took, self.records);
                if let Err(wrong) = checked {
                    sample.mark_wrong(&wrong);
                }
                sample
            }
            Err(error) => Sample::failed(&error),
        }
    }

    /// Reads the bytes once.
    fn read_once(&self, cold: bool) -> Sample {
        let read = || -> Result<Duration, EngineError> {
            if cold {
                drop_from_cache(self.directory.path())?;
            }
            let paths = files(self.directory.path())?;
            let begun = Instant::now();
            read_all(&paths, PIECE_BYTES)?;
            Ok(begun.elapsed())
        };
        read().map_or_else(|error| Sample::failed(&error), |took| timed(took, self.records))
    }

    /// Every key must hold the number put last, and there must be no other.
    fn check(&self, database: &Database, names: &KeySet) -> Result<(), String> {
        for (key, number) in self.last.iter().enumerate() {
            let found = database
                .get_with(RUN, names.bytes(key), |value, _| {
                    value.try_into().map(u64::from_le_bytes).ok()
                })
                .map_err(|error| error.to_string())?;
            if found.flatten() != Some(*number) {
                return Err(format!(
                    "lost update: key {key} holds {found:?}, but {number} was put last"
                ));
            }
        }
        let live = database.stats().live_versions;
        if live == self.last.len() as u64 {
            Ok(())
        } else {
            Err(format!("{live} versions are there for {} keys", self.last.len()))
        }
    }

    /// Opens the files once and looks what the process holds meanwhile; `None` if its allocator does not count.
    fn weigh(&self, parent: &Path) -> Result<Option<Memory>, EngineError> {
        if !allocations::is_counting() {
            return Ok(None);
        }
        let linked = self.linked(parent)?;
        let before = allocations::live_bytes();
        let (stop, most) = (AtomicBool::new(false), AtomicU64::new(0));
        let opened = thread::scope(|scope| {
            scope.spawn(|| {
                // ORDERING: Relaxed, both; joining the thread publishes the most.
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(allocations::live_bytes(), Ordering::Relaxed);
                    thread::sleep(LOOK);
                }
            });
            let opened = open(linked.path());
            stop.store(true, Ordering::Relaxed);
            opened
        });
        let database = opened?;
        let left = allocations::live_bytes();
        drop(database);
        Ok(Some(Memory {
            most: most.into_inner().max(left).saturating_sub(before),
            left: left.saturating_sub(before),
        }))
    }
}

fn open(directory: &Path) -> Result<Database, EngineError> {
    Ok(Database::builder().path(directory).checkpoint_bytes(None).open()?)
}

fn put_in_turn(
    database: &Database,
    names: &KeySet,
    numbers: std::ops::RangeInclusive<u64>,
    last: &mut [u64],
) -> Result<(), EngineError> {
    for number in numbers {
        let key = (number - 1) as usize % last.len();
        database.put(RUN, names.bytes(key), number.to_le_bytes())?;
        last[key] = number;
    }
    Ok(())
}

/// A slice that was one opening.
fn timed(took: Duration, records: usize) -> Sample {
    let seconds = took.as_secs_f64();
    Sample {
        rate: records as f64 / seconds,
        // The time of one operation, and the operation is to open.
        mean_ns: seconds * 1e9,
        latency: None,
        operations: records as u64,
        aborts: 0,
        pinned: false,
        defect: None,
    }
}

/// The files of a directory, sorted.
fn files(directory: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Asks the kernel to drop the files of a directory from its cache. They were synced, so that it may.
fn drop_from_cache(directory: &Path) -> Result<(), EngineError> {
    for path in files(directory)? {
        let file = File::open(path)?;
        fadvise(&file, 0, None, Advice::DontNeed).map_err(std::io::Error::from)?;
    }
    Ok(())
}

/// An estimate's figure, unless others were too busy for it, or a side was left out.
fn drawn(
    options: &Options,
    samples: &Campaign<Task>,
    tasks: &[Task],
    estimate: impl FnOnce() -> Result<Estimate, String>,
) -> Figure {
    for task in tasks {
        if !options.wants(task.side) {
            return Figure::not_measurable(format!("{} was left out by --only", task.side));
        }
        if !samples.tasks().any(|known| known == task) {
            return Figure::not_measurable(format!("{} was not run", task.side));
        }
    }
    let quiet = tasks
        .iter()
        .try_for_each(|task| quiet::check(samples, rests(task.records)));
    figure(quiet.and_then(|()| estimate()))
}

fn outcomes(options: &Options, samples: &Campaign<Task>) -> Vec<Outcome> {
    let at = |side, records| Task {
        records,
        cold: false,
        side,
    };
    let target = |id: String, name: &str, records, unit, direction, threshold| Target {
        id,
        kind: Kind::Aim,
        name: name.to_owned(),
        keys: records,
        threads: 1,
        unit,
        direction,
        threshold,
    };
    let mut outcomes = Vec::new();
    for records in options.keys.iter().copied() {
        let log = at(LOG, records);
        let rate = drawn(options, samples, &[log], || samples.estimate(log, Metric::Rate));
        let id = format!("recovery_rate_{records}");
        let name = "records recovered per second";
        outcomes.push(target(id, name, records, "ops/s", Direction::AtLeast, RECORDS_PER_SECOND).judge(rate));
        let checkpoint = at(CHECKPOINT, records);
        let saved = drawn(options, samples, &[checkpoint, log], || {
            samples.ratio(checkpoint, log, Metric::Mean)
        });
        let id = format!("recovery_checkpoint_{records}");
        let name = "time to open with a checkpoint over that without";
        outcomes.push(target(id, name, records, "ratio", Direction::AtMost, CHECKPOINT_SHARE).judge(saved));
    }
    if let [short, .., long] = options.keys[..] {
        let (one, other) = (at(LOG, long), at(LOG, short));
        let growth = drawn(options, samples, &[one, other], || {
            let (one, other) = (samples.values(one, Metric::Rate)?, samples.values(other, Metric::Rate)?);
            // Of two campaigns: their rounds were not the same, and the interval is so much the wider.
            paired_ratio(&other, &one, samples.seed()).ok_or_else(|| "no rounds were made".to_owned())
        });
        let name = "time per record of the longest log over that of the shortest";
        let id = format!("recovery_growth_{long}");
        outcomes.push(target(id, name, long, "ratio", Direction::AtMost, GROWTH).judge(growth));
    }
    outcomes
}

fn section(options: &Options, samples: &Campaign<Task>, scales: &Scales) -> Section {
    let mebibytes = |bytes: f64| units::digits(bytes / f64::from(1 << 20));
    let mut rows = Vec::new();
    for (records, facts) in scales {
        for side in SIDES.into_iter().filter(|side| options.wants(side)) {
            let source = if side == READ { LOG } else { side };
            let Some(known) = facts.get(source) else { continue };
            let (looked_at, bytes, memory) = (known.records, known.bytes, known.memory);
            for cold in [false, true] {
                let task = Task {
                    records: *records,
                    cold,
                    side,
                };
                let quiet = quiet::check(samples, rests(*records));
                let time = quiet.and_then(|()| samples.estimate(task, Metric::Mean));
                let per_second = |amount: f64| {
                    time.as_ref()
                        .map_or_else(|_| "-".to_owned(), |time| units::digits(amount / (time.median / 1e9)))
                };
                let memory = memory.filter(|_| side != READ && !cold);
                let of_memory =
                    |of: fn(Memory) -> u64| memory.map_or_else(String::new, |memory| mebibytes(of(memory) as f64));
                rows.push(vec![
                    side.to_owned(),
                    if cold { "cold" } else { "cached" }.to_owned(),
                    units::keys(*records as u64),
                    units::keys(looked_at as u64),
                    mebibytes(bytes as f64),
                    time.as_ref().map_or_else(
                        |_| "invalid".to_owned(),
                        |time| {
                            format!(
                                "{} [{}, {}]",
                                units::value(time.median, "ns"),
                                units::value(time.low, "ns"),
                                units::value(time.high, "ns")
                            )
                        },
                    ),
                    per_second(looked_at as f64 / 1e6),
                    per_second(bytes as f64 / 1e6),
                    of_memory(|memory| memory.most),
                    of_memory(|memory| memory.left),
                ]);
            }
        }
    }
    Section {
        title: "Opening a database".to_owned(),
        text: "Records are the puts that were made, and those that opening has to look at; memory is the allocator's, the most \
               while it opens and what is left when it is open."
            .to_owned(),
        header: [
            "side",
            "files",
            "records",
            "looked at",
            "MiB",
            "time [95 %]",
            "M records/s",
            "MB/s",
            "most MiB",
            "left MiB",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::bed::Defect;

    fn is_wrong(sample: &Sample) -> bool {
        matches!(sample.defect, Some(Defect::Wrong(_)))
    }

    // Goal: an opening that lost something, or brought back too much, is no figure. Method: a log, held to other contents
    // than it has, and one whose files are not there.
    #[test]
    fn opening_is_held_to_what_was_put() {
        let parent = std::env::temp_dir();
        let names = KeySet::new(200, 1);
        let log = |keys| Prepared::log(&parent, &names, keys).expect("there is room");
        let checkpoint = Prepared::checkpoint(&parent, &names).expect("there is room");
        for (mut prepared, keys, records) in [(log(200), 200, 200), (log(20), 20, 200), (checkpoint, 200, 2)] {
            assert_eq!((prepared.last.len(), prepared.records), (keys, records));
            for cold in [false, true] {
                let sample = prepared.open_once(&parent, &names, cold);
                assert!(!is_wrong(&sample), "{:?}", sample.defect);
                assert!(sample.rate > 0.0 && sample.operations == records as u64);
                assert!(!is_wrong(&prepared.read_once(cold)));
            }
            let last = prepared.last.clone();
            prepared.last[7] += 1;
            assert!(is_wrong(&prepared.open_once(&parent, &names, false)), "another value");
            prepared.last = last[1..].to_vec();
            assert!(is_wrong(&prepared.open_once(&parent, &names, false)), "other keys");
            prepared.last = last;
            prepared.last.pop();
            assert!(is_wrong(&prepared.open_once(&parent, &names, false)), "a key too many");
        }
    }

    #[test]
    fn a_directory_is_opened_again_as_it_was() {
        let parent = std::env::temp_dir();
        let names = KeySet::new(50, 1);
        let prepared = Prepared::log(&parent, &names, 50).expect("there is room");
        let before = files(prepared.directory.path()).expect("it is there");
        for _ in 0..2 {
            assert!(!is_wrong(&prepared.open_once(&parent, &names, false)));
        }
        assert_eq!(files(prepared.directory.path()).expect("it is there"), before);
        assert!(before.iter().all(|path| path.exists()));
    }
}
