//! Settings with which `serve` refuses to start, and secrets that it never shows.

use anyhow::{Result, ensure};
use tempfile::TempDir;
use unitring_tests::{ports, programs};

/// Runs the program to its end; returns its exit code and all that it said.
fn ends(arguments: &[&str]) -> Result<(i32, String)> {
    let folder = TempDir::new()?;
    let output = programs::unitring()?
        .args(arguments)
        .current_dir(folder.path())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code().unwrap_or(-1), String::from_utf8(text)?))
}

#[test]
fn beyond_loopback_a_stranger_finds_a_closed_door() -> Result<()> {
    let address = format!("0.0.0.0:{}", ports::free()?);
    for field in ["--listen", "--xds-listen"] {
        let (code, said) = ends(&["serve", field, &address])?;
        ensure!(
            code == 64 && said.contains("is beyond loopback"),
            "{code}: {said}"
        );
        ensure!(
            said.contains("allow_insecure = true serves without"),
            "{said}"
        );
        let (code, said) = ends(&["serve", field, &address, "--token", "s3cret"])?;
        ensure!(code == 64 && said.contains("needs TLS"), "{code}: {said}");
        ensure!(!said.contains("s3cret"), "{said}");
    }
    let (code, said) = ends(&["check", "--listen", &address, "--allow-insecure", "true"])?;
    ensure!(code == 0, "{said}");
    Ok(())
}

#[test]
fn a_secret_is_in_no_output() -> Result<()> {
    for arguments in [
        &[
            "check",
            "--store-redis-url",
            "unix:///r.sock?db=1&pass=s3cret",
        ][..],
        &["check", "--store-redis-url", "redis://me:s3cret@h:1/2"],
        &["check", "--token", "s3cret"],
        &[
            "check",
            "--tokens",
            "[a]\ntoken = 's3cret'\nroles = ['read']",
        ],
        &[
            "check",
            "--sync-peers",
            "west",
            "--sync-amqp-url",
            "amqp://u:s3cret@h/v",
        ],
    ] {
        let (code, said) = ends(arguments)?;
        ensure!(
            code == 0 && !said.contains("s3cret"),
            "{arguments:?}: {code}: {said}"
        );
    }
    for arguments in [
        &[
            "check",
            "--sync-peers",
            "west",
            "--sync-amqp-url",
            "amqp://u:s3/cret@h/v",
        ][..],
        &[
            "check",
            "--sync-peers",
            "west",
            "--sync-amqp-url",
            "amqp://u:s3cret@h:x/v",
        ],
        &["check", "--group-servers", "redis://:s3?cret@h"],
        &["check", "--token", "s3cret and more"],
        &["check", "--token", "  "],
        &["check", "--tokens", "[a]\ntoken = s3cret"],
    ] {
        let (code, said) = ends(arguments)?;
        let shows = ["s3cret", "s3/cret", "s3?cret"]
            .iter()
            .any(|part| said.contains(part));
        ensure!(code == 64 && !shows, "{arguments:?}: {code}: {said}");
    }
    Ok(())
}
