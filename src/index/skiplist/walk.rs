//! Ranges of the list, in either direction.
//!
//! Ascending is a walk along level 0. Descending there is nothing to follow: a walk searches for a node some way before
//! the end of what is left, goes from there along level 0 and remembers what it passes, then hands that out backwards,
//! and again from there. The way is short at first and longer with each turn, so that a search is spread over more
//! and more nodes: O(1) for each, and O(log n) for the first.
//!
//! A walk shows, in order and each once, every node that is linked from before the walk begins until it ends, and of
//! those that come or go meanwhile some. It is the argument of searches (`skiplist.rs`), step by step: every node
//! greater than the one just passed, and linked throughout, can be reached from its link.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};

use super::SkipList;
use super::node::{NodeRef, SearchKey};
use crate::reclaim::Guard;

/// Levels at which a walk remembers where it is.
const TRACKED: usize = if cfg!(loom) { 1 } else { 3 };

/// Nodes of one block of a descending walk at most.
const BLOCK: usize = if cfg!(loom) { 2 } else { 128 };

impl<V: Default + Send + Sync + 'static, const HINTS: bool> SkipList<V, HINTS> {
    /// Returns the last nodes, at the lowest levels, that are before everything from `low` on.
    fn path_to<'g, G: Guard>(&'g self, low: &Bound<SearchKey<'_>>, guard: &'g G) -> [NodeRef<'g, V>; TRACKED] {
        let mut before = self.head.node();
        let mut path = [before; TRACKED];
        let (key, with_equal) = match low {
            Bound::Unbounded => return path,
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
        };
        for level in (0..self.levels()).rev() {
            let mut next = before.link(level).load(guard);
            while let Some(node) = next.node() {
                let after = node.link(level).load(guard);
                if !after.is_marked() {
                    match node.compare(key) {
                        Ordering::Less => before = node,
                        Ordering::Equal if with_equal => before = node,
                        _ => break,
                    }
                }
                next = after;
            }
            if level < TRACKED {
                path[level] = before;
            }
        }
        path
    }

    pub(super) fn ascend<'g, G: Guard>(
        &'g self,
        low: Bound<SearchKey<'_>>,
        high: Bound<SearchKey<'_>>,
        guard: &'g G,
        mut visit: impl FnMut(NodeRef<'g, V>) -> ControlFlow<()>,
    ) {
        let path = self.path_to(&low, guard);
        let mut next = path[0].link(0).load(guard);
        while let Some(node) = next.node() {
            let after = node.link(0).load(guard);
            after.prefetch();
            next = after;
            if after.is_marked() {
                continue;
            }
            if is_beyond(node, &high) || visit(node).is_break() {
                return;
            }
        }
    }

    pub(super) fn descend<'g, G: Guard>(
        &'g self,
        low: Bound<SearchKey<'_>>,
        high: Bound<SearchKey<'_>>,
        guard: &'g G,
        mut visit: impl FnMut(NodeRef<'g, V>) -> ControlFlow<()>,
    ) {
        let mut high = high;
        let mut level = 0;
        loop {
            let start = self.last_before(&high, level, guard);
            let mut ring: [Option<NodeRef<'g, V>>; BLOCK] = [None; BLOCK];
            let mut count = 0;
            let mut next = start.as_next();
            if start == self.head.node() {
                next = start.link(0).load(guard);
            }
            while let Some(node) = next.node() {
                let after = node.link(0).load(guard);
                after.prefetch();
                next = after;
                if is_beyond(node, &high) {
                    break;
                }
                if !after.is_marked() && !is_before(node, &low) {
                    ring[count % BLOCK] = Some(node);
                    count += 1;
                }
            }
            let kept = count.min(BLOCK);
            for back in 1..=kept {
                let Some(node) = ring[(count - back) % BLOCK] else {
                    break;
                };
                if visit(node).is_break() {
                    return;
                }
            }
            let first = if count > BLOCK { ring[count % BLOCK] } else { None };
            let first = first.unwrap_or(start);
            if first == self.head.node() || is_before(first, &low) {
                return;
            }
            high = Bound::Excluded(first.search_key());
            level = (level + 1).min(TRACKED);
        }
    }

    fn last_before<'g, G: Guard>(&'g self, high: &Bound<SearchKey<'_>>, lowest: usize, guard: &'g G) -> NodeRef<'g, V> {
        let mut before = self.head.node();
        for level in (lowest..self.levels().max(lowest + 1)).rev() {
            let mut next = before.link(level).load(guard);
            while let Some(node) = next.node() {
                let after = node.link(level).load(guard);
                if !after.is_marked() {
                    if is_beyond(node, high) {
                        break;
                    }
                    before = node;
                }
                next = after;
            }
        }
        before
    }
}

/// Says whether a node lies behind the upper end of a range.
#[inline]
fn is_beyond<V>(node: NodeRef<'_, V>, high: &Bound<SearchKey<'_>>) -> bool {
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
