//! The Rust client etcd-client, unmodified, against the member at `INTEROP_ENDPOINT`.
//! Run by `tests/rust_client.rs` of mainstay-interop, which starts the member.

use std::time::{Duration, Instant};

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, WatchFilterType, WatchOptions, WatchStream,
};

type Done = Result<(), Error>;

async fn client() -> Result<Client, Error> {
    let endpoint = std::env::var("INTEROP_ENDPOINT").expect("a Rust test sets INTEROP_ENDPOINT");
    Client::connect([endpoint], None).await
}

/// The events of the next answers, until there are this many; no wait is endless.
async fn take(
    stream: &mut WatchStream,
    wanted: usize,
) -> Result<Vec<(EventType, String, String)>, Error> {
    let mut got = Vec::new();
    while got.len() < wanted {
        let answer = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
        let answer = answer.expect("an event in time")?.expect("an open stream");
        for event in answer.events() {
            let kv = event.kv().expect("every event has a pair");
            got.push((event.event_type(), kv.key_str()?.to_owned(), kv.value_str()?.to_owned()));
        }
    }
    Ok(got)
}

/// The text of the error that a call must end with.
fn told<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => panic!("it must be refused"),
        Err(Error::GRpcStatus(status)) => status.message().to_owned(),
        Err(other) => other.to_string(),
    }
}

#[tokio::test]
async fn put_get_delete() -> Done {
    let mut c = client().await?;
    c.put("/rust/kv/a", "1", None).await?;
    let put = c.put("/rust/kv/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(put.prev_key().expect("the pair before").value(), b"1");
    let got = c.get("/rust/kv/a", None).await?;
    let kv = &got.kvs()[0];
    assert_eq!((kv.value(), kv.version()), (&b"2"[..], 2));
    assert!(kv.create_revision() < kv.mod_revision());
    let past = GetOptions::new().with_revision(kv.create_revision()).with_serializable();
    assert_eq!(c.get("/rust/kv/a", Some(past)).await?.kvs()[0].value(), b"1");
    let all = DeleteOptions::new().with_prefix().with_prev_key();
    let gone = c.delete("/rust/kv/", Some(all)).await?;
    assert_eq!((gone.deleted(), gone.prev_kvs()[0].value()), (1, &b"2"[..]));
    assert_eq!(c.get("/rust/kv/a", None).await?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn ranges() -> Done {
    let mut c = client().await?;
    for n in 0..30 {
        c.put(format!("/rust/range/{n:02}"), format!("{}", 99 - n), None).await?;
    }
    let prefix = || GetOptions::new().with_prefix();
    let page = c.get("/rust/range/", Some(prefix().with_limit(7))).await?;
    assert_eq!((page.kvs().len(), page.more(), page.count()), (7, true, 30));
    let sorted = prefix().with_sort(SortTarget::Value, SortOrder::Ascend).with_limit(1);
    assert_eq!(c.get("/rust/range/", Some(sorted)).await?.kvs()[0].key(), b"/rust/range/29");
    let keys = c.get("/rust/range/", Some(prefix().with_keys_only())).await?;
    assert!(keys.kvs().len() == 30 && keys.kvs().iter().all(|kv| kv.value().is_empty()));
    let count = c.get("/rust/range/", Some(prefix().with_count_only())).await?;
    assert_eq!((count.count(), count.kvs().len()), (30, 0));
    let part = GetOptions::new().with_range("/rust/range/05");
    assert_eq!(c.get("/rust/range/02", Some(part)).await?.count(), 3);
    Ok(())
}

#[tokio::test]
async fn transactions() -> Done {
    let mut c = client().await?;
    let (a, b) = ("/rust/txn/a", "/rust/txn/b");
    c.delete(a, None).await?;
    let create = || {
        Txn::new()
            .when([Compare::create_revision(a, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(a, "new", None), TxnOp::get(a, None)])
            .or_else([TxnOp::get(a, None), TxnOp::delete(a, None)])
    };
    let first = c.txn(create()).await?;
    assert!(first.succeeded());
    let [TxnOpResponse::Put(_), TxnOpResponse::Get(got)] = &first.op_responses()[..] else {
        panic!("a put and a get: {first:?}")
    };
    assert_eq!(got.kvs()[0].value(), b"new");
    let inner = Txn::new()
        .when([Compare::value(a, CompareOp::Greater, "mew")])
        .and_then([TxnOp::put(b, "nested", None)]);
    let outer = Txn::new()
        .when([
            Compare::value(a, CompareOp::Equal, "new"),
            Compare::version(a, CompareOp::Equal, 1),
            Compare::lease(a, CompareOp::Equal, 0),
            Compare::mod_revision("/rust/txn/", CompareOp::Greater, 1).with_prefix(),
        ])
        .and_then([TxnOp::txn(inner)]);
    assert!(c.txn(outer).await?.succeeded());
    assert_eq!(c.get(b, None).await?.kvs()[0].value(), b"nested");
    let second = c.txn(create()).await?;
    assert!(!second.succeeded() && second.op_responses().len() == 2);
    assert_eq!(c.get(a, None).await?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn watches() -> Done {
    let mut c = client().await?;
    let mut stream =
        c.watch("/rust/watch/", Some(WatchOptions::new().with_prefix().with_prev_key())).await?;
    c.put("/rust/watch/a", "1", None).await?;
    c.put("/rust/watch/b", "2", None).await?;
    c.delete("/rust/watch/a", None).await?;
    let text = |kind, key: &str, value: &str| (kind, key.to_owned(), value.to_owned());
    assert_eq!(
        take(&mut stream, 3).await?,
        [
            text(EventType::Put, "/rust/watch/a", "1"),
            text(EventType::Put, "/rust/watch/b", "2"),
            text(EventType::Delete, "/rust/watch/a", ""),
        ]
    );
    stream.request_progress().await?;
    let progress = stream.message().await?.expect("an open stream");
    assert!(progress.events().is_empty() && !progress.created());
    stream.watch("/rust/other", Some(WatchOptions::new().with_watch_id(77))).await?;
    let created = stream.message().await?.expect("an open stream");
    assert_eq!((created.created(), created.watch_id()), (true, 77));
    stream.cancel(77).await?;
    assert!(stream.message().await?.expect("an open stream").canceled());
    Ok(())
}

#[tokio::test]
async fn watches_from_the_past() -> Done {
    let mut c = client().await?;
    let first = c.put("/rust/past/a", "0", None).await?;
    let start = first.header().expect("every answer has one").revision();
    for n in 1..60 {
        c.put("/rust/past/a", n.to_string(), None).await?;
    }
    c.delete("/rust/past/a", None).await?;
    let options = || WatchOptions::new().with_start_revision(start);
    let mut stream = c.watch("/rust/past/a", Some(options())).await?;
    let events = take(&mut stream, 61).await?;
    assert!((0..60).all(|n| events[n].2 == n.to_string()) && events[60].0 == EventType::Delete);
    let deletes = options().with_filters([WatchFilterType::NoPut]);
    let mut stream = c.watch("/rust/past/a", Some(deletes)).await?;
    assert_eq!(take(&mut stream, 1).await?[0].0, EventType::Delete);
    Ok(())
}

#[tokio::test]
async fn a_lease_is_kept_alive_and_ends() -> Done {
    let mut c = client().await?;
    let id = c.lease_grant(2, None).await?.id();
    c.put("/rust/lease/a", "1", Some(PutOptions::new().with_lease(id))).await?;
    let left = c.lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    assert_eq!((left.granted_ttl(), left.keys()), (2, &[b"/rust/lease/a".to_vec()][..]));
    assert!(c.leases().await?.leases().iter().any(|lease| lease.id() == id));
    let (mut keeper, mut answers) = c.lease_keep_alive(id).await?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        keeper.keep_alive().await?;
        assert_eq!(answers.message().await?.expect("an open stream").ttl(), 2);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(c.get("/rust/lease/a", None).await?.count(), 1, "renewed past its time");
    let mut stream = c.watch("/rust/lease/a", None).await?;
    assert_eq!(take(&mut stream, 1).await?[0].0, EventType::Delete);
    assert_eq!(c.lease_time_to_live(id, None).await?.ttl(), -1);
    Ok(())
}

#[tokio::test]
async fn a_lease_revoked_takes_its_keys_along() -> Done {
    let mut c = client().await?;
    let id = c.lease_grant(600, Some(LeaseGrantOptions::new().with_id(88_002))).await?.id();
    assert_eq!(id, 88_002);
    c.put("/rust/revoked", "1", Some(PutOptions::new().with_lease(id))).await?;
    c.lease_revoke(id).await?;
    assert_eq!(c.get("/rust/revoked", None).await?.count(), 0);
    assert!(told(c.lease_revoke(id).await).contains("requested lease not found"));
    Ok(())
}

#[tokio::test]
async fn the_cluster_and_its_maintenance() -> Done {
    let mut c = client().await?;
    let status = c.status().await?;
    assert!(status.version().starts_with("3.") && status.db_size() > 0);
    let members = c.member_list().await?;
    assert_eq!((members.members().len(), members.members()[0].name()), (1, "m1"));
    assert_eq!(members.members()[0].id(), status.leader());
    assert!(c.hash_kv(0).await?.hash() > 0);
    c.defragment().await?;
    let (mut stream, mut bytes) = (c.snapshot().await?, 0);
    while let Some(piece) = stream.message().await? {
        bytes += piece.blob().len();
    }
    assert_eq!(bytes % 512, 32);
    Ok(())
}

#[tokio::test]
async fn errors_are_told() -> Done {
    let mut c = client().await?;
    let put = c.put("/rust/errors/a", "1", None).await?;
    let here = put.header().expect("every answer has one").revision();
    let future = GetOptions::new().with_revision(here + 100_000);
    let text = told(c.get("/rust/errors/a", Some(future)).await);
    assert!(text.contains("required revision is a future revision"), "{text}");
    let text = told(c.put("", "x", None).await);
    assert!(text.contains("key is not provided"), "{text}");
    let leased = PutOptions::new().with_lease(12_345_678);
    let text = told(c.put("/rust/errors/a", "x", Some(leased)).await);
    assert!(text.contains("requested lease not found"), "{text}");
    let text = told(c.put("/rust/errors/a", vec![0; 1_600_000], None).await);
    assert!(text.contains("request is too large"), "{text}");
    let twice = Txn::new().and_then([TxnOp::put("k", "1", None), TxnOp::put("k", "2", None)]);
    let text = told(c.txn(twice).await);
    assert!(text.contains("duplicate key given in txn request"), "{text}");
    // Far in the past of what the other tests read.
    c.compact(2, Some(CompactionOptions::new().with_physical())).await?;
    let text = told(c.get("a", Some(GetOptions::new().with_revision(1))).await);
    assert!(text.contains("required revision has been compacted"), "{text}");
    let mut watch = c.watch("a", Some(WatchOptions::new().with_start_revision(1))).await?;
    let mut answer = watch.message().await?.expect("an open stream");
    if answer.created() && !answer.canceled() {
        answer = watch.message().await?.expect("an open stream");
    }
    assert_eq!((answer.canceled(), answer.compact_revision()), (true, 2));
    assert_eq!(c.get("/rust/errors/a", None).await?.kvs()[0].value(), b"1");
    Ok(())
}
