//! The events of instances and of the unit's servers, as they are stored and shown.

pub(crate) mod merging;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unitring_protocol::envelope::UnitEvent;
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName, UnitId};
use unitring_protocol::report::{EventKind, InstanceEvent};

/// An event of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, in milliseconds since the Unix epoch, by the clock of its observer.
    pub at_ms: u64,
    pub kind: EventKind,
    /// The service of the instance.
    pub service: ServiceName,
    pub instance: InstanceId,
    /// The reason, for people.
    pub reason: String,
    /// The version of the reporter's ring after the event; empty for the registry's own events.
    pub ring: String,
    /// The share of all keys whose owner changed, 0 to 1.
    pub moved: f64,
    /// The reporter that saw it; absent for the registry's own events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reporter: Option<ReporterId>,
    /// The unit that sent it; absent for events of this unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitId>,
    /// How many reports of it came: the entry stands for all of them, with the fields of the first. Absent for one.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub seen_by: u64,
    /// When the last observer saw it, by that observer's clock; absent if only the first saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at_ms: Option<u64>,
}

const fn once() -> u64 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_once(count: &u64) -> bool {
    *count == 1
}

impl Event {
    /// An event that a reporter saw.
    pub fn reported(service: &ServiceName, reporter: &ReporterId, event: &InstanceEvent) -> Self {
        Self {
            at_ms: event.at_ms.min(AT_MS_MAX),
            kind: event.kind,
            service: service.clone(),
            instance: event.instance.clone(),
            reason: event.reason.chars().take(REASON_CHARS_MAX).collect(),
            ring: event.ring.chars().take(RING_CHARS_MAX).collect(),
            moved: event.moved.clamp(0.0, 1.0),
            reporter: Some(reporter.clone()),
            unit: None,
            seen_by: 1,
            last_at_ms: None,
        }
    }

    /// An event that another unit sent.
    pub fn of_unit(unit: &UnitId, event: UnitEvent) -> Self {
        Self {
            at_ms: event.at_ms.min(AT_MS_MAX),
            kind: event.event,
            service: event.service,
            instance: event.instance,
            reason: event.reason.chars().take(REASON_CHARS_MAX).collect(),
            ring: String::new(),
            moved: 0.0,
            reporter: None,
            unit: Some(unit.clone()),
            seen_by: 1,
            last_at_ms: None,
        }
    }

    /// The event of a drain that begins or ends.
    pub fn draining(
        is_draining: bool,
        service: &ServiceName,
        instance: &InstanceId,
        at_ms: u64,
    ) -> Self {
        let (kind, reason) = if is_draining {
            (EventKind::Ejected, "draining: takes no new keys")
        } else {
            (EventKind::Recovered, "drains no longer")
        };
        Self::registry(kind, service, instance, reason, at_ms)
    }

    pub fn registry(
        kind: EventKind,
        service: &ServiceName,
        instance: &InstanceId,
        reason: &str,
        at_ms: u64,
    ) -> Self {
        Self {
            at_ms,
            kind,
            service: service.clone(),
            instance: instance.clone(),
            reason: reason.to_owned(),
            ring: String::new(),
            moved: 0.0,
            reporter: None,
            unit: None,
            seen_by: 1,
            last_at_ms: None,
        }
    }

    /// The event as an entry that stands for `seen_by` reports of it, the last of them at this time.
    pub fn counted(&mut self, seen_by: u64, last_ms: u64) {
        self.seen_by = seen_by;
        self.last_at_ms = (last_ms > self.at_ms).then_some(last_ms);
    }
}

/// An event of the unit's group of servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEvent {
    /// When it was seen, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub kind: GroupChange,
    /// All problems, or that there are none.
    pub reason: String,
}

/// How the group changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupChange {
    /// It has a problem.
    GroupDegraded,
    /// It has no more problems.
    GroupRestored,
}

/// An entry of the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    Instance(Event),
    /// An event of the unit's servers.
    Group(GroupEvent),
}

impl Entry {
    /// When it happened, in milliseconds since the Unix epoch.
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Instance(event) => event.at_ms,
            Self::Group(event) => event.at_ms,
        }
    }
}

/// Characters of a reason that are stored.
const REASON_CHARS_MAX: usize = 256;
/// Characters of a ring's version that are stored.
const RING_CHARS_MAX: usize = 64;
/// The last moment that has a date of four digits. A clock that is later is wrong, and numbers up to it are exact in Lua.
const AT_MS_MAX: u64 = 253_402_300_799_999;

/// A position in the event log, written `<a>-<b>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor(pub u64, pub u64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (a, b) = text.split_once('-').unwrap_or((text, "0"));
        match (a.parse(), b.parse()) {
            // Redis has no position after the last number.
            (Ok(a), Ok(b)) if a < u64::MAX => Ok(Self(a, b)),
            _ => Err(InvalidCursor),
        }
    }
}

/// Why a text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is a number, or two with '-' between them, as given with each event")]
pub struct InvalidCursor;
