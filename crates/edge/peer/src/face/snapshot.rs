//! POST `/raft/snapshot`: a message, then a db file to the end of the body.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use mainstay_raft::{Message, MessageKind};
use mainstay_server::RaftBody;
use mainstay_types::limits::{
    PEER_SNAPSHOT_BYTES_PER_SECOND_MIN, PEER_SNAPSHOT_CHUNKS_WAITING_MAX,
    PEER_SNAPSHOT_GRACE_SECONDS, PEER_SNAPSHOT_MESSAGE_BYTES_MAX, PEER_SNAPSHOTS_RECEIVED_MAX,
};
use mainstay_types::{Index, MemberId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{error, forbidden, meet_sender, next_chunk, no_content, of_cluster, refuse};
use crate::codec::{Arrival, Intake, PlainDecoder};
use crate::local::Local;
use crate::shared::{Rejected, Shared};
use crate::snapshot::size;
use mainstay_server::network::PeerStats;

/// A piece of the file on its way to the thread that writes it. Without [`Piece::End`]
/// the file is discarded.
enum Piece {
    Bytes(Bytes),
    End,
}

pub(super) async fn receive<B>(
    shared: &Arc<Shared>,
    request: Request<B>,
    remote: &str,
) -> Response<RaftBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let unknown = || shared.stats.of(MemberId::NONE).snapshots_received.failed.inc();
    if let Some(refusal) = refuse(shared, &request, &Method::POST) {
        unknown();
        return refusal;
    }
    meet_sender(shared, &request);
    let Some(_room) = Room::take(shared) else {
        unknown();
        let text = "failed to save KV snapshot (too many snapshots arrive)";
        return of_cluster(shared, error(StatusCode::INTERNAL_SERVER_ERROR, text));
    };
    let response = take(shared, request.into_body(), remote).await;
    of_cluster(shared, response)
}

/// A place among those that may arrive at the same time.
struct Room<'a>(&'a Shared);

impl<'a> Room<'a> {
    fn take(shared: &'a Shared) -> Option<Room<'a>> {
        let room = Room(shared);
        let before = shared.snapshots.fetch_add(1, Ordering::AcqRel);
        (before < PEER_SNAPSHOTS_RECEIVED_MAX).then_some(room)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.snapshots.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes the message, then the file, then hands the message to raft.
async fn take<B>(shared: &Arc<Shared>, mut body: B, remote: &str) -> Response<RaftBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (began, me) = (Instant::now(), shared.me().1);
    let mut intake = Intake::default();
    let message = match read_message(shared, &mut body, &mut intake).await {
        Ok(message) => message,
        Err(problem) => {
            tracing::warn!(
                "local-member-id" = %me,
                "remote-addr" = remote,
                error = problem,
                "failed to decode Raft message"
            );
            let text = format!("failed to decode raft message ({problem})");
            return error(StatusCode::BAD_REQUEST, &text);
        }
    };
    let stats = numbers_of(shared, message.from);
    let under_way = stats.snapshots_received.begin();
    if let Err(refusal) = is_wanted(shared, &message) {
        return *refusal;
    }
    let (from, index) = (message.from, index_of(&message));
    tracing::info!(
        "local-member-id" = %me,
        "remote-snapshot-sender-id" = %from,
        "incoming-snapshot-index" = index.0,
        "receiving database snapshot"
    );
    let bytes = match save(shared, &message, body, intake).await {
        Ok(bytes) => bytes,
        Err(problem) => {
            tracing::warn!(
                "local-member-id" = %me,
                "remote-snapshot-sender-id" = %from,
                "incoming-snapshot-index" = index.0,
                error = problem,
                "failed to save incoming database snapshot"
            );
            let text = format!("failed to save KV snapshot ({problem})");
            return error(StatusCode::INTERNAL_SERVER_ERROR, &text);
        }
    };
    stats.received_bytes.add(bytes);
    tracing::info!(
        "local-member-id" = %me,
        "remote-snapshot-sender-id" = %from,
        "incoming-snapshot-index" = index.0,
        "incoming-snapshot-size-bytes" = bytes,
        "incoming-snapshot-size" = size(bytes),
        "download-took" = ?began.elapsed(),
        "received and saved database snapshot"
    );
    match hand_on(shared, message) {
        Ok(()) => {
            under_way.done(began.elapsed());
            no_content()
        }
        Err(refusal) => *refusal,
    }
}

fn index_of(message: &Message) -> Index {
    message.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index)
}

/// Looks at the message before its gigabytes are taken.
fn is_wanted(shared: &Shared, message: &Message) -> Result<(), Box<Response<RaftBody>>> {
    if message.kind != MessageKind::Snap || index_of(message) == Index(0) {
        tracing::warn!(
            "local-member-id" = %shared.me().1,
            "remote-snapshot-sender-id" = %message.from,
            "message-type" = ?message.kind,
            "unexpected Raft message type"
        );
        return Err(Box::new(error(StatusCode::BAD_REQUEST, "wrong raft message type")));
    }
    shared.admits(message).map_err(|why| Box::new(forbidden(why)))
}

/// The numbers about a sender; those about nobody when it is none that we know.
fn numbers_of(shared: &Shared, from: MemberId) -> Arc<PeerStats> {
    let table = shared.table.load();
    table.find(from).map_or_else(|| shared.stats.of(MemberId::NONE), |peer| Arc::clone(&peer.stats))
}

async fn read_message<B>(
    shared: &Shared,
    body: &mut B,
    intake: &mut Intake,
) -> Result<Message, String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut unfinished = shared.unfinished.part();
    let mut decoder = PlainDecoder::new(PEER_SNAPSHOT_MESSAGE_BYTES_MAX);
    loop {
        match decoder.decode(intake).map_err(|error| error.to_string())? {
            Some(Arrival::Message(message)) => return Ok(message),
            Some(Arrival::Heartbeat) => return Err("a heartbeat".to_owned()),
            None => {}
        }
        let chunk = next_chunk(body).await?.ok_or("unexpected EOF")?;
        intake.push(chunk);
        unfinished.set(intake.len()).map_err(|_| "peers send too much at once")?;
    }
}

/// Carries the file from the network to a thread that may block. Returns its length.
async fn save<B>(
    shared: &Arc<Shared>,
    message: &Message,
    mut body: B,
    mut intake: Intake,
) -> Result<u64, String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (pieces, waiting) = mpsc::channel(PEER_SNAPSHOT_CHUNKS_WAITING_MAX);
    let (local, message) = (Arc::clone(shared.local()), message.clone());
    let writing = tokio::task::spawn_blocking(move || write_all(&*local, &message, waiting));
    let carrying = async {
        for chunk in intake.drain() {
            pieces.send(Piece::Bytes(chunk)).await.map_err(|_| String::new())?;
        }
        let (began, mut arrived) = (Instant::now(), 0);
        while let Some(chunk) = next_chunk(&mut body).await? {
            arrived += chunk.len() as u64;
            if is_too_slow(arrived, began.elapsed().as_secs()) {
                return Err("it arrives too slowly".to_owned());
            }
            pieces.send(Piece::Bytes(chunk)).await.map_err(|_| String::new())?;
        }
        pieces.send(Piece::End).await.map_err(|_| String::new())
    };
    let carried = carrying.await;
    drop(pieces);
    let written = writing.await.map_err(|_| "the writer has panicked".to_owned())?;
    match (carried, written) {
        (Ok(()), Ok(bytes)) => Ok(bytes),
        // The network's problem, unless it was the writer who gave up.
        (Err(problem), _) if !problem.is_empty() => Err(problem),
        (_, Err(problem)) => Err(problem.to_string()),
        (Err(_), Ok(_)) => Err("the file was not taken whole".to_owned()),
    }
}

/// Whether a file of which so many bytes have arrived within so many seconds only keeps
/// others out.
fn is_too_slow(bytes: u64, seconds: u64) -> bool {
    seconds > PEER_SNAPSHOT_GRACE_SECONDS && bytes / seconds < PEER_SNAPSHOT_BYTES_PER_SECOND_MIN
}

/// Writes the file; without the last piece it is discarded.
fn write_all(
    local: &dyn Local,
    message: &Message,
    mut waiting: mpsc::Receiver<Piece>,
) -> io::Result<u64> {
    let mut file = local.incoming_snapshot(message)?;
    let mut bytes = 0;
    loop {
        match waiting.blocking_recv() {
            Some(Piece::Bytes(chunk)) => {
                file.write(&chunk)?;
                bytes += chunk.len() as u64;
            }
            Some(Piece::End) => {
                file.finish()?;
                return Ok(bytes);
            }
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn hand_on(shared: &Shared, message: Message) -> Result<(), Box<Response<RaftBody>>> {
    let result = shared.receive(message);
    shared.local().received();
    result.map_err(|why| {
        Box::new(match why {
            Rejected::Removed | Rejected::Mismatch => forbidden(why),
            Rejected::Refused(why) => {
                let me = shared.me().1;
                tracing::warn!("local-member-id" = %me, error = %why, "failed to process Raft message");
                let text = format!("failed to process raft message ({why})");
                error(StatusCode::INTERNAL_SERVER_ERROR, &text)
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_too_slow;

    #[test]
    fn only_what_is_slow_for_long_is_too_slow() {
        assert!(!is_too_slow(0, 60));
        assert!(is_too_slow(60 << 10, 61));
        assert!(!is_too_slow(1 << 20, 61));
        assert!(is_too_slow(100 << 20, 100 << 10));
    }
}
