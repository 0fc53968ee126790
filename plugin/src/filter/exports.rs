//! Entry points of the VM that the SDK cannot express. The build puts each in place of the SDK's
//! (`plugin/trim`), and each passes on to it.
//!
//! - An answer that waits without its body must stop everything behind it: the filter's status 4,
//!   `StopAllIterationAndWatermark`. The SDK knows only 1, after which the body goes on; Envoy would
//!   collect it, and fail the answer once it is larger than the buffer.
//! - The SDK finds the context of a callout by the one that was in force when it was sent, and drops
//!   the answer if that is gone. A batch of updates belongs to no request.
//! - Envoy calls for each part of every body. While no answer is read, this returns at once.

use std::cell::Cell;

use super::hand_over;

/// The filter's status that stops everything behind it, and reads no more than the buffer holds.
const STOP_ALL_AND_WATERMARK: u32 = 4;

thread_local! {
    static STOPS_ALL: Cell<bool> = const { Cell::new(false) };
    static BODIES: Cell<u32> = const { Cell::new(0) };
}

/// The answer whose headers are being handled stops with its body; the callback must return
/// `Action::Pause`.
pub(super) fn stop_all() {
    STOPS_ALL.set(true);
}

/// An answer whose body is read, as long as it lives.
pub(super) struct ReadsBody(());

impl ReadsBody {
    pub(super) fn begin() -> Self {
        BODIES.set(BODIES.get().saturating_add(1));
        Self(())
    }
}

impl Drop for ReadsBody {
    fn drop(&mut self) {
        BODIES.set(BODIES.get().saturating_sub(1));
    }
}

#[allow(unsafe_code, reason = "functions that Envoy calls have fixed names")]
mod raw {
    use super::{BODIES, STOP_ALL_AND_WATERMARK, STOPS_ALL, hand_over};

    // The SDK's own.
    unsafe extern "C" {
        fn proxy_on_response_headers(context: u32, headers: usize, ends: bool) -> u32;
        fn proxy_on_response_body(context: u32, size: usize, ends: bool) -> u32;
        fn proxy_on_response_trailers(context: u32, trailers: usize) -> u32;
        fn proxy_on_http_call_response(
            context: u32,
            token: u32,
            headers: usize,
            body_size: usize,
            trailers: usize,
        );
    }

    #[unsafe(no_mangle)]
    extern "C" fn unitring_on_response_headers(context: u32, headers: usize, ends: bool) -> u32 {
        // SAFETY: the SDK's function, called as Envoy would call it.
        let status = unsafe { proxy_on_response_headers(context, headers, ends) };
        if STOPS_ALL.take() {
            return STOP_ALL_AND_WATERMARK;
        }
        status
    }

    #[unsafe(no_mangle)]
    extern "C" fn unitring_on_response_body(context: u32, size: usize, ends: bool) -> u32 {
        if BODIES.get() == 0 {
            return 0;
        }
        // SAFETY: as above.
        unsafe { proxy_on_response_body(context, size, ends) }
    }

    #[unsafe(no_mangle)]
    extern "C" fn unitring_on_response_trailers(context: u32, trailers: usize) -> u32 {
        if BODIES.get() == 0 {
            return 0;
        }
        // SAFETY: as above.
        unsafe { proxy_on_response_trailers(context, trailers) }
    }

    #[unsafe(no_mangle)]
    extern "C" fn unitring_on_http_call_response(
        context: u32,
        token: u32,
        headers: usize,
        body_size: usize,
        trailers: usize,
    ) {
        if hand_over::answered(token, body_size) {
            return;
        }
        // SAFETY: as above.
        unsafe { proxy_on_http_call_response(context, token, headers, body_size, trailers) }
    }
}
