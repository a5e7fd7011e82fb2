//! The versioned store: every key's versions, the order of commits, and what a snapshot promises.
//!
//! A key maps to a chain of versions, newest first. A writer links its version with one compare-and-swap, then draws a
//! commit timestamp and decides with a second one. Whoever meets a version whose timestamp is still open draws it
//! instead of waiting. A snapshot is one number.
//!
//! # What holds
//!
//! 1. `get`, `put`, `delete` and snapshots are linearizable together; a snapshot takes effect when it is opened.
//! 2. A snapshot at `r` sees of each key the version with the greatest commit timestamp that is at most `r`: always the
//!    same one, however often and late it looks.
//! 3. Transactions read from one snapshot, their writes become visible together, and of two that write a common key and
//!    overlap one fails: snapshot isolation, first committer wins.
//! 4. Lock-free: with any set of threads stopped anywhere, every running thread finishes its operation or another one
//!    does. Reads never wait. A conflict implies that somebody else committed.
//!
//! # Why readers settle
//!
//! Suppose `get` skipped a PREPARED version. P links x and draws 1. A snapshot takes 1. Q puts y at 2, then gets x: the
//! old value. P commits at 1. The snapshot now shows x without y, so it is after P and before Q's put; but Q's get is
//! before P. So a latest read decides what it meets as well. A snapshot read must, since the owner may hold a small
//! timestamp already.
//!
//! Files: `chain` one key's versions; `status` and `descriptor` a put's and a transaction's state; `clock` timestamps;
//! `snapshots` open snapshots; `settle` helping; `gc` pruning.
//!
//! The idea of settling timestamps on sight is that of versioned compare-and-swap (Wei et al., PPoPP 2021); the
//! helped multi-word install follows Harris, Fraser and Pratt (DISC 2002).

mod chain;
mod clock;
mod descriptor;
mod gc;
#[cfg(loom)]
mod model;
mod settle;
mod snapshots;
mod status;

use std::cell::{RefCell, RefMut};
use std::ops::{Bound, ControlFlow, Deref};

pub use self::chain::Chain;
pub use self::clock::{Clock, ReaderDriven, TICK, WriterDriven};
pub use self::descriptor::{Write, Writes};
#[cfg(loom)]
pub use self::model::ModelView;
pub use self::snapshots::OpenSnapshot;
pub(crate) use crate::index::Direction;
use crate::index::{Index, Node, SkipList};
use crate::reclaim::{Guard, Leave, LimboReclaim, Reclaim, Record, Threads};
use crate::stats::{Stats, ThreadCounters};
use crate::sync::pause::{self, Step};
use crate::sync::{Counter, order, store_load_fence};
use crate::trace::{Layer, Trace};
use crate::types::{Key, Timestamp};

use self::chain::{Head, OwnedVersion, VersionRef};
use self::settle::{For, Linked, Newest, Settled};
use self::snapshots::{KeptSlots, Snapshots};
use self::status::Status;

/// The store that a [`Database`](crate::Database) uses.
pub type DefaultStore = VersionedStore<SkipList<Chain>, LimboReclaim, ReaderDriven>;

/// Every key's versions, over an index, a collector and a clock of choice.
pub struct VersionedStore<I, R: Reclaim, C> {
    // The index is dropped first: it frees the chains, gives its own garbage to the collector, and may hold a handle of
    // the collector that must not be the last one (`reclaim/epoch.rs` relies on it).
    index: I,
    clock: C,
    snapshots: Snapshots,
    trace: Trace,
    reclaim: R,
    // The last: what threads have registered with the collector may run the garbage that is left.
    threads: Threads<ThreadCounters, Local<R>>,
}

/// What one thread has in one store.
type Here<R> = Record<ThreadCounters, Local<R>>;

/// The part of it that this thread alone touches.
struct Local<R: Reclaim> {
    gc: RefCell<gc::Local>,
    kept_slots: KeptSlots,
    reclaim: R::Local,
}

impl<R: Reclaim> Leave for Local<R> {
    fn leave(&self) {
        self.reclaim.leave();
    }
}

/// A pinned thread, and what it has in the store: found once for an operation.
struct Pin<'s, R: Reclaim> {
    guard: R::Guard<'s>,
    here: &'s Here<R>,
}

impl<'s, R: Reclaim> Pin<'s, R> {
    /// Returns the collector's guard.
    #[inline]
    fn raw(&self) -> &R::Guard<'s> {
        &self.guard
    }

    /// Returns where this thread's memory comes from.
    #[inline]
    fn memory(&self) -> &R::Memory {
        self.guard.memory()
    }

    /// Returns this thread's counters.
    #[inline]
    fn counters(&self) -> &ThreadCounters {
        &self.here.shared
    }

    /// Returns what this thread keeps for pruning. Not borrowed while a caller's closure runs.
    #[inline]
    fn gc(&self) -> RefMut<'_, gc::Local> {
        self.here.local.gc.borrow_mut()
    }
}

impl<'s, R: Reclaim> Deref for Pin<'s, R> {
    type Target = R::Guard<'s>;

    #[inline]
    fn deref(&self) -> &R::Guard<'s> {
        &self.guard
    }
}

/// Encoded keys between which a scan runs.
pub(crate) type KeyBounds = (Bound<Key>, Bound<Key>);

/// Where a scan ended.
pub(crate) enum Scanned {
    /// At the end of its range.
    Everything,
    /// At its limit: there may be more behind this key.
    UpTo(Key),
    /// Where its visitor wanted no more.
    UntilBreak,
}

impl<I, R, C> VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    /// Returns an empty store.
    #[must_use]
    pub fn new() -> Self {
        let reclaim = R::new();
        Self {
            index: I::new(&reclaim),
            clock: C::new(),
            snapshots: Snapshots::new(),
            trace: Trace::new(),
            reclaim,
            threads: Threads::new(),
        }
    }

    /// Returns the per-layer timing; empty without the feature `perf-trace`.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    // ---- reads ----

    /// Reads the latest value of a key under a guard. O(log n).
    #[inline]
    pub fn get_with<T>(&self, key: &Key, read: impl FnOnce(&[u8], Timestamp) -> T) -> Option<T> {
        self.get_at(key, Timestamp::LATEST, read)
    }

    /// Reads a key's value as of a timestamp, which an open snapshot holds unless it is the latest. O(log n).
    #[inline]
    pub fn get_at<T>(&self, key: &Key, at: Timestamp, read: impl FnOnce(&[u8], Timestamp) -> T) -> Option<T> {
        let guard = self.pin();
        store_load_fence(order::F4_READER);
        let search = self.trace.span(Layer::IndexSearch);
        let node = self.index.find(key, &guard);
        search.end();
        let found = self.read_node(node?, at, &guard)?;
        found.version.value().map(|bytes| read(bytes, found.timestamp))
    }

    /// Returns the newest version of a key with a timestamp of at most `at`.
    fn read_at<'g>(&'g self, key: &Key, at: Timestamp, guard: &'g Pin<'_, R>) -> Option<Newest<'g>> {
        self.read_node(self.index.find(key, guard)?, at, guard)
    }

    /// The same, from the key's node.
    #[inline]
    fn read_node<'g>(&'g self, mut node: I::Node<'g>, at: Timestamp, guard: &'g Pin<'_, R>) -> Option<Newest<'g>> {
        let mut next = loop {
            match node.value().head(guard.raw()) {
                Head::Version(version) => break Some(version),
                Head::Empty { .. } => return None,
                // Dead when seen: absent, unless the key has another node by now.
                Head::Sealed if node.is_linked() => return None,
                Head::Sealed => node = self.index.find(&node.key(), guard)?,
            }
        };
        while let Some(version) = next {
            // `next` before the word: else a reader that saw ACTIVE could meet a chain cut right below this version
            // after its commit.
            next = version.next(guard.raw());
            if let Settled::Committed(timestamp) = self.settle(version, For::Other, guard)
                && timestamp <= at
            {
                return Some(Newest { version, timestamp });
            }
        }
        None
    }

    /// Gives keys and values between two keys, as of `at`, to `visit`, which may use the store itself. Looks at up to
    /// `limit` keys, pinned all the while, and says where it ended. `expected` is about how many it will look at, if that
    /// is known.
    pub(crate) fn scan(
        &self,
        bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        at: Timestamp,
        (limit, expected): (usize, Option<usize>),
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Scanned {
        let guard = self.pin();
        self.scan_pinned(bounds, direction, at, (limit, expected), visit, &guard)
    }

    fn scan_pinned<'g>(
        &'g self,
        bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        at: Timestamp,
        (limit, expected): (usize, Option<usize>),
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
        guard: &'g Pin<'_, R>,
    ) -> Scanned {
        let mut show = |node: I::Node<'g>| {
            let key = node.key_bytes();
            match self.read_node(node, at, guard).and_then(|found| found.version.value()) {
                Some(value) => visit(key, value),
                None => ControlFlow::Continue(()),
            }
        };
        let mut visited = 0;
        let mut end = Scanned::Everything;
        let visit = |node: I::Node<'g>| {
            visited += 1;
            let key = (visited == limit).then(|| node.key());
            if show(node).is_break() {
                end = Scanned::UntilBreak;
            } else if let Some(key) = key {
                end = Scanned::UpTo(key);
            } else {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(())
        };
        self.index
            .walk_ahead(bounds, direction, expected, guard, Chain::prefetch, visit);
        end
    }

    // ---- single writes ----

    /// Writes a value; returns its commit timestamp. O(log n).
    #[inline]
    pub fn put(&self, key: &Key, value: &[u8]) -> Timestamp {
        let guard = self.pin();
        self.put_version(key, OwnedVersion::copy(value, guard.memory()), &guard)
    }

    /// Writes a value of `length` bytes that `fill` puts where they will stay; returns its commit timestamp. O(log n).
    #[inline]
    pub fn put_with(&self, key: &Key, length: usize, fill: impl FnOnce(&mut [u8])) -> Timestamp {
        let guard = self.pin();
        self.put_version(key, OwnedVersion::put(length, fill, guard.memory()), &guard)
    }

    #[inline]
    fn put_version<'g>(&'g self, key: &Key, version: OwnedVersion<'g, R::Memory>, guard: &'g Pin<'_, R>) -> Timestamp {
        match self.write(key, version, |_| Ok::<(), std::convert::Infallible>(()), guard) {
            Ok(timestamp) => timestamp,
            Err(never) => match never {},
        }
    }

    /// Deletes a key; returns the commit timestamp, or `None` if there was nothing to delete. O(log n).
    pub fn delete(&self, key: &Key) -> Option<Timestamp> {
        let is_there = |newest: Option<Newest<'_>>| match newest {
            Some(newest) if newest.version.value().is_some() => Ok(()),
            _ => Err(()),
        };
        let guard = self.pin();
        store_load_fence(order::F4_READER);
        // A cheap look first: deleting what is not there writes nothing.
        is_there(self.read_at(key, Timestamp::LATEST, &guard)).ok()?;
        self.write(key, OwnedVersion::tombstone(guard.memory()), is_there, &guard)
            .ok()
    }

    /// Writes a value if the key's newest commit is `expected`, [`Timestamp::ABSENT`] meaning that there is none.
    /// Returns the new timestamp, or else the one that was found. O(log n).
    pub fn compare_and_put(
        &self,
        key: &Key,
        expected: Timestamp,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Timestamp, Timestamp> {
        let guard = self.pin();
        let judge = |newest: Option<Newest<'_>>| {
            let found = match newest {
                Some(newest) if newest.version.value().is_some() => newest.timestamp,
                _ => Timestamp::ABSENT,
            };
            if found == expected { Ok(()) } else { Err(found) }
        };
        self.write(key, OwnedVersion::put(length, fill, guard.memory()), judge, &guard)
    }

    /// Links `version` above the newest committed version, if `judge` agrees to that one, and commits it. A verdict
    /// against it is that of the moment when the judged version was the newest.
    #[inline]
    fn write<'g, E>(
        &'g self,
        key: &Key,
        mut version: OwnedVersion<'g, R::Memory>,
        judge: impl Fn(Option<Newest<'_>>) -> Result<(), E>,
        guard: &'g Pin<'_, R>,
    ) -> Result<Timestamp, E> {
        store_load_fence(order::F4_READER);
        let (linked, newest) = loop {
            let search = self.trace.span(Layer::IndexSearch);
            // What may be written where nothing is needs one search, and what may not inserts no chain.
            let node = match judge(None) {
                Ok(()) => self.index.find_or_insert(key, guard),
                Err(refused) => self.index.find(key, guard).ok_or(refused)?,
            };
            search.end();
            let chain = node.value();
            let head = chain.head(guard.raw());
            if let Head::Sealed = head {
                // Helping to remove it is required: a stopped remover must not block the key.
                self.index.remove(node, guard);
                continue;
            }
            let newest = self.newest_below(head, key, guard);
            judge(newest)?;
            version.set_next(newest.map(|newest| newest.version));
            match self.link(chain, head, newest, version, guard) {
                Ok(linked) => break (linked, newest),
                Err(back) => version = back,
            }
        };
        let decide = self.trace.span(Layer::Decide);
        store_load_fence(order::F1_WRITER);
        // Born PREPARED and linked, so that a timestamp may be drawn: above that of the version below.
        let drawn = self
            .clock
            .draw_commit(newest.map_or(Timestamp::ABSENT, |newest| newest.timestamp));
        pause::reached(Step::Drawn);
        let timestamp = if linked.decide_put(drawn) {
            drawn
        } else {
            // Somebody else was first.
            let Settled::Committed(timestamp) = self.settle(linked, For::Own, guard) else {
                unreachable!("a put that is linked is never aborted");
            };
            timestamp
        };
        decide.end();
        pause::reached(Step::Decided);
        guard.counters().commits.add(1);
        self.prune_after_write(linked, timestamp, key, guard);
        Ok(timestamp)
    }

    // ---- transactions ----

    /// Opens a snapshot of this moment. O(1), no allocation in steady state.
    #[inline]
    pub fn open_snapshot(&self) -> OpenSnapshot {
        let span = self.trace.span(Layer::Snapshot);
        let snapshot = self.snapshots.open(&self.clock, &self.here().local.kept_slots);
        span.end();
        snapshot
    }

    /// Closes a snapshot, on whichever thread. Called once for each.
    #[inline]
    pub fn close_snapshot(&self, snapshot: &OpenSnapshot) {
        self.snapshots.close(snapshot, &self.here().local.kept_slots);
    }

    /// Commits a transaction that read from `snapshot`, which stays open until this returns: all of its writes, sorted
    /// by key and not none, become visible at the returned timestamp, or none and the write in conflict is returned.
    #[inline]
    pub fn commit<W: Writes + ?Sized>(&self, snapshot: &OpenSnapshot, writes: &W) -> Result<Timestamp, Conflicting> {
        let guard = self.pin();
        if writes.len() == 1
            && let Some((key, value)) = writes.iter().next()
        {
            return self.commit_one(snapshot.timestamp(), key, value, &guard);
        }
        self.commit_many(
            descriptor::new_descriptor(snapshot.timestamp(), writes, guard.raw()),
            &guard,
        )
    }

    /// Commits a transaction of one write, which is a put that judges what it replaces: nothing newer than the snapshot.
    /// It needs no descriptor, since there is nothing that a helper would have to link.
    #[inline]
    fn commit_one<'g>(
        &'g self,
        read_timestamp: Timestamp,
        key: &Key,
        value: Option<&[u8]>,
        guard: &'g Pin<'_, R>,
    ) -> Result<Timestamp, Conflicting> {
        let version = match value {
            Some(value) => OwnedVersion::copy(value, guard.memory()),
            None => OwnedVersion::tombstone(guard.memory()),
        };
        // The first committer wins: what the new version replaces must be what the snapshot saw.
        let is_unchanged = |newest: Option<Newest<'_>>| match newest {
            Some(newest) if newest.timestamp > read_timestamp => Err(()),
            _ => Ok(()),
        };
        self.write(key, version, is_unchanged, guard).map_err(|()| {
            guard.counters().conflicts.add(1);
            Conflicting { key: key.clone() }
        })
    }

    /// Commits a transaction of several writes.
    fn commit_many<'g>(
        &'g self,
        transaction: descriptor::DescriptorRef<'g>,
        guard: &'g Pin<'_, R>,
    ) -> Result<Timestamp, Conflicting> {
        let mut linked = Linked::new();
        self.install(transaction, 0, guard, Some(&mut linked));
        let decide = self.trace.span(Layer::Decide);
        let decision = self.settle_transaction(transaction, For::Own, guard);
        decide.end();
        pause::reached(Step::Decided);
        let result = match decision {
            Status::Committed(timestamp) => {
                guard.counters().commits.add(1);
                Ok(timestamp)
            }
            Status::Aborted(write) => {
                guard.counters().conflicts.add(1);
                Err(Conflicting {
                    key: transaction.key(write).clone(),
                })
            }
            Status::Active | Status::Prepared => unreachable!("installed and settled"),
        };
        for version in &linked {
            version.resolve_owner(transaction, decision, guard.raw());
        }
        match result {
            Ok(timestamp) => self.after_commit(transaction, &linked, timestamp, guard),
            Err(_) => self.tidy_after_abort(transaction, guard),
        }
        transaction.release(guard.raw());
        result
    }

    /// Prunes below a committed transaction's versions. Those that helpers linked and the owner never saw are searched for,
    /// and reading them copies the decision into them: else they would keep the descriptor.
    fn after_commit<'g>(
        &'g self,
        transaction: descriptor::DescriptorRef<'g>,
        linked: &[VersionRef<'g>],
        timestamp: Timestamp,
        guard: &'g Pin<'_, R>,
    ) {
        for number in 0..transaction.len() {
            let key = transaction.key(number);
            let version = match linked.get(number) {
                Some(version) => Some(*version),
                None => self
                    .read_at(key, timestamp, guard)
                    .filter(|found| found.timestamp == timestamp)
                    .map(|found| found.version),
            };
            if let Some(version) = version {
                self.prune_after_write(version, timestamp, key, guard);
            }
        }
    }

    // ---- the rest ----

    /// Returns what the store counts.
    pub fn stats(&self) -> Stats {
        let totals = self.reclaim.totals();
        let (open_snapshots, oldest_snapshot_age) = self.snapshots.open_now();
        let view = self.fresh_view();
        let sum = |pick: fn(&ThreadCounters) -> &Counter| {
            let threads = self.threads.iter();
            threads.map(|thread| pick(thread).get()).fold(0, u64::wrapping_add)
        };
        let unlinked = sum(|counters| &counters.unlinked);
        Stats {
            commits: sum(|counters| &counters.commits),
            conflicts: sum(|counters| &counters.conflicts),
            helped_decisions: sum(|counters| &counters.helped),
            live_versions: sum(|counters| &counters.linked).saturating_sub(unlinked),
            retired_bytes: totals.retired_bytes,
            pending_bytes: totals.retired_bytes.saturating_sub(totals.freed_bytes),
            pending_versions: totals.retired.saturating_sub(totals.freed),
            watermark_lag: view.limit().get() - view.watermark().get(),
            open_snapshots,
            oldest_snapshot_age,
        }
    }

    /// Collects everything that can be collected now: prunable versions and dead keys. Returns how many versions
    /// were retired. O(keys).
    pub fn collect_garbage(&self) -> u64 {
        self.sweep()
    }

    /// Returns what this thread has in this store.
    #[inline]
    fn here(&self) -> &Here<R> {
        self.threads.mine(|| {
            // Under loom a model says itself when a thread looks at the snapshots: fewer steps, and older views.
            let view = if cfg!(loom) {
                snapshots::View::nothing()
            } else {
                self.fresh_view()
            };
            Record {
                shared: ThreadCounters::default(),
                local: Local {
                    gc: gc::Local::new(view),
                    kept_slots: KeptSlots::default(),
                    reclaim: self.reclaim.register(),
                },
            }
        })
    }

    /// Pins this thread for an operation.
    #[inline]
    fn pin(&self) -> Pin<'_, R> {
        let here = self.here();
        Pin {
            guard: self.reclaim.pin(&here.local.reclaim),
            here,
        }
    }
}

impl<I, R, C> Default for VersionedStore<I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    fn default() -> Self {
        Self::new()
    }
}

/// A transaction failed because somebody else committed `key` after its snapshot.
#[derive(Debug)]
pub struct Conflicting {
    /// The key that both wrote.
    pub key: Key,
}
