//! A companion that lies: with any invented picture of the fleet, an Envoy serves its fair part of
//! `max_in_flight` (at least one request of each instance) and no more than the cap, and its VMs live.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use unitring_tests::config::COMPANION;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::host_counts::host_counts;
use unitring_tests::instance::Instance;
use unitring_tests::on_both_shells;
use unitring_tests::shell::Shell;

on_both_shells! {
    whatever_a_companion_invents_an_envoy_serves_its_part_of_the_cap_and_no_more,
}

const CAP: u64 = 4;
const INSTANCES: u64 = 4;

/// The liar's answer to a report.
#[derive(Debug, Clone)]
struct Lie {
    status: u16,
    content_type: &'static str,
    body: Bytes,
    delay: Duration,
    /// At least this many of many concurrent requests are served.
    served: u64,
}

/// With two Envoys, each has half of the places; with any number, each has one place on each instance.
const OF_TWO: u64 = INSTANCES * CAP / 2;

impl Lie {
    fn of(body: impl Into<Bytes>) -> Self {
        Self {
            served: INSTANCES,
            status: 200,
            content_type: "application/json",
            body: body.into(),
            delay: Duration::ZERO,
        }
    }
}

/// A server in this process that answers every request with the same lie; dropping it ends it.
struct Liar {
    port: u16,
    lie: Arc<Mutex<Lie>>,
    task: JoinHandle<()>,
}

impl Liar {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let lie = Arc::new(Mutex::new(Lie::of("{}")));
        let told = Arc::clone(&lie);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = Arc::clone(&told);
                let answers = service_fn(move |request: Request<Incoming>| {
                    let told = Arc::clone(&told);
                    async move { answer(request, told).await }
                });
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new());
                    drop(http.serve_connection(TokioIo::new(stream), answers).await);
                });
            }
        });
        Ok(Self { port, lie, task })
    }

    fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    told: Arc<Mutex<Lie>>,
) -> Result<Response<Full<Bytes>>> {
    request.into_body().collect().await?;
    let lie = told.lock().unwrap().clone();
    tokio::time::sleep(lie.delay).await;
    let answer = Response::builder().status(lie.status);
    let answer = answer.header("content-type", lie.content_type);
    Ok(answer.body(Full::new(lie.body))?)
}

/// A picture of the fleet with these fields besides, and this rest of each instance.
fn picture(fields: Value, instances: &[String], rest: impl Fn(&str) -> Value) -> String {
    let rest: Vec<Value> = instances.iter().map(|id| rest(id)).collect();
    let mut service = json!({"service": "orders", "reporters": 1, "rank": 0, "rest": rest});
    for (name, value) in fields.as_object().into_iter().flatten() {
        service[name] = value.clone();
    }
    json!({"version": 1, "events_through": 0, "services": [service]}).to_string()
}

/// The answers of the liar, each with its name.
fn lies(instances: &[String]) -> BTreeMap<&'static str, Lie> {
    let none = || json!({});
    let of = |in_flight: Value, before: Value, own: Value| move |id: &str| json!({"id": id, "in_flight": in_flight, "before": before, "own": own});
    let max = u64::MAX;
    let huge = picture(none(), instances, of(json!(max), json!(max), json!(0)));
    // Numbers that JSON allows and no number type holds.
    let of_two = |body: String| Lie {
        served: OF_TWO,
        ..Lie::of(body)
    };
    let text = |number: &str| Lie::of(huge.replace(&max.to_string(), number));
    let invented: Vec<String> = (0..50_000)
        .map(|number| format!("10.9.{number}:1"))
        .collect();
    let doubled: Vec<String> = instances.iter().cycle().take(4_000).cloned().collect();
    let ghosts = instances
        .iter()
        .chain(&invented)
        .cloned()
        .collect::<Vec<_>>();
    let service: Value = serde_json::from_str(&huge).unwrap_or_default();
    let many = vec![service["services"][0].clone(); 2_000];
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let busy = of(json!(1_000_000), json!(0), json!(max));
    BTreeMap::from([
        ("huge loads", of_two(huge.clone())),
        ("a load that all numbers together overflow", {
            let almost = max / 4 + 1;
            of_two(picture(
                none(),
                instances,
                of(json!(almost), json!(0), json!(0)),
            ))
        }),
        (
            "all is this Envoy's own",
            of_two(picture(
                none(),
                instances,
                of(json!(0), json!(0), json!(max)),
            )),
        ),
        (
            "thousands of Envoys",
            Lie::of(picture(
                json!({"reporters": u32::MAX, "rank": u32::MAX}),
                instances,
                busy,
            )),
        ),
        (
            "a rank beyond the Envoys",
            of_two(picture(
                json!({"rank": u32::MAX}),
                instances,
                of(json!(8), json!(max), json!(0)),
            )),
        ),
        ("negative", text("-5")),
        ("not a number", text("NaN")),
        ("as text", text("\"99\"")),
        ("with a fraction", text("1.5")),
        ("too large for 64 bits", text("99999999999999999999999999")),
        ("too large for any number", text("1e999")),
        (
            "instances that are not there",
            Lie::of(picture(none(), &ghosts, of(json!(max), json!(0), json!(0)))),
        ),
        (
            "each instance a thousand times",
            of_two(picture(
                none(),
                &doubled,
                of(json!(max / 2), json!(max / 2), json!(1)),
            )),
        ),
        (
            "the service two thousand times",
            Lie::of(json!({"version": 1, "events_through": max, "services": many}).to_string()),
        ),
        ("no JSON", Lie::of("\u{0}\u{1} {{{ <html>")),
        ("no text", Lie::of(vec![0xff_u8; 4_096])),
        ("an empty body", Lie::of("")),
        ("deep lists", Lie::of(deep.clone())),
        (
            "deep lists in a field",
            Lie::of(huge.replacen("\"rest\":", &format!("\"x\":{deep},\"rest\":"), 1)),
        ),
        (
            "deep services",
            Lie::of(format!(r#"{{"version": 1, "services": {deep}}}"#)),
        ),
        (
            "ten MB of blanks",
            Lie::of(format!("{}{huge}", " ".repeat(10 << 20))),
        ),
        (
            "ten MB of instances",
            Lie::of(picture(
                none(),
                &vec!["1".to_owned(); 200_000],
                of(json!(max), json!(0), json!(0)),
            )),
        ),
        (
            "ten MB of one name",
            Lie::of(huge.replacen("127.", &"1".repeat(10 << 20), 1)),
        ),
        (
            "another type of content",
            Lie {
                content_type: "text/html",
                ..of_two(huge.clone())
            },
        ),
        (
            "another status",
            Lie {
                status: 500,
                ..Lie::of(huge.clone())
            },
        ),
        (
            "slow",
            Lie {
                delay: Duration::from_millis(700),
                ..of_two(huge.clone())
            },
        ),
        (
            "too late",
            Lie {
                delay: Duration::from_secs(3),
                ..Lie::of(huge)
            },
        ),
    ])
}

struct World {
    liar: Liar,
    envoy: Envoy,
    instances: Vec<Instance>,
}

impl World {
    async fn start(shell: Shell) -> Result<Self> {
        let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
        let liar = Liar::start().await?;
        let config = shell
            .config()?
            .instances(&instances, &[])?
            .unchecked()?
            .moved(COMPANION, liar.port)
            .setting(
                "companion",
                json!({"cluster": "unitring", "interval": "250ms", "timeout": "2s"}),
            )?
            .setting(
                "load",
                json!({"balance_factor": 125, "min_capacity": 1, "max_in_flight": CAP}),
            )?;
        let envoy = Envoy::start_with_workers(&config, 2).await?;
        envoy.steers_to(4).await?;
        Ok(Self {
            liar,
            envoy,
            instances,
        })
    }

    /// Waits until the filter has had two answers from now on.
    async fn has_heard(&self) -> Result<()> {
        let heard = async || -> Result<u64> {
            let sent = self.envoy.ours("report.sent").await?;
            Ok(sent + self.envoy.ours("report.failed").await?)
        };
        let before = heard().await?;
        until("two answers", async || {
            let now = heard().await?;
            ensure!(now >= before + 2, "{before}, {now}");
            Ok(())
        })
        .await
    }

    async fn is_idle(&self) -> Result<()> {
        until("nothing to be in flight", async || {
            let hosts = host_counts(&self.envoy, "orders").await?;
            ensure!(hosts.values().all(|host| host.active == 0), "{hosts:?}");
            let gauges = self.envoy.stats("wasmcustom.unitring.orders.").await?;
            let is_busy =
                |(name, count): &(&String, &u64)| name.ends_with(".in_flight") && **count > 0;
            ensure!(!gauges.iter().any(|gauge| is_busy(&gauge)), "{gauges:?}");
            for instance in &self.instances {
                let load = instance.load().await?;
                ensure!(load.in_flight == 0, "{}: {load:?}", instance.id);
            }
            Ok(())
        })
        .await
    }

    /// Waits until of concurrent requests at least this many are served, in which no instance ever gets more than the
    /// cap. The VMs hear of an answer one after another, and on a busy machine an answer may come too late.
    async fn is_fair(&self, least: u64) -> Result<()> {
        let mut served = self.served().await?;
        for _ in 0..20 {
            if served >= least {
                break;
            }
            served = self.served().await?;
        }
        ensure!(served >= least, "{served} served");
        Ok(())
    }

    /// How many of concurrent requests are served. Checks that requests one after another are, and that no instance gets
    /// more than the cap.
    async fn served(&self) -> Result<u64> {
        for number in 0..16 {
            let answer = self.envoy.get(&format!("user-{number}")).await?;
            ensure!(answer.status == 200, "one at a time: {answer:?}");
        }
        for instance in &self.instances {
            instance.reset_load().await?;
        }
        let asked = (0..INSTANCES * CAP + 4).map(|number| {
            let request = self.envoy.request("/?stream_ms=120000");
            request.header("x-user-id", format!("key-{number}")).send()
        });
        let held = try_join_all(asked).await?;
        let served = held.iter().filter(|answer| answer.status() == 200).count();
        let refused = held.iter().filter(|answer| answer.status() == 503).count();
        ensure!(served + refused == held.len(), "{held:?}");
        for instance in &self.instances {
            let peak = instance.load().await?.peak;
            ensure!(peak <= CAP, "{}: {peak} in flight", instance.id);
        }
        drop(held);
        self.is_idle().await?;
        Ok(u64::try_from(served)?)
    }
}

async fn whatever_a_companion_invents_an_envoy_serves_its_part_of_the_cap_and_no_more(
    shell: Shell,
) -> Result<()> {
    let world = World::start(shell).await?;
    let addresses: Vec<String> = world.instances.iter().map(Instance::address).collect();
    for (name, lie) in lies(&addresses) {
        let least = lie.served;
        world.liar.tell(lie);
        world.has_heard().await.context(name)?;
        world.is_fair(least).await.context(name)?;
    }
    // A companion that tells the truth again is believed: there is no other reporter.
    let truth = |id: &str| json!({"id": id, "in_flight": 0, "before": 0, "own": 0});
    let nobody_else = json!({"reporters": 0});
    world
        .liar
        .tell(Lie::of(picture(nobody_else, &addresses, truth)));
    world.has_heard().await?;
    world.is_fair(INSTANCES * CAP).await?;
    let failed = world.envoy.stats("wasm.").await?;
    let died = failed.iter().filter(|(name, count)| {
        **count > 0 && (name.contains("crash") || name.contains("fail") || name.contains("reload"))
    });
    let died: Vec<_> = died.collect();
    ensure!(died.is_empty(), "{died:?}");
    let log = world.envoy.log();
    ensure!(!log.contains("panicked") && !log.contains("crash"), "{log}");
    Ok(())
}
