//! The demo of a TCP service: its commands, its instances, and the view of its clients when one is killed.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::ports;
use unitring_tests::tcp::connect;

use super::{commands, each_answers, interrupt, run, start, start_all};

/// A connection from 127.0.0.`client`, and its greeting up to the instance's name.
async fn greeted(to: SocketAddr, client: u8) -> Result<(BufReader<TcpStream>, String)> {
    let client = Ipv4Addr::new(127, 0, 0, client);
    let mut connection = BufReader::new(connect(to.port(), client).await?);
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    Ok((connection, instance(&line)?))
}

fn instance(greeting: &str) -> Result<String> {
    let (instance, _) = greeting.split_once(',').context("no greeting")?;
    ensure!(instance.starts_with("instance "), "greeted by {greeting}");
    Ok(instance.to_owned())
}

/// The address of Envoy's listener.
fn listener(printed: &str) -> Result<SocketAddr> {
    let mut lines = printed.lines().map(str::trim);
    let words = lines.find_map(|line| line.strip_prefix("Envoy "));
    let word = words.and_then(|words| words.split_whitespace().next());
    Ok(word.context("no address of Envoy")?.parse()?)
}

fn command<'a>(commands: &'a [String], piece: &str) -> Result<&'a String> {
    let mut found = commands.iter().filter(|command| command.contains(piece));
    found.next().with_context(|| format!("no {piece}"))
}

#[tokio::test]
async fn every_command_works_as_printed_and_locate_names_who_answers() -> Result<()> {
    works_as_printed(&["--tcp"]).await
}

#[tokio::test]
async fn with_the_native_module_too() -> Result<()> {
    works_as_printed(&["--tcp", "--native"]).await
}

async fn works_as_printed(arguments: &[&str]) -> Result<()> {
    let folder = TempDir::new()?;
    let (mut process, printed) = start_all(arguments, folder.path()).await?;
    let commands = commands(&printed)?;
    // The companion learns of the instances with Envoy's next report.
    until("locate to name the instance that answers", async || {
        let answered = instance(&run(command(&commands, "--interface 127.0.0.7")?)?)?;
        let located = run(command(&commands, "locate?key=127.0.0.7")?)?;
        let located: serde_json::Value = serde_json::from_str(&located)?;
        let address = located["owner"]["address"].as_str().context("no owner")?;
        let (_, owner) = greeted(address.parse()?, 1).await?;
        ensure!(owner == answered, "{owner}, not {answered}: {located}");
        Ok(())
    })
    .await?;
    for command in &commands {
        until(command, async || run(command)).await?;
    }
    interrupt(&mut process).await
}

#[tokio::test]
async fn a_killed_instance_ends_its_connections_alone_and_its_keys_go_to_others() -> Result<()> {
    let folder = TempDir::new()?;
    // On ports of its own: another demo that starts meanwhile would take that of the killed instance, with its own `b`.
    let base = ports::free_range(40)?.to_string();
    let (mut process, printed) = start_all(&["--tcp", "--port-base", &base], folder.path()).await?;
    let envoy = listener(&printed)?;
    let (mut with_b, mut with_another) = (None, None);
    for client in 1..=250 {
        let (connection, instance) = greeted(envoy, client).await?;
        if instance == "instance b" {
            with_b.get_or_insert((connection, client));
        } else {
            with_another.get_or_insert(connection);
        }
        if with_b.is_some() && with_another.is_some() {
            break;
        }
    }
    let (mut with_b, client) = with_b.context("no client address belongs to b")?;
    let mut with_another = with_another.context("all client addresses belong to b")?;

    run(command(&commands(&printed)?, "instances/b")?)?;
    let mut rest = String::new();
    let end = tokio::time::timeout(PATIENCE, with_b.read_line(&mut rest)).await?;
    // Ended or reset.
    ensure!(end.unwrap_or(0) == 0, "b lives, and says {rest}");
    let (_, instance) = until("another instance", async || greeted(envoy, client).await).await?;
    ensure!(instance != "instance b");

    with_another.write_all(b"one\ntwo").await?;
    with_another.shutdown().await?;
    let mut echoed = String::new();
    with_another.read_to_string(&mut echoed).await?;
    ensure!(echoed == "one\ntwo", "{echoed}");
    interrupt(&mut process).await
}

#[tokio::test]
async fn each_of_two_units_has_the_service() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut process, printed) = start_all(&["--tcp", "--units", "2"], folder.path()).await?;
    let commands = commands(&printed)?;
    let connects = commands
        .iter()
        .filter(|command| command.contains("telnet:"));
    ensure!(connects.count() == 2, "{printed}");
    each_answers(&commands).await?;
    interrupt(&mut process).await
}

#[tokio::test]
async fn instances_alone_are_started_for_a_configuration_by_hand() -> Result<()> {
    let folder = TempDir::new()?;
    let base = ports::free_range(4)?.to_string();
    let arguments = ["--tcp", "--only-instances", "--port-base", &base];
    let (mut process, printed) = start(&arguments, folder.path(), "Ctrl-C stops them.").await?;
    let first = format!("a 127.0.0.1:{base}   b ");
    ensure!(printed.contains(&first), "{printed}");
    let answer = run(&format!(
        "printf 'one\\nquit\\n' | curl telnet://127.0.0.1:{base}"
    ))?;
    ensure!(answer.starts_with("instance a, "), "{answer}");
    ensure!(answer.ends_with("\none\n"), "{answer}");
    interrupt(&mut process).await
}
