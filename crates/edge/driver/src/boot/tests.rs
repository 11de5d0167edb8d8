//! Whatever a power cut leaves, a start makes a member of it that knows all it promised.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_env::Disk;
use mainstay_env_os::{OsClock, OsDice};
use mainstay_env_sim::{SimDisk, Unsynced};
use mainstay_proto::etcdserverpb as pb;
use mainstay_wal::WalOptions;

use super::{Booted, Tuning, boot};
use crate::{Alone, Driver, Options, RequestField};

/// Segments so small that old ones are given up.
pub(crate) struct SmallSegments;

impl Tuning for SmallSegments {
    fn log(&mut self, options: &mut WalOptions) {
        options.segment_bytes = 4096;
    }
}

fn options(data_dir: &str) -> Options {
    Options {
        data_dir: data_dir.into(),
        snapshot_count: 8,
        snapshot_catchup_entries: 2,
        max_snapshots: 1,
        max_wals: 1,
        backend_batch_interval: Duration::from_millis(5),
        ..Options::default()
    }
}

fn start(disk: &SimDisk, options: &Options) -> Booted {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    boot(&disk, options, 1, &mut SmallSegments).expect("starts")
}

/// What a power cut before some step leaves.
struct Left {
    step: String,
    /// What was applied and acknowledged before.
    acknowledged: u64,
    disks: Vec<SimDisk>,
}

/// Puts `times` values into a lone member on `disk`, with a power cut before every step.
fn cut_at_every_step(disk: &SimDisk, options: &Options, times: usize) -> Vec<Left> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let left = Arc::new(Mutex::new(Vec::new()));
    let (known, found) = (Arc::clone(&acknowledged), Arc::clone(&left));
    disk.observe(move |disk, step| {
        let acknowledged = known.load(Ordering::Acquire);
        let crash = |way| disk.crash_with(way, step.number);
        let disks = Unsynced::ALL.into_iter().map(crash).collect();
        let step = format!("{} {:?} of {}", step.number, step.kind, step.path.display());
        found.lock().expect("no panic holds it").push(Left { step, acknowledged, disks });
    });
    let mut driver = Driver::start_tuned(
        options.clone(),
        Arc::new(disk.clone()),
        Arc::new(OsClock::new()),
        &mut OsDice::new(),
        Arc::new(Alone),
        &mut SmallSegments,
    )
    .expect("starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        driver.ready().await;
        let handle = driver.handle();
        for n in 0..times {
            let put = pb::PutRequest {
                key: format!("k{n}").into(),
                value: vec![b'v'; 300].into(),
                ..Default::default()
            };
            handle.propose(RequestField::Put, &put).await.expect("put");
            acknowledged.store(handle.standing().applied.0, Ordering::Release);
        }
    });
    driver.stop();
    std::mem::take(&mut left.lock().expect("no panic holds it"))
}

/// With one `.snap` kept, the one before it must not go before the log knows the new one
/// (09a7417): until then it is all that counts.
#[test]
fn a_power_cut_at_any_step_leaves_a_member_that_starts() {
    let (disk, options) = (SimDisk::new(1), options("/m"));
    let left = cut_at_every_step(&disk, &options, 60);
    let first = disk.list(&options.wal_path()).expect("a log")[0].clone();
    assert!(!first.ends_with("-0000000000000000.wal"), "old segments are given up: {first}");
    assert!(left.len() > 150, "{} steps", left.len());
    for Left { step, acknowledged, disks } in &left {
        for (way, disk) in Unsynced::ALL.iter().zip(disks) {
            let disk: Arc<dyn Disk> = Arc::new(disk.clone());
            let booted = boot(&disk, &options, 1, &mut SmallSegments);
            let booted = booted.unwrap_or_else(|why| panic!("cut at {step}, {way:?}: {why}"));
            let last = booted.member.status().last.0;
            let lost = format!("cut at {step}, {way:?}: {acknowledged} was acknowledged");
            assert!(last >= *acknowledged, "{lost}, the log ends at {last}");
        }
    }
}

/// The data directory and all above it that a start has made have durable names.
#[test]
fn a_new_directory_does_not_vanish() {
    for data_dir in ["/m", "/var/lib/etcd/m", "m"] {
        let options = options(data_dir);
        let disk = SimDisk::new(1);
        let identity = start(&disk, &options).identity;
        let left = disk.crash_with(Unsynced::Lost, 1);
        assert!(mainstay_wal::exists(&left, &options.wal_path()).expect("readable"), "{data_dir}");
        assert_eq!(start(&left, &options).identity, identity);
        // Made by a start that was killed, before it had made a log.
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new(data_dir)).expect("makes it");
        start(&disk, &options);
        let left = disk.crash_with(Unsynced::Lost, 1);
        assert!(mainstay_wal::exists(&left, &options.wal_path()).expect("readable"), "{data_dir}");
    }
}
