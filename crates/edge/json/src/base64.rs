//! Base64 (RFC 4648), read as leniently as Go's protojson reads it.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the padded form of `bytes`, in the standard alphabet.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let piece = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = piece(0) << 16 | piece(1) << 8 | piece(2);
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit)) & 63;
            // One byte takes two digits, two take three.
            let here = digit <= chunk.len();
            out.push(if here { STANDARD[value as usize] } else { b'=' });
        }
    }
}

/// The bytes that `text` stands for, appended to `out`: in the standard or the URL
/// alphabet, padded or (where the length is no multiple of four) not. Line breaks and
/// left-over bits are passed over. `None` when it is none of these; then some of it may
/// have been appended.
pub fn decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let padded = text.len().is_multiple_of(4);
    let url = text.contains(['-', '_']);
    let mut digits = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).peekable();
    out.reserve(text.len() / 4 * 3 + 2);
    loop {
        let (mut word, mut count) = (0, 0);
        while count < 4 {
            match digits.peek() {
                Some(b'=') | None => break,
                Some(digit) => word |= value(*digit, url)? << (18 - 6 * count),
            }
            digits.next();
            count += 1;
        }
        let bytes = match count {
            0 if digits.peek().is_none() => return Some(()),
            4 => 3,
            2 | 3 => count - 1,
            _ => return None,
        };
        out.extend((0..bytes).map(|at| (word >> (16 - 8 * at)) as u8));
        if count < 4 {
            let pads = digits.by_ref().take_while(|digit| *digit == b'=').count();
            let wanted = if padded { 4 - count } else { 0 };
            return (pads == wanted && digits.next().is_none()).then_some(());
        }
    }
}

fn value(digit: u8, url: bool) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' if !url => 62,
        b'/' if !url => 63,
        b'-' if url => 62,
        b'_' if url => 63,
        _ => return None,
    }))
}
