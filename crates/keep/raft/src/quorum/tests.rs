//! Quorums against a dumb model.

use proptest::prelude::*;

use super::*;

fn members(n: u64) -> BTreeSet<MemberId> {
    (1..=n).map(MemberId).collect()
}

proptest! {
    #[test]
    fn reached_is_the_highest_position_that_a_majority_has(reached in prop::collection::vec(0u64..20, 1..12)) {
        let voters = members(reached.len() as u64);
        let got = majority_reached(&voters, |id| reached[id.0 as usize - 1]);
        let holders = |at: u64| reached.iter().filter(|r| **r >= at).count();
        prop_assert!(holders(got) > reached.len() / 2);
        prop_assert!(holders(got + 1) <= reached.len() / 2);
    }

    #[test]
    fn a_vote_is_decided_exactly_when_no_open_vote_can_turn_it(votes in prop::collection::vec(0u8..3, 1..9)) {
        let voters = members(votes.len() as u64);
        let cast: BTreeMap<MemberId, bool> = votes.iter().enumerate()
            .filter(|(_, v)| **v != 2).map(|(at, v)| (MemberId(at as u64 + 1), *v == 1)).collect();
        let yes = votes.iter().filter(|v| **v == 1).count();
        let no = votes.iter().filter(|v| **v == 0).count();
        let wins = |yes: usize| yes > votes.len() / 2;
        let expected = if wins(yes) { VoteResult::Won }
            else if !wins(votes.len() - no) { VoteResult::Lost }
            else { VoteResult::Pending };
        prop_assert_eq!(majority_vote(&voters, &cast), expected);
    }
}

#[test]
fn a_joint_vote_needs_both() {
    use VoteResult::{Lost, Pending, Won};
    assert_eq!(joint_vote(Won, Won), Won);
    assert_eq!(joint_vote(Won, Pending), Pending);
    assert_eq!(joint_vote(Pending, Lost), Lost);
    assert_eq!(joint_vote(Won, Lost), Lost);
    assert_eq!(majority_vote(&BTreeSet::new(), &BTreeMap::new()), Won);
}
