//! Runs `tests/scripts/*.txt`: each block of commands is followed by `----` and by
//! what they print. `UPDATE=1` rewrites the answers; a human reads the diff.
//!
//! Together they cover the situations of etcd's own data-driven tests, but for two that
//! do not exist here: reads by the leader's lease alone, and changes of the configuration
//! without validation.
//!
//! ```text
//! members VOTERS [of=CORES] [prevote=off] [checkquorum=off] [echoes=held] [stepdown=on] [window=N] [maxsize=N] [uncommitted=N]
//! campaign ID · tick ID [N] · timeout ID (ticks until it campaigns)
//! propose ID DATA.. · change ID add=X learner=X remove=X.. [v1|joint|explicit] · leave ID
//! log ID [term=T] TERM.. (starts again with entries of these terms behind its snapshot)
//! forget ID (who leads)
//! read ID CTX · transfer ID TO · compact ID TO · unreachable ID TO · gone ID PEER · crash ID
//! snapshot ID TO · snapshot-failed ID TO · snapshot-arrived ID TO
//! turn ID (take the output) · persist ID [N] (writes under way are durable: all, or the first N)
//! deliver [from=X] [to=X] [kind=K] [n=N] (all that fit, or the first N) · drop [from=X] [to=X] [kind=K] · wire
//! cut A B · mend · settle (until nothing moves) · status · peers ID · applied ID · disk ID
//! ```

#[expect(dead_code, reason = "the random runs use the rest")]
mod cluster;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cluster::{Cluster, Node};
use mainstay_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfChangeV2, ConfState,
    Entry, EntryKind, Message, MessageKind, Role, Status,
};
use mainstay_types::{Index, MemberId, Term};

#[test]
fn scripts_say_what_they_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of the scripts")
        .map(|found| found.expect("an entry of the folder").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 20, "scripts got lost");
    let update = std::env::var_os("UPDATE").is_some();
    let mut differ = Vec::new();
    for path in paths {
        let before = std::fs::read_to_string(&path).expect("a script");
        let after = rerun(&path, &before);
        if update {
            std::fs::write(&path, &after).expect("the script can be rewritten");
        } else if before != after {
            differ.push(format!("{}:\n{}", path.display(), first_difference(&before, &after)));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

fn first_difference(before: &str, after: &str) -> String {
    let same = before.lines().zip(after.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(end)").to_owned();
    format!("line {}: wrote {:?}, now {:?}", same + 1, line(before), line(after))
}

/// The script with fresh answers.
fn rerun(path: &Path, script: &str) -> String {
    let mut stage = Stage::default();
    let mut out = String::new();
    for block in script.split("\n\n").map(str::trim_end).filter(|block| !block.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        let commands = block.split_once("\n----").map_or(block, |(commands, _)| commands);
        out.push_str(commands);
        out.push('\n');
        let mut answers = String::new();
        for line in commands.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            stage
                .run(&words, &mut answers)
                .unwrap_or_else(|| panic!("{}: {line:?}?", path.display()));
        }
        if commands.lines().any(|line| !line.starts_with('#')) {
            out.push_str("----\n");
            out.push_str(&answers);
        }
    }
    out
}

#[derive(Default)]
struct Stage {
    cluster: Option<Cluster>,
    cut: BTreeSet<(MemberId, MemberId)>,
}

fn id(word: &str) -> Option<MemberId> {
    word.parse().ok().map(MemberId)
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

impl Stage {
    fn run(&mut self, words: &[&str], out: &mut String) -> Option<()> {
        let (command, rest) = words.split_first()?;
        if *command == "members" {
            return self.members(rest);
        }
        match *command {
            "deliver" | "drop" => return self.deliver(rest, *command == "drop", out),
            "wire" => return self.wire(out),
            "settle" => return self.settle(out),
            "status" => return self.status(out),
            "mend" => self.cut.clear(),
            "cut" => {
                let (a, b) = (id(rest.first()?)?, id(rest.get(1)?)?);
                self.cut.extend([(a, b), (b, a)]);
            }
            _ => return self.at(command, id(rest.first()?)?, &rest[1..], out),
        }
        Some(())
    }

    fn members(&mut self, words: &[&str]) -> Option<()> {
        let voters = words.first()?.parse().ok()?;
        let all = option(words, "of").map_or(Some(voters), |all| all.parse().ok())?;
        let number = |name| option(words, name).and_then(|word| word.parse::<u64>().ok());
        self.cluster = Some(Cluster::new(all, voters, |config| {
            config.pre_vote = option(words, "prevote") != Some("off");
            config.holds_echoes = option(words, "echoes") == Some("held");
            config.asks_again = option(words, "asks") == Some("again");
            config.check_quorum = option(words, "checkquorum") != Some("off");
            config.step_down_on_removal = option(words, "stepdown") == Some("on");
            config.max_inflight_messages = number("window").unwrap_or(512) as usize;
            config.max_size_per_message = number("maxsize").unwrap_or(1 << 20);
            config.max_uncommitted_bytes = number("uncommitted").unwrap_or(u64::MAX);
        }));
        Some(())
    }

    /// A command to one core.
    fn at(&mut self, command: &str, at: MemberId, words: &[&str], out: &mut String) -> Option<()> {
        let cluster = self.cluster.as_mut()?;
        let node = cluster.nodes.get_mut(&at)?;
        let peer = words.first().and_then(|word| id(word));
        match command {
            "campaign" => node.raft.campaign(),
            "tick" => {
                let times = words.first().map_or(Some(1), |times| times.parse().ok())?;
                (0..times).for_each(|_| node.raft.tick());
            }
            "timeout" => {
                for _ in 0..node.raft.election_patience() {
                    node.raft.tick();
                }
            }
            "propose" => {
                for word in words {
                    if let Err(error) = node.raft.propose(Bytes::from((*word).to_owned())) {
                        writeln!(out, "{at} refuses {word}: {error}").ok()?;
                    }
                }
            }
            "change" if words.contains(&"v1") => {
                refused(at, node.raft.propose_conf_change(&change_v1(words)?), out);
            }
            "change" => refused(at, node.raft.propose_conf_change_v2(&change(words)?), out),
            "log" => given(node, words)?,
            "forget" => {
                let Status { term, leader, .. } = node.raft.status();
                let from = leader.filter(|leader| *leader != at).unwrap_or(MemberId(99));
                let kind = MessageKind::ForgetLeader;
                let message = Message { kind, from, to: at, term, ..Message::default() };
                refused(at, node.raft.step(message), out);
            }
            "leave" => refused(at, node.raft.propose_conf_change_v2(&ConfChangeV2::default()), out),
            "read" => refused(at, node.raft.read_index(words.first()?.parse().ok()?), out),
            "transfer" => node.raft.transfer_leader(peer?),
            "compact" => node.compact(Index(peer?.0)),
            "gone" => node.raft.peer_gone(peer?),
            "unreachable" => node.raft.report_unreachable(peer?),
            "crash" => node.crash(0),
            "snapshot" => {
                let snapshot = node.snapshot();
                if !node.raft.send_snapshot(peer?, snapshot) {
                    writeln!(out, "{at} keeps the snapshot").ok()?;
                }
            }
            "snapshot-failed" => node.raft.report_snapshot(peer?, false),
            "snapshot-arrived" => node.raft.report_snapshot(peer?, true),
            "turn" => return self.turn(at, out),
            "persist" => {
                let count = words.first().map_or(Some(usize::MAX), |count| count.parse().ok())?;
                (0..count).find(|_| !node.persist_one(&mut cluster.wire));
            }
            "peers" => peers(&node.raft, out),
            "applied" => writeln!(out, "{at} applied {}", entries(&node.applied)).ok()?,
            "disk" => disk(node, at, out)?,
            _ => return None,
        }
        Some(())
    }

    fn turn(&mut self, at: MemberId, out: &mut String) -> Option<()> {
        let cluster = self.cluster.as_mut()?;
        let node = cluster.nodes.get_mut(&at)?;
        let before = cluster.wire.len();
        let writes = node.writes.len();
        let seen = node.turn(&mut cluster.wire);
        if node.writes.len() > writes {
            let write = node.writes.back()?;
            write!(out, "{at} persists").ok()?;
            if let Some(hard) = write.hard_state {
                write!(out, " term={} vote={} commit={}", hard.term, hard.vote, hard.commit)
                    .ok()?;
            }
            writeln!(out, " {}", entries(&write.entries)).ok()?;
            for message in &write.then_send {
                writeln!(out, "  then {}", describe(message)).ok()?;
            }
        }
        for message in &cluster.wire[before..] {
            writeln!(out, "{at} sends {}", describe(message)).ok()?;
        }
        if !seen.applied.is_empty() {
            writeln!(out, "{at} applies {}", entries(&seen.applied)).ok()?;
        }
        tell_news(at, node, out)
    }

    fn deliver(&mut self, words: &[&str], drop: bool, out: &mut String) -> Option<()> {
        let cluster = self.cluster.as_mut()?;
        let fits = |message: &Message| {
            option(words, "from").is_none_or(|from| id(from) == Some(message.from))
                && option(words, "to").is_none_or(|to| id(to) == Some(message.to))
                && option(words, "kind").is_none_or(|kind| format!("{:?}", message.kind) == kind)
        };
        let mut count = option(words, "n").map_or(Some(usize::MAX), |count| count.parse().ok())?;
        let (chosen, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut cluster.wire).into_iter().partition(|message| {
                let chosen = count > 0 && fits(message);
                count -= usize::from(chosen);
                chosen
            });
        cluster.wire = left;
        for message in chosen {
            if drop || self.cut.contains(&(message.from, message.to)) {
                continue;
            }
            let to = message.to;
            if let Err(error) = cluster.node(to).raft.step(message) {
                writeln!(out, "{to} ignores: {error}").ok()?;
            }
        }
        Some(())
    }

    fn wire(&mut self, out: &mut String) -> Option<()> {
        for message in &self.cluster.as_ref()?.wire {
            writeln!(out, "{}", describe(message)).ok()?;
        }
        Some(())
    }

    /// Turns, persists and delivers until nothing moves; then says where all stand.
    fn settle(&mut self, out: &mut String) -> Option<()> {
        for _ in 0..100 {
            let ids: Vec<MemberId> = self.cluster.as_ref()?.nodes.keys().copied().collect();
            for at in ids {
                let cluster = self.cluster.as_mut()?;
                let node = cluster.nodes.get_mut(&at)?;
                while node.raft.has_output() || !node.writes.is_empty() {
                    node.turn(&mut cluster.wire);
                    while node.persist_one(&mut cluster.wire) {}
                }
                tell_news(at, node, out)?;
            }
            if self.cluster.as_ref()?.wire.is_empty() {
                return self.status(out);
            }
            self.deliver(&[], false, out)?;
        }
        writeln!(out, "it does not settle").ok()
    }

    fn status(&mut self, out: &mut String) -> Option<()> {
        for (at, node) in &self.cluster.as_ref()?.nodes {
            let status = node.raft.status();
            let role = match status.role {
                Role::Follower => "follower ",
                Role::PreCandidate => "precandid",
                Role::Candidate => "candidate",
                Role::Leader => "leader   ",
            };
            let leader = status.leader.map_or("-".to_owned(), |leader| leader.to_string());
            let conf = conf(&node.raft.conf_state());
            let Term(term) = status.term;
            writeln!(
                out,
                "{at} {role} term={term} leader={leader} last={} commit={} {conf}",
                status.last, status.commit
            )
            .ok()?;
        }
        Some(())
    }
}

fn tell_news(at: MemberId, node: &mut cluster::Node, out: &mut String) -> Option<()> {
    for read in node.reads.drain(..) {
        writeln!(out, "{at} may serve read {} at {}", read.ctx, read.index).ok()?;
    }
    for to in node.wants_snapshot.drain(..) {
        writeln!(out, "{at} wants a snapshot for {to}").ok()?;
    }
    Some(())
}

fn refused<E: std::fmt::Display>(at: MemberId, result: Result<(), E>, out: &mut String) {
    if let Err(error) = result {
        let _ = writeln!(out, "{at} refuses: {error}");
    }
}

/// Puts a log on the disk, and starts from it.
fn given(node: &mut cluster::Node, terms: &[&str]) -> Option<()> {
    let first = node.disk.snapshot.index.next();
    let mut entries = Vec::new();
    let numbers = terms.iter().filter(|word| !word.contains('='));
    for (index, term) in (first.0..).zip(numbers) {
        let (term, index) = (Term(term.parse().ok()?), Index(index));
        entries.push(Entry { term, index, ..Entry::default() });
    }
    let last = entries.last().map_or(node.disk.snapshot.term, |entry| entry.term);
    let term = option(terms, "term").and_then(|term| term.parse().ok());
    node.disk.hard_state.term = term.map_or(last, Term);
    node.disk.entries = entries;
    node.crash(0);
    Some(())
}

fn disk(node: &Node, at: MemberId, out: &mut String) -> Option<()> {
    let hard = node.disk.hard_state;
    let list = entries(&node.disk.entries);
    let snapshot = node.disk.snapshot.index;
    writeln!(
        out,
        "{at} disk term={} vote={} commit={} snapshot={snapshot} {list}",
        hard.term, hard.vote, hard.commit
    )
    .ok()
}

fn change_v1(words: &[&str]) -> Option<ConfChange> {
    let ConfChangeSingle { kind, node } = *change(&words[..1])?.changes.first()?;
    Some(ConfChange { kind, node, ..ConfChange::default() })
}

fn change(words: &[&str]) -> Option<ConfChangeV2> {
    let mut change = ConfChangeV2::default();
    for word in words {
        let single = |kind, node: &str| Some(ConfChangeSingle { kind, node: id(node)? });
        match word.split_once('=') {
            Some(("add", node)) => change.changes.push(single(ConfChangeKind::AddNode, node)?),
            Some(("learner", node)) => {
                change.changes.push(single(ConfChangeKind::AddLearnerNode, node)?)
            }
            Some(("remove", node)) => {
                change.changes.push(single(ConfChangeKind::RemoveNode, node)?)
            }
            None if *word == "joint" => change.transition = ConfChangeTransition::JointImplicit,
            None if *word == "explicit" => change.transition = ConfChangeTransition::JointExplicit,
            _ => return None,
        }
    }
    Some(change)
}

fn peers(raft: &mainstay_raft::Raft, out: &mut String) {
    for peer in raft.peers() {
        let mut line =
            format!("  {} {:?} match={} next={}", peer.id, peer.state, peer.matched, peer.next);
        for (shown, word) in [
            (peer.is_learner, " learner"),
            (peer.paused, " paused"),
            (!peer.recent_active, " silent"),
        ] {
            line.push_str(if shown { word } else { "" });
        }
        if peer.inflight > 0 {
            line.push_str(&format!(" inflight={}", peer.inflight));
        }
        if peer.pending_snapshot > Index(0) {
            line.push_str(&format!(" snapshot={}", peer.pending_snapshot));
        }
        let _ = writeln!(out, "{line}");
    }
}

fn conf(state: &ConfState) -> String {
    let list = |ids: &[MemberId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!("({})", list(&state.voters));
    if !state.voters_outgoing.is_empty() {
        text.push_str(&format!("&&({})", list(&state.voters_outgoing)));
    }
    for (name, ids) in [("learners", &state.learners), ("next", &state.learners_next)] {
        if !ids.is_empty() {
            text.push_str(&format!(" {name}=({})", list(ids)));
        }
    }
    text
}

fn entries(entries: &[Entry]) -> String {
    let one = |entry: &Entry| {
        let what = match entry.kind {
            EntryKind::Normal => String::from_utf8_lossy(&entry.data).into_owned(),
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => "change".to_owned(),
        };
        format!("{}/{}:{what}", entry.term, entry.index)
    };
    format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn describe(message: &Message) -> String {
    let Message { kind, to, from, term, log_term, index, commit, .. } = message;
    let mut text = format!("{from}->{to} {kind:?}");
    if *term != Term(0) {
        text.push_str(&format!(" term={term}"));
    }
    match kind {
        MessageKind::App => {
            text.push_str(&format!(
                " after={log_term}/{index} commit={commit} {}",
                entries(&message.entries)
            ));
        }
        MessageKind::Vote | MessageKind::PreVote => {
            text.push_str(&format!(" last={log_term}/{index}"))
        }
        MessageKind::AppResp | MessageKind::ReadIndexResp => {
            text.push_str(&format!(" index={index}"))
        }
        MessageKind::Heartbeat => text.push_str(&format!(" commit={commit}")),
        MessageKind::Prop => text.push_str(&format!(" {}", entries(&message.entries))),
        _ => {}
    }
    if let Some(snapshot) = &message.snapshot {
        text.push_str(&format!(
            " at={}/{} {}",
            snapshot.term,
            snapshot.index,
            conf(&snapshot.conf_state)
        ));
    }
    if message.reject {
        text.push_str(" rejected");
        if *kind == MessageKind::AppResp {
            text.push_str(&format!(" hint={log_term}/{}", message.reject_hint));
        }
    }
    if matches!(kind, MessageKind::Heartbeat | MessageKind::HeartbeatResp)
        && !message.context.is_empty()
    {
        text.push_str(&format!(" round={}", message.context[0]));
    }
    text
}
