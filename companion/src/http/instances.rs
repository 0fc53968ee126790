//! `PUT` and `DELETE /v1/services/{s}/instances/{id}`: the registry's writes. A `PUT` is also the
//! heartbeat.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use unitring_protocol::ids::{InstanceId, ServiceName};

use super::App;
use super::answer::{Refusal, json};
use super::extract::Path;
use crate::clock::now_ms;
use crate::config::parse_duration;
use crate::registry::{Registered, Registration, WEIGHT_MAX};

/// Bounds of the time to live of a registration.
const TTL_MIN: Duration = Duration::from_millis(500);
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
pub(crate) const TTLS: RangeInclusive<Duration> = TTL_MIN..=TTL_MAX;

/// The body of a registration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    address: Option<String>,
    weight: Option<u32>,
    ttl: Option<String>,
    /// If absent, the drain stays as it was, so that a heartbeat does not end it.
    drain: Option<bool>,
}

impl Body {
    /// Whether the request only starts or stops the drain of a registered instance, and is no
    /// heartbeat.
    fn only_drains(&self) -> bool {
        self.drain.is_some()
            && self.address.is_none()
            && self.weight.is_none()
            && self.ttl.is_none()
    }
}

fn registered(id: InstanceId, body: &Body, now_ms: u64) -> Result<Registered, Refusal> {
    let address = body.address.as_deref().unwrap_or(id.as_str());
    let address: SocketAddr = address
        .parse()
        .map_err(|_| Refusal::bad(format!("address: {address:?}: must be an ip:port")))?;
    let weight = body.weight.unwrap_or(1);
    let weight = NonZeroU32::new(weight)
        .filter(|weight| weight.get() <= WEIGHT_MAX)
        .ok_or_else(|| Refusal::bad(format!("weight: {weight}: must be from 1 to {WEIGHT_MAX}")))?;
    let expires_ms = match &body.ttl {
        None => None,
        Some(text) => {
            let ttl = parse_duration(text).filter(|ttl| TTLS.contains(ttl));
            let rule = || {
                Refusal::bad(format!(
                    "ttl: {text:?}: must be from 500ms to 24h, as \"30s\""
                ))
            };
            let ms = u64::try_from(ttl.ok_or_else(rule)?.as_millis()).unwrap_or(u64::MAX);
            Some(now_ms.saturating_add(ms))
        }
    };
    Ok(Registered {
        id,
        address,
        weight,
        draining: body.drain.unwrap_or(false),
        expires_ms,
    })
}

pub(super) async fn put(
    State(app): State<Arc<App>>,
    Path((service, id)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Registered>), Refusal> {
    let service: ServiceName = service.parse()?;
    let body = body?;
    let body: Body = if body.is_empty() {
        Body::default()
    } else {
        json(&body)?
    };
    let now_ms = now_ms();
    let instance = match known(&app, &service, &id, &body).await? {
        Some(known) => known,
        None => registered(id.parse()?, &body, now_ms)?,
    };
    let keeps_draining = body.drain.is_none();
    let done = app
        .store
        .register(&service, &instance, keeps_draining, now_ms)
        .await?;
    let (done, instance) = done;
    if done != Registration::Renewed {
        app.registry_changed.notify_one();
        app.events_changed.notify_waiters();
        let (address, weight, draining) = (instance.address, instance.weight, instance.draining);
        // As strings, which the log quotes: a name may look like fields.
        let (service, id) = (service.as_str(), instance.id.as_str());
        tracing::info!(service, id, %address, weight, draining, ?done, "instance registered");
    }
    let status = match done {
        Registration::Created => StatusCode::CREATED,
        Registration::Changed | Registration::Renewed => StatusCode::OK,
    };
    Ok((status, Json(instance)))
}

/// The registered instance that a request only drains; `None` if the body is a registration.
async fn known(
    app: &App,
    service: &ServiceName,
    id: &str,
    body: &Body,
) -> Result<Option<Registered>, Refusal> {
    let Some(draining) = body.drain.filter(|_| body.only_drains()) else {
        return Ok(None);
    };
    let registry = app.store.registry().await?;
    let known = registry
        .instances(service.as_str())
        .find(|instance| instance.id.as_str() == id)
        .cloned();
    match known {
        Some(known) => Ok(Some(Registered { draining, ..known })),
        // An id that is an address can be registered by this request itself.
        None if id.parse::<SocketAddr>().is_ok() => Ok(None),
        None => Err(Refusal::absent(format!(
            "instance {id} of service {service}"
        ))),
    }
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Path((service, id)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let service: ServiceName = service.parse()?;
    let id: InstanceId = id.parse()?;
    if !app.store.unregister(&service, &id, now_ms()).await? {
        return Err(Refusal::absent(format!(
            "instance {id} of service {service}"
        )));
    }
    app.registry_changed.notify_one();
    app.events_changed.notify_waiters();
    let (service, id) = (service.as_str(), id.as_str());
    tracing::info!(service, id, "instance unregistered");
    Ok(StatusCode::NO_CONTENT)
}
