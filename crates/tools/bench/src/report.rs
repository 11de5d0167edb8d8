//! Tables, as Markdown.

use std::io::Write as _;

use crate::measure::Shown;
use crate::rows::Row;
use crate::stats::{Side, median, ratio, spread_percent};

/// One row, measured on both, a value for each turn.
pub(crate) struct Line {
    row: Row,
    ours: Vec<Shown>,
    theirs: Vec<Shown>,
}

impl Line {
    pub(crate) fn new(row: Row) -> Line {
        Line { row, ours: Vec::new(), theirs: Vec::new() }
    }

    /// The turns of one side.
    pub(crate) fn of(&mut self, side: Side) -> &mut Vec<Shown> {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }

    fn medians(&self, of: fn(&Shown) -> f64) -> [f64; 2] {
        [&self.ours, &self.theirs].map(|turns| median(turns.iter().map(of)))
    }

    fn spreads(&self, of: fn(&Shown) -> f64) -> [f64; 2] {
        [&self.ours, &self.theirs].map(|turns| spread_percent(turns.iter().map(of)))
    }
}

/// One line on standard output.
pub(crate) fn say(line: &str) {
    // A closed standard output stops nothing.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What one run showed, on one line.
pub(crate) fn say_shown(name: &str, row: &Row, shown: &Shown) {
    let errors = match shown.errors {
        0 => String::new(),
        n => format!(" {n} ERRORS: {}", shown.last_error),
    };
    say(&format!(
        "{name:6} {:30} {:>8.0}/s p50 {:>7.3} p99 {:>7.3} p99.9 {:>7.3} max {:>7.3} ms, CPU {:>7.1} us \
         (client {:.1} us, {} conns, others {:.0}%), RSS {:.0} MB (anon {:.0}), {:.1} MB written{errors}",
        row.to_string(),
        shown.per_second,
        shown.p50_ms,
        shown.p99_ms,
        shown.p999_ms,
        shown.max_ms,
        shown.cpu_us,
        shown.client_cpu_us,
        row.connections(),
        shown.others_percent,
        shown.rss_mb,
        shown.anon_mb,
        shown.written_mb,
    ));
}

/// The table of ratios: below 1 means ours needs less.
pub(crate) fn table(lines: &[Line]) -> Vec<String> {
    let mut table = vec![
        "| row | CPU us/op ours / theirs | ratio | spread % | p50 ms | p99 ms | ratio | \
         spread % | p99.9 ms | ratio | ops/s | RSS MB | anon MB | written B/op | client CPU us/op | \
         others' CPU % | errors |"
            .to_owned(),
        format!("|{}", " --- |".repeat(17)),
    ];
    table.extend(lines.iter().map(table_line));
    table
}

fn table_line(line: &Line) -> String {
    let cpu = line.medians(|s| s.cpu_us);
    let p99 = line.medians(|s| s.p99_ms);
    let p999 = line.medians(|s| s.p999_ms);
    let written = line.medians(|s| s.written_mb * 1e6);
    let per_second = line.medians(|s| s.per_second);
    // Every row of a comparison lasts equally long; only the quotient is shown.
    let seconds = line.ours.first().map_or(1.0, |s| s.seconds);
    let per_op = |side: usize| written[side] / (per_second[side] * seconds).max(1.0);
    let [cpu_target, p99_target] = line.row.targets().map_or([None; 2], |t| t.map(Some));
    let errors: [u64; 2] =
        [&line.ours, &line.theirs].map(|turns| turns.iter().map(|s| s.errors).sum());
    [
        String::new(),
        line.row.to_string(),
        both(cpu, 1),
        verdict(cpu_target, cpu),
        both(line.spreads(|s| s.cpu_us), 0),
        both(line.medians(|s| s.p50_ms), 2),
        both(p99, 2),
        verdict(p99_target, p99),
        both(line.spreads(|s| s.p99_ms), 0),
        both(p999, 2),
        shown_ratio(p999),
        both(per_second, 0),
        both(line.medians(|s| s.rss_mb), 0),
        both(line.medians(|s| s.anon_mb), 0),
        both([per_op(0), per_op(1)], 0),
        both(line.medians(|s| s.client_cpu_us), 1),
        both(line.medians(|s| s.others_percent), 0),
        format!("{} / {}", errors[0], errors[1]),
        String::new(),
    ]
    .join(" | ")
    .trim()
    .to_owned()
}

fn both([a, b]: [f64; 2], digits: usize) -> String {
    format!("{a:.digits$} / {b:.digits$}")
}

/// `a / b` with two digits.
pub(crate) fn shown_ratio([a, b]: [f64; 2]) -> String {
    ratio(a, b).map_or("-".into(), |r| format!("{r:.2}"))
}

/// The ratio, and whether it keeps within its target.
pub(crate) fn verdict(target: Option<f64>, values: [f64; 2]) -> String {
    let shown = shown_ratio(values);
    match (target, ratio(values[0], values[1])) {
        (Some(target), Some(r)) if r <= target => format!("{shown} (target {target}: met)"),
        (Some(target), Some(_)) => format!("{shown} (target {target}: MISSED)"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cpu_us: f64, p99_ms: f64) -> Shown {
        Shown {
            cpu_us,
            p99_ms,
            per_second: 100.0,
            seconds: 2.0,
            written_mb: 0.02,
            ..Default::default()
        }
    }

    #[test]
    fn prints_medians_ratios_and_verdicts() {
        let mut line = Line::new(Row::parse("put@64").expect("a row"));
        *line.of(Side::Ours) = vec![shown(10.0, 3.0), shown(30.0, 1.0)];
        *line.of(Side::Theirs) = vec![shown(40.0, 1.0), shown(60.0, 1.0), shown(1000.0, 1.0)];
        let rows = table(&[line]);
        let columns = |row: &str| row.matches(" | ").count();
        assert_eq!(columns(&rows[0]), columns(&rows[2]));
        assert_eq!(rows[1].matches("---").count(), columns(&rows[0]) + 1);
        let start = "| put c64 | 20.0 / 60.0 | 0.33 (target 0.5: met) | 100 / 1600 | 0.00 / 0.00 | \
                     2.00 / 1.00 | 2.00 (target 1: MISSED) | 100 / 0 |";
        assert!(rows[2].starts_with(start), "{}", rows[2]);
        assert!(rows[2].contains("| 100 / 100 |"), "bytes for an operation: {}", rows[2]);
    }

    #[test]
    fn a_verdict_needs_a_target() {
        assert_eq!(verdict(Some(0.5), [1.0, 2.0]), "0.50 (target 0.5: met)");
        assert_eq!(verdict(Some(0.5), [1.01, 2.0]), "0.51 (target 0.5: MISSED)");
        assert_eq!(verdict(Some(0.5), [1.1, 0.0]), "-");
        assert_eq!(verdict(None, [1.0, 4.0]), "0.25");
    }
}
