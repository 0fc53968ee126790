//! The contract of a store for the names of services: it takes every name that Envoy takes for a cluster.

use std::collections::BTreeSet;

use unitring_protocol::ids::ServiceName;
use unitring_protocol::report::InstanceLoad;

use crate::events::Entry;
use crate::loads::samples;
use crate::registry::{Registered, Registration};
use crate::store::{EVENTS_BYTES_MAX, Store};

/// Names as Istio, Envoy Gateway and Contour make them, and hostile ones; the last ones would collide if the store
/// joined parts of keys without escaping them.
pub const NAMES: [&str; 9] = [
    "orders",
    "outbound|8080||orders.default.svc.cluster.local",
    "httproute/default/orders/rule/0",
    "default/kuard/80/da39a3ee5e",
    "a b {é}:%",
    "}{\"\\\\'\"",
    "a",
    "a/b",
    "a%2Fb",
];

pub async fn each_name_is_a_service_of_its_own(store: &dyn Store) {
    let names: Vec<ServiceName> = NAMES.iter().map(|name| name.parse().unwrap()).collect();
    for (number, name) in (1..).zip(&names) {
        is_registered(store, name, number).await;
        is_reported(store, name, number).await;
    }
    let registry = store.registry().await.unwrap();
    let sorted: BTreeSet<ServiceName> = names.iter().cloned().collect();
    assert!(registry.services.keys().eq(&sorted));
    assert_eq!(store.reported().await.unwrap(), sorted);
    for (number, name) in (1..).zip(&names) {
        is_its_own(store, name, number).await;
    }
    are_told_apart(store, &names).await;

    // Removes all data of them again.
    let last = instance(names.len().try_into().unwrap()).id;
    assert!(store.unregister(&names[8], &last, 3_000).await.unwrap());
    assert_eq!(store.expire(4_000).await.unwrap(), 8);
    assert!(store.registry().await.unwrap().services.is_empty());
    store.expire(10_000_000).await.unwrap();
    assert!(store.reported().await.unwrap().is_empty());
    for name in &names {
        assert!(store.totals(name).await.unwrap().is_empty(), "{name}");
    }
}

fn instance(number: u16) -> Registered {
    // With the character that ends the service's name in some keys.
    let id = format!("b/{number}");
    Registered {
        id: id.parse().unwrap(),
        address: format!("10.0.0.1:{number}").parse().unwrap(),
        weight: 1.try_into().unwrap(),
        draining: false,
        expires_ms: Some(4_000),
    }
}

async fn is_registered(store: &dyn Store, name: &ServiceName, number: u16) {
    for done in [Registration::Created, Registration::Renewed] {
        let answer = store.register(name, &instance(number), true, 1_000).await;
        assert_eq!(answer.unwrap(), (done, instance(number)), "{name}");
    }
}

async fn is_reported(store: &dyn Store, name: &ServiceName, number: u16) {
    let load = InstanceLoad {
        calls: number.into(),
        in_flight: number.into(),
        ..samples::instance(instance(number).id.as_str())
    };
    let report = samples::report(("unit/e1", 1), name.as_str(), vec![load], Vec::new());
    let taken = store
        .take(&samples::load_report(&report), EVENTS_BYTES_MAX, 1_000)
        .await;
    assert!(!taken.unwrap().old, "{name}");
}

/// The store returns the data of this service, and nothing of the others.
async fn is_its_own(store: &dyn Store, name: &ServiceName, number: u16) {
    let registry = store.registry().await.unwrap();
    let registered = registry.instances(name.as_str()).cloned();
    assert!(registered.eq([instance(number)]), "{name}");
    let loads = store.loads(name, 1_000).await.unwrap();
    assert_eq!(loads.len(), 1, "{name}");
    let rest = store
        .rest(name, &"e2".parse().unwrap(), 1_000)
        .await
        .unwrap();
    assert_eq!((&rest.service, rest.reporters), (name, 1));
    assert_eq!(rest.rest[0].in_flight, u64::from(number), "{name}");
    let totals = store.totals(name).await.unwrap();
    let calls = totals.values().map(|totals| totals.calls);
    assert!(calls.eq([u64::from(number)]), "{name}");
}

async fn are_told_apart(store: &dyn Store, names: &[ServiceName]) {
    let events = store.events(None, 100).await.unwrap();
    let services = events.iter().map(|(_, entry)| match entry {
        Entry::Instance(event) => &event.service,
        Entry::Group(event) => panic!("{event:?}"),
    });
    assert!(services.eq(names));
}
