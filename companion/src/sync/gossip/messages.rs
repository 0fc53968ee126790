//! A unit's loads and events → messages that no broker refuses, for any number of services and any length of their
//! names. A service may be split over several messages, since each reporter's part counts alone.

use std::collections::BTreeMap;

use serde::Serialize;
use unitring_protocol::envelope::{Body, ReporterLoads, ServiceLoads, UnitEvent};
use unitring_protocol::ids::InstanceId;

use crate::sync::machine::message::{MESSAGE_BYTES_MAX, json_bytes};

/// Most bytes of a message, unless a single reporter has more.
const MESSAGE_BYTES: usize = 1 << 20;
/// Most bytes of a message beside its entries.
const HEAD_BYTES: usize = 1 << 10;

/// The bytes for entries in a message of at most so many, to brokers with this limit.
pub(super) fn room(most: usize, limit: Option<usize>) -> usize {
    limit.unwrap_or(most).min(most).saturating_sub(HEAD_BYTES)
}

/// Loads as messages, and the reporters whose smallest loads no message has room for, each with the reason.
pub(super) struct Told {
    pub(super) messages: Vec<Body>,
    pub(super) cut: BTreeMap<String, String>,
}

/// Splits loads into messages: at least one, since an empty one says that the unit has no load.
pub(super) fn loads(services: Vec<ServiceLoads>, limit: Option<usize>) -> Told {
    let (room, most) = (room(MESSAGE_BYTES, limit), room(MESSAGE_BYTES_MAX, limit));
    let (mut messages, mut cut) = (Vec::new(), BTreeMap::new());
    let (mut message, mut bytes) = (Vec::<ServiceLoads>::new(), 0);
    for ServiceLoads { service, reporters } in services {
        let frame = json_bytes(&service) + HEAD_BYTES / 16;
        for mut told in reporters {
            let mut size = frame + json_bytes(&told) + 1;
            if size > most {
                let left_out = keep_greatest(&mut told, most.saturating_sub(frame));
                let why = format!(
                    "the {left_out} instances with least load are left out: a message has {most} bytes"
                );
                cut.insert(format!("loads of {} for {service}", told.reporter), why);
                size = frame + json_bytes(&told) + 1;
            }
            if bytes > 0 && bytes + size > room {
                messages.push(std::mem::take(&mut message));
                bytes = 0;
            }
            bytes += size;
            match message.last_mut() {
                Some(last) if last.service == service => last.reporters.push(told),
                _ => message.push(ServiceLoads {
                    service: service.clone(),
                    reporters: vec![told],
                }),
            }
        }
    }
    messages.push(message);
    let body = |services| Body::Loads { services };
    let messages = messages.into_iter().map(body).collect();
    Told { messages, cut }
}

/// Keeps the greatest loads of a reporter that fit; returns how many it leaves out.
fn keep_greatest(told: &mut ReporterLoads, room: usize) -> usize {
    let (in_flight, update_load) = (
        std::mem::take(&mut told.in_flight),
        std::mem::take(&mut told.update_load),
    );
    let of_updates = update_load.into_iter().map(|(id, load)| (load, id, true));
    let mut all: Vec<(u64, InstanceId, bool)> = in_flight
        .into_iter()
        .map(|(id, load)| (load, id, false))
        .chain(of_updates)
        .collect();
    all.sort_by_key(|(load, ..)| std::cmp::Reverse(*load));
    let count = all.len();
    let mut bytes = json_bytes(told) + HEAD_BYTES / 16;
    for (load, id, is_of_updates) in all {
        bytes += json_bytes(&id) + json_bytes(&load) + 2;
        if bytes > room {
            break;
        }
        let loads = match is_of_updates {
            true => &mut told.update_load,
            false => &mut told.in_flight,
        };
        loads.insert(id, load);
    }
    count - told.in_flight.len() - told.update_load.len()
}

/// Splits events into messages.
pub(super) fn events(events: Vec<UnitEvent>, limit: Option<usize>) -> Vec<Body> {
    let room = room(MESSAGE_BYTES, limit);
    let split = split(events, room).into_iter();
    split.map(|events| Body::Events { events }).collect()
}

/// Splits entries into lists of at most this many bytes, unless a single entry has more.
fn split<T: Serialize>(entries: Vec<T>, room: usize) -> Vec<Vec<T>> {
    let (mut lists, mut bytes) = (Vec::<Vec<T>>::new(), 0);
    for entry in entries {
        let size = json_bytes(&entry) + 1;
        match lists.last_mut() {
            Some(last) if bytes + size <= room => last.push(entry),
            _ => {
                lists.push(vec![entry]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    lists
}

#[cfg(test)]
mod tests {
    use unitring_protocol::report::EventKind;

    use super::*;
    use crate::sync::machine::message::encode;

    /// A limit of a broker that is below every bound of ours.
    const LIMIT: usize = 40_000;

    fn service(number: usize, instances: usize) -> ServiceLoads {
        let quotes = "\"".repeat(500);
        let id = |at: usize| format!("{}{at:05}", "\\".repeat(250)).parse().unwrap();
        let load = |at: usize| u64::MAX - at as u64;
        ServiceLoads {
            service: format!("{quotes}{number:05}").parse().unwrap(),
            reporters: vec![ReporterLoads {
                reporter: format!("{}{number:05}", "\\".repeat(250)).parse().unwrap(),
                sequence: u64::MAX,
                interval_ms: u64::MAX,
                in_flight: (0..instances).map(|at| (id(at), load(at))).collect(),
                update_load: (0..instances).map(|at| (id(at), load(at))).collect(),
            }],
        }
    }

    fn bytes(body: &Body) -> usize {
        encode(&"east".parse().unwrap(), body).unwrap().len()
    }

    #[test]
    fn as_many_loads_of_the_longest_names_as_are_told_fit_into_messages() {
        for limit in [None, Some(LIMIT)] {
            let all: Vec<ServiceLoads> = (0..2_000).map(|number| service(number, 9)).collect();
            let mut told: BTreeMap<_, Vec<ReporterLoads>> = BTreeMap::new();
            let Told { messages, cut } = loads(all.clone(), limit);
            assert!(messages.len() > 1 && cut.is_empty());
            for body in messages {
                assert!(bytes(&body) <= limit.unwrap_or(MESSAGE_BYTES));
                let Body::Loads { services } = body else {
                    panic!("{body:?}")
                };
                for one in services {
                    let reporters = told.entry(one.service).or_default();
                    reporters.extend(one.reporters);
                }
            }
            let expected = all.into_iter().map(|one| (one.service, one.reporters));
            assert!(told.into_iter().eq(expected));
        }
    }

    #[test]
    fn a_reporter_is_never_split_and_nothing_is_a_message_too() {
        let one = service(1, 5_000);
        let expected = Body::Loads {
            services: vec![one.clone()],
        };
        assert!(bytes(&expected) > MESSAGE_BYTES);
        assert_eq!(loads(vec![one], None).messages, [expected]);
        let nothing = Body::Loads { services: vec![] };
        assert_eq!(loads(vec![], None).messages, [nothing]);
    }

    #[test]
    fn of_a_reporter_that_no_message_holds_the_greatest_loads_are_told() {
        for (limit, most) in [(None, MESSAGE_BYTES_MAX), (Some(LIMIT), LIMIT)] {
            let all = service(1, 20_000);
            let Told { messages, cut } = loads(vec![all.clone(), service(2, 1)], limit);
            assert_eq!(cut.len(), 1);
            let (name, why) = cut.first_key_value().unwrap();
            assert!(
                name.contains("00001") && why.contains("least load"),
                "{name}: {why}"
            );
            assert!(messages.iter().all(|body| bytes(body) <= most));
            let Body::Loads { services } = &messages[0] else {
                panic!()
            };
            let kept = &services[0].reporters[0].in_flight;
            assert!(kept.len() > most / 1_200, "{}", kept.len());
            let least = kept.values().min().unwrap();
            let all = &all.reporters[0].in_flight;
            let greater = all.values().filter(|load| *load > least).count();
            assert!(greater <= kept.len());
            // The reporter after it is told as it is.
            let last = messages.last().unwrap();
            let Body::Loads { services } = last else {
                panic!()
            };
            let expected = service(2, 1);
            assert!(services.contains(&expected));
        }
    }

    #[test]
    fn the_reporters_of_a_service_stay_together_where_they_fit() {
        let mut one = service(1, 1);
        one.reporters.push(service(2, 1).reporters.remove(0));
        let expected = Body::Loads {
            services: vec![one.clone()],
        };
        assert_eq!(loads(vec![one], None).messages, [expected]);
    }

    #[test]
    fn events_are_split_by_their_bytes_and_stay_in_order() {
        let event = |at_ms: u64| UnitEvent {
            at_ms,
            event: EventKind::Added,
            service: "\"".repeat(500).parse().unwrap(),
            instance: "\\".repeat(250).parse().unwrap(),
            reason: "\u{1}".repeat(256),
        };
        let all: Vec<UnitEvent> = (0..500).map(event).collect();
        for limit in [None, Some(LIMIT)] {
            let messages = events(all.clone(), limit);
            assert!(messages.len() > 1);
            let mut told = Vec::new();
            for body in messages {
                assert!(bytes(&body) <= limit.unwrap_or(MESSAGE_BYTES));
                let Body::Events { events } = body else {
                    panic!("{body:?}")
                };
                told.extend(events);
            }
            assert_eq!(told, all);
        }
        assert_eq!(events(Vec::new(), None), []);
    }
}
