//! When a member takes its disk for full, and when no longer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_types::limits::RESERVE_HEADER_BYTES;
use mainstay_types::{ClusterId, MemberId};

use super::{Place, Space, Writing};
use crate::handle::Identity;
use crate::reserve::Reserve;

const SIZE: u64 = 64 << 10;
const HELD: u64 = SIZE + RESERVE_HEADER_BYTES;

fn space(disk: &SimDisk, log_folder: Option<&str>) -> Space {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let identity = Identity { cluster: ClusterId(7), member: MemberId(1) };
    let reserve = Reserve::open(&disk, Path::new("/m"), identity, SIZE);
    let log_folder = log_folder.map(PathBuf::from);
    Space::new(Place { disk, reserve, folder: "/m".into(), log_folder })
}

/// Lets so much be free, on a large disk whose other files take the rest.
fn leave(disk: &SimDisk, free: u64) {
    disk.set_capacity(None);
    disk.install("/ballast", &[]);
    let ballast = disk.open("/ballast".as_ref(), mainstay_env::OpenMode::ReadWrite).expect("there");
    let rest = 100 * SIZE - (disk.used() - ballast.len().expect("open"));
    ballast.set_len(rest - free).expect("grows");
    disk.set_capacity(Some(100 * SIZE));
}

#[test]
fn between_the_marks_nothing_changes() {
    let disk = SimDisk::new(1);
    let space = space(&disk, None);
    let full_with = |free| {
        leave(&disk, free);
        space.look();
        space.is_full()
    };
    assert!(!full_with(SIZE));
    assert!(full_with(SIZE - 1));
    assert_eq!(space.free(), SIZE - 1);
    assert!(full_with(SIZE) && full_with(2 * SIZE - 1));
    assert!(!full_with(2 * SIZE) && !full_with(SIZE));
    // None of that touches the reserve.
    assert_eq!(space.held(), SIZE);
}

#[test]
fn a_used_up_reserve_stays_so_until_there_is_room_for_it_and_more() {
    let disk = SimDisk::new(1);
    let space = space(&disk, None);
    leave(&disk, 0);
    assert!(space.give_up_reserve(Writing::Log) && !space.give_up_reserve(Writing::Db));
    space.look();
    assert!(space.is_spent() && space.is_full() && space.free() == SIZE);
    leave(&disk, 3 * SIZE - 1);
    space.look();
    assert!(space.is_spent() && space.is_full());
    leave(&disk, 3 * SIZE);
    space.look();
    // What it took is not free any more, so that the mark has the last word.
    assert!(!space.is_spent() && !space.is_full() && space.held() == SIZE);
}

#[test]
fn a_restart_does_not_forget_that_the_reserve_is_used_up() {
    let disk = SimDisk::new(1);
    let before = space(&disk, None);
    leave(&disk, 0);
    before.set_raised(true);
    before.give_up_reserve(Writing::Db);
    let after = space(&disk, None);
    assert!(after.is_spent() && after.is_full() && after.has_raised());
    leave(&disk, 4 * SIZE);
    after.look();
    assert!(!after.is_full());
    // A new member on a disk that has no room for a reserve yet is not full for that.
    let other = SimDisk::new(1);
    other.set_capacity(Some(100 * SIZE));
    leave(&other, SIZE + HELD);
    let young = space(&other, None);
    assert!(!young.is_spent() && !young.is_full() && young.held() == 0);
}

#[test]
fn a_log_on_another_disk_has_no_part_in_the_reserve() {
    let disk = SimDisk::new(1);
    let space = space(&disk, Some("/elsewhere"));
    assert!(!space.give_up_reserve(Writing::Log) && !space.is_full());
    assert!(space.log_waits(true) && !space.log_waits(true) && space.is_full());
    assert!(space.log_waits(false) && !space.is_full());
}
