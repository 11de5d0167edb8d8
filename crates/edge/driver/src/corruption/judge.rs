//! Who is wrong, from what everyone says. Pure.

use std::collections::BTreeMap;

use mainstay_mvcc::HashKv;
use mainstay_types::MemberId;

use super::Said;

/// A leader's look at itself and at its followers. What they say was asked for between
/// the two hashes, and the second was made after a read round: nobody can be ahead of it.
pub(super) struct Periodic {
    pub(super) me: MemberId,
    pub(super) before: HashKv,
    pub(super) after: HashKv,
}

impl Periodic {
    /// The first member that cannot be right, and why; at most one a time, as in etcd.
    pub(super) fn judge(&self, peers: &[Said]) -> Option<(MemberId, &'static str)> {
        let Periodic { me, before, after } = self;
        let same_place =
            before.revision == after.revision && before.compact_revision == after.compact_revision;
        if same_place && before.hash != after.hash {
            return Some((*me, "found hash mismatch"));
        }
        peers.iter().find_map(|(peer, said)| {
            let said = said.as_ref()?;
            let why = if said.revision > after.revision {
                "revision from follower must be less than or equal to leader's"
            } else if said.compact_revision > after.compact_revision {
                "compact revision from follower must be less than or equal to leader's"
            } else if said.compact_revision == before.compact_revision && said.hash != before.hash {
                "same compact revision then hashes must match"
            } else {
                return None;
            };
            Some((*peer, why))
        })
    }
}

/// What the members remember of one compaction.
pub(super) struct Vote {
    /// Members by hash.
    by_hash: BTreeMap<u32, Vec<MemberId>>,
    members: usize,
    said: usize,
}

/// What a vote says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All members remember the same.
    Same,
    /// Those who remember it agree, but not all do.
    Unclear,
    /// These hold something else than most; [`MemberId::NONE`] when there is no most.
    Corrupt(Vec<MemberId>),
}

impl Vote {
    pub(super) fn over(me: MemberId, own: &HashKv, peers: &[Said]) -> Vote {
        let mut by_hash = BTreeMap::from([(own.hash, vec![me])]);
        let mut said = 1;
        for (peer, answer) in peers {
            // Hashes over different compactions cannot be compared.
            let comparable =
                answer.filter(|answer| answer.compact_revision == own.compact_revision);
            if let Some(answer) = comparable {
                by_hash.entry(answer.hash).or_default().push(*peer);
                said += 1;
            }
        }
        Vote { by_hash, members: peers.len() + 1, said }
    }

    pub(super) fn outcome(&self) -> Outcome {
        if self.by_hash.len() == 1 {
            return if self.said == self.members { Outcome::Same } else { Outcome::Unclear };
        }
        let quorum = self.members / 2 + 1;
        let right = self.by_hash.values().find(|members| members.len() >= quorum);
        let Some(right) = right else { return Outcome::Corrupt(vec![MemberId::NONE]) };
        let wrong = self.by_hash.values().flatten().filter(|member| !right.contains(member));
        Outcome::Corrupt(wrong.copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::PeerHash;

    const ME: MemberId = MemberId(1);
    const A: MemberId = MemberId(2);
    const B: MemberId = MemberId(3);

    fn own(hash: u32, compact_revision: i64, revision: i64) -> HashKv {
        HashKv { hash, compact_revision, revision }
    }

    fn said(peer: MemberId, hash: u32, compact_revision: i64, revision: i64) -> Said {
        (peer, Some(PeerHash { hash, compact_revision, hash_revision: revision, revision }))
    }

    fn judge(before: HashKv, after: HashKv, peers: &[Said]) -> Option<MemberId> {
        Periodic { me: ME, before, after }.judge(peers).map(|(member, _)| member)
    }

    #[test]
    fn a_leader_finds_itself_or_one_follower_wrong() {
        let now = own(7, 5, 10);
        assert_eq!(judge(now, now, &[said(A, 7, 5, 10), (B, None)]), None);
        assert_eq!(judge(now, own(8, 5, 10), &[]), Some(ME), "it changed with nothing written");
        assert_eq!(judge(now, own(8, 5, 11), &[]), None, "something was written");
        assert_eq!(judge(now, now, &[said(A, 8, 5, 10), said(B, 9, 5, 10)]), Some(A));
        assert_eq!(judge(now, now, &[said(A, 8, 4, 10)]), None, "another compaction");
        assert_eq!(judge(now, now, &[said(A, 7, 5, 11)]), Some(A), "ahead of the leader");
        assert_eq!(judge(now, now, &[said(A, 7, 6, 10)]), Some(A), "compacted ahead of it");
        assert_eq!(judge(now, own(9, 6, 12), &[said(A, 1, 6, 12)]), None, "it moved on meanwhile");
    }

    #[test]
    fn most_are_right_about_a_compaction() {
        let mine = own(7, 5, 10);
        let outcome = |peers: &[Said]| Vote::over(ME, &mine, peers).outcome();
        assert_eq!(outcome(&[said(A, 7, 5, 10), said(B, 7, 5, 10)]), Outcome::Same);
        assert_eq!(outcome(&[said(A, 7, 5, 10), (B, None)]), Outcome::Unclear);
        assert_eq!(outcome(&[said(A, 7, 5, 10), said(B, 9, 4, 10)]), Outcome::Unclear);
        assert_eq!(outcome(&[said(A, 7, 5, 10), said(B, 8, 5, 10)]), Outcome::Corrupt(vec![B]));
        assert_eq!(outcome(&[said(A, 8, 5, 10), said(B, 8, 5, 10)]), Outcome::Corrupt(vec![ME]));
        let nobody = Outcome::Corrupt(vec![MemberId::NONE]);
        assert_eq!(outcome(&[said(A, 8, 5, 10), said(B, 9, 5, 10)]), nobody);
        assert_eq!(outcome(&[said(A, 8, 5, 10), (B, None)]), nobody, "one against one");
    }
}
