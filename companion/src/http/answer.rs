//! Errors as answers: a status and `{"error": "..."}`.

use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use unitring_protocol::ids::InvalidName;

use super::fault;
use crate::loads::ReportError;
use crate::store::StoreError;

/// Why a request can't be served.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    is_full: bool,
}

/// An extension of an answer: why it is an error, for the log.
#[derive(Debug, Clone)]
pub(super) struct Why(pub(super) String);

/// An extension of an answer: a bound of the store is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsFull;

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            is_full: false,
        }
    }

    /// The request breaks a rule (400).
    pub(super) fn bad(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    /// The resource does not exist (404).
    pub(super) fn absent(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what}: not found"))
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The error for the client.
    pub(super) fn error(&self) -> &str {
        &self.error
    }

    /// The feature is not implemented yet (501).
    pub(super) fn unsupported(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{what}: not supported yet"),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let is_full = self.is_full.then_some(Extension(IsFull));
        let body = Json(serde_json::json!({ "error": self.error }));
        (self.status, is_full, Extension(Why(self.error)), body).into_response()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            return Self {
                is_full: matches!(error, StoreError::TooMany { .. }),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            };
        }
        if let StoreError::OutOfBounds(why) = &error {
            return Self::bad(why);
        }
        if let StoreError::NotYours(_) = &error {
            return Self::new(StatusCode::FORBIDDEN, error.to_string());
        }
        // The log names corrupt data once, and has a bounded line of a request that fails.
        if !matches!(error, StoreError::Corrupt(_)) {
            tracing::error!(%error, "store");
        }
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<InvalidName> for Refusal {
    fn from(error: InvalidName) -> Self {
        Self::bad(error)
    }
}

impl From<ReportError> for Refusal {
    fn from(error: ReportError) -> Self {
        Self::bad(error)
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        let status = rejection.status();
        let why = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "is too large",
            _ => "broke off before its end",
        };
        Self::new(status, format!("body: {why}"))
    }
}

/// Parses a body, an object of JSON.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    fault::object(body).map_err(|why| Refusal::bad(format!("body: {why}")))
}
