//! The judgement alone, over tables made by hand; whole logs are judged in the tests of recovery.
#![forbid(unsafe_code)]

use super::*;
use crate::log::reader::Entry;

fn at(timestamp: u64) -> Timestamp {
    Timestamp::from_raw(timestamp)
}

/// A table of segment 1: commits by their stamps, then markers, then restarts, each at a unit of its own.
struct Table {
    table: SegmentTable,
    next: u32,
}

impl Table {
    fn new() -> Self {
        let table = SegmentTable::new();
        Self { table, next: 64 }
    }

    fn commit(mut self, stamp: u64) -> Self {
        let unit = self.next;
        self.next += 1;
        let stamp = at(stamp);
        self.table.commits.push(Entry {
            stamp,
            unit,
            checksum: 7,
        });
        self
    }

    /// A marker that counts the commits in `(previous, cut]` that there are now.
    fn marker(mut self, previous: u64, cut: u64) -> Self {
        let (previous, cut) = (at(previous), at(cut));
        let (mut count, mut sum) = (0, 0_u64);
        for entry in self
            .table
            .commits
            .iter()
            .filter(|entry| entry.stamp > previous && entry.stamp <= cut)
        {
            count += 1;
            let lsn = Lsn::new(1, entry.offset());
            sum = sum.wrapping_add(record::contribution(lsn, entry.stamp, entry.checksum));
        }
        let marker = Marker {
            cut,
            previous,
            count,
            sum,
        };
        self.table.markers.push((self.next * 64, marker));
        self.next += 1;
        self
    }

    fn restart(mut self, last: u64, clock: u64) -> Self {
        let (last, clock) = (at(last), at(clock));
        self.table.restarts.push((self.next * 64, Restart { last, clock }));
        self.next += 1;
        self
    }

    fn without_commit(mut self, stamp: u64) -> Self {
        self.table.commits.retain(|entry| entry.stamp != at(stamp));
        self
    }

    fn judge(&self, checkpoint: u64) -> Judgement {
        judge(&[(1, &self.table)], at(checkpoint))
    }

    fn defect(&self, checkpoint: u64) -> String {
        self.judge(checkpoint)
            .defect
            .map_or_else(String::new, |defect| defect.reason)
    }
}

#[test]
fn what_restarts_take_back_is_the_union_of_open_intervals() {
    let restarts = [(10, 20), (15, 30), (30, 40), (10, 12), (50, 60), (59, 70)];
    let placed = restarts.map(|(last, clock)| {
        let restart = Restart {
            last: at(last),
            clock: at(clock),
        };
        (Lsn::new(1, 4_096), restart)
    });
    let taken_back = TakenBack::by(&placed);
    for timestamp in 0..80 {
        let expected = restarts
            .iter()
            .any(|(last, clock)| (last + 1..*clock).contains(&timestamp));
        assert_eq!(taken_back.contains(at(timestamp)), expected, "{timestamp}");
    }
    assert_eq!(taken_back.0.len(), 3);
}

#[test]
fn verdicts_tell_what_holds_fails_is_covered_or_taken_back() {
    let table = Table::new()
        .commit(5)
        .marker(0, 9)
        .commit(12)
        .marker(9, 19)
        .commit(25)
        .marker(19, 29)
        .restart(19, 100)
        .commit(105)
        .marker(99, 109)
        .commit(115)
        .commit(116)
        .marker(109, 119)
        .without_commit(115);
    let judgement = table.judge(9);
    let verdicts: Vec<_> = judgement.markers.iter().map(|judged| judged.verdict).collect();
    let expected = [
        Verdict::Covered,
        Verdict::Holds,
        Verdict::TakenBack,
        Verdict::Holds,
        Verdict::Fails { found: 1 },
    ];
    assert_eq!(verdicts, expected);
    assert_eq!(
        (judgement.cut, judgement.seen, judgement.defect),
        (at(109), at(119), None)
    );
}

#[test]
fn a_log_without_a_cut_holds_that_of_its_checkpoint() {
    let judgement = Table::new().restart(40, 256).commit(300).judge(50);
    assert_eq!(
        (judgement.cut, judgement.seen, judgement.defect),
        (at(50), at(300), None)
    );
    let judgement = judge(&[], at(50));
    assert_eq!((judgement.cut, judgement.seen), (at(50), at(50)));
}

/// Older stamps may have gone with their segments, so those below a checkpoint do not count, whether they are there or
/// not.
#[test]
fn a_cut_beyond_a_checkpoint_is_tested_from_there_on() {
    let table = Table::new().commit(8).marker(4, 9).commit(5);
    assert!(table.defect(6).is_empty());
    assert_eq!(table.judge(6).cut, at(9));
    assert!(table.defect(4).contains("2 were found"), "{}", table.defect(4));
}

#[test]
fn the_last_cut_may_lack_commits_and_not_have_others() {
    let cut = || Table::new().commit(5).marker(0, 9).commit(12).commit(13).marker(9, 19);
    let judgement = cut().without_commit(12).judge(0);
    assert_eq!((judgement.cut, judgement.defect), (at(9), None));
    assert!(cut().commit(14).defect(0).contains("3 were found"));
    let exchanged = cut().without_commit(12).commit(12);
    assert!(
        exchanged.defect(0).contains("not what they were"),
        "the same stamp at another place"
    );
}

#[test]
fn what_does_not_join_is_a_defect() {
    let joined = Table::new().commit(5).marker(0, 9).commit(12).marker(9, 19);
    assert_eq!(joined.defect(0), "");
    let twice = Table::new().commit(5).marker(0, 9).marker(0, 9);
    assert!(twice.defect(0).contains("begins at timestamp 0 where 9 was expected"));
    let gap = Table::new().commit(5).marker(0, 9).commit(15).marker(12, 19);
    assert!(gap.defect(0).contains("begins at timestamp 12 where 9 was expected"));
    let overlap = Table::new().commit(5).marker(0, 9).commit(15).marker(7, 19);
    assert!(overlap.defect(0).contains("begins at timestamp 7 where 9 was expected"));
    let ignores_a_restart = Table::new()
        .commit(5)
        .marker(0, 9)
        .restart(9, 100)
        .commit(105)
        .marker(9, 109);
    assert!(
        ignores_a_restart
            .defect(0)
            .contains("begins at timestamp 9 where 99 was expected")
    );
    let restart = Table::new().commit(5).marker(0, 9).restart(12, 100);
    assert!(
        restart
            .defect(0)
            .contains("builds upon the cut at timestamp 12, and the last one before it is 9")
    );
    assert_eq!(restart.defect(12), "", "a checkpoint explains it");
}

#[test]
fn intervals_that_end_before_they_begin_are_defects() {
    assert!(Table::new().marker(9, 9).defect(0).contains("ends before it begins"));
    assert!(
        Table::new()
            .restart(100, 100)
            .defect(0)
            .contains("goes on before what it restored")
    );
    assert!(
        Table::new()
            .restart(0, 0)
            .defect(0)
            .contains("goes on before what it restored")
    );
    let beyond = LAST_TIMESTAMP.get() + 1;
    assert!(Table::new().commit(beyond).defect(0).contains("no timestamp"));
    assert!(
        Table::new()
            .marker(0, beyond)
            .defect(0)
            .contains("ends before it begins")
    );
    assert!(
        Table::new()
            .restart(0, u64::MAX)
            .defect(0)
            .contains("goes on before what it restored")
    );
}
