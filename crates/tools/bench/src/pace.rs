//! An open loop's clock: when each request is meant to leave.
//!
//! The runtime's own timers round up to a millisecond, which is longer than most
//! answers take; a timer of the kernel's is exact to a few microseconds.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The shortest time between two wake-ups; requests due within it leave together.
const WAKE_MIN: Duration = Duration::from_micros(200);

/// A queue of intended sending times at a fixed rate, taken by whoever is free.
///
/// A request that finds nobody free waits, and its latency counts that wait.
pub(crate) struct Pace {
    due: Semaphore,
    taken: AtomicU64,
    last: u64,
    start: Instant,
    step: Duration,
}

impl Pace {
    /// `rate` requests a second from now on, released by a task until `end`.
    pub(crate) fn start(rate: f64, end: Instant) -> Result<Arc<Pace>, std::io::Error> {
        let step = Duration::from_secs_f64(1.0 / rate);
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        let wake = TimeSpec::from_duration(step.max(WAKE_MIN));
        let start = Instant::now();
        let last = released_by(end - start, step);
        let pace = Pace { due: Semaphore::new(0), taken: AtomicU64::new(0), last, start, step };
        timer.set(Expiration::Interval(wake), TimerSetTimeFlags::empty())?;
        #[expect(deprecated, reason = "its successor is unsafe; an OwnedFd stays open while held")]
        let timer = AsyncFd::new(OwnedFd::from(timer))?;
        let pace = Arc::new(pace);
        tokio::spawn(release(Arc::clone(&pace), timer));
        Ok(pace)
    }

    /// The next intended time, once it has come, or `None` after the last.
    pub(crate) async fn next(&self) -> Option<Instant> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.last {
            return None;
        }
        // Whoever has the lower number is ahead in the semaphore's queue.
        self.due.acquire().await.ok()?.forget();
        Some(self.start + offset(self.step, number))
    }
}

async fn release(pace: Arc<Pace>, timer: AsyncFd<OwnedFd>) {
    let mut released = 0;
    while released < pace.last {
        let now = released_by(pace.start.elapsed(), pace.step).min(pace.last);
        pace.due.add_permits((now - released) as usize);
        released = now;
        let Ok(mut ready) = timer.readable().await else { return };
        let mut count = [0; 8];
        // How often it rang does not matter: the clock says what is due.
        let _ = ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut count)?));
    }
}

/// How many requests are due once `passed` is over; the first is due at once.
fn released_by(passed: Duration, step: Duration) -> u64 {
    (passed.as_nanos() / step.as_nanos().max(1)) as u64 + 1
}

fn offset(step: Duration, number: u64) -> Duration {
    Duration::from_nanos((step.as_nanos() * u128::from(number)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_what_is_due() {
        let step = Duration::from_millis(2);
        assert_eq!(released_by(Duration::ZERO, step), 1);
        assert_eq!(released_by(Duration::from_micros(1999), step), 1);
        assert_eq!(released_by(Duration::from_millis(2), step), 2);
        assert_eq!(released_by(Duration::from_secs(1), step), 501);
        assert_eq!(offset(step, 500), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn hands_out_every_intended_time_once_and_in_order() {
        let begun = Instant::now();
        let pace = Pace::start(1000.0, begun + Duration::from_millis(50)).expect("a timer");
        let mut last = None;
        let mut count = 0;
        while let Some(due) = pace.next().await {
            assert!(due <= Instant::now(), "handed out before its time");
            assert!(last.is_none_or(|l| due - l == Duration::from_millis(1)));
            last = Some(due);
            count += 1;
        }
        assert!((49..=51).contains(&count), "{count} of 50");
    }
}
