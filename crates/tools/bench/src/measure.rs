//! Runs a load and reads the clock, and the server's counters beside it.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::loads::{Client, Kind, Space};
use crate::process;
use crate::wire::{Connection, Endpoint, WireError};

/// How a load is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) space: Space,
    /// Requests in flight.
    pub(crate) clients: usize,
    /// Connections that the clients share.
    pub(crate) connections: usize,
    /// Requests a second for an open loop; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) cpu_us: f64,
    pub(crate) rss_mb: f64,
    pub(crate) written_mb: f64,
    pub(crate) errors: u64,
    pub(crate) last_error: String,
}

/// Runs `plan` against a server whose process is `pid`.
pub(crate) async fn run(endpoint: &Endpoint, pid: u32, plan: &Plan) -> Result<Shown, WireError> {
    let mut connections = Vec::new();
    for _ in 0..plan.connections.max(1) {
        connections.push(Connection::open(endpoint).await?);
    }
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.time;
    let mut tasks = Vec::new();
    for number in 0..plan.clients {
        let connection = connections[number % connections.len()].clone();
        let (number, of) = (number as u64, plan.clients as u64);
        let client = Client::new(connection, plan.kind, plan.space, number, of);
        let pace = plan.rate.map(|rate| Pace {
            first: Duration::from_secs_f64(number as f64 / rate),
            step: Duration::from_secs_f64(of as f64 / rate),
        });
        tasks.push(tokio::spawn(one_client(client, begin, end, pace)));
    }
    tokio::time::sleep_until(begin).await;
    let before = process::read(pid);
    tokio::time::sleep_until(end).await;
    let after = process::read(pid);
    let mut all = Tally::new();
    for task in tasks {
        all.add(&task.await.map_err(|e| WireError::Malformed(e.to_string()))?);
    }
    let requests = all.latency.len().max(1) as f64;
    let ms = |quantile| all.latency.value_at_quantile(quantile) as f64 / 1e6;
    Ok(Shown {
        per_second: all.latency.len() as f64 / plan.time.as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        cpu_us: after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e3 / requests,
        rss_mb: after.rss as f64 / 1e6,
        written_mb: after.written.saturating_sub(before.written) as f64 / 1e6,
        errors: all.errors,
        last_error: all.last_error,
    })
}

/// When an open loop's client sends.
struct Pace {
    first: Duration,
    step: Duration,
}

struct Tally {
    /// Nanoseconds.
    latency: Histogram<u64>,
    errors: u64,
    last_error: String,
}

impl Tally {
    fn new() -> Tally {
        Tally {
            latency: Histogram::new(3).expect("three digits are legal"),
            errors: 0,
            last_error: String::new(),
        }
    }

    fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency).expect("equal digits");
        self.errors += other.errors;
        if !other.last_error.is_empty() {
            self.last_error.clone_from(&other.last_error);
        }
    }
}

async fn one_client(mut client: Client, begin: Instant, end: Instant, pace: Option<Pace>) -> Tally {
    let mut tally = Tally::new();
    let opened = Instant::now();
    let mut due = opened + pace.as_ref().map_or(Duration::ZERO, |p| p.first);
    loop {
        // In an open loop latency counts from when the request should have left.
        let started = match &pace {
            Some(pace) => {
                tokio::time::sleep_until(due).await;
                let intended = due;
                due += pace.step;
                intended
            }
            None => Instant::now(),
        };
        if started >= end {
            return tally;
        }
        let result = client.one().await;
        let finished = Instant::now();
        if started < begin || finished > end {
            continue;
        }
        match result {
            Ok(()) => tally
                .latency
                .record((finished - started).as_nanos() as u64)
                .expect("an auto-resizing histogram"),
            Err(error) => {
                tally.errors += 1;
                tally.last_error = error.to_string();
            }
        }
    }
}
