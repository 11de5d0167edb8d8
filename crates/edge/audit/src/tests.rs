//! Lines, policies, and the way to the file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_log::Rotation;
use serde_json::{Value, json};

use crate::record::{Asked, By, Record, shown_key};
use crate::{Counts, Detail, Policy, Settings, Trail};

const CALLS: &[&str] =
    &["etcdserverpb.KV/Put", "etcdserverpb.KV/Range", "etcdserverpb.Auth/UserAdd"];

fn put(key: &[u8]) -> Record {
    let mut asked = Asked::default();
    asked.item("put", key, b"");
    Record {
        begun_micros: 951_782_400_000_001,
        took_micros: 7,
        call: CALLS[0],
        remote: "127.0.0.1:4711".to_owned(),
        user: "alice".to_owned(),
        by: By::Token,
        asked: Some(asked),
        code: "OK",
        revision: Some(12),
        ..Record::default()
    }
}

fn line(record: &Record) -> Value {
    let mut out = String::new();
    record.push_line(&mut out);
    assert_eq!(out.matches('\n').count(), 1, "{out:?}");
    assert!(out.ends_with('\n'));
    serde_json::from_str(&out).expect("a line is JSON")
}

#[test]
fn a_line_says_who_what_where_and_what_came_of_it() {
    let expected = json!({
        "ts": "2000-02-29T00:00:00.000001Z", "call": "etcdserverpb.KV/Put", "door": "grpc",
        "remote": "127.0.0.1:4711", "user": "alice", "by": "token",
        "items": [{"op": "put", "key": "/a"}], "code": "OK", "revision": 12, "took_us": 7,
    });
    assert_eq!(line(&put(b"/a")), expected);
    let mut refused = put(b"");
    let asked = refused.asked.as_mut().expect("set");
    asked.item("range", b"a", b"b");
    (asked.lease, asked.member) = (Some(0x7587), Some(0x8e9e));
    (asked.user, asked.role) = (Some("bob\n\"".to_owned()), Some("r".to_owned()));
    asked.detail = Some("READ".to_owned());
    (refused.code, refused.message, refused.revision) =
        ("PermissionDenied", "etcdserver: permission denied".to_owned(), None);
    (refused.gateway, refused.certificate) = (true, Some("node-1".to_owned()));
    let found = line(&refused);
    assert_eq!(found["items"][1], json!({"op": "range", "key": "a", "range_end": "b"}));
    for (name, value) in [
        ("lease", "7587"),
        ("member", "8e9e"),
        ("about_user", "bob\n\""),
        ("about_role", "r"),
        ("detail", "READ"),
        ("door", "gateway"),
        ("certificate", "node-1"),
        ("message", "etcdserver: permission denied"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    assert!(found.get("revision").is_none());
}

#[test]
fn no_two_keys_look_the_same_and_no_line_is_without_end() {
    let keys: [&[u8]; 8] = [
        b"a\x00",
        b"a\\x00",
        b"\xff",
        b"\\xff",
        "\u{ff}".as_bytes(),
        b"\n",
        b"\\n",
        "\u{85}".as_bytes(),
    ];
    let mut shown: Vec<String> = keys.iter().map(|key| shown_key(key)).collect();
    assert_eq!(shown[0], "a\\x00");
    shown.sort_unstable();
    shown.dedup();
    assert_eq!(shown.len(), keys.len());
    assert_eq!(shown_key(&[b'k'; 5000]).len(), 1024 + 3);
    let mut asked = Asked::default();
    for _ in 0..100_000 {
        asked.item("put", b"", b"");
    }
    assert_eq!(asked.items.len() + asked.more_items, 100_000);
    assert!(asked.items.len() < 10_000);
}

/// How much of a call is recorded under the rules in `yaml`.
fn detail(yaml: &str, change: impl FnOnce(&mut Record)) -> Detail {
    let mut record = put(b"/registry/events/x");
    change(&mut record);
    Policy::read(yaml, CALLS).expect("a policy").detail_of(&record)
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = "
rules:
- {detail: none, users: [\"\"], outcomes: done}
- {detail: call, calls: [Put], prefixes: [/registry/events/, /x]}
- {detail: none, calls: [etcdserverpb.KV/Put]}
";
    assert_eq!(detail(rules, |_| {}), Detail::Call);
    assert_eq!(detail(rules, |r| r.user.clear()), Detail::None);
    let fail = |r: &mut Record| (r.user, r.code) = (String::new(), "Unavailable");
    assert_eq!(detail(rules, fail), Detail::Call);
    // One key elsewhere is enough.
    assert_eq!(
        detail(rules, |r| r.asked.as_mut().expect("set").item("put", b"/y", b"")),
        Detail::None
    );
    assert_eq!(detail(rules, |r| r.call = CALLS[2]), Detail::Keys, "no rule fits");
    // A list that is left out fits all, an empty policy records all.
    assert_eq!(detail("rules: []", |_| {}), Detail::Keys);
}

#[test]
fn a_range_lies_below_a_prefix_as_a_whole_or_not_at_all() {
    let rules = "rules: [{detail: none, prefixes: [/p/]}]";
    for (key, end, is_below) in [
        (&b"/p/"[..], &b"/p0"[..], true),
        (b"/p/a", b"/p/b", true),
        (b"/p/a", b"", true),
        (b"/p/a", b"\0", false),
        (b"/p/a", b"/p1", false),
        (b"/p", b"/p/b", false),
        (b"/q", b"", false),
    ] {
        let found = detail(rules, |record| {
            let mut asked = Asked::default();
            asked.item("range", key, end);
            record.asked = Some(asked);
        });
        assert_eq!(found == Detail::None, is_below, "{key:?} {end:?}");
    }
    assert_eq!(detail(rules, |r| r.asked = Some(Asked::default())), Detail::Keys, "no keys");
}

#[test]
fn policies_that_would_not_do_what_they_say_are_refused() {
    for (yaml, why) in [
        ("rules: [{detail: none, calls: [Putt]}]", "no call \"Putt\""),
        ("rules: [{detail: everything}]", "everything"),
        ("rules: [{detail: none, user: [a]}]", "user"),
        ("- a", ""),
        ("", ""),
    ] {
        let error = Policy::read(yaml, CALLS).expect_err(yaml).to_string();
        assert!(error.contains(why), "{yaml}: {error}");
    }
}

#[test]
fn what_cannot_be_recorded_is_known_beforehand() {
    let may = |yaml: &str, call| Policy::read(yaml, CALLS).expect("a policy").may_record(call);
    let range = CALLS[1];
    assert!(!may("rules: [{detail: none, calls: [Range]}]", range));
    assert!(may("rules: [{detail: none, calls: [Range]}]", CALLS[0]));
    assert!(may("rules: [{detail: none, calls: [Range], outcomes: done}]", range));
    assert!(may("rules: [{detail: none, users: [a]}, {detail: call}]", range));
    assert!(!may("rules: [{detail: none, users: [a]}, {detail: none}]", range));
    let (by_default, ok) = (Policy::default(), Record { code: "OK", ..Record::default() });
    assert!(by_default.may_record(range), "when it fails");
    assert_eq!(by_default.detail_of(&Record { call: range, ..ok.clone() }), Detail::None);
    assert_eq!(by_default.detail_of(&Record { call: range, ..Record::default() }), Detail::Keys);
    assert_eq!(by_default.detail_of(&Record { call: CALLS[0], ..ok }), Detail::Keys);
}

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("audit-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn trail(&self, rotation: Option<Rotation>) -> Trail {
        let policy = Policy::read("rules: []", CALLS).expect("a policy");
        Trail::start(Settings { path: self.file(), rotation, policy }).expect("started")
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.log")
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file()).expect("the file");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

fn flush(trail: &Trail) {
    run(trail.flush());
}

fn record(trail: &Trail, key: &[u8]) {
    let slot = trail.slot_now().expect("room");
    trail.record(slot, put(key));
}

#[test]
fn lines_stand_in_the_file_in_order_and_for_its_owner_alone() {
    let folder = Folder::new("order");
    let trail = folder.trail(None);
    for n in 0..1000_u32 {
        record(&trail, n.to_string().as_bytes());
    }
    flush(&trail);
    let lines = folder.lines();
    assert_eq!(lines.len(), 1000);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(line["items"][0]["key"], n.to_string());
    }
    assert_eq!(trail.counts(), Counts { written: 1000, lost: 0 });
    let mode = fs::metadata(folder.file()).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_somebody_moves_away_is_made_anew() {
    let folder = Folder::new("moved");
    let trail = folder.trail(None);
    record(&trail, b"before");
    flush(&trail);
    fs::rename(folder.file(), folder.0.join("old")).expect("moved");
    while !folder.file().exists() {
        record(&trail, b"behind");
        flush(&trail);
    }
    record(&trail, b"last");
    flush(&trail);
    assert_eq!(folder.lines().last().expect("a line")["items"][0]["key"], "last");
}

#[test]
fn a_full_file_is_put_aside() {
    let folder = Folder::new("full");
    let rotation = Rotation { bytes_max: 1000, backups_max: 2, days_max: 0 };
    let trail = folder.trail(Some(rotation));
    for _ in 0..100 {
        record(&trail, b"k");
        flush(&trail);
    }
    let files = fs::read_dir(&folder.0).expect("the folder").count();
    assert_eq!(files, 3);
    assert!(folder.lines().len() < 10);
}

#[test]
fn calls_wait_for_room_and_those_that_cannot_are_counted() {
    let folder = Folder::new("room");
    let fifo = folder.0.join("audit.log");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    // Opened for reading and not read: the writer stands still once the pipe is full.
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::File::open(fifo).expect("opened")
    });
    let trail = folder.trail(None);
    let mut reader = reader.join().expect("opened");
    let mut sent = 0_u64;
    while let Some(slot) = trail.slot_now() {
        trail.record(slot, put(&[b'k'; 1024]));
        sent += 1;
    }
    assert_eq!(trail.counts().lost, 1);
    run(async {
        let early = tokio::time::timeout(Duration::from_millis(20), trail.slot()).await;
        assert!(early.is_err(), "there is no room");
        let drained = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).expect("read");
            text
        });
        let slot = trail.slot().await.expect("room");
        trail.record(slot, put(b"last"));
        drop(trail);
        let text = drained.join().expect("read");
        assert_eq!(text.lines().filter(|line| line.contains("\"lost\":1}")).count(), 1);
        assert_eq!(text.lines().count() as u64, sent + 2);
        assert!(text.ends_with("\"took_us\":7}\n"));
    });
}

#[test]
fn a_file_that_cannot_be_written_is_told_of_once_it_can() {
    let folder = Folder::new("broken");
    std::os::unix::fs::symlink("/dev/full", folder.file()).expect("a link");
    let trail = folder.trail(None);
    record(&trail, b"lost");
    flush(&trail);
    assert_eq!(trail.counts(), Counts { written: 0, lost: 1 });
    fs::remove_file(folder.file()).expect("removed");
    while !folder.file().exists() || folder.lines().is_empty() {
        record(&trail, b"k");
        flush(&trail);
    }
    let lines = folder.lines();
    assert!(lines[0]["lost"].as_u64().expect("a count") >= 1, "{}", lines[0]);
    assert_eq!(lines[1]["items"][0]["key"], "k");
}
