//! Who of those with a good certificate is let in: `--peer-cert-allowed-cn` and
//! `--peer-cert-allowed-hostname`.
//!
//! As in etcd the rule holds for both ends of a connection between members: for who
//! dials, and for who was dialled.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Names of which a certificate must have one. Without any, every certificate is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Common names, compared exactly.
    pub names: Vec<String>,
    /// Hosts and IP addresses that the certificate must be for.
    pub hosts: Vec<String>,
}

impl Allowed {
    /// Whether everyone with a good certificate is let in.
    pub fn is_everyone(&self) -> bool {
        self.names.is_empty() && self.hosts.is_empty()
    }

    fn admits(&self, cert: &CertificateDer<'_>) -> bool {
        if !self.names.is_empty() {
            return common_name(cert).is_some_and(|name| self.names.contains(&name));
        }
        let Ok(parsed) = ParsedCertificate::try_from(cert) else { return false };
        self.hosts.iter().any(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            ServerName::try_from(host).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        })
    }

    fn check(&self, cert: &CertificateDer<'_>) -> Result<(), Error> {
        if self.is_everyone() || self.admits(cert) {
            return Ok(());
        }
        // The error whose alert is Go's, `bad certificate`; nothing else here makes it.
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

/// The common name of a certificate: the last, if it has several.
pub(super) fn common_name(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(cert).ok()?;
    let names = parsed.subject().iter_common_name();
    names.filter_map(|name| name.as_str().ok()).last().map(str::to_owned)
}

/// Lets in of those that `inner` lets in.
#[derive(Debug)]
pub(super) struct AllowedClients {
    pub(super) allowed: Allowed,
    pub(super) inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for AllowedClients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Trusts of the servers that `inner` trusts; or, as etcd with certificates that it
/// has made itself, any.
#[derive(Debug)]
pub(super) struct AllowedServers {
    pub(super) allowed: Allowed,
    pub(super) anyone: bool,
    pub(super) inner: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for AllowedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.anyone {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
