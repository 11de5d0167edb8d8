//! GET `/raft/mainstay/db`: the db of this member, for another one of ours that has lost its
//! own; the bytes of the file as one moment has them, and their SHA-256 behind them.
//!
//! The query `?look` asks for the head of the answer alone. Who asks must be a member, known
//! by its header as on every path of raft's; the listener's certificates say the rest.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use mainstay_driver::DbCopy;
use mainstay_server::RaftBody;
use mainstay_types::MemberId;
use mainstay_types::limits::{
    PEER_DB_OFFERS_MAX, PEER_SNAPSHOT_CHUNK_BYTES, PEER_SNAPSHOT_CHUNKS_WAITING_MAX,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{error, of_cluster, plain, refuse};
use crate::headers::{self, DB_BYTES, DB_INDEX, DB_LEADER, DB_TERM, SERVER_FROM, text, value};
use crate::shared::Shared;
use crate::snapshot::size;

/// Where a member of ours answers; a Go member answers 404 there.
pub(crate) const PATH: &str = "/raft/mainstay/db";
/// The query that asks for the head of the answer alone.
pub(crate) const LOOK: &str = "look";
/// Bytes of the checksum behind the db.
pub(crate) const SUM_BYTES: u64 = 32;
/// How long the asker may take nothing (ours).
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers.
pub(super) async fn offer<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
    remote: &str,
) -> Response<RaftBody> {
    if let Some(refusal) = refuse(shared, request, &Method::GET) {
        return refusal;
    }
    let response = match asker(shared, request) {
        Err(refusal) => *refusal,
        Ok(_) if request.uri().query() == Some(LOOK) => look(shared),
        Ok(asker) => give(shared, asker, remote).await,
    };
    of_cluster(shared, response)
}

/// Who asks: somebody who is a member and not this one.
fn asker<B>(shared: &Shared, request: &Request<B>) -> Result<MemberId, Box<Response<RaftBody>>> {
    let from = headers::member_id(text(request.headers(), &SERVER_FROM));
    let from = from.unwrap_or(MemberId::NONE);
    if shared.local().is_removed(from) {
        return Err(Box::new(error(StatusCode::GONE, "removed member")));
    }
    match shared.peer(from) {
        Some(_) => Ok(from),
        None => Err(Box::new(error(StatusCode::FORBIDDEN, "not a member of this cluster"))),
    }
}

fn look(shared: &Shared) -> Response<RaftBody> {
    let (leader, applied) = shared.local().standing();
    let mut response = plain(Bytes::new());
    let head = response.headers_mut();
    head.insert(DB_LEADER, value(leader));
    head.insert(DB_INDEX, value(applied));
    response
}

async fn give(shared: &Arc<Shared>, asker: MemberId, remote: &str) -> Response<RaftBody> {
    let Some(place) = Place::take(shared) else {
        let text = "too many members fetch this db; try again";
        return error(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let offer = match shared.local().offer_db().await {
        Ok(offer) => offer,
        Err(why) => return error(StatusCode::INTERNAL_SERVER_ERROR, &why),
    };
    let (index, term, bytes) = (offer.index, offer.term, offer.copy.len());
    tracing::info!(
        "remote-peer-id" = %asker,
        "remote-addr" = remote,
        "applied-index" = index.0,
        bytes,
        size = size(bytes),
        "sending the database to a member that has lost its own"
    );
    let mut response = Response::new(body(offer.copy, place));
    let head = response.headers_mut();
    head.insert(DB_INDEX, value(index));
    head.insert(DB_TERM, value(term));
    head.insert(DB_BYTES, value(bytes));
    response
}

/// A place among those that may be served at the same time.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Place> {
        let place = Place(Arc::clone(shared));
        let before = shared.offers.fetch_add(1, Ordering::AcqRel);
        (before < PEER_DB_OFFERS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.offers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The file, read on a thread that may block, as fast as it is taken. One that cannot be read
/// to its end breaks off, and so does one that nobody takes: the file is pinned meanwhile.
fn body(copy: Arc<dyn DbCopy>, place: Place) -> RaftBody {
    let left = copy.len() + SUM_BYTES;
    let (read, mut chunks) = mpsc::channel(PEER_SNAPSHOT_CHUNKS_WAITING_MAX);
    let (parts, taken) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        if let Err(why) = read_all(&*copy, &read) {
            tracing::warn!(error = %why, "failed to send the database to a member");
        }
    });
    tokio::task::spawn_local(async move {
        let _place = place;
        while let Some(chunk) = chunks.recv().await {
            let taking = tokio::time::timeout(STALL_TIMEOUT, parts.send(chunk)).await;
            if !matches!(taking, Ok(Ok(()))) {
                return;
            }
        }
    });
    Box::pin(Offered { parts: taken, left })
}

/// Reads the file and sums it. Ends when nobody wants more.
fn read_all(copy: &dyn DbCopy, chunks: &mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut sum = Sha256::new();
    let (mut at, length) = (0, copy.len());
    while at < length {
        let wanted = (length - at).min(PEER_SNAPSHOT_CHUNK_BYTES as u64);
        let bytes = usize::try_from(wanted).unwrap_or(PEER_SNAPSHOT_CHUNK_BYTES);
        let mut chunk = BytesMut::zeroed(bytes);
        copy.read_at(at, &mut chunk)?;
        sum.update(&chunk);
        if chunks.blocking_send(chunk.freeze()).is_err() {
            return Ok(());
        }
        at += wanted;
    }
    // As above: the asker may have gone.
    let _ = chunks.blocking_send(Bytes::copy_from_slice(&sum.finalize()));
    Ok(())
}

/// The body of the answer.
struct Offered {
    parts: mpsc::Receiver<Bytes>,
    left: u64,
}

impl http_body::Body for Offered {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.parts.poll_recv(cx).map(|part| {
            part.map(|part| {
                self.left = self.left.saturating_sub(part.len() as u64);
                Ok(Frame::data(part))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
