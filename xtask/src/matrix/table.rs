//! Table of results: a row for each live case, and a last one for all of them.

use comfy_table::{CellAlignment, Table, presets};
use gaia_monitor_tests::check::{Measured, millis};
use gaia_monitor_tests::diff::Aspect;
use gaia_monitor_tests::live_case::LiveCase as Row;

use super::results::{Results, Run};

pub const HEADER: [&str; 9] = [
    "live case",
    "runs",
    "class right",
    "cause right",
    "all covered",
    "moment off (ms)",
    "published after exception (ms)",
    "settled after (ms)",
    "false",
];

/// The table of the live cases that have at least one run.
#[must_use]
pub fn of(rows: &[Row], results: &Results) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(HEADER);
    let mut all = Vec::new();
    for row in rows {
        let runs: Vec<&Run> = results.of(row.id).collect();
        if !runs.is_empty() {
            table.add_row(cells(row.id, &runs));
            all.extend(runs);
        }
    }
    table.add_row(cells("all live cases", &all));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(name: &str, runs: &[&Run]) -> Vec<String> {
    let right = |aspect: Aspect| share(runs.iter().filter(|run| run.is_right_in(aspect)).count(), runs.len());
    let measured: Vec<&Measured> = runs.iter().flat_map(|run| &run.verdict.measured).collect();
    let figures = |figure: fn(&Measured) -> Option<i64>| measured.iter().filter_map(|&one| figure(one)).collect();
    vec![
        name.to_owned(),
        runs.len().to_string(),
        right(Aspect::Class),
        right(Aspect::Cause),
        right(Aspect::Coverage),
        spread(figures(|one| one.moment_error_ns.map(i64::abs))),
        spread(figures(|one| one.told_after_exception_ns)),
        spread(figures(|one| one.settled_after_ns)),
        runs.iter().map(|run| run.verdict.false_incidents).sum::<usize>().to_string(),
    ]
}

/// `100 %`, or `N of M`.
fn share(right: usize, of: usize) -> String {
    if right == of { "100 %".to_owned() } else { format!("{right} of {of}") }
}

/// Median and largest, in milliseconds.
fn spread(mut nanos: Vec<i64>) -> String {
    nanos.sort_unstable();
    let half = nanos.len() / 2;
    let (Some(&middle), Some(&largest)) = (nanos.get(half), nanos.last()) else { return "-".to_owned() };
    let median = match half.checked_sub(1).and_then(|below| nanos.get(below)) {
        Some(&below) if nanos.len().is_multiple_of(2) => i64::midpoint(below, middle),
        _ => middle,
    };
    format!("{}, {}", short(median), short(largest))
}

/// Hundredths below ten milliseconds, whole ones above a hundred.
fn short(nanos: i64) -> String {
    let value = millis(nanos);
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_median_and_largest() {
        assert_eq!(spread(vec![]), "-");
        assert_eq!(spread(vec![3_000_000, -1_000_000, 2_000_000]), "2.00, 3.00");
        assert_eq!(spread(vec![1_000_000, 2_000_000]), "1.50, 2.00");
        assert_eq!(spread(vec![1_004_000_000]), "1004, 1004");
    }

    #[test]
    fn shows_a_hundred_percent_only_for_all() {
        assert_eq!(share(5, 5), "100 %");
        assert_eq!(share(199, 200), "199 of 200");
    }
}
