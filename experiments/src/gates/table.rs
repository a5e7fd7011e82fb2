//! The checklist as one table: every gate, red flag and aim, its threshold, and the measure that decides it.
//!
//! Several entries may look at one measure: the gate at its threshold, the red flag further out, the aim further in.
//! Their ids are the measure's name and a suffix (`_red_flag`, `_aim`, `_shown` for store sizes and thread counts
//! shown beside the deciding ones, and for figures without a threshold), so that [`Entry::measure`] leads from an
//! entry to its figure and nothing has to be measured twice.
//!
//! `docs/gates.md` states the same table for people; a test below holds the two together.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::harness::stats::Direction;

/// What an entry's verdict does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A line of the checklist; its failure fails the run.
    Gate,
    /// A line that stops a release when it fails; "pass" means that the flag is down.
    RedFlag,
    /// What the engine is built to reach, or a figure shown beside; never alters the exit status.
    Aim,
}

impl Kind {
    /// The name used in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::RedFlag => "red_flag",
            Self::Aim => "aim",
        }
    }
}

/// One line of the checklist.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Unique name.
    pub id: &'static str,
    /// Number of the gate that it belongs to.
    pub gate: &'static str,
    /// What its verdict does.
    pub kind: Kind,
    /// What is measured, in words.
    pub name: &'static str,
    /// Layer of the engine that is timed; empty where none is.
    pub layer: &'static str,
    /// Keys in the store.
    pub keys: Option<u64>,
    /// Threads at work.
    pub threads: Option<usize>,
    /// Unit of the measure; empty for statements.
    pub unit: &'static str,
    /// Which side of the threshold is good.
    pub direction: Direction,
    /// The threshold; `None` for statements, and for figures that nothing is asked of.
    pub threshold: Option<f64>,
}

/// Suffixes that an id may add to its measure's name.
const SUFFIXES: [&str; 3] = ["_red_flag", "_aim", "_shown"];

/// Store sizes.
pub const K1: u64 = 1_000;
/// The size that decides.
pub const K100: u64 = 100_000;
/// The largest size.
pub const M1: u64 = 1_000_000;

/// Numbers of the checklist's gates.
pub const GATES: [&str; 5] = ["1", "2", "3", "4", "5"];

/// Titles of the checklist's gates, in the order of [`GATES`].
pub const TITLES: [&str; 5] = ["durability", "hot path", "scaling", "facade tax", "infrastructure"];

/// The checklist.
#[rustfmt::skip]
pub const ENTRIES: &[Entry] = &[
    // Gate 1: durability.
    gate("1", "put_direct_mean_100k", "put through the engine, mean").at("engine", K100, 1).at_most(3_000.0, "ns"),
    aim("1", "put_direct_mean_100k_aim", "put through the engine, mean").at("engine", K100, 1).at_most(500.0, "ns"),
    aim("1", "put_direct_mean_1k_aim", "put through the engine, mean").at("engine", K1, 1).at_most(150.0, "ns"),
    aim("1", "put_direct_mean_1m_shown", "put through the engine, mean, shown beside").at("engine", M1, 1).at_most(3_000.0, "ns"),
    gate("1", "in_memory_rate_1t_100k", "puts in memory, one thread").at("engine", K100, 1).at_least(250_000.0, "ops/s"),
    aim("1", "in_memory_rate_1t_100k_aim", "puts in memory, one thread").at("engine", K100, 1).at_least(3_000_000.0, "ops/s"),
    gate("1", "buffered_put_mean_100k", "buffered key-value put, mean").at("A1", K100, 1).at_most(30_000.0, "ns"),
    aim("1", "buffered_put_ratio_100k_aim", "buffered put over in-memory put").at("A1", K100, 1).at_most(1.5, "ratio"),
    gate("1", "buffered_rate_1t_100k", "buffered puts, one thread").at("A1", K100, 1).at_least(50_000.0, "ops/s"),
    aim("1", "buffered_rate_1t_100k_aim", "buffered puts, one thread").at("A1", K100, 1).at_least(1_000_000.0, "ops/s"),
    aim("1", "buffered_scaling_2t_100k_shown", "buffered puts, disjoint, 2 threads over one").at("A1", K100, 2).shown("ratio"),
    gate("1", "strict_keeps_acknowledged", "strict loses nothing acknowledged, and behaves as M3 did").layer("engine"),
    aim("1", "strict_put_ratio_1t_aim", "strict put over a bare write and sync").at("engine", K100, 1).at_most(1.15, "ratio"),
    aim("1", "strict_scaling_16t_aim", "strict puts, 16 threads over one").at("engine", K100, 16).at_least(8.0, "ratio"),
    gate("1", "durability_override", "durability of one operation, every pair of modes").layer("engine"),
    aim("1", "durability_override_cost_aim", "cost of that override is measured").layer("engine"),
    red_flag("1", "shutdown_keeps_data_red_flag", "nothing is lost across a graceful shutdown").layer("engine"),
    // Gate 2: the hot path.
    gate("2", "allocations_put_100k", "heap allocations, overwriting put").at("A1", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_put_2t_100k_aim", "heap allocations, overwriting put, 2 threads").at("A1", K100, 2).at_most(0.0, "allocations/op"),
    aim("2", "allocations_delete_put_100k_aim", "heap allocations, delete and put of one key").at("A1", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_delete_put_2t_100k_aim", "heap allocations, delete and put of one key, 2 threads").at("A1", K100, 2).at_most(0.0, "allocations/op"),
    gate("2", "allocations_get_into_100k", "heap allocations, get into a buffer").at("engine", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_get_into_2t_100k_aim", "heap allocations, get into a buffer, 2 threads").at("engine", K100, 2).at_most(0.0, "allocations/op"),
    aim("2", "allocations_get_with_100k_aim", "heap allocations, get in place").at("engine", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_get_with_2t_100k_aim", "heap allocations, get in place, 2 threads").at("engine", K100, 2).at_most(0.0, "allocations/op"),
    aim("2", "allocations_snapshot_100k_aim", "heap allocations, snapshot taken and released").at("engine", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_snapshot_2t_100k_aim", "heap allocations, snapshot taken and released, 2 threads").at("engine", K100, 2).at_most(0.0, "allocations/op"),
    gate("2", "allocations_transaction_100k", "heap allocations, small transaction").at("A1", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_transaction_2t_100k_aim", "heap allocations, small transaction, 2 threads").at("A1", K100, 2).at_most(0.0, "allocations/op"),
    aim("2", "allocations_transaction_1r1w_100k_aim", "heap allocations, transaction of one read and one put").at("A1", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_transaction_1r1w_2t_100k_aim", "heap allocations, transaction of one read and one put, 2 threads").at("A1", K100, 2).at_most(0.0, "allocations/op"),
    aim("2", "allocations_transaction_2r2w_100k_aim", "heap allocations, transaction of two reads and two puts").at("A1", K100, 1).at_most(0.0, "allocations/op"),
    aim("2", "allocations_transaction_2r2w_2t_100k_aim", "heap allocations, transaction of two reads and two puts, 2 threads").at("A1", K100, 2).at_most(0.0, "allocations/op"),
    red_flag("2", "allocations_hot_path_100k_red_flag", "heap allocations, whole hot path").at("A1", K100, 1).at_most(0.0, "allocations/op"),
    red_flag("2", "allocations_hot_path_2t_100k_red_flag", "heap allocations, whole hot path, 2 threads").at("A1", K100, 2).at_most(0.0, "allocations/op"),
    gate("2", "snapshot_mean_1m", "snapshot taken and released, mean").at("engine", M1, 1).at_most(500.0, "ns"),
    aim("2", "snapshot_mean_1m_aim", "snapshot taken and released, mean").at("engine", M1, 1).at_most(20.0, "ns"),
    red_flag("2", "snapshot_mean_1m_red_flag", "snapshot taken and released, mean").at("engine", M1, 1).at_most(2_000.0, "ns"),
    aim("2", "snapshot_mean_2t_1m_aim", "snapshot taken and released by 2 threads, mean").at("engine", M1, 2).at_most(60.0, "ns"),
    gate("2", "snapshot_allocations_1m", "heap allocations of a snapshot").at("engine", M1, 1).at_most(0.0, "allocations/op"),
    aim("2", "snapshot_allocations_2t_1m_aim", "heap allocations of a snapshot, 2 threads").at("engine", M1, 2).at_most(0.0, "allocations/op"),
    gate("2", "get_mean_100k", "key-value get, mean").at("A1", K100, 1).at_most(10_000.0, "ns"),
    aim("2", "get_mean_1k_shown", "key-value get, mean, shown beside").at("A1", K1, 1).at_most(10_000.0, "ns"),
    aim("2", "get_mean_1m_shown", "key-value get, mean, shown beside").at("A1", M1, 1).at_most(10_000.0, "ns"),
    aim("2", "get_to_skiplist_100k_aim", "key-value get rate over a raw skiplist lookup").at("A1", K100, 1).at_least(5.0, "ratio"),
    aim("2", "get_to_skiplist_1m_aim", "key-value get rate over a raw skiplist lookup").at("A1", M1, 1).at_least(5.0, "ratio"),
    red_flag("2", "put_tail_p99_100k_red_flag", "put, 99th percentile over mean").at("A1", K100, 1).at_most(20.0, "ratio"),
    aim("2", "put_tail_p99_100k_aim", "put, 99th percentile over mean").at("A1", K100, 1).at_most(5.0, "ratio"),
    aim("2", "put_tail_p999_100k_aim", "put, 99.9th percentile over mean").at("A1", K100, 1).at_most(20.0, "ratio"),
    aim("2", "put_tail_p99_1m_shown", "put, 99th percentile over mean, shown beside").at("A1", M1, 1).at_most(5.0, "ratio"),
    aim("2", "put_tail_p999_1m_shown", "put, 99.9th percentile over mean, shown beside").at("A1", M1, 1).at_most(20.0, "ratio"),
    red_flag("2", "get_tail_p99_100k_red_flag", "get, 99th percentile over mean").at("A1", K100, 1).at_most(20.0, "ratio"),
    aim("2", "get_tail_p99_100k_aim", "get, 99th percentile over mean").at("A1", K100, 1).at_most(5.0, "ratio"),
    aim("2", "get_tail_p999_100k_aim", "get, 99.9th percentile over mean").at("A1", K100, 1).at_most(20.0, "ratio"),
    aim("2", "get_tail_p99_1m_shown", "get, 99th percentile over mean, shown beside").at("A1", M1, 1).at_most(5.0, "ratio"),
    aim("2", "get_tail_p999_1m_shown", "get, 99.9th percentile over mean, shown beside").at("A1", M1, 1).at_most(20.0, "ratio"),
    // Gate 3: scaling.
    gate("3", "disjoint_scaling_2t_100k", "disjoint puts, 2 threads over one").at("A1", K100, 2).at_least(1.8, "ratio"),
    aim("3", "disjoint_ceiling_2t_100k_aim", "disjoint puts, 2 threads, share of the machine's ceiling").at("A1", K100, 2).at_least(0.95, "ratio"),
    aim("3", "disjoint_get_ceiling_2t_100k_aim", "disjoint gets, 2 threads, share of the machine's ceiling").at("A1", K100, 2).at_least(0.95, "ratio"),
    aim("3", "disjoint_transaction_ceiling_2t_100k_aim", "disjoint transactions, 2 threads, share of the machine's ceiling").at("B", K100, 2).at_least(0.95, "ratio"),
    gate("3", "disjoint_scaling_4t_100k", "disjoint puts, 4 threads over one").at("A1", K100, 4).at_least(3.2, "ratio"),
    red_flag("3", "disjoint_scaling_4t_100k_red_flag", "disjoint puts, 4 threads over one").at("A1", K100, 4).at_least(2.5, "ratio"),
    aim("3", "disjoint_ceiling_4t_100k_aim", "disjoint puts, 4 threads, share of the machine's ceiling").at("A1", K100, 4).at_least(0.95, "ratio"),
    gate("3", "disjoint_scaling_8t_100k", "disjoint puts, 8 threads over one").at("A1", K100, 8).at_least(6.0, "ratio"),
    aim("3", "disjoint_ceiling_8t_100k_aim", "disjoint puts, 8 threads, share of the machine's ceiling").at("A1", K100, 8).at_least(0.9, "ratio"),
    aim("3", "disjoint_ceiling_16t_100k_aim", "disjoint puts, 16 threads, share of the machine's ceiling").at("A1", K100, 16).at_least(0.9, "ratio"),
    gate("3", "disjoint_rate_4t_100k", "disjoint puts, 4 threads").at("A1", K100, 4).at_least(800_000.0, "ops/s"),
    aim("3", "disjoint_rate_4t_100k_aim", "disjoint puts, 4 threads").at("A1", K100, 4).at_least(6_000_000.0, "ops/s"),
    gate("3", "same_key_4t_100k", "one key, 4 threads over one").at("A1", K100, 4).at_least(0.25, "ratio"),
    aim("3", "same_key_4t_100k_aim", "one key, 4 threads over one").at("A1", K100, 4).at_least(0.5, "ratio"),
    aim("3", "same_key_2t_100k_shown", "one key, 2 threads over one, shown beside").at("A1", K100, 2).at_least(0.25, "ratio"),
    aim("3", "same_key_get_ceiling_2t_100k_aim", "gets of one key, 2 threads, share of the machine's ceiling").at("A1", K100, 2).at_least(0.95, "ratio"),
    // Gate 4: the facade tax.
    gate("4", "a1_a0_100k", "key-value put over storage put").at("A1", K100, 1).at_most(10.0, "ratio"),
    aim("4", "a1_a0_100k_aim", "key-value put over storage put").at("A1", K100, 1).at_most(1.3, "ratio"),
    red_flag("4", "a1_a0_100k_red_flag", "key-value put over storage put").at("A1", K100, 1).at_most(20.0, "ratio"),
    aim("4", "a1_a0_1k_shown", "key-value put over storage put, shown beside").at("A1", K1, 1).at_most(10.0, "ratio"),
    aim("4", "a1_a0_1m_shown", "key-value put over storage put, shown beside").at("A1", M1, 1).at_most(10.0, "ratio"),
    gate("4", "b_a1_100k", "transaction put over key-value put").at("B", K100, 1).at_most(5.0, "ratio"),
    aim("4", "b_a1_100k_aim", "transaction put over key-value put").at("B", K100, 1).at_most(2.0, "ratio"),
    red_flag("4", "b_a1_100k_red_flag", "transaction put over key-value put").at("B", K100, 1).at_most(8.0, "ratio"),
    aim("4", "b_a1_1k_shown", "transaction put over key-value put, shown beside").at("B", K1, 1).at_most(5.0, "ratio"),
    aim("4", "b_a1_1m_shown", "transaction put over key-value put, shown beside").at("B", M1, 1).at_most(5.0, "ratio"),
    gate("4", "b_a0_100k", "transaction put over storage put").at("B", K100, 1).at_most(30.0, "ratio"),
    aim("4", "b_a0_100k_aim", "transaction put over storage put").at("B", K100, 1).at_most(2.5, "ratio"),
    aim("4", "b_a0_1k_shown", "transaction put over storage put, shown beside").at("B", K1, 1).at_most(30.0, "ratio"),
    aim("4", "b_a0_1m_shown", "transaction put over storage put, shown beside").at("B", M1, 1).at_most(30.0, "ratio"),
    // Gate 5: infrastructure.
    gate("5", "locked_baseline_same_run", "the locked baseline runs beside the engine in the same run"),
    aim("5", "sharded_baseline_same_run_aim", "the sharded baseline runs beside the engine in the same run"),
    gate("5", "perf_trace_absent", "per-layer timing behind a feature, nothing of it without"),
    aim("5", "perf_trace_layer_sum_aim", "layers of a put sum to the whole, relative difference").at("engine", K100, 1).at_most(0.1, "ratio"),
    gate("5", "m3_interface", "code written for the M3 interface runs unchanged, strict by default"),
    gate("5", "architecture_documents", "architecture documents with diagrams"),
    gate("5", "api_documents", "API documents build without a warning"),
    gate("5", "results_recorded", "benchmark results are recorded with their machine"),
    gate("5", "version_pool_stable", "the version pool keeps its size after warm-up"),
    aim("5", "memory_key_100k_shown", "bytes per key, as the allocator rounds them").at("engine", K100, 1).shown("bytes"),
    aim("5", "memory_key_requested_100k_shown", "bytes per key, as requested").at("engine", K100, 1).shown("bytes"),
    aim("5", "memory_version_100k_shown", "bytes per further version, as the allocator rounds them").at("engine", K100, 1).shown("bytes"),
    aim("5", "memory_version_requested_100k_shown", "bytes per further version, as requested").at("engine", K100, 1).shown("bytes"),
    aim("5", "memory_key_1m_shown", "bytes per key, as the allocator rounds them").at("engine", M1, 1).shown("bytes"),
    aim("5", "memory_key_requested_1m_shown", "bytes per key, as requested").at("engine", M1, 1).shown("bytes"),
    aim("5", "memory_version_1m_shown", "bytes per further version, as the allocator rounds them").at("engine", M1, 1).shown("bytes"),
    aim("5", "memory_version_requested_1m_shown", "bytes per further version, as requested").at("engine", M1, 1).shown("bytes"),
    gate("5", "saved_baseline_and_tag", "a saved criterion baseline and a tag m3_baseline_perf"),
];

const fn entry(kind: Kind, gate: &'static str, id: &'static str, name: &'static str) -> Entry {
    Entry {
        id,
        gate,
        kind,
        name,
        layer: "",
        keys: None,
        threads: None,
        unit: "",
        direction: Direction::Holds,
        threshold: None,
    }
}

const fn gate(gate: &'static str, id: &'static str, name: &'static str) -> Entry {
    entry(Kind::Gate, gate, id, name)
}

const fn red_flag(gate: &'static str, id: &'static str, name: &'static str) -> Entry {
    entry(Kind::RedFlag, gate, id, name)
}

const fn aim(gate: &'static str, id: &'static str, name: &'static str) -> Entry {
    entry(Kind::Aim, gate, id, name)
}

impl Entry {
    const fn layer(mut self, layer: &'static str) -> Self {
        self.layer = layer;
        self
    }

    const fn at(mut self, layer: &'static str, keys: u64, threads: usize) -> Self {
        self.keys = Some(keys);
        self.threads = Some(threads);
        self.layer(layer)
    }

    const fn at_least(mut self, threshold: f64, unit: &'static str) -> Self {
        self.direction = Direction::AtLeast;
        self.threshold = Some(threshold);
        self.unit = unit;
        self
    }

    const fn at_most(mut self, threshold: f64, unit: &'static str) -> Self {
        self.direction = Direction::AtMost;
        self.threshold = Some(threshold);
        self.unit = unit;
        self
    }

    const fn shown(mut self, unit: &'static str) -> Self {
        self.direction = Direction::Shown;
        self.unit = unit;
        self
    }

    /// Returns the name of the measure that decides this entry.
    #[must_use]
    pub fn measure(&self) -> &'static str {
        SUFFIXES
            .iter()
            .find_map(|suffix| self.id.strip_suffix(suffix))
            .unwrap_or(self.id)
    }
}

/// Returns the entry with this id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The checklist as the documentation states it.
    const DOCUMENT: &str = include_str!("../../../docs/gates.md");

    /// Cells of every table row of the document that starts with an id.
    fn documented_rows() -> Vec<Vec<String>> {
        DOCUMENT
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| {
                line.trim_matches('|')
                    .split('|')
                    .map(|cell| cell.trim().replace('`', ""))
                    .collect()
            })
            .collect()
    }

    fn cells(entry: &Entry) -> Vec<String> {
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let keys = match entry.keys {
            None => "-".to_owned(),
            Some(keys) if keys >= 1_000_000 => format!("{} M", keys / 1_000_000),
            Some(keys) => format!("{} k", keys / 1_000),
        };
        vec![
            entry.id.to_owned(),
            entry.kind.as_str().replace('_', " "),
            entry.name.to_owned(),
            or_dash(entry.layer.to_owned()),
            keys,
            or_dash(entry.threads.map_or_else(String::new, |threads| threads.to_string())),
            or_dash(entry.unit.to_owned()),
            entry.direction.as_str().replace('_', " "),
            or_dash(
                entry
                    .threshold
                    .map_or_else(String::new, |threshold| threshold.to_string()),
            ),
        ]
    }

    // Goal: nobody can move a threshold in the code and leave the checklist as it was. Method: every row of the
    // document is compared with the entry of the same place, cell by cell, and nothing is left over.
    #[test]
    fn table_says_what_the_document_says() {
        let rows = documented_rows();
        for (row, entry) in rows.iter().zip(ENTRIES) {
            assert_eq!(row, &cells(entry));
        }
        assert_eq!(rows.len(), ENTRIES.len(), "a line is missing on one side");
    }

    #[test]
    fn document_puts_every_entry_under_its_gate() {
        let mut section = String::new();
        for line in DOCUMENT.lines() {
            if let Some(title) = line.strip_prefix("## Gate ") {
                section = title.chars().take(1).collect();
            } else if let Some(rest) = line.strip_prefix("| `") {
                let id = rest.split('`').next().expect("split yields at least one part");
                assert_eq!(find(id).map(|entry| entry.gate), Some(section.as_str()), "{id}");
            }
        }
    }

    #[test]
    fn ids_are_unique_and_name_their_size_and_threads() {
        let mut seen = HashSet::new();
        for entry in ENTRIES {
            assert!(seen.insert(entry.id), "{} is listed twice", entry.id);
            let measure = entry.measure();
            for (keys, name) in [(K1, "_1k"), (K100, "_100k"), (M1, "_1m")] {
                assert!(!measure.ends_with(name) || entry.keys == Some(keys), "{}", entry.id);
            }
            let threads = measure.split('_').find_map(|part| part.strip_suffix('t')?.parse().ok());
            assert!(threads.is_none() || entry.threads == threads, "{}", entry.id);
            assert!(GATES.contains(&entry.gate));
        }
    }

    #[test]
    fn kind_follows_the_suffix() {
        for entry in ENTRIES {
            let expected = match entry.id.strip_prefix(entry.measure()) {
                Some("") => Kind::Gate,
                Some("_red_flag") => Kind::RedFlag,
                _ => Kind::Aim,
            };
            assert_eq!(entry.kind, expected, "{}", entry.id);
        }
    }

    // Goal: a gate, its red flag and its aim never contradict one another.
    #[test]
    fn aims_ask_more_and_red_flags_less_than_the_gate() {
        for entry in ENTRIES.iter().filter(|entry| entry.kind != Kind::Gate) {
            let Some(gate) = find(entry.measure()) else { continue };
            assert_eq!(
                (gate.unit, gate.direction),
                (entry.unit, entry.direction),
                "{}",
                entry.id
            );
            let (Some(mine), Some(theirs)) = (entry.threshold, gate.threshold) else {
                continue;
            };
            let asks_more = match entry.direction {
                Direction::AtLeast => mine > theirs,
                Direction::AtMost => mine < theirs,
                Direction::Holds | Direction::Shown => continue,
            };
            assert_eq!(asks_more, entry.kind == Kind::Aim, "{}", entry.id);
        }
    }

    // Goal: what has no threshold cannot decide. Method: only statements and shown figures are without one, and a
    // shown figure is neither gate nor red flag.
    #[test]
    fn only_statements_and_shown_figures_have_no_threshold() {
        for entry in ENTRIES {
            let id = entry.id;
            let without = matches!(entry.direction, Direction::Holds | Direction::Shown);
            assert_eq!(entry.threshold.is_none(), without, "{id}");
            assert_eq!(entry.unit.is_empty(), entry.direction == Direction::Holds, "{id}");
            if entry.direction == Direction::Shown {
                assert!(entry.kind == Kind::Aim && id.ends_with("_shown"), "{id}");
            }
        }
    }
}
