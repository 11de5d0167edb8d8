//! `etcd_server_request_duration_seconds` and `etcd_server_range_duration_seconds`.

use std::time::Instant;

use mainstay_driver::stats::Histogram;

/// Kinds of requests, by the value of the label `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    Alarm,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Range,
        Kind::ReadonlyTxn,
        Kind::Put,
        Kind::DeleteRange,
        Kind::Txn,
        Kind::Compaction,
        Kind::LeaseGrant,
        Kind::LeaseRevoke,
        Kind::Alarm,
    ];

    fn label(self) -> &'static str {
        match self {
            Kind::Range => "Range",
            Kind::ReadonlyTxn => "ReadonlyTxn",
            Kind::Put => "Put",
            Kind::DeleteRange => "DeleteRange",
            Kind::Txn => "Txn",
            Kind::Compaction => "Compaction",
            Kind::LeaseGrant => "LeaseGrant",
            Kind::LeaseRevoke => "LeaseRevoke",
            Kind::Alarm => "Alarm",
        }
    }
}

/// Durations per outcome.
#[derive(Debug)]
struct Outcomes {
    success: Histogram,
    failure: Histogram,
}

/// Durations per kind.
#[derive(Debug)]
pub(crate) struct Requests {
    kinds: [Outcomes; Kind::ALL.len()],
    ranges: Outcomes,
}

impl Default for Requests {
    fn default() -> Requests {
        let request = || Histogram::exponential(0.001, 2.0, 14);
        let range = || Histogram::exponential(0.0001, 2.0, 20);
        Requests {
            kinds: std::array::from_fn(|_| Outcomes { success: request(), failure: request() }),
            ranges: Outcomes { success: range(), failure: range() },
        }
    }
}

impl Requests {
    /// Records a request that began at `start`.
    pub(crate) fn record(&self, kind: Kind, start: Instant, success: bool) {
        self.kinds[kind as usize].pick(success).observe(start.elapsed());
    }

    /// Records a read of the key space.
    pub(crate) fn record_range(&self, start: Instant, success: bool) {
        self.ranges.pick(success).observe(start.elapsed());
    }

    /// The histograms that have values: kind, success, histogram.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&'static str, bool, &Histogram)> {
        Kind::ALL.iter().zip(&self.kinds).flat_map(|(kind, outcomes)| {
            outcomes.used().map(|(success, histogram)| (kind.label(), success, histogram))
        })
    }

    /// The histograms of reads that have values.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (bool, &Histogram)> {
        self.ranges.used()
    }
}

impl Outcomes {
    fn pick(&self, success: bool) -> &Histogram {
        if success { &self.success } else { &self.failure }
    }

    fn used(&self) -> impl Iterator<Item = (bool, &Histogram)> {
        let both = [(true, &self.success), (false, &self.failure)];
        both.into_iter().filter(|(_, histogram)| histogram.counts().iter().any(|n| *n > 0))
    }
}
