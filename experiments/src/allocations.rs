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
//! What a store *holds* cannot be told from one thread's counts, since memory is freed by other threads than obtained
//! it. A [`Meter`] follows the whole process while it lives: what all threads obtained less what they gave back, in
//! bytes as requested and in bytes as mimalloc rounded them (`mi_usable_size`, asked of every block). It slows every
//! request down, so nothing is timed under one.
//!
//! [`live_bytes`] is what the whole process holds. A thread tells of its share whenever that has changed by
//! [`TELL_AFTER`], so that no counter is shared on every request; what it had not told when it ended is missing, unless
//! it called [`tell`].
//!
//! **Invariants.**
//! 1. Every request reaches mimalloc with the layout it came with, and its answer is returned unchanged.
//! 2. Counting neither allocates nor unwinds: the counters are constant-initialised thread-locals without a destructor,
//!    and statics.
//! 3. There is one meter at a time, and the sums that it reads were zero when it began.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

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
    /// Bytes given back, as they had been requested.
    pub freed_bytes: u64,
}

impl Counts {
    const ZERO: Self = Self {
        allocations: 0,
        deallocations: 0,
        bytes: 0,
        freed_bytes: 0,
    };

    /// Returns what was added since `earlier`, a count of the same thread.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations - earlier.allocations,
            deallocations: self.deallocations - earlier.deallocations,
            bytes: self.bytes - earlier.bytes,
            freed_bytes: self.freed_bytes - earlier.freed_bytes,
        }
    }

    /// Returns the sum of two threads' counts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            allocations: self.allocations + other.allocations,
            deallocations: self.deallocations + other.deallocations,
            bytes: self.bytes + other.bytes,
            freed_bytes: self.freed_bytes + other.freed_bytes,
        }
    }
}

/// Bytes by which a thread's share of the live ones may change before it tells: an error that no plot of megabytes shows.
pub const TELL_AFTER: i64 = 64 << 10;

/// Bytes obtained and not given back, as far as threads have told.
static LIVE: AtomicI64 = AtomicI64::new(0);

/// What a thread counts, and what it has not told of its share of the live bytes.
#[derive(Clone, Copy)]
struct Own {
    counts: Counts,
    untold: i64,
}

thread_local! {
    // INVARIANT 2: `const`, and `Own` has nothing to drop.
    static OWN: Cell<Own> = const {
        Cell::new(Own {
            counts: Counts::ZERO,
            untold: 0,
        })
    };
}

/// Returns what the calling thread asked for since it began.
#[must_use]
pub fn current() -> Counts {
    OWN.get().counts
}

/// Tells what the calling thread's share of the live bytes has changed by. Worth calling before a thread ends.
pub fn tell() {
    let mut own = OWN.get();
    // ORDERING: Relaxed, a sum that publishes nothing.
    LIVE.fetch_add(own.untold, Ordering::Relaxed);
    own.untold = 0;
    OWN.set(own);
}

/// Returns the bytes that the process has obtained and not given back, to within [`TELL_AFTER`] for each other thread
/// that is running or ended without [`tell`]ing.
#[must_use]
pub fn live_bytes() -> u64 {
    tell();
    // ORDERING: Relaxed, as in `tell`. Below zero it is for a moment, when memory is given back before the thread that
    // obtained it has told.
    u64::try_from(LIVE.load(Ordering::Relaxed)).unwrap_or(0)
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

/// Counts a request that obtained and gave back so many blocks and bytes.
#[inline]
fn note(blocks: (u64, u64), obtained: usize, given_back: usize) {
    // A thread that is being torn down still has its counters (invariant 2), so nothing goes uncounted.
    let _gone = OWN.try_with(|cell| {
        let mut own = cell.get();
        own.counts.allocations += blocks.0;
        own.counts.deallocations += blocks.1;
        own.counts.bytes += obtained as u64;
        own.counts.freed_bytes += given_back as u64;
        own.untold += obtained as i64 - given_back as i64;
        if own.untold.abs() >= TELL_AFTER {
            // ORDERING: Relaxed, as in `tell`.
            LIVE.fetch_add(own.untold, Ordering::Relaxed);
            own.untold = 0;
        }
        cell.set(own);
    });
}

static METERED: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicI64 = AtomicI64::new(0);
static USABLE: AtomicI64 = AtomicI64::new(0);

/// By how much what the whole process holds has changed since a [`Meter`] began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes as they were requested.
    pub requested: i64,
    /// Bytes as the allocator rounded them: the usable size of each block.
    pub usable: i64,
}

impl Held {
    /// Returns what was added since `earlier`, a reading of the same meter.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            requested: self.requested - earlier.requested,
            usable: self.usable - earlier.usable,
        }
    }
}

/// Follows what the whole process holds, until it is dropped.
///
/// A request that another thread makes at the very moment at which the meter begins or ends may be missed; so nothing
/// but what is metered should run then. A block whose address was moved up to meet an alignment counts from there.
#[derive(Debug)]
pub struct Meter(());

impl Meter {
    /// Begins to follow, or returns `None` while there is another meter.
    #[must_use]
    pub fn begin() -> Option<Self> {
        // ORDERING: Acquire, pairs with the Release in `drop`: the sums are zero. Relaxed for the sums, here and
        // below: they publish nothing, and who reads them has started and joined the threads that wrote them, or
        // wants no more than a sample.
        if METERED.swap(true, Ordering::Acquire) {
            return None;
        }
        // INVARIANT 3: the last meter left zeros, and this one has just been the first to begin since.
        Some(Self(()))
    }

    /// Returns by how much the process holds more than when the meter began.
    #[must_use]
    pub fn held(&self) -> Held {
        // ORDERING: Relaxed, see `begin`.
        Held {
            requested: REQUESTED.load(Ordering::Relaxed),
            usable: USABLE.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // INVARIANT 3: zero before another may begin.
        // ORDERING: Release for the flag, pairs with the Acquire in `begin`; Relaxed for the sums, see there.
        REQUESTED.store(0, Ordering::Relaxed);
        USABLE.store(0, Ordering::Relaxed);
        METERED.store(false, Ordering::Release);
    }
}

/// Adds a change to the sums of the meter, if there is one; `usable` is asked only then.
#[inline]
fn meter(requested: i64, usable: impl FnOnce() -> i64) {
    // ORDERING: Relaxed, see `Meter::begin`.
    if METERED.load(Ordering::Relaxed) {
        REQUESTED.fetch_add(requested, Ordering::Relaxed);
        USABLE.fetch_add(usable(), Ordering::Relaxed);
    }
}

/// Returns how many bytes of a block may be used.
///
/// # Safety
///
/// `block` is null, or came from mimalloc and was not given back.
unsafe fn usable(block: *const u8) -> i64 {
    // SAFETY: the caller's condition is the one that mimalloc states; of null it says zero.
    let bytes = unsafe { MiMalloc.usable_size(block) };
    bytes as i64
}

// SAFETY: every method hands its arguments to mimalloc and returns mimalloc's answer (invariant 1), and mimalloc is a
// sound allocator; counting around it neither allocates nor unwinds (invariant 2).
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note((1, 0), layout.size(), 0);
        // SAFETY: the caller promises a layout of non-zero size, which is all that `alloc` requires.
        let block = unsafe { MiMalloc.alloc(layout) };
        // SAFETY: mimalloc has just returned it, or null.
        meter(layout.size() as i64, || unsafe { usable(block) });
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note((1, 0), layout.size(), 0);
        // SAFETY: the caller promises a layout of non-zero size, which is all that `alloc_zeroed` requires.
        let block = unsafe { MiMalloc.alloc_zeroed(layout) };
        // SAFETY: mimalloc has just returned it, or null.
        meter(layout.size() as i64, || unsafe { usable(block) });
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note((0, 1), 0, layout.size());
        // SAFETY: the caller promises that `block` came from this allocator, so from mimalloc (invariant 1), and it
        // is given back below and not before.
        meter(-(layout.size() as i64), || -unsafe { usable(block) });
        // SAFETY: the caller promises that `block` came from this allocator with this layout, so it came from
        // mimalloc with it (invariant 1).
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note((1, 1), new_size, layout.size());
        // SAFETY: as in `dealloc`; it is moved below and not before.
        meter(-(layout.size() as i64), || -unsafe { usable(block) });
        // SAFETY: the caller promises that `block` came from this allocator with this layout, so from mimalloc
        // (invariant 1), and that `new_size` is neither zero nor too large for the alignment.
        let moved = unsafe { MiMalloc.realloc(block, layout, new_size) };
        // SAFETY: mimalloc has just returned it, or null. A refusal leaves the old block, and an uncounted one,
        // behind: the process is out of memory then.
        meter(new_size as i64, || unsafe { usable(moved) });
        moved
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
                bytes: 32,
                freed_bytes: 0
            }
        );
        let ((), counts) = counted(|| drop(black_box(list)));
        assert_eq!(
            counts,
            Counts {
                allocations: 0,
                deallocations: 1,
                bytes: 0,
                freed_bytes: 32
            }
        );
    }

    #[test]
    fn growing_counts_as_an_allocation() {
        let mut list: Vec<u8> = Vec::with_capacity(1);
        let ((), counts) = counted(|| list.reserve_exact(black_box(100)));
        assert_eq!((counts.allocations, counts.bytes), (1, 100));
        assert_eq!((counts.deallocations, counts.freed_bytes), (1, 1));
        let (_, counts) = counted(|| black_box(&list).len());
        assert_eq!(counts, Counts::ZERO);
    }

    // Goal: the live bytes follow what is held, across threads. Method: hold far more than other tests beside this one
    // do, give it back in another thread, and let that thread tell.
    #[test]
    fn live_bytes_follow_what_is_held() {
        const HELD: usize = 1 << 30;
        let before = live_bytes();
        let held: Vec<u8> = black_box(Vec::with_capacity(HELD));
        let while_held = live_bytes();
        assert!(while_held >= before + HELD as u64 / 2, "{before} -> {while_held}");
        std::thread::spawn(move || {
            drop(held);
            tell();
        })
        .join()
        .expect("no panic");
        let after = live_bytes();
        assert!(after <= while_held - HELD as u64 / 2, "{while_held} -> {after}");
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

    // Goal: the meter sees what other threads give back. Method: a block so large that no other test of this program
    // comes near it is obtained here and given back in another thread.
    #[test]
    fn meter_follows_the_whole_process() {
        const LARGE: usize = 1 << 28;
        let nearly = |bytes: i64, expected: usize| bytes.abs_diff(expected as i64) < 1 << 26;
        let meter = Meter::begin().expect("no other test has a meter");
        assert!(Meter::begin().is_none(), "there is one meter at a time");
        let block: Vec<u8> = Vec::with_capacity(black_box(LARGE));
        let held = meter.held();
        assert!(nearly(held.requested, LARGE) && nearly(held.usable, LARGE), "{held:?}");
        std::thread::spawn(move || drop(black_box(block)))
            .join()
            .expect("no panic");
        let after = meter.held().since(held);
        assert!(
            nearly(-after.requested, LARGE) && nearly(-after.usable, LARGE),
            "{after:?}"
        );
        drop(meter);
        let again = Meter::begin().expect("the first is gone").held();
        assert!(nearly(again.requested, 0) && nearly(again.usable, 0), "{again:?}");
    }
}
