//! `deploy/roll.sh`, as an operator runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_interop::cluster::{Cluster, Load, Make, Plan, Real};
use mainstay_interop::{Peer, peer};

/// Processes that the script has started; killed when dropped.
struct Started(Vec<PathBuf>);

impl Drop for Started {
    fn drop(&mut self) {
        for file in &self.0 {
            if let Ok(pid) = fs::read_to_string(file) {
                // Gone already is as good.
                let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
            }
        }
    }
}

fn script() -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/roll.sh");
    let mut command = Command::new("bash");
    command.arg(path).env("ETCDCTL_API", "3");
    command.env("ETCDCTL", peer(Peer::Etcdctl).expect("it comes with the etcd"));
    command
}

fn endpoints(cluster: &Cluster) -> String {
    let all: Vec<String> = cluster.nodes.iter().map(|node| node.endpoint()).collect();
    all.join(",")
}

/// A shell's line that starts member `n` behind it.
fn start_line(cluster: &Cluster, n: usize, pid_file: &Path) -> String {
    let command = cluster.nodes[n].command(&[]).expect("the binary is there");
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| format!("'{}'", arg.to_string_lossy())));
    let log = cluster.folder().join(format!("{n}.rolled.log"));
    let (line, log, pid) = (words.join(" "), log.display(), pid_file.display());
    format!("{line} >'{log}' 2>&1 </dev/null & echo $! >'{pid}'")
}

/// A shell's line that ends a process of ours and waits for that, as `systemctl stop` does.
fn stop_line(pid: u32) -> String {
    // Nobody but the test can lay it to rest.
    let gone = format!("grep -q '^State:.Z' /proc/{pid}/status || [ ! -e /proc/{pid} ]");
    format!("kill -TERM {pid}; until {gone}; do sleep 0.05; done")
}

#[test]
fn the_script_rolls_a_cluster() {
    let _alone = crate::alone();
    let Some(mut cluster) = Plan::new("script", &[Make::Go; 3]).start() else { return };
    let load = Load::start(14, &mut cluster, false);
    load.wait_for(&mut cluster, 100);
    // A leader is among those to be rolled, first.
    cluster.move_leader(0);
    let mut started = Started(Vec::new());
    for n in 0..3 {
        let pid_file = cluster.folder().join(format!("{n}.pid"));
        cluster.nodes[n].make = Make::Ours;
        load.excuse(n);
        let rolled = script()
            .args(["--member", &cluster.nodes[n].endpoint(), "--endpoints", &endpoints(&cluster)])
            .arg("--stop")
            .arg(stop_line(cluster.nodes[n].pid().expect("it runs")))
            .args(["--start", &start_line(&cluster, n, &pid_file)])
            .output()
            .expect("bash runs");
        started.0.push(pid_file);
        load.expect(n);
        let told = String::from_utf8_lossy(&rolled.stderr).into_owned();
        assert!(rolled.status.success(), "{told}");
        eprint!("{told}");
        load.wait_for_member(&mut cluster, n, 50);
        let version = cluster.cluster_version(n);
        assert_eq!(version, Some(Real::of_this_run().cluster_version_told()));
    }
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
}

#[test]
fn the_script_stops_nothing_in_a_cluster_that_is_not_whole() {
    let _alone = crate::alone();
    let Some(mut cluster) = Plan::new("script-unfit", &[Make::Go; 3]).start() else { return };
    cluster.nodes[2].kill();
    let rolled = script()
        .args(["--member", &cluster.nodes[0].endpoint(), "--endpoints", &endpoints(&cluster)])
        .args(["--stop", "echo STOPPED >&2", "--start", ":"])
        .output()
        .expect("bash runs");
    let told = String::from_utf8_lossy(&rolled.stderr);
    assert_eq!(rolled.status.code(), Some(1), "{told}");
    assert!(told.contains("nothing was stopped") && !told.contains("STOPPED"), "{told}");
}
