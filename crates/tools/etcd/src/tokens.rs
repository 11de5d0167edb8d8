//! The tokens that clients get, as `--auth-token` says.

use std::time::Duration;

use mainstay_config::{Config, number};
use mainstay_credentials::{Jwt, JwtOptions, TokenKind, TokenOptionError};
use mainstay_server::Login;

/// How clients log in.
pub(crate) struct LoggingIn {
    /// Passwords and tokens.
    pub(crate) login: Login,
    /// For how long a simple token is good; `None` when entries make no tokens.
    pub(crate) simple_ttl: Option<Duration>,
}

/// Reads the flag and the keys it names, before the member does anything.
///
/// # Errors
/// etcd's words for what is wrong with them; more is logged.
pub(crate) fn login(config: &Config) -> Result<LoggingIn, TokenOptionError> {
    made(config).inspect_err(|error| {
        if let Some(detail) = error.detail() {
            tracing::error!(error = detail, "problem loading JWT options");
        }
        tracing::warn!(%error, "failed to create token provider");
    })
}

fn made(config: &Config) -> Result<LoggingIn, TokenOptionError> {
    let duration = |text: &str| number::parse_duration(text).ok();
    let (kind, unknown) = TokenKind::parse(&config.auth.token, duration)?;
    let login = Login::new(config.auth.bcrypt_cost);
    Ok(match kind {
        TokenKind::Simple => {
            tracing::warn!("simple token is not cryptographically signed");
            LoggingIn { login, simple_ttl: Some(config.auth.token_ttl) }
        }
        TokenKind::Jwt(options) => {
            if !unknown.is_empty() {
                let keys = mainstay_log::json_strings(&unknown);
                tracing::warn!("keys.json" = %keys, "unknown JWT options");
            }
            LoggingIn { login: login.with_jwt(signed(options)?), simple_ttl: None }
        }
        TokenKind::None => LoggingIn { login: login.without_tokens(), simple_ttl: None },
    })
}

fn signed(options: JwtOptions) -> Result<Jwt, TokenOptionError> {
    let jwt = Jwt::load(options)?;
    if !jwt.signs() {
        tracing::info!(
            "without a private key this member makes no tokens; it takes those of others"
        );
    }
    Ok(jwt)
}
