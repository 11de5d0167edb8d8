//! `--cipher-suites`: the names that Go knows, and which of those suites are spoken here.

use crate::Invalid;

/// Suites of TLS 1.2 with forward secrecy and authenticated encryption: all that are spoken.
const SPOKEN: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Suites of TLS 1.3. They may be named, and are spoken all or not at all with TLS 1.3, as in Go.
const OF_TLS13: [&str; 3] =
    ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Suites that Go can be told to speak: without forward secrecy, or with ciphers that are broken
/// or hard to use safely.
const WEAK: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// The suites of TLS 1.2 in a list, by IANA's names.
///
/// # Errors
/// A name that Go does not know either, in etcd's words; or a suite that is not spoken here.
pub(crate) fn of_tls12(names: &[String]) -> Result<Vec<String>, Invalid> {
    let mut suites: Vec<String> = Vec::new();
    for name in names {
        // Two that etcd takes without their end, too.
        let full = match name.strip_suffix("_CHACHA20_POLY1305") {
            Some(_) => format!("{name}_SHA256"),
            None => name.clone(),
        };
        if SPOKEN.contains(&full.as_str()) {
            if !suites.contains(&full) {
                suites.push(full);
            }
        } else if WEAK.contains(&name.as_str()) {
            return Err(Invalid(format!(
                "--cipher-suites: {name} is not spoken in this release: it lacks forward secrecy \
                 or authenticated encryption; leave it out"
            )));
        } else if !OF_TLS13.contains(&name.as_str()) {
            return Err(Invalid(format!("unexpected TLS cipher suite {name:?}")));
        }
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        of_tls12(&names).map_err(|why| why.to_string())
    }

    #[test]
    fn every_name_that_go_knows_is_taken_or_refused_by_name() {
        for name in SPOKEN {
            assert_eq!(read(&[name, name]), Ok(vec![name.to_owned()]));
        }
        assert_eq!(read(&OF_TLS13), Ok(vec![]));
        for name in WEAK {
            let why = read(&[SPOKEN[0], name]).expect_err("refused");
            assert!(why.contains(&format!("{name} is not spoken")), "{why}");
        }
        for kind in ["RSA", "ECDSA"] {
            let short = format!("TLS_ECDHE_{kind}_WITH_CHACHA20_POLY1305");
            assert_eq!(read(&[&short]), Ok(vec![format!("{short}_SHA256")]));
        }
        for name in ["", "tls_aes_128_gcm_sha256", "TLS_RSA_WITH_CHACHA20_POLY1305", "AES128-SHA"] {
            assert_eq!(read(&[name]), Err(format!("unexpected TLS cipher suite {name:?}")));
        }
    }
}
