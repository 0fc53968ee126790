//! The output and exit codes of the commands of `unitring`: docs/cli.md lists the codes.

mod doctor;
mod errors;
mod events;
mod exits;
mod files;
mod foreign;
mod nothing;
mod output;
mod status;
mod sure;
mod top;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::ports;
use unitring_tests::programs;
use unitring_tests::redis::Redis;
use unitring_tests::report;
use unitring_tests::site::Site;

/// The exit code, the standard output, and the standard error.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(i32, String, String)> {
    let output = programs::unitring()?
        .args(arguments)
        .envs(environment.iter().copied())
        .output()?;
    let code = output.status.code().context("it was killed")?;
    let text = String::from_utf8(output.stdout)?;
    Ok((code, text, String::from_utf8(output.stderr)?))
}

fn ends(arguments: &[&str], code: i32, error: &str) -> Result<()> {
    let (ended, out, said) = run(arguments, &[])?;
    ensure!(
        ended == code,
        "{arguments:?} ended with {ended}: {out}{said}"
    );
    ensure!(said.trim_end() == error, "{arguments:?} said: {said}");
    Ok(())
}

/// Runs a command whose reader ends before it writes: it fails without an error, as if SIGPIPE had ended it.
fn ends_with_its_reader(arguments: &str) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = Command::new(programs::built("unitring")?);
    let output = command.args(arguments.split(' ')).stdout(writer).output()?;
    let text = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(1) && text.is_empty(),
        "{arguments}: {}: {text}",
        output.status
    );
    Ok(())
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

#[tokio::test]
async fn errors_are_said_once_with_the_way_out_and_the_codes_of_the_page() -> Result<()> {
    let nobody = url(ports::free()?);
    let refused = |path: &str| {
        format!(
            "unitring: {nobody}{path}: connection refused: does `unitring serve` run, and is this its \
             address (listen)?"
        )
    };
    ends(&["status", "--url", &nobody], 2, &refused("/readyz"))?;
    let key = [
        "data",
        "get",
        "--dataset",
        "d",
        "--key",
        "k",
        "--url",
        &nobody,
    ];
    ends(&key, 2, &refused("/readyz"))?;
    let short = ["status", "--url", "127.0.0.1:7001"];
    ends(
        &short,
        64,
        "unitring: --url 127.0.0.1:7001: must begin with http:// or https://",
    )?;
    let with = ["locate", "--key", "k", "--service", "s", "--with", "zz"];
    let rule = "unitring: --with zz: must be an ip:port, or --address must say where it would be";
    ends(&with, 64, rule)?;
    let servers = "unitring: bad configuration: group.servers is not set: name the Redis servers in the \
                   file of --config, or by --group-servers";
    ends(&["group", "status"], 64, servers)?;
    let level = "unitring: bad configuration: log: \"verbose\": must be a level (error, warn, info, \
                 debug, trace, off) or target=level, comma separated";
    ends(&["check", "--log", "verbose"], 64, level)?;

    let kind = "unitring: bad configuration: store.kind: \"reddis\": must be one of embedded, redis; did you mean \
                redis?";
    ends(&["check", "--store-kind", "reddis"], 64, kind)?;

    let (code, _, said) = run(&["stauts"], &[])?;
    ensure!(
        code == 64 && said.contains("a similar subcommand exists: 'status'"),
        "{said}"
    );
    let (code, out, said) = run(&["check"], &[("UNITRING_STOER_PATH", "x")])?;
    ensure!(code == 0 && out.contains("unitring.redb"), "{out}");
    ensure!(
        said.contains(
            "UNITRING_STOER_PATH is no variable of unitring; did you mean UNITRING_STORE_PATH?"
        ),
        "{said}"
    );
    let (code, out, _) = run(&["--version"], &[])?;
    ensure!(
        code == 0 && out.contains("\nlayout    2") && out.contains("\nprotocol  1"),
        "{out}"
    );
    let (code, same, said) = run(&["version"], &[])?;
    ensure!(code == 0 && same == out && said.is_empty(), "{same}{said}");
    let (code, out, _) = run(&["completions", "bash"], &[])?;
    ensure!(code == 0 && out.contains("_unitring"), "{out}");
    let pages = TempDir::new()?;
    let (code, ..) = run(&["man", &pages.path().display().to_string()], &[])?;
    ensure!(code == 0 && pages.path().join("unitring-status.1").exists());
    Ok(())
}

#[tokio::test]
async fn a_misspelt_field_is_named_with_its_line_and_what_was_meant() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("u.toml");
    std::fs::write(&file, "unit = \"east\"\n\n[store]\nptah = \"x\"\n")?;
    let file = file.display().to_string();
    let said = format!(
        "unitring: bad configuration: {file}, line 4: store.ptah: unknown field; did you mean \
         store.path?"
    );
    ends(&["serve", "--config", &file], 64, &said)
}

#[tokio::test]
async fn status_ends_with_what_it_says() -> Result<()> {
    let site = Site::start().await?;
    let at = url(site.companion.port);
    let status = |url: &str| run(&["status", "--url", url], &[]);
    let well = || -> Result<String> {
        let (code, out, said) = status(&at)?;
        ensure!(
            code == 0 && out.contains("status     healthy\n"),
            "{code}: {out}{said}"
        );
        Ok(out)
    };
    let out = until("all to be well", async || well()).await?;
    for words in [
        "sync       none: this unit has no peers\n",
        "1 Envoy reports\n",
        "INSTANCE ",
    ] {
        ensure!(out.contains(words), "{out}");
    }
    // An Envoy is not a companion, for any answer of its admin interface or its service.
    for port in [site.envoy.port, site.envoy.admin_port] {
        let (code, _, said) = status(&url(port))?;
        ensure!(
            code == 2 && said.contains("is no companion of unitring"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_nobody_reports_on_is_not_listed_and_can_be_forgotten() -> Result<()> {
    let companion = Settings::default().start().await?;
    let at = url(companion.port);
    let mut sequence = 0;
    let mut reports = async |name: &str| -> Result<()> {
        sequence += 1;
        let instances = vec![report::instance("a", "10.0.0.1:80", 0)];
        let services = vec![report::service(name, instances)];
        companion
            .report(&report::report("edge-1", sequence, services))
            .await?;
        Ok(())
    };
    // A misspelt setting, once.
    let forget = |name: &str| run(&["service", "forget", name, "--yes", "--url", &at], &[]);
    until(
        "it to be in use for the five seconds of its report",
        async || {
            reports("ordres").await?;
            let (code, _, said) = forget("ordres")?;
            ensure!(
                code == 1 && said.contains("is in use: 0 registered instances, 1 Envoys"),
                "{code}: {said}"
            );
            Ok(())
        },
    )
    .await?;
    until("only the right service to be listed", async || {
        reports("orders").await?;
        let (code, out, said) = run(&["service", "list", "--url", &at], &[])?;
        ensure!(
            code == 0 && out == "orders: 0 registered instances, 1 reporting Envoy\n",
            "{out}{said}"
        );
        Ok(())
    })
    .await?;
    until("a key to be located in it", async || {
        reports("orders").await?;
        let (code, out, said) = run(&["locate", "--key", "ada", "--url", &at], &[])?;
        ensure!(code == 0 && out.contains("a (10.0.0.1:80)"), "{out}{said}");
        Ok(())
    })
    .await?;
    let (code, out, said) = forget("ordres")?;
    ensure!(
        code == 0 && out == "service ordres is forgotten\n",
        "{out}{said}"
    );
    let (code, _, said) = forget("ordres")?;
    ensure!(
        code == 1 && said.contains("service ordres: not found"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn an_embedded_store_is_compacted_and_redis_says_that_it_needs_none() -> Result<()> {
    let companion = Settings::default().start().await?;
    let at = url(companion.port);
    for number in 0..40 {
        let path = format!("/v1/data/d/{number}");
        companion
            .call(Method::PUT, &path, vec![b'x'; 1 << 18])
            .await?;
        if number > 0 {
            companion.call(Method::DELETE, &path, vec![]).await?;
        }
    }
    let (code, out, said) = run(&["store", "compact", "--url", &at], &[])?;
    let words: Vec<&str> = out.split_whitespace().collect();
    let numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
    let numbers: Vec<u64> = numbers.collect();
    ensure!(
        code == 0 && numbers.len() == 2 && numbers[0] < numbers[1],
        "{out}{said}"
    );
    let kept = companion.call(Method::GET, "/v1/data/d/0", vec![]).await?;
    ensure!(kept.bytes().await?.len() == 1 << 18);

    let redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).start().await?;
    let at = url(companion.port);
    let (code, _, said) = run(&["store", "compact", "--url", &at], &[])?;
    ensure!(code == 1 && said.contains("the store is Redis"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_is_degraded_comes_first() -> Result<()> {
    let mut redis = Redis::start().await?;
    let companion = Settings::on_redis(&redis).variable("UNITRING_UNIT", "east");
    let companion = companion.start().await?;
    let status = ["status", "--url", &url(companion.port)];
    let well = || -> Result<()> {
        let (code, out, _) = run(&status, &[])?;
        ensure!(code == 0, "{out}");
        Ok(())
    };
    until("the store to be there", async || well()).await?;
    redis.kill()?;
    let (code, out, _) = run(&status, &[])?;
    ensure!(
        code == 1 && out.starts_with("services: ") | out.starts_with("store: "),
        "{code}: {out}"
    );
    ensure!(out.contains("unit       east"), "{out}");
    let (_, out, _) = run(&[&status[..], &["--json"]].concat(), &[])?;
    let shown: Value = serde_json::from_str(&out)?;
    ensure!(
        shown["healthy"] == json!(false) && shown["problems"][0].is_string(),
        "{shown}"
    );
    Ok(())
}

#[tokio::test]
async fn every_error_of_the_api_has_one_shape() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "s3cret")
        .start()
        .await?;
    for (method, path, status, error) in [
        (
            Method::GET,
            "/v1/services/orders/locate",
            400,
            "query: key: is missing",
        ),
        (
            Method::GET,
            "/v1/services/orders/locate?key=a&balance_factor=x",
            400,
            "query: balance_factor: must be a whole number",
        ),
        (
            Method::GET,
            "/v1/services/orders/locate?key=a&colour=red",
            400,
            "query: colour: unknown field",
        ),
        (
            Method::GET,
            "/v1/services/nope/locate?key=a",
            404,
            "service nope: no Envoy has reported on it",
        ),
        (Method::GET, "/v1/data/a/%ff", 400, "path: "),
        (
            Method::GET,
            "/v1/data/a?limit=x",
            400,
            "query: limit: must be a whole number from 0 on",
        ),
        (
            Method::GET,
            "/v1/conflicts?limit=-1",
            400,
            "query: limit: must be a whole number from 0 on",
        ),
        (
            Method::GET,
            "/v1/services?shares=perhaps",
            400,
            "query: shares: must be true or false",
        ),
        (
            Method::GET,
            "/v1/services/orders/locate?key=%ff",
            400,
            "query: key: must be UTF-8",
        ),
        (
            Method::GET,
            "/v1/services/orders/locate?key=a&key=b",
            400,
            "query: key: is given twice",
        ),
        (
            Method::GET,
            "/v1/services/orders/locate?key=a&with_weight=0",
            400,
            "query: with_weight: must be a whole number from 1",
        ),
        (
            Method::GET,
            "/v1/conflicts?limt=1",
            400,
            "query: limt: unknown field; did you mean limit?",
        ),
        (
            Method::GET,
            "/v1/events?limt=1",
            400,
            "query: limt: unknown field; did you mean limit?",
        ),
        (
            Method::GET,
            "/v1/services?share=true",
            400,
            "query: share: unknown field; did you mean shares?",
        ),
        (
            Method::GET,
            "/v1/services/orders?share=true",
            400,
            "query: share: unknown field; did you mean shares?",
        ),
        (
            Method::GET,
            "/v1/events?format=json&after=zz",
            400,
            "query: after: a cursor is",
        ),
        (
            Method::GET,
            "/v1/data/a?after=zz",
            400,
            "query: after: must be",
        ),
        (
            Method::PUT,
            "/v1/data/a/b?tll=3s",
            400,
            "query: tll: unknown field; did you mean ttl?",
        ),
        (Method::GET, "/nowhere", 404, "/nowhere: not found"),
        (
            Method::DELETE,
            "/metrics",
            405,
            "DELETE /metrics: method not allowed",
        ),
        (
            Method::PUT,
            "/v1/data/a/b",
            401,
            "authorization: a bearer token is needed for this",
        ),
    ] {
        let response = match status {
            401 => companion.call(method, path, vec![]).await?,
            _ => companion.call_as("s3cret", method, path, vec![]).await?,
        };
        let got = response.status().as_u16();
        let answer: Value = response.json().await.with_context(|| path.to_owned())?;
        let text = answer["error"].as_str().unwrap_or_default();
        ensure!(
            got == status && text.starts_with(error),
            "{path}: {got} {answer}"
        );
    }
    refused_bodies(&companion).await?;
    refused_token(&companion)
}

async fn refused_bodies(companion: &Companion) -> Result<()> {
    let (put, post) = (Method::PUT, Method::POST);
    let instance = "/v1/services/orders/instances/a";
    for (method, path, body, error) in [
        (&put, instance, "{", "body: must be JSON: it ends too early"),
        (
            &put,
            instance,
            "{]",
            "body: must be JSON: wrong at column 2",
        ),
        (&put, instance, "[]", "body: must be an object"),
        (
            &put,
            instance,
            r#"{"tll": "3s"}"#,
            "body: tll: unknown field; did you mean ttl?",
        ),
        (
            &put,
            instance,
            r#"{"weight": "3"}"#,
            "body: weight: must be a whole number from 0 to 4294967295",
        ),
        (&post, "/v1/updates", "[]", "body: must be an object"),
        (&post, "/v1/updates", "{}", "body: version: is missing"),
        (&post, "/v1/reports", "[]", "body: must be an object"),
        (
            &post,
            "/v1/data/d",
            "{\"key\": \"a\", \"text\": \"b\"}\n{\"key\"",
            "line 2: must be JSON: it ends too early",
        ),
        (
            &post,
            "/v1/data/d",
            r#"{"key": "a", "txt": "b"}"#,
            "line 1: txt: unknown field; did you mean text?",
        ),
    ] {
        let body = body.as_bytes().to_vec();
        let response = companion
            .call_as("s3cret", method.clone(), path, body)
            .await?;
        let status = response.status().as_u16();
        let answer: Value = response.json().await?;
        ensure!(
            status == 400 && answer["error"] == error,
            "{path}: {status} {answer}"
        );
    }
    Ok(())
}

fn refused_token(companion: &Companion) -> Result<()> {
    let at = url(companion.port);
    let put = [
        "data",
        "put",
        "--dataset",
        "d",
        "--key",
        "k",
        "--value",
        "v",
        "--url",
        &at,
    ];
    let way_out = ": --token or UNITRING_TOKEN gives it";
    let none = format!("unitring: authorization: a bearer token is needed for this{way_out}");
    ends(&put, 1, &none)?;
    let wrong = format!("unitring: authorization: this is not this companion's token{way_out}");
    ends(&[&put[..], &["--token", "x"]].concat(), 1, &wrong)
}

#[tokio::test]
async fn an_import_names_the_line_of_the_file_and_says_how_many_were_written() -> Result<()> {
    let companion = Settings::default().start().await?;
    let folder = TempDir::new()?;
    let file = folder.path().join("records");
    let mut lines: Vec<String> = (1..=1_500)
        .map(|number| json!({"key": number.to_string(), "text": "x"}).to_string())
        .collect();
    lines[2] = String::new();
    lines[1_299] = "{".to_owned();
    std::fs::write(&file, lines.join("\n"))?;
    let (file, at) = (file.display().to_string(), url(companion.port));
    let import = [
        "data",
        "import",
        "--dataset",
        "d",
        "--file",
        &file,
        "--url",
        &at,
    ];
    let (code, out, said) = run(&import, &[])?;
    ensure!(
        code == 1 && said.starts_with("unitring: line 1300: must be JSON: "),
        "{said}"
    );
    let written: Vec<&str> = out.split(" of ").collect();
    let count: usize = written.first().context("nothing")?.parse()?;
    ensure!(
        count > 0 && count < 1_300 && out.ends_with(" written\n"),
        "{out}"
    );
    Ok(())
}

#[tokio::test]
async fn an_instance_is_added_listed_and_removed() -> Result<()> {
    let companion = Settings::default().start().await?;
    let say = |arguments: &[&str]| -> Result<String> {
        let (is_done, text) = companion.ask(arguments)?;
        ensure!(is_done, "{arguments:?}: {text}");
        Ok(text)
    };
    let one = ["--service", "orders", "--id", "a"];
    let added = say(&[
        &[
            "instance",
            "add",
            "--address",
            "127.0.0.1:8081",
            "--weight",
            "3",
        ],
        &one[..],
    ]
    .concat())?;
    ensure!(added == "a (127.0.0.1:8081), weight 3\n", "{added}");
    // Standard input is not a terminal here, so the command asks no confirmation.
    let removed = say(&[&["instance", "remove"], &one[..]].concat())?;
    ensure!(removed == "a is removed from orders\n", "{removed}");
    Ok(())
}
