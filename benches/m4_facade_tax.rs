//! What each layer adds to the same put: storage (A0), engine, facade (A1), explicit transaction (B), on one size.
//!
//! `cargo bench --bench m4_facade_tax`. The ratios that the checklist asks for are judged by `experiments gates --only
//! 4`, which interleaves the layers; here they stand side by side in one group.
#![allow(missing_docs, reason = "criterion's macros make items without any")]

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use unlatched::{KVStoreExt, Value};

use support::{RUN, Visits, database, keys, order, storage};

fn facade_tax(criterion: &mut Criterion) {
    let size = 100_000;
    let (keys, order) = (keys(size), order(size));
    let mut visits = Visits::new(&order);
    let (store, encoded) = storage(&keys);
    let (database, view) = database(&keys, &RUN);
    let mut group = criterion.benchmark_group("facade_tax");
    group.bench_function("a0_storage_put", |bencher| {
        bencher.iter(|| store.put(&encoded[visits.next()], &7_u64.to_le_bytes()));
    });
    group.bench_function("engine_put_direct", |bencher| {
        bencher.iter(|| database.put(RUN, &keys[visits.next()], 7_u64.to_le_bytes()));
    });
    group.bench_function("a1_kvstore_put", |bencher| {
        bencher.iter(|| view.put(RUN, &keys[visits.next()], Value::I64(7)));
    });
    group.bench_function("b_transaction_put", |bencher| {
        bencher.iter(|| database.transaction(RUN, |txn| txn.kv_put(&keys[visits.next()], Value::I64(7))));
    });
    group.finish();
}

criterion_group!(benches, facade_tax);
criterion_main!(benches);
