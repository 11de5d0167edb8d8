//! The clocks of a machine: one that only goes on, at a rate of its own and not while the
//! machine is suspended, and the time of day, which jumps.

use std::time::Duration;

use crate::plan::{SECOND, Time};

/// Millionths: the rate of a clock that is right.
const RIGHT: u64 = 1_000_000;
/// How far a rate may be off.
pub(crate) const RATE_OFF: u64 = 50_000;
/// Where every clock begins: a machine has been up for an hour.
const UP: Time = 3600 * SECOND;
/// The time of day then, as microseconds since 1970.
const DAY: i64 = 1_800_000_000 * 1_000_000;

/// Both clocks. What is seen of them is a function of simulated time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Since when it goes at this rate, and what it showed then.
    since: Time,
    shown: Time,
    rate: u64,
    /// What the time of day is ahead of the other one.
    day: i64,
}

impl Clocks {
    /// `rate` is between `0` and twice [`RATE_OFF`].
    pub(crate) fn new(now: Time, rate: u64) -> Clocks {
        let clocks = Clocks { since: now, shown: UP + now, rate: RIGHT, day: DAY };
        clocks.with_rate(now, rate)
    }

    /// From now on it goes at another rate.
    pub(crate) fn with_rate(self, now: Time, rate: u64) -> Clocks {
        assert!(rate <= 2 * RATE_OFF, "clocks are nearly right");
        Clocks { since: now, shown: self.at(now), rate: RIGHT - RATE_OFF + rate, ..self }
    }

    /// It stood still for that long, and goes on now.
    pub(crate) fn stood_still(self, now: Time, time: Time) -> Clocks {
        Clocks { since: now, shown: self.at(now - time), ..self }
    }

    /// The time of day jumps.
    pub(crate) fn jumped(self, by: i64) -> Clocks {
        Clocks { day: self.day + by, ..self }
    }

    fn at(&self, now: Time) -> Time {
        self.shown + (now - self.since) * self.rate / RIGHT
    }

    /// The time that only goes on.
    pub(crate) fn monotonic(&self, now: Time) -> Duration {
        Duration::from_micros(self.at(now))
    }

    /// The time of day.
    pub(crate) fn day(&self, now: Time) -> Duration {
        Duration::from_micros(self.at(now).saturating_add_signed(self.day))
    }

    /// How long it takes until this clock has gone on by `time`.
    pub(crate) fn takes(&self, time: Time) -> Time {
        time * RIGHT / self.rate
    }
}
