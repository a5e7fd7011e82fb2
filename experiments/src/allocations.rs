//! An allocator that counts, so that "no allocation in the hot path" is a number and not a hope.
//!
//! [`CountingAllocator`] passes every request to mimalloc and counts it for the calling thread. A binary that wants
//! counts declares it:
//!
//! ```
//! use experiments::allocations::{self, CountingAllocator};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! assert!(allocations::is_counting());
//! let (boxed, counts) = allocations::counted(|| Box::new(7_u64));
//! assert_eq!((counts.allocations, counts.bytes), (1, 8));
//! # drop(boxed);
//! ```
//!
//! Counts are per thread, exact, and cost an increment of a thread's own word; so what another thread allocates
//! meanwhile is not mixed in. A count of zero means nothing in a binary that forgot to declare the allocator:
//! check [`is_counting`] first.
//!
//! **Invariants.**
//! 1. Every request reaches mimalloc with the layout it came with, and its answer is returned unchanged.
//! 2. Counting neither allocates nor unwinds: the counters are constant-initialised thread-locals without a destructor.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::hint::black_box;

use mimalloc::MiMalloc;

/// Mimalloc, counted per thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// What a thread asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks obtained; growing or shrinking one in place or elsewhere counts as one more.
    pub allocations: u64,
    /// Blocks given back.
    pub deallocations: u64,
    /// Bytes obtained, as requested.
    pub bytes: u64,
}

impl Counts {
    const ZERO: Self = Self {
        allocations: 0,
        deallocations: 0,
        bytes: 0,
    };

    /// Returns what was added since `earlier`, a count of the same thread.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations - earlier.allocations,
            deallocations: self.deallocations - earlier.deallocations,
            bytes: self.bytes - earlier.bytes,
        }
    }
}

thread_local! {
    // INVARIANT 2: `const`, and `Counts` has nothing to drop.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts::ZERO) };
}

/// Returns what the calling thread asked for since it began.
#[must_use]
pub fn current() -> Counts {
    COUNTS.get()
}

/// Runs `body` and returns its result with what the calling thread asked for meanwhile.
pub fn counted<T>(body: impl FnOnce() -> T) -> (T, Counts) {
    let before = current();
    let result = body();
    (result, current().since(before))
}

/// Says whether this binary's global allocator is a [`CountingAllocator`].
#[must_use]
pub fn is_counting() -> bool {
    let (_, counts) = counted(|| black_box(Box::new(black_box(1_u64))));
    counts.allocations > 0
}

fn note(change: impl FnOnce(&mut Counts)) {
    // A thread that is being torn down still has its counters (invariant 2), so nothing goes uncounted.
    let _gone = COUNTS.try_with(|cell| {
        let mut counts = cell.get();
        change(&mut counts);
        cell.set(counts);
    });
}

fn note_allocation(bytes: usize) {
    note(|counts| {
        counts.allocations += 1;
        counts.bytes += bytes as u64;
    });
}

// SAFETY: every method hands its arguments to mimalloc and returns mimalloc's answer (invariant 1), and mimalloc is a
// sound allocator; counting around it neither allocates nor unwinds (invariant 2).
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note_allocation(layout.size());
        // SAFETY: the caller promises a layout of non-zero size, which is all that `alloc` requires.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note_allocation(layout.size());
        // SAFETY: the caller promises a layout of non-zero size, which is all that `alloc_zeroed` requires.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(|counts| counts.deallocations += 1);
        // SAFETY: the caller promises that `block` came from this allocator with this layout, so it came from
        // mimalloc with it (invariant 1).
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note_allocation(new_size);
        note(|counts| counts.deallocations += 1);
        // SAFETY: the caller promises that `block` came from this allocator with this layout, so from mimalloc
        // (invariant 1), and that `new_size` is neither zero nor too large for the alignment.
        unsafe { MiMalloc.realloc(block, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator;

    #[test]
    fn allocations_are_counted_exactly() {
        assert!(is_counting());
        let (list, counts) = counted(|| {
            let mut list: Vec<u64> = Vec::with_capacity(4);
            list.push(black_box(1));
            list
        });
        assert_eq!(
            counts,
            Counts {
                allocations: 1,
                deallocations: 0,
                bytes: 32
            }
        );
        let ((), counts) = counted(|| drop(black_box(list)));
        assert_eq!(
            counts,
            Counts {
                allocations: 0,
                deallocations: 1,
                bytes: 0
            }
        );
    }

    #[test]
    fn growing_counts_as_an_allocation() {
        let mut list: Vec<u8> = Vec::with_capacity(1);
        let ((), counts) = counted(|| list.reserve_exact(black_box(100)));
        assert_eq!((counts.allocations, counts.bytes), (1, 100));
        let (_, counts) = counted(|| black_box(&list).len());
        assert_eq!(counts, Counts::ZERO);
    }

    // Goal: threads do not see one another's counts. Method: allocate in another thread while counting here.
    #[test]
    fn counts_belong_to_a_thread() {
        let before = std::thread::spawn(|| {
            let (_, counts) = counted(|| black_box(vec![0_u8; 1_000]));
            counts
        });
        let there = before.join().expect("no panic");
        assert_eq!(there.bytes, 1_000);
        assert!(counted(|| black_box(3)).1 == Counts::ZERO);
    }
}
