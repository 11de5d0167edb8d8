//! What a leader watches over that takes answers from the others: the version of the
//! cluster, and the end of a downgrade (semantics 12).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_membership::Downgrade;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::membershippb;
use mainstay_types::{MemberId, SPOKEN_VERSION, Term, Version};

use crate::queue::{Nothing, Receiver};
use crate::shared::Shared;
use crate::transport::{PeerAnswer, PeerCall};

/// How often a leader looks at the versions (etcd, `monitorVersionInterval`).
const EVERY: Duration = Duration::from_secs(4);
/// How often it is looked, in a cluster without a version, whether this member leads.
const LOOK: Duration = Duration::from_millis(2);
/// How long the leader of a new cluster waits for all members to say what they run.
const BIRTH_PATIENCE: Duration = Duration::from_secs(1);
/// What a cluster has while its leader does not know what all members run (etcd,
/// `MinClusterVersion`).
const UNKNOWN: Version = Version::line(3, 0);

/// The thread's state.
pub(crate) struct Monitor {
    pub(crate) shared: Arc<Shared>,
}

impl Monitor {
    /// Runs until the channel closes.
    pub(crate) fn run(self, stop: &Receiver<()>) {
        let clock = Arc::clone(&self.shared.clock);
        // When this term was first and last looked at.
        let mut looked: Option<(Term, Duration, Duration)> = None;
        let mut checked = clock.now();
        loop {
            let version = self.shared.membership.load().version();
            let patience = if version.is_none() { LOOK } else { EVERY / 8 };
            let Err(Nothing::Timeout) = stop.recv_timeout(patience) else { return };
            if !self.leads_and_is_published() {
                looked = None;
                continue;
            }
            let term = Term(self.shared.cells.term.load(Ordering::Acquire));
            let now = clock.now();
            let (first, last) = match looked {
                Some((known, first, last)) if known == term => (first, Some(last)),
                _ => (now, None),
            };
            let every = match version {
                None => EVERY / 40,
                Some(UNKNOWN) => EVERY / 8,
                Some(_) => EVERY,
            };
            if last.is_none_or(|last| now >= last + every) {
                looked = Some((term, first, now));
                self.look(term, now >= first + BIRTH_PATIENCE);
            }
            let every = self.shared.options.downgrade_check_every;
            if every.is_some_and(|every| now >= checked + every) {
                checked = now;
                self.end_downgrade(term);
            }
        }
    }

    /// Whether this member leads and has published itself: in etcd's order a member is
    /// known before its cluster has a version.
    fn leads_and_is_published(&self) -> bool {
        let options = &self.shared.options;
        let membership = self.shared.membership.load();
        let me = membership.member(self.shared.identity.member);
        self.shared.leads()
            && me.is_some_and(|me| me.name == options.name && me.client_urls == options.client_urls)
    }

    fn look(&self, term: Term, patient_no_more: bool) {
        let membership = self.shared.membership.load_full();
        let servers = self.servers();
        let lowest = servers.as_ref().and_then(|servers| servers.iter().min().copied());
        let options = &self.shared.options;
        let rule = Rule {
            birth: options.initial_cluster_version,
            hold: options.hold_cluster_version,
            downgrade: membership.downgrade(),
        };
        let version = rule.next(membership.version(), lowest);
        let early = version == Some(UNKNOWN) && !patient_no_more;
        if let Some(version) = version.filter(|_| !early) {
            self.propose_version(term, membership.version(), version);
        }
    }

    /// Ends a downgrade that all members have made (etcd, `CancelDowngradeIfNeeded`).
    fn end_downgrade(&self, term: Term) {
        let membership = self.shared.membership.load_full();
        let job = membership.downgrade();
        if !job.enabled || !is_done(job, self.servers().as_deref()) {
            return;
        }
        tracing::info!("the cluster has been downgraded");
        let request =
            membershippb::DowngradeInfoSetRequest { enabled: false, ..Default::default() };
        self.shared.propose_as_leader(
            term,
            pb::InternalRaftRequest { downgrade_info_set: Some(request), ..Default::default() },
        );
    }

    fn propose_version(&self, term: Term, before: Option<Version>, version: Version) {
        match before {
            None => {
                tracing::info!("cluster-version" = %version, "setting up initial cluster version")
            }
            Some(before) => {
                tracing::info!(from = %before, to = %version, "updating cluster version");
            }
        }
        let request = membershippb::ClusterVersionSetRequest { ver: version.to_string() };
        self.shared.propose_as_leader(
            term,
            pb::InternalRaftRequest { cluster_version_set: Some(request), ..Default::default() },
        );
    }

    /// What every member runs, without the patch; `None` when one does not say.
    fn servers(&self) -> Option<Vec<Version>> {
        let shared = &self.shared;
        let membership = shared.membership.load_full();
        let ids: Vec<MemberId> = membership.members().map(|member| member.id).collect();
        // Asked all at once: the slowest decides how long it takes.
        let asked: Vec<_> = ids
            .iter()
            .filter(|id| **id != shared.identity.member)
            .map(|id| (*id, shared.transport.call(*id, PeerCall::Version)))
            .collect();
        let mut versions = vec![SPOKEN_VERSION.without_patch()];
        let mut silent = false;
        for (id, answer) in asked {
            match answer.blocking_recv() {
                Ok(Ok(PeerAnswer::Version { server, .. })) => versions.push(server.without_patch()),
                other => {
                    tracing::debug!("remote-peer-id" = %id, ?other, "failed to get the version of a member");
                    silent = true;
                }
            }
        }
        (!silent).then_some(versions)
    }
}

/// The lowest version that a cluster is held at.
const OLDEST: Version = Version::line(3, 5);

/// What decides about the version.
struct Rule<'a> {
    /// `--initial-cluster-version`.
    birth: Version,
    /// `--hold-cluster-version`.
    hold: bool,
    downgrade: &'a Downgrade,
}

impl Rule<'_> {
    /// The version to set, if another is due. `lowest` is the lowest that a member runs,
    /// known only when all have said.
    fn next(&self, current: Option<Version>, lowest: Option<Version>) -> Option<Version> {
        let Some(current) = current.map(Version::without_patch) else {
            return Some(lowest.map_or(UNKNOWN, |lowest| lowest.min(self.birth)));
        };
        let lowest = lowest?;
        if current == UNKNOWN {
            return Some(lowest.min(self.birth)).filter(|version| *version > current);
        }
        if let Some(target) = self.target() {
            let one_above = Version::line(target.major, target.minor + 1);
            return (current == one_above && lowest == one_above).then_some(target);
        }
        if !self.hold {
            return (lowest > current).then_some(lowest);
        }
        // Nobody runs less who can be in one cluster with us: the directory was made of an
        // older snapshot.
        (current < OLDEST && lowest >= OLDEST).then_some(OLDEST)
    }

    fn target(&self) -> Option<Version> {
        target(self.downgrade)
    }
}

/// Whereto a downgrade goes.
fn target(job: &Downgrade) -> Option<Version> {
    let wanted = job.enabled.then(|| job.target.parse::<Version>().ok());
    wanted.flatten().map(Version::without_patch)
}

/// Whether every member runs what the downgrade wanted.
fn is_done(job: &Downgrade, servers: Option<&[Version]>) -> bool {
    match (target(job), servers) {
        (Some(target), Some(servers)) => servers.iter().all(|version| *version == target),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V34: Version = Version::line(3, 4);
    const V35: Version = Version::line(3, 5);
    const V36: Version = Version::line(3, 6);
    const V37: Version = Version::line(3, 7);

    fn next(current: Option<Version>, lowest: Option<Version>, hold: bool) -> Option<Version> {
        let none = Downgrade::default();
        Rule { birth: V37, hold, downgrade: &none }.next(current, lowest)
    }

    #[test]
    fn a_cluster_is_born_with_what_all_can_run() {
        assert_eq!(next(None, Some(V37), true), Some(V37));
        assert_eq!(next(None, Some(V35), true), Some(V35));
        assert_eq!(next(None, None, true), Some(UNKNOWN), "until all have said");
        assert_eq!(next(Some(UNKNOWN), None, true), None);
        assert_eq!(next(Some(UNKNOWN), Some(V36), true), Some(V36));
        let none = Downgrade::default();
        let young = Rule { birth: V35, hold: true, downgrade: &none };
        assert_eq!(young.next(None, Some(V37)), Some(V35), "--initial-cluster-version");
    }

    #[test]
    fn versions_hold_unless_told_otherwise() {
        assert_eq!(next(Some(V35), Some(V37), true), None);
        assert_eq!(next(Some(V35), Some(V37), false), Some(V37));
        assert_eq!(next(Some(V37), Some(V36), false), None, "never down by itself");
        assert_eq!(next(Some(V34), Some(V37), true), Some(V35), "made of a snapshot of 3.4");
        assert_eq!(next(Some(V34), Some(V37), false), Some(V37));
        assert_eq!(next(Some(V34), Some(V34), true), None);
    }

    #[test]
    fn a_downgrade_goes_one_minor_down_and_ends_when_all_run_it() {
        let job = Downgrade { target: "3.6.0".into(), enabled: true };
        let rule = Rule { birth: V37, hold: true, downgrade: &job };
        assert_eq!(rule.next(Some(V37), Some(V37)), Some(V36));
        assert_eq!(rule.next(Some(V37), Some(V36)), None, "a member is below already");
        assert_eq!(rule.next(Some(V36), Some(V37)), None, "done before");
        assert_eq!(rule.next(Some(V37), None), None, "not all have said");
        assert!(!is_done(&job, Some(&[V36, V37])));
        assert!(is_done(&job, Some(&[V36, V36])));
        assert!(!is_done(&job, None));
        let far = Downgrade { target: "3.4.0".into(), enabled: true };
        let rule = Rule { birth: V37, hold: true, downgrade: &far };
        assert_eq!(rule.next(Some(V37), Some(V37)), None);
        assert_eq!(rule.target(), Some(V34));
    }
}
