//! A load on a whole cluster, and what it remembers for its judge.
//!
//! Through every member go writers and a reader; one watcher moves from member to
//! member. [`Load::finish`] holds that
//!
//! * every acknowledged write is in the history once, as a whole, at its revision;
//!   one without an answer is there once or not at all, and nothing else of the load's is;
//! * no answer is older than what was acknowledged, to anybody, before it was asked for,
//!   and every read is what the history says at its revision;
//! * the watcher saw every revision once, in order, whatever member it was at, and every
//!   member tells the same history at the end;
//! * a request fails only through a member that is being stopped (see [`Load::excuse`])
//!   or that sees an election.

mod drive;
mod judge;
mod record;
mod watcher;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Cluster, PATIENCE};
use crate::load::observe::History;
use record::Record;

pub use judge::Report;

/// What all keys of the load begin with.
const PREFIX: &str = "load/";
/// Keys of a writer.
const KEYS: u64 = 16;
/// Writers through each member.
const WRITERS: usize = 2;
/// Pause of a writer between two writes: the machine is for the members.
const WRITE_PAUSE: Duration = Duration::from_millis(4);
/// Pause of a reader.
const READ_PAUSE: Duration = Duration::from_millis(10);
/// After this, an answer is not waited for any more.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// A request that took longer than this hung.
const STUCK: Duration = Duration::from_millis(500);
/// Requests that are younger when their member is told to end, are answered before.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// Whether the connection broke before the answer came.
fn is_lost(message: &str) -> bool {
    message.contains("transport") || message.contains("http2")
}

/// What the load is told while it runs.
enum Order {
    /// Goes through this member, too.
    Member(usize, String),
    /// The writers and readers end.
    Quit,
    /// The watcher ends once it has seen this revision.
    Until(i64),
}

/// A running load.
pub struct Load {
    record: Arc<Mutex<Record>>,
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<Result<History, String>>,
    quiet: mpsc::UnboundedReceiver<()>,
}

impl Load {
    /// A load through all running members of the cluster that have a vote, the same
    /// for the same seed as far as time allows. `compacting` compacts now and then.
    ///
    /// # Panics
    /// When no thread can be started, or no member answers.
    pub fn start(seed: u64, cluster: &mut Cluster, compacting: bool) -> Load {
        let members: Vec<(usize, String)> =
            cluster.running().into_iter().map(|n| (n, cluster.nodes[n].endpoint())).collect();
        let first = members[0].0;
        let from = cluster.eventually("a first revision", |c| c.linearizable(first).ok());
        let record = Arc::new(Mutex::new(Record::new(from)));
        let (orders, told) = mpsc::unbounded_channel();
        let (say_quiet, quiet) = mpsc::unbounded_channel();
        for (n, endpoint) in members {
            // The receiver is right here.
            let _ = orders.send(Order::Member(n, endpoint));
        }
        let kept = Arc::clone(&record);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = tokio::task::LocalSet::new();
            let all = drive::all(seed, kept, told, say_quiet, compacting);
            local.block_on(&runtime.expect("an event loop"), all)
        });
        Load { record, orders, thread, quiet }
    }

    fn record<T>(&self, with: impl FnOnce(&mut Record) -> T) -> T {
        with(&mut self.record.lock().expect("nobody panics with it"))
    }

    /// Goes through member `n`, too.
    pub fn also(&self, cluster: &Cluster, n: usize) {
        // A load that has failed says so at the end.
        let _ = self.orders.send(Order::Member(n, cluster.nodes[n].endpoint()));
    }

    /// From now on requests through member `n` may fail.
    pub fn excuse(&self, n: usize) {
        self.record(|record| record.excuse(n));
    }

    /// From now on they may not.
    pub fn expect(&self, n: usize) {
        self.record(|record| record.expect(n));
    }

    /// Member `n` is out for good: nobody asks it any more.
    pub fn leave(&self, n: usize) {
        self.record(|record| {
            record.excuse(n);
            record.left.insert(n);
        });
    }

    /// Requests through member `n` whose answers were lost on the way, so far.
    pub fn cut_short(&self, n: usize) -> usize {
        self.record(|record| {
            let failures = record.failures.iter().filter(|failure| failure.member == n);
            failures.filter(|failure| is_lost(&failure.message)).count()
        })
    }

    /// Requests through member `n` that hung until it was gone, so far. What was sent long
    /// before its end does not count: a leader of etcd's forgets what is forwarded to it
    /// while it hands over.
    pub fn stuck(&self, n: usize) -> usize {
        self.record(|record| {
            let failures = record.failures.iter().filter(|failure| failure.member == n);
            let hung = failures.filter(|failure| {
                failure.at - failure.sent > STUCK
                    && is_lost(&failure.message)
                    && record.was_ending(n, failure.sent)
            });
            hung.count()
        })
    }

    /// How many writes are acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.record(|record| record.acknowledged)
    }

    /// Waits until `count` more writes are acknowledged.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn wait_for(&self, cluster: &mut Cluster, count: usize) {
        let goal = self.acknowledged() + count;
        cluster.eventually(&format!("{count} more writes are acknowledged"), |_| {
            assert!(!self.thread.is_finished(), "the load has ended");
            (self.acknowledged() >= goal).then_some(())
        });
    }

    /// Waits until `count` more writes are acknowledged through member `n`.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn wait_for_member(&self, cluster: &mut Cluster, n: usize, count: usize) {
        let acknowledged = || self.record(|r| r.by_member.get(&n).copied().unwrap_or(0));
        let goal = acknowledged() + count;
        cluster.eventually(&format!("{count} more writes through member {}", n + 1), |_| {
            assert!(!self.thread.is_finished(), "the load has ended");
            (acknowledged() >= goal).then_some(())
        });
    }

    /// Ends the load and judges everything. The cluster must be whole.
    ///
    /// # Errors
    /// What is wrong.
    ///
    /// # Panics
    /// When the members do not come to rest, or differ.
    pub fn finish(mut self, cluster: &mut Cluster) -> Result<Report, String> {
        // An error means that the thread has ended, and says why below.
        let _ = self.orders.send(Order::Quit);
        let rest = async {
            let _ = tokio::time::timeout(PATIENCE, self.quiet.recv()).await;
        };
        cluster.runtime.block_on(rest);
        let revision = cluster.same_everywhere();
        let _ = self.orders.send(Order::Until(revision));
        let watched = self.thread.join().map_err(|_| "the load panicked".to_owned())??;
        let record = self.record.lock().map_err(|_| "the load panicked".to_owned())?;
        for n in cluster.running() {
            let endpoint = cluster.nodes[n].endpoint();
            let told = watcher::whole(&endpoint, record.compacted + 1, revision);
            let told = cluster.runtime.block_on(told);
            let told = told.map_err(|why| format!("history of member {}: {why}", n + 1))?;
            judge::same_history(&watched, &told)
                .map_err(|why| format!("history of member {}: {why}", n + 1))?;
        }
        judge::judge(&record, &watched, revision)
    }
}
