//! The metrics that every Prometheus client has of its process, under their usual names, and which build it is.

use std::fmt;

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};
use unitring_protocol::PROTOCOL_VERSION;

use super::page::{Kind, Page};
use crate::store::LAYOUT;

pub(super) fn build(page: &mut Page) -> fmt::Result {
    let name = "unitring_companion_build_info";
    page.family(
        name,
        Kind::Gauge,
        "Always 1; the labels say which build runs",
    )?;
    let (layout, protocol) = (LAYOUT.to_string(), PROTOCOL_VERSION.to_string());
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", crate::commit::get()),
        ("layout", layout.as_str()),
        ("protocol", protocol.as_str()),
    ];
    page.sample(name, &labels, 1)
}

/// The operating system's figures of the process; figures that it does not have are left out.
pub(super) fn usage(page: &mut Page) -> fmt::Result {
    let Ok(process) = Process::myself() else {
        return Ok(());
    };
    let mut gauge = |name, help, value: Option<u64>| match value {
        Some(value) => page.single(name, Kind::Gauge, help, value),
        None => Ok(()),
    };
    let open = process.fd_count().ok();
    gauge(
        "process_open_fds",
        "Open file descriptors",
        open.and_then(|count| u64::try_from(count).ok()),
    )?;
    let limits = process.limits().ok();
    let limit = limits.map(|limits| limits.max_open_files.soft_limit);
    let limit = limit.and_then(|limit| match limit {
        LimitValue::Value(files) => Some(files),
        LimitValue::Unlimited => None,
    });
    gauge("process_max_fds", "Most open file descriptors", limit)?;
    let Ok(stat) = process.stat() else {
        return Ok(());
    };
    gauge(
        "process_resident_memory_bytes",
        "Resident memory in bytes",
        Some(stat.rss_bytes().get()),
    )?;
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory in bytes",
        Some(stat.vsize),
    )?;
    let ticks = procfs::ticks_per_second().max(1);
    let hundredths = |count: u64| count.saturating_mul(100) / ticks;
    let decimal = |hundredths: u64| format!("{}.{:02}", hundredths / 100, hundredths % 100);
    let used = stat.utime.saturating_add(stat.stime);
    page.single(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Time on processors in seconds",
        decimal(hundredths(used)),
    )?;
    let Ok(booted) = procfs::boot_time_secs() else {
        return Ok(());
    };
    let started = booted
        .saturating_mul(100)
        .saturating_add(hundredths(stat.starttime));
    page.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started, in seconds since the Unix epoch",
        decimal(started),
    )
}
