//! The hosts of a cluster as one thread sees them.
//!
//! Envoy numbers hosts in three ways that must not be mixed: by their place among all hosts of a priority, among
//! the healthy ones, and among the healthy ones of a locality.

use std::marker::PhantomData;
use std::thread::ThreadId;

use super::abi::{self, EnvoyBuffer, LbEnvoy, ModuleBuffer};
use super::bytes;
use crate::localities::Name;
use unitring_routing::membership::{Cause, State};

/// Counts of a host, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stat {
    /// Connections that failed.
    ConnectFailures = 0,
    /// Attempts that failed.
    Errors = 2,
    /// Attempts that succeeded.
    Successes = 3,
    /// Attempts that timed out.
    Timeouts = 4,
    /// Attempts that got a connection.
    Total = 5,
    /// Attempts that have a connection now.
    Active = 7,
}

/// The hosts of a cluster, for as long as a hook runs on this thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hosts<'a> {
    lb: LbEnvoy,
    hook: PhantomData<&'a ()>,
}

impl<'a> Hosts<'a> {
    /// # Safety
    /// `lb` must be the load balancer of the running hook, or one that lives on this thread, and `'a` must end
    /// before it does.
    pub(super) unsafe fn new(lb: LbEnvoy) -> Self {
        Self {
            lb,
            hook: PhantomData,
        }
    }

    pub(super) fn lb(&self) -> LbEnvoy {
        self.lb
    }

    pub(crate) fn cluster(&self) -> String {
        // SAFETY: `lb` is valid. Envoy fills the buffer.
        let name = unsafe {
            let mut name = EnvoyBuffer::NOTHING;
            abi::envoy_dynamic_module_callback_lb_get_cluster_name(self.lb, &mut name);
            bytes(name)
        };
        String::from_utf8_lossy(name).into_owned()
    }

    /// How many priorities there are.
    pub(crate) fn priorities(&self) -> u32 {
        // SAFETY: `lb` is valid.
        let count = unsafe { abi::envoy_dynamic_module_callback_lb_get_priority_set_size(self.lb) };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many hosts a priority has.
    pub(crate) fn count(&self, priority: u32) -> usize {
        // SAFETY: `lb` is valid.
        unsafe { abi::envoy_dynamic_module_callback_lb_get_hosts_count(self.lb, priority) }
    }

    /// How many healthy hosts a priority has.
    #[inline]
    pub(crate) fn healthy_count(&self, priority: u32) -> usize {
        // SAFETY: `lb` is valid.
        unsafe { abi::envoy_dynamic_module_callback_lb_get_healthy_hosts_count(self.lb, priority) }
    }

    /// The address of a host, by its place among all. Empty if there is none.
    pub(crate) fn address(&self, priority: u32, at: usize) -> &'a [u8] {
        self.text(|lb, text| {
            // SAFETY: `lb` is valid. Envoy fills the buffer.
            unsafe {
                abi::envoy_dynamic_module_callback_lb_get_host_address(lb, priority, at, text)
            }
        })
        .unwrap_or_default()
    }

    /// The address of a host, by its place among the healthy ones. Empty if there is none.
    pub(crate) fn healthy_address(&self, priority: u32, at: usize) -> &'a [u8] {
        self.text(|lb, text| {
            // SAFETY: `lb` is valid. Envoy fills the buffer.
            unsafe {
                abi::envoy_dynamic_module_callback_lb_get_healthy_host_address(
                    lb, priority, at, text,
                )
            }
        })
        .unwrap_or_default()
    }

    /// The weight of a host, by its place among all.
    pub(crate) fn weight(&self, priority: u32, at: usize) -> u32 {
        // SAFETY: `lb` is valid.
        unsafe { abi::envoy_dynamic_module_callback_lb_get_host_weight(self.lb, priority, at) }
    }

    /// The health of a host, by its place among all. Envoy does not tell why a host is unhealthy.
    pub(crate) fn state(&self, priority: u32, at: usize) -> State {
        // SAFETY: `lb` is valid.
        match unsafe {
            abi::envoy_dynamic_module_callback_lb_get_host_health(self.lb, priority, at)
        } {
            abi::HEALTH_HEALTHY => State::Serving,
            abi::HEALTH_DEGRADED => State::Degraded,
            _ => State::Failed(Cause::Untold),
        }
    }

    /// A count of a host, by its place among all.
    #[inline]
    pub(crate) fn stat(&self, priority: u32, at: usize, stat: Stat) -> u64 {
        // SAFETY: `lb` is valid.
        unsafe {
            abi::envoy_dynamic_module_callback_lb_get_host_stat(self.lb, priority, at, stat as u32)
        }
    }

    /// The `hash_key` of a host's metadata, by its place among all; `None` unless it is a text that is not empty.
    pub(crate) fn hash_key(&self, priority: u32, at: usize) -> Option<String> {
        let (filter, key) = (ModuleBuffer::of(b"envoy.lb"), ModuleBuffer::of(b"hash_key"));
        let text = self.text(|lb, text| {
            // SAFETY: `lb` is valid. Envoy fills the buffer.
            unsafe {
                abi::envoy_dynamic_module_callback_lb_get_host_metadata_string(
                    lb, priority, at, filter, key, text,
                )
            }
        })?;
        let text = String::from_utf8_lossy(text).into_owned();
        Some(text).filter(|text| !text.is_empty())
    }

    /// The name of a host's locality.
    pub(crate) fn locality(&self, priority: u32, at: usize) -> Name {
        let (mut region, mut zone, mut sub_zone) = (
            EnvoyBuffer::NOTHING,
            EnvoyBuffer::NOTHING,
            EnvoyBuffer::NOTHING,
        );
        // SAFETY: `lb` is valid. Envoy fills the buffers.
        let parts = unsafe {
            abi::envoy_dynamic_module_callback_lb_get_host_locality(
                self.lb,
                priority,
                at,
                &mut region,
                &mut zone,
                &mut sub_zone,
            );
            [bytes(region), bytes(zone), bytes(sub_zone)]
        };
        parts.map(|part| String::from_utf8_lossy(part).into_owned())
    }

    /// The weights of a priority's localities, in Envoy's order; 0 where a locality has none.
    pub(crate) fn locality_weights(&self, priority: u32) -> Vec<u32> {
        // SAFETY: `lb` is valid.
        unsafe {
            let count = abi::envoy_dynamic_module_callback_lb_get_locality_count(self.lb, priority);
            (0..count)
                .map(|at| {
                    abi::envoy_dynamic_module_callback_lb_get_locality_weight(self.lb, priority, at)
                })
                .collect()
        }
    }

    /// The addresses of the healthy hosts of a locality.
    pub(crate) fn healthy_in_locality(
        &self,
        priority: u32,
        locality: usize,
    ) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: `lb` is valid.
        let count = unsafe {
            abi::envoy_dynamic_module_callback_lb_get_locality_host_count(
                self.lb, priority, locality,
            )
        };
        (0..count).filter_map(move |at| {
            self.text(|lb, text| {
                // SAFETY: `lb` is valid. Envoy fills the buffer.
                unsafe {
                    abi::envoy_dynamic_module_callback_lb_get_locality_host_address(
                        lb, priority, locality, at, text,
                    )
                }
            })
        })
    }

    /// A text that Envoy points to.
    fn text(&self, ask: impl FnOnce(LbEnvoy, *mut EnvoyBuffer) -> bool) -> Option<&'a [u8]> {
        let mut text = EnvoyBuffer::NOTHING;
        // SAFETY: the buffer is Envoy's. What it points to belongs to a host, which stays while the hook runs.
        ask(self.lb, &mut text).then(|| unsafe { bytes(text) })
    }
}

/// A load balancer of Envoy that is used again after the hook that passed it, on the same thread.
#[derive(Debug)]
pub(crate) struct KeptHosts {
    lb: LbEnvoy,
    thread: ThreadId,
}

// SAFETY: the pointer is used on the thread that it came from, and on no other.
unsafe impl Send for KeptHosts {}
// SAFETY: as above.
unsafe impl Sync for KeptHosts {}

impl KeptHosts {
    /// Keeps the hosts of the running hook. The caller drops this when Envoy drops the load balancer.
    pub(crate) fn of(hosts: &Hosts<'_>) -> Self {
        Self {
            lb: hosts.lb,
            thread: std::thread::current().id(),
        }
    }

    /// Passes the hosts on, unless this is another thread.
    pub(crate) fn with<T>(&self, use_them: impl FnOnce(&Hosts<'_>) -> T) -> Option<T> {
        if std::thread::current().id() != self.thread {
            return None;
        }
        // SAFETY: the load balancer lives on this thread, and this is dropped with it.
        Some(use_them(&unsafe { Hosts::new(self.lb) }))
    }
}
