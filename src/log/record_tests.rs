//! What the log's bytes are, to the bit, and that nothing else passes for them.
#![forbid(unsafe_code)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The log of the golden bytes.
const LOG: u64 = 0x0123_4567_89ab_cdef;

/// The golden bytes were computed from the module's essay by a program of its own, with a checksum of its own.
mod golden {
    pub(super) const PUT: &str = "0000000000000000001000002a00000077678265100000400400050000006b65\
                                  792d3176616c7565000000000000000000000000000000000000000000000000";
    pub(super) const DELETE: &str = "ff01000000000000401000002a000000025a1c8a0b0000400400ffffffff6b65\
                                     792d310000000000000000000000000000000000000000000000000000000000";
    pub(super) const THREE: &str = "0000000000000000801000002a000000b5552979450000400000050000006166\
                                    697273740100ffffffff62620200280000006363637878787878787878787878\
                                    7878787878787878787878787878787878787878787878787878787878000000\
                                    0000000000000000000000000000000000000000000000000000000000000000";
    pub(super) const MARKER: &str = "0000000000000000001100002a0000005a7654a720000080ff02000000000000\
                                     ff000000000000000100000000000000253178616dff8eac0000000000000000";
    pub(super) const RESTART: &str = "0000000000000000001000002b0000003b779a98100000c0ff02000000000000\
                                      0004000000000000000000000000000000000000000000000000000000000000";
}

type OwnedWrite = (Vec<u8>, Option<Vec<u8>>);

/// A place whose words hold something else, as those of a recycled file do.
fn stale_place(units: usize) -> Vec<Word> {
    (0..units * UNIT_WORDS).map(|_| Word::new(u64::MAX)).collect()
}

fn bytes_of(words: &[Word]) -> Vec<u8> {
    words
        .iter()
        .flat_map(|word| word.load(order::COUNT).to_le_bytes())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn borrowed(writes: &[OwnedWrite]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
    writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
}

fn commit_place(log: u64, lsn: Lsn, writes: &[OwnedWrite]) -> Vec<Word> {
    let place = stale_place(commit_units(borrowed(writes)));
    encode_commit(&place, log, lsn, borrowed(writes));
    place
}

fn commit_bytes(log: u64, lsn: Lsn, writes: &[OwnedWrite]) -> Vec<u8> {
    bytes_of(&commit_place(log, lsn, writes))
}

fn put(key: &[u8], value: &[u8]) -> OwnedWrite {
    (key.to_vec(), Some(value.to_vec()))
}

fn three_writes() -> Vec<OwnedWrite> {
    vec![put(b"a", b"first"), (b"bb".to_vec(), None), put(b"ccc", &[b'x'; 40])]
}

fn decoded_writes(record: Record<'_>) -> Vec<OwnedWrite> {
    match record {
        Record::Commit { writes, .. } => writes
            .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
            .collect(),
        other => panic!("not a commit: {other:?}"),
    }
}

#[test]
fn commits_have_their_golden_bytes() {
    let at = |offset| Lsn::new(0x2a, offset);
    assert_eq!(
        hex(&commit_bytes(LOG, at(4_096), &[put(b"key-1", b"value")])),
        golden::PUT
    );
    let place = commit_place(LOG, at(4_160), &[(b"key-1".to_vec(), None)]);
    stamp(&place, Timestamp::from_raw(0x1ff));
    assert_eq!(hex(&bytes_of(&place)), golden::DELETE);
    assert_eq!(place_header(&place), (1, 0x8a1c_5a02));
    let place = commit_place(LOG, at(4_224), &three_writes());
    assert_eq!(hex(&bytes_of(&place)), golden::THREE);
    assert_eq!(place_header(&place), (2, 0x7929_55b5));
}

#[test]
fn markers_and_restarts_have_their_golden_bytes() {
    let covered = contribution(Lsn::new(0x2a, 4_160), Timestamp::from_raw(0x1ff), 0x8a1c_5a02);
    let marker = Marker {
        cut: Timestamp::from_raw(0x2ff),
        previous: Timestamp::from_raw(0xff),
        count: 1,
        sum: covered,
    };
    let (place, lsn) = (stale_place(1), Lsn::new(0x2a, 4_352));
    encode_marker(&place, LOG, lsn, &marker);
    assert_eq!(hex(&bytes_of(&place)), golden::MARKER);
    assert!(matches!(decode(&bytes_of(&place), LOG, lsn), Some(Record::Marker(read)) if read == marker));

    let restart = Restart {
        last: Timestamp::from_raw(0x2ff),
        clock: Timestamp::from_raw(0x400),
    };
    let (place, lsn) = (stale_place(1), Lsn::new(0x2b, 4_096));
    encode_restart(&place, LOG, lsn, &restart);
    assert_eq!(hex(&bytes_of(&place)), golden::RESTART);
    assert!(matches!(decode(&bytes_of(&place), LOG, lsn), Some(Record::Restart(read)) if read == restart));
}

/// Lengths around every boundary: words, units, the stage, the pieces in which long values are streamed, and the
/// longest key, alone and beside other writes that shift it within its word.
#[test]
fn commits_of_all_lengths_read_back() {
    let lsn = Lsn::new(3, 8_192);
    let lengths = (0..=300).chain([4_090, 4_096, 4_097, 8_191, 8_192, 8_200, 100_003]);
    for length in lengths {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let key = [&b"k"[..], &bytes[..length.min(MAX_ENCODED_KEY_BYTES - 1)]].concat();
        let shapes = [
            vec![put(b"key", &bytes)],
            vec![(key.clone(), None)],
            vec![put(&key, &bytes), put(b"after", b""), (b"gone".to_vec(), None)],
            vec![
                put(b"before", b"1"),
                (key.clone(), Some(bytes.clone())),
                put(b"z", &bytes),
            ],
        ];
        for writes in shapes {
            let encoded = commit_bytes(LOG, lsn, &writes);
            let record = decode(&encoded, LOG, lsn).expect("it is whole");
            assert_eq!(record.units() * UNIT_BYTES, encoded.len());
            assert_eq!(claimed_units(&encoded, lsn), Some(record.units()));
            assert_eq!(decoded_writes(record), writes);
        }
    }
}

#[test]
fn a_commit_of_nothing_is_a_record() {
    let encoded = commit_bytes(LOG, Lsn::new(1, 4_096), &[]);
    assert_eq!(encoded.len(), UNIT_BYTES);
    let record = decode(&encoded, LOG, Lsn::new(1, 4_096)).expect("it is whole");
    assert!(decoded_writes(record).is_empty());
}

/// The stamp is the one part of a commit that its checksum leaves out: a flip there is another timestamp, for the
/// marker's sum to find.
#[test]
fn every_flipped_bit_of_a_record_is_refused() {
    let lsn = Lsn::new(0x2a, 4_096);
    let mut encoded = vec![commit_bytes(LOG, lsn, &three_writes())];
    encoded.push(commit_bytes(LOG, lsn, &[put(b"long", &[7; 500])]));
    let place = stale_place(1);
    let (cut, previous) = (Timestamp::from_raw(9), Timestamp::from_raw(5));
    let (count, sum) = (3, 77);
    encode_marker(
        &place,
        LOG,
        lsn,
        &Marker {
            cut,
            previous,
            count,
            sum,
        },
    );
    encoded.push(bytes_of(&place));
    encode_restart(
        &place,
        LOG,
        lsn,
        &Restart {
            last: previous,
            clock: cut,
        },
    );
    encoded.push(bytes_of(&place));
    for (number, record) in encoded.iter_mut().enumerate() {
        assert!(decode(record, LOG, lsn).is_some());
        for bit in 0..record.len() * 8 {
            record[bit / 8] ^= 1 << (bit % 8);
            let read = decode(record, LOG, lsn);
            match (bit / 64, number) {
                (0, 0 | 1) => {
                    let stamped = Some(Timestamp::from_raw(1 << bit));
                    assert!(matches!(read, Some(Record::Commit { stamp, .. }) if stamp == stamped));
                }
                _ => assert!(read.is_none(), "bit {bit} of record {number}"),
            }
            record[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_record_that_is_cut_short_is_refused() {
    let lsn = Lsn::new(1, 4_096);
    let encoded = commit_bytes(LOG, lsn, &three_writes());
    for length in 0..encoded.len() {
        assert!(decode(&encoded[..length], LOG, lsn).is_none(), "{length} bytes");
    }
    let followed = [encoded, vec![255; 100]].concat();
    assert!(decode(&followed, LOG, lsn).is_some());
}

/// Every bit of the LSN and of the log's number decides whether a record belongs to a place, also if the LSN inside
/// the record is forged.
#[test]
fn a_record_belongs_to_one_place_of_one_log() {
    let lsn = Lsn::new(0x2a, 4_096);
    let encoded = commit_bytes(LOG, lsn, &[put(b"key", b"value")]);
    for bit in 0..64 {
        assert!(decode(&encoded, LOG ^ 1 << bit, lsn).is_none());
        let elsewhere = Lsn::from_raw(lsn.get() ^ 1 << bit);
        assert!(decode(&encoded, LOG, elsewhere).is_none());
        let mut forged = encoded.clone();
        forged[8..16].copy_from_slice(&elsewhere.get().to_le_bytes());
        assert!(decode(&forged, LOG, elsewhere).is_none());
    }
}

/// Payloads whose checksum holds but whose lengths do not, as no writer makes them.
#[test]
fn lengths_are_not_trusted_even_under_a_checksum_that_holds() {
    let lsn = Lsn::new(1, 4_096);
    let check = |payload: &[u8], fits: bool| {
        let units = (RECORD_HEADER_BYTES + payload.len()).div_ceil(UNIT_BYTES);
        let place = stale_place(units);
        encode_short(&place, LOG, lsn, COMMIT, payload.len(), |stage| stage.put(payload));
        assert_eq!(decode(&bytes_of(&place), LOG, lsn).is_some(), fits, "{payload:?}");
    };
    check(&[0, 0, 1, 0, 0, 0, b'k', b'v'], true);
    check(&[0, 0, 2, 0, 0, 0, b'k', b'v'], false);
    check(&[1, 0, 1, 0, 0, 0, b'k', b'v'], false);
    check(&[0, 0, 1, 0, 0, 0, b'k', b'v', 0], false);
    check(&[0, 0, 255, 255, 255, 255, b'k'], true);
    check(&[0, 0, 254, 255, 255, 255, b'k'], false);
    check(&[255, 255, 0, 0, 0, 0, b'k'], false);
    check(&[0, 0, 1, 0, 0], false);
}

#[test]
fn lengths_beyond_the_limit_are_counted_and_not_claimed() {
    let key = [1; 8];
    let value = vec![0; 1 << 20];
    let long = std::iter::repeat_n((&key[..], Some(&value[..])), 1_025);
    assert!(commit_units(long) * UNIT_BYTES > MAX_COMMIT_BYTES);
    let mut bytes = [0; UNIT_BYTES];
    bytes[16..24].copy_from_slice(&(u64::from(COMMIT << LENGTH_BITS | ((1 << LENGTH_BITS) - 1)) << 32).to_le_bytes());
    assert_eq!(claimed_units(&bytes, Lsn::from_raw(0)), None);
}

#[test]
#[should_panic(expected = "the caller refuses such keys")]
fn an_empty_key_is_never_encoded() {
    commit_bytes(LOG, Lsn::new(1, 4_096), &[put(b"", b"value")]);
}

/// Contributions that differ in one bit of one argument differ, and in about half of their bits.
#[test]
fn contributions_depend_on_every_bit() {
    let (lsn, timestamp, checksum) = (Lsn::new(5, 4_160), Timestamp::from_raw(0x5ff), 0xdead_beef);
    let base = contribution(lsn, timestamp, checksum);
    let mut flipped = Vec::new();
    for bit in 0..64 {
        flipped.push(contribution(Lsn::from_raw(lsn.get() ^ 1 << bit), timestamp, checksum));
        flipped.push(contribution(
            lsn,
            Timestamp::from_raw(timestamp.get() ^ 1 << bit),
            checksum,
        ));
    }
    for bit in 0..32 {
        flipped.push(contribution(lsn, timestamp, checksum ^ 1 << bit));
    }
    for other in flipped {
        let distance = (base ^ other).count_ones();
        assert!((12..=52).contains(&distance), "{distance} bits differ");
    }
}

proptest! {
    #[test]
    fn any_commit_reads_back(
        log: u64,
        segment: u32,
        unit in 64_u32..1 << 26,
        writes in vec((vec(any::<u8>(), 1..80), proptest::option::of(vec(any::<u8>(), 0..300))), 0..12),
    ) {
        let lsn = Lsn::new(segment, unit * 64);
        let place = commit_place(log, lsn, &writes);
        let (units, checksum) = place_header(&place);
        stamp(&place, Timestamp::from_raw(17));
        let encoded = bytes_of(&place);
        let record = decode(&encoded, log, lsn).expect("it is whole");
        let as_stored = matches!(
            record,
            Record::Commit { stamp: Some(stamp), checksum: read, units: long, .. }
                if stamp == Timestamp::from_raw(17) && read == checksum && long == units
        );
        prop_assert!(as_stored);
        prop_assert_eq!(decoded_writes(record), writes);
    }

    #[test]
    fn arbitrary_bytes_are_no_record_and_no_panic(
        log: u64,
        mut bytes in vec(any::<u8>(), 0..400),
        kind in 0_u32..4,
        length in 0_u32..300,
    ) {
        let lsn = Lsn::new(1, 4_096);
        prop_assert!(decode(&bytes, log, lsn).is_none());
        if bytes.len() >= UNIT_BYTES {
            bytes[8..16].copy_from_slice(&lsn.get().to_le_bytes());
            bytes[20..24].copy_from_slice(&(kind << LENGTH_BITS | length).to_le_bytes());
            prop_assert!(decode(&bytes, log, lsn).is_none());
        }
    }
}
