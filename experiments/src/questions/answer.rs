//! What comes out of a question: for people as Markdown, for programs as JSON and CSV.
//!
//! | file | holds |
//! |---|---|
//! | `NAME.json` | schema 1: the environment, every target with its verdict, medians, ratios, faults, and each sample |
//! | `NAME.csv` | one line per side, operation, store size, thread count and round |
//! | `NAME.md` | the tables, with the environment above them |
//! | others | what a question adds: time series as CSV, plots as SVG |
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::targets::{Fault, Kind, Outcome, shown, threshold};
use crate::harness::environment::Environment;
use crate::harness::stats::{Direction, Verdict};
use crate::report::csv;
use crate::report::markdown::{self, Section};
use crate::report::units;

/// Version of the JSON format.
const SCHEMA: u32 = 1;

/// One sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The side.
    pub engine: String,
    /// What it did.
    pub operation: String,
    /// Keys in the store.
    pub keys: usize,
    /// Threads.
    pub threads: usize,
    /// The round, from zero.
    pub round: usize,
    /// All threads together; `None` if the slice failed.
    pub ops_per_second: Option<f64>,
    /// Operations within the window.
    pub operations: u64,
    /// Attempts that were aborted, the warm-up's among them.
    pub aborts: u64,
    /// Whether every thread was bound to a processor.
    pub pinned: bool,
    /// What was wrong; empty if nothing was.
    pub defect: String,
}

/// The median of one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The side.
    pub engine: String,
    /// What it did.
    pub operation: String,
    /// Keys in the store.
    pub keys: usize,
    /// Threads.
    pub threads: usize,
    /// The median of the rounds.
    pub ops_per_second: Option<f64>,
    /// Its 95 % interval.
    pub ci95: Option<[f64; 2]>,
    /// Aborts per commit, for transactions.
    pub aborts_per_operation: Option<f64>,
    /// Why there is no median.
    pub reason: String,
}

/// The ratio of two sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The side above the line.
    pub engine: String,
    /// The side below it.
    pub over: String,
    /// What both did.
    pub operation: String,
    /// Keys in the store.
    pub keys: usize,
    /// Threads.
    pub threads: usize,
    /// The median of the rounds' ratios.
    pub ratio: Option<f64>,
    /// Its 95 % interval.
    pub ci95: Option<[f64; 2]>,
    /// Why there is none.
    pub reason: String,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Targets and claims, judged.
    pub outcomes: Vec<Outcome>,
    /// Sides that did something wrong.
    pub faults: Vec<Fault>,
    /// Every sample.
    pub samples: Vec<Row>,
    /// The median of every side.
    pub medians: Vec<Measured>,
    /// Ratios between sides.
    pub ratios: Vec<Ratio>,
    /// Tables for people.
    pub sections: Vec<Section>,
    /// Further files, by name.
    pub files: Vec<(String, String)>,
    /// The machine.
    pub environment: Environment,
    /// What a reader of the tables has to know.
    pub remarks: Vec<String>,
}

/// Where an answer comes from, for its files.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Name of the question.
    pub question: &'static str,
    /// The command, without paths.
    pub command: String,
    /// The seed.
    pub seed: u64,
    /// Rounds of every comparison.
    pub rounds: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    question: &'a str,
    command: &'a str,
    seed: u64,
    rounds: usize,
    environment: &'a Environment,
    targets: Vec<Line<'a>>,
    faults: &'a [Fault],
    medians: &'a [Measured],
    ratios: &'a [Ratio],
    samples: &'a [Row],
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    kind: Kind,
    name: &'a str,
    keys: usize,
    threads: usize,
    unit: &'a str,
    direction: Direction,
    threshold: f64,
    measured: Option<f64>,
    ci95: Option<[f64; 2]>,
    verdict: Verdict,
    reason: &'a str,
    rounds: usize,
}

impl Answer {
    /// Returns `NAME.json`.
    ///
    /// # Errors
    ///
    /// If serialization fails, which plain data does not.
    pub fn json(&self, origin: &Origin) -> Result<String, serde_json::Error> {
        let document = Document {
            schema: SCHEMA,
            question: origin.question,
            command: &origin.command,
            seed: origin.seed,
            rounds: origin.rounds,
            environment: &self.environment,
            targets: self.outcomes.iter().map(line).collect(),
            faults: &self.faults,
            medians: &self.medians,
            ratios: &self.ratios,
            samples: &self.samples,
        };
        serde_json::to_string_pretty(&document).map(|text| text + "\n")
    }

    /// Takes a directory's place out of everything that is said: what the system refuses names files, and a result is to
    /// name no place.
    pub fn forget_place(&mut self, directory: &Path) {
        let mut places = vec![directory.to_path_buf()];
        places.extend(directory.canonicalize());
        let texts = self.outcomes.iter_mut().map(|outcome| &mut outcome.reason);
        let texts = texts.chain(self.faults.iter_mut().map(|fault| &mut fault.reason));
        let texts = texts.chain(self.samples.iter_mut().map(|sample| &mut sample.defect));
        let texts = texts.chain(self.medians.iter_mut().map(|median| &mut median.reason));
        let texts = texts.chain(self.ratios.iter_mut().map(|ratio| &mut ratio.reason));
        let texts = texts.chain(self.remarks.iter_mut());
        for text in texts {
            for place in &places {
                *text = text.replace(&*place.to_string_lossy(), "DIR");
            }
        }
    }

    /// Says whether a side has no figure for something that it was measured on.
    #[must_use]
    pub fn is_spoilt(&self) -> bool {
        self.medians.iter().any(|median| median.ops_per_second.is_none())
    }

    /// Returns `NAME.csv`.
    #[must_use]
    pub fn csv(&self) -> String {
        csv::render(&COLUMNS, self.samples.iter().map(cells))
    }

    /// Returns the tables as Markdown.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut page = String::new();
        for section in &self.sections {
            markdown::render_section(&mut page, section);
        }
        if !self.outcomes.is_empty() {
            markdown::render_section(&mut page, &self.targets());
        }
        if !self.faults.is_empty() {
            markdown::render_section(&mut page, &self.fault_table());
        }
        if !self.remarks.is_empty() {
            page.push_str("\n## Remarks\n\n");
            for remark in &self.remarks {
                // Writing to a string cannot fail.
                let _ = writeln!(page, "- {remark}");
            }
        }
        page
    }

    /// Returns `NAME.md`.
    #[must_use]
    pub fn markdown(&self, origin: &Origin) -> String {
        let mut page = format!("# Question: {}\n\n", origin.question);
        markdown::preamble(&mut page, &self.environment, origin.seed, &origin.command);
        page.push_str(&self.tables());
        page
    }

    fn targets(&self) -> Section {
        let row = |outcome: &Outcome| {
            vec![
                format!("`{}`", outcome.target.id),
                outcome.target.kind.as_str().to_owned(),
                outcome.target.name.clone(),
                units::keys(outcome.target.keys as u64),
                threshold(&outcome.target),
                shown(outcome),
                outcome.word().to_owned(),
                outcome.reason.clone(),
            ]
        };
        Section {
            title: "Targets".to_owned(),
            text: String::new(),
            header: [
                "id",
                "kind",
                "what",
                "keys",
                "threshold",
                "measured [95 %]",
                "verdict",
                "remark",
            ]
            .map(str::to_owned)
            .to_vec(),
            rows: self.outcomes.iter().map(row).collect(),
        }
    }

    fn fault_table(&self) -> Section {
        Section {
            title: "Faults".to_owned(),
            text: "A side that did something wrong has no figures for it.".to_owned(),
            header: ["side", "what it did"].map(str::to_owned).to_vec(),
            rows: self
                .faults
                .iter()
                .map(|fault| vec![fault.engine.clone(), fault.reason.clone()])
                .collect(),
        }
    }
}

fn line(outcome: &Outcome) -> Line<'_> {
    let target = &outcome.target;
    Line {
        id: &target.id,
        kind: target.kind,
        name: &target.name,
        keys: target.keys,
        threads: target.threads,
        unit: target.unit,
        direction: target.direction,
        threshold: target.threshold,
        measured: outcome.measured,
        ci95: outcome.ci95,
        verdict: outcome.verdict,
        reason: &outcome.reason,
        rounds: outcome.rounds,
    }
}

/// Columns of `NAME.csv`.
const COLUMNS: [&str; 10] = [
    "engine",
    "operation",
    "keys",
    "threads",
    "round",
    "ops_per_second",
    "operations",
    "aborts",
    "pinned",
    "defect",
];

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.engine.clone(),
        row.operation.clone(),
        row.keys.to_string(),
        row.threads.to_string(),
        row.round.to_string(),
        row.ops_per_second.map_or_else(String::new, |rate| rate.to_string()),
        row.operations.to_string(),
        row.aborts.to_string(),
        row.pinned.to_string(),
        row.defect.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::sheet::Figure;
    use crate::questions::targets::Target;

    fn answer() -> Answer {
        let row = |round, rate, defect: &str| Row {
            engine: "unlatched".to_owned(),
            operation: "get".to_owned(),
            keys: 100_000,
            threads: 2,
            round,
            ops_per_second: rate,
            operations: 12_345,
            aborts: 0,
            pinned: true,
            defect: defect.to_owned(),
        };
        let target = Target {
            id: "get_to_crossbeam_1t_100k".to_owned(),
            kind: Kind::Aim,
            name: "get over crossbeam".to_owned(),
            keys: 100_000,
            threads: 1,
            unit: "ratio",
            direction: Direction::AtLeast,
            threshold: 5.0,
        };
        Answer {
            outcomes: vec![target.judge(Figure::invalid("a|b"))],
            faults: vec![Fault {
                engine: "m3".to_owned(),
                reason: "lost update".to_owned(),
                ours: false,
            }],
            samples: vec![
                row(0, Some(1_234_567.125), ""),
                row(1, None, "wrong: \"quoted\", with\na line"),
            ],
            medians: Vec::new(),
            ratios: Vec::new(),
            sections: Vec::new(),
            files: Vec::new(),
            environment: Environment::capture(None),
            remarks: vec!["a remark".to_owned()],
        }
    }

    fn origin() -> Origin {
        Origin {
            question: "index",
            command: "experiments question index --quick".to_owned(),
            seed: 7,
            rounds: 2,
        }
    }

    // Goal: nothing is lost on the way to a program. Method: read the samples back, from JSON and from CSV.
    #[test]
    fn samples_survive_json_and_csv() {
        let answer = answer();
        let document: serde_json::Value =
            serde_json::from_str(&answer.json(&origin()).expect("plain data")).expect("it is JSON");
        assert_eq!(document["schema"], 1);
        assert_eq!(document["seed"], 7);
        assert!(document["environment"]["cpu"]["available"].is_number());
        let read: Vec<Row> = serde_json::from_value(document["samples"].clone()).expect("rows");
        assert_eq!(read, answer.samples);

        let lines = csv::parse(&answer.csv()).expect("what was written can be read");
        assert_eq!(lines[0], COLUMNS);
        for (line, row) in lines[1..].iter().zip(&answer.samples) {
            assert_eq!(line, &cells(row));
        }
        let rate: f64 = lines[1][5].parse().expect("a number");
        assert_eq!(Some(rate), answer.samples[0].ops_per_second, "not rounded");
    }

    #[test]
    fn targets_of_the_document_have_every_field() {
        let document: serde_json::Value =
            serde_json::from_str(&answer().json(&origin()).expect("plain data")).expect("it is JSON");
        let line = document["targets"][0].as_object().expect("an object");
        let mut fields: Vec<&String> = line.keys().collect();
        fields.sort();
        let expected = [
            "ci95",
            "direction",
            "id",
            "keys",
            "kind",
            "measured",
            "name",
            "reason",
            "rounds",
            "threads",
            "threshold",
            "unit",
            "verdict",
        ];
        assert_eq!(fields, expected);
        assert_eq!(line["verdict"], "invalid");
        assert_eq!(line["measured"], serde_json::Value::Null);
    }

    #[test]
    fn a_place_is_forgotten_wherever_it_is_named() {
        let mut answer = answer();
        let directory = Path::new("/secret/disk");
        let said = "can't sync /secret/disk/x: no space".to_owned();
        answer.outcomes[0].reason.clone_from(&said);
        answer.faults[0].reason.clone_from(&said);
        answer.samples[0].defect.clone_from(&said);
        answer.remarks.push(said);
        answer.forget_place(directory);
        let text = answer.json(&origin()).expect("plain data") + &answer.markdown(&origin()) + &answer.csv();
        assert!(!text.contains("secret") && text.contains("DIR/x"), "{text}");
    }

    #[test]
    fn page_shows_targets_faults_and_remarks() {
        let page = answer().markdown(&origin());
        for part in [
            "# Question: index",
            "seed 7",
            "`get_to_crossbeam_1t_100k`",
            ">= 5.00x",
            "INVALID",
            "a\\|b",
            "lost update",
            "- a remark",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
    }
}
