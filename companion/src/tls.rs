//! What every TLS connection of the process shares.

use std::path::Path;
use std::sync::Once;

use crate::store::StoreError;

/// Says which cryptography rustls uses; the first call counts.
pub(crate) fn choose_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that somebody else has chosen one before.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

/// Reads a file of certificates or keys.
///
/// # Errors
/// [`StoreError::File`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::File {
        path: path.to_owned(),
        message: error.to_string(),
    })
}
