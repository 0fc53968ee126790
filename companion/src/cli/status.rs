//! `unitring status`: the health of a companion, its unit and its services, with problems first.

mod show;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use unitring_protocol::report::Finding;

use crate::client::Target;
use crate::client::ask::{AskError, ask, services};
use crate::client::exit::Exit;
use crate::client::readiness::ready;
use crate::loads::wiring;
use crate::output::say_in_colour;
use crate::states::{Check, InstanceState, LinkState, UnitRole};

/// From which on the clock of the store is not ours.
const CLOCK_APART_MS: u64 = 1_000;

/// What `status` shows.
#[derive(Debug, Args)]
pub(crate) struct StatusFlags {
    /// Print JSON.
    #[arg(long, conflicts_with = "watch")]
    pub json: bool,
    /// Show it again every two seconds, or every SECONDS, until it is stopped.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// Show every problem, instance and Envoy, and not only the 20 of each that need attention most.
    #[arg(long)]
    pub all: bool,
    /// Which companion.
    #[command(flatten)]
    pub target: Target,
}

/// A companion's answers, and the problems in them.
#[derive(Debug)]
struct Seen {
    ready: Ready,
    units: Result<Units, String>,
    services: Result<Vec<Service>, String>,
    problems: Vec<String>,
    /// As they came.
    answers: Value,
}

/// `GET /readyz`.
#[derive(Debug, Deserialize)]
struct Ready {
    #[serde(default)]
    unit: String,
    /// Absent from an older companion.
    role: Option<UnitRole>,
    checks: BTreeMap<String, Check>,
}

/// `GET /v1/units`.
#[derive(Debug, Deserialize)]
struct Units {
    sync: Option<Sync>,
    /// How far the store's clock, by which values expire, is ahead of the companion's.
    store_clock_ahead_ms: Option<i64>,
    /// How far the companion's clock is ahead of the time by which its store frees what expires.
    clock_doubted_ms: Option<u64>,
    #[serde(default)]
    spoiled: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Sync {
    inbox: LinkState,
    links: BTreeMap<String, Value>,
    outbox: u64,
    outbox_max: u64,
    repaired_records: u64,
    #[serde(default)]
    strangers: BTreeMap<String, Value>,
    #[serde(default)]
    namesakes: BTreeMap<String, u64>,
    #[serde(default)]
    set_aside: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Service {
    service: String,
    registry: Vec<Registered>,
    reporters: Vec<Reporter>,
    instances: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
struct Registered {
    id: String,
    address: String,
}

#[derive(Debug, Deserialize)]
struct Reporter {
    reporter: String,
    ring: String,
    fallbacks: u64,
    wiring: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Instance {
    id: String,
    address: String,
    healthy: bool,
    draining: bool,
    warmth: u8,
    calls: u64,
    failures: u64,
    in_flight: u64,
    updates: u64,
    // An older companion tells none of these.
    #[serde(default)]
    update_load: u64,
    #[serde(default)]
    updates_refused: u64,
    #[serde(default)]
    updates_dropped: u64,
    #[serde(default)]
    updates_per_s: f64,
    share: Option<f64>,
    capacity: Option<u64>,
}

/// Prints the status of a companion, once or for as long as it is watched.
///
/// # Errors
/// [`AskError`]: no server answers, or it is no companion. Or the output cannot be written.
pub(crate) fn run(flags: &StatusFlags) -> anyhow::Result<Exit> {
    let Some(seconds) = flags.watch else {
        let seen = look(&flags.target)?;
        say_in_colour(&text(&seen, flags))?;
        return Ok(seen.exit());
    };
    let clear = if std::io::stdout().is_terminal() {
        // Moves to the upper left corner, and clears everything below.
        "\u{1b}[H\u{1b}[J"
    } else {
        ""
    };
    loop {
        let text = match look(&flags.target) {
            Ok(seen) => text(&seen, flags),
            // The companion may come back.
            Err(error) => format!("{error}\n"),
        };
        say_in_colour(&format!("{clear}{text}\n"))?;
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

fn text(seen: &Seen, flags: &StatusFlags) -> String {
    if flags.json {
        return format!("{:#}\n", seen.answers);
    }
    show::text(seen, flags.all)
}

fn look(target: &Target) -> Result<Seen, AskError> {
    let answer = ready(target)?;
    let ready: Ready =
        Ready::deserialize(&answer).map_err(|_| AskError::NoCompanion(target.url.clone()))?;
    let units = part(ask(target, "/v1/units"))?;
    let list = part(services(target, "shares=true").map(Value::from))?;
    let or_error = |part: &Result<Value, String>| match part {
        Ok(value) => value.clone(),
        Err(error) => json!({ "error": error }),
    };
    let mut seen = Seen {
        units: read(units.clone()),
        services: read(list.clone()),
        problems: Vec::new(),
        answers: json!({
            "ready": answer,
            "units": or_error(&units),
            "services": or_error(&list),
        }),
        ready,
    };
    seen.problems = seen.find_problems();
    if let Some(answers) = seen.answers.as_object_mut() {
        answers.insert("healthy".to_owned(), seen.problems.is_empty().into());
        answers.insert("problems".to_owned(), json!(seen.problems));
    }
    Ok(seen)
}

/// An answer, or what the companion says in its place: that is a part of its status.
fn part(answer: Result<Value, AskError>) -> Result<Result<Value, String>, AskError> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(AskError::Refused(error)) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

fn read<T: for<'de> Deserialize<'de>>(answer: Result<Value, String>) -> Result<T, String> {
    T::deserialize(answer?).map_err(|error| format!("a companion of another version: {error}"))
}

impl Seen {
    fn exit(&self) -> Exit {
        if self.problems.is_empty() {
            Exit::Success
        } else {
            Exit::Failure
        }
    }

    fn find_problems(&self) -> Vec<String> {
        let checks = self.ready.checks.iter();
        let mut problems: Vec<String> = checks
            .filter(|(_, state)| !state.is_ok())
            .map(|(name, state)| format!("{name}: {state}"))
            .collect();
        match &self.services {
            Ok(services) => problems.extend(services.iter().flat_map(Service::problems)),
            Err(error) => problems.push(format!("services: {error}")),
        }
        match &self.units {
            Ok(units) => problems.extend(self.sync_problems(units)),
            Err(error) => problems.push(format!("units: {error}")),
        }
        problems
    }

    fn sync_problems(&self, units: &Units) -> Vec<String> {
        let mut problems = Vec::new();
        if !units.spoiled.is_empty() {
            let count = units.spoiled.len();
            problems.push(format!("{count} records that cannot be read are set aside"));
        }
        let ahead_ms = units.store_clock_ahead_ms.unwrap_or(0);
        if ahead_ms.unsigned_abs() >= CLOCK_APART_MS {
            problems.push(format!(
                "the clock of the store, by which values expire, is {ahead_ms} ms ahead of the companion's"
            ));
        }
        // Redis' own clock was told above.
        if let Some(ms) = units.clock_doubted_ms
            && ahead_ms.unsigned_abs() < CLOCK_APART_MS
        {
            problems.push(format!(
                "the companion's clock is {ms} ms ahead of the time that its store knows: nothing that expires later is \
                 freed. Set the clock, or say that it is right with `unitring unit repair --clocks`"
            ));
        }
        let Some(sync) = units.sync.as_ref().filter(|_| self.leads()) else {
            return problems;
        };
        for unit in sync.namesakes.keys() {
            problems.push(format!(
                "two stores speak in the name of {unit}: a second unit, or a second group at its broker, has it"
            ));
        }
        for unit in sync.strangers.keys() {
            problems.push(format!(
                "{unit} sends messages and is no member of the group: they are set aside"
            ));
        }
        if let Some((name, why)) = sync.set_aside.first_key_value() {
            let count = sync.set_aside.len();
            problems.push(format!(
                "{count} records of other units are not taken: {name}: {why}"
            ));
        }
        for (unit, link) in &sync.links {
            let state = super::unit::state(link);
            if state.is_fault() {
                problems.push(format!("link to {unit}: {state}"));
            }
            let unsendable = link.pointer("/unsendable").and_then(Value::as_object);
            if let Some((name, why)) = unsendable.and_then(|all| all.iter().next()) {
                let count = unsendable.map_or(0, serde_json::Map::len);
                let why = why.as_str().unwrap_or_default();
                problems.push(format!(
                    "{count} records or messages to {unit} are too large: {name}: {why}"
                ));
            }
            if let Some(silent_ms) = link.pointer("/silent_ms").and_then(Value::as_u64) {
                problems.push(super::unit::silent(unit, silent_ms));
            }
            if link.pointer("/clock_skew_alarm") == Some(&Value::Bool(true)) {
                let skew = link.pointer("/clock_skew_ms").cloned().unwrap_or_default();
                problems.push(format!(
                    "the clock of {unit} is {skew} ms ahead of this unit's"
                ));
            }
        }
        problems
    }

    /// Whether this companion leads: of several, the leader syncs, and only it knows the state of sync.
    fn leads(&self) -> bool {
        self.ready.role != Some(UnitRole::Follower)
    }
}

impl Service {
    fn problems(&self) -> Vec<String> {
        let reporters = self.reporters.iter();
        let mut problems: Vec<String> = reporters
            .flat_map(|reporter| {
                let line = |finding| wiring::line(&reporter.reporter, finding);
                reporter.wiring.iter().map(line)
            })
            .collect();
        let bad = self.instances.iter().filter(|instance| instance.is_bad());
        let bad: Vec<&str> = bad.map(|instance| instance.id.as_str()).collect();
        if !bad.is_empty() {
            let named = bad.iter().take(show::NAMED_MAX).copied();
            let named = named.collect::<Vec<_>>().join(", ");
            let more = match bad.len().saturating_sub(show::NAMED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let (name, all) = (&self.service, self.instances.len());
            problems.push(format!(
                "{name}: {} of {all} instances unhealthy: {named}{more}",
                bad.len()
            ));
        }
        problems
    }
}

impl Instance {
    /// Unhealthy, and not on purpose.
    fn is_bad(&self) -> bool {
        !self.healthy && !self.draining
    }

    fn state(&self) -> InstanceState {
        InstanceState::of(self.draining, self.healthy, self.warmth)
    }
}
