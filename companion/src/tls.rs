//! What all TLS connections of the process share: the cryptography, and the files of certificates and keys.
//!
//! Invariant: every file is read and checked here, so that each of its errors names the setting, the file
//! and the way out. A client's checks of its server are not here.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::TlsFiles;
use crate::files;

/// Chooses the cryptography of rustls; only the first call counts.
pub(crate) fn choose_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that another part of the process has chosen one before.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

/// A file of certificates or keys can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {path}: {why}", path = path.display())]
pub struct FileError {
    /// The setting or the flag that names it.
    setting: &'static str,
    pub(crate) path: PathBuf,
    why: String,
}

impl FileError {
    /// An error of the file that a setting or a flag names.
    pub(crate) fn new(setting: &'static str, path: &Path, why: impl Display) -> Self {
        Self {
            setting,
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

/// Reads a file of certificates or keys.
///
/// # Errors [`FileError`] if it can't be read.
pub(crate) fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::new(setting, path, files::why(&error)))
}

/// The certificates of a file, one at least.
///
/// # Errors [`FileError`].
pub(crate) fn chain(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = read(setting, path)?;
    let rule = "must have a certificate in PEM, which begins with -----BEGIN CERTIFICATE-----";
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(FileError::new(setting, path, rule)),
        Err(error) => Err(FileError::new(setting, path, format!("{rule}: {error}"))),
    }
}

/// The private key of a file.
///
/// # Errors [`FileError`].
pub(crate) fn key(setting: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let text = read(setting, path)?;
    let rule = "must have a private key in PEM, which begins with -----BEGIN PRIVATE KEY-----";
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => FileError::new(setting, path, rule),
        error => FileError::new(setting, path, format!("{rule}: {error}")),
    })
}

/// The roots of a file, one at least.
///
/// # Errors [`FileError`].
pub(crate) fn roots(setting: &'static str, path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for root in chain(setting, path)? {
        let added = roots.add(root);
        added.map_err(|error| {
            let why = format!("has a certificate that cannot be trusted: {error}");
            FileError::new(setting, path, why)
        })?;
    }
    Ok(roots)
}

/// A certificate that does not go with its key, or cannot be used.
pub(crate) fn unfit(
    setting: &'static str,
    path: &Path,
    key: (&'static str, &Path),
    error: &rustls::Error,
) -> FileError {
    let why = match error {
        rustls::Error::InconsistentKeys(_) => {
            let (key, file) = key;
            format!("{key} {} is the key of another certificate", file.display())
        }
        error => error.to_string(),
    };
    FileError::new(setting, path, why)
}

/// Whether a client can use these files.
///
/// # Errors [`FileError`] of the first that it can't.
pub(crate) fn check(files: &TlsFiles) -> Result<(), FileError> {
    choose_provider();
    let [ca_setting, certificate_setting, key_setting] = files.settings;
    if let Some(path) = &files.ca {
        roots(ca_setting, path)?;
    }
    if let Some((certificate, file)) = &files.identity {
        let chain = chain(certificate_setting, certificate)?;
        let key = key(key_setting, file)?;
        let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
        config.with_client_auth_cert(chain, key).map_err(|error| {
            unfit(
                certificate_setting,
                certificate,
                (key_setting, file),
                &error,
            )
        })?;
    }
    Ok(())
}
