//! The process: its log, a timer, and requests to clusters.

use std::marker::PhantomData;

use super::abi::{self, ModuleBuffer, ModuleHeader, ServerEnvoy, Timer};

/// How grave a line of the log is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    /// Detail for an operator who searches the log.
    Info = 2,
    /// Something is not as it should be.
    Warn = 3,
    /// Something failed.
    Error = 4,
}

/// Writes a line into Envoy's log, as one of `dynamic_modules`.
pub(crate) fn log(level: Level, line: &str) {
    let line = format!("unitring: {line}");
    // SAFETY: Envoy copies the line.
    unsafe {
        abi::envoy_dynamic_module_callback_log(level as u32, ModuleBuffer::of(line.as_bytes()));
    }
}

/// The process, for as long as a hook of the bootstrap extension runs on the main thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    server: ServerEnvoy,
    hook: PhantomData<&'a ()>,
}

/// A request to a cluster.
#[derive(Debug)]
pub(crate) struct Callout<'a> {
    pub(crate) cluster: &'a str,
    /// Its headers; Envoy needs `:method`, `:path` and `:authority`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
    /// How long the answer may take.
    pub(crate) timeout_ms: u64,
}

impl Server<'_> {
    /// # Safety
    /// `server` must be that of the running hook, on the main thread.
    pub(super) unsafe fn new(server: ServerEnvoy) -> Self {
        Self {
            server,
            hook: PhantomData,
        }
    }

    /// Envoy waits for this before it listens.
    pub(super) fn is_ready(&self) {
        // SAFETY: `server` is valid.
        unsafe {
            abi::envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(
                self.server,
            );
        }
    }

    /// Sends a request, and returns the number under which its end will be told; `None` if Envoy has no such
    /// cluster, or the cluster no usable host.
    pub(crate) fn send(&self, callout: &Callout<'_>) -> Option<u64> {
        let header = |(key, value): &(&str, &str)| ModuleHeader {
            key: ModuleBuffer::of(key.as_bytes()),
            value: ModuleBuffer::of(value.as_bytes()),
        };
        let mut headers: Vec<ModuleHeader> = callout.headers.iter().map(header).collect();
        let mut id = 0;
        // SAFETY: `server` is valid. Envoy copies headers and body, and writes the number.
        let result = unsafe {
            abi::envoy_dynamic_module_callback_bootstrap_extension_http_callout(
                self.server,
                &mut id,
                ModuleBuffer::of(callout.cluster.as_bytes()),
                headers.as_mut_ptr(),
                headers.len(),
                ModuleBuffer::of(callout.body),
                callout.timeout_ms,
            )
        };
        (result == abi::CALLOUT_SUCCESS).then_some(id)
    }
}

/// The timer of the bootstrap extension, which belongs to the main thread.
#[derive(Debug)]
pub(super) struct Ticker(Timer);

impl Ticker {
    pub(super) fn new(server: &Server<'_>) -> Self {
        // SAFETY: `server` is valid.
        Self(unsafe {
            abi::envoy_dynamic_module_callback_bootstrap_extension_timer_new(server.server)
        })
    }

    /// Lets it fire once, after this time.
    pub(super) fn fire_in(&self, delay_ms: u64) {
        // SAFETY: the timer lives as long as this.
        unsafe {
            abi::envoy_dynamic_module_callback_bootstrap_extension_timer_enable(self.0, delay_ms)
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // SAFETY: this module owns the timer, and nothing uses it any more.
        unsafe { abi::envoy_dynamic_module_callback_bootstrap_extension_timer_delete(self.0) }
    }
}
