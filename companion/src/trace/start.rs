//! Settings → spans on their way to the collector, and the last of them at the end.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tonic::transport::{Certificate, ClientTlsConfig};

use super::TRACER;
use super::counted::{Counted, Ended, SpanCounts};
use crate::config::TraceSettings;
use crate::tls::FileError;

/// Most spans that wait for the collector; further ones are lost.
const SPANS_WAITING_MAX: usize = 8_192;
/// Most spans of a message to it.
const SPANS_SENT_MAX: usize = 512;
/// How often it is sent what there is.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the process waits, at its end, for the collector to have the last spans.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The file of roots can't be read.
    #[error(transparent)]
    Tls(#[from] FileError),
    /// The settings are not valid for an exporter.
    #[error("trace.otlp: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The spans that are on their way to the collector.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

/// Starts to trace requests. Needs a tokio runtime; a collector that does not answer is no error.
///
/// # Errors
/// [`StartError`].
pub(crate) fn start(
    settings: &TraceSettings,
    (unit, process): (&str, &str),
    counts: SpanCounts,
) -> Result<Traces, StartError> {
    crate::tls::choose_provider();
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(settings.otlp.reveal())
        .with_timeout(ANSWER_TIMEOUT);
    if settings.otlp.reveal().starts_with("https://") {
        let mut tls = ClientTlsConfig::new();
        tls = match &settings.tls_ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(crate::tls::read(
                "trace.tls_ca",
                path,
            )?)),
            None => tls.with_native_roots(),
        };
        exporter = exporter.with_tls_config(tls);
    }
    let exporter = Counted::new(exporter.build()?, &settings.otlp, counts.clone());
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(SPANS_WAITING_MAX)
        .with_max_export_batch_size(SPANS_SENT_MAX)
        .with_scheduled_delay(SEND_EVERY)
        .build();
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches);
    let batches = batches.build();
    let sample = Sampler::TraceIdRatioBased(settings.sample);
    let own = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", "unitring"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", process.to_owned()),
        KeyValue::new("unitring.unit", unit.to_owned()),
    ]);
    // OTEL_RESOURCE_ATTRIBUTES goes over these.
    let own = own.with_detector(Box::new(EnvResourceDetector::new()));
    let provider = SdkTracerProvider::builder()
        .with_resource(own.build())
        .with_sampler(Sampler::ParentBased(Box::new(sample)))
        .with_span_processor(Ended { batches, counts })
        .build();
    // A process starts once; a second start would go on with the first.
    let _first = TRACER.set(provider.tracer("unitring"));
    Ok(Traces(provider))
}

impl Traces {
    /// Sends what waits, and ends.
    pub(crate) async fn end(self) {
        // The collector's answer comes through the runtime, whose threads must not wait for it.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(END_TIMEOUT));
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(%error, "the last spans could not be sent");
        }
    }
}
