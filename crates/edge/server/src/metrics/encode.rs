//! The text format 0.0.4, as Go's client library writes it.

use std::fmt::Write as _;

use mainstay_driver::stats::Histogram;

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// Label names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// One metric with all its children.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Type,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(super) enum Sample {
    Value(Labels, f64),
    Buckets { labels: Labels, bounds: Vec<f64>, counts: Vec<u64>, sum: f64 },
}

impl Sample {
    pub(super) fn of(labels: Labels, histogram: &Histogram) -> Sample {
        let (bounds, counts) = (histogram.bounds().to_vec(), histogram.counts());
        Sample::Buckets { labels, bounds, counts, sum: histogram.sum() }
    }
}

/// Writes the families, by name. One without children is left out, as in Go.
pub(super) fn text(mut families: Vec<Family>) -> String {
    families.sort_by_key(|family| family.name);
    let mut out = String::with_capacity(128 * 1024);
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let name = family.name;
        out.push_str(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n", family.help));
        for sample in &family.samples {
            write_sample(&mut out, name, sample);
        }
    }
    out
}

fn write_sample(out: &mut String, name: &str, sample: &Sample) {
    match sample {
        Sample::Value(labels, value) => line(out, name, "", labels, None, *value),
        Sample::Buckets { labels, bounds, counts, sum } => {
            let mut total = 0;
            let infinity = std::iter::once("+Inf".to_owned());
            let bounds = bounds.iter().map(|bound| number(*bound)).chain(infinity);
            for (bound, count) in bounds.zip(counts) {
                total += count;
                line(out, name, "_bucket", labels, Some(&bound), total as f64);
            }
            line(out, name, "_sum", labels, None, *sum);
            line(out, name, "_count", labels, None, total as f64);
        }
    }
}

fn line(out: &mut String, name: &str, suffix: &str, labels: &Labels, le: Option<&str>, value: f64) {
    out.push_str(name);
    out.push_str(suffix);
    let labels = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let mut before = '{';
    for (label, value) in labels.chain(le.map(|bound| ("le", bound))) {
        out.push(before);
        before = ',';
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
    }
    if before == ',' {
        out.push('}');
    }
    out.push(' ');
    out.push_str(&number(value));
    out.push('\n');
}

fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// Go's shortest `%g`: an exponent below 1e-4 and from 1e6 on... except that whole
/// numbers keep up to 21 digits nowhere: 1048576 is 1.048576e+06.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&power) && value.abs() < 1e6 || value == 0.0 {
        return format!("{value}");
    }
    let sign = if power < 0 { '-' } else { '+' };
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(out, "{digits}e{sign}{:02}", power.abs());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_prints_them() {
        let shown = [
            (0.0, "0"),
            (1.0, "1"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00005, "5e-05"),
            (8.192, "8.192"),
            (999_999.0, "999999"),
            (1_048_576.0, "1.048576e+06"),
            (2_147_483_648.0, "2.147483648e+09"),
            (f64::INFINITY, "+Inf"),
            (-1.0, "-1"),
        ];
        for (value, text) in shown {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_family_of_each_kind() {
        let histogram = Histogram::with_bounds(vec![0.5, 1.0]);
        histogram.observe_value(0.25);
        histogram.observe_value(3.0);
        let labels = vec![("a", "x\"\\\n".to_owned())];
        let families = vec![
            Family {
                name: "z_total",
                help: "Last.",
                kind: Type::Counter,
                samples: vec![Sample::Value(labels, 2.0)],
            },
            Family {
                name: "h",
                help: "First.",
                kind: Type::Histogram,
                samples: vec![Sample::of(Vec::new(), &histogram)],
            },
            Family { name: "none", help: "Empty.", kind: Type::Gauge, samples: Vec::new() },
        ];
        let expected = "# HELP h First.\n# TYPE h histogram\n\
            h_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n\
            h_sum 3.25\nh_count 2\n\
            # HELP z_total Last.\n# TYPE z_total counter\nz_total{a=\"x\\\"\\\\\\n\"} 2\n";
        assert_eq!(text(families), expected);
    }
}
