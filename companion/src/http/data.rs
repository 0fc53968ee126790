//! `PUT`, `GET` and `DELETE /v1/data/{dataset}/{key}`: records. A write is answered once one step
//! has stored record and outbox entry; it does not need the broker. The same step decides
//! `If-Match` and `If-None-Match`. Datasets as a whole are in the submodules.

pub(super) mod batch;
pub(super) mod listing;
mod watch;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use unitring_protocol::ids::DatasetName;
use unitring_protocol::record::{RecordId, Version};
use unitring_protocol::updates::TTL_MS_MAX;

use super::App;
use super::answer::Refusal;
use super::extract::{Path, Query};
use crate::clock::now_ms;
use crate::config::parse_duration;
use crate::replica::digest::bucket_of;
use crate::store::{Change, Condition, Outcome, StoreError};

/// Datasets with this name, or with this name and a dot as prefix, are unitring's own.
const RESERVED: &str = "unitring";

/// Parses the name of a dataset that clients may use.
pub(super) fn dataset(name: &str) -> Result<DatasetName, Refusal> {
    let rest = name.strip_prefix(RESERVED);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        return Err(Refusal::bad(format!(
            "dataset {name:?}: unitring keeps its own records there"
        )));
    }
    Ok(name.parse()?)
}

fn id((name, key): (String, String)) -> Result<RecordId, Refusal> {
    Ok(RecordId {
        dataset: dataset(&name)?,
        key: key.parse()?,
    })
}

/// A list-valued header as one list: its lines mean the same as one line with commas between them (RFC 9110, 5.3). A
/// line that is no text is an item that no rule takes.
fn list_of(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    let lines = headers.get_all(name).iter();
    let lines = lines.map(|line| line.to_str().unwrap_or("?").trim());
    let lines: Vec<&str> = lines.collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// The condition of `If-Match` and `If-None-Match` (RFC 9110, 13.1).
fn condition(headers: &HeaderMap) -> Result<Condition, Refusal> {
    let said = |name: header::HeaderName| Some((list_of(headers, &name)?, name));
    match (said(header::IF_MATCH), said(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::Any),
        (Some((any, _)), None) if any == "*" => Ok(Condition::Present),
        (Some((tags, name)), None) => versions(&name, &tags),
        (None, Some((any, _))) if any == "*" => Ok(Condition::Absent),
        (None, Some((_, name))) => Err(Refusal::bad(format!(
            "{name}: must be * in a write: only if there is no record"
        ))),
        (Some(_), Some(_)) => Err(Refusal::bad("if-match and if-none-match: must not be both")),
    }
}

/// Most ETags in a condition.
const TAGS_MAX: usize = 16;

/// Parses ETags as one of several versions. Neither a weak tag nor one that no record can have
/// equals a version.
fn versions(name: &header::HeaderName, tags: &str) -> Result<Condition, Refusal> {
    let bad = |tag: &str| {
        let tag: String = tag.chars().take(80).collect();
        Refusal::bad(format!(
            "{name}: {tag}: must be * or at most {TAGS_MAX} ETags, as they were answered"
        ))
    };
    let mut versions: Vec<Version> = Vec::new();
    let mut count = 0_usize;
    // A list may have empty items (RFC 9110, 5.6.1), but is not empty.
    let items = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    for tag in items {
        count += 1;
        let strong = tag.strip_prefix("W/").unwrap_or(tag);
        let inner = strong
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'));
        let inner = inner
            .filter(|_| count <= TAGS_MAX)
            .ok_or_else(|| bad(tag))?;
        if strong == tag {
            versions.extend(inner.parse::<Version>().ok());
        }
    }
    if count == 0 {
        return Err(bad(tags));
    }
    Ok(match versions.as_slice() {
        [version] => Condition::Version(version.clone()),
        _ => Condition::OneOf(versions),
    })
}

/// Whether `If-None-Match` names the version that the caller would get.
fn has_it(headers: &HeaderMap, there: &Version) -> bool {
    let tags = list_of(headers, &header::IF_NONE_MATCH).unwrap_or_default();
    let wanted = format!("\"{there}\"");
    tags.split(',')
        .any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == wanted)
}

/// The query of a write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    ttl: Option<String>,
}

/// Checks a date at which a record may expire.
fn date(expires_ms: u64, now_ms: u64) -> Result<u64, String> {
    if expires_ms > now_ms.saturating_add(TTL_MS_MAX) {
        return Err(format!(
            "expires_ms: {expires_ms}: must be at most ten years from now"
        ));
    }
    Ok(expires_ms)
}

/// When a record with this time to live expires.
fn expiry(ttl: Option<&str>, now_ms: u64) -> Result<Option<u64>, String> {
    let Some(ttl) = ttl else { return Ok(None) };
    let parsed = parse_duration(ttl).and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
    match parsed {
        Some(ttl_ms @ 1..=TTL_MS_MAX) => Ok(Some(now_ms.saturating_add(ttl_ms))),
        _ => Err(format!(
            "ttl: {ttl:?}: must be a duration from 1ms to ten years, as \"60s\""
        )),
    }
}

fn tagged(status: StatusCode, version: &Version, body: impl IntoResponse) -> Response {
    (status, [(header::ETAG, format!("\"{version}\""))], body).into_response()
}

/// The answer to a change.
fn changed(status: StatusCode, version: &Version, expires_ms: Option<u64>) -> Response {
    let body = with_expiry(serde_json::json!({ "version": version }), expires_ms);
    tagged(status, version, Json(body))
}

/// Adds the date to the object, if there is one.
fn with_expiry(mut shown: serde_json::Value, expires_ms: Option<u64>) -> serde_json::Value {
    if let (Some(fields), Some(expires_ms)) = (shown.as_object_mut(), expires_ms) {
        fields.insert("expires_ms".to_owned(), expires_ms.into());
    }
    shown
}

/// The answer to a write whose condition does not hold.
fn conflict(there: Option<Version>) -> Response {
    let error = serde_json::json!({
        "error": match &there {
            Some(version) => format!("the record is there in version {version}"),
            None => "there is no such record".to_owned(),
        },
        "version": there,
    });
    match there {
        Some(there) => tagged(StatusCode::PRECONDITION_FAILED, &there, Json(error)),
        None => (StatusCode::PRECONDITION_FAILED, Json(error)).into_response(),
    }
}

pub(super) async fn write(
    app: &App,
    id: &RecordId,
    change: Change<'_>,
    condition: &Condition,
) -> Result<Outcome, Refusal> {
    if let Some(sync) = &app.sync {
        sync.admit().inspect_err(|_| {
            app.metrics.writes_refused.inc();
        })?;
    }
    let written = app.store.write_if(id, change, condition, now_ms()).await;
    let written = written.inspect_err(|error| {
        if matches!(error, StoreError::Away(_)) {
            app.metrics.store_errors.inc();
        }
    })?;
    if matches!(written, Outcome::Done(_)) {
        app.metrics.records_written.inc();
        app.follower.changed();
        if let Some(sync) = &app.sync {
            let bytes = match change {
                Change::Put { value, .. } => value.len(),
                Change::Delete | Change::Again => 0,
            };
            sync.written(bucket_of(id), bytes);
        }
    }
    Ok(written)
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    Query(question): Query<Question>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let id = id(names)?;
    let expires_ms = expiry(question.ttl.as_deref(), now_ms()).map_err(Refusal::bad)?;
    let (condition, value) = (condition(&headers)?, &body?);
    let change = Change::Put { value, expires_ms };
    match write(&app, &id, change, &condition).await? {
        Outcome::Done(written) => {
            let created = StatusCode::CREATED;
            let status = if written.created {
                created
            } else {
                StatusCode::OK
            };
            Ok(changed(status, &written.version, expires_ms))
        }
        Outcome::Refused(there) => Ok(conflict(there)),
        Outcome::Nothing | Outcome::Overtaken => Err(Refusal::absent(format!("record {id}"))),
    }
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id(names)?;
    let absent = || Refusal::absent(format!("record {id}"));
    let record = app.store.read(&id).await?.ok_or_else(absent)?;
    let value = record.live(now_ms()).ok_or_else(absent)?;
    let mut response = if has_it(&headers, &record.version) {
        tagged(StatusCode::NOT_MODIFIED, &record.version, ())
    } else {
        tagged(StatusCode::OK, &record.version, value.0.clone())
    };
    if let Some(expires_ms) = record.expires_ms {
        let headers = response.headers_mut();
        headers.insert("x-unitring-expires", HeaderValue::from(expires_ms));
    }
    Ok(response)
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id(names)?;
    match write(&app, &id, Change::Delete, &condition(&headers)?).await? {
        Outcome::Done(written) => Ok(changed(StatusCode::OK, &written.version, None)),
        Outcome::Refused(there) => Ok(conflict(there)),
        Outcome::Nothing | Outcome::Overtaken => Err(Refusal::absent(format!("record {id}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[(&'static str, &'static str)]) -> Result<Condition, u16> {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, HeaderValue::from_static(line));
        }
        condition(&headers).map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn repeated_lines_are_one_list() {
        let (one, two) = (r#""1.0@east""#, r#""2.0@east""#);
        let version = |text: &str| text.trim_matches('"').parse::<Version>().unwrap();
        let both = Ok(Condition::OneOf(vec![version(one), version(two)]));
        assert_eq!(said(&[("if-match", one), ("if-match", two)]), both);
        assert_eq!(said(&[("if-match", r#""1.0@east", "2.0@east""#)]), both);
        // An empty line or item is none.
        let gaps = [("if-match", ""), ("if-match", r#""1.0@east",,"#)];
        assert_eq!(said(&gaps), Ok(Condition::Version(version(one))));
        // A second line must not get lost: the star means what it means alone.
        assert_eq!(said(&[("if-match", one), ("if-match", "*")]), Err(400));
        assert_eq!(said(&[("if-match", "*"), ("if-match", one)]), Err(400));
        let twice = [("if-none-match", "*"), ("if-none-match", one)];
        assert_eq!(said(&twice), Err(400));
        assert_eq!(said(&[("if-match", ""), ("if-match", "")]), Err(400));
        let many: Vec<_> = std::iter::repeat_n(("if-match", one), TAGS_MAX + 1).collect();
        assert_eq!(said(&many), Err(400));
        assert!(said(&many[1..]).is_ok());
    }

    #[test]
    fn a_read_knows_the_version_of_any_line() {
        let mut headers = HeaderMap::new();
        for line in [r#""1.0@east""#, r#"W/"2.0@east", "3.0@east""#] {
            headers.append(header::IF_NONE_MATCH, HeaderValue::from_static(line));
        }
        let has = |text: &str| has_it(&headers, &text.parse().unwrap());
        assert!(has("1.0@east") && has("2.0@east") && has("3.0@east"));
        assert!(!has("4.0@east"));
    }
}
