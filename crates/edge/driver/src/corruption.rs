//! Whether the members still hold the same: hashes are compared, and who differs is
//! marked with a CORRUPT alarm, which stops all writes until somebody has looked
//! (semantics 13; etcd, `corrupt.go`).

mod judge;

use std::sync::Arc;
use std::time::Duration;

use mainstay_proto::etcdserverpb as pb;
use mainstay_types::MemberId;

use crate::consensus::{Command, ReadSlot};
use crate::queue::{Nothing, Receiver};
use crate::shared::Shared;
use crate::transport::{PeerAnswer, PeerCall, PeerHash};
use judge::{Periodic, Vote};

/// How often it is looked whether a check is due.
const LOOK: Duration = Duration::from_millis(500);

/// What another member says of itself; `None` when it says nothing that can be compared.
type Said = (MemberId, Option<PeerHash>);

/// The thread's state.
pub(crate) struct Corruption {
    pub(crate) shared: Arc<Shared>,
    /// The newest compaction that was compared with all members.
    checked: i64,
}

impl Corruption {
    pub(crate) fn new(shared: Arc<Shared>) -> Corruption {
        Corruption { shared, checked: 0 }
    }

    /// Runs until the channel closes.
    pub(crate) fn run(mut self, stop: &Receiver<()>) {
        let clock = Arc::clone(&self.shared.clock);
        let options = &self.shared.options;
        let (periodic, compactions) =
            (options.corrupt_check_every, options.compact_hash_check_every);
        let mut last = (clock.now(), clock.now());
        while let Err(Nothing::Timeout) = stop.recv_timeout(LOOK) {
            let now = clock.now();
            if !self.shared.leads() {
                continue;
            }
            if periodic.is_some_and(|every| now >= last.0 + every) {
                last.0 = now;
                if let Err(error) = self.periodic_check() {
                    tracing::warn!(%error, "failed to check hash KV");
                }
            }
            if compactions.is_some_and(|every| now >= last.1 + every) {
                last.1 = now;
                self.compact_hash_check();
            }
        }
    }

    /// Compares this member with the others before it serves (gate `InitialCorruptCheck`).
    ///
    /// # Errors
    /// When it holds something else than they do, or cannot be hashed: it must not serve.
    pub(crate) fn initial_check(shared: &Shared) -> Result<(), String> {
        let me = shared.identity.member;
        tracing::info!("local-member-id" = %me, "starting initial corruption check");
        let own = shared.view.load_full().hash_kv(0);
        let own = own.map_err(|error| format!("{me} failed to fetch hash ({error})"))?;
        let mut differ = Vec::new();
        for (peer, said) in ask(shared, own.revision) {
            let Some(said) = said.filter(|said| said.hash != own.hash) else { continue };
            let same_compaction = said.compact_revision == own.compact_revision;
            let what = if same_compaction { "hash" } else { "compact revision" };
            tracing::warn!(
                "local-member-id" = %me,
                "local-member-revision" = own.revision,
                "local-member-compact-revision" = own.compact_revision,
                "local-member-hash" = own.hash,
                "remote-peer-id" = %peer,
                "remote-peer-compact-revision" = said.compact_revision,
                "remote-peer-hash" = said.hash,
                "found different {what} values from remote peer"
            );
            if same_compaction {
                differ.push(peer.to_string());
            }
        }
        if differ.is_empty() {
            let text = "initial corruption checking passed; no corruption";
            tracing::info!("local-member-id" = %me, "{text}");
            return Ok(());
        }
        Err(format!(
            "{me} found data inconsistency with peers ({}): one of them, or this one, is damaged. \
             Remove the damaged member from the cluster and add it again with an empty directory",
            differ.join(", ")
        ))
    }

    fn periodic_check(&self) -> Result<(), String> {
        let shared = &self.shared;
        let hash = || shared.view.load_full().hash_kv(0).map_err(|error| error.to_string());
        let before = hash()?;
        let peers = ask(shared, before.revision);
        self.linearizable()?;
        let after = hash()?;
        let me = shared.identity.member;
        let check = Periodic { me, before, after };
        if let Some((member, why)) = check.judge(&peers) {
            tracing::warn!("member-id" = %member, "{why}");
            self.raise(member);
        }
        let checked = peers.iter().filter(|(_, said)| said.is_some()).count();
        tracing::info!("number-of-peers-checked" = checked, "finished peer corruption check");
        Ok(())
    }

    /// Compares what the members remember of compactions, the newest first, down to the
    /// first that all of them know.
    fn compact_hash_check(&mut self) {
        let shared = Arc::clone(&self.shared);
        let me = shared.identity.member;
        tracing::info!("local-member-id" = %me, "starting compact hash check");
        let mut hashes = shared.hashes.all();
        hashes.retain(|hash| hash.revision > self.checked);
        let mut looked_at = 0;
        for own in hashes.iter().rev() {
            let peers = ask(&shared, own.revision);
            if peers.is_empty() {
                continue;
            }
            looked_at += 1;
            match Vote::over(me, own, &peers).outcome() {
                judge::Outcome::Same => {
                    self.checked = own.revision;
                    break;
                }
                judge::Outcome::Unclear => {}
                judge::Outcome::Corrupt(members) => {
                    for member in members {
                        tracing::error!(
                            "member-id" = %member,
                            "revision" = own.revision,
                            "compact-revision" = own.compact_revision,
                            "Detected compaction hash mismatch"
                        );
                        self.raise(member);
                    }
                    break;
                }
            }
        }
        tracing::info!("number-of-hashes-checked" = looked_at, "finished compaction hash check");
    }

    fn linearizable(&self) -> Result<(), String> {
        let (slot, answer) = ReadSlot::here();
        let sent = self.shared.consensus.try_send(Command::Read { slot });
        sent.map_err(|_| "the member is too busy".to_owned())?;
        match answer.blocking_recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the member stops".to_owned()),
        }
    }

    /// Raises the alarm; [`MemberId::NONE`] stands for "one of them".
    fn raise(&self, member: MemberId) {
        self.shared.propose_blindly(pb::InternalRaftRequest {
            alarm: Some(pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Activate as i32,
                member_id: member.0,
                alarm: pb::AlarmType::Corrupt as i32,
            }),
            ..Default::default()
        });
    }
}

/// Asks every other member, all at once.
fn ask(shared: &Shared, revision: i64) -> Vec<Said> {
    let me = shared.identity.member;
    let membership = shared.membership.load_full();
    let others = membership.members().map(|member| member.id).filter(|id| *id != me);
    let asked: Vec<_> =
        others.map(|id| (id, shared.transport.call(id, PeerCall::HashKv { revision }))).collect();
    let hear = |(id, answer): (MemberId, crate::CallAnswer)| match answer.blocking_recv() {
        Ok(Ok(PeerAnswer::HashKv(hash))) => (id, Some(hash)),
        other => {
            tracing::warn!("remote-peer-id" = %id, ?other, "cannot fetch hash from remote peer");
            (id, None)
        }
    };
    asked.into_iter().map(hear).collect()
}
