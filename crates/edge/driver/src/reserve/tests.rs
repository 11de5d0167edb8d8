//! Blocks that are held, given back and taken again, on a disk of the simulator.

use std::path::Path;
use std::sync::Arc;

use mainstay_env::{Disk, Room};
use mainstay_env_sim::{FailingCall, SimDisk, Unsynced};
use mainstay_types::limits::RESERVE_HEADER_BYTES;
use mainstay_types::{ClusterId, MemberId};

use super::{Marks, Reserve};
use crate::handle::Identity;

const KIB: u64 = 1 << 10;
const PATH: &str = "/m/member/mainstay/reserve";

fn open_as(disk: &SimDisk, member: u64, wanted: u64) -> Reserve {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let identity = Identity { cluster: ClusterId(7), member: MemberId(member) };
    Reserve::open(&disk, Path::new("/m/member"), identity, wanted)
}

fn open(disk: &SimDisk) -> Reserve {
    open_as(disk, 1, 64 * KIB)
}

fn room(disk: &SimDisk) -> Room {
    disk.room(Path::new("/m")).expect("it has power")
}

#[test]
fn it_is_made_given_up_and_made_again() {
    let disk = SimDisk::new(1);
    let reserve = open(&disk);
    assert_eq!((reserve.held(), reserve.is_spent()), (64 * KIB, false));
    assert_eq!(disk.used(), 64 * KIB + RESERVE_HEADER_BYTES);
    let other = disk.copy();
    disk.set_capacity(Some(disk.used()));
    assert_eq!(room(&disk).free, 0);
    assert_eq!(reserve.give_up(), 64 * KIB);
    assert_eq!((reserve.give_up(), reserve.is_spent(), room(&disk).free), (0, true, 64 * KIB));
    // Not while it would be needed again at once.
    let total = 10_000 * KIB;
    assert!(!reserve.refill(Room { total, free: 192 * KIB - 1 }));
    disk.set_capacity(None);
    assert!(reserve.refill(Room { total, free: 192 * KIB }));
    assert_eq!(reserve.held(), 64 * KIB);
    // What a start finds is taken as it is, or made smaller.
    assert_eq!(open(&other).held(), 64 * KIB);
    assert_eq!(open_as(&other, 1, 16 * KIB).held(), 16 * KIB);
    assert_eq!(open_as(&other, 1, 0).held(), 0);
    assert!(other.contents(PATH).is_none());
}

#[test]
fn a_small_disk_gives_a_sixteenth() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(160 * KIB));
    let reserve = open(&disk);
    assert_eq!(reserve.held(), 10 * KIB);
    let marks = reserve.marks(room(&disk)).expect("there is a reserve");
    assert_eq!(marks, Marks { low: 10 * KIB, high: 20 * KIB });
    assert_eq!(open_as(&disk, 1, 0).marks(room(&disk)), None);
}

#[test]
fn a_full_disk_has_none_and_keeps_no_member_from_starting() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(1));
    let reserve = open(&disk);
    assert!(reserve.is_spent() && reserve.held() == 0 && reserve.give_up() == 0);
    // What could not be noted is no reason to stop.
    reserve.set_raised(true);
    assert!(reserve.has_raised());
}

/// An allocation that fails half-way leaves nothing of it.
#[test]
fn what_cannot_be_synced_is_not_held() {
    let disk = SimDisk::new(1);
    let reserve = open(&disk);
    reserve.give_up();
    disk.fail(FailingCall::Sync, 1);
    assert!(!reserve.refill(room(&disk)));
    assert_eq!((reserve.held(), disk.used()), (0, RESERVE_HEADER_BYTES));
    assert!(reserve.refill(room(&disk)));
}

#[test]
fn what_it_notes_is_there_after_a_power_cut() {
    let disk = SimDisk::new(1);
    let reserve = open(&disk);
    ["/", "/m", "/m/member"].iter().for_each(|dir| disk.sync_dir(dir.as_ref()).expect("there"));
    assert!(!reserve.has_raised());
    // Also without room: the header has its block.
    disk.set_capacity(Some(1));
    reserve.set_raised(true);
    reserve.give_up();
    let after = disk.crash_with(Unsynced::Lost, 1);
    let again = open_as(&after.copy(), 1, 0);
    assert!(!again.has_raised(), "switched off");
    after.set_capacity(Some(1));
    let again = open(&after);
    assert!(again.has_raised() && again.is_spent());
    // Another's, or a flipped bit: it says nothing and is written anew.
    assert!(!open_as(&after.copy(), 2, 64 * KIB).has_raised());
    after.flip(PATH, 40, 3);
    assert!(!open(&after).has_raised());
    again.set_raised(false);
    assert!(!open(&after).has_raised());
}
