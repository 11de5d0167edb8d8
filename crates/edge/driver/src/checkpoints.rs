//! Checkpoints of leases (gate `LeaseCheckpoint`): a leader puts through the log how long
//! leases still run, so that the next one does not start from the whole time.
//!
//! A leader that knows nothing of them renews a lease that carries one for what is left of
//! it, and answers that it is all: the lease ends under whoever keeps it alive by the
//! answer. So none is made unless every other member, learners too, has said that it clears
//! them first, over the connection that stands now. A Go member does not say so, nor does one that is away, or
//! is new. While one has not, those that are there are cleared, whoever made them: also
//! with the gate off, and also what a Go member with the gate has made.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_lease::Checkpoint;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::{LEASE_CHECKPOINT_ENTRIES_PER_TURN, LEASE_CHECKPOINTS_PER_ENTRY};
use mainstay_types::{LeaseId, MemberId};

use crate::handle::{Handle, RequestError, RequestField};
use crate::shared::Shared;
use crate::transport::{CallAnswer, CallError, PeerAnswer, PeerCall};

/// How long a member may say nothing before what it might not understand is cleared: a new
/// leader has to ask everyone first.
const PATIENCE: Duration = Duration::from_secs(2);
/// When what should be cleared by then is cleared again.
const AGAIN: Duration = Duration::from_secs(2);

/// What another member has said, and when it was asked.
#[derive(Clone, Copy, Debug)]
struct Word {
    asked: Duration,
    clears: bool,
}

/// What all the others have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreed {
    /// All clear a checkpoint before they renew its lease.
    All,
    /// This one has not said, or not over the connection that stands.
    Unsure(MemberId),
    /// This one does not.
    No(MemberId),
}

/// A leader's part.
#[derive(Default)]
pub(crate) struct Checkpoints {
    words: BTreeMap<MemberId, Word>,
    asked: BTreeMap<MemberId, (Duration, CallAnswer)>,
    unsure_since: Option<Duration>,
    cleared: Option<Duration>,
    told: Option<Agreed>,
}

impl Checkpoints {
    /// This member does not lead.
    pub(crate) fn stand_down(&mut self, shared: &Shared) {
        if self.told.is_some() || self.cleared.is_some() {
            *self = Checkpoints::default();
        }
        shared.cells.checkpoints.store(false, Ordering::Release);
    }

    /// Once per turn of a leader.
    pub(crate) fn turn(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        let gate = shared.options.lease_checkpoint_every.is_some();
        if !gate {
            return self.clear(shared, now);
        }
        let agreed = self.agreed(shared, now);
        self.tell(agreed);
        shared.cells.checkpoints.store(agreed == Agreed::All, Ordering::Release);
        if agreed == Agreed::All {
            self.unsure_since = None;
            return propose_due(shared);
        }
        let since = *self.unsure_since.get_or_insert(now);
        if matches!(agreed, Agreed::No(_)) || now >= since + PATIENCE {
            self.clear(shared, now);
        }
    }

    /// Whether all the others may lead where leases carry checkpoints. Whoever has to be
    /// asked is, and answers by the next turn.
    fn agreed(&mut self, shared: &Shared, now: Duration) -> Agreed {
        self.hear();
        let membership = shared.membership.load_full();
        let me = shared.identity.member;
        let others = || membership.members().map(|member| member.id).filter(|id| *id != me);
        self.words.retain(|id, _| others().any(|other| other == *id));
        let mut agreed = Agreed::All;
        for id in others() {
            let connected = shared.transport.connected_for(id);
            let word = self.words.get(&id).filter(|word| holds(word, connected, now));
            match word {
                Some(word) if word.clears => {}
                Some(_) => agreed = Agreed::No(id),
                None => {
                    if connected.is_some() {
                        let ask = || (now, shared.transport.call(id, PeerCall::About));
                        self.asked.entry(id).or_insert_with(ask);
                    }
                    if agreed == Agreed::All {
                        agreed = Agreed::Unsure(id);
                    }
                }
            }
        }
        agreed
    }

    /// Takes the answers that have come.
    fn hear(&mut self) {
        use tokio::sync::oneshot::error::TryRecvError;
        let words = &mut self.words;
        self.asked.retain(|id, (asked, answer)| {
            let clears = match answer.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Ok(Ok(PeerAnswer::About(about))) => about.lease_checkpoints,
                // It answers, and knows no such question.
                Ok(Err(CallError::Refused { .. })) => false,
                Ok(_) | Err(TryRecvError::Closed) => return false,
            };
            words.insert(*id, Word { asked: *asked, clears });
            false
        });
    }

    fn tell(&mut self, agreed: Agreed) {
        if self.told.replace(agreed) == Some(agreed) {
            return;
        }
        match agreed {
            Agreed::All => tracing::info!("all members clear checkpoints of leases: making them"),
            Agreed::Unsure(id) => tracing::info!(
                "remote-peer-id" = %id,
                "no checkpoints of leases until it is known what this member makes of them"
            ),
            Agreed::No(id) => tracing::warn!(
                "remote-peer-id" = %id,
                "no checkpoints of leases: this member, should it lead, would not clear them"
            ),
        }
    }

    /// Takes back what there is.
    fn clear(&mut self, shared: &Shared, now: Duration) {
        if self.cleared.is_some_and(|cleared| now < cleared + AGAIN) {
            return;
        }
        let most = LEASE_CHECKPOINTS_PER_ENTRY * LEASE_CHECKPOINT_ENTRIES_PER_TURN;
        let (term, marked) = shared.leases.marked(most);
        if marked.is_empty() {
            return;
        }
        self.cleared = Some(now);
        tracing::info!(leases = marked.len(), "clearing checkpoints of leases");
        for ids in marked.chunks(LEASE_CHECKPOINTS_PER_ENTRY) {
            shared.propose_as_leader(term, entry(clearing(ids)));
        }
    }
}

/// Whether a word still counts: the connection has stood since it was asked for, so that
/// it is the same process.
fn holds(word: &Word, connected: Option<Duration>, now: Duration) -> bool {
    connected.is_some_and(|connected| connected >= now.saturating_sub(word.asked))
}

fn propose_due(shared: &Shared) {
    for _ in 0..LEASE_CHECKPOINT_ENTRIES_PER_TURN {
        let (term, due) = shared.leases.due_checkpoints(LEASE_CHECKPOINTS_PER_ENTRY);
        let is_last = due.len() < LEASE_CHECKPOINTS_PER_ENTRY;
        if !due.is_empty() {
            shared.propose_as_leader(term, entry(request(due)));
        }
        if is_last {
            return;
        }
    }
}

fn request(checkpoints: impl IntoIterator<Item = Checkpoint>) -> pb::LeaseCheckpointRequest {
    let checkpoint =
        |of: Checkpoint| pb::LeaseCheckpoint { id: of.id.0, remaining_ttl: of.remaining };
    pb::LeaseCheckpointRequest { checkpoints: checkpoints.into_iter().map(checkpoint).collect() }
}

/// The request that takes them back: the whole time counts again.
fn clearing(ids: &[LeaseId]) -> pb::LeaseCheckpointRequest {
    request(ids.iter().map(|id| Checkpoint { id: *id, remaining: 0 }))
}

fn entry(request: pb::LeaseCheckpointRequest) -> pb::InternalRaftRequest {
    pb::InternalRaftRequest { lease_checkpoint: Some(request), ..Default::default() }
}

impl Handle {
    /// Clears the checkpoint of a lease, and waits until it is.
    pub(crate) async fn clear_checkpoint(&self, lease: LeaseId) -> Result<(), RequestError> {
        self.propose(RequestField::LeaseCheckpoint, &clearing(&[lease])).await.map(drop)
    }

    /// Clears all that there are, before somebody may lead who does not know them.
    pub(crate) async fn clear_checkpoints(&self) -> Result<(), RequestError> {
        let marked = self.ask(|machine| machine.leases().marked().collect::<Vec<_>>()).await?;
        for ids in marked.chunks(LEASE_CHECKPOINTS_PER_ENTRY) {
            self.propose(RequestField::LeaseCheckpoint, &clearing(ids)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_as_long_as_the_connection_stands() {
        let word = Word { asked: Duration::from_secs(100), clears: true };
        let now = Duration::from_secs(160);
        assert!(holds(&word, Some(Duration::from_secs(60)), now));
        assert!(holds(&word, Some(Duration::from_secs(500)), now));
        assert!(!holds(&word, Some(Duration::from_secs(59)), now), "it came back meanwhile");
        assert!(!holds(&word, None, now));
    }
}
