//! Runs one model: every execution within the preemption bound, counted, and never cut short in silence.
//!
//! loom ends a check early, and reports success, when a limit on time or executions is reached. Here such limits are
//! off; an execution with too many steps panics inside loom, and a model that takes longer than
//! `UNLATCHED_LOOM_SECONDS` panics here. So a model that passes was explored to its bound, and the line it prints says
//! so.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Steps that one execution may have. Far more than any model needs; a loop that waits for another thread exceeds it.
const MAX_STEPS: usize = 20_000;

/// Explores `body` under loom with at most `bound` preemptions, or `LOOM_MAX_PREEMPTIONS` of them if that is set (a `bound`
/// of one or none is never raised), and
/// prints what was done. With `UNLATCHED_LOOM_SUMMARY=FILE` the same is appended to the file as a line of JSON.
///
/// # Panics
///
/// If `body` panics in any execution, leaks, deadlocks or does not end, or if `UNLATCHED_LOOM_SECONDS` are over.
pub fn model(name: &str, bound: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // A model whose own bound is one or none stops its threads where it wants them, and is too large for more.
    let bound = match builder.preemption_bound {
        Some(asked) if bound > 1 => asked,
        Some(asked) => asked.min(bound),
        None => bound,
    };
    builder.preemption_bound = Some(bound);
    builder.max_branches = MAX_STEPS;
    builder.max_permutations = None;
    builder.max_duration = None;
    let limit = seconds_allowed();
    let executions = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    {
        let executions = Arc::clone(&executions);
        let name = name.to_owned();
        builder.check(move || {
            let done = executions.fetch_add(1, Ordering::Relaxed);
            if let Some(limit) = limit
                && started.elapsed() > limit
            {
                panic!("model {name}: cut short after {done} executions and {limit:?}; nothing is proved");
            }
            body();
        });
    }
    report(name, executions.load(Ordering::Relaxed), bound, started.elapsed());
}

/// Explores `body` like [`model`], and says whether it returned true in any execution.
pub fn occurs(name: &str, bound: usize, body: impl Fn() -> bool + Sync + Send + 'static) -> bool {
    let seen = Arc::new(AtomicBool::new(false));
    let see = Arc::clone(&seen);
    model(name, bound, move || {
        if body() {
            see.store(true, Ordering::Relaxed);
        }
    });
    seen.load(Ordering::Relaxed)
}

fn seconds_allowed() -> Option<Duration> {
    let seconds = std::env::var("UNLATCHED_LOOM_SECONDS").ok()?;
    let seconds = seconds
        .parse()
        .expect("UNLATCHED_LOOM_SECONDS is a whole number of seconds");
    Some(Duration::from_secs(seconds))
}

fn report(name: &str, executions: u64, bound: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    // Straight to the stream: the test harness captures `println!` of tests that pass.
    let mut out = std::io::stderr().lock();
    writeln!(
        out,
        "model {name}: {executions} executions, bound {bound}, complete, {seconds:.1} s"
    )
    .expect("standard error is open");
    let Some(path) = std::env::var_os("UNLATCHED_LOOM_SUMMARY") else {
        return;
    };
    let line = format!(
        "{{\"model\":\"{name}\",\"executions\":{executions},\"preemption_bound\":{bound},\"complete\":true,\"seconds\":{seconds:.3}}}\n"
    );
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the file named by UNLATCHED_LOOM_SUMMARY can be written");
}
