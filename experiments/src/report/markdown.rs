//! `gates.md`: the filled checklist as a page to read and to keep beside its data.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::gates::sheet::Outcome;
use crate::gates::table::{GATES, TITLES};
use crate::harness::environment::Environment;
use crate::report::{checklist, units};

/// A further table of the page: what has no line of its own in the checklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// A sentence or two under it.
    pub text: String,
    /// Column titles; empty for a section without a table.
    pub header: Vec<String>,
    /// Rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
}

/// Returns the page.
#[must_use]
pub fn render(
    outcomes: &[Outcome],
    sections: &[Section],
    environment: &Environment,
    seed: u64,
    command: &str,
) -> String {
    let mut page = String::from("# The checklist, filled in\n\n");
    preamble(&mut page, environment, seed, command);
    for (gate, title) in GATES.iter().zip(TITLES) {
        let lines: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.entry.gate == *gate).collect();
        if lines.is_empty() {
            continue;
        }
        let header: Vec<String> = [
            "id",
            "kind",
            "what",
            "layer",
            "keys",
            "threshold",
            "measured [95 %]",
            "verdict",
            "beside it",
            "remark",
        ]
        .map(str::to_owned)
        .to_vec();
        let rows = lines.iter().map(|line| row(line)).collect();
        let section = Section {
            title: format!("Gate {gate}: {title}"),
            text: String::new(),
            header,
            rows,
        };
        render_section(&mut page, &section);
    }
    for section in sections {
        render_section(&mut page, section);
    }
    let _ = write!(page, "\n## In short\n\n```text{}```\n", checklist::summary(outcomes));
    page
}

/// Writes where a result comes from: date, command, source, compiler, processor.
pub(crate) fn preamble(page: &mut String, environment: &Environment, seed: u64, command: &str) {
    let commit = environment.commit.as_deref().unwrap_or("unknown commit");
    let dirty = match environment.dirty {
        Some(true) => ", with uncommitted changes",
        _ => "",
    };
    let disk = environment
        .disk
        .as_ref()
        .map_or_else(String::new, |medium| format!("| databases on | {medium} |\n"));
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "Measured on {} with `{command}`, seed {seed}.\n\n\
         | | |\n|---|---|\n| source | {commit}{dirty} |\n| compiler | {} ({}) |\n| processor | {}, {} available |\n\
         | kernel | {} |\n| allocator | {} |\n{disk}\n\
         Figures are medians over interleaved rounds with 95 % bootstrap intervals. The rest of the machine is in \
         `environment.json`.\n",
        environment.date,
        environment.rustc,
        environment.profile,
        environment.cpu.model,
        environment.cpu.available,
        environment.kernel.as_deref().unwrap_or("unknown"),
        environment.allocator,
    );
}

fn row(line: &Outcome) -> Vec<String> {
    let entry = line.entry;
    let mut remark = line.reason.clone();
    if let Some(prediction) = line.prediction {
        remark = format!(
            "{remark} predicted, not measured: {}",
            units::value(prediction, entry.unit)
        );
    }
    vec![
        format!("`{}`", entry.id),
        entry.kind.as_str().replace('_', " "),
        entry.name.to_owned(),
        entry.layer.to_owned(),
        entry.keys.map_or_else(String::new, units::keys),
        units::threshold(entry),
        units::measured(line),
        checklist::verdict_word(line).to_owned(),
        units::beside(line).join(", "),
        remark.trim().to_owned(),
    ]
}

/// Writes a section as Markdown.
pub(crate) fn render_section(page: &mut String, section: &Section) {
    let _ = write!(page, "\n## {}\n\n", section.title);
    if !section.text.is_empty() {
        let _ = write!(page, "{}\n\n", section.text);
    }
    if section.header.is_empty() {
        return;
    }
    let _ = writeln!(page, "| {} |", section.header.join(" | "));
    let _ = writeln!(page, "|{}", "---|".repeat(section.header.len()));
    for cells in &section.rows {
        let escaped: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(page, "| {} |", escaped.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::sheet::{Figure, Selection, Sheet};

    #[test]
    fn page_holds_checklist_sections_and_origin() {
        let mut sheet = Sheet::new(Selection {
            gates: vec!["5".to_owned()],
            red_flags_only: false,
        });
        sheet.record(
            "version_pool_stable",
            Figure::not_built("versions are not recycled yet"),
        );
        let section = Section {
            title: "Layers".to_owned(),
            text: "Means.".to_owned(),
            header: vec!["engine".to_owned(), "A0".to_owned()],
            rows: vec![vec!["a|b".to_owned(), "1".to_owned()]],
        };
        let page = render(
            &sheet.outcomes(),
            &[section],
            &Environment::capture(None),
            7,
            "experiments gates --quick",
        );
        for part in [
            "seed 7",
            "experiments gates --quick",
            "## Gate 5: infrastructure",
            "| `version_pool_stable` | gate |",
            "not built",
            "versions are not recycled yet",
            "## Layers\n\nMeans.\n\n| engine | A0 |\n|---|---|\n| a\\|b | 1 |",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
        let columns = |line: &str| line.replace("\\|", "").matches('|').count();
        for line in page.lines().filter(|line| line.starts_with("| `")) {
            assert_eq!(columns(line), 11, "{line}");
        }
    }
}
