//! Invariant 4: in-flight returns to zero when traffic stops, whatever happened to the requests.

use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::send;
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;
use unitring_tests::upgraded::Upgraded;

on_both_shells! {
    in_flight_returns_to_zero_after_resets_errors_and_clients_that_left,
    an_upgraded_connection_is_in_flight_until_it_ends,
    a_stream_is_in_flight_after_its_headers_until_its_last_byte,
    requests_that_envoy_answers_itself_leave_nothing_in_flight,
}

const REQUESTS: usize = 200;

/// The shipped configuration with upgrades, an answer by Envoy's router, a route that times out, and a
/// filter before ours that answers where a header says so.
fn with_every_end(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config.patient()?.edit_connections(|manager| {
        let fields = manager.as_object_mut().context("not an object")?;
        fields.insert(
            "upgrade_configs".to_owned(),
            json!([{"upgrade_type": "websocket"}]),
        );
        let routes = "/route_config/virtual_hosts/0/routes";
        let routes = manager.pointer_mut(routes).context("no routes")?;
        let routes = routes.as_array_mut().context("not a list")?;
        let mut impatient = routes.first().context("no route")?.clone();
        impatient["match"] = json!({"prefix": "/impatient"});
        impatient["route"]["timeout"] = json!("0.3s");
        let refused = json!({"match": {"prefix": "/refused"}, "direct_response": {"status": 403}});
        routes.splice(0..0, [impatient, refused]);
        let filters = manager.pointer_mut("/http_filters").context("no filters")?;
        let fault = json!({
            "name": "fault",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                "abort": {"header_abort": {}, "percentage": {"numerator": 100}},
            },
        });
        filters
            .as_array_mut()
            .context("not a list")?
            .insert(0, fault);
        Ok(())
    })
}

async fn in_flight_returns_to_zero_after_resets_errors_and_clients_that_left(
    shell: Shell,
) -> Result<()> {
    let site = Site::start_in(shell, 1, EnvoyConfig::patient).await?;
    let ask = |number: usize| {
        let path = match number % 5 {
            0 => "/?delay_ms=400&reset=1",
            1 => "/?delay_ms=400&status=503",
            2 => "/?delay_ms=600000",
            _ => "/?delay_ms=400",
        };
        let request = site.envoy.request(path);
        request.header("x-user-id", format!("user-{number}")).send()
    };
    let (long, short): (Vec<usize>, Vec<usize>) = (0..REQUESTS).partition(|n| n % 5 == 2);
    let long: JoinSet<_> = long.into_iter().map(ask).collect();
    join_all(short.into_iter().map(ask)).await;
    until("only the long ones to be in flight", async || {
        let in_flight = site.envoy.stat("cluster.orders.upstream_rq_active").await?;
        ensure!(in_flight == u64::try_from(long.len())?, "{in_flight}");
        Ok(())
    })
    .await?;
    // The clients give up the requests that would take ten minutes.
    drop(long);
    site.has_in_flight(0).await
}

/// In flight at all instances, by their own count.
async fn in_flight(site: &Site) -> Result<u64> {
    let mut sum = 0;
    for instance in &site.instances {
        sum += instance.load().await?.in_flight;
    }
    Ok(sum)
}

async fn an_upgraded_connection_is_in_flight_until_it_ends(shell: Shell) -> Result<()> {
    let mut site = Site::start_in(shell, 1, with_every_end).await?;
    let keys: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
    let open = keys.iter().map(|key| Upgraded::open(site.envoy.port, key));
    let mut streams = try_join_all(open).await?;
    for stream in &mut streams {
        stream.echo(b"hello").await?;
    }
    site.has_in_flight(20).await?;
    assert_eq!(in_flight(&site).await?, 20, "the instances themselves");

    streams.truncate(12);
    site.has_in_flight(12).await?;
    until("the instances to have seen that", async || {
        let truth = in_flight(&site).await?;
        ensure!(truth == 12, "{truth}");
        Ok(())
    })
    .await?;
    // The requests on an instance that dies end with it.
    let lost = site.instance("a").load().await?.in_flight;
    site.instance("a").kill()?;
    site.has_in_flight(12 - lost).await?;
    drop(streams);
    site.has_in_flight(0).await
}

async fn a_stream_is_in_flight_after_its_headers_until_its_last_byte(shell: Shell) -> Result<()> {
    let site = Site::start_in(shell, 1, EnvoyConfig::patient).await?;
    let stream = async |number: usize, path: &str| {
        let request = site.envoy.request(path);
        let request = request.header("x-user-id", format!("user-{number}"));
        request.send().await
    };
    let long = try_join_all((0..10).map(|number| stream(number, "/?stream_ms=600000"))).await?;
    let held = try_join_all((0..10).map(|number| stream(number, "/?held=1"))).await?;
    // The headers of all answers have arrived.
    site.has_in_flight(20).await?;
    for instance in &site.instances {
        instance.release().await?;
    }
    for answer in held {
        let body: Value = answer.json().await?;
        assert_eq!(body["path"], "/");
    }
    site.has_in_flight(10).await?;
    // The clients leave in the middle of the body.
    drop(long);
    site.has_in_flight(0).await
}

async fn requests_that_envoy_answers_itself_leave_nothing_in_flight(shell: Shell) -> Result<()> {
    let site = Site::start_in(shell, 1, with_every_end).await?;
    let ask = async |number: usize, path: &str| {
        let request = site.envoy.request(path);
        let key = format!("user-{number}");
        Ok::<_, anyhow::Error>(send(request.header("x-user-id", key)).await?.status)
    };
    let all = |path: &'static str| try_join_all((0..50).map(move |number| ask(number, path)));
    let aborted = async |number: usize| {
        let request = site
            .envoy
            .request("/")
            .header("x-envoy-fault-abort-request", "418");
        let key = format!("user-{number}");
        Ok::<_, anyhow::Error>(send(request.header("x-user-id", key)).await?.status)
    };
    // While these are in flight, a gauge that is lowered once too often shows one too few.
    let held = try_join_all((0..10).map(|number| {
        let request = site.envoy.request("/?stream_ms=600000");
        request.header("x-user-id", format!("user-{number}")).send()
    }));
    let held = held.await?;
    let (timed_out, refused, aborted, bad) = tokio::try_join!(
        all("/impatient?delay_ms=5000"),
        all("/refused"),
        try_join_all((0..50).map(aborted)),
        all("/?status=503"),
    )?;
    assert_eq!(timed_out, [504; 50]);
    assert_eq!(refused, [403; 50]);
    assert_eq!(aborted, [418; 50], "before the filter saw the request");
    assert_eq!(bad, [503; 50], "each was retried twice");
    site.has_in_flight(10).await?;
    drop(held);
    site.has_in_flight(0).await
}
