//! Clients do not notice that an instance is gone.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use unitring_tests::deadline::until;
use unitring_tests::envoy::keys;
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;

on_both_shells! {
    while_an_instance_stops_every_client_is_served_and_other_keys_stay,
    a_request_for_a_killed_instance_is_retried_on_the_next_candidate,
}

async fn while_an_instance_stops_every_client_is_served_and_other_keys_stay(
    shell: Shell,
) -> Result<()> {
    let mut site = Site::start_in(shell, 1, |config| {
        config.setting("ring.fill", json!("fixed"))
    })
    .await?;
    let keys = keys(300);
    let before = site.envoy.owners(&keys).await?;

    // Four clients send requests all the time meanwhile.
    let Site {
        envoy,
        companion,
        instances,
    } = &mut site;
    let gone = instances.iter_mut().find(|instance| instance.id == "b");
    let gone = gone.ok_or_else(|| anyhow::anyhow!("no instance b"))?;
    let (envoy, address) = (&*envoy, gone.address());
    let done = AtomicBool::new(false);
    let client = async |part: &[String]| -> Result<usize> {
        let mut sent = 0;
        while !done.load(Ordering::Relaxed) {
            sent += envoy.owners(part).await?.len();
        }
        Ok(sent)
    };
    let stop = async {
        gone.kill()?;
        let outcome = envoy.steers_to(3).await;
        done.store(true, Ordering::Relaxed);
        outcome
    };
    let parts: Vec<&[String]> = keys.chunks(75).collect();
    let clients = futures_util::future::try_join_all(parts.into_iter().map(client));
    let (sent, ()) = tokio::try_join!(clients, stop)?;
    assert!(sent.iter().all(|sent| *sent > 0), "{sent:?}");

    let after = envoy.owners(&keys).await?;
    for (key, owner) in &before {
        if owner == "b" {
            assert_ne!(after[key], "b", "{key}");
        } else {
            assert_eq!(&after[key], owner, "{key} had to stay");
        }
    }
    until("the event at the companion", async || {
        let events = companion.get("/v1/events?format=json&limit=100").await?;
        let told = events.to_string();
        ensure!(
            told.contains(&address) && told.contains("ejected"),
            "{told}"
        );
        Ok(())
    })
    .await
}

async fn a_request_for_a_killed_instance_is_retried_on_the_next_candidate(
    shell: Shell,
) -> Result<()> {
    let mut site = Site::start_in(shell, 1, |config| {
        // Neither Envoy nor the filter detects the failure: only the retry can help.
        let config = config.unchecked()?;
        match shell {
            Shell::Filter => config.setting("ejection.consecutive_failures", json!(0)),
            Shell::Native => Ok(config),
        }
    })
    .await?;
    let keys = keys(100);
    let before = site.envoy.owners(&keys).await?;
    site.instance("c").kill()?;
    let first = site.envoy.owners(&keys).await?;
    let second = site.envoy.owners(&keys).await?;
    assert_eq!(
        first, second,
        "the next candidate of a key is always the same one"
    );
    let moved = before.iter().filter(|(_, owner)| *owner == "c").count();
    assert!(moved > 0);
    assert!(
        before
            .iter()
            .all(|(key, owner)| owner == "c" || &first[key] == owner)
    );
    let retries = site.envoy.stat("cluster.orders.upstream_rq_retry").await?;
    assert!(
        retries >= u64::try_from(2 * moved)?,
        "{retries} retries for {moved} keys, twice"
    );
    for (key, _) in before.iter().filter(|(_, owner)| *owner == "c") {
        let answer = site.envoy.get(key).await?;
        if shell == Shell::Filter {
            assert_eq!(answer.header("x-unitring-reason"), Some("retry"));
        }
        assert_ne!(answer.body["instance"], Value::Null);
    }
    Ok(())
}
