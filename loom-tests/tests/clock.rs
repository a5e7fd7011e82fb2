//! Models of `mvcc/clock.rs`: the clock alone, and a key that uses up a tick. A tick has two timestamps under loom.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom_tests::{both_clocks, get_at, key, new_store, put, spawn};
use unlatched::Timestamp;
use unlatched::internals::{Clock, TICK};

// Two threads: one put more than a tick has timestamps | a snapshot reads x twice.
// Timestamps strictly decrease along the chain, and a put that had returned is seen by every later snapshot.
// Fails with (reader-driven) F1_WRITER weakened.
both_clocks!("clock", key_that_uses_up_a_tick, 2);
fn key_that_uses_up_a_tick<C: Clock>() {
    let store = new_store::<C>();
    let returned = Arc::new(AtomicUsize::new(0));
    let writer = {
        let returned = Arc::clone(&returned);
        spawn(&store, move |store| {
            for value in 1..=TICK as u8 + 1 {
                put(store, 0, value);
                returned.store(usize::from(value), Ordering::Release);
            }
        })
    };
    let before = returned.load(Ordering::Acquire);
    let snapshot = store.open_snapshot();
    let first = get_at(&store, 0, &snapshot);
    assert!(usize::from(first.unwrap_or(0)) >= before, "a completed put is seen");
    assert_eq!(get_at(&store, 0, &snapshot), first, "a snapshot is repeatable");
    store.close_snapshot(&snapshot);
    writer.join().unwrap();
    assert_eq!(store.timestamps(&key(0)).len() as u64, TICK + 1);
}

// Two threads: two puts of x | two puts of x, then a snapshot of each thread's own.
// Both raise the clock when the tick is used up; neither put's own thread can miss it afterwards.
both_clocks!("clock", own_put_is_in_the_next_snapshot, 2);
fn own_put_is_in_the_next_snapshot<C: Clock>() {
    let store = new_store::<C>();
    let body = |store: &loom_tests::ModelStore<C>| {
        put(store, 0, 1);
        let written = put(store, 0, 2);
        let snapshot = store.open_snapshot();
        assert!(
            written <= snapshot.timestamp(),
            "a later snapshot is not before a completed put"
        );
        store.close_snapshot(&snapshot);
    };
    let other = spawn(&store, body);
    body(&store);
    other.join().unwrap();
    assert_eq!(store.timestamps(&key(0)).len(), 4);
}

// Two threads on a bare clock: draw a snapshot | draw a commit, publish it.
// A commit whose draw follows a snapshot's gets more than that (invariant 3), and one that precedes it at most that.
both_clocks!("clock", draws_agree_with_their_order, 4);
fn draws_agree_with_their_order<C: Clock>() {
    let clock = Arc::new(C::new());
    let told = Arc::new(AtomicUsize::new(0));
    let committer = {
        let (clock, told) = (Arc::clone(&clock), Arc::clone(&told));
        loom::thread::spawn(move || {
            let first = clock.draw_commit(Timestamp::ABSENT);
            told.store(first.get() as usize, Ordering::Release);
            clock.draw_commit(first)
        })
    };
    let committed = told.load(Ordering::Acquire) as u64;
    let read = clock.draw_snapshot();
    assert!(committed <= read.get(), "what was committed before is in the snapshot");
    let later = clock.draw_commit(Timestamp::ABSENT);
    assert!(later > read, "what is committed after is not");
    committer.join().unwrap();
}

// Two threads on a bare clock: three draws for one key | two draws for another key, a bound, a snapshot.
// Raising the clock twice at once does no harm, and the bound of a snapshot never exceeds it.
both_clocks!("clock", raises_do_not_undo_each_other, 4);
fn raises_do_not_undo_each_other<C: Clock>() {
    let clock = Arc::new(C::new());
    let other = {
        let clock = Arc::clone(&clock);
        loom::thread::spawn(move || {
            let mut last = Timestamp::ABSENT;
            for _ in 0..3 {
                let ts = clock.draw_commit(last);
                assert!(ts > last);
                last = ts;
            }
            last
        })
    };
    let bound = C::least_snapshot_after(clock.now());
    let mut last = Timestamp::ABSENT;
    for _ in 0..3 {
        last = clock.draw_commit(last);
    }
    let read = clock.draw_snapshot();
    assert!(bound <= read && last <= read);
    let theirs = other.join().unwrap();
    assert!(theirs <= clock.draw_snapshot());
}
