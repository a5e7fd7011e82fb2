//! `heed`: LMDB, a copy-on-write B-tree in a memory map with one writer at a time and readers that never wait.
//!
//! LMDB has no mode without a file, so it gets its fastest: a file in a memory file system where there is one, a map
//! that is written to directly and no sync at all. Every put is a commit. Readers are made per operation, as the
//! others' are, and use the thread's own slot. One writer at a time means that no transaction ever aborts.
//!
//! **Why the unsafe calls are sound.** A map is only as safe as its file: the folder is new, its name is random, nobody
//! else is told of it, and it is removed after the environment is closed. It is opened once and on a local file system,
//! and the space for the whole map is there beforehand, since a page of a map that cannot be stored kills the process.
//! Without syncs a crash may lose the file, and the file is never opened again.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use ::heed::types::Bytes;
use ::heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, WithTls};
use tempfile::TempDir;

use super::crossbeam::arrays;
use super::{Contender, Operation, Scanned, Session, number};
use crate::engines::EngineError;
use crate::workload::{KEY_BYTES, KeySet};

/// A memory file system, on systems that have one here.
const MEMORY_FOLDER: &str = "/dev/shm";

/// Bytes of the map per key: about 60 in a half-full leaf, and as much again for pages that await their readers.
const MAP_BYTES_PER_KEY: usize = 256;

/// Smallest map.
const MIN_MAP_BYTES: usize = 64 << 20;

/// The unit in which the map is made; a multiple of every page size.
const MAP_UNIT: usize = 1 << 20;

type Records<'e> = Database<'e, Bytes, Bytes>;

/// An environment in a folder of its own.
pub struct Lmdb {
    // Closed before the folder is removed.
    environment: Env<WithTls>,
    _folder: TempDir,
}

impl std::fmt::Debug for Lmdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lmdb").finish_non_exhaustive()
    }
}

fn refused(error: impl std::fmt::Display) -> EngineError {
    EngineError::Foreign {
        engine: Lmdb::NAME,
        message: error.to_string(),
    }
}

/// Returns a folder whose file system has `bytes` to spare, in memory if possible.
fn folder_with(bytes: usize) -> Result<PathBuf, EngineError> {
    let candidates = [PathBuf::from(MEMORY_FOLDER), std::env::temp_dir()];
    let roomy = |folder: &Path| {
        rustix::fs::statvfs(folder).is_ok_and(|system| system.f_bavail.saturating_mul(system.f_frsize) > bytes as u64)
    };
    candidates.into_iter().find(|folder| roomy(folder)).ok_or_else(|| {
        refused(format!(
            "no room for a map of {} MiB; set TMPDIR to a folder with more, or leave it out with --only",
            bytes >> 20
        ))
    })
}

impl Contender for Lmdb {
    const NAME: &'static str = "heed";

    type Keys = Vec<[u8; KEY_BYTES]>;

    type Session<'a> = LmdbSession<'a>;

    fn prepare(keys: &KeySet) -> Self::Keys {
        arrays(keys)
    }

    fn open(capacity: usize) -> Result<Self, EngineError> {
        let bytes = (capacity * MAP_BYTES_PER_KEY)
            .max(MIN_MAP_BYTES)
            .next_multiple_of(MAP_UNIT);
        let folder = TempDir::new_in(folder_with(bytes)?).map_err(refused)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(bytes);
        // SAFETY: without syncs a crash may lose the file, which nobody opens again; readers keep their locks.
        unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP) };
        // SAFETY: the folder is new and private to this value, and has room for the whole map (see the file's head).
        let environment = unsafe { options.open(folder.path()) }.map_err(refused)?;
        let transaction = environment.write_txn().map_err(refused)?;
        environment
            .create_databases_and_commit(transaction, |opener, transaction| {
                opener
                    .create_database::<Bytes, Bytes>(transaction, None)
                    .map(CommitOrAbort::<_, ()>::Commit)
            })
            .map_err(refused)?;
        Ok(Self {
            environment,
            _folder: folder,
        })
    }

    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<LmdbSession<'a>, EngineError> {
        let transaction = self.environment.read_txn().map_err(refused)?;
        let opened = self
            .environment
            .open_databases_and_commit(transaction, |opener, transaction| {
                opener
                    .open_database::<Bytes, Bytes>(transaction, None)
                    .map(CommitOrAbort::<_, ()>::Commit)
            })
            .map_err(refused)?;
        let records = opened
            .commit()
            .flatten()
            .ok_or_else(|| refused("the records that were made are not there"))?;
        Ok(LmdbSession {
            environment: &self.environment,
            records,
            keys,
        })
    }

    fn can(_: Operation) -> bool {
        true
    }
}

/// One thread's use of the environment.
pub struct LmdbSession<'a> {
    environment: &'a Env<WithTls>,
    records: Records<'a>,
    keys: &'a [[u8; KEY_BYTES]],
}

impl std::fmt::Debug for LmdbSession<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LmdbSession").finish_non_exhaustive()
    }
}

impl Session for LmdbSession<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        let transaction = self.environment.read_txn().map_err(refused)?;
        let found = self.records.get(&transaction, &self.keys[key]).map_err(refused)?;
        found.map(number).transpose()
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        let mut transaction = self.environment.write_txn().map_err(refused)?;
        self.records
            .put(&mut transaction, &self.keys[key], &value.to_le_bytes())
            .map_err(refused)?;
        transaction.commit().map_err(refused)
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        let transaction = self.environment.read_txn().map_err(refused)?;
        let mut scanned = Scanned::default();
        let from: &[u8] = &self.keys[from];
        let bounds = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        let records = self.records.range(&transaction, &bounds).map_err(refused)?;
        for record in records.take(limit) {
            let (_, value) = record.map_err(refused)?;
            scanned.add(number(value)?);
        }
        Ok(scanned)
    }

    #[inline]
    fn read_write(&mut self, read: usize, write: usize, value: u64) -> Result<(Option<u64>, u64), EngineError> {
        let mut transaction = self.environment.write_txn().map_err(refused)?;
        let found = self.records.get(&transaction, &self.keys[read]).map_err(refused)?;
        let found = found.map(number).transpose()?;
        self.records
            .put(&mut transaction, &self.keys[write], &value.to_le_bytes())
            .map_err(refused)?;
        transaction.commit().map_err(refused)?;
        Ok((found, 0))
    }

    #[inline]
    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let mut transaction = self.environment.write_txn().map_err(refused)?;
        let found = self.records.get(&transaction, &self.keys[key]).map_err(refused)?;
        let next = found.map(number).transpose()?.unwrap_or(0).wrapping_add(1);
        self.records
            .put(&mut transaction, &self.keys[key], &next.to_le_bytes())
            .map_err(refused)?;
        transaction.commit().map_err(refused)?;
        Ok(0)
    }
}
