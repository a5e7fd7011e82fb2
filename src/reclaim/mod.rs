//! When unlinked memory may be freed: the seam between the versioned store and a collector.
//!
//! A thread [pins](Reclaim::pin) for the length of one operation. What it can reach while pinned stays allocated.
//! Whoever unlinks something, so that no thread that pins later can reach it, [retires](Guard::retire) it; the
//! collector reclaims it once every thread pinned at that time has let go.
//!
//! | variant | library | what an experiment compares |
//! |---|---|---|
//! | [`EpochReclaim`] (default) | crossbeam-epoch | epochs (Fraser, 2004): cheap pins, one stalled reader holds everything back |
//! | [`HyalineReclaim`] | seize | Hyaline (Nikolaev and Ravindran, PLDI 2021): reference counts per batch, freed by whoever leaves last |
//! | `ModelReclaim` | none, loom builds only | an ideal collector that catches use after free, double retirement and leaks |
//!
//! # Invariants
//!
//! 1. Each collector belongs to one store, and every guard that reaches a store's memory comes from that store's
//!    collector: guards are made by the store alone and never leave the engine.
//! 2. What is retired was unlinked before and is retired once.
//! 3. Pins nest, also across a user's closure: no borrow of per-thread state is held while a closure runs.
//!
//! What a stalled pin holds back is unbounded in all variants; [`Totals`] shows how much it is.

mod epoch;
mod hyaline;
#[cfg(loom)]
mod model;

use crossbeam_utils::CachePadded;

pub use self::epoch::EpochReclaim;
pub(crate) use self::epoch::PinsEpoch;
pub use self::hyaline::HyalineReclaim;
#[cfg(loom)]
pub use self::model::ModelReclaim;
use crate::sync::{Counter, PerThread};

/// Something that a collector can free.
///
/// # Safety
///
/// `reclaim` must free exactly what `ptr` owns, be callable on any thread, and never panic.
pub unsafe trait Retired: Sized + Send {
    /// Frees it.
    ///
    /// # Safety
    ///
    /// `ptr` is the pointer that was retired, nothing reaches it any more, and this is the only call.
    unsafe fn reclaim(ptr: *mut Self);

    /// Returns how many bytes it occupies.
    fn bytes(&self) -> usize;

    /// Returns the mark that [`Tracked::check`] looks at.
    fn tracked(&self) -> &Tracked;
}

/// A mark in every reclaimed object: nothing in a normal build, and under loom the object's life, checked at every
/// dereference.
#[derive(Debug)]
#[cfg_attr(not(loom), derive(Default))]
pub struct Tracked {
    #[cfg(loom)]
    life: std::sync::atomic::AtomicU8,
    /// loom reports it as a leak if the object is never dropped.
    #[cfg(loom)]
    _leak: loom::alloc::Track<()>,
}

#[cfg(loom)]
impl Default for Tracked {
    fn default() -> Self {
        Self {
            life: std::sync::atomic::AtomicU8::new(0),
            _leak: loom::alloc::Track::new(()),
        }
    }
}

impl Tracked {
    /// Panics, under loom, if the object was freed.
    #[inline(always)]
    pub(crate) fn check(&self) {
        #[cfg(loom)]
        assert!(
            self.life.load(std::sync::atomic::Ordering::Relaxed) < model::FREED,
            "use after free"
        );
    }
}

/// A collector.
pub trait Reclaim: Send + Sync + Sized + 'static {
    /// What a pinned thread holds.
    type Guard<'a>: Guard;

    /// Returns a collector with nothing in it.
    fn new() -> Self;

    /// Pins this thread: what it reaches from now on stays allocated until the guard is dropped.
    fn pin(&self) -> Self::Guard<'_>;

    /// Returns what was retired and what was freed so far, by all threads.
    fn totals(&self) -> Totals;
}

/// The proof that this thread is pinned.
pub trait Guard {
    /// Hands over something unlinked, to be freed when no pinned thread can reach it.
    ///
    /// # Safety
    ///
    /// `ptr` came from the allocation that [`Retired::reclaim`] frees, is valid, no thread that pins later can reach
    /// it, and it was not retired before (invariant 2).
    unsafe fn retire<T: Retired>(&self, ptr: *mut T);

    /// Hands over what this thread has retired so far, and frees what can be freed.
    fn flush(&self) {}

    /// Whether every load of a protected pointer must be `SeqCst` for this collector.
    const SEQ_CST_LOADS: bool = false;
}

/// Sums over all threads of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Objects retired so far.
    pub retired: u64,
    /// Bytes retired so far.
    pub retired_bytes: u64,
    /// Objects freed so far.
    pub freed: u64,
    /// Bytes freed so far.
    pub freed_bytes: u64,
}

/// Counters of what was retired and freed, one padded set per thread.
struct Counters {
    threads: PerThread<CachePadded<ThreadCounters>>,
}

#[derive(Default)]
struct ThreadCounters {
    retired: Counter,
    retired_bytes: Counter,
    freed: Counter,
    freed_bytes: Counter,
}

impl Counters {
    fn new() -> Self {
        Self {
            threads: PerThread::new(),
        }
    }

    #[inline]
    fn mine(&self) -> &ThreadCounters {
        self.threads.get_or(CachePadded::default)
    }

    #[inline]
    fn retired(&self, bytes: usize) {
        let mine = self.mine();
        mine.retired.add(1);
        mine.retired_bytes.add(bytes as u64);
    }

    #[inline]
    fn freed(&self, objects: u64, bytes: u64) {
        let mine = self.mine();
        mine.freed.add(objects);
        mine.freed_bytes.add(bytes);
    }

    fn totals(&self) -> Totals {
        self.threads.iter().fold(Totals::default(), |sum, thread| Totals {
            retired: sum.retired + thread.retired.get(),
            retired_bytes: sum.retired_bytes + thread.retired_bytes.get(),
            freed: sum.freed + thread.freed.get(),
            freed_bytes: sum.freed_bytes + thread.freed_bytes.get(),
        })
    }
}
