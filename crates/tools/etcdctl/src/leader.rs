//! move-leader, downgrade and upgrade.

use mainstay_proto::{etcdserverpb as pb, mainstaypb};
use pb::downgrade_request::DowngradeAction;

use crate::exit::Failure;
use crate::session::Session;
use mainstay_print::number::parse_uint;

/// Asks the leader, which must be one of the endpoints, to hand over.
pub(crate) async fn move_leader(session: &Session) -> Result<(), Failure> {
    let [target] = session.line.args.as_slice() else {
        return Err(Failure::bad_args("move-leader command needs 1 argument"));
    };
    let target = parse_uint(target, 16).map_err(Failure::bad_args)?;
    let endpoints = session.endpoints();
    for endpoint in &endpoints {
        let connected = session.connect(endpoint).await;
        let client = connected.map_err(|_| Failure::error("context deadline exceeded"))?;
        let mut maintenance = client.maintenance();
        let status = session.timed(maintenance.status(pb::StatusRequest {})).await?.into_inner();
        let leader = status.leader;
        if status.header.is_none_or(|header| header.member_id != leader) {
            continue;
        }
        let request = pb::MoveLeaderRequest { target_id: target };
        let answer = session.timed(maintenance.move_leader(request)).await?;
        return session.show.move_leader(leader, target, &answer.into_inner());
    }
    let given = endpoints.join(" ");
    Err(Failure::bad_args(format!("no leader endpoint given at [{given}]")))
}

pub(crate) async fn downgrade(session: &Session, action: DowngradeAction) -> Result<(), Failure> {
    let (name, version) = match action {
        DowngradeAction::Validate => ("validate", target(session)?),
        DowngradeAction::Enable => ("enable", target(session)?),
        DowngradeAction::Cancel => ("cancel", ""),
    };
    let client = session.client().await?;
    let request = pb::DowngradeRequest { action: action as i32, version: version.to_owned() };
    let answer = session.timed(client.maintenance().downgrade(request)).await?;
    session.show.downgrade(name, &answer.into_inner())
}

fn target(session: &Session) -> Result<&str, Failure> {
    match session.line.args.as_slice() {
        [] => Err(Failure::bad_args("TARGET_VERSION not provided")),
        [target] if target.is_empty() => Err(Failure::bad_args("target version not provided")),
        [target] => Ok(target),
        _ => Err(Failure::bad_args("too many arguments")),
    }
}

/// What runs where, and what holds the cluster's version.
pub(crate) async fn upgrade_status(session: &Session) -> Result<(), Failure> {
    let client = session.client().await?;
    let answer = session.timed(client.upgrade().status(mainstaypb::StatusRequest {})).await;
    session.show.upgrade(&answer.map_err(not_ours)?.into_inner())
}

/// Raises the cluster's version to the lowest of its members'.
pub(crate) async fn upgrade_finalize(session: &Session) -> Result<(), Failure> {
    let client = session.client().await?;
    let answer = session.timed(client.upgrade().finalize(mainstaypb::FinalizeRequest {})).await;
    session.show.finalized(&answer.map_err(not_ours)?.into_inner())
}

/// A member of etcd's own has no such calls.
fn not_ours(failure: Failure) -> Failure {
    if failure.message.contains("unknown service mainstaypb.Upgrade") {
        return Failure::error("this endpoint's member does not run Mainstay: ask one that does");
    }
    failure
}
