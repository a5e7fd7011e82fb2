//! The memory of the hint table: buckets of two cache lines each, reserved at once and zero until they are used.
//!
//! The table is as large as it may ever become from the beginning, in address space; memory it takes page by page, as
//! hints are first stored there. So growing it allocates nothing, moves nothing and frees nothing, and a bucket has one
//! address for as long as the table exists.
//!
//! On Linux the reservation is a mapping of its own and not the allocator's: a program's allocator may well write zeros
//! over recycled memory, which would touch all of it. Elsewhere it is the allocator's zeroed memory, and smaller.

use std::num::NonZeroUsize;

use crate::sync::AtomicPtr;

/// Hints in a bucket. Two under loom, where every one is a step.
pub(super) const WAYS: usize = if cfg!(loom) { 2 } else { 16 };

/// Hints that share two neighbouring cache lines. All zero bytes are an empty bucket.
#[repr(C, align(128))]
pub(super) struct Bucket<N> {
    pub(super) ways: [AtomicPtr<N>; WAYS],
}

#[cfg(not(loom))]
const _: () = assert!(WAYS.is_power_of_two() && size_of::<Bucket<u64>>() <= 128);

/// All buckets that a table may ever have.
pub(super) struct Buckets<N> {
    memory: memory::Reserved<Bucket<N>>,
}

// SAFETY: a bucket holds pointers to nodes that any thread may follow or store, and nothing of its own; what may be done
// with those pointers is the table's affair, which asks for nodes that may be shared.
unsafe impl<N: Send + Sync> Send for Buckets<N> {}
// SAFETY: as above; buckets are atomics.
unsafe impl<N: Send + Sync> Sync for Buckets<N> {}

impl<N> Buckets<N> {
    /// Reserves `count` buckets, a power of two, or as many halves fewer as there is address space for.
    pub(super) fn reserve(count: NonZeroUsize) -> Self {
        let mut count = count.get();
        loop {
            if let Some(memory) = memory::Reserved::new(count) {
                return Self { memory };
            }
            if count == 1 {
                return Self::none();
            }
            count /= 2;
        }
    }

    /// Returns no buckets.
    pub(super) fn none() -> Self {
        Self {
            memory: memory::Reserved::none(),
        }
    }

    /// Returns how many there are, zero or a power of two.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.memory.as_slice().len()
    }

    /// Returns bucket number `at`, if there are that many.
    #[inline(always)]
    pub(super) fn get(&self, at: usize) -> Option<&Bucket<N>> {
        self.memory.as_slice().get(at)
    }
}

/// Buckets under loom, whose atomics are made one by one.
#[cfg(loom)]
mod memory {
    use super::{AtomicPtr, Bucket};

    pub(super) struct Reserved<B>(Vec<B>);

    impl<N> Reserved<Bucket<N>> {
        pub(super) fn new(count: usize) -> Option<Self> {
            let bucket = |_| Bucket {
                ways: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
            };
            Some(Self((0..count).map(bucket).collect()))
        }
    }

    impl<B> Reserved<B> {
        pub(super) fn none() -> Self {
            Self(Vec::new())
        }

        pub(super) fn as_slice(&self) -> &[B] {
            &self.0
        }
    }
}

/// Buckets in memory that the system hands out zeroed.
#[cfg(not(loom))]
mod memory {
    use std::ptr::NonNull;

    use super::Bucket;

    pub(super) struct Reserved<B> {
        first: NonNull<B>,
        count: usize,
    }

    impl<N> Reserved<Bucket<N>> {
        /// Reserves that many, more than none; `None` if there is no room.
        pub(super) fn new(count: usize) -> Option<Self> {
            let bytes = count.checked_mul(size_of::<Bucket<N>>())?;
            // A bucket's pointers are null where its bytes are zero, so that it is initialised.
            let first = system::reserve(bytes)?.cast::<Bucket<N>>();
            Some(Self { first, count })
        }
    }

    impl<B> Reserved<B> {
        pub(super) fn none() -> Self {
            Self {
                first: NonNull::dangling(),
                count: 0,
            }
        }

        #[inline(always)]
        pub(super) fn as_slice(&self) -> &[B] {
            // SAFETY: `new` reserved that many for as long as `self`, aligned and initialised; or they are none.
            unsafe { NonNull::slice_from_raw_parts(self.first, self.count).as_ref() }
        }
    }

    impl<B> Drop for Reserved<B> {
        fn drop(&mut self) {
            if self.count > 0 {
                // SAFETY: reserved by `new` with that size, and nobody borrows it any more.
                unsafe { system::release(self.first.cast(), self.count * size_of::<B>()) };
            }
        }
    }

    /// A private mapping: the kernel gives it a zeroed page when one is first written.
    #[cfg(all(target_os = "linux", not(miri)))]
    mod system {
        use std::ptr::{self, NonNull};

        use rustix::mm::{MapFlags, ProtFlags};

        pub(super) fn reserve(bytes: usize) -> Option<NonNull<u8>> {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
            let mapped = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, access, flags) };
            NonNull::new(mapped.ok()?.cast())
        }

        /// # Safety
        ///
        /// `first` came from `reserve(bytes)`, and is used no more.
        pub(super) unsafe fn release(first: NonNull<u8>, bytes: usize) {
            // SAFETY: guaranteed by the caller. An error would say that it is no mapping.
            let unmapped = unsafe { rustix::mm::munmap(first.as_ptr().cast(), bytes) };
            debug_assert!(unmapped.is_ok());
        }
    }

    /// Memory of the program's allocator, which may take a while to be zeroed: so there is less of it.
    #[cfg(any(not(target_os = "linux"), miri))]
    mod system {
        use std::alloc::{self, Layout};
        use std::ptr::NonNull;

        /// The most that is asked for, in bytes.
        const MOST: usize = if cfg!(miri) { 64 << 10 } else { 16 << 20 };

        fn layout(bytes: usize) -> Option<Layout> {
            Layout::from_size_align(bytes, 128).ok().filter(|_| bytes <= MOST)
        }

        pub(super) fn reserve(bytes: usize) -> Option<NonNull<u8>> {
            // SAFETY: more than no bytes.
            NonNull::new(unsafe { alloc::alloc_zeroed(layout(bytes)?) })
        }

        /// # Safety
        ///
        /// `first` came from `reserve(bytes)`, and is used no more.
        pub(super) unsafe fn release(first: NonNull<u8>, bytes: usize) {
            if let Some(layout) = layout(bytes) {
                // SAFETY: guaranteed by the caller.
                unsafe { alloc::dealloc(first.as_ptr(), layout) };
            }
        }
    }
}
