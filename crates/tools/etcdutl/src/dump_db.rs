//! `dump-db`: what `etcd-dump-db` prints.

use std::path::{Path, PathBuf};

use mainstay_backend::{Bucket, decode_revision, hash, meta};
use mainstay_print::args::Line;
use mainstay_print::quote::quote;
use mainstay_proto::{Message as _, authpb, leasepb, mvccpb};

use crate::pages::{BucketValue, LEAF, Node, Pages};
use crate::place::{lock_db, must_exist, open_db, plain};
use crate::wire;
use crate::{Failure, Run};

/// The file that an argument means: itself when it ends in `db`, else that of a data directory.
fn db_of(run: &Run<'_>, argument: &str) -> Result<PathBuf, Failure> {
    let path = match argument.ends_with("db") {
        true => PathBuf::from(argument),
        false => Path::new(argument).join("member").join("snap").join("db"),
    };
    must_exist(run, &path).map_err(|failure| {
        let file = quote(path.to_string_lossy().as_bytes());
        match failure.message.ends_with("no such file or directory") {
            true => Failure::error(format!("{file} does not exist")),
            false => failure,
        }
    })?;
    Ok(path)
}

fn arguments(line: &Line, wanted: usize) -> Result<&[String], Failure> {
    if line.args.len() == wanted {
        return Ok(&line.args);
    }
    let given = line.args.join(" ");
    let plural = if wanted == 1 { "at least 1 argument" } else { "2 arguments" };
    Err(Failure::error(format!("Must provide {plural} (got [{given}])")))
}

/// `list-bucket`.
pub(crate) fn list_bucket(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let path = db_of(run, &arguments(line, 1)?[0])?;
    let _lock = lock_db(run, line, &path)?;
    for name in open_db(run, &path)?.buckets().map_err(plain)? {
        run.say(&String::from_utf8_lossy(&name));
    }
    Ok(())
}

/// `hash`.
pub(crate) fn hash_all(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let path = db_of(run, &arguments(line, 1)?[0])?;
    let _lock = lock_db(run, line, &path)?;
    let hash = hash(&open_db(run, &path)?).map_err(plain)?;
    run.say(&format!("db path: {}\nHash: {hash}", path.display()));
    Ok(())
}

/// `iterate-bucket`: from the last row to the first.
pub(crate) fn iterate_bucket(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let [argument, bucket] = arguments(line, 2)? else { return Err(Failure::error("")) };
    let path = db_of(run, argument)?;
    let _lock = lock_db(run, line, &path)?;
    let reader = open_db(run, &path)?;
    let found = reader.bucket(bucket.as_bytes()).map_err(plain)?;
    let found = found.ok_or_else(|| plain(format!("got nil bucket for {bucket}")))?;
    let (decode, limit) = (line.is("decode"), line.uint("limit"));
    let mut cursor = found.cursor();
    let mut next = cursor.last().map_err(plain)?;
    let mut shown = 0;
    while let Some((key, value)) = next {
        let text = if decode { decoded(bucket, &key, &value)? } else { undecoded(&key, &value) };
        run.say(&text);
        shown += 1;
        if shown == limit {
            break;
        }
        next = cursor.prev().map_err(plain)?;
    }
    Ok(())
}

fn undecoded(key: &[u8], value: &[u8]) -> String {
    format!("key={}, value={}", quote(key), quote(value))
}

/// A row as what it means.
fn decoded(bucket: &str, key: &[u8], value: &[u8]) -> Result<String, Failure> {
    let bad = || plain(format!("row {} of bucket {bucket} cannot be decoded", quote(key)));
    let number = || value.try_into().map(u64::from_be_bytes).map_err(|_| bad());
    let quoted = quote(key);
    Ok(match bucket {
        "key" => key_row(key, value).ok_or_else(bad)?,
        "lease" => {
            let id = key.try_into().map(i64::from_be_bytes).map_err(|_| bad())?;
            let lease = leasepb::Lease::decode(value).map_err(|_| bad())?;
            let (ttl, left) = (lease.ttl, lease.remaining_ttl);
            format!("lease ID={id:016x}, TTL={ttl}s, remaining TTL={left}s")
        }
        "auth" if key == b"authRevision" => format!("key={quoted}, value={}", number()?),
        "auth" => {
            let bytes: Vec<String> = value.iter().map(u8::to_string).collect();
            format!("key={quoted}, value=[{}]", bytes.join(" "))
        }
        "authRoles" => {
            let role = authpb::Role::decode(value).map_err(|_| bad())?;
            let permissions: Option<Vec<String>> = role
                .key_permission
                .iter()
                .map(|one| wire::text(&wire::PERMISSION, &one.encode_to_vec()))
                .collect();
            let permissions = permissions.ok_or_else(bad)?.join(" ");
            format!("role={}, keyPermission=[{permissions}]", quote(&role.name))
        }
        "authUsers" => {
            let user = authpb::User::decode(value).map_err(|_| bad())?;
            let roles: Vec<String> = user.roles.iter().map(|r| quote(r.as_bytes())).collect();
            let option = match &user.options {
                None => "<nil>".to_owned(),
                Some(option) => {
                    wire::text(&wire::USER_ADD_OPTIONS, &option.encode_to_vec()).ok_or_else(bad)?
                }
            };
            format!("user={}, roles=[{}], option={option}", quote(&user.name), roles.join(" "))
        }
        "meta" if [meta::CONSISTENT_INDEX, meta::TERM].contains(&key) => {
            format!("key={quoted}, value={}", number()?)
        }
        "meta" if [meta::SCHEDULED_COMPACT_REV, meta::FINISHED_COMPACT_REV].contains(&key) => {
            let (revision, _) = decode_revision(value).map_err(|_| bad())?;
            format!("key={quoted}, value={{{} {}}}", revision.main, revision.sub)
        }
        _ => undecoded(key, value),
    })
}

/// A row of bucket `key`; `None` when it is none.
fn key_row(key: &[u8], value: &[u8]) -> Option<String> {
    let (revision, tombstone) = decode_revision(key).ok()?;
    let kv = mvccpb::KeyValue::decode(value).ok()?;
    Some(format!(
        "rev={{Revision:{{Main:{} Sub:{}}} tombstone:{tombstone}}}, value=[key {} | val {} | created {} | mod {} | ver {}]",
        revision.main,
        revision.sub,
        quote(&kv.key),
        quote(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    ))
}

/// `scan-keys`: every leaf page of the file, also those that no tree reaches.
pub(crate) fn scan_keys(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let [argument, start] = arguments(line, 2)? else { return Err(Failure::error("")) };
    let path = db_of(run, argument)?;
    let start = mainstay_print::number::parse_int(start, 10).map_err(Failure::error)?;
    let pages = Pages::open(run, &path)?;
    if pages.sound_metas().is_empty() {
        run.complain("Neither meta page can be used; page size 4096 is tried. Continuing...");
    }
    let mut id = 2;
    while id < pages.high_water() {
        let node = match pages.node(id)? {
            Ok(node) => node,
            Err(why) => {
                run.complain(&format!("Reading page {id} failed: {why}. Continuing..."));
                id += 1;
                continue;
            }
        };
        if node.header.flags != LEAF {
            id += 1;
            continue;
        }
        scan_leaf(run, id, &node, start);
        id += u64::from(node.header.overflow) + 1;
    }
    Ok(())
}

/// Shows the revisions on a leaf page.
fn scan_leaf(run: &mut Run<'_>, id: u64, node: &Node, start: i64) {
    let last = usize::from(node.header.count).saturating_sub(1);
    for i in 0..usize::from(node.header.count) {
        let Some(row) = node.row(i) else {
            run.complain(&format!(
                "Reading page {id} failed: element {i} lies outside of it. Continuing..."
            ));
            break;
        };
        if row.is_bucket {
            // A small bucket lies within the page of the buckets' names.
            if let Some(BucketValue::Inline { page, .. }) = row.bucket()
                && row.key == Bucket::Key.name()
                && let Some(inline) = Node::inline(page).filter(|inline| inline.fault().is_none())
            {
                scan_leaf(run, id, &inline, start);
            }
            continue;
        }
        // A leaf of another bucket.
        let Ok((revision, _)) = decode_revision(row.key) else {
            let key = crate::bbolt::hex(row.key);
            run.complain(&format!(
                "Decoding revision failed, pageID: {id}, index: {i}, key: {key}"
            ));
            continue;
        };
        if start != 0 && revision.main < start {
            continue;
        }
        match key_row(row.key, row.value) {
            Some(text) => run.say(&format!("pageID={id}, index={i}/{last}, {text}")),
            None => run.complain(&format!(
                "Decoding value failed, pageID: {id}, index: {i}, rev: {revision}"
            )),
        }
    }
}
