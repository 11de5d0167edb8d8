//! Listen URLs: `http://`, `https://`, `unix://`, `unixs://`.

use std::fmt;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// `host:port`.
    Tcp(String),
    /// A path; etcd writes `unix://localhost:m1` for the file `localhost:m1`.
    Unix(String),
}

/// A listen URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenUrl {
    pub(crate) place: Place,
    pub(crate) tls: bool,
}

impl ListenUrl {
    /// Reads a URL; `None` when it is not of one of the four schemes.
    pub(crate) fn parse(url: &str) -> Option<ListenUrl> {
        let (scheme, rest) = url.split_once("://")?;
        let host = || rest.split('/').next().unwrap_or_default().to_owned();
        let (place, tls) = match scheme {
            "http" => (Place::Tcp(host()), false),
            "https" => (Place::Tcp(host()), true),
            "unix" => (Place::Unix(rest.to_owned()), false),
            "unixs" => (Place::Unix(rest.to_owned()), true),
            _ => return None,
        };
        Some(ListenUrl { place, tls })
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.tls) {
            (Place::Tcp(host), false) => write!(f, "http://{host}"),
            (Place::Tcp(host), true) => write!(f, "https://{host}"),
            (Place::Unix(path), false) => write!(f, "unix://{path}"),
            (Place::Unix(path), true) => write!(f, "unixs://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_schemes() {
        for url in
            ["http://127.0.0.1:0", "https://[::1]:2379", "unix://localhost:m1", "unixs:///run/e"]
        {
            assert_eq!(ListenUrl::parse(url).expect("known").to_string(), url);
        }
        assert_eq!(ListenUrl::parse("http://h:1/").expect("known").to_string(), "http://h:1");
        assert_eq!(ListenUrl::parse("ftp://h:1"), None);
        assert_eq!(ListenUrl::parse("h:1"), None);
    }
}
