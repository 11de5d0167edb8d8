//! Lines that repeat too often are left out, as in etcd (zap's sampling): a crowd of clients that
//! are refused must not fill a disk.
//!
//! zap counts lines with the same level and text; here they are those of one place in the code,
//! which is known before anything is formatted.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tracing::Metadata;

/// So many lines of one place are written in a second,
const FIRST: u64 = 100;
/// and after that every so many-th.
const THEREAFTER: u64 = 100;
const SECOND_MICROS: i64 = 1_000_000;
/// Places share a counter when they fall into the same of these; there are about as many lines in
/// the code.
const COUNTERS: usize = 1024;

/// Counts lines.
pub(crate) struct Sampler(Box<[Counter]>);

#[derive(Default)]
struct Counter {
    /// When its second ends, in microseconds since 1970.
    until: AtomicI64,
    lines: AtomicU64,
}

impl Sampler {
    pub(crate) fn new() -> Sampler {
        Sampler((0..COUNTERS).map(|_| Counter::default()).collect())
    }

    /// Whether the next line of this place is written.
    pub(crate) fn admits(&self, place: &Metadata<'_>, now_micros: i64) -> bool {
        let mut hasher = DefaultHasher::new();
        (place.file(), place.line(), place.level()).hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % COUNTERS as u64).unwrap_or_default();
        self.0[at].next(now_micros)
    }
}

impl Counter {
    /// Threads may count one line more or less when a second ends; so does zap.
    fn next(&self, now_micros: i64) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        // A clock that was set back begins anew as well.
        let over = now_micros >= until || until.saturating_sub(now_micros) > SECOND_MICROS;
        let count = if over {
            self.until.store(now_micros.saturating_add(SECOND_MICROS), Ordering::Relaxed);
            self.lines.store(1, Ordering::Relaxed);
            1
        } else {
            self.lines.fetch_add(1, Ordering::Relaxed) + 1
        };
        count <= FIRST || (count - FIRST).is_multiple_of(THEREAFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_lines_a_second_and_every_hundredth_of_more() {
        let counter = Counter::default();
        let written = |from: i64, lines: usize| (0..lines).filter(|_| counter.next(from)).count();
        assert_eq!(written(10, 100), 100);
        assert_eq!(written(11, 99), 0);
        assert_eq!(written(12, 1), 1, "the two hundredth");
        assert_eq!(written(999_999, 1000), 10);
        assert_eq!(written(1_000_010, 150), 100, "a new second");
        assert_eq!(written(5, 150), 100, "a clock that was set back");
    }
}
