//! Which calls of a simulated disk fail, and what survives its crashes: both from seeds, so that a number replays them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;

use crate::error::Error;

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The device reports an error: [`Error::Io`].
    Io,
    /// The device is full: [`Error::DiskFull`]. Calls that need no room fail with [`Error::Io`] instead.
    Full,
}

/// Which calls fail, and how; see the module for what a fault does. An empty plan has no faults.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    seed: u64,
    crash_at: Option<u64>,
    fail_at: BTreeMap<u64, Fault>,
    fail_syncs: BTreeMap<u64, Fault>,
    one_in: Option<u64>,
    early_one_in: Option<u64>,
    capacity: Option<u64>,
    stale: Option<u64>,
}

/// What survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survivors {
    /// Only what is durable.
    Nothing,
    /// Everything.
    Everything,
    /// What this seed chooses: of some crashes nearly everything, of some hardly anything, of most about half.
    Seed(u64),
    /// The choices, as [`SimDisk::dirty`](super::SimDisk::dirty) numbers them, whose bits are set. From the 65th on nothing
    /// survives.
    Mask(u64),
}

/// What happened on a simulated disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SimTally {
    /// Calls that touched the disk: the number of the last step.
    pub steps: u64,
    /// Of these, those that synced contents.
    pub syncs: u64,
    /// Calls that were made to fail, those for want of room included.
    pub faults: u64,
    /// Sectors that were written back early.
    pub early_sectors: u64,
    /// Sectors that differed at the crash that made this disk, and survived.
    pub kept_sectors: u64,
    /// Sectors that differed at the crash that made this disk, and are as they were.
    pub lost_sectors: u64,
    /// Changes of names that survived the crash that made this disk, though the directory was not synced.
    pub kept_names: u64,
    /// Changes of names that were lost in the crash that made this disk.
    pub lost_names: u64,
}

/// The calls that are steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Create,
    Write,
    Read,
    Rename,
    Remove,
    Sync,
    SyncFile,
    SyncDirectory,
}

/// What a plan says about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Go,
    Fail(Fault),
    Crash,
}

/// A generator of random numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl FaultPlan {
    /// Returns a plan without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the seed of whatever is left to chance.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Turns the power off during step number `step`, counted from 1.
    #[must_use]
    pub fn crash_at(mut self, step: u64) -> Self {
        self.crash_at = Some(step);
        self
    }

    /// Makes step number `step` fail, counted from 1.
    #[must_use]
    pub fn fail_at(mut self, step: u64, fault: Fault) -> Self {
        self.fail_at.insert(step, fault);
        self
    }

    /// Makes the `number`th sync of contents fail, counted from 1.
    #[must_use]
    pub fn fail_sync(mut self, number: u64, fault: Fault) -> Self {
        self.fail_syncs.insert(number, fault);
        self
    }

    /// Makes about one step in `steps` fail; none if that is zero.
    #[must_use]
    pub fn fail_one_in(mut self, steps: u64) -> Self {
        self.one_in = (steps > 0).then_some(steps);
        self
    }

    /// Writes a random subset of the sectors that differ back before about one step in `steps`; never if that is zero.
    #[must_use]
    pub fn write_back_one_in(mut self, steps: u64) -> Self {
        self.early_one_in = (steps > 0).then_some(steps);
        self
    }

    /// Limits the bytes of all files together.
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Fills new files with sectors of removed files and with noise, chosen by `seed`, instead of zeros.
    #[must_use]
    pub fn stale_bytes(mut self, seed: u64) -> Self {
        self.stale = Some(seed);
        self
    }

    /// Decides about step number `step`, which is the `sync`th sync if it is one.
    pub(super) fn judge(&self, call: Call, step: u64, sync: u64) -> Verdict {
        if self.crash_at == Some(step) {
            return Verdict::Crash;
        }
        let by_number = self.fail_at.get(&step);
        let by_sync = self.fail_syncs.get(&sync).filter(|_| call.syncs_contents());
        if let Some(&fault) = by_number.or(by_sync) {
            return Verdict::Fail(fault);
        }
        // A generator of its own: whether a step fails does not depend on what it draws.
        let mut random = Random::new(self.seed ^ step.rotate_left(32));
        match self.one_in {
            Some(one_in) if random.one_in(one_in) => {
                Verdict::Fail(if random.one_in(2) { Fault::Full } else { Fault::Io })
            }
            _ => Verdict::Go,
        }
    }

    /// The random numbers of a step.
    pub(super) fn random(&self, step: u64) -> Random {
        Random::new(Random::new(self.seed).next() ^ step)
    }

    /// Decides whether sectors are written back before a step.
    pub(super) fn writes_back(&self, random: &mut Random) -> bool {
        self.early_one_in.is_some_and(|one_in| random.one_in(one_in))
    }

    /// Says whether there is room for so many bytes.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.capacity.is_none_or(|capacity| bytes <= capacity)
    }

    /// The seed of what new files hold, if that is not zeros.
    pub(super) fn stale_seed(&self) -> Option<u64> {
        self.stale
    }
}

impl Survivors {
    /// Decides about each of `choices` choices.
    pub(super) fn choose(self, choices: usize) -> Vec<bool> {
        let mut random = match self {
            Self::Seed(seed) => Random::new(seed),
            _ => Random::new(0),
        };
        // Seven in eight, one in two, one in eight: a crash that keeps all but one sector is as telling as one that
        // keeps one.
        let (keep, of) = [(7, 8), (1, 2), (1, 2), (1, 8)][random.below(4)];
        let survives = |choice: usize| match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Seed(_) => random.below(of) < keep,
            Self::Mask(mask) => choice < 64 && mask >> choice & 1 == 1,
        };
        (0..choices).map(survives).collect()
    }
}

impl Call {
    /// What messages call it.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Read => "read",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Sync | Self::SyncFile | Self::SyncDirectory => "sync",
        }
    }

    pub(super) fn syncs_contents(self) -> bool {
        matches!(self, Self::Sync | Self::SyncFile)
    }

    /// Whether the device may be too full for it.
    fn needs_room(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Sync | Self::SyncFile)
    }
}

impl Fault {
    /// The error of a call on `path` that fails so.
    pub(super) fn error(self, call: Call, path: &str) -> Error {
        let (operation, path) = (call.operation(), path.to_owned());
        match self {
            Self::Full if call.needs_room() => Error::DiskFull { operation, path },
            Self::Io | Self::Full => Error::Io {
                operation,
                path,
                source: io::Error::other("the device reports an error"),
            },
        }
    }
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}
