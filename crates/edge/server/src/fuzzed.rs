//! The parsers of what clients send, as the fuzzer calls them. Nobody else needs these.

use std::sync::Arc;

use bytes::BytesMut;

use crate::gateway::websocket_frames;
use crate::net;

/// The bytes of an HTTP/2 client as h2 sees them, and how many frames that carry nothing it
/// may still send (0 when it was refused).
pub fn http2(bytes: &[u8], piece: usize) -> (Vec<u8>, u32) {
    let lobby = Arc::new(net::lobby::Lobby::of(2));
    net::followed(bytes, piece, &lobby.enter())
}

/// The payloads of a websocket's frames that come in pieces of this length, and the close
/// code with which it is refused.
pub fn websocket(bytes: &[u8], piece: usize, max: usize) -> (Vec<Vec<u8>>, Option<u16>) {
    let (mut inbox, mut payloads) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        inbox.extend_from_slice(piece);
        loop {
            match websocket_frames::take(&mut inbox, max) {
                Err(wrong) => return (payloads, Some(wrong as u16)),
                Ok(None) => break,
                Ok(Some(frame)) => payloads.push(frame.payload.to_vec()),
            }
        }
    }
    (payloads, None)
}
