//! The index over `crossbeam_skiplist::base::SkipList`.
//!
//! `base` takes a guard and counts no references on lookups; the map on top of it would. Two rules keep version
//! 0.1.3 safe here: a key is only ever inserted with `get_or_insert`, never `insert`, which unlinks a live node first
//! and so hides its key from readers; and only an exact node is removed, through the entry that was found.
//!
//! Its own nodes go through crossbeam-epoch, so it is an index for stores that reclaim by [`EpochReclaim`].
//! Every insertion writes the list's shared length and seed: it is the comparison, and not the last word.
#![forbid(unsafe_code)]

use std::ops::{Bound, ControlFlow};

use crossbeam_skiplist::base::{Entry, SkipList};

use super::{Direction, Index, Node};
use crate::reclaim::{EpochGuard, EpochReclaim};
use crate::types::Key;

/// The library's skiplist behind the seam.
pub struct CrossbeamIndex<V> {
    list: SkipList<Key, V>,
}

impl<'g, V> Node<'g, V> for Entry<'g, 'g, Key, V>
where
    V: Send + 'static,
{
    #[inline]
    fn key(&self) -> Key {
        Entry::key(self).clone()
    }

    #[inline]
    fn key_bytes(&self) -> &'g [u8] {
        Entry::key(self).as_bytes()
    }

    #[inline]
    fn value(&self) -> &'g V {
        Entry::value(self)
    }

    #[inline]
    fn is_linked(&self) -> bool {
        !self.is_removed()
    }
}

impl<V> Index<V, EpochReclaim> for CrossbeamIndex<V>
where
    V: Default + Send + Sync + 'static,
{
    type Node<'g> = Entry<'g, 'g, Key, V>;

    fn new(reclaim: &EpochReclaim) -> Self {
        Self {
            list: SkipList::new(reclaim.collector().clone()),
        }
    }

    #[inline]
    fn find<'g>(&'g self, key: &Key, guard: &'g EpochGuard<'_>) -> Option<Self::Node<'g>> {
        self.list.get(key, guard.epoch())
    }

    #[inline]
    fn find_or_insert<'g>(&'g self, key: &Key, guard: &'g EpochGuard<'_>) -> Self::Node<'g> {
        loop {
            if let Some(node) = self.list.get(key, guard.epoch()) {
                return node;
            }
            // Whether this thread or another inserted it makes no difference: an empty value holds nothing.
            self.list
                .get_or_insert_with(key.clone(), V::default, guard.epoch())
                .release(guard.epoch());
        }
    }

    fn remove<'g>(&'g self, node: Self::Node<'g>, guard: &'g EpochGuard<'_>) {
        // Once marked, the node is unlinked by the search that marking ends with, or by any later one that meets it.
        if !node.remove() {
            let _ = self.list.get(Entry::key(&node), guard.epoch());
        }
    }

    fn walk_ahead<'g>(
        &'g self,
        bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        _expected: Option<usize>,
        guard: &'g EpochGuard<'_>,
        _ahead: impl Fn(&'g V),
        mut visit: impl FnMut(Self::Node<'g>) -> ControlFlow<()>,
    ) {
        let mut range = self.list.range::<Key, _>(bounds, guard.epoch());
        loop {
            let next = match direction {
                Direction::Ascending => range.next(),
                Direction::Descending => range.next_back(),
            };
            match next {
                Some(node) if visit(node.clone()).is_continue() => {}
                _ => return,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::reclaim::Reclaim;
    use crate::types::{RunId, TypeTag};

    fn key(name: &str) -> Key {
        Key::new(&RunId::from_bytes([3; 16]), TypeTag::Raw, name.as_bytes())
    }

    #[test]
    fn a_removed_key_comes_back_as_another_node() {
        let reclaim = EpochReclaim::new();
        let local = reclaim.register();
        let index = <CrossbeamIndex<u64> as Index<u64, EpochReclaim>>::new(&reclaim);
        let guard = reclaim.pin(&local);
        let find = |name| Index::<u64, EpochReclaim>::find(&index, &key(name), &guard);
        assert!(find("a").is_none());
        let first = Index::<u64, EpochReclaim>::find_or_insert(&index, &key("a"), &guard);
        assert!(first.is_linked());
        Index::<u64, EpochReclaim>::remove(&index, first.clone(), &guard);
        Index::<u64, EpochReclaim>::remove(&index, first.clone(), &guard);
        assert!(!first.is_linked());
        assert!(find("a").is_none());
        let second = Index::<u64, EpochReclaim>::find_or_insert(&index, &key("a"), &guard);
        assert!(second.is_linked());
        Index::<u64, EpochReclaim>::remove(&index, first, &guard);
        assert!(second.is_linked(), "removing the old node left the new one alone");
    }

    #[test]
    fn a_walk_goes_both_ways_within_its_bounds() {
        let reclaim = EpochReclaim::new();
        let local = reclaim.register();
        let index = <CrossbeamIndex<u64> as Index<u64, EpochReclaim>>::new(&reclaim);
        let guard = reclaim.pin(&local);
        for name in ["c", "a", "d", "b"] {
            Index::<u64, EpochReclaim>::find_or_insert(&index, &key(name), &guard);
        }
        let names = |direction| {
            let (low, high) = (key("a"), key("d"));
            let bounds = (Bound::Excluded(&low), Bound::Included(&high));
            let mut names = String::new();
            Index::<u64, EpochReclaim>::walk(&index, bounds, direction, &guard, |node| {
                names.push(char::from(*Node::key(&node).user_key().last().expect("not empty")));
                ControlFlow::Continue(())
            });
            names
        };
        assert_eq!(names(Direction::Ascending), "bcd");
        assert_eq!(names(Direction::Descending), "dcb");
    }
}
