//! A cluster's configuration → the state that all threads share for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::ThreadId;

use unitring_balancer::exported::{Kind, Prefix};
use unitring_balancer::settings::Settings;

use crate::binding::{Counter, Gauge, Hosts, KeptHosts, Level, Metrics, log};
use crate::loads::Total;
use crate::members;
use crate::placed::{AllPicks, Placed};
use crate::reports::{self, Desk};

/// A cluster that has the policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) settings: Settings,
    pub(crate) stats: Stats,
    pub(crate) total: Total,
    /// The thread that reads the hosts and builds the rings.
    main: ThreadId,
    /// The main thread's view of the hosts, once it has one.
    kept: Mutex<Option<KeptHosts>>,
    /// Whether the main thread has had several views at once, as it has with subsets: each is of other hosts.
    has_subsets: AtomicBool,
    published: RwLock<Arc<Placed>>,
    /// Grows with each publication. 0 while nothing was published.
    version: AtomicU64,
    /// The picks of each host. Envoy gives each cluster hosts of its own, which count from 0.
    pub(crate) picks: Mutex<AllPicks>,
    /// Requests of the service that were not placed by their key, since the process started: Envoy does not tell the
    /// value of a counter.
    pub(crate) fallbacks: Arc<AtomicU64>,
    desk: Arc<Mutex<Desk>>,
}

/// Takes a lock even if its last holder panicked: the guarded value is replaced whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Policy {
    /// # Errors
    /// The line for the log, if the settings break a rule.
    pub(crate) fn new(settings: &[u8], metrics: Metrics) -> Result<Arc<Self>, String> {
        let settings =
            Settings::of_policy(settings).map_err(|error| format!("settings: {error}"))?;
        if settings.companion.is_some() && !reports::are_sent() {
            log(
                Level::Info,
                &format!(
                    "{}: nothing is reported to a companion, and the bound is that of this process alone, since \
                     the module is not among the bootstrap_extensions",
                    settings.service
                ),
            );
        }
        let desk = reports::desk(&settings);
        let fallbacks = Arc::clone(&locked(&desk).fallbacks);
        Ok(Arc::new(Self {
            stats: Stats::define(metrics, &settings.stat_name, &settings.exported),
            total: Total::default(),
            main: std::thread::current().id(),
            kept: Mutex::default(),
            has_subsets: AtomicBool::new(false),
            published: RwLock::new(Arc::new(Placed::nobody(&settings))),
            version: AtomicU64::new(0),
            picks: Mutex::default(),
            fallbacks,
            desk,
            settings,
        }))
    }

    /// A thread has a view of the cluster from now on.
    pub(crate) fn on_new(self: &Arc<Self>, hosts: &Hosts<'_>) {
        if !self.is_main() {
            return;
        }
        let (cluster, service) = (hosts.cluster(), self.settings.service.as_str());
        if cluster != service {
            log(
                Level::Warn,
                &format!(
                    "the policy of the cluster {cluster} says service: {service}, under which it is reported"
                ),
            );
        }
        let before = locked(&self.kept).replace(KeptHosts::of(hosts));
        if before.is_some() && !self.has_subsets.swap(true, Ordering::Relaxed) {
            log(
                Level::Warn,
                &format!(
                    "{service}: the module does not place keys in the subsets of a cluster: they are spread by their hash"
                ),
            );
        }
        locked(&self.desk).serve(self);
    }

    /// The view of a thread ends.
    pub(crate) fn on_end(&self) {
        if self.is_main() {
            *locked(&self.kept) = None;
        }
    }

    /// On the main thread: reads the hosts, and publishes how requests are placed on them.
    pub(crate) fn on_hosts(&self, hosts: &Hosts<'_>) {
        if self.is_main() {
            let by_locality = self.settings.ring.locality_weights == Some(true);
            let members = members::read(hosts, by_locality);
            locked(&self.desk).install(self, &members);
        }
    }

    /// Whether the hosts of a view are only some of those that are published.
    #[inline]
    pub(crate) fn has_subsets(&self) -> bool {
        self.has_subsets.load(Ordering::Relaxed)
    }

    fn is_main(&self) -> bool {
        std::thread::current().id() == self.main
    }

    /// Passes on the main thread's view of the hosts.
    pub(crate) fn with_hosts<T>(&self, use_them: impl FnOnce(&Hosts<'_>) -> T) -> Option<T> {
        locked(&self.kept).as_ref()?.with(use_them)
    }

    /// How requests are placed now.
    pub(crate) fn placed(&self) -> Arc<Placed> {
        Arc::clone(
            &self
                .published
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Which publication is in force.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Publishes how requests are placed from now on.
    pub(crate) fn publish(&self, placed: Placed) {
        *self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(placed);
        self.version.fetch_add(1, Ordering::Release);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// The stats of a service, with the names that the filter gives them.
        #[derive(Debug)]
        pub(crate) struct Stats {
            metrics: Metrics,
            /// Hosts of the cluster.
            instances: Gauge,
            /// Hosts that are on a ring.
            instances_eligible: Gauge,
            $($(#[$doc])* pub(crate) $field: Counter,)*
        }

        impl Stats {
            fn define(metrics: Metrics, service: &str, exported: &Prefix) -> Self {
                let name = |what: &str| format!("unitring.{service}.{what}");
                let gauge = |what| {
                    metrics.gauge([&exported.of_service(what, Kind::Gauge), &name(what)])
                };
                let counter = |what| {
                    metrics.counter([&exported.of_service(what, Kind::Counter), &name(what)])
                };
                Self {
                    metrics,
                    instances: gauge("instances"),
                    instances_eligible: gauge("instances_eligible"),
                    $($field: counter($name),)*
                }
            }
        }
    };
}

counters! {
    /// Placed on another instance, since the owner was at its capacity.
    overflow = "overflow",
    /// Placed on the least loaded instance, since all were at their capacity.
    least_loaded = "least_loaded",
    /// Refused, since all were at `load.max_in_flight`.
    full = "full",
    /// Attempts after the first.
    retries = "retries",
    /// Requests without a hash key, which went to an instance at random.
    no_key = "fallback.no_key",
    /// Requests that found no healthy host.
    no_ring = "fallback.no_ring",
    /// Requests whose owner is unhealthy while their priority panics: they went to a healthy instance.
    unnameable = "fallback.unnameable",
    /// Choices that ended in a fault of the module.
    faults = "faults",
    /// Reports that the companion took.
    report_sent = "report.sent",
    /// Reports that the companion did not take.
    report_failed = "report.failed",
    /// Events dropped because no companion took them in time.
    events_dropped = "events.dropped",
    /// Times that a snapshot of the fleet became too old to be used.
    fleet_stale = "fleet.stale",
}

impl Stats {
    pub(crate) fn add(&self, counter: Counter, by: u64) {
        if by > 0 {
            self.metrics.add(counter, by);
        }
    }

    pub(crate) fn instances(&self, all: usize, eligible: usize) {
        self.metrics.set(self.instances, all);
        self.metrics.set(self.instances_eligible, eligible);
    }
}
