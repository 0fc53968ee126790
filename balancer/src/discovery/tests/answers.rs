//! Answers that are refused, missing or odd, and what is asked for again.

use super::*;

#[test]
fn a_runtime_that_envoy_hides_matters_if_it_may_say_something() {
    let bootstrap = |layers: &str| {
        format!(
            r#"{{"configs": [{{"bootstrap": {{"layered_runtime": {{"layers": [{layers}]}}}}}}]}}"#
        )
    };
    let take = |look: &mut Look, ask, reply: Reply<'_>| look.take("a", ask, reply, (0, 0)).unwrap();
    for (layers, hides) in [
        (r#"{"admin_layer": {}}"#, false),
        (r#"{"rtds_layer": {}}"#, true),
    ] {
        let mut look = configured();
        let layers_are_next = Some(Ask::RuntimeLayers);
        let next = take(&mut look, Ask::Runtime, Reply::Refused);
        assert_eq!(next, layers_are_next);
        let body = bootstrap(layers);
        let missing = look.take("a", Ask::RuntimeLayers, Reply::Missing, (0, 0));
        assert!(missing.is_err());
        assert!(!look.found(None).hides_runtime, "as it was before");
        take(&mut look, Ask::RuntimeLayers, Reply::Body(body.as_bytes()));
        assert_eq!(look.found(None).hides_runtime, hides, "{layers}");
    }
    let mut look = configured();
    take(&mut look, Ask::Runtime, Reply::Refused);
    take(&mut look, Ask::RuntimeLayers, Reply::Refused);
    let next = take(&mut look, Ask::Runtime, Reply::Refused);
    assert_eq!(next, None, "the bootstrap is asked for once");
    assert!(!look.found(None).hides_runtime, "all is unknown");
}

/// A runtime that sets the threshold to this percentage.
fn threshold(percent: u8) -> String {
    format!(
        r#"{{"entries": {{"upstream.healthy_panic_threshold": {{"final_value": "{percent}"}}}}}}"#
    )
}

#[test]
fn a_runtime_is_in_force_once_the_cluster_differs_from_what_was_known_last() {
    let mut look = configured();
    let seven = threshold(7);
    let seven = Reply::Body(seven.as_bytes());
    let of = |look: &Look| look.found(None).runtime.panic_threshold;
    for (ask, reply) in [
        (Ask::Cluster, Reply::Refused),
        (Ask::Cluster, Reply::Body(CLUSTER)),
        (Ask::Endpoints, Reply::Refused),
        (Ask::Endpoints, Reply::Body(ENDPOINTS)),
    ] {
        look.take("a", ask, reply, (0, 0)).unwrap();
        look.take("a", Ask::Runtime, seven, (0, 0)).unwrap();
        assert_eq!(of(&look), None, "{ask:?} {reply:?}");
    }
    let other = br#"{"configs": [{"cluster": {"name": "a"}}]}"#;
    look.take("a", Ask::Cluster, Reply::Body(other), (0, 0))
        .unwrap();
    let mut takes_over = Look::default();
    takes_over.go_on_with(look.in_force());
    for look in [&mut look, &mut takes_over] {
        look.take("a", Ask::Runtime, seven, (0, 0)).unwrap();
        assert_eq!(look.in_force().runtime().panic_threshold, Some(7));
    }
    assert_eq!(takes_over.in_force(), look.in_force());
}

#[test]
fn a_runtime_that_is_too_long_to_be_read_may_say_something() {
    let mut look = configured();
    let long = vec![b' '; runtime::BYTES_MAX + 1];
    let next = look
        .take("a", Ask::Runtime, Reply::Body(&long), (0, 0))
        .unwrap();
    assert_eq!(next, None, "it is not refused");
    assert!(look.found(None).hides_runtime);
}

#[test]
fn no_answer_leaves_what_was_known_in_force_and_is_asked_for_at_the_next_look() {
    let before = configured().found(None);
    let page = page("a", &[host("a", "10.0.0.1:80", &[])]);
    for ask in [Ask::Endpoints, Ask::Cluster, Ask::Runtime] {
        for reply in [Reply::Missing, Reply::Body(b"<html>")] {
            let mut look = configured();
            let next = look.on_page("a", page.as_bytes(), 2_000).unwrap();
            assert_eq!(next, Some(Ask::Endpoints));
            if ask == Ask::Cluster {
                look.take("a", Ask::Endpoints, Reply::Body(ENDPOINTS), (0, 0))
                    .unwrap();
            }
            assert!(
                look.take("a", ask, reply, (0, 0)).is_err(),
                "{ask:?} {reply:?}"
            );
            let found = look.found(None);
            assert_eq!(found.cluster, before.cluster, "{ask:?} {reply:?}");
            assert_eq!(found.overprovisioning_factor, Some(200));
            assert!(!look.waits(), "all was known");
            let next = look.on_page("a", page.as_bytes(), 3_000).unwrap();
            let expected = match ask {
                Ask::Runtime => Ask::Runtime,
                _ => Ask::Endpoints,
            };
            assert_eq!(next, Some(expected), "{ask:?} {reply:?}");
        }
    }
}

#[test]
fn a_configuration_that_was_never_answered_is_waited_for_and_then_taken_for_hidden() {
    let page = page("a", &[host("a", "10.0.0.1:80", &[])]);
    let mut look = Look::default();
    for (now, waits) in [(0, true), (1_000, true), (3_000, false)] {
        let next = look.on_page("a", page.as_bytes(), now).unwrap();
        assert_eq!(next, Some(Ask::Endpoints), "{now}");
        let next = look.take("a", Ask::Endpoints, Reply::Missing, (0, 0));
        assert_eq!(look.waits(), waits, "{now}");
        assert_eq!(next.is_err(), waits, "{now}");
    }
    look.take("a", Ask::Cluster, Reply::Body(CLUSTER), (0, 0))
        .unwrap();
    assert!(look.found(None).cluster.is_some(), "what is shown is used");
}

/// A page of one host with these errors, and as many statuses 500 of it.
fn look_at_errors(look: &mut Look, errors: u64, now_ms: u64) -> bool {
    let errors = errors.to_string();
    let page = page("a", &[host("a", "10.0.0.1:80", &[("rq_error", &errors)])]);
    let mut next = look.on_page("a", page.as_bytes(), now_ms).unwrap();
    while let Some(ask) = next.filter(|ask| *ask != Ask::Statuses) {
        next = look.take("a", ask, Reply::Refused, (0, 0)).unwrap();
    }
    if next.is_none() {
        return false;
    }
    let stats = format!("cluster.a.upstream_rq_retry: 0\ncluster.a.upstream_rq_500: {errors}\n");
    let reply = Reply::Body(stats.as_bytes());
    look.take("a", Ask::Statuses, reply, (now_ms, now_ms + 5))
        .unwrap();
    true
}

#[test]
fn statuses_that_tell_of_no_failure_are_asked_for_less_often() {
    let mut look = Look::new(true);
    let asked = (1..=120).filter(|second| look_at_errors(&mut look, second * 10, second * 1_000));
    assert!(asked.count() < 12);
    let mut never = Look::new(false);
    assert!(!look_at_errors(&mut never, 1, 1_000), "nothing ejects");
}
