//! The checklist can't be made to pass by an engine that loses updates or makes up reads, and says what it did.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use experiments::engines::broken::Broken;
use experiments::engines::unlatched::Unlatched;
use experiments::gates::sheet::{Outcome, Selection, exit_status};
use experiments::gates::table::{ENTRIES, Kind};
use experiments::gates::{Effort, Options, Report, run};
use experiments::harness::environment::available_processors;
use experiments::harness::stats::Verdict;
use experiments::report::json;

fn tiny(gates: &[&str]) -> Options {
    let mut options = Options::new(Effort::TINY);
    options.selection = Selection {
        gates: gates.iter().map(|gate| (*gate).to_owned()).collect(),
        red_flags_only: false,
    };
    options.timed = true;
    options
}

/// What an engine promises to keep: whoever loses an update breaks it, and that is a failure and no spoilt figure.
const PROMISES: &[&str] = &[
    "strict_keeps_acknowledged",
    "durability_override",
    "shutdown_keeps_data_red_flag",
];

fn lost_updates(report: &Report) -> Vec<&Outcome> {
    report
        .outcomes
        .iter()
        .filter(|line| line.reason.contains("lost update"))
        .collect()
}

// Goal: an engine that loses updates gets no figure, however fast it is. Method: one that loses one update in a hundred
// takes the engine's place; no line that times its puts may pass or fail, since both would be figures.
#[test]
fn engine_that_loses_updates_comes_out_invalid() {
    let report = run::<Broken>(tiny(&["1", "3", "4"])).expect("it opens");
    for line in report.outcomes.iter().filter(|line| !PROMISES.contains(&line.entry.id)) {
        let decided = matches!(line.verdict, Verdict::Pass | Verdict::Fail | Verdict::Inconclusive);
        assert!(!decided, "{} came out as {:?}", line.entry.id, line.verdict);
        assert_eq!(line.measured, None, "{}", line.entry.id);
    }
    for id in [
        "put_direct_mean_100k",
        "in_memory_rate_1t_100k",
        "a1_a0_100k",
        "b_a1_100k",
        "b_a0_100k",
    ] {
        let line = report
            .outcomes
            .iter()
            .find(|line| line.entry.id == id)
            .expect("selected");
        assert_eq!(line.verdict, Verdict::Invalid, "{id}");
        assert!(line.reason.contains("lost update"), "{id}: {}", line.reason);
    }
    for id in PROMISES {
        let line = report.outcomes.iter().find(|line| line.entry.id == *id);
        let line = line.expect("selected");
        assert_eq!(line.verdict, Verdict::Fail, "{id}: {}", line.reason);
        assert!(!line.reason.is_empty(), "{id}");
    }
    assert_eq!(exit_status(&report.outcomes), 1);
}

// Goal: the check itself finds nothing where nothing is lost. Method: the same run over the engine and all baselines.
#[test]
fn engine_that_keeps_updates_is_not_accused() {
    let report = run::<Unlatched>(tiny(&["1", "3", "4"])).expect("it opens");
    let accused: Vec<&str> = lost_updates(&report).iter().map(|line| line.entry.id).collect();
    assert!(accused.is_empty(), "{accused:?}");
    for line in report.outcomes.iter().filter(|line| PROMISES.contains(&line.entry.id)) {
        assert_eq!(line.verdict, Verdict::Pass, "{}: {}", line.entry.id, line.reason);
    }
}

// Goal: nothing is left behind, and nobody learns where it was. Method: a folder of the test's own for the databases.
#[test]
fn databases_are_removed_and_their_folder_is_not_named() {
    let folder = folder("databases");
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    let mut options = tiny(&["1"]);
    options.dir = Some(folder.clone());
    let report = run::<Unlatched>(options).expect("it opens");
    let left: Vec<_> = std::fs::read_dir(&folder).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
    let result = json::render(&report.outcomes, &report.environment, report.seed).expect("plain data");
    assert!(!result.contains(&*folder.to_string_lossy()), "{result}");
    if cfg!(target_os = "linux") {
        assert!(report.environment.disk.is_some());
    }
}

// Goal: every line of the checklist gets an outcome with its origin. Method: the whole checklist at the smallest
// effort; what the figures say is nobody's business here.
#[test]
fn whole_checklist_is_filled_in() {
    let report = run::<Unlatched>(tiny(&[])).expect("it opens");
    assert_eq!(report.outcomes.len(), ENTRIES.len());
    for line in &report.outcomes {
        assert!(
            !line.reason.contains("a defect of this program"),
            "{} was not measured",
            line.entry.id
        );
        assert!(
            line.measured.is_some() || !line.reason.is_empty(),
            "{} says nothing",
            line.entry.id
        );
        assert_eq!(line.measured.is_some(), line.ci95.is_some(), "{}", line.entry.id);
        if matches!(line.verdict, Verdict::Pass | Verdict::Fail | Verdict::Inconclusive) {
            assert!(line.rounds > 0 && line.measured.is_some(), "{}", line.entry.id);
        }
    }
    let tax = report
        .outcomes
        .iter()
        .find(|line| line.entry.id == "a1_a0_100k")
        .expect("selected");
    if tax.verdict != Verdict::Invalid {
        assert!(tax.engines.contains_key("sharded-txn"), "{:?}", tax.engines);
    }
    assert!(
        report
            .histograms
            .iter()
            .any(|(name, times)| name.ends_with("-unlatched.hgrm") && !times.is_empty())
    );
}

// Goal: reads are checked like writes. Method: an engine whose gets return a constant and whose snapshots are of nothing;
// no line that times them may decide.
#[test]
fn engine_that_makes_up_its_reads_comes_out_invalid() {
    let report = run::<Broken>(tiny(&["2"])).expect("it opens");
    for (id, reason) in [
        ("get_mean_1k_shown", "wrong value"),
        ("get_mean_100k", "wrong value"),
        ("get_mean_1m_shown", "wrong value"),
        ("get_to_skiplist_100k_aim", "wrong value"),
        ("snapshot_mean_1m", "wrong snapshot"),
        ("snapshot_mean_1m_red_flag", "wrong snapshot"),
    ] {
        let line = report
            .outcomes
            .iter()
            .find(|line| line.entry.id == id)
            .expect("selected");
        assert_eq!(line.verdict, Verdict::Invalid, "{id}");
        assert!(line.reason.contains(reason), "{id}: {}", line.reason);
        assert_eq!(line.measured, None, "{id}");
    }
    let timed_get = |id: &str| id.starts_with("get_") || id.starts_with("snapshot_");
    for line in report.outcomes.iter().filter(|line| timed_get(line.entry.id)) {
        let decided = matches!(line.verdict, Verdict::Pass | Verdict::Fail | Verdict::Inconclusive);
        assert!(!decided, "{} came out as {:?}", line.entry.id, line.verdict);
    }
}

// Goal: sound reads are not accused. Method: the same run over the engine and everything beside it, again if the
// machine's other load spoilt a side, whose figure is then missing.
#[test]
fn engine_that_reads_what_is_stored_is_not_accused() {
    let mut missing = vec![
        "m3",
        "m3-cheap",
        "sharded",
        "sharded-txn",
        "crossbeam-skiplist",
        "hash-map",
    ];
    for _ in 0..10 {
        let report = run::<Unlatched>(tiny(&["2"])).expect("it opens");
        for line in &report.outcomes {
            assert!(!line.reason.contains("wrong"), "{}: {}", line.entry.id, line.reason);
        }
        let get = report.outcomes.iter().find(|line| line.entry.id == "get_mean_100k");
        let get = get.expect("selected");
        missing.retain(|engine| get.verdict != Verdict::Invalid && !get.engines.contains_key(*engine));
        if missing.is_empty() {
            return;
        }
    }
    panic!("never beside the engine: {missing:?}");
}

// Goal: a machine does not decide about threads that it has no processors for. Method: all thread counts are asked for;
// every line with more threads than processors must say so, whatever the others came to.
#[test]
fn more_threads_than_processors_are_not_measurable() {
    let report = run::<Unlatched>(tiny(&["3"])).expect("it opens");
    let processors = available_processors();
    let beyond: Vec<&Outcome> = report
        .outcomes
        .iter()
        .filter(|line| line.entry.threads.is_some_and(|threads| threads > processors))
        .collect();
    if beyond.is_empty() {
        println!("skipped: no line asks for more than {processors} threads");
    }
    for line in beyond {
        assert_eq!(line.verdict, Verdict::NotMeasurable, "{}", line.entry.id);
        assert_eq!(line.measured, None, "{}", line.entry.id);
        let said = format!("this machine has {processors} processors");
        assert!(line.reason.contains(&said), "{}: {}", line.entry.id, line.reason);
    }
}

#[test]
fn threads_that_were_left_out_are_not_measurable() {
    let mut options = tiny(&["3"]);
    options.threads = vec![1];
    let report = run::<Unlatched>(options).expect("it opens");
    assert!(
        report
            .outcomes
            .iter()
            .all(|line| line.verdict == Verdict::NotMeasurable)
    );
    assert_eq!(exit_status(&report.outcomes), 0);
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

#[test]
fn wrong_usage_exits_with_three_and_says_why() {
    let cases: &[(&[&str], &str)] = &[
        (&["gates", "--threads", "0"], "zero threads"),
        (&["gates", "--threads", "1,two"], "no thread count"),
        (&["gates", "--only", "6"], "unknown gate"),
        (&["gates", "--only", "2,x"], "unknown gate"),
        (&["gates", "--seed", "minus"], "invalid value"),
        (&["gates", "--fast"], "unexpected argument"),
        (&["measure"], "unrecognized subcommand"),
        (&[], "subcommand"),
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
    let file = folder("a-file-and-no-folder");
    std::fs::write(&file, b"").expect("the test's folder is writable");
    let out = folder("unused");
    for flag in ["--out", "--dir"] {
        let mut arguments = vec!["gates".to_owned(), "--quick".to_owned()];
        if flag == "--dir" {
            arguments.extend(["--out".to_owned(), out.to_string_lossy().into_owned()]);
        }
        arguments.extend([flag.to_owned(), file.to_string_lossy().into_owned()]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = experiments(&arguments);
        assert_eq!(output.status.code(), Some(3), "{flag}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(flag), "{flag}");
    }
}

#[test]
fn help_and_list_teach_and_succeed() {
    for arguments in [&["--help"][..], &["gates", "--help"], &["--version"], &["list"]] {
        assert_eq!(experiments(arguments).status.code(), Some(0), "{arguments:?}");
    }
    let help = String::from_utf8_lossy(&experiments(&["gates", "--help"]).stdout).into_owned();
    for part in [
        "--quick",
        "--only",
        "--threads",
        "--seed",
        "--out",
        "--dir",
        "Exit status",
        "Examples",
    ] {
        assert!(help.contains(part), "{part} is missing in\n{help}");
    }
    let list = String::from_utf8_lossy(&experiments(&["list"]).stdout).into_owned();
    assert!(ENTRIES.iter().all(|entry| list.contains(entry.id)));
}

// Goal: the files of a run are complete and say the same. Method: the gate that needs the least measuring, through the
// program itself.
#[test]
fn result_files_follow_the_schema() {
    let folder = folder("result");
    let output = experiments(&[
        "gates",
        "--quick",
        "--only",
        "5",
        "--seed",
        "9",
        "--out",
        &folder.to_string_lossy(),
    ]);
    let status = output.status.code();
    assert!(
        matches!(status, Some(0..=2)),
        "{status:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("every run writes it");
    let document: serde_json::Value = serde_json::from_str(&read("gates.json")).expect("it is JSON");
    let environment: serde_json::Value = serde_json::from_str(&read("environment.json")).expect("it is JSON");
    assert_eq!(document["schema"], 1);
    assert_eq!(document["environment"], environment);
    let gates = document["gates"].as_array().expect("a list");
    let expected: Vec<&str> = ENTRIES
        .iter()
        .filter(|entry| entry.gate == "5")
        .map(|entry| entry.id)
        .collect();
    let ids: Vec<&str> = gates.iter().filter_map(|line| line["id"].as_str()).collect();
    assert_eq!(ids, expected);
    assert!(gates.iter().all(|line| line["seed"] == 9 && line["gate"] == "5"));
    let page = read("gates.md");
    assert!(ids.iter().all(|id| page.contains(id)));
    for text in [read("gates.json"), page] {
        assert!(!text.contains(&*folder.to_string_lossy()), "a path is in the result");
    }
    assert!(
        ENTRIES
            .iter()
            .any(|entry| entry.gate == "5" && entry.kind == Kind::Gate)
    );
}
