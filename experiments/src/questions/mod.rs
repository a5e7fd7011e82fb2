//! `experiments question NAME`: one file per question about the design, each opening with the question, a hypothesis,
//! the method, what threatens it, and the command.
//!
//! | file | asks |
//! |---|---|
//! | [`index`] | what a get, a put, a scan and a transaction cost beside indexes and engines that others publish |
//! | [`reclamation`] | what each collector costs, and what a thread that stalls while pinned holds back |
//! | [`long_reader`] | whether chains stay short while one snapshot is held for ever |
//! | [`log_storage`] | what mapped segments cost and save beside written ones, and what group commit brings |
//! | [`recovery`] | how long opening takes by the length of the log, with and without a checkpoint |
//!
//! Under them: [`contenders`] and [`combinations`] are what is compared, [`bed`] and [`drive`] measure and check a
//! slice, [`comparison`] makes tables of samples, [`timeline`] watches a store over time, [`targets`] judges, [`answer`] is what comes out, and [`command`] is
//! the command line.
//!
//! Targets are aims: they say what the engine is built to reach and never alter the exit status. Claims do: a question
//! fails when a claim does, or when the engine loses an update or reads what nobody wrote.
#![deny(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use self::answer::Answer;
use self::contenders::Operation;
use crate::engines::EngineError;
use crate::gates::bed::NEIGHBOUR_KEYS;
use crate::harness::rounds::Round;
use crate::harness::threads::Plan;
use crate::report::progress::Progress;

pub mod answer;
pub mod bed;
pub mod combinations;
pub mod command;
pub mod comparison;
pub mod contenders;
pub mod drive;
pub mod index;
pub mod log_storage;
pub mod long_reader;
pub mod reclamation;
pub mod recovery;
pub mod targets;
pub mod timeline;

/// One question: its name on the command line, and who answers it.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The name.
    pub name: &'static str,
    /// What it asks, in a line.
    pub asks: &'static str,
    /// Sides that can be chosen in this build.
    pub sides: fn() -> Vec<&'static str>,
    /// Store sizes unless others are asked for: full and quick.
    pub keys: [&'static [usize]; 2],
    /// Thread counts unless others are asked for.
    pub threads: &'static [usize],
    /// Whether it compares in rounds, so that `--rounds` means something.
    pub has_rounds: bool,
    /// Whether it keeps databases on a disk, so that `--dir` means something.
    pub has_disk: bool,
    /// Measures.
    pub answer: fn(&Options) -> Result<Answer, EngineError>,
}

/// Every question, in the order of `experiments list`.
pub const QUESTIONS: &[Question] = &[
    Question {
        name: "index",
        asks: "what a get, a put, an insert, a scan and a transaction cost beside published indexes and engines",
        sides: index::sides,
        keys: [&[100_000, 1_000_000], &[100_000]],
        threads: &[1, 2],
        has_rounds: true,
        has_disk: false,
        answer: index::answer,
    },
    Question {
        name: "reclamation",
        asks: "what each collector costs, and what a thread that stalls while pinned holds back",
        sides: reclamation::sides,
        keys: [&[100_000], &[10_000]],
        threads: &[1, 2],
        has_rounds: true,
        has_disk: false,
        answer: reclamation::answer,
    },
    Question {
        name: "long-reader",
        asks: "whether version chains stay short while one snapshot is held for ever",
        sides: long_reader::sides,
        keys: [&[100_000], &[10_000]],
        threads: &[1, 2],
        has_rounds: false,
        has_disk: false,
        answer: long_reader::answer,
    },
    Question {
        name: "log-storage",
        asks: "what mapped segments cost and save beside written ones and the bare device, and what group commit brings",
        sides: log_storage::sides,
        keys: [&[100_000], &[10_000]],
        threads: &[1, 2, 4, 16],
        has_rounds: true,
        has_disk: true,
        answer: log_storage::answer,
    },
    Question {
        name: "recovery",
        asks: "how long opening takes by the length of the log, with and without a checkpoint, beside reading the bytes",
        sides: recovery::sides,
        keys: [&[500_000, 5_000_000], &[50_000, 500_000]],
        threads: &[1],
        has_rounds: true,
        has_disk: true,
        answer: recovery::answer,
    },
];

/// How much is measured. Fixed before the run, and never changed by what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds of every comparison.
    pub rounds: usize,
    /// Length of one slice.
    pub slice: Duration,
    /// Length of one slice of what waits for a device in every operation.
    pub waiting_slice: Duration,
    /// Warm-up before each slice.
    pub warm_up: Duration,
    /// Length of one stage in which a store is watched over time.
    pub stage: Duration,
    /// From one look at a watched store to the next.
    pub look_every: Duration,
    /// How often every key is overwritten while a store is watched.
    pub overwrites: u64,
}

impl Effort {
    /// What a result is made with.
    pub const FULL: Self = Self {
        rounds: 11,
        slice: Duration::from_millis(150),
        waiting_slice: Duration::from_millis(300),
        warm_up: Duration::from_millis(30),
        stage: Duration::from_secs(5),
        look_every: Duration::from_millis(50),
        overwrites: 100,
    };

    /// A first impression in minutes.
    pub const QUICK: Self = Self {
        rounds: 7,
        slice: Duration::from_millis(40),
        waiting_slice: Duration::from_millis(80),
        warm_up: Duration::from_millis(10),
        stage: Duration::from_secs(1),
        look_every: Duration::from_millis(10),
        overwrites: 100,
    };

    /// Milliseconds, for tests of the program itself; its figures mean nothing.
    pub const TINY: Self = Self {
        rounds: 6,
        slice: Duration::from_millis(1),
        waiting_slice: Duration::from_millis(2),
        warm_up: Duration::from_micros(200),
        stage: Duration::from_millis(60),
        look_every: Duration::from_millis(2),
        overwrites: 50,
    };

    /// The plan of one slice on a store of `keys` keys.
    #[must_use]
    pub fn plan(&self, round: Round, keys: usize) -> Plan {
        Plan::timed(self.slice)
            .warm_up(self.warm_up)
            .rotation(round.index)
            .busy_neighbours(Self::neighbour_keys(keys))
    }

    /// Returns how many keys the private tables have that keep idle processors busy.
    #[must_use]
    pub fn neighbour_keys(keys: usize) -> usize {
        keys.min(NEIGHBOUR_KEYS)
    }
}

/// What a question is asked with.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much is measured.
    pub effort: Effort,
    /// Store sizes, each at least as large as the most threads.
    pub keys: Vec<usize>,
    /// Thread counts, ascending; one among them always.
    pub threads: Vec<usize>,
    /// Sides, by name; empty for all.
    pub only: Vec<String>,
    /// Where databases are kept while they are measured; `None` for the system's temporary directory.
    pub dir: Option<PathBuf>,
    /// Seed of everything random.
    pub seed: u64,
    /// Processors that this process may use.
    pub processors: usize,
    /// How progress is told.
    pub progress: Progress,
}

impl Options {
    /// The seed, unless another is asked for.
    pub const SEED: u64 = 20_240_917;

    /// Says whether a side is asked for.
    #[must_use]
    pub fn wants(&self, side: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == side)
    }

    /// Returns where databases are kept while they are measured.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Returns the thread counts that the machine has processors for.
    #[must_use]
    pub fn measured_threads(&self) -> Vec<usize> {
        let possible = |threads: &usize| *threads <= self.processors;
        self.threads.iter().copied().filter(possible).collect()
    }

    /// Says why a thread count has no figure, if it has none.
    #[must_use]
    pub fn unmeasured(&self, threads: usize) -> Option<String> {
        if !self.threads.contains(&threads) {
            Some(format!("{threads} threads were left out by --threads"))
        } else if threads > self.processors {
            Some(crate::gates::hot_path::too_few(threads, self.processors))
        } else {
            None
        }
    }
}

/// One side of a comparison at one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// Keys in the store.
    pub keys: usize,
    /// What is done.
    pub operation: Operation,
    /// By how many threads.
    pub threads: usize,
    /// By which side.
    pub engine: &'static str,
}

impl Task {
    /// A number that no other task of the same side has.
    fn tag(self) -> u64 {
        (self.operation as u64) << 56 | (self.threads as u64) << 40 | self.keys as u64
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}t", self.engine, self.operation, self.threads)
    }
}
