//! Messages of the client API as JSON, as etcd's gateway reads and writes them.
//!
//! Driven by the tables of [`mainstay_proto::shape`]: no message is named here. What is
//! read turns into the bytes of the message at once, without a tree of values between;
//! what is written is read from the message's bytes. The forms are those of protobuf's
//! own JSON mapping with original field names: 64-bit integers are strings, bytes are
//! base64, enumerations are names, what is zero is left out; unknown fields are passed
//! over.

mod base64;
mod read;
#[cfg(test)]
mod tests;
mod values;
mod write;

pub use base64::{decode as base64_decode, encode as base64_encode};
pub use read::{ReadError, read};
pub use values::{Cut, Values};
pub use write::{Malformed, text, write};
