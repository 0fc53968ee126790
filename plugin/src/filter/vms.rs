//! This VM among those of the process: its beat, and what it does about a dead VM.

use super::service::Service;
use super::shared;
use unitring_balancer::directory::stat_names::StatNames;
use unitring_balancer::roster::{BEAT_MS, Roster, Side, Step, Watch};

/// This VM's place among the VMs that count a service's requests.
#[derive(Debug)]
pub(super) struct Vms {
    key: String,
    id: u64,
    /// The generation that this VM counts in.
    generation: u64,
    /// Whether this VM was on the roster at its last look.
    was_on: bool,
    last_beat_ms: u64,
    watch: Watch,
}

impl Vms {
    #[inline(never)]
    pub(super) fn new(service: &Service, id: u64) -> Self {
        let key = shared::key("roster", None, service.settings.service.as_str());
        let read = shared::read::<Roster>(&key);
        let roster = read.map_or_else(Roster::new, |(roster, _)| roster);
        let vms = Self {
            key,
            id,
            generation: roster.generation(),
            was_on: false,
            last_beat_ms: 0,
            watch: Watch::default(),
        };
        vms.adopt(service, &roster);
        vms
    }

    fn adopt(&self, service: &Service, roster: &Roster) {
        service.sides.set(super::stats::Sides {
            side: roster.side(),
            mixed: roster.is_mixed(),
        });
    }

    fn read(&self) -> (Roster, Option<u32>) {
        shared::read::<Roster>(&self.key)
            .map_or_else(|| (Roster::new(), None), |(roster, v)| (roster, Some(v)))
    }

    /// Joins the roster before this VM counts its first request.
    pub(super) fn join(&self) {
        shared::change::<Roster>(&self.key, |roster| {
            // If the generation differs, the next tick moves this VM first.
            let joins = !roster.has(self.id) && roster.generation() == self.generation;
            if joins {
                roster.beat(self.id);
            }
            joins
        });
    }

    /// Follows the roster, beats, and with the lease watches the other VMs.
    pub(super) fn tick(&mut self, service: &Service, has_lease: bool, now_ms: u64) {
        let (mut roster, version) = self.read();
        let is_on = roster.has(self.id);
        if roster.generation() != self.generation {
            // If this VM was struck off by mistake, its part was cleared already.
            let from = (is_on || !self.was_on).then_some(Side::of(self.generation));
            service.settle(from, roster.side());
            self.generation = roster.generation();
        }
        self.adopt(service, &roster);
        self.was_on = is_on;
        let due = self.last_beat_ms.abs_diff(now_ms) >= BEAT_MS;
        let beats = due || roster.awaits(self.id);
        if beats {
            roster.beat(self.id);
        }
        let step = if has_lease {
            self.watch.look(&mut roster, now_ms)
        } else {
            Step::Rest
        };
        if let Step::Clear(side) = step {
            let key = shared::key("names", None, service.settings.service.as_str());
            let names = shared::read::<StatNames>(&key).map_or_else(StatNames::default, |(n, _)| n);
            service.clear(side, &names);
        }
        if (beats || step != Step::Rest) && shared::write(&self.key, &roster, version) {
            self.last_beat_ms = now_ms;
            self.was_on = true;
        }
    }
}
