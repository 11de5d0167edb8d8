//! A DNS client for one kind of record, SRV (RFC 1035, RFC 2782).
//!
//! The system's resolver cannot be asked for it without unsafe code, and a resolver library would
//! bring dozens of crates for two questions at the first start of a member. Answers come from
//! whoever can reach the port, so everything read from them is bounded and checked.

mod conf;
mod message;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use mainstay_types::limits::DNS_UDP_ANSWER_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::names::Service;
use conf::Conf;
use message::{Answer, Malformed};

/// Asks name servers, the way Go's resolver does.
pub(crate) struct Dns {
    conf: Conf,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no such host")]
    NoSuchHost,
    #[error("server misbehaving")]
    Misbehaving,
    #[error("i/o timeout")]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot unmarshal DNS message")]
    Malformed(#[from] Malformed),
}

impl Dns {
    /// As the file says, in the form of `resolv.conf`; without it, the resolver of this machine.
    pub(crate) fn from_file(path: &Path) -> Dns {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Dns { conf: Conf::parse(&text) }
    }

    #[cfg(test)]
    pub(crate) fn over(
        servers: Vec<SocketAddr>,
        search: &[&str],
        wait: std::time::Duration,
    ) -> Dns {
        let mut conf = Conf::parse("");
        conf.servers = servers;
        conf.search = search.iter().map(|&suffix| suffix.to_owned()).collect();
        conf.timeout = wait;
        Dns { conf }
    }

    /// The SRV records of `name`, by priority, then heaviest first.
    ///
    /// # Errors
    /// When there are none, nobody answers, or an answer names something that is no host; in the
    /// words of Go's resolver.
    pub(crate) async fn services(&self, name: &str) -> Result<Vec<Service>, String> {
        let mut last = (Failure::NoSuchHost, None);
        for full in self.conf.full_names(name) {
            match self.ask_all(&full).await {
                Ok(mut found) => {
                    found.sort_by_key(|one| (one.priority, u16::MAX - one.weight));
                    return if found.iter().all(|one| is_host(&one.target)) {
                        Ok(found)
                    } else {
                        let why = "DNS response contained records which contain invalid names";
                        Err(format!("lookup {name}: {why}"))
                    };
                }
                Err(failure) => last = failure,
            }
        }
        Err(match last {
            (why, Some(server)) => format!("lookup {name} on {server}: {why}"),
            (why, None) => format!("lookup {name}: {why}"),
        })
    }

    /// Asks the servers in turn, some times over, until one knows.
    async fn ask_all(&self, full: &str) -> Result<Vec<Service>, (Failure, Option<SocketAddr>)> {
        let mut last = (Failure::NoSuchHost, None);
        for _ in 0..self.conf.attempts {
            for &server in &self.conf.servers {
                match self.ask(server, full).await {
                    Ok(found) => return Ok(found),
                    // It knows that there is nothing.
                    Err(Failure::NoSuchHost) => return Err((Failure::NoSuchHost, Some(server))),
                    Err(failure) => last = (failure, Some(server)),
                }
            }
        }
        Err(last)
    }

    async fn ask(&self, server: SocketAddr, full: &str) -> Result<Vec<Service>, Failure> {
        // Only the asker can guess it, with the port that the system chose.
        let id = (RandomState::new().build_hasher().finish() & 0xffff) as u16;
        let question = message::question(id, full)?;
        let answer = timeout(self.conf.timeout, over_udp(server, id, &question)).await;
        let mut answer = answer.map_err(|_| Failure::Timeout)??;
        if answer.truncated {
            let whole = timeout(self.conf.timeout, over_tcp(server, id, &question)).await;
            answer = whole.map_err(|_| Failure::Timeout)??;
        }
        match answer.code {
            0 if answer.services.is_empty() => Err(Failure::NoSuchHost),
            0 => Ok(answer.services),
            message::NAME_ERROR => Err(Failure::NoSuchHost),
            _ => Err(Failure::Misbehaving),
        }
    }
}

/// The first answer that belongs to the question; others may be anybody's.
async fn over_udp(server: SocketAddr, id: u16, question: &[u8]) -> Result<Answer, Failure> {
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; DNS_UDP_ANSWER_BYTES_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        if message::belongs(&buffer[..len], id, question) {
            return Ok(message::read(&buffer[..len])?);
        }
    }
}

async fn over_tcp(server: SocketAddr, id: u16, question: &[u8]) -> Result<Answer, Failure> {
    let mut socket = TcpStream::connect(server).await?;
    let len = u16::try_from(question.len()).map_err(|_| Malformed)?;
    socket.write_all(&[&len.to_be_bytes(), question].concat()).await?;
    // The length is 16 bits: at most 64 KiB.
    let mut buffer = vec![0; usize::from(socket.read_u16().await?)];
    socket.read_exact(&mut buffer).await?;
    if !message::belongs(&buffer, id, question) {
        return Err(Malformed.into());
    }
    Ok(message::read(&buffer)?)
}

/// Whether a target can be a host (Go's `isDomainName`, without its tolerance for odd signs).
fn is_host(target: &str) -> bool {
    target == "."
        || target.strip_suffix('.').unwrap_or(target).split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Reads an answer as a name server sends it, for whoever throws noise at it: how many services it
/// names, or `None` when it is no answer.
pub fn parse_answer(bytes: &[u8]) -> Option<usize> {
    message::read(bytes).ok().map(|answer| answer.services.len())
}

#[cfg(test)]
mod tests;
