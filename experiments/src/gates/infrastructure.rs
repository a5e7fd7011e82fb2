//! Gate 5: what must be there besides speed.
//!
//! Question: did the baselines run in this very run, is the tracing really absent, are the documents, the recorded
//! results and the saved baseline there?
//! Method: looking. Each line names what was looked at; what this program can't see (a source tree that is not at hand)
//! is `not_measurable`, and what does not exist yet is `not_built`. Memory is measured in [`super::memory`] and
//! [`super::pool`].
//! Command: `experiments gates --only 5`.

#![forbid(unsafe_code)]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::engines::locked::M3;
use crate::engines::sharded::Sharded;
use crate::engines::{Engine, Operation};
use crate::gates::Context;
use crate::gates::bed::Task;
use crate::gates::campaign::Campaign;
use crate::gates::sheet::Figure;
use crate::harness::environment::{Environment, git, repository_root};

/// Name of the tag and of the criterion baseline.
const BASELINE: &str = "m3_baseline_perf";

/// Fills in what needs no campaign.
pub fn untimed(context: &mut Context, environment: &Environment) {
    let wants = |measure: &str| context.sheet.wants(measure);
    let documents = wants("api_documents");
    let figures = [
        ("perf_trace_absent", perf_trace()),
        ("perf_trace_layer_sum", layer_sum()),
        (
            "m3_interface",
            Figure::not_built("the M3 interface and its suite come with the durable engine"),
        ),
        ("architecture_documents", architecture()),
        (
            "api_documents",
            if documents {
                api_documents(context)
            } else {
                Figure::not_measurable("not asked for")
            },
        ),
        ("results_recorded", recorded(context.options.recorded, environment)),
        ("saved_baseline_and_tag", saved_baseline()),
    ];
    for (measure, figure) in figures {
        context.sheet.record(measure, figure);
    }
}

/// Fills in whether the baselines ran beside the engine, from the campaign in which they did.
pub fn fill(context: &mut Context, campaign: &Campaign) {
    for (measure, engine) in [
        ("locked_baseline_same_run", M3::NAME),
        ("sharded_baseline_same_run", Sharded::NAME),
    ] {
        let figure = match campaign.completed(Task::alone(engine, Operation::FacadePut)) {
            Ok(rounds) => {
                let name = if engine == M3::NAME { BASELINE } else { engine };
                Figure::statement(true, format!("{name}: {rounds} rounds, interleaved with the engine's"))
            }
            Err(reason) => Figure::invalid(reason),
        };
        context.sheet.record(measure, figure);
    }
}

/// Looks for the recording half of the engine's tracing among this program's symbols.
fn perf_trace() -> Figure {
    if cfg!(feature = "perf-trace") {
        return Figure::not_measurable("this program was built with the feature; build it without to see");
    }
    // Spelt backwards, so that the search does not find itself; and hidden from the compiler, which would turn it round.
    let spelt = |backwards: &str| -> Vec<u8> { black_box(backwards).bytes().rev().collect() };
    match std::env::current_exe().and_then(fs::read) {
        // The engine's own functions are in every build of this program; where they don't show, nothing would.
        Ok(program) if !holds(&program, &spelt("dehctalnu9")) => {
            Figure::not_measurable("this program shows no symbols; build it without stripping them")
        }
        Ok(program) => {
            let found = holds(&program, &spelt("gnidrocer9ecart5"));
            let note = if found {
                "found the tracing's symbols in it"
            } else {
                "none of the tracing's symbols is in it"
            };
            Figure::statement(!found, format!("built without the feature; {note}"))
        }
        Err(error) => Figure::not_measurable(format!("this program's own file can't be read: {error}")),
    }
}

/// Says whether `part` occurs in `program`.
fn holds(program: &[u8], part: &[u8]) -> bool {
    program.windows(part.len()).any(|window| window == part)
}

fn layer_sum() -> Figure {
    if cfg!(feature = "perf-trace") {
        Figure::not_built("the layers are recorded; comparing their sum with the whole is not built yet")
    } else {
        Figure::not_measurable("needs a build with --features perf-trace, whose other figures decide nothing")
    }
}

fn no_source_tree() -> Figure {
    Figure::not_measurable("the source tree is not at hand")
}

/// What the headings of the architecture document must speak of.
const CHAPTERS: [&str; 7] = [
    "layers",
    "version chain",
    "commit",
    "clock",
    "snapshots",
    "transactions",
    "garbage",
];

/// How a diagram begins.
const DIAGRAM: &str = "```mermaid";

/// Fewest diagrams: the checklist asks for more than one.
const DIAGRAMS: usize = 2;

/// Returns what an architecture document should have and has not.
fn missing_in(text: &str) -> Vec<String> {
    let headings: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("## "))
        .map(str::to_lowercase)
        .collect();
    let mut missing: Vec<String> = CHAPTERS
        .iter()
        .filter(|chapter| !headings.iter().any(|heading| heading.contains(**chapter)))
        .map(|chapter| format!("a chapter on \"{chapter}\""))
        .collect();
    if text.matches(DIAGRAM).count() < DIAGRAMS {
        missing.push(format!("{DIAGRAMS} diagrams"));
    }
    missing
}

fn architecture() -> Figure {
    let Some(root) = repository_root() else {
        return no_source_tree();
    };
    match fs::read_to_string(root.join("docs/architecture.md")) {
        Ok(text) => match missing_in(&text) {
            missing if missing.is_empty() => Figure::statement(
                true,
                format!("docs/architecture.md: {} diagrams", text.matches(DIAGRAM).count()),
            ),
            missing => Figure::statement(false, format!("docs/architecture.md lacks {}", missing.join(", "))),
        },
        Err(_) => Figure::not_built("docs/architecture.md does not exist yet"),
    }
}

/// Builds the API documents with warnings denied; too long for a quick run.
fn api_documents(context: &Context) -> Figure {
    if !context.options.effort.build_documents {
        return Figure::not_measurable(
            "not built in a quick run; `RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps` decides",
        );
    }
    let Some(root) = repository_root() else {
        return no_source_tree();
    };
    context.options.progress.say("API documents: building");
    let status = Command::new("cargo")
        .args(["doc", "--quiet", "--no-deps", "--package", "unlatched"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) => Figure::statement(status.success(), "cargo doc with warnings denied"),
        Err(error) => Figure::not_measurable(format!("cargo can't be run here: {error}")),
    }
}

/// A result counts as recorded if it says which source gave it and which processor it ran on.
fn recorded(written: bool, environment: &Environment) -> Figure {
    if !written {
        return Figure::not_measurable("this run is not written to files");
    }
    if environment.commit.is_none() {
        return Figure::statement(false, "the commit is not known: build and run in a git repository");
    }
    let model = &environment.cpu.model;
    if model.is_empty() || model.starts_with("unknown") {
        return Figure::statement(false, "the processor's model is not known here");
    }
    let tree = match environment.dirty {
        Some(false) => "",
        Some(true) => "; the tree is dirty, so that the commit alone does not give this program",
        None => "; whether the tree is clean is not known",
    };
    Figure::statement(
        true,
        format!("gates.json holds this run, its commit and its processor{tree}"),
    )
}

fn saved_baseline() -> Figure {
    let Some(root) = repository_root() else {
        return no_source_tree();
    };
    let Some(tags) = git(&["tag", "--list", BASELINE]) else {
        return Figure::not_measurable("no git repository is at hand");
    };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let saved = holds_folder(&target.join("criterion"), BASELINE, 4);
    match (tags == BASELINE, saved) {
        (true, true) => Figure::statement(true, "tag and saved baseline found"),
        (tagged, saved) => {
            let missing = match (tagged, saved) {
                (false, true) => "the tag is missing",
                (true, false) => "the saved baseline is missing",
                _ => "tag and saved baseline are missing",
            };
            Figure::not_built(format!(
                "{missing}; `cargo bench --bench m4_performance -- --save-baseline {BASELINE}` and `git tag {BASELINE}` make them"
            ))
        }
    }
}

/// Returns whether a folder of this name lies below `folder`, at most `depth` levels down.
fn holds_folder(folder: &Path, name: &str, depth: usize) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .any(|path| {
            path.file_name().is_some_and(|found| found == name) || (depth > 0 && holds_folder(&path, name, depth - 1))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::stats::Verdict;

    fn holds_in(figure: &Figure) -> Option<bool> {
        figure.result.as_ref().ok().map(|estimate| estimate.median == 1.0)
    }

    // Goal: the line can fail. Method: an environment that lacks what a reader needs, one thing at a time.
    #[test]
    fn result_without_commit_or_processor_is_not_recorded() {
        let mut environment = Environment::capture(None);
        environment.commit = Some("0123abcd".to_owned());
        environment.dirty = Some(true);
        environment.cpu.model = "Some Processor".to_owned();
        let dirty = recorded(true, &environment);
        assert_eq!(holds_in(&dirty), Some(true));
        assert!(dirty.note.contains("dirty"), "{}", dirty.note);
        environment.dirty = Some(false);
        assert!(!recorded(true, &environment).note.contains("dirty"));
        let unwritten = recorded(false, &environment);
        assert_eq!(unwritten.result.expect_err("no file").verdict, Verdict::NotMeasurable);
        environment.cpu.model = "unknown x86_64".to_owned();
        assert_eq!(holds_in(&recorded(true, &environment)), Some(false));
        environment.cpu.model = "Some Processor".to_owned();
        environment.commit = None;
        assert_eq!(holds_in(&recorded(true, &environment)), Some(false));
    }

    #[test]
    fn architecture_without_a_chapter_or_diagrams_is_incomplete() {
        let mut text: String = CHAPTERS.iter().map(|chapter| format!("## The {chapter}\n")).collect();
        assert_eq!(missing_in(&text), ["2 diagrams"]);
        text.push_str("```mermaid\n```\n```mermaid\n```\n");
        assert!(missing_in(&text).is_empty());
        let missing = missing_in(&text.replace("## The garbage", "the garbage"));
        assert_eq!(missing, ["a chapter on \"garbage\""]);
    }

    // Goal: an absence is found in a program whose symbols show. Method: this test's own program has them.
    #[test]
    fn symbols_are_looked_for_where_they_would_show() {
        let verdict = perf_trace().result.map(|estimate| estimate.median);
        if cfg!(feature = "perf-trace") {
            assert!(verdict.is_err());
        } else {
            assert_eq!(verdict, Ok(1.0));
        }
        assert!(holds(b"abcd", b"bc") && !holds(b"abcd", b"bd"));
    }

    #[test]
    fn a_folder_is_found_at_its_depth_and_not_below() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(holds_folder(source, "gates", 1));
        assert!(!holds_folder(source, "gates", 0));
        assert!(!holds_folder(&source.join("nowhere"), "gates", 3));
    }
}
