//! The real disk does what the traits promise.

use std::io;
use std::path::PathBuf;

use mainstay_env::{Clock, Dice, Disk, File, LockKind, OpenMode};

use crate::{OsClock, OsDice, OsDisk};

/// A directory that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let path = std::env::temp_dir().join(format!("mainstay-env-os-{:x}", OsDice::new().roll()));
        OsDisk::new().create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn create(&self, name: &str) -> Box<dyn File> {
        OsDisk::new().open(&self.0.join(name), OpenMode::CreateNew).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = OsDisk::new().remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_private_and_made_once() {
    let scratch = Scratch::new();
    let disk = OsDisk::new();
    drop(scratch.create("a"));
    let found = disk.metadata(&scratch.0.join("a")).unwrap().unwrap();
    assert_eq!((found.len, found.is_dir, found.mode), (0, false, 0o600));
    let found = disk.metadata(&scratch.0).unwrap().unwrap();
    assert_eq!((found.is_dir, found.mode), (true, 0o700));
    assert_eq!(disk.metadata(&scratch.0.join("b")).unwrap(), None);
    let again = disk.open(&scratch.0.join("a"), OpenMode::CreateNew).err().unwrap();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    let absent = disk.open(&scratch.0.join("b"), OpenMode::ReadWrite).err().unwrap();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
}

#[test]
fn bytes_come_back() {
    let scratch = Scratch::new();
    let file = scratch.create("a");
    file.write_at(3, b"hello").unwrap();
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 8);
    let mut buf = [9; 16];
    assert_eq!(file.read_at(1, &mut buf).unwrap(), 7);
    assert_eq!(&buf[..7], b"\0\0hello");
    let short = file.read_exact_at(1, &mut buf).err().unwrap();
    assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    file.allocate(4096).unwrap();
    assert_eq!(file.len().unwrap(), 4096);
    file.allocate(16).unwrap();
    assert_eq!(file.len().unwrap(), 4096, "allocating never shrinks");
    file.set_len(4).unwrap();
    file.forget(0, 4);
    assert_eq!(file.read_at(0, &mut buf).unwrap(), 4);
}

#[test]
fn names_change() {
    let scratch = Scratch::new();
    let disk = OsDisk::new();
    drop(scratch.create("b"));
    drop(scratch.create("a"));
    disk.rename(&scratch.0.join("b"), &scratch.0.join("c")).unwrap();
    disk.sync_dir(&scratch.0).unwrap();
    assert_eq!(disk.list(&scratch.0).unwrap(), ["a", "c"]);
    disk.remove_file(&scratch.0.join("a")).unwrap();
    assert_eq!(disk.list(&scratch.0).unwrap(), ["c"]);
    disk.create_dir_all(&scratch.0.join("x/y")).unwrap();
    disk.create_dir_all(&scratch.0.join("x/y")).unwrap();
    disk.remove_dir_all(&scratch.0.join("x")).unwrap();
    assert_eq!(disk.list(&scratch.0).unwrap(), ["c"]);
}

#[test]
fn locks_exclude_each_other_and_end_with_the_file() {
    for kind in [LockKind::OpenFileDescription, LockKind::Flock] {
        let scratch = Scratch::new();
        let first = scratch.create("a");
        let open = || OsDisk::new().open(&scratch.0.join("a"), OpenMode::ReadWrite).unwrap();
        let second = open();
        assert!(first.try_lock(kind).unwrap());
        assert!(first.try_lock(kind).unwrap(), "the holder may ask again");
        assert!(!second.try_lock(kind).unwrap());
        drop(first);
        assert!(second.try_lock(kind).unwrap());
        drop(second);
        assert!(open().try_lock(kind).unwrap());
    }
}

#[test]
fn clock_and_dice_move() {
    let clock = OsClock::new();
    let before = clock.now();
    assert!(clock.now() >= before);
    assert!(clock.wall().as_secs() > 1_700_000_000);
    let mut dice = OsDice::new();
    let mut rolled: Vec<u64> = (0..200).map(|_| dice.roll()).collect();
    rolled.sort_unstable();
    rolled.dedup();
    assert_eq!(rolled.len(), 200);
}
