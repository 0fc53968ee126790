//! Checks the wiring and logs mistakes.

use super::Desk;
use crate::filter::shared::{self, key};
use unitring_balancer::discovery::routes::Routes;
use unitring_balancer::settings::Settings;
use unitring_balancer::wiring::keys::{Keys, check_routes};
use unitring_balancer::wiring::{self, Kind, Mistake};

/// Time between two looks at the filter's own stats.
const CHECK_MS: u64 = 5_000;
/// Time after which the filter tells its key again, by which other filters know that it is there.
const TELL_KEY_MS: u64 = 30_000;

impl Desk {
    pub(super) fn check(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.checked_ms) >= CHECK_MS {
            self.checked_ms = now_ms;
            self.check_stats();
        }
        let service = &self.service;
        // Whatever the source of instances: other filters may read routes to this one's service.
        if now_ms.abs_diff(self.key_told_ms) >= TELL_KEY_MS
            && tell_key(&service.settings, self.configuration, now_ms)
        {
            self.key_told_ms = now_ms;
        }
        for warning in self.wiring.warnings(now_ms) {
            log::warn!("unitring: {}: {warning}", service.settings.service);
        }
        for (kind, gauge) in Kind::ALL.iter().zip(&service.stats.wiring) {
            let (is_there, was_there) = (self.wiring.has(*kind), gauge.show() > 0);
            if is_there != was_there {
                gauge.set(usize::from(is_there));
            }
        }
    }

    fn check_stats(&mut self) {
        let stats = &self.service.stats;
        stats.probe.set(1);
        let mistake = self.service.lost_stat().map(|name| {
            Mistake::new(
                format!("Envoy does not keep {name}, so the bound is off, or not all is counted"),
                "stats_config.stats_matcher: include the prefix wasmcustom., and exclude nothing that begins so",
            )
        });
        let samples = self
            .samples
            .look(stats.choice_sampled.show(), stats.choice_elsewhere.show());
        // Any VM may have met it, and only a new configuration ends it.
        let unread = (stats.updates_unread.show() > 0).then(|| {
            Mistake::new(
                "Envoy does not show the filter the body of an answer that waits, so updates with ;body are refused",
                "the Wasm configuration of the filter: allow_on_headers_stop_iteration: true",
            )
        });
        self.wiring.set(Kind::Stats, mistake);
        self.wiring.set(Kind::ResponseBody, unread);
        if let Some(mistake) = samples {
            self.wiring.set(Kind::ChoiceUnused, mistake);
        }
    }

    /// Checks Envoy's configuration of the cluster.
    pub(super) fn check_cluster(&mut self) {
        let settings = &self.service.settings;
        let found = &self.discovery.found;
        let Some(cluster) = &found.cluster else {
            let mistake = Mistake::new(
                "Envoy does not show its configuration, so the filter assumes Envoy's defaults",
                "allow the path prefix /config_dump where the admin interface has allow_paths",
            );
            self.wiring.set(Kind::ConfigDump, Some(mistake));
            return;
        };
        let hosts = found.members.len();
        let outlier = wiring::check_outlier_detection(settings, cluster, found.runtime, hosts);
        let runtime = wiring::check_runtime(settings, found.hides_runtime);
        let policy = wiring::check_policy(settings, cluster);
        self.wiring.set(Kind::ConfigDump, None);
        self.wiring.set(Kind::OutlierDetection, outlier);
        self.wiring.set(Kind::Runtime, runtime);
        for (kind, mistake) in policy {
            self.wiring.set(kind, mistake);
        }
    }

    pub(super) fn check_routes(&mut self, routes: &Routes) {
        let Some((keys, _)) = shared::read::<Keys>(&keys()) else {
            return;
        };
        let mistake = check_routes(
            &self.service.settings,
            self.discovery.found.cluster.as_ref(),
            routes,
            &keys,
        );
        self.wiring.set(Kind::HashPolicy, mistake);
        let removed = wiring::check_headers(&self.service.settings, &routes.naming);
        self.wiring.set(Kind::HeaderRemoved, removed);
    }
}

/// The key of what the filters of the process hash.
fn keys() -> String {
    key("keys", None, "")
}

/// Tells the filters of the process what one with these settings hashes; `false` if that has to be
/// tried again.
pub(super) fn tell_key(settings: &Settings, configuration: u64, now_ms: u64) -> bool {
    shared::change::<Keys>(&keys(), |keys| {
        keys.tell(settings, configuration, now_ms);
        true
    })
}
