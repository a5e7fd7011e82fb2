//! Models of `mvcc/chain.rs` and of the reads, writes and pruning that run on a chain.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use loom_tests::{Stop, both_clocks, commit, delete, get, get_at, key, new_store, put, spawn, tidy};
use unlatched::Timestamp;
use unlatched::internals::Clock;
use unlatched::internals::pause::Step;

// Two threads: put x | a snapshot reads x twice.
// A snapshot is repeatable, and sees the put exactly if the put's timestamp is not above its own.
// Fails with LINK_VERSION, READ_HEAD, and (reader-driven) F1_WRITER weakened.
both_clocks!("chain", snapshot_is_repeatable, 3);
fn snapshot_is_repeatable<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let writer = spawn(&store, |store| put(store, 0, 2));
    let snapshot = store.open_snapshot();
    let first = get_at(&store, 0, &snapshot);
    let second = get_at(&store, 0, &snapshot);
    let written = writer.join().unwrap();
    assert_eq!(first, second, "a snapshot is repeatable");
    let expected = if written <= snapshot.timestamp() { 2 } else { 1 };
    assert_eq!(first, Some(expected), "a snapshot sees what is not younger than it");
    store.close_snapshot(&snapshot);
}

// Three threads: put x | put y, get x | a snapshot reads x and y.
// The put of x is either before the snapshot, then before the later get as well, or after it. This is why a get
// settles what it meets. Fails with F4_READER and F1_READER, or F4_READER and READ_WORD, weakened together.
both_clocks!("chain", get_and_snapshot_agree_on_the_order, 2);
fn get_and_snapshot_agree_on_the_order<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 0);
    put(&store, 1, 0);
    let first = spawn(&store, |store| put(store, 0, 1));
    let second = spawn(&store, |store| {
        put(store, 1, 1);
        get(store, 0).map(|found| found.0)
    });
    let snapshot = store.open_snapshot();
    let x = get_at(&store, 0, &snapshot);
    let y = get_at(&store, 1, &snapshot);
    store.close_snapshot(&snapshot);
    first.join().unwrap();
    let got = second.join().unwrap();
    assert!(
        !(x == Some(1) && y == Some(0) && got == Some(0)),
        "the snapshot has x and lacks y, so x was there before y; yet the get after y missed x"
    );
}

// Two threads: put x, get x | put x, get x.
// A get returns the thread's own put or a later one; nothing is lost; timestamps decrease along the chain.
// Fails with LINK_VERSION, READ_HEAD, READ_NODE, LINK_NODE weakened.
both_clocks!("chain", own_put_or_a_later_one_is_read, 3);
fn own_put_or_a_later_one_is_read<C: Clock>() {
    let store = new_store::<C>();
    let body = |value| {
        move |store: &loom_tests::ModelStore<C>| {
            let written = put(store, 0, value);
            let (got, ts) = get(store, 0).expect("nobody deletes");
            assert!(ts >= written, "a get returns the own put or a later one");
            assert_eq!(got == value, ts == written);
            written
        }
    };
    let other = spawn(&store, body(1));
    let mine = body(2)(&store);
    let theirs = other.join().unwrap();
    let newest = mine.max(theirs);
    assert_eq!(store.timestamps(&key(0)), vec![newest, mine.min(theirs)]);
    assert_eq!(get(&store, 0).map(|found| found.1), Some(newest));
}

// Three threads: a snapshot reads x twice | put x | look, truncate x.
// What a snapshot may see is not cut off. Fails with (writer-driven) F2_SNAPSHOT, (reader-driven) F1_WRITER weakened.
both_clocks!("chain", truncation_spares_what_a_snapshot_sees, 2);
fn truncation_spares_what_a_snapshot_sees<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let writer = spawn(&store, |store| {
        put(store, 0, 2);
    });
    let reader = spawn(&store, |store| {
        let snapshot = store.open_snapshot();
        let first = get_at(store, 0, &snapshot);
        let second = get_at(store, 0, &snapshot);
        store.close_snapshot(&snapshot);
        assert!(first.is_some(), "the key always exists");
        assert_eq!(first, second);
    });
    tidy(&store, 0);
    writer.join().unwrap();
    reader.join().unwrap();
}

// Two threads: get x | commit x, then truncate x.
// `next` is loaded before the status, and with acquire: else a get that saw the newer version ACTIVE would meet a chain
// cut right below it, and find nothing. Fails with READ_NEXT weakened.
both_clocks!("chain", get_never_misses_a_key_that_exists, 3);
fn get_never_misses_a_key_that_exists<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let begun = store.open_snapshot();
    let writer = spawn(&store, move |store| {
        commit(store, &begun, &[(0, Some(2))]).expect("nobody else writes");
        store.close_snapshot(&begun);
        store.pass_clock();
        tidy(store, 0)
    });
    assert!(get(&store, 0).is_some(), "the key always exists");
    assert_eq!(writer.join().unwrap(), 1);
    assert_eq!(store.timestamps(&key(0)).len(), 1);
}

// The same with a put, which a get settles instead of passing it.
both_clocks!("chain", get_settles_what_it_meets, 3);
fn get_settles_what_it_meets<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let writer = spawn(&store, |store| {
        put(store, 0, 2);
        store.pass_clock();
        tidy(store, 0)
    });
    assert!(get(&store, 0).is_some(), "the key always exists");
    assert_eq!(writer.join().unwrap(), 1);
    assert_eq!(store.timestamps(&key(0)).len(), 1);
}

// Two threads: truncate x | truncate x, over three versions.
// Each version is retired once and none stays reachable.
both_clocks!("chain", two_truncators_retire_each_version_once, 4);
fn two_truncators_retire_each_version_once<C: Clock>() {
    let store = new_store::<C>();
    for value in 0..3 {
        put(&store, 0, value);
    }
    store.pass_clock();
    let other = spawn(&store, |store| tidy(store, 0));
    let retired = tidy(&store, 0) + other.join().unwrap();
    assert_eq!(retired, 2);
    assert_eq!(get(&store, 0).map(|found| found.0), Some(2));
    assert_eq!(store.timestamps(&key(0)).len(), 1);
}

/// Builds versions 0, 1, 2, 3 of x with snapshots at versions 0 and 3, so that 1 and 2 are hidden between them. Returns
/// a look taken at that moment.
fn hidden_between_snapshots<C: Clock>(
    store: &loom_tests::ModelStore<C>,
) -> ([unlatched::internals::OpenSnapshot; 2], unlatched::internals::ModelView) {
    put(store, 0, 0);
    let old = store.open_snapshot();
    for value in 1..4 {
        put(store, 0, value);
    }
    let new = store.open_snapshot();
    let view = store.look();
    ([old, new], view)
}

// Two threads: prune x | prune x, where two neighbours are hidden between snapshots.
// Without the DEAD bit the unlinking of one neighbour would undo that of the other.
both_clocks!("chain", two_pruners_retire_each_version_once, 4);
fn two_pruners_retire_each_version_once<C: Clock>() {
    let store = new_store::<C>();
    let (snapshots, view) = hidden_between_snapshots(&store);
    let other = {
        let view = view.clone();
        spawn(&store, move |store| store.tidy_key(&key(0), &view))
    };
    let mine = store.tidy_key(&key(0), &view);
    let theirs = other.join().unwrap();
    assert_eq!(get_at(&store, 0, &snapshots[0]), Some(0));
    assert_eq!(get_at(&store, 0, &snapshots[1]), Some(3));
    // A loser gives up rather than start again, so something may be left for the next time.
    let rest = store.tidy_key(&key(0), &view);
    assert_eq!(mine + theirs + rest, 2);
    assert_eq!(store.timestamps(&key(0)).len(), 2);
    for snapshot in &snapshots {
        store.close_snapshot(snapshot);
    }
}

// Two threads: prune x with an old look | close the snapshots, look, truncate x.
// An old look only allows less; the pruner and the truncator retire each version once between them.
// Fails with MODEL_PIN weakened.
both_clocks!("chain", pruner_and_truncator_retire_each_version_once, 3);
fn pruner_and_truncator_retire_each_version_once<C: Clock>() {
    let store = new_store::<C>();
    let (snapshots, view) = hidden_between_snapshots(&store);
    let pruner = spawn(&store, move |store| store.tidy_key(&key(0), &view));
    for snapshot in &snapshots {
        store.close_snapshot(snapshot);
    }
    store.pass_clock();
    let cut = tidy(&store, 0);
    let pruned = pruner.join().unwrap();
    let rest = tidy(&store, 0);
    assert_eq!(cut + pruned + rest, 3);
    assert_eq!(get(&store, 0).map(|found| found.0), Some(3));
    assert_eq!(store.timestamps(&key(0)).len(), 1);
}

// Two threads: prune x | the older snapshot reads x.
// A reader on its way through a version that is unlinked under it still arrives.
both_clocks!("chain", reader_passes_versions_that_are_pruned, 4);
fn reader_passes_versions_that_are_pruned<C: Clock>() {
    let store = new_store::<C>();
    let (snapshots, view) = hidden_between_snapshots(&store);
    let pruner = spawn(&store, move |store| store.tidy_key(&key(0), &view));
    assert_eq!(get_at(&store, 0, &snapshots[0]), Some(0));
    assert_eq!(get_at(&store, 0, &snapshots[1]), Some(3));
    assert_eq!(pruner.join().unwrap(), 2);
    for snapshot in &snapshots {
        store.close_snapshot(snapshot);
    }
}

// Two threads: put x, with a look that lets it prune, twice | a snapshot reads x twice.
// The pruning that every put does after its commit.
both_clocks!("chain", put_prunes_behind_itself, 2);
fn put_prunes_behind_itself<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let writer = spawn(&store, |store| {
        store.use_view(&store.look());
        put(store, 0, 2);
        store.use_view(&store.look());
        put(store, 0, 3);
    });
    let snapshot = store.open_snapshot();
    let first = get_at(&store, 0, &snapshot);
    assert!(first.is_some(), "the key always exists");
    assert_eq!(get_at(&store, 0, &snapshot), first);
    store.close_snapshot(&snapshot);
    writer.join().unwrap();
    assert_eq!(get(&store, 0).map(|found| found.0), Some(3));
}

// Two threads: remove x, stopped after it has sealed the chain | put x, get x.
// The put helps to remove the node and finishes; the get finds it. If it waited, loom would report a deadlock.
both_clocks!("chain", stopped_remover_blocks_nobody, 3);
fn stopped_remover_blocks_nobody<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    delete(&store, 0);
    store.pass_clock();
    Stop::with(|stop, held| {
        let stop = stop.clone();
        let remover = spawn(&store, move |store| {
            stop.at(Step::Sealed);
            tidy(store, 0);
        });
        let written = put(&store, 0, 2);
        assert_eq!(get(&store, 0), Some((2, written)));
        drop(held);
        remover.join().unwrap();
    });
    assert_eq!(get(&store, 0).map(|found| found.0), Some(2));
}

// Three threads: delete x, remove x | put x, get x | a snapshot reads x twice.
// No write is lost with the node, and the snapshot stays repeatable.
both_clocks!("chain", removal_loses_no_write, 2);
fn removal_loses_no_write<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let remover = spawn(&store, |store| {
        let deleted = store.delete(&key(0));
        store.pass_clock();
        tidy(store, 0);
        deleted.expect("the key exists until now")
    });
    let reader = spawn(&store, |store| {
        let snapshot = store.open_snapshot();
        let first = get_at(store, 0, &snapshot);
        assert_eq!(get_at(store, 0, &snapshot), first, "a snapshot is repeatable");
        store.close_snapshot(&snapshot);
    });
    let written = put(&store, 0, 2);
    let got = get(&store, 0);
    let deleted = remover.join().unwrap();
    reader.join().unwrap();
    assert_ne!(deleted, written, "timestamps of a key differ, across its chains too");
    if deleted < written {
        assert_eq!(got, Some((2, written)));
        assert_eq!(
            get(&store, 0),
            Some((2, written)),
            "the put is after the delete, and stays"
        );
    } else {
        assert!(got.is_none() || got == Some((2, written)));
        assert_eq!(get(&store, 0), None, "the delete is after the put");
    }
}

// Two threads: put x, twice, of which the second may be into a second chain | remove x.
// The tombstone's timestamp is below the clock when its chain is sealed, so the next chain starts above it.
both_clocks!("chain", next_chain_has_greater_timestamps, 3);
fn next_chain_has_greater_timestamps<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 1);
    let deleted = store.delete(&key(0)).expect("it exists");
    let remover = spawn(&store, |store| {
        store.pass_clock();
        tidy(store, 0);
    });
    let written = put(&store, 0, 2);
    assert!(deleted < written);
    remover.join().unwrap();
    assert_eq!(get(&store, 0), Some((2, written)));
}

// Two threads: first put of x, get x | tidy x, tidy x.
// An empty chain is sealed at the second visit; the insertion into it is not lost.
// Fails with READ_NODE, LINK_NODE weakened.
both_clocks!("chain", empty_chain_is_sealed_at_the_second_visit, 4);
fn empty_chain_is_sealed_at_the_second_visit<C: Clock>() {
    let store = new_store::<C>();
    let view = store.look();
    let sweeper = spawn(&store, move |store| {
        store.tidy_key(&key(0), &view);
        store.tidy_key(&key(0), &view);
    });
    let written = put(&store, 0, 1);
    assert_eq!(get(&store, 0), Some((1, written)));
    sweeper.join().unwrap();
    assert_eq!(get(&store, 0), Some((1, written)));
}

// Two threads: cas x from absent | cas x from absent.
// Exactly one wins, and the other is told the winner's timestamp. Fails with READ_NODE, LINK_NODE weakened.
both_clocks!("chain", one_of_two_conditional_puts_wins, 3);
fn one_of_two_conditional_puts_wins<C: Clock>() {
    let store = new_store::<C>();
    let body = |value: u8| {
        move |store: &loom_tests::ModelStore<C>| {
            store.compare_and_put(&key(0), Timestamp::ABSENT, 1, |bytes| bytes[0] = value)
        }
    };
    let other = spawn(&store, body(1));
    let mine = body(2)(&store);
    let theirs = other.join().unwrap();
    let (Ok(won) | Err(won), Ok(seen) | Err(seen)) = (mine, theirs);
    assert!(mine.is_ok() != theirs.is_ok(), "exactly one wins");
    assert_eq!(won, seen);
    let value = if mine.is_ok() { 2 } else { 1 };
    assert_eq!(get(&store, 0), Some((value, won)));
}
