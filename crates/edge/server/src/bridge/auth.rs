//! Passwords, tokens, users and roles of the real member.

use std::sync::Arc;
use std::time::Instant;

use mainstay_apply::{Auth, AuthError, AuthRequest, Identity, Password, Reply};
use mainstay_credentials::{
    Attempt, Jwt, Origin, PasswordError, Passwords, cost_of, password_mark, simple_token_letters,
    wall_clock,
};
use mainstay_driver::{Handle, RequestError, RequestField as F};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::BCRYPT_COST_DEFAULT;
use parking_lot::Mutex;

use super::{Bridge, refused, wrong_kind};
use crate::errors;
use crate::member::{Bearer, Member as _};
use crate::status::{Code, Status};

/// How clients log in.
#[derive(Debug)]
pub struct Login {
    passwords: Passwords,
    tokens: Tokens,
    began: Instant,
    /// The highest bcrypt cost of all users' passwords, and at which auth revision.
    highest_cost: Mutex<(u64, u32)>,
}

/// What they get.
#[derive(Debug)]
enum Tokens {
    Simple,
    Signed(Arc<Jwt>),
    None,
}

impl Default for Login {
    /// etcd's default.
    fn default() -> Login {
        Login::new(BCRYPT_COST_DEFAULT)
    }
}

impl Login {
    /// Simple tokens, and passwords of this `--bcrypt-cost`.
    pub fn new(bcrypt_cost: u32) -> Login {
        Login {
            passwords: Passwords::new(bcrypt_cost),
            tokens: Tokens::Simple,
            began: Instant::now(),
            highest_cost: Mutex::new((0, bcrypt_cost)),
        }
    }

    /// With signed tokens.
    #[must_use]
    pub fn with_jwt(self, jwt: Jwt) -> Login {
        Login { tokens: Tokens::Signed(Arc::new(jwt)), ..self }
    }

    /// Without tokens: nobody can log in.
    #[must_use]
    pub fn without_tokens(self) -> Login {
        Login { tokens: Tokens::None, ..self }
    }

    pub(super) fn bearer_of(&self, handle: &Handle, token: &str) -> Option<Bearer> {
        match &self.tokens {
            Tokens::Simple => {
                let user = handle.user_of_token(token)?.as_ref().to_owned();
                Some(Bearer { user, revision: None })
            }
            Tokens::Signed(jwt) => signed_bearer(jwt, handle, token),
            Tokens::None => None,
        }
    }

    /// What being wrong costs, whoever is asked for.
    fn highest_cost(&self, auth: &Auth) -> u32 {
        let (revision, cost) = *self.highest_cost.lock();
        if revision == auth.revision() {
            return cost;
        }
        let costs = auth.users().into_iter().filter_map(|user| match auth.password_of(&user) {
            Password::Hash(hash) => cost_of(&hash),
            Password::NoUser | Password::NonePossible => None,
        });
        let cost = costs.max().unwrap_or(BCRYPT_COST_DEFAULT);
        *self.highest_cost.lock() = (auth.revision(), cost);
        cost
    }
}

/// Whose token it is, if its signature is right and the user has still the password that it
/// was made for.
fn signed_bearer(jwt: &Jwt, handle: &Handle, token: &str) -> Option<Bearer> {
    let claims = jwt
        .verify(token, wall_clock())
        .inspect_err(|error| tracing::warn!(%error, "failed to parse a JWT token"))
        .ok()?;
    if let Some(mark) = &claims.password {
        let is_same = match handle.auth().password_of(&claims.user) {
            Password::Hash(hash) => password_mark(&hash) == *mark,
            Password::NoUser | Password::NonePossible => false,
        };
        if !is_same {
            tracing::warn!(user = claims.user, "a JWT token is of a password that was changed");
            return None;
        }
    }
    Some(Bearer { user: claims.user, revision: Some(claims.revision) })
}

fn unchecked(error: PasswordError) -> Status {
    match error {
        PasswordError::TooMany => errors::TOO_MANY_REQUESTS.status(),
        PasswordError::TooManyGuesses => Status::new(Code::ResourceExhausted, error.to_string()),
        other => Status::new(Code::Unknown, other.to_string()),
    }
}

/// A login whose password was right.
struct Checked {
    /// The auth revision at which it was.
    revision: u64,
    /// The password as it is stored.
    hash: Vec<u8>,
}

impl Bridge {
    /// etcd's order: the newest users, the password, then the token, which takes an entry if it
    /// is a simple one; if users or roles changed meanwhile, once more.
    pub(super) async fn log_in(
        &self,
        request: pb::AuthenticateRequest,
        from: Origin,
    ) -> Result<pb::AuthenticateResponse, Status> {
        self.linearizable().await?;
        let pb::AuthenticateRequest { name, password } = request;
        loop {
            let checked = self.check_password(&name, &password, from).await;
            let checked = checked.inspect_err(|status| tell_of_refused(&name, status))?;
            let reply = match &self.login.tokens {
                Tokens::Simple => self.issue_simple(&name).await?,
                Tokens::Signed(jwt) => self.issue_signed(jwt, &name, &checked).await?,
                Tokens::None => return Err(AuthError::Failed.into()),
            };
            if self.handle.auth().revision() == checked.revision {
                return Ok(reply);
            }
            tracing::info!("revision when password checked became stale; retrying");
        }
    }

    async fn issue_simple(&self, name: &str) -> Result<pb::AuthenticateResponse, Status> {
        let letters = simple_token_letters()
            .map_err(|_| Status::new(Code::Unknown, "no random bytes for a token"))?;
        let entry = pb::InternalAuthenticateRequest {
            name: name.to_owned(),
            password: String::new(),
            simple_token: letters,
        };
        let proposed = self.handle.propose(F::Authenticate, &entry).await.map_err(refused)?;
        let Reply::Authenticate(reply) = proposed else { return wrong_kind(proposed) };
        Ok(reply)
    }

    /// A signed token says all that there is to know: no entry is needed for it.
    async fn issue_signed(
        &self,
        jwt: &Arc<Jwt>,
        name: &str,
        checked: &Checked,
    ) -> Result<pb::AuthenticateResponse, Status> {
        let (jwt, name) = (Arc::clone(jwt), name.to_owned());
        let (revision, hash) = (checked.revision, checked.hash.clone());
        let is_slow = jwt.is_slow();
        let sign = move || jwt.sign(&name, revision, &hash, wall_clock());
        let signed =
            if is_slow { self.login.passwords.run(sign).await.map_err(unchecked)? } else { sign() };
        let token = signed.map_err(|error| Status::new(Code::Unknown, error.to_string()))?;
        Ok(pb::AuthenticateResponse { header: None, token })
    }

    async fn check_password(
        &self,
        name: &str,
        password: &str,
        from: Origin,
    ) -> Result<Checked, Status> {
        let auth = self.handle.auth();
        if !auth.is_enabled() {
            return Err(AuthError::NotEnabled.into());
        }
        let found = auth.password_of(name);
        let stored = match &found {
            Password::Hash(hash) => Some(&hash[..]),
            Password::NoUser | Password::NonePossible => None,
        };
        let right = self.login.passwords.check(Attempt {
            user: name,
            password,
            stored,
            highest_cost: self.login.highest_cost(&auth),
            from,
            now: self.login.began.elapsed(),
        });
        match (right.await.map_err(unchecked)?, found) {
            (true, Password::Hash(hash)) => {
                Ok(Checked { revision: auth.revision(), hash: hash.to_vec() })
            }
            (_, Password::NonePossible) => Err(AuthError::Password.into()),
            (_, Password::Hash(_) | Password::NoUser) => Err(AuthError::Failed.into()),
        }
    }

    /// Hashes what is to be hashed, and proposes.
    pub(super) async fn propose_auth(
        &self,
        who: &Identity,
        request: AuthRequest,
    ) -> Result<Reply, Status> {
        use AuthRequest as A;
        let handle = &self.handle;
        let reply = match request {
            A::Enable => handle.propose_as(who, F::AuthEnable, &pb::AuthEnableRequest {}).await,
            A::Disable => handle.propose_as(who, F::AuthDisable, &pb::AuthDisableRequest {}).await,
            A::Status => handle.propose_as(who, F::AuthStatus, &pb::AuthStatusRequest {}).await,
            A::Authenticate(_) => Err(RequestError::Apply(AuthError::Failed.into())),
            A::UserAdd(mut request) => {
                let password = std::mem::take(&mut request.password);
                let without = request.options.is_some_and(|options| options.no_password);
                request.hashed_password =
                    if without { String::new() } else { self.hashed(password).await? };
                handle.propose_as(who, F::AuthUserAdd, &request).await
            }
            A::UserChangePassword(mut request) => {
                let password = std::mem::take(&mut request.password);
                // None at all is stored as none, or as the hash that the client has made.
                if !password.is_empty() {
                    request.hashed_password = self.hashed(password).await?;
                }
                handle.propose_as(who, F::AuthUserChangePassword, &request).await
            }
            A::UserDelete(request) => handle.propose_as(who, F::AuthUserDelete, &request).await,
            A::UserGet(request) => handle.propose_as(who, F::AuthUserGet, &request).await,
            A::UserGrantRole(request) => {
                handle.propose_as(who, F::AuthUserGrantRole, &request).await
            }
            A::UserRevokeRole(request) => {
                handle.propose_as(who, F::AuthUserRevokeRole, &request).await
            }
            A::UserList => {
                handle.propose_as(who, F::AuthUserList, &pb::AuthUserListRequest {}).await
            }
            A::RoleList => {
                handle.propose_as(who, F::AuthRoleList, &pb::AuthRoleListRequest {}).await
            }
            A::RoleAdd(request) => handle.propose_as(who, F::AuthRoleAdd, &request).await,
            A::RoleDelete(request) => handle.propose_as(who, F::AuthRoleDelete, &request).await,
            A::RoleGet(request) => handle.propose_as(who, F::AuthRoleGet, &request).await,
            A::RoleGrantPermission(request) => {
                handle.propose_as(who, F::AuthRoleGrantPermission, &request).await
            }
            A::RoleRevokePermission(request) => {
                handle.propose_as(who, F::AuthRoleRevokePermission, &request).await
            }
        };
        reply.map_err(refused)
    }

    /// What stands for a password in the log: base64 of bcrypt's text.
    async fn hashed(&self, password: String) -> Result<String, Status> {
        let hash = self.login.passwords.hash(password).await.map_err(unchecked)?;
        let mut text = Vec::new();
        mainstay_json::base64_encode(hash.as_bytes(), &mut text);
        Ok(String::from_utf8(text).expect("base64 is ASCII"))
    }
}

/// Logs a login that was refused, but not those of a flood.
fn tell_of_refused(user: &str, status: &Status) {
    if *status != errors::AUTH_NOT_ENABLED.status() && status.code != Code::ResourceExhausted {
        tracing::warn!(user, error = %status, "invalid authentication was requested");
    }
}
