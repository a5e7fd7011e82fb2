//! A thread that is stopped inside an operation does not keep another one from finishing.
//!
//! One thread, the victim, does an operation and is parked at one of the engine's named steps: as if the scheduler had
//! taken it off its processor for good. Meanwhile another thread does a bounded number of operations of every kind on
//! the same keys and must finish. Then the victim goes on, and its operation must have happened exactly once, entirely,
//! and at the place in the order that its step allows. Each operation is first done undisturbed, to learn which steps
//! it goes through; then it is done again once for each of them.
//!
//! The steps exist in builds with debug assertions alone.
#![forbid(unsafe_code)]

#[cfg(not(debug_assertions))]
#[test]
fn a_parked_thread_stops_nobody() {
    println!("skipped: the steps at which a thread can be parked exist in builds with debug assertions alone");
}

#[cfg(debug_assertions)]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;

#[cfg(debug_assertions)]
mod parked {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use unlatched::internals::pause::Step;
    use unlatched::{Database, Error, Result, RunId, Timestamp};

    use crate::common::finishes;
    use crate::common::victim::{Victim, steps_of};

    const RUN: RunId = RunId::from_bytes([5; 16]);
    /// The keys that exist at the beginning. The second is longer than what a node holds inline: 46 encoded bytes, of
    /// which 29 are the user's.
    const X: &str = "x";
    const Y: &str = "y which is longer than the bytes of a key that a node holds inline";
    /// A key that does not exist at the beginning.
    const NEW: &str = "a new key";
    const KEYS: [&str; 3] = [X, Y, NEW];
    /// A key that only the collecting victim uses.
    const DEAD: &str = "dead";
    const OLD: &str = "old";
    const VICTIM: &str = "victim";
    /// What every key holds when the others are done.
    const LAST: &str = "last";
    /// Rounds of operations of the others: enough for each of their threads to collect garbage several times.
    const ROUNDS: usize = 100;
    /// Operations with more steps than this are parked at the first step of each kind, and at the last.
    const EACH_STEP_UP_TO: usize = 16;

    /// Every step, so that a new one does not compile until it is listed; those of a log are in `parked_log.rs`.
    fn number_of(step: Step) -> Option<usize> {
        Some(match step {
            Step::Linked => 0,
            Step::Installed => 1,
            Step::Drawn => 2,
            Step::Decided => 3,
            Step::SlotPending => 4,
            Step::SnapshotDrawn => 5,
            Step::Frozen => 6,
            Step::Sealed => 7,
            Step::Reserved
            | Step::Copied
            | Step::Enlisted
            | Step::SegmentLinked
            | Step::CutDrawn
            | Step::MarkerAppended => return None,
        })
    }
    const STEPS: usize = 8;

    /// Returns the numbers of the steps at which to park: all of a few, of many the first of each kind and the last.
    fn places(steps: &[Step]) -> Vec<usize> {
        let is_first = |at: &usize| !steps[..*at].contains(&steps[*at]);
        let is_chosen = |at: &usize| steps.len() <= EACH_STEP_UP_TO || is_first(at) || *at + 1 == steps.len();
        (0..steps.len()).filter(is_chosen).collect()
    }

    fn prepared() -> Arc<Database> {
        let database = Database::in_memory().expect("open");
        for key in [X, Y] {
            database.put(RUN, key, "older").expect("put");
            database.put(RUN, key, OLD).expect("put");
        }
        Arc::new(database)
    }

    fn text(bytes: Option<Vec<u8>>) -> Option<String> {
        bytes.map(|bytes| String::from_utf8(bytes).expect("texts are written"))
    }

    fn get(database: &Database, key: &str) -> Option<String> {
        text(database.get(RUN, key).expect("get"))
    }

    /// Returns what a new snapshot sees of `keys`.
    fn seen(database: &Database, keys: &[&str]) -> Vec<Option<String>> {
        let snapshot = database.snapshot().expect("snapshot");
        let values = snapshot.get_many(RUN, keys).expect("get_many");
        values.into_iter().map(text).collect()
    }

    fn timestamp(database: &Database, key: &str) -> Timestamp {
        let found = database.get_with(RUN, key, |_, timestamp| timestamp);
        found.expect("get").unwrap_or(Timestamp::ABSENT)
    }

    /// Every kind of operation on every key, alone and together; at the end every key holds [`LAST`].
    fn others(database: &Database) {
        for round in 0..ROUNDS {
            let held = database.snapshot().expect("snapshot");
            let before: Vec<_> = held.range(RUN, ..).collect();
            for key in KEYS {
                let put = database.put(RUN, key, "put").expect("put");
                assert_eq!(get(database, key).as_deref(), Some("put"));
                let swapped = database.cas(RUN, key, put, "swapped").expect("cas");
                assert!(swapped > put);
                assert!(database.delete(RUN, key).expect("delete"));
                assert_eq!(get(database, key), None);
                if round % 4 == 0 {
                    database.sweep();
                }
                database.cas(RUN, key, Timestamp::ABSENT, "again").expect("cas");
            }
            let committed = database.transaction(RUN, |txn| {
                assert_eq!(text(txn.get(X)?).as_deref(), Some("again"));
                KEYS.iter().try_for_each(|key| txn.put(key, LAST))
            });
            committed.expect("nobody else writes");
            assert!(held.range(RUN, ..).eq(before), "a snapshot repeats");
            drop(held);
            let descending = database.snapshot().expect("snapshot");
            let found = descending
                .prefix(RUN, b"")
                .rev()
                .filter(|(key, _)| key != DEAD.as_bytes());
            assert!(found.map(|(_, value)| value).eq(KEYS.map(|_| LAST.as_bytes().to_vec())));
        }
        database.sweep();
    }

    /// Runs [`others`] under the watchdog.
    fn others_finish(what: &str, database: &Arc<Database>) {
        let database = Arc::clone(database);
        finishes(&format!("others beside {what}"), move || others(&database));
    }

    /// With nothing open and nothing aborted at a head, a sweep leaves one version of each key.
    fn assert_nothing_is_left(database: &Database, keys: usize) {
        for (key, value) in database.snapshot().expect("snapshot").range(RUN, ..) {
            database.put(RUN, key, value).expect("put");
        }
        database.sweep();
        let stats = database.stats();
        assert_eq!((stats.live_versions, stats.open_snapshots), (keys as u64, 0));
        assert_eq!(database.snapshot().expect("snapshot").range(RUN, ..).count(), keys);
    }

    /// A write, single or by transaction, of the same value to all of its keys.
    struct Writing {
        name: &'static str,
        keys: &'static [&'static str],
        value: Option<&'static str>,
        is_transaction: bool,
        operation: fn(&Database) -> Result<()>,
    }

    fn writings() -> Vec<Writing> {
        let put_both = |database: &Database| {
            database.transaction(RUN, |txn| {
                txn.put(X, VICTIM)?;
                txn.put(Y, VICTIM)
            })
        };
        let put_with_new = |database: &Database| {
            database.transaction(RUN, |txn| {
                txn.put(X, VICTIM)?;
                txn.put(NEW, VICTIM)
            })
        };
        let delete_both = |database: &Database| {
            database.transaction(RUN, |txn| {
                txn.delete(X)?;
                txn.delete(Y).map(drop)
            })
        };
        let single = |name, keys, value, operation| Writing {
            name,
            keys,
            value,
            is_transaction: false,
            operation,
        };
        let together = |name, keys, value, operation| Writing {
            name,
            keys,
            value,
            is_transaction: true,
            operation,
        };
        vec![
            single("a put", &[X], Some(VICTIM), |database| {
                database.put(RUN, X, VICTIM).map(drop)
            }),
            single("a put of a new key", &[NEW], Some(VICTIM), |database| {
                database.put(RUN, NEW, VICTIM).map(drop)
            }),
            single("a compare and swap", &[Y], Some(VICTIM), |database| {
                database.cas(RUN, Y, timestamp(database, Y), VICTIM).map(drop)
            }),
            single("a delete", &[X], None, |database| {
                assert!(database.delete(RUN, X)?, "it was there");
                Ok(())
            }),
            together("a transaction of two keys", &[X, Y], Some(VICTIM), put_both),
            together("a transaction with a new key", &[NEW, X], Some(VICTIM), put_with_new),
            together("a transaction of two deletes", &[X, Y], None, delete_both),
        ]
    }

    /// Goal: wherever a write stops, others finish on the same keys, and it is done entirely, once, and in the order
    /// that they saw.
    ///
    /// Once it has linked a version, the first other writer of that key finishes it; before, it has no place in the
    /// order yet. A reader finishes what is fully linked.
    #[test]
    fn a_parked_write_stops_nobody_and_is_atomic() {
        finishes("operations beside a parked write", park_writes);
    }

    fn park_writes() {
        for writing in writings() {
            let steps = steps_of(&prepared(), writing.operation);
            println!("{}: {steps:?}", writing.name);
            for at in places(&steps) {
                let name = format!("{} parked at step {at}, {:?}", writing.name, steps[at]);
                park_a_write(&writing, &name, at, steps[at]);
            }
        }
    }

    fn park_a_write(writing: &Writing, name: &str, at: usize, expected: Step) {
        let database = prepared();
        let before = seen(&database, writing.keys);
        let victim = Victim::start(&database, at, writing.operation);
        let step = victim.wait();
        assert_eq!(step, expected, "{name}");
        let written: Vec<_> = writing.keys.iter().map(|_| writing.value.map(str::to_owned)).collect();

        // A snapshot drawn now sees what is decided: all of it or nothing. Looking decides the rest, with a later
        // timestamp.
        let is_decided = !matches!(
            step,
            Step::SlotPending | Step::SnapshotDrawn | Step::Linked | Step::Installed | Step::Drawn
        );
        let wanted = if is_decided { &written } else { &before };
        assert_eq!(&seen(&database, writing.keys), wanted, "{name}");

        // A latest read sees it as soon as all of it is linked.
        let is_linked = !matches!(step, Step::SlotPending | Step::SnapshotDrawn);
        let is_prepared = is_linked && !(writing.is_transaction && matches!(step, Step::Linked | Step::Installed));
        let wanted = if is_prepared { &written } else { &before };
        let latest: Vec<_> = writing.keys.iter().map(|key| get(&database, key)).collect();
        assert_eq!(&latest, wanted, "{name}");

        // The first to write a key that it has linked finishes all of it, and comes after it.
        let first = writing.keys[0];
        database.put(RUN, first, "other").expect("put");
        let mut wanted = if is_linked { written.clone() } else { before };
        wanted[0] = Some("other".to_owned());
        assert_eq!(seen(&database, writing.keys), wanted, "{name}");

        others_finish(name, &database);
        let result = victim.release();
        let last = vec![Some(LAST.to_owned()); writing.keys.len()];
        let wanted = match (step, result) {
            // It had not begun, so it came last.
            (Step::SlotPending, Ok(())) => written,
            (Step::SnapshotDrawn, Err(Error::Conflict { key })) => {
                assert_eq!(key.user_key(), first.as_bytes(), "{name}: the first key in order");
                last
            }
            (_, Ok(())) if is_linked => last,
            (_, result) => panic!("{name}: {result:?}"),
        };
        assert_eq!(seen(&database, writing.keys), wanted, "{name}");
        let keys = KEYS.iter().filter(|key| get(&database, key).is_some()).count();
        assert_nothing_is_left(&database, keys);
    }

    /// Goal: a snapshot that stops before or after its timestamp is drawn holds up nobody, and sees, however late it
    /// looks, what was there at that moment: the slot's bound protects it before its exact timestamp does.
    #[test]
    fn a_parked_snapshot_stops_nobody_and_still_repeats() {
        finishes("operations beside a parked snapshot", park_snapshots);
    }

    fn park_snapshots() {
        let look = |database: &Database| {
            let snapshot = database.snapshot().expect("snapshot");
            let first: BTreeMap<_, _> = snapshot.range(RUN, ..).collect();
            assert!(
                snapshot
                    .range(RUN, ..)
                    .rev()
                    .all(|(key, value)| first.get(&key) == Some(&value))
            );
            first.into_values().map(Some).map(text).collect::<Vec<_>>()
        };
        let steps = steps_of(&prepared(), look);
        assert_eq!(steps, [Step::SlotPending, Step::SnapshotDrawn]);
        for (at, step) in steps.into_iter().enumerate() {
            let database = prepared();
            let victim = Victim::start(&database, at, look);
            assert_eq!(victim.wait(), step);
            assert_eq!(database.stats().open_snapshots, 1);
            others_finish(&format!("a snapshot parked at {step:?}"), &database);
            let found = victim.release();
            let wanted = match step {
                Step::SlotPending => vec![Some(LAST.to_owned()); 3],
                _ => vec![Some(OLD.to_owned()); 2],
            };
            assert_eq!(found, wanted, "parked at {step:?}");
            assert_nothing_is_left(&database, KEYS.len());
        }
    }

    /// Work that unlinks versions between two snapshots, and seals and removes dead keys: by a sweep, then by writers
    /// that collect as they go. It leaves `X` and `Y` as they are.
    fn prune_and_remove(database: &Database) {
        let overwrite = |times: usize| (0..times).try_for_each(|_| database.put(RUN, X, OLD).map(drop));
        let held = database.snapshot().expect("snapshot");
        overwrite(3).expect("put");
        database.put(RUN, DEAD, "").expect("put");
        drop(held);
        database.delete(RUN, DEAD).expect("delete");
        let held = database.snapshot().expect("snapshot");
        overwrite(3).expect("put");
        database.sweep();
        overwrite(200).expect("put");
        drop(held);
        for number in 0..100_u32 {
            database.put(RUN, DEAD, number.to_be_bytes()).expect("put");
            database.delete(RUN, DEAD).expect("delete");
        }
        database.delete(RUN, Y).expect("delete");
        database.sweep();
        database.put(RUN, Y, OLD).expect("put");
    }

    /// Goal: a thread that stops in the middle of unlinking a version or of removing a key blocks neither the key nor
    /// other collectors, and nothing is unlinked twice.
    #[test]
    fn a_parked_collector_stops_nobody() {
        finishes("operations beside a parked collector", park_collectors);
    }

    fn park_collectors() {
        let steps = steps_of(&prepared(), prune_and_remove);
        let places = places(&steps);
        for step in [Step::Frozen, Step::Sealed] {
            let found = steps.iter().filter(|reached| **reached == step).count();
            println!("{step:?} is reached {found} times");
            assert!(found > 1, "{step:?} is reached by the sweep and by writers");
        }
        // Several places of the two kinds that only collectors reach.
        let of_collectors = (0..steps.len()).filter(|at| matches!(steps[*at], Step::Frozen | Step::Sealed));
        for at in places.into_iter().chain(of_collectors.step_by(7)) {
            let name = format!("a collector parked at step {at}, {:?}", steps[at]);
            let database = prepared();
            let victim = Victim::start(&database, at, prune_and_remove);
            assert_eq!(victim.wait(), steps[at], "{name}");
            // The key whose chain may be sealed is usable, before anybody sweeps.
            database.put(RUN, Y, "beside").expect("put");
            assert_eq!(get(&database, Y).as_deref(), Some("beside"), "{name}");
            others_finish(&name, &database);
            victim.release();
            database.delete(RUN, DEAD).expect("delete");
            assert_nothing_is_left(&database, KEYS.len());
        }
    }

    /// Goal: the tests above leave no named step out. Method: the same operations, undisturbed.
    #[test]
    fn every_named_step_is_reached() {
        let mut reached = [false; STEPS];
        for writing in writings() {
            for step in steps_of(&prepared(), writing.operation) {
                reached[number_of(step).expect("no log")] = true;
            }
        }
        for step in steps_of(&prepared(), prune_and_remove) {
            reached[number_of(step).expect("no log")] = true;
        }
        assert_eq!(reached, [true; STEPS]);
    }
}
