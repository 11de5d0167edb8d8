//! Expiry, retry, renewal, spreading and checkpoints, with time as a number.

use super::*;

const OPTIONS: TimerOptions =
    TimerOptions { retry: Duration::from_secs(7), checkpoint_every: None };

fn at(secs: u64) -> Duration {
    Duration::from_secs(1_000_000 + secs)
}

fn lease(id: i64, ttl: i64) -> Lease {
    Lease { id: LeaseId(id), ttl, remaining: 0 }
}

#[test]
fn a_lease_expires_is_retried_and_goes_away_when_revoked() {
    let mut timer = Timer::promote(OPTIONS, at(0), Duration::from_secs(1), [lease(1, 10)]);
    timer.granted(at(0), lease(2, 5));
    assert_eq!(timer.by_expiry(), [LeaseId(2), LeaseId(1)]);
    assert_eq!(timer.time_to_live(at(3), LeaseId(1)), Some((10, 8)));
    assert_eq!(timer.time_to_live(at(14), LeaseId(1)), Some((10, -3)));
    assert!(timer.expired(at(4), 500).is_empty());
    assert_eq!(timer.expired(at(5), 500), [LeaseId(2)]);
    assert_eq!(timer.renew(at(5), LeaseId(2)), Renewal::Expired);
    assert!(timer.expired(at(6), 500).is_empty(), "not again before the retry time");
    assert_eq!(timer.expired(at(12), 500), [LeaseId(1), LeaseId(2)]);
    timer.revoked(LeaseId(1));
    timer.revoked(LeaseId(2));
    assert!(timer.expired(at(100), 500).is_empty());
    assert_eq!(timer.next_alarm(), None);
    assert_eq!(timer.renew(at(5), LeaseId(2)), Renewal::Missing);
}

#[test]
fn renewing_postpones_without_growing_the_heap() {
    let mut timer = Timer::promote(OPTIONS, at(0), Duration::ZERO, [lease(1, 10)]);
    for second in 0..1000 {
        assert_eq!(timer.renew(at(second), LeaseId(1)), Renewal::Renewed(10));
        assert!(timer.expired(at(second), 500).is_empty());
        assert_eq!(timer.alarms.len(), 1);
    }
    assert!(timer.expired(at(1008), 500).is_empty());
    assert_eq!(timer.expired(at(1009), 500), [LeaseId(1)]);
}

#[test]
fn the_limit_bounds_one_turn() {
    let mut timer = Timer::promote(OPTIONS, at(0), Duration::ZERO, (1..=900).map(|i| lease(i, 1)));
    assert_eq!(timer.expired(at(1), 500).len(), 500);
    assert_eq!(timer.expired(at(1), 500).len(), 400);
    assert_eq!(timer.expired(at(1), 500).len(), 0);
}

#[test]
fn many_leases_that_expire_together_are_spread() {
    let mut timer =
        Timer::promote(OPTIONS, at(0), Duration::from_secs(1), (1..=5000).map(|i| lease(i, 10)));
    let mut most = 0;
    let mut total = 0;
    for second in 11..40 {
        let now = timer.expired(at(second), usize::MAX).len();
        timer.clocks.retain(|_, clock| clock.expiry > at(second));
        most = most.max(now);
        total += now;
    }
    assert_eq!(total, 5000);
    assert!(most <= 1000, "{most} leases expired within one second");
    let few = Timer::promote(OPTIONS, at(0), Duration::ZERO, (1..=999).map(|i| lease(i, 10)));
    assert!(few.clocks.values().all(|clock| clock.expiry == at(10)), "999 are left alone");
}

#[test]
fn a_new_leader_counts_from_the_checkpoint() {
    let options = TimerOptions { checkpoint_every: Some(Duration::from_secs(300)), ..OPTIONS };
    let long = Lease { id: LeaseId(1), ttl: 1000, remaining: 400 };
    let mut timer = Timer::promote(options, at(0), Duration::ZERO, [long, lease(2, 1000)]);
    assert_eq!(timer.time_to_live(at(0), LeaseId(1)), Some((1000, 400)));
    assert!(timer.due_checkpoints(at(299), 1000).is_empty());
    assert_eq!(
        timer.due_checkpoints(at(300), 1000),
        [
            Checkpoint { id: LeaseId(1), remaining: 100 },
            Checkpoint { id: LeaseId(2), remaining: 700 }
        ]
    );
    timer.checkpointed(at(300), LeaseId(2), 700);
    assert_eq!(timer.renew(at(301), LeaseId(2)), Renewal::ClearCheckpoint);
    timer.checkpointed(at(301), LeaseId(2), 0);
    assert_eq!(timer.renew(at(301), LeaseId(2)), Renewal::Renewed(1000));
    assert_eq!(timer.time_to_live(at(301), LeaseId(2)), Some((1000, 1000)));
}

#[test]
fn a_checkpoint_that_is_left_over_is_cleared_before_a_renewal() {
    // Made by another leader; this one makes none.
    let left = Lease { id: LeaseId(1), ttl: 1000, remaining: 40 };
    let mut timer = Timer::promote(OPTIONS, at(0), Duration::ZERO, [left, lease(2, 1000)]);
    assert_eq!(timer.marked(10), [LeaseId(1)]);
    assert_eq!(timer.renew(at(1), LeaseId(1)), Renewal::ClearCheckpoint);
    timer.checkpointed(at(1), LeaseId(1), 0);
    assert!(timer.marked(10).is_empty());
    assert_eq!(timer.time_to_live(at(1), LeaseId(1)), Some((1000, 39)), "it stays as it was");
    assert_eq!(timer.renew(at(1), LeaseId(1)), Renewal::Renewed(1000));
    assert_eq!(timer.expired(at(1000), 500), [LeaseId(2)], "the answer was true");
    assert_eq!(timer.expired(at(1001), 500), [LeaseId(1)]);
    assert!(timer.due_checkpoints(at(100_000), 10).is_empty());
}

#[test]
fn a_checkpoint_that_got_lost_is_due_again() {
    let options = TimerOptions { checkpoint_every: Some(Duration::from_secs(300)), ..OPTIONS };
    let mut timer = Timer::promote(options, at(0), Duration::ZERO, [lease(1, 1000)]);
    let due = |remaining| [Checkpoint { id: LeaseId(1), remaining }];
    assert_eq!(timer.due_checkpoints(at(300), 10), due(700));
    assert!(timer.due_checkpoints(at(599), 10).is_empty());
    assert_eq!(timer.due_checkpoints(at(600), 10), due(400));
    // Renewed in the moment: nothing to say now, but later.
    assert_eq!(timer.renew(at(900), LeaseId(1)), Renewal::Renewed(1000));
    assert!(timer.due_checkpoints(at(900), 10).is_empty());
    assert_eq!(timer.due_checkpoints(at(1200), 10), due(700));
    timer.checkpointed(at(1600), LeaseId(1), 300);
    assert!(timer.due_checkpoints(at(1899), 10).is_empty(), "what is left is too short");
}

#[test]
fn checkpoints_and_clearings_do_not_multiply() {
    let options = TimerOptions { checkpoint_every: Some(Duration::from_secs(300)), ..OPTIONS };
    let mut timer = Timer::promote(options, at(0), Duration::ZERO, [lease(1, 1000)]);
    let mut made = 0;
    for second in (0..30_000).step_by(50) {
        for checkpoint in timer.due_checkpoints(at(second), 10) {
            made += 1;
            timer.checkpointed(at(second), checkpoint.id, checkpoint.remaining);
        }
        if timer.renew(at(second), LeaseId(1)) == Renewal::ClearCheckpoint {
            timer.checkpointed(at(second), LeaseId(1), 0);
            assert_eq!(timer.renew(at(second), LeaseId(1)), Renewal::Renewed(1000));
        }
        assert!(timer.checkpoints.len() <= 3, "{} at {second}", timer.checkpoints.len());
    }
    assert!((90..=100).contains(&made), "{made} in a hundred intervals");
}

#[test]
fn a_million_leases_fit() {
    let leases = (1..=1_000_000).map(|i| lease(i, 60 + i % 600));
    let mut timer = Timer::promote(OPTIONS, at(0), Duration::from_secs(1), leases);
    assert_eq!(timer.len(), 1_000_000);
    for i in (1..=1_000_000).step_by(7) {
        assert!(matches!(timer.renew(at(30), LeaseId(i)), Renewal::Renewed(_)));
    }
    assert!(timer.expired(at(59), 500).is_empty());
    assert!(timer.alarms.len() <= 1_000_000);
}

#[test]
fn alarms_of_revoked_leases_do_not_pile_up() {
    let mut timer = Timer::promote(OPTIONS, at(0), Duration::ZERO, []);
    for i in 1..=100_000 {
        timer.granted(at(0), lease(i, 1_000_000));
        timer.revoked(LeaseId(i));
    }
    assert!(timer.alarms.len() <= 2 * REVOKES_PER_SECOND);
    let options = TimerOptions { checkpoint_every: Some(Duration::from_secs(300)), ..OPTIONS };
    let mut timer = Timer::promote(options, at(0), Duration::ZERO, []);
    for i in 1..=100_000 {
        timer.granted(at(0), lease(i, 1_000_000));
        timer.revoked(LeaseId(i));
    }
    assert!(timer.checkpoints.len() <= 2 * REVOKES_PER_SECOND);
}
