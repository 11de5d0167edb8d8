//! Websocket frames (RFC 6455), a client's and ours.

use bytes::{Buf as _, Bytes, BytesMut};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Continue = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Op {
    fn is_control(self) -> bool {
        self as u8 >= Op::Close as u8
    }
}

/// A frame from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) op: Op,
    /// Whether it ends its message.
    pub(crate) last: bool,
    pub(crate) payload: Bytes,
}

/// Why a connection cannot go on; the close code that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Not the protocol.
    Protocol = 1002,
    /// More than a message may be.
    TooLong = 1009,
    /// More than there is room for now.
    NoRoom = 1013,
}

/// Takes the next frame of up to `max` bytes off `inbox`; `None` when its end has not come.
pub(crate) fn take(inbox: &mut BytesMut, max: usize) -> Result<Option<Frame>, Wrong> {
    let Some((&[first, second], rest)) = inbox.split_first_chunk() else { return Ok(None) };
    let op = match first & 0x0f {
        0 => Op::Continue,
        1 => Op::Text,
        2 => Op::Binary,
        8 => Op::Close,
        9 => Op::Ping,
        10 => Op::Pong,
        _ => return Err(Wrong::Protocol),
    };
    let last = first & 0x80 != 0;
    // No extension is agreed on, so the reserved bits are zero; a client always masks.
    if first & 0x70 != 0 || second & 0x80 == 0 {
        return Err(Wrong::Protocol);
    }
    let (len, long) = match second & 0x7f {
        126 => {
            let Some((len, _)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*len)), 2)
        }
        127 => {
            let Some((len, _)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*len), 8)
        }
        short => (u64::from(short), 0),
    };
    if op.is_control() && (!last || len > CONTROL_BYTES_MAX) {
        return Err(Wrong::Protocol);
    }
    let len = usize::try_from(len).ok().filter(|len| *len <= max).ok_or(Wrong::TooLong)?;
    let head = 2 + long;
    if inbox.len() < head + MASK_BYTES + len {
        return Ok(None);
    }
    inbox.advance(head);
    let mut mask = [0; MASK_BYTES];
    inbox.copy_to_slice(&mut mask);
    let mut payload = inbox.split_to(len);
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Some(Frame { op, last, payload: payload.freeze() }))
}

/// Of a control frame.
const CONTROL_BYTES_MAX: u64 = 125;
const MASK_BYTES: usize = 4;

/// A frame of ours: whole, and not masked.
pub(crate) fn encode(op: Op, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | op as u8);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if len < 126 => frame.push(len),
        (_, Ok(len)) => {
            frame.push(126);
            frame.extend_from_slice(&len.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> BytesMut {
        let mut frame = encode(Op::Text, payload);
        frame[0] = first;
        frame[1] |= 0x80;
        let head = frame.len() - payload.len();
        let mask = [1, 2, 3, 4];
        let hidden = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&frame[..head], &mask].concat().into_iter().chain(hidden).collect()
    }

    #[test]
    fn frames_of_every_length_come_in_any_pieces() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![7; len];
            let whole = masked(0x81, &payload);
            for cut in [1, 2, 5, whole.len() - 1] {
                let mut part = BytesMut::from(&whole[..cut]);
                assert_eq!(take(&mut part, 70_000), Ok(None), "{len} {cut}");
                part.extend_from_slice(&whole[cut..]);
                let frame = take(&mut part, 70_000).expect("right").expect("whole");
                assert_eq!((frame.op, frame.last), (Op::Text, true));
                assert_eq!(frame.payload, payload);
                assert!(part.is_empty());
            }
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        let refused = |bytes: &[u8]| take(&mut BytesMut::from(bytes), 1000).expect_err("refused");
        assert_eq!(refused(&[0x81, 0x05]), Wrong::Protocol, "not masked");
        assert_eq!(refused(&[0xc1, 0x85]), Wrong::Protocol, "compressed");
        assert_eq!(refused(&[0x83, 0x85]), Wrong::Protocol, "an unknown kind");
        assert_eq!(refused(&[0x09, 0x80]), Wrong::Protocol, "a ping in pieces");
        assert_eq!(refused(&[0x89, 0xfe, 0, 126]), Wrong::Protocol, "a long ping");
        let endless = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(refused(&endless), Wrong::TooLong);
        assert_eq!(refused(&[0x82, 0xfe, 0x03, 0xe9]), Wrong::TooLong);
    }
}
