//! Which requests are traced, and the collector.

use std::path::PathBuf;

use tonic::transport::Uri;

use super::raw::Raw;
use super::{ConfigError, Url, url_of};

/// Which requests are traced, and the collector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TraceSettings {
    /// The collector: OTLP over gRPC.
    pub otlp: Url,
    /// The share of requests that are traced where their caller has not decided, from 0 to 1.
    pub sample: f64,
    /// The file of the roots to trust instead of the system's, PEM.
    pub tls_ca: Option<PathBuf>,
}

/// Reads the fields. `None`: nothing is traced.
pub(super) fn trace(raw: &mut Raw) -> Result<Option<TraceSettings>, ConfigError> {
    let otlp = raw.take("trace.otlp").secret().given();
    let sample = raw.take("trace.sample").or("1");
    let tls_ca = raw.take("trace.tls_ca").given();
    let share = sample.text.parse().ok();
    let share = share.filter(|share: &f64| (0.0..=1.0).contains(share));
    let share = share.ok_or_else(|| sample.breaks("must be a number from 0 to 1"))?;
    let Some(otlp) = otlp else {
        return match sample.given().or(tls_ca) {
            Some(said) => Err(said.breaks("needs trace.otlp")),
            None => Ok(None),
        };
    };
    let url = url_of(otlp.clone(), &["http://", "https://"])?;
    let read = url.reveal().parse::<Uri>();
    if !read.is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty())) {
        return Err(otlp.breaks("must be a URL as http://127.0.0.1:4317"));
    }
    if let Some(ca) = tls_ca
        .as_ref()
        .filter(|_| url.reveal().starts_with("http://"))
    {
        return Err(ca.breaks("needs trace.otlp with https://"));
    }
    if url.reveal().contains('@') {
        let rule =
            "must have no login; OTEL_EXPORTER_OTLP_HEADERS says what the collector asks for";
        return Err(otlp.breaks(rule));
    }
    Ok(Some(TraceSettings {
        otlp: url,
        sample: share,
        tls_ca: tls_ca.map(|said| said.text.into()),
    }))
}
