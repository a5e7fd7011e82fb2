//! `sharded`: a `DashMap` from run to that run's `FxHashMap`, every operation by itself.
//!
//! The strongest simple rival: no order, no versions, no snapshots and no transactions, so the only thing that a put
//! pays for besides its hash is the shard's lock. Threads on disjoint runs contend only where the map puts
//! two runs behind one lock, so it is given many more locks than threads: [`LOCKS`].
#![forbid(unsafe_code)]

use std::sync::Arc;

use dashmap::DashMap;
use rustc_hash::{FxBuildHasher, FxHashMap};
use unlatched::{Key, RunId, TypeTag, Value};

use super::baseline::{BaselineSpace, Stored, bytes_in};
use super::bytes::{ByteEngine, Visitor};
use super::unlatched::number_in;
use super::{Engine, EngineError, Operation, Session};
use crate::workload::KeySet;

/// Locks of the outer map. Two of 16 runs share one with a chance of about 1 in 9.
pub const LOCKS: usize = 1_024;

/// All shards, by run.
pub(crate) type Shards = DashMap<RunId, Shard, FxBuildHasher>;

/// Makes an empty set of shards.
pub(crate) fn new_shards() -> Shards {
    DashMap::with_hasher_and_shard_amount(FxBuildHasher, LOCKS)
}

/// The records of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    pub(crate) records: FxHashMap<Key, Stored>,
    version: u64,
}

impl Shard {
    /// Overwrites or inserts a record with a version of the caller's.
    #[inline]
    pub(crate) fn store(&mut self, key: &Key, stored: Stored) {
        match self.records.get_mut(key) {
            Some(slot) => *slot = stored,
            None => {
                self.records.insert(key.clone(), stored);
            }
        }
    }

    #[inline]
    fn put(&mut self, key: &Key, value: Value) {
        self.version += 1;
        let version = self.version;
        self.store(key, Stored { value, version });
    }
}

/// Sharded maps, one per run.
#[derive(Debug)]
pub struct Sharded {
    shards: Shards,
}

impl Sharded {
    #[inline]
    fn put(&self, run: &RunId, key: &Key, value: Value) {
        if let Some(mut shard) = self.shards.get_mut(run) {
            shard.put(key, value);
            return;
        }
        self.shards.entry(*run).or_default().put(key, value);
    }

    #[inline]
    fn get_with<T>(&self, run: &RunId, key: &Key, read: impl FnOnce(&Value) -> T) -> Option<T> {
        self.shards.get(run)?.records.get(key).map(|stored| read(&stored.value))
    }
}

impl Engine for Sharded {
    const NAME: &'static str = "sharded";

    type Space = BaselineSpace;

    type Session<'a> = ShardedSession<'a>;

    fn open() -> Result<Self, EngineError> {
        Ok(Self { shards: new_shards() })
    }

    fn space(&self, run: RunId, keys: Arc<KeySet>) -> BaselineSpace {
        BaselineSpace::new(run, keys)
    }

    fn session<'a>(&'a self, space: &'a BaselineSpace) -> Result<ShardedSession<'a>, EngineError> {
        Ok(ShardedSession { engine: self, space })
    }

    fn supports(operation: Operation) -> bool {
        !matches!(operation, Operation::TransactionPut | Operation::Snapshot) && !operation.is_counted_only()
    }

    fn layers_share_records() -> bool {
        true
    }
}

/// One thread's use of [`Sharded`].
#[derive(Debug)]
pub struct ShardedSession<'a> {
    engine: &'a Sharded,
    space: &'a BaselineSpace,
}

impl Session for ShardedSession<'_> {
    #[inline]
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.engine
            .put(&self.space.run, &self.space.encoded[key], Value::I64(value as i64));
        Ok(())
    }

    #[inline]
    fn storage_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.engine
            .get_with(&self.space.run, &self.space.encoded[key], number_in)
            .transpose()
    }

    #[inline]
    fn engine_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.facade_put(key, value)
    }

    #[inline]
    fn engine_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.facade_get(key)
    }

    #[inline]
    fn facade_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.engine
            .put(&self.space.run, &self.space.encode(key), Value::I64(value as i64));
        Ok(())
    }

    #[inline]
    fn facade_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.engine
            .get_with(&self.space.run, &self.space.encode(key), number_in)
            .transpose()
    }

    fn transaction_put(&mut self, _: usize, _: u64) -> Result<(), EngineError> {
        Err(EngineError::Unsupported {
            engine: Sharded::NAME,
            operation: Operation::TransactionPut,
        })
    }

    /// Adds in place, under the shard's lock: there are no transactions.
    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let key = self.space.encode(key);
        let mut shard = self.engine.shards.entry(self.space.run).or_default();
        let number = shard
            .records
            .get(&key)
            .map(|stored| number_in(&stored.value))
            .transpose()?
            .unwrap_or(0);
        shard.put(&key, Value::I64(number.wrapping_add(1) as i64));
        Ok(0)
    }

    fn snapshot(&mut self) -> Result<(), EngineError> {
        Err(EngineError::Unsupported {
            engine: Sharded::NAME,
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
}

impl ByteEngine for Sharded {
    fn put_bytes(&self, run: &RunId, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.put(run, &Key::new(run, TypeTag::Raw, key), Value::Bytes(value.to_vec()));
        Ok(())
    }

    fn get_bytes(&self, run: &RunId, key: &[u8], buffer: &mut Vec<u8>) -> Result<bool, EngineError> {
        buffer.clear();
        let key = Key::new(run, TypeTag::Raw, key);
        Ok(self
            .get_with(run, &key, |value| buffer.extend_from_slice(bytes_in(value)))
            .is_some())
    }

    fn visit(&self, run: &RunId, each: &mut Visitor<'_>) -> Result<(), EngineError> {
        if let Some(shard) = self.shards.get(run) {
            let _stopped = shard
                .records
                .iter()
                .try_for_each(|(key, stored)| each(key.user_key(), bytes_in(&stored.value)));
        }
        Ok(())
    }
}
