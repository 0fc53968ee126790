//! 06xx: the durability of the unit's store.

use serde_json::Value;

use super::super::Answers;
use super::super::code::Code;
use super::super::finding::Finding;
use super::super::json::{at, number, text, texts};

/// From which on the clock of the store is another one.
const CLOCK_APART_MS: u64 = 1_000;

/// The companion's answers about its store.
pub(in super::super) fn judge(answers: &Answers) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Ok(units) = &answers.units {
        if let Some(store) = at(units, "store").filter(|store| text(store, "kind") == Some("redis"))
        {
            found.extend(evicts(store));
            found.extend(kept(store));
        }
        found.extend(clock(units));
        found.extend(spoiled(units));
    }
    found.extend(answers.group.as_ref().and_then(group));
    found
}

fn evicts(store: &Value) -> Option<Finding> {
    let policy = text(store, "maxmemory_policy").filter(|policy| *policy != "noeviction")?;
    let limit = match number(store, "maxmemory") {
        Some(0) => "there is no maxmemory yet".to_owned(),
        Some(limit) => format!("maxmemory is {limit} bytes"),
        None => "maxmemory is not known".to_owned(),
    };
    let seen = format!("maxmemory-policy is {policy}, {limit}");
    let mend = "redis-cli CONFIG SET maxmemory-policy noeviction  # and CONFIG REWRITE";
    Some(Finding::new(
        Code::Evicts,
        "store: maxmemory-policy",
        &seen,
        mend,
    ))
}

fn kept(store: &Value) -> Option<Finding> {
    let flag = |field| at(store, field).and_then(Value::as_bool);
    let mend = "redis-cli CONFIG SET appendonly yes  # and CONFIG REWRITE; with [group]: unitring group create";
    match (flag("appendonly")?, flag("snapshots")) {
        (true, _) => None,
        (false, Some(false)) => {
            let seen = "appendonly is no, and save is empty";
            Some(Finding::new(Code::NotKept, "store: appendonly", seen, mend))
        }
        (false, Some(true)) => {
            let seen = "appendonly is no, snapshots are made";
            Some(Finding::new(
                Code::SnapshotsOnly,
                "store: appendonly",
                seen,
                mend,
            ))
        }
        (false, None) => {
            let seen = "appendonly is no, and Redis does not tell whether it makes snapshots";
            Some(Finding::new(
                Code::SnapshotsOnly,
                "store: appendonly",
                seen,
                mend,
            ))
        }
    }
}

fn clock(units: &Value) -> Option<Finding> {
    let ahead_ms = at(units, "store_clock_ahead_ms").and_then(Value::as_i64)?;
    (ahead_ms.unsigned_abs() >= CLOCK_APART_MS).then(|| {
        let seen = format!("the clock of the store is {ahead_ms} ms ahead of the companion's");
        let mend = "chronyc tracking  # on both hosts: NTP must run on each";
        Finding::new(Code::StoreClock, "store_clock_ahead_ms", &seen, mend)
    })
}

fn spoiled(units: &Value) -> Option<Finding> {
    let spoiled = at(units, "spoiled").and_then(Value::as_object)?;
    let (name, why) = spoiled.iter().next()?;
    let why = why.as_str().unwrap_or_default();
    let seen = format!("{} records cannot be read: {name}: {why}", spoiled.len());
    let mend = "unitring unit repair --recount  # peers then send them again";
    Some(Finding::new(Code::Spoiled, "spoiled", &seen, mend))
}

fn group(group: &Value) -> Option<Finding> {
    if at(group, "healthy").and_then(Value::as_bool) != Some(false) {
        return None;
    }
    let problems = texts(group, "problems").join("; ");
    let mend = "unitring group status --config FILE  # and unitring group create repairs it";
    Some(Finding::new(Code::Group, "GET /v1/group", &problems, mend))
}
