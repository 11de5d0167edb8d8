//! Certificates that are not let in, each for one reason, and ciphers.

use rcgen::{DistinguishedName, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{CipherSuite, ProtocolVersion};

use super::*;
use crate::tls::What;

/// What makes a client's certificate what it is.
type Change = fn(&mut CertificateParams);

/// Every case has one thing wrong with it, or nothing.
#[test]
fn a_client_is_let_in_by_a_certificate_without_fault() {
    let (dir, authority) = (scratch("tls-faults"), Authority::new());
    let mut files = files(&dir, &authority.leaf());
    files.trusted_ca_file = Some(write(&dir, "ca.pem", &authority.pem));
    let server = serve(files);
    let address = server.address();
    let cases: [(&str, bool, Change); 9] = [
        ("plain", true, |_| {}),
        ("without a common name", true, |params| {
            params.distinguished_name = DistinguishedName::new();
        }),
        ("without names of hosts", true, |params| params.subject_alt_names.clear()),
        ("for clients", true, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }),
        ("for both", true, |params| {
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        }),
        ("for servers alone", false, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("for signing code", false, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        }),
        ("ended", false, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }),
        ("not begun", false, |params| params.not_before = date_time_ymd(2090, 1, 1)),
    ];
    run(async {
        for (name, good, change) in cases {
            let leaf = authority.made(change);
            let config = client_config(authority.roots(), Some(&leaf), &["http/1.1"]);
            assert_eq!(is_refused_now(&address, config).await, !good, "{name}");
        }
        // Of another authority with the same name, and one that vouches for itself.
        let stranger = Authority::new().leaf();
        let config = client_config(authority.roots(), Some(&stranger), &["http/1.1"]);
        assert!(is_refused_now(&address, config).await);
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(Vec::new()).expect("parameters").self_signed(&key);
        let own = Leaf { cert: own.expect("a certificate").pem(), key: key.serialize_pem() };
        let config = client_config(authority.roots(), Some(&own), &["http/1.1"]);
        assert!(is_refused_now(&address, config).await);
        let nobody = client_config(authority.roots(), None, &["http/1.1"]);
        assert!(is_refused_now(&address, nobody).await);
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

/// Whether a request is not answered, in the handshake or after it.
async fn is_refused_now(address: &str, config: ClientConfig) -> bool {
    use tokio::io::AsyncWriteExt as _;
    let Ok(mut stream) = connect(address, config).await else { return true };
    let _ = stream.write_all(GET_HEALTH.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.is_empty()
}

/// An authority that is no longer trusted lets in nobody new; who is in stays.
#[test]
fn authorities_are_read_again_when_they_change() {
    let (dir, before, after) = (scratch("tls-new-ca"), Authority::new(), Authority::new());
    let mut files = files(&dir, &before.leaf());
    files.trusted_ca_file = Some(write(&dir, "ca.pem", &before.pem));
    let server = serve(files);
    let address = server.address();
    let (old, new) = (before.leaf(), after.leaf());
    let config = |leaf: &Leaf| client_config(before.roots(), Some(leaf), &["h2"]);
    run(async {
        let stream = connect(&address, config(&old)).await.expect("a handshake");
        let open = Client::over(stream, "https").await;
        let _: pb::StatusResponse = open.call(STATUS, &pb::StatusRequest {}).await.ok();
        assert!(is_refused(&address, config(&new)).await);
        write(&dir, "ca.pem", &format!("{}{}", before.pem, after.pem));
        for leaf in [&old, &new] {
            let config = client_config(before.roots(), Some(leaf), &["http/1.1"]);
            assert!(!is_refused_now(&address, config).await);
        }
        // Broken, and then without the first.
        write(&dir, "ca.pem", "-----BEGIN CERTIFICATE-----\n");
        let both = client_config(before.roots(), Some(&new), &["http/1.1"]);
        assert!(!is_refused_now(&address, both).await);
        write(&dir, "ca.pem", &after.pem);
        assert!(is_refused(&address, config(&old)).await);
        let _: pb::StatusResponse = open.call(STATUS, &pb::StatusRequest {}).await.ok();
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

/// Where members show their certificates in both directions, one for clients alone is no
/// member's, whoever signed it (kubeadm's authority signs both).
#[test]
fn a_certificate_for_clients_alone_is_no_members() {
    let (dir, authority) = (scratch("tls-members"), Authority::new());
    let ca = write(&dir, "ca.pem", &authority.pem);
    let start = |servers_only: bool| {
        let files = files(&dir, &authority.leaf());
        Running::start(ServerConfig {
            peer_urls: vec!["https://127.0.0.1:0".into()],
            peer_tls: Some(TlsFiles {
                flag_prefix: "peer-",
                trusted_ca_file: Some(ca.clone()),
                check_client_place: true,
                servers_only,
                ..files
            }),
            shards: 1,
            ..ServerConfig::default()
        })
    };
    let usage = |all: &[ExtendedKeyUsagePurpose]| {
        authority.made(|params| params.extended_key_usages = all.to_vec())
    };
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let members = [usage(&[ClientAuth, ServerAuth]), usage(&[]), usage(&[ClientAuth, Any])];
    let client = usage(&[ClientAuth]);
    for servers_only in [true, false] {
        let server = start(servers_only);
        let address = host(&server.peer[0]);
        run(async {
            let config = |leaf: &Leaf| client_config(authority.roots(), Some(leaf), &["http/1.1"]);
            for member in &members {
                assert!(!is_refused_now(&address, config(member)).await);
            }
            assert_eq!(is_refused_now(&address, config(&client)).await, servers_only);
        });
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn cipher_suites_are_those_that_were_named() {
    let (dir, authority) = (scratch("tls-ciphers"), Authority::new());
    let named = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        TlsFiles { cipher_suites: Some(names), ..files(&dir, &authority.leaf()) }
    };
    let client = |version, suites: &[CipherSuite]| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(authority.roots())
            .with_no_client_auth()
    };
    use rustls::version::{TLS12, TLS13};
    const AES: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    const CHACHA: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    const NEW: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
    let server = serve(named(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]));
    let none = serve(named(&[]));
    run(async {
        let address = server.address();
        let stream = connect(&address, client(&TLS12, &[CHACHA, AES])).await.expect("one fits");
        let spoken = stream.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite());
        assert_eq!(spoken, Some(AES));
        assert!(connect(&address, client(&TLS12, &[CHACHA])).await.is_err());
        // Those of TLS 1.3 are not to choose.
        for address in [address, none.address()] {
            let stream = connect(&address, client(&TLS13, &[NEW])).await.expect("it is spoken");
            let version = stream.get_ref().1.protocol_version();
            assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        }
        assert!(connect(&none.address(), client(&TLS12, &[AES])).await.is_err());
    });
    let error = refused(named(&["TLS_RSA_WITH_AES_128_CBC_SHA"]));
    assert!(error.to_string().contains("--cipher-suites: TLS_RSA_WITH_AES_128_CBC_SHA"), "{error}");
    std::fs::remove_dir_all(&dir).expect("removed");
}

/// In etcd there is no such metric.
#[test]
fn metrics_say_when_certificates_end() {
    let (dir, authority) = (scratch("tls-ends"), Authority::new());
    let until = |year: i32| authority.made(|params| params.not_after = date_time_ymd(year, 1, 1));
    let mut files = files(&dir, &until(2031));
    files.trusted_ca_file = Some(write(&dir, "ca.pem", &authority.pem));
    let expiry = Arc::clone(&files.expiry);
    let server = Running::start(ServerConfig {
        client_urls: vec!["https://127.0.0.1:0".into()],
        metrics_urls: vec!["http://127.0.0.1:0".into()],
        client_tls: Some(files.clone()),
        expiry: Arc::clone(&expiry),
        shards: 1,
        ..ServerConfig::default()
    });
    let line = |path: &Path, what: &str, at: &str| {
        let file = path.display();
        format!(
            "mainstay_tls_not_after_timestamp_seconds{{side=\"client\",what=\"{what}\",file=\"{file}\"}} {at}\n"
        )
    };
    run(async {
        let shown = async || get(&host(&server.metrics[0]), "/metrics").await.2;
        let text = shown().await;
        let first = line(&files.cert_file, "certificate", "1.924992e+09");
        assert!(text.contains(&first), "no {first} in {text}");
        assert!(text.contains("what=\"authority\""), "{text}");
        assert!(text.contains("mainstay_tls_reload_failures_total{side=\"client\"} 0\n"), "{text}");
        let second = until(2032);
        super::files(&dir, &second);
        // Nobody connects: it is looked at all the same.
        let renewed = 1_956_528_000;
        let certificate = |ends: &crate::tls::Ends| ends.what == What::Certificate;
        eventually(|| expiry.all().iter().any(|ends| certificate(ends) && ends.at == renewed))
            .await;
        // One without the other may have been seen.
        let before = expiry.failures()[0].1;
        write(&dir, "key.pem", "no key");
        eventually(|| expiry.failures() == [("client", before + 1)]).await;
        let line =
            format!("mainstay_tls_reload_failures_total{{side=\"client\"}} {}\n", before + 1);
        let text = shown().await;
        assert!(text.contains(&line), "{text}");
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}
