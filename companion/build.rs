//! Gives the program the commit that it was built from, in release builds only: cargo rebuilds a crate that
//! depends on the commit after each of them, and a developer would wait for that.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = match env::var("PROFILE").as_deref() {
        Ok("release") => {
            println!("cargo::rerun-if-changed=../.git/HEAD");
            println!("cargo::rerun-if-changed=../.git/refs/heads");
            commit().unwrap_or_else(|| "unknown".to_owned())
        }
        _ => "of a debug build".to_owned(),
    };
    println!("cargo::rustc-env=UNITRING_COMMIT={commit}");
}

fn commit() -> Option<String> {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=12"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
