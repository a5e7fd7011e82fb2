//! A transaction as other threads see it: status, read timestamp, write set. And how long it lives.
//!
//! A version that a transaction linked names its descriptor until the decision is copied into the version itself. So
//! a descriptor must outlive its undecided versions, and must not live as long as its coldest one.
//!
//! # Invariants
//!
//! 1. `references` counts the owner and every version word that holds OWNER(this). Whoever links a version takes its
//!    reference *before* the compare-and-swap, and gives it back if that fails.
//! 2. At zero the transaction is decided and no version names it; the count never rises from zero. Whoever brings it to
//!    zero retires the descriptor.
//! 3. The write set is sorted by key, has no key twice, and is immutable from creation.
//! 4. A word that was seen to hold OWNER(this) under a guard counted at that moment, so the retirement comes
//!    later than the pin and the descriptor is readable under that guard.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair does |
//! |---|---|---|---|
//! | `status` | `PREPARE` | `READ_STATUS` | whoever decides has all versions linked before it (F1, F4) |
//! | `status` | `DECIDE_TX` | `READ_STATUS` | the draw of the timestamp is before any later draw for the same keys |
//! | `status` | `ABORT_TX` | `READ_STATUS` | the version that caused the abort is visible |
//! | `references` | `DROP_OWNER` | `DROP_OWNER` | all use of the descriptor is before its retirement |
//! | `references` | `DROP_OWNER` | `TAKE_OWNER` | a count of zero brings the decision with it |

use std::marker::PhantomData;
use std::ops::Deref;

use crate::reclaim::{Guard, Heap, Memory, Retired, Tracked};
use crate::sync::{AtomicU64, AtomicUsize, order};
use crate::types::{Key, Timestamp};

use super::status::Status;

/// One write of a transaction.
pub struct Write {
    /// The encoded key.
    pub key: Key,
    /// The value, or `None` to delete.
    pub value: Option<Box<[u8]>>,
}

/// What any thread needs to finish a transaction.
#[repr(align(8))]
pub(crate) struct Descriptor {
    status: AtomicU64,
    references: AtomicUsize,
    read_timestamp: Timestamp,
    writes: Box<[Write]>,
    tracked: Tracked,
}

// SAFETY: frees the box that `OwnedDescriptor::new` leaked; dropping it runs no user code.
unsafe impl Retired for Descriptor {
    unsafe fn reclaim<M: Memory>(ptr: *mut Self, _memory: &M) {
        // SAFETY: from `Box::into_raw`, and the only call, by contract.
        drop(unsafe { Box::from_raw(ptr) });
    }

    fn bytes(&self) -> usize {
        let values = self
            .writes
            .iter()
            .filter_map(|write| write.value.as_ref())
            .map(|value| value.len());
        let keys = self.writes.iter().map(|write| write.key.heap_bytes());
        size_of::<Self>() + size_of_val::<[Write]>(&self.writes) + values.sum::<usize>() + keys.sum::<usize>()
    }

    fn tracked(&self) -> &Tracked {
        &self.tracked
    }
}

impl Descriptor {
    /// Returns the write set, sorted by key.
    pub(crate) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Returns the timestamp of the snapshot that the transaction reads.
    pub(crate) fn read_timestamp(&self) -> Timestamp {
        self.read_timestamp
    }

    /// Returns the number of the write to `key`, which the write set has.
    pub(crate) fn position(&self, key: &Key) -> usize {
        self.writes
            .binary_search_by(|write| write.key.cmp(key))
            .expect("a version that names the transaction hangs at a key of its write set")
    }

    /// Returns where the transaction stands.
    #[inline]
    pub(crate) fn status(&self) -> Status {
        // ORDERING: SeqCst, F1 and F4; the partners are `prepare`, `decide` and `abort`.
        Status::decode(self.status.load(order::READ_STATUS))
    }

    /// ACTIVE to PREPARED: every version is linked. Somebody else having done it, or aborted, is as good.
    #[inline]
    pub(crate) fn prepare(&self) {
        // ORDERING: SeqCst, F1 and F4; publishes the linked versions. On failure it was prepared or aborted already.
        let _ = self.status.compare_exchange(
            Status::Active.encode(),
            Status::Prepared.encode(),
            order::PREPARE,
            order::READ_STATUS,
        );
    }

    /// PREPARED to COMMITTED, at a timestamp drawn after PREPARED was seen. Returns whether this call decided it.
    #[inline]
    pub(crate) fn decide(&self, ts: Timestamp) -> bool {
        // ORDERING: AcqRel; publishes the draw. On failure somebody else decided, and the caller looks again.
        self.status
            .compare_exchange(
                Status::Prepared.encode(),
                Status::Committed(ts).encode(),
                order::DECIDE_TX,
                order::READ_STATUS,
            )
            .is_ok()
    }

    /// ACTIVE to ABORTED, because of a conflict at the write of number `write`.
    pub(crate) fn abort(&self, write: usize) {
        // ORDERING: AcqRel; publishes the sight of the conflicting version. On failure it was decided otherwise.
        let _ = self.status.compare_exchange(
            Status::Active.encode(),
            Status::Aborted(write).encode(),
            order::ABORT_TX,
            order::READ_STATUS,
        );
    }
}

/// A descriptor that is readable for as long as `'g`: its guard is held, or its owner has not released it.
#[derive(Clone, Copy)]
pub(crate) struct DescriptorRef<'g> {
    ptr: *mut Descriptor,
    lifetime: PhantomData<&'g Descriptor>,
}

impl<'g> DescriptorRef<'g> {
    /// Wraps the address found in a version's word.
    ///
    /// # Safety
    ///
    /// The word was read under a guard that lives for `'g`, and held OWNER with this address (invariant 4).
    #[inline]
    pub(super) unsafe fn from_word(ptr: *mut Descriptor) -> Self {
        Self {
            ptr,
            lifetime: PhantomData,
        }
    }

    /// Returns the address, to be put into a version's word.
    #[inline]
    pub(super) fn as_ptr(self) -> *mut Descriptor {
        self.ptr
    }

    /// Says whether both are the same transaction.
    #[inline]
    pub(crate) fn is(self, other: DescriptorRef<'_>) -> bool {
        std::ptr::eq(self.ptr, other.ptr)
    }

    /// Takes a reference for a version about to be linked. `false` means that the count was zero: the transaction is
    /// decided, and nothing may be linked for it.
    #[inline]
    pub(crate) fn take(self) -> bool {
        // ORDERING: Acquire; pairs with `release`. A zero must bring the decision with it, or the caller, who goes by
        // the status, could take the transaction for ACTIVE again and again.
        let mut count = self.references.load(order::TAKE_OWNER);
        while count != 0 {
            // ORDERING: Acquire, as above, also on failure. INVARIANT 1, and INVARIANT 2: never from zero.
            match self
                .references
                .compare_exchange(count, count + 1, order::TAKE_OWNER, order::TAKE_OWNER)
            {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Gives a reference back, and retires the descriptor with the last one.
    #[inline]
    pub(crate) fn release(self, guard: &impl Guard) {
        // ORDERING: AcqRel; all uses by those who released before are before the retirement.
        if self.references.fetch_sub(1, order::DROP_OWNER) == 1 {
            // SAFETY: from `Box::into_raw`. The count was one and is zero for good (invariant 2), so this is the
            // only retirement, and no version's word leads here any more.
            unsafe { guard.retire(self.ptr) };
        }
    }

    /// Gives a reference back when nothing runs beside the caller, and frees the descriptor with the last one.
    ///
    /// # Safety
    ///
    /// The caller has exclusive access to the store.
    pub(super) unsafe fn release_exclusive(self) {
        // ORDERING: as `release`.
        if self.references.fetch_sub(1, order::DROP_OWNER) == 1 {
            // SAFETY: the last reference, and nobody is pinned: the caller is alone.
            unsafe { Descriptor::reclaim(self.ptr, &Heap) };
        }
    }
}

impl Deref for DescriptorRef<'_> {
    type Target = Descriptor;

    #[inline]
    fn deref(&self) -> &Descriptor {
        // SAFETY: valid for `'g` by the contract of its constructors.
        let descriptor = unsafe { &*self.ptr };
        descriptor.tracked.check();
        descriptor
    }
}

/// Returns a new descriptor, not reachable yet, holding its owner's reference. It is readable for as long as the guard
/// is held: should the owner's release be the last, the retirement comes after the pin.
pub(crate) fn new_descriptor<'g>(
    read_timestamp: Timestamp,
    writes: Box<[Write]>,
    _guard: &'g impl Guard,
) -> DescriptorRef<'g> {
    // INVARIANT 3.
    debug_assert!(writes.is_sorted_by(|a, b| a.key < b.key));
    let descriptor = Descriptor {
        status: AtomicU64::new(Status::Active.encode()),
        references: AtomicUsize::new(1),
        read_timestamp,
        writes,
        tracked: Tracked::default(),
    };
    DescriptorRef {
        ptr: Box::into_raw(Box::new(descriptor)),
        lifetime: PhantomData,
    }
}
