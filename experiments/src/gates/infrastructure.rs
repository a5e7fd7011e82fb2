//! Gate 5: what must be there besides speed.
//!
//! Question: did the baselines run in this very run, is the tracing really absent, are the documents, the recorded
//! results and the saved baseline there?
//! Method: looking. Each line names what was looked at; what this program can't see (a source tree that is not at hand)
//! is `not_measurable`, and what does not exist yet is `not_built`.
//! Command: `experiments gates --only 5`.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::engines::locked::M3;
use crate::engines::sharded::Sharded;
use crate::engines::{Engine, Operation};
use crate::gates::Context;
use crate::gates::bed::Task;
use crate::gates::campaign::Campaign;
use crate::gates::sheet::Figure;
use crate::harness::environment::{git, repository_root};

/// Name of the tag and of the criterion baseline.
const BASELINE: &str = "m3_baseline_perf";

/// Fills in what needs no campaign.
pub fn untimed(context: &mut Context) {
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
        ("results_recorded", recorded(context)),
        (
            "version_pool_stable",
            Figure::not_built("versions are not recycled yet; the pool comes with the engine's own index"),
        ),
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
    // Spelt backwards, so that the search does not find itself.
    let symbol: String = "gnidrocer9ecart5".chars().rev().collect();
    match std::env::current_exe().and_then(fs::read) {
        Ok(program) => {
            let found = program.windows(symbol.len()).any(|window| window == symbol.as_bytes());
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

fn architecture() -> Figure {
    let Some(root) = repository_root() else {
        return no_source_tree();
    };
    match fs::read_to_string(root.join("docs/architecture.md")) {
        Ok(text) => {
            let diagrams = text.matches("```mermaid").count()
                + usize::from(
                    text.contains("-->") || text.contains("+--") || text.contains("──") || text.contains("|--"),
                );
            Figure::statement(
                diagrams > 0,
                if diagrams > 0 {
                    "docs/architecture.md"
                } else {
                    "docs/architecture.md has no diagram"
                },
            )
        }
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

fn recorded(context: &Context) -> Figure {
    if context.options.recorded {
        Figure::statement(true, "gates.json holds this run and its environment")
    } else {
        Figure::not_measurable("this run is not written to files")
    }
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

    #[test]
    fn a_folder_is_found_at_its_depth_and_not_below() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(holds_folder(source, "gates", 1));
        assert!(!holds_folder(source, "gates", 0));
        assert!(!holds_folder(&source.join("nowhere"), "gates", 3));
    }
}
