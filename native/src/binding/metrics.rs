//! Counters and gauges of a policy. Envoy defines them while it reads the policy's configuration, and only then.

use super::abi::{self, LbConfigEnvoy, ModuleBuffer};

/// Where a policy's metrics are defined and counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metrics {
    config: LbConfigEnvoy,
}

// SAFETY: Envoy's metrics are atomics that any thread may change, and the configuration outlives the policy, which
// Envoy destroys first.
unsafe impl Send for Metrics {}
// SAFETY: as above.
unsafe impl Sync for Metrics {}

/// A counter by its names: the exported one and that of before. One that Envoy refused to define is `None`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter([Option<usize>; 2]);

/// A gauge by its names; likewise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauge([Option<usize>; 2]);

impl Metrics {
    /// # Safety
    /// `config` must be the configuration of the running hook. Envoy destroys the policy before it.
    pub(super) unsafe fn new(config: LbConfigEnvoy) -> Self {
        Self { config }
    }

    pub(crate) fn counter(&self, names: [&str; 2]) -> Counter {
        Counter(names.map(|name| self.define_counter(name)))
    }

    pub(crate) fn gauge(&self, names: [&str; 2]) -> Gauge {
        Gauge(names.map(|name| self.define_gauge(name)))
    }

    fn define_counter(&self, name: &str) -> Option<usize> {
        let (name, mut id) = (ModuleBuffer::of(name.as_bytes()), 0);
        // SAFETY: `config` is valid. Envoy writes the id.
        let result = unsafe {
            abi::envoy_dynamic_module_callback_lb_config_define_counter(
                self.config,
                name,
                std::ptr::null_mut(),
                0,
                &mut id,
            )
        };
        (result == abi::METRIC_SUCCESS).then_some(id)
    }

    fn define_gauge(&self, name: &str) -> Option<usize> {
        let (name, mut id) = (ModuleBuffer::of(name.as_bytes()), 0);
        // SAFETY: `config` is valid. Envoy writes the id.
        let result = unsafe {
            abi::envoy_dynamic_module_callback_lb_config_define_gauge(
                self.config,
                name,
                std::ptr::null_mut(),
                0,
                &mut id,
            )
        };
        (result == abi::METRIC_SUCCESS).then_some(id)
    }

    pub(crate) fn add(&self, counter: Counter, by: u64) {
        for id in counter.0.into_iter().flatten() {
            // SAFETY: `config` is valid, and the id is one of its own.
            unsafe {
                abi::envoy_dynamic_module_callback_lb_config_increment_counter(
                    self.config,
                    id,
                    std::ptr::null_mut(),
                    0,
                    by,
                );
            }
        }
    }

    pub(crate) fn set(&self, gauge: Gauge, value: usize) {
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        for id in gauge.0.into_iter().flatten() {
            // SAFETY: `config` is valid, and the id is one of its own.
            unsafe {
                abi::envoy_dynamic_module_callback_lb_config_set_gauge(
                    self.config,
                    id,
                    std::ptr::null_mut(),
                    0,
                    value,
                );
            }
        }
    }
}
