//! One VM: its configuration, its timer, the answers to its callouts, and its streams.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::desk::Desk;
use super::service::Service;
use super::stream::Stream;
use unitring_balancer::settings::{Services, Settings};
use unitring_routing::hash::xxh64;

/// The timer runs at least this often, so that a change soon reaches every worker.
pub(super) const TICK_MAX: Duration = Duration::from_millis(250);

/// The root context of a VM; empty until it is configured.
pub(super) struct Root {
    id: u32,
    desks: Vec<Desk>,
    routes: Rc<Routes>,
    /// Whether this VM has ever received a request.
    serves: Cell<bool>,
}

/// Decides which service a request belongs to.
#[derive(Default)]
pub(super) struct Routes {
    services: Vec<Rc<Service>>,
    by_route: bool,
}

impl Routes {
    /// The service of the current request. With one service alone, Envoy need not be asked.
    pub(super) fn service(&self) -> Option<Rc<Service>> {
        if !self.by_route {
            return self.services.first().cloned();
        }
        // The attribute `cluster_name` is known only once a host is chosen (seen on 1.40.0).
        let cluster = super::property(&["xds", "cluster_name"])?;
        let mut services = self.services.iter();
        services
            .find(|service| service.settings.service.as_str().as_bytes() == cluster)
            .cloned()
    }
}

impl Root {
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            desks: Vec::new(),
            routes: Rc::default(),
            serves: Cell::new(false),
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _: usize, body_size: usize, _: usize) {
        let now_ms = millis(self.get_current_time());
        for desk in &mut self.desks {
            if desk.answered(token, body_size, now_ms) {
                return;
            }
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        let services = match Services::parse(&bytes) {
            Ok(services) => services,
            Err(error) => {
                log::error!("unitring: settings refused: {error}");
                return false;
            }
        };
        let node_id = super::text(&["node", "id"]).unwrap_or_default();
        let now_ms = millis(self.get_current_time());
        let configuration = xxh64(&bytes);
        let tick = tick_period(&services.all);
        self.set_tick_period(tick);
        self.desks = services
            .all
            .into_iter()
            .map(|settings| {
                Desk::new(
                    settings,
                    (self.id, tick),
                    configuration,
                    &node_id,
                    random,
                    now_ms,
                )
            })
            .collect();
        self.routes = Rc::new(Routes {
            services: self
                .desks
                .iter()
                .map(|desk| Rc::clone(&desk.service))
                .collect(),
            by_route: services.by_route,
        });
        true
    }

    fn on_tick(&mut self) {
        let now_ms = millis(self.get_current_time());
        for desk in &mut self.desks {
            desk.tick(self.serves.get(), now_ms);
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        if !self.serves.replace(true) {
            for desk in &self.desks {
                desk.vms.join();
            }
        }
        Some(Box::new(Stream::new(id, Rc::clone(&self.routes))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn tick_period(services: &[Settings]) -> Duration {
    let intervals = services.iter().flat_map(|settings| {
        let companion = settings.companion.as_ref();
        [
            Some(settings.discovery.interval),
            companion.map(|companion| companion.interval),
        ]
    });
    intervals.flatten().fold(TICK_MAX, Duration::min)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A number that no other VM has, from the randomness that Envoy gives a VM.
fn random() -> u64 {
    random::number()
}

/// `RandomState` would do, but links the text of every WASI error.
#[allow(unsafe_code, reason = "a call into Envoy that writes memory")]
mod random {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn random_get(buffer: *mut u8, size: usize) -> u16;
    }

    pub(super) fn number() -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: the call writes no more than these bytes.
        unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) };
        u64::from_le_bytes(bytes)
    }
}
