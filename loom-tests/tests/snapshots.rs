//! Models of `mvcc/snapshots.rs`: what an open snapshot holds back, and when it stops.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use loom_tests::{Stop, both_clocks, get, get_at, key, new_store, put, spawn, tidy};
use unlatched::internals::Clock;
use unlatched::internals::pause::Step;

// F2. Two threads: a snapshot is opened in a slot never used before, reads x | pass the clock, look, prune x.
// Either the look shows the slot, or the snapshot's timestamp is above the look's limit.
// Fails with (writer-driven) F2_SNAPSHOT weakened.
both_clocks!("snapshots", look_shows_a_slot_or_precedes_its_draw, 3);
fn look_shows_a_slot_or_precedes_its_draw<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let pruner = spawn(&store, |store| {
        put(store, 0, 2);
        store.pass_clock();
        tidy(store, 0);
    });
    let snapshot = store.open_snapshot();
    let first = get_at(&store, 0, &snapshot);
    assert!(first.is_some(), "the key always exists");
    assert_eq!(get_at(&store, 0, &snapshot), first);
    store.close_snapshot(&snapshot);
    pruner.join().unwrap();
}

// The same in a slot that was used and closed before.
both_clocks!("snapshots", slot_is_used_again, 3);
fn slot_is_used_again<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let snapshot = store.open_snapshot();
    store.close_snapshot(&snapshot);
    let pruner = spawn(&store, |store| {
        put(store, 0, 2);
        store.pass_clock();
        tidy(store, 0);
    });
    let snapshot = store.open_snapshot();
    let first = get_at(&store, 0, &snapshot);
    assert!(first.is_some(), "the key always exists");
    assert_eq!(get_at(&store, 0, &snapshot), first);
    store.close_snapshot(&snapshot);
    pruner.join().unwrap();
}

// Two threads: open, read x, close, open, read x, close | put x, look, prune x.
// A look that falls between two uses of a slot, or meets the bound of either.
both_clocks!("snapshots", slot_changes_hands_under_a_look, 2);
fn slot_changes_hands_under_a_look<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let pruner = spawn(&store, |store| {
        put(store, 0, 2);
        tidy(store, 0);
    });
    let mut last = None;
    for _ in 0..2 {
        let snapshot = store.open_snapshot();
        let seen = get_at(&store, 0, &snapshot);
        assert!(seen.is_some(), "the key always exists");
        assert!(last <= seen, "snapshots do not go back");
        last = seen;
        store.close_snapshot(&snapshot);
    }
    pruner.join().unwrap();
}

// Two threads: a snapshot moves to another thread, reads x, is closed there | put x, prune x.
both_clocks!("snapshots", snapshot_is_closed_by_another_thread, 3);
fn snapshot_is_closed_by_another_thread<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let snapshot = store.open_snapshot();
    let reader = spawn(&store, move |store| {
        assert_eq!(get_at(store, 0, &snapshot), Some(1));
        store.close_snapshot(&snapshot);
    });
    put(&store, 0, 2);
    store.pass_clock();
    tidy(&store, 0);
    reader.join().unwrap();
    tidy(&store, 0);
    assert_eq!(store.timestamps(&key(0)).len(), 1, "nothing is held back any more");
}

// Two threads: prune x with a look taken before the versions existed | a snapshot reads x, twice.
// A stale look only allows less.
both_clocks!("snapshots", stale_look_allows_less, 3);
fn stale_look_allows_less<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let stale = store.look();
    let pruner = spawn(&store, move |store| {
        store.use_view(&stale);
        put(store, 0, 2);
        store.tidy_key(&key(0), &stale);
    });
    let snapshot = store.open_snapshot();
    let first = get_at(&store, 0, &snapshot);
    assert!(first.is_some(), "the key always exists");
    assert_eq!(get_at(&store, 0, &snapshot), first);
    store.close_snapshot(&snapshot);
    pruner.join().unwrap();
}

// Two threads: a snapshot stopped with its bound published, or with its timestamp drawn | put x, pass the clock, prune
// x, get x.
// Nobody waits for it, and what it will read stays. Stopped with its timestamp it fails with (writer-driven) F2_PRUNER
// weakened.
fn stopped_snapshot_blocks_nobody<C: Clock>(step: Step) {
    let store = new_store::<C>();
    put(&store, 0, 1);
    Stop::with(|stop, held| {
        let stop = stop.clone();
        let stopped = spawn(&store, move |store| {
            stop.at(step);
            let snapshot = store.open_snapshot();
            let seen = get_at(store, 0, &snapshot);
            store.close_snapshot(&snapshot);
            (snapshot.timestamp(), seen)
        });
        let written = put(&store, 0, 2);
        store.pass_clock();
        tidy(&store, 0);
        assert_eq!(get(&store, 0), Some((2, written)));
        drop(held);
        let (timestamp, seen) = stopped.join().unwrap();
        assert_eq!(seen, Some(if written <= timestamp { 2 } else { 1 }));
    });
}

both_clocks!("snapshots", snapshot_stopped_with_its_bound, 2);
fn snapshot_stopped_with_its_bound<C: Clock>() {
    stopped_snapshot_blocks_nobody::<C>(Step::SlotPending);
}

both_clocks!("snapshots", snapshot_stopped_with_its_timestamp, 2);
fn snapshot_stopped_with_its_timestamp<C: Clock>() {
    stopped_snapshot_blocks_nobody::<C>(Step::SnapshotDrawn);
}

// Two threads: open | open, close, open, where two slots are spare (under loom a thread keeps none for itself).
// No slot is given to two snapshots at once, also when one is taken, given back and taken again meanwhile.
// Fails with SPARE_SLOT weakened.
both_clocks!("snapshots", spare_slot_is_taken_once, 3);
fn spare_slot_is_taken_once<C: Clock>() {
    let store = new_store::<C>();
    let spare = [store.open_snapshot(), store.open_snapshot()];
    for snapshot in &spare {
        store.close_snapshot(snapshot);
    }
    let other = spawn(&store, |store| {
        let first = store.open_snapshot();
        store.close_snapshot(&first);
        store.open_snapshot()
    });
    let mine = store.open_snapshot();
    let others = other.join().unwrap();
    assert_eq!(store.stats().open_snapshots, 2, "each snapshot has a slot of its own");
    store.close_snapshot(&mine);
    store.close_snapshot(&others);
    assert_eq!(store.stats().open_snapshots, 0);
}

// Two threads: open, open | open, open, close the first. A slot comes back to the stack over another one than it lay
// over before: who takes it must see the new link. Fails with READ_SPARE or SPARE_SLOT weakened.
both_clocks!("snapshots", spare_slot_comes_back_with_its_new_link, 3);
fn spare_slot_comes_back_with_its_new_link<C: Clock>() {
    let store = new_store::<C>();
    let spare = [store.open_snapshot(), store.open_snapshot()];
    for snapshot in &spare {
        store.close_snapshot(snapshot);
    }
    let other = spawn(&store, |store| {
        let (first, second) = (store.open_snapshot(), store.open_snapshot());
        store.close_snapshot(&first);
        second
    });
    let mine = [store.open_snapshot(), store.open_snapshot()];
    let others = other.join().unwrap();
    assert_eq!(store.stats().open_snapshots, 3, "each snapshot has a slot of its own");
    for snapshot in mine.iter().chain([&others]) {
        store.close_snapshot(snapshot);
    }
}
