//! Snapshots of every version that etcd has written, and the schema that comes out.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_backup::Restore;
use mainstay_env_sim::SimDisk;
use mainstay_types::{MemberId, Version};

use crate::support::{DATA, FILE, Sample, check_log, disk_with, founders, open, rows, run, wanted};

type Rows = BTreeMap<(Bytes, Bytes), Bytes>;

fn db(disk: &SimDisk) -> Rows {
    rows(disk, &format!("{DATA}/member/snap/db"))
}

fn get<'a>(rows: &'a Rows, bucket: &str, key: &str) -> Option<&'a [u8]> {
    let place = (Bytes::copy_from_slice(bucket.as_bytes()), Bytes::copy_from_slice(key.as_bytes()));
    rows.get(&place).map(AsRef::as_ref)
}

#[test]
fn what_is_not_of_the_old_cluster_stays() {
    let disk = disk_with(&Sample::default().file());
    let founders = founders();
    let restored = run(&disk, &wanted(&founders)).unwrap();
    assert_eq!((restored.latest.main, restored.rows), (41, 40));
    let (before, after) = (rows(&disk, FILE), db(&disk));
    let of_cluster = |(bucket, key): &(Bytes, Bytes)| {
        bucket.starts_with(b"members") || &key[..] == b"consistent_index" || &key[..] == b"term"
    };
    let rest = |rows: &Rows| -> Rows {
        let rest = rows.iter().filter(|(place, _)| !of_cluster(place));
        rest.map(|(place, value)| (place.clone(), value.clone())).collect()
    };
    assert_eq!(rest(&after), rest(&before));
    assert_eq!(get(&after, "meta", "consistent_index"), Some(&2u64.to_be_bytes()[..]));
    assert_eq!(get(&after, "meta", "term"), Some(&1u64.to_be_bytes()[..]));
    assert_eq!(after.keys().filter(|(bucket, _)| bucket.starts_with(b"members")).count(), 2);
    let me = get(&after, "members", &founders.me().to_string()).expect("a row of our own");
    let wanted =
        format!(r#"{{"id":{},"peerURLs":["http://10.0.0.1:2380"],"name":"m1"}}"#, founders.me().0);
    assert_eq!(String::from_utf8_lossy(me), wanted);
    check_log(&disk, &format!("{DATA}/member/wal"), 2);
    let machine = open(&disk);
    let ids: Vec<MemberId> = founders.members().iter().map(|member| member.id).collect();
    assert_eq!(machine.membership().voters(), ids);
}

#[test]
fn snapshots_of_every_version_are_taken() {
    let founders = founders();
    for (storage, cluster, term) in [
        (None, None, false),
        (None, Some("3.4.0"), false),
        (None, Some("3.5.0"), true),
        (Some("3.6.0"), Some("3.6.0"), true),
        (Some("3.7.0"), Some("3.7.0"), true),
    ] {
        let sample = Sample {
            storage_version: storage,
            cluster_version: cluster,
            term,
            ..Sample::default()
        };
        let disk = disk_with(&sample.file());
        run(&disk, &wanted(&founders)).unwrap();
        let after = db(&disk);
        assert_eq!(get(&after, "meta", "storageVersion"), storage.map(str::as_bytes));
        let kept = if cluster == Some("3.4.0") { Some("3.5.0") } else { cluster };
        assert_eq!(get(&after, "cluster", "clusterVersion"), kept.map(str::as_bytes));
        assert_eq!(get(&after, "meta", "term"), Some(&1u64.to_be_bytes()[..]));
        open(&disk);
    }
}

#[test]
fn the_target_version_is_that_of_schema_and_cluster() {
    let founders = founders();
    for from in ["3.5.0", "3.6.0", "3.7.0"] {
        let storage_version = Some(from).filter(|from| *from != "3.5.0");
        let sample = Sample { storage_version, cluster_version: Some(from), ..Sample::default() };
        for (minor, storage) in [(5, None), (6, Some("3.6.0")), (7, Some("3.7.0"))] {
            let target_version = Some(Version::line(3, minor));
            let disk = disk_with(&sample.file());
            run(&disk, &Restore { target_version, ..wanted(&founders) }).unwrap();
            let after = db(&disk);
            assert_eq!(get(&after, "meta", "storageVersion"), storage.map(str::as_bytes));
            let cluster = format!("3.{minor}.0");
            assert_eq!(get(&after, "cluster", "clusterVersion"), Some(cluster.as_bytes()));
            open(&disk);
        }
        let target_version = Some(Version::line(3, 8));
        let disk = disk_with(&sample.file());
        let error = run(&disk, &Restore { target_version, ..wanted(&founders) });
        let error = error.expect_err("nobody knows 3.8");
        assert_eq!(error.to_string(), "version \"3.8.0\" is not supported");
    }
    let sample = Sample { storage_version: Some("3.8.0"), ..Sample::default() };
    let target_version = Some(Version::line(3, 7));
    let disk = disk_with(&sample.file());
    let error = run(&disk, &Restore { target_version, ..wanted(&founders) });
    assert_eq!(error.expect_err("nor").to_string(), "version \"3.8.0\" is not supported");
}

#[test]
fn a_raised_revision_is_compacted() {
    let founders = founders();
    let disk = disk_with(&Sample::default().file());
    let restored = run(&disk, &Restore { bump_revision: 1000, ..wanted(&founders) }).unwrap();
    assert_eq!(restored.bumped, Some(1041));
    let after = db(&disk);
    let revision = [&1041i64.to_be_bytes()[..], b"_", &[0; 8]].concat();
    assert_eq!(get(&after, "meta", "scheduledCompactRev"), Some(&revision[..]));
    let row = (Bytes::from_static(b"key"), Bytes::from(revision.clone()));
    assert_eq!(after.get(&row).map(AsRef::as_ref), Some(&b""[..]));
    assert_eq!(open(&disk).view().revision(), 1041);
    // A snapshot of that restores, too.
    let again = disk_with(&disk.contents(format!("{DATA}/member/snap/db")).unwrap());
    let skipping = Restore { skip_hash_check: true, ..wanted(&founders) };
    assert_eq!(run(&again, &skipping).unwrap().latest.main, 1041);
}
