//! gRPC: HTTP/2 on both sides, streams, and answers that end with trailers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, bail, ensure};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_client::ExternalProcessorClient;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Said;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    ImmediateResponse, ProcessingRequest, ProcessingResponse,
};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use unitring_tests::config::{EnvoyConfig, endpoints_at};
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::ports;

use super::{is_idle, nobody_judges};

const KEYS: usize = 40;

/// How a server fails its calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fails {
    /// It does not.
    Never,
    /// By `grpc-status: 14` in the trailers of an answer of 200.
    InTrailers,
    /// By an answer of 200 that has no body: its headers have the status.
    AtOnce,
}

/// A service that answers each message with its name; any service with a bidirectional stream would do.
struct Named {
    name: String,
    fails: Arc<AtomicU8>,
}

#[tonic::async_trait]
impl ExternalProcessor for Named {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let away = || Status::unavailable("away");
        match self.fails.load(Ordering::Relaxed) {
            fails if fails == Fails::InTrailers as u8 => {
                let end = stream::iter([Err(away())]);
                return Ok(Response::new(Box::pin(end)));
            }
            fails if fails == Fails::AtOnce as u8 => return Err(away()),
            _ => {}
        }
        let state = (request.into_inner(), self.name.clone());
        let answers = stream::unfold(state, |(mut requests, name)| async move {
            let message = requests.message().await.ok()??;
            drop(message);
            let told = ImmediateResponse {
                details: name.clone(),
                ..ImmediateResponse::default()
            };
            let answer = ProcessingResponse {
                response: Some(Said::ImmediateResponse(told)),
                ..ProcessingResponse::default()
            };
            Some((Ok(answer), (requests, name)))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// A gRPC server in this process; dropping this ends it.
pub(crate) struct Running {
    pub(crate) port: u16,
    fails: Arc<AtomicU8>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Running {
    pub(crate) async fn start(name: &str) -> Result<Self> {
        let port = ports::free()?;
        let fails = Arc::new(AtomicU8::new(Fails::Never as u8));
        let service = ExternalProcessorServer::new(Named {
            name: name.to_owned(),
            fails: Arc::clone(&fails),
        });
        let server = Server::builder().add_service(service);
        let task = tokio::spawn(server.serve((Ipv4Addr::LOCALHOST, port).into()));
        until("the server", async || connect(port).await).await?;
        Ok(Self { port, fails, task })
    }

    pub(crate) fn fail(&self, how: Fails) {
        self.fails.store(how as u8, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn connect(port: u16) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    Ok(endpoint.connect().await?)
}

/// The shipped configuration over the servers on these ports, which speak HTTP/2.
pub(crate) fn config(ports: &[u16]) -> Result<EnvoyConfig> {
    let config = nobody_judges(EnvoyConfig::shipped("envoy.yaml")?)?;
    config.endpoints("orders", endpoints_at(ports))?.edit_cluster("orders", |cluster| {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
        Ok(())
    })
}

/// The server that answers both messages of a stream with this key.
pub(crate) async fn owner(
    client: &mut ExternalProcessorClient<Channel>,
    key: &str,
) -> Result<String> {
    let messages = stream::iter([ProcessingRequest::default(), ProcessingRequest::default()]);
    let mut request = Request::new(messages);
    request.metadata_mut().insert("x-user-id", key.parse()?);
    let mut answers = client.process(request).await?.into_inner();
    let mut names = Vec::new();
    while let Some(answer) = answers.message().await? {
        match answer.response {
            Some(Said::ImmediateResponse(told)) => names.push(told.details),
            other => bail!("{other:?}"),
        }
    }
    ensure!(names.len() == 2, "{names:?}");
    names.dedup();
    ensure!(names.len() == 1, "{names:?}");
    names.pop().context("nobody")
}

#[tokio::test]
async fn a_grpc_stream_is_placed_by_its_key() -> Result<()> {
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        servers.push(Running::start(name).await?);
    }
    let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
    let config = config(&ports)?;
    let native = Envoy::start(&config.clone().without_filter()?).await?;
    let filtered = Envoy::start(&config).await?;
    filtered.steers_to(servers.len()).await?;
    let mut owners = BTreeMap::new();
    for envoy in [&native, &filtered] {
        let mut client = ExternalProcessorClient::new(connect(envoy.port).await?);
        for key in keys(KEYS) {
            let owner = owner(&mut client, &key)
                .await
                .with_context(|| key.clone())?;
            let native = owners.entry(key).or_insert_with(|| owner.clone());
            assert_eq!(*native, owner);
        }
    }
    is_idle(&filtered).await
}
