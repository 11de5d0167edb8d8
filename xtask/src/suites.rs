//! Which tests run before every change, and which take longer.
//!
//! Whatever is not named in [`LONG`] is an everyday test, so that a new one runs without
//! being asked for. One that fails keeps none of the others from being run.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::cargo;

/// Test programs that take minutes: what waits for elections, timeouts and other builds.
const LONG: &[&str] =
    &["disk_full", "etcdctl_members", "failpoints", "holes", "mixed", "repair", "shrunk"];

/// Every test but the long ones, examples in documentation among them.
pub(crate) fn everyday() -> Result<(), String> {
    let all = programs()?;
    let mut args = vec!["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"];
    let short = all.iter().filter(|name| !LONG.contains(&name.as_str()));
    args.extend(short.flat_map(|name| ["--test", name]));
    cargo(&args)?;
    cargo(&["test", "--workspace", "--locked", "--doc"])
}

/// The long ones, those of them that other versions of etcd take part in, and what only a build with failure points has.
pub(crate) fn long() -> Result<(), String> {
    let all = programs()?;
    if let Some(gone) = LONG.iter().find(|name| !all.contains(**name)) {
        return Err(format!("no test program {gone:?}: mend LONG in xtask/src/suites.rs"));
    }
    let mut args = vec!["test", "--workspace", "--locked", "--no-fail-fast"];
    args.extend(LONG.iter().flat_map(|name| ["--test", name]));
    cargo(&args)?;
    for version in ["3.6", "3.7"] {
        beside(version)?;
    }
    cargo(&["test", "--locked", "-p", "mainstay-failpoints", "--features", "on"])
}

/// Clusters that roll, and members that join, with live members of another minor.
fn beside(version: &str) -> Result<(), String> {
    eprintln!("mixed clusters with etcd {version}");
    let status = Command::new("cargo")
        .args(["test", "--workspace", "--locked", "--test", "mixed", "--"])
        .args(["rolling::", "joining::"])
        .env("MAINSTAY_MIXED_WITH", version)
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("mixed clusters with etcd {version} failed"))
    }
}

/// The names of all test programs of the workspace.
fn programs() -> Result<BTreeSet<String>, String> {
    let fail = |why: String| format!("`cargo metadata`: {why}");
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .map_err(|e| fail(e.to_string()))?;
    if !output.status.success() {
        return Err(fail(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let told: Value = serde_json::from_slice(&output.stdout).map_err(|e| fail(e.to_string()))?;
    let each = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let targets = each(&told, "packages").into_iter().flat_map(|package| each(&package, "targets"));
    let tests = targets.filter(|target| each(target, "kind").iter().any(|kind| kind == "test"));
    Ok(tests.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}
