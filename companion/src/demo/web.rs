//! Requests and connections of the demo to its programs.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use ureq::http::Request;

const TIMEOUT: Duration = Duration::from_secs(5);
/// More of a greeting is not read.
const GREETING_BYTES: u64 = 256;

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: Option<String>,
    pub(super) body: String,
}

/// Sends a request; the error is for people.
pub(super) async fn request(method: &str, url: &str, body: &str) -> Result<Answer, String> {
    let (method, url, body) = (method.to_owned(), url.to_owned(), body.to_owned());
    let send = tokio::task::spawn_blocking(move || send(&method, &url, body));
    send.await.map_err(|error| error.to_string())?
}

fn send(method: &str, url: &str, body: String) -> Result<Answer, String> {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .build()
        .new_agent();
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("x-user-id", "unitring-demo")
        .header("content-type", "application/json");
    let failed = |error: &dyn std::fmt::Display| format!("{method} {url}: {error}");
    let request = request.body(body).map_err(|error| failed(&error))?;
    let mut response = agent.run(request).map_err(|error| failed(&error))?;
    let body = response.body_mut().read_to_string();
    let reason = response.headers().get("x-unitring-reason");
    Ok(Answer {
        status: response.status().as_u16(),
        reason: reason.and_then(|reason| Some(reason.to_str().ok()?.to_owned())),
        body: body.map_err(|error| failed(&error))?,
    })
}

/// Whether a GET succeeds.
pub(super) async fn is_well(url: &str) -> bool {
    let answer = request("GET", url, "").await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Whether a server listens on the port.
pub(super) async fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_ok()
}

/// The first line that a server says to a new connection, empty if it closes; the error is for people.
pub(super) async fn greeting(port: u16) -> Result<String, String> {
    let hear = async {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let mut line = String::new();
        let mut input = BufReader::new(connection).take(GREETING_BYTES);
        input.read_line(&mut line).await.map(|_| line)
    };
    let heard = tokio::time::timeout(TIMEOUT, hear).await;
    let heard = heard.map_err(|_| format!("127.0.0.1:{port} says nothing"))?;
    heard.map_err(|error| format!("127.0.0.1:{port}: {error}"))
}
