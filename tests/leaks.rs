//! Nothing leaks, nothing is freed twice, nothing freed is written to: the workloads of `stress.rs` under an allocator
//! that watches.
//!
//! The allocator counts the bytes that are outstanding. It puts a header before each block, by which it knows a block
//! that is freed twice; fills freed blocks with a pattern, so that who reads one reads nonsense; and keeps the last
//! some thousand of them back, to look whether the pattern is still whole when they leave. What it finds it counts,
//! since an allocator cannot panic.
//!
//! This is a binary with a single test: another one beside it would allocate too. It is the only test with unsafe code.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "common/workloads.rs"]
mod workloads;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use common::{finishes, seed};
use unlatched::Database;
use workloads::{
    Engine, EpochReaderDriven, EpochWriterDriven, LimboReaderDriven, LimboWriterDriven, SkipListEpoch, SkipListHyaline,
};

/// The watching allocator.
struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Bytes that are allocated and not freed.
static OUTSTANDING: AtomicUsize = AtomicUsize::new(0);
/// Blocks freed that were not allocated, or were freed before.
static FREED_TWICE: AtomicUsize = AtomicUsize::new(0);
/// Blocks in which something was written after they were freed.
static WRITTEN_AFTER_FREE: AtomicUsize = AtomicUsize::new(0);

/// Freed blocks that are kept back.
static KEPT_BACK: [AtomicPtr<u8>; 4_096] = [const { AtomicPtr::new(ptr::null_mut()) }; 4_096];
static NEXT_KEPT: AtomicUsize = AtomicUsize::new(0);

const LIVE: usize = 0x11FE_B10C;
const FREED: usize = 0xDEAD_B10C;
const PATTERN: u8 = 0xDD;

/// What stands right before each block.
#[derive(Clone, Copy)]
struct Header {
    state: usize,
    /// What the system was asked for.
    layout: Layout,
    /// Bytes from there to the block.
    offset: usize,
}

/// Returns the address of a block's header.
///
/// # Safety
///
/// `block` was returned by [`Watching::alloc`].
unsafe fn header_of(block: *mut u8) -> *mut Header {
    // SAFETY: every block lies at least a header's size into its allocation.
    unsafe { block.sub(size_of::<Header>()) }.cast()
}

// SAFETY: blocks are the system's, shifted by a multiple of their alignment; each goes back with the layout it came
// with.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let align = layout.align().max(align_of::<Header>());
        let offset = size_of::<Header>().next_multiple_of(align);
        let Ok(layout) = Layout::from_size_align(layout.size() + offset, align) else {
            return ptr::null_mut();
        };
        // SAFETY: not of size zero, because of the header.
        let start = unsafe { System.alloc(layout) };
        if start.is_null() {
            return start;
        }
        // SAFETY: within the allocation.
        let block = unsafe { start.add(offset) };
        // SAFETY: a block of this allocator.
        let header = unsafe { header_of(block) };
        let fields = Header {
            state: LIVE,
            layout,
            offset,
        };
        // SAFETY: within the allocation, and aligned, since the block is aligned at least like a header.
        unsafe { header.write(fields) };
        OUTSTANDING.fetch_add(layout.size() - offset, Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: a block of this allocator, by contract.
        let header = unsafe { header_of(block) };
        // SAFETY: still allocated, or kept back; a block freed twice long ago is what this hopes to catch.
        let fields = unsafe { *header };
        if fields.state != LIVE {
            FREED_TWICE.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let size = fields.layout.size() - fields.offset;
        OUTSTANDING.fetch_sub(size, Ordering::Relaxed);
        // SAFETY: nobody else uses the header.
        unsafe { (*header).state = FREED };
        // SAFETY: the block is the caller's to give back.
        unsafe { block.write_bytes(PATTERN, size) };
        let slot = NEXT_KEPT.fetch_add(1, Ordering::Relaxed) % KEPT_BACK.len();
        let leaving = KEPT_BACK[slot].swap(block, Ordering::AcqRel);
        if !leaving.is_null() {
            // SAFETY: kept back until now, and taken by this thread alone.
            unsafe { give_back(leaving) };
        }
    }
}

/// Looks at a block that was kept back and returns it to the system.
///
/// # Safety
///
/// The block was freed and kept back, and this is the only call for it.
unsafe fn give_back(block: *mut u8) {
    // SAFETY: a block of this allocator.
    let header = unsafe { header_of(block) };
    // SAFETY: still allocated from the system.
    let fields = unsafe { *header };
    let size = fields.layout.size() - fields.offset;
    // SAFETY: the block has that many bytes, all written when it was freed.
    let bytes = unsafe { std::slice::from_raw_parts(block, size) };
    if fields.state != FREED || bytes.iter().any(|byte| *byte != PATTERN) {
        WRITTEN_AFTER_FREE.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the block lies that far into its allocation.
    let start = unsafe { block.sub(fields.offset) };
    // SAFETY: from the system, with this layout.
    unsafe { System.dealloc(start, fields.layout) };
}

/// Opens a store for each workload, runs it, and drops the store.
fn live_and_die<E: Engine>(seed: u64) {
    workloads::counters(&E::open(), 3, 500, seed);
    workloads::bank(&E::open(), 2, 500, seed);
    workloads::inserts_and_deletes(&E::open(), 2, 1_000, seed);
    workloads::disjoint(&E::open(), 2, 500, seed);
    drop_in_the_middle::<E>();
}

/// Drops a store full of everything: long chains, tombstones, versions of aborted transactions, what a collector has
/// not freed, a database that was never used.
fn drop_in_the_middle<E: Engine>() {
    drop(E::open());
    let engine = E::open();
    engine.snapshot(|read| {
        for number in 0..2_000_u32 {
            let key = format!("{:03}{}", number % 300, "-".repeat(number as usize % 60));
            match number % 7 {
                0 => drop(engine.delete(&key)),
                1 => {
                    let committed = engine.transact(|_| {
                        engine.put("z", b"in its way");
                        vec![(key, Some(vec![1; 100])), ("z".to_owned(), Some(Vec::new()))]
                    });
                    assert!(!committed);
                }
                _ => drop(engine.put(&key, &number.to_le_bytes())),
            }
        }
        assert_eq!(read("z"), None);
    });
    drop(engine);
}

/// Goal: a store gives back every byte, by the time it is dropped, whatever went on in it, with each collector and
/// clock; and nothing is freed twice or written after it was freed. Method: outstanding bytes before it is opened and
/// after it is dropped, once everything that lives as long as the process or its threads has been set up by a first
/// life.
#[test]
fn a_dropped_store_gives_back_every_byte() {
    let seed = seed("leaks");
    type Life = fn(u64);
    let kinds: [(&'static str, Life); 7] = [
        ("the database", live_and_die::<Database>),
        ("epochs, reader-driven", live_and_die::<EpochReaderDriven>),
        ("epochs, writer-driven", live_and_die::<EpochWriterDriven>),
        ("limbo, reader-driven", live_and_die::<LimboReaderDriven>),
        ("limbo, writer-driven", live_and_die::<LimboWriterDriven>),
        ("skiplist, epochs", live_and_die::<SkipListEpoch>),
        ("skiplist, hyaline", live_and_die::<SkipListHyaline>),
    ];
    for (name, live_and_die) in kinds {
        let (before, after) = finishes(name, move || {
            live_and_die(seed);
            let before = OUTSTANDING.load(Ordering::SeqCst);
            live_and_die(seed + 1);
            (before, OUTSTANDING.load(Ordering::SeqCst))
        });
        println!("{name}: {before} bytes outstanding before, {after} after");
        assert_eq!(after, before, "{name} leaks");
        assert_eq!(FREED_TWICE.load(Ordering::SeqCst), 0, "{name} frees twice");
        assert_eq!(
            WRITTEN_AFTER_FREE.load(Ordering::SeqCst),
            0,
            "{name} writes to freed memory"
        );
    }
}
