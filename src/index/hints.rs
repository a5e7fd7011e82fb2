//! Point hints: a lossy, lock-free hash table of pointers to the nodes of an ordered index.
//!
//! A search of an ordered index is a chain of dependent cache misses. Order is needed by scans and insertions, not by a
//! get or an overwrite: those look here first, and find their node in one miss for a bucket and one for the node. A hint
//! is never the truth. It may be missing; it may lead to a node that is dead by now; then the index is searched, and a
//! hint is left for the next time.
//!
//! ```text
//!  size = 8:    0    1    2    3  | 4    5    6    7  |                 reserved, never touched
//!             +----+----+----+----+----+----+----+----+ - - - - - - - - - - - - - -
//!             |    |    |    |    |    |    |    |    |
//!             +----+----+----+----+----+----+----+----+ - - - - - - - - - - - - - -
//!                         |                   ^    split: the next bucket to be filled from its parent
//!                         +--- half of 2's hints belong to 6 since the table grew from 4 to 8
//!
//!  bucket:  two cache lines of 8 ways each; a hash's low bits say which bucket, others in which line to look first
//!  way:     null, or  | tag: the hash's upper 16 bits | address of a node |
//! ```
//!
//! **Growth.** The table doubles in place: all buckets it may ever have are reserved as address space at the beginning
//! (`buckets.rs`), and `size` says how many of them are in use. One exchange doubles it. Each hint of an old bucket then
//! belongs there or in one new bucket, its child, to which later stores move it, bucket by bucket; whoever meets a hint
//! in the parent before that splits that bucket at once. Nothing is allocated, copied or freed for it, and no thread
//! waits: a split left half done costs hints. So no table is ever replaced under a reader, or under a thread that takes
//! a hint away.
//!
//! **A full bucket.** Its hints are left alone mostly, as two keys that are used all the time must not take the line
//! from each other at every turn. One store in [`EVICT_ONE_IN`] evicts a hint, so that what is used gets in sooner or
//! later; one in [`SAMPLE_ONE_IN`] counts the hints in some buckets nearby, and doubles the table if most ways there are
//! taken. Nothing is counted on any other path.
//!
//! **Why two lines.** Hints fall into buckets at random. With 8 ways, 6 of them taken on average, some buckets are full
//! while others are half empty, and one key in 50 finds no way free for good: each of its uses is a search, and so the
//! tail of all. A key that spills over into the second line costs one more miss, and hardly any finds both full.
//!
//! **Memory.** A bucket in use is 128 bytes. Doubling asks for two ways in three taken around a full bucket, which
//! happens at 10 to 11 hints a bucket on average: a key costs 12 bytes before, and twice that just after. The
//! table never shrinks, and never exceeds what was reserved; with more keys than that the hit rate falls, and nothing
//! else.
//!
//! **What it is worth**, beside a hash map cut into locked shards (dashmap), on one thread, with 41-byte keys and nodes
//! of 64 bytes: with a thousand keys a find takes 0.3 of the map's time, 0.4 if the map is given a cheap hasher. With a
//! million, where either misses the cache twice, it is 0.3 to 0.6 with the map's own hasher and about as fast with the
//! cheap one. After keys were loaded, each stored once, 9 in 10 were found; after every miss was stored again, 99 in 100.
//! A store that shares in growth takes two to six times as long as one that does not. One find in some 50,000 follows
//! a hint to another key's node. In a table that is off a find costs a tenth of the hash of its key.
//!
//! # Invariants
//!
//! 1. *Who may store.* A hint to a node is stored, or moved, only in a pin in which the node was found through the index,
//!    or was seen [live](Hinted::is_live) once pinned.
//! 2. *Where.* A hint to a node with hash `h` is only ever in buckets `h mod s`, for sizes `s` that the table has or had.
//! 3. *Who may follow.* Hints are followed under a guard of the collector that the nodes are retired to.
//! 4. *Who may free.* A node is made dead, unlinked, retired; after a grace period every hint to it is taken away
//!    ([`Hints::forget`]); after a second one it is freed.
//!
//! # Why no reader meets a freed node
//!
//! Let a node N be retired at T1, forgotten after a grace period, and its second grace period begin at T2. Two facts
//! hold of every collector, or it could not free what others have read: (A) what a thread did in a pin that began before
//! T1 happens before the forgetting; (B) what happens before T1 or T2 happens before whatever a thread does in a pin that
//! begins later. A reader pinned at T2 is waited for. It remains to show that a reader which pins after T2 loads no hint
//! to N.
//!
//! *Every store of a hint to N happens before the forgetting.* Its pin began before T1: were it later, then by (B) the
//! index would not lead to N any more, and N would be seen dead, since it was made dead before it was retired. So
//! neither clause of invariant 1 could have been met. By (A) the store, which is in that pin, happens before the
//! forgetting. This is the reader's own store after a search, the move of a hint by a split, and the eviction of
//! another's hint alike; a thread that stalls between seeing N live and storing is pinned all the while.
//!
//! *The forgetting sees each of them.* The storer had read the size `s` that it used, or a greater one; sizes only grow
//! and what it read happens before; so the size that the forgetting reads is no smaller, and it visits `h mod s` for
//! every `s` from the first size up to that one (invariant 2). In each way there it finds N, or what replaced it since.
//! It takes N away by an exchange: if that fails, the way was given to another node.
//!
//! *It never comes back.* All stores of N are past. So after the forgetting no way of any bucket names N, and by (B) and
//! coherence a reader that pins after T2 loads from each way what is there after it, or something later.
//!
//! What concurrent growth adds to this, case by case:
//!
//! - *The table grows while N is forgotten, after the size was read.* N's hash may belong to a new bucket now. Nobody
//!   stores N there, as no store of N is left to come; nor does a split move it there, being a store.
//! - *A split has loaded N's hint, and stalls before storing it in the child.* It stores only after seeing N live; if it
//!   does, it is pinned since before T1, and the forgetting waits for it, and then visits the child, as the splitter
//!   had read the greater size. If it pinned later, it sees N dead.
//! - *A split has stored N in the child and has not cleared the parent.* Both are visited.
//! - *A thread stores by an old size.* It puts N into what is the parent by now, or a parent's parent. All are visited.
//! - *A reader looks into the parent of its bucket.* That is a bucket like any other; none names N.
//!
//! One grace period is not enough: the store may come last in its pin, so that a reader pinned after T1 loads the hint
//! just before it is taken away, and nobody waits for that reader. `loom-tests/tests/hints.rs` shows it, and shows what
//! follows if hints are stored without having seen the node live, or not taken away, or only in the bucket of the
//! present size.
//!
//! The forgetting needs no guard, though it may run on a thread that is not pinned: it follows no hint, and buckets exist
//! for as long as the table, of which whoever forgets holds a share.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair does |
//! |---|---|---|---|
//! | way | `STORE_HINT` | `READ_HINT`, `PROTECT_HINT` | the node's fields are visible to who follows the hint |
//! | way | `CLEAR_HINT` | any | nothing; (B) orders it before the pins that come after T2 |
//! | `size`, `split` | `TABLE_SIZE` | `TABLE_SIZE` | nothing; any value it had is safe to use, and (A) gives the order that forgetting needs |
//!
//! # Progress
//!
//! Wait-free: every operation visits a fixed number of buckets (the size's logarithm to forget), tries each exchange
//! once, and gives up the hint when it fails.

use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

use crossbeam_utils::CachePadded;

use super::buckets::{Bucket, Buckets, WAYS};
use crate::reclaim::{Guard, prefetch};
use crate::sync::{AtomicPtr, AtomicUsize, order};

/// Most memory that the table of an index takes by default, in bytes: room for some 24 million keys.
pub const DEFAULT_HINT_BYTES: usize = 256 << 20;

/// Buckets of a new table. One page.
const FIRST_SIZE: usize = 32;

/// A store that finds its bucket full evicts another's hint once in this many times.
const EVICT_ONE_IN: u32 = 16;

/// A store that finds its bucket full looks around once in this many times.
const SAMPLE_ONE_IN: u32 = 4;

/// The share of ways taken from which the table doubles. Under loom, where a bucket has two, a table that has just doubled
/// must not be as crowded as before.
const CROWDED: (usize, usize) = if cfg!(loom) { (4, 5) } else { (2, 3) };

/// Buckets that are looked at. With fewer, a table much larger than the sample would be sure to meet a crowded spot
/// long before it is crowded.
const SAMPLE_BUCKETS: usize = 16;

/// Bits of an address. A node that lies higher is never hinted, which happens on no system that we know of unless
/// programs ask for it.
const ADDRESS_BITS: u32 = usize::BITS - 16;

/// The part of a way that is the node's address.
const ADDRESS: usize = (1 << ADDRESS_BITS) - 1;

/// A node that hints may lead to.
///
/// # Safety
///
/// `is_live` must return false once the node was retired, to any thread that pinned after that; `key_hash` must always
/// return the same number; `address` of what `see` made of a pointer must be a pointer to the same node that may do as
/// much.
pub unsafe trait Hinted: Send + Sync + Sized {
    /// How a node is seen under a guard. Mostly a reference; a node that has parts beside it needs something that
    /// reaches those too.
    type Seen<'g>: Copy;

    /// Looks at a node.
    ///
    /// # Safety
    ///
    /// `node` came from [`address`](Self::address), and the node is neither changed exclusively nor freed during `'g`.
    unsafe fn see<'g>(node: NonNull<Self>) -> Self::Seen<'g>;

    /// Returns the pointer that a hint keeps.
    fn address(node: Self::Seen<'_>) -> NonNull<Self>;

    /// Says whether the node was not yet made dead. A node is made dead before it is unlinked, and stays so.
    fn is_live(node: Self::Seen<'_>) -> bool;

    /// Returns the hash of the node's key.
    fn key_hash(node: Self::Seen<'_>, hash: &KeyHash) -> u64;
}

/// The hash function of one index.
///
/// Buckets are chosen by the low bits alone, which asks for a hash whose every bit is good. A cheaper one of the same
/// library put four times as many keys into full buckets, with some seeds and keys of consecutive numbers.
#[derive(Clone, Debug)]
pub struct KeyHash(foldhash::quality::FixedState);

impl KeyHash {
    fn new() -> Self {
        // Under loom each execution has to be the same again.
        Self::with_seed(if cfg!(loom) {
            0
        } else {
            std::hash::RandomState::new().hash_one(0)
        })
    }

    fn with_seed(seed: u64) -> Self {
        Self(foldhash::quality::FixedState::with_seed(seed))
    }

    /// Returns the hash of an encoded key.
    #[inline]
    #[must_use]
    pub fn of(&self, key: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(key);
        hasher.finish()
    }
}

/// The hints of one index.
pub struct Hints<N> {
    /// Buckets in use: a power of two. Bucket numbers at or above `buckets.count()` do not exist, so that a table
    /// without buckets has a size too.
    size: AtomicUsize,
    buckets: Buckets<N>,
    hash: KeyHash,
    /// The next bucket to be filled with what belongs to it of its parent's hints; `size` when all are. Written
    /// after growth alone.
    split: CachePadded<AtomicUsize>,
    first_size: usize,
}

impl<N: Hinted> Hints<N> {
    /// Returns an empty table that may grow to that many bytes, rounded to a power of two.
    #[must_use]
    pub fn new(most_bytes: usize) -> Self {
        let most = NonZeroUsize::new(most_bytes / size_of::<Bucket<N>>()).map(|buckets| 1 << buckets.ilog2());
        Self::with_sizes(FIRST_SIZE, most.unwrap_or(0))
    }

    /// Returns a table that never holds a hint.
    #[must_use]
    pub fn off() -> Self {
        Self::with_sizes(1, 0)
    }

    /// Returns an empty table of `first` buckets that may become `most`, both powers of two, or no table if `most` is 0.
    pub(super) fn with_sizes(first: usize, most: usize) -> Self {
        let buckets = NonZeroUsize::new(most).map_or_else(Buckets::none, Buckets::reserve);
        let first = first.min(buckets.count().max(1));
        assert!(first.is_power_of_two());
        Self {
            size: AtomicUsize::new(first),
            buckets,
            hash: KeyHash::new(),
            split: CachePadded::new(AtomicUsize::new(first)),
            first_size: first,
        }
    }

    /// Says whether hints are kept at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.buckets.count() != 0
    }

    /// Returns the index's hash function.
    #[inline]
    #[must_use]
    pub fn key_hash(&self) -> &KeyHash {
        &self.hash
    }

    /// Returns how much memory the buckets in use take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.size().min(self.buckets.count()) * size_of::<Bucket<N>>()
    }

    /// Returns the node that `is_it` agrees to, if there is a hint to it. It may be dead. `hash` is that of the key
    /// that is looked for.
    #[inline]
    pub fn find<'g, G: Guard>(
        &self,
        hash: u64,
        guard: &'g G,
        mut is_it: impl FnMut(N::Seen<'g>) -> bool,
    ) -> Option<N::Seen<'g>> {
        let size = self.size();
        let bucket = self.buckets.get(index(hash, size))?;
        match Self::look(bucket, hash, guard, &mut is_it) {
            Some(node) => Some(node),
            None => self.find_in_parent(hash, size, guard, is_it),
        }
    }

    /// Leaves a hint to `node`, or not.
    ///
    /// # Safety
    ///
    /// In the pin that `guard` stands for, `node` was found through the index or seen live (invariant 1). Its memory is
    /// freed only as invariant 4 says, in which it is retired to `guard`'s collector. `hash` is that of its key.
    #[inline]
    pub unsafe fn store<G: Guard>(&self, hash: u64, node: N::Seen<'_>, guard: &G) {
        let size = self.size();
        let Some(bucket) = self.buckets.get(index(hash, size)) else {
            return;
        };
        let Some(hint) = hint_to(N::address(node), hash) else {
            return;
        };
        if !Self::place(bucket, hash, hint, guard) {
            self.store_in_full(bucket, size, hash, hint, guard);
        }
        self.split_one(guard);
    }

    /// Takes every hint to `node` away. For [`Retired::expire`](crate::reclaim::Retired::expire): the node was retired
    /// and a grace period is over. Needs no guard.
    pub fn forget(&self, node: N::Seen<'_>) {
        let hash = N::key_hash(node, &self.hash);
        let size = self.size();
        let mut visited = None;
        let mut at_size = self.first_size;
        while at_size <= size {
            let at = index(hash, at_size);
            if visited.replace(at) != Some(at) {
                self.forget_in(at, node);
            }
            at_size *= 2;
        }
    }

    /// Takes hints away in the bucket of the present size alone: a mistake, for the tests to find.
    #[cfg(any(loom, test))]
    pub(super) fn forget_at_one_size(&self, node: N::Seen<'_>) {
        self.forget_in(index(N::key_hash(node, &self.hash), self.size()), node);
    }

    /// Takes the hints to `node` out of one bucket.
    fn forget_in(&self, at: usize, node: N::Seen<'_>) {
        let node = N::address(node).as_ptr();
        for way in self.buckets.get(at).into_iter().flat_map(|bucket| &bucket.ways) {
            // ORDERING: Relaxed; every store of this node happens before (fact A), and nothing is followed.
            let hint = way.load(order::CLEAR_HINT);
            if ptr::eq(node_of(hint), node) {
                clear(way, hint);
            }
        }
    }

    #[inline(always)]
    fn size(&self) -> usize {
        // ORDERING: Relaxed; whatever size it is, buckets exist below it and are initialised from the beginning.
        self.size.load(order::TABLE_SIZE)
    }

    /// Looks through one bucket, from the way where the hash is most likely to be.
    #[inline(always)]
    fn look<'g, G: Guard>(
        bucket: &Bucket<N>,
        hash: u64,
        guard: &'g G,
        is_it: &mut impl FnMut(N::Seen<'g>) -> bool,
    ) -> Option<N::Seen<'g>> {
        let wanted = tag(hash);
        for step in 0..WAYS {
            let hint = load(&bucket.ways[home(hash) ^ step], guard);
            // Tags are not 0, so that an empty way never has the one that is wanted.
            if hint.addr() & !ADDRESS == wanted {
                // SAFETY: loaded under `guard`, and not null.
                let node = unsafe { follow(hint, guard) };
                if is_it(node) {
                    return Some(node);
                }
            }
        }
        None
    }

    /// Looks where the hint was before the table last grew, if its bucket may still wait to be split.
    #[cold]
    fn find_in_parent<'g, G: Guard>(
        &self,
        hash: u64,
        size: usize,
        guard: &'g G,
        mut is_it: impl FnMut(N::Seen<'g>) -> bool,
    ) -> Option<N::Seen<'g>> {
        let child = index(hash, size);
        // ORDERING: Relaxed; at worst a look in vain, or a hint that is not found.
        if self.split.load(order::TABLE_SIZE) >= size || child < size / 2 {
            return None;
        }
        let node = Self::look(self.buckets.get(child - size / 2)?, hash, guard, &mut is_it)?;
        self.split(child, guard);
        Some(node)
    }

    /// Puts a hint into a way that is empty or holds a dead node's; says whether there was one, or the hint itself.
    #[inline]
    fn place<G: Guard>(bucket: &Bucket<N>, hash: u64, hint: *mut N, guard: &G) -> bool {
        let mut free = None;
        for step in 0..WAYS {
            let way = &bucket.ways[home(hash) ^ step];
            let there = load(way, guard);
            if there == hint {
                return true;
            }
            // A dead node with this tag most likely is the key's last one.
            let is_free = there.is_null()
                || there.addr() & !ADDRESS == hint.addr() & !ADDRESS
                    // SAFETY: loaded under `guard`, and not null.
                    && !N::is_live(unsafe { follow(there, guard) });
            if is_free && free.is_none() {
                free = Some((way, there));
            }
        }
        if let Some((way, there)) = free {
            replace(way, there, hint);
        }
        free.is_some()
    }

    /// What a store does that finds its bucket full: mostly nothing.
    #[cold]
    fn store_in_full<G: Guard>(&self, bucket: &Bucket<N>, size: usize, hash: u64, hint: *mut N, guard: &G) {
        let draw = draw();
        if draw.is_multiple_of(SAMPLE_ONE_IN) && self.is_crowded(index(hash, size)) && self.grow(size) {
            if let Some(bucket) = self.buckets.get(index(hash, 2 * size)) {
                Self::place(bucket, hash, hint, guard);
            }
        } else if draw.is_multiple_of(EVICT_ONE_IN) {
            let way = &bucket.ways[(draw / EVICT_ONE_IN) as usize % WAYS];
            // ORDERING: Relaxed; the evicted hint is not followed.
            replace(way, way.load(order::CLEAR_HINT), hint);
        }
    }

    /// Says whether the table is crowded in the buckets after number `at`.
    fn is_crowded(&self, at: usize) -> bool {
        let size = self.size();
        let buckets = SAMPLE_BUCKETS.min(size);
        let taken = (1..=buckets)
            .filter_map(|step| self.buckets.get((at + step) & (size - 1)))
            .flat_map(|bucket| &bucket.ways)
            // ORDERING: Relaxed; only counted.
            .filter(|way| !way.load(order::CLEAR_HINT).is_null())
            .count();
        CROWDED.1 * taken >= CROWDED.0 * WAYS * buckets
    }

    /// Doubles the table, unless it is as large as it may become or has buckets left to split; says whether it did.
    fn grow(&self, size: usize) -> bool {
        // ORDERING: Relaxed, all; both numbers only ever grow, and which hints are lost is all that depends on them.
        size < self.buckets.count()
            && self.split.load(order::TABLE_SIZE) >= size
            && self
                .size
                .compare_exchange(size, 2 * size, order::TABLE_SIZE, order::TABLE_SIZE)
                .is_ok()
    }

    /// Splits one bucket if the table has grown and some are left.
    #[inline]
    fn split_one<G: Guard>(&self, guard: &G) {
        // ORDERING: Relaxed; see `grow`.
        let child = self.split.load(order::TABLE_SIZE);
        if child < self.size() {
            self.split_claimed(child, guard);
        }
    }

    /// Splits a bucket if this thread is the one that claims it. If the thread stops, later sizes do not wait for it.
    #[cold]
    fn split_claimed<G: Guard>(&self, child: usize, guard: &G) {
        // ORDERING: Relaxed; see `grow`. Failure: another thread has claimed it.
        let claimed = self
            .split
            .compare_exchange(child, child + 1, order::TABLE_SIZE, order::TABLE_SIZE);
        if claimed.is_ok() {
            self.split(child, guard);
        }
    }

    /// Moves to bucket number `child` what belongs there of its parent's hints. May be repeated, and run by many at once.
    fn split<G: Guard>(&self, child: usize, guard: &G) {
        let half = 1 << child.ilog2();
        let (Some(from), Some(to)) = (self.buckets.get(child - half), self.buckets.get(child)) else {
            return;
        };
        // All nodes are asked for before the first is waited for.
        let hints = from.ways.each_ref().map(|way| {
            let hint = load(way, guard);
            prefetch(node_of(hint));
            hint
        });
        for (way, hint) in from.ways.iter().zip(hints) {
            if hint.is_null() {
                continue;
            }
            // SAFETY: loaded under `guard`, and not null.
            let node = unsafe { follow(hint, guard) };
            let hash = N::key_hash(node, &self.hash);
            if index(hash, 2 * half) == child {
                // INVARIANT 1: the node is seen live in this pin before it is stored anew. INVARIANT 2: by its hash.
                if N::is_live(node) {
                    // If the child is full, the hint is lost.
                    Self::place(to, hash, hint, guard);
                }
                clear(way, hint);
            }
        }
    }
}

/// Returns the bucket of a hash.
#[inline(always)]
fn index(hash: u64, size: usize) -> usize {
    hash as usize & (size - 1)
}

/// Returns the tag of a hash, where a way has it: never 0.
#[inline(always)]
fn tag(hash: u64) -> usize {
    ((hash >> 48) as usize | 1) << ADDRESS_BITS
}

/// Returns the way of a bucket where a hash is looked for first.
#[inline(always)]
fn home(hash: u64) -> usize {
    (hash >> 40) as usize % WAYS
}

/// Returns the hint to a node; `None` if the node's address does not fit.
#[inline(always)]
fn hint_to<N>(node: NonNull<N>, hash: u64) -> Option<*mut N> {
    let node = node.as_ptr();
    (node.addr() <= ADDRESS).then(|| node.map_addr(|address| address | tag(hash)))
}

/// Returns the node of a hint, or null.
#[inline(always)]
fn node_of<N>(hint: *mut N) -> *const N {
    hint.map_addr(|address| address & ADDRESS).cast_const()
}

/// Loads a hint that is to be followed.
#[inline(always)]
fn load<N, G: Guard>(way: &AtomicPtr<N>, _guard: &G) -> *mut N {
    // ORDERING: Acquire; pairs with `replace`. The node's fields are visible.
    way.load(if G::SEQ_CST_LOADS {
        order::PROTECT_HINT
    } else {
        order::READ_HINT
    })
}

/// Follows a hint.
///
/// # Safety
///
/// It was loaded from a way under that guard, and is not null.
#[inline(always)]
unsafe fn follow<'g, N: Hinted, G: Guard>(hint: *mut N, _guard: &'g G) -> N::Seen<'g> {
    // SAFETY: a way names nodes that were initialised before they were stored, and none that is freed before the guard
    // is dropped (the module's essay).
    let node = unsafe { NonNull::new_unchecked(node_of(hint).cast_mut()) };
    // SAFETY: as above; and the pointer is the one that was stored, tag apart.
    unsafe { N::see(node) }
}

/// Stores a hint where another, or none, is expected.
#[inline(always)]
fn replace<N>(way: &AtomicPtr<N>, expected: *mut N, hint: *mut N) {
    // ORDERING: Release, pairs with `load`; publishes the node's fields, which this thread has met through the index or
    // through a hint. Failure: another thread stored its own, and this one is lost.
    let _ = way.compare_exchange(expected, hint, order::STORE_HINT, order::CLEAR_HINT);
}

/// Takes a hint away, if it is still there.
#[inline(always)]
fn clear<N>(way: &AtomicPtr<N>, hint: *mut N) {
    // ORDERING: Relaxed; publishes nothing. That no later reader loads the old value is the collector's doing (fact B).
    // Failure: the way was given to another node.
    let _ = way.compare_exchange(hint, ptr::null_mut(), order::CLEAR_HINT, order::CLEAR_HINT);
}

/// Returns a number that differs from call to call, from a stream of this thread's own.
#[cfg(not(loom))]
fn draw() -> u32 {
    use std::cell::Cell;
    thread_local! {
        static STREAM: Cell<u32> = const { Cell::new(0x9E37_79B9) };
    }
    // Marsaglia's xorshift (2003) with the first of his triples; good enough to spread evictions.
    let mut next = STREAM.get();
    next ^= next << 13;
    next ^= next >> 17;
    next ^= next << 5;
    STREAM.set(next);
    next
}

/// Returns a number that makes every store to a full bucket look around and evict: each execution must be the same again.
#[cfg(loom)]
fn draw() -> u32 {
    0
}

#[cfg(all(test, not(loom)))]
#[path = "hints_tests.rs"]
mod tests;
