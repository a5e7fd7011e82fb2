//! The floors: what the raw structures cost, with no versions, no transactions and no facade.
//!
//! `crossbeam-skiplist` is the index that the engine can be built on: a search under a guard and an atomic load or
//! store in the node that is found. A key is inserted once, with `get_or_insert`, and never again: inserting over a
//! live key hides it from readers for a moment. `hash-map` is one `FxHashMap` for one thread, the cheapest store
//! that there is; a session holds it until it ends.
//!
//! Both have the storage layer only.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use crossbeam_epoch::{Collector, LocalHandle};
use crossbeam_skiplist::base::SkipList;
use rustc_hash::FxHashMap;
use unlatched::{Key, RunId, TypeTag};

use super::{Engine, EngineError, Operation, Session};
use crate::workload::{KEY_BYTES, KeySet};

const fn has_storage_only(operation: Operation) -> bool {
    matches!(operation, Operation::StoragePut | Operation::StorageGet)
}

/// Implements what a floor lacks.
macro_rules! storage_layer_only {
    ($engine:ty) => {
        fn engine_put(&mut self, _: usize, _: u64) -> Result<(), EngineError> {
            Err(EngineError::Unsupported {
                engine: <$engine>::NAME,
                operation: Operation::EnginePut,
            })
        }

        fn engine_get(&mut self, _: usize) -> Result<Option<u64>, EngineError> {
            Err(EngineError::Unsupported {
                engine: <$engine>::NAME,
                operation: Operation::EngineGet,
            })
        }

        fn facade_put(&mut self, _: usize, _: u64) -> Result<(), EngineError> {
            Err(EngineError::Unsupported {
                engine: <$engine>::NAME,
                operation: Operation::FacadePut,
            })
        }

        fn facade_get(&mut self, _: usize) -> Result<Option<u64>, EngineError> {
            Err(EngineError::Unsupported {
                engine: <$engine>::NAME,
                operation: Operation::FacadeGet,
            })
        }

        fn transaction_put(&mut self, _: usize, _: u64) -> Result<(), EngineError> {
            Err(EngineError::Unsupported {
                engine: <$engine>::NAME,
                operation: Operation::TransactionPut,
            })
        }

        fn increment(&mut self, _: usize) -> Result<u64, EngineError> {
            Err(EngineError::Unsupported {
                engine: <$engine>::NAME,
                operation: Operation::Increment,
            })
        }

        fn snapshot(&mut self) -> Result<(), EngineError> {
            Err(EngineError::Unsupported {
                engine: <$engine>::NAME,
                operation: Operation::Snapshot,
            })
        }

        fn overwrite_under_snapshot(
            &mut self,
            _: usize,
            _: u64,
            _: u64,
        ) -> Result<(Option<u64>, Option<u64>), EngineError> {
            self.snapshot().map(|()| (None, None))
        }
    };
}

/// The raw crossbeam skiplist.
pub struct CrossbeamSkipList {
    collector: Collector,
    list: SkipList<Key, AtomicU64>,
}

impl std::fmt::Debug for CrossbeamSkipList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrossbeamSkipList")
            .field("len", &self.list.len())
            .finish_non_exhaustive()
    }
}

/// Premade encoded keys.
#[derive(Debug)]
pub struct EncodedKeys(Vec<Key>);

impl Engine for CrossbeamSkipList {
    const NAME: &'static str = "crossbeam-skiplist";

    type Space = EncodedKeys;

    type Session<'a> = SkipListSession<'a>;

    fn open() -> Result<Self, EngineError> {
        let collector = Collector::new();
        Ok(Self {
            list: SkipList::new(collector.clone()),
            collector,
        })
    }

    fn space(&self, run: RunId, keys: Arc<KeySet>) -> EncodedKeys {
        EncodedKeys(
            (0..keys.len())
                .map(|index| Key::new(&run, TypeTag::Raw, keys.bytes(index)))
                .collect(),
        )
    }

    fn session<'a>(&'a self, space: &'a EncodedKeys) -> Result<SkipListSession<'a>, EngineError> {
        Ok(SkipListSession {
            list: &self.list,
            handle: self.collector.register(),
            keys: &space.0,
        })
    }

    fn supports(operation: Operation) -> bool {
        has_storage_only(operation)
    }
}

/// One thread's use of the raw skiplist.
pub struct SkipListSession<'a> {
    list: &'a SkipList<Key, AtomicU64>,
    handle: LocalHandle,
    keys: &'a [Key],
}

impl std::fmt::Debug for SkipListSession<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SkipListSession").finish_non_exhaustive()
    }
}

impl Session for SkipListSession<'_> {
    #[inline]
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        let guard = self.handle.pin();
        let key = &self.keys[key];
        // ORDERING: Relaxed, the value is a number on its own and publishes nothing.
        if let Some(entry) = self.list.get(key, &guard) {
            entry.value().store(value, Ordering::Relaxed);
            return Ok(());
        }
        let entry = self.list.get_or_insert(key.clone(), AtomicU64::new(value), &guard);
        entry.value().store(value, Ordering::Relaxed);
        entry.release(&guard);
        Ok(())
    }

    #[inline]
    fn storage_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        let guard = self.handle.pin();
        // ORDERING: Relaxed, see `storage_put`.
        Ok(self
            .list
            .get(&self.keys[key], &guard)
            .map(|entry| entry.value().load(Ordering::Relaxed)))
    }

    storage_layer_only!(CrossbeamSkipList);
}

/// What the raw hash map holds: premade 24-byte keys and numbers.
type RawMap = FxHashMap<[u8; KEY_BYTES], u64>;

/// A raw hash map for one thread.
#[derive(Debug, Default)]
pub struct HashMapFloor {
    map: Mutex<RawMap>,
}

/// Premade 24-byte keys; a run has no meaning here.
#[derive(Debug)]
pub struct PlainKeys(Vec<[u8; KEY_BYTES]>);

impl Engine for HashMapFloor {
    const NAME: &'static str = "hash-map";

    type Space = PlainKeys;

    type Session<'a> = HashMapSession<'a>;

    fn open() -> Result<Self, EngineError> {
        Ok(Self::default())
    }

    fn space(&self, _: RunId, keys: Arc<KeySet>) -> PlainKeys {
        PlainKeys((0..keys.len()).map(|index| keys.array(index)).collect())
    }

    fn session<'a>(&'a self, space: &'a PlainKeys) -> Result<HashMapSession<'a>, EngineError> {
        let map = match self.map.try_lock() {
            Ok(map) => map,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(EngineError::SingleThreaded { engine: Self::NAME }),
        };
        Ok(HashMapSession { map, keys: &space.0 })
    }

    fn supports(operation: Operation) -> bool {
        has_storage_only(operation)
    }

    fn is_single_threaded() -> bool {
        true
    }
}

/// The one thread's use of the raw hash map.
#[derive(Debug)]
pub struct HashMapSession<'a> {
    map: MutexGuard<'a, RawMap>,
    keys: &'a [[u8; KEY_BYTES]],
}

impl Session for HashMapSession<'_> {
    #[inline]
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.map.insert(self.keys[key], value);
        Ok(())
    }

    #[inline]
    fn storage_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        Ok(self.map.get(&self.keys[key]).copied())
    }

    storage_layer_only!(HashMapFloor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_session_on_the_hash_map_is_refused() {
        let floor = HashMapFloor::open().expect("cannot fail");
        let space = floor.space(RunId::from_bytes([0; 16]), Arc::new(KeySet::new(1, 0)));
        let first = floor.session(&space);
        assert!(matches!(
            floor.session(&space),
            Err(EngineError::SingleThreaded { engine: "hash-map" })
        ));
        drop(first);
        assert!(floor.session(&space).is_ok());
    }
}
