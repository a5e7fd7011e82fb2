//! Puts by several threads: disjoint runs, and one key for all.
//!
//! `cargo bench --bench m4_contention`. The time given is that of one round in which every thread makes [`PUTS`] puts.
//! Thread counts beyond the machine's processors are left out: they would measure the scheduler.
#![allow(missing_docs, reason = "criterion's macros make items without any")]

mod support;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unlatched::{Database, KVStore, RunId, Value};

use support::{RUN, keys, order, preload};

/// Keys in each run.
const KEYS: usize = 10_000;
/// Puts of each thread in a round.
const PUTS: usize = 5_000;

/// Times `rounds` rounds in which each thread calls `put` with its number and the number of the put.
fn rounds(threads: usize, rounds: u64, put: impl Fn(usize, usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads + 1);
    let mut total = Duration::ZERO;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, put) = (&barrier, &put);
            scope.spawn(move || {
                for _ in 0..rounds {
                    barrier.wait();
                    for number in 0..PUTS {
                        put(thread, number);
                    }
                    barrier.wait();
                }
            });
        }
        for _ in 0..rounds {
            barrier.wait();
            let start = Instant::now();
            barrier.wait();
            total += start.elapsed();
        }
    });
    total
}

fn contention(criterion: &mut Criterion) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (keys, order) = (keys(KEYS), order(KEYS));
    let database = std::sync::Arc::new(Database::in_memory().expect("in memory nothing can fail"));
    let view = KVStore::new(std::sync::Arc::clone(&database));
    let runs: Vec<RunId> = (0..16).map(|number| RunId::from_bytes([number; 16])).collect();
    let mut group = criterion.benchmark_group("contention");
    for threads in [1, 2, 4, 8, 16].into_iter().filter(|threads| *threads <= processors) {
        for run in &runs[..threads] {
            preload(&database, &view, &keys, run);
        }
        group.throughput(Throughput::Elements((threads * PUTS) as u64));
        group.bench_function(BenchmarkId::new("disjoint_put", threads), |bencher| {
            bencher.iter_custom(|count| {
                rounds(threads, count, |thread, number| {
                    let key = &keys[order[(number * 7 + thread) & (order.len() - 1)]];
                    view.put(runs[thread], key, Value::I64(number as i64))
                        .expect("the database is open");
                })
            });
        });
        group.bench_function(BenchmarkId::new("same_key_put", threads), |bencher| {
            bencher.iter_custom(|count| {
                rounds(threads, count, |_, number| {
                    view.put(RUN, &keys[0], Value::I64(number as i64))
                        .expect("the database is open");
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, contention);
criterion_main!(benches);
