//! A machine that has too little: a disk that takes a second for each sync, and a process
//! without free descriptors.

#[expect(dead_code, reason = "disk_faults uses the rest")]
mod fault;

use std::fs::OpenOptions;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fault::{Injection, until};
use mainstay_client::{Client, Options};
use mainstay_interop::{Folder, Kind, Load, Member, Start, our};
use mainstay_proto::etcdserverpb as pb;
use tokio::runtime::Runtime;

fn event_loop() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop")
}

fn put(n: usize) -> pb::PutRequest {
    let value = n.to_string().into();
    pb::PutRequest { key: "k".into(), value, ..Default::default() }
}

/// Goes through the log and leaves no trace: a put if there were a key that is not.
fn entry() -> pb::TxnRequest {
    let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put(0))) };
    let never = pb::Compare {
        result: pb::compare::CompareResult::Greater as i32,
        target: pb::compare::CompareTarget::Version as i32,
        key: "k".into(),
        target_union: Some(pb::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    pb::TxnRequest { compare: vec![never], success: vec![put], failure: Vec::new() }
}

async fn get(client: &Client, serializable: bool) -> pb::RangeResponse {
    let range = pb::RangeRequest { key: "k".into(), serializable, ..Default::default() };
    client.kv().range(range).await.expect("it reads").into_inner()
}

/// The slow disk of the fault matrix: what is acknowledged is there, no sooner than its disk
/// has it; reads wait for no disk.
#[test]
fn a_log_whose_syncs_take_a_second_loses_nothing_and_reads_as_ever() {
    const SYNC: Duration = Duration::from_secs(1);
    let folder = Folder::new("slow-log");
    let start = Start::new(Kind::Ours, &folder.path().join("m.etcd"));
    let member = start.run().expect("ours is there");
    let runtime = event_loop();
    let mut load = Load::new(13, 8);
    let mut write = |member: &Member, count, when: &str| {
        let ran = runtime.block_on(load.run(&member.endpoint(), count, || {}));
        ran.unwrap_or_else(|why| panic!("{when}: {why}; it logged:\n{}", member.log()));
        let verified = runtime.block_on(load.verify(&member.endpoint()));
        verified.unwrap_or_else(|why| panic!("{when}: {why}; it logged:\n{}", member.log()))
    };
    write(&member, 100, "before");
    let log = start.data_dir.join("member/wal/0000000000000000-0000000000000000.wal");
    let delay = format!("delay_exit={}", SYNC.as_micros());
    let path = log.display().to_string();
    let Some(injection) = Injection::of(member.pid(), "fdatasync", &delay, &path) else { return };
    runtime.block_on(async {
        let client = Client::connect(&member.endpoint(), &Options::default()).await;
        let client = client.expect("it serves");
        let begun = Instant::now();
        client.kv().txn(entry()).await.expect("it writes");
        assert!(begun.elapsed() >= SYNC, "acknowledged after {:?}", begun.elapsed());
        let unsynced = client.kv();
        let writing = tokio::spawn(async move { unsynced.clone().txn(entry()).await.map(drop) });
        for serializable in [true, false] {
            let begun = Instant::now();
            assert!(get(&client, serializable).await.kvs.is_empty());
            assert!(begun.elapsed() < SYNC / 2, "a read took {:?}", begun.elapsed());
        }
        writing.await.expect("no panic").expect("it writes");
    });
    write(&member, 40, "while every sync takes a second");
    member.kill();
    drop(injection);
    let member = start.run().expect("ours is there");
    write(&member, 100, "in its next life");
}

/// A member with few descriptors, which keeps some for itself.
fn start_with(descriptors: u32, start: &Start) -> Child {
    let command = start.command().expect("ours is there");
    let log = start.data_dir.with_extension("log");
    let log = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
    Command::new("sh")
        .args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")])
        .arg(our("etcd"))
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("a shell starts it")
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// More connections than there are descriptors: who is connected is served, files are opened
/// as before, and whoever waits is served once others leave.
#[test]
fn a_crowd_of_connections_takes_no_descriptor_that_the_member_needs() {
    let folder = Folder::new("crowd");
    let start = Start::new(Kind::Ours, &folder.path().join("m.etcd")).flag("--snapshot-count=5");
    let _running = Running(start_with(300, &start));
    let address = ("127.0.0.1", start.ports.0);
    let endpoint = format!("http://{}:{}", address.0, address.1);
    let runtime = event_loop();
    until("it serves", || TcpStream::connect(address).is_ok());
    let client = runtime.block_on(async {
        let client = Client::connect(&endpoint, &Options::default()).await.expect("it serves");
        client.kv().put(put(0)).await.expect("it writes");
        client
    });
    let crowd: Vec<TcpStream> = (0..400).map_while(|_| TcpStream::connect(address).ok()).collect();
    assert!(crowd.len() > 200, "{} connections are no crowd", crowd.len());
    runtime.block_on(async {
        for n in 1..=100 {
            client.kv().put(put(n)).await.expect("it writes, and takes snapshots");
        }
        assert_eq!(get(&client, false).await.kvs[0].version, 101);
    });
    drop(crowd);
    runtime.block_on(async {
        let other = Client::connect(&endpoint, &Options::default()).await.expect("it serves");
        assert_eq!(get(&other, false).await.kvs[0].version, 101);
    });
}
