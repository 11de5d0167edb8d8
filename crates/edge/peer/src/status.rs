//! Whether a peer is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_types::MemberId;
use parking_lot::Mutex;

use mainstay_server::network::PeerStats;

/// What is known about the links with one peer.
#[derive(Debug)]
pub(crate) struct Status {
    peer: MemberId,
    stats: Arc<PeerStats>,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    /// Whether the last that was tried worked: what etcd logs and counts.
    active: bool,
    /// Streams that bring us messages.
    incoming: u32,
    /// Streams that take messages away.
    outgoing: u32,
    /// Since when there is one of both.
    since: Option<Instant>,
}

/// The way a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl Status {
    pub(crate) fn new(peer: MemberId, stats: Arc<PeerStats>) -> Status {
        Status { peer, stats, links: Mutex::default() }
    }

    /// Something worked.
    pub(crate) fn activate(&self) {
        let mut links = self.links.lock();
        if !links.active {
            links.active = true;
            self.stats.active.set(1);
            tracing::info!("peer-id" = %self.peer, "peer became active");
        }
    }

    /// Something failed: `action` ("dial") with `source` ("stream Message") for `reason`.
    pub(crate) fn deactivate(&self, action: &str, source: &str, reason: &str) {
        let mut links = self.links.lock();
        let peer = self.peer;
        let error = format!("failed to {action} {peer} on {source} ({reason})");
        if links.active {
            links.active = false;
            self.stats.active.set(0);
            self.stats.disconnected.inc();
            tracing::warn!(
                "peer-id" = %peer,
                error,
                "peer became inactive (message send to peer failed)"
            );
        } else {
            tracing::debug!("peer-id" = %peer, error, "peer deactivated again");
        }
    }

    /// Whether the last that was tried worked.
    pub(crate) fn is_active(&self) -> bool {
        self.links.lock().active
    }

    /// A stream is up.
    pub(crate) fn up(&self, way: Way) {
        self.links.lock().count(way, |count| count + 1);
    }

    /// A stream that was up is not any more.
    pub(crate) fn down(&self, way: Way) {
        self.links.lock().count(way, |count| count.saturating_sub(1));
    }

    /// Whether there is a stream in either direction: then its process lives, whatever
    /// stands before its address.
    pub(crate) fn is_linked(&self) -> bool {
        let links = self.links.lock();
        links.incoming > 0 || links.outgoing > 0
    }

    /// For how long messages could go both ways.
    pub(crate) fn connected_for(&self) -> Option<Duration> {
        self.links.lock().since.map(|since| since.elapsed())
    }

    /// The peer left: it no longer counts as active.
    pub(crate) fn forget(&self) {
        self.stats.active.set(0);
    }
}

impl Links {
    fn count(&mut self, way: Way, change: impl FnOnce(u32) -> u32) {
        let count = match way {
            Way::In => &mut self.incoming,
            Way::Out => &mut self.outgoing,
        };
        *count = change(*count);
        if self.incoming > 0 && self.outgoing > 0 {
            self.since.get_or_insert_with(Instant::now);
        } else {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_means_both_ways() {
        let stats = Arc::new(PeerStats::default());
        let status = Status::new(MemberId(2), Arc::clone(&stats));
        status.up(Way::In);
        status.up(Way::In);
        assert_eq!(status.connected_for(), None);
        status.up(Way::Out);
        assert!(status.connected_for().is_some());
        status.down(Way::In);
        assert!(status.connected_for().is_some(), "one of two is left");
        status.down(Way::In);
        assert_eq!(status.connected_for(), None);
        status.activate();
        status.deactivate("dial", "stream Message", "refused");
        status.deactivate("dial", "stream Message", "refused");
        assert_eq!((stats.active.get(), stats.disconnected.get()), (0, 1));
    }
}
