//! Reclamation by Hyaline, through seize.
//!
//! A batch of retired objects is counted by the threads that were pinned when it was retired, and freed
//! by whichever leaves last (Nikolaev and Ravindran, PLDI 2021). Without its robust extension a stalled guard
//! still holds back what is retired while it is active.
//!
//! seize asks that every load of a protected pointer take part in its barrier: `SEQ_CST_LOADS`, a plain load on x86-64.
//!
//! **Progress.** Lock-free; the library issues a process-wide barrier (`membarrier`) once per batch.

use super::{Counters, Guard, Heap, Leave, Reclaim, Retired, Totals, note_freed};

/// A store's own seize collector.
pub struct HyalineReclaim {
    collector: seize::Collector,
    counters: Counters,
}

/// What is kept for each thread here: nothing, since the library finds its own.
pub struct Nothing;

impl Leave for Nothing {
    fn leave(&self) {}
}

impl Reclaim for HyalineReclaim {
    type Local = Nothing;
    type Memory = Heap;
    type Guard<'a> = HyalineGuard<'a>;

    fn new() -> Self {
        Self {
            collector: seize::Collector::new(),
            counters: Counters::default(),
        }
    }

    fn register(&self) -> Nothing {
        Nothing
    }

    #[inline]
    fn pin<'a>(&'a self, _: &'a Nothing) -> HyalineGuard<'a> {
        HyalineGuard {
            guard: Some(self.collector.enter()),
            counters: &self.counters,
        }
    }

    fn totals(&self) -> Totals {
        self.counters.totals()
    }
}

impl Drop for HyalineReclaim {
    fn drop(&mut self) {
        // What is left is freed here, and not by the library's own drop, so that what asks for one more grace period
        // gets it: the first call retires that anew.
        for _ in 0..2 {
            // SAFETY: the store is being dropped: no guard is left, and what was retired is reachable no more.
            unsafe { self.collector.reclaim_all() };
        }
    }
}

/// A pinned thread.
pub struct HyalineGuard<'a> {
    /// `None` only while it is being dropped.
    guard: Option<seize::LocalGuard<'a>>,
    counters: &'a Counters,
}

/// Frees one object for seize and counts it, or retires it once more if it asks for that.
///
/// # Safety
///
/// As for [`Retired::reclaim`].
unsafe fn expire<T: Retired>(ptr: *mut T, collector: &seize::Collector) {
    use seize::Guard as _;
    // SAFETY: not reclaimed before, so still valid.
    if unsafe { T::expire(ptr) } {
        let guard = collector.enter();
        // SAFETY: unlinked before its first retirement, and freed by that call alone.
        unsafe { guard.defer_retire(ptr, reclaim_counted::<T>) };
    } else {
        // SAFETY: guaranteed by the caller.
        unsafe { reclaim_counted(ptr, collector) };
    }
}

/// Frees one object for seize, and counts it.
///
/// # Safety
///
/// As for [`Retired::reclaim`].
unsafe fn reclaim_counted<T: Retired>(ptr: *mut T, _: &seize::Collector) {
    // SAFETY: not reclaimed before, so still valid.
    let bytes = unsafe { &*ptr }.bytes();
    // SAFETY: guaranteed by the caller.
    unsafe { T::reclaim(ptr, &Heap) };
    note_freed(bytes);
}

impl Guard for HyalineGuard<'_> {
    type Memory = Heap;

    fn memory(&self) -> &Heap {
        &Heap
    }

    const SEQ_CST_LOADS: bool = true;

    #[inline]
    unsafe fn retire<T: Retired>(&self, ptr: *mut T) {
        use seize::Guard as _;
        // SAFETY: `ptr` is valid by contract.
        self.counters.mine().retired(unsafe { &*ptr }.bytes());
        let guard = self.guard.as_ref().expect("set until the guard is dropped");
        // SAFETY: the contract of `retire` is that of `defer_retire`, and `T: Send`.
        self.counters
            .counting_frees(|| unsafe { guard.defer_retire(ptr, expire::<T>) });
    }

    fn flush(&self) {
        use seize::Guard as _;
        if let Some(guard) = &self.guard {
            self.counters.counting_frees(|| guard.flush());
        }
    }
}

impl Drop for HyalineGuard<'_> {
    fn drop(&mut self) {
        self.counters.counting_frees(|| drop(self.guard.take()));
    }
}
