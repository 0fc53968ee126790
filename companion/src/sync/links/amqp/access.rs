//! How to get into brokers: logins, and certificates for TLS. Both can be read again while links run; a link uses them
//! with its next connection.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};

use crate::config::{SyncSettings, Url};
use crate::tls::{FileError, choose_provider, read};

/// Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Access(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    /// The URL of each broker, by the same without a login.
    urls: BTreeMap<String, Url>,
    roots: Option<String>,
    /// A certificate and its key, PEM.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors The first file that can't be read, with the reason.
    pub(crate) fn read(settings: &SyncSettings) -> Result<Self, FileError> {
        let access = Self::default();
        access.read_again(settings)?;
        Ok(access)
    }

    /// Puts these logins and files into force.
    ///
    /// # Errors The same; then nothing changes.
    pub(crate) fn read_again(&self, settings: &SyncSettings) -> Result<(), FileError> {
        choose_provider();
        let files = &settings.tls;
        let [ca_setting, certificate_setting, key_setting] = files.settings;
        let roots = files.ca.as_deref().map(|path| read(ca_setting, path));
        let roots = roots.transpose()?;
        let identity = match &files.identity {
            Some((certificate, key)) => Some((
                read(certificate_setting, certificate)?,
                read(key_setting, key)?,
            )),
            None => None,
        };
        let urls = settings.brokers.values().chain([&settings.amqp_url]);
        let known = Known {
            urls: urls.map(|url| (url.place(), url.clone())).collect(),
            roots: roots.map(|roots| String::from_utf8_lossy(&roots).into_owned()),
            identity,
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// The URL of the same broker, with the login that is in force.
    pub(super) fn url(&self, url: &Url) -> Url {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.urls.get(&url.place()).unwrap_or(url).clone()
    }

    pub(super) fn config(&self) -> OwnedTLSConfig {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let identity = known.identity.clone();
        OwnedTLSConfig {
            identity: identity.map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key }),
            cert_chain: known.roots.clone(),
        }
    }
}
