//! Majorities, alone and joint (raft paper, section 6: agreement needs separate
//! majorities of both configurations).

use std::collections::{BTreeMap, BTreeSet};

use mainstay_types::MemberId;

/// Where an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoteResult {
    Pending,
    Lost,
    Won,
}

/// The highest position that a majority of `voters` has reached. Nothing restrains
/// an empty set, so that joint agreement with it is plain agreement.
pub(crate) fn majority_reached(
    voters: &BTreeSet<MemberId>,
    mut reached: impl FnMut(MemberId) -> u64,
) -> u64 {
    const ON_STACK: usize = 8;
    let n = voters.len();
    if n == 0 {
        return u64::MAX;
    }
    let position = n - (n / 2 + 1);
    if n <= ON_STACK {
        let mut sorted = [0u64; ON_STACK];
        for (slot, id) in sorted.iter_mut().zip(voters) {
            *slot = reached(*id);
        }
        sorted[..n].sort_unstable();
        sorted[position]
    } else {
        let mut sorted: Vec<u64> = voters.iter().map(|id| reached(*id)).collect();
        sorted.sort_unstable();
        sorted[position]
    }
}

/// What `votes` mean to a majority of `voters`. An empty set is won, see above.
pub(crate) fn majority_vote(
    voters: &BTreeSet<MemberId>,
    votes: &BTreeMap<MemberId, bool>,
) -> VoteResult {
    let needed = voters.len() / 2 + 1;
    let granted = voters.iter().filter(|id| votes.get(id) == Some(&true)).count();
    let open = voters.iter().filter(|id| !votes.contains_key(id)).count();
    if voters.is_empty() || granted >= needed {
        VoteResult::Won
    } else if granted + open >= needed {
        VoteResult::Pending
    } else {
        VoteResult::Lost
    }
}

/// Both must agree.
pub(crate) fn joint_vote(one: VoteResult, other: VoteResult) -> VoteResult {
    match (one, other) {
        (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
        (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
        (VoteResult::Pending, _) | (_, VoteResult::Pending) => VoteResult::Pending,
    }
}

#[cfg(test)]
mod tests;
