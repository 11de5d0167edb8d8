//! The raft protocol as a pure state machine with plain types.
//!
//! [`Raft`] owns no clock, no threads, no disk and no dice: time comes as
//! [`Raft::tick`], peers as [`Raft::step`], storage as [`Raft::persisted`],
//! randomness from a seed. What must happen next comes out of
//! [`Raft::take_output`], and what may only happen *after* something else is
//! durable is data ([`Output::after_persist`]), not a rule for the caller to
//! remember.
//!
//! It behaves like go.etcd.io/raft v3.7 as etcd configures it, so that Go members
//! and ours form one cluster. Three things differ, none visible to a peer:
//! - Requests for votes leave after the candidate's own vote is durable. Else a
//!   candidate that crashes could lead the same term twice.
//! - Appends and read rounds are sent when the output is taken: what was proposed
//!   or asked between two outputs shares one message per follower.
//! - A lone voter, too, answers reads only after it has committed an entry of its
//!   own term.
//!
//! The turn of a caller:
//! ```
//! use mainstay_raft::{Config, ConfState, HardState, LogStart, Raft};
//! use mainstay_types::MemberId;
//!
//! let me = MemberId(1);
//! let conf = ConfState { voters: vec![me], ..ConfState::default() };
//! let mut raft =
//!     Raft::new(Config::new(me), HardState::default(), conf, LogStart::default()).expect("fits");
//! raft.campaign();
//! let output = raft.take_output(); // the vote: persist it
//! raft.persisted(output.mark); // the lone voter leads; its first entry comes out
//! raft.propose(bytes::Bytes::from_static(b"hello")).expect("it leads");
//! let output = raft.take_output();
//! assert_eq!(output.entries.len(), 2);
//! raft.persisted(output.mark);
//! assert_eq!(raft.take_output().committed.len(), 2);
//! ```

mod change;
mod codec;
mod config;
mod election;
mod follower;
mod leader;
mod log;
mod message;
mod output;
mod progress;
mod quorum;
mod raft;
mod read;
mod reconfigure;
mod status;
mod types;

pub use codec::DecodeError;
pub use config::{Config, StartError};
pub use log::LogStart;
pub use message::{Message, MessageKind};
pub use output::{Output, SoftState};
pub use progress::ProgressState;
pub use raft::{ProposeError, Raft, StepError};
pub use status::{PeerStatus, Status};
pub use types::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfChangeV2, ConfState,
    Entry, EntryKind, HardState, Mark, Peer, ReadState, Role, Snapshot,
};
