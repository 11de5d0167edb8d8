//! `name=url,name=url`: the form in which first members are told everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mainstay_config::Url;
use mainstay_membership::{Member, member_id};
use mainstay_types::MemberId;

/// Members by name, each with its sorted peer URLs (etcd's `URLsMap`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberList {
    by_name: BTreeMap<String, Vec<Url>>,
}

impl MemberList {
    /// Reads `name=url,...`; a name that comes again adds a URL to its member. Empty parts are
    /// passed over.
    ///
    /// # Errors
    /// When a URL is none that a member can have; in etcd's words.
    pub fn parse(text: &str) -> Result<MemberList, String> {
        let mut list = MemberList::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').unwrap_or((part, ""));
            let url = Url::parse(url).map_err(|e| e.to_string())?;
            list.by_name.entry(name.to_owned()).or_default().push(url);
        }
        list.by_name.values_mut().for_each(|urls| urls.sort());
        Ok(list)
    }

    /// One member.
    pub fn of(name: &str, urls: &[Url]) -> MemberList {
        let mut urls = urls.to_vec();
        urls.sort();
        MemberList { by_name: BTreeMap::from([(name.to_owned(), urls)]) }
    }

    /// The peer URLs of a member, sorted.
    pub fn urls_of(&self, name: &str) -> Option<&[Url]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether a URL stands twice, with whichever names.
    pub fn has_duplicate_url(&self) -> bool {
        let mut seen = BTreeSet::new();
        !self.by_name.values().flatten().all(|url| seen.insert(url))
    }

    /// The members with the identities that they have as founders, by ascending identity.
    ///
    /// # Errors
    /// When two of them would be one, or an identity is the one that means nobody.
    pub fn founders(&self, token: &str) -> Result<Vec<Member>, String> {
        let mut members = BTreeMap::new();
        for (name, urls) in &self.by_name {
            let peer_urls: Vec<String> = urls.iter().map(Url::to_string).collect();
            let id = member_id(&peer_urls, token, None);
            if id == MemberId::NONE {
                return Err("cannot use 0 as member id".to_owned());
            }
            let member = Member { id, peer_urls, name: name.clone(), ..Member::default() };
            if members.insert(id, member).is_some() {
                return Err(format!("member exists with identical ID {id} ({name})"));
            }
        }
        Ok(members.into_values().collect())
    }
}

impl fmt::Display for MemberList {
    /// Sorted, as etcd prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .by_name
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        let mut pairs: Vec<String> = pairs.collect();
        pairs.sort();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let list = MemberList::parse("b=http://b:1,,a=http://z:1,a=http://a:1").expect("it fits");
        assert_eq!(list.to_string(), "a=http://a:1,a=http://z:1,b=http://b:1");
        assert_eq!(list.len(), 2);
        assert_eq!(list.urls_of("a").map(<[Url]>::len), Some(2));
        assert!(!list.has_duplicate_url() && !list.is_empty());
        assert!(MemberList::parse("").expect("nobody").is_empty());
        assert!(MemberList::parse("a=http://a:1,b=http://a:1").expect("twice").has_duplicate_url());
        let error = MemberList::parse("a").expect_err("no URL");
        assert_eq!(error, "URL scheme must be http, https, unix, or unixs: ");
    }

    #[test]
    fn founders_have_the_identities_of_a_real_cluster() {
        // etcd 3.5.16 --name n1 --initial-cluster n1=http://127.0.0.1:23800.
        let list = MemberList::parse("n1=http://127.0.0.1:23800").expect("it fits");
        let founders = list.founders("etcd-cluster").expect("one");
        assert_eq!(founders[0].id.to_string(), "2e1259d415f2a040");
        let twins = MemberList::parse("a=http://a:1,b=http://a:1").expect("it fits");
        assert!(twins.founders("t").expect_err("twins").contains("identical ID"));
    }
}
