//! What all TLS connections of the process share.

use std::path::{Path, PathBuf};
use std::sync::Once;

/// Chooses the cryptography of rustls; only the first call counts.
pub(crate) fn choose_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that another part of the process has chosen one before.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

/// A file of certificates or keys can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// The file.
    pub(crate) path: PathBuf,
    /// The reason.
    source: std::io::Error,
}

impl FileError {
    /// The reason, without the name of the file.
    pub(crate) fn why(&self) -> String {
        self.source.to_string()
    }
}

/// Reads a file of certificates or keys.
///
/// # Errors [`FileError`] if it can't be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError {
        path: path.to_owned(),
        source,
    })
}
