//! Who calls.

use std::time::Duration;

use mainstay_apply::{AuthError, Identity, Password};
use mainstay_audit::By;
use mainstay_credentials::{fingerprint, index_of};

use crate::call::Call;
use crate::errors;
use crate::member::Member;
use crate::status::Status;

/// Between two looks at how far this member is, for a token that it cannot know yet.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Who makes a call, and by what this was seen.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    who: Identity,
    shown: Shown,
}

/// What was shown.
#[derive(Clone, Debug)]
enum Shown {
    /// Nothing; or nobody asked, because authentication was off.
    Nothing,
    /// A token, which is void as soon as the user's password is another one. For a token
    /// without a revision of its own (a simple one) the newest one counts.
    Token { password: Password, own_revision: bool },
    /// A certificate.
    Certificate,
}

impl Caller {
    /// Nobody: a client without credentials, or while nobody is asked for any.
    pub(crate) fn nobody() -> Caller {
        Caller { who: Identity::default(), shown: Shown::Nothing }
    }

    /// Its name, and the auth revision at which it was recognized.
    pub(crate) fn who(&self) -> &Identity {
        &self.who
    }

    /// By what it was recognized.
    pub(crate) fn by(&self) -> By {
        match self.shown {
            Shown::Nothing => By::Nothing,
            Shown::Token { .. } => By::Token,
            Shown::Certificate => By::Certificate,
        }
    }

    /// The same caller as users and roles are now. Whether it still has a token is not asked:
    /// that is for the next call.
    ///
    /// # Errors
    /// Authentication was turned on meanwhile, or the user is gone or has another password.
    pub(crate) fn again<M: Member>(&self, member: &M) -> Result<Caller, Status> {
        if !member.auth_enabled() {
            return Ok(self.clone());
        }
        let auth = member.auth();
        let mut caller = self.clone();
        match &self.shown {
            Shown::Nothing => return Err(AuthError::UserEmpty.into()),
            Shown::Token { password, own_revision } => {
                if auth.password_of(&self.who.user) != *password {
                    return Err(errors::INVALID_AUTH_TOKEN.status());
                }
                if !own_revision {
                    caller.who.revision = auth.revision();
                }
            }
            Shown::Certificate => caller.who.revision = auth.revision(),
        }
        Ok(caller)
    }

    /// As [`Caller::again`], for a stream that goes on: also a token that says at which
    /// revision it was made is taken as made now.
    pub(super) fn lasting<M: Member>(&self, member: &M) -> Result<Caller, Status> {
        let mut caller = self.again(member)?;
        if caller.who.revision != 0 {
            caller.who.revision = member.auth().revision();
        }
        Ok(caller)
    }
}

/// Finds out who calls: by the token, and only without one by the certificate.
pub(super) async fn recognize<M: Member>(member: &M, call: &Call) -> Result<Caller, Status> {
    if let Some(token) = call.token()
        && let Some(index) = index_of(token).filter(|_| member.has_simple_tokens())
    {
        // The entry that made it may not have arrived here yet.
        let patience = call.timeout.unwrap_or(Duration::MAX);
        let patience = patience.min(member.settings().request_timeout);
        let applied = async {
            while member.standing().applied.0 < index {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Still not here: then nobody knows it.
        let _ = tokio::time::timeout(patience, applied).await;
    }
    recognize_now(member, call)
}

/// As [`recognize`], without waiting for a token that this member may not know yet.
pub(super) fn recognize_now<M: Member>(member: &M, call: &Call) -> Result<Caller, Status> {
    if let Some(token) = call.token() {
        return by_token(member, token);
    }
    let auth = member.auth();
    Ok(match call.common_name() {
        Some(name) => Caller {
            who: Identity { user: name.to_owned(), revision: auth.revision() },
            shown: Shown::Certificate,
        },
        None => Caller::nobody(),
    })
}

fn by_token<M: Member>(member: &M, token: &str) -> Result<Caller, Status> {
    let invalid = || {
        tracing::warn!("token-fingerprint" = fingerprint(token), "invalid auth token");
        errors::INVALID_AUTH_TOKEN.status()
    };
    let bearer = member.bearer_of(token).ok_or_else(invalid)?;
    let auth = member.auth();
    let password = auth.password_of(&bearer.user);
    // A signed token outlives its user; who it names may not.
    if password == Password::NoUser {
        return Err(invalid());
    }
    let own_revision = bearer.revision.is_some();
    let revision = bearer.revision.unwrap_or_else(|| auth.revision());
    let who = Identity { user: bearer.user, revision };
    Ok(Caller { who, shown: Shown::Token { password, own_revision } })
}
