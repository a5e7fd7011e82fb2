//! What is said of a log that is whole, damaged, or foreign; and that looking changes nothing.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::log::fixture::{LogBuilder, Memory};
use crate::recovery::tests::put;

/// A torn life and a second one; a hole, an aborted commit, a broken record above the last cut.
fn log() -> LogBuilder {
    let mut log = LogBuilder::new();
    log.segment(1, 20).restart(0, 256);
    log.commit(300, &put("a", "1"));
    log.hole(2);
    log.commit(301, &put("b", "2"));
    log.append(&put("c", "aborted"));
    log.marker(511);
    let lost = log.commit(600, &put("a", "lost"));
    log.marker(767);
    log.bytes_at(lost)[..8].fill(0);
    log.segment(2, 10).restart(511, 1_024);
    log.commit(1_100, &put("a", "3"));
    log.marker(1_279);
    let broken = log.commit(1_300, &put("b", "4"));
    log.bytes_at(broken)[40] ^= 1;
    log.append(&put("d", "no stamp"));
    log
}

#[test]
fn a_whole_log_is_told_record_by_record() {
    let mut files = log().files();
    files.files.insert("segment-00000003.log.tmp".to_owned(), Vec::new());
    let found = look_at(&files).expect("it can be read");
    assert_eq!(found.log, Some(log().log));
    assert!(found.damage.is_none(), "{:?}", found.damage);
    assert_eq!((found.checkpoint, found.cut), (None, Timestamp::from_raw(1_279)));
    assert_eq!(found.leftovers, ["segment-00000003.log.tmp"]);

    let [first, second] = &found.segments[..] else {
        panic!("two segments: {:?}", found.segments);
    };
    assert_eq!((first.number, first.records, first.stamped), (1, 4, 2));
    assert_eq!((first.holes, first.hole_bytes, first.first_broken), (1, 128, None));
    let hole = HoleReport {
        from: 4_224,
        to: 4_352,
        what: "zeros",
    };
    assert_eq!(first.first_holes, [hole]);
    assert_eq!((first.bytes, first.end), (4_096 + 20 * 64, 4_096 + 9 * 64));
    assert_eq!((second.records, second.stamped), (2, 1));
    assert_eq!(second.first_broken, Some(4_096 + 3 * 64));
    assert_eq!(second.first_holes[0].what, "a broken record");
    assert_eq!(second.last, Timestamp::from_raw(1_279));

    let verdicts: Vec<_> = found
        .markers
        .iter()
        .map(|marker| (marker.cut.get(), marker.verdict))
        .collect();
    let expected = [
        (511, MarkerVerdict::Holds),
        (767, MarkerVerdict::TakenBack),
        (1_279, MarkerVerdict::Holds),
    ];
    assert_eq!(verdicts, expected);
    let clocks: Vec<_> = found
        .restarts
        .iter()
        .map(|restart| (restart.lsn.segment(), restart.clock.get()))
        .collect();
    assert_eq!(clocks, [(1, 256), (2, 1_024)]);
}

/// Recovery stops at the first damage; looking goes on behind it.
#[test]
fn a_damaged_log_is_told_as_far_as_it_can_be_read() {
    let mut log = log();
    log.bytes_at(Lsn::new(1, 0))[17] ^= 1;
    let found = look_at(&log.files()).expect("it can be read");
    assert!(
        found.segments[0]
            .refused
            .as_deref()
            .is_some_and(|text| text.contains("checksum of its header"))
    );
    assert_eq!(
        (found.segments[1].records, found.segments[1].refused.as_deref()),
        (2, None)
    );
    assert!(matches!(&found.damage, Some(Error::Corrupt { segment, offset: 28, .. }) if segment.contains("00000001")));

    let mut log = super::tests::log();
    log.bytes_at(Lsn::new(1, 4_160))[30] ^= 1;
    let found = look_at(&log.files()).expect("it can be read");
    assert!(
        matches!(found.damage, Some(Error::Corrupt { offset: 4_160, .. })),
        "{:?}",
        found.damage
    );
    assert_eq!(found.markers[0].verdict, MarkerVerdict::Fails(1));
    assert_eq!(found.segments[0].first_broken, Some(4_160));
}

#[test]
fn foreign_and_missing_segments_are_damage_and_the_others_are_told() {
    let mut log = log();
    log.segments.remove(&1);
    let found = look_at(&log.files()).expect("it can be read");
    assert!(matches!(&found.damage, Some(Error::Corrupt { segment, .. }) if segment.contains("00000001")));
    assert_eq!(found.segments.len(), 1);

    let mut other = LogBuilder::new();
    other.log += 1;
    other.segment(3, 4);
    let mut files = super::tests::log().files();
    files.files.extend(other.files().files);
    let found = look_at(&files).expect("it can be read");
    assert!(matches!(&found.damage, Some(Error::Corrupt { segment, offset: 16, .. }) if segment.contains("00000003")));
    assert_eq!((found.segments.len(), found.segments[2].log), (3, other.log));
}

#[test]
fn a_checkpoint_is_known_by_its_name() {
    let mut files = log().files();
    for cut in [0x1ff, 0x3ff] {
        let name = crate::log::header::checkpoint_name(Timestamp::from_raw(cut));
        files.files.insert(name, Vec::new());
    }
    let found = look_at(&files).expect("it can be read");
    assert_eq!(found.checkpoint, Some(Timestamp::from_raw(0x3ff)));
    assert_eq!(found.markers[0].verdict, MarkerVerdict::Covered);
    assert_eq!(found.cut, Timestamp::from_raw(1_279));
}

#[test]
fn an_empty_directory_holds_no_log() {
    let found = look_at(&Memory::default()).expect("it can be read");
    assert!(found.log.is_none() && found.segments.is_empty() && found.damage.is_none());
}

/// The functions that take a path, over real files, which stay as they are.
#[test]
fn a_directory_is_verified_and_left_alone() {
    let directory: PathBuf = std::env::temp_dir().join(format!("unlatched-inspect-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a folder can be made");
    let files = log().files().files;
    for (name, bytes) in &files {
        fs::write(directory.join(name), bytes).expect("a file can be written");
    }
    let told = Mutex::new(0);
    let found = verify(&directory, &|progress| {
        *told.lock().expect("none panics") = progress.bytes
    })
    .expect("it is whole");
    let total: usize = files.values().map(Vec::len).sum();
    let expected = Verification {
        log: Some(log().log),
        checkpoint: None,
        cut: Timestamp::from_raw(1_279),
        segments: 2,
        records: 3,
        bytes: total as u64,
    };
    assert_eq!(found, expected);
    assert_eq!(told.into_inner().expect("none panics"), 2 * total as u64);
    assert_eq!(inspect(&directory).expect("it can be read").segments.len(), 2);
    for (name, bytes) in &files {
        assert_eq!(&fs::read(directory.join(name)).expect("it is there"), bytes);
    }
    let mut damaged = files["segment-00000001.log"].clone();
    damaged[4_200] ^= 1;
    fs::write(directory.join("segment-00000001.log"), damaged).expect("a file can be written");
    assert!(matches!(verify(&directory, &|_| {}), Err(Error::Corrupt { .. })));
    fs::remove_dir_all(&directory).expect("it is ours");
    assert!(matches!(verify(&directory, &|_| {}), Err(Error::Io { .. })));
}
