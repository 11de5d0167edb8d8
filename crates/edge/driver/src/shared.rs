//! What the threads and every [`Handle`](crate::Handle) hold together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mainstay_apply::{Alarms, Auth, TokenChange};
use mainstay_backend::Backend;
use mainstay_credentials::SimpleTokens;
use mainstay_env::{Clock, Disk};
use mainstay_membership::{Member, Membership};
use mainstay_mvcc::View;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::prost::Message as _;
use mainstay_types::{MemberId, Term};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Options;
use crate::apply_thread::ApplyHandle;
use crate::committer::CommitterHandle;
use crate::consensus::Command;
use crate::consensus::desk::Desk;
use crate::handle::Identity;
use crate::hashes::Hashes;
use crate::leases::Leases;
use crate::notes::{Note, Notes};
use crate::read_pool::ReadPool;
use crate::space::Space;
use crate::stats::Stats;
use crate::stop::Stop;
use crate::transport::Transport;
use crate::waiters::Waiters;
use crate::watch_thread::WatchHandle;

/// Shared by all threads of one member.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cells: Cells,
    pub(crate) view: Arc<ArcSwap<View>>,
    pub(crate) membership: ArcSwap<Membership>,
    pub(crate) alarms: ArcSwap<Alarms>,
    pub(crate) auth: ArcSwap<Auth>,
    /// The simple tokens that entries have made; `None` with another kind of tokens.
    pub(crate) tokens: Option<SimpleTokens>,
    /// Counts the changes of [`Shared::auth`], for streams that have to look again.
    pub(crate) auth_changes: watch::Sender<u64>,
    pub(crate) backend: Backend,
    pub(crate) waiters: Waiters,
    pub(crate) consensus: Arc<Desk>,
    pub(crate) apply: ApplyHandle,
    pub(crate) committer: CommitterHandle,
    pub(crate) leases: Leases,
    pub(crate) read_pool: ReadPool,
    pub(crate) watch: WatchHandle,
    pub(crate) stats: Arc<Stats>,
    pub(crate) stop: Stop,
    pub(crate) space: Space,
    pub(crate) request_ids: RequestIds,
    pub(crate) notes: Notes,
    pub(crate) hashes: Hashes,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) disk: Arc<dyn Disk>,
    /// Members that are not talked to, and why.
    pub(crate) shunned: Mutex<BTreeMap<MemberId, String>>,
    /// The members that this one was told of when it was founded: who to talk to until
    /// the log has said who belongs to the cluster.
    pub(crate) founders: Vec<Member>,
}

impl Shared {
    /// Tells the consensus thread something that must not get lost.
    pub(crate) fn note(&self, note: Note) {
        self.notes.add(note);
        self.consensus.wake();
    }

    /// Tells the transport who to talk to.
    pub(crate) fn tell_transport(&self) {
        let membership = self.membership.load_full();
        let unknown = |member: &&Member| {
            membership.member(member.id).is_none() && !membership.is_removed(member.id)
        };
        let founders: Vec<Member> = self.founders.iter().filter(unknown).cloned().collect();
        if founders.is_empty() {
            return self.transport.follow(&membership);
        }
        let members = membership.members().cloned().chain(founders);
        self.transport.follow(&Arc::new(Membership::new(members)));
    }

    /// A request id that no other request of the cluster has.
    pub(crate) fn next_request_id(&self) -> u64 {
        self.request_ids.next()
    }

    /// Whether this member leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.cells.leader.load(Ordering::Acquire) == self.identity.member.0
    }

    /// Proposes without waiting for the outcome; lost when the queue is full.
    pub(crate) fn propose_blindly(&self, mut request: pb::InternalRaftRequest) {
        request.id = self.next_request_id();
        let data = Bytes::from(request.encode_to_vec());
        // Whoever proposes blindly comes again.
        let _ = self.consensus.try_send(Command::Propose { id: request.id, data });
    }

    /// Publishes users and roles. When authentication goes on or off, it is looked again at
    /// who may be talked to. To be called before a view is published that holds anything
    /// which the change was to hide.
    pub(crate) fn take_auth(&self, auth: &Arc<Auth>) {
        self.auth.store(Arc::clone(auth));
        let enabled = auth.is_enabled();
        let switched = self.cells.auth_enabled.swap(enabled, Ordering::AcqRel) != enabled;
        self.auth_changes.send_modify(|changes| *changes += 1);
        if switched {
            self.tell_transport();
        }
    }

    /// What an entry does to the tokens that are known here.
    pub(crate) fn change_tokens(&self, change: &TokenChange) {
        let Some(tokens) = &self.tokens else { return };
        match change {
            TokenChange::Issued { user, token } => tokens.issue(user, &token.0, self.clock.now()),
            TokenChange::Void(user) => tokens.void(user),
            TokenChange::AllVoid => tokens.void_all(),
        }
    }

    /// Users and roles came with a snapshot, without the entries that changed them: whose
    /// password is another one now, or who is gone, has no token any more.
    pub(crate) fn void_tokens_of_others(&self, auth: &Auth) {
        let Some(tokens) = &self.tokens else { return };
        let before = self.auth.load();
        for user in tokens.users() {
            if before.password_of(&user) != auth.password_of(&user) {
                tokens.void(&user);
            }
        }
        if !auth.is_enabled() {
            tokens.void_all();
        }
    }

    /// As [`Shared::propose_blindly`], but only if this member still leads in `term` when
    /// the consensus thread takes it: what only the leader may say is never forwarded.
    pub(crate) fn propose_as_leader(&self, term: Term, mut request: pb::InternalRaftRequest) {
        request.id = self.next_request_id();
        let data = Bytes::from(request.encode_to_vec());
        // As above.
        let _ = self.consensus.try_send(Command::ProposeAsLeader { id: request.id, term, data });
    }

    /// Raises the NOSPACE alarm for this member.
    pub(crate) fn raise_nospace(&self) {
        self.propose_nospace(pb::alarm_request::AlarmAction::Activate);
    }

    /// Raises it or takes it back.
    pub(crate) fn propose_nospace(&self, action: pb::alarm_request::AlarmAction) {
        self.propose_blindly(pb::InternalRaftRequest {
            alarm: Some(pb::AlarmRequest {
                action: action as i32,
                member_id: self.identity.member.0,
                alarm: pb::AlarmType::Nospace as i32,
            }),
            ..Default::default()
        });
    }
}

/// The member's standing, written by the thread that owns each value and read by all.
#[derive(Default)]
pub(crate) struct Cells {
    pub(crate) term: AtomicU64,
    pub(crate) leader: AtomicU64,
    pub(crate) committed: AtomicU64,
    /// Written by the apply thread after the view that shows it is published.
    pub(crate) applied: AtomicU64,
    /// This member leads and is the only voter: nobody can depose it, so what it
    /// has applied is linearizable at once.
    pub(crate) lone_leader: AtomicBool,
    pub(crate) leader_changes: AtomicU64,
    /// This member leads, and every other one knows what a lease's checkpoint is.
    pub(crate) checkpoints: AtomicBool,
    /// Authentication is on.
    pub(crate) auth_enabled: AtomicBool,
    /// When the leader was elected, in milliseconds of the member's clock.
    pub(crate) leader_since_ms: AtomicU64,
    /// When raft's clock last ticked, in milliseconds of the member's clock.
    pub(crate) ticked_ms: AtomicU64,
    /// Bytes of peers' messages that wait for the consensus thread.
    pub(crate) inbox_bytes: AtomicUsize,
    pub(crate) proposals_failed: AtomicU64,
}

/// Request ids (semantics 10.13): 2 bytes of the member id, 5 bytes of the start
/// time in milliseconds, then a counter that overflows into the time.
pub(crate) struct RequestIds {
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(member: MemberId, wall: Duration) -> RequestIds {
        let member = (member.0 & 0xffff) << 48;
        let millis = (wall.as_millis() as u64) & ((1 << 40) - 1);
        RequestIds { next: AtomicU64::new(member | (millis << 8)) }
    }

    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }
}
