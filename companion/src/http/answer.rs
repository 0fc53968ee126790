//! Errors as answers: a status and `{"error": "..."}`.

use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use unitring_protocol::ids::InvalidName;

use crate::loads::ReportError;
use crate::store::StoreError;

/// What a request gets that can't be served.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    is_full: bool,
}

/// Beside an answer: the store holds as much of this as it may.
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

    /// The request breaks a rule.
    pub(super) fn bad(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    /// There is no such thing.
    pub(super) fn absent(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what}: not found"))
    }

    /// Whose fault it is.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong.
    pub(super) fn error(&self) -> &str {
        &self.error
    }

    /// It is promised for later.
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
        (self.status, is_full, body).into_response()
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
        tracing::error!(%error, "store");
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
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// Reads a JSON body.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("body: {error}")))
}
