//! Clusters of members of several makes: started, stopped, taken apart and judged.
//!
//! [`Cluster`] owns the processes and asks them; [`Load`] writes, reads and watches
//! through all of them meanwhile and knows what they owe; [`Wire`] lies between their
//! peer listeners and can be cut.

mod asks;
mod load;
mod make;
mod node;
pub mod scene;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use asks::Told;
pub use load::{Load, Report};
use mainstay_bench::{Hosts, HostsError};
pub use make::{Make, Real};
pub use node::Node;
pub use wire::Wire;

use crate::Folder;

/// Nothing that a test waits for takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Hosts for members that join later.
const GUESTS: usize = 2;

/// How a cluster is made.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// For the folder's name.
    pub name: &'static str,
    /// One member each.
    pub makes: Vec<Make>,
    /// Flags of every member.
    pub flags: Vec<String>,
    /// Flags of every member of ours.
    pub ours: Vec<String>,
    /// Whether a [`Wire`] lies between the members.
    pub wired: bool,
    /// Whether each member has a host of its own.
    pub on_hosts: bool,
    /// Entries that stay in the log behind a snapshot, for those who are slow; 0 is the
    /// default.
    pub catch_up: u64,
}

impl Plan {
    /// Members of these makes, named `m1`, `m2`, ...
    pub fn new(name: &'static str, makes: &[Make]) -> Plan {
        Plan { name, makes: makes.to_vec(), ..Plan::default() }
    }

    /// With a flag for every member.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Plan {
        self.flags.push(flag.to_owned());
        self
    }

    /// With a flag for every member of ours.
    #[must_use]
    pub fn our_flag(mut self, flag: &str) -> Plan {
        self.ours.push(flag.to_owned());
        self
    }

    /// With a [`Wire`] between the members.
    #[must_use]
    pub fn wired(mut self) -> Plan {
        self.wired = true;
        self
    }

    /// With a network namespace for each member, where the machine allows it.
    #[must_use]
    pub fn on_hosts(mut self) -> Plan {
        self.on_hosts = true;
        self
    }

    /// Whose logs begin soon behind their snapshots.
    #[must_use]
    pub fn short_logs(mut self) -> Plan {
        self.catch_up = 10;
        self.flag("--snapshot-count=100")
    }

    /// Starts the cluster and waits until every member is healthy. `None` when a binary
    /// is missing, or there are no hosts.
    ///
    /// # Panics
    /// When a member ends or is not healthy in time.
    pub fn start(self) -> Option<Cluster> {
        for make in [Make::Ours, Make::Go] {
            if self.makes.contains(&make) {
                make.binary()?;
            }
        }
        let hosts = match self.on_hosts {
            true => Some(hosts(self.makes.len() + GUESTS)?),
            false => None,
        };
        let folder = Folder::new(self.name);
        let wire = self.wired.then(Wire::new).map(Arc::new);
        // With a thread of its own: connections end while nobody asks anything.
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("an event loop");
        let mut cluster = Cluster { nodes: Vec::new(), wire, hosts, runtime, plan: self, folder };
        for make in cluster.plan.makes.clone() {
            cluster.new_node(make);
        }
        let initial = cluster.initial_cluster();
        for n in 0..cluster.nodes.len() {
            let mut flags = vec![initial.clone(), "--initial-cluster-state=new".to_owned()];
            if cluster.nodes[n].make == Make::Ours {
                let version = Real::of_this_run().cluster_version();
                flags.push(format!("--initial-cluster-version={version}"));
            }
            cluster.spawn(n, &flags);
        }
        cluster.wait_all_healthy();
        cluster.learn_ids();
        Some(cluster)
    }
}

/// Hosts for `count` members, or `None` after saying why not.
fn hosts(count: usize) -> Option<Arc<Hosts>> {
    match Hosts::new(count) {
        Ok(hosts) => Some(Arc::new(hosts)),
        Err(HostsError::Missing(_)) => {
            crate::missing("ip (iproute2)");
            None
        }
        Err(why) => {
            eprintln!("\n*** DID NOT RUN: no network namespaces: {why}\n");
            None
        }
    }
}

/// A running cluster; its processes are killed when it is dropped.
pub struct Cluster {
    /// Members in the order in which they came; a removed one stays here.
    pub nodes: Vec<Node>,
    /// What lies between the members.
    pub wire: Option<Arc<Wire>>,
    hosts: Option<Arc<Hosts>>,
    runtime: tokio::runtime::Runtime,
    plan: Plan,
    /// Last: the processes are gone before their data.
    folder: Folder,
}

impl Cluster {
    /// A member that is not started and in nobody's list.
    pub fn new_node(&mut self, make: Make) -> usize {
        let n = self.nodes.len();
        let name = format!("m{}", n + 1);
        let dir = self.folder.path().join(format!("{name}.etcd"));
        // Those that do not run yet listen nowhere, and the system may give their ports again.
        let of = |node: &Node| [node.client, node.listens, node.known];
        let mut taken: BTreeSet<u16> = self.nodes.iter().flat_map(of).collect();
        let mut node = loop {
            let node = Node::new(&name, make, dir.clone(), self.plan.flags.clone());
            if of(&node).iter().all(|port| !taken.contains(port)) {
                break node;
            }
        };
        taken.extend(of(&node));
        node.catch_up = self.plan.catch_up;
        node.ours = self.plan.ours.clone();
        if let Some(hosts) = &self.hosts {
            node.on(hosts, n);
        }
        if let Some(wire) = &self.wire {
            node.known = wire.lay(n, node.listens, &taken);
        }
        self.nodes.push(node);
        n
    }

    /// Where everything is kept.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// `--initial-cluster` with all members that have not been removed.
    pub fn initial_cluster(&self) -> String {
        let pair = |node: &Node| format!("{}={}", node.name, node.peer_url());
        let pairs: Vec<String> = self.nodes.iter().map(pair).collect();
        format!("--initial-cluster={}", pairs.join(","))
    }

    /// Starts member `n` with these flags more.
    ///
    /// # Panics
    /// When it runs, or its binary is missing.
    pub fn spawn(&mut self, n: usize, flags: &[String]) {
        self.nodes[n].spawn(flags).expect("the binary was there a moment ago");
        if let (Some(wire), Some(pid)) = (&self.wire, self.nodes[n].pid()) {
            wire.runs(n, pid);
        }
    }

    /// What `from` sends to `to` does not arrive any more.
    ///
    /// # Panics
    /// When the plan has neither wires nor hosts.
    pub fn cut(&self, from: usize, to: usize) {
        match (&self.wire, &self.hosts) {
            (Some(wire), _) => wire.cut(from, to),
            (None, Some(hosts)) => hosts.cut(from, to).expect("it made the hosts"),
            (None, None) => panic!("nothing lies between the members"),
        }
    }

    /// Cuts every member of `some` from every one of `others`, both ways.
    ///
    /// # Panics
    /// As [`Cluster::cut`].
    pub fn part(&self, some: &[usize], others: &[usize]) {
        for (a, b) in some.iter().flat_map(|a| others.iter().map(move |b| (*a, *b))) {
            self.cut(a, b);
            self.cut(b, a);
        }
    }

    /// Mends all that was cut.
    ///
    /// # Panics
    /// When the hosts are gone.
    pub fn mend(&self) {
        if let Some(wire) = &self.wire {
            wire.mend();
        }
        if let Some(hosts) = &self.hosts {
            hosts.mend().expect("it made the hosts");
        }
    }

    /// Starts member `n` on the data it has, and waits until it is healthy.
    ///
    /// # Panics
    /// As [`Cluster::wait_healthy`].
    pub fn restart(&mut self, n: usize) {
        self.spawn(n, &[]);
        self.wait_healthy(n);
    }

    /// SIGTERM, and waits for the end; answers how long that took.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self, n: usize) -> Duration {
        let begun = Instant::now();
        self.nodes[n].signal("TERM");
        self.nodes[n].wait_end();
        begun.elapsed()
    }

    /// Waits until member `n` has ended by itself, and says how.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_ended(&mut self, n: usize) -> std::process::ExitStatus {
        let what = format!("member {} ends by itself", n + 1);
        self.eventually(&what, |cluster| cluster.nodes[n].ended())
    }

    /// Waits until there is an answer.
    ///
    /// # Panics
    /// When there is none in time, with what the members logged last.
    pub fn eventually<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Cluster) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(answer) = look(self) {
                return answer;
            }
            if begun.elapsed() > PATIENCE {
                let tails: Vec<String> = (self.nodes.iter())
                    .map(|node| format!("--- {} {:?}\n{}", node.name, node.make, node.log_tail()))
                    .collect();
                panic!("not within {PATIENCE:?}: {what}\n{}", tails.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until member `n` answers a linearizable read.
    ///
    /// # Panics
    /// When it ends or does not in time.
    pub fn wait_healthy(&mut self, n: usize) {
        self.eventually(&format!("member {} is healthy", n + 1), |cluster| {
            let node = &mut cluster.nodes[n];
            if let Some(status) = node.ended() {
                let (name, make) = (&node.name, node.make);
                panic!("{name} ({make:?}) ended with {status}:\n{}", node.log_tail());
            }
            cluster.linearizable(n).ok()
        });
    }

    /// Waits for every running member.
    ///
    /// # Panics
    /// As [`Cluster::wait_healthy`].
    pub fn wait_all_healthy(&mut self) {
        for n in self.running() {
            self.wait_healthy(n);
        }
    }

    /// Members that run and are not paused.
    pub fn running(&self) -> Vec<usize> {
        let works = |n: &usize| self.nodes[*n].runs() && !self.nodes[*n].paused();
        (0..self.nodes.len()).filter(works).collect()
    }
}
