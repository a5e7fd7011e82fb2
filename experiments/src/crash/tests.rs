//! The campaign on small stores: it finds nothing in a sound one, and something in each that has a defect.
#![forbid(unsafe_code)]

use clap::Parser;

use super::toy::{self, Toy};
use super::*;

/// What is left is printed if a test fails.
fn tried<const DEFECT: u8>(seeds: u64, threads: usize) -> Totals {
    let task = Task {
        from: 1,
        seeds,
        effort: Effort {
            steps: Steps::Random(10),
            lives: 2,
            survivors: 2,
            cut_openings: 1,
            threads,
            keys: 4,
            operations: 30,
        },
    };
    campaign::<Toy<DEFECT>>(&task, Progress::Silent)
}

#[test]
fn a_sound_store_is_found_sound() {
    let totals = tried::<{ toy::SOUND }>(12, 3);
    assert_eq!(totals.failures, []);
    // It was not for want of trying.
    for (what, count) in [
        ("acknowledged", totals.acknowledged),
        ("failed", totals.failed),
        ("faults", totals.faults),
        ("cut openings", totals.cut_openings),
        ("kept names", totals.kept_names),
        ("lost names", totals.lost_names),
        ("lost commits", totals.most_lost as u64),
    ] {
        assert!(count > 0, "no {what}");
    }
    assert!(totals.crash_points > 200, "{}", totals.crash_points);
}

/// Runs until something is found, and looks for what it must be called.
fn is_found<const DEFECT: u8>(name: &str) {
    let failures = tried::<DEFECT>(30, 1).failures;
    let is_named = failures.iter().any(|failure| failure.what.contains(name));
    assert!(is_named, "defect {DEFECT}: {failures:#?}");
    assert!(failures.len() < 2 * MAX_FAILURES, "{}", failures.len());
}

#[test]
fn every_defect_is_found() {
    is_found::<{ toy::EARLY_ACKNOWLEDGEMENT }>("less breaks a promise");
    is_found::<{ toy::UNSYNCED_NAMES }>("less breaks a promise");
    is_found::<{ toy::TORN_TRANSACTIONS }>("the state of no moment");
    is_found::<{ toy::RECORDS_EVERYTHING }>("written without a record");
    is_found::<{ toy::TRUSTS_FILES }>("no whole value");
    is_found::<{ toy::EATS_FILES }>("when opened a second time, something else is found");
    is_found::<{ toy::UNBOUNDED }>("acknowledged commits are lost, and at most");
    is_found::<{ toy::LATE_KEYS }>("less breaks a promise");
    is_found::<{ toy::FORGETS_ERRORS }>("less breaks a promise");
    is_found::<{ toy::CARELESS_SWAPS }>("succeeded over version");
    is_found::<{ toy::PANICS }>("a thread panicked: a defect that panics");
}

/// A short campaign on the engine itself; `experiments crash` runs long ones.
#[test]
fn the_engine_survives_a_short_campaign() {
    let effort = Effort {
        steps: Steps::Random(6),
        lives: 1,
        survivors: 2,
        cut_openings: 1,
        threads: 2,
        keys: 4,
        operations: 25,
    };
    let task = Task {
        from: 1,
        seeds: 4,
        effort,
    };
    let totals = campaign::<Unlatched>(&task, Progress::Silent);
    assert_eq!(totals.failures, [], "{:#?}", totals.failures);
    assert!(totals.torn > 0, "{totals:?}");
}

/// One thread does the same on every run, so a seed and a step are enough to see a failure again.
#[test]
fn lives_with_one_thread_can_be_replayed() {
    assert_eq!(tried::<{ toy::SOUND }>(2, 1), tried::<{ toy::SOUND }>(2, 1));
    let failures = |totals: Totals| totals.failures;
    let once = failures(tried::<{ toy::TORN_TRANSACTIONS }>(2, 1));
    assert!(!once.is_empty());
    assert_eq!(once, failures(tried::<{ toy::TORN_TRANSACTIONS }>(2, 1)));
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: CrashArgs,
}

fn task(line: &str) -> Result<Task, String> {
    let words = std::iter::once("crash").chain(line.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    line.args.task().map_err(|error| error.to_string())
}

#[test]
fn arguments_make_a_task() {
    let usual = task("").expect("defaults are right");
    assert_eq!((usual.from, usual.seeds, usual.effort.steps), (1, 20, Steps::All));
    let quick = task("--quick --from 7 --threads 1").expect("right");
    assert_eq!((quick.from, quick.seeds, quick.effort.threads), (7, 3, 1));
    assert!(matches!(quick.effort.steps, Steps::Random(_)));
    let long = task("--long --seeds 5 --steps random --keys 3 --ops 9").expect("right");
    assert_eq!((long.seeds, long.effort.keys, long.effort.operations), (5, 3, 9));
    assert!(matches!(long.effort.steps, Steps::Random(_)));
}

#[test]
fn bad_input_is_named() {
    for (line, word) in [
        ("--steps some", "--steps all or random"),
        ("--seeds 0", "--seeds 0"),
        ("--threads 0", "--threads 0"),
        ("--threads 65", "1 to 64"),
        ("--keys 0", "--keys 0"),
        ("--ops 0", "--ops 0"),
        ("--quick --long", "cannot be used with"),
        ("--from 18446744073709551615", "--seeds"),
    ] {
        let error = task(line).expect_err(line);
        assert!(error.contains(word), "{line}: {error}");
    }
}

#[test]
fn the_last_line_says_it_all() {
    let task = task("--quick --from 5").expect("right");
    let said = |totals: &Totals| {
        let mut out = Vec::new();
        report(&task, totals, &mut out).expect("memory can be written");
        String::from_utf8(out).expect("text")
    };
    let mut totals = Totals {
        crashes: 9,
        crash_points: 4,
        ..Totals::default()
    };
    let text = said(&totals);
    let last = text.lines().last().expect("there are lines");
    assert_eq!(last, "ok: 0 failures in 9 crashes at 4 crash points, seeds 5 to 7");
    totals.failures.push(Failure {
        seed: 6,
        place: "alone".to_owned(),
        what: "wrong".to_owned(),
    });
    let text = said(&totals);
    assert!(text.contains("seed 6, alone: wrong"), "{text}");
    assert!(text.contains("experiments crash --from 6 --seeds 1"), "{text}");
    assert!(
        text.lines().last().expect("lines").starts_with("FAILED: 1 failures"),
        "{text}"
    );
}
