//! Sockets, shards and connections.

pub(crate) mod address;
mod authority;
pub(crate) mod connection;
pub(crate) mod door;
pub(crate) mod ender;
mod gather;
pub(crate) mod listener;
pub(crate) mod lobby;
mod metered;
mod rewound;
pub(crate) mod shard;
pub(crate) mod socket;

/// What [`crate::fuzzed`] sees of an HTTP/2 client: its bytes, and the frames it has left.
pub(crate) fn followed(bytes: &[u8], piece: usize, ticket: &lobby::Ticket) -> (Vec<u8>, u32) {
    let (mut frames, mut sieve) = (metered::Frames::new(), authority::Sieve::new());
    let mut seen = Vec::with_capacity(bytes.len());
    let mut left = frames.left();
    for piece in bytes.chunks(piece) {
        // Who was refused is not read on.
        if left > 0 {
            left = frames.pass(piece, ticket).map_or(0, |()| frames.left().max(1));
        }
        let mut piece = piece.to_vec();
        sieve.pass(&mut piece);
        seen.extend(piece);
    }
    (seen, left)
}
