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
