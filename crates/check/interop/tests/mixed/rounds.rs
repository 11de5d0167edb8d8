//! Leaders of both makes die, stop, sleep and are cut off.

use mainstay_interop::cluster::Make;
use mainstay_interop::cluster::scene::{self, Fault, Rounds};

fn play(seed: u64, makes: &[Make]) {
    let lasts = 1_500..3_000;
    let makes = makes.to_vec();
    run(&Rounds { seed, makes, count: 4, lasts, only: None, on_hosts: false });
}

fn run(rounds: &Rounds) {
    let _alone = crate::alone();
    let Some(report) = scene::rounds(rounds) else { return };
    eprintln!("{}\n{:#?}", report.line(), report.words);
    assert!(report.acknowledged > 300, "nothing was proved");
}

/// On hosts of their own, where what is cut is lost: one leader of each make.
fn partition(seed: u64, makes: &[Make], fault: Fault) {
    let (lasts, only) = (4_000..4_001, Some(fault));
    run(&Rounds { seed, makes: makes.to_vec(), count: 2, lasts, only, on_hosts: true });
}

#[test]
fn leaders_die_and_sleep() {
    play(0, &[Make::Ours, Make::Go, Make::Ours]);
}

#[test]
fn leaders_are_cut_off() {
    play(2, &[Make::Go, Make::Ours, Make::Go]);
}

#[test]
fn a_partition_between_the_makes_with_most_of_ours() {
    partition(4, &[Make::Ours, Make::Go, Make::Ours], Fault::Makes);
}

#[test]
fn a_partition_between_the_makes_with_most_of_theirs() {
    partition(5, &[Make::Go, Make::Ours, Make::Go], Fault::Makes);
}

#[test]
fn leaders_that_hear_nobody() {
    partition(6, &[Make::Ours, Make::Go, Make::Ours], Fault::Deaf);
}
