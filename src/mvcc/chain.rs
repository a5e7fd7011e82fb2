//! One key's versions, newest first: linking, reading, cutting, pruning, sealing.
//!
//! ```text
//!  Chain            Version            Version            Version
//! +------+         +---------+        +---------+        +---------+
//! | head |-------->| next    |------->| next    |------->| next    |---> null
//! +------+         | word    |        | word    |        | word    |
//!  null: empty     | length  |        | length  |        | length  |
//!  VISITED: empty  | bytes...|        | bytes...|        | bytes...|
//!  SEALED: dead    +---------+        +---------+        +---------+
//!                  any status         COMMITTED          COMMITTED
//!
//!  next:  address of the older version; bit 0 is DEAD: this version is being unlinked, its link is frozen
//!  word:  a status, or OWNER and the address of a transaction's descriptor (`status.rs`)
//! ```
//!
//! Header and value share one allocation.
//!
//! # Invariants
//!
//! 1. Only the head may be undecided or aborted; every version below it is COMMITTED.
//! 2. Along a chain timestamps strictly decrease from newest to oldest.
//! 3. A head once replaced never comes back, SEALED is final, nothing pops a head. With addresses not reused before a
//!    grace period has passed, a compare-and-swap on the head fails if anything was linked since it was loaded.
//! 4. Every linked version but the head has exactly one live link leading to it, in a version whose own link is
//!    not DEAD or in one that was cut off with it. Whoever takes that link, by the exchange that replaces it, retires
//!    the version.
//! 5. Fields other than `next` and `word` are immutable once a version is linked.
//! 6. Every `VersionRef<'g>` was reached under a guard that lives for `'g`, of the collector to which this
//!    chain's versions are retired.
//!
//! What the callers answer for. The methods here are safe to call as far as memory goes only with what `settle.rs` and
//! `gc.rs` establish, and `mvcc` is the boundary inside which that is checked: `cut` and `unlink_next` are called on
//! COMMITTED versions, `seal` on chains judged dead, `link` with a `next` that is the expected head or what lies below
//! an aborted one, `release` once for each reference taken. Debug builds and models assert what can be asserted.
//!
//! Why pruning needs DEAD: with plain unlinking of `b` from `a -> b -> c`, a concurrent unlinking of `c` from `b` would
//! write into a version that has left the chain, and `c` would stay reachable after its retirement. Freezing `b.next`
//! first makes that exchange fail (Harris, DISC 2001, for lists; the rule of what may go is in `gc.rs`).
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair does |
//! |---|---|---|---|
//! | `head` | `LINK_VERSION` | `READ_HEAD` | the version's fields are visible; F1 against the clock |
//! | `head` | `SEAL_CHAIN` | `READ_HEAD` | a writer that meets the seal helps to remove the node |
//! | `next` | `CUT_NEXT`, `UNLINK_NEXT`, `FREEZE_NEXT` | `READ_NEXT` | what was judged is before the change; a reader's load of `next` stays before its load of the word |
//! | `word` | `DECIDE`, `RESOLVE_OWNER` | `READ_WORD` | the draw is before any later writer's draw for this key |
//!
//! # Progress
//!
//! Lock-free; loops end unless another thread's exchange succeeded.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use crate::reclaim::{Guard, Heap, Memory, Retired, Tracked, prefetch};
use crate::sync::pause::{self, Step};
use crate::sync::{AtomicPtr, order};
use crate::types::{Enlisted, Timestamp};

use super::descriptor::{Descriptor, DescriptorRef};
use super::status::{DROPPED, OWNER, Status, TAG_MASK};

/// Bit of `next`: the version that holds it is being unlinked.
const DEAD: usize = 1;

/// Address that a sealed head holds. No version lives at it.
const SEALED: usize = 1;

/// Address that the head of an empty chain holds once a sweep has found it empty. No version lives at it.
const VISITED: usize = 2;

/// The versions of one key.
pub struct Chain {
    head: AtomicPtr<Version>,
}

/// One value, or tombstone, of a key.
#[repr(C)]
pub(crate) struct Version {
    next: AtomicPtr<Version>,
    word: AtomicPtr<Descriptor>,
    /// Bytes of the value, which follow the header; [`TOMBSTONE`] for a deletion.
    length: u32,
    tracked: Tracked,
    bytes: [u8; 0],
}

/// Length of a version that deletes. No value is that long.
const TOMBSTONE: u32 = u32::MAX;

const _: () = assert!(crate::types::MAX_VALUE_BYTES < TOMBSTONE as usize);
const _: () = assert!(align_of::<Version>() > DEAD && align_of::<Descriptor>() > TAG_MASK as usize);

/// Returns the layout of a version with that length field.
fn layout_of(length: u32) -> Layout {
    let value = if length == TOMBSTONE { 0 } else { length as usize };
    let size = std::mem::offset_of!(Version, bytes) + value;
    Layout::from_size_align(size.max(size_of::<Version>()), align_of::<Version>())
        .expect("values are far shorter than the address space")
}

// SAFETY: gives back the allocation that `OwnedVersion::new` made, and runs no user code.
unsafe impl Retired for Version {
    #[inline]
    unsafe fn reclaim<M: Memory>(ptr: *mut Self, memory: &M) {
        // SAFETY: still allocated, by contract.
        let layout = layout_of(unsafe { (*ptr).length });
        // SAFETY: as above; the fields need dropping in loom builds, where atomics are registered objects.
        unsafe { ptr::drop_in_place(ptr) };
        // SAFETY: a version is not at address zero.
        let block = unsafe { NonNull::new_unchecked(ptr.cast::<u8>()) };
        // SAFETY: allocated with this layout, and the only call, by contract.
        unsafe { memory.free(block, layout) };
    }

    #[inline]
    fn bytes(&self) -> usize {
        layout_of(self.length).size()
    }

    fn tracked(&self) -> &Tracked {
        &self.tracked
    }
}

/// What a version's word says.
#[derive(Clone, Copy)]
pub(crate) enum Word<'g> {
    /// The version's own status.
    Own(Status),
    /// The status is that of a transaction.
    Owner(DescriptorRef<'g>),
}

/// A version that no other thread can reach yet, but whoever reads the log. Its memory is that of the thread that made
/// it.
pub(crate) struct OwnedVersion<'g, M: Memory> {
    ptr: NonNull<Version>,
    memory: &'g M,
    /// A log names it: it is not this thread's to free (`enlist.rs`, invariant 1).
    enlisted: bool,
}

/// How a put's version is born.
#[derive(Clone, Copy)]
pub(crate) enum Birth {
    /// Without a record in a log: a timestamp may be drawn as soon as it is linked.
    Prepared,
    /// To be enlisted: a timestamp may be drawn once its owner, or who finds it linked, says that it is linked.
    Active,
}

impl Birth {
    #[inline]
    fn word(self) -> *mut Descriptor {
        let status = match self {
            Self::Prepared => Status::Prepared,
            Self::Active => Status::Active,
        };
        ptr::without_provenance_mut(status.encode() as usize)
    }
}

impl<'g, M: Memory> OwnedVersion<'g, M> {
    /// Returns a put's version of `length` bytes that `fill` writes (they are zero before).
    #[inline]
    pub(crate) fn put(birth: Birth, length: usize, fill: impl FnOnce(&mut [u8]), memory: &'g M) -> Self {
        let version = Self::new(birth.word(), Self::checked(length), memory);
        let bytes = version.raw().bytes_ptr();
        // SAFETY: allocated for that many bytes after the header, and this thread's alone.
        unsafe { bytes.cast::<u8>().write_bytes(0, length) };
        // SAFETY: as above, and initialised just now.
        fill(unsafe { &mut *bytes.as_ptr() });
        version
    }

    /// Returns a put's version with a copy of `value`, or a delete's.
    #[inline]
    pub(crate) fn copy(birth: Birth, value: Option<&[u8]>, memory: &'g M) -> Self {
        match value {
            Some(value) => Self::with_copy(birth.word(), value, memory),
            None => Self::new(birth.word(), TOMBSTONE, memory),
        }
    }

    /// Returns a version that was committed before this store existed.
    pub(crate) fn restored(value: Option<&[u8]>, timestamp: Timestamp, memory: &'g M) -> Self {
        let word = ptr::without_provenance_mut(Status::Committed(timestamp).encode() as usize);
        match value {
            Some(value) => Self::with_copy(word, value, memory),
            None => Self::new(word, TOMBSTONE, memory),
        }
    }

    /// Returns a version of `owner`, with a copy of `value` or as a tombstone. It counts as a reference only from
    /// the moment the linker takes one.
    #[inline]
    pub(crate) fn owned_by(owner: DescriptorRef<'_>, value: Option<&[u8]>, memory: &'g M) -> Self {
        let word = owner.as_ptr().map_addr(|address| address | OWNER as usize);
        match value {
            Some(value) => Self::with_copy(word, value, memory),
            None => Self::new(word, TOMBSTONE, memory),
        }
    }

    #[inline]
    fn checked(length: usize) -> u32 {
        u32::try_from(length).expect("checked against MAX_VALUE_BYTES at the engine's face")
    }

    #[inline]
    fn with_copy(word: *mut Descriptor, value: &[u8], memory: &'g M) -> Self {
        let version = Self::new(word, Self::checked(value.len()), memory);
        let bytes = version.raw().bytes_ptr().cast::<u8>();
        // SAFETY: allocated for that many bytes after the header, and apart from `value`, being new.
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), bytes.as_ptr(), value.len()) };
        version
    }

    #[inline]
    fn new(word: *mut Descriptor, length: u32, memory: &'g M) -> Self {
        let ptr = memory.allocate(layout_of(length)).cast::<Version>();
        let header = Version {
            next: AtomicPtr::new(ptr::null_mut()),
            word: AtomicPtr::new(word),
            length,
            tracked: Tracked::default(),
            bytes: [],
        };
        // SAFETY: freshly allocated for this type.
        unsafe { ptr.write(header) };
        Self {
            ptr,
            memory,
            enlisted: false,
        }
    }

    /// Returns the word by which a log can name it.
    #[inline]
    pub(crate) fn as_enlisted(&self) -> Enlisted {
        Enlisted::from_ptr(self.ptr.as_ptr().cast())
    }

    /// Notes that a log names it from now on.
    #[inline]
    pub(crate) fn set_enlisted(&mut self) {
        self.enlisted = true;
    }

    /// Returns the value, or `None` for a tombstone.
    #[inline]
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.raw().value()
    }

    /// Aborts a put that a log names and that is not linked.
    pub(crate) fn abort(&self) {
        self.raw().abort_put(0);
    }

    /// Hands over a version that was aborted and is not named by the log any more.
    pub(crate) fn retire_withdrawn(self, guard: &impl Guard) {
        debug_assert!(self.enlisted && self.raw().is_aborted(guard));
        let ptr = self.ptr;
        std::mem::forget(self);
        // SAFETY: never linked, and taken out of the log, so that whoever reads it later cannot find it; from `new`.
        unsafe { guard.retire(ptr.as_ptr()) };
    }

    #[inline]
    fn raw(&self) -> VersionRef<'_> {
        VersionRef {
            ptr: self.ptr,
            lifetime: PhantomData,
        }
    }

    /// Sets the version below which this one is to be linked.
    #[inline]
    pub(crate) fn set_next(&self, next: Option<VersionRef<'_>>) {
        let next = next.map_or(ptr::null_mut(), |version| version.ptr.as_ptr());
        // ORDERING: Relaxed; linking publishes it.
        self.raw().next.store(next, order::COUNT);
    }
}

impl<M: Memory> Drop for OwnedVersion<'_, M> {
    fn drop(&mut self) {
        // The log may still look at it: on unwinding it is lost rather than freed.
        if self.enlisted {
            return;
        }
        // A failed model unwinds outside of loom, which has no account of the allocation any more.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        #[cfg(loom)]
        self.raw().tracked.mark_freed();
        // SAFETY: never published, so this thread alone has it.
        unsafe { Version::reclaim(self.ptr.as_ptr(), self.memory) };
    }
}

/// A version that stays readable for `'g`.
#[derive(Clone, Copy)]
pub(crate) struct VersionRef<'g> {
    ptr: NonNull<Version>,
    lifetime: PhantomData<&'g Version>,
}

impl Deref for VersionRef<'_> {
    type Target = Version;

    #[inline]
    fn deref(&self) -> &Version {
        // SAFETY: linked versions are initialised, and stay allocated for `'g` (invariant 6).
        let version = unsafe { self.ptr.as_ref() };
        version.tracked.check();
        version
    }
}

impl<'g> VersionRef<'g> {
    /// Wraps a link, whose DEAD bit is ignored.
    ///
    /// # Safety
    ///
    /// It was read from a chain under a guard that lives for `'g` (invariant 6), or the caller has exclusive access.
    #[inline]
    unsafe fn from_link(link: *mut Version) -> Option<Self> {
        NonNull::new(link.map_addr(|address| address & !DEAD)).map(|ptr| Self {
            ptr,
            lifetime: PhantomData,
        })
    }

    fn bytes_ptr(self) -> NonNull<[u8]> {
        let length = if self.length == TOMBSTONE {
            0
        } else {
            self.length as usize
        };
        // SAFETY: the header is allocated, so the field's address is inside the allocation.
        let first = unsafe { self.ptr.byte_add(std::mem::offset_of!(Version, bytes)) };
        NonNull::slice_from_raw_parts(first.cast(), length)
    }

    /// Returns the value, or `None` for a tombstone.
    #[inline]
    pub(crate) fn value(self) -> Option<&'g [u8]> {
        if self.length == TOMBSTONE {
            return None;
        }
        // SAFETY: that many bytes follow the header, written before the version was linked and never again (invariant
        // 5).
        Some(unsafe { self.bytes_ptr().as_ref() })
    }

    /// Says whether both are the same version.
    #[inline]
    pub(crate) fn is(self, other: VersionRef<'_>) -> bool {
        self.ptr == other.ptr
    }

    /// Returns the older version, as this thread can follow it.
    #[inline]
    pub(crate) fn next<G: Guard>(self, _guard: &'g G) -> Option<VersionRef<'g>> {
        // ORDERING: Acquire, before the load of the word that follows; pairs with the exchanges on `next`.
        let link = self.next.load(if G::SEQ_CST_LOADS {
            order::PROTECT_NEXT
        } else {
            order::READ_NEXT
        });
        // SAFETY: read from a chain under this guard.
        unsafe { Self::from_link(link) }
    }

    /// Returns the version's status word.
    #[inline]
    pub(crate) fn word<G: Guard>(self, _guard: &'g G) -> Word<'g> {
        // ORDERING: SeqCst, F1; pairs with `decide_put` and `resolve_owner`.
        let word = self.word.load(order::READ_WORD);
        let bits = word.addr() as u64;
        if bits & TAG_MASK == OWNER {
            // SAFETY: read under this guard, and it holds OWNER.
            Word::Owner(unsafe { DescriptorRef::from_word(word.map_addr(|address| address & !(TAG_MASK as usize))) })
        } else {
            Word::Own(Status::decode(bits))
        }
    }

    /// Returns the put's version that a log named.
    ///
    /// # Safety
    ///
    /// It came from [`OwnedVersion::as_enlisted`] of this store, its place in the log was not done when it was read under a
    /// guard that lives for `'g` (`enlist.rs`, invariant 3).
    #[inline]
    unsafe fn from_enlisted(enlisted: Enlisted) -> Self {
        Self {
            // SAFETY: no version is at address zero.
            ptr: unsafe { NonNull::new_unchecked(enlisted.as_ptr().cast()) },
            lifetime: PhantomData,
        }
    }

    /// ACTIVE to PREPARED, for a put that is linked. Somebody else having done it, or aborted it, is as good.
    #[inline]
    pub(crate) fn prepare_put(self) {
        let from = ptr::without_provenance_mut(Status::Active.encode() as usize);
        let to = ptr::without_provenance_mut(Status::Prepared.encode() as usize);
        // ORDERING: SeqCst, F1 and F3: linked, and its record copied, before it. On failure it was decided already.
        let _ = self.word.compare_exchange(from, to, order::PREPARE, order::READ_WORD);
    }

    /// ACTIVE to ABORTED, for a put: by its owner if its condition does not hold, or by whoever reads the log.
    fn abort_put(self, reason: usize) {
        let from = ptr::without_provenance_mut(Status::Active.encode() as usize);
        let to = ptr::without_provenance_mut(Status::Aborted(reason).encode() as usize);
        // ORDERING: AcqRel; as `Descriptor::abort`. On failure it was decided otherwise.
        let _ = self.word.compare_exchange(from, to, order::ABORT_TX, order::READ_WORD);
    }

    /// Gives up a put that a log names and whose owner does not come back. Never to PREPARED: it may not be linked.
    pub(super) fn drop_put(self) {
        self.abort_put(DROPPED);
    }

    /// PREPARED to COMMITTED, for a put. Returns whether this call decided it.
    #[inline]
    pub(crate) fn decide_put(self, ts: Timestamp) -> bool {
        let from = ptr::without_provenance_mut(Status::Prepared.encode() as usize);
        let to = ptr::without_provenance_mut(Status::Committed(ts).encode() as usize);
        // ORDERING: AcqRel; publishes the draw to later writers of the key. On failure somebody else decided.
        self.word
            .compare_exchange(from, to, order::DECIDE, order::READ_WORD)
            .is_ok()
    }

    /// Copies the decision of the transaction that owns this version into the version. The winner gives back the
    /// reference that the word held.
    #[inline]
    pub(crate) fn resolve_owner(self, owner: DescriptorRef<'_>, decision: Status, guard: &impl Guard) {
        debug_assert!(!matches!(decision, Status::Active | Status::Prepared));
        let from = owner.as_ptr().map_addr(|address| address | OWNER as usize);
        let to = ptr::without_provenance_mut(decision.encode() as usize);
        // ORDERING: AcqRel; as `decide_put`. On failure somebody else copied the same decision.
        if self
            .word
            .compare_exchange(from, to, order::RESOLVE_OWNER, order::READ_WORD)
            .is_ok()
        {
            owner.release(guard);
        }
    }

    /// Says whether the version belongs to something aborted.
    fn is_aborted(self, guard: &impl Guard) -> bool {
        let status = match self.word(guard) {
            Word::Own(status) => status,
            Word::Owner(owner) => owner.status(),
        };
        matches!(status, Status::Aborted(_))
    }

    /// Retires a version that this thread unlinked, and gives back its reference if it still holds one.
    ///
    /// # Safety
    ///
    /// This thread took the only link to it (invariant 4); it is decided.
    unsafe fn retire(self, guard: &'g impl Guard) {
        if let Word::Owner(owner) = self.word(guard) {
            let decision = owner.status();
            self.resolve_owner(owner, decision, guard);
        }
        // SAFETY: unlinked by this thread, by contract; from `OwnedVersion`'s allocation.
        unsafe { guard.retire(self.ptr.as_ptr()) };
    }

    /// Cuts off everything below this version, which is COMMITTED, and retires it. Returns how many versions that
    /// were; `None` if this version itself is being unlinked.
    pub(crate) fn cut<G: Guard>(self, guard: &'g G) -> Option<u64> {
        let mut link = loop {
            // ORDERING: Acquire, for any collector: the link is followed only after this thread took it.
            let link = self.next.load(order::READ_NEXT);
            if link.addr() & DEAD != 0 {
                return None;
            }
            if link.is_null() {
                return Some(0);
            }
            // ORDERING: AcqRel; the judgement is before the cut. INVARIANT 4: this thread takes the link.
            if self
                .next
                .compare_exchange(link, ptr::null_mut(), order::CUT_NEXT, order::READ_NEXT)
                .is_ok()
            {
                break link;
            }
        };
        let mut cut = 0;
        // SAFETY: read from a chain under this guard.
        while let Some(version) = unsafe { Self::from_link(link) } {
            // Below the cut a frozen link is taken like any other: the pruner that froze it then fails to unlink.
            // Null is final, so the oldest version needs no exchange. ORDERING: as in `next`; AcqRel, as above.
            link = version.next.load(order::READ_NEXT);
            if !link.is_null() {
                link = version.next.swap(ptr::null_mut(), order::CUT_NEXT);
            }
            // SAFETY: its only link was taken just before; it lies below a COMMITTED version, so it is (invariant 1).
            unsafe { version.retire(guard) };
            cut += 1;
        }
        Some(cut)
    }

    /// Unlinks `dead`, the version right below this one, and retires it. Both are COMMITTED and `dead` is
    /// invisible to every snapshot. Returns false if the chain changed here: look again from the head.
    pub(crate) fn unlink_next<G: Guard>(self, dead: VersionRef<'g>, guard: &'g G) -> bool {
        let after = loop {
            // ORDERING: Acquire, for any collector: the link is passed on and not followed.
            let link = dead.next.load(order::READ_NEXT);
            if link.addr() & DEAD != 0 {
                break link.map_addr(|address| address & !DEAD);
            }
            let frozen = link.map_addr(|address| address | DEAD);
            // ORDERING: AcqRel; from here on no exchange expecting a live link succeeds on it.
            if dead
                .next
                .compare_exchange(link, frozen, order::FREEZE_NEXT, order::READ_NEXT)
                .is_ok()
            {
                pause::reached(Step::Frozen);
                break link;
            }
        };
        // ORDERING: AcqRel; `after`'s fields were acquired above and are published on. It expects a link without DEAD,
        // so it fails if this version is being unlinked itself. INVARIANT 4: the winner takes the link to `dead`.
        let unlinked = self
            .next
            .compare_exchange(dead.ptr.as_ptr(), after, order::UNLINK_NEXT, order::READ_NEXT)
            .is_ok();
        if unlinked {
            // SAFETY: this thread took its only link, and it is COMMITTED.
            unsafe { dead.retire(guard) };
        }
        unlinked
    }
}

/// What a log named.
pub(crate) enum Found<'g> {
    /// A single write.
    Put(VersionRef<'g>),
    /// A transaction.
    Transaction(DescriptorRef<'g>),
}

/// Returns what a log named by a word that it kept, at a place that was not done when this guard was held already
/// (`enlist.rs`, invariant 3).
pub(super) fn find_enlisted<'g, G: Guard>(enlisted: Enlisted, _guard: &'g G) -> Found<'g> {
    // SAFETY: made by this store, and its place was not done under this guard.
    if let Some(transaction) = unsafe { DescriptorRef::from_enlisted(enlisted) } {
        return Found::Transaction(transaction);
    }
    // SAFETY: as above, and no transaction.
    Found::Put(unsafe { VersionRef::from_enlisted(enlisted) })
}

/// What a chain's head shows.
#[derive(Clone, Copy)]
pub(crate) enum Head<'g> {
    /// The chain is dead, and its node is to be removed from the index.
    Sealed,
    /// No version. `visited` says that an earlier sweep found it so; the next one may seal the chain.
    Empty { visited: bool },
    /// The newest version.
    Version(VersionRef<'g>),
}

/// What became of a restored version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restored {
    /// It is the key's first.
    First,
    /// It took the place of an older one.
    InPlace,
    /// The key has a younger one.
    Older,
}

impl Head<'_> {
    fn as_ptr(self) -> *mut Version {
        match self {
            Head::Sealed => ptr::without_provenance_mut(SEALED),
            Head::Empty { visited: false } => ptr::null_mut(),
            Head::Empty { visited: true } => ptr::without_provenance_mut(VISITED),
            Head::Version(version) => version.ptr.as_ptr(),
        }
    }
}

impl Chain {
    /// Returns what the head shows.
    #[inline]
    pub(crate) fn head<'g, G: Guard>(&self, _guard: &'g G) -> Head<'g> {
        // ORDERING: SeqCst, F1; pairs with `link` and `seal`.
        let head = self.head.load(order::READ_HEAD);
        match head.addr() {
            SEALED => return Head::Sealed,
            VISITED => return Head::Empty { visited: true },
            _ => {}
        }
        // SAFETY: read from the chain under this guard.
        match unsafe { VersionRef::from_link(head) } {
            Some(version) => Head::Version(version),
            None => Head::Empty { visited: false },
        }
    }

    /// Asks the processor for the newest version, which is about to be read.
    #[inline]
    pub(crate) fn prefetch(&self) {
        // ORDERING: Relaxed; nothing is read through it.
        prefetch(self.head.load(order::COUNT));
    }

    /// Links `version` at the head if that still is `expected`, which must not be [`Head::Sealed`]. `version`'s next is
    /// `expected`, or, if that is aborted, what lies below it: then `bypassed` says so, and the aborted version, which
    /// has lost its only link, is retired.
    #[inline]
    pub(crate) fn link<'g, G: Guard>(
        &self,
        expected: Head<'g>,
        bypassed: bool,
        version: OwnedVersion<'g, G::Memory>,
        guard: &'g G,
    ) -> Result<VersionRef<'g>, OwnedVersion<'g, G::Memory>> {
        debug_assert!(!matches!(expected, Head::Sealed));
        if let Head::Version(head) = expected {
            head.tracked.check();
        }
        let new = version.ptr;
        // ORDERING: SeqCst, F1; publishes the version's fields. Failure: the caller loads the head again.
        let linked = self
            .head
            .compare_exchange(expected.as_ptr(), new.as_ptr(), order::LINK_VERSION, order::COUNT);
        if linked.is_err() {
            return Err(version);
        }
        std::mem::forget(version);
        if bypassed && let Head::Version(aborted) = expected {
            debug_assert!(aborted.is_aborted(guard));
            // SAFETY: the exchange above took its only link, the head (invariants 3 and 4); aborted is decided.
            unsafe { aborted.retire(guard) };
        }
        Ok(VersionRef {
            ptr: new,
            lifetime: PhantomData,
        })
    }

    /// Puts `version`, which is COMMITTED, in place of the one at the head, which is retired, unless that is younger.
    /// For a store that is being restored: nothing is read or written beside it but by this method, and each of the
    /// two has only one version.
    pub(crate) fn restore<'g, G: Guard>(
        &self,
        timestamp: Timestamp,
        version: OwnedVersion<'g, G::Memory>,
        guard: &'g G,
    ) -> Restored {
        loop {
            let head = self.head(guard);
            let replaced = match head {
                Head::Version(present) => match present.word(guard) {
                    Word::Own(Status::Committed(younger)) if younger >= timestamp => return Restored::Older,
                    _ => Some(present),
                },
                Head::Empty { .. } | Head::Sealed => None,
            };
            // ORDERING: as in `link`.
            let linked =
                self.head
                    .compare_exchange(head.as_ptr(), version.ptr.as_ptr(), order::LINK_VERSION, order::COUNT);
            if linked.is_err() {
                continue;
            }
            std::mem::forget(version);
            return match replaced {
                Some(older) => {
                    // SAFETY: the exchange above took its only link; it is COMMITTED.
                    unsafe { older.retire(guard) };
                    Restored::InPlace
                }
                None => Restored::First,
            };
        }
    }

    /// Seals the chain if its head still is `expected`, and retires what it held: `expected` itself, and
    /// below an aborted head one tombstone. Returns how many versions those were; `None` if the head had changed.
    ///
    /// The caller has judged the chain dead: empty, or a COMMITTED tombstone that every snapshot sees, or an ABORTED
    /// head over nothing or over such a tombstone.
    pub(crate) fn seal<'g, G: Guard>(&self, expected: Head<'g>, guard: &'g G) -> Option<u64> {
        let sealed = Head::Sealed.as_ptr();
        // ORDERING: AcqRel; the judgement is before it. Failure: the caller gives up.
        self.head
            .compare_exchange(expected.as_ptr(), sealed, order::SEAL_CHAIN, order::COUNT)
            .ok()?;
        pause::reached(Step::Sealed);
        let mut retired = 0;
        let mut version = match expected {
            Head::Version(version) => Some(version),
            Head::Empty { .. } | Head::Sealed => None,
        };
        while let Some(dead) = version {
            version = dead.next(guard);
            // SAFETY: the seal took the link to the head (invariant 3), and with it the way to what hangs below.
            unsafe { dead.retire(guard) };
            retired += 1;
        }
        Some(retired)
    }

    /// Remembers that a sweep found the chain empty, unless something has been linked since.
    pub(crate) fn visit_empty(&self) {
        let (from, to) = (
            Head::Empty { visited: false }.as_ptr(),
            Head::Empty { visited: true }.as_ptr(),
        );
        // ORDERING: Relaxed; it only spares a first insertion the race against removal. Sealing itself is checked.
        let _ = self.head.compare_exchange(from, to, order::COUNT, order::COUNT);
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // ORDERING: Relaxed; exclusive access. A sealed chain's versions were retired by the sealer.
        let mut link = self.head.load(order::COUNT);
        if link.addr() == SEALED || link.addr() == VISITED {
            return;
        }
        // SAFETY: exclusive access: the store is being dropped.
        while let Some(version) = unsafe { VersionRef::from_link(link) } {
            // ORDERING: Relaxed, as above.
            link = version.next.load(order::COUNT);
            let word = version.word.load(order::COUNT);
            if word.addr() as u64 & TAG_MASK == OWNER {
                let descriptor = word.map_addr(|address| address & !(TAG_MASK as usize));
                // SAFETY: the word holds a reference, so the descriptor is still there.
                let owner = unsafe { DescriptorRef::from_word(descriptor) };
                // SAFETY: exclusive access.
                unsafe { owner.release_exclusive() };
            }
            // SAFETY: exclusive access; each linked version has one link, so it is met once.
            unsafe { Version::reclaim(version.ptr.as_ptr(), &Heap) };
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "chain_tests.rs"]
mod tests;
