//! The harness's instances count their own load correctly.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::Client;
use unitring_tests::deadline::until;
use unitring_tests::envoy::send;
use unitring_tests::instance::Instance;
use unitring_tests::upgraded::Upgraded;

async fn has_in_flight(instance: &Instance, expected: u64) -> Result<()> {
    until(&format!("{expected} requests in flight"), async || {
        let load = instance.load().await?;
        ensure!(load.in_flight == expected, "{load:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_instance_counts_requests_until_their_last_byte_or_their_clients_end() -> Result<()> {
    let instance = Instance::start("a").await?;
    let (client, url) = (Client::new(), format!("http://{}", instance.address()));
    let streamed = client.get(format!("{url}/?stream_ms=60000")).send().await?;
    assert_eq!(streamed.status().as_u16(), 200, "headers come at once");
    let mut upgraded = Upgraded::open(instance.port, "ada").await?;
    upgraded.echo(b"still there?").await?;
    has_in_flight(&instance, 2).await?;
    drop(streamed);
    has_in_flight(&instance, 1).await?;
    drop(upgraded);
    has_in_flight(&instance, 0).await?;

    let load = instance.load().await?;
    assert_eq!((load.peak, load.served), (2, 2));
    assert!(load.average > 0.0, "{load:?}");
    instance.reset_load().await?;
    let load = instance.load().await?;
    assert_eq!((load.peak, load.served, load.average), (0, 0, 0.0));
    Ok(())
}

#[tokio::test]
async fn a_slow_instance_is_slow_for_every_request_and_a_paused_one_answers_when_resumed()
-> Result<()> {
    let instance = Instance::start("a").await?;
    let (client, url) = (Client::new(), format!("http://{}/", instance.address()));
    let service_time = Duration::from_millis(300);
    instance.take(service_time).await?;
    let start = Instant::now();
    assert_eq!(send(client.get(&url)).await?.status, 200);
    assert!(start.elapsed() >= service_time);

    instance.take(Duration::ZERO).await?;
    instance.pause().await?;
    let answer = tokio::spawn(send(client.get(&url)));
    until("the request to wait for it", async || {
        let waited = start.elapsed() - service_time;
        ensure!(waited > service_time, "only {waited:?}");
        Ok(())
    })
    .await?;
    assert!(!answer.is_finished());
    instance.resume()?;
    assert_eq!(answer.await??.status, 200);
    Ok(())
}

#[tokio::test]
async fn requests_over_the_number_of_workers_wait_and_are_in_flight() -> Result<()> {
    let instance = Instance::start("a").await?;
    let (client, url) = (Client::new(), format!("http://{}/", instance.address()));
    // The second has so long to arrive while the first is in progress.
    let service_time = Duration::from_secs(2);
    instance.take_with_workers(service_time, 1).await?;
    let start = Instant::now();
    let (first, second) = tokio::join!(send(client.get(&url)), send(client.get(&url)));
    assert_eq!((first?.status, second?.status), (200, 200));
    assert!(start.elapsed() >= 2 * service_time, "one after the other");
    assert_eq!(instance.load().await?.peak, 2);
    Ok(())
}
