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

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::reclaim::{Guard, Heap, Memory, Retired, Tracked};
use crate::sync::{AtomicU64, AtomicUsize, order};
use crate::types::{Enlisted, Key, Timestamp};

use super::status::{DROPPED, Status};

/// What a transaction writes, sorted by key, with no key twice.
pub trait Writes {
    /// Returns how many keys are written.
    fn len(&self) -> usize;

    /// Says whether there is nothing to write.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes through keys and values in order; `None` deletes.
    fn iter(&self) -> impl Iterator<Item = (&Key, Option<&[u8]>)>;
}

/// One write of a transaction, by itself.
pub struct Write {
    /// The encoded key.
    pub key: Key,
    /// The value, or `None` to delete.
    pub value: Option<Box<[u8]>>,
}

/// A descriptor's writes, to make another descriptor of them.
impl Writes for DescriptorRef<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, Option<&[u8]>)> {
        self.writes()
    }
}

impl Writes for [Write] {
    fn len(&self) -> usize {
        <[Write]>::len(self)
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, Option<&[u8]>)> {
        <[Write]>::iter(self).map(|write| (&write.key, write.value.as_deref()))
    }
}

/// What any thread needs to finish a transaction. The write set follows in the same allocation:
///
/// ```text
/// +--------+---------+---------+-----+-----------------+
/// | header | Entry 0 | Entry 1 | ... | bytes of values |
/// +--------+---------+---------+-----+-----------------+
/// ```
#[repr(C, align(16))]
pub(crate) struct Descriptor {
    status: AtomicU64,
    references: AtomicUsize,
    read_timestamp: Timestamp,
    /// Number of entries.
    count: usize,
    /// Bytes of all values together.
    value_bytes: usize,
    /// Bytes that long keys have elsewhere.
    key_bytes: usize,
    tracked: Tracked,
}

/// One write: the key, and where its value begins among the bytes of values.
struct Entry {
    key: Key,
    start: usize,
    /// [`TOMBSTONE`] deletes.
    length: u32,
}

/// Length of a write that deletes. No value is that long.
const TOMBSTONE: u32 = u32::MAX;

/// In the word by which a log names it: a transaction, not a put.
const ENLISTED: usize = 1;

const _: () = assert!(crate::types::MAX_VALUE_BYTES < TOMBSTONE as usize);
const _: () = assert!(size_of::<Descriptor>().is_multiple_of(align_of::<Entry>()));
const _: () = assert!(align_of::<Descriptor>() >= align_of::<Entry>());

/// Returns the layout of a descriptor with so many writes and bytes of values.
fn layout_of(count: usize, value_bytes: usize) -> Layout {
    let entries = count.checked_mul(size_of::<Entry>());
    let size = entries.and_then(|entries| entries.checked_add(size_of::<Descriptor>() + value_bytes));
    Layout::from_size_align(size.unwrap_or(usize::MAX), align_of::<Descriptor>())
        .expect("a write set that was buffered fits into the address space")
}

// SAFETY: gives back the allocation that `new_descriptor` made, after dropping its keys; no user code runs.
unsafe impl Retired for Descriptor {
    unsafe fn reclaim<M: Memory>(ptr: *mut Self, memory: &M) {
        // SAFETY: still allocated, by contract.
        let descriptor = unsafe { &*ptr };
        let (count, value_bytes) = (descriptor.count, descriptor.value_bytes);
        let layout = layout_of(count, value_bytes);
        // SAFETY: the entries follow the header in the same allocation.
        let entries = std::ptr::slice_from_raw_parts_mut(unsafe { ptr.add(1) }.cast::<Entry>(), count);
        // SAFETY: initialised by `new_descriptor`, and dropped here alone.
        unsafe { entries.drop_in_place() };
        // SAFETY: the only call, by contract; the fields need dropping in loom builds, where atomics are registered.
        unsafe { ptr.drop_in_place() };
        // SAFETY: a descriptor is not at address zero.
        let block = unsafe { NonNull::new_unchecked(ptr.cast::<u8>()) };
        // SAFETY: allocated with this layout, and the only call, by contract.
        unsafe { memory.free(block, layout) };
    }

    fn bytes(&self) -> usize {
        layout_of(self.count, self.value_bytes).size() + self.key_bytes
    }

    fn tracked(&self) -> &Tracked {
        &self.tracked
    }
}

impl Descriptor {
    /// Returns the timestamp of the snapshot that the transaction reads.
    pub(crate) fn read_timestamp(&self) -> Timestamp {
        self.read_timestamp
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

    /// Gives up a transaction that is ACTIVE and whose record will never count.
    pub(crate) fn give_up(&self) {
        self.abort(DROPPED);
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

    /// Returns the address of an entry, or of what follows the last one.
    #[inline]
    fn entry_ptr(self, number: usize) -> *mut Entry {
        debug_assert!(number <= self.count);
        // SAFETY: the entries follow the header in the same allocation.
        let entries = unsafe { self.ptr.add(1) }.cast::<Entry>();
        // SAFETY: there are no fewer than `number` of them.
        unsafe { entries.add(number) }
    }

    #[inline]
    fn entry(self, number: usize) -> &'g Entry {
        assert!(number < self.count, "a write of the write set");
        // SAFETY: initialised before the descriptor was reachable and immutable since (invariant 3); it lives as long
        // as the header.
        unsafe { &*self.entry_ptr(number) }
    }

    /// Returns how many keys the transaction writes.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.count
    }

    /// Returns the key of a write.
    #[inline]
    pub(crate) fn key(self, number: usize) -> &'g Key {
        &self.entry(number).key
    }

    /// Returns the value of a write, or `None` if it deletes.
    #[inline]
    pub(crate) fn value(self, number: usize) -> Option<&'g [u8]> {
        let entry = self.entry(number);
        if entry.length == TOMBSTONE {
            return None;
        }
        let values = self.entry_ptr(self.count).cast_const().cast::<u8>();
        // SAFETY: the values follow the entries in the same allocation, and this one begins at `start`.
        let value = unsafe { values.add(entry.start) };
        // SAFETY: so many bytes are there, written before the descriptor was reachable (invariant 3).
        Some(unsafe { std::slice::from_raw_parts(value, entry.length as usize) })
    }

    /// Returns the number of the write to `key`, which the write set has.
    pub(crate) fn position(self, key: &Key) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Equal => return middle,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        unreachable!("a version that names the transaction hangs at a key of its write set")
    }

    /// Says whether both are the same transaction.
    #[inline]
    pub(crate) fn is(self, other: DescriptorRef<'_>) -> bool {
        std::ptr::eq(self.ptr, other.ptr)
    }

    /// Returns the word by which a log can name it: its address, with a mark that a put's has not.
    #[inline]
    pub(crate) fn as_enlisted(self) -> Enlisted {
        Enlisted::from_ptr(self.ptr.map_addr(|address| address | ENLISTED).cast())
    }

    /// Returns the transaction that a log named; `None` if that was a put.
    ///
    /// # Safety
    ///
    /// It came from a word of this store, whose place in the log was not done when it was read under a guard that lives for
    /// `'g`: the place counts as a reference.
    #[inline]
    pub(super) unsafe fn from_enlisted(enlisted: Enlisted) -> Option<Self> {
        let ptr = enlisted.as_ptr();
        (ptr.addr() & ENLISTED != 0).then(|| Self {
            ptr: ptr.map_addr(|address| address & !ENLISTED).cast(),
            lifetime: PhantomData,
        })
    }

    /// Goes through keys and values in order; `None` deletes.
    #[inline]
    pub(crate) fn writes(self) -> impl Iterator<Item = (&'g Key, Option<&'g [u8]>)> + Clone {
        (0..self.count).map(move |number| (self.key(number), self.value(number)))
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
            // SAFETY: from `new_descriptor`. The count was one and is zero for good (invariant 2), so this is the
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
pub(crate) fn new_descriptor<'g, G: Guard, W: Writes + ?Sized>(
    read_timestamp: Timestamp,
    writes: &W,
    guard: &'g G,
) -> DescriptorRef<'g> {
    let count = writes.len();
    let value_bytes = writes.iter().filter_map(|(_, value)| value).map(<[u8]>::len).sum();
    let block = guard.memory().allocate(layout_of(count, value_bytes));
    let header = block.cast::<Descriptor>();
    let descriptor = Descriptor {
        status: AtomicU64::new(Status::Active.encode()),
        references: AtomicUsize::new(1),
        read_timestamp,
        count,
        value_bytes,
        key_bytes: writes.iter().map(|(key, _)| key.heap_bytes()).sum(),
        tracked: Tracked::default(),
    };
    // SAFETY: freshly allocated, with room for the header.
    unsafe { header.write(descriptor) };
    // SAFETY: the entries follow the header.
    let entries = unsafe { header.add(1) }.cast::<Entry>();
    // SAFETY: the values follow the entries.
    let values = unsafe { entries.add(count) }.cast::<u8>();
    let (mut number, mut start) = (0, 0);
    for (key, value) in writes.iter() {
        // What was promised decides the layout, whatever the iterator does.
        assert!(number < count, "a write set has as many writes as it says");
        let length = value.map_or(0, <[u8]>::len);
        assert!(length <= value_bytes - start, "and as many bytes");
        if let Some(value) = value {
            // SAFETY: inside of the room for values, as just checked.
            let place = unsafe { values.add(start) };
            // SAFETY: as above, and apart from `value`, being new.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), place.as_ptr(), length) };
        }
        let entry = Entry {
            key: key.clone(),
            start,
            length: value.map_or(TOMBSTONE, |_| length as u32),
        };
        // SAFETY: there are more than `number` entries, as just checked.
        let place = unsafe { entries.add(number) };
        // SAFETY: as above.
        unsafe { place.write(entry) };
        (number, start) = (number + 1, start + length);
    }
    assert_eq!(number, count, "a write set has as many writes as it says");
    let descriptor = DescriptorRef {
        ptr: header.as_ptr(),
        lifetime: PhantomData,
    };
    // INVARIANT 3.
    debug_assert!((1..count).all(|number| descriptor.key(number - 1) < descriptor.key(number)));
    descriptor
}
