//! `sharded-txn`: the predecessor as it failed, kept as a control: its A1/A0 and its scaling must raise their red
//! flags.
//!
//! Records lie in sharded hash maps, one map per run. Writing one is cheap (that is its A0), but nothing above the
//! storage does just that: every put and every get is a transaction. To begin, a transaction needs a snapshot and
//! the moment it is of; a hash map in place offers neither, so the run's shard is cloned deeply, under the one lock
//! under which commits are validated and applied, or a commit could fall between. It is taken out of the list of active
//! snapshots, and freed, under that lock as well. So a put costs as much as its run is large, and threads on disjoint
//! runs wait for one another's clones: the two failures that this project starts from. (The predecessor stood at 0.20
//! of one thread with four, which no variant that frees its clones outside of the lock comes near.)
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use unlatched::{Key, RunId, Value};

use super::baseline::{Baseline, BaselineEngine, Stored};
use super::sharded::{Shards, new_shards};

/// `sharded-txn`.
pub type ShardedTxn = BaselineEngine<ShardedTransactions>;

/// Sharded maps under transactions.
#[derive(Debug)]
pub struct ShardedTransactions {
    shards: Shards,
    version: AtomicU64,
    commit: Mutex<()>,
}

impl Default for ShardedTransactions {
    fn default() -> Self {
        Self {
            shards: new_shards(),
            version: AtomicU64::new(0),
            commit: Mutex::new(()),
        }
    }
}

impl ShardedTransactions {
    /// Takes the one lock. It is handed on fairly now and then; a lock that is not would let one thread starve the other.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.commit.lock()
    }
}

/// A snapshot: a deep clone of one run.
#[derive(Debug)]
pub struct RunClone<'a> {
    store: &'a ShardedTransactions,
    records: FxHashMap<Key, Stored>,
}

impl Drop for RunClone<'_> {
    fn drop(&mut self) {
        let _registered = self.store.lock();
        drop(std::mem::take(&mut self.records));
    }
}

impl Baseline for ShardedTransactions {
    const NAME: &'static str = "sharded-txn";

    const WRAPS_EVERYTHING: bool = true;

    type Snapshot<'a> = RunClone<'a>;

    /// The raw write: what the layers above could have had.
    #[inline]
    fn put(&self, run: &RunId, key: &Key, value: Value) {
        // ORDERING: Relaxed, only the number matters; the shard's lock publishes the record.
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let stored = Stored { value, version };
        if let Some(mut shard) = self.shards.get_mut(run) {
            shard.store(key, stored);
            return;
        }
        self.shards.entry(*run).or_default().store(key, stored);
    }

    #[inline]
    fn get_with<T>(&self, run: &RunId, key: &Key, read: impl FnOnce(&Value) -> T) -> Option<T> {
        self.shards.get(run)?.records.get(key).map(|stored| read(&stored.value))
    }

    fn begin(&self, run: &RunId) -> RunClone<'_> {
        let _no_commit_meanwhile = self.lock();
        let records = self.shards.get(run).map(|shard| shard.records.clone());
        RunClone {
            store: self,
            records: records.unwrap_or_default(),
        }
    }

    fn look(snapshot: &RunClone<'_>, key: &Key) -> Option<Stored> {
        snapshot.records.get(key).cloned()
    }

    fn commit(&self, run: &RunId, reads: &[(Key, u64)], writes: Vec<(Key, Value)>) -> bool {
        let _one_commit_at_a_time = self.lock();
        let unchanged = {
            let shard = self.shards.get(run);
            reads.iter().all(|(key, version)| {
                let stored = shard.as_ref().and_then(|shard| shard.records.get(key));
                stored.map_or(0, |stored| stored.version) == *version
            })
        };
        if unchanged {
            for (key, value) in writes {
                self.put(run, &key, value);
            }
        }
        unchanged
    }

    fn visit(&self, run: &RunId, each: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>) {
        if let Some(shard) = self.shards.get(run) {
            let _stopped = shard
                .records
                .iter()
                .try_for_each(|(key, stored)| each(key, &stored.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use unlatched::TypeTag;

    use super::*;

    // Goal: validation is real. Method: two transactions read the same version; only the first may write.
    #[test]
    fn a_commit_over_a_changed_read_is_refused() {
        let (store, run) = (ShardedTransactions::default(), RunId::from_bytes([1; 16]));
        let key = Key::new(&run, TypeTag::KV, b"k");
        let absent = [(key.clone(), 0)];
        assert!(store.commit(&run, &absent, vec![(key.clone(), Value::I64(1))]));
        assert!(!store.commit(&run, &absent, vec![(key.clone(), Value::I64(2))]));
        assert_eq!(store.get_with(&run, &key, Value::clone), Some(Value::I64(1)));
    }
}
