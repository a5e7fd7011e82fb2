//! The engine through its public interface: a database in memory and a run of raw bytes.
//!
//! A get borrows the value under a guard, a put is a whole commit, a scan opens its own snapshot, and a transaction is
//! tried again by hand, so that its aborts can be counted and no pause stands between attempts.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use unlatched::{Database, RunId};

use super::{Contender, MAX_ATTEMPTS, Operation, Scanned, Session, number};
use crate::engines::EngineError;
use crate::workload::KeySet;

/// A database and the run that everything is in.
#[derive(Debug)]
pub struct Unlatched {
    database: Database,
    run: RunId,
}

impl Contender for Unlatched {
    const NAME: &'static str = "unlatched";

    type Keys = KeySet;

    type Session<'a> = UnlatchedSession<'a>;

    fn prepare(keys: &KeySet) -> KeySet {
        keys.clone()
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        Ok(Self {
            database: Database::in_memory()?,
            run: crate::workload::run_id(0, 0),
        })
    }

    fn session<'a>(&'a self, keys: &'a KeySet) -> Result<UnlatchedSession<'a>, EngineError> {
        Ok(UnlatchedSession {
            database: &self.database,
            run: self.run,
            keys,
        })
    }

    fn can(_: Operation) -> bool {
        true
    }
}

/// One thread's use of the database.
#[derive(Debug)]
pub struct UnlatchedSession<'a> {
    database: &'a Database,
    run: RunId,
    keys: &'a KeySet,
}

impl UnlatchedSession<'_> {
    /// Runs `body` until it commits; returns its result and the aborts.
    #[inline]
    fn until_committed<T>(
        &self,
        mut body: impl FnMut(&mut unlatched::Transaction<'_>) -> unlatched::Result<T>,
    ) -> Result<(T, u64), EngineError> {
        for aborts in 0..MAX_ATTEMPTS {
            match self.database.transaction(self.run, &mut body) {
                Ok(result) => return Ok((result, aborts)),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::RetriesExhausted { attempts: MAX_ATTEMPTS })
    }
}

impl Session for UnlatchedSession<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.database
            .get_with(self.run, self.keys.bytes(key), |bytes, _| number(bytes))?
            .transpose()
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.database.put(self.run, self.keys.bytes(key), value.to_le_bytes())?;
        Ok(())
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        let snapshot = self.database.snapshot()?;
        let mut scanned = Scanned::default();
        let mut left = limit;
        let mut wrong = None;
        snapshot.range_with(self.run, self.keys.bytes(from).., |_, value| {
            match number(value) {
                Ok(value) => scanned.add(value),
                Err(error) => wrong = Some(error),
            }
            left -= 1;
            if left > 0 && wrong.is_none() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        wrong.map_or(Ok(scanned), Err)
    }

    #[inline]
    fn read_write(&mut self, read: usize, write: usize, value: u64) -> Result<(Option<u64>, u64), EngineError> {
        let (read, write) = (self.keys.bytes(read), self.keys.bytes(write));
        let (found, aborts) = self.until_committed(|transaction| {
            let found = transaction.get_with(read, number)?;
            transaction.put(write, value.to_le_bytes())?;
            Ok(found)
        })?;
        Ok((found.transpose()?, aborts))
    }

    #[inline]
    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let key = self.keys.bytes(key);
        let ((), aborts) = self.until_committed(|transaction| {
            let found = transaction.get_with(key, number)?;
            let old = found.unwrap_or(Ok(0)).map_err(unlatched::Error::user)?;
            transaction.put(key, old.wrapping_add(1).to_le_bytes())
        })?;
        Ok(aborts)
    }
}
