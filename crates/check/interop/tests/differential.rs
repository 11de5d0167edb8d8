//! 20,000 operations to ours and to the real one, every answer the same; and the
//! tester finds what is made different.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use mainstay_interop::Kind;
use mainstay_interop::differential::{
    Answer, Generator, Item, Op, Outcome, Pair, Pairing, Plan, run, shrink,
};
use mainstay_proto::etcdserverpb as pb;

fn runs_the_same(seed: u64, ops: u64) {
    let plan = Plan {
        pairing: Pairing::OURS_AND_REAL,
        seed,
        ops,
        episode: 2500,
        pairs: 4,
        shrink_time: Duration::from_secs(60),
    };
    let Some(report) = run(plan, |line| eprintln!("{line}")) else { return };
    eprintln!("{report}, from seed {seed}");
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
    assert_eq!(report.ops, ops, "every operation must have been answered");
}

#[test]
fn fixed_seeds_are_answered_as_the_real_one_does() {
    runs_the_same(1, 17_500);
}

#[test]
fn a_fresh_seed_is_answered_as_the_real_one_does() {
    let seed = RandomState::new().hash_one(0) >> 16;
    eprintln!("the fresh seed is {seed}");
    runs_the_same(seed, 2500);
}

/// Ours against ours, whose answers are changed: needs no peer.
fn shrunk(ops: &[Op], mutation: fn(&Op, &mut Outcome)) -> Vec<Op> {
    let pairing = Pairing { left: Kind::Ours, right: Kind::Ours, mutation: Some(mutation) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let found = runtime.expect("a runtime").block_on(shrink(pairing, ops, Duration::from_secs(40)));
    let (fewer, difference) = found.expect("members answer").expect("it must be found");
    eprintln!("{} operations: {difference}", fewer.len());
    fewer
}

#[test]
fn one_wrong_number_in_an_answer_is_found_and_cut_down() {
    let fewer = shrunk(&Generator::new(7).take(400), |op, outcome| {
        if let (Op::Delete(_), Answer::Delete(response)) = (op, &mut outcome.answer)
            && response.deleted > 1
        {
            response.deleted -= 1;
        }
    });
    assert!(fewer.len() <= 3, "two puts, or a txn, and a delete: {fewer:?}");
    assert!(matches!(fewer.last(), Some(Op::Delete(_))));
}

#[test]
fn one_event_that_a_watcher_is_not_told_is_found() {
    let everything = pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..pb::WatchCreateRequest::default()
    };
    let mut ops = vec![Op::Watch(0, everything)];
    ops.extend(Generator::new(7).take(60));
    let fewer = shrunk(&ops, |_, outcome| {
        for ((stream, _), items) in &mut outcome.delivered {
            let last = items.iter().rposition(|item| matches!(item, Item::Event(_)));
            if let Some(last) = last.filter(|_| *stream == 0) {
                items.remove(last);
            }
        }
    });
    assert!(fewer.len() <= 4, "a write, a watcher and what waits for it: {fewer:?}");
    assert!(fewer.iter().any(|op| matches!(op, Op::Watch(..))));
}

#[test]
fn without_a_change_ours_is_the_same_as_ours() {
    let pairing = Pairing { left: Kind::Ours, right: Kind::Ours, mutation: None };
    let ops = Generator::new(7).take(400);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let pair = Pair::start(pairing).expect("ours is never missing");
    let verdict = runtime.expect("a runtime").block_on(pair.judge(&ops));
    assert!(verdict.expect("members answer").difference.is_none());
}
