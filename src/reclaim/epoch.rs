//! Reclamation by epochs, through crossbeam-epoch.
//!
//! A collector of the store's own, never the process-wide one: two stores must not hold back each other's
//! garbage. A thread's registration lives in per-thread state of the store, and passes to the thread
//! that is given the same slot later. Retired objects travel in the library's bags; whichever thread advances the
//! epoch frees them, which costs allocations and foreign frees: what an own collector is to remove.
//!
//! **Progress.** Lock-free: pinning and retiring never wait. One stalled guard holds all garbage back.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use crossbeam_epoch::{Collector, LocalHandle};

use super::stack::Stack;
use super::{Counters, FREED, Guard, Heap, Leave, Reclaim, Retired, Totals, note_freed};
use crate::sync::{AtomicU64, order};

/// A store's own crossbeam-epoch collector.
pub struct EpochReclaim {
    // Dropped before `shared`, as every handle of the collector is.
    collector: Collector,
    shared: Arc<Shared>,
}

/// What deferred calls need. Each thread's registration holds it, and whoever drops the last registration runs what is
/// left.
struct Shared {
    counters: Counters,
    /// What was freed as threads ended.
    late_objects: AtomicU64,
    late_bytes: AtomicU64,
    /// Garbage that asked for one more grace period. A deferred call has no guard to defer again with; whoever retires
    /// or flushes next has.
    again: Stack<Again>,
}

/// Garbage that has expired and waits to be deferred again.
struct Again {
    garbage: *mut (),
    bytes: usize,
    free: unsafe fn(*mut ()),
}

// SAFETY: made of a `T: Retired`, which is `Send`.
unsafe impl Send for Again {}

impl Again {
    /// Frees the garbage and counts it.
    ///
    /// # Safety
    ///
    /// As for [`Retired::reclaim`].
    unsafe fn run(self) {
        // SAFETY: guaranteed by the caller.
        unsafe { (self.free)(self.garbage) };
        note_freed(self.bytes);
    }
}

/// Frees a `T`.
///
/// # Safety
///
/// As for [`Retired::reclaim`].
unsafe fn free<T: Retired>(garbage: *mut ()) {
    // SAFETY: guaranteed by the caller.
    unsafe { T::reclaim(garbage.cast::<T>(), &Heap) };
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last registration is gone, so nobody is pinned or ever will be.
        self.again.take_all(|again| {
            // SAFETY: nobody is pinned any more, so the second grace period is over too.
            unsafe { (again.free)(again.garbage) };
        });
    }
}

/// Bytes that a thread retires before it hands its bag over and frees what it can. The library counts objects, and some
/// dozens of large values would hold back megabytes.
const FLUSH_BYTES: usize = 256 << 10;

/// One thread's registration with the collector.
pub struct Registration {
    handle: ManuallyDrop<LocalHandle>,
    /// Bytes retired since the bag was last handed over.
    unflushed: Cell<usize>,
    shared: Arc<Shared>,
}

// SAFETY: a `LocalHandle` may not be used by two threads at once. A store gives it to one thread at a time: its
// owner, after that thread's end the next owner of its record, and at last whoever drops the record, exclusively.
unsafe impl Send for Registration {}

impl Registration {
    /// Runs a call of the library at a thread's end, when the thread's own counts may be gone already.
    fn counting_late_frees(&self, call: impl FnOnce()) {
        let before = FREED.get();
        call();
        let after = FREED.get();
        // ORDERING: Relaxed; a statistic.
        self.shared.late_objects.fetch_add(after.0 - before.0, order::COUNT);
        self.shared.late_bytes.fetch_add(after.1 - before.1, order::COUNT);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and before `shared`, in which the last handle's garbage counts itself.
        let handle = unsafe { ManuallyDrop::take(&mut self.handle) };
        self.counting_late_frees(|| drop(handle));
    }
}

impl Leave for Registration {
    fn leave(&self) {
        self.counting_late_frees(|| self.handle.pin().flush());
    }
}

impl EpochReclaim {
    /// Returns the collector, for an index that frees its own nodes through it.
    pub fn collector(&self) -> &Collector {
        &self.collector
    }
}

impl Reclaim for EpochReclaim {
    type Local = Registration;
    type Memory = Heap;
    type Guard<'a> = EpochGuard<'a>;

    fn new() -> Self {
        Self {
            collector: Collector::new(),
            shared: Arc::new(Shared {
                counters: Counters::default(),
                late_objects: AtomicU64::new(0),
                late_bytes: AtomicU64::new(0),
                again: Stack::new(),
            }),
        }
    }

    fn register(&self) -> Registration {
        Registration {
            handle: ManuallyDrop::new(self.collector.register()),
            unflushed: Cell::new(0),
            shared: Arc::clone(&self.shared),
        }
    }

    #[inline]
    fn pin<'a>(&'a self, local: &'a Registration) -> EpochGuard<'a> {
        EpochGuard {
            guard: self.shared.counters.counting_frees(|| local.handle.pin()),
            local,
        }
    }

    fn totals(&self) -> Totals {
        let mut totals = self.shared.counters.totals();
        // ORDERING: Relaxed; a statistic.
        totals.freed += self.shared.late_objects.load(order::COUNT);
        totals.freed_bytes += self.shared.late_bytes.load(order::COUNT);
        totals
    }
}

/// A pinned thread.
pub struct EpochGuard<'a> {
    guard: crossbeam_epoch::Guard,
    local: &'a Registration,
}

/// Pointers that a deferred call carries to the thread that runs it.
struct Deferred<T> {
    garbage: *mut T,
    shared: *const Shared,
}

impl<T: Retired> Deferred<T> {
    /// Frees the garbage, or has it deferred once more if it asks for that.
    ///
    /// # Safety
    ///
    /// As for [`Retired::reclaim`]; and `shared` still exists.
    unsafe fn run(self) {
        // SAFETY: not reclaimed before, so still valid.
        let bytes = unsafe { &*self.garbage }.bytes();
        let again = Again {
            garbage: self.garbage.cast(),
            bytes,
            free: free::<T>,
        };
        // SAFETY: valid, by contract.
        if unsafe { T::expire(self.garbage) } {
            // SAFETY: exists, by contract.
            unsafe { &*self.shared }.again.push(again);
        } else {
            // SAFETY: guaranteed by the caller.
            unsafe { again.run() };
        }
    }
}

impl EpochGuard<'_> {
    /// Returns the library's guard, as its skiplist needs for its own nodes.
    #[inline]
    pub(crate) fn epoch(&self) -> &crossbeam_epoch::Guard {
        &self.guard
    }

    /// Defers what has expired once already.
    #[inline]
    fn defer_again(&self) {
        self.local.shared.again.take_all(|again| {
            // SAFETY: it runs after every thread pinned now has unpinned.
            let call = move || unsafe { again.run() };
            // SAFETY: the garbage may be freed by any thread, and the call owns all it needs.
            unsafe { self.guard.defer_unchecked(call) };
        });
    }
}

impl Guard for EpochGuard<'_> {
    type Memory = Heap;

    fn memory(&self) -> &Heap {
        &Heap
    }

    #[inline]
    unsafe fn retire<T: Retired>(&self, ptr: *mut T) {
        // SAFETY: `ptr` is valid by contract.
        let bytes = unsafe { &*ptr }.bytes();
        let shared = &self.local.shared;
        shared.counters.mine().retired(bytes);
        let deferred = Deferred {
            garbage: ptr,
            shared: Arc::as_ptr(shared),
        };
        // SAFETY: it runs once, after every thread pinned now has unpinned, and `ptr` is unlinked. `shared` outlives it:
        // what is left is run by whoever drops the last handle of the collector. That is a registration, which is
        // dropped before its share of `shared`; the store's own handle and one in an index of the same store are
        // dropped before the store's registrations (by the order of the fields of `VersionedStore`).
        let call = move || unsafe { deferred.run() };
        // SAFETY: `T: Send`, and the call owns all it needs.
        shared
            .counters
            .counting_frees(|| unsafe { self.guard.defer_unchecked(call) });
        let unflushed = self.local.unflushed.get() + bytes;
        self.local
            .unflushed
            .set(if unflushed < FLUSH_BYTES { unflushed } else { 0 });
        if unflushed >= FLUSH_BYTES {
            self.flush();
        } else {
            self.defer_again();
        }
    }

    fn flush(&self) {
        self.defer_again();
        self.local.shared.counters.counting_frees(|| self.guard.flush());
    }
}
