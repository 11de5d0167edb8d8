//! `deploy/cluster-backup.sh` and `deploy/cluster-restore.sh` on made-up control plane
//! hosts: a folder for each, with a supervisor that plays its kubelet, and real members of
//! ours. Every step is one that an operator takes, and every refusal is one that changes
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mainstay_client::{Client, Options};
use mainstay_interop::{Folder, Kubelet, free_ports, our, program};
use mainstay_proto::etcdserverpb as pb;

/// What is waited for comes within this, or never.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pods that are not etcd.
const OTHERS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// A manifest's folder on the host.
const MANIFESTS: &str = "etc/kubernetes/manifests";
/// The resources of the pods.
const RESOURCES: &str = "etc/kubernetes/static-pod-resources";
/// Where the host has the pod that restores.
const RESTORE_POD: &str = "etcd-certs/configmaps/restore-etcd-pod/pod.yaml";

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

/// A manifest in kubeadm's style, with the data directory of the host.
fn pod(containers: &[(&str, Vec<String>)]) -> String {
    let mut text = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n".to_owned();
    for (name, command) in containers {
        text.push_str(&format!("  - name: {name}\n    command:\n"));
        text.extend(command.iter().map(|word| format!("    - {word}\n")));
        text.push_str("    volumeMounts:\n    - mountPath: /var/lib/etcd\n      name: data\n");
    }
    text + "  volumes:\n  - hostPath:\n      path: /var/lib/etcd\n    name: data\n"
}

fn idle() -> Vec<String> {
    vec!["/bin/sleep".to_owned(), "infinity".to_owned()]
}

/// A control plane host.
struct Host {
    name: String,
    /// Client and peer port.
    ports: (u16, u16),
    root: PathBuf,
    kubelet: Kubelet,
    crictl: PathBuf,
}

impl Host {
    /// With all pods' resources and manifests but etcd's.
    fn new(folder: &Path, name: &str, ports: (u16, u16)) -> Host {
        let root = folder.join(name);
        for path in [MANIFESTS, "var/lib/etcd"] {
            fs::create_dir_all(root.join(path)).expect("a folder");
        }
        for other in OTHERS {
            for revision in [2, 9, 10] {
                resources(&root, other, revision, &pod(&[(other, idle())]));
            }
            fs::write(
                root.join(MANIFESTS).join(format!("{other}-pod.yaml")),
                pod(&[(other, idle())]),
            )
            .expect("a manifest");
        }
        let kubelet = Kubelet::start(&root, &folder.join(format!("{name}.kubelet")));
        let crictl = kubelet.crictl();
        let host = Host { name: name.to_owned(), ports, root, kubelet, crictl };
        let restore = host.path(&format!("{RESOURCES}/{RESTORE_POD}"));
        fs::create_dir_all(restore.parent().expect("a folder")).expect("a folder");
        fs::write(restore, host.restore_pod()).expect("a manifest");
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn client(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.0)
    }

    fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.1)
    }

    /// The one that is shipped, with this host's name and addresses, and no TLS.
    fn restore_pod(&self) -> String {
        let shipped = include_str!("../../../../deploy/restore-etcd-pod.yaml");
        let secret = ["-cert", "-key-file", "-ca-file"];
        let lines = shipped.lines().filter(|line| {
            !(line.trim_start().starts_with("--") && secret.iter().any(|word| line.contains(word)))
        });
        lines
            .map(|line| format!("{line}\n"))
            .collect::<String>()
            .replace("https://127.0.0.1:2379,", "")
            .replace("https://192.0.2.10:2379", &self.client())
            .replace("https://192.0.2.10:2380", &self.peer())
            .replace("node-1", &self.name)
    }

    /// Its member begins: the manifest of etcd, and the resources it comes from.
    fn start_etcd(&self, cluster: &str, state: &str) {
        let command = vec![
            "etcd".to_owned(),
            format!("--name={}", self.name),
            "--data-dir=/var/lib/etcd".to_owned(),
            format!("--listen-client-urls={}", self.client()),
            format!("--advertise-client-urls={}", self.client()),
            format!("--listen-peer-urls={}", self.peer()),
            format!("--initial-advertise-peer-urls={}", self.peer()),
            format!("--initial-cluster={cluster}"),
            format!("--initial-cluster-state={state}"),
        ];
        let text = pod(&[("etcdctl", idle()), ("etcd", command), ("etcd-metrics", idle())]);
        for revision in [1, 3] {
            resources(&self.root, "etcd", revision, &text);
        }
        fs::write(self.path(&format!("{MANIFESTS}/etcd-pod.yaml")), text).expect("a manifest");
    }

    fn ctl(&self) -> Command {
        let mut command = Command::new(our("etcdctl"));
        command.env("ETCDCTL_ENDPOINTS", self.client()).stdin(Stdio::null());
        command
    }

    /// What etcdctl says, once it succeeds.
    fn says(&self, args: &[&str]) -> String {
        let mut said = String::new();
        eventually(&format!("{args:?} at {}; {}", self.name, self.kubelet.log("etcd")), || {
            let told = self.ctl().args(args).arg("--command-timeout=3s").output().expect("it runs");
            said = String::from_utf8_lossy(&told.stdout).into_owned();
            told.status.success()
        });
        said
    }

    fn script(&self, name: &str) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy").join(name);
        let mut command = Command::new("bash");
        command.arg(path).arg("--root").arg(&self.root).args(["--endpoint", &self.client()]);
        for (name, program) in [("ETCDCTL", our("etcdctl")), ("ETCDUTL", our("etcdutl"))] {
            command.env(name, program);
        }
        command.env("CRICTL", &self.crictl).stdin(Stdio::null());
        command
    }

    fn backup(&self, to: &Path) -> Output {
        self.script("cluster-backup.sh").arg(to).output().expect("bash runs")
    }

    fn restore(&self, from: &Path, args: &[&str]) -> Output {
        self.script("cluster-restore.sh").args(args).arg(from).output().expect("bash runs")
    }

    /// All containers of the host run.
    fn wait_for_pods(&self) {
        for container in OTHERS.iter().chain(&["etcd"]) {
            eventually(&format!("{container} runs"), || self.kubelet.pid(container).is_some());
        }
        self.says(&["endpoint", "health"]);
    }

    /// A cluster of this host alone, with two keys.
    fn alone(folder: &Path) -> Host {
        let host = Host::new(folder, "n1", free_ports());
        host.start_etcd(&format!("n1={}", host.peer()), "new");
        host.wait_for_pods();
        host.says(&["put", "early", "1"]);
        host
    }

    /// Every file below the host's root, with its size.
    fn files(&self) -> BTreeMap<PathBuf, u64> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path("etc"), self.path("var")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                // What the running member does with its files is not the script's.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("member") {
                    folders.push(path.clone());
                }
                let length =
                    entry.metadata().map_or(0, |of| if of.is_file() { of.len() } else { 0 });
                files.insert(path, length);
            }
        }
        files
    }
}

fn resources(root: &Path, name: &str, revision: u32, manifest: &str) {
    let folder = root.join(RESOURCES).join(format!("{name}-pod-{revision}"));
    fs::create_dir_all(folder.join("secrets")).expect("a folder");
    fs::write(folder.join("secrets/key"), format!("{name} {revision}")).expect("a file");
    fs::write(folder.join(format!("{name}-pod.yaml")), manifest).expect("a file");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines are said in this order.
fn holds_in_order(said: &str, lines: &[String]) {
    let mut said_lines = said.lines();
    for line in lines {
        assert!(said_lines.any(|said| said == line), "no {line:?} at its place in:\n{said}");
    }
}

/// Writes `load/N`, one after another, until told to end.
struct Load {
    acknowledged: AtomicU64,
    quit: AtomicBool,
}

/// Tells the load to end when it goes.
struct Quit<'a>(&'a AtomicBool);

impl Drop for Quit<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn run(&self, endpoint: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("an event loop").block_on(async {
            let client = Client::connect(endpoint, &Options::default()).await.expect("it is up");
            for n in 0u64.. {
                if self.quit.load(Ordering::Relaxed) {
                    return;
                }
                let key = format!("load/{n:08}").into();
                let put = pb::PutRequest { key, value: "x".into(), ..pb::PutRequest::default() };
                client.kv().put(put).await.expect("the cluster is sound");
                self.acknowledged.store(n + 1, Ordering::Relaxed);
            }
        });
    }

    fn wait_for_more(&self, count: u64) -> u64 {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + count;
        eventually("the load moves", || self.acknowledged.load(Ordering::Relaxed) >= wanted);
        wanted
    }
}

fn backup_lines(dir: &Path) -> Vec<String> {
    let mut lines: Vec<String> = [
        ("kube-apiserver", 10),
        ("kube-controller-manager", 10),
        ("kube-scheduler", 10),
        ("etcd", 3),
    ]
    .iter()
    .map(|(name, n)| format!("found latest {name}-pod: /{RESOURCES}/{name}-pod-{n}"))
    .collect();
    lines.push(format!("Snapshot saved at {}", only(dir, ".db").display()));
    lines.push(format!(
        "snapshot db and kube resources are successfully saved to {}",
        dir.display()
    ));
    lines
}

fn restore_lines() -> Vec<String> {
    let mut lines: Vec<String> =
        OTHERS.iter().chain(&["etcd"]).map(|name| format!("...stopping {name}-pod.yaml")).collect();
    for name in [
        "etcd",
        "etcdctl",
        "etcd-metrics",
        "kube-controller-manager",
        "kube-apiserver",
        "kube-scheduler",
    ] {
        lines.push(format!("Waiting for container {name} to stop"));
    }
    lines.push("Moving etcd data-dir /var/lib/etcd/member to /var/lib/etcd-backup".to_owned());
    lines.push("starting restore-etcd static pod".to_owned());
    for name in OTHERS {
        lines.push(format!("starting {name}-pod.yaml"));
        lines.push(format!("static-pod-resources/{name}-pod-10/{name}-pod.yaml"));
    }
    lines
}

/// The one file of the folder whose name ends so.
fn only(dir: &Path, end: &str) -> PathBuf {
    let files = fs::read_dir(dir).expect("a folder").flatten().map(|file| file.path());
    let found: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// `member add --promote-when-ready` beside the start of the member, as the page has it.
fn joins(first: &Host, host: &Host) {
    let mut adding = first
        .ctl()
        .args(["member", "add", &host.name, "--learner", "--promote-when-ready"])
        .arg(format!("--peer-urls={}", host.peer()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut said = BufReader::new(adding.stdout.take().expect("piped")).lines();
    let cluster = said.find_map(|line| {
        let line = line.expect("text");
        Some(line.strip_prefix("ETCD_INITIAL_CLUSTER=")?.trim_matches('"').to_owned())
    });
    host.start_etcd(&cluster.expect("it says how to start"), "existing");
    let rest: Vec<String> = said.map(|line| line.expect("text")).collect();
    assert!(adding.wait().expect("our own child").success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("promoted in cluster")), "{rest:?}");
}

#[test]
fn a_cluster_of_three_comes_back_from_one_hosts_backup() {
    let folder = Folder::new("openshift");
    let hosts: Vec<Host> =
        (1..=3).map(|n| Host::new(folder.path(), &format!("n{n}"), free_ports())).collect();
    let cluster: Vec<String> = hosts.iter().map(|h| format!("{}={}", h.name, h.peer())).collect();
    for host in &hosts {
        host.start_etcd(&cluster.join(","), "new");
    }
    for host in &hosts {
        host.wait_for_pods();
    }
    let dir = folder.path().join("backup");
    let load = Load { acknowledged: AtomicU64::new(0), quit: AtomicBool::new(false) };
    let (before, after, last) = std::thread::scope(|scope| {
        scope.spawn(|| load.run(&hosts[1].client()));
        // At its end, and when the test fails: the scope waits for the load.
        let _quit = Quit(&load.quit);
        load.wait_for_more(50);
        let before = load.acknowledged.load(Ordering::Relaxed);
        let told = hosts[0].backup(&dir);
        let after = load.acknowledged.load(Ordering::Relaxed);
        assert!(told.status.success(), "{}", text(&told.stderr));
        holds_in_order(&text(&told.stdout), &backup_lines(&dir));
        let last = load.wait_for_more(50);
        (before, after, last)
    });
    hosts[0].says(&["put", "later", "1"]);
    hosts[0].says(&["del", "load/00000000"]);

    // The other hosts' pods are stopped by hand, and their data is given up.
    for host in &hosts[1..] {
        fs::remove_file(host.path(&format!("{MANIFESTS}/etcd-pod.yaml"))).expect("it is there");
        eventually("it ends", || host.kubelet.pid("etcd").is_none());
        fs::remove_dir_all(host.path("var/lib/etcd/member")).expect("it is there");
    }
    let told = hosts[0].restore(&dir, &[]);
    assert!(told.status.success(), "{}\n{}", text(&told.stdout), text(&told.stderr));
    holds_in_order(&text(&told.stdout), &restore_lines());
    assert_eq!(text(&told.stdout).lines().filter(|line| line.ends_with("complete")).count(), 7);
    assert!(hosts[0].path("var/lib/etcd-backup/member/wal").is_dir(), "the old data is kept");

    let keys = hosts[0].says(&["get", "", "--prefix", "--keys-only"]);
    let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
    let wanted: Vec<String> = (0..keys.len()).map(|n| format!("load/{n:08}")).collect();
    assert_eq!(keys, wanted, "what was written first, in order, and nothing later");
    // One more than was acknowledged may have been under way.
    let count = keys.len() as u64;
    assert!(
        (before..=after + 1).contains(&count) && count < last,
        "{before} {count} {after} {last}"
    );

    for host in &hosts[1..] {
        joins(&hosts[0], host);
    }
    hosts[2].says(&["put", "regrown", "1"]);
    for host in &hosts {
        host.wait_for_pods();
        assert_eq!(host.says(&["get", "regrown"]), "regrown\n1\n");
    }
    let members = hosts[1].says(&["member", "list"]);
    assert_eq!(
        members
            .lines()
            .filter(|line| line.ends_with("started, ") || line.ends_with("false"))
            .count(),
        3,
        "{members}"
    );
}

#[test]
fn a_backup_that_fails_leaves_nothing() {
    let folder = Folder::new("openshift-backup");
    let host = Host::alone(folder.path());
    let dir = folder.path().join("backup");
    let refused = |told: Output, why: &str| {
        let err = text(&told.stderr);
        assert_eq!(told.status.code(), Some(1), "{err}");
        assert!(
            err.contains(why) && err.contains("no part of this backup is left"),
            "{why}: {err}"
        );
        assert!(!dir.exists());
    };
    let nowhere = format!("http://127.0.0.1:{}", free_ports().0);
    let mut dead = host.script("cluster-backup.sh");
    let told =
        dead.args(["--endpoint", &nowhere]).arg(&dir).env("ETCDCTL_COMMAND_TIMEOUT", "2s").output();
    refused(told.expect("bash runs"), "no snapshot from");
    let manifest = host.path(&format!("{RESOURCES}/kube-scheduler-pod-10/kube-scheduler-pod.yaml"));
    fs::remove_file(&manifest).expect("it is there");
    refused(host.backup(&dir), "is a rollout under way?");
    for n in [2, 9, 10] {
        fs::remove_dir_all(host.path(&format!("{RESOURCES}/kube-scheduler-pod-{n}")))
            .expect("it is there");
    }
    refused(host.backup(&dir), "kube-scheduler-pod-N");
    for words in [&["--endpoint"][..], &["--what", "x"], &["a", "b"], &[]] {
        let told = host.script("cluster-backup.sh").args(words).output().expect("bash runs");
        assert_eq!(told.status.code(), Some(2), "{}", text(&told.stderr));
    }
}

/// What is refused before anything of the host is looked at.
fn usage_and_rights(host: &Host, folder: &Path, dir: &Path) {
    for name in ["cluster-backup.sh", "cluster-restore.sh"] {
        let told = without_rights(folder, name, dir);
        assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
        assert!(text(&told.stderr).contains("must be run as root"), "{}", text(&told.stderr));
    }
    for words in [&["--patience", "x"][..], &["--what", "x"], &["a", "b"], &[]] {
        let told = host.script("cluster-restore.sh").args(words).output().expect("bash runs");
        assert_eq!(told.status.code(), Some(2), "{}", text(&told.stderr));
    }
    let nothing = folder.join("nothing");
    fs::create_dir_all(&nothing).expect("a folder");
    for name in ["cluster-backup.sh", "cluster-restore.sh"] {
        let told =
            host.script(name).arg("--root").arg(&nothing).arg(dir).output().expect("bash runs");
        assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
        assert!(text(&told.stderr).contains("not a control plane host"), "{}", text(&told.stderr));
    }
}

/// The script as somebody without rights runs it, on the machine itself: it must not come
/// further than its first check.
fn without_rights(folder: &Path, name: &str, dir: &Path) -> Output {
    use std::os::unix::process::CommandExt as _;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy").join(name);
    let script = folder.join(name);
    fs::copy(source, &script).expect("a copy");
    let mut command = Command::new("bash");
    command.arg(&script).arg(dir).current_dir("/").stdin(Stdio::null());
    if fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0) {
        command.uid(65534).gid(65534);
    }
    command.output().expect("bash runs")
}

/// With two of the three manifests.
fn poor_tarball(host: &Host, folder: &Path) -> Vec<u8> {
    let poor = folder.join("poor.tar.gz");
    let packed = Command::new("tar")
        .arg("-C")
        .arg(host.path("etc/kubernetes"))
        .arg("-czf")
        .arg(&poor)
        .args([
            "static-pod-resources/kube-apiserver-pod-9",
            "static-pod-resources/kube-scheduler-pod-9",
        ])
        .status();
    assert!(packed.expect("tar runs").success());
    fs::read(poor).expect("a file")
}

#[test]
fn a_restore_that_cannot_begin_changes_nothing() {
    let folder = Folder::new("openshift-refusals");
    let host = Host::alone(folder.path());
    let good = folder.path().join("good");
    assert!(host.backup(&good).status.success());
    let (snapshot, tarball) = (only(&good, ".db"), only(&good, ".tar.gz"));
    let environment =
        host.path(&format!("{RESOURCES}/etcd-certs/configmaps/etcd-scripts/etcd.env"));
    fs::create_dir_all(environment.parent().expect("a folder")).expect("a folder");
    let line = "export ETCDCTL_CACERT=\"/etc/kubernetes/static-pod-certs/ca.crt\"\n";
    fs::write(environment, line).expect("a file");
    let before = host.files();
    let pids =
        || OTHERS.iter().chain(&["etcd"]).map(|name| host.kubelet.pid(name)).collect::<Vec<_>>();
    let processes = pids();
    let refused = |told: Output, why: &str| {
        let err = text(&told.stderr);
        assert_eq!(told.status.code(), Some(1), "{err}");
        assert!(err.contains(why) && err.contains("nothing was changed"), "{why}: {err}");
        assert_eq!((host.files(), pids()), (before.clone(), processes.clone()), "{why}");
    };
    let case = |name: &str, snapshots: &[&[u8]], tarballs: &[&[u8]]| {
        let dir = folder.path().join(name);
        fs::create_dir_all(&dir).expect("a folder");
        for (n, bytes) in snapshots.iter().enumerate() {
            fs::write(dir.join(format!("snapshot_{n}.db")), bytes).expect("a file");
        }
        for (n, bytes) in tarballs.iter().enumerate() {
            fs::write(dir.join(format!("static_kuberesources_{n}.tar.gz")), bytes).expect("a file");
        }
        dir
    };
    let db = fs::read(&snapshot).expect("a file");
    let tar = fs::read(&tarball).expect("a file");
    let mut flipped = db.clone();
    let middle = flipped.len() - 40;
    flipped[middle] ^= 1;
    let restore = |dir: &Path| host.restore(dir, &[]);
    // Found as the host has it, in place of the pod's path.
    refused(restore(&good), "static-pod-resources/etcd-certs/ca.crt, which cannot be read");
    refused(restore(&folder.path().join("missing")), "is not a directory");
    refused(restore(&case("no-db", &[], &[&tar])), "has 0 files snapshot_*.db");
    refused(restore(&case("two-dbs", &[&db, &db], &[&tar])), "has 2 files snapshot_*.db");
    refused(restore(&case("no-tar", &[&db], &[])), "has 0 files static_kuberesources_*.tar.gz");
    refused(restore(&case("two-tars", &[&db], &[&tar, &tar])), "has 2 files static_kuberesources");
    refused(restore(&case("flipped", &[&flipped], &[&tar])), "cannot be restored");
    refused(restore(&case("cut", &[&db[..db.len() / 2]], &[&tar])), "cannot be restored");
    refused(restore(&case("cut-tar", &[&db], &[&tar[..tar.len() / 2]])), "is damaged");
    let poor = poor_tarball(&host, folder.path());
    refused(restore(&case("poor", &[&db], &[&poor])), "has 0 manifests of kube-controller-manager");
    refused(
        host.restore(&good, &["--restore-pod", "/nowhere.yaml"]),
        "no manifest of the restore-etcd pod",
    );
    let deaf = program(&folder.path().join("deaf"), "#!/bin/sh\nexit 1\n");
    let told = host.script("cluster-restore.sh").arg(&good).env("CRICTL", deaf).output();
    refused(told.expect("bash runs"), "containers cannot be waited for");
    let told =
        host.script("cluster-restore.sh").arg(&good).env("ETCDCTL_CACERT", "/nowhere.crt").output();
    refused(told.expect("bash runs"), "cannot be read");
    usage_and_rights(&host, folder.path(), &good);
    assert_eq!((host.files(), pids()), (before.clone(), processes.clone()));
}

/// Runs what the script has said leads back.
fn go_back(told: &Output) {
    let err = text(&told.stderr);
    assert_eq!(told.status.code(), Some(1), "{err}");
    let (_, undo) = err.split_once("to go back to what was before, run:\n").expect("a way back");
    let done = Command::new("bash").args(["-euc", undo]).status().expect("bash runs");
    assert!(done.success(), "{undo}");
}

/// A restore that waits for a container is killed: nobody says anything, and what it has
/// written down leads back.
fn killed(host: &Host, dir: &Path) {
    let etcd = host.path(&format!("{MANIFESTS}/etcd-pod.yaml"));
    assert!(etcd.is_file());
    let script = host.script("cluster-restore.sh").arg(dir).stdout(Stdio::null()).spawn();
    let mut script = script.expect("bash runs");
    eventually("etcd is stopped", || !etcd.exists());
    script.kill().expect("it waits");
    script.wait().expect("our own child");
    let attempts = fs::read_dir(host.path("etc/kubernetes/manifests-stopped")).expect("a folder");
    let ways: Vec<PathBuf> = attempts
        .flatten()
        .map(|attempt| attempt.path().join("go-back.sh"))
        .filter(|way| way.is_file())
        .collect();
    assert_eq!(ways.len(), 1, "{ways:?}");
    let done = Command::new("bash").arg("-e").arg(&ways[0]).status().expect("bash runs");
    assert!(done.success() && etcd.is_file() && !ways[0].exists());
}

fn a_container_that_does_not_end(host: &Host, dir: &Path) {
    let manifest = host.path(&format!("{MANIFESTS}/kube-scheduler-pod.yaml"));
    let stubborn = ["/bin/sh", "-c", "trap '' TERM; exec sleep infinity"].map(str::to_owned);
    let (quiet, former) =
        (fs::read(&manifest).expect("it is there"), host.kubelet.pid("kube-scheduler"));
    fs::write(&manifest, pod(&[("kube-scheduler", stubborn.to_vec())])).expect("a file");
    let is_deaf = || {
        let pid = host.kubelet.pid("kube-scheduler").filter(|pid| Some(*pid) != former);
        pid.is_some_and(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
        })
    };
    eventually("it ignores the signal", is_deaf);
    let told = host.restore(dir, &["--patience", "1"]);
    assert!(text(&told.stderr).contains("container kube-scheduler"), "{}", text(&told.stderr));
    assert!(
        text(&told.stdout).lines().last().is_some_and(|line| line.starts_with('.')),
        "{}",
        text(&told.stdout)
    );
    go_back(&told);
    killed(host, dir);
    host.wait_for_pods();
    assert_eq!(host.says(&["get", "later"]), "later\n1\n");
    let deaf = host.kubelet.pid("kube-scheduler").expect("it never ended").to_string();
    // In this order: the next one is not deaf again.
    fs::write(&manifest, quiet).expect("a file");
    assert!(Command::new("kill").args(["-KILL", &deaf]).status().expect("it runs").success());
}

#[test]
fn a_restore_that_fails_half_way_says_how_to_go_back_and_on() {
    let folder = Folder::new("openshift-half");
    let host = Host::alone(folder.path());
    let dir = folder.path().join("backup");
    assert!(host.backup(&dir).status.success());
    host.says(&["put", "later", "1"]);

    a_container_that_does_not_end(&host, &dir);

    // A member that does not come up.
    let broken = folder.path().join("broken.yaml");
    let text_of = host.restore_pod().replace("exec etcd", "exec etcd --no-such-flag");
    fs::write(&broken, text_of).expect("a file");
    let told =
        host.restore(&dir, &["--patience", "3", "--restore-pod", &broken.display().to_string()]);
    assert!(
        text(&told.stderr).contains("waiting for the restored member"),
        "{}",
        text(&told.stderr)
    );
    go_back(&told);
    for other in OTHERS {
        assert!(host.path(&format!("{MANIFESTS}/{other}-pod.yaml")).is_file());
    }
    host.wait_for_pods();
    assert_eq!(host.says(&["get", "later"]), "later\n1\n");

    // Twice without going back; then back twice, the newest first.
    let fails = || {
        let pod = broken.display().to_string();
        let told = host.restore(&dir, &["--patience", "1", "--restore-pod", &pod]);
        assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
        told
    };
    let (first, second) = (fails(), fails());
    let warned = text(&second.stderr);
    assert!(warned.contains("an earlier restore did not come to its end"), "{warned}");
    go_back(&second);
    go_back(&first);
    host.wait_for_pods();
    assert_eq!(host.says(&["get", "later"]), "later\n1\n");

    // Again, and on once the cause is removed.
    fails();
    let told = host.restore(&dir, &[]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let said = text(&told.stdout);
    assert!(
        said.contains("Moving /var/lib/etcd-backup of an earlier restore to /var/lib/etcd-backup-"),
        "{said}"
    );
    host.wait_for_pods();
    assert_eq!(host.says(&["get", "", "--prefix", "--keys-only"]).trim(), "early");
}
