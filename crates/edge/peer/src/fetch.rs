//! Fetching the db of another member, for one that does not start without it.
//!
//! All are asked at once how far they are; the leader is asked for its db, or else whoever has
//! applied most. Nothing of the member itself runs yet.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mainstay_driver::{DbAsk, DbFetched, FetchError, Identity};
use mainstay_types::limits::{PEER_ANSWER_BYTES_MAX, PEER_SNAPSHOT_CHUNKS_WAITING_MAX};
use mainstay_types::{Index, MemberId, Term};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::client::{Connection, Dialer, OutBody, told};
use crate::face::db::{LOOK, PATH, SUM_BYTES};
use crate::headers::{
    CLUSTER_ID, DB_BYTES, DB_INDEX, DB_LEADER, DB_TERM, introduce, member_id, text,
};
use crate::snapshot::size;
use crate::url::Origin;

/// How long one URL may take to say how far its member is.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the head of the answer may take: the other one commits before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nothing may arrive.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a line says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// What the thread that writes gets.
pub(crate) enum Piece {
    Bytes(Bytes),
    End(Result<DbFetched, FetchError>),
}

/// Where the pieces come out.
pub(crate) type Pieces = mpsc::Receiver<Piece>;

/// A way for the pieces.
pub(crate) fn pieces() -> (mpsc::Sender<Piece>, Pieces) {
    mpsc::channel(PEER_SNAPSHOT_CHUNKS_WAITING_MAX)
}

/// What the members are reached by.
pub(crate) struct Asker<'a> {
    pub(crate) dialer: &'a Dialer,
    pub(crate) own_urls: &'a [String],
    pub(crate) ask: &'a DbAsk,
}

/// A member that has a db to give.
struct Giver {
    id: MemberId,
    origin: Origin,
    applied: Index,
    leads: bool,
}

/// Why a member has none.
struct No {
    why: String,
    /// It will not have one later either.
    for_good: bool,
}

impl No {
    fn now(why: impl ToString) -> No {
        No { why: why.to_string(), for_good: false }
    }

    fn ever(why: impl ToString) -> No {
        No { why: why.to_string(), for_good: true }
    }
}

impl Asker<'_> {
    /// Fetches; the outcome is the last piece.
    pub(crate) async fn run(&self, pieces: &mpsc::Sender<Piece>) {
        let outcome = self.fetch(pieces).await;
        // Whoever waits for it may have given up.
        let _ = pieces.send(Piece::End(outcome)).await;
    }

    async fn fetch(&self, pieces: &mpsc::Sender<Piece>) -> Result<DbFetched, FetchError> {
        let mut refusals = Vec::new();
        for giver in self.choose().await? {
            let Giver { id, origin, applied, leads } = &giver;
            tracing::info!(
                "remote-peer-id" = %id,
                "remote-peer-url" = %origin,
                "applied-index" = applied.0,
                leads,
                "fetching the database of another member"
            );
            match self.take(&giver, pieces).await {
                Ok(fetched) => return Ok(fetched),
                // Nothing of it has left yet.
                Err(Taken::Nothing(no)) => refusals.push(format!("member {id}: {}", no.why)),
                Err(Taken::Part(no)) => {
                    return Err(FetchError::Broken { from: *id, why: no.why });
                }
            }
        }
        Err(FetchError::NotYet(refusals.join("; ")))
    }

    /// Asks everybody how far they are; the best comes first.
    async fn choose(&self) -> Result<Vec<Giver>, FetchError> {
        let looks = self.ask.others.iter().map(|(id, urls)| self.look(*id, urls));
        let mut givers = Vec::new();
        let (mut said, mut for_good) = (Vec::new(), true);
        for (found, (id, _)) in join_all(looks).await.into_iter().zip(&self.ask.others) {
            match found {
                Ok(giver) if giver.applied >= self.ask.least => givers.push(giver),
                Ok(giver) => {
                    for_good = false;
                    let (has, least) = (giver.applied, self.ask.least);
                    said.push(format!("member {id} has applied {has}, and {least} is needed"));
                }
                Err(no) => {
                    for_good &= no.for_good;
                    said.push(format!("member {id}: {}", no.why));
                }
            }
        }
        if givers.is_empty() {
            let said = said.join("; ");
            return Err(if for_good { FetchError::Never(said) } else { FetchError::NotYet(said) });
        }
        // The leader, else the one that is furthest.
        let rank = |giver: &Giver| (!self.ask.last.contains(&giver.id), giver.leads, giver.applied);
        givers.sort_by_key(|giver| std::cmp::Reverse(rank(giver)));
        Ok(givers)
    }

    async fn look(&self, id: MemberId, urls: &[String]) -> Result<Giver, No> {
        let mut last = No::now("it has no URL that can be dialed");
        for origin in urls.iter().filter_map(|url| Origin::parse(url)) {
            match timeout(LOOK_TIMEOUT, self.look_at(id, &origin)).await {
                Ok(Ok(giver)) => return Ok(giver),
                Ok(Err(no)) => last = no,
                Err(_) => last = No::now(format!("{origin}: no answer")),
            }
        }
        Err(last)
    }

    async fn look_at(&self, id: MemberId, origin: &Origin) -> Result<Giver, No> {
        let (_connection, response) = self.get(origin, &format!("{PATH}?{LOOK}")).await?;
        let head = self.understand(response).await?.0;
        let number = |name| text(&head, name).parse::<u64>().ok();
        let applied = number(&DB_INDEX).ok_or_else(|| No::now("an answer without an index"))?;
        let leads = member_id(text(&head, &DB_LEADER)) == Some(id);
        Ok(Giver { id, origin: origin.clone(), applied: Index(applied), leads })
    }

    async fn get(
        &self,
        origin: &Origin,
        path: &str,
    ) -> Result<(Connection, Response<Incoming>), No> {
        let mut connection = self.dialer.connect(origin).await.map_err(No::now)?;
        let mut request = Request::new(OutBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = path.parse().map_err(No::ever)?;
        let Identity { cluster, member } = self.ask.identity;
        let head = request.headers_mut();
        introduce(head, origin.host(), (cluster, member), self.own_urls);
        let response = connection.send(request).await.map_err(|error| No::now(told(error)))?;
        Ok((connection, response))
    }

    /// The answer's head, when it is one of a member of ours in this cluster that has
    /// something to say.
    async fn understand(&self, response: Response<Incoming>) -> Result<(HeaderMap, Incoming), No> {
        let (head, body) = response.into_parts();
        if head.status == StatusCode::OK {
            let cluster = text(&head.headers, &CLUSTER_ID);
            if cluster != self.ask.identity.cluster.to_string() {
                return Err(No::ever(format!("it belongs to cluster {cluster:?}")));
            }
            return Ok((head.headers, body));
        }
        let limited = http_body_util::Limited::new(body, PEER_ANSWER_BYTES_MAX);
        let said = limited.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).trim_end().to_owned();
        Err(match head.status {
            StatusCode::NOT_FOUND => {
                No::ever("it gives no database: it is etcd's own, or an older Mainstay")
            }
            StatusCode::GONE => No::ever("this member was removed from the cluster"),
            StatusCode::PRECONDITION_FAILED => No::ever(said),
            status => No::now(format!("{status}: {said}")),
        })
    }

    async fn take(&self, giver: &Giver, pieces: &mpsc::Sender<Piece>) -> Result<DbFetched, Taken> {
        let getting = async {
            let (connection, response) = self.get(&giver.origin, PATH).await?;
            Ok((connection, self.understand(response).await?))
        };
        let got =
            timeout(HEAD_TIMEOUT, getting).await.unwrap_or_else(|_| Err(No::now("no answer")));
        let (_connection, (head, body)) = got.map_err(Taken::Nothing)?;
        let number = |name| text(&head, name).parse::<u64>().ok();
        let numbers = (number(&DB_INDEX), number(&DB_TERM), number(&DB_BYTES));
        let (Some(index), Some(term), Some(bytes)) = numbers else {
            return Err(Taken::Nothing(No::now("an answer that does not say what it gives")));
        };
        carry(giver.id, body, bytes, pieces).await.map_err(Taken::Part)?;
        Ok(DbFetched { from: giver.id, index: Index(index), term: Term(term), bytes })
    }
}

/// Why a db was not taken: before anything of it was written, or in the middle.
enum Taken {
    Nothing(No),
    Part(No),
}

/// Carries `bytes` of a db, and what sums them, to the thread that writes.
async fn carry(
    from: MemberId,
    mut body: Incoming,
    bytes: u64,
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), No> {
    let mut arriving = Arriving { bytes, at: 0, sum: Sha256::new(), behind: Vec::new() };
    let mut said = Instant::now();
    loop {
        let frame = timeout(STALL_TIMEOUT, body.frame()).await;
        let Some(frame) = frame.map_err(|_| No::now("nothing more arrives"))? else { break };
        let chunk = frame.map_err(|error| No::now(told(error)))?.into_data();
        let chunk = arriving.take(chunk.unwrap_or_default())?;
        if !chunk.is_empty() && pieces.send(Piece::Bytes(chunk)).await.is_err() {
            return Err(No::now("it could not be written"));
        }
        if said.elapsed() >= PROGRESS_INTERVAL {
            said = Instant::now();
            let (got, of) = (size(arriving.at), size(bytes));
            tracing::info!("remote-peer-id" = %from, got, of, "still fetching the database");
        }
    }
    arriving.finish()
}

/// How far a db has come.
struct Arriving {
    bytes: u64,
    at: u64,
    sum: Sha256,
    /// What came behind the db: its checksum.
    behind: Vec<u8>,
}

impl Arriving {
    /// The part of a chunk that belongs to the db.
    fn take(&mut self, mut chunk: Bytes) -> Result<Bytes, No> {
        let of_db = usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX).min(chunk.len());
        let behind = chunk.split_off(of_db);
        self.at += of_db as u64;
        self.sum.update(&chunk);
        self.behind.extend_from_slice(&behind);
        if self.behind.len() as u64 > SUM_BYTES {
            return Err(No::now("more arrived than was announced"));
        }
        Ok(chunk)
    }

    fn finish(self) -> Result<(), No> {
        if self.at < self.bytes || (self.behind.len() as u64) < SUM_BYTES {
            return Err(No::now(format!("it broke off after {} bytes of {}", self.at, self.bytes)));
        }
        if self.sum.finalize().as_slice() != self.behind {
            return Err(No::now("what arrived is not what was sent: its SHA-256 is another"));
        }
        Ok(())
    }
}

/// Waits for all of them, side by side.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut left = false;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(done) => *output = Some(done),
                    std::task::Poll::Pending => left = true,
                }
            }
        }
        if left { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

/// Writes what arrives; the outcome comes last.
///
/// # Errors
/// As [`mainstay_driver::Transport::fetch_db`].
pub(crate) fn write(
    mut pieces: Pieces,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<DbFetched, FetchError> {
    loop {
        match pieces.blocking_recv() {
            Some(Piece::Bytes(bytes)) => sink(&bytes).map_err(FetchError::Sink)?,
            Some(Piece::End(outcome)) => return outcome,
            None => return Err(FetchError::NotYet("the transport has ended".to_owned())),
        }
    }
}
