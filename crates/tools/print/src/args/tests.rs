//! Lines that people type, read by a small table.

use super::*;

const W: Flag = Flag::text("write-out", "simple", "form").letter('w');
const TABLE: &Program = &Program {
    name: "tool",
    about: "a tool",
    commands: &[
        Command::new(
            "get",
            "<key>",
            "read",
            &[Flag::bool("prefix", "all"), Flag::int("limit", "most"), Flag::uint("end", "9", "e")],
        ),
        Command::new("member list", "", "list", &[]),
        Command::new("endpoint health", "", "health", &[]),
        Command::new("endpoint hashkv", "", "hash", &[]),
        Command::new("endpoint status", "", "status", &[]),
        Command::new("watch", "", "watch", &[]),
        Command::new("mend", "", "mend", &[Flag::text("dir", "", "where").required()]),
        Command::new("help", "", "help", &[]),
    ],
    groups: &[Command::group("member"), Command::group("endpoint")],
    global: &[Flag::text("endpoints", "", "where"), W],
};

fn read(line: &str) -> Result<Line, Unreadable> {
    Line::read(TABLE, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

#[test]
fn flags_and_arguments_mix() {
    let line = read("get --prefix a -w json --limit=5").expect("reads");
    assert_eq!((line.command.name, line.args.as_slice()), ("get", &["a".to_owned()][..]));
    assert!(line.is("prefix") && line.text("write-out") == "json" && line.int("limit") == 5);
    assert_eq!(line.uint("end"), 9);
}

#[test]
fn commands_may_be_short_but_not_ambiguous() {
    assert_eq!(read("endp st").expect("reads").command.name, "endpoint status");
    assert_eq!(read("--endpoints a:1 member list").expect("reads").command.name, "member list");
    assert!(read("nonsense").is_err());
    assert_eq!(read("endpoint h").expect("a group").command.name, "endpoint");
    assert!(read("e x").is_ok(), "only one command begins so");
    assert_eq!(
        read("m").err().map(|e| e.message).as_deref(),
        Some("unknown command \"m\" for \"tool\"")
    );
}

#[test]
fn what_follows_the_dashes_is_a_command() {
    let line = read("watch a -- echo --hi").expect("reads");
    assert_eq!(line.after_dashes, Some(vec!["echo".to_owned(), "--hi".to_owned()]));
}

#[test]
fn bad_values_name_the_flag() {
    let error = read("get a --limit x").expect_err("refused").message;
    assert!(error.contains("--limit"), "{error}");
    assert!(read("get a --nope").is_err());
    assert!(read("get a --limit").is_err());
    assert!(read("get a --end=-1").is_err());
}

#[test]
fn what_is_required_is_asked_for() {
    let error = read("mend").expect_err("refused");
    assert_eq!(error.message, "required flag(s) \"dir\" not set");
    assert!(error.usage.contains("--dir"), "{}", error.usage);
    assert!(read("mend -h").expect("help").help);
    assert_eq!(read("mend --dir x").expect("reads").text("dir"), "x");
}
