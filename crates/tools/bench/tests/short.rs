//! Short runs of the built program against our member, and against the real one.

mod servers;

use std::path::Path;
use std::process::{Command, Output};

use servers::{Folder, our_etcd, real_etcd};

/// One row of every kind of load, and every kind of loop.
const ROWS: &str = "put@1,put@200/s,range@8,range-serializable@2,txn@4,page500@2,page500-pinned@2,\
    count@2,keepalive@8,watch20s4@50/s,watch20s1@2,watchkeys20s2@50/s";

fn bench(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(args).output();
    output.expect("the built program starts")
}

/// The program's lines, when it ended well.
fn lines(output: &Output) -> Vec<String> {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{out}\n{err}");
    out.lines().map(str::to_owned).collect()
}

/// The cells of each line of the tables, without their heads.
fn table(lines: &[String]) -> Vec<Vec<String>> {
    let cells = |line: &String| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let is_row = |line: &&String| line.starts_with("| ") && !line.contains("---");
    let heads = ["row", "figure"];
    lines.iter().filter(is_row).map(cells).filter(|c| !heads.contains(&c[0].as_str())).collect()
}

fn compare(theirs: &Path, transport: &str, rows: &str) -> Vec<Vec<String>> {
    let folder = Folder::new("bench");
    let ours = our_etcd();
    let output = bench(&[
        "compare",
        "--ours",
        &ours.display().to_string(),
        "--theirs",
        &theirs.display().to_string(),
        "--dir",
        &folder.path().display().to_string(),
        transport,
        "--rows",
        rows,
        "--rounds",
        "1",
        "--seconds",
        "0.2",
        "--warm-up",
        "0.05",
        "--keys",
        "500",
        "--value",
        "64",
    ]);
    table(&lines(&output))
}

/// A positive figure on both sides of `a / b`.
fn both_positive(cell: &str) -> bool {
    cell.split(" / ").filter(|side| side.parse::<f64>().is_ok_and(|n| n > 0.0)).count() == 2
}

#[test]
fn every_row_runs_against_our_member() {
    let rows = compare(&our_etcd(), "--plain", ROWS);
    assert_eq!(rows.len(), ROWS.split(',').count(), "{rows:?}");
    for row in rows {
        assert_eq!(row.last().map(String::as_str), Some("0 / 0"), "errors: {row:?}");
        assert!(both_positive(&row[1]), "CPU: {row:?}");
        assert!(both_positive(&row[5]), "p99: {row:?}");
        assert!(both_positive(&row[10]), "RSS: {row:?}");
    }
}

#[test]
fn rows_run_over_mutual_tls() {
    let rows = compare(&our_etcd(), "--tls", "put@4,range@200/s,watch20s4@50/s");
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(rows.iter().all(|row| row.last().is_some_and(|errors| errors == "0 / 0")), "{rows:?}");
}

#[test]
fn rows_run_against_the_real_etcd() {
    let Some(real) = real_etcd() else { return };
    let rows = compare(&real, "--tls", "put@4,txn@2,page500-pinned@1,watch20s4@50/s,keepalive@2");
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert!(rows.iter().all(|row| row.last().is_some_and(|errors| errors == "0 / 0")), "{rows:?}");
}

#[test]
fn the_big_run_loads_kills_hashes_and_reads() {
    let folder = Folder::new("bench-big");
    let ours = our_etcd().display().to_string();
    let folder = folder.path().display().to_string();
    let output = bench(&[
        "big",
        "--ours",
        &ours,
        "--theirs",
        &ours,
        "--dir",
        &folder,
        "--plain",
        "--keys",
        "3000",
        "--seconds",
        "0.2",
        "--warm-up",
        "0.05",
    ]);
    let figures = table(&lines(&output));
    for name in [
        "RssAnon after loading, MB",
        "ready after a kill, s",
        "RSS after restart and HashKV, MB",
        "longest wait of a read during HashKV, ms",
        "pinned page of 500 under writes, CPU us",
        "count, CPU us",
    ] {
        let row = figures.iter().find(|row| row[0] == name);
        let row = row.unwrap_or_else(|| panic!("{name} is missing: {figures:?}"));
        assert!(row[1].parse::<f64>().is_ok_and(|n| n > 0.0), "{row:?}");
    }
}

#[test]
fn refuses_what_it_does_not_know() {
    for args in [
        &["compare", "--dir", "x", "--ours", "a", "--theirs", "b", "--rowz", "put@1"][..],
        &["run", "--target", "127.0.0.1:1", "--rows", "put"],
        &["dance"],
    ] {
        let output = bench(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(output.stderr.starts_with(b"bench: "), "{args:?}");
    }
}
