//! A test certificate authority, with a certificate for a server and one for a client.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// The folder of `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key`.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes the authority and both certificates, for 127.0.0.1.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn make() -> Result<Self> {
        let folder = TempDir::with_prefix("unitring-tls-")?;
        let authority = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&authority)?;
        fs::write(folder.path().join("ca.pem"), root.pem())?;
        let issuer = Issuer::new(params, authority);
        for name in ["server", "client"] {
            let key = KeyPair::generate()?;
            // By the last one a companion knows the client.
            let names = ["127.0.0.1", "localhost", &format!("{name}.example")];
            let mut params = CertificateParams::new(names.map(str::to_owned))?;
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer)?;
            fs::write(folder.path().join(format!("{name}.pem")), certificate.pem())?;
            let file = folder.path().join(format!("{name}.key"));
            fs::write(file, key.serialize_pem())?;
        }
        Ok(Self { folder })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts the files of another authority in place of these, as a renewal does.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn replace_by(&self, other: &Self) -> Result<()> {
        for entry in fs::read_dir(other.folder.path())? {
            let entry = entry?;
            fs::copy(entry.path(), self.folder.path().join(entry.file_name()))?;
        }
        Ok(())
    }

    /// The path of one of the files, as text.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}
