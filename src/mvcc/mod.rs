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
//! `snapshots` open snapshots; `write` and `transact` commits; `settle` helping; `gc` pruning; `enlist` what a log and the store ask of each other.
//!
//! The idea of settling timestamps on sight is that of versioned compare-and-swap (Wei et al., PPoPP 2021); the
//! helped multi-word install follows Harris, Fraser and Pratt (DISC 2002).

mod chain;
mod clock;
mod descriptor;
mod enlist;
mod gc;
#[cfg(loom)]
mod model;
mod settle;
mod snapshots;
mod status;
mod transact;
mod write;

use std::cell::{RefCell, RefMut};
use std::ops::{Bound, ControlFlow, Deref};

pub use self::chain::Chain;
pub use self::clock::{Clock, ReaderDriven, TICK, WriterDriven};
pub use self::descriptor::{Write, Writes};
pub use self::enlist::{Enlist, Fate, Refused, Unlisted};
#[cfg(loom)]
pub use self::model::ModelView;
pub use self::snapshots::OpenSnapshot;
pub use self::transact::Conflicting;
pub use self::write::Deleted;
pub(crate) use crate::index::Direction;
pub(crate) use crate::index::Index;
use crate::index::{Node, SkipList};
pub(crate) use crate::reclaim::{Guard, Reclaim};
use crate::reclaim::{Leave, LimboReclaim, Record, Threads};
use crate::stats::{Stats, ThreadCounters};
use crate::sync::{Counter, order, store_load_fence};
use crate::trace::{Layer, Trace};
use crate::types::{Enlisted, Key, Timestamp};

use self::chain::Head;
use self::settle::{For, Newest, Settled};
use self::snapshots::{KeptSlots, Snapshots};

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

    /// Gives keys, values and commit timestamps between two keys, as of `at`, to `visit`, which may use the store itself. Looks at up to
    /// `limit` keys, pinned all the while, and says where it ended. `expected` is about how many it will look at, if that
    /// is known.
    pub(crate) fn scan(
        &self,
        bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        at: Timestamp,
        (limit, expected): (usize, Option<usize>),
        visit: impl FnMut(&[u8], &[u8], Timestamp) -> ControlFlow<()>,
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
        mut visit: impl FnMut(&[u8], &[u8], Timestamp) -> ControlFlow<()>,
        guard: &'g Pin<'_, R>,
    ) -> Scanned {
        let mut show = |node: I::Node<'g>| {
            let key = node.key_bytes();
            match self.read_node(node, at, guard) {
                Some(Newest { version, timestamp }) => match version.value() {
                    Some(value) => visit(key, value, timestamp),
                    None => ControlFlow::Continue(()),
                },
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

    // ---- what a log asks ----

    /// Pins this thread: words that it reads from places of the log that are not done stay good as long as the result lives.
    pub fn look_at_log(&self) -> LogView<'_, I, R, C> {
        let guard = self.pin();
        self.renew_view(&guard);
        LogView { store: self, guard }
    }

    /// Draws the timestamp of a cut: what commits later gets a greater one.
    pub fn draw_cut(&self) -> Timestamp {
        self.clock.draw_snapshot()
    }

    /// Returns the last durable cut; `Timestamp::LATEST` without a log.
    pub fn durable_cut(&self) -> Timestamp {
        self.snapshots.durable()
    }

    /// Moves the durable cut, up to which everything that is to survive does. With `Timestamp::LATEST` nothing is kept for
    /// a log any more.
    pub fn advance_durable_cut(&self, cut: Timestamp) {
        self.snapshots.advance_durable(cut);
    }

    /// Opens a snapshot at the durable cut; one of this moment without a log.
    pub fn open_durable_snapshot(&self) -> OpenSnapshot {
        self.snapshots
            .open_durable(&self.here().local.kept_slots)
            .unwrap_or_else(|| self.open_snapshot())
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

/// A pinned look at what a log named.
pub struct LogView<'s, I, R: Reclaim, C> {
    store: &'s VersionedStore<I, R, C>,
    guard: Pin<'s, R>,
}

impl<'s, I, R, C> LogView<'s, I, R, C>
where
    I: Index<Chain, R>,
    R: Reclaim,
    C: Clock,
{
    /// Says how a write stands, after deciding it if only its timestamp is open.
    pub fn settle(&self, enlisted: Enlisted) -> Fate {
        self.store.settle_enlisted(enlisted, &self.guard)
    }

    /// Decides a write whose owner does not come back; `abandon` aborts it whatever it is.
    pub fn give_up(&self, enlisted: Enlisted, abandon: bool) {
        self.store.give_up_enlisted(enlisted, abandon, &self.guard);
    }

    /// Gives back the log's reference to a write whose place is done. Once for each.
    pub fn release(&self, enlisted: Enlisted) {
        self.store.release_enlisted(enlisted, &self.guard);
    }

    /// Returns the guard, under which the log may retire memory of its own.
    pub fn guard(&self) -> &R::Guard<'s> {
        self.guard.raw()
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
