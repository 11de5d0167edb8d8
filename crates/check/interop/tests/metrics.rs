//! `/metrics` beside the real etcd's after the same requests: the same names, types and
//! labels, but for what is explained below.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use mainstay_interop::{Folder, Kind, Member, Peer, Start, peer};

/// Families of 3.5.16 that ours has not, by prefix, and why.
const MISSING: &[(&str, &str)] = &[
    ("go_", "there is no Go runtime"),
    ("etcd_debugging_disk_backend_commit_", "a commit has no such steps: pages are built once"),
    ("etcd_debugging_mvcc_range_total", "gone from etcd 3.6 on"),
    ("etcd_debugging_snap_save_marshalling_", "part of etcd_debugging_snap_save_total_"),
    ("etcd_debugging_store_", "there is no v2 store"),
    ("etcd_grpc_proxy_", "the proxy is not in this program, where they are always 0"),
];

/// Families of ours that 3.5.16 has not, and why.
const MORE: &[(&str, &str)] = &[
    ("etcd_debugging_server_watch_send_loop_", "new in 3.7"),
    ("etcd_network_known_peers", "registered from 3.6 on"),
    ("etcd_server_feature_enabled", "new in 3.6"),
    ("etcd_server_range_duration_seconds", "new in 3.6"),
    ("etcd_server_request_duration_seconds", "new in 3.7"),
    ("mainstay_", "of what etcd does not have"),
    ("process_network_", "of a newer client library, as in 3.7"),
];

/// A family: its type, and the sets of label names of its samples.
type Families = BTreeMap<String, (String, BTreeSet<BTreeSet<String>>)>;

fn families(text: &str) -> Families {
    let mut families = Families::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (family, kind) = typed.split_once(' ').expect("a name and a type");
            name = family.to_owned();
            families.insert(name.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').map_or("", |(_, rest)| rest);
            let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
            let labels = labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le");
            let family = families.get_mut(&name).expect("its type came before");
            family.1.insert(labels.collect());
        }
    }
    families
}

/// What a member of this kind shows after a little of everything.
fn shown_by(kind: Kind) -> Option<Families> {
    let folder = Folder::new("metrics");
    let ctl = peer(Peer::Etcdctl)?;
    let member = Start::new(kind, &folder.path().join("m.etcd")).run()?;
    let saved = folder.path().join("saved.db");
    let saved = saved.to_str().expect("a path of ours");
    for args in [
        &["put", "k", "v"][..],
        &["get", "k"],
        &["del", "k"],
        &["put", "k", "w"],
        &["lease", "grant", "60"],
        &["lease", "list"],
        &["compact", "3", "--physical"],
        &["endpoint", "hashkv"],
        &["endpoint", "status"],
        &["member", "list"],
        &["alarm", "list"],
        &["snapshot", "save", saved],
        &["defrag"],
    ] {
        let mut command = Command::new(&ctl);
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(member.endpoint()).args(args);
        let told = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let error = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{kind:?} {args:?}: {error}\n{}", member.log());
    }
    let text = metrics_of(&member);
    member.stop();
    Some(families(&text))
}

/// By HTTP/1.0, so that nobody answers in chunks.
fn metrics_of(member: &Member) -> String {
    let mut socket = TcpStream::connect(member.endpoint()).expect("the member listens");
    socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    answer.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
}

fn explained(name: &str, list: &[(&str, &str)]) -> bool {
    list.iter().any(|(prefix, _)| name.starts_with(prefix))
}

#[test]
fn names_types_and_labels_are_etcds() {
    let (Some(real), Some(ours)) = (shown_by(Kind::Real), shown_by(Kind::Ours)) else { return };
    let mut differ = Vec::new();
    for (name, (kind, labels)) in &real {
        match ours.get(name) {
            None if explained(name, MISSING) => {}
            None => differ.push(format!("{name}: etcd has it, a {kind} by {labels:?}")),
            Some((own, _)) if own != kind => differ.push(format!("{name}: a {own}, not a {kind}")),
            Some((_, own)) if own != labels => {
                differ.push(format!("{name}: labels {own:?}, not {labels:?}"));
            }
            Some(_) => {}
        }
    }
    let more = ours.keys().filter(|name| !real.contains_key(*name) && !explained(name, MORE));
    differ.extend(more.map(|name| format!("{name}: etcd has no such family")));
    for (list, families) in [(MISSING, &real), (MORE, &ours)] {
        let unused =
            list.iter().filter(|(prefix, _)| !families.keys().any(|f| f.starts_with(prefix)));
        differ.extend(unused.map(|(prefix, _)| format!("{prefix}: nothing to explain any more")));
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
