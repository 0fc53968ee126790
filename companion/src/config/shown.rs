//! The settings in force as TOML, without secrets: what `unitring check` prints.

use std::fmt;

use unitring_protocol::ids::UnitId;

use super::{DoorSettings, Secret, Settings, StoreSettings, TlsFiles, Url, show_duration};

/// Writes the files for TLS of a section.
fn files(f: &mut fmt::Formatter<'_>, files: &TlsFiles) -> fmt::Result {
    if let Some(ca) = &files.ca {
        writeln!(f, "tls_ca = {:?}", ca.display().to_string())?;
    }
    if let Some((certificate, key)) = &files.identity {
        writeln!(f, "tls_cert = {:?}", certificate.display().to_string())?;
        writeln!(f, "tls_key = {:?}", key.display().to_string())?;
    }
    Ok(())
}

/// Writes credentials and their roles, without the secrets.
fn door(f: &mut fmt::Formatter<'_>, door: &DoorSettings) -> fmt::Result {
    let hidden = |secret: &Option<Secret>| secret.as_ref().map_or("", |_| "<redacted>");
    writeln!(f, "token = {:?}", hidden(&door.token))?;
    if door.tokens.is_some() {
        writeln!(f, "tokens = {:?}", hidden(&door.tokens))?;
    }
    if let Some(path) = &door.tokens_file {
        writeln!(f, "tokens_file = {:?}", path.display().to_string())?;
    }
    writeln!(f, "open_reads = {}", door.open_reads)?;
    writeln!(f, "host_names = {:?}", door.host_names)?;
    writeln!(f, "allow_insecure = {}", door.allow_insecure)?;
    let Some(tls) = &door.tls else {
        return Ok(());
    };
    writeln!(f, "tls_cert = {:?}", tls.certificate.display().to_string())?;
    writeln!(f, "tls_key = {:?}", tls.key.display().to_string())?;
    if let Some(path) = &tls.client_ca {
        writeln!(f, "tls_client_ca = {:?}", path.display().to_string())?;
    }
    Ok(())
}

impl fmt::Display for Settings {
    /// The effective settings as TOML, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "unit = {:?}", self.unit.as_str())?;
        writeln!(f, "listen = \"{}\"", self.listen)?;
        writeln!(f, "xds_listen = \"{}\"", self.xds_listen)?;
        door(f, &self.door)?;
        writeln!(f, "log.filter = {:?}", self.log.filter)?;
        writeln!(f, "log.format = {:?}", self.log.format.as_str())?;
        if let Some(trace) = &self.trace {
            writeln!(f, "trace.otlp = \"{}\"", trace.otlp)?;
            writeln!(f, "trace.sample = {}", trace.sample)?;
            if let Some(ca) = &trace.tls_ca {
                writeln!(f, "trace.tls_ca = {:?}", ca.display().to_string())?;
            }
        }
        writeln!(f, "\n[store]")?;
        match &self.store {
            StoreSettings::Embedded { path } => {
                writeln!(
                    f,
                    "kind = \"embedded\"\npath = {:?}",
                    path.display().to_string()
                )?;
            }
            StoreSettings::Redis(redis) => {
                writeln!(f, "kind = \"redis\"\nredis_url = \"{}\"", redis.url)?;
                if redis.sentinel_password.is_some() {
                    writeln!(f, "sentinel_password = \"<redacted>\"")?;
                }
                files(f, &redis.tls)?;
                writeln!(
                    f,
                    "wait_replicas = {}",
                    redis.wait.map_or(0, |wait| wait.replicas)
                )?;
                if let Some(wait) = redis.wait {
                    writeln!(f, "wait_timeout = \"{}\"", show_duration(wait.timeout))?;
                }
            }
        }
        if let Some(group) = &self.group {
            let servers: Vec<String> = group.servers.iter().map(Url::to_string).collect();
            writeln!(f, "\n[group]\nservers = {servers:?}")?;
            writeln!(f, "persistence = \"{}\"", group.persistence.as_str())?;
            writeln!(f, "min_replicas = {}", group.min_replicas)?;
            if let Some(path) = &group.fixed_data {
                writeln!(f, "fixed_data = {:?}", path.display().to_string())?;
            }
        }
        writeln!(f, "\n[sync]")?;
        let Some(sync) = &self.sync else {
            return writeln!(f, "amqp_url = \"\"\npeers = []");
        };
        let peers: Vec<&str> = sync.peers.iter().map(UnitId::as_str).collect();
        writeln!(f, "amqp_url = \"{}\"\npeers = {peers:?}", sync.amqp_url)?;
        let interval = show_duration(sync.digest_interval);
        writeln!(f, "digest_interval = \"{interval}\"")?;
        let brokers = sync.brokers.iter();
        let brokers: Vec<String> = brokers.map(|(unit, url)| format!("{unit}={url}")).collect();
        writeln!(f, "brokers = {brokers:?}")?;
        files(f, &sync.tls)?;
        writeln!(f, "outbox_max = {}", sync.outbox_max)?;
        writeln!(f, "outbox_bytes_max = {}", sync.outbox_bytes_max)?;
        let kept = show_duration(sync.tombstones_kept);
        writeln!(f, "tombstones_kept = \"{kept}\"")?;
        writeln!(f, "linger = \"{}\"", show_duration(sync.linger))?;
        writeln!(f, "queue_bytes_max = {}", sync.queue_bytes_max)?;
        writeln!(f, "repair_rate = {}", sync.repair_rate)?;
        writeln!(f, "skew_max = \"{}\"", show_duration(sync.skew_max))
    }
}
