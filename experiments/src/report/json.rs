//! `gates.json`, schema 1: the filled checklist for programs.
//!
//! One object: `schema`, `environment`, `gates`. Fields of an entry are never left out; what has no value is null.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use crate::gates::sheet::Outcome;
use crate::gates::table::Kind;
use crate::harness::environment::Environment;
use crate::harness::stats::{Direction, Verdict};

/// Version of the format.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    environment: &'a Environment,
    gates: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    gate: &'a str,
    id: &'a str,
    kind: Kind,
    name: &'a str,
    layer: &'a str,
    keys: Option<u64>,
    threads: Option<usize>,
    unit: &'a str,
    direction: Direction,
    threshold: Option<f64>,
    measured: Option<f64>,
    ci95: Option<[f64; 2]>,
    verdict: Verdict,
    reason: &'a str,
    prediction: Option<f64>,
    engines: &'a BTreeMap<String, f64>,
    seed: u64,
    rounds: usize,
}

/// Returns the document as indented JSON with a final newline.
///
/// # Errors
///
/// If serialization fails, which plain data does not.
pub fn render(outcomes: &[Outcome], environment: &Environment, seed: u64) -> Result<String, serde_json::Error> {
    let gates = outcomes
        .iter()
        .map(|outcome| Line {
            gate: outcome.entry.gate,
            id: outcome.entry.id,
            kind: outcome.entry.kind,
            name: outcome.entry.name,
            layer: outcome.entry.layer,
            keys: outcome.entry.keys,
            threads: outcome.entry.threads,
            unit: outcome.entry.unit,
            direction: outcome.entry.direction,
            threshold: outcome.entry.threshold,
            measured: outcome.measured,
            ci95: outcome.ci95,
            verdict: outcome.verdict,
            reason: &outcome.reason,
            prediction: outcome.prediction,
            engines: &outcome.engines,
            seed,
            rounds: outcome.rounds,
        })
        .collect();
    let document = Document {
        schema: SCHEMA,
        environment,
        gates,
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::sheet::{Figure, Selection, Sheet};
    use crate::harness::stats::Estimate;

    // Goal: programs can rely on every field. Method: the keys of each entry are compared with the schema's list.
    #[test]
    fn every_entry_has_exactly_the_fields_of_the_schema() {
        let mut sheet = Sheet::new(Selection::default());
        let estimate = Estimate {
            median: 1.9,
            low: 1.85,
            high: 1.95,
            rounds: 7,
            exact: false,
        };
        sheet.record(
            "disjoint_scaling_2t_100k",
            Figure::measured(estimate).beside("m3", Some(Estimate::exact(0.5, 7))),
        );
        let environment = Environment::capture(None);
        let text = render(&sheet.outcomes(), &environment, 42).expect("plain data");
        let document: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(document["schema"], 1);
        assert!(document["environment"]["cpu"]["available"].is_number());
        let expected = [
            "ci95",
            "direction",
            "engines",
            "gate",
            "id",
            "keys",
            "kind",
            "layer",
            "measured",
            "name",
            "prediction",
            "reason",
            "rounds",
            "seed",
            "threads",
            "threshold",
            "unit",
            "verdict",
        ];
        for line in document["gates"].as_array().expect("a list") {
            let mut fields: Vec<&String> = line.as_object().expect("an object").keys().collect();
            fields.sort();
            assert_eq!(fields, expected);
        }
        let line = document["gates"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|line| line["id"] == "disjoint_scaling_2t_100k")
            .expect("the line is there");
        assert_eq!(line["gate"], "3");
        assert_eq!(line["ci95"], serde_json::json!([1.85, 1.95]));
        assert_eq!(line["verdict"], "pass");
        assert_eq!(line["engines"]["m3"], 0.5);
        assert_eq!(line["prediction"], serde_json::Value::Null);
    }
}
