//! What a caller does wrong gets a typed error that says what would be right, and leaves the database as it was.
#![forbid(unsafe_code)]

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use unlatched::{
    Database, Durability, Error, KVStore, KVStoreExt, MAX_KEY_BYTES, MAX_VALUE_BYTES, Result, RetryConfig, RunId,
    Timestamp, Value,
};

const RUN: RunId = RunId::from_bytes([3; 16]);

fn database() -> Database {
    let database = Database::in_memory().expect("open");
    database.put(RUN, "k", "v").expect("put");
    database
}

/// Asserts that nothing was written and nothing is held beside what [`database`] writes.
fn assert_untouched(database: &Database) {
    let stats = database.stats();
    assert_eq!((stats.commits, stats.live_versions, stats.open_snapshots), (1, 1, 0));
    assert_eq!(database.get(RUN, "k").expect("get").as_deref(), Some(&b"v"[..]));
}

/// Goal: every method that takes a key refuses one of no bytes and one that is too long, by name and with the limit.
/// Method: each method of the database, of snapshots and of transactions with both.
#[test]
fn keys_that_cannot_be_are_refused_everywhere() {
    let database = database();
    let too_long = vec![b'k'; MAX_KEY_BYTES + 1];
    for key in [&b""[..], &too_long] {
        let refused = |result: Result<()>| match result {
            Err(Error::EmptyKey) => assert!(key.is_empty()),
            Err(error @ Error::KeyTooLong { len, max }) => {
                assert_eq!((len, max), (key.len(), MAX_KEY_BYTES));
                assert!(error.to_string().contains(&MAX_KEY_BYTES.to_string()), "{error}");
            }
            other => panic!("a key of {} bytes: {other:?}", key.len()),
        };
        refused(database.put(RUN, key, "").map(drop));
        refused(database.get(RUN, key).map(drop));
        refused(database.get_with(RUN, key, |_, _| ()).map(drop));
        refused(database.get_into(RUN, key, &mut Vec::new()).map(drop));
        refused(database.delete(RUN, key).map(drop));
        refused(database.cas(RUN, key, Timestamp::ABSENT, "").map(drop));
        let snapshot = database.snapshot().expect("snapshot");
        refused(snapshot.get(RUN, key).map(drop));
        refused(snapshot.get_with(RUN, key, |_, _| ()).map(drop));
        refused(snapshot.get_many(RUN, &[&b"k"[..], key]).map(drop));
        drop(snapshot);
        refused(database.transaction(RUN, |txn| txn.get(key).map(drop)));
        refused(database.transaction(RUN, |txn| txn.exists(key).map(drop)));
        refused(database.transaction(RUN, |txn| txn.put(key, "")));
        refused(database.transaction(RUN, |txn| txn.delete(key).map(drop)));
        refused(database.transaction(RUN, |txn| txn.cas(key, Timestamp::ABSENT, "")));
    }
    assert_untouched(&database);
}

/// Goal: the limits themselves are usable: a key of the greatest length is a key like any other.
#[test]
fn the_longest_key_is_a_key() {
    let database = database();
    let longest = vec![b'k'; MAX_KEY_BYTES];
    database.put(RUN, &longest, "long").expect("put");
    assert_eq!(database.get(RUN, &longest).expect("get").as_deref(), Some(&b"long"[..]));
    let found: Vec<_> = database.snapshot().expect("snapshot").prefix(RUN, b"kk").collect();
    assert_eq!(found, [(longest.clone(), b"long".to_vec())]);
    assert!(database.delete(RUN, &longest).expect("delete"));
    database.sweep();
    assert_eq!(database.stats().live_versions, 1);
}

/// Goal: a value over the limit is refused before anything is copied. Method: zero bytes that the system need not even
/// back.
#[test]
#[cfg_attr(miri, ignore = "sets a quarter of a gigabyte aside")]
fn values_over_the_limit_are_refused_everywhere() {
    let database = database();
    let huge = vec![0; MAX_VALUE_BYTES + 1];
    let refused = |result: Result<()>| match result {
        Err(error @ Error::ValueTooLarge { len, max }) => {
            assert_eq!((len, max), (huge.len(), MAX_VALUE_BYTES));
            assert!(error.to_string().contains(&MAX_VALUE_BYTES.to_string()), "{error}");
        }
        other => panic!("{other:?}"),
    };
    refused(database.put(RUN, "k", &huge).map(drop));
    refused(database.cas(RUN, "k", Timestamp::ABSENT, &huge).map(drop));
    refused(database.transaction(RUN, |txn| txn.put("k", &huge)));
    refused(database.transaction(RUN, |txn| txn.cas("new", Timestamp::ABSENT, &huge)));
    assert_untouched(&database);
}

/// Goal: after a shutdown every method says that the database is closed; shutting down again is fine; a snapshot that
/// was open says it too, and can still be closed.
#[test]
fn after_shutdown_every_call_says_closed() {
    fn closed<T: std::fmt::Debug>(result: Result<T>) {
        assert!(matches!(result, Err(Error::Closed)), "{result:?}");
    }
    let database = Arc::new(database());
    let store = KVStore::new(Arc::clone(&database));
    let snapshot = database.snapshot().expect("snapshot");
    assert!(database.is_open());
    database.shutdown().expect("the first");
    database.shutdown().expect("the second");
    assert!(!database.is_open());

    closed(database.put(RUN, "k", "w"));
    closed(database.get(RUN, "k"));
    closed(database.get_with(RUN, "k", |_, _| ()));
    closed(database.get_into(RUN, "k", &mut Vec::new()));
    closed(database.delete(RUN, "k"));
    closed(database.cas(RUN, "k", Timestamp::ABSENT, "w"));
    closed(database.snapshot());
    closed(database.transaction(RUN, |_| Ok(())));
    closed(database.transaction_with_retry(RUN, RetryConfig::new(), |_| Ok(())));
    closed(snapshot.get(RUN, "k"));
    closed(snapshot.get_with(RUN, "k", |_, _| ()));
    closed(snapshot.get_many(RUN, &["k"]));
    drop(snapshot);

    closed(store.get(RUN, "k"));
    closed(store.put(RUN, "k", Value::Null));
    closed(store.delete(RUN, "k"));
    closed(store.exists(RUN, "k"));
    closed(store.contains(RUN, "k"));
    closed(store.get_many(RUN, &["k"]));
    closed(store.get_many_map(RUN, &["k"]));
    closed(store.list(RUN, None));
    closed(store.list_with_values(RUN, None));
    closed(store.transaction(RUN, |_| Ok(())));

    let stats = database.stats();
    assert_eq!((stats.commits, stats.live_versions, stats.open_snapshots), (1, 1, 0));
    assert!(Error::Closed.to_string().contains("open it again"));
}

/// Goal: a transaction that is running at a shutdown cannot commit after it.
#[test]
fn a_shutdown_inside_a_transaction_stops_its_commit() {
    let database = database();
    let result = database.transaction(RUN, |txn| {
        txn.put("k", "late")?;
        database.shutdown()?;
        assert!(matches!(txn.get("k"), Err(Error::Closed)));
        assert!(matches!(txn.put("k", "later"), Err(Error::Closed)));
        assert!(matches!(txn.delete("k"), Err(Error::Closed)));
        assert!(matches!(txn.cas("n", Timestamp::ABSENT, ""), Err(Error::Closed)));
        assert!(matches!(txn.scan_prefix(b""), Err(Error::Closed)));
        assert!(matches!(txn.kv_get("k"), Err(Error::Closed)));
        Ok(())
    });
    assert!(matches!(result, Err(Error::Closed)), "{result:?}");
    let stats = database.stats();
    assert_eq!((stats.commits, stats.live_versions, stats.open_snapshots), (1, 1, 0));
}

/// Goal: durability that nothing can keep is refused, also when it is merely the default, with what to call instead.
#[test]
fn durability_without_a_path_says_what_to_use() {
    let default = Database::builder().open();
    let buffered = Database::builder().durability(Durability::BUFFERED).open();
    let strict = Database::builder().durability(Durability::Strict).open();
    for result in [default, buffered, strict] {
        match result {
            Err(error @ Error::InvalidOptions(_)) => {
                let text = error.to_string();
                assert!(text.contains(".path(") && text.contains(".in_memory()"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    let database = Database::builder()
        .durability(Durability::InMemory)
        .open()
        .expect("open");
    assert_eq!(database.durability(), Durability::InMemory);
}

/// Goal: an inverted or empty range is empty from both ends, whatever its bounds, and no panic. Method: every pair of
/// kinds of bounds around existing keys.
#[test]
fn inverted_ranges_are_empty() {
    let database = database();
    for key in ["a", "m", "z"] {
        database.put(RUN, key, "").expect("put");
    }
    let snapshot = database.snapshot().expect("snapshot");
    let bounds = |key: &str| {
        [
            Bound::Included(key.as_bytes().to_vec()),
            Bound::Excluded(key.as_bytes().to_vec()),
        ]
    };
    for from in bounds("z") {
        for to in bounds("a") {
            let range = (from.clone(), to);
            assert_eq!(snapshot.range(RUN, range.clone()).next(), None);
            assert_eq!(snapshot.range(RUN, range).next_back(), None);
        }
    }
    for (from, is_included) in bounds("m").into_iter().zip([true, false]) {
        for (to, is_also_included) in bounds("m").into_iter().zip([true, false]) {
            let found = snapshot.range(RUN, (from.clone(), to)).count();
            assert_eq!(found, usize::from(is_included && is_also_included));
        }
    }
    let nothing_above = (Bound::Excluded(vec![255; 40]), Bound::Unbounded);
    assert_eq!(snapshot.range(RUN, nothing_above).count(), 0);
    assert_eq!(
        snapshot.range(RUN, Vec::new()..).count(),
        4,
        "a bound may be the empty key"
    );
}

/// Goal: a compare and swap on a key that the transaction itself has written is refused, since that write has no
/// version yet; also on one that it deleted. The transaction can go on.
#[test]
fn cas_on_an_own_write_is_an_invalid_operation() {
    let database = database();
    database
        .transaction(RUN, |txn| {
            txn.put("own", "1")?;
            assert!(txn.delete("k")?);
            for key in ["own", "k"] {
                match txn.cas(key, Timestamp::ABSENT, "2") {
                    Err(error @ Error::InvalidOperation(_)) => {
                        let text = error.to_string();
                        assert!(text.contains(key) && text.contains("use put"), "{text}");
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(txn.get("own")?.as_deref(), Some(&b"1"[..]));
            Ok(())
        })
        .expect("commit");
    assert_eq!(database.get(RUN, "own").expect("get").as_deref(), Some(&b"1"[..]));
}

/// Goal: a wrong expectation names the key, what was expected and what was found, outside of transactions and inside.
#[test]
fn a_mismatch_tells_both_versions() {
    let database = database();
    let actual = database
        .get_with(RUN, "k", |_, ts| ts)
        .expect("get")
        .expect("it exists");
    let wrong = Timestamp::from_raw(actual.get() + 1);
    let check = |result: Result<()>, told: (&str, Timestamp, Timestamp)| match result {
        Err(error @ Error::VersionMismatch { expected, actual, .. }) => {
            assert!(!error.is_retryable());
            let key = error.key().expect("it names its key").user_key();
            assert_eq!((key, expected, actual), (told.0.as_bytes(), told.1, told.2));
        }
        other => panic!("{other:?}"),
    };
    check(database.cas(RUN, "k", wrong, "").map(drop), ("k", wrong, actual));
    let absent = Timestamp::ABSENT;
    check(database.cas(RUN, "none", wrong, "").map(drop), ("none", wrong, absent));
    check(database.cas(RUN, "k", absent, "").map(drop), ("k", absent, actual));
    check(
        database.transaction(RUN, |txn| txn.cas("k", wrong, "")),
        ("k", wrong, actual),
    );
    check(
        database.transaction(RUN, |txn| txn.cas("none", wrong, "")),
        ("none", wrong, absent),
    );
    assert_untouched(&database);
}

/// Goal: no string of bytes makes the decoder of values panic or ask for memory that is not there. Method: every prefix
/// of a good value, every byte of it replaced, and texts that claim absurd lengths.
#[test]
fn garbage_is_no_value_but_an_error() {
    let entries = [("a".to_owned(), Value::from(vec![Value::Null, Value::from("text")]))];
    let value = Value::Array(vec![
        Value::from(1.5),
        Value::from(true),
        Value::from(-7),
        Value::from(vec![1_u8, 2]),
        Value::Map(entries.into_iter().collect()),
    ]);
    let mut good = vec![0; value.encoded_len()];
    value.encode(&mut good);
    assert_eq!(Value::decode(&good).expect("it was encoded"), value);
    let mut longer = good.clone();
    longer.push(0);
    let typed = |bytes: &[u8]| match Value::decode(bytes) {
        Ok(_) => true,
        Err(Error::InvalidValue { offset, .. }) => {
            assert!(offset <= bytes.len());
            false
        }
        Err(other) => panic!("{other}"),
    };
    assert!(!typed(&longer), "bytes after the value");
    for length in 0..good.len() {
        assert!(!typed(&good[..length]), "a value cut off after {length} bytes");
    }
    for at in 0..good.len() {
        for byte in 0..=u8::MAX {
            let mut bad = good.clone();
            bad[at] = byte;
            typed(&bad);
        }
    }
    for tag in 0..=u8::MAX {
        typed(&[&[tag][..], &[255; 16]].concat());
        typed(&[&[tag][..], &[0; 16]].concat());
    }
}

/// Goal: a panic inside a closure leaves the database usable, nothing of the transaction seen, its snapshot closed and
/// its thread unpinned, so that what is retired later is freed. Method: panics in each kind of closure, caught; then
/// ordinary work.
#[test]
fn a_panic_in_a_closure_leaves_the_database_usable() {
    let database = database();
    let panics = |body: &dyn Fn()| {
        let result = catch_unwind(AssertUnwindSafe(body));
        assert!(result.is_err(), "the panic goes on to the caller");
    };
    for _ in 0..3 {
        panics(&|| {
            let _ = database.transaction(RUN, |txn| -> Result<()> {
                txn.put("k", "never seen")?;
                txn.put("new", "never seen")?;
                panic!("in a transaction");
            });
        });
        panics(&|| {
            let _ = database.transaction_with_retry(RUN, RetryConfig::new(), |txn| -> Result<()> {
                txn.delete("k")?;
                panic!("in a retried transaction");
            });
        });
        panics(&|| drop(database.get_with(RUN, "k", |_, _| panic!("in a read"))));
        panics(&|| {
            let snapshot = database.snapshot().expect("snapshot");
            let _ = snapshot.get_with(RUN, "k", |_, _| panic!("in a snapshot's read"));
        });
        panics(&|| {
            let snapshot = database.snapshot().expect("snapshot");
            let mut seen = 0;
            for _ in snapshot.range(RUN, ..) {
                seen += 1;
                assert_ne!(seen, 1, "in a scan");
            }
        });
    }
    assert_untouched(&database);
    for number in 0..2_000_u32 {
        database.put(RUN, "k", number.to_be_bytes()).expect("put");
    }
    database.sweep();
    let stats = database.stats();
    assert_eq!((stats.live_versions, stats.open_snapshots), (1, 0));
    assert!(stats.pending_versions < 1_000, "this thread is still pinned: {stats:?}");
    database.transaction(RUN, |txn| txn.put("new", "seen")).expect("commit");
    assert_eq!(database.get(RUN, "new").expect("get").as_deref(), Some(&b"seen"[..]));
}

/// Goal: closures may use the database themselves: reads inside reads, writes of the very key that is being read,
/// transactions inside transactions.
#[test]
fn closures_may_use_the_database() {
    let database = database();
    let seen = database.get_with(RUN, "k", |outer, _| {
        for number in 0..500_u32 {
            database.put(RUN, "k", number.to_be_bytes()).expect("put");
        }
        database.sweep();
        database.transaction(RUN, |txn| txn.put("k", "w")).expect("commit");
        let inner = database.get(RUN, "k").expect("get");
        (outer.to_vec(), inner.expect("it exists"))
    });
    let (outer, inner) = seen.expect("get").expect("it exists");
    assert_eq!((outer.as_slice(), inner.as_slice()), (&b"v"[..], &b"w"[..]));
}
