//! The hooks that Envoy calls.
//!
//! A panic must not leave a hook: it would end Envoy. So each hook runs behind [`guarded`], and what it returns
//! then is what Envoy takes for a failure of this one call.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::abi::{
    self, ContextEnvoy, EnvoyBuffer, EnvoyHeader, LbConfigEnvoy, LbEnvoy, ServerEnvoy, Timer,
};
use super::server::Ticker;
use super::{Hosts, Level, Metrics, Request, Server, bytes, log};
use crate::policy::Policy;
use crate::reports;
use crate::worker::Worker;

/// The longest answer of a companion that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Runs a hook. After a panic it logs, and returns `otherwise`.
fn guarded<T>(what: &str, otherwise: T, hook: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(hook)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_default();
        log(
            Level::Error,
            &format!("a fault of the module in {what}, which is a bug: {text}"),
        );
        otherwise
    })
}

/// Envoy loads the module. Null refuses that.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    // Envoy may resolve a callback only when it is called first, and end if it is not there.
    let missing = abi::CALLBACKS.iter().find(|name| {
        // SAFETY: the name ends with a NUL.
        unsafe { abi::dlsym(std::ptr::null_mut(), name.as_ptr().cast()) }.is_null()
    });
    if let Some(missing) = missing {
        let (missing, version) = (
            missing.trim_end_matches('\0'),
            abi::VERSION.to_string_lossy(),
        );
        // Envoy's own log may be among what is missing.
        eprintln!(
            "unitring: this Envoy has another interface for modules than {version}, for which this module was \
             built: it lacks {missing}. Use Envoy 1.40, or a module that was built for this Envoy."
        );
        return std::ptr::null();
    }
    abi::VERSION.as_ptr()
}

/// A cluster has the policy. Null refuses the configuration.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_lb_config_new(
    config: LbConfigEnvoy,
    _name: EnvoyBuffer,
    settings: EnvoyBuffer,
) -> *const c_void {
    guarded("a policy's configuration", std::ptr::null(), || {
        // SAFETY: both are Envoy's, and the policy is destroyed before the configuration.
        let (metrics, settings) = unsafe { (Metrics::new(config), bytes(settings)) };
        match Policy::new(settings, metrics) {
            Ok(policy) => Box::into_raw(Box::new(policy)).cast_const().cast(),
            Err(error) => {
                log(Level::Error, &error);
                std::ptr::null()
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_lb_config_destroy(policy: *const c_void) {
    guarded("the end of a policy", (), || {
        // SAFETY: this pointer came from `Box::into_raw` above, and Envoy destroys each policy once.
        drop(unsafe { Box::from_raw(policy.cast_mut().cast::<Arc<Policy>>()) });
    });
}

/// A thread begins to use a cluster.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_lb_new(policy: *const c_void, lb: LbEnvoy) -> *const c_void {
    guarded("a new load balancer", std::ptr::null(), || {
        // SAFETY: the pointer is a policy that lives. `lb` is that of this hook.
        let (policy, hosts) = unsafe { (&*policy.cast::<Arc<Policy>>(), Hosts::new(lb)) };
        let worker = Worker::new(Arc::clone(policy), &hosts);
        Box::into_raw(Box::new(worker)).cast_const().cast()
    })
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_lb_destroy(worker: *const c_void) {
    guarded("the end of a load balancer", (), || {
        // SAFETY: this pointer came from `Box::into_raw` above, and Envoy destroys each load balancer once.
        drop(unsafe { Box::from_raw(worker.cast_mut().cast::<Worker>()) });
    });
}

/// The hosts of a cluster, or their health, have changed for this thread.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_lb_on_host_membership_update(
    lb: LbEnvoy,
    worker: *const c_void,
    _added: usize,
    _removed: usize,
) {
    guarded("a change of hosts", (), || {
        // SAFETY: the pointer is a load balancer of this thread, which Envoy uses here alone. `lb` is that of
        // this hook.
        let (worker, hosts) = unsafe { (&mut *worker.cast_mut().cast::<Worker>(), Hosts::new(lb)) };
        worker.on_hosts(&hosts);
    });
}

/// Chooses a host, by its place among the healthy ones of a priority. `false` means none.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_lb_choose_host(
    lb: LbEnvoy,
    worker: *const c_void,
    context: ContextEnvoy,
    priority: *mut u32,
    index: *mut u32,
) -> bool {
    // SAFETY: the pointer is a load balancer of this thread, which Envoy uses here alone; the others are those of
    // this hook.
    let (worker, hosts, request) = unsafe {
        (
            &mut *worker.cast_mut().cast::<Worker>(),
            Hosts::new(lb),
            Request::new(context),
        )
    };
    let chosen = guarded("a choice", None, || Some(worker.choose(&hosts, &request)));
    let chosen = chosen.unwrap_or_else(|| {
        guarded("a choice after a fault", None, || {
            worker.choose_after_fault(&hosts, &request)
        })
    });
    let Some(place) = chosen else {
        return false;
    };
    // SAFETY: Envoy passes places to write to.
    unsafe {
        *priority = place.priority;
        *index = place.healthy;
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
    server: ServerEnvoy,
    _name: EnvoyBuffer,
    settings: EnvoyBuffer,
) -> *const c_void {
    guarded(
        "the bootstrap extension's configuration",
        std::ptr::null(),
        || {
            // SAFETY: both are Envoy's, and those of this hook.
            let (server, settings) = unsafe { (Server::new(server), bytes(settings)) };
            server.is_ready();
            if let Err(error) = reports::begin(settings) {
                log(Level::Error, &error);
                return std::ptr::null();
            }
            // It fires once the server runs.
            let ticker = Ticker::new(&server);
            ticker.fire_in(reports::FIRST_MS);
            Box::into_raw(Box::new(ticker)).cast_const().cast()
        },
    )
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(ticker: *const c_void) {
    guarded("the end of the bootstrap extension", (), || {
        // SAFETY: this pointer came from `Box::into_raw` above, and Envoy destroys it once.
        drop(unsafe { Box::from_raw(ticker.cast_mut().cast::<Ticker>()) });
    });
}

/// Not null, which would be a failure; the extension itself keeps nothing.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
    extension: *const c_void,
    _envoy: *mut c_void,
) -> *const c_void {
    extension
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_destroy(_extension: *const c_void) {}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_server_initialized(
    _envoy: *mut c_void,
    _extension: *const c_void,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized(
    _envoy: *mut c_void,
    _extension: *const c_void,
) {
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_drain_started(
    _envoy: *mut c_void,
    _extension: *const c_void,
) {
}

/// Envoy waits for the call of `done`.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
    _envoy: *mut c_void,
    _extension: *const c_void,
    done: Option<unsafe extern "C" fn(*mut c_void)>,
    context: *mut c_void,
) {
    if let Some(done) = done {
        // SAFETY: Envoy passes this function and what it wants to be called with.
        unsafe { done(context) }
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_scheduled(
    _server: ServerEnvoy,
    _extension: *const c_void,
    _event: u64,
) {
}

/// A request of this module has ended.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
    _server: ServerEnvoy,
    _extension: *const c_void,
    id: u64,
    result: u32,
    headers: *const EnvoyHeader,
    headers_length: usize,
    chunks: *const EnvoyBuffer,
    chunks_length: usize,
) {
    guarded("an answer of the companion", (), || {
        if result != abi::CALLOUT_SUCCESS || headers.is_null() {
            return reports::on_answer(id, Err("no answer".to_owned()));
        }
        // SAFETY: Envoy passes this many headers and pieces, which stay while the hook runs.
        let (headers, chunks) = unsafe {
            let chunks = match chunks.is_null() {
                true => &[][..],
                false => std::slice::from_raw_parts(chunks, chunks_length),
            };
            (std::slice::from_raw_parts(headers, headers_length), chunks)
        };
        // SAFETY: as above.
        let texts = |header: &EnvoyHeader| unsafe { (bytes(header.key), bytes(header.value)) };
        let mut texts = headers.iter().map(texts);
        let status = texts.find(|(key, _)| *key == b":status");
        let status = String::from_utf8_lossy(status.map_or(b"", |(_, value)| value));
        let mut body = Vec::new();
        for chunk in chunks {
            // SAFETY: as above.
            body.extend_from_slice(unsafe { bytes(*chunk) });
            if body.len() > ANSWER_BYTES_MAX {
                return reports::on_answer(id, Err("an answer that is too long".to_owned()));
            }
        }
        reports::on_answer(id, reports::body_of(&status, body));
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_timer_fired(
    server: ServerEnvoy,
    ticker: *const c_void,
    _timer: Timer,
) {
    // SAFETY: the pointer is the ticker, which lives. `server` is that of this hook.
    let (ticker, server) = unsafe { (&*ticker.cast::<Ticker>(), Server::new(server)) };
    ticker.fire_in(guarded("the timer", reports::FIRST_MS, || {
        reports::tick(&server)
    }));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_file_changed(
    _server: ServerEnvoy,
    _extension: *const c_void,
    _path: EnvoyBuffer,
    _events: u32,
) {
}

/// This module adds no page to Envoy's admin interface.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_bootstrap_extension_admin_request(
    _server: ServerEnvoy,
    _extension: *const c_void,
    _method: EnvoyBuffer,
    _path: EnvoyBuffer,
    _body: EnvoyBuffer,
) -> u32 {
    404
}

/// Defines hooks of the same form that this module does not need, but Envoy does.
macro_rules! ignored {
    ($($name:ident,)*) => {
        $(#[unsafe(no_mangle)]
        extern "C" fn $name(_server: ServerEnvoy, _extension: *const c_void, _name: EnvoyBuffer) {})*
    };
}

ignored! {
    envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update,
    envoy_dynamic_module_on_bootstrap_extension_cluster_removal,
    envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update,
    envoy_dynamic_module_on_bootstrap_extension_listener_removal,
}
