//! The companion's answer to a report → the rest of the fleet.

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{InstanceId, ServiceName};
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot, Snapshot};

use crate::json::{self, Json, JsonError};

/// Why the companion's answer is unusable.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The answer is no snapshot.
    #[error("the companion did not answer with a snapshot: {0}")]
    Malformed(#[from] JsonError),
    /// The companion speaks a newer protocol.
    #[error("the companion speaks protocol {0}, newer than {PROTOCOL_VERSION}: update the filter")]
    Newer(u32),
    /// The answer is longer than any honest one.
    #[error("the companion's answer has {0} bytes, more than {ANSWER_BYTES_MAX}")]
    TooLong(usize),
}

/// A longer answer is not read: what a VM once needed stays its memory. [`INSTANCES_MAX`] instances need half of it.
///
/// [`INSTANCES_MAX`]: crate::settings::INSTANCES_MAX
pub(crate) const ANSWER_BYTES_MAX: usize = 4 << 20;

const FIELDS: [&str; 12] = [
    "version",
    "events_through",
    "services",
    "service",
    "reporters",
    "rank",
    "rest",
    "id",
    "in_flight",
    "before",
    "own",
    "updates_per_1000_s",
];

/// Reads the companion's answer.
///
/// # Errors
/// [`AnswerError`]; the last snapshot stays in force until it is stale.
pub fn read_answer(body: &[u8]) -> Result<Snapshot, AnswerError> {
    if body.len() > ANSWER_BYTES_MAX {
        return Err(AnswerError::TooLong(body.len()));
    }
    let answer = json::read(body, &FIELDS)?;
    let version = answer.number("version")?;
    let version: u32 = version.ok_or(JsonError::Missing("version"))?;
    if version > PROTOCOL_VERSION {
        return Err(AnswerError::Newer(version));
    }
    Ok(Snapshot {
        version,
        events_through: number(&answer, "events_through")?,
        services: list(&answer, "services", service)?,
    })
}

fn service(json: &Json) -> Result<ServiceSnapshot, JsonError> {
    let reporters = json.number("reporters")?;
    Ok(ServiceSnapshot {
        service: name::<ServiceName>(json, "service")?,
        reporters: reporters.ok_or(JsonError::Missing("reporters"))?,
        rank: json.number("rank")?,
        rest: list(json, "rest", rest)?,
    })
}

fn rest(json: &Json) -> Result<InstanceRest, JsonError> {
    Ok(InstanceRest {
        id: name::<InstanceId>(json, "id")?,
        in_flight: number(json, "in_flight")?,
        before: json.number("before")?.unwrap_or(0),
        own: json.number("own")?.unwrap_or(0),
        updates_per_1000_s: json.number("updates_per_1000_s")?.unwrap_or(0),
    })
}

fn number(json: &Json, field: &'static str) -> Result<u64, JsonError> {
    json.number(field)?.ok_or(JsonError::Missing(field))
}

fn name<T: TryFrom<String>>(json: &Json, field: &'static str) -> Result<T, JsonError> {
    let name = json.text(field)?.ok_or(JsonError::Missing(field))?;
    T::try_from(name.to_owned()).map_err(|_| JsonError::Invalid(field))
}

fn list<T>(
    json: &Json,
    field: &'static str,
    each: fn(&Json) -> Result<T, JsonError>,
) -> Result<Vec<T>, JsonError> {
    let list = json.list(field)?.ok_or(JsonError::Missing(field))?;
    list.iter().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_reads_as_the_companion_wrote_it() {
        let rest = |id: &str, before, own| InstanceRest {
            id: id.parse().unwrap(),
            in_flight: 5,
            before,
            own,
            updates_per_1000_s: own * 7,
        };
        let service = |rank| ServiceSnapshot {
            service: "orders".parse().unwrap(),
            reporters: 3,
            rank,
            rest: vec![rest("10.0.0.1:80", 0, 0), rest("b", 2, 1)],
        };
        let snapshot = Snapshot {
            version: PROTOCOL_VERSION,
            events_through: u64::MAX,
            services: vec![service(None), service(Some(1))],
        };
        let body = serde_json::to_vec(&snapshot).unwrap();
        assert_eq!(read_answer(&body).unwrap(), snapshot);
    }

    #[test]
    fn an_answer_of_a_newer_protocol_is_refused_with_the_way_out() {
        let body = br#"{"version": 99, "events_through": 0, "services": []}"#;
        let error = read_answer(body).unwrap_err().to_string();
        assert!(error.contains("update the filter"), "{error}");
    }

    #[test]
    fn an_answer_that_is_too_long_is_not_read() {
        let valid = br#"{"version": 1, "events_through": 0, "services": []}"#;
        assert!(read_answer(valid).is_ok());
        let mut long = vec![b' '; ANSWER_BYTES_MAX];
        long.extend(valid);
        let error = read_answer(&long).unwrap_err();
        assert!(matches!(error, AnswerError::TooLong(_)), "{error}");
    }

    #[test]
    fn an_answer_that_is_no_snapshot_is_refused() {
        for bad in [
            r#"nope"#,
            r#"{}"#,
            r#"{"version": 1, "services": []}"#,
            r#"{"version": 1, "events_through": 0}"#,
            r#"{"version": 1, "events_through": 0, "services": [{"service": "", "reporters": 1, "rest": []}]}"#,
            r#"{"version": 1, "events_through": 0, "services": [{"service": "a", "reporters": -1, "rest": []}]}"#,
            r#"{"version": 1, "events_through": 0, "services": [{"service": "a", "reporters": 1, "rest": [{"id": "b"}]}]}"#,
        ] {
            assert!(read_answer(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn decoding_an_answer_never_panics(bytes: Vec<u8>) {
            drop(read_answer(&bytes));
        }
    }
}
