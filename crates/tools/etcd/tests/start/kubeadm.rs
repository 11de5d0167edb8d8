//! What kubeadm starts, started as it starts it: over mutual TLS, with its probes.

use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use super::http::{Pki, ask, get};
use super::peers::real_etcdctl;
use super::program::{Folder, Program, ours, outcome};

/// The manifest that we hand out.
fn manifest() -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/kubeadm-etcd.yaml");
    let text = std::fs::read_to_string(&path).expect("the manifest");
    serde_saphyr::from_str(&text).expect("YAML")
}

/// The command of a manifest with certificates and data in `folder`, on any ports; kubeadm's two
/// addresses become two of the loopback's.
fn command_of(manifest: &Json, folder: &Folder, pki: &Pki) -> Command {
    let container = &manifest["spec"]["containers"][0];
    let words: Vec<String> = container["command"]
        .as_array()
        .expect("a command")
        .iter()
        .map(|word| word.as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(words[0], "etcd");
    adapt(&words[1..], folder, pki)
}

fn adapt(words: &[String], folder: &Folder, pki: &Pki) -> Command {
    let mut command = ours();
    for word in words {
        let mut word = word
            .replace("/etc/kubernetes/pki/etcd/", &pki.at(""))
            .replace("/var/lib/etcd", &folder.at("data"))
            .replace("192.0.2.10", "127.0.0.2");
        for port in [":2379", ":2380", ":2381"] {
            word = word.replace(port, ":0");
        }
        command.arg(word);
    }
    command
}

/// Paths of a container's probes.
fn probes(manifest: &Json) -> Vec<String> {
    let container = &manifest["spec"]["containers"][0];
    let port = &container["ports"][0];
    assert_eq!(port["containerPort"], 2381);
    ["livenessProbe", "readinessProbe", "startupProbe"]
        .iter()
        .map(|probe| {
            let get = &container[probe]["httpGet"];
            assert_eq!((&get["port"], &get["scheme"]), (&port["name"], &"HTTP".into()));
            get["path"].as_str().expect("a path").to_owned()
        })
        .collect()
}

/// Holds that a member so started serves who shows a certificate, and nobody else.
fn check(member: &Program, pki: &Pki) {
    let clients = member.serving("listen-client-urls");
    let peers = member.serving("listen-peer-urls");
    assert_eq!((clients.len(), peers.len()), (2, 1), "{clients:?} {peers:?}");
    let healthy = (200, r#"{"health":"true","reason":""}"#.to_owned());
    for url in &clients {
        for name in ["client", "server"] {
            let answer = ask(url, "GET", "/health", Some(&pki.trust(Some(name))));
            assert_eq!(answer.expect("an answer"), healthy, "{url} {name}");
        }
    }
    let peer = ask(&peers[0], "GET", "/members", Some(&pki.trust(Some("peer"))));
    let (status, members) = peer.expect("an answer");
    assert!(status == 200 && members.contains(r#""name":"node-1""#), "{members}");
    for url in clients.iter().chain(&peers) {
        let answer = ask(url, "GET", "/version", Some(&pki.trust(None)));
        assert!(answer.is_err(), "no certificate, and {url} answered {answer:?}");
        let plain = ask(&url.replace("https", "http"), "GET", "/version", None);
        assert!(plain.as_ref().map_or(true, |(status, _)| *status >= 400), "{plain:?}");
    }
    for side in ["client", "peer"] {
        let line = member.wait_line(&format!("rejected connection on {side} endpoint"));
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.starts_with("tls: client didn't provide a certificate"), "{line}");
    }
}

#[test]
fn the_manifest_we_hand_out_starts_a_member() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    let manifest = manifest();
    let member = Program::start(command_of(&manifest, &folder, &pki));
    check(&member, &pki);
    let metrics = member.serving("listen-metrics-urls").remove(0);
    // Those of the manifest, and those of older and newer kubeadms.
    let more = [
        "/health?serializable=true",
        "/health?serializable=false",
        "/health?exclude=NOSPACE&serializable=true",
        "/livez",
        "/readyz?exclude=non_learner",
        "/readyz?exclude=data_corruption&verbose",
    ];
    for path in probes(&manifest).iter().map(String::as_str).chain(more) {
        let (status, body) = get(&metrics, path);
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert!(get(&metrics, "/metrics").1.contains("etcd_server_has_leader 1"));
    let lines = member.stop();
    let warnings: Vec<_> =
        lines.iter().filter(|line| !line.contains(r#""level":"info""#)).collect();
    // Every flag of it does what it says, and connections without a certificate are turned away.
    let known = |line: &&String| {
        !line.contains("rejected connection on") && !line.contains("simple token is not")
    };
    assert_eq!(warnings.into_iter().filter(known).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// kubeadm of Kubernetes before 1.34, for etcd 3.5.
#[test]
fn old_manifests_start_a_member_too() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    let mut manifest = manifest();
    let words = manifest["spec"]["containers"][0]["command"].as_array_mut().expect("a command");
    for word in words.iter_mut() {
        let old = match word.as_str().expect("a text") {
            "--feature-gates=InitialCorruptCheck=true" => {
                "--experimental-initial-corrupt-check=true"
            }
            "--watch-progress-notify-interval=5s" => {
                "--experimental-watch-progress-notify-interval=5s"
            }
            _ => continue,
        };
        *word = old.into();
    }
    let member = Program::start(command_of(&manifest, &folder, &pki));
    check(&member, &pki);
    assert_eq!(member.wait_line("tuning of")["watch-progress-notify-interval"], "5s");
    assert_eq!(
        member.wait_line("starting an etcd server")["feature-gates"],
        "InitialCorruptCheck=true"
    );
    for old in ["initial-corrupt-check", "watch-progress-notify-interval"] {
        member.wait_line(&format!("--experimental-{old} is deprecated in v3.6"));
    }
    member.stop();
    // The next start finds the member that this one made.
    let member = Program::start(command_of(&manifest, &folder, &pki));
    check(&member, &pki);
    member.stop();
}

#[test]
fn the_real_etcdctl_talks_to_it() {
    let Some(etcdctl) = real_etcdctl() else { return };
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    let member = Program::start(command_of(&manifest(), &folder, &pki));
    for url in member.serving("listen-client-urls") {
        let run = |words: &str| {
            let mut command = Command::new(&etcdctl);
            command.env_clear().arg(format!("--endpoints={url}")).args([
                format!("--cacert={}", pki.at("ca.crt")),
                format!("--cert={}", pki.at("client.crt")),
                format!("--key={}", pki.at("client.key")),
            ]);
            let (code, stdout, stderr) = outcome({
                command.args(words.split(' '));
                command
            });
            assert_eq!(code, 0, "{words}: {stderr}");
            stdout
        };
        assert_eq!(run("put greeting hello"), "OK\n");
        assert_eq!(run("get greeting"), "greeting\nhello\n");
        assert!(run("endpoint health").contains("is healthy"));
    }
    member.stop();
}
