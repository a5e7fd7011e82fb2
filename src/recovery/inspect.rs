//! Looks at a log without opening it: what each segment holds, what every marker turned out to be, and what recovery
//! would say.
//!
//! Recovery stops at the first thing that is wrong. This goes on: a segment whose header is bad is reported and left out, and
//! the others are still gone over, so that whoever looks at a damaged log sees how far the damage goes.
#![forbid(unsafe_code)]

use std::path::Path;

use super::Covered;
use super::{Progress, Recovered, check_log, check_number, locate, recover};
use crate::error::{Error, Result};
use crate::log::cuts::{self, Judged, Verdict};
use crate::log::header::{checkpoint_cut, is_temporary};
use crate::log::reader::{self, Found, Gap, Segment, SegmentTable};
use crate::log::record::Restart;
use crate::storage::{ReadOnlyStorage, Storage};
use crate::types::{Lsn, Timestamp};

/// Holes of a segment that are reported one by one; of the others only the number.
const REPORTED_HOLES: usize = 16;

/// A log, as it was found.
#[derive(Debug)]
pub struct Inspection {
    /// The log's random number, if a segment has a good header.
    pub log: Option<u64>,
    /// The cut of the newest checkpoint, by its file's name.
    pub checkpoint: Option<Timestamp>,
    /// The segments, by number.
    pub segments: Vec<SegmentReport>,
    /// The markers of all segments, by timestamp.
    pub markers: Vec<MarkerReport>,
    /// The restarts of all segments, in the order of the log.
    pub restarts: Vec<RestartReport>,
    /// Files without their final names: made ahead of need, or left by a crash.
    pub leftovers: Vec<String>,
    /// The cut that recovery would restore, unless something is damaged.
    pub cut: Timestamp,
    /// What recovery would refuse the log for.
    pub damage: Option<Error>,
}

/// A segment, as it was found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SegmentReport {
    /// By the file's name.
    pub number: u32,
    /// The file's name.
    pub name: String,
    /// What is wrong with its header or length; then nothing else is known of it.
    pub refused: Option<String>,
    /// The log's random number.
    pub log: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the segment, header included.
    pub bytes: u32,
    /// The first byte behind its last record.
    pub end: u32,
    /// Commits.
    pub records: u64,
    /// Commits that have a timestamp.
    pub stamped: u64,
    /// The greatest timestamp that anything in it speaks of.
    pub last: Timestamp,
    /// How many times units without a record lie between records.
    pub holes: u64,
    /// Bytes of all of them.
    pub hole_bytes: u64,
    /// The first of them.
    pub first_holes: Vec<HoleReport>,
    /// Where a record claims to be and is broken: torn or damaged.
    pub first_broken: Option<u32>,
}

/// Units in a row, between records, that hold none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoleReport {
    /// The first byte.
    pub from: u32,
    /// The first byte behind it.
    pub to: u32,
    /// What it looks like.
    pub what: &'static str,
}

/// What a marker turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarkerVerdict {
    /// All its commits are there.
    Holds,
    /// They are not: so many lie in its interval.
    Fails(u64),
    /// It is part of a checkpoint, and not tested.
    Covered,
    /// A restart took it back: it belongs to a tail that was torn.
    TakenBack,
}

/// A marker, as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkerReport {
    /// Where it is.
    pub lsn: Lsn,
    /// Where its cut ends.
    pub cut: Timestamp,
    /// Where the cut before ended.
    pub previous: Timestamp,
    /// How many commits it says there are between the two.
    pub count: u64,
    /// Whether that is so.
    pub verdict: MarkerVerdict,
}

/// A restart, as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestartReport {
    /// Where it is.
    pub lsn: Lsn,
    /// The cut that was restored.
    pub last: Timestamp,
    /// Where the clock went on.
    pub clock: Timestamp,
}

/// What a rehearsal of recovery found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verification {
    /// The log's random number; `None` if the directory holds no log.
    pub log: Option<u64>,
    /// The cut of the checkpoint that was assumed.
    pub checkpoint: Option<Timestamp>,
    /// The cut that would be restored.
    pub cut: Timestamp,
    /// Segments read.
    pub segments: usize,
    /// Commits that would be applied.
    pub records: u64,
    /// Bytes read, of all segments.
    pub bytes: u64,
}

/// Looks at the log in a directory. Nothing is locked or written.
///
/// # Errors
///
/// What the file system says. Damage is no error, but part of what is returned.
pub fn inspect(directory: &Path) -> Result<Inspection> {
    look_at(&ReadOnlyStorage::open(directory)?)
}

/// Rehearses recovery of the log in a directory: reads everything twice and applies it nowhere. Nothing is locked or
/// written. The newest checkpoint is taken at its word; its content is not looked at.
///
/// # Errors
///
/// What recovery would fail with.
pub fn verify(directory: &Path, progress: &(dyn Fn(Progress) + Sync)) -> Result<Verification> {
    let storage = ReadOnlyStorage::open(directory)?;
    let checkpoint = newest_checkpoint(&storage.list()?);
    let Recovered {
        log,
        cut,
        segments,
        records,
        bytes,
        ..
    } = recover(&storage, 1, checkpoint.map(covered), progress, &|_, _, _| {})?;
    Ok(Verification {
        log,
        checkpoint,
        cut,
        segments: segments.len(),
        records,
        bytes,
    })
}

/// What is known of a checkpoint by its name alone.
fn covered(cut: Timestamp) -> Covered {
    Covered { cut, first: None }
}

fn newest_checkpoint(names: &[String]) -> Option<Timestamp> {
    names.iter().filter_map(|name| checkpoint_cut(name)).max()
}

/// Looks at the log in a storage.
pub(crate) fn look_at(storage: &dyn Storage) -> Result<Inspection> {
    let names = storage.list()?;
    let checkpoint = newest_checkpoint(&names);
    let mut damage = None;
    let mut reports: Vec<SegmentReport> = Vec::new();
    let mut readable: Vec<(Segment, SegmentTable)> = Vec::new();
    for (number, name) in reader::list(storage)? {
        let before = reports.last().map(|report| report.number);
        let found = check_number(storage, before, number, checkpoint.map(covered));
        damage = damage.or(found.err());
        match reader::open(storage, number, name.clone()) {
            Ok(segment) => {
                let (report, table) = look_at_segment(storage, &segment)?;
                reports.push(report);
                let found = readable.first().map_or(Ok(()), |(first, _)| check_log(first, &segment));
                if found.is_ok() {
                    readable.push((segment, table));
                }
                damage = damage.or(found.err());
            }
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => {
                reports.push(SegmentReport {
                    number,
                    name,
                    refused: Some(error.to_string()),
                    ..SegmentReport::default()
                });
                damage = damage.or(Some(error));
            }
        }
    }
    let (segments, tables): (Vec<_>, Vec<_>) = readable.into_iter().unzip();
    let numbered: Vec<_> = segments
        .iter()
        .map(|segment| segment.header.number)
        .zip(&tables)
        .collect();
    let judgement = cuts::judge(&numbered, checkpoint.unwrap_or(Timestamp::ABSENT));
    if let (None, Some(defect)) = (&damage, judgement.defect) {
        damage = Some(locate(storage, &segments, defect)?);
    }
    Ok(Inspection {
        log: segments.first().map(|segment| segment.header.log),
        checkpoint,
        segments: reports,
        markers: judgement.markers.iter().map(MarkerReport::of).collect(),
        restarts: restarts(&numbered),
        leftovers: names.into_iter().filter(|name| is_temporary(name)).collect(),
        cut: judgement.cut,
        damage,
    })
}

/// Goes over a segment once, for its report and its table.
fn look_at_segment(storage: &dyn Storage, segment: &Segment) -> Result<(SegmentReport, SegmentTable)> {
    let mut table = SegmentTable::new();
    let mut report = SegmentReport {
        number: segment.header.number,
        name: segment.name.clone(),
        log: segment.header.log,
        file_bytes: segment.file_bytes,
        bytes: segment.header.bytes,
        ..SegmentReport::default()
    };
    let add = |found: Found<'_>| match found {
        Found::Record(offset, record) => table.add(offset, &record),
        Found::Gap(gap) => {
            report.first_broken = report.first_broken.or(gap.broken);
            if gap.bytes.end < segment.header.bytes {
                report.add_hole(&gap);
            }
        }
    };
    reader::scan(storage, segment, add, |_| {})?;
    report.end = table.end;
    report.records = table.records;
    report.stamped = table.commits.len() as u64;
    report.last = table.last();
    Ok((report, table))
}

fn restarts(tables: &[(u32, &SegmentTable)]) -> Vec<RestartReport> {
    let of_segment = |(number, table): &(u32, &SegmentTable)| {
        let number = *number;
        let report = move |(offset, restart): &(u32, Restart)| RestartReport {
            lsn: Lsn::new(number, *offset),
            last: restart.last,
            clock: restart.clock,
        };
        table.restarts.iter().map(report).collect::<Vec<_>>()
    };
    tables.iter().flat_map(of_segment).collect()
}

impl SegmentReport {
    fn add_hole(&mut self, gap: &Gap) {
        self.holes += 1;
        self.hole_bytes += u64::from(gap.bytes.end - gap.bytes.start);
        if self.first_holes.len() < REPORTED_HOLES {
            let what = match gap {
                Gap { broken: Some(_), .. } => "a broken record",
                Gap { written: Some(_), .. } => "bytes that are no record",
                _ => "zeros",
            };
            self.first_holes.push(HoleReport {
                from: gap.bytes.start,
                to: gap.bytes.end,
                what,
            });
        }
    }
}

impl MarkerReport {
    fn of(judged: &Judged) -> Self {
        let verdict = match judged.verdict {
            Verdict::Holds => MarkerVerdict::Holds,
            Verdict::Fails { found } => MarkerVerdict::Fails(found),
            Verdict::Covered => MarkerVerdict::Covered,
            Verdict::TakenBack => MarkerVerdict::TakenBack,
        };
        Self {
            lsn: judged.lsn,
            cut: judged.marker.cut,
            previous: judged.marker.previous,
            count: judged.marker.count,
            verdict,
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "inspect_tests.rs"]
mod tests;
