//! `GET /v1/fixed` and `GET /v1/fixed/{dataset}/{key}`: the fixed data, which no client writes
//! here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::App;
use super::answer::Refusal;
use super::extract::Path;
use crate::store::Fixed;

pub(super) async fn all(State(app): State<Arc<App>>) -> Result<Json<Fixed>, Refusal> {
    let fixed = app.store.fixed().await?;
    let fixed = fixed.ok_or_else(|| Refusal::absent("fixed data of this unit"))?;
    Ok(Json(fixed))
}

pub(super) async fn value(
    State(app): State<Arc<App>>,
    Path((dataset, key)): Path<(String, String)>,
) -> Result<Vec<u8>, Refusal> {
    let (dataset, key) = (dataset.parse()?, key.parse()?);
    let value = app.store.fixed_value(&dataset, &key).await?;
    value.ok_or_else(|| Refusal::absent(format!("fixed {dataset}/{key}")))
}
