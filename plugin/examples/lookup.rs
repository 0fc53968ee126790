//! The smallest filter that sends each request to the owner of its key: it reads one header and
//! writes one, and handles no other callback. It counts nothing and reads no answer.
//!
//! It does without the SDK, so that `make bench` has a floor to compare with: what costs more is
//! the work of a filter, not the SDK. Its configuration is a comma-separated list of the instances'
//! addresses.
#![allow(unsafe_code, reason = "Envoy's interface is one of C")]

use std::cell::RefCell;
use std::num::NonZeroU64;

use unitring_routing::hash::{HashFunction, xxh64};
use unitring_routing::ring::{Host, Ring, Shape};

const REQUEST_HEADERS: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const CONTINUE: u32 = 0;
const KEY: &str = "x-user-id";
const STEER: &str = "x-unitring-host";

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
}

thread_local! {
    static INSTANCES: RefCell<(Vec<String>, Ring)> = RefCell::default();
}

/// The bytes that Envoy wrote into this VM's memory; `None` if it had nothing to write.
fn given(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let (mut data, mut size) = (std::ptr::null_mut(), 0);
    if call(&mut data, &mut size) != 0 || data.is_null() {
        return None;
    }
    // SAFETY: Envoy got this memory from `memory_allocate` below, with this size.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

#[unsafe(export_name = "proxy_abi_version_0_2_1")]
extern "C" fn abi_version() {}

#[unsafe(export_name = "proxy_on_memory_allocate")]
extern "C" fn memory_allocate(size: usize) -> *mut u8 {
    let boxed: Box<[u8]> = vec![0; size].into();
    Box::into_raw(boxed).cast()
}

#[unsafe(export_name = "proxy_on_configure")]
extern "C" fn configure(_: u32, size: usize) -> u32 {
    // SAFETY: Envoy writes both places before the call returns, or leaves them unchanged.
    let text = given(|data, written| unsafe {
        proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, written)
    });
    let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
    let instances: Vec<String> = text.split(',').map(str::to_owned).collect();
    let hosts: Vec<Host<'_>> = instances
        .iter()
        .map(|name| Host::new(name, NonZeroU64::MIN))
        .collect();
    let shape = Shape::Envoy {
        hash: HashFunction::XxHash64,
        min_size: 1024,
        max_size: 8_388_608,
    };
    let ring = Ring::build(&hosts, shape).unwrap_or_default();
    INSTANCES.replace((instances, ring));
    1
}

#[unsafe(export_name = "proxy_on_request_headers")]
extern "C" fn request_headers(_: u32, _: u32, _: u32) -> u32 {
    // SAFETY: Envoy writes both places before the call returns, or leaves them unchanged.
    let key = given(|data, size| unsafe {
        proxy_get_header_map_value(REQUEST_HEADERS, KEY.as_ptr(), KEY.len(), data, size)
    });
    let Some(key) = key else {
        return CONTINUE;
    };
    INSTANCES.with_borrow(|(instances, ring)| {
        let owner = ring.owner(xxh64(&key));
        if let Some(value) = owner.and_then(|owner| instances.get(owner.get())) {
            let (name, value) = (STEER.as_bytes(), value.as_bytes());
            // SAFETY: Envoy only reads these bytes, and only during the call.
            unsafe {
                proxy_add_header_map_value(
                    REQUEST_HEADERS,
                    name.as_ptr(),
                    name.len(),
                    value.as_ptr(),
                    value.len(),
                );
            }
        }
    });
    CONTINUE
}
