//! What the tests put in place of the world: names, and members that answer over HTTP.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_config::{Config, Input, Loaded, load};

use crate::Waits;
use crate::names::{Names, Service};

/// The configuration of a command line.
pub(crate) fn config(args: &[&str]) -> Config {
    let mut all = vec!["--data-dir=/nowhere".to_owned()];
    all.extend(args.iter().map(|&arg| arg.to_owned()));
    let loaded = load(&Input {
        args: &all,
        env: &[],
        read_file: &|path| Err(std::io::Error::other(path.to_owned())),
        default_host: &|| None,
    });
    match loaded {
        Loaded::Run { config, .. } => *config,
        other => panic!("{args:?}: {other:?}"),
    }
}

/// Short for all that may be waited for in vain.
pub(crate) fn waits() -> Waits {
    let short = Duration::from_millis(300);
    Waits {
        resolve: short,
        resolve_rest: Duration::from_millis(5),
        members: short,
        before: short,
        backoff: Duration::from_millis(1),
        discovery: short,
        discovery_dial: short,
        poll: short,
    }
}

/// Names that are known here.
#[derive(Default)]
pub(crate) struct FakeNames {
    hosts: BTreeMap<&'static str, IpAddr>,
    services: BTreeMap<(String, String), Vec<Service>>,
    /// How often a host is not known yet.
    late: Cell<u32>,
}

impl FakeNames {
    pub(crate) fn host(mut self, name: &'static str, address: &str) -> FakeNames {
        self.hosts.insert(name, address.parse().expect("an address"));
        self
    }

    pub(crate) fn late(self, times: u32) -> FakeNames {
        self.late.set(times);
        self
    }

    pub(crate) fn service(mut self, service: &str, targets: &[(&str, u16)]) -> FakeNames {
        let records = targets.iter().map(|&(target, port)| Service {
            priority: 0,
            weight: 0,
            port,
            target: target.to_owned(),
        });
        let key = (service.to_owned(), "example.com".to_owned());
        self.services.insert(key, records.collect());
        self
    }
}

impl Names for FakeNames {
    async fn addresses(&self, host: &str, _port: u16) -> Result<Vec<IpAddr>, String> {
        let unknown = || format!("lookup {host}: no such host");
        if self.late.get() > 0 {
            self.late.set(self.late.get() - 1);
            return Err(unknown());
        }
        let found = self.hosts.get(host.trim_end_matches('.'));
        found.map(|address| vec![*address]).ok_or_else(unknown)
    }

    async fn services(&self, service: &str, domain: &str) -> Result<Vec<Service>, String> {
        let found = self.services.get(&(service.to_owned(), domain.to_owned()));
        found.cloned().ok_or_else(|| format!("lookup _{service}._tcp.{domain}: no such host"))
    }
}

/// What a fake says to a request line: status, cluster header, body.
pub(crate) type Reply = (u16, Vec<(&'static str, String)>, String);

type Routes = Arc<Mutex<BTreeMap<String, Vec<Reply>>>>;

/// A server of canned answers on a port of its own; it ends with the test's process.
pub(crate) struct FakePeer {
    address: SocketAddr,
    routes: Routes,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakePeer {
    pub(crate) fn start() -> FakePeer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (routes, asked) = (Routes::default(), Arc::<Mutex<Vec<String>>>::default());
        let (theirs, log) = (Arc::clone(&routes), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &theirs, &log);
            }
        });
        FakePeer { address, routes, asked }
    }

    /// Answers `METHOD path` with these, the last one again and again.
    pub(crate) fn on(&self, request: &str, reply: Reply) -> &FakePeer {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.entry(request.to_owned()).or_default().push(reply);
        self
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The request lines and bodies so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers `/members`.
    pub(crate) fn tells(&self, cluster: &str, members: &str) -> &FakePeer {
        let header = vec![("X-Etcd-Cluster-ID", cluster.to_owned())];
        self.on("GET /members", (200, header, members.to_owned()))
    }
}

/// 200 with a body.
pub(crate) fn ok(body: &str) -> Reply {
    (200, vec![], body.to_owned())
}

fn answer(stream: TcpStream, routes: &Routes, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).is_err() || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let asked = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let body = String::from_utf8_lossy(&body).into_owned();
    let shown = if body.is_empty() { asked.clone() } else { format!("{asked} {body}") };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
    let reply = {
        let mut routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
        match routes.get_mut(&asked) {
            Some(replies) if replies.len() > 1 => Some(replies.remove(0)),
            Some(replies) => replies.first().cloned(),
            None => None,
        }
    };
    let (status, headers, body) =
        reply.unwrap_or_else(|| (404, vec![], "404 page not found\n".to_owned()));
    let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = (&stream).write_all(format!("{text}\r\n{body}").as_bytes());
}
