//! `.hgrm` files: the percentile listing that HdrHistogram's own plotters read.
//!
//! A header, one line per percentile step (value, percentile, count up to it, `1 / (1 - percentile)`), then
//! three comment lines with mean and deviation, maximum and total, and the histogram's shape. The steps halve
//! their distance to 100 % as they approach it, five to each halving.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Steps per halving of the distance to 100 %.
const STEPS_PER_HALVING: u32 = 5;

/// Returns the listing of a histogram; values keep the unit they were recorded in.
#[must_use]
pub fn render(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in histogram.iter_quantiles(STEPS_PER_HALVING) {
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to();
        let count = histogram.count_between(0, value);
        let inverse = if quantile < 1.0 {
            format!("{:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            String::new()
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>12.3} {quantile:>14.12} {count:>10} {inverse}", value as f64);
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        histogram.mean(),
        histogram.stdev()
    );
    let _ = writeln!(
        text,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        histogram.max() as f64,
        histogram.len()
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.buckets(),
        10_u64.pow(u32::from(histogram.sigfig())).next_power_of_two() * 2
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_rises_to_the_maximum_and_counts_everything() {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are allowed");
        for value in 1..=1_000 {
            histogram.record(value).expect("in range");
        }
        let text = render(&histogram);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|cell| cell.parse().expect("a number"))
                    .collect()
            })
            .collect();
        assert!(
            rows.windows(2)
                .all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2])
        );
        let last = rows.last().expect("there are rows");
        assert_eq!((last[0], last[1], last[2]), (1_000.0, 1.0, 1_000.0));
        let median = rows.iter().find(|row| row[1] >= 0.5).expect("half is reached");
        assert!((499.0..=501.0).contains(&median[0]));
        assert_eq!(text.lines().filter(|line| line.starts_with("#[")).count(), 3);
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
    }

    #[test]
    fn empty_histogram_is_an_empty_listing() {
        let histogram = Histogram::<u64>::new(3).expect("three digits are allowed");
        assert!(render(&histogram).contains("Total count    =            0"));
    }
}
