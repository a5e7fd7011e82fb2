//! Unit tests of the list: against an ordered map, and with threads that check one another.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::reclaim::{EpochReclaim, HyalineReclaim, LimboReclaim};
use crate::sync::AtomicU64;
use crate::types::{RunId, TypeTag};

const UNITS: usize = if cfg!(miri) { 1 } else { 20 };

fn key(user_key: &[u8]) -> Key {
    Key::new(&RunId::from_bytes([3; 16]), TypeTag::Raw, user_key)
}

fn numbered(number: u64) -> Key {
    key(format!("key{number:08}").as_bytes())
}

type Bounds = (Bound<Key>, Bound<Key>);

// Goal: half of the nodes of a level are in the level above as well, whatever the keys have in common. Method: keys with
// consecutive numbers, in shapes of different lengths, counted level by level; six standard deviations are allowed, with
// a seed that differs from run to run.
#[test]
fn each_level_has_half_the_nodes_of_the_one_below() {
    let list = Fixture::<LimboReclaim>::new().list;
    let keys: u64 = if cfg!(miri) { 1 << 9 } else { 1 << 16 };
    let shapes: [fn(u64) -> Key; 3] = [
        numbered,
        |number| key(&number.to_be_bytes()),
        |number| key(format!("{}{number}", "long".repeat(20)).as_bytes()),
    ];
    for (shape, make) in shapes.iter().enumerate() {
        let mut at_least = [0_u64; MAX_HEIGHT + 1];
        for number in 0..keys {
            let key = make(number);
            let key = SearchKey::new(&key);
            let height = height_of(&key, list.hash_of(&key));
            at_least[..=height].iter_mut().for_each(|count| *count += 1);
        }
        for (level, count) in at_least.iter().enumerate().skip(1) {
            let wanted = keys as f64 / (1_u64 << (level - 1)) as f64;
            let most = 6.0 * wanted.sqrt() + 6.0;
            let difference = (*count as f64 - wanted).abs();
            assert!(
                difference <= most,
                "shape {shape}, level {level}: {count} and not {wanted}"
            );
        }
    }
}

/// A list with a collector and a registration of its own.
struct Fixture<R: Reclaim, V: Default + Send + Sync + 'static = AtomicU64, const HINTS: bool = false> {
    list: SkipList<V, HINTS>,
    reclaim: R,
}

impl<R: Reclaim, V: Default + Send + Sync + 'static, const HINTS: bool> Fixture<R, V, HINTS> {
    fn new() -> Self {
        let reclaim = R::new();
        Self {
            list: <SkipList<V, HINTS> as Index<V, R>>::new(&reclaim),
            reclaim,
        }
    }

    fn with<T>(&self, local: &R::Local, call: impl for<'g> FnOnce(View<'g, '_, R, V, HINTS>) -> T) -> T {
        let guard = self.reclaim.pin(local);
        call(View {
            list: &self.list,
            guard: &guard,
        })
    }
}

/// A list under a guard.
struct View<'g, 'r, R: Reclaim, V: Send, const HINTS: bool> {
    list: &'g SkipList<V, HINTS>,
    guard: &'g R::Guard<'r>,
}

impl<'g, R: Reclaim, V: Default + Send + Sync + 'static, const HINTS: bool> View<'g, '_, R, V, HINTS> {
    fn find(&self, key: &Key) -> Option<Found<'g, V>> {
        Index::<V, R>::find(self.list, key, self.guard)
    }

    fn insert(&self, key: &Key) -> Found<'g, V> {
        Index::<V, R>::find_or_insert(self.list, key, self.guard)
    }

    fn remove(&self, node: Found<'g, V>) {
        Index::<V, R>::remove(self.list, node, self.guard);
    }

    fn walk(&self, bounds: &Bounds, direction: Direction, limit: usize) -> Vec<Found<'g, V>> {
        let mut nodes = Vec::new();
        if limit == 0 {
            return nodes;
        }
        let bounds = (bounds.0.as_ref(), bounds.1.as_ref());
        Index::<V, R>::walk(self.list, bounds, direction, self.guard, |node| {
            nodes.push(node);
            if nodes.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        nodes
    }
}

/// One step of a test against a map.
#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>),
    Remove(Vec<u8>),
    Find(Vec<u8>),
    Walk(Bound<Vec<u8>>, Bound<Vec<u8>>, bool, usize),
}

/// User keys that agree in long beginnings, end in zeros, and lie around the length up to which a key is in its line (27
/// bytes behind run and tag) and in a `Key` (29).
fn user_key() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => Just(0_u8), 2 => Just(1), 1 => Just(255), 1 => any::<u8>()];
    prop_oneof![
        4 => prop::collection::vec(byte.clone(), 0..4),
        4 => (25_usize..32, byte.clone(), byte.clone()).prop_map(|(length, fill, last)| {
            let mut bytes = vec![fill; length];
            bytes[length - 1] = last;
            bytes
        }),
        1 => (50_usize..400, byte.clone(), byte).prop_map(|(length, fill, last)| {
            let mut bytes = vec![fill; length];
            bytes[length - 1] = last;
            bytes
        }),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        2 => user_key().prop_map(Bound::Included),
        2 => user_key().prop_map(Bound::Excluded),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => user_key().prop_map(Step::Insert),
        2 => user_key().prop_map(Step::Remove),
        1 => user_key().prop_map(Step::Find),
        1 => (bound(), bound(), any::<bool>(), 0_usize..300)
            .prop_map(|(low, high, ascending, limit)| Step::Walk(low, high, ascending, limit)),
    ]
}

fn check_against_a_map<R: Reclaim, const HINTS: bool>(steps: &[Step]) {
    let fixture = Fixture::<R, AtomicU64, HINTS>::new();
    let local = fixture.reclaim.register();
    let mut map: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for (number, step) in (1..).zip(steps) {
        fixture.with(&local, |list| match step {
            Step::Insert(user_key) => {
                let node = list.insert(&key(user_key));
                assert!(node.is_linked());
                assert_eq!(node.key().user_key(), user_key);
                let expected = map.entry(user_key.clone()).or_insert(0);
                assert_eq!(node.value().load(order::COUNT), *expected);
                node.value().store(number, order::COUNT);
                *expected = number;
            }
            Step::Remove(user_key) => {
                let node = list.find(&key(user_key));
                assert_eq!(node.is_some(), map.remove(user_key).is_some());
                if let Some(node) = node {
                    list.remove(node.clone());
                    list.remove(node.clone());
                    assert!(!node.is_linked());
                    assert!(list.find(&key(user_key)).is_none());
                }
            }
            Step::Find(user_key) => {
                let value = list.find(&key(user_key)).map(|node| node.value().load(order::COUNT));
                assert_eq!(value, map.get(user_key).copied());
            }
            Step::Walk(low, high, ascending, limit) => {
                let bounds = (low.as_ref().map(|low| key(low)), high.as_ref().map(|high| key(high)));
                let above = |user_key: &[u8]| match low {
                    Bound::Unbounded => true,
                    Bound::Included(low) => user_key >= &low[..],
                    Bound::Excluded(low) => user_key > &low[..],
                };
                let below = |user_key: &[u8]| match high {
                    Bound::Unbounded => true,
                    Bound::Included(high) => user_key <= &high[..],
                    Bound::Excluded(high) => user_key < &high[..],
                };
                let mut expected: Vec<_> = map
                    .iter()
                    .filter(|(user_key, _)| above(user_key) && below(user_key))
                    .map(|(user_key, value)| (user_key.clone(), *value))
                    .collect();
                let direction = if *ascending {
                    Direction::Ascending
                } else {
                    expected.reverse();
                    Direction::Descending
                };
                expected.truncate(*limit);
                let walked: Vec<_> = list
                    .walk(&bounds, direction, *limit)
                    .iter()
                    .map(|node| (node.key().user_key().to_vec(), node.value().load(order::COUNT)))
                    .collect();
                assert_eq!(walked, expected);
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 200 },
        failure_persistence: None,
        .. ProptestConfig::default()
    })]

    /// Goal: the list does what an ordered map does, whatever the keys. Method: random steps, short and long keys.
    #[test]
    fn the_list_is_an_ordered_map(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 40 } else { 400 })) {
        check_against_a_map::<EpochReclaim, false>(&steps);
        check_against_a_map::<EpochReclaim, true>(&steps);
    }
}

#[test]
fn the_list_is_an_ordered_map_for_a_collector_that_orders_loads() {
    let user_keys: Vec<Vec<u8>> = (0..30_u8).map(|byte| vec![byte % 7; usize::from(byte)]).collect();
    let mut steps: Vec<Step> = user_keys.iter().cloned().map(Step::Insert).collect();
    steps.extend(user_keys.iter().step_by(2).cloned().map(Step::Remove));
    steps.push(Step::Walk(Bound::Unbounded, Bound::Unbounded, true, 100));
    steps.push(Step::Walk(Bound::Unbounded, Bound::Unbounded, false, 100));
    check_against_a_map::<HyalineReclaim, false>(&steps);
    check_against_a_map::<HyalineReclaim, true>(&steps);
}

/// Goal: keys order as their bytes do, wherever a difference lies. Method: every pair of keys around the length of a
/// line and of a `Key`.
#[test]
fn keys_compare_as_their_bytes() {
    let mut user_keys: Vec<Vec<u8>> = Vec::new();
    for length in [0_usize, 1, 6, 7, 8, 18, 19, 20, 26, 27, 28, 29, 30, 60] {
        for fill in [0, 1, 255] {
            for (at, byte) in [(length, 0), (length.wrapping_sub(1), 7), (length / 2, 3)] {
                let mut user_key = vec![fill; length];
                if let Some(place) = user_key.get_mut(at) {
                    *place = byte;
                }
                user_keys.push(user_key);
            }
        }
    }
    user_keys.sort();
    user_keys.dedup();
    let fixture = Fixture::<EpochReclaim, AtomicU64>::new();
    let local = fixture.reclaim.register();
    fixture.with(&local, |list| {
        for left in &user_keys {
            let node = list.insert(&key(left));
            assert_eq!(node.key().as_bytes(), key(left).as_bytes());
            for right in &user_keys {
                assert_eq!(node.0.compare(&SearchKey::new(&key(right))), left.cmp(right));
            }
        }
    });
}

#[test]
fn the_longest_key_fits() {
    let fixture = Fixture::<EpochReclaim, AtomicU64>::new();
    let local = fixture.reclaim.register();
    fixture.with(&local, |list| {
        let longest = key(&vec![9; crate::types::MAX_KEY_BYTES]);
        let node = list.insert(&longest);
        assert!(node.key() == longest);
        assert!(list.find(&longest).is_some());
        list.remove(node);
        assert!(list.find(&longest).is_none());
    });
}

#[test]
fn a_removed_key_comes_back_as_another_node() {
    let fixture = Fixture::<EpochReclaim, AtomicU64>::new();
    let local = fixture.reclaim.register();
    fixture.with(&local, |list| {
        for number in 0..200 {
            let first = list.insert(&numbered(number));
            list.remove(first.clone());
            assert!(!first.is_linked());
            assert!(list.find(&numbered(number)).is_none());
            let second = list.insert(&numbered(number));
            assert!(second.is_linked());
            list.remove(first);
            assert!(second.is_linked(), "removing the old node left the new one alone");
        }
    });
}

/// Counts how many values exist.
struct Counted(Arc<AtomicUsize>);

thread_local! {
    static COUNT: std::cell::RefCell<Option<Arc<AtomicUsize>>> = const { std::cell::RefCell::new(None) };
}

impl Default for Counted {
    fn default() -> Self {
        let count = COUNT.with(|count| count.borrow().clone()).expect("set by the test");
        count.fetch_add(1, order::COUNT);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, order::COUNT);
    }
}

/// Goal: with any interleaving every key ends as its last operation left it, nothing is lost, nothing is freed twice
/// or never. Method: threads that own some keys insert and remove them among each other's and fight over shared ones,
/// while another finds and walks; the collector's and the values' own counts are compared at the end.
#[test]
fn threads_keep_their_keys() {
    threads_keep_their_keys_with::<EpochReclaim, false>();
    threads_keep_their_keys_with::<EpochReclaim, true>();
    threads_keep_their_keys_with::<HyalineReclaim, false>();
    threads_keep_their_keys_with::<HyalineReclaim, true>();
    threads_keep_their_keys_with::<LimboReclaim, true>();
}

fn threads_keep_their_keys_with<R: Reclaim, const HINTS: bool>() {
    const THREADS: u64 = 3;
    let keys = if cfg!(miri) { 6 } else { 60_u64 };
    let rounds = if cfg!(miri) { 30 } else { 2_000 * UNITS as u64 };
    let count = Arc::new(AtomicUsize::new(0));
    COUNT.with(|slot| *slot.borrow_mut() = Some(Arc::clone(&count)));
    let fixture = Fixture::<R, Counted, HINTS>::new();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (fixture, count) = (&fixture, &count);
            scope.spawn(move || {
                COUNT.with(|slot| *slot.borrow_mut() = Some(Arc::clone(count)));
                let local = fixture.reclaim.register();
                let mut random = 1 + thread;
                for _ in 0..rounds {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let number = (random >> 33) % keys;
                    let is_mine = number % (THREADS + 1) == thread;
                    let is_shared = number % (THREADS + 1) == THREADS;
                    let inserts = random >> 62 != 0;
                    fixture.with(&local, |list| {
                        let key = numbered(number);
                        if is_mine && inserts {
                            list.insert(&key);
                            assert!(list.find(&key).expect("nobody else removes it").is_linked());
                        } else if is_mine {
                            if let Some(node) = list.find(&key) {
                                list.remove(node);
                            }
                            assert!(list.find(&key).is_none(), "nobody else inserts it");
                        } else if is_shared && inserts {
                            list.insert(&key);
                        } else if is_shared && let Some(node) = list.find(&key) {
                            list.remove(node.clone());
                            assert!(!node.is_linked());
                        }
                    });
                }
                // Each key's final state: there if its last operation inserts it.
                for number in (0..keys).filter(|number| number % (THREADS + 1) == thread) {
                    fixture.with(&local, |list| {
                        let node = list.insert(&numbered(number));
                        if number % 2 == 0 {
                            list.remove(node);
                        }
                    });
                }
                local.leave_for_test();
            });
        }
        let fixture = &fixture;
        scope.spawn(move || {
            let local = fixture.reclaim.register();
            for round in 0..rounds / 8 {
                let direction = if round % 2 == 0 {
                    Direction::Ascending
                } else {
                    Direction::Descending
                };
                fixture.with(&local, |list| {
                    let nodes = list.walk(&(Bound::Unbounded, Bound::Unbounded), direction, usize::MAX);
                    for pair in nodes.windows(2) {
                        let in_order = match direction {
                            Direction::Ascending => pair[0].key() < pair[1].key(),
                            Direction::Descending => pair[0].key() > pair[1].key(),
                        };
                        assert!(in_order, "a walk goes one way");
                    }
                });
            }
            local.leave_for_test();
        });
    });
    let local = fixture.reclaim.register();
    let mut linked = 0;
    for number in 0..keys {
        let found = fixture.with(&local, |list| list.find(&numbered(number)).is_some());
        linked += usize::from(found);
        if number % (THREADS + 1) != THREADS {
            assert_eq!(found, number % 2 == 1, "key {number}");
        }
    }
    for _ in 0..64 {
        fixture.reclaim.pin(&local).flush();
    }
    drop(local);
    let totals = fixture.reclaim.totals();
    let walked = {
        let local = fixture.reclaim.register();
        fixture.with(&local, |list| {
            list.walk(&(Bound::Unbounded, Bound::Unbounded), Direction::Ascending, usize::MAX)
                .len()
        })
    };
    assert_eq!(walked, linked);
    let unfreed = (totals.retired - totals.freed) as usize;
    assert_eq!(
        count.load(order::COUNT),
        linked + unfreed + 1,
        "each value is the head's, linked, or retired and not yet freed"
    );
    drop(fixture);
    assert_eq!(count.load(order::COUNT), 0, "all values are dropped");
}

/// A thread that ends hands its garbage over.
trait LeaveForTest {
    fn leave_for_test(&self);
}

impl<L: crate::reclaim::Leave> LeaveForTest for L {
    fn leave_for_test(&self) {
        self.leave();
    }
}

/// Goal: a walk shows every key that is there throughout. Method: every other key stays, the others come and go.
#[test]
fn a_walk_misses_nothing_that_stays() {
    let fixture = Fixture::<EpochReclaim, AtomicU64>::new();
    let keys = if cfg!(miri) { 20 } else { 500_u64 };
    let local = fixture.reclaim.register();
    fixture.with(&local, |list| {
        for number in (0..keys).step_by(2) {
            list.insert(&numbered(number));
        }
    });
    let rounds = if cfg!(miri) { 2 } else { 10 * UNITS };
    let running = AtomicUsize::new(2);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (fixture, running) = (&fixture, &running);
            scope.spawn(move || {
                let local = fixture.reclaim.register();
                for _ in 0..rounds {
                    for number in (1..keys).step_by(2).filter(|number| number / 2 % 2 == half) {
                        fixture.with(&local, |list| {
                            list.insert(&numbered(number));
                        });
                    }
                    for number in (1..keys).step_by(2).filter(|number| number / 2 % 2 == half) {
                        fixture.with(&local, |list| {
                            let node = list.find(&numbered(number)).expect("just inserted");
                            list.remove(node);
                        });
                    }
                }
                running.fetch_sub(1, order::COUNT);
            });
        }
        for direction in [Direction::Ascending, Direction::Descending] {
            let (fixture, running) = (&fixture, &running);
            scope.spawn(move || {
                let local = fixture.reclaim.register();
                while running.load(order::COUNT) > 0 {
                    let (from, to) = (keys / 4 / 2 * 2, keys * 3 / 4);
                    fixture.with(&local, |list| {
                        let bounds = (Bound::Included(numbered(from)), Bound::Excluded(numbered(to)));
                        let seen: Vec<Key> = list
                            .walk(&bounds, direction, usize::MAX)
                            .iter()
                            .map(|node| node.key())
                            .collect();
                        let mut expected: Vec<Key> = (from..to).step_by(2).map(numbered).collect();
                        let mut strays = seen.clone();
                        strays.retain(|key| !expected.contains(key));
                        if direction == Direction::Descending {
                            expected.reverse();
                        }
                        let stayed: Vec<Key> = seen.into_iter().filter(|key| expected.contains(key)).collect();
                        assert!(stayed == expected, "a key that stays was missed");
                        assert!(strays.iter().all(|key| *key > numbered(from) && *key < numbered(to)));
                    });
                }
            });
        }
    });
}

/// Goal: a list built from sorted keys is one like any other, and searches that take turns find what single ones do.
#[test]
fn many_keys_at_once_are_found_as_one_by_one() {
    let reclaim = EpochReclaim::new();
    let local = reclaim.register();
    let list = <SkipList<AtomicU64, false> as Index<_, EpochReclaim>>::new(&reclaim);
    let keys = if cfg!(miri) { 30 } else { 1_000_u64 };
    let guard = reclaim.pin(&local);
    for numbers in [(0..keys), (keys..keys + 10)] {
        let evens = numbers.step_by(2).map(|number| (numbered(number), number));
        Index::<_, EpochReclaim>::insert_sorted(&list, evens, &guard, |node, number| {
            assert!(node.key() == numbered(number));
            node.value().store(number, order::COUNT);
        });
    }
    for number in (0..keys).step_by(4) {
        let node = Index::<_, EpochReclaim>::find(&list, &numbered(number), &guard).expect("inserted");
        assert_eq!(node.value().load(order::COUNT), number);
        Index::<_, EpochReclaim>::remove(&list, node, &guard);
        Index::<_, EpochReclaim>::find_or_insert(&list, &numbered(number + 1), &guard);
    }
    let all: Vec<Key> = (0..keys + 20).rev().map(numbered).collect();
    let mut seen = 0;
    list.find_many(&all, &guard, |place, node| {
        let single = Index::<_, EpochReclaim>::find(&list, &all[place], &guard);
        assert!(node.as_ref().map(|node| node.0) == single.map(|node| node.0));
        if let Some(node) = node {
            assert!(node.key() == all[place]);
        }
        seen += 1;
    });
    assert_eq!(seen, all.len());
    list.find_many(&[], &guard, |_, _| panic!("no key was asked for"));
    assert_eq!(sorted_keys::<EpochReclaim>(&list, &guard).len() as u64, keys / 2 + 5);
}

/// Returns the keys of a list, which are sorted.
fn sorted_keys<R: Reclaim>(list: &SkipList<AtomicU64, false>, guard: &R::Guard<'_>) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let everything = (Bound::Unbounded, Bound::Unbounded);
    Index::<_, R>::walk(list, everything, Direction::Ascending, guard, |node| {
        assert!(keys.last().is_none_or(|last| *last < node.key()));
        keys.push(node.key());
        ControlFlow::Continue(())
    });
    keys
}

/// Goal: the place of the last key is used only where it is right. Method: keys in any order, some of them there already
/// and some twice, into a list of which a part is removed between two of them.
#[test]
fn keys_in_any_order_are_inserted_as_one_by_one() {
    proptest!(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 200 }), |(
        batches in prop::collection::vec(prop::collection::vec((0_u64..60, any::<bool>()), 0..40), 1..4),
        is_sorted in any::<bool>(),
    )| {
        let fixture = Fixture::<EpochReclaim>::new();
        let local = fixture.reclaim.register();
        let mut expected = BTreeMap::new();
        for mut batch in batches {
            if is_sorted {
                batch.sort_unstable();
            }
            let guard = fixture.reclaim.pin(&local);
            let list = &fixture.list;
            let items = batch.iter().map(|(number, goes)| (numbered(*number), (*number, *goes)));
            Index::<_, EpochReclaim>::insert_sorted(list, items, &guard, |node, (number, goes)| {
                assert!(node.key() == numbered(number) && node.is_linked());
                let before = expected.insert(number, ()).is_some();
                // A removed node's successor is new, whatever place was remembered.
                assert_eq!(node.value().load(order::COUNT) == number + 1, before);
                node.value().store(number + 1, order::COUNT);
                if goes {
                    Index::<_, EpochReclaim>::remove(list, node, &guard);
                    expected.remove(&number);
                }
            });
            let keys: Vec<Key> = expected.keys().copied().map(numbered).collect();
            prop_assert!(sorted_keys::<EpochReclaim>(list, &guard) == keys);
        }
    });
}

/// Goal: sorted insertions bear one another and removals. Method: two threads insert the same keys in order, in stretches,
/// and another removes and inserts some of them; what is never removed is there in the end, once.
#[test]
fn sorted_insertions_bear_each_other_and_removals() {
    let keys = 400 * UNITS as u64;
    let fixture = &Fixture::<LimboReclaim>::new();
    std::thread::scope(|scope| {
        for stretch in [16, 50] {
            scope.spawn(move || {
                let local = fixture.reclaim.register();
                for first in (0..keys).step_by(stretch) {
                    let guard = fixture.reclaim.pin(&local);
                    let items = (first..keys.min(first + stretch as u64)).map(|number| (numbered(number), number));
                    Index::<_, LimboReclaim>::insert_sorted(&fixture.list, items, &guard, |node, number| {
                        assert!(node.key() == numbered(number));
                    });
                }
            });
        }
        scope.spawn(move || {
            let local = fixture.reclaim.register();
            for _ in 0..4 {
                for number in (0..keys).step_by(3) {
                    fixture.with(&local, |list| {
                        let node = list.insert(&numbered(number));
                        list.remove(node);
                    });
                }
            }
        });
    });
    let local = fixture.reclaim.register();
    let guard = fixture.reclaim.pin(&local);
    let mut stays: Vec<Key> = sorted_keys::<LimboReclaim>(&fixture.list, &guard);
    stays.retain(|key| (0..keys).step_by(3).all(|number| *key != numbered(number)));
    let expected: Vec<Key> = (0..keys).filter(|number| number % 3 != 0).map(numbered).collect();
    assert!(stays == expected);
    for key in &expected {
        assert!(Index::<_, LimboReclaim>::find(&fixture.list, key, &guard).is_some());
    }
}
