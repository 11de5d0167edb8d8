//! Ends a connection from anywhere.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Who holds it may end the connection it belongs to; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ender(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ended: AtomicBool,
    /// The task that serves the connection now.
    task: Mutex<Option<Waker>>,
}

impl Ender {
    /// Ends the connection: its task drops everything when it is next polled, which is soon.
    pub(crate) fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
        if let Some(task) = self.0.task.lock().take() {
            task.wake();
        }
    }

    /// `work`, or `None` once the connection is ended. What it costs a turn is one look at a
    /// flag.
    pub(crate) async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut armed = false;
        poll_fn(|cx| {
            if !armed {
                armed = true;
                self.arm(cx);
            }
            if self.0.ended.load(Ordering::Acquire) {
                return Poll::Ready(None);
            }
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// A task keeps its waker for life, so once is enough for each task.
    fn arm(&self, cx: &Context<'_>) {
        *self.0.task.lock() = Some(cx.waker().clone());
    }
}
