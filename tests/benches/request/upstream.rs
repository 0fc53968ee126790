//! Many instances in one: a server on all addresses of 127.0.0.0/8, which answers with the address that
//! the request was sent to.

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
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-at: {at}\r\n\r\n{at}",
        at.len()
    );
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = stream.read_until(b'\n', &mut line).await?;
        (read > 0).then_some(()).context("the end")?;
        // The clients send no bodies.
        if line == b"\r\n" {
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}
