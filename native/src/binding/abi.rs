//! Envoy's C interface for dynamic modules, as far as this module uses it.
//!
//! Names, types and order of the fields are Envoy's (`source/extensions/dynamic_modules/abi/abi.h`, version
//! [`VERSION`]). Everything here is called on the thread that Envoy called the module on.

use std::ffi::{CStr, c_char, c_void};

/// The version of the interface that these declarations follow.
pub(super) const VERSION: &CStr = c"v0.2.0";

/// Bytes that Envoy owns. They live until the hook returns, unless a declaration says otherwise.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct EnvoyBuffer {
    pub(super) ptr: *const u8,
    pub(super) length: usize,
}

impl EnvoyBuffer {
    pub(super) const NOTHING: Self = Self {
        ptr: std::ptr::null(),
        length: 0,
    };
}

/// Bytes that this module owns. Envoy copies what it keeps.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ModuleBuffer {
    ptr: *const u8,
    length: usize,
}

impl ModuleBuffer {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            ptr: bytes.as_ptr(),
            length: bytes.len(),
        }
    }
}

/// A header that this module sends.
#[repr(C)]
pub(super) struct ModuleHeader {
    pub(super) key: ModuleBuffer,
    pub(super) value: ModuleBuffer,
}

/// A header that came to Envoy.
#[repr(C)]
pub(super) struct EnvoyHeader {
    pub(super) key: EnvoyBuffer,
    pub(super) value: EnvoyBuffer,
}

/// Envoy's side of a load balancer of one thread.
pub(super) type LbEnvoy = *mut c_void;
/// Envoy's side of a policy's configuration.
pub(super) type LbConfigEnvoy = *mut c_void;
/// Envoy's side of a request or connection that needs a host.
pub(super) type ContextEnvoy = *mut c_void;
/// Envoy's side of the bootstrap extension's configuration.
pub(super) type ServerEnvoy = *mut c_void;
/// A timer of the bootstrap extension.
pub(super) type Timer = *mut c_void;

/// `envoy_dynamic_module_type_host_health`.
pub(super) const HEALTH_DEGRADED: u32 = 1;
pub(super) const HEALTH_HEALTHY: u32 = 2;

/// `envoy_dynamic_module_type_metrics_result`.
pub(super) const METRIC_SUCCESS: u32 = 0;

/// `envoy_dynamic_module_type_http_callout_init_result` and `…_http_callout_result`.
pub(super) const CALLOUT_SUCCESS: u32 = 0;

/// Declares the callbacks, and lists their names for the check at load.
macro_rules! callbacks {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)?;)*) => {
        unsafe extern "C" {
            $(pub(super) fn $name($($arg: $type),*) $(-> $result)?;)*
        }

        /// Every callback that this module calls, each with a NUL at the end.
        pub(super) const CALLBACKS: &[&str] = &[$(concat!(stringify!($name), "\0")),*];
    };
}

callbacks! {
    fn envoy_dynamic_module_callback_log(level: u32, message: ModuleBuffer);

    fn envoy_dynamic_module_callback_lb_get_cluster_name(lb: LbEnvoy, name: *mut EnvoyBuffer);
    fn envoy_dynamic_module_callback_lb_get_priority_set_size(lb: LbEnvoy) -> usize;
    fn envoy_dynamic_module_callback_lb_get_hosts_count(lb: LbEnvoy, priority: u32) -> usize;
    fn envoy_dynamic_module_callback_lb_get_healthy_hosts_count(lb: LbEnvoy, priority: u32) -> usize;
    fn envoy_dynamic_module_callback_lb_get_host_address(
        lb: LbEnvoy, priority: u32, index: usize, address: *mut EnvoyBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_lb_get_healthy_host_address(
        lb: LbEnvoy, priority: u32, index: usize, address: *mut EnvoyBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_lb_get_host_weight(lb: LbEnvoy, priority: u32, index: usize) -> u32;
    fn envoy_dynamic_module_callback_lb_get_host_health(lb: LbEnvoy, priority: u32, index: usize) -> u32;
    fn envoy_dynamic_module_callback_lb_get_host_stat(
        lb: LbEnvoy, priority: u32, index: usize, stat: u32,
    ) -> u64;
    fn envoy_dynamic_module_callback_lb_get_host_locality(
        lb: LbEnvoy, priority: u32, index: usize,
        region: *mut EnvoyBuffer, zone: *mut EnvoyBuffer, sub_zone: *mut EnvoyBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_lb_get_host_metadata_string(
        lb: LbEnvoy, priority: u32, index: usize,
        filter: ModuleBuffer, key: ModuleBuffer, value: *mut EnvoyBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_lb_get_locality_count(lb: LbEnvoy, priority: u32) -> usize;
    fn envoy_dynamic_module_callback_lb_get_locality_host_count(
        lb: LbEnvoy, priority: u32, locality: usize,
    ) -> usize;
    fn envoy_dynamic_module_callback_lb_get_locality_host_address(
        lb: LbEnvoy, priority: u32, locality: usize, index: usize, address: *mut EnvoyBuffer,
    ) -> bool;
    fn envoy_dynamic_module_callback_lb_get_locality_weight(
        lb: LbEnvoy, priority: u32, locality: usize,
    ) -> u32;

    fn envoy_dynamic_module_callback_lb_context_compute_hash_key(
        context: ContextEnvoy, hash: *mut u64,
    ) -> bool;
    fn envoy_dynamic_module_callback_lb_context_should_select_another_host(
        lb: LbEnvoy, context: ContextEnvoy, priority: u32, index: usize,
    ) -> bool;

    fn envoy_dynamic_module_callback_lb_config_define_counter(
        config: LbConfigEnvoy, name: ModuleBuffer, labels: *mut ModuleBuffer, labels_length: usize, id: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_lb_config_increment_counter(
        config: LbConfigEnvoy, id: usize, labels: *mut ModuleBuffer, labels_length: usize, by: u64,
    ) -> u32;
    fn envoy_dynamic_module_callback_lb_config_define_gauge(
        config: LbConfigEnvoy, name: ModuleBuffer, labels: *mut ModuleBuffer, labels_length: usize, id: *mut usize,
    ) -> u32;
    fn envoy_dynamic_module_callback_lb_config_set_gauge(
        config: LbConfigEnvoy, id: usize, labels: *mut ModuleBuffer, labels_length: usize, value: u64,
    ) -> u32;

    fn envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(server: ServerEnvoy);
    fn envoy_dynamic_module_callback_bootstrap_extension_timer_new(server: ServerEnvoy) -> Timer;
    fn envoy_dynamic_module_callback_bootstrap_extension_timer_enable(timer: Timer, delay_ms: u64);
    fn envoy_dynamic_module_callback_bootstrap_extension_timer_delete(timer: Timer);
    fn envoy_dynamic_module_callback_bootstrap_extension_http_callout(
        server: ServerEnvoy, id: *mut u64, cluster: ModuleBuffer,
        headers: *mut ModuleHeader, headers_length: usize, body: ModuleBuffer, timeout_ms: u64,
    ) -> u32;
}

#[cfg(feature = "trap")]
unsafe extern "C" {
    pub(super) fn envoy_dynamic_module_callback_lb_context_get_downstream_header(
        context: ContextEnvoy,
        key: ModuleBuffer,
        value: *mut EnvoyBuffer,
        index: usize,
        count: *mut usize,
    ) -> bool;
}

unsafe extern "C" {
    /// glibc's. A null handle stands for the program and what it has loaded.
    pub(super) fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}
