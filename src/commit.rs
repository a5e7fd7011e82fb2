//! The engine behind the database, and the one place where the memory half and the disk half meet: a commit, step by
//! step.
//!
//! ```text
//!   1. judge      keys and values are possible, the database is open
//!   2. enlist     the log copies the record, before anything can be seen        Buffered, Strict
//!   3. link       the versions hang at the heads of their chains
//!   4. decide     PREPARED, a timestamp is drawn, COMMITTED(ts)                 visible from here on
//!   5. wait       until the durable cut is at ts                                Strict
//! ```
//!
//! Steps 3 and 4 are the store's, which calls back for step 2; step 5 is the log's, which calls back to learn how the writes
//! that it recorded stand. A transaction that waits in step 5 has then everything durable that it read, since a cut covers
//! all smaller timestamps.
//!
//! # Writes without a record
//!
//! In a database with a log an operation may be overridden to be in memory alone. What recovery restores is what the other
//! operations alone would have left: an older value that has a record comes back. What was at the cut of a checkpoint is in
//! it, with or without a record, and nothing older comes back. Deleting an absent key writes nothing, and
//! that is right only if whatever deleted it has a record; so from the first such override on, deletes that have one
//! always write it.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::{Log, Pending, Pinned, Place};
use crate::mvcc::{
    Chain, Clock, Conflicting, DefaultStore, Deleted, Enlist, Guard, Index, LogView, OpenSnapshot, Reclaim, Refused,
    VersionedStore, Writes,
};
use crate::options::Durability;
use crate::sync::{AtomicBool, AtomicU64, order};
use crate::types::{Enlisted, Fate, Key, MAX_KEY_BYTES, MAX_VALUE_BYTES, Timestamp};

/// What a database, its snapshots and its transactions share.
pub(crate) struct Engine {
    store: DefaultStore,
    durable: Option<Durable>,
    default: Durability,
    open: AtomicBool,
}

/// What a database has that can keep something.
pub(crate) struct Durable {
    log: Log,
    /// A write without a record was made.
    has_unlisted: AtomicBool,
    /// Rung when a flush is due before its time.
    bell: Bell,
    /// The shortest flush interval that was asked for, in nanoseconds.
    interval_ns: AtomicU64,
    /// About how many writes without a record were made: a flush moves the cut, behind which their garbage is held.
    unlisted: AtomicU64,
}

/// Wakes the thread that flushes. No part of a protocol, since all that depends on it is when: its lock is the standard one
/// in models too, which have no time to wait out.
pub(crate) struct Bell {
    rung: AtomicBool,
    lock: std::sync::Mutex<()>,
    heard: std::sync::Condvar,
}

impl Bell {
    /// Returns a bell that is silent.
    pub(crate) fn new() -> Self {
        Self {
            rung: AtomicBool::new(false),
            lock: std::sync::Mutex::new(()),
            heard: std::sync::Condvar::new(),
        }
    }

    /// Wakes whoever listens, unless that was done and not heard yet. Wakes nobody twice, so that the hot path pays a load.
    #[inline]
    pub(crate) fn ring(&self) {
        // ORDERING: Relaxed; a bell that is heard late is heard at the next tick.
        if !self.rung.load(order::COUNT) {
            self.ring_now();
        }
    }

    /// Wakes whoever listens.
    #[cold]
    pub(crate) fn ring_now(&self) {
        let _held = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // ORDERING: Relaxed; the lock orders it against the listener.
        self.rung.store(true, order::COUNT);
        self.heard.notify_all();
    }

    /// Waits until the bell rings, or for as long as `timeout`; says whether it rang.
    pub(crate) fn listen(&self, timeout: Duration) -> bool {
        let held = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // ORDERING: Relaxed, both; as in `ring_now`.
        let silent = |_: &mut ()| !self.rung.load(order::COUNT);
        let waited = self.heard.wait_timeout_while(held, timeout, silent);
        let _held = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        self.rung.swap(false, order::COUNT)
    }
}

/// One write's way into the log.
#[allow(unreachable_pub, reason = "shown through `internals`")]
pub struct Recorder<'l> {
    log: &'l Log,
    /// Records that waited when this one was appended.
    waiting: u64,
}

impl<'l> Recorder<'l> {
    /// Returns a way into `log`.
    #[must_use]
    pub fn new(log: &'l Log) -> Self {
        Self { log, waiting: 0 }
    }
}

impl Enlist for Recorder<'_> {
    const ENLISTS: bool = true;

    type Error = Error;

    type Place<'g>
        = Place<'g>
    where
        Self: 'g;

    #[inline]
    fn enlist<'g, 'w>(
        &mut self,
        what: Enlisted,
        writes: impl Iterator<Item = (&'w [u8], Option<&'w [u8]>)> + Clone,
        guard: &'g impl Guard,
    ) -> Result<Place<'g>>
    where
        Self: 'g,
    {
        let log: &'g Log = self.log;
        let place = log.append(what, writes, guard)?;
        self.waiting = place.waiting();
        Ok(place)
    }

    fn withdraw<'g>(&mut self, what: Enlisted, place: Place<'g>)
    where
        Self: 'g,
    {
        place.withdraw(what);
    }
}

impl<I, R, C> Pending for VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    type Pinned<'p> = LogView<'p, I, R, C>;

    fn pin(&self) -> LogView<'_, I, R, C> {
        self.look_at_log()
    }

    fn draw_cut(&self) -> Timestamp {
        VersionedStore::draw_cut(self)
    }

    fn advance(&self, cut: Timestamp) {
        self.advance_durable_cut(cut);
    }
}

impl<'p, I, R, C> Pinned for LogView<'p, I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    type Guard = R::Guard<'p>;

    fn guard(&self) -> &R::Guard<'p> {
        LogView::guard(self)
    }

    fn settle(&self, what: Enlisted) -> Fate {
        LogView::settle(self, what)
    }

    fn give_up(&self, what: Enlisted, abandon: bool) {
        LogView::give_up(self, what, abandon);
    }

    fn release(&self, what: Enlisted) {
        LogView::release(self, what);
    }
}

impl Engine {
    /// Returns an open engine over a store, which keeps what it is asked to keep in `log`.
    pub(crate) fn new(store: DefaultStore, log: Option<Log>, default: Durability) -> Self {
        let durable = log.map(|log| {
            store.advance_durable_cut(log.durable_cut());
            Durable {
                log,
                has_unlisted: AtomicBool::new(false),
                bell: Bell::new(),
                interval_ns: AtomicU64::new(nanoseconds(interval_of(default))),
                unlisted: AtomicU64::new(0),
            }
        });
        Self {
            store,
            durable,
            default,
            open: AtomicBool::new(true),
        }
    }

    /// Returns the versioned store.
    #[inline]
    pub(crate) fn store(&self) -> &DefaultStore {
        &self.store
    }

    /// Returns the log and what belongs to it, if there is any.
    pub(crate) fn durable(&self) -> Option<&Durable> {
        self.durable.as_ref()
    }

    /// Returns the durability of operations that name none.
    #[inline]
    pub(crate) fn default_durability(&self) -> Durability {
        self.default
    }

    /// Refuses work after [`close`](Self::close).
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        // ORDERING: Relaxed; operations that overlap the closing may fall on either side of it.
        if self.open.load(order::COUNT) {
            Ok(())
        } else {
            Err(Error::Closed)
        }
    }

    /// Refuses all later work; what is running finishes.
    pub(crate) fn close(&self) {
        // ORDERING: Relaxed, as in `check_open`.
        self.open.store(false, order::COUNT);
    }

    /// Writes a value of `length` bytes that `fill` puts where they will stay.
    #[inline]
    pub(crate) fn put(
        &self,
        key: &Key,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
        durability: Durability,
    ) -> Result<Timestamp> {
        let Some((durable, mut recorder)) = self.recorder(durability)? else {
            return Ok(self.store.put_with(key, length, fill));
        };
        let timestamp = self.store.put_enlisted(key, length, fill, &mut recorder)?;
        self.acknowledge(durable, timestamp, recorder.waiting, durability)?;
        Ok(timestamp)
    }

    /// Deletes a key.
    pub(crate) fn delete(&self, key: &Key, durability: Durability) -> Result<bool> {
        let Some((durable, mut recorder)) = self.recorder(durability)? else {
            return Ok(self.store.delete(key).is_some());
        };
        let always = durable.has_unlisted();
        let Deleted { timestamp, existed } = self.store.delete_enlisted(key, always, &mut recorder)?;
        // Absent since a delete that may not be durable yet: the answer is as good as that.
        self.acknowledge(durable, timestamp, recorder.waiting, durability)?;
        Ok(existed)
    }

    /// Writes a value if the key's newest commit is `expected`.
    pub(crate) fn compare_and_put(
        &self,
        key: Key,
        expected: Timestamp,
        value: &[u8],
        durability: Durability,
    ) -> Result<Timestamp> {
        let fill = |bytes: &mut [u8]| bytes.copy_from_slice(value);
        let swapped = match self.recorder(durability)? {
            None => self
                .store
                .compare_and_put(&key, expected, value.len(), fill)
                .map_err(Refused::Judged),
            Some((durable, mut recorder)) => {
                let swapped = self
                    .store
                    .compare_and_put_enlisted(&key, expected, value.len(), fill, &mut recorder);
                if let Ok(timestamp) = swapped {
                    self.acknowledge(durable, timestamp, recorder.waiting, durability)?;
                }
                swapped
            }
        };
        swapped.map_err(|refused| match refused {
            Refused::Judged(actual) => Error::VersionMismatch {
                key: Box::new(key),
                expected,
                actual,
            },
            Refused::NoRecord(error) => error,
        })
    }

    /// Commits a transaction's writes, which are not none.
    pub(crate) fn commit<W: Writes>(
        &self,
        snapshot: &OpenSnapshot,
        writes: &W,
        durability: Durability,
    ) -> Result<Timestamp> {
        let conflict = |Conflicting { key }| Error::Conflict { key: Box::new(key) };
        let Some((durable, mut recorder)) = self.recorder(durability)? else {
            return self.store.commit(snapshot, writes).map_err(conflict);
        };
        match self.store.commit_enlisted(snapshot, writes, &mut recorder) {
            Ok(timestamp) => {
                self.acknowledge(durable, timestamp, recorder.waiting, durability)?;
                Ok(timestamp)
            }
            Err(Refused::Judged(conflicting)) => Err(conflict(conflicting)),
            Err(Refused::NoRecord(error)) => Err(error),
        }
    }

    /// Says whether a delete of what is absent has to be recorded all the same.
    pub(crate) fn records_all_deletes(&self, durability: Durability) -> bool {
        durability != Durability::InMemory && self.durable.as_ref().is_some_and(Durable::has_unlisted)
    }

    /// Makes everything durable that is committed and has a record. Without a log nothing has.
    pub(crate) fn flush(&self) -> Result<()> {
        self.durable
            .as_ref()
            .map_or(Ok(()), |durable| durable.log.flush(&self.store))
    }

    /// Waits until everything up to `timestamp` that has a record is durable.
    pub(crate) fn wait(&self, timestamp: Timestamp) -> Result<()> {
        self.durable
            .as_ref()
            .map_or(Ok(()), |durable| durable.log.wait(timestamp, &self.store))
    }

    /// Returns the way into the log for an operation of that durability: none if it needs none.
    #[inline]
    fn recorder(&self, durability: Durability) -> Result<Option<(&Durable, Recorder<'_>)>> {
        match (&self.durable, durability) {
            (None, Durability::InMemory) => Ok(None),
            (None, _) => Err(Error::InvalidOperation(format!(
                "{} durability needs storage, and this database was opened without a path",
                durability.name()
            ))),
            (Some(durable), Durability::InMemory) => {
                durable.note_unlisted();
                Ok(None)
            }
            (Some(durable), _) => {
                durability.validate()?;
                Ok(Some((durable, Recorder::new(&durable.log))))
            }
        }
    }

    /// Waits for what an operation's durability promises: for the cut, or for room.
    #[inline]
    fn acknowledge(&self, durable: &Durable, timestamp: Timestamp, waiting: u64, durability: Durability) -> Result<()> {
        match durability {
            Durability::InMemory => Ok(()),
            Durability::Strict => durable.log.wait(timestamp, &self.store),
            Durability::Buffered {
                flush_interval,
                max_pending_writes,
            } => {
                durable.shorten_interval(flush_interval);
                let most = max_pending_writes as u64;
                if waiting < most {
                    return Ok(());
                }
                durable.bell.ring();
                if waiting < most.saturating_mul(2) {
                    return Ok(());
                }
                durable.log.wait_for_room(most.saturating_mul(2), &self.store)
            }
        }
    }
}

impl Durable {
    /// Returns the log.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the bell that is rung when a flush is due.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Returns how long a buffered commit may wait for the flush that covers it to begin.
    pub(crate) fn interval(&self) -> Duration {
        // ORDERING: Relaxed; a bound that may be seen late by one interval.
        Duration::from_nanos(self.interval_ns.load(order::COUNT))
    }

    #[inline]
    fn shorten_interval(&self, interval: Duration) {
        let wanted = nanoseconds(interval);
        // ORDERING: Relaxed, all; the bell's lock orders them against the thread that listens.
        let mut now = self.interval_ns.load(order::COUNT);
        while wanted < now {
            match self
                .interval_ns
                .compare_exchange(now, wanted, order::COUNT, order::COUNT)
            {
                Ok(_) => return self.bell.ring_now(),
                Err(other) => now = other,
            }
        }
    }

    fn has_unlisted(&self) -> bool {
        // ORDERING: Relaxed; an override that runs beside a delete may fall on either side of it.
        self.has_unlisted.load(order::COUNT)
    }

    /// Notes a write without a record. Now and then the cut is to be moved, although there is nothing to make durable.
    #[inline]
    fn note_unlisted(&self) {
        const EVERY: u64 = 1_024;
        // ORDERING: Relaxed, all; counts that may lose some.
        if !self.has_unlisted.load(order::COUNT) {
            self.has_unlisted.store(true, order::COUNT);
        }
        let count = self.unlisted.load(order::COUNT);
        self.unlisted.store(count.wrapping_add(1), order::COUNT);
        if count.is_multiple_of(EVERY) {
            self.bell.ring();
        }
    }
}

fn interval_of(durability: Durability) -> Duration {
    match durability {
        Durability::Buffered { flush_interval, .. } => flush_interval,
        Durability::InMemory | Durability::Strict => crate::options::DEFAULT_FLUSH_INTERVAL,
    }
}

fn nanoseconds(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
}

/// Refuses keys that cannot be.
#[inline]
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    match key.len() {
        0 => Err(Error::EmptyKey),
        len if len > MAX_KEY_BYTES => Err(Error::KeyTooLong {
            len,
            max: MAX_KEY_BYTES,
        }),
        _ => Ok(()),
    }
}

/// Refuses values that cannot be.
#[inline]
pub(crate) fn check_value(len: usize) -> Result<()> {
    if len > MAX_VALUE_BYTES {
        Err(Error::ValueTooLarge {
            len,
            max: MAX_VALUE_BYTES,
        })
    } else {
        Ok(())
    }
}
