//! A member's directory, made from a seed by the crates that a member writes it with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::{Machine, Options, quota::Quota};
use mainstay_backend::{OpenOptions, SumsPlace};
use mainstay_driver::Founding;
use mainstay_env::{Dice as _, Disk};
use mainstay_env_sim::{SimDice, SimDisk};
use mainstay_membership::Member;
use mainstay_proto::{Message as _, etcdserverpb as pb, membershippb};
use mainstay_raft::{ConfChange, ConfChangeKind, Entry, EntryKind, HardState, Snapshot};
use mainstay_types::{Index, MemberId, Term};
use mainstay_wal::{Metadata, SnapshotMark, Wal, WalOptions, snap};
use sha2::{Digest as _, Sha256};

use crate::answers::{Answers, answers};

/// The data directory.
pub(crate) const DATA: &str = "/m";
/// Bytes of a log segment: a few of them make the log.
pub(crate) const SEGMENT_BYTES: u64 = 128 << 10;
/// Entries that are acknowledged.
const ENTRIES: u64 = 900;
/// Entries behind them that were written and not acknowledged.
const AHEAD: u64 = 3;
/// Entries of one save.
const SAVE: usize = 7;
/// Entries between two commits of the db.
const COMMIT: u64 = 60;
/// Where `.snap` files are taken.
const SNAPSHOTS: [u64; 3] = [300, 500, 700];
/// The last entry that the db holds.
const COMMITTED: u64 = 780;
/// Rows of a compaction's slice.
const SLICE: usize = 64;
/// The term of all entries.
const TERM: Term = Term(2);

/// What was made.
pub struct Made {
    /// The directory, as a member that was killed leaves it.
    pub disk: SimDisk,
    /// The same without what was not acknowledged.
    pub settled: SimDisk,
    /// The last entry that was acknowledged.
    pub acknowledged: Index,
    /// The right answers, by the last entry that the log may end with.
    pub right: BTreeMap<Index, Answers>,
    /// A snapshot file of the committed db, with its checksum.
    pub snapshot: Vec<u8>,
}

pub(crate) fn member_dir() -> PathBuf {
    Path::new(DATA).join("member")
}

/// How the state machine decides, as a member's boot has it.
pub(crate) fn rules() -> Options {
    Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: true,
    }
}

pub(crate) fn founding() -> Founding {
    Founding::alone("default", vec!["http://127.0.0.1:2380".to_owned()], "token")
}

fn founder() -> Member {
    let Founding::New { members, .. } = founding() else { unreachable!("a new cluster") };
    members.into_iter().next().expect("a cluster of one")
}

/// Draws the requests of the entries.
struct Author {
    dice: SimDice,
    revision: i64,
    id: u64,
}

impl Author {
    fn key(&mut self) -> Bytes {
        let n = self.dice.below(120);
        Bytes::from(match n % 9 {
            0 => format!("/registry/{n:0>90}"),
            _ => format!("key-{n}"),
        })
    }

    fn value(&mut self) -> Bytes {
        let len = match self.dice.below(40) {
            0 => self.dice.below(30_000),
            1..6 => self.dice.below(3_000),
            _ => self.dice.below(200),
        };
        Bytes::from((0..len).map(|_| self.dice.below(256) as u8).collect::<Vec<_>>())
    }

    fn put(&mut self) -> pb::PutRequest {
        let lease = if self.dice.one_in(5) { 1 + self.dice.below(5) as i64 } else { 0 };
        pb::PutRequest { key: self.key(), value: self.value(), lease, ..Default::default() }
    }

    fn normal(&mut self, fill: impl FnOnce(&mut pb::InternalRaftRequest)) -> Bytes {
        self.id += 1;
        let header = Some(pb::RequestHeader { id: self.id, ..Default::default() });
        let mut request = pb::InternalRaftRequest { header, ..Default::default() };
        fill(&mut request);
        Bytes::from(request.encode_to_vec())
    }

    /// The first entries are those of a new member, the others what clients ask.
    fn entry(&mut self, index: u64) -> (EntryKind, Bytes) {
        let member = founder();
        let data = match index {
            1 => {
                let (kind, context) = (ConfChangeKind::AddNode, Bytes::from(member.to_json()));
                let change = ConfChange { id: 1, kind, node: member.id, context };
                return (EntryKind::ConfChange, change.encode());
            }
            2 => Bytes::new(),
            3 => self.normal(|r| {
                r.cluster_member_attr_set = Some(membershippb::ClusterMemberAttrSetRequest {
                    member_id: member.id.0,
                    member_attributes: Some(membershippb::Attributes {
                        name: member.name.clone(),
                        client_urls: vec!["http://127.0.0.1:2379".to_owned()],
                    }),
                });
            }),
            4 => self.normal(|r| {
                let ver = "3.5.0".to_owned();
                r.cluster_version_set = Some(membershippb::ClusterVersionSetRequest { ver });
            }),
            5..10 => {
                let id = index as i64 - 4;
                self.normal(|r| {
                    let ttl = 600 + 100 * id;
                    r.lease_grant = Some(pb::LeaseGrantRequest { id, ttl });
                })
            }
            _ => self.request(index, member.id),
        };
        (EntryKind::Normal, data)
    }

    fn request(&mut self, index: u64, me: MemberId) -> Bytes {
        match self.dice.below(100) {
            0..8 => {
                let key = self.key();
                self.normal(|r| {
                    r.delete_range = Some(pb::DeleteRangeRequest { key, ..Default::default() });
                })
            }
            8..14 => {
                let puts: Vec<pb::RequestOp> = (0..1 + self.dice.below(4))
                    .map(|n| {
                        let key = Bytes::from(format!("txn-{n}-{}", self.dice.below(20)));
                        let put = pb::PutRequest { key, ..self.put() };
                        let request = Some(pb::request_op::Request::RequestPut(put));
                        pb::RequestOp { request }
                    })
                    .collect();
                self.normal(|r| {
                    r.txn = Some(pb::TxnRequest { success: puts, ..Default::default() });
                })
            }
            14 if self.revision > 100 => {
                let revision = self.revision - 60;
                self.normal(|r| {
                    r.compaction = Some(pb::CompactionRequest { revision, ..Default::default() });
                })
            }
            15 => {
                let raise = index.is_multiple_of(2);
                self.normal(|r| {
                    r.alarm = Some(pb::AlarmRequest {
                        action: if raise { 1 } else { 2 },
                        member_id: me.0 ^ 1,
                        alarm: pb::AlarmType::Nospace as i32,
                    });
                })
            }
            _ => {
                let put = self.put();
                self.normal(|r| r.put = Some(put))
            }
        }
    }
}

/// Applies an entry, and whatever a compaction in it asks for.
pub(crate) fn apply(machine: &mut Machine, entry: &Entry) -> Result<(), String> {
    let applied = machine.apply(entry, |_| false).map_err(|error| error.to_string())?;
    if let Some(batch) = applied.batch {
        machine.backend().append(batch);
    }
    while let Some((batch, _)) = machine.compaction_slice(SLICE) {
        machine.backend().append(batch);
    }
    Ok(())
}

impl Made {
    /// The directory of a seed.
    ///
    /// # Panics
    /// When it cannot be made, which is a fault of this program.
    #[must_use]
    pub fn new(seed: u64) -> Made {
        let disk = SimDisk::new(seed);
        let mut maker = Maker::new(&disk, seed);
        for index in 1..=ENTRIES {
            maker.add(Index(index));
        }
        maker.save();
        let mut right = BTreeMap::new();
        let mut take = |maker: &Maker, index: u64| {
            right.insert(Index(index), answers_of(&maker.machine));
        };
        let before = disk.copy();
        take(&maker, ENTRIES);
        for index in ENTRIES + 1..=ENTRIES + AHEAD {
            maker.add(Index(index));
            maker.save();
            take(&maker, index);
        }
        // The db was read for the right answers, which commits: the one before counts.
        let db = member_dir().join("snap/db");
        let sums = member_dir().join("mainstay/pages");
        drop(maker);
        let disk = disk.copy();
        for path in [db, sums] {
            disk.install(&path, &before.contents(&path).expect("it is there"));
        }
        let snapshot = snapshot_file(&before);
        Made { disk, settled: before, acknowledged: Index(ENTRIES), right, snapshot }
    }
}

fn answers_of(machine: &Machine) -> Answers {
    answers(machine).unwrap_or_else(|why| panic!("a sound disk: {why:?}"))
}

fn snapshot_file(disk: &SimDisk) -> Vec<u8> {
    let path = member_dir().join("snap/db");
    let reader =
        mainstay_backend::bolt::Reader::open(disk, &path).expect("a db that was just written");
    let copy = reader.copy();
    let mut bytes = vec![0; usize::try_from(copy.len()).expect("a small db")];
    copy.read_at(0, &mut bytes).expect("a sound disk");
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// Writes the directory.
struct Maker {
    disk: Arc<dyn Disk>,
    machine: Machine,
    wal: Wal,
    author: Author,
    waiting: Vec<Entry>,
    snapshots: Vec<Index>,
}

impl Maker {
    fn new(disk: &SimDisk, seed: u64) -> Maker {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let member = founder().id;
        let cluster = mainstay_membership::cluster_id([member]);
        disk.create_dir_all(&member_dir().join("snap")).expect("an empty disk");
        let place = SumsPlace { path: member_dir().join("mainstay/pages"), cluster, member };
        let file = OpenOptions { no_sync: false, sums: Some(place) };
        let db = member_dir().join("snap/db");
        let machine = Machine::open(Arc::clone(&disk), &db, file, rules()).expect("a new db");
        let (metadata, options) =
            (Metadata { member, cluster }, WalOptions { segment_bytes: SEGMENT_BYTES, sync: true });
        let wal = Wal::create_with(Arc::clone(&disk), &member_dir().join("wal"), metadata, options)
            .expect("a new log");
        let author = Author { dice: SimDice::new(!seed), revision: 1, id: 0 };
        Maker { disk, machine, wal, author, waiting: Vec::new(), snapshots: Vec::new() }
    }

    fn add(&mut self, index: Index) {
        let (kind, data) = self.author.entry(index.0);
        let entry = Entry { term: TERM, index, kind, data };
        apply(&mut self.machine, &entry).expect("a sound entry");
        self.author.revision = self.machine.view().revision();
        self.waiting.push(entry);
        if self.waiting.len() >= SAVE {
            self.save();
        }
        if index.0 <= COMMITTED && (index.0.is_multiple_of(COMMIT) || index.0 == COMMITTED) {
            self.machine.backend().commit().expect("a sound disk");
        }
        if SNAPSHOTS.contains(&index.0) {
            self.snapshot(index);
        }
    }

    fn save(&mut self) {
        let Some(last) = self.waiting.last() else { return };
        let state = HardState { term: TERM, vote: founder().id, commit: last.index };
        self.wal.save(Some(&state), &self.waiting, true).expect("a sound disk");
        self.waiting.clear();
    }

    /// As a member does: the db, the `.snap` file, the log's record, and then what is not needed
    /// any more is removed; two are kept.
    fn snapshot(&mut self, index: Index) {
        self.save();
        self.machine.backend().commit().expect("a sound disk");
        let (data, conf_state) =
            (Bytes::from(self.machine.snapshot_v2_json()), self.machine.conf_state());
        let snapshot = Snapshot { data, index, term: TERM, conf_state: conf_state.clone() };
        let dir = member_dir().join("snap");
        snap::save(&*self.disk, &dir, &snapshot).expect("a sound disk");
        let mark = SnapshotMark { index, term: TERM, conf_state: Some(conf_state) };
        self.wal.save_snapshot(&mark).expect("a sound disk");
        self.snapshots.push(index);
        if let [.., older, _] = self.snapshots[..] {
            self.wal.release_to(older).expect("nothing in the way");
            self.wal.purge(1).expect("a sound disk");
        }
        snap::purge(&*self.disk, &dir, index, 2).expect("a sound disk");
    }
}
