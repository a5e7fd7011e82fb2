//! Models of `mvcc/status.rs` and `mvcc/settle.rs`: who decides, and that all agree.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use loom_tests::{Stop, both_clocks, commit, get, get_at, new_store, put, spawn};
use unlatched::internals::Clock;
use unlatched::internals::pause::Step;

// Three threads: put x | get x | get x.
// Whoever decides the put, all name the same timestamp.
both_clocks!("status", helpers_and_owner_agree, 2);
fn helpers_and_owner_agree<C: Clock>() {
    let store = new_store::<C>();
    let first = spawn(&store, |store| get(store, 0));
    let second = spawn(&store, |store| get(store, 0));
    let written = put(&store, 0, 1);
    for found in [first.join().unwrap(), second.join().unwrap()] {
        assert!(found.is_none() || found == Some((1, written)));
    }
    assert_eq!(get(&store, 0), Some((1, written)));
}

// Two threads: put x | get x, get x.
// A key that was seen stays seen.
both_clocks!("status", gets_of_one_thread_do_not_go_back, 3);
fn gets_of_one_thread_do_not_go_back<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let writer = spawn(&store, |store| put(store, 0, 2));
    let first = get(&store, 0).map(|found| found.1);
    let second = get(&store, 0).map(|found| found.1);
    assert!(first.is_some());
    assert!(first <= second);
    writer.join().unwrap();
}

// Two threads: put x, stopped before or after its timestamp is drawn | get x, put x, a snapshot reads x.
// Nobody waits for the stopped put: the get decides it, the put goes on above it.
fn stopped_put_blocks_nobody<C: Clock>(step: Step) {
    let store = new_store::<C>();
    put(&store, 0, 1);
    Stop::with(|stop, held| {
        let stop = stop.clone();
        let stopped = spawn(&store, move |store| {
            stop.at(step);
            put(store, 0, 2)
        });
        let first = get(&store, 0).expect("the key always exists").1;
        let written = put(&store, 0, 3);
        let snapshot = store.open_snapshot();
        assert!(first < written && written <= snapshot.timestamp());
        let seen = get_at(&store, 0, &snapshot);
        drop(held);
        let other = stopped.join().unwrap();
        let expected = if other > written && other <= snapshot.timestamp() {
            2
        } else {
            3
        };
        assert_eq!(seen, Some(expected));
        assert_eq!(get_at(&store, 0, &snapshot), seen, "a snapshot is repeatable");
        store.close_snapshot(&snapshot);
    });
}

both_clocks!("status", put_stopped_when_linked, 2);
fn put_stopped_when_linked<C: Clock>() {
    stopped_put_blocks_nobody::<C>(Step::Linked);
}

both_clocks!("status", put_stopped_when_drawn, 2);
fn put_stopped_when_drawn<C: Clock>() {
    stopped_put_blocks_nobody::<C>(Step::Drawn);
}

// Two threads: commit x | get x, put x.
// The decision of a transaction is copied into its version once, whoever copies it; the descriptor is freed once.
both_clocks!("status", decision_is_copied_once, 3);
fn decision_is_copied_once<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let snapshot = store.open_snapshot();
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &snapshot, &[(0, Some(2))]);
        store.close_snapshot(&snapshot);
        committed.ok()
    });
    let found = get(&store, 0).expect("the key always exists");
    let written = put(&store, 0, 3);
    match owner.join().unwrap() {
        Some(committed) => {
            assert_ne!(committed, written);
            assert!(found.0 == 1 || found == (2, committed));
        }
        None => assert_eq!(found.0, 1),
    }
    assert_eq!(get(&store, 0), Some((3, written)));
}
