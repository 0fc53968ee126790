//! The body of `POST /v1/updates` → updates that can be written.
//!
//! A faulty update is refused alone. So names and values are checked here, update by update, and not while the
//! batch is parsed.

use std::fmt;

use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{ReporterId, ServiceName};
use unitring_protocol::record::{InvalidValue, RecordId, Value};
use unitring_protocol::updates::{SEQUENCE_MAX, TTL_MS_MAX, UPDATES_MAX};

use super::super::answer::{Refusal, json};
use super::super::data;
use crate::door::Caller;
use crate::door::need::update_of;

/// [`unitring_protocol::updates::Updates`], each of which may be wrong in itself.
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    version: u32,
    pub(super) source: ReporterId,
    pub(super) vm: u64,
    pub(super) service: ServiceName,
    #[serde(deserialize_with = "bounded")]
    pub(super) updates: Vec<Announced>,
}

/// [`unitring_protocol::updates::Update`], unchecked.
#[derive(Debug, Deserialize)]
pub(super) struct Announced {
    pub(super) sequence: u64,
    pub(super) dataset: String,
    key: String,
    #[serde(default)]
    delete: bool,
    ttl_ms: Option<u64>,
    value: Option<String>,
}

/// An update that can be written.
pub(super) struct Ready {
    pub(super) id: RecordId,
    /// `None` deletes.
    pub(super) value: Option<Vec<u8>>,
    pub(super) expires_ms: Option<u64>,
}

/// Parses up to the limit of updates, and refuses more before they take memory.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Announced>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<Announced>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of updates")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut updates = Vec::new();
            while let Some(update) = all.next_element()? {
                if updates.len() >= UPDATES_MAX {
                    let rule = format!("updates: must be at most {UPDATES_MAX}");
                    return Err(A::Error::custom(rule));
                }
                updates.push(update);
            }
            Ok(updates)
        }
    }
    deserializer.deserialize_seq(Bounded)
}

/// The field that tells whether this program can read the rest.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn newer(version: u32) -> Refusal {
    Refusal::bad(format!(
        "version {version}: newer than {PROTOCOL_VERSION}, which this companion speaks: update it"
    ))
}

impl Batch {
    /// Parses a batch. If its version is newer, the error is about the version, even if its shape is wrong, too.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let batch: Self = json(body).map_err(|refusal| match json(body) {
            Ok(Versioned { version }) if version > PROTOCOL_VERSION => newer(version),
            _ => refusal,
        })?;
        match batch.version > PROTOCOL_VERSION {
            true => Err(newer(batch.version)),
            false => Ok(batch),
        }
    }
}

impl Announced {
    /// The write that this update is, unless it breaks a rule or its sender may not make it.
    pub(super) fn ready(self, caller: &Caller, now_ms: u64) -> Result<Ready, Refusal> {
        let dataset = data::dataset(&self.dataset)?;
        caller
            .may(&update_of(&self.dataset))
            .map_err(|denied| Refusal::new(StatusCode::FORBIDDEN, denied.to_string()))?;
        let id = RecordId {
            dataset,
            key: self.key.parse()?,
        };
        if self.sequence >= SEQUENCE_MAX {
            let sequence = self.sequence;
            return Err(Refusal::bad(format!(
                "sequence: {sequence}: must be below {SEQUENCE_MAX}"
            )));
        }
        if self.delete && (self.value.is_some() || self.ttl_ms.is_some()) {
            let rule = "a deletion must have neither value nor ttl_ms";
            return Err(Refusal::bad(rule));
        }
        let expires_ms = match self.ttl_ms {
            None => None,
            Some(ttl_ms @ 1..=TTL_MS_MAX) => Some(now_ms.saturating_add(ttl_ms)),
            Some(ttl_ms) => {
                return Err(Refusal::bad(format!(
                    "ttl_ms: {ttl_ms}: must be from 1 to {TTL_MS_MAX}"
                )));
            }
        };
        let value = match (self.delete, self.value) {
            (true, _) => None,
            (false, None) => Some(Vec::new()),
            (false, Some(text)) => Some(Value::from_base64(&text).map_err(refused)?.0),
        };
        Ok(Ready {
            id,
            value,
            expires_ms,
        })
    }
}

fn refused(error: InvalidValue) -> Refusal {
    match error {
        InvalidValue::TooLarge => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        InvalidValue::NotBase64(_) => Refusal::bad(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;
    use unitring_protocol::record::VALUE_BYTES_MAX;
    use unitring_protocol::updates::{Update, Updates};

    use super::*;

    const NOW_MS: u64 = 1_000;

    fn ready(update: serde_json::Value) -> Result<Ready, (u16, String)> {
        let update: Announced = serde_json::from_value(update).unwrap();
        let caller = Caller::stranger(Ipv4Addr::LOCALHOST.into());
        let ready = update.ready(&caller, NOW_MS);
        ready.map_err(|refusal| (refusal.status().as_u16(), refusal.error().to_owned()))
    }

    #[test]
    fn what_a_filter_sends_is_read_as_it_was_meant() {
        let update = Update {
            sequence: 7,
            dataset: "carts".parse().unwrap(),
            key: "a/b é".parse().unwrap(),
            delete: false,
            ttl_ms: Some(TTL_MS_MAX),
            value: Some(Value(b"v".to_vec())),
        };
        let sent = Updates {
            version: PROTOCOL_VERSION,
            source: "e~1".parse().unwrap(),
            vm: u64::MAX,
            service: "orders".parse().unwrap(),
            updates: vec![update; UPDATES_MAX],
        };
        let read = Batch::read(&serde_json::to_vec(&sent).unwrap()).unwrap();
        assert_eq!((read.vm, read.updates.len()), (sent.vm, UPDATES_MAX));
        let first = read.updates.into_iter().next().unwrap();
        assert_eq!(first.sequence, 7);
        let caller = Caller::stranger(Ipv4Addr::LOCALHOST.into());
        let ready = first.ready(&caller, NOW_MS).unwrap();
        assert_eq!(ready.id.to_string(), "carts/a/b é");
        assert_eq!(ready.value.as_deref(), Some(&b"v"[..]));
        assert_eq!(ready.expires_ms, Some(NOW_MS + TTL_MS_MAX));
    }

    #[test]
    fn an_update_without_a_value_puts_an_empty_one_unless_it_deletes() {
        let put = ready(json!({"sequence": 1, "dataset": "d", "key": "k"})).unwrap();
        assert_eq!((put.value, put.expires_ms), (Some(Vec::new()), None));
        let gone = json!({"sequence": 1, "dataset": "d", "key": "k", "delete": true});
        assert_eq!(ready(gone).unwrap().value, None);
    }

    #[test]
    fn each_fault_of_an_update_has_its_status_and_names_the_field() {
        let with = |field: &str, value: serde_json::Value| {
            let mut update = json!({"sequence": 1, "dataset": "d", "key": "k"});
            update[field] = value;
            update
        };
        let mut deleted = with("delete", true.into());
        deleted["ttl_ms"] = 1.into();
        let mut emptied = with("delete", true.into());
        emptied["value"] = "".into();
        let too_large = Value(vec![0; VALUE_BYTES_MAX + 1]);
        for (update, status, word) in [
            (with("sequence", SEQUENCE_MAX.into()), 400, "sequence"),
            (with("dataset", "unitring".into()), 400, "own records"),
            (with("dataset", "unitring.x".into()), 400, "own records"),
            (with("dataset", "a b".into()), 400, "dataset"),
            (with("key", "".into()), 400, "key"),
            (with("ttl_ms", 0.into()), 400, "ttl_ms"),
            (with("ttl_ms", (TTL_MS_MAX + 1).into()), 400, "ttl_ms"),
            (deleted, 400, "deletion"),
            (emptied, 400, "deletion"),
            (with("value", "?".into()), 400, "value"),
            (with("value", json!(too_large)), 413, "value"),
        ] {
            let (found, error) = ready(update).err().unwrap();
            assert!(found == status && error.contains(word), "{found}: {error}");
        }
        let most = Value(vec![0; VALUE_BYTES_MAX]);
        assert!(ready(with("value", json!(most))).is_ok());
    }

    #[test]
    fn a_batch_that_is_newer_malformed_or_too_long_is_refused_as_a_whole() {
        let batch = |version: u32, updates: usize| {
            let update = json!({"sequence": 1, "dataset": "d", "key": "k"});
            json!({
                "version": version, "source": "e~1", "vm": 1, "service": "orders", "updates": vec![update; updates],
            })
        };
        let why = |body: &str| Batch::read(body.as_bytes()).err().unwrap();
        for (body, word) in [
            (batch(2, 1).to_string(), "version 2: newer than 1"),
            (r#"{"version": 2}"#.to_owned(), "version 2: newer than 1"),
            (batch(1, UPDATES_MAX + 1).to_string(), "at most 512"),
            (r#"{"version": 1}"#.to_owned(), "source"),
            ("[".to_owned(), "body"),
        ] {
            let refusal = why(&body);
            assert_eq!(refusal.status(), 400);
            assert!(refusal.error().contains(word), "{}", refusal.error());
        }
        assert!(Batch::read(batch(1, 0).to_string().as_bytes()).is_ok());
    }
}
