//! A connection to the unit's current primary. Its holder sends commands and gets an answer or an
//! error; this file decides where they go, and when to reconnect.
//!
//! Invariant: no command is sent twice on a primary's connection. If a connection breaks, the
//! outcome is unknown, and only the caller knows whether to try again.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use opentelemetry::trace::SpanKind;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Arg, AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisFuture, RedisResult,
    TlsCertificates, TlsMode, Value,
};

use super::{scripts, tls};
use crate::config::Secret;
use crate::config::topology::{Sentinels, Topology};
use crate::trace::{self, Work};

/// How long an answer may take. The largest is a page of a bucket, a few megabytes.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long connecting may take, including the request to the Sentinels.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer of a Redis Cluster may take with all retries. After that the connection is
/// given up, too, as its map of the slots may be old.
const CLUSTER_RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often the client of a Redis Cluster tries a command: slots move, and the answer says where
/// to.
const CLUSTER_RETRIES: u32 = 3;
/// The longest pause between these tries, in milliseconds.
const CLUSTER_RETRY_WAIT_MAX_MS: u64 = 100;

/// Error codes of a server that is not a primary, or not yet, or that now requires a password:
/// another connection may succeed.
const NOT_PRIMARY: [&str; 5] = ["READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED", "NOAUTH"];

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) enum Connection {
    /// To one server at a time.
    Primary(Primary),
    /// To all primaries of a Redis Cluster.
    Cluster(Cluster),
}

/// Credentials that the URL does not have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Login {
    pub(crate) sentinel_password: Option<Secret>,
    /// Certificates for TLS, if the system's own roots are not enough.
    pub(crate) certificates: Option<TlsCertificates>,
}

impl Connection {
    /// A connection that is made when it is first used. Needs a tokio runtime.
    pub(crate) fn to(topology: &Topology, login: &Login) -> RedisResult<Self> {
        let find = match topology {
            Topology::One(info) => {
                let certificates = login.certificates.as_ref();
                Find::Fixed(tls::client((**info).clone(), certificates)?)
            }
            Topology::Sentinel(sentinels) => {
                let client = sentinel_client(sentinels, login)?;
                Find::Sentinels(tokio::sync::Mutex::new(client))
            }
            Topology::Cluster(nodes) => {
                let mut builder = ClusterClient::builder(nodes.iter().cloned())
                    .retries(CLUSTER_RETRIES)
                    .max_retry_wait(CLUSTER_RETRY_WAIT_MAX_MS);
                if let Some(tls) = &login.certificates {
                    builder = builder.certs(tls.clone());
                }
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECTION_TIMEOUT)
                    .set_response_timeout(RESPONSE_TIMEOUT);
                return Ok(Self::Cluster(Cluster::of(builder.build()?, config)));
            }
        };
        Ok(Self::Primary(Primary {
            find: Arc::new(find),
            current: Arc::default(),
        }))
    }
}

fn sentinel_client(sentinels: &Sentinels, login: &Login) -> RedisResult<SentinelClient> {
    let addresses = sentinels.addresses.clone();
    let primary = SentinelServerType::Master;
    let mut builder = SentinelClientBuilder::new(addresses, &sentinels.name, primary)?;
    let server = sentinels.login.redis_settings();
    builder = builder.set_client_to_redis_db(server.db());
    if let Some(user) = server.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = server.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(password) = &login.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password.reveal());
    }
    if sentinels.is_tls() {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(tls) = &login.certificates {
            builder = builder
                .set_client_to_redis_certificates(tls.clone())
                .set_client_to_sentinel_certificates(tls.clone());
        }
    }
    builder.build()
}

/// How the primary is found.
enum Find {
    Fixed(Client),
    /// Asked for each new connection: they are the first to know of a fail-over.
    Sentinels(tokio::sync::Mutex<SentinelClient>),
}

impl Find {
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let client = match self {
            Self::Fixed(client) => client.clone(),
            Self::Sentinels(sentinels) => {
                let mut sentinels = sentinels.lock().await;
                let found = tokio::time::timeout(CONNECTION_TIMEOUT, sentinels.async_get_client());
                found.await.map_err(|_| {
                    let slow = std::io::Error::from(std::io::ErrorKind::TimedOut);
                    RedisError::from(slow)
                })??
            }
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECTION_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        // Without its required password, a server closes the connection at the first long command
        // and gives no reason.
        let _: String = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(connection)
    }
}

type Connecting = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// The connection to one primary: made on demand, by one attempt for all waiting callers, and
/// dropped once its server turns out to be no primary.
#[derive(Clone)]
pub(crate) struct Primary {
    find: Arc<Find>,
    current: Arc<Mutex<Current>>,
}

#[derive(Default)]
struct Current {
    /// Counts connections, so that the error of an old one does not drop a newer one.
    number: u64,
    connection: Option<Connecting>,
}

impl Primary {
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> (u64, Connecting) {
        let mut current = self.lock();
        if let Some(connection) = &current.connection {
            return (current.number, connection.clone());
        }
        let find = Arc::clone(&self.find);
        let connecting = async move { find.connect().await }.boxed().shared();
        current.number += 1;
        current.connection = Some(connecting.clone());
        (current.number, connecting)
    }

    fn forget(&self, number: u64) {
        let mut current = self.lock();
        if current.number == number {
            current.connection = None;
        }
    }

    async fn run<T>(
        &self,
        send: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
        refuses: impl FnOnce(&T) -> bool,
    ) -> RedisResult<T> {
        let (number, connecting) = self.current();
        let mut connection = connecting.await.inspect_err(|_| self.forget(number))?;
        let answer = send(&mut connection).await;
        let is_useless = match &answer {
            Ok(answer) => refuses(answer),
            // The connection broke, or the server hangs.
            Err(error) => error.is_unrecoverable_error() || error.is_io_error(),
        };
        if is_useless {
            self.forget(number);
        }
        answer
    }
}

/// The connection to all primaries of a Redis Cluster. Its client follows slots that move; if it
/// does not recover, the timeout here replaces the connection.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Arc<ClusterClient>,
    config: ClusterConfig,
    /// With a number, so that the timeout of an old connection does not drop a newer one.
    current: Arc<Mutex<(u64, ClusterConnection)>>,
}

impl Cluster {
    fn of(client: ClusterClient, config: ClusterConfig) -> Self {
        let connection = client.get_pending_async_connection_with_config(config.clone());
        Self {
            client: Arc::new(client),
            config,
            current: Arc::new(Mutex::new((1, connection))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, ClusterConnection)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run<T>(
        &self,
        send: impl AsyncFnOnce(&mut ClusterConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let (number, mut connection) = self.lock().clone();
        let answer = tokio::time::timeout(CLUSTER_RESPONSE_TIMEOUT, send(&mut connection)).await;
        answer.unwrap_or_else(|_| {
            let config = self.config.clone();
            let mut current = self.lock();
            if current.0 == number {
                let anew = self.client.get_pending_async_connection_with_config(config);
                *current = (number + 1, anew);
            }
            let slow = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Err(RedisError::from(slow))
        })
    }
}

/// The span of a call that traced work waits for. The name is that of the command, or of our script.
fn span(name: impl FnOnce() -> String) -> Option<Work> {
    trace::current()?;
    let name = name();
    let span = Work::part(SpanKind::Client, name.clone())?;
    span.set("db.system.name", "redis");
    span.set("db.operation.name", name);
    Some(span)
}

/// A call within its span, which has the code of an error: what the server says of it may name a key.
async fn traced<T>(
    span: Option<Work>,
    call: impl Future<Output = RedisResult<T>>,
    code: for<'a> fn(&'a T) -> Option<&'a str>,
) -> RedisResult<T> {
    let answer = trace::within(span.as_ref(), call).await;
    if let Some(span) = &span {
        match &answer {
            Ok(answer) => {
                if let Some(code) = code(answer) {
                    span.failed(code);
                }
            }
            Err(error) => span.failed(error.category()),
        }
    }
    answer
}

/// The code of an error that a server answered. Without a script it gets one, and is asked again.
fn error_code(answer: &Value) -> Option<&str> {
    match answer {
        Value::ServerError(error) => Some(error.code()).filter(|code| *code != "NOSCRIPT"),
        Value::Array(answers) => answers.iter().find_map(error_code),
        _ => None,
    }
}

/// The first of them of many answers.
#[expect(clippy::ptr_arg, reason = "it is the answer as the client has it")]
fn first_code(answers: &Vec<Value>) -> Option<&str> {
    answers.iter().find_map(error_code)
}

fn name_of(cmd: &Cmd) -> String {
    let mut parts = cmd.args_iter().map(|part| match part {
        Arg::Simple(part) => String::from_utf8_lossy(part),
        _ => Cow::default(),
    });
    let command = parts.next().unwrap_or_default();
    let script = parts.next().filter(|_| command == "EVALSHA");
    match script.and_then(|digest| scripts::name_of(&digest)) {
        Some(script) => format!("{command} {script}"),
        None => command.into_owned(),
    }
}

/// Whether the answer, or a part of it, says that the server is no primary.
fn is_refusal(answer: &Value) -> bool {
    match answer {
        Value::ServerError(error) => NOT_PRIMARY.contains(&error.code()),
        // The answer to a transaction.
        Value::Array(answers) => answers.iter().any(is_refusal),
        _ => false,
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let span = span(|| name_of(cmd));
        match self {
            Self::Cluster(cluster) => {
                let send = cluster.run(async |connection| connection.req_packed_command(cmd).await);
                traced(span, send, error_code).boxed()
            }
            Self::Primary(primary) => {
                let send = primary.run(
                    async |connection| connection.req_packed_command(cmd).await,
                    is_refusal,
                );
                traced(span, send, error_code).boxed()
            }
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let span = span(|| "PIPELINE".to_owned());
        match self {
            Self::Cluster(cluster) => {
                let send = async move |connection: &mut ClusterConnection| {
                    let answers = connection.req_packed_commands(pipeline, offset, count);
                    answers.await
                };
                traced(span, cluster.run(send), first_code).boxed()
            }
            Self::Primary(primary) => {
                let send = async move |connection: &mut MultiplexedConnection| {
                    let answers = connection.req_packed_commands(pipeline, offset, count);
                    answers.await
                };
                let refuses = |answers: &Vec<Value>| answers.iter().any(is_refusal);
                traced(span, primary.run(send, refuses), first_code).boxed()
            }
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_by_its_command_or_script_and_by_nothing_that_may_be_secret() {
        let mut get = redis::cmd("GET");
        get.arg("users/42");
        assert_eq!(name_of(&get), "GET");
        let write = scripts::Scripts::new().write;
        let mut call = redis::cmd("EVALSHA");
        call.arg(write.get_hash()).arg(1).arg("users/42");
        assert_eq!(name_of(&call), "EVALSHA write");
        let mut other = redis::cmd("EVALSHA");
        other.arg("5f0e").arg(0);
        assert_eq!(name_of(&other), "EVALSHA");
    }
}
