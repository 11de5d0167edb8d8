//! The real member behind the transport: `driver::Handle`.

use std::io;

use mainstay_driver::{About, Handle, IncomingDb, RequestError};
use mainstay_raft::Message;
use mainstay_types::{ClusterId, Index, MemberId, Version};

use crate::local::{DbOffering, IncomingSnapshot, Local, Refused};

impl Local for Handle {
    fn member(&self) -> MemberId {
        self.identity().member
    }

    fn cluster(&self) -> ClusterId {
        self.identity().cluster
    }

    fn about(&self) -> About {
        About { lease_checkpoints: self.options().lease_checkpoint_every.is_some() }
    }

    fn standing(&self) -> (MemberId, Index) {
        let standing = Handle::standing(self);
        (standing.leader, standing.applied)
    }

    fn offer_db(&self) -> DbOffering {
        let handle = self.clone();
        Box::pin(async move { Handle::offer_db(&handle).await.map_err(|error| error.to_string()) })
    }

    fn shuns(&self, member: MemberId, version: Version) -> Option<String> {
        Handle::shuns(self, member, version)
    }

    fn receive(&self, message: Message) -> Result<(), Refused> {
        Handle::receive_quietly(self, message).map_err(|error| match error {
            RequestError::Stopped => Refused::Stopped,
            _ => Refused::Full,
        })
    }

    fn received(&self) {
        Handle::received(self);
    }

    fn is_removed(&self, member: MemberId) -> bool {
        Handle::is_removed(self, member)
    }

    fn unsent(&self, message: Message) {
        Handle::unsent(self, message);
    }

    fn unreachable(&self, member: MemberId) {
        Handle::unreachable(self, member);
    }

    fn gone(&self, member: MemberId) {
        Handle::gone(self, member);
    }

    fn snapshot_sent(&self, member: MemberId, ok: bool) {
        Handle::snapshot_sent(self, member, ok);
    }

    fn incoming_snapshot(&self, message: &Message) -> io::Result<Box<dyn IncomingSnapshot>> {
        Ok(Box::new(Handle::incoming_snapshot(self, message)?))
    }

    fn removed_for_good(&self) {
        self.told_removed();
    }
}

impl IncomingSnapshot for IncomingDb {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        IncomingDb::write(self, bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        IncomingDb::finish(*self)
    }
}
