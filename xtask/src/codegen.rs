//! Generates the protobuf types and the client stubs from `crates/base/proto/proto`.
//!
//! The output is checked in, so that a build needs no code generator; `--check`
//! regenerates and compares.

use std::fs;
use std::path::{Path, PathBuf};

const PROTO_DIR: &str = "crates/base/proto/proto";
const MESSAGES: &str = "crates/base/proto/src/generated";
const STUBS: &str = "crates/tools/client/src/generated";

const FILES: &[&str] = &[
    "auth.proto",
    "etcdserver.proto",
    "health.proto",
    "kv.proto",
    "lease.proto",
    "mainstay.proto",
    "membership.proto",
    "raft.proto",
    "raft_internal.proto",
    "rpc.proto",
    "snap.proto",
    "v3election.proto",
    "v3lock.proto",
    "wal.proto",
];

/// The files with services that a client calls.
const SERVICES: &[&str] =
    &["health.proto", "mainstay.proto", "rpc.proto", "v3election.proto", "v3lock.proto"];

/// The packages whose services have tables of their messages (`mainstay_proto::shape`).
const SHAPED: &[&str] = &["etcdserverpb", "v3electionpb", "v3lockpb"];

const PACKAGES: &[(&str, &str)] = &[
    (".etcdserverpb", "::mainstay_proto::etcdserverpb"),
    (".mvccpb", "::mainstay_proto::mvccpb"),
    (".authpb", "::mainstay_proto::authpb"),
    (".membershippb", "::mainstay_proto::membershippb"),
    (".v3lockpb", "::mainstay_proto::v3lockpb"),
    (".v3electionpb", "::mainstay_proto::v3electionpb"),
    (".grpc.health.v1", "::mainstay_proto::health"),
    (".mainstaypb", "::mainstay_proto::mainstaypb"),
];

/// Writes the generated files, or with `check` fails when they differ.
pub(crate) fn run(check: bool) -> Result<(), String> {
    let scratch = PathBuf::from("target/codegen");
    for (target, stubs) in [(MESSAGES, false), (STUBS, true)] {
        let out = scratch.join(if stubs { "stubs" } else { "messages" });
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
        generate(&out, stubs)?;
        settle(&out, Path::new(target), check)?;
    }
    Ok(())
}

fn generate(out: &Path, stubs: bool) -> Result<(), String> {
    let sources = if stubs { SERVICES } else { FILES };
    let files = protox::compile(sources, [PROTO_DIR]).map_err(|e| format!("{e:?}"))?;
    let mut config = prost_build::Config::new();
    config.out_dir(out).bytes(["."]).btree_map(["."]);
    if !stubs {
        let shapes = crate::shapes::source(&files, SHAPED)?;
        fs::write(out.join("shapes.rs"), shapes).map_err(|e| e.to_string())?;
        // Comments of the .proto files would otherwise become doc tests.
        config.disable_comments(["."]);
        return config.compile_fds(files).map_err(|e| e.to_string());
    }
    for (proto, rust) in PACKAGES {
        config.extern_path(*proto, *rust);
    }
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(out)
        .compile_fds_with_config(files, config)
        .map_err(|e| e.to_string())
}

fn settle(from: &Path, to: &Path, check: bool) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|e| format!("{}: {e}", to.display()))?;
    let mut names: Vec<_> = fs::read_dir(from)
        .map_err(|e| e.to_string())?
        .filter_map(|entry| entry.ok().map(|e| e.file_name()))
        .collect();
    names.sort();
    for name in names {
        let fresh = fs::read_to_string(from.join(&name)).map_err(|e| e.to_string())?;
        if fresh.lines().all(|l| l.starts_with("//") || l.trim().is_empty()) {
            continue;
        }
        let path = to.join(&name);
        let same = fs::read_to_string(&path).is_ok_and(|old| old == fresh);
        if check && !same {
            return Err(format!("{} is stale: run `cargo xtask codegen`", path.display()));
        }
        if !same {
            fs::write(&path, fresh).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}
