//! `unitring events`: the event log of a running companion.

use std::collections::VecDeque;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;

use super::stream::follow;
use crate::client::Target;
use crate::client::ask::{ask, escape, listed, text};
use crate::clock;
use crate::config::any_duration;
use crate::output::{self, OutputError};

/// Events of a page, which the companion bounds.
const PAGE: u16 = 1_000;
/// Before all events.
const START: &str = "0-0";
/// The last moment that has a date of four digits. A neighbour may say any.
const LAST_MS: u64 = 253_402_300_799_999;

/// What is shown of the event log.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// All events of the last 90s, 15m or 24h, for example, instead of the latest few.
    #[arg(long, value_parser = any_duration, conflicts_with = "limit")]
    since: Option<Duration>,
    /// Maximum number of the latest events.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Only those of this service.
    #[arg(long)]
    service: Option<String>,
    /// Follow: then show new events as they come, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// Print JSON Lines, one event on each.
    #[arg(long)]
    json: bool,
    /// Which companion.
    #[command(flatten)]
    target: Target,
}

/// Prints the events, oldest first.
///
/// # Errors
/// [`crate::client::ask::AskError`], or the reader of the output is gone.
pub(crate) fn run(asked: &Events) -> anyhow::Result<()> {
    let mut is_empty = true;
    let mut tell = |event: &Value| {
        is_empty = false;
        show(asked, event)
    };
    let from_ms = asked.since.map_or(0, from_ms);
    let last = match asked.since {
        Some(_) => print_since(asked, from_ms, &mut tell)?,
        None => print_latest(asked, &mut tell)?,
    };
    if is_empty && !asked.json {
        // On standard error, so that a script that counts the events does not count this line.
        output::aside(asked.nothing());
    }
    if asked.follow {
        // Without any event so far, the stream begins with the first one; with `--since`, with the first of then.
        let after = last.or_else(|| Some(START.to_owned()));
        let path = format!("/v1/events?since={from_ms}");
        return Err(follow(&asked.target, &path, after, |event| {
            let event = serde_json::from_str(event).unwrap_or_default();
            if asked.wants(&event) && u128::from(last_ms(&event)) >= from_ms {
                show(asked, &event)?;
            }
            Ok(())
        }));
    }
    Ok(())
}

/// Passes the latest events on, and returns the position of the last one.
fn print_latest(
    asked: &Events,
    mut tell: impl FnMut(&Value) -> Result<(), OutputError>,
) -> anyhow::Result<Option<String>> {
    if asked.service.is_some() {
        let mut latest = VecDeque::new();
        let last = each(asked, 0, |event| {
            latest.push_back(event.clone());
            if latest.len() > usize::from(asked.limit) {
                latest.pop_front();
            }
            Ok(())
        })?;
        latest.iter().try_for_each(tell)?;
        return Ok(last);
    }
    let path = format!("/v1/events?format=json&limit={}", asked.limit);
    let page = ask(&asked.target, &path)?;
    let events = listed(&asked.target, &page, "")?;
    events.iter().try_for_each(&mut tell)?;
    Ok(position(events))
}

/// The time this long ago, in ms since the Unix epoch.
fn from_ms(since: Duration) -> u128 {
    let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(since).as_millis()
}

/// Passes the events since then on, and returns the position of the last one.
fn print_since(
    asked: &Events,
    from_ms: u128,
    mut tell: impl FnMut(&Value) -> Result<(), OutputError>,
) -> anyhow::Result<Option<String>> {
    each(asked, from_ms, |event| {
        // An event has the time of its observer's clock, so the log is not quite in order of time.
        if u128::from(last_ms(event)) >= from_ms {
            tell(event)?;
        }
        Ok(())
    })
}

/// Passes on each matching event of the log, and some that are from before `from_ms`; returns the position of the
/// last one.
fn each(
    asked: &Events,
    from_ms: u128,
    mut pass_on: impl FnMut(&Value) -> Result<(), OutputError>,
) -> anyhow::Result<Option<String>> {
    let mut last: Option<String> = None;
    loop {
        let after = escape(last.as_deref().unwrap_or(START));
        let path = format!("/v1/events?format=json&limit={PAGE}&after={after}&since={from_ms}");
        let page = ask(&asked.target, &path)?;
        let events = listed(&asked.target, &page, "")?;
        let mut wanted = events.iter().filter(|event| asked.wants(event));
        wanted.try_for_each(&mut pass_on)?;
        last = position(events).or(last);
        // While events keep coming, the next page would never be empty.
        if events.len() < usize::from(PAGE) {
            return Ok(last);
        }
    }
}

fn position(events: &[Value]) -> Option<String> {
    let last = events.last();
    last.map(|event| text(event, "/cursor").to_owned())
}

impl Events {
    fn wants(&self, event: &Value) -> bool {
        let of = self.service.as_ref();
        of.is_none_or(|service| event.get("service").and_then(Value::as_str) == Some(service))
    }

    /// The line that is shown in place of events.
    fn nothing(&self) -> String {
        let of = self.service.as_ref();
        let of = of.map_or(String::new(), |service| format!(" of {service}"));
        match self.since {
            Some(_) => format!("no event{of} in this time"),
            None => format!("no event{of} is known"),
        }
    }
}

fn at_ms(event: &Value) -> u64 {
    event.get("at_ms").and_then(Value::as_u64).unwrap_or(0)
}

/// When the last observer saw it.
fn last_ms(event: &Value) -> u64 {
    let last = event.get("last_at_ms").and_then(Value::as_u64);
    last.unwrap_or(0).max(at_ms(event))
}

/// The observers of an event, and within which time they saw it.
fn observers(event: &Value) -> String {
    let seen_by = event.get("seen_by").and_then(Value::as_u64).unwrap_or(1);
    let mut text = String::new();
    if event.pointer("/unit").is_some() {
        text.push_str(&format!("; in unit {}", self::text(event, "/unit")));
    }
    match (event.pointer("/reporter").is_some(), seen_by) {
        (true, 0..=1) => text.push_str(&format!("; seen by {}", self::text(event, "/reporter"))),
        (true, _) => {
            let first = self::text(event, "/reporter");
            text.push_str(&format!("; seen by {first} and {} more", seen_by - 1));
        }
        (false, 0..=1) => {}
        (false, _) => text.push_str(&format!("; seen {seen_by} times")),
    }
    let within_ms = last_ms(event) - at_ms(event);
    if within_ms > 0 {
        let seconds = Duration::from_millis(within_ms).as_secs_f64();
        text.push_str(&format!(" within {seconds:.1} s"));
    }
    text
}

fn show(asked: &Events, event: &Value) -> Result<(), OutputError> {
    let line = if asked.json {
        event.to_string()
    } else {
        line(event)
    };
    output::line(line)
}

/// An event for people.
fn line(event: &Value) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms(event).min(LAST_MS));
    let at = humantime::format_rfc3339_seconds(at);
    let kind = text(event, "/kind");
    let mut line = match event.get("service") {
        Some(_) => {
            let (service, instance) = (text(event, "/service"), text(event, "/instance"));
            format!(
                "{at}  {service}  {kind:<10}  {instance}: {}",
                text(event, "/reason")
            )
        }
        None => format!("{at}  {kind}: {}", text(event, "/reason")),
    };
    let moved = event.get("moved").and_then(Value::as_f64).unwrap_or(0.0);
    if moved > 0.0 {
        line.push_str(&format!("; {:.1} % of keys moved", moved * 100.0));
    }
    line.push_str(&observers(event));
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_when_what_and_who() {
        let event = json!({"at_ms": 1_764_400_000_999_u64, "kind": "ejected", "service": "orders",
            "instance": "10.0.0.5:8080", "reason": "draining", "ring": "a1", "moved": 0.251, "reporter": "edge-1"});
        assert_eq!(
            line(&event),
            "2025-11-29T07:06:40Z  orders  ejected     10.0.0.5:8080: draining; 25.1 % of keys moved; seen by edge-1"
        );
        let event = json!({"at_ms": 0, "kind": "group_degraded", "reason": "no replica"});
        assert_eq!(
            line(&event),
            "1970-01-01T00:00:00Z  group_degraded: no replica"
        );
        let event = json!({"at_ms": 1, "kind": "added", "service": "orders", "instance": "a",
            "reason": "registered", "moved": 0.0, "unit": "west"});
        assert_eq!(
            line(&event),
            "1970-01-01T00:00:00Z  orders  added       a: registered; in unit west"
        );
        let event = json!({"at_ms": 1_000, "last_at_ms": 4_250, "kind": "ejected", "service": "orders", "instance": "a",
            "reason": "unhealthy", "moved": 0.0, "reporter": "edge-1", "seen_by": 998});
        assert_eq!(
            line(&event),
            "1970-01-01T00:00:01Z  orders  ejected     a: unhealthy; seen by edge-1 and 997 more within 3.2 s"
        );
        let event = json!({"at_ms": 1_000, "kind": "ejected", "service": "orders", "instance": "a",
            "reason": "unhealthy", "moved": 0.0, "unit": "west", "seen_by": 3});
        assert_eq!(
            line(&event),
            "1970-01-01T00:00:01Z  orders  ejected     a: unhealthy; in unit west; seen 3 times"
        );
        let event = json!({"at_ms": u64::MAX, "kind": "group_restored", "reason": "-"});
        assert_eq!(line(&event), "9999-12-31T23:59:59Z  group_restored: -");
    }
}
