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
//! let database = Arc::new(Database::in_memory()?);
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
//! | what the engine does and holds | [`Database::stats`]; per-layer timing behind the feature `perf-trace` |
//!
//! # Guarantees
//!
//! Single operations and snapshots are linearizable together. Transactions have snapshot isolation: one snapshot to
//! read from, writes visible at one moment, first committer wins. Everything is lock-free: with any set of threads
//! stopped inside an operation, some running thread always finishes. Today a database lives in memory alone; durability
//! is not built yet and asking for it is an error.
//!
//! # Reading the code
//!
//! `mvcc` is the versioned store and opens with an essay on what a snapshot promises; `index` and `reclaim` are the
//! seams below it, each with variants that experiments compare; `sync` names every memory ordering. The commit protocol
//! is described file by file, with its invariants, and checked by the models of the `loom-tests` crate.

mod commit;
mod database;
mod error;
mod facade;
mod index;
mod mvcc;
mod options;
mod reclaim;
mod snapshot;
mod stats;
mod sync;
mod trace;
mod transaction;
mod types;
mod value;
mod write_set;

pub use database::{Database, DatabaseBuilder};
pub use error::{Error, Result};
pub use facade::{KVStore, KVStoreExt, KVTransaction};
pub use options::{
    DEFAULT_BASE_DELAY, DEFAULT_FLUSH_INTERVAL, DEFAULT_MAX_DELAY, DEFAULT_MAX_PENDING_WRITES, DEFAULT_MAX_RETRIES,
    Durability, Options, RetryConfig,
};
pub use snapshot::{Scan, Snapshot};
pub use stats::Stats;
pub use transaction::Transaction;
pub use types::{INLINE_KEY_BYTES, Key, MAX_KEY_BYTES, MAX_VALUE_BYTES, RunId, Timestamp, TypeTag};
pub use value::{MAX_VALUE_DEPTH, Value};

/// The engine's insides, for the models, benchmarks and experiments of this repository. Not part of the public
/// interface: anything here may change without notice.
#[doc(hidden)]
pub mod internals {
    #[cfg(loom)]
    pub use crate::index::ModelIndex;
    pub use crate::index::{
        CrossbeamIndex, DEFAULT_HINT_BYTES, Direction, Hinted, Hints, Index, KeyHash, Node, SkipList,
    };
    #[cfg(any(loom, test))]
    pub use crate::index::{HintedModel, Mistake};
    #[cfg(loom)]
    pub use crate::mvcc::ModelView;
    pub use crate::mvcc::{
        Chain, Clock, Conflicting, DefaultStore, OpenSnapshot, ReaderDriven, TICK, VersionedStore, Write, WriterDriven,
        Writes,
    };
    pub use crate::reclaim::{EpochReclaim, HyalineReclaim, Leave, LimboReclaim, Reclaim};
    #[cfg(loom)]
    pub use crate::reclaim::{ModelReclaim, ModelSlot};
    #[cfg(all(not(loom), debug_assertions))]
    pub use crate::sync::lines;
    pub use crate::sync::order::REGISTRY;
    pub use crate::sync::pause;
    pub use crate::trace::{Layer, Span, Trace};
}
