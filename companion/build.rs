//! Tells the program of which commit it is. Only a release build: to find out makes cargo build anew after
//! each commit, which who works on it does not want to wait for.

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
