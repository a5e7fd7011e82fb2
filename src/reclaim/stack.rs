//! A stack that many threads push to and that is taken whole: garbage that one thread hands to the next.
//!
//! Treiber's stack (IBM, 1986) without its pop, and so without its ABA problem: nothing that is linked is ever read by
//! a thread that does not own the whole list.
//!
//! # Memory ordering
//!
//! | atomic | writer | reader | what the pair publishes |
//! |---|---|---|---|
//! | `top` | `PUSH_ORPHAN` | `TAKE_ORPHANS` | the pushed item and what its owner did to it before |
//!
//! # Progress
//!
//! Lock-free: a push repeats only when another thread's succeeded; taking is one exchange.

use std::ptr;

use crate::sync::{AtomicPtr, order};

/// The stack.
pub(super) struct Stack<T> {
    top: AtomicPtr<Entry<T>>,
}

struct Entry<T> {
    item: T,
    below: *mut Entry<T>,
}

// SAFETY: items pass from one thread to another and are never shared.
unsafe impl<T: Send> Send for Stack<T> {}
// SAFETY: as above; `&Stack` gives access to items only by moving them.
unsafe impl<T: Send> Sync for Stack<T> {}

impl<T> Stack<T> {
    /// Returns an empty stack.
    pub(super) fn new() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Pushes an item. Allocates one entry.
    pub(super) fn push(&self, item: T) {
        let entry = Box::into_raw(Box::new(Entry {
            item,
            below: ptr::null_mut(),
        }));
        // ORDERING: Relaxed; the exchange checks it and nothing is read through it.
        let mut top = self.top.load(order::COUNT);
        loop {
            // SAFETY: not published yet.
            unsafe { (*entry).below = top };
            // ORDERING: Release; publishes the entry. Failure: Relaxed, the top as it is now.
            match self.top.compare_exchange(top, entry, order::PUSH_ORPHAN, order::COUNT) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes everything, and gives it to `each` from the top. Reads one word if there is nothing.
    #[inline]
    pub(super) fn take_all(&self, each: impl FnMut(T)) {
        // ORDERING: Relaxed; only a hint whether taking is worth an exchange.
        if !self.top.load(order::COUNT).is_null() {
            self.take_some(each);
        }
    }

    #[cold]
    fn take_some(&self, mut each: impl FnMut(T)) {
        // ORDERING: Acquire; pairs with `push`. The entries are this thread's alone from here on.
        let mut entry = self.top.swap(ptr::null_mut(), order::TAKE_ORPHANS);
        while !entry.is_null() {
            // SAFETY: made by `Box::into_raw` in `push`, and taken by the swap once.
            let taken = unsafe { Box::from_raw(entry) };
            entry = taken.below;
            each(taken.item);
        }
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        // A failed model unwinds outside of loom.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        self.take_all(drop);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn everything_pushed_is_taken_once() {
        let stack = Stack::new();
        let sum = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (stack, sum) = (&stack, &sum);
                scope.spawn(move || {
                    for number in 0..50 {
                        stack.push(Box::new(thread * 50 + number));
                        if number % 7 == 0 {
                            stack.take_all(|item| {
                                sum.fetch_add(*item, std::sync::atomic::Ordering::Relaxed);
                            });
                        }
                    }
                });
            }
        });
        let mut left = Vec::new();
        stack.take_all(|item| left.push(*item));
        let sum = sum.into_inner() + left.iter().sum::<u64>();
        assert_eq!(sum, (0..150).sum::<u64>());
        stack.push(Box::new(1));
    }
}
