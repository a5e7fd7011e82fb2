//! What may be found after a crash: the state at one cut of the order of commits, and none that broke a promise.
//!
//! Every write of a life carries another value, so a value that is found says who wrote it. Of each write is known when
//! it committed: exactly, if a timestamp was returned or read back, otherwise between two timestamps. The question is
//! whether there is a cut `F` such that the writes with a record, up to `F` and in the order of their timestamps, leave
//! exactly what was found, with every promised one among them.
//!
//! It is answered key by key. What was found under a key names the write that must be the last one at or below `F`, so it
//! allows a span of cuts: from that write's timestamp up to that of the next one. (An absent key may owe its absence to
//! several writes, which gives several spans.) The cuts that every key allows are those that explain the whole. A
//! transaction that was torn needs none of its own: its writes have one timestamp, and no cut is on both sides of it.
//!
//! Where something is not known the judge is lenient: it accuses nobody who might be right.
//!
//! # Checkpoints
//!
//! A checkpoint holds the state at one moment, writes without a record included. So there is one more unknown: which
//! checkpoint was found. Each one that was taken is tried, the last that was acknowledged or one after it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What keys hold, by the numbers of the values.
pub type Contents = BTreeMap<Vec<u8>, u64>;

/// Between which timestamps something happened, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// Not before.
    pub from: u64,
    /// Not after; [`When::OPEN`] if it may not have happened at all.
    pub to: u64,
}

impl When {
    /// The end of what may not have happened.
    pub const OPEN: u64 = u64::MAX;

    /// Returns the moment of a known timestamp.
    #[must_use]
    pub const fn at(timestamp: u64) -> Self {
        Self {
            from: timestamp,
            to: timestamp,
        }
    }

    /// Says whether this was surely before that.
    fn is_before(self, other: Self) -> bool {
        self.to < other.from
    }
}

/// What one operation wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it committed.
    pub when: When,
    /// The keys, and the numbers of the values: `None` deletes.
    pub writes: Vec<(Vec<u8>, Option<u64>)>,
    /// Whether it has a record in the log.
    pub is_recorded: bool,
    /// Whether it returned without an error.
    pub is_acknowledged: bool,
    /// Whether it must survive.
    pub is_promised: bool,
}

/// A checkpoint that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which moment it holds.
    pub when: When,
    /// Whether it returned without an error.
    pub is_acknowledged: bool,
}

/// All that is known of a life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What was there at its beginning, durably.
    pub base: Contents,
    /// What was written.
    pub entries: Vec<Entry>,
    /// The checkpoints, in the order in which they were begun.
    pub checkpoints: Vec<Checkpoint>,
}

/// What explains the contents that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The latest cut that does.
    pub latest: u64,
    /// Acknowledged writes with a record that are lost even so.
    pub lost: usize,
}

/// Why nothing explains them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A key holds what nobody wrote to it.
    Foreign {
        /// The key.
        key: Vec<u8>,
        /// The number of the value.
        found: u64,
    },
    /// A key holds what was written to it without a record.
    Unrecorded {
        /// The key.
        key: Vec<u8>,
        /// The number of the value.
        found: u64,
    },
    /// What a key holds, or lacks, no promised cut explains.
    Broken {
        /// The key.
        key: Vec<u8>,
        /// The number of the value, if there is one.
        found: Option<u64>,
        /// The least cut that keeps every promise.
        promised: u64,
    },
    /// Each key by itself is explained, but not together with those before it.
    NoCut {
        /// The first key for which no cut was left.
        key: Vec<u8>,
        /// The number of its value, if there is one.
        found: Option<u64>,
        /// The cuts that the keys before it allow.
        allowed: Vec<(u64, u64)>,
        /// The cuts that it allows.
        wanted: Vec<(u64, u64)>,
    },
}

impl Violation {
    /// Returns the key that it was seen at.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Foreign { key, .. }
            | Self::Unrecorded { key, .. }
            | Self::Broken { key, .. }
            | Self::NoCut { key, .. } => key,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |found: &Option<u64>| match found {
            Some(number) => format!("value {number}"),
            None => "nothing".to_owned(),
        };
        match self {
            Self::Foreign { key, found } => {
                write!(f, "{} holds value {found}, which was never committed there", name(key))
            }
            Self::Unrecorded { key, found } => {
                write!(
                    f,
                    "{} holds value {found}, which was written without a record",
                    name(key)
                )
            }
            Self::Broken { key, found, promised } => write!(
                f,
                "{} holds {}, which no cut at or above {promised} leaves, and less breaks a promise",
                name(key),
                value(found)
            ),
            Self::NoCut {
                key,
                found,
                allowed,
                wanted,
            } => write!(
                f,
                "{} holds {}, which cuts {} leave; other keys allow cuts {} alone: this is the state of no moment",
                name(key),
                value(found),
                listed(wanted),
                listed(allowed)
            ),
        }
    }
}

/// Writes a key as messages print it.
#[must_use]
pub fn name(key: &[u8]) -> String {
    format!("key \"{}\"", key.escape_ascii())
}

fn listed(spans: &[(u64, u64)]) -> String {
    let span = |&(from, to): &(u64, u64)| match to {
        LAST_CUT => format!("{from} and up"),
        to => format!("{from} to {to}"),
    };
    let spans: Vec<String> = spans.iter().map(span).collect();
    spans.join(", ")
}

/// Above all cuts that are.
const LAST_CUT: u64 = When::OPEN - 1;

/// A write to one key, as it counts under one assumption about checkpoints.
struct KeyWrite {
    when: When,
    value: Option<u64>,
    /// From which cut on it is surely part of the state.
    sure_from: u64,
    counts: bool,
}

impl Evidence {
    /// Looks for a cut that explains what was found.
    ///
    /// # Errors
    ///
    /// Returns why there is none.
    pub fn judge(&self, found: &Contents) -> Result<Cut, Violation> {
        let acknowledged = self
            .checkpoints
            .iter()
            .rposition(|checkpoint| checkpoint.is_acknowledged);
        let mut first = None;
        if acknowledged.is_none() {
            match self.judge_with(None, found) {
                Ok(cut) => return Ok(cut),
                Err(violation) => first = Some(violation),
            }
        }
        for checkpoint in &self.checkpoints[acknowledged.unwrap_or(0)..] {
            match self.judge_with(Some(*checkpoint), found) {
                Ok(cut) => return Ok(cut),
                Err(violation) => first = first.or(Some(violation)),
            }
        }
        Err(first.expect("at least one assumption was tried"))
    }

    /// Tells all that was done to a key, for a person who looks for a defect.
    #[must_use]
    pub fn story_of(&self, key: &[u8]) -> String {
        let mut story: Vec<(u64, String)> = Vec::new();
        for entry in &self.entries {
            for (_, value) in entry.writes.iter().filter(|(written, _)| written == key) {
                let what = value.map_or("deleted".to_owned(), |number| format!("value {number}"));
                let When { from, to } = entry.when;
                let when = match to {
                    When::OPEN => format!("after {from} or never"),
                    _ if from == to => format!("at {from}"),
                    _ => format!("between {from} and {to}"),
                };
                let kind = match (entry.is_recorded, entry.is_promised, entry.is_acknowledged) {
                    (false, ..) => "without a record",
                    (_, true, _) => "promised",
                    (_, _, true) => "acknowledged",
                    _ => "failed",
                };
                story.push((from, format!("{what} {when}, {kind}")));
            }
        }
        story.sort();
        let before = self.base.get(key).map(|number| format!("value {number} before"));
        let steps: Vec<String> = before
            .into_iter()
            .chain(story.into_iter().map(|(_, step)| step))
            .collect();
        steps.join("; ")
    }

    /// Looks for a cut, assuming that this checkpoint was found, or none.
    fn judge_with(&self, checkpoint: Option<Checkpoint>, found: &Contents) -> Result<Cut, Violation> {
        let mut promised = checkpoint.map_or(0, |checkpoint| checkpoint.when.from);
        let mut writes: BTreeMap<&[u8], Vec<KeyWrite>> = BTreeMap::new();
        for entry in &self.entries {
            if entry.is_promised {
                promised = promised.max(entry.when.from);
            }
            let (sure_from, counts) = counting(entry, checkpoint);
            for (key, value) in &entry.writes {
                writes.entry(key).or_default().push(KeyWrite {
                    when: entry.when,
                    value: *value,
                    sure_from,
                    counts,
                });
            }
        }
        let keys: BTreeSet<&[u8]> = writes
            .keys()
            .copied()
            .chain(self.base.keys().chain(found.keys()).map(Vec::as_slice))
            .collect();
        let mut allowed = vec![(promised, LAST_CUT)];
        for key in keys {
            let value = found.get(key).copied();
            let writes = writes.get(key).map_or(&[][..], Vec::as_slice);
            let wanted = spans(self.base.get(key).copied(), writes, value);
            let both = intersection(&allowed, &wanted);
            if both.is_empty() {
                return Err(self.violation(key, value, promised, allowed, wanted, writes));
            }
            allowed = both;
        }
        let latest = allowed.last().map_or(promised, |span| span.1);
        let is_lost = |entry: &&Entry| entry.is_acknowledged && entry.is_recorded && entry.when.from > latest;
        Ok(Cut {
            latest,
            lost: self.entries.iter().filter(is_lost).count(),
        })
    }

    fn violation(
        &self,
        key: &[u8],
        found: Option<u64>,
        promised: u64,
        allowed: Vec<(u64, u64)>,
        wanted: Vec<(u64, u64)>,
        writes: &[KeyWrite],
    ) -> Violation {
        let key = key.to_vec();
        if let Some(number) = found
            && wanted.is_empty()
            && self.base.get(&key) != found.as_ref()
        {
            let written = writes.iter().filter(|write| write.value == found);
            return match written.map(|write| write.counts).max() {
                None => Violation::Foreign { key, found: number },
                Some(false) => Violation::Unrecorded { key, found: number },
                Some(true) => Violation::Broken { key, found, promised },
            };
        }
        if intersection(&[(promised, LAST_CUT)], &wanted).is_empty() {
            return Violation::Broken { key, found, promised };
        }
        Violation::NoCut {
            key,
            found,
            allowed,
            wanted,
        }
    }
}

/// From which cut on an entry is surely part of the state, and whether it can be at all.
fn counting(entry: &Entry, checkpoint: Option<Checkpoint>) -> (u64, bool) {
    if entry.is_recorded {
        // The cut is at or above a promised write, wherever that is.
        return (
            if entry.is_promised {
                entry.when.from
            } else {
                entry.when.to
            },
            true,
        );
    }
    match checkpoint {
        Some(checkpoint) if entry.when.to <= checkpoint.when.from => (entry.when.from, true),
        Some(checkpoint) if entry.when.from <= checkpoint.when.to => (When::OPEN, true),
        _ => (When::OPEN, false),
    }
}

/// The cuts at which a key holds what was found.
fn spans(base: Option<u64>, writes: &[KeyWrite], found: Option<u64>) -> Vec<(u64, u64)> {
    let counted = || writes.iter().filter(|write| write.counts);
    let until = |next: Option<u64>| next.unwrap_or(When::OPEN).saturating_sub(1);
    let mut spans = Vec::new();
    if base == found {
        let next = counted().map(|write| write.sure_from).min();
        // A cut of zero is one before every write.
        if next != Some(0) {
            spans.push((0, until(next)));
        }
    }
    for write in counted().filter(|write| write.value == found) {
        let next = counted()
            .filter(|next| write.when.is_before(next.when))
            .map(|next| next.sure_from)
            .min();
        let to = until(next);
        if write.when.from <= to {
            spans.push((write.when.from, to));
        }
    }
    united(spans)
}

/// Sorts spans and joins those that touch.
fn united(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut united: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        match united.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => united.push((from, to)),
        }
    }
    united
}

/// The cuts that are in both.
fn intersection(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut both = Vec::new();
    for &(from_a, to_a) in a {
        for &(from_b, to_b) in b {
            let (from, to) = (from_a.max(from_b), to_a.min(to_b));
            if from <= to {
                both.push((from, to));
            }
        }
    }
    both.sort_unstable();
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: u64, key: &str, value: u64) -> Entry {
        entry(at, &[(key, Some(value))])
    }

    fn delete(at: u64, key: &str) -> Entry {
        entry(at, &[(key, None)])
    }

    fn entry(at: u64, writes: &[(&str, Option<u64>)]) -> Entry {
        Entry {
            when: When::at(at),
            writes: writes
                .iter()
                .map(|(key, value)| (key.as_bytes().to_vec(), *value))
                .collect(),
            is_recorded: true,
            is_acknowledged: true,
            is_promised: false,
        }
    }

    fn promised(entry: Entry) -> Entry {
        Entry {
            is_promised: true,
            ..entry
        }
    }

    fn unrecorded(entry: Entry) -> Entry {
        Entry {
            is_recorded: false,
            ..entry
        }
    }

    fn between(from: u64, to: u64, entry: Entry) -> Entry {
        Entry {
            when: When { from, to },
            ..entry
        }
    }

    fn contents(found: &[(&str, u64)]) -> Contents {
        let owned = |(key, value): &(&str, u64)| (key.as_bytes().to_vec(), *value);
        found.iter().map(owned).collect()
    }

    fn evidence(entries: Vec<Entry>) -> Evidence {
        Evidence {
            entries,
            ..Evidence::default()
        }
    }

    /// Every prefix of a history is accepted, with the number of writes that it lacks, and nothing else is.
    #[test]
    fn exactly_the_states_at_cuts_are_accepted() {
        let evidence = evidence(vec![
            write(10, "a", 1),
            write(20, "b", 2),
            write(30, "a", 3),
            delete(40, "b"),
        ]);
        let states = [
            (&[][..], 4),
            (&[("a", 1)], 3),
            (&[("a", 1), ("b", 2)], 2),
            (&[("a", 3), ("b", 2)], 1),
            (&[("a", 3)], 0),
        ];
        for (state, lost) in states {
            assert_eq!(
                evidence.judge(&contents(state)).map(|cut| cut.lost),
                Ok(lost),
                "{state:?}"
            );
        }
        assert_eq!(evidence.judge(&contents(&[])).map(|cut| cut.latest), Ok(9));
        for state in [&[("b", 2)][..], &[("a", 2)], &[("a", 1), ("b", 2), ("c", 9)]] {
            assert!(evidence.judge(&contents(state)).is_err(), "{state:?}");
        }
    }

    #[test]
    fn a_promise_that_was_broken_is_named() {
        let mut entries = vec![promised(write(10, "a", 1)), write(20, "a", 2)];
        let judge = |entries: &Vec<Entry>, state: &[(&str, u64)]| evidence(entries.clone()).judge(&contents(state));
        assert!(judge(&entries, &[("a", 1)]).is_ok());
        assert!(judge(&entries, &[("a", 2)]).is_ok());
        let broken = judge(&entries, &[]).expect_err("it was promised");
        assert!(matches!(broken, Violation::Broken { promised: 10, .. }), "{broken}");
        entries.push(promised(write(30, "b", 3)));
        // The promise to one key binds all that came before it.
        assert!(judge(&entries, &[("a", 1), ("b", 3)]).is_err());
        assert!(judge(&entries, &[("a", 2), ("b", 3)]).is_ok());
    }

    #[test]
    fn half_a_transaction_is_the_state_of_no_moment() {
        let evidence = evidence(vec![
            write(10, "a", 1),
            entry(20, &[("a", Some(2)), ("b", Some(2))]),
            entry(30, &[("a", None), ("c", Some(3))]),
        ]);
        assert!(evidence.judge(&contents(&[("a", 2), ("b", 2)])).is_ok());
        assert!(evidence.judge(&contents(&[("b", 2), ("c", 3)])).is_ok());
        for torn in [
            &[("a", 2)][..],
            &[("a", 1), ("b", 2)],
            &[("a", 2), ("b", 2), ("c", 3)],
            &[("b", 2)],
        ] {
            let violation = evidence.judge(&contents(torn)).expect_err("torn");
            assert!(matches!(violation, Violation::NoCut { .. }), "{violation}");
        }
    }

    #[test]
    fn what_has_no_record_neither_survives_nor_hides() {
        let evidence = evidence(vec![
            promised(write(10, "a", 1)),
            unrecorded(write(20, "a", 2)),
            unrecorded(delete(30, "a")),
        ]);
        assert!(evidence.judge(&contents(&[("a", 1)])).is_ok());
        let violation = evidence.judge(&contents(&[("a", 2)])).expect_err("it has no record");
        assert!(
            matches!(violation, Violation::Unrecorded { found: 2, .. }),
            "{violation}"
        );
        assert!(evidence.judge(&contents(&[])).is_err());
        let foreign = evidence.judge(&contents(&[("a", 7)])).expect_err("nobody wrote it");
        assert!(matches!(foreign, Violation::Foreign { found: 7, .. }), "{foreign}");
    }

    /// A failed write may be found or not, but not both ways at once.
    #[test]
    fn what_may_not_have_happened_may_be_missing() {
        let unknown = between(15, When::OPEN, entry(0, &[("a", Some(2)), ("b", Some(2))]));
        let evidence = evidence(vec![write(10, "a", 1), unknown, promised(write(20, "c", 3))]);
        for state in [&[("a", 1), ("c", 3)][..], &[("a", 2), ("b", 2), ("c", 3)]] {
            assert!(evidence.judge(&contents(state)).is_ok(), "{state:?}");
        }
        assert!(evidence.judge(&contents(&[("a", 2), ("b", 2)])).is_err());
    }

    /// A delete is known to lie between two snapshots: the cut may be on either side of it there, and nowhere else.
    #[test]
    fn a_write_between_two_moments_counts_from_the_second() {
        let evidence = evidence(vec![
            write(10, "a", 1),
            between(21, 30, delete(0, "a")),
            write(25, "b", 2),
            write(40, "c", 3),
        ]);
        for state in [
            &[("a", 1), ("b", 2)][..],
            &[("b", 2)],
            &[("a", 1)],
            &[("b", 2), ("c", 3)],
        ] {
            assert!(evidence.judge(&contents(state)).is_ok(), "{state:?}");
        }
        assert!(evidence.judge(&contents(&[("a", 1), ("b", 2), ("c", 3)])).is_err());
    }

    #[test]
    fn a_promised_delete_holds_however_vague_its_moment() {
        let evidence = evidence(vec![write(10, "a", 1), promised(between(21, 30, delete(0, "a")))]);
        assert!(evidence.judge(&contents(&[])).is_ok());
        assert!(evidence.judge(&contents(&[("a", 1)])).is_err());
    }

    #[test]
    fn what_was_there_before_stays_until_it_is_overwritten() {
        let evidence = Evidence {
            base: contents(&[("a", 1), ("b", 2)]),
            entries: vec![promised(write(10, "a", 3))],
            ..Evidence::default()
        };
        assert!(evidence.judge(&contents(&[("a", 3), ("b", 2)])).is_ok());
        assert!(evidence.judge(&contents(&[("a", 1), ("b", 2)])).is_err());
        assert!(evidence.judge(&contents(&[("a", 3)])).is_err());
    }

    /// A checkpoint makes what has no record durable, all of it up to its moment or nothing.
    #[test]
    fn a_checkpoint_keeps_what_has_no_record() {
        let mut evidence = evidence(vec![
            write(10, "a", 1),
            unrecorded(write(20, "a", 2)),
            unrecorded(write(21, "b", 3)),
            unrecorded(write(40, "b", 4)),
            write(50, "c", 5),
        ]);
        evidence.checkpoints.push(Checkpoint {
            when: When { from: 30, to: 35 },
            is_acknowledged: false,
        });
        for state in [
            &[("a", 2), ("b", 3)][..],
            &[("a", 2), ("b", 3), ("c", 5)],
            &[("a", 1), ("c", 5)],
            &[],
        ] {
            assert!(evidence.judge(&contents(state)).is_ok(), "{state:?}");
        }
        for state in [&[("a", 2)][..], &[("a", 1), ("b", 3)], &[("a", 2), ("b", 4)]] {
            assert!(evidence.judge(&contents(state)).is_err(), "{state:?}");
        }
        evidence.checkpoints[0].is_acknowledged = true;
        assert!(evidence.judge(&contents(&[("a", 2), ("b", 3)])).is_ok());
        assert!(evidence.judge(&contents(&[("a", 1), ("c", 5)])).is_err());
    }

    /// Against brute force: histories of few writes with known timestamps, every state of two keys.
    #[test]
    fn the_judge_agrees_with_trying_every_cut() {
        let mut random = crate::workload::random::Random::new(9);
        for round in 0..3_000 {
            let mut entries: Vec<Entry> = (0..random.below(7))
                .map(|number| {
                    let at = 10 * (number + 1);
                    let value =
                        |random: &mut crate::workload::random::Random| (random.below(3) > 0).then_some(number + 1);
                    let key = ["a", "b"][random.below(2) as usize];
                    let mut made = match random.below(3) {
                        0 => entry(at, &[("a", value(&mut random)), ("b", value(&mut random))]),
                        _ => entry(at, &[(key, value(&mut random))]),
                    };
                    made.is_recorded = random.below(4) > 0;
                    made.is_promised = made.is_recorded && random.below(6) == 0;
                    made
                })
                .collect();
            // The order in which they are told does not matter.
            random.shuffle(&mut entries);
            let evidence = evidence(entries);
            let states: BTreeSet<Contents> = (0..=8).filter_map(|cut| state_at(&evidence, cut * 10)).collect();
            for a in 0..=7 {
                for b in 0..=7 {
                    let mut state = Contents::new();
                    state.extend((a > 0).then_some((b"a".to_vec(), a)));
                    state.extend((b > 0).then_some((b"b".to_vec(), b)));
                    let judged = evidence.judge(&state);
                    assert_eq!(
                        judged.is_ok(),
                        states.contains(&state),
                        "round {round}: {state:?} {judged:?} {evidence:?}"
                    );
                }
            }
        }
    }

    fn state_at(evidence: &Evidence, cut: u64) -> Option<Contents> {
        let mut entries: Vec<&Entry> = evidence.entries.iter().collect();
        entries.sort_by_key(|entry| entry.when.from);
        let mut state = Contents::new();
        for entry in entries.iter().filter(|entry| entry.is_recorded) {
            if entry.when.from > cut {
                if entry.is_promised {
                    return None;
                }
                continue;
            }
            for (key, value) in &entry.writes {
                match value {
                    Some(value) => drop(state.insert(key.clone(), *value)),
                    None => drop(state.remove(key)),
                }
            }
        }
        Some(state)
    }
}
