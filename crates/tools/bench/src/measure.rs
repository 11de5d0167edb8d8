//! Runs a row and reads the clock, and the server's counters beside it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::fan;
use crate::loads::{Client, Kind, Space};
use crate::pace::Pace;
use crate::process::{self, MB, Reading};
use crate::rows::{Loop, Row, WRITES_BESIDE};
use crate::wire::{Connection, Endpoint, WireError};

/// How long after the end an answer is still waited for.
const GRACE: Duration = Duration::from_secs(10);

/// How a row is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) row: Row,
    pub(crate) space: Space,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// What a run showed. An operation is a request, or for a watch a delivered event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) per_second: f64,
    /// The measured time.
    pub(crate) seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// The server's CPU time for an operation, in microseconds.
    pub(crate) cpu_us: f64,
    /// The client's own.
    pub(crate) client_cpu_us: f64,
    /// What else ran on the machine, in per cent of all its CPUs.
    pub(crate) others_percent: f64,
    /// Resident memory at the end.
    pub(crate) rss_mb: f64,
    /// Resident memory at the end that is not a file's.
    pub(crate) anon_mb: f64,
    pub(crate) written_mb: f64,
    pub(crate) errors: u64,
    pub(crate) last_error: String,
}

/// The measured time, and what happened in it.
#[derive(Clone)]
pub(crate) struct Window {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    tally: Arc<Mutex<Tally>>,
}

struct Tally {
    /// Nanoseconds, of operations that began in the window.
    latency: Histogram<u64>,
    /// Operations that ended in the window.
    finished: u64,
    errors: u64,
    last_error: String,
}

impl Window {
    pub(crate) fn new(warm_up: Duration, time: Duration) -> Window {
        let begin = Instant::now() + warm_up;
        let tally = Tally {
            latency: Histogram::new(3).expect("three digits are legal"),
            finished: 0,
            errors: 0,
            last_error: String::new(),
        };
        Window { begin, end: begin + time, tally: Arc::new(Mutex::new(tally)) }
    }

    /// Counts one operation: when it began (or should have) and ended.
    pub(crate) fn count(&self, began: Instant, ended: Instant) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if (self.begin..self.end).contains(&ended) {
            tally.finished += 1;
        }
        if (self.begin..self.end).contains(&began) {
            let nanos = ended.saturating_duration_since(began).as_nanos() as u64;
            tally.latency.record(nanos).expect("an auto-resizing histogram");
        }
    }

    /// Counts what went wrong.
    pub(crate) fn fail(&self, count: u64, error: impl ToString) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.errors += count;
        tally.last_error = error.to_string();
    }

    /// Reads the counters at the window's two ends, having waited for both.
    pub(crate) async fn watch(&self, target: &Target) -> [Counters; 2] {
        tokio::time::sleep_until(self.begin).await;
        let before = Counters::read(&target.pids);
        tokio::time::sleep_until(self.end).await;
        [before, Counters::read(&target.pids)]
    }

    /// The figures.
    pub(crate) fn shown(&self, [before, after]: &[Counters; 2]) -> Shown {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = tally.finished.max(1) as f64;
        let ms = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e6;
        let seconds = (self.end - self.begin).as_secs_f64();
        let server = after.server.cpu_ns.saturating_sub(before.server.cpu_ns) as f64;
        let client = after.client.cpu_ns.saturating_sub(before.client.cpu_ns) as f64;
        let busy = after.busy_ns.saturating_sub(before.busy_ns) as f64;
        let cpus = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        Shown {
            per_second: tally.finished as f64 / seconds,
            seconds,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: tally.latency.max() as f64 / 1e6,
            cpu_us: server / 1e3 / finished,
            client_cpu_us: client / 1e3 / finished,
            others_percent: ((busy - server - client) / (seconds * cpus * 1e7)).max(0.0),
            rss_mb: after.server.rss as f64 / MB,
            anon_mb: after.server.rss_anon as f64 / MB,
            written_mb: after.server.written.saturating_sub(before.server.written) as f64 / MB,
            errors: tally.errors,
            last_error: tally.last_error.clone(),
        }
    }
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    server: Reading,
    client: Reading,
    busy_ns: u64,
}

impl Counters {
    fn read(pids: &[u32]) -> Counters {
        Counters {
            server: process::read_all(pids),
            client: process::read(std::process::id()),
            busy_ns: process::machine_busy_ns(),
        }
    }
}

/// What is loaded: one server, or the members of a cluster.
#[derive(Clone)]
pub(crate) struct Target {
    /// Connections are spread over these.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The processes whose figures are summed.
    pub(crate) pids: Vec<u32>,
}

impl Target {
    /// The endpoint of connection `number`.
    pub(crate) fn endpoint(&self, number: usize) -> &Endpoint {
        &self.endpoints[number % self.endpoints.len()]
    }
}

/// Runs `plan` against `target`.
pub(crate) async fn run(target: &Target, plan: &Plan) -> Result<Shown, WireError> {
    match plan.row.kind {
        Kind::Watch(fan) => fan::run(target, plan, fan).await,
        Kind::PagePinned(_) => beside_writes(target, plan).await,
        _ => alone(target, plan).await,
    }
}

async fn alone(target: &Target, plan: &Plan) -> Result<Shown, WireError> {
    let window = Window::new(plan.warm_up, plan.time);
    let load = Load::start(target, plan, &window).await?;
    let counters = window.watch(target).await;
    load.wait().await;
    Ok(window.shown(&counters))
}

/// The row beside a steady trickle of writes, whose CPU time counts with the row's: it
/// is a few per cent of it, and no two measurements could be subtracted that closely.
async fn beside_writes(target: &Target, plan: &Plan) -> Result<Shown, WireError> {
    let writes = Row { kind: Kind::Put, loop_: Loop::Open(WRITES_BESIDE) };
    let window = Window::new(plan.warm_up, plan.time);
    let beside = Window::new(plan.warm_up, plan.time);
    let writing = Load::start(target, &Plan { row: writes, ..*plan }, &beside).await?;
    let load = Load::start(target, plan, &window).await?;
    let counters = window.watch(target).await;
    load.wait().await;
    writing.wait().await;
    let mut shown = window.shown(&counters);
    let wrote = beside.shown(&counters);
    if wrote.errors > 0 {
        shown.errors += wrote.errors;
        shown.last_error = wrote.last_error;
    }
    Ok(shown)
}

/// Clients at work.
pub(crate) struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    window: Window,
}

impl Load {
    /// Connects and starts all clients; they stop at the window's end.
    pub(crate) async fn start(
        target: &Target,
        plan: &Plan,
        window: &Window,
    ) -> Result<Load, WireError> {
        let mut connections = Vec::new();
        for number in 0..plan.row.connections() {
            connections.push(Connection::open(target.endpoint(number)).await?);
        }
        let pace = match plan.row.loop_ {
            Loop::Open(rate) => Some(Pace::start(rate, window.end)?),
            Loop::Closed(_) => None,
        };
        let clients = plan.row.clients();
        let tasks = (0..clients)
            .map(|number| {
                let connection = connections[number % connections.len()].clone();
                let (number, of) = (number as u64, clients as u64);
                let client = Client::new(connection, plan.row.kind, plan.space, number, of);
                tokio::spawn(one_client(client, window.clone(), pace.clone()))
            })
            .collect();
        Ok(Load { tasks, window: window.clone() })
    }

    /// Waits for the answers that are still under way.
    pub(crate) async fn wait(self) {
        let deadline = self.window.end + GRACE;
        for task in self.tasks {
            let stop = task.abort_handle();
            if tokio::time::timeout_at(deadline, task).await.is_err() {
                stop.abort();
                self.window.fail(1, format!("no answer within {GRACE:?} after the end"));
            }
        }
    }
}

async fn one_client(mut client: Client, window: Window, pace: Option<Arc<Pace>>) {
    loop {
        // In an open loop latency counts from when the request should have left.
        let began = match &pace {
            Some(pace) => match pace.next().await {
                Some(due) => due,
                None => return,
            },
            None => Instant::now(),
        };
        if began >= window.end {
            return;
        }
        match client.one().await {
            Ok(()) => window.count(began, Instant::now()),
            Err(error) => {
                window.fail(1, error);
                // A server that refuses at once is not asked in a tight loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
