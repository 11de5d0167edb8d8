//! Numbers as Go's strconv reads them, with its errors.

use std::num::IntErrorKind as Kind;

use crate::quote::quote;

/// A whole number as Go's `strconv.ParseInt` reads it, or its error's text.
pub fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    i64::from_str_radix(text, radix).map_err(|error| {
        let why = match error.kind() {
            Kind::PosOverflow | Kind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {}: {why}", quote(text.as_bytes()))
    })
}

/// An unsigned number as Go's `strconv.ParseUint` reads it, or its error's text.
pub fn parse_uint(text: &str, radix: u32) -> Result<u64, String> {
    let why = |why: &str| format!("strconv.ParseUint: parsing {}: {why}", quote(text.as_bytes()));
    if text.starts_with('+') {
        return Err(why("invalid syntax"));
    }
    u64::from_str_radix(text, radix).map_err(|error| match error.kind() {
        Kind::PosOverflow => why("value out of range"),
        _ => why("invalid syntax"),
    })
}

/// With Go's prefixes of other bases, as a flag takes it.
pub fn parse_flag_int(text: &str) -> Result<i64, String> {
    let (digits, radix) = based(text);
    parse_int(digits, radix).map_err(|_| parse_int(text, 10).err().unwrap_or_default())
}

/// Unsigned, with Go's prefixes of other bases, as a flag takes it.
pub fn parse_flag_uint(text: &str) -> Result<u64, String> {
    let (digits, radix) = based(text);
    parse_uint(digits, radix).map_err(|_| parse_uint(text, 10).err().unwrap_or_default())
}

fn based(text: &str) -> (&str, u32) {
    match text.get(..2) {
        Some("0x" | "0X") => (&text[2..], 16),
        Some("0o" | "0O") => (&text[2..], 8),
        Some("0b" | "0B") => (&text[2..], 2),
        _ => (text, 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        assert_eq!(parse_flag_int("0x10"), Ok(16));
        assert_eq!(parse_flag_uint("18446744073709551615"), Ok(u64::MAX));
        let error = parse_flag_uint("18446744073709551616").err();
        let want = "strconv.ParseUint: parsing \"18446744073709551616\": value out of range";
        assert_eq!(error.as_deref(), Some(want));
        assert!(parse_flag_uint("-1").is_err() && parse_flag_int("x").is_err());
    }
}
