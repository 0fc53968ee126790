//! The cases that are counted: a request, an interval, and data updates.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use unitring_balancer::capture::grammar::Announcement;
use unitring_balancer::capture::message::{self, Sender};
use unitring_balancer::capture::queue::{Bounds, Entry, Queue};
use unitring_balancer::directory::Directory;
use unitring_balancer::directory::reader::Reader;
use unitring_balancer::placement::Placing;
use unitring_balancer::reporter::read_answer;
use unitring_balancer::settings::Settings;
use unitring_protocol::record::Value;
use unitring_protocol::updates::Update;
use unitring_routing::bounded::Reason;
use unitring_routing::hash::xxh64;

use crate::fleet::{ENVOY, FIXED, MAGLEV, addresses, members, table};
use crate::keys::{Keys, OwnedKeys};
use crate::loads::{Gauges, choose};
use crate::pick;
use crate::service::{Reporting, answer};

/// Instances that are chosen among.
const INSTANCES: usize = 1_000;
/// Instances that are reported.
const REPORTED: usize = 100;
/// Data updates that are handed over together.
const BATCH: u64 = 100;

/// One thing whose instructions have a limit.
pub(crate) struct Case {
    /// Its name in `limits.txt`.
    pub(crate) name: String,
    /// How often it is done in one count, so that keys of all kinds are among it.
    pub(crate) times: u32,
    /// It, once.
    pub(crate) work: Box<dyn FnMut()>,
}

/// All of them, each checked to be what its name says.
pub(crate) fn all() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for length in [8, 36, 256] {
        let key = vec![b'k'; length];
        cases.push(Case::new(format!("hash/{length}-bytes"), 100, move || {
            xxh64(black_box(&key))
        }));
    }
    for (fill, shape) in [("fixed", FIXED), ("envoy", ENVOY), ("maglev", MAGLEV)] {
        let table = table(&addresses(INSTANCES), shape);
        let mut of_first = OwnedKeys::of_first(&table);
        for (load, gauges, reason) in [
            ("no-load", Gauges::no_load(INSTANCES), Reason::Primary),
            (
                "owner-full",
                Gauges::first_full(INSTANCES),
                Reason::Overflow,
            ),
            ("all-full", Gauges::all_full(INSTANCES), Reason::Full),
        ] {
            let name = format!("choose/{fill}/{load}");
            let chosen = choose(&table, &gauges, of_first.next());
            let seen = chosen.map(|(_, reason)| reason);
            ensure!(seen == Some(reason), "{name}: chosen for {seen:?}");
            let (table, mut own, mut any) = (table.clone(), of_first.clone(), Keys::default());
            let owned = reason == Reason::Overflow;
            cases.push(Case::new(name, 250, move || {
                let key = if owned { own.next() } else { any.next() };
                choose(&table, &gauges, black_box(key))
            }));
        }
    }
    cases.extend(changes());
    cases.extend(pick::cases()?);
    cases.push(follow()?);
    let mut reporting = Reporting::of(REPORTED).context("nothing to report")?;
    cases.push(Case::new("interval/report".to_owned(), 10, move || {
        reporting.encoded()
    }));
    let answer = answer(REPORTED);
    read_answer(&answer).context("the answer is none")?;
    cases.push(Case::new("interval/snapshot".to_owned(), 10, move || {
        read_answer(black_box(&answer))
    }));
    let announced = "carts/ada;ttl=60s;body, users/42/%C3%A9, carts/bob;delete";
    let read = Announcement::read([announced.as_bytes()].into_iter());
    ensure!(read.updates.len() == 3 && read.malformed == 0, "{read:?}");
    cases.push(Case::new(
        "capture/three-updates".to_owned(),
        100,
        move || Announcement::read([black_box(announced).as_bytes()].into_iter()),
    ));
    let sender = Sender {
        source: "edge-1~00000000000000ff".parse()?,
        vm: 7,
        service: "orders".parse()?,
    };
    let updates: Vec<Update> = (0..BATCH).map(update).collect::<Result<_>>()?;
    cases.push(Case::new("capture/batch".to_owned(), 10, move || {
        batch(&sender, &updates).map(|body| body.len())
    }));
    Ok(cases)
}

/// One instance of all comes, goes or is replaced by another in its place, and how many keys that moves.
fn changes() -> Vec<Case> {
    let mut cases = Vec::new();
    let (fewer, all) = (addresses(INSTANCES - 1), addresses(INSTANCES));
    let mut other = all.clone();
    if let Some(address) = other.get_mut(INSTANCES / 2) {
        *address = "10.1.0.1:8080".to_owned();
    }
    for (fill, shape) in [("", FIXED), ("-envoy", ENVOY)] {
        for (change, before, after) in [
            ("add", &fewer, &all),
            ("remove", &all, &fewer),
            ("replace", &all, &other),
        ] {
            let (before, after) = (table(before, shape), members(after));
            cases.push(Case::new(format!("merge/{change}{fill}"), 3, move || {
                before.update(black_box(&after))
            }));
        }
        let before = table(&fewer, shape);
        if let Ok(after) = before.update(&members(&all)) {
            cases.push(Case::new(format!("merge/moved{fill}"), 3, move || {
                after.moved_from(black_box(&before))
            }));
        }
    }
    cases
}

/// Reads the directory that another VM has published: one instance has come or gone.
fn follow() -> Result<Case> {
    let settings = Settings::of_policy(br#"{"service": "orders"}"#)?;
    let placing = Placing::unasked(&settings);
    let published = [INSTANCES, INSTANCES - 1]
        .map(|count| Directory::first(&members(&addresses(count)), placing).encode());
    let mut reader = Reader::default();
    for bytes in &published {
        reader.read(bytes.clone()).context("not readable")?;
    }
    let mut next = published.into_iter().cycle();
    Ok(Case::new("directory/read".to_owned(), 4, move || {
        next.next().and_then(|bytes| reader.read(black_box(bytes)))
    }))
}

fn update(sequence: u64) -> Result<Update> {
    Ok(Update {
        sequence,
        dataset: "carts".parse()?,
        key: format!("user-{sequence}").parse()?,
        delete: false,
        ttl_ms: Some(60_000),
        value: Some(Value(vec![b'v'; 100])),
    })
}

/// Updates that wait, are sent, and are stored.
fn batch(sender: &Sender, updates: &[Update]) -> Result<Vec<u8>> {
    let bounds = Bounds {
        updates: updates.len(),
        bytes: 1 << 20,
    };
    let mut queue = Queue::new(true, bounds);
    for update in updates {
        let gone = queue.push(Entry {
            update: update.clone(),
            deadline_ms: u64::MAX,
            teller: (),
        });
        ensure!(gone.is_empty(), "no room");
    }
    let body = message::write(sender, queue.batch())?;
    let stored = queue.answered(Vec::new(), 0).len();
    ensure!(
        stored == updates.len() && queue.is_empty(),
        "{stored} stored"
    );
    Ok(body)
}

impl Case {
    pub(crate) fn new<T>(name: String, times: u32, mut work: impl FnMut() -> T + 'static) -> Self {
        let work = Box::new(move || drop(black_box(work())));
        Self { name, times, work }
    }
}
