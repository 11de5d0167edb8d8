//! What a peer may send in the place of a db.

use std::sync::Arc;

use mainstay_env::Disk as _;
use mainstay_env_sim::SimDisk;

use super::*;

fn receiving(disk: &SimDisk) -> IncomingDb {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    shared.create_dir_all(Path::new("/snap")).expect("a folder");
    IncomingDb::create(shared, "/snap".into(), Index(9), 1).expect("a file").verified(Index(9))
}

#[test]
fn what_is_no_db_gets_no_name() {
    for rubbish in [&b""[..], b"rubbish", &[0x5a; 40_000], &[0; 16_384]] {
        let disk = SimDisk::new(1);
        let mut db = receiving(&disk);
        db.write(rubbish).expect("it is taken");
        db.finish().expect_err("and looked at");
        assert!(disk.list(Path::new("/snap")).expect("a folder").is_empty(), "nothing is left");
    }
}

#[test]
fn a_sound_db_of_another_entry_gets_no_name() {
    let disk = SimDisk::new(1);
    let made: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = mainstay_backend::OpenOptions::default();
    let backend =
        mainstay_backend::Backend::open(made, Path::new("/db"), options, &mut |_, _, _| {});
    drop(backend.expect("a new db"));
    let bytes = disk.contents("/db").expect("it is there");
    let mut db = receiving(&disk);
    db.write(&bytes).expect("it is taken");
    let refused = db.finish().expect_err("it is of no entry");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
    assert!(disk.list(Path::new("/snap")).expect("a folder").is_empty(), "nothing is left");
}

#[test]
fn a_body_without_end_leaves_room_for_the_log() {
    let disk = SimDisk::new(1);
    let total = 64 << 20;
    disk.set_capacity(Some(total));
    let mut db = receiving(&disk);
    let piece = vec![7; 256 << 10];
    let refused = loop {
        if let Err(refused) = db.write(&piece) {
            break refused;
        }
    };
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull, "{refused}");
    let left = disk.room(Path::new("/snap")).expect("a sound disk").free;
    assert!(left >= total / RESERVE_SHARE, "{left} bytes are left");
    assert!(db.len() > total / 2, "it was not hasty");
    drop(db);
    assert_eq!(disk.room(Path::new("/snap")).expect("a sound disk").free, total);
}
