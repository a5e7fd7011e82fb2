//! Models of `index/skiplist.rs`: the list alone, over the ideal collector, with towers of one and two levels.
//!
//! A key is a place in the order and a height: in loom builds the last byte of a key is the height of its node. Values
//! are marks that say whether a node is dead, as a sealed chain would.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use std::ops::{Bound, ControlFlow, Deref};
use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::{Acquire, Release};
use unlatched::internals::{Direction, Index, ModelReclaim, Node, Reclaim, SkipList};
use unlatched::{Key, RunId, TypeTag};

type Found<'g> = <SkipList<AtomicBool, false> as Index<AtomicBool, ModelReclaim>>::Node<'g>;

/// A list and its collector, dropped in that order.
struct Inner {
    list: SkipList<AtomicBool, false>,
    reclaim: ModelReclaim,
}

/// The same, shared by a model's threads and counted outside of loom.
#[derive(Clone)]
struct List(Option<Arc<Inner>>);

impl Deref for List {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        self.0.as_ref().expect("taken when dropped only")
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let inner = self.0.take();
        if std::thread::panicking() {
            // A failed model unwinds outside of loom.
            std::mem::forget(inner);
        }
    }
}

const LOW: u8 = 1;
const HIGH: u8 = 2;

fn key(place: u8, height: u8) -> Key {
    Key::new(&RunId::from_bytes([0; 16]), TypeTag::Raw, &[place, height])
}

impl List {
    fn with(keys: &[(u8, u8)]) -> Self {
        let reclaim = ModelReclaim::new();
        let list = <SkipList<AtomicBool, false> as Index<_, ModelReclaim>>::new(&reclaim);
        let list = Self(Some(Arc::new(Inner { list, reclaim })));
        for (place, height) in keys {
            list.insert(*place, *height);
        }
        list
    }

    fn spawn<T: 'static>(&self, body: impl FnOnce(&Self) -> T + 'static) -> loom::thread::JoinHandle<T> {
        let list = self.clone();
        loom::thread::spawn(move || body(&list))
    }

    fn pinned<T>(
        &self,
        body: impl for<'g> FnOnce(&'g SkipList<AtomicBool, false>, &'g <ModelReclaim as Reclaim>::Guard<'_>) -> T,
    ) -> T {
        let local = self.reclaim.register();
        let guard = self.reclaim.pin(&local);
        body(&self.list, &guard)
    }

    /// Inserts a key, and says whether its node is linked afterwards.
    fn insert(&self, place: u8, height: u8) -> bool {
        self.pinned(|list, guard| {
            let node: Found<'_> = Index::<_, ModelReclaim>::find_or_insert(list, &key(place, height), guard);
            assert_eq!(node.key(), key(place, height));
            node.is_linked()
        })
    }

    /// Inserts keys in order.
    fn insert_sorted(&self, keys: &[(u8, u8)]) {
        self.pinned(|list, guard| {
            let keys = keys.iter().map(|(place, height)| (key(*place, *height), *place));
            Index::<_, ModelReclaim>::insert_sorted(list, keys, guard, |node: Found<'_>, place| {
                assert_eq!(node.key().user_key()[0], place);
            });
        });
    }

    /// Says whether a key is found, and its node not dead.
    fn finds(&self, place: u8, height: u8) -> bool {
        self.pinned(|list, guard| {
            loop {
                let Some(node): Option<Found<'_>> = Index::<_, ModelReclaim>::find(list, &key(place, height), guard)
                else {
                    return false;
                };
                assert_eq!(node.key(), key(place, height));
                if !node.value().load(Acquire) {
                    return true;
                }
                // As the store does: dead, so absent if its node still is the one of its key.
                if node.is_linked() {
                    return false;
                }
            }
        })
    }

    /// Makes a key's node dead and removes it; says whether there was one.
    fn remove(&self, place: u8, height: u8) -> bool {
        self.pinned(|list, guard| {
            let Some(node): Option<Found<'_>> = Index::<_, ModelReclaim>::find(list, &key(place, height), guard) else {
                return false;
            };
            node.value().store(true, Release);
            Index::<_, ModelReclaim>::remove(list, node.clone(), guard);
            assert!(!node.is_linked(), "removed");
            true
        })
    }

    /// Walks the whole list; returns the places in the order in which they came.
    fn walk(&self, direction: Direction) -> Vec<u8> {
        self.walk_between((Bound::Unbounded, Bound::Unbounded), direction)
    }

    fn walk_between(&self, bounds: (Bound<&Key>, Bound<&Key>), direction: Direction) -> Vec<u8> {
        self.pinned(|list, guard| {
            let mut places = Vec::new();
            Index::<_, ModelReclaim>::walk(list, bounds, direction, guard, |node: Found<'_>| {
                places.push(node.key().user_key()[0]);
                ControlFlow::Continue(())
            });
            places
        })
    }

    fn retired(&self) -> u64 {
        self.reclaim.totals().retired
    }

    /// Checks, when all threads have ended, what the list holds and what was retired.
    fn ends_with(&self, places: &[u8], retired: u64) {
        assert_eq!(self.walk(Direction::Ascending), places);
        assert_eq!(self.retired(), retired, "each removed node is retired once");
    }
}

/// Makes the test of a model.
macro_rules! one {
    ($name:ident, $bound:literal) => {
        mod $name {
            #[test]
            fn explored() {
                loom_tests::model(concat!("skiplist::", stringify!($name)), $bound, super::$name);
            }
        }
    };
}

// Two threads: insert x, find x | insert x, find x; x has two levels.
// Both find the node, and there is one. Fails with READ_LINK weakened.
one!(two_insertions_of_a_key_make_one_node, 3);
fn two_insertions_of_a_key_make_one_node() {
    let list = List::with(&[]);
    let other = list.spawn(|list| {
        assert!(list.insert(1, HIGH));
        assert!(list.finds(1, HIGH));
    });
    assert!(list.insert(1, HIGH));
    assert!(list.finds(1, HIGH));
    other.join().unwrap();
    list.ends_with(&[1], 0);
}

// Two threads: insert x | insert y, find x; neighbours, both with two levels.
// None is lost, and the towers are whole. Fails with READ_LINK, LINK_BASE, LINK_TOWER weakened.
one!(neighbours_are_inserted_side_by_side, 3);
fn neighbours_are_inserted_side_by_side() {
    let list = List::with(&[]);
    let other = list.spawn(|list| assert!(list.insert(1, HIGH)));
    assert!(list.insert(2, HIGH));
    list.finds(1, HIGH);
    other.join().unwrap();
    assert!(list.finds(1, HIGH));
    list.ends_with(&[1, 2], 0);
}

// Two threads: insert x | remove x, then find y behind it; x has two levels.
// An inserter that stops before it links level 1 does not bring a node back that was retired meanwhile. Fails with
// RAISE_FLAG, READ_FLAGS weakened, and if the remover retires the node whatever the flags say.
one!(a_stopped_inserter_brings_nothing_back, 3);
fn a_stopped_inserter_brings_nothing_back() {
    let list = List::with(&[(2, HIGH)]);
    let other = list.spawn(|list| {
        list.insert(1, HIGH);
    });
    let removed = list.remove(1, HIGH);
    assert!(list.finds(2, HIGH));
    other.join().unwrap();
    assert!(list.finds(2, HIGH));
    let left: &[u8] = if removed { &[2] } else { &[1, 2] };
    list.ends_with(left, u64::from(removed));
}

// Two threads: remove x | remove x; x has two levels.
// The node is retired once, and both see it removed. Fails if the loser of the last mark retires it too.
one!(two_removals_retire_once, 3);
fn two_removals_retire_once() {
    let list = List::with(&[(1, HIGH)]);
    let other = list.spawn(|list| list.remove(1, HIGH));
    let mine = list.remove(1, HIGH);
    let theirs = other.join().unwrap();
    assert!(mine || theirs);
    list.ends_with(&[], 1);
}

// Two threads: remove x | remove y; neighbours with two levels, and z behind them.
// Both are unlinked everywhere: a link to one is not left in the other. Fails with READ_LINK, MARK_LINK weakened.
one!(neighbours_are_removed_side_by_side, 2);
fn neighbours_are_removed_side_by_side() {
    let list = List::with(&[(1, HIGH), (2, HIGH), (3, LOW)]);
    let other = list.spawn(|list| list.remove(1, HIGH));
    assert!(list.remove(2, HIGH));
    assert!(list.finds(3, LOW));
    assert!(other.join().unwrap());
    list.ends_with(&[3], 2);
}

// Two threads: remove x | insert y right behind it, find y.
// Nothing is linked behind a removed node. Fails with READ_LINK, MARK_LINK weakened.
one!(nothing_is_inserted_behind_a_removed_node, 3);
fn nothing_is_inserted_behind_a_removed_node() {
    let list = List::with(&[(1, HIGH)]);
    let other = list.spawn(|list| list.remove(1, HIGH));
    assert!(list.insert(2, HIGH));
    assert!(list.finds(2, HIGH));
    assert!(other.join().unwrap());
    assert!(list.finds(2, HIGH));
    list.ends_with(&[2], 1);
}

// Two threads: insert x and y in order, find y | remove x; both with two levels.
// The place behind x is used for y only while x is linked. Fails with READ_LINK, MARK_LINK, LINK_BASE, LINK_TOWER
// weakened, and if a marked link is taken for a place.
one!(a_remembered_place_is_left_with_its_node, 3);
fn a_remembered_place_is_left_with_its_node() {
    let list = List::with(&[]);
    let other = list.spawn(|list| list.remove(1, HIGH));
    list.insert_sorted(&[(1, HIGH), (2, HIGH)]);
    assert!(list.finds(2, HIGH));
    let removed = other.join().unwrap();
    assert!(list.finds(2, HIGH));
    let left: &[u8] = if removed { &[2] } else { &[1, 2] };
    list.ends_with(left, u64::from(removed));
}

// Two threads: insert z, remove y before it | find z.
// Whoever reaches z past y by the link that unlinking y made sees z whole. Fails with UNLINK_NODE weakened.
one!(unlinking_publishes_what_lies_behind, 3);
fn unlinking_publishes_what_lies_behind() {
    let list = List::with(&[(1, LOW), (2, LOW)]);
    let other = list.spawn(|list| {
        list.insert(3, LOW);
        list.remove(2, LOW)
    });
    list.finds(3, LOW);
    assert!(other.join().unwrap());
    list.ends_with(&[1, 3], 1);
}

// Two threads: remove x, insert x again | find x; two levels.
// Once the second insertion has returned, no search ends at the dead node and takes the key for absent: it may reach
// it at level 1, but sees that it is not linked any more. Fails with LINK_BASE, LINK_TOWER weakened.
one!(a_dead_node_hides_no_newer_one, 3);
fn a_dead_node_hides_no_newer_one() {
    let list = List::with(&[(1, HIGH)]);
    let done = Arc::new(AtomicBool::new(false));
    let other = {
        let done = Arc::clone(&done);
        list.spawn(move |list| {
            list.remove(1, HIGH);
            assert!(list.insert(1, HIGH));
            done.store(true, Release);
        })
    };
    let is_done = done.load(Acquire);
    let found = list.finds(1, HIGH);
    assert!(found || !is_done, "a put that returned was lost");
    other.join().unwrap();
    assert!(list.finds(1, HIGH));
    list.ends_with(&[1], 1);
}

// Two threads: remove x | insert x; two levels. Whoever comes first, one node is left or none, and a node that was
// removed is retired once. Fails with LINK_TOWER, MARK_LINK weakened.
one!(a_key_is_removed_and_inserted_at_once, 3);
fn a_key_is_removed_and_inserted_at_once() {
    let list = List::with(&[(1, HIGH)]);
    let other = list.spawn(|list| list.remove(1, HIGH));
    list.insert(1, HIGH);
    assert!(other.join().unwrap());
    let left = list.walk(Direction::Ascending);
    assert!(left.is_empty() || left == [1]);
    list.ends_with(&left, 1);
}

/// Walks while another thread inserts and removes keys between those that stay.
fn walk_beside_changes(direction: Direction) {
    let list = List::with(&[(1, HIGH), (2, LOW), (4, HIGH)]);
    let other = list.spawn(|list| {
        list.insert(3, HIGH);
        list.remove(2, LOW);
    });
    let mut seen = list.walk(direction);
    if direction == Direction::Descending {
        seen.reverse();
    }
    assert!(seen.is_sorted(), "a walk goes one way");
    seen.retain(|place| [1, 4].contains(place));
    assert_eq!(seen, [1, 4], "what stays is seen");
    other.join().unwrap();
    list.ends_with(&[1, 3, 4], 1);
}

// Two threads: walk up | insert and remove nodes on the way. What stays is seen, in order. Fails with UNLINK_NODE
// weakened.
one!(a_walk_up_sees_what_stays, 2);
fn a_walk_up_sees_what_stays() {
    walk_beside_changes(Direction::Ascending);
}

// The same downwards. Fails with LINK_BASE, LINK_TOWER, UNLINK_NODE weakened.
one!(a_walk_down_sees_what_stays, 2);
fn a_walk_down_sees_what_stays() {
    walk_beside_changes(Direction::Descending);
}

// Two threads: insert y | walk up from z behind it, and down from x before it.
// Neither shows y. A walk up did that read the link before z a second time.
one!(a_walk_stays_within_its_bounds, 3);
fn a_walk_stays_within_its_bounds() {
    let list = List::with(&[(1, LOW), (3, LOW)]);
    let other = list.spawn(|list| list.insert(2, HIGH));
    let (low, high) = (key(3, LOW), key(1, LOW));
    let up = list.walk_between((Bound::Included(&low), Bound::Unbounded), Direction::Ascending);
    let down = list.walk_between((Bound::Unbounded, Bound::Included(&high)), Direction::Descending);
    assert_eq!((up, down), (vec![3], vec![1]));
    assert!(other.join().unwrap());
    list.ends_with(&[1, 2, 3], 0);
}
