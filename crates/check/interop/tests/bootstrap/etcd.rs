//! Real members of etcd 3.5.16 with whatever flags, and what they say; our founding with the same.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_bootstrap::founding;
use mainstay_config::{Input, Loaded, load};
use mainstay_driver::Founding;
use mainstay_interop::{Folder, Peer, free_ports, peer};

/// How long a real member may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A real member that runs or has ended; killed when dropped.
pub(crate) struct Etcd {
    child: Child,
    log: PathBuf,
    pub(crate) client: u16,
    pub(crate) peer: u16,
    _folder: Folder,
}

impl Etcd {
    /// Starts one on ports of its own. `None` when the real etcd is missing.
    pub(crate) fn start(name: &str, flags: &[String]) -> Option<Etcd> {
        let (client, peer) = free_ports();
        Etcd::start_at(name, (client, peer), flags)
    }

    /// The same on these ports; what `flags` say counts more.
    pub(crate) fn start_at(
        name: &str,
        (client, port): (u16, u16),
        flags: &[String],
    ) -> Option<Etcd> {
        let program = peer(Peer::Etcd)?;
        let folder = Folder::new("bootstrap");
        let log = folder.path().join("log");
        let file = File::create(&log).expect("our folder");
        let mut command = Command::new(program);
        command
            .env_clear()
            .arg(format!("--name={name}"))
            .arg(format!("--data-dir={}", folder.path().join("data").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{port}"))
            .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{port}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let child = command.spawn().expect("the peer starts");
        Some(Etcd { child, log, client, peer: port, _folder: folder })
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    /// Every line that it logged.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a line with this message.
    pub(crate) fn wait(&self, message: &str) -> serde_json::Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.lines().into_iter().find(|line| line["msg"] == message);
            if let Some(line) = found {
                return line;
            }
            assert!(Instant::now() < until, "no {message:?} in {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn wait_ready(self) -> Etcd {
        self.wait("ready to serve client requests");
        self
    }

    /// Waits until it ends by itself, and tells the last error that it logged.
    pub(crate) fn last_error(mut self) -> String {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("our child").is_none() {
            assert!(Instant::now() < until, "it runs on: {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(10));
        }
        let lines = self.lines();
        let told = lines.iter().rev().find_map(|line| line["error"].as_str());
        told.unwrap_or_else(|| panic!("no error in {lines:#?}")).to_owned()
    }

    /// One request over HTTP to its client port; the body of the answer.
    pub(crate) fn http(&self, method: &str, path: &str, form: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.client)).expect("it listens");
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }

    /// What the real etcdctl answers to a command at this member.
    pub(crate) fn ctl(&self, words: &str) -> Option<String> {
        let endpoint = format!("--endpoints=127.0.0.1:{}", self.client);
        let mut command = Command::new(peer(Peer::Etcdctl)?);
        command.env("ETCDCTL_API", "3").arg(endpoint).args(words.split(' '));
        let told = command.output().expect("it runs");
        assert!(told.status.success(), "{words}: {}", String::from_utf8_lossy(&told.stderr));
        Some(String::from_utf8_lossy(&told.stdout).into_owned())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What our founding says to the flags, or the text of its error.
pub(crate) fn ours(flags: &[String]) -> Result<Founding, String> {
    let args = [&["--data-dir=/nowhere".to_owned()], flags].concat();
    let loaded = load(&Input {
        args: &args,
        env: &[],
        read_file: &|path| Err(std::io::Error::other(path.to_owned())),
        default_host: &|| None,
    });
    match loaded {
        Loaded::Run { config, .. } => founding(&config).map_err(|e| e.to_string()),
        Loaded::Refused { invalid, .. } => Err(invalid.0),
        Loaded::Print { .. } => panic!("{flags:?} print something"),
    }
}

/// Owned flags of a text with blanks between them.
pub(crate) fn flags(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
