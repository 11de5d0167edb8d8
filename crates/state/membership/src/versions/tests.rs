//! Downgrades and finalizing, rule by rule.

use super::*;
use crate::Downgrade;

fn cluster(version: Option<&str>, target: Option<&str>) -> Membership {
    let mut cluster = Membership::default();
    if let Some(version) = version {
        cluster.set_version(version.parse().expect("a version"));
    }
    if let Some(target) = target {
        cluster.set_downgrade(Downgrade { target: target.to_owned(), enabled: true });
    }
    cluster
}

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

#[test]
fn targets_are_read_as_etcd_reads_them() {
    for (text, read) in [
        ("3.6", Some((3, 6))),
        ("3.6.0", Some((3, 6))),
        ("3.6.9", Some((3, 6))),
        ("3.6.0-rc.1", Some((3, 6))),
        ("3.6.0+build", Some((3, 6))),
        ("03.06", Some((3, 6))),
        ("3.6-rc.1", None),
        ("3.6+build", None),
        ("3", None),
        ("", None),
        (".", None),
        ("3.", None),
        ("3.6.", None),
        ("3.6.0.0", None),
        ("v3.6", None),
        (" 3.6", None),
        ("+3.6", None),
        ("-3.6", None),
        ("3.x", None),
        ("3.9223372036854775808", None),
        ("3.9223372036854775807", Some((3, i64::MAX as u64))),
    ] {
        let read = read.map(|(major, minor)| Version::line(major, minor));
        assert_eq!(downgrade_target(text).ok(), read, "{text:?}");
    }
    assert_eq!(downgrade_target("x"), Err(DowngradeError::WrongFormat));
}

#[test]
fn only_the_next_lower_minor_can_be_reached() {
    use DowngradeError::{InProgress, InvalidTarget, NoClusterVersion};
    for (now, job, target, answer) in [
        (Some("3.7.0"), None, "3.6.0", Ok(())),
        (Some("3.7.0"), None, "3.6.5", Ok(())),
        (Some("3.7.0"), None, "3.7.0", Err(InvalidTarget)),
        (Some("3.7.0"), None, "3.5.0", Err(InvalidTarget)),
        (Some("3.7.0"), None, "3.8.0", Err(InvalidTarget)),
        (Some("3.7.0"), None, "2.6.0", Err(InvalidTarget)),
        (Some("4.0.0"), None, "3.9.0", Err(InvalidTarget)),
        (None, None, "3.6.0", Err(NoClusterVersion)),
        (Some("3.7.0"), Some("3.6.0"), "3.6.0", Err(InProgress)),
        // A wrong target is told first.
        (Some("3.7.0"), Some("3.6.0"), "3.5.0", Err(InvalidTarget)),
        // The cluster is at the target already, and the job not over.
        (Some("3.6.0"), Some("3.6.0"), "3.5.0", Err(InProgress)),
    ] {
        assert_eq!(may_downgrade(&cluster(now, job), version(target)), answer, "{now:?} {target}");
    }
    assert_eq!(may_cancel_downgrade(&cluster(Some("3.7.0"), Some("3.6.0"))), Ok(()));
    let none = may_cancel_downgrade(&cluster(Some("3.7.0"), None));
    assert_eq!(none, Err(DowngradeError::NotInProgress));
}

fn members(versions: &[Option<&str>]) -> Vec<MemberVersion> {
    let named = versions.iter().zip(1..);
    let members = named.map(|(text, id)| MemberVersion {
        id: MemberId(id),
        name: if id == 3 { String::new() } else { format!("m{id}") },
        server: text.map(version),
    });
    members.collect()
}

#[test]
fn what_holds_a_version_is_named() {
    let ours = Some("3.7.1");
    for (now, job, versions, texts) in [
        (Some("3.7.0"), None, &[ours, ours][..], &[][..]),
        (Some("3.5.0"), None, &[ours, ours], &["it is held until `etcdctl upgrade finalize`"]),
        (None, None, &[ours], &["it is held until `etcdctl upgrade finalize`"]),
        (Some("3.5.0"), None, &[ours, Some("3.5.16")], &["member m2 (2) runs 3.5.16"]),
        (
            Some("3.5.0"),
            None,
            &[ours, Some("3.6.4")],
            &["member m2 (2) runs 3.6.4", "it is held until `etcdctl upgrade finalize`"],
        ),
        (
            Some("3.5.0"),
            None,
            &[ours, None, None],
            &["member m2 (2) does not answer", "member 3 does not answer"],
        ),
        (Some("3.7.0"), Some("3.6.0"), &[ours], &["a downgrade to 3.6.0 is under way"]),
        // Another patch is no other version.
        (Some("3.7.0"), None, &[ours, Some("3.7.0")], &[]),
    ] {
        let holds = holds(&cluster(now, job), &members(versions));
        let said: Vec<String> = holds.iter().map(ToString::to_string).collect();
        assert_eq!(said, texts, "{now:?} {versions:?}");
    }
}

#[test]
fn a_cluster_is_finalized_at_its_lowest_member() {
    let ours = Some("3.7.1");
    for (now, job, versions, answer) in [
        (Some("3.5.0"), None, &[ours, ours][..], Ok("3.7.0")),
        (Some("3.5.0"), None, &[ours, Some("3.6.4")], Ok("3.6.0")),
        (Some("3.5.0"), None, &[ours, Some("3.5.16")], Ok("3.5.0")),
        (Some("3.7.0"), None, &[ours], Ok("3.7.0")),
        (Some("3.7.0"), None, &[Some("3.6.4")], Ok("3.7.0")),
        (None, None, &[ours], Ok("3.7.0")),
        (Some("3.5.0"), None, &[ours, None], Err("member m2 (2) does not answer")),
        (Some("3.7.0"), Some("3.6.0"), &[ours], Err("a downgrade to 3.6.0 is under way")),
    ] {
        let answered = finalized(&cluster(now, job), &members(versions));
        let answered = answered.map_err(|hold| hold.to_string());
        assert_eq!(answered, answer.map(version).map_err(str::to_owned), "{now:?} {versions:?}");
    }
}

#[test]
fn refusals_say_what_etcd_says() {
    for (error, text) in [
        (DowngradeError::WrongFormat, "etcdserver: wrong downgrade target version format"),
        (
            DowngradeError::NoClusterVersion,
            "etcdserver: cluster version not found during downgrade",
        ),
        (DowngradeError::InvalidTarget, "etcdserver: invalid downgrade target version"),
        (DowngradeError::InProgress, "etcdserver: cluster has a downgrade job in progress"),
        (DowngradeError::NotInProgress, "etcdserver: no inflight downgrade job"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
