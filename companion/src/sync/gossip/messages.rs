//! A unit's loads → messages. A service may be split over several, since each reporter's part
//! counts alone; so no message outgrows the broker's limit, for any number of services and any
//! length of their names.

use unitring_protocol::envelope::{Body, ReporterLoads, ServiceLoads};

/// Most bytes of a message, unless a single reporter has more.
const LOADS_BYTES: usize = 1 << 20;
/// Bytes that a name or a number takes beside its own.
const FRAME_BYTES: usize = 48;

/// Splits loads into messages: at least one, since an empty one says that the unit has no load.
pub(super) fn messages(services: Vec<ServiceLoads>) -> Vec<Body> {
    let mut messages = Vec::new();
    let (mut message, mut bytes) = (Vec::<ServiceLoads>::new(), 0);
    for ServiceLoads { service, reporters } in services {
        for told in reporters {
            let size = size(service.as_str(), &told);
            if bytes > 0 && bytes + size > LOADS_BYTES {
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
    messages.into_iter().map(body).collect()
}

/// Most bytes that a reporter's loads take.
fn size(service: &str, told: &ReporterLoads) -> usize {
    // JSON needs two bytes for a quote or a backslash; names have no characters that need more.
    let name = |name: &str| name.len() * 2 + FRAME_BYTES;
    let ids = told.in_flight.keys().chain(told.update_load.keys());
    let instances: usize = ids.map(|id| name(id.as_str())).sum();
    name(service) + name(told.reporter.as_str()) + 3 * FRAME_BYTES + instances
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sync::machine::message::encode;

    fn service(number: usize, instances: usize) -> ServiceLoads {
        let quotes = "\"".repeat(500);
        let id = |at: usize| format!("{}{at:05}", "\\".repeat(250)).parse().unwrap();
        ServiceLoads {
            service: format!("{quotes}{number:05}").parse().unwrap(),
            reporters: vec![ReporterLoads {
                reporter: format!("{}{number:05}", "\\".repeat(250)).parse().unwrap(),
                sequence: u64::MAX,
                interval_ms: u64::MAX,
                in_flight: (0..instances).map(|at| (id(at), u64::MAX)).collect(),
                update_load: (0..instances).map(|at| (id(at), u64::MAX)).collect(),
            }],
        }
    }

    #[test]
    fn as_many_loads_of_the_longest_names_as_are_told_fit_into_messages() {
        let all: Vec<ServiceLoads> = (0..2_000).map(|number| service(number, 9)).collect();
        let mut told: BTreeMap<_, Vec<ReporterLoads>> = BTreeMap::new();
        let messages = messages(all.clone());
        assert!(messages.len() > 1);
        for body in messages {
            let Body::Loads { services } = &body else {
                panic!("{body:?}")
            };
            for one in services {
                let reporters = told.entry(one.service.clone()).or_default();
                reporters.extend(one.reporters.iter().cloned());
            }
            let bytes = encode(&"east".parse().unwrap(), &body).unwrap();
            assert!(bytes.len() < LOADS_BYTES + 4_096, "{}", bytes.len());
        }
        let expected = all.into_iter().map(|one| (one.service, one.reporters));
        assert!(told.into_iter().eq(expected));
    }

    #[test]
    fn a_reporter_is_never_split_and_nothing_is_a_message_too() {
        let one = service(1, 10_000);
        let expected = Body::Loads {
            services: vec![one.clone()],
        };
        assert_eq!(messages(vec![one]), [expected]);
        assert_eq!(messages(vec![]), [Body::Loads { services: vec![] }]);
    }

    #[test]
    fn the_reporters_of_a_service_stay_together_where_they_fit() {
        let mut one = service(1, 1);
        one.reporters.push(service(2, 1).reporters.remove(0));
        let expected = Body::Loads {
            services: vec![one.clone()],
        };
        assert_eq!(messages(vec![one]), [expected]);
    }
}
