//! `m3` and `btree-lock`: one `RwLock` around one `BTreeMap`.
//!
//! `m3` is the baseline of the gates, with its encoded keys and its values. `btree-lock` holds plain 24-byte keys and
//! numbers: nothing that calls itself one lock around an ordered map can do less. A transaction is the exclusive lock,
//! so that none ever aborts; a scan holds the shared lock, which is its moment.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use unlatched::{Key, RunId, TypeTag, Value};

use super::crossbeam::arrays;
use super::{Contender, Operation, Scanned, Session};
use crate::engines::EngineError;
use crate::engines::baseline::Baseline as _;
use crate::engines::locked::LockedMap;
use crate::engines::unlatched::number_in;
use crate::workload::{KEY_BYTES, KeySet, run_id};

/// The baseline of the gates.
#[derive(Debug, Default)]
pub struct M3 {
    map: LockedMap,
}

impl Contender for M3 {
    const NAME: &'static str = "m3";

    type Keys = Vec<Key>;

    type Session<'a> = M3Session<'a>;

    fn prepare(keys: &KeySet) -> Vec<Key> {
        encoded(keys)
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        Ok(Self::default())
    }

    fn session<'a>(&'a self, keys: &'a Vec<Key>) -> Result<M3Session<'a>, EngineError> {
        Ok(M3Session {
            map: &self.map,
            run: run_id(0, 0),
            keys,
        })
    }

    fn can(_: Operation) -> bool {
        true
    }
}

/// Returns the keys of one run as the engine encodes them.
#[must_use]
pub fn encoded(keys: &KeySet) -> Vec<Key> {
    let run = run_id(0, 0);
    (0..keys.len())
        .map(|index| Key::new(&run, TypeTag::Raw, keys.bytes(index)))
        .collect()
}

/// One thread's use of the baseline.
#[derive(Debug)]
pub struct M3Session<'a> {
    map: &'a LockedMap,
    run: RunId,
    keys: &'a [Key],
}

impl Session for M3Session<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        self.map.get_with(&self.run, &self.keys[key], number_in).transpose()
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        self.map.put(&self.run, &self.keys[key], Value::I64(value as i64));
        Ok(())
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        let mut scanned = Scanned::default();
        let mut sound = Ok(());
        self.map
            .scan_from(&self.keys[from], limit, |value| match number_in(value) {
                Ok(value) => scanned.add(value),
                Err(error) => sound = Err(error),
            });
        sound.map(|()| scanned)
    }

    #[inline]
    fn read_write(&mut self, read: usize, write: usize, value: u64) -> Result<(Option<u64>, u64), EngineError> {
        let (read, write) = (&self.keys[read], &self.keys[write]);
        let found = self.map.read_then_write(read, write, |found| {
            (Value::I64(value as i64), found.map(number_in).transpose())
        });
        Ok((found?, 0))
    }

    #[inline]
    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let key = &self.keys[key];
        let found = self.map.read_then_write(key, key, |found| {
            let old = found.map(number_in).transpose();
            let next = old.as_ref().ok().copied().flatten().unwrap_or(0).wrapping_add(1);
            (Value::I64(next as i64), old)
        });
        found.map(|_| 0)
    }
}

/// The lock and the map with nothing of an engine in them.
#[derive(Debug, Default)]
pub struct TreeUnderLock {
    map: RwLock<BTreeMap<[u8; KEY_BYTES], u64>>,
}

// A panic under the lock is a failed measurement whatever is done then.
impl TreeUnderLock {
    fn shared(&self) -> RwLockReadGuard<'_, BTreeMap<[u8; KEY_BYTES], u64>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, BTreeMap<[u8; KEY_BYTES], u64>> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(map: &mut BTreeMap<[u8; KEY_BYTES], u64>, key: &[u8; KEY_BYTES], value: u64) {
    match map.get_mut(key) {
        Some(slot) => *slot = value,
        None => {
            map.insert(*key, value);
        }
    }
}

impl Contender for TreeUnderLock {
    const NAME: &'static str = "btree-lock";

    type Keys = Vec<[u8; KEY_BYTES]>;

    type Session<'a> = TreeSession<'a>;

    fn prepare(keys: &KeySet) -> Self::Keys {
        arrays(keys)
    }

    fn open(_: usize) -> Result<Self, EngineError> {
        Ok(Self::default())
    }

    fn session<'a>(&'a self, keys: &'a Self::Keys) -> Result<TreeSession<'a>, EngineError> {
        Ok(TreeSession { store: self, keys })
    }

    fn can(_: Operation) -> bool {
        true
    }
}

/// One thread's use of the map under its lock.
#[derive(Debug)]
pub struct TreeSession<'a> {
    store: &'a TreeUnderLock,
    keys: &'a [[u8; KEY_BYTES]],
}

impl Session for TreeSession<'_> {
    #[inline]
    fn get(&mut self, key: usize) -> Result<Option<u64>, EngineError> {
        Ok(self.store.shared().get(&self.keys[key]).copied())
    }

    #[inline]
    fn put(&mut self, key: usize, value: u64) -> Result<(), EngineError> {
        write(&mut self.store.exclusive(), &self.keys[key], value);
        Ok(())
    }

    fn scan(&mut self, from: usize, limit: usize) -> Result<Scanned, EngineError> {
        let mut scanned = Scanned::default();
        for (_, value) in self.store.shared().range(self.keys[from]..).take(limit) {
            scanned.add(*value);
        }
        Ok(scanned)
    }

    #[inline]
    fn read_write(&mut self, read: usize, key: usize, value: u64) -> Result<(Option<u64>, u64), EngineError> {
        let mut map = self.store.exclusive();
        let found = map.get(&self.keys[read]).copied();
        write(&mut map, &self.keys[key], value);
        Ok((found, 0))
    }

    #[inline]
    fn increment(&mut self, key: usize) -> Result<u64, EngineError> {
        let mut map = self.store.exclusive();
        *map.entry(self.keys[key]).or_insert(0) += 1;
        Ok(0)
    }
}
