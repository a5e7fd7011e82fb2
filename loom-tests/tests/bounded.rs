//! Runs the models from an ordinary `cargo test`: builds this crate with `--cfg loom` in a target folder of its own,
//! and explores every model with at most two preemptions. `cargo loom` explores each to its own bound.
#![cfg(not(loom))]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Preemptions in an ordinary test run. Most mistakes in protocols of this kind need one or two.
const PREEMPTIONS: &str = "2";

/// Seconds after which a model counts as failed, since it was cut short. Each takes less than one minute on two slow
/// cores.
const SECONDS_PER_MODEL: &str = "900";

/// The files of models, each of which must have run.
const FILES: [&str; 11] = [
    "chain",
    "clock",
    "commit",
    "fences",
    "hints",
    "limbo",
    "reclaim",
    "runner",
    "skiplist",
    "snapshots",
    "status",
];

/// Goal: no change passes the tests without its models. Method: the build that `cargo loom` makes, with a small bound;
/// its output goes straight to the terminal, and what ran is read from the summary that the models write.
#[test]
fn every_model_holds_with_two_preemptions() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    if Command::new(&cargo).arg("--version").output().is_err() {
        eprintln!("skipped: the models need cargo to be built, and it cannot be run here");
        return;
    }
    let target = target_folder();
    std::fs::create_dir_all(&target).expect("the target folder can be written");
    let summary = target.join(format!("summary-{}.jsonl", std::process::id()));
    let mut models = Command::new(&cargo);
    models
        .args(["test", "--release", "--package", "loom-tests", "--tests"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "--cfg loom")
        .env("UNLATCHED_LOOM_SUMMARY", &summary)
        .env("UNLATCHED_LOOM_SECONDS", SECONDS_PER_MODEL);
    if std::env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        models.env("LOOM_MAX_PREEMPTIONS", PREEMPTIONS);
    }
    for set_for_other_runs in [
        "CARGO_ENCODED_RUSTFLAGS",
        "LOOM_CHECKPOINT_FILE",
        "LOOM_MAX_BRANCHES",
        "UNLATCHED_WEAKEN",
    ] {
        models.env_remove(set_for_other_runs);
    }
    let status = models.status().expect("cargo was run before");
    let lines = std::fs::read_to_string(&summary).unwrap_or_default();
    // The file may not exist if nothing ran.
    let _ = std::fs::remove_file(&summary);
    assert!(status.success(), "a model failed or did not build: see above");
    for file in FILES {
        assert!(
            lines.contains(&format!("\"model\":\"{file}::")),
            "no model of {file}.rs ran"
        );
    }
    eprintln!("{} models explored", lines.lines().count());
}

/// Returns the folder for the models' build: beside the ordinary one, so that neither spoils the other.
fn target_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), |folder| workspace.join(folder))
        .join("loom")
}
