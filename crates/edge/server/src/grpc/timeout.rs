//! `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2).

use std::time::Duration;

/// Reads a timeout.
///
/// # Errors
/// The text that grpc-go gives.
pub(crate) fn parse(text: &[u8]) -> Result<Duration, String> {
    let shown = || String::from_utf8_lossy(text).into_owned();
    let Some((unit, digits)) = text.split_last() else {
        return Err(format!("transport: timeout string is too short: {:?}", shown()));
    };
    if digits.is_empty() {
        return Err(format!("transport: timeout string is too short: {:?}", shown()));
    }
    if digits.len() > 8 {
        return Err(format!("transport: timeout string is too long: {:?}", shown()));
    }
    let nanos_per_unit: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return Err(format!("transport: timeout unit is not recognized: {:?}", shown())),
    };
    let mut count = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(format!("strconv.ParseUint: parsing {:?}: invalid syntax", shown()));
        }
        count = count * 10 + u64::from(digit - b'0');
    }
    // 99,999,999 hours overflow u64 nanoseconds by far; nobody waits 580 years.
    Ok(Duration::from_nanos(count.saturating_mul(nanos_per_unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_bounds() {
        assert_eq!(parse(b"5S"), Ok(Duration::from_secs(5)));
        assert_eq!(parse(b"250m"), Ok(Duration::from_millis(250)));
        assert_eq!(parse(b"7u"), Ok(Duration::from_micros(7)));
        assert_eq!(parse(b"0n"), Ok(Duration::ZERO));
        assert_eq!(parse(b"99999999H"), Ok(Duration::from_nanos(u64::MAX)));
        for bad in [&b""[..], b"S", b"123456789S", b"5", b"5s", b"-5S", b"5 S"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
