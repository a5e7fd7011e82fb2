//! What every engine must do to be compared, and that the broken one is caught at each of it.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::broken::Broken;
use super::bytes::ByteEngine;
use super::floors::{CrossbeamSkipList, HashMapFloor};
use super::locked::{M3, M3Cheap};
use super::sharded::Sharded;
use super::sharded_txn::ShardedTxn;
use super::unlatched::Unlatched;
use super::*;
use crate::harness::threads::{Plan, run};
use crate::workload::drive::{Drive, DriveReport};
use crate::workload::random::Random;
use crate::workload::verify::{self, Invalid, Ledger};
use crate::workload::{Stream, run_id};

const KEYS: usize = 50;
const OPERATIONS: u64 = 700;

/// Drives an operation on `threads` threads, each on a run of its own, and checks what is left.
fn drive_disjoint<E: Engine>(operation: Operation, threads: usize) -> Result<(), Invalid> {
    let engine = E::open()?;
    let keys = Arc::new(KeySet::new(KEYS, 1));
    let spaces: Vec<_> = (0..threads)
        .map(|thread| engine.space(run_id(1, thread), Arc::clone(&keys)))
        .collect();
    for space in &spaces {
        verify::load(&mut engine.session(space)?, operation.layer(), KEYS)?;
    }
    let stream = Stream::uniform(KEYS, &mut Random::new(2));
    let threads = NonZeroUsize::new(threads).expect("not zero");
    let outcome = run(&Plan::counted(OPERATIONS), threads, |thread| {
        Ok::<_, EngineError>(Drive::new(
            engine.session(&spaces[thread])?,
            operation,
            stream.clone(),
            thread as u64,
        ))
    })?;
    for (thread, space) in outcome.threads.into_iter().zip(&spaces) {
        let mut report: DriveReport = thread.report;
        verify::sound(&mut report)?;
        assert_eq!(report.operations, OPERATIONS);
        if operation.is_put() {
            verify::disjoint(&mut engine.session(space)?, &report, stream.period())?;
        } else if operation.is_get() {
            verify::gets(&Ledger::loaded(KEYS), &report, stream.period())?;
        } else if operation == Operation::Snapshot {
            verify::snapshot(&mut engine.session(space)?, 0, 99)?;
        }
    }
    Ok(())
}

/// Increments one counter from `threads` threads and checks the count.
fn drive_counter<E: Engine>(threads: usize) -> Result<(), Invalid> {
    let engine = E::open()?;
    let space = engine.space(run_id(1, 0), Arc::new(KeySet::new(KEYS, 1)));
    let threads = NonZeroUsize::new(threads).expect("not zero");
    let outcome = run(&Plan::counted(OPERATIONS), threads, |thread| {
        let session = engine.session(&space)?;
        Ok::<_, EngineError>(Drive::new(
            session,
            Operation::Increment,
            Stream::constant(0),
            thread as u64,
        ))
    })?;
    let mut increments = 0;
    for thread in outcome.threads {
        let mut report = thread.report;
        verify::sound(&mut report)?;
        increments += report.operations;
    }
    verify::counted(&mut engine.session(&space)?, 0, 0, increments)
}

/// Puts to one key from two threads and checks that the last put of one of them is there.
fn drive_same_key<E: Engine>(operation: Operation) -> Result<(), Invalid> {
    let engine = E::open()?;
    let space = engine.space(run_id(1, 0), Arc::new(KeySet::new(KEYS, 1)));
    let two = NonZeroUsize::MIN.saturating_add(1);
    let outcome = run(&Plan::counted(OPERATIONS), two, |thread| {
        let session = engine.session(&space)?;
        Ok::<_, EngineError>(Drive::new(session, operation, Stream::constant(3), thread as u64))
    })?;
    let reports: Vec<_> = outcome.threads.into_iter().map(|thread| thread.report).collect();
    verify::same_key(&mut engine.session(&space)?, 3, &reports)
}

fn conforms<E: Engine>() {
    let threads = if E::is_single_threaded() { 1 } else { 2 };
    for operation in Operation::ALL {
        let supported = E::supports(operation);
        let result = drive_disjoint::<E>(operation, threads);
        if supported {
            assert!(result.is_ok(), "{} {operation}: {result:?}", E::NAME);
        } else {
            let refused = matches!(result, Err(Invalid::Failed(EngineError::Unsupported { .. })));
            assert!(refused, "{} {operation}: {result:?}", E::NAME);
        }
        // What is only counted reads what it then writes, so that on one key it may rightly conflict or find nothing.
        if supported && operation.is_put() && !operation.is_counted_only() && threads > 1 {
            drive_same_key::<E>(operation).expect(E::NAME);
        }
    }
    if E::supports(Operation::Increment) {
        drive_counter::<E>(threads).expect(E::NAME);
    }
}

fn stores_bytes<E: ByteEngine>() {
    let (engine, run) = (E::open().expect(E::NAME), run_id(9, 0));
    let mut buffer = vec![7];
    assert!(!engine.get_bytes(&run, b"k", &mut buffer).expect(E::NAME));
    engine.put_bytes(&run, b"k", b"first").expect(E::NAME);
    engine.put_bytes(&run, b"k", &[5; 70_000]).expect(E::NAME);
    engine.put_bytes(&run, b"empty", b"").expect(E::NAME);
    engine.put_bytes(&run_id(9, 1), b"elsewhere", b"x").expect(E::NAME);
    assert!(engine.get_bytes(&run, b"k", &mut buffer).expect(E::NAME));
    assert_eq!(buffer, [5; 70_000]);
    let mut seen = Vec::new();
    let mut note = |key: &[u8], value: &[u8]| {
        seen.push((key.to_vec(), value.len()));
        ControlFlow::Continue(())
    };
    engine.visit(&run, &mut note).expect(E::NAME);
    seen.sort();
    assert_eq!(seen, [(b"empty".to_vec(), 0), (b"k".to_vec(), 70_000)]);
}

#[test]
fn unlatched_conforms() {
    conforms::<Unlatched>();
    stores_bytes::<Unlatched>();
}

#[test]
fn m3_conforms() {
    conforms::<M3>();
    stores_bytes::<M3>();
}

#[test]
fn m3_cheap_conforms() {
    conforms::<M3Cheap>();
    stores_bytes::<M3Cheap>();
}

#[test]
fn sharded_conforms() {
    conforms::<Sharded>();
    stores_bytes::<Sharded>();
}

#[test]
fn sharded_txn_conforms() {
    conforms::<ShardedTxn>();
}

#[test]
fn the_floors_conform() {
    conforms::<CrossbeamSkipList>();
    conforms::<HashMapFloor>();
}

// Goal: no figure of an engine that loses updates survives. Method: every check that the gates use, on one thread
// and on two, must refuse it.
#[test]
fn the_broken_engine_is_caught() {
    for threads in [1, 2] {
        for operation in Operation::ALL.into_iter().filter(|operation| operation.is_put()) {
            let caught = drive_disjoint::<Broken>(operation, threads);
            assert!(
                matches!(caught, Err(Invalid::LostUpdate { .. })),
                "{operation}: {caught:?}"
            );
        }
        for operation in Operation::ALL.into_iter().filter(|operation| operation.is_get()) {
            let caught = drive_disjoint::<Broken>(operation, threads);
            assert!(
                matches!(caught, Err(Invalid::WrongValue { .. })),
                "{operation}: {caught:?}"
            );
        }
        let caught = drive_disjoint::<Broken>(Operation::Snapshot, threads);
        assert!(matches!(caught, Err(Invalid::WrongSnapshot { .. })), "{caught:?}");
        let caught = drive_counter::<Broken>(threads);
        assert!(matches!(caught, Err(Invalid::Miscounted { .. })), "{caught:?}");
    }
}

#[test]
fn names_are_read_back_and_unknown_ones_refused() {
    for engine in EngineName::ALL {
        assert_eq!(engine.to_string().parse(), Ok(engine));
    }
    let error = "rocks".parse::<EngineName>().expect_err("no such engine");
    assert!(
        error.to_string().contains("rocks") && error.to_string().contains("m3-cheap"),
        "{error}"
    );
}
