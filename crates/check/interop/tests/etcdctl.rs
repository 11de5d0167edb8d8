//! Our etcdctl beside Debian's etcdctl 3.5.16: the same command lines against a fresh
//! member of ours each must say the same, byte by byte.
//!
//! Where 3.7 says something else than 3.5, ours follows 3.7; those are in [`EXPLAINED`].

mod ctl;

use ctl::{Said, Session, Step, fed, run, step, until};
use mainstay_interop::{Kind, Peer, free_ports, our, peer};

/// What 3.5.16 says, what ours says, and why. Both are only the part that matters.
const EXPLAINED: &[(&str, &str, &str, &str)] = &[
    ("nonsense", "Error: unknown", "Error: unknown", "3.5 says the error twice"),
    ("get a --nope", "Error: unknown flag", "Error: unknown flag", "3.7's help goes to stderr"),
    ("get a --limit x", "strconv.ParseInt", "strconv.ParseInt", "3.7's help goes to stderr"),
    ("get a -w", "flag needs an", "flag needs an", "3.7's help goes to stderr"),
    ("snapshot save", "one argument", "one argument <filename>", "3.7's text"),
    ("snapshot save $FILE", "Snapshot saved", "Server version 3.7", "3.7 says the version"),
    ("snapshot save $FILE/x/y", "could not open", "could not open", "the system's words"),
    ("lease", "lease", "lease", "help is in our own words"),
    ("defrag", "Finished", "took T", "3.7 says how long"),
    ("defrag --cluster", "Finished", "took T", "3.7 says how long"),
    ("member list -w fields", "\"Revision\" : 0", "\"ClientURL\"", "3.7 hides what is not there"),
    ("watch w --rev 2 -w fields", "\"Revision\" : 0", "RaftTerm", "3.7 hides what is not there"),
    ("member list --hex -w json", "clientURLS", "clientURLs", "3.7 spells it as elsewhere"),
    ("member list --hex -w fields", "PeerURL", "PeerURL", "3.7 also shows these in hex"),
    ("get a -w fields --hex", "Lease", "Lease", "3.7 also shows these in hex"),
    ("get k --prefix --hex -w fields", "Lease", "Lease", "3.7 also shows these in hex"),
    ("del k --prefix --prev-kv --hex -w fields", "PrevKey", "PrevKey", "3.7 also shows ids in hex"),
    ("endpoint hashkv", ", ", ", ", "3.7 adds the hash revision"),
    ("endpoint hashkv -w json", "HashKV", "HashKV", "3.7 adds the hash revision"),
    ("endpoint hashkv -w fields", "Hash", "HashRevision", "3.7 adds the hash revision"),
    ("endpoint hashkv -w table", "HASH", "HASH REVISION", "3.7 adds the hash revision"),
];

fn compare(theirs: &[Said], ours: &[Said]) {
    let mut wrong = Vec::new();
    for (theirs, ours) in theirs.iter().zip(ours) {
        if let Some((_, old, new, _)) = EXPLAINED.iter().find(|e| e.0 == ours.line) {
            let has = |said: &Said, part| said.out.contains(part) || said.err.contains(part);
            if has(theirs, old) && has(ours, new) && theirs.code == ours.code {
                continue;
            }
        } else if theirs.code == ours.code
            && plain(&theirs.out) == plain(&ours.out)
            && theirs.err == ours.err
        {
            continue;
        }
        wrong.push(format!("theirs: {theirs:#?}\nours: {ours:#?}"));
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(theirs.len(), ours.len());
}

/// 3.7 draws tables with box characters, and names the reason of a cancel.
fn plain(text: &str) -> String {
    let text = text.replace(",\"CancelReason\":\"\"", "");
    let text = text.replace(
        ",\"CancelReason\":\"etcdserver: mvcc: required revision has been compacted\"",
        "",
    );
    let line = |c| match c {
        '─' => '-',
        '│' => '|',
        '┌' | '┬' | '┐' | '├' | '┼' | '┤' | '└' | '┴' | '┘' => '+',
        c => c,
    };
    text.chars().map(line).collect()
}

fn same(steps: &[Step]) {
    let Some(debian) = peer(Peer::Etcdctl) else { return };
    let ports = free_ports();
    let theirs = run(&debian, Kind::Ours, ports, steps).expect("ours is never missing");
    let ours = run(&our("etcdctl"), Kind::Ours, ports, steps).expect("ours is never missing");
    compare(&theirs, &ours);
}

const FORMS: [&str; 5] = ["simple", "json", "fields", "protobuf", "table"];

fn in_all_forms(lines: &[&str]) -> Vec<Step> {
    let with = |form| lines.iter().map(move |line| step(&format!("{line} -w {form}")));
    FORMS.into_iter().flat_map(with).collect()
}

#[test]
fn keys_in_all_forms() {
    same(&in_all_forms(&[
        "put k1 v1",
        "put k1 v2 --prev-kv",
        "put k2 \"quoted\\\"<&>\u{e9}",
        "put k3 v3",
        "get k1",
        "get none",
        "get k --prefix",
        "get k1 k3",
        "get k2 --from-key",
        "get k --prefix --keys-only",
        "get k --prefix --limit 2",
        "get k --prefix --order descend --sort-by modify",
        "get k --prefix --sort-by VALUE --order ASCEND",
        "get k --prefix --sort-by version",
        "get k1 --rev 3",
        "get k1 --consistency s",
        "get k --prefix --hex",
        "get k --prefix --count-only",
        "get k --prefix --print-value-only",
        "del k1 --prev-kv",
        "del none",
        "del k2 k3 --range --prev-kv",
        "del k --prefix --prev-kv --hex",
    ]));
}

#[test]
fn put_reads_its_value_from_input() {
    same(&[
        fed("put a", "a value\nof two lines\n"),
        step("get a -w json"),
        fed("put a", ""),
        step("put a b c"),
        step("put a --ignore-value"),
        step("put b --ignore-value"),
        step("put a -- -dashed"),
        step("get a"),
    ]);
}

#[test]
fn transactions_come_from_input() {
    const ALL: &str = "mod(\"a\") > \"0\"\nver(\"a\") = \"1\"\nvalue(\"a\") = \"1\"\ncreate(\"none\") = \"0\"\n\nput a \"two words\"\nget a\nput 'c d' e --prev-kv\ndel x --prefix\nget a --prefix --keys-only\n\nget a\n\n";
    let mut steps = vec![step("put a 1"), step("put ax 1")];
    for form in FORMS {
        steps.push(fed(Box::leak(format!("txn -w {form}").into_boxed_str()), ALL));
        steps.push(fed(Box::leak(format!("txn -i -w {form}").into_boxed_str()), ALL));
    }
    steps.extend([
        fed("txn", "\nput a 1\n\n\n"),
        fed("txn", "mod(\"a\") = \"0\"\n\n\nget a\n\n"),
        fed("txn", ""),
        fed("txn", "mod(\"a\") = \"x\"\n\n\n\n"),
        fed("txn", "mod(a) = \"0\"\n\n\n\n"),
        fed("txn", "mod(\"a\") = 0\n\n\n\n"),
        fed("txn", "nothing\n\n\n\n"),
        fed("txn", "size(\"a\") = \"0\"\n\n\n\n"),
        fed("txn", "\nget\n\n\n"),
        fed("txn", "\nwatch a\n\n\n"),
        fed("txn", "\nput a 1\nput a 2\n\n\n"),
        step("txn word"),
        step("get a --prefix -w json"),
    ]);
    same(&steps);
}

#[test]
fn watches_in_all_forms() {
    let mut steps = vec![step("put w 1"), step("put w 2"), step("put wa 3"), step("del w")];
    steps.extend([
        until("watch w --rev 2", 9),
        until("watch w --rev 2 --prev-kv", 13),
        until("watch w --prefix --rev 2 -w simple", 12),
        until("watch w --rev 2 --prev-kv --hex", 13),
        until("watch w --rev 2 -w json", 1),
        until("watch w --rev 3 --prev-kv -w fields", 28),
        until("watch w wz --rev 4", 6),
        until("watch w --rev 5 -- printenv ETCD_WATCH_KEY ETCD_WATCH_EVENT_TYPE", 5),
        until("watch w --rev 2 -w json -- printenv ETCD_WATCH_REVISION", 4),
        step("watch w --rev 5 -- false"),
        Step { env: vec![("ETCDCTL_WATCH_KEY", "w")], ..until("watch --rev 5", 3) },
        Step {
            env: vec![("ETCDCTL_WATCH_KEY", "w"), ("ETCDCTL_WATCH_RANGE_END", "x")],
            ..until("watch --rev 4", 6)
        },
        Step { env: vec![("ETCDCTL_WATCH_RANGE_END", "x")], ..step("watch --rev 4") },
        Step { env: vec![("ETCDCTL_WATCH_KEY", "w")], ..step("watch w") },
        step("watch"),
        step("watch w x --prefix"),
        Step { input: "watch w --rev 5\n", ..until("watch -i", 3) },
        Step { input: "watch w --rev 5 -w json\n", ..step("watch -i") },
        Step { input: "watch w --rev 5 -- echo happened\n", ..until("watch -i", 4) },
        fed("watch -i", "nonsense\n\nwatch\nwatch a b --prefix\n"),
        step("compaction 4"),
        step("watch w --rev 2"),
        step("watch w --rev 2 -w json"),
        step("watch w --rev 2 -w fields"),
    ]);
    same(&steps);
}

#[test]
fn leases_in_all_forms() {
    let mut steps = vec![step("lease list"), step("lease grant 1000")];
    steps.push(step("put a 1 --lease=$LEASE"));
    steps.push(step("get a -w fields"));
    steps.push(step("get a -w fields --hex"));
    for form in FORMS {
        for line in ["lease list", "lease keep-alive $LEASE --once", "lease timetolive 1"] {
            steps.push(step(&format!("{line} -w {form}")));
        }
    }
    steps.extend([
        step("lease timetolive $LEASE --keys -w table"),
        until("lease keep-alive $LEASE", 1),
        step("lease revoke $LEASE"),
        step("lease revoke $LEASE"),
        step("lease timetolive $LEASE"),
        step("lease keep-alive $LEASE --once"),
        step("lease keep-alive $LEASE"),
        step("lease keep-alive zz"),
        step("lease keep-alive"),
        step("lease timetolive"),
        step("lease timetolive 99999999999999999"),
        step("lease revoke"),
        step("lease grant"),
        step("lease grant x"),
        step("lease grant 99999999999"),
        step("lease list x"),
        step("lease"),
    ]);
    same(&steps);
}

#[test]
fn the_cluster_in_all_forms() {
    let mut steps = in_all_forms(&["put a 1", "member list", "alarm list"]);
    steps.extend([
        // With none raised; its fields form ends 3.5 with a panic.
        step("alarm disarm"),
        step("alarm disarm -w json"),
        step("alarm disarm -w protobuf"),
        step("member list --hex -w json"),
        step("member list --hex -w fields"),
        step("endpoint health"),
        step("endpoint health --cluster"),
        step("endpoint health -w json"),
        step("endpoint health -w protobuf"),
        step("endpoint status -w protobuf"),
        step("endpoint hashkv"),
        step("endpoint hashkv -w json"),
        step("endpoint hashkv -w fields"),
        step("endpoint hashkv -w table"),
        step("endpoint hashkv -w protobuf"),
        step("defrag"),
        step("defrag --cluster"),
        step("snapshot save"),
        step("snapshot save $FILE"),
        step("snapshot save $FILE/x/y"),
    ]);
    same(&steps);
}

#[test]
fn compactions_and_errors() {
    same(&[
        step("put a 1"),
        step("put a 2"),
        step("put a 3"),
        step("compaction 3"),
        step("compaction 3"),
        step("compaction 2"),
        step("compaction 4 --physical -w json"),
        step("compaction 99"),
        step("compaction x"),
        step("compaction"),
        step("get a --rev 2"),
        step("get a --rev 99"),
        step("get a -w json"),
        step("nonsense"),
        step("get"),
        step("get a b --prefix"),
        step("get a --prefix --from-key"),
        step("get a --keys-only --count-only"),
        step("get a --order x"),
        step("get a --sort-by x"),
        step("get a --consistency x"),
        step("get a --limit x"),
        step("get a --nope"),
        step("get a -w x"),
        step("put"),
        step("put a b --ignore-value"),
        step("put a x --lease zz"),
        step("put a x --lease 123"),
        step("del"),
        step("del a b c"),
        step("del a b --prefix"),
        step("del a --prefix --from-key"),
        step("get a --cert= --key="),
    ]);
}

#[test]
fn the_environment_gives_flags() {
    let Some(debian) = peer(Peer::Etcdctl) else { return };
    let mut session = Session::new(&debian, Kind::Ours, free_ports()).expect("ours");
    let endpoint: &'static str = Box::leak(format!("127.0.0.1:{}", session.port()).into());
    let env = |more: &[(&'static str, &'static str)]| {
        let mut env = vec![("ETCDCTL_ENDPOINTS", endpoint)];
        env.extend_from_slice(more);
        env
    };
    session.step(&step("put a 1"));
    for (line, env) in [
        ("get a", env(&[])),
        ("get a", env(&[("ETCDCTL_WRITE_OUT", "json")])),
        ("get a", env(&[("ETCDCTL_HEX", "true"), ("ETCDCTL_UNKNOWN", "x")])),
        ("get a -w json", env(&[("ETCDCTL_WRITE_OUT", "simple")])),
        ("get a", env(&[("ETCDCTL_WRITE_OUT", "")])),
        ("get a -w json", env(&[("ETCDCTL_WRITE_OUT", "")])),
    ] {
        let step = Step { env, ..step(line) };
        let theirs = session.with(&debian).step(&step);
        let ours = session.with(&our("etcdctl")).step(&step);
        assert_eq!(theirs, ours);
    }
}

#[test]
fn a_snapshot_is_one_that_debians_etcdctl_reads() {
    let Some(debian) = peer(Peer::Etcdctl) else { return };
    let mut session = Session::new(&our("etcdctl"), Kind::Ours, free_ports()).expect("ours");
    for n in 0..20 {
        session.step(&step(&format!("put k{n} v")));
    }
    let saved = session.step(&step("snapshot save $FILE"));
    assert_eq!(saved.code, Some(0), "{saved:?}");
    let status = session.with(&debian).step(&step("snapshot status $FILE -w json"));
    assert_eq!(status.code, Some(0), "{status:?}");
    let again = session.step(&step("snapshot save $FILE"));
    assert_eq!(again.code, Some(0), "{again:?}");
    let theirs = session.step(&step("snapshot status $FILE -w json"));
    assert_eq!(status.out, theirs.out, "the file of Debian's etcdctl says the same");
    assert!(status.out.contains("\"revision\":21"), "{status:?}");
}

#[test]
fn the_status_has_all_of_what_3_5_shows() {
    let Some(debian) = peer(Peer::Etcdctl) else { return };
    let mut session = Session::new(&debian, Kind::Ours, free_ports()).expect("ours");
    session.step(&step("put a 1"));
    let theirs = session.step(&step("endpoint status -w json"));
    let ours = session.with(&our("etcdctl")).step(&step("endpoint status -w json"));
    let read = |said: &Said| -> serde_json::Value {
        let list: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        list[0].clone()
    };
    let (theirs, ours) = (read(&theirs), read(&ours));
    assert_eq!(theirs["Endpoint"], ours["Endpoint"]);
    for (name, value) in theirs["Status"].as_object().expect("an object") {
        assert_eq!(value, &ours["Status"][name], "{name}");
    }
    for (form, columns) in [("simple", 16), ("table", 17)] {
        let said = session.step(&step(&format!("endpoint status -w {form}")));
        let marks = said.out.lines().nth(if form == "table" { 3 } else { 0 });
        let marks = marks.expect("a line").matches([',', '│']).count();
        assert_eq!(marks + usize::from(form == "simple"), columns, "{said:?}");
    }
}

#[test]
fn who_is_not_there_is_said_in_time() {
    let nobody = free_ports().0;
    let line = |command: &str| {
        step(&format!(
            "{command} --endpoints 127.0.0.1:{nobody} --command-timeout 1s --dial-timeout 1s"
        ))
    };
    let Some(debian) = peer(Peer::Etcdctl) else { return };
    let mut session = Session::new(&debian, Kind::Ours, free_ports()).expect("ours");
    for command in ["get a", "put a 1", "endpoint health", "member list"] {
        let theirs = session.with(&debian).step(&line(command));
        let ours = session.with(&our("etcdctl")).step(&line(command));
        assert_eq!(theirs, ours);
        assert_eq!(ours.code, Some(1));
    }
}

#[test]
fn flags_that_are_new_since_3_5_work() {
    let mut session = Session::new(&our("etcdctl"), Kind::Ours, free_ports()).expect("ours");
    for n in 0..4 {
        session.step(&step(&format!("put k{n} v{n}")));
    }
    for (line, code, out, err) in [
        ("get k --prefix --min-mod-rev 3 --max-mod-rev 4", 0, "k1\nv1\nk2\nv2\n", ""),
        ("get k --prefix --min-create-rev 5", 0, "k3\nv3\n", ""),
        (
            "get a --min-mod-rev 5 --max-mod-rev 3",
            4,
            "",
            "Error: getMinModRev(=5) > getMaxModRev(=3)\n",
        ),
        ("get k --prefix --stream --limit 1", 0, "k0\nv0\n", ""),
    ] {
        let said = session.step(&step(line));
        assert_eq!(
            (said.code, said.out.as_str(), said.err.as_str()),
            (Some(code), out, err),
            "{line}"
        );
    }
    assert_eq!(session.step(&step("member list --consistency s")).code, Some(0));
    let said = session.step(&fed("txn", "\nget a --nope\n\n\n"));
    assert_eq!(
        (said.code, said.err.as_str()),
        (Some(3), "Error: invalid txn request: get a --nope\n")
    );
}
