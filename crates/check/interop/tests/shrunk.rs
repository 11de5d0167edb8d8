//! A db that is shrunk under load: killed in the midst of it again and again, it has
//! every key, and the real etcd goes on with it.

#[expect(dead_code, reason = "other tests raise alarms")]
mod told;

use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_client::{Client, Options};
use mainstay_interop::{Folder, Kind, Member, Start};
use mainstay_proto::etcdserverpb as pb;
use told::tell;

const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 4_000;
/// Times that it is killed while the file becomes smaller.
const KILLS: usize = 3;
/// Whatever is waited for has come by then.
const LONGEST: Duration = Duration::from_secs(60);

async fn client(endpoint: &str) -> Result<Client, String> {
    Client::connect(endpoint, &Options::default()).await.map_err(|e| e.to_string())
}

fn put(n: usize) -> pb::PutRequest {
    let (key, value) = (format!("k{n:06}"), vec![n as u8; VALUE_BYTES]);
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

/// Puts every key, deletes nine of ten, and compacts.
async fn prepare(endpoint: &str) -> Result<(), String> {
    let client = client(endpoint).await?;
    let mut last = 0;
    for first in (0..KEYS).step_by(100) {
        let puts = (first..first + 100).map(|n| pb::request_op::Request::RequestPut(put(n)));
        last = txn(&client, puts).await?;
    }
    for first in (0..KEYS).step_by(1000) {
        let deletes = (first..first + 1000).step_by(10).map(|n| {
            pb::request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: format!("k{:06}", n + 1).into(),
                range_end: format!("k{:06}", n + 10).into(),
                ..Default::default()
            })
        });
        last = txn(&client, deletes).await?.max(last);
    }
    let request = pb::CompactionRequest { revision: last, physical: true };
    client.kv().compact(request).await.map_err(|e| e.to_string())?;
    Ok(())
}

async fn txn(
    client: &Client,
    ops: impl Iterator<Item = pb::request_op::Request>,
) -> Result<i64, String> {
    let success = ops.map(|request| pb::RequestOp { request: Some(request) }).collect();
    let request = pb::TxnRequest { success, ..Default::default() };
    let answer = client.kv().txn(request).await.map_err(|e| e.to_string())?;
    Ok(answer.into_inner().header.map_or(0, |header| header.revision))
}

/// Puts one key after the other that is there, until the file is as small as `least` says.
async fn put_until(
    endpoint: &str,
    db: &Path,
    least: impl Fn(u64, u64) -> bool,
) -> Result<(), String> {
    let client = client(endpoint).await?;
    let begun = Instant::now();
    for n in (0..KEYS).step_by(10).cycle() {
        client.kv().put(put(n)).await.map_err(|e| e.to_string())?;
        let status = client.maintenance().status(pb::StatusRequest {}).await;
        let status = status.map_err(|e| e.to_string())?.into_inner();
        let bytes = std::fs::metadata(db).map_err(|e| e.to_string())?.len();
        if least(bytes, status.db_size_in_use.unsigned_abs()) {
            return Ok(());
        }
        if begun.elapsed() > LONGEST {
            let in_use = status.db_size_in_use;
            return Err(format!("{bytes} bytes, {in_use} in use, after {LONGEST:?}"));
        }
    }
    Ok(())
}

async fn live_keys(endpoint: &str) -> Result<i64, String> {
    let request = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        count_only: true,
        ..Default::default()
    };
    let answer = client(endpoint).await?.kv().range(request).await.map_err(|e| e.to_string())?;
    Ok(answer.into_inner().count)
}

#[test]
fn a_file_that_is_killed_while_it_shrinks_has_every_key_and_is_taken_by_etcd() {
    let folder = Folder::new("space");
    let start = Start::new(Kind::Ours, &folder.path().join("m.etcd"));
    let ours = start.clone().flag("--initial-cluster-version=3.5");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("an event loop");
    let done = |what: &str, result: Result<(), String>| {
        result.unwrap_or_else(|why| panic!("{what}: {why}"));
    };
    let db = start.data_dir.join("member/snap/db");
    let run = || -> Member { ours.run().expect("ours is there") };
    let mut member = run();
    done("prepare", runtime.block_on(prepare(&member.endpoint())));
    let mut before = std::fs::metadata(&db).expect("a db").len();
    assert!(before > 30 << 20, "{before} bytes");
    for kill in 0..KILLS {
        let smaller = |bytes: u64, in_use: u64| bytes < before || bytes * 4 <= in_use * 5;
        let shrunk = runtime.block_on(put_until(&member.endpoint(), &db, smaller));
        done("shrink", shrunk);
        member.kill();
        before = std::fs::metadata(&db).expect("a db").len();
        member = run();
        let keys = runtime.block_on(live_keys(&member.endpoint())).expect("a count");
        assert_eq!(keys, KEYS as i64 / 10, "after kill {kill}, at {before} bytes");
    }
    let small = |bytes: u64, in_use: u64| bytes * 4 <= in_use * 5;
    let shrunk = runtime.block_on(put_until(&member.endpoint(), &db, small));
    done("shrink", shrunk);
    let told = runtime.block_on(tell(&member)).expect("our own state");
    member.stop();
    let Some(theirs) = start.with_kind(Kind::Real).run() else { return };
    let after = runtime.block_on(tell(&theirs)).expect("its state");
    assert_eq!(after.against(&told), "");
    theirs.stop();
}
