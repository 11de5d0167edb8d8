//! How the binary ends: who runs it in a gate sees a failure.

use std::process::{Command, Output};

fn sim(words: &[&str]) -> (Option<i32>, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_sim")).args(words).output();
    let Output { status, stdout, .. } = run.expect("it starts");
    (status.code(), String::from_utf8(stdout).expect("text"))
}

#[test]
fn a_failing_seed_fails_the_run_and_prints_its_command() {
    let (code, told) =
        sim(&["--fresh", "--for", "60", "--threads", "all", "--bug", "half-is-enough"]);
    assert_eq!(code, Some(1), "{told}");
    let first = told.lines().find_map(|line| line.strip_prefix("fresh seeds from "));
    let first: u64 = first.and_then(|text| text.parse().ok()).expect("the first seed is printed");
    let line = told.lines().find(|line| line.contains("--bin sim -- --seed "));
    let command = line.unwrap_or_else(|| panic!("no command in {told}"));
    let (_, words) = command.split_once(" -- ").expect("arguments");
    let words: Vec<&str> = words.split_whitespace().collect();
    let seed: u64 = words[1].parse().expect("a seed");
    assert!((first..first + 1000).contains(&seed), "{seed} is fresh");
    let (again, retold) = sim(&words);
    assert_eq!(again, Some(1), "the command fails again: {retold}");
    let story = |text: &str| {
        let told = text.lines().find_map(|line| line.split_once(" good ones: "));
        told.map(|(_, story)| story.to_owned())
    };
    assert_eq!(story(&told), story(&retold), "and tells the same story");
}

#[test]
fn good_seeds_and_wrong_words() {
    assert_eq!(sim(&["--seeds", "0..2"]).0, Some(0));
    assert_eq!(sim(&["--sead", "1"]).0, Some(2));
}
