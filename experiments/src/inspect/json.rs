//! What was found, for programs: one object, schema 1. Fields are never left out; what has no value is null. The log's
//! random number is a text of hexadecimal digits, since it has more bits than many readers' numbers.
#![forbid(unsafe_code)]

use serde_json::{Value, json};
use unlatched::Error;
use unlatched::internals::{Inspection, MarkerReport, MarkerVerdict, RestartReport, SegmentReport, Verification};

const SCHEMA: u32 = 1;

/// Returns the object of an inspection.
pub(super) fn inspection(found: &Inspection) -> String {
    render(&json!({
        "schema": SCHEMA,
        "log": found.log.map(log),
        "checkpoint": found.checkpoint.map(|cut| cut.get()),
        "cut": found.cut.get(),
        "damage": found.damage.as_ref().and_then(damage),
        "error": found.damage.as_ref().map(ToString::to_string),
        "segments": found.segments.iter().map(segment).collect::<Vec<_>>(),
        "restarts": found.restarts.iter().map(restart).collect::<Vec<_>>(),
        "markers": found.markers.iter().map(marker).collect::<Vec<_>>(),
        "leftovers": found.leftovers,
    }))
}

/// Returns the object of a rehearsal that succeeded.
pub(super) fn verification(found: &Verification) -> String {
    render(&json!({
        "schema": SCHEMA,
        "log": found.log.map(log),
        "checkpoint": found.checkpoint.map(|cut| cut.get()),
        "cut": found.cut.get(),
        "damage": Value::Null,
        "error": Value::Null,
        "segments": found.segments,
        "commits": found.records,
        "bytes": found.bytes,
    }))
}

/// Returns the object of an error.
pub(super) fn refusal(error: &Error) -> String {
    render(&json!({
        "schema": SCHEMA,
        "damage": damage(error),
        "error": error.to_string(),
    }))
}

/// Returns the place that an error names, if it names one.
fn damage(error: &Error) -> Option<Value> {
    match error {
        Error::Corrupt {
            segment,
            offset,
            reason,
        } => Some(json!({ "file": segment, "offset": offset, "reason": reason })),
        _ => None,
    }
}

fn segment(report: &SegmentReport) -> Value {
    let holes = report.first_holes.iter();
    let holes: Vec<_> = holes
        .map(|hole| json!({ "from": hole.from, "to": hole.to, "what": hole.what }))
        .collect();
    json!({
        "number": report.number,
        "name": report.name,
        "refused": report.refused,
        "log": report.refused.is_none().then(|| log(report.log)),
        "file_bytes": report.file_bytes,
        "bytes": report.bytes,
        "end": report.end,
        "commits": report.records,
        "stamped": report.stamped,
        "last": report.last.get(),
        "holes": report.holes,
        "hole_bytes": report.hole_bytes,
        "first_holes": holes,
        "first_broken": report.first_broken,
    })
}

fn restart(report: &RestartReport) -> Value {
    json!({
        "segment": report.lsn.segment(),
        "offset": report.lsn.offset(),
        "last": report.last.get(),
        "clock": report.clock.get(),
    })
}

fn marker(report: &MarkerReport) -> Value {
    let found = match report.verdict {
        MarkerVerdict::Fails(found) => Some(found),
        _ => None,
    };
    json!({
        "segment": report.lsn.segment(),
        "offset": report.lsn.offset(),
        "cut": report.cut.get(),
        "previous": report.previous.get(),
        "commits": report.count,
        "verdict": super::text::verdict(report.verdict),
        "found": found,
    })
}

fn log(number: u64) -> String {
    format!("{number:016x}")
}

fn render(object: &Value) -> String {
    format!("{object:#}\n")
}
