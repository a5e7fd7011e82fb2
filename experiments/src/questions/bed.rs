//! One contender, open and loaded, measured slice by slice; and what every slice must have left behind.
//!
//! All threads of a slice work on the same keys. Where they write, key `k` belongs to thread `k mod threads`, so that
//! each key has one writer and its last value follows from that thread's count alone; contended transactions count
//! upwards instead, and the sum must come out. The bed's own ledger says what is stored: gets and scans are compared
//! with it by checksum, the store's contents after each writing slice key by key. A slice that lost an update, or read
//! something that was never written, is no figure.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::contenders::{CONTENDED_KEYS, Contender, Operation, SCAN_LENGTH, Scanned, Session};
use super::drive::{Drive, Report, Streams};
use super::{Effort, Task};
use crate::engines::EngineError;
use crate::gates::bed::Sample;
use crate::harness::rounds::Round;
use crate::harness::threads::{Outcome, Plan, run};
use crate::workload::random::{Random, split_mix};
use crate::workload::verify::{Ledger, last_values, loaded_value, term};
use crate::workload::{KeySet, Stream};

/// The key that all threads read when one key is hot.
pub const HOT_KEY: usize = 0;

/// What all beds of one size share: the keys' names and their order.
#[derive(Debug)]
pub struct Ground {
    names: KeySet,
    /// Indices of the keys, ascending by key.
    sorted: Vec<u32>,
    /// The place of each key in `sorted`.
    place: Vec<u32>,
}

impl Ground {
    /// Makes `count` keys.
    ///
    /// # Panics
    ///
    /// If there are more than `u32::MAX`, which no caller asks for.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        let names = KeySet::new(count, seed);
        let mut sorted: Vec<u32> = (0..u32::try_from(count).expect("at most u32::MAX keys")).collect();
        sorted.sort_unstable_by_key(|key| names.bytes(*key as usize));
        let mut place = vec![0; count];
        for (position, key) in (0..).zip(&sorted) {
            place[*key as usize] = position;
        }
        Self { names, sorted, place }
    }

    /// Returns the keys.
    #[must_use]
    pub fn names(&self) -> &KeySet {
        &self.names
    }

    /// Returns how many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Says whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

/// A bed of whatever contender; what [`Bed`] is without its type.
pub trait AnyBed: Sync {
    /// The contender's name.
    fn name(&self) -> &'static str;

    /// Says whether it can do `operation`.
    fn can(&self, operation: Operation) -> bool;

    /// Measures one slice and checks what it left and what it read.
    fn slice(&self, task: Task, round: Round) -> Sample;
}

/// One contender and what is known about its contents.
pub struct Bed<C: Contender> {
    store: C,
    keys: C::Keys,
    ground: Arc<Ground>,
    effort: Effort,
    ledger: Mutex<Ledger>,
}

impl<C: Contender> std::fmt::Debug for Bed<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bed").field("name", &C::NAME).finish_non_exhaustive()
    }
}

impl<C: Contender> Bed<C> {
    /// Opens a contender and loads it.
    ///
    /// # Errors
    ///
    /// Returns what it refused.
    pub fn new(ground: &Arc<Ground>, effort: Effort) -> Result<Self, EngineError> {
        let keys = C::prepare(&ground.names);
        let store = C::open(ground.len())?;
        let mut session = store.session(&keys)?;
        (0..ground.len()).try_for_each(|key| session.insert(key, loaded_value(key)))?;
        drop(session);
        Ok(Self {
            store,
            keys,
            ground: Arc::clone(ground),
            effort,
            ledger: Mutex::new(Ledger::loaded(ground.len())),
        })
    }

    fn contended_keys(&self) -> usize {
        self.ground.len().min(CONTENDED_KEYS)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self, task: Task, round: Round, thread: usize) -> Streams {
        let mut random = Random::new(round.seed ^ split_mix(thread as u64));
        let all = self.ground.len();
        // A key belongs to one thread; there are at least as many keys as threads (`Options` sees to it).
        let own = (all - thread).div_ceil(task.threads);
        let mut uniform = |keys| Stream::uniform(keys, &mut random);
        let (reads, writes) = match task.operation {
            Operation::Get | Operation::Scan => (uniform(all), Stream::constant(0)),
            Operation::HotGet => (Stream::constant(HOT_KEY), Stream::constant(0)),
            Operation::Overwrite | Operation::Insert => (Stream::constant(0), uniform(own)),
            Operation::ReadWrite => (uniform(all), uniform(own)),
            Operation::Contended => (Stream::constant(0), uniform(self.contended_keys())),
        };
        let shared = task.operation == Operation::Contended;
        Streams {
            reads,
            writes,
            first: if shared { 0 } else { thread },
            step: if shared { 1 } else { task.threads },
        }
    }

    fn plan(&self, task: Task, round: Round) -> Plan {
        match task.operation {
            Operation::Insert => Plan::counted((self.ground.len() / task.threads) as u64)
                .rotation(round.index)
                .busy_neighbours(Effort::neighbour_keys(self.ground.len())),
            Operation::HotGet => self.effort.plan(round, 1),
            _ => self.effort.plan(round, self.ground.len()),
        }
    }

    fn run_slice(&self, store: &C, task: Task, round: Round) -> Sample {
        let Some(threads) = NonZeroUsize::new(task.threads) else {
            return Sample::failed(&"no threads");
        };
        let streams: Vec<Streams> = (0..task.threads)
            .map(|thread| self.streams(task, round, thread))
            .collect();
        let outcome = run(&self.plan(task, round), threads, |thread| -> Result<_, EngineError> {
            let session = store.session(&self.keys)?;
            let tag = split_mix(round.seed ^ split_mix(task.tag())) ^ split_mix(thread as u64 + 1);
            Ok(Drive::new(session, task.operation, streams[thread].clone(), tag))
        });
        match outcome {
            Ok(outcome) => self.sample(store, task, outcome, &streams),
            Err(error) => Sample::failed(&error),
        }
    }

    fn sample(&self, store: &C, task: Task, outcome: Outcome<Report>, streams: &[Streams]) -> Sample {
        let mut sample = Sample::of(&outcome);
        let reports: Vec<Report> = outcome.threads.into_iter().map(|thread| thread.report).collect();
        sample.aborts = reports.iter().map(|report| report.aborts).sum();
        if let Err(reason) = self.check(store, task, &reports, streams) {
            sample.mark_wrong(&reason);
        }
        sample
    }

    /// Compares what was read and what is stored with what must be.
    fn check(&self, store: &C, task: Task, reports: &[Report], streams: &[Streams]) -> Result<(), String> {
        // Noted whether or not the store kept it. Inserts go to a store of their own, of which nothing is known.
        let shared = self.contended_keys();
        let written = match task.operation {
            Operation::Insert => note(&mut Ledger::loaded(self.ground.len()), shared, task, reports, streams),
            _ => note(&mut self.ledger(), shared, task, reports, streams),
        };
        reports.iter().try_for_each(Report::sound)?;
        match task.operation {
            Operation::Get | Operation::HotGet => self.check_gets(reports, streams),
            Operation::Scan => self.check_scans(reports, streams),
            _ => self.check_contents(store, &written),
        }
    }

    fn check_gets(&self, reports: &[Report], streams: &[Streams]) -> Result<(), String> {
        let ledger = self.ledger();
        for (report, streams) in reports.iter().zip(streams) {
            let expected = ledger.checksum(report.operations, streams.reads.period());
            if report.checksum != expected {
                return Err(format!(
                    "wrong value: what {} gets returned is not what was stored",
                    report.operations
                ));
            }
        }
        Ok(())
    }

    fn check_scans(&self, reports: &[Report], streams: &[Streams]) -> Result<(), String> {
        let ledger = self.ledger();
        let values: Vec<u64> = self
            .ground
            .sorted
            .iter()
            .map(|key| ledger.value(*key as usize))
            .collect();
        let of = |key: u32| {
            let mut scanned = Scanned::default();
            let from = self.ground.place[key as usize] as usize;
            values[from..]
                .iter()
                .take(SCAN_LENGTH)
                .for_each(|value| scanned.add(*value));
            term(key as usize, scanned.digest.wrapping_add(scanned.entries))
        };
        for (report, streams) in reports.iter().zip(streams) {
            let period = streams.reads.period();
            let sum = |keys: &[u32]| keys.iter().fold(0_u64, |sum, key| sum.wrapping_add(of(*key)));
            let (whole, rest) = (
                report.operations / period.len() as u64,
                report.operations % period.len() as u64,
            );
            let rounds = if whole == 0 { 0 } else { whole.wrapping_mul(sum(period)) };
            if report.checksum != rounds.wrapping_add(sum(&period[..rest as usize])) {
                return Err(format!(
                    "wrong scan: what {} scans read is not what was stored",
                    report.operations
                ));
            }
        }
        Ok(())
    }

    /// Reads every key that was written, and compares.
    fn check_contents(&self, store: &C, written: &[(usize, u64)]) -> Result<(), String> {
        let mut session = store.session(&self.keys).map_err(|error| error.to_string())?;
        let mut wrong = 0;
        let mut first = String::new();
        for (key, expected) in written {
            let found = session.get(*key).map_err(|error| error.to_string())?;
            if found != Some(*expected) {
                wrong += 1;
                if first.is_empty() {
                    first = format!("key {key} holds {found:?}, but {expected} was written last");
                }
            }
        }
        if wrong == 0 {
            Ok(())
        } else {
            Err(format!("lost update: {first} ({wrong} keys are wrong)"))
        }
    }
}

/// Notes in the ledger what the threads wrote, and returns it: each key once.
fn note(ledger: &mut Ledger, shared: usize, task: Task, reports: &[Report], streams: &[Streams]) -> Vec<(usize, u64)> {
    let mut written = Vec::new();
    match task.operation {
        Operation::Get | Operation::Scan | Operation::HotGet => {}
        Operation::Overwrite | Operation::Insert | Operation::ReadWrite => {
            for (report, streams) in reports.iter().zip(streams) {
                for (own, value) in last_values(report.operations, report.tag, false, streams.writes.period()) {
                    let key = streams.key(own);
                    ledger.set(key, value);
                    written.push((key, value));
                }
            }
        }
        Operation::Contended => {
            for key in 0..shared {
                let increments: u64 = reports
                    .iter()
                    .zip(streams)
                    .map(|(report, streams)| streams.writes.visits(key, report.operations))
                    .sum();
                let value = ledger.value(key).wrapping_add(increments);
                ledger.set(key, value);
                written.push((key, value));
            }
        }
    }
    written
}

impl<C: Contender> AnyBed for Bed<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn can(&self, operation: Operation) -> bool {
        C::can(operation)
    }

    fn slice(&self, task: Task, round: Round) -> Sample {
        if task.operation != Operation::Insert {
            return self.run_slice(&self.store, task, round);
        }
        match C::open(self.ground.len()) {
            Ok(store) => self.run_slice(&store, task, round),
            Err(error) => Sample::failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::gates::bed::Defect;
    use crate::questions::contenders::locked::{M3, TreeUnderLock};
    use crate::questions::contenders::unlatched::Unlatched;

    const KEYS: usize = 150;

    /// Says that it did everything, and loses one write in this many.
    const LOSES_ONE_IN: u64 = 50;

    /// A plain tree that goes wrong on purpose: it loses writes, and reads make values up once it was loaded.
    struct Broken {
        tree: TreeUnderLock,
        writes: AtomicU64,
    }

    struct BrokenSession<'a> {
        tree: <TreeUnderLock as Contender>::Session<'a>,
        writes: &'a AtomicU64,
    }

    impl BrokenSession<'_> {
        fn loses_this(&self) -> bool {
            let number = self.writes.fetch_add(1, Ordering::Relaxed);
            number > KEYS as u64 && number.is_multiple_of(LOSES_ONE_IN)
        }
    }

    impl Contender for Broken {
        const NAME: &'static str = "broken";
        type Keys = <TreeUnderLock as Contender>::Keys;
        type Session<'a> = BrokenSession<'a>;

        fn prepare(keys: &KeySet) -> Self::Keys {
            TreeUnderLock::prepare(keys)
        }

        fn open(capacity: usize) -> Result<Self, EngineError> {
            Ok(Self {
                tree: TreeUnderLock::open(capacity)?,
                writes: AtomicU64::new(0),
            })
        }

        fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<BrokenSession<'a>, EngineError> {
            Ok(BrokenSession {
                tree: self.tree.session(keys)?,
                writes: &self.writes,
            })
        }

        fn can(_: Operation) -> bool {
            true
        }
    }

    impl Session for BrokenSession<'_> {
        fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
            // A bit that no lost update can put back by chance.
            Ok(self
                .tree
                .get(key)?
                .map(|value| value ^ (u64::from(key == HOT_KEY) << 40)))
        }

        fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
            if self.loses_this() {
                Ok(())
            } else {
                self.tree.put(key, value)
            }
        }

        fn insert(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
            // A load is kept, a timed insert is not always.
            if value.is_multiple_of(7) && value > KEYS as u64 {
                Ok(())
            } else {
                self.tree.put(key, value)
            }
        }

        fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
            self.tree.scan(from, limit.min(SCAN_LENGTH - 1))
        }

        fn read_write(&mut self, read: usize, write: usize, value: u64) -> Result<(Option<u64>, u64), EngineError> {
            let found = self.tree.get(read)?;
            self.put(write, value)?;
            Ok((found, 0))
        }

        fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
            if self.loses_this() {
                Ok(1)
            } else {
                self.tree.increment(key)
            }
        }
    }

    fn slices<C: Contender>(threads: usize) -> Vec<(Operation, Sample)> {
        let ground = Arc::new(Ground::new(KEYS, 3));
        let bed = Bed::<C>::new(&ground, Effort::TINY).expect("it opens");
        let slice = |operation, index| {
            let task = Task {
                keys: KEYS,
                operation,
                threads,
                engine: C::NAME,
            };
            (
                operation,
                bed.slice(
                    task,
                    Round {
                        index,
                        seed: 11 + index as u64,
                    },
                ),
            )
        };
        // Twice, so that what one slice leaves is what the next one meets.
        (0..2)
            .flat_map(|index| Operation::ALL.map(|operation| slice(operation, index)))
            .collect()
    }

    fn is_wrong(sample: &Sample) -> bool {
        matches!(sample.defect, Some(Defect::Wrong(_)))
    }

    // Goal: no check passes by itself. Method: a side that goes wrong in every operation takes a sound one's place.
    #[test]
    fn side_that_goes_wrong_is_found_out_in_every_operation() {
        for threads in [1, 2] {
            for (operation, sample) in slices::<Broken>(threads) {
                assert!(is_wrong(&sample), "{operation} by {threads}: {:?}", sample.defect);
            }
        }
    }

    #[test]
    fn sound_side_is_not_accused() {
        for threads in [1, 2, 3] {
            let all = [slices::<Unlatched>(threads), slices::<M3>(threads)].concat();
            for (operation, sample) in all {
                assert!(!is_wrong(&sample), "{operation} by {threads}: {:?}", sample.defect);
                assert!(sample.operations > 0);
            }
        }
    }
}
