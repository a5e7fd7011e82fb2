//! Models of transactions: `mvcc/descriptor.rs`, and installing and helping in `mvcc/settle.rs`.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use loom_tests::{Stop, both_clocks, commit, delete, get, get_at, key, new_store, one_clock, put, spawn, tidy};
use unlatched::internals::Clock;
use unlatched::internals::pause::Step;

// Two threads: commit x and y | a snapshot reads x and y.
// All of a transaction's writes become visible at once. Fails with (reader-driven) F1_WRITER weakened.
both_clocks!("commit", writes_become_visible_together, 3);
fn writes_become_visible_together<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 0);
    put(&store, 1, 0);
    let begun = store.open_snapshot();
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
        store.close_snapshot(&begun);
        committed.expect("nobody else writes")
    });
    let snapshot = store.open_snapshot();
    let x = get_at(&store, 0, &snapshot);
    let y = get_at(&store, 1, &snapshot);
    let committed = owner.join().unwrap();
    assert_eq!(x, y, "all or nothing");
    let expected = u8::from(committed <= snapshot.timestamp());
    assert_eq!(x, Some(expected));
    store.close_snapshot(&snapshot);
}

// Two threads: commit x and y | get y, get x.
// What a later get reads is not older: a get that sees y has the whole transaction before it.
both_clocks!("commit", gets_see_a_commit_whole, 3);
fn gets_see_a_commit_whole<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 0);
    put(&store, 1, 0);
    let begun = store.open_snapshot();
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
        store.close_snapshot(&begun);
        committed.expect("nobody else writes")
    });
    let y = get(&store, 1).map(|found| found.0);
    let x = get(&store, 0).map(|found| found.0);
    assert!(!(y == Some(1) && x == Some(0)));
    owner.join().unwrap();
}

// Two threads: commit x and y | get x, get y.
// The other way round: a get that sees x knows that y is linked, since x was decided after it.
// Fails with READ_WORD, READ_STATUS or PREPARE weakened together with F4_READER.
both_clocks!("commit", decision_follows_the_last_write, 3);
fn decision_follows_the_last_write<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 0);
    put(&store, 1, 0);
    let begun = store.open_snapshot();
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
        store.close_snapshot(&begun);
        committed.expect("nobody else writes")
    });
    let x = get(&store, 0).map(|found| found.0);
    let y = get(&store, 1).map(|found| found.0);
    assert!(!(x == Some(1) && y == Some(0)));
    owner.join().unwrap();
}

// Two threads: commit x | commit x, from the same snapshot.
// The first committer wins, and the other learns which key it was. Fails with LINK_VERSION, READ_HEAD weakened.
both_clocks!("commit", first_committer_wins, 3);
fn first_committer_wins<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 0);
    let (mine, theirs) = (store.open_snapshot(), store.open_snapshot());
    let other = spawn(&store, move |store| {
        let committed = commit(store, &theirs, &[(0, Some(1))]);
        store.close_snapshot(&theirs);
        committed
    });
    let first = commit(&store, &mine, &[(0, Some(2))]);
    store.close_snapshot(&mine);
    let second = other.join().unwrap();
    assert!(first.is_ok() != second.is_ok(), "exactly one commits");
    let value = if first.is_ok() { 2 } else { 1 };
    assert_eq!(get(&store, 0).map(|found| found.0), Some(value));
    let lost = first.err().or(second.err()).expect("one of them failed");
    assert_eq!(lost.key, key(0));
}

// Two threads: commit x and y | commit y and z, from the same snapshot.
// The write in common decides; the loser leaves no trace.
both_clocks!("commit", loser_leaves_no_trace, 2);
fn loser_leaves_no_trace<C: Clock>() {
    let store = new_store::<C>();
    for number in 0..3 {
        put(&store, number, 0);
    }
    let (mine, theirs) = (store.open_snapshot(), store.open_snapshot());
    let other = spawn(&store, move |store| {
        let committed = commit(store, &theirs, &[(1, Some(1)), (2, Some(1))]);
        store.close_snapshot(&theirs);
        committed.is_ok()
    });
    let first = commit(&store, &mine, &[(0, Some(2)), (1, Some(2))]).is_ok();
    store.close_snapshot(&mine);
    let second = other.join().unwrap();
    assert!(first != second, "exactly one commits");
    let values = [0, 1, 2].map(|number| get(&store, number).map(|found| found.0));
    let expected = if first { [2, 2, 0] } else { [0, 1, 1] };
    assert_eq!(values, expected.map(Some));
}

// Two threads: commit x and y, stopped at a step | put x, a snapshot reads x and y.
// The put finishes while the transaction is stopped, by finishing that as well. If it waited, loom would report a
// deadlock.
fn stopped_commit_blocks_nobody<C: Clock>(step: Step) {
    let store = new_store::<C>();
    put(&store, 0, 0);
    put(&store, 1, 0);
    let begun = store.open_snapshot();
    Stop::with(|stop, held| {
        let stop = stop.clone();
        let stopped = spawn(&store, move |store| {
            stop.at(step);
            let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
            store.close_snapshot(&begun);
            committed.ok()
        });
        let written = put(&store, 0, 2);
        let snapshot = store.open_snapshot();
        assert!(written <= snapshot.timestamp(), "a completed put is seen");
        let x = get_at(&store, 0, &snapshot);
        let y = get_at(&store, 1, &snapshot);
        drop(held);
        // It lost if the put came before its first write; else it was committed below the put.
        let committed = stopped.join().unwrap();
        assert!(committed.is_none_or(|committed| committed < written));
        assert_eq!(x, Some(2));
        assert_eq!(y, Some(u8::from(committed.is_some())), "all or nothing");
        assert_eq!(get(&store, 1).map(|found| found.0), y);
        store.close_snapshot(&snapshot);
    });
}

both_clocks!("commit", stopped_after_the_first_write, 2);
fn stopped_after_the_first_write<C: Clock>() {
    stopped_commit_blocks_nobody::<C>(Step::Linked);
}

both_clocks!("commit", stopped_after_the_last_write, 2);
fn stopped_after_the_last_write<C: Clock>() {
    stopped_commit_blocks_nobody::<C>(Step::Installed);
}

both_clocks!("commit", stopped_with_a_timestamp, 2);
fn stopped_with_a_timestamp<C: Clock>() {
    stopped_commit_blocks_nobody::<C>(Step::Drawn);
}

both_clocks!("commit", stopped_when_decided, 2);
fn stopped_when_decided<C: Clock>() {
    stopped_commit_blocks_nobody::<C>(Step::Decided);
}

// Three threads: commit x and y, y absent | put x, which helps | delete y, remove y, get y.
// A helper that stalls does not bring the deleted key back to life: y is inserted as an empty chain.
// Fails with TAKE_OWNER weakened: a helper that finds no reference left takes the transaction for ACTIVE for ever.
one_clock!("commit", stalled_helper_revives_no_deleted_key, 2);
fn stalled_helper_revives_no_deleted_key<C: Clock>() {
    let store = new_store::<C>();
    let begun = store.open_snapshot();
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
        store.close_snapshot(&begun);
        committed.is_ok()
    });
    let helper = spawn(&store, |store| {
        put(store, 0, 2);
    });
    let deleted = delete(&store, 1);
    if deleted {
        store.pass_clock();
        tidy(&store, 1);
        assert_eq!(get(&store, 1), None, "deleted, and never written again");
    }
    let committed = owner.join().unwrap();
    helper.join().unwrap();
    assert!(committed || !deleted);
    assert_eq!(get(&store, 1).is_some(), committed && !deleted);
}

// The same with less freedom, explored further.
// Two threads: put x, which helps a transaction stopped after writing x | delete y, remove y, get y.
both_clocks!("commit", stalled_helper_of_a_stopped_owner, 3);
fn stalled_helper_of_a_stopped_owner<C: Clock>() {
    let store = new_store::<C>();
    let begun = store.open_snapshot();
    Stop::with(|stop, held| {
        let stop = stop.clone();
        let owner = spawn(&store, move |store| {
            stop.at(Step::Linked);
            let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
            store.close_snapshot(&begun);
            committed.is_ok()
        });
        let helper = spawn(&store, |store| {
            put(store, 0, 2);
            delete(store, 1)
        });
        let deleted = helper.join().unwrap();
        drop(held);
        let committed = owner.join().unwrap();
        store.pass_clock();
        tidy(&store, 1);
        assert_eq!(committed, deleted, "the delete follows the helped commit");
        assert_eq!(get(&store, 1), None);
    });
}

// Two threads: commit x and y, which y's newer version forbids | put x, which helps and bypasses.
// The aborted version is skipped, bypassed and retired once; the descriptor is freed once, with the last of owner, word
// and helper.
both_clocks!("commit", aborted_version_is_bypassed, 3);
fn aborted_version_is_bypassed<C: Clock>() {
    let store = new_store::<C>();
    put(&store, 0, 0);
    let begun = store.open_snapshot();
    put(&store, 1, 5);
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
        store.close_snapshot(&begun);
        committed.expect_err("y was written after the snapshot").key
    });
    let written = put(&store, 0, 2);
    // The put may also come first, and then forbid x.
    let lost = owner.join().unwrap();
    assert!(lost == key(1) || lost == key(0));
    assert_eq!(get(&store, 0), Some((2, written)));
    assert_eq!(get(&store, 1).map(|found| found.0), Some(5));
    assert_eq!(store.timestamps(&key(0)).len(), 2);
}

// Two threads: commit x and y, aborted because of y | tidy x, tidy x.
// An aborted version alone in its chain is dead, and removed with it.
both_clocks!("commit", chain_of_an_aborted_version_is_removed, 3);
fn chain_of_an_aborted_version_is_removed<C: Clock>() {
    let store = new_store::<C>();
    let begun = store.open_snapshot();
    put(&store, 1, 5);
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &begun, &[(0, Some(1)), (1, Some(1))]);
        store.close_snapshot(&begun);
        committed.is_err()
    });
    tidy(&store, 0);
    tidy(&store, 0);
    assert!(owner.join().unwrap());
    tidy(&store, 0);
    tidy(&store, 0);
    assert!(!store.has_node(&key(0)));
    assert_eq!(get(&store, 0), None);
}

// Three threads: commit x | put x | put x.
// Two helpers and the owner take and give back references to one descriptor.
one_clock!("commit", descriptor_is_freed_once, 2);
fn descriptor_is_freed_once<C: Clock>() {
    let store = new_store::<C>();
    let begun = store.open_snapshot();
    let owner = spawn(&store, move |store| {
        let committed = commit(store, &begun, &[(0, Some(1))]);
        store.close_snapshot(&begun);
        committed.ok()
    });
    let other = spawn(&store, |store| put(store, 0, 2));
    let mine = put(&store, 0, 3);
    let theirs = other.join().unwrap();
    let committed = owner.join().unwrap();
    assert!(committed.is_none_or(|committed| committed < mine.min(theirs)));
    assert_eq!(store.timestamps(&key(0)).len(), 2 + usize::from(committed.is_some()));
}
