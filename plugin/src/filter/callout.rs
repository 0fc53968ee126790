//! Requests that a VM sends through Envoy: at most one of a kind at a time, never queued.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};
use unitring_balancer::reporter::AUTHORITY;

/// A kind of callout: when the next is due, and whether one is under way.
#[derive(Debug)]
pub(super) struct Callout {
    interval_ms: u64,
    due_ms: u64,
    token: Option<u32>,
    outcomes: Outcomes,
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

impl Outgoing<'_> {
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The headers, with what [`Self::bearer`] returned.
    pub(super) fn headers<'b>(&'b self, bearer: &'b str) -> Vec<(&'b str, &'b str)> {
        let mut headers = vec![
            (":method", self.method),
            (":path", &self.path),
            (":authority", AUTHORITY),
            ("content-type", "application/json"),
        ];
        if !self.token.is_empty() {
            headers.push(("authorization", bearer));
        }
        headers
    }

    /// The error where Envoy does not send it.
    pub(super) fn has_no_cluster(&self, status: &dyn fmt::Debug) -> String {
        let cluster = self.cluster;
        format!("Envoy has no usable cluster {cluster} ({status:?})")
    }
}

impl Callout {
    pub(super) fn every(interval: Duration) -> Self {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Self {
            interval_ms,
            due_ms: 0,
            token: None,
            outcomes: Outcomes::default(),
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
        let bearer = outgoing.bearer();
        let headers = outgoing.headers(&bearer);
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
            Err(status) => Err(outgoing.has_no_cluster(&status)),
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

    /// As [`Outcomes::log`].
    pub(super) fn log_outcome(&self, what: &str, outcome: Result<(), &str>) {
        self.outcomes.log(what, outcome);
    }
}

/// Whether the last outcome of a kind was a failure.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    failing: Cell<bool>,
}

impl Outcomes {
    /// Logs the first failure of a row and the first success after it, and nothing in between.
    pub(super) fn log(&self, what: &str, outcome: Result<(), &str>) {
        match (outcome, self.failing.replace(outcome.is_err())) {
            (Ok(()), true) => log::info!("unitring: {what}: works again"),
            (Err(error), false) => log::warn!("unitring: {what}: {error}"),
            _ => {}
        }
    }
}

/// The answer to a callout.
pub(super) struct Answer {
    /// Empty if there is none.
    pub(super) status: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The one that Envoy has just received.
    pub(super) fn received(body_size: usize) -> Self {
        let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status");
        let status = status.ok().flatten().unwrap_or_default();
        if status.is_empty() {
            let body = Vec::new();
            return Self { status, body };
        }
        let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size);
        let body = body.ok().flatten().unwrap_or_default();
        Self { status, body }
    }

    /// What it says, for people.
    pub(super) fn shown(&self) -> String {
        const SHOWN_MAX: usize = 200;
        if self.status.is_empty() {
            return "no answer".to_owned();
        }
        let body = String::from_utf8_lossy(&self.body);
        let body: String = body.chars().take(SHOWN_MAX).collect();
        format!("answered {}: {body}", String::from_utf8_lossy(&self.status))
    }
}

/// The body of the answer to a callout, if its status is 200.
pub(super) fn answer(body_size: usize) -> Result<Vec<u8>, String> {
    let answer = Answer::received(body_size);
    match answer.status.as_slice() {
        b"200" => Ok(answer.body),
        _ => Err(answer.shown()),
    }
}
