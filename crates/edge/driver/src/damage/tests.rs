//! Notes that come back as they were left, whatever the power does.

use mainstay_env_sim::{SimDisk, Unsynced};

use super::*;

fn damage() -> Damage {
    Damage {
        cluster: ClusterId(0xc0ff_ee00),
        member: MemberId(u64::MAX),
        file: "/m/member/snap/db".to_owned(),
        offset: 8192,
        what: "page 2: \"crc\" of another\npage".to_owned(),
    }
}

#[test]
fn a_note_comes_back() {
    let disk = SimDisk::new(1);
    let path = marker_path(Path::new("/m/member"));
    disk.create_dir_all(Path::new("/m/member")).expect("a folder");
    assert_eq!(read_marker(&disk, &path).expect("reads"), Marker::None);
    clear_marker(&disk, &path).expect("nothing to clear");
    write_marker(&disk, &path, &damage()).expect("writes");
    let second = Damage { offset: 4096, ..damage() };
    write_marker(&disk, &path, &second).expect("writes again");
    disk.sync_dir(Path::new("/")).expect("syncs");
    disk.sync_dir(Path::new("/m")).expect("syncs");
    let disk = disk.crash_with(Unsynced::Lost, 1);
    assert_eq!(read_marker(&disk, &path).expect("reads"), Marker::Damage(second));
    clear_marker(&disk, &path).expect("clears");
    let disk = disk.crash_with(Unsynced::Lost, 1);
    assert_eq!(read_marker(&disk, &path).expect("reads"), Marker::None);
}

#[test]
fn a_flipped_note_is_one_that_cannot_be_read() {
    let disk = SimDisk::new(1);
    let path = marker_path(Path::new("/m/member"));
    write_marker(&disk, &path, &damage()).expect("writes");
    let len = disk.contents(&path).expect("there").len() as u64;
    for offset in 0..len - 1 {
        let flipped = disk.copy();
        flipped.flip(&path, offset, 2);
        let found = read_marker(&flipped, &path).expect("reads");
        assert!(matches!(found, Marker::Unreadable(_)), "offset {offset}: {found:?}");
    }
}
