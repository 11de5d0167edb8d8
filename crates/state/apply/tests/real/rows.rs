//! The real member's db file beside the one that our machine wrote.

use std::path::Path;

use bytes::Bytes;
use mainstay_backend::Bucket;
use mainstay_backend::bolt::Reader;
use mainstay_env_sim::SimDisk;

fn rows(reader: &Reader, bucket: Bucket) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    if reader.bucket(bucket.name()).unwrap().is_some() {
        let mut cursor = reader.cursor(bucket.name()).unwrap();
        let mut next = cursor.first().unwrap();
        while let Some(row) = next {
            rows.push(row);
            next = cursor.next().unwrap();
        }
    }
    rows
}

/// Compares every row of every bucket, byte by byte, and returns how many there are.
pub(crate) fn agree(disk: &SimDisk, is_3516: bool) -> usize {
    let theirs = Reader::open(disk, Path::new("/theirs/db")).unwrap();
    let ours = Reader::open(disk, Path::new("/snap/db")).unwrap();
    let mut names = theirs.buckets().unwrap();
    names.sort();
    let known: Vec<&[u8]> = Bucket::ALL.iter().map(|bucket| bucket.name()).collect();
    assert_eq!(names, known, "the buckets of 3.5");
    let mut count = 0;
    for bucket in Bucket::ALL {
        let name = String::from_utf8_lossy(bucket.name());
        let (theirs, ours) = (rows(&theirs, bucket), rows(&ours, bucket));
        for (their, our) in theirs.iter().zip(&ours) {
            // 3.5.16 never writes a member's row a second time: its db keeps the URLs and
            // the vote that a member came with. It boots from the v2 store instead.
            if bucket == Bucket::Members && is_3516 {
                assert_eq!(their.0, our.0, "bucket {name}");
            } else {
                assert_eq!(their, our, "bucket {name}");
            }
        }
        assert_eq!(theirs.len(), ours.len(), "bucket {name}: {:?}", theirs.last());
        count += theirs.len();
    }
    count
}
