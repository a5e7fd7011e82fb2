//! What was found, for people: a sentence that sums it up, then a table of each kind of thing.
#![forbid(unsafe_code)]

use comfy_table::{CellAlignment, Table, presets};
use unlatched::internals::{Inspection, MarkerReport, MarkerVerdict, SegmentReport, Verification};

/// Markers that are listed though they hold, counted from the last.
const LAST_MARKERS: usize = 8;

/// Returns what there is to say of an inspection; with `all`, every hole and marker.
pub(super) fn inspection(found: &Inspection, all: bool) -> String {
    let mut text = summary(found);
    if !found.segments.is_empty() {
        text += &format!("\n{}\n", segments(&found.segments));
    }
    for report in &found.segments {
        text += &remarks(report, all);
    }
    if !found.restarts.is_empty() {
        let mut table = table(&["restart at", "restored cut", "clock"], &[1, 2]);
        for report in &found.restarts {
            table.add_row([place(report.lsn), report.last.to_string(), report.clock.to_string()]);
        }
        text += &format!("\n{table}\n");
    }
    text += &markers(&found.markers, all);
    if !found.leftovers.is_empty() {
        text += &format!("\nno part of the log: {}\n", found.leftovers.join(", "));
    }
    text
}

/// Returns what there is to say of a rehearsal that succeeded.
pub(super) fn verification(found: &Verification) -> String {
    let Some(log) = found.log else {
        return "there is no log here\n".to_owned();
    };
    let beyond = match found.checkpoint {
        Some(cut) => format!("beyond the checkpoint at {cut}, "),
        None => String::new(),
    };
    format!(
        "whole: log {log:016x} would be restored up to timestamp {}: {beyond}{} commits in {} segments of {} bytes\n",
        found.cut, found.records, found.segments, found.bytes
    )
}

/// Returns the word for a verdict.
pub(super) fn verdict(verdict: MarkerVerdict) -> &'static str {
    match verdict {
        MarkerVerdict::Holds => "holds",
        MarkerVerdict::Fails(_) => "fails",
        MarkerVerdict::Covered => "covered",
        MarkerVerdict::TakenBack => "taken back",
    }
}

fn summary(found: &Inspection) -> String {
    let log = match found.log {
        Some(log) => format!("log {log:016x}, {} segments", found.segments.len()),
        None if found.segments.is_empty() => return "there is no log here\n".to_owned(),
        None => format!("{} segments, none with a good header", found.segments.len()),
    };
    let checkpoint = match found.checkpoint {
        Some(cut) => format!("the newest checkpoint at timestamp {cut}"),
        None => "no checkpoint".to_owned(),
    };
    let outcome = match &found.damage {
        Some(error) => format!("damage: {error}"),
        None => format!("recovery would restore everything up to timestamp {}", found.cut),
    };
    format!("{log}, {checkpoint}\n{outcome}\n")
}

fn segments(reports: &[SegmentReport]) -> Table {
    let header = [
        "segment",
        "bytes",
        "used",
        "commits",
        "stamped",
        "holes",
        "in holes",
        "last timestamp",
    ];
    let mut table = table(&header, &[1, 2, 3, 4, 5, 6, 7]);
    for report in reports {
        let mut row = vec![report.name.clone()];
        if report.refused.is_none() {
            row.push(report.bytes.to_string());
            row.push(report.end.to_string());
            row.push(report.records.to_string());
            row.push(report.stamped.to_string());
            row.push(report.holes.to_string());
            row.push(report.hole_bytes.to_string());
            row.push(report.last.to_string());
        }
        table.add_row(row);
    }
    table
}

/// What a table has no room for.
fn remarks(report: &SegmentReport, all: bool) -> String {
    let mut text = String::new();
    if let Some(refused) = &report.refused {
        text += &format!("{}: not read: {refused}\n", report.name);
    }
    if let Some(offset) = report.first_broken {
        text += &format!("{}: the first broken record is at byte {offset}\n", report.name);
    }
    if all {
        for hole in &report.first_holes {
            text += &format!("{}: bytes {}..{}: {}\n", report.name, hole.from, hole.to, hole.what);
        }
        let more = report.holes - report.first_holes.len() as u64;
        if more > 0 {
            text += &format!("{}: and {more} holes more\n", report.name);
        }
    }
    text
}

fn markers(reports: &[MarkerReport], all: bool) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let last = reports.len().saturating_sub(LAST_MARKERS);
    let failed = |report: &MarkerReport| matches!(report.verdict, MarkerVerdict::Fails(_));
    let shown = reports.iter().enumerate();
    let shown: Vec<_> = shown
        .filter(|(index, report)| all || *index >= last || failed(report))
        .map(|(_, report)| report)
        .collect();
    let mut table = table(&["marker at", "after", "up to", "commits", "verdict"], &[1, 2, 3]);
    for report in &shown {
        let verdict = match report.verdict {
            MarkerVerdict::Fails(found) => format!("fails: {found} found"),
            other => verdict(other).to_owned(),
        };
        table.add_row([
            place(report.lsn),
            report.previous.to_string(),
            report.cut.to_string(),
            report.count.to_string(),
            verdict,
        ]);
    }
    let hidden = match reports.len() - shown.len() {
        0 => String::new(),
        hidden => format!("{hidden} markers before these are not shown (--all)\n"),
    };
    format!("\n{table}\n{hidden}")
}

fn place(lsn: unlatched::internals::Lsn) -> String {
    format!("segment {:08x} byte {}", lsn.segment(), lsn.offset())
}

/// A table in which some columns are numbers.
fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for &index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
