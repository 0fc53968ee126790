//! `POST /v1/data/{dataset}`: many writes in one request, a JSON object on each line. Each write
//! stands alone; the answer has one result a line, in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use unitring_protocol::ids::{DatasetName, RecordKey};
use unitring_protocol::record::{RecordId, VALUE_BYTES_MAX, Version};

use super::super::App;
use super::super::answer::Refusal;
use super::super::extract::Path;
use super::super::fault;
use super::{date, expiry, write};
use crate::clock::now_ms;
use crate::store::{Change, Condition, Outcome};

/// Most writes in a request.
const WRITES_MAX: usize = 1_000;
/// Most concurrent writes.
const AT_A_TIME: usize = 64;

/// A line of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: RecordKey,
    /// The value in base64.
    value: Option<unitring_protocol::record::Value>,
    /// The value as text.
    text: Option<String>,
    #[serde(default)]
    delete: bool,
    ttl: Option<String>,
    expires_ms: Option<u64>,
    if_match: Option<Version>,
    /// Write only if there is no such record.
    #[serde(default)]
    create: bool,
}

/// A validated write.
struct Ready {
    id: RecordId,
    value: Option<Vec<u8>>,
    expires_ms: Option<u64>,
    condition: Condition,
}

impl Line {
    fn ready(self, dataset: &DatasetName) -> Result<Ready, String> {
        let value = match (self.value, self.text, self.delete) {
            (Some(value), None, false) => Some(value.0),
            (None, Some(text), false) => Some(text.into_bytes()),
            (None, None, true) => None,
            _ => return Err("must have one of value, text and delete".to_owned()),
        };
        if value
            .as_ref()
            .is_some_and(|value| value.len() > VALUE_BYTES_MAX)
        {
            return Err(format!("value: must be at most {VALUE_BYTES_MAX} bytes"));
        }
        let condition = match (self.if_match, self.create) {
            (None, false) => Condition::Any,
            (None, true) => Condition::Absent,
            (Some(version), false) => Condition::Version(version),
            (Some(_), true) => {
                return Err("must have at most one of if_match and create".to_owned());
            }
        };
        let expires_ms = match (self.ttl, self.expires_ms) {
            (Some(_), Some(_)) => {
                return Err("must have at most one of ttl and expires_ms".to_owned());
            }
            (ttl, None) => expiry(ttl.as_deref(), now_ms())?,
            (None, expires_ms) => expires_ms.map(|ms| date(ms, now_ms())).transpose()?,
        };
        if value.is_none() && expires_ms.is_some() {
            return Err("a deletion must have neither ttl nor expires_ms".to_owned());
        }
        let dataset = dataset.clone();
        Ok(Ready {
            id: RecordId {
                dataset,
                key: self.key,
            },
            value,
            expires_ms,
            condition,
        })
    }
}

/// All writes, or the first error: then none is written.
fn read(body: &[u8], dataset: &DatasetName) -> Result<Vec<Ready>, Refusal> {
    let (mut ready, mut keys) = (Vec::new(), BTreeSet::new());
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.trim_ascii().is_empty()) {
        let bad = |why: &dyn std::fmt::Display| Refusal::bad(format!("line {}: {why}", index + 1));
        if ready.len() >= WRITES_MAX {
            return Err(bad(&format!("must be at most {WRITES_MAX} writes")));
        }
        let line: Line = fault::object(line).map_err(|why| bad(&why))?;
        let one = line.ready(dataset).map_err(|why| bad(&why))?;
        // The writes run concurrently, so the last one of a key would be undefined.
        if !keys.insert(one.id.key.clone()) {
            return Err(bad(&"names a key again"));
        }
        ready.push(one);
    }
    Ok(ready)
}

pub(in crate::http) async fn post(
    State(app): State<Arc<App>>,
    Path(dataset): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let ready = read(&body?, &super::dataset(&dataset)?)?;
    let results = futures::stream::iter(ready.into_iter().map(|one| made(&app, one)));
    let results: Vec<(bool, Value)> = results.buffered(AT_A_TIME).collect().await;
    let all = results.iter().all(|(is_made, _)| *is_made);
    let status = if all {
        StatusCode::OK
    } else {
        StatusCode::MULTI_STATUS
    };
    let results: Vec<Value> = results.into_iter().map(|(_, result)| result).collect();
    Ok((status, Json(json!({ "results": results }))).into_response())
}

async fn made(app: &App, one: Ready) -> (bool, Value) {
    let change = match &one.value {
        Some(value) => Change::Put {
            value,
            expires_ms: one.expires_ms,
        },
        None => Change::Delete,
    };
    let key = &one.id.key;
    match write(app, &one.id, change, &one.condition).await {
        Ok(Outcome::Done(written)) => (true, json!({"key": key, "version": written.version})),
        // The record is gone, as requested.
        Ok(Outcome::Nothing | Outcome::Overtaken) => (true, json!({"key": key, "version": null})),
        Ok(Outcome::Refused(there)) => (
            false,
            json!({"key": key, "status": 412, "error": "something else is there", "version": there}),
        ),
        Err(refusal) => (
            false,
            json!({"key": key, "status": refusal.status().as_u16(), "error": refusal.error()}),
        ),
    }
}
