//! The Redis store: shared by the companions of a unit, readable by any Redis client.
//!
//! Invariant: each change is one Lua script over keys of one slot. While Redis is away, each
//! request tries to connect, and fails if it can't.

mod buckets;
mod catch_up;
mod changefeed;
pub(crate) mod connection;
mod durable;
mod event_log;
pub(crate) mod fixed;
mod fleet;
mod foreign;
mod forgetting;
mod health;
mod housekeeping;
mod keeping;
pub(crate) mod keys;
mod leadership;
mod outbox;
mod pictures;
mod records;
mod replica;
mod scripts;
pub(crate) mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use opentelemetry::trace::SpanKind;
use redis::{AsyncCommands as _, Cmd, RedisError};
use unitring_protocol::ids::UnitId;

use super::{Agreement, LAYOUT, Spoiled, StoreError};
use crate::config::topology::Topology;
use crate::config::{RedisSettings, Url};
use crate::trace::{self, Work};
use connection::{Connection, Login};
use durable::Durable;
use keys::Keys;
use pictures::Pictures;
use scripts::Scripts;

/// How often counters of unknown instances are looked for.
const PRUNE_MS: u64 = 30_000;

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct Redis {
    connection: Connection,
    /// The connections for writes that wait for replicas.
    durable: Option<Durable>,
    unit: UnitId,
    has_peers: bool,
    keys: Keys,
    spoiled: Arc<Spoiled>,
    scripts: Arc<Scripts>,
    /// `None` for a caller that need not agree with the companions.
    agreement: Option<Agreement>,
    is_checked: Arc<AtomicBool>,
    pruned_ms: Arc<AtomicU64>,
    pictures: Arc<Pictures>,
}

impl Redis {
    /// The store that the settings point to; it need not answer yet. With peers, writes go to the
    /// outbox, too. Needs a tokio runtime.
    ///
    /// # Errors [`StoreError::Corrupt`] if this is no Redis URL, [`StoreError::Tls`] for a file of
    /// TLS.
    pub fn open(
        settings: &RedisSettings,
        unit: UnitId,
        has_peers: bool,
    ) -> Result<Self, StoreError> {
        let (topology, login) = way(settings)?;
        let connect =
            || Connection::to(&topology, &login).map_err(|error| bad(&settings.url, &error));
        let scripts = Scripts::new();
        let wait = settings.wait;
        let calls = [scripts.write.clone(), scripts.delete.clone()];
        let durable = wait.map(|wait| Durable::start(connect, &calls, wait));
        Ok(Self {
            connection: connect()?,
            durable: durable.transpose()?,
            keys: Keys::of(unit.clone()),
            unit,
            has_peers,
            spoiled: Arc::default(),
            scripts: Arc::new(scripts),
            agreement: None,
            is_checked: Arc::default(),
            pruned_ms: Arc::default(),
            pictures: Arc::default(),
        })
    }

    /// Reaches the same servers with the login and the certificates of these settings from now on.
    ///
    /// # Errors
    /// As for [`Self::open`]; then nothing changes.
    pub fn log_in_anew(&self, settings: &RedisSettings) -> Result<(), StoreError> {
        let (topology, login) = way(settings)?;
        let durable = self.durable.iter().flat_map(Durable::connections);
        for connection in durable.chain([&self.connection]) {
            let done = connection.log_in_anew(&topology, &login);
            done.map_err(|error| bad(&settings.url, &error))?;
        }
        Ok(())
    }

    /// The same store, for a companion that must agree with the others of its unit.
    #[must_use]
    pub fn agreeing(self, agreement: Agreement) -> Self {
        let agreement = Some(agreement);
        Self { agreement, ..self }
    }

    /// Runs the script call of a write; returns once enough replicas have it, if the settings
    /// require some.
    async fn written<T: redis::FromRedisValue>(
        &self,
        bucket: u8,
        call: Cmd,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection().await?;
        if let Some(durable) = &self.durable {
            // Their connection is another task's.
            let span = Work::part(SpanKind::Client, "write, with replicas");
            let answer = trace::call(span, durable.write(bucket, call)).await?;
            return Ok(redis::from_redis_value(answer)?);
        }
        match call.query_async(&mut connection).await {
            // A restarted server or another primary does not have the script: the write was not
            // made.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                for script in [&self.scripts.write, &self.scripts.delete] {
                    let _: String = script.prepare_invoke().load_async(&mut connection).await?;
                }
                Ok(call.query_async(&mut connection).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// The bytes of the command that makes a write, for a comparison with a bare connection. The
    /// script must have been loaded, as it is by any write.
    #[cfg(feature = "contract-tests")]
    pub fn packed_write(
        &self,
        id: &unitring_protocol::record::RecordId,
        value: &[u8],
        now_ms: u64,
    ) -> Vec<u8> {
        let change = super::Change::from(Some(value));
        let call = self.write_call(id, change, &super::Condition::Any, now_ms);
        call.get_packed_command()
    }

    /// A connection to a store whose layout has been checked.
    async fn connection(&self) -> Result<Connection, StoreError> {
        if !self.is_checked.load(Ordering::Relaxed) {
            self.check_layout().await?;
        }
        Ok(self.connection.clone())
    }

    async fn check_layout(&self) -> Result<(), StoreError> {
        let checked = self.check_layout_now().await;
        self.named(self.keys.of_the_unit(), checked).await
    }

    async fn check_layout_now(&self) -> Result<(), StoreError> {
        let mut connection = self.connection.clone();
        let key = self.keys.layout();
        let mut found: Option<u64> = connection.get(&key).await?;
        if found.is_none() {
            let _: bool = connection.set_nx(&key, LAYOUT).await?;
            found = connection.get(&key).await?;
        }
        match found {
            Some(found) if found > LAYOUT => Err(StoreError::Newer {
                found,
                known: LAYOUT,
            }),
            Some(found) if found < LAYOUT => Err(StoreError::Older {
                found,
                known: LAYOUT,
            }),
            _ => {
                self.check_agreement().await?;
                self.is_checked.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// The first companion stores the settings that all must share; one that differs is refused.
    async fn check_agreement(&self) -> Result<(), StoreError> {
        let Some(agreement) = &self.agreement else {
            return Ok(());
        };
        let ours = &agreement.0;
        let (mut connection, key) = (self.connection.clone(), self.keys.agreement());
        let mut theirs: Option<String> = connection.get(&key).await?;
        if theirs.is_none() {
            let _: bool = connection.set_nx(&key, ours).await?;
            theirs = connection.get(&key).await?;
        }
        match theirs {
            Some(theirs) if !agreement.joins(&theirs) => Err(StoreError::Disagrees {
                ours: ours.clone(),
                theirs,
            }),
            _ => Ok(()),
        }
    }
}

fn bad(url: &Url, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("store.redis_url {url}: {error}"))
}

/// The servers of these settings, and the login there.
fn way(settings: &RedisSettings) -> Result<(Topology, Login), StoreError> {
    let topology = Topology::of(&settings.url).map_err(|error| bad(&settings.url, &error))?;
    let login = Login {
        sentinel_password: settings.sentinel_password.clone(),
        certificates: tls::certificates(&settings.tls)?,
    };
    Ok((topology, login))
}

/// Whether Redis refused a command for lack of memory.
fn is_full(error: &RedisError) -> bool {
    error.code() == Some("OOM")
}

impl From<RedisError> for StoreError {
    /// A server that is away, loading, read-only or full may recover; a wrong type will not.
    fn from(error: RedisError) -> Self {
        if foreign::is_foreign(&error) {
            return Self::Corrupt(error.to_string());
        }
        Self::Away(error.to_string())
    }
}

impl From<redis::ParsingError> for StoreError {
    fn from(error: redis::ParsingError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what:?}"))
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}
