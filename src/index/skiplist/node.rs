//! One node of the skiplist: where its parts lie, how its links are read and changed, how keys compare.
//!
//! ```text
//!   far part            near part                            line
//!   +-------------------+------------------------------------+------------------------------------------------+
//!   | .. link 5  link 4 | 40 bytes of key  link 3 .. link 1  | link 0 | value | length, height, flags | key .. |
//!   +-------------------+------------------------------------+------------------------------------------------+
//!    height 5 and more    height 2 and more                  ^ the node's address; the key is padded to 44 bytes
//!
//!   each a multiple of 64 bytes, and aligned to as much
//!
//!   link:   address of the next node at that level; bit 0 is the mark: this node is removed at that level
//!   flags:  BUILT: its inserter links it nowhere any more;  GONE: it is marked at every level
//! ```
//!
//! With a value of one word, everything that a step along level 0 needs is one line: the link, the value and 44 bytes of
//! key. So is what a step along levels 1 to 3 needs, by the copy of the key's beginning: a search leaves those nodes' own
//! lines alone. Longer keys continue behind the line.
//!
//! # Invariants
//!
//! 1. Key, length, height and value's place are immutable once a node is published. Link `l` exists for `l < height`.
//! 2. A link once marked never changes again.
//! 3. Every [`NodeRef<'g>`] was reached through links loaded under a guard that lives for `'g`, of the collector to
//!    which the list's nodes are retired, or is the list's head, which lives as long as the list.
//! 4. All pointers to a node derive from its allocation, so that the tower before it and the key behind it may be
//!    reached through them, and the node be freed; no reference to a node's line is ever made into one. Hints keep such
//!    pointers too.
//!
//! The methods are safe to call as far as memory goes only with what `skiplist.rs` establishes; `index::skiplist` is the
//! boundary inside which that is checked, and what it hands out is safe.

use std::alloc::Layout;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::super::hints::{Hinted, Hints, KeyHash};
use super::key::{PADDED, SearchKey, WORDS};
use crate::reclaim::{Guard, Heap, Memory, Retired, Tracked, prefetch};
use crate::sync::{AtomicPtr, AtomicU8, order};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bit of a link: the node that holds it is removed at that level.
const MARK: usize = 1;

/// Flag: the inserter is done with the node's tower.
pub(super) const BUILT: u8 = 1;

/// Flag: the node is marked at every level.
pub(super) const GONE: u8 = 2;

/// A link to the next node of a level.
#[repr(transparent)]
pub(super) struct Link<V>(AtomicPtr<Node<V>>);

/// The line of a node. Its tower lies before it and its key behind it.
#[repr(C)]
pub(super) struct Node<V> {
    link: Link<V>,
    value: V,
    tracked: Tracked,
    /// Keys are not empty, and the longest has 65,536 bytes.
    length_less_one: u16,
    height: u8,
    flags: AtomicU8,
    key: [u8; 0],
}

#[cfg(not(loom))]
const _: () = assert!(offset_of!(Node<u64>, key) + PADDED == LINE);
const _: () = assert!(crate::types::MAX_KEY_BYTES + 17 <= 1 << 16);

/// Links above 0 that lie in the line before the node's, together with a copy of the key's beginning.
const NEAR_LINKS: usize = 3;

/// Words of the key that are copied there.
const COPIED: usize = 5;

/// Bytes of the near part of a tower: a line, except in loom builds, where atomics are larger.
const fn near_bytes<V>() -> usize {
    (COPIED * size_of::<u64>() + NEAR_LINKS * size_of::<Link<V>>()).next_multiple_of(LINE)
}

/// Returns how many bytes lie before a node.
#[inline]
fn tower_bytes<V>(height: usize) -> usize {
    match height {
        1 => 0,
        _ => near_bytes::<V>() + (height.saturating_sub(NEAR_LINKS + 1) * size_of::<Link<V>>()).next_multiple_of(LINE),
    }
}

/// Returns how many bytes before a node its link of a level lies.
#[inline]
fn link_offset<V>(level: usize) -> usize {
    let offset = level * size_of::<Link<V>>();
    if level <= NEAR_LINKS {
        offset
    } else {
        offset + near_bytes::<V>() - NEAR_LINKS * size_of::<Link<V>>()
    }
}

/// Returns the layout of a node's allocation.
#[inline]
fn layout_of<V>(height: usize, length: usize) -> Layout {
    const { assert!(align_of::<Node<V>>() <= LINE && align_of::<Node<V>>() > MARK) }
    let line = (offset_of!(Node<V>, key) + length.max(PADDED)).max(size_of::<Node<V>>());
    Layout::from_size_align(tower_bytes::<V>(height) + line, LINE).expect("keys are far shorter than the address space")
}

// SAFETY: gives back the allocation that `OwnedNode::new` made. Dropping the value is all that could panic or be bound to
// a thread, and `V: Send`.
unsafe impl<V: Send> Retired for Node<V> {
    unsafe fn reclaim<M: Memory>(ptr: *mut Self, memory: &M) {
        // SAFETY: still allocated, by contract.
        let height = usize::from(unsafe { (*ptr).height });
        // SAFETY: as above.
        let length = usize::from(unsafe { (*ptr).length_less_one }) + 1;
        for level in 1..height {
            // SAFETY: the link exists (invariant 1), and `ptr` reaches it (invariant 4).
            let link = unsafe { ptr.byte_sub(link_offset::<V>(level)) }.cast::<Link<V>>();
            // SAFETY: initialised by `OwnedNode::new`; it needs dropping in loom builds, where atomics are registered.
            unsafe { ptr::drop_in_place(link) };
        }
        // SAFETY: nobody else has the node, by contract.
        unsafe { ptr::drop_in_place(ptr) };
        // SAFETY: the allocation begins with the tower.
        let block = unsafe { ptr.cast::<u8>().sub(tower_bytes::<V>(height)) };
        // SAFETY: an allocation is not at address zero.
        let block = unsafe { NonNull::new_unchecked(block) };
        // SAFETY: allocated with this layout, and the only call, by contract.
        unsafe { memory.free(block, layout_of::<V>(height, length)) };
    }

    fn bytes(&self) -> usize {
        layout_of::<V>(usize::from(self.height), usize::from(self.length_less_one) + 1).size()
    }

    fn tracked(&self) -> &Tracked {
        &self.tracked
    }
}

// SAFETY: a node is marked at level 0 before it is retired, and a thread that pins after that sees the mark; its key is
// immutable.
unsafe impl<V: Send + Sync + 'static> Hinted for Node<V> {
    type Seen<'g> = NodeRef<'g, V>;

    #[inline]
    unsafe fn see<'g>(node: NonNull<Self>) -> NodeRef<'g, V> {
        // INVARIANTS 3 and 4: guaranteed by the caller.
        NodeRef {
            ptr: node,
            lifetime: PhantomData,
        }
    }

    #[inline]
    fn address(node: NodeRef<'_, V>) -> NonNull<Self> {
        node.ptr
    }

    #[inline]
    fn is_live(node: NodeRef<'_, V>) -> bool {
        !node.is_removed()
    }

    #[inline]
    fn key_hash(node: NodeRef<'_, V>, hash: &KeyHash) -> u64 {
        hash.of(node.key_bytes())
    }
}

/// A removed node, and the hints that may still lead to it: retired in its place.
struct Removal<V: Send + Sync + 'static> {
    node: NonNull<Node<V>>,
    hints: Arc<Hints<Node<V>>>,
}

// SAFETY: a node of `V`s that threads share and send, and hints to such nodes.
unsafe impl<V: Send + Sync> Send for Removal<V> {}

// SAFETY: frees the node, which was retired through this alone, and the removal's own block.
unsafe impl<V: Send + Sync> Retired for Removal<V> {
    unsafe fn expire(ptr: *mut Self) -> bool {
        // SAFETY: valid, by contract.
        let removal = unsafe { &*ptr };
        // SAFETY: freed by `reclaim` alone.
        removal.hints.forget(unsafe { Node::see(removal.node) });
        true
    }

    unsafe fn reclaim<M: Memory>(ptr: *mut Self, memory: &M) {
        // SAFETY: the only call, by contract: the removal is moved out of its block.
        let removal = unsafe { ptr.read() };
        // SAFETY: guaranteed by the caller.
        unsafe { Node::reclaim(removal.node.as_ptr(), memory) };
        // SAFETY: a removal is not at address zero.
        let block = unsafe { NonNull::new_unchecked(ptr.cast::<u8>()) };
        // SAFETY: allocated by `retire` with this layout, and used no more.
        unsafe { memory.free(block, Layout::new::<Self>()) };
    }

    fn bytes(&self) -> usize {
        // SAFETY: freed by `reclaim` alone.
        size_of::<Self>() + unsafe { self.node.as_ref() }.bytes()
    }

    fn tracked(&self) -> &Tracked {
        // SAFETY: as above.
        unsafe { &self.node.as_ref().tracked }
    }
}

/// What a link held: the next node, if there is one, and the mark.
pub(super) struct Next<'g, V> {
    ptr: *mut Node<V>,
    lifetime: PhantomData<&'g Node<V>>,
}

impl<V> Clone for Next<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Next<'_, V> {}

impl<V> PartialEq for Next<'_, V> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.ptr == other.ptr
    }
}

impl<'g, V> Next<'g, V> {
    /// The end of a level.
    pub(super) const END: Self = Self {
        ptr: ptr::null_mut(),
        lifetime: PhantomData,
    };

    /// Says whether the node that holds the link is removed at its level.
    #[inline]
    pub(super) fn is_marked(self) -> bool {
        self.ptr.addr() & MARK != 0
    }

    /// Returns the link without its mark.
    #[inline]
    pub(super) fn unmarked(self) -> Self {
        Self {
            ptr: self.ptr.map_addr(|address| address & !MARK),
            lifetime: PhantomData,
        }
    }

    /// Returns the next node, whether the link is marked or not.
    #[inline]
    pub(super) fn node(self) -> Option<NodeRef<'g, V>> {
        NonNull::new(self.unmarked().ptr).map(|ptr| NodeRef {
            ptr,
            lifetime: PhantomData,
        })
    }

    /// Asks the processor for the next node's line, and for its links at `level` and below.
    #[inline(always)]
    pub(super) fn prefetch_whole(self, level: usize) {
        prefetch(self.ptr);
        if level > 0 {
            prefetch(self.ptr.cast::<u8>().wrapping_sub(LINE));
        }
        if level > NEAR_LINKS {
            prefetch(self.ptr.cast::<u8>().wrapping_sub(2 * LINE));
        }
    }

    /// Asks the processor for what a search touches that comes to the next node at `level`, and goes on there or
    /// soon below.
    #[inline(always)]
    pub(super) fn prefetch_at(self, level: usize) {
        let line = self.ptr.cast::<u8>();
        if level <= 2 {
            prefetch(line);
        }
        if level > 0 {
            prefetch(line.wrapping_sub(LINE));
        }
        if level > NEAR_LINKS {
            prefetch(line.wrapping_sub(2 * LINE));
        }
    }
}

impl<V> Link<V> {
    fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Loads the link, as this thread can follow it.
    #[inline]
    pub(super) fn load<'g, G: Guard>(&self, _guard: &'g G) -> Next<'g, V> {
        // ORDERING: Acquire; pairs with `exchange`: the next node's fields are visible.
        let ptr = self.0.load(if G::SEQ_CST_LOADS {
            order::PROTECT_LINK
        } else {
            order::READ_LINK
        });
        Next {
            ptr,
            lifetime: PhantomData,
        }
    }

    /// Links `to` in place of `from`, which is not marked. Fails if anything has changed.
    #[inline]
    pub(super) fn exchange(&self, from: Next<'_, V>, to: Next<'_, V>, change: Change) -> bool {
        debug_assert!(!from.is_marked());
        let order = match change {
            Change::Insert => order::LINK_BASE,
            Change::Build => order::LINK_TOWER,
            Change::Unlink => order::UNLINK_NODE,
        };
        // ORDERING: Release; publishes the fields of `to`, which this thread wrote or acquired. Failure: the caller
        // looks again.
        self.0.compare_exchange(from.ptr, to.ptr, order, order::COUNT).is_ok()
    }

    /// Marks the link. Returns whether this call did it (invariant 2).
    #[inline]
    pub(super) fn mark(&self) -> bool {
        // ORDERING: Acquire; a mark that another thread made comes after those that it made before.
        let mut ptr = self.0.load(order::READ_LINK);
        while ptr.addr() & MARK == 0 {
            let marked = ptr.map_addr(|address| address | MARK);
            // ORDERING: AcqRel; publishes the marks above this one. The next node stays published. Failure: as the load.
            match self.0.compare_exchange(ptr, marked, order::MARK_LINK, order::READ_LINK) {
                Ok(_) => return true,
                Err(now) => ptr = now,
            }
        }
        false
    }
}

/// Why a link is changed: each has an ordering of its own name.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// A node is inserted at level 0.
    Insert,
    /// A node is linked at a level above.
    Build,
    /// A marked node is unlinked.
    Unlink,
}

/// A node that stays readable for `'g`.
pub(super) struct NodeRef<'g, V> {
    ptr: NonNull<Node<V>>,
    lifetime: PhantomData<&'g Node<V>>,
}

impl<V> Clone for NodeRef<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for NodeRef<'_, V> {}

impl<V> PartialEq for NodeRef<'_, V> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.ptr == other.ptr
    }
}

impl<'g, V> NodeRef<'g, V> {
    /// Returns the node's line.
    #[inline]
    fn line(self) -> &'g Node<V> {
        // SAFETY: nodes in links are initialised, and stay allocated for `'g` (invariant 3).
        let line = unsafe { self.ptr.as_ref() };
        line.tracked.check();
        line
    }

    /// Returns the link of a level below the node's height.
    #[inline]
    pub(super) fn link(self, level: usize) -> &'g Link<V> {
        debug_assert!(level < usize::from(self.line().height));
        #[cfg(loom)]
        self.line();
        // SAFETY: the link exists (invariant 1), and the pointer reaches it (invariant 4).
        let link = unsafe { self.ptr.byte_sub(link_offset::<V>(level)) }.cast::<Link<V>>();
        // SAFETY: as above; initialised, and allocated for `'g` (invariant 3).
        unsafe { link.as_ref() }
    }

    /// Returns the value.
    #[inline]
    pub(super) fn value(self) -> &'g V {
        &self.line().value
    }

    /// Returns at how many levels the node is meant to be linked.
    #[inline]
    pub(super) fn height(self) -> usize {
        usize::from(self.line().height)
    }

    /// Says whether the node is removed: marked at level 0, the last to be marked.
    #[inline]
    pub(super) fn is_removed(self) -> bool {
        // ORDERING: Acquire; pairs with `mark`: whoever sees this mark sees those above. Nothing is followed.
        self.line().link.0.load(order::READ_LINK).addr() & MARK != 0
    }

    /// Returns the flags that are set.
    pub(super) fn flags(self) -> u8 {
        // ORDERING: Acquire; pairs with `raise`.
        self.line().flags.load(order::READ_FLAGS)
    }

    /// Sets a flag; returns those that were set before.
    pub(super) fn raise(self, flag: u8) -> u8 {
        // ORDERING: AcqRel; the first of inserter and remover publishes all its links or marks to the second.
        self.line().flags.fetch_or(flag, order::RAISE_FLAG)
    }

    /// Returns the node as a link to it.
    #[inline]
    pub(super) fn as_next(self) -> Next<'g, V> {
        Next {
            ptr: self.ptr.as_ptr(),
            lifetime: PhantomData,
        }
    }

    #[inline]
    fn length(self) -> usize {
        usize::from(self.line().length_less_one) + 1
    }

    /// Returns a pointer to byte `at` of the key, padding included.
    #[inline]
    fn key_ptr(self, at: usize) -> NonNull<u8> {
        // SAFETY: inside the allocation: callers stay below the greater of the key's length and its padding.
        unsafe { self.ptr.byte_add(offset_of!(Node<V>, key) + at) }.cast()
    }

    /// Returns the encoded key.
    #[inline]
    pub(super) fn key_bytes(self) -> &'g [u8] {
        let bytes = NonNull::slice_from_raw_parts(self.key_ptr(0), self.length());
        // SAFETY: that many bytes were written before the node was published and never again (invariant 1).
        unsafe { bytes.as_ref() }
    }

    /// Returns eight bytes of the padded key as a number that orders as they do.
    #[inline]
    fn word(self, start: usize) -> u64 {
        // SAFETY: the line holds the padded key, initialised whole.
        let word = unsafe { self.key_ptr(start).cast::<u64>().read_unaligned() };
        u64::from_be(word)
    }

    /// Returns the node's key, prepared to be searched for.
    pub(super) fn search_key(self) -> SearchKey<'g> {
        SearchKey::from_parts(WORDS.map(|start| self.word(start)), self.key_bytes())
    }

    /// Compares the node's key with `key`, as strings of bytes.
    ///
    /// Where the padded beginnings differ, the strings differ there or the shorter one has ended and the longer one goes
    /// on with something greater than the padding. Where they agree, the rest or the lengths decide.
    #[inline]
    pub(super) fn compare(self, key: &SearchKey<'_>) -> Ordering {
        #[cfg(loom)]
        self.line();
        for (start, theirs) in WORDS.into_iter().zip(key.words()) {
            let mine = self.word(start);
            if mine != *theirs {
                return mine.cmp(theirs);
            }
        }
        let length = self.length();
        if length > PADDED && key.bytes().len() > PADDED {
            return self.key_bytes()[PADDED..].cmp(&key.bytes()[PADDED..]);
        }
        length.cmp(&key.bytes().len())
    }

    /// The same for a node that was met at `level`, where its tower has a copy of the key's beginning: a search at the
    /// upper levels does not touch the node's own line.
    #[inline(always)]
    pub(super) fn compare_at(self, level: usize, key: &SearchKey<'_>) -> Ordering {
        if level == 0 {
            return self.compare(key);
        }
        #[cfg(loom)]
        self.line();
        // SAFETY: a node with a link above 0 has a near part (invariant 1), and the pointer reaches it (invariant 4).
        let copy = unsafe { self.ptr.byte_sub(near_bytes::<V>()) }.cast::<[u64; COPIED]>();
        // SAFETY: as above; written before the node was published, and never again.
        let copy = unsafe { copy.as_ref() };
        for (mine, theirs) in copy.iter().zip(key.words()) {
            if mine != theirs {
                return mine.cmp(theirs);
            }
        }
        self.compare(key)
    }

    /// Hands the node over to the collector, to be freed when no hint leads to it any more.
    ///
    /// # Safety
    ///
    /// No thread that pins later can reach the node but through a hint, and it was not retired before.
    pub(super) unsafe fn retire<G: Guard>(self, hints: &Arc<Hints<Node<V>>>, guard: &G)
    where
        V: Send + Sync + 'static,
    {
        if !hints.is_on() {
            // SAFETY: guaranteed by the caller; from `OwnedNode`'s allocation.
            unsafe { guard.retire(self.ptr.as_ptr()) };
            return;
        }
        let removal = guard
            .memory()
            .allocate(Layout::new::<Removal<V>>())
            .cast::<Removal<V>>();
        let hints = Arc::clone(hints);
        // SAFETY: freshly allocated for it.
        unsafe { removal.write(Removal { node: self.ptr, hints }) };
        // SAFETY: the removal is new, and stands for the node.
        unsafe { guard.retire(removal.as_ptr()) };
    }
}

/// A node that no other thread can reach yet.
pub(super) struct OwnedNode<'g, V: Default + Send, M: Memory> {
    node: NodeRef<'g, V>,
    memory: &'g M,
}

impl<'g, V: Default + Send, M: Memory> OwnedNode<'g, V, M> {
    /// Returns a node of `height` with an empty value.
    #[inline]
    pub(super) fn new(key: &SearchKey<'_>, height: usize, flags: u8, memory: &'g M) -> Self {
        let ptr = allocate(key, height, flags, memory);
        let node = NodeRef {
            ptr,
            lifetime: PhantomData,
        };
        Self { node, memory }
    }

    /// Sets the link of a level.
    #[inline]
    pub(super) fn set_link(&self, level: usize, next: Next<'_, V>) {
        // ORDERING: Relaxed; linking the node publishes it.
        self.node.link(level).0.store(next.ptr, order::COUNT);
    }

    /// Returns the node as a link to it.
    #[inline]
    pub(super) fn as_next(&self) -> Next<'_, V> {
        self.node.as_next()
    }

    /// Gives the node up to the list that it was just linked into.
    #[inline]
    pub(super) fn published(self) -> NodeRef<'g, V> {
        let node = self.node;
        std::mem::forget(self);
        node
    }
}

impl<V: Default + Send, M: Memory> Drop for OwnedNode<'_, V, M> {
    fn drop(&mut self) {
        // A failed model unwinds outside of loom, which has no account of the allocation any more.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        // SAFETY: never published, so this thread alone has it.
        unsafe { Node::reclaim(self.node.ptr.as_ptr(), self.memory) };
    }
}

/// Allocates and initialises a node, all links null.
#[inline]
fn allocate<V: Default, M: Memory>(
    search_key: &SearchKey<'_>,
    height: usize,
    flags: u8,
    memory: &M,
) -> NonNull<Node<V>> {
    let key = search_key.bytes();
    let line = Node {
        link: Link::new(),
        value: V::default(),
        tracked: Tracked::default(),
        length_less_one: u16::try_from(key.len() - 1).expect("checked against MAX_KEY_BYTES at the engine's face"),
        height: height as u8,
        flags: AtomicU8::new(flags),
        key: [],
    };
    let block = memory.allocate(layout_of::<V>(height, key.len()));
    // SAFETY: the node begins behind its tower, inside the allocation.
    let ptr = unsafe { block.add(tower_bytes::<V>(height)) }.cast::<Node<V>>();
    if height > 1 {
        // SAFETY: the tower has a near part.
        let copy = unsafe { ptr.byte_sub(near_bytes::<V>()) }.cast::<[u64; COPIED]>();
        let words = std::array::from_fn(|number| search_key.words()[number]);
        // SAFETY: as above; freshly allocated, and aligned as a line is.
        unsafe { copy.write(words) };
    }
    for level in 1..height {
        // SAFETY: the tower has room for the links below `height`.
        let link = unsafe { ptr.byte_sub(link_offset::<V>(level)) }.cast::<Link<V>>();
        // SAFETY: as above; freshly allocated.
        unsafe { link.write(Link::new()) };
    }
    // SAFETY: freshly allocated for it, and aligned as a line is.
    unsafe { ptr.write(line) };
    // SAFETY: the allocation reaches at least that far.
    let bytes = unsafe { ptr.byte_add(offset_of!(Node<V>, key)) }.cast::<u8>();
    if key.len() < PADDED {
        // SAFETY: the padded key fits the allocation.
        unsafe { bytes.write_bytes(0, PADDED) };
    }
    // SAFETY: the key fits the allocation, which is apart from it, being new.
    unsafe { ptr::copy_nonoverlapping(key.as_ptr(), bytes.as_ptr(), key.len()) };
    ptr
}

/// The node before all others, which has every level and no key, and with it all nodes that are linked when it is
/// dropped.
pub(super) struct Head<V: Send>(NonNull<Node<V>>);

// SAFETY: a list of `V`s that its threads share, drop and send to each other.
unsafe impl<V: Send + Sync> Send for Head<V> {}
// SAFETY: as above.
unsafe impl<V: Send + Sync> Sync for Head<V> {}

impl<V: Default + Send> Head<V> {
    /// Returns the head of an empty list.
    pub(super) fn new(height: usize) -> Self {
        Self(allocate(&SearchKey::of_head(), height, BUILT, &Heap))
    }
}

impl<V: Send> Head<V> {
    /// Returns the head as the first node of each level. Its key is never looked at.
    #[inline]
    pub(super) fn node<'l>(&'l self) -> NodeRef<'l, V> {
        NodeRef {
            ptr: self.0,
            lifetime: PhantomData,
        }
    }
}

impl<V: Send> Drop for Head<V> {
    fn drop(&mut self) {
        // A failed model unwinds outside of loom, where its atomics cannot be touched.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        let mut next = self.0.as_ptr();
        while !next.is_null() {
            let node = next;
            // ORDERING: Relaxed; exclusive access. No operation is under way, so no linked node is marked.
            // SAFETY: linked at level 0, so not retired; exclusive access.
            next = unsafe { &(*node).link }.0.load(order::COUNT);
            debug_assert!(next.addr() & MARK == 0);
            // SAFETY: exclusive access; level 0 leads to each node once.
            unsafe { Node::reclaim(node, &Heap) };
        }
    }
}
