//! This program, run by itself under callgrind → instructions of each case.
//!
//! Callgrind counts only within one function, found by its name, and writes down what it counted each
//! time that another ends. So the making of what is worked on does not count, and the program speaks to
//! no tool.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::cases::Case;

/// Features of the processor that the C library must not use: it copies and compares memory by other instructions on
/// other machines, and the count must not depend on the machine. Every x86-64 has the features that are left.
const PLAIN_PROCESSOR: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,\
    -SSE4_2,-SSE4_1,-SSSE3,-ERMS,-FSRM";

/// The argument of the run that is counted.
pub(crate) const UNDER_CALLGRIND: &str = "under-callgrind";

/// The name and the instructions of one time, of each case.
pub(crate) type Counts = Vec<(String, u64)>;

/// The compiler that, as much as the code, decides how many instructions there are.
pub(crate) fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.context("rustc")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Counts all cases.
pub(crate) fn counts() -> Result<Counts> {
    let folder = TempDir::with_prefix("unitring-guard-")?;
    let file = folder.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        // Written as a part of the name, since compilers differ in what they put around it.
        .arg("--toggle-collect=*counted_by_callgrind*")
        .arg("--dump-after=*written_by_callgrind*")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe()?)
        .arg(UNDER_CALLGRIND)
        .env("GLIBC_TUNABLES", PLAIN_PROCESSOR)
        .stderr(Stdio::inherit())
        .output()
        .context("valgrind, which `make parts` gets")?;
    ensure!(output.status.success(), "valgrind: {}", output.status);
    let mut counts = Vec::new();
    let cases = String::from_utf8(output.stdout)?;
    for (number, line) in (1..).zip(cases.lines()) {
        let (name, times) = line.split_once(' ').context("not `<case> <times>`")?;
        let times: u64 = times.parse()?;
        let total = total(&folder.path().join(format!("counts.{number}")))?;
        ensure!(total > 0, "{name}: callgrind saw nothing of it");
        counts.push((name.to_owned(), total.div_ceil(times)));
    }
    ensure!(!counts.is_empty(), "callgrind saw no case");
    Ok(counts)
}

fn total(dump: &Path) -> Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| dump.display().to_string())?;
    let mut lines = text.lines();
    let totals = lines.find_map(|line| line.strip_prefix("totals: "));
    let totals = totals.with_context(|| format!("{} has no totals", dump.display()))?;
    Ok(totals.trim().parse()?)
}

/// The run that is counted: prints the name of each case and how often it was done.
pub(crate) fn run_all(cases: Vec<Case>) {
    cases.into_iter().for_each(written_by_callgrind);
}

#[inline(never)]
fn written_by_callgrind(mut case: Case) {
    // Work that is done once only, such as the first use of memory, is not counted.
    (case.work)();
    counted_by_callgrind(case.times, &mut case.work);
    println!("{} {}", case.name, case.times);
}

#[inline(never)]
fn counted_by_callgrind(times: u32, work: &mut dyn FnMut()) {
    for _ in 0..times {
        work();
    }
}
