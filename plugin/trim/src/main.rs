//! Build step of the filter: `unitring-trim <in.wasm> <out.wasm>`.
//!
//! The SDK exports every callback of proxy-wasm, and Envoy calls each one that is exported, for each
//! request: bodies, trailers, the end. Each call costs its way into the VM and back. So those that the
//! filter does nothing in are taken off the list of exports, and then what only they used.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use walrus::Module;

/// What Envoy calls, and the filter answers.
const KEPT: [&str; 12] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_memory_allocate",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_tick",
    "proxy_on_http_call_response",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_delete",
];

fn main() -> Result<()> {
    let mut paths = env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to), None) = (paths.next(), paths.next(), paths.next()) else {
        bail!("usage: unitring-trim <in.wasm> <out.wasm>");
    };
    let mut module = Module::from_file(&from).with_context(|| from.display().to_string())?;
    for name in KEPT {
        let mut exports = module.exports.iter();
        // A build without it would be loaded and do nothing.
        ensure!(
            exports.any(|export| export.name == name),
            "no export {name}"
        );
    }
    let exports = module.exports.iter();
    let unused: Vec<_> = exports
        .filter(|export| !KEPT.contains(&export.name.as_str()))
        .map(|export| export.id())
        .collect();
    for export in unused {
        module.exports.delete(export);
    }
    walrus::passes::gc::run(&mut module);
    module
        .emit_wasm_file(&to)
        .with_context(|| to.display().to_string())
}
