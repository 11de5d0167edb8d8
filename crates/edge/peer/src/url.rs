//! Where a peer is reached.

use std::fmt;

use parking_lot::Mutex;

/// A peer URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    pub(crate) place: Place,
}

/// The address in a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// `host:port`.
    Tcp(String),
    /// The path of a socket.
    Unix(String),
}

impl Origin {
    /// Reads `http://host:port`, `https://`, `unix://` or `unixs://`.
    pub(crate) fn parse(url: &str) -> Option<Origin> {
        let (scheme, rest) = url.split_once("://")?;
        let clean = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if rest.is_empty() || !clean {
            return None;
        }
        let (tls, unix) = match scheme {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => return None,
        };
        if unix {
            return Some(Origin { tls, place: Place::Unix(rest.to_owned()) });
        }
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = place.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        (!host.is_empty()).then(|| Origin { tls, place: Place::Tcp(place.to_owned()) })
    }

    /// The header `host` of a request.
    pub(crate) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp(place) | Place::Unix(place) => place,
        }
    }

    /// The name that its certificate must be for: the host, without brackets.
    pub(crate) fn name(&self) -> &str {
        let Place::Tcp(place) = &self.place else { return "localhost" };
        let host = place.rsplit_once(':').map_or(place.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, place) = match &self.place {
            Place::Tcp(place) => ("http", place),
            Place::Unix(place) => ("unix", place),
        };
        write!(f, "{scheme}{}://{place}", if self.tls { "s" } else { "" })
    }
}

/// The URLs of one peer, and the one in use: the next one's turn comes when it fails.
#[derive(Debug, Default)]
pub(crate) struct Picker(Mutex<Picked>);

#[derive(Debug, Default)]
struct Picked {
    origins: Vec<Origin>,
    at: usize,
}

impl Picker {
    /// The URLs that can be read.
    pub(crate) fn new(urls: &[String]) -> Picker {
        let picker = Picker::default();
        picker.update(urls);
        picker
    }

    /// Replaces the URLs, if they are others; says whether they are.
    pub(crate) fn update(&self, urls: &[String]) -> bool {
        let origins: Vec<Origin> = urls.iter().filter_map(|url| Origin::parse(url)).collect();
        let mut picked = self.0.lock();
        let changed = picked.origins != origins;
        if changed {
            *picked = Picked { origins, at: 0 };
        }
        changed
    }

    /// The URL in use; `None` when there is none.
    pub(crate) fn pick(&self) -> Option<Origin> {
        let picked = self.0.lock();
        picked.origins.get(picked.at).cloned()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().origins.len()
    }

    /// All, the one in use first.
    pub(crate) fn all(&self) -> Vec<Origin> {
        let picked = self.0.lock();
        let mut origins = picked.origins.clone();
        origins.rotate_left(picked.at);
        origins
    }

    /// Goes on to the next URL, if it is still `origin`'s turn.
    pub(crate) fn unreachable(&self, origin: &Origin) {
        let mut picked = self.0.lock();
        if picked.origins.get(picked.at) == Some(origin) {
            picked.at = (picked.at + 1) % picked.origins.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let tcp = |tls, place: &str| Some(Origin { tls, place: Place::Tcp(place.to_owned()) });
        assert_eq!(Origin::parse("http://10.0.0.1:2380"), tcp(false, "10.0.0.1:2380"));
        assert_eq!(Origin::parse("https://m1.example:2380/"), tcp(true, "m1.example:2380"));
        assert_eq!(Origin::parse("https://[::1]:2380").expect("a URL").name(), "::1");
        let socket = Origin::parse("unixs://run/m1.sock").expect("a URL");
        assert_eq!(socket.place, Place::Unix("run/m1.sock".to_owned()));
        assert_eq!(socket.to_string(), "unixs://run/m1.sock");
        for wrong in ["", "m1:2380", "ftp://m1:2380", "http://m1", "http://:1", "http://a b:1"] {
            assert_eq!(Origin::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_next_url_is_tried_after_a_failure() {
        let urls = ["http://a:1".to_owned(), "http://b:1".to_owned()];
        let picker = Picker::new(&urls);
        let first = picker.pick().expect("a URL");
        picker.unreachable(&first);
        let second = picker.pick().expect("a URL");
        assert_eq!(second.to_string(), "http://b:1");
        // Told late, by another task: that one's turn is over already.
        picker.unreachable(&first);
        assert_eq!(picker.pick(), Some(second.clone()));
        assert_eq!(picker.all()[1], first);
        assert!(!picker.update(&urls), "the same again");
        assert_eq!(picker.pick(), Some(second.clone()));
        picker.unreachable(&second);
        assert_eq!(picker.pick(), Some(first));
        assert_eq!(Picker::new(&[]).pick(), None);
    }
}
