//! An instance of a TCP service: `tcp_instance <id> <port> [proxy]`. It speaks first: a line with its id and with
//! the address from which the connection came. With `proxy`, that is the address in a PROXY protocol line.
//!
//! The client then sends a line with the purpose of the connection:
//!
//! | line | what the instance does |
//! |---|---|
//! | `echo` | sends back all that comes, until the client ends its half; then it ends its own |
//! | `take` | reads until the client ends its half, and then sends the number of bytes; its log says how it ended |
//! | `flood` | sends without end, whether the client reads or not |
//! | `say N` | sends N bytes, and ends its half; then it reads until the client ends |
//! | `leave` | closes at once |
//! | `reset` | closes by a reset |
//! | `load` | sends how many connections are open, and the most that were: `3 7` |
//!
//! A connection that sends no such line, as a health check does, is not counted.

mod counter;

use std::env;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use counter::Counter;

/// Longer than each line that is expected.
const LINE_BYTES_MAX: u64 = 256;
const PIECE: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (Some(id), Some(port)) = (env::args().nth(1), env::args().nth(2)) else {
        bail!("usage: tcp_instance <id> <port> [proxy]");
    };
    let is_proxied = env::args().nth(3).is_some_and(|word| word == "proxy");
    let port: u16 = port.parse().context("the port")?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let counter = Arc::new(Counter::default());
    loop {
        let (stream, peer) = listener.accept().await?;
        let (id, counter) = (id.clone(), Arc::clone(&counter));
        tokio::spawn(async move {
            // A client that goes away is not an error of the instance.
            drop(serve(&id, &counter, stream, peer, is_proxied).await);
        });
    }
}

async fn serve(
    id: &str,
    counter: &Arc<Counter>,
    stream: TcpStream,
    peer: SocketAddr,
    is_proxied: bool,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut from = peer.to_string();
    if is_proxied {
        from = source(&line(&mut stream).await?)?;
    }
    stream
        .write_all(format!("{id} {from}\n").as_bytes())
        .await?;
    let asked = line(&mut stream).await?;
    let mut words = asked.split_whitespace();
    let verb = words.next().context("no word")?;
    if verb == "load" {
        let told = counter.to_string();
        return Ok(stream.write_all(told.as_bytes()).await?);
    }
    let _counted = counter.count();
    match verb {
        "echo" => echo(&mut stream).await,
        "take" => take(&mut stream).await,
        "flood" => loop {
            stream.write_all(&[b'x'; PIECE]).await?;
        },
        "say" => {
            let bytes = words.next().context("how many?")?.parse()?;
            say(&mut stream, bytes).await
        }
        "leave" => Ok(()),
        "reset" => Ok(stream.into_inner().set_zero_linger()?),
        other => bail!("{other}: not a word of this instance"),
    }
}

/// A line without its end.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    stream.take(LINE_BYTES_MAX).read_line(&mut line).await?;
    let line = line.strip_suffix('\n').context("no whole line")?;
    Ok(line.to_owned())
}

/// The client's address in `PROXY TCP4 <client> <server> <client's port> <server's port>`.
fn source(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["PROXY", "TCP4", address, _, port, _] = words.as_slice() else {
        bail!("{line}: not a line of the PROXY protocol");
    };
    Ok(format!("{address}:{port}"))
}

async fn echo(stream: &mut BufReader<TcpStream>) -> Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = stream.read(&mut piece).await?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(stream.shutdown().await?);
        };
        stream.write_all(bytes).await?;
    }
}

async fn take(stream: &mut BufReader<TcpStream>) -> Result<()> {
    let came = tokio::io::copy_buf(stream, &mut tokio::io::sink()).await;
    println!("take: {}", came.as_ref().map_or("a reset", |_| "an end"));
    let came = came?;
    stream.write_all(format!("{came}\n").as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn say(stream: &mut BufReader<TcpStream>, mut bytes: usize) -> Result<()> {
    let piece = [b'x'; PIECE];
    while bytes > 0 {
        let next = piece.get(..bytes.min(PIECE)).unwrap_or(&piece);
        stream.write_all(next).await?;
        bytes -= next.len();
    }
    stream.shutdown().await?;
    tokio::io::copy_buf(stream, &mut tokio::io::sink()).await?;
    Ok(())
}
