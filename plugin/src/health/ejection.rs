//! Gateway failures in a row → who is out, for how long, and on trial afterwards.
//!
//! An instance that is back from an ejection is on trial for as long as it was out: one failure, and
//! it is out again for twice as long; none, and its past is forgotten.

use unitring_routing::membership::Member;
use unitring_routing::names::Names;

use crate::settings::Ejection;
use crate::stored::stored;

/// The instances that are out or on trial, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ejections {
    records: Vec<Record>,
}

stored!(Ejections { records });

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    id: String,
    /// Ejections without a passed trial between them.
    strikes: u32,
    /// When this phase ends, in milliseconds since the Unix epoch.
    until_ms: u64,
    on_trial: bool,
}

stored!(Record {
    id,
    strikes,
    until_ms,
    on_trial
});

/// Who is out now.
pub(super) struct Look {
    /// Of each instance that was found.
    pub(super) is_out: Vec<bool>,
    /// Ids whose failures in a row start again at none.
    pub(super) forgiven: Vec<String>,
}

impl Ejections {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn look(
        &mut self,
        settings: &Ejection,
        found: &[Member],
        failures_in_row: impl Fn(&str) -> u64,
        now_ms: u64,
    ) -> Look {
        let ids = Names::of(found.iter().map(|member| member.id.as_str()));
        let mut forgiven = Vec::new();
        self.records.retain_mut(|record| {
            if !ids.has(&record.id) {
                return false;
            }
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
            forgiven.push(record.id.clone());
            true
        });
        // Each instance that was found with the place of its record.
        let known = Names::of(self.records.iter().map(|record| record.id.as_str()));
        let places = found.iter().map(|member| known.last(&member.id));
        let places: Vec<Option<usize>> = places.collect();
        for (member, place) in found.iter().zip(&places) {
            let record = place.and_then(|place| self.records.get(place));
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
            let mut ejected = Record {
                id: member.id.clone(),
                strikes,
                until_ms: 0,
                on_trial: false,
            };
            ejected.until_ms = now_ms + ejected.length_ms(settings);
            forgiven.push(member.id.clone());
            match place.and_then(|place| self.records.get_mut(place)) {
                Some(record) => *record = ejected,
                None => self.records.push(ejected),
            }
        }
        let out = self.records.iter().filter(|record| !record.on_trial);
        let out = Names::of(out.map(|record| record.id.as_str()));
        Look {
            is_out: found.iter().map(|member| out.has(&member.id)).collect(),
            forgiven,
        }
    }

    /// Whether one more may be out: the first always, unless none ever may.
    fn has_room(&self, settings: &Ejection, members: usize) -> bool {
        let records = self.records.iter();
        let out = records.filter(|record| !record.on_trial).count();
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
