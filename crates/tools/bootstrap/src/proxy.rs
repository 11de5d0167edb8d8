//! `--discovery-proxy`: an HTTP proxy between this member and the old discovery service.
//!
//! As Go's client has it: a question over plain HTTP is asked of the proxy with the whole
//! URL; for one over TLS the proxy is asked for a tunnel.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::http::{HttpError, Target};

/// The head of the answer to `CONNECT`, at most.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Where the proxy is, and how we are known to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) target: Target,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<String>,
}

impl Proxy {
    /// Reads the flag: a URL, or only what stands behind `http://`. None for an empty text.
    ///
    /// # Errors
    /// In the words of etcd 3.5.
    pub(crate) fn parse(text: &str) -> Result<Option<Proxy>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => (false, text),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let target = Target::authority(tls, place);
        let target = target.ok_or_else(|| format!("invalid proxy address {text:?}"))?;
        // A user without a colon has an empty password.
        let pair = |user: &str| match user.split_once(':') {
            Some((name, password)) => format!("{}:{}", unescaped(name), unescaped(password)),
            None => format!("{}:", unescaped(user)),
        };
        let authorization = user.map(|user| format!("Basic {}", base64(pair(user).as_bytes())));
        Ok(Some(Proxy { target, authorization }))
    }

    /// Asks for a tunnel to `authority` on a connection to the proxy.
    ///
    /// # Errors
    /// It does not make one.
    pub(crate) async fn tunnel<S>(&self, socket: &mut S, authority: &str) -> Result<(), HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut asked = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(value) = &self.authorization {
            asked.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        asked.push_str("\r\n");
        socket.write_all(asked.as_bytes()).await?;
        socket.flush().await?;
        let mut head = Vec::new();
        // One by one: what follows the head belongs to the tunnel.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == HEAD_BYTES_MAX {
                return Err(refused("its answer has no end"));
            }
            head.push(socket.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let line = head.lines().next().unwrap_or_default();
        let (version, status) = line.split_once(' ').unwrap_or((line, ""));
        if version.starts_with("HTTP/1.") && status.split(' ').next() == Some("200") {
            return Ok(());
        }
        // Go says no more than the status.
        Err(refused(status))
    }
}

fn refused(why: &str) -> HttpError {
    HttpError::Io(std::io::Error::other(format!("proxyconnect tcp: {why}")))
}

/// `%xx` in a user's name or password.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let hex = (*byte == b'%').then(|| after.get(..2)).flatten();
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let part = |n: usize| u32::from(chunk.get(n).copied().unwrap_or_default());
        let number = part(0) << 16 | part(1) << 8 | part(2);
        for place in 0..4 {
            let digit = number >> (18 - 6 * place) & 63;
            let sign = ALPHABET[digit as usize];
            text.push(if place <= chunk.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_urls_or_nearly() {
        let parse = |text| Proxy::parse(text).expect("a proxy").expect("one");
        let plain =
            |tls, host, port| Proxy { target: Target::tcp(tls, host, port), authorization: None };
        assert_eq!(Proxy::parse(""), Ok(None));
        assert_eq!(parse("http://p:3128"), plain(false, "p", 3128));
        assert_eq!(parse("p:3128"), plain(false, "p", 3128));
        assert_eq!(parse("https://p/path"), plain(true, "p", 443));
        assert_eq!(parse("http://[::1]:1"), plain(false, "::1", 1));
        let known = parse("http://me:se%63ret@p:1").authorization;
        assert_eq!(known.as_deref(), Some("Basic bWU6c2VjcmV0"));
        assert_eq!(parse("me@p:1").authorization.as_deref(), Some("Basic bWU6"));
        for wrong in ["http://", "p:x", "http://:1", "http://me@"] {
            let told = Proxy::parse(wrong).expect_err("no proxy");
            assert_eq!(told, format!("invalid proxy address {wrong:?}"));
        }
    }

    #[test]
    fn a_tunnel_is_asked_for_and_may_be_refused() {
        use tokio::io::duplex;

        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let ask = |answer: &'static [u8]| {
            runtime.block_on(async {
                let (mut ours, mut theirs) = duplex(1 << 16);
                theirs.write_all(answer).await.expect("room");
                let proxy = Proxy::parse("http://me:x@p:1").expect("a proxy").expect("one");
                let told = proxy.tunnel(&mut ours, "d:443").await;
                drop(ours);
                let mut asked = String::new();
                theirs.read_to_string(&mut asked).await.expect("text");
                (told.map_err(|error| error.to_string()), asked)
            })
        };
        let (told, asked) = ask(b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n");
        assert_eq!(told, Ok(()));
        let auth = "Proxy-Authorization: Basic bWU6eA==\r\n";
        assert_eq!(asked, format!("CONNECT d:443 HTTP/1.1\r\nHost: d:443\r\n{auth}\r\n"));
        let (told, _) = ask(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        let refused = "proxyconnect tcp: 407 Proxy Authentication Required";
        assert_eq!(told, Err(refused.to_owned()));
        assert!(ask(b"SSH-2.0-nothing\r\n\r\n").0.is_err());
    }

    #[test]
    fn base64_pads() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (text, encoded) in cases {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
