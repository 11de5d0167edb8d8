//! Secrets that nobody can guess.

use aws_lc_rs::rand;

/// etcd's alphabet of simple tokens.
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Letters of a simple token before its dot (etcd).
const LENGTH: usize = 16;

/// The part of a simple token that its proposer draws: 16 letters, all equally likely.
///
/// # Errors
/// The system gives no random bytes.
pub fn simple_token_letters() -> Result<String, aws_lc_rs::error::Unspecified> {
    // Bytes from the last incomplete round of the alphabet would favour its beginning.
    let fair = u8::try_from(256 / LETTERS.len() * LETTERS.len()).expect("at most 256, here 208");
    let mut letters = String::with_capacity(LENGTH);
    while letters.len() < LENGTH {
        let mut bytes = [0u8; 32];
        rand::fill(&mut bytes)?;
        let drawn = bytes.iter().filter(|byte| **byte < fair);
        let drawn = drawn.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        letters.extend(drawn.take(LENGTH - letters.len()));
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_letters_of_which_all_come_up() {
        let mut seen = [0usize; 256];
        for _ in 0..2000 {
            let letters = simple_token_letters().expect("random bytes");
            assert_eq!(letters.len(), LENGTH);
            letters.bytes().for_each(|letter| seen[usize::from(letter)] += 1);
        }
        // 32 000 letters: 615 of each, with a standard deviation of 25.
        for (byte, count) in seen.iter().enumerate() {
            let is_letter = LETTERS.contains(&(byte as u8));
            assert_eq!(*count > 0, is_letter, "{byte}");
            assert!(!is_letter || (415..815).contains(count), "{byte} came {count} times");
        }
    }
}
