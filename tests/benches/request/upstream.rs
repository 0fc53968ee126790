//! Many instances in one: a server on all addresses of 127.0.0.0/8, which answers with the address that
//! the request was sent to, and announces the data update that a request's `x-announce` asks for.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Serves until the program ends.
pub(crate) struct Upstream {
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Upstream {
    pub(crate) async fn start(instances: u32) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move { serve(stream).await.ok() });
            }
        });
        let first = u32::from(Ipv4Addr::new(127, 0, 1, 1));
        let addresses = (first..first + instances).map(Ipv4Addr::from);
        Ok(Self {
            addresses: addresses.map(|ip| (ip, port).into()).collect(),
        })
    }
}

async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let at = stream.local_addr()?.to_string();
    let answer = |update: &str| {
        let length = at.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-at: {at}\r\n{update}\r\n{at}")
    };
    let plain = answer("");
    let mut update: Option<String> = None;
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = stream.read_until(b'\n', &mut line).await?;
        (read > 0).then_some(()).context("the end")?;
        // The clients send no bodies.
        if line == b"\r\n" {
            let announcing = update.take().map(|update| answer(&update));
            let answer = announcing.as_ref().unwrap_or(&plain);
            stream.write_all(answer.as_bytes()).await?;
        } else if let Some(value) = line.strip_prefix(b"x-announce: ") {
            let value = String::from_utf8_lossy(value);
            update = Some(format!("x-unitring-update: {value}"));
        }
    }
}
