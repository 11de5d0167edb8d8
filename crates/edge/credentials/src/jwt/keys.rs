//! Methods of signing, and the keys for them.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ParsedPublicKey,
    RsaSignatureEncoding, VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac, rsa};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::options::{JwtOptions, TokenOptionError};

/// `sign-method`: one of the methods of RFC 7518 and 8037 that sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "names of the two RFCs")]
pub enum Method {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// How a method works.
enum Work {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaSignatureEncoding, &'static dyn VerificationAlgorithm),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static dyn VerificationAlgorithm),
    Ed25519,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 13] = [
        Method::Hs256,
        Method::Hs384,
        Method::Hs512,
        Method::Rs256,
        Method::Rs384,
        Method::Rs512,
        Method::Ps256,
        Method::Ps384,
        Method::Ps512,
        Method::Es256,
        Method::Es384,
        Method::Es512,
        Method::EdDsa,
    ];

    /// The method of a name; case counts.
    pub fn of(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.name() == name)
    }

    /// As the flag and the header of a token name it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Hs256 => "HS256",
            Method::Hs384 => "HS384",
            Method::Hs512 => "HS512",
            Method::Rs256 => "RS256",
            Method::Rs384 => "RS384",
            Method::Rs512 => "RS512",
            Method::Ps256 => "PS256",
            Method::Ps384 => "PS384",
            Method::Ps512 => "PS512",
            Method::Es256 => "ES256",
            Method::Es384 => "ES384",
            Method::Es512 => "ES512",
            Method::EdDsa => "EdDSA",
        }
    }

    fn work(self) -> Work {
        use signature as s;
        match self {
            Method::Hs256 => Work::Hmac(hmac::HMAC_SHA256),
            Method::Hs384 => Work::Hmac(hmac::HMAC_SHA384),
            Method::Hs512 => Work::Hmac(hmac::HMAC_SHA512),
            Method::Rs256 => Work::Rsa(&s::RSA_PKCS1_SHA256, &s::RSA_PKCS1_2048_8192_SHA256),
            Method::Rs384 => Work::Rsa(&s::RSA_PKCS1_SHA384, &s::RSA_PKCS1_2048_8192_SHA384),
            Method::Rs512 => Work::Rsa(&s::RSA_PKCS1_SHA512, &s::RSA_PKCS1_2048_8192_SHA512),
            Method::Ps256 => Work::Rsa(&s::RSA_PSS_SHA256, &s::RSA_PSS_2048_8192_SHA256),
            Method::Ps384 => Work::Rsa(&s::RSA_PSS_SHA384, &s::RSA_PSS_2048_8192_SHA384),
            Method::Ps512 => Work::Rsa(&s::RSA_PSS_SHA512, &s::RSA_PSS_2048_8192_SHA512),
            Method::Es256 => {
                Work::Ecdsa(&s::ECDSA_P256_SHA256_FIXED_SIGNING, &s::ECDSA_P256_SHA256_FIXED)
            }
            Method::Es384 => {
                Work::Ecdsa(&s::ECDSA_P384_SHA384_FIXED_SIGNING, &s::ECDSA_P384_SHA384_FIXED)
            }
            Method::Es512 => {
                Work::Ecdsa(&s::ECDSA_P521_SHA512_FIXED_SIGNING, &s::ECDSA_P521_SHA512_FIXED)
            }
            Method::EdDsa => Work::Ed25519,
        }
    }
}

/// What signs and what verifies.
pub(super) struct Key {
    signer: Option<Signer>,
    verifier: Verifier,
    /// Tells keys apart: the public half, or a sum of the secret.
    identity: Vec<u8>,
}

enum Signer {
    Hmac(Box<hmac::Key>),
    Rsa(rsa::KeyPair, &'static RsaSignatureEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

enum Verifier {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    /// Reads the files.
    pub(super) fn load(options: &JwtOptions) -> Result<Key, TokenOptionError> {
        let read = |path: &Option<std::path::PathBuf>| match path {
            None => Ok(Vec::new()),
            Some(path) => std::fs::read(path).map_err(|error| {
                TokenOptionError::Options(format!("open {}: {error}", path.display()))
            }),
        };
        let (public, private) = (read(&options.public)?, read(&options.private)?);
        let public = (&public[..], options.public.as_deref().unwrap_or(Path::new("")));
        let private = (&private[..], options.private.as_deref().unwrap_or(Path::new("")));
        match options.method.work() {
            Work::Hmac(algorithm) => Key::secret(algorithm, private.0),
            Work::Rsa(signs, verifies) => {
                let signer = |der: &[u8]| {
                    let pair = rsa::KeyPair::from_der(der);
                    let pair = pair.or_else(|_| rsa::KeyPair::from_pkcs8(der)).ok()?;
                    let public = pair.public_key().as_der().ok()?;
                    Some((Signer::Rsa(pair, signs), public))
                };
                Key::pair(verifies, Words::RSA, (private, &signer), public)
            }
            Work::Ecdsa(signs, verifies) => {
                let signer = |der: &[u8]| {
                    let pair = EcdsaKeyPair::from_private_key_der(signs, der).ok()?;
                    let public = pair.public_key().as_der().ok()?;
                    Some((Signer::Ecdsa(pair), public))
                };
                Key::pair(verifies, Words::ECDSA, (private, &signer), public)
            }
            Work::Ed25519 => {
                let signer = |der: &[u8]| {
                    let pair = Ed25519KeyPair::from_pkcs8(der).ok()?;
                    let public = pair.public_key().as_der().ok()?;
                    Some((Signer::Ed25519(pair), public))
                };
                Key::pair(&signature::ED25519, Words::ED25519, (private, &signer), public)
            }
        }
    }

    fn secret(algorithm: hmac::Algorithm, secret: &[u8]) -> Result<Key, TokenOptionError> {
        if secret.is_empty() {
            return Err(TokenOptionError::MissingKey);
        }
        let key = Box::new(hmac::Key::new(algorithm, secret));
        let identity = digest::digest(&digest::SHA256, secret).as_ref().to_vec();
        Ok(Key { signer: Some(Signer::Hmac(key.clone())), verifier: Verifier::Hmac(key), identity })
    }

    /// Of the halves that are there; each with its path.
    fn pair(
        verifies: &'static dyn VerificationAlgorithm,
        words: Words,
        ((private, private_path), signer): ((&[u8], &Path), &SignerOf<'_>),
        (public, public_path): (&[u8], &Path),
    ) -> Result<Key, TokenOptionError> {
        let key = |what, path: &Path| TokenOptionError::Key { what, path: path.to_owned() };
        let mut own = None;
        if !private.is_empty() {
            let der = first_block(private).ok_or_else(|| key(NO_PEM, private_path))?;
            own = Some(signer(&der).ok_or_else(|| key(words.private, private_path))?);
        }
        let mut shown = None;
        if !public.is_empty() {
            let der = first_block(public).ok_or_else(|| key(NO_PEM, public_path))?;
            let parsed = public_key(&der, verifies, words);
            shown = Some(parsed.ok_or_else(|| key(words.public, public_path))?);
        }
        let of_own = |der: &PublicKeyX509Der<'_>| {
            let parsed = ParsedPublicKey::new(verifies, der.as_ref());
            parsed.map_err(|_| key(words.private, private_path))
        };
        let canonical = |parsed: &ParsedPublicKey, path| match parsed.as_der() {
            Ok(der) => Ok(der.as_ref().to_vec()),
            Err(_) => Err(key(words.public, path)),
        };
        let (signer, verifier, identity) = match (own, shown) {
            (None, None) => return Err(TokenOptionError::MissingKey),
            (None, Some(shown)) => {
                let identity = canonical(&shown, public_path)?;
                (None, shown, identity)
            }
            (Some((signer, der)), shown) => {
                let verifier = of_own(&der)?;
                let identity = canonical(&verifier, private_path)?;
                if let Some(shown) = shown
                    && canonical(&shown, public_path)? != identity
                {
                    return Err(TokenOptionError::KeyMismatch);
                }
                (Some(signer), verifier, identity)
            }
        };
        Ok(Key { signer, verifier: Verifier::Public(verifier), identity })
    }

    /// The signature of a text; `None` without a private key, or when the system refuses.
    pub(super) fn sign(&self, text: &[u8]) -> Option<Vec<u8>> {
        match self.signer.as_ref()? {
            Signer::Hmac(key) => Some(hmac::sign(key, text).as_ref().to_vec()),
            Signer::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), text, &mut signature).ok()?;
                Some(signature)
            }
            Signer::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), text).ok()?;
                Some(signature.as_ref().to_vec())
            }
            Signer::Ed25519(pair) => Some(pair.try_sign(text).ok()?.as_ref().to_vec()),
        }
    }

    /// Whether the signature is of this text and this key.
    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Hmac(key) => hmac::verify(key, text, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(text, signature).is_ok(),
        }
    }

    /// Whether it can sign.
    pub(super) fn signs(&self) -> bool {
        self.signer.is_some()
    }

    /// Whether a signature takes so long that no thread that serves should make it.
    pub(super) fn is_slow(&self) -> bool {
        !matches!(self.signer, None | Some(Signer::Hmac(_) | Signer::Ed25519(_)))
    }

    /// Whether it is another name for the same.
    pub(super) fn is_same(&self, other: &Key) -> bool {
        self.identity == other.identity && self.signs() == other.signs()
    }
}

/// Makes a signer of a private key's DER, and gives its public half.
type SignerOf<'a> = dyn Fn(&[u8]) -> Option<(Signer, PublicKeyX509Der<'static>)> + 'a;

/// What is said about a file that holds something else (golang-jwt's words), and where public
/// keys may be.
#[derive(Clone, Copy)]
struct Words {
    private: &'static str,
    public: &'static str,
    /// Whether a certificate does.
    certificate: bool,
    rsa: bool,
}

impl Words {
    const RSA: Words = Words {
        private: "key is not a valid RSA private key of 2048 to 8192 bits",
        public: "key is not a valid RSA public key of 2048 to 8192 bits",
        certificate: true,
        rsa: true,
    };
    const ECDSA: Words = Words {
        private: "key is not a valid ECDSA private key of the method's curve",
        public: "key is not a valid ECDSA public key of the method's curve",
        certificate: true,
        rsa: false,
    };
    const ED25519: Words = Words {
        private: "key is not a valid Ed25519 private key",
        public: "key is not a valid Ed25519 public key",
        certificate: false,
        rsa: false,
    };
}

const NO_PEM: &str = "invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key";

/// The first block of a PEM file that is no list of parameters (openssl writes one before keys
/// of curves).
fn first_block(pem: &[u8]) -> Option<Vec<u8>> {
    let blocks = Pem::iter_from_buffer(pem).map_while(Result::ok);
    blocks
        .map(|block| (block.label, block.contents))
        .find(|(label, _)| label != "EC PARAMETERS")
        .map(|(_, contents)| contents)
}

/// A public key as SPKI, as a certificate that has it, or (RSA) bare.
fn public_key(
    der: &[u8],
    verifies: &'static dyn VerificationAlgorithm,
    words: Words,
) -> Option<ParsedPublicKey> {
    let certificate = X509Certificate::from_der(der).ok().filter(|_| words.certificate);
    let der = certificate.as_ref().map_or(der, |(_, certificate)| certificate.public_key().raw);
    // Raw points and raw Ed25519 keys are none that PEM files hold.
    let is_sequence = der.first() == Some(&0x30);
    let parsed = ParsedPublicKey::new(verifies, der).ok().filter(|_| is_sequence)?;
    if words.rsa {
        // Shorter ones would only be refused with each token.
        let spki = parsed.as_der().ok()?;
        rsa::PublicEncryptingKey::from_der(spki.as_ref()).ok()?;
    }
    Some(parsed)
}
