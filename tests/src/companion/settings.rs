//! How a companion is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use reqwest::Client;
use tempfile::TempDir;

use super::Companion;
use crate::ports;
use crate::process::Process;
use crate::programs;
use crate::rabbit::Rabbit;
use crate::redis::Redis;

/// The example of one unit on the embedded store.
const EXAMPLE: &str = "unitring.toml";

/// How a companion is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In the folder of examples, or anywhere.
    file: PathBuf,
    environment: BTreeMap<String, String>,
    outlasts_file_limits: bool,
    open_files: Option<u32>,
}

impl Default for Settings {
    /// One unit on the embedded store.
    fn default() -> Self {
        Self {
            file: EXAMPLE.into(),
            environment: BTreeMap::new(),
            outlasts_file_limits: false,
            open_files: None,
        }
    }
}

impl Settings {
    /// One unit that keeps its data in this Redis.
    pub fn on_redis(redis: &Redis) -> Self {
        Self::at_redis(&redis.url())
    }

    /// One unit whose data is where the URL leads.
    pub fn at_redis(url: &str) -> Self {
        Self::default()
            .variable("UNITRING_STORE_KIND", "redis")
            .variable("UNITRING_STORE_REDIS_URL", url)
    }

    /// A unit of this name that syncs with its peers.
    pub fn unit(name: &str, peers: &[&str], redis: &Redis, rabbit: &Rabbit) -> Self {
        Self {
            file: "unit-east.toml".into(),
            ..Self::default()
        }
        .variable("UNITRING_UNIT", name)
        .variable("UNITRING_STORE_REDIS_URL", &redis.url())
        .variable("UNITRING_SYNC_AMQP_URL", &rabbit.url())
        .variable("UNITRING_SYNC_PEERS", &peers.join(","))
    }

    /// Reads this file of settings.
    #[must_use]
    pub fn file(mut self, file: &Path) -> Self {
        file.clone_into(&mut self.file);
        self
    }

    /// Sets any field, by its environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets a write past a file limit (`prlimit --fsize`) fail, as on a full disk, instead of killing the
    /// companion.
    #[must_use]
    pub fn outlasting_file_limits(mut self) -> Self {
        self.outlasts_file_limits = true;
        self
    }

    /// Lets the companion have this many files open, connections included (`ulimit -n`).
    #[must_use]
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Starts the companion on free ports.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(&self) -> Result<Companion> {
        ports::with_fresh_ports(async || self.start_on(ports::free()?, ports::free()?).await).await
    }

    /// Starts the companion on these ports.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_on(&self, port: u16, xds_port: u16) -> Result<Companion> {
        let folder = TempDir::with_prefix("unitring-companion-")?;
        let process = self.spawn(port, xds_port, &folder).await?;
        let settings = self.clone();
        Ok(Companion {
            port,
            xds_port,
            settings,
            process,
            client: Client::new(),
            folder,
        })
    }

    pub(super) async fn spawn(
        &self,
        port: u16,
        xds_port: u16,
        folder: &TempDir,
    ) -> Result<Process> {
        let program = programs::built("unitring")?;
        let mut command = if self.outlasts_file_limits {
            // A signal that the shell ignores stays ignored in its child.
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
            shell.arg(program);
            shell
        } else if let Some(most) = self.open_files {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {most}; exec \"$0\" \"$@\"")]);
            shell.arg(program);
            shell
        } else {
            Command::new(program)
        };
        let file = programs::root()?.join("envoy").join(&self.file);
        command
            .arg("serve")
            .arg("--config")
            .arg(file)
            .env("UNITRING_LISTEN", format!("127.0.0.1:{port}"))
            .env("UNITRING_XDS_LISTEN", format!("127.0.0.1:{xds_port}"))
            .current_dir(folder.path());
        if self.file == Path::new(EXAMPLE) {
            command.env("UNITRING_STORE_PATH", folder.path().join("unitring.redb"));
        }
        command.envs(&self.environment);
        let unit = self
            .environment
            .get("UNITRING_UNIT")
            .map_or("unit", String::as_str);
        let mut process =
            Process::start(&format!("companion-{unit}"), &mut command, folder.path())?;
        if self.environment.contains_key("UNITRING_TLS_CERT") {
            // No client here trusts its certificate.
            let has_said = async || {
                ensure!(log_of(folder, unit)?.contains(" serving "));
                Ok(())
            };
            process.ready(has_said).await?;
            return Ok(process);
        }
        let url = format!("http://127.0.0.1:{port}/healthz");
        process.answers(&url).await?;
        Ok(process)
    }
}

fn log_of(folder: &TempDir, unit: &str) -> Result<String> {
    let file = folder.path().join(format!("companion-{unit}.log"));
    Ok(std::fs::read_to_string(file)?)
}
