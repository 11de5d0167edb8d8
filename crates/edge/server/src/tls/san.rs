//! Whether a client is where its certificate says (`checkCertSAN` of etcd): the check
//! of peer listeners, unless `--peer-skip-client-san-verification`.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Checks a certificate that was verified against the address that shows it. One
/// that names no address and no host is good anywhere. etcd finds hosts by reverse
/// lookups too; here a name is only looked up forwards, and so a certificate with a
/// wildcard is good anywhere as well.
///
/// # Errors
/// Go's words.
pub(crate) async fn check(cert: &CertificateDer<'_>, remote: IpAddr) -> Result<(), String> {
    let Names { addresses, hosts } = Names::of(cert)?;
    if addresses.contains(&remote) || (addresses.is_empty() && hosts.is_empty()) {
        return Ok(());
    }
    if hosts.is_empty() {
        let named: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        return Err(format!("x509: certificate is valid for {}, not {remote}", named.join(", ")));
    }
    if hosts.iter().any(|host| host.starts_with("*.")) {
        return Ok(());
    }
    for host in &hosts {
        // A host that cannot be found is not this one.
        let Ok(mut found) = tokio::net::lookup_host((host.as_str(), 0)).await else { continue };
        if found.any(|address| address.ip().to_canonical() == remote) {
            return Ok(());
        }
    }
    let named: Vec<String> = hosts.iter().map(|host| format!("{host:?}")).collect();
    let named = named.join(" ");
    Err(format!("tls: \"{remote}\" does not match any of DNSNames [{named}]"))
}

/// What a certificate is for.
struct Names {
    addresses: Vec<IpAddr>,
    hosts: Vec<String>,
}

impl Names {
    fn of(cert: &CertificateDer<'_>) -> Result<Names, String> {
        let (_, parsed) = X509Certificate::from_der(cert).map_err(|error| error.to_string())?;
        let mut names = Names { addresses: Vec::new(), hosts: Vec::new() };
        let alternatives = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(host) => names.hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                    names.addresses.extend(address.ok().map(|address| address.to_canonical()));
                }
                _ => {}
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn checked(names: &[&str], remote: [u8; 4]) -> Result<(), String> {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("parameters");
        let cert = params.self_signed(&key).expect("a certificate");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        runtime.block_on(check(cert.der(), remote.into()))
    }

    #[test]
    fn a_certificate_is_good_where_it_says() {
        let here = [127, 0, 0, 1];
        assert_eq!(checked(&[], here), Ok(()));
        assert_eq!(checked(&["10.0.0.1", "127.0.0.1"], here), Ok(()));
        assert_eq!(checked(&["localhost"], here), Ok(()));
        assert_eq!(checked(&["10.0.0.1", "localhost"], here), Ok(()));
        assert_eq!(checked(&["m1.invalid", "*.etcd.example"], here), Ok(()));
        let text = "x509: certificate is valid for 10.0.0.1, ::1, not 127.0.0.1";
        assert_eq!(checked(&["10.0.0.1", "::1"], here), Err(text.to_owned()));
        let text = r#"tls: "10.9.8.7" does not match any of DNSNames ["localhost" "m1.invalid"]"#;
        assert_eq!(checked(&["localhost", "m1.invalid"], [10, 9, 8, 7]), Err(text.to_owned()));
    }
}
