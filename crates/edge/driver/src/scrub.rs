//! Looks at every page of the db now and then, so that damage is found while other members can
//! still mend it.
//!
//! One pass goes through the file a slice at a time and rests after each, so that it costs what
//! the rate allows and nothing else waits for it. What it finds is told as whatever a read finds.

use std::sync::Arc;
use std::time::Duration;

use mainstay_backend::BackendError;
use mainstay_backend::bolt::Error;

use crate::queue::{Nothing, Receiver};
use crate::shared::Shared;

/// Bytes looked at in one go.
const SLICE_BYTES: u64 = 1 << 20;
/// A first pass begins soon after the start, but not in the midst of it.
const FIRST: Duration = Duration::from_secs(60);

/// The thread's state.
pub(crate) struct Scrub {
    pub(crate) shared: Arc<Shared>,
}

impl Scrub {
    /// Runs until the channel closes.
    pub(crate) fn run(self, stop: &Receiver<()>) {
        let period = self.shared.options.scrub_period;
        let mut rest = FIRST.min(period);
        while let Err(Nothing::Timeout) = stop.recv_timeout(rest) {
            let begun = self.shared.clock.now();
            if !self.pass(stop) {
                return;
            }
            let took = self.shared.clock.now().saturating_sub(begun);
            rest = period.saturating_sub(took).max(Duration::from_secs(1));
        }
    }

    /// Goes through the file once; `false` when the member ends.
    fn pass(&self, stop: &Receiver<()>) -> bool {
        let shared = &self.shared;
        let page_bytes = shared.backend.page_bytes();
        let slice = (SLICE_BYTES / page_bytes).max(1);
        let rate = shared.options.scrub_bytes_per_second.max(1);
        let (mut at, mut pages, mut damaged) = (0, 0, 0);
        let begun = shared.clock.now();
        loop {
            let looked = match shared.backend.scrub(at, slice) {
                Ok(done) => {
                    pages += done.pages;
                    shared.stats.scrubbed_pages.add(done.pages);
                    let Some(next) = done.next else { break };
                    at = next;
                    done.pages
                }
                Err(BackendError::Bolt(Error::Damaged { page, .. })) => {
                    // Told where it was met.
                    damaged += 1;
                    at = page + 1;
                    slice
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to look at the pages of the database");
                    break;
                }
            };
            let pause = Duration::from_secs_f64((looked * page_bytes) as f64 / rate as f64);
            if !matches!(stop.recv_timeout(pause), Err(Nothing::Timeout)) {
                return false;
            }
        }
        shared.stats.scrub_passes.add(1);
        let wall = shared.clock.wall().as_secs();
        shared.stats.scrub_ended.set(i64::try_from(wall).unwrap_or(i64::MAX));
        let took = shared.clock.now().saturating_sub(begun);
        tracing::info!(pages, damaged, took = ?took, "looked at every page of the database");
        true
    }
}
