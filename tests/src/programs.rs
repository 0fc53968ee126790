//! Where the programs are. Nothing is built or fetched here: `make` does that.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The checkout.
pub fn root() -> Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .map(Path::to_path_buf)
        .context("the crate has no folder above it")
}

/// A program that `make parts` gets ready: `envoy`, `redis-server`, `rabbitmq-server`, `epmd`, `valgrind`; `chromium`,
/// `vsftpd` and `aiosmtpd`, which `make test` gets.
///
/// Another Envoy by `UNITRING_ENVOY_VERSION`, as `make compat` says it, or by the path `UNITRING_ENVOY`.
///
/// # Errors
/// It is not there; the text names the command.
pub fn part(name: &str) -> Result<PathBuf> {
    if name == "envoy" {
        if let Some(version) = asked_envoy() {
            return envoy(&version);
        }
        if let Some(program) = env::var_os("UNITRING_ENVOY") {
            return existing(program.into(), "unset UNITRING_ENVOY");
        }
    }
    existing(parts()?.join("bin").join(name), "make parts")
}

/// The version of Envoy that the environment asks for, if it asks for one.
pub fn asked_envoy() -> Option<String> {
    let version = env::var("UNITRING_ENVOY_VERSION").ok();
    version.filter(|version| !version.is_empty())
}

/// The Envoy of this version, even if the environment names another.
///
/// # Errors
/// It is not there; the text names the command.
pub fn envoy(version: &str) -> Result<PathBuf> {
    let program = parts()?.join(format!("envoy-{version}/envoy"));
    existing(program, &format!("scripts/parts {version}"))
}

/// axe-core, a script that judges a page's accessibility.
///
/// # Errors
/// It is not there; the text names the command.
pub fn axe() -> Result<PathBuf> {
    let script = parts()?.join("axe-4.12.1/axe.min.js");
    existing(script, "scripts/parts browser")
}

fn parts() -> Result<PathBuf> {
    let chosen = env::var_os("UNITRING_PARTS").map(PathBuf::from);
    chosen.map_or_else(|| Ok(root()?.join(".parts")), Ok)
}

/// A program of this workspace, beside the one that runs now: `unitring`, `instance`.
///
/// # Errors
/// It is not built; the text names the command.
pub fn built(name: &str) -> Result<PathBuf> {
    // To measure another build of it.
    if let Some(chosen) = env::var_os("UNITRING_PROGRAM").filter(|_| name == "unitring") {
        return existing(PathBuf::from(chosen), "make build");
    }
    existing(built_in()?.join(name), "make build")
}

/// The command line of `unitring`, without variables that are meant for the tests or another companion: the
/// program would use them, or warn of them.
///
/// # Errors
/// It is not built; the text names the command.
pub fn unitring() -> Result<Command> {
    let mut command = Command::new(built("unitring")?);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("UNITRING_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// The filter, as Envoy loads it.
///
/// # Errors
/// It is not built; the text names the command.
pub fn filter() -> Result<PathBuf> {
    existing(target()?.join("unitring.wasm"), "make build")
}

/// The native module, as Envoy loads it.
///
/// # Errors
/// It is not built; the text names the command.
pub fn native() -> Result<PathBuf> {
    existing(target()?.join("libunitring.so"), "make build")
}

/// The native module in which a request can cause a fault.
///
/// # Errors
/// It is not built; the text names the command.
pub fn trapping_native() -> Result<PathBuf> {
    let path = target()?.join("libunitring-trap.so");
    existing(path, "scripts/build-native trap")
}

/// The filter whose VMs die when a request says so.
///
/// # Errors
/// It is not built; the text names the command.
pub fn trapping_filter() -> Result<PathBuf> {
    let path = target()?.join("unitring-trap.wasm");
    existing(path, "scripts/build-plugin trap")
}

/// A filter to compare with: `nothing` or `lookup`, of `plugin/examples/`.
///
/// # Errors
/// It is not built; the text names the command.
pub fn example_filter(name: &str) -> Result<PathBuf> {
    let path = target()?.join(format!("unitring-{name}.wasm"));
    existing(path, &format!("scripts/build-plugin {name}"))
}

fn target() -> Result<PathBuf> {
    let target = built_in()?.parent().map(Path::to_path_buf);
    target.context("a folder without one above it")
}

/// The folder `debug` or `release`, in which the program that runs now was built.
fn built_in() -> Result<PathBuf> {
    let program = env::current_exe().context("this program's own path")?;
    let mut folders = program.ancestors();
    let profile = folders.find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    let profile = profile.context("not built by cargo into a folder debug/ or release/")?;
    Ok(profile.to_path_buf())
}

fn existing(path: PathBuf, command: &str) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path);
    }
    bail!(
        "{} is missing: run `{command}` first (`make test` does all of it)",
        path.display()
    )
}
