//! The companion's answer to a report.

use anyhow::Result;
use unitring_balancer::balancer::{Balancer, Fleet};
use unitring_balancer::reporter::read_answer;

use super::{feed, loads};

const VALID: [&str; 2] = [
    include_str!("../../../../protocol/tests/golden/snapshot.json"),
    r#"{"version": 1, "events_through": 7, "services": [{"service": "orders", "reporters": 2,
        "rest": [{"id": "10.0.0.1:1", "in_flight": 9}, {"id": "10.0.0.1:2", "in_flight": 1}]}]}"#,
];

#[test]
fn an_answer_of_any_bytes_is_refused_or_counts() -> Result<()> {
    let mut balancer = Balancer::new(&loads::settings(loads::SERVICE));
    balancer.install(loads::directory(&loads::members()))?;
    let valid = VALID.map(|text| text.as_bytes().to_vec());
    feed(&valid, 2, |input| {
        let Ok(snapshot) = read_answer(input) else {
            return false;
        };
        let mut number = 0;
        for rest in snapshot.services {
            number += 1;
            let received_ms = snapshot.events_through;
            balancer.set_fleet(Fleet { received_ms, rest });
            loads::choose(&balancer, [Some(number), Some(1), Some(u64::MAX)]);
            balancer.drop_stale_fleet(u64::MAX);
        }
        true
    })
}
