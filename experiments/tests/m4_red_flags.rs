//! The checklist's red flags, over the same harness as the command line.
//!
//!     cargo test --test m4_red_flags --release -- --nocapture
//!
//! A flag that rises fails the test. What is inconclusive, not measurable here, not built, or spoilt by other load on
//! the machine is printed and passes: it proves nothing. A lost update fails the test. A debug build times nothing and
//! checks the flags that need no clock.

#![forbid(unsafe_code)]

use experiments::allocations::CountingAllocator;
use experiments::engines::unlatched::Unlatched;
use experiments::gates::campaign::DISTURBED;
use experiments::gates::red_flags::{CONTROL_SCALING, CONTROL_TITLE, RISEN};
use experiments::gates::sheet::{Outcome, Selection};
use experiments::gates::table::{self, Kind};
use experiments::gates::{Effort, Options, Report, run};
use experiments::harness::environment::available_processors;
use experiments::harness::stats::Verdict;
use experiments::report::checklist;
use experiments::report::markdown::Section;
use experiments::report::progress::Progress;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Flags that are known to be up, each with the reason. The list must shrink: a flag in it that no longer rises fails
/// the test until it is taken out.
const KNOWN_RISEN: &[(&str, &str)] = &[];

fn measure() -> Report {
    let mut options = Options::new(Effort::QUICK);
    options.selection = Selection {
        gates: Vec::new(),
        red_flags_only: true,
    };
    options.progress = Progress::detect();
    run::<Unlatched>(options).expect("the engines open in memory")
}

fn complaint(line: &Outcome) -> Option<String> {
    let id = line.entry.id;
    let known = KNOWN_RISEN.iter().find(|(known, _)| *known == id);
    match (line.verdict, known) {
        (Verdict::Fail, None) => Some(format!("{id} rose: measured {:?}", line.measured)),
        (Verdict::Fail, Some((_, reason))) => {
            println!("known to be up: {id}: {reason}");
            None
        }
        (Verdict::Pass, Some(_)) => Some(format!("{id} is down: take it out of KNOWN_RISEN")),
        (Verdict::Invalid, _) if !line.reason.starts_with(DISTURBED) => Some(format!("{id}: {}", line.reason)),
        _ => None,
    }
}

/// Holds the control to both flags that the predecessor raised. A row that the machine's other load spoilt is printed
/// and passes; scaling needs a second processor.
fn control_rose(control: &Section) {
    let tax = table::find("a1_a0_100k_red_flag").expect("it is in the table").name;
    let scaling = (available_processors() > 1).then_some(CONTROL_SCALING);
    for name in std::iter::once(tax).chain(scaling) {
        let row = control
            .rows
            .iter()
            .find(|row| row[0].starts_with(name))
            .unwrap_or_else(|| panic!("the control has no row about {name}"));
        if row[3].contains(DISTURBED) {
            println!("the control proves nothing about {name}: {}", row[3]);
            continue;
        }
        assert_eq!(
            row[3], RISEN,
            "the control keeps a flag of the predecessor down: {row:?}"
        );
    }
}

// Goal: no release with a red flag up. Method: the quick campaign, the flags' lines alone, and the control beside them,
// which must raise the predecessor's two flags, or a flag that is down would mean nothing.
#[test]
fn no_red_flag_is_up_but_the_known_ones() {
    let report = measure();
    println!("{}", checklist::render(&report.outcomes, Some(160)));
    assert!(report.outcomes.iter().all(|line| line.entry.kind == Kind::RedFlag));
    let complaints: Vec<String> = report.outcomes.iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    for (known, _) in KNOWN_RISEN {
        assert!(
            report.outcomes.iter().any(|line| line.entry.id == *known),
            "{known} is no red flag of the table"
        );
    }
    if let Some(control) = report.sections.iter().find(|section| section.title == CONTROL_TITLE) {
        println!("{}", checklist::section(control, Some(160)));
        control_rose(control);
    } else if !cfg!(debug_assertions) {
        panic!("the control was not run");
    }
}
