//! A lone member whose db is damaged under it: what is damaged is refused, the rest is served.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_driver::{Alone, BootError, Driver, Handle, Options, RequestField};
use mainstay_env_os::{OsClock, OsDice, OsDisk};
use mainstay_proto::etcdserverpb as pb;

/// Keys that are put, with values of a KiB: some hundred pages.
const KEYS: usize = 400;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path =
            std::env::temp_dir().join(format!("mainstay-damaged-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(scratch: &Scratch, scrub_period: Duration) -> Result<Driver, BootError> {
    let options = Options { data_dir: scratch.0.clone(), scrub_period, ..Options::default() };
    let clock = Arc::new(OsClock::new());
    Driver::start(options, Arc::new(OsDisk), clock, &mut OsDice::new(), Arc::new(Alone))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}

fn value(n: usize) -> String {
    format!("value {n:0>1018}")
}

/// Puts everything, and flips a bit of one of the values in the file.
fn fill_and_damage(scratch: &Scratch, driver: &mut Driver) -> Handle {
    let handle = driver.handle();
    block_on(async {
        driver.ready().await;
        let put = async |n: usize| {
            let (key, value) = (format!("k{n}").into(), value(n).into());
            let put = pb::PutRequest { key, value, ..Default::default() };
            handle.propose(RequestField::Put, &put).await.expect("put");
        };
        for n in 0..KEYS {
            put(n).await;
        }
        handle.commit_backend().await.expect("committed");
        // The view that this publishes reads from the file; the one before may hold the rows.
        put(0).await;
    });
    let db = scratch.0.join("member/snap/db");
    let bytes = std::fs::read(&db).expect("the db");
    let wanted = value(KEYS / 2).into_bytes();
    let at = bytes.windows(wanted.len()).rposition(|part| part == wanted).expect("it is there");
    let file = std::fs::OpenOptions::new().write(true).open(&db).expect("the db");
    file.write_all_at(&[bytes[at + 500] ^ 4], at as u64 + 500).expect("written");
    handle
}

#[test]
fn what_is_damaged_is_refused_and_the_rest_is_served() {
    let scratch = Scratch::new("reads");
    let mut driver = start(&scratch, Duration::ZERO).expect("starts");
    let handle = fill_and_damage(&scratch, &mut driver);
    let mut refused = 0;
    for n in 0..KEYS {
        match handle.view().get(format!("k{n}").as_bytes()) {
            Ok(kv) => assert_eq!(kv.expect("it was put").value, value(n)),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("member/snap/db: page") && text.contains("checksum"),
                    "{text}"
                );
                refused += 1;
            }
        }
    }
    assert!((1..8).contains(&refused), "{refused} keys lie on one page");
    assert_eq!(handle.stats().damaged_pages.get(), 1);
    block_on(async {
        let put = pb::PutRequest { key: "new".into(), value: "v".into(), ..Default::default() };
        handle.propose(RequestField::Put, &put).await.expect("it takes what is new");
        handle.commit_backend().await.expect("and commits it");
    });
    // Nothing of it goes into a hash or a snapshot.
    assert!(handle.view().hash_kv(0).is_err());
    let copy = handle.backend().snapshot().reader().copy();
    let mut buf = vec![0; copy.len() as usize];
    assert!(copy.read_at(0, &mut buf).is_err());
    drop((copy, handle));
    driver.stop();
    // The next start finds it before it serves anything.
    let error = start(&scratch, Duration::ZERO).err().expect("it is damaged").to_string();
    assert!(error.contains("member/snap/db: page") && error.contains("repair"), "{error}");
}

#[test]
fn a_scrub_finds_it_without_a_read() {
    let scratch = Scratch::new("scrub");
    let mut driver = start(&scratch, Duration::from_millis(300)).expect("starts");
    let handle = fill_and_damage(&scratch, &mut driver);
    let begun = Instant::now();
    let stats = handle.stats();
    while stats.damaged_pages.get() == 0 || stats.scrub_ended.get() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no pass has found it");
        std::thread::yield_now();
    }
    assert!(stats.scrubbed_pages.get() > 0 && stats.scrub_passes.get() > 0);
    assert_eq!(stats.damaged_pages.get(), 1, "told once");
    driver.stop();
}
