//! Keys at the limits of every place where they are kept, and databases by the dozen.
//!
//! Several threads put, delete and sweep; afterwards everything is compared with what a sorted list says.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ops::Bound;
use std::sync::Arc;
use std::thread;
use unlatched::{Database, RunId};
const RUN: RunId = RunId::from_bytes([255; 16]);

/// Goal: keys of lengths around each limit, full of zeros or of 255s and beginnings of each other, are told apart by gets,
/// scans and prefixes. Method: three threads change them all; then each is put and every range is compared.
#[test]
fn keys_at_every_limit_are_told_apart() {
    let db = Arc::new(Database::in_memory().unwrap());
    let mut keys = vec![];
    for len in [1usize, 27, 28, 29, 30, 46, 47, 48, 65_518, 65_519] {
        for fill in [0u8, 1, 255] {
            for last in [0u8, 1, 254, 255] {
                let mut k = vec![fill; len];
                *k.last_mut().unwrap() = last;
                keys.push(k);
            }
        }
    }
    keys.sort();
    keys.dedup();
    let hs: Vec<_> = (0..3usize)
        .map(|t| {
            let (db, keys) = (Arc::clone(&db), keys.clone());
            thread::spawn(move || {
                for round in 0..20 {
                    for (i, k) in keys.iter().enumerate() {
                        if (i + round) % 3 == t {
                            db.put(RUN, k, &i.to_le_bytes()[..i % 9]).unwrap();
                        } else {
                            let _ = db.delete(RUN, k);
                        }
                    }
                    db.sweep();
                }
            })
        })
        .collect();
    hs.into_iter().for_each(|h| h.join().unwrap());
    for (i, k) in keys.iter().enumerate() {
        db.put(RUN, k, i.to_le_bytes()).unwrap();
    }
    let s = db.snapshot().unwrap();
    assert!(s.range(RUN, ..).map(|r| r.0).eq(keys.iter().cloned()));
    assert!(s.range(RUN, ..).rev().map(|r| r.0).eq(keys.iter().rev().cloned()));
    for (i, k) in keys.iter().enumerate() {
        assert_eq!(db.get(RUN, k).unwrap().unwrap(), i.to_le_bytes());
        assert!(
            s.range(RUN, (Bound::Excluded(k.clone()), Bound::Unbounded))
                .map(|r| r.0)
                .eq(keys[i + 1..].iter().cloned())
        );
        assert!(
            s.range(RUN, (Bound::Unbounded, Bound::Included(k.clone())))
                .rev()
                .map(|r| r.0)
                .eq(keys[..=i].iter().rev().cloned())
        );
        let p: Vec<_> = keys.iter().filter(|x| x.starts_with(k)).cloned().collect();
        assert!(s.prefix(RUN, k).map(|r| r.0).eq(p));
    }
    let long = vec![255u8; 100_000];
    assert_eq!(s.range(RUN, long.clone()..).count(), 0);
    assert_eq!(s.range(RUN, ..long).count(), keys.len());
    std::mem::forget(db.snapshot().unwrap());
    assert_eq!(db.stats().open_snapshots, 2);
}

/// Goal: a thread may use more databases than it finds at once, one from within another. Method: threads go around forty of
/// them, and write to five from the closures of their reads.
#[test]
fn a_thread_may_use_many_databases() {
    let dbs: Vec<_> = (0..40).map(|_| Database::in_memory().unwrap()).collect();
    thread::scope(|s| {
        for t in 0..3u64 {
            let dbs = &dbs;
            s.spawn(move || {
                for i in 0..5_000u64 {
                    let d = &dbs[(i * 7 + t) as usize % 40];
                    d.get_with(RUN, "k", |_, _| {
                        for e in &dbs[..5] {
                            e.put(RUN, "k", "w").unwrap();
                        }
                    })
                    .unwrap();
                    d.put(RUN, "k", "v").unwrap();
                    if i % 5 == 0 {
                        d.delete(RUN, "k").unwrap();
                    }
                }
            });
        }
    });
}
