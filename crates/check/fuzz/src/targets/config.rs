//! Command lines, variables and configuration files.
//!
//! Lines until an empty one are arguments, lines until the next are variables, the
//! rest is the file.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use mainstay_config::{Input, Loaded, load};

use crate::Target;
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "config", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    [
        "--name=a\n--listen-client-urls=http://127.0.0.1:2379,unix://x:0\n--advertise-client-urls\nhttp://[::1]:2379\n\nETCD_HEARTBEAT_INTERVAL=100\nETCD_ELECTION_TIMEOUT=1000\n\n",
        "--snapshot-count=10000\n--quota-backend-bytes=-1\n--auto-compaction-retention=5m30s\n--auto-compaction-mode=periodic\n--feature-gates=A=true,B=false\n--initial-cluster=default=http://localhost:2380\n\nETCD_NAME=b\n\n",
        "--config-file=x\n\n\nname: 'a'\ndata-dir: /x\nsnapshot-count: 10000\nlisten-client-urls: http://localhost:2379\ninitial-cluster: \"default=http://localhost:2380\"\nclient-transport-security:\n  cert-file: a\n  key-file: b\n  client-cert-auth: true\nlog-outputs: [stderr, \"/tmp/x\"]\nauto-compaction-retention: \"1\"\n",
        "--config-file\nx\n\n\n{\"name\": \"a\", \"heartbeat-interval\": 100, \"pre-vote\": false, \"max-txn-ops\": 1e3}",
        "--config-file=x\n\n\na: &a [1,1]\nb: &b [*a,*a]\nname: *b\n",
        "--version\n\n\n",
        "-h\n\n\n",
        "--experimental-initial-corrupt-check\n--log-rotation-config-json={\"maxsize\": 100}\n--enable-log-rotation\n--log-outputs=a\n--cipher-suites=x\n--host-whitelist=*\n--grpc-keepalive-min-time=1h2m3.5s\n\nETCD_UNKNOWN=1\n\n",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

fn run(input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let (args, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let (variables, file) = rest.split_once("\n\n").unwrap_or((rest, ""));
    let args: Vec<String> = args.lines().map(str::to_owned).collect();
    let env: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let loaded = load(&Input {
        args: &args,
        env: &env,
        read_file: &|path| match path {
            "" => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(file.to_owned()),
        },
        default_host: &|| Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    });
    let mut kind = Kind::default();
    match loaded {
        Loaded::Run { notices, .. } => kind.add_size(notices.len()),
        Loaded::Print { code, stderr, .. } => {
            kind.add(u64::from(code));
            kind.add_size(stderr.len());
        }
        Loaded::Refused { invalid, .. } => {
            let text = invalid.to_string();
            kind.add_text(text.get(..24).unwrap_or(&text));
        }
    }
    kind.end()
}
