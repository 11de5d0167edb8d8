//! The 32 groups of ways in, or to get more, each tried on a running member: none may lead
//! anywhere with ours. The same is then tried on Debian's etcd 3.5.16, whose known holes it
//! has to find: a suite that finds none there could not find any here.
//!
//! A group's number is its place in the project's list of faults (section 4). What a group
//! tries at a real process is here; what needs a look inside has tests of its own, which
//! docs/holes.md names. `MAINSTAY_GROUPS=7,12` tries only those on the real one.

mod client;
mod groups;
mod raw;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mainstay_interop::{Kind, PEER_VERSION, Peer, peer};

/// What was found: each line is one way in.
pub(crate) type Holes = Vec<String>;

/// One group.
pub(crate) struct Group {
    pub(crate) number: u8,
    pub(crate) what: &'static str,
    pub(crate) attempt: fn(Kind) -> Holes,
}

macro_rules! groups {
    ($($name:ident: $number:literal, $what:literal, $attempt:path;)*) => {
        const GROUPS: &[Group] =
            &[$(Group { number: $number, what: $what, attempt: $attempt }),*];

        $(
            #[test]
            fn $name() {
                none($number);
            }
        )*
    };
}

use groups::{keys, login, people, shapes, tls, weight};

groups! {
    group_01_every_call_for_everybody: 1, "calls without credentials, or with others'", people::calls;
    group_02_paths_that_are_almost_right: 2, "other spellings of a path, other doors", people::paths;
    group_03_nested_transactions: 3, "what a transaction does inside", keys::nested;
    group_04_odd_ranges: 4, "ranges that say one key and mean more", keys::ranges;
    group_05_while_an_alarm_is_on: 5, "the same while NOSPACE is on", keys::without_space;
    group_06_leases_of_others: 6, "leases of others", keys::leases;
    group_07_streams_after_a_revocation: 7, "streams that outlive their permission", people::revoked;
    group_08_old_tokens: 8, "an old token and new permissions", people::old_tokens;
    group_09_authentication_survives: 9, "a restart, a forced new cluster", people::restarts;
    group_10_signed_tokens: 10, "signed tokens that are forged", login::signed;
    group_11_simple_tokens: 11, "simple tokens that are guessed, or used again", login::simple;
    group_12_time_of_a_login: 12, "the time that a login takes", login::time;
    group_13_secrets_in_outputs: 13, "secrets in what a member prints", login::outputs;
    group_14_revoked_certificates: 14, "revoked certificates on every listener", tls::revoked;
    group_15_wrong_certificates: 15, "certificates of another use, time, authority", tls::wrong;
    group_16_old_versions: 16, "versions of TLS that are not allowed", tls::versions;
    group_17_certificates_change: 17, "a certificate that was replaced", tls::replaced;
    group_18_the_peer_port: 18, "clients on the peer port", tls::peers;
    group_19_plain_and_encrypted: 19, "plain text on a TLS port, and the reverse", tls::plain;
    group_20_half_open: 20, "connections that never say what they want", weight::half_open;
    group_21_large_bodies: 21, "bodies larger than any request", weight::bodies;
    group_22_floods: 22, "floods of HTTP/2 frames", weight::floods;
    group_23_large_requests: 23, "transactions and keys beyond every bound", shapes::large;
    group_24_many_leases: 24, "leases that end in the same second", weight::leases;
    group_25_all_of_it_at_once: 25, "ten readers of everything who do not read", weight::readers;
    group_26_lying_lengths: 26, "lengths that lie, and what grows when unpacked", weight::lies;
    group_27_a_slow_snapshot: 27, "a snapshot that nobody reads", weight::snapshot;
    group_28_nonsense_from_peers: 28, "nonsense on the peer port", shapes::peers;
    group_29_text_that_is_none: 29, "names that are no text", shapes::text;
    group_30_numbers: 30, "numbers at their ends", shapes::numbers;
    group_31_other_hosts: 31, "requests in another host's name", people::hosts;
    group_32_files: 32, "what others on the machine can read", shapes::files;
}

/// Tries a group on ours.
fn none(number: u8) {
    let group = GROUPS.iter().find(|group| group.number == number).expect("in the table");
    let holes = (group.attempt)(Kind::Ours);
    assert!(holes.is_empty(), "{}: {}:\n  {}", group.number, group.what, holes.join("\n  "));
}

/// Groups in which etcd 3.5.16 is known to have a hole, from its advisories and from what was
/// seen of 3.5.30; the suite must find all of them.
const KNOWN: &[u8] = &[1, 3, 4, 5, 7, 12, 21];

#[test]
fn the_real_etcd_has_the_holes_that_it_is_known_for() {
    if peer(Peer::Etcd).is_none() {
        return;
    }
    let only = std::env::var("MAINSTAY_GROUPS").unwrap_or_default();
    let is_wanted = |group: &&Group| {
        only.is_empty() || only.split(',').any(|number| number == group.number.to_string())
    };
    let mut found = Vec::new();
    for group in GROUPS.iter().filter(is_wanted) {
        // A member that is put out of action is one, too.
        let holes = catch_unwind(AssertUnwindSafe(|| (group.attempt)(Kind::Real)));
        let holes = holes.unwrap_or_else(|_| vec!["it did not get through".to_owned()]);
        eprintln!(
            "etcd {PEER_VERSION}, group {:02}, {}: {}",
            group.number,
            group.what,
            holes.len()
        );
        holes.iter().for_each(|hole| eprintln!("    {hole}"));
        if !holes.is_empty() {
            found.push(group.number);
        }
    }
    eprintln!(
        "etcd {PEER_VERSION} has holes in {} of {} groups: {found:?}",
        found.len(),
        GROUPS.len()
    );
    if !only.is_empty() {
        return;
    }
    let missed: Vec<_> = KNOWN.iter().filter(|number| !found.contains(number)).collect();
    assert!(missed.is_empty(), "known and not found: {missed:?}");
    assert!(found.len() >= 6, "{found:?}");
}

#[test]
fn the_table_has_every_group_once() {
    let numbers: Vec<u8> = GROUPS.iter().map(|group| group.number).collect();
    assert_eq!(numbers, (1..=32).collect::<Vec<u8>>());
}
