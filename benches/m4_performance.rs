//! One operation at each layer, one thread: floor, storage (A0), engine, key-value facade (A1), transaction (B),
//! snapshot.
//!
//! `cargo bench --bench m4_performance`; to keep a baseline, add `-- --save-baseline NAME`.
#![allow(missing_docs, reason = "criterion's macros make items without any")]

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crossbeam_skiplist::base::SkipList;
use rustc_hash::FxHashMap;
use unlatched::{KVStoreExt, Value};

use support::{RUN, Visits, database, keys, order, storage};

const SIZES: [usize; 2] = [1_000, 100_000];

fn floors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("floor");
    for size in SIZES {
        let (keys, order) = (keys(size), order(size));
        let list = SkipList::new(crossbeam_epoch::default_collector().clone());
        let mut map: FxHashMap<&str, u64> = FxHashMap::default();
        for key in &keys {
            let guard = crossbeam_epoch::pin();
            let inline: [u8; 24] = key.as_bytes().try_into().expect("keys have 24 bytes");
            list.insert(inline, 0_u64, &guard).release(&guard);
            map.insert(key, 0);
        }
        let inline: Vec<[u8; 24]> = keys
            .iter()
            .map(|key| key.as_bytes().try_into().expect("24 bytes"))
            .collect();
        let mut visits = Visits::new(&order);
        group.bench_function(BenchmarkId::new("skiplist_get", size), |bencher| {
            bencher.iter(|| {
                let guard = crossbeam_epoch::pin();
                list.get(&inline[visits.next()], &guard).map(|entry| *entry.value())
            });
        });
        group.bench_function(BenchmarkId::new("hash_map_overwrite", size), |bencher| {
            bencher.iter(|| *map.get_mut(keys[visits.next()].as_str()).expect("preloaded") += 1);
        });
    }
    group.finish();
}

fn layers(criterion: &mut Criterion) {
    for size in SIZES {
        let (keys, order) = (keys(size), order(size));
        let mut visits = Visits::new(&order);
        let (store, encoded) = storage(&keys);
        let mut group = criterion.benchmark_group("storage");
        group.bench_function(BenchmarkId::new("put", size), |bencher| {
            bencher.iter(|| store.put(&encoded[visits.next()], &7_u64.to_le_bytes()));
        });
        group.bench_function(BenchmarkId::new("get", size), |bencher| {
            bencher.iter(|| store.get_with(&encoded[visits.next()], |value, _| value[0]));
        });
        group.finish();
        drop(store);

        let (database, view) = database(&keys, &RUN);
        let mut group = criterion.benchmark_group("engine");
        group.bench_function(BenchmarkId::new("put_direct", size), |bencher| {
            bencher.iter(|| database.put(RUN, &keys[visits.next()], 7_u64.to_le_bytes()));
        });
        let mut buffer = Vec::with_capacity(8);
        group.bench_function(BenchmarkId::new("get_direct", size), |bencher| {
            bencher.iter(|| database.get_into(RUN, &keys[visits.next()], &mut buffer));
        });
        group.finish();

        let mut group = criterion.benchmark_group("kvstore");
        group.bench_function(BenchmarkId::new("put", size), |bencher| {
            bencher.iter(|| view.put(RUN, &keys[visits.next()], Value::I64(7)));
        });
        group.bench_function(BenchmarkId::new("get", size), |bencher| {
            bencher.iter(|| black_box(view.get(RUN, &keys[visits.next()])));
        });
        group.finish();

        let mut group = criterion.benchmark_group("transaction");
        group.bench_function(BenchmarkId::new("put", size), |bencher| {
            bencher.iter(|| database.transaction(RUN, |txn| txn.kv_put(&keys[visits.next()], Value::I64(7))));
        });
        group.bench_function(BenchmarkId::new("snapshot", size), |bencher| {
            bencher.iter(|| black_box(database.snapshot()));
        });
        group.finish();
    }
}

criterion_group!(benches, floors, layers);
criterion_main!(benches);
