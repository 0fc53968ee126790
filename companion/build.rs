//! Gives a release build the commit that it is made from, whatever command makes it. A debug build gets it from
//! `make`, in `BUILD_COMMIT`: after each commit cargo would otherwise run this and compile the whole crate again.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    println!("cargo::rerun-if-env-changed=BUILD_COMMIT");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/refs/heads");
    // A packager who builds without the repository sets the commit in the environment.
    let said = env::var("BUILD_COMMIT").ok();
    let said = said.filter(|commit| !commit.is_empty());
    if let Some(commit) = said.or_else(commit) {
        println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    }
}

fn commit() -> Option<String> {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=12"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
