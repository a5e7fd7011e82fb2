//! Models of `log/flusher.rs`, of those who wait for it, and of what a failed sync ends.
#![cfg(loom)]

use loom_tests::log::{Durable, Remains, is_poison};
use loom_tests::{both_clocks, get, one_clock};
use unlatched::internals::Clock;

/// Two threads commit strictly. Whoever finds no flush running runs it; the other waits for its end and looks again. Both
/// come back, and then the cut covers both: no wake-up is lost and none is early. Fails if the count of ended flushes is
/// read after the baton was tried.
fn strict_writers_are_both_acknowledged<C: Clock>() {
    let durable = Durable::<C>::new();
    let other = durable.spawn(|durable| {
        let written = durable.put(0, 1).expect("put");
        durable.wait(written).expect("durable");
        assert!(written <= durable.log().durable_cut());
    });
    let written = durable.put(1, 1).expect("put");
    durable.wait(written).expect("durable");
    assert!(written <= durable.log().durable_cut());
    other.join().expect("no panic");
}
both_clocks!("flusher", strict_writers_are_both_acknowledged, 2);

/// One thread flushes, the other twice. Who takes the baton and finds that the other one's flush was enough gives it back
/// without a flush: whoever met it taken meanwhile is woken all the same. Fails if only a turn that flushed counts, or if it
/// counts before the baton is free.
fn a_turn_without_a_flush_wakes_who_waits<C: Clock>() {
    let durable = Durable::<C>::new();
    let other = durable.spawn(|durable| {
        durable.flush().expect("flush");
        durable.flush().expect("flush");
    });
    durable.flush().expect("flush");
    other.join().expect("no panic");
}
both_clocks!("flusher", a_turn_without_a_flush_wakes_who_waits, 3);

/// Two threads commit strictly, and the first sync fails: nobody is acknowledged, nobody waits for ever, whoever ran it, and nothing more gets
/// a record. Fails if a failed flush does not count as ended.
fn nobody_is_acknowledged_after_a_failed_sync<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.fail_next_sync();
    let other = durable.spawn(|durable| {
        let written = match durable.put(0, 1) {
            Ok(written) => written,
            Err(error) => return assert!(is_poison(&error)),
        };
        assert!(is_poison(&durable.wait(written).expect_err("the sync failed")));
    });
    match durable.put(1, 1) {
        Ok(written) => assert!(is_poison(&durable.wait(written).expect_err("the sync failed"))),
        Err(error) => assert!(is_poison(&error)),
    }
    other.join().expect("no panic");
    assert!(is_poison(&durable.put(1, 2).expect_err("the log is poisoned")));
}
both_clocks!("flusher", nobody_is_acknowledged_after_a_failed_sync, 2);

/// Two threads: put x | a flush whose sync fails. The put is made or refused; it is in memory if it was made; its version
/// is freed by nobody who is not sure that the flusher has left it. And the cut never moves again. Fails with a version
/// that is freed at once when it gets no record.
fn a_put_beside_a_failing_sync_is_made_or_refused<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(1, 1).expect("put");
    durable.fail_next_sync();
    let before = durable.log().durable_cut();
    let flusher = durable.spawn(|durable| assert!(is_poison(&durable.flush().expect_err("the sync fails"))));
    let written = durable.put(0, 1);
    flusher.join().expect("no panic");
    let found = get(durable.store(), 0).map(|found| found.1);
    match written {
        Ok(written) => assert_eq!(found, Some(written)),
        Err(error) => {
            assert!(is_poison(&error));
            assert_eq!(found, None);
        }
    }
    assert!(is_poison(&durable.flush().expect_err("nothing is synced again")));
    assert_eq!(durable.log().durable_cut(), before);
    assert!(durable.store.durable_cut() > before, "nothing is kept for the log");
}
both_clocks!("flusher", a_put_beside_a_failing_sync_is_made_or_refused, 2);

/// Two threads: commit x and y | a flush whose sync fails. It commits whole, or is refused and leaves nothing; and no place
/// is left open, whose reference to the descriptor would leak. Fails with POISON_FENCE weakened, or with the flag raised
/// after the places are looked at.
fn a_transaction_beside_a_failing_sync_leaves_no_place_open<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(2, 1).expect("put");
    durable.fail_next_sync();
    let flusher = durable.spawn(|durable| assert!(is_poison(&durable.flush().expect_err("the sync fails"))));
    let written = durable.commit(&[(0, Some(1)), (1, Some(1))]);
    flusher.join().expect("no panic");
    let found = [0, 1].map(|number| get(durable.store(), number).map(|found| found.1));
    match written {
        Ok(written) => assert_eq!(found, [written, written]),
        Err(error) => {
            assert!(is_poison(&error));
            assert_eq!(found, [None, None]);
        }
    }
}
one_clock!("flusher", a_transaction_beside_a_failing_sync_leaves_no_place_open, 2);

/// Three threads: put x, wait | put y, wait | flush unless somebody does. Both are acknowledged. Fails if the flush of
/// the third does not count as ended.
fn waiters_beside_one_that_only_tries<C: Clock>() {
    let durable = Durable::<C>::new();
    let trier = durable.spawn(|durable| durable.log().try_flush(durable.store()).expect("no fault"));
    let other = durable.spawn(|durable| {
        let written = durable.put(0, 1).expect("put");
        durable.wait(written).expect("durable");
    });
    let written = durable.put(1, 1).expect("put");
    durable.wait(written).expect("durable");
    trier.join().expect("no panic");
    other.join().expect("no panic");
    for remains in &Remains::all(&durable) {
        assert_eq!((remains.get(0), remains.get(1)), (Some(1), Some(1)));
    }
}
one_clock!("flusher", waiters_beside_one_that_only_tries, 1);
