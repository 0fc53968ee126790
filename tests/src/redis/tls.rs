//! A Redis that speaks TLS and asks its clients for a certificate.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::Redis;
use crate::ports;

/// The server, and the files of both sides.
#[derive(Debug)]
pub struct TlsRedis {
    /// Its plain side, for looks from outside.
    pub server: Redis,
    /// Its TLS port.
    pub port: u16,
    folder: TempDir,
}

impl TlsRedis {
    /// Starts it with certificates of an own authority.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(lines: &[&str]) -> Result<Self> {
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
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            let mut params = CertificateParams::new(names)?;
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer)?;
            fs::write(folder.path().join(format!("{name}.pem")), certificate.pem())?;
            let file = folder.path().join(format!("{name}.key"));
            fs::write(file, key.serialize_pem())?;
        }
        let port = ports::free()?;
        let at = folder.path().display();
        let own = [
            format!("tls-port {port}"),
            format!("tls-ca-cert-file {at}/ca.pem"),
            format!("tls-cert-file {at}/server.pem"),
            format!("tls-key-file {at}/server.key"),
            "tls-auth-clients yes".to_owned(),
        ];
        let own = own.iter().map(String::as_str);
        let all: Vec<&str> = own.chain(lines.iter().copied()).collect();
        let server = Redis::start_with(&all).await?;
        Ok(Self {
            server,
            port,
            folder,
        })
    }

    /// A file of it: `ca.pem`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
