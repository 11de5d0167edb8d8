//! What lies between members: relays in front of their peer listeners, that can be cut
//! between any two of them, in one direction or both.
//!
//! A cut is as in a network: nothing is refused or closed, bytes just stop and go on
//! when it is mended. Who a connection comes from is read from the system's tables, so
//! nothing of what members say is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Pairs (from, to) between which nothing gets through.
type Cuts = BTreeSet<(usize, usize)>;

/// The relays.
pub struct Wire {
    cuts: watch::Sender<Cuts>,
    /// Members by their process.
    pids: Arc<Mutex<BTreeMap<u32, usize>>>,
    runtime: tokio::runtime::Runtime,
}

impl Default for Wire {
    fn default() -> Wire {
        Wire::new()
    }
}

impl Wire {
    /// Without relays yet.
    ///
    /// # Panics
    /// When the system gives no thread.
    pub fn new() -> Wire {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let pids = Arc::new(Mutex::new(BTreeMap::new()));
        Wire { cuts: watch::Sender::new(Cuts::new()), pids, runtime: runtime.expect("a thread") }
    }

    /// A relay in front of member `n`, which listens on `port`; answers its own port, which
    /// is none of those that are taken.
    ///
    /// # Panics
    /// When the system has no port.
    pub fn lay(&self, n: usize, port: u16, taken: &BTreeSet<u16>) -> u16 {
        let mut passed_over = Vec::new();
        let (listener, known) = loop {
            let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
            let known = listener.local_addr().expect("bound").port();
            if !taken.contains(&known) {
                break (listener, known);
            }
            // Held until another one is found.
            passed_over.push(listener);
        };
        listener.set_nonblocking(true).expect("a socket can wait");
        let (pids, cuts) = (Arc::clone(&self.pids), self.cuts.clone());
        self.runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("inside an event loop");
            while let Ok((near, from)) = listener.accept().await {
                let pids = Arc::clone(&pids);
                let cuts = cuts.subscribe();
                tokio::spawn(async move {
                    let from = tokio::task::spawn_blocking(move || who(from.port(), &pids)).await;
                    relay(near, port, from.ok().flatten(), n, cuts).await;
                });
            }
        });
        known
    }

    /// Member `n` has this process now.
    ///
    /// # Panics
    /// Never.
    pub fn runs(&self, n: usize, pid: u32) {
        let mut pids = self.pids.lock().expect("nobody panics with it");
        pids.retain(|_, member| *member != n);
        pids.insert(pid, n);
    }

    /// Cuts what `from` sends to `to`.
    pub fn cut(&self, from: usize, to: usize) {
        self.cuts.send_modify(|cuts| cuts.extend([(from, to)]));
    }

    /// Mends all.
    pub fn mend(&self) {
        self.cuts.send_modify(BTreeSet::clear);
    }
}

/// Whose process holds the connection that has this port here.
fn who(port: u16, pids: &Mutex<BTreeMap<u32, usize>>) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let mine = format!("0100007F:{port:04X}");
    let inode = table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.nth(1)? == mine).then(|| words.nth(7).map(str::to_owned))?
    })?;
    let wanted = format!("socket:[{inode}]");
    let pids = pids.lock().ok()?.clone();
    pids.into_iter().find_map(|(pid, n)| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let holds = |file: fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        };
        files.any(holds).then_some(n)
    })
}

async fn relay(
    near: TcpStream,
    port: u16,
    from: Option<usize>,
    to: usize,
    cuts: watch::Receiver<Cuts>,
) {
    // Not ours to ask about: somebody outside of the cluster.
    let from = from.unwrap_or(usize::MAX);
    let mut before = cuts.clone();
    open(&mut before, (from, to)).await;
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    // Small messages must not wait for one another; as members do themselves.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(
        pump(near_read, far_write, (from, to), cuts.clone()),
        pump(far_read, near_write, (to, from), cuts),
    );
}

/// Waits until nothing is cut there.
async fn open(cuts: &mut watch::Receiver<Cuts>, pair: (usize, usize)) {
    // An error is the end of the wire.
    let _ = cuts.wait_for(|cuts| !cuts.contains(&pair)).await;
}

async fn pump(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    pair: (usize, usize),
    mut cuts: watch::Receiver<Cuts>,
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let got = read.read(&mut bytes).await;
        // Also the end of a connection does not get through a cut.
        open(&mut cuts, pair).await;
        let Ok(len @ 1..) = got else { break };
        if write.write_all(&bytes[..len]).await.is_err() {
            break;
        }
    }
    // Its reader learns of the end; one that is gone does not matter.
    let _ = write.shutdown().await;
}
