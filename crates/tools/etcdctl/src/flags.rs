//! The table of etcdctl's commands and flags.

use mainstay_print::args::{Command, Flag, Program};

/// The whole of etcdctl.
pub(crate) const ETCDCTL: &Program = &Program {
    name: "etcdctl",
    about: "talk to etcd from the command line",
    commands: COMMANDS,
    groups: GROUPS,
    global: GLOBAL,
};

/// Flags of every command; also set by `ETCDCTL_` and the name in capitals.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::text("endpoints", "127.0.0.1:2379", "where to find etcd, separated by commas"),
    Flag::bool("debug", "say on standard error what the client does"),
    Flag::text(
        "write-out",
        "simple",
        "form of the output: fields, json, protobuf, simple or table",
    )
    .letter('w'),
    Flag::bool("hex", "print byte strings as hexadecimal"),
    Flag::time("dial-timeout", "2s", "how long a connection may take"),
    Flag::time("command-timeout", "5s", "how long a short command may take"),
    Flag::time("keepalive-time", "2s", "time without traffic before the connection is probed"),
    Flag::time("keepalive-timeout", "6s", "how long a probe may go unanswered"),
    Flag::int("max-request-bytes", "largest request in bytes (0: 2 MiB)"),
    Flag::int("max-recv-bytes", "largest answer in bytes (0: 2 GiB)"),
    Flag::bool("insecure-transport", "no TLS unless certificates are given").or("true"),
    Flag::bool("insecure-discovery", "take cleartext endpoints from discovery").or("true"),
    Flag::bool("insecure-skip-tls-verify", "take any server certificate (for tests)"),
    Flag::text("cert", "", "our certificate for TLS, in PEM"),
    Flag::text("key", "", "its key, in PEM"),
    Flag::text("cacert", "", "CA certificates that the server's must come from, in PEM"),
    Flag::text("auth-jwt-token", "", "a JWT to authenticate with"),
    Flag::text("user", "", "name, or name:password"),
    Flag::text("password", "", "password, when --user is only a name"),
    Flag::text("discovery-srv", "", "domain whose SRV records name the endpoints").letter('d'),
    Flag::text("discovery-srv-name", "", "service name to ask for with --discovery-srv"),
];

const GET: &[Flag] = &[
    Flag::text("consistency", "l", "linearizable (l) or serializable (s)"),
    Flag::text("order", "", "ASCEND or DESCEND"),
    Flag::text("sort-by", "", "CREATE, KEY, MODIFY, VALUE or VERSION"),
    Flag::int("limit", "most results"),
    Flag::bool("prefix", "keys with this prefix"),
    Flag::bool("from-key", "keys from this one on, in byte order"),
    Flag::int("rev", "read at this revision"),
    Flag::bool("keys-only", "no values"),
    Flag::bool("count-only", "only the count"),
    Flag::bool("print-value-only", "only values"),
    Flag::int("min-create-rev", "least create revision"),
    Flag::int("max-create-rev", "greatest create revision"),
    Flag::int("min-mod-rev", "least modification revision"),
    Flag::int("max-mod-rev", "greatest modification revision"),
    Flag::bool("stream", "receive the answer in pieces"),
];
const PUT: &[Flag] = &[
    Flag::text("lease", "0", "lease, in hexadecimal, that the key goes with"),
    Flag::bool("prev-kv", "also the pair that was replaced"),
    Flag::bool("ignore-value", "keep the value, change the lease"),
    Flag::bool("ignore-lease", "keep the lease, change the value"),
];
const DEL: &[Flag] = &[
    Flag::bool("prefix", "keys with this prefix"),
    Flag::bool("prev-kv", "also the pairs that were deleted"),
    Flag::bool("from-key", "keys from this one on, in byte order"),
    Flag::bool("range", "the second argument is the end of a range"),
];
const WATCH: &[Flag] = &[
    INTERACTIVE,
    Flag::bool("prefix", "keys with this prefix"),
    Flag::int("rev", "start at this revision"),
    Flag::bool("prev-kv", "also the pairs as they were before"),
    Flag::bool("progress-notify", "ask for periodic progress"),
];
const INTERACTIVE: Flag =
    Flag::bool("interactive", "read from standard input with prompts").letter('i');
const PEER_URLS: Flag = Flag::text("peer-urls", "", "peer URLs of the member, separated by commas");
const MEMBER_ADD: &[Flag] = &[
    PEER_URLS,
    Flag::bool("learner", "without a vote, until it is promoted"),
    Flag::bool("promote-when-ready", "as a learner; wait until it is in sync, and promote it"),
];
const CLUSTER: Flag = Flag::bool("cluster", "ask every member of the cluster");

/// Every command.
/// As 3.5 had them.
const RESTORE: &[Flag] = &[
    Flag::text("data-dir", "", "directory to make (default NAME.etcd)"),
    Flag::text("wal-dir", "", "folder to make for the log (default in the data directory)"),
    Flag::text("initial-cluster", "default=http://localhost:2380", "members of the new cluster"),
    Flag::text("initial-cluster-token", "etcd-cluster", "token of the new cluster"),
    Flag::text("initial-advertise-peer-urls", "http://localhost:2380", "peer URLs of this member"),
    Flag::text("name", "default", "name of this member"),
    Flag::bool("skip-hash-check", "take a file without its checksum (a copied db file)"),
    Flag::uint("bump-revision", "0", "how far the revision is raised; with --mark-compacted"),
    Flag::bool("mark-compacted", "mark everything below the raised revision as compacted"),
    Flag::uint("initial-memory-map-size", "0", "taken for the sake of scripts; nothing is mapped"),
];
/// A flag that must be turned off for scripts.
const ASKING: Flag =
    Flag::bool("interactive", "ask for the password; else it is read from standard input")
        .or("true");
const USER_ADD: &[Flag] = &[
    ASKING,
    Flag::text("new-user-password", "", "the password, given here"),
    Flag::bool("no-password", "a user whose certificate names it"),
];
const PERMISSION: &[Flag] = &[
    Flag::bool("prefix", "all keys with this prefix"),
    Flag::bool("from-key", "all keys from this one on, in byte order"),
];
const COMMANDS: &[Command] = &[
    Command::new("get", "<key> [range_end]", "read keys", GET),
    Command::new("put", "<key> [value]", "write a key; the value may come on standard input", PUT),
    Command::new("del", "<key> [range_end]", "delete keys", DEL),
    Command::new("txn", "", "one transaction, from standard input", &[INTERACTIVE]),
    Command::new(
        "compaction",
        "<revision>",
        "forget what is older than a revision",
        &[Flag::bool("physical", "wait until it is off the disk")],
    ),
    Command::new("watch", "[key] [range_end] [-- command]", "follow changes of keys", WATCH),
    Command::new("lease grant", "<ttl>", "make a lease of so many seconds", &[]),
    Command::new("lease revoke", "<lease>", "end a lease and delete its keys", &[]),
    Command::new(
        "lease timetolive",
        "<lease>",
        "what is left of a lease",
        &[Flag::bool("keys", "also the keys that go with it")],
    ),
    Command::new("lease list", "", "all leases", &[]),
    Command::new(
        "lease keep-alive",
        "<lease>",
        "renew a lease until stopped",
        &[Flag::bool("once", "renew it once")],
    ),
    Command::new("member add", "<name>", "let a member join the cluster", MEMBER_ADD),
    Command::new("member remove", "<member>", "let a member leave the cluster, for ever", &[]),
    Command::new("member update", "<member>", "give a member other peer URLs", &[PEER_URLS]),
    Command::new("member promote", "<member>", "give a learner a vote", &[]),
    Command::new(
        "member list",
        "",
        "the members of the cluster",
        &[Flag::text("consistency", "l", "linearizable (l) or serializable (s)")],
    ),
    Command::new("move-leader", "<member>", "hand leadership over to another member", &[]),
    Command::new("downgrade validate", "<version>", "whether the cluster could be downgraded", &[]),
    Command::new("downgrade enable", "<version>", "begin to downgrade the cluster", &[]),
    Command::new("downgrade cancel", "", "end the downgrade under way", &[]),
    Command::new("upgrade status", "", "what every member runs, and what holds the version", &[]),
    Command::new("upgrade finalize", "", "raise the cluster's version to its members'", &[]),
    Command::new("endpoint health", "", "whether the endpoints are healthy", &[CLUSTER]),
    Command::new("endpoint status", "", "what the endpoints say of themselves", &[CLUSTER]),
    Command::new(
        "endpoint hashkv",
        "",
        "the hash of the key-value history at each endpoint",
        &[CLUSTER, Flag::int("rev", "up to this revision (0: the newest)")],
    ),
    Command::new("alarm list", "", "raised alarms", &[]),
    Command::new("alarm disarm", "", "end all raised alarms", &[]),
    Command::new("auth enable", "", "ask every client who it is", &[]),
    Command::new("auth disable", "", "ask no client who it is", &[]),
    Command::new("auth status", "", "whether clients are asked who they are", &[]),
    Command::new("user add", "<name or name:password>", "add a user", USER_ADD),
    Command::new("user delete", "<name>", "delete a user", &[]),
    Command::new(
        "user get",
        "<name>",
        "the roles of a user",
        &[Flag::bool("detail", "also what the roles permit")],
    ),
    Command::new("user list", "", "all users", &[]),
    Command::new("user passwd", "<name>", "change a user's password", &[ASKING]),
    Command::new("user grant-role", "<user> <role>", "give a user a role", &[]),
    Command::new("user revoke-role", "<user> <role>", "take a role from a user", &[]),
    Command::new("role add", "<role>", "add a role", &[]),
    Command::new("role delete", "<role>", "delete a role, and take it from all users", &[]),
    Command::new("role get", "<role>", "what a role permits", &[]),
    Command::new("role list", "", "all roles", &[]),
    Command::new(
        "role grant-permission",
        "<role> <read|write|readwrite> <key> [endkey]",
        "permit a key or a range",
        PERMISSION,
    ),
    Command::new(
        "role revoke-permission",
        "<role> <key> [endkey]",
        "take a permission back",
        PERMISSION,
    ),
    Command::new("defrag", "", "give unused space of the db files back", &[CLUSTER]),
    Command::new("snapshot save", "<file>", "write a snapshot of one endpoint to a file", &[]),
    Command::new("snapshot status", "<file>", "deprecated: etcdutl snapshot status", &[]),
    Command::new("snapshot restore", "<file>", "deprecated: etcdutl snapshot restore", RESTORE),
    Command::new("version", "", "versions of this program and the API", &[]),
    Command::new("options", "", "flags that every command takes", &[]),
    Command::new("help", "[command]", "help for a command", &[]),
];

/// Words that only group commands.
const GROUPS: &[Command] = &[
    Command::group("auth"),
    Command::group("user"),
    Command::group("role"),
    Command::group("lease"),
    Command::group("member"),
    Command::group("endpoint"),
    Command::group("alarm"),
    Command::group("snapshot"),
    Command::group("downgrade"),
    Command::group("upgrade"),
];
