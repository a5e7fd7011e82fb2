//! What a checkpoint's bytes are and what they hold, that nothing damaged passes for one, and that no crash and no
//! failure leaves less than there was.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;

use proptest::prelude::*;

use super::loading::{Checkpoint, File, load_with};
use super::*;
use crate::log::{Beginning, Covered, Place};
use crate::mvcc::{Enlist, Guard, TICK, Write};
use crate::storage::{Fault, FaultPlan, SimDisk, Survivors};
use crate::types::{Enlisted, RunId, TypeTag};

/// The log of the golden bytes.
const LOG: u64 = 0x0123_4567_89ab_cdef;

/// Segments so short that some writes fill one.
const SEGMENT_BYTES: usize = 8 << 10;

/// The golden bytes were computed from the module's essay by a program of its own, with a checksum of its own.
mod golden {
    pub(super) const HEADER: &str = "554e4c4154434b5001000000a8c597bdefcdab89674523010009000000000000\
                                     0300000000000000";
    pub(super) const BLOCK: &str = "cec039eb2b00000002000000\
                                    04000500000005000000000000006b65792d3176616c7565\
                                    04000000000000090000000000006b65792d32";
    pub(super) const END: &str = "2800000000000000\
                                  01000000000000000200000000000000371be51acab554e2";
    pub(super) const END_OF_NOTHING: &str = "00000000000000000000000000000000be007b5b6e645724";
}

/// What a store or a checkpoint holds.
type Content = BTreeMap<Vec<u8>, (Vec<u8>, Timestamp)>;

/// A number that threads of a test share.
#[derive(Default)]
struct Count(Mutex<usize>);

impl Count {
    fn get(&self) -> usize {
        *self.0.lock().expect("no panic")
    }

    /// Adds one, and returns what there was.
    fn up(&self) -> usize {
        let mut count = self.0.lock().expect("no panic");
        *count += 1;
        *count - 1
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(name: &str) -> Key {
    Key::new(&RunId::from_bytes([7; 16]), TypeTag::Raw, name.as_bytes())
}

fn numbered(number: usize) -> Key {
    key(&format!("key{number:06}"))
}

/// A store and its log on a disk.
struct Machine {
    store: DefaultStore,
    log: Log,
    disk: SimDisk,
}

/// One write's way into the log.
struct Recorder<'l>(&'l Log);

impl Enlist for Recorder<'_> {
    const ENLISTS: bool = true;

    type Error = Error;

    type Place<'g>
        = Place<'g>
    where
        Self: 'g;

    fn enlist<'g, 'w>(
        &mut self,
        what: Enlisted,
        writes: impl Iterator<Item = (&'w [u8], Option<&'w [u8]>)> + Clone,
        guard: &'g impl Guard,
    ) -> Result<Place<'g>>
    where
        Self: 'g,
    {
        let log: &'g Log = self.0;
        log.append(what, writes, guard)
    }

    fn withdraw<'g>(&mut self, what: Enlisted, place: Place<'g>)
    where
        Self: 'g,
    {
        place.withdraw(what);
    }
}

impl Machine {
    fn new(segment_bytes: usize) -> Self {
        let disk = SimDisk::new();
        let clock = Timestamp::from_raw(TICK);
        let beginning = Beginning {
            log: LOG,
            next_segment: 1,
            last: Timestamp::ABSENT,
            clock,
            kept: Vec::new(),
        };
        let log = Log::begin(Arc::new(disk.open().expect("opens")), segment_bytes, beginning).expect("begins");
        let store = DefaultStore::new();
        store.end_restoration(clock);
        store.advance_durable_cut(log.durable_cut());
        Self { store, log, disk }
    }

    fn put(&self, key: &Key, value: &[u8]) -> Timestamp {
        self.store
            .put_enlisted(
                key,
                value.len(),
                |bytes| bytes.copy_from_slice(value),
                &mut Recorder(&self.log),
            )
            .expect("put")
    }

    fn delete(&self, key: &Key) {
        self.store
            .delete_enlisted(key, true, &mut Recorder(&self.log))
            .expect("delete");
    }

    fn flush(&self) {
        self.log.flush(&self.store).expect("flush");
    }

    fn take(&self) -> Result<Timestamp> {
        take(&self.store, &self.log)
    }

    /// What a view sees, in another way than checkpoints are made.
    fn content(&self, view: &View<'_>) -> Content {
        let mut content = Content::new();
        let end = self.store.scan(
            (Bound::Unbounded, Bound::Unbounded),
            Direction::Descending,
            view.cut(),
            (usize::MAX, None),
            |key, value, timestamp| {
                content.insert(key.to_vec(), (value.to_vec(), timestamp));
                ControlFlow::Continue(())
            },
        );
        assert!(matches!(end, Scanned::Everything));
        content
    }

    fn durable_content(&self) -> (Timestamp, Content) {
        let view = View::at_durable_cut(&self.store);
        (view.cut(), self.content(&view))
    }

    fn checkpoints(&self) -> Vec<String> {
        let names = self.disk.names().into_iter();
        names.filter(|name| name.starts_with("checkpoint")).collect()
    }

    fn loaded(&self) -> (Timestamp, Content) {
        loaded(&self.disk).expect("whole").expect("there is one")
    }
}

/// Loads the newest checkpoint of a disk, of which a storage may be open.
fn loaded(disk: &SimDisk) -> Result<Option<(Timestamp, Content)>> {
    let storage = disk.kill().open().expect("the copy of a disk is not locked");
    let content = Mutex::new((Content::new(), 0));
    let covered = load_with(&storage, 3, &|entries| {
        let mut content = content.lock().expect("no panic");
        for (key, value, timestamp) in entries {
            let value = value.expect("no deletions").to_vec();
            content.0.insert(key.to_vec(), (value, timestamp));
            content.1 += 1;
        }
    })?;
    let (content, entries) = content.into_inner().expect("no panic");
    assert_eq!(content.len(), entries, "a key comes once");
    Ok(covered.map(|covered| (covered.cut, content)))
}

/// A disk with one checkpoint of these bytes.
fn disk_with(cut: Timestamp, bytes: Vec<u8>) -> SimDisk {
    SimDisk::with_files([(header::checkpoint_name(cut), bytes)])
}

/// The bytes of a checkpoint of what is in a store, at `seal`'s cut.
fn bytes_of(store: &DefaultStore, seal: Seal) -> Vec<u8> {
    let view = View::at_durable_cut(store);
    let pieces: Result<Vec<Vec<u8>>> = Pieces::new(&view, seal, &|| false).collect();
    pieces.expect("nothing fails").concat()
}

fn golden_seal() -> Seal {
    Seal {
        log: LOG,
        cut: Timestamp::from_raw(0x900),
        first: 3,
    }
}

/// A store with so many entries of about so many bytes.
fn filled(entries: usize, value_bytes: usize) -> DefaultStore {
    let store = DefaultStore::new();
    for number in 0..entries {
        let value = vec![number as u8; value_bytes];
        store.restore(
            &numbered(number),
            Some(&value),
            Timestamp::from_raw(number as u64 % 0x900 + 1),
        );
    }
    store.end_restoration(after_golden());
    store
}

/// Where the clock goes on above the golden cut.
fn after_golden() -> Timestamp {
    Timestamp::from_raw(0x1000_u64.next_multiple_of(TICK))
}

// ---- the bytes ----

#[test]
fn a_checkpoint_has_its_golden_bytes() {
    let store = DefaultStore::new();
    store.end_restoration(after_golden());
    assert_eq!(
        hex(&bytes_of(&store, golden_seal())),
        [golden::HEADER, golden::END_OF_NOTHING].concat()
    );
    store.restore(&Key::from_encoded(b"key-2"), Some(b""), Timestamp::from_raw(0x900));
    store.restore(&Key::from_encoded(b"key-1"), Some(b"value"), Timestamp::from_raw(5));
    store.end_restoration(after_golden());
    assert_eq!(
        hex(&bytes_of(&store, golden_seal())),
        [golden::HEADER, golden::BLOCK, golden::END].concat()
    );
}

/// Goal: no damage passes, whatever it is and wherever: the answer is an error that names the file, and never other
/// entries. Method: every bit of a small checkpoint is turned, every length of it tried, and bytes added.
#[test]
fn no_bit_of_a_checkpoint_can_change_unnoticed() {
    let Seal { cut, .. } = golden_seal();
    for entries in [0, 1, 9] {
        let whole = bytes_of(&filled(entries, 3), golden_seal());
        let content = loaded(&disk_with(cut, whole.clone()))
            .expect("whole")
            .expect("is there")
            .1;
        assert_eq!(content.len(), entries);
        let is_refused = |bytes: Vec<u8>, what: &str| match loaded(&disk_with(cut, bytes)) {
            Err(Error::Corrupt { segment, .. }) => assert!(segment.ends_with(&header::checkpoint_name(cut))),
            other => panic!("{what}: {other:?}"),
        };
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            is_refused(bytes, &format!("bit {bit} of {}", whole.len() * 8));
        }
        for length in 0..whole.len() {
            is_refused(whole[..length].to_vec(), &format!("{length} of {} bytes", whole.len()));
        }
        for more in [1, 8, 24, 32, 512] {
            is_refused([&whole[..], &vec![0; more]].concat(), "zeros behind it");
            is_refused(
                [&whole[..], &whole[whole.len().saturating_sub(more)..]].concat(),
                "its end twice",
            );
        }
    }
}

/// The same for sectors that are lost, and for files cut short, where there are several blocks.
#[test]
fn no_sector_of_a_checkpoint_can_be_lost_unnoticed() {
    let Seal { cut, .. } = golden_seal();
    let whole = bytes_of(&filled(4_000, 40), golden_seal());
    assert!(whole.len() > 3 * BLOCK_BYTES);
    let is_refused = |bytes: Vec<u8>| assert!(matches!(loaded(&disk_with(cut, bytes)), Err(Error::Corrupt { .. })));
    for start in (0..whole.len()).step_by(512) {
        let end = whole.len().min(start + 512);
        for lost in [0, 0xff] {
            let mut bytes = whole.clone();
            bytes[start..end].fill(lost);
            is_refused(bytes);
        }
        is_refused(whole[..start].to_vec());
    }
}

/// Goal: a part passes at one place of one checkpoint of one log. Method: checkpoints whose blocks have the same lengths
/// swap them.
#[test]
fn a_block_passes_at_its_own_place_alone() {
    let seal = golden_seal();
    let store = filled(4_000, 40);
    let whole = bytes_of(&store, seal);
    let storage = disk_with(seal.cut, whole.clone()).open().expect("opens");
    let file = File::open(&storage, header::checkpoint_name(seal.cut)).expect("opens");
    let bounds = Checkpoint::open(file, seal.cut).expect("whole").bounds;
    assert!(bounds.len() > 3 && bounds[1] - bounds[0] == bounds[2] - bounds[1]);
    let block = |number: usize| bounds[number] as usize..bounds[number + 1] as usize;
    let mut swapped = whole.clone();
    swapped[block(0)].copy_from_slice(&whole[block(1)]);
    swapped[block(1)].copy_from_slice(&whole[block(0)]);
    assert!(matches!(
        loaded(&disk_with(seal.cut, swapped)),
        Err(Error::Corrupt { .. })
    ));
    let later = Seal {
        cut: Timestamp::from_raw(0x901),
        ..seal
    };
    let other_log = Seal { log: LOG ^ 1, ..seal };
    for other in [later, other_log] {
        let others = bytes_of(&store, other);
        assert_eq!(others.len(), whole.len());
        // The end, a block in the middle, the index with the tail.
        for part in [block(0), block(1), bounds[bounds.len() - 1] as usize..whole.len()] {
            let mut mixed = whole.clone();
            mixed[part.clone()].copy_from_slice(&others[part]);
            assert!(matches!(
                loaded(&disk_with(seal.cut, mixed)),
                Err(Error::Corrupt { .. })
            ));
        }
        let moved = SimDisk::with_files([(header::checkpoint_name(Timestamp::from_raw(0x902)), others)]);
        assert!(matches!(loaded(&moved), Err(Error::Corrupt { offset: 24, .. })));
    }
}

/// Goal: what has a good checksum and makes no sense is refused as well. Method: blocks are put together by hand.
#[test]
fn blocks_that_make_no_sense_are_refused() {
    type Entry = (&'static [u8], u64);
    let seal = golden_seal();
    let file = |blocks: &[&[Entry]], entries: u64, claimed: u32| {
        let mut bytes = seal.header();
        let mut starts = Vec::new();
        for entries in blocks {
            let mut block = Block::new();
            for (key, timestamp) in *entries {
                assert!(block.push(key, b"value", Timestamp::from_raw(*timestamp)));
            }
            block.entries += claimed;
            starts.push(bytes.len() as u64);
            bytes.extend_from_slice(&block.finish(seal, *starts.last().expect("just pushed")));
        }
        let store = DefaultStore::new();
        let view = View::at_durable_cut(&store);
        let mut pieces = Pieces::new(&view, seal, &|| false);
        (pieces.offset, pieces.starts, pieces.entries) = (bytes.len() as u64, starts, entries);
        bytes.extend_from_slice(&pieces.end());
        loaded(&disk_with(seal.cut, bytes))
    };
    let (a, b, c): (Entry, Entry, Entry) = ((b"a", 1), (b"b", 2), (b"c", 3));
    let good = file(&[&[a, b], &[c]], 3, 0).expect("makes sense").expect("is there");
    assert_eq!(good.1.len(), 3);
    let refused = [
        ("an entry is missing", file(&[&[a, b], &[c]], 4, 0)),
        ("an entry is not counted", file(&[&[a, b], &[c]], 2, 0)),
        ("a block counts too many", file(&[&[a, b], &[c]], 3, 1)),
        ("a block is empty", file(&[&[a], &[], &[b]], 2, 0)),
        ("keys descend in a block", file(&[&[b, a], &[c]], 3, 0)),
        ("a key comes twice", file(&[&[a, a], &[c]], 3, 0)),
        ("keys descend from block to block", file(&[&[a, c], &[b]], 3, 0)),
        ("a key comes in two blocks", file(&[&[a], &[b], &[b], &[c]], 4, 0)),
        ("a commit without a timestamp", file(&[&[(b"a", 0)]], 1, 0)),
        ("a commit above the cut", file(&[&[(b"a", 0x901)]], 1, 0)),
    ];
    for (what, result) in refused {
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{what}: {result:?}");
    }
}

#[test]
fn another_version_is_named_and_not_read() {
    let cut = golden_seal().cut;
    let mut bytes = bytes_of(&filled(3, 3), golden_seal());
    bytes[8] = 2;
    let checksum = header_checksum(&bytes[..HEADER_BYTES]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    match loaded(&disk_with(cut, bytes)) {
        Err(Error::FormatVersion {
            found: 2,
            supported: 1,
            path,
        }) => assert!(path.ends_with(".ckpt")),
        other => panic!("{other:?}"),
    }
}

/// Goal: what goes in comes out, in blocks that are bounded and full, whatever the lengths are and however many threads
/// read. Method: random lengths, among them values longer than a block, in a store with deletions between them.
#[test]
fn entries_of_all_lengths_come_back() {
    let length = prop_oneof![8 => 0_usize..200, 2 => 1_000_usize..20_000, 1 => (BLOCK_BYTES - 200)..(2 * BLOCK_BYTES)];
    let entries = prop::collection::vec((length, 1_usize..300, any::<bool>()), 0..120);
    proptest!(ProptestConfig::with_cases(40), |(entries in entries, threads in 1_usize..9)| {
        let store = DefaultStore::new();
        let mut expected = Content::new();
        for (number, (value_bytes, key_bytes, is_deleted)) in entries.into_iter().enumerate() {
            let key = key(&format!("{number:04}{}", "x".repeat(key_bytes)));
            let value = vec![number as u8; value_bytes];
            let timestamp = store.put(&key, &value);
            if is_deleted {
                store.delete(&key);
            } else {
                expected.insert(key.as_bytes().to_vec(), (value, timestamp));
            }
        }
        let view = View::at_durable_cut(&store);
        let seal = Seal { log: LOG, cut: view.cut(), first: 1 };
        let pieces: Vec<Vec<u8>> = Pieces::new(&view, seal, &|| false).collect::<Result<_>>().expect("nothing fails");
        let longest = |content: &Content| content.iter().map(|(key, (value, _))| key.len() + value.len()).max();
        let most = BLOCK_BYTES.max(BLOCK_HEADER_BYTES + ENTRY_HEADER_BYTES + longest(&expected).unwrap_or(0));
        prop_assert!(pieces.iter().all(|piece| piece.len() <= most), "memory is bounded");
        let blocks = &pieces[1..pieces.len() - 1];
        prop_assert!(blocks.windows(2).all(|pair| pair[0].len() + pair[1].len() > BLOCK_BYTES), "blocks are filled");

        let storage = disk_with(seal.cut, pieces.concat()).open().expect("opens");
        let content = Mutex::new(Content::new());
        let restored = DefaultStore::new();
        let covered = load_with(&storage, threads, &|entries| {
            let copies = entries.clone().map(|(key, value, timestamp)| {
                (key.to_vec(), (value.expect("no deletions").to_vec(), timestamp))
            });
            content.lock().expect("no panic").extend(copies);
            restored.restore_sorted(entries);
        });
        prop_assert_eq!(covered.expect("whole"), Some(Covered { cut: seal.cut, first: Some(1) }));
        prop_assert!(content.into_inner().expect("no panic") == expected);
        restored.end_restoration(Timestamp::from_raw(seal.cut.get().next_multiple_of(TICK) + TICK));
        prop_assert_eq!(restored.stats().live_versions, expected.len() as u64);
        for (key, (value, timestamp)) in &expected {
            let found = restored.get_with(&Key::from_encoded(key), |bytes, at| bytes == value && at == *timestamp);
            prop_assert_eq!(found, Some(true));
        }
    });
}

/// Every stretch is some blocks, all of them together are all blocks, and none has much more than its share.
#[test]
fn stretches_share_the_blocks() {
    let disk = SimDisk::new();
    let storage = disk.open().expect("opens");
    let checkpoint = |bounds: Vec<u64>| Checkpoint {
        file: File {
            storage: &storage,
            name: String::new(),
            length: 0,
        },
        seal: golden_seal(),
        bounds,
        entries: 0,
    };
    for blocks in [0, 1, 2, 7, 100] {
        let checkpoint = checkpoint((0..=blocks).map(|block| 32 + block * 1_000).collect());
        for count in [1, 2, 3, 8, 150] {
            let stretches = checkpoint.stretches(count);
            assert!(stretches.len() <= count);
            assert!(stretches.iter().cloned().flatten().eq(0..blocks as usize));
            let most = (blocks as usize).div_ceil(count);
            assert!(stretches.iter().all(|stretch| (1..=most + 1).contains(&stretch.len())));
        }
    }
    let lopsided = checkpoint(vec![32, 100, 200, 1_000_000, 1_000_100]);
    assert_eq!(lopsided.stretches(2), [0..3, 3..4]);
}

// ---- what is in it ----

/// Goal: a checkpoint is what a snapshot at its cut sees, while writers change everything. Method: nothing is flushed, so
/// that the cut stays where a snapshot of the test's own is.
#[test]
fn a_checkpoint_beside_writers_is_the_snapshot_at_its_cut() {
    let machine = &Machine::new(1 << 20);
    for number in 0..4_000 {
        machine.put(&numbered(number), format!("old{number}").as_bytes());
    }
    machine.flush();
    let view = View::at_durable_cut(&machine.store);
    let expected = machine.content(&view);
    assert_eq!(expected.len(), 4_000);
    let is_done = &Count::default();
    let changes = &Count::default();
    let cut = thread::scope(|scope| {
        for writer in 0..2 {
            scope.spawn(move || {
                let mut number = writer;
                while is_done.get() == 0 {
                    number = (number * 7 + 3) % 6_000;
                    match number % 5 {
                        0 => drop(machine.store.delete(&numbered(number))),
                        1 => drop(machine.put(&numbered(number), b"new, with a record")),
                        _ => drop(machine.store.put(&numbered(number), b"new")),
                    }
                    changes.up();
                }
            });
        }
        while changes.get() < 500 {
            thread::yield_now();
        }
        let taken = machine.take();
        is_done.up();
        taken.expect("taken")
    });
    assert_eq!(cut, view.cut());
    assert!(machine.loaded() == (cut, expected));
}

/// Goal: a checkpoint holds transactions whole. Method: one thread commits pairs of equal values, another flushes, so that
/// the cut moves all the time.
#[test]
fn a_checkpoint_holds_transactions_whole() {
    struct Pair([Write; 2]);
    impl crate::mvcc::Writes for Pair {
        fn len(&self) -> usize {
            2
        }

        fn iter(&self) -> impl Iterator<Item = (&Key, Option<&[u8]>)> {
            self.0.iter().map(|write| (&write.key, write.value.as_deref()))
        }
    }
    let machine = &Machine::new(64 << 10);
    let is_done = &Count::default();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut number = 0_u64;
            while is_done.get() == 0 {
                number += 1;
                let write = |name| Write {
                    key: key(name),
                    value: Some(number.to_le_bytes().into()),
                };
                let snapshot = machine.store.open_snapshot();
                let pair = Pair([write("a"), write("z")]);
                let committed = machine
                    .store
                    .commit_enlisted(&snapshot, &pair, &mut Recorder(&machine.log));
                assert!(committed.is_ok());
                machine.store.close_snapshot(&snapshot);
            }
        });
        scope.spawn(move || {
            while is_done.get() == 0 {
                machine.flush();
            }
        });
        let mut last = Timestamp::ABSENT;
        let mut telling = 0;
        while telling < 30 {
            let cut = machine.take().expect("taken");
            let (loaded_cut, content) = machine.loaded();
            assert_eq!(cut, loaded_cut);
            assert!(cut >= last);
            let value = |name| content.get(key(name).as_bytes());
            assert_eq!(value("a"), value("z"));
            telling += usize::from(cut > last && value("a").is_some());
            last = cut;
        }
        is_done.up();
    });
    machine.flush();
    machine.take().expect("taken");
    assert_eq!(machine.loaded().1.len(), 2);
    assert_eq!(machine.store.stats().open_snapshots, 0);
}

/// Goal: a checkpoint shows what a reader at the cut sees, records or not, and nothing below that. So a value is there that
/// has no record, and one with a record is not there under a deletion that has none.
#[test]
fn values_without_a_record_are_included_and_deletions_are_not() {
    let machine = Machine::new(SEGMENT_BYTES);
    let recorded = machine.put(&key("recorded"), b"1");
    machine.put(&key("covered"), b"recorded");
    let covered = machine.store.put(&key("covered"), b"not recorded");
    let unrecorded = machine.store.put(&key("unrecorded"), b"2");
    machine.put(&key("deleted"), b"3");
    machine.delete(&key("deleted"));
    machine.put(&key("deleted without a record"), b"4");
    machine.store.delete(&key("deleted without a record"));
    machine.flush();
    // Above the cut: not yet.
    machine.put(&key("later"), b"5");
    machine.put(&key("recorded"), b"later");
    machine.take().expect("taken");
    let entry = |name: &str, value: &[u8], timestamp| (key(name).as_bytes().to_vec(), (value.to_vec(), timestamp));
    let expected = Content::from([
        entry("covered", b"not recorded", covered),
        entry("recorded", b"1", recorded),
        entry("unrecorded", b"2", unrecorded),
    ]);
    assert!(machine.loaded().1 == expected);
}

/// Goal: keys that are absent cost no progress and no memory. Method: thousands of deleted keys that a snapshot keeps, with
/// a value between them that starts a block of its own.
#[test]
fn long_stretches_of_deleted_keys_are_passed() {
    let machine = Machine::new(1 << 20);
    let before = machine.store.open_snapshot();
    for number in 0..5_000 {
        let value = if number == 2_500 { vec![7; BLOCK_BYTES] } else { vec![1] };
        machine.store.put(&numbered(number), &value);
    }
    let during = machine.store.open_snapshot();
    for number in (0..5_000).filter(|number| number % 2_500 != 0) {
        machine.store.delete(&numbered(number));
    }
    machine.flush();
    machine.take().expect("taken");
    let found: BTreeSet<_> = machine.loaded().1.into_keys().collect();
    assert!(found == BTreeSet::from([0, 2_500].map(|number| numbered(number).as_bytes().to_vec())));
    machine.store.close_snapshot(&before);
    machine.store.close_snapshot(&during);
}

// ---- taking one ----

/// Fills some segments, and returns what is durable then.
fn write_some(machine: &Machine, round: usize) -> (Timestamp, Content) {
    for number in 0..60 {
        let key = numbered(number * (round + 1));
        if number % 7 == round % 7 {
            machine.delete(&key);
        } else {
            machine.put(&key, &vec![round as u8 + 1; 300]);
        }
    }
    machine.flush();
    machine.durable_content()
}

#[test]
fn a_checkpoint_removes_the_one_before_and_the_log_before_it() {
    let machine = Machine::new(SEGMENT_BYTES);
    assert!(loaded(&machine.disk).expect("nothing is wrong").is_none());
    let mut cuts = Vec::new();
    for round in 0..3 {
        let (cut, content) = write_some(&machine, round);
        assert!(machine.log.kept_bytes() > 0);
        assert_eq!(machine.take().expect("taken"), cut);
        assert!(machine.loaded() == (cut, content));
        assert_eq!(machine.checkpoints(), [header::checkpoint_name(cut)]);
        assert_eq!(machine.log.kept_bytes(), 0);
        cuts.push(cut);
    }
    assert!(cuts.is_sorted());
    let segments = machine.disk.names();
    let numbers: Vec<u32> = segments
        .iter()
        .filter_map(|name| header::segment_number(name))
        .collect();
    assert!(!numbers.is_empty() && numbers.iter().all(|&number| number > 1));
}

#[test]
fn nothing_is_written_twice_at_the_same_cut() {
    let machine = Machine::new(SEGMENT_BYTES);
    write_some(&machine, 0);
    let cut = machine.take().expect("taken");
    machine.put(&key("above the cut"), b"");
    let steps = machine.disk.tally().steps;
    assert_eq!(machine.take().expect("is there"), cut);
    assert_eq!(machine.disk.tally().steps, steps);
    machine.flush();
    assert!(machine.take().expect("taken") > cut);
}

/// Goal: of many calls at once each gets a checkpoint as good as it could expect when it was made.
#[test]
fn calls_at_the_same_time_share_their_work() {
    let machine = &Machine::new(64 << 10);
    write_some(machine, 0);
    thread::scope(|scope| {
        for caller in 0..4 {
            scope.spawn(move || {
                for number in 0..10 {
                    machine.put(&key(&format!("{caller}/{number}")), b"");
                    machine.flush();
                    let wanted = machine.log.durable_cut();
                    assert!(machine.take().expect("taken") >= wanted);
                }
            });
        }
    });
    assert_eq!(machine.checkpoints().len(), 1);
    let content = machine.loaded().1;
    assert!((0..4).all(|caller| content.contains_key(key(&format!("{caller}/9")).as_bytes())));
}

#[test]
fn a_checkpoint_that_is_stopped_leaves_nothing_behind() {
    let machine = Machine::new(1 << 20);
    for number in 0..3_000 {
        machine.put(&numbered(number), &[1; 100]);
    }
    machine.flush();
    let asked = Count::default();
    let stopped = take_unless(&machine.store, &machine.log, &|| asked.up() == 2);
    assert!(matches!(stopped, Err(Error::Closed)));
    assert_eq!(asked.get(), 3, "soon");
    assert!(machine.checkpoints().is_empty());
    assert_eq!(machine.store.stats().open_snapshots, 0);
    machine.take().expect("taken");
    assert_eq!(machine.loaded().1.len(), 3_000);
}

/// Goal: what never became durable is not made so behind the back of those who were told that it is not.
#[test]
fn a_poisoned_log_gets_no_checkpoint() {
    let machine = Machine::new(SEGMENT_BYTES);
    let (cut, content) = write_some(&machine, 0);
    machine.take().expect("taken");
    machine.put(&key("lost"), b"");
    let failing = machine.disk.tally().syncs + 1;
    machine.disk.follow(FaultPlan::new().fail_sync(failing, Fault::Io));
    assert!(matches!(machine.log.flush(&machine.store), Err(Error::Poisoned { .. })));
    assert!(matches!(machine.take(), Err(Error::Poisoned { .. })));
    assert!(machine.loaded() == (cut, content));
    assert_eq!(machine.checkpoints().len(), 1);
}

/// The same if the log is poisoned while the checkpoint is being written: whatever it holds is durable, but after the first
/// failure nothing is trusted to be.
#[test]
fn a_log_that_is_poisoned_meanwhile_gets_no_checkpoint() {
    let machine = Machine::new(SEGMENT_BYTES);
    write_some(&machine, 0);
    let poison = || {
        if machine.log.check_poison().is_ok() {
            machine.put(&key("lost"), b"");
            let failing = machine.disk.tally().syncs + 1;
            machine.disk.follow(FaultPlan::new().fail_sync(failing, Fault::Io));
            assert!(machine.log.flush(&machine.store).is_err());
        }
        false
    };
    let taken = take_unless(&machine.store, &machine.log, &poison);
    assert!(matches!(taken, Err(Error::Poisoned { .. })));
    assert!(machine.checkpoints().is_empty());
}

/// Checks that all segments are there that a disk's checkpoint needs, of those that there were.
fn check_log_of(disk: &SimDisk, segments: &[u32], what: &str) {
    let storage = disk.kill().open().expect("opens");
    let covered = load_with(&storage, 1, &|_| {}).expect("whole").expect("is there");
    let first = covered.first.expect("a checkpoint says so");
    let there = segments_of(disk);
    let mut needed = segments.iter().filter(|&&number| number >= first);
    assert!(
        needed.all(|number| there.contains(number)),
        "{what}: from {first} on, of {there:?}"
    );
}

/// Numbers of a disk's segments, ascending.
fn segments_of(disk: &SimDisk) -> Vec<u32> {
    disk.names()
        .iter()
        .filter_map(|name| header::segment_number(name))
        .collect()
}

/// Goal: a crash at any step of taking a checkpoint leaves the one before with the log after it, or the new one; and
/// whatever has a checkpoint's name is whole. Method: the power fails at each step in turn, and each time several subsets
/// of what was not durable survive. A crash after the last step is tried as well.
#[test]
fn a_crash_at_any_step_leaves_a_checkpoint_and_the_log_after_it() {
    let mut step = 0;
    loop {
        step += 1;
        let machine = Machine::new(SEGMENT_BYTES);
        let (old_cut, old) = write_some(&machine, 0);
        machine.take().expect("taken");
        let (new_cut, new) = write_some(&machine, 1);
        let segments = segments_of(&machine.disk);
        assert!(segments.len() > 2);
        let first = machine.disk.tally().steps;
        machine.disk.follow(FaultPlan::new().seed(step).crash_at(first + step));
        let taken = machine.take();
        let is_whole = taken.is_ok();
        assert_eq!(is_whole, !machine.disk.is_off());
        let seeds = (0..20).map(Survivors::Seed);
        for survivors in seeds.chain([Survivors::Nothing, Survivors::Everything]) {
            let disk = machine.disk.crash(&survivors);
            let (cut, content) = loaded(&disk).expect("whole").expect("there was one");
            let expected = if cut == new_cut { &new } else { &old };
            assert!(cut == new_cut || cut == old_cut, "step {step}, {survivors:?}");
            assert!(content == *expected, "step {step}, {survivors:?}");
            assert!(!is_whole || cut == new_cut, "it was durable");
            check_log_of(&disk, &segments, &format!("step {step}, {survivors:?}"));
            // Oldest first.
            let there = segments_of(&disk);
            assert!(segments.ends_with(&there), "step {step}, {survivors:?}: {there:?}");
        }
        if is_whole {
            break;
        }
    }
    // Writing, renaming, syncing, removing the old one, and two for each segment.
    assert!(step > 8, "all steps were tried");
}

/// Goal: a step that fails costs a checkpoint and nothing else: the store goes on, no snapshot stays open, and the next
/// call does what this one did not. Method: each step fails in turn, in both ways.
#[test]
fn a_step_that_fails_costs_no_more_than_a_checkpoint() {
    for fault in [Fault::Io, Fault::Full] {
        let mut step = 0;
        loop {
            step += 1;
            let machine = Machine::new(SEGMENT_BYTES);
            let (old_cut, old) = write_some(&machine, 0);
            machine.take().expect("taken");
            let (new_cut, new) = write_some(&machine, 1);
            let segments = segments_of(&machine.disk);
            let first = machine.disk.tally().steps;
            machine.disk.follow(FaultPlan::new().fail_at(first + step, fault));
            let taken = machine.take();
            if machine.disk.tally().faults == 0 {
                assert_eq!(taken.expect("nothing failed"), new_cut);
                assert!(step > 8, "all steps were tried");
                break;
            }
            match taken {
                Err(Error::Io { .. } | Error::DiskFull { .. }) => {}
                other => panic!("step {step}: {other:?}"),
            }
            assert_eq!(machine.store.stats().open_snapshots, 0);
            let (cut, content) = machine.loaded();
            assert!((cut, &content) == (old_cut, &old) || (cut, &content) == (new_cut, &new));
            check_log_of(&machine.disk, &segments, &format!("step {step}"));

            // At the same cut, so that its names are the same.
            assert_eq!(machine.take().expect("nothing fails any more"), new_cut);
            assert!(machine.loaded() == (new_cut, new));
            assert_eq!(machine.log.kept_bytes(), 0);
            let (cut, content) = write_some(&machine, 2);
            assert_eq!(machine.take().expect("taken"), cut);
            assert!(machine.loaded() == (cut, content));
            assert_eq!(machine.checkpoints(), [header::checkpoint_name(cut)]);
        }
    }
}

/// Goal: files that never got their name count for nothing, and the next checkpoint removes those of earlier ones; other
/// files' it leaves alone.
#[test]
fn leftovers_are_ignored_and_removed() {
    let machine = Machine::new(SEGMENT_BYTES);
    let storage = machine.log.storage();
    let (cut, _) = machine.durable_content();
    let later = Timestamp::from_raw(cut.get() + 77);
    let leftovers = [cut, later].map(|cut| header::temporary_name(&header::checkpoint_name(cut)));
    let spare = header::temporary_name("spare-77");
    for name in leftovers.iter().chain([&spare]) {
        let mut parts = [Ok(b"half of somethi".to_vec())].into_iter();
        storage.write_file(name, &mut parts).expect("written");
    }
    assert!(loaded(&machine.disk).expect("ignored").is_none());
    assert_eq!(machine.take().expect("taken"), cut);
    assert_eq!(machine.checkpoints(), [header::checkpoint_name(cut)]);
    assert!(machine.disk.names().contains(&spare));
    assert!(machine.loaded().1.is_empty());
}

/// Goal: the newest checkpoint counts, and if it is damaged nothing else does: the log that an older one needs is gone.
#[test]
fn a_damaged_checkpoint_is_not_replaced_by_an_older_one() {
    let store = filled(10, 10);
    let (old, new) = (
        Seal {
            log: LOG,
            cut: Timestamp::from_raw(0x900),
            first: 3,
        },
        Seal {
            log: LOG,
            cut: Timestamp::from_raw(0xa00),
            first: 3,
        },
    );
    let files = [old, new].map(|seal| (header::checkpoint_name(seal.cut), bytes_of(&store, seal)));
    let disk = SimDisk::with_files(files);
    assert_eq!(loaded(&disk).expect("whole").map(|(cut, _)| cut), Some(new.cut));
    assert!(disk.overwrite(&header::checkpoint_name(new.cut), 50, &[0xff]));
    assert!(matches!(loaded(&disk), Err(Error::Corrupt { .. })));
}

/// Goal: a checkpoint that was put beside the segments of another log is refused.
#[test]
fn a_checkpoint_of_another_log_is_refused() {
    let machine = Machine::new(SEGMENT_BYTES);
    let segments = segments_of(&machine.disk);
    let with = |log: u64, first: u32| {
        let seal = Seal {
            log,
            first,
            ..golden_seal()
        };
        let name = header::segment_name(segments[0]);
        let segment = machine.disk.content(&name).expect("is there");
        let checkpoint = bytes_of(&machine.store, seal);
        let files = [(name, segment), (header::checkpoint_name(seal.cut), checkpoint)];
        loaded(&SimDisk::with_files(files))
    };
    assert!(with(LOG, segments[0]).is_ok());
    assert!(matches!(
        with(LOG ^ 1, segments[0]),
        Err(Error::Corrupt { offset: 16, .. })
    ));
    // What is before the segments that it needs does not count.
    assert!(with(LOG ^ 1, segments[0] + 1).is_ok());
}

/// A reading error is one, and no damage.
#[test]
fn a_step_that_fails_while_loading_is_told() {
    let cut = golden_seal().cut;
    let bytes = bytes_of(&filled(4_000, 40), golden_seal());
    let mut step = 0;
    loop {
        step += 1;
        let disk = disk_with(cut, bytes.clone());
        disk.follow(FaultPlan::new().fail_at(step, Fault::Io));
        let storage = disk.open().expect("opens");
        match load_with(&storage, 2, &|_| {}) {
            Err(Error::Io { .. }) => assert_eq!(disk.tally().faults, 1),
            Ok(loaded) if disk.tally().faults == 0 => {
                assert_eq!(loaded.map(|covered| covered.cut), Some(cut));
                break;
            }
            other => panic!("step {step}: {other:?}"),
        }
    }
    assert!(step > 4);
}
