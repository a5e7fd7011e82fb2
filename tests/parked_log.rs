//! A thread that is stopped inside of the log keeps no other one from finishing, but those who wait for the disk.
//!
//! As `parked.rs`, for commits that have a record, on a simulated disk with segments so short that the others fill several
//! while the victim is parked: what it holds back is then given up, and when it goes on it finishes all the same.
#![forbid(unsafe_code)]
#![cfg(debug_assertions)]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;

use std::sync::Arc;
use std::time::Duration;

use unlatched::internals::SimDisk;
use unlatched::internals::pause::Step;
use unlatched::{Database, Durability, Result, RunId};

use common::finishes;
use common::victim::{Victim, steps_of};

/// An operation, the keys that it writes, and what messages call it.
type Operation = (&'static str, &'static [&'static str], fn(&Database) -> Result<()>);

const RUN: RunId = RunId::from_bytes([6; 16]);

const BUFFERED: Durability = Durability::Buffered {
    flush_interval: Duration::from_secs(3_600),
    max_pending_writes: 1_000_000,
};

fn open(disk: &SimDisk) -> Arc<Database> {
    let builder = Database::builder()
        .durability(BUFFERED)
        .segment_bytes(8 << 10)
        .background(false);
    let storage = disk.open().expect("nobody else has it");
    Arc::new(builder.storage(Arc::new(storage)).open().expect("opens"))
}

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes).expect("texts are written"))
}

/// Commits, flushes and reads, on the victim's keys and others: enough to fill several segments.
fn others(database: &Database) {
    for round in 0..200 {
        for key in ["x", "y", "other"] {
            database.put(RUN, key, format!("{round}")).expect("put");
        }
        let committed = database.transaction(RUN, |txn| {
            txn.put("x", "of both")?;
            txn.put("z", "of both")
        });
        committed.expect("nobody else writes");
        assert_eq!(text(database.get(RUN, "x").expect("get")).as_deref(), Some("of both"));
        let ticket = database.put(RUN, "y", "last").expect("put");
        database.ticket(ticket).wait().expect("durable");
    }
}

/// Goal: wherever a commit with a record stops, others commit, flush, and wait for their own commits to be durable; the
/// stopped one is given up at the latest when a whole segment has been filled since, and is done exactly once in the end.
#[test]
fn a_parked_commit_with_a_record_stops_nobody() {
    let put = |database: &Database| database.put(RUN, "x", "victim").map(drop);
    let commit = |database: &Database| {
        database.transaction(RUN, |txn| {
            txn.put("v", "victim")?;
            txn.put("w", "victim")
        })
    };
    let operations: [Operation; 2] = [("a put", &["x"], put), ("a transaction", &["v", "w"], commit)];
    for (name, keys, operation) in operations {
        let steps = steps_of(&open(&SimDisk::new()), operation);
        for step in [
            Step::Reserved,
            Step::Copied,
            Step::Enlisted,
            Step::Linked,
            Step::Drawn,
            Step::Decided,
        ] {
            assert!(steps.contains(&step), "{name} goes through {step:?}: {steps:?}");
        }
        for (at, step) in steps.into_iter().enumerate() {
            let name = format!("{name} parked at step {at}, {step:?}");
            let disk = SimDisk::new();
            let database = open(&disk);
            let victim = Victim::start(&database, at, operation);
            assert_eq!(victim.wait(), step, "{name}");
            let beside = Arc::clone(&database);
            finishes(&format!("others beside {name}"), move || others(&beside));
            victim.release().expect("it has no conflict");
            let before: Vec<_> = database.snapshot().expect("snapshot").range(RUN, ..).collect();
            for key in keys {
                assert!(before.iter().any(|(found, _)| found == key.as_bytes()), "{name}");
            }
            drop(database);
            let after: Vec<_> = open(&disk).snapshot().expect("snapshot").range(RUN, ..).collect();
            assert_eq!(before, after, "{name}");
        }
    }
}

/// Goal: a flush that stops anywhere holds up those who wait for the disk, and nobody else: buffered commits and reads go on.
#[test]
fn a_parked_flush_stops_only_those_who_wait_for_the_disk() {
    let flush = |database: &Database| {
        database.put(RUN, "x", "victim")?;
        database.flush()
    };
    let steps = steps_of(&open(&SimDisk::new()), flush);
    for (at, step) in steps.into_iter().enumerate() {
        if !matches!(step, Step::CutDrawn | Step::MarkerAppended) {
            continue;
        }
        let disk = SimDisk::new();
        let database = open(&disk);
        let victim = Victim::start(&database, at, flush);
        assert_eq!(victim.wait(), step);
        let beside = Arc::clone(&database);
        finishes("commits beside a parked flush", move || {
            for round in 0..500 {
                beside.put(RUN, "y", format!("{round}")).expect("put");
                assert!(beside.get(RUN, "y").expect("get").is_some());
                let snapshot = beside.durable_snapshot().expect("snapshot");
                assert_eq!(snapshot.get(RUN, "y").expect("get"), None, "no cut has passed it");
            }
        });
        victim.release().expect("the disk works");
        drop(database);
        let database = open(&disk);
        assert_eq!(text(database.get(RUN, "x").expect("get")).as_deref(), Some("victim"));
        assert_eq!(text(database.get(RUN, "y").expect("get")).as_deref(), Some("499"));
    }
}
