//! get, put, del, compaction.

use std::io::Read as _;

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};

use crate::exit::{BAD_FEATURE, Failure, parse_int};
use crate::session::Session;
use crate::show::{Form, complain, say};
use mainstay_print::args::Line;
use mainstay_print::quote::quote;

pub(crate) async fn get(session: &Session) -> Result<(), Failure> {
    let request = range_request(&session.line)?;
    let line = &session.line;
    if line.is("print-value-only") && session.show.form != Form::Simple {
        return Err(Failure::bad_args("print-value-only is only for `--write-out=simple`"));
    }
    if line.is("count-only") && session.show.form != Form::Fields {
        return Err(Failure::bad_args("--count-only is only for `--write-out=fields`"));
    }
    let client = session.client().await?;
    let answer = if line.is("stream") {
        stream(session, &client, request).await?
    } else {
        session.timed(client.kv().range(request)).await?.into_inner()
    };
    session.show.get(&answer)
}

async fn stream(
    session: &Session,
    client: &mainstay_client::Client,
    request: pb::RangeRequest,
) -> Result<pb::RangeResponse, Failure> {
    session
        .timed(async {
            let mut kv = client.kv();
            let mut pieces = kv.range_stream(request).await?.into_inner();
            let mut whole = pb::RangeResponse::default();
            while let Some(piece) = pieces.message().await? {
                let Some(piece) = piece.range_response else { continue };
                whole.kvs.extend(piece.kvs);
                whole.header = piece.header.or(whole.header);
                whole.more |= piece.more;
                whole.count = whole.count.max(piece.count);
            }
            Ok(whole)
        })
        .await
}

/// The request of a `get` line, also of one inside a transaction.
pub(crate) fn range_request(line: &Line) -> Result<pb::RangeRequest, Failure> {
    let (key, range_end) = key_range("get", line, line.args.get(1))?;
    if line.is("keys-only") && line.is("count-only") {
        return Err(Failure::bad_args(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let serializable = match line.text("consistency") {
        "l" => false,
        "s" => true,
        other => {
            return Err(Failure::new(BAD_FEATURE, format!("unknown consistency flag {other:?}")));
        }
    };
    let mut request = pb::RangeRequest {
        key,
        range_end,
        limit: line.int("limit"),
        revision: line.int("rev"),
        serializable,
        keys_only: line.is("keys-only"),
        count_only: line.is("count-only"),
        min_create_revision: line.int("min-create-rev"),
        max_create_revision: line.int("max-create-rev"),
        min_mod_revision: line.int("min-mod-rev"),
        max_mod_revision: line.int("max-mod-rev"),
        ..Default::default()
    };
    set_sort(line, &mut request)?;
    let beyond = |what: &str, min: i64, max: i64| {
        let message = format!("getMin{what}Rev(={min}) > getMax{what}Rev(={max})");
        if max > 0 && min > max { Err(Failure::new(BAD_FEATURE, message)) } else { Ok(()) }
    };
    beyond("Create", request.min_create_revision, request.max_create_revision)?;
    beyond("Mod", request.min_mod_revision, request.max_mod_revision)?;
    Ok(request)
}

fn set_sort(line: &Line, request: &mut pb::RangeRequest) -> Result<(), Failure> {
    let (order, target) = (line.text("order"), line.text("sort-by"));
    let order = match order.to_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(Failure::new(BAD_FEATURE, format!("bad sort order {order}"))),
    };
    let target = match target.to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Failure::new(BAD_FEATURE, format!("bad sort target {target}"))),
    };
    // The client library asks for no sort when it would be the order of keys anyway.
    let order = match (target, order) {
        (SortTarget::Key, SortOrder::Ascend) => SortOrder::None,
        (_, order) => order,
    };
    request.sort_order = order as i32;
    request.sort_target = target as i32;
    Ok(())
}

/// The key and range end that the arguments and `--prefix` or `--from-key` mean.
pub(crate) fn key_range(
    command: &str,
    line: &Line,
    end: Option<&String>,
) -> Result<(Bytes, Bytes), Failure> {
    // More arguments than two are of no interest to get, but may be a mistake in del.
    let most = if command == "del" { 2 } else { usize::MAX };
    let Some(key) = line.args.first().filter(|_| line.args.len() <= most) else {
        return Err(Failure::bad_args(format!(
            "{command} command needs one argument as key and an optional argument as range_end"
        )));
    };
    let (prefix, from_key) = (line.is("prefix"), line.is("from-key"));
    if prefix && from_key {
        return Err(Failure::bad_args(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    if end.is_some() && (prefix || from_key) {
        return Err(Failure::bad_args(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    let key_bytes = Bytes::copy_from_slice(key.as_bytes());
    let zero = || Bytes::from_static(&[0]);
    Ok(match (prefix, from_key) {
        (true, _) if key.is_empty() => (zero(), zero()),
        (true, _) => (key_bytes, prefix_end(key.as_bytes())),
        (_, true) if key.is_empty() => (zero(), zero()),
        (_, true) => (key_bytes, zero()),
        _ => (key_bytes, end.map(|e| Bytes::copy_from_slice(e.as_bytes())).unwrap_or_default()),
    })
}

/// The first key behind all keys with this prefix; a zero byte when there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(&[0])
}

pub(crate) async fn put(session: &Session) -> Result<(), Failure> {
    let request = put_request(&session.line, &mut || {
        let mut value = Vec::new();
        std::io::stdin().read_to_end(&mut value).map_err(|e| Failure::error(e.to_string()))?;
        Ok(value)
    })?;
    let client = session.client().await?;
    let answer = session.timed(client.kv().put(request)).await?.into_inner();
    session.show.put(&answer)
}

/// The request of a `put` line; `input` gives the value when it is not on the line.
pub(crate) fn put_request(
    line: &Line,
    input: &mut dyn FnMut() -> Result<Vec<u8>, Failure>,
) -> Result<pb::PutRequest, Failure> {
    let mut words = line.args.iter().chain(line.after_dashes.iter().flatten());
    let needs =
        || Failure::bad_args("put command needs 1 argument and input from stdin or 2 arguments");
    let Some(key) = words.next() else { return Err(needs()) };
    let ignore_value = line.is("ignore-value");
    // Further arguments are of no interest to etcdctl either.
    let value = match (words.next(), ignore_value) {
        (Some(_), true) => {
            return Err(Failure::bad_args(
                "put command needs only 1 argument when 'ignore-value' is set",
            ));
        }
        (None, true) => Vec::new(),
        (Some(value), false) => value.clone().into_bytes(),
        (None, false) => input().ok().filter(|value| !value.is_empty()).ok_or_else(needs)?,
    };
    Ok(pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from(value),
        lease: lease_id(line.text("lease"))?,
        prev_kv: line.is("prev-kv"),
        ignore_value,
        ignore_lease: line.is("ignore-lease"),
    })
}

/// A lease id in hexadecimal.
pub(crate) fn lease_id(text: &str) -> Result<i64, Failure> {
    parse_int(text, 16)
        .map_err(|e| Failure::bad_args(format!("bad lease ID ({e}), expecting ID in Hex")))
}

pub(crate) async fn del(session: &Session) -> Result<(), Failure> {
    let request = delete_request(&session.line)?;
    if let [key, end] = session.line.args.as_slice()
        && !session.line.is("range")
    {
        complain(&format!(
            "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 seconds to cancel. You can provide `--range` flag to avoid the delay.",
            quote(key.as_bytes()),
            quote(end.as_bytes())
        ));
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    let client = session.client().await?;
    let answer = session.timed(client.kv().delete_range(request)).await?.into_inner();
    session.show.del(&answer)
}

/// The request of a `del` line.
pub(crate) fn delete_request(line: &Line) -> Result<pb::DeleteRangeRequest, Failure> {
    let (key, range_end) = key_range("del", line, line.args.get(1))?;
    Ok(pb::DeleteRangeRequest { key, range_end, prev_kv: line.is("prev-kv") })
}

pub(crate) async fn compaction(session: &Session) -> Result<(), Failure> {
    let [revision] = session.line.args.as_slice() else {
        return Err(Failure::bad_args("compaction command needs 1 argument"));
    };
    let revision = parse_int(revision, 10).map_err(Failure::error)?;
    let request = pb::CompactionRequest { revision, physical: session.line.is("physical") };
    let client = session.client().await?;
    session.timed(client.kv().compact(request)).await?;
    // In every form of output, as etcdctl.
    say(&format!("compacted revision {revision}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::read(crate::flags::ETCDCTL, &text.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .expect("reads")
    }

    #[test]
    fn ranges_are_read_as_etcdctl_reads_them() {
        let end = |text: &str| range_request(&line(text)).expect("a range").range_end;
        assert_eq!(end("get a").as_ref(), b"");
        assert_eq!(end("get a c").as_ref(), b"c");
        assert_eq!(end("get a --prefix").as_ref(), b"b");
        assert_eq!(end("get a --from-key").as_ref(), b"\0");
        assert_eq!(prefix_end(b"a\xff").as_ref(), b"b");
        assert_eq!(prefix_end(b"\xff").as_ref(), b"\0");
        assert!(range_request(&line("get a b --prefix")).is_err());
        assert!(range_request(&line("get a --prefix --from-key")).is_err());
        assert!(range_request(&line("get a --order sideways")).is_err());
    }

    #[test]
    fn a_put_takes_its_value_from_the_line_or_from_input() {
        let mut input = || Ok(b"from input".to_vec());
        let value = |text: &str, input: &mut dyn FnMut() -> Result<Vec<u8>, Failure>| {
            put_request(&line(text), input).map(|r| r.value)
        };
        assert_eq!(value("put a b", &mut input).expect("a put").as_ref(), b"b");
        assert_eq!(value("put a", &mut input).expect("a put").as_ref(), b"from input");
        assert_eq!(value("put a -- -b", &mut input).expect("a put").as_ref(), b"-b");
        assert!(value("put a b --ignore-value", &mut input).is_err());
    }
}
