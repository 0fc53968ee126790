//! The harness's load: an open load keeps its rate however long the answers take; a closed one waits for
//! them.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;
use unitring_tests::instance::Instance;
use unitring_tests::site::Site;
use unitring_tests::traffic::keys::Keys;
use unitring_tests::traffic::{Pace, Traffic};

const SERVICE_TIME: Duration = Duration::from_millis(500);

fn traffic(pace: Pace) -> Traffic {
    Traffic {
        pace,
        keys: Keys::uniform(100),
        seed: 1,
    }
}

async fn slow_site() -> Result<Site> {
    let site = Site::start().await?;
    let slow = |instance| Instance::take(instance, SERVICE_TIME);
    try_join_all(site.instances.iter().map(slow)).await?;
    Ok(site)
}

#[tokio::test]
async fn an_open_load_is_kept_up_while_answers_are_slow() -> Result<()> {
    let site = slow_site().await?;
    let start = Instant::now();
    let running = traffic(Pace::Open { per_second: 60 }).start(&[&site.envoy]);
    running.passes(120).await?;
    let took = start.elapsed();
    let outcome = running.stop().await?;
    assert_eq!(outcome.errors(), 0, "{outcome:?}");
    assert!(
        took >= Duration::from_secs(2),
        "120 are due in 2 s: {took:?}"
    );
    assert!(outcome.quantile(0.0) >= SERVICE_TIME);
    let mut peaks = 0;
    for instance in &site.instances {
        peaks += instance.load().await?.peak;
    }
    assert!(
        peaks >= 25,
        "60/s for 0.5 s are 30 in flight, and {peaks} were"
    );
    Ok(())
}

#[tokio::test]
async fn a_closed_load_has_one_request_in_flight_for_each_client() -> Result<()> {
    let site = slow_site().await?;
    let running = traffic(Pace::Closed { clients: 3 }).start(&[&site.envoy]);
    running.passes(9).await?;
    let outcome = running.stop().await?;
    assert_eq!(outcome.errors(), 0, "{outcome:?}");
    assert!(outcome.requests() >= 9);
    for instance in &site.instances {
        assert!(instance.load().await?.peak <= 3);
    }
    Ok(())
}
