//! The effects of a request, in this unit and in the others, as spans for a collector: OTLP over gRPC.
//!
//! A request is a span, and so is each call of the store that it waits for. An op has the span of its write with it,
//! into the outbox and through the broker, so the message that carries it and the other unit's change belong to the
//! same trace.
//!
//! Off unless the settings name a collector; then nothing here is made, and callers get `None`. Work that no traced
//! request causes, as a look of the leader at the store, makes no span.
//!
//! The spans are OpenTelemetry's own. Those of `tracing` end where their code does, and have one name each in the
//! source; a message's span ends with the broker's confirm, much later and elsewhere.

mod counted;
mod start;

use std::borrow::Cow;
use std::future::Future;
use std::sync::OnceLock;

use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
    TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;
use unitring_protocol::trace::TraceParent;

pub(crate) use counted::SpanCounts;
pub(crate) use start::{StartError, Traces, start};

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Whether requests are traced.
pub(crate) fn is_on() -> bool {
    TRACER.get().is_some()
}

/// A span that lasts until this is dropped, as long as no work within it still runs.
#[derive(Debug)]
pub(crate) struct Work(Context);

impl Work {
    /// The answer to a request. The caller may decide whether it is traced.
    pub(crate) fn request(name: String, caller: Option<TraceParent>) -> Option<Self> {
        let parent = caller.map_or_else(Context::new, |caller| context(&caller));
        Self::begin(SpanKind::Server, name.into(), &parent)
    }

    /// A part of the current work, if that is traced.
    pub(crate) fn part(kind: SpanKind, name: impl Into<Cow<'static, str>>) -> Option<Self> {
        TRACER.get()?;
        Context::map_current(|current| {
            let is_traced = current.span().is_recording();
            is_traced.then(|| Self::begin(kind, name.into(), current))?
        })
    }

    /// A span that follows from another span, of this process or another.
    pub(crate) fn after(
        cause: &TraceParent,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
    ) -> Option<Self> {
        Self::begin(kind, name.into(), &context(cause))
    }

    fn begin(kind: SpanKind, name: Cow<'static, str>, parent: &Context) -> Option<Self> {
        let tracer = TRACER.get()?;
        let builder = tracer.span_builder(name).with_kind(kind);
        let span = builder.start_with_context(tracer, parent);
        Some(Self(parent.with_span(span)))
    }

    /// Notes something of it.
    pub(crate) fn set(&self, name: &'static str, value: impl Into<Value>) {
        self.0.span().set_attribute(KeyValue::new(name, value));
    }

    /// Notes that something happened meanwhile.
    pub(crate) fn saw(&self, what: impl Into<Cow<'static, str>>) {
        self.0.span().add_event(what, Vec::new());
    }

    /// Notes that it failed, and why.
    pub(crate) fn failed(&self, why: impl ToString) {
        self.0.span().set_status(Status::error(why.to_string()));
    }

    /// Its context, for what it causes; `None` if it is not traced.
    pub(crate) fn parent(&self) -> Option<TraceParent> {
        parent(&self.0)
    }

    /// Runs work within it.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        work.with_context(self.0.clone()).await
    }
}

/// Runs work within a span, if there is one.
pub(crate) async fn within<T>(span: Option<&Work>, work: impl Future<Output = T>) -> T {
    match span {
        Some(span) => span.run(work).await,
        None => work.await,
    }
}

/// An error that a span can be noted with.
pub(crate) trait Failure {
    /// What kind it is, in a word.
    fn word(&self) -> &'static str;
}

/// A call as a part of the current work, which is noted as failed with the call.
pub(crate) async fn call<T, E: Failure>(
    span: Option<Work>,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let answer = within(span.as_ref(), call).await;
    if let (Some(span), Err(error)) = (&span, &answer) {
        span.failed(error.word());
    }
    answer
}

/// The context of the current work; `None` if it is not traced.
pub(crate) fn current() -> Option<TraceParent> {
    TRACER.get()?;
    Context::map_current(parent)
}

fn parent(context: &Context) -> Option<TraceParent> {
    let span = context.span();
    let of = span.span_context();
    let trace = u128::from_be_bytes(of.trace_id().to_bytes());
    let span = u64::from_be_bytes(of.span_id().to_bytes());
    let parent = || TraceParent::new(trace, span, true);
    of.is_sampled().then(parent)?
}

fn context(parent: &TraceParent) -> Context {
    let flags = TraceFlags::default().with_sampled(parent.is_sampled());
    let trace = TraceId::from(parent.trace());
    let span = SpanId::from(parent.span());
    let of = SpanContext::new(trace, span, flags, true, TraceState::default());
    Context::new().with_remote_span_context(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_collector_nothing_is_made() {
        let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse();
        let caller: TraceParent = caller.unwrap();
        assert!(!is_on());
        assert!(Work::request("GET".to_owned(), Some(caller)).is_none());
        assert!(Work::part(SpanKind::Client, "GET").is_none());
        assert!(Work::after(&caller, SpanKind::Producer, "publish").is_none());
        assert_eq!(within(None, async { current() }).await, None);
    }

    #[test]
    fn a_context_stays_what_it_was() {
        for flags in ["01", "00"] {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            let caller: TraceParent = text.parse().unwrap();
            let expected = Some(caller).filter(TraceParent::is_sampled);
            assert_eq!(parent(&context(&caller)), expected);
        }
    }
}
