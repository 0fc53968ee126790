//! Members → the balancer in force, which all threads share.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use unitring_balancer::balancer::{Balancer, Fleet};
use unitring_balancer::directory::Directory;
use unitring_balancer::placement::Placing;
use unitring_balancer::settings::Settings;
use unitring_routing::health::{HealthRule, priority_loads};
use unitring_routing::membership::{Member, State};
use unitring_routing::ring::RingError;
use unitring_routing::table::Rule;

use crate::loads::Picks;
use crate::seats::{Places, Seat, TableHost, seats};

/// How requests are placed. Published whole, and never changed.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Places requests by Envoy's rule of which hosts are eligible.
    pub usual: Part,
    /// Among the healthy hosts alone, while some priority panics. Envoy's ring then has unhealthy hosts, too,
    /// which a policy cannot name; their keys go here.
    pub rescue: Option<Part>,
}

/// A balancer, and the picks of each host of its table.
#[derive(Debug, Clone)]
pub struct Part {
    /// Chooses the host of a request.
    pub balancer: Balancer,
    /// The picks of each of its hosts, in the order of its table.
    pub picks: Arc<[Arc<Picks>]>,
}

/// The picks of every host, by priority and address. A host that leaves and comes back starts anew.
#[derive(Debug, Default)]
pub struct AllPicks(HashMap<(u32, String), Arc<Picks>>);

impl AllPicks {
    /// The picks of a host, which exist from now on.
    fn of(&mut self, host: &Member) -> Arc<Picks> {
        let key = (host.priority, host.address.clone());
        Arc::clone(self.0.entry(key).or_default())
    }

    /// The picks of a host that was placed.
    pub fn get(&self, priority: u32, address: &str) -> Option<&Arc<Picks>> {
        self.0.get(&(priority, address.to_owned()))
    }

    fn forget_others(&mut self, members: &[Member]) {
        let kept = members
            .iter()
            .map(|member| (member.priority, member.address.as_str()));
        let kept: HashSet<(u32, &str)> = kept.collect();
        self.0
            .retain(|(priority, address), _| kept.contains(&(*priority, address.as_str())));
    }
}

impl Placed {
    /// A placing without hosts.
    pub fn nobody(settings: &Settings) -> Self {
        Self {
            usual: Part {
                balancer: Balancer::new(settings),
                picks: Arc::new([]),
            },
            rescue: None,
        }
    }

    /// The placing of these members, made from the one before.
    ///
    /// # Errors
    /// If a ring would be too large.
    pub fn update(
        &self,
        settings: &Settings,
        directory: Directory,
        all: &mut AllPicks,
    ) -> Result<Self, RingError> {
        let members = directory.members();
        let rule = directory.placing().rule;
        let panics = priority_loads(&members, &rule.health)
            .iter()
            .any(|load| load.panics);
        let rescue = match panics {
            true => {
                let before = self.rescue.as_ref().map(|part| part.balancer.clone());
                let before = before.unwrap_or_else(|| Balancer::new(settings));
                let healthy = Directory::first(&members, without_panic(rule));
                Some(Part::of(before, healthy, all)?)
            }
            false => None,
        };
        let usual = Part::of(self.usual.balancer.clone(), directory, all)?;
        all.forget_others(&members);
        Ok(Self { usual, rescue })
    }

    /// The same placing with another picture of the fleet.
    pub fn with_fleet(&self, fleet: &Fleet) -> Self {
        self.changed(|balancer| balancer.set_fleet(fleet.clone()))
    }

    /// The same placing without its picture of the fleet, if that is stale.
    pub fn without_stale_fleet(&self, now_ms: u64) -> Option<Self> {
        let is_stale = self.usual.balancer.has_stale_fleet(now_ms);
        is_stale.then(|| self.changed(|balancer| _ = balancer.drop_stale_fleet(now_ms)))
    }

    fn changed(&self, change: impl Fn(&mut Balancer)) -> Self {
        let mut placed = self.clone();
        let rescue = placed.rescue.iter_mut();
        for part in rescue.chain([&mut placed.usual]) {
            change(&mut part.balancer);
        }
        placed
    }
}

impl Part {
    fn of(
        mut balancer: Balancer,
        directory: Directory,
        all: &mut AllPicks,
    ) -> Result<Self, RingError> {
        balancer.install(directory)?;
        let picks = balancer
            .table()
            .hosts()
            .iter()
            .map(|host| all.of(host))
            .collect();
        Ok(Self { balancer, picks })
    }

    /// Where a worker has each host of the table.
    pub fn seats(&self, places: &impl Places) -> Vec<Seat> {
        let all = self.balancer.table().hosts().iter();
        let placed = all.map(|host| TableHost {
            priority: host.priority,
            address: &host.address,
            is_healthy: host.state == State::Serving,
        });
        seats(placed, places)
    }
}

fn without_panic(rule: Rule) -> Placing {
    let health = HealthRule {
        panic_threshold: 0,
        ..rule.health
    };
    Placing {
        rule: Rule { health, ..rule },
        left: None,
    }
}
