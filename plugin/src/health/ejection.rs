//! Gateway failures in a row → who is out, for how long, and on trial afterwards.
//!
//! An instance that is back from an ejection is on trial for as long as it was out: one failure, and
//! it is out again for twice as long; none, and its past is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unitring_routing::membership::Member;

use crate::settings::Ejection;

/// The instances that are out or on trial, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ejections(BTreeMap<String, Record>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Ejections without a passed trial between them.
    strikes: u32,
    /// When this phase ends, in milliseconds since the Unix epoch.
    until_ms: u64,
    on_trial: bool,
}

/// Who is out now.
pub(super) struct Look {
    out: BTreeSet<String>,
    pub(super) forgiven: Vec<String>,
}

impl Look {
    pub(super) fn is_out(&self, id: &str) -> bool {
        self.out.contains(id)
    }
}

impl Ejections {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn look(
        &mut self,
        settings: &Ejection,
        found: &[Member],
        failures_in_row: impl Fn(&str) -> u64,
        now_ms: u64,
    ) -> Look {
        let ids: BTreeSet<&str> = found.iter().map(|member| member.id.as_str()).collect();
        self.0.retain(|id, _| ids.contains(id.as_str()));
        let mut forgiven = Vec::new();
        self.0.retain(|id, record| {
            // After a clock that was set back, a phase must not last for as long.
            record.until_ms = record.until_ms.min(now_ms + record.length_ms(settings));
            if now_ms < record.until_ms {
                return true;
            }
            if record.on_trial {
                return false;
            }
            record.on_trial = true;
            record.until_ms = now_ms + record.length_ms(settings);
            // Requests that were under way when it was ejected may have failed since.
            forgiven.push(id.clone());
            true
        });
        for member in found {
            let record = self.0.get(&member.id).copied();
            let limit = match record {
                None => u64::from(settings.consecutive_failures.get()),
                Some(record) if record.on_trial => 1,
                Some(_) => continue,
            };
            let is_new_on_trial = forgiven.contains(&member.id);
            if is_new_on_trial || failures_in_row(&member.id) < limit {
                continue;
            }
            if !self.has_room(settings, found.len()) {
                continue;
            }
            let strikes = record.map_or(0, |record| record.strikes).saturating_add(1);
            let mut record = Record {
                strikes,
                until_ms: 0,
                on_trial: false,
            };
            record.until_ms = now_ms + record.length_ms(settings);
            self.0.insert(member.id.clone(), record);
            forgiven.push(member.id.clone());
        }
        let out = self.0.iter().filter(|(_, record)| !record.on_trial);
        Look {
            out: out.map(|(id, _)| id.clone()).collect(),
            forgiven,
        }
    }

    /// Whether one more may be out: the first always, unless none ever may.
    fn has_room(&self, settings: &Ejection, members: usize) -> bool {
        let out = self.0.values().filter(|record| !record.on_trial).count();
        let percent = usize::try_from(settings.max_percent).unwrap_or(100);
        percent > 0 && (out == 0 || (out + 1) * 100 <= members * percent)
    }
}

impl Record {
    /// Twice as long with each strike, up to the most.
    fn length_ms(&self, settings: &Ejection) -> u64 {
        let ms = |duration: std::time::Duration| {
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
        };
        let doublings = self.strikes.saturating_sub(1).min(63);
        ms(settings.base)
            .saturating_mul(1 << doublings)
            .min(ms(settings.max))
    }
}
