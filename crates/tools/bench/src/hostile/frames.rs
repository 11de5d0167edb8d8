//! What hostile clients say, byte by byte.

/// What every HTTP/2 client sends first, with settings: windows as large as they can be, or
/// of nothing at all.
pub(super) fn opening(window: u32) -> Vec<u8> {
    let mut settings = vec![0, 4];
    settings.extend(window.to_be_bytes());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &settings));
    if window > 0 {
        bytes.extend(frame(8, 0, 0, &0x7ff0_0000_u32.to_be_bytes()));
    }
    bytes
}

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![high, middle, low, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The headers of a gRPC call, as literals that are not remembered.
pub(super) fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    literal(&mut block, 4, path);
    literal(&mut block, 1, "bench");
    // content-type is 31: its index needs a second byte.
    block.extend([0x0f, 16]);
    string(&mut block, "application/grpc");
    block.push(0);
    string(&mut block, "te");
    string(&mut block, "trailers");
    block
}

fn literal(block: &mut Vec<u8>, name: u8, value: &str) {
    block.push(name);
    string(block, value);
}

/// A string of fewer than 127 bytes.
fn string(block: &mut Vec<u8>, text: &str) {
    block.push(text.len() as u8);
    block.extend(text.as_bytes());
}

/// Headers that refer 1,000 times to one long header of the table, which the first call of
/// the connection put there.
pub(super) fn bomb(path: &str, first: bool) -> Vec<u8> {
    let mut block = headers(path);
    if first {
        block.push(0x40);
        string(&mut block, "x");
        // 3,900 bytes: 127 and two bytes of the rest.
        let rest = 3_900 - 127;
        block.extend([0x7f, (rest & 0x7f) as u8 | 0x80, (rest >> 7) as u8]);
        block.extend(std::iter::repeat_n(b'v', 3_900));
    }
    // The newest entry of the table that grows.
    block.extend(std::iter::repeat_n(0x80 | 62, 1_000));
    block
}

/// Kinds of frames and flags.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const END_STREAM: u8 = 1;
