//! The isolation level, anomaly by anomaly.
//!
//! The anomalies are those of Adya's definitions, as the Hermitage suite names and arranges them for SQL databases.
//! Transactions overlap as nested closures: the inner one begins, works and commits inside the outer one. Snapshot
//! isolation prevents all of them but write skew, which the last tests show to be permitted.
#![forbid(unsafe_code)]

use std::cell::Cell;

use unlatched::{Database, Error, Result, RetryConfig, RunId, Timestamp, Transaction};

const RUN: RunId = RunId::from_bytes([9; 16]);

/// Returns a database with `x = 10` and `y = 20`.
fn database() -> Database {
    let database = Database::in_memory().expect("open");
    database.put(RUN, "x", "10").expect("put");
    database.put(RUN, "y", "20").expect("put");
    database
}

fn read(txn: &mut Transaction<'_>, key: &str) -> i64 {
    number(txn.get(key).expect("get"))
}

fn latest(database: &Database, key: &str) -> i64 {
    number(database.get(RUN, key).expect("get"))
}

fn number(bytes: Option<Vec<u8>>) -> i64 {
    let text = String::from_utf8(bytes.expect("the key exists")).expect("a text");
    text.parse().expect("a number")
}

fn write(txn: &mut Transaction<'_>, key: &str, value: i64) {
    txn.put(key, value.to_string()).expect("put");
}

/// Asserts that `result` is a conflict on `key`.
fn assert_conflict<T: std::fmt::Debug>(result: Result<T>, key: &str) {
    match result {
        Err(error @ Error::Conflict { .. }) => {
            assert!(error.is_retryable());
            let named = error.key().expect("a conflict names its key");
            assert_eq!((named.run(), named.user_key()), (RUN, key.as_bytes()));
            assert!(error.to_string().contains(key), "{error}");
        }
        other => panic!("{other:?} is no conflict on {key}"),
    }
}

/// G0, write cycle: two transactions write the same two keys in opposite order. One wins both.
#[test]
fn g0_write_cycles_are_prevented() {
    let database = database();
    let outer = database.transaction(RUN, |outer| {
        write(outer, "x", 11);
        let inner = database.transaction(RUN, |inner| {
            write(inner, "y", 22);
            write(inner, "x", 12);
            Ok(())
        });
        inner.expect("the first to commit");
        write(outer, "y", 21);
        Ok(())
    });
    assert_conflict(outer, "x");
    assert_eq!((latest(&database, "x"), latest(&database, "y")), (12, 22));
}

/// G1a, aborted read: nobody sees what a transaction wrote that aborts, during or after it.
#[test]
fn g1a_aborted_writes_are_never_read() {
    let database = database();
    let aborted: Result<()> = database.transaction(RUN, |outer| {
        write(outer, "x", 101);
        database.transaction(RUN, |inner| {
            assert_eq!(read(inner, "x"), 10);
            Ok(())
        })?;
        assert_eq!(latest(&database, "x"), 10);
        Err(Error::user("changed its mind"))
    });
    assert!(matches!(aborted, Err(Error::User(_))), "{aborted:?}");
    assert_eq!(latest(&database, "x"), 10);
    assert_eq!(
        database.stats().live_versions,
        2,
        "an abort before the commit leaves nothing"
    );

    // The same with an abort by conflict, when versions of it are already linked: x is, y is in conflict.
    let conflicting = database.transaction(RUN, |outer| {
        write(outer, "x", 101);
        write(outer, "y", 102);
        database.put(RUN, "y", "30").map(drop)
    });
    assert_conflict(conflicting, "y");
    assert_eq!((latest(&database, "x"), latest(&database, "y")), (10, 30));
    database
        .put(RUN, "x", "11")
        .expect("the aborted version at its head is in nobody's way");
    assert_eq!(latest(&database, "x"), 11);
}

/// G1b, intermediate read: of two writes of one transaction only the last is ever seen.
#[test]
fn g1b_intermediate_writes_are_never_read() {
    let database = database();
    database
        .transaction(RUN, |writer| {
            write(writer, "x", 101);
            database.transaction(RUN, |reader| {
                assert_eq!(read(reader, "x"), 10);
                Ok(())
            })?;
            write(writer, "x", 11);
            Ok(())
        })
        .expect("commit");
    assert_eq!(latest(&database, "x"), 11);
}

/// G1c, circular information flow: of two overlapping transactions neither sees the other's write.
#[test]
fn g1c_circular_information_flow_is_prevented() {
    let database = database();
    database
        .transaction(RUN, |outer| {
            write(outer, "x", 11);
            database.transaction(RUN, |inner| {
                write(inner, "y", 22);
                assert_eq!(read(inner, "x"), 10);
                Ok(())
            })?;
            assert_eq!(read(outer, "y"), 20);
            Ok(())
        })
        .expect("they write different keys");
    assert_eq!((latest(&database, "x"), latest(&database, "y")), (11, 22));
}

/// OTV, observed transaction vanishes: who has seen one write of a transaction goes on seeing all of them while later
/// transactions overwrite them one by one.
#[test]
fn otv_an_observed_transaction_does_not_vanish() {
    let database = database();
    let write_both = |x, y| {
        database.transaction(RUN, |txn| {
            write(txn, "x", x);
            write(txn, "y", y);
            Ok(())
        })
    };
    write_both(11, 19).expect("commit");
    database
        .transaction(RUN, |reader| {
            assert_eq!(read(reader, "x"), 11);
            write_both(12, 18)?;
            database.put(RUN, "y", "17")?;
            assert_eq!(read(reader, "y"), 19);
            assert_eq!(read(reader, "x"), 11);
            Ok(())
        })
        .expect("it writes nothing");
    assert_eq!((latest(&database, "x"), latest(&database, "y")), (12, 17));
}

/// PMP, predicate-many-preceders: a scan repeated finds the same records, although keys in its range were inserted,
/// overwritten and deleted by others; and what it deletes by predicate conflicts with them.
#[test]
fn pmp_a_scan_repeats() {
    let database = database();
    let deleted_by_predicate = database.transaction(RUN, |outer| {
        let before = outer.scan_prefix(b"")?;
        database.put(RUN, "xa", "30")?;
        database.delete(RUN, "y")?;
        database.transaction(RUN, |inner| inner.put("x", "40"))?;
        database.sweep();
        assert_eq!(outer.scan_prefix(b"")?, before);
        for (key, _) in before {
            assert!(outer.delete(key)?);
        }
        Ok(())
    });
    assert_conflict(deleted_by_predicate, "x");
    assert_eq!((latest(&database, "x"), latest(&database, "xa")), (40, 30));
}

/// P4, lost update: of two that read and then overwrite one key the second to commit fails, whatever the first is: a
/// transaction, a put, a compare and swap, a delete, or a delete followed by a new insertion.
#[test]
fn p4_lost_updates_are_prevented() {
    type Competitor = fn(&Database) -> Result<()>;
    let competitors: [(&str, Competitor); 5] = [
        ("a transaction", |database| {
            database.transaction(RUN, |inner| {
                let x = read(inner, "x");
                write(inner, "x", x + 1);
                Ok(())
            })
        }),
        ("a put", |database| database.put(RUN, "x", "11").map(drop)),
        ("a compare and swap", |database| {
            let seen = database.get_with(RUN, "x", |_, timestamp| timestamp)?;
            database.cas(RUN, "x", seen.expect("x exists"), "11").map(drop)
        }),
        ("a delete", |database| database.delete(RUN, "x").map(drop)),
        ("a delete and an insertion", |database| {
            database.delete(RUN, "x")?;
            database.sweep();
            database.cas(RUN, "x", Timestamp::ABSENT, "11").map(drop)
        }),
    ];
    for (name, compete) in competitors {
        let database = database();
        let late = database.transaction(RUN, |outer| {
            let x = read(outer, "x");
            compete(&database)?;
            database.sweep();
            write(outer, "x", x + 5);
            Ok(())
        });
        println!("{name}: {late:?}");
        assert_conflict(late, "x");
        let left = database.get(RUN, "x").expect("get");
        assert!(left.is_none_or(|value| value == b"11"), "{name} stands");
    }
}

/// P4 for a key that neither found: of two that insert it the second to commit fails, also if it is gone again by then.
#[test]
fn p4_of_two_insertions_one_wins() {
    let database = database();
    let late = database.transaction(RUN, |outer| {
        assert!(!outer.exists("new")?);
        database.put(RUN, "new", "1")?;
        outer.put("new", "2")
    });
    assert_conflict(late, "new");

    let late = database.transaction(RUN, |outer| {
        database.put(RUN, "gone", "1")?;
        database.delete(RUN, "gone")?;
        database.sweep();
        assert!(!outer.exists("gone")?);
        outer.put("gone", "2")
    });
    assert_conflict(late, "gone");
    assert_eq!(database.get(RUN, "gone").expect("get"), None);
}

/// G-single, read skew: who has read one key before another transaction's commit reads the other as of before it too,
/// by key and by scan; and may not then delete what that commit has changed.
#[test]
fn g_single_read_skew_is_prevented() {
    let database = database();
    let outer = database.transaction(RUN, |outer| {
        assert_eq!(read(outer, "x"), 10);
        database.transaction(RUN, |inner| {
            assert_eq!((read(inner, "x"), read(inner, "y")), (10, 20));
            write(inner, "x", 12);
            write(inner, "y", 18);
            Ok(())
        })?;
        assert_eq!(read(outer, "y"), 20);
        assert_eq!(outer.scan_prefix(b"y")?, [(b"y".to_vec(), b"20".to_vec())]);
        assert!(outer.delete("y")?);
        Ok(())
    });
    assert_conflict(outer, "y");
    assert_eq!((latest(&database, "x"), latest(&database, "y")), (12, 18));
}

/// G2-item, write skew: each of two reads what the other writes. Snapshot isolation permits it; whoever relies on what
/// it read must write it too.
#[test]
fn g2_item_write_skew_is_permitted() {
    let database = database();
    database
        .transaction(RUN, |outer| {
            assert_eq!((read(outer, "x"), read(outer, "y")), (10, 20));
            database.transaction(RUN, |inner| {
                assert_eq!((read(inner, "x"), read(inner, "y")), (10, 20));
                write(inner, "y", 21);
                Ok(())
            })?;
            write(outer, "x", 11);
            Ok(())
        })
        .expect("write skew is not detected");
    assert_eq!((latest(&database, "x"), latest(&database, "y")), (11, 21));

    // Writing what was read back as it was turns the skew into a conflict.
    let careful = database.transaction(RUN, |outer| {
        let y = read(outer, "y");
        database.transaction(RUN, |inner| {
            let x = read(inner, "x");
            write(inner, "x", x);
            write(inner, "y", 22);
            Ok(())
        })?;
        write(outer, "y", y);
        write(outer, "x", 12);
        Ok(())
    });
    assert_conflict(careful, "x");
}

/// G2, anti-dependency cycle through a predicate: each of two finds no record of a kind and inserts one. Permitted as
/// well.
#[test]
fn g2_phantom_insertions_are_permitted() {
    let database = database();
    database
        .transaction(RUN, |outer| {
            assert_eq!(outer.scan_prefix(b"task/")?, []);
            database.transaction(RUN, |inner| {
                assert_eq!(inner.scan_prefix(b"task/")?, []);
                inner.put("task/1", "inner")
            })?;
            outer.put("task/2", "outer")
        })
        .expect("write skew is not detected");
    let snapshot = database.snapshot().expect("snapshot");
    assert_eq!(snapshot.prefix(RUN, b"task/").count(), 2);
}

/// The key that a conflict names is that of this run and the smallest one in conflict, not one that merely was written.
#[test]
fn a_conflict_names_the_first_key_in_conflict() {
    let database = database();
    let result = database.transaction(RUN, |txn| {
        for key in ["a", "x", "y", "z"] {
            txn.put(key, "")?;
        }
        database.put(RunId::from_bytes([1; 16]), "a", "of another run")?;
        database.put(RUN, "z", "1")?;
        database.put(RUN, "y", "1")?;
        Ok(())
    });
    assert_conflict(result, "y");
    assert_eq!(database.get(RUN, "a").expect("get"), None);
    assert_eq!(database.stats().conflicts, 1);
}

/// An error from a transaction's body comes out as it is, and nothing that was written before it is ever seen.
#[test]
fn an_error_in_the_body_aborts_everything() {
    let database = database();
    let before = database.stats();
    let result = database.transaction(RUN, |txn| {
        txn.put("x", "99")?;
        txn.put("new", "99")?;
        txn.delete("y")?;
        txn.put("", "no key")
    });
    assert!(matches!(result, Err(Error::EmptyKey)), "{result:?}");
    assert_eq!((latest(&database, "x"), latest(&database, "y")), (10, 20));
    assert_eq!(database.get(RUN, "new").expect("get"), None);
    let after = database.stats();
    assert_eq!((after.commits, after.conflicts), (before.commits, before.conflicts));
    assert_eq!((after.live_versions, after.open_snapshots), (2, 0));
}

/// A transaction that always meets a conflict is given up after the retries that were asked for, with a typed error
/// that still names the key; without retries the conflict itself comes out.
#[test]
fn exhausted_retries_are_told_with_their_last_conflict() {
    let database = database();
    let runs = Cell::new(0);
    let lose = |txn: &mut Transaction<'_>| {
        runs.set(runs.get() + 1);
        database.put(RUN, "x", "1")?;
        txn.put("x", "2")
    };
    let retry = RetryConfig::new().with_max_retries(3).with_base_delay_ms(0);
    let error = database
        .transaction_with_retry(RUN, retry, lose)
        .expect_err("it always loses");
    assert_eq!(runs.replace(0), 4);
    assert!(!error.is_retryable());
    assert_eq!(error.key().expect("the last conflict's").user_key(), b"x");
    let Error::RetriesExhausted { attempts: 4, last, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(*last, Error::Conflict { .. }));

    assert_conflict(database.transaction_with_retry(RUN, RetryConfig::no_retry(), lose), "x");
    assert_eq!(runs.get(), 1);
}

/// A retry begins on a new snapshot, so it sees what it lost against; errors that are no conflicts are not retried.
#[test]
fn a_retry_sees_what_it_lost_against() {
    let database = database();
    let runs = Cell::new(0);
    let sum = database.transaction_with_retry(RUN, RetryConfig::new(), |txn| {
        let x = read(txn, "x");
        if runs.replace(runs.get() + 1) < 2 {
            database.put(RUN, "x", (x + 100).to_string())?;
        }
        write(txn, "x", x + 1);
        Ok(x + 1)
    });
    assert_eq!(sum.expect("the third attempt wins"), 211);
    assert_eq!((runs.replace(0), latest(&database, "x")), (3, 211));

    let failed: Result<()> = database.transaction_with_retry(RUN, RetryConfig::new(), |_| {
        runs.set(runs.get() + 1);
        Err(Error::user("not a conflict"))
    });
    assert!(matches!(failed, Err(Error::User(_))), "{failed:?}");
    assert_eq!(runs.get(), 1);
}

/// A transaction reads its own writes, by key and by scan, whatever others commit meanwhile.
#[test]
fn a_transaction_sees_its_own_writes() {
    let database = database();
    database
        .transaction(RUN, |txn| {
            txn.put("w", "1")?;
            assert!(txn.delete("x")?);
            txn.put("y", "2")?;
            database.put(RUN, "z", "3")?;
            let records = txn.scan_prefix(b"")?;
            assert_eq!(
                records,
                [(b"w".to_vec(), b"1".to_vec()), (b"y".to_vec(), b"2".to_vec())]
            );
            assert!(!txn.exists("x")? && !txn.exists("z")?);
            assert!(!txn.delete("x")?, "it is deleted already");
            assert_eq!((txn.write_count(), txn.run()), (3, RUN));
            Ok(())
        })
        .expect("commit");
    let snapshot = database.snapshot().expect("snapshot");
    let keys: Vec<_> = snapshot.range(RUN, ..).map(|(key, _)| key).collect();
    assert_eq!(keys, [b"w", b"y", b"z"]);
}
