//! The members that a restored cluster begins with.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_membership::{Member, cluster_id, member_id};
use mainstay_types::{ClusterId, MemberId};

/// Why no cluster can begin with these members; etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundersError {
    /// The member to restore is not among them.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotListed(String),
    /// One URL stands twice.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// Two members would have one identity.
    #[error("member exists with identical ID {0} ({1})")]
    SameId(MemberId, String),
    /// An identity is the one that means nobody.
    #[error("cannot use 0 as member id")]
    NoId,
}

/// The first members of a cluster, and which of them is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founders {
    /// Ascending by identity.
    members: Vec<Member>,
    me: MemberId,
}

impl Founders {
    /// Members by name with their peer URLs, the token that is mixed into identities, and the
    /// name of the member that is restored. URLs must have been checked.
    ///
    /// # Errors
    /// When the name is not listed, a URL stands twice, or identities clash.
    pub fn new(
        by_name: &BTreeMap<String, Vec<String>>,
        token: &str,
        name: &str,
    ) -> Result<Founders, FoundersError> {
        if !by_name.contains_key(name) {
            return Err(FoundersError::NotListed(name.to_owned()));
        }
        let mut seen = BTreeSet::new();
        if !by_name.values().flatten().all(|url| seen.insert(url)) {
            return Err(FoundersError::DuplicateUrl(shown(by_name)));
        }
        let (mut members, mut me) = (BTreeMap::new(), MemberId::NONE);
        for (of, urls) in by_name {
            let mut peer_urls = urls.clone();
            peer_urls.sort_unstable();
            let id = member_id(&peer_urls, token, None);
            if id == MemberId::NONE {
                return Err(FoundersError::NoId);
            }
            if of == name {
                me = id;
            }
            let member = Member { id, peer_urls, name: of.clone(), ..Member::default() };
            if members.insert(id, member).is_some() {
                return Err(FoundersError::SameId(id, of.clone()));
            }
        }
        Ok(Founders { members: members.into_values().collect(), me })
    }

    /// The members, ascending by identity. None has client URLs yet.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member that is restored.
    pub fn me(&self) -> MemberId {
        self.me
    }

    /// The identity of the new cluster.
    pub fn cluster(&self) -> ClusterId {
        cluster_id(self.members.iter().map(|member| member.id))
    }
}

/// `name=url,...`, sorted, as etcd shows it.
fn shown(by_name: &BTreeMap<String, Vec<String>>) -> String {
    let pairs =
        by_name.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    let mut pairs: Vec<String> = pairs.collect();
    pairs.sort_unstable();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_name(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        let mut out = BTreeMap::<String, Vec<String>>::new();
        for (name, url) in pairs {
            out.entry((*name).to_owned()).or_default().push((*url).to_owned());
        }
        out
    }

    #[test]
    fn identities_are_etcds() {
        // etcd 3.5.16 --name n1 --initial-cluster n1=http://127.0.0.1:23800.
        let one = by_name(&[("n1", "http://127.0.0.1:23800")]);
        let founders = Founders::new(&one, "etcd-cluster", "n1").expect("one member");
        assert_eq!(founders.me().to_string(), "2e1259d415f2a040");
        assert_eq!(founders.cluster(), ClusterId(324_952_591_200_643_719));
    }

    #[test]
    fn who_cannot_begin_is_told_why() {
        let two = by_name(&[("b", "http://b:1"), ("a", "http://a:1")]);
        let founders = Founders::new(&two, "t", "b").expect("two members");
        assert!(founders.members().is_sorted_by_key(|member| member.id));
        let me = founders.members().iter().find(|m| m.id == founders.me());
        assert_eq!(me.expect("it is one of them").name, "b");
        let error = Founders::new(&two, "t", "c").expect_err("nobody");
        let text = "couldn't find local name \"c\" in the initial cluster configuration";
        assert_eq!(error.to_string(), text);
        let twins = by_name(&[("b", "http://a:1"), ("a", "http://a:1")]);
        let error = Founders::new(&twins, "t", "a").expect_err("twins");
        let text = "initial cluster a=http://a:1,b=http://a:1 has duplicate url";
        assert_eq!(error.to_string(), text);
    }
}
