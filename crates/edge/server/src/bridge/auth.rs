//! Passwords, tokens, users and roles of the real member.

use mainstay_apply::{AuthError, AuthRequest, Identity, Password, Reply};
use mainstay_credentials::{PasswordError, Passwords, simple_token_letters};
use mainstay_driver::{Handle, RequestError, RequestField as F};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::BCRYPT_COST_DEFAULT;

use super::{Bridge, refused, wrong_kind};
use crate::errors;
use crate::member::{Bearer, Member as _};
use crate::status::{Code, Status};

/// How clients log in.
#[derive(Debug)]
pub struct Login {
    passwords: Passwords,
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
        Login { passwords: Passwords::new(bcrypt_cost) }
    }

    pub(super) fn bearer_of(&self, handle: &Handle, token: &str) -> Option<Bearer> {
        let user = handle.user_of_token(token)?.as_ref().to_owned();
        Some(Bearer { user, revision: None })
    }
}

fn unchecked(error: PasswordError) -> Status {
    match error {
        PasswordError::TooMany => errors::TOO_MANY_REQUESTS.status(),
        other => Status::new(Code::Unknown, other.to_string()),
    }
}

impl Bridge {
    /// etcd's order: the newest users, the password, then an entry that makes the token; if
    /// users or roles changed meanwhile, once more.
    pub(super) async fn log_in(
        &self,
        request: pb::AuthenticateRequest,
    ) -> Result<pb::AuthenticateResponse, Status> {
        self.linearizable().await?;
        let pb::AuthenticateRequest { name, password } = request;
        loop {
            let checked = self.check_password(&name, &password).await.inspect_err(|status| {
                if *status != errors::AUTH_NOT_ENABLED.status() {
                    tracing::warn!(
                        user = name,
                        error = %status,
                        "invalid authentication was requested"
                    );
                }
            })?;
            let letters = simple_token_letters()
                .map_err(|_| Status::new(Code::Unknown, "no random bytes for a token"))?;
            let entry = pb::InternalAuthenticateRequest {
                name: name.clone(),
                password: String::new(),
                simple_token: letters,
            };
            let proposed = self.handle.propose(F::Authenticate, &entry).await.map_err(refused)?;
            let Reply::Authenticate(reply) = proposed else { return wrong_kind(proposed) };
            if self.handle.auth().revision() == checked {
                return Ok(reply);
            }
            tracing::info!("revision when password checked became stale; retrying");
        }
    }

    /// The auth revision at which the password was right.
    async fn check_password(&self, name: &str, password: &str) -> Result<u64, Status> {
        let auth = self.handle.auth();
        if !auth.is_enabled() {
            return Err(AuthError::NotEnabled.into());
        }
        let found = auth.password_of(name);
        let hash = match &found {
            Password::Hash(hash) => Some(hash.to_vec()),
            Password::NoUser | Password::NonePossible => None,
        };
        // Whoever is asked for takes as long as root would.
        let like = match auth.password_of("root") {
            Password::Hash(hash) => Some(hash.to_vec()),
            Password::NoUser | Password::NonePossible => None,
        };
        let compared = self.login.passwords.compare(password.to_owned(), hash, like).await;
        match (found, compared.map_err(unchecked)?) {
            (Password::Hash(_), true) => Ok(auth.revision()),
            (Password::NonePossible, _) => Err(AuthError::Password.into()),
            (Password::Hash(_) | Password::NoUser, _) => Err(AuthError::Failed.into()),
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
