//! `GET /v1/services/{s}/locate?key=`: where a key goes, by the filter's own code.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::report::{BoundReport, LoadScope};

use super::App;
use super::answer::Refusal;
use super::extract::{Path, Query};
use crate::clock::now_ms;
use crate::door::Caller;
use crate::explain::{self, ExplainError, Newcomer, Question};
use crate::loads::{self, StoredLoad};
use crate::registry::WEIGHT_MAX;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    key: String,
    /// The reporter whose report is used; without it, the latest report.
    reporter: Option<ReporterId>,
    balance_factor: Option<u32>,
    min_capacity: Option<u64>,
    max_in_flight: Option<u64>,
    without: Option<InstanceId>,
    with: Option<InstanceId>,
    with_address: Option<String>,
    with_weight: Option<NonZeroU32>,
}

#[derive(Debug, Serialize)]
pub(super) struct Answer {
    service: ServiceName,
    reporter: ReporterId,
    #[serde(flatten)]
    answer: explain::Answer,
}

pub(super) async fn locate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Answer>, Refusal> {
    let service: ServiceName = service.parse()?;
    let all = app.store.loads(&service, now_ms()).await?;
    let by = report(&asked, &service, &all)?;
    let mut question = question(asked, by)?;
    if let Some(gone) = &question.without {
        question.without = Some(reported(&app, &service, by, gone).await?);
    }
    let (by, reporter) = (by.clone(), by.reporter.clone());
    let answer = move || explain::explain(&question, &by, &all);
    let answer = app.heavy.run(&app.metrics, &caller, answer).await??;
    Ok(Json(Answer {
        service,
        reporter,
        answer,
    }))
}

/// The id by which a filter reports an instance, from the instance's id in the registry or its
/// address: by default a filter knows addresses only.
async fn reported(
    app: &App,
    service: &ServiceName,
    by: &StoredLoad,
    asked: &InstanceId,
) -> Result<InstanceId, Refusal> {
    let id_at = |address: &str| {
        let mut instances = by.instances.iter();
        let found = instances.find(|load| load.address == address);
        found.map(|load| load.id.clone())
    };
    if by.instances.iter().any(|load| load.id == *asked) {
        return Ok(asked.clone());
    }
    if let Some(id) = id_at(asked.as_str()) {
        return Ok(id);
    }
    let registry = app.store.registry().await?;
    let mut registered = registry.instances(service.as_str());
    let registered = registered.find(|instance| instance.id == *asked);
    let id = registered.and_then(|instance| id_at(&instance.address.to_string()));
    Ok(id.unwrap_or_else(|| asked.clone()))
}

fn report<'a>(
    asked: &Asked,
    service: &ServiceName,
    all: &'a [StoredLoad],
) -> Result<&'a StoredLoad, Refusal> {
    let found = match &asked.reporter {
        Some(reporter) => all.iter().find(|load| load.reporter == *reporter),
        None => loads::latest(all),
    };
    found.ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            match &asked.reporter {
                Some(reporter) => format!("{reporter} has not reported on service {service}"),
                None => format!("service {service}: no Envoy has reported on it"),
            },
        )
    })
}

fn question(asked: Asked, by: &StoredLoad) -> Result<Question, Refusal> {
    let with = asked.with.map(|id| {
        let address = asked.with_address.as_deref().unwrap_or(id.as_str());
        let address: SocketAddr = address.parse().map_err(|_| {
            Refusal::bad(format!(
                "query: with_address: {address:?}: must be an ip:port, unless `with` is one"
            ))
        })?;
        let weight = asked.with_weight.unwrap_or(NonZeroU32::MIN);
        if weight.get() > WEIGHT_MAX {
            return Err(Refusal::bad(format!(
                "query: with_weight: {weight}: must be from 1 to {WEIGHT_MAX}"
            )));
        }
        Ok::<_, Refusal>(Newcomer {
            id,
            address,
            weight,
        })
    });
    let reported = by.source.reported();
    let usual = reported.and_then(|it| it.bound).unwrap_or(BoundReport {
        balance_factor: 0,
        min_capacity: 0,
        max_in_flight: 0,
        scope: LoadScope::Fleet,
    });
    Ok(Question {
        key: asked.key,
        bound: Some(BoundReport {
            balance_factor: asked.balance_factor.unwrap_or(usual.balance_factor),
            min_capacity: asked.min_capacity.unwrap_or(usual.min_capacity),
            max_in_flight: asked.max_in_flight.unwrap_or(usual.max_in_flight),
            scope: usual.scope,
        }),
        without: asked.without,
        with: with.transpose()?,
    })
}

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Self {
        let status = match &error {
            ExplainError::Unknown(_) => StatusCode::NOT_FOUND,
            ExplainError::Known(_) => StatusCode::CONFLICT,
            ExplainError::NoShape | ExplainError::Ring(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}
