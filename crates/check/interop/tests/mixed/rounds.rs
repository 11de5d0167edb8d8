//! Leaders of both makes die, stop, sleep and are cut off.

use mainstay_interop::cluster::{Make, scene};

fn play(seed: u64, makes: &[Make]) {
    let _alone = crate::alone();
    let Some(report) = scene::rounds(seed, makes, 4, 1_500..3_000) else { return };
    eprintln!("{}\n{:#?}", report.line(), report.words);
    assert!(report.acknowledged > 300, "nothing was proved");
}

#[test]
fn leaders_die_and_sleep() {
    play(0, &[Make::Ours, Make::Go, Make::Ours]);
}

#[test]
fn leaders_are_cut_off() {
    play(2, &[Make::Go, Make::Ours, Make::Go]);
}
