//! Asking the processor for memory before it is needed: the one access that needs no guard.
//!
//! What a search waits for is memory. Asked for early enough, a line is there when it is read. The address is all that
//! matters: nothing is read through it that the program could see, so it may be null, or that of something freed, and
//! whoever reads the line afterwards needs a guard as always. That is why a bare pointer may be passed here.
//!
//! Only x86-64 is asked. Elsewhere, and under loom and Miri, nothing happens.

/// Asks for the line of an address. Any address will do.
#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    // SAFETY: reads nothing that the program could see, and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
}

/// Does nothing in this build.
#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
#[inline(always)]
pub(crate) fn prefetch<T>(_address: *const T) {}
