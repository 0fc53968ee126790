//! Where a load comes from, and what only one kind of source knows. Pure.

use serde::{Deserialize, Serialize};
use unitring_protocol::ids::UnitId;
use unitring_protocol::report::{
    BoundReport, Finding, Identity, RingHash, RingReport, RingShape, ServiceReport,
};

use super::wiring;

/// The source of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub enum LoadSource {
    /// A filter of this unit, by its own report.
    Reporter(Reported),
    /// Another unit, which tells the loads of its reporters and nothing else of them.
    Unit(UnitId),
}

/// What a report on a service says beside loads and events.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    /// The ring in use there.
    pub ring: RingReport,
    /// The bound in use there.
    pub bound: Option<BoundReport>,
    /// Requests left to Envoy's own policy.
    pub fallbacks: u64,
    /// The findings of the filter in its wiring.
    pub wiring: Vec<Finding>,
}

impl LoadSource {
    /// The report, if it is one of this unit.
    pub fn reported(&self) -> Option<&Reported> {
        match self {
            Self::Reporter(reported) => Some(reported),
            Self::Unit(_) => None,
        }
    }

    pub fn wiring(&self) -> &[Finding] {
        self.reported().map_or(&[], |reported| &reported.wiring)
    }

    /// What is kept of it, and how many findings were cut.
    pub(super) fn kept(&self) -> (Self, u64) {
        match self {
            Self::Reporter(reported) => {
                let (wiring, cut) = wiring::kept(&reported.wiring);
                let reported = Reported {
                    wiring,
                    ring: reported.ring.clone(),
                    ..*reported
                };
                (Self::Reporter(reported), cut)
            }
            Self::Unit(unit) => (Self::Unit(unit.clone()), 0),
        }
    }
}

/// A source as it is stored, in the fields of the load itself. The version before knew only reports, so that one of
/// another unit is stored with a ring that nothing reads.
#[derive(Serialize, Deserialize)]
struct Stored {
    ring: Option<RingReport>,
    #[serde(default)]
    bound: Option<BoundReport>,
    #[serde(default)]
    fallbacks: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    wiring: Vec<Finding>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<UnitId>,
}

impl From<LoadSource> for Stored {
    fn from(source: LoadSource) -> Self {
        match source {
            LoadSource::Reporter(reported) => Self {
                ring: Some(reported.ring),
                bound: reported.bound,
                fallbacks: reported.fallbacks,
                wiring: reported.wiring,
                unit: None,
            },
            LoadSource::Unit(unit) => Self {
                ring: Some(no_ring()),
                bound: None,
                fallbacks: 0,
                wiring: Vec::new(),
                unit: Some(unit),
            },
        }
    }
}

impl TryFrom<Stored> for LoadSource {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        match (stored.unit, stored.ring) {
            (Some(unit), _) => Ok(Self::Unit(unit)),
            (None, Some(ring)) => Ok(Self::Reporter(Reported {
                ring,
                bound: stored.bound,
                fallbacks: stored.fallbacks,
                wiring: stored.wiring,
            })),
            (None, None) => Err("a load has neither a ring nor a unit"),
        }
    }
}

fn no_ring() -> RingReport {
    RingReport {
        version: String::new(),
        points: 0,
        shape: RingShape::Envoy {
            min_size: 0,
            max_size: 0,
            hash: RingHash::default(),
        },
        identity: Identity::default(),
        health: None,
        localities: Vec::new(),
    }
}

impl From<ServiceReport> for Reported {
    fn from(service: ServiceReport) -> Self {
        Self {
            ring: service.ring,
            bound: service.bound,
            fallbacks: service.fallbacks,
            wiring: service.wiring,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::loads::{StoredLoad, samples};

    #[test]
    fn a_load_is_read_as_it_was_stored_whatever_its_source() {
        let mut load = samples::stored("e1", vec![samples::instance("10.0.0.1:80")]);
        let text = serde_json::to_string(&load).unwrap();
        assert_eq!(serde_json::from_str::<StoredLoad>(&text).unwrap(), load);
        load.source = LoadSource::Unit("west".parse().unwrap());
        let text = serde_json::to_string(&load).unwrap();
        assert_eq!(serde_json::from_str::<StoredLoad>(&text).unwrap(), load);
    }

    #[test]
    fn the_version_before_finds_a_ring_in_every_load_and_its_own_loads_are_read() {
        let unit = LoadSource::Unit("west".parse().unwrap());
        let stored = serde_json::to_value(&unit).unwrap();
        // As the version before wrote it.
        let before = json!({
            "ring": {"version": "", "points": 0, "shape":
                {"fill": "envoy", "min_size": 0, "max_size": 0, "hash": "xx_hash"}, "identity": "address"},
            "bound": null, "fallbacks": 0, "unit": "west",
        });
        assert_eq!(stored, before);
        assert_eq!(serde_json::from_value::<LoadSource>(before).unwrap(), unit);
    }

    #[test]
    fn a_load_of_a_unit_needs_no_ring_and_one_without_either_is_refused() {
        let read = |json| serde_json::from_value::<LoadSource>(json);
        let unit = read(json!({"unit": "west", "ring": null})).unwrap();
        assert_eq!(unit, LoadSource::Unit("west".parse().unwrap()));
        assert_eq!(read(json!({"unit": "west"})).unwrap(), unit);
        assert!(read(json!({"fallbacks": 3})).is_err());
    }
}
