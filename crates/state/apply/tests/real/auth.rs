//! Users, roles, permissions, tokens and guarded keys: what 3.5.16 answers, and the rows
//! it makes of it, beside ours.
//!
//! Left out is where 3.5.16 differs from 3.7.1, which we follow: it lets nested
//! transactions, leases and previous pairs inside transactions through unchecked, asks
//! for root at AuthStatus, and shows what was granted to role root.

use mainstay_apply::{Reply, TokenChange, check, classify};
use mainstay_proto::authpb::permission::Type;
use mainstay_proto::etcdserverpb as pb;
use mainstay_raft::EntryKind;
use pb::request_op::Request as Op;
use serde_json::{Value, json};

use crate::gateway::{self, Answer, bytes, post_as, strip};
use crate::generate::Dice;
use crate::{Etcd, Expected, agree, copied, is_3516, ours, program, replayed, rows, seed};

/// Requests before authentication is on, while it is, and after.
const PHASES: [usize; 3] = [150, 350, 40];
const USERS: [&str; 5] = ["root", "ann", "bob", "cid", ""];
const ROLES: [&str; 6] = ["root", "r", "r", "s", "t", ""];

/// Our reply in the gateway's form.
pub(crate) fn answer(reply: &Reply) -> Value {
    let plain = |header: &Option<pb::ResponseHeader>| Answer::header(header.as_ref());
    let names = |header, name, list: &[String]| {
        let mut answer = plain(header);
        answer.list(name, list.iter().map(|text| json!(text)).collect());
        answer
    };
    let answer = match reply {
        Reply::AuthEnable(r) => plain(&r.header),
        Reply::AuthDisable(r) => plain(&r.header),
        Reply::AuthUserAdd(r) => plain(&r.header),
        Reply::AuthUserDelete(r) => plain(&r.header),
        Reply::AuthUserChangePassword(r) => plain(&r.header),
        Reply::AuthUserGrantRole(r) => plain(&r.header),
        Reply::AuthUserRevokeRole(r) => plain(&r.header),
        Reply::AuthRoleAdd(r) => plain(&r.header),
        Reply::AuthRoleDelete(r) => plain(&r.header),
        Reply::AuthRoleGrantPermission(r) => plain(&r.header),
        Reply::AuthRoleRevokePermission(r) => plain(&r.header),
        Reply::AuthUserGet(r) => names(&r.header, "roles", &r.roles),
        Reply::AuthUserList(r) => names(&r.header, "users", &r.users),
        Reply::AuthRoleList(r) => names(&r.header, "roles", &r.roles),
        Reply::AuthRoleGet(r) => {
            let mut answer = plain(&r.header);
            answer.list("perm", r.perm.iter().map(permission).collect());
            answer
        }
        Reply::AuthStatus(r) => {
            let mut answer = plain(&r.header);
            answer.flag("enabled", r.enabled);
            answer.number("authRevision", r.auth_revision as i64);
            answer
        }
        Reply::Authenticate(r) => {
            let mut answer = plain(&r.header).done();
            answer["token"] = json!(r.token);
            return answer;
        }
        other => panic!("no request asked for {other:?}"),
    };
    answer.done()
}

fn permission(permission: &mainstay_proto::authpb::Permission) -> Value {
    let mut value = json!({ "key": bytes(&permission.key) });
    if permission.perm_type != 0 {
        let kind = Type::try_from(permission.perm_type).expect("the test grants known types");
        value["permType"] = json!(kind.as_str_name());
    }
    if !permission.range_end.is_empty() {
        value["range_end"] = bytes(&permission.range_end);
    }
    value
}

struct Run<'a> {
    etcd: &'a Etcd,
    dice: Dice,
    log: Vec<Expected>,
    /// Of root, ann, bob, cid; stale ones are refused at the door, and then forgotten.
    tokens: Vec<(usize, String)>,
    /// Whether it is on.
    enabled: bool,
}

impl Run<'_> {
    fn pick<'s>(&mut self, names: &[&'s str]) -> &'s str {
        names[self.dice.below(names.len() as u64) as usize]
    }

    /// Asks in the name of a holder of a token, and notes what the log must say.
    fn ask(&mut self, token: Option<&str>, path: &str, body: &Value) -> Value {
        let answer = strip(post_as(self.etcd.port, token, path, body));
        let at_the_door = ["invalid auth token", "invalid user ID", "no password user"];
        let message = answer["message"].as_str().unwrap_or_default();
        if message.contains("invalid auth token") {
            self.tokens.retain(|(_, held)| Some(held.as_str()) != token);
        }
        let refused = at_the_door.iter().any(|text| message.contains(text));
        let authenticate = path.ends_with("/authenticate");
        if !(refused || (authenticate && answer.get("token").is_none())) {
            let request = format!("{path} {body} as {token:?}");
            self.log.push(Expected { request, answer: answer.clone() });
        }
        answer
    }

    fn authenticate(&mut self, user: usize, password: &str) {
        let body = json!({ "name": USERS[user], "password": password });
        let answer = self.ask(None, "/v3/auth/authenticate", &body);
        if let Some(token) = answer["token"].as_str() {
            self.tokens.push((user, token.to_owned()));
        }
    }

    /// Mostly root's while it is on, else anybody's.
    fn token(&mut self, root_in: u64) -> Option<String> {
        if !self.enabled || self.tokens.is_empty() {
            return None;
        }
        let root = !self.dice.chance(root_in);
        let held: Vec<_> =
            self.tokens.iter().filter(|(user, _)| !root || *user == 0).cloned().collect();
        match held.len() as u64 {
            0 => None,
            _ if self.dice.chance(20) => None,
            count => Some(held[self.dice.below(count) as usize].1.clone()),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let len = 1 + self.dice.below(2);
        (0..len).map(|_| b'a' + self.dice.below(4) as u8).collect()
    }

    /// A range that holds keys.
    fn range(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key();
        let end = match self.dice.below(8) {
            0 => vec![0],
            1..5 => {
                let mut end = key.clone();
                *end.last_mut().expect("not empty") += 1 + self.dice.below(3) as u8;
                end
            }
            _ => Vec::new(),
        };
        (key, end)
    }

    fn manage(&mut self) {
        let (user, role) = (self.pick(&USERS), self.pick(&ROLES));
        let (mut key, mut end) = self.range();
        match self.dice.below(20) {
            0 => std::mem::swap(&mut key, &mut end),
            1 => end = key.clone(),
            _ => {}
        }
        let kind = self.pick(&["READ", "WRITE", "READWRITE"]);
        let perm = json!({ "permType": kind, "key": bytes(&key), "range_end": bytes(&end) });
        let (path, body) = match self.dice.below(60) {
            0..6 => {
                let no_password = self.dice.chance(4);
                let password = if no_password { "" } else { "pw" };
                let options = json!({ "no_password": no_password });
                let body = json!({ "name": user, "password": password, "options": options });
                ("user/add", body)
            }
            6 => ("user/delete", json!({ "name": user })),
            7 => ("user/changepw", json!({ "name": user, "password": "pw" })),
            8 if user != "root" => ("user/changepw", json!({ "name": user, "password": "" })),
            9..14 => ("user/grant", json!({ "user": user, "role": role })),
            14 | 15 => ("user/revoke", json!({ "name": user, "role": role })),
            16 => ("user/get", json!({ "name": user })),
            17 => ("user/list", json!({})),
            18 => ("role/list", json!({})),
            19 | 20 if role != "root" => ("role/get", json!({ "role": role })),
            21..25 => ("role/add", json!({ "name": role })),
            25 => ("role/delete", json!({ "role": role })),
            26 => ("role/grant", json!({ "name": role })),
            27..52 => ("role/grant", json!({ "name": role, "perm": perm })),
            52..59 => {
                let body = json!({ "role": role, "key": bytes(&key), "range_end": bytes(&end) });
                ("role/revoke", body)
            }
            _ if !self.enabled => ("status", json!({})),
            _ => ("enable", json!({})),
        };
        let token = self.token(10);
        self.ask(token.as_deref(), &format!("/v3/auth/{path}"), &body);
        if self.enabled && (path == "user/changepw" || path == "user/add") {
            let user = USERS.iter().position(|name| *name == user).expect("one of them");
            self.authenticate(user, "pw");
        }
    }

    fn put(&mut self, lease: bool) -> pb::PutRequest {
        let lease = if lease && self.dice.chance(3) { 1 + self.dice.below(4) as i64 } else { 0 };
        let prev_kv = lease == 0 && self.dice.chance(3);
        pb::PutRequest {
            key: self.key().into(),
            value: "v".into(),
            lease,
            prev_kv,
            ..Default::default()
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.range();
        let prev_kv = self.dice.chance(2);
        pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv }
    }

    fn txn(&mut self) -> pb::TxnRequest {
        let mut txn = pb::TxnRequest::default();
        for _ in 0..self.dice.below(2) {
            let (key, end) = self.range();
            let (key, range_end) = (key.into(), end.into());
            txn.compare.push(pb::Compare { key, range_end, ..Default::default() });
        }
        for branch in [&mut txn.success, &mut txn.failure] {
            for _ in 0..self.dice.below(3) {
                let op = match self.dice.below(3) {
                    0 => Op::RequestPut(pb::PutRequest { prev_kv: false, ..self.put(false) }),
                    1 => Op::RequestDeleteRange(self.delete()),
                    _ => {
                        let (key, end) = self.range();
                        let (key, range_end) = (key.into(), end.into());
                        Op::RequestRange(pb::RangeRequest { key, range_end, ..Default::default() })
                    }
                };
                branch.push(pb::RequestOp { request: Some(op) });
            }
        }
        txn
    }

    fn touch_keys(&mut self) {
        let token = self.token(1);
        let lease = json!({ "ID": (1 + self.dice.below(4)).to_string(), "TTL": "3600" });
        let (path, body) = match self.dice.below(12) {
            0..4 => ("kv/put", gateway::put(&self.put(true))),
            4..6 => ("kv/deleterange", gateway::delete(&self.delete())),
            6 => ("lease/grant", lease),
            7 => ("lease/revoke", json!({ "ID": lease["ID"] })),
            _ => {
                let txn = self.txn();
                if classify::is_read_only(&txn) || check::txn(&txn, 128).is_err() {
                    return;
                }
                ("kv/txn", gateway::txn(&txn))
            }
        };
        self.ask(token.as_deref(), &format!("/v3/{path}"), &body);
    }

    fn phase(&mut self, requests: usize) {
        for _ in 0..requests {
            if self.enabled && self.dice.chance(8) {
                let user = self.dice.below(4) as usize;
                self.authenticate(user, "pw");
            }
            if self.enabled && self.dice.chance(2) {
                self.touch_keys();
            } else {
                self.manage();
            }
        }
    }

    fn whole(&mut self) {
        self.ask(None, "/v3/auth/enable", &json!({}));
        self.phase(PHASES[0]);
        for name in &USERS[..4] {
            self.ask(None, "/v3/auth/user/delete", &json!({ "name": name }));
            self.ask(None, "/v3/auth/user/add", &json!({ "name": name, "password": "pw" }));
        }
        for role in ["r", "s", "t"] {
            self.ask(None, "/v3/auth/role/add", &json!({ "name": role }));
        }
        self.ask(None, "/v3/auth/enable", &json!({}));
        self.ask(None, "/v3/auth/user/grant", &json!({ "user": "root", "role": "root" }));
        self.ask(None, "/v3/auth/enable", &json!({}));
        self.enabled = true;
        (0..4).for_each(|user| self.authenticate(user, "pw"));
        for (user, role) in [("ann", "r"), ("bob", "s"), ("cid", "r"), ("cid", "t")] {
            let token = self.tokens[0].1.clone();
            let body = json!({ "user": user, "role": role });
            self.ask(Some(&token), "/v3/auth/user/grant", &body);
        }
        self.phase(PHASES[1]);
        // Its token may have fallen to a new password.
        self.authenticate(0, "pw");
        let token = self.tokens.last().expect("root has one").1.clone();
        self.ask(Some(&token), "/v3/auth/status", &json!({}));
        self.ask(Some(&token), "/v3/auth/disable", &json!({}));
        self.enabled = false;
        self.phase(PHASES[2]);
    }
}

#[test]
fn real_users_and_roles_give_the_real_rows() {
    let Some(program) = program("real_users_and_roles_give_the_real_rows") else { return };
    let seed = seed();
    // 3.5.16 reads users through a buffer that, after a commit, sometimes answers with a
    // row from before it (`bucketBuffer.Range` looks one place too far; 3.7.1 does not).
    // With a commit after every change the only row it can mistake is the newest.
    let options = ["--bcrypt-cost", "4", "--unsafe-no-fsync", "--backend-batch-limit", "1"];
    let mut etcd = Etcd::start_with(&program, "auth", &options);
    let dice = Dice::new(seed);
    let (log, tokens) = (Vec::new(), Vec::new());
    let mut run = Run { etcd: &etcd, dice, log, tokens, enabled: false };
    run.whole();
    let log = run.log;
    etcd.stop();
    let disk = copied(&etcd.dir);
    drop(etcd);

    // Later ones refuse some requests before they propose them, too.
    let is_3516 = is_3516(&program);
    let at_the_door = |expected: &Expected| {
        let message = expected.answer["message"].as_str().unwrap_or_default();
        !is_3516 && (message.contains("user name is empty") || message.contains("denied"))
    };
    let mut expected = log.iter();
    let (mut warm_up, mut denied, mut issued) = (true, 0, 0);
    let machine = replayed(&disk, |entry, applied| {
        issued += usize::from(matches!(
            applied.effects.tokens.as_deref(),
            Some(TokenChange::Issued { .. })
        ));
        if entry.kind != EntryKind::Normal || matches!(applied.outcome, Ok(Reply::Done)) {
            return;
        }
        // The puts that waited for readiness come first.
        if warm_up && matches!(&applied.outcome, Ok(Reply::Put(_))) {
            return;
        }
        warm_up = false;
        let got = ours(applied.outcome);
        denied += usize::from(got["message"].as_str().is_some_and(|m| m.contains("denied")));
        let mut want = expected.next().expect("the log holds what was asked");
        while at_the_door(want) && want.answer["message"] != got["message"] {
            want = expected.next().expect("the log holds what was asked");
        }
        agree(want, &got);
    });
    assert!(expected.all(at_the_door), "every request is in the log");
    let longest = ["r", "s", "t"]
        .map(|role| machine.auth().permissions_of(role).map_or(0, |permissions| permissions.len()));
    drop(machine);
    let count = rows::agree(&disk, is_3516);
    eprintln!(
        "{} requests, {denied} denied, {issued} tokens, {count} rows, permissions {longest:?}",
        log.len()
    );
    assert!(denied > 0 && issued > 10, "{denied} denied, {issued} tokens");
}
