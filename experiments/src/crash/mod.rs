//! `experiments crash`: what does a crash leave, and is it what was promised?
//!
//! Method: a workload that is made from a seed runs on a simulated disk until the power fails at some step of it. Of what
//! was not durable then any part survives: sectors of 512 bytes, old, new or in between, and changes of names. The store
//! is opened on what is left, and a judge who knows all operations and all acknowledgements looks for a moment whose
//! state it is. Everything follows from the seed, in lives with one thread also the step. Which lives, which crashes and
//! which checks there are: `campaign.rs`; what counts as right: `oracle.rs`; what the disk may do: the engine's
//! `storage/sim.rs`.
//!
//! ```text
//! experiments crash [--seeds N] [--from SEED] [--steps all|random] [--threads T] [--keys K] [--ops N] [--quick | --long]
//! ```
//!
//! Exit status: 0 if nothing was found, 1 if a defect was, 3 on bad input. The last line of the output says it all.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod life;
pub mod oracle;
pub mod subject;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;
pub mod workload;

use std::io::{IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};

use crate::report::progress::Progress;

use self::campaign::{Campaign, Effort, Failure, MAX_FAILURES, Steps, Totals};
use self::subject::{Subject, Unlatched};

/// Most threads of a life: far beyond any use, so that a slip of the hand does not exhaust the machine.
pub const MAX_THREADS: usize = 64;

/// How long one life with all that is tried after it may take; a store that takes longer waits for something that will
/// not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Crashes the engine at every step, and checks what it leaves.
#[derive(Clone, Debug, clap::Args)]
pub struct CrashArgs {
    /// Seeds to try; 20 unless said otherwise, 3 with --quick, 1000 with --long.
    #[arg(long, value_name = "N")]
    pub seeds: Option<u64>,

    /// The first seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub from: u64,

    /// Steps at which the life of a single thread is ended: all, or random ones; random with --quick, else all.
    #[arg(long, value_name = "WHICH")]
    pub steps: Option<String>,

    /// Threads of the lives with several; 1 leaves these out.
    #[arg(long, value_name = "T", default_value_t = 3)]
    pub threads: usize,

    /// Keys.
    #[arg(long, value_name = "K", default_value_t = 6)]
    pub keys: usize,

    /// Operations of each thread.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub ops: usize,

    /// Few seeds and few crashes of each: some seconds.
    #[arg(long, conflicts_with = "long")]
    pub quick: bool,

    /// Many seeds and more crashes of each: hours.
    #[arg(long)]
    pub long: bool,
}

/// Why a campaign did not begin or could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrashError {
    /// No such choice of steps.
    #[error("unknown steps \"{0}\"; give --steps all or random")]
    UnknownSteps(String),
    /// A number that cannot be.
    #[error("--{option} {value} makes no sense; give a number from {least} to {most}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// What was given.
        value: u64,
        /// The least that is possible.
        least: u64,
        /// The most that is possible.
        most: u64,
    },
    /// The result can't be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
}

/// What a campaign is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The first seed.
    pub from: u64,
    /// How many seeds.
    pub seeds: u64,
    /// How much of each.
    pub effort: Effort,
}

impl CrashArgs {
    /// Judges the arguments.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with them.
    pub fn task(&self) -> Result<Task, CrashError> {
        let in_range = |option, value: usize, least: u64, most: u64| match value as u64 {
            value if (least..=most).contains(&value) => Ok(value as usize),
            value => Err(CrashError::OutOfRange {
                option,
                value,
                least,
                most,
            }),
        };
        let by_size = |quick, usual, long| match (self.quick, self.long) {
            (true, _) => quick,
            (_, true) => long,
            _ => usual,
        };
        let some = Steps::Random(by_size(12, 30, 60));
        let steps = match self.steps.as_deref() {
            Some("all") => Steps::All,
            Some("random") => some,
            Some(other) => return Err(CrashError::UnknownSteps(other.to_owned())),
            None if self.quick => some,
            None => Steps::All,
        };
        let seeds = self.seeds.unwrap_or(by_size(3, 20, 1_000) as u64);
        let most = u64::MAX - self.from;
        if !(1..=most).contains(&seeds) {
            return Err(CrashError::OutOfRange {
                option: "seeds",
                value: seeds,
                least: 1,
                most,
            });
        }
        Ok(Task {
            from: self.from,
            seeds,
            effort: Effort {
                steps,
                lives: by_size(2, 4, 8),
                survivors: by_size(2, 3, 6),
                cut_openings: by_size(1, 1, 3),
                threads: in_range("threads", self.threads, 1, MAX_THREADS as u64)?,
                keys: in_range("keys", self.keys, 1, 1_000_000)?,
                operations: in_range("ops", self.ops, 1, 1_000_000)?,
            },
        })
    }
}

/// Runs the command; results go to standard output, errors to standard error.
#[must_use]
pub fn run(args: &CrashArgs) -> ExitCode {
    let outcome = args.task().and_then(|task| {
        let progress = match std::io::stderr().is_terminal() {
            true => Progress::Bars,
            false => Progress::Silent,
        };
        let totals = campaign::<Unlatched>(&task, progress);
        report(&task, &totals, &mut std::io::stdout().lock())?;
        Ok(totals)
    });
    match outcome {
        Ok(totals) if totals.failures.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(3)
        }
    }
}

/// Tries all seeds, or those up to the one at which failures are enough.
pub fn campaign<S: Subject>(task: &Task, progress: Progress) -> Totals {
    let stage = progress.stage("crash", usize::try_from(task.seeds).unwrap_or(usize::MAX));
    let watch = Watch::start(PATIENCE);
    let mut totals = Totals::default();
    for seed in task.from..task.from + task.seeds {
        stage.step(&format!("seed {seed}, {} crashes", totals.crashes));
        Campaign::<S>::run(seed, task.effort, &mut totals, &mut |place| watch.note(seed, place));
        if totals.failures.len() >= MAX_FAILURES {
            break;
        }
    }
    stage.finish();
    totals
}

/// Writes what was tried and found.
///
/// # Errors
///
/// Returns what the writer returned.
pub fn report(task: &Task, totals: &Totals, out: &mut dyn Write) -> Result<(), CrashError> {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(["what", "how many"]);
    for (what, count) in [
        ("lives", totals.lives),
        ("operations acknowledged in them", totals.acknowledged),
        ("operations failed in them", totals.failed),
        ("crash points", totals.crash_points),
        ("disks left by crashes", totals.crashes),
        ("of them torn", totals.torn),
        ("unsynced sectors that survived", totals.kept_sectors),
        ("unsynced sectors that were lost", totals.lost_sectors),
        ("sectors written back early", totals.early_sectors),
        ("unsynced names that survived", totals.kept_names),
        ("unsynced names that were lost", totals.lost_names),
        ("calls made to fail", totals.faults),
        ("openings", totals.openings),
        ("openings cut off or made to fail", totals.cut_openings),
        ("most acknowledged commits lost at once", totals.most_lost as u64),
    ] {
        table.add_row([what.to_owned(), count.to_string()]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{table}\n")?;
    for Failure { seed, place, what } in &totals.failures {
        writeln!(out, "seed {seed}, {place}: {what}")?;
    }
    if let Some(first) = totals.failures.first() {
        let Effort {
            threads,
            keys,
            operations,
            ..
        } = task.effort;
        writeln!(
            out,
            "again: experiments crash --from {} --seeds 1 --threads {threads} --keys {keys} --ops {operations}\n",
            first.seed
        )?;
    }
    writeln!(
        out,
        "{}: {} failures in {} crashes at {} crash points, seeds {} to {}",
        if totals.failures.is_empty() { "ok" } else { "FAILED" },
        totals.failures.len(),
        totals.crashes,
        totals.crash_points,
        task.from,
        task.from + task.seeds - 1,
    )?;
    Ok(())
}

/// Ends the program if one place takes too long: a store that hangs returns to nobody who could say so.
struct Watch {
    at: Arc<Mutex<(Instant, String)>>,
    /// Dropped with the watch, which ends its thread.
    _end: mpsc::Sender<()>,
}

impl Watch {
    fn start(patience: Duration) -> Self {
        let at = Arc::new(Mutex::new((Instant::now(), String::new())));
        let (end, ended) = mpsc::channel::<()>();
        let watched = Arc::clone(&at);
        std::thread::spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let (since, place) = &*watched.lock().unwrap_or_else(PoisonError::into_inner);
                if since.elapsed() > patience {
                    println!("{place}: not over after {} s", patience.as_secs());
                    println!("FAILED: the store hangs");
                    std::process::exit(1);
                }
            }
        });
        Self { at, _end: end }
    }

    fn note(&self, seed: u64, place: &str) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = (Instant::now(), format!("seed {seed}, {place}"));
    }
}
