//! Revoked certificates, on every listener, in every connection.

use std::sync::Arc;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::HandshakeKind;

use super::*;
use crate::tls::{Expiry, What};

/// A list that revokes the certificates with these serial numbers, due in this year.
fn list_until(authority: &Authority, serials: &[&[u8]], year: i32) -> Vec<u8> {
    let then = rcgen::date_time_ymd(2020, 1, 1);
    let revoked = |serial: &&[u8]| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: then,
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: then,
        next_update: rcgen::date_time_ymd(year, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&authority.issuer).expect("a list").der().to_vec()
}

fn list(authority: &Authority, serials: &[&[u8]]) -> Vec<u8> {
    list_until(authority, serials, 2100)
}

fn as_pem(ders: &[Vec<u8>]) -> Vec<u8> {
    let block = |der: &Vec<u8>| {
        let text = base64(der);
        format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n")
    };
    ders.iter().map(block).collect::<String>().into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { letter as char } else { '=' });
        }
    }
    out
}

/// One whose first bit is set, which is written with a zero before it, and one without.
const SERIALS: [&[u8]; 2] = [&[0x91, 2, 3, 4], &[0x11, 2, 3, 4]];

/// A server with a list, and two clients that may be in it.
struct World {
    dir: PathBuf,
    authority: Authority,
    clients: [Leaf; 2],
    files: TlsFiles,
}

impl World {
    fn new(name: &str) -> World {
        let (dir, authority) = (scratch(name), Authority::new());
        let clients = SERIALS.map(|serial| {
            authority.made(|params| params.serial_number = Some(SerialNumber::from_slice(serial)))
        });
        let mut files = files(&dir, &authority.leaf());
        files.trusted_ca_file = Some(write(&dir, "ca.pem", &authority.pem));
        files.crl_file = Some(dir.join("revoked.crl"));
        let world = World { dir, authority, clients, files };
        world.revoke(&[]);
        world
    }

    /// Replaces the file.
    fn publish(&self, bytes: &[u8]) {
        std::fs::write(self.dir.join("new"), bytes).expect("written");
        std::fs::rename(self.dir.join("new"), self.dir.join("revoked.crl")).expect("renamed");
    }

    fn revoke(&self, clients: &[usize]) {
        let serials: Vec<&[u8]> = clients.iter().map(|n| SERIALS[*n]).collect();
        self.publish(&list(&self.authority, &serials));
    }

    fn config(&self, client: usize) -> ClientConfig {
        client_config(self.authority.roots(), Some(&self.clients[client]), &["http/1.1"])
    }

    /// Which of the two are refused.
    async fn refused(&self, address: &str) -> [bool; 2] {
        [is_let_out(address, self.config(0)).await, is_let_out(address, self.config(1)).await]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn revoked_certificates_are_refused() {
    let world = World::new("revoked");
    world.revoke(&[0]);
    let server = serve(world.files.clone());
    let address = server.address();
    run(async {
        assert_eq!(world.refused(&address).await, [true, false]);
        world.revoke(&[1]);
        assert_eq!(world.refused(&address).await, [false, true]);
        world.revoke(&[]);
        assert_eq!(world.refused(&address).await, [false, false]);
        // Several lists in one file.
        let lists = SERIALS.map(|serial| list(&world.authority, &[serial]));
        world.publish(&as_pem(&lists));
        assert_eq!(world.refused(&address).await, [true, true]);
        world.publish(&as_pem(&lists[..1]));
        assert_eq!(world.refused(&address).await, [true, false]);
    });
}

#[test]
fn a_broken_list_leaves_the_last_good_one_in_force() {
    let world = World::new("crl-broken");
    world.revoke(&[0]);
    let server = serve(world.files.clone());
    let address = server.address();
    let failures = || world.files.expiry.failures();
    run(async {
        assert_eq!(world.refused(&address).await, [true, false]);
        let half = list(&world.authority, &SERIALS);
        let broken: [&[u8]; 5] = [
            b"",
            b"-----BEGIN X509 CRL-----",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &half[..half.len() / 2],
            &[&half[..], b"more"].concat(),
        ];
        for (before, bytes) in broken.into_iter().enumerate() {
            world.publish(bytes);
            assert_eq!(world.refused(&address).await, [true, false]);
            assert_eq!(failures(), [("client", 1 + before as u64)], "counted once each");
        }
        std::fs::remove_file(world.dir.join("revoked.crl")).expect("removed");
        assert_eq!(world.refused(&address).await, [true, false]);
        world.revoke(&[1]);
        assert_eq!(world.refused(&address).await, [false, true]);
    });
    // At a start there is nothing to keep.
    world.publish(b"");
    let error = super::refused(world.files.clone());
    assert!(error.to_string().contains("--client-crl-file "), "{error}");
}

#[test]
fn every_listener_heeds_the_list() {
    let world = World::new("crl-everywhere");
    world.revoke(&[0]);
    let client_urls = || vec!["https://127.0.0.1:0".to_owned()];
    let unix = format!("unixs://{}", world.dir.join("socket").display());
    for split in [false, true] {
        let server = Running::start(ServerConfig {
            client_urls: client_urls(),
            client_http_urls: if split { client_urls() } else { Vec::new() },
            metrics_urls: vec!["https://127.0.0.1:0".into(), unix.clone()],
            peer_urls: client_urls(),
            client_tls: Some(world.files.clone()),
            peer_tls: Some(TlsFiles { flag_prefix: "peer-", ..world.files.clone() }),
            shards: 2,
            ..ServerConfig::default()
        });
        run(async {
            let mut doors = vec![&server.client[0], &server.metrics[0], &server.peer[0]];
            doors.extend(server.http.first());
            assert_eq!(doors.len(), if split { 4 } else { 3 });
            for door in doors {
                let address = host(door);
                let revoked = connect(&address, world.config(0)).await.expect("a handshake");
                assert!(is_silent(revoked).await, "{door}");
                let good = connect(&address, world.config(1)).await.expect("a handshake");
                assert!(!is_silent(good).await, "{door}");
            }
            // gRPC, where HTTP has listeners of its own, too.
            let grpc = client_config(world.authority.roots(), Some(&world.clients[1]), &["h2"]);
            let stream = connect(&server.address(), grpc).await.expect("a handshake");
            let client = Client::over(stream, "https").await;
            let _: pb::StatusResponse = client.call(STATUS, &pb::StatusRequest {}).await.ok();
            let socket = tokio::net::UnixStream::connect(world.dir.join("socket")).await;
            let name = ServerName::try_from("localhost").expect("a name");
            let connector = tokio_rustls::TlsConnector::from(Arc::new(world.config(0)));
            let revoked = connector.connect(name, socket.expect("it listens")).await;
            assert!(is_silent(revoked.expect("a handshake")).await);
        });
    }
}

/// Whether nothing comes back for a request.
async fn is_silent<IO>(mut stream: IO) -> bool
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::AsyncWriteExt as _;
    let _ = stream.write_all(GET_HEALTH.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.is_empty()
}

#[test]
fn open_connections_end_when_their_certificate_is_revoked() {
    let world = World::new("crl-open");
    let server = serve(world.files.clone());
    let address = server.address();
    run(async {
        let grpc = async |n: usize| {
            let own = Some(&world.clients[n]);
            let config = client_config(world.authority.roots(), own, &["h2"]);
            let stream = connect(&address, config).await.expect("a handshake");
            Client::over(stream, "https").await
        };
        let (revoked, good) = (grpc(0).await, grpc(1).await);
        // A call that waits, and an idle connection of HTTP/1.
        let (answer, _body) = revoked.open(revoked.request(WATCH)).await;
        let mut idle = connect(&address, world.config(0)).await.expect("a handshake");
        let (good_answer, _good_body) = good.open(good.request(WATCH)).await;
        let _: pb::StatusResponse = good.call(STATUS, &pb::StatusRequest {}).await.ok();
        world.revoke(&[0]);
        // Nobody connects; both end all the same.
        let end = async {
            match answer.await {
                Err(_) => {}
                Ok(response) => {
                    let mut body = response.into_body();
                    while let Some(Ok(_)) = body.data().await {}
                }
            }
        };
        end.await;
        assert!(matches!(idle.read(&mut [0; 8]).await, Ok(0) | Err(_)));
        // The other goes on, in the same stream.
        let _: pb::StatusResponse = good.call(STATUS, &pb::StatusRequest {}).await.ok();
        drop(good_answer);
    });
}

const WATCH: &str = "/etcdserverpb.Watch/Watch";

#[test]
fn no_session_is_resumed() {
    let world = World::new("resumed");
    let server = serve(world.files.clone());
    let address = server.address();
    run(async {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let leaf = &world.clients[0];
            let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(world.authority.roots())
                .with_client_auth_cert(vec![der(&leaf.cert)], key)
                .expect("a pair");
            // It would keep sessions, and offer them.
            for _ in 0..3 {
                let stream = connect(&address, config.clone()).await.expect("a handshake");
                let kind = stream.get_ref().1.handshake_kind();
                assert_eq!(kind, Some(HandshakeKind::Full));
                assert!(!is_silent(stream).await);
            }
            world.revoke(&[0]);
            assert!(is_let_out(&address, config).await);
            world.revoke(&[]);
        }
    });
}

#[test]
fn a_revoked_intermediate_takes_its_leaves_along() {
    let world = World::new("crl-intermediate");
    let root = Authority::new();
    let between = |serial: &[u8]| {
        let key = KeyPair::generate().expect("a key");
        let mut params = ca_params();
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let pem = params.signed_by(&key, &root.issuer).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    };
    let authorities = SERIALS.map(between);
    let clients = [0, 1].map(|n: usize| {
        let leaf = authorities[n].leaf();
        Leaf { cert: format!("{}{}", leaf.cert, authorities[n].pem), ..leaf }
    });
    let mut files = world.files.clone();
    files.trusted_ca_file = Some(write(&world.dir, "root.pem", &root.pem));
    let server = serve(files);
    let config =
        |n: usize| client_config(world.authority.roots(), Some(&clients[n]), &["http/1.1"]);
    run(async {
        for revoked in [0, 1] {
            world.publish(&list(&root, &[SERIALS[revoked]]));
            for n in [0, 1] {
                let is_out = is_let_out(&server.address(), config(n)).await;
                assert_eq!(is_out, n == revoked, "client {n}, {revoked} revoked");
            }
        }
    });
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// As in etcd; but its age shows.
#[test]
fn a_list_that_is_overdue_goes_on_to_count() {
    let world = World::new("crl-overdue");
    world.publish(&list_until(&world.authority, &SERIALS[..1], 2021));
    let expiry = Arc::<Expiry>::default();
    let files = TlsFiles { expiry: Arc::clone(&expiry), ..world.files.clone() };
    let server = serve(files);
    run(async {
        assert_eq!(world.refused(&server.address()).await, [true, false]);
    });
    let ends = expiry.all();
    let overdue = ends.iter().find(|ends| ends.what == What::Revocations).expect("it is told");
    assert_eq!(overdue.at, 1_609_459_200, "the first of 2021");
    assert_eq!(overdue.side, "client");
    let others: Vec<What> = ends.iter().map(|ends| ends.what).collect();
    assert_eq!(others, [What::Certificate, What::Authority, What::Revocations]);
}
