//! One server of a group: reads its state, and performs actions on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, IntoConnectionInfo as _, RedisError};
use unitring_protocol::ids::UnitId;

use super::GroupError;
use super::plan::{Link, Observed, Step};
use crate::config::{TlsFiles, Url};
use crate::fixed::FixedData;
use crate::states::ServerRole;
use crate::store::LAYOUT;
use crate::store::redis::fixed::load_call;
use crate::store::redis::keys::Keys;
use crate::store::redis::tls::{certificates, client};

/// How long connecting, and each answer, may take.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct Server {
    pub address: SocketAddr,
    /// Its URL without secrets.
    pub name: String,
    connection: MultiplexedConnection,
    is_tls: bool,
    user: Option<String>,
    password: Option<String>,
    keys: Keys,
}

/// The fields of `INFO`.
pub(crate) type Info = BTreeMap<String, String>;

/// The server's role, in its own words for it.
pub(super) fn role(info: &Info) -> ServerRole {
    match info.get("role").map(String::as_str) {
        Some("slave") => ServerRole::Replica,
        _ => ServerRole::Primary,
    }
}

impl Server {
    /// Connects.
    ///
    /// # Errors
    /// [`GroupError::Server`].
    pub(crate) async fn connect(
        url: &Url,
        tls: &TlsFiles,
        unit: &UnitId,
    ) -> Result<Self, GroupError> {
        let name = url.to_string();
        let wrong = |why: String| GroupError::Server {
            server: name.clone(),
            why,
        };
        let info = url.reveal().into_connection_info();
        let info = info.map_err(|error| wrong(error.to_string()))?;
        let (host, port) = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host.clone(), *port)
            }
            _ => return Err(wrong("must be a host and a port".to_owned())),
        };
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let address = resolve(&host, port).await.map_err(wrong)?;
        let settings = info.redis_settings();
        let (user, password) = (settings.username(), settings.password());
        let (user, password) = (user.map(str::to_owned), password.map(str::to_owned));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        // Read for each connection, so that a renewed certificate is used at once.
        let certificates = certificates(tls).map_err(|error| wrong(error.to_string()))?;
        let client = client(info, certificates.as_ref());
        let client = client.map_err(|error| wrong(error.to_string()))?;
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            address,
            name,
            connection,
            is_tls,
            user,
            password,
            keys: Keys::of(unit.clone()),
        })
    }

    /// The fields of `INFO`.
    ///
    /// # Errors
    /// [`GroupError::Server`].
    pub(crate) async fn info(&self) -> Result<Info, GroupError> {
        let text: String = self.ask(&["INFO"]).await?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// The state that the plan needs.
    ///
    /// # Errors
    /// [`GroupError::Server`].
    pub(crate) async fn observe(&self) -> Result<Observed, GroupError> {
        let info = self.info().await?;
        let is = |name: &str, value: &str| info.get(name).is_some_and(|found| found == value);
        let replicates = if role(&info) == ServerRole::Replica {
            let host = info.get("master_host").map_or("", String::as_str);
            let port = info.get("master_port").and_then(|port| port.parse().ok());
            let of = resolve(host, port.unwrap_or(0)).await;
            let of = of.map_err(|why| self.failed(why))?;
            let up = is("master_link_status", "up") && !is("master_sync_in_progress", "1");
            Some((of, if up { Link::Up } else { Link::Down }))
        } else {
            None
        };
        let is_busy = is("loading", "1")
            || is("aof_rewrite_in_progress", "1")
            || is("aof_rewrite_scheduled", "1");
        let min_replicas = self.config("min-replicas-to-write").await?;
        let in_cluster = is("cluster_enabled", "1");
        // In a Redis Cluster the unit's own keys are on one of many servers.
        let (layout, fixed) = match in_cluster {
            true => (None, (None, None)),
            false => (
                self.ask(&["GET", &self.keys.layout()]).await?,
                self.ask(&["HMGET", &self.keys.fixed_data(), "version", "checksum"])
                    .await?,
            ),
        };
        let fixed: (Option<u64>, Option<String>) = fixed;
        Ok(Observed {
            address: self.address,
            replicates,
            in_cluster,
            keys: self.ask(&["DBSIZE"]).await?,
            layout,
            appendonly: self.config("appendonly").await? == "yes",
            appendfsync: self.config("appendfsync").await?,
            save: self.config("save").await?,
            min_replicas: min_replicas.parse().unwrap_or(0),
            is_busy,
            fixed: fixed.0.zip(fixed.1),
        })
    }

    /// Performs an action.
    ///
    /// # Errors
    /// [`GroupError::Server`].
    pub(crate) async fn perform(&self, step: &Step, fixed: &FixedData) -> Result<(), GroupError> {
        match step {
            Step::WriteLayout => {
                let layout = LAYOUT.to_string();
                self.ask(&["SET", &self.keys.layout(), &layout, "NX"]).await
            }
            Step::Set(name, value) => self.ask(&["CONFIG", "SET", name, value]).await,
            Step::Replicate(primary) => {
                // The replica logs in to the primary as we do.
                if let Some(password) = &self.password {
                    let user = self.user.as_deref().unwrap_or("default");
                    let () = self.ask(&["CONFIG", "SET", "masteruser", user]).await?;
                    let set = ["CONFIG", "SET", "masterauth", password];
                    let () = self.ask(&set).await?;
                }
                if self.is_tls {
                    let () = self
                        .ask(&["CONFIG", "SET", "tls-replication", "yes"])
                        .await?;
                }
                let (host, port) = (primary.ip().to_string(), primary.port().to_string());
                self.ask(&["REPLICAOF", &host, &port]).await
            }
            Step::Wait(_) => Ok(()),
            Step::LoadFixed(version) => self.load_fixed(*version, fixed).await,
        }
    }

    /// Writes the settings to the server's configuration file, so that they outlast a restart.
    /// `false` if it has none.
    ///
    /// # Errors
    /// [`GroupError::Server`].
    pub(crate) async fn keep_settings(&self) -> Result<bool, GroupError> {
        let info = self.info().await?;
        if info.get("config_file").is_none_or(String::is_empty) {
            return Ok(false);
        }
        let () = self.ask(&["CONFIG", "REWRITE"]).await?;
        Ok(true)
    }

    /// Loads the fixed data in one transaction, so that no reader sees half of a version.
    async fn load_fixed(&self, version: u64, fixed: &FixedData) -> Result<(), GroupError> {
        let meta = self.keys.fixed_data();
        let before: Option<String> = self.ask(&["HGET", &meta, "datasets"]).await?;
        let before = before.unwrap_or_default();
        let load = load_call(fixed, &self.keys, version, before.lines());
        let mut connection = self.connection.clone();
        let done: Result<(), RedisError> = load.query_async(&mut connection).await;
        done.map_err(|error| self.failed(error.to_string()))
    }

    async fn config(&self, name: &str) -> Result<String, GroupError> {
        let pair: Vec<String> = self.ask(&["CONFIG", "GET", name]).await?;
        let value = pair.into_iter().nth(1);
        value.ok_or_else(|| self.failed(format!("has no setting {name}")))
    }

    async fn ask<T: redis::FromRedisValue>(&self, parts: &[&str]) -> Result<T, GroupError> {
        let mut command = redis::Cmd::new();
        for part in parts {
            command.arg(*part);
        }
        let answer = command.query_async(&mut self.connection.clone()).await;
        answer.map_err(|error: RedisError| {
            // Only the command's first words: later ones may be secrets.
            let shown = parts.iter().take(3).copied().collect::<Vec<_>>().join(" ");
            self.failed(format!("{shown}: {error}"))
        })
    }

    fn failed(&self, why: String) -> GroupError {
        GroupError::Server {
            server: self.name.clone(),
            why,
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host((host, port)).await;
    let mut found = found.map_err(|error| format!("{host}:{port}: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("{host}: has no address"))
}
