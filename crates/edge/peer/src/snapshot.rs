//! A snapshot on its way to a peer: the message, then the db file, in one POST.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use mainstay_driver::DbCopy;
use mainstay_raft::Message;
use mainstay_types::limits::{PEER_SNAPSHOT_CHUNK_BYTES, PEER_SNAPSHOT_CHUNKS_WAITING_MAX};
use mainstay_types::{Index, MemberId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::{Answer, OutBody, read, told};
use crate::codec::encode_plain;
use crate::peer::Peer;
use crate::pipeline::judge;
use crate::shared::Shared;

/// How long a peer may take nothing of the file (ours; etcd waits for ever).
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer may take to make the file durable, once it has all of it (ours;
/// etcd waits for ever).
const DURABLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the rest of the answer may take (etcd, `snapResponseReadTimeout`).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a line says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Tells raft, when it is dropped, how a snapshot went: whoever sends it may be dropped
/// at any point.
pub(crate) struct Report {
    shared: Arc<Shared>,
    peer: MemberId,
    ok: bool,
}

impl Report {
    pub(crate) fn new(shared: &Arc<Shared>, peer: MemberId) -> Report {
        Report { shared: Arc::clone(shared), peer, ok: false }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(local) = self.shared.local.get() {
            local.snapshot_sent(self.peer, self.ok);
        }
    }
}

/// Sends a snapshot.
pub(crate) async fn send(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    message: Message,
    db: Arc<dyn DbCopy>,
    mut report: Report,
) {
    let began = Instant::now();
    let index = message.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
    let (remote, bytes) = (peer.id, db.len());
    tracing::info!(
        "snapshot-index" = index.0,
        "remote-peer-id" = %remote,
        bytes,
        size = size(bytes),
        "sending database snapshot"
    );
    let under_way = peer.stats.snapshots_sent.begin();
    let result = post(&shared, &peer, &message, db).await;
    match &result {
        Ok(()) => {
            under_way.done(began.elapsed());
            peer.stats.sent_bytes.add(bytes);
            peer.status.activate();
            tracing::info!(
                "snapshot-index" = index.0,
                "remote-peer-id" = %remote,
                bytes,
                size = size(bytes),
                "sent database snapshot"
            );
        }
        Err(error) => {
            drop(under_way);
            peer.stats.sent_failures.inc();
            tracing::warn!(
                "snapshot-index" = index.0,
                "remote-peer-id" = %remote,
                bytes,
                size = size(bytes),
                error = %error,
                "failed to send database snapshot"
            );
            peer.status.deactivate("post", "sendMsgSnap", &error.to_string());
            shared.unreachable(remote);
        }
    }
    report.ok = result.is_ok();
}

async fn post(
    shared: &Shared,
    peer: &Peer,
    message: &Message,
    db: Arc<dyn DbCopy>,
) -> io::Result<()> {
    let Some(origin) = peer.picker.pick() else {
        return Err(io::Error::other("it has no URL"));
    };
    let mut head = BytesMut::new();
    encode_plain(message, &mut head);
    let answer = async {
        let mut connection = shared.dialer.connect(&origin).await?;
        let (parts, body) = mpsc::channel(1);
        let body = OutBody::Parts(body);
        let mut request = Peer::request(shared, &origin, Method::POST, "/raft/snapshot", body);
        let kind = HeaderValue::from_static("application/octet-stream");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let feeding = feed(peer, head.freeze(), db, parts);
        let sending = connection.send(request);
        let response = answered(feeding, sending).await?;
        let reading = tokio::time::timeout(ANSWER_TIMEOUT, read(response)).await;
        reading.map_err(|_| late("the answer does not end"))?
    };
    let answer: io::Result<Answer> = answer.await;
    let result = answer.and_then(|answer| judge(shared, peer, &answer));
    if result.is_err() {
        peer.picker.unreachable(&origin);
    }
    result
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Feeds the body while the answer is awaited. A peer may answer before it has all of
/// the body, to refuse the rest.
async fn answered<T>(
    feeding: impl Future<Output = io::Result<()>>,
    sending: impl Future<Output = hyper::Result<T>>,
) -> io::Result<T> {
    let mut sending = std::pin::pin!(sending);
    tokio::select! {
        biased;
        response = &mut sending => return response.map_err(told),
        fed = feeding => fed?,
    }
    let response = tokio::time::timeout(DURABLE_TIMEOUT, sending).await;
    response.map_err(|_| late("no answer"))?.map_err(told)
}

/// Puts the pieces into the body, as fast as the peer takes them. What cannot be read
/// cuts the body off, so that the peer discards what it has.
async fn feed(
    peer: &Peer,
    head: Bytes,
    db: Arc<dyn DbCopy>,
    parts: mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let (remote, bytes) = (peer.id, db.len());
    let (read, mut chunks) = mpsc::channel(PEER_SNAPSHOT_CHUNKS_WAITING_MAX);
    tokio::task::spawn_blocking(move || read_all(&*db, &read));
    let (mut fed, mut told) = (0, Instant::now());
    let mut next: Option<io::Result<Bytes>> = Some(Ok(head));
    while let Some(chunk) = next {
        let problem = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        let failed = chunk.as_ref().err().map(problem);
        let length = chunk.as_ref().map_or(0, Bytes::len);
        match tokio::time::timeout(STALL_TIMEOUT, parts.send(chunk)).await {
            Err(_) => return Err(late("the peer takes no more")),
            // The answer, or the connection's error, says why.
            Ok(Err(_)) => std::future::pending().await,
            Ok(Ok(())) => {}
        }
        if let Some(error) = failed {
            return Err(error);
        }
        fed += length as u64;
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            tracing::info!("remote-peer-id" = %remote, sent = fed, bytes, "still sending database snapshot");
        }
        next = chunks.recv().await;
    }
    Ok(())
}

/// Reads the file, on a thread that may block. Ends when nobody wants more.
fn read_all(db: &dyn DbCopy, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    let (mut at, length) = (0, db.len());
    while at < length {
        let wanted = (length - at).min(PEER_SNAPSHOT_CHUNK_BYTES as u64);
        let mut chunk =
            BytesMut::zeroed(usize::try_from(wanted).unwrap_or(PEER_SNAPSHOT_CHUNK_BYTES));
        let read = db.read_at(at, &mut chunk).map(|()| chunk.freeze());
        let failed = read.is_err();
        if chunks.blocking_send(read).is_err() || failed {
            return;
        }
        at += wanted;
    }
}

/// A size as people write it, the way etcd's logs do ("1.3 GB").
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    let rounded = (value * 10.0 + 0.5).floor() / 10.0;
    if rounded < 10.0 {
        format!("{rounded:.1} {}", UNITS[unit])
    } else {
        format!("{rounded:.0} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_read_like_etcds() {
        let wanted =
            [(0, "0 B"), (9, "9 B"), (82, "82 B"), (20_480, "20 kB"), (1_300_000_000, "1.3 GB")];
        for (bytes, text) in wanted {
            assert_eq!(size(bytes), text);
        }
    }
}
