//! The peer URLs of a member to add, as etcd checks and orders them (`types.NewURLs`).

/// The URLs trimmed and sorted; `None` when one cannot be a peer's, or there is none.
///
/// Allowed are `http` and `https` with host and port and no path, and `unix` and
/// `unixs`.
pub(crate) fn peer_urls(given: &[String]) -> Option<Vec<String>> {
    let urls: Option<Vec<String>> = given.iter().map(|url| peer_url(url.trim())).collect();
    let mut urls = urls.filter(|urls| !urls.is_empty())?;
    urls.sort_unstable();
    Some(urls)
}

fn peer_url(url: &str) -> Option<String> {
    // Nothing that a URL may not hold, or holds only in escapes.
    if url.bytes().any(|b| b.is_ascii_control() || b.is_ascii_whitespace()) {
        return None;
    }
    let (scheme, rest) = url.split_once(':')?;
    let scheme = scheme.to_ascii_lowercase();
    match scheme.as_str() {
        "unix" | "unixs" => {}
        "http" | "https" => {
            let rest = rest.strip_prefix("//")?;
            let host = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
            if rest[host.len()..].starts_with('/') {
                return None;
            }
            let place = host.rsplit_once('@').map_or(host, |(_, place)| place);
            has_port(place).then_some(())?;
        }
        _ => return None,
    }
    Some(format!("{scheme}:{rest}"))
}

/// Whether it is `host:port`; both may be empty, and an IPv6 address stands in brackets.
fn has_port(place: &str) -> bool {
    let port = match place.strip_prefix('[') {
        Some(inner) => inner.split_once(']').and_then(|(_, port)| port.strip_prefix(':')),
        None => place.split_once(':').map(|(_, port)| port).filter(|_| !place.contains(['[', ']'])),
    };
    port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_sorted() {
        let read = |urls: &[&str]| {
            peer_urls(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>())
        };
        let good = |urls: &[&str]| Some(urls.iter().map(|url| (*url).to_owned()).collect());
        assert_eq!(read(&["http://b:1", " http://a:2 "]), good(&["http://a:2", "http://b:1"]));
        for same in [
            "https://[::1]:2380",
            "http://:2380",
            "http://a:",
            "http://user:word@a:1",
            "http://a:1?x=/y",
            "unix://localhost:1/x",
            "unixs:///tmp/s",
        ] {
            assert_eq!(read(&[same]), good(&[same]), "{same}");
        }
        assert_eq!(read(&["HTTP://a:1"]), good(&["http://a:1"]));
        for bad in [
            &[][..],
            &[""],
            &["127.0.0.1:2380"],
            &["localhost:2380"],
            &["http://a"],
            &["http://a:1/"],
            &["http://a:1/path"],
            &["http://a:x"],
            &["http://::1:2380"],
            &["http://[::1]"],
            &["http:a:1"],
            &["ftp://a:1"],
            &["http://a b:1"],
            &["http://a:1", "http://a"],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
