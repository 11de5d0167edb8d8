//! Peer URLs as Go's client checks them before it asks anybody, with its words
//! (`types.NewURLs` over `url.Parse`).

use mainstay_print::quote::quote;

/// Checks a list of URLs separated by commas.
///
/// # Errors
/// What Go's client says about the first wrong one.
pub(crate) fn check(urls: &str) -> Result<(), String> {
    urls.split(',').map(str::trim).try_for_each(check_one)
}

fn check_one(url: &str) -> Result<(), String> {
    let parsed = parse(url).map_err(|why| format!("parse {}: {why}", quote(url.as_bytes())))?;
    match parsed.scheme.as_str() {
        "http" | "https" => {
            if !is_host_and_port(parsed.host) {
                return Err(format!("URL address does not have the form \"host:port\": {url}"));
            }
            if !parsed.path.is_empty() {
                return Err(format!("URL must not contain a path: {url}"));
            }
            Ok(())
        }
        "unix" | "unixs" => Ok(()),
        _ => Err(format!("URL scheme must be http, https, unix, or unixs: {url}")),
    }
}

/// The parts of a URL that matter here.
struct Parsed<'a> {
    /// In lower case.
    scheme: String,
    host: &'a str,
    path: &'a str,
}

fn parse(url: &str) -> Result<Parsed<'_>, String> {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    if url.bytes().any(|b| b.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = split_scheme(url)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            // What has no slashes is opaque: neither host nor path.
            return Ok(Parsed { scheme, host: "", path: "" });
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let authority =
        rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///"));
    let Some(authority) = authority else { return Ok(Parsed { scheme, host: "", path: rest }) };
    let (host, path) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    check_host(host)?;
    Ok(Parsed { scheme, host, path })
}

/// The scheme, empty when there is none, and what follows it.
fn split_scheme(url: &str) -> Result<(&str, &str), String> {
    for (at, c) in url.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&url[..at], &url[at + 1..])),
            _ => return Ok(("", url)),
        }
    }
    Ok(("", url))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if digits.len() + 1 < port.len() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("invalid port {} after host", quote(port.as_bytes())));
    }
    match host.chars().find(|c| *c == ' ' || (c.is_ascii() && "<>\"\\^`{|}".contains(*c))) {
        Some(c) => {
            let sign = quote(c.to_string().as_bytes());
            Err(format!("invalid character {sign} in host name"))
        }
        None => Ok(()),
    }
}

/// Go's `net.SplitHostPort`, as far as it says no.
fn is_host_and_port(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(inner) => inner.split_once(']').is_some_and(|(_, port)| port.starts_with(':')),
        None => host.bytes().filter(|b| *b == b':').count() == 1 && !host.contains(['[', ']']),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn urls_are_refused_in_gos_words() {
        for good in [
            "http://a:1",
            "https://[::1]:2380,http://b:2",
            "unix:///tmp/s",
            "unixs://x:1",
            "HTTP://a:1",
            "http://a:",
            " http://a:1 ,http://u:p@b:1?x",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            (
                "127.0.0.1:1",
                "parse \"127.0.0.1:1\": first path segment in URL cannot contain colon",
            ),
            (":1", "parse \":1\": missing protocol scheme"),
            ("http://a:x", "parse \"http://a:x\": invalid port \":x\" after host"),
            ("http://[::1", "parse \"http://[::1\": missing ']' in host"),
            ("http://a b:1", "parse \"http://a b:1\": invalid character \" \" in host name"),
            (
                "http://a\u{1}:1",
                "parse \"http://a\\x01:1\": net/url: invalid control character in URL",
            ),
            ("http://a:1/path", "URL must not contain a path: http://a:1/path"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://::1:1", "URL address does not have the form \"host:port\": http://::1:1"),
            ("http:a:1", "URL address does not have the form \"host:port\": http:a:1"),
            ("localhost:1", "URL scheme must be http, https, unix, or unixs: localhost:1"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("a", "URL scheme must be http, https, unix, or unixs: a"),
            ("http://a:1,", "URL scheme must be http, https, unix, or unixs: "),
        ] {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad:?}");
        }
    }
}
