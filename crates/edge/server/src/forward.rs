//! Calls that only the leader can answer, answered by any member (semantics 7.5 to
//! 7.8 and 8.5): here when it leads, else by asking the leader, again and again until
//! the request timeout.

use std::future::Future;
use std::time::Duration;

use mainstay_driver::{CallError, PeerAnswer, PeerCall};
use mainstay_membership::reconfigure::{self, Progress, Refusal};
use mainstay_membership::{Change, ValidateError};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::{Index, LeaseId, MemberId};

use crate::cluster::Led;
use crate::errors;
use crate::gate::Permitted;
use crate::member::Member;
use crate::status::Status;

/// Between two attempts (etcd throttles renewals by as much).
const PAUSE: Duration = Duration::from_millis(50);

/// What to do with a leader's answer.
enum Heard<T> {
    Final(Result<T, Status>),
    /// It could not say; perhaps it leads no more.
    Again,
}

/// Extends a lease; its TTL in seconds, or `None` when there is no such lease.
pub(crate) async fn renew_lease<M: Member>(
    member: &M,
    request: &Permitted<pb::LeaseKeepAliveRequest>,
) -> Result<Option<i64>, Status> {
    let lease = request.id;
    let question = PeerCall::LeaseRenew { lease: LeaseId(lease) };
    let hear = |answer| match answer {
        Ok(PeerAnswer::LeaseRenewed(0)) => Heard::Final(Ok(None)),
        Ok(PeerAnswer::LeaseRenewed(ttl)) => Heard::Final(Ok(Some(ttl))),
        Err(CallError::Refused { status: 404, .. }) => Heard::Final(Ok(None)),
        _ => Heard::Again,
    };
    let here = || async {
        match member.lease_renew(request).await? {
            // It may be on its way, or gone under another leader (semantics 7.7).
            Led::Here(None) => {
                caught_up(member).await?;
                member.lease_renew(request).await
            }
            answer => Ok(answer),
        }
    };
    by_the_leader(member, here, &question, hear).await
}

/// Times of a lease, and its keys if asked for. A TTL of -1 means that there is no
/// such lease. The header is not filled.
pub(crate) async fn lease_times<M: Member>(
    member: &M,
    request: &Permitted<pb::LeaseTimeToLiveRequest>,
) -> Result<pb::LeaseTimeToLiveResponse, Status> {
    let (id, keys) = (request.id, request.keys);
    let missing = || pb::LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() };
    let hear = |answer| match answer {
        Ok(PeerAnswer::LeaseTimes { ttl, granted, keys }) => {
            let times =
                pb::LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl: granted, keys };
            // What is left of a lease that waits for its revocation may be -1 too.
            Heard::Final(Ok(if granted == 0 { missing() } else { times }))
        }
        Err(CallError::Refused { status: 404, .. }) => Heard::Final(Ok(missing())),
        _ => Heard::Again,
    };
    let question = PeerCall::LeaseTimes { lease: LeaseId(id), keys };
    let here = || async {
        caught_up(member).await?;
        member.lease_time_to_live(request).await
    };
    by_the_leader(member, here, &question, hear).await
}

/// Who was deposed without noticing must not promise anything; and what is being
/// granted may not be applied yet.
async fn caught_up<M: Member>(member: &M) -> Result<(), Status> {
    member.linearizable().await
}

/// Gives a learner a vote; the members after it.
pub(crate) async fn promote<M: Member>(
    member: &M,
    request: &Permitted<pb::MemberPromoteRequest>,
) -> Result<Vec<mainstay_membership::Member>, Status> {
    let hear = |answer| match answer {
        Ok(PeerAnswer::Promoted(members)) => Heard::Final(Ok(members)),
        Err(CallError::Refused { status: 404, .. }) => {
            Heard::Final(Err(errors::MEMBER_NOT_FOUND.status()))
        }
        Err(CallError::Refused { status: 412, body }) => {
            let known =
                [Refusal::LearnerNotReady.to_string(), ValidateError::NotLearner.to_string()];
            match known.into_iter().find(|text| body.contains(text.as_str())) {
                Some(text) => Heard::Final(Err(errors::from_text(text))),
                None => Heard::Again,
            }
        }
        _ => Heard::Again,
    };
    let question = PeerCall::Promote { member: MemberId(request.id) };
    by_the_leader(member, || promote_here(member, request), &question, hear).await
}

/// Promotes a learner if this member leads.
///
/// # Errors
/// Why the learner may not be promoted, or why the change failed.
pub(crate) async fn promote_here<M: Member>(
    member: &M,
    request: &Permitted<pb::MemberPromoteRequest>,
) -> Result<Led<Vec<mainstay_membership::Member>>, Status> {
    let id = MemberId(request.id);
    let own = member.identity().member;
    if member.standing().leader == own {
        caught_up(member).await?;
    }
    let logs = member.progress().await?;
    let of = |id| logs.iter().find(|(of, _)| *of == id).map(|(_, index)| *index);
    let Some(leader) = of(own) else { return Ok(Led::Elsewhere) };
    let progress = Progress { member: of(id), leader };
    let allowed = reconfigure::is_in_sync(progress).and_then(|()| {
        if member.strict_reconfig() {
            reconfigure::may_promote(&member.membership())
        } else {
            Ok(())
        }
    });
    if let Err(refusal) = allowed {
        refused_to_promote(id, progress, refusal);
        member.stats().learners_not_promoted.inc(&refusal.to_string());
        return Err(errors::from_text(refusal.to_string()));
    }
    let changed = member.change_membership(request.meaning(Change::Promote(id))).await;
    let members = changed.inspect_err(|status| {
        member.stats().learners_not_promoted.inc(inside(member, id, status));
    })?;
    member.stats().learners_promoted.inc();
    Ok(Led::Here(members))
}

/// What etcd's metric says, which has the member's own words instead of the clients'.
fn inside<'a, M: Member>(member: &M, id: MemberId, status: &'a Status) -> &'a str {
    match &*status.message {
        text if text == errors::MEMBER_NOT_LEARNER.text => {
            "membership: can only promote a learner member"
        }
        text if text != errors::MEMBER_NOT_FOUND.text => text,
        _ if member.membership().is_removed(id) => "membership: ID removed",
        _ => "membership: ID not found",
    }
}

fn refused_to_promote(id: MemberId, progress: Progress, refusal: Refusal) {
    let at = progress.member.unwrap_or(Index(0));
    tracing::warn!(
        "requested-member-promote-id" = %id,
        "member-match" = at.0,
        "leader-match" = progress.leader.0,
        error = %refusal,
        "rejecting member promote request"
    );
}

/// Tries `here`, and while that is not the place asks who leads.
async fn by_the_leader<M, T, F>(
    member: &M,
    mut here: impl FnMut() -> F,
    question: &PeerCall,
    mut hear: impl FnMut(Result<PeerAnswer, CallError>) -> Heard<T>,
) -> Result<T, Status>
where
    M: Member,
    F: Future<Output = Result<Led<T>, Status>>,
{
    let own = member.identity().member;
    let asking = async {
        loop {
            let leader = member.standing().leader;
            if leader == own {
                if let Led::Here(answer) = here().await? {
                    return Ok(answer);
                }
            } else if leader != MemberId::NONE {
                // A transport that ends drops the answer.
                if let Ok(answer) = member.call(leader, question.clone()).await
                    && let Heard::Final(result) = hear(answer)
                {
                    return result;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(member.settings().request_timeout, asking).await {
        Ok(result) => result,
        Err(_) if member.standing().leader == MemberId::NONE => Err(errors::NO_LEADER.status()),
        Err(_) => Err(errors::TIMEOUT.status()),
    }
}
