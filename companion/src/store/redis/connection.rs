//! A connection to the unit's current primary. Its holder sends commands and gets an answer or an
//! error; this file decides where they go, and when to reconnect.
//!
//! Invariant: no command is sent twice on a primary's connection. If a connection breaks, the
//! outcome is unknown, and only the caller knows whether to try again.

mod traced;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult,
    TlsCertificates, TlsMode, Value,
};

use super::tls;
use crate::config::Secret;
use crate::config::topology::{Sentinels, Topology};
use traced::{error_code, first_code, name_of, span, traced};

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

/// How servers are reached.
enum Way {
    Primary(Find),
    Cluster(ClusterClient),
}

impl Way {
    fn of(topology: &Topology, login: &Login) -> RedisResult<Self> {
        Ok(match topology {
            Topology::One(info) => {
                let certificates = login.certificates.as_ref();
                Self::Primary(Find::Fixed(tls::client((**info).clone(), certificates)?))
            }
            Topology::Sentinel(sentinels) => {
                let client = sentinel_client(sentinels, login)?;
                Self::Primary(Find::Sentinels(tokio::sync::Mutex::new(client)))
            }
            Topology::Cluster(nodes) => {
                let mut builder = ClusterClient::builder(nodes.iter().cloned())
                    .retries(CLUSTER_RETRIES)
                    .max_retry_wait(CLUSTER_RETRY_WAIT_MAX_MS);
                if let Some(tls) = &login.certificates {
                    builder = builder.certs(tls.clone());
                }
                Self::Cluster(builder.build()?)
            }
        })
    }
}

impl Connection {
    /// A connection that is made when it is first used. Needs a tokio runtime.
    pub(crate) fn to(topology: &Topology, login: &Login) -> RedisResult<Self> {
        Ok(match Way::of(topology, login)? {
            Way::Primary(find) => Self::Primary(Primary {
                find: Arc::new(RwLock::new(Arc::new(find))),
                current: Arc::default(),
                is_refused: Arc::default(),
            }),
            Way::Cluster(client) => {
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECTION_TIMEOUT)
                    .set_response_timeout(RESPONSE_TIMEOUT);
                Self::Cluster(Cluster::of(client, config))
            }
        })
    }

    /// The same servers are reached with another login from now on, by all clones. A connection that stands is not
    /// broken: it had the right login when it was made.
    pub(crate) fn log_in_anew(&self, topology: &Topology, login: &Login) -> RedisResult<()> {
        match (self, Way::of(topology, login)?) {
            (Self::Primary(primary), Way::Primary(find)) => {
                let mut known = primary.find.write().unwrap_or_else(PoisonError::into_inner);
                *known = Arc::new(find);
            }
            (Self::Cluster(cluster), Way::Cluster(client)) => cluster.replace(client),
            // The caller has the same kind of servers.
            (Self::Primary(_), Way::Cluster(_)) | (Self::Cluster(_), Way::Primary(_)) => {}
        }
        Ok(())
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

/// Says once that a server refuses the login, and once that it does no longer.
fn tell_of_login<T>(made: &RedisResult<T>, was_refused: &AtomicBool) {
    let is_refused = match made {
        Ok(_) => false,
        Err(error) if is_login_refused(error) => true,
        // Nothing is known of the login.
        Err(_) => return,
    };
    match (was_refused.swap(is_refused, Ordering::Relaxed), made) {
        (false, Err(error)) => tracing::warn!(
            %error,
            "Redis refuses the login: correct the password in the configuration, and send SIGHUP"
        ),
        (true, Ok(_)) => tracing::info!("Redis takes the login again"),
        _ => {}
    }
}

fn is_login_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

type Connecting = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// The connection to one primary: made on demand, by one attempt for all waiting callers, and
/// dropped once its server turns out to be no primary.
#[derive(Clone)]
pub(crate) struct Primary {
    find: Arc<RwLock<Arc<Find>>>,
    current: Arc<Mutex<Current>>,
    /// Whether the server refused the login when it was last reached.
    is_refused: Arc<AtomicBool>,
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
        let find = self.find.read().unwrap_or_else(PoisonError::into_inner);
        let (find, is_refused) = (Arc::clone(&find), Arc::clone(&self.is_refused));
        let connecting = async move {
            let made = find.connect().await;
            tell_of_login(&made, &is_refused);
            made
        };
        let connecting = connecting.boxed().shared();
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
    config: ClusterConfig,
    current: Arc<Mutex<CurrentCluster>>,
}

struct CurrentCluster {
    client: ClusterClient,
    /// So that the timeout of an old connection does not drop a newer one.
    number: u64,
    connection: ClusterConnection,
}

impl Cluster {
    fn of(client: ClusterClient, config: ClusterConfig) -> Self {
        let connection = client.get_pending_async_connection_with_config(config.clone());
        let current = CurrentCluster {
            client,
            number: 1,
            connection,
        };
        Self {
            config,
            current: Arc::new(Mutex::new(current)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CurrentCluster> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaches the servers by another client from now on.
    fn replace(&self, client: ClusterClient) {
        let connection = client.get_pending_async_connection_with_config(self.config.clone());
        let mut current = self.lock();
        *current = CurrentCluster {
            client,
            number: current.number + 1,
            connection,
        };
    }

    async fn run<T>(
        &self,
        send: impl AsyncFnOnce(&mut ClusterConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let (number, mut connection) = {
            let current = self.lock();
            (current.number, current.connection.clone())
        };
        let answer = tokio::time::timeout(CLUSTER_RESPONSE_TIMEOUT, send(&mut connection)).await;
        answer.unwrap_or_else(|_| {
            let config = self.config.clone();
            let mut current = self.lock();
            if current.number == number {
                let client = &current.client;
                current.connection = client.get_pending_async_connection_with_config(config);
                current.number += 1;
            }
            let slow = std::io::Error::from(std::io::ErrorKind::TimedOut);
            Err(RedisError::from(slow))
        })
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
