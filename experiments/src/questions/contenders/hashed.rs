//! `dashmap`: a sharded hash map. What a get costs without order, versions or transactions.
#![forbid(unsafe_code)]

use std::hash::BuildHasherDefault;

use dashmap::DashMap;
use rustc_hash::FxHasher;

use super::crossbeam::arrays;
use super::{Contender, Operation, Scanned, Session, lacks, no_transactions};
use crate::engines::EngineError;
use crate::workload::{KEY_BYTES, KeySet};

/// The map, with the fast hasher of the other baselines.
#[derive(Debug, Default)]
pub struct Hashed {
    map: DashMap<[u8; KEY_BYTES], u64, BuildHasherDefault<FxHasher>>,
}

impl Contender for Hashed {
    const NAME: &'static str = "dashmap";

    type Keys = Vec<[u8; KEY_BYTES]>;

    type Session<'a> = HashedSession<'a>;

    fn prepare(keys: &KeySet) -> Self::Keys {
        arrays(keys)
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        Ok(Self::default())
    }

    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<HashedSession<'a>, EngineError> {
        Ok(HashedSession { store: self, keys })
    }

    fn can(operation: Operation) -> bool {
        !matches!(operation, Operation::Scan | Operation::ReadWrite | Operation::Contended)
    }
}

/// One thread's use of the map.
#[derive(Debug)]
pub struct HashedSession<'a> {
    store: &'a Hashed,
    keys: &'a [[u8; KEY_BYTES]],
}

impl Session for HashedSession<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        Ok(self.store.map.get(&self.keys[key]).map(|value| *value))
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        if let Some(mut slot) = self.store.map.get_mut(&self.keys[key]) {
            *slot = value;
            return Ok(());
        }
        self.insert(key, value)
    }

    #[inline]
    fn insert(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.store.map.insert(self.keys[key], value);
        Ok(())
    }

    fn scan(&mut self, _: usize, _: usize) -> Result<Scanned, EngineError> {
        lacks(Hashed::NAME, Operation::Scan)
    }

    no_transactions!(Hashed);
}
