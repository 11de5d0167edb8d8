//! A body that is written while it is read: what has come over a websocket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;

#[derive(Default)]
struct Inner {
    pieces: VecDeque<Bytes>,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The end that is written.
pub(super) struct Feed(Rc<RefCell<Inner>>);

/// The end that is read.
pub(super) struct Fed(Rc<RefCell<Inner>>);

pub(super) fn pair() -> (Feed, Fed) {
    let inner = Rc::default();
    (Feed(Rc::clone(&inner)), Fed(inner))
}

impl Feed {
    /// Ready once all that was written has been read: a client that asks faster than it is
    /// answered waits.
    pub(super) async fn emptied(&self) {
        poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            if inner.pieces.is_empty() {
                return Poll::Ready(());
            }
            inner.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn write(&self, piece: Bytes) {
        let mut inner = self.0.borrow_mut();
        inner.pieces.push_back(piece);
        wake(&mut inner.reader);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut inner = self.0.borrow_mut();
        inner.ended = true;
        wake(&mut inner.reader);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        // Nobody reads any more: what comes is passed over.
        let mut inner = self.0.borrow_mut();
        inner.pieces.clear();
        wake(&mut inner.writer);
    }
}

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut inner = self.0.borrow_mut();
        if let Some(piece) = inner.pieces.pop_front() {
            wake(&mut inner.writer);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}
