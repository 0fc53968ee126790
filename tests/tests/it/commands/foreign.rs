//! A server that is no companion and says 200 to everything: no command takes that for success, with any body.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::config::{ADMIN, EnvoyConfig, LISTENER};
use unitring_tests::envoy::Envoy;

use super::exits::{COMMANDS, UNREACHABLE, ends};
use super::{run, url};

/// By the path that goes before that of the API.
const BODIES: [(&str, &str); 5] = [
    ("empty", ""),
    ("object", "{}"),
    ("list", "[]"),
    ("page", "<!doctype html><title>welcome</title>"),
    // Its answer has the form of a companion's answer about one part.
    ("ready", r#"{"ready": true, "checks": "ok"}"#),
];

/// Runs until it is stopped, unless the server is no companion.
const ENDLESS: [&str; 4] = [
    "events --follow",
    "data watch --dataset d",
    "top --frames 2 --interval 100ms",
    "status --json",
];

fn route((name, body): &(&str, &str)) -> Value {
    let mut answer = json!({"status": 200});
    if !body.is_empty() {
        answer["body"] = json!({"inline_string": body});
    }
    json!({"match": {"prefix": format!("/{name}/")}, "direct_response": answer})
}

/// An Envoy that answers by itself.
async fn agreeable() -> Result<Envoy> {
    let manager =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "envoy.extensions.filters.http.router.v3.Router";
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let routes: Vec<Value> = BODIES.iter().map(route).collect();
    let config = json!({
        "admin": {"address": at(ADMIN)},
        "static_resources": {"listeners": [{
            "address": at(LISTENER),
            "filter_chains": [{"filters": [{
                "name": "http",
                "typed_config": {
                    "@type": format!("type.googleapis.com/{manager}"),
                    "stat_prefix": "agreeable",
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
                    "http_filters": [{
                        "name": "router",
                        "typed_config": {"@type": format!("type.googleapis.com/{router}")},
                    }],
                },
            }]}],
        }]},
    });
    Envoy::start(&EnvoyConfig::own(config)).await
}

#[tokio::test]
async fn a_server_that_says_200_to_everything_is_no_companion() -> Result<()> {
    let envoy = agreeable().await?;
    let folder = TempDir::new()?;
    let file = folder.path().join("records");
    std::fs::write(&file, json!({"key": "k", "text": "v"}).to_string())?;
    let file = file.display().to_string();
    let endless = ENDLESS.iter().copied();
    let commands = COMMANDS.iter().map(|(command, ..)| *command);
    let commands: Vec<&str> = commands.chain(endless).collect();
    for (name, _) in BODIES {
        let at = format!("{}/{name}", url(envoy.port));
        for command in &commands {
            ends(command, &file, &at, UNREACHABLE)?;
        }
        let words = ["instance", "remove", "--service", "s", "--id", "a", "--yes"];
        let (_, out, said) = run(&[&words[..], &["--url", &at]].concat(), &[])?;
        ensure!(
            out.is_empty()
                && said.contains("answers, but is no companion of unitring: --url names"),
            "{out}{said}"
        );
    }
    // The command asked it for its identity, and sent nothing that changes something.
    let asked = envoy.stats("http.agreeable.downstream_rq_").await?;
    ensure!(
        asked.contains_key("http.agreeable.downstream_rq_total"),
        "{asked:?}"
    );
    Ok(())
}
