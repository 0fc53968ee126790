//! Whole datasets: listed, expired, written in batches, exported, and watched without a gap.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::programs;
use unitring_tests::redis::Redis;
use unitring_tests::redis::cluster::Cluster;

/// Writes a batch of the dataset `d`: its status and results.
async fn batch(companion: &Companion, lines: &[Value]) -> Result<(u16, Value)> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let body = lines.join("\n").into_bytes();
    let answer = companion.call(Method::POST, "/v1/data/d", body).await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// The keys of `d`, from all pages.
async fn listed(companion: &Companion, query: &str) -> Result<Vec<String>> {
    let (mut keys, mut after) = (Vec::new(), String::new());
    loop {
        let page = companion.get(&format!("/v1/data/d?{query}{after}")).await?;
        let records = page["records"].as_array().context("records")?;
        let names = records.iter().filter_map(|record| record["key"].as_str());
        keys.extend(names.map(str::to_owned));
        match page["after"].as_str() {
            Some(next) => after = format!("&after={}", next.replace('%', "%25")),
            None => break,
        }
    }
    keys.sort();
    Ok(keys)
}

async fn a_dataset(companion: &Companion) -> Result<()> {
    let lines: Vec<Value> = (0..300)
        .map(|number| json!({"key": format!("users/{number:03}"), "text": "x"}))
        .chain([json!({"key": "other", "value": "AP9h"})])
        .collect();
    let (status, answer) = batch(companion, &lines).await?;
    ensure!(status == 200, "{answer}");
    ensure!(answer["results"].as_array().map(Vec::len) == Some(301));
    let all = listed(companion, "limit=50").await?;
    assert_eq!(all.len(), 301, "each once");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 301);
    assert_eq!(listed(companion, "prefix=users/29").await?.len(), 10);
    assert_eq!(listed(companion, "prefix=users/*").await?.len(), 0);
    let bytes = companion
        .call(Method::GET, "/v1/data/d/other", vec![])
        .await?;
    assert_eq!(bytes.bytes().await?.as_ref(), b"\0\xffa");

    let (status, answer) = batch(
        companion,
        &[
            json!({"key": "other", "text": "y", "create": true}),
            json!({"key": "users/000", "delete": true}),
            json!({"key": "never there", "delete": true}),
        ],
    )
    .await?;
    assert_eq!(status, 207, "{answer}");
    assert_eq!(answer["results"][0]["status"], 412);
    assert!(answer["results"][0]["version"].is_string(), "{answer}");
    assert!(answer["results"][1]["version"].is_string(), "{answer}");
    assert!(answer["results"][2]["version"].is_null(), "{answer}");
    assert_eq!(listed(companion, "prefix=users/").await?.len(), 299);

    for (lines, why) in [
        (json!({"key": "k"}), "line 1: must have one of"),
        (
            json!({"key": "k", "text": "a", "delete": true}),
            "line 1: must have one of",
        ),
        (
            json!({"key": "k", "text": "a", "ttl": "soon"}),
            "line 1: ttl",
        ),
        (
            json!({"key": "k", "text": "a", "color": 1}),
            "line 1: color: unknown field",
        ),
        (json!({"key": "", "text": "a"}), "line 1: "),
    ] {
        let (status, answer) = batch(companion, &[lines]).await?;
        let error = answer["error"].as_str().unwrap_or_default().to_owned();
        ensure!(status == 400 && error.starts_with(why), "{status} {error}");
    }
    let twice = [
        json!({"key": "k", "text": "a"}),
        json!({"key": "k", "text": "b"}),
    ];
    let (status, answer) = batch(companion, &twice).await?;
    ensure!(status == 400, "{answer}");
    for query in ["after=x", "after=999.", "color=1", "limit=many"] {
        let path = format!("/v1/data/d?{query}");
        let answer = companion.call(Method::GET, &path, vec![]).await?;
        assert_eq!(answer.status().as_u16(), 400, "{query}");
    }
    Ok(())
}

async fn expiry(companion: &Companion) -> Result<()> {
    let call = async |method, path: &str| companion.call(method, path, b"v".to_vec()).await;
    let answer = call(Method::PUT, "/v1/data/d/brief?ttl=1h").await?;
    ensure!(answer.status().as_u16() == 201, "{}", answer.status());
    let expires: Value = answer.json().await?;
    let read = call(Method::GET, "/v1/data/d/brief").await?;
    let told = read
        .headers()
        .get("x-unitring-expires")
        .context("no date")?;
    assert_eq!(told.to_str()?, expires["expires_ms"].to_string());
    let answer = call(Method::PUT, "/v1/data/d/brief?ttl=700ms").await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    until("the record to be gone", async || {
        let gone = call(Method::GET, "/v1/data/d/brief").await?;
        ensure!(gone.status().as_u16() == 404, "{}", gone.status());
        Ok(())
    })
    .await?;
    assert_eq!(listed(companion, "prefix=brief").await?.len(), 0);
    let answer = call(Method::DELETE, "/v1/data/d/brief").await?;
    assert_eq!(answer.status().as_u16(), 404);
    for ttl in ["0s", "soon", "900000h"] {
        let answer = call(Method::PUT, &format!("/v1/data/d/brief?ttl={ttl}")).await?;
        assert_eq!(answer.status().as_u16(), 400, "{ttl}");
    }
    Ok(())
}

#[tokio::test]
async fn datasets_are_written_in_batches_listed_in_pages_and_expire() -> Result<()> {
    let embedded = Settings::default().start().await?;
    a_dataset(&embedded).await?;
    expiry(&embedded).await?;
    let redis = Redis::start().await?;
    let on_redis = Settings::on_redis(&redis).start().await?;
    a_dataset(&on_redis).await?;
    expiry(&on_redis).await?;
    let cluster = Cluster::start(0).await?;
    let on_cluster = Settings::at_redis(&cluster.url()).start().await?;
    a_dataset(&on_cluster).await?;
    expiry(&on_cluster).await
}

/// A stream of changes.
struct Watch {
    response: Response,
    text: String,
    /// Changes that were received and not yet returned.
    read: VecDeque<Value>,
    last: Option<String>,
}

impl Watch {
    async fn open(companion: &Companion, query: &str, last: Option<&str>) -> Result<Self> {
        let url = format!(
            "http://127.0.0.1:{}/v1/data/d?watch=true{query}",
            companion.port
        );
        let mut request = Client::new().get(url);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await?;
        ensure!(response.status().is_success(), "{}", response.text().await?);
        let mut watch = Self {
            response,
            text: String::new(),
            read: VecDeque::new(),
            last: None,
        };
        // The stream sends its start position at once.
        while watch.last.is_none() {
            watch.line().await?;
        }
        Ok(watch)
    }

    /// Reads one more line.
    async fn line(&mut self) -> Result<()> {
        while !self.text.contains('\n') {
            let more = tokio::time::timeout(PATIENCE, self.response.chunk());
            let more = more.await.context("nothing comes")??.context("it ended")?;
            self.text.push_str(std::str::from_utf8(&more)?);
        }
        let (line, rest) = self.text.split_once('\n').context("no line")?;
        match line.split_once(": ") {
            Some(("id", id)) => self.last = Some(id.to_owned()),
            Some(("data", data)) => self.read.push_back(serde_json::from_str(data)?),
            _ => {}
        }
        self.text = rest.to_owned();
        Ok(())
    }

    /// The next change.
    async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(change) = self.read.pop_front() {
                return Ok(change);
            }
            self.line().await?;
        }
    }

    /// This many changes as `change key`, sorted.
    async fn many(&mut self, count: usize) -> Result<Vec<String>> {
        let mut changes = Vec::new();
        while changes.len() < count {
            let change = self.next().await?;
            let text = |name: &str| change[name].as_str().unwrap_or("?").to_owned();
            changes.push(format!("{} {}", text("change"), text("key")));
        }
        changes.sort();
        Ok(changes)
    }
}

async fn write(companion: &Companion, method: Method, key: &str) -> Result<()> {
    let path = format!("/v1/data/d/{key}");
    let answer = companion.call(method, &path, b"v".to_vec()).await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    Ok(())
}

#[tokio::test]
async fn changes_are_watched_without_a_gap_across_restarts_and_companions() -> Result<()> {
    let redis = Redis::start().await?;
    let mut east = Settings::on_redis(&redis).start().await?;
    let other = Settings::on_redis(&redis).start().await?;
    write(&east, Method::PUT, "before").await?;
    let mut watch = Watch::open(&east, "&prefix=a", None).await?;
    write(&east, Method::PUT, "a1").await?;
    write(&east, Method::PUT, "b").await?;
    write(&other, Method::PUT, "a2").await?;
    write(&other, Method::DELETE, "a1").await?;
    assert_eq!(watch.many(3).await?, ["delete a1", "put a1", "put a2"]);

    // The changes during a time without a stream arrive once each, and none from before.
    write(&east, Method::PUT, "a3").await?;
    assert_eq!(watch.many(1).await?, ["put a3"]);
    while !watch.text.is_empty() {
        watch.line().await?;
    }
    let last = watch.last.clone();
    east.kill()?;
    drop(watch);
    for number in 0..40 {
        write(&other, Method::PUT, &format!("a/{number:02}")).await?;
    }
    east.restart().await?;
    let mut watch = Watch::open(&east, "", last.as_deref()).await?;
    let expected: Vec<String> = (0..40).map(|number| format!("put a/{number:02}")).collect();
    assert_eq!(watch.many(40).await?, expected);
    write(&other, Method::PUT, "end").await?;
    assert_eq!(watch.many(1).await?, ["put end"]);

    // More changes than the log keeps: the stream says that some are missed.
    let old = watch.last.clone();
    for _ in 0..900 {
        write(&east, Method::PUT, "often").await?;
    }
    let url = format!("http://127.0.0.1:{}/v1/data/d?watch=true", east.port);
    let request = Client::new()
        .get(url)
        .header("last-event-id", old.context("no id")?);
    let mut again = Watch {
        response: request.send().await?,
        text: String::new(),
        read: VecDeque::new(),
        last: None,
    };
    assert_eq!(again.next().await?["change"], "missed");
    let wrong = Watch::open(&east, "", Some("1.2.3"))
        .await
        .err()
        .context("taken")?;
    assert!(wrong.to_string().contains("last-event-id"), "{wrong}");
    Ok(())
}

#[tokio::test]
async fn who_watches_a_store_that_went_back_is_told_that_something_is_missed() -> Result<()> {
    let redis = Redis::start().await?;
    let east = Settings::on_redis(&redis).start().await?;
    let mut watch = Watch::open(&east, "", None).await?;
    write(&east, Method::PUT, "k").await?;
    assert_eq!(watch.many(1).await?, ["put k"]);
    let found = redis.cli(&["--scan", "--pattern", "unitring:{*}:r:d/k"])?;
    let bucket = found.split("r:d").next().context("no record")?;
    let keys = redis.cli(&["--scan", "--pattern", &format!("{bucket}*")])?;
    for key in keys.lines() {
        redis.cli(&["COPY", key, &format!("copy of {key}")])?;
    }
    write(&east, Method::PUT, "k").await?;
    assert_eq!(watch.many(1).await?, ["put k"]);
    while !watch.text.is_empty() {
        watch.line().await?;
    }
    let last = watch.last.take().context("no id")?;
    drop(watch);
    // As after a fail-over to a replica that was behind: another change has the number of the lost one.
    for key in keys.lines() {
        redis.cli(&["COPY", &format!("copy of {key}"), key, "REPLACE"])?;
    }
    write(&east, Method::PUT, "k").await?;
    let mut again = Watch::open(&east, "", Some(&last)).await?;
    assert_eq!(again.next().await?["change"], "missed");
    // The same for a position of another unit.
    let other = format!("elsewhere/{}", last.split_once('/').context("no unit")?.1);
    let mut again = Watch::open(&east, "", Some(&other)).await?;
    assert_eq!(again.next().await?["change"], "missed");
    Ok(())
}

fn unitring(companion: &Companion) -> Result<Command> {
    let mut command = Command::new(programs::built("unitring")?);
    command.arg("data").env(
        "UNITRING_URL",
        format!("http://127.0.0.1:{}", companion.port),
    );
    Ok(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_exported_and_imported_by_the_program_as_it_was() -> Result<()> {
    let mut from = Settings::default().start().await?;
    let to = Settings::default().start().await?;
    let mut watch = unitring(&from)?
        .args(["watch", "--dataset", "d"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut changes = BufReader::new(watch.stdout.take().context("no output")?).lines();
    // It watches from when it is connected; it sees no earlier change.
    let first = async {
        loop {
            write(&from, Method::PUT, "ping").await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let line = tokio::task::spawn_blocking(move || (changes.next(), changes));
    let (line, mut changes) = tokio::select! {
        line = line => line?,
        broken = first => return broken,
    };
    assert!(line.context("it ended")??.contains(r#""key":"ping""#));

    let lines = "{\"key\": \"text\", \"text\": \"plain\\nlines\"}\n\n\
                 {\"key\": \"bytes\", \"value\": \"AP9h\"}\n\
                 {\"key\": \"brief\", \"text\": \"x\", \"ttl\": \"1h\"}\n";
    let mut import = unitring(&from)?
        .args(["import", "--dataset", "d"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    import
        .stdin
        .take()
        .context("no input")?
        .write_all(lines.as_bytes())?;
    let done = import.wait_with_output()?;
    assert_eq!(String::from_utf8(done.stdout)?, "3 of 3 written\n");

    let export = |companion: &Companion| -> Result<Vec<String>> {
        let output = unitring(companion)?
            .args(["export", "--dataset", "d"])
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout)?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    };
    let exported = export(&from)?;
    assert_eq!(exported.len(), 4, "{exported:?}");
    let mut import = unitring(&to)?
        .args(["import", "--dataset", "d"])
        .stdin(Stdio::piped())
        .spawn()?;
    let text = exported.join("\n");
    import
        .stdin
        .take()
        .context("no input")?
        .write_all(text.as_bytes())?;
    ensure!(import.wait()?.success(), "not imported");
    assert_eq!(export(&to)?, exported);
    let keys = unitring(&to)?
        .args(["list", "--dataset", "d", "--prefix", "b"])
        .output()?;
    let mut keys: Vec<&str> = std::str::from_utf8(&keys.stdout)?.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["brief", "bytes"]);

    // The watcher resumes at a companion that comes back, from its position.
    from.restart().await?;
    write(&from, Method::PUT, "after").await?;
    let mut seen = BTreeSet::new();
    let followed = tokio::task::spawn_blocking(move || -> Result<()> {
        while !seen.contains("after") {
            let line: Value = serde_json::from_str(&changes.next().context("it ended")??)?;
            seen.insert(line["key"].as_str().unwrap_or("?").to_owned());
        }
        for key in ["text", "bytes", "brief"] {
            ensure!(seen.contains(key), "{key} is not in {seen:?}");
        }
        Ok(())
    });
    let followed = tokio::time::timeout(PATIENCE, followed).await;
    watch.kill()?;
    watch.wait()?;
    followed.context("it does not come")??
}
