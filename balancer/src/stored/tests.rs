//! A VM reads what another VM wrote, and nothing else.

use std::num::NonZeroU32;

use proptest::prelude::*;
use unitring_protocol::ids::ReporterId;
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot};
use unitring_routing::membership::{Cause, Locality, Member, State, Warmth};

use super::*;
use crate::balancer::Fleet;
use crate::directory::Directory;
use crate::directory::reader::Reader;
use crate::discovery::page::HostCounts;
use crate::drift::{Drift, Wrong};
use crate::health::Memory;
use crate::lease::Lease;
use crate::placement::{LeftAll, Placing};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::tally::{Ids, Made, Tally};

fn member(number: u8, state: State) -> Member {
    Member {
        weight: NonZeroU32::new(7).unwrap(),
        warmth: Warmth::new(30).unwrap(),
        state,
        hash_key: Some(String::new()),
        excluded: true,
        priority: 2,
        locality: Some(Locality {
            index: 1,
            weight: 0,
            all: u64::MAX,
        }),
        ..Member::new(&format!("i{number}"), &format!("10.0.0.1:{number}"))
    }
}

fn fleet() -> Fleet {
    let id = "10.0.0.1:80".parse().unwrap();
    Fleet {
        received_ms: 1,
        rest: ServiceSnapshot {
            service: "orders".parse().unwrap(),
            reporters: 2,
            rank: Some(1),
            rest: vec![InstanceRest {
                id,
                in_flight: 3,
                before: 2,
                own: 1,
                updates_per_1000_s: 4,
            }],
        },
    }
}

#[test]
fn every_value_of_shared_data_reads_back_as_it_was_written() {
    let causes = [
        Cause::ActiveCheck,
        Cause::OutlierDetection,
        Cause::Told,
        Cause::GatewayFailures,
        Cause::Untold,
    ];
    let states = [State::Serving, State::Draining, State::Degraded];
    let states = states.into_iter().chain(causes.map(State::Failed));
    let members: Vec<Member> = (0u8..).zip(states).map(|(n, s)| member(n, s)).collect();
    let fixed = r#"{"service": "orders", "ring": {"fill": "fixed", "identity": "id"}}"#;
    for settings in [
        r#"{"service": "orders"}"#,
        fixed,
        r#"{"service": "a", "ring": {"algorithm": "maglev"}}"#,
    ] {
        let placing = Placing {
            left: Some(LeftAll::UnknownConfig),
            ..Placing::unasked(&Settings::of(settings))
        };
        let directory = Directory::first(&members, placing);
        assert_eq!(Reader::default().read(directory.encode()), Some(directory));
    }
    let drift = Drift {
        instances: vec![Wrong {
            id: "a".to_owned(),
            more: -7,
        }],
    };
    assert_eq!(decode(&encode(&drift)), Some(drift));
    let mut tally = Tally::default();
    let made = Made {
        asked_ms: 1,
        came_ms: 2,
    };
    let page = [("a".to_owned(), HostCounts::default())];
    tally.take(&page, |_| true, made, (Ids::Hostnames, true));
    assert_eq!(decode(&encode(&tally)), Some(tally));
    let mut roster = Roster::new();
    roster.beat(7);
    assert_eq!(decode(&encode(&roster)), Some(roster));
    assert_eq!(decode(&encode(&Lease::FREE)), Some(Lease::FREE));
    assert_eq!(decode(&encode(&fleet())), Some(fleet()));
    let reporter: ReporterId = "edge-1~7".parse().unwrap();
    assert_eq!(decode(&encode(&reporter)), Some(reporter));
    assert_eq!(decode(&encode(&Memory::default())), Some(Memory::default()));
}

#[test]
fn what_another_version_wrote_is_not_read() {
    let mut bytes = encode(&Lease::FREE);
    assert_eq!(decode::<Lease>(br#"{"holder":0,"until_ms":0}"#), None);
    bytes.push(0);
    assert_eq!(decode::<Lease>(&bytes), None, "more than a lease");
    bytes.truncate(bytes.len() - 2);
    assert_eq!(decode::<Lease>(&bytes), None, "less than a lease");
    let other = bytes.iter().position(|byte| *byte == b'.').unwrap() - 1;
    bytes[other] += 1;
    assert_eq!(decode::<Lease>(&bytes), None);
    let name = encode(&"no\nname".to_owned());
    assert_eq!(decode::<unitring_protocol::ids::ServiceName>(&name), None);
}

proptest! {
    #[test]
    fn reading_never_panics(bytes: Vec<u8>) {
        let bytes = [VERSION.as_bytes(), &bytes].concat();
        drop(Reader::default().read(bytes.clone()));
        drop(decode::<Memory>(&bytes));
        drop(decode::<Roster>(&bytes));
        drop(decode::<Fleet>(&bytes));
    }

    #[test]
    fn broken_bytes_never_panic(at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&fleet());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(decode::<Fleet>(&bytes));
    }
}
