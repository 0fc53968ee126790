//! `make guard`: how many instructions a hash, a choice, a change of membership, a report and its answer
//! take, against `limits.txt`. It fails when one has become dearer, and says when one has become cheaper.
//!
//! Seconds would tell nothing on a machine that does other things, too; instructions are the same each
//! time. They are those of the machine's own code: what Envoy and its VM add is measured by `make bench
//! AREA=request`.
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | `cases` | what is counted |
//! | `pick` | and of the native module |
//! | `fleet`, `keys`, `loads`, `service` | with the instances, keys and loads of the benchmarks |
//! | `count` | this program under callgrind → counts |
//! | `limits` | counts and limits → what is wrong |

mod cases;
mod count;
#[path = "../../../routing/benches/routing/fleet.rs"]
#[allow(dead_code, reason = "the benchmarks have more sizes")]
mod fleet;
#[path = "../../../routing/benches/routing/keys.rs"]
mod keys;
mod limits;
#[path = "../../../routing/benches/routing/loads.rs"]
#[allow(dead_code, reason = "the benchmarks have more loads")]
mod loads;
mod pick;
#[path = "../../../balancer/benches/interval/service.rs"]
mod service;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use dlmalloc::GlobalDlmalloc;
use limits::Limits;

/// The one that the filter has in its VM. The C library's would not do: what it takes depends on all that was
/// allocated before, the path of this program included.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing has become dearer.
fn run() -> Result<bool> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("limits.txt");
    match std::env::args().nth(1).as_deref() {
        Some(count::UNDER_CALLGRIND) => {
            count::run_all(cases::all()?);
            Ok(true)
        }
        Some("renew") => {
            let text = Limits::written(&count::counts()?, &count::compiler()?);
            fs::write(&file, text).with_context(|| file.display().to_string())?;
            println!("written to {}", file.display());
            Ok(true)
        }
        None => {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let limits: Limits = text.parse().with_context(|| file.display().to_string())?;
            let verdict = limits.judge(&count::counts()?, &count::compiler()?);
            print!("{verdict}");
            Ok(verdict.is_good())
        }
        Some(other) => bail!("{other}: must be `renew` or nothing"),
    }
}
