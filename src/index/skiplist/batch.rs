//! Many keys at once: searches that wait together, and a list that is built from sorted keys.
//!
//! A search waits for one node after the other. Several searches that take turns wait for as many nodes at the same time:
//! each step looks at a node that was asked for a whole turn before. Among a million keys that lie in memory a lookup then
//! takes a third of the time; with half as many searches, half; with twice as many, no less. From the cache it gains little.
//!
//! Sorted keys need no search: each goes behind the last node of every level of its tower. That takes 0.4 of the time of
//! inserting the same keys in order, which is fast already since each search stays in the cache.
#![forbid(unsafe_code)]

use std::cmp::Ordering;

use super::key::SearchKey;
use super::node::{BUILT, Change, Next, NodeRef, OwnedNode};
use super::{Found, MAX_HEIGHT, SkipList, height_of, prefetch_below};
use crate::reclaim::Guard;
use crate::types::Key;

/// Searches that take turns.
const AT_ONCE: usize = 16;

/// A search on its way.
struct Search<'g, 'k, V> {
    key: SearchKey<'k>,
    before: NodeRef<'g, V>,
    level: usize,
    /// The node that it was about to look at, asked for in its last turn.
    next: Next<'g, V>,
    /// The node that ended a level above.
    greater: Next<'g, V>,
}

/// How a search's turn ends.
enum Turn<'g, V> {
    IsOpen,
    Found(NodeRef<'g, V>),
    Absent,
}

impl<'g, 'k, V> Search<'g, 'k, V> {
    fn new<G: Guard>(key: SearchKey<'k>, head: NodeRef<'g, V>, levels: usize, guard: &'g G) -> Self {
        let level = levels - 1;
        let next = head.link(level).load(guard).unmarked();
        next.prefetch_at(level);
        Self {
            key,
            before: head,
            level,
            next,
            greater: Next::END,
        }
    }

    /// Looks at one node, by the rules of `SkipList::look`, and asks for the next.
    #[inline]
    fn step<G: Guard>(&mut self, guard: &'g G) -> Turn<'g, V> {
        let node = self.next.node().filter(|_| self.next != self.greater);
        let ordering = node.map_or(Ordering::Greater, |node| node.compare_at(self.level, &self.key));
        match node {
            Some(node) if ordering != Ordering::Greater => {
                let after = node.link(self.level).load(guard);
                if !after.is_marked() {
                    if ordering == Ordering::Less {
                        self.before = node;
                        prefetch_below(node, self.level, guard);
                    } else if !node.is_removed() {
                        return Turn::Found(node);
                    }
                }
                self.next = after.unmarked();
            }
            _ => {
                self.greater = self.next;
                let Some(level) = self.level.checked_sub(1) else {
                    return Turn::Absent;
                };
                self.level = level;
                self.next = self.before.link(level).load(guard).unmarked();
            }
        }
        self.next.prefetch_at(self.level);
        Turn::IsOpen
    }
}

impl<V: Default + Send + Sync + 'static, const HINTS: bool> SkipList<V, HINTS> {
    /// Finds the nodes of many keys, in any order, and tells `found` which key, by its number, has which node. Does not
    /// look at hints. O(log n) for each key, with less waiting than one search after the other.
    pub fn find_many<'g, G: Guard>(
        &'g self,
        keys: &[Key],
        guard: &'g G,
        mut found: impl FnMut(usize, Option<Found<'g, V>>),
    ) {
        let mut waiting = keys.iter().enumerate();
        let levels = self.levels();
        let mut start = || {
            let (number, key) = waiting.next()?;
            let search = Search::new(SearchKey::new(key), self.head.node(), levels, guard);
            Some((number, search))
        };
        let mut searches: [Option<(usize, Search<'g, '_, V>)>; AT_ONCE] = std::array::from_fn(|_| start());
        loop {
            let mut is_done = true;
            for place in &mut searches {
                let Some((number, search)) = place else { continue };
                is_done = false;
                let node = match search.step(guard) {
                    Turn::IsOpen => continue,
                    Turn::Found(node) => Some(Found(node)),
                    Turn::Absent => None,
                };
                found(*number, node);
                *place = start();
            }
            if is_done {
                return;
            }
        }
    }

    /// Appends keys that are sorted and greater than every key of the list, each with what `fill` makes of its value.
    /// O(log n), and O(1) for each key.
    ///
    /// # Panics
    ///
    /// If a key is not greater than the one before it. The list then holds those before.
    pub fn append_sorted<T, G: Guard>(
        &mut self,
        items: impl IntoIterator<Item = (Key, T)>,
        guard: &G,
        mut fill: impl FnMut(&V, T),
    ) {
        let list = &*self;
        let mut last = [list.head.node(); MAX_HEIGHT];
        let mut before = list.head.node();
        for level in (0..MAX_HEIGHT).rev() {
            while let Some(node) = before.link(level).load(guard).node() {
                before = node;
            }
            last[level] = before;
        }
        for (key, item) in items {
            let key = &SearchKey::new(&key);
            assert!(
                last[0] == list.head.node() || last[0].compare(key) == Ordering::Less,
                "keys are appended in ascending order"
            );
            let height = height_of(key, list.hash_of(key));
            let new = OwnedNode::new(key, height, BUILT, guard.memory());
            fill(new.value(), item);
            for (level, last) in last[..height].iter().enumerate() {
                // Exclusive access: it does not fail.
                let linked = last.link(level).exchange(Next::END, new.as_next(), Change::Insert);
                assert!(linked, "nobody else has the list");
            }
            last[..height].fill(new.published());
            list.raise_levels(height);
        }
    }
}
