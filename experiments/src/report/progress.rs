//! Progress: bars where a person watches, plain lines where a file listens, nothing where nobody asked.
//!
//! Bars are drawn between slices, never during one: indicatif's ticker thread stays off, since it would run beside
//! what is being measured.

#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// Whether and how progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not at all.
    Silent,
    /// One line per stage.
    Lines,
    /// A bar per stage.
    Bars,
}

impl Progress {
    /// Bars if standard error is a terminal, else lines.
    #[must_use]
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Bars
        } else {
            Self::Lines
        }
    }

    /// Begins a stage of so many steps.
    #[must_use]
    pub fn stage(&self, title: &str, steps: usize) -> Stage {
        let bar = (*self == Self::Bars).then(|| {
            let bar = ProgressBar::new(steps as u64);
            // A template that does not parse would leave the default look, which does as well.
            if let Ok(style) = ProgressStyle::with_template("{prefix:22} {bar:32} {pos:>4}/{len} {eta:>4} {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(title.to_owned());
            bar
        });
        if *self == Self::Lines {
            eprintln!("{title}: {steps} slices");
        }
        Stage {
            title: title.to_owned(),
            bar,
            lines: *self == Self::Lines,
            begun: Instant::now(),
        }
    }

    /// Tells something between stages.
    pub fn say(&self, text: &str) {
        if *self != Self::Silent {
            eprintln!("{text}");
        }
    }
}

/// One stage under way.
#[derive(Debug)]
pub struct Stage {
    title: String,
    bar: Option<ProgressBar>,
    lines: bool,
    begun: Instant,
}

impl Stage {
    /// Says what comes next.
    pub fn step(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            bar.inc(1);
        }
    }

    /// Ends the stage.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_with_message(format!("{:.1} s", self.begun.elapsed().as_secs_f64()));
        }
        if self.lines {
            eprintln!("{}: done in {:.1} s", self.title, self.begun.elapsed().as_secs_f64());
        }
    }
}
