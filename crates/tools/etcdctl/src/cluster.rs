//! member list, endpoint health, status and hashkv, alarms, defrag.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Instant;

use mainstay_client::Client;
use mainstay_proto::etcdserverpb as pb;

use crate::exit::{BAD_FEATURE, Failure, status_text};
use crate::session::Session;
use crate::show::{Health, complain, say};
use mainstay_print::duration;

pub(crate) async fn member_list(session: &Session) -> Result<(), Failure> {
    let linearizable = match session.line.text("consistency") {
        "l" => true,
        "s" => false,
        other => {
            return Err(Failure::new(BAD_FEATURE, format!("unknown consistency flag {other:?}")));
        }
    };
    let client = session.client().await?;
    let request = pb::MemberListRequest { linearizable };
    let answer = session.timed(client.cluster().member_list(request)).await?;
    session.show.member_list(&answer.into_inner())
}

/// The endpoints given, or with `--cluster` those of all members.
async fn endpoints(session: &Session) -> Result<Vec<String>, Failure> {
    if !session.line.is("cluster") {
        return Ok(session.endpoints());
    }
    Ok(members(session).await?.into_iter().flat_map(|m| m.client_ur_ls).collect())
}

/// All members, for their endpoints.
async fn members(session: &Session) -> Result<Vec<pb::Member>, Failure> {
    let listing = async {
        let client = session.client().await?;
        let request = pb::MemberListRequest { linearizable: true };
        session.timed(client.cluster().member_list(request)).await
    };
    let members = listing.await.map_err(|Failure { code, message, usage }| {
        let message = format!("failed to fetch endpoints from etcd cluster member list: {message}");
        Failure { code, message, usage }
    })?;
    Ok(members.into_inner().members)
}

/// As [`endpoints`], but with `--cluster` those of the leader are the last: where the others wait
/// for the work, as etcd's do, its clients are disturbed once, at the end.
async fn endpoints_leader_last(session: &Session) -> Result<Vec<String>, Failure> {
    if !session.line.is("cluster") {
        return Ok(session.endpoints());
    }
    let mut members = members(session).await?;
    let mut leader = None;
    for endpoint in members.iter().flat_map(|member| &member.client_ur_ls) {
        // Who does not answer is complained about when it is its turn.
        let Ok(client) = session.connect(endpoint).await else { continue };
        let asked = session.timed(client.maintenance().status(pb::StatusRequest {})).await;
        if let Ok(status) = asked
            && status.get_ref().leader != 0
        {
            leader = Some(status.get_ref().leader);
            break;
        }
    }
    // Stable: the others stay in the list's order.
    members.sort_by_key(|member| Some(member.id) == leader);
    Ok(members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

/// All endpoints are asked at once, and shown in the order in which they answer.
pub(crate) async fn health(session: &Session) -> Result<(), Failure> {
    let endpoints = endpoints(session).await?;
    let asking = endpoints.into_iter().map(|endpoint| health_of(session, endpoint));
    let all = in_order_of_end(asking).await;
    session.show.health(&all)?;
    if all.iter().any(|h| h.error.is_some()) {
        return Err(Failure::error("unhealthy cluster"));
    }
    Ok(())
}

/// Runs all of them, and gathers what they return as they end.
async fn in_order_of_end<T>(work: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = work.map(Box::pin).collect();
    let mut ended = Vec::with_capacity(running.len());
    poll_fn(|context| {
        running.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(value) => {
                ended.push(value);
                false
            }
            Poll::Pending => true,
        });
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    ended
}

async fn health_of(session: &Session, endpoint: String) -> Health {
    let begun = Instant::now();
    let error = match session.connect(&endpoint).await {
        Err(_) => Some("context deadline exceeded".to_owned()),
        Ok(client) => match session.timed(probe(&client)).await {
            Ok(alarms) if alarms.is_empty() => None,
            Ok(alarms) => Some(format!("Active Alarm(s): {alarms}")),
            Err(failure) => Some(failure.message),
        },
    };
    Health { endpoint, took: begun.elapsed(), error }
}

/// A linearizable read of a key, then the alarms by name.
async fn probe(client: &Client) -> Result<String, tonic::Status> {
    let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
    match client.kv().range(request).await {
        // Who may not read has been answered all the same.
        Err(status) if status.code() != tonic::Code::PermissionDenied => return Err(status),
        _ => {}
    }
    let alarms = client.maintenance().alarm(pb::AlarmRequest::default()).await?.into_inner().alarms;
    let name = |a: &pb::AlarmMember| match pb::AlarmType::try_from(a.alarm) {
        Ok(pb::AlarmType::Nospace) => "NOSPACE ",
        Ok(pb::AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    };
    Ok(alarms.iter().map(name).collect())
}

pub(crate) async fn status(session: &Session) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut failed = None;
    for endpoint in endpoints(session).await? {
        let result = match session.connect(&endpoint).await {
            Err(_) => Err(Failure::error("context deadline exceeded")),
            Ok(client) => session.timed(client.maintenance().status(pb::StatusRequest {})).await,
        };
        match result {
            Ok(answer) => all.push((endpoint, answer.into_inner())),
            Err(failure) => {
                let why = &failure.message;
                complain(&format!("Failed to get the status of endpoint {endpoint} ({why})"));
                failed = Some(failure);
            }
        }
    }
    session.show.status(&all)?;
    failed.map_or(Ok(()), |_| Err(Failure::error("")))
}

pub(crate) async fn hash_kv(session: &Session) -> Result<(), Failure> {
    let revision = session.line.int("rev");
    let mut all = Vec::new();
    let mut failed = None;
    for endpoint in endpoints(session).await? {
        let result = match session.connect(&endpoint).await {
            Err(_) => Err(Failure::error("context deadline exceeded")),
            Ok(client) => {
                session.timed(client.maintenance().hash_kv(pb::HashKvRequest { revision })).await
            }
        };
        match result {
            Ok(answer) => all.push((endpoint, answer.into_inner())),
            Err(failure) => {
                complain(&format!(
                    "Failed to get the hash of endpoint {endpoint} ({})",
                    failure.message
                ));
                failed = Some(failure);
            }
        }
    }
    session.show.hash_kv(&all)?;
    failed.map_or(Ok(()), Err)
}

pub(crate) async fn alarm_list(session: &Session) -> Result<(), Failure> {
    let client = session.client().await?;
    let answer = session.timed(client.maintenance().alarm(pb::AlarmRequest::default())).await?;
    session.show.alarms(&answer.into_inner())
}

pub(crate) async fn alarm_disarm(session: &Session) -> Result<(), Failure> {
    let client = session.client().await?;
    let mut maintenance = client.maintenance();
    let answer = session
        .timed(async {
            let raised = maintenance.alarm(pb::AlarmRequest::default()).await?.into_inner();
            // Answers of several calls in one: no header is that of all, and none is shown.
            let mut disarmed = pb::AlarmResponse::default();
            for alarm in raised.alarms {
                let request = pb::AlarmRequest {
                    action: pb::alarm_request::AlarmAction::Deactivate as i32,
                    member_id: alarm.member_id,
                    alarm: alarm.alarm,
                };
                let answer = maintenance.alarm(request).await?.into_inner();
                disarmed.alarms.extend(answer.alarms);
            }
            Ok(disarmed)
        })
        .await?;
    session.show.alarms(&answer)
}

pub(crate) async fn defrag(session: &Session) -> Result<(), Failure> {
    let mut failed = false;
    for endpoint in endpoints_leader_last(session).await? {
        let begun = Instant::now();
        // A big file takes longer than a short command, unless its time was given.
        let result = match session.connect(&endpoint).await {
            Err(_) => Err("context deadline exceeded".to_owned()),
            Ok(client) => {
                let mut maintenance = client.maintenance();
                let work = maintenance.defragment(pb::DefragmentRequest {});
                if session.line.given("command-timeout") {
                    session.timed(work).await.map(drop).map_err(|f| f.message)
                } else {
                    work.await.map(drop).map_err(|s| status_text(&s))
                }
            }
        };
        let took = duration::show(begun.elapsed());
        match result {
            Ok(()) => say(&format!("Finished defragmenting etcd member[{endpoint}]. took {took}")),
            Err(why) => {
                complain(&format!(
                    "Failed to defragment etcd member[{endpoint}]. took {took}. ({why})"
                ));
                failed = true;
            }
        }
    }
    if failed { Err(Failure::error("")) } else { Ok(()) }
}
