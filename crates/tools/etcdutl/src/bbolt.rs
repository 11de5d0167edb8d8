//! `bbolt ...`: a db file page by page, read only, damaged files too.

mod look;

use std::path::Path;

use mainstay_backend::bolt::{Bucket, Reader};
use mainstay_print::args::Line;
use mainstay_print::quote::quote;

use crate::pages::Pages;
use crate::place::{arguments, must_exist, one_argument, plain};
use crate::{Failure, Run};

pub(crate) use look::{page, pages, stats};

/// The file that the first argument names.
fn file<'l>(line: &'l Line, run: &Run<'_>) -> Result<&'l Path, Failure> {
    let path = Path::new(line.args.first().map_or("", String::as_str));
    must_exist(run, path).map_err(|failure| {
        match failure.message.ends_with("no such file or directory") {
            true => {
                let file = quote(path.to_string_lossy().as_bytes());
                Failure::error(format!("source database file {file} doesn't exist"))
            }
            false => failure,
        }
    })?;
    Ok(path)
}

fn open(line: &Line, run: &Run<'_>) -> Result<Reader, Failure> {
    Reader::open(&*run.disk, file(line, run)?).map_err(plain)
}

/// `check`: the whole tree.
pub(crate) fn check(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    one_argument(line)?;
    let problems = open(line, run)?.check().map_err(plain)?;
    for problem in &problems {
        run.say(&format!("page {}: {}", problem.page, problem.what));
    }
    if problems.is_empty() {
        run.say("OK");
        return Ok(());
    }
    run.say(&format!("{} errors found", problems.len()));
    Err(Failure::error("invalid value"))
}

/// `info`: page size and both metas.
pub(crate) fn info(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    one_argument(line)?;
    let pages = Pages::open(run, file(line, run)?)?;
    run.say(&format!("Page Size: {}", pages.page_size));
    run.say(&format!("File Size: {} bytes", pages.len));
    for slot in 0..2 {
        match (pages.meta_fault(slot)?, pages.metas[slot as usize]) {
            (None, Some(meta)) => run.say(&format!(
                "Meta {slot}:     txid {}, root {}, {} pages, freelist {}",
                meta.txid,
                meta.root,
                meta.high_water,
                match meta.freelist {
                    u64::MAX => "not stored".to_owned(),
                    page => format!("on page {page}"),
                }
            )),
            (fault, _) => {
                let why = fault.unwrap_or("it is of another page size");
                run.say(&format!("Meta {slot}:     damaged: {why}"));
            }
        }
    }
    match pages.sound_metas().is_empty() {
        true => Err(Failure::error("neither meta page can be used")),
        false => Ok(()),
    }
}

/// `buckets`: the names of the buckets.
pub(crate) fn buckets(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    one_argument(line)?;
    for name in open(line, run)?.buckets().map_err(plain)? {
        run.say(&String::from_utf8_lossy(&name));
    }
    Ok(())
}

/// The bucket that names lead to, one within the other.
fn bucket(reader: &Reader, names: &[String]) -> Result<Bucket, Failure> {
    let missing = || Failure::error("bucket not found");
    let (first, rest) = names.split_first().ok_or_else(missing)?;
    let mut found = reader.bucket(first.as_bytes()).map_err(plain)?.ok_or_else(missing)?;
    for name in rest {
        found = found.bucket(name.as_bytes()).map_err(plain)?.ok_or_else(missing)?;
    }
    Ok(found)
}

/// `keys`: the keys of a bucket.
pub(crate) fn keys(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    if line.args.len() < 2 {
        return Err(Failure::error(format!(
            "requires at least 2 arg(s), only received {}",
            line.args.len()
        )));
    }
    let form = Form::read(line.text("format"))?;
    let reader = open(line, run)?;
    let found = bucket(&reader, &line.args[1..])?;
    let mut cursor = found.cursor();
    let mut next = cursor.first().map_err(plain)?;
    while let Some((key, _)) = next {
        run.say_bytes(&form.show(&key));
        next = cursor.next().map_err(plain)?;
    }
    Ok(())
}

/// `get`: one value.
pub(crate) fn get(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let [_, buckets @ .., key] = line.args.as_slice() else {
        return Err(arguments(3, line.args.len()));
    };
    if buckets.is_empty() {
        return Err(Failure::error("bucket is required: bucket required"));
    }
    let form = Form::read(line.text("format"))?;
    let raw = match line.text("parse-format") {
        "ascii-encoded" => key.as_bytes().to_vec(),
        "hex" => from_hex(key)?,
        other => return Err(plain(format!("parseBytes: unsupported format: {other}"))),
    };
    if raw.is_empty() {
        return Err(Failure::error("key is required: key required"));
    }
    let reader = open(line, run)?;
    let value = bucket(&reader, buckets)?.get(&raw).map_err(plain)?;
    let value = value.ok_or_else(|| {
        plain(format!("Error key not found for key: {} hex: \"{}\"", quote(&raw), hex(&raw)))
    })?;
    run.say_bytes(&form.show(&value));
    Ok(())
}

/// How keys and values are shown.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Auto,
    Quoted,
    Hex,
    Bytes,
    Redacted,
}

impl Form {
    fn read(text: &str) -> Result<Form, Failure> {
        Ok(match text {
            "auto" => Form::Auto,
            "ascii-encoded" => Form::Quoted,
            "hex" => Form::Hex,
            "bytes" => Form::Bytes,
            "redacted" => Form::Redacted,
            other => return Err(plain(format!("formatBytes: unsupported format: {other}"))),
        })
    }

    fn show(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Form::Auto => match is_printable(bytes) {
                true => bytes.to_vec(),
                false => hex(bytes).into_bytes(),
            },
            Form::Quoted => quote(bytes).into_bytes(),
            Form::Hex => hex(bytes).into_bytes(),
            Form::Bytes => bytes.to_vec(),
            Form::Redacted => {
                use sha2::{Digest as _, Sha256};
                let sum = hex(&Sha256::digest(bytes));
                format!("<redacted len:{} sha256:{sum}>", bytes.len()).into_bytes()
            }
        }
    }
}

fn is_printable(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || plain(format!("{} is not hexadecimal", quote(text.as_bytes())));
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    pairs.collect::<Result<_, _>>().map_err(|_| wrong())
}
