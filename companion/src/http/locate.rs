//! `GET /v1/services/{s}/locate?key=`: where a key goes, by the code that the filter decides with.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use unitring_protocol::ids::ServiceName;
use unitring_protocol::report::{RingReport, RingShape};
use unitring_routing::bounded::Bound;
use unitring_routing::hash::xxh64;
use unitring_routing::membership::Member;
use unitring_routing::ring::Shape;
use unitring_routing::table::Table;

use super::App;
use super::answer::Refusal;
use crate::loads::{self, StoredLoad};
use crate::now_ms;

/// Candidates that are shown.
const CANDIDATES: usize = 3;

/// The query: the key, and the bound if it is to be applied.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    key: String,
    balance_factor: Option<NonZeroU32>,
    min_capacity: Option<u64>,
}

/// Where a key goes, and why.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    service: ServiceName,
    key: String,
    /// `xxh64` of the key, 16 hex digits.
    hash: String,
    owner: Candidate,
    candidates: Vec<Candidate>,
    reason: &'static str,
    ring: RingReport,
}

#[derive(Debug, Clone, Serialize)]
struct Candidate {
    id: String,
    address: String,
    weight: u32,
    in_flight: u64,
}

pub(super) async fn locate(
    State(app): State<Arc<App>>,
    Path(service): Path<String>,
    Query(question): Query<Question>,
) -> Result<Json<Answer>, Refusal> {
    let service: ServiceName = service.parse()?;
    let loads = app.fleet.loads(&service, now_ms()).await?;
    let Some(latest) = loads::latest(&loads) else {
        let what = format!("reports on service {service}: a filter has to report first; one");
        return Err(Refusal::absent(what));
    };
    answer(service, question, latest, &loads).map(Json)
}

fn shape(shape: RingShape) -> Option<Shape> {
    Some(match shape {
        RingShape::Envoy {
            min_size, max_size, ..
        } => Shape::Envoy { min_size, max_size },
        RingShape::Fixed {
            virtual_nodes,
            max_size,
            ..
        } => Shape::Fixed {
            virtual_nodes: NonZeroU32::new(virtual_nodes)?,
            max_size,
        },
        RingShape::Maglev { .. } => return None,
    })
}

fn answer(
    service: ServiceName,
    question: Question,
    latest: &StoredLoad,
    loads: &[StoredLoad],
) -> Result<Answer, Refusal> {
    let members: Vec<Member> = latest
        .instances
        .iter()
        .filter_map(|instance| {
            Some(Member {
                id: instance.id.to_string(),
                address: instance.address.clone(),
                weight: NonZeroU32::new(instance.weight)?,
                healthy: instance.healthy,
            })
        })
        .collect();
    let unprocessable = |error: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error);
    let shape = shape(latest.ring.shape)
        .ok_or_else(|| unprocessable("the report's ring has no virtual nodes".to_owned()))?;
    let table = Table::build(&members, shape).map_err(|error| unprocessable(error.to_string()))?;
    let fleet = loads::rest(&service, loads, None);
    let in_flight = |id: &str| {
        let found = fleet.rest.iter().find(|rest| rest.id.as_str() == id);
        found.map_or(0, |rest| rest.in_flight)
    };
    let by_index: Vec<u64> = table
        .hosts()
        .iter()
        .map(|host| in_flight(&host.id))
        .collect();
    let total = by_index
        .iter()
        .fold(0u64, |sum, load| sum.saturating_add(*load));
    let bound = question.balance_factor.map(|balance_factor| Bound {
        balance_factor,
        min_capacity: question.min_capacity.unwrap_or(0),
    });
    let hash = xxh64(question.key.as_bytes());
    let load = |index: usize| by_index.get(index).copied().unwrap_or(0);
    let choose = |bound| table.choose(hash, CANDIDATES, bound, load, || total);
    let absent = || {
        Refusal::absent(format!(
            "an instance of service {service} that takes requests"
        ))
    };
    let choice = choose(bound.as_ref()).ok_or_else(absent)?;
    let owner = choose(None).ok_or_else(absent)?.candidates.first();
    let candidate = |index| {
        let host = table.host(index)?;
        Some(Candidate {
            id: host.id.clone(),
            address: host.address.clone(),
            weight: host.weight.get(),
            in_flight: load(index.get()),
        })
    };
    Ok(Answer {
        owner: candidate(owner).ok_or_else(absent)?,
        candidates: choice
            .candidates
            .as_slice()
            .iter()
            .filter_map(|index| candidate(*index))
            .collect(),
        reason: choice.reason.as_str(),
        ring: RingReport {
            version: table.version(),
            points: u64::try_from(table.points()).unwrap_or(u64::MAX),
            shape: latest.ring.shape,
            identity: latest.ring.identity,
        },
        hash: format!("{hash:016x}"),
        key: question.key,
        service,
    })
}
