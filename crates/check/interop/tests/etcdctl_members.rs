//! Our etcdctl beside Debian's etcdctl 3.5.16 on clusters of three real members: the
//! same command lines about members, leaders and endpoints must say the same, byte by
//! byte, but for times, terms and the ids of members that were added.
//!
//! Where 3.7 says something else than 3.5, ours follows 3.7; those are in [`EXPLAINED`].

mod trio;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use mainstay_interop::{Kind, our};
use trio::{Ports, Said, Trio, command, debian, eventually, ports, run};

/// The start of a line, what 3.5.16 says, what ours says, and why. Both are only the
/// part that matters; the exit codes are equal.
const EXPLAINED: &[(&str, &str, &str, &str)] = &[
    ("member add m4 --learner", "added to", "added as learner to", "3.7 says so"),
    ("member list -w fields", "\"Revision\" : 0", "\"ClientURL\"", "3.7 hides what is not there"),
    ("member list --hex -w json", "clientURLS", "clientURLs", "3.7 spells it as elsewhere"),
    ("member remove $M4 --hex -w json", "r_id\":", "r_id\":\"", "3.7 has hex here too"),
    ("endpoint hashkv --cluster -w simple", ", ", ", 0", "3.7 adds the hash revision"),
    ("endpoint hashkv --cluster -w table", "HASH", "HASH REVISION", "3.7 adds the hash revision"),
];

/// `$M1` to `$M4` are ids, `$URL4` is the peer URL of a member to come, `$URL1` one that
/// is taken, `$ALL` all endpoints.
const STEPS: &[&str] = &[
    "member list",
    "member list -w json",
    "member list -w table",
    "member list -w fields",
    "member list --hex -w json",
    "endpoint health --cluster",
    "endpoint status --cluster -w json",
    "endpoint hashkv --cluster -w simple",
    "endpoint hashkv --cluster -w json",
    "endpoint hashkv --cluster -w table",
    "member add",
    "member add m4",
    "member add m4 http://x:1",
    "member add m4 m5 --peer-urls=$URL4",
    "member add m4 --peer-urls=$URL1",
    "member add m4 --peer-urls=127.0.0.1:1",
    "member add m4 --peer-urls=http://x:1/path",
    "member add m4 --peer-urls=http://x",
    "member add m4 --peer-urls=x:1",
    "member add m4 --peer-urls=http://x:y",
    "member add m4 --peer-urls=,",
    "member add m4 --peer-urls=http://127.0.0.1:1 -w x",
    "member add m4 --learner --peer-urls=$URL4",
    "member list",
    "member list -w json",
    "member list -w table",
    "member add m5 --learner --peer-urls=http://127.0.0.1:1",
    "member add m5 --peer-urls=$URL4",
    "member promote $M4",
    "member remove $M4 -w json",
    "member remove $M4",
    "member add m4 --peer-urls=$URL4 -w json",
    "member update $M4 --peer-urls=http://127.0.0.1:1,http://127.0.0.1:2",
    "member list",
    "member update $M4 --peer-urls=$URL1",
    "member update $M4 --peer-urls=$URL4 -w json",
    "member update $M4 --peer-urls=x",
    "member update $M4",
    "member update",
    "member update zz --peer-urls=$URL4",
    "member update 123 --peer-urls=http://127.0.0.1:9",
    "member remove $M4 --hex -w json",
    "member add m4 --peer-urls=$URL4 -w table",
    "member list",
    "member remove $M4",
    "member add m4 --peer-urls=$URL4 -w fields",
    "member list",
    "member remove $M4",
    "member remove",
    "member remove a b",
    "member remove zz",
    "member remove +1",
    "member remove 10000000000000000",
    "member remove 123",
    "member promote",
    "member promote zz",
    "member promote $M2",
    "member promote 123",
    "move-leader",
    "move-leader $M2 $M3",
    "move-leader zz",
    "move-leader 123",
    "move-leader $M2",
    "move-leader $M2",
    "move-leader $M3 --endpoints=$ALL",
    "move-leader $M1 --endpoints=$ALL -w json",
    "move-leader $M1 --endpoints=$ALL -w fields",
    "move-leader $M1 --endpoints=$ALL -w table",
];

/// Ids by their place holders.
struct Names {
    fixed: Vec<(&'static str, u64)>,
    /// The member that was added last.
    added: Option<u64>,
}

impl Names {
    fn read(trio: &Trio, ctl: &Path) -> Names {
        let line = format!("member list -w json --endpoints={}", trio.endpoint(0));
        let members: serde_json::Value =
            serde_json::from_str(&run(ctl, &line).out).expect("a list of members");
        let id = |name: &str| {
            let mut members = members["members"].as_array().expect("a list").iter();
            let member = members.find(|member| member["name"] == name).expect("it is there");
            member["ID"].as_u64().expect("a number")
        };
        let fixed = vec![("$M1", id("m1")), ("$M2", id("m2")), ("$M3", id("m3"))];
        Names { fixed, added: None }
    }

    fn filled(&self, trio: &Trio, step: &str) -> String {
        let mut line = step.to_owned();
        for (name, id) in &self.fixed {
            line = line.replace(name, &format!("{id:x}"));
        }
        let added = self.added.map(|id| format!("{id:x}")).unwrap_or_default();
        line.replace("$M4", &added)
            .replace("$URL4", &trio.peer_url(3))
            .replace("$URL1", &trio.peer_url(0))
            .replace("$ALL", &trio.endpoints())
    }

    /// Who is in the cluster beside the first three.
    fn learn(&mut self, trio: &Trio, ctl: &Path) {
        let line = format!("member list -w json --endpoints={}", trio.endpoint(0));
        let Ok(list) = serde_json::from_str::<serde_json::Value>(&run(ctl, &line).out) else {
            return;
        };
        let members = list["members"].as_array().cloned().unwrap_or_default();
        let ids = members.iter().filter_map(|member| member["ID"].as_u64());
        let new = ids.into_iter().find(|id| self.fixed.iter().all(|(_, known)| known != id));
        self.added = new.or(self.added);
    }

    fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(id) = self.added {
            text = text.replace(&format!("{id:16x}"), "ADDED").replace(&format!("{id:x}"), "ADDED");
            text = text.replace(&id.to_string(), "ADDED");
        }
        for field in [
            "raft_term",
            "raftIndex",
            "raftTerm",
            "raftAppliedIndex",
            "dbSize",
            "leader",
            "dbSizeInUse",
            "revision",
        ] {
            text = without_number(&text, &format!("\"{field}\":"));
        }
        text = without_number(&text, "\"RaftTerm\" : ");
        without_time(&text)
    }
}

/// The number that follows each `before` is no matter.
fn without_number(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(before);
        masked.push('N');
        masked.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    masked
}

fn without_time(text: &str) -> String {
    let line = |line: &str| match line.split_once("took = ") {
        Some((before, _)) => format!("{before}took = T\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Waits until an id can be made that nobody has had: it comes from URLs and second.
fn next_second() {
    let second = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        now.as_secs()
    };
    let before = second();
    eventually("the next second", || (second() > before).then_some(()));
}

/// Members come by their ids, and some ids come from the clock.
fn in_order(text: &str) -> String {
    let line = |line: &str| {
        let (before, rest, between) = if let Some((before, rest)) = line.split_once("\"members\":[")
        {
            (before, rest, "},{")
        } else if let Some((before, rest)) = line.split_once("ETCD_INITIAL_CLUSTER=\"") {
            (before, rest, ",")
        } else {
            return format!("{line}\n");
        };
        let ends = |c: char| "{}[]\"".contains(c);
        let mut parts: Vec<&str> =
            rest.split(between).map(|part| part.trim_matches(ends)).collect();
        parts.sort_unstable();
        format!("{before}{}\n", parts.join(between))
    };
    text.lines().map(line).collect()
}

/// Answers come in the order in which they arrive.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// 3.7 draws tables with box characters.
fn plain(text: &str) -> String {
    let sign = |c| match c {
        '─' => '-',
        '│' => '|',
        '┌' | '┬' | '┐' | '├' | '┼' | '┤' | '└' | '┴' | '┘' => '+',
        c => c,
    };
    text.chars().map(sign).collect()
}

/// Runs the steps with `ctl` against a fresh cluster on these ports.
fn tell(ctl: &Path, setup: &Path, kind: Kind, ports: Ports, steps: &[&str]) -> Option<Vec<Said>> {
    let mut trio = Trio::start(kind, ports)?;
    let mut names = Names::read(&trio, setup);
    settle(&trio, &names, setup);
    let mut said = Vec::new();
    for step in steps {
        if let Some(n) = step.strip_prefix("kill ") {
            trio.kill(n.parse().expect("a number"));
            continue;
        }
        let mut line = names.filled(&trio, step);
        if !line.contains("--endpoints") {
            line.push_str(&format!(" --endpoints={}", trio.endpoint(0)));
        }
        if step.starts_with("member add") {
            next_second();
        }
        let told = run(ctl, &line);
        if step.starts_with("member add") {
            names.learn(&trio, setup);
        }
        let (out, err) = (names.masked(&told.out), names.masked(&told.err));
        let (out, err) = (sorted(&in_order(&plain(&out))), sorted(&err));
        said.push(Said { code: told.code, out, err });
    }
    Some(said)
}

/// Waits until the members have been connected for long enough to let others join, and
/// the first one leads.
fn settle(trio: &Trio, names: &Names, ctl: &Path) {
    let first = trio.endpoint(0);
    let added = eventually("members are connected", || {
        let line = format!("member add x --peer-urls=http://127.0.0.1:7 --endpoints={first}");
        let said = run(ctl, &line);
        (said.code == Some(0)).then_some(said.out)
    });
    let id = added.split_whitespace().nth(1).expect("Member ID added").to_owned();
    eventually("the probe is removed", || {
        let removed = run(ctl, &format!("member remove {id} --endpoints={first}"));
        (removed.code == Some(0)).then_some(())
    });
    eventually("the first member leads", || {
        let line = names.filled(trio, "move-leader $M1 --endpoints=$ALL");
        (run(ctl, &line).code == Some(0)).then_some(())
    });
}

/// What must not differ, step by step; `explained` as [`EXPLAINED`].
fn compare(steps: &[&str], theirs: &[Said], ours: &[Said], explained: &[(&str, &str, &str, &str)]) {
    let lines = steps.iter().filter(|step| !step.starts_with("kill "));
    let mut wrong = Vec::new();
    for ((line, theirs), ours) in lines.zip(theirs).zip(ours) {
        let fits = match explained.iter().find(|(start, ..)| line.starts_with(start)) {
            Some((_, old, new, _)) => {
                let has = |said: &Said, part| said.out.contains(part) || said.err.contains(part);
                has(theirs, old) && has(ours, new) && theirs.code == ours.code
            }
            None => theirs == ours,
        };
        if !fits {
            wrong.push(format!("{line}\ntheirs: {theirs:#?}\nours: {ours:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), ours.len(), wrong.join("\n"));
}

/// Our etcdctl beside Debian's, on clusters of the real etcd.
fn same(steps: &[&str]) {
    let Some(debian) = debian() else { return };
    let ports = ports();
    let run = |ctl: &Path| tell(ctl, &debian, Kind::Real, ports, steps);
    let (theirs, ours) = (run(&debian), run(&our("etcdctl")));
    let (theirs, ours) = theirs.zip(ours).expect("the real etcd is there");
    compare(steps, &theirs, &ours, EXPLAINED);
}

/// Our members beside the real ones, as Debian's etcdctl sees them.
fn same_members(steps: &[&str], explained: &[(&str, &str, &str, &str)]) {
    let Some(debian) = debian() else { return };
    let ports = ports();
    let run = |kind| tell(&debian, &debian, kind, ports, steps);
    let (theirs, ours) = (run(Kind::Real), run(Kind::Ours));
    let (theirs, ours) = theirs.zip(ours).expect("the real etcd is there");
    compare(steps, &theirs, &ours, explained);
}

#[test]
fn members_and_leaders() {
    same(STEPS);
}

/// Member 3 goes away.
const AWAY: &[&str] = &[
    "kill 2",
    "endpoint health --cluster --command-timeout=1s",
    "endpoint status --cluster --command-timeout=1s -w json",
    "endpoint hashkv --cluster --command-timeout=1s -w json",
    "member add m4 --peer-urls=$URL4",
    "member remove $M1",
    "member remove $M2",
    "member remove $M3",
    "member list --endpoints=$ALL",
];

#[test]
fn a_member_that_is_away() {
    same(AWAY);
}

/// What our members say otherwise than 3.5.16, as 3.7 does.
const OURS: &[(&str, &str, &str, &str)] = &[
    ("endpoint status --cluster", "3.5.16", "3.7.1", "3.7 says more of itself"),
    ("endpoint hashkv --cluster", "", "", "3.7 adds the hash revision"),
];

#[test]
fn members_of_ours_do_as_the_real_ones() {
    same_members(STEPS, OURS);
}

#[test]
fn a_member_of_ours_that_is_away() {
    same_members(AWAY, OURS);
}

/// The whole of it in one command: the learner joins, catches up, and gets its vote.
fn added_as_a_learner_and_promoted_when_it_is_ready(kind: Kind) {
    let Some(debian) = debian() else { return };
    let Some(mut trio) = Trio::start(kind, ports()) else { return };
    let names = Names::read(&trio, &debian);
    settle(&trio, &names, &debian);
    for n in 0..100 {
        let line = format!("put k{n} v --endpoints={}", trio.endpoint(0));
        assert_eq!(run(&debian, &line).code, Some(0));
    }
    let line = format!(
        "member add m4 --peer-urls={} --promote-when-ready --endpoints={}",
        trio.peer_url(3),
        trio.endpoint(1)
    );
    let mut child = command(&our("etcdctl"), &line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ours runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert!(next().contains("added as learner to cluster"));
    let told: Vec<String> = (0..5).map(|_| next()).collect();
    let cluster = told[2].strip_prefix("ETCD_INITIAL_CLUSTER=\"").expect("the cluster");
    let cluster = format!("--initial-cluster={}", cluster.trim_end_matches('"'));
    assert_eq!(told[4], "ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
    let mut waiting = BufReader::new(child.stderr.take().expect("piped")).lines();
    // Behind a warning about the environment.
    let first = waiting.find(|line| line.as_ref().is_ok_and(|line| line.starts_with('W')));
    let first = first.expect("a line").expect("text");
    assert!(
        first.starts_with("Waiting for member ") && first.ends_with("not started yet"),
        "{first}"
    );
    trio.spawn(3, &[&cluster, "--initial-cluster-state=existing"]).expect("etcd");
    assert!(next().contains("promoted in cluster"));
    assert!(child.wait().expect("our own child").success());
    let line = format!("member list --endpoints={}", trio.endpoint(0));
    let listed = run(&debian, &line).out;
    let fourth = listed.lines().find(|line| line.contains(", m4, ")).expect("it is listed");
    assert!(fourth.contains("started") && fourth.ends_with("false"), "{fourth}");
}

#[test]
fn a_real_member_is_promoted_when_it_is_ready() {
    added_as_a_learner_and_promoted_when_it_is_ready(Kind::Real);
}

#[test]
fn a_member_of_ours_is_promoted_when_it_is_ready() {
    added_as_a_learner_and_promoted_when_it_is_ready(Kind::Ours);
}

/// Versions of a cluster of ours: down by one with the word of 3.7, up with our own.
#[test]
fn versions_go_down_and_up_when_they_are_told_to() {
    let Some(trio) = Trio::start(Kind::Ours, ports()) else { return };
    let ctl = our("etcdctl");
    // Any member may be asked.
    let ask = |line: &str| run(&ctl, &format!("{line} --endpoints={}", trio.endpoint(1)));
    let says = |line: &str, text: &str| {
        let said = ask(line);
        assert_eq!((said.code, said.out.trim_end()), (Some(0), text), "{line}: {}", said.err);
    };
    let version_is = |version: &str| {
        eventually(version, || {
            let line = format!("cluster version: {version}\n");
            ask("upgrade status").out.contains(&line).then_some(())
        });
    };
    version_is("3.7.0");
    let status = ask("upgrade status").out;
    assert_eq!(status.matches(", 3.7.1, 3.7.0, false").count(), 3, "{status}");
    assert!(!status.contains("held"), "{status}");
    says("upgrade finalize", "The cluster version is 3.7.0 already");
    says("downgrade validate 3.6", "Downgrade validate success, cluster version 3.7");
    says("downgrade cancel", "Downgrade cancel success, cluster version 3.7");
    says("downgrade enable 3.6", "Downgrade enable success, cluster version 3.7");
    let again = ask("downgrade enable 3.6");
    let job = "Error: etcdserver: cluster has a downgrade job in progress";
    let wrong = "Error: etcdserver: invalid downgrade target version";
    // The leader may have lowered the version already.
    assert!([job, wrong].contains(&again.err.trim_end()), "{again:?}");
    version_is("3.6.0");
    let held = ask("upgrade finalize");
    assert_eq!(held.code, Some(1));
    assert!(held.err.contains("a downgrade to 3.6.0 is under way"), "{held:?}");
    says("downgrade cancel", "Downgrade cancel success, cluster version 3.6");
    let status = ask("upgrade status").out;
    assert!(status.contains("held: it is held until `etcdctl upgrade finalize`"), "{status}");
    says("upgrade finalize", "Cluster version raised from 3.6.0 to 3.7.0");
    version_is("3.7.0");
}

/// A learner of ours answers little, until it is promoted.
#[test]
fn a_learner_answers_reads_that_may_be_old() {
    let Some(debian) = debian() else { return };
    let Some(mut trio) = Trio::start(Kind::Ours, ports()) else { return };
    let names = Names::read(&trio, &debian);
    settle(&trio, &names, &debian);
    let first = trio.endpoint(0);
    let ask = |line: &str, endpoint: &str| run(&debian, &format!("{line} --endpoints={endpoint}"));
    assert_eq!(ask("put k v", &first).code, Some(0));
    let line = format!("member add m4 --learner --peer-urls={}", trio.peer_url(3));
    let added = ask(&line, &first).out;
    let id = added.split_whitespace().nth(1).expect("Member ID added").to_owned();
    let cluster = added.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER=\""));
    let cluster = cluster.expect("the cluster").trim_end_matches('"');
    let cluster = format!("--initial-cluster={cluster}");
    trio.spawn(3, &[&cluster, "--initial-cluster-state=existing"]).expect("ours");
    let learner = trio.endpoint(3);
    eventually("the learner has caught up", || {
        let got = ask("get k --consistency=s --command-timeout=1s", &learner);
        (got.out == "k\nv\n").then_some(())
    });
    let status = ask("endpoint status", &learner).out;
    assert_eq!(status.split(", ").nth(5), Some("true"), "{status}");
    for refused in ["get k", "put k w", "member list", "lease list", "alarm list", "compaction 2"] {
        let said = ask(refused, &learner);
        assert_eq!(said.err, "Error: etcdserver: rpc not supported for learner\n", "{refused}");
    }
    assert_eq!(
        ask(&format!("move-leader {id}"), &trio.endpoints()).err,
        "Error: etcdserver: bad leader transferee\n"
    );
    eventually("it is promoted", || {
        // Through a member that may have to ask the leader.
        let said = ask(&format!("member promote {id}"), &trio.endpoint(1));
        (said.code == Some(0)).then_some(())
    });
    eventually("it answers", || {
        (ask("get k --command-timeout=1s", &learner).out == "k\nv\n").then_some(())
    });
}

/// Who is removed ends by itself, be it the leader, or the one that is asked; the others
/// go on down to the last, which stays.
#[test]
fn removed_members_end_and_the_others_go_on() {
    let Some(debian) = debian() else { return };
    let Some(mut trio) = Trio::start(Kind::Ours, ports()) else { return };
    let names = Names::read(&trio, &debian);
    settle(&trio, &names, &debian);
    let on = |trio: &Trio, n: usize, line: &str| {
        let line = names.filled(trio, line);
        run(&debian, &format!("{line} --endpoints={}", trio.endpoint(n)))
    };
    let goes_on = |trio: &Trio, n: usize| {
        eventually("a write is taken", || {
            (on(trio, n, "put k v --command-timeout=1s").code == Some(0)).then_some(())
        });
    };
    // The leader, through another; then one through itself.
    assert_eq!(on(&trio, 1, "member remove $M1").code, Some(0));
    assert!(trio.ended(0).success());
    goes_on(&trio, 1);
    let again = on(&trio, 1, "member remove $M1");
    assert_eq!(again.err, "Error: etcdserver: member not found\n");
    eventually("the two are connected", || {
        (on(&trio, 1, "member remove $M2").code == Some(0)).then_some(())
    });
    assert!(trio.ended(1).success());
    goes_on(&trio, 2);
    assert_eq!(on(&trio, 2, "member list").out.lines().count(), 1);
    let last = on(&trio, 2, "member remove $M3");
    let text = "Error: etcdserver: re-configuration failed due to not enough started members\n";
    assert_eq!(last.err, text);
}

/// What only the leader knows about leases, asked through every member.
#[test]
fn leases_are_answered_by_every_member() {
    let Some(debian) = debian() else { return };
    let Some(trio) = Trio::start(Kind::Ours, ports()) else { return };
    for n in 0..3 {
        let ask = |line: &str| run(&debian, &format!("{line} --endpoints={}", trio.endpoint(n)));
        let granted = ask("lease grant 1000").out;
        let id = granted.split(' ').nth(1).expect("lease ID granted").to_owned();
        assert_eq!(ask(&format!("put k{n} v --lease={id}")).code, Some(0));
        let renewed = ask(&format!("lease keep-alive --once {id}")).out;
        assert_eq!(renewed, format!("lease {id} keepalived with TTL(1000)\n"));
        let times = ask(&format!("lease timetolive --keys {id}")).out;
        let (before, after) = times.split_once("remaining(").expect("what is left");
        assert_eq!(before, format!("lease {id} granted with TTL(1000s), "));
        assert!(after.ends_with(&format!("s), attached keys([k{n}])\n")), "{times}");
        assert_eq!(ask("lease list").out.lines().count(), 2);
        assert_eq!(ask(&format!("lease revoke {id}")).out, format!("lease {id} revoked\n"));
        assert_eq!(
            ask(&format!("lease timetolive {id}")).out,
            format!("lease {id} already expired\n")
        );
        let gone = ask(&format!("lease keep-alive --once {id}"));
        assert_eq!(gone.err, "Error: etcdserver: requested lease not found\n");
    }
}

/// A member of etcd's own has no calls of ours, and says so in words.
#[test]
fn upgrade_needs_a_member_of_ours() {
    let Some(_) = debian() else { return };
    let Some(trio) = Trio::start(Kind::Real, ports()) else { return };
    let said = run(&our("etcdctl"), &format!("upgrade status --endpoints={}", trio.endpoint(0)));
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("does not run Mainstay"), "{said:?}");
}
