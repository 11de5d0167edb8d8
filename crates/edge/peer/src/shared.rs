//! What every task of the transport sees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use mainstay_membership::Membership;
use mainstay_raft::{Message, MessageKind};
use mainstay_types::limits::PEER_REMOTES_MAX;
use mainstay_types::{ClusterId, MemberId};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::client::Dialer;
use crate::local::{Local, Refused};
use crate::peer::Peer;
use crate::thread::Thread;
use crate::transport::Options;
use crate::unfinished::Unfinished;
use mainstay_server::network::NetworkStats;

/// Whom we talk to.
#[derive(Clone, Default)]
pub(crate) struct Table {
    /// The other members of the cluster.
    pub(crate) peers: BTreeMap<MemberId, Arc<Peer>>,
    /// Those who introduced themselves before we knew them as members: they get
    /// their answers, by POST.
    pub(crate) remotes: BTreeMap<MemberId, Arc<Peer>>,
}

impl Table {
    pub(crate) fn find(&self, member: MemberId) -> Option<&Arc<Peer>> {
        self.peers.get(&member).or_else(|| self.remotes.get(&member))
    }
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) dialer: Dialer,
    pub(crate) stats: Arc<NetworkStats>,
    pub(crate) table: ArcSwap<Table>,
    /// Held while the table is replaced.
    pub(crate) changing: Mutex<()>,
    pub(crate) thread: Thread,
    pub(crate) local: OnceLock<Arc<dyn Local>>,
    pub(crate) stopping: AtomicBool,
    /// Calls that may begin.
    pub(crate) calls: Arc<Semaphore>,
    /// Snapshots that arrive.
    pub(crate) snapshots: AtomicUsize,
    /// Dbs that are being given away.
    pub(crate) offers: AtomicUsize,
    /// Messages that have not arrived whole.
    pub(crate) unfinished: Unfinished,
}

impl Shared {
    /// The member. Tasks, peers and answers begin only once it is there.
    pub(crate) fn local(&self) -> &Arc<dyn Local> {
        self.local.get().expect("nothing begins before `attach`")
    }

    /// Cluster and member.
    pub(crate) fn me(&self) -> (ClusterId, MemberId) {
        let local = self.local();
        (local.cluster(), local.member())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn peer(&self, member: MemberId) -> Option<Arc<Peer>> {
        self.table.load().peers.get(&member).cloned()
    }

    /// Tells raft that a message was lost.
    pub(crate) fn unreachable(&self, member: MemberId) {
        if let Some(local) = self.local.get()
            && !self.is_stopping()
        {
            local.unreachable(member);
        }
    }

    /// Gives back what nothing has left of, as far as anybody wants it back: proposals.
    pub(crate) fn unsent(&self, messages: impl IntoIterator<Item = Message>) {
        let Some(local) = self.local.get() else { return };
        let proposals = messages.into_iter().filter(|message| message.kind == MessageKind::Prop);
        proposals.for_each(|message| local.unsent(message));
    }

    /// Hands a message to the member, if it is meant for it.
    pub(crate) fn receive(&self, message: Message) -> Result<(), Rejected> {
        self.admits(&message)?;
        self.local().receive(message).map_err(Rejected::Refused)
    }

    /// Whether a message is from a member that may speak, to this one.
    pub(crate) fn admits(&self, message: &Message) -> Result<(), Rejected> {
        let local = self.local();
        let (me, from, to) = (local.member(), message.from, message.to);
        if local.is_removed(from) {
            tracing::warn!(
                "local-member-id" = %me,
                "removed-member-id" = %from,
                "rejected Raft message from removed member"
            );
            return Err(Rejected::Removed);
        }
        if to != me {
            tracing::warn!(
                "local-member-id" = %me,
                "mismatch-member-id" = %to,
                "rejected Raft message to mismatch member"
            );
            return Err(Rejected::Mismatch);
        }
        Ok(())
    }

    /// Takes note of somebody who introduced itself and is no member that we know of:
    /// it gets its answers, by POST.
    pub(crate) fn meet(self: &Arc<Self>, member: MemberId, urls: &[String]) {
        let known = self.table.load().find(member).is_some();
        if known || member == self.me().1 || self.local().is_removed(member) {
            return;
        }
        let _changing = self.changing.lock();
        let mut table = Table::clone(&self.table.load());
        if self.is_stopping()
            || table.find(member).is_some()
            || table.remotes.len() >= PEER_REMOTES_MAX
        {
            return;
        }
        table.remotes.insert(member, Peer::start_posts(self, member, urls));
        self.table.store(Arc::new(table));
        tracing::info!(
            "local-member-id" = %self.me().1,
            "remote-peer-id" = %member,
            "remote-peer-urls" = urls.join(","),
            "added new remote peer"
        );
    }

    /// Talks to the members of `membership`, but for itself, and to nobody else.
    pub(crate) fn follow(self: &Arc<Self>, membership: &Membership) {
        let me = self.me().1;
        let _changing = self.changing.lock();
        let before = self.table.load();
        let mut table = Table::default();
        for member in membership.members().filter(|member| member.id != me) {
            let (id, urls) = (member.id, &member.peer_urls);
            let peer = match before.peers.get(&id) {
                Some(peer) => {
                    if peer.picker.update(urls) {
                        tracing::info!(
                            "local-member-id" = %me,
                            "updated-remote-peer-id" = %id,
                            "updated-remote-peer-urls" = urls.join(","),
                            "updated remote peer"
                        );
                    }
                    peer.look_again(self);
                    Arc::clone(peer)
                }
                None => {
                    let peer = Peer::start(self, id, urls);
                    tracing::info!(
                        "local-member-id" = %me,
                        "remote-peer-id" = %id,
                        "remote-peer-urls" = urls.join(","),
                        "added remote peer"
                    );
                    peer
                }
            };
            table.peers.insert(id, peer);
        }
        let stays = |id: &MemberId| !table.peers.contains_key(id) && !membership.is_removed(*id);
        for (id, remote) in before.remotes.iter().filter(|(id, _)| stays(id)) {
            table.remotes.insert(*id, Arc::clone(remote));
        }
        let table = Arc::new(table);
        self.table.store(Arc::clone(&table));
        for (id, peer) in before.peers.iter().chain(&before.remotes) {
            let kept = table.find(*id).is_some_and(|kept| Arc::ptr_eq(kept, peer));
            if !kept {
                peer.stop();
                tracing::info!(
                    "local-member-id" = %me,
                    "removed-remote-peer-id" = %id,
                    "removed remote peer"
                );
            }
        }
    }
}

/// Why a message did not reach raft. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    #[error("cannot process message from removed member")]
    Removed,
    #[error("cannot process message to mismatch member")]
    Mismatch,
    #[error(transparent)]
    Refused(Refused),
}
