//! The store-load points of the commit protocol, bare: two locations, with the fence and without it.
//!
//! Both sides write one location and then read the other. With a full fence between, at least one side sees the other;
//! without it both may miss, and the model shows that loom finds it.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;
use loom_tests::occurs;

/// A point's two accesses on one side: a write, the fence, a read of the other location.
type Side = fn(mine: &AtomicUsize, other: &AtomicUsize, fenced: bool) -> bool;

fn full_fence(fenced: bool) {
    if fenced {
        fence(Ordering::SeqCst);
    }
}

/// Says whether both sides can miss each other.
fn both_miss(name: &str, fenced: bool, left: Side, right: Side) -> bool {
    let name = format!("fences::{name}::{}", if fenced { "fenced" } else { "bare" });
    occurs(&name, 4, move || {
        let words = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let other = {
            let words = Arc::clone(&words);
            thread::spawn(move || right(&words.1, &words.0, fenced))
        };
        let left_missed = left(&words.0, &words.1, fenced);
        let right_missed = other.join().unwrap();
        left_missed && right_missed
    })
}

/// Writes with an exchange, reads with a load: a version linked or a transaction prepared, then the clock read.
fn exchange_then_load(mine: &AtomicUsize, other: &AtomicUsize, fenced: bool) -> bool {
    mine.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire)
        .unwrap();
    full_fence(fenced);
    other.load(Ordering::Acquire) == 0
}

/// Writes with an addition, reads with a load: a timestamp drawn, then a head or status read.
fn add_then_load(mine: &AtomicUsize, other: &AtomicUsize, fenced: bool) -> bool {
    mine.fetch_add(1, Ordering::AcqRel);
    full_fence(fenced);
    other.load(Ordering::Acquire) == 0
}

/// Writes with a store, reads with an addition: a slot's bound stored, then the timestamp drawn.
fn store_then_load(mine: &AtomicUsize, other: &AtomicUsize, fenced: bool) -> bool {
    mine.store(1, Ordering::Release);
    full_fence(fenced);
    other.load(Ordering::Acquire) == 0
}

// F1, reader-driven clock: link, read the clock | draw from the clock, read the head.
#[test]
fn f1_version_and_snapshot_do_not_miss_each_other() {
    assert!(!both_miss("f1", true, exchange_then_load, add_then_load));
    assert!(both_miss("f1", false, exchange_then_load, add_then_load));
}

// F2, writer-driven clock: store the slot, read the clock | move the clock, read the slot.
#[test]
fn f2_slot_and_pruner_do_not_miss_each_other() {
    assert!(!both_miss("f2", true, store_then_load, add_then_load));
    assert!(both_miss("f2", false, store_then_load, add_then_load));
}

/// F4 has a third thread between: the preparer reads the clock, a snapshot moves it, and a thread that has seen it
/// moved reads the status. Says whether the preparer can draw the old clock while the last thread misses the status.
fn status_is_missed_under_a_later_clock(fenced: bool) -> bool {
    let name = format!("fences::f4::{}", if fenced { "fenced" } else { "bare" });
    occurs(&name, 4, move || {
        let words = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let preparer = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                words
                    .0
                    .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire)
                    .unwrap();
                full_fence(fenced);
                words.1.load(Ordering::Acquire) == 0
            })
        };
        let snapshot = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                words.1.fetch_add(1, Ordering::AcqRel);
            })
        };
        let later_clock = words.1.load(Ordering::Acquire) == 1;
        full_fence(fenced);
        let missed = words.0.load(Ordering::Acquire) == 0;
        let drew_the_old_clock = preparer.join().unwrap();
        snapshot.join().unwrap();
        later_clock && missed && drew_the_old_clock
    })
}

// F4: prepare, read the clock | move the clock | read the clock, read the status.
#[test]
fn f4_prepared_is_not_missed_under_a_later_clock() {
    assert!(!status_is_missed_under_a_later_clock(true));
    assert!(status_is_missed_under_a_later_clock(false));
}

/// In F3 a writer changes three words before it reads the clock, and the flusher reads them all after it moved the clock.
/// Says whether the writer can draw the old clock while the flusher misses word number `word`.
fn a_place_is_missed_above_the_cut(word: usize, fenced: bool) -> bool {
    let name = format!("fences::f3::{word}::{}", if fenced { "fenced" } else { "bare" });
    occurs(&name, 4, move || {
        let words = Arc::new([const { () }; 4].map(|()| AtomicUsize::new(0)));
        let writer = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                words[0].fetch_add(1, Ordering::AcqRel);
                for word in &words[1..3] {
                    word.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire)
                        .unwrap();
                }
                full_fence(fenced);
                words[3].load(Ordering::Acquire) == 0
            })
        };
        words[3].fetch_add(1, Ordering::AcqRel);
        full_fence(fenced);
        let missed = words[word].load(Ordering::Acquire) == 0;
        writer.join().unwrap() && missed
    })
}

// F3: reserve, fill, prepare, read the clock | draw the cut, read the tail, the place or the status.
#[test]
fn f3_place_and_cut_do_not_miss_each_other() {
    for word in 0..3 {
        assert!(!a_place_is_missed_above_the_cut(word, true));
        assert!(a_place_is_missed_above_the_cut(word, false));
    }
}

// A place is filled, the flag read | the flag is raised, the place read.
#[test]
fn place_and_poison_do_not_miss_each_other() {
    assert!(!both_miss("poison", true, exchange_then_load, store_then_load));
    assert!(both_miss("poison", false, exchange_then_load, store_then_load));
}
