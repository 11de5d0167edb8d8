//! The arithmetic of a window, and what an open loop counts when a server stalls.

use bytes::Bytes;
use tokio::net::TcpListener;

use super::*;

#[test]
fn counts_what_lies_in_the_window() {
    let window = Window::new(Duration::from_secs(1), Duration::from_secs(2));
    let at = |ms| window.begin - Duration::from_secs(1) + Duration::from_millis(ms);
    window.count(at(0), at(900)); // warm-up
    window.count(at(900), at(1100)); // began before: no latency, but an answer
    for ms in 0..98 {
        window.count(at(1000 + ms), at(1010 + ms));
    }
    window.count(at(2000), at(2100));
    window.count(at(2900), at(3400)); // ended after: a latency, but no answer
    window.count(at(3100), at(3200)); // after
    window.fail(3, "no");
    let shown = window.shown(&[Counters::default(); 2]);
    assert_eq!(shown.per_second, 50.0);
    let near = |a: f64, b: f64| (a - b).abs() <= b / 500.0;
    assert!(near(shown.p50_ms, 10.0), "{}", shown.p50_ms);
    assert!(near(shown.p99_ms, 100.0), "{}", shown.p99_ms);
    assert!(near(shown.p999_ms, 500.0), "{}", shown.p999_ms);
    assert!(near(shown.max_ms, 500.0), "{}", shown.max_ms);
    assert_eq!((shown.errors, shown.last_error.as_str()), (3, "no"));
}

#[test]
fn divides_cpu_by_operations() {
    let window = Window::new(Duration::ZERO, Duration::from_secs(1));
    for _ in 0..10 {
        window.count(window.begin, window.begin + Duration::from_millis(1));
    }
    let mut after = Counters::default();
    after.server.cpu_ns = 500_000;
    after.client.cpu_ns = 20_000;
    after.server.written = 3_000_000;
    let shown = window.shown(&[Counters::default(), after]);
    assert_eq!((shown.cpu_us, shown.client_cpu_us, shown.written_mb), (50.0, 2.0, 3.0));
}

/// Answers every request well, but none before `from`.
async fn stalling_server(listener: TcpListener, from: Instant) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(socket).await.expect("a client of ours");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    tokio::time::sleep_until(from).await;
                    let response = http::Response::new(());
                    let mut body = respond.send_response(response, false).expect("open");
                    body.send_data(Bytes::from_static(&[0; 5]), false).expect("open");
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    body.send_trailers(trailers).expect("open");
                });
            }
        });
    }
}

/// A closed loop would see one slow answer; the requests that should have left
/// meanwhile waited too, also those for which no client was free.
#[tokio::test]
async fn an_open_loop_counts_from_the_intended_start() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint =
        Endpoint { address: listener.local_addr().expect("bound").to_string(), tls: None };
    let window = Window::new(Duration::ZERO, Duration::from_millis(500));
    let stalled = Duration::from_millis(400);
    tokio::spawn(stalling_server(listener, window.begin + stalled));
    let plan = Plan {
        row: Row { kind: Kind::Put, loop_: Loop::Open(2000.0) },
        space: Space { keys: 10, value_bytes: 8, pinned: 0 },
        warm_up: Duration::ZERO,
        time: Duration::from_millis(500),
    };
    let target = Target { endpoints: vec![endpoint], pids: vec![std::process::id()] };
    let load = Load::start(&target, &plan, &window).await.expect("it listens");
    let counters = window.watch(&target).await;
    load.wait().await;
    let shown = window.shown(&counters);
    assert_eq!((shown.errors, shown.last_error.as_str()), (0, ""));
    let counted = window.tally.lock().expect("nobody panicked").latency.len();
    // The pace begins when all connections stand, a little after the window.
    assert!((400..=1001).contains(&counted), "{counted} of 1000");
    assert!(shown.p50_ms >= 100.0, "half of them waited longer: {shown:?}");
    assert!(shown.max_ms >= 200.0, "the first waited for the stall's end: {shown:?}");
}
