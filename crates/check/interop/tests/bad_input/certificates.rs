//! Certificate and key files that do not fit are named before anything listens.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_interop::{Folder, Kind, Start};
use rcgen::generate_simple_self_signed;

use crate::rest::refused;

/// Writes a certificate and its key.
fn pair(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    fs::write(&cert, made.cert.pem()).expect("a writable folder");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a writable folder");
    (cert, key)
}

#[test]
fn certificates_and_keys_that_do_not_fit_are_named() {
    let folder = Folder::new("bad-certificates");
    let (cert, key) = pair(folder.path(), "a");
    let (_, other_key) = pair(folder.path(), "b");
    let (garbage, empty) = (folder.path().join("garbage.pem"), folder.path().join("empty.pem"));
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("written");
    fs::write(&empty, "").expect("written");
    let missing = folder.path().join("missing.pem");
    for (n, (cert, key, ca, word)) in [
        (&cert, &other_key, None, "a.crt"),
        (&missing, &key, None, "missing.pem"),
        (&cert, &missing, None, "missing.pem"),
        (&garbage, &key, None, "garbage.pem"),
        (&empty, &key, None, "empty.pem"),
        (&cert, &empty, None, "empty.pem"),
        (&cert, &garbage, None, "garbage.pem"),
        (&key, &cert, None, "a.key"),
        (&cert, &key, Some(&empty), "empty.pem"),
        (&cert, &key, Some(&missing), "missing.pem"),
    ]
    .into_iter()
    .enumerate()
    {
        let data_dir = folder.path().join(format!("m{n}.etcd"));
        let mut start = Start::new(Kind::Ours, &data_dir)
            .flag(&format!("--cert-file={}", cert.display()))
            .flag(&format!("--key-file={}", key.display()));
        let client = format!("https://127.0.0.1:{}", start.ports.0);
        start = start.flag(&format!("--listen-client-urls={client}"));
        start = start.flag(&format!("--advertise-client-urls={client}"));
        if let Some(ca) = ca {
            start = start.flag("--client-cert-auth");
            start = start.flag(&format!("--trusted-ca-file={}", ca.display()));
        }
        let command = start.command().expect("ours is never missing");
        let refusal = refused(command, &folder.path().join(format!("{n}.log")));
        refusal.assert_says(&[word]);
    }
}
