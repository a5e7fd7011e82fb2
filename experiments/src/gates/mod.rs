//! `experiments gates`: the checklist, measured and filled in.
//!
//! Question: does the engine keep every line of the checklist on this machine, and where do the engines beside it
//! stand? Method: [`table`] lists the lines; [`layers`] and [`scaling`] open all engines and run the sides of each
//! comparison interleaved ([`campaign`] over [`bed`]s); one file per gate draws its figures from those samples and
//! writes them into the [`sheet`], which draws the verdicts.
//! Command: `cargo run --release -p experiments -- gates --quick`.
//!
//! What is measured follows from the lines that are asked for: a comparison that no selected line looks at is not run.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::disk::medium::Medium;
use crate::engines::EngineError;
use crate::engines::durable::Durable;
use crate::gates::durability::kept::Trials;
use crate::gates::sheet::{Outcome, Selection, Sheet};
use crate::gates::table::{K1, K100, M1};
use crate::harness::clock::TickClock;
use crate::harness::environment::{Environment, available_processors};
use crate::report::markdown::Section;
use crate::report::progress::Progress;

pub mod bed;
pub mod campaign;
pub mod command;
pub mod counted;
pub mod durability;
pub mod facade_tax;
pub mod hot_path;
pub mod infrastructure;
pub mod layers;
pub mod memory;
pub mod pool;
pub mod quiet;
pub mod red_flags;
pub mod scaling;
pub mod sheet;
pub mod table;

/// How much is measured. Fixed before the run, and never changed by what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds of every comparison.
    pub rounds: usize,
    /// Rounds of the comparisons on other store sizes, which are shown beside.
    pub shown_rounds: usize,
    /// Length of one slice.
    pub slice: Duration,
    /// Warm-up before each slice.
    pub warm_up: Duration,
    /// Length of one slice of what waits for the device in every operation.
    pub strict_slice: Duration,
    /// How much is written before crashes and shutdowns.
    pub trials: Trials,
    /// Operations of each thread over which allocations are counted, after as many of warm-up.
    pub counted_operations: u64,
    /// Increments of each thread that prove that one key loses no update, per round.
    pub counted_increments: u64,
    /// Keys that stand for 1 k, 100 k and 1 M; tests of the harness itself use fewer.
    pub keys: [usize; 3],
    /// Whether the comparisons on 1 M keys include the baselines.
    pub baselines_on_1m: bool,
    /// Whether the API documents are built.
    pub build_documents: bool,
}

impl Effort {
    /// The whole checklist, some minutes.
    pub const FULL: Self = Self {
        rounds: 15,
        shown_rounds: 9,
        slice: Duration::from_millis(200),
        warm_up: Duration::from_millis(40),
        strict_slice: Duration::from_millis(300),
        trials: Trials {
            lives: 200,
            strict_writes: 1_000,
            writes: 200_000,
        },
        counted_operations: 1_000_000,
        counted_increments: 500,
        keys: [K1 as usize, K100 as usize, M1 as usize],
        baselines_on_1m: true,
        build_documents: true,
    };

    /// The whole checklist in less than three minutes on two processors.
    pub const QUICK: Self = Self {
        rounds: 13,
        shown_rounds: 7,
        slice: Duration::from_millis(40),
        warm_up: Duration::from_millis(10),
        strict_slice: Duration::from_millis(100),
        trials: Trials {
            lives: 40,
            strict_writes: 200,
            writes: 50_000,
        },
        counted_operations: 100_000,
        counted_increments: 200,
        baselines_on_1m: false,
        build_documents: false,
        ..Self::FULL
    };

    /// Seconds, for tests of the harness itself; its figures mean nothing.
    pub const TINY: Self = Self {
        rounds: 6,
        shown_rounds: 6,
        slice: Duration::from_millis(2),
        warm_up: Duration::from_millis(1),
        strict_slice: Duration::from_millis(5),
        trials: Trials {
            lives: 8,
            strict_writes: 300,
            writes: 2_000,
        },
        counted_operations: 1_000,
        counted_increments: 20,
        keys: [64, 256, 512],
        baselines_on_1m: false,
        build_documents: false,
    };

    /// Returns the keys that stand for a size of the table.
    #[must_use]
    pub fn keys_for(&self, size: u64) -> usize {
        match size {
            K1 => self.keys[0],
            M1 => self.keys[2],
            _ => self.keys[1],
        }
    }
}

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much is measured.
    pub effort: Effort,
    /// Which lines.
    pub selection: Selection,
    /// Thread counts of the scaling comparisons, one among them always.
    pub threads: Vec<usize>,
    /// Where databases are kept while they are measured; `None` for the system's temporary directory.
    pub dir: Option<PathBuf>,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether anything is timed or weighed; a debug build should not.
    pub timed: bool,
    /// Whether the result is written to files with the machine beside it.
    pub recorded: bool,
    /// How progress is told.
    pub progress: Progress,
}

impl Options {
    /// The thread counts of the checklist.
    pub const THREADS: [usize; 5] = [1, 2, 4, 8, 16];

    /// The seed, unless another is asked for.
    pub const SEED: u64 = 20_240_917;

    /// Everything, with this effort, silently.
    #[must_use]
    pub fn new(effort: Effort) -> Self {
        Self {
            effort,
            selection: Selection::default(),
            threads: Self::THREADS.to_vec(),
            dir: None,
            seed: Self::SEED,
            timed: !cfg!(debug_assertions),
            recorded: false,
            progress: Progress::Silent,
        }
    }

    /// Returns where databases are kept while they are measured.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// What a run gave.
#[derive(Debug)]
pub struct Report {
    /// The checklist, filled in.
    pub outcomes: Vec<Outcome>,
    /// What has no line of its own.
    pub sections: Vec<Section>,
    /// Distributions of single operations, by file name.
    pub histograms: Vec<(String, Histogram<u64>)>,
    /// The machine, before the run.
    pub environment: Environment,
    /// The seed of the run.
    pub seed: u64,
}

/// What every measuring function works with.
#[derive(Debug)]
pub struct Context {
    /// What was asked for.
    pub options: Options,
    /// Processors that this process may use.
    pub processors: usize,
    /// The clock that single operations are timed with.
    pub clock: TickClock,
    /// Where figures go.
    pub sheet: Sheet,
    /// Sections of the report.
    pub sections: Vec<Section>,
    /// Distributions, by file name.
    pub histograms: Vec<(String, Histogram<u64>)>,
    /// Slices taken, and those whose threads were all bound to a processor.
    pub pinned: (usize, usize),
}

impl Context {
    /// What a run with these options begins with.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            processors: available_processors(),
            clock: TickClock::new(),
            sheet: Sheet::new(options.selection.clone()),
            sections: Vec::new(),
            histograms: Vec::new(),
            pinned: (0, 0),
            options,
        }
    }

    /// Adds what a campaign found out about pinning.
    pub fn note_pinning(&mut self, campaign: &campaign::Campaign) {
        let (all, pinned) = campaign.pinned();
        self.pinned = (self.pinned.0 + all, self.pinned.1 + pinned);
    }
}

/// Measures the selected lines for the engine `S`, with the other engines beside it.
///
/// # Errors
///
/// Returns what an engine refused while it was opened or loaded. What goes wrong later makes figures invalid.
pub fn run<S: Durable>(options: Options) -> Result<Report, EngineError> {
    let mut environment = Environment::capture(None);
    environment.disk = Medium::of(&options.directory());
    let mut context = Context::new(options);
    infrastructure::untimed(&mut context, &environment);
    durability::untimed::<S>(&mut context);
    counted::measure::<S>(&mut context)?;
    if context.options.timed {
        memory::measure::<S>(&mut context);
        pool::measure::<S>(&mut context)?;
        durability::measure::<S>(&mut context)?;
        layers::measure::<S>(&mut context)?;
        scaling::measure::<S>(&mut context)?;
    } else {
        untimed_rest(&mut context);
    }
    if context.pinned.0 > 0 {
        let (all, pinned) = context.pinned;
        environment.pinning = Some(format!(
            "{pinned} of {all} slices had every thread on its own processor"
        ));
    }
    Ok(Report {
        outcomes: context.sheet.outcomes(),
        sections: context.sections,
        histograms: context.histograms,
        environment,
        seed: context.options.seed,
    })
}

/// Says of every line that is still open that this build does not measure it.
fn untimed_rest(context: &mut Context) {
    for entry in table::ENTRIES {
        if context.sheet.figure(entry.measure()).is_none() {
            let reason = "a debug build times and weighs nothing; use --release";
            context
                .sheet
                .record(entry.measure(), sheet::Figure::not_measurable(reason));
        }
    }
}
