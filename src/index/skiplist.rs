//! A lock-free ordered list with towers: the index of our own.
//!
//! Level 0 links all nodes in the order of their keys; each level above links about half of those of the level below. A
//! search starts at the top and goes down where the next node is too great (Pugh, CACM 1990). Links are changed by
//! compare-and-swap alone; a removed node's links are marked first, so that nothing can be linked behind it (Harris,
//! DISC 2001; Fraser, 2004).
//!
//! ```text
//!   level 2   head -----------------------> C ------------------------> null
//!   level 1   head ---------> B ----------> C ----------> E ----------> null
//!   level 0   head --> A ---> B --x B' ---> C --> D ----> E ---> F ---> null
//!                                   ^ marked: removed, and unlinked by whoever comes by to insert or remove
//! ```
//!
//! Files: `batch` many keys at once; `key` what is searched for; `node` memory and links; `walk` ranges, and `scout` what runs ahead of them; this one search, insertion
//! and removal.
//!
//! # Invariants
//!
//! 1. The node of a key is the one that holds it and is not marked at level 0. It becomes that by the exchange that links
//!    it there, and stops being that by the mark. There is at most one: insertion expects an unmarked link, from a smaller
//!    node, to the first greater one.
//! 2. Every level is sorted, and a node linked at a level is linked at those below, or marked. A node is linked at most
//!    once at each level, behind a node that is smaller and before one that is greater.
//! 3. A node is marked from the top down, level 0 last. So whoever sees the mark at level 0 sees those above.
//! 4. Marked links never change, and what they lead to is not retired while the node that holds them is linked: unlinking
//!    a node at a level starts from a link that is not marked, and so takes out every marked node before it as well.
//! 5. A node is retired once, by whoever is second to raise a flag of the two: its inserter when it links the node
//!    nowhere any more (BUILT), its remover when it has marked it everywhere (GONE). The second searches the key once
//!    more and unlinks the node at every level.
//!
//! Why 5 needs two: an inserter stops before it links a node at level 1. The node is removed, and unlinked at level 0.
//! Now the inserter goes on: its exchange succeeds, since nothing has changed at level 1. Had the remover retired the
//! node, a thread that pins now would find it there.
//!
//! # Searches
//!
//! A lookup changes nothing. It goes right only to nodes whose link at that level was not marked when it was loaded;
//! marked ones it passes by their frozen links. It finds every node that was linked before it began and stays linked:
//!
//! - *From a node n that it went to.* n was linked at some moment of this search, when its link was seen unmarked. If it
//!   still is when the search reads its link on the next level down, every linked node behind it can be reached from
//!   there. If n was marked in between, then within this search, and its frozen link leads to all that was linked behind
//!   it at that moment.
//! - *Past a marked node m.* A link to m was read in this search, so m was not unlinked there when the search began, or
//!   n before it was marked since. Nothing can be linked between m and what its frozen link leads to but from a
//!   node before m, which unlinks m first. So whatever was linked there before the search is behind m's link.
//! - *A removed node with the very key* may have a newer one of that key, inserted before it after it was marked, and so not
//!   behind it. Hence a search passes it, but never goes on from it.
//!
//! "Absent" is true at the moment when the last link was read, or when the last marked node passed there was marked; both
//! are within the search. So lookups are linearizable. `history_tests` checks histories, the models of
//! `loom-tests/tests/skiplist.rs` interleavings.
//!
//! Insertion and removal unlink the marked nodes that they meet at the levels they are to change, and start again if a
//! link has changed meanwhile. That an inserted node may be linked before a marked one does no harm: the exchange
//! succeeds only while that one is linked there, so its remover's search is still to come by.
//!
//! # Hints
//!
//! With `HINTS`, a table leads from a key's hash to its node (`hints`). A hint to a removed node says nothing: the list is
//! searched. So that no hint leads to freed memory, a removed node is retired through a `Removal`, which takes the hints
//! away after the first grace period and frees the node after a second.
//!
//! # What makes it fast
//!
//! - A step along a level needs one cache line (`node`).
//! - What costs is waiting for memory, once for each node that a search goes to. While it waits for the next node of a
//!   level it has already asked for those of the two levels below, so it does not wait when it goes down.
//! - No count of nodes, no shared random state, no reference counts: a lookup writes nothing, an insertion the links
//!   before the node. A node's height comes from the hash that its hint goes by, with a seed of the list's own.
//!
//! What was tried, with a million keys of 41 bytes in random order (times relative to what is here): asking for nothing
//! in advance, lookups 1.3; for one level, 1.07; for three, 1.0. One node in 4 instead of every second one a level
//! higher, 1.2: less memory, but more nodes to wait for. Comparing keys without branches, 1.1 to 1.3: the processor no
//! longer runs ahead. Without the copy of the key beside the tower, 1.03.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair publishes |
//! |---|---|---|---|
//! | link 0 | `LINK_BASE`, `UNLINK_NODE` | `READ_LINK` | the fields of the node that it leads to |
//! | link 1.. | `LINK_TOWER`, `UNLINK_NODE` | `READ_LINK` | the same |
//! | link | `MARK_LINK` | `READ_LINK`, `MARK_LINK` | the marks above; with them that the link is frozen |
//! | flags | `RAISE_FLAG` | `RAISE_FLAG`, `READ_FLAGS` | the first one's links or marks, for the second one's search |
//! | `levels` | relaxed | relaxed | nothing: a hint |
//!
//! An unlinking exchange need not acquire: what it links to was acquired from the marked link before. A node's own links
//! above 0 are written before its first publication or by `LINK_TOWER`.
//!
//! # Progress
//!
//! Lookups and walks finish in a number of steps bounded by the nodes that they meet. Insertion and removal are lock-free:
//! an exchange fails, and a search starts again, only if another thread linked, marked or unlinked something.

mod batch;
mod key;
mod node;
mod scout;
mod walk;

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use self::key::SearchKey;
use self::node::{BUILT, Change, GONE, Head, Next, NodeRef, OwnedNode};
use super::hints::{DEFAULT_HINT_BYTES, Hints};
use super::{Direction, Index, Node};
use crate::reclaim::{Guard, Reclaim};
use crate::sync::{AtomicUsize, order};
use crate::types::Key;

/// Most levels that a node may have: enough for some millions of nodes, and a few steps more for each further doubling.
const MAX_HEIGHT: usize = if cfg!(loom) { 2 } else { 22 };

/// The list.
// On lines of its own: `levels` shares none with what its neighbours write.
#[repr(align(128))]
pub struct SkipList<V: Send, const HINTS: bool = true> {
    head: Head<V>,
    /// Dropped after the nodes; what is retired may outlive both. Its hash function, with a seed of the list's own, makes
    /// the heights of nodes unpredictable too.
    hints: Arc<Hints<node::Node<V>>>,
    /// How many levels hold nodes, or held some: where a search begins. A hint.
    levels: AtomicUsize,
}

/// A node of the list that was found.
pub struct Found<'g, V>(NodeRef<'g, V>);

impl<V> Clone for Found<'_, V> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<'g, V> Node<'g, V> for Found<'g, V> {
    fn key(&self) -> Key {
        Key::from_encoded(self.0.key_bytes())
    }

    #[inline]
    fn key_bytes(&self) -> &'g [u8] {
        self.0.key_bytes()
    }

    #[inline]
    fn value(&self) -> &'g V {
        self.0.value()
    }

    #[inline]
    fn is_linked(&self) -> bool {
        !self.0.is_removed()
    }
}

/// Where a key belongs: at each level the last node before it, and the link that was found there.
struct Place<'g, V> {
    before: [NodeRef<'g, V>; MAX_HEIGHT],
    after: [Next<'g, V>; MAX_HEIGHT],
}

impl<'g, V> Place<'g, V> {
    /// Returns a place to be filled by a search.
    #[inline]
    fn at_head(head: NodeRef<'g, V>) -> Self {
        Self {
            before: [head; MAX_HEIGHT],
            after: [Next::END; MAX_HEIGHT],
        }
    }
}

/// What a search for a place makes of a node with the very key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Equal {
    /// It ends the search.
    IsFound,
    /// The place is before it.
    IsAfter,
}

impl<V: Default + Send + Sync + 'static, const HINTS: bool> SkipList<V, HINTS> {
    fn empty() -> Self {
        Self {
            head: Head::new(MAX_HEIGHT),
            hints: Arc::new(if HINTS && !cfg!(loom) {
                Hints::new(DEFAULT_HINT_BYTES)
            } else {
                Hints::off()
            }),
            levels: AtomicUsize::new(1),
        }
    }

    /// Returns the hash of a key: for the hints, and for its node's height.
    #[inline]
    fn hash_of(&self, key: &SearchKey<'_>) -> u64 {
        self.hints.key_hash().of(key.bytes())
    }

    /// Returns how many levels a search has to go through.
    #[inline]
    fn levels(&self) -> usize {
        if cfg!(loom) {
            return MAX_HEIGHT;
        }
        // ORDERING: Relaxed; a hint. With too few levels a search only takes longer.
        self.levels.load(order::COUNT)
    }

    /// Makes searches begin at the top of a node of that height.
    #[inline]
    fn raise_levels(&self, height: usize) {
        let mut levels = self.levels();
        while levels < height {
            // ORDERING: Relaxed; as above.
            match self.levels.compare_exchange(levels, height, order::COUNT, order::COUNT) {
                Ok(_) => return,
                Err(now) => levels = now,
            }
        }
    }

    /// Goes right along one level while nodes are smaller than `key`, past removed ones. Returns the last smaller node,
    /// and the node of the key if it met one that is linked.
    #[inline(always)]
    fn look<'g, G: Guard>(
        mut before: NodeRef<'g, V>,
        level: usize,
        key: &SearchKey<'_>,
        greater: &mut Next<'g, V>,
        guard: &'g G,
    ) -> (NodeRef<'g, V>, Option<NodeRef<'g, V>>) {
        let mut next = before.link(level).load(guard).unmarked();
        prefetch_below(before, level, guard);
        loop {
            if next == *greater {
                return (before, None);
            }
            let Some(node) = next.node() else {
                return (before, None);
            };
            // The key first: a tower is another line, and only that of a node to go on from is worth waiting for.
            let ordering = node.compare_at(level, key);
            if ordering == Ordering::Greater {
                *greater = next;
                return (before, None);
            }
            let after = node.link(level).load(guard);
            if after.is_marked() {
                next = after.unmarked();
                continue;
            }
            if ordering == Ordering::Less {
                before = node;
                after.prefetch_at(level);
                prefetch_below(before, level, guard);
            } else if !node.is_removed() {
                return (before, Some(node));
            }
            // Else removed since its link was loaded. Only past it there may be a newer node of the key, and only from
            // `before` is that sure to be met.
            next = after;
        }
    }

    /// Returns the linked node of a key that a hint leads to.
    #[inline]
    fn hinted<'g, G: Guard>(&'g self, key: &SearchKey<'_>, hash: u64, guard: &'g G) -> Option<NodeRef<'g, V>> {
        let is_it = |node: NodeRef<'g, V>| node.compare(key) == Ordering::Equal;
        let node = self.hints.find(hash, guard, is_it)?;
        // A removed node says nothing about its key: there may be another one.
        (!node.is_removed()).then_some(node)
    }

    /// Searches for a key and leaves a hint to what it finds.
    #[cold]
    #[inline(never)]
    fn search_and_hint<'g, G: Guard>(&'g self, key: &SearchKey<'_>, hash: u64, guard: &'g G) -> Option<NodeRef<'g, V>> {
        let node = self.search(key, guard)?;
        // SAFETY: found through the list in this pin; its memory waits for the hints (`retire_node`).
        unsafe { self.hints.store(hash, node, guard) };
        Some(node)
    }

    #[inline]
    fn search<'g, G: Guard>(&'g self, key: &SearchKey<'_>, guard: &'g G) -> Option<NodeRef<'g, V>> {
        let mut before = self.head.node();
        let mut greater = Next::END;
        for level in (0..self.levels()).rev() {
            let found;
            (before, found) = Self::look(before, level, key, &mut greater, guard);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Finds the place of a key at the levels below `height`, unlinking removed nodes on the way there, or its node.
    #[inline]
    fn place<'g, G: Guard>(
        &'g self,
        key: &SearchKey<'_>,
        height: usize,
        equal: Equal,
        place: &mut Place<'g, V>,
        guard: &'g G,
    ) -> Option<NodeRef<'g, V>> {
        'again: loop {
            let mut before = self.head.node();
            let mut greater = Next::END;
            for level in (height..self.levels()).rev() {
                let found;
                (before, found) = Self::look(before, level, key, &mut greater, guard);
                if found.is_some() && equal == Equal::IsFound {
                    return found;
                }
            }
            for level in (0..height).rev() {
                let mut next = before.link(level).load(guard);
                if next.is_marked() {
                    // Removed since the search came to it.
                    continue 'again;
                }
                prefetch_below(before, level, guard);
                while let Some(node) = next.node() {
                    let ordering = node.compare_at(level, key);
                    if ordering == Ordering::Greater {
                        // Whether it is removed makes no difference to what is linked before it.
                        break;
                    }
                    let after = node.link(level).load(guard);
                    if after.is_marked() {
                        if !before.link(level).exchange(next, after.unmarked(), Change::Unlink) {
                            continue 'again;
                        }
                        next = after.unmarked();
                        continue;
                    }
                    match ordering {
                        Ordering::Less => {
                            before = node;
                            after.prefetch_at(level);
                            prefetch_below(before, level, guard);
                        }
                        _ if equal == Equal::IsAfter => break,
                        _ if level == 0 || !node.is_removed() => return Some(node),
                        // Removed since its link was loaded, so that link is marked by now.
                        _ => continue,
                    }
                    next = after;
                }
                place.before[level] = before;
                place.after[level] = next;
            }
            return None;
        }
    }

    fn insert<'g, G: Guard>(&'g self, key: &SearchKey<'_>, hash: u64, guard: &'g G) -> NodeRef<'g, V> {
        let height = height_of(key, hash);
        let mut place = Place::at_head(self.head.node());
        if let Some(node) = self.place(key, height, Equal::IsFound, &mut place, guard) {
            return node;
        }
        match self.insert_at(key, height, &mut place, guard) {
            Ok(node) | Err(node) => node,
        }
    }

    /// Inserts a node of `height` for a key whose place at the levels below that was found. If somebody else was faster:
    /// the node of the key.
    #[inline]
    fn insert_at<'g, G: Guard>(
        &'g self,
        key: &SearchKey<'_>,
        height: usize,
        place: &mut Place<'g, V>,
        guard: &'g G,
    ) -> Result<NodeRef<'g, V>, NodeRef<'g, V>> {
        let flags = if height == 1 { BUILT } else { 0 };
        let new = OwnedNode::new(key, height, flags, guard.memory());
        loop {
            for level in 0..height {
                new.set_link(level, place.after[level]);
            }
            // INVARIANT 1: from here on the node is the one of its key.
            if place.before[0]
                .link(0)
                .exchange(place.after[0], new.as_next(), Change::Insert)
            {
                break;
            }
            if let Some(node) = self.place(key, height, Equal::IsFound, place, guard) {
                return Err(node);
            }
        }
        let node = new.published();
        if height > 1 {
            self.build(node, key, place, guard);
        }
        Ok(node)
    }

    /// Links a node at the levels above 0, unless it is removed meanwhile.
    fn build<'g, G: Guard>(
        &'g self,
        node: NodeRef<'g, V>,
        key: &SearchKey<'_>,
        place: &mut Place<'g, V>,
        guard: &'g G,
    ) {
        let height = node.height();
        self.raise_levels(height);
        'levels: for level in 1..height {
            loop {
                let planned = node.link(level).load(guard);
                let after = place.after[level];
                let is_removed = planned.is_marked()
                    || planned != after && !node.link(level).exchange(planned, after, Change::Build);
                if is_removed {
                    break 'levels;
                }
                if place.before[level]
                    .link(level)
                    .exchange(after, node.as_next(), Change::Build)
                {
                    break;
                }
                self.place(key, height, Equal::IsAfter, place, guard);
            }
        }
        if node.raise(BUILT) & GONE != 0 {
            // The remover came first and left the rest to this thread.
            self.unlink(node, guard);
            self.retire_node(node, guard);
        }
    }

    /// Removes exactly this node, whoever else does so too.
    fn remove_node<'g, G: Guard>(&'g self, node: NodeRef<'g, V>, guard: &'g G) {
        for level in (1..node.height()).rev() {
            node.link(level).mark();
        }
        if !node.link(0).mark() {
            return;
        }
        let is_built = node.flags() & BUILT != 0 || node.raise(GONE) & BUILT != 0;
        if is_built {
            self.unlink(node, guard);
            self.retire_node(node, guard);
        }
    }

    /// Unlinks every removed node with the key of `gone` at the levels of `gone`.
    #[cold]
    fn unlink<'g, G: Guard>(&'g self, gone: NodeRef<'g, V>, guard: &'g G) {
        let key = &gone.search_key();
        let height = gone.height();
        'again: loop {
            // Always smaller than the key: a level below may hold the node between this one and a newer node of the key.
            let mut before = self.head.node();
            let mut greater = Next::END;
            for level in (height..self.levels()).rev() {
                (before, _) = Self::look(before, level, key, &mut greater, guard);
            }
            for level in (0..height).rev() {
                let mut at = before;
                let mut next = at.link(level).load(guard);
                if next.is_marked() {
                    continue 'again;
                }
                while let Some(node) = next.node() {
                    let after = node.link(level).load(guard);
                    if after.is_marked() {
                        if !at.link(level).exchange(next, after.unmarked(), Change::Unlink) {
                            continue 'again;
                        }
                        next = after.unmarked();
                        continue;
                    }
                    at = node;
                    match node.compare_at(level, key) {
                        Ordering::Less => before = node,
                        Ordering::Equal => {}
                        Ordering::Greater => break,
                    }
                    next = after;
                }
            }
            return;
        }
    }

    /// Hands a node over to the collector: marked, unlinked at every level, and out of its inserter's hands.
    fn retire_node<'g, G: Guard>(&'g self, node: NodeRef<'g, V>, guard: &'g G) {
        // SAFETY: marked and unlinked everywhere, and its inserter links it nowhere any more; only one thread was second.
        // INVARIANT 5.
        unsafe { node.retire(&self.hints, guard) };
    }
}

/// Returns how high the node of a key with that hash is to be: at each height half as likely as at the one below. That the
/// bits which decide it also choose the bucket of the key's hint harms neither.
#[cfg(not(loom))]
#[inline]
fn height_of(_: &SearchKey<'_>, hash: u64) -> usize {
    (hash.trailing_zeros() as usize + 1).min(MAX_HEIGHT)
}

/// Returns how high the node of a key is to be, as the model wants it: its last byte.
#[cfg(loom)]
fn height_of(key: &SearchKey<'_>, _: u64) -> usize {
    usize::from(key.last_byte()).clamp(1, MAX_HEIGHT)
}

/// Asks for the nodes to which a search goes if the next one at `level` is too great. So what a search waits for is where
/// it goes right, not where it goes down.
#[inline(always)]
fn prefetch_below<'g, V, G: Guard>(node: NodeRef<'g, V>, level: usize, guard: &'g G) {
    if level > 0 && !cfg!(loom) {
        node.link(level - 1).load(guard).prefetch_at(level - 1);
    }
    if level > 1 && !cfg!(loom) {
        node.link(level - 2).load(guard).prefetch_at(level - 2);
    }
}

impl<V, R, const HINTS: bool> Index<V, R> for SkipList<V, HINTS>
where
    V: Default + Send + Sync + 'static,
    R: Reclaim,
{
    type Node<'g> = Found<'g, V>;

    fn new(_: &R) -> Self {
        Self::empty()
    }

    #[inline]
    fn find<'g>(&'g self, key: &Key, guard: &'g R::Guard<'_>) -> Option<Found<'g, V>> {
        let key = &SearchKey::new(key);
        if !HINTS {
            return self.search(key, guard).map(Found);
        }
        let hash = self.hash_of(key);
        self.hinted(key, hash, guard)
            .or_else(|| self.search_and_hint(key, hash, guard))
            .map(Found)
    }

    #[inline]
    fn find_or_insert<'g>(&'g self, key: &Key, guard: &'g R::Guard<'_>) -> Found<'g, V> {
        let key = &SearchKey::new(key);
        let hash = self.hash_of(key);
        if !HINTS {
            return Found(self.insert(key, hash, guard));
        }
        Found(self.hinted(key, hash, guard).unwrap_or_else(|| {
            let node = self.insert(key, hash, guard);
            // SAFETY: found through the list in this pin; its memory waits for the hints (`retire_node`).
            unsafe { self.hints.store(hash, node, guard) };
            node
        }))
    }

    fn insert_sorted<'g, T>(
        &'g self,
        items: impl IntoIterator<Item = (Key, T)>,
        guard: &'g R::Guard<'_>,
        visit: impl FnMut(Found<'g, V>, T),
    ) {
        self.insert_in_order(items, guard, visit);
    }

    fn remove<'g>(&'g self, node: Found<'g, V>, guard: &'g R::Guard<'_>) {
        self.remove_node(node.0, guard);
    }

    fn walk_ahead<'g>(
        &'g self,
        bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        expected: Option<usize>,
        guard: &'g R::Guard<'_>,
        ahead: impl Fn(&'g V),
        mut visit: impl FnMut(Found<'g, V>) -> ControlFlow<()>,
    ) {
        let bounds = (bounds.0.map(SearchKey::new), bounds.1.map(SearchKey::new));
        let visit = |node| visit(Found(node));
        match direction {
            Direction::Ascending => self.ascend(bounds, expected, guard, ahead, visit),
            Direction::Descending => self.descend(bounds, expected, guard, ahead, visit),
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "skiplist/tests.rs"]
mod tests;

#[cfg(all(test, not(loom)))]
#[path = "skiplist/history_tests.rs"]
mod history_tests;
