//! How far away a peer is: a question every few seconds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::client::{Answer, OutBody};
use crate::peer::Peer;
use crate::shared::Shared;

/// Between two questions (etcd: the read timeout of connections less a second, so
/// that a kept connection stays alive).
const INTERVAL: Duration = Duration::from_secs(4);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two lines about a peer that does not answer.
const COMPLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Probes a peer, for as long as the task lives.
pub(crate) async fn run(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut complained: Option<Instant> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let began = Instant::now();
        let problem = match tokio::time::timeout(PATIENCE, probe(&shared, &peer)).await {
            Ok(Ok(answer)) if answer.status == 200 => {
                peer.stats.round_trip.observe(began.elapsed());
                complained = None;
                continue;
            }
            Ok(Ok(answer)) => format!("http status {}", answer.status),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_INTERVAL) {
            complained = Some(Instant::now());
            tracing::warn!(
                "round-tripper-name" = "ROUND_TRIPPER_RAFT_MESSAGE",
                "remote-peer-id" = %peer.id,
                error = problem,
                "prober detected unhealthy status"
            );
        }
    }
}

async fn probe(shared: &Shared, peer: &Peer) -> io::Result<Answer> {
    let Some(origin) = peer.picker.pick() else {
        return Err(io::Error::other("it has no URL"));
    };
    let body = OutBody::empty;
    let request = || Peer::request(shared, &origin, Method::GET, "/raft/probing", body());
    Ok(peer.pool.ask(&shared.dialer, &origin, request).await?)
}
