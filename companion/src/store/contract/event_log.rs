//! The contract of a store for the event log: which events are one entry, and how large it grows.

use unitring_protocol::report::{EventKind, InstanceEvent, Report};

use crate::events::merging::{LATEST_MAX, WINDOW_MS};
use crate::events::{Entry, Event, GroupChange, GroupEvent};
use crate::loads::samples;
use crate::registry::Registered;
use crate::store::{EVENTS_BYTES_MAX, Logged, Store};
use EventKind::{Added, Ejected, Recovered, Removed};

/// Takes a report of these events of an instance; returns their outcome.
async fn tell(store: &dyn Store, reporter: &str, events: &[(u64, EventKind)]) -> Logged {
    tell_within(store, reporter, "a", events, EVENTS_BYTES_MAX).await
}

async fn tell_within(
    store: &dyn Store,
    reporter: &str,
    instance: &str,
    events: &[(u64, EventKind)],
    room: u64,
) -> Logged {
    let events = events.iter().map(|(at_ms, kind)| InstanceEvent {
        at_ms: *at_ms,
        reason: "seen".to_owned(),
        ..samples::event(*kind, &samples::instance(instance), 0)
    });
    take(store, reporter, events.collect(), room).await
}

/// Takes a report of events, which get the next numbers.
async fn take(
    store: &dyn Store,
    reporter: &str,
    mut events: Vec<InstanceEvent>,
    room: u64,
) -> Logged {
    let loads = store.loads(&"logged".parse().unwrap(), 1).await.unwrap();
    let last = loads.iter().find(|load| load.reporter.as_str() == reporter);
    let (through, sequence) = last.map_or((0, 0), |last| (last.events_through, last.sequence));
    for (number, event) in (through + 1..).zip(&mut events) {
        event.number = number;
    }
    let report: Report = samples::report((reporter, sequence + 1), "logged", vec![], events);
    let taken = store.take(&samples::load_report(&report), room, 1).await;
    taken.unwrap().logged
}

/// The log of a service from its beginning.
async fn log(store: &dyn Store) -> Vec<Event> {
    let (mut all, mut after) = (Vec::new(), "0".parse().unwrap());
    loop {
        let page = store.events(Some(after), 1_000).await.unwrap();
        let Some((last, _)) = page.last() else {
            return all;
        };
        after = *last;
        all.extend(page.into_iter().filter_map(|(_, entry)| match entry {
            Entry::Instance(event) if event.service.as_str() == "logged" => Some(event),
            _ => None,
        }));
    }
}

/// The kind of each entry, its first observer, the number of observers, and until when they saw it.
async fn told(store: &dyn Store) -> Vec<(EventKind, String, u64, Option<u64>)> {
    let entries = log(store).await.into_iter().map(|event| {
        let first = event.reporter.map_or("-".to_owned(), |it| it.to_string());
        (event.kind, first, event.seen_by, event.last_at_ms)
    });
    entries.collect()
}

pub async fn what_many_report_is_one_entry_with_their_number(store: &dyn Store) {
    for (number, at_ms) in [(1, 1_000), (2, 1_200), (3, 900), (4, 3_000)] {
        let logged = tell(store, &format!("e{number}"), &[(at_ms, Ejected)]).await;
        assert_eq!(
            (logged.stored, logged.counted),
            (u64::from(number == 1), u64::from(number > 1))
        );
    }
    let first = || "e1".to_owned();
    assert_eq!(told(store).await, [(Ejected, first(), 4, Some(3_000))]);
    let entry = log(store).await.remove(0);
    assert_eq!(
        (entry.at_ms, entry.ring.as_str(), entry.moved),
        (1_000, "r", 0.25)
    );
    // As one of another instance, and after the window.
    tell_within(store, "e2", "b", &[(1_000, Ejected)], EVENTS_BYTES_MAX).await;
    tell(store, "e2", &[(901 + WINDOW_MS, Ejected)]).await;
    let seen: Vec<u64> = told(store)
        .await
        .iter()
        .map(|(_, _, seen_by, _)| *seen_by)
        .collect();
    assert_eq!(seen, [4, 1, 1]);
}

pub async fn a_flap_has_an_entry_for_each_turn_in_whatever_order_it_is_told(store: &dyn Store) {
    let before = log(store).await.len();
    let at = |ms: u64| 100_000 + ms;
    tell(
        store,
        "e1",
        &[(at(0), Ejected), (at(10), Recovered), (at(20), Ejected)],
    )
    .await;
    // The others are late, and report all events at once.
    for reporter in ["e2", "e3"] {
        tell(
            store,
            reporter,
            &[(at(1), Ejected), (at(11), Recovered), (at(21), Ejected)],
        )
        .await;
    }
    // Another way of ending it.
    tell(
        store,
        "e2",
        &[(at(30), Removed), (at(31), Added), (at(32), Ejected)],
    )
    .await;
    let told = told(store).await.split_off(before);
    let told: Vec<_> = told
        .iter()
        .map(|(kind, _, seen_by, _)| (*kind, *seen_by))
        .collect();
    let turns = [
        (Ejected, 3),
        (Recovered, 3),
        (Ejected, 3),
        (Removed, 1),
        (Added, 1),
        (Ejected, 1),
    ];
    assert_eq!(told, turns);
    let last = log(store).await.pop().unwrap();
    assert_eq!((last.kind, last.at_ms), (Ejected, at(32)));
}

/// More turns within the window than are remembered.
pub async fn an_event_is_not_counted_across_what_is_forgotten(store: &dyn Store) {
    let before = log(store).await.len();
    let at = |number: usize| 200_000 + 1_001 * number as u64;
    let turns = LATEST_MAX + 4;
    for number in 0..turns {
        let kind = if number % 2 == 0 { Ejected } else { Recovered };
        tell(store, "e1", &[(at(number), kind)]).await;
    }
    assert_eq!(log(store).await.len(), before + turns);
    // The first is forgotten, the last is not.
    let logged = tell(store, "e2", &[(at(0), Ejected), (at(turns - 1), Recovered)]).await;
    assert_eq!((logged.stored, logged.counted), (1, 1));
}

/// Events of the registry and of the leader separate entries, too.
pub async fn other_events_lie_between_too_and_are_their_own(store: &dyn Store) {
    let before = log(store).await.len();
    let instance = Registered {
        id: "c".parse().unwrap(),
        address: "10.0.0.3:80".parse().unwrap(),
        weight: 1.try_into().unwrap(),
        draining: false,
        expires_ms: None,
    };
    let service = "logged".parse().unwrap();
    let tell = async |reporter: &str, at_ms, kind| {
        tell_within(store, reporter, "c", &[(at_ms, kind)], EVENTS_BYTES_MAX).await
    };
    store
        .register(&service, &instance, false, 300_000)
        .await
        .unwrap();
    tell("e1", 300_001, Added).await;
    store
        .unregister(&service, &instance.id, 300_002)
        .await
        .unwrap();
    tell("e2", 300_003, Added).await;
    let unit: Event = Event {
        unit: Some("west".parse().unwrap()),
        ..Event::registry(Added, &service, &instance.id, "seen", 300_004)
    };
    for _ in 0..2 {
        let entry = Entry::Instance(unit.clone());
        assert!(store.append(1, &entry).await.unwrap());
    }
    let group = Entry::Group(GroupEvent {
        at_ms: 300_004,
        kind: GroupChange::GroupDegraded,
        reason: "no replica".to_owned(),
    });
    for _ in 0..2 {
        assert!(store.append(1, &group).await.unwrap());
    }
    let told = told(store).await.split_off(before);
    let told: Vec<_> = told
        .iter()
        .map(|(kind, by, seen, _)| (*kind, by.as_str(), *seen))
        .collect();
    let all = [
        (Added, "-", 1),
        (Added, "e1", 1),
        (Removed, "-", 1),
        (Added, "e2", 1),
        (Added, "-", 2),
    ];
    assert_eq!(told, all);
    let last = store.events(None, 2).await.unwrap();
    assert!(last.iter().all(|(_, entry)| *entry == group));
}

pub async fn a_reporter_without_room_is_left_out_and_still_counted_with_others(store: &dyn Store) {
    let before = log(store).await.len();
    let events = [(400_000, Ejected), (400_001, Recovered)];
    let logged = tell_within(store, "e1", "d", &events, 0).await;
    assert_eq!((logged.stored, logged.left_out), (0, 2));
    let logged = tell_within(store, "e2", "d", &events[..1], EVENTS_BYTES_MAX).await;
    let room = logged.bytes;
    assert_eq!((logged.stored, room > 100), (1, true));
    let logged = tell_within(store, "e1", "d", &events, 0).await;
    assert_eq!((logged.counted, logged.left_out), (1, 1));
    assert_eq!(log(store).await.len(), before + 1);
    // As many as it has.
    let events: Vec<_> = (0..4)
        .map(|number| (500_000 + number * 20_000, Ejected))
        .collect();
    let logged = tell_within(store, "e3", "d", &events, 2 * room).await;
    assert_eq!(
        (logged.stored, logged.left_out, logged.bytes),
        (2, 2, 2 * room)
    );
}

/// Events of a report that fills the log: few enough that a store on a busy disk answers in time.
const FILLED_AT_ONCE: usize = 200;

/// Logs events with the longest entries.
async fn fill(store: &dyn Store, reporter: &str, count: u64) {
    let events = (0..count).map(|number| InstanceEvent {
        at_ms: 1_000_000 + number,
        reason: format!("{number} {}", "\u{1}".repeat(256)),
        ..samples::event(Ejected, &samples::instance("full"), 0)
    });
    let mut events: Vec<InstanceEvent> = events.collect();
    while !events.is_empty() {
        let rest = events.split_off(events.len().min(FILLED_AT_ONCE));
        take(
            store,
            reporter,
            std::mem::replace(&mut events, rest),
            EVENTS_BYTES_MAX,
        )
        .await;
    }
}

pub async fn the_log_has_so_many_bytes_and_the_oldest_entries_go(store: &dyn Store) {
    let size = store.log_size().await.unwrap();
    let all = store
        .events(Some("0".parse().unwrap()), 1_000)
        .await
        .unwrap();
    assert_eq!(size.entries, all.len() as u64);
    assert_eq!(size.oldest_ms, Some(all[0].1.at_ms()));
    // No entry has been dropped so far.
    fill(store, "filler", 12_000).await;
    let full = store.log_size().await.unwrap();
    assert!(
        full.bytes > EVENTS_BYTES_MAX - 4_000 && full.bytes <= EVENTS_BYTES_MAX,
        "{full:?}"
    );
    let kept = log(store).await;
    assert_eq!(kept.len() as u64, full.entries);
    assert!(full.oldest_ms.unwrap() > 1_000_000, "{full:?}");
    // The last is there, and events are counted with it still.
    assert!(kept.last().unwrap().reason.starts_with("11999 "));
    let mean = full.bytes / full.entries;
    assert!((1_500..2_500).contains(&mean), "{mean}");
    let logged = tell_within(store, "e1", "z", &[(2_000_000, Ejected)], EVENTS_BYTES_MAX).await;
    assert_eq!(logged.stored, 1);
    let again = tell_within(store, "e2", "z", &[(2_000_000, Ejected)], EVENTS_BYTES_MAX).await;
    assert_eq!(again.counted, 1);
    // An event whose entry has been dropped meanwhile gets a new one.
    fill(store, "filler", 11_000).await;
    let again = tell_within(store, "e3", "z", &[(2_000_000, Ejected)], EVENTS_BYTES_MAX).await;
    assert_eq!((again.stored, again.counted), (1, 0));
    assert!(store.log_size().await.unwrap().bytes <= EVENTS_BYTES_MAX);
}

/// Both stores log a history of events in the same way.
pub async fn event_logs_are_alike(rust: &dyn Store, lua: &dyn Store, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let kinds = [
        Added,
        Removed,
        Ejected,
        Recovered,
        EventKind::Warmed,
        EventKind::Overloaded,
        EventKind::Relieved,
    ];
    for number in 0..80 {
        let reporter = format!("e{}", draw(5));
        let count = draw(6);
        let events = (0..count).map(|_| InstanceEvent {
            at_ms: 5_000 + draw(if number < 30 { 40_000 } else { 4_000 }),
            reason: format!("reason {}", draw(2)),
            ..samples::event(
                kinds[usize::try_from(draw(7)).unwrap()],
                &samples::instance(["a", "b"][usize::try_from(draw(2)).unwrap()]),
                0,
            )
        });
        let events: Vec<InstanceEvent> = events.collect();
        let room = if draw(8) == 0 {
            draw(600)
        } else {
            EVENTS_BYTES_MAX
        };
        let one = take(rust, &reporter, events.clone(), room).await;
        let other = take(lua, &reporter, events, room).await;
        assert_eq!(one, other, "seed {seed}");
    }
    assert_eq!(log(rust).await, log(lua).await, "seed {seed}");
}
