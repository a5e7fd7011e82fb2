//! `experiments replay`: does the engine stand a recorded workload, and how fast is each engine on it?
//!
//! Method: the requests of a trace become gets and puts of one run, as fast as they go (recorded times are
//! ignored). With several threads each key belongs to one of them, so that the requests of a key keep their order,
//! every get has one right answer, and the final state is that of a sequential replay, which is made beside it into
//! a plain ordered map. Each get is checked for length and beginning as it comes, outside its timed part; the final
//! state is checked for every key and every byte, by a scan and by point reads. Engines are replayed one after
//! another, each twice from an empty store: the first pass only warms up, or whoever comes first would pay for
//! fetching gigabytes from the system and look slow. It is checked all the same.
//!
//! ```text
//! experiments replay --format cloudphysics PATH [--threads N] [--engine NAME]... [--seed S]
//! ```
//!
//! Exit status: 0 if every state is right, 1 if one is wrong or an engine refused a request, 3 on bad input.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use unlatched::RunId;

use crate::engines::bytes::ByteEngine;
use crate::engines::locked::{M3, M3Cheap};
use crate::engines::sharded::Sharded;
use crate::engines::unlatched::Unlatched;
use crate::engines::{EngineError, EngineName, UnknownEngine};
use crate::harness::clock::TickClock;
use crate::harness::threads::{Plan, Work, run as run_threads};
use crate::workload::drive::latency_histogram;
use crate::workload::random::split_mix;
use crate::workload::run_id;
use crate::workload::trace::{Contents, Request, RequestKind, TraceError, parse_cloudphysics};

/// The one trace format so far.
pub const CLOUDPHYSICS: &str = "cloudphysics";

/// Most threads that a replay takes: far beyond any use, so that a slip of the hand does not exhaust the machine.
pub const MAX_THREADS: usize = 1_024;

/// How much of a got value is compared at once; the rest is compared in the final state.
const HEAD_BYTES: usize = 16;

/// Replays a recorded trace as gets and puts, and checks what it leaves.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Format of the trace; "cloudphysics" is CSV with version,time,op,size,lbn.
    #[arg(long, default_value = CLOUDPHYSICS)]
    pub format: String,

    /// The trace.
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// Threads that share the requests, each key belonging to one of them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,

    /// Engine to replay on: unlatched, m3, m3-cheap, sharded or all; may be given several times.
    #[arg(long = "engine", value_name = "NAME", default_value = "unlatched")]
    pub engines: Vec<String>,

    /// Seed of what the puts write.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
}

/// Why a replay did not come to a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// No such format.
    #[error("unknown trace format \"{0}\"; the format is cloudphysics")]
    UnknownFormat(String),
    /// A number of threads that can't be.
    #[error("{0} threads cannot replay; give --threads a number from 1 to {MAX_THREADS}")]
    Threads(usize),
    /// No such engine.
    #[error(transparent)]
    UnknownEngine(#[from] UnknownEngine),
    /// An engine without single operations.
    #[error(
        "{0} clones its store for every request and is no engine to replay on; use unlatched, m3, m3-cheap or sharded"
    )]
    NotReplayable(EngineName),
    /// The trace can't be read.
    #[error("cannot read the trace {}: {source}", path.display())]
    Unreadable {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The trace is no trace.
    #[error("{}: {source}", path.display())]
    Trace {
        /// Which file.
        path: PathBuf,
        /// Which line, and why.
        source: TraceError,
    },
    /// An engine refused a request: a defect, since every request is legal.
    #[error("{engine} refused a request: {source}")]
    Engine {
        /// Which engine.
        engine: &'static str,
        /// What it said.
        source: EngineError,
    },
    /// The result can't be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] std::io::Error),
}

impl ReplayError {
    /// Returns the exit status that this error ends the command with.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Engine { .. } => 1,
            _ => 3,
        }
    }
}

/// How a replay's final state, and what its gets saw, differ from the sequential replay's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Gets that saw another value than the last one put, or one where there is none.
    pub wrong_gets: u64,
    /// Keys with another value.
    pub wrong_values: u64,
    /// Keys that are missing.
    pub missing_keys: u64,
    /// Keys that were never put.
    pub foreign_keys: u64,
}

impl Differences {
    /// Says whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Differences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_none() {
            return f.write_str("right");
        }
        write!(
            f,
            "WRONG: {} gets, {} values, {} keys missing, {} keys too many",
            self.wrong_gets, self.wrong_values, self.missing_keys, self.foreign_keys
        )
    }
}

/// What one engine made of a trace.
#[derive(Clone, Debug)]
pub struct EngineReplay {
    /// The engine's name.
    pub engine: &'static str,
    /// From the common start to the end of the last thread.
    pub elapsed: Duration,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Bytes got and put per second.
    pub bytes_per_second: f64,
    /// Times of gets in nanoseconds.
    pub gets: Histogram<u64>,
    /// Times of puts in nanoseconds.
    pub puts: Histogram<u64>,
    /// Keys at the end.
    pub final_keys: u64,
    /// Bytes of all values at the end.
    pub final_bytes: u64,
    /// How it differs from a sequential replay.
    pub differences: Differences,
}

/// A trace with what its replay must lead to.
#[derive(Debug)]
pub struct Trace {
    requests: Vec<Request>,
    contents: Contents,
    /// Of each request that is a get, the number of the put whose value it must see.
    answers: Vec<Option<u32>>,
    /// The final state: of each key, the number of the put that wrote it last.
    last_puts: BTreeMap<u64, u32>,
}

impl Trace {
    /// Replays requests into an ordered map, in their order; the map holds the numbers of the puts, which stand for
    /// their contents.
    ///
    /// # Panics
    ///
    /// If there are more than `u32::MAX` requests.
    #[must_use]
    pub fn new(requests: Vec<Request>, seed: u64) -> Self {
        let largest = requests.iter().map(|request| request.size).max().unwrap_or(0);
        let mut last_puts = BTreeMap::new();
        let mut answers = Vec::with_capacity(requests.len());
        for (number, request) in requests.iter().enumerate() {
            answers.push(last_puts.get(&request.key).copied());
            if request.kind == RequestKind::Put {
                last_puts.insert(request.key, u32::try_from(number).expect("at most u32::MAX requests"));
            }
        }
        Self {
            contents: Contents::new(seed, largest as usize),
            requests,
            answers,
            last_puts,
        }
    }

    /// Returns what request `number` writes.
    fn written_by(&self, number: u32) -> &[u8] {
        self.contents.of(number as usize, self.requests[number as usize].size)
    }

    /// Says whether a get's result is right, as far as it is looked at then.
    fn is_answer(&self, number: usize, found: bool, value: &[u8]) -> bool {
        match self.answers[number] {
            None => !found,
            Some(put) => {
                let expected = self.written_by(put);
                let head = expected.len().min(HEAD_BYTES);
                found && value.len() == expected.len() && value[..head] == expected[..head]
            }
        }
    }

    fn count(&self, kind: RequestKind) -> usize {
        self.requests.iter().filter(|request| request.kind == kind).count()
    }

    /// Bytes that the gets return and the puts take, all together.
    fn bytes_moved(&self) -> u64 {
        let moved = |(number, request): (usize, &Request)| match request.kind {
            RequestKind::Put => request.size,
            RequestKind::Get => self.answers[number].map_or(0, |put| self.requests[put as usize].size),
        };
        self.requests
            .iter()
            .enumerate()
            .map(|item| u64::from(moved(item)))
            .sum()
    }

    /// Replays twice, each time on an empty engine of type `E`, and returns the checked outcome of the second time,
    /// or of the first if that was wrong.
    ///
    /// # Errors
    ///
    /// Returns [`ReplayError::Engine`] if the engine refuses anything.
    pub fn replay<E: ByteEngine>(&self, threads: NonZeroUsize, clock: &TickClock) -> Result<EngineReplay, ReplayError> {
        let warm_up = self.replay_once::<E>(threads, clock)?;
        if warm_up.differences.is_none() {
            self.replay_once::<E>(threads, clock)
        } else {
            Ok(warm_up)
        }
    }

    fn replay_once<E: ByteEngine>(
        &self,
        threads: NonZeroUsize,
        clock: &TickClock,
    ) -> Result<EngineReplay, ReplayError> {
        let refused = |source| ReplayError::Engine {
            engine: E::NAME,
            source,
        };
        let engine = E::open().map_err(refused)?;
        let run = run_id(0, 0);
        let shares = self.shares(threads);
        // One operation of the slice is a thread's whole share.
        let outcome = run_threads(&Plan::counted(1), threads, |thread| {
            Ok::<_, EngineError>(Share {
                engine: &engine,
                trace: self,
                run,
                clock: clock.clone(),
                mine: &shares[thread],
                report: ShareReport::new(),
            })
        })
        .map_err(refused)?;
        let elapsed = outcome
            .threads
            .iter()
            .map(|thread| thread.elapsed)
            .max()
            .unwrap_or_default();
        let mut total = ShareReport::new();
        for thread in outcome.threads {
            total.add(thread.report).map_err(refused)?;
        }
        let mut replay = EngineReplay {
            engine: E::NAME,
            elapsed,
            requests_per_second: self.requests.len() as f64 / elapsed.as_secs_f64(),
            bytes_per_second: self.bytes_moved() as f64 / elapsed.as_secs_f64(),
            gets: total.gets,
            puts: total.puts,
            final_keys: 0,
            final_bytes: 0,
            differences: Differences {
                wrong_gets: total.wrong_gets,
                ..Differences::default()
            },
        };
        self.check_final_state(&engine, &run, &mut replay).map_err(refused)?;
        Ok(replay)
    }

    /// Gives every request to the thread that owns its key, in order.
    fn shares(&self, threads: NonZeroUsize) -> Vec<Vec<u32>> {
        let mut shares = vec![Vec::new(); threads.get()];
        for (number, request) in (0_u32..).zip(&self.requests) {
            shares[split_mix(request.key) as usize % threads].push(number);
        }
        shares
    }

    fn check_final_state<E: ByteEngine>(
        &self,
        engine: &E,
        run: &RunId,
        replay: &mut EngineReplay,
    ) -> Result<(), EngineError> {
        let mut right_keys = 0;
        engine.visit(run, &mut |key, value| {
            replay.final_keys += 1;
            replay.final_bytes += value.len() as u64;
            let put = key
                .try_into()
                .ok()
                .and_then(|key| self.last_puts.get(&u64::from_be_bytes(key)));
            match put {
                None => replay.differences.foreign_keys += 1,
                Some(&put) => {
                    right_keys += 1;
                    replay.differences.wrong_values += u64::from(self.written_by(put) != value);
                }
            }
            ControlFlow::Continue(())
        })?;
        replay.differences.missing_keys = (self.last_puts.len() as u64).saturating_sub(right_keys);
        // The scan and the point reads are different paths: the state must be the same by either.
        let mut buffer = Vec::new();
        for (key, &put) in &self.last_puts {
            let found = engine.get_bytes(run, &key.to_be_bytes(), &mut buffer)?;
            replay.differences.wrong_gets += u64::from(!found || self.written_by(put) != buffer);
        }
        Ok(())
    }
}

/// One thread's requests.
struct Share<'a, E> {
    engine: &'a E,
    trace: &'a Trace,
    run: RunId,
    clock: TickClock,
    mine: &'a [u32],
    report: ShareReport,
}

struct ShareReport {
    gets: Histogram<u64>,
    puts: Histogram<u64>,
    wrong_gets: u64,
    error: Option<EngineError>,
}

impl ShareReport {
    fn new() -> Self {
        Self {
            gets: latency_histogram(),
            puts: latency_histogram(),
            wrong_gets: 0,
            error: None,
        }
    }

    fn add(&mut self, other: Self) -> Result<(), EngineError> {
        if let Some(error) = other.error {
            return Err(error);
        }
        // All histograms have the same bounds, so adding cannot fail.
        self.gets.add(&other.gets).expect("same bounds");
        self.puts.add(&other.puts).expect("same bounds");
        self.wrong_gets += other.wrong_gets;
        Ok(())
    }
}

impl<E: ByteEngine> Share<'_, E> {
    fn replay(&mut self) -> Result<(), EngineError> {
        let mut buffer = Vec::new();
        for &number in self.mine {
            let request = self.trace.requests[number as usize];
            let key = request.key.to_be_bytes();
            match request.kind {
                RequestKind::Get => {
                    let from = self.clock.ticks();
                    let found = self.engine.get_bytes(&self.run, &key, &mut buffer)?;
                    let to = self.clock.ticks();
                    self.report
                        .gets
                        .saturating_record(self.clock.nanoseconds(from, to).max(1));
                    let right = self.trace.is_answer(number as usize, found, &buffer);
                    self.report.wrong_gets += u64::from(!right);
                }
                RequestKind::Put => {
                    let value = self.trace.written_by(number);
                    let from = self.clock.ticks();
                    self.engine.put_bytes(&self.run, &key, value)?;
                    let to = self.clock.ticks();
                    self.report
                        .puts
                        .saturating_record(self.clock.nanoseconds(from, to).max(1));
                }
            }
        }
        Ok(())
    }
}

impl<E: ByteEngine> Work for Share<'_, E> {
    type Report = ShareReport;

    fn run(&mut self, _: u64) {
        self.report.error = self.replay().err();
    }

    fn finish(self) -> ShareReport {
        self.report
    }
}

/// Runs the command; results go to standard output, errors to standard error.
#[must_use]
pub fn run(args: &ReplayArgs) -> ExitCode {
    let outcome = replay_trace(args, &mut std::io::stdout().lock());
    if let Err(error) = &outcome {
        eprintln!("error: {error}");
    }
    ExitCode::from(exit_status(&outcome))
}

fn exit_status(outcome: &Result<Vec<EngineReplay>, ReplayError>) -> u8 {
    match outcome {
        Ok(replays) if replays.iter().all(|replay| replay.differences.is_none()) => 0,
        Ok(_) => 1,
        Err(error) => error.exit_status(),
    }
}

/// Replays the trace on every engine asked for and writes the tables to `out`.
///
/// # Errors
///
/// Returns bad input before anything is replayed, and what an engine refused. A wrong final state is no error but
/// part of the result.
pub fn replay_trace(args: &ReplayArgs, out: &mut dyn Write) -> Result<Vec<EngineReplay>, ReplayError> {
    if args.format != CLOUDPHYSICS {
        return Err(ReplayError::UnknownFormat(args.format.clone()));
    }
    let threads = NonZeroUsize::new(args.threads)
        .filter(|threads| threads.get() <= MAX_THREADS)
        .ok_or(ReplayError::Threads(args.threads))?;
    let engines = engines_of(&args.engines)?;
    let path = || args.path.clone();
    let text = std::fs::read(&args.path).map_err(|source| ReplayError::Unreadable { path: path(), source })?;
    let requests = parse_cloudphysics(&text).map_err(|source| ReplayError::Trace { path: path(), source })?;
    drop(text);
    let trace = Trace::new(requests, args.seed);
    let clock = TickClock::new();
    write_heading(out, &trace, args, &clock)?;
    let mut replays = Vec::with_capacity(engines.len());
    for engine in engines {
        replays.push(match engine {
            EngineName::Unlatched => trace.replay::<Unlatched>(threads, &clock)?,
            EngineName::M3 => trace.replay::<M3>(threads, &clock)?,
            EngineName::M3Cheap => trace.replay::<M3Cheap>(threads, &clock)?,
            EngineName::Sharded => trace.replay::<Sharded>(threads, &clock)?,
            EngineName::ShardedTxn => return Err(ReplayError::NotReplayable(engine)),
        });
    }
    write_tables(out, &replays)?;
    Ok(replays)
}

/// Reads the engines' names: each once, in the order given; `all` stands for all that can replay.
fn engines_of(names: &[String]) -> Result<Vec<EngineName>, ReplayError> {
    let mut engines = Vec::new();
    for name in names {
        let named = match name.as_str() {
            "all" => EngineName::ALL
                .into_iter()
                .filter(|engine| *engine != EngineName::ShardedTxn)
                .collect(),
            name => vec![name.parse::<EngineName>()?],
        };
        for engine in named {
            if engine == EngineName::ShardedTxn {
                return Err(ReplayError::NotReplayable(engine));
            }
            if !engines.contains(&engine) {
                engines.push(engine);
            }
        }
    }
    Ok(engines)
}

fn write_heading(out: &mut dyn Write, trace: &Trace, args: &ReplayArgs, clock: &TickClock) -> std::io::Result<()> {
    writeln!(
        out,
        "{} requests: {} gets, {} puts; {} keys and {} bytes at the end; threads {}, seed {}",
        trace.requests.len(),
        trace.count(RequestKind::Get),
        trace.count(RequestKind::Put),
        trace.last_puts.len(),
        trace
            .last_puts
            .values()
            .map(|&put| trace.written_by(put).len() as u64)
            .sum::<u64>(),
        args.threads,
        args.seed,
    )?;
    writeln!(
        out,
        "closed loop, second of two passes; each request timed by the {} ({:.0} ns, not subtracted)",
        clock.source(),
        clock.cost_ns()
    )
}

fn write_tables(out: &mut dyn Write, replays: &[EngineReplay]) -> std::io::Result<()> {
    let mut states = table(&[
        "engine",
        "seconds",
        "requests/s",
        "MB/s",
        "final keys",
        "final bytes",
        "final state",
    ]);
    let mut times = table(&["engine", "operation", "count", "p50 us", "p99 us", "p99.9 us", "max us"]);
    for replay in replays {
        states.add_row([
            replay.engine.to_owned(),
            format!("{:.3}", replay.elapsed.as_secs_f64()),
            format!("{:.0}", replay.requests_per_second),
            format!("{:.1}", replay.bytes_per_second / 1e6),
            replay.final_keys.to_string(),
            replay.final_bytes.to_string(),
            replay.differences.to_string(),
        ]);
        for (operation, histogram) in [("get", &replay.gets), ("put", &replay.puts)] {
            let microseconds = |nanoseconds: u64| format!("{:.2}", nanoseconds as f64 / 1e3);
            times.add_row([
                replay.engine.to_owned(),
                operation.to_owned(),
                histogram.len().to_string(),
                microseconds(histogram.value_at_quantile(0.5)),
                microseconds(histogram.value_at_quantile(0.99)),
                microseconds(histogram.value_at_quantile(0.999)),
                microseconds(histogram.max()),
            ]);
        }
    }
    for (table, text_columns) in [(&mut states, &[0, 6][..]), (&mut times, &[0, 1][..])] {
        for (index, column) in table.column_iter_mut().enumerate() {
            if !text_columns.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "\n{table}")?;
    }
    Ok(())
}

fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(heading);
    table
}

#[cfg(test)]
mod tests;
