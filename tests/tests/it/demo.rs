//! The commands that `unitring demo` prints work as printed, the README shows one of them, and an error
//! names what is missing and the way to get it.

mod tcp;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::Mutex;
use unitring_tests::deadline::until;
use unitring_tests::ports;
use unitring_tests::process::Process;
use unitring_tests::programs;

/// Held while a demo starts: two that look for free ports at once take the same.
pub(crate) static STARTING: Mutex<()> = Mutex::const_new(());

/// How long a demo may take to start all its servers, one after the other, on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(360);

/// The demo, with the programs that `make run` gives it.
fn demo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(programs::built("unitring")?);
    let envoy = programs::part("envoy")?;
    let parts = programs::root()?.join(".parts/bin");
    let path = format!("{}:{}", parts.display(), std::env::var("PATH")?);
    command
        .arg("demo")
        .args(arguments)
        .env("PATH", path)
        .env("UNITRING_ENVOY", envoy);
    Ok(command)
}

/// Starts the demo, and waits until it has printed this line.
async fn start(arguments: &[&str], folder: &Path, last: &str) -> Result<(Process, String)> {
    let mut command = demo(arguments)?;
    let mut process = Process::start("demo", &mut command, folder)?;
    let mut printed = String::new();
    process
        .ready_within(START, async || {
            // It ends early, with the log, if the demo does.
            printed = fs::read_to_string(folder.join("demo.log"))?;
            ensure!(printed.contains(last), "it has printed: {printed}");
            Ok(())
        })
        .await?;
    Ok((process, printed))
}

/// Starts a complete demo, and returns what it prints.
async fn start_all(arguments: &[&str], folder: &Path) -> Result<(Process, String)> {
    let data = folder.join("data");
    let data = data.to_str().context("a folder that is no text")?;
    let arguments = [arguments, &["--folder", data]].concat();
    let _alone = STARTING.lock().await;
    start(&arguments, folder, "Ctrl-C stops all of it.").await
}

/// The commands of a demo that end by themselves.
fn commands(printed: &str) -> Result<Vec<String>> {
    let lines = printed.lines().map(str::trim);
    let commands = lines.filter(|line| line.starts_with("curl ") || line.contains(" | curl "));
    let commands: Vec<String> = commands.map(str::to_owned).collect();
    ensure!(!commands.is_empty(), "no command in: {printed}");
    Ok(commands)
}

/// Runs a command as a user would; an HTTP error is an error.
fn run(command: &str) -> Result<String> {
    let command = command.replacen("curl ", "curl --silent --show-error --fail ", 1);
    let output = Command::new("sh").args(["-c", &command]).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}

/// Each of these commands of two units prints something.
async fn each_answers(commands: &[String]) -> Result<()> {
    for command in commands {
        // The record arrives a moment after it was written in the other unit.
        let answer = until(command, async || run(command)).await?;
        ensure!(!answer.is_empty(), "{command} answered nothing");
    }
    Ok(())
}

/// Ctrl-C ends the demo with success, and everything that it started.
async fn interrupt(process: &mut Process) -> Result<()> {
    process.signal(Signal::INT)?;
    let status = until("the demo to end", async || {
        process.exited()?.context("it runs")
    })
    .await?;
    ensure!(status.success(), "{status}: {}", process.log_end());
    let log = process.log();
    ensure!(log.trim_end().ends_with("stopped"), "{log}");
    Ok(())
}

#[tokio::test]
async fn every_command_that_the_demo_prints_works_as_printed_and_nothing_outlives_it() -> Result<()>
{
    let folder = TempDir::new()?;
    let (mut process, printed) = start_all(&[], folder.path()).await?;
    for command in &commands(&printed)? {
        // Instances take their first keys once Envoy has checked them.
        until(command, async || run(command)).await?;
    }
    let logs = folder.path().join("data/east");
    for log in ["envoy.log", "companion.log"] {
        ensure!(logs.join(log).exists(), "there is no {log}");
    }
    interrupt(&mut process).await?;
    let folder = folder.path().display().to_string();
    // What was killed takes a moment to end.
    until("nothing to outlive it", async || {
        let left = run(&format!(
            "grep -slaF '{folder}' /proc/[0-9]*/cmdline || true"
        ))?;
        // The shell and grep name the folder, too, and have ended by now.
        let is_there = |file: &str| fs::read(file).is_ok_and(|bytes| !bytes.is_empty());
        let left: Vec<&str> = left.lines().filter(|file| is_there(file)).collect();
        ensure!(left.is_empty(), "{left:?} still run");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn with_the_native_module_every_command_works_as_printed_too() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut process, printed) = start_all(&["--native"], folder.path()).await?;
    ensure!(
        !printed.contains("x-unitring-"),
        "what a policy does not tell: {printed}"
    );
    for command in &commands(&printed)? {
        until(command, async || run(command)).await?;
    }
    interrupt(&mut process).await
}

#[tokio::test]
async fn two_units_read_what_the_other_wrote_by_the_commands_that_are_printed() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut process, printed) = start_all(&["--units", "2"], folder.path()).await?;
    each_answers(&commands(&printed)?).await?;
    interrupt(&mut process).await
}

#[tokio::test]
async fn instances_alone_are_started_for_a_configuration_by_hand() -> Result<()> {
    let folder = TempDir::new()?;
    let base = ports::free_range(4)?.to_string();
    let arguments = ["--only-instances", "--port-base", &base];
    let (mut process, printed) = start(&arguments, folder.path(), "Ctrl-C stops them.").await?;
    ensure!(
        printed.contains(&format!("a 127.0.0.1:{base}   b ")),
        "{printed}"
    );
    let answer = run(&format!("curl 127.0.0.1:{base}/x"))?;
    ensure!(answer.contains(r#""instance":"a""#), "{answer}");
    interrupt(&mut process).await
}

/// The output of a demo that cannot start, which must fail.
fn refused(command: Command) -> Result<String> {
    ends_with(command, 1)
}

fn ends_with(mut command: Command, code: i32) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(code),
        "{}: {text}",
        output.status
    );
    Ok(text)
}

#[test]
fn what_the_demo_lacks_is_named_with_the_way_to_get_it() -> Result<()> {
    let mut command = demo(&[])?;
    command.env_remove("UNITRING_ENVOY").env("PATH", "/nowhere");
    let text = refused(command)?;
    ensure!(
        text.contains("no envoy on PATH: say `--envoy FILE`"),
        "{text}"
    );

    // The command line is wrong.
    let text = ends_with(demo(&["--envoy", "/nowhere/envoy"])?, 64)?;
    ensure!(
        text.contains("--envoy /nowhere/envoy: No such file"),
        "{text}"
    );

    let text = refused(demo(&["--envoy", "/bin/true"])?)?;
    ensure!(text.contains("tells no version of Envoy"), "{text}");

    let text = ends_with(demo(&["--filter", "/nowhere/f.wasm"])?, 64)?;
    ensure!(
        text.contains("--filter /nowhere/f.wasm: No such file"),
        "{text}"
    );

    let mut command = demo(&["--units", "2"])?;
    command.env("PATH", "/nowhere");
    let text = refused(command)?;
    ensure!(
        text.contains("on PATH, which two units need: `apt install "),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_named() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let text = refused(demo(&["--only-instances", "--port-base", &port])?)?;
    ensure!(text.contains(&format!("port {port} is in use")), "{text}");
    Ok(())
}

#[tokio::test]
async fn instances_alone_take_the_ports_that_the_shipped_files_name_and_no_others() -> Result<()> {
    // Another demo may have it for a while, and none may be about to use it.
    let _alone = STARTING.lock().await;
    let _taken = until("port 8081 to be free", async || {
        Ok(std::net::TcpListener::bind("127.0.0.1:8081")?)
    })
    .await?;
    let text = refused(demo(&["--only-instances"])?)?;
    ensure!(
        text == "unitring: port 8081 is in use: choose another --port-base\n",
        "{text}"
    );
    for more in [&["--native"][..], &["--folder", "x"], &["--units", "2"]] {
        let output = demo(&[&["--only-instances"], more].concat())?.output()?;
        let text = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(64) && text.contains("cannot be used with"),
            "{more:?}: {}: {text}",
            output.status
        );
    }
    Ok(())
}

#[test]
fn the_request_of_the_readme_is_one_that_the_demo_prints() -> Result<()> {
    let root: PathBuf = programs::root()?;
    let readme = fs::read_to_string(root.join("README.md"))?;
    let printed = fs::read_to_string(root.join("companion/src/demo/suggestions.rs"))?;
    let shown = readme.lines().find_map(|line| line.strip_prefix("$ curl "));
    let shown = shown.context("the README shows no request")?;
    let (request, address) = shown.rsplit_once(' ').context("no address")?;
    ensure!(
        printed.contains(&format!("curl {request} ")),
        "{request} is not printed"
    );
    ensure!(
        address == "127.0.0.1:10000/",
        "{address} is not the default address"
    );
    Ok(())
}
