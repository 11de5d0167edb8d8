//! What happened in a run, so that one whose faults never happened is seen.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    counts: BTreeMap<&'static str, u64>,
    /// Events carried out.
    pub events: u64,
    /// Simulated microseconds.
    pub time: u64,
}

impl Stats {
    /// One more of these.
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// So many more of these.
    pub fn add(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    /// How many of these.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// The sum of all whose name begins so.
    pub fn sum(&self, prefix: &str) -> u64 {
        let all = self.counts.iter().filter(|(name, _)| name.starts_with(prefix));
        all.map(|(_, n)| n).sum()
    }

    /// Takes over another run's.
    pub fn merge(&mut self, other: &Stats) {
        for (name, n) in &other.counts {
            self.add(name, *n);
        }
        self.events += other.events;
        self.time += other.time;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "simulated minutes: {}", self.time / 60_000_000)?;
        writeln!(f, "events: {}", self.events)?;
        for (name, n) in &self.counts {
            writeln!(f, "{name}: {n}")?;
        }
        Ok(())
    }
}
