//! Certificates that a member makes for itself: `--auto-tls` and `--peer-auto-tls`.
//!
//! They lie where etcd has them, in `fixtures/` of the data directory, and are made once.

use std::error::Error;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use mainstay_config::{Config, TlsFiles, Url};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P521_SHA512,
};
use tracing::{info, warn};

/// A year as etcd counts it for this.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes what is asked for and not there yet, and names it where certificates are named.
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn certificates(config: &mut Config) -> Result<(), Box<dyn Error>> {
    let fixtures = config.data_dir.join("fixtures");
    let valid = YEAR.saturating_mul(u32::try_from(config.self_signed_cert_validity)?);
    let clients = [&config.listen_client_urls[..], &config.listen_client_http_urls].concat();
    settle(&mut config.client_tls, &fixtures.join("client"), &clients, valid)?;
    settle(&mut config.peer_tls, &fixtures.join("peer"), &config.listen_peer_urls, valid)
}

fn settle(
    files: &mut TlsFiles,
    dir: &Path,
    urls: &[Url],
    valid: Duration,
) -> Result<(), Box<dyn Error>> {
    if !files.auto {
        return Ok(());
    }
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    if !cert.exists() || !key.exists() {
        make(dir, &cert, &key, urls, valid)
            .map_err(|error| format!("cannot make a certificate in {}: {error}", dir.display()))?;
    }
    (files.cert, files.key) = (Some(cert), Some(key));
    Ok(())
}

fn make(
    dir: &Path,
    cert: &Path,
    key: &Path,
    urls: &[Url],
    valid: Duration,
) -> Result<(), Box<dyn Error>> {
    let hosts = urls.iter().map(|url| url.host().to_owned()).filter(|host| !host.is_empty());
    let mut params = CertificateParams::new(hosts.collect::<Vec<String>>())?;
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = now.checked_add(valid).ok_or("it would be valid for too long")?.into();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
    let made = params.self_signed(&pair)?;
    warn!(
        "certificate-validity-bound-not-after" = %params.not_after,
        "automatically generate certificates"
    );
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // The key first: with both there nothing is made again.
    write(key, &pair.serialize_pem())?;
    info!(path = %key.display(), "created key file");
    write(cert, &made.pem())?;
    info!(path = %cert.display(), "created cert file");
    Ok(())
}

/// A start that was cut short leaves half a file, or one without the other. Nobody else reads
/// either, like all else in the data directory.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("tmp");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}
