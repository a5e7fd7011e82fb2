//! Memory that comes back to the thread that will need it: free lists by size, one set per thread and store.
//!
//! Overwriting a key in steady state takes one version and retires another of the same size. With these lists the one
//! becomes the other: no call of the allocator, no other thread's memory, and a block that is still in the cache.
//! The lists are filled by the thread's own limbo (`limbo.rs`), since a version is freed where it was retired.
//!
//! ```text
//!  class:   16   32   48   64  ...  1024        64a  128a ...  512a
//!            |    |                               |
//!          block  block -> block -> block       block           a free block holds the address of the next one
//! ```
//!
//! A list that runs dry is filled with twice as many blocks as the last time. What a thread needs at once varies: another
//! thread that is stopped for a moment while pinned holds back what this one retires. Soon there is a stock for such
//! moments, at most twice of what was ever needed, and they need the allocator no more.
//!
//! # Invariants
//!
//! 1. A block on a list has the class's rounded layout, came from [`Heap`], and is used by nobody.
//! 2. `bytes` is the sum over all lists and never exceeds [`LIMIT_BYTES`]; what does not fit goes to the allocator, as
//!    does what is larger than a class. So a store keeps at most that much per thread, and a thread that leaves keeps
//!    nothing.
//!
//! Single-threaded throughout, hence without atomics.

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::{GRANULE, Heap, Memory, rounded};
use crate::sync::wrote;

/// Greatest size that is kept, in bytes: larger values are rare, and their copying costs more than the allocator.
const MAX_BYTES: usize = 1_024;

/// Alignment of index nodes, which have classes of their own: a block that happens to be aligned would be wasted on a
/// version.
const NODE_ALIGN: usize = 64;

/// Greatest size of an aligned block that is kept.
const MAX_NODE_BYTES: usize = 512;

const PLAIN_CLASSES: usize = MAX_BYTES / GRANULE;
const CLASSES: usize = PLAIN_CLASSES + MAX_NODE_BYTES / NODE_ALIGN;

/// Bytes that one thread keeps. A pinned thread that is preempted for some milliseconds holds back what the others
/// retire in that time, some tens of thousands of versions; with room for those the next such pause allocates nothing.
pub(crate) const LIMIT_BYTES: usize = 4 << 20;

/// Bytes by which a list is filled at most.
const FILL_BYTES: usize = 32 << 10;

/// Blocks by which a list is filled at first, if they are small: somewhat more than two batches of limbo hold.
const FIRST_FILL: u16 = 128;

/// The free memory of one thread.
pub struct Pool {
    classes: [Cell<*mut Free>; CLASSES],
    /// Blocks that each list was last filled with.
    filled: [Cell<u16>; CLASSES],
    bytes: Cell<usize>,
}

/// A free block.
struct Free {
    next: *mut Free,
}

const _: () = assert!(size_of::<Free>() <= GRANULE && align_of::<Free>() <= GRANULE);

/// Returns the class of a rounded layout, if it has one.
#[inline]
fn class_of(layout: Layout) -> Option<usize> {
    match (layout.align(), layout.size()) {
        (GRANULE, 1..=MAX_BYTES) => Some(layout.size() / GRANULE - 1),
        (NODE_ALIGN, 1..=MAX_NODE_BYTES) => Some(PLAIN_CLASSES + layout.size() / NODE_ALIGN - 1),
        _ => None,
    }
}

/// Returns the rounded layout of a class.
#[inline]
fn layout_of(class: usize) -> Layout {
    let (size, align) = if class < PLAIN_CLASSES {
        ((class + 1) * GRANULE, GRANULE)
    } else {
        ((class - PLAIN_CLASSES + 1) * NODE_ALIGN, NODE_ALIGN)
    };
    Layout::from_size_align(size, align).expect("a small size and a power of two")
}

impl Pool {
    /// Returns a pool with nothing in it.
    pub(super) fn new() -> Self {
        Self {
            classes: [const { Cell::new(ptr::null_mut()) }; CLASSES],
            filled: [const { Cell::new(0) }; CLASSES],
            bytes: Cell::new(0),
        }
    }

    /// Takes a block off a class's list.
    #[inline]
    fn take(&self, class: usize) -> Option<NonNull<u8>> {
        let free = NonNull::new(self.classes[class].get())?;
        // SAFETY: a block on a list is a free block (invariant 1).
        self.classes[class].set(unsafe { free.as_ref() }.next);
        self.bytes.set(self.bytes.get() - layout_of(class).size());
        Some(free.cast())
    }

    /// Fills a list that has run dry, and returns one block more.
    #[cold]
    fn fill(&self, class: usize) -> NonNull<u8> {
        let layout = layout_of(class);
        let most = (FILL_BYTES / layout.size()) as u16;
        let blocks = (2 * self.filled[class].get()).max(FIRST_FILL).min(most);
        self.filled[class].set(blocks);
        for _ in 1..blocks {
            let block = Heap.allocate(layout);
            // SAFETY: just allocated with this layout, and used by nobody.
            unsafe { self.free(block, layout) };
        }
        Heap.allocate(layout)
    }

    /// Gives everything to the allocator.
    pub(super) fn clear(&self) {
        for (class, list) in self.classes.iter().enumerate() {
            let mut block = list.replace(ptr::null_mut());
            while let Some(free) = NonNull::new(block) {
                // SAFETY: a block on a list is a free block, and it was taken off (invariant 1).
                block = unsafe { free.as_ref() }.next;
                // SAFETY: as above; it came from the heap with the class's layout.
                unsafe { Heap.free(free.cast(), layout_of(class)) };
            }
        }
        self.filled.iter().for_each(|blocks| blocks.set(0));
        self.bytes.set(0);
    }

    /// Returns how many bytes are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

// SAFETY: a block is handed out to one caller, with the layout of its class; a miss goes to the heap.
unsafe impl Memory for Pool {
    #[inline]
    fn allocate(&self, layout: Layout) -> NonNull<u8> {
        let layout = rounded(layout);
        let block = match class_of(layout) {
            Some(class) => self.take(class).unwrap_or_else(|| self.fill(class)),
            None => Heap.allocate(layout),
        };
        // Until it is published it is the caller's alone to write, by plain writes.
        wrote(block.addr().get(), layout.size());
        block
    }

    #[inline]
    unsafe fn free(&self, ptr: NonNull<u8>, layout: Layout) {
        let layout = rounded(layout);
        match class_of(layout) {
            // INVARIANT 2.
            Some(class) if self.bytes.get() + layout.size() <= LIMIT_BYTES => {
                let free = ptr.cast::<Free>();
                let next = self.classes[class].get();
                wrote(ptr.addr().get(), size_of::<Free>());
                // SAFETY: the caller's block is used no more, and large enough (invariant 1).
                unsafe { free.write(Free { next }) };
                self.classes[class].set(free.as_ptr());
                self.bytes.set(self.bytes.get() + layout.size());
            }
            // SAFETY: guaranteed by the caller.
            _ => unsafe { Heap.free(ptr, layout) },
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("small")
    }

    #[test]
    fn a_freed_block_serves_the_next_of_its_class() {
        let pool = Pool::new();
        for (first, second) in [
            (layout(28, 8), layout(32, 8)),
            (layout(1, 1), layout(16, 16)),
            (layout(61, 64), layout(64, 64)),
            (layout(1_020, 8), layout(1_024, 8)),
        ] {
            let block = pool.allocate(first);
            // SAFETY: just allocated with a layout that rounds to the same.
            unsafe { block.write_bytes(7, first.size()) };
            // SAFETY: as above, and used no more.
            unsafe { pool.free(block, first) };
            let kept = pool.bytes();
            let again = pool.allocate(second);
            assert_eq!(again, block, "{first:?} and {second:?}");
            assert_eq!(again.addr().get() % second.align(), 0);
            assert_eq!(pool.bytes(), kept - rounded(second).size());
            // SAFETY: as above.
            unsafe { pool.free(again, second) };
            pool.clear();
        }
    }

    #[test]
    fn every_class_has_the_layout_that_leads_to_it() {
        for class in 0..CLASSES {
            assert_eq!(class_of(rounded(layout_of(class))), Some(class));
        }
        for outside in [layout(1_025, 8), layout(4_096, 4_096), layout(513, 64), layout(16, 32)] {
            assert_eq!(class_of(rounded(outside)), None, "{outside:?}");
        }
    }

    #[test]
    fn a_pool_keeps_no_more_than_its_limit() {
        let pool = Pool::new();
        let large = layout(1_024, 16);
        let count = LIMIT_BYTES / 1_024 + 10;
        let blocks: Vec<_> = (0..count).map(|_| pool.allocate(large)).collect();
        for block in blocks {
            // SAFETY: allocated with this layout, and used no more.
            unsafe { pool.free(block, large) };
        }
        assert_eq!(pool.bytes(), LIMIT_BYTES);
        pool.clear();
        assert_eq!(pool.bytes(), 0);
    }
}
