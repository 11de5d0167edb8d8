//! `dump-logs`, `dump-db` and `bbolt`.

use bytes::Bytes;
use mainstay_proto::{authpb, etcdserverpb as pb, membershippb};

use crate::made::{Folder, Plan, find, flip, run, run_as, segments};

#[test]
fn a_log_is_dumped_from_its_newest_snapshot_or_an_index() {
    let folder = Folder::new();
    Plan { snapshots: vec![10, 30], ..Plan::default() }.make(&folder.0);
    let out = run(&folder.0, "dump-logs $D").ok();
    let head = "Snapshot:\nterm=2 index=30 nodes=[1] confstate={\"voters\":[1],\"auto_leave\":false}\n\
                Start dumping log entries from snapshot.\nWAL metadata:\n\
                nodeID=1 clusterID=7 term=2 commitIndex=40 vote=1\nWAL entries: 10\nlastIndex=40\n\
                term\t     index\ttype\tdata\n   2\t        31\tnorm\theader:<ID:31 > put:<key:\"key00031\" ";
    assert!(out.starts_with(head), "{out}");
    assert!(out.ends_with("\n\nEntry types (Normal,ConfigChange) count is : 10\n"), "{out}");
    let out = run_as("/usr/bin/etcd-dump-logs", &folder.0, "-start-index 1 -end-index=4 $D").ok();
    assert!(out.contains("   1\t         1\tconf\tmethod=ConfChangeAddNode id=1\n"), "{out}");
    assert!(out.contains("WAL entries: 3\nlastIndex=3\n"), "{out}");
    let first = format!("{:016x}-{:016x}.snap", 2, 10);
    let out = run(&folder.0, &format!("dump-logs --start-snap {first} $D")).ok();
    assert!(out.contains("WAL entries: 30\n"), "{out}");
    let out = run(&folder.0, "dump-logs -start-index 1 -entry-type IRRTxn,ConfigChange,Nope $D");
    assert!(out.log.contains("[Nope] is not a valid entry-type"), "{}", out.log);
    assert!(out.ok().ends_with("count is : 1\n"));
    let raw = run(&folder.0, "dump-logs -raw $D").ok();
    assert!(
        raw.starts_with("CRC: 0\nMetadata: NodeID:1 ClusterID:7 \nSnapshot: index:0 term:0\n"),
        "{raw}"
    );
    assert!(raw.ends_with("EOF: All entries were processed.\n"));
    assert!(run(&folder.0, "dump-logs").failed().1.starts_with("Must provide data-dir"));
    assert!(run(&folder.0, "dump-logs -raw -entry-type Normal $D").failed().1.contains("RAW mode"));
}

#[test]
fn a_damaged_log_is_dumped_as_far_as_it_goes() {
    let folder = Folder::new();
    Plan::default().make(&folder.0);
    let segment = &segments(&folder.0)[0];
    flip(segment, find(segment, b"key00020").expect("it is there"), 0);
    let (code, message, out) = run(&folder.0, "dump-logs $D").failed();
    assert!(code == 1 && message.contains("is damaged at offset"), "{message}");
    assert!(out.contains("lastIndex=19\n"), "{out}");
    let said = run(&folder.0, "dump-logs --raw $D");
    assert!(said.log.contains("CRC error"), "{}", said.log);
    assert!(said.ok().contains("Index:40"), "the rest is shown");
}

/// One of every request that a log may hold.
fn requests() -> Vec<pb::InternalRaftRequest> {
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: Bytes::from_static(b"a"),
            target_union: Some(pb::compare::TargetUnion::Version(3)),
            ..Default::default()
        }],
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestTxn(pb::TxnRequest::default())),
        }],
        ..Default::default()
    };
    let none = pb::InternalRaftRequest::default;
    let attributes = membershippb::ClusterMemberAttrSetRequest {
        member_id: 1,
        member_attributes: Some(membershippb::Attributes {
            name: "n".into(),
            client_urls: vec!["u".into(), "v".into()],
        }),
    };
    let permission = authpb::Permission { perm_type: 2, key: "k".into(), ..Default::default() };
    vec![
        pb::InternalRaftRequest { range: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { put: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { delete_range: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { txn: Some(txn), ..none() },
        pb::InternalRaftRequest { compaction: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { lease_grant: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { lease_revoke: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { alarm: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { lease_checkpoint: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_enable: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_disable: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_status: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { authenticate: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_user_add: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_user_delete: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_user_get: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_user_change_password: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_user_grant_role: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_user_revoke_role: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_user_list: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_role_list: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_role_add: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_role_delete: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { auth_role_get: Some(Default::default()), ..none() },
        pb::InternalRaftRequest {
            auth_role_grant_permission: Some(pb::AuthRoleGrantPermissionRequest {
                name: "r".into(),
                perm: Some(permission),
            }),
            ..none()
        },
        pb::InternalRaftRequest { auth_role_revoke_permission: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { cluster_version_set: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { cluster_member_attr_set: Some(attributes), ..none() },
        pb::InternalRaftRequest { downgrade_info_set: Some(Default::default()), ..none() },
        pb::InternalRaftRequest { downgrade_version_test: Some(Default::default()), ..none() },
    ]
}

#[test]
fn every_request_is_shown_by_its_name() {
    for request in requests() {
        let folder = Folder::new();
        let name = format!("{request:?}");
        Plan { entries: 3, applied: 2, last: Some(request), ..Plan::default() }.make(&folder.0);
        let out = run(&folder.0, "dump-logs $D").ok();
        let row = out.lines().find(|line| line.contains("\t         3\t")).expect("a row");
        let data = row.rsplit('\t').next().expect("data");
        assert!(data.contains(":<") && data.ends_with("> "), "{row}: {name}");
        assert!(!data.starts_with(|c: char| c.is_ascii_digit()), "{row}: {name}");
    }
}

#[test]
fn a_db_is_dumped_row_by_row() {
    let folder = Folder::new();
    Plan::default().make(&folder.0);
    let names = run_as("etcd-dump-db", &folder.0, "list-bucket $D").ok();
    assert_eq!(names.lines().count(), 10);
    assert_eq!(names, run(&folder.0, "bbolt buckets $S").ok());
    let rows = run(&folder.0, "dump-db iterate-bucket $S key --decode --limit 2").ok();
    let want = "rev={Revision:{Main:40 Sub:0} tombstone:false}, value=[key \"key00040\" | val \"";
    assert!(rows.starts_with(want) && rows.lines().count() == 2, "{rows}");
    assert!(
        run(&folder.0, "dump-db iterate-bucket $D meta --decode")
            .ok()
            .contains("key=\"consistent_index\", value=40\n")
    );
    let keys = run(&folder.0, "dump-db scan-keys $D 38").ok();
    assert!(
        keys.contains("{Main:38 ") && keys.contains("{Main:40 ") && !keys.contains("{Main:37 ")
    );
    let (_, message, _) = run(&folder.0, "dump-db iterate-bucket $D nope").failed();
    assert_eq!(message, "got nil bucket for nope");
    let (_, message, _) = run(&folder.0, "dump-db list-bucket /none/db").failed();
    assert_eq!(message, "\"/none/db\" does not exist");
}

#[test]
fn a_file_is_inspected_page_by_page() {
    let folder = Folder::new();
    Plan { entries: 300, applied: 300, value_bytes: 200, ..Plan::default() }.make(&folder.0);
    assert_eq!(run(&folder.0, "bbolt check $S").ok(), "OK\n");
    assert!(run(&folder.0, "bbolt info $S").ok().starts_with("Page Size: 4096\n"));
    let pages = run(&folder.0, "bbolt pages $S").ok();
    assert!(pages.starts_with("ID       TYPE       ITEMS  OVRFLW\n"), "{pages}");
    assert!(pages.contains("branch") && pages.contains("leaf"), "{pages}");
    let branch = pages.lines().find(|line| line.contains("branch")).expect("a branch");
    let id = branch.split(' ').next().expect("an id");
    assert!(run(&folder.0, &format!("bbolt page $S 0 {id}")).ok().contains(": <pgid="));
    assert!(run(&folder.0, "bbolt page $S --all").ok().contains("Page Type:  meta"));
    assert!(run(&folder.0, "bbolt stats $S").ok().contains("Aggregate statistics for 10 buckets"));
    let keys = run(&folder.0, "bbolt keys $S members").ok();
    assert_eq!(keys, "1\n");
    let value = run(&folder.0, "bbolt get $S members 1").ok();
    assert!(value.starts_with("{\"id\":1,"), "{value}");
    let key = format!("{:016x}5f{:016x}", 2, 0);
    let hex =
        run(&folder.0, &format!("bbolt get $S key {key} --parse-format hex --format hex")).ok();
    assert!(hex.starts_with("0a08"), "{hex}");
    let value = run(&folder.0, "bbolt get $S members 1 --format redacted").ok();
    assert!(value.starts_with("<redacted len:"), "{value}");
    for (line, want) in [
        ("bbolt check /none", "source database file \"/none\" doesn't exist"),
        ("bbolt keys $S nope", "bucket not found"),
        ("bbolt page $S", "page id required"),
        ("bbolt get $S key", "bucket is required: bucket required"),
    ] {
        assert_eq!(run(&folder.0, line).failed().1, want, "{line}");
    }
}
