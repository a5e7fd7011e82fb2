//! A log that the engine wrote, looked at from outside: it is whole, it is told as it is, and damage is named by both
//! those who only look and the database that refuses to open.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod common;

use std::fs;

use unlatched::internals::{MarkerVerdict, inspect, verify};
use unlatched::{Database, Error, RunId, Timestamp};

use common::directory::TemporaryDirectory;

const RUN: RunId = RunId::from_bytes([7; 16]);

/// Two lives of a strict database, each of a few segments.
fn written(directory: &TemporaryDirectory) -> Timestamp {
    let mut last = Timestamp::ABSENT;
    for life in 0..2 {
        let builder = Database::builder().path(directory.path()).segment_bytes(64 << 10);
        let database = builder.strict().checkpoint_bytes(None).open().expect("opens");
        for number in 0..600 {
            last = database
                .put(RUN, format!("key {}", number % 100), format!("{life} {number}"))
                .expect("put");
            if number % 7 == 0 {
                database.delete(RUN, format!("key {}", number % 50)).expect("delete");
            }
        }
        database.shutdown().expect("shutdown");
    }
    last
}

#[test]
fn a_log_that_was_closed_is_whole() {
    let directory = TemporaryDirectory::new();
    let last = written(&directory);
    let found = inspect(directory.path()).expect("it can be read");
    assert!(found.damage.is_none(), "{:?}", found.damage);
    assert!(found.cut >= last, "everything that was acknowledged is in the last cut");
    assert_eq!(found.restarts.len(), 2);
    assert!(found.segments.len() >= 4, "{}", found.segments.len());
    assert!(
        found
            .markers
            .iter()
            .all(|marker| marker.verdict == MarkerVerdict::Holds)
    );
    let counted: u64 = found.markers.iter().map(|marker| marker.count).sum();
    let stamped: u64 = found.segments.iter().map(|segment| segment.stamped).sum();
    assert_eq!(counted, stamped, "every stamp belongs to one marker");
    let verified = verify(directory.path(), &|_| {}).expect("it is whole");
    assert_eq!((verified.cut, verified.records), (found.cut, stamped));
    assert_eq!(verified.log, found.log);
}

/// One byte anywhere in the payload of a commit that was acknowledged: looking at the log, rehearsing its recovery and
/// opening it all name the same place.
#[test]
fn damage_is_named_alike_by_looking_verifying_and_opening() {
    let directory = TemporaryDirectory::new();
    written(&directory);
    let path = directory.path().join("segment-00000002.log");
    let mut bytes = fs::read(&path).expect("it is there");
    bytes[20_007] ^= 0x10;
    fs::write(&path, bytes).expect("it can be written");

    let place = |error: Option<Error>| match error {
        Some(Error::Corrupt { segment, offset, .. }) => (segment, offset),
        other => panic!("not corrupt: {other:?}"),
    };
    let (segment, offset) = place(inspect(directory.path()).expect("it can be read").damage);
    assert!(segment.ends_with("segment-00000002.log"), "{segment}");
    assert!((20_007 - 127..=20_007).contains(&offset), "{offset}");
    let verified = place(verify(directory.path(), &|_| {}).err());
    let opened = Database::builder().path(directory.path()).strict().open();
    assert_eq!(verified.1, offset);
    assert_eq!(place(opened.err()).1, offset);
}
