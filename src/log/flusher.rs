//! One flush: draws a cut, covers what committed up to it, and makes that durable.
//!
//! The thread that flushes holds the flusher's baton, which is the lock around [`Flusher`]: the background thread, or a
//! writer that waits for its commit and finds nobody at it. A flush walks the places from `low`, the first one that is
//! not decided, to the end of the log as it was after the cut was drawn.
//!
//! ```text
//!            low                                                    n
//!   ... DONE | copied, ACTIVE | copied, ts 7 | empty | copied, ts 12 | ...          F = 9
//!            |  carried       |  stamped 7   | carried | carried     |
//! ```
//!
//! To *carry* a place is to write nothing about it: the next flush looks again. What is carried will be given more than the
//! cut, or abort, so the marker covers exactly the commits with `F_prev < ts <= F`.
//!
//! # Invariants
//!
//! 1. The end of the log is read after the cut is drawn (F3). A commit at or below the cut was drawn before; PREPARED was
//!    seen before that, and its record copied and its place reserved earlier still. So the walk meets it, copied and not
//!    ACTIVE.
//! 2. A sync begins at the old `low`, not at the new one: what was carried before may be stamped now.
//! 3. The cut moves only after everything that it covers, its marker, and the names of the files they are in are durable.
//! 4. Segments get their names in the order of their numbers, each durably before the next.
//! 5. The first failure to make something durable poisons the log, and nothing is synced after it.
//!
//! # Progress
//!
//! Waits for the disk alone. Pinned for some hundred places at a time, and not while syncing.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::sync::pause::{self, Step};
use crate::sync::{MutexGuard, full_fence, order};
use crate::types::{Fate, Timestamp};

use super::header;
use super::record::{self, Marker, UNIT_BYTES};
use super::segment::{Baton, FIRST_UNIT, MARKER_UNITS, Segment, Side};
use super::{Log, NO_PANIC, Pending, Pinned};

/// Places that are looked at while pinned once.
const PLACES_PER_PIN: usize = 256;

/// A segment that is on the disk and in which nothing will be written any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSegment {
    /// Its number.
    pub number: u32,
    /// The name of its file.
    pub name: String,
    /// The length of its file.
    pub bytes: u64,
    /// The greatest timestamp that anything in it speaks of: stamps, cuts of markers, what a restart takes back. A checkpoint
    /// at or above it makes the segment superfluous.
    pub last: Timestamp,
}

/// Segments that no flush will write to again.
pub(super) struct Kept {
    /// Oldest first.
    segments: VecDeque<KeptSegment>,
    /// The number of the oldest segment that is not among them.
    first_live: u32,
}

impl Kept {
    /// Returns those before the segment of that number.
    pub(super) fn new(segments: Vec<KeptSegment>, first_live: u32) -> Self {
        Self {
            segments: segments.into(),
            first_live,
        }
    }

    fn push(&mut self, segment: KeptSegment) {
        self.first_live = segment.number + 1;
        self.segments.push_back(segment);
    }
}

/// What flushes leave for each other.
pub(super) struct Flusher {
    baton: Baton,
    /// The first unit of the first segment that is not decided.
    low: usize,
    /// The greatest timestamp that anything in the first segment speaks of, and in those after it.
    last: VecDeque<Timestamp>,
    /// The cut of the last marker.
    previous: Timestamp,
    /// How many commits have been stamped since, and what they add up to: nothing, unless a marker found no room.
    stamped: (u64, u64),
    /// Units used for markers behind the limit of the segment of that number.
    spare_markers: (u32, usize),
}

/// What one walk over the places found.
struct Walk<'p, P: Pending> {
    pending: &'p P,
    pinned: Option<P::Pinned<'p>>,
    looked: usize,
    cut: Timestamp,
    /// Commits that are stamped and not covered yet: how many, and what they add up to.
    stamped: (u64, u64),
    /// The number of the segment and the unit of the first place that was carried.
    carried: Option<(u32, usize)>,
    /// How many places were carried; neighbours that nobody has copied to count as one.
    carried_count: u64,
    /// The number of the segment at the end, and how many of its records and those before need no other flush.
    end: (u32, u64),
}

impl Flusher {
    /// Returns the state of a log whose first segment is decided up to unit `low`.
    pub(super) fn new(baton: Baton, low: usize, previous: Timestamp) -> Self {
        Self {
            baton,
            low,
            // The restart takes back what lies between the last cut and the clock.
            last: VecDeque::from([previous]),
            previous,
            stamped: (0, 0),
            spare_markers: (0, 0),
        }
    }
}

impl Log {
    /// Flushes. The caller holds the baton and tells those that wait when it is over.
    pub(super) fn flush_locked<P: Pending>(&self, flusher: &mut Flusher, pending: &P) -> Result<()> {
        self.check_poison()?;
        match self.flush_once(flusher, pending) {
            Ok(()) => Ok(()),
            Err(Failure::NoRoom(error)) => Err(error),
            Err(Failure::Unknown(error)) => {
                self.poison(flusher, error, pending);
                Err(self.poison_error())
            }
        }
    }

    fn flush_once<P: Pending>(&self, flusher: &mut Flusher, pending: &P) -> Result<(), Failure> {
        let cut = pending.draw_cut();
        full_fence(order::F3_FLUSHER);
        pause::reached(Step::CutDrawn);
        let mut walk = Walk {
            pending,
            pinned: None,
            looked: 0,
            cut,
            stamped: flusher.stamped,
            carried: None,
            carried_count: 0,
            end: (0, 0),
        };
        // INVARIANT 1: the end is read after the draw.
        let low = self.walk(flusher, &mut walk);
        // Whoever is pinned holds memory back, and a sync takes long.
        walk.pinned = None;
        flusher.stamped = walk.stamped;
        let (count, sum) = walk.stamped;
        if count > 0 {
            let marker = Marker {
                cut,
                previous: flusher.previous,
                count,
                sum,
            };
            let (number, unit) = self.append_marker(flusher, &marker)?;
            pause::reached(Step::MarkerAppended);
            // INVARIANT 2.
            self.sync(flusher, number, unit)?;
            flusher.previous = cut;
            flusher.stamped = (0, 0);
        }
        self.note_flushed(flusher, walk.end);
        self.pass(flusher, low, pending);
        // The store first: whoever is told that its commit is durable finds it in a snapshot at the durable cut.
        pending.advance(cut);
        // ORDERING: Release; the sync is before it (invariant 3). Pairs with `durable_cut`.
        self.cut.store(cut.get(), order::ADVANCE_CUT);
        Ok(())
    }

    /// Looks at every place from `low` to the end. Returns the number of the segment and the unit of the new `low`.
    fn walk<P: Pending>(&self, flusher: &mut Flusher, walk: &mut Walk<'_, P>) -> (u32, usize) {
        let end = self.segments.current_for(&flusher.baton);
        let (end_unit, records) = end.reserved();
        let mut segment = self.segments.first(&flusher.baton);
        let mut unit = flusher.low;
        let mut nth = 0;
        loop {
            let is_end = segment.number() == end.number();
            let until = if is_end { end_unit } else { segment.limit() };
            // A whole segment has been filled since: whoever is not done here does not come back soon.
            let is_stuck = segment.number() + 1 < end.number();
            if flusher.last.len() == nth {
                flusher.last.push_back(Timestamp::ABSENT);
            }
            walk.segment(segment, unit, until, is_stuck, &mut flusher.last[nth]);
            if is_end {
                break;
            }
            segment = self
                .segments
                .after(segment, &flusher.baton)
                .expect("the current segment is reached by going on");
            unit = FIRST_UNIT;
            nth += 1;
        }
        walk.end = (end.number(), records.wrapping_sub(walk.carried_count));
        walk.carried.unwrap_or((end.number(), end_unit))
    }

    /// Appends a marker, and returns where.
    fn append_marker(&self, flusher: &mut Flusher, marker: &Marker) -> Result<(u32, usize), Failure> {
        loop {
            let segment = self.segments.current_for(&flusher.baton);
            let unit = match segment.reserve(1) {
                Some(reserved) => reserved.unit,
                None => match self.roll(segment, 1) {
                    Ok(()) => continue,
                    // No room for another segment: a few markers fit behind the limit of this one.
                    Err(error) => {
                        let (number, used) = &mut flusher.spare_markers;
                        if *number != segment.number() {
                            (*number, *used) = (segment.number(), 0);
                        }
                        if *used == MARKER_UNITS {
                            return Err(Failure::NoRoom(error));
                        }
                        *used += 1;
                        segment.limit() + *used - 1
                    }
                },
            };
            record::encode_marker(segment.place(unit, 1), self.files.log, segment.lsn(unit), marker);
            segment.close_own(unit);
            let first = self.segments.first(&flusher.baton).number();
            let nth = (segment.number() - first) as usize;
            flusher.last.resize(flusher.last.len().max(nth + 1), Timestamp::ABSENT);
            flusher.last[nth] = marker.cut;
            return Ok((segment.number(), unit));
        }
    }

    /// Makes everything durable from `low` to unit `unit` of segment `number`.
    fn sync(&self, flusher: &Flusher, number: u32, unit: usize) -> Result<(), Failure> {
        let mut segment = self.segments.first(&flusher.baton);
        let mut from = flusher.low;
        loop {
            let is_last = segment.number() == number;
            let named = segment.is_named();
            let from_bytes = if named { from * UNIT_BYTES } else { 0 };
            // The marker was reserved after all that it covers.
            let until_bytes = if is_last {
                (unit + 1) * UNIT_BYTES
            } else {
                segment.bytes()
            };
            segment.file().sync(from_bytes..until_bytes).map_err(Failure::Unknown)?;
            if !named {
                // INVARIANT 4.
                self.files.name(segment).map_err(Failure::Unknown)?;
            }
            if is_last {
                return Ok(());
            }
            segment = self
                .segments
                .after(segment, &flusher.baton)
                .expect("the marker's segment is reached by going on");
            from = FIRST_UNIT;
        }
    }

    /// Lets writers know how many records wait no longer. Not before they are durable.
    fn note_flushed(&self, flusher: &Flusher, (number, records): (u32, u64)) {
        let mut segment = Some(self.segments.first(&flusher.baton));
        while let Some(live) = segment {
            if live.number() == number {
                return live.note_flushed(records);
            }
            segment = self.segments.after(live, &flusher.baton);
        }
    }

    /// Moves `low`, and takes leave of the segments before it.
    fn pass<P: Pending>(&self, flusher: &mut Flusher, (number, unit): (u32, usize), pending: &P) {
        flusher.low = unit;
        while self.segments.first(&flusher.baton).number() < number {
            let first = self.segments.first(&flusher.baton);
            if !first.is_named() {
                // Nothing in it was ever covered, but segments are named in order: with the next sync.
                flusher.low = first.limit();
                return;
            }
            let last = flusher.last.pop_front().expect("one for each live segment");
            let kept = KeptSegment {
                number: first.number(),
                name: header::segment_name(first.number()),
                bytes: first.bytes() as u64,
                last,
            };
            self.kept().push(kept);
            let pinned = pending.pin();
            self.segments.retire_first(&mut flusher.baton, pinned.guard());
        }
    }

    /// Ends all durability. What is on the disk is unknown: every place is closed and every write that is not decided is
    /// aborted, so that the store need not keep anything for the log.
    #[cold]
    pub(super) fn poison<P: Pending>(&self, flusher: &mut Flusher, error: Error, pending: &P) {
        *self.cause.lock().expect(NO_PANIC) = Some(Arc::new(error));
        // ORDERING: SeqCst, before the places are looked at; the partner is `append`.
        self.poisoned.store(true, order::POISON);
        full_fence(order::POISON_FENCE);
        let mut segment = self.segments.first(&flusher.baton);
        let mut unit = flusher.low;
        loop {
            let (reserved, _) = segment.reserved();
            while unit < reserved {
                let pinned = pending.pin();
                match segment.side(unit) {
                    Side::Copied(what) => {
                        pinned.give_up(what, true);
                        let (units, _) = segment.header(unit);
                        if segment.close(unit, what) {
                            pinned.release(what);
                        }
                        unit += units;
                    }
                    Side::Done => unit += segment.header(unit).0,
                    Side::Empty | Side::Void => unit += 1,
                    Side::End => break,
                }
            }
            match self.segments.after(segment, &flusher.baton) {
                Some(next) => segment = next,
                None => break,
            }
            unit = FIRST_UNIT;
        }
        pending.advance(Timestamp::LATEST);
    }

    /// Returns how many bytes of log are kept of which nothing will be written any more.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept().segments.iter().map(|segment| segment.bytes).sum()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect(NO_PANIC)
    }

    /// Returns the number of the oldest segment that a checkpoint at `cut` does not make superfluous. Waits for no flush.
    pub(crate) fn first_needed(&self, cut: Timestamp) -> u32 {
        let kept = self.kept();
        let needed = kept.segments.iter().find(|segment| segment.last > cut);
        needed.map_or(kept.first_live, |segment| segment.number)
    }

    /// Removes from the disk the segments before number `first`, which a durable checkpoint has made superfluous: oldest
    /// first, each durably before the next. Returns how many bytes that were. One call at a time.
    ///
    /// # Errors
    ///
    /// Those of the storage. What is still there is removed the next time, in the same order.
    pub(crate) fn forget(&self, first: u32) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let oldest = match self.kept().segments.front() {
                Some(oldest) if oldest.number < first => oldest.clone(),
                _ => return Ok(bytes),
            };
            // It may be gone already, if the sync failed the last time.
            if self.files.storage.list()?.contains(&oldest.name) {
                self.files.storage.remove(&oldest.name)?;
            }
            self.files.storage.sync_directory()?;
            // Only now, so that after a failure this one still goes first.
            self.kept().segments.pop_front();
            bytes += oldest.bytes;
        }
    }
}

/// Why a flush did not succeed.
enum Failure {
    /// Nothing was written yet: another flush may succeed.
    NoRoom(Error),
    /// What is on the disk is unknown.
    Unknown(Error),
}

impl<P: Pending> Walk<'_, P> {
    /// Looks at the places of one segment from a unit on.
    fn segment(&mut self, segment: &Segment, from: usize, until: usize, is_stuck: bool, last: &mut Timestamp) {
        let mut unit = from;
        let mut after_empty = false;
        while unit < until {
            let was_empty = std::mem::replace(&mut after_empty, false);
            if self.looked.is_multiple_of(PLACES_PER_PIN) {
                self.pinned = None;
            }
            self.looked += 1;
            let pinned = self.pinned.get_or_insert_with(|| self.pending.pin());
            match segment.side(unit) {
                Side::Done => unit += segment.header(unit).0,
                Side::Void => unit += 1,
                Side::End => return,
                Side::Empty if is_stuck && segment.void(unit) => unit += 1,
                Side::Empty if is_stuck => {}
                Side::Empty => {
                    self.carry(segment, unit, !was_empty);
                    after_empty = true;
                    unit += 1;
                }
                Side::Copied(what) => {
                    let (units, checksum) = segment.header(unit);
                    let mut fate = pinned.settle(what);
                    if is_stuck && fate == Fate::Active {
                        pinned.give_up(what, false);
                        fate = pinned.settle(what);
                    }
                    match fate {
                        Fate::Committed(timestamp) if timestamp <= self.cut => {
                            record::stamp(segment.place(unit, 1), timestamp);
                            let lsn = segment.lsn(unit);
                            let sum = record::contribution(lsn, timestamp, checksum).wrapping_add(self.stamped.1);
                            self.stamped = (self.stamped.0 + 1, sum);
                            *last = timestamp.max(*last);
                            if segment.close(unit, what) {
                                pinned.release(what);
                            }
                        }
                        Fate::Committed(_) | Fate::Active => self.carry(segment, unit, true),
                        Fate::Aborted => {
                            if segment.close(unit, what) {
                                pinned.release(what);
                            }
                        }
                    }
                    unit += units;
                }
            }
        }
    }

    /// Leaves a place for the next flush.
    fn carry(&mut self, segment: &Segment, unit: usize, is_another: bool) {
        self.carried.get_or_insert((segment.number(), unit));
        self.carried_count += u64::from(is_another);
    }
}
