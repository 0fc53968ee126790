//! Commands that a reader runs by hand, from `envoy/README.md` and the heads of the Envoy files, in their order, on
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

/// The ports of the shipped files, without those of the instances.
const SHOWN: [u16; 4] = [10_000, 9901, 7001, 7002];
const INSTANCES: [u16; 4] = [8081, 8082, 8083, 8084];
/// The same of `docs/updates.md`, in the order of its two units, with their servers.
const OF_UNITS: [u16; 13] = [
    10_000, 10_001, 9901, 7001, 7002, 6379, 10_010, 10_011, 9902, 7011, 7012, 6380, 5672,
];

/// Free ports in place of the ports that the page shows.
struct Ports(Vec<(u16, u16)>);

impl Ports {
    fn free(shown: &[u16]) -> Result<Self> {
        let free = |port: &u16| Ok((*port, ports::free()?));
        Ok(Self(shown.iter().map(free).collect::<Result<_>>()?))
    }

    /// The ports of [`SHOWN`] and of the instances, which `--port-base` gives ports in a row.
    fn of_files() -> Result<Self> {
        let mut ports = Self::free(&SHOWN)?;
        let first = ports::free_range(u16::try_from(INSTANCES.len())?)?;
        ports.0.extend(INSTANCES.into_iter().zip(first..));
        Ok(ports)
    }

    fn of(&self, shown: u16) -> u16 {
        let found = self.0.iter().find(|(port, _)| *port == shown);
        found.map_or(shown, |(_, free)| *free)
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
            .is_some_and(|end| ["yaml", "toml", "py"].iter().any(|it| end == *it));
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
    let ports = Ports::of_files()?;
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
    ensure!(adds.count() == INSTANCES.len(), "{commands:?}");
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

/// The blocks of a page from these words on that are for a shell.
fn blocks_of(page: &str, words: &str) -> Result<Vec<String>> {
    let page = fs::read_to_string(programs::root()?.join("docs").join(page))?;
    let (_, rest) = page.split_once(words).with_context(|| words.to_owned())?;
    let blocks = rest.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split_once("\n```"));
    Ok(blocks.map(|(block, _)| block.to_owned()).collect())
}

/// Ports whose last digits are 1 and 2, by their other digits, which the `sed` of the page relies on.
fn two_of_ten() -> Result<u16> {
    loop {
        let first = ports::free()?;
        if first % 10 == 1 && ports::free()? == first + 1 {
            return Ok(first / 10);
        }
    }
}

#[tokio::test]
async fn two_units_that_are_started_by_hand_share_a_session() -> Result<()> {
    let mut ports = Ports::free(&OF_UNITS)?;
    for tens in [808, 809] {
        let free = two_of_ten()?;
        let last = [
            (tens * 10 + 1, free * 10 + 1),
            (tens * 10 + 2, free * 10 + 2),
        ];
        ports.0.extend([(tens, free)].into_iter().chain(last));
    }
    let folder = checkout(&ports)?;
    for name in ["redis-server", "epmd", "rabbitmq-server"] {
        let link = folder.path().join(".parts/bin").join(name);
        std::os::unix::fs::symlink(programs::part(name)?, link)?;
    }
    let (distribution, mapper) = (ports::free()?, ports::free()?);
    let started = |name: &str, block: &str| -> Result<Process> {
        // Envoys of other tests run beside these.
        let block = block.replace("bin/envoy ", "bin/envoy --disable-hot-restart ");
        let mut shell = shell(&format!("{}\nwait", ports.put(&block)?), folder.path());
        // The page leaves the ports of RabbitMQ and Erlang as they are by default.
        shell
            .env("TMPDIR", folder.path())
            .env("RABBITMQ_NODE_PORT", ports.of(5672).to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("ERL_EPMD_PORT", mapper.to_string());
        Process::start(name, &mut shell, folder.path())
    };
    let blocks = blocks_of("updates.md", "For two units,")?;
    let [servers, east, west] = blocks.as_slice() else {
        anyhow::bail!("{blocks:?}");
    };
    let servers = started("servers", servers)?;
    for shown in [6379, 6380, 5672] {
        until(&format!("a server in place of {shown}"), async || {
            let reached = TcpStream::connect(("127.0.0.1", ports.of(shown))).await;
            reached.with_context(|| servers.log_end())
        })
        .await?;
    }
    let units = [started("east", east)?, started("west", west)?];
    for command in [
        "curl -sf -X POST --cookie-jar jar '127.0.0.1:10000/login?user=ada'",
        "curl -sf --cookie jar 127.0.0.1:10010/cart",
    ] {
        let command = ports.put(command)?;
        until(&command, async || {
            let output = shell(&command, folder.path()).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let logs = || units.each_ref().map(Process::log_end).join("\n");
            ensure!(text.contains(r#""user": "ada""#), "{text}{}", logs());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// A block that is for a shell and shows no output can be wrong unseen.
#[test]
fn each_block_for_a_shell_is_run_by_a_test_or_is_make() -> Result<()> {
    for path in super::pages()? {
        let text = fs::read_to_string(&path)?;
        let blocks = text.split("```sh\n").skip(1);
        for block in blocks.filter_map(|block| block.split("\n```").next()) {
            let is_make = block.lines().all(|line| line.starts_with("make "));
            // Here, and the last one by the servers `tls` of the pages.
            let run = ["envoy/README.md", "docs/updates.md", "docs/security.md"];
            let is_run = run.iter().any(|page| path.ends_with(page));
            ensure!(
                is_make || is_run,
                "{}: nothing runs {block}",
                path.display()
            );
        }
    }
    Ok(())
}
