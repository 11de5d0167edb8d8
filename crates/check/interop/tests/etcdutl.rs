//! Our etcdutl beside the real one (3.5, with `check v2store`), on directories of Go's etcd
//! 3.5.16; and Go's etcd on directories that ours has worked on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mainstay_interop::cluster::{Make, Plan};
use mainstay_interop::{Folder, Kind, Load, Member, Peer, Start, our, peer};

/// The real etcdutl, from 3.5.17 on, where `check v2store` begins; `None` after saying so.
fn real_etcdutl() -> Option<PathBuf> {
    let path = std::env::var_os("MAINSTAY_ETCDUTL_35").map(PathBuf::from);
    let path = path.filter(|path| path.is_file());
    if path.is_none() {
        eprintln!("\n*** DID NOT RUN: MAINSTAY_ETCDUTL_35 names no etcdutl of 3.5\n");
    }
    path
}

fn call(program: &Path, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|e| panic!("{}: {e}", program.display()))
}

/// What ours prints; it must succeed.
fn ours(args: &[&str]) -> String {
    let output = call(&our("etcdutl"), args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{out}{err}", output.status);
    out
}

/// A member with a load on it.
struct World {
    load: Load,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(seed: u64) -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        World { load: Load::new(seed, 8), runtime: runtime.expect("an event loop") }
    }

    fn write(&mut self, member: &Member, count: usize) {
        let ran = self.runtime.block_on(self.load.run(&member.endpoint(), count, || {}));
        ran.unwrap_or_else(|why| panic!("{why}; it logged:\n{}", member.log()));
    }

    fn verify(&mut self, member: &Member, when: &str) {
        let verified = self.runtime.block_on(self.load.verify(&member.endpoint()));
        verified.unwrap_or_else(|why| panic!("{when}: {why}; it logged:\n{}", member.log()));
    }
}

/// A directory that Go's etcd wrote, and the load that was on it; stopped.
fn of_go(folder: &Folder, count: usize) -> Option<(Start, World)> {
    let start = Start::new(Kind::Real, &folder.path().join("m.etcd")).flag("--snapshot-count=200");
    let member = start.run()?;
    let mut world = World::new(11);
    world.write(&member, count);
    world.verify(&member, "before");
    member.stop();
    Some((start, world))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("copied")),
        }
    }
}

#[test]
fn commands_say_what_etcdutl_says() {
    let Some(real) = real_etcdutl() else { return };
    let folder = Folder::new("etcdutl-same");
    let Some((start, _)) = of_go(&folder, 300) else { return };
    let lines: &[&str] = &[
        "check v2store --data-dir $D",
        "check v2store --data-dir /none",
        "check v2store",
        "defrag --data-dir $D",
        "defrag",
        "nonsense",
        "defrag --nope",
        "defrag --data-dir",
    ];
    for line in lines {
        let said: Vec<(Option<i32>, String, String)> = [real.clone(), our("etcdutl")]
            .iter()
            .map(|program| {
                let dir = folder.path().join("copy");
                let _ = fs::remove_dir_all(&dir);
                copy(&start.data_dir, &dir);
                let line = line.replace("$D", &dir.to_string_lossy());
                let words: Vec<&str> = line.split(' ').collect();
                let output = call(program, &words);
                let err = String::from_utf8_lossy(&output.stderr).into_owned();
                let error = err.lines().find(|line| line.starts_with("Error: "));
                // 3.5 also prints its help to standard output.
                let out = String::from_utf8_lossy(&output.stdout).into_owned();
                let out = out.split("Usage:").next().unwrap_or_default().to_owned();
                (output.status.code(), out, error.unwrap_or_default().to_owned())
            })
            .collect();
        assert_eq!(said[1], said[0], "{line}");
    }
    let version = |program: &Path| {
        let text = String::from_utf8(call(program, &["version"]).stdout).expect("text");
        text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
    };
    assert_eq!(version(&our("etcdutl")).replace("..", "."), version(&real).replace("..", "."));
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(call(&real, &["completion", shell]).status.success());
        assert!(ours(&["completion", shell]).contains("etcdutl"));
    }
}

#[test]
fn go_starts_after_our_defrag() {
    let folder = Folder::new("etcdutl-defrag");
    let start = Start::new(Kind::Real, &folder.path().join("m.etcd"));
    let (Some(ctl), Some(member)) = (peer(Peer::Etcdctl), start.run()) else { return };
    let mut world = World::new(12);
    world.write(&member, 400);
    let endpoint = member.endpoint();
    let theirs = call(&ctl, &["--endpoints", &endpoint, "endpoint", "hashkv"]);
    let theirs = String::from_utf8(theirs.stdout).expect("text");
    let theirs = theirs.trim().rsplit(", ").next().expect("a hash").to_owned();
    member.stop();
    let dir = start.data_dir.to_string_lossy().into_owned();
    let db = start.data_dir.join("member/snap/db");
    let before = fs::metadata(&db).expect("a db").len();
    let rows = ours(&["dump-db", "hash", &dir]);
    ours(&["defrag", "--data-dir", &dir]);
    assert!(fs::metadata(&db).expect("a db").len() <= before);
    assert_eq!(ours(&["dump-db", "hash", &dir]), rows);
    let hash = ours(&["hashkv", &db.to_string_lossy()]);
    assert_eq!(hash.split(", ").next(), Some(theirs.as_str()), "{hash}");
    ours(&["verify", "--data-dir", &dir]);
    for kind in [Kind::Real, Kind::Ours, Kind::Real] {
        let member = start.with_kind(kind).run().expect("both are there");
        world.verify(&member, "after the defragmentation");
        world.write(&member, 50);
        member.stop();
    }
}

/// Damages a directory of Go's, repairs it, and lets both go on with it.
fn repaired(name: &str, damage: impl Fn(&Path)) {
    let folder = Folder::new(name);
    let Some((start, mut world)) = of_go(&folder, 700) else { return };
    damage(&start.data_dir);
    let dir = start.data_dir.to_string_lossy().into_owned();
    let dry = call(&our("etcdutl"), &["repair", "--data-dir", &dir]);
    let out = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert_eq!(dry.status.code(), Some(1), "{out}");
    assert!(out.contains("damaged: ") && out.contains("lost: nothing"), "{out}");
    let out = ours(&["repair", "--data-dir", &dir, "--apply"]);
    assert!(out.ends_with("repaired\n"), "{out}");
    assert_eq!(ours(&["repair", "--data-dir", &dir]), "nothing is damaged\n");
    for kind in [Kind::Real, Kind::Ours, Kind::Real] {
        let member = start.with_kind(kind).run().expect("both are there");
        world.verify(&member, "after the repair");
        world.write(&member, 50);
        member.stop();
    }
}

#[test]
fn go_starts_after_our_repair_of_its_log() {
    repaired("etcdutl-log", |dir| {
        let wal = dir.join("member/wal/0000000000000000-0000000000000000.wal");
        let mut bytes = fs::read(&wal).expect("a segment");
        let used = bytes.iter().rposition(|byte| *byte != 0).expect("records");
        bytes[used / 2] ^= 4;
        fs::write(&wal, bytes).expect("written");
    });
}

#[test]
fn go_starts_after_our_repair_of_its_snap() {
    repaired("etcdutl-snap", |dir| {
        let names = fs::read_dir(dir.join("member/snap")).expect("a folder");
        let mut names: Vec<PathBuf> = names.map(|name| name.expect("an entry").path()).collect();
        names.retain(|path| path.extension().is_some_and(|e| e == "snap"));
        let newest = names.into_iter().max().expect("a snapshot");
        let mut bytes = fs::read(&newest).expect("a snapshot");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&newest, bytes).expect("written");
    });
}

#[test]
fn a_log_of_go_is_decoded_whole() {
    let folder = Folder::new("etcdutl-dump");
    let start = Start::new(Kind::Real, &folder.path().join("m.etcd"));
    let (Some(ctl), Some(member)) = (peer(Peer::Etcdctl), start.run()) else { return };
    let endpoint = member.endpoint();
    let lines = [
        "put a b",
        "del a",
        "lease grant 100 ",
        "alarm disarm",
        "compaction 2",
        "user add u --new-user-password pw",
        "role add r",
        "role grant-permission r readwrite k",
        "user grant-role u r",
        "role revoke-permission r k",
        "user revoke-role u r",
        "user add root --new-user-password pw",
        "user grant-role root root",
        "auth enable",
        "--user root:pw put k v",
        "--user root:pw auth disable",
        "role delete r",
        "user delete u",
        "member add m2 --peer-urls=http://127.0.0.1:1 --learner",
    ];
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = call(&ctl, &[&["--endpoints", &endpoint], words.as_slice()].concat());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    member.stop();
    let dir = start.data_dir.to_string_lossy().into_owned();
    let out = ours(&["dump-logs", "-start-index", "1", &dir]);
    assert!(!out.contains("???"), "{out}");
    for part in [
        "conf\tmethod=ConfChangeAddNode id=",
        "conf\tmethod=ConfChangeAddLearnerNode id=",
        "norm\tmethod=PUT path=\"/0/members/",
        "norm\tmethod=PUT path=\"/0/version\" val=\"3.5.0\"",
        "put:<key:\"a\" value:\"b\" > ",
        "delete_range:<key:\"a\" > ",
        "lease_grant:<TTL:100 ID:",
        "compaction:<revision:2 > ",
        "auth_user_add:<name:\"u\" options:<> hashedPassword:\"",
        "auth_role_grant_permission:<name:\"r\" perm:<permType:READWRITE key:\"k\" > > ",
        "auth_enable:<> ",
        "authenticate:<name:\"root\" ",
        "username:\"root\" ",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    let raw = ours(&["dump-logs", "--raw", &dir]);
    let entries = raw.lines().filter(|line| line.starts_with("Entry: ")).count();
    assert!(out.contains(&format!("WAL entries: {entries}\n")), "{entries}: {out}");
    let rows = ours(&["dump-db", "iterate-bucket", &dir, "authUsers", "--decode"]);
    assert!(rows.contains("user=\"root\", roles=[\"root\"]"), "{rows}");
    for bucket in ["key", "meta", "lease", "auth", "authRoles", "members", "cluster", "alarm"] {
        ours(&["dump-db", "iterate-bucket", &dir, bucket, "--decode"]);
    }
}

#[test]
fn a_running_member_is_not_touched() {
    for kind in [Kind::Real, Kind::Ours] {
        let folder = Folder::new("etcdutl-busy");
        let start = Start::new(kind, &folder.path().join("m.etcd"));
        let Some(member) = start.run() else { continue };
        let dir = start.data_dir.to_string_lossy().into_owned();
        for command in ["defrag", "repair", "verify", "migrate"] {
            let mut args = vec![command, "--data-dir", &dir, "--timeout", "200ms"];
            if command == "migrate" {
                args.extend(["--target-version", "3.6"]);
            }
            let output = call(&our("etcdutl"), &args);
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{command}: {err}");
            assert!(err.contains("member/snap/db is locked"), "{command}: {err}");
        }
        member.stop();
    }
}

/// Kills a cluster of three under load, takes one member's directory away, and goes on with
/// what `recover` makes of the other two: they have everything that was acknowledged.
fn recovered(make: Make, successors: &[Kind]) {
    let plan = Plan::new("etcdutl-recover", &[make; 3]).flag("--snapshot-count=150");
    let Some(mut cluster) = plan.start() else { return };
    let mut world = World::new(21);
    let endpoint = cluster.nodes[0].endpoint();
    let killed = world.load.run(&endpoint, 400, || {
        for node in &mut cluster.nodes {
            node.kill();
        }
    });
    world.runtime.block_on(killed).expect("the member was there");
    let dir = |n: usize| cluster.nodes[n].dir().to_string_lossy().into_owned();
    let new = cluster.folder().join("recovered.etcd");
    let to = new.to_string_lossy().into_owned();
    let dry = call(&our("etcdutl"), &["recover", &dir(0), &dir(1), "--to", &to]);
    let out = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert_eq!(dry.status.code(), Some(1), "{out}");
    assert!(out.contains("missing: nothing else that was acknowledged: 1 of 3"), "{out}");
    assert!(!new.exists());
    let out = ours(&["recover", &dir(0), &dir(1), "--to", &to, "--apply"]);
    eprintln!("{out}");
    ours(&["verify", "--data-dir", &to]);
    for kind in successors {
        let member = Start::new(*kind, &new).run().expect("both are there");
        world.verify(&member, "after the recovery");
        world.write(&member, 50);
        member.stop();
    }
}

#[test]
fn a_cluster_of_go_whose_majority_is_lost_goes_on() {
    recovered(Make::Go, &[Kind::Real, Kind::Ours, Kind::Real]);
}

#[test]
fn a_cluster_of_ours_whose_majority_is_lost_goes_on() {
    recovered(Make::Ours, &[Kind::Ours, Kind::Ours]);
}
