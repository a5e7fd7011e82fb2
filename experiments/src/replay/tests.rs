//! Replays of made traces, of the recorded one where it is present, and bad input.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::*;
use crate::engines::broken::Broken;
use crate::workload::random::Random;

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

/// A trace of gets and puts over few keys, so that keys are overwritten often.
fn made_trace(seed: u64) -> Trace {
    let mut random = Random::new(seed);
    let requests = (0..3_000)
        .map(|_| Request {
            kind: if random.below(3) == 0 {
                RequestKind::Get
            } else {
                RequestKind::Put
            },
            key: random.below(100),
            size: random.below(300) as u32,
        })
        .collect();
    Trace::new(requests, seed)
}

fn args(path: PathBuf) -> ReplayArgs {
    ReplayArgs {
        format: CLOUDPHYSICS.to_owned(),
        path,
        threads: 1,
        engines: vec!["m3-cheap".to_owned()],
        seed: 1,
    }
}

/// A file that is deleted at the end of a test.
struct TraceFile(PathBuf);

impl TraceFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("unlatched-replay-{}-{name}.csv", std::process::id()));
        std::fs::write(&path, text).expect("the temporary folder can be written");
        Self(path)
    }
}

impl Drop for TraceFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

fn replays_rightly<E: ByteEngine>() {
    let (trace, clock) = (made_trace(11), TickClock::new());
    for threads in [NonZeroUsize::MIN, TWO] {
        let replay = trace.replay::<E>(threads, &clock).expect(E::NAME);
        assert!(replay.differences.is_none(), "{}: {}", E::NAME, replay.differences);
        assert_eq!(replay.final_keys, trace.last_puts.len() as u64);
        assert_eq!(replay.gets.len() + replay.puts.len(), 3_000);
    }
}

#[test]
fn unlatched_ends_as_a_sequential_replay() {
    replays_rightly::<Unlatched>();
}

#[test]
fn baselines_end_as_a_sequential_replay() {
    replays_rightly::<M3>();
    replays_rightly::<M3Cheap>();
    replays_rightly::<Sharded>();
}

#[test]
fn an_engine_that_loses_updates_is_found_out() {
    let replay = made_trace(12)
        .replay::<Broken>(NonZeroUsize::MIN, &TickClock::new())
        .expect("it refuses nothing");
    let text = replay.differences.to_string();
    assert!(text.starts_with("WRONG"), "{text}");
    assert_eq!(exit_status(&Ok(vec![replay])), 1);
}

#[test]
fn bad_input_is_refused_with_status_3() {
    let good = TraceFile::new("good", "1,1,2a,10,5\n");
    let bad = TraceFile::new("bad", "version,time,op,size,lbn\n1,1,2a,10\n");
    let refuse = |args: ReplayArgs, complaint: &str| {
        let error = replay_trace(&args, &mut Vec::new()).expect_err(complaint);
        assert_eq!(error.exit_status(), 3, "{error}");
        assert!(error.to_string().contains(complaint), "{error}");
    };
    refuse(
        ReplayArgs {
            threads: 0,
            ..args(good.0.clone())
        },
        "--threads",
    );
    refuse(
        ReplayArgs {
            threads: MAX_THREADS + 1,
            ..args(good.0.clone())
        },
        "--threads",
    );
    refuse(
        ReplayArgs {
            format: "msr".to_owned(),
            ..args(good.0.clone())
        },
        "msr",
    );
    refuse(
        ReplayArgs {
            engines: vec!["rocks".to_owned()],
            ..args(good.0.clone())
        },
        "unknown engine \"rocks\"",
    );
    refuse(
        ReplayArgs {
            engines: vec!["sharded-txn".to_owned()],
            ..args(good.0.clone())
        },
        "sharded-txn",
    );
    refuse(args(good.0.with_extension("nowhere")), "cannot read the trace");
    refuse(args(bad.0.clone()), "line 2: 4 fields");
}

#[test]
fn the_tables_name_every_engine_once() {
    let file = TraceFile::new("tables", "1,1,2a,10,5\n1,2,28,10,5\n1,2,28,10,6\n");
    let engines = ["sharded", "m3", "sharded"].map(str::to_owned).to_vec();
    let mut out = Vec::new();
    let args = ReplayArgs {
        engines,
        ..args(file.0.clone())
    };
    let replays = replay_trace(&args, &mut out).expect("a good trace");
    assert_eq!(
        replays.iter().map(|replay| replay.engine).collect::<Vec<_>>(),
        ["sharded", "m3"]
    );
    let text = String::from_utf8(out).expect("text");
    assert!(
        text.contains("3 requests: 2 gets, 1 puts; 1 keys and 10 bytes at the end"),
        "{text}"
    );
    assert!(text.contains("p99.9 us"), "{text}");
    assert_eq!(text.matches("right").count(), 2, "{text}");
    assert_eq!(exit_status(&Ok(replays)), 0);
}

#[test]
fn all_stands_for_every_engine_that_can_replay() {
    let engines = engines_of(&["m3".to_owned(), "all".to_owned()]).expect("known");
    let all = [
        EngineName::M3,
        EngineName::Unlatched,
        EngineName::M3Cheap,
        EngineName::Sharded,
    ];
    assert_eq!(engines, all);
}

// Goal: the main use works on real input. Method: the recorded trace that UNLATCHED_TRACE names, on two threads; a map that
// plays its requests in order says how many keys must be there at the end.
#[test]
fn the_recorded_trace_ends_as_a_sequential_replay() {
    let Some(path) = std::env::var_os("UNLATCHED_TRACE").map(PathBuf::from) else {
        println!("skipped: no trace (set UNLATCHED_TRACE)");
        return;
    };
    let text = std::fs::read(&path).expect("UNLATCHED_TRACE names a readable file");
    let requests = parse_cloudphysics(&text).expect("UNLATCHED_TRACE names a good trace");
    let put: BTreeSet<u64> = requests
        .iter()
        .filter(|request| matches!(request.kind, RequestKind::Put))
        .map(|request| request.key)
        .collect();
    let args = ReplayArgs {
        threads: 2,
        engines: vec!["unlatched".to_owned()],
        ..args(path)
    };
    let replays = replay_trace(&args, &mut Vec::new()).expect("a good trace");
    assert!(replays[0].differences.is_none(), "{}", replays[0].differences);
    let replayed = (replays[0].gets.len() + replays[0].puts.len()) as usize;
    assert_eq!(replayed, requests.len());
    assert_eq!(replays[0].final_keys, put.len() as u64);
}
