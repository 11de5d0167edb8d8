//! The arithmetic of comparing: medians, spreads, ratios, and the order of turns.

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one under test.
    Ours,
    /// The one it is compared with.
    Theirs,
}

impl Side {
    /// Its name in lines and folders.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::Theirs => "theirs",
        }
    }
}

/// The order of `rounds` rounds: A B, then B A, and so on, so that a drift of the
/// machine falls on both.
pub(crate) fn turns(rounds: usize) -> Vec<Side> {
    (0..rounds)
        .flat_map(|round| match round % 2 {
            0 => [Side::Ours, Side::Theirs],
            _ => [Side::Theirs, Side::Ours],
        })
        .collect()
}

/// The middle value, or the mean of the two middle ones; 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Highest less lowest, in per cent of the median; 0 of none.
pub(crate) fn spread_percent(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let middle = median(values.clone());
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if middle > 0.0 { (high - low) / middle * 100.0 } else { 0.0 }
}

/// `a / b`, or `None` when there is nothing to compare with.
pub(crate) fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_there_and_back() {
        let names = |rounds| -> String {
            turns(rounds).iter().map(|s| if *s == Side::Ours { 'A' } else { 'B' }).collect()
        };
        assert_eq!(names(0), "");
        assert_eq!(names(1), "AB");
        assert_eq!(names(2), "ABBA");
        assert_eq!(names(3), "ABBAAB");
        assert_eq!(names(4), "ABBAABBA");
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median([].into_iter()), 0.0);
        assert_eq!(median([7.0].into_iter()), 7.0);
        assert_eq!(median([9.0, 1.0].into_iter()), 5.0);
        assert_eq!(median([9.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([100.0, 1.0, 2.0, 4.0].into_iter()), 3.0);
    }

    #[test]
    fn the_spread_is_relative_to_the_median() {
        assert_eq!(spread_percent([].into_iter()), 0.0);
        assert_eq!(spread_percent([5.0].into_iter()), 0.0);
        assert_eq!(spread_percent([9.0, 11.0].into_iter()), 20.0);
    }

    #[test]
    fn a_ratio_needs_something_to_compare_with() {
        assert_eq!(ratio(1.0, 4.0), Some(0.25));
        assert_eq!(ratio(1.0, 0.0), None);
    }
}
