//! A toy index with hints beside it, for models and stress tests of the hints alone: a few cells with at most one node
//! each, which is made dead, unlinked, retired and forgotten as a real index's nodes are.
//!
//! It can make each of the mistakes that the rules of hints forbid ([`Mistake`]), so that the tests show that they would
//! see them.

use std::ptr::NonNull;
use std::sync::Arc;

use super::hints::{Hinted, Hints, KeyHash};
use crate::reclaim::{Guard, Memory, Reclaim, Retired, Totals, Tracked};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, order};

/// What is done wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// Nothing.
    Nothing,
    /// A removed node is freed after one grace period, when its hints have just been taken away.
    OneGracePeriod,
    /// Hints are not taken away.
    NoForgetting,
    /// Hints are stored and moved although nobody has seen their nodes live.
    StoreUnseen,
    /// Hints are taken away only where the node would be stored now.
    ForgetAtOneSize,
}

/// A node of the toy index.
struct Node {
    /// Its key, which is the hash as well.
    key: u64,
    /// Changes when the node is reclaimed.
    check: AtomicU64,
    is_dead: AtomicBool,
    shared: Arc<Shared>,
    tracked: Tracked,
}

/// What nodes and index share.
struct Shared {
    hints: Hints<Node>,
    mistake: Mistake,
    /// Reclaimed nodes that keep their memory, marked, so that no use of one goes unseen. `None` where none
    /// are, and once the index is being dropped.
    kept: std::sync::Mutex<Option<Vec<Kept>>>,
}

impl Shared {
    fn kept(&self) -> std::sync::MutexGuard<'_, Option<Vec<Kept>>> {
        self.kept.lock().expect("nobody panics while holding it")
    }
}

struct Kept(*mut Node);

// SAFETY: the only pointer to a reclaimed node, freed by whoever drops the list.
unsafe impl Send for Kept {}

const RECLAIMED: u64 = u64::MAX;

impl Node {
    fn is(&self, key: u64) -> bool {
        self.check();
        self.key == key
    }

    fn was_not_dead(&self) -> bool {
        self.check();
        // ORDERING: Relaxed; a pin after the retirement comes after the store.
        !self.is_dead.load(order::COUNT)
    }

    /// Panics if the node was reclaimed.
    fn check(&self) {
        self.tracked.check();
        // ORDERING: Relaxed; a correct run never reclaims a node that can still be checked.
        let check = self.check.load(order::COUNT);
        assert!(check == !self.key, "use after free");
    }
}

// SAFETY: `is_dead` is set before the node is unlinked and retired; the key never changes.
unsafe impl Hinted for Node {
    type Seen<'g> = &'g Self;

    unsafe fn see<'g>(node: NonNull<Self>) -> &'g Self {
        // SAFETY: guaranteed by the caller.
        unsafe { node.as_ref() }
    }

    fn address(node: &Self) -> NonNull<Self> {
        NonNull::from(node)
    }

    fn is_live(node: &Self) -> bool {
        node.check();
        node.shared.mistake == Mistake::StoreUnseen || node.was_not_dead()
    }

    fn key_hash(node: &Self, _: &KeyHash) -> u64 {
        node.check();
        node.key
    }
}

// SAFETY: frees the box that `insert` leaked, once; runs no user code and does not panic in a correct run.
unsafe impl Retired for Node {
    unsafe fn expire(ptr: *mut Self) -> bool {
        // SAFETY: still valid, by contract.
        let node = unsafe { &*ptr };
        match node.shared.mistake {
            Mistake::NoForgetting => {}
            Mistake::ForgetAtOneSize => node.shared.hints.forget_at_one_size(node),
            _ => node.shared.hints.forget(node),
        }
        node.shared.mistake != Mistake::OneGracePeriod
    }

    unsafe fn reclaim<M: Memory>(ptr: *mut Self, _memory: &M) {
        // SAFETY: still valid, by contract.
        let node = unsafe { &*ptr };
        // ORDERING: Relaxed; nobody reads it any more in a correct run.
        node.check.store(RECLAIMED, order::COUNT);
        if let Some(kept) = &mut *node.shared.kept() {
            return kept.push(Kept(ptr));
        }
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

/// The toy index and its collector.
pub struct HintedModel<R: Reclaim> {
    /// Each holds the node of one key, or null.
    cells: Box<[(u64, AtomicPtr<Node>)]>,
    shared: Arc<Shared>,
    reclaim: R,
}

impl<R: Reclaim> HintedModel<R> {
    /// Returns an empty index for the given keys, whose hints have `first` buckets and may get `most`.
    pub fn new(keys: &[u64], first: usize, most: usize, mistake: Mistake, keeps_memory: bool) -> Self {
        Self {
            cells: keys
                .iter()
                .map(|key| (*key, AtomicPtr::new(std::ptr::null_mut())))
                .collect(),
            shared: Arc::new(Shared {
                hints: Hints::with_sizes(first, most),
                mistake,
                kept: std::sync::Mutex::new(keeps_memory.then(Vec::new)),
            }),
            reclaim: R::new(),
        }
    }

    /// Registers a thread with the collector.
    pub fn register(&self) -> R::Local {
        self.reclaim.register()
    }

    /// Pins the thread.
    pub fn pin<'a>(&'a self, local: &'a R::Local) -> R::Guard<'a> {
        self.reclaim.pin(local)
    }

    /// Says whether there is a hint to a live node of cell number `cell`.
    pub fn find_hint(&self, cell: usize, guard: &R::Guard<'_>) -> bool {
        self.hold_hint(cell, guard, || {})
    }

    /// As `find_hint`, and calls `hold` while it has the node.
    pub fn hold_hint(&self, cell: usize, guard: &R::Guard<'_>, hold: impl FnOnce()) -> bool {
        let hints = &self.shared.hints;
        let key = self.cells[cell].0;
        let Some(node) = hints.find(key, guard, |node| node.is(key)) else {
            return false;
        };
        let was_not_dead = node.was_not_dead();
        hold();
        node.check();
        was_not_dead
    }

    /// Finds the hint to cell number `cell` and stores it again, as after growth, if its node is live.
    pub fn refresh(&self, cell: usize, guard: &R::Guard<'_>) {
        let hints = &self.shared.hints;
        let key = self.cells[cell].0;
        if let Some(node) = hints.find(key, guard, |node| node.is(key))
            && Node::is_live(node)
        {
            // SAFETY: seen live under this guard, but for the mistake that the tests are to find; retired by `remove`.
            unsafe { hints.store(key, node, guard) };
        }
    }

    /// Says whether cell number `cell` has a node, by a hint or else by a search that leaves one.
    pub fn get(&self, cell: usize, guard: &R::Guard<'_>) -> bool {
        self.find_hint(cell, guard) || self.search(cell, guard)
    }

    /// Says whether cell number `cell` has a node, and leaves a hint to it.
    pub fn search(&self, cell: usize, guard: &R::Guard<'_>) -> bool {
        let (key, cell) = &self.cells[cell];
        // SAFETY: null, or linked under the guard, which keeps it readable.
        let Some(node) = (unsafe { cell.load(order::READ_NODE).as_ref() }) else {
            return false;
        };
        node.check();
        // SAFETY: found in the index under this guard; retired by `remove`, with `expire` above.
        unsafe { self.shared.hints.store(*key, node, guard) };
        true
    }

    /// Gives cell number `cell` a node if it has none; says whether it did.
    pub fn insert(&self, cell: usize, _: &R::Guard<'_>) -> bool {
        let (key, cell) = &self.cells[cell];
        if !cell.load(order::READ_NODE).is_null() {
            return false;
        }
        let node = Box::into_raw(Box::new(Node {
            key: *key,
            check: AtomicU64::new(!*key),
            is_dead: AtomicBool::new(false),
            shared: Arc::clone(&self.shared),
            tracked: Tracked::default(),
        }));
        let linked = cell.compare_exchange(std::ptr::null_mut(), node, order::LINK_NODE, order::READ_NODE);
        if linked.is_err() {
            // SAFETY: never published.
            drop(unsafe { Box::from_raw(node) });
        }
        linked.is_ok()
    }

    /// Removes the node of cell number `cell`; says whether this call did.
    pub fn remove(&self, cell: usize, guard: &R::Guard<'_>) -> bool {
        let (_, cell) = &self.cells[cell];
        let ptr = cell.load(order::READ_NODE);
        // SAFETY: null, or linked under the guard, which keeps it readable.
        let Some(node) = (unsafe { ptr.as_ref() }) else {
            return false;
        };
        node.check();
        // ORDERING: Relaxed; unlinking is what publishes, and the retirement.
        let killed = node
            .is_dead
            .compare_exchange(false, true, order::COUNT, order::COUNT)
            .is_ok();
        if killed {
            let unlinked = cell.compare_exchange(ptr, std::ptr::null_mut(), order::LINK_NODE, order::READ_NODE);
            assert!(unlinked.is_ok(), "only who killed it unlinks it");
            // SAFETY: unlinked by this thread, hence once; hints to it are taken away by `expire`.
            unsafe { guard.retire(ptr) };
        }
        killed
    }

    /// Returns what was retired and freed.
    pub fn totals(&self) -> Totals {
        self.reclaim.totals()
    }

    /// Returns how much memory the hints take.
    pub fn hint_bytes(&self) -> usize {
        self.shared.hints.bytes()
    }
}

impl<R: Reclaim> Drop for HintedModel<R> {
    fn drop(&mut self) {
        // A failed model unwinds outside of loom, where atomics cannot be touched.
        if std::thread::panicking() {
            return;
        }
        for (_, cell) in &self.cells {
            let node = cell.load(order::READ_NODE);
            if !node.is_null() {
                // SAFETY: exclusive access; linked nodes were leaked from a box and never retired.
                drop(unsafe { Box::from_raw(node) });
            }
        }
        for node in self.shared.kept().take().into_iter().flatten() {
            // SAFETY: reclaimed, so that nothing but the list has it.
            drop(unsafe { Box::from_raw(node.0) });
        }
    }
}
