//! The engine itself, layer by layer.
//!
//! | layer | store | records |
//! |---|---|---|
//! | storage | a [`DefaultStore`] of its own | raw bytes under premade encoded keys |
//! | engine | a [`Database`] of its own | raw bytes |
//! | facade, transaction, snapshot | a [`KVStore`] and its [`Database`] | [`Value::I64`] |
//!
//! Each layer has its own store, so that a store holds exactly the stated number of keys whatever else is measured
//! in the same run. At a place of its own ([`Durable`]) both databases are kept there; the bare store is always in memory.
#![forbid(unsafe_code)]

use std::sync::Arc;

use unlatched::internals::DefaultStore;
use unlatched::{Database, Durability, KVStore, KVStoreExt as _, Key, Options, RunId, Timestamp, TypeTag, Value};

use super::{Engine, EngineError, Layer, Operation, Session};
use crate::disk::place::Place;
use crate::engines::bytes::{ByteEngine, Visitor};
use crate::engines::durable::Durable;
use crate::workload::KeySet;

/// How often an increment is tried: far beyond any fair share of bad luck, so that reaching it is a defect.
pub(crate) const MAX_ATTEMPTS: u64 = 1_000_000;

/// Capacity of the buffer that a session reads into: no value of the workload is longer, so that it never grows.
const BUFFER_BYTES: usize = 64;

/// Names of the databases at a place.
const DIRECT: &str = "engine";
const FACADE: &str = "facade";

/// Unlatched with its default index, reclamation and clock: in memory, or at a place.
pub struct Unlatched {
    store: DefaultStore,
    direct: Database,
    database: Arc<Database>,
    facade: KVStore,
    /// With what durability sessions load.
    loads: Durability,
}

impl Unlatched {
    fn over(direct: Database, database: Database, loads: Durability) -> Self {
        let database = Arc::new(database);
        Self {
            store: DefaultStore::new(),
            direct,
            facade: KVStore::new(Arc::clone(&database)),
            database,
            loads,
        }
    }

    /// Returns the database under the facade, for its statistics and for what the trait has no word for.
    #[must_use]
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Returns the facade.
    #[must_use]
    pub fn kv_store(&self) -> &KVStore {
        &self.facade
    }

    /// Returns the database of the engine layer.
    #[must_use]
    pub fn direct(&self) -> &Database {
        &self.direct
    }

    /// Returns the bare store of the storage layer.
    #[must_use]
    pub fn store(&self) -> &DefaultStore {
        &self.store
    }
}

impl std::fmt::Debug for Unlatched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unlatched").finish_non_exhaustive()
    }
}

impl Engine for Unlatched {
    const NAME: &'static str = "unlatched";

    type Space = UnlatchedSpace;

    type Session<'a> = UnlatchedSession<'a>;

    fn open() -> Result<Self, EngineError> {
        Ok(Self::over(
            Database::in_memory()?,
            Database::in_memory()?,
            Durability::InMemory,
        ))
    }

    fn space(&self, run: RunId, keys: Arc<KeySet>) -> UnlatchedSpace {
        let encoded = (0..keys.len())
            .map(|index| Key::new(&run, TypeTag::Raw, keys.bytes(index)))
            .collect();
        UnlatchedSpace { run, keys, encoded }
    }

    fn session<'a>(&'a self, space: &'a UnlatchedSpace) -> Result<UnlatchedSession<'a>, EngineError> {
        Ok(UnlatchedSession {
            engine: self,
            space,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        })
    }

    fn supports(_: Operation) -> bool {
        true
    }

    fn pending_versions(&self) -> Option<u64> {
        Some(self.database.stats().pending_versions)
    }
}

/// The keys of a run, as text for the facade and encoded for the bare store.
#[derive(Debug)]
pub struct UnlatchedSpace {
    run: RunId,
    keys: Arc<KeySet>,
    encoded: Vec<Key>,
}

/// One thread's use of [`Unlatched`].
#[derive(Debug)]
pub struct UnlatchedSession<'a> {
    engine: &'a Unlatched,
    space: &'a UnlatchedSpace,
    buffer: Vec<u8>,
}

impl Session for UnlatchedSession<'_> {
    #[inline]
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.engine.store.put(&self.space.encoded[key], &value.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn storage_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.engine
            .store
            .get_with(&self.space.encoded[key], |bytes, _| number(bytes))
            .transpose()
    }

    #[inline]
    fn engine_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.engine
            .direct
            .put(self.space.run, self.space.keys.bytes(key), value.to_le_bytes())?;
        Ok(())
    }

    #[inline]
    fn engine_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        let key = self.space.keys.bytes(key);
        self.engine
            .direct
            .get_with(self.space.run, key, |bytes, _| number(bytes))?
            .transpose()
    }

    #[inline]
    fn facade_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        Ok(self
            .engine
            .facade
            .put(self.space.run, self.space.keys.text(key), Value::I64(value as i64))?)
    }

    #[inline]
    fn facade_get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        let value = self.engine.facade.get(self.space.run, self.space.keys.text(key))?;
        value.as_ref().map(number_in).transpose()
    }

    #[inline]
    fn transaction_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        let key = self.space.keys.text(key);
        self.engine.database.transaction(self.space.run, |transaction| {
            transaction.kv_put(key, Value::I64(value as i64))
        })?;
        Ok(())
    }

    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let key = self.space.keys.text(key);
        for conflicts in 0..MAX_ATTEMPTS {
            let tried = self.engine.database.transaction(self.space.run, |transaction| {
                let number = match transaction.kv_get(key)? {
                    Some(Value::I64(number)) => number,
                    _ => 0,
                };
                transaction.kv_put(key, Value::I64(number.wrapping_add(1)))
            });
            match tried {
                Ok(()) => return Ok(conflicts),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::RetriesExhausted { attempts: MAX_ATTEMPTS })
    }

    #[inline]
    fn snapshot(&mut self) -> Result<(), EngineError> {
        drop(std::hint::black_box(self.engine.database.snapshot()?));
        Ok(())
    }

    fn overwrite_under_snapshot(
        &mut self,
        key: usize,
        old: u64,
        new: u64,
    ) -> Result<(Option<u64>, Option<u64>), EngineError> {
        let (database, run, key) = (&self.engine.database, self.space.run, self.space.keys.bytes(key));
        database.put(run, key, old.to_le_bytes())?;
        let snapshot = database.snapshot()?;
        database.put(run, key, new.to_le_bytes())?;
        let seen = snapshot.get_with(run, key, |bytes, _| number(bytes))?.transpose()?;
        let newest = database.get_with(run, key, |bytes, _| number(bytes))?.transpose()?;
        Ok((seen, newest))
    }

    fn load(&mut self, layer: Layer, key: usize, value: u64) -> Result<(), EngineError> {
        let (engine, run) = (self.engine, self.space.run);
        match layer {
            Layer::Storage => self.storage_put(key, value),
            _ if engine.loads == Durability::InMemory => match layer {
                Layer::Facade => self.facade_put(key, value),
                _ => self.engine_put(key, value),
            },
            Layer::Engine => {
                let key = self.space.keys.bytes(key);
                engine
                    .direct
                    .put_with_durability(run, key, value.to_le_bytes(), engine.loads)?;
                Ok(())
            }
            Layer::Facade => {
                let key = self.space.keys.text(key);
                let load =
                    |transaction: &mut unlatched::Transaction<'_>| transaction.kv_put(key, Value::I64(value as i64));
                Ok(engine.database.transaction_with_durability(run, engine.loads, load)?)
            }
        }
    }

    fn counted_only(&mut self, operation: Operation, key: usize, value: u64) -> Result<Option<u64>, EngineError> {
        let (facade, run) = (&self.engine.facade, self.space.run);
        let (first, second) = (
            self.space.keys.text(key),
            self.space.keys.text(self.space.successor(key)),
        );
        let value = || Value::I64(value as i64);
        match operation {
            Operation::GetInto => {
                let found = self.engine.direct.get_into(run, first, &mut self.buffer)?;
                return found.map(|_| number(&self.buffer)).transpose();
            }
            Operation::DeletePut => {
                if !facade.delete(run, first)? {
                    return Err(NOTHING);
                }
                facade.put(run, first, value())?;
            }
            Operation::CheckTwoPuts => facade.transaction(run, |transaction| {
                if transaction.exists(first)? {
                    transaction.put(first, value())?;
                }
                transaction.put(second, value())
            })?,
            Operation::GetPut => {
                let read = facade.transaction(run, |transaction| {
                    let read = transaction.get(second)?;
                    transaction.put(first, value()).map(|()| read)
                })?;
                number_in(&read.ok_or(NOTHING)?)?;
            }
            Operation::TwoGetsTwoPuts => {
                let (one, other) = facade.transaction(run, |transaction| {
                    let read = (transaction.get(first)?, transaction.get(second)?);
                    transaction.put(first, value())?;
                    transaction.put(second, value()).map(|()| read)
                })?;
                number_in(&one.ok_or(NOTHING)?)?;
                number_in(&other.ok_or(NOTHING)?)?;
            }
            _ => {
                let engine = Unlatched::NAME;
                return Err(EngineError::Unsupported { engine, operation });
            }
        }
        Ok(None)
    }

    fn under_snapshot(
        &mut self,
        body: &mut dyn FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let engine = self.engine;
        let _open = engine.direct.snapshot()?;
        body(self)
    }
}

/// A key that was loaded holds nothing.
const NOTHING: EngineError = EngineError::NotANumber { found: "nothing" };

impl UnlatchedSpace {
    fn successor(&self, key: usize) -> usize {
        (key + 1) % self.keys.len()
    }
}

impl ByteEngine for Unlatched {
    fn put_bytes(&self, run: &RunId, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.direct.put(run, key, value)?;
        Ok(())
    }

    fn get_bytes(&self, run: &RunId, key: &[u8], buffer: &mut Vec<u8>) -> Result<bool, EngineError> {
        Ok(self.direct.get_into(run, key, buffer)?.is_some())
    }

    fn visit(&self, run: &RunId, each: &mut Visitor<'_>) -> Result<(), EngineError> {
        let snapshot = self.direct.snapshot()?;
        for (key, value) in snapshot.prefix(run, b"") {
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Durable for Unlatched {
    fn open_at(place: &Place, durability: Durability) -> Result<Self, EngineError> {
        let open = |name| -> Result<Database, EngineError> { Ok(place.builder(name)?.durability(durability).open()?) };
        let loads = match durability {
            Durability::InMemory => Durability::InMemory,
            _ => Durability::BUFFERED,
        };
        Ok(Self::over(open(DIRECT)?, open(FACADE)?, loads))
    }

    fn default_durability() -> Durability {
        Options::new().chosen_durability()
    }

    #[inline]
    fn put_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError> {
        self.direct.put_with_durability(run, key, value, durability)?;
        Ok(())
    }

    fn delete_as(&self, run: &RunId, key: &[u8], durability: Durability) -> Result<bool, EngineError> {
        Ok(self.direct.delete_with_durability(run, key, durability)?)
    }

    fn insert_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError> {
        self.direct
            .cas_with_durability(run, key, Timestamp::ABSENT, value, durability)?;
        Ok(())
    }

    fn transact_as(
        &self,
        run: &RunId,
        keys: &[&[u8]],
        value: &[u8],
        durability: Durability,
    ) -> Result<(), EngineError> {
        Ok(self
            .direct
            .transaction_with_durability(run, durability, |transaction| {
                keys.iter().try_for_each(|key| transaction.put(key, value))
            })?)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.direct.flush()?;
        Ok(self.database.flush()?)
    }

    fn shut_down(&self) -> Result<(), EngineError> {
        self.direct.shutdown()?;
        Ok(self.database.shutdown()?)
    }
}

/// Reads the number that the workload wrote as bytes.
#[inline]
fn number(bytes: &[u8]) -> Result<u64, EngineError> {
    bytes
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| EngineError::NotANumber {
            found: "bytes of another length",
        })
}

/// Reads the number that the workload wrote as a value.
#[inline]
pub(crate) fn number_in(value: &Value) -> Result<u64, EngineError> {
    match value {
        Value::I64(number) => Ok(*number as u64),
        _ => Err(EngineError::NotANumber { found: "another kind" }),
    }
}
