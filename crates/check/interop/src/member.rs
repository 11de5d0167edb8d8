//! A running etcd, ours or the real one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::Make;
use crate::our;

/// Whose binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Ours,
    /// Debian's etcd 3.5.16.
    Real,
}

/// How to start a member.
#[derive(Clone, Debug)]
pub struct Start {
    /// Whose binary.
    pub kind: Kind,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// Client and peer port; see [`free_ports`].
    pub ports: (u16, u16),
    /// More flags.
    pub flags: Vec<String>,
}

impl Start {
    /// A member with its data in `data_dir` on free ports.
    pub fn new(kind: Kind, data_dir: &Path) -> Start {
        Start { kind, data_dir: data_dir.to_owned(), ports: free_ports(), flags: Vec::new() }
    }

    /// With one more flag.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Start {
        self.flags.push(flag.to_owned());
        self
    }

    /// The same directory and ports with the other kind of binary, and no more flags.
    #[must_use]
    pub fn with_kind(&self, kind: Kind) -> Start {
        Start { kind, flags: Vec::new(), ..self.clone() }
    }

    /// The command, not started. `None` when the real etcd is missing.
    pub fn command(&self) -> Option<Command> {
        let binary = match self.kind {
            Kind::Ours => our("etcd"),
            Kind::Real => Make::Go.binary()?,
        };
        let client = format!("http://127.0.0.1:{}", self.ports.0);
        let peer = format!("http://127.0.0.1:{}", self.ports.1);
        let mut command = Command::new(binary);
        command
            .arg("--name=m1")
            .arg(format!("--data-dir={}", self.data_dir.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=m1={peer}"))
            .args(&self.flags)
            .stdin(Stdio::null());
        Some(command)
    }

    /// Starts it and waits until it is healthy. `None` when the real etcd is missing.
    ///
    /// # Panics
    /// When it ends or is not healthy within a minute; with what it logged.
    pub fn run(&self) -> Option<Member> {
        let log = self.data_dir.with_extension(format!("{:?}.log", self.kind));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let mut command = self.command()?;
        let child = command.stdout(Stdio::null()).stderr(file).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut member = Member { child: Some(child), start: self.clone(), log };
        member.wait_healthy();
        Some(member)
    }
}

/// A running member; killed when dropped.
pub struct Member {
    child: Option<Child>,
    start: Start,
    log: PathBuf,
}

impl Member {
    /// `host:port` for clients.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.start.ports.0)
    }

    /// How it was started.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Its process id.
    ///
    /// # Panics
    /// After it was stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the member runs").id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The body of an HTTP GET on the client port, or the error as text.
    ///
    /// # Errors
    /// When there is no connection or no answer.
    pub fn http_get(&self, path: &str) -> Result<String, String> {
        http_get(&format!("127.0.0.1:{}", self.start.ports.0), path)
    }

    /// Ends it with SIGTERM and waits.
    ///
    /// # Panics
    /// When it does not end within ten seconds.
    pub fn stop(mut self) {
        let mut child = self.child.take().expect("the member runs");
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "kill must find the process");
        let patience = Instant::now() + Duration::from_secs(10);
        while child.try_wait().expect("our own child").is_none() {
            assert!(Instant::now() < patience, "no end after SIGTERM; it logged:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// Waits until it ends by itself, and says how.
    ///
    /// # Panics
    /// When it does not within ten seconds.
    pub fn ended(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the member runs");
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                return status;
            }
            if Instant::now() >= patience {
                self.child = Some(child);
                panic!("it does not end; it logged:\n{}", self.log());
            }
            std::thread::yield_now();
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        self.kill_child();
    }

    fn kill_child(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn wait_healthy(&mut self) {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                panic!("{:?} ended with {status}; it logged:\n{}", self.start.kind, self.log());
            }
            // A member without room is up: it reads, and says so.
            if self
                .http_get("/health?exclude=NOSPACE")
                .is_ok_and(|body| body.contains(r#""health":"true""#))
            {
                return;
            }
            assert!(Instant::now() < patience, "not healthy in 60 s; it logged:\n{}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill_child();
    }
}

/// A client and a peer port that were free a moment ago. They lie below those that the system
/// gives to outgoing connections, one of which could have them before their server does.
///
/// # Panics
/// When there are none.
pub fn free_ports() -> (u16, u16) {
    let (client, peer) = (free(), free());
    let port = |l: &TcpListener| l.local_addr().expect("bound").port();
    (port(&client), port(&peer))
}

fn free() -> TcpListener {
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 22_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Test programs run beside each other, and begin at different places.
    let start = std::process::id().wrapping_mul(97);
    (0..PORTS)
        .find_map(|_| {
            let at = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PORTS;
            TcpListener::bind(("127.0.0.1", (FIRST + at) as u16)).ok()
        })
        .expect("a free port")
}

pub(crate) fn http_get(endpoint: &str, path: &str) -> Result<String, String> {
    let mut socket = TcpStream::connect(endpoint).map_err(|e| e.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
