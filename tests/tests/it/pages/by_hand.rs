//! What a reader starts by hand: the commands of `envoy/README.md` and of the heads of the Envoy files, in their order, on
//! free ports, until the last one shows an answer of an instance.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use regex::{Captures, Regex};
use tempfile::TempDir;
use tokio::net::TcpStream;
use unitring_tests::deadline::until;
use unitring_tests::process::Process;
use unitring_tests::{ports, programs};

/// The ports of the shipped files, those of the four instances last.
const SHOWN: [u16; 8] = [10_000, 9901, 7001, 7002, 8081, 8082, 8083, 8084];
const INSTANCES: usize = 4;

/// A free port in place of each of [`SHOWN`].
struct Ports([u16; SHOWN.len()]);

impl Ports {
    fn free() -> Result<Self> {
        let mut free = [0; SHOWN.len()];
        for port in &mut free {
            *port = ports::free()?;
        }
        // `--port-base` gives the instances ports in a row.
        let (_, instances) = free.split_at_mut(INSTANCES);
        while instances.windows(2).any(|two| two[0] + 1 != two[1]) {
            instances.rotate_left(1);
            instances[INSTANCES - 1] = ports::free()?;
        }
        Ok(Self(free))
    }

    fn of(&self, shown: u16) -> u16 {
        let mut both = SHOWN.iter().zip(self.0);
        both.find(|(port, _)| **port == shown)
            .map_or(shown, |(_, free)| free)
    }

    /// The text with these ports.
    fn put(&self, text: &str) -> Result<String> {
        let number = Regex::new(r"\b\d+\b")?;
        let free = |found: &Captures<'_>| {
            let port = found[0].parse();
            port.map_or_else(|_| found[0].to_owned(), |port| self.of(port).to_string())
        };
        Ok(number.replace_all(text, free).into_owned())
    }
}

/// A checkout as `make build` leaves it, with other ports in its files.
fn checkout(ports: &Ports) -> Result<TempDir> {
    let folder = TempDir::with_prefix("unitring-by-hand-")?;
    let at = |name: &str| folder.path().join(name);
    for name in ["envoy", "target", ".parts/bin"] {
        fs::create_dir_all(at(name))?;
    }
    for (program, name) in [
        (programs::built("unitring")?, "target/unitring"),
        (programs::filter()?, "target/unitring.wasm"),
        (programs::native()?, "target/libunitring.so"),
        (programs::part("envoy")?, ".parts/bin/envoy"),
    ] {
        std::os::unix::fs::symlink(program, at(name))?;
    }
    for entry in fs::read_dir(programs::root()?.join("envoy"))? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?;
        let is_config = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "toml");
        if is_config {
            let text = ports.put(&fs::read_to_string(&path)?)?;
            fs::write(folder.path().join("envoy").join(name), text)?;
        }
    }
    Ok(folder)
}

/// The commands of a page's block that follows these words, without their comments.
fn of_page(words: &str, fence: &str) -> Result<Vec<String>> {
    let page = fs::read_to_string(programs::root()?.join("envoy/README.md"))?;
    let (_, rest) = page.split_once(words).with_context(|| words.to_owned())?;
    let (_, rest) = rest.split_once(fence).context("no block")?;
    let (block, _) = rest.split_once("\n```").context("no end")?;
    Ok(block.lines().map(without_comment).collect())
}

/// The commands of the head of an Envoy file.
fn of_head(file: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(programs::root()?.join("envoy").join(file))?;
    let lines = text.lines().map(|line| line.strip_prefix("#   "));
    let lines = lines.skip_while(Option::is_none);
    let commands: Vec<String> = lines.map_while(|line| line.map(without_comment)).collect();
    ensure!(
        commands.first().is_some_and(|first| first == "make build"),
        "{commands:?}"
    );
    Ok(commands.into_iter().skip(1).collect())
}

fn without_comment(line: &str) -> String {
    let command = line.split("  #").next().unwrap_or(line);
    command.trim().to_owned()
}

/// A command that runs until it is stopped, with what only a test has to add; `None` for one that ends by itself.
fn started(command: &str, ports: &Ports) -> Option<String> {
    if command.contains(" demo --only-instances") {
        let base = ports.of(8081);
        return Some(format!("{command} --port-base {base}"));
    }
    if command.starts_with(".parts/bin/envoy ") {
        // Envoys of other tests run beside it.
        return Some(format!("{command} --disable-hot-restart"));
    }
    command.contains(" serve ").then(|| command.to_owned())
}

fn shell(command: &str, folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UNITRING_") {
            shell.env_remove(name);
        }
    }
    shell
}

/// Runs the commands as a reader does, each that does not end in a terminal of its own; returns what the last one shows.
async fn typed(commands: &[String]) -> Result<String> {
    let ports = Ports::free()?;
    let folder = checkout(&ports)?;
    let companion = format!("http://127.0.0.1:{}", ports.of(7001));
    let mut running = Vec::new();
    let mut shown = String::new();
    for command in commands {
        let command = ports.put(command)?;
        if let Some(command) = started(&command, &ports) {
            let mut shell = shell(&format!("exec {command}"), folder.path());
            let name = format!("terminal-{}", running.len() + 1);
            running.push(Process::start(&name, &mut shell, folder.path())?);
            continue;
        }
        shown = until(&command, async || {
            for process in &mut running {
                ensure!(process.exited()?.is_none(), "{}", process.log_end());
            }
            let mut shell = shell(&command, folder.path());
            let output = shell.env("UNITRING_URL", &companion).output()?;
            let text = String::from_utf8(output.stdout)?;
            // Envoy takes a moment to find the instances.
            let is_there = output.status.success() && !text.is_empty() && !text.contains(" 503 ");
            ensure!(
                is_there,
                "{text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(text)
        })
        .await?;
    }
    Ok(shown)
}

async fn answers(commands: &[String]) -> Result<()> {
    let shown = typed(commands).await?;
    ensure!(
        shown.starts_with("HTTP/1.1 200 OK") && shown.contains(r#""instance":""#),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn the_quick_start_by_hand_ends_in_an_answer() -> Result<()> {
    let mut commands = of_page("## Load the filter", "```sh\n")?;
    let asks = of_page("In a fourth terminal", "```console\n$ ")?;
    commands.extend(asks.into_iter().take(1));
    ensure!(commands.len() == 4, "{commands:?}");
    answers(&commands).await
}

#[tokio::test]
async fn the_head_of_the_smallest_file_ends_in_an_answer() -> Result<()> {
    answers(&of_head("envoy.yaml")?).await
}

#[tokio::test]
async fn the_head_of_the_file_with_a_registry_ends_in_an_answer_of_four_instances() -> Result<()> {
    let commands = of_head("eds.yaml")?;
    let adds = commands
        .iter()
        .filter(|line| line.contains(" instance add "));
    ensure!(adds.count() == INSTANCES, "{commands:?}");
    answers(&commands).await
}

#[tokio::test]
async fn the_head_of_the_file_with_the_native_module_ends_in_an_answer() -> Result<()> {
    answers(&of_head("native.yaml")?).await
}

#[tokio::test]
async fn the_heads_of_the_files_for_tcp_end_in_an_answer() -> Result<()> {
    for file in ["tcp.yaml", "native-tcp.yaml"] {
        let shown = typed(&of_head(file)?).await?;
        ensure!(shown.starts_with("instance "), "{file}: {shown}");
    }
    Ok(())
}

#[tokio::test]
async fn the_servers_of_two_units_start_as_their_page_says() -> Result<()> {
    let page = fs::read_to_string(programs::root()?.join("docs/updates.md"))?;
    let (_, rest) = page.split_once("For two units,").context("no units")?;
    let (_, rest) = rest.split_once("```sh\n").context("no block")?;
    let (block, _) = rest.split_once("\n```").context("no end")?;
    let (mut block, mut redis) = (block.to_owned(), Vec::new());
    for shown in ["6379", "6380"] {
        ensure!(block.contains(shown), "{block}");
        let port = ports::free()?;
        block = block.replace(shown, &port.to_string());
        redis.push(port);
    }
    let folder = TempDir::with_prefix("unitring-by-hand-")?;
    let parts = programs::part("redis-server")?;
    let parts = parts.parent().context("no folder")?;
    fs::create_dir(folder.path().join(".parts"))?;
    std::os::unix::fs::symlink(parts, folder.path().join(".parts/bin"))?;
    let rabbit = ports::free()?;
    // The page leaves Erlang's and RabbitMQ's ports as they are by default.
    let mut shell = shell(&format!("{block}\nwait"), folder.path());
    shell
        .env("TMPDIR", folder.path())
        .env("RABBITMQ_NODE_PORT", rabbit.to_string())
        .env("RABBITMQ_DIST_PORT", ports::free()?.to_string())
        .env("ERL_EPMD_PORT", ports::free()?.to_string());
    let servers = Process::start("servers", &mut shell, folder.path())?;
    for port in redis.into_iter().chain([rabbit]) {
        until(&format!("a server at {port}"), async || {
            let reached = TcpStream::connect(("127.0.0.1", port)).await;
            reached.with_context(|| servers.log_end())
        })
        .await?;
    }
    Ok(())
}
