//! FTP servers behind an Envoy with the shipped `ftp.yaml`, and curl as their client.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::companion::{Companion, Settings};
use crate::config::EnvoyConfig;
use crate::deadline::until;
use crate::envoy::Envoy;
use crate::ports;
use crate::process::Process;
use crate::programs;

/// Ports that `ftp.yaml` names: the port of the sessions, the servers, and the first passive port of each.
const SESSIONS: u16 = 2121;
const SERVERS: [(&str, u16); 3] = [
    ("127.0.0.11", 30_010),
    ("127.0.0.12", 30_020),
    ("127.0.0.13", 30_030),
];
const PASSIVE_PORTS: u16 = 10;
/// The file that each server has: it holds the server's name.
pub const NAME: &str = "name.txt";

/// A vsftpd.
#[derive(Debug)]
pub struct FtpServer {
    /// The content of its file [`NAME`].
    pub name: String,
    /// The first of its passive ports.
    pub passive: u16,
    process: Process,
    folder: TempDir,
}

impl FtpServer {
    async fn start(index: usize, settings: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("unitring-ftp-")?;
        let name = format!("server {index}");
        let files = folder.path().join("files");
        fs::create_dir(&files)?;
        fs::create_dir(folder.path().join("empty"))?;
        fs::write(files.join(NAME), &name)?;
        // Without root, for anonymous clients, and in the foreground.
        let user = Command::new("id").arg("-un").output()?;
        let user = String::from_utf8(user.stdout)?.trim().to_owned();
        let here = folder.path().display();
        let own = format!(
            "listen=YES\nbackground=NO\nrun_as_launching_user=YES\nseccomp_sandbox=NO\n\
             anonymous_enable=YES\nlocal_enable=NO\nno_anon_password=YES\nwrite_enable=YES\n\
             anon_upload_enable=YES\nanon_umask=022\nallow_writeable_chroot=YES\n\
             ftp_username={user}\nnopriv_user={user}\nanon_root={here}/files\n\
             secure_chroot_dir={here}/empty\nxferlog_enable=NO\n"
        );
        fs::write(folder.path().join("vsftpd.conf"), own + settings)?;
        let process = Self::spawn(&folder).await?;
        let passive = setting(settings, "pasv_min_port=")?.parse()?;
        Ok(Self {
            name,
            passive,
            process,
            folder,
        })
    }

    async fn spawn(folder: &TempDir) -> Result<Process> {
        let config = folder.path().join("vsftpd.conf");
        let settings = fs::read_to_string(&config)?;
        let address: Ipv4Addr = setting(&settings, "listen_address=")?.parse()?;
        let port: u16 = setting(&settings, "listen_port=")?.parse()?;
        let mut command = Command::new(programs::part("vsftpd")?);
        let mut process = Process::start("vsftpd", command.arg(&config), folder.path())?;
        process.listens((address, port)).await?;
        Ok(process)
    }

    /// A file that it serves, or was sent.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// Kills it with all its sessions.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again, on its ports.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = Self::spawn(&self.folder).await?;
        Ok(())
    }
}

fn setting<'a>(settings: &'a str, name: &str) -> Result<&'a str> {
    let mut lines = settings.lines();
    let found = lines.find_map(|line| line.strip_prefix(name));
    found.with_context(|| format!("no {name} in {settings}"))
}

/// Envoy, companion and servers.
#[derive(Debug)]
pub struct FtpSite {
    /// The Envoy before the servers.
    pub envoy: Envoy,
    pub companion: Companion,
    /// The servers, in the order of `ftp.yaml`.
    pub servers: Vec<FtpServer>,
    /// Where clients connect.
    pub port: u16,
    _certificates: Certificates,
}

impl FtpSite {
    /// Starts everything, and waits until the filter steers.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start() -> Result<Self> {
        let certificates = Certificates::make()?;
        let companion = Settings::default().start().await?;
        let port = ports::free()?;
        let mut config = EnvoyConfig::shipped("ftp.yaml")?
            .companion(&companion)?
            .moved(SESSIONS, port);
        let mut servers = Vec::new();
        for (index, (address, passive)) in SERVERS.into_iter().enumerate() {
            let first = ports::free_range(PASSIVE_PORTS)?;
            for offset in 0..PASSIVE_PORTS {
                config = config.moved(passive + offset, first + offset);
            }
            let tls = format!(
                "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_logins_ssl=NO\nforce_anon_data_ssl=NO\n\
                 rsa_cert_file={}\nrsa_private_key_file={}\n",
                certificates.path("server.pem"),
                certificates.path("server.key"),
            );
            let settings = settings_of_the_file(port, address, first)? + &tls;
            servers.push(FtpServer::start(index + 1, &settings).await?);
        }
        let envoy = Envoy::start(&config).await?;
        let this = Self {
            envoy,
            companion,
            servers,
            port,
            _certificates: certificates,
        };
        this.steers_to(3).await?;
        Ok(this)
    }

    /// Waits until the filter chooses among this many servers.
    ///
    /// # Errors
    /// The deadline passes first.
    pub async fn steers_to(&self, servers: u64) -> Result<()> {
        until(
            &format!("{servers} servers to be chosen from"),
            async || {
                let eligible = self
                    .envoy
                    .stat("wasmcustom.unitring.ftp.instances_eligible")
                    .await?;
                let healthy = self.envoy.stat("cluster.ftp.membership_healthy").await?;
                ensure!(
                    (eligible, healthy) == (servers, servers),
                    "{eligible}, {healthy}"
                );
                Ok(())
            },
        )
        .await
    }

    /// The name of this client's server, read by a transfer with these options.
    ///
    /// # Errors
    /// curl fails.
    pub async fn server_of(&self, client: Ipv4Addr, options: &[&str]) -> Result<String> {
        let name = curl(self.port, client, options, NAME).await?;
        Ok(String::from_utf8(name)?)
    }

    /// How many sessions the filter counts.
    ///
    /// # Errors
    /// Envoy does not answer.
    pub async fn sessions(&self) -> Result<u64> {
        self.envoy.stat("wasmcustom.unitring.ftp.in_flight").await
    }
}

/// Runs curl as this client, with these options, on a file of its server behind this port.
///
/// # Errors
/// curl fails; the error has its output.
pub async fn curl(port: u16, client: Ipv4Addr, options: &[&str], file: &str) -> Result<Vec<u8>> {
    let mut command = tokio::process::Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "100"])
        .args(["--interface", &client.to_string()])
        .args(options)
        .arg(format!("ftp://127.0.0.1:{port}/{file}"))
        .kill_on_drop(true);
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {options:?}: {said}");
    Ok(output.stdout)
}

/// The configuration that the head of `ftp.yaml` shows for the first server, for this one.
fn settings_of_the_file(port: u16, address: &str, passive: u16) -> Result<String> {
    let path = programs::root()?.join("envoy/ftp.yaml");
    let text = fs::read_to_string(path)?;
    let head = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let lines = head.filter_map(|line| {
        line.split_whitespace()
            .next()
            .filter(|word| word.contains('='))
    });
    let mut settings = lines.fold(String::new(), |text, line| text + line + "\n");
    let (shown, first) = SERVERS[0];
    let last = |first: u16| (first + PASSIVE_PORTS - 1).to_string();
    for (from, to) in [
        (SESSIONS.to_string(), port.to_string()),
        (shown.to_owned(), address.to_owned()),
        (first.to_string(), passive.to_string()),
        (last(first), last(passive)),
    ] {
        ensure!(
            settings.contains(&format!("={from}\n")),
            "no {from} in {settings}"
        );
        settings = settings.replace(&format!("={from}\n"), &format!("={to}\n"));
    }
    Ok(settings)
}
