//! Random use against a dumb model: a list of entries and a hard state.

use mainstay_env_sim::SimDisk;
use mainstay_raft::{Entry, EntryKind, HardState};
use mainstay_types::{Index, MemberId, Term};
use proptest::collection::vec;
use proptest::prelude::*;

use super::support::{create, mark, open, small_segments};
use crate::{SnapshotMark, Wal};

#[derive(Clone, Debug)]
enum Step {
    /// Replaces this many of the last entries, and adds those.
    Save(usize, Vec<(bool, Vec<u8>)>),
    State(HardState),
    Snapshot(prop::sample::Index),
    Prepare,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..3000)];
    let state = (1..5_u64, any::<u64>(), any::<u64>());
    let step = prop_oneof![
        6 => (0..4_usize, vec((any::<bool>(), data), 0..6)).prop_map(|(back, new)| Step::Save(back, new)),
        2 => state.prop_map(|(term, vote, commit)| {
            Step::State(HardState { term: Term(term), vote: MemberId(vote), commit: Index(commit) })
        }),
        1 => any::<prop::sample::Index>().prop_map(Step::Snapshot),
        1 => Just(Step::Prepare),
        1 => Just(Step::Reopen),
    ];
    vec(step, 0..40)
}

fn entries(last: u64, term: u64, new: &[(bool, Vec<u8>)]) -> Vec<Entry> {
    let made = new.iter().zip(last + 1..).map(|((change, data), index)| {
        let change = *change && !data.is_empty();
        let kind = if change { EntryKind::ConfChange } else { EntryKind::Normal };
        Entry { term: Term(term), index: Index(index), kind, data: data.clone().into() }
    });
    made.collect()
}

fn run(steps: &[Step]) {
    let disk = SimDisk::new(1);
    let options = small_segments(3000);
    let mut wal: Wal = create(&disk, options);
    let (mut log, mut state) = (Vec::<Entry>::new(), HardState::default());
    let mut from = SnapshotMark::default();
    for (term, step) in (1..).zip(steps) {
        match step {
            Step::Save(back, new) => {
                let kept = log.len().saturating_sub(*back).max(from.index.0 as usize);
                let new = entries(kept as u64, term, new);
                if !new.is_empty() {
                    log.truncate(kept);
                    log.extend(new.iter().cloned());
                }
                wal.save(None, &new, true).unwrap();
            }
            Step::State(new) => {
                state = *new;
                wal.save(Some(new), &[], false).unwrap();
            }
            Step::Snapshot(index) if log.len() as u64 > from.index.0 => {
                let after = from.index.0 as usize;
                let at = after + 1 + index.index(log.len() - after);
                from = mark(log[at - 1].term.0, at as u64);
                wal.save_snapshot(&from).unwrap();
                wal.release_to(from.index).unwrap();
                wal.purge(1).unwrap();
            }
            Step::Snapshot(_) => {}
            Step::Prepare => wal.prepare_next().unwrap(),
            Step::Reopen => {
                wal.close().unwrap();
                let (opened, replay) = open(&disk, &from, options).unwrap();
                assert_eq!(replay.entries, log[from.index.0 as usize..]);
                assert_eq!(replay.hard_state, state);
                assert_eq!((replay.torn_tail, replay.mended), (None, 0));
                wal = opened;
            }
        }
    }
    wal.close().unwrap();
    let (_, replay) = open(&disk, &from, options).unwrap();
    assert_eq!((&replay.entries[..], replay.hard_state), (&log[from.index.0 as usize..], state));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_is_what_was_saved(steps in steps()) {
        run(&steps);
    }
}
