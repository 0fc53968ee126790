//! A client that sends raw bytes: a path, header or cookie that no HTTP library would send, from any
//! address of this machine, and many pipelined requests on one connection.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::deadline::PATIENCE;
use crate::tcp::connect;

/// Requests that are sent before their answers are read: few enough for the buffers on the way.
const PIPELINED_MAX: usize = 64;

/// An open connection.
#[derive(Debug)]
pub struct Raw {
    stream: BufReader<TcpStream>,
}

/// The head of an answer.
#[derive(Debug, Default)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of this name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other == name)?;
        Some(value)
    }
}

/// A request without a body, as bytes; the headers must include `host`.
pub fn get(path: &[u8], headers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut request = [b"GET ", path, b" HTTP/1.1\r\n"].concat();
    for (name, value) in headers {
        request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    request
}

impl Raw {
    /// Connects to this port of 127.0.0.1 from this client address.
    ///
    /// # Errors
    /// The port has no listener, or this machine does not have the address.
    pub async fn connect_from(client: Ipv4Addr, port: u16) -> Result<Self> {
        let stream = connect(port, client).await?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends these requests and reads their answers, in the same order.
    ///
    /// # Errors
    /// The connection ends, or an answer is not HTTP with a length.
    pub async fn ask(&mut self, requests: &[Vec<u8>]) -> Result<Vec<Head>> {
        let mut answers = Vec::with_capacity(requests.len());
        for part in requests.chunks(PIPELINED_MAX) {
            self.stream.get_mut().write_all(&part.concat()).await?;
            for _ in part {
                let answer = timeout(PATIENCE, self.answer()).await;
                answers.push(answer.context("no answer")??);
            }
        }
        Ok(answers)
    }

    async fn answer(&mut self) -> Result<Head> {
        let status = self.line().await?;
        let status = status.split(' ').nth(1).with_context(|| status.clone())?;
        let mut head = Head {
            status: status.parse().context("the status")?,
            headers: Vec::new(),
        };
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a value")?;
            let header = (name.to_ascii_lowercase(), value.trim().to_owned());
            head.headers.push(header);
        }
        let length: usize = head
            .header("content-length")
            .context("no length")?
            .parse()?;
        self.stream.read_exact(&mut vec![0; length]).await?;
        Ok(head)
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await?;
        ensure!(line.ends_with(b"\r\n"), "the connection ended");
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}
