//! What TLS to Redis needs, from files that are read once, at start.

use redis::{Client, ClientTlsConfig, ConnectionInfo, RedisResult, TlsCertificates};

use crate::config::TlsFiles;
use crate::tls::{FileError, choose_provider, read};

/// A client that speaks TLS by these, where it is to.
pub(crate) fn client(
    info: ConnectionInfo,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

/// Reads them. `None` where the system's own roots are enough.
///
/// # Errors
/// [`FileError`].
pub(crate) fn certificates(files: &TlsFiles) -> Result<Option<TlsCertificates>, FileError> {
    choose_provider();
    if *files == TlsFiles::default() {
        return Ok(None);
    }
    let identity = files.identity.as_ref();
    let client_tls = identity.map(|(certificate, key)| {
        Ok::<_, FileError>(ClientTlsConfig {
            client_cert: read(certificate)?,
            client_key: read(key)?,
        })
    });
    Ok(Some(TlsCertificates {
        client_tls: client_tls.transpose()?,
        root_cert: files.ca.as_deref().map(read).transpose()?,
    }))
}
