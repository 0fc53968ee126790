//! Bounds on memory that clients make the companion use, and on work that takes a core.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use futures_util::future::join_all;
use reqwest::{Client, Method, Response};
use serde_json::json;
use tokio::time::sleep;
use tonic::transport::Channel;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::report::{instance, report, service};

use super::{ELSEWHERE, Honest};

/// Asks for the endpoints of these clusters; returns how many assignments the first answer has.
pub(super) async fn endpoints(companion: &Companion, names: &[String]) -> Result<usize> {
    let (count, _stream) = subscribed(companion, names, None).await?;
    Ok(count)
}

pub(super) async fn subscribed(
    companion: &Companion,
    names: &[String],
    token: Option<&str>,
) -> Result<(usize, impl Send)> {
    let address = format!("http://127.0.0.1:{}", companion.xds_port);
    let channel = Channel::from_shared(address)?.connect().await?;
    let mut client = EndpointDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(64 << 20)
        .max_encoding_message_size(64 << 20);
    let request = DiscoveryRequest {
        resource_names: names.to_vec(),
        ..DiscoveryRequest::default()
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(request).await?;
    let requests = futures_util::stream::unfold(receiver, |mut receiver| async {
        let request = receiver.recv().await?;
        Some((request, receiver))
    });
    let mut request = tonic::Request::new(requests);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse()?;
        request.metadata_mut().insert("authorization", value);
    }
    let mut stream = client.stream_endpoints(request).await?.into_inner();
    let first = stream.message().await?.context("the stream ended")?;
    Ok((first.resources.len(), (stream, sender)))
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_envoys_subscribe_to_have_a_bound_in_bytes() -> Result<()> {
    let companion = Settings::default().start().await?;
    let long = |length| -> Vec<String> {
        let name = |number| format!("{number:0>length$}");
        (0..2_000).map(name).collect()
    };
    let refused = endpoints(&companion, &long(513)).await.unwrap_err();
    ensure!(
        format!("{refused:?}").contains("each at most 512 bytes"),
        "{refused:?}"
    );
    let before = companion.resident_bytes()?;
    let (names, mut streams) = (long(500), Vec::new());
    let refused = loop {
        match subscribed(&companion, &names, None).await {
            Ok((_, stream)) => streams.push(stream),
            Err(error) => break error,
        }
        ensure!(streams.len() < 200, "no bound");
    };
    ensure!(
        format!("{refused:?}").contains("too many bytes of resource_names"),
        "{refused:?}"
    );
    let grown = companion.resident_bytes()?.saturating_sub(before) >> 20;
    println!(
        "{} streams with 2,000 names of 500 bytes: {grown} MiB",
        streams.len()
    );
    ensure!(grown < 400, "{grown} MiB");
    companion
        .counts("unitring_companion_xds_streams_refused_total 2")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_stranger_is_not_read_and_its_connection_ends() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "s3cret")
        .start()
        .await?;
    let names = ["orders".to_owned()];
    let address = format!("http://127.0.0.1:{}", companion.xds_port);
    let channel = Channel::from_shared(address)?.connect().await?;
    let mut client = EndpointDiscoveryServiceClient::new(channel);
    let request = DiscoveryRequest {
        resource_names: vec!["n".repeat(3 << 20)],
        ..DiscoveryRequest::default()
    };
    // Refused for its sender, and not for its content.
    let refused = client.fetch_endpoints(request).await.unwrap_err();
    ensure!(refused.code() == tonic::Code::Unauthenticated, "{refused}");
    until("the connection to end", async || {
        let asked = client.fetch_endpoints(DiscoveryRequest::default()).await;
        let error = asked.err().context("it is answered")?;
        ensure!(error.code() != tonic::Code::Unauthenticated, "{error}");
        Ok(())
    })
    .await?;
    ensure!(subscribed(&companion, &names, Some("s3cret")).await?.0 == 1);
    Ok(())
}

/// A report of some megabytes.
fn huge(reporter: &str) -> Vec<u8> {
    // Long names, since it is the number of instances that takes its time here.
    let loads = (0..1_000).map(|number| {
        let id = format!("{reporter}-{number:0>240}");
        let mut load = instance(
            &id,
            &format!("10.0.{}.{}:80", number / 250, number % 250),
            1,
        );
        load["hash_key"] = json!("k".repeat(2_500));
        load
    });
    let mut report = report(reporter, 1, vec![service(reporter, loads.collect())]);
    // All of them count until the last one is sent.
    report["interval_ms"] = json!(60_000);
    report.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_have_a_bound_in_bytes_for_each_client() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "s3cret")
        .variable(
            "UNITRING_TOKENS",
            "[evil]\ntoken = 'evil'\nroles = ['report']",
        )
        .start()
        .await?;
    let mut honest = Honest::new(&companion, Some("s3cret"))?;
    honest.goes_on().await?;
    let before = companion.resident_bytes()?;
    let (mut taken, mut refused) = (0, 0);
    for number in 0..60 {
        if refused == 3 {
            break;
        }
        let body = huge(&format!("evil~{number}"));
        let response = companion.call_as("evil", Method::POST, "/v1/reports", body);
        match response.await?.status().as_u16() {
            200 => taken += 1,
            503 => refused += 1,
            // A busy machine may not take it in time.
            504 => {}
            other => anyhow::bail!("{other}"),
        }
    }
    ensure!(
        taken > 5 && refused == 3,
        "{taken} taken, {refused} refused"
    );
    let grown = companion.resident_bytes()?.saturating_sub(before) >> 20;
    println!(
        "{taken} reports of {} KiB: {grown} MiB",
        huge("evil~0").len() >> 10
    );
    ensure!(grown < 600, "{grown} MiB");
    honest.goes_on().await?;
    // The services of those reports that still live may fill a page before it.
    let page = honest
        .succeeds(Method::GET, "/v1/services?after=f", Vec::new())
        .await?;
    ensure!(page.contains("\"orders\""), "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_reporters_make_room_for_a_real_one() -> Result<()> {
    let companion = Settings::default().start().await?;
    let honest = Honest::new(&companion, None)?;
    let bodies: Vec<Vec<u8>> = (0..4_096)
        .map(|number| {
            // It says that it comes every ten minutes.
            let mut report = report(
                &format!("evil~{number}"),
                1,
                vec![service("orders", vec![])],
            );
            report["interval_ms"] = json!(600_000);
            report.to_string().into_bytes()
        })
        .collect();
    for some in bodies.chunks(32) {
        let sent = some
            .iter()
            .map(|body| honest.call(Method::POST, "/v1/reports", body.clone()));
        for response in join_all(sent).await {
            ensure!(response?.status() == 200);
        }
    }
    // Once the oldest of them was quiet for some seconds, and long before the ten minutes are over.
    let mut honest = Honest::new(&companion, None)?;
    until("the real one to be taken", async || honest.goes_on().await).await
}

#[tokio::test]
async fn a_reporters_name_is_its_owners_and_no_sequence_silences_it() -> Result<()> {
    let tokens =
        "[one]\ntoken = 'one'\nroles = ['report']\n[two]\ntoken = 'two'\nroles = ['report']";
    let companion = Settings::default()
        .variable("UNITRING_TOKENS", tokens)
        .start()
        .await?;
    let send = async |token: &str, sequence: u64, in_flight: u64| {
        let loads = vec![instance("a", "10.0.0.1:1", in_flight)];
        let mut body = report("e~1", sequence, vec![service("orders", loads)]);
        // While it counts, its name has an owner.
        body["interval_ms"] = json!(60_000);
        let body = body.to_string().into_bytes();
        let response = companion.call_as(token, Method::POST, "/v1/reports", body);
        anyhow::Ok(response.await?.status().as_u16())
    };
    ensure!(send("one", 1_000, 1).await? == 200);
    ensure!(send("two", 2_000, 900).await? == 403);
    // Nor may it report on another service, where it would keep the owner's next report out.
    let body = report("e~1", 2_001, vec![service("other", vec![])]).to_string();
    let response = companion.call_as("two", Method::POST, "/v1/reports", body.into_bytes());
    ensure!(response.await?.status() == 403);
    // The same client may say so, by mistake or not: the next report counts all the same.
    ensure!(send("one", u64::MAX, 5).await? == 200);
    let mut number = 0;
    let mut told = serde_json::Value::Null;
    // If two reports have the same millisecond, the greater number counts, so the first may not.
    while number < 20 && told["services"][0]["rest"][0]["in_flight"] != 7 {
        number += 1;
        ensure!(send("one", 3_000 + number, 7).await? == 200);
        let body = report("e~2", number, vec![service("orders", vec![])]).to_string();
        let response = companion.call_as("two", Method::POST, "/v1/reports", body.into_bytes());
        told = response.await?.json().await?;
    }
    ensure!(told["services"][0]["rest"][0]["in_flight"] == 7, "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_have_a_quota_for_each_client() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "s3cret")
        .variable("UNITRING_OPEN_READS", "true")
        .start()
        .await?;
    let client = Client::builder()
        .local_address(IpAddr::from(ELSEWHERE))
        .build()?;
    let url = format!("http://127.0.0.1:{}/v1/events?format=sse", companion.port);
    let mut open: Vec<Response> = Vec::new();
    for _ in 0..128 {
        let response = client.get(&url).send().await?;
        ensure!(response.status() == 200, "{}", response.status());
        open.push(response);
    }
    let refused = client.get(&url).send().await?;
    ensure!(refused.status() == 503 && refused.text().await?.contains("this address"));
    let watcher = companion.call_as("s3cret", Method::GET, "/v1/events?format=sse", vec![]);
    ensure!(watcher.await?.status() == 200);
    let metrics = companion.call_as("s3cret", Method::GET, "/metrics", vec![]);
    ensure!(
        metrics
            .await?
            .text()
            .await?
            .contains("unitring_companion_event_streams_refused_total 1")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_that_are_asked_for_do_not_stop_the_process() -> Result<()> {
    let companion = Settings::default().start().await?;
    // As many points as a ring may have, by weights as far apart as they may be.
    let mut few = instance("b", "10.0.0.2:80", 1);
    few["weight"] = json!(1);
    let mut many = instance("a", "10.0.0.1:80", 1);
    many["weight"] = json!(u32::MAX);
    let mut service = service("orders", vec![many, few]);
    service["ring"]["shape"] =
        json!({"fill": "envoy", "min_size": 8_388_608, "max_size": 8_388_608, "hash": "xx_hash"});
    companion.report(&report("e~1", 1, vec![service])).await?;
    let shown = companion.get("/v1/services/orders").await?;
    ensure!(shown["instances"][0]["weight"] == 65_536, "{shown}");
    let path = "/v1/services/orders/locate?key=ada&with=c&with_address=10.0.0.3:80&with_weight=";
    let refused = companion
        .call(Method::GET, &format!("{path}4294967295"), vec![])
        .await?;
    let (status, text) = (refused.status(), refused.text().await?);
    ensure!(
        status == 400 && text.contains("must be from 1 to 65536"),
        "{status}: {text}"
    );

    let largest = format!("{path}65536");
    let asked = join_all((0..12).map(|_| companion.call(Method::GET, &largest, vec![])));
    let (asked, answered) = tokio::join!(asked, async {
        // They are under way by now.
        sleep(Duration::from_millis(100)).await;
        let mut answered = 0;
        let mut other = Honest::new(&companion, None)?;
        for _ in 0..20 {
            let health = companion.call(Method::GET, "/healthz", vec![]).await?;
            ensure!(health.status() == 200);
            other.goes_on().await?;
            answered += 1;
        }
        anyhow::Ok(answered)
    });
    ensure!(answered? == 20);
    let mut statuses: Vec<u16> = Vec::new();
    for response in asked {
        statuses.push(response?.status().as_u16());
    }
    // Half of the places for waiting requests are this client's; its other requests are refused at once.
    ensure!(statuses.contains(&503), "{statuses:?}");
    ensure!(
        statuses
            .iter()
            .all(|status| [200, 503, 504].contains(status)),
        "{statuses:?}"
    );
    Ok(())
}

#[tokio::test]
async fn services_are_read_in_pages() -> Result<()> {
    let companion = Settings::default().start().await?;
    for number in 0..7 {
        let name = format!("s{number}");
        let loads = vec![instance("a", "10.0.0.1:1", 1)];
        let mut report = report("e~1", 1, vec![service(&name, loads)]);
        report["interval_ms"] = json!(60_000);
        companion.report(&report).await?;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/services?limit=3".to_owned());
    let mut pages = 0;
    loop {
        let page = companion.get(&path).await?;
        pages += 1;
        for service in page["services"].as_array().context("no list")? {
            seen.push(service["service"].as_str().unwrap_or_default().to_owned());
        }
        let Some(after) = page["after"].as_str() else {
            break;
        };
        path = format!("/v1/services?limit=3&after={after}");
    }
    let expected: Vec<String> = (0..7).map(|number| format!("s{number}")).collect();
    ensure!(seen == expected && pages == 3, "{pages}: {seen:?}");
    let (ok, text) = companion.ask(&["service", "list"])?;
    ensure!(ok && text.lines().count() == 7, "{text}");
    Ok(())
}
