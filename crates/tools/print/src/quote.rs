//! Go's quoted strings (`%q`), both ways, and etcdctl's hexadecimal bytes.

use std::fmt::Write as _;

/// Bytes as Go's `%q` prints a string of them.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0b' => out.push_str("\\v"),
                c if c.is_ascii_control() => {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                }
                c if c.is_control() => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// The bytes that a Go double-quoted string means; `None` when it is not one.
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = Vec::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' | '\n' => return None,
            '\\' => unescape(&mut rest, &mut out)?,
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Some(out)
}

fn unescape(rest: &mut std::str::Chars<'_>, out: &mut Vec<u8>) -> Option<()> {
    let letter = rest.next()?;
    let mut code = |digits: usize| {
        let text: String = rest.by_ref().take(digits).collect();
        (text.len() == digits).then(|| u32::from_str_radix(&text, 16).ok()).flatten()
    };
    match letter {
        'a' => out.push(7),
        'b' => out.push(8),
        'f' => out.push(12),
        'n' => out.push(b'\n'),
        'r' => out.push(b'\r'),
        't' => out.push(b'\t'),
        'v' => out.push(11),
        '\\' => out.push(b'\\'),
        '"' => out.push(b'"'),
        'x' => out.push(u8::try_from(code(2)?).ok()?),
        'u' | 'U' => {
            let c = char::from_u32(code(if letter == 'u' { 4 } else { 8 })?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => return None,
    }
    Some(())
}

/// Bytes for a person: as they are, or as `\xHH` each.
pub fn shown(bytes: &[u8], hex: bool) -> Vec<u8> {
    if !hex {
        return bytes.to_vec();
    }
    let mut out = String::with_capacity(bytes.len() * 4);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_goes_both_ways() {
        for bytes in [&b"plain"[..], b"a\"b\\c\n", "\u{e9}\u{1f600}".as_bytes(), b"\xff\x00\x7f"] {
            let quoted = quote(bytes);
            assert_eq!(unquote(&quoted).as_deref(), Some(bytes), "{quoted}");
        }
        assert_eq!(quote(b"\xff\x01"), r#""\xff\x01""#);
        assert_eq!(unquote("\"open"), None);
        assert_eq!(unquote(r#""\q""#), None);
    }

    #[test]
    fn hexadecimal_is_per_byte() {
        assert_eq!(shown(b"a\n", true), br"\x61\x0a");
    }
}
