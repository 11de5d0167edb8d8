//! `--peer-crl-file` and `--client-crl-file`: certificates that do not count any more.
//!
//! As in etcd a file of DER, a serial number in it is revoked whoever issued it, and while
//! the file cannot be read nobody with a certificate gets in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::Stamp;

/// What the file said when it was last read.
type Said = Result<BTreeSet<Vec<u8>>, String>;

/// The file, read again when it changes.
pub(super) struct Revoked {
    path: PathBuf,
    read: Mutex<(Option<Stamp>, Said)>,
}

impl Revoked {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn load(path: &Path) -> Result<Revoked, String> {
        let stamp = Stamp::of(path);
        let serials = serials(path)?;
        Ok(Revoked { path: path.to_owned(), read: Mutex::new((stamp, Ok(serials))) })
    }

    /// Checks what a client has shown.
    ///
    /// # Errors
    /// One of the certificates is revoked, in Go's words; or the file cannot be read.
    pub(super) fn check(&self, shown: &[CertificateDer<'_>]) -> Result<(), String> {
        let mut read = self.read.lock();
        let stamp = Stamp::of(&self.path);
        if read.0 != stamp || stamp.is_none() {
            *read = (stamp, serials(&self.path));
        }
        let revoked = read.1.as_ref().map_err(|why| format!("{}: {why}", self.path.display()))?;
        for cert in shown {
            let (_, parsed) = X509Certificate::from_der(cert).map_err(|error| error.to_string())?;
            let serial = plain(parsed.raw_serial());
            if revoked.contains(serial) {
                let hex: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
                return Err(format!("transport: certificate serial {hex} revoked"));
            }
        }
        Ok(())
    }
}

/// The serial numbers in a file.
fn serials(path: &Path) -> Said {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let (_, list) = CertificateRevocationList::from_der(&bytes)
        .map_err(|error| format!("no list of revoked certificates in DER: {error}"))?;
    Ok(list.iter_revoked_certificates().map(|one| plain(one.raw_serial()).to_vec()).collect())
}

/// A number without the zero that only says that it is not negative.
fn plain(mut serial: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = serial {
        serial = rest;
    }
    serial
}
