//! `experiments gates` on the command line: its flags, its files, its exit status.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::disk::directory::TemporaryDirectory;
use crate::engines::EngineError;
use crate::engines::unlatched::Unlatched;
use crate::gates::sheet::{Selection, exit_status};
use crate::gates::table::GATES;
use crate::gates::{Effort, Options, Report, run};
use crate::harness::environment::{Environment, repository_root};
use crate::report::progress::Progress;
use crate::report::{checklist, json, markdown, percentiles};

/// Exit status for bad input and wrong usage.
pub const BAD_INPUT: u8 = 3;

/// Most threads that may be asked for; more is a slip of the finger.
const MOST_THREADS: usize = 1_024;

/// Columns of the printed table where no terminal gives a width.
const PIPED_WIDTH: u16 = 160;

/// Measures the checklist and prints it filled in.
///
/// Every gate, red flag and aim of docs/gates.md is measured for the engine, with the locked and sharded baselines and
/// the bare structures beside it in the same run, and judged: pass, fail, inconclusive, not measurable here, not
/// built, or invalid. The result is printed and written to files.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit status: 0 all held, 1 a gate failed or a red flag rose, 2 something was invalid or inconclusive, 3 wrong usage.

Files in DIR: gates.json (for programs), gates.md (to read), environment.json (the machine), *.hgrm (latency
percentiles for HdrHistogram's plotters).

Examples:
  experiments gates --quick              the whole checklist in less than three minutes
  experiments gates --only 3 --threads 1,2,4,8
  experiments gates --only 1 --dir /mnt/disk           durability, on the disk that is meant
  experiments gates --only 2,4 --seed 7 --out result")]
pub struct GatesArgs {
    /// Shorter slices and fewer rounds: less than three minutes in all on two processors
    #[arg(long)]
    pub quick: bool,

    /// Only these gates, by number
    #[arg(long, value_name = "GATES", value_delimiter = ',', value_parser = parse_gate)]
    pub only: Vec<String>,

    /// Thread counts for scaling; 1 is always among them [default: 1,2,4,8,16 as far as there are processors]
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', value_parser = parse_threads)]
    pub threads: Vec<usize>,

    /// Seed of keys, orders and resampling; it is written into the result
    #[arg(long, default_value_t = Options::SEED)]
    pub seed: u64,

    /// Folder for the result [default: experiments/results/DATE-CPU-CORES]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Folder in which databases are kept while they are measured, on the disk that is meant; what is put there is
    /// removed [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What keeps the command from giving a result.
#[derive(Debug, thiserror::Error)]
pub enum GatesError {
    /// The folder for the result can't be written.
    #[error("can't write the result to {}: {cause}; choose another folder with --out", folder.display())]
    Output {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The folder for databases can't be written.
    #[error("can't keep databases in {}: {cause}; choose another folder with --dir", folder.display())]
    Databases {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// An engine refused to be opened or loaded.
    #[error("an engine could not be prepared: {0}")]
    Engine(#[from] EngineError),
    /// The result can't be written as JSON.
    #[error("the result can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl GatesError {
    /// Returns the exit status: a folder that can't be written is bad input, the rest are defects.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Output { .. } | Self::Databases { .. } => BAD_INPUT,
            Self::Engine(_) | Self::Json(_) => 1,
        }
    }
}

fn parse_gate(text: &str) -> Result<String, String> {
    let gate = text.trim();
    if GATES.contains(&gate) {
        Ok(gate.to_owned())
    } else {
        Err(format!("unknown gate \"{gate}\"; the gates are 1, 2, 3, 4 and 5"))
    }
}

/// Reads a thread count, with advice where it is none.
pub(crate) fn parse_threads(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(0) => Err("zero threads do nothing; give counts from 1 up, such as 1,2,4".to_owned()),
        Ok(threads) if threads > MOST_THREADS => Err(format!("at most {MOST_THREADS} threads can be asked for")),
        Ok(threads) => Ok(threads),
        Err(_) => Err(format!("\"{text}\" is no thread count; give numbers, such as 1,2,4")),
    }
}

impl GatesArgs {
    /// Returns what the flags ask for.
    #[must_use]
    pub fn options(&self, progress: Progress) -> Options {
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        let mut options = Options::new(effort);
        options.selection = Selection {
            gates: self.only.clone(),
            red_flags_only: false,
        };
        if !self.threads.is_empty() {
            options.threads.clone_from(&self.threads);
        }
        options.dir.clone_from(&self.dir);
        options.seed = self.seed;
        options.recorded = true;
        options.progress = progress;
        options
    }

    /// Returns the command as it stands in the result, without the folder.
    #[must_use]
    pub fn command_line(&self) -> String {
        let mut line = String::from("experiments gates");
        if self.quick {
            line.push_str(" --quick");
        }
        if !self.only.is_empty() {
            line.push_str(&format!(" --only {}", self.only.join(",")));
        }
        if !self.threads.is_empty() {
            let counts: Vec<String> = self.threads.iter().map(usize::to_string).collect();
            line.push_str(&format!(" --threads {}", counts.join(",")));
        }
        line.push_str(&format!(" --seed {}", self.seed));
        line
    }

    fn folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let experiments =
                repository_root().map_or_else(|| PathBuf::from("experiments"), |root| root.join("experiments"));
            experiments
                .join("results")
                .join(Environment::capture(None).folder_name())
        })
    }
}

/// Measures, prints, writes, and returns the exit status.
///
/// # Errors
///
/// Returns [`GatesError`] if there is no result, or nowhere to write it.
pub fn main(arguments: &GatesArgs) -> Result<u8, GatesError> {
    let folder = arguments.folder();
    // Before minutes of measuring, not after.
    prepare(&folder).map_err(|cause| GatesError::Output {
        folder: folder.clone(),
        cause,
    })?;
    let progress = Progress::detect();
    let options = arguments.options(progress);
    let databases = options.directory();
    TemporaryDirectory::under(&databases).map_err(|cause| GatesError::Databases {
        folder: databases,
        cause,
    })?;
    if cfg!(debug_assertions) {
        progress.say("This is a debug build: nothing is timed. Build with --release for the checklist.");
    }
    let report = run::<Unlatched>(options)?;
    write(&report, &folder, &arguments.command_line())?;
    print(&report, &folder);
    Ok(exit_status(&report.outcomes))
}

/// Makes a folder and finds out whether files can be written into it.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // A folder can exist and refuse files.
    let probe = folder.join(".writable");
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

/// Writes all files of a result.
///
/// # Errors
///
/// Returns [`GatesError::Output`] if a file can't be written.
pub fn write(report: &Report, folder: &Path, command: &str) -> Result<(), GatesError> {
    let mut files = vec![
        (
            "gates.json".to_owned(),
            json::render(&report.outcomes, &report.environment, report.seed)?,
        ),
        (
            "gates.md".to_owned(),
            markdown::render(
                &report.outcomes,
                &report.sections,
                &report.environment,
                report.seed,
                command,
            ),
        ),
        (
            "environment.json".to_owned(),
            serde_json::to_string_pretty(&report.environment)? + "\n",
        ),
    ];
    files.extend(
        report
            .histograms
            .iter()
            .map(|(name, latency)| (name.clone(), percentiles::render(latency))),
    );
    for (name, text) in files {
        fs::write(folder.join(name), text).map_err(|cause| GatesError::Output {
            folder: folder.to_path_buf(),
            cause,
        })?;
    }
    Ok(())
}

fn print(report: &Report, folder: &Path) {
    let width = comfy_table::Table::new().width().unwrap_or(PIPED_WIDTH);
    let mut text: String = report
        .sections
        .iter()
        .map(|section| checklist::section(section, Some(width)))
        .collect();
    text.push_str(&checklist::render(&report.outcomes, Some(width)));
    let here = std::env::current_dir().unwrap_or_default();
    let shown = folder.strip_prefix(&here).unwrap_or(folder);
    // A closed pipe is the reader's choice, not a failure of the measurement.
    let _closed = writeln!(io::stdout().lock(), "{text}written to {}", shown.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked_with_advice() {
        assert_eq!(parse_gate(" 2"), Ok("2".to_owned()));
        assert!(
            parse_gate("6")
                .expect_err("there are five")
                .contains("1, 2, 3, 4 and 5")
        );
        assert_eq!(parse_threads("16"), Ok(16));
        for bad in ["0", "-1", "two", "", "4000"] {
            assert!(parse_threads(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn recorded_command_holds_no_path() {
        let arguments = GatesArgs {
            quick: true,
            only: vec!["2".to_owned(), "4".to_owned()],
            threads: vec![1, 2],
            seed: 7,
            out: Some(PathBuf::from("/secret/place")),
            dir: Some(PathBuf::from("/secret/disk")),
        };
        assert_eq!(
            arguments.command_line(),
            "experiments gates --quick --only 2,4 --threads 1,2 --seed 7"
        );
        assert_eq!(arguments.options(Progress::Silent).effort, Effort::QUICK);
    }
}
