//! A stand-in for the index in loom builds: a few slots, one per key, with the contract of the seam and a visible
//! step for each access.
//!
//! A slot is null or points to the key's node. Insertion swings null to a node, removal swings that very node to null
//! and retires it. A key's slot is the last byte of its encoding. This is the index of the explicit-state model that
//! the commit protocol was explored with; the towers of a real skiplist need models of their own.

use std::ops::{Bound, ControlFlow};

use super::{Direction, Index, Node};
use crate::reclaim::{Guard, Memory, ModelReclaim, Retired, Tracked};
use crate::sync::{AtomicPtr, order};
use crate::types::Key;

/// Keys that a model may use: user keys ending in byte 0, 1 or 2.
const SLOTS: usize = 3;

/// The index.
pub struct ModelIndex<V> {
    slots: [AtomicPtr<ModelNode<V>>; SLOTS],
}

struct ModelNode<V> {
    key: Key,
    value: V,
    tracked: Tracked,
}

// SAFETY: frees the box that `find_or_insert` leaked.
unsafe impl<V: Send> Retired for ModelNode<V> {
    unsafe fn reclaim<M: Memory>(ptr: *mut Self, _memory: &M) {
        // SAFETY: came from `Box::into_raw`; the only call, by contract.
        drop(unsafe { Box::from_raw(ptr) });
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn tracked(&self) -> &Tracked {
        &self.tracked
    }
}

/// A node that was found.
pub struct Found<'g, V> {
    node: &'g ModelNode<V>,
    slot: &'g AtomicPtr<ModelNode<V>>,
}

impl<V> Clone for Found<'_, V> {
    fn clone(&self) -> Self {
        Self {
            node: self.node,
            slot: self.slot,
        }
    }
}

impl<'g, V> Node<'g, V> for Found<'g, V> {
    fn key(&self) -> Key {
        self.node.tracked.check();
        self.node.key.clone()
    }

    fn key_bytes(&self) -> &'g [u8] {
        self.node.tracked.check();
        self.node.key.as_bytes()
    }

    fn value(&self) -> &'g V {
        self.node.tracked.check();
        &self.node.value
    }

    fn is_linked(&self) -> bool {
        std::ptr::eq(self.slot.load(order::READ_NODE), self.node)
    }
}

impl<V> ModelIndex<V> {
    fn slot(&self, key: &[u8]) -> &AtomicPtr<ModelNode<V>> {
        &self.slots[usize::from(*key.last().expect("keys are not empty"))]
    }

    fn found<'g>(&'g self, slot: &'g AtomicPtr<ModelNode<V>>) -> Option<Found<'g, V>> {
        // SAFETY: null, or linked under the caller's guard, which keeps it readable; loom builds check the mark.
        let node = unsafe { slot.load(order::READ_NODE).as_ref() }?;
        node.tracked.check();
        Some(Found { node, slot })
    }
}

impl<V: Default + Send + Sync + 'static> Index<V, ModelReclaim> for ModelIndex<V> {
    type Node<'g> = Found<'g, V>;

    fn new(_: &ModelReclaim) -> Self {
        Self {
            slots: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
        }
    }

    fn find<'g>(
        &'g self,
        key: &Key,
        _: &'g <ModelReclaim as crate::reclaim::Reclaim>::Guard<'_>,
    ) -> Option<Found<'g, V>> {
        self.found(self.slot(key.as_bytes()))
    }

    fn find_or_insert<'g>(
        &'g self,
        key: &Key,
        _: &'g <ModelReclaim as crate::reclaim::Reclaim>::Guard<'_>,
    ) -> Found<'g, V> {
        let slot = self.slot(key.as_bytes());
        loop {
            if let Some(found) = self.found(slot) {
                return found;
            }
            let node = Box::into_raw(Box::new(ModelNode {
                key: key.clone(),
                value: V::default(),
                tracked: Tracked::default(),
            }));
            let linked = slot.compare_exchange(std::ptr::null_mut(), node, order::LINK_NODE, order::READ_NODE);
            if linked.is_err() {
                // SAFETY: never published.
                drop(unsafe { Box::from_raw(node) });
            }
        }
    }

    fn remove<'g>(&'g self, found: Found<'g, V>, guard: &'g <ModelReclaim as crate::reclaim::Reclaim>::Guard<'_>) {
        let node = std::ptr::from_ref(found.node).cast_mut();
        if found
            .slot
            .compare_exchange(node, std::ptr::null_mut(), order::LINK_NODE, order::READ_NODE)
            .is_ok()
        {
            // SAFETY: this thread unlinked it, so it does so once and no later pin reaches it.
            unsafe { guard.retire(node) };
        }
    }

    fn walk_ahead<'g>(
        &'g self,
        _bounds: (Bound<&Key>, Bound<&Key>),
        direction: Direction,
        _expected: Option<usize>,
        _: &'g <ModelReclaim as crate::reclaim::Reclaim>::Guard<'_>,
        _ahead: impl Fn(&'g V),
        mut visit: impl FnMut(Found<'g, V>) -> ControlFlow<()>,
    ) {
        let mut slots: Vec<_> = self.slots.iter().collect();
        if direction == Direction::Descending {
            slots.reverse();
        }
        for found in slots.into_iter().filter_map(|slot| self.found(slot)) {
            if visit(found).is_break() {
                return;
            }
        }
    }
}

impl<V> Drop for ModelIndex<V> {
    fn drop(&mut self) {
        for slot in &self.slots {
            let node = slot.load(order::READ_NODE);
            if !node.is_null() {
                // SAFETY: exclusive access; linked nodes were leaked from a box and never retired.
                drop(unsafe { Box::from_raw(node) });
            }
        }
    }
}
