//! A member of a cluster that meets a damaged page ends, and leaves a note for its next start.

use std::os::unix::fs::FileExt as _;

use mainstay_driver::damage::{Marker, marker_path, read_marker};
use mainstay_env_os::OsDisk;

use crate::wire::{Cluster, block_on, put, until};

#[test]
fn who_meets_a_damaged_page_ends_and_says_so() {
    let cluster = Cluster::born("damaged", 3);
    let leader = cluster.number(cluster.leader());
    let value = |n: usize| format!("value {n:0>1018}");
    block_on(async {
        for n in 0..100 {
            put(&cluster.handle(leader), &format!("k{n}"), &value(n)).await.expect("put");
        }
    });
    cluster.check_equal();
    let wrong = (leader + 1) % 3;
    let handle = cluster.handle(wrong);
    block_on(handle.commit_backend()).expect("committed");
    let db = cluster.db_of(wrong);
    let bytes = std::fs::read(&db).expect("the db");
    let wanted = value(50).into_bytes();
    let at = bytes.windows(wanted.len()).rposition(|part| part == wanted).expect("it is there");
    let file = std::fs::OpenOptions::new().write(true).open(&db).expect("the db");
    file.write_all_at(&[bytes[at + 500] ^ 4], at as u64 + 500).expect("written");
    until("it is met", || handle.view().get(b"k50").is_err());
    let reason = block_on(handle.stopped());
    assert!(reason.contains("is damaged: page"), "{reason}");
    let member_dir = db.ancestors().nth(2).expect("member/snap/db");
    let note = read_marker(&OsDisk, &marker_path(member_dir)).expect("readable");
    let Marker::Damage(damage) = note else { panic!("{note:?}") };
    assert_eq!((damage.member, damage.offset % 4096), (handle.identity().member, 0));
    assert!(damage.what.contains("checksum"), "{}", damage.what);
    // The others go on.
    block_on(put(&cluster.handle(leader), "more", "v")).expect("put");
}
