//! 07xx: the links to the other units. Of several companions only the leader knows them.

use serde::Deserialize as _;
use serde_json::Value;

use super::super::Answers;
use super::super::code::Code;
use super::super::finding::{Finding, shown};
use super::super::json::{at, number, text};
use crate::states::{LinkState, UnitRole};

/// From this share of its bound on, an outbox is filling up.
const OUTBOX_PERCENT: u64 = 80;

/// The companion's answers about the other units.
pub(in super::super) fn judge(answers: &Answers) -> Vec<Finding> {
    let Ok(units) = &answers.units else {
        return Vec::new();
    };
    let Some(sync) = at(units, "sync").filter(|_| role(units) != UnitRole::Follower) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (unit, link) in fields(sync, "links") {
        found.extend(down(unit, link));
        found.extend(silent(unit, link));
        found.extend(skew(unit, link));
        found.extend(too_large(unit, link));
    }
    for (unit, _) in fields(sync, "namesakes") {
        let seen = format!("two stores speak in the name of {unit}");
        let mend = "another `unit` in the settings of one of them, or another virtual host at the broker: docs/sync.md";
        found.push(Finding::new(
            Code::Namesake,
            &format!("unit {unit}"),
            &seen,
            mend,
        ));
    }
    for (unit, _) in fields(sync, "strangers") {
        let seen = format!("{unit} sends messages and is no member of the group");
        let mend = format!(
            "unitring unit add {}  # or stop its companions",
            shown(unit)
        );
        found.push(Finding::new(
            Code::SetAside,
            &format!("unit {unit}"),
            &seen,
            &mend,
        ));
    }
    if let Some((name, why)) = fields(sync, "set_aside").next() {
        let count = fields(sync, "set_aside").count();
        let seen = format!(
            "{count} records are not taken: {name}: {}",
            why.as_str().unwrap_or_default()
        );
        let mend =
            "write the record again in the unit that sent it, within the bounds of docs/bounds.md";
        found.push(Finding::new(Code::SetAside, "sync.set_aside", &seen, mend));
    }
    found.extend(outbox(sync));
    found
}

fn fields<'a>(json: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(json, field)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn role(units: &Value) -> UnitRole {
    let role = at(units, "role").map(UnitRole::deserialize);
    role.and_then(Result::ok).unwrap_or_default()
}

fn down(unit: &str, link: &Value) -> Option<Finding> {
    let state = LinkState::from(text(link, "state")?.to_owned());
    if !state.is_fault() {
        return None;
    }
    let mend = "does the broker run, and is sync.queue_bytes_max the same in all units? unitring status shows the link";
    Some(Finding::new(
        Code::LinkDown,
        &format!("link to {unit}"),
        &state.to_string(),
        mend,
    ))
}

fn silent(unit: &str, link: &Value) -> Option<Finding> {
    let silent_ms = at(link, "silent_ms").and_then(Value::as_u64)?;
    let seen = format!("no message from {unit} for {} s", silent_ms / 1_000);
    let mend = "unitring status at that unit: its companion runs, reaches this unit's broker, and names this unit in \
                sync.peers";
    Some(Finding::new(
        Code::LinkDown,
        &format!("link to {unit}"),
        &seen,
        mend,
    ))
}

fn skew(unit: &str, link: &Value) -> Option<Finding> {
    let is_alarm = at(link, "clock_skew_alarm").and_then(Value::as_bool) == Some(true);
    is_alarm.then(|| {
        let skew_ms = at(link, "clock_skew_ms")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        let seen = format!(
            "the clock of {unit} is {skew_ms} ms ahead of this unit's, which is over sync.skew_max"
        );
        let mend = "chronyc tracking  # in both units: NTP must run in each";
        Finding::new(Code::ClockSkew, &format!("link to {unit}"), &seen, mend)
    })
}

fn too_large(unit: &str, link: &Value) -> Option<Finding> {
    let (record, why) = fields(link, "unsendable").next()?;
    let count = fields(link, "unsendable").count();
    let seen = format!(
        "{count} records or messages: {record}: {}",
        why.as_str().unwrap_or_default()
    );
    let mend =
        "max_message_size = 16777216  # in rabbitmq.conf of that unit's broker; or smaller values";
    Some(Finding::new(
        Code::TooLarge,
        &format!("link to {unit}"),
        &seen,
        mend,
    ))
}

fn outbox(sync: &Value) -> Option<Finding> {
    let (waiting, most) = (number(sync, "outbox")?, number(sync, "outbox_max")?);
    let is_filling = most > 0 && waiting >= most / 100 * OUTBOX_PERCENT && waiting > 0;
    is_filling.then(|| {
        let seen = format!("{waiting} of at most {most} changes wait for other units");
        let mend =
            "unitring status  # which link is down? unitring unit remove for a unit that is gone";
        Finding::new(Code::OutboxFull, "sync.outbox", &seen, mend)
    })
}
