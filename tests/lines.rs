//! Which cache lines operations write: threads at work on different keys share none that both of them write.
//!
//! Goal: the reason why disjoint work scales, checked by addresses. Method: two threads load runs of their own, work
//! until nothing new is allocated, and then note every line that they write while they do the same operation many
//! times. The two sets must have nothing in common. What the engine writes by atomics is noted where it writes, and
//! plain memory where it is handed out; only builds with debug assertions do so. The table of what each operation
//! touches is in `docs/architecture.md`.
#![forbid(unsafe_code)]
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::sync::Barrier;

use unlatched::internals::lines::written_by;
use unlatched::{Database, RunId};

/// Keys of each thread.
const KEYS: usize = 100;

/// Operations before the lines are noted, and while they are.
const OPERATIONS: usize = 700;

/// An operation on one key of a thread's run.
type Operation = fn(&Database, RunId, &str);

/// Returns the lines that each of two threads writes in steady state.
fn lines_of_two_threads(operation: Operation) -> [BTreeSet<usize>; 2] {
    let database = Database::in_memory().unwrap();
    let barrier = Barrier::new(2);
    let work = |number: u8| {
        let run = RunId::from_bytes([number; 16]);
        let keys: Vec<String> = (0..KEYS).map(|key| format!("{number}-{key:020}")).collect();
        for key in &keys {
            database.put(run, key, "loaded").unwrap();
        }
        let repeat = || {
            for step in 0..OPERATIONS {
                operation(&database, run, &keys[step * 7 % KEYS]);
            }
        };
        barrier.wait();
        repeat();
        barrier.wait();
        let lines = written_by(repeat);
        // Neither leaves before the other has done its work: a thread's end hands things over.
        barrier.wait();
        lines
    };
    std::thread::scope(|scope| {
        let threads = [1, 2].map(|number| scope.spawn(move || work(number)));
        threads.map(|thread| thread.join().unwrap())
    })
}

/// Tries until the threads were left alone: one that is stopped while its snapshot is open makes the other one sweep,
/// over all keys.
const TRIES: usize = 400;

/// Returns how many lines both threads write: `expected`, if one of some tries finds so few, or the least.
fn shared(operation: Operation, expected: usize) -> usize {
    let once = |_| {
        let [mine, others] = lines_of_two_threads(operation);
        for lines in [&mine, &others] {
            assert!(!lines.is_empty(), "every operation writes its thread's own record");
        }
        mine.intersection(&others).count()
    };
    let mut least = usize::MAX;
    for attempt in 0..TRIES {
        least = least.min(once(attempt));
        if least <= expected {
            break;
        }
    }
    least
}

#[test]
fn disjoint_gets_write_no_common_line() {
    let get: Operation = |database, run, key| drop(database.get(run, key).unwrap());
    assert_eq!(shared(get, 0), 0);
}

#[test]
fn disjoint_puts_write_no_common_line() {
    let put: Operation = |database, run, key| {
        database.put(run, key, "again!").unwrap();
    };
    assert_eq!(shared(put, 0), 0);
}

/// A snapshot moves the clock, which is one word. That is all that transactions on different keys share.
#[test]
fn disjoint_transactions_write_the_clock_alone() {
    let one: Operation = |database, run, key| {
        database.transaction(run, |txn| txn.put(key, "again!")).unwrap();
    };
    assert_eq!(shared(one, 1), 1);
    let several: Operation = |database, run, key| {
        let body = |txn: &mut unlatched::Transaction<'_>| {
            txn.get(key)?;
            txn.put(key, "again!")?;
            txn.put("one more", "again!")
        };
        database.transaction(run, body).unwrap();
    };
    assert_eq!(shared(several, 1), 1);
}

#[test]
fn snapshots_write_the_clock_alone() {
    let snapshot: Operation = |database, _, _| drop(database.snapshot().unwrap());
    assert_eq!(shared(snapshot, 1), 1);
}

/// The method sees what it is to see: threads that write one key write common lines.
#[test]
fn puts_to_one_key_are_seen_to_share_lines() {
    let put: Operation = |database, _, _| {
        let common = RunId::from_bytes([9; 16]);
        database.put(common, "common", "again!").unwrap();
    };
    assert!(shared(put, 0) > 0);
}
