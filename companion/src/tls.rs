//! What every TLS connection of the process shares.

use std::path::{Path, PathBuf};
use std::sync::Once;

/// Says which cryptography rustls uses; the first call counts.
pub(crate) fn choose_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that somebody else has chosen one before.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

/// A file of certificates or keys can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// Which.
    pub(crate) path: PathBuf,
    /// Why.
    source: std::io::Error,
}

impl FileError {
    /// Why, without the name of the file.
    pub(crate) fn why(&self) -> String {
        self.source.to_string()
    }
}

/// Reads a file of certificates or keys.
///
/// # Errors
/// [`FileError`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError {
        path: path.to_owned(),
        source,
    })
}
