//! `/runtime` → the values of Envoy's runtime that override a cluster's configuration.
//!
//! A key of the runtime takes precedence over the field of every cluster that it stands for
//! (`LoadBalancerBase::recalculatePerPriorityPanic`, `DetectorImpl::ejectHost`). Envoy reads the
//! panic threshold when it recomputes a cluster's load, which it does when a host or its health
//! changes and not when the runtime does. So the threshold in force is that of the last such change
//! ([`InForce`]).

use super::DiscoveryError;
use crate::json::{self, Json, JsonError};
use crate::stored::stored;

/// The runtime's values; `None` where it has none, and the cluster's configuration counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runtime {
    /// `upstream.healthy_panic_threshold`, in whole percent.
    pub panic_threshold: Option<u32>,
    /// `outlier_detection.max_ejection_percent`.
    pub max_ejection_percent: Option<u32>,
}

stored!(Runtime {
    panic_threshold,
    max_ejection_percent
});

const PANIC_THRESHOLD: &str = "upstream.healthy_panic_threshold";
const MAX_EJECTION_PERCENT: &str = "outlier_detection.max_ejection_percent";

const FIELDS: [&str; 4] = [
    "entries",
    "final_value",
    PANIC_THRESHOLD,
    MAX_EJECTION_PERCENT,
];

/// A longer answer is not read.
pub const BYTES_MAX: usize = 1 << 20;

/// Reads `/runtime`.
///
/// # Errors
/// If the answer has another form than Envoy's.
pub fn read(body: &[u8]) -> Result<Runtime, DiscoveryError> {
    let answer = json::read(body, &FIELDS)?;
    let entries = answer.field("entries")?;
    let entries = entries.ok_or(JsonError::Missing("entries"))?;
    let percent = |key| -> Result<Option<u32>, JsonError> {
        let Some(entry) = entries.field(key)? else {
            return Ok(None);
        };
        Ok(entry.text("final_value")?.and_then(percent))
    };
    Ok(Runtime {
        panic_threshold: percent(PANIC_THRESHOLD)?,
        max_ejection_percent: percent(MAX_EJECTION_PERCENT)?,
    })
}

/// A number of the runtime, as Envoy reads it: without its fraction, and cut to 100. One that is negative, and
/// anything else, does not count (seen on 1.40.0).
fn percent(text: &str) -> Option<u32> {
    let number = match json::read_all(text.trim().as_bytes()).ok()? {
        Json::Number(number) => return Some(u32::try_from(number.min(100)).unwrap_or(100)),
        Json::Double(number) => number,
        _ => return None,
    };
    let whole = (0..=100u32).take_while(|whole| f64::from(*whole) <= number);
    whole.last()
}

const LAYER_FIELDS: [&str; 7] = [
    "configs",
    "bootstrap",
    "layered_runtime",
    "layers",
    "rtds_layer",
    "disk_layer",
    "static_layer",
];

/// Reads from the bootstrap whether the runtime may override anything: it has a layer from a file, from a
/// server, or one that is written in the bootstrap. Where the admin interface may change the
/// runtime, the filter may read it there, too.
///
/// # Errors
/// If the answer has another form than Envoy's.
pub fn may_say_something(bootstrap: &[u8]) -> Result<bool, DiscoveryError> {
    let answer = json::read(bootstrap, &LAYER_FIELDS)?;
    let configs = answer.list("configs")?.unwrap_or_default();
    let Some(bootstrap) = configs
        .first()
        .and_then(|config| config.field("bootstrap").ok()?)
    else {
        return Ok(false);
    };
    let Some(runtime) = bootstrap.field("layered_runtime")? else {
        return Ok(false);
    };
    let layers = runtime.list("layers")?.unwrap_or_default();
    let says = |layer: &Json| {
        let has = |kind| layer.field(kind).is_ok_and(|field| field.is_some());
        has("rtds_layer") || has("disk_layer") || has("static_layer")
    };
    Ok(layers.iter().any(says))
}

/// The runtime values in force for a cluster. A VM that takes over from another goes on with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InForce {
    runtime: Runtime,
    /// Whether the runtime may have overrides that Envoy does not show.
    hidden: bool,
    /// Hash of the cluster's hosts and their states at the last change.
    states: Option<u64>,
    /// Whether Envoy has recomputed the cluster's load since the runtime was read.
    renewed: bool,
}

stored!(InForce {
    runtime,
    hidden,
    states,
    renewed
});

impl InForce {
    /// The runtime's values.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Whether it may have other overrides, which Envoy does not show.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Whether it must be read before the cluster's load is known.
    pub fn is_due(&self) -> bool {
        self.renewed
    }

    /// Takes the hash of the hosts and their states on a page.
    pub fn see_states(&mut self, states: u64) {
        if self.states.replace(states) != Some(states) {
            self.renewed = true;
        }
    }

    /// Notes that Envoy has other endpoints or another cluster than before.
    pub fn renew(&mut self) {
        self.renewed = true;
    }

    /// Takes the runtime's present values.
    pub fn take(&mut self, now: Runtime) {
        let threshold = match self.renewed || self.hidden {
            true => now.panic_threshold,
            false => self.runtime.panic_threshold,
        };
        self.runtime = Runtime {
            panic_threshold: threshold,
            ..now
        };
        self.renewed = false;
        self.hidden = false;
    }

    /// The filter cannot see the runtime; `may_say_something` as the bootstrap says.
    pub fn is_unseen(&mut self, may_say_something: bool) {
        self.renewed = false;
        self.hidden = may_say_something;
        self.runtime = Runtime::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn says(value: &str) -> Option<u32> {
        let body = format!(
            r#"{{"layers": ["static", "admin"], "entries": {{"other": {{"final_value": "1"}},
            "{PANIC_THRESHOLD}": {{"layer_values": ["30", {value}], "final_value": {value}}}}}}}"#
        );
        read(body.as_bytes()).unwrap().panic_threshold
    }

    #[test]
    fn a_value_counts_if_it_is_a_number_and_is_cut_to_a_whole_one_up_to_100() {
        for (value, expected) in [
            (r#""0""#, Some(0)),
            (r#""30""#, Some(30)),
            (r#"" 7 ""#, Some(7)),
            (r#""40.0""#, Some(40)),
            (r#""1e3""#, Some(100)),
            (r#""18446744073709551615""#, Some(100)),
            (r#""12.5""#, Some(12)),
            (r#""0.9""#, Some(0)),
            (r#""-3""#, None),
            (r#""-0.5""#, None),
            (r#""true""#, None),
            (r#""abc""#, None),
            (r#""""#, None),
        ] {
            assert_eq!(says(value), expected, "{value}");
        }
        let nothing = read(br#"{"layers": [], "entries": {}}"#).unwrap();
        assert_eq!(nothing, Runtime::default());
        assert!(read(b"{}").is_err() && read(b"no").is_err());
    }

    #[test]
    fn the_bootstrap_tells_whether_the_runtime_may_say_something() {
        let may = |layers: &str| {
            let body = format!(r#"{{"configs": [{{"bootstrap": {layers}}}]}}"#);
            may_say_something(body.as_bytes()).unwrap()
        };
        assert!(!may("{}"));
        assert!(!may(
            r#"{"layered_runtime": {"layers": [{"name": "a", "admin_layer": {}}]}}"#
        ));
        assert!(may(
            r#"{"layered_runtime": {"layers": [{"admin_layer": {}}, {"rtds_layer": {"name": "r"}}]}}"#
        ));
        assert!(may(
            r#"{"layered_runtime": {"layers": [{"static_layer": {"upstream": {}}}]}}"#
        ));
        assert!(!may_say_something(br#"{"configs": []}"#).unwrap());
        assert!(may_say_something(b"no").is_err());
    }

    #[test]
    fn a_threshold_is_in_force_once_a_host_has_changed() {
        let of = |percent| Runtime {
            panic_threshold: Some(percent),
            max_ejection_percent: Some(percent),
        };
        let mut force = InForce::default();
        force.see_states(1);
        assert!(force.is_due());
        force.take(of(30));
        assert!(!force.is_due());
        assert_eq!(force.runtime(), of(30), "the first is taken as it is");
        force.see_states(1);
        force.take(of(0));
        assert_eq!(force.runtime().panic_threshold, Some(30), "nothing changed");
        assert_eq!(force.runtime().max_ejection_percent, Some(0));
        force.see_states(2);
        force.take(of(0));
        assert_eq!(force.runtime().panic_threshold, Some(0));
        force.renew();
        force.is_unseen(true);
        assert!(force.is_hidden() && !force.is_due());
        assert_eq!(force.runtime(), Runtime::default());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            drop(read(&bytes));
            drop(may_say_something(&bytes));
        }
    }
}
