//! Models of `index/hints.rs`, beside a toy index whose nodes come and go.
//!
//! Tables have buckets of two ways here, every key has the same tag, and a store to a full bucket always looks around and
//! evicts. Each mistake against the rules is made once on purpose, and found.
#![cfg(loom)]
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a model fails")]

use std::ops::Deref;
use std::sync::Arc;

use unlatched::internals::{HintedModel, Mistake, ModelReclaim, Reclaim};

type Index = HintedModel<ModelReclaim>;

/// An index shared by a model's threads.
#[derive(Clone)]
struct Shared(Option<Arc<Index>>);

impl Deref for Shared {
    type Target = Index;

    fn deref(&self) -> &Index {
        self.0.as_ref().expect("taken when dropped only")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let index = self.0.take();
        if std::thread::panicking() {
            // A failed model unwinds outside of loom.
            std::mem::forget(index);
        }
    }
}

impl Shared {
    /// Returns an index of four cells, whose keys are also their hashes. `most` is 1 for a table that cannot grow.
    fn new(most: usize, mistake: Mistake) -> Self {
        Self(Some(Arc::new(Index::new(&[0, 1, 2, 3], 1, most, mistake, false))))
    }

    /// Runs `body` pinned.
    fn pinned<T>(&self, body: impl FnOnce(&Index, &<ModelReclaim as Reclaim>::Guard<'_>) -> T) -> T {
        let local = self.register();
        let guard = self.pin(&local);
        body(self, &guard)
    }

    fn insert(&self, cell: usize) {
        assert!(self.pinned(|index, guard| index.insert(cell, guard)));
    }

    fn search(&self, cell: usize) -> bool {
        self.pinned(|index, guard| index.search(cell, guard))
    }

    fn find_hint(&self, cell: usize) -> bool {
        self.pinned(|index, guard| index.find_hint(cell, guard))
    }

    fn remove(&self, cell: usize) -> bool {
        self.pinned(|index, guard| index.remove(cell, guard))
    }

    fn spawn(&self, body: impl FnOnce(&Self) + 'static) -> loom::thread::JoinHandle<()> {
        let index = self.clone();
        loom::thread::spawn(move || body(&index))
    }
}

/// Makes a test of a model that holds, and one for each mistake that it must find.
macro_rules! hint_model {
    ($name:ident, $bound:literal $(, finds $mistake:ident as $test:ident)*) => {
        mod $name {
            use super::Mistake;

            #[test]
            fn holds() {
                loom_tests::model(concat!("hints::", stringify!($name)), $bound, || super::$name(Mistake::Nothing));
            }

            $(
                #[test]
                #[should_panic(expected = "use after free")]
                fn $test() {
                    let name = concat!("hints::", stringify!($name), "::", stringify!($test));
                    loom_tests::model(name, $bound, || super::$name(Mistake::$mistake));
                }
            )*
        }
    };
}

// Two threads: insert x, leave a hint | follow the hint to x.
// Whoever follows a hint sees the node's fields. Fails with STORE_HINT, READ_HINT weakened.
hint_model!(hint_publishes_its_node, 3);
fn hint_publishes_its_node(mistake: Mistake) {
    let index = Shared::new(1, mistake);
    let other = index.spawn(|index| {
        index.insert(0);
        index.search(0);
    });
    index.find_hint(0);
    other.join().unwrap();
    assert!(index.find_hint(0));
}

// Two threads: search x, leave a hint | remove x, follow the hint.
// The storer may stall between finding x and storing; the reader pins after the removal. Fails with MODEL_PIN,
// MODEL_UNPIN weakened.
hint_model!(
    removal_beside_a_storer, 3,
    finds NoForgetting as hints_must_be_taken_away
);
fn removal_beside_a_storer(mistake: Mistake) {
    let index = Shared::new(1, mistake);
    index.insert(0);
    let storer = index.spawn(|index| {
        index.search(0);
    });
    assert!(index.remove(0));
    assert!(!index.find_hint(0), "the node is dead");
    storer.join().unwrap();
    assert!(!index.find_hint(0));
}

// Two threads: find x by its hint, store it again | remove x, follow the hint.
// A hint is stored again only by who has seen the node live in the same pin. Fails with MODEL_PIN weakened.
hint_model!(
    removal_beside_a_refresher, 3,
    finds StoreUnseen as nodes_must_be_seen_live
);
fn removal_beside_a_refresher(mistake: Mistake) {
    let index = Shared::new(1, mistake);
    index.insert(0);
    index.search(0);
    let refresher = index.spawn(|index| index.pinned(|index, guard| index.refresh(0, guard)));
    assert!(index.remove(0));
    assert!(!index.find_hint(0));
    refresher.join().unwrap();
    assert!(!index.find_hint(0));
}

// Two threads: search y, leave a hint | search z, which doubles the table and splits its bucket, remove y, look at x and y.
// The storer may have read the old size, and store in the parent when y belongs to the child. Fails with MODEL_PIN,
// MODEL_UNPIN weakened.
hint_model!(
    removal_beside_growth, 3,
    finds ForgetAtOneSize as hints_of_all_sizes_must_be_taken_away
);
fn removal_beside_growth(mistake: Mistake) {
    let index = Shared::new(2, mistake);
    for cell in 0..4 {
        index.insert(cell);
    }
    // They fill the only bucket. Numbers 1 and 3 belong to its child.
    index.search(0);
    index.search(3);
    let storer = index.spawn(|index| {
        index.search(1);
    });
    index.search(2);
    assert!(index.remove(1));
    index.find_hint(0);
    assert!(!index.find_hint(1));
    storer.join().unwrap();
    assert!(!index.find_hint(1));
}

// Two threads: search z, which doubles the table and splits its bucket | remove y, look at it.
// The splitter may hold the hint to y while it is taken away. Fails with MODEL_PIN, MODEL_UNPIN weakened.
hint_model!(
    removal_beside_a_split, 3,
    finds StoreUnseen as moved_nodes_must_be_seen_live
);
fn removal_beside_a_split(mistake: Mistake) {
    let index = Shared::new(2, mistake);
    for cell in [0, 2, 3] {
        index.insert(cell);
    }
    index.search(0);
    index.search(3);
    let splitter = index.spawn(|index| {
        index.search(2);
    });
    assert!(index.remove(3));
    assert!(!index.find_hint(3));
    splitter.join().unwrap();
    assert!(!index.find_hint(3));
}

// Three threads: search x, leave a hint | remove x | follow the hint.
// A reader that pins after the first retirement may have the hint in hand when it is taken away. Fails with MODEL_PIN,
// MODEL_UNPIN weakened.
hint_model!(removal_between_storer_and_reader, 2, finds OneGracePeriod as a_reader_pinned_later_needs_the_second);
fn removal_between_storer_and_reader(mistake: Mistake) {
    let index = Shared::new(1, mistake);
    index.insert(0);
    let storer = index.spawn(|index| {
        index.search(0);
    });
    let remover = index.spawn(|index| {
        assert!(index.remove(0));
    });
    index.find_hint(0);
    storer.join().unwrap();
    remover.join().unwrap();
    assert!(!index.find_hint(0));
}

// Two threads: search z | search u, when x and y fill the only bucket.
// Both evict, and the bucket stays full of different keys.
hint_model!(two_storers_on_a_full_bucket, 3);
fn two_storers_on_a_full_bucket(mistake: Mistake) {
    let index = Shared::new(1, mistake);
    for cell in 0..4 {
        index.insert(cell);
    }
    index.search(0);
    index.search(1);
    let other = index.spawn(|index| {
        index.search(2);
    });
    index.search(3);
    other.join().unwrap();
    let found = (0..4).filter(|cell| index.find_hint(*cell)).count();
    assert_eq!(found, 2);
}

// Two threads: both search z when x and u fill the only bucket; each may double the table, one does.
// The table doubles once, and every hint is found or lost, none twice. After a split z is where it belongs.
hint_model!(two_storers_double_the_table_once, 3);
fn two_storers_double_the_table_once(mistake: Mistake) {
    let index = Shared::new(4, mistake);
    for cell in [0, 2, 3] {
        index.insert(cell);
    }
    index.search(0);
    index.search(3);
    let before = index.hint_bytes();
    let other = index.spawn(|index| {
        index.search(2);
    });
    index.search(2);
    other.join().unwrap();
    assert_eq!(index.hint_bytes(), 2 * before);
    assert!(index.find_hint(2));
}
