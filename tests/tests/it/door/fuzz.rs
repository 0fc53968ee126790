//! Broken requests of every route and method, over HTTP and gRPC: no panic, no error of ours that the docs do not
//! have, and the memory as it was.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::traffic::keys::Numbers;

use super::{Honest, connect};

/// How long each of the two goes on; `UNITRING_FUZZ_SECONDS` for longer.
const SECONDS: u64 = 12;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW",
];

const PATHS: [&str; 23] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/reports",
    "/v1/updates",
    "/v1/services",
    "/v1/services?shares=true&limit=2&after=orders",
    "/v1/services/orders",
    "/v1/services/orders/snapshot",
    "/v1/services/orders/locate?key=a",
    "/v1/services/orders/locate?key=a&with=10.0.0.9:1&with_weight=7&balance_factor=1",
    "/v1/services/orders/instances",
    "/v1/services/orders/instances/10.0.0.1:80",
    "/v1/data/carts",
    "/v1/data/carts?prefix=a&limit=9&after=0.a",
    "/v1/data/carts/a%2Fb",
    "/v1/events?format=json&limit=5&after=1-0",
    "/v1/units",
    "/v1/units/west",
    "/v1/repair",
    "/v1/conflicts?limit=3",
    "/v1/group",
    "/v1/fixed/a/b",
];

const BODIES: [&str; 8] = [
    "",
    r#"{"version": 1, "reporter": "e~1", "sequence": 1, "interval_ms": 1000, "services": [{"service": "orders",
       "ring": {"version": "r", "points": 17, "shape": {"fill": "maglev", "table_size": 17}}, "fallbacks": 0,
       "instances": [{"id": "a", "address": "10.0.0.1:1", "weight": 4294967295, "healthy": true, "calls": 1,
       "in_flight": 9, "updates": 0}]}]}"#,
    r#"{"version": 1, "source": "e~1", "vm": 7, "service": "orders", "updates": [{"sequence": 1, "dataset": "carts",
       "key": "a", "value": "dg==", "ttl_ms": 60000}, {"sequence": 2, "dataset": "carts", "key": "b", "delete": true}]}"#,
    r#"{"address": "10.0.0.1:80", "weight": 65536, "ttl": "24h", "drain": true}"#,
    r#"[{"key": "k", "value": "v", "ttl": "1s"}, {"key": "k", "delete": true}]"#,
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "null",
    "{\"key\": 1e400}",
];

const HEADERS: [&str; 14] = [
    "content-type: application/json",
    "content-type: text/plain",
    "transfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "content-length: 99999999999999999999",
    "content-length: -1",
    "expect: 100-continue",
    "authorization: Bearer x",
    "if-match: \"1.0@east\"",
    "if-none-match: *",
    "last-event-id: 18446744073709551615-0",
    "accept: text/event-stream",
    "upgrade: h2c",
    "connection: close, upgrade",
];

fn byte(random: &mut Numbers, end: u64) -> u8 {
    u8::try_from(random.below(end)).unwrap_or(u8::MAX)
}

fn size(random: &mut Numbers, end: usize) -> usize {
    let end = u64::try_from(end).unwrap_or(u64::MAX);
    usize::try_from(random.below(end)).unwrap_or(0)
}

/// A request that is often valid, and often broken somewhere.
fn request(random: &mut Numbers) -> Vec<u8> {
    let body = random.pick(&BODIES).as_bytes().to_vec();
    let mut text = format!(
        "{} {} HTTP/1.1\r\n",
        random.pick(&METHODS),
        random.pick(&PATHS)
    );
    if random.below(20) > 0 {
        text.push_str("host: 127.0.0.1\r\n");
    }
    for _ in 0..random.below(4) {
        text.push_str(random.pick(&HEADERS));
        text.push_str("\r\n");
    }
    if random.below(4) > 0 {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = [text.into_bytes(), body].concat();
    // Nearly half of them stay as they are.
    for _ in 0..random.below(3) * random.below(4) {
        let at = size(random, bytes.len().max(1));
        match random.below(4) {
            0 => drop(bytes.splice(at..at, [byte(random, 256)])),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at.max(1)),
            _ => {
                if let Some(one) = bytes.get_mut(at) {
                    *one = byte(random, 256);
                }
            }
        }
    }
    bytes
}

/// The statuses of the answers in what was read.
fn statuses(read: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(read);
    let heads = text.split("HTTP/1.1 ").skip(1);
    heads
        .filter_map(|head| head.get(..3)?.parse().ok())
        .collect()
}

/// Sends broken requests until the time is over; returns how many, and the statuses above 499 of answers.
async fn broken_http(port: u16, seed: u64, end: Instant) -> Result<(u64, Vec<(u16, Vec<u8>)>)> {
    let mut random = Numbers::seeded(seed);
    let (mut sent, mut bad) = (0, Vec::new());
    // On a busy machine the time may be over before enough are sent.
    while Instant::now() < end || sent < 80 {
        let bytes = request(&mut random);
        let Ok(mut stream) = connect(Ipv4Addr::LOCALHOST, port, &bytes).await else {
            continue;
        };
        sent += 1;
        // A parser that waits for the rest of the request sees its end.
        drop(stream.shutdown().await);
        let mut read = Vec::new();
        drop(timeout(Duration::from_millis(300), stream.read_to_end(&mut read)).await);
        let above = statuses(&read).into_iter().filter(|status| *status > 499);
        bad.extend(above.map(|status| (status, bytes.clone())));
    }
    Ok((sent, bad))
}

fn end() -> Result<Instant> {
    let seconds = match std::env::var("UNITRING_FUZZ_SECONDS") {
        Ok(seconds) => seconds.parse()?,
        Err(_) => SECONDS,
    };
    Ok(Instant::now() + Duration::from_secs(seconds))
}

/// Nothing is broken, and the memory is about as it was.
async fn is_well(companion: &Companion, before: u64) -> Result<()> {
    Honest::new(companion, None)?.goes_on().await?;
    let log = companion.log();
    ensure!(!log.contains("panicked"), "{log}");
    let grown = companion.resident_bytes()?.saturating_sub(before) >> 20;
    println!("{grown} MiB more");
    ensure!(grown < 96, "{grown} MiB more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_requests_over_http_do_no_harm() -> Result<()> {
    let companion = Settings::default().start().await?;
    Honest::new(&companion, None)?.goes_on().await?;
    let (before, end, port) = (companion.resident_bytes()?, end()?, companion.port);
    let mut clients = JoinSet::new();
    for seed in 1..=8 {
        clients.spawn(broken_http(port, seed, end));
    }
    let mut sent = 0;
    while let Some(done) = clients.join_next().await {
        let (some, bad) = done??;
        sent += some;
        for (status, request) in bad {
            // Only unsupported requests (501) and a busy companion (503) answer so.
            let text = String::from_utf8_lossy(&request);
            ensure!([501, 503].contains(&status), "{status}: {text:?}");
        }
    }
    println!("{sent} requests");
    ensure!(sent > 500, "{sent}");
    is_well(&companion, before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_over_grpc_do_no_harm() -> Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let companion = Settings::default().start().await?;
    Honest::new(&companion, None)?.goes_on().await?;
    let (before, end, port) = (companion.resident_bytes()?, end()?, companion.xds_port);
    let mut clients = JoinSet::new();
    for seed in 1..=8 {
        clients.spawn(async move {
            let mut random = Numbers::seeded(seed);
            let mut sent = 0_u64;
            while Instant::now() < end || sent < 40 {
                let mut bytes = PREFACE.to_vec();
                for _ in 0..random.below(6) {
                    let payload = size(&mut random, 64);
                    let length = match random.below(8) {
                        0 => size(&mut random, 1 << 24),
                        _ => payload,
                    };
                    bytes.extend_from_slice(&length.to_be_bytes()[5..]);
                    // Type, flags, and a stream.
                    bytes.push(byte(&mut random, 11));
                    bytes.push(byte(&mut random, 256));
                    bytes.extend_from_slice(&random.below(8).to_be_bytes()[4..]);
                    bytes.extend((0..payload).map(|_| byte(&mut random, 256)));
                }
                if random.below(8) == 0 {
                    bytes = (0..random.below(200))
                        .map(|_| byte(&mut random, 256))
                        .collect();
                }
                let Ok(mut stream) = connect(Ipv4Addr::LOCALHOST, port, &bytes).await else {
                    continue;
                };
                sent += 1;
                drop(stream.shutdown().await);
                let mut read = [0; 4096];
                drop(timeout(Duration::from_millis(500), stream.read(&mut read)).await);
            }
            sent
        });
    }
    let mut sent = 0;
    while let Some(done) = clients.join_next().await {
        sent += done?;
    }
    println!("{sent} connections");
    ensure!(sent > 200, "{sent}");
    ensure!(super::keeps::endpoints(&companion, &["orders".to_owned()]).await? == 1);
    is_well(&companion, before).await
}
