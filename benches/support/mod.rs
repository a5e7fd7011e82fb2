//! What the three benches share: keys, a shuffled order in which to visit them, and stores that hold them all.
//!
//! The workload is that of the checklist (`docs/gates.md`): 24-byte keys, 8-byte values, uniform overwriting of
//! preloaded keys, fixed seed. Criterion answers "did one operation get slower?"; the gates are judged by
//! `experiments`, whose runs are interleaved.
#![allow(dead_code, reason = "each bench uses a part")]
#![allow(unreachable_pub, reason = "a module of each bench, not a crate")]

use std::sync::Arc;

use unlatched::internals::DefaultStore;
use unlatched::{Database, KVStore, Key, RunId, TypeTag, Value};

/// The allocator under which the experiments run too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seed of every order.
pub const SEED: u64 = 0x756e_6c61_7463_6865;

/// The run that single-threaded benches write.
pub const RUN: RunId = RunId::from_bytes([0x42; 16]);

/// A generator of uniform numbers: SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

/// Returns `count` different keys of 24 bytes, all text.
pub fn keys(count: usize) -> Vec<String> {
    let mut random = Random(SEED);
    (0..count)
        .map(|number| format!("{:016x}{number:08x}", random.next()))
        .collect()
}

/// Returns positions to visit, uniform over `count` keys; its length is a power of two.
pub fn order(count: usize) -> Vec<usize> {
    let mut random = Random(SEED ^ 1);
    (0..1 << 16).map(|_| (random.next() % count as u64) as usize).collect()
}

/// Goes round and round an order.
pub struct Visits<'o> {
    order: &'o [usize],
    at: usize,
}

impl<'o> Visits<'o> {
    /// Starts at the beginning.
    pub fn new(order: &'o [usize]) -> Self {
        Self { order, at: 0 }
    }

    /// Returns the next position.
    #[inline]
    pub fn next(&mut self) -> usize {
        self.at = (self.at + 1) & (self.order.len() - 1);
        self.order[self.at]
    }
}

/// Returns a store without a database around it, holding all keys, and the keys as it wants them.
pub fn storage(keys: &[String]) -> (DefaultStore, Vec<Key>) {
    let store = DefaultStore::new();
    let keys: Vec<Key> = keys
        .iter()
        .map(|key| Key::new(&RUN, TypeTag::KV, key.as_bytes()))
        .collect();
    for key in &keys {
        store.put(key, &[0; 8]);
    }
    (store, keys)
}

/// Returns a database and its key-value view, each holding all keys of `run`.
pub fn database(keys: &[String], run: &RunId) -> (Arc<Database>, KVStore) {
    let database = Arc::new(Database::in_memory().expect("in memory nothing can fail"));
    let view = KVStore::new(Arc::clone(&database));
    preload(&database, &view, keys, run);
    (database, view)
}

/// Writes all keys of `run`, once as bytes and once as values.
pub fn preload(database: &Database, view: &KVStore, keys: &[String], run: &RunId) {
    for key in keys {
        database.put(run, key, [0; 8]).expect("the database is open");
        view.put(run, key, Value::I64(0)).expect("the database is open");
    }
}
