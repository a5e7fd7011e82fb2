//! One trait over everything that `question index` compares, and the names that its sides go by.
//!
//! | name | file | what it is |
//! |---|---|---|
//! | `unlatched` | [`unlatched`] | the engine through its public interface, a run of raw bytes |
//! | `crossbeam` | [`crossbeam`] | the raw skiplist; an overwrite stores into the node that it finds |
//! | `crossbeam-insert` | [`crossbeam`] | the same list overwritten as its map does: a new node, the old one removed |
//! | `m3` | [`locked`] | one `RwLock` around a `BTreeMap`: the baseline of the gates |
//! | `btree-lock` | [`locked`] | the same lock and map with plain keys and numbers in it: the least that the idea costs |
//! | `dashmap` | [`hashed`] | a sharded hash map: no order, no transactions |
//! | a combination's name | [`combined`] | the versioned store over an index, a collector and a clock of choice |
//! | `surrealmx`, `scc`, `bf-tree`, `heed` | the files of those names | published peers, with the feature `peers` |
//!
//! A contender's keys are prepared once, in the form that it takes, and named by index; a [`Session`] is one thread's
//! use. All calls are resolved at compile time. What a contender has no word for it does not do ([`Contender::can`]):
//! nothing is emulated, so that no side is slowed down by somebody else's idea of it.
#![deny(unsafe_code)]

use std::fmt;

use crate::engines::EngineError;
use crate::workload::KeySet;

#[cfg(feature = "peers")]
pub mod bf_tree;
pub mod combined;
pub mod crossbeam;
pub mod hashed;
#[cfg(feature = "peers")]
pub mod heed;
pub mod locked;
#[cfg(feature = "peers")]
pub mod scc;
#[cfg(feature = "peers")]
pub mod surrealmx;
pub mod unlatched;

#[cfg(test)]
mod conformance;

/// How many records a scan reads.
pub const SCAN_LENGTH: usize = 100;

/// How many keys the contended transactions share.
pub const CONTENDED_KEYS: usize = 100;

/// How often a transaction is tried: far beyond any fair share of bad luck, so that reaching it is a defect.
const MAX_ATTEMPTS: u64 = 1_000_000;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Reads a value where it lies, or into the caller's buffer.
    Get,
    /// Overwrites a value: a whole commit where there is such a thing.
    Overwrite,
    /// Inserts fresh keys into an empty store, in random order, up to the stated number.
    Insert,
    /// Reads [`SCAN_LENGTH`] records in order from a random key, of one moment where there is such a thing.
    Scan,
    /// One transaction: reads one key and writes another.
    ReadWrite,
    /// One transaction that reads a key and writes its successor, all threads on [`CONTENDED_KEYS`] keys, until it
    /// commits.
    Contended,
    /// Reads one key, the same for all threads.
    HotGet,
}

impl Operation {
    /// Every operation, in the order of tables.
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Overwrite,
        Self::Insert,
        Self::Scan,
        Self::ReadWrite,
        Self::Contended,
        Self::HotGet,
    ];

    /// Returns the name used in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Overwrite => "overwrite",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadWrite => "read-write",
            Self::Contended => "contended",
            Self::HotGet => "hot-get",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a scan read: how many records, and a digest of their values in the order in which they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Records.
    pub entries: u64,
    /// Changes if a value or the order does.
    pub digest: u64,
}

impl Scanned {
    /// Takes in the next value.
    #[inline]
    pub fn add(&mut self, value: u64) {
        self.entries += 1;
        self.digest = self.digest.wrapping_mul(31).wrapping_add(value);
    }
}

/// Something that stores 8-byte values under 24-byte keys. Shared by reference between the threads of a slice.
pub trait Contender: Send + Sync + Sized {
    /// The name it goes by everywhere.
    const NAME: &'static str;

    /// All keys, in the form that it takes.
    type Keys: Send + Sync;

    /// What one thread works through.
    type Session<'a>: Session
    where
        Self: 'a;

    /// Prepares the keys.
    fn prepare(keys: &KeySet) -> Self::Keys;

    /// Opens an empty store that will hold up to `capacity` keys, in memory.
    ///
    /// # Errors
    ///
    /// Returns what it says.
    fn open(capacity: usize) -> Result<Self, EngineError>;

    /// Begins a session. Make it in the thread that uses it.
    ///
    /// # Errors
    ///
    /// Returns what it says.
    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<Self::Session<'a>, EngineError>;

    /// Says whether its sessions can do `operation`.
    #[must_use]
    fn can(operation: Operation) -> bool;
}

/// One thread's use of a contender. Keys are given by index.
///
/// Every method returns what was refused as an error; an operation that [`Contender::can`] denies is
/// [`EngineError::Foreign`].
pub trait Session {
    /// Reads a value.
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError>;

    /// Writes a value, over an old one or as the first.
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError>;

    /// Writes the first value of a key.
    fn insert(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    /// Reads up to `limit` records in order, from a key on.
    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError>;

    /// Reads one key and writes another in a transaction, until it commits. Returns what was read and how many
    /// attempts were aborted.
    fn read_write(&mut self, read: usize, write: usize, value: u64) -> Result<(Option<u64>, u64), EngineError>;

    /// Reads a number and writes its successor in a transaction, until it commits; returns how many attempts were
    /// aborted.
    fn increment(&mut self, key: usize) -> Result<u64, EngineError>;
}

/// The error of an operation that a contender does not do.
fn lacks<T>(engine: &'static str, operation: Operation) -> Result<T, EngineError> {
    Err(EngineError::Foreign {
        engine,
        message: format!("has no {operation}"),
    })
}

/// Reads the number that the workload wrote.
#[inline]
fn number(bytes: &[u8]) -> Result<u64, EngineError> {
    bytes
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| EngineError::NotANumber {
            found: "bytes of another length",
        })
}

/// Implements the transactions of a contender without any.
macro_rules! no_transactions {
    ($contender:ty) => {
        fn read_write(&mut self, _: usize, _: usize, _: u64) -> Result<(Option<u64>, u64), EngineError> {
            super::lacks(<$contender>::NAME, super::Operation::ReadWrite)
        }

        fn increment(&mut self, _: usize) -> Result<u64, EngineError> {
            super::lacks(<$contender>::NAME, super::Operation::Contended)
        }
    };
}
use no_transactions;
