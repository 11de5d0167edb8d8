//! The one door to the store.
//!
//! **How an identity reaches a call.** Whoever serves a call (gRPC, the JSON gateway, a
//! websocket, the lock service) makes a [`Call`] of it, with the request's metadata and with
//! the [`Peer`](crate::call::Peer) of its connection. `Services` asks [`who_calls`] once for each
//! call: it finds out who it is (a token, else the common name of the certificate), a
//! [`Caller`]; [`let_in`] turns away whom the call's row in [`crate::method`] does not let in
//! at all. For each operation the service then asks [`permit`], with the request and
//! the caller, for a [`Permitted`] request; the operations of
//! [`Member`] take nothing else. A `Permitted` is made here and nowhere else, what it holds
//! cannot be changed afterwards, and it carries the identity into the log, where every
//! member looks again when it applies the entry.
//!
//! Rows and requests without a rule do not compile. While authentication is off everybody
//! may do everything, and a look costs one atomic load.
//!
//! **What is read is looked at twice**: before, and after, against the state of users and
//! roles that was published before the view that was read ([`Permitted::still`]); a read that
//! raced a change is refused with etcd's `revision of auth store is old`.
//!
//! **Streams** ask again whenever users or roles change: [`Session`].

mod caller;
mod session;

use std::fmt;
use std::ops::Deref;

use mainstay_apply::{Auth, AuthError, AuthRequest, Identity, permission};
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mainstaypb;
use pb::alarm_request::AlarmAction;

use crate::call::Call;
use crate::errors;
use crate::member::Member;
use crate::method::Rule;
use crate::status::Status;

pub(crate) use caller::Caller;
pub(crate) use session::{Session, expelled};

/// A request that its caller may make.
pub struct Permitted<T> {
    request: T,
    who: Identity,
    /// Whether authentication was on when it was looked at.
    checked: bool,
}

/// Not the request: it may hold values and passwords.
impl<T> fmt::Debug for Permitted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permitted").field("who", &self.who.user).finish_non_exhaustive()
    }
}

impl<T> Deref for Permitted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.request
    }
}

impl<T> Permitted<T> {
    fn new(request: T, caller: &Caller, auth: &Auth) -> Permitted<T> {
        Permitted { request, who: caller.who().clone(), checked: auth.is_enabled() }
    }

    /// What this member asks of itself, or another member of it, which has looked at who
    /// asks. Never what a client has said.
    pub(crate) fn of_a_member(request: T) -> Permitted<T> {
        Permitted { request, who: Identity::default(), checked: true }
    }

    /// In whose name it goes into the log.
    pub fn who(&self) -> &Identity {
        &self.who
    }

    /// The request, and in whose name.
    pub fn into_parts(self) -> (T, Identity) {
        (self.request, self.who)
    }

    /// Whether an answer that was read after the look may be given out, with users and roles
    /// as they are after the reading.
    ///
    /// # Errors
    /// They were changed meanwhile.
    pub fn still(&self, enabled: bool, auth: impl FnOnce() -> u64) -> Result<(), Status> {
        if !enabled {
            return Ok(());
        }
        if !self.checked {
            return Err(AuthError::UserEmpty.into());
        }
        if self.who.revision != 0 && self.who.revision != auth() {
            return Err(AuthError::OldRevision.into());
        }
        Ok(())
    }
}

impl Permitted<pb::RangeRequest> {
    /// The next piece of the same range: it begins at or behind where this begins, and ends
    /// where this ends.
    pub(crate) fn next_piece(&mut self, key: bytes::Bytes, revision: i64) {
        assert!(key >= self.request.key, "a stream of pieces goes forward");
        self.request.key = key;
        self.request.revision = revision;
    }

    /// At most so many keys of it.
    pub(crate) fn set_limit(&mut self, limit: i64) {
        self.request.limit = limit;
    }
}

/// Requests that only root may make: whoever may make one may make all that follows from it.
pub trait RootsOwn {}

impl<T: RootsOwn> Permitted<T> {
    /// What the request comes to.
    pub(crate) fn meaning<U>(&self, meaning: U) -> Permitted<U> {
        Permitted { request: meaning, who: self.who.clone(), checked: self.checked }
    }
}

/// The rule of a request. What has none cannot be permitted.
pub(crate) trait Asked {
    /// Whether it becomes an entry. Then a refusal is looked at again with the newest state:
    /// a member that lags does not know yet what was granted, and the entry would have been
    /// looked at on top of it.
    const PROPOSED: bool = false;

    /// Whether somebody may make it; etcd's answer. Only asked while authentication is on.
    fn check(&self, auth: &Auth, who: &Identity) -> Result<(), AuthError>;
}

/// Everybody who has shown who they are, whoever that is.
fn anybody(who: &Identity) -> Result<(), AuthError> {
    if who.revision == 0 { Err(AuthError::UserEmpty) } else { Ok(()) }
}

/// Rules that are one expression.
macro_rules! rules {
    ($($request:ty: |$this:ident, $auth:ident, $who:ident| $rule:expr;)*) => {
        $(impl Asked for $request {
            fn check(&self, $auth: &Auth, $who: &Identity) -> Result<(), AuthError> {
                let $this = self;
                $rule
            }
        })*
    };
}

rules! {
    pb::RangeRequest: |range, auth, who| auth.check_read(who, &range.key, &range.range_end);
    // No key is the smallest key (semantics 6.1).
    pb::WatchCreateRequest: |watch, auth, who| {
        let smallest = bytes::Bytes::from_static(b"\0");
        let key = if watch.key.is_empty() { &smallest } else { &watch.key };
        auth.check_read(who, key, &watch.range_end)
    };
    pb::LeaseGrantRequest: |_grant, _auth, who| anybody(who);
    // The keys that hang on it are looked at when it is applied.
    pb::LeaseRevokeRequest: |_revoke, _auth, who| anybody(who);
    pb::MemberListRequest: |_list, _auth, who| anybody(who);
    pb::StatusRequest: |_status, _auth, who| anybody(who);
    mainstaypb::StatusRequest: |_status, _auth, who| anybody(who);
    pb::AlarmRequest: |alarm, auth, who| match alarm.action() {
        AlarmAction::Get => anybody(who),
        AlarmAction::Activate | AlarmAction::Deactivate => auth.check_admin(who),
    };
}

/// Requests that become entries whose keys or names are looked at on every member.
macro_rules! proposals {
    ($($request:ty: $rule:path;)*) => {
        $(impl Asked for $request {
            const PROPOSED: bool = true;

            fn check(&self, auth: &Auth, who: &Identity) -> Result<(), AuthError> {
                $rule(auth, who, self)
            }
        })*
    };
}

proposals! {
    pb::PutRequest: permission::put;
    pb::DeleteRangeRequest: permission::delete_range;
    pb::TxnRequest: permission::txn;
    AuthRequest: permission::about_auth;
}

macro_rules! only_root {
    ($($request:ty),* $(,)?) => {
        $(impl Asked for $request {
            fn check(&self, auth: &Auth, who: &Identity) -> Result<(), AuthError> {
                auth.check_admin(who)
            }
        }
        impl RootsOwn for $request {})*
    };
}

only_root! {
    pb::CompactionRequest,
    pb::DefragmentRequest,
    pb::SnapshotRequest,
    pb::HashRequest,
    pb::HashKvRequest,
    pb::MoveLeaderRequest,
    pb::DowngradeRequest,
    pb::MemberAddRequest,
    pb::MemberRemoveRequest,
    pb::MemberUpdateRequest,
    pb::MemberPromoteRequest,
    mainstaypb::FinalizeRequest,
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Status {
        errors::from_text(error.to_string())
    }
}

/// Who calls. Whether they may, [`let_in`] says.
///
/// # Errors
/// `invalid auth token`.
pub(crate) async fn who_calls<M: Member>(member: &M, call: &Call) -> Result<Caller, Status> {
    if !member.auth_enabled() || call.method.rule == Rule::Open {
        return Ok(Caller::nobody());
    }
    match caller::recognize(member, call).await {
        Err(_) if call.method.rule == Rule::Each => Ok(Caller::nobody()),
        caller => caller,
    }
}

/// Whether the call's row lets its caller in.
///
/// # Errors
/// This caller may not make such a call, whatever is in it.
pub(crate) async fn let_in<M: Member>(
    member: &M,
    call: &Call,
    caller: &Caller,
) -> Result<(), Status> {
    match call.method.rule {
        Rule::Open | Rule::Asks | Rule::Each => Ok(()),
        // A client without credentials is told so before its message is read.
        Rule::User | Rule::Keys if member.auth_enabled() => Ok(anybody(caller.who())?),
        Rule::User | Rule::Keys => Ok(()),
        Rule::Root => permit(member, caller, AnythingOfRoot).await.map(drop),
    }
}

/// What every call for root alone asks, before its message is looked at.
struct AnythingOfRoot;

impl Asked for AnythingOfRoot {
    const PROPOSED: bool = true;

    fn check(&self, auth: &Auth, who: &Identity) -> Result<(), AuthError> {
        auth.check_admin(who)
    }
}

/// The request, if the caller may make it.
///
/// # Errors
/// `permission denied` and what else etcd says.
pub(crate) async fn permit<M: Member, T: Asked>(
    member: &M,
    caller: &Caller,
    request: T,
) -> Result<Permitted<T>, Status> {
    match permit_now(member, caller, request) {
        Ok(permitted) => Ok(permitted),
        Err((_, request)) if T::PROPOSED && caller.who().revision != 0 => {
            member.linearizable().await?;
            let caller = caller.again(member)?;
            permit_now(member, &caller, request).map_err(|(status, _)| status)
        }
        Err((status, _)) => Err(status),
    }
}

/// As [`permit`], with the state at hand. A refusal gives the request back.
pub(crate) fn permit_now<M: Member, T: Asked>(
    member: &M,
    caller: &Caller,
    request: T,
) -> Result<Permitted<T>, (Status, T)> {
    if !member.auth_enabled() {
        let who = Identity::default();
        return Ok(Permitted { request, who, checked: false });
    }
    let auth = member.auth();
    if auth.is_enabled()
        && let Err(error) = request.check(&auth, caller.who())
    {
        return Err((error.into(), request));
    }
    Ok(Permitted::new(request, caller, &auth))
}

/// What is done with a lease that may have keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnLease {
    /// Whoever renews it must be allowed to write all its keys.
    Renew,
    /// Whoever is told its keys must be allowed to read them.
    TellKeys,
}

/// A request about a lease, if the caller may do that with all keys that hang on it here.
///
/// # Errors
/// As [`permit`].
pub(crate) async fn permit_lease<M: Member, T>(
    member: &M,
    caller: &Caller,
    (lease, what): (i64, OnLease),
    request: T,
) -> Result<Permitted<T>, Status> {
    if !member.auth_enabled() {
        return Ok(Permitted { request, who: Identity::default(), checked: false });
    }
    anybody(caller.who())?;
    let mut auth = member.auth();
    let mut caller = caller.clone();
    if auth.check_admin(caller.who()).is_err() {
        // A member that lags does not know of all keys that hang on it; the leader, which
        // will be asked, does.
        member.linearizable().await?;
        caller = caller.again(member)?;
        auth = member.auth();
        check_keys(member, &auth, caller.who(), (lease, what)).await?;
    }
    let permitted = Permitted::new(request, &caller, &auth);
    permitted.still(member.auth_enabled(), || member.auth().revision())?;
    Ok(permitted)
}

/// Whether somebody may do that with every key that hangs on a lease here.
async fn check_keys<M: Member>(
    member: &M,
    auth: &Auth,
    who: &Identity,
    (lease, what): (i64, OnLease),
) -> Result<(), Status> {
    let point = bytes::Bytes::new();
    for key in member.lease_keys(lease).await? {
        match what {
            OnLease::Renew => auth.check_write(who, &key, &point)?,
            OnLease::TellKeys => auth.check_read(who, &key, &point)?,
        }
    }
    Ok(())
}

/// The list of all leases, if the caller may read every key of every one.
///
/// # Errors
/// As [`permit`].
pub(crate) async fn permit_all_leases<M: Member>(
    member: &M,
    caller: &Caller,
) -> Result<Permitted<pb::LeaseLeasesRequest>, Status> {
    let request = pb::LeaseLeasesRequest {};
    let all = Permitted { request, who: caller.who().clone(), checked: member.auth_enabled() };
    if !all.checked {
        return Ok(all);
    }
    anybody(caller.who())?;
    let auth = member.auth();
    if auth.check_admin(caller.who()).is_err() {
        for lease in member.leases(&all).await? {
            check_keys(member, &auth, caller.who(), (lease, OnLease::TellKeys)).await?;
        }
    }
    Ok(all)
}

/// What a caller may ask without a look at keys, for a stream that looks at each itself.
pub(crate) fn permit_user<M: Member, T>(
    member: &M,
    caller: &Caller,
    request: T,
) -> Result<Permitted<T>, Status> {
    let checked = member.auth_enabled();
    if checked {
        anybody(caller.who())?;
    }
    Ok(Permitted { request, who: caller.who().clone(), checked })
}
