//! What the statuses of answers say.

use super::*;
use proptest::prelude::*;

fn lines(counts: &[(&str, u64)]) -> Statuses {
    let line = |(name, count): &(&str, u64)| format!("cluster.a.b.{name}: {count}\n");
    let body: String = counts.iter().map(line).collect();
    read("a.b", body.as_bytes()).unwrap()
}

#[test]
fn gateway_failures_are_told_from_what_envoy_merely_counts_as_errors() {
    let seen = lines(&[
        ("retry.upstream_rq_503", 100),
        ("retry.upstream_rq_429", 1),
        ("retry.upstream_rq_500", 2),
        ("retry.upstream_rq_200", 7),
        ("upstream_rq_200", 50),
        ("upstream_rq_404", 60),
        ("upstream_rq_500", 4),
        ("upstream_rq_501", 8),
        ("upstream_rq_502", 200),
        ("upstream_rq_504", 200),
    ]);
    assert_eq!((seen.answers, seen.retried_ok), (15, 7));
    assert_eq!(read("a", b"").unwrap(), Statuses::default());
    for wrong in [
        "cluster.other.upstream_rq_200: 1",
        "cluster.a.upstream_rq_2xx: 1",
        "cluster.a.upstream_rq_200: many",
        "cluster.a.retry.upstream_rq_completed: 1",
        "<html>",
    ] {
        assert!(read("a", wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn growth_is_since_a_reading_from_before_the_last_page() {
    let at = |retried, completed| {
        lines(&[
            ("retry.upstream_rq_409", retried),
            ("upstream_rq_retry", retried),
            ("upstream_rq_200", completed),
        ])
    };
    let mut readings = Readings::default();
    let mut look = |statuses: Option<Option<Statuses>>| {
        readings.begin_look();
        if let Some(statuses) = statuses {
            readings.take(statuses, true);
        }
        readings.growth().answers(false)
    };
    assert_eq!(look(Some(Some(at(1, 1)))), None, "nothing to compare with");
    assert_eq!(look(Some(Some(at(2, 1)))), None, "after the last page");
    assert_eq!(look(Some(Some(at(4, 1)))), Some(3));
    assert_eq!(look(Some(Some(at(8, 1)))), Some(6));
    assert_eq!(look(None), None, "not asked");
    assert_eq!(look(Some(Some(at(16, 1)))), Some(8));
    assert_eq!(look(Some(Some(at(0, 1)))), None, "started anew");
    assert_eq!(look(Some(None)), None);
}

#[test]
fn where_statuses_are_hidden_the_routes_tell_whether_errors_are_failures() {
    let mut readings = Readings::default();
    assert_eq!(readings.growth().answers(true), None, "nobody has asked");
    readings.take(None, true);
    assert_eq!(readings.hidden(), Some(Hidden::Refused));
    readings.begin_look();
    let growth = readings.growth();
    assert_eq!(growth, Seen::Hidden, "also at looks that do not ask");
    assert_eq!(
        (growth.answers(true), growth.answers(false)),
        (Some(0), None)
    );
    let hidden = |counts: &[(&str, u64)], served| {
        let mut readings = Readings::default();
        readings.take(Some(lines(counts)), served);
        readings.hidden()
    };
    let retry = ("upstream_rq_retry", 0);
    assert_eq!(
        hidden(&[], false),
        Some(Hidden::NotKept),
        "every cluster has it"
    );
    assert_eq!(hidden(&[retry], false), None, "nothing has run");
    assert_eq!(hidden(&[retry], true), Some(Hidden::NotKept));
    let completed = ("upstream_rq_completed", 1);
    assert_eq!(hidden(&[retry, completed], false), Some(Hidden::NotKept));
    assert_eq!(hidden(&[retry, ("upstream_rq_503", 1)], false), None);
}

#[test]
fn retries_of_which_no_status_is_kept_may_be_of_anything() {
    let at = |retries, resets, retried, ok| {
        lines(&[
            ("upstream_rq_retry", retries),
            ("upstream_cx_destroy_remote_with_active_rq", resets),
            ("upstream_rq_pending_failure_eject", resets),
            ("retry.upstream_rq_503", retried),
            ("upstream_rq_200", ok),
        ])
    };
    let grown = |before: Statuses, now: Statuses| {
        let mut readings = Readings::default();
        readings.take(Some(before), true);
        for _ in 0..2 {
            readings.begin_look();
        }
        readings.take(Some(now), true);
        let growth = readings.growth();
        (
            growth.answers(false),
            growth.answers(true),
            readings.hidden(),
        )
    };
    let explained = grown(at(0, 0, 0, 1), at(7, 2, 3, 1));
    assert_eq!(explained, (Some(0), Some(0), None), "503 and resets");
    let resets = grown(at(0, 0, 0, 1), at(4, 2, 0, 1));
    assert_eq!(resets, (Some(0), Some(0), None), "resets alone");
    let unexplained = grown(at(0, 0, 0, 1), at(9, 0, 0, 1));
    let hidden = Some(Hidden::RetriesNotKept);
    assert_eq!(unexplained, (Some(9), Some(0), hidden));
    let some = grown(at(5, 0, 5, 1), at(9, 0, 6, 1));
    assert_eq!(some, (Some(3), Some(0), None), "some are kept");
}

#[test]
fn statuses_decide_where_a_host_has_errors_of_an_unknown_kind_and_no_success() {
    let page = |hosts: &[(u64, u64, u64)]| {
        let host = |(n, (errors, sure, successes)): (usize, &(u64, u64, u64))| {
            format!(
                "a::10.0.0.1:{n}::cx_active::0\na::10.0.0.1:{n}::rq_error::{errors}\n\
                 a::10.0.0.1:{n}::rq_timeout::{sure}\na::10.0.0.1:{n}::rq_success::{successes}\n"
            )
        };
        let text: String = hosts.iter().enumerate().map(host).collect();
        super::super::page::read("a", text.as_bytes()).unwrap()
    };
    let before = page(&[(1, 1, 5), (0, 0, 0)]);
    let errors = |now: &[(u64, u64, u64)]| {
        let all = undecided(&before, &page(now));
        all.into_iter()
            .map(|(_, errors)| errors)
            .collect::<Vec<_>>()
    };
    let none = Vec::<u64>::new();
    assert_eq!(errors(&[(1, 1, 5), (0, 0, 0)]), none);
    assert_eq!(errors(&[(4, 4, 5), (0, 0, 0)]), none, "time-outs");
    assert_eq!(errors(&[(4, 1, 6), (0, 0, 0)]), none, "it works");
    assert_eq!(errors(&[(4, 1, 5), (0, 0, 1)]), [3]);
    assert_eq!(
        errors(&[(1, 1, 5), (0, 0, 0), (1, 0, 0)]),
        [1],
        "a new host"
    );
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes: Vec<u8>) {
        drop(read("a", &bytes));
    }
}
