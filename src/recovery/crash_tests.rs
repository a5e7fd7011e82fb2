//! Many lives of a log on a disk that keeps any subset of unsynced sectors, each ended by a crash at any step.
//!
//! A model writes as the engine does: commits are copied in any order, some are stamped for a cut and others carried to a
//! later one or never decided, a marker follows, and only after a sync is the cut acknowledged. Pages reach the disk
//! whenever they like. After each crash, of the machine or of the process alone, recovery must give exactly the state of
//! one cut that is not below what was acknowledged, nothing of an earlier life may come back, and the next life goes on
//! from there. Checkpoints are taken now and then, and segments that they cover are removed, or used again with all that
//! they held.
//!
//! Everything comes from a seed, which a failure prints.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::tests::{State, apply_to, recovered};
use super::*;
use crate::log::fixture::{LogBuilder, Memory, OwnedWrites};
use crate::log::record::{HEADER_BYTES, UNIT_BYTES};
use crate::storage::SECTOR_BYTES;

const TICK: u64 = 256;
/// Units of a segment, few enough that lives have several.
const UNITS: usize = 24;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A commit that was given a timestamp, in this life or an earlier one.
struct Commit {
    stamp: u64,
    writes: OwnedWrites,
}

struct World {
    random: Random,
    /// What the process sees.
    log: LogBuilder,
    /// What is on the disk.
    disk: BTreeMap<u32, Vec<u8>>,
    /// All commits that no crash has taken away for good.
    commits: Vec<Commit>,
    /// Copied, undecided.
    pending: Vec<(Lsn, OwnedWrites)>,
    /// The last cut that made something durable, and the last one of all.
    acknowledged: u64,
    durable_cut: u64,
    clock: u64,
    /// The cut of the newest checkpoint.
    checkpoint: Option<u64>,
    /// What recovery said of the segments that it found, oldest first.
    kept: Vec<KeptSegment>,
    /// The bytes of a removed segment.
    spare: Option<Vec<u8>>,
    number: u32,
    /// How often things happened, so that a test can tell that they did.
    torn: u64,
    taken_back: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut log = LogBuilder::new();
        log.log = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            random: Random(seed),
            log,
            disk: BTreeMap::new(),
            commits: Vec::new(),
            pending: Vec::new(),
            acknowledged: 0,
            durable_cut: 0,
            clock: 0,
            checkpoint: None,
            kept: Vec::new(),
            spare: None,
            number: 0,
            torn: 0,
            taken_back: 0,
        }
    }

    fn files(&self) -> Memory {
        let mut log = self.log.clone();
        log.segments = self.disk.clone();
        log.files()
    }

    /// The commits after `from` up to `to`, newest for each key.
    fn state(&self, from: u64, to: u64) -> State {
        let mut state = State::new();
        for commit in self
            .commits
            .iter()
            .filter(|commit| (from + 1..=to).contains(&commit.stamp))
        {
            for (key, value) in &commit.writes {
                apply_to(&mut state, commit.stamp, key, value.as_deref());
            }
        }
        state
    }

    /// Recovers, checks what that gave, and begins a life.
    fn open(&mut self) {
        let checkpoint = self.checkpoint.unwrap_or(0);
        let (found, state) = recovered(&self.files(), self.checkpoint).expect("the disk keeps its promises");
        if self.random.once_in(4) {
            // A crash before the restart is there.
            let again = recovered(&self.files(), self.checkpoint).expect("the disk keeps its promises");
            assert_eq!((&found, &state), (&again.0, &again.1));
        }
        let cut = found.cut.get();
        assert!(
            cut >= self.acknowledged,
            "cut {cut}, acknowledged {}",
            self.acknowledged
        );
        assert_eq!(
            state,
            self.state(checkpoint, cut),
            "cut {cut} above a checkpoint at {checkpoint}"
        );
        assert!(found.clock.get() > cut.max(checkpoint) && found.clock.get().is_multiple_of(TICK));
        let before = self.commits.len();
        self.commits.retain(|commit| commit.stamp <= cut);
        self.taken_back += (before - self.commits.len()) as u64;
        self.pending.clear();
        self.acknowledged = cut;
        self.durable_cut = found.clock.get() - 1;
        self.clock = found.clock.get();
        self.number = found.next_segment;
        self.kept = found.segments;
        // Every file that was read is synced, and the new segment is durable before it has a name.
        self.log.segments = self.disk.clone();
        self.add_segment(Some((cut, self.clock)));
    }

    /// Goes on in a new segment, perhaps a file that was used before.
    fn add_segment(&mut self, restart: Option<(u64, u64)>) {
        self.log.segment(self.number, UNITS);
        if let Some(stale) = self.spare.take() {
            let place = self.log.bytes_at(Lsn::new(self.number, HEADER_BYTES as u32));
            place.copy_from_slice(&stale[HEADER_BYTES..]);
        }
        if let Some((last, clock)) = restart {
            self.log.restart(last, clock);
        }
        self.disk.insert(self.number, self.log.segments[&self.number].clone());
        self.number += 1;
    }

    /// Makes room for so many units.
    fn reserve(&mut self, units: usize) {
        let used = (self.log.at.offset() as usize - HEADER_BYTES) / UNIT_BYTES;
        if used + units > UNITS {
            self.add_segment(None);
        }
    }

    fn append(&mut self) {
        let key = |random: &mut Random| format!("key {}", random.below(6)).into_bytes();
        let mut writes: OwnedWrites = Vec::new();
        for _ in 0..=self.random.below(2) {
            let key = key(&mut self.random);
            if writes.iter().all(|(other, _)| *other != key) {
                let length = self.random.below(120) as usize;
                let value = vec![self.random.next() as u8; length];
                writes.push((key, (!self.random.once_in(5)).then_some(value)));
            }
        }
        // Two writes and a hole at most.
        self.reserve(7);
        if self.random.once_in(6) {
            self.log.hole(1 + self.random.below(2) as u32);
        }
        let lsn = self.log.append(&writes);
        self.pending.push((lsn, writes));
    }

    /// Decides some of what is pending, and makes a cut of it. A crash may come before the sync.
    fn flush(&mut self) -> bool {
        self.reserve(1);
        let mut stamp = self.clock;
        self.clock += TICK;
        let cut = self.clock - 1;
        let mut stamped = false;
        for (lsn, writes) in std::mem::take(&mut self.pending) {
            match self.random.below(4) {
                0 => self.pending.push((lsn, writes)),
                // Aborted: it stays without a stamp.
                1 if self.random.once_in(2) => {}
                _ => {
                    stamp += 1;
                    self.log.stamp(lsn, stamp);
                    self.commits.push(Commit { stamp, writes });
                    stamped = true;
                }
            }
        }
        if stamped {
            self.log.marker(cut);
            self.write_back(2);
            if self.random.once_in(6) {
                return false;
            }
            self.disk = self.log.segments.clone();
            self.acknowledged = cut;
        }
        self.durable_cut = cut;
        true
    }

    /// Some sectors reach the disk: on average one of so many that differ.
    fn write_back(&mut self, times: u64) {
        for (number, bytes) in &self.log.segments {
            let on_disk = self
                .disk
                .get_mut(number)
                .expect("a segment is durable before it has a name");
            for (new, old) in bytes.chunks(SECTOR_BYTES).zip(on_disk.chunks_mut(SECTOR_BYTES)) {
                if new != old && self.random.once_in(times) {
                    old.copy_from_slice(new);
                }
            }
        }
    }

    /// A checkpoint at the last cut; the oldest segments that it covers go, or some of them before a crash.
    fn take_checkpoint(&mut self) {
        self.checkpoint = Some(self.durable_cut);
        self.acknowledged = self.durable_cut;
        while let Some(oldest) = self.kept.first().filter(|kept| kept.last.get() <= self.durable_cut) {
            if self.random.once_in(4) {
                break;
            }
            self.log.segments.remove(&oldest.number);
            self.spare = self.disk.remove(&oldest.number);
            self.kept.remove(0);
        }
    }

    fn live(&mut self) {
        let steps = self.random.below(40);
        for _ in 0..steps {
            let going_on = match self.random.below(10) {
                0..6 => {
                    self.append();
                    true
                }
                6..8 => self.flush(),
                8 => {
                    self.write_back(3);
                    true
                }
                _ => {
                    if self.random.once_in(4) {
                        self.take_checkpoint();
                    }
                    true
                }
            };
            if !going_on {
                break;
            }
        }
        match self.random.below(3) {
            // The process is killed: everything it wrote is in the page cache, and recovery syncs it.
            0 => self.disk = self.log.segments.clone(),
            1 => {}
            _ => self.write_back(2),
        }
        self.torn += u64::from(self.disk != self.log.segments);
    }
}

#[test]
fn every_crash_leaves_the_state_of_one_cut_that_covers_what_was_acknowledged() {
    let (mut torn, mut taken_back, mut checkpoints) = (0, 0, 0);
    for seed in 0..300 {
        let run = || {
            let mut world = World::new(seed);
            for _ in 0..12 {
                world.open();
                world.live();
            }
            world.open();
            (world.torn, world.taken_back, u64::from(world.checkpoint.is_some()))
        };
        let counts = std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed}"));
        torn += counts.0;
        taken_back += counts.1;
        checkpoints += counts.2;
    }
    assert!(
        torn > 1_000 && taken_back > 300 && checkpoints > 100,
        "{torn} {taken_back} {checkpoints}"
    );
}
