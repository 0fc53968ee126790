//! The path and the query of a request; their errors have the form of all other answers.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, path, rejection};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::answer::Refusal;

/// The parts of the path.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

/// The fields of the query.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(names)| Self(names))
            .map_err(|rejection| Refusal::new(rejection.status(), path_fault(&rejection)))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(fields)| Self(fields))
            .map_err(|rejection| Refusal::bad(query_fault(&rejection)))
    }
}

fn path_fault(rejection: &PathRejection) -> String {
    if let rejection::PathRejection::FailedToDeserializePathParams(inner) = rejection
        && let path::ErrorKind::InvalidUtf8InPathParam { key } = inner.kind()
    {
        return format!("path: {key}: must be UTF-8");
    }
    format!("path: {}", rejection.body_text())
}

/// serde's error, such as `balance_factor: invalid digit found in string`, without axum's own
/// words.
fn query_fault(rejection: &QueryRejection) -> String {
    let text = rejection.body_text();
    let fault = text.rsplit_once("query string: ").map(|(_, fault)| fault);
    let fault = fault.unwrap_or(&text);
    let missing = fault.strip_prefix("missing field `");
    if let Some(name) = missing.and_then(|rest| rest.strip_suffix('`')) {
        return format!("query: {name}: is missing");
    }
    format!("query: {fault}")
}
