//! Members of one process, joined by calls instead of sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_driver::{
    About, CallAnswer, CallError, DbCopy, Driver, Founding, Handle, Options, PeerAnswer, PeerCall,
    PeerHash, RequestError, RequestField, Transport,
};
use mainstay_env_os::{OsClock, OsDice, OsDisk};
use mainstay_membership::{self as membership, Member, Membership};
use mainstay_proto::etcdserverpb as pb;
use mainstay_raft::{Message, MessageKind};
use mainstay_types::{ClusterId, MemberId, SPOKEN_VERSION};

/// Who is there, and who cannot hear whom.
#[derive(Default)]
pub(crate) struct Wires {
    handles: Mutex<BTreeMap<MemberId, Handle>>,
    /// Since when a member runs and is heard.
    since: Mutex<BTreeMap<MemberId, Instant>>,
    /// Members that answer as a Go member does.
    pub(crate) foreign: Mutex<BTreeSet<MemberId>>,
    cut: Mutex<BTreeSet<MemberId>>,
}

impl Wires {
    fn reach(&self, from: MemberId, to: MemberId) -> Option<Handle> {
        let cut = self.cut.lock().expect("no panic holds it");
        if cut.contains(&from) || cut.contains(&to) {
            return None;
        }
        self.handles.lock().expect("no panic holds it").get(&to).cloned()
    }
}

/// One member's end.
struct Wire {
    me: MemberId,
    wires: Arc<Wires>,
}

impl Transport for Wire {
    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let Some(handle) = self.wires.reach(self.me, message.to) else { continue };
            // Both ways to bring a message, the second on whatever thread this is. What is
            // lost is sent again.
            if matches!(message.kind, MessageKind::Heartbeat | MessageKind::HeartbeatResp) {
                let _ = handle.receive(message);
            } else {
                let _ = handle.receive_quietly(message);
                handle.received();
            }
        }
    }

    fn send_snapshot(&self, message: Message, db: Arc<dyn DbCopy>) {
        let (wires, me) = (Arc::clone(&self.wires), self.me);
        std::thread::spawn(move || {
            let to = message.to;
            let sent = wires.reach(me, to).is_some_and(|handle| {
                let mut file = handle.incoming_snapshot(&message).expect("a file");
                let mut bytes = vec![0; usize::try_from(db.len()).expect("small")];
                db.read_at(0, &mut bytes).expect("reads");
                file.write(&bytes).expect("writes");
                file.finish().expect("syncs");
                handle.receive(message).is_ok()
            });
            if let Some(handle) = wires.reach(me, me) {
                handle.snapshot_sent(to, sent);
            }
        });
    }

    fn follow(&self, _membership: &Arc<Membership>) {}

    fn connected_for(&self, member: MemberId) -> Option<Duration> {
        self.wires.reach(self.me, member)?;
        let since = self.wires.since.lock().expect("no panic holds it");
        let ends = [self.me, member].map(|id| since.get(&id).map(Instant::elapsed));
        ends.into_iter().flatten().min()
    }

    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer {
        let (slot, answer) = tokio::sync::oneshot::channel();
        let reached = self.wires.reach(self.me, to).ok_or(CallError::Unknown(to));
        let said = reached.and_then(|handle| match call {
            PeerCall::Version => Ok(PeerAnswer::Version { server: SPOKEN_VERSION, cluster: None }),
            PeerCall::HashKv { revision } => hash_of(&handle, revision),
            PeerCall::About
                if self.wires.foreign.lock().expect("no panic holds it").contains(&to) =>
            {
                Err(CallError::Refused { status: 404, body: "404 page not found".to_owned() })
            }
            PeerCall::About => {
                let gate = handle.options().lease_checkpoint_every.is_some();
                Ok(PeerAnswer::About(About { lease_checkpoints: gate }))
            }
            other => Err(CallError::Malformed(format!("{other:?} is not played here"))),
        });
        let _ = slot.send(said);
        answer
    }
}

fn hash_of(handle: &Handle, revision: i64) -> Result<PeerAnswer, CallError> {
    let refused = |error: String| CallError::Refused { status: 400, body: error };
    let hash = handle.hash_kv(revision).map_err(|error| refused(error.to_string()))?;
    Ok(PeerAnswer::HashKv(PeerHash {
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
        revision: handle.view().revision(),
    }))
}

/// A cluster in a folder.
pub(crate) struct Cluster {
    pub(crate) wires: Arc<Wires>,
    root: PathBuf,
    pub(crate) members: Vec<Member>,
    pub(crate) drivers: BTreeMap<MemberId, Driver>,
    /// Whether leaders compare the members, and how often.
    pub(crate) compare: (Option<Duration>, Option<Duration>),
    /// Gate `LeaseCheckpoint` of members that start from now on.
    pub(crate) checkpoints: Option<Duration>,
    /// How often they look whether a downgrade has come to its end.
    pub(crate) downgrade_check: Option<Duration>,
    /// The election timeout of members that start from now on.
    pub(crate) election: Duration,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, driver) in std::mem::take(&mut self.drivers) {
            driver.stop();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

pub(crate) fn member(n: usize) -> Member {
    let peer_urls = vec![format!("http://127.0.0.1:{}", 20_000 + n)];
    let id = membership::member_id(&peer_urls, "test", None);
    Member { id, name: format!("m{n}"), peer_urls, ..Member::default() }
}

impl Cluster {
    /// A new cluster of `size`, all of it up and ready.
    pub(crate) fn born(name: &str, size: usize) -> Cluster {
        Cluster::born_with(name, size, |_| {})
    }

    /// With other settings.
    pub(crate) fn born_with(name: &str, size: usize, change: impl FnOnce(&mut Cluster)) -> Cluster {
        let folder = format!("mainstay-cluster-{name}-{}", std::process::id());
        let root = std::env::temp_dir().join(folder);
        let _ = std::fs::remove_dir_all(&root);
        let members: Vec<Member> = (0..size).map(member).collect();
        let wires = Arc::new(Wires::default());
        let mut cluster = Cluster {
            wires,
            root,
            members,
            drivers: BTreeMap::new(),
            compare: (None, None),
            checkpoints: None,
            downgrade_check: None,
            election: Duration::from_millis(200),
        };
        change(&mut cluster);
        for n in 0..size {
            cluster.start(n);
        }
        cluster.wait_ready();
        cluster
    }

    /// Where a member has its db.
    pub(crate) fn db_of(&self, n: usize) -> PathBuf {
        self.root.join(&self.members[n].name).join("member/snap/db")
    }

    /// Stops all, and starts them again with other settings.
    pub(crate) fn again(&mut self, compare: (Option<Duration>, Option<Duration>)) {
        self.compare = compare;
        for n in 0..self.members.len() {
            self.start(n);
        }
        self.wait_ready();
    }

    pub(crate) fn id(&self) -> ClusterId {
        membership::cluster_id(self.members.iter().map(|member| member.id))
    }

    fn options(&self, member: &Member, founding: Founding) -> Options {
        Options {
            name: member.name.clone(),
            data_dir: self.root.join(&member.name),
            founding,
            client_urls: vec!["http://127.0.0.1:1".to_owned()],
            tick: Duration::from_millis(20),
            election_timeout: self.election,
            corrupt_check_every: self.compare.0,
            compact_hash_check_every: self.compare.1,
            downgrade_check_every: self.downgrade_check,
            lease_checkpoint_every: self.checkpoints,
            persist_lease_checkpoints: self.checkpoints.is_some(),
            snapshot_count: 50,
            snapshot_catchup_entries: 20,
            ..Options::default()
        }
    }

    /// Starts one of the first members, for the first time or again.
    pub(crate) fn start(&mut self, n: usize) {
        let me = self.members[n].clone();
        let founding = Founding::New { me: me.id, members: self.members.clone() };
        self.start_as(&me, founding, false);
    }

    pub(crate) fn start_as(&mut self, me: &Member, founding: Founding, force_new_cluster: bool) {
        let options = Options { force_new_cluster, ..self.options(me, founding) };
        let wire = Wire { me: me.id, wires: Arc::clone(&self.wires) };
        let clock = Arc::new(OsClock::new());
        let mut dice = OsDice::new();
        let driver = Driver::start(options, Arc::new(OsDisk), clock, &mut dice, Arc::new(wire))
            .expect("starts");
        self.wires.since.lock().expect("no panic holds it").insert(me.id, Instant::now());
        self.wires.handles.lock().expect("no panic holds it").insert(me.id, driver.handle());
        self.drivers.insert(me.id, driver);
    }

    pub(crate) fn stop(&mut self, id: MemberId) {
        self.wires.handles.lock().expect("no panic holds it").remove(&id);
        self.drivers.remove(&id).expect("it runs").stop();
    }

    pub(crate) fn cut_off(&self, id: MemberId) {
        self.wires.cut.lock().expect("no panic holds it").insert(id);
    }

    pub(crate) fn join_up(&self, id: MemberId) {
        self.wires.since.lock().expect("no panic holds it").insert(id, Instant::now());
        self.wires.cut.lock().expect("no panic holds it").remove(&id);
    }

    pub(crate) fn wait_ready(&mut self) {
        block_on(async {
            for driver in self.drivers.values_mut() {
                let ready = tokio::time::timeout(Duration::from_secs(20), driver.ready());
                ready.await.expect("ready in time");
            }
        });
    }

    pub(crate) fn handle(&self, n: usize) -> Handle {
        self.drivers[&self.members[n].id].handle()
    }

    /// The leader, once all that run and hear each other agree on one.
    pub(crate) fn leader(&self) -> MemberId {
        let cut = self.wires.cut.lock().expect("no panic holds it").clone();
        let mut found = MemberId::NONE;
        until("all agree on a leader that runs", || {
            let handles = self.drivers.iter().filter(|(id, _)| !cut.contains(id));
            let leaders: BTreeSet<MemberId> =
                handles.map(|(_, driver)| driver.handle().standing().leader).collect();
            found = leaders.first().copied().unwrap_or(MemberId::NONE);
            leaders.len() == 1 && self.drivers.contains_key(&found) && !cut.contains(&found)
        });
        found
    }

    pub(crate) fn number(&self, id: MemberId) -> usize {
        self.members.iter().position(|member| member.id == id).expect("a first member")
    }

    /// All that run have applied the same and hash to the same.
    pub(crate) fn check_equal(&self) {
        let handles: Vec<Handle> = self.drivers.values().map(Driver::handle).collect();
        until("all have applied the same", || {
            let applied: BTreeSet<u64> =
                handles.iter().map(|handle| handle.standing().applied.0).collect();
            applied.len() == 1
        });
        let hashes: BTreeSet<u32> =
            handles.iter().map(|handle| handle.view().hash_kv(0).expect("reads").hash).collect();
        assert_eq!(hashes.len(), 1, "the same log gives the same rows");
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) async fn put(handle: &Handle, key: &str, value: &str) -> Result<(), RequestError> {
    let put = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    handle.propose(RequestField::Put, &put).await.map(|_| ())
}

/// A linearizable read. A change of leaders under way does not interrupt it.
pub(crate) async fn get(handle: &Handle, key: &str) -> Option<String> {
    handle.linearizable().await.expect("a leader, sooner or later");
    let kv = handle.view().get(key.as_bytes()).expect("reads")?;
    Some(String::from_utf8(kv.value.to_vec()).expect("text"))
}
