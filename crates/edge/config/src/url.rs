//! The URLs of listeners and members, by etcd's rules.

use std::fmt;

/// How a URL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A unix socket.
    Unix,
    /// TLS over a unix socket.
    Unixs,
}

/// `http://host:port`, `https://host:port`, `unix://path` or `unixs://path`.
///
/// Never has a path after a port, a query or a user. Ordered by its text, as etcd orders lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// As it prints, scheme in lower case.
    text: String,
    scheme: Scheme,
    /// Host without brackets; empty for a socket.
    host: String,
    /// 0 for a socket, and where the system shall choose.
    port: u16,
}

/// A text that is not such a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No port, or not a number.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// Something after the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
    /// Another scheme, or none.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// Control characters, spaces, a user, a query.
    #[error("URL holds what it must not: {0:?}")]
    Text(String),
}

impl Url {
    /// Reads one URL; blanks around it are dropped.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let wrong = |kind: fn(String) -> UrlError| Err(kind(text.to_owned()));
        if text.chars().any(|c| c.is_control() || c == ' ') || text.contains(['?', '#', '@']) {
            return wrong(UrlError::Text);
        }
        let Some((scheme, rest)) = text.split_once(':') else { return wrong(UrlError::Scheme) };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return wrong(UrlError::Scheme),
        };
        if scheme.is_socket() {
            return Ok(Url {
                text: format!("{}:{rest}", scheme.name()),
                scheme,
                host: String::new(),
                port: 0,
            });
        }
        let Some(address) = rest.strip_prefix("//") else { return wrong(UrlError::HostPort) };
        if let Some((before, _)) = address.split_once('/') {
            return wrong(if split(before).is_some() {
                UrlError::Path
            } else {
                UrlError::HostPort
            });
        }
        let Some((host, port)) = split(address) else { return wrong(UrlError::HostPort) };
        Ok(Url {
            text: format!("{}://{address}", scheme.name()),
            scheme,
            host: host.to_owned(),
            port,
        })
    }

    /// Reads a comma-separated list, sorted and without repeats; the empty text is the empty list.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<Url>, UrlError>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    /// The text, as messages and logs show it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How it is spoken.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// The host without brackets, empty for a socket.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 for a socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of a unix socket: all that follows `unix:` and the slashes of an empty host.
    pub fn socket_path(&self) -> Option<&str> {
        if !self.scheme.is_socket() {
            return None;
        }
        let (_, rest) = self.text.split_once(':')?;
        Some(rest.strip_prefix("//").unwrap_or(rest))
    }

    /// The same URL with another host.
    pub fn with_host(&self, host: &str) -> Url {
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let text = format!("{}://{shown}:{}", self.scheme.name(), self.port);
        Url { text, scheme: self.scheme, host: host.to_owned(), port: self.port }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }

    fn is_socket(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }
}

/// Splits `host:port` or `[v6]:port`; `None` when it is neither.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':')?)
        }
        None => address.split_once(':')?,
    };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || host.contains(['[', ']']) {
        return None;
    }
    Some((host, port.parse().ok()?))
}
