//! `GET /v1/data/{dataset}`: the records of a dataset, in pages.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::super::App;
use super::super::answer::Refusal;
use super::super::extract::{Path, Query};
use super::{watch, with_expiry};
use crate::clock::now_ms;
use crate::door::Caller;
use crate::store::Listed;

/// About the most records in a page, and the default below.
const LIMIT_MAX: usize = 1_000;
const LIMIT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Question {
    #[serde(default)]
    pub(super) prefix: String,
    after: Option<String>,
    limit: Option<usize>,
    watch: Option<bool>,
}

/// A record in a listing, without its value.
pub(super) fn shown(record: &Listed) -> serde_json::Value {
    let shown = json!({"key": record.id.key, "version": record.mark.version});
    with_expiry(shown, record.mark.expires_ms)
}

pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(dataset): Path<String>,
    Query(question): Query<Question>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let dataset = super::dataset(&dataset)?;
    if question.watch == Some(true) {
        return watch::watch(app, dataset, question.prefix, &headers, &caller);
    }
    let limit = question.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let after = question.after.as_deref();
    let (mut bucket, mut from) = after.map_or(Ok((0, String::new())), place)?;
    let (mut records, now) = (Vec::new(), now_ms());
    let next = loop {
        let of = (&dataset, question.prefix.as_str());
        let left = limit - records.len().min(limit);
        let (some, more) = app.store.list(bucket, of, &from, left.max(1), now).await?;
        records.extend(some.iter().map(shown));
        let next = match more {
            Some(more) => (bucket, more),
            None => match bucket.checked_add(1) {
                Some(next) => (next, String::new()),
                None => break None,
            },
        };
        (bucket, from) = next;
        if records.len() >= limit {
            break Some(format!("{bucket}.{from}"));
        }
    };
    Ok(Json(json!({"records": records, "after": next})).into_response())
}

/// The position where a page begins: a bucket, and a place in it that only the store can read.
fn place(after: &str) -> Result<(u8, String), Refusal> {
    let place = after.split_once('.');
    let place = place.and_then(|(bucket, from)| Some((bucket.parse().ok()?, from.to_owned())));
    place.ok_or_else(|| Refusal::bad("query: after: must be the cursor of the previous page"))
}
