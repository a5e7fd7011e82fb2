//! What the locked and sharded baselines have in common: their records, their transactions and their layers.
//!
//! A baseline says how one record is put and got under its locks, how a snapshot is made, and how a write set is
//! validated and applied. From that come the layers:
//!
//! | layer | a baseline with plain operations | `sharded-txn` |
//! |---|---|---|
//! | storage | put or get of a premade key | the same |
//! | engine, facade | encode the key, then put or get | begin, put or get, commit |
//! | transaction | begin, put, validate and apply | the same |
//!
//! A transaction buffers its writes, remembers the version of every key that it read from its snapshot, and conflicts
//! if one of those has another version at commit: the predecessor's rule. Values are [`Value`]s as in the
//! predecessor, and a record is overwritten in place where nobody needs the old one.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use unlatched::{Key, RunId, TypeTag, Value};

use super::bytes::{ByteEngine, Visitor};
use super::unlatched::{MAX_ATTEMPTS, number_in};
use super::{Engine, EngineError, Layer, Operation, Session};
use crate::workload::KeySet;

/// A value and the number of the write that stored it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The value.
    pub value: Value,
    /// Grows with every write of a store; zero stands for an absent key.
    pub version: u64,
}

/// A store under locks that can run transactions.
pub trait Baseline: Default + Send + Sync {
    /// The name it goes by.
    const NAME: &'static str;

    /// Whether even a single put or get of the upper layers runs as a transaction.
    const WRAPS_EVERYTHING: bool = false;

    /// What a transaction reads from.
    type Snapshot<'a>
    where
        Self: 'a;

    /// Overwrites or inserts one record.
    fn put(&self, run: &RunId, key: &Key, value: Value);

    /// Shows one record to `read`.
    fn get_with<T>(&self, run: &RunId, key: &Key, read: impl FnOnce(&Value) -> T) -> Option<T>;

    /// Makes a snapshot that can show the records of `run`.
    fn begin(&self, run: &RunId) -> Self::Snapshot<'_>;

    /// Returns a copy of a record as the snapshot has it.
    fn look(snapshot: &Self::Snapshot<'_>, key: &Key) -> Option<Stored>;

    /// Applies `writes` unless a key of `reads` has another version by now; says whether it did.
    fn commit(&self, run: &RunId, reads: &[(Key, u64)], writes: Vec<(Key, Value)>) -> bool;

    /// Shows every record of a run until `each` breaks.
    fn visit(&self, run: &RunId, each: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>);
}

/// A transaction over a snapshot of a baseline.
struct BaselineTransaction<'a, B: Baseline> {
    store: &'a B,
    run: &'a RunId,
    snapshot: B::Snapshot<'a>,
    reads: Vec<(Key, u64)>,
    writes: Vec<(Key, Value)>,
}

impl<'a, B: Baseline> BaselineTransaction<'a, B> {
    fn begin(store: &'a B, run: &'a RunId) -> Self {
        Self {
            store,
            run,
            snapshot: store.begin(run),
            reads: Vec::new(),
            writes: Vec::new(),
        }
    }

    fn get(&mut self, key: Key) -> Option<Value> {
        if let Some((_, value)) = self.writes.iter().rev().find(|(written, _)| *written == key) {
            return Some(value.clone());
        }
        let found = B::look(&self.snapshot, &key);
        self.reads
            .push((key, found.as_ref().map_or(0, |stored| stored.version)));
        found.map(|stored| stored.value)
    }

    fn put(&mut self, key: Key, value: Value) {
        self.writes.push((key, value));
    }

    fn commit(self) -> bool {
        self.store.commit(self.run, &self.reads, self.writes)
    }
}

/// A [`Baseline`] as an [`Engine`].
#[derive(Debug, Default)]
pub struct BaselineEngine<B> {
    store: B,
}

impl<B: Baseline> Engine for BaselineEngine<B> {
    const NAME: &'static str = B::NAME;

    type Space = BaselineSpace;

    type Session<'a>
        = BaselineSession<'a, B>
    where
        Self: 'a;

    fn open() -> Result<Self, EngineError> {
        Ok(Self { store: B::default() })
    }

    fn space(&self, run: RunId, keys: Arc<KeySet>) -> BaselineSpace {
        BaselineSpace::new(run, keys)
    }

    fn session<'a>(&'a self, space: &'a BaselineSpace) -> Result<BaselineSession<'a, B>, EngineError> {
        Ok(BaselineSession {
            store: &self.store,
            space,
        })
    }

    fn supports(operation: Operation) -> bool {
        !operation.is_counted_only()
    }

    fn layers_share_records() -> bool {
        true
    }
}

impl<B: Baseline> ByteEngine for BaselineEngine<B> {
    fn put_bytes(&self, run: &RunId, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        // The value is copied before any lock is taken.
        self.store
            .put(run, &Key::new(run, TypeTag::Raw, key), Value::Bytes(value.to_vec()));
        Ok(())
    }

    fn get_bytes(&self, run: &RunId, key: &[u8], buffer: &mut Vec<u8>) -> Result<bool, EngineError> {
        buffer.clear();
        let key = Key::new(run, TypeTag::Raw, key);
        Ok(self
            .store
            .get_with(run, &key, |value| buffer.extend_from_slice(bytes_in(value)))
            .is_some())
    }

    fn visit(&self, run: &RunId, each: &mut Visitor<'_>) -> Result<(), EngineError> {
        self.store
            .visit(run, &mut |key, value| each(key.user_key(), bytes_in(value)));
        Ok(())
    }
}

/// The bytes of a value; none of one that is no bytes, which a replay never writes.
pub(crate) fn bytes_in(value: &Value) -> &[u8] {
    match value {
        Value::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// The keys of a run, as text for the facade and encoded for the storage layer. All layers share the records.
#[derive(Debug)]
pub struct BaselineSpace {
    pub(crate) run: RunId,
    pub(crate) keys: Arc<KeySet>,
    pub(crate) encoded: Vec<Key>,
}

impl BaselineSpace {
    pub(crate) fn new(run: RunId, keys: Arc<KeySet>) -> Self {
        let encoded = (0..keys.len())
            .map(|index| Key::new(&run, TypeTag::KV, keys.bytes(index)))
            .collect();
        Self { run, keys, encoded }
    }

    /// Encodes a key as every layer above the storage must do.
    #[inline]
    pub(crate) fn encode(&self, key: usize) -> Key {
        Key::new(&self.run, TypeTag::KV, self.keys.text(key).as_bytes())
    }
}

/// One thread's use of a baseline.
#[derive(Debug)]
pub struct BaselineSession<'a, B> {
    store: &'a B,
    space: &'a BaselineSpace,
}

impl<B: Baseline> BaselineSession<'_, B> {
    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        if B::WRAPS_EVERYTHING {
            return self.transaction_put(key, value);
        }
        self.store
            .put(&self.space.run, &self.space.encode(key), Value::I64(value as i64));
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        let key = self.space.encode(key);
        if B::WRAPS_EVERYTHING {
            let mut transaction = BaselineTransaction::begin(self.store, &self.space.run);
            let value = transaction.get(key);
            // A transaction that only read cannot conflict in the predecessor's rule: it has nothing to apply.
            return value.as_ref().map(number_in).transpose();
        }
        self.store.get_with(&self.space.run, &key, number_in).transpose()
    }
}

impl<B: Baseline> Session for BaselineSession<'_, B> {
    #[inline]
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.store
            .put(&self.space.run, &self.space.encoded[key], Value::I64(value as i64));
        Ok(())
    }

    #[inline]
    fn storage_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.store
            .get_with(&self.space.run, &self.space.encoded[key], number_in)
            .transpose()
    }

    #[inline]
    fn engine_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    #[inline]
    fn engine_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.get(key)
    }

    #[inline]
    fn facade_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    #[inline]
    fn facade_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.get(key)
    }

    fn transaction_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        let mut transaction = BaselineTransaction::begin(self.store, &self.space.run);
        transaction.put(self.space.encode(key), Value::I64(value as i64));
        // It read nothing, so it cannot conflict.
        if transaction.commit() {
            Ok(())
        } else {
            Err(EngineError::RetriesExhausted { attempts: 1 })
        }
    }

    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        for conflicts in 0..MAX_ATTEMPTS {
            let mut transaction = BaselineTransaction::begin(self.store, &self.space.run);
            let number = match transaction.get(self.space.encode(key)) {
                Some(value) => number_in(&value)?,
                None => 0,
            };
            transaction.put(self.space.encode(key), Value::I64(number.wrapping_add(1) as i64));
            if transaction.commit() {
                return Ok(conflicts);
            }
        }
        Err(EngineError::RetriesExhausted { attempts: MAX_ATTEMPTS })
    }

    fn snapshot(&mut self) -> Result<(), EngineError> {
        drop(std::hint::black_box(self.store.begin(&self.space.run)));
        Ok(())
    }

    fn overwrite_under_snapshot(
        &mut self,
        key: usize,
        old: u64,
        new: u64,
    ) -> Result<(Option<u64>, Option<u64>), EngineError> {
        let run = &self.space.run;
        let key = Key::new(run, TypeTag::Raw, self.space.keys.bytes(key));
        self.store.put(run, &key, Value::I64(old as i64));
        let snapshot = self.store.begin(run);
        self.store.put(run, &key, Value::I64(new as i64));
        let seen = B::look(&snapshot, &key)
            .map(|stored| number_in(&stored.value))
            .transpose()?;
        let newest = self.store.get_with(run, &key, number_in).transpose()?;
        Ok((seen, newest))
    }

    fn under_snapshot(
        &mut self,
        body: &mut dyn FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let store = self.store;
        let _open = store.begin(&self.space.run);
        body(self)
    }

    fn load(&mut self, _: Layer, key: usize, value: u64) -> Result<(), EngineError> {
        self.storage_put(key, value)
    }

    fn read(&mut self, _: Layer, key: usize) -> Result<Option<u64>, EngineError> {
        self.storage_get(key)
    }
}
