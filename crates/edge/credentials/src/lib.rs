//! What clients show to say who they are.
//!
//! [`SimpleTokens`] are made by entries of the log and known to every member that applied
//! them. [`Jwt`]s are signed, and good wherever the key is. [`Passwords`] compares and hashes
//! on threads of its own, because one password costs as much as thousands of requests. Which
//! users there are and what they may do is none of this crate's business.

mod guesses;
mod jwt;
mod known;
mod options;
mod origin;
mod passwords;
mod queue;
mod random;
mod simple;

pub use jwt::{Jwt, JwtClaims, JwtRefusal, JwtUnsigned, Method, password_mark, wall_clock};
pub use options::{JwtOptions, TokenKind, TokenOptionError};
pub use origin::Origin;
pub use passwords::{Attempt, PasswordError, Passwords, cost_of};
pub use random::simple_token_letters;
pub use simple::{SimpleTokens, index_of};

/// What stands for a token in a log: enough to find it again, not enough to use it (etcd:
/// the first bytes of its SHA-256).
pub fn fingerprint(token: &str) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    sum.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
