//! Lines as readers of logs see them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(level: LevelFilter, format: Format, act: impl FnOnce()) -> String {
    let page = Page::default();
    let logger = Logger::into_writer(level, format, Box::new(page.clone()));
    tracing::subscriber::with_default(logger, act);
    let bytes = page.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// server-flags.md: zap's sampling, 100 and then every 100th, each second.
#[test]
fn lines_that_repeat_are_left_out() {
    let text = written(LevelFilter::INFO, Format::Json, || {
        for n in 0..1000 {
            tracing::warn!(n, "rejected connection on client endpoint");
        }
        tracing::warn!("another");
    });
    let lines = text.lines().filter(|line| line.contains("rejected")).count();
    // It may lie across two seconds.
    assert!((109..=218).contains(&lines), "{lines}");
    assert!(text.contains("another"));
}

/// faults.md 8: one object per line with level, ts, caller and msg, in zap's order.
#[test]
fn a_line_is_what_zap_writes() {
    let line = written(LevelFilter::INFO, Format::Json, || {
        tracing::info!(
            "snapshot-catchup-entries" = 5000_u64,
            "pre-vote" = true,
            ratio = 0.5,
            delta = -3,
            name = "m \"1\"\n",
            "listen-client-urls.json" = %json_strings(["http://a:1", "http://b:2"]),
            "starting {}", "now"
        );
    });
    let (head, tail) = line.split_once("\"caller\":").unwrap();
    assert!(head.starts_with("{\"level\":\"info\",\"ts\":\"2"), "{head}");
    assert_eq!(head.len(), "{\"level\":\"info\",\"ts\":\"2006-01-02T15:04:05.000000Z\",".len());
    let (caller, tail) = tail.split_once(',').unwrap();
    assert!(caller.starts_with("\"log/tests.rs:"), "{caller}");
    assert_eq!(
        tail,
        "\"msg\":\"starting now\",\"snapshot-catchup-entries\":5000,\"pre-vote\":true,\
         \"ratio\":0.5,\"delta\":-3,\"name\":\"m \\\"1\\\"\\n\",\
         \"listen-client-urls\":[\"http://a:1\",\"http://b:2\"]}\n"
    );
    serde_json::from_str::<serde_json::Value>(&line).unwrap();
}

#[test]
fn lesser_lines_are_dropped() {
    let say_all = || {
        tracing::debug!("d");
        tracing::info!("i");
        tracing::warn!("w");
        tracing::error!("e");
    };
    for (name, lines) in [("debug", 4), ("info", 3), ("warn", 2), ("error", 1), ("fatal", 0)] {
        let text = written(level_named(name).unwrap(), Format::Json, say_all);
        assert_eq!(text.lines().count(), lines, "{name}");
    }
    assert_eq!(level_named("loud"), None);
}

#[test]
fn console_lines_have_tabs_and_stay_single() {
    let line = written(LevelFilter::INFO, Format::Console, || tracing::warn!(n = 1, "a\nb"));
    let parts: Vec<&str> = line.split('\t').collect();
    assert_eq!(parts[1], "warn");
    assert_eq!(&parts[3..], ["a\\nb", "{\"n\":1}\n"]);
}

#[test]
fn a_value_may_log_while_it_is_formatted() {
    struct Loud;
    impl std::fmt::Display for Loud {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            tracing::info!("inner");
            f.write_str("loud")
        }
    }
    let text = written(LevelFilter::INFO, Format::Json, || tracing::info!(v = %Loud, "outer"));
    assert!(text.lines().any(|line| line.contains("\"msg\":\"outer\",\"v\":\"loud\"")), "{text}");
}

#[test]
fn full_files_are_put_aside_and_old_ones_go() {
    let dir = std::env::temp_dir().join(format!("mainstay-log-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("etcd.log");
    std::fs::write(dir.join("etcd-notes.log"), "not ours").unwrap();
    let rotation = Rotation { bytes_max: 10, backups_max: 2, days_max: 0 };
    let mut sink = sink::Sink::open(&Output::File(path.clone()), Some(rotation)).unwrap();
    for n in 0..5 {
        sink.write(format!("line {n}\n").as_bytes(), 1_000_000).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 4\n");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "etcd-1970-01-01T00-00-01.002.log",
        "etcd-1970-01-01T00-00-01.003.log",
        "etcd-notes.log",
        "etcd.log",
    ];
    assert_eq!(names, expected);
    std::fs::remove_dir_all(&dir).unwrap();
}

proptest::proptest! {
    /// Whatever a client sends, a line stays one line and JSON that reads back.
    #[test]
    fn any_text_survives(text in ".*") {
        let line = written(LevelFilter::INFO, Format::Json, || tracing::info!(key = %text, "m"));
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["key"].as_str(), Some(text.as_str()));
    }
}
