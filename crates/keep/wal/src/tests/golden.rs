//! What etcd 3.5.16 wrote is read, and written again byte for byte; and the other
//! way round when its binary is there.
//!
//! `golden/3.5.16.wal` is a segment of etcd 3.5.16 without its unused end, after 14
//! puts, a delete and a lease; `records.txt` is what another program read in it:
//! offset, crc, kind and fields of each record.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use mainstay_env_sim::SimDisk;
use mainstay_proto::{Message, etcdserverpb};
use mainstay_types::{Index, MemberId, Term};

use super::support::{create, dir, open, small_segments};
use crate::record::{Content, Encoder, Kind, LENGTH_BYTES, Length, Record};
use crate::{SnapshotMark, Wal, WalOptions, read, snap, valid_snapshots};

const SEGMENT: &[u8] = include_bytes!("golden/3.5.16.wal");
const SNAP: &[u8] = include_bytes!("golden/3.5.16.snap");
const RECORDS: &str = include_str!("golden/records.txt");

/// All records of a segment with their offsets and checksums.
fn records(segment: &[u8]) -> Vec<(usize, u32, Content)> {
    let (mut at, mut records) = (0, Vec::new());
    while let Some(field) = segment.get(at..at + LENGTH_BYTES)
        && let Some(length) = Length::parse(field.try_into().unwrap())
    {
        let record = Record::parse(&segment[at + LENGTH_BYTES..]).unwrap();
        assert_eq!(record.len as u64, length.record);
        records.push((at, record.crc, Content::read(record.kind, record.data).unwrap()));
        at += length.frame() as usize;
    }
    records
}

fn describe(content: &Content) -> String {
    match content {
        Content::Crc => "crc".into(),
        Content::Metadata(metadata) => format!("metadata {} {}", metadata.member, metadata.cluster),
        Content::State(state) => format!("state {} {} {}", state.term, state.vote, state.commit),
        Content::Entry(entry) => {
            let data: String = entry.data.iter().map(|byte| format!("{byte:02x}")).collect();
            let kind = crate::convert::entry_kind_number(entry.kind);
            format!("entry {kind} {} {} {data}", entry.term, entry.index).trim().to_owned()
        }
        Content::Snapshot(mark) => {
            let mut text = format!("snapshot {} {}", mark.index, mark.term);
            if let Some(conf_state) = &mark.conf_state {
                let voters: Vec<String> =
                    conf_state.voters.iter().map(|id| id.to_string()).collect();
                text += &format!(" voters {}", voters.join(" "));
            }
            text
        }
    }
}

/// Writes records as we would.
fn encode(records: &[(usize, u32, Content)]) -> Vec<u8> {
    let mut encoder = Encoder::new(records[0].1);
    for (_, _, content) in records {
        match content {
            Content::Crc => encoder.crc(),
            Content::Metadata(metadata) => encoder.metadata(*metadata),
            Content::State(state) => encoder.state(state),
            Content::Entry(entry) => encoder.entry(entry),
            Content::Snapshot(mark) => encoder.snapshot(mark),
        }
    }
    encoder.buffer
}

#[test]
fn every_record_of_etcd_is_read_and_written_the_same() {
    let records = records(SEGMENT);
    let read: Vec<String> = records
        .iter()
        .map(|(at, crc, content)| format!("{at} {crc:08x} {}", describe(content)))
        .collect();
    assert_eq!(read, RECORDS.lines().collect::<Vec<_>>());
    assert!(encode(&records) == SEGMENT, "what we write differs from what etcd wrote");
}

#[test]
fn a_log_of_etcd_is_opened() {
    let disk = SimDisk::new(1);
    let path = dir().join("0000000000000000-0000000000000000.wal");
    disk.install(&path, &[SEGMENT, &[0; 5000]].concat());
    let marks = valid_snapshots(&disk, dir()).unwrap();
    let marked: Vec<(u64, u64)> = marks.iter().map(|mark| (mark.term.0, mark.index.0)).collect();
    assert_eq!(marked, [(0, 0), (2, 11)]);
    let (mut wal, replay) = open(&disk, &marks[1], WalOptions::default()).unwrap();
    assert_eq!(replay.entries.len(), 10);
    assert_eq!(replay.hard_state.commit, Index(21));
    assert_eq!(replay.metadata.member, MemberId(0x6678_8015_7b88_12c8));
    wal.save(None, &[super::support::entry(3, 22, "ours")], true).unwrap();
    let replay = read(&disk, dir(), &SnapshotMark::default()).unwrap();
    assert_eq!(replay.entries.len(), 22);
}

#[test]
fn a_snap_of_etcd_is_read_and_written_the_same() {
    let disk = SimDisk::new(1);
    let name = "0000000000000002-000000000000000b.snap";
    let path = Path::new("/snap").join(name);
    disk.install(&path, SNAP);
    let names = snap::list(&disk, "/snap".as_ref()).unwrap();
    assert_eq!(names, [snap::SnapName { term: Term(2), index: Index(11) }]);
    let snapshot = snap::load(&disk, "/snap".as_ref(), names[0]).unwrap();
    assert_eq!((snapshot.index, snapshot.term), (Index(11), Term(2)));
    assert_eq!(snapshot.conf_state.voters, [MemberId(0x6678_8015_7b88_12c8)]);
    assert!(snapshot.data.starts_with(b"{\"Root\":{"), "the JSON of the v2 store");
    mainstay_env::Disk::create_dir_all(&disk, "/again".as_ref()).unwrap();
    let saved = snap::save(&disk, "/again".as_ref(), &snapshot).unwrap();
    assert_eq!(saved, Path::new("/again").join(name));
    assert!(disk.contents(saved).unwrap() == SNAP, "what we write differs from what etcd wrote");
}

/// A member of etcd 3.5.16 with a directory of its own.
struct Etcd {
    binary: PathBuf,
    data: PathBuf,
    ports: (u16, u16),
    running: Option<Child>,
}

impl Etcd {
    /// `None`, told loudly, when there is no binary.
    fn new(test: &str) -> Option<Etcd> {
        let Some(binary) = std::env::var_os("MAINSTAY_ETCD_3516") else {
            // Not eprintln, which the test runner keeps to itself.
            let why = "MAINSTAY_ETCD_3516 does not name the etcd 3.5.16 binary";
            writeln!(std::io::stderr(), "\nNOT RUN: {test}: {why}").unwrap();
            return None;
        };
        let data = std::env::temp_dir().join(format!("mainstay-wal-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        let port = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, peer) = (port(), port());
        let number = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let ports = (number(&client), number(&peer));
        Some(Etcd { binary: binary.into(), data, ports, running: None })
    }

    fn start(&mut self) {
        let (client, peer) = self.ports;
        let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
        let child = Command::new(&self.binary)
            .args(["--name", "golden", "--snapshot-count", "10", "--data-dir"])
            .arg(&self.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("golden={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = self.running.insert(child.unwrap());
        let pid = child.id();
        for attempt in 0.. {
            let running = self.running.as_mut().unwrap().try_wait().unwrap();
            assert!(running.is_none(), "etcd {pid} ended: {running:?}");
            assert!(attempt < 200, "etcd does not get healthy");
            // Each attempt waits up to its own timeout.
            if self.ctl(&["--command-timeout=1s", "endpoint", "health"]).is_some() {
                break;
            }
        }
    }

    /// Runs etcdctl, which lies beside etcd.
    fn ctl(&self, args: &[&str]) -> Option<String> {
        let output = Command::new(self.binary.with_file_name("etcdctl"))
            .arg(format!("--endpoints=http://127.0.0.1:{}", self.ports.0))
            .args(args)
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Copies the log into a simulated disk, without the unused ends.
    fn log(&self) -> SimDisk {
        let disk = SimDisk::new(1);
        for file in std::fs::read_dir(self.data.join("member/wal")).unwrap() {
            let file = file.unwrap();
            let mut bytes = std::fs::read(file.path()).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end.next_multiple_of(8));
            disk.install(dir().join(file.file_name()), &bytes);
        }
        disk
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Writes what a log says again, in small segments.
fn rewrite(from: &SimDisk) -> SimDisk {
    let to = SimDisk::new(2);
    let mut wal = None;
    for path in from.paths().iter().filter(|path| path.ends_with(".wal")) {
        for (_, _, content) in records(&from.contents(path).unwrap()) {
            write_again(&to, &mut wal, content);
        }
    }
    wal.unwrap().close().unwrap();
    to
}

fn write_again(to: &SimDisk, wal: &mut Option<Wal>, content: Content) {
    let options = small_segments(1000);
    match (content, wal) {
        (Content::Metadata(metadata), wal @ None) => {
            let disk = super::support::shared(to);
            *wal = Some(Wal::create_with(disk, dir(), metadata, options).unwrap());
        }
        (Content::Entry(entry), Some(wal)) => wal.save(None, &[entry], true).unwrap(),
        (Content::State(state), Some(wal)) => wal.save(Some(&state), &[], false).unwrap(),
        (Content::Snapshot(mark), Some(wal)) if mark.index.0 > 0 => {
            wal.save_snapshot(&mark).unwrap();
        }
        _ => {}
    }
}

#[test]
fn etcd_and_we_take_turns_on_a_directory() {
    let Some(mut etcd) = Etcd::new("turns") else { return };
    etcd.start();
    for key in 0..25 {
        etcd.ctl(&["put", &format!("key{key}"), &"v".repeat(key * 20)]).unwrap();
    }
    etcd.kill();
    let theirs = etcd.log();
    for path in theirs.paths().iter().filter(|path| path.ends_with(".wal")) {
        let bytes = theirs.contents(path).unwrap();
        let mut ours = encode(&records(&bytes));
        ours.resize(ours.len().max(bytes.len()), 0);
        assert!(ours == bytes, "{path} is written differently");
    }
    let before = read(&theirs, dir(), &SnapshotMark::default()).unwrap();
    let requests: Vec<_> = before.entries.iter().filter_map(|entry| put_of(&entry.data)).collect();
    assert_eq!(requests.len(), 25);
    assert_eq!(requests[3], "key3");

    // The same log as we write it: etcd starts from it, reads and writes.
    let ours = rewrite(&theirs);
    assert!(ours.paths().len() > 2, "several segments");
    let again = read(&ours, dir(), &SnapshotMark::default()).unwrap();
    assert_eq!((&again.entries, again.hard_state), (&before.entries, before.hard_state));
    let wal_dir = etcd.data.join("member/wal");
    std::fs::remove_dir_all(&wal_dir).unwrap();
    std::fs::create_dir(&wal_dir).unwrap();
    for path in ours.paths() {
        let name = Path::new(&path).file_name().unwrap().to_owned();
        std::fs::write(wal_dir.join(name), ours.contents(&path).unwrap()).unwrap();
    }
    etcd.start();
    assert_eq!(etcd.ctl(&["get", "--print-value-only", "key24"]).unwrap().trim(), "v".repeat(480));
    etcd.ctl(&["put", "after", "us"]).unwrap();
    etcd.kill();
    // It may have purged the first of our many segments: read from the oldest
    // snapshot that is still whole.
    let log = etcd.log();
    let marks = valid_snapshots(&log, dir()).unwrap();
    let oldest = marks.iter().find_map(|from| Some((from, read(&log, dir(), from).ok()?)));
    let (from, after) = oldest.unwrap();
    assert!(from.index.0 < 28, "{from:?}");
    assert!(after.entries.starts_with(&before.entries[from.index.0 as usize..]));
    assert!(after.entries.iter().any(|entry| put_of(&entry.data).as_deref() == Some("after")));
}

/// The key that an entry puts.
fn put_of(data: &Bytes) -> Option<String> {
    let request = etcdserverpb::InternalRaftRequest::decode(data.clone()).ok()?;
    Some(String::from_utf8_lossy(&request.put?.key).into_owned())
}

#[test]
fn our_log_of_the_same_records_differs_only_in_hard_states() {
    let disk = SimDisk::new(1);
    drop(create(&disk, WalOptions::default()));
    let ours = disk.contents(disk.paths()[0].clone()).unwrap();
    assert_eq!(ours[..16], SEGMENT[..16], "the crc record");
    let first: Vec<String> = records(&ours).iter().map(|(_, _, record)| describe(record)).collect();
    assert_eq!(first[0], "crc");
    assert!(first[1].starts_with("metadata"));
    assert_eq!(first[2..], ["snapshot 0 0"]);
}

/// Go leaves the kind of an ordinary entry out from 3.7 on (bytes of a log of 3.7.3).
#[test]
fn entries_of_3_7_are_read() {
    let read = |data: &[u8]| {
        Content::read(Kind::Entry, data).map(|content| describe(&content)).unwrap_or_default()
    };
    assert_eq!(read(&[0x10, 2, 0x18, 6]), "entry 0 2 6");
    assert_eq!(read(&[0x10, 2, 0x18, 7, 0x22, 1, 0x2a]), "entry 0 2 7 2a");
    assert_eq!(read(&[0x08, 1, 0x10, 1, 0x18, 1, 0x22, 1, 0x10]), "entry 1 1 1 10");
    // Nothing else may be missing, and no other kind of record reads like it.
    for wrong in [&[0x10, 2][..], &[0x18, 6], &[0x08, 0, 0x18, 6], &[0x10, 0, 0x18, 6], &[]] {
        assert_eq!(read(wrong), "", "{wrong:x?}");
    }
    let entry = [0x10, 2, 0x18, 6];
    for kind in [Kind::Metadata, Kind::State, Kind::Snapshot] {
        assert!(Content::read(kind, &entry).is_err(), "{kind:?}");
    }
}
