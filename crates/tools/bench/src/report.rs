//! Tables, as Markdown.

use std::io::Write as _;

use crate::measure::Shown;

/// One load, measured on both.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) ours: Shown,
    pub(crate) theirs: Shown,
}

/// One line on standard output.
pub(crate) fn say(line: &str) {
    // A closed standard output stops nothing.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The table of ratios: below 1 means ours needs less.
pub(crate) fn print_ratios(lines: &[Line]) {
    say(
        "| load | CPU us/request ours / theirs | ratio | p50 ms | ratio | p99 ms | ratio | req/s | errors |",
    );
    say("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for line in lines {
        let (a, b) = (&line.ours, &line.theirs);
        say(&format!(
            "| {} | {:.1} / {:.1} | {} | {:.2} / {:.2} | {} | {:.2} / {:.2} | {} | {:.0} / {:.0} | {} / {} |",
            line.name.get(3..).unwrap_or(&line.name),
            a.cpu_us,
            b.cpu_us,
            ratio(a.cpu_us, b.cpu_us),
            a.p50_ms,
            b.p50_ms,
            ratio(a.p50_ms, b.p50_ms),
            a.p99_ms,
            b.p99_ms,
            ratio(a.p99_ms, b.p99_ms),
            a.per_second,
            b.per_second,
            a.errors,
            b.errors,
        ));
    }
}

/// `a / b` with two digits.
pub(crate) fn ratio(a: f64, b: f64) -> String {
    if b > 0.0 { format!("{:.2}", a / b) } else { "-".into() }
}
