//! Requests that a VM sends through Envoy: at most one of a kind at a time, never queued.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

/// What we call the other side, whatever the cluster's name is: a companion answers to few names, so that no page
/// of another site reaches it through a browser.
pub(super) const AUTHORITY: &str = "unitring";

/// A kind of callout: when the next is due, and whether one is under way.
#[derive(Debug)]
pub(super) struct Callout {
    interval_ms: u64,
    due_ms: u64,
    token: Option<u32>,
    failing: bool,
}

/// The request of a callout.
pub(super) struct Outgoing<'a> {
    pub(super) cluster: &'a str,
    pub(super) method: &'a str,
    pub(super) path: String,
    pub(super) token: &'a str,
    pub(super) body: Option<&'a [u8]>,
    pub(super) timeout: Duration,
}

impl<'a> Outgoing<'a> {
    pub(super) fn get(cluster: &'a str, path: String, token: &'a str, timeout: Duration) -> Self {
        Self {
            cluster,
            method: "GET",
            path,
            token,
            body: None,
            timeout,
        }
    }
}

impl Callout {
    pub(super) fn every(interval: Duration) -> Self {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Self {
            interval_ms,
            due_ms: 0,
            token: None,
            failing: false,
        }
    }

    /// Whether to send now. A callout under way is never overtaken; Envoy ends each callout at its
    /// timeout, so an answer always arrives. A clock that was set back does not stop callouts.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        let set_back = self.due_ms > now_ms.saturating_add(self.interval_ms);
        self.token.is_none() && (now_ms >= self.due_ms || set_back)
    }

    pub(super) fn send(&mut self, outgoing: &Outgoing<'_>, now_ms: u64) -> Result<(), String> {
        self.due_ms = now_ms.saturating_add(self.interval_ms);
        let bearer = format!("Bearer {}", outgoing.token);
        let mut headers = vec![
            (":method", outgoing.method),
            (":path", &outgoing.path),
            (":authority", AUTHORITY),
            ("content-type", "application/json"),
        ];
        if !outgoing.token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let sent = hostcalls::dispatch_http_call(
            outgoing.cluster,
            headers,
            outgoing.body,
            vec![],
            outgoing.timeout,
        );
        match sent {
            Ok(token) => {
                self.token = Some(token);
                Ok(())
            }
            Err(status) => Err(format!(
                "Envoy has no usable cluster {} ({status:?})",
                outgoing.cluster
            )),
        }
    }

    /// Whether `token` is this callout's, whose answer ends it.
    pub(super) fn ends_with(&mut self, token: u32) -> bool {
        let ours = self.token == Some(token);
        if ours {
            self.token = None;
        }
        ours
    }

    /// Logs the first failure of a row and the first success after it, and nothing in between.
    pub(super) fn log_outcome(&mut self, what: &str, outcome: Result<(), &str>) {
        match outcome {
            Ok(()) if self.failing => log::info!("unitring: {what}: works again"),
            Err(error) if !self.failing => log::warn!("unitring: {what}: {error}"),
            _ => {}
        }
        self.failing = outcome.is_err();
    }
}

/// The body of the answer to a callout, if its status is 200.
pub(super) fn answer(body_size: usize) -> Result<Vec<u8>, String> {
    let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status");
    let status = status.ok().flatten().unwrap_or_default();
    if status.is_empty() {
        return Err("no answer".to_owned());
    }
    let body = hostcalls::get_buffer(
        proxy_wasm::types::BufferType::HttpCallResponseBody,
        0,
        body_size,
    );
    let body = body.ok().flatten().unwrap_or_default();
    if status == b"200" {
        return Ok(body);
    }
    const SHOWN_MAX: usize = 200;
    let shown: String = String::from_utf8_lossy(&body)
        .chars()
        .take(SHOWN_MAX)
        .collect();
    Err(format!(
        "answered {}: {shown}",
        String::from_utf8_lossy(&status)
    ))
}
