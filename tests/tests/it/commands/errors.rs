//! Errors of commands: each cause once, the flag by its name, and the exit code of docs/cli.md.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use unitring_tests::companion::Settings;
use unitring_tests::report;

use super::{run, url};

/// The exit code and output of `serve` with these flags beside free addresses.
fn serve(arguments: &[&str]) -> Result<(i32, String)> {
    let folder = TempDir::new()?;
    let store = folder.path().join("unitring.redb").display().to_string();
    let addresses = ["serve", "--store-path", &store];
    let (code, _, said) = run(&[&addresses, arguments].concat(), &[])?;
    Ok((code, said))
}

#[test]
fn each_cause_is_said_once_with_the_way_out() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let holder = TcpListener::bind(taken)?;
    let taken = holder.local_addr()?.to_string();
    let free = "127.0.0.1:0";
    let foreign = "198.51.100.1:0";
    for (arguments, cause, end) in [
        (
            vec!["--listen", &taken, "--xds-listen", free],
            "Address already in use",
            "(os error 98): does another companion run there? choose another by --listen\n",
        ),
        (
            vec!["--listen", free, "--xds-listen", &taken],
            "Address already in use",
            "(os error 98): does another companion run there? choose another by --xds-listen\n",
        ),
        (
            vec![
                "--listen",
                foreign,
                "--xds-listen",
                free,
                "--allow-insecure",
                "true",
            ],
            "Cannot assign requested address",
            "(os error 99): this machine has no such address: choose another by --listen\n",
        ),
    ] {
        let (code, said) = serve(&arguments)?;
        ensure!(code == 1, "{arguments:?}: {code}: {said}");
        let times = said.matches(cause).count();
        ensure!(times == 1 && said.ends_with(end), "{arguments:?}: {said}");
    }
    // The files of flags are in [`super::files`].
    let (code, _, said) = run(&["demo", "--envoy", "/etc/passwd"], &[])?;
    let times = said.matches("Permission denied").count();
    ensure!(code == 1 && times == 1, "{code}: {said}");
    Ok(())
}

/// The first line of an error, without the program's name.
fn first(said: &str) -> &str {
    let line = said.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.strip_prefix("unitring: ").unwrap_or(line)
}

#[tokio::test]
async fn a_wrong_value_is_told_by_its_flag_and_ends_with_64() -> Result<()> {
    let companion = Settings::default().start().await?;
    let instances = vec![report::instance("a", "10.0.0.1:80", 0)];
    let services = vec![report::service("orders", instances)];
    companion
        .report(&report::report("edge-1", 1, services))
        .await?;
    let at = url(companion.port);
    let address = "for '--address <IP:PORT>': must be an ip:port, such as 10.0.0.7:8080";
    let weights = "is not in 1..=65536";
    let duration = "must be a number with ms, s, m or h, such as 15m";
    let name = "must be 1 to 512 bytes of text without control characters";
    let plain = "must be 1 to 64 letters, digits, '.', '_' or '-'";
    let visible = "must be 1 to 255 visible ASCII characters without ','";
    for (arguments, error) in [
        (
            "locate --key k --with zz --address nope",
            format!("invalid value 'nope' {address}"),
        ),
        (
            "locate --key k --with zz --address 10.0.0.1",
            format!("invalid value '10.0.0.1' {address}"),
        ),
        (
            "locate --key k --with zz",
            "--with zz: must be an ip:port, or --address must say where it would be".to_owned(),
        ),
        (
            "locate --key k --with 10.0.0.2:80 --weight 0",
            format!("invalid value '0' for '--weight <WEIGHT>': 0 {weights}"),
        ),
        (
            "locate --key k --with 10.0.0.2:80 --weight 99999999",
            format!("invalid value '99999999' for '--weight <WEIGHT>': 99999999 {weights}"),
        ),
        (
            "locate --key k --without a,b",
            format!("invalid value 'a,b' for '--without <INSTANCE>': {visible}"),
        ),
        (
            "instance add --service orders --id a",
            "--address is needed: --id a is no ip:port".to_owned(),
        ),
        (
            "instance add --service orders --id a --address nope",
            format!("invalid value 'nope' {address}"),
        ),
        (
            "instance add --service orders --id a --address 10.0.0.1:80 --ttl 3x",
            format!("invalid value '3x' for '--ttl <TTL>': {duration}"),
        ),
        (
            "instance add --service orders --id a --address 10.0.0.1:80 --ttl 1ms",
            "invalid value '1ms' for '--ttl <TTL>': must be from 500ms to 24h".to_owned(),
        ),
        (
            "instance add --service orders --id a --address 10.0.0.1:80 --weight 0",
            format!("invalid value '0' for '--weight <WEIGHT>': 0 {weights}"),
        ),
        (
            "instance add --service orders --id a,b",
            format!("invalid value 'a,b' for '--id <ID>': {visible}"),
        ),
        (
            "instance list --service=",
            format!("invalid value '' for '--service <SERVICE>': {name}"),
        ),
        (
            "data put --dataset d --key k --value v --ttl 3x",
            format!("invalid value '3x' for '--ttl <TTL>': {duration}"),
        ),
        (
            "data put --dataset d --key k --value v --ttl 0s",
            "invalid value '0s' for '--ttl <TTL>': must be from 1ms to ten years".to_owned(),
        ),
        (
            "data get --dataset a/b --key k",
            format!("invalid value 'a/b' for '--dataset <DATASET>': {plain}"),
        ),
        (
            "data delete --dataset d --key=",
            format!("invalid value '' for '--key <KEY>': {name}"),
        ),
        (
            "data delete --dataset d --key k --if-match a,b",
            "invalid value 'a,b' for '--if-match <VERSION>': must be a version, as `data put` prints it"
                .to_owned(),
        ),
        (
            "data watch --dataset d --after zz",
            "--after zz: must be the id of an event, as an earlier stream sent it".to_owned(),
        ),
        (
            "unit remove a:b --yes",
            format!("invalid value 'a:b' for '<UNIT>': {plain}"),
        ),
        (
            "events --since 3x",
            format!("invalid value '3x' for '--since <SINCE>': {duration}"),
        ),
        (
            "top --frames 1 --interval 3x",
            format!("invalid value '3x' for '--interval <INTERVAL>': {duration}"),
        ),
        (
            "service list --token é",
            "--token or UNITRING_TOKEN: must have visible ASCII characters only".to_owned(),
        ),
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let (code, _, said) = run(&words, &[("UNITRING_URL", &at)])?;
        ensure!(code == 64, "{arguments}: {code}: {said}");
        ensure!(first(&said) == error, "{arguments}: {said}");
    }
    // An id that is an address needs no other address; a registered instance keeps its own.
    let add = [
        "instance",
        "add",
        "--service",
        "orders",
        "--url",
        &at,
        "--id",
    ];
    let (code, out, said) = run(&[&add[..], &["10.0.0.2:80"]].concat(), &[])?;
    ensure!(
        code == 0 && out == "10.0.0.2:80 (10.0.0.2:80), weight 1\n",
        "{out}{said}"
    );
    Ok(())
}

#[test]
fn a_broken_url_is_told_by_its_flag_whoever_asks() -> Result<()> {
    let scheme = "must begin with http:// or https://";
    let host = "must name a host, such as http://127.0.0.1:7001";
    let port = "must have a port from 1 to 65535";
    for (text, rule) in [
        ("127.0.0.1:7001", scheme),
        ("http://", host),
        ("http://[::1", host),
        ("http://a b", host),
        ("http://127.0.0.1:99999", port),
    ] {
        for command in [
            "status",
            "service list",
            "top --frames 1",
            "events --follow",
            "data watch --dataset d",
            "data get --dataset d --key k",
            "doctor",
        ] {
            let mut words: Vec<&str> = command.split(' ').collect();
            words.extend(["--url", text]);
            let (code, _, said) = run(&words, &[])?;
            let error = format!("--url {text}: {rule}");
            ensure!(
                code == 64 && first(&said) == error,
                "{command}: {code}: {said}"
            );
        }
        for flag in ["--admin", "--probe"] {
            let mut words = vec!["doctor", "--url", "http://127.0.0.1:1"];
            words.extend([flag, text]);
            let (code, _, said) = run(&words, &[])?;
            let error = format!("{flag} {text}: {rule}");
            ensure!(code == 64 && first(&said) == error, "{code}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_scheme_in_capitals_is_one() -> Result<()> {
    let companion = Settings::default().start().await?;
    let at = format!("HTTP://127.0.0.1:{}/", companion.port);
    let (code, out, said) = run(&["service", "list", "--url", &at], &[])?;
    ensure!(code == 0 && out == "no service is known\n", "{out}{said}");
    let (code, out, said) = run(&["doctor", "--url", &at], &[])?;
    ensure!(code == 0, "{code}: {out}{said}");
    Ok(())
}

#[test]
fn a_misspelt_field_of_any_form_has_its_line() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("u.toml");
    for (text, error) in [
        (
            "unit = \"a\"\nsync = { lingr = \"2ms\" }\n",
            ", line 2: sync.lingr: unknown field; did you mean sync.linger?",
        ),
        (
            "[sync]\n\"lingr\" = \"2ms\"\n",
            ", line 2: sync.lingr: unknown field; did you mean sync.linger?",
        ),
        (
            "[log]\nfiltr = \"info\"\n",
            ", line 2: log.filtr: unknown field; did you mean log.filter?",
        ),
        (
            "colour = \"red\"\n",
            ", line 1: colour: unknown field; `unitring serve --help` lists the settings",
        ),
    ] {
        std::fs::write(&file, text)?;
        let path = file.to_str().context("a path")?;
        let (code, _, said) = run(&["check", "--config", path], &[])?;
        let error = format!("bad configuration: {path}{error}");
        ensure!(code == 64 && first(&said) == error, "{said}");
    }
    for (name, said) in [
        ("UNITRING_FOO", "UNITRING_FOO is no variable of unitring\n"),
        (
            "UNITRNG_UNIT",
            "UNITRNG_UNIT is no variable of unitring; did you mean UNITRING_UNIT?\n",
        ),
    ] {
        let (code, _, warned) = run(&["check"], &[(name, "x")])?;
        ensure!(code == 0 && warned.ends_with(said), "{warned}");
    }
    Ok(())
}
