//! `PUT`, `GET` and `DELETE /v1/data/{dataset}/{key}`: records. A write is answered once record and
//! outbox entry are stored in one step; a broker that is away does not matter. `If-Match` and
//! `If-None-Match` are decided in that step, too.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use unitring_protocol::record::{RecordId, Version};

use super::App;
use super::answer::Refusal;
use crate::now_ms;
use crate::store::digest::bucket_of;
use crate::store::{Condition, Outcome, StoreError};

fn id((dataset, key): (String, String)) -> Result<RecordId, Refusal> {
    Ok(RecordId {
        dataset: dataset.parse()?,
        key: key.parse()?,
    })
}

/// What must be there, as `If-Match` and `If-None-Match` say (RFC 9110, 13.1).
fn condition(headers: &HeaderMap) -> Result<Condition, Refusal> {
    let said = |name: header::HeaderName| {
        let value = headers.get(&name).map(|value| value.to_str().unwrap_or(""));
        value.map(|value| (name, value.trim().to_owned()))
    };
    match (said(header::IF_MATCH), said(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::Any),
        (Some((_, any)), None) if any == "*" => Ok(Condition::Present),
        (Some((name, tag)), None) => Ok(Condition::Version(version(&name, &tag)?)),
        (None, Some((_, any))) if any == "*" => Ok(Condition::Absent),
        (None, Some((name, _))) => Err(Refusal::bad(format!(
            "{name}: must be * in a write: only if there is no record"
        ))),
        (Some(_), Some(_)) => Err(Refusal::bad("if-match and if-none-match: must not be both")),
    }
}

fn version(name: &header::HeaderName, tag: &str) -> Result<Version, Refusal> {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let version = inner.and_then(|version| version.parse().ok());
    version.ok_or_else(|| {
        let tag: String = tag.chars().take(80).collect();
        Refusal::bad(format!(
            "{name}: {tag}: must be * or one ETag, as it was answered"
        ))
    })
}

/// Whether `If-None-Match` names the version that the caller would get.
fn has_it(headers: &HeaderMap, there: &Version) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = tags.flat_map(|value| value.to_str().unwrap_or("").split(','));
    let wanted = format!("\"{there}\"");
    tags.any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == wanted)
}

/// Refuses what is promised for later, rather than to ignore it.
fn refuse_unsupported(query: Option<&str>) -> Result<(), Refusal> {
    match query {
        Some(query) if !query.is_empty() => Err(Refusal::unsupported(&format!("?{query}"))),
        _ => Ok(()),
    }
}

fn tagged(status: StatusCode, version: &Version, body: impl IntoResponse) -> Response {
    (status, [(header::ETAG, format!("\"{version}\""))], body).into_response()
}

/// The answer to a change.
fn changed(status: StatusCode, version: &Version) -> Response {
    tagged(
        status,
        version,
        Json(serde_json::json!({ "version": version })),
    )
}

/// A write that was not made because something else is there.
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

async fn write(
    app: &App,
    id: &RecordId,
    value: Option<&[u8]>,
    condition: &Condition,
) -> Result<Outcome, Refusal> {
    if let Some(sync) = &app.sync {
        sync.admit().inspect_err(|_| {
            app.metrics.writes_refused.inc();
        })?;
    }
    let written = app.records.write_if(id, value, condition, now_ms()).await;
    let written = written.inspect_err(|error| {
        if matches!(error, StoreError::Away(_)) {
            app.metrics.store_errors.inc();
        }
    })?;
    if matches!(written, Outcome::Done(_)) {
        app.metrics.records_written.inc();
        if let Some(sync) = &app.sync {
            sync.written(bucket_of(id));
        }
    }
    Ok(written)
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let id = id(names)?;
    refuse_unsupported(query.as_deref())?;
    match write(&app, &id, Some(&body?), &condition(&headers)?).await? {
        Outcome::Done(written) if written.created => {
            Ok(changed(StatusCode::CREATED, &written.version))
        }
        Outcome::Done(written) => Ok(changed(StatusCode::OK, &written.version)),
        Outcome::Refused(there) => Ok(conflict(there)),
        Outcome::Nothing => Err(Refusal::absent(format!("record {id}"))),
    }
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id(names)?;
    refuse_unsupported(query.as_deref())?;
    let record = app.records.read(&id).await?;
    match record.and_then(|record| Some((record.version, record.value?))) {
        Some((version, _)) if has_it(&headers, &version) => {
            Ok(tagged(StatusCode::NOT_MODIFIED, &version, ()))
        }
        Some((version, value)) => Ok(tagged(StatusCode::OK, &version, value.0)),
        None => Err(Refusal::absent(format!("record {id}"))),
    }
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id(names)?;
    refuse_unsupported(query.as_deref())?;
    match write(&app, &id, None, &condition(&headers)?).await? {
        Outcome::Done(written) => Ok(changed(StatusCode::OK, &written.version)),
        Outcome::Refused(there) => Ok(conflict(there)),
        Outcome::Nothing => Err(Refusal::absent(format!("record {id}"))),
    }
}
