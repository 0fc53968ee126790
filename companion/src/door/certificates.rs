//! Files of certificates and keys → what TLS on our addresses needs, and the names in a client's certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;

use crate::config::TlsServer;
use crate::tls::{FileError, chain, choose_provider, key, roots, unfit};

/// Reads the files.
///
/// # Errors
/// [`FileError`].
pub(crate) fn server(files: &TlsServer, protocol: &[u8]) -> Result<Arc<ServerConfig>, FileError> {
    choose_provider();
    let certificates = chain("tls_cert", &files.certificate)?;
    let private = key("tls_key", &files.key)?;
    let builder = ServerConfig::builder();
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots("tls_client_ca", path)?);
            let verifier = WebPkiClientVerifier::builder(roots).build();
            let wrong = |error| FileError::new("tls_client_ca", path, error);
            builder.with_client_cert_verifier(verifier.map_err(wrong)?)
        }
    };
    let config = builder.with_single_cert(certificates, private);
    let of_key = ("tls_key", files.key.as_path());
    let wrong = |error| unfit("tls_cert", &files.certificate, of_key, &error);
    let mut config = config.map_err(wrong)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// The DNS names and URIs of a client's certificate, which TLS has verified.
pub(crate) fn names(chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
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
