//! The path and the query of a request; their errors have the form of all other answers.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, path, rejection};
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::answer::Refusal;
use super::fault;

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
        utf8(parts.uri.query().unwrap_or_default()).map_err(Refusal::bad)?;
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

/// Refuses bytes that are no text. axum would replace them with another character, which would be another key.
fn utf8(query: &str) -> Result<(), String> {
    let is_text = |part: &str| percent_decode_str(part).decode_utf8().is_ok();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !is_text(name) {
            return Err("query: must be UTF-8".to_owned());
        }
        if !is_text(value) {
            let name = percent_decode_str(name).decode_utf8_lossy();
            return Err(format!("query: {name}: must be UTF-8"));
        }
    }
    Ok(())
}

/// The error of a query, without axum's own words.
fn query_fault(rejection: &QueryRejection) -> String {
    let text = rejection.body_text();
    let fault = text.split_once("query string: ").map(|(_, fault)| fault);
    format!("query: {}", fault::of_query(fault.unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_no_text_is_refused_by_its_field() {
        for query in ["", "key=ada", "key=%C3%A9&a", "key=a+b%25", "key=%zz", "&&"] {
            assert_eq!(utf8(query), Ok(()), "{query}");
        }
        for (query, error) in [
            ("key=%ff", "query: key: must be UTF-8"),
            ("a=b&key=%C3", "query: key: must be UTF-8"),
            ("%ff=b", "query: must be UTF-8"),
            ("%ff", "query: must be UTF-8"),
        ] {
            assert_eq!(utf8(query), Err(error.to_owned()));
        }
    }
}
