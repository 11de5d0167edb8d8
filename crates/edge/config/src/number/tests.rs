//! Go's own corner cases of number texts.

use super::*;

#[test]
fn whole_numbers_are_base_zero() {
    for (text, value) in
        [("0", 0), ("010", 8), ("0x1F", 31), ("0b11", 3), ("0o17", 15), ("1_000", 1000), ("0_7", 7)]
    {
        assert_eq!(parse_uint(text), Ok(value), "{text}");
    }
    for text in ["", "_1", "1_", "1__0", "0x", "-1", "+1", "8a", "09", " 1", "1.5"] {
        assert_eq!(parse_uint(text), Err(NumberError::Syntax), "{text}");
    }
    assert_eq!(parse_uint("18446744073709551615"), Ok(u64::MAX));
    assert_eq!(parse_uint("18446744073709551616"), Err(NumberError::Range));
    assert_eq!(parse_int("-0x10"), Ok(-16));
    assert_eq!(parse_int("+5"), Ok(5));
    assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
    assert_eq!(parse_int("9223372036854775808"), Err(NumberError::Range));
}

#[test]
fn durations_read_and_print_as_in_go() {
    for (text, nanos, printed) in [
        ("0", 0, "0s"),
        ("5s", 5_000_000_000, "5s"),
        ("1m30s", 90_000_000_000, "1m30s"),
        ("2h", 7_200_000_000_000, "2h0m0s"),
        ("1.5h", 5_400_000_000_000, "1h30m0s"),
        (".5s", 500_000_000, "500ms"),
        ("1.s", 1_000_000_000, "1s"),
        ("100us", 100_000, "100µs"),
        ("1µs", 1_000, "1µs"),
        ("-1.25ms", -1_250_000, "-1.25ms"),
        ("3ns", 3, "3ns"),
        ("1m0.001s", 60_001_000_000, "1m0.001s"),
        ("9223372036854775807ns", i64::MAX, "2562047h47m16.854775807s"),
        ("-9223372036854775808ns", i64::MIN, "-2562047h47m16.854775808s"),
    ] {
        assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        assert_eq!(format_duration(nanos), printed, "{text}");
    }
    for text in ["", "3", "-", "s", ".s", "1x", "1s2", "1 s", "--1s"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    assert_eq!(parse_duration("9223372036854775808ns"), Err(NumberError::Range));
    assert_eq!(parse_duration("99999999999999999999999h"), Err(NumberError::Range));
}
