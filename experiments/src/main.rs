//! The command line of the measurements.
//!
//! Every command exits 0 when all held, 1 when a gate failed or a defect was found, 2 when something was invalid,
//! inconclusive or unknown, and 3 on bad input or wrong usage; where several apply, the order is 3, 1, 2, 0.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use experiments::allocations::CountingAllocator;
use experiments::crash::{self, CrashArgs};
use experiments::engines::EngineName;
use experiments::gates::command::{self, BAD_INPUT, GatesArgs};
use experiments::gates::table::{ENTRIES, GATES, TITLES};
use experiments::inspect::{self, InspectArgs, VerifyArgs};
use experiments::questions::QUESTIONS;
use experiments::questions::command::{self as question, QuestionArgs};
use experiments::replay::{self, ReplayArgs};
use experiments::report::{checklist, units};

/// Counts every allocation, so that "none in the hot path" can be checked.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Measures Unlatched, a lock-free multi-version storage engine, beside the locked engines it succeeds
#[derive(Debug, Parser)]
#[command(
    name = "experiments",
    version,
    subcommand_required = true,
    arg_required_else_help = false,
    after_help = "\
Start with the checklist, which takes less than three minutes:
  cargo run --release -p experiments -- gates --quick
then ask about the design:
  cargo run --release -p experiments -- question index --quick

Exit status of every command: 0 all held, 1 a gate failed or a defect was found, 2 something was invalid,
inconclusive or unknown, 3 bad input or wrong usage. Build with --release: a debug build times nothing."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the checklist and print it filled in
    Gates(GatesArgs),
    /// Ask a question about the design and measure the answer
    Question(QuestionArgs),
    /// Replay a recorded block trace as gets and puts, and check the final state
    Replay(ReplayArgs),
    /// Crash the engine on a simulated disk at every step, and check what it leaves
    Crash(CrashArgs),
    /// Tell what a log's directory holds, segment by segment, damaged or not
    Inspect(InspectArgs),
    /// Rehearse recovery of a log: read everything, check everything, change nothing
    Verify(VerifyArgs),
    /// List the engines, the questions and every line of the checklist
    List,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match cli.command {
        Command::Gates(arguments) => match command::main(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(error.exit_status())
            }
        },
        Command::Question(arguments) => match question::main(&arguments) {
            Ok(status) => ExitCode::from(status),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(error.exit_status())
            }
        },
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Crash(arguments) => crash::run(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Verify(arguments) => inspect::verify(&arguments),
        Command::List => {
            list();
            ExitCode::SUCCESS
        }
    }
}

/// Prints what clap says; help and version are no error, everything else is wrong usage.
fn refuse(error: &clap::Error) -> ExitCode {
    // If even the message can't be printed, the status still tells.
    let _closed = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(BAD_INPUT),
    }
}

fn list() {
    let mut text = String::from("engines:\n");
    for engine in EngineName::ALL {
        text.push_str(&format!("  {engine}\n"));
    }
    for question in QUESTIONS {
        text.push_str(&format!("\nquestion {}: {}\n", question.name, question.asks));
        for side in (question.sides)() {
            text.push_str(&format!("  {side}\n"));
        }
    }
    for (gate, title) in GATES.iter().zip(TITLES) {
        text.push_str(&format!("\ngate {gate}: {title}\n"));
        for entry in ENTRIES.iter().filter(|entry| entry.gate == *gate) {
            text.push_str(&format!(
                "  {:4}  {:38}  {:14}  {}\n",
                checklist::mark(entry.kind),
                entry.id,
                units::threshold(entry),
                entry.name
            ));
        }
    }
    // A closed pipe is the reader's choice.
    let _closed = io::stdout().lock().write_all(text.as_bytes());
}
