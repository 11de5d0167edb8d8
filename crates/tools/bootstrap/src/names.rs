//! Asking for names: the machine's own resolver for addresses, our DNS client for services.

use std::net::IpAddr;
use std::path::Path;

use crate::dns::Dns;

/// Where a service of a domain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Lower is asked first.
    pub(crate) priority: u16,
    /// Share among those of one priority.
    pub(crate) weight: u16,
    /// Its port.
    pub(crate) port: u16,
    /// Its host, with the dot that ends a full name.
    pub(crate) target: String,
}

/// Who knows names.
pub(crate) trait Names {
    /// The addresses of a host, the best first; at least one.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, String>;

    /// The records of `_SERVICE._tcp.DOMAIN`; at least one.
    async fn services(&self, service: &str, domain: &str) -> Result<Vec<Service>, String>;
}

/// The machine's resolver.
pub(crate) struct System {
    dns: Dns,
}

impl System {
    /// As `/etc/resolv.conf` has it.
    pub(crate) fn from_machine() -> System {
        System { dns: Dns::from_file(Path::new("/etc/resolv.conf")) }
    }
}

impl Names for System {
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, String> {
        let wrong = |why: String| format!("lookup {host}: {why}");
        let found = tokio::net::lookup_host((host, port)).await;
        let found: Vec<IpAddr> =
            found.map_err(|e| wrong(plainly(&e)))?.map(|address| address.ip()).collect();
        if found.is_empty() { Err(wrong("no such host".to_owned())) } else { Ok(found) }
    }

    async fn services(&self, service: &str, domain: &str) -> Result<Vec<Service>, String> {
        self.dns.services(&format!("_{service}._tcp.{domain}")).await
    }
}

/// The system's words for an unknown name are the C library's; Go's are known to people.
fn plainly(error: &std::io::Error) -> String {
    let text = error.to_string();
    let unknown = ["Name or service not known", "No address associated with hostname"];
    if unknown.iter().any(|words| text.ends_with(words)) { "no such host".to_owned() } else { text }
}
