//! From the password in an entry to the bytes in a row.

use mainstay_types::limits::{BCRYPT_COST_DEFAULT, PASSWORD_BYTES_MAX};
use mainstay_types::{Index, Term};
use sha2::{Digest, Sha256};

use crate::AuthError;

/// What is stored for a password: `hashed` decoded, which members since 3.5 propose, or
/// the bcrypt hash of `plain` from an entry of an older one.
///
/// Go salts that hash at random, on every member anew. Ours takes the salt from where
/// the password was set, so that our members at least have equal rows: a salt must not
/// repeat, but need not be secret.
pub(crate) fn stored(
    plain: &str,
    hashed: &str,
    entry: (Index, Term),
    user: &str,
) -> Result<Vec<u8>, AuthError> {
    if plain.is_empty() || !hashed.is_empty() {
        return decode_base64(hashed.as_bytes()).ok_or(AuthError::Password);
    }
    if plain.len() > PASSWORD_BYTES_MAX {
        return Err(AuthError::Password);
    }
    let parts = bcrypt::hash_with_salt(plain.as_bytes(), BCRYPT_COST_DEFAULT, salt(entry, user))
        .map_err(|_| AuthError::Password)?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA).into_bytes())
}

fn salt((index, term): (Index, Term), user: &str) -> [u8; 16] {
    let mut sum = Sha256::new();
    sum.update(b"mainstay salt of a legacy password");
    sum.update(index.0.to_be_bytes());
    sum.update(term.0.to_be_bytes());
    sum.update(user.as_bytes());
    let sum = sum.finalize();
    std::array::from_fn(|at| sum[at])
}

/// Standard base64 as Go reads it: line ends are skipped, padding is needed, and the
/// bits that the last character has too many may be anything.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut characters = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    loop {
        let Some(first) = characters.next() else { return Some(out) };
        let first = sextet(first)?;
        let second = sextet(characters.next()?)?;
        let third = characters.next()?;
        let fourth = characters.next()?;
        out.push(first << 2 | second >> 4);
        if third == b'=' {
            // Both are padding, and nothing follows.
            return (fourth == b'=' && characters.next().is_none()).then_some(out);
        }
        let third = sextet(third)?;
        out.push(second << 4 | third >> 2);
        if fourth == b'=' {
            return characters.next().is_none().then_some(out);
        }
        out.push(third << 6 | sextet(fourth)?);
    }
}

fn sextet(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYmE=", Some(b"fooba")),
            ("Zm\n9v\r\n", Some(b"foo")),
            ("Zg=\n=\r", Some(b"f")),
            // Bits too many in the last character.
            ("Zh==", Some(b"f")),
            ("Z", None),
            ("Zg", None),
            ("Zm8", None),
            ("Zg=", None),
            ("=g==", None),
            ("Z===", None),
            ("Zg==Zg==", None),
            ("Zm8=\n", Some(b"fo")),
            ("Zm8=x", None),
            ("Zm9-", None),
        ] {
            assert_eq!(decode_base64(text.as_bytes()).as_deref(), bytes, "{text:?}");
        }
    }

    #[test]
    fn a_plain_password_of_an_old_member_is_hashed_alike_everywhere() {
        let entry = (Index(7), Term(2));
        let row = stored("secret", "", entry, "alice").unwrap();
        assert_eq!(row, stored("secret", "", entry, "alice").unwrap());
        assert_ne!(row, stored("secret", "", (Index(8), Term(2)), "alice").unwrap());
        assert_ne!(row, stored("secret", "", entry, "bob").unwrap());
        let text = String::from_utf8(row).unwrap();
        assert!(text.starts_with("$2a$10$"), "Go writes this version");
        assert!(bcrypt::verify("secret", &text).unwrap());
        assert!(!bcrypt::verify("Secret", &text).unwrap());
    }

    #[test]
    fn a_hash_wins_and_nothing_stays_nothing() {
        let entry = (Index(1), Term(1));
        assert_eq!(stored("secret", "Zm9v", entry, "u").unwrap(), b"foo");
        assert_eq!(stored("", "", entry, "u").unwrap(), b"");
        assert_eq!(stored("", "?", entry, "u"), Err(AuthError::Password));
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(stored(&long, "", entry, "u"), Err(AuthError::Password));
        assert!(stored(&long[1..], "", entry, "u").is_ok());
    }
}
