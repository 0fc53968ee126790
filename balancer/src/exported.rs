//! The names under which stats are exported for Prometheus: `unitring_filter.<service>;.<stat>`. Pure.
//!
//! The service and the instance end in `;`, as no name does, so that the rules in `stats_config.stats_tags` of
//! `envoy/` can turn any name into a label, with any dots, colons and bars. docs/metrics.md has the contract.

use unitring_protocol::ids::ServiceName;

/// The kind of a stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It has a value.
    Gauge,
}

/// A service's exported stats, beside the counters and gauges of its instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// By the service's own name, as the companion's metrics have it. Its `alias` is for the names of before.
    pub fn new(service: &ServiceName) -> Self {
        Self(format!("unitring_filter.{};.", part(service.as_str())))
    }

    /// A stat of the service.
    pub fn of_service(&self, stat: &str, kind: Kind) -> String {
        format!("{}{}", self.0, last(stat, kind))
    }

    /// A stat of an instance: `stat` is the name that the directory gave it, `id` its id.
    pub fn of_instance(&self, stat: &str, id: &str, what: &str, kind: Kind) -> String {
        // A slot serves one instance after the other, and Envoy never frees a stat.
        let slot = stat.strip_prefix("instance.slot-");
        let name = slot.map_or_else(|| part(id), |number| format!("slot-{number}"));
        format!("{}instance.{name};.{}", self.0, last(what, kind))
    }
}

/// A name without what would end it.
fn part(name: &str) -> String {
    name.replace(';', "_")
}

/// The name of a stat: a counter ends in `_total`, but for what becomes a label, which ends it.
fn last(stat: &str, kind: Kind) -> String {
    if let Some(reason) = stat.strip_prefix("fallback.") {
        return format!("fallback_total.{reason}");
    }
    if stat.starts_with("wiring.") {
        return stat.to_owned();
    }
    let name = stat.replace('.', "_");
    match kind {
        Kind::Counter => format!("{name}_total"),
        Kind::Gauge => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_exported_as_it_is_and_its_end_is_known() {
        let istio = "outbound|8080||orders.default.svc".parse().unwrap();
        let prefix = Prefix::new(&istio);
        assert_eq!(
            prefix.of_service("report.sent", Kind::Counter),
            "unitring_filter.outbound|8080||orders.default.svc;.report_sent_total"
        );
        let named = prefix.of_instance(
            "instance.10.0.0.1_80",
            "10.0.0.1:80",
            "in_flight",
            Kind::Gauge,
        );
        assert!(
            named.ends_with(";.instance.10.0.0.1:80;.in_flight"),
            "{named}"
        );
        let odd = Prefix::new(&"a;b".parse().unwrap());
        assert_eq!(
            odd.of_service("fallback.no_key", Kind::Counter),
            "unitring_filter.a_b;.fallback_total.no_key"
        );
        assert_eq!(
            odd.of_service("wiring.stats", Kind::Gauge),
            "unitring_filter.a_b;.wiring.stats"
        );
        let slot = odd.of_instance("instance.slot-7", "10.0.0.1:80", "calls", Kind::Counter);
        assert_eq!(slot, "unitring_filter.a_b;.instance.slot-7;.calls_total");
    }
}
