//! The newest batches, kept only while some watcher lags.
//!
//! They let a watcher that has almost caught up become live without another read
//! from a view, however fast revisions arrive.

use std::collections::VecDeque;

use mainstay_types::limits::{
    WATCH_CATCHUP_BYTES_MAX, WATCH_CATCHUP_REVISIONS_MAX, WATCH_RECENT_BYTES_MAX,
    WATCH_RECENT_REVISIONS_MAX,
};

use crate::event::Shared;

/// Consecutive revisions up to the newest.
#[derive(Default)]
pub(crate) struct Recent {
    batches: VecDeque<Shared>,
    bytes: usize,
}

impl Recent {
    /// The first revision at hand.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.batches.front().map(|shared| shared.batch.revision)
    }

    /// Adds the newest batch, and drops the oldest ones past the bounds.
    pub(crate) fn push(&mut self, shared: Shared) {
        if let Some(last) = self.batches.back() {
            assert_eq!(last.batch.revision + 1, shared.batch.revision, "revisions are consecutive");
        }
        self.bytes += shared.batch.bytes();
        self.batches.push_back(shared);
        while self.batches.len() > WATCH_RECENT_REVISIONS_MAX || self.bytes > WATCH_RECENT_BYTES_MAX
        {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.batch.bytes();
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        if !self.batches.is_empty() {
            *self = Recent::default();
        }
    }

    /// One slice from revision `from` on, which must be at hand.
    pub(crate) fn slice(&mut self, from: i64) -> &mut [Shared] {
        let oldest = self.oldest().expect("the caller has seen that it is at hand");
        let first = usize::try_from(from - oldest).expect("not before the oldest");
        let batches = &mut self.batches.make_contiguous()[first..];
        let mut bytes = 0;
        let fits = |shared: &&mut Shared| {
            let room = bytes < WATCH_CATCHUP_BYTES_MAX;
            bytes += shared.batch.bytes();
            room
        };
        let count = batches.iter_mut().take(WATCH_CATCHUP_REVISIONS_MAX).take_while(fits).count();
        &mut batches[..count]
    }
}
