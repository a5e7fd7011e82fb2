//! Checkpoints through the public interface: when one is taken, what it removes, and when it is refused.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use unlatched::{Database, Durability, Error, RunId};

use common::directory::TemporaryDirectory;

const RUN: RunId = RunId::from_bytes([9; 16]);

/// Names in a directory that begin with `prefix`, sorted.
fn names(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let names = entries.map(|entry| entry.expect("readable").file_name().into_string().expect("text"));
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Goal: what was committed when it was called is covered, durable before or not, and the log before it is removed.
#[test]
fn a_checkpoint_covers_what_was_committed_and_removes_its_log() {
    let directory = TemporaryDirectory::new();
    let builder = Database::builder().path(directory.path()).segment_bytes(8 << 10);
    let database = builder
        .buffered_with(3_600_000, 1_000_000)
        .background(false)
        .open()
        .expect("opens");
    let mut last = None;
    for round in 0..3 {
        for number in 0..100 {
            last = Some(database.put(RUN, format!("key{number}"), [round; 300]).expect("put"));
        }
        let cut = database.checkpoint().expect("taken");
        assert!(Some(cut) >= last);
        assert!(database.durable_snapshot().expect("open").timestamp() >= cut);
        assert_eq!(
            names(directory.path(), "checkpoint"),
            [format!("checkpoint-{:016x}.ckpt", cut.get())]
        );
        // The current one, and one that the flush may not have taken leave of.
        assert!(names(directory.path(), "segment").len() <= 2);
    }
    assert_eq!(database.stats().open_snapshots, 0);
}

/// Goal: what a checkpoint holds is there when the database is opened again, on a real disk, with the timestamps that a
/// compare-and-swap goes by, and what was written after it is put on top.
#[test]
fn a_checkpoint_and_the_log_after_it_are_opened_again() {
    let directory = TemporaryDirectory::new();
    let open = || {
        Database::builder()
            .path(directory.path())
            .segment_bytes(8 << 10)
            .open()
            .expect("opens")
    };
    let value = |number: usize| vec![number as u8; number * 7 % 3_000];
    let database = open();
    for number in 0..2_000 {
        let key = format!("key{number:04}");
        database
            .put_with_durability(RUN, key, value(number), Durability::InMemory)
            .expect("put");
    }
    let written = database.put(RUN, "swapped", "once").expect("put");
    database.checkpoint().expect("taken");
    database.put(RUN, "key0000", "after it").expect("put");
    assert!(database.delete(RUN, "key0001").expect("delete"));
    database
        .put_with_durability(RUN, "key0002", "lost", Durability::InMemory)
        .expect("put");
    drop(database);

    let database = open();
    assert_eq!(
        database.get(RUN, "key0000").expect("get").as_deref(),
        Some(&b"after it"[..])
    );
    assert_eq!(database.get(RUN, "key0001").expect("get"), None);
    for number in 2..2_000 {
        let found = database.get(RUN, format!("key{number:04}")).expect("get");
        assert_eq!(found, Some(value(number)));
    }
    let swapped = database
        .cas(RUN, "swapped", written, "twice")
        .expect("the same version");
    assert!(database.checkpoint().expect("taken") >= swapped);
    drop(database);
    let count = open().snapshot().expect("open").range(RUN, ..).count();
    assert_eq!(count, 2_000);
}

/// Goal: strict writers go on beside checkpoints that nobody but they flushes for: none of them waits for a flush that does
/// not run.
#[test]
fn strict_writers_go_on_beside_checkpoints() {
    let directory = TemporaryDirectory::new();
    let builder = Database::builder().path(directory.path()).segment_bytes(8 << 10);
    let database = &builder.background(false).open().expect("opens");
    thread::scope(|scope| {
        for writer in 0..3 {
            scope.spawn(move || {
                for number in 0..60 {
                    database.put(RUN, format!("{writer}/{number}"), [7; 200]).expect("put");
                }
            });
        }
        for _ in 0..20 {
            database.checkpoint().expect("taken");
        }
    });
    assert_eq!(names(directory.path(), "checkpoint").len(), 1);
}

#[test]
fn a_checkpoint_is_taken_by_itself_after_so_much_log() {
    let directory = TemporaryDirectory::new();
    let database = Database::builder()
        .path(directory.path())
        .segment_bytes(16 << 10)
        .checkpoint_bytes(Some(64 << 10))
        .buffered()
        .open()
        .expect("opens");
    let begun = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "only {seen:?} so far");
        for number in 0..100 {
            database.put(RUN, format!("key{number}"), [1; 500]).expect("put");
        }
        for name in names(directory.path(), "checkpoint") {
            if !name.ends_with(".tmp") && !seen.contains(&name) {
                seen.push(name);
            }
        }
    }
    assert!(seen.is_sorted());
    database.shutdown().expect("shutdown");
    assert_eq!(
        names(directory.path(), "checkpoint").len(),
        1,
        "one is kept, and no half of one"
    );
}

#[test]
fn a_checkpoint_needs_storage_and_an_open_database() {
    let database = Database::in_memory().expect("opens");
    assert!(matches!(database.checkpoint(), Err(Error::InvalidOperation(_))));
    let directory = TemporaryDirectory::new();
    let database = Database::open(directory.path()).expect("opens");
    database.checkpoint().expect("of nothing");
    database.shutdown().expect("shutdown");
    assert!(matches!(database.checkpoint(), Err(Error::Closed)));
}
