//! What runs ahead of a walk and brings the nodes that it will come to into the cache.
//!
//! Along level 0 each node must arrive before the next one's address is known. But a node with a tower leads to one node
//! for each level, and each of those on to others: of nodes `h` levels high every one is found from the last node before
//! it that is as high. The scout spreads out over all these links at once, looks at nodes in the order in which it asked
//! for them, and at last goes a few steps along level 0 from all towers in turn. So it waits some fifteen times for a
//! hundred nodes, and the walk for almost none. What it finds is a guess on which nothing depends: in loom builds it does
//! nothing.
//!
//! Tried and dropped: going along every fourth level and then the second from there (1.5 times as long, for a hundred
//! nodes out of a million); a step of the scout with each step of the walk (2 times: whatever it looks at has not arrived
//! yet); spreading out over level 0 too (as long from memory, but 1.3 to 1.8 times from the cache: half of all nodes have
//! no tower, and each of them is a branch that cannot be foreseen).
#![forbid(unsafe_code)]

use std::ops::Bound;

use super::key::SearchKey;
use super::node::{Next, NodeRef};
use super::walk::is_beyond;
use crate::reclaim::Guard;

/// Levels at which a walk remembers where it is.
pub(super) const TRACKED: usize = if cfg!(loom) { 1 } else { 8 };

/// Nodes that a walk is expected to visit if nobody says how many; four times as many when it does.
const EXPECTED: usize = 16;

/// Most nodes that are brought in one turn, about: they, and what their values lead to, should fit the first cache.
const MOST_AT_ONCE: usize = 128;

/// Nodes that a walk visits without a scout, if nobody says that it will be longer.
const WITHOUT_SCOUT: usize = 3;

/// Nodes that a walk visits before it finds out anew where the scout should be, whose end may have been removed.
const PATIENCE: usize = 1024;

/// Levels along which a scout goes from one stretch of nodes to the next: of some 8, or 32.
const SHORT_STRETCH: usize = 3;
const LONG_STRETCH: usize = 5;

/// Nodes that a scout may wait for. What there is no room for is left to the walk.
const ASKED: usize = 64;

/// Nodes with towers that it remembers in a turn.
const TALL: usize = 128;

/// Steps that it goes from each of those along level 0.
const SHORT_STEPS: usize = 5;

/// A scout, and where it has been.
pub(super) struct Scout<'g, V> {
    /// The last nodes, at the lowest levels, up to where it has been.
    front: [NodeRef<'g, V>; TRACKED],
    /// The end of what it has brought: the node at which it is to go on.
    end: Option<NodeRef<'g, V>>,
    /// Nodes that the walk is still expected to visit.
    expected: usize,
    /// Whether that number is the caller's.
    is_told: bool,
    /// Nodes that the walk may visit before the scout goes on without having seen it come to the end.
    patience: usize,
    /// Nodes that were asked for, oldest first, each with the level at which a link to it was found.
    asked: [Option<(NodeRef<'g, V>, usize)>; ASKED],
    first: usize,
    count: usize,
    /// Nodes with towers that were found in this turn.
    tall: [Option<NodeRef<'g, V>>; TALL],
    found: usize,
}

impl<'g, V> Scout<'g, V> {
    /// Returns a scout that starts from the nodes before a walk.
    pub(super) fn new(front: [NodeRef<'g, V>; TRACKED], expected: Option<usize>) -> Self {
        let is_short = expected.is_some_and(|expected| expected <= WITHOUT_SCOUT);
        Self {
            front,
            end: None,
            expected: expected.unwrap_or(EXPECTED),
            is_told: expected.is_some(),
            patience: match expected {
                _ if cfg!(loom) || is_short => usize::MAX,
                Some(_) => 1,
                None => WITHOUT_SCOUT,
            },
            asked: [None; ASKED],
            first: 0,
            count: 0,
            tall: [None; TALL],
            found: 0,
        }
    }

    /// Brings the nodes between `start`, which has that level, and the next node of that level.
    pub(super) fn bring<G: Guard>(start: NodeRef<'g, V>, level: usize, ahead: &impl Fn(&'g V), guard: &'g G) {
        if cfg!(loom) {
            return;
        }
        let mut scout = Self::new([start; TRACKED], None);
        scout.remember(start);
        scout.spread(start, level, Next::END, guard);
        scout.look(usize::MAX, guard);
        scout.go_short_ways(ahead, guard);
    }

    /// Starts anew from the nodes before the walk's next one.
    pub(super) fn start_from(&mut self, front: [NodeRef<'g, V>; TRACKED]) {
        self.front = front;
        self.end = None;
        self.patience = 1;
    }

    /// Takes note that the walk visits a node, and goes on if it has come to the end. Returns false if the end was not
    /// seen for long.
    #[inline]
    pub(super) fn follow<G: Guard>(
        &mut self,
        node: NodeRef<'g, V>,
        high: &Bound<SearchKey<'_>>,
        ahead: &impl Fn(&'g V),
        guard: &'g G,
    ) -> bool {
        self.patience -= 1;
        if self.end == Some(node) || self.patience == 0 && self.end.is_none() {
            self.go_on(high, ahead, guard);
        }
        self.patience > 0
    }

    /// Brings what lies behind the front.
    #[cold]
    fn go_on<G: Guard>(&mut self, high: &Bound<SearchKey<'_>>, ahead: &impl Fn(&'g V), guard: &'g G) {
        let nodes = self.expected.min(MOST_AT_ONCE);
        let level = if nodes > 1 << LONG_STRETCH {
            LONG_STRETCH
        } else {
            SHORT_STRETCH
        };
        // One more than the mean asks for: stretches differ.
        let stretches = (nodes >> level) + 1;
        self.expected = match self.expected.checked_sub(nodes) {
            Some(left) if left > 0 => left,
            _ if self.is_told => MOST_AT_ONCE / 2,
            _ => 4 * self.expected,
        };
        let mut end = self.front[level].link(level).load(guard).unmarked();
        end.prefetch_whole(level);
        let mut known = end;
        for level in (1..level).rev() {
            known = self.ask(self.front[level].link(level).load(guard), level, known);
        }
        self.found = 0;
        self.remember(self.front[0]);
        for _ in 0..stretches {
            self.look(self.count, guard);
            let Some(node) = end.node().filter(|node| !is_beyond(*node, high)) else {
                break;
            };
            end = node.link(level).load(guard).unmarked();
            end.prefetch_whole(level);
            self.remember(node);
            self.spread(node, level, end, guard);
        }
        self.look(usize::MAX, guard);
        self.go_short_ways(ahead, guard);
        self.end = end.node();
        self.patience = PATIENCE;
        match self.end {
            Some(end) => {
                let height = end.height().min(TRACKED);
                self.front[..height].fill(end);
            }
            // Nothing is left to bring.
            None => self.patience = usize::MAX,
        }
    }

    /// Asks for a node with a tower, to be looked at later, if it is not the one known from the level above. Returns the
    /// node that is known then.
    #[inline]
    fn ask(&mut self, next: Next<'g, V>, level: usize, known: Next<'g, V>) -> Next<'g, V> {
        let next = next.unmarked();
        if next != known {
            next.prefetch_whole(level);
            if self.count < ASKED
                && let Some(node) = next.node()
            {
                self.asked[(self.first + self.count) % ASKED] = Some((node, level));
                self.count += 1;
            }
        }
        next
    }

    /// Asks for the nodes to which `node` leads below `height`.
    #[inline]
    fn spread<G: Guard>(&mut self, node: NodeRef<'g, V>, height: usize, known: Next<'g, V>, guard: &'g G) {
        let mut known = known;
        for level in (1..height).rev() {
            known = self.ask(node.link(level).load(guard), level, known);
        }
    }

    /// Looks at some of the nodes that were asked for, oldest first, and asks for those to which they lead.
    #[inline]
    fn look<G: Guard>(&mut self, most: usize, guard: &'g G) {
        for _ in 0..most {
            if self.count == 0 {
                return;
            }
            let asked = self.asked[self.first % ASKED];
            self.first += 1;
            self.count -= 1;
            // A higher one is found at a level above.
            if let Some((node, level)) = asked
                && node.height() == level + 1
            {
                self.remember(node);
                self.spread(node, level + 1, Next::END, guard);
            }
        }
    }

    /// Remembers a node with a tower.
    #[inline]
    fn remember(&mut self, node: NodeRef<'g, V>) {
        if self.found < TALL {
            self.tall[self.found] = Some(node);
            self.found += 1;
        }
    }

    /// Goes along level 0 from all nodes with towers, in turn, over the nodes without one.
    fn go_short_ways<G: Guard>(&mut self, ahead: &impl Fn(&'g V), guard: &'g G) {
        for _ in 0..SHORT_STEPS {
            for place in &mut self.tall[..self.found] {
                let Some(node) = *place else { continue };
                ahead(node.value());
                let next = node.link(0).load(guard);
                next.prefetch_whole(0);
                *place = next.node();
            }
        }
    }
}
