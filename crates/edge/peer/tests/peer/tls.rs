//! Members that encrypt: each shows its certificate and looks at the other's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_driver::Transport as _;
use mainstay_raft::MessageKind;
use mainstay_server::{Allowed, ClientTls, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{CLUSTER, Door, Fake, Node, numbered, wait};

/// An authority and a folder for what it signs; removed when dropped.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: PathBuf,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let dir = std::env::temp_dir().join(format!("mainstay-peer-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("ca.pem"), &pem).expect("written");
        Authority { issuer: Issuer::new(params, key), pem, dir }
    }

    /// Signs a certificate for `host` with this common name, into files of this name.
    pub(crate) fn sign(&self, file: &str, common_name: &str, host: &str) -> TlsFiles {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let path = |end: &str| self.dir.join(format!("{file}{end}"));
        std::fs::write(path(".pem"), cert).expect("written");
        std::fs::write(path(".key"), key.serialize_pem()).expect("written");
        TlsFiles {
            flag_prefix: "peer-",
            trusted_ca_file: Some(self.dir.join("ca.pem")),
            ..TlsFiles::new(path(".pem"), path(".key"))
        }
    }

    /// What a listener with `files` uses; it wants a certificate of ours.
    pub(crate) fn listen(&self, files: &TlsFiles) -> Arc<ServerConfig> {
        let pem = |path: &Path| std::fs::read(path).expect("written before");
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(ca).expect("an authority");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .build()
                .expect("a verifier");
        let cert = CertificateDer::from_pem_slice(&pem(&files.cert_file)).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(&pem(&files.key_file)).expect("PEM");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![cert], key)
            .expect("a pair");
        Arc::new(config)
    }

    fn node(&self, id: u64, files: &TlsFiles) -> Node {
        let dial = ClientTls::load(files.clone()).expect("certificates");
        Node::start_at(Door::open(), Fake::new(id, CLUSTER), Some(dial), Some(self.listen(files)))
    }
}

fn introduce(a: &Node, b: &Node) {
    let members = [a.as_member(), b.as_member()];
    a.follow(&members);
    b.follow(&members);
}

#[test]
fn members_talk_encrypted() {
    let authority = Authority::new("mutual");
    let a = authority.node(1, &authority.sign("a", "m1", "127.0.0.1"));
    let b = authority.node(2, &authority.sign("b", "m2", "127.0.0.1"));
    assert!(a.url.starts_with("https://"));
    introduce(&a, &b);
    a.wait_for(b.id());
    let message = numbered(MessageKind::Vote, &a, &b, 3);
    a.transport.send(vec![message.clone()]);
    assert_eq!(b.fake.take(1), [message]);
}

/// Whether `a`, dialling, refuses what `b` shows: nothing of its ever arrives.
fn refuses(a: &Node, b: &Node) {
    introduce(a, b);
    a.transport.send(vec![numbered(MessageKind::Vote, a, b, 3)]);
    a.fake.until(|seen| seen.unreachable.contains(&b.id()).then_some(()));
    assert_eq!(a.transport.connected_for(b.id()), None);
    assert!(b.fake.until(|seen| Some(seen.messages.is_empty())));
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let authority = Authority::new("host");
    let a = authority.node(1, &authority.sign("a", "m1", "127.0.0.1"));
    let b = authority.node(2, &authority.sign("b", "m2", "10.9.8.7"));
    refuses(&a, &b);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let a = ours.node(1, &ours.sign("a", "m1", "127.0.0.1"));
    let b = theirs.node(2, &theirs.sign("b", "m2", "127.0.0.1"));
    refuses(&a, &b);
}

#[test]
fn only_allowed_names_are_dialled() {
    let authority = Authority::new("names");
    let mut files = authority.sign("a", "m1", "127.0.0.1");
    let b = authority.node(2, &authority.sign("b", "m2", "127.0.0.1"));
    let allowed = |names: &[&str], hosts: &[&str]| Allowed {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    };
    for wrong in [allowed(&["m3", "m"], &[]), allowed(&[], &["10.9.8.7", "m2"])] {
        files.allowed = wrong;
        refuses(&authority.node(1, &files), &b);
    }
    for right in [allowed(&["m3", "m2"], &[]), allowed(&[], &["10.9.8.7", "127.0.0.1"])] {
        files.allowed = right;
        let a = authority.node(1, &files);
        introduce(&a, &b);
        a.wait_for(b.id());
        a.follow(&[a.as_member()]);
    }
}

#[test]
fn a_certificate_that_is_replaced_is_shown_from_then_on() {
    let (ours, theirs) = (Authority::new("before"), Authority::new("after"));
    // `b` trusts the other authority, so that `a` is refused until it shows one of that.
    let mut files = ours.sign("a", "m1", "127.0.0.1");
    std::fs::write(ours.dir.join("trusted.pem"), &theirs.pem).expect("written");
    files.trusted_ca_file = Some(ours.dir.join("trusted.pem"));
    let dial = ClientTls::load(files.clone()).expect("certificates");
    let listen = theirs.listen(&theirs.sign("a", "m1", "127.0.0.1"));
    let a = Node::start_at(Door::open(), Fake::new(1, CLUSTER), Some(dial), Some(listen));
    let b = theirs.node(2, &theirs.sign("b", "m2", "127.0.0.1"));
    refuses(&a, &b);
    let new = theirs.sign("a", "m1", "127.0.0.1");
    std::fs::copy(&new.cert_file, &files.cert_file).expect("replaced");
    std::fs::copy(&new.key_file, &files.key_file).expect("replaced");
    wait(|| a.transport.connected_for(b.id()).is_some());
}
