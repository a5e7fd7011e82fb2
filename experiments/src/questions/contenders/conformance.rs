//! What every contender must do, whatever it is.
#![forbid(unsafe_code)]

use super::*;
use crate::questions::combinations::{self, Combination, Visitor};

const KEYS: usize = 300;

/// The values that a scan from each key must show, by playing it.
fn expected_scan(keys: &KeySet, value: impl Fn(usize) -> u64, from: usize, limit: usize) -> Scanned {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|key| keys.bytes(*key));
    let mut scanned = Scanned::default();
    let start = order.iter().position(|key| *key == from).expect("it is there");
    order[start..]
        .iter()
        .take(limit)
        .for_each(|key| scanned.add(value(*key)));
    scanned
}

fn check<C: Contender>() {
    let names = KeySet::new(KEYS, 5);
    let keys = C::prepare(&names);
    let store = C::open(KEYS).unwrap_or_else(|error| panic!("{} opens: {error}", C::NAME));
    let mut session = store.session(&keys).expect("a session");
    assert_eq!(session.get(7).expect("a get"), None, "{}", C::NAME);
    for key in 0..KEYS {
        session.insert(key, key as u64).expect("an insert");
    }
    session.put(7, 1_000).expect("a put");
    assert_eq!(session.get(7).expect("a get"), Some(1_000), "{}", C::NAME);
    let value = |key| if key == 7 { 1_000 } else { key as u64 };
    if C::can(Operation::Scan) {
        for from in [0, 7, 123, 299] {
            let scanned = session.scan(from, SCAN_LENGTH).expect("a scan");
            assert_eq!(scanned, expected_scan(&names, value, from, SCAN_LENGTH), "{}", C::NAME);
        }
    } else {
        assert!(session.scan(0, 1).is_err(), "{}", C::NAME);
    }
    if C::can(Operation::ReadWrite) {
        let (found, _) = session.read_write(7, 8, 2_000).expect("a transaction");
        assert_eq!(
            (found, session.get(8).expect("a get")),
            (Some(1_000), Some(2_000)),
            "{}",
            C::NAME
        );
    } else {
        assert!(session.read_write(7, 8, 0).is_err(), "{}", C::NAME);
    }
    if C::can(Operation::Contended) {
        session.increment(8).expect("a transaction");
        assert_eq!(session.get(8).expect("a get"), Some(2_001), "{}", C::NAME);
    } else {
        assert!(session.increment(8).is_err(), "{}", C::NAME);
    }
}

#[test]
fn contenders_do_what_they_say() {
    check::<unlatched::Unlatched>();
    check::<crossbeam::InPlace>();
    check::<crossbeam::ByInsert>();
    check::<locked::M3>();
    check::<locked::TreeUnderLock>();
    check::<hashed::Hashed>();
}

#[test]
fn combinations_do_what_they_say() {
    struct Check;
    impl Visitor for Check {
        type Error = std::convert::Infallible;

        fn visit<C: Combination>(&mut self) -> Result<(), Self::Error> {
            check::<combined::Combined<C>>();
            Ok(())
        }
    }
    let Ok(()) = combinations::tour(&mut Check);
}

#[cfg(feature = "peers")]
#[test]
fn peers_do_what_they_say() {
    check::<surrealmx::SurrealMx>();
    check::<scc::Tree>();
    check::<bf_tree::BfTreeSide>();
    check::<heed::Lmdb>();
}
