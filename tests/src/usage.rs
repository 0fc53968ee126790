//! The resources that a process has used, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long all its threads have run. Of a thread that has ended meanwhile nothing is known.
///
/// # Errors
/// There is no such process, or the kernel does not count.
pub fn processor_time(process: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue; // A thread that has just ended.
        };
        let ran = text.split(' ').next().context("an empty schedstat")?;
        sum += ran.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Its resident set.
///
/// # Errors
/// There is no such process.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kibibytes.context("no VmRSS")?.parse::<u64>()? * 1024)
}

/// The process of this name that this one is or has started, directly or through others.
///
/// # Errors
/// There is none.
pub fn program_below(process: u32, name: &str) -> Result<u32> {
    let comm = fs::read_to_string(format!("/proc/{process}/comm"))?;
    if comm.trim_end() == name {
        return Ok(process);
    }
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    let mut found = children
        .split_whitespace()
        .filter_map(|child| program_below(child.parse().ok()?, name).ok());
    found
        .next()
        .with_context(|| format!("no {name} below {process}"))
}
