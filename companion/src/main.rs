//! Runs and exits; [`unitring::program`] parses.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A variable of the build of this crate's program, which the library does not see.
    unitring::program::main(option_env!("BUILD_COMMIT"))
}
