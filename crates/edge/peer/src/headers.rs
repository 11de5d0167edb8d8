//! The headers that members know each other by (http.md 3.1, 3.2).

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use mainstay_types::{ClusterId, MemberId, SPOKEN_VERSION, Version};

pub(crate) const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(crate) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
pub(crate) const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(crate) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(crate) const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");
pub(crate) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");

/// Ours, of a db that is given away: the last entry in it, that entry's term, its length; and
/// who leads, as far as the giver knows.
pub(crate) const DB_INDEX: HeaderName = HeaderName::from_static("x-mainstay-index");
pub(crate) const DB_TERM: HeaderName = HeaderName::from_static("x-mainstay-term");
pub(crate) const DB_BYTES: HeaderName = HeaderName::from_static("x-mainstay-bytes");
pub(crate) const DB_LEADER: HeaderName = HeaderName::from_static("x-mainstay-leader");

/// The oldest cluster that a member of today can be in (etcd, `MinClusterVersion`).
const MIN_CLUSTER: Version = Version::line(3, 0);
/// What a member is taken for that does not say its version.
const UNSAID: Version = Version::line(2, 0);

pub(crate) const INCOMPATIBLE: &str = "incompatible version";
pub(crate) const OTHER_CLUSTER: &str = "cluster ID mismatch";

/// Anything that prints as ASCII, as a header's value.
pub(crate) fn value(text: impl ToString) -> HeaderValue {
    HeaderValue::from_str(&text.to_string())
        .expect("ids, versions and URLs that were parsed are ASCII")
}

/// What a request to another member says about its sender.
pub(crate) fn introduce(
    headers: &mut HeaderMap,
    host: &str,
    me: (ClusterId, MemberId),
    urls: &[String],
) {
    let (cluster, member) = me;
    headers.insert(HOST, value(host));
    headers.insert(SERVER_FROM, value(member));
    headers.insert(SERVER_VERSION, value(SPOKEN_VERSION));
    headers.insert(MIN_CLUSTER_VERSION, value(MIN_CLUSTER));
    headers.insert(CLUSTER_ID, value(cluster));
    if !urls.is_empty() {
        headers.insert(PEER_URLS, value(urls.join(",")));
    }
}

/// A header's text; what is not ASCII counts as missing.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A member id in hex, as paths and headers carry it.
pub(crate) fn member_id(text: &str) -> Option<MemberId> {
    // `from_str_radix` alone would take a sign, which Go does not.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(MemberId)
}

/// Whether a request may be answered; if not, the body of the refusal (status 412).
pub(crate) fn check(headers: &HeaderMap, me: (ClusterId, MemberId)) -> Result<(), &'static str> {
    let (cluster, member) = me;
    let said = |name: &HeaderName| match text(headers, name) {
        "" => Some(UNSAID),
        version => version.parse().ok(),
    };
    let remote = text(headers, &SERVER_FROM);
    let (server, min_cluster) = (said(&SERVER_VERSION), said(&MIN_CLUSTER_VERSION));
    let fits = server.is_some_and(|server| server.without_patch() >= MIN_CLUSTER)
        && min_cluster.is_some_and(|min| min.without_patch() <= SPOKEN_VERSION.without_patch());
    if !fits {
        tracing::warn!(
            "local-member-id" = %member,
            "local-member-cluster-id" = %cluster,
            "local-member-server-version" = %SPOKEN_VERSION,
            "remote-peer-server-name" = remote,
            "remote-peer-server-version" = text(headers, &SERVER_VERSION),
            "remote-peer-server-minimum-cluster-version" = text(headers, &MIN_CLUSTER_VERSION),
            "failed version compatibility check"
        );
        return Err(INCOMPATIBLE);
    }
    let theirs = text(headers, &CLUSTER_ID);
    if theirs != cluster.to_string() {
        tracing::warn!(
            "local-member-id" = %member,
            "local-member-cluster-id" = %cluster,
            "remote-peer-server-name" = remote,
            "remote-peer-cluster-id" = theirs,
            "request cluster ID mismatch"
        );
        return Err(OTHER_CLUSTER);
    }
    Ok(())
}

/// Where a sender says that it is reached, if both it and its URLs can be read.
pub(crate) fn sender(headers: &HeaderMap) -> Option<(MemberId, Vec<String>)> {
    let from = member_id(text(headers, &SERVER_FROM))?;
    let urls: Vec<String> = text(headers, &PEER_URLS).split(',').map(str::to_owned).collect();
    urls.iter().all(|url| crate::url::Origin::parse(url).is_some()).then_some((from, urls))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: (ClusterId, MemberId) = (ClusterId(0xc), MemberId(1));

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let named = |(name, text): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(text).expect("a value"))
        };
        lines.iter().map(named).collect()
    }

    #[test]
    fn versions_are_compared_without_their_patch() {
        let check = |server: &str, min: &str| {
            let lines = [
                ("x-server-version", server),
                ("x-min-cluster-version", min),
                ("x-etcd-cluster-id", "c"),
            ];
            check(&headers(&lines), ME)
        };
        assert_eq!(check("3.5.16", "3.0.0"), Ok(()));
        assert_eq!(check("3.0.0", "3.0.0"), Ok(()));
        assert_eq!(check("2.3.8", "2.0.0"), Err(INCOMPATIBLE));
        assert_eq!(check("3.9.0", "3.7.99"), Ok(()));
        assert_eq!(check("3.9.0", "3.8.0"), Err(INCOMPATIBLE));
        assert_eq!(check("soon", "3.0.0"), Err(INCOMPATIBLE));
    }

    #[test]
    fn a_sender_without_a_version_is_too_old() {
        assert_eq!(check(&headers(&[("x-etcd-cluster-id", "c")]), ME), Err(INCOMPATIBLE));
    }

    #[test]
    fn another_cluster_is_refused() {
        let versions = [("x-server-version", "3.5.16"), ("x-min-cluster-version", "3.0.0")];
        assert_eq!(check(&headers(&versions), ME), Err(OTHER_CLUSTER));
    }

    #[test]
    fn ids_are_plain_hex() {
        assert_eq!(member_id("8e9e05c52164694d"), Some(MemberId(0x8e9e_05c5_2164_694d)));
        assert_eq!(member_id("ABC"), Some(MemberId(0xabc)));
        for wrong in ["", "+1", "-1", "0x1", "1ffffffffffffffff", "g"] {
            assert_eq!(member_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn who_introduces_itself_is_understood() {
        let mut headers = HeaderMap::new();
        let urls = ["http://10.0.0.1:2380".to_owned(), "http://10.0.0.2:2380".to_owned()];
        introduce(&mut headers, "10.0.0.9:2380", ME, &urls);
        assert_eq!(check(&headers, ME), Ok(()));
        assert_eq!(sender(&headers), Some((MemberId(1), urls.to_vec())));
        headers.insert(PEER_URLS, value("http://10.0.0.1:2380,rubbish"));
        assert_eq!(sender(&headers), None);
    }
}
