//! The database while everything around a key comes and goes: neighbours, whole threads, snapshots, other versions.
//!
//! Each test does a fixed amount of work and asserts what must hold in every interleaving: that what exists throughout
//! is never missed, that what is gone stays gone, that a history of one key has an order, and that what a thread leaves
//! behind is bounded.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;

use std::cell::RefCell;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use common::{Random, finishes, seed, stumble};
use unlatched::internals::DefaultStore;
use unlatched::{Database, Error, Key, RunId, TypeTag};

const RUN: RunId = RunId::from_bytes([8; 16]);

/// How much more is done where debug assertions do not slow it down.
const MORE: usize = if cfg!(debug_assertions) { 1 } else { 10 };

/// Sets a flag when dropped, also by a panic.
struct Done<'d>(&'d AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Goal: a get never misses a key that is only ever overwritten. Method: one writer overwrites it, with values of
/// changing lengths, while readers get it, also through snapshots and scans.
#[test]
fn an_overwritten_key_is_never_missed() {
    let seed = seed("overwritten");
    finishes("overwritten", move || {
        let database = Database::in_memory().unwrap();
        database.put(RUN, "k", [0; 1]).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _done = Done(&done);
                stumble(seed, 0);
                for number in 0..30_000 * MORE {
                    database.put(RUN, "k", vec![number as u8; 1 + number % 40]).unwrap();
                }
            });
            for stream in 1..3 {
                let (database, done) = (&database, &done);
                scope.spawn(move || {
                    stumble(seed, stream);
                    while !done.load(Ordering::Acquire) {
                        let value = database.get(RUN, "k").unwrap().expect("it exists throughout");
                        assert!(value.iter().all(|byte| *byte == value[0]));
                        let snapshot = database.snapshot().unwrap();
                        let value = snapshot.get(RUN, "k").unwrap().expect("it exists throughout");
                        assert_eq!(snapshot.range(RUN, ..).next().unwrap().1, value);
                        assert_eq!(snapshot.range(RUN, ..).next_back().unwrap().1, value);
                    }
                });
            }
        });
        database.sweep();
        assert_eq!(database.stats().live_versions, 1);
    });
}

/// Goal: keys that exist throughout are found by every get and shown by every scan, in either direction, while their
/// neighbours are inserted and removed; a snapshot repeats. Method: keys of a grid are fixed, those between come and
/// go by puts, deletes and transactions, with sweeps; lengths of keys spread over both sides of every inline limit.
#[test]
fn neighbours_that_come_and_go_hide_nothing() {
    let seed = seed("neighbours");
    finishes("neighbours", move || {
        const FIXED: usize = 300;
        let lengths = [2, 10, 26, 27, 28, 29, 30, 46, 47, 100];
        let key = move |number: usize, between: usize| {
            let mut key = (number as u16).to_be_bytes().to_vec();
            key.resize(lengths[number % lengths.len()], 0);
            // A neighbour begins with the fixed key itself.
            key.extend([0, 255, 1].iter().take(between % 4).copied());
            if between > 3 {
                key.push(between as u8);
            }
            key
        };
        let database = &Database::in_memory().unwrap();
        for number in 0..FIXED {
            database.put(RUN, key(number, 0), "fixed").unwrap();
        }
        let done = &AtomicUsize::new(0);
        thread::scope(|scope| {
            for stream in 0..2 {
                scope.spawn(move || {
                    stumble(seed, stream);
                    let mut random = Random::new(seed, stream);
                    for step in 0..8_000 * MORE {
                        let near = key(random.below(FIXED), 1 + random.below(20));
                        match random.below(8) {
                            0..3 => drop(database.put(RUN, near, "passing").unwrap()),
                            3..6 => drop(database.delete(RUN, near).unwrap()),
                            _ => {
                                let other = key(random.below(FIXED), 1 + random.below(20));
                                let _ = database.transaction(RUN, |txn| {
                                    txn.delete(&near)?;
                                    txn.put(&other, "passing")
                                });
                            }
                        }
                        if step % 2_000 == 1_999 {
                            database.sweep();
                        }
                    }
                    done.fetch_add(1, Ordering::Release);
                });
            }
            for stream in 2..4 {
                scope.spawn(move || {
                    stumble(seed, stream);
                    let mut random = Random::new(seed, stream);
                    while done.load(Ordering::Acquire) < 2 {
                        let number = random.below(FIXED);
                        assert!(database.get(RUN, key(number, 0)).unwrap().is_some(), "key {number}");
                        let snapshot = database.snapshot().unwrap();
                        let up: Vec<_> = snapshot.range(RUN, ..).collect();
                        assert!(up.is_sorted_by(|a, b| a.0 < b.0));
                        assert_eq!(up.iter().filter(|(_, value)| value == b"fixed").count(), FIXED);
                        let mut down: Vec<_> = snapshot.range(RUN, ..).rev().collect();
                        down.reverse();
                        assert!(up == down, "a snapshot repeats");
                        let mut shown = Vec::new();
                        snapshot.range_with(RUN, .., |key, value| {
                            shown.push((key.to_vec(), value.to_vec()));
                            ControlFlow::Continue(())
                        });
                        assert!(up == shown, "a snapshot repeats");
                        let (from, to) = (key(number, 0), key(FIXED - 1, 0));
                        let bounds = (Bound::Excluded(from.clone()), Bound::Included(to.clone()));
                        let part: Vec<_> = snapshot.range(RUN, bounds).collect();
                        let expected = up.iter().filter(|(key, _)| *key > from && *key <= to);
                        assert!(part.iter().eq(expected), "a part of it, too");
                    }
                });
            }
        });
        for number in 0..FIXED {
            for between in 1..21 {
                database.delete(RUN, key(number, between)).unwrap();
            }
        }
        database.sweep();
        assert_eq!(database.stats().live_versions, FIXED as u64);
    });
}

/// What one operation on a key did.
#[derive(Clone, Copy, Debug)]
enum Did {
    /// Committed at this timestamp.
    Wrote(u64),
    Deleted(u64),
    Saw(u64),
    SawNothing,
}

/// Goal: the history of one key has an order that agrees with real time, and reads agree with it. Method: threads put,
/// delete, compare and put, and get few keys, with sweeps between; commit timestamps are the order. Every operation must
/// come after all that ended before it began, by timestamp; a get that finds nothing needs a moment between a
/// deletion and the next put that lies between what ended before it and what began after it.
#[test]
fn histories_of_a_key_have_an_order() {
    let seed = seed("histories");
    finishes("histories", move || {
        const KEYS: usize = 3;
        let store = &DefaultStore::new();
        let key = |number: usize| Key::new(&RUN, TypeTag::Raw, &[number as u8]);
        let start = Instant::now();
        let now = move || start.elapsed().as_nanos() as u64;
        let barrier = &Barrier::new(3);
        let mut histories: Vec<Vec<(u64, u64, Did)>> = vec![Vec::new(); KEYS];
        thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|stream| {
                    scope.spawn(move || {
                        stumble(seed, stream);
                        let mut random = Random::new(seed, stream);
                        let mut done = Vec::new();
                        barrier.wait();
                        for step in 0..8_000 * MORE {
                            let number = random.below(KEYS);
                            let key = key(number);
                            let began = now();
                            let did = match random.below(10) {
                                0..2 => Some(Did::Wrote(store.put(&key, b"value").get())),
                                2..5 => store.delete(&key).map(|at| Did::Deleted(at.get())),
                                5 => {
                                    let found = store.get_with(&key, |_, at| at).unwrap_or_default();
                                    let swapped = store.compare_and_put(&key, found, 1, |bytes| bytes[0] = 1);
                                    swapped.ok().map(|at| Did::Wrote(at.get()))
                                }
                                _ => Some(match store.get_with(&key, |_, at| at.get()) {
                                    Some(at) => Did::Saw(at),
                                    None => Did::SawNothing,
                                }),
                            };
                            done.extend(did.map(|did| (number, began, now(), did)));
                            if step % 500 == 499 {
                                store.collect_garbage();
                            }
                        }
                        done
                    })
                })
                .collect();
            for thread in threads {
                for (number, began, ended, did) in thread.join().unwrap() {
                    histories[number].push((began, ended, did));
                }
            }
        });
        for history in &histories {
            check_history(history);
        }
    });
}

fn check_history(history: &[(u64, u64, Did)]) {
    let mut writes: Vec<(u64, bool)> = Vec::new();
    for (_, _, did) in history {
        match *did {
            Did::Wrote(at) => writes.push((at, true)),
            Did::Deleted(at) => writes.push((at, false)),
            Did::Saw(_) | Did::SawNothing => {}
        }
    }
    writes.sort_unstable();
    assert!(writes.is_sorted_by(|a, b| a.0 < b.0), "one timestamp twice");
    // A deletion deletes something.
    assert!(writes.windows(2).all(|pair| pair[0].1 || pair[1].1) && writes.first().is_none_or(|first| first.1));
    let known = |did: &Did| match *did {
        Did::Wrote(at) | Did::Deleted(at) | Did::Saw(at) => Some(at),
        Did::SawNothing => None,
    };
    let mut by_end: Vec<_> = history
        .iter()
        .filter_map(|(_, ended, did)| Some((*ended, known(did)?)))
        .collect();
    by_end.sort_unstable();
    let mut by_start: Vec<_> = history
        .iter()
        .filter_map(|(began, _, did)| Some((*began, known(did)?)))
        .collect();
    by_start.sort_unstable();
    // The greatest timestamp of all that ended by then, and the least of all that begins from then on.
    let mut greatest = 0;
    let ended_by: Vec<_> = by_end
        .iter()
        .map(|(end, at)| {
            greatest = greatest.max(*at);
            (*end, greatest)
        })
        .collect();
    let mut least = u64::MAX;
    let mut begun_from: Vec<_> = by_start
        .iter()
        .rev()
        .map(|(began, at)| {
            least = least.min(*at);
            (*began, least)
        })
        .collect();
    begun_from.reverse();
    for (began, ended, did) in history {
        let before = ended_by[..ended_by.partition_point(|(end, _)| end < began)]
            .last()
            .map_or(0, |(_, at)| *at);
        let after = begun_from
            .get(begun_from.partition_point(|(start, _)| start <= ended))
            .map_or(u64::MAX, |(_, at)| *at);
        match *did {
            Did::Wrote(at) | Did::Deleted(at) => assert!(at > before, "{did:?} after {before}"),
            Did::Saw(at) => {
                assert!(at >= before, "{did:?} after {before}");
                assert!(writes.binary_search(&(at, true)).is_ok(), "{did:?} is no put");
            }
            Did::SawNothing => {
                // Absent from each deletion, and from the beginning, until the next put.
                let mut until = u64::MAX;
                let mut agrees = false;
                let upto = writes.partition_point(|(at, _)| *at < after);
                if let Some((next, _)) = writes.get(upto) {
                    until = *next;
                }
                for (from, put) in writes[..upto].iter().rev().chain([&(0, false)]) {
                    agrees |= !put && until > before;
                    if agrees || *from <= before {
                        break;
                    }
                    until = *from;
                }
                assert!(agrees, "nothing was seen, between {before} and {after}");
            }
        }
    }
}

/// Goal: threads that come and go all the time, and end in the middle of everything, cost nothing that stays and break
/// nothing for those that stay. Method: generations of threads insert, overwrite and delete, some holding snapshots
/// opened by their predecessors, beside one thread that stays.
#[test]
fn threads_may_end_all_the_time() {
    let seed = seed("thread churn");
    finishes("thread churn", move || {
        let database = Arc::new(Database::in_memory().unwrap());
        database.put(RUN, "stays", "here").unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let stays = thread::spawn({
            let (database, done) = (Arc::clone(&database), Arc::clone(&done));
            move || {
                let mut number = 0_u32;
                while !done.load(Ordering::Acquire) {
                    assert!(database.get(RUN, "stays").unwrap().is_some());
                    database.put(RUN, number.to_be_bytes(), "v").unwrap();
                    assert!(database.delete(RUN, number.to_be_bytes()).unwrap());
                    number += 1;
                }
            }
        });
        for generation in 0..150 * MORE {
            let snapshot = database.snapshot().unwrap();
            thread::scope(|scope| {
                for stream in 0..3_u64 {
                    let (database, snapshot) = (&database, &snapshot);
                    scope.spawn(move || {
                        let mut random = Random::new(seed ^ generation as u64, stream);
                        for _ in 0..random.below(100) {
                            let key = [b'x', random.below(8) as u8];
                            match random.below(3) {
                                0 => drop(database.put(RUN, key, vec![1; random.below(300)]).unwrap()),
                                1 => drop(database.delete(RUN, key).unwrap()),
                                _ => assert!(snapshot.get(RUN, "stays").unwrap().is_some()),
                            }
                        }
                    });
                }
            });
        }
        done.store(true, Ordering::Release);
        stays.join().unwrap();
        database.sweep();
        database.sweep();
        let stats = database.stats();
        assert!(stats.live_versions <= 9, "{stats:?}");
        assert_eq!(stats.open_snapshots, 0);
    });
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Uses a database while its thread's local variables are being destroyed.
struct Late(Arc<Database>);

impl Drop for Late {
    fn drop(&mut self) {
        let database = &self.0;
        let snapshot = database.snapshot().unwrap();
        for number in 0..70_u8 {
            database.put(RUN, [number], [number; 9]).unwrap();
            assert!(snapshot.get(RUN, "k").unwrap().is_some());
        }
        database
            .transaction(RUN, |txn| {
                (0..70_u8).try_for_each(|number| txn.delete([number]).map(drop))
            })
            .ok();
        database
            .get_with(RUN, "k", |_, _| database.put(RUN, "k", "again").unwrap())
            .unwrap();
    }
}

/// Goal: destructors of thread-local variables may use the database, before and after its own, and may be what drops it.
/// Method: threads leave such a variable behind; some take the last handle of a database with them.
#[test]
fn destructors_of_thread_locals_may_use_a_database() {
    finishes("thread-local destructors", || {
        let database = Arc::new(Database::in_memory().unwrap());
        database.put(RUN, "k", "v").unwrap();
        for round in 0..40 * MORE {
            let handle = match round % 3 {
                0 => {
                    let other = Arc::new(Database::in_memory().unwrap());
                    other.put(RUN, "k", "v").unwrap();
                    other
                }
                _ => Arc::clone(&database),
            };
            let early = round % 2 == 0;
            let worker = move || {
                let leave = |handle| LATE.with(|late| *late.borrow_mut() = Some(Late(handle)));
                if early {
                    leave(Arc::clone(&handle));
                }
                handle.put(RUN, "k", "w").unwrap();
                drop(handle.snapshot().unwrap());
                if !early {
                    leave(handle);
                }
            };
            let pair = [thread::spawn(worker.clone()), thread::spawn(worker)];
            pair.into_iter().for_each(|thread| thread.join().unwrap());
        }
        database.sweep();
        assert_eq!(database.stats().open_snapshots, 0);
    });
}

/// Goal: what a scan or a read shows may be changed, or scanned again, from within. Method: closures that overwrite and
/// delete what is shown and what comes next, sweep, open snapshots, commit, scan, and panic.
#[test]
fn scans_may_change_what_they_show() {
    let database = Database::in_memory().unwrap();
    let keys = 3_000_u32;
    for number in 0..keys {
        database.put(RUN, number.to_be_bytes(), number.to_le_bytes()).unwrap();
    }
    let mut expected = 0_u32;
    let snapshot = database.snapshot().unwrap();
    snapshot.range_with(RUN, .., |key, value| {
        assert_eq!((key, value), (&expected.to_be_bytes()[..], &expected.to_le_bytes()[..]));
        database.delete(RUN, key).unwrap();
        database.put(RUN, [key, b"new"].concat(), "new").unwrap();
        database.delete(RUN, (expected + 1).to_be_bytes()).unwrap();
        database
            .transaction(RUN, |txn| {
                txn.put("a", value)?;
                txn.put("b", value)?;
                txn.delete("a").map(drop)
            })
            .unwrap();
        if expected.is_multiple_of(500) {
            database.sweep();
            let inner = database.snapshot().unwrap();
            let mut count = 0;
            inner.range_with(RUN, .., |_, _| {
                count += 1;
                ControlFlow::Continue(())
            });
            assert_eq!(count, inner.range(RUN, ..).rev().count());
        }
        expected += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(expected, keys);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        snapshot.range_with(RUN, .., |_, _| panic!("in a scan"));
    }));
    assert!(result.is_err());
    drop(snapshot);
    database.sweep();
    let stats = database.stats();
    assert_eq!((stats.live_versions, stats.open_snapshots), (u64::from(keys) + 1, 0));
    assert!(stats.pending_versions < 1_000, "this thread is still pinned: {stats:?}");
}

/// Goal: transactions of every size leave exactly what they wrote, or nothing. Method: sizes around the limits of the
/// write set, with keys deleted, put, deleted again and put again.
#[test]
fn transactions_of_every_size_commit_whole() {
    let database = Database::in_memory().unwrap();
    for size in [0_u32, 1, 2, 63, 64, 65, 66, 1_000, 20_000] {
        for rewritten in [false, true] {
            database
                .transaction(RUN, |txn| {
                    for number in (0..size).rev() {
                        let key = number.to_be_bytes();
                        txn.put(key, b"first")?;
                        if rewritten {
                            assert!(txn.delete(key)?);
                            assert!(!txn.delete(key)?);
                            assert_eq!(txn.get(key)?, None);
                            if number % 2 == 0 {
                                txn.put(key, number.to_le_bytes())?;
                            }
                        }
                    }
                    assert_eq!(txn.write_count(), size as usize);
                    Ok(())
                })
                .unwrap();
            let expected = if rewritten { size.div_ceil(2) } else { size };
            assert_eq!(database.snapshot().unwrap().range(RUN, ..).count(), expected as usize);
        }
        let conflict = database.transaction(RUN, |txn| {
            for number in 0..size {
                txn.put(number.to_be_bytes(), "never seen")?;
            }
            txn.put("z", "mine")?;
            database.put(RUN, "z", "theirs").map(drop)
        });
        assert!(matches!(conflict, Err(Error::Conflict { .. })));
        database
            .transaction(RUN, |txn| {
                for (key, value) in txn.scan_prefix(b"")? {
                    assert_ne!(value, b"never seen");
                    txn.delete(key)?;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(database.snapshot().unwrap().range(RUN, ..).count(), 0);
        database.sweep();
        assert_eq!(database.stats().live_versions, 0, "size {size}");
    }
}
