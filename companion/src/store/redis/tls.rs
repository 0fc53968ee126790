//! Certificates for TLS to Redis, from files that are read at the start and with each reload.

use redis::{Client, ClientTlsConfig, ConnectionInfo, RedisResult, TlsCertificates};

use crate::config::TlsFiles;
use crate::tls::{FileError, choose_provider, read};

/// A client with these certificates, if there are any.
pub(crate) fn client(
    info: ConnectionInfo,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

/// Reads the files. `None` if the system's own roots are enough.
///
/// # Errors [`FileError`] if a file can't be read.
pub(crate) fn certificates(files: &TlsFiles) -> Result<Option<TlsCertificates>, FileError> {
    choose_provider();
    if files.ca.is_none() && files.identity.is_none() {
        return Ok(None);
    }
    let [ca, certificate_setting, key_setting] = files.settings;
    let identity = files.identity.as_ref();
    let client_tls = identity.map(|(certificate, key)| {
        Ok::<_, FileError>(ClientTlsConfig {
            client_cert: read(certificate_setting, certificate)?,
            client_key: read(key_setting, key)?,
        })
    });
    let roots = files.ca.as_deref().map(|path| read(ca, path));
    Ok(Some(TlsCertificates {
        client_tls: client_tls.transpose()?,
        root_cert: roots.transpose()?,
    }))
}
