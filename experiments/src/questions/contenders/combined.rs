//! The versioned store in each of its combinations, without a database around it.
//!
//! Keys are encoded beforehand, so that what a side loses against `unlatched` is the facade's own work, and what it
//! loses against another side is the index, the collector or the clock. The store's scan is internal to the engine, so
//! that scans are compared through the database alone.
#![forbid(unsafe_code)]

use unlatched::Key;
use unlatched::internals::{OpenSnapshot, Write};

use super::locked::encoded;
use super::{Contender, MAX_ATTEMPTS, Operation, Scanned, Session, lacks, number};
use crate::engines::EngineError;
use crate::questions::combinations::Combination;
use crate::workload::KeySet;

/// A combination as a side of the comparison.
#[derive(Debug)]
pub struct Combined<C>(C);

impl<C: Combination> Contender for Combined<C> {
    const NAME: &'static str = C::NAME;

    type Keys = Vec<Key>;

    type Session<'a> = CombinedSession<'a, C>;

    fn prepare(keys: &KeySet) -> Vec<Key> {
        encoded(keys)
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        Ok(Self(C::open()))
    }

    fn session<'a>(&'a self, keys: &'a Vec<Key>) -> Result<CombinedSession<'a, C>, EngineError> {
        Ok(CombinedSession { store: &self.0, keys })
    }

    fn can(operation: Operation) -> bool {
        operation != Operation::Scan
    }
}

/// One thread's use of a combination.
#[derive(Debug)]
pub struct CombinedSession<'a, C> {
    store: &'a C,
    keys: &'a [Key],
}

impl<C: Combination> CombinedSession<'_, C> {
    /// Runs `body`, which returns a result and the new value of `write`, until it commits.
    #[inline]
    fn until_committed<T>(
        &self,
        write: usize,
        mut body: impl FnMut(&OpenSnapshot) -> Result<(T, u64), EngineError>,
    ) -> Result<(T, u64), EngineError> {
        for aborts in 0..MAX_ATTEMPTS {
            let snapshot = self.store.snapshot();
            let attempt = body(&snapshot).map(|(result, value)| {
                let write = Write {
                    key: self.keys[write].clone(),
                    value: Some(Box::new(value.to_le_bytes())),
                };
                self.store.commit(&snapshot, &[write]).then_some(result)
            });
            self.store.close(&snapshot);
            if let Some(result) = attempt? {
                return Ok((result, aborts));
            }
        }
        Err(EngineError::RetriesExhausted { attempts: MAX_ATTEMPTS })
    }
}

impl<C: Combination> Session for CombinedSession<'_, C> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.store.get_with(&self.keys[key], number).transpose()
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.store.put(&self.keys[key], &value.to_le_bytes());
        Ok(())
    }

    fn scan(&mut self, _: usize, _: usize) -> Result<Scanned, EngineError> {
        lacks(C::NAME, Operation::Scan)
    }

    #[inline]
    fn read_write(&mut self, read: usize, write: usize, value: u64) -> Result<(Option<u64>, u64), EngineError> {
        self.until_committed(write, |snapshot| {
            let found = self.store.get_at(&self.keys[read], snapshot, number).transpose()?;
            Ok((found, value))
        })
    }

    #[inline]
    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let ((), aborts) = self.until_committed(key, |snapshot| {
            let old = self.store.get_at(&self.keys[key], snapshot, number).transpose()?;
            Ok(((), old.unwrap_or(0).wrapping_add(1)))
        })?;
        Ok(aborts)
    }
}
