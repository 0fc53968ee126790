//! The companion's way in, tried as an attacker would: with real connections, bounded in time.
//!
//! In each test an honest client with every role goes on: it registers, reports and reads.

mod browser;
mod flood;
mod fuzz;
mod keeps;
mod roles;
mod start;
mod tls;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method, Response};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use unitring_tests::companion::Companion;
use unitring_tests::report::{instance, report, service};

/// The address that attacks come from, where it matters.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A client with every role, as a filter and a service have.
struct Honest {
    client: Client,
    url: String,
    token: Option<&'static str>,
    sequence: u64,
    /// How long each round took.
    rounds: Vec<Duration>,
}

impl Honest {
    fn new(companion: &Companion, token: Option<&'static str>) -> Result<Self> {
        Ok(Self {
            client: Client::builder().build()?,
            url: format!("http://127.0.0.1:{}", companion.port),
            token,
            sequence: 0,
            rounds: Vec::new(),
        })
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response> {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        Ok(request.body(body).send().await?)
    }

    async fn succeeds(&self, method: Method, path: &str, body: Vec<u8>) -> Result<String> {
        let response = self.call(method, path, body).await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(text)
    }

    /// Sends a heartbeat and a report, and reads the services.
    async fn goes_on(&mut self) -> Result<()> {
        let begun = Instant::now();
        // As a filter has it, so that another one of the same name is not old.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        self.sequence = u64::try_from(since.as_millis())?.max(self.sequence + 1);
        let beat = json!({"ttl": "100s"}).to_string().into_bytes();
        let path = "/v1/services/orders/instances/10.0.0.1:80";
        self.succeeds(Method::PUT, path, beat).await?;
        let loads = vec![instance("10.0.0.1:80", "10.0.0.1:80", 1)];
        let mut report = report("honest~1", self.sequence, vec![service("orders", loads)]);
        // It counts for a while: the companion may be busy before the services are read.
        report["interval_ms"] = json!(20_000);
        let report = report.to_string().into_bytes();
        self.succeeds(Method::POST, "/v1/reports", report).await?;
        let text = self
            .succeeds(Method::GET, "/v1/services/orders", Vec::new())
            .await?;
        ensure!(
            text.contains("10.0.0.1:80") && text.contains("honest~1"),
            "{text}"
        );
        self.rounds.push(begun.elapsed());
        Ok(())
    }

    async fn counts(&self, line: &str) -> Result<()> {
        let text = self.succeeds(Method::GET, "/metrics", Vec::new()).await?;
        let name = line.split(' ').next().unwrap_or_default();
        let found = text.lines().find(|found| found.starts_with(name));
        ensure!(found == Some(line), "{line}: {found:?}");
        Ok(())
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.succeeds(Method::GET, "/metrics", Vec::new()).await?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = values.find_map(|rest| rest.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name}"))?.parse()?)
    }
}

impl Drop for Honest {
    /// Prints its times, for the page of security.
    fn drop(&mut self) {
        self.rounds.sort();
        let (half, last) = (self.rounds.len() / 2, self.rounds.last());
        let rounds = self.rounds.len();
        if let (Some(median), Some(last)) = (self.rounds.get(half).filter(|_| rounds > 5), last) {
            println!(
                "{rounds} rounds of heartbeat, report and read: median {median:.1?}, slowest {last:.1?}"
            );
        }
    }
}

/// Opens a connection from an address, and sends these bytes.
async fn connect(from: Ipv4Addr, port: u16, bytes: &[u8]) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
    stream.write_all(bytes).await?;
    Ok(stream)
}
