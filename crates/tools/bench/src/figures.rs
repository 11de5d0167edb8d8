//! Figures of one thing after another, from turns of both sides, and their table.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::probe::{Probes, longest, quantile};
use crate::report::{say, shown_ratio};
use crate::stats::{Side, median};
use crate::wire::{Endpoint, WireError};

/// A figure's place in the table and its name.
type Name = (u8, String);
/// A span of time.
pub(crate) type Span = (Instant, Instant);
/// When each probe was meant to start and when it was answered: reads, then puts.
pub(crate) type Seen = [Vec<Span>; 2];

/// What one turn showed.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<Name, f64>);

impl Figures {
    /// Adds one.
    pub(crate) fn add(&mut self, place: u8, name: impl Into<String>, value: f64) {
        self.0.insert((place, name.into()), value);
    }

    /// Adds how long puts and reads waited in `span`.
    pub(crate) fn waits(&mut self, place: u8, when: &str, seen: &Seen, span: Span) {
        let ms = |wait: std::time::Duration| wait.as_secs_f64() * 1e3;
        let [reads, puts] = seen;
        self.add(place, format!("{when}: p99 of puts, ms"), ms(quantile(puts, span, 0.99)));
        self.add(place + 1, format!("{when}: p99.9 of puts, ms"), ms(quantile(puts, span, 0.999)));
        self.add(place + 2, format!("{when}: longest put, ms"), ms(longest(puts, span)));
        self.add(place + 3, format!("{when}: longest read, ms"), ms(longest(reads, span)));
    }
}

/// The figures of all turns.
#[derive(Debug, Default)]
pub(crate) struct Turns(BTreeMap<Name, [Vec<f64>; 2]>);

impl Turns {
    /// Prints what a turn showed, and adds it.
    pub(crate) fn take(&mut self, side: Side, figures: Figures) {
        for (name, value) in figures.0 {
            say(&format!("{:6} {:52} {value:>12.3}", side.name(), name.1));
            self.0.entry(name).or_default()[side as usize].push(value);
        }
    }

    /// Prints the medians of both, and their ratios.
    pub(crate) fn say(&self) {
        say("| figure | ours | theirs | ratio |\n| --- | --- | --- | --- |");
        for ((_, name), sides) in &self.0 {
            let [a, b] = sides.each_ref().map(|turns| median(turns.iter().copied()));
            say(&format!("| {name} | {a:.2} | {b:.2} | {} |", shown_ratio([a, b])));
        }
    }
}

/// The work's result, and when it began and ended.
pub(crate) async fn during<T>(work: impl Future<Output = T>) -> (T, Span) {
    let from = Instant::now();
    let done = work.await;
    (done, (from, Instant::now()))
}

/// How long it is.
pub(crate) fn seconds(span: Span) -> f64 {
    (span.1 - span.0).as_secs_f64()
}

/// Probes of reads and puts, open loop, 1,000 a second each.
pub(crate) struct Both {
    reads: Probes,
    puts: Probes,
}

impl Both {
    pub(crate) async fn start(endpoint: &Endpoint) -> Result<Both, WireError> {
        let reads = Probes::start(endpoint, false).await?;
        Ok(Both { reads, puts: Probes::start(endpoint, true).await? })
    }

    /// Ends them, once those that began before are answered.
    pub(crate) async fn stop(self) -> Result<Seen, WireError> {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        Ok([self.reads.stop()?, self.puts.stop()?])
    }
}
