//! The engine under real threads: whatever the scheduler does, no update is lost, every snapshot is consistent,
//! timestamps of a key increase, and at the end nothing is left that should be gone.
//!
//! The workloads run over the database, and over the store beneath it with each collector and each clock. They
//! do a fixed amount of work; nothing is asserted about time. `leaks.rs` runs them under an allocator that counts.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "common/workloads.rs"]
mod workloads;

use std::thread;

use common::{Random, finishes, seed};
use unlatched::{Database, RetryConfig, RunId, Stats};
use workloads::{
    Engine, EpochReaderDriven, EpochWriterDriven, LimboReaderDriven, LimboWriterDriven, SkipListEpoch, SkipListHyaline,
    Watcher, Worker, run, sweeper,
};

/// Threads that write; each workload has two or three more that watch.
const WRITERS: usize = 2;

/// Runs every workload on stores of one kind, under the watchdog.
fn every_workload<E: Engine + 'static>(name: &str) {
    let seed = seed(name);
    type Workload = fn(u64) -> Stats;
    let all: [(&'static str, Workload); 6] = [
        ("counters", |seed| {
            workloads::counters(&E::open(), WRITERS + 1, 3_000, seed)
        }),
        ("a bank", |seed| workloads::bank(&E::open(), WRITERS, 3_000, seed)),
        ("insertions and deletions", |seed| {
            workloads::inserts_and_deletes(&E::open(), WRITERS, 10_000, seed)
        }),
        ("reinsertions", |_| workloads::reinsertions(&E::open(), 5_000)),
        ("full ticks", |_| workloads::full_ticks(&E::open())),
        ("disjoint writers", |seed| {
            workloads::disjoint(&E::open(), WRITERS, 4_000, seed)
        }),
    ];
    for (workload, work) in all {
        let stats = finishes(workload, move || work(seed));
        println!("{workload}: {stats:?}");
    }
}

/// Goal: the claims of each workload, over the database with its validation and its transactions.
#[test]
fn the_database_holds_under_load() {
    every_workload::<Database>("database");
}

/// Goal: the same with epochs and the clock that snapshots move.
#[test]
fn epochs_and_a_reader_driven_clock_hold_under_load() {
    every_workload::<EpochReaderDriven>("epochs, reader-driven");
}

/// Goal: the same with the clock that commits move.
#[test]
fn epochs_and_a_writer_driven_clock_hold_under_load() {
    every_workload::<EpochWriterDriven>("epochs, writer-driven");
}

/// Goal: the same with the other collector.
#[test]
fn limbo_and_a_reader_driven_clock_hold_under_load() {
    every_workload::<LimboReaderDriven>("limbo, reader-driven");
}

/// Goal: the same with the other collector and the other clock.
#[test]
fn limbo_and_a_writer_driven_clock_hold_under_load() {
    every_workload::<LimboWriterDriven>("limbo, writer-driven");
}

/// Goal: the same over the list of our own.
#[test]
fn the_skiplist_holds_under_load() {
    every_workload::<SkipListEpoch>("skiplist, epochs");
}

/// Goal: the same with the collector that wants its loads ordered.
#[test]
fn the_skiplist_and_hyaline_hold_under_load() {
    every_workload::<SkipListHyaline>("skiplist, hyaline");
}

const RUN: RunId = RunId::from_bytes([6; 16]);
const ACCOUNTS: u64 = 150;
const DEPOSIT: u64 = 100;

fn account(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn amount(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().expect("eight bytes"))
}

/// Goal: a scan, forwards or backwards and longer than one batch, shows one moment, although it is pinned only batch by
/// batch while transactions move money, keys die and come back, and a sweep removes them. Method: a bank whose accounts
/// are deleted when empty; every scan must show the same total in strictly ordered keys. Transfers retry by themselves.
#[test]
fn scans_show_one_moment_under_load() {
    let seed = seed("scans");
    finishes("scans under load", move || {
        let database = Database::in_memory().expect("open");
        for number in 0..ACCOUNTS {
            database.put(RUN, account(number), DEPOSIT.to_le_bytes()).expect("put");
        }
        let database = &database;
        let worker = |stream| {
            let worker: Worker<'_> = Box::new(move || transfer(database, seed, stream));
            worker
        };
        let auditor: Watcher<'_> = Box::new(move |done| {
            while !done.is_done() {
                audit(database);
            }
        });
        let workers = (0..WRITERS as u64).map(worker).collect();
        run(seed, workers, vec![auditor, sweeper(database)]);
        audit(database);
        let snapshot = database.snapshot().expect("snapshot");
        let records: Vec<_> = snapshot.range(RUN, ..).collect();
        drop(snapshot);
        for (key, value) in &records {
            database.put(RUN, key, value).expect("put");
        }
        database.sweep();
        assert_eq!(database.stats().live_versions, records.len() as u64);
    });
}

/// Moves random amounts between random accounts.
fn transfer(database: &Database, seed: u64, stream: u64) {
    let mut random = Random::new(seed, stream);
    let patient = RetryConfig::new().with_max_retries(u32::MAX).with_base_delay_ms(0);
    for _ in 0..3_000 {
        let from = random.next() % ACCOUNTS;
        let to = (from + 1 + random.next() % (ACCOUNTS - 1)) % ACCOUNTS;
        let wanted = random.next() % (2 * DEPOSIT);
        let result = database.transaction_with_retry(RUN, patient, |txn| {
            let rich = txn.get(account(from))?.map_or(0, |value| amount(&value));
            let poor = txn.get(account(to))?.map_or(0, |value| amount(&value));
            let moved = wanted.min(rich);
            if moved == rich {
                txn.delete(account(from))?;
            } else {
                txn.put(account(from), (rich - moved).to_le_bytes())?;
            }
            txn.put(account(to), (poor + moved).to_le_bytes())
        });
        result.expect("retried until it commits");
    }
}

/// Adds up all accounts of a snapshot, by scans from either end, and by keys.
fn audit(database: &Database) {
    let snapshot = database.snapshot().expect("snapshot");
    let ascending: Vec<_> = snapshot.range(RUN, ..).collect();
    assert!(ascending.is_sorted_by(|a, b| a.0 < b.0));
    let total: u64 = ascending.iter().map(|(_, value)| amount(value)).sum();
    assert_eq!(total, ACCOUNTS * DEPOSIT);
    thread::yield_now();
    assert!(snapshot.range(RUN, ..).rev().eq(ascending.iter().rev().cloned()));
    let keys: Vec<_> = (0..ACCOUNTS).map(account).collect();
    let values = snapshot.get_many(RUN, &keys).expect("get_many");
    let by_key: u64 = values.iter().flatten().map(|value| amount(value)).sum();
    assert_eq!(by_key, total);
}

/// Goal: a snapshot may be opened by one thread, read by another and closed by a third; and slots given back so are
/// used again. Method: snapshots handed down a chain of threads while a writer overwrites.
#[test]
fn a_snapshot_may_move_between_threads() {
    finishes("moving snapshots", || {
        let database = &Database::in_memory().expect("open");
        for round in 0..200_u64 {
            database.put(RUN, "k", round.to_le_bytes()).expect("put");
            let snapshot = database.snapshot().expect("snapshot");
            let writer: Worker<'_> = Box::new(|| {
                for _ in 0..10 {
                    database.put(RUN, "k", u64::MAX.to_le_bytes()).expect("put");
                }
            });
            let reader: Worker<'_> = Box::new(move || {
                assert_eq!(
                    snapshot.get(RUN, "k").expect("get").map(|value| amount(&value)),
                    Some(round)
                );
                let closer = move || drop(snapshot);
                thread::scope(|scope| scope.spawn(closer).join()).expect("no panic");
            });
            run(round, vec![writer, reader], Vec::new());
        }
        database.sweep();
        let stats = database.stats();
        assert_eq!((stats.open_snapshots, stats.live_versions), (0, 1));
    });
}
