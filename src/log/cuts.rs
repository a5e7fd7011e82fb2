//! Which cut a log holds: what its markers and restarts say, and whether its records agree.
//!
//! A marker ends a cut: it says how many commits lie in `(F_prev, F]`, and what their contributions add up to. It may reach
//! the disk before them, so it is believed only if they are there. A restart begins a life of the log. It says which cut
//! was restored and where the clock went on; stamps and markers between the two are remains of a cut that never became
//! durable, and are taken back for good: the clock never comes by them again, and without this the first marker of the new
//! life would count them.
//!
//! ```text
//!            first life                          second life
//!  |--------------|-----------|- - - - -|[restart F2, C]-----------|---------|- - - -
//!  0             F1          F2   taken   C-1                      F3        F4
//!                              back: (F2, C)
//!  markers:  (0, F1]     (F1, F2]  (F2, x]             (C-1, F3]        (F3, F4]
//!                                  fails, and is taken back              may fail
//! ```
//!
//! # Invariants
//!
//! 1. A marker is written when the sync of the one before has returned. So only the last marker of a life may fail, and
//!    only for lack of commits: what never came to the disk adds none. A restart is written when what it says was restored
//!    is on the disk. So no marker that a restart builds upon may fail.
//! 2. Intervals join: `F_prev` is the cut before, or one less than the clock of a restart in between. So a marker that was
//!    destroyed together with its checksum is noticed by its successor; and every stamp up to the cut that is not taken
//!    back lies in exactly one interval, so that no commit is restored without having been counted.
//! 3. A restart restores the greatest cut below its clock.
//! 4. What a checkpoint at `X` covers counts no more: segments up to `X` may be gone, with any part of what they held. A cut
//!    that goes beyond `X` is tested over `(max(F_prev, X), F]`, since older stamps may have gone with their segments.
//!
//! A breach of any is a [`Defect`]: something that was durable is damaged. Everything here is a computation over tables.
#![forbid(unsafe_code)]

use super::reader::SegmentTable;
use super::record::{self, Marker, Restart};
use crate::types::{Lsn, Timestamp};

/// No clock comes this far; a greater stamp is a flipped bit.
pub(crate) const LAST_TIMESTAMP: Timestamp = Timestamp::from_raw(Timestamp::LATEST.get() >> 1);

/// What a marker turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Its commits are there.
    Holds,
    /// Some are not, or there are others: so many were found.
    Fails {
        /// Commits with a stamp in its interval.
        found: u64,
    },
    /// A checkpoint covers it; it is not tested.
    Covered,
    /// A restart took it back.
    TakenBack,
}

/// A marker, where it is, and what it turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Judged {
    pub(crate) lsn: Lsn,
    pub(crate) marker: Marker,
    pub(crate) verdict: Verdict,
}

/// Something durable that is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Defect {
    /// What shows it.
    pub(crate) witness: Lsn,
    /// Where the damage may be found, if not at the witness: between here and there.
    pub(crate) after: Option<Lsn>,
    pub(crate) reason: String,
}

/// What all tables of a log say together.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    /// The greatest cut that holds, or that of the checkpoint.
    pub(crate) cut: Timestamp,
    /// The greatest timestamp that anything speaks of.
    pub(crate) seen: Timestamp,
    /// What restarts took back.
    pub(crate) taken_back: TakenBack,
    /// All markers, by their cut.
    pub(crate) markers: Vec<Judged>,
    /// The first defect, by timestamp.
    pub(crate) defect: Option<Defect>,
}

/// The timestamps that restarts took back: open intervals, disjoint and ascending.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct TakenBack(Vec<(u64, u64)>);

impl TakenBack {
    fn by(restarts: &[(Lsn, Restart)]) -> Self {
        let mut intervals: Vec<_> = restarts
            .iter()
            .map(|(_, restart)| (restart.last.get(), restart.clock.get()))
            .collect();
        intervals.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (last, clock) in intervals {
            match joined.last_mut() {
                Some(before) if last < before.1 => before.1 = before.1.max(clock),
                _ => joined.push((last, clock)),
            }
        }
        Self(joined)
    }

    /// Says whether a restart took a timestamp back.
    #[inline]
    pub(crate) fn contains(&self, timestamp: Timestamp) -> bool {
        let after = self.0.partition_point(|(last, _)| *last < timestamp.get());
        after > 0 && timestamp.get() < self.0[after - 1].1
    }
}

/// Judges the tables of a log's segments, given with their numbers and in their order; `checkpoint` is the cut of the
/// checkpoint that lies below the log, or [`Timestamp::ABSENT`].
pub(crate) fn judge(tables: &[(u32, &SegmentTable)], checkpoint: Timestamp) -> Judgement {
    let mut restarts: Vec<(Lsn, Restart)> = Vec::new();
    let mut markers: Vec<(Lsn, Marker)> = Vec::new();
    for (number, table) in tables {
        let place = |offset: u32| Lsn::new(*number, offset);
        restarts.extend(
            table
                .restarts
                .iter()
                .map(|(offset, restart)| (place(*offset), *restart)),
        );
        markers.extend(table.markers.iter().map(|(offset, marker)| (place(*offset), *marker)));
    }
    restarts.sort_unstable_by_key(|(lsn, restart)| (restart.clock, *lsn));
    markers.sort_unstable_by_key(|(lsn, marker)| (marker.cut, *lsn));
    let taken_back = TakenBack::by(&restarts);
    let verdict = |cut| match () {
        () if taken_back.contains(cut) => Verdict::TakenBack,
        () if cut <= checkpoint => Verdict::Covered,
        () => Verdict::Holds,
    };
    let mut markers: Vec<Judged> = markers
        .into_iter()
        .map(|(lsn, marker)| Judged {
            lsn,
            marker,
            verdict: verdict(marker.cut),
        })
        .collect();
    test(&mut markers, tables, &taken_back, checkpoint);
    let cut = markers
        .iter()
        .rfind(|judged| judged.verdict == Verdict::Holds)
        .map_or(checkpoint, |judged| judged.marker.cut);
    let seen = tables.iter().map(|(_, table)| table.seen()).max();
    let defect = impossible(tables)
        .or_else(|| disjoint(&markers, &restarts, checkpoint))
        .or_else(|| failing(&markers, &restarts));
    Judgement {
        cut,
        seen: seen.unwrap_or(Timestamp::ABSENT).max(checkpoint),
        taken_back,
        markers,
        defect,
    }
}

impl SegmentTable {
    /// Returns the greatest timestamp that anything in the segment speaks of, a restart's clock included.
    fn seen(&self) -> Timestamp {
        let clocks = self.restarts.iter().map(|(_, restart)| restart.clock);
        clocks.fold(self.last(), Timestamp::max)
    }
}

/// Counts the commits of every marker that is to be tested, and writes down which fail.
fn test(markers: &mut [Judged], tables: &[(u32, &SegmentTable)], taken_back: &TakenBack, checkpoint: Timestamp) {
    let tested = |judged: &&mut Judged| judged.verdict == Verdict::Holds;
    let interval = |marker: &Marker| (marker.previous.max(checkpoint), marker.cut);
    let mut bounds: Vec<Timestamp> = Vec::new();
    for judged in markers.iter_mut().filter(tested) {
        let (from, to) = interval(&judged.marker);
        bounds.extend([from, to]);
    }
    bounds.sort_unstable();
    bounds.dedup();
    // Up to each bound, those up to the one before not counted: how many commits, and the sum of their contributions.
    let mut sums = vec![(0_u64, 0_u64); bounds.len() + 1];
    let mut slot = 0;
    for (number, table) in tables {
        for entry in &table.commits {
            if taken_back.contains(entry.stamp) {
                continue;
            }
            // Neighbours in the log mostly belong to one cut.
            let above = slot == 0 || bounds[slot - 1] < entry.stamp;
            if !above || bounds.get(slot).is_some_and(|bound| *bound < entry.stamp) {
                slot = bounds.partition_point(|bound| *bound < entry.stamp);
            }
            let lsn = Lsn::new(*number, entry.offset());
            let (count, sum) = &mut sums[slot];
            *count += 1;
            *sum = sum.wrapping_add(record::contribution(lsn, entry.stamp, entry.checksum));
        }
    }
    let mut all = (0_u64, 0_u64);
    for (count, sum) in &mut sums {
        all = (all.0 + *count, all.1.wrapping_add(*sum));
        (*count, *sum) = all;
    }
    let up_to = |bound: Timestamp| sums[bounds.partition_point(|other| *other < bound)];
    for judged in markers.iter_mut().filter(tested) {
        let (from, to) = interval(&judged.marker);
        let (before, until) = (up_to(from), up_to(to));
        // A marker that ends before it begins is a defect, whatever it counts.
        let found = until.0.wrapping_sub(before.0);
        let sum = until.1.wrapping_sub(before.1);
        if (found, sum) != (judged.marker.count, judged.marker.sum) {
            judged.verdict = Verdict::Fails { found };
        }
    }
}

/// Looks for timestamps that no clock ever showed, and for intervals that end before they begin.
fn impossible(tables: &[(u32, &SegmentTable)]) -> Option<Defect> {
    let too_late = |timestamp: Timestamp| timestamp > LAST_TIMESTAMP;
    let defect = |number: u32, offset: u32, reason: &str| Defect {
        witness: Lsn::new(number, offset),
        after: None,
        reason: reason.to_owned(),
    };
    for (number, table) in tables {
        if let Some(entry) = table.commits.iter().find(|entry| too_late(entry.stamp)) {
            return Some(defect(*number, entry.offset(), "the stamp of a commit is no timestamp"));
        }
        let odd = |(_, marker): &&(u32, Marker)| too_late(marker.cut) || marker.previous >= marker.cut;
        if let Some((offset, _)) = table.markers.iter().find(odd) {
            return Some(defect(*number, *offset, "a marker ends before it begins, or never"));
        }
        let odd = |(_, restart): &&(u32, Restart)| too_late(restart.clock) || restart.last >= restart.clock;
        if let Some((offset, _)) = table.restarts.iter().find(odd) {
            return Some(defect(
                *number,
                *offset,
                "a restart goes on before what it restored, or never",
            ));
        }
    }
    None
}

/// Looks for markers and restarts that do not join what is before them: what they join is missing.
fn disjoint(markers: &[Judged], restarts: &[(Lsn, Restart)], checkpoint: Timestamp) -> Option<Defect> {
    let kept: Vec<&Judged> = markers
        .iter()
        .filter(|judged| judged.verdict != Verdict::TakenBack)
        .collect();
    let covered = |first: Timestamp, second: Timestamp| first.max(second) <= checkpoint;
    let before = |index: usize| index.checked_sub(1).map(|before| kept[before]);
    let tested = |(_, judged): &(usize, &&Judged)| judged.verdict != Verdict::Covered;
    for (index, judged) in kept.iter().enumerate().filter(tested) {
        let marker = &judged.marker;
        let last = before(index);
        // INVARIANT 2.
        let begun = restarts.partition_point(|(_, restart)| restart.clock <= marker.cut);
        let life = begun.checked_sub(1).map(|last| restarts[last]);
        let begin = life.map_or(0, |(_, restart)| restart.clock.get() - 1);
        let cut = last.map_or(Timestamp::ABSENT, |last| last.marker.cut);
        let joined = cut.max(Timestamp::from_raw(begin));
        let twice = last.is_some_and(|last| last.marker.cut == marker.cut);
        if twice || marker.previous != joined && !covered(marker.previous, joined) {
            return Some(Defect {
                witness: judged.lsn,
                after: last.map(|last| last.lsn).max(life.map(|(lsn, _)| lsn)),
                reason: format!(
                    "a marker begins at timestamp {} where {joined} was expected: what is between is missing",
                    marker.previous
                ),
            });
        }
    }
    for (lsn, restart) in restarts {
        // INVARIANT 3.
        let last = before(kept.partition_point(|judged| judged.marker.cut < restart.clock));
        let cut = last.map_or(Timestamp::ABSENT, |last| last.marker.cut);
        if cut != restart.last && !covered(cut, restart.last) {
            return Some(Defect {
                witness: *lsn,
                after: last.map(|last| last.lsn),
                reason: format!(
                    "a restart builds upon the cut at timestamp {}, and the last one before it is {cut}: the marker of \
                     the former is missing",
                    restart.last
                ),
            });
        }
    }
    None
}

/// Looks for a marker that fails and may not.
fn failing(markers: &[Judged], restarts: &[(Lsn, Restart)]) -> Option<Defect> {
    let begun = restarts.last().map(|(_, restart)| restart.clock);
    let mut kept = markers
        .iter()
        .filter(|judged| judged.verdict != Verdict::TakenBack)
        .peekable();
    let mut before = None;
    while let Some(judged) = kept.next() {
        let marker = &judged.marker;
        // INVARIANT 1.
        let last = kept.peek().is_none() && begun.is_none_or(|clock| clock <= marker.cut);
        match judged.verdict {
            Verdict::Fails { found } if !last || found >= marker.count => {
                return Some(Defect {
                    witness: judged.lsn,
                    after: before,
                    reason: format!(
                        "the cut up to timestamp {} {}",
                        marker.cut,
                        shortfall(marker.count, found)
                    ),
                });
            }
            _ => before = Some(judged.lsn),
        }
    }
    None
}

fn shortfall(count: u64, found: u64) -> String {
    match count.checked_sub(found) {
        Some(0) => format!("has {count} commits, of which some are not what they were"),
        Some(missing) => format!("lacks {missing} of its {count} commits"),
        None => format!("has {count} commits, and {found} were found"),
    }
}

#[cfg(all(test, not(loom)))]
#[path = "cuts_tests.rs"]
mod tests;
