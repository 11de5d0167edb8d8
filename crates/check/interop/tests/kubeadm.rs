//! The scripts for kubeadm and systemd in `deploy/`, on made-up hosts with mutual TLS: a
//! supervisor plays the kubelet, a script systemctl, and the members are ours.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kubelet, free_ports, our, program};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// What is waited for comes within this, or never.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where kubeadm has the certificates of etcd.
const PKI: &str = "etc/kubernetes/pki/etcd";
/// kubeadm's manifest.
const MANIFEST: &str = "etc/kubernetes/manifests/etcd.yaml";
/// The systemd unit.
const UNIT: &str = "etc/systemd/system/etcd.service";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes `ca.crt` and a certificate and key for each name.
fn certificates(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "etcd-ca");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    fs::write(folder.join("ca.crt"), pem).expect("a file");
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().expect("a key");
        let hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, *name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        fs::write(folder.join(format!("{name}.crt")), certificate.pem()).expect("a file");
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
    }
}

fn script(name: &str, root: &Path) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy").join(name);
    let mut command = Command::new("bash");
    command.arg(path).arg("--root").arg(root).stdin(Stdio::null());
    command.env("ETCDCTL", our("etcdctl")).env("ETCDUTL", our("etcdutl"));
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("bash runs")
}

/// What a script that succeeds has said.
fn succeeds(command: &mut Command) -> String {
    let told = run(command);
    assert!(told.status.success(), "{}\n{}", text(&told.stdout), text(&told.stderr));
    text(&told.stdout)
}

/// It ends with 1 for this reason, and says that nothing was done.
fn refuses(command: &mut Command, why: &str) {
    let told = run(command);
    let err = text(&told.stderr);
    assert_eq!(told.status.code(), Some(1), "{why}: {err}");
    let quiet = ["nothing was done", "nothing was changed", "nothing was written"];
    assert!(err.contains(why) && quiet.iter().any(|said| err.contains(said)), "{why}: {err}");
}

/// A node of kubeadm's, with its manifest as it is shipped.
struct Node {
    root: PathBuf,
    client: String,
    kubelet: Kubelet,
}

impl Node {
    fn new(folder: &Path) -> Node {
        let root = folder.join("node");
        for path in ["etc/kubernetes/manifests", "var/lib/etcd"] {
            fs::create_dir_all(root.join(path)).expect("a folder");
        }
        fs::set_permissions(root.join("var/lib/etcd"), fs::Permissions::from_mode(0o710))
            .expect("its mode");
        certificates(&root.join(PKI), &["server", "peer", "healthcheck-client"]);
        let ((client, peer), (metrics, _)) = (free_ports(), free_ports());
        let client = format!("https://127.0.0.1:{client}");
        let manifest = include_str!("../../../../deploy/kubeadm-etcd.yaml")
            .replace("https://127.0.0.1:2379,https://192.0.2.10:2379", &client)
            .replace("https://192.0.2.10:2379", &client)
            .replace("https://192.0.2.10:2380", &format!("https://127.0.0.1:{peer}"))
            .replace("http://127.0.0.1:2381", &format!("http://127.0.0.1:{metrics}"));
        fs::write(root.join(MANIFEST), manifest).expect("a manifest");
        let kubelet = Kubelet::start(&root, &folder.join("kubelet"));
        Node { root, client, kubelet }
    }

    fn pki(&self, name: &str) -> String {
        self.root.join(PKI).join(name).display().to_string()
    }

    /// What etcdctl says with the three flags, once it succeeds.
    fn says(&self, args: &[&str]) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = Command::new(our("etcdctl"))
                .args(["--endpoints", &self.client, "--command-timeout=3s"])
                .args(["--cacert", &self.pki("ca.crt")])
                .args(["--cert", &self.pki("healthcheck-client.crt")])
                .args(["--key", &self.pki("healthcheck-client.key")])
                .args(args)
                .output()
                .expect("it runs");
            if said.status.success() {
                return text(&said.stdout);
            }
            let err = text(&said.stderr);
            assert!(Instant::now() < end, "{args:?}: {err}\n{}", self.kubelet.log("etcd"));
        }
    }
}

/// As kube-apiserver writes one; the value is not text.
const SECRET: &str = "/registry/secrets/kube-system/bootstrap";

#[test]
fn kubeadm_is_backed_up_over_mutual_tls_and_restored_beside() {
    let folder = Folder::new("kubeadm");
    let node = Node::new(folder.path());
    node.says(&["put", SECRET, "k8s\u{1}v1 Secret password=opensesame"]);
    node.says(&["put", "/registry/pods/default/web", "pod"]);
    let file = folder.path().join("etcd.db");
    let backup = || script("kubeadm-backup.sh", &node.root);
    let strange = folder.path().join("strange");
    certificates(&strange, &["server"]);
    let stranger = |name: &str| strange.join(name).display().to_string();
    refuses(
        backup()
            .args(["--cert", &stranger("server.crt"), "--key", &stranger("server.key")])
            .arg(&file)
            .env("ETCDCTL_COMMAND_TIMEOUT", "3s"),
        "no snapshot from",
    );
    refuses(backup().args(["--cacert", "/nowhere.crt"]).arg(&file), "/nowhere.crt cannot be read");
    assert!(!file.exists());
    let said = succeeds(backup().arg(&file));
    assert!(said.contains("Snapshot saved at") && said.contains("REVISION"), "{said}");
    refuses(backup().arg(&file), "is there already");
    let named = folder.path().join("named.db");
    succeeds(
        backup()
            .args(["--endpoint", &node.client, "--cacert", &node.pki("ca.crt")])
            .args(["--cert", &node.pki("healthcheck-client.crt")])
            .args(["--key", &node.pki("healthcheck-client.key")])
            .arg(&named),
    );
    let mode = fs::metadata(&named).expect("it is there").mode();
    assert_eq!(mode & 0o77, 0, "it holds every Secret: {mode:o}");

    node.says(&["put", "later", "1"]);
    node.says(&["del", SECRET]);
    kubeadm_refusals(&node, folder.path(), &file);
    let old = fs::metadata(node.root.join("var/lib/etcd")).expect("it is there");
    let said = run(script("kubeadm-restore.sh", &node.root)
        .args(["--to", "/var/lib/etcd-restored", "--bump-revision", "1000000"])
        .arg(&file));
    assert!(said.status.success(), "{}\n{}", text(&said.stderr), node.kubelet.log("etcd"));
    let new = fs::metadata(node.root.join("var/lib/etcd-restored")).expect("it is there");
    assert_eq!((new.mode(), new.uid(), new.gid()), (old.mode(), old.uid(), old.gid()));
    let keys = node.says(&["get", "/", "--prefix", "--keys-only"]);
    let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(keys, ["/registry/pods/default/web", SECRET]);
    let secret = node.says(&["get", SECRET, "--print-value-only"]);
    assert!(secret.contains("password=opensesame"), "{secret}");
    assert_eq!(node.says(&["get", "later"]), "", "it came after the backup");
    let fields = node.says(&["get", "later", "-w", "fields"]);
    let revision = fields.lines().find_map(|line| line.strip_prefix("\"Revision\" : "));
    assert!(revision.is_some_and(|n| n.parse().is_ok_and(|n: i64| n > 1_000_000)), "{fields}");
    assert!(node.root.join("var/lib/etcd/member").is_dir(), "the old data is not touched");
}

/// Each leaves everything as it was.
fn kubeadm_refusals(node: &Node, folder: &Path, file: &Path) {
    let pid = node.kubelet.pid("etcd");
    let manifest = fs::read_to_string(node.root.join(MANIFEST)).expect("it is there");
    let restore = || script("kubeadm-restore.sh", &node.root);
    let to = ["--to", "/var/lib/etcd-restored"];
    refuses(restore().args(["--to", "/var/lib/etcd"]).arg(file), "choose a new directory");
    refuses(restore().args(to).arg("/nowhere.db"), "cannot be read");
    let mut flipped = fs::read(file).expect("a file");
    let at = flipped.len() - 40;
    flipped[at] ^= 1;
    let damaged = folder.join("flipped.db");
    fs::write(&damaged, flipped).expect("a file");
    refuses(restore().args(to).arg(&damaged), "cannot be restored");
    for words in [&["--to", "relative", "x"][..], &["--to", "/x"], &["--what", "x"]] {
        let told = run(restore().args(words));
        assert_eq!(told.status.code(), Some(2), "{}", text(&told.stderr));
    }
    assert!(!node.root.join("var/lib/etcd-restored").exists());
    assert_eq!(fs::read_to_string(node.root.join(MANIFEST)).expect("it is there"), manifest);
    assert_eq!(node.kubelet.pid("etcd"), pid);
}

#[test]
fn a_kubeadm_restore_whose_member_stays_away_says_how_to_go_back() {
    let folder = Folder::new("kubeadm-back");
    let node = Node::new(folder.path());
    node.says(&["put", "early", "1"]);
    let file = folder.path().join("etcd.db");
    succeeds(script("kubeadm-backup.sh", &node.root).arg(&file));
    node.says(&["put", "later", "1"]);
    // Nobody looks at manifests any more.
    let Node { root, client, kubelet } = node;
    drop(kubelet);
    let told = run(script("kubeadm-restore.sh", &root)
        .args(["--to", "/var/lib/etcd-new", "--patience", "1"])
        .arg(&file));
    let err = text(&told.stderr);
    assert_eq!(told.status.code(), Some(1), "{err}");
    let (_, undo) = err.split_once("was not touched: ").expect("a way back");
    assert!(Command::new("bash").args(["-euc", undo]).status().expect("bash runs").success());
    let kubelet = Kubelet::start(&root, &folder.path().join("second"));
    let node = Node { root, client, kubelet };
    assert_eq!(node.says(&["get", "later"]), "later\n1\n");
}

/// A host with etcd as a unit, and a systemctl of a few lines.
struct Systemd {
    root: PathBuf,
    systemctl: PathBuf,
    pid_file: PathBuf,
    client: String,
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Stopped already is as good.
        let _ = Command::new(&self.systemctl).args(["stop", "etcd"]).status();
    }
}

impl Systemd {
    /// The unit as it is shipped, its addresses in the file of its environment.
    fn new(folder: &Path, name: &str) -> Systemd {
        let root = folder.join(name);
        for path in ["etc/systemd/system", "etc/default", "var/lib/etcd"] {
            fs::create_dir_all(root.join(path)).expect("a folder");
        }
        let unit = include_str!("../../../../deploy/etcd.service")
            .replace("/usr/bin/etcd", &our("etcd").display().to_string());
        fs::write(root.join(UNIT), unit).expect("a unit");
        let (client, peer) = free_ports();
        let (client, peer) =
            (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let environment = format!(
            "ETCD_LISTEN_CLIENT_URLS=\"{client}\"\nETCD_ADVERTISE_CLIENT_URLS={client}\n\
             ETCD_LISTEN_PEER_URLS={peer}\nETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\n\
             ETCD_INITIAL_CLUSTER=$ETCD_NAME={peer}\n"
        );
        fs::write(root.join("etc/default/etcd"), environment).expect("a file");
        let pid_file = folder.join(format!("{name}.pid"));
        let systemctl = program(&folder.join(format!("{name}.systemctl")), SYSTEMCTL);
        let written = fs::read_to_string(&systemctl).expect("it is there");
        let written = written
            .replace("ROOT", &root.display().to_string())
            .replace("PID_FILE", &pid_file.display().to_string())
            .replace("ETCDCTL", &our("etcdctl").display().to_string());
        fs::write(&systemctl, written).expect("a file");
        let host = Systemd { root, systemctl, pid_file, client };
        succeeds(Command::new(&host.systemctl).args(["start", "etcd"]));
        host
    }

    fn pid(&self) -> String {
        fs::read_to_string(&self.pid_file).expect("it runs").trim().to_owned()
    }

    fn restore(&self) -> Command {
        let mut command = script("systemd-restore.sh", &self.root);
        command.env("SYSTEMCTL", &self.systemctl);
        command
    }

    fn says(&self, args: &[&str]) -> String {
        succeeds(Command::new(our("etcdctl")).args(["--endpoints", &self.client]).args(args))
    }
}

/// Reads the unit, its environment and the file of it; starts and stops one process.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -euo pipefail
unit=ROOT/etc/systemd/system/etcd.service
gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }
stop() {
  [ -f PID_FILE ] || return 0
  pid=$(cat PID_FILE); rm PID_FILE
  kill -TERM "$pid" 2>/dev/null || true
  until gone "$pid"; do sleep 0.02; done
}
start() {
  set -a
  while read -r line; do eval "${line//%H/$(uname -n)}"; done < <(sed -n 's/^Environment=//p' "$unit")
  . "ROOT$(sed -n 's/^EnvironmentFile=-*//p' "$unit")"
  [ -z "${ETCD_DATA_DIR:-}" ] || ETCD_DATA_DIR=ROOT$ETCD_DATA_DIR
  set +a
  command=$(sed -n 's/^ExecStart=//p' "$unit" | sed 's#--data-dir=/#--data-dir=ROOT/#')
  $command >>PID_FILE.log 2>&1 </dev/null &
  pid=$!
  echo $pid >PID_FILE
  until ETCDCTL --endpoints="$ETCD_ADVERTISE_CLIENT_URLS" endpoint health >/dev/null 2>&1; do
    ! gone $pid || exit 1
    sleep 0.02
  done
}
case $1 in
  stop) stop ;;
  start) start ;;
  restart) stop; start ;;
  daemon-reload) ;;
  is-active) ! gone "$(cat PID_FILE)" ;;
esac
"#;

#[test]
fn a_unit_is_pointed_at_what_was_restored() {
    let folder = Folder::new("systemd");
    let host = Systemd::new(folder.path(), "host");
    host.says(&["put", "early", "1"]);
    let file = folder.path().join("etcd.db");
    host.says(&["snapshot", "save", &file.display().to_string()]);
    host.says(&["put", "later", "1"]);
    let old = host.root.join("var/lib/etcd");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o750)).expect("its mode");
    // Only root gives files away.
    let root = fs::metadata(&old).expect("it is there").uid() == 0;
    if root {
        chown(&old, Some(4242), Some(4243)).expect("its owner");
    }
    refuses(host.restore().args(["--to", "/var/lib/etcd"]).arg(&file), "choose a new directory");
    refuses(
        host.restore().args(["--to", "/x", "--unit", "other"]).arg(&file),
        "no unit other.service",
    );
    let environment = host.root.join("etc/default/etcd");
    let plain = fs::read_to_string(&environment).expect("it is there");
    fs::write(&environment, format!("{plain}ETCD_DATA_DIR=/elsewhere\n")).expect("a file");
    refuses(host.restore().args(["--to", "/x"]).arg(&file), "exactly one line must set");
    fs::write(&environment, plain).expect("a file");
    assert_eq!(host.says(&["get", "later"]), "later\n1\n");

    succeeds(host.restore().args(["--to", "/srv/etcd-restored"]).arg(&file));
    assert_eq!(host.says(&["get", "", "--prefix", "--keys-only"]).trim(), "early");
    let unit = fs::read_to_string(host.root.join(UNIT)).expect("it is there");
    assert!(unit.contains("\nEnvironment=ETCD_DATA_DIR=/srv/etcd-restored\n"), "{unit}");
    let new = host.root.join("srv/etcd-restored");
    for path in [new.clone(), new.join("member/snap/db")] {
        let of = fs::metadata(&path).expect("it is there");
        assert!(!root || (of.uid(), of.gid()) == (4242, 4243), "{}", path.display());
    }
    assert_eq!(fs::metadata(&new).expect("it is there").mode() & 0o777, 0o750);
    let allowed = host.root.join("etc/systemd/system/etcd.service.d/restored.conf");
    assert!(
        fs::read_to_string(allowed)
            .expect("it is there")
            .contains("ReadWritePaths=-/srv/etcd-restored")
    );

    // A unit that does not come up with the new directory, and the way back.
    let broken = our("etcd").display().to_string();
    let text_of =
        unit.replace(&format!("ExecStart={broken}"), &format!("ExecStart={broken} --no-such-flag"));
    fs::write(host.root.join(UNIT), text_of).expect("a file");
    let told = run(host.restore().args(["--to", "/srv/third"]).arg(&file));
    let err = text(&told.stderr);
    assert!(told.status.code() == Some(1) && err.contains("etcd does not start"), "{err}");
    let (_, undo) = err.split_once("which was not touched, run:\n").expect("a way back");
    let mut lines: Vec<&str> = undo.lines().collect();
    let fix = format!("sed -i 's/ --no-such-flag//' {}", host.root.join(UNIT).display());
    let reload = lines.iter().position(|line| line.ends_with("daemon-reload")).expect("a line");
    lines.insert(reload, &fix);
    succeeds(Command::new("bash").args(["-euc", &lines.join("\n")]));
    assert_eq!(host.says(&["get", "", "--prefix", "--keys-only"]).trim(), "early");
}

#[test]
fn processes_are_told_apart_by_where_they_listen() {
    let folder = Folder::new("processes");
    let hosts = [Systemd::new(folder.path(), "a"), Systemd::new(folder.path(), "b")];
    let list = |args: &[&str]| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/etcd-processes.sh");
        run(Command::new("bash").arg(path).args(args))
    };
    let all = text(&list(&[]).stdout);
    for host in &hosts {
        let told = list(&[&host.client]);
        let said = text(&told.stdout);
        assert!(told.status.success(), "{}", text(&told.stderr));
        let fields: Vec<&str> = said.trim_end().split('\t').collect();
        let data = host.root.join("var/lib/etcd").display().to_string();
        assert_eq!(fields[..3], [host.pid().as_str(), &host.client, &data], "{said}");
        assert!(all.contains(&said), "{all}");
    }
    assert_eq!(list(&["http://127.0.0.1:1"]).status.code(), Some(1));
}
