//! From a directory of segments to the writes that it holds: exactly the state at one cut, or an error that names a place.
//!
//! ```text
//!  list, open headers ---> first pass: tables ---> judge ---> sync ---> second pass: apply
//!       |                        |                   |                        |
//!   numbering, one log     every valid record    which cut; is       the writes of every commit
//!                          of every segment      anything missing    up to the cut, any order
//! ```
//!
//! **What is restored** is the greatest cut whose marker holds, or that of the checkpoint: the writes of all commits with
//! `checkpoint < timestamp <= cut` that no restart took back, whatever segment they are in. They are handed out in any
//! order and from several threads; the caller keeps the greatest timestamp of each key, which no two commits share.
//!
//! **A torn tail is normal.** What lies behind the last cut that holds, half-written or complete, was acknowledged to nobody
//! and is left alone; the caller starts a new segment with a restart, which takes it back for good. Anything else that
//! is missing had been durable: it is [`Error::Corrupt`], and nothing is applied.
//!
//! **Nothing is written here**, so that a crash during recovery changes nothing, and a second one finds the same. But what
//! was read may be in the page cache alone, after a crash of the process: every file is synced before its content counts.
//!
//! # What is asked of those who write the files
//!
//! 1. A segment gets its name when its header and its length are durable, and the name is durable before anything in the
//!    next segment counts: numbers are without gaps, and a segment whose header is bad was damaged, also the last one.
//!    Files with a temporary name are remains of a crash; they are ignored, and reported so that they can be removed.
//! 2. The first segment of a log is [`FIRST_SEGMENT`], and its random number is the same in all of them.
//! 3. Segments go when a checkpoint at or above their [`last`](KeptSegment::last) is durable, a prefix of them. The checkpoint
//!    says which is the oldest that stays: what is before that is ignored, whether it is gone, half gone or back again.
//! 4. A marker and a restart each keep what `log/cuts.rs` says of them.
#![forbid(unsafe_code)]

pub(crate) mod inspect;

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::log::cuts::{self, Defect, LAST_TIMESTAMP};
use crate::log::header::{FIRST_SEGMENT, checkpoint_name, is_temporary, segment_name};
use crate::log::reader::{self, Entry, Found, Gap, SHARE_BYTES, Segment, SegmentTable};
use crate::log::{Covered, KeptSegment};
use crate::storage::Storage;
use crate::types::{Lsn, Timestamp};

/// How far recovery is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of the log gone over, in both passes together.
    pub bytes: u64,
    /// What this will be in the end.
    pub total: u64,
}

/// What was found and restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The log's random number; `None` if there is no log, nor a checkpoint.
    pub log: Option<u64>,
    /// Every commit up to here was restored, and none after it.
    pub cut: Timestamp,
    /// A multiple of the clock's tick above everything found: where the clock goes on.
    pub clock: Timestamp,
    /// The number of the segment to begin with.
    pub next_segment: u32,
    /// The segments that are there, by number.
    pub segments: Vec<KeptSegment>,
    /// Files that never got their names, to be removed.
    pub leftovers: Vec<String>,
    /// Commits that were applied.
    pub records: u64,
    /// Bytes of all segments.
    pub bytes: u64,
}

/// Takes a write that is restored: its key, its value or none for a delete, and its commit's timestamp.
pub type Apply<'a> = dyn Fn(&[u8], Option<&[u8]>, Timestamp) + Sync + 'a;

/// Reads a directory's log and applies what it holds beyond the checkpoint at `checkpoint`. `apply` is called from several
/// threads, in any order.
///
/// # Errors
///
/// [`Error::Corrupt`] and [`Error::FormatVersion`] before anything was applied; what the storage says, and
/// [`Error::Corrupt`] where a second reading gives something else than the first, perhaps after something was.
pub fn recover(
    storage: &dyn Storage,
    tick: u64,
    checkpoint: Option<Covered>,
    progress: &(dyn Fn(Progress) + Sync),
    apply: &Apply<'_>,
) -> Result<Recovered> {
    let leftovers = storage.list()?.into_iter().filter(|name| is_temporary(name)).collect();
    let segments = open_all(storage, checkpoint)?;
    let covered = checkpoint.map_or(Timestamp::ABSENT, |checkpoint| checkpoint.cut);
    if covered > LAST_TIMESTAMP {
        return Err(Error::Corrupt {
            segment: storage.describe(&checkpoint_name(covered)),
            offset: 0,
            reason: "no clock ever showed its timestamp".to_owned(),
        });
    }
    let gone_over = Counted::new(&segments, progress);
    let tables = reader::in_parallel(&segments, gone_over.total, |segment| {
        reader::tabulate(storage, segment, |bytes| gone_over.add(bytes))
    })?;
    let numbered: Vec<_> = segments
        .iter()
        .map(|segment| segment.header.number)
        .zip(&tables)
        .collect();
    let judgement = cuts::judge(&numbered, covered);
    if let Some(defect) = judgement.defect {
        return Err(locate(storage, &segments, defect)?);
    }
    for segment in &segments {
        storage.sync_file(&segment.name)?;
    }
    let wanted = |stamp: Timestamp| stamp > covered && stamp <= judgement.cut && !judgement.taken_back.contains(stamp);
    let shares = shares(&segments, &tables);
    let applied = reader::in_parallel(&shares, gone_over.total, |share| {
        let count = reader::visit(storage, share.segment, share.entries, wanted, |stamp, writes| {
            for (key, value) in writes {
                apply(key, value, stamp);
            }
        })?;
        gone_over.add(share.bytes);
        Ok(count)
    })?;
    let kept = |(segment, table): (&Segment, &SegmentTable)| KeptSegment {
        number: segment.header.number,
        name: segment.name.clone(),
        bytes: segment.file_bytes,
        last: table.last(),
    };
    Ok(Recovered {
        log: segments.first().map(|segment| segment.header.log),
        cut: judgement.cut,
        clock: after(judgement.seen, tick),
        next_segment: next_segment(&segments)?,
        segments: segments.iter().zip(&tables).map(kept).collect(),
        leftovers,
        records: applied.iter().sum(),
        bytes: segments.iter().map(|segment| segment.file_bytes).sum(),
    })
}

/// Returns the first multiple of a tick above a timestamp.
fn after(timestamp: Timestamp, tick: u64) -> Timestamp {
    let tick = tick.max(1);
    Timestamp::from_raw((timestamp.get() / tick + 1) * tick)
}

/// Opens all segments of a log and says whether they are one.
fn open_all(storage: &dyn Storage, checkpoint: Option<Covered>) -> Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    let first = checkpoint.and_then(|checkpoint| checkpoint.first);
    let listed = reader::list(storage)?;
    for (number, name) in listed
        .into_iter()
        .filter(|(number, _)| first.is_none_or(|first| first <= *number))
    {
        let before = segments.last().map(|before| before.header.number);
        check_number(storage, before, number, checkpoint)?;
        let segment = reader::open(storage, number, name)?;
        segments.first().map_or(Ok(()), |first| check_log(first, &segment))?;
        segments.push(segment);
    }
    match checkpoint {
        Some(Covered { cut, .. }) if segments.is_empty() => {
            let reason = format!("all segments are missing, and there is a checkpoint at timestamp {cut}");
            Err(missing(storage, FIRST_SEGMENT, reason))
        }
        _ => Ok(segments),
    }
}

/// Refuses a gap in the numbering, and a beginning that nothing covers.
fn check_number(storage: &dyn Storage, before: Option<u32>, number: u32, checkpoint: Option<Covered>) -> Result<()> {
    match before {
        None if checkpoint
            .and_then(|checkpoint| checkpoint.first)
            .is_some_and(|first| first < number) =>
        {
            let reason = "the segment is missing, and the checkpoint does not cover it".to_owned();
            Err(missing(storage, number - 1, reason))
        }
        Some(before) if number - before > 1 => {
            let reason = format!("the segment is missing, and {} is there", segment_name(number));
            Err(missing(storage, before + 1, reason))
        }
        None if number > FIRST_SEGMENT && checkpoint.is_none() => {
            let reason = "the segment is missing, and so is a checkpoint that covers it".to_owned();
            Err(missing(storage, number - 1, reason))
        }
        _ => Ok(()),
    }
}

/// Refuses a segment that is not of the log of another one.
fn check_log(first: &Segment, segment: &Segment) -> Result<()> {
    if first.header.log == segment.header.log {
        return Ok(());
    }
    Err(segment.corrupt(16, format!("it is part of another log than {}", first.path)))
}

fn missing(storage: &dyn Storage, number: u32, reason: String) -> Error {
    Error::Corrupt {
        segment: storage.describe(&segment_name(number)),
        offset: 0,
        reason,
    }
}

fn next_segment(segments: &[Segment]) -> Result<u32> {
    let Some(last) = segments.last() else {
        return Ok(FIRST_SEGMENT);
    };
    let used_up = || Error::InvalidOperation("the log has used up all numbers of segments; copy the data".to_owned());
    last.header.number.checked_add(1).ok_or_else(used_up)
}

/// Part of a segment, as one thread's work in the second pass.
struct Share<'a> {
    segment: &'a Segment,
    entries: &'a [Entry],
    /// Bytes that count as gone over when it is done.
    bytes: u64,
}

/// Cuts all segments into shares. A record is in the share where it begins.
fn shares<'a>(segments: &'a [Segment], tables: &'a [SegmentTable]) -> Vec<Share<'a>> {
    let mut shares = Vec::new();
    for (segment, table) in segments.iter().zip(tables) {
        let mut rest = &table.commits[..];
        let mut from = 0;
        while from < segment.header.bytes {
            let to = from.saturating_add(SHARE_BYTES).min(segment.header.bytes);
            let (entries, later) = rest.split_at(rest.partition_point(|entry| entry.offset() < to));
            shares.push(Share {
                segment,
                entries,
                bytes: u64::from(to - from),
            });
            (rest, from) = (later, to);
        }
    }
    shares
}

/// Adds up what the threads of both passes have gone over.
struct Counted<'a> {
    progress: &'a (dyn Fn(Progress) + Sync),
    total: u64,
    bytes: Mutex<u64>,
}

impl<'a> Counted<'a> {
    fn new(segments: &[Segment], progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        let bytes: u64 = segments.iter().map(|segment| u64::from(segment.header.bytes)).sum();
        Self {
            progress,
            total: 2 * bytes,
            bytes: Mutex::new(0),
        }
    }

    /// Tells how far all threads are, one thread at a time: what is told never goes back.
    fn add(&self, more: u64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes += more;
        (self.progress)(Progress {
            bytes: *bytes,
            total: self.total,
        });
    }
}

/// Looks for the damage that a defect speaks of, and returns the error that names it. What is broken between the last
/// marker that joins and the witness is the likeliest; then what is broken before, as a commit that was carried from cut to
/// cut would be; then places without a record; then the witness.
fn locate(storage: &dyn Storage, segments: &[Segment], defect: Defect) -> Result<Error> {
    let Defect { witness, after, reason } = defect;
    let after = after.unwrap_or(Lsn::new(0, 0));
    let mut best: Option<(Rank, Lsn)> = None;
    for segment in segments
        .iter()
        .filter(|segment| segment.header.number <= witness.segment())
    {
        let consider = |found: Found<'_>| {
            if let Found::Gap(gap) = found {
                let place = Lsn::new(
                    segment.header.number,
                    gap.broken.or(gap.written).unwrap_or(gap.bytes.start),
                );
                let rest = gap.bytes.end == segment.header.bytes;
                let suspect = rank(&gap, place > after, rest).filter(|_| place < witness);
                let suspect = suspect.map(|rank| (rank, place));
                best = match (best, suspect) {
                    (Some(best), Some(suspect)) => Some(best.min(suspect)),
                    (best, suspect) => best.or(suspect),
                };
            }
        };
        reader::scan(storage, segment, consider, |_| {})?;
    }
    let named = best.map_or(witness, |(_, place)| place);
    let segment = |lsn: Lsn| segments.iter().find(|segment| segment.header.number == lsn.segment());
    let path = |lsn: Lsn| segment(lsn).map_or_else(String::new, |segment| segment.path.clone());
    let reason = match best {
        Some((rank, _)) => format!(
            "{}; {reason} (seen from byte {} of {})",
            rank.text(),
            witness.offset(),
            path(witness)
        ),
        None => reason,
    };
    Ok(Error::Corrupt {
        segment: path(named),
        offset: u64::from(named.offset()),
        reason,
    })
}

/// How much a place without a record looks like damage; the likeliest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    /// A record that says it belongs there, and is broken.
    Broken,
    /// The same, before the cut in question.
    BrokenBefore,
    /// Bytes that are no record.
    Written,
    /// The same, before the cut in question.
    WrittenBefore,
    /// Zeros.
    Empty,
}

impl Rank {
    fn text(self) -> &'static str {
        match self {
            Self::Broken | Self::BrokenBefore => "the record here is broken",
            Self::Written | Self::WrittenBefore => "what is here is no record",
            Self::Empty => "there is no record here",
        }
    }
}

/// Ranks a gap that is in the cut in question or before it. What is left of a segment behind its last record holds nothing
/// as a rule, and with a file used again anything.
fn rank(gap: &Gap, in_question: bool, rest_of_segment: bool) -> Option<Rank> {
    match (gap.broken, in_question) {
        (Some(_), true) => Some(Rank::Broken),
        (Some(_), false) => Some(Rank::BrokenBefore),
        (None, _) if rest_of_segment => None,
        (None, true) if gap.written.is_some() => Some(Rank::Written),
        (None, true) => Some(Rank::Empty),
        (None, false) => gap.written.map(|_| Rank::WrittenBefore),
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, not(loom)))]
mod crash_tests;
