//! The rows. Defaults and names are etcd 3.7.1's; the sentences are ours.

use super::Kind::{Bool, Choice, Duration, Gates, Int, Text, Uint, Uint32, Urls, WordSet, Words};
use super::Status::{Ignored, Refused, Tunes, Works};
use super::{Flag, Kind, Section, Status};

pub(super) const SECTIONS: &[Section] = &[
    Section { title: "Member", flags: MEMBER },
    Section { title: "Clustering", flags: CLUSTERING },
    Section { title: "Security", flags: SECURITY },
    Section { title: "Auth", flags: AUTH },
    Section { title: "Logging, profiling and tracing", flags: LOGGING },
    Section { title: "Features and tuning", flags: TUNING },
    Section { title: "Unsafe", flags: UNSAFE },
    Section { title: "Mainstay", flags: OURS },
    Section { title: "Accepted and ignored", flags: IGNORED },
];

/// A row whose file key is `yaml`: `=` the flag's own name, `-` none, else a dotted path.
const fn row(
    status: Status,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    yaml: &'static str,
    help: &'static str,
) -> Flag {
    let yaml = match yaml.as_bytes() {
        b"=" => Some(name),
        b"-" => None,
        _ => Some(yaml),
    };
    Flag { name, kind, default, yaml, status, help }
}

const MEMBER: &[Flag] = &[
    row(Works, "name", Text, "default", "=", "Name of this member, for people; give every member its own."),
    row(Works, "data-dir", Text, "", "=", "Where everything is kept. Empty means NAME.etcd in the working directory."),
    row(Works, "wal-dir", Text, "", "=", "A separate place for the log. Empty means member/wal below the data directory."),
    row(Works, "snapshot-count", Uint, "10000", "=", "Applied entries from one raft snapshot to the next. 0 means the default."),
    row(Works, "snapshot-catchup-entries", Uint, "5000", "=", "Entries kept after a snapshot for followers that lag. 0 means the default."),
    row(Works, "heartbeat-interval", Uint, "100", "=", "Milliseconds between heartbeats of the leader."),
    row(Works, "election-timeout", Uint, "1000", "=", "Milliseconds without a heartbeat after which a follower stands for election."),
    row(Tunes, "initial-election-tick-advance", Bool, "true", "=", "Skip most of the first election timeout at boot."),
    row(Works, "listen-peer-urls", Urls, "http://localhost:2380", "=", "Where to listen for other members."),
    row(Works, "listen-client-urls", Urls, "http://localhost:2379", "=", "Where to listen for clients, gRPC and HTTP on one port."),
    row(Refused, "listen-client-http-urls", Urls, "", "=", "Listeners for HTTP alone, which leave gRPC to --listen-client-urls."),
    row(Works, "listen-metrics-urls", Urls, "", "=", "More listeners, for /metrics and the health endpoints only."),
    row(Works, "max-snapshots", Uint, "5", "=", "Snapshot files to keep, 0 keeps all. Deprecated since 3.6."),
    row(Works, "max-wals", Uint, "5", "=", "Log files to keep, 0 keeps all."),
    row(Tunes, "memory-mlock", Bool, "false", "=", "Pin the database in memory."),
    row(Works, "quota-backend-bytes", Int, "0", "=", "Size at which the database stops taking writes and raises an alarm. 0 means 2 GiB, below 0 no limit."),
    row(Tunes, "backend-bbolt-freelist-type", Text, "", "=", "How bbolt keeps its free pages in memory: array or map."),
    row(Works, "backend-batch-interval", Duration, "0s", "=", "Longest time between two commits of the database. 0 means 100ms."),
    row(Works, "backend-batch-limit", Int, "0", "=", "Most operations between two commits of the database. 0 means 10000."),
    row(Works, "max-txn-ops", Uint, "128", "=", "Most operations in one transaction."),
    row(Works, "max-request-bytes", Uint, "1572864", "=", "Largest request that is proposed, in bytes."),
    row(Works, "max-concurrent-streams", Uint32, "4294967295", "=", "Most HTTP/2 streams that one client connection may have open."),
    row(Works, "grpc-keepalive-min-time", Duration, "5s", "=", "Shortest time a client has to leave between pings."),
    row(Works, "grpc-keepalive-interval", Duration, "2h", "=", "Time between pings from server to client, 0 sends none."),
    row(Works, "grpc-keepalive-timeout", Duration, "20s", "=", "Wait for the answer to a ping before closing, 0 never closes."),
    row(Tunes, "socket-reuse-port", Bool, "false", "socket-options.reuse-port", "Set SO_REUSEPORT on listeners."),
    row(Tunes, "socket-reuse-address", Bool, "false", "socket-options.reuse-address", "Set SO_REUSEADDR on listeners."),
    row(Works, "enable-grpc-gateway", Bool, "true", "=", "Serve the JSON gateway below /v3/."),
    row(Tunes, "raft-read-timeout", Duration, "5s", "-", "Read timeout of connections between members; less than 5s counts as 5s."),
    row(Tunes, "raft-write-timeout", Duration, "5s", "-", "Write timeout of connections between members; less than 5s counts as 5s."),
    row(Works, "feature-gates", Gates, "", "=", "Features to switch, Name=true|false, separated by commas."),
];

const CLUSTERING: &[Flag] = &[
    row(Works, "initial-advertise-peer-urls", Urls, "http://localhost:2380", "=", "Peer URLs of this member that the others are told at bootstrap."),
    row(Works, "initial-cluster", Text, "default=http://localhost:2380", "=", "Members at bootstrap, name=url, separated by commas. One member in this release."),
    row(Refused, "initial-cluster-state", Choice(&["new", "existing"]), "new", "=", "new when this start founds a cluster, existing when it joins one."),
    row(Works, "initial-cluster-token", Text, "etcd-cluster", "=", "Mixed into the identity of the cluster, so that two clusters never mix."),
    row(Works, "advertise-client-urls", Urls, "http://localhost:2379", "=", "Client URLs of this member that clients are told."),
    row(Refused, "discovery-token", Text, "", "discovery-config.token", "Token of the cluster at the discovery service."),
    row(Refused, "discovery-endpoints", WordSet, "", "discovery-config.client.endpoints", "Endpoints of the discovery service."),
    row(Refused, "discovery-dial-timeout", Duration, "2s", "discovery-config.client.dial-timeout", "Discovery: time to connect."),
    row(Refused, "discovery-request-timeout", Duration, "5s", "discovery-config.client.request-timeout", "Discovery: time for a request."),
    row(Refused, "discovery-keepalive-time", Duration, "2s", "discovery-config.client.keepalive-time", "Discovery: time between pings."),
    row(Refused, "discovery-keepalive-timeout", Duration, "6s", "discovery-config.client.keepalive-timeout", "Discovery: wait for the answer to a ping."),
    row(Refused, "discovery-insecure-transport", Bool, "true", "discovery-config.client.secure.insecure-transport", "Discovery: speak without TLS."),
    row(Refused, "discovery-insecure-skip-tls-verify", Bool, "false", "discovery-config.client.secure.insecure-skip-tls-verify", "Discovery: do not check the server certificate."),
    row(Refused, "discovery-cert", Text, "", "discovery-config.client.secure.cert", "Discovery: client certificate file."),
    row(Refused, "discovery-key", Text, "", "discovery-config.client.secure.key", "Discovery: client key file."),
    row(Refused, "discovery-cacert", Text, "", "discovery-config.client.secure.cacert", "Discovery: file of certificate authorities."),
    row(Refused, "discovery-user", Text, "", "discovery-config.client.auth.username", "Discovery: user name."),
    row(Refused, "discovery-password", Text, "", "discovery-config.client.auth.password", "Discovery: password."),
    row(Refused, "discovery-fallback", Choice(&["exit", "proxy"]), "exit", "-", "What to do when discovery fails."),
    row(Refused, "discovery-srv", Text, "", "=", "Domain whose SRV records name the members."),
    row(Refused, "discovery-srv-name", Text, "", "=", "Suffix of the SRV service name."),
    row(Tunes, "strict-reconfig-check", Bool, "true", "=", "Refuse membership changes that would lose the quorum."),
    row(Works, "pre-vote", Bool, "true", "=", "Ask before standing for election, so that a returning member disturbs nobody."),
    row(Works, "auto-compaction-retention", Text, "0", "=", "History to keep: hours or a duration (periodic), a number of revisions (revision). 0 keeps all."),
    row(Works, "auto-compaction-mode", Text, "periodic", "=", "How --auto-compaction-retention counts: periodic or revision."),
    row(Tunes, "v2-deprecation", Choice(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), "write-only", "-", "Stage of the v2 store. The value is not used."),
    row(Tunes, "max-learners", Int, "1", "=", "Most learners in the cluster."),
];

const SECURITY: &[Flag] = &[
    row(Works, "cert-file", Text, "", "client-transport-security.cert-file", "Certificate that clients see. Read again for new connections."),
    row(Works, "key-file", Text, "", "client-transport-security.key-file", "Key of --cert-file."),
    row(Tunes, "client-cert-file", Text, "", "client-transport-security.client-cert-file", "Certificate for the server's own calls to its client port."),
    row(Tunes, "client-key-file", Text, "", "client-transport-security.client-key-file", "Key of --client-cert-file."),
    row(Works, "client-cert-auth", Bool, "false", "client-transport-security.client-cert-auth", "Clients have to show a certificate. --trusted-ca-file implies it."),
    row(Refused, "client-crl-file", Text, "", "-", "Revoked client certificates."),
    row(Refused, "client-cert-allowed-hostname", Words, "", "client-transport-security.allowed-hostname", "Names, one of which a client certificate has to carry."),
    row(Works, "trusted-ca-file", Text, "", "client-transport-security.trusted-ca-file", "Authorities that may vouch for clients."),
    row(Refused, "auto-tls", Bool, "false", "client-transport-security.auto-tls", "Make certificates for clients at the first start."),
    row(Works, "peer-cert-file", Text, "", "peer-transport-security.cert-file", "Certificate that other members see."),
    row(Works, "peer-key-file", Text, "", "peer-transport-security.key-file", "Key of --peer-cert-file."),
    row(Tunes, "peer-client-cert-file", Text, "", "peer-transport-security.client-cert-file", "Certificate for calls to other members, when it is not --peer-cert-file."),
    row(Tunes, "peer-client-key-file", Text, "", "peer-transport-security.client-key-file", "Key of --peer-client-cert-file."),
    row(Works, "peer-client-cert-auth", Bool, "false", "peer-transport-security.client-cert-auth", "Other members have to show a certificate."),
    row(Works, "peer-trusted-ca-file", Text, "", "peer-transport-security.trusted-ca-file", "Authorities that may vouch for other members."),
    row(Refused, "peer-cert-allowed-cn", Words, "", "peer-transport-security.allowed-cn", "Common names, one of which a peer certificate has to carry."),
    row(Refused, "peer-cert-allowed-hostname", Words, "", "peer-transport-security.allowed-hostname", "Names, one of which a peer certificate has to carry."),
    row(Refused, "peer-auto-tls", Bool, "false", "peer-transport-security.auto-tls", "Make certificates for members at the first start."),
    row(Refused, "peer-crl-file", Text, "", "-", "Revoked peer certificates."),
    row(Tunes, "peer-skip-client-san-verification", Bool, "false", "peer-transport-security.skip-client-san-verification", "Do not hold the address of a member against its certificate."),
    row(Tunes, "self-signed-cert-validity", Uint, "1", "=", "Years for which certificates of --auto-tls are good."),
    row(Refused, "cipher-suites", Words, "", "=", "TLS 1.2 cipher suites to allow."),
    row(Works, "tls-min-version", Text, "TLS1.2", "=", "Lowest TLS version: TLS1.2 or TLS1.3."),
    row(Works, "tls-max-version", Text, "", "=", "Highest TLS version: TLS1.2 or TLS1.3. Empty means the newest."),
    row(Refused, "cors", WordSet, "*", "=", "Origins that browsers may call from."),
    row(Refused, "host-whitelist", WordSet, "*", "=", "Host names that plain HTTP requests may ask for."),
];

const AUTH: &[Flag] = &[
    row(Refused, "auth-token", Text, "simple", "=", "Kind of token that users get."),
    row(Works, "bcrypt-cost", Uint, "10", "=", "Work for hashing a password, 4 to 31."),
    row(Works, "auth-token-ttl", Uint, "300", "=", "Seconds for which a token is good."),
];

const LOGGING: &[Flag] = &[
    row(Works, "logger", Text, "zap", "=", "Form of the log. zap is the only one."),
    row(Works, "log-outputs", WordSet, "default", "=", "Where to log: default (stderr), stderr, stdout, systemd/journal (written to stderr) or files."),
    row(Works, "log-level", Text, "info", "=", "debug, info, warn, error, panic or fatal."),
    row(Works, "log-format", Text, "json", "=", "json or console."),
    row(Works, "enable-log-rotation", Bool, "false", "=", "Start a new log file when it is full. Needs exactly one file in --log-outputs."),
    row(Works, "log-rotation-config-json", Text, "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", "=", "When a log file is full (MiB) and how many old ones are kept."),
    row(Works, "warning-unary-request-duration", Duration, "300ms", "=", "Calls that take longer are logged. 0 means 300ms."),
    row(Tunes, "enable-pprof", Bool, "false", "=", "Serve profiles below /debug/pprof."),
    row(Works, "metrics", Text, "basic", "=", "extensive adds histograms of gRPC handling time."),
    row(Tunes, "enable-distributed-tracing", Bool, "false", "=", "Send traces by OpenTelemetry."),
    row(Tunes, "distributed-tracing-address", Text, "localhost:4317", "=", "Collector of traces."),
    row(Tunes, "distributed-tracing-service-name", Text, "etcd", "=", "Service name in traces."),
    row(Tunes, "distributed-tracing-instance-id", Text, "", "=", "Instance name in traces."),
    row(Tunes, "distributed-tracing-sampling-rate", Int, "0", "=", "Traces kept of each million."),
];

const TUNING: &[Flag] = &[
    row(Tunes, "corrupt-check-time", Duration, "0s", "=", "Time between comparisons with other members, 0 makes none."),
    row(Tunes, "compact-hash-check-time", Duration, "1m0s", "=", "Time between comparisons of compaction hashes."),
    row(Works, "compaction-batch-limit", Int, "0", "=", "Revisions deleted in one step of a compaction. 0 means 1000."),
    row(Works, "compaction-sleep-interval", Duration, "0s", "=", "Rest between two steps of a compaction. 0 means 10ms."),
    row(Works, "watch-progress-notify-interval", Duration, "0s", "=", "Time between progress notices to idle watchers. 0 means 10m."),
    row(Works, "warning-apply-duration", Duration, "100ms", "=", "Applies that take longer are logged."),
    row(Tunes, "bootstrap-defrag-threshold-megabytes", Uint, "0", "=", "Defragment at boot when it frees at least this much, 0 never."),
    row(Tunes, "downgrade-check-time", Duration, "5s", "=", "Time between looks at a downgrade under way, 0 never looks."),
];

const UNSAFE: &[Flag] = &[
    row(Refused, "force-new-cluster", Bool, "false", "=", "Make a cluster of this one member."),
    row(Works, "unsafe-no-fsync", Bool, "false", "=", "Do not wait for the disk. A crash of the machine loses data."),
    row(Works, "config-file", Text, "", "-", "A YAML or JSON file to configure from. Every other flag and variable is then ignored."),
    row(Works, "version", Bool, "false", "-", "Print the versions and exit."),
];

const OURS: &[Flag] = &[
    row(Works, "initial-cluster-version", Choice(&["3.5", "3.6", "3.7"]), "3.7", "=", "Version of the cluster that a first start founds; lower lets older members join."),
];

const IGNORED: &[Flag] = &[
    row(Ignored, "cluster-active-size", Bool, "", "-", ""),
    row(Ignored, "cluster-remove-delay", Bool, "", "-", ""),
    row(Ignored, "cluster-sync-interval", Bool, "", "-", ""),
    row(Ignored, "config", Bool, "", "-", ""),
    row(Ignored, "force", Bool, "", "-", ""),
    row(Ignored, "max-result-buffer", Bool, "", "-", ""),
    row(Ignored, "max-retry-attempts", Bool, "", "-", ""),
    row(Ignored, "peer-heartbeat-interval", Bool, "", "-", ""),
    row(Ignored, "peer-election-timeout", Bool, "", "-", ""),
    row(Ignored, "retry-interval", Bool, "", "-", ""),
    row(Ignored, "snapshot", Bool, "", "-", ""),
    row(Ignored, "v", Bool, "", "-", ""),
    row(Ignored, "vv", Bool, "", "-", ""),
    row(Ignored, "test.coverprofile", Bool, "", "-", ""),
    row(Ignored, "test.outputdir", Bool, "", "-", ""),
];
