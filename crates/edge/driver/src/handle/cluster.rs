//! What other members say, and what changes who they are.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_apply::Reply;
use mainstay_membership::{Change, Member};
use mainstay_proto::etcdserverpb::AlarmType;
use mainstay_raft::{ConfChange, ConfChangeKind, Message, MessageKind, PeerStatus};
use mainstay_types::limits::PEER_INBOX_BYTES_MAX;
use mainstay_types::{Index, MemberId};
use tokio::sync::oneshot;

use super::{Handle, RequestError, refused};
use crate::consensus::Command;
use crate::consensus::desk::Place;
use crate::incoming::{IncomingDb, received_db};
use crate::notes::Note;
use crate::transport::{DbOffer, Transport};
use crate::waiters::Forget;

/// What a message counts in the inbox beside its entries.
const MESSAGE_BYTES: usize = 256;

impl Handle {
    /// Takes a message that another member has sent. Never blocks; what does not fit is
    /// dropped, as if the network had lost it. A snapshot is taken only when the db that
    /// belongs to it is on the disk, see [`Handle::incoming_snapshot`].
    ///
    /// # Errors
    /// `TooManyRequests` when it was dropped, `Stopped`, or `Storage` for a snapshot
    /// without its db.
    pub fn receive(&self, message: Message) -> Result<(), RequestError> {
        self.receive_quietly(message).inspect(|()| self.shared.consensus.announce())
    }

    /// As [`Handle::receive`], but nobody works on it before [`Handle::received`].
    ///
    /// # Errors
    /// As there.
    pub fn receive_quietly(&self, message: Message) -> Result<(), RequestError> {
        if message.kind == MessageKind::Snap {
            self.check_db_is_here(&message)?;
        }
        let of_entries: usize = message.entries.iter().map(|entry| entry.data.len() + 64).sum();
        let bytes = MESSAGE_BYTES + of_entries + message.context.len();
        let inbox = &self.shared.cells.inbox_bytes;
        if inbox.fetch_add(bytes, Ordering::Relaxed) > PEER_INBOX_BYTES_MAX {
            inbox.fetch_sub(bytes, Ordering::Relaxed);
            return Err(RequestError::TooManyRequests);
        }
        let sent = self.shared.consensus.try_send_quietly(Command::Peer { message, bytes });
        sent.map_err(refused).inspect_err(|_| {
            inbox.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    /// Works on what was received quietly, here if that may be: the calling thread may
    /// wait for this member's log to be written.
    pub fn received(&self) {
        self.shared.consensus.work_here(Place::Peer);
    }

    fn check_db_is_here(&self, message: &Message) -> Result<(), RequestError> {
        let index = message.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        let path = received_db(&self.shared.options.snap_path(), index);
        match self.shared.disk.metadata(&path) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(RequestError::Storage(format!(
                "a snapshot at index {index} came without its db"
            ))),
            Err(error) => Err(RequestError::Storage(error.to_string())),
        }
    }

    /// The file for the db of a snapshot that is about to arrive with `message`; once it
    /// is finished, the message may be received.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn incoming_snapshot(&self, message: &Message) -> io::Result<IncomingDb> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let index = message.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.index);
        let disk = Arc::clone(&self.shared.disk);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let db = IncomingDb::create(disk, self.shared.options.snap_path(), index, serial)?;
        let db = db.verified(index);
        Ok(db.counted(Arc::clone(&self.shared.clock), Arc::clone(&self.shared.stats)))
    }

    /// The db, for a member of the cluster that has lost its own: everything applied so far
    /// is in it.
    ///
    /// # Errors
    /// `Storage` when it cannot be read or was found to be damaged, `TooManyRequests`,
    /// `Stopped`.
    pub async fn offer_db(&self) -> Result<DbOffer, RequestError> {
        if !self.options().repair_from_peers {
            let why = "this member gives its database to nobody (--repair-from-peers=false)";
            return Err(RequestError::Storage(why.to_owned()));
        }
        let me = self.shared.identity.member.0;
        let corrupt = self.alarms().list(AlarmType::Corrupt as i32);
        if corrupt.iter().any(|alarm| alarm.member_id == me) {
            return Err(RequestError::Storage("an alarm says that this db is corrupt".to_owned()));
        }
        self.shared.committer.offer().await
    }

    /// Proposals for a leader never left: the transport still has all of them. They go to
    /// the next leader, or to the same one a little later.
    pub fn unsent(&self, message: Message) {
        // When it does not fit, it is lost like one that has left.
        let _ = self.send(Command::Unsent(message));
    }

    /// A message to `peer` was lost, or its connection.
    pub fn unreachable(&self, peer: MemberId) {
        // When it does not fit, the next loss tells again.
        let _ = self.send(Command::Unreachable(peer));
    }

    /// The host of `peer` says that nobody listens where it did, and its streams have ended:
    /// its process is gone. If it leads, another member soon does.
    pub fn gone(&self, peer: MemberId) {
        // When it does not fit, its silence tells as well.
        let _ = self.send(Command::Gone(peer));
    }

    /// A snapshot that was sent to `to` has arrived, or not.
    pub fn snapshot_sent(&self, to: MemberId, ok: bool) {
        // Must not get lost, or nothing is sent to it any more.
        self.shared.note(Note::SnapshotSent { to, ok });
    }

    /// Whether this identity was a member once and may never be one again.
    pub fn is_removed(&self, member: MemberId) -> bool {
        self.shared.membership.load().is_removed(member)
    }

    /// A peer says that this member was removed: it stops.
    pub fn told_removed(&self) {
        self.shared.stop.removed();
    }

    /// What carries messages, for questions to other members.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.shared.transport
    }

    /// Whether this member leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.shared.leads()
    }

    /// Proposes a change of the membership and waits until it is applied here; answers
    /// the members after it. The rules of who may be added or removed are the caller's.
    ///
    /// # Errors
    /// What the state machine answers, or why there is no answer.
    pub async fn change_membership(&self, change: &Change) -> Result<Vec<Member>, RequestError> {
        let started = self.shared.clock.now();
        let mut learns = false;
        match change {
            // What the new one knows of them is not known.
            Change::Add(_) => self.clear_checkpoints().await?,
            Change::UpdatePeerUrls(of, _) => {
                self.linearizable().await?;
                learns = self.membership().member(*of).is_some_and(|member| member.is_learner);
            }
            Change::Promote(_) | Change::Remove(_) => {}
        }
        let id = self.shared.next_request_id();
        let answer = self.shared.waiters.expect_reply(id);
        let guard = Forget::new(&self.shared.waiters, id);
        self.send(Command::ProposeChange { id, change: as_raft(change, id, learns) })?;
        match self.within_timeout(started, answer).await?? {
            Reply::Members(members) => {
                guard.answered();
                Ok(members)
            }
            other => Err(RequestError::Storage(format!("unexpected reply {other:?}"))),
        }
    }

    /// What this member, if it leads, knows about everyone; empty otherwise.
    ///
    /// # Errors
    /// `TooManyRequests` or `Stopped`.
    pub async fn progress(&self) -> Result<Vec<PeerStatus>, RequestError> {
        let (slot, answer) = oneshot::channel();
        self.send(Command::Peers { slot })?;
        answer.await.map_err(|_| RequestError::Stopped)
    }

    /// Hands leadership to `to` and waits until it leads.
    ///
    /// # Errors
    /// `LeaderTransferTimeout` when it does not lead within the request timeout.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), RequestError> {
        let me = self.shared.identity.member;
        tracing::info!(
            "local-member-id" = %me,
            "transferee-member-id" = %to,
            "leadership transfer starting"
        );
        if !self.shared.cells.checkpoints.load(Ordering::Acquire)
            && let Err(error) = self.clear_checkpoints().await
        {
            tracing::warn!(%error, "cannot clear the checkpoints of leases for the next leader");
        }
        self.send(Command::Transfer(to))?;
        let moved = async {
            while self.standing().leader != to {
                tokio::time::sleep(self.shared.options.tick / 10).await;
            }
        };
        let moved = tokio::time::timeout(self.request_timeout(), moved).await;
        moved.map_err(|_| RequestError::LeaderTransferTimeout)?;
        tracing::info!(
            "local-member-id" = %me,
            "transferee-member-id" = %to,
            "leadership transfer finished"
        );
        Ok(())
    }

    /// Hands leadership to the voter that was connected longest, before a planned end.
    /// Nothing happens when this member does not lead, or when nobody else could.
    ///
    /// # Errors
    /// As [`Handle::move_leader`].
    pub async fn hand_over(&self) -> Result<(), RequestError> {
        if !self.leads() {
            return Ok(());
        }
        let me = self.shared.identity.member;
        let transport = &self.shared.transport;
        let voters = self.membership().voters();
        let others = voters.into_iter().filter(|id| *id != me);
        let connected =
            others.filter_map(|id| transport.connected_for(id).map(|since| (since, id)));
        match connected.max() {
            Some((_, to)) => self.move_leader(to).await,
            None => Ok(()),
        }
    }

    /// Members, this one included, that have been reachable for at least `least`.
    pub fn connected(&self, least: Duration) -> Vec<MemberId> {
        let me = self.shared.identity.member;
        let transport = &self.shared.transport;
        let there = |id: &MemberId| {
            *id == me || transport.connected_for(*id).is_some_and(|since| since >= least)
        };
        self.membership().members().map(|member| member.id).filter(there).collect()
    }

    /// Which of etcd's timeouts it is (semantics 10.5): the leader had failed around the
    /// start of the request, or the members that would have answered were not connected.
    pub(super) fn timeout_since(&self, started: Duration) -> RequestError {
        let shared = &self.shared;
        let elected = Duration::from_millis(shared.cells.leader_since_ms.load(Ordering::Acquire));
        let lost = elected.saturating_sub(2 * shared.options.election_timeout);
        if started > lost && started < elected {
            return RequestError::TimeoutLeaderFailed;
        }
        let waited = shared.clock.now().saturating_sub(started);
        let leader = self.standing().leader;
        let connected = if leader == MemberId::NONE {
            true
        } else if leader == shared.identity.member {
            let voters = self.membership().voters();
            let there = self.connected(waited);
            voters.iter().filter(|id| there.contains(id)).count() > voters.len() / 2
        } else {
            shared.transport.connected_for(leader).is_some_and(|since| since >= waited)
        };
        if connected { RequestError::Timeout } else { RequestError::TimeoutConnectionLost }
    }

    fn send(&self, command: Command) -> Result<(), RequestError> {
        self.shared.consensus.try_send(command).map_err(refused)
    }
}

/// The change as raft takes it, with the context that the log will carry. `learns` is said of
/// a member whose URLs change and who is a learner: a 3.5 member takes from the context whether
/// it still is one, which its own proposals never say.
fn as_raft(change: &Change, id: u64, learns: bool) -> ConfChange {
    let mut encoded = change.encode(id);
    if let (Change::UpdatePeerUrls(of, urls), true) = (change, learns) {
        let same =
            Member { id: *of, peer_urls: urls.clone(), is_learner: true, ..Member::default() };
        encoded.context = Some(same.to_json().into());
    }
    let kind = match change {
        Change::Add(member) if member.is_learner => ConfChangeKind::AddLearnerNode,
        Change::Add(_) | Change::Promote(_) => ConfChangeKind::AddNode,
        Change::Remove(_) => ConfChangeKind::RemoveNode,
        Change::UpdatePeerUrls(..) => ConfChangeKind::UpdateNode,
    };
    ConfChange { id, kind, node: change.member(), context: encoded.context.unwrap_or_default() }
}
