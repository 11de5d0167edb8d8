//! Whatever a restore is interrupted by, nothing is there or everything, and the next one works.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use mainstay_backup::{BackupError, INSIDE, Restore, SUFFIX};
use mainstay_env::Disk;
use mainstay_env_sim::{FailingCall, SimDisk, Unsynced};

use crate::support::{DATA, Sample, check_log, disk_with, files, founders, open, run, wanted};

type Files = BTreeMap<String, Vec<u8>>;

/// A place to restore to.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// The data directory is there, and empty.
    empty: bool,
    wal_dir: Option<&'static str>,
}

const SHAPES: [Shape; 6] = [
    Shape { empty: false, wal_dir: None },
    Shape { empty: true, wal_dir: None },
    Shape { empty: false, wal_dir: Some("/log/deep/wal") },
    Shape { empty: true, wal_dir: Some("/log/wal") },
    Shape { empty: false, wal_dir: Some("/var/m/wal") },
    Shape { empty: true, wal_dir: Some("/var/m/wal") },
];

impl Shape {
    fn disk(self, file: &[u8]) -> SimDisk {
        let disk = disk_with(file);
        if self.empty {
            disk.create_dir_all(Path::new(DATA)).unwrap();
            disk.sync_dir(Path::new("/var")).unwrap();
        }
        disk
    }

    fn wal(self) -> String {
        self.wal_dir.map_or_else(|| format!("{DATA}/member/wal"), str::to_owned)
    }

    fn wanted<'a>(self, usual: &Restore<'a>) -> Restore<'a> {
        Restore { wal_dir: self.wal_dir.map(Path::new), ..*usual }
    }

    /// Judges a disk: whole or nothing, and the next restore makes it whole.
    fn judge(self, disk: &SimDisk, whole: &Files, usual: &Restore<'_>) -> Result<bool, String> {
        let wanted = self.wanted(usual);
        let found: Files = named(&files(disk));
        let is_there = found.keys().any(|path| path.starts_with("/var/m/member/"));
        if is_there {
            let same = |path: &String| found.get(path) == whole.get(path);
            if let Some(path) = whole.keys().chain(found.keys()).find(|path| !same(path)) {
                return Err(format!("there, but {path} is not as it should be"));
            }
            check_log(disk, &self.wal(), 2);
            return match run(disk, &wanted) {
                Err(BackupError::DataDirNotEmpty(_)) => Ok(true),
                other => Err(format!("a second restore must be refused: {other:?}")),
            };
        }
        run(disk, &wanted).map_err(|why| format!("not there, but cannot be restored: {why}"))?;
        if files(disk) == *whole { Ok(false) } else { Err("restored otherwise".to_owned()) }
    }
}

/// Files that are not being built.
fn named(files: &Files) -> Files {
    let built = |path: &str| path.contains(SUFFIX) || path.contains(&format!("/{INSIDE}/"));
    let named = files.iter().filter(|(path, _)| !built(path));
    named.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
}

#[test]
fn a_power_cut_at_any_step_leaves_nothing_or_everything() {
    let file = Sample::default().file();
    let founders = founders();
    for shape in SHAPES {
        let usual = wanted(&founders);
        let disk = shape.disk(&file);
        run(&disk, &shape.wanted(&usual)).unwrap();
        let whole = files(&disk);
        assert_eq!(whole, named(&whole), "nothing is left behind");
        check_log(&disk, &shape.wal(), 2);
        open(&disk);

        let disk = shape.disk(&file);
        let cut = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&cut);
        disk.observe(move |disk, step| {
            for way in Unsynced::ALL {
                let what = format!("before step {} ({:?}), {way:?}", step.number, step.kind);
                seen.lock().unwrap().push((what, disk.crash_with(way, step.number)));
            }
        });
        run(&disk, &shape.wanted(&usual)).unwrap();
        let mut there = 0;
        let cuts = std::mem::take(&mut *cut.lock().unwrap());
        assert!(cuts.len() > 100, "{} cuts", cuts.len());
        for (what, disk) in &cuts {
            let judged = shape.judge(disk, &whole, &usual);
            there += u64::from(judged.unwrap_or_else(|why| panic!("{shape:?}, cut {what}: {why}")));
        }
        assert!(there > 0, "{shape:?}: a cut at the end must have found it there");
    }
}

/// Who is told that it is done finds it after a power cut.
#[test]
fn what_is_done_is_durable() {
    let file = Sample::default().file();
    let founders = founders();
    for shape in SHAPES {
        let disk = shape.disk(&file);
        run(&disk, &shape.wanted(&wanted(&founders))).unwrap();
        let whole = files(&disk);
        assert_eq!(named(&files(&disk.crash_with(Unsynced::Lost, 1))), whole, "{shape:?}");
    }
}

#[test]
fn a_disk_that_fails_leaves_nothing_or_everything() {
    let file = Sample::default().file();
    let founders = founders();
    let usual = wanted(&founders);
    for shape in SHAPES {
        let disk = shape.disk(&file);
        run(&disk, &shape.wanted(&usual)).unwrap();
        let whole = files(&disk);
        for call in [FailingCall::Read, FailingCall::Write, FailingCall::Sync, FailingCall::SyncDir]
        {
            let (mut failures, mut passed) = (0, 0);
            for nth in 1.. {
                let disk = shape.disk(&file);
                disk.fail(call, nth);
                if run(&disk, &shape.wanted(&usual)).is_ok() {
                    // Its name was durable by then, or there are not so many calls.
                    passed += 1;
                    if passed > 4 {
                        break;
                    }
                    continue;
                }
                failures += 1;
                let what = format!("{shape:?}, {call:?} {nth}");
                let left = files(&disk);
                let is_there = left.keys().any(|path| path.starts_with("/var/m/member/"));
                assert!(is_there || left.is_empty(), "{what}: {:?}", left.keys());
                let judged = shape.judge(&disk, &whole, &usual);
                assert_eq!(judged.unwrap_or_else(|why| panic!("{what}: {why}")), is_there);
            }
            assert!(failures > 2, "{call:?}: {failures} failures");
        }
    }
}

#[test]
fn a_full_disk_leaves_nothing() {
    let file = Sample::default().file();
    let founders = founders();
    let usual = wanted(&founders);
    let disk = SHAPES[0].disk(&file);
    run(&disk, &usual).unwrap();
    let whole = files(&disk);
    let needed: usize = whole.values().map(Vec::len).sum::<usize>() + file.len();
    for room in (file.len()..needed).step_by(700) {
        let disk = SHAPES[0].disk(&file);
        disk.set_capacity(Some(room as u64));
        run(&disk, &usual).expect_err("no room");
        assert_eq!(files(&disk), Files::new(), "room for {room} bytes");
        disk.set_capacity(None);
        run(&disk, &usual).unwrap();
        assert_eq!(files(&disk), whole);
    }
}

/// Two at once: the second is refused and disturbs nothing.
#[test]
fn two_restores_do_not_mix() {
    let file = Sample::default().file();
    let founders = founders();
    let usual = wanted(&founders);
    let disk = SHAPES[0].disk(&file);
    run(&disk, &usual).unwrap();
    let whole = files(&disk);
    let disk = SHAPES[0].disk(&file);
    let other = disk.clone();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut refused = 0;
    mainstay_backup::restore(&shared, &usual, &mut |_| {
        let second = run(&other, &usual);
        assert!(matches!(second, Err(BackupError::Busy(_))), "{second:?}");
        refused += 1;
    })
    .unwrap();
    assert!(refused > 3);
    assert_eq!(files(&disk), whole);
}

/// A log that somebody has used is not what an interrupted restore has left.
#[test]
fn a_log_that_was_added_to_is_not_removed() {
    let file = Sample::default().file();
    let founders = founders();
    let shape = SHAPES[2];
    let usual = wanted(&founders);
    let disk = shape.disk(&file);
    let left = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&left);
    disk.observe(move |disk, _| {
        let renamed = disk.paths().iter().any(|path| path.starts_with("/log/deep/wal/"));
        if renamed && !disk.paths().iter().any(|path| path.starts_with("/var/m/")) {
            seen.lock().unwrap().get_or_insert_with(|| disk.copy());
        }
    });
    run(&disk, &shape.wanted(&usual)).unwrap();
    let left = left.lock().unwrap().take().expect("the log gets its name first");
    let segment = "/log/deep/wal/0000000000000000-0000000000000000.wal";
    assert!(left.contents(segment).is_some());
    // The same name, but not the log that the note tells of.
    let used = left.copy();
    let mut bytes = used.contents(segment).unwrap();
    bytes[200] ^= 1;
    used.install(segment, &bytes);
    let refused = run(&used, &shape.wanted(&usual));
    assert!(matches!(refused, Err(BackupError::WalDirExists(_))), "{refused:?}");
    assert_eq!(used.contents(segment), Some(bytes));
    // And with other members asked for, it is not ours either.
    let by_name = BTreeMap::from([("x".to_owned(), vec!["http://10.0.0.9:1".to_owned()])]);
    let others = mainstay_backup::Founders::new(&by_name, "token", "x").unwrap();
    let refused = run(&left.copy(), &shape.wanted(&wanted(&others)));
    assert!(matches!(refused, Err(BackupError::WalDirExists(_))), "{refused:?}");
    run(&left, &shape.wanted(&usual)).unwrap();
}
