//! When unlinked memory may be freed: the seam between the versioned store and a collector.
//!
//! A thread [pins](Reclaim::pin) for the length of one operation. What it can reach while pinned stays allocated.
//! Whoever unlinks something, so that no thread that pins later can reach it, [retires](Guard::retire) it; the
//! collector reclaims it once every thread pinned at that time has let go.
//!
//! | variant | library | what an experiment compares |
//! |---|---|---|
//! | [`LimboReclaim`] (default) | none, our own | limbo lists per thread, grace periods by turns: no shared word, versions come back to their thread |
//! | [`EpochReclaim`] | crossbeam-epoch | epochs (Fraser, 2004): cheap pins, one stalled reader holds everything back |
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
mod limbo;
#[cfg(loom)]
mod model;
mod pool;
mod prefetch;
mod stack;
#[cfg(not(loom))]
mod threads;

use std::alloc::{self, Layout};
use std::cell::Cell;
use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

pub(crate) use self::epoch::EpochGuard;
pub use self::epoch::EpochReclaim;
pub use self::hyaline::HyalineReclaim;
pub use self::limbo::LimboReclaim;
#[cfg(loom)]
pub use self::model::{ModelReclaim, ModelSlot};
pub(crate) use self::prefetch::prefetch;
#[cfg(not(loom))]
pub use self::threads::Leave;
#[cfg(not(loom))]
pub(crate) use self::threads::{Record, Threads};
#[cfg(loom)]
pub use crate::sync::Leave;
use crate::sync::{Counter, PerThread};
#[cfg(loom)]
pub(crate) use crate::sync::{Record, Threads};

/// Where the memory of versions, descriptors and nodes comes from and goes back to.
///
/// # Safety
///
/// `allocate` returns memory of the given layout that nothing else uses, until it is given to `free` of any memory
/// with the same layout: all implementations round a layout in the same way, with [`rounded`].
pub unsafe trait Memory {
    /// Returns uninitialised memory. Aborts the process if there is none, as the standard library does.
    fn allocate(&self, layout: Layout) -> NonNull<u8>;

    /// Takes memory back.
    ///
    /// # Safety
    ///
    /// `ptr` came from [`allocate`](Self::allocate) of some [`Memory`] with this very layout and is used no more.
    unsafe fn free(&self, ptr: NonNull<u8>, layout: Layout);
}

/// Rounds a layout up to the size that is really allocated, so that memory of near sizes can be used again.
#[inline]
pub(crate) fn rounded(layout: Layout) -> Layout {
    let step = layout.align().max(GRANULE);
    let size = layout.size().max(1).next_multiple_of(step);
    Layout::from_size_align(size, step).expect("values are far shorter than the address space")
}

/// Least size and alignment of what is allocated, in bytes.
pub(crate) const GRANULE: usize = 16;

/// The program's allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

// SAFETY: the global allocator's contract, for the rounded layout.
unsafe impl Memory for Heap {
    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        let layout = rounded(layout);
        // SAFETY: a rounded layout is not of size zero.
        let ptr = unsafe { alloc::alloc(layout) };
        NonNull::new(ptr).unwrap_or_else(|| alloc::handle_alloc_error(layout))
    }

    unsafe fn free(&self, ptr: NonNull<u8>, layout: Layout) {
        // SAFETY: allocated with the same rounded layout, by contract.
        unsafe { alloc::dealloc(ptr.as_ptr(), rounded(layout)) };
    }
}

/// Something that a collector can free.
///
/// # Safety
///
/// `expire` and `reclaim` must be callable on any thread, never panic and retire nothing, and `reclaim` must free exactly
/// what `ptr` owns.
pub unsafe trait Retired: Sized + Send {
    /// Called once, when no thread is left that was pinned at the retirement; `true` asks for one more grace period
    /// before [`reclaim`](Self::reclaim). For objects that something else than the structure they were unlinked from
    /// may still name.
    ///
    /// # Safety
    ///
    /// `ptr` is the pointer that was retired, and still valid.
    unsafe fn expire(_ptr: *mut Self) -> bool {
        false
    }

    /// Frees it.
    ///
    /// # Safety
    ///
    /// `ptr` is the pointer that was retired, nothing reaches it any more, and this is the only call.
    unsafe fn reclaim<M: Memory>(ptr: *mut Self, memory: &M);

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
    /// Marks an object whose bytes go back at once. They are reused late enough, as a rule, for a check to see it.
    #[cfg(loom)]
    pub(crate) fn mark_freed(&self) {
        self.life.store(model::FREED, std::sync::atomic::Ordering::Relaxed);
    }

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
    /// What the collector keeps for each thread.
    type Local: Send + Leave + 'static;

    /// Where a thread's memory comes from.
    type Memory: Memory;

    /// What a pinned thread holds.
    type Guard<'a>: Guard<Memory = Self::Memory>;

    /// Returns a collector with nothing in it.
    fn new() -> Self;

    /// Makes a thread known to the collector.
    fn register(&self) -> Self::Local;

    /// Pins this thread, of which `local` was made by [`register`](Self::register) of this collector: what it reaches
    /// from now on stays allocated until the guard is dropped.
    fn pin<'a>(&'a self, local: &'a Self::Local) -> Self::Guard<'a>;

    /// Returns what was retired and what was freed so far, by all threads.
    fn totals(&self) -> Totals;
}

/// The proof that this thread is pinned.
pub trait Guard {
    /// Where this thread's memory comes from.
    type Memory: Memory;

    /// Returns where this thread's memory comes from.
    fn memory(&self) -> &Self::Memory;

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

/// What one thread has retired and freed. Written by that thread alone.
#[derive(Default)]
struct Counts {
    retired: Counter,
    retired_bytes: Counter,
    freed: Counter,
    freed_bytes: Counter,
}

impl Counts {
    #[inline]
    fn retired(&self, bytes: usize) {
        self.retired.add(1);
        self.retired_bytes.add(bytes as u64);
    }

    #[inline]
    fn freed(&self, objects: u64, bytes: u64) {
        self.freed.add(objects);
        self.freed_bytes.add(bytes);
    }

    fn add_to(&self, sum: &mut Totals) {
        sum.retired += self.retired.get();
        sum.retired_bytes += self.retired_bytes.get();
        sum.freed += self.freed.get();
        sum.freed_bytes += self.freed_bytes.get();
    }
}

thread_local! {
    /// Objects and bytes this thread has freed, of all stores, through the libraries' collectors. Their callbacks know no
    /// thread of the store, and may run when other thread-local variables are gone already.
    static FREED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Notes that this thread has freed an object for a library's collector.
fn note_freed(bytes: usize) {
    let (objects, total) = FREED.get();
    FREED.set((objects + 1, total + bytes as u64));
}

/// Counts of each thread, for collectors whose garbage is freed by threads that they do not name.
#[derive(Default)]
struct Counters {
    threads: PerThread<CachePadded<Counts>>,
}

impl Counters {
    #[inline]
    fn mine(&self) -> &Counts {
        self.threads.get_or(CachePadded::default)
    }

    /// Runs a call of the library and counts what it made this thread free.
    #[inline]
    fn counting_frees<T>(&self, call: impl FnOnce() -> T) -> T {
        let before = FREED.get();
        let result = call();
        let after = FREED.get();
        if after != before {
            self.mine().freed(after.0 - before.0, after.1 - before.1);
        }
        result
    }

    fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.threads.iter().for_each(|thread| thread.add_to(&mut sum));
        sum
    }
}
