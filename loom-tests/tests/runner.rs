//! Checks of the checker: what a model can see at all, and that it does not pass without having looked.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom_tests::{model, new_store, occurs, put, spawn};
use unlatched::internals::ReaderDriven;

// Two threads: load | load, then exchange. Bare loom never tries the first thread's load after the exchange, since the
// second thread's own load stands between. That is why the engine's atomics take turns under loom.
#[test]
fn bare_loom_misses_a_load_after_an_exchange() {
    let seen = occurs("runner::bare_loom_misses_a_load_after_an_exchange", 3, || {
        let word = Arc::new(AtomicUsize::new(0));
        let other = {
            let word = Arc::clone(&word);
            loom::thread::spawn(move || {
                let old = word.load(Ordering::Acquire);
                word.compare_exchange(old, 1, Ordering::AcqRel, Ordering::Acquire)
                    .unwrap();
            })
        };
        let seen = word.load(Ordering::Acquire);
        other.join().unwrap();
        seen == 1
    });
    assert!(
        !seen,
        "loom has learnt it: the turns in the engine's switch to loom can go"
    );
}

// Two threads: put x | get x. The same shape through the engine: both values are seen.
#[test]
fn the_engines_atomics_are_tried_in_both_orders() {
    for value in [0, 1] {
        let name = format!("runner::the_engines_atomics_are_tried_in_both_orders::{value}");
        let seen = occurs(&name, 1, move || {
            let store = new_store::<ReaderDriven>();
            put(&store, 0, 0);
            let writer = spawn(&store, |store| put(store, 0, 1));
            let seen = loom_tests::get(&store, 0).map(|found| found.0);
            writer.join().unwrap();
            seen == Some(value)
        });
        assert!(seen, "a get beside a put sees value {value} in some execution");
    }
}

// A model that fails in one execution of many fails.
#[test]
#[should_panic(expected = "in one interleaving")]
fn a_rare_failure_is_found() {
    model("runner::a_rare_failure_is_found", 2, || {
        let store = new_store::<ReaderDriven>();
        put(&store, 0, 0);
        let writer = spawn(&store, |store| put(store, 0, 1));
        let first = loom_tests::get(&store, 0);
        let second = loom_tests::get(&store, 0);
        writer.join().unwrap();
        assert!(first == second, "in one interleaving the put falls between");
    });
}

// A thread that waits for ever exceeds the limit of steps, which is a failure, not a pass.
#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn a_thread_that_spins_is_found() {
    model("runner::a_thread_that_spins_is_found", 1, || {
        let word = AtomicUsize::new(0);
        while word.load(Ordering::Acquire) == 0 {}
    });
}
