//! The settings of the native module's policy: those of the filter's single service, less what the
//! policy has from Envoy.

use unitring_routing::membership::Identity;

use super::reader::{Section, SettingsError};
use super::{Settings, encoding};
use crate::json::Json;

/// The sections that only the filter has, and what a policy has in their place.
const FILTERS: [(&str, &str); 9] = [
    (
        "services",
        "is for the filter: here each cluster has a policy of its own",
    ),
    (
        "key",
        "is for the filter: here the key is the hash_policy of the route, or of tcp_proxy",
    ),
    (
        "discovery",
        "is for the filter: Envoy tells the policy its hosts",
    ),
    (
        "steer",
        "is for the filter: the policy itself names the host",
    ),
    (
        "ejection",
        "is for the filter: set outlier_detection on the cluster",
    ),
    (
        "slow_start",
        "is for the filter: the native module has no slow start",
    ),
    (
        "capture",
        "is for the filter: the policy does not see answers",
    ),
    (
        "explain",
        "is for the filter: the policy does not see answers",
    ),
    (
        "access_log",
        "is for the filter: Envoy gives a policy no access to filter state",
    ),
];

impl Settings {
    /// Reads the configuration of a policy, as JSON or as a `google.protobuf.Struct`.
    ///
    /// # Errors
    /// [`SettingsError`] for the first field that breaks a rule, or that only the filter has.
    pub fn of_policy(bytes: &[u8]) -> Result<Self, SettingsError> {
        let mut root = Section::new("", encoding::read(bytes)?)?;
        for (field, rule) in FILTERS {
            root.refuse(&[field], rule)?;
        }
        let settings = Self::read(&mut root)?;
        root.finish()?;
        if settings.ring.identity == Some(Identity::Id) {
            let rule = "is for the filter: Envoy tells the policy no host names; give endpoints a hash_key";
            let value = Json::from("id");
            return Err(SettingsError::new("ring.identity", &value, rule));
        }
        Ok(Self {
            key: Vec::new(),
            ejection: None,
            slow_start: None,
            ..settings
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filter_may_have_is_refused_unless_a_policy_has_it_too() {
        let settings =
            Settings::of_policy(br#"{"service": "orders", "load": {"max_in_flight": 9}}"#);
        let settings = settings.unwrap();
        assert_eq!(settings.load.bound.max_in_flight.unwrap().get(), 9);
        assert!(settings.key.is_empty() && settings.ejection.is_none());
        for (json, error) in [
            (
                r#"{"service": "a", "key": [{"header": "x"}]}"#,
                "is for the filter: here the key is",
            ),
            (
                r#"{"service": "a", "explain": true}"#,
                "explain = true: is for the filter",
            ),
            (
                r#"{"service": "a", "access_log": false}"#,
                "access_log = false: is for the filter: Envoy gives",
            ),
            (
                r#"{"service": "a", "ring": {"identity": "id"}}"#,
                r#"ring.identity = "id": is for"#,
            ),
            (r#"{"service": "a", "rng": {}}"#, "rng"),
            ("{}", "service = null: is required"),
            ("[]", "must be an object"),
        ] {
            let told = Settings::of_policy(json.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(told.contains(error), "{json}: {told}");
        }
    }

    #[test]
    fn localities_have_weights_only_where_a_policy_is_told_so() {
        let json = br#"{"service": "a", "ring": {"locality_weights": true}}"#;
        assert_eq!(
            Settings::of_policy(json).unwrap().ring.locality_weights,
            Some(true)
        );
        let told = super::super::Services::parse(json).unwrap_err().to_string();
        assert!(
            told.contains("ring.locality_weights = true: is for the native module"),
            "{told}"
        );
    }
}
