//! The HTTP face of the failure points (etcd's gofail): `GOFAIL_FAILPOINTS` sets points at the
//! start, and the address in `GOFAIL_HTTP` serves them. Only in builds for chaos tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use mainstay_failpoints::{self as points, FailPointError};

/// Terms are short; more is not read.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads the environment, sets what it names and serves the address that it names.
///
/// # Errors
/// No such point or terms, or the address cannot be listened on.
pub(crate) fn start() -> io::Result<()> {
    if let Ok(text) = std::env::var("GOFAIL_FAILPOINTS") {
        points::parse_many(&text).map_err(io::Error::other)?;
    }
    if let Ok(address) = std::env::var("GOFAIL_HTTP") {
        let listener = TcpListener::bind(&address)?;
        std::thread::Builder::new().name("failpoints".into()).spawn(move || {
            for socket in listener.incoming().flatten() {
                // Whoever goes away gets no answer; the next one does.
                let _ = serve(socket);
            }
        })?;
    }
    Ok(())
}

fn serve(mut socket: TcpStream) -> io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or(("", ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("expect") {
            socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
    }
    let mut body = String::new();
    reader.take(u64::min(length, BODY_BYTES_MAX)).read_to_string(&mut body)?;
    // A point that ends the process waits until the answer has left.
    let _guard = points::quiet();
    let (status, text) = answer(&method, &target, &body);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(text.as_bytes())?;
    socket.flush()
}

/// Status line and body, as gofail's runtime answers.
fn answer(method: &str, target: &str, body: &str) -> (&'static str, String) {
    const OK: &str = "200 OK";
    const DONE: &str = "204 No Content";
    const BAD: &str = "400 Bad Request";
    const MISSING: &str = "404 Not Found";
    let Some(name) = target.strip_prefix('/') else {
        return (BAD, "malformed request URI\n".into());
    };
    let done = |result: Result<(), FailPointError>, what: &str| match result {
        Ok(()) => (DONE, String::new()),
        Err(error) => (BAD, format!("{what}{error}\n")),
    };
    match (method, name.strip_suffix("/count")) {
        ("PUT", _) if name.eq_ignore_ascii_case("failpoints") => {
            done(points::parse_many(body), "fail to set failpoint: ")
        }
        ("PUT", _) => done(points::set(name, body), "fail to set failpoint: "),
        ("DELETE", _) => done(points::clear(name), "failed to delete failpoint "),
        ("GET", None) if name.is_empty() => {
            let lines = points::list().into_iter().map(|(name, terms)| format!("{name}={terms}\n"));
            (OK, lines.collect())
        }
        ("GET", Some(name)) => match points::count(name) {
            Ok(count) => (OK, count.to_string()),
            Err(error) => (MISSING, format!("failed to GET: {error}\n")),
        },
        ("GET", None) => match points::terms(name) {
            Ok(terms) => (OK, format!("{terms}\n")),
            Err(error) => (MISSING, format!("failed to GET: {error}\n")),
        },
        _ => ("405 Method Not Allowed", "Method not allowed\n".into()),
    }
}
