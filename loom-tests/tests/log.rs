//! Models of what survives: `log/segment.rs`, `log/flusher.rs`, and the steps of a commit that has a record. The power fails
//! on a thread of its own, at any step of the others.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use loom_tests::log::{Durable, Remains};
use loom_tests::{Stop, both_clocks, get, one_clock, tidy};
use unlatched::Timestamp;
use unlatched::internals::pause::Step;
use unlatched::internals::{Clock, Survivors};

const CRASHES: [Survivors; 2] = [Survivors::Nothing, Survivors::Everything];

/// Lets the power fail at this step of the calling thread, in two ways, and returns what each leaves.
fn crash<C: Clock>(durable: &Durable<C>) -> [Remains; 2] {
    CRASHES.map(|survivors| Remains::of(durable, survivors))
}

// Three threads: put x | flush | the power fails. (T17)
// What is recovered is the state at one cut, not below the durable one, whatever of the record, its stamp and the marker
// survives. Fails with F3_FLUSHER weakened (reader-driven clock), with the tail read before the cut is drawn, or with markers
// believed without a count.
both_clocks!("log", a_crash_leaves_a_put_or_its_absence, 2);
fn a_crash_leaves_a_put_or_its_absence<C: Clock>() {
    let durable = Durable::<C>::new();
    let writer = durable.spawn(|durable| durable.put(0, 1).unwrap());
    let flusher = durable.spawn(|durable| durable.flush().unwrap());
    let remains = Remains::all(&durable);
    writer.join().unwrap();
    flusher.join().unwrap();
    for remains in &remains {
        remains.check(&durable, 0);
    }
    for remains in &Remains::all(&durable) {
        remains.check(&durable, 0);
    }
}

// Two threads: put x, put y, flush | the power fails. (T17)
// The second record shares its sector with the marker, the first one does not: the marker alone restores nothing.
// Fails with markers believed without a count.
both_clocks!("log", a_marker_needs_all_that_it_counts, 2);
fn a_marker_needs_all_that_it_counts<C: Clock>() {
    let durable = Durable::<C>::new();
    let power = durable.spawn(|durable| Remains::all(durable));
    durable.put(0, 1).unwrap();
    durable.put(1, 1).unwrap();
    durable.flush().unwrap();
    for remains in &power.join().unwrap() {
        remains.check(&durable, 0);
        remains.check(&durable, 1);
    }
}

// Two threads: put x, put y, flush | the power fails. For each subset of what may survive: reopen, put z, flush; then the
// power fails again. (T26)
// What the first crash has lost stays lost, and what it has left stays. Fails if what a restart takes back is counted.
both_clocks!("log", what_was_lost_stays_lost, 2);
fn what_was_lost_stays_lost<C: Clock>() {
    let durable = Durable::<C>::new();
    let power = durable.spawn(|durable| durable.disk.crashes());
    durable.put(0, 1).unwrap();
    durable.put(1, 1).unwrap();
    durable.flush().unwrap();
    for disk in power.join().unwrap() {
        let second = Durable::<C>::reopen(disk);
        let left = [0, 1].map(|number| get(second.store(), number).map(|found| found.0));
        let written = second.put(2, 1).unwrap();
        second.flush().unwrap();
        for remains in &crash(&second) {
            assert_eq!([remains.get(0), remains.get(1)], left);
            assert_eq!(remains.timestamp(2), Some(written));
        }
    }
}

// Two threads: put x, then wait | flush; then the power fails. (T17)
// An acknowledged put survives, whoever flushed.
both_clocks!("log", an_acknowledged_put_survives, 3);
fn an_acknowledged_put_survives<C: Clock>() {
    let durable = Durable::<C>::new();
    let flusher = durable.spawn(|durable| durable.flush().unwrap());
    let written = durable.put(0, 1).unwrap();
    durable.wait(written).unwrap();
    for remains in &crash(&durable) {
        assert_eq!(remains.timestamp(0), Some(written));
        remains.check(&durable, 0);
    }
    flusher.join().unwrap();
}

// Two threads: commit x and y | flush; then the power fails. (T17)
// A transaction survives whole or not at all.
both_clocks!("log", a_transaction_survives_whole, 3);
fn a_transaction_survives_whole<C: Clock>() {
    let durable = Durable::<C>::new();
    let writer = durable.spawn(|durable| durable.commit(&[(0, Some(1)), (1, Some(1))]).unwrap());
    durable.flush().unwrap();
    let remains = crash(&durable);
    writer.join().unwrap().expect("nobody else writes");
    for remains in &remains {
        assert_eq!(remains.timestamp(0), remains.timestamp(1));
        remains.check(&durable, 0);
        remains.check(&durable, 1);
    }
    durable.flush().unwrap();
}

// Two threads: put x | put x; then flush, and the power fails. (T20)
// What is recovered is the chain's newest, whichever of the two has the first place in the log.
both_clocks!("log", the_chain_decides_and_not_the_log, 3);
fn the_chain_decides_and_not_the_log<C: Clock>() {
    let durable = Durable::<C>::new();
    let other = durable.spawn(|durable| durable.put(0, 1).unwrap());
    durable.put(0, 2).unwrap();
    other.join().unwrap();
    durable.flush().unwrap();
    for remains in &crash(&durable) {
        remains.check(&durable, 0);
        assert_eq!(remains.get(0), get(durable.store(), 0).map(|found| found.0));
    }
}

// Two threads: put x | flush, put x, flush. (T20, T23)
// A record that is carried over a flush counts in the next one. Fails with a sync that begins at what is carried now.
both_clocks!("log", a_carried_record_counts_later, 2);
fn a_carried_record_counts_later<C: Clock>() {
    let durable = Durable::<C>::new();
    let other = durable.spawn(|durable| durable.put(0, 1).unwrap());
    durable.flush().unwrap();
    durable.put(0, 2).unwrap();
    durable.flush().unwrap();
    let between = Remains::all(&durable);
    other.join().unwrap();
    for remains in &between {
        remains.check(&durable, 0);
    }
    durable.flush().unwrap();
    for remains in &crash(&durable) {
        remains.check(&durable, 0);
        assert_eq!(remains.get(0), get(durable.store(), 0).map(|found| found.0));
    }
}

// Two threads: put x, stopped where its place is reserved, its record copied, or appended and not linked | put x, get x,
// flush, flush. (T23)
// The others finish; the cut passes the stopped one.
one_clock!("log", a_stopped_writer_stops_nobody, 1);
fn a_stopped_writer_stops_nobody<C: Clock>() {
    for step in [Step::Reserved, Step::Copied, Step::Enlisted, Step::Linked] {
        Stop::with(|stop, held| {
            let durable = Durable::<C>::new();
            let stop = stop.clone();
            let stopped = durable.spawn(move |durable| {
                stop.at(step);
                durable.put(0, 1).unwrap()
            });
            let written = durable.put(0, 2).unwrap();
            let found = get(durable.store(), 0).expect("there is one").1;
            assert!(found >= written);
            durable.wait(written).unwrap();
            durable.flush().unwrap();
            for remains in &crash(&durable) {
                remains.check(&durable, 0);
                assert!(remains.timestamp(0) >= Some(written));
            }
            drop(held);
            stopped.join().unwrap();
            durable.flush().unwrap();
            for remains in &crash(&durable) {
                remains.check(&durable, 0);
            }
        });
    }
}

// Two threads: put x, stopped before its record is copied, or before it is linked | two puts that take a segment each,
// flush, flush; then the power fails. (T24, T27)
// The flusher gives the stopped one up and takes leave of its segment; it comes back to what is still allocated, and has
// exactly one record that counts. Fails if a segment is freed without a grace period.
one_clock!("log", a_writer_that_was_given_up_tries_again, 1);
fn a_writer_that_was_given_up_tries_again<C: Clock>() {
    for step in [Step::Reserved, Step::Copied, Step::Enlisted] {
        Stop::with(|stop, held| {
            let durable = Durable::<C>::new();
            let stop = stop.clone();
            let stopped = durable.spawn(move |durable| {
                stop.at(step);
                durable.put(0, 1).unwrap()
            });
            durable.put_long(1, 1).unwrap();
            durable.put_long(1, 2).unwrap();
            durable.flush().unwrap();
            durable.flush().unwrap();
            drop(held);
            let written = stopped.join().unwrap();
            assert_eq!(get(durable.store(), 0), Some((1, written)));
            durable.flush().unwrap();
            for remains in &crash(&durable) {
                assert_eq!(remains.timestamp(0), Some(written));
                assert_eq!(remains.get(1), Some(2));
            }
        });
    }
}

// Two threads: commit x and y, stopped before or while they are installed | two puts that take a segment each, flush, flush.
// (T24)
// The flusher helps it: it commits whole.
one_clock!("log", a_transaction_that_was_given_up_is_whole, 0);
fn a_transaction_that_was_given_up_is_whole<C: Clock>() {
    for step in [Step::Enlisted, Step::Linked] {
        Stop::with(|stop, held| {
            let durable = Durable::<C>::new();
            let stop = stop.clone();
            let stopped = durable.spawn(move |durable| {
                stop.at(step);
                durable.commit(&[(0, Some(1)), (1, Some(1))]).unwrap()
            });
            durable.put_long(2, 1).unwrap();
            durable.put_long(2, 2).unwrap();
            durable.flush().unwrap();
            durable.flush().unwrap();
            drop(held);
            let written = stopped.join().unwrap().expect("nobody else writes these keys");
            durable.flush().unwrap();
            for remains in &crash(&durable) {
                assert_eq!(remains.timestamp(0), Some(written));
                assert_eq!(remains.timestamp(1), Some(written));
            }
        });
    }
}

// Two threads: a put with a record | a put without one; then flush, and the power fails. (T25)
// What has no record is as if it had never been; what has one is there whatever hides it.
both_clocks!("log", what_has_no_record_hides_nothing, 2);
fn what_has_no_record_hides_nothing<C: Clock>() {
    let durable = Durable::<C>::new();
    let other = durable.spawn(|durable| loom_tests::put(durable.store(), 0, 9));
    let written = durable.put(0, 1).unwrap();
    durable.wait(written).unwrap();
    other.join().unwrap();
    for remains in &crash(&durable) {
        assert_eq!((remains.get(0), remains.timestamp(0)), (Some(1), Some(written)));
    }
}

// Two threads, in a segment with room for one more: put x | put y, each needing a place; then flush, and the power
// fails. (T27)
// One of them rolls to the next segment, also if the other one stops at it; the cut covers both segments.
both_clocks!("log", two_writers_at_the_end_of_a_segment, 2);
fn two_writers_at_the_end_of_a_segment<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(2, 1).unwrap();
    durable.put(2, 2).unwrap();
    let other = durable.spawn(|durable| durable.put(0, 1).unwrap());
    durable.put(1, 1).unwrap();
    other.join().unwrap();
    durable.flush().unwrap();
    for remains in &crash(&durable) {
        assert_eq!(
            (remains.get(0), remains.get(1), remains.get(2)),
            (Some(1), Some(1), Some(2))
        );
    }
}

// Two threads, in a full segment: put x, stopped where the next segment is linked and is not the current one yet | put y,
// wait, a put that takes a segment, flush. (T27)
// The others get their places. The next segment is taken leave of as well, and the stopped one does not go back to it.
one_clock!("log", a_roll_that_stops_stops_nobody, 1);
fn a_roll_that_stops_stops_nobody<C: Clock>() {
    Stop::with(|stop, held| {
        let durable = Durable::<C>::new();
        for value in 1..=3 {
            durable.put(2, value).unwrap();
        }
        let stop = stop.clone();
        let stopped = durable.spawn(move |durable| {
            stop.at(Step::SegmentLinked);
            durable.put(0, 1).unwrap()
        });
        let written = durable.put(1, 1).unwrap();
        durable.wait(written).unwrap();
        for remains in &crash(&durable) {
            assert_eq!((remains.get(1), remains.get(2)), (Some(1), Some(3)));
        }
        durable.put_long(2, 4).unwrap();
        durable.flush().unwrap();
        drop(held);
        let written = stopped.join().unwrap();
        durable.wait(written).unwrap();
        for remains in &crash(&durable) {
            assert_eq!((remains.get(0), remains.get(2)), (Some(1), Some(4)));
        }
    });
}

// Two threads: delete x | flush; main: tidies x, and if its chain is gone the power fails. (T18)
// What was removed from memory is gone from the disk.
both_clocks!("log", a_removed_key_stays_removed, 2);
fn a_removed_key_stays_removed<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(0, 1).unwrap();
    durable.flush().unwrap();
    let deleter = durable.spawn(|durable| durable.delete(0).unwrap());
    let flusher = durable.spawn(|durable| durable.flush().unwrap());
    durable.store.pass_clock();
    tidy(durable.store(), 0);
    if !durable.store.has_node(&loom_tests::key(0)) {
        for remains in &crash(&durable) {
            assert_eq!(remains.get(0), None);
        }
    }
    deleter.join().unwrap();
    flusher.join().unwrap();
}

// Two threads: delete x, tidy x | put x; flush, tidy, flush; then the power fails. (T21)
// A key that is removed and written again has no tie across its two chains.
both_clocks!("log", a_key_written_again_has_no_tie, 2);
fn a_key_written_again_has_no_tie<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(0, 1).unwrap();
    let other = durable.spawn(|durable| {
        durable.delete(0).unwrap();
        durable.flush().unwrap();
        durable.store.pass_clock();
        tidy(durable.store(), 0);
    });
    durable.put(0, 2).unwrap();
    other.join().unwrap();
    durable.flush().unwrap();
    for remains in &crash(&durable) {
        assert_eq!(remains.get(0), get(durable.store(), 0).map(|found| found.0));
    }
}

// Two threads: a snapshot at the durable cut reads x, twice | put x, flush, tidy x.
// The version that it sees stays, although the cut moves on. Fails with the second look at the cut left out.
both_clocks!("log", a_durable_snapshot_keeps_its_cut, 2);
fn a_durable_snapshot_keeps_its_cut<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(0, 1).unwrap();
    durable.flush().unwrap();
    let writer = durable.spawn(|durable| {
        durable.put(0, 2).unwrap();
        durable.flush().unwrap();
        tidy(durable.store(), 0);
    });
    let snapshot = durable.store.open_durable_snapshot();
    let first = loom_tests::get_at(durable.store(), 0, &snapshot);
    assert!(first.is_some(), "the cut never loses the key");
    assert_eq!(loom_tests::get_at(durable.store(), 0, &snapshot), first);
    durable.store.close_snapshot(&snapshot);
    writer.join().unwrap();
}

// Two threads: put x | two puts that take a segment each, flush; then flush, and the power fails. (T24)
// The flusher voids the place of a put that is about to fill it, or aborts it: exactly one record of it counts. Fails if
// voiding overwrites a place that was filled.
one_clock!("log", a_place_is_filled_or_voided, 2);
fn a_place_is_filled_or_voided<C: Clock>() {
    let durable = Durable::<C>::new();
    let flusher = durable.spawn(|durable| {
        durable.put_long(1, 1).unwrap();
        durable.put_long(1, 2).unwrap();
        durable.flush().unwrap();
    });
    let written = durable.put(0, 1).unwrap();
    flusher.join().unwrap();
    assert_eq!(get(durable.store(), 0), Some((1, written)));
    durable.flush().unwrap();
    for remains in &crash(&durable) {
        assert_eq!(remains.timestamp(0), Some(written));
        assert_eq!(remains.get(1), Some(2));
    }
}

// Two threads: put x if it is unchanged | put x, flush; then flush, and the power fails.
// The record of a put that is refused is taken back, and nobody looks at its version afterwards. Fails if the place stays.
both_clocks!("log", a_refused_put_takes_its_record_back, 2);
fn a_refused_put_takes_its_record_back<C: Clock>() {
    let durable = Durable::<C>::new();
    let other = durable.spawn(|durable| {
        let written = durable.put(0, 1).unwrap();
        durable.flush().unwrap();
        written
    });
    let swapped = durable.compare_and_put(0, Timestamp::ABSENT, 2).unwrap();
    let written = other.join().unwrap();
    durable.flush().unwrap();
    assert!(swapped.is_none_or(|swapped| swapped < written));
    for remains in &crash(&durable) {
        assert_eq!((remains.get(0), remains.timestamp(0)), (Some(1), Some(written)));
    }
}

// Two threads, in a full segment, with a file ready: put x | put y, make another file ready; then a put that takes a
// segment, flush, and the power fails.
// A file that is ready becomes one segment, and the one that was not used comes back. Fails if taking one is no exchange.
one_clock!("log", a_ready_file_becomes_one_segment, 2);
fn a_ready_file_becomes_one_segment<C: Clock>() {
    let durable = Durable::<C>::new();
    assert!(durable.log().make_ready().unwrap());
    for value in 1..=3 {
        durable.put(2, value).unwrap();
    }
    let other = durable.spawn(|durable| durable.put(0, 1).unwrap());
    durable.put(1, 1).unwrap();
    durable.log().make_ready().unwrap();
    other.join().unwrap();
    durable.put_long(2, 4).unwrap();
    durable.flush().unwrap();
    for remains in &crash(&durable) {
        let found = [0, 1, 2].map(|number| remains.get(number));
        assert_eq!(found, [Some(1), Some(1), Some(4)]);
    }
}

// Two threads, with two records that wait: put z, flush | wait until at most one waits.
// It comes back, and what waits no longer is durable. Fails if writers learn of a flush before its sync.
one_clock!("log", what_waits_no_longer_is_durable, 2);
fn what_waits_no_longer_is_durable<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(0, 1).unwrap();
    durable.put(1, 1).unwrap();
    let waiter = durable.spawn(|durable| {
        durable.log().wait_for_room(2, durable.store()).unwrap();
        for remains in &crash(durable) {
            assert!(remains.get(0).is_some() || remains.get(1).is_some());
        }
    });
    durable.put(2, 1).unwrap();
    durable.flush().unwrap();
    waiter.join().unwrap();
}

// Two threads: a snapshot at the durable cut reads x, twice | put x without a record, tidy x, flush, tidy x.
// (T18)
// The same: a cut that covers nothing new moves on too. Fails with the second look at the cut left out, or with a view that
// does not look at it.
both_clocks!("log", a_durable_snapshot_sees_what_was_hidden, 2);
fn a_durable_snapshot_sees_what_was_hidden<C: Clock>() {
    let durable = Durable::<C>::new();
    durable.put(0, 1).unwrap();
    durable.flush().unwrap();
    let writer = durable.spawn(|durable| {
        loom_tests::put(durable.store(), 0, 2);
        tidy(durable.store(), 0);
        durable.flush().unwrap();
        tidy(durable.store(), 0);
    });
    let snapshot = durable.store.open_durable_snapshot();
    let first = loom_tests::get_at(durable.store(), 0, &snapshot);
    assert!(first.is_some(), "the cut never loses the key");
    assert_eq!(loom_tests::get_at(durable.store(), 0, &snapshot), first);
    durable.store.close_snapshot(&snapshot);
    writer.join().unwrap();
}
