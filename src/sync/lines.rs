//! Which cache lines a thread writes: atomics that keep a record while a test asks for it.
//!
//! The claim that threads at work on different keys share no line that both write is a claim about addresses, so it is
//! checked by addresses. In builds with debug assertions each write to an atomic, also one that an exchange only
//! tried, notes its line in a set of this thread's own; a test runs two threads and intersects the sets. Plain writes
//! go to memory that a thread has for itself until it publishes it, and are noted where that memory is handed out
//! (`wrote`, in the pool). Other builds take the standard atomics and have none of this.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{self, Ordering};

/// Bytes of a cache line.
pub const LINE_BYTES: usize = 64;

thread_local! {
    static WRITTEN: RefCell<Option<BTreeSet<usize>>> = const { RefCell::new(None) };
}

/// Runs `body` and returns the numbers of the lines that this thread wrote meanwhile: addresses over [`LINE_BYTES`].
pub fn written_by(body: impl FnOnce()) -> BTreeSet<usize> {
    WRITTEN.with(|written| *written.borrow_mut() = Some(BTreeSet::new()));
    body();
    WRITTEN.with(|written| written.borrow_mut().take()).unwrap_or_default()
}

/// Notes that this thread writes to `bytes` bytes from `address` on.
#[inline]
pub(crate) fn wrote(address: usize, bytes: usize) {
    // A thread at its end notes nothing.
    let _ = WRITTEN.try_with(|written| {
        if let Some(written) = &mut *written.borrow_mut() {
            written.extend(address / LINE_BYTES..=(address + bytes - 1) / LINE_BYTES);
        }
    });
}

macro_rules! noting {
    ($name:ident $(<$param:ident>)?, $value:ty) => {
        /// The standard atomic of that name, noting its writes.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub(crate) struct $name $(<$param>)? (atomic::$name $(<$param>)?);

        #[allow(dead_code, reason = "not every atomic does everything")]
        impl $(<$param>)? $name $(<$param>)? {
            pub(crate) const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }
            #[inline]
            pub(crate) fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }
            #[inline]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }
            #[inline]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.note();
                self.0.store(value, order);
            }
            #[inline]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                self.note();
                self.0.swap(value, order)
            }
            #[inline]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.note();
                self.0.compare_exchange(current, new, success, failure)
            }
            fn note(&self) {
                wrote(std::ptr::from_ref(self).addr(), size_of::<Self>());
            }
        }
    };
}

noting!(AtomicBool, bool);
noting!(AtomicU8, u8);
noting!(AtomicU64, u64);
noting!(AtomicUsize, usize);
noting!(AtomicPtr<T>, *mut T);

macro_rules! noting_arithmetic {
    ($name:ident, $value:ty) => {
        #[allow(dead_code, reason = "not every atomic does everything")]
        impl $name {
            #[inline]
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.note();
                self.0.fetch_add(value, order)
            }
            #[inline]
            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.note();
                self.0.fetch_sub(value, order)
            }
            #[inline]
            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.note();
                self.0.fetch_or(value, order)
            }
        }
    };
}

noting_arithmetic!(AtomicU8, u8);
noting_arithmetic!(AtomicU64, u64);
noting_arithmetic!(AtomicUsize, usize);
