//! The content of a message → [`Body`].
//!
//! What comes often, ops and repairs, is read in one go. Only if that fails is it read again, entry by entry, so that an
//! entry that cannot be read is set aside alone. The other kinds are small, and always read like that.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Error, from_str};
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::envelope::{
    Body, Echo, FixedPart, FixedState, Part, Repair, ReporterLoads, ServiceLoads, UnitEvent,
};
use unitring_protocol::ids::{ReporterId, ServiceName};
use unitring_protocol::record::{Op, Record};

use super::aside::Asides;
use super::list::{Alone, Bad, Entry, List, Map, Whole, short};

/// Most entries that are read of a list: parts of a message; ops, passed sequences and records of a bucket; buckets,
/// positions, echoes and events. No companion sends as many.
const ENTRIES_MAX: usize = 1_024;
/// Most services that are read of a message of loads, reporters of a service, and instances of a reporter.
const LOADS_MAX: usize = 16_384;

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// Reads the content of a message; what is wrong with an entry is in `aside`.
///
/// # Errors
/// More than entries is wrong.
pub(super) fn read(json: &str, aside: &mut Asides) -> Result<Body, Error> {
    let Kind { kind } = from_str(json)?;
    match kind.as_ref() {
        "ops" => ops(json, aside),
        "repair" => repair(json, aside),
        "digests" => digests(json, aside),
        "repair_request" => repair_request(json, aside),
        "fixed_request" => Ok(Body::FixedRequest {}),
        // A part is worth nothing without any of its values: a checksum is over all.
        "fixed" => Ok(Body::Fixed(from_str::<FixedPart>(json)?)),
        "loads" => loads(json, aside),
        "events" => events(json, aside),
        _ => Err(Error::custom("an unknown kind")),
    }
}

#[derive(Deserialize)]
struct Ops<P> {
    #[serde(bound(deserialize = "P: Deserialize<'de>"))]
    parts: List<P, ENTRIES_MAX>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "O: Deserialize<'de>, N: Deserialize<'de>"))]
struct PartOf<O, N> {
    bucket: u8,
    incarnation: u64,
    #[serde(default)]
    skipped: bool,
    ops: List<O, ENTRIES_MAX>,
    #[serde(default)]
    passed: List<N, ENTRIES_MAX>,
}

fn ops(json: &str, aside: &mut Asides) -> Result<Body, Error> {
    type Swift = PartOf<Whole<Op>, Whole<u64>>;
    let parts = match from_str::<Ops<Whole<Swift>>>(json) {
        Ok(ops) => parts(ops, aside),
        Err(_) => parts::<_, Alone<'_>, Alone<'_>>(from_str::<Ops<Alone<'_>>>(json)?, aside),
    };
    Ok(Body::Ops { parts })
}

fn parts<'a, P, O, N>(ops: Ops<P>, aside: &mut Asides) -> Vec<Part>
where
    P: Entry<'a, PartOf<O, N>>,
    O: Entry<'a, Op>,
    N: Entry<'a, u64>,
{
    let parts = ops.parts.good(&"parts", aside, |_| "a part".to_owned());
    parts.into_iter().map(|it| part(it, aside)).collect()
}

fn part<'a, O: Entry<'a, Op>, N: Entry<'a, u64>>(of: PartOf<O, N>, aside: &mut Asides) -> Part {
    let bucket = of.bucket;
    let mut lost = BTreeSet::new();
    let ops = of.ops.good(&In("ops", bucket), aside, |bad| {
        let named = Named::of(bad);
        lost.extend(named.sequence());
        named.to_string()
    });
    let passed = &In("passed sequences", bucket);
    let mut passed: BTreeSet<u64> = {
        let good = of.passed.good(passed, aside, |bad| passed.one(bad));
        good.into_iter().collect()
    };
    // The sequence of an op that is set aside is passed, so that its sender does not repeat it for ever.
    passed.append(&mut lost);
    Part {
        bucket,
        incarnation: of.incarnation,
        skipped: of.skipped,
        ops,
        passed,
    }
}

/// A list of a bucket.
struct In(&'static str, u8);

impl In {
    /// The name of an entry of it.
    fn one(&self, bad: &Bad<'_>) -> String {
        format!("{self}: {}", short(bad.text))
    }
}

impl Display for In {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of bucket {}", self.0, self.1)
    }
}

/// The name of a record that cannot be read, as far as it has one.
#[derive(Default, Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    dataset: Option<Alone<'a>>,
    #[serde(borrow, default)]
    key: Option<Alone<'a>>,
    #[serde(borrow, default)]
    sequence: Option<Alone<'a>>,
}

impl<'a> Named<'a> {
    fn of(bad: &Bad<'a>) -> Self {
        bad.text.read().unwrap_or_default()
    }

    fn sequence(&self) -> Option<u64> {
        self.sequence?.read().ok()
    }
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |name: Option<Alone<'_>>| name.map_or_else(|| "?".to_owned(), Alone::text);
        write!(f, "{}/{}", text(self.dataset), text(self.key))
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>"))]
struct RepairOf<'a, R> {
    bucket: u8,
    records: List<R, ENTRIES_MAX>,
    #[serde(borrow)]
    positions: Map<'a, ENTRIES_MAX>,
    #[serde(borrow)]
    clock: Alone<'a>,
    #[serde(default)]
    is_last: bool,
}

fn repair(json: &str, aside: &mut Asides) -> Result<Body, Error> {
    let repair = match from_str::<RepairOf<'_, Whole<Record>>>(json) {
        Ok(repair) => records(repair, aside),
        Err(_) => records::<Alone<'_>>(from_str(json)?, aside),
    };
    Ok(Body::Repair(repair))
}

fn records<'a, R: Entry<'a, Record>>(of: RepairOf<'a, R>, aside: &mut Asides) -> Repair {
    let bucket = of.bucket;
    let records = of.records.good(&In("records", bucket), aside, |bad| {
        Named::of(bad).to_string()
    });
    let clock = of.clock.read().unwrap_or_else(|bad: Bad<'_>| {
        aside.add(In("clock", bucket), bad.why);
        Default::default()
    });
    Repair {
        bucket,
        records,
        positions: of.positions.good(&In("positions", bucket), aside),
        clock,
        is_last: of.is_last,
    }
}

#[derive(Deserialize)]
struct Digests<'a> {
    sent_ms: u64,
    #[serde(borrow, default)]
    interval_ms: Option<Alone<'a>>,
    epoch: u64,
    #[serde(borrow, default)]
    echoes: List<Alone<'a>, ENTRIES_MAX>,
    #[serde(borrow, default)]
    fixed: Option<Alone<'a>>,
    #[serde(borrow, default)]
    store: Option<Alone<'a>>,
    #[serde(borrow)]
    buckets: List<Alone<'a>, ENTRIES_MAX>,
}

#[derive(Deserialize)]
struct StateOf<'a> {
    bucket: u8,
    digest: Digest,
    #[serde(borrow)]
    positions: Map<'a, ENTRIES_MAX>,
}

fn digests(json: &str, aside: &mut Asides) -> Result<Body, Error> {
    let of: Digests<'_> = from_str(json)?;
    let interval_ms = optional(of.interval_ms, "interval_ms", aside);
    let fixed = optional::<FixedState>(of.fixed, "fixed", aside);
    let store = optional(of.store, "store", aside);
    let echoes: Vec<Echo> = of.echoes.good(&"echoes", aside, |_| "an echo".to_owned());
    let named = |bad: &Bad<'_>| format!("digest {}", short(bad.text));
    let states: Vec<StateOf<'_>> = of.buckets.good(&"digests", aside, named);
    let states = states.into_iter().map(|state| BucketState {
        bucket: state.bucket,
        digest: state.digest,
        positions: state.positions.good(&In("positions", state.bucket), aside),
    });
    let buckets = states.collect();
    Ok(Body::Digests {
        sent_ms: of.sent_ms,
        interval_ms,
        epoch: of.epoch,
        echoes,
        fixed,
        store,
        buckets,
    })
}

/// A field that may be absent, and is as good as absent if it cannot be read.
fn optional<'a, T: Deserialize<'a>>(
    field: Option<Alone<'a>>,
    name: &str,
    aside: &mut Asides,
) -> Option<T> {
    match field?.read() {
        Ok(value) => Some(value),
        Err(bad) => {
            aside.add(name, bad.why);
            None
        }
    }
}

#[derive(Deserialize)]
struct RepairRequest<'a> {
    #[serde(borrow)]
    buckets: List<Alone<'a>, ENTRIES_MAX>,
}

fn repair_request(json: &str, aside: &mut Asides) -> Result<Body, Error> {
    let of: RepairRequest<'_> = from_str(json)?;
    let named = |bad: &Bad<'_>| format!("bucket {}", short(bad.text));
    let buckets = of.buckets.good(&"buckets", aside, named);
    Ok(Body::RepairRequest { buckets })
}

#[derive(Deserialize)]
struct Loads<'a> {
    #[serde(borrow)]
    services: List<Alone<'a>, LOADS_MAX>,
}

#[derive(Deserialize)]
struct ServiceOf<'a> {
    service: ServiceName,
    #[serde(borrow)]
    reporters: List<Alone<'a>, LOADS_MAX>,
}

#[derive(Deserialize)]
struct ReporterOf<'a> {
    reporter: ReporterId,
    sequence: u64,
    interval_ms: u64,
    #[serde(borrow)]
    in_flight: Map<'a, LOADS_MAX>,
    #[serde(borrow, default)]
    update_load: Map<'a, LOADS_MAX>,
}

fn loads(json: &str, aside: &mut Asides) -> Result<Body, Error> {
    let of: Loads<'_> = from_str(json)?;
    let named = |bad: &Bad<'_>| format!("loads {}", short(bad.text));
    let services: Vec<ServiceOf<'_>> = of.services.good(&"services with loads", aside, named);
    let services = services.into_iter().map(|of| {
        let what = format!("loads of {}", of.service);
        let reporters: Vec<ReporterOf<'_>> = of
            .reporters
            .good(&what, aside, |bad| format!("{what}: {}", short(bad.text)));
        let reporters = reporters.into_iter().map(|of| ReporterLoads {
            reporter: of.reporter,
            sequence: of.sequence,
            interval_ms: of.interval_ms,
            in_flight: of.in_flight.good(&what, aside),
            update_load: of.update_load.good(&what, aside),
        });
        ServiceLoads {
            service: of.service,
            reporters: reporters.collect(),
        }
    });
    let services = services.collect();
    Ok(Body::Loads { services })
}

#[derive(Deserialize)]
struct Events<'a> {
    #[serde(borrow)]
    events: List<Alone<'a>, ENTRIES_MAX>,
}

fn events(json: &str, aside: &mut Asides) -> Result<Body, Error> {
    let of: Events<'_> = from_str(json)?;
    let named = |bad: &Bad<'_>| format!("event {}", short(bad.text));
    let events: Vec<UnitEvent> = of.events.good(&"events", aside, named);
    Ok(Body::Events { events })
}
