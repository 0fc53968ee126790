//! Files of certificates and keys → what TLS on our addresses needs, and the names in a client's certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::config::TlsServer;
use crate::tls::{choose_provider, read};

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {why}")]
pub struct CertificateError {
    /// The setting.
    field: &'static str,
    /// The reason.
    why: String,
}

fn wrong(field: &'static str, path: &Path, why: impl std::fmt::Display) -> CertificateError {
    let why = format!("{}: {why}", path.display());
    CertificateError { field, why }
}

fn chain(
    field: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read(path).map_err(|error| wrong(field, path, error.why()))?;
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| wrong(field, path, error))?;
    match chain.is_empty() {
        true => Err(wrong(field, path, "must have a certificate, PEM")),
        false => Ok(chain),
    }
}

/// Reads the files.
///
/// # Errors
/// [`CertificateError`].
pub fn server(files: &TlsServer, protocol: &[u8]) -> Result<Arc<ServerConfig>, CertificateError> {
    choose_provider();
    let certificates = chain("tls_cert", &files.certificate)?;
    let text = read(&files.key).map_err(|error| wrong("tls_key", &files.key, error.why()))?;
    let key = PrivateKeyDer::from_pem_slice(&text);
    let key = key.map_err(|error| wrong("tls_key", &files.key, error))?;
    let builder = ServerConfig::builder();
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let of = |error: &dyn std::fmt::Display| wrong("tls_client_ca", path, error);
            let mut roots = RootCertStore::empty();
            for root in chain("tls_client_ca", path)? {
                roots.add(root).map_err(|error| of(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| of(&error))?)
        }
    };
    let config = builder.with_single_cert(certificates, key);
    let mut config = config.map_err(|error| wrong("tls_cert", &files.certificate, error))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// The DNS names and URIs of a client's certificate, which TLS has verified.
pub fn names(chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let Some(own) = chain.and_then(<[CertificateDer<'_>]>::first) else {
        return Vec::new();
    };
    let Ok(own) = webpki::EndEntityCert::try_from(own) else {
        return Vec::new();
    };
    let dns = own.valid_dns_names().map(str::to_owned);
    dns.chain(own.valid_uri_names().map(str::to_owned))
        .collect()
}
