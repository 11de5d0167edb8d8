//! lease grant, revoke, timetolive, list, keep-alive.

use std::time::Duration;

use mainstay_proto::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::exit::{BAD_CONNECTION, Failure, parse_int};
use crate::session::Session;
use crate::show::{Form, say};

fn one_argument<'a>(session: &'a Session, command: &str, what: &str) -> Result<&'a str, Failure> {
    match session.line.args.as_slice() {
        [one] => Ok(one),
        _ => Err(Failure::bad_args(format!("lease {command} command needs {what}"))),
    }
}

pub(crate) async fn grant(session: &Session) -> Result<(), Failure> {
    let ttl = one_argument(session, "grant", "TTL argument")?;
    let ttl = parse_int(ttl, 10).map_err(|e| Failure::bad_args(format!("bad TTL ({e})")))?;
    let client = session.client().await?;
    let request = pb::LeaseGrantRequest { ttl, id: 0 };
    let answer = session.timed(client.lease().lease_grant(request)).await;
    let answer = answer.map_err(|failure| not_done("grant", failure))?;
    session.show.grant(&answer.into_inner())
}

pub(crate) async fn revoke(session: &Session) -> Result<(), Failure> {
    let id = lease_id(one_argument(session, "revoke", "1 argument")?)?;
    let client = session.client().await?;
    let request = pb::LeaseRevokeRequest { id };
    let answer = session.timed(client.lease().lease_revoke(request)).await;
    let answer = answer.map_err(|failure| not_done("revoke", failure))?;
    session.show.revoke(id, &answer.into_inner())
}

fn not_done(what: &str, failure: Failure) -> Failure {
    let message = format!("failed to {what} lease ({})", failure.message);
    Failure { message, ..failure }
}

/// A lease id in hexadecimal.
fn lease_id(text: &str) -> Result<i64, Failure> {
    parse_int(text, 16)
        .map_err(|e| Failure::bad_args(format!("bad lease ID arg ({e}), expecting ID in Hex")))
}

/// These three end with the code of a bad connection when the server refuses.
fn refused(status: tonic::Status) -> Failure {
    Failure { code: BAD_CONNECTION, ..status.into() }
}

pub(crate) async fn time_to_live(session: &Session) -> Result<(), Failure> {
    let id = lease_id(one_argument(session, "timetolive", "lease ID as argument")?)?;
    let keys = session.line.is("keys");
    let client = session.client().await?;
    let request = pb::LeaseTimeToLiveRequest { id, keys };
    let answer = client.lease().lease_time_to_live(request).await.map_err(refused)?;
    session.show.time_to_live(&answer.into_inner(), keys)
}

pub(crate) async fn list(session: &Session) -> Result<(), Failure> {
    let client = session.client().await?;
    let answer = client.lease().lease_leases(pb::LeaseLeasesRequest {}).await.map_err(refused)?;
    session.show.leases(&answer.into_inner())
}

pub(crate) async fn keep_alive(session: &Session) -> Result<(), Failure> {
    let id = lease_id(one_argument(session, "keep-alive", "lease ID as argument")?)?;
    let once = session.line.is("once");
    let client = session.client().await?;
    let (requests, stream) = mpsc::channel(1);
    let request = pb::LeaseKeepAliveRequest { id };
    // The channel has room for one, and nothing was sent yet.
    let _ = requests.try_send(request);
    let mut answers = client
        .lease()
        .lease_keep_alive(ReceiverStream::new(stream))
        .await
        .map_err(refused)?
        .into_inner();
    while let Some(answer) = answers.message().await.map_err(refused)? {
        if answer.ttl <= 0 {
            if once {
                return Err(Failure::new(BAD_CONNECTION, "etcdserver: requested lease not found"));
            }
            break;
        }
        let ttl = answer.ttl;
        session.show.keep_alive(&answer)?;
        if once {
            return Ok(());
        }
        // Go's client renews three times within the time to live.
        tokio::time::sleep(Duration::from_millis(ttl as u64 * 1000 / 3)).await;
        if requests.send(request).await.is_err() {
            break;
        }
    }
    if session.show.form == Form::Simple {
        say(&format!("lease {id:016x} expired or revoked."));
    }
    Ok(())
}
