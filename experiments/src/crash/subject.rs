//! What a campaign asks of the store that it crashes.
//!
//! A trait and not the database itself, because a campaign is to be tried on stores with known defects: one that finds
//! nothing proves something only if it finds those.
#![forbid(unsafe_code)]

use std::sync::Arc;

use unlatched::internals::SimStorage;
use unlatched::{Database, Durability, Error, RunId};

use super::workload::Settings;

/// All keys are in one run.
const RUN: RunId = RunId::from_bytes([7; 16]);

/// Keys and values, in the order of keys.
pub type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// A durable store on a simulated disk. Timestamps are numbers; errors are those of the engine.
pub trait Subject: Sized + Send + Sync {
    /// Whether [`checkpoint`](Self::checkpoint) can be called.
    const CHECKPOINTS: bool = false;

    /// Opens what is on the disk.
    ///
    /// # Errors
    ///
    /// What [`unlatched::DatabaseBuilder::open`] returns.
    fn open(storage: SimStorage, settings: &Settings) -> Result<Self, Error>;

    /// Puts, and returns the commit timestamp.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<u64, Error>;

    /// Deletes.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn delete(&self, key: &[u8], durability: Durability) -> Result<bool, Error>;

    /// Writes a value if the newest commit is `expected`, or if there is none and that is zero.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn swap(&self, key: &[u8], expected: u64, value: &[u8], durability: Durability) -> Result<u64, Error>;

    /// Writes several keys in one transaction, which reads them first; returns of each whether it was there.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn transact(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)], durability: Durability) -> Result<Vec<bool>, Error>;

    /// Makes everything durable that is committed.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn flush(&self) -> Result<(), Error>;

    /// Takes a checkpoint, and returns the timestamp of the moment that it holds. Not called on stores without.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn checkpoint(&self) -> Result<u64, Error> {
        Err(Error::InvalidOperation("this store has no checkpoints".to_owned()))
    }

    /// Reads a value and its commit timestamp.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn get(&self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Error>;

    /// Draws a timestamp: all commits before have at most this one, all after have more.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn now(&self) -> Result<u64, Error>;

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn scan(&self) -> Result<Records, Error>;

    /// Shuts down: everything with a record is durable then.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    fn shut_down(&self) -> Result<(), Error>;
}

/// The engine itself.
#[derive(Debug)]
pub struct Unlatched(Database);

impl Subject for Unlatched {
    const CHECKPOINTS: bool = true;

    fn open(storage: SimStorage, settings: &Settings) -> Result<Self, Error> {
        Database::builder()
            .storage(Arc::new(storage))
            .durability(settings.durability)
            .segment_bytes(settings.segment_bytes)
            .checkpoint_bytes(settings.checkpoint_bytes)
            .background(settings.has_background)
            .open()
            .map(Self)
    }

    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<u64, Error> {
        let written = self.0.put_with_durability(RUN, key, value, durability)?;
        Ok(written.get())
    }

    fn delete(&self, key: &[u8], durability: Durability) -> Result<bool, Error> {
        self.0.delete_with_durability(RUN, key, durability)
    }

    fn swap(&self, key: &[u8], expected: u64, value: &[u8], durability: Durability) -> Result<u64, Error> {
        let expected = unlatched::Timestamp::from_raw(expected);
        let written = self.0.cas_with_durability(RUN, key, expected, value, durability)?;
        Ok(written.get())
    }

    fn transact(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)], durability: Durability) -> Result<Vec<bool>, Error> {
        self.0.transaction_with_durability(RUN, durability, |transaction| {
            let mut existed = Vec::with_capacity(writes.len());
            for (key, value) in writes {
                existed.push(transaction.exists(key)?);
                match value {
                    Some(value) => transaction.put(key, value)?,
                    None => drop(transaction.delete(key)?),
                }
            }
            Ok(existed)
        })
    }

    fn flush(&self) -> Result<(), Error> {
        self.0.flush()
    }

    fn checkpoint(&self) -> Result<u64, Error> {
        Ok(self.0.checkpoint()?.get())
    }

    fn get(&self, key: &[u8]) -> Result<Option<(Vec<u8>, u64)>, Error> {
        self.0
            .get_with(RUN, key, |value, timestamp| (value.to_vec(), timestamp.get()))
    }

    fn now(&self) -> Result<u64, Error> {
        Ok(self.0.snapshot()?.timestamp().get())
    }

    fn scan(&self) -> Result<Records, Error> {
        Ok(self.0.snapshot()?.prefix(RUN, b"").collect())
    }

    fn shut_down(&self) -> Result<(), Error> {
        self.0.shutdown()
    }
}
