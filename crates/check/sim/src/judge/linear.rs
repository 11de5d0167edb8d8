//! A second opinion on registers, from the clients' side alone: is there an order of
//! the operations in which each takes effect between question and answer?
//!
//! Wing and Gong's search with Lowe's memory of (what was placed, state). An operation
//! without an answer may take effect at any time after it was asked, or never. The
//! search is bounded; giving up is counted, not judged.

use std::collections::BTreeSet;

use crate::plan::Time;

/// What an operation on a register did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Put(u64),
    Delete,
    /// It found this.
    Get(Option<u64>),
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) asked: Time,
    /// `None`: nobody knows.
    pub(crate) answered: Option<Time>,
    pub(crate) does: Does,
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    Wrong,
    GaveUp,
}

/// The register after an operation; `None` when it cannot have happened there.
fn after(state: Option<u64>, does: Does) -> Option<Option<u64>> {
    match does {
        Does::Put(value) => Some(Some(value)),
        Does::Delete => Some(None),
        Does::Get(found) => (found == state).then_some(state),
    }
}

/// A place in the search: everything before `first` is placed, and these behind it.
type Place = (usize, Vec<usize>, Option<u64>);

/// Judges the operations on one register, which began empty.
pub(crate) fn judge(mut calls: Vec<Call>, steps_max: usize) -> Verdict {
    // An unanswered read says nothing.
    calls.retain(|call| call.answered.is_some() || !matches!(call.does, Does::Get(_)));
    calls.sort_by_key(|call| call.asked);
    let mut seen: BTreeSet<Place> = BTreeSet::new();
    let mut todo: Vec<Place> = vec![(0, Vec::new(), None)];
    let mut steps = 0;
    while let Some((first, placed, state)) = todo.pop() {
        steps += 1;
        if steps > steps_max {
            return Verdict::GaveUp;
        }
        let open = |at: &usize| !placed.contains(at);
        // Nothing may be placed that was asked after an open one was answered.
        let deadline = (first..calls.len()).filter(open).filter_map(|at| calls[at].answered).min();
        let Some(deadline) = deadline else { return Verdict::Fine };
        for at in (first..calls.len()).filter(open) {
            let call = calls[at];
            if call.asked > deadline {
                break;
            }
            let Some(next) = after(state, call.does) else { continue };
            let place = normal(first, &placed, at, next);
            if seen.insert(place.clone()) {
                todo.push(place);
            }
        }
    }
    Verdict::Wrong
}

fn normal(first: usize, placed: &[usize], at: usize, state: Option<u64>) -> Place {
    let mut placed = placed.to_vec();
    let position = placed.partition_point(|other| *other < at);
    placed.insert(position, at);
    let run = placed.iter().enumerate().take_while(|(n, at)| **at == first + n).count();
    placed.drain(..run);
    (first + run, placed, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(asked: Time, answered: Time, does: Does) -> Call {
        let answered = (answered > 0).then_some(answered);
        Call { asked, answered, does }
    }

    #[test]
    fn what_follows_must_see_what_was() {
        let put = call(1, 2, Does::Put(7));
        let fine = vec![put, call(3, 4, Does::Get(Some(7)))];
        assert_eq!(judge(fine, 1000), Verdict::Fine);
        let stale = vec![put, call(3, 4, Does::Get(None))];
        assert_eq!(judge(stale, 1000), Verdict::Wrong);
    }

    #[test]
    fn what_overlaps_may_come_in_any_order_but_only_one() {
        let put = call(1, 9, Does::Put(7));
        let before = call(2, 3, Does::Get(None));
        let behind = call(4, 5, Does::Get(Some(7)));
        assert_eq!(judge(vec![put, before, behind], 1000), Verdict::Fine);
        let back = call(6, 7, Does::Get(None));
        assert_eq!(judge(vec![put, before, behind, back], 1000), Verdict::Wrong);
    }

    #[test]
    fn what_nobody_answered_is_unknown_not_absent() {
        let unknown = call(1, 0, Does::Put(7));
        let late = call(50, 51, Does::Get(Some(7)));
        let never = call(50, 51, Does::Get(None));
        assert_eq!(judge(vec![unknown, late], 1000), Verdict::Fine);
        assert_eq!(judge(vec![unknown, never], 1000), Verdict::Fine);
        let undone = call(60, 61, Does::Get(None));
        assert_eq!(judge(vec![unknown, late, undone], 1000), Verdict::Wrong);
    }
}
