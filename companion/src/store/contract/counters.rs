//! The contract of a store for the counters of instances, and the rates of their updates.

use unitring_protocol::report::InstanceLoad;

use super::fleet::take;
use crate::loads::{rate, samples};
use crate::store::Store;

pub async fn failures_add_up_as_calls_do(store: &dyn Store) {
    let service = "failing".parse().unwrap();
    // Counted on, sent again, begun anew.
    for (sequence, calls, failures, sum) in [
        (1, 5, 0, (5, 0)),
        (2, 9, 3, (9, 3)),
        (2, 9, 3, (9, 3)),
        (3, 10, 4, (10, 4)),
        (4, 2, 1, (12, 5)),
    ] {
        let instance = InstanceLoad {
            calls,
            failures,
            ..samples::instance("10.0.0.9:80")
        };
        let report = samples::report(("e1", sequence), "failing", vec![instance], vec![]);
        take(store, &report, 17_000_000).await;
        let totals = store.totals(&service).await.unwrap()["10.0.0.9:80"];
        assert_eq!(
            (totals.calls, totals.failures, totals.updates),
            (sum.0, sum.1, 0)
        );
    }
    let other = InstanceLoad {
        failures: 7,
        ..samples::instance("10.0.0.9:81")
    };
    take(
        store,
        &samples::report(("e2", 1), "failing", vec![other], vec![]),
        17_000_000,
    )
    .await;
    let totals = store.totals(&service).await.unwrap();
    assert_eq!(totals["10.0.0.9:81"].failures, 7);
    store.expire(19_000_000).await.unwrap();
    assert!(store.totals(&service).await.unwrap().is_empty());
}

pub async fn all_counters_of_updates_add_up_and_have_a_rate(store: &dyn Store) {
    let service = "updating".parse().unwrap();
    let id = "10.0.0.9:80";
    let rate = async |now_ms| {
        let loads = store.loads(&service, now_ms).await.unwrap();
        let rates = rate::of_instances(&loads);
        rates.values().next().map(|rate| rate.per_second())
    };
    let counted = |updates, [bytes, refused, dropped]: [u64; 3]| InstanceLoad {
        updates,
        update_bytes: bytes,
        updates_refused: refused,
        updates_dropped: dropped,
        update_load: 3,
        ..samples::instance(id)
    };
    let start_ms = 30_000_000;
    // Counted on, sent again, restarted from zero: the totals and the rate of each.
    for (sequence, updates, further, sums, per_second) in [
        (1, 5, [500, 0, 1], (5, [500, 0, 1]), None),
        (2, 9, [900, 2, 1], (9, [900, 2, 1]), Some(4.0)),
        (2, 9, [900, 2, 1], (9, [900, 2, 1]), Some(4.0)),
        (3, 9, [900, 3, 1], (9, [900, 3, 1]), None),
        (4, 2, [70, 1, 0], (11, [970, 4, 1]), Some(2.0)),
    ] {
        let instances = vec![counted(updates, further)];
        let report = samples::report(("e1", sequence), "updating", instances, vec![]);
        let now_ms = start_ms + 1_000 * sequence;
        take(store, &report, now_ms).await;
        let totals = store.totals(&service).await.unwrap()[id];
        let further = [
            totals.update_bytes,
            totals.updates_refused,
            totals.updates_dropped,
        ];
        assert_eq!((totals.updates, further), sums, "{sequence}");
        assert_eq!(rate(now_ms).await, per_second, "{sequence}");
    }
    // The bound of other reporters counts the load of the updates.
    let other = "e2".parse().unwrap();
    let rest = store.rest(&service, &other, start_ms + 4_000).await;
    assert_eq!(rest.unwrap().rest[0].in_flight, 3);
    let after_ms = start_ms + 4_000 + 5_000;
    assert_eq!(rate(after_ms).await, None, "who is silent has no rate");
    store.expire(start_ms + 2_000_000).await.unwrap();
    assert!(store.totals(&service).await.unwrap().is_empty());
}

/// So many instances that a store may need several steps, with counts too large for a double.
pub async fn counters_are_exact(store: &dyn Store) {
    const FIRST: [u64; 3] = [7, 999_999_999_999_998, (1 << 53) - 1];
    let all = |growth| {
        let instances = (1..=1_201_u16).zip(FIRST.into_iter().cycle());
        let instances = instances.map(|(port, first)| InstanceLoad {
            calls: first + growth,
            ..samples::instance(&format!("10.0.0.9:{port}"))
        });
        instances.collect::<Vec<_>>()
    };
    for (sequence, growth) in [(1, 0), (2, 2), (3, 3)] {
        let report = samples::report(("e1", sequence), "stock", all(growth), Vec::new());
        take(store, &report, 20_000_000).await;
        let part = &report.services[0];
        let totals = store.totals(&part.service).await.unwrap();
        assert_eq!(totals.len(), part.instances.len());
        for instance in &part.instances {
            assert_eq!(totals[&instance.id].calls, instance.calls);
        }
    }
}
