//! Numbers, booleans and durations as Go's `strconv`, `flag` and `time` packages read them.

use std::time::Duration;

/// Why a number was not taken; the text is what Go's `flag` package says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not a number of this form.
    #[error("parse error")]
    Syntax,
    /// A number, but too large for its type.
    #[error("value out of range")]
    Range,
}

/// Go's `ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(NumberError::Syntax),
    }
}

/// Go's `ParseUint(text, 0, 64)`: `0x`, `0o`, `0b` and `0` prefixes, `_` between digits.
pub fn parse_uint(text: &str) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    let mut value: u64 = 0;
    // Whether an underscore may come next: after a digit, and after a prefix.
    let mut after_digit = prefixed;
    let mut any = false;
    let mut overflow = false;
    for c in digits.chars() {
        if c == '_' {
            if !after_digit {
                return Err(NumberError::Syntax);
            }
            after_digit = false;
            continue;
        }
        let digit = c.to_digit(radix).ok_or(NumberError::Syntax)?;
        after_digit = true;
        any = true;
        match value.checked_mul(u64::from(radix)).and_then(|v| v.checked_add(u64::from(digit))) {
            Some(next) => value = next,
            None => overflow = true,
        }
    }
    match (any && after_digit, overflow) {
        (false, _) => Err(NumberError::Syntax),
        (true, true) => Err(NumberError::Range),
        (true, false) => Ok(value),
    }
}

/// Go's `ParseInt(text, 0, 64)`.
pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let wide = i128::from(parse_uint(rest)?);
    i64::try_from(if negative { -wide } else { wide }).map_err(|_| NumberError::Range)
}

/// Go's `time.ParseDuration`, in nanoseconds: `1h2m3.5s`, `-1ms`, `0`.
pub fn parse_duration(text: &str) -> Result<i64, NumberError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(NumberError::Syntax);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = take_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => take_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(NumberError::Syntax);
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let unit = unit_nanos(&after[..end]).ok_or(NumberError::Syntax)?;
        rest = &after[end..];
        total += scaled(whole, fraction, unit)?;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(NumberError::Range);
        }
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| NumberError::Range)
}

/// Go's `Duration.String`: `1m30s`, `100ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    if size == 0 {
        return "0s".to_owned();
    }
    if size < NANOS_SECOND {
        let (unit, name) = match size {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(size, unit));
    }
    let (hours, minutes) = (size / NANOS_SECOND / 3600, size / NANOS_SECOND / 60 % 60);
    let seconds = decimal(size % (60 * NANOS_SECOND), NANOS_SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// [`format_duration`] of a duration of ours; past 292 years it says 292 years.
pub fn show(duration: Duration) -> String {
    format_duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// `size` in units of `unit`, as few decimals as say it exactly.
fn decimal(size: u64, unit: u64) -> String {
    let (whole, rest) = (size / unit, size % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

fn take_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `whole.fraction` times `unit`. Digits past the 18th of a fraction are under a nanosecond.
fn scaled(whole: &str, fraction: &str, unit: i128) -> Result<i128, NumberError> {
    let mut value: i128 = 0;
    for digit in whole.bytes() {
        value = value * 10 + i128::from(digit - b'0');
        // One more than the largest: its negative is a number.
        if value > i128::from(i64::MAX) + 1 {
            return Err(NumberError::Range);
        }
    }
    let (mut part, mut scale) = (0_i128, 1_i128);
    for digit in fraction.bytes().take(18) {
        part = part * 10 + i128::from(digit - b'0');
        scale *= 10;
    }
    Ok(value * unit + part * unit / scale)
}

fn unit_nanos(name: &str) -> Option<i128> {
    Some(match name {
        "ns" => 1,
        // Go takes both letters for micro: U+00B5 and U+03BC.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => i128::from(NANOS_SECOND),
        "m" => 60 * i128::from(NANOS_SECOND),
        "h" => 3600 * i128::from(NANOS_SECOND),
        _ => return None,
    })
}

const NANOS_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
