//! What a transaction is going to write: values by key, sorted, in buffers that the next transaction uses again.
//!
//! Most transactions write a few keys, so the set is a sorted array of entries and one string of all values, both taken
//! from what this thread's earlier transactions left: in steady state a small transaction allocates nothing here. A
//! set that outgrows [`SMALL`] entries goes on as a B-tree, since inserting into an array costs as many moves as it has
//! entries.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, btree_map};
use std::slice;

use crate::mvcc::Writes;
use crate::types::Key;

/// Entries up to which the set is an array.
const SMALL: usize = 64;

/// Sets that a thread keeps: as many as it is likely to have open at once.
const KEPT_SETS: usize = 4;

/// Bytes of values for which a kept set has room; a larger buffer is given back.
const KEPT_BYTES: usize = 64 << 10;

thread_local! {
    /// Empty buffers. They know no store, so that all stores of a thread can share them.
    static KEPT: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
}

/// The writes of one transaction.
pub(crate) struct WriteSet {
    buffers: Buffers,
}

/// Its memory.
#[derive(Default)]
struct Buffers {
    /// Sorted by key; empty once `large` is in use.
    small: Vec<(Key, Place)>,
    large: BTreeMap<Key, Place>,
    values: Vec<u8>,
}

/// Where a value lies in `values`; `None` deletes.
type Place = Option<(usize, usize)>;

impl WriteSet {
    /// Returns an empty set.
    #[inline]
    pub(crate) fn new() -> Self {
        // A thread at its end has no buffers any more.
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop());
        Self {
            buffers: kept.ok().flatten().unwrap_or_default(),
        }
    }

    /// Returns what will be written to a key: `None` if nothing, `Some(None)` if it will be deleted.
    #[inline]
    pub(crate) fn get(&self, key: &Key) -> Option<Option<&[u8]>> {
        let Buffers { small, large, .. } = &self.buffers;
        let place = match small.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(at) => small[at].1,
            Err(_) => *large.get(key)?,
        };
        Some(self.buffers.value(place))
    }

    /// Writes a value of `length` bytes that `fill` puts in place; they are zero before.
    #[inline]
    pub(crate) fn put(&mut self, key: Key, length: usize, fill: impl FnOnce(&mut [u8])) {
        let start = self.buffers.room_for(&key, length);
        let place = &mut self.buffers.values[start..start + length];
        place.fill(0);
        fill(place);
        self.buffers.set(key, Some((start, length)));
    }

    /// Deletes a key.
    pub(crate) fn delete(&mut self, key: Key) {
        self.buffers.set(key, None);
    }

    /// Goes through the writes to keys from `first` on, in order.
    pub(crate) fn from<'s>(&'s self, first: &Key) -> impl Iterator<Item = (&'s Key, Option<&'s [u8]>)> {
        let Buffers { small, large, .. } = &self.buffers;
        let small = &small[small.partition_point(|(key, _)| key < first)..];
        let entries = Entries::of(small, (!large.is_empty()).then(|| large.range(first.clone()..)));
        entries.map(|(key, place)| (key, self.buffers.value(place)))
    }
}

impl Writes for WriteSet {
    fn len(&self) -> usize {
        self.buffers.small.len() + self.buffers.large.len()
    }

    fn iter(&self) -> impl Iterator<Item = (&Key, Option<&[u8]>)> {
        let Buffers { small, large, .. } = &self.buffers;
        let entries = Entries::of(small, (!large.is_empty()).then(|| large.range(..)));
        entries.map(|(key, place)| (key, self.buffers.value(place)))
    }
}

/// Entries of either form, in order.
struct Entries<'s> {
    small: slice::Iter<'s, (Key, Place)>,
    large: Option<btree_map::Range<'s, Key, Place>>,
}

impl<'s> Entries<'s> {
    fn of(small: &'s [(Key, Place)], large: Option<btree_map::Range<'s, Key, Place>>) -> Self {
        Self {
            small: small.iter(),
            large,
        }
    }
}

impl<'s> Iterator for Entries<'s> {
    type Item = (&'s Key, Place);

    #[inline]
    fn next(&mut self) -> Option<(&'s Key, Place)> {
        if let Some((key, place)) = self.small.next() {
            return Some((key, *place));
        }
        let (key, place) = self.large.as_mut()?.next()?;
        Some((key, *place))
    }
}

impl Buffers {
    #[inline]
    fn value(&self, place: Place) -> Option<&[u8]> {
        place.map(|(start, length)| &self.values[start..start + length])
    }

    /// Returns where a value of `length` bytes for `key` can go: into the key's own place if it fits, so that a key that
    /// is written again and again does not fill the buffer.
    #[inline]
    fn room_for(&mut self, key: &Key, length: usize) -> usize {
        let place = match self.small.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(at) => self.small[at].1,
            Err(_) => self.large.get(key).copied().flatten(),
        };
        match place {
            Some((start, room)) if length <= room => return start,
            // The last one may grow where it is.
            Some((start, room)) if start + room == self.values.len() => self.values.truncate(start),
            _ => {}
        }
        let start = self.values.len();
        self.values.resize(start + length, 0);
        start
    }

    #[inline]
    fn set(&mut self, key: Key, place: Place) {
        if !self.large.is_empty() {
            self.large.insert(key, place);
            return;
        }
        match self.small.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(at) => self.small[at].1 = place,
            Err(at) if self.small.len() < SMALL => self.small.insert(at, (key, place)),
            Err(_) => {
                self.large.extend(self.small.drain(..));
                self.large.insert(key, place);
            }
        }
    }
}

impl Drop for WriteSet {
    fn drop(&mut self) {
        let mut buffers = std::mem::take(&mut self.buffers);
        if buffers.small.capacity() == 0 || buffers.values.capacity() > KEPT_BYTES {
            return;
        }
        buffers.small.clear();
        buffers.large.clear();
        buffers.values.clear();
        // A thread at its end keeps nothing.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_SETS {
                kept.push(buffers);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{RunId, TypeTag};

    fn key(number: u32) -> Key {
        Key::new(&RunId::from_bytes([5; 16]), TypeTag::Raw, &number.to_be_bytes())
    }

    /// Small and large sets agree with a plain map, whatever the order of the writes.
    #[test]
    fn a_set_is_sorted_and_keeps_the_last_write_of_each_key() {
        for count in [0_u32, 1, 3, 64, 65, 500] {
            let mut set = WriteSet::new();
            let mut map = BTreeMap::new();
            for step in 0..2 * count {
                let number = step * 7919 % count.max(1);
                let value = step.to_le_bytes();
                if step % 5 == 4 {
                    set.delete(key(number));
                    map.insert(key(number), None);
                } else {
                    set.put(key(number), 4, |bytes| bytes.copy_from_slice(&value));
                    map.insert(key(number), Some(value.to_vec()));
                }
            }
            assert_eq!(set.len(), map.len());
            assert!(set.iter().eq(map.iter().map(|(key, value)| (key, value.as_deref()))));
            let from = key(count / 2);
            let rest = map.range(from.clone()..).map(|(key, value)| (key, value.as_deref()));
            assert!(set.from(&from).eq(rest));
            for number in 0..=count {
                let expected = map.get(&key(number)).map(Option::as_deref);
                assert_eq!(set.get(&key(number)), expected);
            }
        }
    }

    #[test]
    fn a_key_that_is_written_again_takes_its_own_place() {
        let mut set = WriteSet::new();
        for other in [false, true] {
            for step in 0..100 {
                set.put(key(1), 1_000 - step, |bytes| bytes.fill(step as u8 + 1));
                set.put(key(2), 110 - step, |bytes| assert!(bytes.iter().all(|byte| *byte == 0)));
            }
            if other {
                set.delete(key(1));
            }
        }
        assert!(set.buffers.values.len() < 3_000, "{} bytes", set.buffers.values.len());
    }

    #[test]
    fn a_kept_set_is_empty() {
        let mut set = WriteSet::new();
        set.put(key(1), 1, |bytes| bytes[0] = 1);
        drop(set);
        let set = WriteSet::new();
        assert_eq!((set.len(), set.get(&key(1))), (0, None));
    }
}
