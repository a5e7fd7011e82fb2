//! Reclamation by epochs, through crossbeam-epoch.
//!
//! A collector of the store's own, never the process-wide one: two stores must not hold back each other's
//! garbage. A thread's registration lives in per-thread state of the store, and passes to the thread
//! that is given the same slot later. Retired objects travel in the library's bags; whichever thread advances the
//! epoch frees them, which costs allocations and foreign frees: what an own collector is to remove.
//!
//! **Progress.** Lock-free: pinning and retiring never wait. One stalled guard holds all garbage back.

use std::cell::Cell;

use crossbeam_epoch::{Collector, LocalHandle};

use super::{Counters, Guard, Reclaim, Retired, Totals};
use crate::sync::PerThread;

/// Guards that also pin a crossbeam-epoch collector, as the library's skiplist needs for its own nodes.
pub trait PinsEpoch {
    /// Returns the library's guard.
    fn epoch(&self) -> &crossbeam_epoch::Guard;
}

/// A store's own crossbeam-epoch collector.
pub struct EpochReclaim {
    // Dropped in this order: garbage left in the collector is freed with it, and counts itself in `counters`.
    threads: PerThread<Registration>,
    collector: Collector,
    counters: Box<Counters>,
}

/// Bytes that a thread retires before it hands its bag over and frees what it can. The library counts objects, and some
/// dozens of large values would hold back megabytes.
const FLUSH_BYTES: usize = 256 << 10;

/// One thread's registration with the collector.
struct Registration {
    handle: LocalHandle,
    /// Bytes retired since the bag was last handed over.
    unflushed: Cell<usize>,
}

// SAFETY: a `LocalHandle` may not be used by two threads at once. `PerThread` gives it to one thread at a time: its
// owner, after that thread's end the next owner of the slot, and at last whoever drops the store, exclusively.
unsafe impl Send for Registration {}

impl EpochReclaim {
    /// Returns the collector, for an index that frees its own nodes through it.
    pub fn collector(&self) -> &Collector {
        &self.collector
    }
}

impl Reclaim for EpochReclaim {
    type Guard<'a> = EpochGuard<'a>;

    fn new() -> Self {
        Self {
            threads: PerThread::new(),
            collector: Collector::new(),
            counters: Box::new(Counters::new()),
        }
    }

    #[inline]
    fn pin(&self) -> EpochGuard<'_> {
        let registration = self.threads.get_or(|| Registration {
            handle: self.collector.register(),
            unflushed: Cell::new(0),
        });
        EpochGuard {
            guard: registration.handle.pin(),
            registration,
            counters: &self.counters,
        }
    }

    fn totals(&self) -> Totals {
        self.counters.totals()
    }
}

/// A pinned thread.
pub struct EpochGuard<'a> {
    guard: crossbeam_epoch::Guard,
    registration: &'a Registration,
    counters: &'a Counters,
}

impl PinsEpoch for EpochGuard<'_> {
    #[inline]
    fn epoch(&self) -> &crossbeam_epoch::Guard {
        &self.guard
    }
}

/// Pointers that a deferred call carries to the thread that runs it.
struct Deferred<T> {
    garbage: *mut T,
    counters: *const Counters,
}

impl<T: Retired> Deferred<T> {
    /// Frees the garbage and counts it.
    ///
    /// # Safety
    ///
    /// As for [`Retired::reclaim`]; and the counters still exist.
    unsafe fn run(self) {
        // SAFETY: not reclaimed before, so still valid.
        let bytes = unsafe { &*self.garbage }.bytes();
        // SAFETY: guaranteed by the caller.
        unsafe { T::reclaim(self.garbage) };
        // SAFETY: guaranteed by the caller.
        let counters = unsafe { &*self.counters };
        counters.freed(1, bytes as u64);
    }
}

impl Guard for EpochGuard<'_> {
    #[inline]
    unsafe fn retire<T: Retired>(&self, ptr: *mut T) {
        // SAFETY: `ptr` is valid by contract.
        let bytes = unsafe { &*ptr }.bytes();
        self.counters.retired(bytes);
        let deferred = Deferred {
            garbage: ptr,
            counters: self.counters,
        };
        // SAFETY: it runs once, after every thread pinned now has unpinned, and `ptr` is unlinked. The counters outlive
        // it: the last handle of the collector, which runs what is left, is dropped before them. Here that is by the
        // order of the fields; the one other handle is in an index of the same store, which is dropped before this
        // collector (by the order of the fields of `VersionedStore`).
        let call = move || unsafe { deferred.run() };
        // SAFETY: `T: Send`, and the call owns all it needs.
        unsafe { self.guard.defer_unchecked(call) };
        let unflushed = self.registration.unflushed.get() + bytes;
        self.registration
            .unflushed
            .set(if unflushed < FLUSH_BYTES { unflushed } else { 0 });
        if unflushed >= FLUSH_BYTES {
            self.guard.flush();
        }
    }

    fn flush(&self) {
        self.guard.flush();
    }
}
