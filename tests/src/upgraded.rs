//! A client of an upgraded connection: a stream through Envoy that stays open until it is dropped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::deadline::PATIENCE;

/// Enough for any head that an instance or Envoy sends.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An open stream.
#[derive(Debug)]
pub struct Upgraded {
    /// The instance at the other end.
    pub instance: String,
    stream: TcpStream,
}

impl Upgraded {
    /// Requests an upgrade from the server on this port, with this key.
    ///
    /// # Errors
    /// The answer is anything but 101.
    pub async fn open(port: u16, key: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let head = format!(
            "GET /stream HTTP/1.1\r\nhost: unitring\r\nx-user-id: {key}\r\n\
             connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            ensure!(
                answer.len() < HEAD_BYTES_MAX,
                "the answer's head is endless"
            );
            // The bytes after the head belong to the stream: not a byte more may be read.
            let byte = patiently(PATIENCE, stream.read_u8()).await?;
            answer.push(byte);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(answer.starts_with("HTTP/1.1 101 "), "no upgrade: {answer}");
        let mut lines = answer.lines();
        let instance = lines.find_map(|line| line.strip_prefix("x-instance: "));
        Ok(Self {
            instance: instance.context("no instance said who it is")?.to_owned(),
            stream,
        })
    }

    /// Sends these bytes and waits until they have come back.
    ///
    /// # Errors
    /// The stream ended, or other bytes came.
    pub async fn echo(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        let mut back = vec![0; bytes.len()];
        patiently(PATIENCE, self.stream.read_exact(&mut back)).await?;
        ensure!(back == bytes, "another echo");
        Ok(())
    }
}

async fn patiently<T>(
    limit: Duration,
    reading: impl Future<Output = std::io::Result<T>>,
) -> Result<T> {
    timeout(limit, reading)
        .await
        .with_context(|| format!("nothing came for {limit:?}"))?
        .context("the stream ended")
}
