//! Memory that must not grow with time: what a program does for ever may not cost more and more.
//!
//! Some look at the resident memory of the process; so this is a binary of its own, and its tests run one after the other.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use unlatched::{Database, RunId};

const RUN: RunId = RunId::from_bytes([9; 16]);

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the resident memory in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Goal: a transaction costs what it writes, however often it writes it. Method: one key put again and again.
#[test]
fn a_transaction_keeps_only_the_last_value_of_a_key() {
    let _alone = alone();
    let database = Database::in_memory().unwrap();
    let value = vec![7; 1 << 20];
    let before = resident();
    let grown = database
        .transaction(RUN, |txn| {
            for _ in 0..200 {
                txn.put("k", &value)?;
            }
            Ok(resident().saturating_sub(before))
        })
        .unwrap();
    assert!(grown < 20 << 20, "{grown} bytes for one value of a megabyte");
}

/// Goal: dead keys do not pile up while snapshots come and go: what the last snapshot held is collected under the next
/// one. Method: one thread puts and deletes fresh keys, always under a snapshot, each for a thousand keys; so at most the
/// keys of two snapshots and what waits for its turn can be garbage at once.
#[test]
fn dead_keys_do_not_pile_up_beside_short_snapshots() {
    let _alone = alone();
    let database = Database::in_memory().unwrap();
    let mut number = 0_u64;
    for _ in 0..200 {
        let _snapshot = database.snapshot().unwrap();
        for _ in 0..1_000 {
            let key = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
            database.put(RUN, key, "v").unwrap();
            assert!(database.delete(RUN, key).unwrap());
            number += 1;
        }
    }
    let live = database.stats().live_versions;
    assert!(live < 10_000, "{live} versions are left of {number} keys, all deleted");
}

/// Goal: the same for keys in ascending order, as queues and logs have them, where every new key lies behind the sweep.
/// Method: as above; at the end of each snapshot's time what the last but one held is garbage.
#[test]
fn dead_keys_of_a_queue_do_not_pile_up() {
    let _alone = alone();
    let database = Database::in_memory().unwrap();
    let mut number = 0_u64;
    for _ in 0..200 {
        let _snapshot = database.snapshot().unwrap();
        for _ in 0..1_000 {
            database.put(RUN, number.to_be_bytes(), "v").unwrap();
            assert!(database.delete(RUN, number.to_be_bytes()).unwrap());
            number += 1;
        }
    }
    let live = database.stats().live_versions;
    assert!(live < 10_000, "{live} versions are left of {number} keys, all deleted");
}

/// Goal: the chain of a key that several threads overwrite stays short under an open snapshot, which sees one version of
/// it. Method: two writers; the greatest number of versions that a third thread counts meanwhile, and what is left.
#[test]
fn a_hot_chain_stays_short_under_a_snapshot() {
    let _alone = alone();
    let database = Database::in_memory().unwrap();
    database.put(RUN, "k", "v").unwrap();
    let snapshot = database.snapshot().unwrap();
    let mut most = 0;
    thread::scope(|scope| {
        let write = || {
            (0..500_000_u64).for_each(|number| {
                database.put(RUN, "k", number.to_le_bytes()).unwrap();
            })
        };
        let writers = [scope.spawn(write), scope.spawn(write)];
        while writers.iter().any(|writer| !writer.is_finished()) {
            // What was linked and what was unlinked are not read at one moment; the least of some readings is near.
            let readings = (0..10).map(|_| database.stats().live_versions);
            most = most.max(readings.min().unwrap());
            thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    assert_eq!(snapshot.get(RUN, "k").unwrap().as_deref(), Some(&b"v"[..]));
    let left = database.stats().live_versions;
    assert!(
        most.max(left) < 5_000,
        "{most} versions of one key at most, {left} at the end"
    );
}
