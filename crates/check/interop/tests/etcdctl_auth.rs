//! Users and roles as etcdctl's users see them: Debian's etcdctl 3.5.16 and ours, against
//! ours and against the real etcd 3.5.16; the same lines must say the same.

#[expect(dead_code, reason = "other tests compare what watches say")]
mod ctl;

use ctl::{Said, Step, fed, run, step};
use mainstay_interop::{Kind, Peer, free_ports, our, peer};

/// Before authentication is on.
const SETUP: &[&str] = &[
    "auth status",
    "auth enable",
    "user add root:secret",
    "user add alice:a",
    "user add alice:a",
    "user add :x",
    "user add bob --new-user-password b",
    "user add carol --no-password",
    "user add",
    "role add r",
    "role add r",
    "role get r",
    "role grant-permission r readwrite foo",
    "role grant-permission r READ k --prefix",
    "role grant-permission r write z --from-key",
    "role grant-permission r read m n",
    "role grant-permission r read n m",
    "role grant-permission r nothing m",
    "role grant-permission r read",
    "role grant-permission r read a b --prefix",
    "role grant-permission none read a",
    "user grant-role alice r",
    "user grant-role alice none",
    "user grant-role none r",
    "role get r",
    "role get r -w json",
    "user get alice",
    "user get alice -w json",
    "user get alice --detail",
    "user list",
    "role list",
    "auth enable",
];

/// While it is.
const USE: &[&str] = &[
    "put foo bar",
    "--user=root:secret put foo bar",
    "--user=root:secret put secret s",
    "--user=alice:a get foo",
    "--user=alice:a get secret",
    "--user=alice --password a get k --prefix",
    "--user=alice:a get a z",
    "--user=alice:a put zz 1 --prev-kv",
    "--user=alice:a put zz 1",
    "--user=alice:a del zz",
    "--user=alice:a del foo --prev-kv",
    "--user=alice:wrong get foo",
    "--user=none:x get foo",
    "--user=carol:x get foo",
    "--user=alice:a user list",
    "--user=alice:a user get alice",
    "--user=alice:a user get bob",
    "--user=alice:a role get r",
    "--user=alice:a role list",
    "--user=alice:a auth disable",
    "--user=alice:a alarm disarm",
    "--user=alice:a alarm list",
    "--user=bob:b role get r",
    "--user=root:secret user delete root",
    "--user=root:secret role delete root",
    "--user=root:secret user revoke-role root root",
    "--user=root:secret role revoke-permission r foo",
    "--user=root:secret role revoke-permission r foo",
    "--user=root:secret role revoke-permission r k --prefix",
    "--user=root:secret role revoke-permission r z --from-key",
    "--user=alice:a get foo",
];

/// With another password, and off again at the end.
const AFTER: &[&str] = &[
    "--user=alice:a get m",
    "--user=alice:new get m",
    "--user=root:secret user revoke-role alice r",
    "--user=root:secret user delete alice",
    "--user=root:secret role delete r",
    "--user=root:secret user list",
    "--user=root:secret auth status",
    "--user=root:secret auth disable",
    "get foo",
];

fn script() -> Vec<Step> {
    let passwd = "--user=root:secret user passwd alice --interactive=false";
    let steps = |lines: &'static [&str]| lines.iter().map(|line| step(line));
    steps(SETUP).chain(steps(USE)).chain([fed(passwd, "new\n")]).chain(steps(AFTER)).collect()
}

/// Ids and such differ between runs; nothing here prints any.
fn same(one: &[Said], other: &[Said]) {
    assert_eq!(one.len(), other.len());
    let mut wrong = Vec::new();
    for (one, other) in one.iter().zip(other) {
        // JSON has ids of a cluster in its header.
        let json = one.line.contains("json");
        let said = |said: &Said| {
            if json {
                said.out.find("\"roles\"").map(|at| said.out[at..].to_owned())
            } else {
                Some(said.out.clone())
            }
        };
        if one.code != other.code
            || said(one) != said(other)
            || plain(&one.err) != plain(&other.err)
        {
            wrong.push(format!("{one:#?}\n{other:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Without the log lines of Go's client.
fn plain(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

#[test]
fn debians_etcdctl_hears_from_ours_what_it_hears_from_its_own() {
    let Some(debian) = peer(Peer::Etcdctl) else { return };
    let Some(theirs) = run(&debian, Kind::Real, free_ports(), &script()) else { return };
    let ours = run(&debian, Kind::Ours, free_ports(), &script()).expect("ours is never missing");
    same(&theirs, &ours);
}

#[test]
fn our_etcdctl_says_what_debians_says() {
    let Some(debian) = peer(Peer::Etcdctl) else { return };
    for kind in [Kind::Ours, Kind::Real] {
        let Some(theirs) = run(&debian, kind, free_ports(), &script()) else { return };
        let ours = run(&our("etcdctl"), kind, free_ports(), &script()).expect("it ran before");
        same(&theirs, &ours);
    }
}
