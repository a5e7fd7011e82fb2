//! Linearizability of the list: short histories of threads on one to three keys, each checked against every order that
//! respects real time.
//!
//! What an operation may do: `find` returns the key's node or none. `find_or_insert` returns the key's node, or a new one
//! if it has none, which then is the key's node. `remove` of a node takes it away from its key if it still is the
//! key's. The search for an order is that of Wing and Gong (1993), with the states seen before remembered (Lowe, 2017).
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::sync::{Barrier, Mutex};

use super::*;
use crate::reclaim::EpochReclaim;
use crate::sync::AtomicU64;
use crate::types::{RunId, TypeTag};

const THREADS: u64 = 3;
const KEYS: usize = 3;

/// What was done, to which key, and what came back. Nodes are named by where their values lie: as every thread is
/// pinned for the length of a history, no place is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Found(usize, Option<usize>),
    Inserted(usize, usize),
    Removed(usize, usize),
}

/// An operation and the moments before its call and after its return.
#[derive(Clone, Copy, Debug)]
struct Operation {
    done: Done,
    called: u64,
    returned: u64,
}

/// The node of each key.
type State = [Option<usize>; KEYS];

/// Returns the state after an operation, if it could have returned what it did. `used` are the nodes that keys had
/// before.
fn after(state: State, done: Done, used: &HashSet<usize>) -> Option<State> {
    let mut next = state;
    let is_possible = match done {
        Done::Found(key, node) => state[key] == node,
        Done::Inserted(key, node) => {
            next[key] = Some(node);
            state[key] == Some(node) || state[key].is_none() && !used.contains(&node)
        }
        Done::Removed(key, node) => {
            if state[key] == Some(node) {
                next[key] = None;
            }
            true
        }
    };
    is_possible.then_some(next)
}

/// Says whether some order of the operations explains them all.
fn is_linearizable(history: &[Operation]) -> bool {
    fn search(history: &[Operation], taken: u32, state: State, seen: &mut HashSet<(u32, State)>) -> bool {
        if taken.count_ones() as usize == history.len() {
            return true;
        }
        if !seen.insert((taken, state)) {
            return false;
        }
        let is_taken = |number: usize| taken & 1 << number != 0;
        let open = || (0..history.len()).filter(|number| !is_taken(*number));
        // The next one was called before every other that is left had returned.
        let first_return = open()
            .map(|number| history[number].returned)
            .min()
            .expect("some are left");
        let used: HashSet<usize> = (0..history.len())
            .filter(|number| is_taken(*number))
            .filter_map(|number| match history[number].done {
                Done::Inserted(_, node) => Some(node),
                Done::Found(..) | Done::Removed(..) => None,
            })
            .collect();
        open().any(|number| {
            history[number].called <= first_return
                && after(state, history[number].done, &used)
                    .is_some_and(|state| search(history, taken | 1 << number, state, seen))
        })
    }
    search(history, 0, [None; KEYS], &mut HashSet::new())
}

/// The checker itself: what is impossible is seen to be.
#[test]
fn the_checker_tells_histories_apart() {
    let history = |operations: &[(Done, u64, u64)]| {
        let operations = operations.iter().map(|(done, called, returned)| Operation {
            done: *done,
            called: *called,
            returned: *returned,
        });
        is_linearizable(&operations.collect::<Vec<_>>())
    };
    let (inserted, removed) = (Done::Inserted(0, 7), Done::Removed(0, 7));
    assert!(history(&[(inserted, 0, 1), (Done::Found(0, Some(7)), 2, 3)]));
    assert!(!history(&[(inserted, 0, 1), (Done::Found(0, None), 2, 3)]), "lost");
    assert!(history(&[(inserted, 0, 3), (Done::Found(0, None), 1, 2)]), "at once");
    assert!(!history(&[(inserted, 0, 1), (Done::Inserted(0, 8), 2, 3)]), "two nodes");
    assert!(!history(&[
        (inserted, 0, 1),
        (removed, 2, 3),
        (Done::Found(0, Some(7)), 4, 5)
    ]));
    assert!(
        !history(&[(inserted, 0, 1), (removed, 2, 3), (inserted, 4, 5)]),
        "came back"
    );
    assert!(history(&[
        (inserted, 0, 1),
        (removed, 2, 3),
        (Done::Inserted(0, 8), 4, 5)
    ]));
}

fn key(number: usize) -> Key {
    Key::new(
        &RunId::from_bytes([5; 16]),
        TypeTag::Raw,
        format!("{number}").as_bytes(),
    )
}

/// Goal: searches, insertions and removals are linearizable. Method: thousands of histories of three threads with a few
/// operations each, on one to three keys, all checked exhaustively; a new list every few histories, so that
/// towers differ. Prints the history that fails.
#[test]
fn histories_are_linearizable() {
    histories::<false>();
    histories::<true>();
}

fn histories<const HINTS: bool>() {
    let (lists, histories_of_each) = if cfg!(miri) { (2, 4) } else { (100, 40) };
    for seed in 0..lists {
        let reclaim = EpochReclaim::new();
        let list = <SkipList<AtomicU64, HINTS> as Index<_, EpochReclaim>>::new(&reclaim);
        let clock = AtomicU64::new(0);
        let barrier = Barrier::new(THREADS as usize);
        let recorded: Vec<Mutex<Vec<Operation>>> = (0..histories_of_each).map(|_| Mutex::default()).collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (reclaim, list, clock, barrier, recorded) = (&reclaim, &list, &clock, &barrier, &recorded);
                scope.spawn(move || {
                    let local = reclaim.register();
                    for (number, history) in (0..).zip(recorded) {
                        let guard = reclaim.pin(&local);
                        let random = (seed * 1_000 + number) * THREADS + thread;
                        let operations = one_thread(list, &guard, clock, barrier, random);
                        history
                            .lock()
                            .expect("nobody panics while holding it")
                            .extend(operations);
                        // Everyone is done before the list is emptied for the next history.
                        if barrier.wait().is_leader() {
                            for number in 0..KEYS {
                                if let Some(node) = Index::<_, EpochReclaim>::find(list, &key(number), &guard) {
                                    Index::<_, EpochReclaim>::remove(list, node, &guard);
                                }
                            }
                        }
                        barrier.wait();
                    }
                });
            }
        });
        for history in recorded {
            let history = history.into_inner().expect("no thread panicked");
            assert!(is_linearizable(&history), "list {seed}: {history:#?}");
        }
    }
}

/// Does one thread's part of a history.
fn one_thread<const HINTS: bool>(
    list: &SkipList<AtomicU64, HINTS>,
    guard: &<EpochReclaim as Reclaim>::Guard<'_>,
    clock: &AtomicU64,
    barrier: &Barrier,
    random: u64,
) -> Vec<Operation> {
    let name = |node: &Found<'_, AtomicU64>| std::ptr::from_ref(node.value()).addr();
    // ORDERING: SeqCst by way of a read-modify-write that acquires and releases: the order of the moments is real.
    let now = || clock.fetch_add(1, order::DRAW);
    let mut random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 20) % below
    };
    let keys = 1 + draw(KEYS as u64);
    let mut operations = Vec::new();
    let mut known: Option<(usize, Found<'_, AtomicU64>)> = None;
    barrier.wait();
    for _ in 0..4 {
        let number = draw(keys) as usize;
        let called = now();
        let done = match (draw(3), known.take()) {
            (0, Some((number, node))) => {
                let named = name(&node);
                Index::<_, EpochReclaim>::remove(list, node, guard);
                Done::Removed(number, named)
            }
            (0 | 1, _) => {
                let node = Index::<_, EpochReclaim>::find_or_insert(list, &key(number), guard);
                let named = name(&node);
                known = Some((number, node));
                Done::Inserted(number, named)
            }
            _ => {
                let node = Index::<_, EpochReclaim>::find(list, &key(number), guard);
                let named = node.as_ref().map(&name);
                known = node.map(|node| (number, node));
                Done::Found(number, named)
            }
        };
        operations.push(Operation {
            done,
            called,
            returned: now(),
        });
    }
    barrier.wait();
    operations
}
