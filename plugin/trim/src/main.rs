//! Build step of the filter: `unitring-trim <in.wasm> <out.wasm>`.
//!
//! The SDK exports every callback of proxy-wasm, and for each request Envoy calls each exported
//! one: bodies, trailers, the end. Each call costs a switch into the VM and back. So this step
//! removes the exports of callbacks in which the filter does nothing, and then the code that only
//! they used. It also puts the filter's own entry points in place of some of the SDK's.
//!
//! A function that is too large fails the build: what V8 needs to compile the largest one at once stays with Envoy's
//! process (docs/benchmarks.md). `#[inline(never)]` on parts of it makes it smaller.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use walrus::{LocalFunction, Module};

/// The exports that Envoy calls and the filter needs.
const KEPT: [&str; 14] = [
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
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_delete",
];

/// Exports that the filter has in place of the SDK's, and the prefixes of both.
const REPLACED: [&str; 4] = [
    "on_response_headers",
    "on_response_body",
    "on_response_trailers",
    "on_http_call_response",
];
/// Instructions of the largest function.
const LARGEST_MAX: u64 = 4_000;
const OURS: &str = "unitring_";
const THEIRS: &str = "proxy_";

fn main() -> Result<()> {
    let mut paths = env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to), None) = (paths.next(), paths.next(), paths.next()) else {
        bail!("usage: unitring-trim <in.wasm> <out.wasm>");
    };
    let mut module = Module::from_file(&from).with_context(|| from.display().to_string())?;
    for name in REPLACED {
        let theirs = module.exports.remove(format!("{THEIRS}{name}"));
        theirs.with_context(|| format!("no export {THEIRS}{name}"))?;
        let mut exports = module.exports.iter_mut();
        let ours = exports.find(|export| export.name == format!("{OURS}{name}"));
        let ours = ours.with_context(|| format!("no export {OURS}{name}"))?;
        ours.name = format!("{THEIRS}{name}");
    }
    for name in KEPT {
        let mut exports = module.exports.iter();
        // Envoy would load a build without it, and the filter would do nothing.
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
    let functions = module.funcs.iter_local().map(|(_, function)| function);
    let largest = functions.map(LocalFunction::size).max().unwrap_or(0);
    ensure!(
        largest <= LARGEST_MAX,
        "a function has {largest} instructions, more than {LARGEST_MAX}: V8 would take megabytes to compile it"
    );
    module
        .emit_wasm_file(&to)
        .with_context(|| to.display().to_string())
}
