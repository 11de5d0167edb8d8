//! The machine against the appliers of etcd 3.7.1: random requests of every kind, in the
//! names of users who may and who may not, and what 3.7.1 answered and stored
//! (`golden/371.txt`).
//!
//! The file was made with 3.7.1's own code, whose `server` module runs
//! `golden/oracle_test.go` as if it lay in `etcdserver/apply` (`go test -overlay`). This
//! test writes the requests when `MAINSTAY_ORACLE_REQUESTS` names a file for them, and
//! compares with another file when `MAINSTAY_ORACLE_ANSWERS` names one, which other
//! requests need (`MAINSTAY_SEED`):
//!
//! ```text
//! MAINSTAY_ORACLE_REQUESTS=requests cargo test -p mainstay-apply --test oracle_371
//! ORACLE_REQUESTS=requests ORACLE_ANSWERS=371.txt go test -overlay overlay.json -run TestOracle ./etcdserver/apply
//! ```

#![expect(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::quota::Quota;
use mainstay_apply::{ApplyError, AuthError, Machine, Options, Reply, check};
use mainstay_backend::{Bucket, OpenOptions};
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_membership::{Change, Member};
use mainstay_proto::authpb::{Permission, UserAddOptions};
use mainstay_proto::{Message as _, etcdserverpb as pb, membershippb};
use mainstay_raft::{Entry, EntryKind};
use mainstay_types::{Index, MemberId, Term};
use pb::InternalRaftRequest as Raft;
use pb::request_op::Request as Op;
use sha2::{Digest, Sha256};

const REQUESTS: usize = 3000;
const MEMBER: MemberId = MemberId(111_195);
const USERS: [&str; 5] = ["root", "ann", "bob", "cid", ""];
const ROLES: [&str; 5] = ["root", "r", "s", "t", ""];

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

struct Random {
    dice: Dice,
    /// What the requests would name as the auth revision, roughly.
    auth_revision: u64,
    revision: i64,
}

impl Random {
    fn pick(&mut self, names: &[&str]) -> String {
        names[self.dice.below(names.len() as u64) as usize].to_owned()
    }

    fn key(&mut self) -> Bytes {
        let len = 1 + self.dice.below(2);
        (0..len).map(|_| b'a' + self.dice.below(5) as u8).collect()
    }

    /// Most ranges hold keys, some do not.
    fn range(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        let end = match self.dice.below(8) {
            0 => Bytes::from_static(&[0]),
            1..5 => self.key(),
            _ => Bytes::new(),
        };
        if !end.is_empty() && end != [0][..] && end <= key && !self.dice.chance(6) {
            return if end == key { (key, Bytes::new()) } else { (end, key) };
        }
        (key, end)
    }

    fn manage(&mut self) -> Raft {
        let (name, role) = (self.pick(&USERS), self.pick(&ROLES));
        let (key, range_end) = self.range();
        let mut raft = Raft::default();
        match self.dice.below(40) {
            0..4 => {
                let options = match self.dice.below(4) {
                    0 => None,
                    1 => Some(UserAddOptions { no_password: true }),
                    _ => Some(UserAddOptions { no_password: false }),
                };
                let hashed_password = self.pick(&["aGFzaA==", "", "?"]);
                let password = String::new();
                raft.auth_user_add =
                    Some(pb::AuthUserAddRequest { name, password, options, hashed_password });
            }
            4 => raft.auth_user_delete = Some(pb::AuthUserDeleteRequest { name }),
            5 => {
                let hashed_password = self.pick(&["bmV3", "", "?"]);
                let password = String::new();
                raft.auth_user_change_password =
                    Some(pb::AuthUserChangePasswordRequest { name, password, hashed_password });
            }
            6..11 => {
                raft.auth_user_grant_role = Some(pb::AuthUserGrantRoleRequest { user: name, role });
            }
            11 => {
                raft.auth_user_revoke_role = Some(pb::AuthUserRevokeRoleRequest { name, role });
            }
            12 => raft.auth_user_get = Some(pb::AuthUserGetRequest { name }),
            13 => raft.auth_user_list = Some(pb::AuthUserListRequest {}),
            14 => raft.auth_role_list = Some(pb::AuthRoleListRequest {}),
            15 => raft.auth_role_get = Some(pb::AuthRoleGetRequest { role }),
            16..19 => raft.auth_role_add = Some(pb::AuthRoleAddRequest { name: role }),
            19 => raft.auth_role_delete = Some(pb::AuthRoleDeleteRequest { role }),
            20 => raft.auth_enable = Some(pb::AuthEnableRequest {}),
            21 if self.dice.chance(4) => raft.auth_disable = Some(pb::AuthDisableRequest {}),
            22 => raft.auth_status = Some(pb::AuthStatusRequest {}),
            23 | 24 => {
                let (password, simple_token) = (String::new(), "abcdefghijklmnop".to_owned());
                let request = pb::InternalAuthenticateRequest { name, password, simple_token };
                raft.authenticate = Some(request);
            }
            25..28 => {
                raft.auth_role_revoke_permission =
                    Some(pb::AuthRoleRevokePermissionRequest { role, key, range_end });
            }
            _ => {
                let perm_type = self.dice.below(3) as i32;
                let perm = Some(Permission { perm_type, key, range_end });
                let perm = perm.filter(|_| !self.dice.chance(20));
                raft.auth_role_grant_permission =
                    Some(pb::AuthRoleGrantPermissionRequest { name: role, perm });
            }
        }
        raft
    }

    fn put(&mut self) -> pb::PutRequest {
        let ignore_value = self.dice.chance(12);
        let ignore_lease = self.dice.chance(12);
        let lease = if ignore_lease || !self.dice.chance(3) { 0 } else { self.dice.below(6) };
        let value = if ignore_value { "" } else { "v" };
        pb::PutRequest {
            key: self.key(),
            value: value.into(),
            lease: lease as i64,
            prev_kv: self.dice.chance(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn op(&mut self, depth: u64) -> Op {
        let (key, range_end) = self.range();
        match self.dice.below(if depth == 0 { 5 } else { 6 }) {
            0 | 1 => Op::RequestPut(self.put()),
            2 => Op::RequestDeleteRange(pb::DeleteRangeRequest {
                key,
                range_end,
                prev_kv: self.dice.chance(2),
            }),
            3 | 4 => Op::RequestRange(pb::RangeRequest { key, range_end, ..Default::default() }),
            _ => Op::RequestTxn(self.txn(depth - 1)),
        }
    }

    fn txn(&mut self, depth: u64) -> pb::TxnRequest {
        let mut txn = pb::TxnRequest::default();
        for _ in 0..self.dice.below(3) {
            let (key, range_end) = self.range();
            txn.compare.push(pb::Compare { key, range_end, ..Default::default() });
        }
        for list in [&mut txn.success, &mut txn.failure] {
            for _ in 0..self.dice.below(3) {
                list.push(pb::RequestOp { request: Some(self.op(depth)) });
            }
        }
        txn
    }

    fn touch_keys(&mut self) -> Raft {
        let mut raft = Raft::default();
        let (key, range_end) = self.range();
        let id = 1 + self.dice.below(4) as i64;
        match self.dice.below(24) {
            0..6 => raft.put = Some(self.put()),
            6..8 => {
                let prev_kv = self.dice.chance(2);
                raft.delete_range = Some(pb::DeleteRangeRequest { key, range_end, prev_kv });
            }
            8..10 => raft.range = Some(pb::RangeRequest { key, range_end, ..Default::default() }),
            10..13 => raft.lease_grant = Some(pb::LeaseGrantRequest { id, ttl: 1 + id * 40 }),
            13 | 14 => raft.lease_revoke = Some(pb::LeaseRevokeRequest { id }),
            15 if self.dice.chance(4) => {
                let revision = self.revision - self.dice.below(5) as i64;
                raft.compaction = Some(pb::CompactionRequest { revision, physical: true });
            }
            _ => {
                let txn = self.txn(2);
                if check::txn(&txn, 128).is_ok() {
                    raft.txn = Some(txn);
                } else {
                    raft.put = Some(self.put());
                }
            }
        }
        raft
    }

    fn rarer(&mut self) -> Raft {
        let mut raft = Raft::default();
        match self.dice.below(8) {
            0..3 => {
                let (id, remaining_ttl) = (1 + self.dice.below(4) as i64, 3);
                let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl }];
                raft.lease_checkpoint = Some(pb::LeaseCheckpointRequest { checkpoints });
            }
            3 => {
                let ver = self.pick(&["3.5.0", "3.6.0", "3.7.0"]);
                raft.cluster_version_set = Some(membershippb::ClusterVersionSetRequest { ver });
            }
            4 => {
                let enabled = self.dice.chance(2);
                let ver = "3.6.0".to_owned();
                raft.downgrade_info_set =
                    Some(membershippb::DowngradeInfoSetRequest { enabled, ver });
            }
            5 => {
                let name = self.pick(&["n1", "n<2>"]);
                let attributes = membershippb::Attributes { name, client_urls: vec!["c".into()] };
                raft.cluster_member_attr_set = Some(membershippb::ClusterMemberAttrSetRequest {
                    member_id: MEMBER.0,
                    member_attributes: Some(attributes),
                });
            }
            _ => {
                // Not asked for: Go lists them in any order. Taken back more often than
                // raised, or little else would happen.
                let action = if self.dice.chance(6) { 1 } else { 2 };
                let alarm = if self.dice.chance(3) { 2 } else { 1 };
                let member_id = if alarm == 2 { 7 } else { 7 + self.dice.below(2) };
                raft.alarm = Some(pb::AlarmRequest { action, member_id, alarm });
            }
        }
        raft
    }

    fn next(&mut self) -> Raft {
        let request = match self.dice.below(20) {
            0..9 => self.manage(),
            9..19 => self.touch_keys(),
            _ => self.rarer(),
        };
        let manages = request.put.is_none() && request.txn.is_none();
        let username = if manages && !self.dice.chance(6) {
            "root".to_owned()
        } else {
            self.pick(&["root", "ann", "ann", "bob", "cid", "cid", "gone", ""])
        };
        let now = self.auth_revision;
        let auth_revision = match self.dice.below(16) {
            _ if username.is_empty() => 0,
            0 => now.saturating_sub(1),
            1 => 0,
            2 => now + 1,
            _ => now,
        };
        Raft { header: Some(pb::RequestHeader { id: 5, username, auth_revision }), ..request }
    }
}

/// etcd's text inside the server, before it is put into words for clients.
fn raw(error: &ApplyError) -> String {
    let text = match error {
        ApplyError::Auth(error) => match error {
            AuthError::RootUserNotExist => "auth: root user does not exist",
            AuthError::RootRoleNotExist => "auth: root user does not have root role",
            AuthError::UserExists => "auth: user already exists",
            AuthError::UserEmpty => "auth: user name is empty",
            AuthError::UserNotFound => "auth: user not found",
            AuthError::RoleExists => "auth: role already exists",
            AuthError::RoleNotFound => "auth: role not found",
            AuthError::RoleEmpty => "auth: role name is empty",
            AuthError::Failed => "auth: authentication failed, invalid user ID or password",
            AuthError::PermissionNotGiven => "auth: permission not given",
            AuthError::PermissionDenied => "auth: permission denied",
            AuthError::RoleNotGranted => "auth: role is not granted to the user",
            AuthError::PermissionNotGranted => "auth: permission is not granted to the role",
            AuthError::NotEnabled => "auth: authentication is not enabled",
            AuthError::InvalidManagement => "auth: invalid auth management",
            AuthError::OldRevision => "auth: revision in header is old",
            same @ AuthError::Password => return same.to_string(),
        },
        ApplyError::Compacted => "mvcc: required revision has been compacted",
        ApplyError::FutureRevision => "mvcc: required revision is a future revision",
        ApplyError::LeaseNotFound => "lease not found",
        ApplyError::LeaseExists => "lease already exists",
        ApplyError::NoSpace => "etcdserver: no space",
        other => return other.to_string(),
    };
    text.to_owned()
}

/// The reply without its header, encoded.
fn body(reply: Reply) -> Option<Vec<u8>> {
    macro_rules! encoded {
        ($($kind:ident)*) => {
            match reply {
                $(Reply::$kind(mut reply) => {
                    reply.header = None;
                    Some(reply.encode_to_vec())
                })*
                Reply::Members(_) | Reply::Done => None,
            }
        };
    }
    encoded! {
        Range Put DeleteRange Txn Compaction LeaseGrant LeaseRevoke LeaseCheckpoint Alarm
        AuthEnable AuthDisable AuthStatus Authenticate AuthUserAdd AuthUserDelete AuthUserGet
        AuthUserChangePassword AuthUserGrantRole AuthUserRevokeRole AuthUserList AuthRoleList
        AuthRoleAdd AuthRoleDelete AuthRoleGet AuthRoleGrantPermission AuthRoleRevokePermission
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn outcome(result: Result<Reply, ApplyError>) -> String {
    match result.map(body) {
        Err(error) => raw(&error),
        Ok(None) => "done".to_owned(),
        Ok(Some(bytes)) => hex(&Sha256::digest(bytes)[..6]),
    }
}

fn rows(machine: &Machine, bucket: Bucket) -> String {
    let mut sum = Sha256::new();
    let rows = machine.backend().rows_of(bucket).unwrap();
    for part in rows.iter().flat_map(|(key, value)| [key, value]) {
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    }
    let name = String::from_utf8_lossy(bucket.name());
    format!("{name} {} {}", rows.len(), hex(&sum.finalize()[..8]))
}

fn open() -> Machine {
    let options = Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(-1),
        persist_checkpoints: false,
        allow_auth: true,
    };
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/snap")).unwrap();
    Machine::open(Arc::new(disk), Path::new("/snap/db"), OpenOptions::default(), options).unwrap()
}

#[test]
fn every_request_does_what_it_does_in_3_7_1() {
    let seed = std::env::var("MAINSTAY_SEED").map_or(371, |seed| seed.parse().unwrap());
    let mut machine = open();
    let mut random = Random { dice: Dice(seed), auth_revision: 1, revision: 1 };
    let add = Change::Add(Member { id: MEMBER, ..Member::default() }).encode(1).encode_to_vec();
    let mut entries = vec![(EntryKind::ConfChange, add)];
    let (mut requests, mut lines) = (Vec::new(), Vec::new());
    for index in 1.. {
        if index > REQUESTS + 1 {
            break;
        }
        let (kind, data) = entries.pop().unwrap_or_else(|| {
            random.auth_revision = machine.auth().revision();
            random.revision = machine.view().revision();
            let data = random.next().encode_to_vec();
            requests.extend((data.len() as u32).to_be_bytes());
            requests.extend(&data);
            (EntryKind::Normal, data)
        });
        let entry = Entry { term: Term(1), index: Index(index as u64), kind, data: data.into() };
        let applied = machine.apply(&entry, |_| true).unwrap();
        machine.backend().append(applied.batch.unwrap());
        while let Some((batch, _)) = machine.compaction_slice(100) {
            machine.backend().append(batch);
        }
        if kind == EntryKind::Normal {
            lines.push(format!("{} {}", machine.view().revision(), outcome(applied.outcome)));
        }
    }
    machine.backend().commit().unwrap();
    lines.extend(
        [
            Bucket::Alarm,
            Bucket::Auth,
            Bucket::AuthRoles,
            Bucket::AuthUsers,
            Bucket::Cluster,
            Bucket::Key,
            Bucket::Lease,
            Bucket::Members,
        ]
        .map(|bucket| rows(&machine, bucket)),
    );
    if let Ok(path) = std::env::var("MAINSTAY_ORACLE_REQUESTS") {
        std::fs::write(path, &requests).unwrap();
    }
    let theirs = match std::env::var("MAINSTAY_ORACLE_ANSWERS") {
        Ok(path) => std::fs::read_to_string(path).unwrap(),
        Err(_) => include_str!("golden/371.txt").to_owned(),
    };
    let theirs: Vec<&str> = theirs.lines().collect();
    for (at, (their, our)) in theirs.iter().zip(&lines).enumerate() {
        assert_eq!(their, our, "line {}", at + 1);
    }
    assert_eq!(theirs.len(), lines.len());
}
