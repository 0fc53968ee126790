//! A collector of spans: a real gRPC server of the OTLP service, which keeps what it gets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use tokio::task::JoinHandle;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::certificates::Certificates;
use crate::{deadline, ports};

/// A span as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The unit of the companion that sent it.
    pub unit: String,
    pub name: String,
    /// 2 for a server, 3 for a client, 4 for a producer, 5 for a consumer.
    pub kind: i32,
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// The id of the parent span; empty if it has none.
    pub parent: String,
    pub attributes: BTreeMap<String, String>,
    /// The names of its events.
    pub events: Vec<String>,
    /// Why it failed; `None` if it did not.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>);

/// The collector. It ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    kept: Kept,
    server: JoinHandle<()>,
}

impl Collector {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start() -> Result<Self> {
        ports::with_fresh_ports(async || Self::start_on(ports::free()?, None).await).await
    }

    /// Starts it with TLS, as the server of these certificates.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_tls(certificates: &Certificates) -> Result<Self> {
        ports::with_fresh_ports(async || Self::start_on(ports::free()?, Some(certificates)).await)
            .await
    }

    /// Starts it on this port.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_on(port: u16, certificates: Option<&Certificates>) -> Result<Self> {
        let kept = Kept::default();
        let mut server = Server::builder();
        if let Some(certificates) = certificates {
            let pem = std::fs::read(certificates.file("server.pem"))?;
            let key = std::fs::read(certificates.file("server.key"))?;
            let identity = Identity::from_pem(pem, key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let serve = server.add_service(TraceServiceServer::new(kept.clone()));
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let server = tokio::spawn(async move {
            if let Err(error) = serve.serve(address).await {
                eprintln!("the collector ended: {error}");
            }
        });
        let connects = async || {
            ensure!(!server.is_finished(), "its port is taken");
            tokio::net::TcpStream::connect(address).await?;
            Ok(())
        };
        deadline::until("the collector to listen", connects).await?;
        Ok(Self { port, kept, server })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The spans that it has received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().clone()
    }

    /// The spans of a trace so far.
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == trace);
        spans
    }

    /// Waits for a span of this name in a unit with this cause.
    ///
    /// # Errors
    /// It never comes.
    pub async fn has(&self, unit: &str, name: &str, parent: &str) -> Result<Span> {
        deadline::until(&format!("{name} in {unit} after {parent}"), async || {
            let spans = self.spans();
            let is = |span: &&Span| span.unit == unit && span.name == name && span.parent == parent;
            let found = spans.iter().find(is).cloned();
            found.with_context(|| format!("{spans:#?}"))
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of in request.into_inner().resource_spans {
            let resource = of.resource.unwrap_or_default();
            let resource = attributes(&resource.attributes);
            let unit = resource.get("unitring.unit").cloned().unwrap_or_default();
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.lock().extend(spans.map(|span| read(&unit, &span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(unit: &str, span: &Sent) -> Span {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let status = span.status.clone().unwrap_or_default();
    let events = span.events.iter().map(|event| event.name.clone());
    Span {
        unit: unit.to_owned(),
        name: span.name.clone(),
        kind: span.kind,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: attributes(&span.attributes),
        events: events.collect(),
        failure: (status.code == 2).then_some(status.message),
    }
}

fn attributes(given: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let given = given.iter();
    given
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}
