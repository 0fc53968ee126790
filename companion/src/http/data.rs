//! `PUT`, `GET` and `DELETE /v1/data/{dataset}/{key}`: records. A write is answered once record and
//! outbox entry are stored in one step; a broker that is away does not matter.

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
use crate::store::{StoreError, Written};

fn id((dataset, key): (String, String)) -> Result<RecordId, Refusal> {
    Ok(RecordId {
        dataset: dataset.parse()?,
        key: key.parse()?,
    })
}

/// Refuses what is promised for later, rather than to ignore it.
fn refuse_unsupported(headers: &HeaderMap, query: Option<&str>) -> Result<(), Refusal> {
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        if headers.contains_key(&name) {
            return Err(Refusal::unsupported(name.as_str()));
        }
    }
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

async fn write(app: &App, id: &RecordId, value: Option<&[u8]>) -> Result<Option<Written>, Refusal> {
    if let Some(sync) = &app.sync {
        sync.admit().inspect_err(|_| {
            app.metrics.writes_refused.inc();
        })?;
    }
    let written = app.records.write(id, value, now_ms()).await;
    let written = written.inspect_err(|error| {
        if matches!(error, StoreError::Away(_)) {
            app.metrics.store_errors.inc();
        }
    })?;
    if written.is_some() {
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
    refuse_unsupported(&headers, query.as_deref())?;
    let written = write(&app, &id, Some(&body?)).await?;
    let written = written.ok_or_else(|| Refusal::absent(format!("record {id}")))?;
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(changed(status, &written.version))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(names): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = id(names)?;
    refuse_unsupported(&headers, query.as_deref())?;
    let record = app.records.read(&id).await?;
    match record.and_then(|record| Some((record.version, record.value?))) {
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
    refuse_unsupported(&headers, query.as_deref())?;
    match write(&app, &id, None).await? {
        Some(written) => Ok(changed(StatusCode::OK, &written.version)),
        None => Err(Refusal::absent(format!("record {id}"))),
    }
}
