//! What `--auth-token` says.

use std::path::PathBuf;
use std::time::Duration;

use crate::jwt::Method;

/// The tokens that clients get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Random ones, which entries of the log make.
    Simple,
    /// Signed ones.
    Jwt(JwtOptions),
    /// None: nobody can log in, and no token is good. Certificates' names go on working.
    None,
}

/// How tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// `sign-method`.
    pub(crate) method: Method,
    /// `pub-key`: PEM; not looked at for HS methods, but must be there when it is named.
    pub(crate) public: Option<PathBuf>,
    /// `priv-key`: PEM, or the secret itself for HS methods.
    pub(crate) private: Option<PathBuf>,
    /// `ttl`.
    pub(crate) ttl: Duration,
}

/// Why tokens cannot be as `--auth-token` says. The texts are etcd's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenOptionError {
    /// No such kind of token, or options that cannot be read. What is wrong, in our words, is
    /// inside.
    #[error("auth: invalid auth options")]
    Options(String),
    /// A method that signs nothing.
    #[error("unsupported signing method: *jwt.signingMethodNone")]
    Unsigned,
    /// Neither key is there, or the one that the method needs is empty.
    #[error("auth: missing key data")]
    MissingKey,
    /// They are not two halves of one.
    #[error("auth: public and private keys don't match")]
    KeyMismatch,
    /// A file that holds no key of the method.
    #[error("{what}: {}", path.display())]
    Key {
        /// What is wrong with it.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl TokenOptionError {
    /// What is to be logged before etcd's words, which do not say it.
    pub fn detail(&self) -> Option<&str> {
        match self {
            TokenOptionError::Options(detail) => Some(detail),
            _ => None,
        }
    }
}

/// etcd's default of `ttl`.
const TTL_DEFAULT: Duration = Duration::from_secs(300);

impl TokenKind {
    /// Reads the flag's value as etcd 3.7 does; `duration` reads Go's durations, in
    /// nanoseconds. With it come the names of options that mean nothing to a JWT.
    ///
    /// # Errors
    /// Another kind than `simple` and `jwt`, an option that is no `NAME=VALUE` or comes twice, a
    /// method that there is not.
    pub fn parse(
        text: &str,
        duration: impl Fn(&str) -> Option<i64>,
    ) -> Result<(TokenKind, Vec<String>), TokenOptionError> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut options: Vec<(&str, &str)> = Vec::new();
        for part in parts {
            let pair = part.split_once('=').filter(|(_, value)| !value.contains('='));
            let Some((name, value)) = pair else {
                return Err(wrong(format!("invalid token option: {part:?} is no NAME=VALUE")));
            };
            if options.iter().any(|(other, _)| *other == name) {
                return Err(wrong(format!("invalid token option: {name:?} comes twice")));
            }
            options.push((name, value));
        }
        match kind {
            "simple" => Ok((TokenKind::Simple, Vec::new())),
            "" => Ok((TokenKind::None, Vec::new())),
            "jwt" => {
                let known = ["sign-method", "pub-key", "priv-key", "ttl"];
                let unknown = options.iter().map(|(name, _)| *name);
                let unknown = unknown.filter(|name| !known.contains(name));
                let unknown = unknown.map(str::to_owned).collect();
                Ok((TokenKind::Jwt(JwtOptions::read(&options, duration)?), unknown))
            }
            other => Err(wrong(format!("unknown token type {other:?}"))),
        }
    }
}

fn wrong(detail: impl Into<String>) -> TokenOptionError {
    TokenOptionError::Options(detail.into())
}

impl JwtOptions {
    fn read(
        options: &[(&str, &str)],
        duration: impl Fn(&str) -> Option<i64>,
    ) -> Result<JwtOptions, TokenOptionError> {
        let option = |name: &str| {
            let found = options.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| *value).filter(|value| !value.is_empty())
        };
        let ttl = match option("ttl") {
            None => TTL_DEFAULT,
            Some(text) => {
                let nanos = duration(text)
                    .ok_or_else(|| wrong(format!("time: invalid duration {text:?}")))?;
                // etcd takes these, and makes tokens that are never good.
                let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0);
                Duration::from_nanos(nanos.ok_or_else(|| wrong("ttl must be more than nothing"))?)
            }
        };
        let name = option("sign-method").unwrap_or_default();
        if name == "none" {
            return Err(TokenOptionError::Unsigned);
        }
        let method = Method::of(name)
            .ok_or_else(|| wrong(format!("auth: invalid auth signature method {name:?}")))?;
        let path = |name| option(name).map(PathBuf::from);
        Ok(JwtOptions { method, public: path("pub-key"), private: path("priv-key"), ttl })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(TokenKind, Vec<String>), String> {
        let duration = |text: &str| match text {
            "10m" => Some(600_000_000_000),
            "-1s" => Some(-1_000_000_000),
            "0" => Some(0),
            _ => None,
        };
        TokenKind::parse(text, duration).map_err(|error| error.to_string())
    }

    fn jwt(text: &str) -> JwtOptions {
        match parse(text).expect(text) {
            (TokenKind::Jwt(options), unknown) => {
                assert!(unknown.is_empty(), "{unknown:?}");
                options
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_flag_is_read_as_etcd_reads_it() {
        assert_eq!(parse("simple"), Ok((TokenKind::Simple, vec![])));
        assert_eq!(parse("simple,whatever=1"), Ok((TokenKind::Simple, vec![])), "nobody asks");
        assert_eq!(parse(""), Ok((TokenKind::None, vec![])));
        let options = jwt("jwt,sign-method=PS384,pub-key=a,priv-key=b,ttl=10m");
        assert_eq!(options.public, Some("a".into()));
        assert_eq!(options.private, Some("b".into()));
        assert_eq!(options.ttl, Duration::from_secs(600));
        let options = jwt("jwt,priv-key=b,sign-method=HS256,ttl=,pub-key=");
        assert_eq!((options.public, options.ttl), (None, TTL_DEFAULT));
        let (_, unknown) = parse("jwt,sign-method=EdDSA,ttk=1").expect("a warning only");
        assert_eq!(unknown, ["ttk"]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_etcds_words() {
        let invalid = "auth: invalid auth options";
        for (text, error) in [
            ("jwt", invalid),
            ("Simple", invalid),
            ("jwt,sign-method=RS1024", invalid),
            ("jwt,sign-method=rs256", invalid),
            ("jwt,sign-method=RS256,ttl=soon", invalid),
            ("jwt,sign-method=RS256,ttl=-1s", invalid),
            ("jwt,sign-method=RS256,ttl=0", invalid),
            ("jwt,sign-method=RS256,sign-method=RS256", invalid),
            ("jwt,sign-method", invalid),
            ("jwt,", invalid),
            ("simple,a=b=c", invalid),
            ("simple,", invalid),
            ("jwt,sign-method=none", "unsupported signing method: *jwt.signingMethodNone"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
        let error = TokenKind::parse("jwt,sign-method=RS1024", |_| None).expect_err("refused");
        assert_eq!(error.detail(), Some("auth: invalid auth signature method \"RS1024\""));
    }
}
