//! A callout that the SDK does not know of: it would note the request in force as the owner, and drop the answer
//! if that is gone.

use super::callout::Outgoing;
use unitring_balancer::headers::Headers;

#[link(wasm_import_module = "env")]
#[allow(unsafe_code, reason = "a call into Envoy that reads memory")]
unsafe extern "C" {
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout_ms: u32,
        token: *mut u32,
    ) -> u32;
}

/// Sends a request; returns its token, or Envoy's status.
#[allow(unsafe_code, reason = "a call into Envoy that reads memory")]
pub(super) fn http_call(outgoing: &Outgoing<'_>) -> Result<u32, u32> {
    let bearer = outgoing.bearer();
    let headers: Headers = outgoing.headers(&bearer).into_iter().collect();
    let (cluster, headers) = (outgoing.cluster, headers.block());
    let body = outgoing.body.unwrap_or_default();
    let trailers = Headers::from_iter::<[(&str, &str); 0]>([]);
    let trailers = trailers.block();
    let timeout_ms = u32::try_from(outgoing.timeout.as_millis()).unwrap_or(u32::MAX);
    let mut token = 0;
    // SAFETY: Envoy reads these bytes before the call returns, and writes the token.
    let status = unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_ms,
            &mut token,
        )
    };
    if status == 0 { Ok(token) } else { Err(status) }
}
