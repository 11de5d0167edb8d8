//! Raft's messages on their way between members, as bytes and back.
//!
//! Pure: chunks of bytes go in as they arrive, messages come out; no more memory
//! is taken than has arrived, and nothing that arrives can make this panic.

mod app;
mod intake;
mod message;
mod plain;
mod wire;

use mainstay_raft::Message;

pub use app::{AppDecoder, AppEncoder};
pub use intake::Intake;
pub use message::{
    decode_entry, decode_message, encode_entry, encode_message, entry_len, message_len,
};
pub use plain::{PlainDecoder, encode_plain, encode_plain_heartbeat};

/// A peer sent what is not its protocol. Says what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// What arrives on a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// The link is alive. Not raft's business.
    Heartbeat,
    /// A message for raft.
    Message(Message),
}

#[cfg(test)]
mod tests;
