//! Why a handshake failed, in the words that operators search their logs for.

use rustls::{AlertDescription, CertificateError, Error};

/// The text for the log; Go's where Go has one.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ => error.to_string(),
        };
    };
    match tls {
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        // Only `Allowed` refuses a client so.
        Error::InvalidCertificate(CertificateError::NotValidForName) => {
            "client certificate authentication failed".to_owned()
        }
        Error::InvalidCertificate(why) => {
            format!("tls: failed to verify certificate: x509: {}", certificate(why))
        }
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        Error::InvalidMessage(_) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Error::PeerIncompatible(why) => {
            format!("tls: client offered only unsupported versions or ciphers: {why:?}")
        }
        other => other.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        // One with the name of an authority that is trusted, and not of its making, is as unknown.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage".to_owned()
        }
        other => other.to_string(),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::BadCertificate => "bad certificate".to_owned(),
        AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
        AlertDescription::CertificateExpired => "expired certificate".to_owned(),
        AlertDescription::CertificateUnknown => "unknown certificate".to_owned(),
        AlertDescription::ProtocolVersion => "protocol version not supported".to_owned(),
        AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
        AlertDescription::CertificateRequired => "certificate required".to_owned(),
        AlertDescription::CertificateRevoked => "revoked certificate".to_owned(),
        AlertDescription::UnsupportedCertificate => "unsupported certificate".to_owned(),
        AlertDescription::AccessDenied => "access denied".to_owned(),
        AlertDescription::DecryptError => "error decrypting message".to_owned(),
        AlertDescription::InternalError => "internal error".to_owned(),
        AlertDescription::UnrecognisedName => "unrecognized name".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// faults.md 8: texts that tools look for.
    #[test]
    fn alerts_are_told_in_gos_words() {
        let told = |error: Error| reason(&io::Error::new(io::ErrorKind::InvalidData, error));
        let alert = |alert| told(Error::AlertReceived(alert));
        assert_eq!(alert(AlertDescription::BadCertificate), "remote error: tls: bad certificate");
        let unknown = "remote error: tls: unknown certificate authority";
        assert_eq!(alert(AlertDescription::UnknownCA), unknown);
        let bad = |why| told(Error::InvalidCertificate(why));
        let stranger =
            "tls: failed to verify certificate: x509: certificate signed by unknown authority";
        assert_eq!(bad(CertificateError::UnknownIssuer), stranger);
        assert_eq!(bad(CertificateError::BadSignature), stranger);
        let refused = "client certificate authentication failed";
        assert_eq!(bad(CertificateError::NotValidForName), refused);
        let usage = "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage";
        assert_eq!(bad(CertificateError::InvalidPurpose), usage);
        assert_eq!(reason(&io::ErrorKind::UnexpectedEof.into()), "EOF");
    }
}
