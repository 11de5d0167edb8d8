//! Where a member listens, and what answers there.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value as Json;

use super::http::{Pki, ask, get};
use super::peers::real_etcd;
use super::program::{Folder, Program, anywhere, ours, outcome};

#[test]
fn the_peer_listener_says_who_is_there() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder));
    let member = Program::start(command);
    let client = member.client_url();
    let peer = member.serving("listen-peer-urls").remove(0);
    let json = |url: &str, path: &str| -> Json {
        let (status, body) = get(url, path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"))
    };
    let version = json(&peer, "/version");
    assert_eq!(version["etcdserver"], "3.7.1");
    assert_eq!(version, json(&client, "/version"));
    let members = json(&peer, "/members");
    let id = member.wait_line("now serving")["local-member-id"].as_str().map(str::to_owned);
    let shown = members[0]["id"].as_u64().map(|id| format!("{id:x}"));
    assert_eq!((members.as_array().map(Vec::len), shown), (Some(1), id));
    assert_eq!(members[0]["name"], "m1");
    assert_eq!(members[0]["peerURLs"][0], "http://localhost:2380");
    assert_eq!(members[0]["clientURLs"][0], "http://127.0.0.1:0");
    let probing = json(&peer, "/raft/probing");
    assert_eq!(probing["OK"], true);
    assert!(probing["Now"].as_str().is_some_and(|now| now.ends_with('Z')), "{probing}");
    // What is not for peers is not there, and other methods are not allowed.
    for path in ["/health", "/metrics", "/readyz", "/v3/kv/range", "/"] {
        assert_eq!(get(&peer, path), (404, "404 page not found\n".to_owned()), "{path}");
    }
    assert_eq!(ask(&peer, "POST", "/members", None).expect("an answer").0, 405);
    member.stop();
}

#[test]
fn one_client_port_answers_everything() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder)).arg("--listen-metrics-urls=http://127.0.0.1:0");
    let member = Program::start(command);
    let client = member.client_url();
    let metrics = member.serving("listen-metrics-urls").remove(0);
    for url in [&client, &metrics] {
        let (status, body) = get(url, "/metrics");
        assert!(status == 200 && body.contains("etcd_server_has_leader 1"), "{url}: {body}");
        for (path, wanted) in [
            ("/health", r#"{"health":"true","reason":""}"#),
            ("/health?serializable=true", r#"{"health":"true","reason":""}"#),
            ("/health?exclude=NOSPACE&serializable=true", r#"{"health":"true","reason":""}"#),
            ("/livez", "ok\n"),
            ("/livez?verbose", "[+]serializable_read ok\nok\n"),
            ("/livez/serializable_read", "ok\n"),
            ("/readyz", "ok\n"),
            ("/readyz?exclude=data_corruption", "ok\n"),
            ("/readyz/linearizable_read", "ok\n"),
        ] {
            assert_eq!(get(url, path), (200, wanted.to_owned()), "{url}{path}");
        }
        let verbose = get(url, "/readyz?verbose&exclude=non_learner").1;
        for check in ["data_corruption", "serializable_read", "linearizable_read"] {
            assert!(verbose.contains(&format!("[+]{check} ok\n")), "{verbose}");
        }
        assert!(!verbose.contains("non_learner") && verbose.ends_with("\nok\n"), "{verbose}");
    }
    assert_eq!(get(&client, "/version").0, 200);
    assert_eq!(get(&metrics, "/version").0, 404);
    member.stop();
}

/// `--listen-client-http-urls` takes the HTTP endpoints away from the gRPC listener.
#[test]
fn http_may_have_listeners_of_its_own() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder)).arg("--listen-client-http-urls=http://127.0.0.1:0");
    let member = Program::start(command);
    let grpc = member.client_url();
    let http = member.serving("listen-client-http-urls").remove(0);
    assert_eq!(get(&http, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&http, "/version").0, 200);
    let answer = ask(&grpc, "GET", "/version", None);
    assert!(answer.as_ref().map_or(true, |(status, _)| *status == 404), "{answer:?}");
    member.stop();
}

/// Checked by a browser's headers; a name that is not ours is DNS rebinding.
#[test]
fn hosts_and_origins_are_held_against_their_lists() {
    for (flags, path, host, origin, wanted) in [
        (vec![], "/health", "evil.example", None, (200, Some("*"))),
        (vec!["--host-whitelist=a.example"], "/health", "a.example:2379", None, (200, Some("*"))),
        (vec!["--host-whitelist=a.example"], "/health", "evil.example", None, (421, None)),
        (vec!["--host-whitelist="], "/health", "127.0.0.1", None, (421, None)),
        (vec!["--cors=http://a:1"], "/version", "a", Some("http://a:1"), (200, Some("http://a:1"))),
        (vec!["--cors=http://a:1"], "/version", "a", Some("http://b:1"), (200, None)),
    ] {
        let folder = Folder::new();
        let mut command = ours();
        command.args(anywhere(&folder)).args(&flags);
        let member = Program::start(command);
        let mut headers = vec![("Host", host)];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        let answer = super::http::with_headers(&member.client_url(), path, &headers);
        let answer = answer.to_ascii_lowercase();
        assert!(answer.starts_with(&format!("http/1.1 {} ", wanted.0)), "{flags:?}: {answer}");
        let allowed =
            answer.lines().find_map(|line| line.strip_prefix("access-control-allow-origin: "));
        assert_eq!(allowed, wanted.1, "{flags:?} {host} {origin:?}: {answer}");
        member.stop();
    }
}

/// `--metrics=extensive` adds the histogram, for every method from the start, as etcd does.
#[test]
fn extensive_metrics_time_the_calls() {
    for (flag, shown) in [("--metrics=basic", false), ("--metrics=extensive", true)] {
        let folder = Folder::new();
        let mut command = ours();
        command.args(anywhere(&folder)).arg(flag);
        let member = Program::start(command);
        let (_, text) = get(&member.client_url(), "/metrics");
        for line in [
            "# TYPE grpc_server_handling_seconds histogram",
            "grpc_server_handling_seconds_bucket{grpc_method=\"Range\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\",le=\"0.005\"} 0",
            "grpc_server_handling_seconds_count{grpc_method=\"Watch\",\
             grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"} 0",
        ] {
            assert_eq!(text.lines().any(|other| other == line), shown, "{flag}: {line}");
        }
        member.stop();
    }
}

/// Whatever `/etc/hosts` lists first: clients of a bare start go to 127.0.0.1. And a member that
/// listens everywhere does so for both families, as with Go.
#[test]
fn localhost_is_ipv4_and_everywhere_is_both() {
    let folder = Folder::new();
    let hosts = folder.write("hosts", "::1 localhost\n127.0.0.1 localhost\n");
    let listen = |url: &str| {
        let mut flags = anywhere(&folder);
        flags.push(format!("--listen-client-urls={url}"));
        flags
    };
    let script = format!("mount --bind {hosts} /etc/hosts && exec \"$0\" \"$@\"");
    let own_hosts = ["-rm", "sh", "-c", &script];
    let allowed = std::process::Command::new("unshare").args(own_hosts).arg("true").output();
    if allowed.is_ok_and(|out| out.status.success()) {
        let mut command = std::process::Command::new("unshare");
        command.args(own_hosts).arg(env!("CARGO_BIN_EXE_etcd")).args(listen("http://localhost:0"));
        let member = Program::start(command);
        let url = member.client_url();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        member.stop();
    } else {
        eprintln!("\n*** DID NOT RUN: this machine makes no namespaces\n");
    }
    let mut command = ours();
    command.args(listen("http://0.0.0.0:0"));
    let member = Program::start(command);
    let url = member.client_url();
    let port = url.rsplit_once(':').expect("a port").1;
    assert_eq!(get(&format!("http://127.0.0.1:{port}"), "/livez").0, 200);
    if TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(get(&format!("http://[::1]:{port}"), "/livez").0, 200);
    }
    member.stop();
}

#[test]
fn unix_sockets_serve_clients_and_metrics() {
    let folder = Folder::new();
    let socket = format!("unix://{}", folder.at("clients"));
    let metrics = format!("unix://{}", folder.at("metrics"));
    let start = || {
        let mut command = ours();
        command.arg("--name=m1").arg(format!("--data-dir={}", folder.at("data"))).args([
            format!("--listen-client-urls={socket},http://127.0.0.1:0"),
            format!("--advertise-client-urls={socket}"),
            format!("--listen-metrics-urls={metrics}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        ]);
        command
    };
    let member = Program::start(start());
    let clients = member.serving("listen-client-urls");
    assert_eq!(clients.len(), 2);
    for url in clients.iter().chain([&metrics]) {
        assert_eq!(get(url, "/livez"), (200, "ok\n".to_owned()), "{url}");
    }
    // A second start there takes the first one's socket neither away nor over.
    let (code, _, stderr) = outcome(start());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("bind: address already in use"), "{stderr}");
    assert_eq!(get(&socket, "/livez").0, 200);
    // What a killed member leaves behind is in nobody's way.
    member.signal(rustix::process::Signal::KILL);
    member.end();
    assert!(Path::new(&folder.at("clients")).exists());
    let member = Program::start(start());
    member.client_url();
    assert_eq!(get(&socket, "/livez").0, 200);
    member.stop();
}

#[test]
fn http_and_https_share_a_port() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    // Both have to name the port, so one is chosen first.
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("bound").port()
    };
    let (plain, secure) = (format!("http://127.0.0.1:{port}"), format!("https://127.0.0.1:{port}"));
    let mut command = ours();
    command.arg("--name=m1").arg(format!("--data-dir={}", folder.at("data"))).args([
        format!("--listen-client-urls={plain},{secure}"),
        format!("--advertise-client-urls={plain},{secure}"),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        format!("--cert-file={}", pki.at("server.crt")),
        format!("--key-file={}", pki.at("server.key")),
    ]);
    let member = Program::start(command);
    member.wait_line("ignoring key and cert files for client url");
    member.client_url();
    let ok = (200, r#"{"health":"true","reason":""}"#.to_owned());
    assert_eq!(get(&plain, "/health"), ok);
    assert_eq!(ask(&secure, "GET", "/health", Some(&pki.trust(None))).expect("an answer"), ok);
    member.stop();
}

/// As in etcd, in Go's words, and before a directory is made: the next start may say otherwise
/// who it is.
#[test]
fn an_address_in_use_stops_the_start_before_it_founds_anything() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (address, taken)).expect("bound");
    let wanted = format!("listen tcp {}: bind: address already in use", taken.0);
    let flags = |folder: &Folder, which: &str| {
        let mut flags = anywhere(folder);
        flags.push(format!("--listen-{which}-urls=http://{}", taken.0));
        flags
    };
    for which in ["client", "peer", "metrics"] {
        let folder = Folder::new();
        let mut command = ours();
        command.args(flags(&folder, which));
        let (code, _, stderr) = outcome(command);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&wanted), "{stderr}");
        assert!(!Path::new(&folder.at("data")).exists());
    }
    let Some(real) = real_etcd() else { return };
    for which in ["client", "peer"] {
        let folder = Folder::new();
        let mut command = std::process::Command::new(&real);
        command.env_clear().args(flags(&folder, which));
        let (code, _, stderr) = outcome(command);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&wanted), "{stderr}");
        assert!(!Path::new(&folder.at("data")).exists());
    }
}

#[test]
fn an_encrypted_listener_needs_its_certificate() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    let data = format!("--data-dir={}", folder.at("data"));
    let missing = format!("--cert-file={}", folder.at("no.crt"));
    let pair = [pki.at("server.crt"), pki.at("peer.key")];
    let crossed = [format!("--cert-file={}", pair[0]), format!("--key-file={}", pair[1])];
    let https = ["--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://a:1"];
    let cases: [(Vec<&str>, &str); 5] = [
        (
            https.to_vec(),
            "TLS key/cert (--cert-file, --key-file) must be provided for client url \
             https://127.0.0.1:0 with HTTPS scheme",
        ),
        (
            vec!["--listen-peer-urls=https://127.0.0.1:0"],
            "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url",
        ),
        (
            vec!["--listen-metrics-urls=https://127.0.0.1:0"],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        ([https.to_vec(), vec![&missing, &crossed[1]]].concat(), "no.crt"),
        ([https.to_vec(), crossed.iter().map(String::as_str).collect()].concat(), "server.crt"),
    ];
    for (args, gist) in cases {
        let mut command = ours();
        command.arg(&data).args(args);
        let (code, _, stderr) = outcome(command);
        assert!(code == 1 && stderr.contains(gist), "{code}: no {gist} in {stderr}");
        assert!(!Path::new(&folder.at("data")).exists());
    }
}
