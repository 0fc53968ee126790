//! A minimal picker for Envoy's `ext_proc` filter: it receives a request's headers and names the
//! instance. It runs in a process of its own, since its processor time counts, too.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Heard;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Said;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    CommonResponse, HeaderMutation, HeadersResponse, ProcessingRequest, ProcessingResponse,
};
use futures_util::stream::{self, Stream};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use unitring_tests::ports;
use unitring_tests::process::Process;

use crate::lookup::Ring;

/// The first argument that makes this program the picker; its port and the instances follow.
pub(crate) const ARGUMENT: &str = "picker";

/// A running picker.
pub(crate) struct Picker {
    pub(crate) port: u16,
    process: Process,
    _folder: TempDir,
}

impl Picker {
    pub(crate) async fn start(instances: &[SocketAddr]) -> Result<Self> {
        let folder = TempDir::with_prefix("unitring-picker-")?;
        let port = ports::free()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ARGUMENT).arg(port.to_string());
        command.args(instances.iter().map(SocketAddr::to_string));
        let mut process = Process::start("picker", &mut command, folder.path())?;
        process
            .ready(async || {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                Ok(())
            })
            .await?;
        Ok(Self {
            port,
            process,
            _folder: folder,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Serves until the process is killed.
pub(crate) async fn run(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let port: u16 = arguments.next().context("no port")?.parse()?;
    let instances: Result<Vec<SocketAddr>, _> =
        arguments.map(|argument| argument.parse()).collect();
    let service = Service(Arc::new(Ring::new(&instances?)));
    Server::builder()
        .add_service(ExternalProcessorServer::new(service))
        .serve((Ipv4Addr::LOCALHOST, port).into())
        .await?;
    Ok(())
}

struct Service(Arc<Ring>);

#[tonic::async_trait]
impl ExternalProcessor for Service {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let state = (request.into_inner(), Arc::clone(&self.0));
        let answers = stream::unfold(state, |(mut requests, ring)| async move {
            let request = match requests.message().await {
                Ok(request) => request?,
                Err(error) => return Some((Err(error), (requests, ring))),
            };
            Some((Ok(answer(request, &ring)), (requests, ring)))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(request: ProcessingRequest, ring: &Ring) -> ProcessingResponse {
    let headers = match request.request {
        Some(Heard::RequestHeaders(heard)) => heard.headers.unwrap_or_default(),
        _ => HeaderMap::default(),
    };
    let key = headers
        .headers
        .iter()
        .find(|header| header.key == "x-user-id");
    let owner = key
        .and_then(|key| ring.owner(&key.raw_value))
        .unwrap_or_default();
    let header = HeaderValueOption {
        header: Some(HeaderValue {
            key: "x-unitring-host".to_owned(),
            raw_value: owner.as_bytes().to_vec(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    };
    let mutation = HeaderMutation {
        set_headers: vec![header],
        ..HeaderMutation::default()
    };
    let response = CommonResponse {
        header_mutation: Some(mutation),
        ..CommonResponse::default()
    };
    ProcessingResponse {
        response: Some(Said::RequestHeaders(HeadersResponse {
            response: Some(response),
        })),
        ..ProcessingResponse::default()
    }
}
