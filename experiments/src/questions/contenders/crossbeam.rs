//! The raw crossbeam skiplist under an epoch guard: 24-byte keys, and an atomic number in the node.
//!
//! There are two ways to overwrite. `crossbeam` searches and stores into the node that it finds: no memory is managed
//! and no reader of the old value can go on reading it, so it is the least that any engine over this index could cost.
//! `crossbeam-insert` is what the library's own map does: it inserts a new node and removes the old one. Everything but
//! overwriting is the same and measured once, as `crossbeam`.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::{Collector, LocalHandle};
use crossbeam_skiplist::base::SkipList;

use super::{Contender, Operation, Scanned, Session, lacks, no_transactions};
use crate::engines::EngineError;
use crate::workload::{KEY_BYTES, KeySet};

type List = SkipList<[u8; KEY_BYTES], AtomicU64>;

/// Overwrites in place.
pub type InPlace = Crossbeam<false>;

/// Overwrites by inserting.
pub type ByInsert = Crossbeam<true>;

/// The raw skiplist with a collector of its own.
pub struct Crossbeam<const BY_INSERT: bool> {
    list: List,
    collector: Collector,
}

impl<const BY_INSERT: bool> std::fmt::Debug for Crossbeam<BY_INSERT> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct(Self::NAME).finish_non_exhaustive()
    }
}

/// Returns the keys as arrays.
#[must_use]
pub fn arrays(keys: &KeySet) -> Vec<[u8; KEY_BYTES]> {
    (0..keys.len()).map(|index| keys.array(index)).collect()
}

impl<const BY_INSERT: bool> Contender for Crossbeam<BY_INSERT> {
    const NAME: &'static str = if BY_INSERT { "crossbeam-insert" } else { "crossbeam" };

    type Keys = Vec<[u8; KEY_BYTES]>;

    type Session<'a> = CrossbeamSession<'a, BY_INSERT>;

    fn prepare(keys: &KeySet) -> Self::Keys {
        arrays(keys)
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        let collector = Collector::new();
        Ok(Self {
            list: SkipList::new(collector.clone()),
            collector,
        })
    }

    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<Self::Session<'a>, EngineError> {
        Ok(CrossbeamSession {
            list: &self.list,
            handle: self.collector.register(),
            keys,
        })
    }

    fn can(operation: Operation) -> bool {
        if BY_INSERT {
            operation == Operation::Overwrite
        } else {
            !matches!(operation, Operation::ReadWrite | Operation::Contended)
        }
    }
}

/// One thread's use of the list.
pub struct CrossbeamSession<'a, const BY_INSERT: bool> {
    list: &'a List,
    handle: LocalHandle,
    keys: &'a [[u8; KEY_BYTES]],
}

impl<const BY_INSERT: bool> std::fmt::Debug for CrossbeamSession<'_, BY_INSERT> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrossbeamSession").finish_non_exhaustive()
    }
}

// ORDERING: Relaxed on every value: it is a number on its own and publishes nothing.
impl<const BY_INSERT: bool> Session for CrossbeamSession<'_, BY_INSERT> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        let guard = self.handle.pin();
        Ok(self
            .list
            .get(&self.keys[key], &guard)
            .map(|entry| entry.value().load(Ordering::Relaxed)))
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        if BY_INSERT {
            return self.insert(key, value);
        }
        let guard = self.handle.pin();
        if let Some(entry) = self.list.get(&self.keys[key], &guard) {
            entry.value().store(value, Ordering::Relaxed);
            return Ok(());
        }
        let entry = self.list.get_or_insert(self.keys[key], AtomicU64::new(value), &guard);
        entry.value().store(value, Ordering::Relaxed);
        entry.release(&guard);
        Ok(())
    }

    #[inline]
    fn insert(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        let guard = self.handle.pin();
        self.list
            .insert(self.keys[key], AtomicU64::new(value), &guard)
            .release(&guard);
        Ok(())
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        if BY_INSERT {
            return lacks(Crossbeam::<true>::NAME, Operation::Scan);
        }
        let guard = self.handle.pin();
        let mut scanned = Scanned::default();
        for entry in self.list.range(self.keys[from].., &guard).take(limit) {
            scanned.add(entry.value().load(Ordering::Relaxed));
        }
        Ok(scanned)
    }

    no_transactions!(Crossbeam<BY_INSERT>);
}
