//! A member with users, keys that some may see, and one that none of them may.

use std::fs;
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Member, Start};
use mainstay_proto::authpb::permission::Type;
use mainstay_proto::authpb::{Permission, UserAddOptions};
use mainstay_proto::etcdserverpb as pb;

use crate::client::{Client, put, talk};

/// The value of the key [`HIDDEN`], which only root may read.
pub(crate) const SECRET: &str = "the-hidden-value";
/// The key that nobody but root may touch.
pub(crate) const HIDDEN: &str = "k2secret";
/// A lease of root's, with [`LEASED`] on it.
pub(crate) const LEASE: i64 = 77;
/// A key of root's.
pub(crate) const LEASED: &str = "k9leased";

/// A running member.
pub(crate) struct World {
    pub(crate) member: Member,
    pub(crate) folder: Folder,
}

impl World {
    /// A member without users. The real one must be there: who asks for it has looked.
    pub(crate) fn open(kind: Kind, name: &str, flags: &[&str]) -> World {
        let folder = Folder::new(&format!("holes-{name}"));
        let mut start = Start::new(kind, &folder.path().join("m.etcd"));
        for flag in flags {
            start = start.flag(flag);
        }
        let member = start.run().expect("the binary is there");
        World { member, folder }
    }

    /// A member with users and authentication on:
    ///
    /// | user | may |
    /// | --- | --- |
    /// | root | everything |
    /// | alice | read `k1`, read and write below `a/` |
    /// | carol | write below `a/`, read nothing |
    /// | bob | nothing |
    pub(crate) fn guarded(kind: Kind, name: &str, flags: &[&str]) -> World {
        let world = World::open(kind, name, &[&["--bcrypt-cost=4"], flags].concat());
        talk(async {
            let client = world.client().await;
            settle(&client).await;
        });
        world
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.member.endpoint()).await
    }

    /// A connection on which this user has logged in.
    pub(crate) async fn user(&self, name: &str) -> Client {
        log_in(&self.client().await, name).await
    }

    /// Bytes of memory that the member holds at this moment.
    pub(crate) fn rss(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most that it has ever held.
    pub(crate) fn rss_peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.member.pid());
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// A hole, if a healthy client is not answered within a time.
    pub(crate) fn lives(&self, when: &str, within: Duration) -> Option<String> {
        let patience = Instant::now() + within;
        while Instant::now() < patience {
            let health = self.member.http_get("/health");
            if health.is_ok_and(|body| body.contains("\"health\":")) {
                return None;
            }
        }
        Some(format!("{when}: it is not healthy within {within:?}"))
    }
}

/// Root's keys, users and roles, and authentication on.
async fn settle(client: &Client) {
    let grant = pb::LeaseGrantRequest { ttl: 3600, id: LEASE };
    let _: pb::LeaseGrantResponse = client.ask("/etcdserverpb.Lease/LeaseGrant", &grant).await;
    for (key, value) in [("k1", "one"), (HIDDEN, SECRET), ("k3", "three"), ("a/1", "mine")] {
        assert!(client.put(key, value).await.done(), "{key}");
    }
    let leased = pb::PutRequest { lease: LEASE, ..put(LEASED, SECRET) };
    let _: pb::PutResponse = client.ask("/etcdserverpb.KV/Put", &leased).await;
    for name in ["root", "alice", "bob", "carol"] {
        add_user(client, name).await;
    }
    for (role, rights) in [
        ("root", vec![]),
        ("alice", vec![(Type::Read, "k1", ""), (Type::Readwrite, "a/", "a0")]),
        ("carol", vec![(Type::Write, "a/", "a0")]),
    ] {
        let add = pb::AuthRoleAddRequest { name: role.into() };
        let _: pb::AuthRoleAddResponse = client.ask("/etcdserverpb.Auth/RoleAdd", &add).await;
        for (kind, key, end) in rights {
            grant_range(client, role, kind, key, end).await;
        }
        let give = pb::AuthUserGrantRoleRequest { user: role.into(), role: role.into() };
        let path = "/etcdserverpb.Auth/UserGrantRole";
        let _: pb::AuthUserGrantRoleResponse = client.ask(path, &give).await;
    }
    let path = "/etcdserverpb.Auth/AuthEnable";
    let _: pb::AuthEnableResponse = client.ask(path, &pb::AuthEnableRequest {}).await;
}

pub(crate) async fn add_user(client: &Client, name: &str) {
    let user = pb::AuthUserAddRequest {
        name: name.into(),
        password: password(name),
        options: Some(UserAddOptions::default()),
        ..Default::default()
    };
    let _: pb::AuthUserAddResponse = client.ask("/etcdserverpb.Auth/UserAdd", &user).await;
}

pub(crate) async fn grant_range(client: &Client, role: &str, kind: Type, key: &str, end: &str) {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    let perm = Some(Permission { perm_type: kind.into(), key, range_end });
    let grant = pb::AuthRoleGrantPermissionRequest { name: role.into(), perm };
    let path = "/etcdserverpb.Auth/RoleGrantPermission";
    let _: pb::AuthRoleGrantPermissionResponse = client.ask(path, &grant).await;
}

/// Everybody's password.
pub(crate) fn password(name: &str) -> String {
    format!("{name}'s password")
}

pub(crate) async fn log_in(client: &Client, name: &str) -> Client {
    let request = pb::AuthenticateRequest { name: name.into(), password: password(name) };
    let path = "/etcdserverpb.Auth/Authenticate";
    let answer: pb::AuthenticateResponse = client.ask(path, &request).await;
    client.with(&answer.token)
}
