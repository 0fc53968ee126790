//! A service with instances under load, its report, and the companion's answer.

use unitring_balancer::balancer::Balancer;
use unitring_balancer::directory::{Directory, Shown, Totals};
use unitring_balancer::placement::Placing;
use unitring_balancer::reporter::{Reporter, reporter_id};
use unitring_balancer::settings::{Services, Settings};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot, Snapshot};
use unitring_routing::membership::Member;

/// The settings of a filter that reports.
const SETTINGS: &[u8] = br#"{"service": "orders", "companion": {"cluster": "unitring"}}"#;
const NOW_MS: u64 = 1_700_000_000_000;

/// The inputs of a report.
pub(crate) struct Reporting {
    settings: Settings,
    balancer: Balancer,
    reporter: Reporter,
}

impl Reporting {
    /// With `size` instances; `None` if a setting is wrong.
    pub(crate) fn of(size: usize) -> Option<Self> {
        let settings = Services::parse(SETTINGS).ok()?.all.pop()?;
        let members: Vec<Member> = (0..size).map(member).collect();
        let mut balancer = Balancer::new(&settings);
        let directory = Directory::first(&members, Placing::unasked(&settings));
        balancer.install(directory).ok()?;
        Some(Self {
            settings,
            balancer,
            reporter: Reporter::new(reporter_id("edge-1", 7)),
        })
    }

    /// The encoded report, with the loads as Envoy's gauges would show them.
    pub(crate) fn encoded(&mut self) -> serde_json::Result<Vec<u8>> {
        let shown = Shown {
            totals: Totals {
                calls: 1_234_567,
                failures: 123,
                updates: 12_345,
                ..Totals::default()
            },
            in_flight: 17,
            ..Shown::default()
        };
        let entries = self.balancer.directory().entries().iter();
        let instances = entries.map(|entry| (&**entry, shown));
        let table = self.balancer.table();
        let report = self
            .reporter
            .report(&self.settings, table, instances, 3, Vec::new(), NOW_MS);
        serde_json::to_vec(&report)
    }
}

/// The companion's answer, with load from the rest of the fleet on each of `size` instances.
pub(crate) fn answer(size: usize) -> Vec<u8> {
    let rest = |n| {
        Some(InstanceRest {
            id: address(n).parse().ok()?,
            in_flight: 31,
            before: 12,
            own: 17,
            updates_per_1000_s: 0,
        })
    };
    let snapshot = "orders".parse().map(|service| Snapshot {
        version: PROTOCOL_VERSION,
        events_through: NOW_MS,
        services: vec![ServiceSnapshot {
            service,
            reporters: 3,
            rank: Some(1),
            rest: (0..size).filter_map(rest).collect(),
        }],
    });
    let encoded = snapshot.map(|snapshot| serde_json::to_vec(&snapshot).unwrap_or_default());
    encoded.unwrap_or_default()
}

fn member(n: usize) -> Member {
    Member::new(&address(n), &address(n))
}

fn address(n: usize) -> String {
    format!("10.0.{}.{}:8080", n / 250, n % 250 + 1)
}
