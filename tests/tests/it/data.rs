//! Conditional writes of records: the condition is checked in the same step as the write.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::{Client, Method, Response};
use serde_json::Value;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::programs;
use unitring_tests::redis::Redis;

struct Api {
    client: Client,
    url: String,
}

impl Api {
    fn of(companion: &Companion, key: &str) -> Self {
        Self {
            client: Client::new(),
            url: format!("http://127.0.0.1:{}/v1/data/d/{key}", companion.port),
        }
    }

    async fn ask(&self, method: Method, header: &[(&str, &str)], body: &str) -> Result<Response> {
        let mut request = self.client.request(method, &self.url);
        for (name, value) in header {
            request = request.header(*name, *value);
        }
        Ok(request.body(body.to_owned()).send().await?)
    }

    async fn put(&self, header: &[(&str, &str)], body: &str) -> Result<(u16, String)> {
        let answer = self.ask(Method::PUT, header, body).await?;
        let tag = answer.headers().get("etag");
        let tag = tag.map_or(Ok(""), |tag| tag.to_str())?.to_owned();
        Ok((answer.status().as_u16(), tag))
    }
}

async fn conditions(companion: &Companion) -> Result<()> {
    let api = Api::of(companion, "k");
    let create = [("if-none-match", "*")];
    assert_eq!(api.put(&[("if-match", "*")], "x").await?.0, 412);
    let (status, first) = api.put(&create, "one").await?;
    assert_eq!(status, 201);
    assert_eq!(api.put(&create, "two").await?, (412, first.clone()));
    let (status, second) = api.put(&[("if-match", &first)], "two").await?;
    assert_eq!(status, 200);
    assert_eq!(
        api.put(&[("if-match", &first)], "three").await?,
        (412, second.clone())
    );
    let unchanged = api
        .ask(Method::GET, &[("if-none-match", &second)], "")
        .await?;
    assert_eq!(unchanged.status().as_u16(), 304);
    let changed = api
        .ask(Method::GET, &[("if-none-match", &first)], "")
        .await?;
    assert_eq!(
        (changed.status().as_u16(), changed.text().await?.as_str()),
        (200, "two")
    );
    let refused = api.ask(Method::DELETE, &[("if-match", &first)], "").await?;
    assert_eq!(refused.status().as_u16(), 412);
    let body: Value = refused.json().await?;
    assert_eq!(
        format!("\"{}\"", body["version"].as_str().context("none")?),
        second
    );
    let deleted = api
        .ask(Method::DELETE, &[("if-match", &second)], "")
        .await?;
    assert_eq!(deleted.status().as_u16(), 200);
    for bad in [
        [("if-match", "1.0@east")],
        [("if-none-match", "\"1.0@east\"")],
    ] {
        let answer = api.ask(Method::PUT, &bad, "x").await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        assert_eq!(status, 400, "{text}");
        assert!(text.contains(bad[0].0), "{text}");
    }
    // Repeated lines are one list.
    let (_, now) = api.put(&[], "now").await?;
    let lines = [("if-match", "\"1.0@east\""), ("if-match", now.as_str())];
    let (status, now) = api.put(&lines, "later").await?;
    assert_eq!(status, 200);
    let lines = [
        ("if-none-match", "\"1.0@east\""),
        ("if-none-match", now.as_str()),
    ];
    let known = api.ask(Method::GET, &lines, "").await?;
    assert_eq!(known.status().as_u16(), 304);
    let lines = [("if-match", "*"), ("if-match", now.as_str())];
    assert_eq!(api.put(&lines, "x").await?.0, 400);
    let deleted = api.ask(Method::DELETE, &[("if-match", &now)], "").await?;
    assert_eq!(deleted.status().as_u16(), 200);
    // A tag that is no version does not match, nor does a weak tag.
    for other in ["\"later\"", "W/\"1.0@east\"", "\"later\", \"1.0@east\""] {
        let answer = api.ask(Method::PUT, &[("if-match", other)], "x").await?;
        assert_eq!(answer.status().as_u16(), 412, "{other}");
    }
    Ok(())
}

/// Many clients increment the same record, each retrying until no other write came between.
async fn counting(companions: &[&Companion]) -> Result<()> {
    const CLIENTS: usize = 8;
    const EACH: usize = 10;
    Api::of(companions[0], "count").put(&[], "0").await?;
    let client = async |number: usize| -> Result<()> {
        let api = Api::of(companions[number % companions.len()], "count");
        let mut done = 0;
        while done < EACH {
            let there = api.ask(Method::GET, &[], "").await?;
            let tag = there.headers().get("etag").context("no etag")?;
            let tag = tag.to_str()?.to_owned();
            let count: usize = there.text().await?.parse()?;
            let more = (count + 1).to_string();
            let (status, _) = api.put(&[("if-match", &tag)], &more).await?;
            ensure!(status == 200 || status == 412, "{status}");
            done += usize::from(status == 200);
        }
        Ok(())
    };
    try_join_all((0..CLIENTS).map(client)).await?;
    let count = Api::of(companions[0], "count");
    let count = count.ask(Method::GET, &[], "").await?.text().await?;
    assert_eq!(count, (CLIENTS * EACH).to_string());
    Ok(())
}

/// Runs `unitring data …`: the exit code, and its standard output and standard error.
fn data(companion: &Companion, arguments: &[&str]) -> Result<(i32, String, String)> {
    let output = Command::new(programs::built("unitring")?)
        .arg("data")
        .args(arguments)
        .args(["--dataset", "d", "--key", "a key/with é"])
        .args(["--url", &format!("http://127.0.0.1:{}", companion.port)])
        .output()?;
    let code = output.status.code().context("killed")?;
    let text = |bytes| String::from_utf8(bytes);
    Ok((code, text(output.stdout)?, text(output.stderr)?))
}

#[tokio::test]
async fn the_program_reads_and_writes_records_and_says_what_was_in_the_way() -> Result<()> {
    let companion = Settings::default().start().await?;
    let run = |arguments: &[&str]| data(&companion, arguments);
    let (code, out, error) = run(&["get"])?;
    assert_eq!((code, out.as_str()), (4, ""));
    assert!(error.contains("not found"), "{error}");
    let (code, first, _) = run(&["put", "--create", "--value", "one"])?;
    assert_eq!(code, 0);
    let (code, _, error) = run(&["put", "--create", "--value", "two"])?;
    assert_eq!(code, 5);
    assert!(error.contains(first.trim()), "{error}");
    let (code, second, _) = run(&["put", "--if-match", first.trim(), "--value", "two"])?;
    assert_eq!(code, 0);
    assert_eq!(run(&["get"])?, (0, "two".to_owned(), String::new()));
    assert_eq!(run(&["delete", "--if-match", first.trim()])?.0, 5);
    assert_eq!(run(&["delete", "--if-match", second.trim()])?.0, 0);
    assert_eq!(run(&["delete"])?.0, 4);
    let (code, _, error) = run(&["put", "--file", "/nowhere"])?;
    assert_eq!(code, 64);
    assert!(error.contains("/nowhere"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_write_is_made_only_where_its_condition_holds() -> Result<()> {
    let companion = Settings::default().start().await?;
    conditions(&companion).await?;
    counting(&[&companion]).await
}

#[tokio::test]
async fn conditions_hold_between_companions_that_share_a_redis() -> Result<()> {
    let redis = Redis::start().await?;
    let first = Settings::on_redis(&redis).start().await?;
    let second = Settings::on_redis(&redis).start().await?;
    conditions(&first).await?;
    counting(&[&first, &second]).await
}
