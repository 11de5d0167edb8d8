//! Configuration changes: what each must keep, and that a configuration survives a snapshot.

use proptest::prelude::*;

use super::*;
use crate::ConfChangeTransition;

fn window() -> Inflights {
    Inflights::new(1, u64::MAX)
}

fn ids(list: &[u64]) -> Vec<MemberId> {
    list.iter().copied().map(MemberId).collect()
}

fn three() -> Members {
    let state = ConfState { voters: ids(&[1, 2, 3]), ..ConfState::default() };
    Members::restore(window(), &state, Index(1)).unwrap()
}

fn any_change() -> impl Strategy<Value = ConfChangeV2> {
    let kind = prop_oneof![
        Just(ConfChangeKind::AddNode),
        Just(ConfChangeKind::RemoveNode),
        Just(ConfChangeKind::AddLearnerNode),
        Just(ConfChangeKind::UpdateNode),
    ];
    let single =
        (kind, 0u64..6).prop_map(|(kind, node)| ConfChangeSingle { kind, node: MemberId(node) });
    let transition = prop_oneof![
        Just(ConfChangeTransition::Auto),
        Just(ConfChangeTransition::JointImplicit),
        Just(ConfChangeTransition::JointExplicit),
    ];
    (transition, prop::collection::vec(single, 0..4)).prop_map(|(transition, changes)| {
        ConfChangeV2 { transition, changes, ..ConfChangeV2::default() }
    })
}

proptest! {
    #[test]
    fn every_reachable_configuration_survives_a_snapshot(changes in prop::collection::vec(any_change(), 1..12)) {
        let mut members = three();
        for change in changes {
            if let Ok(next) = members.changed(&change, Index(9)) {
                members = next;
            }
            let restored = Members::restore(window(), &members.conf.conf_state(), Index(9)).unwrap();
            prop_assert_eq!(&restored.conf, &members.conf);
            let roles = |m: &Members| m.progress.iter().map(|(id, p)| (*id, p.is_learner)).collect::<Vec<_>>();
            prop_assert_eq!(roles(&restored), roles(&members));
        }
    }

    #[test]
    fn a_simple_change_leaves_overlapping_majorities(change in any_change()) {
        let before = three();
        if let Ok(after) = before.changed(&change, Index(9)) && !after.conf.is_joint() {
            let moved = before.conf.voters.symmetric_difference(&after.conf.voters).count();
            prop_assert!(moved <= 1);
        }
    }
}

#[test]
fn contradicting_states_are_refused() {
    let refused = |state: ConfState| Members::restore(window(), &state, Index(1)).is_err();
    let voters = ids(&[1, 2]);
    assert!(refused(ConfState {
        voters: voters.clone(),
        learners: ids(&[2]),
        ..ConfState::default()
    }));
    assert!(refused(ConfState {
        voters: voters.clone(),
        learners_next: ids(&[3]),
        ..ConfState::default()
    }));
    assert!(refused(ConfState {
        voters: voters.clone(),
        auto_leave: true,
        ..ConfState::default()
    }));
    assert!(refused(ConfState { learners: ids(&[1]), ..ConfState::default() }));
    assert!(refused(ConfState { voters: ids(&[0, 1]), ..ConfState::default() }));
    assert!(!refused(ConfState { voters, ..ConfState::default() }));
}

#[test]
fn the_last_voter_stays() {
    let one = ConfState { voters: ids(&[1]), ..ConfState::default() };
    let members = Members::restore(window(), &one, Index(1)).unwrap();
    let changes = vec![ConfChangeSingle { kind: ConfChangeKind::RemoveNode, node: MemberId(1) }];
    assert!(
        members.changed(&ConfChangeV2 { changes, ..ConfChangeV2::default() }, Index(1)).is_err()
    );
}

/// A configuration as text; what is refused leaves it as it is, marked by `!`.
fn after(start: &[u64], steps: &str) -> String {
    let state = ConfState { voters: ids(start), ..ConfState::default() };
    let mut members = Members::restore(window(), &state, Index(1)).unwrap();
    let mut refused = "";
    for step in steps.split(',').map(str::trim) {
        let (transition, singles) = match step.split_once(':') {
            Some(("joint", singles)) => (ConfChangeTransition::JointImplicit, singles),
            Some(("explicit", singles)) => (ConfChangeTransition::JointExplicit, singles),
            _ => (ConfChangeTransition::Auto, step),
        };
        let single = |word: &str| {
            let (kind, node) = word.split_at(1);
            let kind = match kind {
                "v" => ConfChangeKind::AddNode,
                "l" => ConfChangeKind::AddLearnerNode,
                "r" => ConfChangeKind::RemoveNode,
                "u" => ConfChangeKind::UpdateNode,
                other => panic!("{other}?"),
            };
            ConfChangeSingle { kind, node: MemberId(node.parse().unwrap()) }
        };
        let changes = singles.split_whitespace().filter(|word| *word != "leave").map(single);
        let changes = changes.collect();
        let change = ConfChangeV2 { transition, changes, ..ConfChangeV2::default() };
        match members.changed(&change, Index(9)) {
            Ok(next) => members = next,
            Err(_) => refused = " !",
        }
    }
    let list = |ids: &BTreeSet<MemberId>| {
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let conf = &members.conf;
    let mut text = list(&conf.voters);
    for (ids, name) in
        [(&conf.outgoing, "from"), (&conf.learners, "learners"), (&conf.learners_next, "next")]
    {
        if !ids.is_empty() {
            text.push_str(&format!(" {name} {}", list(ids)));
        }
    }
    format!("{text}{}{refused}", if conf.auto_leave { " auto" } else { "" })
}

/// The situations of etcd's raft (confchange), each with what it must lead to.
#[test]
fn changes_one_after_another() {
    for (start, steps, expected) in [
        // One at a time.
        (&[1][..], "v2", "1 2"),
        (&[1], "l2", "1 learners 2"),
        (&[1], "l2, v2", "1 2"),
        (&[1, 2], "l2", "1 learners 2"),
        (&[1, 2], "r2", "1"),
        (&[1], "l2, r2", "1"),
        // What is so already, or concerns nobody, changes nothing.
        (&[1, 2], "v1", "1 2"),
        (&[1], "l2, l2", "1 learners 2"),
        (&[1], "r9", "1"),
        (&[1], "u1, u9", "1"),
        (&[1], "v0, l0, r0", "1"),
        // Somebody must vote.
        (&[1], "r1", "1 !"),
        (&[1], "l1", "1 !"),
        (&[1], "joint:r1", "1 !"),
        // Two voters at once go through a joint configuration, asked for or not.
        (&[1], "v2 v3", "1 2 3 from 1 auto"),
        (&[1], "joint:v2", "1 2 from 1 auto"),
        (&[1], "explicit:v2", "1 2 from 1"),
        (&[1], "v2 v3, leave", "1 2 3"),
        // While it is joint only the way out is open; when it is not, that is closed.
        (&[1], "explicit:v2, joint:v3", "1 2 from 1 !"),
        (&[1], "explicit:v2, v3", "1 2 from 1 !"),
        (&[1], "leave", "1 !"),
        (&[1], "v2 v3, leave, leave", "1 2 3 !"),
        // An outgoing voter becomes a learner only when it has gone.
        (&[1], "explicit:v2 l1", "2 from 1 next 1"),
        (&[1], "explicit:v2 l1, leave", "2 learners 1"),
        // Back and forth within one change: the last word counts.
        (
            &[1],
            "joint:r1 r2 r9 v2 v3 v4 v2 v3 v4 l2 l2 r4 r4 l1 l1",
            "3 from 1 learners 2 next 1 auto",
        ),
        (&[1], "joint:r1 r2 r9 v2 v3 v4 v2 v3 v4 l2 l2 r4 r4 l1 l1, leave", "3 learners 1 2"),
        (&[1, 2, 3], "joint:l2 r3 v2, leave", "1 2"),
        // Demoted, promoted, and removed at once, within one joint change.
        (&[1, 2, 3], "explicit:l2 r3 v4, leave", "1 4 learners 2"),
    ] {
        assert_eq!(after(start, steps), expected, "{start:?} {steps}");
    }
}
