//! Models of how the store uses its collector: what is retired, by whom, and while who is pinned.
//!
//! The collector is ideal (`reclaim/model.rs`): it frees as early as its contract allows, and every dereference checks.
//! Real collectors have suites of their own.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use loom_tests::{both_clocks, get, key, new_store, put, spawn, tidy};
use unlatched::internals::Clock;

// Two threads: get x, reading it again inside | put x, prune x.
// A value that is borrowed stays while the guard is held, across a nested pin.
both_clocks!("reclaim", borrowed_value_stays, 3);
fn borrowed_value_stays<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let pruner = spawn(&store, |store| {
        put(store, 0, 2);
        store.pass_clock();
        tidy(store, 0);
    });
    let (outer, inner) = store
        .get_with(&key(0), |bytes, _| {
            let inner = get(&store, 0).expect("the key always exists").0;
            (bytes[0], inner)
        })
        .expect("the key always exists");
    assert!(outer <= inner, "a later get is not older");
    pruner.join().unwrap();
}

// Two threads: delete x, remove x | get x.
// Node, chain and versions stay while a reader is inside.
both_clocks!("reclaim", node_stays_under_a_reader, 3);
fn node_stays_under_a_reader<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let remover = spawn(&store, |store| {
        store.delete(&key(0)).expect("the key exists");
        store.pass_clock();
        tidy(store, 0);
    });
    assert!(get(&store, 0).is_none_or(|found| found.0 == 1));
    remover.join().unwrap();
    assert_eq!(get(&store, 0), None);
    assert!(!store.has_node(&key(0)));
}

// Two threads: remove x | remove x.
// Two removers of one dead key retire its node and its versions once.
both_clocks!("reclaim", two_removers_retire_once, 4);
fn two_removers_retire_once<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    store.delete(&key(0)).expect("the key exists");
    store.pass_clock();
    let other = spawn(&store, |store| tidy(store, 0));
    let retired = tidy(&store, 0) + other.join().unwrap();
    assert_eq!(retired, 2);
    assert!(!store.has_node(&key(0)));
}
