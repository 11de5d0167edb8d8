//! Space on the disk, live: what is deleted comes back beside the traffic, a defragmentation
//! stops nobody, and a member that ran out of its quota helps itself when it may.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mainstay_apply::{ApplyError, Identity};
use mainstay_backend::bolt::Reader;
use mainstay_driver::{Alone, Driver, Handle, Options, RequestError, RequestField};
use mainstay_env_os::{OsClock, OsDice, OsDisk};
use mainstay_proto::etcdserverpb as pb;

/// Whatever a test waits for has come by then.
const LONGEST: Duration = Duration::from_secs(60);

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path =
            std::env::temp_dir().join(format!("mainstay-space-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn db(&self) -> PathBuf {
        self.0.join("member/snap/db")
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(self.db()).expect("a db").len()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(scratch: &Scratch, options: Options) -> Driver {
    let options = Options { data_dir: scratch.0.clone(), ..options };
    let (clock, dice) = (Arc::new(OsClock::new()), &mut OsDice::new());
    Driver::start(options, Arc::new(OsDisk), clock, dice, Arc::new(Alone)).expect("starts")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

async fn put(handle: &Handle, n: usize, bytes: usize) -> Result<(), RequestError> {
    let put = pb::PutRequest {
        key: format!("k{n:06}").into(),
        value: vec![n as u8; bytes].into(),
        ..Default::default()
    };
    handle.propose(RequestField::Put, &put).await.map(drop)
}

/// Puts so many keys, a hundred a transaction.
async fn fill(handle: &Handle, keys: usize, bytes: usize) {
    for first in (0..keys).step_by(100) {
        let put = |n: usize| pb::PutRequest {
            key: format!("k{n:06}").into(),
            value: vec![n as u8; bytes].into(),
            ..Default::default()
        };
        let ops = (first..first + 100)
            .map(|n| pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(n))) });
        let txn = pb::TxnRequest { success: ops.collect(), ..Default::default() };
        handle.propose(RequestField::Txn, &txn).await.expect("a transaction");
    }
}

/// Deletes all but one key in ten and compacts.
async fn thin_out(handle: &Handle, keys: usize) {
    for first in (0..keys).step_by(10) {
        let delete = pb::DeleteRangeRequest {
            key: format!("k{:06}", first + 1).into(),
            range_end: format!("k{:06}", first + 10).into(),
            ..Default::default()
        };
        handle.propose(RequestField::DeleteRange, &delete).await.expect("a deletion");
    }
    let revision = handle.view().revision();
    let compact = pb::CompactionRequest { revision, physical: true };
    handle.compact(&Identity::default(), &compact).await.expect("a compaction");
}

/// Waits until it holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONGEST, "{what}: not in {LONGEST:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One in ten is there, and the file is sound.
fn check(scratch: &Scratch, keys: usize) {
    let reader = Reader::open(&OsDisk, &scratch.db()).expect("a bolt file");
    assert_eq!(reader.check().expect("read"), []);
    drop(reader);
    let driver = start(scratch, Options::default());
    let view = driver.handle().view();
    for n in 0..keys {
        let found = view.get(format!("k{n:06}").as_bytes()).expect("read").is_some();
        assert_eq!(found, n % 10 == 0, "key {n}");
    }
    driver.stop();
}

/// Puts one key again and again beside what a test does.
struct Puts {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Puts {
    fn start(handle: Handle) -> Puts {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            block_on(async {
                while !until.load(Ordering::Relaxed) {
                    put(&handle, 0, 100).await.expect("a put beside it");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        Puts { stop, done, thread }
    }

    fn count(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every put was answered");
    }
}

#[test]
fn what_is_deleted_comes_back_while_puts_go_on() {
    const KEYS: usize = 20_000;
    let scratch = Scratch::new("back");
    let mut driver = start(&scratch, Options::default());
    block_on(async {
        driver.ready().await;
        let handle = driver.handle();
        fill(&handle, KEYS, 4_000).await;
        handle.commit_backend().await.expect("a commit");
        let full = handle.backend().size();
        assert!(full > 75 << 20, "{full} bytes");
        let puts = Puts::start(handle.clone());
        thin_out(&handle, KEYS).await;
        let before = puts.count();
        let (backend, begun) = (handle.backend(), Instant::now());
        until("the file is small", || {
            let live = backend.size_in_use();
            if begun.elapsed() > LONGEST - Duration::from_secs(1) {
                let sizes = (scratch.bytes(), backend.size(), live);
                eprintln!("file, size, in use: {sizes:?}, {:?}", backend.shrinking());
            }
            live < full / 4 && backend.size() * 4 <= live * 5 && scratch.bytes() * 4 <= live * 5
        })
        .await;
        assert!(puts.count() > before, "puts went on");
        puts.end();
    });
    driver.stop();
    check(&scratch, KEYS);
}

#[test]
fn a_defragmentation_stops_nobody() {
    const KEYS: usize = 10_000;
    let scratch = Scratch::new("defragment");
    let mut driver = start(&scratch, Options::default());
    block_on(async {
        driver.ready().await;
        let handle = driver.handle();
        // Too small for the member to do it by itself.
        fill(&handle, KEYS, 1_000).await;
        thin_out(&handle, KEYS).await;
        let puts = Puts::start(handle.clone());
        let view = handle.view();
        let (one, other) = (handle.clone(), handle.clone());
        let before = puts.count();
        let both = async { tokio::join!(one.defragment(), other.defragment()) };
        assert_eq!(both.await, (Ok(()), Ok(())));
        assert!(view.get(b"k000010").expect("an old view reads on").is_some());
        until("puts go on", || puts.count() > before).await;
        puts.end();
        let stats = handle.stats();
        let counted: u64 = stats.backend_defrag.counts().iter().sum();
        assert_eq!((stats.defrag_inflight.get(), counted), (0, 1), "who came later joined it");
        drop(view);
        until("the rest follows by itself", || {
            let live = handle.backend().size_in_use();
            handle.backend().size() * 4 <= live * 5 && scratch.bytes() * 4 <= live * 5
        })
        .await;
        handle.defragment().await.expect("nothing to do");
    });
    driver.stop();
    check(&scratch, KEYS);
}

#[test]
fn a_member_out_of_its_quota_helps_itself_when_it_may() {
    let scratch = Scratch::new("quota");
    let options =
        Options { quota_bytes: 8 << 20, quota_auto_disarm_percent: 60, ..Options::default() };
    let mut driver = start(&scratch, options);
    block_on(async {
        driver.ready().await;
        let handle = driver.handle();
        let mut keys = 0;
        let refused = loop {
            match put(&handle, keys, 4_000).await {
                Ok(()) => keys += 1,
                Err(error) => break error,
            }
            assert!(keys < 10_000, "the quota holds");
        };
        assert_eq!(refused, RequestError::Apply(ApplyError::NoSpace));
        until("the alarm is raised", || !handle.alarms().list(0).is_empty()).await;
        // Deletions and compactions get through, and reads.
        assert!(handle.view().get(b"k000001").expect("read").is_some());
        thin_out(&handle, keys / 10 * 10).await;
        until("the alarm is disarmed", || handle.alarms().list(0).is_empty()).await;
        assert!(handle.backend().size() <= (8 << 20) / 100 * 60);
        put(&handle, 1, 4_000).await.expect("there is room again");
    });
    driver.stop();
}

#[test]
fn a_start_rewrites_the_file_when_that_frees_enough() {
    const KEYS: usize = 4_000;
    let scratch = Scratch::new("boot");
    let mut driver = start(&scratch, Options::default());
    block_on(async {
        driver.ready().await;
        fill(&driver.handle(), KEYS, 1_000).await;
        thin_out(&driver.handle(), KEYS).await;
    });
    driver.stop();
    let full = scratch.bytes();
    let options = |mib| Options { bootstrap_defrag_threshold_mib: mib, ..Options::default() };
    start(&scratch, options(100)).stop();
    assert_eq!(scratch.bytes(), full, "that would free too little");
    start(&scratch, options(2)).stop();
    assert!(scratch.bytes() < full / 4, "{} of {full} bytes", scratch.bytes());
    check(&scratch, KEYS);
}

#[test]
fn a_physical_compaction_is_answered_at_its_end_however_long_it_takes() {
    let scratch = Scratch::new("physical");
    let pause = Duration::from_millis(100);
    let options = Options { compaction_batch: 8, compaction_pause: pause, ..Options::default() };
    let longer = options.request_timeout() + Duration::from_secs(1);
    let mut driver = start(&scratch, options);
    block_on(async {
        driver.ready().await;
        let handle = driver.handle();
        for _ in 0..8 {
            fill(&handle, 100, 10).await;
        }
        let begun = Instant::now();
        let revision = handle.view().revision();
        let request = pb::CompactionRequest { revision, physical: true };
        handle.compact(&Identity::default(), &request).await.expect("its end");
        assert!(begun.elapsed() > longer, "a test of nothing: {:?}", begun.elapsed());
        handle.backend().commit().expect("a commit");
        let finished = handle.backend().meta().expect("read").finished_compaction;
        assert_eq!(finished, Some(revision));
    });
    driver.stop();
}
