//! What is no snapshot, and where nothing may be restored to.

use std::path::Path;

use mainstay_backup::{BackupError, Restore, revision, status};
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;

use crate::support::{DATA, FILE, Sample, disk_with, files, founders, run, wanted};

/// Refused, and nothing is left.
fn refused(disk: &SimDisk, wanted: &Restore<'_>) -> String {
    let before = files(disk);
    let error = run(disk, wanted).expect_err("it must be refused");
    assert_eq!(files(disk), before, "{error}");
    error.to_string()
}

#[test]
fn directories_that_are_there_are_kept() {
    let founders = founders();
    let usual = wanted(&founders);
    let file = Sample::default().file();
    let disk = disk_with(&file);
    disk.install(format!("{DATA}/member/snap/db"), b"somebody's");
    assert_eq!(refused(&disk, &usual), "data-dir \"/var/m\" not empty or could not be read");
    let disk = disk_with(&file);
    disk.install(DATA, b"a file");
    assert_eq!(refused(&disk, &usual), "data-dir \"/var/m\" not empty or could not be read");
    let disk = disk_with(&file);
    disk.create_dir_all(Path::new("/w")).unwrap();
    let elsewhere = Restore { wal_dir: Some(Path::new("/w")), ..usual };
    assert_eq!(refused(&disk, &elsewhere), "wal-dir \"/w\" exists");
    for wal_dir in ["/var", "/var/m", "/"] {
        let around = Restore { wal_dir: Some(Path::new(wal_dir)), ..usual };
        assert!(refused(&disk, &around).ends_with("must not hold the data-dir"), "{wal_dir}");
    }
}

/// An empty directory may have no name that something could be built beside.
#[test]
fn directories_without_a_name_are_taken() {
    let founders = founders();
    let usual = wanted(&founders);
    let disk = disk_with(&Sample::default().file());
    disk.create_dir_all(Path::new("/empty")).unwrap();
    let unnamed = Restore { data_dir: Path::new("/empty/."), ..usual };
    run(&disk, &unnamed).unwrap();
    assert!(disk.contents("/empty/member/snap/db").is_some());
    let root = Restore { data_dir: Path::new("/"), ..usual };
    assert_eq!(refused(&disk, &root), "data-dir \"/\" not empty or could not be read");
}

#[test]
fn files_that_are_no_snapshots_are_refused() {
    let founders = founders();
    let usual = wanted(&founders);
    let skipping = Restore { skip_hash_check: true, ..usual };
    let file = Sample::default().file();
    let nowhere = Restore { snapshot: Path::new("/nowhere"), ..usual };
    let error = refused(&disk_with(&file), &nowhere);
    assert_eq!(error, "open /nowhere: no such file or directory");
    // A copy of a db.
    let db = &file[..file.len() - 32];
    let error = refused(&disk_with(db), &usual);
    assert_eq!(error, "snapshot missing hash but --skip-hash-check=false");
    run(&disk_with(db), &skipping).expect("but with the flag it is taken");
    // Another checksum.
    let mut other = file.clone();
    *other.last_mut().unwrap() ^= 1;
    assert!(refused(&disk_with(&other), &usual).starts_with("expected sha256 ["));
    run(&disk_with(&other), &skipping).expect("but with the flag it is taken");
    // Cut off, with and without an end that looks like a checksum.
    for len in [0, 32, 512, 544, 4096 + 32, file.len() - 512, file.len() - 1] {
        refused(&disk_with(&file[..len]), &usual);
        if len != file.len() - 1 {
            refused(&disk_with(&file[..len]), &skipping);
        }
    }
    assert_eq!(refused(&disk_with(&[7; 4096]), &skipping), "invalid database");
}

#[test]
fn a_bolt_file_of_another_program_is_refused() {
    let disk = disk_with(b"");
    let path = Path::new("/other.db");
    let mut bolt =
        mainstay_bolt::Bolt::open(&disk, path, mainstay_bolt::Options::default()).unwrap();
    let mut batch = mainstay_bolt::WriteBatch::new();
    batch.create_bucket(b"key");
    bolt.commit(batch).unwrap();
    drop(bolt);
    let founders = founders();
    let other = Restore { snapshot: path, skip_hash_check: true, ..wanted(&founders) };
    let error = run(&disk, &other).expect_err("no bucket meta");
    assert!(matches!(&error, BackupError::NotEtcd(name) if name == "meta"), "{error}");
}

#[test]
fn a_revision_that_nobody_counts_to_is_refused() {
    let founders = founders();
    let disk = disk_with(&Sample::default().file());
    for by in [u64::MAX, 1 << 63, (1 << 62) - 1] {
        let high = Restore { bump_revision: by, ..wanted(&founders) };
        assert!(refused(&disk, &high).contains("cannot be raised"), "{by}");
    }
}

#[test]
fn status_tells_what_a_file_holds() {
    let disk = disk_with(&Sample::default().file());
    let told = status(&disk, Path::new(FILE)).unwrap();
    assert_eq!((told.revision, told.total_keys), (41, 5));
    assert_eq!(told.version, "3.7.0");
    assert_eq!(told.total_size, Sample::default().db().len() as u64);
    assert_eq!(revision(&disk, Path::new(FILE)).unwrap(), 41);
    let old = Sample { storage_version: None, ..Sample::default() };
    disk.install(FILE, &old.db());
    let told = status(&disk, Path::new(FILE)).unwrap();
    assert_eq!(told.version, "");
    let error = status(&disk, Path::new("/nowhere")).expect_err("no file");
    assert_eq!(error.to_string(), "stat /nowhere: no such file or directory");
    disk.install(FILE, &[1; 8192]);
    let error = status(&disk, Path::new(FILE)).expect_err("no db");
    assert_eq!(error.to_string(), "invalid database");
}
