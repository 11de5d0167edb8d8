//! Who of those with a good certificate is let in: `--peer-cert-allowed-cn`,
//! `--peer-cert-allowed-hostname` and `--client-cert-allowed-hostname`.
//!
//! As in etcd the rule holds for both ends of a connection between members: for who
//! dials, and for who was dialled.
//!
//! Ours: where nothing else tells members from clients, a certificate that is for clients
//! alone is not let in as a member's. A member shows the same certificate to those that
//! it dials and to those that dial it, who want one for servers; so no member has one for
//! clients alone, while those of API servers and health checks, often signed by the same
//! authority, are just that.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::revoked::Revoked;

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
        if self.is_everyone() || self.admits(cert) { Ok(()) } else { Err(not_let_in()) }
    }
}

/// The error whose alert is Go's, `bad certificate`; nothing else here makes it.
fn not_let_in() -> Error {
    Error::InvalidCertificate(CertificateError::NotValidForName)
}

/// Whether a certificate may be a server's: its purposes, if it has any, say so.
fn may_serve(cert: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(cert) else { return false };
    match parsed.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.server_auth || usage.value.any,
        Err(_) => false,
    }
}

/// A revoked certificate, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct IsRevoked(String);

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
    /// Whether certificates for clients alone are not let in.
    pub(super) servers_only: bool,
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
        if self.servers_only && !may_serve(end_entity) {
            return Err(not_let_in());
        }
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
    pub(super) revoked: Option<Arc<Revoked>>,
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
        if let Some(revoked) = &self.revoked {
            let shown: Vec<_> = [end_entity].into_iter().chain(intermediates).collect();
            revoked.check(&shown).map_err(|why| {
                let why = OtherError(Arc::new(IsRevoked(why)));
                Error::InvalidCertificate(CertificateError::Other(why))
            })?;
        }
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
