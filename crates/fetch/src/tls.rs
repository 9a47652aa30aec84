//! TLS in Rust and assembly inside of it, with the system's certificates, for the processors that it is written for.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;

/// What encrypts. Errors say what this machine lacks.
pub fn provider() -> Result<Arc<CryptoProvider>, &'static str> {
    graviola::provider()
}

/// The system's certificates, read once.
pub fn roots() -> Result<&'static RootCertStore, &'static str> {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates());
        roots
    });
    match roots.is_empty() {
        true => Err(NO_CERTIFICATES),
        false => Ok(roots),
    }
}

/// The same as they stand in files.
pub(crate) fn certificates() -> Vec<rustls::pki_types::CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

pub(crate) const NO_CERTIFICATES: &str = "this machine has no certificates to check https with";

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod graviola {
    use super::*;

    pub fn provider() -> Result<Arc<CryptoProvider>, &'static str> {
        match has_instructions() {
            true => Ok(Arc::new(rustls_graviola::default_provider())),
            false => Err("this processor lacks the instructions for https"),
        }
    }

    /// What graviola says that it needs; without it, it panics.
    fn has_instructions() -> bool {
        #[cfg(target_arch = "x86_64")]
        return std::is_x86_feature_detected!("aes")
            && std::is_x86_feature_detected!("ssse3")
            && std::is_x86_feature_detected!("avx")
            && std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("adx")
            && std::is_x86_feature_detected!("bmi1")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        return std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("sha2")
            && std::arch::is_aarch64_feature_detected!("pmull")
            && std::arch::is_aarch64_feature_detected!("neon");
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod graviola {
    use super::*;

    pub fn provider() -> Result<Arc<CryptoProvider>, &'static str> {
        Err("https is not there on this kind of processor")
    }
}
