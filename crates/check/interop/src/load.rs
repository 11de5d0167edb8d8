//! Writers that remember what they were promised, and the judge of what is there.
//!
//! Several writers, a watcher and a reader run until the member dies or enough is
//! acknowledged ([`Load::run`]). Afterwards [`Load::verify`] asks the restarted member for
//! its whole history since, and holds that
//!
//! * everything acknowledged is there once, at its revision, with its value, version,
//!   creation and lease, and nothing of it in part;
//! * what was sent without an answer is there as a whole or not at all;
//! * nothing else is there, and no revision is missing;
//! * what watcher and reader saw is what the history says;
//! * leases and the compaction are as acknowledged.

pub(crate) mod model;
pub(crate) mod observe;
mod verify;
pub(crate) mod writer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mainstay_client::{Client, Options};
use mainstay_proto::etcdserverpb as pb;
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};

use model::State;
use observe::{Seen, read, watch};
use writer::{Numbers, Writer};

pub use verify::Figures;

/// What all keys of the load begin with.
pub const PREFIX: &str = "load/";
/// Writers that share a connection.
const WRITERS_PER_CONNECTION: usize = 4;

/// The writers, over all lives of a member.
pub struct Load {
    writers: Vec<Writer>,
    numbers: Numbers,
    /// Everything up to here has been verified.
    verified: i64,
    /// What the writers began the last run with.
    base: Vec<State>,
    /// The newest compaction that was acknowledged.
    compacted: i64,
    /// What the watcher and the reader saw since.
    seen: Seen,
}

/// How a run ended, as seen by the writers.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// Operations that were acknowledged.
    pub acknowledged: usize,
    /// Operations without an answer.
    pub unanswered: usize,
}

/// Connects, or says why not.
async fn connect(endpoint: &str) -> Result<Client, String> {
    Client::connect(endpoint, &Options::default()).await.map_err(|e| e.to_string())
}

/// Told by the writers, waited for by the run.
#[derive(Default)]
struct Progress {
    acknowledged: Cell<usize>,
    writing: Cell<usize>,
    quit: Cell<bool>,
    moved: Notify,
}

impl Load {
    /// `writers` writers that do the same for the same `seed`.
    pub fn new(seed: u64, writers: usize) -> Load {
        Load {
            writers: (0..writers).map(|n| Writer::new(n, seed)).collect(),
            numbers: Numbers::new(!seed),
            verified: 1,
            base: vec![State::default(); writers],
            compacted: 0,
            seen: Seen::default(),
        }
    }

    /// The revision up to which everything has been verified.
    pub fn verified(&self) -> i64 {
        self.verified
    }

    /// Lets the writers write to `endpoint` until `count` operations are acknowledged,
    /// then calls `end` (which may kill the member) and waits for the last answers.
    /// Ends sooner when all writers are refused.
    ///
    /// # Errors
    /// When nobody can connect.
    ///
    /// # Panics
    /// When a writer panics.
    pub async fn run(
        &mut self,
        endpoint: &str,
        count: usize,
        end: impl FnOnce(),
    ) -> Result<Ran, String> {
        let mut clients = Vec::new();
        for _ in 0..self.writers.len().div_ceil(WRITERS_PER_CONNECTION) + 1 {
            clients.push(connect(endpoint).await?);
        }
        let observers = clients.pop().expect("one more than the writers need");
        let progress = Rc::new(Progress::default());
        progress.writing.set(self.writers.len());
        let local = LocalSet::new();
        let mut writing = JoinSet::new();
        for writer in std::mem::take(&mut self.writers) {
            let client = clients[writer.number / WRITERS_PER_CONNECTION].clone();
            writing.spawn_local_on(write(writer, client, Rc::clone(&progress)), &local);
        }
        let seen = Rc::new(RefCell::new(Seen::default()));
        let at = format!("{PREFIX}{:03}/", self.numbers.below(writing.len() as u64));
        let looking = [
            local.spawn_local(watch(observers.clone(), self.verified + 1, Rc::clone(&seen))),
            local.spawn_local(read(observers.clone(), at, Rc::clone(&seen))),
        ];
        let compact = self.compaction();
        let compacting = local.spawn_local(compact_to(observers, compact));
        let writers = local.run_until(async {
            while progress.acknowledged.get() < count && progress.writing.get() > 0 {
                progress.moved.notified().await;
            }
            end();
            progress.quit.set(true);
            let writers = writing.join_all().await;
            looking.iter().for_each(tokio::task::JoinHandle::abort);
            let compacted = compacting.await.expect("does not panic");
            self.compacted = self.compacted.max(compacted);
            writers
        });
        self.writers = writers.await;
        self.writers.sort_by_key(|writer| writer.number);
        self.seen = seen.take();
        let answered = |sent: &&writer::Sent| sent.acknowledged.is_some();
        let sent = || self.writers.iter().flat_map(|writer| &writer.sent);
        Ok(Ran {
            acknowledged: sent().filter(answered).count(),
            unanswered: sent().filter(|sent| !answered(sent)).count(),
        })
    }

    /// Every other run compacts while it writes, into what has been verified.
    fn compaction(&mut self) -> Option<i64> {
        let to = self.verified - self.numbers.below(50) as i64;
        let wants = self.numbers.below(2) == 0;
        (wants && to > self.compacted.max(1)).then_some(to)
    }
}

async fn write(mut writer: Writer, client: Client, progress: Rc<Progress>) -> Writer {
    while !progress.quit.get() && writer.step(&client).await {
        progress.acknowledged.set(progress.acknowledged.get() + 1);
        progress.moved.notify_one();
    }
    progress.writing.set(progress.writing.get() - 1);
    progress.moved.notify_one();
    writer
}

/// The revision, once it is acknowledged; 0 when nothing was.
async fn compact_to(client: Client, revision: Option<i64>) -> i64 {
    let Some(revision) = revision else { return 0 };
    let request = pb::CompactionRequest { revision, physical: false };
    client.kv().compact(request).await.map_or(0, |_| revision)
}
