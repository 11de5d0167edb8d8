//! What a member reads before it has a log: answers of name servers, lists of members.

use mainstay_bootstrap::{MemberList, parse_answer};

use crate::Target;
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "discovery", seeds, run };

/// An answer with two SRV records, the second of which points back to the name asked for.
const ANSWER: &[u8] = b"\x00\x07\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00\
    \x0c_etcd-server\x04_tcp\x01a\x00\x00\x21\x00\x01\
    \xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x05\x00\x0c\x00\x00\x00\x00\x09\x4c\x02m1\x01a\x00\
    \xc0\x0c\x00\x21\x00\x01\x00\x00\x00\x05\x00\x0b\x00\x01\x00\x00\x09\x4c\x02m2\xc0\x1e";

fn seeds() -> Vec<Vec<u8>> {
    let seed = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    vec![seed(0, ANSWER), seed(1, b"m1=http://127.0.0.1:2380,m1=https://[::1]:2380,m2=unix://a:1")]
}

fn run(input: &[u8]) -> u64 {
    let mut kind = Kind::default();
    let Some((how, bytes)) = input.split_first() else { return 0 };
    kind.add(u64::from(how % 2));
    if how.is_multiple_of(2) {
        kind.add(parse_answer(bytes).map_or(0, |services| 1 + services as u64));
        return kind.end();
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(list) = MemberList::parse(&text) {
        kind.add_size(list.len());
        kind.add(u64::from(list.has_duplicate_url()));
        // What is printed is read again as the same.
        assert_eq!(MemberList::parse(&list.to_string()).as_ref(), Ok(&list));
        let founders = list.founders("token");
        kind.add(u64::from(founders.is_ok()));
    }
    kind.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_an_answer() {
        assert_eq!(parse_answer(ANSWER), Some(2));
    }
}
