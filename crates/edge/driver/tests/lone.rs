//! A lone member over the simulated disk: it answers, and remembers.

use std::path::PathBuf;
use std::sync::Arc;

use mainstay_driver::{Alone, Driver, Handle, Options, RequestField};
use mainstay_env_os::{OsClock, OsDice, OsDisk};
use mainstay_proto::etcdserverpb as pb;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path =
            std::env::temp_dir().join(format!("mainstay-driver-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(scratch: &Scratch) -> Driver {
    let options = Options { data_dir: scratch.0.clone(), snapshot_count: 50, ..Options::default() };
    Driver::start(
        options,
        Arc::new(OsDisk),
        Arc::new(OsClock::new()),
        &mut OsDice::new(),
        Arc::new(Alone),
    )
    .expect("starts")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(future)
}

async fn put(handle: &Handle, key: &str, value: &str) {
    let put = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    handle.propose(RequestField::Put, &put).await.expect("put");
}

fn value(handle: &Handle, key: &str) -> Option<String> {
    let kv = handle.view().get(key.as_bytes()).expect("reads")?;
    Some(String::from_utf8(kv.value.to_vec()).expect("text"))
}

#[test]
fn what_is_acknowledged_is_there_after_a_restart() {
    let scratch = Scratch::new("restart");
    for round in 0..3 {
        let mut driver = start(&scratch);
        assert_eq!(driver.is_new(), round == 0);
        block_on(async {
            driver.ready().await;
            let handle = driver.handle();
            for past in 0..round {
                assert_eq!(value(&handle, &format!("k{past}-99")), Some("99".into()));
            }
            for n in 0..100 {
                put(&handle, &format!("k{round}-{n}"), &n.to_string()).await;
                assert_eq!(value(&handle, &format!("k{round}-{n}")), Some(n.to_string()));
            }
        });
        driver.stop();
    }
}

#[test]
fn a_founding_that_was_cut_short_before_the_first_entry_is_finished() {
    let scratch = Scratch::new("unborn");
    let driver = start(&scratch);
    let identity = driver.handle().identity();
    driver.stop();
    // A log that was made and never written to, as a power cut leaves it.
    let wal = scratch.0.join("member/wal");
    std::fs::remove_dir_all(&wal).expect("our own folder");
    let db = scratch.0.join("member/snap/db");
    std::fs::remove_file(&db).expect("our own file");
    let file = mainstay_backend::OpenOptions::default();
    drop(mainstay_backend::Backend::open(Arc::new(OsDisk), &db, file, &mut |_, _, _| {}));
    let metadata = mainstay_wal::Metadata { member: identity.member, cluster: identity.cluster };
    drop(mainstay_wal::Wal::create(Arc::new(OsDisk), &wal, metadata).expect("a log"));
    let mut driver = start(&scratch);
    block_on(async {
        driver.ready().await;
        put(&driver.handle(), "k", "v").await;
    });
    assert_eq!(driver.handle().identity(), identity);
    driver.stop();
}
