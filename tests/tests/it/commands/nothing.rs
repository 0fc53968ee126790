//! An empty answer is shown in words, and a command chooses the service if there is only one.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;
use unitring_tests::companion::Settings;
use unitring_tests::report;

use super::{run, url};

#[tokio::test]
async fn an_empty_list_is_said_in_words_and_as_json_is_empty() -> Result<()> {
    let companion = Settings::default().start().await?;
    let at = url(companion.port);
    let ended = |arguments: &[&str]| run(&[arguments, &["--url", &at]].concat(), &[]);
    for (arguments, out, said) in [
        (
            &["instance", "list", "--service", "orders"][..],
            "no instance is registered for orders\n",
            "",
        ),
        (&["service", "list"], "no service is known\n", ""),
        (&["unit", "list"], "this unit has no peers\n", ""),
        (&["conflicts"], "no conflict is known\n", ""),
        // Beside the output, whose lines are events.
        (&["events"], "", "no event is known\n"),
        (
            &["events", "--service", "s"],
            "",
            "no event of s is known\n",
        ),
        (&["events", "--since", "1h"], "", "no event in this time\n"),
        (
            &["instance", "list", "--service", "orders", "--json"],
            "[]\n",
            "",
        ),
        (&["service", "list", "--json"], "[]\n", ""),
        (&["unit", "list", "--json"], "null\n", ""),
        (&["conflicts", "--json"], "[]\n", ""),
        (&["events", "--json"], "", ""),
    ] {
        let expected = (0, out.to_owned(), said.to_owned());
        let got = ended(arguments)?;
        ensure!(got == expected, "{arguments:?}: {got:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_is_located_in_the_only_service_that_an_envoy_reports_on() -> Result<()> {
    let companion = Settings::default().start().await?;
    let locate = ["locate", "--key", "ada", "--url", &url(companion.port)];
    let ended = |code: i32, text: &str| -> Result<()> {
        let (ended, out, said) = run(&locate, &[])?;
        let is_so = ended == code && format!("{out}{said}").contains(text);
        ensure!(is_so, "{ended}: {out}{said}");
        Ok(())
    };
    ended(1, "the companion knows no service yet")?;
    for service in ["carts", "stock"] {
        let path = format!("/v1/services/{service}/instances/a");
        let body = json!({"address": "10.0.0.9:80"}).to_string();
        let answer = companion
            .call(Method::PUT, &path, body.into_bytes())
            .await?;
        ensure!(answer.status().is_success());
    }
    ended(64, "--service is needed: the companion knows carts, stock")?;
    let service = |name: &str| report::service(name, vec![report::instance("a", "10.0.0.1:80", 0)]);
    let mut report = report::report("edge-1", 1, vec![service("orders")]);
    report["interval_ms"] = json!(60_000);
    companion.report(&report).await?;
    ended(0, "owner      a (10.0.0.1:80)")?;
    let mut report = report::report("edge-1", 2, vec![service("orders"), service("users")]);
    report["interval_ms"] = json!(60_000);
    companion.report(&report).await?;
    ended(64, "--service is needed: the companion knows orders, users")
}
