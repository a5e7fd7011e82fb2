//! Opens a database in memory, writes, reads a snapshot while others write, and commits a transaction.
//!
//! `cargo run --release --example quickstart`
#![forbid(unsafe_code)]

use std::sync::Arc;

use unlatched::{Database, KVStore, Result, RunId, Value};

fn main() -> Result<()> {
    let database = Arc::new(Database::builder().in_memory().open()?);
    let store = KVStore::new(Arc::clone(&database));
    let run = RunId::new();

    for (name, amount) in [("alice", 100), ("bob", 20)] {
        store.put(run, name, Value::from(amount))?;
    }

    // Both amounts change together or not at all; a conflict with another transfer would be an error to retry.
    store.transaction(run, |txn| {
        let alice = txn.get("alice")?.and_then(|value| value.as_i64()).unwrap_or(0);
        let bob = txn.get("bob")?.and_then(|value| value.as_i64()).unwrap_or(0);
        txn.put("alice", Value::from(alice - 30))?;
        txn.put("bob", Value::from(bob + 30))
    })?;

    for (name, amount) in store.list_with_values(run, None)? {
        println!("{name}: {}", amount.as_i64().unwrap_or(0));
    }
    println!("{:?}", database.stats());
    database.shutdown()
}
