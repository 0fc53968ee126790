//! Spans are counted when they end and when they are sent; the log says when the collector does not take them.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use prometheus_client::metrics::counter::Counter;

use crate::config::Url;

/// Where spans are counted.
#[derive(Debug, Clone)]
pub(crate) struct SpanCounts {
    /// Those that ended.
    pub ended: Counter<u64>,
    pub exported: Counter<u64>,
    pub lost: Counter<u64>,
}

/// The queue of spans that ended. It is bounded, and drops spans without room silently.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) batches: BatchSpanProcessor,
    pub(super) counts: SpanCounts,
}

/// An exporter with counters.
pub(super) struct Counted<E> {
    exporter: E,
    collector: String,
    counts: SpanCounts,
    is_away: AtomicBool,
}

impl SpanProcessor for Ended {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.counts.ended.inc();
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

impl<E> Counted<E> {
    pub(super) fn new(exporter: E, collector: &Url, counts: SpanCounts) -> Self {
        Self {
            exporter,
            collector: collector.to_string(),
            counts,
            is_away: AtomicBool::new(false),
        }
    }

    fn ended(&self, spans: usize, result: &OTelSdkResult) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        let collector = &self.collector;
        match result {
            Ok(()) => {
                self.counts.exported.inc_by(spans);
                if self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!(collector, "the collector takes spans again");
                }
            }
            Err(error) => {
                self.counts.lost.inc_by(spans);
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(collector, %error, "the collector takes no spans; they are lost");
                }
            }
        }
    }
}

impl<E> fmt::Debug for Counted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.collector)
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let spans = batch.len();
        async move {
            let result = self.exporter.export(batch).await;
            self.ended(spans, &result);
            result
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
