//! Members whose db is damaged, missing or behind: each comes back by itself with what
//! another member of ours gives it, beside writes that go on, and nothing acknowledged is
//! missing anywhere afterwards. Where nobody may give it, the member says so and ends.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_driver::damage::{Damage, marker_path, write_marker};
use mainstay_env_os::OsDisk;
use mainstay_interop::cluster::{Cluster, Load, Make, Plan};
use mainstay_types::{ClusterId, MemberId};

const PAGE: usize = 4096;
/// What a member logs whose log starts anew.
const ANEW: &str = "the damaged log has begun anew; nothing of it was lost";
/// What a member logs that took another's db.
const HEALED: &str = "another member's database is in the place of the damaged one";

fn db(dir: &Path) -> PathBuf {
    dir.join("member/snap/db")
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("writes");
}

fn delete_db(dir: &Path) {
    fs::remove_file(db(dir)).expect("it is there");
}

fn flip_both_metas(dir: &Path) {
    change(&db(dir), |bytes| {
        for page in [0, 1] {
            bytes[page * PAGE + 24] ^= 1;
        }
    });
}

/// The kind of every page but the metas becomes none that exists.
fn flip_page_headers(dir: &Path) {
    change(&db(dir), |bytes| {
        for page in bytes.chunks_mut(PAGE).skip(2) {
            page[8] ^= 0x40;
        }
    });
}

fn cut_in_half(dir: &Path) {
    change(&db(dir), |bytes| bytes.truncate(bytes.len() / 2));
}

fn cut_within_a_page(dir: &Path) {
    // The end of the file may be room that no page has yet.
    change(&db(dir), |bytes| bytes.truncate(bytes.len() / 2 - 100));
}

/// What a member leaves that has found a damaged page while it ran.
fn leave_a_note(dir: &Path) {
    let (cluster, member) = identity(dir);
    let file = db(dir).display().to_string();
    let what = "a page whose checksum is another".to_owned();
    let damage = Damage { cluster, member, file, offset: 8192, what };
    write_marker(&OsDisk, &marker_path(&dir.join("member")), &damage).expect("writes");
}

/// One bit in the middle of what the newest segment holds, or `len` bytes of zeros.
fn damage_log(dir: &Path, zeros: usize) {
    let wal = dir.join("member/wal");
    let list = fs::read_dir(&wal).expect("a log");
    let mut names: Vec<PathBuf> = list.map(|entry| entry.expect("readable").path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "wal"));
    names.sort();
    let newest = names.pop().expect("a segment");
    change(&newest, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("records");
        let at = end / 2;
        match zeros {
            0 => bytes[at] ^= 4,
            len => bytes[at / len * len..][..len].fill(0),
        }
    });
}

fn identity(dir: &Path) -> (ClusterId, MemberId) {
    let owner = mainstay_wal::owner(&OsDisk, &dir.join("member/wal")).expect("a log");
    (owner.cluster, owner.member)
}

/// Stops a member, damages its directory while the others go on, and starts it again.
fn heals(cluster: &mut Cluster, load: &Load, n: usize, what: &str, damage: impl FnOnce(&Path)) {
    eprintln!("member {}: {what}", n + 1);
    load.excuse(n);
    cluster.stop(n);
    damage(cluster.nodes[n].dir());
    load.wait_for(cluster, 150);
    cluster.restart(n);
    let log = cluster.nodes[n].log();
    assert!(log.contains(HEALED), "{what}:\n{}", cluster.nodes[n].log_tail());
    let metrics = cluster.http_get(n, "/metrics").expect("metrics");
    assert!(metrics.contains("\nmainstay_databases_refetched_total 1\n"), "{what}");
    load.expect(n);
    load.wait_for_member(cluster, n, 30);
}

/// As [`heals`], with a damaged log; answers whether another member's db was needed.
fn log_heals(
    cluster: &mut Cluster,
    load: &Load,
    n: usize,
    what: &str,
    damage: impl FnOnce(&Path),
) -> bool {
    eprintln!("member {}: {what}", n + 1);
    load.excuse(n);
    cluster.stop(n);
    damage(cluster.nodes[n].dir());
    load.wait_for(cluster, 60);
    cluster.restart(n);
    let log = cluster.nodes[n].log();
    assert!(log.contains(ANEW), "{what}:\n{}", cluster.nodes[n].log_tail());
    load.expect(n);
    load.wait_for_member(cluster, n, 30);
    // What it has written since can be read.
    load.excuse(n);
    cluster.stop(n);
    cluster.restart(n);
    assert!(!cluster.nodes[n].log().contains(ANEW), "{what}: once is enough");
    load.expect(n);
    load.wait_for_member(cluster, n, 30);
    log.contains(HEALED)
}

fn follower(cluster: &mut Cluster) -> usize {
    let leader = cluster.leader();
    (0..cluster.nodes.len()).find(|n| *n != leader && cluster.nodes[*n].runs()).expect("another")
}

#[test]
fn a_db_that_is_damaged_missing_or_behind_comes_back() {
    let plan = Plan::new("repair", &[Make::Ours; 3]).short_logs();
    let Some(mut cluster) = plan.start() else { return };
    let load = Load::start(21, &mut cluster, true);
    load.wait_for(&mut cluster, 150);
    let n = follower(&mut cluster);
    let old = cluster.folder().join("old.db");
    load.excuse(n);
    cluster.stop(n);
    fs::copy(db(cluster.nodes[n].dir()), &old).expect("copies");
    cluster.restart(n);
    load.expect(n);
    load.wait_for(&mut cluster, 300);
    let behind = |dir: &Path| {
        fs::copy(&old, db(dir)).expect("copies");
    };
    heals(&mut cluster, &load, n, "an old copy of the db", behind);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("no db", delete_db),
        ("both metas flipped", flip_both_metas),
        ("page headers flipped", flip_page_headers),
        ("half a db", cut_in_half),
        ("a db that ends within a page", cut_within_a_page),
        ("a note of an earlier life", leave_a_note),
    ];
    for (what, damage) in damages {
        let n = follower(&mut cluster);
        heals(&mut cluster, &load, n, what, damage);
        let kept = cluster.nodes[n].dir().join("member/snap/db.broken");
        assert!(what == "no db" || kept.exists(), "{what}: the damaged one is kept");
        let marker = marker_path(&cluster.nodes[n].dir().join("member"));
        assert!(!marker.exists(), "{what}: the note is gone");
    }
    let leader = cluster.leader();
    heals(&mut cluster, &load, leader, "the leader's db is gone", delete_db);
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}", report.line());
}

#[test]
fn a_log_of_which_a_part_is_damaged_comes_back() {
    let Some(mut cluster) = Plan::new("repair-log", &[Make::Ours; 3]).start() else { return };
    let load = Load::start(25, &mut cluster, false);
    load.wait_for(&mut cluster, 200);
    for (what, zeros) in [("a bit of the log", 0), ("a sector of the log", 512)] {
        let n = follower(&mut cluster);
        let fetched = log_heals(&mut cluster, &load, n, what, |dir| damage_log(dir, zeros));
        assert!(!fetched, "its own db has what is lost");
    }
    let n = follower(&mut cluster);
    let both = |dir: &Path| {
        damage_log(dir, 0);
        delete_db(dir);
    };
    assert!(log_heals(&mut cluster, &load, n, "the log, and no db", both));
    let leader = cluster.leader();
    log_heals(&mut cluster, &load, leader, "the leader's log", |dir| damage_log(dir, 0));
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}", report.line());
}

/// Starts a member that must refuse, and answers what it said.
fn refuses(cluster: &mut Cluster, n: usize, flags: &[String]) -> String {
    cluster.spawn(n, flags);
    let status = cluster.wait_ended(n);
    assert!(!status.success());
    let log = cluster.nodes[n].log();
    let error = log.lines().rev().find(|line| line.contains("failed to start etcd"));
    error.unwrap_or_else(|| panic!("no reason:\n{log}")).to_owned()
}

#[test]
fn where_nobody_may_give_it_the_member_says_so() {
    let plan = Plan::new("repair-not", &[Make::Ours, Make::Go, Make::Go]);
    let Some(mut cluster) = plan.start() else { return };
    let load = Load::start(22, &mut cluster, false);
    load.wait_for(&mut cluster, 100);
    load.excuse(0);
    cluster.stop(0);
    let kept = cluster.folder().join("sound.db");
    fs::copy(db(cluster.nodes[0].dir()), &kept).expect("copies");
    delete_db(cluster.nodes[0].dir());
    let said = refuses(&mut cluster, 0, &[]);
    assert!(said.contains("is missing") && said.contains("etcd's own"), "{said}");
    assert!(said.contains("etcdctl member remove"), "{said}");
    let said = refuses(&mut cluster, 0, &["--repair-from-peers=false".to_owned()]);
    assert!(said.contains("--repair-from-peers is false"), "{said}");
    // With its db again it is as it was.
    fs::copy(&kept, db(cluster.nodes[0].dir())).expect("copies");
    cluster.restart(0);
    load.expect(0);
    load.wait_for_member(&mut cluster, 0, 30);
    load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn beside_a_leader_of_gos_another_of_ours_gives_it() {
    let plan = Plan::new("repair-mixed", &[Make::Go, Make::Ours, Make::Ours]).short_logs();
    let Some(mut cluster) = plan.start() else { return };
    let load = Load::start(23, &mut cluster, false);
    load.wait_for(&mut cluster, 150);
    cluster.move_leader(0);
    heals(&mut cluster, &load, 1, "no db beside a leader of Go's", delete_db);
    heals(&mut cluster, &load, 2, "metas beside a leader of Go's", flip_both_metas);
    load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
}

/// What is applied is committed, whoever says so: one sound member is enough.
#[test]
fn without_a_quorum_the_one_that_is_left_gives_it() {
    let Some(mut cluster) = Plan::new("repair-two", &[Make::Ours; 3]).start() else { return };
    let load = Load::start(24, &mut cluster, false);
    load.wait_for(&mut cluster, 100);
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    (0..3).for_each(|n| load.excuse(n));
    for n in &others {
        cluster.stop(*n);
    }
    delete_db(cluster.nodes[others[0]].dir());
    cluster.restart(others[0]);
    assert!(cluster.nodes[others[0]].log().contains(HEALED));
    cluster.restart(others[1]);
    (0..3).for_each(|n| load.expect(n));
    load.wait_for(&mut cluster, 50);
    load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
}

/// A cluster of one has nobody, and a directory without a log is no new member.
#[test]
fn a_lone_member_and_a_directory_without_a_log_are_refused() {
    let Some(mut cluster) = Plan::new("repair-lone", &[Make::Ours]).start() else { return };
    cluster.stop(0);
    let dir = cluster.nodes[0].dir().to_owned();
    let (kept, wal) = (cluster.folder().join("sound.db"), dir.join("member/wal"));
    fs::copy(db(&dir), &kept).expect("copies");
    flip_both_metas(&dir);
    let said = refuses(&mut cluster, 0, &[]);
    assert!(said.contains("no usable meta page") && said.contains("the only one"), "{said}");
    assert!(said.contains("etcdutl repair --data-dir"), "{said}");
    fs::copy(&kept, db(&dir)).expect("copies");
    let aside = cluster.folder().join("wal");
    fs::rename(&wal, &aside).expect("renames");
    let no_log = |cluster: &mut Cluster, flags: &[String]| {
        let said = refuses(cluster, 0, flags);
        assert!(said.contains("has no log"), "{said}");
    };
    no_log(&mut cluster, &[]);
    fs::create_dir(&wal).expect("makes it");
    no_log(&mut cluster, &[]);
    fs::write(wal.join("0.tmp"), [0; 64]).expect("writes");
    no_log(&mut cluster, &[]);
    let elsewhere = cluster.folder().join("elsewhere");
    fs::create_dir(&elsewhere).expect("makes it");
    no_log(&mut cluster, &[format!("--wal-dir={}", elsewhere.display())]);
    fs::remove_dir_all(&wal).expect("removes it");
    delete_db(&dir);
    fs::write(dir.join("member/snap/0000000000000002-0000000000000008.snap"), [1; 64])
        .expect("writes");
    no_log(&mut cluster, &[]);
    fs::remove_file(dir.join("member/snap/0000000000000002-0000000000000008.snap"))
        .expect("removes");
    fs::copy(&kept, db(&dir)).expect("copies");
    fs::rename(&aside, &wal).expect("renames");
    cluster.restart(0);
}
