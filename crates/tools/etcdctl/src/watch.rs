//! watch: follow changes, print them or run a command for each.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead as _;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_proto::{etcdserverpb as pb, mvccpb};
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::exit::{BAD_ARGS, Failure, INTERRUPTED, INVALID_INPUT};
use crate::flags::ETCDCTL;
use crate::kv::prefix_end;
use crate::session::Session;
use crate::show::{complain, say};
use crate::txn::words;
use mainstay_print::args::Line;
use mainstay_print::quote::quote;

type Requests = mpsc::Sender<pb::WatchRequest>;

/// What runs for each event of a watch; empty: nothing.
type Exec = Vec<String>;

/// The commands of watches that were asked for and not answered yet, in the order of
/// asking, which is the order of the answers.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<VecDeque<Exec>>>);

impl Asked {
    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<Exec>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let (requests, stream) = mpsc::channel(16);
    let asked = Asked::default();
    let interactive = session.line.is("interactive");
    let env = environment();
    if env.0.is_none()
        && let Some(end) = &env.1
    {
        return Err(Failure::bad_args(format!(
            "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={}",
            quote(end.as_bytes())
        )));
    }
    let first = if interactive { None } else { Some(create_request(&session.line, &env)?) };
    let client = session.client().await?;
    if let Some((create, exec)) = first {
        let create = create.map_err(Failure::bad_args)?;
        asked.with(|asked| asked.push_back(exec));
        // The channel has room, and its other end is about to be read.
        let _ = requests.send(request(RequestUnion::CreateRequest(create))).await;
    } else {
        let (requests, asked) = (requests.clone(), asked.clone());
        std::thread::spawn(move || read_lines(&requests, &asked, &env));
    }
    let mut call = tonic::Request::new(ReceiverStream::new(stream));
    call.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let mut answers = client.watch().watch(call).await?.into_inner();
    let mut running = BTreeMap::new();
    while let Some(answer) = answers.message().await? {
        if answer.created {
            let exec = asked.with(VecDeque::pop_front).unwrap_or_default();
            running.insert(answer.watch_id, exec);
            if !answer.canceled {
                continue;
            }
        }
        if answer.canceled {
            complain(&format!("watch was canceled ({})", why_canceled(&answer)));
        }
        print(session, &answer, running.get(&answer.watch_id)).await?;
        if answer.canceled {
            running.remove(&answer.watch_id);
            if !interactive {
                break;
            }
        }
    }
    Err(Failure::new(INTERRUPTED, "watch is canceled by the server"))
}

fn why_canceled(answer: &pb::WatchResponse) -> String {
    match (answer.compact_revision, answer.cancel_reason.as_str()) {
        (1.., _) => "etcdserver: mvcc: required revision has been compacted".to_owned(),
        (_, "") => "etcdserver: mvcc: required revision is a future revision".to_owned(),
        (_, reason) => reason.to_owned(),
    }
}

async fn print(
    session: &Session,
    answer: &pb::WatchResponse,
    exec: Option<&Exec>,
) -> Result<(), Failure> {
    if answer.events.is_empty() && !answer.canceled {
        let revision = answer.header.as_ref().map_or(0, |h| h.revision);
        say(&format!("progress notify: {revision}"));
    }
    session.show.watch(answer)?;
    for event in &answer.events {
        run_command(exec.map_or(&[], Vec::as_slice), answer, event).await?;
    }
    Ok(())
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

/// `ETCDCTL_WATCH_KEY` and `ETCDCTL_WATCH_RANGE_END`.
type Environment = (Option<String>, Option<String>);

fn environment() -> Environment {
    let get = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    (get("ETCDCTL_WATCH_KEY"), get("ETCDCTL_WATCH_RANGE_END"))
}

/// The request of a watch line and the command behind `--`; the inner error is one
/// that `watch -i` survives.
fn create_request(
    line: &Line,
    env: &Environment,
) -> Result<(Result<pb::WatchCreateRequest, String>, Exec), Failure> {
    let exec = match line.after_dashes.as_deref() {
        Some([]) => {
            let message = "bad number of arguments (found separator --, but no commands)";
            return Err(Failure::bad_args(message));
        }
        after => after.unwrap_or_default().to_vec(),
    };
    let words = line.args.as_slice();
    let (key, end) = match (words, &env.0) {
        ([], Some(key)) => (key.clone(), env.1.clone()),
        ([], None) => return Err(Failure::bad_args("bad number of arguments")),
        (_, Some(_)) => {
            let message = "bad number of arguments (found conflicting environment key)";
            return Err(Failure::bad_args(message));
        }
        // With three arguments or more etcdctl looks at the first alone.
        ([key, rest @ ..], None) => {
            (key.clone(), rest.first().filter(|_| rest.len() == 1).cloned())
        }
    };
    let prefix = line.is("prefix");
    if prefix && end.is_some() {
        return Ok((Err("`range_end` and `--prefix` are mutually exclusive".to_owned()), exec));
    }
    let range_end = match end {
        Some(end) => end.into(),
        None if prefix && key.is_empty() => bytes::Bytes::from_static(&[0]),
        None if prefix => prefix_end(key.as_bytes()),
        None => bytes::Bytes::new(),
    };
    let key = if prefix && key.is_empty() { "\0".into() } else { key.into() };
    let create = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: line.int("rev"),
        progress_notify: line.is("progress-notify"),
        prev_kv: line.is("prev-kv"),
        ..Default::default()
    };
    Ok((Ok(create), exec))
}

/// Lines of `watch -i`: `watch [flags] key [end] [-- command]`, or `progress`.
fn read_lines(requests: &Requests, asked: &Asked, env: &Environment) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match interactive(&line, env) {
            Ok(Ok((union, exec))) => {
                if matches!(union, RequestUnion::CreateRequest(_)) {
                    asked.with(|asked| asked.push_back(exec));
                }
                if requests.blocking_send(request(union)).is_err() {
                    return;
                }
            }
            Ok(Err(complaint)) => complain(&complaint),
            Err(failure) => {
                complain(&format!("Error: {}", failure.message));
                std::process::exit(i32::from(BAD_ARGS));
            }
        }
    }
    complain("Error: error reading watch request line: EOF");
    std::process::exit(i32::from(INVALID_INPUT));
}

/// What a line asks for, or what is said of it before the next is read.
fn interactive(
    text: &str,
    env: &Environment,
) -> Result<Result<(RequestUnion, Exec), String>, Failure> {
    let Some(words) = words(text).filter(|words| !words.is_empty()) else {
        return Ok(Err(format!("Invalid command: {text} (watch and progress supported)")));
    };
    match words.split_first() {
        Some((first, _)) if first == "progress" => {
            let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
            Ok(Ok((progress, Exec::new())))
        }
        Some((first, [])) if first == "watch" && env.0.is_none() => {
            Ok(Err(format!("Invalid command {text} (command type or key is not provided)")))
        }
        Some((first, rest)) if first == "watch" => {
            let line = Line::read_as(ETCDCTL, "watch", rest)?;
            let (create, exec) = create_request(&line, env)?;
            Ok(match create {
                Ok(create) => Ok((RequestUnion::CreateRequest(create), exec)),
                Err(why) => Err(format!("Invalid command {text} ({why})")),
            })
        }
        _ => Ok(Err(format!("Invalid command {text} (only support watch)"))),
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
    let shown: Vec<String> = command.iter().map(|word| quote(word.as_bytes())).collect();
    let failed = |why: String| {
        complain(&format!("command [{}] error ({why})", shown.join(" ")));
        Failure::error("")
    };
    let status = run.status().map_err(|e| failed(e.to_string()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(failed(format!("exit status {code}"))),
        None => Err(failed(status.to_string())),
    }
}
