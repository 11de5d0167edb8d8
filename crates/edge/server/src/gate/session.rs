//! Calls that last: what was allowed when they began may be allowed no more.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use mainstay_apply::AuthError;
use mainstay_audit::{Asked, Trail};
use mainstay_proto::etcdserverpb as pb;
use tokio::sync::watch;

use super::{Caller, Permitted, caller, permit_now};
use crate::audit;
use crate::call::Call;
use crate::errors;
use crate::member::{Doorkeeper, Member};
use crate::status::Status;

/// A call of many messages, and its caller.
pub(crate) struct Session<M> {
    member: M,
    call: Call,
    caller: Caller,
    changes: Changes,
    trail: Option<Trail>,
}

impl<M: Member> Session<M> {
    /// `caller` has entered with `call`.
    pub(crate) fn new(member: M, call: Call, caller: Caller, trail: Option<Trail>) -> Session<M> {
        let changes = Changes::new(member.auth_changes());
        Session { member, call, caller, changes, trail }
    }

    /// Records one of its messages: who sent it, as far as that was seen, and how it ended.
    pub(crate) fn note(
        &self,
        caller: Option<&Caller>,
        asked: impl FnOnce() -> Asked,
        result: Result<(), &Status>,
    ) {
        if let Some(trail) = &self.trail {
            audit::note_message(trail, &self.call, caller, asked, result);
        }
    }

    /// Who sends the next message: what was shown at the beginning is looked at again, as
    /// etcd does for each.
    ///
    /// # Errors
    /// The token is not good any more.
    pub(crate) fn caller(&self) -> Result<Caller, Status> {
        if !self.member.auth_enabled() {
            return Ok(Caller::nobody());
        }
        caller::recognize_now(&self.member, &self.call)
    }

    /// The caller as users and roles are now, for what it is doing already.
    ///
    /// # Errors
    /// It may do nothing more: it is gone, has another password, or is nobody while
    /// authentication was turned on.
    pub(crate) fn lasting(&self) -> Result<Caller, Status> {
        self.caller.lasting(&self.member)
    }

    /// Ready when users or roles have changed since the last time.
    pub(crate) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.changes.poll(cx)
    }
}

/// Changes of users and roles, one after another.
struct Changes(Pin<Box<dyn Future<Output = watch::Receiver<u64>>>>);

impl Changes {
    fn new(mut changes: watch::Receiver<u64>) -> Changes {
        Changes(Box::pin(async move {
            if changes.changed().await.is_err() {
                // The member ends, and its streams with it.
                std::future::pending::<()>().await;
            }
            changes
        }))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(changes) = self.0.as_mut().poll(cx) else { return Poll::Pending };
        *self = Changes::new(changes);
        Poll::Ready(())
    }
}

impl<M: Member> Doorkeeper for Session<M> {
    fn admit(
        &mut self,
        create: pb::WatchCreateRequest,
    ) -> Result<Permitted<pb::WatchCreateRequest>, Cow<'static, str>> {
        let range = self.trail.is_some().then(|| (create.key.clone(), create.range_end.clone()));
        let caller = self.caller();
        let admitted = match &caller {
            Ok(caller) => permit_now(&self.member, caller, create).map_err(|(status, _)| status),
            Err(status) => Err(status.clone()),
        };
        if let Some((key, range_end)) = range {
            let asked = || Asked::of_range("watch", &key, &range_end);
            self.note(caller.as_ref().ok(), asked, admitted.as_ref().map(drop));
        }
        admitted.map_err(|status| cancel_reason(&status))
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.changes.poll(cx).map(|()| self.lasting().map(drop))
    }

    fn may_see(&self, key: &Bytes, range_end: &Bytes) -> Result<(), Cow<'static, str>> {
        let caller = self.lasting().map_err(|status| cancel_reason(&status))?;
        let (key, range_end) = (key.clone(), range_end.clone());
        let range = pb::RangeRequest { key, range_end, ..Default::default() };
        let seen = permit_now(&self.member, &caller, range);
        seen.map(drop).map_err(|(status, _)| cancel_reason(&status))
    }

    fn is_watched(&self) -> bool {
        self.member.auth_enabled()
    }
}

/// What a watcher that may not be is told: etcd's client error as Go prints it, and
/// `permission denied` for every other reason than etcd's three.
pub(crate) fn cancel_reason(status: &Status) -> Cow<'static, str> {
    let named = [errors::INVALID_AUTH_TOKEN, errors::AUTH_OLD_REVISION, errors::USER_EMPTY];
    let known = named.into_iter().find(|known| known.status() == *status);
    let known = known.unwrap_or(errors::PERMISSION_DENIED);
    format!("rpc error: code = {:?} desc = {}", known.code, known.text).into()
}

/// Ends, with the reason, when the caller of a stream may do nothing more.
pub(crate) async fn expelled<M: Member>(
    member: M,
    caller: Caller,
    may_still: impl Fn(&Caller) -> Result<(), AuthError>,
) -> Status {
    let mut changes = member.auth_changes();
    loop {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        match caller.lasting(&member) {
            Err(status) => return status,
            Ok(caller) => {
                if let Err(error) = may_still(&caller) {
                    return error.into();
                }
            }
        }
    }
}
