//! What is restored is the state at one cut, or the error names the place that is damaged.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::log::fixture::{LogBuilder, Memory, OwnedWrites};
use crate::log::record::{HEADER_BYTES, UNIT_BYTES};
use crate::storage::SECTOR_BYTES;

const TICK: u64 = 256;

/// Keys with the timestamp of their newest write.
pub(super) type State = BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>;

pub(super) fn put(key: &str, value: &str) -> OwnedWrites {
    vec![(key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))]
}

pub(super) fn apply_to(state: &mut State, stamp: u64, key: &[u8], value: Option<&[u8]>) {
    let new = (stamp, value.map(<[u8]>::to_vec));
    match state.get_mut(key) {
        Some(old) => {
            assert_ne!(old.0, stamp, "no two commits of a key have one timestamp");
            if old.0 < stamp {
                *old = new;
            }
        }
        None => drop(state.insert(key.to_vec(), new)),
    }
}

/// Recovers, and returns what was found beside the state that was restored. Nothing may be applied before an error.
pub(super) fn recovered(files: &Memory, checkpoint: Option<u64>) -> Result<(Recovered, State)> {
    let state = Mutex::new(State::new());
    let apply = |key: &[u8], value: Option<&[u8]>, stamp: Timestamp| {
        apply_to(&mut state.lock().expect("no apply panics"), stamp.get(), key, value);
    };
    let checkpoint = checkpoint.map(|cut| Covered {
        cut: Timestamp::from_raw(cut),
        first: None,
    });
    let result = recover(files, TICK, checkpoint, &|_| {}, &apply);
    let state = state.into_inner().expect("no apply panics");
    match result {
        Ok(recovered) => Ok((recovered, state)),
        Err(error) => {
            assert!(state.is_empty(), "nothing is applied from a log that is refused");
            Err(error)
        }
    }
}

/// A log of two lives in three segments.
struct TwoLives {
    log: LogBuilder,
    commits: Vec<(u64, OwnedWrites)>,
    /// What cuts before the last one consist of: records, markers, restarts.
    durable: Vec<(Lsn, Range<u32>)>,
    /// What the last cut consists of.
    last: Vec<(Lsn, Range<u32>)>,
    /// The cuts that hold, and their markers.
    markers: Vec<(u64, Lsn)>,
}

const LAST_CUT: u64 = 1_791;
const CUT_BEFORE: u64 = 1_535;

fn two_lives() -> TwoLives {
    let mut log = LogBuilder::new();
    let (mut durable, mut last, mut commits, mut markers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let noted = |log: &LogBuilder, lsn: Lsn| (lsn, lsn.offset()..log.at.offset());
    log.segment(1, 24);
    let restart = log.at;
    log.restart(0, 256);
    durable.push(noted(&log, restart));
    let mut commit = |log: &mut LogBuilder, stamp: u64, writes: OwnedWrites| {
        let lsn = log.commit(stamp, &writes);
        commits.push((stamp, writes));
        noted(log, lsn)
    };
    durable.push(commit(
        &mut log,
        300,
        [put("k1", "first"), put("k2", &"2".repeat(70))].concat(),
    ));
    durable.push(commit(&mut log, 301, put("k3", "third")));
    log.hole(2);
    // Carried: stamped for the second cut alone.
    let carried = log.append(&put("k4", "carried"));
    durable.push(noted(&log, carried));
    let marker = log.marker(511);
    markers.push((511, marker));
    durable.push(noted(&log, marker));
    durable.push(commit(&mut log, 600, put("k1", "second")));
    log.stamp(carried, 601);
    let marker = log.marker(767);
    markers.push((767, marker));
    durable.push(noted(&log, marker));
    // The third cut was torn: the record stamped 801 never came to the disk. An aborted commit lies beside it.
    log.commit(800, &put("k1", "lost"));
    log.append(&put("k9", "aborted"));
    let torn = log.commit(801, &put("k2", "lost"));
    log.marker(1_023);
    log.bytes_at(torn)[..UNIT_BYTES].fill(0);

    log.segment(2, 20);
    let restart = log.at;
    log.restart(767, 1_280);
    durable.push(noted(&log, restart));
    durable.push(commit(&mut log, 1_300, vec![(b"k2".to_vec(), None)]));
    durable.push(commit(&mut log, 1_301, put("k5", &"5".repeat(300))));
    let marker = log.marker(CUT_BEFORE);
    markers.push((CUT_BEFORE, marker));
    durable.push(noted(&log, marker));
    log.segment(3, 16);
    last.push(commit(&mut log, 1_600, put("k6", "sixth")));
    last.push(commit(&mut log, 1_601, put("k1", "last")));
    let marker = log.marker(LAST_CUT);
    markers.push((LAST_CUT, marker));
    last.push(noted(&log, marker));
    log.append(&put("k7", "without a stamp"));
    log.commit(1_800, &put("k8", "above the last cut"));
    commits.push((601, put("k4", "carried")));
    TwoLives {
        log,
        commits,
        durable,
        last,
        markers,
    }
}

impl TwoLives {
    /// The state at a cut, without what a checkpoint below holds.
    fn state(&self, cut: u64, checkpoint: u64) -> State {
        let mut state = State::new();
        for (stamp, writes) in &self.commits {
            if (checkpoint + 1..=cut).contains(stamp) {
                for (key, value) in writes {
                    apply_to(&mut state, *stamp, key, value.as_deref());
                }
            }
        }
        state
    }

    /// The place of the record among `records` that has a byte of a segment.
    fn place(records: &[(Lsn, Range<u32>)], segment: u32, byte: u32) -> Option<Lsn> {
        let has = |(lsn, bytes): &&(Lsn, Range<u32>)| lsn.segment() == segment && bytes.contains(&byte);
        records.iter().find(has).map(|(lsn, _)| *lsn)
    }

    /// Checks what becomes of the log after some bytes of it were changed; returns the error, if it is refused.
    ///
    /// What was durable may be lost without an error in one case alone: if the last marker is lost too, and all evidence
    /// with it.
    fn check_damaged(&self, files: &Memory, changed: &[(u32, u32)], what: &str) -> Option<Error> {
        let any = |records: &[(Lsn, Range<u32>)]| {
            changed
                .iter()
                .any(|(segment, byte)| Self::place(records, *segment, *byte).is_some())
        };
        let in_header = changed.iter().any(|(_, byte)| *byte < 32);
        match recovered(files, None) {
            Ok((found, state)) => {
                let cut = found.cut.get();
                match (any(&self.durable), any(&self.last)) {
                    (true, _) => {
                        let evidence = any(&self.last[2..]);
                        assert!(evidence, "{what}: damage was not noticed");
                        assert!(
                            cut == 0 || self.markers.iter().any(|(other, _)| *other == cut),
                            "{what}"
                        );
                    }
                    (false, true) => assert_eq!(cut, CUT_BEFORE, "{what}"),
                    (false, false) => assert_eq!(cut, LAST_CUT, "{what}"),
                }
                assert!(!in_header, "{what}: damage was not noticed");
                assert_eq!(state, self.state(cut, 0), "{what}");
                None
            }
            Err(error) => {
                assert!(
                    matches!(error, Error::Corrupt { .. } | Error::FormatVersion { .. }),
                    "{what}: {error}"
                );
                Some(error)
            }
        }
    }
}

#[test]
fn an_empty_directory_is_a_new_log() {
    let (found, state) = recovered(&Memory::default(), None).expect("nothing is wrong");
    assert_eq!(found.log, None);
    assert_eq!((found.cut, found.clock), (Timestamp::ABSENT, Timestamp::from_raw(TICK)));
    assert_eq!(found.next_segment, FIRST_SEGMENT);
    assert!(state.is_empty() && found.segments.is_empty());
}

#[test]
fn the_greatest_cut_that_holds_is_restored() {
    let lives = two_lives();
    let files = lives.log.files();
    let (found, state) = recovered(&files, None).expect("nothing is damaged");
    assert_eq!(found.log, Some(lives.log.log));
    assert_eq!(found.cut.get(), LAST_CUT);
    assert_eq!(found.clock.get(), 2_048, "above the stamp beyond the cut, 1800");
    assert_eq!(found.next_segment, 4);
    assert_eq!(found.records, lives.commits.len() as u64);
    assert_eq!(state, lives.state(LAST_CUT, 0));
    assert_eq!(state[&b"k1"[..]].1.as_deref(), Some(&b"last"[..]));
    assert_eq!(state[&b"k2"[..]].1, None);
    let last: Vec<_> = found
        .segments
        .iter()
        .map(|kept| (kept.number, kept.last.get()))
        .collect();
    assert_eq!(last, [(1, 1_023), (2, 1_535), (3, 1_800)]);
    let synced = files.synced.lock().expect("no test panics here").len();
    assert_eq!(synced, 3, "all that was read is synced");
}

#[test]
fn a_clock_that_came_far_and_was_taken_back_is_passed_again() {
    let mut log = LogBuilder::new();
    log.segment(1, 10).restart(0, 256);
    log.commit(300, &put("a", "1"));
    log.marker(511);
    log.commit(9_999, &put("a", "2"));
    log.segment(2, 10).restart(511, 10_240);
    let (found, state) = recovered(&log.files(), None).expect("nothing is damaged");
    assert_eq!(found.cut.get(), 511);
    assert_eq!(found.clock.get(), 10_240 + TICK, "above the restart too");
    assert_eq!(state[&b"a"[..]].0, 300);
}

/// A crash takes a write away; in the next life other writes get greater timestamps and are made durable by a marker
/// whose interval would hold the lost one, but for the restart. T26 of the protocol.
#[test]
fn a_write_lost_in_the_first_crash_stays_lost() {
    let mut log = LogBuilder::new();
    log.segment(1, 10).restart(0, 256);
    log.commit(300, &put("x", "durable"));
    log.marker(511);
    let lost = log.commit(600, &put("y", "lost"));
    let (first, state) = recovered(&log.files(), None).expect("nothing is damaged");
    assert_eq!((first.cut.get(), state.len()), (511, 1));

    log.segment(first.next_segment, 10)
        .restart(first.cut.get(), first.clock.get());
    log.commit(first.clock.get() + 1, &put("z", "later"));
    let cut = first.clock.get() + TICK - 1;
    log.marker(cut);
    let (second, state) = recovered(&log.files(), None).expect("nothing is damaged");
    assert_eq!(second.cut.get(), cut);
    let keys: Vec<_> = state.keys().map(|key| String::from_utf8_lossy(key)).collect();
    assert_eq!(keys, ["x", "z"], "the record at {lost:?} was taken back");
    assert!(second.clock > first.clock);
}

/// A crash during recovery, before its restart is there, changes nothing; one after it neither, and its restart is one
/// more to be passed.
#[test]
fn recovery_is_repeatable() {
    let mut lives = two_lives();
    let first = recovered(&lives.log.files(), None).expect("nothing is damaged");
    let again = recovered(&lives.log.files(), None).expect("nothing is damaged");
    assert_eq!(first, again);
    let (cut, clock) = (first.0.cut.get(), first.0.clock.get());
    lives.log.segment(4, 4).restart(cut, clock);
    let (second, state) = recovered(&lives.log.files(), None).expect("nothing is damaged");
    assert_eq!((second.cut.get(), &state), (cut, &first.1));
    lives.log.segment(5, 4).restart(cut, second.clock.get());
    let (third, state) = recovered(&lives.log.files(), None).expect("nothing is damaged");
    assert_eq!((third.cut.get(), &state), (cut, &first.1));
    assert!(clock < second.clock.get() && second.clock < third.clock);
    assert_eq!(third.next_segment, 6);
}

/// The log up to any byte, zeros behind it, as if the rest had never come to the disk: the cuts whose markers came there
/// are restored. Where later segments did come, what is missing had been durable, and is missed.
#[test]
fn a_tail_that_never_came_to_the_disk_is_a_shorter_log() {
    let lives = two_lives();
    for (segment, bytes) in &lives.log.segments {
        for kept in HEADER_BYTES..bytes.len() {
            let mut log = lives.log.clone();
            let tail = &mut log.segments.get_mut(segment).expect("it is there")[kept..];
            let written = (kept as u32..).zip(tail.iter()).filter(|(_, byte)| **byte != 0);
            let changed: Vec<_> = written.map(|(at, _)| (*segment, at)).collect();
            tail.fill(0);
            let what = format!("segment {segment} zero from byte {kept}");
            lives.check_damaged(&log.files(), &changed, &what);

            log.segments.retain(|number, _| number <= segment);
            let arrived = |(_, lsn): &&(u64, Lsn)| match lsn.segment().cmp(segment) {
                Ordering::Less => true,
                Ordering::Equal => {
                    let unit = lsn.offset()..lsn.offset() + UNIT_BYTES as u32;
                    changed.iter().all(|(_, at)| !unit.contains(at))
                }
                Ordering::Greater => false,
            };
            let expected = lives.markers.iter().rfind(arrived).map_or(0, |(cut, _)| *cut);
            let (found, state) = recovered(&log.files(), None).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(found.cut.get(), expected, "{what}");
            assert_eq!(state, lives.state(expected, 0), "{what}");
        }
    }
}

/// A file that is shorter than its header says was cut by somebody: segments have their whole length before their name.
#[test]
fn a_file_that_was_cut_is_refused_at_its_end() {
    let lives = two_lives();
    for (segment, bytes) in &lives.log.segments {
        for kept in 0..bytes.len() {
            let mut log = lives.log.clone();
            log.segments.get_mut(segment).expect("it is there").truncate(kept);
            let error = recovered(&log.files(), None).expect_err("it was cut");
            let Error::Corrupt {
                segment: named, offset, ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!(named, segment_name(*segment));
            let expected = match kept {
                0..8 => 0,
                _ => kept as u64,
            };
            assert_eq!(offset, expected);
        }
    }
}

/// Damage to a cut before the last is refused, and named if it leaves the record's LSN: without that, and without its
/// stamp, nothing says where a record was. Damage to the last cut costs that cut, as a torn tail does. Everything else
/// changes nothing, or is refused because a stamp now contradicts a marker.
#[test]
fn every_flipped_bit_costs_a_tail_or_is_named() {
    let lives = two_lives();
    for (segment, bytes) in &lives.log.segments {
        let mut files = lives.log.files();
        let name = segment_name(*segment);
        let significant = (0..64)
            .chain((64..HEADER_BYTES).step_by(501))
            .chain(HEADER_BYTES..bytes.len());
        for byte in significant {
            for bit in 0..8 {
                let flip = |files: &mut Memory| files.files.get_mut(&name).expect("it is there")[byte] ^= 1 << bit;
                flip(&mut files);
                let what = format!("bit {bit} of byte {byte} of segment {segment}");
                let changed = [(*segment, byte as u32)];
                let error = lives.check_damaged(&files, &changed, &what);
                let place = TwoLives::place(&lives.durable, *segment, byte as u32);
                if let Some(place) = place.filter(|place| byte as u32 >= place.offset() + 16) {
                    let named = matches!(
                        &error,
                        Some(Error::Corrupt { segment, offset, .. })
                            if *segment == name && *offset == u64::from(place.offset())
                    );
                    assert!(named, "{what}: {error:?}");
                }
                flip(&mut files);
            }
        }
    }
}

#[test]
fn sectors_that_are_zeroed_or_swapped_are_noticed() {
    let lives = two_lives();
    let numbers = || lives.log.segments.keys().copied();
    let sectors = |number: u32| 0..lives.log.segments[&number].len() / SECTOR_BYTES;
    let bytes = |sector: usize| sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
    let changes = |number: u32, new: &LogBuilder| {
        let (old, new) = (&lives.log.segments[&number], &new.segments[&number]);
        let differs = |at: &usize| old[*at] != new[*at];
        Vec::from_iter((0..old.len()).filter(differs).map(|at| (number, at as u32)))
    };
    for number in numbers() {
        for sector in sectors(number) {
            let mut log = lives.log.clone();
            log.segments.get_mut(&number).expect("it is there")[bytes(sector)].fill(0);
            let changed = changes(number, &log);
            lives.check_damaged(
                &log.files(),
                &changed,
                &format!("sector {sector} of segment {number} zeroed"),
            );
            for (other, with) in numbers().flat_map(|other| sectors(other).map(move |with| (other, with))) {
                let mut log = lives.log.clone();
                let first = lives.log.segments[&number][bytes(sector)].to_vec();
                let second = lives.log.segments[&other][bytes(with)].to_vec();
                log.segments.get_mut(&number).expect("it is there")[bytes(sector)].copy_from_slice(&second);
                log.segments.get_mut(&other).expect("it is there")[bytes(with)].copy_from_slice(&first);
                let mut changed = changes(number, &log);
                changed.extend(changes(other, &log));
                let what = format!("sectors {sector} of segment {number} and {with} of {other} swapped");
                lives.check_damaged(&log.files(), &changed, &what);
            }
        }
    }
}

/// Stamps come to the disk one by one. Without any of the last cut's that cut is given up; without one of an earlier
/// cut's the log is refused, and says how many are missing.
#[test]
fn lost_stamps_cost_the_last_cut_and_no_other() {
    let lives = two_lives();
    for (lsn, _) in lives.last.iter().take(2) {
        let mut log = lives.log.clone();
        log.bytes_at(*lsn)[..8].fill(0);
        let (found, state) = recovered(&log.files(), None).expect("a torn tail is normal");
        assert_eq!(found.cut.get(), CUT_BEFORE);
        assert_eq!(state, lives.state(CUT_BEFORE, 0));
    }
    let mut log = lives.log.clone();
    let (lsn, _) = lives.durable[2];
    log.bytes_at(lsn)[..8].fill(0);
    let error = recovered(&log.files(), None).expect_err("it was durable");
    let text = error.to_string();
    assert!(
        text.contains("the cut up to timestamp 511 lacks 1 of its 2 commits"),
        "{text}"
    );
}

#[test]
fn two_cuts_at_the_end_that_fail_are_one_too_many() {
    let mut log = LogBuilder::new();
    log.segment(1, 20).restart(0, 256);
    log.commit(300, &put("a", "1"));
    log.marker(511);
    let second = log.commit(600, &put("b", "2"));
    log.marker(767);
    let third = log.commit(900, &put("c", "3"));
    log.marker(1_023);
    let mut torn = log.clone();
    torn.bytes_at(third)[30] ^= 1;
    assert_eq!(
        recovered(&torn.files(), None).expect("the last may fail").0.cut.get(),
        767
    );
    torn.bytes_at(second)[30] ^= 1;
    let error = recovered(&torn.files(), None).expect_err("the one before was durable");
    assert!(
        matches!(&error, Error::Corrupt { offset, .. } if *offset == u64::from(second.offset())),
        "{error}"
    );
}

/// The last cut before a restart had been restored, so it held; now it must not fail, though it is the last.
#[test]
fn a_cut_that_a_restart_builds_upon_may_not_fail() {
    let mut log = LogBuilder::new();
    log.segment(1, 20).restart(0, 256);
    let place = log.commit(300, &put("a", "1"));
    let marker = log.marker(511);
    log.segment(2, 20).restart(511, 512);
    for damaged in [place, marker] {
        let mut log = log.clone();
        log.bytes_at(damaged)[40] ^= 1;
        let error = recovered(&log.files(), None).expect_err("it was durable");
        assert!(
            matches!(&error, Error::Corrupt { offset, .. } if *offset == u64::from(damaged.offset())),
            "{error}"
        );
    }
}

#[test]
fn numbers_without_a_clock_are_refused() {
    let mut log = LogBuilder::new();
    log.segment(1, 20).restart(0, 256);
    let place = log.commit(1 << 61, &put("a", "1"));
    let error = recovered(&log.files(), None).expect_err("no clock came so far");
    assert!(
        matches!(&error, Error::Corrupt { offset, .. } if *offset == u64::from(place.offset())),
        "{error}"
    );
    let error = recovered(&two_lives().log.files(), Some(u64::MAX)).expect_err("no clock came so far");
    assert!(
        matches!(&error, Error::Corrupt { segment, .. } if segment.ends_with(".ckpt")),
        "{error}"
    );
}

/// Wherever a cut may lie: the commits up to it are the checkpoint's, those after it are applied, and segments of which
/// a checkpoint covers everything may be gone.
#[test]
fn a_checkpoint_takes_the_place_of_what_is_before_it() {
    let lives = two_lives();
    let all = recovered(&lives.log.files(), None)
        .expect("nothing is damaged")
        .0
        .segments;
    // A cut without a commit leaves no marker, and may lie anywhere before the first commit of the next one.
    let cuts = [0..300, 511..600, 767..768, 1_279..1_300, 1_535..1_600, 1_791..1_800];
    for checkpoint in cuts.into_iter().flatten() {
        let mut log = lives.log.clone();
        loop {
            let (found, state) = recovered(&log.files(), Some(checkpoint)).expect("nothing is damaged");
            assert_eq!(found.cut.get(), LAST_CUT.max(checkpoint), "checkpoint at {checkpoint}");
            assert_eq!(state, lives.state(LAST_CUT, checkpoint), "checkpoint at {checkpoint}");
            assert!(found.clock.get() > checkpoint.max(1_800) && found.clock.get().is_multiple_of(TICK));
            let oldest = all.iter().find(|kept| log.segments.contains_key(&kept.number));
            match oldest {
                Some(oldest) if oldest.last.get() <= checkpoint && log.segments.len() > 1 => {
                    log.segments.remove(&oldest.number);
                }
                _ => break,
            }
        }
        // One segment more is one too many, if it holds anything that counts.
        let (number, _) = log.segments.pop_first().expect("one is left");
        let counts = |(cut, lsn): &(u64, Lsn)| lsn.segment() == number && *cut > checkpoint;
        let counts = lives.markers.iter().any(counts);
        if counts && !log.segments.is_empty() {
            let error = recovered(&log.files(), Some(checkpoint)).expect_err("something is missing");
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
    }
}

/// Damage that a checkpoint covers costs nothing any more.
#[test]
fn damage_below_a_checkpoint_is_covered() {
    let lives = two_lives();
    for (lsn, _) in lives.durable.iter().filter(|(lsn, _)| lsn.segment() == 1).skip(1) {
        let mut log = lives.log.clone();
        log.bytes_at(*lsn)[30] ^= 1;
        assert!(recovered(&log.files(), None).is_err());
        let (found, state) = recovered(&log.files(), Some(767)).expect("it is covered");
        assert_eq!(found.cut.get(), LAST_CUT);
        assert_eq!(state, lives.state(LAST_CUT, 767));
    }
}

#[test]
fn missing_and_foreign_segments_are_named() {
    let lives = two_lives();
    let refused = |files: &Memory, checkpoint, name: &str, at: u64, says: &str| {
        let error = recovered(files, checkpoint).expect_err(says);
        match &error {
            Error::Corrupt {
                segment,
                offset,
                reason,
            } => {
                assert_eq!((segment.as_str(), *offset), (name, at), "{error}");
                assert!(reason.contains(says), "{error}");
            }
            other => panic!("{other}"),
        }
    };
    let without = |number: u32| {
        let mut log = lives.log.clone();
        log.segments.remove(&number);
        log.files()
    };
    refused(&without(2), None, "segment-00000002.log", 0, "the segment is missing");
    refused(
        &without(2),
        Some(Timestamp::ABSENT.get()),
        "segment-00000002.log",
        0,
        "the segment is missing",
    );
    refused(&without(1), None, "segment-00000001.log", 0, "so is a checkpoint");
    refused(
        &Memory::default(),
        Some(5),
        "segment-00000001.log",
        0,
        "all segments are missing",
    );

    let mut files = lives.log.files();
    let copy = files.files["segment-00000003.log"].clone();
    files.files.insert("segment-00000004.log".to_owned(), copy);
    refused(&files, None, "segment-00000004.log", 12, "under another's name");

    let mut other = LogBuilder::new();
    other.log += 1;
    other.segment(4, 4);
    let mut files = lives.log.files();
    files.files.extend(other.files().files);
    refused(&files, None, "segment-00000004.log", 16, "another log");

    let mut files = lives.log.files();
    files.files.insert("segment-00000004.log".to_owned(), vec![0; 8_192]);
    refused(&files, None, "segment-00000004.log", 0, "not a segment");
}

#[test]
fn files_without_their_final_names_are_ignored_and_reported() {
    let lives = two_lives();
    let mut files = lives.log.files();
    for name in [
        "segment-00000004.log.tmp",
        "checkpoint-00000000000001ff.ckpt.tmp",
        "notes.txt",
        "lock",
    ] {
        files.files.insert(name.to_owned(), vec![255; 100]);
    }
    let (found, state) = recovered(&files, None).expect("nothing is damaged");
    assert_eq!(state, lives.state(LAST_CUT, 0));
    assert_eq!(found.next_segment, 4);
    assert_eq!(
        found.leftovers,
        ["checkpoint-00000000000001ff.ckpt.tmp", "segment-00000004.log.tmp"]
    );
}

/// Many shares and threads: everything is applied exactly once, and what is told of the progress never goes back and ends
/// at the total.
#[test]
fn a_large_log_is_applied_once_by_all_threads() {
    let mut log = LogBuilder::new();
    let mut stamp = 300;
    for number in 1..=3 {
        log.segment(number, 5 * SHARE_BYTES as usize / 2 / UNIT_BYTES);
        if number == 1 {
            log.restart(0, 256);
        }
        while log.at.offset() + 20_000 < 5 * SHARE_BYTES / 2 {
            let writes = put(&format!("key {stamp}"), &"v".repeat(stamp as usize % 9_000));
            log.commit(stamp, &writes);
            stamp += 1;
        }
        log.marker(stamp);
        stamp += 1;
    }
    let told = Mutex::new(Vec::new());
    let applied = Mutex::new(BTreeMap::new());
    let progress = |progress: Progress| told.lock().expect("no progress panics").push(progress);
    let apply = |key: &[u8], value: Option<&[u8]>, stamp: Timestamp| {
        let length = value.map(<[u8]>::len);
        let before = applied
            .lock()
            .expect("no apply panics")
            .insert(key.to_vec(), (stamp.get(), length));
        assert_eq!(before, None);
    };
    let found = recover(&log.files(), TICK, None, &progress, &apply).expect("nothing is damaged");
    let applied = applied.into_inner().expect("no apply panics");
    assert_eq!(found.records as usize, applied.len());
    assert_eq!(applied.len() as u64, stamp - 300 - 3);
    for (key, (stamp, length)) in applied {
        assert_eq!(key, format!("key {stamp}").into_bytes());
        assert_eq!(length, Some(stamp as usize % 9_000));
    }
    let told = told.into_inner().expect("no progress panics");
    assert!(told.len() > 20 && told.is_sorted_by_key(|progress| progress.bytes));
    assert!(matches!(told.last(), Some(last) if last.bytes == last.total));
}

proptest! {
    /// Any damage to any number of places: no panic, and what is restored without an error is the state of a cut. Looking
    /// comes to the same end.
    #[test]
    fn any_damage_leaves_the_state_of_a_cut_or_an_error(
        patches in vec((1_u32..=3, 0_usize..6_000, vec(any::<u8>(), 1..300), any::<bool>()), 1..6),
    ) {
        let lives = two_lives();
        let mut files = lives.log.files();
        for (segment, at, bytes, zeroes) in patches {
            let file = files.files.get_mut(&segment_name(segment)).expect("it is there");
            for (old, new) in file.iter_mut().skip(at).zip(bytes) {
                *old = if zeroes { 0 } else { new };
            }
        }
        let looked = inspect::look_at(&files).expect("it can be read");
        match recovered(&files, None) {
            Ok((found, state)) => {
                let cut = found.cut.get();
                prop_assert!(cut == 0 || lives.markers.iter().any(|(other, _)| *other == cut));
                prop_assert_eq!(state, lives.state(cut, 0));
                prop_assert!(looked.damage.is_none());
                prop_assert_eq!(looked.cut, found.cut);
            }
            Err(error) => {
                prop_assert_eq!(looked.damage.map(|error| error.to_string()), Some(error.to_string()));
            }
        }
    }
}
