//! Reads segments back: finds what they hold, and later reads again what is wanted of it.
//!
//! Recovery goes over the log twice. The first pass looks at every unit and keeps 16 bytes for each commit that has a
//! stamp, besides the markers and restarts ([`SegmentTable`]); what they mean together is judged elsewhere (`cuts.rs`).
//! The second pass reads the payloads of those commits that are to be applied. Between the two nothing of the log stays
//! in memory but the tables.
//!
//! Bytes come by positioned reads of [`PIECE_BYTES`], never through a mapping: a damaged disk is an error and no signal.
//! A piece grows for a record that is longer. So a pass holds at most a piece and the longest record of the log for each
//! of its threads.
//!
//! # Invariants
//!
//! 1. A record is reported if and only if its checksum holds for its place, and then the scan goes on behind it; at
//!    anything else it goes on one unit further. So what is inside a record is never taken for one, and a hole costs a
//!    comparison for each of its units.
//! 2. The second pass hands out what the first has seen: stamp and checksum are compared again.
//! 3. A file as long as its header says has lost nothing by being cut: shorter files are refused. Files get their whole
//!    length before their name.
#![forbid(unsafe_code)]

use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::record::{self, HEADER_BYTES, Marker, Record, Restart, SegmentHeader, UNIT_BYTES, Writes};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::types::{Lsn, Timestamp};

/// Bytes that are read at once: enough that the calls cost nothing beside the copying.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Bytes of a segment that are one thread's work in the second pass.
pub(crate) const SHARE_BYTES: u32 = 4 << 20;

/// A segment whose header was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// The name of its file.
    pub(crate) name: String,
    /// What messages call it.
    pub(crate) path: String,
    /// What it says of itself.
    pub(crate) header: SegmentHeader,
    /// Bytes of its file, at least as many as the header says.
    pub(crate) file_bytes: u64,
}

impl Segment {
    /// Says that something is wrong at a byte of this segment.
    pub(crate) fn corrupt(&self, offset: u64, reason: String) -> Error {
        Error::Corrupt {
            segment: self.path.clone(),
            offset,
            reason,
        }
    }

    fn lsn(&self, offset: u64) -> Lsn {
        // Offsets are below `header.bytes`.
        Lsn::new(self.header.number, offset as u32)
    }
}

/// A commit that has a stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// When it was committed.
    pub(crate) stamp: Timestamp,
    /// Where its record is, in units from the beginning of the file.
    pub(crate) unit: u32,
    /// As stored in the record.
    pub(crate) checksum: u32,
}

impl Entry {
    /// Returns the record's offset in its file.
    pub(crate) fn offset(&self) -> u32 {
        self.unit * UNIT_BYTES as u32
    }
}

/// What a segment holds, without the payloads. Everything is in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SegmentTable {
    /// The commits with a stamp.
    pub(crate) commits: Vec<Entry>,
    /// The markers and their offsets.
    pub(crate) markers: Vec<(u32, Marker)>,
    /// The restarts and their offsets.
    pub(crate) restarts: Vec<(u32, Restart)>,
    /// How many commits there are, with a stamp or without.
    pub(crate) records: u64,
    /// The first byte behind the last record.
    pub(crate) end: u32,
}

/// What a scan comes upon.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A record and its offset.
    Record(u32, Record<'a>),
    /// Units between records, before the first or behind the last, that hold none.
    Gap(Gap),
}

/// Units in a row that hold no record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Gap {
    /// Their bytes in the file.
    pub(crate) bytes: Range<u32>,
    /// The first of these units that is not zero.
    pub(crate) written: Option<u32>,
    /// The first place among them that says it is a record of this very place, and is not: torn, or damaged.
    pub(crate) broken: Option<u32>,
}

/// Returns numbers and names of all segments of a directory, by number.
///
/// # Errors
///
/// What the storage says.
pub(crate) fn list(storage: &dyn Storage) -> Result<Vec<(u32, String)>> {
    let mut found: Vec<_> = storage
        .list()?
        .into_iter()
        .filter_map(|name| Some((record::segment_number(&name)?, name)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads the header of a segment and compares it with the file.
///
/// # Errors
///
/// [`Error::Corrupt`] and [`Error::FormatVersion`] if that is not a whole segment of that number; what the storage says.
pub(crate) fn open(storage: &dyn Storage, number: u32, name: String) -> Result<Segment> {
    let path = storage.describe(&name);
    let mut bytes = [0; HEADER_BYTES];
    let read = storage.read(&name, 0, &mut bytes)?;
    let header = record::decode_header(&bytes[..read], &path)?;
    let file_bytes = storage.length(&name)?;
    let segment = Segment {
        name,
        path,
        header,
        file_bytes,
    };
    if header.number != number {
        return Err(segment.corrupt(12, format!("it is segment {:08x} under another's name", header.number)));
    }
    if segment.file_bytes < u64::from(header.bytes) {
        let reason = format!("the file ends here; it had {} bytes", header.bytes);
        return Err(segment.corrupt(segment.file_bytes, reason));
    }
    Ok(segment)
}

/// Goes over a segment from its first unit to its end and reports everything it comes upon, in order. `read` is told how
/// many bytes more were gone over.
///
/// # Errors
///
/// What the storage says; [`Error::Corrupt`] if the file became shorter meanwhile.
pub(crate) fn scan(
    storage: &dyn Storage,
    segment: &Segment,
    mut report: impl FnMut(Found<'_>),
    mut read: impl FnMut(u64),
) -> Result<()> {
    let log = segment.header.log;
    let mut window = Window::new(storage, segment);
    let end = window.end;
    let mut gap: Option<Gap> = None;
    let mut told = 0;
    let mut offset = HEADER_BYTES as u64;
    while offset < end {
        if offset - told >= PIECE_BYTES as u64 {
            read(offset - told);
            told = offset;
        }
        let lsn = segment.lsn(offset);
        let mut bytes = window.at(offset, UNIT_BYTES)?;
        let claimed = record::claimed_units(bytes, lsn).map(|units| units * UNIT_BYTES);
        if let Some(claimed) = claimed.filter(|&claimed| claimed as u64 <= end - offset) {
            bytes = window.at(offset, claimed)?;
            // INVARIANT 1.
            if let Some(found) = record::decode(bytes, log, lsn) {
                if let Some(gap) = gap.take() {
                    report(Found::Gap(gap));
                }
                let units = found.units();
                report(Found::Record(lsn.offset(), found));
                offset += (units * UNIT_BYTES) as u64;
                continue;
            }
        }
        let written = bytes[..UNIT_BYTES].iter().fold(0, |all, byte| all | byte) != 0;
        let gap = gap.get_or_insert(Gap {
            bytes: lsn.offset()..lsn.offset(),
            written: None,
            broken: None,
        });
        gap.written = gap.written.or(written.then_some(lsn.offset()));
        gap.broken = gap.broken.or(record::claims_place(bytes, lsn).then_some(lsn.offset()));
        gap.bytes.end = lsn.offset() + UNIT_BYTES as u32;
        offset += UNIT_BYTES as u64;
    }
    if let Some(gap) = gap {
        report(Found::Gap(gap));
    }
    read(end - told);
    Ok(())
}

/// The first pass over one segment.
///
/// # Errors
///
/// As [`scan`].
pub(crate) fn tabulate(storage: &dyn Storage, segment: &Segment, read: impl FnMut(u64)) -> Result<SegmentTable> {
    let mut table = SegmentTable::new();
    let report = |found: Found<'_>| {
        if let Found::Record(offset, found) = found {
            table.add(offset, &found);
        }
    };
    scan(storage, segment, report, read)?;
    Ok(table)
}

impl SegmentTable {
    /// Returns the table of a segment that holds nothing.
    pub(crate) fn new() -> Self {
        Self {
            commits: Vec::new(),
            markers: Vec::new(),
            restarts: Vec::new(),
            records: 0,
            end: HEADER_BYTES as u32,
        }
    }

    /// Notes a record that lies behind all those noted.
    pub(crate) fn add(&mut self, offset: u32, found: &Record<'_>) {
        match found {
            Record::Commit { stamp, checksum, .. } => {
                self.records += 1;
                let checksum = *checksum;
                let unit = offset / UNIT_BYTES as u32;
                self.commits.extend(stamp.map(|stamp| Entry { stamp, unit, checksum }));
            }
            Record::Marker(marker) => self.markers.push((offset, *marker)),
            Record::Restart(restart) => self.restarts.push((offset, *restart)),
        }
        self.end = offset + (found.units() * UNIT_BYTES) as u32;
    }

    /// Returns the greatest timestamp that anything in the segment speaks of: a checkpoint at it or above needs nothing
    /// of the segment any more.
    pub(crate) fn last(&self) -> Timestamp {
        let stamps = self.commits.iter().map(|entry| entry.stamp);
        let cuts = self.markers.iter().map(|(_, marker)| marker.cut);
        // What a restart takes back is below its clock.
        let restarts = self
            .restarts
            .iter()
            .map(|(_, restart)| Timestamp::from_raw(restart.clock.get().saturating_sub(1)));
        stamps.chain(cuts).chain(restarts).max().unwrap_or(Timestamp::ABSENT)
    }
}

/// The second pass over part of a segment: reads the records of those of `entries` that are `wanted`, in order.
///
/// # Errors
///
/// What the storage says; [`Error::Corrupt`] if a record is not what it was in the first pass.
pub(crate) fn visit(
    storage: &dyn Storage,
    segment: &Segment,
    entries: &[Entry],
    wanted: impl Fn(Timestamp) -> bool,
    mut apply: impl FnMut(Timestamp, Writes<'_>),
) -> Result<u64> {
    let mut window = Window::new(storage, segment);
    let mut count = 0;
    for entry in entries.iter().filter(|entry| wanted(entry.stamp)) {
        let offset = u64::from(entry.offset());
        let lsn = segment.lsn(offset);
        let claimed = record::claimed_units(window.at(offset, UNIT_BYTES)?, lsn).unwrap_or(1) * UNIT_BYTES;
        match record::decode(window.at(offset, claimed)?, segment.header.log, lsn) {
            // INVARIANT 2.
            Some(Record::Commit {
                stamp: Some(stamp),
                checksum,
                writes,
                ..
            }) if stamp == entry.stamp && checksum == entry.checksum => apply(stamp, writes),
            _ => {
                let reason = "a record reads differently than a moment ago".to_owned();
                return Err(segment.corrupt(offset, reason));
            }
        }
        count += 1;
    }
    Ok(count)
}

/// Part of a segment in memory, moving forward.
struct Window<'a> {
    storage: &'a dyn Storage,
    segment: &'a Segment,
    /// Bytes of the segment.
    end: u64,
    /// The offset of the first of `bytes`.
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(storage: &'a dyn Storage, segment: &'a Segment) -> Self {
        Self {
            storage,
            segment,
            end: u64::from(segment.header.bytes),
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Returns what is at `offset`: at least so many bytes, unless the segment ends before.
    #[inline]
    fn at(&mut self, offset: u64, wanted: usize) -> Result<&[u8]> {
        let until = self.end.min(offset + wanted as u64);
        if offset < self.start || self.start + (self.bytes.len() as u64) < until {
            self.fill(offset, wanted)?;
        }
        // What was just read is in memory, so its length has as many bits as an address.
        Ok(&self.bytes[(offset - self.start) as usize..])
    }

    #[inline(never)]
    fn fill(&mut self, offset: u64, wanted: usize) -> Result<()> {
        let known = self.start..self.start + self.bytes.len() as u64;
        if known.contains(&offset) {
            self.bytes.drain(..(offset - self.start) as usize);
        } else {
            self.bytes.clear();
        }
        self.start = offset;
        let kept = self.bytes.len();
        let target = wanted.max(PIECE_BYTES).min((self.end - offset) as usize);
        self.bytes.resize(target, 0);
        let from = offset + kept as u64;
        let read = self.storage.read(&self.segment.name, from, &mut self.bytes[kept..])?;
        if read < target - kept {
            let reason = "the file became shorter while it was read".to_owned();
            return Err(self.segment.corrupt(from + read as u64, reason));
        }
        Ok(())
    }
}

/// How many threads share the work of a pass.
fn threads() -> usize {
    // Models explore the threads that they start themselves.
    if cfg!(loom) {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Does all `tasks`, on several threads if there are so many bytes to go over that it pays to start them, and returns
/// what each gave in their order. After an error no task is begun; the error of the first task that had one is returned.
pub(crate) fn in_parallel<T: Sync, R: Send>(
    tasks: &[T],
    bytes: u64,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let worth = usize::try_from(bytes / u64::from(SHARE_BYTES)).unwrap_or(usize::MAX);
    let threads = threads().min(tasks.len()).min(worth);
    if threads <= 1 {
        return tasks.iter().map(work).collect();
    }
    // The next task, and what those that are done gave.
    let shared = Mutex::new((0, Vec::new()));
    // A poisoned lock means a task that panicked; its scope passes the panic on.
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let share = || {
        loop {
            let (number, task) = {
                let (next, _) = &mut *lock();
                let Some(task) = tasks.get(*next) else {
                    return;
                };
                *next += 1;
                (*next - 1, task)
            };
            let result = work(task);
            let (next, done) = &mut *lock();
            if result.is_err() {
                *next = tasks.len();
            }
            done.push((number, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(share);
        }
        share();
    });
    let (_, mut done) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(all(test, not(loom)))]
#[path = "reader_tests.rs"]
mod tests;
