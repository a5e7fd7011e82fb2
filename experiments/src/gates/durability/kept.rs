//! What is there after a crash, and after a shutdown: statements that an engine can break.
//!
//! **Strict.** Threads write scripts ([`Script`]) and note how many of their writes were acknowledged. Then the engine is
//! left as it stands, open, and another one opens what a crash at this moment leaves: of a simulated disk that crashes
//! while the threads run, again and again, life after life; and of real directories, by copying them, when the threads have
//! stopped. Of every thread the new life must hold exactly what its first writes leave, all acknowledged ones among them.
//! And strict is what a database promises that is opened without a word about it, as it was in M3.
//!
//! **Shutdown.** Threads write with every durability that promises anything, one that nothing but the shutdown makes durable
//! among them, as fast as they can. After a shutdown, or a mere drop, all of it is there when the directory is opened
//! again; and once a shutdown has returned, a crash takes nothing of it.
//!
//! What the system refuses (a full disk) makes a check invalid; what the engine lost, or will not open, makes it fail.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use unlatched::{Durability, Error};

use crate::disk::medium::Medium;
use crate::disk::place::Place;
use crate::engines::durable::Durable;
use crate::engines::{EngineError, Layer, Session as _};
use crate::gates::sheet::Figure;
use crate::workload::random::Random;
use crate::workload::script::Script;
use crate::workload::{KeySet, run_id};

/// Threads that write. More than most machines' fair share for one database, so that several wait for one sync.
const THREADS: usize = 3;

/// Keys of each thread, and pairs, where lives are short: each is written often.
const FEW_KEYS: u64 = 40;

/// Keys of each thread, and pairs, where many writes are looked at once: few hide an earlier one.
const MANY_KEYS: u64 = 500;

/// Keys that are put through the facade before a shutdown.
const FACADE_KEYS: usize = 50;

/// Length of a segment: short, so that a run has many.
pub(super) const SEGMENT_BYTES: usize = 32 << 10;

/// Most acknowledged writes of a life before it is ended.
const LIFE: u64 = 60;

/// How long threads get for the writes of a life, in waits of [`LOOK`].
const LOOKS: u32 = 50_000;

/// From one look at the threads to the next.
const LOOK: Duration = Duration::from_micros(200);

/// Acknowledged when decided, and made durable by nothing but what is asked for.
pub(super) const LAZY: Durability = Durability::Buffered {
    flush_interval: Duration::from_secs(3_600),
    max_pending_writes: usize::MAX >> 1,
};

/// Why a statement does not hold, or cannot be decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The engine broke it.
    Broken(String),
    /// It could not be tried.
    Untried(String),
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        Self::Untried(error.to_string())
    }
}

/// A statement's figure, from what was found; `note` says what was tried.
pub(super) fn statement(found: Result<String, Trouble>) -> Figure {
    match found {
        Ok(note) => Figure::statement(true, note),
        Err(Trouble::Broken(why)) => Figure::statement(false, why),
        Err(Trouble::Untried(why)) => Figure::invalid(why),
    }
}

/// How much the checks try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trials {
    /// Lives of a simulated disk.
    pub lives: u64,
    /// Strict writes of each thread before a directory is copied.
    pub strict_writes: u64,
    /// Writes of each thread before a shutdown.
    pub writes: u64,
}

/// Opens what a place holds after a crash or a shutdown. That it opens is part of what is promised.
fn open_again<D: Durable>(place: &Place, durability: Durability) -> Result<D, Trouble> {
    D::open_at(place, durability).map_err(|error| match error {
        EngineError::Unlatched(Error::DiskFull { .. } | Error::ReadOnly { .. }) => error.into(),
        EngineError::Unlatched(refused) => {
            Trouble::Broken(format!("{} can't be opened again: {refused}", place.name()))
        }
        other => other.into(),
    })
}

fn scripts(seed: u64, keys: u64) -> [Script; THREADS] {
    std::array::from_fn(|thread| Script::new(seed, thread, keys))
}

/// Tries whether Strict loses nothing that was acknowledged; says what was tried.
pub(super) fn strict<D: Durable>(parent: &Path, trials: Trials, seed: u64) -> Result<String, Trouble> {
    if D::default_durability() != Durability::Strict {
        return Err(Trouble::Broken(
            "a database that is opened without a word about durability is not strict".to_owned(),
        ));
    }
    let simulated = Place::simulated(seed).segment_bytes(SEGMENT_BYTES);
    let mut acknowledged = lives::<D>(simulated, trials.lives, seed)?;
    let places = [Place::mapped(parent)?, Place::positioned(parent)?];
    for place in places.map(|place| place.segment_bytes(SEGMENT_BYTES)) {
        acknowledged += copied::<D>(&place, trials.strict_writes, seed)?;
    }
    let medium = Medium::of(parent).map_or_else(|| "an unknown file system".to_owned(), |medium| medium.file_system);
    Ok(format!(
        "{acknowledged} acknowledged writes of {THREADS} threads, none lost in {} crashes of a simulated disk and two of \
         directories on {medium} that were not closed; strict by default, as M3 was",
        trials.lives
    ))
}

/// Ends life after life of a simulated disk while threads write, and opens the next on what the crash left. Returns how
/// many writes were acknowledged.
pub(super) fn lives<D: Durable>(mut place: Place, lives: u64, seed: u64) -> Result<u64, Trouble> {
    let scripts = scripts(seed, FEW_KEYS);
    let mut random = Random::new(seed);
    let mut written = [0; THREADS];
    let mut acknowledged = 0;
    for life in 0..lives {
        let engine = open_again::<D>(&place, Durability::Strict)?;
        let wanted = 1 + random.next_u64() % LIFE;
        let crash_seed = random.next_u64() << 1 | life & 1;
        let (left, possible) = crash_while_writing(&engine, &place, &scripts, written, wanted, crash_seed)?;
        acknowledged += possible
            .iter()
            .zip(written)
            .map(|((from, _), before)| from - before)
            .sum::<u64>();
        let next = open_again::<D>(&left, Durability::Strict)?;
        for ((script, (from, to)), written) in scripts.iter().zip(possible).zip(&mut written) {
            *written = script.find(&next, from..=to).map_err(|why| {
                Trouble::Broken(format!("crash {life} (seed {crash_seed}) of {}: {why}", place.name()))
            })?;
        }
        drop((next, engine));
        place = left;
    }
    Ok(acknowledged)
}

/// Lets threads go on with their scripts until `wanted` more writes were acknowledged of all together, crashes, and stops
/// them. Returns what the crash left, and of each thread how many writes were acknowledged before it, and begun at most.
fn crash_while_writing<D: Durable>(
    engine: &D,
    place: &Place,
    scripts: &[Script; THREADS],
    written: [u64; THREADS],
    wanted: u64,
    crash_seed: u64,
) -> Result<(Place, [(u64, u64); THREADS]), Trouble> {
    let stop = AtomicBool::new(false);
    let begun = written.map(AtomicU64::new);
    let acknowledged = written.map(AtomicU64::new);
    // ORDERING: SeqCst, all: what is read before the crash was acknowledged before it, and what is read after it was begun
    // by then, whatever the crash is made of.
    let read = |counts: &[AtomicU64; THREADS]| counts.each_ref().map(|count| count.load(Ordering::SeqCst));
    thread::scope(|scope| {
        let writers: [_; THREADS] = std::array::from_fn(|thread| {
            let (script, stop) = (&scripts[thread], &stop);
            let (begun, acknowledged) = (&begun[thread], &acknowledged[thread]);
            scope.spawn(move || {
                let mut number = acknowledged.load(Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    begun.store(number, Ordering::SeqCst);
                    script.write(engine, number, Durability::Strict)?;
                    acknowledged.store(number, Ordering::SeqCst);
                }
                Ok::<_, EngineError>(())
            })
        });
        let before: u64 = written.iter().sum();
        for _ in 0..LOOKS {
            let all: u64 = read(&acknowledged).iter().sum();
            let is_dead = writers.iter().any(thread::ScopedJoinHandle::is_finished);
            if all - before >= wanted || is_dead {
                break;
            }
            thread::sleep(LOOK);
        }
        let from = read(&acknowledged);
        let left = place.crash(crash_seed);
        let to = read(&begun);
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            match writer.join() {
                Ok(written) => written?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok((left?, std::array::from_fn(|thread| (from[thread], to[thread]))))
    })
}

/// Lets threads write, all acknowledged, and opens a copy of the place while the engine is open. Returns how many writes
/// that were.
pub(super) fn copied<D: Durable>(place: &Place, writes: u64, seed: u64) -> Result<u64, Trouble> {
    let engine = D::open_at(place, Durability::Strict)?;
    let scripts = scripts(seed, MANY_KEYS);
    write_all(&engine, &scripts, writes, &[Durability::Strict])?;
    let left = place.crash(seed)?;
    let next = open_again::<D>(&left, Durability::Strict)?;
    holds(
        &next,
        &scripts,
        writes,
        &format!("a copy of {} that were not closed", place.name()),
    )?;
    drop(engine);
    Ok(writes * THREADS as u64)
}

/// Lets threads write, each `writes` times, with these durabilities in turn.
fn write_all<D: Durable>(
    engine: &D,
    scripts: &[Script; THREADS],
    writes: u64,
    durabilities: &[Durability],
) -> Result<(), EngineError> {
    thread::scope(|scope| {
        let writers: Vec<_> = scripts
            .iter()
            .map(|script| {
                scope.spawn(move || {
                    let mut durabilities = durabilities.iter().cycle().copied();
                    (1..=writes).try_for_each(|number| {
                        let durability = durabilities.next().unwrap_or(Durability::Strict);
                        script.write(engine, number, durability)
                    })
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Checks that of every thread all writes are there.
fn holds<D: Durable>(engine: &D, scripts: &[Script; THREADS], writes: u64, what: &str) -> Result<(), Trouble> {
    for script in scripts {
        script
            .find(engine, writes..=writes)
            .map_err(|why| Trouble::Broken(format!("{what}: {why}")))?;
    }
    Ok(())
}

/// How an engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ShutDown,
    Drop,
}

/// Tries whether a shutdown, or a drop, loses anything; says what was tried.
pub(super) fn shutdown<D: Durable>(parent: &Path, trials: Trials, seed: u64) -> Result<String, Trouble> {
    let promises = [Durability::BUFFERED, LAZY, Durability::Strict];
    for durability in promises {
        for end in [End::ShutDown, End::Drop] {
            // As fast as a device makes them durable, strict writes take too long.
            let writes = match durability {
                Durability::Strict => trials.strict_writes,
                _ => trials.writes,
            };
            reopened::<D>(&Place::mapped(parent)?, durability, writes, end, seed)?;
        }
    }
    let simulated = Place::simulated(seed).segment_bytes(SEGMENT_BYTES);
    let mixed = [LAZY, Durability::Strict, Durability::BUFFERED];
    let engine = D::open_at(&simulated, LAZY)?;
    let scripts = scripts(seed, MANY_KEYS);
    write_all(&engine, &scripts, trials.strict_writes, &mixed)?;
    engine.shut_down()?;
    // An even seed: nothing survives but what was made durable.
    let left = simulated.crash(seed << 1)?;
    drop(engine);
    let next = open_again::<D>(&left, LAZY)?;
    holds(&next, &scripts, trials.strict_writes, "a crash after a shutdown")?;
    let medium = Medium::of(parent).map_or_else(|| "an unknown file system".to_owned(), |medium| medium.file_system);
    Ok(format!(
        "{} writes of each of {THREADS} threads with every durability that promises anything, all there when opened again \
         on {medium}, after a shutdown and after a drop; and after a crash once the shutdown had returned",
        trials.writes
    ))
}

fn reopened<D: Durable>(
    place: &Place,
    durability: Durability,
    writes: u64,
    end: End,
    seed: u64,
) -> Result<(), Trouble> {
    let what = format!("{durability:?}, after {end:?}");
    let engine = D::open_at(place, durability)?;
    let scripts = scripts(seed, MANY_KEYS);
    let names = Arc::new(KeySet::new(FACADE_KEYS, seed));
    let run = run_id(seed, THREADS);
    write_all(&engine, &scripts, writes, &[durability])?;
    let space = engine.space(run, Arc::clone(&names));
    let mut session = engine.session(&space)?;
    (0..FACADE_KEYS).try_for_each(|key| session.facade_put(key, key as u64))?;
    drop(session);
    if end == End::ShutDown {
        engine.shut_down()?;
    }
    drop(space);
    drop(engine);
    let next = open_again::<D>(place, durability)?;
    holds(&next, &scripts, writes, &what)?;
    let space = next.space(run, names);
    let mut session = next.session(&space)?;
    for key in 0..FACADE_KEYS {
        let found = session.read(Layer::Facade, key)?;
        if found != Some(key as u64) {
            return Err(Trouble::Broken(format!(
                "{what}: key {key} of the facade holds {found:?} and not {key}"
            )));
        }
    }
    Ok(())
}
