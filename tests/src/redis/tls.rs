//! A Redis with TLS that requires certificates of its clients.

use std::path::PathBuf;

use anyhow::Result;

use super::Redis;
use crate::certificates::Certificates;
use crate::ports;

/// The server, and the files of both sides.
#[derive(Debug)]
pub struct TlsRedis {
    /// The same server without TLS, for inspection from outside.
    pub server: Redis,
    /// The TLS port.
    pub port: u16,
    certificates: Certificates,
}

impl TlsRedis {
    /// Starts Redis with certificates of a test authority.
    ///
    /// # Errors
    /// Redis does not come up.
    pub async fn start(lines: &[&str]) -> Result<Self> {
        let certificates = Certificates::make()?;
        let port = ports::free()?;
        let file = |name: &str| certificates.path(name);
        let own = [
            format!("tls-port {port}"),
            format!("tls-ca-cert-file {}", file("ca.pem")),
            format!("tls-cert-file {}", file("server.pem")),
            format!("tls-key-file {}", file("server.key")),
            "tls-auth-clients yes".to_owned(),
        ];
        let own = own.iter().map(String::as_str);
        let all: Vec<&str> = own.chain(lines.iter().copied()).collect();
        let server = Redis::start_with(&all).await?;
        Ok(Self {
            server,
            port,
            certificates,
        })
    }

    /// The path of one of the files: `ca.pem`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.certificates.file(name)
    }
}
