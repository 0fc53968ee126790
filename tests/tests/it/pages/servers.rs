//! The servers that the commands of the pages run against.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Mutex;
use unitring_tests::deadline::until;
use unitring_tests::process::Process;
use unitring_tests::redis::Redis;
use unitring_tests::sessions::Sessions;
use unitring_tests::unit_group::{Brokers, UnitGroup};
use unitring_tests::{ports, programs};

/// The running servers, and a folder to run commands in.
pub(super) struct Servers {
    folder: TempDir,
    kind: Kind,
}

enum Kind {
    /// The demo, the URLs of its first Envoy and of that one's admin interface, and of the companion of each unit.
    Site {
        demo: Process,
        envoy: String,
        admin: String,
        companions: Vec<String>,
    },
    /// Three Redis servers, and a configuration that names them.
    Group { _servers: Vec<Redis> },
    /// Two units, and the record that the pages read.
    Units(UnitGroup),
    /// Two units with the session service.
    Sessions(Sessions),
    /// A folder with the shipped files, and the companion that a page starts once its certificates are there.
    Tls {
        companion: Mutex<Option<Process>>,
        port: u16,
    },
}

impl Servers {
    /// Starts those of this name.
    pub(super) async fn start(name: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("unitring-pages-")?;
        let kind = match name {
            "site" => site(folder.path(), &[]).await?,
            "tcp" => site(folder.path(), &["--tcp"]).await?,
            "two units" => site(folder.path(), &["--units", "2"]).await?,
            "group" => group(folder.path()).await?,
            "units" => units().await?,
            "sessions" => Kind::Sessions(Sessions::start().await?),
            "tls" => tls(folder.path())?,
            other => bail!("{other}: no such servers"),
        };
        Ok(Self { folder, kind })
    }

    /// Ends the demo by a signal, as a reader does, so that it ends what it started; the others end when they are dropped.
    pub(super) async fn stop(self) -> Result<()> {
        if let Kind::Site { mut demo, .. } = self.kind {
            demo.signal(Signal::INT)?;
            until("the demo to end", async || {
                demo.exited()?.context("it runs")
            })
            .await?;
        }
        Ok(())
    }

    /// Starts the companion with the certificates that the page has made, as the page says.
    async fn serve_with_tls(&self, companion: &Mutex<Option<Process>>, port: u16) -> Result<()> {
        let mut companion = companion.lock().await;
        if companion.is_some() {
            return Ok(());
        }
        let mut command = Command::new(programs::built("unitring")?);
        command
            .args(["serve", "--config", "envoy/tls.toml"])
            .env("UNITRING_LISTEN", format!("127.0.0.1:{port}"))
            .env(
                "UNITRING_XDS_LISTEN",
                format!("127.0.0.1:{}", ports::free()?),
            )
            .current_dir(self.folder.path());
        let mut process = Process::start("tls", &mut command, self.folder.path())?;
        let log = self.folder.path().join("tls.log");
        process
            .ready(async || {
                let said = fs::read_to_string(&log)?;
                ensure!(said.contains("role changed"), "{said}");
                Ok(())
            })
            .await?;
        *companion = Some(process);
        Ok(())
    }

    /// Runs a command as the reader does, and returns what it prints.
    pub(super) async fn run(&self, command: &str) -> Result<String> {
        let mut command = command.replace("target/unitring ", "unitring ");
        let mut shell = Command::new("sh");
        match &self.kind {
            Kind::Site {
                envoy,
                admin,
                companions,
                ..
            } => {
                let shown = [10_000, 9901, 7001, 7011];
                for (shown, real) in shown
                    .iter()
                    .zip([envoy, admin].into_iter().chain(companions))
                {
                    let real = real.trim_start_matches("http://");
                    command = command.replace(&format!("127.0.0.1:{shown}"), real);
                }
                command = command.replacen("curl ", "curl --silent --show-error ", 1);
                shell.env("UNITRING_URL", companions.first().context("no companion")?);
            }
            Kind::Group { .. } => {}
            Kind::Sessions(sessions) => {
                for (shown, side) in [10_000, 10_010].into_iter().zip(&sessions.sides) {
                    let (shown, real) = (format!("127.0.0.1:{shown}"), side.envoy.port);
                    command = command.replace(&shown, &format!("127.0.0.1:{real}"));
                }
                command = command.replacen("curl ", "curl --silent --show-error ", 1);
            }
            Kind::Tls { companion, port } => {
                if command.contains("https://") {
                    self.serve_with_tls(companion, *port).await?;
                }
                command = command.replace("localhost:7001", &format!("localhost:{port}"));
            }
            Kind::Units(group) => {
                let east = group.member("east")?;
                let redis = format!("redis-cli --no-raw -p {} ", east.redis.port);
                command = command.replacen("redis-cli ", &redis, 1);
                let url = format!("http://127.0.0.1:{}", east.companion.port);
                shell.env("UNITRING_URL", url);
            }
        }
        let output = shell
            .args(["-c", &command])
            .env("PATH", with_parts()?)
            .current_dir(self.folder.path())
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let error = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "$ {command}\n{text}{error}");
        if let Kind::Sessions(sessions) = &self.kind {
            // A reader takes a moment until the next command.
            sessions.group.agree().await?;
        }
        Ok(text)
    }
}

/// The folders of programs with that of `unitring` and of the fetched servers, as `make run` has them.
fn with_parts() -> Result<String> {
    let program = programs::built("unitring")?;
    let folder = program.parent().context("no folder")?.display();
    let parts = programs::root()?.join(".parts/bin");
    Ok(format!(
        "{folder}:{}:{}",
        parts.display(),
        std::env::var("PATH")?
    ))
}

/// The files that the page names, and no certificates.
fn tls(folder: &Path) -> Result<Kind> {
    let shipped = programs::root()?.join("envoy");
    fs::create_dir(folder.join("envoy"))?;
    for name in ["tls.toml", "tokens.toml"] {
        fs::copy(shipped.join(name), folder.join("envoy").join(name))?;
    }
    Ok(Kind::Tls {
        companion: Mutex::new(None),
        port: ports::free()?,
    })
}

/// The site that `make run` starts with these options.
async fn site(folder: &Path, options: &[&str]) -> Result<Kind> {
    let mut command = Command::new(programs::built("unitring")?);
    command
        .arg("demo")
        .args(options)
        .arg("--folder")
        .arg(folder.join("data"))
        .env("UNITRING_ENVOY", programs::part("envoy")?)
        .env("PATH", with_parts()?);
    let alone = crate::demo::STARTING.lock().await;
    let mut demo = Process::start("demo", &mut command, folder)?;
    let mut printed = String::new();
    demo.ready_within(crate::demo::START, async || {
        printed = fs::read_to_string(folder.join("demo.log"))?;
        ensure!(
            printed.contains("Ctrl-C stops"),
            "it has printed: {printed}"
        );
        Ok(())
    })
    .await?;
    drop(alone);
    let urls = |name: &str| -> Vec<String> {
        let lines = printed.lines().map(str::trim);
        let words = lines.filter_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        words.map(str::to_owned).collect()
    };
    let (envoy, companions) = (urls("Envoy "), urls("companion "));
    let missing = || format!("no Envoy or companion in {printed}");
    let envoy = envoy.first().with_context(missing)?.clone();
    let companion = companions.first().with_context(missing)?.clone();
    let admin = printed.split("admin ").nth(1);
    let admin = admin.and_then(|rest| rest.split_whitespace().next());
    let admin = admin
        .with_context(|| format!("no admin in {printed}"))?
        .to_owned();
    // Commands name the shipped files as they are named in the checkout.
    std::os::unix::fs::symlink(programs::root()?.join("envoy"), folder.join("envoy"))?;
    let is_reported = || -> Result<()> {
        let output = programs::unitring()?
            .args(["status", "--url", &companion])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let instances = text.lines().filter(|line| line.contains(" % "));
        ensure!(output.status.success() && instances.count() == 4, "{text}");
        Ok(())
    };
    until("the Envoy to report four instances", async || is_reported()).await?;
    Ok(Kind::Site {
        demo,
        envoy,
        admin,
        companions,
    })
}

/// The configuration is that of docs/group.md, with these servers.
async fn group(folder: &Path) -> Result<Kind> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Redis::start_with(&[]).await?);
    }
    let page = fs::read_to_string(programs::root()?.join("docs/group.md"))?;
    let config = page.split("```toml\n").nth(1).context("no configuration")?;
    let (config, _) = config.split_once("```").context("no end of it")?;
    let mut config = config.to_owned();
    for (number, server) in (1..).zip(&servers) {
        let shown = format!("redis://10.0.0.{number}:6379");
        ensure!(config.contains(&shown), "no {shown} in {config}");
        config = config.replace(&shown, &server.url());
    }
    fs::write(folder.join("unitring.toml"), config)?;
    let line = r#"{"dataset": "currencies", "key": "EUR", "value": "2"}"#;
    fs::write(folder.join("fixed.jsonl"), line)?;
    Ok(Kind::Group { _servers: servers })
}

async fn units() -> Result<Kind> {
    let group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    let (path, value) = ("/v1/data/profiles/ada", b"written in east".to_vec());
    let east = &group.member("east")?.companion;
    let put = east.call(Method::PUT, path, value).await?;
    ensure!(put.status().is_success(), "{}", put.status());
    Ok(Kind::Units(group))
}
