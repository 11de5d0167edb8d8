//! `resolv.conf`, as far as Go's resolver looks at it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mainstay_types::limits::{DNS_SEARCH_MAX, DNS_SERVERS_MAX};

/// Whom to ask, and what to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conf {
    /// Asked in this order; never empty.
    pub(super) servers: Vec<SocketAddr>,
    /// Suffixes for names that are not known as they stand.
    pub(super) search: Vec<String>,
    /// Dots from which a name is tried as it stands before the suffixes.
    pub(super) ndots: usize,
    /// For one answer.
    pub(super) timeout: Duration,
    /// Rounds over the servers.
    pub(super) attempts: u32,
}

impl Conf {
    /// Reads the file's text; what is not understood is passed over.
    pub(super) fn parse(text: &str) -> Conf {
        let mut conf = Conf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines().filter(|line| !line.starts_with([';', '#'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.server(words.next()),
                Some("domain") => conf.search = words.take(1).map(rooted).collect(),
                Some("search") => conf.search = words.take(DNS_SEARCH_MAX).map(rooted).collect(),
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        conf
    }

    fn server(&mut self, word: Option<&str>) {
        if let Some(address) = word.and_then(|word| word.parse::<IpAddr>().ok())
            && self.servers.len() < DNS_SERVERS_MAX
        {
            self.servers.push((address, PORT).into());
        }
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to ask for, with the dot at their end, in order.
    pub(super) fn full_names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let plain = rooted(name);
        let mut names: Vec<String> =
            self.search.iter().map(|suffix| format!("{plain}{suffix}")).collect();
        let at = if name.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(at, plain);
        names
    }
}

fn rooted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

/// Where name servers listen.
const PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_others_read_it() {
        let conf = Conf::parse(
            "# by somebody\nnameserver 10.0.0.1\nnameserver ::1\nnameserver nobody\n\
             search a.example b.example.\noptions ndots:2 timeout:1 attempts:9 rotate\n",
        );
        assert_eq!(conf.servers, ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!((conf.ndots, conf.attempts), (2, 5));
        assert_eq!(conf.timeout, Duration::from_secs(1));
        assert_eq!(conf.full_names("x"), ["x.a.example.", "x.b.example.", "x."]);
        assert_eq!(conf.full_names("x.y.z"), ["x.y.z.", "x.y.z.a.example.", "x.y.z.b.example."]);
        assert_eq!(conf.full_names("x."), ["x."]);
        assert_eq!(Conf::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(Conf::parse("search a\ndomain b").search, ["b."]);
    }
}
