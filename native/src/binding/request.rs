//! A request, or a connection, that needs a host.

use std::marker::PhantomData;

use super::Hosts;
use super::abi::{self, ContextEnvoy};
#[cfg(feature = "trap")]
use super::{
    abi::{EnvoyBuffer, ModuleBuffer},
    bytes,
};

/// The request that Envoy picks a host for, for as long as the hook runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Null where Envoy asks for a host of its own accord, as for a warm connection.
    context: ContextEnvoy,
    hook: PhantomData<&'a ()>,
}

impl<'a> Request<'a> {
    /// # Safety
    /// `context` must be null or that of the running hook, and `'a` must end with the hook.
    pub(super) unsafe fn new(context: ContextEnvoy) -> Self {
        Self {
            context,
            hook: PhantomData,
        }
    }

    /// The hash of its key, by the hash policy of the route or of `tcp_proxy`.
    #[inline]
    pub(crate) fn hash(&self) -> Option<u64> {
        let mut hash = 0;
        // SAFETY: Envoy takes a null context, and writes the number.
        let has_one = unsafe {
            abi::envoy_dynamic_module_callback_lb_context_compute_hash_key(self.context, &mut hash)
        };
        has_one.then_some(hash)
    }

    /// The only value of a header; `None` if it is absent or repeated.
    #[cfg(feature = "trap")]
    pub(crate) fn header(&self, name: &str) -> Option<&'a [u8]> {
        let (mut value, mut count) = (EnvoyBuffer::NOTHING, 0);
        // SAFETY: Envoy takes a null context, fills the buffer and writes the number.
        let found = unsafe {
            abi::envoy_dynamic_module_callback_lb_context_get_downstream_header(
                self.context,
                ModuleBuffer::of(name.as_bytes()),
                &mut value,
                0,
                &mut count,
            )
        };
        // SAFETY: the value is a header of the request, which stays while the hook runs.
        (found && count == 1).then(|| unsafe { bytes(value) })
    }

    /// Whether the route's `retry_host_predicate` refuses a host, given by its place among all.
    pub(crate) fn refuses(&self, hosts: &Hosts<'_>, priority: u32, at: usize) -> bool {
        // SAFETY: `lb` is valid; Envoy takes a null context.
        unsafe {
            abi::envoy_dynamic_module_callback_lb_context_should_select_another_host(
                hosts.lb(),
                self.context,
                priority,
                at,
            )
        }
    }

    /// Tells this request or connection from others that live at the same time.
    #[inline]
    pub(crate) fn name(&self) -> usize {
        self.context.addr()
    }
}
