//! Segment files that are mapped: a word of the file is a word of memory.
//!
//! A store is all that a writer does: no copy, no system call, and what was stored outlives the process, for the memory
//! is the kernel's page cache. A sync is `msync` of the pages of its range. What that costs is decided when the file is
//! made.
//!
//! # What a sync of a mapping costs, and why
//!
//! Of a store through a mapping the kernel learns only which *folio*, the unit of its page cache, it went to. So a sync
//! writes whole folios; of what came by `write` it knows the blocks, and writes those alone. A file that was filled by large
//! writes is cached in large folios, and then a record of 128 bytes, stored and synced, writes a megabyte to the disk. That,
//! rather than its page faults, is what makes a mapping slow to sync.
//!
//! | way to make a record durable | folios of 4 KiB | of 64 KiB | of 1 MiB |
//! |---|---|---|---|
//! | positioned write, `fdatasync` | 1 | 1 | 1 |
//! | write that syncs itself (`RWF_DSYNC`) | 1.00 | 1.00 | 1.00 |
//! | store, `msync` of the page | 1.02 | 1.18 | 3.1 |
//! | store, `fdatasync` | 1.02 | 1.18 | 3.1 |
//! | store, `sync_file_range` of the page, `fdatasync` | 1.03 | 1.19 | 3.1 |
//! | store, positioned write of the same bytes, `fdatasync` | 1.04 | 1.19 | 3.1 |
//! | 4 KiB written past the cache (`O_DIRECT`, `O_DSYNC`) | 0.97 | 0.97 | 0.94 |
//! | *written to the disk for a record that was stored* | 4 KiB | 64 KiB | 1 MiB |
//! | *written to the disk for a record that was written* | 4 KiB | 4 KiB | 4 KiB |
//!
//! (Two processors of a virtual machine, ext4 without a journal on a virtual disk with a volatile cache, Linux 6.18.
//! Records of 128 bytes that advance through blocks written before. The ways took turns of 20 records, 150 turns each, at
//! real-time priority because other programs ran. Given is the median over the turns of the ratio to the first way's turn;
//! 80 % of the turns lie within 6 % of it, in the last column within 13 %. The first way took 94, 73 and 96 us: the disk was
//! faster or slower for minutes at a time. When it took 64 us, 1.18 was 1.21 and 3.1 was 4.1; the 2 us that make up 1.02
//! stay about the same. A thread that stores in the same page all the time makes no difference beyond the spread.)
//!
//! A folio is as large as the write that makes it. So `create` writes its zeros page by page, at 2.3 us a page where large
//! writes take 0.5. Reading ahead makes large folios too. So `open` has the pages of a file dropped, and its mapping fetches
//! them one by one or as `prepare` asks for them. What is left is the fault at the first store to a page after each sync,
//! 1.4 us: a sync takes write access away, to learn of later stores. Large folios are better in large syncs alone: a megabyte
//! took 0.7 ms by pages and 0.3 ms in one folio. That is the flusher's time, and no writer's.
//!
//! **Why `msync`.** `fdatasync` is for the whole file, prepared pages included: with a megabyte prepared ahead one sync
//! in a thousand took 0.86 ms instead of 0.16. Writing the same bytes again would undo what other threads store meanwhile,
//! since mapping and page cache are the same memory.
//!
//! **Preparing.** The first store to a page that is not prepared faults: 1.9 us, and 55 us if the page must be read from the
//! disk. A megabyte of small records took 34 us to store where it was prepared and 540 us where it was not. A prepared page
//! counts as stored to: if nothing comes, the kernel writes it after its usual half minute and takes write access away
//! again. So prepare what is about to be used, and not a whole file.
//!
//! # What could go wrong
//!
//! A store to a mapped page fails by a signal if the file was cut short or has no block there. Blocks are allocated when a
//! file is made or opened. Nothing here shortens a file, and the directory's lock keeps other storages out; a program that
//! cuts an open file short without asking for the lock takes this process down with it. So does a disk that cannot
//! read a page back; a page of a new file stays in memory unless memory is short. Recovery reads by calls, not through a
//! mapping, where the same are an error or a short read.
//!
//! # Invariants
//!
//! 1. A mapping covers the whole of its file, whose length never changes, and lives as long as the [`MappedFile`].
//! 2. This process reaches a mapping by atomic words alone. A sync copies them while they change, in the kernel or in the
//!    device, as the contract allows.

use std::num::NonZeroU64;
use std::ops::Range;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::fadvise;

use super::SegmentFile;
use super::directory::{Content, DirectoryStorage, OpenFile};
use crate::error::{Error, Result};
use crate::sync::Word;

/// A directory whose segment files are mapped.
pub type MmapStorage = DirectoryStorage<MappedFile>;

/// Bytes that are asked for at a time when a file's pages are to be read into memory. The kernel cuts a longer request
/// off at what it reads ahead, of which this is the usual least.
const FETCH_BYTES: usize = 128 * 1024;

const _: () = assert!(size_of::<Word>() == size_of::<u64>() && align_of::<Word>() == align_of::<u64>());

/// An open segment file and its mapping.
#[derive(Debug)]
pub struct MappedFile {
    map: MmapRaw,
    file: OpenFile,
}

impl Content for MappedFile {
    fn attach(file: OpenFile) -> Result<Self> {
        if cfg!(target_endian = "big") {
            let text = "mapped files need a little-endian machine; use files held in memory";
            return Err(Error::InvalidOptions(text.to_owned()));
        }
        if !file.is_new() {
            // Only what is on the disk already can be dropped.
            file.file().sync_data().map_err(|error| file.cannot_sync(error))?;
            // A hint, like the one below: without it syncs are slower.
            let _ = fadvise(file.file(), 0, None, rustix::fs::Advice::DontNeed);
        }
        // INVARIANT 1.
        let map = MmapOptions::new()
            .len(file.bytes())
            .map_raw(file.file())
            .map_err(|error| file.cannot("map", error))?;
        if !file.is_new() {
            let _ = map.advise(Advice::Random);
        }
        Ok(Self { map, file })
    }
}

impl SegmentFile for MappedFile {
    fn words(&self) -> &[Word] {
        let start = self.map.as_mut_ptr().cast::<Word>();
        let count = self.file.bytes() / size_of::<Word>();
        // SAFETY: by invariant 1 the mapping has `count` words, readable and writable, from a page's first byte on, and
        // outlives the borrow of `self`. Any bits are a word, and by invariant 2 nothing in this process makes them anything
        // but atomics.
        unsafe { std::slice::from_raw_parts(start, count) }
    }

    fn sync(&self, bytes: Range<usize>) -> Result<()> {
        assert!(bytes.end <= self.file.bytes(), "a range lies inside its file");
        if bytes.is_empty() {
            return Ok(());
        }
        self.map
            .flush_range(bytes.start, bytes.len())
            .map_err(|error| self.file.cannot_sync(error))
    }

    fn prepare(&self, bytes: Range<usize>) {
        let end = bytes.end.min(self.file.bytes());
        for start in (bytes.start..end).step_by(FETCH_BYTES) {
            let length = FETCH_BYTES.min(end - start);
            // All are hints: whatever fails here is met again at the store, or it is not.
            let _ = fadvise(
                self.file.file(),
                start as u64,
                NonZeroU64::new(length as u64),
                rustix::fs::Advice::WillNeed,
            );
            let _ = self.map.advise_range(Advice::PopulateWrite, start, length);
        }
    }
}
