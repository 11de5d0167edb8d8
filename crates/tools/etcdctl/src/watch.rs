//! watch: follow changes, print them or run a command for each.

use std::io::BufRead as _;

use mainstay_proto::{etcdserverpb as pb, mvccpb};
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::exit::{Failure, INTERRUPTED, INVALID_INPUT};
use crate::flags::Line;
use crate::kv::prefix_end;
use crate::quote::quote;
use crate::session::Session;
use crate::show::complain;
use crate::txn::words;

type Requests = mpsc::Sender<pb::WatchRequest>;

pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let client = session.client().await?;
    let (requests, stream) = mpsc::channel(16);
    let mut command = None;
    if session.line.is("interactive") {
        let requests = requests.clone();
        std::thread::spawn(move || read_lines(&requests));
    } else {
        let create = create_request(&session.line)?;
        command = session.line.after_dashes.clone().filter(|c| !c.is_empty());
        // The channel has room, and its other end is about to be read.
        let _ = requests.send(request(RequestUnion::CreateRequest(create))).await;
    }
    let mut call = tonic::Request::new(ReceiverStream::new(stream));
    call.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let mut answers = client.watch().watch(call).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if answer.canceled {
            let why = if answer.compact_revision != 0 {
                "etcdserver: mvcc: required revision has been compacted".to_owned()
            } else {
                answer.cancel_reason.clone()
            };
            complain(&format!("watch was canceled ({why})"));
            break;
        }
        if answer.created {
            continue;
        }
        match &command {
            None => session.show.watch(&answer)?,
            Some(command) => {
                for event in &answer.events {
                    run_command(command, &answer, event).await?;
                }
            }
        }
    }
    Err(Failure::new(INTERRUPTED, "watch is canceled by the server"))
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

fn create_request(line: &Line) -> Result<pb::WatchCreateRequest, Failure> {
    let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let (env_key, env_end) = (env("ETCDCTL_WATCH_KEY"), env("ETCDCTL_WATCH_RANGE_END"));
    let (key, end) = match (line.args.as_slice(), env_key) {
        ([], Some(key)) => (key, env_end),
        ([], None) => {
            return Err(Failure::bad_args(
                "watch command needs 1 argument as key and an optional argument as range_end",
            ));
        }
        (_, Some(_)) => {
            return Err(Failure::bad_args(
                "a key is given both as argument and in ETCDCTL_WATCH_KEY",
            ));
        }
        ([key], None) => (key.clone(), None),
        ([key, end], None) => (key.clone(), Some(end.clone())),
        _ => return Err(Failure::bad_args("too many arguments")),
    };
    let prefix = line.is("prefix");
    if prefix && end.is_some() {
        return Err(Failure::bad_args("`range_end` and `--prefix` are mutually exclusive"));
    }
    let range_end = match end {
        Some(end) => end.into(),
        None if prefix && key.is_empty() => bytes::Bytes::from_static(&[0]),
        None if prefix => prefix_end(key.as_bytes()),
        None => bytes::Bytes::new(),
    };
    let key = if prefix && key.is_empty() { "\0".into() } else { key.into() };
    Ok(pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: line.int("rev"),
        progress_notify: line.is("progress-notify"),
        prev_kv: line.is("prev-kv"),
        ..Default::default()
    })
}

/// Lines of `watch -i`: `watch [flags] key [end]`, or `progress`.
fn read_lines(requests: &Requests) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match interactive(&line) {
            Ok(Some(union)) => {
                if requests.blocking_send(request(union)).is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(failure) => complain(&format!("Invalid command {line:?}: {}", failure.message)),
        }
    }
    complain("Error: reading from standard input: EOF");
    std::process::exit(i32::from(INVALID_INPUT));
}

fn interactive(text: &str) -> Result<Option<RequestUnion>, Failure> {
    let bad = |why: &str| Failure::new(INVALID_INPUT, why);
    let words = words(text).ok_or_else(|| bad("quotes do not fit"))?;
    match words.split_first() {
        None => Ok(None),
        Some((first, [])) if first == "progress" => {
            Ok(Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})))
        }
        Some((first, rest)) if first == "watch" => {
            let line = Line::read_as("watch", rest)?;
            Ok(Some(RequestUnion::CreateRequest(create_request(&line)?)))
        }
        Some(_) => Err(bad("only watch and progress are understood")),
    }
}

async fn run_command(
    command: &[String],
    answer: &pb::WatchResponse,
    event: &mvccpb::Event,
) -> Result<(), Failure> {
    let Some((program, args)) = command.split_first() else { return Ok(()) };
    let kv = event.kv.clone().unwrap_or_default();
    let revision = answer.header.as_ref().map_or(0, |h| h.revision);
    let kind = if event.r#type == 1 { "DELETE" } else { "PUT" };
    let mut run = std::process::Command::new(program);
    run.args(args)
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(kind.as_bytes()))
        .env("ETCD_WATCH_KEY", quote(&kv.key))
        .env("ETCD_WATCH_VALUE", quote(&kv.value));
    let status =
        run.status().map_err(|e| Failure::error(format!("command {program:?} error ({e})")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::error(format!("command {program:?} error ({status})")))
    }
}
