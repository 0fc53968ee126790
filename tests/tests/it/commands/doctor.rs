//! `unitring doctor`, on files and on real servers: the shipped ones have no finding, a broken one has its own.

mod companions;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::site::Site;
use unitring_tests::{ports, programs};

use super::{ends, run, url};

/// The exit code, and the codes of findings but for notes.
fn doctor(arguments: &[&str]) -> Result<(i32, BTreeSet<String>, Value)> {
    let (code, out, said) = run(&[&["doctor", "--json"], arguments].concat(), &[])?;
    let told: Value = serde_json::from_str(&out).with_context(|| format!("{out}{said}"))?;
    let findings = told["findings"].as_array().context("no findings")?;
    let grave = findings
        .iter()
        .filter(|finding| finding["severity"] != "info");
    let codes = grave.filter_map(|finding| finding["code"].as_str());
    let codes = codes.map(str::to_owned).collect();
    Ok((code, codes, told))
}

/// Checks that the command ends with this code, and has exactly these findings.
fn finds(arguments: &[&str], code: i32, codes: &[&str]) -> Result<Value> {
    let (ended, found, told) = doctor(arguments)?;
    let expected: BTreeSet<String> = codes.iter().map(|code| (*code).to_owned()).collect();
    ensure!(ended == code && found == expected, "{ended}: {told:#}");
    Ok(told)
}

#[test]
fn the_shipped_files_have_no_finding() -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(programs::root()?.join("envoy"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml") {
            files.push(path.display().to_string());
        }
    }
    ensure!(files.len() >= 8, "{files:?}");
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let arguments = [&["--fail-on", "warn", "--envoy-config"], &files[..]].concat();
    let told = finds(&arguments, 0, &[])?;
    ensure!(
        told["sources"]
            .as_array()
            .is_some_and(|all| all.len() == files.len())
    );
    Ok(())
}

#[tokio::test]
async fn a_running_site_has_no_finding_and_its_keys_are_where_the_companion_says() -> Result<()> {
    let site = Site::start().await?;
    let [admin, companion, listener] =
        [site.envoy.admin_port, site.companion.port, site.envoy.port].map(url);
    site.companion.owner_of("ada").await?;
    let all = [
        "--admin",
        &admin,
        "--url",
        &companion,
        "--probe",
        &listener,
        "--fail-on",
        "warn",
    ];
    // At its start an Envoy's last report may be older than its ring.
    until("the companion to know the ring", async || {
        finds(&all, 0, &[])
    })
    .await?;
    until("people to be told so", async || {
        let (code, out, _) = run(&[&["doctor"], &all[..]].concat(), &[])?;
        ensure!(
            code == 0 && out.starts_with("no findings in http://"),
            "{out}"
        );
        Ok(())
    })
    .await?;
    // A VM adds its counts at its next tick.
    until("a probe to have passed the filter", async || {
        ensure!(site.envoy.ours("choice.sampled").await? > 0);
        Ok(())
    })
    .await?;

    // The filter sees no key in another header, so that Envoy chooses without one.
    let elsewhere = [&all[..], &["--key-header", "x-other", "--probes", "40"]].concat();
    let told = finds(&elsewhere, 1, &["UR0801"])?;
    let seen = told["findings"][0]["seen"].as_str().context("nothing")?;
    ensure!(
        seen.contains(" of 40 keys: doctor-") && seen.contains(" belongs to 127.0.0.1:"),
        "{seen}"
    );
    Ok(())
}

#[tokio::test]
async fn instances_that_do_not_tell_who_they_are_need_a_header() -> Result<()> {
    let upstream = json!([{"header": {"key": "x-upstream", "value": "%UPSTREAM_REMOTE_ADDRESS%"}}]);
    let change = |manager: &mut Value| -> Result<()> {
        let host = manager.pointer_mut("/route_config/virtual_hosts/0");
        let host = host.context("no virtual host")?;
        host["response_headers_to_add"] = upstream;
        host["routes"][0]["route"]["hash_policy"] = json!([{"cookie": {"name": "sid"}}]);
        Ok(())
    };
    // The probes' key is a cookie here, as the filter's.
    let site = Site::start_with(|config| {
        let config = config.setting("explain", json!(false))?;
        let config = config.setting("key", json!([{"cookie": "sid"}]))?;
        config.edit_connections(change)
    })
    .await?;
    let [admin, companion, listener] =
        [site.envoy.admin_port, site.companion.port, site.envoy.port].map(url);
    site.companion.owner_of("ada").await?;
    let all = ["--admin", &admin, "--url", &companion, "--probe", &listener];
    until("nothing else to be found", async || {
        finds(&all, 0, &["UR0803"])
    })
    .await?;
    let named = [&all[..], &["--instance-header", "x-upstream"]].concat();
    until("the companion to know the ring", async || {
        finds(&named, 0, &[])
    })
    .await?;
    let nobody = url(ports::free()?);
    finds(
        &["--admin", &admin, "--url", &companion, "--probe", &nobody],
        1,
        &["UR0802"],
    )?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_hash_policy_is_found_in_the_file_in_envoy_and_by_the_filter() -> Result<()> {
    let site = Site::start_with(|config| {
        config.edit_connections(|manager| {
            let header = "/route_config/virtual_hosts/0/routes/0/route/hash_policy/0/header";
            manager.pointer_mut(header).context("no policy")?["header_name"] = json!("x-user");
            Ok(())
        })
    })
    .await?;
    let [admin, companion] = [site.envoy.admin_port, site.companion.port].map(url);
    let told = finds(&["--admin", &admin], 1, &["UR0201"])?;
    let finding = &told["findings"][0];
    ensure!(
        finding["path"] == "listener ingress, virtual host all, route prefix /",
        "{finding}"
    );
    ensure!(finding["page"] == "docs/doctor.md#ur0201", "{finding}");
    until("the companion to have it from the filter", async || {
        finds(&["--url", &companion], 1, &["UR0505"])
    })
    .await?;
    // Another service has no such finding, and no filter of this Envoy places it.
    finds(&["--url", &companion, "--service", "carts"], 0, &[])?;
    finds(&["--admin", &admin, "--service", "carts"], 1, &["UR0002"])?;
    Ok(())
}

#[tokio::test]
async fn an_admin_interface_that_hides_the_configuration_is_said_to() -> Result<()> {
    let instances = Instance::start_all(&["a", "b"]).await?;
    let config = EnvoyConfig::shipped("native.yaml")?.instances(&instances, &[])?;
    let envoy = Envoy::start(&config).await?;
    let admin = url(envoy.admin_port);
    finds(&["--admin", &admin], 0, &["UR0005"])?;
    finds(&["--admin", &admin, "--fail-on", "warn"], 1, &["UR0005"])?;
    let file = programs::root()?
        .join("envoy/native.yaml")
        .display()
        .to_string();
    finds(
        &[
            "--admin",
            &admin,
            "--envoy-config",
            &file,
            "--fail-on",
            "warn",
        ],
        0,
        &[],
    )?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_envoy_and_no_companion_is_not_taken_for_one() -> Result<()> {
    let nobody = url(ports::free()?);
    finds(&["--admin", &nobody], 2, &["UR0004"])?;
    finds(&["--url", &nobody], 2, &["UR0501"])?;
    // An instance answers everything with the request as JSON.
    let instances = Instance::start_all(&["a"]).await?;
    let instance = url(instances[0].port);
    finds(
        &["--admin", &instance, "--url", &instance],
        2,
        &["UR0004", "UR0501"],
    )?;
    Ok(())
}

#[test]
fn an_admin_interface_that_never_answers_is_given_up() -> Result<()> {
    // The kernel takes the connection, and no server reads it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let told = finds(
        &["--admin", &url(silent.local_addr()?.port())],
        2,
        &["UR0004"],
    )?;
    let seen = &told["findings"][0]["seen"];
    ensure!(
        *seen == json!("GET /config_dump: no answer within 10 s"),
        "{told:#}"
    );
    Ok(())
}

#[test]
fn a_wrong_command_line_is_told_from_a_finding() -> Result<()> {
    let needed = "unitring: at least one of --envoy-config, --admin and --url is needed";
    ends(&["doctor"], 64, needed)?;
    let missing = "unitring: --envoy-config /nowhere/envoy.yaml: No such file or directory (os error 2): correct the \
                   path, or create the file";
    ends(
        &["doctor", "--envoy-config", "/nowhere/envoy.yaml"],
        64,
        missing,
    )?;
    let short = "unitring: --admin 127.0.0.1:9901: must begin with http:// or https://";
    ends(&["doctor", "--admin", "127.0.0.1:9901"], 64, short)?;
    let (code, _, said) = run(
        &["doctor", "--admin", "http://a", "--probe", "http://b"],
        &[],
    )?;
    ensure!(code == 64 && said.contains("--url"), "{said}");

    let folder = TempDir::new()?;
    let file = folder.path().join("values.yaml");
    fs::write(&file, "replicas: 3\n")?;
    let told = finds(
        &["--envoy-config", &file.display().to_string()],
        1,
        &["UR0001"],
    )?;
    ensure!(
        told["findings"][0]["seen"]
            .as_str()
            .is_some_and(|seen| seen.contains("has none of"))
    );
    Ok(())
}

#[test]
fn people_read_the_gravest_first_and_how_many_there_are() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("edge.yaml");
    let shipped = fs::read_to_string(programs::root()?.join("envoy/envoy.yaml"))?;
    let broken = shipped
        .replace("header_name: x-user-id", "header_name: x-user")
        .replace("num_retries: 2", "num_retries: 1")
        .replace("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN");
    fs::write(&file, broken)?;
    let file = file.display().to_string();
    let (code, out, _) = run(&["doctor", "--envoy-config", &file], &[])?;
    let heads: Vec<&str> = out.lines().filter(|line| line.contains(" UR0")).collect();
    let expected = [
        "error UR0201  A route hashes another key",
        "warn  UR0110  A filter that failed does not start again",
        "warn  UR0203  Retries and candidates differ",
    ];
    ensure!(code == 1 && heads == expected, "{out}");
    ensure!(
        out.ends_with(&format!("\n1 error, 2 warnings in {file}\n")),
        "{out}"
    );
    ensure!(!out.contains('\u{1b}'), "colours where nobody sees them");
    Ok(())
}
