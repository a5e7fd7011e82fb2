//! From encoded key to value, in order: the seam between the versioned store and a search structure.
//!
//! The store keeps one value (a version chain) per key and never replaces it in place. It asks for four things: find,
//! find or insert an empty value, remove *exactly this* node, and walk a range in either direction. Nothing here knows
//! timestamps or what a value holds.
//!
//! | variant | what it is |
//! |---|---|
//! | [`CrossbeamIndex`] | `crossbeam_skiplist::base::SkipList` under the store's guard |
//! | [`SkipList`] | a list of our own: one cache line per node, no shared counters |
//! | `ModelIndex` | a few slots with the same contract, for loom builds, where the library cannot run |
//!
//! # Contract
//!
//! 1. A key has at most one node that is linked. A node is linked when its insertion returns and until `remove` of that
//!    very node; it never comes back, a key inserted again gets a new node.
//! 2. `remove` is idempotent: any thread may repeat it for a node whose value it knows to be dead. When it returns,
//!    [`Node::is_linked`] is false, and a `find` that starts later does not return that node.
//! 3. `find` may return a node that was unlinked meanwhile; whoever meets a dead value there asks `is_linked` *after*
//!    having seen it dead: true means that the key is absent, false that another node may hold the key, so search
//!    again.
//! 4. A node and its value stay readable for as long as the guard under which they were found.

mod buckets;
mod crossbeam;
mod hints;
#[cfg(any(loom, test))]
mod hints_model;
#[cfg(loom)]
mod model;
mod skiplist;

use std::ops::{Bound, ControlFlow};

pub use self::crossbeam::CrossbeamIndex;
pub use self::hints::{DEFAULT_HINT_BYTES, Hinted, Hints, KeyHash};
#[cfg(any(loom, test))]
pub use self::hints_model::{HintedModel, Mistake};
#[cfg(loom)]
pub use self::model::ModelIndex;
pub use self::skiplist::SkipList;
use crate::reclaim::Reclaim;
use crate::types::Key;

/// An ordered index from keys to `V`, whose nodes live as long as the guards of `R`.
pub trait Index<V: 'static, R: Reclaim>: Send + Sync + Sized + 'static {
    /// A node that was found.
    type Node<'g>: Node<'g, V>;

    /// Returns an empty index whose nodes are protected by `reclaim`'s guards.
    fn new(reclaim: &R) -> Self;

    /// Returns the node of `key`. O(log n).
    fn find<'g>(&'g self, key: &Key, guard: &'g R::Guard<'_>) -> Option<Self::Node<'g>>;

    /// Returns the node of `key`, after inserting one with an empty value if there was none. O(log n).
    fn find_or_insert<'g>(&'g self, key: &Key, guard: &'g R::Guard<'_>) -> Self::Node<'g>;

    /// Calls `visit` with the node of each key, after inserting one with an empty value if there was none. Right for keys in
    /// any order; made for ascending ones of which most are new.
    fn insert_sorted<'g, T>(
        &'g self,
        items: impl IntoIterator<Item = (Key, T)>,
        guard: &'g R::Guard<'_>,
        mut visit: impl FnMut(Self::Node<'g>, T),
    ) {
        for (key, item) in items {
            visit(self.find_or_insert(&key, guard), item);
        }
    }

    /// Unlinks exactly `node`, if it is still linked.
    fn remove<'g>(&'g self, node: Self::Node<'g>, guard: &'g R::Guard<'_>);

    /// Visits the nodes between two bounds in order, ascending or descending, until `visit` breaks.
    fn walk<'g>(
        &'g self,
        bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        guard: &'g R::Guard<'_>,
        visit: impl FnMut(Self::Node<'g>) -> ControlFlow<()>,
    ) {
        self.walk_ahead(bounds, direction, None, guard, |_| {}, visit);
    }

    /// The same for a caller who knows about how many nodes it will visit, and can make use of a value that it will
    /// visit soon: `ahead` may be called for any value of the index, any number of times.
    fn walk_ahead<'g>(
        &'g self,
        bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        expected: Option<usize>,
        guard: &'g R::Guard<'_>,
        ahead: impl Fn(&'g V),
        visit: impl FnMut(Self::Node<'g>) -> ControlFlow<()>,
    );
}

/// A node of an index, valid while its guard is held.
pub trait Node<'g, V: 'g>: Clone {
    /// Returns a copy of the encoded key.
    fn key(&self) -> Key;

    /// Returns the encoded key where it lies.
    fn key_bytes(&self) -> &'g [u8];

    /// Returns the value.
    fn value(&self) -> &'g V;

    /// Says whether the node still is the one of its key (contract 3).
    fn is_linked(&self) -> bool;
}

/// Which way a range is walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the smallest key to the greatest.
    Ascending,
    /// From the greatest key to the smallest.
    Descending,
}
