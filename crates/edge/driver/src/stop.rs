//! One place that says why the member stops.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The reason of a member that was removed (etcd's words).
pub const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Set once, by whoever finds the reason first.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    reason: Mutex<Option<String>>,
    told: Notify,
}

impl Stop {
    /// Records why the member must stop; the first reason stays.
    pub(crate) fn because(&self, reason: impl Into<String>) {
        self.inner.reason.lock().get_or_insert_with(|| reason.into());
        self.inner.told.notify_waiters();
    }

    /// Records that this member does not belong to the cluster any more.
    pub(crate) fn removed(&self) {
        self.because(REMOVED);
    }

    /// The reason, once there is one.
    pub(crate) fn reason(&self) -> Option<String> {
        self.inner.reason.lock().clone()
    }

    /// Waits for a reason.
    pub(crate) async fn wait(&self) -> String {
        loop {
            let told = self.inner.told.notified();
            tokio::pin!(told);
            // Registered before the look, so that no notice falls between the two.
            told.as_mut().enable();
            if let Some(reason) = self.reason() {
                return reason;
            }
            told.await;
        }
    }
}
