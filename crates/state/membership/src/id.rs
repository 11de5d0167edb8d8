//! How identities are made (`computeMemberID` and `genID` of etcd).

use mainstay_types::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// A member's identity: the first 8 bytes, big-endian, of the SHA-1 over its
/// sorted peer URLs, the cluster token, and for a member added at run time the
/// Unix time in seconds (then etcd passes an empty token).
pub fn member_id(peer_urls: &[String], token: &str, added_at: Option<i64>) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    if let Some(seconds) = added_at {
        hash.update(seconds.to_string().as_bytes());
    }
    MemberId(first_eight(&hash.finalize()))
}

/// A cluster's identity: the first 8 bytes of the SHA-1 over its first
/// members' identities, ascending, each as 8 bytes big-endian.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<u64> = members.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    ClusterId(first_eight(&hash.finalize()))
}

/// Reads an identity in its text form: hex, as in row keys and paths.
pub fn parse_member_id(text: &str) -> Option<MemberId> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok().map(MemberId)
}

fn first_eight(digest: &[u8]) -> u64 {
    let head = digest.first_chunk::<8>().expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_equal_those_of_a_real_cluster() {
        // etcd 3.5.16 --name n1 --initial-cluster n1=http://127.0.0.1:23800,
        // token "etcd-cluster": member list answered these.
        let id = member_id(&["http://127.0.0.1:23800".to_owned()], "etcd-cluster", None);
        assert_eq!(id, MemberId(3_319_814_642_761_637_952));
        assert_eq!(id.to_string(), "2e1259d415f2a040");
        assert_eq!(cluster_id([id]), ClusterId(324_952_591_200_643_719));
    }

    #[test]
    fn order_of_urls_and_members_does_not_matter() {
        let (a, b) = ("http://a:2380".to_owned(), "http://b:2380".to_owned());
        let one = member_id(&[a.clone(), b.clone()], "", Some(1_700_000_000));
        let two = member_id(&[b, a], "", Some(1_700_000_000));
        assert_eq!(one, two);
        assert_eq!(cluster_id([MemberId(2), MemberId(1)]), cluster_id([MemberId(1), MemberId(2)]));
    }

    #[test]
    fn text_forms_are_hex_only() {
        assert_eq!(parse_member_id("2e1259d415f2a040"), Some(MemberId(0x2e12_59d4_15f2_a040)));
        assert_eq!(parse_member_id("a"), Some(MemberId(10)));
        for wrong in ["", "+a", "xyz", "10000000000000000"] {
            assert_eq!(parse_member_id(wrong), None, "{wrong}");
        }
    }
}
