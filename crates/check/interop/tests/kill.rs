//! A member that is killed under load, over and over: what it had acknowledged is
//! there, what it had not is there as a whole or not at all, and nothing else.

use mainstay_interop::{Folder, Kind, Lives, Start};

/// Kills in the gate; `cargo run -p mainstay-interop --bin kill` does more.
const KILLS: usize = 20;

#[test]
fn what_was_acknowledged_outlives_kills() {
    let folder = Folder::new("kill");
    let start = Start::new(Kind::Ours, &folder.path().join("m.etcd")).flag("--snapshot-count=200");
    let mut lives = Lives::new(1, start);
    for kill in 0..KILLS {
        lives.live(1 + kill * 37).unwrap_or_else(|why| panic!("kill {kill}: {why}"));
    }
    lives.end().unwrap_or_else(|why| panic!("at the end: {why}"));
    eprintln!("{:?}", lives.figures());
    assert!(lives.figures().acknowledged > KILLS, "nothing was proved");
}

#[test]
fn the_judge_itself_holds_on_the_real_etcd() {
    let folder = Folder::new("kill-real");
    let start = Start::new(Kind::Real, &folder.path().join("m.etcd")).flag("--snapshot-count=200");
    if start.command().is_none() {
        return;
    }
    let mut lives = Lives::new(2, start);
    for kill in 0..3 {
        lives.live(300).unwrap_or_else(|why| panic!("kill {kill}: {why}"));
    }
    lives.end().unwrap_or_else(|why| panic!("at the end: {why}"));
    eprintln!("{:?}", lives.figures());
}
