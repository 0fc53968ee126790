//! Every setting and flag that names a file: one that is missing, a folder, or of the wrong kind ends the program with
//! 64, and the error of every command names the setting, the file and the way out.

use std::fs;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use unitring_tests::certificates::Certificates;
use unitring_tests::programs;

use super::exits::USAGE;
use super::run;

/// Each group is complete: its files are right, and one of them is replaced.
const SETTINGS: [&[(&str, &str)]; 6] = [
    &[
        ("tls_cert", "server.pem"),
        ("tls_key", "server.key"),
        ("tls_client_ca", "ca.pem"),
    ],
    &[
        ("store.tls_ca", "ca.pem"),
        ("store.tls_cert", "client.pem"),
        ("store.tls_key", "client.key"),
        ("store.redis_url", "rediss://127.0.0.1:1"),
        ("group.servers", "rediss://127.0.0.1:1"),
    ],
    &[
        ("sync.tls_ca", "ca.pem"),
        ("sync.tls_cert", "client.pem"),
        ("sync.tls_key", "client.key"),
        ("sync.amqp_url", "amqps://127.0.0.1:1"),
        ("sync.peers", "west"),
    ],
    &[
        ("trace.tls_ca", "ca.pem"),
        ("trace.otlp", "https://127.0.0.1:1"),
    ],
    &[("tokens_file", "tokens.toml")],
    &[("config", "unitring.toml")],
];

/// The files of certificates and keys that a command which asks a companion takes.
const CLIENT: [(&str, &str); 3] = [
    ("--ca", "ca.pem"),
    ("--cert", "client.pem"),
    ("--key-file", "client.key"),
];

fn flag(setting: &str) -> String {
    format!("--{}", setting.replace(['.', '_'], "-"))
}

/// How a setting is named in errors.
fn name(setting: &str) -> String {
    match setting {
        "config" => "--config".to_owned(),
        setting => setting.to_owned(),
    }
}

/// Replacements of a file, and the error of each; the last one is only for files of TLS.
fn wrong(folder: &TempDir) -> Result<[(String, &'static str); 3]> {
    let text = folder.path().join("text");
    fs::write(&text, "no file of this kind\n")?;
    Ok([
        (
            "/nowhere/file".to_owned(),
            "No such file or directory (os error 2): correct the path, or create the file",
        ),
        (
            folder.path().display().to_string(),
            "name a file and not a folder",
        ),
        (
            text.display().to_string(),
            "in PEM, which begins with -----BEGIN ",
        ),
    ])
}

fn is_refused(words: &[String], name: &str, file: &str, way_out: &str) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, out, said) = run(&words, &[])?;
    ensure!(
        code == USAGE
            && said.contains(name)
            && said.contains(&format!("{file}: "))
            && said.contains(way_out)
            && said.matches('\n').count() == 1,
        "{words:?}: {code}: {out}{said}"
    );
    Ok(())
}

#[test]
fn a_file_that_a_setting_names_wrongly_is_told_with_the_setting_and_ends_with_64() -> Result<()> {
    let (folder, certificates) = (TempDir::new()?, Certificates::make()?);
    fs::write(
        certificates.file("tokens.toml"),
        "[b]\ntoken = 'b'\nroles = ['read']",
    )?;
    fs::write(certificates.file("unitring.toml"), "unit = 'east'")?;
    let store = folder.path().join("unitring.redb").display().to_string();
    for group in SETTINGS {
        let is_file = |value: &str| value.contains('.') && !value.contains("://");
        for (setting, _) in group.iter().filter(|(_, value)| is_file(value)) {
            for (file, way_out) in wrong(&folder)? {
                let is_tls = setting.contains("tls_");
                if !is_tls && way_out.contains("PEM") {
                    continue;
                }
                let mut values = Vec::new();
                for (other, value) in group {
                    let value = match is_file(value) {
                        _ if other == setting => file.clone(),
                        true => certificates.path(value),
                        false => (*value).to_owned(),
                    };
                    values.extend([flag(other), value]);
                }
                let mut commands = vec!["check", "serve"];
                if setting.starts_with("store.") {
                    commands.extend(["group status", "group create"]);
                }
                for command in commands {
                    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
                    words.extend_from_slice(&values);
                    if command == "serve" && !setting.starts_with("store.") {
                        words.extend(["--store-path".to_owned(), store.clone()]);
                    }
                    is_refused(&words, &name(setting), &file, way_out)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_file_that_a_flag_names_wrongly_is_told_with_the_flag_and_ends_with_64() -> Result<()> {
    let (folder, certificates) = (TempDir::new()?, Certificates::make()?);
    for command in [
        "status",
        "locate --key k",
        "data get --dataset d --key k",
        "data put --dataset d --key k --value v",
        "instance remove --service s --id a --yes",
        "events --follow",
        "top --frames 1",
        "doctor",
    ] {
        for (changed, _) in CLIENT {
            for (file, way_out) in wrong(&folder)? {
                let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
                words.extend(["--url".to_owned(), "https://127.0.0.1:1".to_owned()]);
                for (flag, right) in CLIENT {
                    let value = match flag == changed {
                        true => file.clone(),
                        false => certificates.path(right),
                    };
                    words.extend([flag.to_owned(), value]);
                }
                is_refused(&words, changed, &file, way_out)?;
            }
        }
    }
    for (command, flag) in [
        ("data put --dataset d --key k --file FILE", "--file"),
        ("data import --dataset d --file FILE", "--file"),
        ("doctor --envoy-config FILE", "--envoy-config"),
    ] {
        for (file, way_out) in wrong(&folder)?.into_iter().take(2) {
            let words = command.replace("FILE", &file);
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            is_refused(&words, flag, &file, way_out)?;
        }
    }
    for flag in ["--envoy", "--filter", "--native --module"] {
        let [(file, way_out), ..] = wrong(&folder)?;
        let mut words = format!("demo {flag} {file}");
        if flag != "--envoy" {
            // The program looks for this one first.
            words.push_str(&format!(" --envoy {}", programs::part("envoy")?.display()));
        }
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let flag = flag.rsplit(' ').next().unwrap_or(flag);
        is_refused(&words, flag, &file, way_out)?;
    }
    let words = ["man".to_owned(), "/nowhere".to_owned()];
    is_refused(
        &words,
        "/nowhere",
        "/nowhere",
        "must be a folder that exists",
    )
}

#[test]
fn a_key_of_another_certificate_and_a_wrong_file_of_fixed_data_are_told() -> Result<()> {
    let certificates = Certificates::make()?;
    let (chain, key) = (
        certificates.path("server.pem"),
        certificates.path("client.key"),
    );
    let words = ["check", "--tls-cert", &chain, "--tls-key", &key].map(str::to_owned);
    let way_out = format!("tls_key {key} is the key of another certificate");
    is_refused(&words, "tls_cert", &chain, &way_out)?;
    let words = ["status", "--cert", &chain, "--key-file", &key].map(str::to_owned);
    let way_out = format!("--key-file {key} is the key of another certificate");
    is_refused(&words, "--cert", &chain, &way_out)?;
    let servers = "redis://127.0.0.1:1";
    for command in ["check", "group create"] {
        let words = format!("{command} --group-servers {servers} --group-fixed-data /nowhere");
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let way_out = "correct the path, or create the file";
        is_refused(&words, "group.fixed_data", "/nowhere", way_out)?;
    }
    let folder = TempDir::new()?;
    let file = folder.path().display().to_string();
    let words = ["serve", "--store-path", &file].map(str::to_owned);
    is_refused(&words, "store.path", &file, "name a file and not a folder")
}
