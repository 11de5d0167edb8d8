//! A thousand probes a second beside a slow call: who waits how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;
use tokio::time::Instant;

use crate::loads::key;
use crate::pace::Pace;
use crate::report::say;
use crate::wire::{Connection, Endpoint, WireError, frame};

/// Probes a second, of each kind.
const RATE: f64 = 1000.0;
/// Probes of a kind in flight at most; more wait, and their wait counts.
const IN_FLIGHT: usize = 64;
/// How long the probes run before the call, to show what the machine does by itself.
const QUIET: Duration = Duration::from_secs(1);
/// The call waits until no probe waited longer in that time, because a server that
/// still recovers from its start would be taken for one that the call stalls.
const CALM: Duration = Duration::from_millis(50);
/// But it does not wait longer than this.
const CALM_PATIENCE: Duration = Duration::from_secs(20);
/// A call that takes longer is not waited for.
const LONGEST: Duration = Duration::from_secs(120);
/// Probes end by themselves after this.
const PROBED: Duration = Duration::from_secs(900);
/// What a server answers that gives a request up after its own patience (UNAVAILABLE).
const GIVEN_UP: &str = "14";

/// What the probes saw: reads, then puts.
pub(crate) struct Gap {
    /// How long HashKV took.
    pub(crate) hash: Duration,
    /// The longest wait from a probe's intended start to its answer, before the call.
    pub(crate) quiet: [Duration; 2],
    /// The same of probes meant to start or answered during the call.
    pub(crate) during: [Duration; 2],
}

/// Probes reads and puts, open loop, while one HashKV runs.
pub(crate) async fn hash_gap(endpoint: &Endpoint) -> Result<Gap, WireError> {
    let reads = Probes::start(endpoint, false).await?;
    let puts = Probes::start(endpoint, true).await?;
    let connection = Connection::open(endpoint).await?;
    let quiet = calm([&reads, &puts]).await;
    let called = Instant::now();
    let request = pb::HashKvRequest::default();
    let answer = connection.unary("/etcdserverpb.Maintenance/HashKV", &request);
    let answer: pb::HashKvResponse = match tokio::time::timeout(LONGEST, answer).await {
        Ok(answer) => answer?,
        Err(_) => return Err(WireError::Malformed(format!("no answer within {LONGEST:?}"))),
    };
    let answered = Instant::now();
    // Probes that began during the call may be answered after it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    say(&format!("HashKV {:08x} at revision {}", answer.hash, answer.hash_revision));
    let (reads, puts) = (reads.stop()?, puts.stop()?);
    let during = (called, answered);
    Ok(Gap {
        hash: answered - called,
        quiet: [longest(&reads, quiet), longest(&puts, quiet)],
        during: [longest(&reads, during), longest(&puts, during)],
    })
}

/// Waits until the server answers probes evenly; returns the last span that was looked at.
async fn calm(probes: [&Probes; 2]) -> (Instant, Instant) {
    let patience = Instant::now() + CALM_PATIENCE;
    loop {
        let from = Instant::now();
        tokio::time::sleep(QUIET).await;
        let span = (from, Instant::now());
        let is_calm = probes.iter().all(|probes| {
            let seen = probes.seen.lock().unwrap_or_else(PoisonError::into_inner);
            answers_evenly(&seen.waits, span)
        });
        if is_calm || span.1 > patience {
            return span;
        }
    }
}

/// Whether the answers of a span came soon, and came at all.
fn answers_evenly(waits: &[(Instant, Instant)], (from, to): (Instant, Instant)) -> bool {
    let wanted = ((to - from).as_secs_f64() * RATE / 2.0) as usize;
    let answered = waits.iter().filter(|(_, answered)| (from..to).contains(answered)).count();
    answered >= wanted && longest(waits, (from, to)) <= CALM
}

/// The longest wait of a probe that was under way at any time in `from..to`.
pub(crate) fn longest(waits: &[(Instant, Instant)], (from, to): (Instant, Instant)) -> Duration {
    waits
        .iter()
        .filter(|(meant, answered)| *meant < to && *answered > from)
        // A wait that began before counts from where the span begins.
        .map(|(meant, answered)| *answered - (*meant).max(from))
        .max()
        .unwrap_or_default()
}

/// The wait that this part of the probes meant for `from..to` does not exceed.
pub(crate) fn quantile(
    waits: &[(Instant, Instant)],
    (from, to): (Instant, Instant),
    part: f64,
) -> Duration {
    let meant = waits.iter().filter(|(meant, _)| (from..to).contains(meant));
    let mut sorted: Vec<Duration> = meant.map(|(meant, answered)| *answered - *meant).collect();
    sorted.sort_unstable();
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.max(1) - 1).copied().unwrap_or_default()
}

/// Probes of one kind under way.
pub(crate) struct Probes {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// When each probe was meant to start and when it was answered.
    waits: Vec<(Instant, Instant)>,
    /// How many of them were given up by the server.
    given_up: u64,
    failed: Option<WireError>,
}

impl Probes {
    /// Starts puts, or reads.
    pub(crate) async fn start(endpoint: &Endpoint, put: bool) -> Result<Probes, WireError> {
        let connection = Connection::open(endpoint).await?;
        let pace = Pace::start(RATE, Instant::now() + PROBED)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (path, framed) = request(put);
        let tasks = (0..IN_FLIGHT)
            .map(|_| {
                let (connection, pace) = (connection.clone(), Arc::clone(&pace));
                let (seen, framed) = (Arc::clone(&seen), framed.clone());
                tokio::spawn(probe(connection, pace, seen, path, framed))
            })
            .collect();
        Ok(Probes { tasks, seen })
    }

    /// Ends them; when each was meant to start and when it was answered.
    pub(crate) fn stop(self) -> Result<Vec<(Instant, Instant)>, WireError> {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.given_up > 0 {
            say(&format!(
                "{} probes were given up by the server; their wait counts",
                seen.given_up
            ));
        }
        match seen.failed.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut seen.waits)),
        }
    }
}

fn request(put: bool) -> (&'static str, Bytes) {
    if put {
        let request =
            pb::PutRequest { key: "probe".into(), value: "x".into(), ..Default::default() };
        ("/etcdserverpb.KV/Put", frame(&request))
    } else {
        let request = pb::RangeRequest { key: key(1), ..Default::default() };
        ("/etcdserverpb.KV/Range", frame(&request))
    }
}

async fn probe(
    connection: Connection,
    pace: Arc<Pace>,
    seen: Arc<Mutex<Seen>>,
    path: &str,
    framed: Bytes,
) {
    while let Some(meant) = pace.next().await {
        let result = connection.unary_bytes(path, framed.clone()).await;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => seen.waits.push((meant, Instant::now())),
            Err(WireError::Status { code, .. }) if code == GIVEN_UP => {
                seen.given_up += 1;
                seen.waits.push((meant, Instant::now()));
            }
            Err(error) => {
                seen.failed = Some(error);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_where_it_overlaps() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let waits = [(at(0), at(5)), (at(90), at(130)), (at(150), at(160)), (at(195), at(260))];
        let ms = |from, to| longest(&waits, (at(from), at(to))).as_millis();
        assert_eq!(ms(100, 190), 30);
        assert_eq!(ms(100, 200), 65);
        assert_eq!(ms(0, 80), 5);
        assert_eq!(ms(300, 400), 0);
    }

    #[test]
    fn a_quantile_is_of_what_was_meant_for_the_span() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let waits: Vec<_> = (0..1000).map(|n| (at(n), at(n + n))).collect();
        let ms = |from, to, part| quantile(&waits, (at(from), at(to)), part).as_millis();
        assert_eq!(ms(0, 1000, 0.999), 998);
        assert_eq!(ms(0, 100, 0.99), 98);
        assert_eq!(ms(0, 100, 1.0), 99);
        assert_eq!(ms(2000, 3000, 0.5), 0);
    }

    #[test]
    fn silence_is_not_calm() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let span = (at(0), at(100));
        let even: Vec<_> = (0..99).map(|ms| (at(ms), at(ms + 1))).collect();
        assert!(answers_evenly(&even, span));
        assert!(!answers_evenly(&even[..40], span), "half of them are missing");
        let slow: Vec<_> = (0..99).map(|ms| (at(ms), at(ms.max(60)))).collect();
        assert!(!answers_evenly(&slow, span), "the first waited for 60 ms");
    }
}
