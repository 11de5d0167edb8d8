//! A cluster changes its make one member at a time, and nobody notices.

use mainstay_interop::cluster::scene;

#[test]
fn go_members_become_ours_one_at_a_time_and_go_again() {
    let _alone = crate::alone();
    let Some(report) = scene::roll(1, 3, 150) else { return };
    eprintln!("{}\n{:#?}", report.line(), report.words);
    assert!(report.acknowledged > 1_000, "nothing was proved");
}
