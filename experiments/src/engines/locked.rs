//! `m3` and `m3-cheap`: one `RwLock` around one ordered map, the predecessor's baseline `m3_baseline_perf`.
//!
//! `m3` keeps one version per key; a snapshot is a deep clone of the whole map, taken under the shared lock, as the
//! predecessor took it. `m3-cheap` is the same lock and map done well: a record keeps the versions that open
//! snapshots may need, so that a snapshot is a number and its registration, at any size and any number of writers.
//! (A map shared by reference and cloned on the first write under a snapshot would be cheap only while writers and
//! snapshots do not overlap, which is when nobody measures it.)
//!
//! Single puts and gets take the lock and do their work in place; neither clones anything.
//!
//! **Invariants of `m3-cheap`.**
//! 1. Versions of a record grow from `older`'s front over its back to `newest`.
//! 2. A snapshot is registered under the shared lock, so no writer runs between reading the version and
//!    registering it; a writer, under the exclusive lock, thus sees every snapshot that may need what it drops.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use unlatched::{Key, RunId, TypeTag, Value};

use super::baseline::{Baseline, BaselineEngine, Stored};

/// `m3`: deep-cloned snapshots.
pub type M3 = BaselineEngine<LockedMap>;

/// `m3-cheap`: snapshots by version.
pub type M3Cheap = BaselineEngine<VersionedMap>;

/// One lock around an ordered map with one version per key.
#[derive(Debug, Default)]
pub struct LockedMap {
    state: RwLock<LockedState>,
}

#[derive(Clone, Debug, Default)]
struct LockedState {
    map: BTreeMap<Key, Stored>,
    version: u64,
}

impl LockedState {
    fn write(&mut self, key: &Key, value: Value) {
        self.version += 1;
        let stored = Stored {
            value,
            version: self.version,
        };
        match self.map.get_mut(key) {
            Some(slot) => *slot = stored,
            None => {
                self.map.insert(key.clone(), stored);
            }
        }
    }
}

// A panic under these locks is a failed measurement whatever is done then; nothing is gained by a second panic.
fn shared<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn exclusive<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// The records of a run, as a range of encoded keys.
fn records_of<'a, T>(map: &'a BTreeMap<Key, T>, run: &RunId) -> impl Iterator<Item = (&'a Key, &'a T)> {
    let run = *run;
    let first = Key::new(&run, TypeTag::Raw, b"");
    map.range((Bound::Included(first), Bound::Unbounded))
        .take_while(move |(key, _)| key.run() == run)
}

impl LockedMap {
    /// Shows up to `limit` values in the order of their keys, from a key on, under the shared lock.
    pub fn scan_from(&self, from: &Key, limit: usize, mut each: impl FnMut(&Value)) {
        let state = shared(&self.state);
        let records = state.map.range((Bound::Included(from), Bound::Unbounded));
        records.take(limit).for_each(|(_, stored)| each(&stored.value));
    }

    /// Reads one key and writes another (or the same) under one exclusive lock; `next` gives the new value and the
    /// result from what was read.
    #[inline]
    pub fn read_then_write<T>(&self, read: &Key, write: &Key, next: impl FnOnce(Option<&Value>) -> (Value, T)) -> T {
        let mut state = exclusive(&self.state);
        let (value, result) = next(state.map.get(read).map(|stored| &stored.value));
        state.write(write, value);
        result
    }
}

impl Baseline for LockedMap {
    const NAME: &'static str = "m3";

    type Snapshot<'a> = BTreeMap<Key, Stored>;

    #[inline]
    fn put(&self, _: &RunId, key: &Key, value: Value) {
        exclusive(&self.state).write(key, value);
    }

    #[inline]
    fn get_with<T>(&self, _: &RunId, key: &Key, read: impl FnOnce(&Value) -> T) -> Option<T> {
        shared(&self.state).map.get(key).map(|stored| read(&stored.value))
    }

    fn begin(&self, _: &RunId) -> BTreeMap<Key, Stored> {
        shared(&self.state).map.clone()
    }

    fn look(snapshot: &BTreeMap<Key, Stored>, key: &Key) -> Option<Stored> {
        snapshot.get(key).cloned()
    }

    fn commit(&self, _: &RunId, reads: &[(Key, u64)], writes: Vec<(Key, Value)>) -> bool {
        let mut state = exclusive(&self.state);
        let unchanged = |(key, version): &(Key, u64)| state.map.get(key).map_or(0, |stored| stored.version) == *version;
        if !reads.iter().all(unchanged) {
            return false;
        }
        for (key, value) in writes {
            state.write(&key, value);
        }
        true
    }

    fn visit(&self, run: &RunId, each: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>) {
        let state = shared(&self.state);
        let _stopped = records_of(&state.map, run).try_for_each(|(key, stored)| each(key, &stored.value));
    }
}

/// One lock around an ordered map of records with as many versions as open snapshots need.
#[derive(Debug, Default)]
pub struct VersionedMap {
    state: RwLock<VersionedState>,
    snapshots: Mutex<BTreeMap<u64, usize>>,
    open: AtomicUsize,
}

#[derive(Debug, Default)]
struct VersionedState {
    map: BTreeMap<Key, Record>,
    version: u64,
}

#[derive(Debug)]
struct Record {
    newest: Stored,
    older: Vec<Stored>,
}

impl Record {
    /// Returns the newest version at or below `version`.
    fn at(&self, version: u64) -> Option<&Stored> {
        std::iter::once(&self.newest)
            .chain(self.older.iter().rev())
            .find(|stored| stored.version <= version)
    }

    /// Overwrites; keeps what a snapshot at or above `oldest` may need, or nothing if there is no snapshot.
    fn overwrite(&mut self, stored: Stored, oldest: Option<u64>) {
        let previous = std::mem::replace(&mut self.newest, stored);
        match oldest {
            None => self.older.clear(),
            Some(oldest) => {
                // INVARIANT 1: the newest goes behind everything older.
                self.older.push(previous);
                let needed = self
                    .older
                    .iter()
                    .rposition(|stored| stored.version <= oldest)
                    .unwrap_or(0);
                self.older.drain(..needed);
            }
        }
    }
}

impl VersionedMap {
    fn registry(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes under the exclusive lock, of which `state` is the proof.
    fn write(&self, state: &mut VersionedState, key: &Key, value: Value) {
        // ORDERING: Relaxed. INVARIANT 2: registrations happen before this through the lock; a release that is
        // not seen yet only keeps a version longer.
        let oldest = match self.open.load(Ordering::Relaxed) {
            0 => None,
            _ => self.registry().keys().next().copied(),
        };
        state.version += 1;
        let stored = Stored {
            value,
            version: state.version,
        };
        match state.map.get_mut(key) {
            Some(record) => record.overwrite(stored, oldest),
            None => {
                state.map.insert(
                    key.clone(),
                    Record {
                        newest: stored,
                        older: Vec::new(),
                    },
                );
            }
        }
    }
}

/// A registered version of a [`VersionedMap`].
#[derive(Debug)]
pub struct VersionSnapshot<'a> {
    store: &'a VersionedMap,
    version: u64,
}

impl Drop for VersionSnapshot<'_> {
    fn drop(&mut self) {
        let mut registry = self.store.registry();
        if let Some(count) = registry.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                registry.remove(&self.version);
            }
        }
        // ORDERING: Relaxed, see `VersionedMap::write`.
        self.store.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Baseline for VersionedMap {
    const NAME: &'static str = "m3-cheap";

    type Snapshot<'a> = VersionSnapshot<'a>;

    #[inline]
    fn put(&self, _: &RunId, key: &Key, value: Value) {
        self.write(&mut exclusive(&self.state), key, value);
    }

    #[inline]
    fn get_with<T>(&self, _: &RunId, key: &Key, read: impl FnOnce(&Value) -> T) -> Option<T> {
        shared(&self.state)
            .map
            .get(key)
            .map(|record| read(&record.newest.value))
    }

    fn begin(&self, _: &RunId) -> VersionSnapshot<'_> {
        let state = shared(&self.state);
        // INVARIANT 2: the shared lock is held until the registration is complete.
        // ORDERING: Relaxed, the lock publishes it to writers.
        self.open.fetch_add(1, Ordering::Relaxed);
        *self.registry().entry(state.version).or_insert(0) += 1;
        VersionSnapshot {
            store: self,
            version: state.version,
        }
    }

    fn look(snapshot: &VersionSnapshot<'_>, key: &Key) -> Option<Stored> {
        shared(&snapshot.store.state)
            .map
            .get(key)
            .and_then(|record| record.at(snapshot.version))
            .cloned()
    }

    fn commit(&self, _: &RunId, reads: &[(Key, u64)], writes: Vec<(Key, Value)>) -> bool {
        let mut state = exclusive(&self.state);
        let unchanged =
            |(key, version): &(Key, u64)| state.map.get(key).map_or(0, |record| record.newest.version) == *version;
        if !reads.iter().all(unchanged) {
            return false;
        }
        for (key, value) in writes {
            self.write(&mut state, &key, value);
        }
        true
    }

    fn visit(&self, run: &RunId, each: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>) {
        let state = shared(&self.state);
        let _stopped = records_of(&state.map, run).try_for_each(|(key, record)| each(key, &record.newest.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(run: &RunId, name: &str) -> Key {
        Key::new(run, TypeTag::KV, name.as_bytes())
    }

    fn snapshots_keep_their_state<B: Baseline>() {
        let (store, run) = (B::default(), RunId::from_bytes([1; 16]));
        let key = key(&run, "k");
        store.put(&run, &key, Value::I64(1));
        let first = store.begin(&run);
        store.put(&run, &key, Value::I64(2));
        let second = store.begin(&run);
        store.put(&run, &key, Value::I64(3));
        let seen = |snapshot: &B::Snapshot<'_>| B::look(snapshot, &key).map(|stored| stored.value);
        assert_eq!(seen(&first), Some(Value::I64(1)));
        assert_eq!(seen(&second), Some(Value::I64(2)));
        assert_eq!(store.get_with(&run, &key, Value::clone), Some(Value::I64(3)));
    }

    #[test]
    fn deep_clones_hide_later_writes() {
        snapshots_keep_their_state::<LockedMap>();
    }

    #[test]
    fn cheap_snapshots_hide_later_writes() {
        snapshots_keep_their_state::<VersionedMap>();
    }

    // Goal: versions are kept for open snapshots and no longer. Method: look into the record.
    #[test]
    fn versions_go_when_no_snapshot_needs_them() {
        let (store, run) = (VersionedMap::default(), RunId::from_bytes([1; 16]));
        let key = key(&run, "k");
        let older = || shared(&store.state).map[&key].older.len();
        for number in 0..5 {
            store.put(&run, &key, Value::I64(number));
        }
        assert_eq!(older(), 0);
        let snapshot = store.begin(&run);
        for number in 5..10 {
            store.put(&run, &key, Value::I64(number));
        }
        assert_eq!(
            VersionedMap::look(&snapshot, &key).map(|stored| stored.value),
            Some(Value::I64(4))
        );
        drop(snapshot);
        store.put(&run, &key, Value::I64(10));
        assert_eq!(older(), 0);
        assert!(store.registry().is_empty());
    }

    #[test]
    fn a_visit_stays_within_its_run() {
        let (store, run, next) = (
            LockedMap::default(),
            RunId::from_bytes([1; 16]),
            RunId::from_bytes([2; 16]),
        );
        store.put(&run, &key(&run, "a"), Value::Null);
        store.put(&next, &key(&next, "b"), Value::Null);
        let mut seen = Vec::new();
        store.visit(&run, &mut |key, _| {
            seen.push(key.user_key().to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!(seen, [b"a"]);
    }
}
