//! The key-value view from outside: names of any script, lists in order, many reads of one moment, and its two ways
//! into a transaction.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use unlatched::{Database, Error, KVStore, KVStoreExt, Result, RetryConfig, RunId, Value};

const RUN: RunId = RunId::from_bytes([2; 16]);
const OTHER_RUN: RunId = RunId::from_bytes([3; 16]);

fn store() -> (Arc<Database>, KVStore) {
    let database = Arc::new(Database::in_memory().expect("open"));
    let store = KVStore::new(Arc::clone(&database));
    (database, store)
}

fn put_all(store: &KVStore, names: &[&str]) {
    for (number, name) in names.iter().enumerate() {
        store.put(RUN, name, Value::from(number as i64)).expect("put");
    }
}

/// Goal: a value comes back as it went in, whatever its kind, depth and size, and the last put wins. Method: one of
/// each, put over one another under one name and under names of their own.
#[test]
fn values_of_every_kind_come_back() {
    let (_, store) = store();
    let nested = HashMap::from([
        ("empty".to_owned(), Value::Map(HashMap::new())),
        (
            "list".to_owned(),
            Value::from(vec![Value::Null, Value::from(vec![Value::from(-1)])]),
        ),
        (String::new(), Value::from("the empty name is a name inside a map")),
    ]);
    let values = [
        Value::Null,
        Value::from(false),
        Value::from(i64::MAX),
        Value::from(f64::NEG_INFINITY),
        Value::from(""),
        Value::from("Ελληνικά 🦀"),
        Value::from(Vec::<u8>::new()),
        Value::from(vec![7_u8; 10_000]),
        Value::Array(Vec::new()),
        Value::from(nested),
    ];
    for (number, value) in values.iter().enumerate() {
        store.put(RUN, "one name", value.clone()).expect("put");
        assert_eq!(store.get(RUN, "one name").expect("get").as_ref(), Some(value));
        store.put(RUN, &number.to_string(), value.clone()).expect("put");
    }
    for (number, value) in values.iter().enumerate() {
        assert_eq!(store.get(RUN, &number.to_string()).expect("get").as_ref(), Some(value));
    }
}

/// Goal: names are any text, and two that merely look alike are two names.
#[test]
fn names_of_any_script_are_told_apart() {
    let (_, store) = store();
    let composed = "caf\u{e9}";
    let decomposed = "cafe\u{301}";
    let names = [
        "🦀",
        composed,
        decomposed,
        "日本語",
        "a\0b",
        "\u{10FFFF}",
        " ",
        "with / and %",
    ];
    put_all(&store, &names);
    for (number, name) in names.iter().enumerate() {
        assert_eq!(
            store.get(RUN, name).expect("get"),
            Some(Value::from(number as i64)),
            "{name}"
        );
    }
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(store.list(RUN, None).expect("list"), sorted);
    assert_eq!(store.list(RUN, Some("caf")).expect("list"), [decomposed, composed]);
    assert_eq!(store.list(RUN, Some("日")).expect("list"), ["日本語"]);
    assert_eq!(store.list(RUN, Some("\u{10FFFF}")).expect("list"), ["\u{10FFFF}"]);
}

/// Goal: a list has exactly the names with the prefix, each once, in order of their bytes, however many. Method:
/// several hundred names, some deleted, neighbours on either side of the prefix.
#[test]
fn lists_are_ordered_and_complete() {
    let (_, store) = store();
    let names: Vec<_> = (0..500).map(|number| format!("item/{number:04}")).collect();
    // Not in their order.
    for at in (0..names.len()).map(|at| at * 123 % names.len()) {
        store.put(RUN, &names[at], Value::from(at as i64)).expect("put");
    }
    put_all(&store, &["item", "item.", "item0", "itel/9", "jtem/0"]);
    for name in names.iter().step_by(5) {
        assert!(store.delete(RUN, name).expect("delete"));
    }
    let left: Vec<_> = (0..names.len()).filter(|at| at % 5 != 0).collect();
    let wanted: Vec<_> = left.iter().map(|at| names[*at].clone()).collect();
    assert_eq!(store.list(RUN, Some("item/")).expect("list"), wanted);
    let with_values = store.list_with_values(RUN, Some("item/")).expect("list");
    assert!(
        with_values
            .into_iter()
            .eq(left.iter().map(|at| (names[*at].clone(), Value::from(*at as i64))))
    );
    assert_eq!(store.list(RUN, Some("item/001")).expect("list").len(), 8);
    assert_eq!(store.list(RUN, None).expect("list").len(), left.len() + 5);
    assert_eq!(store.list(RUN, Some("")).expect("list").len(), left.len() + 5);
    assert_eq!(store.list(RUN, Some("nothing")).expect("list"), Vec::<String>::new());
    assert_eq!(store.list(OTHER_RUN, None).expect("list"), Vec::<String>::new());
}

/// Goal: several values asked for together, by name or by prefix, are those of one moment. Method: a writer moves all
/// of them on together by transactions, while this thread reads; they must always agree.
#[test]
fn many_values_are_of_one_moment() {
    let (_, store) = store();
    let names = ["a", "b", "c"];
    let set_all = |value: i64| {
        store.transaction(RUN, |txn| {
            names.iter().try_for_each(|name| txn.put(name, Value::from(value)))
        })
    };
    set_all(0).expect("commit");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..5_000 {
                set_all(value).expect("nobody else writes");
            }
            done.store(true, Ordering::Release);
        });
        let mut last = 0;
        loop {
            let is_last = done.load(Ordering::Acquire);
            let many = store.get_many(RUN, &["c", "missing", "a", "b", "a"]).expect("get_many");
            let value = many[0].as_ref().and_then(Value::as_i64).expect("always there");
            let wanted = Some(Value::from(value));
            assert_eq!(many, [wanted.clone(), None, wanted.clone(), wanted.clone(), wanted]);
            assert!(value >= last, "time does not go back");
            let map = store.get_many_map(RUN, &names).expect("get_many_map");
            assert!(map.len() == 3 && names.iter().all(|name| map[*name] == map["a"]));
            let listed = store.list_with_values(RUN, None).expect("list");
            assert!(listed.len() == 3 && listed.iter().all(|(_, value)| *value == listed[0].1));
            last = value;
            if is_last {
                break;
            }
        }
        assert_eq!(last, 4_999);
    });
}

/// Goal: a key is removed once, a null is a value, and what is absent says so in every way of asking.
#[test]
fn absence_is_told_in_every_way() {
    let (_, store) = store();
    for _ in 0..3 {
        assert!(!store.delete(RUN, "k").expect("delete"));
        store.put(RUN, "k", Value::Null).expect("put");
        assert!(store.exists(RUN, "k").expect("exists") && store.contains(RUN, "k").expect("contains"));
        assert_eq!(store.get(RUN, "k").expect("get"), Some(Value::Null));
        assert!(store.delete(RUN, "k").expect("delete"));
        assert!(!store.exists(RUN, "k").expect("exists") && !store.contains(RUN, "k").expect("contains"));
        assert_eq!(store.get(RUN, "k").expect("get"), None);
        assert_eq!(store.get_many(RUN, &["k"]).expect("get_many"), [None]);
        assert!(store.get_many_map(RUN, &["k"]).expect("get_many_map").is_empty());
    }
    assert_eq!(store.get_many(RUN, &[]).expect("get_many"), []);
}

/// Goal: views of one database share it, runs do not, and named values never meet the raw bytes under the same key.
#[test]
fn views_share_and_runs_do_not() {
    let (database, store) = store();
    let clone = store.clone();
    let another = KVStore::new(Arc::clone(&database));
    store.put(RUN, "k", Value::from(1)).expect("put");
    database.put(RUN, "k", "raw").expect("put");
    store.put(OTHER_RUN, "k", Value::from(2)).expect("put");
    for view in [&store, &clone, &another] {
        assert_eq!(view.get(RUN, "k").expect("get"), Some(Value::from(1)));
        assert_eq!(view.get(OTHER_RUN, "k").expect("get"), Some(Value::from(2)));
        assert_eq!(view.list(RUN, None).expect("list"), ["k"]);
    }
    assert!(another.delete(RUN, "k").expect("delete"));
    assert!(!store.exists(RUN, "k").expect("exists"));
    assert_eq!(database.get(RUN, "k").expect("get").as_deref(), Some(&b"raw"[..]));
    assert_eq!(database.snapshot().expect("snapshot").range(RUN, ..).count(), 1);
    assert!(store.exists(OTHER_RUN, "k").expect("exists"));
}

/// Goal: its transaction sees its own writes and one moment besides, is seen entirely or not at all, and tells a
/// conflict by the name.
#[test]
fn its_transaction_is_isolated() {
    let (_, store) = store();
    put_all(&store, &["a", "b"]);
    store
        .transaction(RUN, |txn| {
            txn.put("c", Value::from("new"))?;
            assert!(txn.delete("b")?);
            store.put(RUN, "d", Value::Null)?;
            store.put(RUN, "a", Value::from("later"))?;
            assert_eq!(txn.list(None)?, ["a", "c"]);
            assert_eq!(txn.list(Some("c"))?, ["c"]);
            assert_eq!(txn.get("a")?, Some(Value::from(0)));
            assert_eq!(txn.get("c")?, Some(Value::from("new")));
            assert!(!txn.exists("b")? && !txn.exists("d")? && txn.exists("c")?);
            assert_eq!(store.list(RUN, None)?, ["a", "b", "d"], "it is not committed");
            Ok(())
        })
        .expect("nobody wrote what it writes");
    assert_eq!(store.list(RUN, None).expect("list"), ["a", "c", "d"]);

    let conflict = store.transaction(RUN, |txn| {
        txn.put("c", Value::Null)?;
        store.put(RUN, "c", Value::from("first"))
    });
    match conflict {
        Err(Error::Conflict { key }) => assert_eq!(key.user_key(), b"c"),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.get(RUN, "c").expect("get"), Some(Value::from("first")));

    let failed: Result<()> = store.transaction(RUN, |txn| {
        txn.put("never", Value::Null)?;
        txn.put("", Value::Null)
    });
    assert!(matches!(failed, Err(Error::EmptyKey)), "{failed:?}");
    assert!(!store.exists(RUN, "never").expect("exists"));
}

/// Goal: the extension trait puts named values and raw bytes into one transaction, committed together and kept apart.
#[test]
fn the_extension_joins_views_in_one_transaction() {
    let (database, store) = store();
    let write_both = |value: i64| {
        database.transaction_with_retry(RUN, RetryConfig::new(), |txn| {
            txn.kv_put("k", Value::from(value))?;
            txn.put("k", value.to_string())?;
            assert_eq!(txn.kv_get("k")?, Some(Value::from(value)));
            assert_eq!(txn.get("k")?, Some(value.to_string().into_bytes()));
            assert_eq!(txn.write_count(), 2);
            Ok(())
        })
    };
    write_both(1).expect("commit");
    assert_eq!(store.get(RUN, "k").expect("get"), Some(Value::from(1)));
    assert_eq!(database.get(RUN, "k").expect("get").as_deref(), Some(&b"1"[..]));

    // In conflict over one of them, it loses both.
    let conflict = database.transaction(RUN, |txn| {
        txn.kv_put("k", Value::from(2))?;
        txn.put("k", "2")?;
        store.put(RUN, "k", Value::from(3))
    });
    assert!(matches!(conflict, Err(Error::Conflict { .. })), "{conflict:?}");
    assert_eq!(store.get(RUN, "k").expect("get"), Some(Value::from(3)));
    assert_eq!(database.get(RUN, "k").expect("get").as_deref(), Some(&b"1"[..]));

    database
        .transaction(RUN, |txn| {
            assert!(txn.kv_delete("k")?);
            assert!(!txn.kv_delete("k")?);
            assert!(txn.exists("k")?, "the raw bytes stay");
            Ok(())
        })
        .expect("commit");
    assert!(!store.exists(RUN, "k").expect("exists"));
}
