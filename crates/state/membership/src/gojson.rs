//! Go's way to write JSON.
//!
//! `encoding/json` escapes `<`, `>`, `&`, U+2028 and U+2029 inside strings,
//! which `serde_json` does not; otherwise their compact forms agree (since Go
//! 1.22 also in `\b` and `\f`). Rows and snapshots are compared byte for byte
//! between members, so the difference matters.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `value` as `json.Marshal` would write it. Field order and omitted fields
/// are up to the type.
pub fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    value
        .serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))
        .expect("a vector takes every write, and our types have string keys only");
    out
}

/// Like [`to_vec`], as text.
pub fn to_string(value: &impl Serialize) -> String {
    String::from_utf8(to_vec(value)).expect("JSON is written from strings and ASCII")
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| is_escaped_by_go(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(found))?;
            rest = &rest[at + found.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

fn is_escaped_by_go(c: char) -> bool {
    matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        // json.Marshal of the same string, Go 1.24.
        let text = "a<b>&c\u{2028}\u{2029}\"\\/\u{8}\u{c}\n\r\t\u{1}\u{7f}é";
        let want = concat!(
            "\"a\\u003cb\\u003e\\u0026c\\u2028\\u2029",
            "\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\u{7f}é\""
        );
        assert_eq!(to_string(&text), want);
    }
}
