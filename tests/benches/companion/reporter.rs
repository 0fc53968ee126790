//! One reporter as the companion sees it: one kept connection with one report in flight.

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::body::Body;

/// More than the size of any answer here.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Reporter {
    port: u16,
    body: Body,
    /// `None` before the first report, and after a failure.
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

/// The outcome of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Taken {
        answer_bytes: usize,
    },
    /// Another status, or no answer.
    Refused,
}

impl Reporter {
    pub(crate) fn new(port: u16, number: usize, interval_ms: u64) -> Result<Self> {
        Ok(Self {
            port,
            body: Body::of(number, interval_ms)?,
            connection: None,
        })
    }

    /// Opens the connection, so that no report's latency includes it.
    pub(crate) async fn connect(&mut self) -> Result<()> {
        if self.connection.is_none() {
            self.connection = Some(Connection::to(self.port).await?);
        }
        Ok(())
    }

    /// Sends the next report and reads the whole answer. If the caller drops this future, the next report
    /// opens a new connection.
    pub(crate) async fn report(&mut self) -> Outcome {
        self.exchange().await.unwrap_or(Outcome::Refused)
    }

    async fn exchange(&mut self) -> Result<Outcome> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::to(self.port).await?,
        };
        let (status, answer_bytes) = connection.exchange(self.body.next()?).await?;
        self.connection = Some(connection);
        Ok(match status {
            200 => Outcome::Taken { answer_bytes },
            _ => Outcome::Refused,
        })
    }

    /// The size of the body alone.
    pub(crate) fn report_bytes(&mut self) -> Result<usize> {
        Ok(self.body.next()?.len())
    }
}

impl Connection {
    async fn to(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let bytes = Vec::new();
        Ok(Self { stream, bytes })
    }

    /// The status, and the size of the answer's body.
    async fn exchange(&mut self, body: &[u8]) -> Result<(u16, usize)> {
        self.bytes.clear();
        let head = format!(
            "POST /v1/reports HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(body);
        self.stream.write_all(&self.bytes).await?;
        self.bytes.clear();
        let mut whole = None;
        loop {
            if whole.is_none() {
                whole = head_of(&self.bytes)?;
            }
            if let Some(head) = whole.filter(|head| self.bytes.len() >= head.bytes + head.length) {
                return Ok((head.status, head.length));
            }
            let read = self.stream.read_buf(&mut self.bytes).await?;
            if read == 0 || self.bytes.len() > ANSWER_BYTES_MAX {
                bail!("the answer does not end");
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Head {
    bytes: usize,
    status: u16,
    length: usize,
}

/// `None` while the head is incomplete.
fn head_of(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("an answer without a length")?;
    Ok(Some(Head {
        bytes: end + 4,
        status: status.context("no status")?.parse()?,
        length: length.trim().parse()?,
    }))
}
