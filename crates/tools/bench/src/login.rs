//! Logins: how many a second, and what puts wait meanwhile.
//!
//! A client puts at a steady rate, open loop, first alone, then while others log in as fast as
//! they are let: with the right password, with wrong ones of users that there are, and of
//! users that there are not. Then a few wrong logins alone tell whether the time says which
//! users there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use mainstay_proto::etcdserverpb as pb;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::compare::Pair;
use crate::figures::{Figures, Turns};
use crate::process;
use crate::report::say;
use crate::servers::{Recipe, Server, remove, version};
use crate::stats::{median, turns};
use crate::wire::{Connection, Endpoint, WireError};

/// Who log in at the same time.
const CLIENTS: usize = 64;
/// Users that there are, besides root.
const USERS: usize = 8;
/// Between two puts.
const PACE: Duration = Duration::from_millis(5);
/// Wrong logins of each kind whose time is looked at: fewer than are suspicious.
const TIMED: usize = 24;
/// A put that waits longer counts as this, in microseconds.
const WAIT_MAX_MICROS: u64 = 600_000_000;
/// Between two phases; what waits from the last one ends meanwhile.
const REST: Duration = Duration::from_secs(3);

const ADD: &str = "/etcdserverpb.Auth/UserAdd";
const GRANT: &str = "/etcdserverpb.Auth/UserGrantRole";
const ENABLE: &str = "/etcdserverpb.Auth/AuthEnable";
const LOGIN: &str = "/etcdserverpb.Auth/Authenticate";
const PUT: &str = "/etcdserverpb.KV/Put";

/// Runs both in turns and prints the table.
pub(crate) async fn login(pair: &Pair, signed: bool) -> Result<(), String> {
    let mut all = Turns::default();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        let mut recipe = pair.recipe(side, None);
        if signed {
            let key = pair.folder.join("login.key");
            std::fs::write(&key, "a secret of the benchmark, and nobody else's")
                .map_err(|e| format!("{}: {e}", key.display()))?;
            let key = key.display();
            recipe.flags.push(format!("--auth-token=jwt,sign-method=HS256,priv-key={key}"));
        }
        all.take(side, one_turn(&recipe, pair.time).await?);
    }
    say(&format!("\nours: {}; theirs: {}", version(&pair.ours)?, version(&pair.theirs)?));
    say(&format!(
        "{CLIENTS} clients log in without a pause for {} s each time, {USERS} users, bcrypt cost \
         10, {} tokens; beside them {} puts/s, open loop. Medians of {} turns.\n",
        pair.time.as_secs(),
        if signed { "signed" } else { "simple" },
        1000 / PACE.as_millis(),
        pair.rounds
    ));
    all.say();
    Ok(())
}

async fn one_turn(recipe: &Recipe<'_>, time: Duration) -> Result<Figures, String> {
    remove(&recipe.data_dir)?;
    let (mut server, _) = Server::start(recipe).await?;
    let mut figures = Figures::default();
    let shown = measure(&server, time, &mut figures).await;
    server.check()?;
    shown.map_err(|e| format!("{}: {e}", recipe.name))?;
    server.kill();
    remove(&recipe.data_dir)?;
    Ok(figures)
}

async fn measure(server: &Server, time: Duration, figures: &mut Figures) -> Result<(), WireError> {
    let healthy = Connection::open(&server.endpoint).await?;
    set_up(&healthy).await?;
    let token = authenticate(&healthy, "root", "right").await?;
    let healthy = healthy.with_token(&token);
    let puts = steady_puts(&healthy, time).await?;
    figures.add(0, "alone: p99 of puts, ms", puts);
    for (place, kind) in [(10, Kind::Right), (20, Kind::Wrong), (30, Kind::Unknown)] {
        tokio::time::sleep(REST).await;
        let before = process::read(server.pid());
        let storm = Storm::begin(&server.endpoint, kind).await?;
        let begun = Instant::now();
        let puts = steady_puts(&healthy, time).await?;
        let [answered, refused] = storm.end().await?;
        let spent = process::read(server.pid()).cpu_ns.saturating_sub(before.cpu_ns);
        let seconds = begun.elapsed().as_secs_f64();
        let name = kind.name();
        figures.add(place, format!("{name}: answered a second"), answered as f64 / seconds);
        figures.add(place + 1, format!("{name}: told to wait, a second"), refused as f64 / seconds);
        figures.add(place + 2, format!("{name}: p99 of puts, ms"), puts);
        figures.add(
            place + 3,
            format!("{name}: CPU of the server, cores"),
            spent as f64 / 1e9 / seconds,
        );
    }
    // Until nobody is suspicious any more.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let (known, unknown) = timed(&server.endpoint).await?;
    figures.add(40, "a wrong password of a user, ms", known);
    figures.add(41, "a wrong password of nobody, ms", unknown);
    figures.add(42, "difference, % of the former", (known - unknown).abs() / known * 100.0);
    Ok(())
}

fn user(n: usize) -> String {
    format!("user{}", n % USERS)
}

async fn set_up(connection: &Connection) -> Result<(), WireError> {
    let names = (0..USERS).map(user).chain(["root".to_owned()]);
    for name in names {
        let add = pb::AuthUserAddRequest { name, password: "right".into(), ..Default::default() };
        let _: pb::AuthUserAddResponse = connection.unary(ADD, &add).await?;
    }
    let grant = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    let _: pb::AuthUserGrantRoleResponse = connection.unary(GRANT, &grant).await?;
    let _: pb::AuthEnableResponse = connection.unary(ENABLE, &pb::AuthEnableRequest {}).await?;
    Ok(())
}

async fn authenticate(
    connection: &Connection,
    name: &str,
    password: &str,
) -> Result<String, WireError> {
    let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
    let answer: pb::AuthenticateResponse = connection.unary(LOGIN, &request).await?;
    Ok(answer.token)
}

/// Puts at the pace, whatever the last one does; the wait that 99 of 100 do not exceed, in
/// milliseconds.
async fn steady_puts(connection: &Connection, time: Duration) -> Result<f64, WireError> {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    while begun.elapsed() < time {
        let meant = begun + PACE * tasks.len() as u32;
        tokio::time::sleep_until(meant).await;
        let connection = connection.clone();
        tasks.push(tokio::spawn(async move {
            let put =
                pb::PutRequest { key: "healthy".into(), value: "v".into(), ..Default::default() };
            let _: pb::PutResponse = connection.unary(PUT, &put).await?;
            Ok::<_, WireError>(meant.elapsed())
        }));
    }
    let waits = Histogram::<u64>::new_with_bounds(1, WAIT_MAX_MICROS, 3);
    let mut waits = waits.expect("legal bounds");
    for task in tasks {
        let wait = task.await.map_err(|e| WireError::Malformed(e.to_string()))??;
        waits.saturating_record(wait.as_micros() as u64);
    }
    Ok(waits.value_at_quantile(0.99) as f64 / 1e3)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Right,
    Wrong,
    Unknown,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Right => "right logins",
            Kind::Wrong => "wrong logins",
            Kind::Unknown => "logins of nobody",
        }
    }

    /// Name and password of a client's turn.
    fn login(self, client: usize, turn: u64) -> (String, String) {
        match self {
            Kind::Right => (user(client), "right".into()),
            Kind::Wrong => (user(client), format!("wrong {client} {turn}")),
            Kind::Unknown => (format!("nobody {client} {turn}"), "right".into()),
        }
    }
}

/// Logins under way.
struct Storm {
    /// Answered with a token or `invalid user ID or password`; told that there are too many.
    counts: Arc<[AtomicU64; 2]>,
    clients: Vec<JoinHandle<Result<(), WireError>>>,
}

impl Storm {
    async fn begin(endpoint: &Endpoint, kind: Kind) -> Result<Storm, WireError> {
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let connection = Connection::open(endpoint).await?;
            let counts = Arc::clone(&counts);
            clients.push(tokio::spawn(async move {
                let mut turn = 0;
                loop {
                    turn += 1;
                    let (name, password) = kind.login(client, turn);
                    let answer = authenticate(&connection, &name, &password).await;
                    counts[outcome(kind, answer)?].fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        Ok(Storm { counts, clients })
    }

    async fn end(self) -> Result<[u64; 2], WireError> {
        for client in self.clients {
            // One that has ended has failed; the others wait for an answer that nobody needs.
            if client.is_finished() {
                client.await.map_err(|e| WireError::Malformed(e.to_string()))??;
            } else {
                client.abort();
            }
        }
        Ok(self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// `INVALID_ARGUMENT` and `RESOURCE_EXHAUSTED`.
const INVALID: &str = "3";
const TOO_MANY: &str = "8";

/// Which count an answer goes to.
fn outcome(kind: Kind, answer: Result<String, WireError>) -> Result<usize, WireError> {
    match answer {
        Ok(_) if kind == Kind::Right => Ok(0),
        Ok(_) => Err(WireError::Malformed("a token for a wrong password".into())),
        Err(WireError::Status { code, .. }) if code == INVALID && kind != Kind::Right => Ok(0),
        Err(WireError::Status { code, .. }) if code == TOO_MANY => Ok(1),
        Err(error) => Err(error),
    }
}

/// Wrong logins one after the other, in turns of a user and of nobody: the medians, in
/// milliseconds.
async fn timed(endpoint: &Endpoint) -> Result<(f64, f64), WireError> {
    let connection = Connection::open(endpoint).await?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for n in 0..TIMED {
        let wrong = format!("wrong, timed {n}");
        for (name, waits) in [("user0", &mut known), ("somebody", &mut unknown)] {
            let begun = Instant::now();
            outcome(Kind::Wrong, authenticate(&connection, name, &wrong).await)?;
            waits.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok((median(known.into_iter()), median(unknown.into_iter())))
}
