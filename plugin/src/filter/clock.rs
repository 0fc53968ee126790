//! The monotonic clock that all VMs of the process share.

/// Microseconds since some moment in the past.
#[allow(unsafe_code, reason = "a call into Envoy that writes memory")]
pub(super) fn monotonic_us() -> u64 {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn clock_time_get(id: u32, precision: u64, time_ns: *mut u64) -> u16;
    }
    /// WASI's `CLOCKID_MONOTONIC`.
    const MONOTONIC: u32 = 1;
    let mut time_ns = 0;
    // SAFETY: the call writes no more than this number.
    unsafe { clock_time_get(MONOTONIC, 0, &mut time_ns) };
    time_ns / 1_000
}
