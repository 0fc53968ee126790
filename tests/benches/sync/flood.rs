//! A writer that costs little: one thread, prepared requests, answers that are counted and not parsed. What
//! it has beside itself on these cores are the units.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::VALUE_BYTES;

/// Connections that write.
pub(crate) const WRITERS: u64 = 64;
/// Requests that each of them has in flight.
const AT_ONCE: u64 = 4;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const LENGTH: &[u8] = b"content-length: ";
const DONE: &[u8] = b"HTTP/1.1 20";

/// One request that puts a record of the dataset `bench`.
pub(crate) fn put(key: &str) -> Vec<u8> {
    let value = "v".repeat(VALUE_BYTES);
    let head = format!("PUT /v1/data/bench/{key} HTTP/1.1\r\nhost: localhost\r\n");
    format!("{head}content-length: {VALUE_BYTES}\r\n\r\n{value}").into_bytes()
}

/// How long the writes took, and the writer's own processor time.
pub(crate) struct Written {
    pub(crate) took: Duration,
    pub(crate) used: Duration,
}

/// Puts this many new records, as fast as the companion takes them, from [`WRITERS`] connections with [`AT_ONCE`]
/// requests in flight each.
pub(crate) async fn write(port: u16, name: &str, count: u64) -> Result<Written> {
    let name = name.to_owned();
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // A benchmark that has ended does not listen.
        drop(tell.send(write_here(port, &name, count)));
    });
    told.await.map_err(|_| anyhow!("the writer broke"))?
}

fn write_here(port: u16, name: &str, count: u64) -> Result<Written> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (began, used) = (Instant::now(), thread_time()?);
    runtime.block_on(async {
        let writers = (0..WRITERS).map(|writer| write_on_one(port, name, writer, count));
        futures_util::future::try_join_all(writers).await
    })?;
    Ok(Written {
        took: began.elapsed(),
        used: thread_time()?.saturating_sub(used),
    })
}

/// Writer `w` puts the records w, w + [`WRITERS`], …; whenever an answer comes, the next request goes.
async fn write_on_one(port: u16, name: &str, writer: u64, count: u64) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let mut numbers = (writer..count).step_by(usize::try_from(WRITERS)?);
    let mut in_flight = 0;
    let mut answers = Vec::with_capacity(16 << 10);
    let mut requests = Vec::new();
    loop {
        requests.clear();
        for number in numbers.by_ref().take(usize::try_from(AT_ONCE - in_flight)?) {
            requests.extend_from_slice(&put(&format!("{name}-{number}")));
            in_flight += 1;
        }
        stream.write_all(&requests).await?;
        if in_flight == 0 {
            return Ok(());
        }
        ensure!(
            stream.read_buf(&mut answers).await? > 0,
            "the connection ended"
        );
        let (came, bytes) = count_answers(&answers)?;
        answers.drain(..bytes);
        in_flight -= came;
    }
}

/// How many whole answers these bytes begin with, and how long these are.
fn count_answers(bytes: &[u8]) -> Result<(u64, usize)> {
    let (mut count, mut at) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(head) = find(rest, END_OF_HEAD) else {
            break;
        };
        let (head, _) = rest.split_at(head + END_OF_HEAD.len());
        if !head.starts_with(DONE) {
            bail!("{}", String::from_utf8_lossy(rest));
        }
        let length = find(head, LENGTH).context("no length")?;
        let digits = head.iter().skip(length + LENGTH.len());
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        let body = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if rest.len() < head.len() + body {
            break;
        }
        at += head.len() + body;
        count += 1;
    }
    Ok((count, at))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// How long this thread has run.
fn thread_time() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ran = text.split(' ').next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(ran.parse()?))
}
