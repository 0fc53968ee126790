//! Pages in any order, of VMs that know instances by the same ids or by others.

use super::*;

/// The one kind of VM that there is.
const ALONE: (Ids, bool) = (Ids::Addresses, true);

fn counts(calls: u64, errors: u64, successes: u64) -> HostCounts {
    HostCounts {
        calls,
        errors,
        successes,
        ..HostCounts::default()
    }
}

/// The calls, failures and successes that a page adds, with the times of the page.
fn step(tally: &mut Tally, counts: HostCounts, asked_ms: u64, came_ms: u64) -> (u64, u64, u64) {
    let made = Made { asked_ms, came_ms };
    let growth = tally.take(&[("a".to_owned(), counts)], |_| true, made, ALONE);
    let first = growth.first();
    first.map_or((0, 0, 0), |g| (g.calls, g.failures, g.successes))
}

#[test]
fn what_has_grown_is_told_once_and_a_counter_that_began_anew_counts_whole() {
    let mut tally = Tally::default();
    let mut step = |counts, at| step(&mut tally, counts, at, at + 1);
    assert_eq!(step(counts(5, 1, 4), 10), (5, 1, 4));
    assert_eq!(step(counts(5, 1, 4), 20), (0, 0, 0));
    assert_eq!(step(counts(7, 1, 6), 30), (2, 0, 2));
    assert_eq!(step(counts(3, 1, 2), 40), (3, 1, 2), "a new host object");
}

#[test]
fn a_page_that_may_be_older_than_the_last_one_adds_nothing() {
    let mut tally = Tally::default();
    let mut step = |counts, asked, came| step(&mut tally, counts, asked, came);
    assert_eq!(step(counts(7, 1, 6), 10, 20), (7, 1, 6));
    assert_eq!(step(counts(5, 1, 4), 5, 25), (0, 0, 0));
    assert_eq!(step(counts(9, 1, 8), 21, 30), (2, 0, 2));
    assert_eq!(
        step(counts(10, 1, 9), 3, 4),
        (1, 0, 1),
        "a clock that went back"
    );
}

#[test]
fn an_instance_that_is_not_counted_for_a_while_loses_nothing_and_gains_nothing() {
    let mut tally = Tally::default();
    let mut step = |is_known: bool, calls, at| {
        let page = [("a".to_owned(), counts(calls, 0, calls))];
        let made = Made {
            asked_ms: at,
            came_ms: at,
        };
        let growth = tally.take(&page, |_| is_known, made, ALONE);
        growth.first().map_or(0, |growth| growth.calls)
    };
    assert_eq!(step(false, 5, 1), 0);
    assert_eq!(step(true, 6, 2), 6);
    assert_eq!(step(false, 8, 3), 0);
    assert_eq!(step(true, 9, 4), 3);
}

#[test]
fn a_row_of_failures_ends_with_a_success_and_grows_by_what_is_a_failure_for_certain() {
    let growth = |failures, successes, sure| Growth {
        id: "a".to_owned(),
        calls: 0,
        failures,
        successes,
        sure,
        from_start: false,
        of_service: true,
    };
    assert_eq!(growth(3, 0, 1).failures_in_row(2, Some(0)), 5);
    assert_eq!(growth(3, 0, 1).failures_in_row(2, Some(1)), 4);
    assert_eq!(growth(3, 0, 1).failures_in_row(2, Some(7)), 3, "a time-out");
    assert_eq!(growth(3, 0, 1).failures_in_row(2, None), 3, "not known");
    assert_eq!(growth(9, 1, 9).failures_in_row(2, Some(0)), 0);
    assert_eq!(growth(0, 0, 0).failures_in_row(2, Some(0)), 2);
    let whole = Growth {
        from_start: true,
        ..growth(3, 0, 1)
    };
    assert_eq!(whole.failures_in_row(2, Some(0)), 3, "since who knows when");
}

#[derive(Default)]
struct Two {
    tally: Tally,
    /// Calls that were counted by each kind, and for the service.
    counted: (u64, u64, u64),
}

impl Two {
    /// A look at instances that have had this many calls each: one has a host name, the other none.
    fn look(&mut self, ids: Ids, leads: bool, calls: u64, (asked_ms, came_ms): (u64, u64)) {
        let named = match ids {
            Ids::Addresses => "10.0.0.1:80",
            Ids::Hostnames => "a",
        };
        let page = [named, "10.0.0.2:80"].map(|id| (id.to_owned(), counts(calls, 0, calls)));
        let made = Made { asked_ms, came_ms };
        for growth in self.tally.take(&page, |_| true, made, (ids, leads)) {
            match ids {
                Ids::Addresses => self.counted.0 += growth.calls,
                Ids::Hostnames => self.counted.1 += growth.calls,
            }
            self.counted.2 += if growth.of_service { growth.calls } else { 0 };
        }
    }
}

#[test]
fn vms_that_know_instances_by_other_ids_count_each_attempt_once() {
    let mut two = Two::default();
    for n in 1..=50 {
        // The first sees all, the second an earlier state of each.
        two.look(Ids::Addresses, true, n * 10, (n * 100, n * 100 + 5));
        two.look(
            Ids::Hostnames,
            false,
            n * 10 - 1,
            (n * 100 - 1, n * 100 + 6),
        );
        two.look(Ids::Hostnames, false, n * 10, (n * 100 + 50, n * 100 + 51));
    }
    // The address of the instance without a name is the id of both, and counted by either.
    let (addresses, names, service) = two.counted;
    assert_eq!(addresses + names, 500 + 500 + 500);
    assert!(addresses >= 500 && names >= 500, "{:?}", two.counted);
    assert_eq!(service, 500 + 500);
    assert_eq!(two.tally.seen.len(), 3);
}

#[test]
fn where_other_ids_take_the_lead_nothing_is_counted_twice_and_the_old_ones_are_forgotten() {
    let mut two = Two::default();
    two.look(Ids::Addresses, true, 10, (100, 101));
    two.look(Ids::Hostnames, true, 12, (200, 201));
    two.look(Ids::Addresses, false, 12, (210, 211));
    assert_eq!(two.counted.2, 20, "all of that may be counted already");
    two.look(Ids::Hostnames, true, 20, (300, 301));
    assert_eq!(two.counted.2, 20 + 16);
    // Back: the addresses were not looked at meanwhile.
    two.look(Ids::Addresses, true, 25, (400, 401));
    two.look(Ids::Addresses, true, 26, (500, 501));
    assert_eq!(two.counted.2, 36 + 2);
    two.look(Ids::Addresses, true, 26, (502, 502 + KEPT_MS));
    assert_eq!(two.tally.seen.len(), 2, "the name is forgotten");
}

#[test]
fn an_instance_that_is_gone_and_comes_back_is_counted_anew() {
    let mut tally = Tally::default();
    let page = [("a".to_owned(), counts(5, 0, 5))];
    let made = |at| Made {
        asked_ms: at,
        came_ms: at,
    };
    assert_eq!(tally.take(&page, |_| true, made(1), ALONE).len(), 1);
    assert!(tally.take(&[], |_| true, made(2), ALONE).is_empty());
    let again = tally.take(&page, |_| true, made(3), ALONE);
    assert_eq!(again.first().map(|growth| growth.calls), Some(5));
}
