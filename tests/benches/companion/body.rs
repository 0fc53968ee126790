//! The body of a report: encoded once as the filter encodes it, then changed in place where a report
//! differs from the previous one, so that the load generator costs little.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::report::{
    BoundReport, Identity, InstanceLoad, LoadScope, Report, RingHash, RingReport, RingShape,
    ServiceReport,
};

pub(crate) const INSTANCES: usize = 100;
/// Points of an instance, the filter's default.
const VIRTUAL_NODES: u32 = 160;
/// The first counter. All later ones have as many digits: a number that is written in place cannot grow.
const FIRST_CALLS: u64 = 1_000_000;

/// The body of one reporter's reports.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Vec<u8>,
    sequence: Number,
    loads: Vec<Load>,
}

#[derive(Debug)]
struct Load {
    calls: Number,
    in_flight: Number,
}

/// The place of a number in the text.
#[derive(Debug)]
struct Number {
    at: usize,
    digits: usize,
    value: u64,
}

impl Body {
    /// The first report of the reporter of this number, which announces this interval.
    pub(crate) fn of(reporter: usize, interval_ms: u64) -> Result<Self> {
        let bytes = serde_json::to_vec(&report(reporter, interval_ms)?)?;
        let text = std::str::from_utf8(&bytes)?;
        let (calls, in_flight) = (numbers(text, "calls")?, numbers(text, "in_flight")?);
        ensure!(calls.len() == INSTANCES && in_flight.len() == INSTANCES);
        let loads = calls.into_iter().zip(in_flight);
        let loads = loads.map(|(calls, in_flight)| Load { calls, in_flight });
        Ok(Self {
            sequence: numbers(text, "sequence")?
                .into_iter()
                .next()
                .context("no sequence")?,
            loads: loads.collect(),
            bytes,
        })
    }

    /// The next report: a sequence by the clock, like the filter's, counters that grew, and new numbers
    /// of requests in flight.
    pub(crate) fn next(&mut self) -> Result<&[u8]> {
        let sequence = now_ms()?.max(self.sequence.value + 1);
        self.sequence.set(sequence, &mut self.bytes)?;
        for (index, load) in (0..).zip(&mut self.loads) {
            let scattered = (sequence ^ load.calls.value).wrapping_mul(31) + index;
            load.in_flight.set(scattered % 10, &mut self.bytes)?;
            let calls = load.calls.value + 1 + scattered % 20;
            load.calls.set(calls, &mut self.bytes)?;
        }
        Ok(&self.bytes)
    }
}

impl Number {
    fn set(&mut self, value: u64, text: &mut [u8]) -> Result<()> {
        self.value = value;
        let mut rest = value;
        let place = text.get_mut(self.at..self.at + self.digits);
        for digit in place.context("the text is shorter")?.iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10)?;
            rest /= 10;
        }
        ensure!(rest == 0, "{value} has more than {} digits", self.digits);
        Ok(())
    }
}

fn numbers(text: &str, field: &str) -> Result<Vec<Number>> {
    let field = format!("\"{field}\":");
    let found = text.match_indices(&field).map(|(at, _)| {
        let at = at + field.len();
        let rest = text.get(at..).context("a field without a value")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value = rest.get(..digits).context("no number")?.parse()?;
        Ok(Number { at, digits, value })
    });
    found.collect()
}

fn report(reporter: usize, interval_ms: u64) -> Result<Report> {
    let instances: Result<Vec<_>> = (0..INSTANCES).map(instance).collect();
    Ok(Report {
        version: PROTOCOL_VERSION,
        reporter: format!("envoy-{reporter:04}.7f3a9c51e2d84b06").parse()?,
        sequence: now_ms()?,
        interval_ms,
        services: vec![ServiceReport {
            service: "orders".parse()?,
            ring: RingReport {
                version: "9f86d081884c7d65".to_owned(),
                points: u64::from(VIRTUAL_NODES) * u64::try_from(INSTANCES)?,
                shape: RingShape::Fixed {
                    virtual_nodes: VIRTUAL_NODES,
                    max_size: 8 << 20,
                    hash: RingHash::XxHash,
                },
                identity: Identity::Address,
                health: None,
                localities: Vec::new(),
            },
            bound: Some(BoundReport {
                balance_factor: 125,
                min_capacity: 1,
                max_in_flight: 0,
                scope: LoadScope::Fleet,
            }),
            fallbacks: 0,
            instances: instances?,
            events: Vec::new(),
            wiring: Vec::new(),
        }],
    })
}

fn instance(number: usize) -> Result<InstanceLoad> {
    let address = format!("10.0.0.{}:8080", number + 1);
    Ok(InstanceLoad {
        calls: FIRST_CALLS,
        ..InstanceLoad::new(address.parse()?, address)
    })
}

fn now_ms() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_millis())?)
}
