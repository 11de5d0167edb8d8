//! The same flips under a real etcd: whether the judge sees what it should.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_env_sim::SimDisk;
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::judge::{Flip, Kind, Outcome};
use crate::made::{DATA, Made};

/// How long a start may take until it counts as refused.
const START: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Past revisions that are read.
const PAST: i64 = 6;
/// Every key.
const ALL: &str = "AA==";

/// A real etcd, and what it answers from a directory without a flip.
pub struct Etcd {
    program: PathBuf,
    right: Option<(u64, Answers)>,
}

impl Etcd {
    /// The program at `path`.
    #[must_use]
    pub fn new(path: &str) -> Etcd {
        Etcd { program: path.into(), right: None }
    }

    /// What is flipped there: files that both of us have.
    #[must_use]
    pub fn kind(number: u64) -> Kind {
        [Kind::Wal, Kind::Db, Kind::Db, Kind::Snap][(number % 4) as usize]
    }

    /// Starts it from the directory of `seed` with the flip, and asks it for everything.
    ///
    /// # Panics
    /// When it does not start from the directory as it was made.
    pub fn judge(&mut self, seed: u64, made: &Made, flip: &Flip) -> Outcome {
        if self.right.as_ref().is_none_or(|(of, _)| *of != seed) {
            let right = self.ask(&made.settled).expect("a sound directory");
            self.right = Some((seed, right));
        }
        let Some((_, right)) = &self.right else { return Outcome::Harmless };
        let disk = made.settled.copy();
        if disk.contents(&flip.path).is_none_or(|bytes| bytes.len() as u64 <= flip.at) {
            return Outcome::Harmless;
        }
        disk.flip(&flip.path, flip.at, flip.bit);
        match self.ask(&disk) {
            Ok(found) if found == *right => Outcome::Harmless,
            Ok(found) => Outcome::Wrong(format!("answered wrongly: {}", found.differ_from(right))),
            Err(why) => Outcome::Refused(why),
        }
    }

    fn ask(&self, disk: &SimDisk) -> Result<Answers, String> {
        let folder = Folder::with(disk).map_err(|error| error.to_string())?;
        let (client, peer) = free_ports().map_err(|error| error.to_string())?;
        let log = fs::File::create(folder.0.join("log")).map_err(|error| error.to_string())?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let child = Command::new(&self.program)
            .arg(format!("--data-dir={}", folder.0.join("data").display()))
            .arg(format!("--listen-client-urls={}", url(client)))
            // The same every time, as it is among the answers.
            .arg("--advertise-client-urls=http://127.0.0.1:2379")
            .arg(format!("--listen-peer-urls={}", url(peer)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut running = Running(child);
        let begun = Instant::now();
        let whole = json!({ "key": ALL, "range_end": ALL });
        let head = loop {
            if let Ok(Some(status)) = running.0.try_wait() {
                return Err(format!("it ended with {status}: {}", folder.last_words()));
            }
            match post(client, "/v3/kv/range", &whole) {
                Ok(answer) if answer["header"].is_object() => break answer,
                _ if begun.elapsed() > START => return Err("it does not come up".to_owned()),
                _ => std::thread::sleep(LOOK),
            }
        };
        everything(client, &head)
    }
}

fn everything(port: u16, head: &Value) -> Result<Answers, String> {
    let mut all = Answers::default();
    let revision: i64 =
        head["header"]["revision"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    all.add("revision", revision as u64);
    all.add("keys", digest(head));
    for back in 0..PAST {
        let at = (revision - 10 * back).max(1);
        let asked = json!({ "key": ALL, "range_end": ALL, "revision": at.to_string() });
        all.add(format!("keys at {at}"), digest(&post(port, "/v3/kv/range", &asked)?));
    }
    // What was said may stand in the answers of one key, too.
    for kv in head["kvs"].as_array().into_iter().flatten() {
        let one = post(port, "/v3/kv/range", &json!({ "key": kv["key"] }))?;
        all.add(format!("key {}", kv["key"]), digest(&one));
    }
    all.add("leases", digest(&post(port, "/v3/lease/leases", &json!({}))?));
    all.add("alarms", digest(&post(port, "/v3/maintenance/alarm", &json!({ "action": "GET" }))?));
    all.add("members", digest(&post(port, "/v3/cluster/member/list", &json!({}))?));
    Ok(all)
}

/// Without the header, whose term grows with every start.
fn digest(answer: &Value) -> u64 {
    let mut answer = answer.clone();
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("header");
    }
    u64::from(crc32c::crc32c(answer.to_string().as_bytes()))
}

fn post(port: u16, path: &str, body: &Value) -> Result<Value, String> {
    let text = exchange(port, path, &body.to_string()).map_err(|error| error.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    serde_json::from_str(&body).map_err(|error| error.to_string())
}

fn exchange(port: u16, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(START))?;
    let len = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn unchunked(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some((chunk, after)) = after.split_at_checked(size).filter(|_| size > 0) else { break };
        out.push_str(chunk);
        rest = after.trim_start_matches("\r\n");
    }
    out
}

fn free_ports() -> io::Result<(u16, u16)> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let (one, other) = (bind()?, bind()?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that ends with its owner.
struct Folder(PathBuf);

impl Folder {
    fn with(disk: &SimDisk) -> io::Result<Folder> {
        let name = format!("mainstay-flips-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        for path in disk.paths().iter().filter(|path| path.starts_with(DATA)) {
            let below = Path::new(path).strip_prefix(DATA).map_err(io::Error::other)?;
            // What is ours is nothing to it.
            if below.starts_with("member/mainstay") {
                continue;
            }
            let to = folder.0.join("data").join(below);
            fs::create_dir_all(to.parent().unwrap_or(&folder.0))?;
            fs::write(to, disk.contents(path).unwrap_or_default())?;
        }
        Ok(folder)
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.0.join("log")).unwrap_or_default();
        let telling = |line: &&str| line.contains("fatal") || line.contains("panic");
        let line = log.lines().rev().find(telling).or(log.lines().last());
        line.unwrap_or_default().chars().take(300).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the way of nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
