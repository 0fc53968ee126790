//! Keys of routes and of filters.

use super::*;
use crate::discovery::cluster::Policy;

fn settings(more: &str) -> Settings {
    Settings::of(&format!(r#"{{"service": "orders"{more}}}"#))
}

fn by(header: &str) -> Settings {
    settings(&format!(r#", "key": [{{"header": "{header}"}}]"#))
}

fn route(sources: &[(HashFrom, bool)]) -> Route {
    let source = |(from, terminal): &(HashFrom, bool)| HashSource {
        from: from.clone(),
        terminal: *terminal,
    };
    Route {
        virtual_host: "all".to_owned(),
        hash_policy: sources.iter().map(source).collect(),
        retries_answers: false,
        removes_from_requests: Vec::new(),
        removes_from_answers: Vec::new(),
        changes: Vec::new(),
    }
}

fn header(name: &str) -> HashFrom {
    HashFrom::Header(name.to_owned())
}

fn hashing(name: &str) -> Route {
    route(&[(header(name), false)])
}

fn naming(routes: &[&Route]) -> Routes {
    Routes {
        naming: routes.iter().map(|&route| route.clone()).collect(),
        ..Routes::default()
    }
}

fn deciding(routes: &[&Route]) -> Routes {
    Routes {
        deciding: routes.iter().map(|&route| route.clone()).collect(),
        ..Routes::default()
    }
}

fn alone(settings: &Settings, routes: &Routes) -> Option<Mistake> {
    check_routes(settings, None, routes, &Keys::default())
}

#[test]
fn a_route_must_hash_what_the_filter_hashes() {
    let key = settings(r#", "key": [{"header": "X-A"}, {"path": true, "terminal": true}]"#);
    let right = route(&[(header("x-a"), false), (header(":path"), true)]);
    assert_eq!(alone(&key, &naming(&[&right])), None);
    assert_eq!(alone(&key, &naming(&[])), None, "no route is known");
    let wrong = hashing("x-a");
    let mistake = alone(&key, &naming(&[&right, &wrong])).unwrap();
    let expected = "a route of virtual host all hashes header x-a, the filter hashes header x-a, header :path (terminal)";
    assert_eq!(mistake.seen, expected);
    let none = alone(&key, &naming(&[&route(&[])])).unwrap();
    assert!(none.seen.contains("has no hash_policy"), "{}", none.seen);
    // The cluster's own hash policy counts, whatever the routes say.
    let of_cluster = |hash_policy| Cluster {
        policy: Policy {
            hash_policy,
            ..Policy::default()
        },
        ..Cluster::default()
    };
    let of = |sources: &Route, routes: &Route| {
        let cluster = of_cluster(sources.hash_policy.clone());
        check_routes(&key, Some(&cluster), &naming(&[routes]), &Keys::default())
    };
    assert_eq!(of(&right, &wrong), None);
    assert!(of(&wrong, &right).is_some());
}

#[test]
fn filters_of_one_service_may_have_other_keys_each_for_its_routes() {
    let (a, b) = (by("x-a"), by("x-b"));
    let mut keys = Keys::default();
    keys.tell(&a, 1, 1_000);
    keys.tell(&b, 2, 1_000);
    let check = |settings: &Settings, routes: &[&Route]| {
        check_routes(settings, None, &naming(routes), &keys)
    };
    let (of_a, of_b, of_none) = (hashing("x-a"), hashing("x-b"), hashing("x-c"));
    for filter in [&a, &b] {
        assert_eq!(check(filter, &[&of_a, &of_b]), None);
        assert!(check(filter, &[&of_a, &of_b, &of_none]).is_some());
    }
    assert!(check(&a, &[&of_b]).is_some(), "no route has its key");
    assert_eq!(check(&b, &[&of_b]), None);
    keys.tell(&by("x-a"), 2, 2_000);
    let both = naming(&[&of_a, &of_b]);
    let mistake = check_routes(&a, None, &both, &keys);
    assert!(
        mistake.is_some(),
        "the second filter has other settings now"
    );
    keys.tell(&b, 3, 3_000);
    assert_eq!(check_routes(&a, None, &both, &keys), None);
    keys.tell(&a, 1, 300_000);
    assert!(check_routes(&a, None, &both, &keys).is_some(), "it is gone");
    let stored = crate::stored::encode(&keys);
    assert_eq!(crate::stored::decode(&stored), Some(keys));
}

#[test]
fn a_route_that_may_lead_to_the_service_must_hash_what_some_filter_hashes() {
    let a = by("x-a");
    let (right, wrong, nothing) = (hashing("x-a"), hashing("x-b"), route(&[]));
    assert_eq!(alone(&a, &deciding(&[&right])), None);
    let mistake = alone(&a, &deciding(&[&right, &wrong])).unwrap();
    assert!(
        mistake.seen.contains("may lead to the service"),
        "{mistake:?}"
    );
    assert!(alone(&a, &deciding(&[&nothing])).is_some(), "the only way");
    let both = |route: &Route| Routes {
        naming: vec![right.clone()],
        ..deciding(&[route])
    };
    assert_eq!(alone(&a, &both(&nothing)), None, "it may be for others");
    assert!(alone(&a, &both(&wrong)).is_some());
    // It may be for another service, whose filter has that key.
    let other = Settings::of(r#"{"service": "carts", "key": [{"header": "x-b"}]}"#);
    let mut keys = Keys::default();
    keys.tell(&other, 2, 1_000);
    assert_eq!(check_routes(&a, None, &both(&wrong), &keys), None);
    let check = |routes: &Routes| check_routes(&a, None, routes, &keys);
    assert_eq!(check(&deciding(&[&right, &wrong])), None);
    assert!(
        check(&deciding(&[&wrong])).is_some(),
        "no route has its key"
    );
}

#[test]
fn no_route_may_change_what_the_key_hashes() {
    let right = hashing("x-a");
    let (key, keys) = (by("x-a"), Keys::default());
    let check = |route: Route| check_routes(&key, None, &naming(&[&route]), &keys);
    let changing = |name: &str| Route {
        changes: vec![name.to_owned()],
        ..right.clone()
    };
    let mistake = check(changing("x-a")).unwrap();
    assert!(mistake.seen.contains("changes x-a"), "{}", mistake.seen);
    assert_eq!(check(changing("x-other")), None);
    let removing = Route {
        removes_from_requests: vec!["x-a".to_owned()],
        ..right.clone()
    };
    assert!(check(removing).is_some());
}
