//! Failure points: each name is passed and counted in a running member that was built with
//! the feature, the HTTP face answers as gofail does, and a normal build knows none of them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Start, free_ports, our};

/// Points that only a follower passes which is given a snapshot.
const OF_A_FOLLOWER: [&str; 8] = [
    "applyAfterOpenSnapshot",
    "applyBeforeOpenSnapshot",
    "raftAfterApplySnap",
    "raftAfterSaveSnap",
    "raftAfterWALRelease",
    "raftBeforeApplySnap",
    "raftBeforeFollowerSend",
    "raftBeforeSaveSnap",
];

/// `etcd` with failure points: built here, or the one that `MAINSTAY_FAILPOINTS_ETCD` names.
fn chaotic() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(path) = std::env::var_os("MAINSTAY_FAILPOINTS_ETCD") {
            return PathBuf::from(path);
        }
        let me = std::env::current_exe().expect("a running test has a path");
        // A folder of its own: the normal build is not to be replaced by it.
        let target = me.ancestors().nth(3).expect("target/PROFILE/deps/test").join("failpoints");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "-p", "mainstay-etcd"]);
        build.args(["--features", "failpoints", "--target-dir"]).arg(&target);
        assert!(build.status().expect("cargo runs").success(), "it must build");
        target.join("debug/etcd")
    })
}

/// A member with failure points; killed when dropped.
struct Chaotic {
    child: Child,
    face: u16,
    client: u16,
    peer: u16,
    log: PathBuf,
}

impl Chaotic {
    /// Starts it with `points` set, and with these flags after the usual ones.
    fn start(folder: &Path, name: &str, points: &str, flags: &[String]) -> Chaotic {
        let (face, _) = free_ports();
        let start = Start::new(Kind::Ours, &folder.join(format!("{name}.etcd")));
        let (client, peer) = start.ports;
        let usual = start.command().expect("ours is there");
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::File::create(&log).expect("a log file");
        let child = Command::new(chaotic())
            .args(usual.get_args())
            .args(flags)
            .env("GOFAIL_HTTP", format!("127.0.0.1:{face}"))
            .env("GOFAIL_FAILPOINTS", points)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("it starts");
        let mut this = Chaotic { child, face, client, peer, log };
        this.until("healthy", |member| {
            let health = http(member.client, "GET", "/health", "");
            health.is_some_and(|(_, body)| body.contains(r#""health":"true""#))
        });
        this
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Looks until it is so.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Chaotic) -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < patience, "{what}: not so; it logged:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// A request to the face.
    fn face(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        http(self.face, method, path, body).expect("the face answers")
    }

    fn counts(&self) -> BTreeMap<String, u64> {
        let (status, list) = self.face("GET", "/", "");
        assert_eq!(status, 200);
        let names = list.lines().map(|line| line.split_once('=').expect("name=terms").0);
        let count = |name: &str| self.face("GET", &format!("/{name}/count"), "").1.parse();
        names.map(|name| (name.to_owned(), count(name).unwrap_or(0))).collect()
    }

    fn ctl(&self, args: &[&str]) -> Output {
        let endpoint = format!("127.0.0.1:{}", self.client);
        let mut command = Command::new(our("etcdctl"));
        command.arg("--endpoints").arg(endpoint).args(args).stdin(Stdio::null());
        command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    fn does(&self, args: &[&str]) -> String {
        let told = self.ctl(args);
        let error = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{args:?}: {error}\n{}", self.log());
        String::from_utf8_lossy(&told.stdout).into_owned()
    }
}

impl Drop for Chaotic {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a request on a connection of its own.
fn http(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Everything that makes a lone member pass its points.
fn live(member: &mut Chaotic) {
    // More than the hundred entries after which the log in memory forgets some.
    for round in 0..12 {
        for key in 0..10 {
            member.does(&["put", &format!("k{key}"), &round.to_string()]);
        }
    }
    let granted = member.does(&["lease", "grant", "600"]);
    let lease = granted.split(' ').nth(1).expect("lease ID granted").to_owned();
    member.does(&["lease", "keep-alive", "--once", &lease]);
    let endpoint = format!("127.0.0.1:{}", member.client);
    let mut watching = Command::new(our("etcdctl"))
        .args(["--endpoints", &endpoint, "watch", "k1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("a watcher starts");
    member.until("a watcher is told", |member| {
        member.does(&["put", "k1", "watched"]);
        member.counts()["beforeSendWatchResponse"] > 0
    });
    // Gone already is as good.
    let _ = watching.kill();
    let _ = watching.wait();
    member.does(&["compaction", "30", "--physical"]);
    member.does(&["defrag"]);
}

#[test]
fn every_point_is_passed_by_name() {
    let folder = Folder::new("failpoints");
    let all = |terms: &str| {
        let names = names_of_a_build();
        names.iter().map(|name| format!("{name}={terms};")).collect::<String>()
    };
    let flags = |more: &[&str]| -> Vec<String> {
        let same = ["--snapshot-count=5", "--snapshot-catchup-entries=1"];
        same.iter().chain(more).map(ToString::to_string).collect()
    };
    let first = flags(&["--compaction-batch-limit=2"]);
    let mut member = Chaotic::start(folder.path(), "m1", &all("off"), &first);
    live(&mut member);
    member.until("every point of a lone member is passed", |member| {
        member.does(&["put", "k", "v"]);
        let counts = member.counts();
        let missing = |name: &str| counts[name] == 0 && !OF_A_FOLLOWER.contains(&name);
        !counts.keys().any(|name| missing(name))
    });

    // A member that joins late gets a snapshot.
    let ports = free_ports();
    let peer = |port| format!("http://127.0.0.1:{port}");
    member.does(&["member", "add", "m2", &format!("--peer-urls={}", peer(ports.1))]);
    let both = format!("m1={},m2={}", peer(member.peer), peer(ports.1));
    let joins = flags(&[
        "--name=m2",
        &format!("--listen-peer-urls={}", peer(ports.1)),
        &format!("--initial-advertise-peer-urls={}", peer(ports.1)),
        &format!("--initial-cluster={both}"),
        "--initial-cluster-state=existing",
    ]);
    let mut late = Chaotic::start(folder.path(), "m2", &all("off"), &joins);
    late.until("every point of a follower is passed", |late| {
        let counts = late.counts();
        !OF_A_FOLLOWER.iter().any(|name| counts[*name] == 0)
    });
}

/// The names, as a running build lists them.
fn names_of_a_build() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let folder = Folder::new("failpoints-names");
        let member = Chaotic::start(folder.path(), "m1", "", &[]);
        member.counts().into_keys().collect()
    })
}

#[test]
fn the_face_answers_as_gofail_does() {
    let folder = Folder::new("failpoints-face");
    let mut member = Chaotic::start(folder.path(), "m1", "", &[]);
    assert_eq!(member.face("PUT", "/beforeCommit", "1*sleep(5)->off"), (204, String::new()));
    assert_eq!(member.face("GET", "/beforeCommit", ""), (200, "1*sleep(5)->off\n".into()));
    assert_eq!(member.face("PUT", "/failpoints", "afterCommit=off;raftBeforeSave=off").0, 204);
    let (_, list) = member.face("GET", "/", "");
    for line in ["afterCommit=off", "beforeCommit=1*sleep(5)->off", "raftAfterSave="] {
        assert!(list.lines().any(|l| l == line), "{line} in {list}");
    }
    member.does(&["put", "k", "v"]);
    member.until("it is counted", |member| member.counts()["raftBeforeSave"] > 0);
    assert_eq!(member.face("DELETE", "/afterCommit", "").0, 204);
    assert_eq!(member.face("DELETE", "/afterCommit", "").0, 400);
    assert_eq!(member.face("GET", "/afterCommit", "").0, 404);
    assert_eq!(member.face("GET", "/nowhere/count", "").0, 404);
    assert_eq!(member.face("PUT", "/nowhere", "off").0, 400);
    assert_eq!(member.face("PUT", "/beforeCommit", "bang").0, 400);

    // A defragmentation that fails as the test says; the member goes on.
    for name in ["defragOpenFileError", "defragdbFail"] {
        assert_eq!(member.face("PUT", &format!("/{name}"), "return(\"no space\")").0, 204);
        let told = member.ctl(&["defrag"]);
        let error = String::from_utf8_lossy(&told.stderr);
        assert!(!told.status.success() && error.contains("no space"), "{name}: {error}");
        assert_eq!(member.face("DELETE", &format!("/{name}"), "").0, 204);
    }
    member.does(&["put", "k", "w"]);
    member.does(&["defrag"]);

    // A panic lets the answer leave, and ends the process as Go's does.
    assert_eq!(member.face("PUT", "/raftBeforeSave", "panic"), (204, String::new()));
    // It may end before it has answered.
    let _ = member.ctl(&["--command-timeout=2s", "put", "k", "lost"]);
    member.until("it ends", |member| member.child.try_wait().is_ok_and(|status| status.is_some()));
    let status = member.child.wait().expect("our own child");
    assert_eq!(status.code(), Some(2), "{}", member.log());
    assert!(member.log().contains("failpoint panic: raftBeforeSave"), "{}", member.log());
}

#[test]
fn a_normal_build_knows_no_points() {
    let built = std::fs::read(our("etcd")).expect("our own binary");
    let has = |text: &str| built.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("saved snapshot"), "texts can be found in it");
    // The compiler lays texts side by side, so that a short name may come about by chance
    // (`after` and `CommitBeyondLog`).
    let long = names_of_a_build().iter().map(String::as_str).filter(|name| name.len() > 13);
    let long: Vec<&str> = long.chain(["GOFAIL"]).collect();
    assert!(long.len() > 20, "{long:?}");
    for name in long {
        assert!(!has(name), "{name} is in a normal build");
    }
}
