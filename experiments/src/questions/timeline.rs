//! Watches a store over time: writers overwrite its keys, and one thread looks at what it holds.
//!
//! ```text
//!   writers   overwrite, each its own keys ............................. until told, or so many times
//!   director  look  look  look | something happens | look  look  look |  done: the store is checked
//! ```
//!
//! The director is the calling thread. What it does between looks is the question's own: it opens a snapshot, lets a
//! thread stall, lets it go. Looking costs the store a read of its counters; the looking thread sleeps in between and is
//! not pinned to a processor, nor are the writers. When the writers are done, every key must hold its writer's last
//! value.
#![forbid(unsafe_code)]

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use unlatched::{Key, Stats};

use super::bed::Ground;
use super::combinations::Combination;
use super::contenders::locked::encoded;
use crate::allocations;
use crate::report::csv;
use crate::report::svg::{Curve, Plot};
use crate::workload::Stream;
use crate::workload::random::{Random, split_mix};
use crate::workload::verify::{last_values, loaded_value};

/// Overwrites between two looks of a writer at whether it shall stop.
const BATCH: u64 = 64;

/// What was seen at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Since the writers began.
    pub seconds: f64,
    /// What was going on.
    pub stage: &'static str,
    /// Overwrites so far, of all writers.
    pub overwrites: u64,
    /// Versions in chains.
    pub live_versions: u64,
    /// Snapshots that were open.
    pub open_snapshots: u64,
    /// Versions retired and not yet freed.
    pub pending_versions: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Bytes that the process holds; `None` if its allocator does not count.
    pub live_bytes: Option<u64>,
    /// The process's resident memory; `None` where the system does not tell.
    pub resident_bytes: Option<u64>,
}

/// What was seen of one side.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// The side.
    pub side: &'static str,
    /// Keys in its store.
    pub keys: usize,
    /// Writers.
    pub threads: usize,
    /// Every look.
    pub looks: Vec<Look>,
}

/// A loaded store, and who overwrites it.
pub struct Scene<C> {
    /// The store.
    pub store: C,
    /// Its keys.
    pub keys: Vec<Key>,
    /// Writers.
    pub threads: usize,
}

impl<C> std::fmt::Debug for Scene<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl<C: Combination> Scene<C> {
    /// Opens and loads a store.
    #[must_use]
    pub fn new(ground: &Ground, threads: usize) -> Self {
        let store = C::open();
        let keys = encoded(ground.names());
        for (number, key) in keys.iter().enumerate() {
            store.put(key, &loaded_value(number).to_le_bytes());
        }
        Self { store, keys, threads }
    }

    /// Lets the writers overwrite, `limit` times each or until the director is done, and `direct` watch them.
    ///
    /// # Errors
    ///
    /// If a key does not hold what was written last.
    pub fn play(
        &self,
        limit: Option<u64>,
        seed: u64,
        direct: impl FnOnce(&mut Director<'_, C>),
    ) -> Result<Timeline, String> {
        let running = Running {
            written: AtomicU64::new(0),
            at_work: AtomicUsize::new(self.threads),
            stop: AtomicBool::new(false),
        };
        let (looks, wrote) = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..self.threads)
                .map(|thread| {
                    scope.spawn({
                        let running = &running;
                        move || self.write(thread, limit, seed, running)
                    })
                })
                .collect();
            // Tells the writers to stop however the director ends.
            let stop = StopWhenDropped(&running);
            let mut director = Director {
                scene: self,
                running: &running,
                begun: Instant::now(),
                looks: Vec::new(),
            };
            direct(&mut director);
            drop(stop);
            let wrote: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            (director.looks, wrote)
        });
        for (thread, wrote) in wrote.into_iter().enumerate() {
            let (operations, stream) = wrote.map_err(|_| format!("writer {thread} panicked"))?;
            self.check(thread, operations, &stream, seed)?;
        }
        Ok(Timeline {
            side: C::NAME,
            keys: self.keys.len(),
            threads: self.threads,
            looks,
        })
    }

    fn write(&self, thread: usize, limit: Option<u64>, seed: u64, running: &Running) -> (u64, Stream) {
        let own = (self.keys.len() - thread).div_ceil(self.threads);
        let mut stream = Stream::uniform(own, &mut Random::new(seed ^ split_mix(thread as u64)));
        let mut number = 0;
        let limit = limit.unwrap_or(u64::MAX);
        // ORDERING: Relaxed throughout, flags and counts that publish nothing.
        while number < limit && !running.stop.load(Ordering::Relaxed) {
            let batch = BATCH.min(limit - number);
            for _ in 0..batch {
                number += 1;
                let key = &self.keys[thread + stream.advance() * self.threads];
                self.store
                    .put(key, &tag(seed, thread).wrapping_add(number).to_le_bytes());
            }
            running.written.fetch_add(batch, Ordering::Relaxed);
        }
        allocations::tell();
        running.at_work.fetch_sub(1, Ordering::Relaxed);
        (number, stream)
    }

    fn check(&self, thread: usize, operations: u64, stream: &Stream, seed: u64) -> Result<(), String> {
        for (own, value) in last_values(operations, tag(seed, thread), false, stream.period()) {
            let key = thread + own * self.threads;
            let found = self.read(key);
            if found != Some(value) {
                return Err(format!(
                    "lost update: key {key} holds {found:?}, but {value} was written last"
                ));
            }
        }
        Ok(())
    }

    fn read(&self, key: usize) -> Option<u64> {
        self.store
            .get_with(&self.keys[key], |bytes| bytes.try_into().map(u64::from_le_bytes).ok())?
    }
}

fn tag(seed: u64, thread: usize) -> u64 {
    split_mix(seed ^ split_mix(thread as u64 + 1))
}

/// What writers and director share.
struct Running {
    written: AtomicU64,
    at_work: AtomicUsize,
    stop: AtomicBool,
}

struct StopWhenDropped<'a>(&'a Running);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed, it has to be seen some time.
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Looks at a store while its writers are at work.
pub struct Director<'a, C> {
    /// What is watched.
    pub scene: &'a Scene<C>,
    running: &'a Running,
    begun: Instant,
    looks: Vec<Look>,
}

impl<C> std::fmt::Debug for Director<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Director")
            .field("looks", &self.looks.len())
            .finish_non_exhaustive()
    }
}

impl<C: Combination> Director<'_, C> {
    /// Looks every so often, for a time.
    pub fn look_for(&mut self, stage: &'static str, time: Duration, every: Duration) {
        let until = Instant::now() + time;
        self.look(stage);
        while Instant::now() < until {
            std::thread::sleep(every);
            self.look(stage);
        }
    }

    /// Looks every so often, until so many more overwrites were made or the time is over; returns whether they were made.
    pub fn look_over(&mut self, stage: &'static str, overwrites: u64, at_most: Duration, every: Duration) -> bool {
        let (until, from) = (Instant::now() + at_most, self.written());
        self.look(stage);
        while self.written() < from + overwrites {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(every);
            self.look(stage);
        }
        true
    }

    /// Returns how many overwrites were made so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        // ORDERING: Relaxed, a count that publishes nothing.
        self.running.written.load(Ordering::Relaxed)
    }

    /// Looks every so often, until the writers have done what they were to do.
    pub fn look_until_done(&mut self, stage: &'static str, every: Duration) {
        self.look(stage);
        // ORDERING: Relaxed, as in `Scene::write`; joining the writers orders what they did.
        while self.running.at_work.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(every);
            self.look(stage);
        }
    }

    fn look(&mut self, stage: &'static str) {
        let stats: Stats = self.scene.store.stats();
        self.looks.push(Look {
            seconds: self.begun.elapsed().as_secs_f64(),
            stage,
            overwrites: self.written(),
            live_versions: stats.live_versions,
            open_snapshots: stats.open_snapshots,
            pending_versions: stats.pending_versions,
            pending_bytes: stats.pending_bytes,
            live_bytes: allocations::is_counting().then(allocations::live_bytes),
            resident_bytes: resident_bytes(),
        });
    }
}

/// Returns the process's resident memory.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

impl Timeline {
    /// Returns the looks of one stage.
    pub fn stage(&self, stage: &str) -> impl Iterator<Item = &Look> {
        self.looks.iter().filter(move |look| look.stage == stage)
    }

    /// Returns the most of something within a stage.
    #[must_use]
    pub fn most(&self, stage: &str, of: impl Fn(&Look) -> u64) -> Option<u64> {
        self.stage(stage).map(of).max()
    }

    /// Returns how many overwrites were made between the first look of a stage and the last.
    #[must_use]
    pub fn written(&self, stage: &str) -> u64 {
        let ends = self.stage(stage).next().zip(self.stage(stage).last());
        ends.map_or(0, |(first, last)| last.overwrites - first.overwrites)
    }

    /// Returns how many overwrites a second were made within a stage.
    #[must_use]
    pub fn rate(&self, stage: &str) -> Option<f64> {
        let (first, last) = (self.stage(stage).next()?, self.stage(stage).last()?);
        let seconds = last.seconds - first.seconds;
        (seconds > 0.0).then(|| self.written(stage) as f64 / seconds)
    }

    /// Returns something over time as a curve.
    pub fn curve(&self, of: impl Fn(&Look) -> f64) -> Curve {
        Curve {
            name: format!("{} {}t", self.side, self.threads),
            points: self.looks.iter().map(|look| (look.seconds, of(look))).collect(),
        }
    }
}

/// Columns of a time series.
const COLUMNS: [&str; 12] = [
    "side",
    "keys",
    "threads",
    "seconds",
    "stage",
    "overwrites",
    "live_versions",
    "open_snapshots",
    "pending_versions",
    "pending_bytes",
    "live_bytes",
    "resident_bytes",
];

/// Returns every look of every side as CSV.
#[must_use]
pub fn series(timelines: &[Timeline]) -> String {
    let optional = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let rows = timelines.iter().flat_map(|timeline| {
        timeline.looks.iter().map(move |look| {
            vec![
                timeline.side.to_owned(),
                timeline.keys.to_string(),
                timeline.threads.to_string(),
                format!("{:.6}", look.seconds),
                look.stage.to_owned(),
                look.overwrites.to_string(),
                look.live_versions.to_string(),
                look.open_snapshots.to_string(),
                look.pending_versions.to_string(),
                look.pending_bytes.to_string(),
                optional(look.live_bytes),
                optional(look.resident_bytes),
            ]
        })
    });
    csv::render(&COLUMNS, rows)
}

/// Plots something over time, a curve per side, of the runs with so many keys and the most writers.
#[must_use]
pub fn plot(timelines: &[Timeline], keys: usize, title: &str, up: &str, of: impl Fn(&Look) -> f64) -> String {
    let of_size = || timelines.iter().filter(|timeline| timeline.keys == keys);
    let threads = of_size().map(|timeline| timeline.threads).max().unwrap_or(1);
    let chosen: Vec<&Timeline> = of_size().filter(|timeline| timeline.threads == threads).collect();
    let marks = chosen.first().map_or_else(Vec::new, |timeline| {
        let turns = timeline.looks.windows(2).filter(|pair| pair[0].stage != pair[1].stage);
        turns.map(|pair| (pair[1].seconds, pair[1].stage.to_owned())).collect()
    });
    Plot {
        title: title.to_owned(),
        across: "seconds".to_owned(),
        up: up.to_owned(),
        curves: chosen.iter().map(|timeline| timeline.curve(&of)).collect(),
        marks,
    }
    .render()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::questions::combinations::{NAMES, Visitor, tour};

    /// A look at a moment, with so many versions in chains and pending.
    pub(crate) fn look(seconds: f64, stage: &'static str, live_versions: u64, pending_versions: u64) -> Look {
        Look {
            seconds,
            stage,
            overwrites: (seconds * 1_000.0) as u64,
            live_versions,
            open_snapshots: 1,
            pending_versions,
            pending_bytes: pending_versions * 64,
            live_bytes: None,
            resident_bytes: Some(1),
        }
    }

    #[test]
    fn series_and_plot_hold_every_look() {
        let timeline = Timeline {
            side: "a+b",
            keys: 10,
            threads: 2,
            looks: vec![
                look(0.0, "before", 10, 0),
                look(1.0, "before", 12, 5),
                look(2.0, "after", 11, 3),
            ],
        };
        assert_eq!(timeline.most("before", |look| look.live_versions), Some(12));
        assert_eq!(timeline.most("never", |look| look.live_versions), None);
        assert_eq!(timeline.rate("before"), Some(1_000.0));
        let lines = csv::parse(&series(std::slice::from_ref(&timeline))).expect("it is CSV");
        assert_eq!(
            (lines.len(), lines[0].len(), &*lines[3][4]),
            (4, COLUMNS.len(), "after")
        );
        let picture = plot(&[timeline], 10, "t", "versions", |look| look.live_versions as f64);
        assert!(picture.contains("a+b 2t") && picture.contains(">after<"), "{picture}");
    }

    #[test]
    fn writers_stop_when_told_or_done_and_are_checked() {
        struct Check(usize);
        impl Visitor for Check {
            type Error = String;

            fn visit<C: Combination>(&mut self) -> Result<(), String> {
                let scene = Scene::<C>::new(&Ground::new(50, 1), 2);
                let every = Duration::from_millis(1);
                let done = scene.play(Some(500), 7, |director| director.look_until_done("done", every))?;
                assert_eq!(done.looks.last().map(|look| look.overwrites), Some(1_000));
                let told = scene.play(None, 8, |director| director.look_for("told", 4 * every, every))?;
                assert!(told.looks.len() > 1);
                self.0 += 1;
                Ok(())
            }
        }
        let mut check = Check(0);
        tour(&mut check).expect("nothing is lost");
        assert_eq!(check.0, NAMES.len());
    }

    #[test]
    fn process_has_resident_memory() {
        if cfg!(target_os = "linux") {
            assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 16));
        }
    }
}
