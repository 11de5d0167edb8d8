//! Reply slots of proposals on their way, by request id.
//!
//! A slot is registered before its proposal leaves and filled by the apply
//! thread. Their number is bounded by the proposals that may wait plus the apply
//! backlog; a proposer that gives up removes its slot.

use std::collections::HashMap;
use std::sync::Arc;

use mainstay_apply::Reply;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::courier::{self, Letter, Mailbox, Post};
use crate::handle::RequestError;

/// The answer to one proposal.
pub(crate) type Answer = Result<Reply, RequestError>;

/// Slots are spread so that shards and the apply thread seldom meet on one lock.
const SHARDS: usize = 16;

/// Where an answer goes, and by whose hand.
struct Slot {
    sender: oneshot::Sender<Answer>,
    mailbox: Option<Arc<Mailbox>>,
}

/// The table of slots.
pub(crate) struct Waiters {
    shards: [Mutex<HashMap<u64, Slot>>; SHARDS],
}

impl Waiters {
    pub(crate) fn new() -> Waiters {
        Waiters { shards: std::array::from_fn(|_| Mutex::new(HashMap::new())) }
    }

    /// Registers a slot for `id`, which must not have one.
    pub(crate) fn expect_reply(&self, id: u64) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel();
        let slot = Slot { sender, mailbox: courier::mailbox() };
        let old = self.shard(id).lock().insert(id, slot);
        assert!(old.is_none(), "request id {id:x} was given out twice");
        answer
    }

    /// Fills the slot of `id`, if somebody waits for it here.
    pub(crate) fn fill(&self, id: u64, answer: Answer) {
        self.fill_all(vec![(id, answer)]);
    }

    /// Fills many slots; a thread that gathers wakes once.
    pub(crate) fn fill_all(&self, answers: Vec<(u64, Answer)>) {
        let mut post = Post::default();
        for (id, answer) in answers {
            let Some(slot) = self.shard(id).lock().remove(&id) else { continue };
            post.add(slot.mailbox, Letter::Reply(slot.sender, answer));
        }
    }

    /// Whether somebody waits for `id` here, so that this member proposed it.
    pub(crate) fn is_expected(&self, id: u64) -> bool {
        self.shard(id).lock().contains_key(&id)
    }

    /// Removes the slot of `id`; its proposer has given up.
    pub(crate) fn forget(&self, id: u64) {
        self.shard(id).lock().remove(&id);
    }

    /// Proposals without an answer yet.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Slot>> {
        &self.shards[id as usize % SHARDS]
    }
}

/// Removes a slot when its proposer goes away before the answer.
pub(crate) struct Forget<'a> {
    waiters: &'a Waiters,
    id: Option<u64>,
}

impl<'a> Forget<'a> {
    pub(crate) fn new(waiters: &'a Waiters, id: u64) -> Forget<'a> {
        Forget { waiters, id: Some(id) }
    }

    /// The answer came: there is nothing to remove.
    pub(crate) fn answered(mut self) {
        self.id = None;
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.waiters.forget(id);
        }
    }
}
