//! Every record is found, wherever it lies, and nothing else is taken for one.
#![forbid(unsafe_code)]

use super::*;
use crate::log::fixture::{LOG, LogBuilder, Memory, OwnedWrites};

fn put(key: &[u8], value: &[u8]) -> OwnedWrites {
    vec![(key.to_vec(), Some(value.to_vec()))]
}

fn opened(files: &Memory, number: u32) -> Segment {
    open(files, number, record::segment_name(number)).expect("the header is good")
}

fn table(files: &Memory, number: u32) -> SegmentTable {
    tabulate(files, &opened(files, number), |_| {}).expect("it can be read")
}

/// What a scan reports, as text that is easy to compare: records by their places, gaps by their bounds.
fn reported(files: &Memory, number: u32) -> Vec<String> {
    let mut all = Vec::new();
    let report = |found: Found<'_>| {
        all.push(match found {
            Found::Record(offset, record) => format!("{offset}+{}", record.units() * UNIT_BYTES),
            Found::Gap(gap) => format!("gap {:?} {:?} {:?}", gap.bytes, gap.written, gap.broken),
        });
    };
    scan(files, &opened(files, number), report, |_| {}).expect("it can be read");
    all
}

#[test]
fn records_markers_and_restarts_are_tabulated_with_their_places() {
    let mut log = LogBuilder::new();
    log.segment(1, 40).restart(0, 256);
    let first = log.commit(300, &put(b"a", b"1"));
    let unstamped = log.append(&put(b"b", &[2; 200]));
    log.hole(3);
    let second = log.commit(301, &put(b"c", b"3"));
    let marker = log.marker(511);
    let table = table(&log.files(), 1);
    assert_eq!(table.records, 3);
    let places: Vec<_> = table
        .commits
        .iter()
        .map(|entry| (entry.stamp.get(), entry.offset()))
        .collect();
    assert_eq!(places, [(300, first.offset()), (301, second.offset())]);
    assert!(first < unstamped && unstamped < second);
    assert_eq!(table.restarts.len(), 1);
    assert_eq!(table.markers[0].0, marker.offset());
    assert_eq!(table.markers[0].1.count, 2);
    assert_eq!(table.end, log.at.offset());
    assert_eq!(table.last(), Timestamp::from_raw(511));
}

#[test]
fn what_an_empty_segment_last_speaks_of_is_what_its_restart_takes_back() {
    let mut log = LogBuilder::new();
    log.segment(1, 4);
    assert_eq!(table(&log.files(), 1).last(), Timestamp::ABSENT);
    log.segment(1, 4).restart(10, 512);
    assert_eq!(table(&log.files(), 1).last(), Timestamp::from_raw(511));
}

#[test]
fn gaps_say_what_is_in_them() {
    let mut log = LogBuilder::new();
    log.segment(1, 20);
    log.hole(2);
    let first = log.append(&put(b"a", b"1"));
    let torn = log.append(&put(b"b", &[2; 100]));
    let last = log.append(&put(b"c", b"3"));
    log.bytes_at(torn)[130] ^= 1;
    let (first, torn, last) = (first.offset(), torn.offset(), last.offset());
    let end = last + 64;
    let expected = [
        format!("gap 4096..{first} None None"),
        format!("{first}+64"),
        format!("gap {torn}..{last} Some({torn}) Some({torn})"),
        format!("{last}+64"),
        format!("gap {end}..{} None None", 4_096 + 20 * 64),
    ];
    assert_eq!(reported(&log.files(), 1), expected);
}

/// A value that is the image of a record at just the place where it comes to lie. It is found only where the record
/// around it is broken, and then it is not believed: it would have to know the log's random number.
#[test]
fn a_value_cannot_pass_for_a_record() {
    let outer = Lsn::new(1, HEADER_BYTES as u32);
    let inner = Lsn::new(1, outer.offset() + 64);
    let image = |log: u64| {
        let mut forger = LogBuilder::new();
        forger.log = log;
        forger.segment(1, 4).hole(1);
        forger.commit(400, &put(b"forged", b"x"));
        forger.bytes_at(inner)[..64].to_vec()
    };
    for (known, passes) in [(LOG ^ 1, false), (LOG, true)] {
        let mut log = LogBuilder::new();
        log.segment(1, 10);
        // 24 bytes of header, 6 of the write's, and 34 of key: the value begins with the next unit.
        log.append(&put(&[b'k'; 34], &[image(known), vec![0; 64]].concat()));
        assert!(
            table(&log.files(), 1).commits.is_empty(),
            "inside a record nothing is looked for"
        );
        log.bytes_at(outer)[30] ^= 1;
        assert_eq!(!table(&log.files(), 1).commits.is_empty(), passes, "the image is exact");
    }
}

/// Records of many lengths, so that they begin and end at all distances from the pieces' bounds, one longer than two
/// pieces, and one that ends with the segment.
#[test]
fn records_across_pieces_are_found_and_read_again() {
    let mut log = LogBuilder::new();
    let units = 5 * PIECE_BYTES / UNIT_BYTES;
    log.segment(1, units);
    let end = (HEADER_BYTES + units * UNIT_BYTES) as u32;
    let mut written: Vec<(Lsn, OwnedWrites)> = Vec::new();
    let mut length = 1;
    let mut add = |log: &mut LogBuilder, length: usize| {
        let writes = put(format!("key {}", written.len()).as_bytes(), &vec![length as u8; length]);
        written.push((log.commit(1 + written.len() as u64, &writes), writes));
    };
    while log.at.offset() + 40_000 < end - 2 * PIECE_BYTES as u32 - 40_000 {
        add(&mut log, length);
        length = (length * 7 + 13) % 30_000;
    }
    add(&mut log, 2 * PIECE_BYTES + 1);
    let rest = (end - log.at.offset()) as usize;
    add(&mut log, rest - 80);
    assert_eq!(log.at.offset(), end);

    let files = log.files();
    let (table, segment) = (table(&files, 1), opened(&files, 1));
    let found: Vec<u32> = table.commits.iter().map(Entry::offset).collect();
    let places: Vec<u32> = written.iter().map(|(lsn, _)| lsn.offset()).collect();
    assert_eq!(found, places);
    let every_third = |stamp: Timestamp| stamp.get().is_multiple_of(3);
    let mut read = Vec::new();
    let note = |stamp: Timestamp, writes: Writes<'_>| {
        let owned: OwnedWrites = writes
            .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
            .collect();
        read.push((stamp.get(), owned));
    };
    let count = visit(&files, &segment, &table.commits, every_third, note).expect("it can be read");
    let numbered = written
        .iter()
        .zip(1_u64..)
        .map(|((_, writes), stamp)| (stamp, writes.clone()));
    let expected: Vec<_> = numbered.filter(|(stamp, _)| stamp.is_multiple_of(3)).collect();
    assert_eq!(count as usize, expected.len());
    assert!(read == expected, "all writes of every third record");
}

#[test]
fn a_record_that_changed_between_the_passes_is_refused() {
    let mut log = LogBuilder::new();
    log.segment(1, 10);
    log.commit(5, &put(b"a", b"1"));
    let second = log.commit(6, &put(b"b", b"2"));
    let table = table(&log.files(), 1);
    for byte in [0, 8, 16, 20, 31] {
        let mut changed = log.clone();
        changed.bytes_at(second)[byte] ^= 1;
        let files = changed.files();
        let read = visit(&files, &opened(&files, 1), &table.commits, |_| true, |_, _| {});
        assert!(
            matches!(&read, Err(Error::Corrupt { offset, .. }) if *offset == u64::from(second.offset())),
            "{read:?}"
        );
    }
}

#[test]
fn a_failing_disk_is_an_error_of_every_pass() {
    let mut log = LogBuilder::new();
    log.segment(1, 3 * PIECE_BYTES / UNIT_BYTES);
    log.commit(5, &put(b"a", &vec![1; 2 * PIECE_BYTES]));
    let mut files = log.files();
    let table = table(&files, 1);
    files.readable = Some(HEADER_BYTES as u64 + 10);
    let segment = opened(&files, 1);
    assert!(matches!(
        tabulate(&files, &segment, |_| {}),
        Err(Error::Io { operation: "read", .. })
    ));
    let visited = visit(&files, &segment, &table.commits, |_| true, |_, _| {});
    assert!(matches!(visited, Err(Error::Io { operation: "read", .. })));
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_refused() {
    let mut log = LogBuilder::new();
    log.segment(1, 100);
    let mut files = log.files();
    let segment = opened(&files, 1);
    let file = files.files.get_mut(&segment.name).expect("it is there");
    file.truncate(5_000);
    let read = tabulate(&files, &segment, |_| {});
    assert!(matches!(read, Err(Error::Corrupt { offset: 5_000, .. })), "{read:?}");
}

#[test]
fn a_file_may_be_longer_than_its_segment() {
    let mut log = LogBuilder::new();
    log.segment(1, 2);
    let place = log.commit(9, &put(b"a", b"1"));
    let mut files = log.files();
    let file = files.files.get_mut("segment-00000001.log").expect("it is there");
    file.extend_from_slice(&[255; 1_000]);
    assert_eq!(reported(&files, 1)[0], format!("{}+64", place.offset()));
    assert_eq!(reported(&files, 1).len(), 2);
    assert_eq!(opened(&files, 1).file_bytes, 4_096 + 128 + 1_000);
}

/// The first task in order whose result is an error decides, whatever finishes first; without one all results come in
/// order.
#[test]
fn parallel_work_keeps_its_order_and_its_first_error() {
    let tasks: Vec<u64> = (0..500).collect();
    let doubled = in_parallel(&tasks, u64::MAX, |task| Ok(task * 2)).expect("none fails");
    assert_eq!(doubled, (0..500).map(|task| task * 2).collect::<Vec<_>>());
    let failed = in_parallel(&tasks, u64::MAX, |task| match task {
        17 | 18 => Err(Error::InvalidOperation(task.to_string())),
        _ => Ok(()),
    });
    assert!(matches!(failed, Err(Error::InvalidOperation(task)) if task == "17"));
    assert!(
        in_parallel(&[], u64::MAX, |_: &u64| Ok(()))
            .expect("none fails")
            .is_empty()
    );
}
