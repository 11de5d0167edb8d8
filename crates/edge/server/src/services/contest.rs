//! Waiting in a line of keys for a caller who may go.
//!
//! A lock's holder and an election's leader is whoever owns the key that was created first
//! below a prefix. Entering the line is a transaction that may be under way when the caller
//! goes; so all of it runs in a task of its own, which sees its own key off again.

use std::future::Future;

use tokio::sync::oneshot;

use crate::status::{Code, Status};

/// A place in a line.
pub(super) trait Place: 'static {
    /// What its caller is told in the end.
    type Reply: 'static;

    /// Whether entering has made a key, rather than found the lease's own.
    fn is_new(&self) -> bool;

    /// Waits until it is the first.
    fn wait(&mut self) -> impl Future<Output = Result<Self::Reply, Status>>;

    /// Gives the place up because its caller has gone, or because waiting has failed.
    fn leave(&mut self, caller: Caller) -> impl Future<Output = ()>;
}

/// Whether the caller is still there when a place is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    There,
    Gone,
}

/// Enters a line and waits in it. When this future is dropped, the place is given up, also
/// one that is only being entered then.
pub(super) async fn contend<P: Place>(
    enter: impl Future<Output = Result<P, Status>> + 'static,
    stopped: impl Future<Output = Status> + 'static,
) -> Result<P::Reply, Status> {
    let (mut tell, told) = oneshot::channel();
    let task = async move {
        let mut place = match enter.await {
            Ok(place) => place,
            // A caller who has gone is not told.
            Err(status) => return drop(tell.send(Err(status))),
        };
        let waited = tokio::select! {
            biased;
            () = tell.closed() => Err((Caller::Gone, gone())),
            status = stopped => Err((Caller::Gone, status)),
            waited = place.wait() => waited.map_err(|status| (Caller::There, status)),
        };
        match waited {
            Ok(reply) => {
                // It had the place before this call when entering made no key.
                if tell.send(Ok(reply)).is_err() && place.is_new() {
                    place.leave(Caller::Gone).await;
                }
            }
            Err((caller, status)) => {
                place.leave(caller).await;
                let _ = tell.send(Err(status));
            }
        }
    };
    drop(tokio::task::spawn_local(task));
    told.await.unwrap_or_else(|_| Err(gone()))
}

fn gone() -> Status {
    Status::new(Code::Canceled, "context canceled")
}
