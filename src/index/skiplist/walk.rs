//! Ranges of the list, in either direction.
//!
//! Ascending is a walk along level 0. Descending there is nothing to follow: a walk searches for a node some way before
//! the end of what is left, goes from there along level 0 and remembers what it passes, then hands that out backwards,
//! and again from there. The way is short at first and longer with each turn, so that a search is spread over more
//! and more nodes: O(1) for each, and O(log n) for the first.
//!
//! A walk shows, in order and each once, every node that is linked from before the walk begins until it ends, and of
//! those that come or go meanwhile some. It is the argument of searches (`skiplist.rs`), step by step: every node
//! greater than the one just passed, and linked throughout, can be reached from its link. A block that is handed out
//! backwards was passed in one walk upwards, from a node that a search went to; the next one ends where it began.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};

use super::key::SearchKey;
use super::node::{Next, NodeRef};
use super::scout::{Scout, TRACKED};
use super::{SkipList, prefetch_below};
use crate::reclaim::Guard;

/// Nodes of one block of a descending walk at most.
const BLOCK: usize = if cfg!(loom) { 2 } else { 256 };

/// Nodes that a descending walk is expected to visit if nobody says how many.
const BLOCK_AT_FIRST: usize = 4;

impl<V: Default + Send + Sync + 'static, const HINTS: bool> SkipList<V, HINTS> {
    /// Returns the last nodes, at the lowest levels, that are before everything from `low` on, and the link that led from
    /// there into the range. Read once more, that link might lead to a node before the range, inserted meanwhile.
    fn path_to<'g, G: Guard>(
        &'g self,
        low: &Bound<SearchKey<'_>>,
        guard: &'g G,
    ) -> ([NodeRef<'g, V>; TRACKED], Next<'g, V>) {
        let mut before = self.head.node();
        let mut path = [before; TRACKED];
        let (key, with_equal) = match low {
            Bound::Unbounded => return (path, before.link(0).load(guard)),
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
        };
        let mut first = Next::END;
        for level in (0..self.levels()).rev() {
            let mut next = before.link(level).load(guard);
            prefetch_below(before, level, guard);
            while let Some(node) = next.node() {
                let after = node.link(level).load(guard);
                if !after.is_marked() {
                    match node.compare_at(level, key) {
                        Ordering::Less => {}
                        Ordering::Equal if with_equal => {}
                        _ => break,
                    }
                    before = node;
                    after.prefetch_at(level);
                    prefetch_below(before, level, guard);
                }
                next = after;
            }
            if level < TRACKED {
                path[level] = before;
            }
            first = next;
        }
        (path, first)
    }

    /// Visits the nodes of a range in ascending order.
    pub(super) fn ascend<'g, G: Guard>(
        &'g self,
        (low, high): (Bound<SearchKey<'_>>, Bound<SearchKey<'_>>),
        expected: Option<usize>,
        guard: &'g G,
        ahead: impl Fn(&'g V),
        mut visit: impl FnMut(NodeRef<'g, V>) -> ControlFlow<()>,
    ) {
        let (path, mut next) = self.path_to(&low, guard);
        let mut scout = Scout::new(path, expected);
        while let Some(node) = next.node() {
            let after = node.link(0).load(guard);
            next = after;
            if after.is_marked() {
                continue;
            }
            if is_beyond(node, &high) {
                return;
            }
            if !scout.follow(node, &high, &ahead, guard) {
                let (path, _) = self.path_to(&Bound::Excluded(node.search_key()), guard);
                scout.start_from(path);
            }
            if visit(node).is_break() {
                return;
            }
        }
    }

    /// Visits the nodes of a range in descending order.
    pub(super) fn descend<'g, G: Guard>(
        &'g self,
        (low, high): (Bound<SearchKey<'_>>, Bound<SearchKey<'_>>),
        expected: Option<usize>,
        guard: &'g G,
        ahead: impl Fn(&'g V),
        mut visit: impl FnMut(NodeRef<'g, V>) -> ControlFlow<()>,
    ) {
        let mut high = high;
        let mut expected = expected.unwrap_or(BLOCK_AT_FIRST);
        let mut block: [Option<NodeRef<'g, V>>; BLOCK] = [None; BLOCK];
        loop {
            let level = (expected.max(2).ilog2() as usize + 1).min(TRACKED);
            let start = self.last_before(&high, level, guard);
            Scout::bring(start, level, &ahead, guard);
            // The last nodes of the way, in a ring: more than it holds are left for the next turn.
            let mut count = 0;
            let mut next = if start == self.head.node() {
                start.link(0).load(guard)
            } else {
                start.as_next()
            };
            while let Some(node) = next.node() {
                let after = node.link(0).load(guard);
                next = after;
                if is_beyond(node, &high) {
                    break;
                }
                if !after.is_marked() && !is_before(node, &low) {
                    block[count % BLOCK] = Some(node);
                    count += 1;
                }
            }
            for back in 1..=count.min(BLOCK) {
                let Some(node) = block[(count - back) % BLOCK] else {
                    break;
                };
                if visit(node).is_break() {
                    return;
                }
            }
            let first = if count > BLOCK { block[count % BLOCK] } else { None };
            let first = first.unwrap_or(start);
            if first == self.head.node() || is_before(first, &low) {
                return;
            }
            high = Bound::Excluded(first.search_key());
            // What is left of a short walk, or longer and longer ways.
            expected = match expected.checked_sub(count) {
                Some(left) if left > 0 => left,
                _ => BLOCK.min(4 * expected),
            };
        }
    }

    /// Returns the last node before the upper end of a range that was met at `lowest` or a higher level.
    fn last_before<'g, G: Guard>(&'g self, high: &Bound<SearchKey<'_>>, lowest: usize, guard: &'g G) -> NodeRef<'g, V> {
        let mut before = self.head.node();
        for level in (lowest..self.levels().max(lowest + 1)).rev() {
            let mut next = before.link(level).load(guard);
            prefetch_below(before, level, guard);
            while let Some(node) = next.node() {
                let after = node.link(level).load(guard);
                if !after.is_marked() {
                    if is_beyond(node, high) {
                        break;
                    }
                    before = node;
                    after.prefetch_at(level);
                    prefetch_below(before, level, guard);
                }
                next = after;
            }
        }
        before
    }
}

/// Says whether a node lies behind the upper end of a range.
#[inline]
pub(super) fn is_beyond<V>(node: NodeRef<'_, V>, high: &Bound<SearchKey<'_>>) -> bool {
    match high {
        Bound::Unbounded => false,
        Bound::Included(key) => node.compare(key) == Ordering::Greater,
        Bound::Excluded(key) => node.compare(key) != Ordering::Less,
    }
}

/// Says whether a node lies before the lower end of a range.
#[inline]
fn is_before<V>(node: NodeRef<'_, V>, low: &Bound<SearchKey<'_>>) -> bool {
    match low {
        Bound::Unbounded => false,
        Bound::Included(key) => node.compare(key) == Ordering::Less,
        Bound::Excluded(key) => node.compare(key) != Ordering::Greater,
    }
}
