//! Data directories for the tests, and what a command says about them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use mainstay_backend::{Backend, Batch, Bucket, KeyRow, OpenOptions, meta};
use mainstay_env::Disk;
use mainstay_env_os::OsDisk;
use mainstay_etcdutl::{Failure, Run};
use mainstay_membership::{Member, Membership};
use mainstay_proto::{Message as _, etcdserverpb as pb, mvccpb, raftpb};
use mainstay_raft::{ConfState, Entry, EntryKind, HardState, Snapshot};
use mainstay_types::{ClusterId, Index, MemberId, Revision, Term, Version};
use mainstay_wal::{Metadata, SnapshotMark, Wal, WalOptions, snap};

/// A folder that goes away with its test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mainstay-etcdutl-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A left-over folder in the temporary one is no failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) log: String,
    pub(crate) result: Result<(), Failure>,
}

impl Said {
    pub(crate) fn ok(self) -> String {
        let Said { out, log, result } = self;
        assert_eq!(result, Ok(()), "{out}{log}");
        out
    }

    /// Exit code and message of what failed.
    pub(crate) fn failed(self) -> (u8, String, String) {
        let failure = self.result.expect_err(&self.out);
        (failure.code, failure.message, self.out)
    }
}

/// Runs a command line; `$D` is the directory, `$S` its db.
pub(crate) fn run(dir: &Path, line: &str) -> Said {
    run_as("etcdutl", dir, line)
}

pub(crate) fn run_as(called: &str, dir: &Path, line: &str) -> Said {
    run_on(Arc::new(OsDisk::new()), called, dir, line)
}

pub(crate) fn run_on(disk: Arc<dyn Disk>, called: &str, dir: &Path, line: &str) -> Said {
    let root = dir.to_string_lossy();
    let words = line
        .split_whitespace()
        .map(|word| word.replace("$D", &root).replace("$S", &format!("{root}/member/snap/db")));
    let args: Vec<String> = words.collect();
    let (mut out, mut log) = (Vec::new(), Vec::new());
    let mut run = Run::new(disk, &mut out, &mut log);
    let result = mainstay_etcdutl::run(called, &args, &mut run);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { out: text(out), log: text(log), result }
}

/// Every file of a folder with its bytes.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let bytes = fs::read(&path).expect("a file");
                    files.insert(path.strip_prefix(dir).expect("inside").to_owned(), bytes);
                }
            }
        }
    }
    files
}

/// How a directory is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Entries of the log; from 2 on each puts a key.
    pub(crate) entries: u64,
    /// How many of them the db has applied.
    pub(crate) applied: u64,
    pub(crate) snapshots: Vec<u64>,
    pub(crate) voters: u64,
    /// Whose directory it is.
    pub(crate) me: u64,
    /// `None`: 3.5.
    pub(crate) storage: Option<Version>,
    pub(crate) value_bytes: usize,
    /// A request in the place of the last entry.
    pub(crate) last: Option<pb::InternalRaftRequest>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            entries: 40,
            applied: 40,
            snapshots: Vec::new(),
            voters: 1,
            me: 1,
            storage: None,
            value_bytes: 50,
            last: None,
        }
    }
}

const TERM: Term = Term(2);

fn member(id: u64) -> Member {
    Member {
        id: MemberId(id),
        peer_urls: vec![format!("http://127.0.0.1:{}", 1000 + id)],
        is_learner: false,
        name: format!("m{id}"),
        client_urls: Vec::new(),
    }
}

impl Plan {
    fn conf_state(&self) -> ConfState {
        ConfState { voters: (1..=self.voters).map(MemberId).collect(), ..Default::default() }
    }

    fn membership(&self) -> Membership {
        Membership::new((1..=self.voters).map(member))
    }

    fn entry(&self, index: u64) -> Entry {
        if index <= self.voters {
            let change = raftpb::ConfChange {
                id: Some(0),
                r#type: Some(0),
                node_id: Some(index),
                context: Some(member(index).to_json().into()),
            };
            let data = change.encode_to_vec().into();
            return Entry { term: Term(1), index: Index(index), kind: EntryKind::ConfChange, data };
        }
        let request = match &self.last {
            Some(last) if index == self.entries => last.clone(),
            _ => pb::InternalRaftRequest {
                header: Some(pb::RequestHeader { id: index, ..Default::default() }),
                put: Some(pb::PutRequest {
                    key: key(index),
                    value: vec![b'v'; self.value_bytes].into(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        };
        let data = request.encode_to_vec().into();
        Entry { term: TERM, index: Index(index), kind: EntryKind::Normal, data }
    }

    /// Makes the directory.
    pub(crate) fn make(&self, dir: &Path) {
        let disk = Arc::new(OsDisk::new());
        let (wal_dir, snap_dir) = (dir.join("member/wal"), dir.join("member/snap"));
        fs::create_dir_all(&snap_dir).expect("a folder");
        let metadata = Metadata { member: MemberId(self.me), cluster: ClusterId(7) };
        let options = WalOptions { segment_bytes: 16 << 10, sync: false };
        let mut wal = Wal::create_with(disk.clone(), &wal_dir, metadata, options).expect("a log");
        for index in 1..=self.entries {
            let entry = self.entry(index);
            let state = HardState { term: entry.term, vote: MemberId(1), commit: Index(index) };
            wal.save(Some(&state), &[entry], true).expect("saved");
            if self.snapshots.contains(&index) {
                let (conf_state, data) = (self.conf_state(), self.membership().to_v2_json());
                let mark = SnapshotMark {
                    index: Index(index),
                    term: TERM,
                    conf_state: Some(conf_state.clone()),
                };
                let snapshot =
                    Snapshot { data: data.into(), index: Index(index), term: TERM, conf_state };
                snap::save(&*disk, &snap_dir, &snapshot).expect("saved");
                wal.save_snapshot(&mark).expect("saved");
            }
        }
        wal.close().expect("closed");
        self.db(&disk, &snap_dir.join("db"));
    }

    fn db(&self, disk: &Arc<OsDisk>, path: &Path) {
        let open = Backend::open(disk.clone(), path, OpenOptions::default(), &mut |_, _, _| {});
        let backend = open.expect("a db");
        for index in 1..=self.applied {
            let entry = self.entry(index);
            let mut batch = Batch::new((entry.index, entry.term));
            if index <= self.voters {
                let one = member(index);
                batch.put(Bucket::Members, Bytes::from(one.id.to_string()), one.to_json());
                let ids: Vec<String> = (1..=index).map(|id| id.to_string()).collect();
                let json = format!("{{\"voters\":[{}],\"auto_leave\":false}}", ids.join(","));
                batch.put(Bucket::Meta, Bytes::from_static(meta::CONF_STATE), json);
                if let Some(version) = self.storage {
                    let key = Bytes::from_static(meta::STORAGE_VERSION);
                    batch.put(Bucket::Meta, key, version.to_string());
                }
            } else {
                batch.put_revision(self.row(index));
            }
            backend.append(batch);
            if index.is_multiple_of(8) {
                backend.commit().expect("committed");
            }
        }
        backend.commit().expect("committed");
    }

    /// The row of an entry: revision 2 is the first.
    fn row(&self, index: u64) -> KeyRow {
        let revision = Revision::new((index - self.voters) as i64 + 1, 0);
        let value = mvccpb::KeyValue {
            key: key(index),
            create_revision: revision.main,
            mod_revision: revision.main,
            version: 1,
            value: vec![b'v'; self.value_bytes].into(),
            lease: 0,
        };
        KeyRow { revision, tombstone: false, value: value.encode_to_vec().into() }
    }
}

fn key(index: u64) -> Bytes {
    Bytes::from(format!("key{index:05}"))
}

/// The only segment that a small log has, and others: sorted.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir.join("member/wal")).expect("a log");
    let mut all: Vec<PathBuf> = all.map(|entry| entry.expect("an entry").path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "wal"));
    all.sort();
    all
}

/// Where in a segment the bytes of an entry's key stand.
pub(crate) fn find(path: &Path, what: &[u8]) -> Option<usize> {
    let bytes = fs::read(path).expect("a file");
    bytes.windows(what.len()).position(|window| window == what)
}

/// Turns one bit of a file.
pub(crate) fn flip(path: &Path, at: usize, bit: u8) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).expect("written");
}

/// Writes over a part of a file.
pub(crate) fn overwrite(path: &Path, at: usize, with: &[u8]) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at..at + with.len()].copy_from_slice(with);
    fs::write(path, bytes).expect("written");
}
