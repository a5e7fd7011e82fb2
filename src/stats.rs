//! What the engine counts: per thread, summed on demand, so that no counter is shared on the hot path.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::sync::Counter;

/// What a database has done so far and what it holds now.
///
/// The numbers are read one by one while the database runs, so they agree with each other only when it rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Puts, deletes and transactions that committed.
    pub commits: u64,
    /// Transactions that ended in a conflict.
    pub conflicts: u64,
    /// Puts and transactions that another thread than their owner decided.
    pub helped_decisions: u64,
    /// Versions that are linked in some chain: tombstones included, and those of aborted transactions, which stay at
    /// the head of a live key until its next write.
    pub live_versions: u64,
    /// Bytes of versions and descriptors retired so far.
    pub retired_bytes: u64,
    /// Bytes that are retired and not yet freed.
    pub pending_bytes: u64,
    /// Versions and descriptors that are retired and not yet freed.
    pub pending_versions: u64,
    /// How far the watermark is behind the newest timestamp that could be drawn, in timestamps.
    pub watermark_lag: u64,
    /// Snapshots that are open, those of running transactions included.
    pub open_snapshots: u64,
    /// For how long the oldest of them is known to be open, to about 4 ms; `None` if there is none. Opening a snapshot
    /// does not read the time: it is noticed by the writers that have to keep versions for it, or by these statistics.
    pub oldest_snapshot_age: Option<Duration>,
}

/// The counters of one thread.
#[derive(Default)]
pub(crate) struct ThreadCounters {
    pub(crate) commits: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) helped: Counter,
    pub(crate) linked: Counter,
    pub(crate) unlinked: Counter,
}
