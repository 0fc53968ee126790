//! Requests that become streams of another protocol.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use unitring_tests::deadline::PATIENCE;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::upgraded::Upgraded;

use super::{Pair, routes};

#[tokio::test]
async fn a_websocket_is_placed_by_its_key() -> Result<()> {
    let pair = Pair::start(&|config| {
        config.edit_connections(|manager| {
            manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
            Ok(())
        })
    })
    .await?;
    let owners = pair.agree("/").await?;
    for (key, owner) in &owners {
        for envoy in [&pair.native, &pair.filtered] {
            let mut stream = Upgraded::open(envoy.port, key).await?;
            stream.echo(b"hello").await?;
            assert_eq!(stream.instance, *owner, "{key}");
        }
    }
    pair.is_idle().await
}

#[tokio::test]
async fn a_connect_tunnel_is_placed_by_its_key() -> Result<()> {
    let pair = Pair::start(&|config| {
        config.edit_connections(|manager| {
            manager["upgrade_configs"] = json!([{"upgrade_type": "CONNECT"}]);
            let routes = routes(manager)?;
            let mut route = routes.last().context("no route")?.clone();
            route["match"] = json!({"connect_matcher": {}});
            let ends_here = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
            route["route"]["upgrade_configs"] = ends_here;
            routes.insert(0, route);
            Ok(())
        })
    })
    .await?;
    let owners = pair.agree("/").await?;
    for key in keys(owners.len()) {
        for envoy in [&pair.native, &pair.filtered] {
            let at_its_end = timeout(PATIENCE, tunnel(envoy, &key)).await;
            let at_its_end = at_its_end.context("no answer")??;
            assert_eq!(Some(&at_its_end), owners.get(&key), "{key}");
        }
    }
    pair.is_idle().await
}

/// The instance that answers a request through a tunnel.
async fn tunnel(envoy: &Envoy, key: &str) -> Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", envoy.port)).await?;
    let mut stream = BufReader::new(stream);
    let open = format!("CONNECT it:1 HTTP/1.1\r\nhost: it:1\r\nx-user-id: {key}\r\n\r\n");
    stream.write_all(open.as_bytes()).await?;
    let head = head(&mut stream).await?;
    ensure!(head.starts_with("http/1.1 200"), "{head}");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: it\r\n\r\n")
        .await?;
    let head = self::head(&mut stream).await?;
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.context("no length")?.parse()?];
    stream.read_exact(&mut body).await?;
    let body: Value = serde_json::from_slice(&body)?;
    let instance = body["instance"].as_str();
    Ok(instance.context("nobody says who it is")?.to_owned())
}

/// The lines up to the empty line, in lower case.
async fn head(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = stream.read_line(&mut head).await?;
        ensure!(read > 0, "the stream ended: {head}");
    }
    Ok(head.to_ascii_lowercase())
}
