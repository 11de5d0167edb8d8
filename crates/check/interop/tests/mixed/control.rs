//! The judge itself: it must see what a cluster has lost.

use mainstay_interop::cluster::{Load, Make, Plan};

#[test]
fn a_cluster_that_forgets_is_caught() {
    let _alone = crate::alone();
    let Some(mut cluster) = Plan::new("control", &[Make::Go; 3]).start() else { return };
    let load = Load::start(15, &mut cluster, false);
    load.wait_for(&mut cluster, 200);
    // Two of three go back to what they were a moment ago.
    (0..3).for_each(|n| load.excuse(n));
    for n in [0, 1] {
        cluster.stop(n);
        let dir = cluster.nodes[n].dir().to_owned();
        crate::removal::copy(&dir, &dir.with_extension("old"));
        cluster.restart(n);
    }
    load.wait_for(&mut cluster, 200);
    (0..3).for_each(|n| cluster.nodes[n].kill());
    load.leave(2);
    for n in [0, 1] {
        let dir = cluster.nodes[n].dir().to_owned();
        std::fs::remove_dir_all(&dir).expect("a folder");
        std::fs::rename(dir.with_extension("old"), &dir).expect("a copy");
        cluster.spawn(n, &[]);
    }
    cluster.wait_all_healthy();
    // The load ends itself when it sees an answer from the past.
    let judged = load.finish(&mut cluster);
    let why = judged.expect_err("acknowledged writes are gone");
    eprintln!("{why}");
    assert!(
        ["acknowledged before", "lost", "comes after", "watched"].iter().any(|w| why.contains(w)),
        "{why}"
    );
}
