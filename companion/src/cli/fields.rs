//! The flag and the environment variable of each setting.

use std::path::PathBuf;

use clap::Args;

use crate::config::raw::Raw;
use crate::config::{ConfigError, LOG_FORMAT, LogFormat, Settings};

/// The configuration: a file, and each field by environment or flag over it.
#[derive(Debug, Default, Args)]
pub(crate) struct Fields {
    /// The configuration file (TOML).
    #[arg(long, env = "UNITRING_CONFIG")]
    config: Option<PathBuf>,
    /// Name of this unit.
    #[arg(long, env = "UNITRING_UNIT")]
    unit: Option<String>,
    /// HTTP address, ip:port; port 0 takes a free one.
    #[arg(long, env = "UNITRING_LISTEN")]
    listen: Option<String>,
    /// gRPC (EDS) address, ip:port; port 0 takes a free one.
    #[arg(long, env = "UNITRING_XDS_LISTEN")]
    xds_listen: Option<String>,
    /// Bearer token that may do everything.
    #[arg(long, env = "UNITRING_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File of further tokens with their roles (TOML).
    #[arg(long, env = "UNITRING_TOKENS_FILE")]
    tokens_file: Option<String>,
    /// Further tokens with their roles, as the text of such a file.
    #[arg(long, env = "UNITRING_TOKENS", hide_env_values = true)]
    tokens: Option<String>,
    /// Whether reads need no token although tokens exist: true or false.
    #[arg(long, env = "UNITRING_OPEN_READS")]
    open_reads: Option<String>,
    /// Names that clients may call this companion by besides its addresses, comma separated.
    #[arg(long, env = "UNITRING_HOST_NAMES")]
    host_names: Option<String>,
    /// Whether to listen beyond loopback without a token or TLS: true or false.
    #[arg(long, env = "UNITRING_ALLOW_INSECURE")]
    allow_insecure: Option<String>,
    /// File of our certificate for TLS on both addresses, PEM.
    #[arg(long, env = "UNITRING_TLS_CERT")]
    tls_cert: Option<String>,
    /// File of the private key of that certificate, PEM.
    #[arg(long, env = "UNITRING_TLS_KEY")]
    tls_key: Option<String>,
    /// File of the roots of clients' certificates, PEM; with it, only clients with a certificate connect.
    #[arg(long, env = "UNITRING_TLS_CLIENT_CA")]
    tls_client_ca: Option<String>,
    /// Log filter, such as info or unitring=debug.
    #[arg(long, env = "UNITRING_LOG")]
    log: Option<String>,
    /// Form of log lines: text or json.
    #[arg(long, env = "UNITRING_LOG_FORMAT")]
    log_format: Option<String>,
    /// URL of the collector of traces, OTLP over gRPC, such as http://127.0.0.1:4317. Without it, nothing is traced.
    #[arg(long, env = "UNITRING_TRACE_OTLP", hide_env_values = true)]
    trace_otlp: Option<String>,
    /// Share of the requests to trace if their caller has not decided: 0 to 1.
    #[arg(long, env = "UNITRING_TRACE_SAMPLE")]
    trace_sample: Option<String>,
    /// File of the roots that are trusted for https:// to the collector, PEM. Default: those of the system.
    #[arg(long, env = "UNITRING_TRACE_TLS_CA")]
    trace_tls_ca: Option<String>,
    /// Store: embedded or redis.
    #[arg(long, env = "UNITRING_STORE_KIND")]
    store_kind: Option<String>,
    /// File of the embedded store.
    #[arg(long, env = "UNITRING_STORE_PATH")]
    store_path: Option<String>,
    /// Number of replicas that must have a write before it is acknowledged.
    #[arg(long, env = "UNITRING_STORE_WAIT_REPLICAS")]
    store_wait_replicas: Option<String>,
    /// Timeout of the wait for these replicas, such as 500ms.
    #[arg(long, env = "UNITRING_STORE_WAIT_TIMEOUT")]
    store_wait_timeout: Option<String>,
    /// URL of the unit's Redis: redis://, redis-sentinel:// or redis-cluster://, rediss… for TLS.
    #[arg(long, env = "UNITRING_STORE_REDIS_URL", hide_env_values = true)]
    store_redis_url: Option<String>,
    /// Password of the Sentinels themselves, if they have one.
    #[arg(long, env = "UNITRING_STORE_SENTINEL_PASSWORD", hide_env_values = true)]
    store_sentinel_password: Option<String>,
    /// File of the roots that are trusted for TLS to Redis, PEM. Default: those of the system.
    #[arg(long, env = "UNITRING_STORE_TLS_CA")]
    store_tls_ca: Option<String>,
    /// File of our certificate for TLS to Redis, PEM.
    #[arg(long, env = "UNITRING_STORE_TLS_CERT")]
    store_tls_cert: Option<String>,
    /// File of the private key of that certificate, PEM.
    #[arg(long, env = "UNITRING_STORE_TLS_KEY")]
    store_tls_key: Option<String>,
    /// URLs of the group's Redis servers, comma separated.
    #[arg(long, env = "UNITRING_GROUP_SERVERS", hide_env_values = true)]
    group_servers: Option<String>,
    /// Persistence of these servers: rdb, aof, both or none.
    #[arg(long, env = "UNITRING_GROUP_PERSISTENCE")]
    group_persistence: Option<String>,
    /// Number of replicas that must be connected for Redis to accept a write.
    #[arg(long, env = "UNITRING_GROUP_MIN_REPLICAS")]
    group_min_replicas: Option<String>,
    /// File of the fixed data, JSON Lines.
    #[arg(long, env = "UNITRING_GROUP_FIXED_DATA")]
    group_fixed_data: Option<String>,
    /// URL of the broker: amqp:// or amqps://, with the virtual host as its path.
    #[arg(long, env = "UNITRING_SYNC_AMQP_URL", hide_env_values = true)]
    sync_amqp_url: Option<String>,
    /// Brokers of units that have one of their own: unit=url, comma separated.
    #[arg(long, env = "UNITRING_SYNC_BROKERS", hide_env_values = true)]
    sync_brokers: Option<String>,
    /// File of the roots that are trusted for amqps://, PEM. Default: those of the system.
    #[arg(long, env = "UNITRING_SYNC_TLS_CA")]
    sync_tls_ca: Option<String>,
    /// File of our certificate for amqps://, PEM.
    #[arg(long, env = "UNITRING_SYNC_TLS_CERT")]
    sync_tls_cert: Option<String>,
    /// File of the private key of that certificate, PEM.
    #[arg(long, env = "UNITRING_SYNC_TLS_KEY")]
    sync_tls_key: Option<String>,
    /// The other units, comma separated.
    #[arg(long, env = "UNITRING_SYNC_PEERS")]
    sync_peers: Option<String>,
    /// How often units compare digests, such as 10s.
    #[arg(long, env = "UNITRING_SYNC_DIGEST_INTERVAL")]
    sync_digest_interval: Option<String>,
    /// Maximum number of changes kept for units that have not received them. A unit that misses more is repaired
    /// by digests.
    #[arg(long, env = "UNITRING_SYNC_OUTBOX_MAX")]
    sync_outbox_max: Option<String>,
    /// Maximum size of these changes in bytes.
    #[arg(long, env = "UNITRING_SYNC_OUTBOX_BYTES_MAX")]
    sync_outbox_bytes_max: Option<String>,
    /// Minimum time that tombstones are kept, such as 1h.
    #[arg(long, env = "UNITRING_SYNC_TOMBSTONES_KEPT")]
    sync_tombstones_kept: Option<String>,
    /// Batching delay: how long a change waits for others to share a message with, such as 2ms.
    #[arg(long, env = "UNITRING_SYNC_LINGER")]
    sync_linger: Option<String>,
    /// Quota of a unit's queue at its broker, in bytes; the same in all units.
    #[arg(long, env = "UNITRING_SYNC_QUEUE_BYTES_MAX")]
    sync_queue_bytes_max: Option<String>,
    /// Maximum number of records per second that repairs send; 0 for no limit.
    #[arg(long, env = "UNITRING_SYNC_REPAIR_RATE")]
    sync_repair_rate: Option<String>,
    /// Clock skew between units above which an alarm is raised, such as 500ms.
    #[arg(long, env = "UNITRING_SYNC_SKEW_MAX")]
    sync_skew_max: Option<String>,
}

impl Fields {
    /// The form of log lines, for lines before the settings are known to be valid.
    pub(crate) fn log_format(&self) -> LogFormat {
        let said = self.log_format.clone().filter(|said| !said.is_empty());
        let read = || {
            let raw = Raw::read(self.config.as_ref()?).ok()?;
            raw.peek(LOG_FORMAT).map(str::to_owned)
        };
        let said = said.or_else(read).unwrap_or_default();
        LogFormat::of(&said).unwrap_or_default()
    }

    /// The settings in force: flag over environment over file over default.
    ///
    /// # Errors
    /// [`ConfigError`]; the program ends with exit code 64.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let mut raw = match &self.config {
            Some(path) => Raw::read(path)?,
            None => Raw::default(),
        };
        let fields = [
            ("unit", &self.unit),
            ("listen", &self.listen),
            ("xds_listen", &self.xds_listen),
            ("token", &self.token),
            ("tokens_file", &self.tokens_file),
            ("tokens", &self.tokens),
            ("open_reads", &self.open_reads),
            ("host_names", &self.host_names),
            ("allow_insecure", &self.allow_insecure),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("tls_client_ca", &self.tls_client_ca),
            ("log", &self.log),
            (LOG_FORMAT, &self.log_format),
            ("trace.otlp", &self.trace_otlp),
            ("trace.sample", &self.trace_sample),
            ("trace.tls_ca", &self.trace_tls_ca),
            ("store.kind", &self.store_kind),
            ("store.path", &self.store_path),
            ("store.redis_url", &self.store_redis_url),
            ("store.sentinel_password", &self.store_sentinel_password),
            ("store.tls_ca", &self.store_tls_ca),
            ("store.tls_cert", &self.store_tls_cert),
            ("store.tls_key", &self.store_tls_key),
            ("store.wait_replicas", &self.store_wait_replicas),
            ("store.wait_timeout", &self.store_wait_timeout),
            ("group.servers", &self.group_servers),
            ("group.persistence", &self.group_persistence),
            ("group.min_replicas", &self.group_min_replicas),
            ("group.fixed_data", &self.group_fixed_data),
            ("sync.amqp_url", &self.sync_amqp_url),
            ("sync.peers", &self.sync_peers),
            ("sync.digest_interval", &self.sync_digest_interval),
            ("sync.outbox_max", &self.sync_outbox_max),
            ("sync.outbox_bytes_max", &self.sync_outbox_bytes_max),
            ("sync.brokers", &self.sync_brokers),
            ("sync.tls_ca", &self.sync_tls_ca),
            ("sync.tls_cert", &self.sync_tls_cert),
            ("sync.tls_key", &self.sync_tls_key),
            ("sync.tombstones_kept", &self.sync_tombstones_kept),
            ("sync.linger", &self.sync_linger),
            ("sync.queue_bytes_max", &self.sync_queue_bytes_max),
            ("sync.repair_rate", &self.sync_repair_rate),
            ("sync.skew_max", &self.sync_skew_max),
        ];
        for (path, said) in fields {
            // Said but empty, as an unset variable of a deployment is: it must not, for one, take the
            // token of the file away.
            if let Some(text) = said.as_ref().filter(|text| !text.is_empty()) {
                raw.set(path, text);
            }
        }
        Settings::try_from(raw)
    }
}
