//! `surrealmx`: a published multi-version engine in memory, with its default options and background threads.
//!
//! A get borrows the value, a put is a whole commit, a scan reads one snapshot. Transactions run under snapshot
//! isolation, which is what the engine beside it promises; its default, serializability, would cost it more.
#![forbid(unsafe_code)]

use surrealmx::{Database, Error, Transaction};

use super::crossbeam::arrays;
use super::{Contender, MAX_ATTEMPTS, Operation, Scanned, Session, number};
use crate::engines::EngineError;
use crate::workload::{KEY_BYTES, KeySet};

/// A key above every key of the workload.
const END: [u8; KEY_BYTES] = [0xff; KEY_BYTES];

/// A surrealmx database.
pub struct SurrealMx {
    database: Database,
}

impl std::fmt::Debug for SurrealMx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SurrealMx").finish_non_exhaustive()
    }
}

fn refused(error: Error) -> EngineError {
    EngineError::Foreign {
        engine: SurrealMx::NAME,
        message: error.to_string(),
    }
}

impl Contender for SurrealMx {
    const NAME: &'static str = "surrealmx";

    type Keys = Vec<[u8; KEY_BYTES]>;

    type Session<'a> = SurrealSession<'a>;

    fn prepare(keys: &KeySet) -> Self::Keys {
        arrays(keys)
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        Ok(Self {
            database: Database::new(),
        })
    }

    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<SurrealSession<'a>, EngineError> {
        Ok(SurrealSession {
            database: &self.database,
            keys,
        })
    }

    fn can(_: Operation) -> bool {
        true
    }
}

/// One thread's use of the database.
pub struct SurrealSession<'a> {
    database: &'a Database,
    keys: &'a [[u8; KEY_BYTES]],
}

impl std::fmt::Debug for SurrealSession<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SurrealSession").finish_non_exhaustive()
    }
}

impl SurrealSession<'_> {
    /// Runs `body` until it commits; returns its result and the aborts.
    #[inline]
    fn until_committed<T>(
        &self,
        mut body: impl FnMut(&mut Transaction) -> Result<T, EngineError>,
    ) -> Result<(T, u64), EngineError> {
        for aborts in 0..MAX_ATTEMPTS {
            let mut transaction = self.database.transaction(true).with_snapshot_isolation();
            let result = body(&mut transaction)?;
            match transaction.commit() {
                Ok(()) => return Ok((result, aborts)),
                Err(Error::KeyReadConflict | Error::KeyWriteConflict) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        Err(EngineError::RetriesExhausted { attempts: MAX_ATTEMPTS })
    }
}

impl Session for SurrealSession<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.database
            .with_value(self.keys[key], number)
            .map_err(refused)?
            .transpose()
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.database.set(self.keys[key], value.to_le_bytes()).map_err(refused)
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        let mut scanned = Scanned::default();
        let mut sound = Ok(());
        self.database
            .scan_with(&self.keys[from]..&END, None, Some(limit), |_, bytes| {
                match number(bytes) {
                    Ok(value) => scanned.add(value),
                    Err(error) => sound = Err(error),
                }
                true
            })
            .map_err(refused)?;
        sound.map(|()| scanned)
    }

    #[inline]
    fn read_write(&mut self, read: usize, write: usize, value: u64) -> Result<(Option<u64>, u64), EngineError> {
        self.until_committed(|transaction| {
            let found = transaction.with_value(self.keys[read], number).map_err(refused)?;
            transaction
                .set(self.keys[write], value.to_le_bytes())
                .map_err(refused)?;
            found.transpose()
        })
    }

    #[inline]
    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let key = &self.keys[key];
        let ((), aborts) = self.until_committed(|transaction| {
            let found = transaction.with_value(key, number).map_err(refused)?.transpose()?;
            let next = found.unwrap_or(0).wrapping_add(1);
            transaction.set(key, next.to_le_bytes()).map_err(refused)
        })?;
        Ok(aborts)
    }
}
