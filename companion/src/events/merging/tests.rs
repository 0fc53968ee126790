//! The rule on histories, in and out of order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use EventKind::{Added, Ejected, Overloaded, Recovered, Relieved, Removed, Warmed};

/// An entry of a log: its kind, reason and times, and how many events it stands for.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    kind: EventKind,
    print: u64,
    at_ms: u64,
    first_ms: u64,
    last_ms: u64,
    seen_by: u64,
}

fn event(at_ms: u64, kind: EventKind, reason: u64) -> Sketch {
    let print = reason << 8 | kind as u64;
    Sketch { at_ms, kind, print }
}

/// The log of one instance after these events, in order of arrival.
fn log(events: &[Sketch]) -> Vec<Line> {
    let (mut latest, mut lines) = (Latest::default(), Vec::<Line>::new());
    for event in events {
        if let Some(counted) = latest.count(event, |_| true) {
            let line = &mut lines[usize::try_from(counted.number).unwrap()];
            line.seen_by += 1;
            (line.first_ms, line.last_ms) = (counted.first_ms, counted.last_ms);
            continue;
        }
        latest.add(event, lines.len() as u64);
        lines.push(Line {
            kind: event.kind,
            print: event.print,
            at_ms: event.at_ms,
            first_ms: event.at_ms,
            last_ms: event.at_ms,
            seen_by: 1,
        });
    }
    lines
}

fn told(events: &[(u64, EventKind)]) -> Vec<(EventKind, u64)> {
    let events: Vec<Sketch> = events
        .iter()
        .map(|(at, kind)| event(*at, *kind, 0))
        .collect();
    log(&events)
        .iter()
        .map(|line| (line.kind, line.seen_by))
        .collect()
}

#[test]
fn what_many_see_within_the_window_is_one_entry() {
    let many: Vec<_> = (0..998).map(|number| (number * 10, Ejected)).collect();
    assert_eq!(told(&many), [(Ejected, 998)]);
    assert_eq!(told(&[(0, Ejected), (WINDOW_MS, Ejected)]), [(Ejected, 2)]);
    let apart = told(&[(0, Ejected), (WINDOW_MS + 1, Ejected)]);
    assert_eq!(apart, [(Ejected, 1); 2]);
    // The whole entry lies within it, however short the steps are.
    let steps: Vec<_> = (0..=30).map(|number| (number * 1_000, Ejected)).collect();
    assert_eq!(told(&steps), [(Ejected, 11), (Ejected, 11), (Ejected, 9)]);
}

#[test]
fn a_flap_is_never_hidden() {
    let flap = [(0, Ejected), (1, Recovered), (2, Ejected), (3, Recovered)];
    assert_eq!(told(&flap).len(), 4);
    // Two Envoys saw it, and the report of one is late.
    let late = [
        (0, Ejected),
        (5, Recovered),
        (1, Ejected),
        (6, Recovered),
        (7, Ejected),
    ];
    assert_eq!(told(&late), [(Ejected, 2), (Recovered, 2), (Ejected, 1)]);
    // Through a removal.
    let back = [(0, Ejected), (1, Removed), (2, Added), (3, Ejected)];
    assert_eq!(told(&back).len(), 4);
    let hot = [(0, Overloaded), (1, Relieved), (2, Overloaded)];
    assert_eq!(told(&hot).len(), 3);
    // At one moment.
    assert_eq!(told(&[(4, Ejected), (4, Recovered), (4, Ejected)]).len(), 3);
}

#[test]
fn what_does_not_concern_the_state_lies_between() {
    let events = [(0, Ejected), (1, Overloaded), (2, Ejected), (3, Overloaded)];
    assert_eq!(told(&events), [(Ejected, 2), (Overloaded, 2)]);
    let warm = [(0, Recovered), (1, Warmed), (2, Recovered), (3, Warmed)];
    assert_eq!(told(&warm), [(Recovered, 2), (Warmed, 2)]);
}

#[test]
fn an_event_for_another_reason_is_another_entry() {
    let events = [(0, 1), (1, 2), (2, 1), (3, 2)].map(|(at, why)| event(at, Ejected, why));
    let seen: Vec<u64> = log(&events).iter().map(|line| line.seen_by).collect();
    assert_eq!(seen, [2, 2]);
}

#[test]
fn a_late_event_is_counted_with_the_flap_it_belongs_to() {
    let events = [
        (10, Ejected),
        (30, Recovered),
        (50, Ejected),
        (12, Ejected),
        (51, Ejected),
    ];
    assert_eq!(told(&events), [(Ejected, 2), (Recovered, 1), (Ejected, 2)]);
}

#[test]
fn an_entry_that_is_gone_takes_no_more() {
    let mut latest = Latest::default();
    latest.add(&event(5, Ejected, 0), 1);
    assert_eq!(latest.count(&event(5, Ejected, 0), |_| false), None);
    assert!(
        latest
            .count(&event(5, Ejected, 0), |number| number == 1)
            .is_some()
    );
}

#[test]
fn who_observed_it_is_a_part_of_what_is_equal() {
    use crate::events::Event;
    let (service, instance) = ("orders".parse().unwrap(), "a".parse().unwrap());
    let own = Event::registry(Ejected, &service, &instance, "draining", 5);
    let by = |reporter: &str| Event {
        reporter: Some(reporter.parse().unwrap()),
        ..own.clone()
    };
    let in_unit = |unit: &str| Event {
        unit: Some(unit.parse().unwrap()),
        ..own.clone()
    };
    assert_eq!(Sketch::of(&by("e1")), Sketch::of(&by("e2")));
    let all = [own.clone(), by("e1"), in_unit("west"), in_unit("reporter2")];
    let prints: BTreeSet<u64> = all.iter().map(|event| Sketch::of(event).print).collect();
    assert_eq!(prints.len(), all.len());
}

/// The last state, by the clocks of the observers: the kinds of events that were seen at the latest moment.
fn last_state(lines: &[Line], kinds: &[EventKind]) -> BTreeSet<EventKind> {
    let own = || lines.iter().filter(|line| kinds.contains(&line.kind));
    let last = own().map(|line| line.last_ms).max();
    own()
        .filter(|line| Some(line.last_ms) == last)
        .map(|line| line.kind)
        .collect()
}

/// The states one after another, as a reader of the lines sees them.
fn turns(lines: &[Line], kinds: &[EventKind]) -> Vec<EventKind> {
    let own = lines.iter().filter(|line| kinds.contains(&line.kind));
    let mut turns: Vec<EventKind> = own.map(|line| line.kind).collect();
    turns.dedup();
    turns
}

fn unmerged(events: &[Sketch]) -> Vec<Line> {
    let lines = events.iter().map(|event| log(&[*event]).remove(0));
    lines.collect()
}

const STATES: [&[EventKind]; 3] = [
    &[Added, Removed],
    &[Ejected, Recovered],
    &[Overloaded, Relieved],
];

/// The number of events after which an instance can be unsettled.
fn few_events() -> impl Strategy<Value = Vec<Sketch>> {
    any_events().prop_map(|mut events| {
        events.truncate(LATEST_MAX);
        events
    })
}

/// A thousand Envoys that eject an instance within `spread_ms`, each for five seconds.
fn wave(spread_ms: u64) -> Vec<Sketch> {
    let mut events = Vec::new();
    for number in 0..1_000 {
        // Evenly spread, in another order than the reports arrive.
        let at_ms = number * 617 % 1_000 * spread_ms / 1_000;
        let late_ms = number * 389 % 1_000;
        for (at_ms, kind) in [(at_ms, Ejected), (at_ms + 5_000, Recovered)] {
            events.push((at_ms + late_ms, event(at_ms, kind, 0)));
        }
    }
    events.sort_by_key(|(arrives_ms, _)| *arrives_ms);
    events.into_iter().map(|(_, event)| event).collect()
}

#[test]
fn envoys_that_disagree_make_a_few_entries_a_second_and_the_last_says_how_it_ended() {
    for (spread_ms, most) in [
        (2_000, 2),
        (4_000, 2),
        (10_000, 70),
        (30_000, 200),
        (60_000, 260),
    ] {
        let lines = log(&wave(spread_ms));
        assert!(lines.len() <= most, "{spread_ms}: {}", lines.len());
        assert_eq!(lines.last().unwrap().kind, Recovered);
        let seen: u64 = lines.iter().map(|line| line.seen_by).sum();
        assert_eq!(seen, 2_000);
    }
}

fn any_events() -> impl Strategy<Value = Vec<Sketch>> {
    let kinds = [
        Added, Removed, Ejected, Recovered, Warmed, Overloaded, Relieved,
    ];
    let one = (0..15_000u64, prop::sample::select(kinds.to_vec()), 0..2u64);
    prop::collection::vec(one.prop_map(|(at, kind, why)| event(at, kind, why)), 0..120)
}

proptest! {
    #[test]
    fn with_and_without_merging_a_log_tells_the_same_last_state_and_the_same_number(
        events in any_events(),
    ) {
        let (lines, all) = (log(&events), unmerged(&events));
        for kinds in STATES {
            prop_assert_eq!(last_state(&lines, kinds), last_state(&all, kinds));
        }
        let counted: u64 = lines.iter().map(|line| line.seen_by).sum();
        prop_assert_eq!(counted, events.len() as u64);
        for line in &lines {
            prop_assert!(line.last_ms - line.first_ms <= WINDOW_MS);
            prop_assert!((line.first_ms..=line.last_ms).contains(&line.at_ms));
        }
    }

    #[test]
    fn in_order_of_time_a_log_with_merging_tells_each_turn(events in few_events()) {
        let mut events = events;
        events.sort_by_key(|event| event.at_ms);
        let (lines, all) = (log(&events), unmerged(&events));
        for kinds in STATES {
            prop_assert_eq!(turns(&lines, kinds), turns(&all, kinds));
        }
    }

    #[test]
    fn no_event_is_counted_across_a_contrary_one_that_came_before(events in few_events()) {
        let (mut latest, mut entry_of) = (Latest::default(), Vec::<u64>::new());
        for (at, new) in events.iter().enumerate() {
            let Some(counted) = latest.count(new, |_| true) else {
                latest.add(new, at as u64);
                entry_of.push(at as u64);
                continue;
            };
            entry_of.push(counted.number);
            let lies_within = |other: &Sketch| {
                undone_by(new.kind).contains(&other.kind)
                    && (counted.first_ms..=counted.last_ms).contains(&other.at_ms)
            };
            prop_assert!(!events[..at].iter().any(lies_within));
            let own = events[..=at].iter().zip(&entry_of);
            let own = own.filter(|(_, entry)| **entry == counted.number);
            prop_assert!(own.clone().all(|(event, _)| event.print == new.print));
        }
    }
}
