//! Unlatched: a lock-free, multi-version, embedded storage engine that researchers can check.
//!
//! A key maps to a chain of versions, newest first. A writer links its version with one compare-and-swap, then draws a
//! commit timestamp and decides with a second one; whoever meets an undecided version decides it instead of waiting. A
//! snapshot is one number. So no thread ever waits for another, a single put is a complete commit without a transaction
//! around it, and threads that overwrite different keys share no cache line that anyone writes.
//!
//! ```
//! use std::sync::Arc;
//! use unlatched::{Database, KVStore, RunId, Value};
//!
//! let database = Arc::new(Database::in_memory()?); // or `Database::open(path)?`
//! let store = KVStore::new(Arc::clone(&database));
//! let run = RunId::new();
//! store.put(&run, "answer", Value::from(42))?;
//! assert_eq!(store.get(&run, "answer")?, Some(Value::from(42)));
//! # Ok::<(), unlatched::Error>(())
//! ```
//!
//! | you want | use |
//! |---|---|
//! | bytes under byte keys, single operations, transactions, snapshots | [`Database`] |
//! | typed values by name | [`KVStore`] |
//! | to choose what survives | [`DatabaseBuilder`], [`Database::put_with_durability`], [`DurabilityTicket`] |
//! | what the engine does and holds | [`Database::stats`]; per-layer timing behind the feature `perf-trace` |
//!
//! # Guarantees
//!
//! Single operations and snapshots are linearizable together. Transactions have snapshot isolation: one snapshot to
//! read from, writes visible at one moment, first committer wins. Everything is lock-free: with any set of threads
//! stopped inside an operation, some running thread always finishes. Only the disk is waited for, by commits that ask for
//! durability ([`Durability`]): what survives a crash is the state at one moment of the order of commits, and everything
//! acknowledged as strict is in it.
//!
//! # Reading the code
//!
//! `mvcc` is the versioned store and opens with an essay on what a snapshot promises; `log` is what survives, and opens with
//! what is promised of that; `index`, `reclaim` and `storage` are the seams below them, each with variants that experiments
//! compare; `sync` names every memory ordering. The commit protocol
//! is described file by file, with its invariants, and checked by the models of the `loom-tests` crate.

mod background;
mod checkpoint;
mod commit;
mod database;
mod error;
mod facade;
mod index;
mod log;
mod mvcc;
mod opening;
mod options;
mod reclaim;
mod recovery;
mod snapshot;
mod stats;
mod storage;
mod sync;
mod trace;
mod transaction;
mod types;
mod value;
mod write_set;

pub use database::{Database, DatabaseBuilder, DurabilityTicket};
pub use error::{Error, Result};
pub use facade::{KVStore, KVStoreExt, KVTransaction};
pub use options::{
    DEFAULT_BASE_DELAY, DEFAULT_CHECKPOINT_BYTES, DEFAULT_FLUSH_INTERVAL, DEFAULT_MAX_DELAY,
    DEFAULT_MAX_PENDING_WRITES, DEFAULT_MAX_RETRIES, DEFAULT_SEGMENT_BYTES, Durability, GREATEST_SEGMENT_BYTES,
    LEAST_SEGMENT_BYTES, Options, RetryConfig,
};
pub use recovery::Progress;
pub use snapshot::{Scan, Snapshot};
pub use stats::Stats;
pub use transaction::Transaction;
pub use types::{INLINE_KEY_BYTES, Key, MAX_KEY_BYTES, MAX_VALUE_BYTES, RunId, Timestamp, TypeTag};
pub use value::{MAX_VALUE_DEPTH, Value};

/// The engine's insides, for the models, benchmarks and experiments of this repository. Not part of the public
/// interface: anything here may change without notice.
#[doc(hidden)]
pub mod internals {
    pub use crate::commit::Recorder;
    #[cfg(loom)]
    pub use crate::index::ModelIndex;
    pub use crate::index::{
        CrossbeamIndex, DEFAULT_HINT_BYTES, Direction, Hinted, Hints, Index, KeyHash, Node, SkipList,
    };
    #[cfg(any(loom, test))]
    pub use crate::index::{HintedModel, Mistake};
    pub use crate::log::{Beginning, Covered, KeptSegment, Log, Pending, Pinned, Place};
    #[cfg(loom)]
    pub use crate::mvcc::ModelView;
    pub use crate::mvcc::{
        Chain, Clock, Conflicting, DefaultStore, Deleted, Enlist, Fate, LogView, OpenSnapshot, ReaderDriven, Refused,
        TICK, Unlisted, VersionedStore, Write, WriterDriven, Writes,
    };
    pub use crate::reclaim::{EpochReclaim, HyalineReclaim, Leave, LimboReclaim, Reclaim};
    #[cfg(loom)]
    pub use crate::reclaim::{ModelReclaim, ModelSlot};
    pub use crate::recovery::inspect::{
        HoleReport, Inspection, MarkerReport, MarkerVerdict, RestartReport, SegmentReport, Verification, inspect,
        verify,
    };
    pub use crate::recovery::{Apply, Progress, Recovered, recover};
    #[cfg(not(loom))]
    pub use crate::storage::MmapStorage;
    pub use crate::storage::{
        DirectoryStorage, FileStorage, PAGE_BYTES, ReadOnlyStorage, SECTOR_BYTES, SegmentFile, Storage,
    };
    pub use crate::storage::{Fault, FaultPlan, SimDisk, SimStorage, SimTally, Survivors};
    #[cfg(all(not(loom), debug_assertions))]
    pub use crate::sync::lines;
    pub use crate::sync::order::REGISTRY;
    pub use crate::sync::{Word, pause};
    pub use crate::trace::{Layer, Span, Trace};
    pub use crate::types::{Enlisted, Lsn};
}
