//! txn: comparisons, a blank line, operations, a blank line, operations, a blank line.

use std::io::BufRead;

use mainstay_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

use crate::exit::{Failure, INVALID_INPUT, parse_int};
use crate::flags::ETCDCTL;
use crate::kv::{delete_request, lease_id, put_request, range_request};
use crate::session::Session;
use crate::show::say;
use mainstay_print::args::Line;
use mainstay_print::quote::{quote, unquote};

pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    if !session.line.args.is_empty() {
        return Err(Failure::bad_args("txn command does not accept argument"));
    }
    let request = read(&mut std::io::stdin().lock(), session.line.is("interactive"))?;
    let client = session.client().await?;
    let answer = client.kv().txn(request).await?.into_inner();
    session.show.txn(&answer)
}

fn read(input: &mut dyn BufRead, prompts: bool) -> Result<pb::TxnRequest, Failure> {
    let prompt = |text: &str| {
        if prompts {
            say(text);
        }
    };
    prompt("compares:");
    let compare = section(input, parse_compare)?;
    prompt("success requests (get, put, del):");
    let success = section(input, parse_op)?;
    prompt("failure requests (get, put, del):");
    let failure = section(input, parse_op)?;
    Ok(pb::TxnRequest { compare, success, failure })
}

fn section<T>(
    input: &mut dyn BufRead,
    parse: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    loop {
        let mut line = String::new();
        let read = input.read_line(&mut line);
        let read = read.map_err(|e| Failure::new(INVALID_INPUT, e.to_string()))?;
        if read == 0 {
            return Err(Failure::new(INVALID_INPUT, "EOF"));
        }
        let line = line.trim();
        if line.is_empty() {
            return Ok(found);
        }
        found.push(parse(line)?);
    }
}

/// `TARGET("KEY") OP "VALUE"`.
fn parse_compare(line: &str) -> Result<pb::Compare, Failure> {
    let bad = |text: String| Failure::new(INVALID_INPUT, text);
    let (target, rest) =
        line.split_once('(').ok_or_else(|| bad(format!("malformed comparison: {line}")))?;
    let (key, op, value) = parts(rest);
    let (Some(key), Some(op), Some(value)) = (&key, op, &value) else {
        let shown = |part: &Option<Vec<u8>>| quote(part.as_deref().unwrap_or_default());
        let (key, op, value) = (shown(&key), op.unwrap_or_default(), shown(&value));
        return Err(bad(format!("malformed comparison: {line}; got {target}({key}) {op} {value}")));
    };
    let text = String::from_utf8_lossy(value);
    let number =
        || parse_int(&text, 10).map_err(|_| bad(format!("invalid txn compare request: {line}")));
    let (target, union) = match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(lease_id(&text)?)),
        other => {
            let message = format!("malformed comparison: {line} (unknown target {other})");
            return Err(bad(message));
        }
    };
    let result = match op {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        "<" => CompareResult::Less,
        ">" => CompareResult::Greater,
        // etcdctl's client panics here.
        other => return Err(bad(format!("malformed comparison: {line} (unknown result {other})"))),
    };
    Ok(pb::Compare {
        result: result as i32,
        target: target as i32,
        key: key.clone().into(),
        target_union: Some(union),
        ..Default::default()
    })
}

/// What stands behind the parenthesis: key, operator and value, as far as they go.
fn parts(text: &str) -> (Option<Vec<u8>>, Option<&str>, Option<Vec<u8>>) {
    let quoted = |text: &str| {
        let end = closing_quote(text.strip_prefix('"').map(|_| text)?)?;
        Some((unquote(text.get(..end)?)?, end))
    };
    let Some((key, end)) = quoted(text) else { return (None, None, None) };
    let Some(rest) = text[end..].strip_prefix(')') else { return (Some(key), None, None) };
    let rest = rest.trim_start();
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (op, rest) = rest.split_at(end);
    if op.is_empty() {
        return (Some(key), None, None);
    }
    (Some(key), Some(op), quoted(rest.trim_start()).map(|(value, _)| value))
}

/// Where the quoted string at the start of `text` ends.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn parse_op(text: &str) -> Result<pb::RequestOp, Failure> {
    let invalid = || Failure::new(INVALID_INPUT, format!("invalid txn request: {text}"));
    let words = words(text).filter(|w| w.len() >= 2).ok_or_else(|| {
        Failure::new(INVALID_INPUT, format!("invalid txn compare request: {text}"))
    })?;
    let line = Line::read(ETCDCTL, &words).map_err(|_| invalid())?;
    // Standard input is where the transaction comes from.
    let no_input = &mut || Ok(Vec::new());
    let request = match line.command.name {
        "get" => Request::RequestRange(range_request(&line)?),
        "put" => Request::RequestPut(put_request(&line, no_input)?),
        "del" => Request::RequestDeleteRange(delete_request(&line)?),
        _ => return Err(invalid()),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

/// Splits as a shell does: double quotes with Go's escapes, single quotes raw.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = if rest.starts_with('"') {
            let (quoted, after) = rest.split_at_checked(closing_quote(rest)?)?;
            (String::from_utf8_lossy(&unquote(quoted)?).into_owned(), after)
        } else if let Some(raw) = rest.strip_prefix('\'') {
            let (word, after) = raw.split_once('\'')?;
            (word.to_owned(), after)
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        found.push(word);
        rest = after.trim_start();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_read() {
        let mut text = "mod(\"a\\\"b\") > \"0\"\nvalue(\"k\") = \"v w\"\n\nput a \"x y\"\nget a --prefix\n\ndel 'b c'\n\n".as_bytes();
        let txn = read(&mut text, false).expect("reads");
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (2, 2, 1));
        assert_eq!(txn.compare[0].key.as_ref(), b"a\"b");
        let Some(Request::RequestPut(put)) = &txn.success[0].request else { panic!("a put") };
        assert_eq!(put.value.as_ref(), b"x y");
        let Some(Request::RequestDeleteRange(del)) = &txn.failure[0].request else {
            panic!("a del")
        };
        assert_eq!(del.key.as_ref(), b"b c");
    }

    #[test]
    fn what_is_not_a_transaction_is_refused() {
        for text in
            ["mod(\"a\") ~ \"0\"\n\n\n\n", "mod(a) = \"0\"\n\n\n\n", "\nwatch a b\n\n\n", "\n\n"]
        {
            assert!(read(&mut text.as_bytes(), false).is_err(), "{text:?}");
        }
    }
}
