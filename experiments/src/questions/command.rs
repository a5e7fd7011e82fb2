//! `experiments question` on the command line: its flags, its files, its exit status.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::answer::{Answer, Origin};
use super::index::PEERS;
use super::targets::exit_status;
use super::{Effort, Options, QUESTIONS, Question};
use crate::disk::directory::TemporaryDirectory;
use crate::engines::EngineError;
use crate::gates::command::{BAD_INPUT, parse_threads, prepare};
use crate::harness::environment::available_processors;
use crate::report::progress::Progress;

/// Fewest rounds that may be asked for.
const FEWEST_ROUNDS: usize = 1;

/// Most keys that may be asked for; more would not fit into most machines.
const MOST_KEYS: usize = 100_000_000;

/// Asks a question about the design and measures the answer.
///
/// All sides of a comparison run in turn, round by round; the tables give medians of the rounds, and ratios formed
/// within each round with their 95 % bootstrap intervals. Every side is checked: one that loses an update, or reads what
/// nobody wrote, has no figures.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Exit status: 0 all held (targets that are missed included), 1 a claim failed or this engine lost an update, 2 something
was invalid or inconclusive, 3 wrong usage.

Files in DIR: NAME.json (for programs), NAME.csv (a line per sample), NAME.md (to read), and what the question adds
(time series as CSV, plots as SVG).

Examples:
  experiments question index --quick
  experiments question index --only unlatched,crossbeam,m3 --keys 100k --threads 1,2 --out result
  experiments question reclamation --out result
  experiments question log-storage --quick --dir /mnt/disk
  experiments list                       every question, and the sides that --only takes")]
pub struct QuestionArgs {
    /// The question; `experiments list` shows them all
    #[arg(value_name = "NAME", value_parser = parse_question)]
    pub name: &'static str,

    /// Shorter slices, fewer rounds and smaller stores: minutes instead of half an hour
    #[arg(long)]
    pub quick: bool,

    /// Seed of keys, orders and resampling; it is written into the result
    #[arg(long, default_value_t = Options::SEED)]
    pub seed: u64,

    /// Folder for the result [default: the tables are printed and nothing is written]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Rounds of every comparison; with fewer than 6 every verdict is inconclusive [default: 11, quick 7]
    #[arg(long, value_name = "N", value_parser = parse_rounds)]
    pub rounds: Option<usize>,

    /// Keys in the store, such as 100k,1M [default: as the question says]
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', value_parser = parse_keys)]
    pub keys: Vec<usize>,

    /// Thread counts; 1 is always among them [default: as the question says]
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', value_parser = parse_threads)]
    pub threads: Vec<usize>,

    /// Folder in which databases are kept while they are measured, on the disk that is meant; what is put there is
    /// removed [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Only these sides, by name
    #[arg(long, value_name = "SIDES", value_delimiter = ',')]
    pub only: Vec<String>,
}

/// What keeps the command from giving an answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// A side that this question, or this build, does not have.
    #[error("{0}")]
    Side(String),
    /// Rounds where there are none.
    #[error("{question} watches one run of each side and has no rounds; leave out --rounds")]
    NoRounds {
        /// The question.
        question: &'static str,
    },
    /// A folder for databases where there are none.
    #[error("{question} keeps no database on a disk; leave out --dir")]
    NoDisk {
        /// The question.
        question: &'static str,
    },
    /// The folder for databases can't be written.
    #[error("can't keep databases in {}: {cause}; choose another folder with --dir", folder.display())]
    Databases {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// More threads than keys.
    #[error("{threads} threads cannot share {keys} keys; give at least as many with --keys")]
    FewKeys {
        /// Threads asked for.
        threads: usize,
        /// Keys asked for.
        keys: usize,
    },
    /// The folder for the result can't be written.
    #[error("can't write the result to {}: {cause}; choose another folder with --out", folder.display())]
    Output {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A side refused to be opened or loaded.
    #[error("a side could not be prepared: {0}")]
    Engine(#[from] EngineError),
    /// The result can't be written as JSON.
    #[error("the result can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl QuestionError {
    /// Returns the exit status: what was asked wrongly is bad input, the rest are defects.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Side(_)
            | Self::NoRounds { .. }
            | Self::NoDisk { .. }
            | Self::Databases { .. }
            | Self::FewKeys { .. }
            | Self::Output { .. } => BAD_INPUT,
            Self::Engine(_) | Self::Json(_) => 1,
        }
    }
}

/// Returns a question by its name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Question> {
    QUESTIONS.iter().find(|question| question.name == name)
}

fn parse_question(text: &str) -> Result<&'static str, String> {
    let names: Vec<&str> = QUESTIONS.iter().map(|question| question.name).collect();
    find(text.trim())
        .map(|question| question.name)
        .ok_or_else(|| format!("unknown question \"{text}\"; the questions are {}", names.join(", ")))
}

fn parse_rounds(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(rounds) if rounds >= FEWEST_ROUNDS => Ok(rounds),
        _ => Err(format!(
            "\"{text}\" is no number of rounds; give one from {FEWEST_ROUNDS} up"
        )),
    }
}

fn parse_keys(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let (digits, unit) = match text.char_indices().last() {
        Some((last, 'k' | 'K')) => (&text[..last], 1_000),
        Some((last, 'm' | 'M')) => (&text[..last], 1_000_000),
        _ => (text, 1),
    };
    match digits.parse::<usize>().ok().and_then(|keys| keys.checked_mul(unit)) {
        Some(0) => Err("a store without keys measures nothing; give numbers from 1 up, such as 100k".to_owned()),
        Some(keys) if keys <= MOST_KEYS => Ok(keys),
        Some(_) => Err(format!("at most {MOST_KEYS} keys can be asked for")),
        None => Err(format!(
            "\"{text}\" is no number of keys; give numbers, such as 100k,1M"
        )),
    }
}

impl QuestionArgs {
    /// Returns what the flags ask for.
    ///
    /// # Errors
    ///
    /// [`QuestionError::Side`], [`QuestionError::NoRounds`], [`QuestionError::NoDisk`] or [`QuestionError::FewKeys`].
    pub fn options(&self, question: &Question, progress: Progress) -> Result<Options, QuestionError> {
        check_sides(question, &self.only)?;
        if self.rounds.is_some() && !question.has_rounds {
            return Err(QuestionError::NoRounds {
                question: question.name,
            });
        }
        if self.dir.is_some() && !question.has_disk {
            return Err(QuestionError::NoDisk {
                question: question.name,
            });
        }
        let mut effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        effort.rounds = if question.has_rounds {
            self.rounds.unwrap_or(effort.rounds)
        } else {
            1
        };
        let mut keys = self.keys.clone();
        if keys.is_empty() {
            keys = question.keys[usize::from(self.quick)].to_vec();
        }
        keys.sort_unstable();
        keys.dedup();
        let mut threads = self.threads.clone();
        if threads.is_empty() {
            threads.extend(question.threads);
        }
        threads.push(1);
        threads.sort_unstable();
        threads.dedup();
        let (most, fewest) = (threads[threads.len() - 1], keys[0]);
        if most > fewest {
            return Err(QuestionError::FewKeys {
                threads: most,
                keys: fewest,
            });
        }
        Ok(Options {
            effort,
            keys,
            threads,
            only: self.only.iter().map(|side| side.trim().to_owned()).collect(),
            dir: self.dir.clone(),
            seed: self.seed,
            processors: available_processors(),
            progress,
        })
    }

    /// Returns the command as it stands in the result, without the folder.
    #[must_use]
    pub fn command_line(&self) -> String {
        let list = |counts: &[usize]| counts.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut line = format!("experiments question {}", self.name);
        if self.quick {
            line.push_str(" --quick");
        }
        if let Some(rounds) = self.rounds {
            line.push_str(&format!(" --rounds {rounds}"));
        }
        if !self.keys.is_empty() {
            line.push_str(&format!(" --keys {}", list(&self.keys)));
        }
        if !self.threads.is_empty() {
            line.push_str(&format!(" --threads {}", list(&self.threads)));
        }
        if !self.only.is_empty() {
            line.push_str(&format!(" --only {}", self.only.join(",")));
        }
        line.push_str(&format!(" --seed {}", self.seed));
        line
    }
}

/// Refuses sides that there are not, and says which there are or how to get them.
fn check_sides(question: &Question, only: &[String]) -> Result<(), QuestionError> {
    let sides = (question.sides)();
    for side in only.iter().map(|side| side.trim()) {
        if sides.contains(&side) {
            continue;
        }
        let reason = if question.name == "index" && PEERS.contains(&side) {
            format!("the side \"{side}\" is not in this build; add --features peers to the cargo command")
        } else {
            let name = question.name;
            format!("{name} has no side \"{side}\"; its sides are {}", sides.join(", "))
        };
        return Err(QuestionError::Side(reason));
    }
    Ok(())
}

/// Measures, prints, writes, and returns the exit status.
///
/// # Errors
///
/// Returns [`QuestionError`] if there is no answer, or nowhere to write it.
pub fn main(arguments: &QuestionArgs) -> Result<u8, QuestionError> {
    let question = find(arguments.name)
        .ok_or_else(|| QuestionError::Side(format!("there is no question \"{}\"", arguments.name)))?;
    let progress = Progress::detect();
    let options = arguments.options(question, progress)?;
    // Before minutes of measuring, not after.
    if let Some(folder) = &arguments.out {
        prepare(folder).map_err(|cause| QuestionError::Output {
            folder: folder.clone(),
            cause,
        })?;
    }
    if question.has_disk {
        let databases = options.directory();
        TemporaryDirectory::under(&databases).map_err(|cause| QuestionError::Databases {
            folder: databases,
            cause,
        })?;
    }
    if cfg!(debug_assertions) {
        progress.say("This is a debug build: its figures mean nothing. Build with --release.");
    }
    let mut answer = (question.answer)(&options)?;
    if question.has_disk {
        answer.forget_place(&options.directory());
    }
    let origin = Origin {
        question: question.name,
        command: arguments.command_line(),
        seed: options.seed,
        rounds: options.effort.rounds,
    };
    let mut text = answer.tables();
    if let Some(folder) = &arguments.out {
        write(&answer, &origin, folder)?;
        let here = std::env::current_dir().unwrap_or_default();
        let shown = folder.strip_prefix(&here).unwrap_or(folder);
        text.push_str(&format!("\nwritten to {}\n", shown.display()));
    }
    // A closed pipe is the reader's choice, not a failure of the measurement.
    let _closed = io::stdout().lock().write_all(text.as_bytes());
    Ok(exit_status(&answer.outcomes, &answer.faults, answer.is_spoilt()))
}

/// Writes all files of an answer.
///
/// # Errors
///
/// Returns [`QuestionError::Output`] if a file can't be written.
pub fn write(answer: &Answer, origin: &Origin, folder: &Path) -> Result<(), QuestionError> {
    let name = origin.question;
    let own = [
        (format!("{name}.json"), answer.json(origin)?),
        (format!("{name}.csv"), answer.csv()),
        (format!("{name}.md"), answer.markdown(origin)),
    ];
    for (name, text) in own.iter().chain(&answer.files) {
        fs::write(folder.join(name), text).map_err(|cause| QuestionError::Output {
            folder: folder.to_path_buf(),
            cause,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(only: &[&str], keys: &[usize], threads: &[usize]) -> QuestionArgs {
        QuestionArgs {
            name: "index",
            quick: true,
            seed: 7,
            out: Some(PathBuf::from("/secret/place")),
            rounds: Some(9),
            keys: keys.to_vec(),
            threads: threads.to_vec(),
            dir: None,
            only: only.iter().map(|side| (*side).to_owned()).collect(),
        }
    }

    fn index() -> &'static Question {
        find("index").expect("it is in the list")
    }

    #[test]
    fn flags_are_checked_with_advice() {
        assert_eq!(parse_keys("100k"), Ok(100_000));
        assert_eq!(parse_keys("2M"), Ok(2_000_000));
        assert_eq!(parse_keys("512"), Ok(512));
        for bad in ["0", "k", "", "-5", "1G", "1.5k", "999999999999M"] {
            assert!(parse_keys(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_rounds("6"), Ok(6));
        for bad in ["0", "-1", "six", ""] {
            assert!(parse_rounds(bad).is_err(), "{bad}");
        }
        for question in QUESTIONS {
            assert_eq!(parse_question(question.name), Ok(question.name));
        }
        assert!(parse_question("indices").expect_err("none").contains("index"));
    }

    #[test]
    fn sides_are_checked_with_advice() {
        let error = arguments(&["unlatched", "mars"], &[], &[])
            .options(index(), Progress::Silent)
            .expect_err("there is no such side");
        assert_eq!(error.exit_status(), BAD_INPUT);
        assert!(error.to_string().contains("its sides are unlatched, "), "{error}");
        let peer = arguments(&["heed"], &[], &[]).options(index(), Progress::Silent);
        match peer {
            Ok(options) => assert!(cfg!(feature = "peers") && options.wants("heed") && !options.wants("m3")),
            Err(error) => assert!(
                !cfg!(feature = "peers") && error.to_string().contains("--features peers"),
                "{error}"
            ),
        }
        let error = arguments(&[], &[2], &[4])
            .options(index(), Progress::Silent)
            .expect_err("too few keys");
        assert!(error.to_string().contains("--keys"), "{error}");
    }

    #[test]
    fn folder_for_databases_is_for_questions_that_keep_some() {
        let mut given = arguments(&[], &[], &[]);
        given.dir = Some(PathBuf::from("/secret/disk"));
        let error = given.options(index(), Progress::Silent).expect_err("it keeps none");
        assert_eq!(error.exit_status(), BAD_INPUT);
        assert!(error.to_string().contains("leave out --dir"), "{error}");
        let question = find("log-storage").expect("it is in the list");
        let options = given.options(question, Progress::Silent).expect("it keeps some");
        assert_eq!(options.directory(), Path::new("/secret/disk"));
        assert_eq!(options.threads, [1, 2, 4, 16]);
        assert!(!given.command_line().contains("secret"));
    }

    #[test]
    fn options_follow_the_flags_and_the_question() {
        let options = arguments(&[], &[], &[])
            .options(index(), Progress::Silent)
            .expect("all defaults");
        assert_eq!(
            (options.keys.as_slice(), options.threads.as_slice()),
            (&[100_000][..], &[1, 2][..])
        );
        assert_eq!((options.effort.rounds, options.effort.slice), (9, Effort::QUICK.slice));
        let options = arguments(&[], &[500, 50, 500], &[4])
            .options(index(), Progress::Silent)
            .expect("sound");
        assert_eq!(
            (options.keys.as_slice(), options.threads.as_slice()),
            (&[50, 500][..], &[1, 4][..])
        );
    }

    #[test]
    fn recorded_command_holds_no_path() {
        assert_eq!(
            arguments(&["m3", "dashmap"], &[1_000], &[1, 2]).command_line(),
            "experiments question index --quick --rounds 9 --keys 1000 --threads 1,2 --only m3,dashmap --seed 7"
        );
    }
}
