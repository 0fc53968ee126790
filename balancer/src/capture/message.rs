//! A batch of updates → JSON for the companion; its answer → what became of each.

use serde::Serialize;
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{ReporterId, ServiceName};
use unitring_protocol::updates::{Failed, Update};

use crate::json::{self, JsonError};

/// The VM that sends a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The Envoy process.
    pub source: ReporterId,
    /// The VM of the process.
    pub vm: u64,
    /// The service.
    pub service: ServiceName,
}

/// [`unitring_protocol::updates::Updates`], borrowed.
#[derive(Serialize)]
struct Message<'a> {
    version: u32,
    source: &'a ReporterId,
    vm: u64,
    service: &'a ServiceName,
    updates: Vec<&'a Update>,
}

/// The body of the request.
///
/// # Errors
/// None that is known: every field can be written.
pub fn write<'a>(
    sender: &Sender,
    updates: impl Iterator<Item = &'a Update>,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Message {
        version: PROTOCOL_VERSION,
        source: &sender.source,
        vm: sender.vm,
        service: &sender.service,
        updates: updates.collect(),
    })
}

const FIELDS: [&str; 5] = ["version", "failed", "sequence", "status", "error"];

/// Reads the companion's answer: the updates that are not stored.
///
/// # Errors
/// If it is no such answer. Then nothing is known of the batch.
pub fn read(body: &[u8]) -> Result<Vec<Failed>, JsonError> {
    let answer = json::read(body, &FIELDS)?;
    // Without this check, `{}` from any other server would count as stored.
    let version: Option<u32> = answer.number("version")?;
    version.ok_or(JsonError::Missing("version"))?;
    let failed = answer.list("failed")?.unwrap_or_default();
    let failed = failed.iter().map(|one| {
        let sequence = one.number("sequence")?;
        let status = one.number("status")?;
        Ok(Failed {
            sequence: sequence.ok_or(JsonError::Missing("sequence"))?,
            status: status.ok_or(JsonError::Missing("status"))?,
            error: one.text("error")?.unwrap_or_default().to_owned(),
        })
    });
    failed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use unitring_protocol::record::Value;
    use unitring_protocol::updates::{Updated, Updates};

    #[test]
    fn a_batch_reads_as_the_protocol_has_it() {
        let update = Update {
            sequence: 7,
            dataset: "carts".parse().unwrap(),
            key: "ada".parse().unwrap(),
            delete: false,
            ttl_ms: Some(5),
            value: Some(Value(b"two".to_vec())),
        };
        let sender = Sender {
            source: "edge~1".parse().unwrap(),
            vm: 3,
            service: "orders".parse().unwrap(),
        };
        let text = write(&sender, [&update, &update].into_iter()).unwrap();
        let read: Updates = serde_json::from_slice(&text).unwrap();
        let expected = Updates {
            version: PROTOCOL_VERSION,
            source: sender.source,
            vm: 3,
            service: sender.service,
            updates: vec![update.clone(), update],
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn an_answer_names_what_is_not_stored() {
        let failed = vec![Failed {
            sequence: 7,
            status: 503,
            error: "away".to_owned(),
        }];
        for failed in [failed, Vec::new()] {
            let answer = Updated { version: 1, failed };
            let text = serde_json::to_vec(&answer).unwrap();
            assert_eq!(read(&text).unwrap(), answer.failed);
        }
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"version": 1, "failed": [{"sequence": 1}]}"#,
            r#"{"version": 1, "failed": [{"sequence": 1, "status": -1}]}"#,
            r#"{"version": 1, "failed": 3}"#,
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
