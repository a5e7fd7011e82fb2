//! `experiments inspect` and `experiments verify`: what is in a log's directory, and would it be recovered?
//!
//! Both only read: they take no lock and write nothing, so that a damaged log can be looked at where it lies. `inspect`
//! goes over every segment, also behind the first damage, and tells what it holds; `verify` rehearses recovery, which
//! stops at the first thing that is wrong and names its place.
//!
//! ```text
//! experiments inspect DIR [--all] [--json]
//! experiments verify DIR [--json]
//! ```
//!
//! Exit status: 0 if recovery would succeed, 1 if the log is damaged, 2 if it has another format version or cannot be
//! read to its end, 3 if there is no such directory.
#![forbid(unsafe_code)]

mod json;
mod text;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use unlatched::Error;
use unlatched::internals::{self, Progress};

/// Recovery would succeed.
const WHOLE: u8 = 0;
/// Something durable is damaged.
const DAMAGED: u8 = 1;
/// Nobody can tell.
const UNKNOWN: u8 = 2;
/// There is nothing to look at.
const BAD_INPUT: u8 = 3;

/// Tell what a log's directory holds, segment by segment, damaged or not
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
A log is a directory of files named segment-<number>.log. In each are:

commits: all writes of one commit. One that belongs to a cut has a timestamp, its stamp; one that was aborted, or was
undecided at the end, has none.

markers: the end of a cut. It says how many commits there are after one timestamp and up to another, and what they add
up to. It holds if they are all there, unchanged. Only the last marker may fail: that is a torn tail, the normal
remains of a crash. \"taken back\" are those that a restart disowned, \"covered\" those that a checkpoint stands in for;
neither are tested.

restarts: the beginning of a life. What a torn tail left, between the cut that was restored and the new clock, is
taken back.

holes: units of 64 bytes between records that hold none. A writer reserved them and never came to fill them, or
something was destroyed.

The log is damaged if anything is missing or changed that had been durable; then \"damage\" says what, and where.

Reading beside a running database is harmless, but what it shows of the newest segment may be half-written.")]
pub struct InspectArgs {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// List every hole and marker that is known, not only the last markers and those that do not hold.
    #[arg(long)]
    pub all: bool,

    /// Print one JSON object instead of tables; it has everything that --all shows.
    #[arg(long)]
    pub json: bool,
}

/// Rehearse recovery of a log: read everything, check everything, change nothing
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Recovery reads the log twice. The first pass finds every record whose checksum holds and judges the cuts: each marker
must find the commits that it counts, and joins the one before it. The greatest cut that holds is what is restored. The
second pass reads the commits up to it; here they are counted and thrown away.

It ends with status 0 and the cut that would be restored, or with status 1 and the first place that is damaged. Nothing
says that a log is whole whose newest segments somebody removed: ask for the cut that you expect.

The newest checkpoint is taken at its word: commits up to it are not looked at, and neither is its content.")]
pub struct VerifyArgs {
    /// The database's directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Runs `inspect`.
#[must_use]
pub fn inspect(arguments: &InspectArgs) -> ExitCode {
    let found = match internals::inspect(&arguments.directory) {
        Ok(found) => found,
        Err(error) => return refuse(&error, arguments.json),
    };
    let text = match arguments.json {
        true => json::inspection(&found),
        false => text::inspection(&found, arguments.all),
    };
    print(&text);
    ExitCode::from(found.damage.as_ref().map_or(WHOLE, status))
}

/// Runs `verify`.
#[must_use]
pub fn verify(arguments: &VerifyArgs) -> ExitCode {
    let bar = bar();
    let progress = |progress: Progress| {
        if let Some(bar) = &bar {
            bar.set_length(progress.total);
            bar.set_position(progress.bytes);
        }
    };
    let found = internals::verify(&arguments.directory, &progress);
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    match found {
        Ok(found) => {
            let text = match arguments.json {
                true => json::verification(&found),
                false => text::verification(&found),
            };
            print(&text);
            ExitCode::from(WHOLE)
        }
        Err(error) => refuse(&error, arguments.json),
    }
}

/// A bar where a person watches.
fn bar() -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::no_length();
        // A template that does not parse would leave the default look, which does as well.
        if let Ok(style) = ProgressStyle::with_template("verify {bar:32} {bytes}/{total_bytes} {eta}") {
            bar.set_style(style);
        }
        bar
    })
}

/// Prints an error, and returns the status that it ends the command with.
fn refuse(error: &Error, as_json: bool) -> ExitCode {
    if as_json {
        print(&json::refusal(error));
    } else {
        eprintln!("error: {error}");
    }
    ExitCode::from(status(error))
}

fn status(error: &Error) -> u8 {
    match error {
        Error::Corrupt { .. } => DAMAGED,
        Error::Io { operation: "list", .. } => BAD_INPUT,
        _ => UNKNOWN,
    }
}

fn print(text: &str) {
    // A closed pipe is the reader's choice.
    let _closed = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(operation: &'static str) -> Error {
        Error::Io {
            operation,
            path: "somewhere".to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        }
    }

    #[test]
    fn statuses_tell_damage_from_what_cannot_be_told() {
        let corrupt = Error::Corrupt {
            segment: "segment-00000001.log".to_owned(),
            offset: 4_096,
            reason: "why".to_owned(),
        };
        assert_eq!(status(&corrupt), 1);
        let version = Error::FormatVersion {
            path: "segment-00000001.log".to_owned(),
            found: 2,
            supported: 1,
        };
        assert_eq!(status(&version), 2);
        assert_eq!(status(&error("read")), 2);
        assert_eq!(status(&error("list")), 3);
    }

    #[test]
    fn a_refusal_is_an_object_that_names_the_place() {
        let corrupt = Error::Corrupt {
            segment: "segment-00000001.log".to_owned(),
            offset: 4_096,
            reason: "a \"reason\"".to_owned(),
        };
        let object: serde_json::Value = serde_json::from_str(&json::refusal(&corrupt)).expect("it is JSON");
        assert_eq!(object["schema"], 1);
        assert_eq!(object["damage"]["file"], "segment-00000001.log");
        assert_eq!(object["damage"]["offset"], 4_096);
        assert_eq!(object["damage"]["reason"], "a \"reason\"");
        let object: serde_json::Value = serde_json::from_str(&json::refusal(&error("read"))).expect("it is JSON");
        assert!(object["damage"].is_null());
        assert!(
            object["error"]
                .as_str()
                .is_some_and(|text| text.contains("cannot read somewhere"))
        );
    }
}
