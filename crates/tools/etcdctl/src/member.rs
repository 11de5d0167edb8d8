//! member add, remove, update and promote.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use mainstay_client::Client;
use mainstay_proto::etcdserverpb as pb;

use crate::exit::Failure;
use crate::session::Session;
use crate::show::complain;
use crate::urls;
use mainstay_print::duration;
use mainstay_print::number::parse_uint;

/// Between two attempts to promote a learner that is not in sync.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a cluster is waited for that refuses to add because it is not whole. A member
/// counts as connected 5 s after it came, so right after the one before it always refuses.
const UNTIL_WHOLE: Duration = Duration::from_secs(30);
/// What it says then; nothing was added.
const NOT_WHOLE: &str = "etcdserver: unhealthy cluster";

pub(crate) async fn add(session: &Session) -> Result<(), Failure> {
    let [name] = session.line.args.as_slice() else {
        return Err(Failure::bad_args(match session.line.args.as_slice() {
            [] => "member name not provided".to_owned(),
            many => too_many(many),
        }));
    };
    let peer_urls = peer_urls(session)?;
    let when_ready = session.line.is("promote-when-ready");
    let request = pb::MemberAddRequest {
        peer_ur_ls: peer_urls.split(',').map(str::to_owned).collect(),
        is_learner: when_ready || session.line.is("learner"),
    };
    urls::check(peer_urls).map_err(Failure::error)?;
    let client = session.client().await?;
    let patience = if when_ready { UNTIL_WHOLE } else { Duration::ZERO };
    let answer = add_when_whole(session, &client, request, patience).await?;
    session.show.member_add(&answer)?;
    session.show.how_to_start(name, peer_urls, &answer);
    if when_ready {
        let id = answer.member.map_or(0, |member| member.id);
        promote_when_ready(session, &client, id).await?;
    }
    Ok(())
}

fn too_many(args: &[String]) -> String {
    let mut text = String::from("too many arguments");
    for url in args.iter().filter(|arg| arg.to_lowercase().starts_with("http")) {
        text.push_str(&format!(", did you mean --peer-urls={url}"));
    }
    text
}

fn peer_urls(session: &Session) -> Result<&str, Failure> {
    match session.line.text("peer-urls") {
        "" => Err(Failure::bad_args("member peer urls not provided")),
        urls => Ok(urls),
    }
}

/// The one argument that these commands take.
fn member_id(session: &Session) -> Result<u64, Failure> {
    let [id] = session.line.args.as_slice() else {
        return Err(Failure::bad_args("member ID is not provided"));
    };
    parse_uint(id, 16)
        .map_err(|why| Failure::bad_args(format!("bad member ID arg ({why}), expecting ID in Hex")))
}

pub(crate) async fn remove(session: &Session) -> Result<(), Failure> {
    let id = member_id(session)?;
    let client = session.client().await?;
    let request = pb::MemberRemoveRequest { id };
    let answer = session.timed(client.cluster().member_remove(request)).await?;
    session.show.member_remove(id, &answer.into_inner())
}

pub(crate) async fn update(session: &Session) -> Result<(), Failure> {
    let id = member_id(session)?;
    let peer_urls = peer_urls(session)?;
    let peer_ur_ls = peer_urls.split(',').map(str::to_owned).collect();
    urls::check(peer_urls).map_err(Failure::error)?;
    let client = session.client().await?;
    let request = pb::MemberUpdateRequest { id, peer_ur_ls };
    let answer = session.timed(client.cluster().member_update(request)).await?;
    session.show.member_update(id, &answer.into_inner())
}

pub(crate) async fn promote(session: &Session) -> Result<(), Failure> {
    let id = member_id(session)?;
    let client = session.client().await?;
    let request = pb::MemberPromoteRequest { id };
    let answer = session.timed(client.cluster().member_promote(request)).await?;
    session.show.member_promote(id, &answer.into_inner())
}

/// Adds it, at the latest after `patience` for a cluster that is not whole.
async fn add_when_whole(
    session: &Session,
    client: &Client,
    request: pb::MemberAddRequest,
    patience: Duration,
) -> Result<pb::MemberAddResponse, Failure> {
    let mut progress = Progress::new("the cluster".to_owned());
    loop {
        let failure = match session.timed(client.cluster().member_add(request.clone())).await {
            Ok(answer) => {
                progress.end();
                return Ok(answer.into_inner());
            }
            Err(failure) => failure,
        };
        if failure.message != NOT_WHOLE || progress.begun.elapsed() >= patience {
            progress.end();
            return Err(failure);
        }
        progress.tell("not all members are connected");
        tokio::time::sleep(PATIENCE).await;
    }
}

/// Promotes a learner as soon as it is in sync, however long that takes. Stopped
/// half-way, it stays a learner.
async fn promote_when_ready(session: &Session, client: &Client, id: u64) -> Result<(), Failure> {
    let mut progress = Progress::new(format!("member {id:x}"));
    loop {
        let request = pb::MemberPromoteRequest { id };
        match session.timed(client.cluster().member_promote(request)).await {
            Ok(answer) => {
                progress.end();
                return session.show.member_promote(id, &answer.into_inner());
            }
            Err(failure) if passes(&failure) => {
                let state = match failure.message.as_str() {
                    NOT_READY => position(session, client, id).await,
                    trouble => trouble.to_owned(),
                };
                progress.tell(&state);
            }
            Err(failure) => {
                progress.end();
                return Err(failure);
            }
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

const NOT_READY: &str =
    "etcdserver: can only promote a learner member which is in sync with leader";

/// Whether the same request may succeed later.
fn passes(failure: &Failure) -> bool {
    let message = failure.message.as_str();
    message == NOT_READY
        || message == "context deadline exceeded"
        || message.starts_with("etcdserver: request timed out")
        || message.starts_with("rpc error: code = Unavailable")
        || ["no leader", "leader changed", "server stopped"]
            .iter()
            .any(|why| message.strip_prefix("etcdserver: ") == Some(why))
}

/// How far the learner is, in words.
async fn position(session: &Session, client: &Client, id: u64) -> String {
    let mut cluster = client.cluster();
    let listed = cluster.member_list(pb::MemberListRequest { linearizable: false });
    let Ok(listed) = session.timed(listed).await else { return "not in sync".to_owned() };
    let member = listed.into_inner().members.into_iter().find(|member| member.id == id);
    let member = member.unwrap_or_default();
    if member.name.is_empty() {
        return "not started yet".to_owned();
    }
    let index = async |client: Client| {
        let mut maintenance = client.maintenance();
        let status = session.timed(maintenance.status(pb::StatusRequest {})).await;
        let status = status.ok()?.into_inner();
        Some((status.raft_applied_index, status.raft_index))
    };
    let mut learner = None;
    for url in &member.client_ur_ls {
        if let Ok(client) = session.try_connect(url).await {
            learner = index(client).await;
            break;
        }
    }
    match (learner, index(client.clone()).await) {
        (Some((applied, _)), Some((_, last))) => {
            format!("{} at entry {applied} of {last}", member.name)
        }
        _ => format!("{} is not in sync", member.name),
    }
}

/// What is waited for: one line that changes on a terminal, else a line per change.
struct Progress {
    /// Who is waited for.
    whom: String,
    begun: Instant,
    /// What was told last.
    told: String,
    terminal: bool,
}

impl Progress {
    fn new(whom: String) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { whom, begun: Instant::now(), told: String::new(), terminal }
    }

    fn tell(&mut self, state: &str) {
        if self.terminal {
            let waited = duration::show(Duration::from_secs(self.begun.elapsed().as_secs()));
            let line = format!("\rWaiting for {}: {state} ({waited})\x1b[K", self.whom);
            // Nobody who does not look can be told.
            let mut out = std::io::stderr().lock();
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        } else if self.told != state {
            complain(&format!("Waiting for {}: {state}", self.whom));
        }
        state.clone_into(&mut self.told);
    }

    fn end(&self) {
        if self.terminal && !self.told.is_empty() {
            complain("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_among_the_arguments_is_guessed() {
        let args = ["m4", "HTTP://a:1", "x"].map(str::to_owned);
        assert_eq!(too_many(&args), "too many arguments, did you mean --peer-urls=HTTP://a:1");
    }

    #[test]
    fn what_passes_is_waited_for() {
        for (message, waits) in [
            (NOT_READY, true),
            ("etcdserver: request timed out, possibly due to connection lost", true),
            ("etcdserver: no leader", true),
            ("rpc error: code = Unavailable desc = error reading from server: EOF", true),
            ("context deadline exceeded", true),
            ("etcdserver: member not found", false),
            ("etcdserver: can only promote a learner member", false),
            ("etcdserver: permission denied", false),
        ] {
            assert_eq!(passes(&Failure::error(message)), waits, "{message}");
        }
    }
}
