//! Rules about the source that no lint checks, each named so that its failure says what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rings, inner to outer: a crate may only depend on its own ring and those before it.
/// `check` and `tools` stand beside each other at the end.
const RINGS: &[&str] = &["base", "keep", "state", "node", "edge", "tools", "check"];

/// Crates that only the edge and what stands outside it may use.
const EDGE_ONLY: &[&str] = &["tokio", "tonic", "hyper", "hyper-util", "rustls", "tokio-rustls"];

const BANNED_NAMES: &[&str] =
    &["utils", "util", "common", "manager", "helpers", "core", "alloc", "std", "test"];

/// Functions may have this many lines; longer ones are listed below, and the list may only shrink.
const FUNCTION_LINES_MAX: usize = 70;
/// Files may have this many lines.
const FILE_LINES_MAX: usize = 1000;

/// Longer today than they should be: (path suffix, function, lines). Numbers may only fall.
const LONGER_TODAY: &[(&str, &str, usize)] = &[];

/// Runs every rule; the error lists all that fail.
pub(crate) fn run() -> Result<(), String> {
    let mut faults = Vec::new();
    let sources = rust_sources();
    for path in &sources {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        check_source(path, &text, &mut faults);
    }
    check_manifests(&mut faults);
    check_names(&mut faults)?;
    if faults.is_empty() {
        println_line(&format!("tidy: {} source files are in order", sources.len()));
        return Ok(());
    }
    faults.sort();
    Err(format!("tidy found {} faults:\n{}", faults.len(), faults.join("\n")))
}

fn check_source(path: &Path, text: &str, faults: &mut Vec<String>) {
    let shown = path.display();
    if !text.starts_with("//!") {
        faults.push(format!("{shown}: must open with `//!` and say what the file is"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{shown}: {lines} lines; split it by story (cap {FILE_LINES_MAX})"));
    }
    for (name, length) in functions(text) {
        let cap = LONGER_TODAY
            .iter()
            .find(|(file, function, _)| path.ends_with(file) && *function == name)
            .map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines);
        if length > cap {
            faults.push(format!("{shown}: fn {name} has {length} lines (cap {cap})"));
        }
    }
}

/// Every function with its number of lines, found by rustfmt's indentation: a
/// function ends at the first line that is its own indentation and a brace.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = &line[..line.len() - body.len()];
        let Some(name) = function_name(body) else { continue };
        let end = format!("{indent}}}");
        if let Some(length) = lines[at..].iter().position(|l| *l == end) {
            found.push((name.to_owned(), length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line;
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    // A declaration or a one-liner has no body to measure.
    if line.ends_with(';') || line.ends_with('}') {
        return None;
    }
    rest.split(['(', '<']).next()
}

fn check_manifests(faults: &mut Vec<String>) {
    for (ring_at, ring) in RINGS.iter().enumerate() {
        for manifest in manifests(ring) {
            let Ok(text) = fs::read_to_string(&manifest) else { continue };
            let shown = manifest.display();
            let wanted = format!("[package.metadata.ring]\nname = \"{ring}\"");
            if !text.contains(&wanted) {
                faults.push(format!("{shown}: must say its ring: {wanted:?}"));
            }
            for name in dependencies(&text) {
                check_dependency(&shown.to_string(), ring_at, &name, faults);
            }
        }
    }
}

fn check_dependency(shown: &str, ring_at: usize, name: &str, faults: &mut Vec<String>) {
    if ring_at < 4 && EDGE_ONLY.contains(&name) {
        faults.push(format!("{shown}: {name} is for the edge and outside it"));
    }
    let Some(ours) = name.strip_prefix("mainstay-") else { return };
    let Some(theirs) = RINGS.iter().position(|r| Path::new("crates").join(r).join(ours).is_dir())
    else {
        faults.push(format!("{shown}: {name} lies in no ring"));
        return;
    };
    if theirs > ring_at {
        faults.push(format!("{shown}: dependencies point down, {name} lies above"));
    }
}

/// The names under `[dependencies]`; test dependencies may point anywhere.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside
            && let Some(name) = line.split(['.', '=', ' ']).next()
            && !name.is_empty()
            && !name.starts_with('#')
        {
            names.push(name.to_owned());
        }
    }
    names
}

fn check_names(faults: &mut Vec<String>) -> Result<(), String> {
    let listed = Command::new("git").args(["ls-files"]).output().map_err(|e| e.to_string())?;
    for path in String::from_utf8_lossy(&listed.stdout).lines() {
        let stem = Path::new(path).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let in_crate = path.starts_with("crates/") && path.ends_with(".rs");
        if in_crate && BANNED_NAMES.contains(&stem) {
            faults.push(format!("{path}: name the noun, not {stem:?}"));
        }
    }
    Ok(())
}

fn manifests(ring: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(Path::new("crates").join(ring)) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path().join("Cargo.toml"))).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found
}

fn rust_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("crates"), PathBuf::from("xtask"), PathBuf::from("fuzz")];
    while let Some(dir) = todo.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_dir() && name != "generated" && name != "target" {
                todo.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn println_line(line: &str) {
    use std::io::Write as _;
    // A closed standard output is no reason to fail a gate.
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured() {
        let text =
            "fn a() {\n    x();\n}\n\nimpl T {\n    pub fn b(&self) -> u8 {\n        1\n    }\n}\n";
        assert_eq!(functions(text), vec![("a".into(), 3), ("b".into(), 3)]);
    }

    #[test]
    fn dependencies_stop_at_the_next_table() {
        let text = "[dependencies]\nbytes.workspace = true\ntokio = { workspace = true }\n\n[dev-dependencies]\nproptest.workspace = true\n";
        assert_eq!(dependencies(text), vec!["bytes", "tokio"]);
    }

    #[test]
    fn a_dependency_that_points_up_is_a_fault() {
        // Tests run in xtask's folder; the rule looks at crates/ from the root.
        std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).expect("the root");
        let mut faults = Vec::new();
        check_dependency("base/types", 0, "mainstay-server", &mut faults);
        check_dependency("state/mvcc", 2, "tokio", &mut faults);
        check_dependency("edge/server", 4, "mainstay-types", &mut faults);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
