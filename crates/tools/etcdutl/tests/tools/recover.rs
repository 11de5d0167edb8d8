//! `recover`: survivors compared, and a cluster of one made of the best.

use std::fs;

use mainstay_env_os::OsDisk;
use mainstay_raft::EntryKind;
use mainstay_types::Index;
use mainstay_wal::{read, valid_snapshots};

use crate::made::{Folder, Plan, run, tree};

/// Directories of members 1, 2, .. with so many entries each.
fn survivors(folder: &Folder, lengths: &[u64], plan: &Plan) -> Vec<String> {
    let one = |(n, entries): (usize, &u64)| {
        let me = n as u64 + 1;
        let dir = folder.0.join(format!("m{me}"));
        fs::create_dir_all(&dir).expect("a folder");
        let applied = (*entries).min(plan.applied);
        Plan { entries: *entries, applied, me, ..plan.clone() }.make(&dir);
        dir.to_string_lossy().into_owned()
    };
    lengths.iter().enumerate().map(one).collect()
}

#[test]
fn the_longest_log_is_gone_on_with() {
    for snapshots in [vec![], vec![20]] {
        let folder = Folder::new();
        let plan = Plan { voters: 3, applied: 35, snapshots, ..Plan::default() };
        let dirs = survivors(&folder, &[40, 38], &plan);
        let before = tree(&folder.0);
        let line = format!("recover {} {} --to $D/new", dirs[0], dirs[1]);
        let (code, message, out) = run(&folder.0, &line).failed();
        assert!(code == 1 && message.contains("nothing was changed"), "{message}");
        assert!(out.contains(&format!("{}, 1, 2, 2, 40, 40, 35, 33\n", dirs[0])), "{out}");
        assert!(out.contains(&format!("longest: {}, up to index 40 of term 2", dirs[0])), "{out}");
        assert!(out.contains("missing: nothing else that was acknowledged: 1 of 3"), "{out}");
        assert!(tree(&folder.0) == before, "the dry run changed something");

        let out = run(&folder.0, &format!("{line} --apply")).ok();
        assert!(out.contains("made: "), "{out}");
        let after = tree(&folder.0);
        assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)));
        let new = folder.0.join("new");
        run(&new, "verify --data-dir $D").ok();
        let (disk, wal) = (OsDisk::new(), new.join("member/wal"));
        let marks = valid_snapshots(&disk, &wal).expect("a sound log");
        let mark = marks.into_iter().max_by_key(|mark| mark.index).expect("the first mark");
        let replay = read(&disk, &wal, &mark).expect("a sound log");
        assert_eq!(replay.hard_state.commit, Index(42));
        assert_eq!(replay.hard_state.term.0, 3);
        let log = run(&new, "dump-logs -start-index 41 $D").ok();
        assert!(
            log.contains("   3\t        41\tconf\tmethod=ConfChangeRemoveNode id=2\n"),
            "{log}"
        );
        assert!(
            log.contains("   3\t        42\tconf\tmethod=ConfChangeRemoveNode id=3\n"),
            "{log}"
        );
        let kinds = replay.entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange);
        assert!(kinds.count() >= 2);
        let (_, message, _) = run(&folder.0, &format!("{line} --apply")).failed();
        assert!(message.ends_with("is there already"), "{message}");
    }
}

#[test]
fn what_may_be_missing_is_said() {
    let folder = Folder::new();
    let plan = Plan { voters: 3, applied: 35, ..Plan::default() };
    let dirs = survivors(&folder, &[40], &plan);
    let (_, _, out) = run(&folder.0, &format!("recover {} -w table", dirs[0])).failed();
    assert!(out.contains("LAST INDEX"), "{out}");
    assert!(out.contains("missing: perhaps entries behind index 40: 2 of 3"), "{out}");
}

#[test]
fn directories_that_do_not_belong_together_are_refused() {
    let folder = Folder::new();
    let plan = Plan { voters: 3, ..Plan::default() };
    let dirs = survivors(&folder, &[40, 40], &plan);
    let other = folder.0.join("other");
    fs::create_dir_all(&other).expect("a folder");
    plan.make(&other);
    let line = format!("recover {} {}", dirs[0], other.display());
    assert!(run(&folder.0, &line).failed().1.contains("are of the same member"));
    assert_eq!(run(&folder.0, "recover").failed().0, 128);
    assert_eq!(run(&folder.0, &format!("recover {} --apply", dirs[0])).failed().0, 128);
    fs::remove_dir_all(folder.0.join("m2/member/wal")).expect("removed");
    let line = format!("recover {} {}", dirs[0], dirs[1]);
    assert!(run(&folder.0, &line).failed().1.contains("no such file or directory"));
}
