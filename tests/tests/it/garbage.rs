//! A million malformed inputs without a panic: in the filter a panic kills a VM of Envoy, in the
//! companion a task.
//!
//! Most inputs are valid documents with something broken in them, so that they pass the first check. The
//! tests use accepted inputs, so that a panic far behind the decoder is found, too. No server is needed.
//! A panic is reported with its input and its number; the seed is fixed.

mod admin;
mod broken;
mod headers;
mod loads;
mod reports;
mod settings;
mod snapshots;

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, ensure};

use broken::Broken;

/// Inputs of each of the five kinds.
const INPUTS: u32 = 200_000;

/// Gives all inputs to `accepts`, which returns whether it accepted the input; it must accept some and
/// refuse some.
fn feed(valid: &[Vec<u8>], seed: u64, mut accepts: impl FnMut(&[u8]) -> bool) -> Result<()> {
    for document in valid {
        ensure!(accepts(document), "{}", String::from_utf8_lossy(document));
    }
    let mut broken = Broken::new(valid, seed);
    let mut accepted = 0;
    for number in 0..INPUTS {
        let input = broken.next();
        let outcome = catch_unwind(AssertUnwindSafe(|| accepts(input)));
        let Ok(was_accepted) = outcome else {
            let text = String::from_utf8_lossy(input).into_owned();
            anyhow::bail!("input {number} of seed {seed} panics: {text:?}");
        };
        accepted += u32::from(was_accepted);
    }
    println!("seed {seed}: {accepted} of {INPUTS} accepted");
    // Otherwise the inputs would be too broken to reach any code, or not broken at all.
    ensure!(
        (INPUTS / 100..INPUTS).contains(&accepted),
        "{accepted} accepted"
    );
    Ok(())
}
