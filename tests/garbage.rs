//! What an engine without a background thread must not leave lying: bounds on garbage, by the statistics.
//!
//! One thread, so that every figure is exact or bounded by constants of the collector.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use unlatched::{Database, Error, RunId};

// Goal: aborted transactions leave no keys behind. Method: every transaction writes four new keys and one that somebody
// else commits meanwhile, so that it aborts after some of its versions were linked. Regression: their versions and
// index nodes stayed for ever in a thread that only aborted.
#[test]
fn aborted_transactions_leave_nothing_behind() {
    let (database, run) = (Database::in_memory().unwrap(), RunId::from_bytes([1; 16]));
    for round in 0..3_000_u32 {
        let result = database.transaction(run, |txn| {
            for key in 0..4_u32 {
                txn.put((round * 4 + key).to_be_bytes(), "never seen")?;
            }
            txn.put("z", "mine")?;
            database.put(run, "z", "theirs").map(|_| ())
        });
        assert!(matches!(result, Err(Error::Conflict { .. })));
    }
    let live = database.stats().live_versions;
    assert!(live < 600, "{live} versions are left of one key");
    database.sweep();
    assert_eq!(database.snapshot().unwrap().range(run, ..).count(), 1);
    assert!(
        database.stats().live_versions <= 2,
        "one value, and one aborted version over it"
    );
}

// Goal: what a thread may leave behind is bounded in bytes, not only in versions. Method: large values of one key, each
// under a snapshot of its own, so that no write can prune right away. Regression: 64 of them stayed, whatever their size.
#[test]
fn large_values_are_not_left_lying() {
    let (database, run) = (Database::in_memory().unwrap(), RunId::from_bytes([2; 16]));
    let value = vec![7; 1 << 20];
    for _ in 0..100 {
        database.put(run, "k", &value).unwrap();
        drop(database.snapshot().unwrap());
        let live = database.stats().live_versions;
        assert!(live <= 4, "{live} versions of one key, and no snapshot is open");
    }
}

// Goal: the statistics count what a transaction's buffers hold. Method: transactions whose retired descriptors own a
// known number of bytes. Regression: a descriptor counted as its fixed part alone.
#[test]
fn retired_bytes_count_the_write_sets() {
    let (database, run) = (Database::in_memory().unwrap(), RunId::from_bytes([3; 16]));
    let (rounds, bytes) = (50_u64, 100_000_usize);
    let value = vec![7; bytes];
    for _ in 0..rounds {
        let body = |txn: &mut unlatched::Transaction<'_>| {
            txn.put("k", &value)?;
            txn.put("l", "a second write, so that there is a descriptor")
        };
        database.transaction(run, body).unwrap();
    }
    database.sweep();
    let retired = database.stats().retired_bytes;
    // Each value twice: in the descriptor, and in the version; the last version is alive.
    assert!(
        retired >= (2 * rounds - 1) * bytes as u64,
        "{retired} bytes were counted"
    );
}

// Goal: a sweep frees what it retires, when nobody is pinned. Method: delete everything, sweep, look.
#[test]
fn sweep_frees_what_it_retires() {
    let (database, run) = (Database::in_memory().unwrap(), RunId::from_bytes([4; 16]));
    for key in 0..10_000_u32 {
        database.put(run, key.to_be_bytes(), "v").unwrap();
    }
    for key in 0..10_000_u32 {
        assert!(database.delete(run, key.to_be_bytes()).unwrap());
    }
    database.sweep();
    let stats = database.stats();
    assert_eq!(stats.live_versions, 0);
    assert!(
        stats.pending_versions < 1_000,
        "{} of 20 000 are pending",
        stats.pending_versions
    );
}
