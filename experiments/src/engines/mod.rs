//! One trait over every engine that is compared, and the names they go by.
//!
//! | name | file | what it is |
//! |---|---|---|
//! | `unlatched` | [`unlatched`] | the engine itself |
//! | `m3` | [`locked`] | one `RwLock` around a `BTreeMap`, cloned deeply for every snapshot |
//! | `m3-cheap` | [`locked`] | the same lock and map, holding versions, so that a snapshot is a number |
//! | `sharded` | [`sharded`] | `DashMap` of a `FxHashMap` per run, every operation by itself |
//! | `sharded-txn` | [`sharded_txn`] | the same maps, all of it transactions over deep clones: the predecessor |
//! | `crossbeam-skiplist` | [`floors`] | the raw index: no versions |
//! | `hash-map` | [`floors`] | a raw hash map for one thread: no versions |
//! | `broken` | [`broken`] | loses updates on purpose; for tests |
//!
//! An [`Engine`] is opened, told its keys once per run ([`Engine::space`]) and then used through one [`Session`] per
//! thread. A session names a key by its index in the space, where it lies in the form that each layer takes, so that
//! nothing but the operation is in a timed loop. All calls are resolved at compile time.
//!
//! Layers keep their own records where an engine has several stores, so a layer must be loaded before it is
//! measured, and only those that are loaded take memory.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ::unlatched::RunId;

use crate::workload::KeySet;

pub mod baseline;
pub mod broken;
pub mod bytes;
pub mod durable;
pub mod floors;
pub mod locked;
pub mod sharded;
pub mod sharded_txn;
pub mod unlatched;

/// What went wrong in an engine under measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine has no such operation; ask [`Engine::supports`] first.
    #[error("{engine} has no {operation}")]
    Unsupported {
        /// The engine's name.
        engine: &'static str,
        /// What was asked of it.
        operation: Operation,
    },
    /// A second session was asked of an engine for one thread.
    #[error("{engine} serves one thread at a time; close its other session first")]
    SingleThreaded {
        /// The engine's name.
        engine: &'static str,
    },
    /// The engine under test refused.
    #[error("unlatched: {0}")]
    Unlatched(#[from] ::unlatched::Error),
    /// A transaction met a conflict every time it was tried.
    #[error("gave up after {attempts} conflicts in a row")]
    RetriesExhausted {
        /// How often it was tried.
        attempts: u64,
    },
    /// An engine or index of somebody else refused.
    #[error("{engine}: {message}")]
    Foreign {
        /// Its name.
        engine: &'static str,
        /// What it said.
        message: String,
    },
    /// The directory for databases can't be used.
    #[error("the directory for databases can't be used: {0}; choose another with --dir")]
    Disk(#[from] std::io::Error),
    /// A stored value is not what the workload writes.
    #[error("a value of {found} was read where a number is stored")]
    NotANumber {
        /// What kind of value it is.
        found: &'static str,
    },
}

/// Which layer's records an operation touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// A0: the versioned store, or a bare structure.
    Storage,
    /// The engine's face: bytes, no facade.
    Engine,
    /// The key-value facade; an explicit transaction (B) writes these records too.
    Facade,
}

/// What can be measured on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A0, `storage/put`.
    StoragePut,
    /// A0, `storage/get`.
    StorageGet,
    /// `engine/put_direct`.
    EnginePut,
    /// `engine/get_direct`.
    EngineGet,
    /// A1, `kvstore/put`.
    FacadePut,
    /// A1, `kvstore/get`.
    FacadeGet,
    /// B, `transaction/put`.
    TransactionPut,
    /// Reads a number and writes its successor in one transaction, again after a conflict.
    Increment,
    /// Acquires and releases a snapshot.
    Snapshot,
    /// Reads through the engine into a buffer of the session's.
    GetInto,
    /// Deletes a key and puts it again, through the facade.
    DeletePut,
    /// One transaction: sees whether a key exists and puts it then, and puts its successor.
    CheckTwoPuts,
    /// One transaction: reads the successor of a key and puts the key.
    GetPut,
    /// One transaction: reads a key and its successor and puts both.
    TwoGetsTwoPuts,
}

impl Operation {
    /// Every operation: those that are timed from the lowest layer up, then those that are only counted.
    pub const ALL: [Self; 14] = [
        Self::StoragePut,
        Self::StorageGet,
        Self::EnginePut,
        Self::EngineGet,
        Self::FacadePut,
        Self::FacadeGet,
        Self::TransactionPut,
        Self::Increment,
        Self::Snapshot,
        Self::GetInto,
        Self::DeletePut,
        Self::CheckTwoPuts,
        Self::GetPut,
        Self::TwoGetsTwoPuts,
    ];

    /// Returns the layer whose records it touches.
    #[must_use]
    pub const fn layer(self) -> Layer {
        match self {
            Self::StoragePut | Self::StorageGet => Layer::Storage,
            Self::EnginePut | Self::EngineGet | Self::GetInto => Layer::Engine,
            Self::FacadePut
            | Self::FacadeGet
            | Self::TransactionPut
            | Self::Increment
            | Self::Snapshot
            | Self::DeletePut
            | Self::CheckTwoPuts
            | Self::GetPut
            | Self::TwoGetsTwoPuts => Layer::Facade,
        }
    }

    /// Says whether it leaves a value of the caller's under its key.
    #[must_use]
    pub const fn is_put(self) -> bool {
        matches!(
            self,
            Self::StoragePut
                | Self::EnginePut
                | Self::FacadePut
                | Self::TransactionPut
                | Self::DeletePut
                | Self::CheckTwoPuts
                | Self::GetPut
                | Self::TwoGetsTwoPuts
        )
    }

    /// Says whether it leaves the same value under the key's successor, the next index or, behind the last, the
    /// first.
    #[must_use]
    pub const fn puts_successor(self) -> bool {
        matches!(self, Self::CheckTwoPuts | Self::TwoGetsTwoPuts)
    }

    /// Says whether it returns what a key holds.
    #[must_use]
    pub const fn is_get(self) -> bool {
        matches!(
            self,
            Self::StorageGet | Self::EngineGet | Self::FacadeGet | Self::GetInto
        )
    }

    /// Says whether its allocations are counted and it is never timed: the engine under test alone has it.
    #[must_use]
    pub const fn is_counted_only(self) -> bool {
        matches!(
            self,
            Self::GetInto | Self::DeletePut | Self::CheckTwoPuts | Self::GetPut | Self::TwoGetsTwoPuts
        )
    }

    /// Returns the name that benches and results use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StoragePut => "storage/put",
            Self::StorageGet => "storage/get",
            Self::EnginePut => "engine/put_direct",
            Self::EngineGet => "engine/get_direct",
            Self::FacadePut => "kvstore/put",
            Self::FacadeGet => "kvstore/get",
            Self::TransactionPut => "transaction/put",
            Self::Increment => "transaction/increment",
            Self::Snapshot => "snapshot",
            Self::GetInto => "engine/get_into",
            Self::DeletePut => "kvstore/delete+put",
            Self::CheckTwoPuts => "transaction/check+2put",
            Self::GetPut => "transaction/get+put",
            Self::TwoGetsTwoPuts => "transaction/2get+2put",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An engine under measurement. Shared by reference between the threads of a slice.
pub trait Engine: Send + Sync + Sized {
    /// The name it goes by everywhere.
    const NAME: &'static str;

    /// The keys of one run, in the form that each layer takes.
    type Space: Send + Sync;

    /// What one thread works through.
    type Session<'a>: Session
    where
        Self: 'a;

    /// Opens an empty engine in memory.
    ///
    /// # Errors
    ///
    /// Returns what the engine says.
    fn open() -> Result<Self, EngineError>;

    /// Prepares the keys of `run`.
    fn space(&self, run: RunId, keys: Arc<KeySet>) -> Self::Space;

    /// Begins a session on a run. Make it in the thread that uses it.
    ///
    /// # Errors
    ///
    /// Returns [`EngineError::SingleThreaded`] if the engine can't have another.
    fn session<'a>(&'a self, space: &'a Self::Space) -> Result<Self::Session<'a>, EngineError>;

    /// Says whether sessions can do `operation`.
    #[must_use]
    fn supports(operation: Operation) -> bool;

    /// Says whether all layers work on the same records, so that a put of one layer is seen by the others.
    #[must_use]
    fn layers_share_records() -> bool {
        false
    }

    /// Returns how many versions are retired and not yet freed, where an engine keeps versions and counts them.
    #[must_use]
    fn pending_versions(&self) -> Option<u64> {
        None
    }

    /// Says whether it serves only one thread at a time.
    #[must_use]
    fn is_single_threaded() -> bool {
        false
    }
}

/// One thread's use of an engine, on the keys of one space. Keys are given by index.
///
/// Every method returns what the engine refused as an error; an operation that [`Engine::supports`] denies is
/// [`EngineError::Unsupported`].
pub trait Session {
    /// A0: writes a version.
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError>;

    /// A0: reads the newest version.
    fn storage_get(&mut self, key: usize) -> Result<Option<u64>, EngineError>;

    /// Puts through the engine, without a facade.
    fn engine_put(&mut self, key: usize, value: u64) -> Result<(), EngineError>;

    /// Gets through the engine, without a facade.
    fn engine_get(&mut self, key: usize) -> Result<Option<u64>, EngineError>;

    /// A1: puts through the key-value facade.
    fn facade_put(&mut self, key: usize, value: u64) -> Result<(), EngineError>;

    /// A1: gets through the key-value facade.
    fn facade_get(&mut self, key: usize) -> Result<Option<u64>, EngineError>;

    /// B: the facade's put within an explicit transaction.
    fn transaction_put(&mut self, key: usize, value: u64) -> Result<(), EngineError>;

    /// Adds one to a number of the facade (absent counts as zero) in a transaction, until it commits; returns how
    /// many conflicts it met.
    fn increment(&mut self, key: usize) -> Result<u64, EngineError>;

    /// Acquires a snapshot and releases it.
    fn snapshot(&mut self) -> Result<(), EngineError>;

    /// Writes `old`, takes a snapshot, writes `new`, and returns what is then read through the snapshot and beside
    /// it. The record is one of its own, under the key's name but of another type, so that no layer's contents
    /// change.
    fn overwrite_under_snapshot(
        &mut self,
        key: usize,
        old: u64,
        new: u64,
    ) -> Result<(Option<u64>, Option<u64>), EngineError>;

    /// Does an operation that [is counted only](Operation::is_counted_only); returns what it read, if it is a get.
    fn counted_only(&mut self, operation: Operation, _key: usize, _value: u64) -> Result<Option<u64>, EngineError> {
        let engine = "an engine beside";
        Err(EngineError::Unsupported { engine, operation })
    }

    /// Runs `body` while a snapshot of the engine layer is open that was taken before.
    fn under_snapshot(
        &mut self,
        _body: &mut dyn FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        Err(EngineError::Unsupported {
            engine: "an engine without snapshots",
            operation: Operation::Snapshot,
        })
    }

    /// Writes a first value into a layer, by the cheapest way there is.
    fn load(&mut self, layer: Layer, key: usize, value: u64) -> Result<(), EngineError> {
        match layer {
            Layer::Storage => self.storage_put(key, value),
            Layer::Engine => self.engine_put(key, value),
            Layer::Facade => self.facade_put(key, value),
        }
    }

    /// Reads the final value of a key in a layer, for checking.
    fn read(&mut self, layer: Layer, key: usize) -> Result<Option<u64>, EngineError> {
        match layer {
            Layer::Storage => self.storage_get(key),
            Layer::Engine => self.engine_get(key),
            Layer::Facade => self.facade_get(key),
        }
    }
}

/// The engines that a user may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineName {
    /// The engine itself.
    Unlatched,
    /// One lock, deep-cloned snapshots.
    M3,
    /// One lock, cheap snapshots.
    M3Cheap,
    /// Sharded maps.
    Sharded,
    /// Sharded maps under transactions over deep clones.
    ShardedTxn,
}

/// A name that belongs to no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown engine \"{name}\"; the engines are unlatched, m3, m3-cheap, sharded and sharded-txn")]
pub struct UnknownEngine {
    /// The name as given.
    pub name: String,
}

impl EngineName {
    /// Every engine, in the order of tables.
    pub const ALL: [Self; 5] = [
        Self::Unlatched,
        Self::M3,
        Self::M3Cheap,
        Self::Sharded,
        Self::ShardedTxn,
    ];

    /// Returns the name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unlatched => "unlatched",
            Self::M3 => "m3",
            Self::M3Cheap => "m3-cheap",
            Self::Sharded => "sharded",
            Self::ShardedTxn => "sharded-txn",
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EngineName {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.as_str() == name)
            .ok_or_else(|| UnknownEngine { name: name.to_owned() })
    }
}

#[cfg(test)]
mod conformance;
