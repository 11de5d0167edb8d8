//! The project's gates and generators.
//!
//! `verify` only looks, `test` runs, `fix` edits; CI runs the same `verify` and `test`.

mod codegen;
mod shapes;
mod suites;
mod tidy;

use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask COMMAND
  verify            every read-only gate: formatting, lints, tidy, generated code
  test              the everyday tests: all but those that take minutes each
  test --long       the others
  fix               format and regenerate
  tidy              rules about the source that no lint checks
  codegen [--check] protobuf types from the .proto files";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["codegen"] => codegen::run(false),
        ["codegen", "--check"] => codegen::run(true),
        ["tidy"] => tidy::run(),
        ["verify"] => verify(),
        ["test"] => suites::everyday(),
        ["test", "--long"] => suites::long(),
        ["fix"] => codegen::run(false).and_then(|()| cargo(&["fmt", "--all"])),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn verify() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    codegen::run(true)?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

fn cargo(args: &[&str]) -> Result<(), String> {
    let status = Command::new("cargo").args(args).status().map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {}` failed", args.join(" "))) }
}
