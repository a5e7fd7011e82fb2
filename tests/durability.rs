//! What survives: every mode and every override, closed, dropped or killed; tickets and durable snapshots; and what is
//! refused instead of being lost.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use unlatched::{Database, DatabaseBuilder, Durability, Error, KVStore, RunId, Timestamp, Value};

use common::directory::TemporaryDirectory;

const RUN: RunId = RunId::from_bytes([7; 16]);

/// Every mode there is, by name.
const MODES: [(&str, Durability); 3] = [
    ("in memory", Durability::InMemory),
    ("buffered", Durability::BUFFERED),
    ("strict", Durability::Strict),
];

/// Buffered, but nothing is flushed by the clock while a test runs.
const LAZY: Durability = Durability::Buffered {
    flush_interval: Duration::from_secs(3_600),
    max_pending_writes: 1_000_000,
};

fn builder(directory: &TemporaryDirectory) -> DatabaseBuilder {
    Database::builder().path(directory.path()).segment_bytes(64 << 10)
}

fn get(database: &Database, key: &str) -> Option<String> {
    let value = database.get(RUN, key).expect("get");
    value.map(|bytes| String::from_utf8(bytes).expect("text"))
}

/// What strict and buffered databases were told is there when they are opened again, after a shutdown and after a mere
/// drop; and so are timestamps, so that a compare-and-swap goes on where it was.
#[test]
fn what_was_written_is_there_when_opened_again() {
    for (name, durability) in [("buffered", Durability::BUFFERED), ("strict", Durability::Strict)] {
        for shuts_down in [true, false] {
            let directory = TemporaryDirectory::new();
            let database = builder(&directory).durability(durability).open().expect("opens");
            for number in 0..100 {
                database
                    .put(RUN, format!("key{number}"), format!("old{number}"))
                    .expect("put");
            }
            for number in 0..50 {
                database
                    .put(RUN, format!("key{number}"), format!("new{number}"))
                    .expect("put");
            }
            for number in 90..100 {
                assert!(database.delete(RUN, format!("key{number}")).expect("delete"));
            }
            let written = database.put(RUN, "swapped", "once").expect("put");
            database
                .transaction(RUN, |txn| {
                    txn.put("a", "of both")?;
                    txn.put("b", "of both")
                })
                .expect("commit");
            if shuts_down {
                database.shutdown().expect("shutdown");
            }
            drop(database);

            let database = builder(&directory).durability(durability).open().expect("opens again");
            for number in 0..100 {
                let expected = match number {
                    0..50 => Some(format!("new{number}")),
                    50..90 => Some(format!("old{number}")),
                    _ => None,
                };
                assert_eq!(get(&database, &format!("key{number}")), expected, "{name}");
            }
            assert_eq!(get(&database, "a").as_deref(), Some("of both"));
            assert_eq!(get(&database, "b").as_deref(), Some("of both"));
            assert!(database.cas(RUN, "swapped", Timestamp::ABSENT, "no").is_err());
            let swapped = database
                .cas(RUN, "swapped", written, "twice")
                .expect("the same version");
            assert!(swapped > written);
            drop(database);
            let database = builder(&directory)
                .durability(durability)
                .open()
                .expect("opens a third time");
            assert_eq!(get(&database, "swapped").as_deref(), Some("twice"));
        }
    }
}

/// Puts, deletes, swaps and transactions, each with the override of each mode in a database of each mode: what asked for
/// a record is there afterwards, what did not is not.
#[test]
fn an_override_decides_for_its_operation_in_every_pair_of_modes() {
    for (default_name, default) in MODES {
        let directory = TemporaryDirectory::new();
        let database = builder(&directory).durability(default).open().expect("opens");
        for (name, durability) in MODES {
            database
                .put_with_durability(RUN, format!("put {name}"), "value", durability)
                .expect("put");
            database
                .put_with_durability(RUN, format!("deleted {name}"), "value", Durability::Strict)
                .expect("put");
            let key = format!("deleted {name}");
            assert!(database.delete_with_durability(RUN, key, durability).expect("delete"));
            database
                .cas_with_durability(RUN, format!("cas {name}"), Timestamp::ABSENT, "value", durability)
                .expect("cas");
            database
                .transaction_with_durability(RUN, durability, |txn| {
                    txn.put(format!("first {name}"), "value")?;
                    txn.put(format!("second {name}"), "value")
                })
                .expect("commit");
        }
        drop(database);
        let database = builder(&directory).open().expect("opens again");
        for (name, durability) in MODES {
            let survives = durability != Durability::InMemory;
            for kind in ["put", "cas", "first", "second"] {
                let found = get(&database, &format!("{kind} {name}")).is_some();
                assert_eq!(found, survives, "{kind} {name} in a database {default_name}");
            }
            let found = get(&database, &format!("deleted {name}")).is_some();
            assert_eq!(found, !survives, "a delete {name} in a database {default_name}");
        }
    }
}

/// An older value that has a record comes back from under one that has none; a strict delete is not skipped because the
/// key is absent for now.
#[test]
fn a_write_without_a_record_hides_nothing_for_good() {
    let directory = TemporaryDirectory::new();
    let database = builder(&directory).open().expect("opens");
    database.put(RUN, "hidden", "recorded").expect("put");
    database
        .put_with_durability(RUN, "hidden", "for now", Durability::InMemory)
        .expect("put");
    database.put(RUN, "deleted", "recorded").expect("put");
    let for_now = database.delete_with_durability(RUN, "deleted", Durability::InMemory);
    assert!(for_now.expect("delete"));
    assert!(
        !database.delete(RUN, "deleted").expect("delete"),
        "it is absent already"
    );
    database.put(RUN, "in a transaction", "recorded").expect("put");
    let for_now = database.delete_with_durability(RUN, "in a transaction", Durability::InMemory);
    assert!(for_now.expect("delete"));
    database
        .transaction(RUN, |txn| txn.delete("in a transaction").map(drop))
        .expect("commit");
    drop(database);
    let database = builder(&directory).open().expect("opens again");
    assert_eq!(get(&database, "hidden").as_deref(), Some("recorded"));
    assert_eq!(get(&database, "deleted"), None);
    assert_eq!(get(&database, "in a transaction"), None);
}

/// A ticket says that its commit is not durable until it is, waits for exactly that, and lets a caller go on meanwhile. A
/// durable snapshot shows only what is.
#[test]
fn a_ticket_waits_for_its_commit_and_a_durable_snapshot_for_nobody() {
    let directory = TemporaryDirectory::new();
    let database = builder(&directory)
        .durability(LAZY)
        .background(false)
        .open()
        .expect("opens");
    let first = database.put(RUN, "key", "first").expect("put");
    let ticket = database.ticket(first);
    assert!(!ticket.is_durable());
    let before = database.durable_snapshot().expect("snapshot");
    assert_eq!(before.get(RUN, "key").expect("get"), None, "it is not durable yet");
    assert_eq!(
        get(&database, "key").as_deref(),
        Some("first"),
        "reads return the latest commit"
    );
    ticket.wait().expect("waits");
    assert!(ticket.is_durable());
    assert_eq!(ticket.timestamp(), first);

    let second = database.put(RUN, "key", "second").expect("put");
    let between = database.durable_snapshot().expect("snapshot");
    assert_eq!(between.get(RUN, "key").expect("get").as_deref(), Some(&b"first"[..]));
    assert_eq!(before.get(RUN, "key").expect("get"), None, "a snapshot repeats");
    assert!(!database.ticket(second).is_durable());
    database.flush().expect("flush");
    assert!(database.ticket(second).is_durable());
    for number in 0..1_000 {
        database.put(RUN, "key", format!("{number}")).expect("put");
    }
    database.flush().expect("flush");
    database.sweep();
    assert_eq!(between.get(RUN, "key").expect("get").as_deref(), Some(&b"first"[..]));
}

/// Buffered writers are held back at twice the number of pending writes that they may have, so that at no time more are
/// not durable; counted from outside, with no thread that flushes by the clock.
#[test]
fn the_loss_of_buffered_writers_is_bounded() {
    const MOST: usize = 10;
    const THREADS: usize = 3;
    let directory = TemporaryDirectory::new();
    let bounded = Durability::Buffered {
        flush_interval: Duration::from_secs(3_600),
        max_pending_writes: MOST,
    };
    let database = builder(&directory)
        .durability(bounded)
        .background(false)
        .open()
        .expect("opens");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let database = &database;
            scope.spawn(move || {
                let mut last = Vec::new();
                for number in 0..500 {
                    let written = database
                        .put(RUN, format!("{thread}"), format!("{number}"))
                        .expect("put");
                    last.push(written);
                    let pending = last.iter().rev().take_while(|ts| !database.ticket(**ts).is_durable());
                    let bound = 2 * MOST + THREADS;
                    assert!(pending.count() <= bound, "one thread alone has more than the bound");
                }
            });
        }
    });
}

/// In a database without storage nothing can be made durable, and that is said instead of being ignored.
#[test]
fn durability_without_storage_is_refused() {
    let error = Database::builder().strict().open().expect_err("no path");
    assert!(matches!(error, Error::InvalidOptions(_)), "{error}");
    assert!(error.to_string().contains(".path("), "{error}");
    let database = Database::in_memory().expect("opens");
    for (name, durability) in &MODES[1..] {
        let refused = database.put_with_durability(RUN, "key", "value", *durability);
        assert!(
            matches!(refused, Err(Error::InvalidOperation(_))),
            "{name}: {refused:?}"
        );
        let refused = database.transaction_with_durability(RUN, *durability, |txn| txn.put("key", "value"));
        assert!(
            matches!(refused, Err(Error::InvalidOperation(_))),
            "{name}: {refused:?}"
        );
    }
    assert_eq!(get(&database, "key"), None);
    database.flush().expect("there is nothing to do");
    let written = database.put(RUN, "key", "value").expect("put");
    assert!(!database.ticket(written).is_durable());
    assert!(matches!(
        database.ticket(written).wait(),
        Err(Error::InvalidOperation(_))
    ));
}

/// One database at a time has a directory; the second one is told so, and the first goes on.
#[test]
fn a_directory_that_is_in_use_is_refused() {
    let directory = TemporaryDirectory::new();
    let database = builder(&directory).open().expect("opens");
    let second = builder(&directory).open();
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    database.put(RUN, "key", "value").expect("put");
    drop(database);
    let database = builder(&directory).open().expect("opens again");
    assert_eq!(get(&database, "key").as_deref(), Some("value"));
}

/// Values and commits that are longer than a segment go into segments of their own.
#[test]
fn a_commit_longer_than_a_segment_survives() {
    let directory = TemporaryDirectory::new();
    let database = builder(&directory).open().expect("opens");
    let long: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    database.put(RUN, "long", &long).expect("put");
    database
        .transaction(RUN, |txn| {
            (0..1_000).try_for_each(|number| txn.put(format!("{number:04}"), [7; 300]))
        })
        .expect("commit");
    database.put(RUN, "short", "value").expect("put");
    drop(database);
    let database = builder(&directory).open().expect("opens again");
    assert_eq!(database.get(RUN, "long").expect("get"), Some(long));
    assert_eq!(get(&database, "short").as_deref(), Some("value"));
    let snapshot = database.snapshot().expect("snapshot");
    assert_eq!(snapshot.prefix(RUN, b"0").count(), 1_000);
}

/// Reads never wait: while one thread commits strictly again and again, another one reads the latest values, and what it
/// reads only grows.
#[test]
fn reads_go_on_beside_strict_writers() {
    let directory = TemporaryDirectory::new();
    let database = builder(&directory).open().expect("opens");
    let store = KVStore::new(std::sync::Arc::new(database));
    store.put(RUN, "counter", Value::from(0)).expect("put");
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=200 {
                store.put(RUN, "counter", Value::from(number)).expect("put");
            }
            is_done.store(true, Ordering::Release);
        });
        let mut last = 0;
        while !is_done.load(Ordering::Acquire) {
            let now = store.get(RUN, "counter").expect("get").and_then(|value| value.as_i64());
            let now = now.expect("a number");
            assert!(now >= last);
            last = now;
        }
    });
    assert_eq!(store.get(RUN, "counter").expect("get"), Some(Value::from(200)));
}
