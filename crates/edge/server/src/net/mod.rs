//! Sockets, shards and connections.

pub(crate) mod address;
mod authority;
pub(crate) mod connection;
mod gather;
pub(crate) mod listener;
mod rewound;
pub(crate) mod shard;
pub(crate) mod socket;
