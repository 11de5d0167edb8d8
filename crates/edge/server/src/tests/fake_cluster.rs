//! The cluster around the fake member.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_driver::{CallAnswer, CallError, PeerAnswer, PeerCall};
use mainstay_membership::{Change, Downgrade, Member as OneMember, Membership};
use mainstay_types::limits::LEARNERS_DEFAULT;
use mainstay_types::{Index, MemberId, Version};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::fake::{Fake, MEMBER};
use crate::cluster::{Cluster, Led};
use crate::errors;
use crate::gate::Permitted;
use crate::member::Member as _;
use crate::status::Status;

/// What the fake knows of others, and what it was asked to do.
pub(super) struct Around {
    pub(super) membership: Mutex<Membership>,
    pub(super) connected: Mutex<BTreeMap<MemberId, Duration>>,
    pub(super) matched: Mutex<BTreeMap<MemberId, Index>>,
    pub(super) strict: Mutex<bool>,
    /// Questions to others, and the answers that they will get, in order; then none.
    pub(super) asked: Mutex<Vec<(MemberId, PeerCall)>>,
    pub(super) answers: Mutex<VecDeque<Result<PeerAnswer, CallError>>>,
    pub(super) moved: Mutex<Vec<MemberId>>,
}

impl Default for Around {
    fn default() -> Around {
        let member = OneMember {
            id: MemberId(MEMBER),
            name: "m1".into(),
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec!["http://localhost:2379".into()],
            is_learner: false,
        };
        let mut membership = Membership::new([member]);
        membership.set_version(Version::line(3, 7));
        Around {
            membership: Mutex::new(membership),
            connected: Mutex::default(),
            matched: Mutex::new(BTreeMap::from([(MemberId(MEMBER), Index(100))])),
            strict: Mutex::new(true),
            asked: Mutex::default(),
            answers: Mutex::default(),
            moved: Mutex::default(),
        }
    }
}

impl Fake {
    /// Another member, started and connected for long.
    pub(super) fn join(&self, id: u64, is_learner: bool) {
        let member = OneMember {
            id: MemberId(id),
            name: format!("m{id:x}"),
            peer_urls: vec![format!("http://m{id:x}:2380")],
            client_urls: Vec::new(),
            is_learner,
        };
        self.0.around.membership.lock().apply(Change::Add(member));
        self.0.around.connected.lock().insert(MemberId(id), Duration::from_secs(60));
    }

    pub(super) fn leads(&self) -> bool {
        self.standing().leader == MemberId(MEMBER)
    }

    pub(super) fn if_leading<T>(&self, answer: T) -> Led<T> {
        if self.leads() { Led::Here(answer) } else { Led::Elsewhere }
    }

    /// The next answer from another member.
    pub(super) fn will_hear(&self, answer: Result<PeerAnswer, CallError>) {
        self.0.around.answers.lock().push_back(answer);
    }

    pub(super) fn asked(&self) -> Vec<(MemberId, PeerCall)> {
        self.0.around.asked.lock().clone()
    }
}

impl Cluster for Fake {
    fn membership(&self) -> Arc<Membership> {
        Arc::new(self.0.around.membership.lock().clone())
    }

    fn connected_for(&self, member: MemberId) -> Option<Duration> {
        self.0.around.connected.lock().get(&member).copied()
    }

    async fn progress(&self) -> Result<Vec<(MemberId, Index)>, Status> {
        let matched = self.0.around.matched.lock().clone();
        Ok(matched.into_iter().filter(|_| self.leads()).collect())
    }

    fn strict_reconfig(&self) -> bool {
        *self.0.around.strict.lock()
    }

    async fn change_membership(&self, change: Permitted<Change>) -> Result<Vec<OneMember>, Status> {
        let mut membership = self.0.around.membership.lock();
        membership
            .validate(&change, LEARNERS_DEFAULT)
            .map_err(|error| errors::from_text(error.to_string()))?;
        membership.apply(change.into_parts().0);
        Ok(membership.members().cloned().collect())
    }

    async fn move_leader(&self, to: Permitted<MemberId>) -> Result<(), Status> {
        self.0.around.moved.lock().push(*to);
        Ok(())
    }

    async fn set_downgrade(&self, downgrade: Permitted<Downgrade>) -> Result<(), Status> {
        self.0.around.membership.lock().set_downgrade(downgrade.into_parts().0);
        Ok(())
    }

    async fn set_cluster_version(&self, version: Permitted<Version>) -> Result<(), Status> {
        self.0.around.membership.lock().set_version(*version);
        Ok(())
    }

    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer {
        let mut asked = self.0.around.asked.lock();
        asked.push((to, call));
        let answer = self.0.around.answers.lock().pop_front();
        let answer = answer.unwrap_or_else(|| Err(CallError::Unreachable("nobody".into())));
        let (sender, receiver) = oneshot::channel();
        // The receiver is in our hands.
        let _ = sender.send(answer);
        receiver
    }
}
