//! Authentication in the machine: rows, replies, effects, and who may do what.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_auth::AuthError;
use mainstay_backend::{Bucket, OpenOptions};
use mainstay_env::Disk;
use mainstay_env_sim::SimDisk;
use mainstay_proto::authpb::{Permission, UserAddOptions, permission::Type};
use mainstay_proto::{Message as _, etcdserverpb as pb};
use mainstay_raft::{Entry, EntryKind};
use mainstay_types::Term;
use pb::InternalRaftRequest as Raft;
use pb::request_op::Request as Op;

use crate::quota::Quota;
use crate::{Applied, ApplyError, LoadError, Machine, Options, Reply, TokenChange};

fn options() -> Options {
    Options {
        lease_ttl_min: 2,
        learners_max: 1,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: true,
    }
}

struct Rig {
    disk: SimDisk,
    machine: Machine,
}

impl Rig {
    fn with(options: Options) -> Rig {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/snap")).unwrap();
        let machine = Rig::open(&disk, options).unwrap();
        Rig { disk, machine }
    }

    fn open(disk: &SimDisk, options: Options) -> Result<Machine, LoadError> {
        let disk = Arc::new(disk.clone());
        Machine::open(disk, Path::new("/snap/db"), OpenOptions::default(), options)
    }

    /// Users root, alice (roles r and none), cert (no password); r may read and write
    /// a..c and read x.
    fn enabled() -> Rig {
        let mut rig = Rig::with(options());
        for request in setup() {
            rig.run("", request).outcome.unwrap();
        }
        rig
    }

    /// In a user's name, as recognized right now; `""` is nobody.
    fn run(&mut self, user: &str, request: Raft) -> Applied {
        let revision = if user.is_empty() { 0 } else { self.machine.auth().revision() };
        self.run_at(user, revision, request)
    }

    fn run_at(&mut self, user: &str, auth_revision: u64, request: Raft) -> Applied {
        let header = pb::RequestHeader { id: 9, username: user.to_owned(), auth_revision };
        self.apply(Raft { header: Some(header), ..request }, true)
    }

    fn apply(&mut self, request: Raft, local: bool) -> Applied {
        let data = request.encode_to_vec().into();
        let index = self.machine.applied().0.next();
        let entry = Entry { term: Term(2), index, kind: EntryKind::Normal, data };
        let applied = self.machine.apply(&entry, |_| local).unwrap();
        self.machine.backend().append(applied.batch.clone().unwrap());
        applied
    }

    fn restart(&mut self, options: Options) -> Result<(), LoadError> {
        self.machine.backend().commit().unwrap();
        let fresh = SimDisk::new(2);
        fresh.create_dir_all(Path::new("/snap")).unwrap();
        fresh.install("/snap/db", &self.disk.contents("/snap/db").unwrap());
        self.machine = Rig::open(&fresh, options)?;
        self.disk = fresh;
        Ok(())
    }

    fn row(&self, bucket: Bucket, key: &str) -> Option<Bytes> {
        self.machine.backend().commit().unwrap();
        let rows = self.machine.backend().rows_of(bucket).unwrap();
        rows.into_iter().find(|row| *row.0 == *key.as_bytes()).map(|row| row.1)
    }
}

fn user_add(name: &str, no_password: bool) -> Raft {
    Raft {
        auth_user_add: Some(pb::AuthUserAddRequest {
            name: name.to_owned(),
            hashed_password: "aGFzaA==".to_owned(),
            options: Some(UserAddOptions { no_password }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn user_grant(user: &str, role: &str) -> Raft {
    let (user, role) = (user.to_owned(), role.to_owned());
    let request = Some(pb::AuthUserGrantRoleRequest { user, role });
    Raft { auth_user_grant_role: request, ..Default::default() }
}

fn role_add(name: &str) -> Raft {
    let request = Some(pb::AuthRoleAddRequest { name: name.to_owned() });
    Raft { auth_role_add: request, ..Default::default() }
}

fn role_grant(role: &str, kind: Type, key: &'static str, end: &'static str) -> Raft {
    let perm = Permission { perm_type: kind as i32, key: key.into(), range_end: end.into() };
    let request = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm: Some(perm) };
    Raft { auth_role_grant_permission: Some(request), ..Default::default() }
}

fn enable() -> Raft {
    Raft { auth_enable: Some(pb::AuthEnableRequest {}), ..Default::default() }
}

fn disable() -> Raft {
    Raft { auth_disable: Some(pb::AuthDisableRequest {}), ..Default::default() }
}

fn setup() -> Vec<Raft> {
    vec![
        user_add("root", false),
        user_grant("root", "root"),
        user_add("alice", false),
        user_add("cert", true),
        role_add("r"),
        role_grant("r", Type::Readwrite, "a", "c"),
        role_grant("r", Type::Read, "x", ""),
        user_grant("alice", "r"),
        enable(),
    ]
}

fn put_request(key: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: "v".into(), ..Default::default() }
}

fn put(request: pb::PutRequest) -> Raft {
    Raft { put: Some(request), ..Default::default() }
}

fn delete_request(key: &'static str, end: &'static str, prev_kv: bool) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv }
}

fn range_request(key: &'static str, end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

fn txn(compare: &[&'static str], success: Vec<Op>, failure: Vec<Op>) -> pb::TxnRequest {
    let compare =
        compare.iter().map(|key| pb::Compare { key: (*key).into(), ..Default::default() });
    let ops =
        |ops: Vec<Op>| ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    pb::TxnRequest { compare: compare.collect(), success: ops(success), failure: ops(failure) }
}

fn lease_grant(id: i64) -> Raft {
    let lease_grant = Some(pb::LeaseGrantRequest { id, ttl: 100 });
    Raft { lease_grant, ..Default::default() }
}

fn lease_revoke(id: i64) -> Raft {
    Raft { lease_revoke: Some(pb::LeaseRevokeRequest { id }), ..Default::default() }
}

const DENIED: ApplyError = ApplyError::Auth(AuthError::PermissionDenied);

#[test]
fn keys_are_checked_where_they_are_applied() {
    let mut rig = Rig::enabled();
    let mut ask = |user: &str, request: Raft| rig.run(user, request).outcome.map(drop);
    assert_eq!(ask("alice", put(put_request("b"))), Ok(()));
    assert_eq!(ask("alice", put(put_request("c"))), Err(DENIED));
    assert_eq!(ask("root", put(put_request("c"))), Ok(()));
    assert_eq!(ask("cert", put(put_request("b"))), Err(DENIED));
    assert_eq!(ask("nobody", put(put_request("b"))), Err(DENIED));
    assert_eq!(ask("", put(put_request("b"))), Err(AuthError::UserEmpty.into()));

    let range = |key, end| Raft { range: Some(range_request(key, end)), ..Default::default() };
    assert_eq!(ask("alice", range("a", "c")), Ok(()));
    assert_eq!(ask("alice", range("x", "")), Ok(()));
    assert_eq!(ask("alice", range("a", "d")), Err(DENIED));
    let delete = |key, end, prev_kv| Raft {
        delete_range: Some(delete_request(key, end, prev_kv)),
        ..Default::default()
    };
    assert_eq!(ask("alice", delete("a", "b", true)), Ok(()));
    assert_eq!(ask("alice", delete("x", "", false)), Err(DENIED));
    assert_eq!(ask("alice", delete("a", "\0", false)), Err(DENIED));
    let compaction = Some(pb::CompactionRequest { revision: 1, physical: false });
    let compaction = Raft { compaction, ..Default::default() };
    assert_eq!(ask("alice", compaction), Ok(()), "its proposer has asked for root");

    let old = rig.machine.auth().revision() - 1;
    let stale = rig.run_at("alice", old, put(put_request("b")));
    assert_eq!(stale.outcome, Err(AuthError::OldRevision.into()));
    assert!(stale.batch.unwrap().is_empty() && stale.events.is_empty());
}

#[test]
fn the_previous_pair_needs_reading() {
    let mut rig = Rig::enabled();
    rig.run("root", role_add("w")).outcome.unwrap();
    rig.run("root", role_grant("w", Type::Write, "a", "c")).outcome.unwrap();
    rig.run("root", user_grant("cert", "w")).outcome.unwrap();
    let mut ask = |request: Raft| rig.run("cert", request).outcome.map(drop);
    let prev = |prev_kv| pb::PutRequest { prev_kv, ..put_request("a") };
    assert_eq!(ask(put(prev(false))), Ok(()));
    assert_eq!(ask(put(prev(true))), Err(DENIED));
    let delete = |prev_kv| {
        let delete_range = Some(delete_request("a", "c", prev_kv));
        Raft { delete_range, ..Default::default() }
    };
    assert_eq!(ask(delete(true)), Err(DENIED));
    assert_eq!(ask(delete(false)), Ok(()));
    for op in [Op::RequestPut(prev(true)), Op::RequestDeleteRange(delete_request("a", "", true))] {
        let txn = Some(txn(&[], vec![op], vec![]));
        assert_eq!(ask(Raft { txn, ..Default::default() }), Err(DENIED));
    }
}

#[test]
fn everything_in_a_transaction_is_checked_at_any_depth() {
    let mut rig = Rig::enabled();
    let good = || Op::RequestPut(put_request("a"));
    let bad = [
        Op::RequestPut(put_request("c")),
        Op::RequestRange(range_request("c", "")),
        Op::RequestDeleteRange(delete_request("a", "d", false)),
    ];
    let mut ask = |txn: pb::TxnRequest| {
        let revision = rig.machine.view().revision();
        let request = Raft { txn: Some(txn), ..Default::default() };
        let outcome = rig.run("alice", request).outcome.map(drop);
        (outcome, rig.machine.view().revision() - revision)
    };
    assert_eq!(ask(txn(&["a", "x"], vec![good()], vec![])), (Ok(()), 1));
    assert_eq!(ask(txn(&[], vec![good()], vec![])), (Ok(()), 1));
    assert_eq!(ask(txn(&["c"], vec![good()], vec![good()])), (Err(DENIED), 0));
    for op in bad {
        let denied = (Err(DENIED), 0);
        assert_eq!(ask(txn(&[], vec![good(), op.clone()], vec![])), denied);
        assert_eq!(ask(txn(&[], vec![good()], vec![op.clone()])), denied, "not taken");
        let mut nested = txn(&[], vec![op], vec![]);
        for _ in 0..4 {
            nested = txn(&[], vec![], vec![good(), Op::RequestTxn(nested)]);
            assert_eq!(ask(nested.clone()), denied);
        }
    }
    let nested = Op::RequestTxn(txn(&["c"], vec![], vec![]));
    assert_eq!(ask(txn(&[], vec![nested], vec![])), (Err(DENIED), 0));
    let nested = Op::RequestTxn(txn(&["a"], vec![], vec![good()]));
    assert_eq!(ask(txn(&[], vec![good(), nested.clone()], vec![])).0, Ok(()));
}

#[test]
fn a_lease_is_as_guarded_as_its_keys() {
    let mut rig = Rig::enabled();
    let on = |key, lease| put(pb::PutRequest { lease, ..put_request(key) });
    assert_eq!(rig.run("", lease_grant(1)).outcome.map(drop), Ok(()), "asked at the door only");
    rig.run("", lease_grant(2)).outcome.unwrap();
    rig.run("alice", on("a", 1)).outcome.unwrap();
    rig.run("root", on("z", 2)).outcome.unwrap();
    assert_eq!(rig.run("alice", on("b", 1)).outcome.map(drop), Ok(()));
    assert_eq!(rig.run("alice", on("b", 2)).outcome, Err(DENIED), "z hangs on it");
    let op = Op::RequestPut(pb::PutRequest { lease: 2, ..put_request("b") });
    let txn = Raft { txn: Some(txn(&[], vec![op], vec![])), ..Default::default() };
    assert_eq!(rig.run("alice", txn).outcome, Err(DENIED));
    assert_eq!(rig.run("alice", lease_revoke(2)).outcome, Err(DENIED));
    assert_eq!(rig.run("cert", lease_revoke(1)).outcome, Err(DENIED));
    let nobody = rig.run("", lease_revoke(1)).outcome;
    assert_eq!(nobody, Err(AuthError::UserEmpty.into()));
    assert_eq!(rig.run("alice", lease_revoke(3)).outcome, Err(ApplyError::LeaseNotFound));
    let old = rig.machine.auth().revision() - 1;
    let stale = rig.run_at("alice", old, lease_revoke(1)).outcome;
    assert_eq!(stale, Err(AuthError::OldRevision.into()));
    assert_eq!(rig.run_at("root", old, lease_revoke(2)).outcome.map(drop), Ok(()), "as in etcd");
    assert_eq!(rig.run("alice", lease_revoke(1)).outcome.map(drop), Ok(()));
    rig.run("", lease_grant(4)).outcome.unwrap();
    assert_eq!(rig.run("", lease_revoke(4)).outcome.map(drop), Ok(()), "nothing hangs on it");
}

#[test]
fn alarms_stand_before_permissions_and_the_quota_behind() {
    let mut rig = Rig::with(Options { quota: Quota::from_flag(1), ..options() });
    for request in setup() {
        rig.run("", request).outcome.unwrap();
    }
    let denied = rig.run("alice", put(put_request("z")));
    assert_eq!(denied.outcome, Err(DENIED));
    assert!(!denied.effects.raise_nospace);
    let allowed = rig.run("alice", put(put_request("a")));
    assert_eq!(allowed.outcome, Err(ApplyError::NoSpace));
    assert!(allowed.effects.raise_nospace);
    for (kind, error) in [
        (pb::AlarmType::Nospace, ApplyError::NoSpace),
        (pb::AlarmType::Corrupt, ApplyError::Corrupt),
    ] {
        let alarm = Some(pb::AlarmRequest { action: 1, member_id: 7, alarm: kind as i32 });
        rig.run("", Raft { alarm, ..Default::default() }).outcome.unwrap();
        assert_eq!(rig.run("alice", put(put_request("z"))).outcome, Err(error));
    }
}

#[test]
fn only_root_manages_and_everybody_may_look_at_themselves() {
    let mut rig = Rig::enabled();
    let get = |name: &str| {
        let auth_user_get = Some(pb::AuthUserGetRequest { name: name.to_owned() });
        Raft { auth_user_get, ..Default::default() }
    };
    let role = |role: &str| {
        let auth_role_get = Some(pb::AuthRoleGetRequest { role: role.to_owned() });
        Raft { auth_role_get, ..Default::default() }
    };
    let user_list = Raft { auth_user_list: Some(Default::default()), ..Default::default() };
    let role_list = Raft { auth_role_list: Some(Default::default()), ..Default::default() };
    let status = Raft { auth_status: Some(Default::default()), ..Default::default() };
    let mut ask = |user: &str, request: &Raft| rig.run(user, request.clone()).outcome;
    let changes = setup().into_iter().chain([disable()]);
    for request in changes.chain([user_list.clone(), role_list.clone()]) {
        assert_eq!(ask("alice", &request), Err(DENIED));
        assert_eq!(ask("nobody", &request), Err(AuthError::UserNotFound.into()));
        assert_eq!(ask("", &request), Err(AuthError::UserEmpty.into()));
    }
    assert_eq!(ask("alice", &get("root")), Err(DENIED));
    assert_eq!(ask("cert", &role("r")), Err(DENIED));
    assert!(matches!(ask("", &get("")), Err(ApplyError::Auth(AuthError::UserNotFound))));
    let Ok(Reply::AuthUserGet(reply)) = ask("alice", &get("alice")) else { panic!("its own") };
    assert_eq!(reply.roles, ["r"]);
    let Ok(Reply::AuthRoleGet(reply)) = ask("alice", &role("r")) else { panic!("its own") };
    assert_eq!(reply.perm.len(), 2);
    let Ok(Reply::AuthUserList(reply)) = ask("root", &user_list) else { panic!("root") };
    assert_eq!(reply.users, ["alice", "cert", "root"]);
    let Ok(Reply::AuthRoleList(reply)) = ask("root", &role_list) else { panic!("root") };
    assert_eq!(reply.roles, ["r"]);
    let Ok(Reply::AuthStatus(reply)) = ask("", &status) else { panic!("everybody") };
    assert_eq!((reply.enabled, reply.auth_revision), (true, 9));
    assert_eq!(ask("root", &get("x")), Err(AuthError::UserNotFound.into()));
}

#[test]
fn every_change_has_its_reply_and_its_rows() {
    let mut rig = Rig::enabled();
    assert_eq!(rig.row(Bucket::Auth, "authEnabled").unwrap(), &[1][..]);
    assert_eq!(rig.row(Bucket::Auth, "authRevision").unwrap(), &9u64.to_be_bytes()[..]);
    let alice = b"\x0a\x05alice\x12\x04hash\x1a\x01r\x22\x00";
    assert_eq!(rig.row(Bucket::AuthUsers, "alice").unwrap(), &alice[..]);
    let cert = b"\x0a\x04cert\x22\x02\x08\x01";
    assert_eq!(rig.row(Bucket::AuthUsers, "cert").unwrap(), &cert[..]);
    let r = b"\x0a\x01r\x12\x08\x08\x02\x12\x01a\x1a\x01c\x12\x03\x12\x01x";
    assert_eq!(rig.row(Bucket::AuthRoles, "r").unwrap(), &r[..]);

    let name = || "alice".to_owned();
    let password = pb::AuthUserChangePasswordRequest {
        name: name(),
        hashed_password: "bmV3".into(),
        ..Default::default()
    };
    let applied =
        rig.run("root", Raft { auth_user_change_password: Some(password), ..Default::default() });
    assert!(matches!(applied.outcome, Ok(Reply::AuthUserChangePassword(_))));
    assert!(applied.effects.auth_changed && !applied.effects.auth_enabled);
    assert_eq!(applied.effects.tokens.as_deref(), Some(&TokenChange::Void(name())));
    let revoke = pb::AuthRoleRevokePermissionRequest {
        role: "r".into(),
        key: "x".into(),
        ..Default::default()
    };
    let revoke = Raft { auth_role_revoke_permission: Some(revoke), ..Default::default() };
    assert!(matches!(rig.run("root", revoke).outcome, Ok(Reply::AuthRoleRevokePermission(_))));
    let revoke = pb::AuthUserRevokeRoleRequest { name: name(), role: "r".into() };
    let revoke = Raft { auth_user_revoke_role: Some(revoke), ..Default::default() };
    let applied = rig.run("root", revoke);
    assert!(matches!(applied.outcome, Ok(Reply::AuthUserRevokeRole(_))));
    assert_eq!(applied.effects.tokens, None);
    let delete = Some(pb::AuthRoleDeleteRequest { role: "r".into() });
    let delete = Raft { auth_role_delete: delete, ..Default::default() };
    assert!(matches!(rig.run("root", delete).outcome, Ok(Reply::AuthRoleDelete(_))));
    let delete = Some(pb::AuthUserDeleteRequest { name: name() });
    let delete = Raft { auth_user_delete: delete, ..Default::default() };
    let applied = rig.run("root", delete.clone());
    assert!(matches!(applied.outcome, Ok(Reply::AuthUserDelete(_))));
    assert_eq!(applied.effects.tokens.as_deref(), Some(&TokenChange::Void(name())));
    let again = rig.run("root", delete);
    assert_eq!(again.outcome, Err(AuthError::UserNotFound.into()));
    assert!(!again.effects.auth_changed && again.effects.tokens.is_none());
    assert_eq!(rig.row(Bucket::AuthUsers, "alice"), None);
    assert_eq!(rig.row(Bucket::AuthRoles, "r"), None);

    let same = rig.run("root", enable());
    assert!(matches!(same.outcome, Ok(Reply::AuthEnable(_))));
    assert!(!same.effects.auth_changed && !same.effects.auth_enabled);
    let off = rig.run("root", disable());
    assert!(matches!(off.outcome, Ok(Reply::AuthDisable(_))));
    assert_eq!(off.effects.tokens.as_deref(), Some(&TokenChange::AllVoid));
    assert_eq!(rig.row(Bucket::Auth, "authEnabled").unwrap(), &[0][..]);
    assert!(rig.run("", put(put_request("z"))).outcome.is_ok());
}

#[test]
fn a_token_is_made_on_every_member() {
    let authenticate = |name: &str| {
        let request = pb::InternalAuthenticateRequest {
            name: name.to_owned(),
            simple_token: "abcdefghijklmnop".into(),
            ..Default::default()
        };
        Raft { id: 7, authenticate: Some(request), ..Default::default() }
    };
    let mut rig = Rig::with(options());
    let off = rig.apply(authenticate("alice"), true);
    assert_eq!(off.outcome, Err(AuthError::NotEnabled.into()));
    let mut rig = Rig::enabled();
    let before = rig.machine.applied().0;
    let here = rig.apply(authenticate("alice"), true);
    let Ok(Reply::Authenticate(reply)) = here.outcome else { panic!("a token") };
    assert_eq!(reply.token, format!("abcdefghijklmnop.{before}"));
    let Some(TokenChange::Issued { user, token }) = here.effects.tokens.as_deref() else {
        panic!("a token")
    };
    assert_eq!((user.as_str(), &token.0), ("alice", &reply.token));
    assert!(!format!("{:?}", here.effects).contains("abcdef"), "a token is a secret");
    let there = rig.apply(authenticate("alice"), false);
    assert!(matches!(there.effects.tokens.as_deref(), Some(TokenChange::Issued { .. })));
    assert!(there.batch.unwrap().is_empty(), "tokens are not stored");
    for user in ["cert", "nobody"] {
        let refused = rig.apply(authenticate(user), true);
        assert_eq!(refused.outcome, Err(AuthError::Failed.into()));
        assert_eq!(refused.effects.tokens, None);
    }
}

#[test]
fn an_enabled_member_that_cannot_check_says_so_and_does_not_start_again() {
    let blind = Options { allow_auth: false, ..options() };
    let mut rig = Rig::with(blind);
    let mut last = None;
    for request in setup() {
        last = Some(rig.apply(Raft { id: 1, ..request }, false));
    }
    let effects = last.unwrap().effects;
    assert!(effects.auth_enabled && effects.auth_changed);
    assert_eq!(rig.row(Bucket::Auth, "authEnabled").unwrap(), &[1][..]);
    assert!(matches!(rig.restart(blind), Err(LoadError::AuthEnabled)));
    rig.restart(options()).unwrap();
    assert!(rig.machine.auth().is_enabled());
    assert_eq!(rig.machine.auth().revision(), 9);
    assert_eq!(rig.run("alice", put(put_request("z"))).outcome, Err(DENIED));
    assert!(rig.run("alice", put(put_request("a"))).outcome.is_ok());
}

#[test]
fn the_first_entry_stores_what_etcd_stores_at_its_start() {
    let mut rig = Rig::with(options());
    assert_eq!(rig.row(Bucket::Auth, "authRevision"), None);
    rig.run("", put(put_request("a"))).outcome.unwrap();
    assert_eq!(rig.row(Bucket::Auth, "authRevision").unwrap(), &1u64.to_be_bytes()[..]);
    rig.restart(options()).unwrap();
    let next = rig.run("", Raft { auth_status: Some(Default::default()), ..Default::default() });
    assert!(next.batch.unwrap().is_empty());
}

#[test]
fn the_same_entries_give_the_same_rows_whoever_proposed() {
    let (mut here, mut there) = (Rig::with(options()), Rig::with(options()));
    let legacy = pb::AuthUserAddRequest {
        name: "old".into(),
        password: "plain".into(),
        ..Default::default()
    };
    let legacy = Raft { auth_user_add: Some(legacy), ..Default::default() };
    let user_list = Raft { auth_user_list: Some(Default::default()), ..Default::default() };
    for request in [legacy].into_iter().chain(setup()).chain([user_list, disable(), disable()]) {
        let header = pb::RequestHeader { id: 5, username: "root".into(), auth_revision: 99 };
        let request = Raft { header: Some(header), ..request };
        let ours = here.apply(request.clone(), true);
        let theirs = there.apply(request, false);
        assert_eq!(ours.batch, theirs.batch);
        assert_eq!(ours.effects, theirs.effects);
    }
    let row = here.row(Bucket::AuthUsers, "old").unwrap();
    assert!(String::from_utf8_lossy(&row).contains("$2a$10$"));
}
