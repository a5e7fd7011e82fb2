//! A deliberately broken engine: it acknowledges every update and loses some, and its reads are made up.
//!
//! Measurement must be safe against it: whatever it scores, its figures are to come out as invalid. It is `sharded`
//! with four defects. Of the puts, one in [`LOSS_PERIOD`] is acknowledged and not made. An increment reads, lets
//! others run, and writes without looking again, and one in the same number is not made either, so
//! that a run on one thread is caught as well. A get returns [`CONSTANT`] whatever is stored, which is as fast as a get can
//! be. A snapshot is taken of nothing and shows what is newest. What checking reads is sound, so that each defect is
//! caught by its own check. At a place it keeps its bytes in a database, but for those puts that are not made.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use unlatched::{Durability, RunId};

use super::baseline::BaselineSpace;
use super::bytes::{ByteEngine, Visitor};
use super::durable::Durable;
use super::sharded::{Sharded, ShardedSession};
use super::unlatched::Unlatched;
use super::{Engine, EngineError, Layer, Operation, Session};
use crate::disk::place::Place;
use crate::workload::KeySet;

/// One update in so many is lost.
pub const LOSS_PERIOD: u64 = 100;

/// What every get returns.
pub const CONSTANT: u64 = 7;

/// [`Sharded`] with lost updates.
#[derive(Debug)]
pub struct Broken {
    inner: Sharded,
    /// Where bytes are kept instead, if anywhere.
    kept: Option<Unlatched>,
    updates: AtomicU64,
}

impl Broken {
    fn new(kept: Option<Unlatched>) -> Result<Self, EngineError> {
        Ok(Self {
            inner: Sharded::open()?,
            kept,
            updates: AtomicU64::new(0),
        })
    }

    fn kept(&self) -> Result<&Unlatched, EngineError> {
        self.kept.as_ref().ok_or(EngineError::Unsupported {
            engine: Self::NAME,
            operation: Operation::EnginePut,
        })
    }

    fn loses_this_one(&self) -> bool {
        // ORDERING: Relaxed, only the count matters.
        self.updates.fetch_add(1, Ordering::Relaxed) % LOSS_PERIOD == LOSS_PERIOD - 1
    }
}

impl Engine for Broken {
    const NAME: &'static str = "broken";

    type Space = BaselineSpace;

    type Session<'a> = BrokenSession<'a>;

    fn open() -> Result<Self, EngineError> {
        Self::new(None)
    }

    fn space(&self, run: RunId, keys: Arc<KeySet>) -> BaselineSpace {
        self.inner.space(run, keys)
    }

    fn session<'a>(&'a self, space: &'a BaselineSpace) -> Result<BrokenSession<'a>, EngineError> {
        Ok(BrokenSession {
            engine: self,
            inner: self.inner.session(space)?,
            keys: space.keys.len(),
        })
    }

    fn supports(_: Operation) -> bool {
        true
    }

    fn layers_share_records() -> bool {
        true
    }
}

/// One thread's use of [`Broken`].
#[derive(Debug)]
pub struct BrokenSession<'a> {
    engine: &'a Broken,
    inner: ShardedSession<'a>,
    keys: usize,
}

impl BrokenSession<'_> {
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        if self.engine.loses_this_one() {
            Ok(())
        } else {
            self.inner.facade_put(key, value)
        }
    }
}

impl Session for BrokenSession<'_> {
    fn storage_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn storage_get(&mut self, _: usize) -> Result<Option<u64>, EngineError> {
        Ok(Some(CONSTANT))
    }

    fn engine_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn engine_get(&mut self, _: usize) -> Result<Option<u64>, EngineError> {
        Ok(Some(CONSTANT))
    }

    fn facade_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn facade_get(&mut self, _: usize) -> Result<Option<u64>, EngineError> {
        Ok(Some(CONSTANT))
    }

    fn transaction_put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.put(key, value)
    }

    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let number = self.inner.facade_get(key)?.unwrap_or(0);
        std::thread::yield_now();
        self.put(key, number.wrapping_add(1))?;
        Ok(0)
    }

    fn snapshot(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn overwrite_under_snapshot(
        &mut self,
        key: usize,
        _: u64,
        new: u64,
    ) -> Result<(Option<u64>, Option<u64>), EngineError> {
        let before = self.inner.facade_get(key)?;
        self.inner.facade_put(key, new)?;
        let newest = self.inner.facade_get(key)?;
        if let Some(before) = before {
            self.inner.facade_put(key, before)?;
        }
        Ok((newest, newest))
    }

    fn counted_only(&mut self, operation: Operation, key: usize, value: u64) -> Result<Option<u64>, EngineError> {
        if operation.is_get() {
            return Ok(Some(CONSTANT));
        }
        self.put(key, value)?;
        if operation.puts_successor() {
            self.put((key + 1) % self.keys, value)?;
        }
        Ok(None)
    }

    fn under_snapshot(
        &mut self,
        body: &mut dyn FnMut(&mut Self) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        body(self)
    }

    /// Loads soundly: only what is measured is to be lost.
    fn load(&mut self, layer: Layer, key: usize, value: u64) -> Result<(), EngineError> {
        self.inner.load(layer, key, value)
    }

    /// Reads soundly: what checking sees is what is stored.
    fn read(&mut self, layer: Layer, key: usize) -> Result<Option<u64>, EngineError> {
        self.inner.read(layer, key)
    }
}

impl ByteEngine for Broken {
    fn put_bytes(&self, run: &RunId, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        if self.loses_this_one() {
            return Ok(());
        }
        match &self.kept {
            Some(kept) => kept.put_bytes(run, key, value),
            None => self.inner.put_bytes(run, key, value),
        }
    }

    fn get_bytes(&self, run: &RunId, key: &[u8], buffer: &mut Vec<u8>) -> Result<bool, EngineError> {
        match &self.kept {
            Some(kept) => kept.get_bytes(run, key, buffer),
            None => self.inner.get_bytes(run, key, buffer),
        }
    }

    fn visit(&self, run: &RunId, each: &mut Visitor<'_>) -> Result<(), EngineError> {
        match &self.kept {
            Some(kept) => kept.visit(run, each),
            None => self.inner.visit(run, each),
        }
    }
}

impl Durable for Broken {
    fn open_at(place: &Place, durability: Durability) -> Result<Self, EngineError> {
        Self::new(Some(Unlatched::open_at(place, durability)?))
    }

    fn default_durability() -> Durability {
        Unlatched::default_durability()
    }

    fn put_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError> {
        if self.loses_this_one() {
            return Ok(());
        }
        self.kept()?.put_as(run, key, value, durability)
    }

    fn delete_as(&self, run: &RunId, key: &[u8], durability: Durability) -> Result<bool, EngineError> {
        self.kept()?.delete_as(run, key, durability)
    }

    fn insert_as(&self, run: &RunId, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError> {
        self.kept()?.insert_as(run, key, value, durability)
    }

    fn transact_as(
        &self,
        run: &RunId,
        keys: &[&[u8]],
        value: &[u8],
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.kept()?.transact_as(run, keys, value, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.kept()?.flush()
    }

    fn shut_down(&self) -> Result<(), EngineError> {
        self.kept()?.shut_down()
    }
}
