//! Command lines of etcdctl, run one after another against a fresh member, and what
//! they said. Two such runs on the same ports have the same ids, so that the outputs
//! can be compared byte by byte once times and leases are masked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay_interop::{Folder, Kind, Member, Start};

/// One command line.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Arguments separated by spaces; `$LEASE` is the last lease granted, `$FILE` a
    /// path, `$REV` the revision of the last JSON answer.
    pub(crate) line: String,
    /// What it reads.
    pub(crate) input: &'static str,
    /// Stopped when it has written so many lines; it would not end by itself.
    pub(crate) lines: Option<usize>,
    /// Its environment.
    pub(crate) env: Vec<(&'static str, &'static str)>,
}

/// A command line that ends by itself and reads nothing.
pub(crate) fn step(line: &str) -> Step {
    Step { line: line.to_owned(), input: "", lines: None, env: Vec::new() }
}

/// With this on standard input.
pub(crate) fn fed(line: &str, input: &'static str) -> Step {
    Step { input, ..step(line) }
}

/// Until it has written so many lines.
pub(crate) fn until(line: &str, lines: usize) -> Step {
    Step { lines: Some(lines), ..step(line) }
}

/// What a step said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The command line.
    pub(crate) line: String,
    /// The exit code; none when it was stopped.
    pub(crate) code: Option<i32>,
    /// Standard output, masked; bytes that are no text are escaped.
    pub(crate) out: String,
    /// Standard error, masked, without lines of the client library's log.
    pub(crate) err: String,
}

/// An etcdctl and a member for it.
pub(crate) struct Session {
    ctl: PathBuf,
    member: Member,
    folder: Folder,
    lease: Option<u64>,
    revision: String,
}

/// Runs the steps with this etcdctl against a fresh member on these ports; `None` when
/// the member's program is missing.
pub(crate) fn run(ctl: &Path, kind: Kind, ports: (u16, u16), steps: &[Step]) -> Option<Vec<Said>> {
    let mut session = Session::new(ctl, kind, ports)?;
    let said = steps.iter().map(|step| session.step(step)).collect();
    session.member.stop();
    Some(said)
}

impl Session {
    /// A fresh member.
    pub(crate) fn new(ctl: &Path, kind: Kind, ports: (u16, u16)) -> Option<Session> {
        let folder = Folder::new("etcdctl");
        let mut start = Start::new(kind, &folder.path().join("m.etcd"));
        start.ports = ports;
        let member = start.run()?;
        let (lease, revision) = (None, String::new());
        Some(Session { ctl: ctl.to_owned(), member, folder, lease, revision })
    }

    /// The member's port for clients.
    pub(crate) fn port(&self) -> u16 {
        self.member.start().ports.0
    }

    /// Another etcdctl from here on.
    pub(crate) fn with(&mut self, ctl: &Path) -> &mut Session {
        self.ctl = ctl.to_owned();
        self
    }

    /// Runs one command line.
    pub(crate) fn step(&mut self, step: &Step) -> Said {
        let lease = self.lease.map(|id| format!("{id:x}")).unwrap_or_default();
        let file = self.folder.path().join("file").display().to_string();
        let line = step.line.replace("$LEASE", &lease).replace("$FILE", &file);
        let line = line.replace("$REV", &self.revision);
        let mut command = Command::new(&self.ctl);
        command
            .args(line.split(' ').filter(|word| !word.is_empty()))
            .env("ETCDCTL_API", "3")
            .envs(step.env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let given = step.env.iter().any(|(name, _)| *name == "ETCDCTL_ENDPOINTS");
        if !given && !line.contains("--endpoints") {
            command.arg(format!("--endpoints={}", self.member.endpoint()));
            // Flags behind `--` are no flags.
            if let Some(at) = line.find(" -- ") {
                return self.with_dashes(step, &line[..at], &line[at + 4..]);
            }
        }
        self.said(step, command)
    }

    fn with_dashes(&mut self, step: &Step, before: &str, after: &str) -> Said {
        let mut command = Command::new(&self.ctl);
        command
            .args(before.split(' '))
            .arg(format!("--endpoints={}", self.member.endpoint()))
            .arg("--")
            .args(after.split(' '))
            .env("ETCDCTL_API", "3")
            .envs(step.env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.said(step, command)
    }

    fn said(&mut self, step: &Step, mut command: Command) -> Said {
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut input = child.stdin.take().expect("piped");
        // Who does not read its input may have ended already.
        let _ = input.write_all(step.input.as_bytes());
        let (code, out, err) = match step.lines {
            None => {
                drop(input);
                ended(child, &command)
            }
            Some(lines) => {
                let told = stopped(child, lines, &command);
                drop(input);
                told
            }
        };
        self.learn(step, &out);
        let err = err.lines().filter(|line| !line.starts_with('{')).map(|l| format!("{l}\n"));
        Said {
            line: step.line.clone(),
            code,
            out: self.masked(&escaped(&out)),
            err: self.masked(&err.collect::<String>()),
        }
    }

    fn learn(&mut self, step: &Step, out: &[u8]) {
        let text = String::from_utf8_lossy(out);
        if step.line.starts_with("lease grant") && text.starts_with("lease ") {
            let id = text.split(' ').nth(1).and_then(|id| u64::from_str_radix(id, 16).ok());
            self.lease = id;
        }
        if let Some((_, rest)) = text.split_once("\"revision\":") {
            self.revision = rest.chars().take_while(char::is_ascii_digit).collect();
        }
    }

    fn masked(&self, text: &str) -> String {
        let mut text = text.replace(&self.folder.path().display().to_string(), "FOLDER");
        if let Some(id) = self.lease {
            text = text.replace(&format!("{id:016x}"), "LEASE").replace(&id.to_string(), "LEASE");
        }
        for before in ["took = ", "\"took\":\"", "took ", "\"Took\" : \""] {
            let mut parts = text.split(before).map(str::to_owned);
            let mut masked = parts.next().unwrap_or_default();
            for part in parts {
                let end = part.find(['"', '\n', ' ']).unwrap_or(part.len());
                masked.push_str(before);
                masked.push('T');
                masked.push_str(&part[end..]);
            }
            text = masked;
        }
        text
    }
}

fn escaped(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

type Told = (Option<i32>, Vec<u8>, String);

fn ended(mut child: Child, command: &Command) -> Told {
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let (sender, outputs) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let errors = std::thread::spawn(move || {
            let mut err = Vec::new();
            stderr.read_to_end(&mut err).map(|_| err)
        });
        let mut out = Vec::new();
        let read = stdout.read_to_end(&mut out);
        // Nobody listens any more when the time was over.
        let _ = sender.send((read.map(|_| out), errors.join()));
    });
    let Ok((Ok(out), Ok(Ok(err)))) = outputs.recv_timeout(Duration::from_secs(60)) else {
        let _ = child.kill();
        panic!("{command:?} did not end in 60 s");
    };
    let status = child.wait().expect("our own child");
    (status.code(), out, String::from_utf8_lossy(&err).into_owned())
}

fn stopped(mut child: Child, lines: usize, command: &Command) -> Told {
    let stdout = child.stdout.take().expect("piped");
    let (sender, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            match reader.read_until(b'\n', &mut line) {
                Ok(1..) if sender.send(line).is_ok() => {}
                _ => return,
            }
        }
    });
    let mut out = Vec::new();
    for n in 0..lines {
        match received.recv_timeout(Duration::from_secs(20)) {
            Ok(line) => out.extend(line),
            Err(_) => panic!("{command:?}: {n} lines of {lines}: {}", escaped(&out)),
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
    (None, out, String::new())
}
