//! Raft's paths on the peer listener, answered by somebody else: the `peer` crate.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

/// The body of an answer. It is polled on the shard of its connection; all that one
/// poll of the connection takes from it leaves in one write.
pub type RaftBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Infallible>>>;

/// An answer that is being made. Runs on the shard of its connection.
pub type RaftAnswer = Pin<Box<dyn Future<Output = Response<RaftBody>>>>;

/// Answers `/raft` and all below it on the peer listeners, but for `/raft/probing`.
pub trait RaftFace: Send + Sync + 'static {
    /// Answers a request from `remote`, an address. An answer with the header
    /// `connection: close` ends the connection.
    fn answer(&self, request: Request<Incoming>, remote: &str) -> RaftAnswer;
}

/// Whether a path is raft's.
pub(crate) fn is_raft(path: &str) -> bool {
    let below = path.strip_prefix("/raft");
    below.is_some_and(|below| below.is_empty() || below.starts_with('/')) && path != PROBING
}

const PROBING: &str = "/raft/probing";

/// Raft's answers that have not ended, on one shard. Streams end only with one of
/// their two members, so a server that ends does not wait for them.
#[derive(Clone, Default)]
pub(crate) struct OpenAnswers(Rc<Cell<usize>>);

impl OpenAnswers {
    pub(crate) fn count(&self) -> usize {
        self.0.get()
    }

    pub(crate) fn one_more(&self) -> OpenAnswer {
        self.0.set(self.0.get() + 1);
        OpenAnswer(Rc::clone(&self.0))
    }
}

/// One of [`OpenAnswers`], until it is dropped.
pub(crate) struct OpenAnswer(Rc<Cell<usize>>);

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::is_raft;

    #[test]
    fn paths_of_raft() {
        for path in ["/raft", "/raft/snapshot", "/raft/stream/message/8e9e05c52164694d", "/raft/"] {
            assert!(is_raft(path), "{path}");
        }
        for path in ["/", "/raft/probing", "/rafts", "/members", "/version"] {
            assert!(!is_raft(path), "{path}");
        }
    }
}
