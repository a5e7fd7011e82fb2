//! Every question can be asked, comes out with every target judged, writes what it says, and refuses what it must.
//!
//! The slices last a millisecond, so that the figures mean nothing; what is checked is that they are drawn.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use experiments::allocations::CountingAllocator;
use experiments::harness::environment::available_processors;
use experiments::harness::stats::Verdict;
use experiments::questions::answer::{Answer, Row};
use experiments::questions::combinations::NAMES;
use experiments::questions::command::find;
use experiments::questions::{Effort, Options, QUESTIONS};
use experiments::report::csv;
use experiments::report::progress::Progress;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const KEYS: usize = 300;

fn ask(name: &str) -> Answer {
    let options = Options {
        effort: Effort::TINY,
        keys: vec![KEYS],
        threads: vec![1, 2],
        only: Vec::new(),
        dir: None,
        seed: 5,
        processors: available_processors(),
        progress: Progress::Silent,
    };
    let question = find(name).expect("it is in the list");
    (question.answer)(&options).expect("every side opens")
}

fn experiments(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_experiments"))
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// What holds of every answer: nobody is accused, and no target is left without a verdict and its reason.
fn is_sound(answer: &Answer) {
    assert!(answer.faults.is_empty(), "{:?}", answer.faults);
    for outcome in &answer.outcomes {
        let id = &outcome.target.id;
        assert!(
            outcome.measured.is_some() || !outcome.reason.is_empty(),
            "{id} says nothing"
        );
        assert_eq!(outcome.measured.is_some(), outcome.ci95.is_some(), "{id}");
        if matches!(outcome.verdict, Verdict::Pass | Verdict::Fail | Verdict::Inconclusive) {
            assert!(outcome.measured.is_some() && outcome.rounds > 0, "{id}");
        }
        let twins = answer.outcomes.iter().filter(|other| other.target.id == *id);
        assert_eq!(twins.count(), 1, "{id} is there twice");
    }
}

#[test]
fn index_compares_every_side_in_every_operation() {
    let answer = ask("index");
    is_sound(&answer);
    let operations = |engine: &str| {
        let mut names: Vec<&str> = answer
            .medians
            .iter()
            .filter(|median| median.engine == engine)
            .map(|median| median.operation.as_str())
            .collect();
        names.dedup();
        names.len()
    };
    assert_eq!((operations("unlatched"), operations("m3")), (7, 7));
    assert_eq!((operations("crossbeam"), operations("crossbeam-insert")), (5, 1));
    for side in (find("index").expect("it is in the list").sides)() {
        assert!(operations(side) > 0, "{side} was not measured");
    }
    let peer = |outcome: &&experiments::questions::targets::Outcome| outcome.target.id.contains("surrealmx");
    for outcome in answer.outcomes.iter().filter(peer) {
        let absent = outcome.verdict == Verdict::NotMeasurable;
        assert!(cfg!(feature = "peers") || absent && outcome.reason.contains("--features peers"));
    }
    assert!(answer.tables().contains("hot-get 2t"));
}

fn operations_of(answer: &Answer, stem: &str) -> usize {
    answer
        .outcomes
        .iter()
        .filter(|outcome| outcome.target.id.starts_with(stem))
        .count()
}

// Goal: every collector is timed and watched through a stall. What the verdicts are is the machine's business here.
#[test]
fn reclamation_times_and_stalls_every_combination() {
    let answer = ask("reclamation");
    is_sound(&answer);
    let counts = available_processors().min(2);
    assert_eq!(answer.medians.len(), NAMES.len() * counts);
    assert_eq!(operations_of(&answer, "drains_"), NAMES.len() * 2);
    let file = |name: &str| {
        let found = answer.files.iter().find(|(known, _)| known == name);
        found
            .map(|(_, text)| text.as_str())
            .unwrap_or_else(|| panic!("{name} is missing"))
    };
    let series = csv::parse(file("reclamation-timeline.csv")).expect("it is CSV");
    for stage in ["before", "stalled", "after"] {
        for side in NAMES {
            assert!(
                series.iter().any(|line| line[0] == *side && line[4] == stage),
                "{side} has no stage {stage}"
            );
        }
    }
    assert!(file(&format!("reclamation-pending-{KEYS}.svg")).contains("</svg>"));
    let counted = series[1..]
        .iter()
        .all(|line| line[10].parse::<u64>().is_ok_and(|bytes| bytes > 0));
    assert!(counted, "the allocator of this test counts");
}

// Goal: what does not depend on the machine holds: snapshots repeat, and nothing is left when they are closed.
#[test]
fn long_reader_sees_the_first_values_and_leaves_nothing() {
    let answer = ask("long-reader");
    is_sound(&answer);
    for stem in ["repeats_", "collected_"] {
        assert_eq!(
            operations_of(&answer, stem),
            NAMES.len() * available_processors().min(2)
        );
        for outcome in answer
            .outcomes
            .iter()
            .filter(|outcome| outcome.target.id.starts_with(stem))
        {
            assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
        }
    }
    assert_eq!(operations_of(&answer, "bounded_"), NAMES.len() * 2);
    assert!(answer.tables().contains("most versions per key"));
}

// Goal: every way to keep segments is measured strictly and buffered, beside every floor, and nothing is left behind.
#[test]
fn log_storage_measures_every_side_at_every_setting() {
    let answer = ask("log-storage");
    is_sound(&answer);
    let operations = |engine: &str| -> Vec<&str> {
        let of_side = answer.medians.iter().filter(|median| median.engine == engine);
        let mut names: Vec<&str> = of_side.map(|median| median.operation.as_str()).collect();
        names.dedup();
        names
    };
    if answer.medians.is_empty() {
        println!("skipped: the temporary directory is in memory");
        return;
    }
    let mapped = operations("mapped");
    assert_eq!(mapped, operations("positioned"));
    for part in [
        "strict put, 8 B, 16 MiB",
        "strict put, 4000 B",
        "buffered put, 8 B, 1 MiB",
        "64 MiB",
    ] {
        assert!(mapped.iter().any(|name| name.contains(part)), "{part}: {mapped:?}");
    }
    for floor in ["write+fdatasync", "store+fdatasync", "store+msync"] {
        assert!(!operations(floor).is_empty(), "{floor} was not measured");
    }
    let (_, groups) = answer
        .files
        .iter()
        .find(|(name, _)| name == "log-storage-groups.csv")
        .expect("it is added");
    let groups = csv::parse(groups).expect("it is CSV");
    let all_synced = groups[1..]
        .iter()
        .all(|line| line[7].parse::<u64>().is_ok_and(|syncs| syncs > 0));
    assert!(groups.len() > 1 && all_synced, "strict commits are synced");
    assert!(answer.environment.disk.is_some() || !cfg!(target_os = "linux"));
}

// Goal: every log is opened, cached and cold, with a checkpoint and without, and holds what was put.
#[test]
fn recovery_opens_every_log() {
    let answer = ask("recovery");
    is_sound(&answer);
    for side in ["log", "overwritten", "checkpoint", "read"] {
        let of_side = answer.medians.iter().filter(|median| median.engine == side);
        assert_eq!(of_side.count(), 2, "{side} is opened cached and cold");
    }
    assert_eq!(operations_of(&answer, "recovery_rate_"), 1);
    assert!(answer.tables().contains("M records/s"));
}

#[test]
fn wrong_usage_exits_with_three_and_says_what_to_do() {
    let cases: &[(&[&str], &str)] = &[
        (&["question"], "required"),
        (&["question", "indices"], "the questions are index"),
        (&["question", "index", "--rounds", "0"], "from 1 up"),
        (&["question", "index", "--keys", "many"], "such as 100k,1M"),
        (&["question", "index", "--keys", "0"], "from 1 up"),
        (&["question", "index", "--threads", "0"], "zero threads"),
        (&["question", "index", "--keys", "1", "--threads", "2"], "--keys"),
        (&["question", "index", "--only", "mars"], "its sides are unlatched"),
        (
            &["question", "reclamation", "--only", "m3"],
            "its sides are skiplist+hints+limbo",
        ),
        (&["question", "long-reader", "--rounds", "3"], "leave out --rounds"),
        (&["question", "index", "--seed", "minus"], "invalid value"),
        (&["question", "index", "--fast"], "unexpected argument"),
        (&["question", "index", "--dir", "."], "leave out --dir"),
        (
            &["question", "recovery", "--dir", "no/such/folder"],
            "another folder with --dir",
        ),
    ];
    for (arguments, message) in cases {
        let output = experiments(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}

#[test]
fn folder_that_cannot_be_written_is_found_before_measuring() {
    let file = folder("a-file-instead");
    std::fs::write(&file, b"").expect("the test's folder is writable");
    let output = experiments(&["question", "index", "--out", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--out"));
}

#[test]
fn list_and_help_name_every_question() {
    let list = String::from_utf8_lossy(&experiments(&["list"]).stdout).into_owned();
    for question in QUESTIONS {
        assert!(
            list.contains(&format!("question {}: {}", question.name, question.asks)),
            "{list}"
        );
    }
    let help = experiments(&["question", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for part in [
        "--quick",
        "--seed",
        "--out",
        "--rounds",
        "--keys",
        "--threads",
        "--only",
        "--dir",
        "Exit status",
        "Examples",
    ] {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
}

// Goal: the files are complete and say the same. Method: two sides and one thread, through the program itself.
#[test]
fn result_files_hold_every_sample() {
    let folder = folder("question");
    let output = experiments(&[
        "question",
        "index",
        "--quick",
        "--rounds",
        "1",
        "--keys",
        "200",
        "--threads",
        "1",
        "--only",
        "unlatched,m3",
        "--seed",
        "9",
        "--out",
        &folder.to_string_lossy(),
    ]);
    let status = output.status.code();
    assert!(
        matches!(status, Some(0 | 2)),
        "{status:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("every run writes it");
    let document: serde_json::Value = serde_json::from_str(&read("index.json")).expect("it is JSON");
    assert_eq!((&document["schema"], &document["seed"]), (&1.into(), &9.into()));
    assert_eq!(document["question"], "index");
    let rows: Vec<Row> = serde_json::from_value(document["samples"].clone()).expect("samples");
    // Six operations of two sides, and the machine's ceiling beside the hot key.
    assert_eq!(rows.len(), 13);
    let lines = csv::parse(&read("index.csv")).expect("it is CSV");
    assert_eq!(lines.len(), 1 + rows.len());
    let page = read("index.md");
    assert!(page.contains("seed 9") && page.contains("## Targets"), "{page}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("| unlatched |"));
    for text in [page, read("index.json")] {
        assert!(!text.contains(&*folder.to_string_lossy()), "a path is in the result");
    }
}
