//! Probes that go astray, fail, or tell nothing.

use super::*;

/// The codes that the tests here seed.
pub(super) const SEEDED: [Code; 3] = [Code::ProbeElsewhere, Code::ProbeFailed, Code::ProbeUntold];

fn place(name: &str) -> Option<[String; 2]> {
    Some([name.to_owned(), format!("10.0.0.1:{name}")])
}

/// A key of the instance `1`, whose answer names this one.
fn probe(number: usize, instance: &str, reason: Option<&str>) -> Probe {
    Probe {
        key: format!("doctor-{number}"),
        answer: Ok(Answered {
            status: 200,
            instance: Some(instance.to_owned()).filter(|name| !name.is_empty()),
            reason: reason.map(str::to_owned),
        }),
        located: Ok(Located {
            owner: place("1"),
            first: place("1"),
        }),
    }
}

fn judged(probes: &[Probe]) -> Vec<Finding> {
    of_probes("http://127.0.0.1:10000", probes)
}

#[test]
fn an_owner_is_known_by_its_id_and_by_its_address() {
    assert_eq!(
        judged(&[probe(0, "1", None), probe(1, "10.0.0.1:1", Some("primary"))]),
        []
    );
}

#[test]
fn another_instance_is_no_mismatch_where_the_filter_says_why() {
    for reason in ["overflow", "least-loaded", "full", "retry", "ejected"] {
        assert_eq!(judged(&[probe(0, "2", Some(reason))]), [], "{reason}");
    }
    let mut overflowing = probe(0, "2", None);
    overflowing.located = Ok(Located {
        owner: place("1"),
        first: place("2"),
    });
    assert_eq!(judged(&[overflowing]), []);
}

#[test]
fn keys_that_go_elsewhere_are_counted_and_the_first_five_are_named() {
    let probes: Vec<Probe> = (0..7)
        .map(|number| probe(number, "2", Some("fallback")))
        .collect();
    let found = judged(&[probes, vec![probe(7, "1", None)]].concat());
    assert_eq!(codes(&found), BTreeSet::from([Code::ProbeElsewhere]));
    let seen = &found[0].seen;
    assert!(
        seen.starts_with("7 of 8 keys: doctor-0 is at 2 (fallback), belongs to 10.0.0.1:1;"),
        "{seen}"
    );
    assert!(
        seen.contains("doctor-4 ") && !seen.contains("doctor-5 "),
        "{seen}"
    );
    assert!(seen.ends_with("and 2 more"), "{seen}");
}

#[test]
fn probes_without_an_answer_are_told() {
    let mut dead = probe(0, "", None);
    dead.answer = Err("connection refused".to_owned());
    let mut refused = probe(1, "", None);
    refused.answer = Ok(Answered {
        status: 503,
        ..Answered::default()
    });
    let found = judged(&[dead, refused]);
    assert_eq!(codes(&found), BTreeSet::from([Code::ProbeFailed]));
    assert!(
        found[0]
            .seen
            .starts_with("2 of 2 probes have no answer of an instance: connection refused")
    );
    // An error of the instance itself is an answer.
    let mut own = probe(0, "1", None);
    own.answer.as_mut().unwrap().status = 500;
    assert_eq!(judged(&[own]), []);
}

#[test]
fn answers_that_do_not_tell_their_instance_are_told() {
    let found = judged(&[probe(0, "", None)]);
    assert_eq!(codes(&found), BTreeSet::from([Code::ProbeUntold]));
    let mut unknown = probe(0, "1", None);
    unknown.located = Err("no Envoy has reported on it".to_owned());
    let found = judged(&[unknown]);
    assert_eq!(codes(&found), BTreeSet::from([Code::ProbeUntold]));
    assert!(found[0].seen.contains("no Envoy has reported"));
}
