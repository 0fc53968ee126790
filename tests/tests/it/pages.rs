//! Every `console` block of the pages runs here, against real servers, and prints what the page shows.
//!
//! The line before a block names the servers that it needs: `<!-- run with: site -->`. A line `…` stands for any
//! lines, `…` within a line for any text. What varies from run to run (addresses, rings, shares) is compared by
//! its form; after `; numbers vary`, so are all numbers.

mod by_hand;
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use snapbox::assert::DEFAULT_ACTION_ENV;
use snapbox::{Assert, IntoData as _, RedactedValue, Redactions};
use tempfile::TempDir;
use unitring_tests::certificates::Certificates;
use unitring_tests::deadline::until;
use unitring_tests::programs;
use unitring_tests::site::Site;

use servers::Servers;

/// A command of a page, and its output.
struct Block {
    page: String,
    line: usize,
    /// The servers that it runs with.
    with: String,
    numbers_vary: bool,
    command: String,
    output: String,
}

/// Held by a test of the program itself.
const GENERATED: &str = "cli.md";

fn pages() -> Result<Vec<PathBuf>> {
    let root = programs::root()?;
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "envoy"] {
        for entry in fs::read_dir(root.join(folder))? {
            let path = entry?.path();
            let is_page = path.extension().is_some_and(|end| end == "md");
            if is_page && !path.ends_with(GENERATED) {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// All blocks of all pages, in order.
fn blocks() -> Result<Vec<Block>> {
    let root = programs::root()?;
    let mut blocks = Vec::new();
    for path in pages()? {
        let text = fs::read_to_string(&path)?;
        let page = path.strip_prefix(&root)?.display().to_string();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if *line != "```console" {
                continue;
            }
            let at = || format!("{page}, line {}", number + 1);
            let before = number.checked_sub(1).and_then(|before| lines.get(before));
            let said = before.and_then(|line| line.strip_prefix("<!-- run with: "));
            let said = said.and_then(|line| line.strip_suffix(" -->"));
            let said = said.with_context(|| format!("{}: nothing says what runs it", at()))?;
            let (with, numbers_vary) = match said.strip_suffix("; numbers vary") {
                Some(with) => (with, true),
                None => (said, false),
            };
            let mut rest = lines
                .iter()
                .skip(number + 1)
                .take_while(|line| **line != "```");
            let command = rest.next().and_then(|line| line.strip_prefix("$ "));
            blocks.push(Block {
                command: command
                    .with_context(|| format!("{}: no command", at()))?
                    .to_owned(),
                output: rest.copied().collect::<Vec<_>>().join("\n"),
                page: page.clone(),
                line: number + 1,
                with: with.to_owned(),
                numbers_vary,
            });
        }
    }
    Ok(blocks)
}

/// Values that vary, by their form.
fn redactions(numbers_vary: bool) -> Result<Redactions> {
    let mut redactions = Redactions::new();
    let forms = [
        ("[ADDRESS]", r"\b(127\.0\.0\.1|10\.0\.0\.\d+):\d+\b"),
        ("[HEX]", r"\b[0-9a-f]{16}\b"),
        ("[SHARE]", r"\b\d+\.\d %"),
        // A request that just ended may be in the last report.
        ("[LOAD]", r"in flight (?<redacted>\d+) of"),
        ("[LOAD]", r"\b(?<redacted>\d+)/16\b"),
        ("[MS]", r"(?m)upstream-service-time: (?<redacted>\d+)"),
        ("[INSTANCE]", r#""instance":"(?<redacted>[a-d])""#),
        ("[GREETER]", "^instance (?<redacted>[a-d]), "),
    ];
    for (name, form) in forms {
        redactions.insert(name, regex(form)?)?;
    }
    if numbers_vary {
        redactions.insert("[NUMBER]", regex(r"\b\d+\b")?)?;
    }
    Ok(redactions)
}

fn regex(form: &str) -> Result<RedactedValue> {
    Ok(regex::Regex::new(form)?.into())
}

/// Columns are as wide as what is in them, and counts of a table depend on when they were asked for.
fn calm(text: &str) -> String {
    let is_row = |line: &str| line.starts_with("127.0.0.1:") && line.contains('%');
    let line = |line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        // Calls, failures, updates and their rate of an instance; requests that an Envoy left to its own policy,
        // as before the filter knew of instances.
        let counts = match line {
            _ if is_row(line) => 4,
            _ if line.starts_with("envoy~") => 1,
            _ => 0,
        };
        for word in words.iter_mut().rev().take(counts) {
            "N".clone_into(word);
        }
        words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

impl Block {
    async fn is_true(&self, servers: &Servers) -> Result<()> {
        let printed = servers.run(&self.command).await?;
        let redactions = redactions(self.numbers_vary)?;
        let line = |line: &str| match line {
            "…" => "...".to_owned(),
            line => line.replace('…', "[..]"),
        };
        let shown: Vec<String> = calm(&self.output).lines().map(line).collect();
        let shown = shown.join("\n");
        let (shown, printed) = (
            redactions.redact(&shown),
            redactions.redact(&calm(&printed)),
        );
        let assert = Assert::new().action_env(DEFAULT_ACTION_ENV);
        if let Err(error) = assert.try_eq(
            Some(&format!(
                "{}, line {}: $ {}",
                self.page, self.line, self.command
            )),
            printed.into_data(),
            shown.into_data(),
        ) {
            bail!("{error}");
        }
        Ok(())
    }
}

async fn run_with(name: &str) -> Result<()> {
    let blocks: Vec<Block> = blocks()?
        .into_iter()
        .filter(|block| block.with == name)
        .collect();
    ensure!(!blocks.is_empty(), "no page needs {name}");
    let servers = Servers::start(name).await?;
    let mut done = Ok(());
    for block in &blocks {
        done = match name {
            // These print something else when they run again.
            "group" | "sessions" | "tls" => block.is_true(&servers).await,
            // A reader takes a moment until the next command, in which a report arrives, and what one unit wrote
            // reaches the other.
            _ => until(&block.command, async || block.is_true(&servers).await).await,
        };
        if done.is_err() {
            break;
        }
    }
    servers.stop().await?;
    done
}

#[test]
fn every_block_says_what_runs_it() -> Result<()> {
    let known = [
        "site",
        "group",
        "units",
        "tls",
        "sessions",
        "tcp",
        "two units",
    ];
    for block in blocks()? {
        let at = format!("{}, line {}", block.page, block.line);
        ensure!(known.contains(&block.with.as_str()), "{at}: {}", block.with);
    }
    Ok(())
}

#[tokio::test]
async fn the_pages_are_true_of_one_envoy_and_its_companion() -> Result<()> {
    run_with("site").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_true_of_a_demo_of_two_units() -> Result<()> {
    run_with("two units").await
}

/// A reader of the README alone has nothing else.
#[test]
fn each_block_of_the_readme_runs_with_what_the_readme_has_started() -> Result<()> {
    let root = programs::root()?;
    let text = fs::read_to_string(root.join("README.md"))?;
    let blocks = blocks()?;
    let blocks = blocks.iter().filter(|block| block.page == "README.md");
    let mut count = 0;
    for block in blocks {
        count += 1;
        let (words, target, demo) = match block.with.as_str() {
            "site" => (
                "With `make run` in another terminal",
                "UNITS=1",
                "--units 1",
            ),
            "two units" => ("With `make run UNITS=2`", "UNITS=2", "--units 2"),
            other => bail!("line {}: {other} is started by another page", block.line),
        };
        let before: Vec<&str> = text.lines().take(block.line).collect();
        ensure!(
            before.join("\n").contains(words),
            "line {}: nothing before it says: {words}",
            block.line
        );
        let dry = Command::new("make")
            .args(["--no-print-directory", "--dry-run", "run", target])
            // Those of `make test`, if that runs this.
            .env_remove("MAKEFLAGS")
            .current_dir(&root)
            .output()?;
        let steps = String::from_utf8(dry.stdout)?;
        let last = steps.lines().last().unwrap_or_default().trim_end();
        ensure!(
            last.ends_with(&format!("unitring demo {demo}")),
            "make run {target}: {steps}"
        );
    }
    ensure!(count >= 5, "only {count} blocks");
    Ok(())
}

#[tokio::test]
async fn the_pages_are_true_of_a_group_of_redis_servers() -> Result<()> {
    run_with("group").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_true_of_two_units() -> Result<()> {
    run_with("units").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_are_true_of_certificates_of_ones_own() -> Result<()> {
    run_with("tls").await
}

#[tokio::test]
async fn the_pages_are_true_of_sessions_in_two_units() -> Result<()> {
    run_with("sessions").await
}

#[tokio::test]
async fn the_pages_are_true_of_a_tcp_service() -> Result<()> {
    run_with("tcp").await
}

fn page(name: &str) -> Result<String> {
    Ok(fs::read_to_string(
        programs::root()?.join("docs").join(name),
    )?)
}

/// The names that a page shows as code: `a.b` counts as `a.b` and as `b`.
fn named(page: &str) -> BTreeSet<String> {
    let code = page.split('`').skip(1).step_by(2);
    let words = code.flat_map(|code| code.split(|letter: char| !is_of_name(letter)));
    let names = words.flat_map(|word| {
        let last = word.rsplit('.').next().unwrap_or(word);
        [word.to_owned(), last.to_owned()]
    });
    names.collect()
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '.'
}

#[test]
fn every_setting_of_the_filter_is_on_its_page() -> Result<()> {
    let named = named(&page("settings.md")?);
    let folder = programs::root()?.join("balancer/src/settings");
    let mut files: Vec<PathBuf> = vec![folder.with_extension("rs")];
    for entry in fs::read_dir(&folder)? {
        files.push(entry?.path());
    }
    // The reader of a section is a plain list of its fields.
    let field = regex::Regex::new(r#"section\s*\.\w+\(\s*"([a-z_]+)""#)?;
    let mut count = 0;
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        let source = fs::read_to_string(file)?;
        for found in field.captures_iter(&source) {
            let name = found.get(1).context("no name")?.as_str();
            ensure!(named.contains(name), "{name} of {}", file.display());
            count += 1;
        }
    }
    ensure!(count > 30, "only {count} fields were found");
    Ok(())
}

/// Every field but `store.path`, which has no effect beside a Redis.
const ALL_FIELDS: &str = r#"
token = "t"
tokens = "[a]\ntoken = 'a'\nroles = ['read']"
tokens_file = "FOLDER/tokens.toml"
tls_cert = "FOLDER/server.pem"
tls_key = "FOLDER/server.key"
tls_client_ca = "FOLDER/ca.pem"
[trace]
otlp = "https://127.0.0.1:4317"
tls_ca = "FOLDER/ca.pem"
[store]
redis_url = "rediss://127.0.0.1:1"
sentinel_password = "s"
tls_ca = "FOLDER/ca.pem"
tls_cert = "FOLDER/client.pem"
tls_key = "FOLDER/client.key"
wait_replicas = 1
[group]
servers = ["redis://127.0.0.1:1", "redis://127.0.0.1:2"]
min_replicas = 1
fixed_data = "FOLDER/f.jsonl"
[sync]
amqp_url = "amqps://127.0.0.1"
brokers = ["west=amqps://127.0.0.2"]
tls_ca = "FOLDER/ca.pem"
tls_cert = "FOLDER/client.pem"
tls_key = "FOLDER/client.key"
peers = ["west"]
"#;

#[test]
fn every_field_of_the_companion_is_on_its_page_and_in_what_check_prints() -> Result<()> {
    let page = page("companion.md")?;
    let folder = TempDir::new()?;
    let file = folder.path().join("all.toml");
    let certificates = Certificates::make()?;
    let tokens = "[b]\ntoken = 'b'\nroles = ['read']";
    fs::write(certificates.file("tokens.toml"), tokens)?;
    let fixed = r#"{"dataset": "currencies", "key": "EUR", "value": "2"}"#;
    fs::write(certificates.file("f.jsonl"), fixed)?;
    let named = certificates.path("");
    fs::write(&file, ALL_FIELDS.replace("FOLDER/", &named))?;
    let output = programs::unitring()?
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}{said}");
    let mut printed = BTreeSet::from(["store.path".to_owned()]);
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = format!("{name}.");
        } else if let Some((name, _)) = line.split_once(" = ") {
            printed.insert(format!("{section}{name}"));
        }
    }
    let table = page
        .split("| field | default | meaning |")
        .nth(1)
        .context("no table of fields")?;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let firsts = rows.filter_map(|row| row.split('|').nth(1));
    let shown: BTreeSet<String> = firsts
        .flat_map(|first| first.split('`').skip(1).step_by(2).map(str::to_owned))
        .collect();
    assert_eq!(shown, printed);
    Ok(())
}

#[tokio::test]
async fn every_stat_of_the_filter_is_on_its_page() -> Result<()> {
    let named = named(&page("settings.md")?);
    let site = Site::start().await?;
    site.envoy.get("ada").await?;
    let prefix = "wasmcustom.unitring.orders.";
    let stats = site.envoy.stats(prefix).await?;
    ensure!(stats.len() > 30, "{stats:?}");
    for name in stats.keys() {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        // `instance.127_0_0_1_8081.calls`, `wiring.service`
        let is_of_one = name.starts_with("instance.") || name.starts_with("wiring.");
        let name = match name.rsplit_once('.') {
            Some((_, last)) if is_of_one => last,
            _ => name,
        };
        ensure!(named.contains(name), "{name}");
    }
    Ok(())
}

#[test]
fn the_table_of_the_integration_tests_has_each_module() -> Result<()> {
    let source = fs::read_to_string(programs::root()?.join("tests/tests/it/main.rs"))?;
    let between = |start: &str, end: &str| -> BTreeSet<String> {
        let lines = source.lines().filter_map(|line| line.strip_prefix(start));
        let names = lines.filter_map(|line| line.split_once(end));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    let (modules, rows) = (between("mod ", ";"), between("//! | [`", "`] | "));
    ensure!(modules == rows, "{:?}", modules.symmetric_difference(&rows));
    // The area that CONTRIBUTING.md shows is one of them.
    let page = fs::read_to_string(programs::root()?.join("CONTRIBUTING.md"))?;
    for named in page.split("ONLY=").skip(1) {
        let name: String = named
            .chars()
            .take_while(|letter| is_of_name(*letter))
            .collect();
        ensure!(
            name.is_empty() || modules.contains(&name),
            "ONLY={name}: no such module"
        );
    }
    Ok(())
}

#[test]
fn the_files_that_contributors_are_sent_to_are_there() -> Result<()> {
    let root = programs::root()?;
    let page = fs::read_to_string(root.join("CONTRIBUTING.md"))?;
    let code = page.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| word.contains('/') && !word.contains([' ', '<', '=']);
    for path in code.filter(is_path) {
        ensure!(root.join(path).exists(), "{path}: not there");
    }
    // Flags and their sections stand in the file that is named for them.
    let fields = fs::read_to_string(root.join("companion/src/cli/fields.rs"))?;
    ensure!(page.contains("companion/src/cli/fields.rs") && fields.contains("sync_linger"));
    Ok(())
}
